"""Packets kept within a size."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest

from auditor.capture import open_capture
from auditor.capture.ring import FILES, LEAST_BYTES, Ring
from auditor.errors import ConfigError
from auditor.model.frames import FrameBatch

SIZE = FILES * LEAST_BYTES


def batch(payloads: list[bytes], first: int = 1) -> FrameBatch:
    sizes = np.array([len(each) for each in payloads], np.int64)
    buf = np.frombuffer(b"".join(payloads) or b"\0", np.uint8).copy()
    start = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64) if payloads else np.zeros(0, np.int64)
    n = len(payloads)
    times = np.arange(first, first + n, dtype=np.int64) * 1_000_000_007
    zeros = np.zeros(n, np.int32)
    return FrameBatch(buf, buf.size, start, sizes, sizes + 5, times, zeros, zeros + 1, first)


def frames(path):
    with open_capture(path) as reader:
        for found in reader.batches():
            for at, size, wire, ts in zip(
                found.start, found.caplen_bytes, found.wirelen_bytes, found.ts_ns, strict=True
            ):
                yield int(ts), int(wire), found.buf[at : at + size].tobytes()


def test_what_was_written_is_read_again(tmp_path):
    ring = Ring(tmp_path / "ring", SIZE)
    writer = ring.writer("0-ssh://cell/eth0")
    payloads = [os.urandom(size) for size in (60, 0, 1514, 9000)]
    given = batch(payloads)
    writer.write(given, given.link_type)
    writer.close()
    (file,) = (tmp_path / "ring").iterdir()
    assert file.name == "0-ssh-cell-eth0.000001.pcap"
    assert file.stat().st_mode & 0o777 == 0o600
    found = list(frames(file))
    assert [data for _, _, data in found] == payloads
    assert [ts for ts, _, _ in found] == given.ts_ns.tolist()
    assert [wire for _, wire, _ in found] == [len(each) + 5 for each in payloads]


def test_each_link_type_has_its_own_file(tmp_path):
    ring = Ring(tmp_path, SIZE)
    writer = ring.writer("a")
    given = batch([b"ethernet", b"cooked", b"more"])
    writer.write(given, np.array([1, 113, 1], np.int32))
    writer.close()
    kinds = {}
    for file in tmp_path.iterdir():
        kinds[struct.unpack_from("<I", file.read_bytes(), 20)[0]] = [data for _, _, data in frames(file)]
    assert kinds == {1: [b"ethernet", b"more"], 113: [b"cooked"]}


def test_the_oldest_goes_when_the_room_is_needed_and_the_newest_is_there(tmp_path):
    ring = Ring(tmp_path, SIZE)
    writer, other = ring.writer("a"), ring.writer("b")
    sent = []
    for number in range(4 * SIZE // 1_016):
        payload = struct.pack(">I", number) * 250
        (writer if number % 2 else other).write(batch([payload], number + 1), np.ones(1, np.int32))
        sent.append(payload)
        if number % 500 == 0:
            assert sum(each.stat().st_size for each in tmp_path.iterdir()) <= SIZE
    writer.close()
    other.close()
    files = sorted(tmp_path.iterdir(), key=lambda each: each.name.split(".")[1])
    assert sum(each.stat().st_size for each in files) <= SIZE
    kept = sorted(data for each in files for _, _, data in frames(each))
    assert kept == sent[-len(kept) :], "the newest packets, without a hole"
    assert len(kept) * 1_016 > SIZE * 0.7
    assert ring.removed_files > 0
    assert all(each.stat().st_size <= ring.file_bytes for each in files)


def test_a_ring_goes_on_where_the_last_one_ended(tmp_path):
    for number in range(2):
        writer = Ring(tmp_path, SIZE).writer("a")
        given = batch([b"run %d" % number])
        writer.write(given, given.link_type)
        writer.close()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.000001.pcap", "a.000002.pcap"]


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not delete")
    with pytest.raises(ConfigError, match="other files"):
        Ring(tmp_path, SIZE)


def test_a_ring_too_small_to_keep_anything_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="too small"):
        Ring(tmp_path, SIZE - 1)


def test_a_full_disk_ends_the_keeping_and_nothing_else(tmp_path, monkeypatch):
    ring = Ring(tmp_path, SIZE)
    writer = ring.writer("a")
    given = batch([b"one"])
    writer.write(given, given.link_type)
    (descriptor,) = (file for _, file, _ in writer._open.values())
    descriptor.close()
    read_only = os.open(tmp_path / "a.000001.pcap", os.O_RDONLY)
    writer._open[1] = (*list(writer._open[1])[:1], os.fdopen(read_only, "rb", buffering=0), 24)
    writer.write(given, given.link_type)
    assert writer.failed is not None
    assert "no longer kept" in writer.failed
    writer.write(given, given.link_type)
