"""What ICMP errors quote: the header of the packet that they are about (RFC 792, RFC 4443 section 3).

An error belongs to the connection that it quotes, not to the router that sends it. There are few of them in most captures and very many in some, so
what they say is kept in a table of fixed size: equal errors about one connection share an entry, and what finds no room is counted.
"""

from __future__ import annotations

import numpy as np

from auditor.kernels.accelerate import inner, kernel
from auditor.kernels.bytes import be16, be32, be64, int64, u8
from auditor.wire import ip, transport

PROBES = 16
"""So many entries are looked at for one."""


@inner
def is_error(proto, kind):
    """Types that quote the packet they are about."""
    if proto == ip.PROTO_ICMP:
        return kind in (3, 4, 5, 11, 12)
    return proto == ip.PROTO_ICMPV6 and 1 <= kind <= 4


@kernel
def quotes(packets, buf, frame_base, table):
    """Put what the ICMP errors among ``packets`` quote into ``table`` (QUOTE[n], n a power of two); returns how many errors found no room.

    packets: PACKET[m]; buf: uint8, what payload_at points into; frame_base: what makes a frame number of a capture one of an audit. Never raises.
    """
    refused = 0
    for i in range(packets.size):
        p = packets[i]
        proto = p.proto
        if not is_error(proto, int64(p.src_port)):
            continue
        at = int64(p.payload_at)
        room = int64(p.payload_bytes)
        if at < transport.ICMP_BYTES or room < 1 or at + room > buf.size:
            continue
        # BOUNDS, for all loads below: they lie in buf[at - ICMP_BYTES : at + room], which is inside as was checked just now.
        version = u8(buf, at) >> 4
        src_hi = np.uint64(0)
        dst_hi = np.uint64(0)
        mapped = np.uint64(0xFFFF) << np.uint64(32)
        inner_proto = 0
        head = 0
        if version == 4 and room >= 20:
            head = (u8(buf, at) & 0xF) * 4
            inner_proto = u8(buf, at + 9)
            src_lo = mapped | np.uint64(be32(buf, at + 12))
            dst_lo = mapped | np.uint64(be32(buf, at + 16))
            if be16(buf, at + 6) & 0x1FFF:
                continue  # a later fragment has no ports
        elif version == 6 and room >= 40:
            head = 40
            inner_proto = u8(buf, at + 6)
            src_hi, src_lo = be64(buf, at + 8), be64(buf, at + 16)
            dst_hi, dst_lo = be64(buf, at + 24), be64(buf, at + 32)
        else:
            continue
        sport, dport = 0, 0
        if inner_proto in (6, 17, 132):
            if head < 20 or room < head + transport.PORTS_BYTES:
                continue
            sport, dport = be16(buf, at + head), be16(buf, at + head + 2)
        mtu = be16(buf, at - 2) if proto == ip.PROTO_ICMP else min(be32(buf, at - 4), 0xFFFF)
        key = np.uint64(p.src_lo) ^ (np.uint64(p.src_hi) * np.uint64(0x9E3779B97F4A7C15))
        key = (key ^ src_lo) * np.uint64(0xBF58476D1CE4E5B9) ^ src_hi
        key = (key ^ dst_lo) * np.uint64(0x94D049BB133111EB) ^ dst_hi
        ports = (np.uint64(sport) << np.uint64(32)) | (np.uint64(dport) << np.uint64(16))
        kinds = (np.uint64(p.src_port) << np.uint64(8)) | np.uint64(p.dst_port)
        inside = 1 if p.tunnel != 0 else 0
        key = (key ^ ports ^ kinds ^ np.uint64(inside)) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
        place = int64(key & np.uint64(table.size - 1))
        found = False
        for step in range(min(PROBES, table.size)):
            q = table[(place + step) & (table.size - 1)]
            if q.count == 0:
                q.router_hi, q.router_lo = p.src_hi, p.src_lo
                q.host_hi, q.host_lo = p.dst_hi, p.dst_lo
                q.src_hi, q.src_lo, q.dst_hi, q.dst_lo = src_hi, src_lo, dst_hi, dst_lo
                q.src_port, q.dst_port, q.mtu = sport, dport, mtu
                q.icmp, q.kind, q.code, q.proto = proto, p.src_port, p.dst_port, inner_proto
                q.inside = inside
                q.ts_ns, q.frame = p.ts_ns, frame_base + int64(p.frame)
                q.count = 1
                found = True
                break
            if (
                q.router_lo == p.src_lo
                and q.router_hi == p.src_hi
                and q.src_lo == src_lo
                and q.dst_lo == dst_lo
                and q.src_hi == src_hi
                and q.dst_hi == dst_hi
                and q.src_port == sport
                and q.dst_port == dport
                and q.kind == p.src_port
                and q.code == p.dst_port
                and q.proto == inner_proto
                and q.inside == inside
                and q.host_lo == p.dst_lo
                and q.host_hi == p.dst_hi
            ):
                q.count += 1
                found = True
                break
        refused += not found
    return refused
