"""Captures once more, as merging, mirrors and several vantage points leave them: packets doubled, out of order, with other headers around them."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from pathlib import Path

from auditor.capture import open_capture

Frame = tuple[int, bytes, int]
"""Time in nanoseconds, what was captured, the length on the wire."""

ETHERNET = 1


def frames_of(path: str | Path) -> tuple[int, list[Frame]]:
    """The link type and all frames of a capture of one link type."""
    frames: list[Frame] = []
    kinds = set()
    with open_capture(str(path)) as reader:
        for batch in reader.batches():
            kinds |= set(batch.link_type.tolist())
            for k in range(len(batch)):
                start, size = int(batch.start[k]), int(batch.caplen_bytes[k])
                frames.append(
                    (int(batch.ts_ns[k]), batch.buf[start : start + size].tobytes(), int(batch.wirelen_bytes[k]))
                )
    if len(kinds) != 1:
        raise ValueError(f"{path}: link types {sorted(kinds)}")
    return int(kinds.pop()), frames


def write(path: Path, link_type: int, frames: Sequence[Frame]) -> Path:
    """A classic pcap with nanoseconds."""
    out = [struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, link_type)]
    for ts_ns, data, wire in frames:
        out.append(struct.pack("<IIII", ts_ns // 10**9, ts_ns % 10**9, len(data), wire) + data)
    path.write_bytes(b"".join(out))
    return path


def elsewhere(data: bytes, rng: random.Random) -> bytes:
    """An Ethernet frame as another place has it: other addresses, perhaps a tag, one hop fewer to live."""
    if len(data) < 34 or data[12:14] != b"\x08\x00" or data[14] >> 4 != 4:
        return data
    packet = bytearray(data[14:])
    packet[8] = max(packet[8] - 1, 1)
    total = sum(struct.unpack(">10H", bytes(packet[:10]) + b"\0\0" + bytes(packet[12:20])))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    if packet[0] & 15 == 5:
        packet[10:12] = struct.pack(">H", total ^ 0xFFFF)
    tag = b"\x81\x00\x00\x07" if rng.random() < 0.5 else b""
    return rng.randbytes(12) + tag + b"\x08\x00" + bytes(packet)


def doubled(
    frames: Sequence[Frame], rng: random.Random, *, link_type: int = ETHERNET, within_ms: int = 50
) -> list[Frame]:
    """Every frame twice, the second one later by up to that much and half of them seen elsewhere; the order of all is off by as much."""
    moved = []
    for ts_ns, data, wire in frames:
        copy = elsewhere(data, rng) if link_type == ETHERNET and rng.random() < 0.5 else data
        late = ts_ns + rng.randrange(within_ms * 10**6)
        moved.append((ts_ns + rng.randrange(within_ms * 10**6), (ts_ns, data, wire)))
        moved.append((late + rng.randrange(within_ms * 10**6), (late, copy, wire + len(copy) - len(data))))
    return [frame for _, frame in sorted(moved, key=lambda each: each[0])]
