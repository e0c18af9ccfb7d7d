"""Mutations that know what a capture is made of: so that damage lies in one place, and the rest still leads there.

A capture is records, a record is layers with lengths. What is done to them: bytes flipped, records cut, spliced with others, doubled and
exchanged, length fields that lie, packets wrapped in tunnels again and again. All choices come from a ``random.Random``: the same
seed does the same.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence

from tests.fuzz.targets import frames_of, pack_frames

INTERESTING = (
    0,
    1,
    2,
    3,
    4,
    7,
    8,
    15,
    16,
    19,
    20,
    31,
    32,
    63,
    64,
    127,
    128,
    255,
    256,
    1023,
    1024,
    4095,
    0x7FFF,
    0x8000,
    0xFFFF,
)
WIDE = (0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0xFFFF_FFFE, 0x1_0000, 0x100_0000)
WORDS = (
    b"\x16\x03\x01",
    b"SSH-2.0-",
    b"HTTP/1.1 ",
    b"\r\n\r\n",
    b"INFO {",
    b"CONNECT {",
    b"\x0a\x0d\x0d\x0a",
    b"\x28\xb5\x2f\xfd",
    b"\x1f\x8b\x08",
)

Random = random.Random


def flip(rng: Random, data: bytes) -> bytes:
    """Some bits of some bytes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if out:
            out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(rng: Random, data: bytes) -> bytes:
    """The beginning, or all but a stretch."""
    if not data:
        return data
    start = rng.randrange(len(data))
    return data[:start] if rng.random() < 0.5 else data[:start] + data[start + rng.randint(1, 64) :]


def lie(rng: Random, data: bytes) -> bytes:
    """A number of 1, 2 or 4 bytes somewhere becomes one at which things end."""
    size = rng.choice((1, 2, 2, 4))
    if len(data) < size:
        return data
    at = rng.randrange(len(data) - size + 1)
    value = rng.choice(INTERESTING + (WIDE if size == 4 else ())) & ((1 << 8 * size) - 1)
    return data[:at] + value.to_bytes(size, rng.choice(("big", "little"))) + data[at + size :]


def insert(rng: Random, data: bytes) -> bytes:
    """Bytes that were not there."""
    at = rng.randint(0, len(data))
    return (
        data[:at]
        + rng.choice((rng.randbytes(rng.randint(1, 16)), rng.choice(WORDS), bytes(rng.randint(1, 64))))
        + data[at:]
    )


PLAIN: tuple[Callable[[Random, bytes], bytes], ...] = (flip, flip, cut, lie, lie, insert)


def splice(rng: Random, data: bytes, other: bytes) -> bytes:
    """The beginning of one and the end of the other."""
    return data[: rng.randint(0, len(data))] + other[rng.randint(0, len(other)) :]


# Packets -------------------------------------------------------------------------------------------------------------


def _ipv4(protocol: int, body: bytes) -> bytes:
    total = min(20 + len(body), 0xFFFF)
    return struct.pack(">BBHHHBBH", 0x45, 0, total, 7, 0, 64, protocol, 0) + b"\x0a\x00\x00\x01\x0a\x00\x00\x02" + body


def _udp(port: int, body: bytes) -> bytes:
    return struct.pack(">HHHH", 50_000, port, min(8 + len(body), 0xFFFF), 0) + body


def nest(rng: Random, frame: tuple[int, bytes]) -> tuple[int, bytes]:
    """An Ethernet frame with its packet inside one more tunnel or tag."""
    link, data = frame
    if link != 1 or len(data) < 14:
        return frame
    ends, kind, packet = data[:12], data[12:14], data[14:]
    ethernet = ends + b"\x08\x00"
    how = rng.randrange(9)
    if how == 0:
        return link, ethernet + _ipv4(4 if kind == b"\x08\x00" else 41, packet)
    if how == 1:
        return link, ethernet + _ipv4(47, b"\0\0" + kind + packet)
    if how == 2:
        return link, ethernet + _ipv4(17, _udp(4789, b"\x88\0\0\5\0\0\x07\0" + data))
    if how == 3:
        return link, ethernet + _ipv4(17, _udp(6081, b"\0\0\x65\x58\0\0\x07\0" + data))
    if how == 4:
        return link, ends + b"\x81\x00\x00\x05" + kind + packet
    if how == 5:
        return link, ends + b"\x88\x47" + b"\0\x01\x01\x40" + packet
    if how == 6:
        return link, ends + b"\x88\x64\x11\0\0\1" + struct.pack(">H", min(len(packet) + 2, 0xFFFF)) + b"\0\x21" + packet
    if how == 7:
        return link, ethernet + _ipv4(
            17, _udp(2152, struct.pack(">BBHI", 0x30, 255, min(len(packet), 0xFFFF), 9) + packet)
        )
    half = len(packet) // 2 // 8 * 8
    return link, ethernet + struct.pack(">BBHHHBBH", 0x45, 0, 20 + half, 9, 0x2000, 64, 17, 0) + bytes(8) + packet[
        :half
    ]


