"""Naive twins of the readers: a whole capture in memory, parsed with struct, one record after the other."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

MAX_NS = 9_000_000_000 * 10**9
NUMBERED = {9, 0x204, 0x216, 0x221, 0xBAD, 0x40000BAD}
"""Blocks that Wireshark counts and that are no packets."""


@dataclass
class Frame:
    ts_ns: int
    wirelen: int
    data: bytes
    vantage: int
    link_type: int
    number: int = 0


@dataclass
class Parsed:
    """``ended``: None, truncated, corrupt, or another kind of Problem; ``offset`` of the record at which it ended."""

    frames: list[Frame] = field(default_factory=list)
    number: int = 0
    """Of the latest frame, as Wireshark counts."""
    ended: str | None = None
    offset: int | None = None
    dropped: int | None = None
    link_types: list[int] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)


def parse_pcap(data: bytes, max_frame: int = 16 * 2**20) -> Parsed:
    out = Parsed()
    order = "<" if data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1", b"\x34\xcd\xb2\xa1") else ">"
    magic, major, minor, _, _, _, link = struct.unpack(order + "IHHIIII", data[:24])
    unit = 1 if magic == 0xA1B23C4D else 1000
    header = 24 if magic == 0xA1B2CD34 else 16
    out.link_types.append(link & 0xFFFF)
    at = 24
    while at < len(data):
        if at + header > len(data):
            out.ended, out.offset = "truncated", at
            break
        sec, frac, first, second = struct.unpack_from(order + "IIII", data, at)
        caplen, wirelen = first, second
        if (major, minor) == (543, 0) or (major == 2 and minor < 3) or ((major, minor) == (2, 3) and first > second):
            caplen, wirelen = second, first
        if caplen > max_frame:
            out.ended, out.offset = "corrupt", at
            break
        body = data[at + header : at + header + caplen]
        if len(body) < caplen:
            out.ended, out.offset = "truncated", at
            break
        out.number += 1
        stamp = sec * 10**9 + frac * unit
        out.frames.append(Frame(stamp, max(wirelen, caplen), body, 0, link & 0xFFFF, out.number))
        at += header + caplen
    return out


def stamp_ns(stamp: int, tsresol: int, tsoffset: int) -> int:
    exponent = tsresol & 0x7F
    ns = stamp * 10**9 >> exponent if tsresol & 0x80 else stamp * 10**9 // 10**exponent
    shift = max(-9 * 10**9, min(9 * 10**9, tsoffset)) * 10**9
    return max(0, min(min(ns, MAX_NS) + shift, MAX_NS))


@dataclass
class _Interface:
    vantage: int
    link_type: int
    snaplen: int
    tsresol: int = 6
    tsoffset: int = 0
    isb: int | None = None
    lost: int | None = None


def _options(order: str, data: bytes) -> list[tuple[int, bytes]]:
    found = []
    at = 0
    while at + 4 <= len(data):
        code, size = struct.unpack_from(order + "HH", data, at)
        value = data[at + 4 : at + 4 + size]
        if code == 0 or len(value) < size:
            break
        found.append((code, value))
        at += 4 + (size + 3) // 4 * 4
    return found


def parse_pcapng(data: bytes, max_frame: int = 16 * 2**20) -> Parsed:
    out = Parsed()
    order = "<"
    interfaces: list[_Interface] = []
    every: list[_Interface] = []
    latest = 0
    at = 0
    while at < len(data):
        left = len(data) - at
        if left < 12:
            out.ended = "truncated"
            break
        section = data[at : at + 4] == b"\n\r\r\n"
        if section:
            if left < 28:
                out.ended = "truncated"
                break
            mark = data[at + 8 : at + 12]
            if mark not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                out.ended = "corrupt"
                break
            order = "<" if mark == b"\x4d\x3c\x2b\x1a" else ">"
            interfaces = []
        kind, size = struct.unpack_from(order + "II", data, at)
        least = {0x0A0D0D0A: 28, 1: 20, 2: 32, 3: 16, 5: 24, 6: 32}.get(kind, 12)
        if size < 12 or size % 4 or size < least:
            out.ended = "corrupt"
            break
        if section and struct.unpack_from(order + "H", data, at + 12)[0] != 1:
            out.ended = "unsupported"
            break
        if kind in (1, 5) and size > 16 * 2**20:
            out.ended = "limit"
            break
        caplen = wirelen = which = 0
        if kind in (2, 6, 3):
            header = 12 if kind == 3 else 28
            if left < header:
                out.ended = "truncated"
                break
            fields = struct.unpack_from(order + {2: "HHIIII", 6: "IIIII", 3: "I"}[kind], data, at + 8)
            which = 0 if kind == 3 else fields[0]
            if which >= len(interfaces):
                out.ended = "corrupt"
                break
            room = size - header - 4
            if kind == 3:
                wirelen = fields[0]
                caplen = min(wirelen, room, interfaces[0].snaplen or room)
            else:
                caplen, wirelen = fields[-2:]
                if caplen > room:
                    out.ended = "corrupt"
                    break
            if caplen > max_frame:
                out.ended = "corrupt"
                break
            if size > max_frame + 2**20 and size > left:
                out.ended = "corrupt"
                break
        if size > left:
            out.ended = "truncated"
            break
        block = data[at : at + size]
        if struct.unpack(order + "I", block[-4:])[0] != size:
            out.ended = "corrupt"
            break
        if kind == 1:
            link, _, snaplen = struct.unpack_from(order + "HHI", block, 8)
            new = _Interface(len(every), link, snaplen)
            name = None
            for code, value in _options(order, block[16:-4]):
                if code == 2:
                    name = value.rstrip(b"\0").decode("utf-8", "replace")[:256]
                if code == 9 and len(value) == 1:
                    new.tsresol = value[0]
                if code == 14 and len(value) == 8:
                    new.tsoffset = struct.unpack(order + "q", value)[0]
            interfaces.append(new)
            every.append(new)
            out.link_types.append(link)
            out.names.append(name)
        elif kind == 5:
            which = struct.unpack_from(order + "I", block, 8)[0]
            drops = [
                struct.unpack(order + "Q", v)[0]
                for c, v in _options(order, block[20:-4])
                if c in (5, 7) and len(v) == 8
            ]
            if drops and which < len(interfaces):
                interfaces[which].isb = sum(drops)
        elif kind in NUMBERED:
            out.number += 1
        elif kind in (2, 3, 6):
            out.number += 1
            owner = interfaces[which]
            header = 12 if kind == 3 else 28
            if kind != 3:
                high, low = struct.unpack_from(order + "II", block, 12)
                latest = stamp_ns(high << 32 | low, owner.tsresol, owner.tsoffset)
            lost = None
            if kind == 2 and fields[1] != 0xFFFF:
                lost = fields[1]
            if kind == 6:
                counts = [
                    struct.unpack(order + "Q", v)[0]
                    for c, v in _options(order, block[28 + (caplen + 3) // 4 * 4 : -4])
                    if c == 4 and len(v) == 8
                ]
                lost = min(counts[0], MAX_NS) if counts else None
            if lost is not None:
                owner.lost = min((owner.lost or 0) + lost, MAX_NS)
            out.frames.append(
                Frame(
                    latest,
                    max(wirelen, caplen),
                    block[header : header + caplen],
                    owner.vantage,
                    owner.link_type,
                    out.number,
                )
            )
        at += size
    if out.ended:
        out.offset = at
    said = [each.isb if each.isb is not None else each.lost for each in every]
    known = [each for each in said if each is not None]
    out.dropped = sum(known) if known else None
    return out
