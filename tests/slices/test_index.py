"""The index finds what reading all finds, and nothing of another file."""

from __future__ import annotations

import gzip
import os
import struct
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from auditor.capture import open_capture, reopen_capture
from auditor.capture.reader import Place
from auditor.model.limits import Limits
from auditor.slices import index as indexes

SMALL = Limits(buffer_bytes=64 * 1024)
"""Many blocks from a small capture."""


@cache
def _template(port: int) -> bytes:
    return bytes(Ether() / IP(src="10.0.0.1", dst="10.0.0.2") / TCP(sport=port, dport=443) / bytes(200))


def _tcp(number: int, port: int) -> bytes:
    """One of a connection's segments; the number stands in its last bytes."""
    return _template(port)[:-4] + struct.pack(">I", number)


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    # One pair talks everywhere, one near the start and the end only.
    return [_tcp(i, 2000 if i % 3 else 1000 if i < 300 or i > 3600 else 1001) for i in range(4000)]


@pytest.fixture(scope="module", params=["pcap", "pcapng"])
def capture(request, frames, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("index") / f"a.{request.param}"
    if request.param == "pcap":
        body = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
        for i, data in enumerate(frames):
            body += struct.pack("<IIII", 1000 + i, 0, len(data), len(data)) + data
    else:
        body = b""
        for i, data in enumerate(frames):
            if i in (0, 1500):  # a second section in the middle, with interfaces of its own
                body += struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
                body += struct.pack("<IIHHII", 1, 20, 1, 0, 0, 20) * (1 + i // 1500)
            stamp, pad = (1000 + i) * 10**6, -len(data) % 4
            size = 32 + len(data) + pad
            body += struct.pack(
                "<IIIIIII", 6, size, i // 1500 and 1, stamp >> 32, stamp & 0xFFFFFFFF, len(data), len(data)
            )
            body += data + bytes(pad) + struct.pack("<I", size)
    path.write_bytes(body)
    return path


def _pair(port: int) -> int:
    def at(text: str) -> int:
        return 0xFFFF << 32 | int.from_bytes(bytes(map(int, text.split("."))), "big")

    return indexes.pair_number((at("10.0.0.1"), port), (at("10.0.0.2"), 443), 6)


def test_the_number_of_a_pair_is_the_same_both_ways():
    one, other = (5 << 64 | 7, 80), (9, 1234)
    assert indexes.pair_number(one, other, 6) == indexes.pair_number(other, one, 6)
    assert (
        len(
            {
                indexes.pair_number(one, other, 6),
                indexes.pair_number(one, other, 17),
                indexes.pair_number((one[0], 81), other, 6),
            }
        )
        == 3
    )
    # Type and code of ICMP differ each way.
    assert indexes.pair_number((5, 8), (9, 0), 1) == indexes.pair_number((5, 0), (9, 3), 1)


def test_every_block_can_be_read_by_itself(capture, frames):
    index = indexes.make(capture, limits=SMALL)
    assert len(index.blocks) > 5
    numbers = []
    for _, batch, rows in indexes.read_blocks(capture, index, reversed(index.blocks), limits=SMALL):
        for row in np.concatenate(rows):
            number = int(row["frame"])
            numbers.append(number)
            at = number - batch.first_frame_no
            start = int(batch.start[at])
            assert batch.buf[start : start + int(batch.caplen_bytes[at])].tobytes() == frames[number - 1]
            assert int(batch.ts_ns[at]) == (1000 + number - 1) * 10**9
    assert sorted(numbers) == list(range(1, len(frames) + 1))


def test_only_blocks_that_may_hold_a_pair_are_named(capture, frames):
    index = indexes.make(capture, limits=SMALL)
    everywhere = (0, 10**19)
    rare = index.where(np.array([_pair(1000)], np.uint64), [everywhere])
    common = index.where(np.array([_pair(2000)], np.uint64), [everywhere])
    assert 0 < len(rare) < len(common) == len(index.blocks)
    assert index.where(np.array([_pair(3000)], np.uint64), [everywhere]) == []
    early = index.where(np.array([_pair(2000)], np.uint64), [(0, 1010 * 10**9)])
    assert [block.place.frames_before for block in early] == [0]


def test_it_is_kept_and_given_up_when_the_file_changes(capture, tmp_path):
    made = indexes.make(capture, limits=SMALL)
    indexes.save(made, capture, tmp_path)
    kept = indexes.load(capture, tmp_path)
    assert kept is not None
    assert [block.place for block in kept.blocks] == [block.place for block in made.blocks]
    assert all(np.array_equal(a.pairs, b.pairs) for a, b in zip(kept.blocks, made.blocks, strict=True))
    assert oct(next(tmp_path.iterdir()).stat().st_mode)[-2:] in ("44", "00", "40")
    assert indexes.load(capture, tmp_path, link_type=101) is None
    copy = tmp_path / "changed" / capture.name
    copy.parent.mkdir()
    copy.write_bytes(capture.read_bytes())
    indexes.save(indexes.make(copy, limits=SMALL), copy, tmp_path)
    assert indexes.load(copy, tmp_path) is not None
    with copy.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\x7f")
    assert indexes.load(copy, tmp_path) is None


def test_a_damaged_index_is_none(capture, tmp_path):
    indexes.save(indexes.make(capture, limits=SMALL), capture, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for damaged in (b"", b"PK", whole[: len(whole) // 2], whole[:100] + bytes(100) + whole[200:]):
        file.write_bytes(damaged)
        found = indexes.load(capture, tmp_path)
        assert found is None or len(found.blocks) > 5


def test_a_folder_that_cannot_be_written_costs_nothing(capture):
    indexes.save(indexes.make(capture, limits=SMALL), capture, Path(os.devnull) / "x")


def test_a_compressed_capture_has_no_places(capture, tmp_path):
    packed = tmp_path / "a.gz"
    packed.write_bytes(gzip.compress(capture.read_bytes(), 1))
    assert indexes.make(packed).blocks == ()


def test_frames_are_counted_once(capture):
    with open_capture(capture) as reader:
        next(iter(reader.batches()))
        with pytest.raises(RuntimeError):
            reader.number_from(3)
    with reopen_capture(capture, Place(0, 0, b"")) as reader:
        assert next(iter(reader.batches())).first_frame_no == 1