def of_frames(rng: Random, frames: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """One change to a sequence of frames."""
    if not frames:
        return [(1, rng.randbytes(60))]
    at, to = rng.randrange(len(frames)), rng.randrange(len(frames))
    link, data = frames[at]
    how = rng.randrange(8)
    out = list(frames)
    if how == 0:
        out[at] = nest(rng, frames[at])
        while rng.random() < 0.5:
            out[at] = nest(rng, out[at])
    elif how == 1:
        out.insert(to, frames[at])
    elif how == 2:
        out[at], out[to] = out[to], out[at]
    elif how == 3:
        del out[at]
    elif how == 4:
        out[at] = (
            rng.choice((0, 1, 9, 12, 50, 51, 101, 104, 105, 107, 108, 113, 117, 127, 228, 229, 239, 253, 276)),
            data,
        )
    elif how == 5:
        out[at] = (link, splice(rng, data, frames[to][1]))
    else:
        out[at] = (link, rng.choice(PLAIN)(rng, data))
    return out


# Containers ----------------------------------------------------------------------------------------------------------


def pcap_records(data: bytes) -> tuple[bytes, list[bytes]] | None:
    """File header and records of a plain little-endian pcap; None: it is none."""
    if data[:4] not in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") or len(data) < 24:
        return None
    records, at = [], 24
    while at + 16 <= len(data):
        size = int.from_bytes(data[at + 8 : at + 12], "little")
        records.append(data[at : at + 16 + size])
        at += 16 + size
    return data[:24], records


def pcapng_blocks(data: bytes) -> list[bytes] | None:
    """Blocks of a little-endian pcapng; None: it is none."""
    if data[:4] != b"\x0a\x0d\x0d\x0a" or data[8:12] != b"\x4d\x3c\x2b\x1a":
        return None
    blocks, at = [], 0
    while at + 12 <= len(data):
        size = max(int.from_bytes(data[at + 4 : at + 8], "little"), 12)
        blocks.append(data[at : at + size])
        at += size
    return blocks


def _of_records(rng: Random, records: Sequence[bytes], header: int) -> list[bytes]:
    """One change to records that each begin with a header of so many bytes."""
    out = list(records)
    if not out:
        return out
    at, to = rng.randrange(len(out)), rng.randrange(len(out))
    how = rng.randrange(6)
    if how == 0:
        out.insert(to, out[at])
    elif how == 1:
        out[at], out[to] = out[to], out[at]
    elif how == 2:
        del out[at]
    elif how == 3:
        out[at] = lie(rng, out[at][:header]) + out[at][header:]
    elif how == 4:
        changed = of_frames(rng, [(1, out[at][header:])])
        body = changed[0][1] if changed else b""
        out[at] = out[at][:8] + len(body).to_bytes(4, "little") * 2 + body if header == 16 else out[at][:header] + body
    else:
        out[at] = rng.choice(PLAIN)(rng, out[at])
    return out


def capture(rng: Random, data: bytes) -> bytes:
    """One change to a capture, in what it is made of where that is known."""
    if rng.random() < 0.2:
        return rng.choice(PLAIN)(rng, data)
    split = pcap_records(data)
    if split is not None:
        head, records = split
        if rng.random() < 0.1:
            head = rng.choice((flip, lie))(rng, head)
        return head + b"".join(_of_records(rng, records, 16))
    blocks = pcapng_blocks(data)
    if blocks is not None:
        return b"".join(_of_records(rng, blocks, rng.choice((8, 12, 28))))
    return rng.choice(PLAIN)(rng, data)


def frames(rng: Random, data: bytes) -> bytes:
    """One change to packed frames."""
    return rng.choice(PLAIN)(rng, data) if rng.random() < 0.15 else pack_frames(of_frames(rng, frames_of(data)))


def talk(rng: Random, data: bytes) -> bytes:
    """One change to a conversation: of its flags, where its sides meet, or what they say."""
    how = rng.randrange(6)
    if how == 0 and data:
        return bytes([rng.randrange(256)]) + data[1:]
    if how == 1 and len(data) >= 3:
        return data[:1] + rng.randint(0, len(data)).to_bytes(2, "big") + data[3:]
    return data[:3] + rng.choice(PLAIN)(rng, data[3:])


def text(rng: Random, data: bytes) -> bytes:
    """One change to a text: bytes, or whole lines."""
    lines = data.splitlines(keepends=True)
    if len(lines) < 2 or rng.random() < 0.5:
        return rng.choice(PLAIN)(rng, data)
    at, to = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.randrange(5)
    if how == 0:
        lines.insert(to, lines[at])
    elif how == 1:
        del lines[at]
    elif how == 2:
        lines[at] = b" " * rng.randint(1, 9) + lines[at]
    elif how == 3:
        key, colon, _ = lines[at].partition(b":")
        lines[at] = (
            key
            + colon
            + b" "
            + rng.choice((b"[]", b"{}", b"null", b"-1", b"1e999", b"&a [*a]", b"!!python/none", b"2001-99-99", b"'"))
            + b"\n"
        )
    else:
        lines[at] = lines[at].replace(b": ", b": {a: ", 1)
    return b"".join(lines)


BY_KIND: dict[str, Callable[[Random, bytes], bytes]] = {
    "capture": capture,
    "frames": frames,
    "talk": talk,
    "text": text,
    "lines": text,
}


def mutate(kind: str, data: bytes, seed: int, others: Sequence[bytes] = ()) -> bytes:
    """One to four changes that fit the kind of input; now and then a splice with another."""
    rng = Random(seed)
    if others and rng.random() < 0.1:
        data = splice(rng, data, rng.choice(others))
    for _ in range(rng.choice((1, 1, 2, 4))):
        data = BY_KIND[kind](rng, data)
    return data
