"""Frames to packets: one pass over the headers, from the link layer to the first byte of payload.

The rules that hold here:

- Every IP header that is reached makes a row; what is inside a tunnel makes further rows, whose ``outer`` points back.
- Lengths in headers are claims. ``end`` is where the captured bytes of a layer end, ``wire_end`` where the layer ended on the wire; both only
  ever shrink on the way in, except that an IP header may claim more than its frame holds, which then counts as not captured.
- Before a load stands a comparison with ``end``; a BOUNDS comment names it where it is not the line before. ``end <= buf.size`` holds from
  the frame's own bounds.
- Nothing raises. A header that ends too early or contradicts itself leaves a stop code in the row it belongs to: its own, once it has addresses;
  else that of the packet around it, or a row without IP.
- A tunnel that only a UDP port suggests is believed when an IP header that fits stands where it says.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.accelerate import inner, kernel, prefetch
from auditor.kernels.bytes import Bytes, be16, be32, be64, int64, le32, u8
from auditor.kernels.defrag import HEADER_GOES_ON
from auditor.model.packets import (
    MAPPED,
    STOP_DEPTH,
    STOP_MALFORMED,
    STOP_NONE,
    STOP_NOT_IP,
    STOP_TRUNCATED,
    STOP_UNREAD,
    TUNNEL_ERSPAN,
    TUNNEL_GENEVE,
    TUNNEL_GRE,
    TUNNEL_GTP,
    TUNNEL_IPIP,
    TUNNEL_L2TP,
    TUNNEL_NONE,
    TUNNEL_TEREDO,
    TUNNEL_VXLAN,
)
from auditor.wire import ip, link, transport, tunnels

LINK = 0x10000
"""A layer is an EtherType, or LINK and a link type; a stop code with a minus where the way to IP is known to end."""
MARK_FACTOR = 0x01000193
SOON = 8  # frames
STOP_BITS, STOP_MASK = 8, 0xFF
LAYER_NONE = 0
LAYER_ETHERNET = LINK + link.LINKTYPE_ETHERNET
LAYER_LLC = LINK + link.LINKTYPE_ATM_RFC1483
LAYER_NULL = LINK + link.LINKTYPE_NULL
LAYER_PPP = LINK + link.LINKTYPE_PPP
LAYER_IP = LINK + link.LINKTYPE_RAW
LAYER_SLL = LINK + link.LINKTYPE_LINUX_SLL
LAYER_SLL2 = LINK + link.LINKTYPE_LINUX_SLL2


@inner
def looks_like_ip(buf: Bytes, at: int, end: int, wire_end: int) -> bool:
    """Whether the bytes can be the IP packet that a tunnel carries: version, and lengths that fit. Cut off headers do not count."""
    if end - at < ip.V4_MIN_BYTES:
        return False
    version = u8(buf, at) >> 4
    if version == 4:
        header = (u8(buf, at) & 15) * 4
        total = be16(buf, at + ip.V4_TOTAL_LENGTH)
        return ip.V4_MIN_BYTES <= header <= total and at + total <= wire_end
    if version == 6 and end - at >= ip.V6_BYTES:
        return at + ip.V6_BYTES + be16(buf, at + ip.V6_PAYLOAD_LENGTH) <= wire_end
    return False


@inner
def looks_like_ethernet(buf: Bytes, at: int, end: int) -> bool:
    """Whether an Ethernet header with IP, ARP, a tag or labels behind it can be here."""
    if end - at <= link.ETH_BYTES:
        return False
    kind = be16(buf, at + link.ETH_TYPE)
    if kind == link.ETHERTYPE_IPV4:
        return u8(buf, at + link.ETH_BYTES) >> 4 == 4
    if kind == link.ETHERTYPE_IPV6:
        return u8(buf, at + link.ETH_BYTES) >> 4 == 6
    return kind in (
        link.ETHERTYPE_ARP,
        link.ETHERTYPE_VLAN,
        link.ETHERTYPE_QINQ,
        link.ETHERTYPE_MPLS,
        link.ETHERTYPE_PPPOE_SESSION,
    )


@inner
def find_ip(buf: Bytes, at: int, end: int, wire_end: int, layer: int) -> tuple[int, int, int]:
    """Walk from ``layer`` at ``at`` to the IP header: version (0: none), its place, stop code. Every turn moves ``at`` or ends in IP.

    STOP_UNREAD has the EtherType in front of it.
    """
    while True:
        room = end - at
        if layer in (LAYER_ETHERNET, link.ETHERTYPE_TEB):
            if room < link.ETH_BYTES:
                return 0, at, STOP_TRUNCATED
            layer = be16(buf, at + link.ETH_TYPE)
            at += link.ETH_BYTES
            if layer < link.ETHERTYPE_MIN:
                layer = LAYER_LLC
        elif layer in (link.ETHERTYPE_IPV4, link.ETHERTYPE_IPV6, LAYER_IP):
            if room < 1:
                return 0, at, STOP_TRUNCATED
            version = u8(buf, at) >> 4
            if version in (4, 6):
                return version, at, STOP_NONE
            return 0, at, STOP_MALFORMED
        elif layer in (
            link.ETHERTYPE_VLAN,
            link.ETHERTYPE_QINQ,
            link.ETHERTYPE_QINQ_OLD,
            link.ETHERTYPE_QINQ_OLD2,
            link.ETHERTYPE_QINQ_OLD3,
        ):
            if room < link.VLAN_BYTES:
                return 0, at, STOP_TRUNCATED
            layer = be16(buf, at + link.VLAN_TYPE)
            at += link.VLAN_BYTES
            if layer < link.ETHERTYPE_MIN:
                layer = LAYER_LLC
        elif layer in (LAYER_SLL, LAYER_SLL2):
            header, field = link.SLL_BYTES, link.SLL_PROTOCOL
            if layer == LAYER_SLL2:
                header, field = link.SLL2_BYTES, link.SLL2_PROTOCOL
            if room < header:
                return 0, at, STOP_TRUNCATED
            layer = be16(buf, at + field)
            at += header
            if layer == link.SLL_PROTOCOL_LLC:
                layer = LAYER_LLC
            elif layer == link.SLL_PROTOCOL_ETHERNET:
                layer = LAYER_ETHERNET
        elif layer == LAYER_NULL:
            if room < link.NULL_BYTES:
                return 0, at, STOP_TRUNCATED
            family = be32(buf, at)
            if family > 0xFFFF:  # written by a little-endian host
                family = le32(buf, at)
            kind = be16(buf, at + 2)
            at += link.NULL_BYTES
            if (
                family in (link.AF_INET, link.AF_INET6_LINUX, link.AF_INET6_WINDOWS)
                or link.AF_INET6_BSD <= family <= link.AF_INET6_DARWIN
            ):
                layer = LAYER_IP
            elif kind in (link.ETHERTYPE_IPV4, link.ETHERTYPE_IPV6):
                layer = kind  # some write an EtherType, or mean Cisco HDLC
            else:
                return 0, at, STOP_NOT_IP
        elif layer == LAYER_LLC:
            if room < link.LLC_BYTES:
                return 0, at, STOP_TRUNCATED
            sap, control = be16(buf, at), u8(buf, at + 2)
            if sap == link.LLC_SNAP_SAP * 0x101 and control == link.LLC_UI:
                if room < link.SNAP_BYTES:
                    return 0, at, STOP_TRUNCATED
                oui = be16(buf, at + link.SNAP_OUI) << 8 | u8(buf, at + link.SNAP_OUI + 2)
                kind = be16(buf, at + link.SNAP_PID)
                at += link.SNAP_BYTES
                if (oui in (link.OUI_ETHERNET, link.OUI_BRIDGE_TUNNEL)) and kind >= link.ETHERTYPE_MIN:
                    layer = kind
                elif oui == link.OUI_IEEE_8021 and (kind in (1, 7)):
                    # On ATM two bytes of padding come first, RFC 2684 section 5.2.
                    at += 0 if looks_like_ethernet(buf, at, end) else 2
                    layer = LAYER_ETHERNET
                else:
                    return 0, at, STOP_NOT_IP
            elif sap == link.LLC_IP_SAP * 0x101 and control == link.LLC_UI:
                at += link.LLC_BYTES
                layer = LAYER_IP
            else:
                return 0, at, STOP_NOT_IP
        elif layer in (link.ETHERTYPE_MPLS, link.ETHERTYPE_MPLS_UPSTREAM):
            bottom = False
            while not bottom:
                if end - at < link.MPLS_BYTES:
                    return 0, at, STOP_TRUNCATED
                bottom = be32(buf, at) & link.MPLS_BOTTOM != 0
                at += link.MPLS_BYTES
            # Labels do not say what they carry: RFC 4928 section 2.1, RFC 4448 section 4.6.
            if end - at < 1:
                return 0, at, STOP_TRUNCATED
            version = u8(buf, at) >> 4
            if looks_like_ip(buf, at, end, wire_end):
                layer = LAYER_IP
            elif looks_like_ethernet(buf, at + link.PW_CONTROL_WORD_BYTES, end) and version == 0:
                at += link.PW_CONTROL_WORD_BYTES
                layer = LAYER_ETHERNET
            elif looks_like_ethernet(buf, at, end):
                layer = LAYER_ETHERNET
            elif version in (4, 6):
                layer = LAYER_IP
            else:
                return 0, at, STOP_NOT_IP
        elif layer == link.ETHERTYPE_PPPOE_SESSION:
            if room < link.PPPOE_BYTES:
                return 0, at, STOP_TRUNCATED
            if u8(buf, at + link.PPPOE_VERSION_TYPE) != 0x11 or u8(buf, at + link.PPPOE_CODE) != 0:
                return 0, at, STOP_MALFORMED
            at += link.PPPOE_BYTES
            layer = LAYER_PPP
        elif layer in (LAYER_PPP, link.ETHERTYPE_PPP):
            if room < 2:
                return 0, at, STOP_TRUNCATED
            kind = be16(buf, at)
            if (kind in (3840, 36608)) and layer != link.ETHERTYPE_PPP:
                if room < link.C_HDLC_BYTES:
                    return 0, at, STOP_TRUNCATED
                layer = be16(buf, at + link.C_HDLC_TYPE)  # Cisco HDLC that is called PPP
                at += link.C_HDLC_BYTES
                continue
            if kind == link.PPP_ADDRESS_CONTROL:
                at += 2
                if end - at < 2:
                    return 0, at, STOP_TRUNCATED
                kind = be16(buf, at)
            if kind & 0x100:  # an odd first byte is the whole protocol: RFC 1661 section 6.5
                kind >>= 8
                at += 1
            else:
                at += 2
            if kind in (link.PPP_IPV4, link.PPP_IPV6):
                layer = LAYER_IP
            elif kind in (link.PPP_MPLS, link.PPP_MPLS_MULTICAST):
                layer = link.ETHERTYPE_MPLS
            elif kind == link.PPP_BRIDGED:
                at += 2  # flags and MAC type: RFC 3518 section 4.2
                layer = LAYER_ETHERNET
            elif kind == link.PPP_MULTILINK and end > at and u8(buf, at) & 0xC0 == link.PPP_MULTILINK_WHOLE:
                at += link.PPP_MULTILINK_BYTES
                layer = LAYER_PPP
            else:
                return 0, at, STOP_NOT_IP
        elif layer == link.ETHERTYPE_PBB:
            at += link.PBB_BYTES
            layer = LAYER_ETHERNET
        elif layer == link.ETHERTYPE_FABRICPATH:
            at += link.FABRICPATH_BYTES
            layer = LAYER_ETHERNET
        elif layer == link.ETHERTYPE_VNTAG:
            if room < link.VNTAG_BYTES:
                return 0, at, STOP_TRUNCATED
            layer = be16(buf, at + link.VNTAG_TYPE)
            at += link.VNTAG_BYTES
        elif layer == link.ETHERTYPE_CISCO_METADATA:
            if room < 2:
                return 0, at, STOP_TRUNCATED
            length = u8(buf, at + link.CISCO_METADATA_LENGTH) * 8
            if length == 0:
                return 0, at, STOP_MALFORMED
            if room < length:
                return 0, at, STOP_TRUNCATED
            layer = be16(buf, at + length - 2)
            at += length
        elif layer == link.ETHERTYPE_NSH:
            if room < link.NSH_MIN_BYTES:
                return 0, at, STOP_TRUNCATED
            kind = u8(buf, at + link.NSH_NEXT)
            length = (u8(buf, at + 1) & 0x3F) * 4
            if length < link.NSH_MIN_BYTES:
                return 0, at, STOP_MALFORMED
            at += length
            if kind in (link.NSH_NEXT_IPV4, link.NSH_NEXT_IPV6):
                layer = LAYER_IP
            elif kind == link.NSH_NEXT_ETHERNET:
                layer = LAYER_ETHERNET
            elif kind == link.NSH_NEXT_MPLS:
                layer = link.ETHERTYPE_MPLS
            elif kind != link.NSH_NEXT_NSH:
                return 0, at, STOP_NOT_IP
        elif layer in (
            link.ETHERTYPE_TRILL,
            link.ETHERTYPE_BATMAN,
            link.ETHERTYPE_MACSEC,
            link.ETHERTYPE_HSR,
            link.ETHERTYPE_8021BR,
        ):
            return 0, at, STOP_UNREAD | layer << STOP_BITS
        else:
            return 0, at, -layer if layer < 0 else STOP_NOT_IP


@inner
def walk_extensions(buf: Bytes, at: int, end: int, wire_end: int, proto: int) -> tuple[int, int, int, int]:
    """Over IPv6 extension headers and AH (RFC 8200 section 4, RFC 4302) to the transport header.

    Gives protocol, place, place of the fragment header (-1: none) and stop code. Ends behind the fragment header of a later fragment.
    """
    fragment_at = -1
    while True:
        if proto in (
            ip.PROTO_HOPOPT,
            ip.PROTO_ROUTING,
            ip.PROTO_DSTOPTS,
            ip.PROTO_MOBILITY,
            ip.PROTO_HIP,
            ip.PROTO_SHIM6,
        ):
            needed = ip.EXT_MIN_BYTES
            if end - at >= ip.EXT_MIN_BYTES:
                needed = (u8(buf, at + ip.EXT_LENGTH) + 1) * 8
                if proto >= ip.PROTO_MOBILITY and u8(buf, at) == ip.PROTO_NONE:
                    return proto, at, fragment_at, STOP_NONE  # the message itself, not a header before one
        elif proto == ip.PROTO_FRAGMENT:
            needed = ip.FRAGMENT_BYTES
        elif proto == ip.PROTO_AH:
            needed = ip.AH_MIN_BYTES
            if end - at >= ip.AH_MIN_BYTES:
                needed = (u8(buf, at + ip.AH_LENGTH) + 2) * 4
                if needed < ip.AH_MIN_BYTES:
                    return proto, at, fragment_at, STOP_MALFORMED
        else:
            return proto, at, fragment_at, STOP_NONE
        if end - at < needed:
            return proto, at, fragment_at, STOP_MALFORMED if wire_end - at < needed else STOP_TRUNCATED
        following = u8(buf, at + ip.EXT_NEXT_HEADER)  # BOUNDS: needed >= 8
        at += needed
        if proto == ip.PROTO_FRAGMENT:
            fragment_at = at - needed
            if be16(buf, fragment_at + ip.FRAGMENT_OFFSET) & ip.FRAGMENT_OFFSET_MASK:
                return following, at, fragment_at, STOP_NONE
        proto = following


@inner
def _short(needed: int, wire_end: int) -> int:
    """Why a header that should reach to ``needed`` is not there whole."""
    return STOP_MALFORMED if needed > wire_end else STOP_TRUNCATED


@inner
def read_transport(buf: Bytes, at: int, end: int, wire_end: int, proto: int, fragmented: bool, row: Any) -> bool:
    """The transport header at ``at``, of all protocols but TCP, into ``row``, payload included. Says whether the payload's place is known."""
    room = end - at
    header = 0
    if proto in (ip.PROTO_UDP, ip.PROTO_SCTP, ip.PROTO_UDPLITE, ip.PROTO_DCCP):
        if room < transport.PORTS_BYTES:
            row["stop"] = _short(at + transport.PORTS_BYTES, wire_end)
            return False
        row["src_port"] = be16(buf, at + transport.SRC_PORT)
        row["dst_port"] = be16(buf, at + transport.DST_PORT)
        header = transport.UDP_BYTES
        if proto == ip.PROTO_UDP and room >= transport.UDP_BYTES:
            length = be16(buf, at + transport.UDP_LENGTH)
            if at + length > wire_end and not fragmented:
                row["stop"] = STOP_MALFORMED
            elif length >= transport.UDP_BYTES:
                wire_end = min(wire_end, at + length)
                end = min(end, wire_end)
            elif length > 0:  # 0: more than 65,535 bytes, RFC 2675 section 4, or segmentation offload
                row["stop"] = STOP_MALFORMED
                return False
        elif proto == ip.PROTO_SCTP:
            header = transport.SCTP_BYTES
        elif proto == ip.PROTO_DCCP:
            header = transport.DCCP_MIN_BYTES
            if room >= transport.DCCP_MIN_BYTES:
                header = max(header, u8(buf, at + transport.DCCP_DATA_OFFSET) * 4)
    elif proto in (ip.PROTO_ICMP, ip.PROTO_ICMPV6):
        if room < 2:
            row["stop"] = _short(at + transport.PORTS_BYTES, wire_end)
            return False
        row["src_port"] = u8(buf, at + transport.ICMP_TYPE)
        row["dst_port"] = u8(buf, at + transport.ICMP_CODE)
        header = min(transport.ICMP_BYTES, max(transport.PORTS_BYTES, wire_end - at))
    if at + header > wire_end:
        row["stop"] = STOP_MALFORMED
        return False
    row["payload_wire_bytes"] = wire_end - at - header
    if at + header > end:
        row["stop"] = STOP_TRUNCATED
        return True
    row["payload_at"] = at + header
    row["payload_bytes"] = end - at - header
    return True


