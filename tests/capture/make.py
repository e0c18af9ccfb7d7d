"""Captures made byte by byte, the way the drafts draw them; and how to read one to its end."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO, cast

from auditor.capture import open_capture
from auditor.model.frames import Capture
from tests.naive_load import Frame

ETHERNET = 1


def pcap(
    records: Sequence[tuple[int, int, bytes] | tuple[int, int, bytes, int]] = (),
    *,
    order: str = "<",
    magic: int = 0xA1B2C3D4,
    version: tuple[int, int] = (2, 4),
    link: int = ETHERNET,
    snaplen: int = 262144,
) -> bytes:
    """Records are (seconds, fraction, data[, length on the wire])."""
    out = [struct.pack(order + "IHHiIII", magic, *version, 0, 0, snaplen, link)]
    for sec, frac, data, *wire in records:
        out.append(struct.pack(order + "IIII", sec, frac, len(data), wire[0] if wire else len(data)))
        if magic == 0xA1B2CD34:
            out.append(struct.pack(order + "IHBB", 3, 0x0800, 0, 0))
        out.append(data)
    return b"".join(out)


class Blocks:
    """A pcapng, block by block."""

    def __init__(self, order: str = "<") -> None:
        self.order = order
        self.bytes = b""

    def block(self, kind: int, body: bytes) -> Blocks:
        size = 12 + len(body)
        self.bytes += struct.pack(self.order + "II", kind, size) + body + struct.pack(self.order + "I", size)
        return self

    def options(self, given: dict[int, bytes]) -> bytes:
        out = b""
        for code, value in given.items():
            out += struct.pack(self.order + "HH", code, len(value)) + value + bytes(-len(value) % 4)
        return out + (struct.pack(self.order + "HH", 0, 0) if given else b"")

    def section(self, order: str | None = None, major: int = 1, minor: int = 0) -> Blocks:
        self.order = order or self.order
        return self.block(0x0A0D0D0A, struct.pack(self.order + "IHHq", 0x1A2B3C4D, major, minor, -1))

    def interface(self, link: int = ETHERNET, snaplen: int = 0, **options: Any) -> Blocks:
        given: dict[int, bytes] = {}
        if "name" in options:
            given[2] = options["name"].encode()
        if "description" in options:
            given[3] = options["description"].encode()
        if "tsresol" in options:
            given[9] = bytes([options["tsresol"]])
        if "tsoffset" in options:
            given[14] = struct.pack(self.order + "q", options["tsoffset"])
        return self.block(1, struct.pack(self.order + "HHI", link, 0, snaplen) + self.options(given))

    def enhanced(
        self, stamp: int, data: bytes, which: int = 0, wire: int | None = None, lost: int | None = None
    ) -> Blocks:
        head = struct.pack(
            self.order + "IIIII", which, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data) if wire is None else wire
        )
        given = {} if lost is None else {2: b"\1\0\0\0", 4: struct.pack(self.order + "Q", lost)}
        return self.block(6, head + data + bytes(-len(data) % 4) + self.options(given))

    def old_packet(self, stamp: int, data: bytes, which: int = 0, lost: int = 0xFFFF) -> Blocks:
        head = struct.pack(self.order + "HHIIII", which, lost, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data))
        return self.block(2, head + data + bytes(-len(data) % 4))

    def simple(self, data: bytes, wire: int | None = None) -> Blocks:
        return self.block(
            3, struct.pack(self.order + "I", len(data) if wire is None else wire) + data + bytes(-len(data) % 4)
        )

    def statistics(self, which: int, **counters: int) -> Blocks:
        codes = {"ifrecv": 4, "ifdrop": 5, "osdrop": 7}
        given = {codes[name]: struct.pack(self.order + "Q", value) for name, value in counters.items()}
        return self.block(5, struct.pack(self.order + "III", which, 0, 0) + self.options(given))


class Trickle:
    """A pipe: cannot seek, and gives between 1 and ``most`` bytes a read."""

    def __init__(self, data: bytes, most: int = 1_000, seed: float = 0) -> None:
        self._data = io.BytesIO(data)
        self._random = random.Random(seed)
        self._most = most

    def readinto(self, view: memoryview) -> int:
        return self._data.readinto(view[: self._random.randint(1, self._most)])


def read(source: Any, **options: Any) -> tuple[list[Frame], Capture]:
    """All frames, copied, and the summary. Bytes stand for an open file that holds them."""
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    frames: list[Frame] = []
    with open_capture(cast(BinaryIO, source), **options) as reader:
        for batch in reader.batches():
            assert batch.first_frame_no > (frames[-1].number if frames else 0)
            assert [batch.place(each) for each in batch.numbers.tolist()] == list(range(len(batch)))
            assert batch.buf.size - batch.used_bytes >= 65_536
            for i in range(len(batch)):
                start, end = int(batch.start[i]), int(batch.start[i] + batch.caplen_bytes[i])
                assert 0 <= start <= end <= batch.used_bytes
                frames.append(
                    Frame(
                        int(batch.ts_ns[i]),
                        int(batch.wirelen_bytes[i]),
                        batch.buf[start:end].tobytes(),
                        int(batch.interface[i]),
                        int(batch.link_type[i]),
                        int(batch.numbers[i]),
                    )
                )
        return frames, reader.summary()
