"""Link layers that are seldom met: down to the layer where `headers.find_ip` goes on.

Kept apart so that a capture from Ethernet, Linux cooked or loopback interfaces never waits for these to be compiled. A frame whose
place or layer cannot be found gets the layer ``-stop``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.accelerate import inner, kernel
from auditor.kernels.bytes import Bytes, be16, be32, le16, le32, u8
from auditor.kernels.headers import (
    LAYER_ETHERNET,
    LAYER_IP,
    LAYER_LLC,
    LAYER_NULL,
    LAYER_PPP,
    LAYER_SLL,
    LAYER_SLL2,
    LINK,
)
from auditor.model.packets import STOP_MALFORMED, STOP_NONE, STOP_NOT_IP, STOP_TRUNCATED, STOP_UNSUPPORTED_LINK
from auditor.wire import link

LAYER_NONE = -1
LAYER_WLAN = LINK + link.LINKTYPE_IEEE802_11
LAYER_NFLOG = LINK + link.LINKTYPE_NFLOG
LAYER_NLPID = LINK * 2
"""A network layer protocol identifier of ISO/IEC TR 9577 comes next."""


@inner
def _nflog_payload(buf: Bytes, at: int, end: int, payload: int) -> tuple[int, int]:
    """Layer and place of the packet in a netfilter message, where it is the attribute ``payload``; libpcap pcap/nflog.h. Needs NFLOG_BYTES."""
    family = u8(buf, at + link.NFLOG_FAMILY)
    layer = LAYER_IP if family != link.AF_BRIDGE else LAYER_NONE
    at += link.NFLOG_BYTES
    while end - at >= link.NFLOG_TLV_BYTES:
        length, kind = le16(buf, at), le16(buf, at + 2) & link.NFULA_MASK
        if kind > 0xFF or length > end - at > be16(buf, at) > 0:  # the other byte order
            length, kind = be16(buf, at), be16(buf, at + 2) & link.NFULA_MASK
        if length < link.NFLOG_TLV_BYTES:
            break
        if kind == payload:
            return layer, at + link.NFLOG_TLV_BYTES
        if kind == link.NFULA_PACKET_HDR and layer == LAYER_NONE and end - at >= link.NFLOG_TLV_BYTES + 2:
            layer = be16(buf, at + link.NFLOG_TLV_BYTES)  # hw_protocol, always big endian
        at += (length + 3) & ~3
    return LAYER_NONE, at


@inner
def _wlan_payload(buf: Bytes, at: int, end: int, padded: int) -> tuple[int, int]:
    """Place and stop code of the LLC frame in an 802.11 frame; IEEE 802.11 section 9.3.2."""
    if end - at < link.WLAN_BYTES:
        return at, STOP_TRUNCATED
    control, flags = u8(buf, at), u8(buf, at + 1)
    if control & 0x0C != 0x08 or control & 0x40 or flags & 0x40:  # not data, or data without a body, or encrypted
        return at, STOP_NOT_IP
    header = link.WLAN_BYTES
    if flags & 3 == 3:
        header += link.WLAN_ADDRESS4_BYTES
    aggregate = 0
    if control & 0x80:
        if end - at < header + link.WLAN_QOS_BYTES:
            return at, STOP_TRUNCATED
        aggregate = u8(buf, at + header) & link.WLAN_AMSDU
        header += link.WLAN_QOS_BYTES
        if flags & 0x80:
            header += link.WLAN_HT_BYTES
    if padded:
        header = (header + 3) & ~3
    if aggregate:
        header += link.WLAN_AMSDU_BYTES  # the first of the frames that travel together; the others are not looked at
    return at + header, STOP_NONE


@inner
def _radiotap(buf: Bytes, at: int, end: int) -> tuple[int, int]:
    """Length of a radiotap header (0: malformed), and whether the 802.11 header is padded; needs RADIOTAP_BYTES. www.radiotap.org."""
    length = le16(buf, at + link.RADIOTAP_LENGTH)
    if length < link.RADIOTAP_BYTES:
        return 0, 0
    end = min(end, at + length)
    present = le32(buf, at + link.RADIOTAP_PRESENT)
    field = link.RADIOTAP_BYTES
    more = present
    while more & 0x8000_0000 and end - at >= field + 4:
        more = le32(buf, at + field)
        field += 4
    if present & 1:  # TSFT: eight bytes, aligned
        field = ((field + 7) & ~7) + 8
    if present & 2 and end - at > field:
        return length, u8(buf, at + field) & link.RADIOTAP_DATAPAD
    return length, 0


@inner
def _peel(buf: Bytes, at: int, end: int, layer: int) -> tuple[int, int]:
    """Layer and place behind the link headers at ``at``; layer ``-stop`` where there are none. Every turn moves ``at`` or ends."""
    padded = 0
    payload = link.NFULA_PAYLOAD
    while layer >= LINK and layer not in (
        LAYER_ETHERNET,
        LAYER_IP,
        LAYER_LLC,
        LAYER_PPP,
        LAYER_SLL,
        LAYER_SLL2,
        LAYER_NULL,
    ):
        room = end - at
        if layer == LINK + link.LINKTYPE_C_HDLC:
            if room < link.C_HDLC_BYTES:
                return -STOP_TRUNCATED, at
            layer = be16(buf, at + link.C_HDLC_TYPE)
            at += link.C_HDLC_BYTES
        elif layer == LINK + link.LINKTYPE_FRELAY:
            # Two to four bytes of address, the last one odd: Q.922 section 3.2; then RFC 2427 section 3, or Cisco's EtherType.
            while end - at > 1 and u8(buf, at) & 1 == 0:
                at += 1
            at += 1
            if end - at < 3:
                return -STOP_TRUNCATED, at
            if u8(buf, at) == link.LLC_UI:
                at += 2 if u8(buf, at + 1) == 0 else 1
                layer = LAYER_NLPID
            else:
                layer = be16(buf, at)
                at += 2
        elif layer == LAYER_WLAN:
            at, stop = _wlan_payload(buf, at, end, padded)
            if stop != STOP_NONE:
                return -stop, at
            layer = LAYER_LLC
        elif layer == LINK + link.LINKTYPE_RADIOTAP:
            if room < link.RADIOTAP_BYTES:
                return -STOP_TRUNCATED, at
            length, padded = _radiotap(buf, at, end)
            if length == 0:
                return -STOP_MALFORMED, at
            at += length
            layer = LAYER_WLAN
        elif layer == LINK + link.LINKTYPE_PPI:
            if room < link.PPI_BYTES:
                return -STOP_TRUNCATED, at
            length = le16(buf, at + link.PPI_LENGTH)
            layer = LINK + (le32(buf, at + link.PPI_DLT) & 0xFFFF)
            if length < link.PPI_BYTES:
                return -STOP_MALFORMED, at
            at += length
        elif layer in (LINK + link.LINKTYPE_PRISM, LINK + link.LINKTYPE_AVS):
            if room < link.PPI_BYTES:
                return -STOP_TRUNCATED, at
            length = link.PRISM_BYTES
            if be32(buf, at) == link.AVS_MAGIC:
                length = max(link.PPI_BYTES, be32(buf, at + link.AVS_LENGTH))
            at += length
            layer = LAYER_WLAN
        elif layer == LAYER_NFLOG:
            if room < link.NFLOG_BYTES:
                return -STOP_TRUNCATED, at
            layer, at = _nflog_payload(buf, at, end, payload)
            if layer == LAYER_NONE:
                return -STOP_NOT_IP, at
        elif layer == LINK + link.LINKTYPE_NETLINK:
            if room < link.NETLINK_COOKED_BYTES + link.NLMSG_BYTES:
                return -STOP_TRUNCATED, at
            kind = le16(buf, at + link.NETLINK_COOKED_BYTES + link.NLMSG_TYPE)
            other = be16(buf, at + link.NETLINK_COOKED_BYTES + link.NLMSG_TYPE)
            if be16(buf, at + link.NETLINK_COOKED_PROTOCOL) != link.NETLINK_NETFILTER:
                return -STOP_NOT_IP, at
            if link.NFNL_QUEUE_PACKET in (kind, other):
                payload = link.NFQA_PAYLOAD
            elif link.NFNL_ULOG_PACKET not in (kind, other):
                return -STOP_NOT_IP, at
            at += link.NETLINK_COOKED_BYTES + link.NLMSG_BYTES
            layer = LAYER_NFLOG
        elif layer == LINK + link.LINKTYPE_ATM_CLIP:
            layer = LAYER_IP
            if room >= link.LLC_BYTES and be16(buf, at) == link.LLC_SNAP_SAP * 0x101:
                layer = LAYER_LLC
        elif layer == LINK + link.LINKTYPE_SUNATM:
            if room < link.SUNATM_BYTES:
                return -STOP_TRUNCATED, at
            if u8(buf, at) & 15 != link.SUNATM_LLC:
                return -STOP_NOT_IP, at
            at += link.SUNATM_BYTES
            layer = LAYER_LLC
        elif layer == LINK + link.LINKTYPE_FDDI:
            at += link.FDDI_BYTES
            layer = LAYER_LLC
        elif layer == LINK + link.LINKTYPE_TOKEN_RING:
            if room < link.TOKEN_RING_BYTES + 2:
                return -STOP_TRUNCATED, at
            if u8(buf, at + 8) & 0x80:  # source routed: the length of the route is in its first byte
                at += u8(buf, at + link.TOKEN_RING_BYTES) & 0x1F
            at += link.TOKEN_RING_BYTES
            layer = LAYER_LLC
        elif layer == LINK + link.LINKTYPE_SLIP:
            at += link.SLIP_BYTES
            layer = LAYER_IP
        elif layer == LINK + link.LINKTYPE_ENC:
            at += link.ENC_BYTES
            layer = LAYER_IP
        elif layer == LINK + link.LINKTYPE_PFLOG:
            if room < 1:
                return -STOP_TRUNCATED, at
            at += (u8(buf, at) + 3) & ~3
            layer = LAYER_IP
        elif layer in (LINK + link.DLT_RAW_BSD, LINK + link.LINKTYPE_IPV4, LINK + link.LINKTYPE_IPV6):
            layer = LAYER_IP  # named by a PPI header
        elif layer == LINK + link.LINKTYPE_MPACKET:
            at += link.MPACKET_PREAMBLE_BYTES
            layer = LAYER_ETHERNET
        elif layer == LAYER_NLPID:
            if room < 1:
                return -STOP_TRUNCATED, at
            kind = u8(buf, at)
            at += 1
            if kind in (link.NLPID_IPV4, link.NLPID_IPV6):
                layer = LAYER_IP
            elif kind == link.NLPID_SNAP:
                if room < 6:
                    return -STOP_TRUNCATED, at
                oui = be16(buf, at) << 8 | u8(buf, at + 2)
                kind = be16(buf, at + 3)
                at += 5
                if oui == link.OUI_ETHERNET and kind >= link.ETHERTYPE_MIN:
                    layer = kind
                elif oui == link.OUI_IEEE_8021 and kind in (1, 7):
                    layer = LAYER_ETHERNET
                else:
                    return -STOP_NOT_IP, at
            else:
                return -STOP_NOT_IP, at
        else:
            return -STOP_UNSUPPORTED_LINK, at
    return layer, at


@kernel
def peel_links(
    buf: Bytes,
    start: NDArray[np.int64],
    caplen: NDArray[np.int64],
    wirelen: NDArray[np.int64],
    layer: NDArray[np.int64],
) -> None:
    """Take the outermost headers off every frame: moves the start, shrinks both lengths, and writes the next layer."""
    for i in range(start.size):
        layer[i], at = _peel(buf, start[i], start[i] + caplen[i], layer[i])
        at = min(at, start[i] + caplen[i])
        caplen[i] -= at - start[i]
        wirelen[i] -= at - start[i]
        start[i] = at