@inner
def options_mark(buf: Bytes, at: int, end: int) -> int:
    """32 bits over TCP options ``buf[at : end]``, odd where time stamps are among them (RFC 9293 section 3.1, RFC 7323 section 3.2)."""
    mark = 0
    word = at
    while word + 4 <= end:
        mark = (mark * MARK_FACTOR + be32(buf, word)) & 0xFFFFFFFF
        word += 4
    timed = 0
    while at < end and timed == 0:
        kind = u8(buf, at)
        if kind == transport.TCP_OPTION_NOP:
            at += 1
            continue
        if kind == transport.TCP_OPTION_END or at + 1 >= end:
            break
        length = u8(buf, at + 1)
        if kind == transport.TCP_OPTION_TIMESTAMPS:
            timed = 1
        if length < 2:
            break
        at += length
    return mark & 0xFFFFFFFE | timed


@inner
def unwrap_gre(buf: Bytes, at: int, end: int) -> tuple[int, int, int, int]:
    """Layer, place and tunnel kind of what GRE carries, and a stop code; LAYER_NONE: nothing that is decoded. RFC 2784, 2890, 2637."""
    if end - at < tunnels.GRE_BYTES:
        return LAYER_NONE, at, TUNNEL_GRE, STOP_TRUNCATED
    flags = be16(buf, at)
    layer = be16(buf, at + tunnels.GRE_PROTOCOL)
    version = flags & tunnels.GRE_VERSION
    if version > 1:
        return LAYER_NONE, at, TUNNEL_GRE, STOP_MALFORMED
    at += tunnels.GRE_BYTES
    if flags & (tunnels.GRE_CHECKSUM | tunnels.GRE_ROUTING):
        at += tunnels.GRE_WORD_BYTES
    if flags & tunnels.GRE_KEY:
        at += tunnels.GRE_WORD_BYTES
    if flags & tunnels.GRE_SEQUENCE:
        at += tunnels.GRE_WORD_BYTES
    if version == 1 and flags & tunnels.GRE_ACK:
        at += tunnels.GRE_WORD_BYTES
    if flags & tunnels.GRE_ROUTING:
        length = 1
        while length:
            if end - at < tunnels.GRE_WORD_BYTES:
                return LAYER_NONE, at, TUNNEL_GRE, STOP_TRUNCATED
            length = u8(buf, at + tunnels.GRE_ROUTE_LENGTH)
            at += tunnels.GRE_WORD_BYTES + length
    if at >= end:
        return LAYER_NONE, at, TUNNEL_GRE, STOP_NONE  # keep-alives carry nothing
    if layer == tunnels.GRE_PROTOCOL_ERSPAN:
        if flags & tunnels.GRE_SEQUENCE:  # type I has neither number nor header
            at += tunnels.ERSPAN2_BYTES
        return LAYER_ETHERNET, at, TUNNEL_ERSPAN, STOP_NONE
    if layer == tunnels.GRE_PROTOCOL_ERSPAN3:
        if end - at < tunnels.ERSPAN3_BYTES:
            return LAYER_NONE, at, TUNNEL_ERSPAN, STOP_TRUNCATED
        word = be16(buf, at + tunnels.ERSPAN3_FLAGS)
        at += tunnels.ERSPAN3_BYTES
        if word & tunnels.ERSPAN3_SUBHEADER:
            at += tunnels.ERSPAN3_SUBHEADER_BYTES
        kind = word >> tunnels.ERSPAN3_FRAME_TYPE_SHIFT & tunnels.ERSPAN3_FRAME_TYPE_MASK
        return LAYER_IP if kind == tunnels.ERSPAN3_FRAME_TYPE_IP else LAYER_ETHERNET, at, TUNNEL_ERSPAN, STOP_NONE
    if layer == tunnels.GRE_PROTOCOL_WCCP:
        # Version 2 puts four bytes before the packet; version 1 does not: draft-wilson-wrec-wccp-v2-01 section 4.12.
        if u8(buf, at) >> 4 != 4:  # BOUNDS: at < end above
            at += tunnels.GRE_WCCP_REDIRECT_BYTES
        layer = LAYER_IP
    return layer, at, TUNNEL_GRE, STOP_NONE


