"""Frames for the decoder's tests: one of every kind that is decoded, made by scapy; and batches of frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from auditor.model.frames import RESERVE_BYTES, FrameBatch

Frame = tuple[int, bytes]
"""Link type, bytes."""


def batch_of(
    frames: Sequence[Frame], *, wire: Sequence[int] = (), ts_ns: Sequence[int] = (), first_frame_no: int = 1
) -> FrameBatch:
    """A batch as readers give it; odd bytes between the frames."""
    caplen = np.array([len(data) for _, data in frames], np.int64)
    start = np.cumsum(caplen + 3) - caplen
    used = int(start[-1] + caplen[-1]) if len(frames) else 0
    buf = np.full(used + RESERVE_BYTES, 0xEE, np.uint8)
    for at, (_, data) in zip(start, frames, strict=True):
        buf[at : at + len(data)] = np.frombuffer(data, np.uint8)
    return FrameBatch(
        buf,
        used,
        start,
        caplen,
        np.maximum(caplen, np.array(wire, np.int64)) if wire else caplen.copy(),
        np.array(ts_ns or range(len(frames)), np.int64),
        np.arange(len(frames), dtype=np.int32) % 3,
        np.array([kind for kind, _ in frames], np.int32),
        first_frame_no,
    )


@cache
def every_kind() -> tuple[Frame, ...]:
    """One frame of each kind, in an order that does not change."""
    from scapy.contrib.erspan import ERSPAN_I, ERSPAN_II, ERSPAN_III
    from scapy.contrib.geneve import GENEVE
    from scapy.contrib.gtp import GTP_U_Header, GTPHeader
    from scapy.contrib.mpls import MPLS
    from scapy.contrib.nsh import NSH
    from scapy.layers.dot11 import Dot11, Dot11QoS, RadioTap
    from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP
    from scapy.layers.inet6 import (
        IPv6,
        IPv6ExtHdrDestOpt,
        IPv6ExtHdrFragment,
        IPv6ExtHdrHopByHop,
        IPv6ExtHdrRouting,
        fragment6,
    )
    from scapy.layers.ipsec import AH, ESP
    from scapy.layers.l2 import (
        ARP,
        GRE,
        GRE_PPTP,
        LLC,
        SNAP,
        STP,
        CookedLinux,
        CookedLinuxV2,
        Dot1AD,
        Dot1Q,
        Dot3,
        Ether,
        Loopback,
    )
    from scapy.layers.l2tp import L2TP
    from scapy.layers.ppp import PPP, PPPoE
    from scapy.layers.sctp import SCTP
    from scapy.layers.vxlan import VXLAN
    from scapy.packet import Packet, Raw

    ether = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    inner_ether = Ether(src="06:00:00:00:00:01", dst="06:00:00:00:00:02")
    v4 = IP(src="10.0.16.5", dst="10.0.16.9", id=7)
    v6 = IPv6(src="fd00::5", dst="2001:db8::9")
    tcp = TCP(sport=40001, dport=8889, seq=0xFFFF_FFF0, ack=77, flags="PA", window=501)
    udp = UDP(sport=40002, dport=53)
    data = Raw(b"GET / HTTP/1.1\r\n\r\n")
    inner = IP(src="10.255.1.2", dst="10.255.2.3") / TCP(sport=50000, dport=8080, flags="S") / data
    inner6 = IPv6(src="fd01::1", dst="fd01::2") / UDP(sport=1000, dport=2000) / data

    def nflog(packet: Packet, family: int = 2) -> bytes:
        body = bytes(packet)
        head = bytes([family, 0, 0, 1]) + b"\x08\0\x01\0\x08\0\0\0" + (4 + len(body)).to_bytes(2, "little") + b"\x09\0"
        return head + body

    queued = bytes([2, 0, 0, 1]) + (4 + len(v4 / udp / data)).to_bytes(2, "little") + b"\x0a\0" + bytes(v4 / udp / data)
    data_frame = Dot11(type=2, subtype=0, FCfield=1) / LLC() / SNAP() / v4 / tcp / data
    frames: list[tuple[int, Packet | bytes]] = [
        (1, ether / v4 / tcp / data),
        (1, ether / v4 / tcp / data / Raw(bytes(9))),
        (1, ether / IP(src="1.2.3.4", dst="5.6.7.8", options=[IPOption_NOP()] * 4) / tcp.copy() / data),
        (1, ether / v4 / TCP(sport=1, dport=2, options=[("MSS", 1460), ("SAckOK", b""), ("WScale", 7)]) / data),
        (1, ether / v4 / udp / data),
        (1, ether / v4 / ICMP(type=8) / data),
        (1, ether / v4 / ICMP(type=3, code=1) / v4 / udp),
        (1, ether / v4 / SCTP(sport=3868, dport=3869) / data),
        (1, ether / v4 / ESP(spi=1, seq=2) / data),
        (1, ether / v4 / AH(nh=6, payloadlen=4, icv=b"x" * 12) / tcp / data),
        (1, ether / v6 / tcp / data),
        (1, ether / v6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting() / IPv6ExtHdrDestOpt() / udp / data),
        (1, ether / v6 / IPv6ExtHdrFragment(offset=0, m=0, id=9) / tcp / data),
        (1, ether / v6 / Raw(b"\x00" * 8)),
        (1, ether / ARP()),
        (1, Dot3() / LLC() / STP()),
        (1, Dot3() / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP(code=0x0800) / v4 / tcp / data),
        (1, Dot3() / LLC(dsap=6, ssap=6, ctrl=3) / v4 / tcp),
        (1, ether / Dot1Q(vlan=5) / v4 / tcp / data),
        (1, ether / Dot1AD(vlan=5) / Dot1Q(vlan=6) / Dot1Q(vlan=7) / v6 / udp / data),
        (1, ether / MPLS(label=3, s=0) / MPLS(label=4, s=1) / v4 / tcp / data),
        (1, ether / MPLS(label=4, s=1) / inner_ether / v4 / tcp / data),
        (1, ether / MPLS(label=4, s=1) / Raw(bytes(4)) / inner_ether / v6 / tcp / data),
        (1, ether / PPPoE(sessionid=3) / PPP() / v4 / tcp / data),
        (1, bytes(ether)[:12] + b"\x89\x26" + bytes(4) + b"\x08\x00" + bytes(v4 / tcp)),
        (1, bytes(ether)[:12] + b"\x89\x09\x01\x01" + bytes(4) + b"\x08\x00" + bytes(v4 / tcp)),
        (1, bytes(ether)[:12] + b"\x88\xe7" + bytes(4) + bytes(inner_ether / v4 / tcp)),
        (1, bytes(ether)[:12] + b"\x89\x03" + bytes(2) + bytes(inner_ether / v4 / tcp)),
        (1, ether / NSH(mdtype=2, nextproto=1) / v4 / tcp),
        (1, ether / v4 / GRE(proto=0x0800) / inner),
        (1, ether / v4 / GRE(proto=0x86DD, chksum_present=1, key_present=1, seqnum_present=1) / inner6),
        (1, ether / v4 / GRE(proto=0x6558, key_present=1) / inner_ether / Dot1Q(vlan=3) / inner),
        (1, ether / v4 / GRE_PPTP(seqnum_present=1, acknum_present=1) / PPP() / inner),
        (1, ether / v4 / Raw(b"\x40\x00\x08\x00" + bytes(4) + b"\0\x02\0\x04abcd\0\0\0\0" + bytes(inner)), ),
        (1, ether / v4 / GRE(proto=0x88BE) / ERSPAN_I() / inner_ether / inner),
        (1, ether / v4 / GRE(proto=0x88BE, seqnum_present=1) / ERSPAN_II() / inner_ether / inner),
        (1, ether / v4 / GRE(proto=0x22EB, seqnum_present=1) / ERSPAN_III() / inner_ether / inner),
        (1, ether / v4 / GRE(proto=0x883E) / inner),
        (1, ether / v4 / inner),
        (1, ether / v4 / inner6),
        (1, ether / v6 / inner),
        (1, ether / v4.copy() / Raw(b"\x30\x00" + bytes(inner_ether / inner))),
        (1, ether / v4 / UDP(sport=9999, dport=4789) / VXLAN(vni=0x1234, flags=8) / inner_ether / inner),
        (1, ether / v4 / UDP(sport=9999, dport=4789) / VXLAN(vni=99, flags=0x88, gpid=7, gpflags=0x40) / inner_ether / inner6),
        (1, ether / v4 / UDP(sport=9999, dport=4790) / VXLAN(vni=9, flags=0x0C, NextProtocol=1) / inner),
        (1, ether / v4 / UDP(sport=9999, dport=4789) / Raw(b"\x08 no tunnel, but long enough for one, is it not?")),
        (1, ether / v4 / UDP(sport=9999, dport=6081) / GENEVE(vni=0x777, proto=0x6558, options=bytes(8)) / inner_ether / inner),
        (1, ether / v4 / UDP(sport=9999, dport=6081) / GENEVE(vni=5, proto=0x0800) / inner),
        (1, ether / v4 / UDP(sport=2152, dport=2152) / GTP_U_Header(teid=3) / inner),
        (1, ether / v4 / UDP(sport=2152, dport=2152) / Raw(b"\x36\xff\0\x30" + bytes(4) + bytes(3) + b"\x85\x01\0\0\0" + bytes(inner))),
        (1, ether / v4 / UDP(sport=2152, dport=2152) / GTPHeader(gtp_type=1)),
        (1, ether / v4 / UDP(sport=40000, dport=3544) / inner6),
        (1, ether / v4 / UDP(sport=3544, dport=40000) / Raw(b"\0\1\0\0" + bytes(9) + bytes(8) + bytes(inner6))),
        (1, ether / v4 / UDP(sport=1701, dport=1701) / L2TP(hdr=["length", "sequence"], len=10, tunnel_id=1, session_id=2, ns=0, nr=0) / PPP() / inner),
        (1, ether / v4 / UDP(sport=1701, dport=1701) / Raw(b"\0\x02\0\1\0\2\xff\x03\0\x21" + bytes(inner))),
        (1, ether / v4 / UDP(sport=49152, dport=6635) / MPLS(label=16, s=1) / inner),
        (1, ether / v4 / IP(src="11.0.0.1") / IP(src="12.0.0.1") / IP(src="13.0.0.1") / IP(src="14.0.0.1") / IP(src="15.0.0.1") / inner),
        (0, Loopback(type=2) / v4 / tcp / data),
        (0, b"\0\0\0\x1e" + bytes(v6 / tcp)),
        (0, b"\x0f\0\x08\0" + bytes(v4 / udp)),
        (108, b"\0\0\0\x02" + bytes(v4 / tcp / data)),
        (6, bytes(8) + b"\x80" + bytes(5) + b"\x04\x00\0\0" + bytes(LLC() / SNAP() / v4 / tcp)),
        (8, bytes(16) + bytes(v4 / udp)),
        (9, b"\xff\x03\0\x21" + bytes(v4 / tcp)),
        (9, b"\x57" + bytes(v6 / tcp)),
        (9, b"\x0f\0\x08\0" + bytes(v4 / tcp)),
        (9, b"\0\x3d\xc0\0\0\0\x21" + bytes(v4 / tcp)),
        (9, b"\xff\x03\xc0\x21" + bytes(20)),
        (10, bytes(13) + bytes(LLC() / SNAP() / v4 / tcp)),
        (12, v4 / tcp / data),
        (14, v6 / tcp / data),
        (50, b"\xff\x03\x02\x81" + bytes(MPLS(s=1) / v4 / tcp)),
        (51, PPPoE() / PPP() / v4 / tcp),
        (100, LLC() / SNAP() / v4 / tcp),
        (100, b"\xaa\xaa\x03\0\x80\xc2\0\x07\0\0" + bytes(inner_ether / v4 / tcp)),
        (101, v6 / udp / data),
        (104, b"\x0f\0\x08\0" + bytes(v4 / tcp)),
        (105, data_frame),
        (105, bytes(Dot11(type=2, subtype=8, FCfield=2) / Dot11QoS() / LLC() / SNAP() / v4 / tcp)),
        (105, Dot11(type=0, subtype=8)),
        (106, LLC() / SNAP() / v4 / tcp),
        (106, v4 / tcp),
        (107, b"\x18\x41\x03\xcc" + bytes(v4 / tcp)),
        (107, b"\x18\x41\x03\0\x80\0\0\0\x08\0" + bytes(v4 / tcp)),
        (107, b"\x18\x41\x08\0" + bytes(v4 / tcp)),
        (109, bytes(12) + bytes(v4 / tcp)),
        (113, CookedLinux(proto=0x0800) / v4 / tcp / data),
        (113, CookedLinux(proto=0x8100) / Dot1Q() / v6 / tcp / data),
        (113, CookedLinux(proto=4) / LLC() / SNAP() / v4 / tcp),
        (117, b"\x3d" + bytes(63) + bytes(v4 / tcp)),
        (119, bytes(144) + bytes(data_frame)),
        (163, b"\x80\x21\x10\x01\0\0\0\x40" + bytes(56) + bytes(data_frame)),
        (123, b"\x02\0\0\0" + bytes(LLC() / SNAP() / v4 / tcp)),
        (127, RadioTap() / data_frame),
        (127, b"\0\0\x11\0\x03\0\0\0" + bytes(8) + b"\x20" + bytes(data_frame)),
        (192, b"\0\0\x08\0\x01\0\0\0" + bytes(ether / v4 / tcp)),
        (192, b"\0\0\x08\0\x69\0\0\0" + bytes(data_frame)),
        (192, b"\0\0\x08\0\x0c\0\0\0" + bytes(v4 / tcp)),
        (228, v4 / tcp / data),
        (229, v6 / tcp / data),
        (239, nflog(v4 / tcp / data)),
        (239, nflog(v6 / tcp / data, 10)),
        (239, nflog(v4 / udp / data, 7)),
        (253, bytes(14) + b"\0\x0c" + bytes(4) + b"\0\x04" + bytes(10) + nflog(v4 / udp)),
        (253, bytes(14) + b"\0\x0c" + bytes(4) + b"\0\x03" + bytes(10) + queued),
        (274, b"\x55" * 7 + b"\xd5" + bytes(ether / v4 / tcp)),
        (276, CookedLinuxV2(proto=0x0800) / v4 / tcp / data),
        (276, CookedLinuxV2(proto=0x86DD) / v6 / udp / data),
        (249, bytes(64)),
    ]  # fmt: skip
    frames += [(1, ether / piece) for piece in (v4 / tcp / Raw(bytes(range(200)))).fragment(fragsize=64)]
    frames += [
        (101, IP(bytes(v4 / UDP(sport=5, dport=6) / Raw(bytes(300)))).fragment(fragsize=96)[k]) for k in (2, 1, 0)
    ]
    long6 = (
        IPv6(src="fd00::7", dst="fd00::8")
        / IPv6ExtHdrFragment(id=0x1234_5678)
        / UDP(sport=7, dport=8)
        / Raw(bytes(3000))
    )
    frames += [(101, piece) for piece in fragment6(long6, 1280)]
    for at, (kind, packet) in enumerate(frames):
        if kind == 1 and isinstance(packet, Ether) and IP in packet and packet[IP].payload.name == "Raw":
            packet[IP].proto = {0x40: 47, 0x30: 97}.get(bytes(packet[IP].payload)[0], 0)
            frames[at] = (kind, packet)
    return tuple((kind, bytes(packet)) for kind, packet in frames)
