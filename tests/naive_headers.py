"""What `auditor.kernels.headers`, `links` and `defrag` should do, said once more: byte strings, exceptions and recursion, no arrays."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from auditor.model import packets as p


class Stop(Exception):  # noqa: N818 - it ends a frame, it is not an error
    def __init__(self, code: int, kind: int = 0) -> None:
        self.code, self.kind = code, kind


TRUNCATED, MALFORMED, NOT_IP, UNSUPPORTED = (
    p.STOP_TRUNCATED,
    p.STOP_MALFORMED,
    p.STOP_NOT_IP,
    p.STOP_UNSUPPORTED_LINK,
)


@dataclass
class Span:
    """Captured bytes of a layer, and how many it had on the wire."""

    data: bytes
    wire: int

    def need(self, count: int) -> Span:
        if len(self.data) < count:
            raise Stop(TRUNCATED)
        return self

    def skip(self, count: int) -> Span:
        return Span(self.data[count:], self.wire - count)

    def u(self, fmt: str, at: int = 0) -> int:
        size = struct.calcsize(fmt)
        if len(self.data) < at + size:
            raise Stop(TRUNCATED)
        return int(struct.unpack_from(fmt, self.data, at)[0])


@dataclass
class Row:
    ip_version: int = 0
    src: int = 0
    dst: int = 0
    proto: int = 0
    ttl: int = 0
    ip_id: int = 0
    ip_bytes: int = 0
    src_port: int = 0
    dst_port: int = 0
    seq: int = 0
    ack: int = 0
    flags: int = 0
    window: int = 0
    mark: int = 0
    urgent: int = 0
    header_bytes: int = 0
    payload: bytes = b""
    payload_wire_bytes: int = 0
    stop: int = 0
    fragment: int = 0
    tunnel: int = 0
    tunnel_id: int = 0
    outer: int = -1
    depth: int = 0
    sender: int = 0
    piece: tuple[int, int, int, int] | None = field(default=None, compare=False)
    """ident, protocol of the key, offset, more; header bytes of the first are in ``header``."""
    header: int = field(default=-1, compare=False)
    frame: int = field(default=0, compare=False)
    ts_ns: int = field(default=0, compare=False)


Found = tuple[int, Span]


# -- layers below IP ---------------------------------------------------------------------------------------------------------------


def ip_here(s: Span) -> Found:
    version = s.need(1).data[0] >> 4
    if version not in {4, 6}:
        raise Stop(MALFORMED)
    return version, s


def ethertype(kind: int, s: Span) -> Found:
    if kind in {0x0800, 0x86DD}:
        return ip_here(s)
    if kind == 0x6558:
        return ethernet(s)
    if kind in {0x8100, 0x88A8, 0x9100, 0x9200, 0x9300}:
        return typed(s.need(4).u(">H", 2), s.skip(4))
    if kind in {0x8847, 0x8848}:
        return mpls(s)
    if kind == 0x8864:
        if s.need(6).data[0] != 0x11 or s.data[1]:
            raise Stop(MALFORMED)
        return ppp(s.skip(6), bare=False)
    if kind == 0x880B:
        return ppp(s, bare=True)
    if kind == 0x8903:
        return ethernet(s.skip(2))
    if kind == 0x88E7:
        return ethernet(s.skip(4))
    if kind == 0x8926:
        return ethertype(s.need(6).u(">H", 4), s.skip(6))
    if kind == 0x8909:
        size = s.need(2).data[1] * 8
        if not size:
            raise Stop(MALFORMED)
        return ethertype(s.need(size).u(">H", size - 2), s.skip(size))
    if kind == 0x894F:
        size = (s.need(8).data[1] & 63) * 4
        if size < 8:
            raise Stop(MALFORMED)
        inside: dict[int, Callable[[Span], Found]] = {
            1: ip_here,
            2: ip_here,
            3: ethernet,
            4: lambda t: ethertype(0x894F, t),
            5: mpls,
        }
        if s.data[3] not in inside:
            raise Stop(NOT_IP)
        return inside[s.data[3]](s.skip(size))
    if kind in {0x22F3, 0x4305, 0x88E5, 0x892F, 0x893F}:
        raise Stop(p.STOP_UNREAD, kind)
    raise Stop(NOT_IP)


def typed(kind: int, s: Span) -> Found:
    return llc(s) if kind < 0x600 else ethertype(kind, s)


def ethernet(s: Span) -> Found:
    return typed(s.need(14).u(">H", 12), s.skip(14))


@dataclass
class InEthernet:
    """The way to what an Ethernet frame holds with which a packet, or what a tunnel carries, begins."""

    s: Span

    def __call__(self) -> Found:
        return ethernet(self.s)

    def sender(self) -> int:
        """As `headers.sender_print`."""
        data = self.s.data
        if len(data) <= 14:
            return 0
        said = int.from_bytes(data[6:10], "big") * 0x01000193 ^ int.from_bytes(data[10:12], "big")
        if data[12:14] in {b"\x81\x00", b"\x88\xa8"} and len(data) >= 18:
            said = said % 2**32 * 0x01000193 ^ int.from_bytes(data[14:16], "big") & 0xFFF
        elif data[12:14] not in {b"\x08\x00", b"\x86\xdd"}:
            return 0
        return said % 2**32 | 1


def llc(s: Span) -> Found:
    head = s.need(3).data[:3]
    if head == b"\xaa\xaa\x03":
        oui, kind = s.need(8).data[3:6], s.u(">H", 6)
        inner = s.skip(8)
        if oui in {b"\0\0\0", b"\0\0\xf8"} and kind >= 0x600:
            return ethertype(kind, inner)
        if oui == b"\0\x80\xc2" and kind in {1, 7}:
            return ethernet(inner if ethernet_like(inner) else inner.skip(2))
    if head == b"\x06\x06\x03":
        return ip_here(s.skip(3))
    raise Stop(NOT_IP)


def mpls(s: Span) -> Found:
    while True:
        label = s.u(">I")
        s = s.skip(4)
        if label & 0x100:
            break
    nibble = s.need(1).data[0] >> 4
    if ip_like(s):
        return ip_here(s)
    if nibble == 0 and ethernet_like(s.skip(4)):
        return ethernet(s.skip(4))
    if ethernet_like(s):
        return ethernet(s)
    if nibble in {4, 6}:
        return ip_here(s)
    raise Stop(NOT_IP)


def ppp(s: Span, bare: bool = False) -> Found:
    if not bare and s.u(">H") in {0x0F00, 0x8F00}:
        return ethertype(s.need(4).u(">H", 2), s.skip(4))
    if s.u(">H") == 0xFF03:
        s = s.skip(2)
    kind = s.u(">H")
    kind, s = (kind >> 8, s.skip(1)) if kind & 0x100 else (kind, s.skip(2))
    if kind in {0x21, 0x57}:
        return ip_here(s)
    if kind in {0x281, 0x283}:
        return mpls(s)
    if kind == 0x31:
        return ethernet(s.skip(2))
    if kind == 0x3D and s.data and s.data[0] & 0xC0 == 0xC0:
        return ppp(s.skip(4))
    raise Stop(NOT_IP)


def cooked(s: Span, at: int, size: int) -> Found:
    kind = s.need(size).u(">H", at)
    s = s.skip(size)
    return {4: llc, 3: ethernet}.get(kind, lambda t: ethertype(kind, t))(s)


def loopback(s: Span) -> Found:
    family, kind = s.need(4).u(">I"), s.u(">H", 2)
    if family > 0xFFFF:
        family = s.u("<I")
    if family in {2, 10, 23} or 24 <= family <= 30:
        return ip_here(s.skip(4))
    if kind in {0x0800, 0x86DD}:
        return ethertype(kind, s.skip(4))
    raise Stop(NOT_IP)


def nlpid(s: Span) -> Found:
    kind = s.need(1).data[0]
    s = s.skip(1)
    if kind in {0xCC, 0x8E}:
        return ip_here(s)
    if kind == 0x80:
        oui, pid = s.need(6).data[:3], s.u(">H", 3)
        if oui == b"\0\0\0" and pid >= 0x600:
            return ethertype(pid, s.skip(5))
        if oui == b"\0\x80\xc2" and pid in {1, 7}:
            return ethernet(s.skip(5))
    raise Stop(NOT_IP)


def frame_relay(s: Span) -> Found:
    while len(s.data) > 1 and s.data[0] & 1 == 0:
        s = s.skip(1)
    s = s.skip(1).need(3)
    if s.data[0] == 3:
        return nlpid(s.skip(2 if s.data[1] == 0 else 1))
    return ethertype(s.u(">H"), s.skip(2))


def wlan(s: Span, padded: bool = False) -> Found:
    control, flags = s.need(24).data[:2]
    if control & 0x0C != 8 or control & 0x40 or flags & 0x40:
        raise Stop(NOT_IP)
    size = 24 + (6 if flags & 3 == 3 else 0)
    together = False
    if control & 0x80:
        together = bool(s.need(size + 2).data[size] & 0x80)
        size += 2 + (4 if flags & 0x80 else 0)
    if padded:
        size = -(-size // 4) * 4
    return llc(s.skip(size + (14 if together else 0)))


def radiotap(s: Span) -> Found:
    size, present = s.need(8).u("<H", 2), s.u("<I", 4)
    if size < 8:
        raise Stop(MALFORMED)
    head = s.data[:size]
    at, more = 8, present
    while more & 1 << 31 and len(head) >= at + 4:
        more = struct.unpack_from("<I", head, at)[0]
        at += 4
    if present & 1:
        at = -(-at // 8) * 8 + 8
    padded = bool(present & 2 and len(head) > at and head[at] & 0x20)
    return wlan(s.skip(size), padded)


def nflog(s: Span, wanted: int = 9) -> Found:
    family = s.need(4).data[0]
    kind: int | None = None if family == 7 else -1
    s = s.skip(4)
    while len(s.data) >= 4:
        size, name = s.u("<H"), s.u("<H", 2) & 0x3FFF
        if name > 0xFF or size > len(s.data) > s.u(">H") > 0:
            size, name = s.u(">H"), s.u(">H", 2) & 0x3FFF
        if size < 4:
            break
        if name == wanted:
            if kind is None:
                raise Stop(NOT_IP)
            return ip_here(s.skip(4)) if kind == -1 else ethertype(kind, s.skip(4))
        if name == 1 and kind is None and len(s.data) >= 6:
            kind = s.u(">H", 4)
        s = s.skip(-(-size // 4) * 4)
    raise Stop(NOT_IP)


def netlink(s: Span) -> Found:
    kinds = {s.need(32).u("<H", 20), s.u(">H", 20)}
    if s.u(">H", 14) == 12 and 0x300 in kinds:
        return nflog(s.skip(32), 10)
    if s.u(">H", 14) == 12 and 0x400 in kinds:
        return nflog(s.skip(32))
    raise Stop(NOT_IP)


def prism(s: Span) -> Found:
    size = 144
    if s.need(8).u(">I") == 0x80211001:
        size = max(8, s.u(">I", 4))
    return wlan(s.skip(size))


def ppi(s: Span) -> Found:
    size, kind = s.need(8).u("<H", 2), s.u("<I", 4) & 0xFFFF
    if size < 8:
        raise Stop(MALFORMED)
    if kind not in LINKS or kind in {14, 50, 51, 108}:
        raise Stop(UNSUPPORTED)
    return LINKS[kind](s.skip(size))


def token_ring(s: Span) -> Found:
    s.need(16)
    return llc(s.skip(14 + (s.data[14] & 31 if s.data[8] & 0x80 else 0)))


def sunatm(s: Span) -> Found:
    if s.need(4).data[0] & 15 != 2:
        raise Stop(NOT_IP)
    return llc(s.skip(4))


LINKS: dict[int, Callable[[Span], Found]] = {
    0: loopback,
    108: loopback,
    1: ethernet,
    6: token_ring,
    8: lambda s: ip_here(s.skip(16)),
    9: ppp,
    50: ppp,
    51: lambda s: ethertype(0x8864, s),
    10: lambda s: llc(s.skip(13)),
    12: ip_here,
    14: ip_here,
    101: ip_here,
    228: ip_here,
    229: ip_here,
    100: llc,
    104: lambda s: ethertype(s.need(4).u(">H", 2), s.skip(4)),
    105: wlan,
    106: lambda s: llc(s) if s.data[:2] == b"\xaa\xaa" and len(s.data) > 2 else ip_here(s),
    107: frame_relay,
    109: lambda s: ip_here(s.skip(12)),
    113: lambda s: cooked(s, 14, 16),
    117: lambda s: ip_here(s.skip(-(-s.need(1).data[0] // 4) * 4)),
    119: prism,
    163: prism,
    123: sunatm,
    127: radiotap,
    192: ppi,
    239: nflog,
    253: netlink,
    274: lambda s: ethernet(s.skip(8)),
    276: lambda s: cooked(s, 0, 20),
}


def ethernet_like(s: Span) -> bool:
    if len(s.data) < 15:
        return False
    kind, nibble = s.u(">H", 12), s.data[14] >> 4
    return (kind, nibble) in {(0x0800, 4), (0x86DD, 6)} or kind in {0x0806, 0x8100, 0x88A8, 0x8847, 0x8864}


def ip_like(s: Span) -> bool:
    if len(s.data) < 20:
        return False
    if s.data[0] >> 4 == 4:
        return 20 <= (s.data[0] & 15) * 4 <= s.u(">H", 2) <= s.wire
    return s.data[0] >> 4 == 6 and len(s.data) >= 40 and 40 + s.u(">H", 4) <= s.wire


# -- IP and above ------------------------------------------------------------------------------------------------------------------


def decode(frame: bytes, wire: int, link_type: int, max_depth: int = 5) -> list[Row]:
    wire = max(wire, len(frame))
    rows: list[Row] = []

    def layer(find: Callable[[], Found], tunnel: int, tunnel_id: int, outer: int, depth: int, believed: bool) -> None:
        try:
            version, s = find()
            size = header_bytes(version, s)
        except Stop as stop:
            code = MALFORMED if stop.code == TRUNCATED and wire == len(frame) else stop.code
            if outer < 0:
                rows.append(Row(stop=code, dst_port=stop.kind))
            elif (believed and code == MALFORMED) or (code == TRUNCATED and (believed or wire > len(frame))):
                rows[outer].stop = code
            return
        if outer >= 0 and not believed and not ip_like(s):
            return
        if depth > max_depth:
            rows[outer].stop = p.STOP_DEPTH
            return
        row = Row(ip_version=version, tunnel=tunnel, tunnel_id=tunnel_id, outer=outer, depth=depth)
        row.sender = find.sender() if isinstance(find, InEthernet) else 0
        rows.append(row)
        here = len(rows) - 1
        body = ip_header(version, size, s, row)
        if body is None:
            return
        for step in inside(row, body):
            layer(step[0], step[1], step[2], here, depth + 1, step[3])

    whole = Span(frame, wire)
    begins = {1: 0, 274: 8}.get(link_type)
    if link_type == 192 and int.from_bytes(frame[2:4], "little") >= 8 and frame[4:6] in {b"\x01\x00", b"\x12\x01"}:
        begins = int.from_bytes(frame[2:4], "little") + (8 if frame[5] else 0)
    layer(
        InEthernet(whole.skip(begins)) if begins is not None else lambda: find_link(link_type, whole), 0, 0, -1, 0, True
    )
    return rows


def find_link(link_type: int, s: Span) -> Found:
    if link_type not in LINKS:
        raise Stop(UNSUPPORTED)
    return LINKS[link_type](s)


def header_bytes(version: int, s: Span) -> int:
    if version == 6:
        s.need(40)
        return 40
    size = (s.need(20).data[0] & 15) * 4
    total = s.u(">H", 2) or s.wire
    if size < 20 or total < size:
        raise Stop(MALFORMED)
    return size


MAPPED = 0xFFFF << 32


def ip_header(version: int, size: int, s: Span, row: Row) -> Span | None:
    """Fill ``row``; the transport part, unless there is nothing to go on with."""
    if version == 4:
        total = s.u(">H", 2) or s.wire
        row.src, row.dst = MAPPED | s.u(">I", 12), MAPPED | s.u(">I", 16)
        row.ttl, row.proto, row.ip_id = s.data[8], s.data[9], s.u(">H", 4)
        word = s.u(">H", 6)
        offset, more = (word & 0x1FFF) * 8, word >> 13 & 1
        key = (row.ip_id, row.proto)
    else:
        total = s.u(">H", 4) + 40 if s.u(">H", 4) else s.wire
        row.src, row.dst = (int.from_bytes(s.data[at : at + 16], "big") for at in (8, 24))
        row.ttl, row.proto = s.data[7], s.data[6]
        if any(s.data[at : at + 12] == bytes(10) + b"\xff\xff" for at in (8, 24)):
            row.tunnel_id |= p.MAPPED
        offset = more = 0
        key = (0, 0)
    row.ip_bytes = total
    s = Span(s.data[:total], total)
    if version == 4 and len(s.data) < size:
        row.fragment = 2 if offset else more
        row.stop = TRUNCATED
        return None
    s = base = s.skip(size)
    try:
        if version == 6 or (row.proto == 51 and not offset):
            while True:
                if row.proto in {0, 43, 60} or (row.proto in {135, 139, 140}):
                    if len(s.data) >= 8 and row.proto >= 135 and s.data[0] == 59:
                        break
                    length = (s.data[1] + 1) * 8 if len(s.data) >= 8 else 8
                elif row.proto == 44:
                    length = 8
                elif row.proto == 51:
                    length = (s.data[1] + 2) * 4 if len(s.data) >= 12 else 12
                    if length < 12:
                        raise Stop(MALFORMED)
                else:
                    break
                if len(s.data) < length:
                    raise Stop(MALFORMED if s.wire < length else TRUNCATED)
                was, row.proto = row.proto, s.data[0]
                if was == 44 and version == 6:
                    word, key = s.u(">H", 2), (s.u(">I", 4), s.data[0])
                    row.ip_id = key[0] & 0xFFFF
                    offset, more = word & 0xFFF8, word & 1
                    base = s.skip(length)
                if was == 44 and s.u(">H", 2) & 0xFFF8:
                    s = s.skip(length)
                    break
                s = s.skip(length)
    except Stop as stop:
        row.stop = stop.code
    row.fragment = 2 if offset else more
    if row.stop:
        return None
    if offset:
        row.payload, row.payload_wire_bytes, row.seq = s.data, s.wire, offset
        row.piece = (*key, offset, more)
        return None
    try:
        known = transport(row, s)
    except Stop as stop:
        row.stop, known = stop.code, False
    if more:
        row.piece = (*key, 0, more)
        row.header = base.wire - row.payload_wire_bytes if known and not row.stop else -1
        if row.header >= 0 and row.proto == 17:
            row.header = len(base.data) - len(s.data) + 8
    return s


def options_mark(options: bytes) -> int:
    """A polynomial over the words; the last bit says whether the kinds, one after the other, come to time stamps."""
    mark = 0
    for (word,) in struct.iter_unpack(">I", options):
        mark = (mark * 0x01000193 + word) % 2**32
    left, timed = options, False
    while left and left[0] and not timed:
        if left[0] == 1:
            left = left[1:]
        elif len(left) < 2:
            break
        else:
            timed = left[0] == 8
            left = left[left[1] :] if left[1] >= 2 else b""
    return mark // 2 * 2 + timed


def transport(row: Row, s: Span) -> bool:
    def need(count: int, promised: int | None = None) -> None:
        if len(s.data) < count:
            raise Stop(MALFORMED if s.wire < (promised or count) else TRUNCATED)

    size = 0
    if row.proto == 6:
        need(4)
        row.src_port, row.dst_port = s.u(">H"), s.u(">H", 2)
        if len(s.data) >= 8:
            row.seq = s.u(">I", 4)
        if len(s.data) >= 12:
            row.ack = s.u(">I", 8)
        need(14, 20)
        row.flags = s.data[13]
        if len(s.data) >= 20:
            row.window = s.u(">H", 14)
        size = (s.data[12] >> 4) * 4
        if size < 20:
            raise Stop(MALFORMED)
        if len(s.data) >= size:
            row.mark = options_mark(s.data[20:size])
            if size <= s.wire:
                row.header_bytes = size
                row.urgent = s.u(">H", 18) if row.flags & 0x20 else 0
    elif row.proto in {17, 33, 132, 136}:
        need(4)
        row.src_port, row.dst_port = s.u(">H"), s.u(">H", 2)
        size = {17: 8, 33: 12, 132: 12, 136: 8}[row.proto]
        if row.proto == 33 and len(s.data) >= 12:
            size = max(12, s.data[4] * 4)
        if row.proto == 17 and len(s.data) >= 8:
            claims = s.u(">H", 4)
            if claims > s.wire and not row.fragment:
                row.stop = MALFORMED
            elif claims >= 8:
                s = Span(s.data[:claims], min(s.wire, claims))
            elif claims:
                raise Stop(MALFORMED)
    elif row.proto in {1, 58}:
        need(2, 4)
        row.src_port, row.dst_port = s.data[0], s.data[1]
        size = min(8, max(4, s.wire))
    if size > s.wire:
        raise Stop(MALFORMED)
    row.payload_wire_bytes = s.wire - size
    if size > len(s.data):
        row.stop = TRUNCATED
    else:
        row.payload = s.data[size:]
    return True


# -- tunnels -----------------------------------------------------------------------------------------------------------------------

Step = tuple[Callable[[], Found], int, int, bool]


def inside(row: Row, s: Span) -> list[Step]:
    if row.proto == 17 and row.stop == 0:
        span = Span(row.payload, row.payload_wire_bytes + (0x10000 if row.fragment else 0))
        found = by_port({row.src_port, row.dst_port}, row.dst_port, span)
        return [(found[0], found[1], found[2], False)] if found else []
    if row.proto == 47:
        try:
            found_gre = gre(s)
        except Stop as stop:
            row.stop = stop.code
            return []
        row.stop = 0
        return [(*found_gre, 0, True)] if found_gre else []
    if row.proto in {4, 41, 94}:
        return [(lambda: ip_here(s), p.TUNNEL_IPIP, 0, True)]
    if row.proto == 137:
        return [(lambda: mpls(s), p.TUNNEL_IPIP, 0, True)]
    if row.proto == 97 and s.data[:1] == b"\x30":
        return [(InEthernet(s.skip(2)), p.TUNNEL_IPIP, 0, True)]
    return []


def gre(s: Span) -> tuple[Callable[[], Found], int] | None:
    flags, kind = s.need(4).u(">H"), s.u(">H", 2)
    if flags & 7 > 1:
        raise Stop(MALFORMED)
    size = 4 + 4 * bool(flags & 0xC000) + 4 * bool(flags & 0x2000) + 4 * bool(flags & 0x1000)
    size += 4 * bool(flags & 0x80 and flags & 7 == 1)
    s = s.skip(size)
    if flags & 0x4000:
        entry = 1
        while entry:
            entry = s.need(4).data[3]
            s = s.skip(4 + entry)
    if not s.data:
        return None
    if kind == 0x88BE:
        return InEthernet(s.skip(8 if flags & 0x1000 else 0)), p.TUNNEL_ERSPAN
    if kind == 0x22EB:
        word = s.need(12).u(">H", 10)
        rest = s.skip(20 if word & 1 else 12)
        return (lambda: ip_here(rest)) if word >> 10 & 31 == 2 else InEthernet(rest), p.TUNNEL_ERSPAN
    if kind == 0x883E:
        return (lambda: ip_here(s if s.data[0] >> 4 == 4 else s.skip(4))), p.TUNNEL_GRE
    if kind == 0:
        return None
    return (lambda: ethertype(kind, s)), p.TUNNEL_GRE


def by_port(ports: set[int], to: int, s: Span) -> tuple[Callable[[], Found], int, int] | None:
    data = s.data
    if ports & {4789, 4790, 8472}:
        if len(data) < 8:
            return None
        kind = data[3] if 4790 in ports else 0
        vni = int.from_bytes(data[4:7], "big")
        readers: dict[int, Callable[[Span], Found]] = {
            0: ethernet,
            1: ip_here,
            2: ip_here,
            3: ethernet,
            4: lambda t: ethertype(0x894F, t),
        }
        right = data[0] & 0x7F == 8 if kind == 0 else data[0] & 0x38 == 8
        if not right or kind not in readers:
            return None
        inner = InEthernet(s.skip(8)) if kind in {0, 3} else lambda: readers[kind](s.skip(8))
        return inner, p.TUNNEL_VXLAN, vni
    if 6081 in ports:
        if len(data) < 8 or data[0] & 0xC0:
            return None
        kind = s.u(">H", 2)
        if kind == 0:
            return None
        return (
            lambda: ethertype(kind, s.skip(8 + (data[0] & 63) * 4)),
            p.TUNNEL_GENEVE,
            int.from_bytes(data[4:7], "big"),
        )
    if 2152 in ports:
        if len(data) < 8 or data[0] >> 4 != 3 or data[1] != 255:
            return None
        at = 8 + (4 if data[0] & 7 else 0)
        if data[0] & 4:
            following = data[11] if len(data) >= 12 else 4
            while following:
                if at >= len(data) or data[at] == 0 or at + data[at] * 4 > len(data):
                    return None
                at += data[at] * 4
                following = data[at - 1]
        return (lambda: ip_here(s.skip(at))), p.TUNNEL_GTP, 0
    if 3544 in ports:
        if data[:2] == b"\0\1" and len(data) >= 13:
            s = s.skip(13 + data[2] + data[3])
        if s.data[:2] == b"\0\0" and len(s.data) >= 8:
            s = s.skip(8)
        if s.data and s.data[0] >> 4 == 6:
            return (lambda: ip_here(s)), p.TUNNEL_TEREDO, 0
        return None
    if 1701 in ports:
        flags = s.u(">H") if len(data) >= 6 else 0
        if flags & 15 != 2 or flags & 0x8000:
            return None
        s = s.skip(6 + 2 * bool(flags & 0x4000) + 4 * bool(flags & 0x800))
        if flags & 0x200:
            if len(s.data) < 2:
                return None
            s = s.skip(2 + s.u(">H"))
        return (lambda: ppp(s)), p.TUNNEL_L2TP, 0
    if to == 6635:
        return (lambda: mpls(s)), p.TUNNEL_IPIP, 0
    return None


# -- fragments ---------------------------------------------------------------------------------------------------------------------

PORTED = {1, 6, 17, 33, 51, 58, 60, 132, 136}


@dataclass
class Settler:
    """All fragments are remembered for ever here; bounds and time-outs have their own tests."""

    firsts: dict[Any, Row] = field(default_factory=dict)
    waiting: dict[Any, list[Row]] = field(default_factory=dict)

    def settle(self, rows: list[Row]) -> list[Row]:
        out: list[Row] = []
        for row in rows:
            if row.piece is None or row.piece[1] not in PORTED:
                out.append(row)
                continue
            key = (row.src, row.dst, row.piece[:2], row.tunnel, row.tunnel_id)
            if row.fragment == 2:
                if key in self.firsts:
                    out.append(later(row, self.firsts[key]))
                else:
                    self.waiting.setdefault(key, []).append(replace(row, outer=-1))
                continue
            self.firsts[key] = row
            out.append(replace(row, flags=row.flags & ~1 if row.proto == 6 else row.flags))
            out.extend(later(early, row) for early in self.waiting.pop(key, []))
        return out


def later(row: Row, first: Row) -> Row:
    row = replace(row, src_port=first.src_port, dst_port=first.dst_port, proto=first.proto)
    assert row.piece
    if first.header < 0:
        return replace(row, payload=b"", payload_wire_bytes=0, stop=p.STOP_FRAGMENT)
    _, _, offset, more = row.piece
    place = offset - first.header
    if first.proto != 6:
        return replace(row, seq=place % 2**32)
    return replace(
        row,
        seq=(first.seq + bool(first.flags & 2) + place) % 2**32,
        ack=first.ack,
        window=first.window,
        flags=first.flags & (0x10 if more else 0x11),
    )