@inner
def unwrap_udp(buf: Bytes, at: int, end: int, src_port: int, dst_port: int) -> tuple[int, int, int, int]:
    """Layer, place, tunnel kind and tunnel id of what a datagram's payload may carry by its ports; LAYER_NONE: nothing."""
    room = end - at
    gpe = tunnels.PORT_VXLAN_GPE in (src_port, dst_port)
    if gpe or tunnels.PORT_VXLAN in (src_port, dst_port) or tunnels.PORT_VXLAN_LINUX in (src_port, dst_port):
        if room < tunnels.VXLAN_BYTES:
            return LAYER_NONE, at, TUNNEL_NONE, 0
        flags = u8(buf, at + tunnels.VXLAN_FLAGS)
        vni = be32(buf, at + tunnels.VXLAN_VNI) >> 8
        layer = LAYER_NONE
        kind = 0
        if gpe:  # older drafts have the next protocol without its flag, so only the field is asked
            kind = u8(buf, at + tunnels.VXLAN_NEXT)
        if kind == 0 and flags & ~tunnels.VXLAN_GROUP_POLICY == tunnels.VXLAN_INSTANCE:
            layer = LAYER_ETHERNET
        elif kind and flags & (tunnels.VXLAN_GPE_VERSION | tunnels.VXLAN_INSTANCE) == tunnels.VXLAN_INSTANCE:
            if kind in (link.NSH_NEXT_IPV4, link.NSH_NEXT_IPV6):
                layer = LAYER_IP
            elif kind == link.NSH_NEXT_ETHERNET:
                layer = LAYER_ETHERNET
            elif kind == link.NSH_NEXT_NSH:
                layer = link.ETHERTYPE_NSH
        return layer, at + tunnels.VXLAN_BYTES, TUNNEL_VXLAN, vni
    if tunnels.PORT_GENEVE in (src_port, dst_port):
        if room < tunnels.GENEVE_BYTES:
            return LAYER_NONE, at, TUNNEL_NONE, 0
        word = u8(buf, at + tunnels.GENEVE_VERSION_LENGTH)
        if word & tunnels.GENEVE_VERSION:
            return LAYER_NONE, at, TUNNEL_NONE, 0
        layer = be16(buf, at + tunnels.GENEVE_PROTOCOL)
        vni = be32(buf, at + tunnels.GENEVE_VNI) >> 8
        return layer, at + tunnels.GENEVE_BYTES + (word & tunnels.GENEVE_LENGTH_MASK) * 4, TUNNEL_GENEVE, vni
    if tunnels.PORT_GTP_U in (src_port, dst_port):
        if room < tunnels.GTP_BYTES or u8(buf, at) & tunnels.GTP_VERSION_MASK != tunnels.GTP_VERSION:
            return LAYER_NONE, at, TUNNEL_NONE, 0
        if u8(buf, at + tunnels.GTP_MESSAGE) != tunnels.GTP_G_PDU:
            return LAYER_NONE, at, TUNNEL_NONE, 0
        flags = u8(buf, at + tunnels.GTP_FLAGS)
        header = at + tunnels.GTP_BYTES
        if flags & tunnels.GTP_OPTIONAL:
            header += tunnels.GTP_OPTIONAL_BYTES
            extension = flags & tunnels.GTP_EXTENSION
            if extension and end >= header:
                extension = u8(buf, at + tunnels.GTP_NEXT_EXTENSION)  # BOUNDS: header is behind it
            while extension:
                if header >= end:
                    return LAYER_NONE, at, TUNNEL_NONE, 0
                length = u8(buf, header) * 4  # 3GPP TS 29.281 section 5.2.1
                if length == 0 or header + length > end:
                    return LAYER_NONE, at, TUNNEL_NONE, 0
                header += length
                extension = u8(buf, header - 1)
        return LAYER_IP, header, TUNNEL_GTP, 0
    if tunnels.PORT_TEREDO in (src_port, dst_port):
        if room >= tunnels.TEREDO_AUTHENTICATION_BYTES and be16(buf, at) == tunnels.TEREDO_AUTHENTICATION:
            at += (
                tunnels.TEREDO_AUTHENTICATION_BYTES
                + u8(buf, at + tunnels.TEREDO_ID_LENGTH)
                + u8(buf, at + tunnels.TEREDO_AU_LENGTH)
            )
        if end - at >= tunnels.TEREDO_ORIGIN_BYTES and be16(buf, at) == tunnels.TEREDO_ORIGIN:
            at += tunnels.TEREDO_ORIGIN_BYTES
        if at < end and u8(buf, at) >> 4 == 6:
            return link.ETHERTYPE_IPV6, at, TUNNEL_TEREDO, 0
        return LAYER_NONE, at, TUNNEL_NONE, 0
    if tunnels.PORT_L2TP in (src_port, dst_port):
        if room < tunnels.L2TP_BYTES:
            return LAYER_NONE, at, TUNNEL_NONE, 0
        flags = be16(buf, at)
        if flags & tunnels.L2TP_VERSION_MASK != tunnels.L2TP_VERSION or flags & tunnels.L2TP_CONTROL:
            return LAYER_NONE, at, TUNNEL_NONE, 0
        at += tunnels.L2TP_BYTES
        if flags & tunnels.L2TP_LENGTH:
            at += 2
        if flags & tunnels.L2TP_SEQUENCE:
            at += 4
        if flags & tunnels.L2TP_OFFSET:
            if end - at < 2:
                return LAYER_NONE, at, TUNNEL_NONE, 0
            at += 2 + be16(buf, at)
        return LAYER_PPP, at, TUNNEL_L2TP, 0
    if dst_port == tunnels.PORT_MPLS:
        return link.ETHERTYPE_MPLS, at, TUNNEL_IPIP, 0
    return LAYER_NONE, at, TUNNEL_NONE, 0


@inner
def _is_mapped(buf: Bytes, at: int) -> bool:
    """Whether the IPv6 address at ``at``, all of which is here, is one of IPv4."""
    return be64(buf, at) == 0 and be32(buf, at + 8) == 0xFFFF


@inner
def _note(
    pieces: NDArray[np.void],
    n_pieces: int,
    row: int,
    ident: int,
    key_proto: int,
    offset: int,
    header_bytes: int,
    more: int,
) -> int:
    piece = pieces[n_pieces]  # BOUNDS: at most one a row, and there are as many
    piece["row"] = row
    piece["ident"] = ident
    piece["offset"] = offset
    piece["header_bytes"] = header_bytes
    piece["key_proto"] = key_proto
    piece["more"] = more
    return n_pieces + 1


@inner
def sender_print(buf: Bytes, at: int, end: int) -> int:
    """32 bits over the source address and the VLAN of the Ethernet header at ``at``, of which ``end - at`` > ETH_BYTES bytes are here.

    0: it carries something else around the packet, in which that header is another one.
    """
    said = be32(buf, at + link.ETH_SRC) * MARK_FACTOR ^ be16(buf, at + link.ETH_SRC + 4)
    kind = be16(buf, at + link.ETH_TYPE)
    if kind in (link.ETHERTYPE_VLAN, link.ETHERTYPE_QINQ) and end - at >= link.ETH_BYTES + link.VLAN_BYTES:
        said = (said & 0xFFFFFFFF) * MARK_FACTOR ^ (be16(buf, at + link.ETH_BYTES) & link.VLAN_ID)
    elif kind not in (link.ETHERTYPE_IPV4, link.ETHERTYPE_IPV6):
        return 0
    return said & 0xFFFFFFFE | 1


@inner
def _blank(row: Any) -> None:
    """Everything that the frame does not set."""
    row["src_hi"] = 0
    row["src_lo"] = 0
    row["dst_hi"] = 0
    row["dst_lo"] = 0
    row["payload_bytes"] = 0
    row["payload_wire_bytes"] = 0
    row["ip_bytes"] = 0
    row["seq"] = 0
    row["ack"] = 0
    row["src_port"] = 0
    row["dst_port"] = 0
    row["window"] = 0
    row["urgent"] = 0
    row["header_bytes"] = 0
    row["mark"] = 0
    row["ip_id"] = 0
    row["ip_version"] = 0
    row["proto"] = 0
    row["flags"] = 0
    row["stop"] = STOP_NONE
    row["fragment"] = 0
    row["ttl"] = 0
    row["sender"] = 0


@kernel
def decode_frames(
    buf: Bytes,
    start: NDArray[np.int64],
    caplen: NDArray[np.int64],
    wirelen: NDArray[np.int64],
    layers: NDArray[np.int64],
    ts_ns: NDArray[np.int64],
    interface: NDArray[np.int32],
    numbers: NDArray[np.int64],
    first: int,
    max_depth: int,
    rows: NDArray[np.void],
    pieces: NDArray[np.void],
) -> tuple[int, int, int]:
    """Decode frames ``first``.. of a batch into PACKET rows, until they or the free rows end.

    Every row of an IP fragment is noted in ``pieces`` (PIECE, as many as ``rows``) for `defrag.settle`. A frame is begun only while
    ``max_depth + 1`` rows are free. Gives the number of rows, of pieces, and the next frame.
    """
    n_rows = 0
    n_pieces = 0
    frame = first
    while frame < start.size and rows.size - n_rows > max_depth:
        if frame + SOON < start.size:
            # The batch is larger than the near caches: a frame's headers (two lines) are asked for before it is its turn.
            prefetch(buf, start[frame + SOON], 0)
            prefetch(buf, start[frame + SOON], 64)
        at = start[frame]
        end = at + caplen[frame]
        wire_end = at + max(caplen[frame], wirelen[frame])
        layer = layers[frame]
        tunnel = TUNNEL_NONE
        tunnel_id = 0
        believed = True
        cut = end < wire_end
        outer = -1
        depth = 0
        while True:
            sender = 0
            if layer == LAYER_ETHERNET and end - at > link.ETH_BYTES:
                sender = sender_print(buf, at, end)
            if (
                sender
                and be16(buf, at + link.ETH_TYPE) == link.ETHERTYPE_IPV4
                and u8(buf, at + link.ETH_BYTES) >> 4 == 4
            ):
                # As find_ip would say. Most frames are this one, and the call costs as much as all the rest: references to buf are counted.
                version, at, stop = 4, at + link.ETH_BYTES, STOP_NONE
            else:
                version, at, stop = find_ip(buf, at, end, wire_end, layer)
            if version == 4:
                header = (u8(buf, at) & 15) * 4  # BOUNDS: find_ip saw the first byte
                if end - at < ip.V4_MIN_BYTES:
                    version, stop = 0, STOP_TRUNCATED
                elif header < ip.V4_MIN_BYTES:
                    version, stop = 0, STOP_MALFORMED
                else:
                    total = be16(buf, at + ip.V4_TOTAL_LENGTH)
                    if total == 0:  # segmentation offload: the frame knows better
                        total = wire_end - at
                    if total < header:
                        version, stop = 0, STOP_MALFORMED
            elif version == 6:
                header = ip.V6_BYTES
                if end - at < ip.V6_BYTES:
                    version, stop = 0, STOP_TRUNCATED
                else:
                    total = be16(buf, at + ip.V6_PAYLOAD_LENGTH)
                    total = total + ip.V6_BYTES if total else wire_end - at
            if version == 0 and stop == STOP_TRUNCATED and not cut:
                stop = STOP_MALFORMED  # nothing was cut off: the frame never had the header
            if outer >= 0:
                if version == 0:
                    if (believed and stop == STOP_MALFORMED) or ((believed or cut) and stop == STOP_TRUNCATED):
                        rows[outer]["stop"] = stop
                    break
                if not believed and not looks_like_ip(buf, at, end, wire_end):
                    break
                if depth > max_depth:
                    rows[outer]["stop"] = STOP_DEPTH
                    break

            row = rows[n_rows]  # BOUNDS: the loop's condition, at most max_depth + 1 rows a frame
            n_rows += 1
            _blank(row)
            row["ts_ns"] = ts_ns[frame]
            row["frame"] = numbers[frame]
            row["interface"] = interface[frame]
            row["tunnel"] = tunnel
            row["tunnel_id"] = tunnel_id
            row["outer"] = outer
            row["depth"] = depth
            if version == 0:
                row["payload_at"] = start[frame]
                row["stop"] = stop & STOP_MASK
                row["dst_port"] = stop >> STOP_BITS
                break

            # -- the IP header
            key_proto = 0
            fragment = 0
            offset = 0
            ident = 0
            more = 0
            base = at + header  # where the part begins that may be cut into fragments
            wire_end = at + total
            end = min(end, wire_end)
            row["ip_bytes"] = total
            row["ip_version"] = version
            row["sender"] = sender
            stop = STOP_NONE
            if version == 4:
                row["src_lo"] = np.uint64(ip.V4_MAPPED | be32(buf, at + ip.V4_SRC))
                row["dst_lo"] = np.uint64(ip.V4_MAPPED | be32(buf, at + ip.V4_DST))
                ident = be16(buf, at + ip.V4_ID)
                row["ttl"] = u8(buf, at + ip.V4_TTL)
                proto = u8(buf, at + ip.V4_PROTOCOL)
                key_proto = proto
                word = be16(buf, at + ip.V4_FRAGMENT)
                offset = (word & ip.V4_OFFSET_MASK) * 8
                more = 1 if word & ip.V4_MORE_FRAGMENTS else 0
                at = base
                if at > end:
                    stop = STOP_TRUNCATED
                elif proto == ip.PROTO_AH and offset == 0:
                    proto, at, _, stop = walk_extensions(buf, at, end, wire_end, proto)
            else:
                row["src_hi"] = be64(buf, at + ip.V6_SRC)
                row["src_lo"] = be64(buf, at + ip.V6_SRC + 8)
                row["dst_hi"] = be64(buf, at + ip.V6_DST)
                row["dst_lo"] = be64(buf, at + ip.V6_DST + 8)
                row["ttl"] = u8(buf, at + ip.V6_HOP_LIMIT)
                if _is_mapped(buf, at + ip.V6_SRC) or _is_mapped(buf, at + ip.V6_DST):
                    row["tunnel_id"] = tunnel_id | MAPPED
                proto = u8(buf, at + ip.V6_NEXT_HEADER)
                proto, at, fragment_at, stop = walk_extensions(buf, base, end, wire_end, proto)
                if fragment_at >= 0:
                    # BOUNDS: walk_extensions went over the whole fragment header
                    base = fragment_at + ip.FRAGMENT_BYTES
                    word = be16(buf, fragment_at + ip.FRAGMENT_OFFSET)
                    ident = be32(buf, fragment_at + ip.FRAGMENT_ID)
                    key_proto = u8(buf, fragment_at + ip.EXT_NEXT_HEADER)
                    offset = word & ip.FRAGMENT_OFFSET_MASK
                    more = word & ip.FRAGMENT_MORE
            if offset:
                fragment = 2
            elif more:
                fragment = 1
            row["proto"] = proto
            row["ip_id"] = ident & 0xFFFF
            row["fragment"] = fragment
            row["stop"] = stop
            row["payload_at"] = min(at, end)
            if stop != STOP_NONE:
                break

            # -- what it carries
            if fragment == 2:
                row["payload_at"] = min(at, end)
                row["payload_bytes"] = max(end - at, 0)
                row["payload_wire_bytes"] = wire_end - at
                row["seq"] = offset
                n_pieces = _note(pieces, n_pieces, n_rows - 1, ident, key_proto, offset, 0, more)
                break
            if proto == ip.PROTO_TCP:
                # What is captured of a header that is cut off is kept: ports without flags, say.
                room = end - at
                known = False
                if room >= transport.TCP_MIN_BYTES:
                    row["ack"] = be32(buf, at + transport.TCP_ACK)
                    row["seq"] = be32(buf, at + transport.TCP_SEQ)
                    row["window"] = be16(buf, at + transport.TCP_WINDOW)
                elif room >= transport.TCP_ACK:
                    row["seq"] = be32(buf, at + transport.TCP_SEQ)
                    if room >= transport.TCP_DATA_OFFSET:
                        row["ack"] = be32(buf, at + transport.TCP_ACK)
                if room >= transport.PORTS_BYTES:
                    row["src_port"] = be16(buf, at + transport.SRC_PORT)
                    row["dst_port"] = be16(buf, at + transport.DST_PORT)
                if room < transport.TCP_WINDOW:
                    needed = transport.TCP_MIN_BYTES if room >= transport.PORTS_BYTES else transport.PORTS_BYTES
                    row["stop"] = _short(at + needed, wire_end)
                else:
                    row["flags"] = u8(buf, at + transport.TCP_FLAGS)
                    header = (u8(buf, at + transport.TCP_DATA_OFFSET) >> 4) * 4
                    if header < transport.TCP_MIN_BYTES or at + header > wire_end:
                        row["stop"] = STOP_MALFORMED
                    else:
                        known = True
                        row["payload_wire_bytes"] = wire_end - at - header
                        if at + header > end:
                            row["stop"] = STOP_TRUNCATED
                        else:
                            row["payload_at"] = at + header
                            row["payload_bytes"] = end - at - header
                            row["header_bytes"] = header
                            # BOUNDS: at + header <= end
                            if int64(row["flags"]) & transport.TCP_URG:
                                row["urgent"] = be16(buf, at + transport.TCP_URGENT)
                            if header == 32 and be32(buf, at + 20) == transport.TCP_TIMESTAMPS_FIRST:
                                # As options_mark would say; nearly all segments are so.
                                mark = transport.TCP_TIMESTAMPS_FIRST * MARK_FACTOR + be32(buf, at + 24)
                                mark = (mark & 0xFFFFFFFF) * MARK_FACTOR + be32(buf, at + 28)
                                row["mark"] = mark & 0xFFFFFFFE | 1
                            elif header > transport.TCP_MIN_BYTES:
                                row["mark"] = options_mark(buf, at + transport.TCP_MIN_BYTES, at + header)
            else:
                known = read_transport(buf, at, end, wire_end, proto, fragment != 0, row)
            if fragment == 1:
                header = int64(row["payload_at"]) - base if known and row["stop"] == STOP_NONE else -1
                if (
                    proto == ip.PROTO_TCP
                    and at == base
                    and end == wire_end
                    and row["stop"] == STOP_MALFORMED
                    and (
                        end - at <= transport.TCP_DATA_OFFSET
                        or (u8(buf, at + transport.TCP_DATA_OFFSET) >> 4) * 4 >= transport.TCP_MIN_BYTES
                    )
                ):
                    # The header goes on in the next fragment; `defrag` puts it together.
                    header = HEADER_GOES_ON
                    row["payload_at"], row["payload_bytes"] = at, end - at
                    row["payload_wire_bytes"] = end - at
                n_pieces = _note(pieces, n_pieces, n_rows - 1, ident, key_proto, 0, header, more)

            # -- and whether that carries a packet again
            believed = True
            layer = LAYER_NONE
            if proto == ip.PROTO_UDP:
                if row["stop"] == STOP_NONE:
                    end = int64(row["payload_at"]) + int64(row["payload_bytes"])
                    wire_end = int64(row["payload_at"]) + int64(row["payload_wire_bytes"])
                    if fragment == 1:
                        wire_end += 0x10000  # the tunnelled packet goes on in the next fragment
                    layer, at, tunnel, tunnel_id = unwrap_udp(
                        buf, int64(row["payload_at"]), end, int64(row["src_port"]), int64(row["dst_port"])
                    )
                    believed = False
            elif proto != ip.PROTO_TCP:
                tunnel_id = 0
                tunnel = TUNNEL_IPIP
                if proto == ip.PROTO_GRE:
                    layer, at, tunnel, stop = unwrap_gre(buf, at, end)
                    row["stop"] = stop
                elif proto in (ip.PROTO_IPV4, ip.PROTO_IPV6, ip.PROTO_IPIP):
                    layer = LAYER_IP
                elif proto == ip.PROTO_MPLS:
                    layer = link.ETHERTYPE_MPLS
                elif proto == ip.PROTO_ETHERIP and end > at and u8(buf, at) == tunnels.ETHERIP_VERSION:
                    layer = LAYER_ETHERNET
                    at += tunnels.ETHERIP_BYTES
            if layer == LAYER_NONE:
                break
            outer = n_rows - 1
            depth += 1
        frame += 1
    return n_rows, n_pieces, frame


@kernel
def count_stops(rows: NDArray[np.void], stops: NDArray[np.int64]) -> None:
    """Adds the rows of each STOP_ code to ``stops`` (int64, one place a code)."""
    for i in range(rows.size):
        stops[int64(rows[i]["stop"])] += 1


@kernel
def count_ip(
    buf: Bytes,
    start: NDArray[np.int64],
    caplen: NDArray[np.int64],
    wirelen: NDArray[np.int64],
    layer: int,
) -> int:
    """How many frames lead to a plausible IP header when they begin as ``layer``."""
    count = 0
    for i in range(start.size):
        end = start[i] + caplen[i]
        wire_end = start[i] + max(caplen[i], wirelen[i])
        version, at, _ = find_ip(buf, start[i], end, wire_end, layer)
        if version and looks_like_ip(buf, at, end, wire_end):
            count += 1
    return count
