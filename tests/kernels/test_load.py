"""The walking kernels against plain parsers, compiled and interpreted."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.kernels import load
from tests.capture.make import Blocks, pcap
from tests.naive_load import parse_pcap, stamp_ns

MAX_FRAME = 1_000

forms = pytest.mark.parametrize(
    "form", [lambda kernel: kernel, lambda kernel: getattr(kernel, "py_func", kernel)], ids=["compiled", "plain"]
)
Form = Callable[[Any], Any]


def columns(room: int) -> list[Any]:
    return [np.full(room, -7, np.int64) for _ in range(4)]


def buffer_of(data: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(data + bytes(8), np.uint8).copy()


records = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=80), st.integers(0, 2**32 - 1)),
    max_size=12,
)


def walk_all(form: Form, data: bytes, room: int) -> tuple[list[tuple[int, int, int, bytes]], int, int]:
    """What the kernel takes from a whole pcap, ``room`` frames a call; then where and why it stopped."""
    buf = buffer_of(data)
    words = load.overlapping_words(buf)
    little = data[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1", b"\x34\xcd\xb2\xa1")
    magic = int.from_bytes(data[:4], "little" if little else "big")
    header = 24 if magic == 0xA1B2CD34 else 16
    major, minor = struct.unpack_from("<HH" if little else ">HH", data, 4)
    lengths = {(2, 2): load.LENGTHS_WIRE_FIRST, (2, 3): load.LENGTHS_EITHER}.get((major, minor), 0)
    start, caplen, wirelen, ts_ns = columns(room)
    found = []
    at, stop = 24, load.STOP_FULL
    while stop == load.STOP_FULL:
        count, at, stop = form(load.walk_pcap)(
            words,
            at,
            len(data),
            not little,
            magic == 0xA1B23C4D,
            header,
            lengths,
            MAX_FRAME,
            start,
            caplen,
            wirelen,
            ts_ns,
        )
        found += [
            (int(ts_ns[i]), int(wirelen[i]), int(start[i]), data[start[i] : start[i] + caplen[i]]) for i in range(count)
        ]
    return found, int(at), int(stop)


@forms
@given(
    records=records,
    order=st.sampled_from("<>"),
    magic=st.sampled_from([0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34]),
    minor=st.sampled_from([2, 3, 4]),
    cut=st.integers(0, 200),
    flips=st.lists(st.tuples(st.integers(24, 2_000), st.integers(0, 255)), max_size=3),
    room=st.integers(1, 5),
)
def test_pcap_records_are_what_a_plain_parser_finds(
    form: Form, records: Any, order: str, magic: int, minor: int, cut: int, flips: Any, room: int
) -> None:
    data = bytearray(pcap(records, order=order, magic=magic, version=(2, minor)))
    data = data[: max(24, len(data) - cut)] if cut < 150 else data
    for at, value in flips:
        if at < len(data):
            data[at] = value
    found, at, stop = walk_all(form, bytes(data), room)
    want = parse_pcap(bytes(data), MAX_FRAME)
    assert [(ts, wire, body) for ts, wire, _, body in found] == [(f.ts_ns, f.wirelen, f.data) for f in want.frames]
    assert stop == (load.STOP_CAPLEN if want.ended == "corrupt" else load.STOP_SHORT)
    assert at == (len(data) if want.offset is None else want.offset)


@forms
@given(
    high=st.integers(0, 2**32 - 1) | st.integers(0, 2**10),
    low=st.integers(0, 2**32 - 1),
    tsresol=st.integers(0, 255) | st.sampled_from([6, 9, 0x80 | 10, 0x80 | 32]),
    tsoffset=st.sampled_from([0, 1, -1, 3600]) | st.integers(-(2**63), 2**63 - 1),
)
def test_time_stamps_are_exact_at_every_resolution(
    form: Form, high: int, low: int, tsresol: int, tsoffset: int
) -> None:
    assert form(load.time_ns)(high, low, tsresol, tsoffset) == stamp_ns(high << 32 | low, tsresol, tsoffset)


@forms
@pytest.mark.parametrize(
    ("tsresol", "stamp", "ns"),
    [
        (6, 1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (9, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (3, 1_700_000_000_123, 1_700_000_000_123_000_000),
        (0, 4_294_967_296, 4_294_967_296_000_000_000),
        (12, 5_000_000_000_001, 5_000_000_000),
        (0x80 | 10, 1024 + 512, 1_500_000_000),
        (0x80 | 32, (1_700_000_000 << 32) | (1 << 31), 1_700_000_000_500_000_000),
        (9, 2**64 - 1, 9_000_000_000 * 10**9),
    ],
)
def test_time_stamps_of_known_resolutions(form: Form, tsresol: int, stamp: int, ns: int) -> None:
    assert form(load.time_ns)(stamp >> 32, stamp & 0xFFFFFFFF, tsresol, 0) == ns


def walk_blocks(form: Form, data: bytes, known: int = 1, room: int = 8, order: str = "<") -> tuple[int, int, int, Any]:
    start, caplen, wirelen, ts_ns = columns(room)
    interface, link_type = np.zeros(room, np.int32), np.zeros(room, np.int32)
    interfaces = np.zeros((4, load.IF_COLUMNS), np.int64)
    interfaces[:, load.IF_TSRESOL] = 6
    interfaces[:, load.IF_LOST] = -1
    interfaces[:, load.IF_LINK_TYPE] = 1
    interfaces[:, load.IF_VANTAGE] = [10, 11, 12, 13]
    carry = np.zeros(load.CARRY_SIZE, np.int64)
    count, at, stop = form(load.walk_pcapng)(
        load.overlapping_words(buffer_of(data)),
        0,
        len(data),
        order == ">",
        MAX_FRAME,
        interfaces,
        known,
        carry,
        start,
        caplen,
        wirelen,
        ts_ns,
        interface,
        link_type,
        np.zeros(room, np.int64),
    )
    return int(count), int(at), int(stop), (start, caplen, wirelen, ts_ns, interface, link_type, interfaces, carry)


@forms
@pytest.mark.parametrize("order", ["<", ">"])
def test_each_kind_of_packet_block_is_a_frame(form: Form, order: str) -> None:
    blocks = Blocks(order).enhanced(7, b"enhanced", 1, 90, lost=4).old_packet(9, b"old", 0, lost=2).simple(b"simple!")
    count, at, stop, (start, caplen, wirelen, ts_ns, interface, _, interfaces, carry) = walk_blocks(
        form, blocks.bytes, 2, order=order
    )
    assert (count, at, stop) == (3, len(blocks.bytes), load.STOP_SHORT)
    bodies = [blocks.bytes[start[i] : start[i] + caplen[i]] for i in range(3)]
    assert bodies == [b"enhanced", b"old", b"simple!"]
    assert wirelen[:3].tolist() == [90, 3, 7]
    assert ts_ns[:3].tolist() == [7_000, 9_000, 9_000], "a simple packet has no time of its own"
    assert interface[:3].tolist() == [11, 10, 10]
    assert interfaces[:2, load.IF_LOST].tolist() == [2, 4]
    assert carry.tolist() == [9_000, 1, 3]


@forms
def test_unknown_blocks_are_passed_over_and_known_ones_are_left_to_the_caller(form: Form) -> None:
    unknown = Blocks().block(0x0BAD, b"1234").block(4, b"").enhanced(1, b"x").bytes
    assert walk_blocks(form, unknown)[:3] == (1, len(unknown), load.STOP_SHORT)
    for kind in (1, 5, 10, 0x0A0D0D0A):
        assert walk_blocks(form, unknown + Blocks().block(kind, b"12345678").bytes)[:3] == (
            1,
            len(unknown),
            load.STOP_BLOCK,
        )
    cut = Blocks().block(0x0BAD, bytes(100)).bytes[:50]
    assert walk_blocks(form, cut)[:3] == (0, 0, load.STOP_BLOCK), "it may be larger than any buffer"


def corrupted(blocks: Blocks, at: int, value: int) -> bytes:
    data = bytearray(blocks.bytes)
    struct.pack_into("<I", data, at, value)
    return bytes(data)


@forms
def test_lies_of_a_block_stop_the_walk_in_front_of_it(form: Form) -> None:
    good = Blocks().enhanced(1, b"whole").bytes
    packet = Blocks().enhanced(2, b"12345678")
    size = len(packet.bytes)
    lies = {
        load.STOP_LENGTH: [corrupted(packet, 4, 8), corrupted(packet, 4, size + 1), corrupted(packet, 4, 28)],
        load.STOP_TRAILER: [corrupted(packet, size - 4, size + 4), corrupted(Blocks().block(99, b"1234"), 12, 99)],
        load.STOP_INSIDE: [corrupted(packet, 20, 9), corrupted(packet, 20, 2**32 - 1)],
        load.STOP_INTERFACE: [corrupted(packet, 8, 1), corrupted(packet, 8, 2**32 - 1)],
        load.STOP_CAPLEN: [Blocks().enhanced(2, bytes(MAX_FRAME + 1)).bytes],
        load.STOP_SHORT: [packet.bytes[:-1], packet.bytes[:20], packet.bytes[:11]],
    }
    for stop, cases in lies.items():
        for case in cases:
            assert walk_blocks(form, good + case)[:3] == (1, len(good), stop)
    assert walk_blocks(form, Blocks().simple(b"x").bytes, known=0)[:3] == (0, 0, load.STOP_INTERFACE)


@forms
def test_a_full_column_is_no_reason_to_lose_a_frame(form: Form) -> None:
    first = Blocks().enhanced(1, b"a").enhanced(2, b"b", lost=5).bytes
    data = first + Blocks().enhanced(3, b"c", lost=5).bytes
    count, at, stop, (*_, interfaces, _carry) = walk_blocks(form, data, room=2)
    assert (count, at, stop) == (2, len(first), load.STOP_FULL)
    assert interfaces[0, load.IF_LOST] == 5, "the frame that did not fit has not been counted yet"


@forms
@given(st.binary(max_size=300), st.sampled_from("<>"))
def test_any_bytes_end_the_walk_within_bounds(form: Form, data: bytes, order: str) -> None:
    count, at, _, (start, caplen, *_rest) = walk_blocks(form, data, order=order)
    assert 0 <= at <= len(data)
    assert all(0 < start[i] <= start[i] + caplen[i] <= len(data) for i in range(count))


def test_words_overlap_at_every_byte() -> None:
    words = load.overlapping_words(np.arange(8, dtype=np.uint8))
    assert [hex(each["word"]) for each in words] == ["0x3020100", "0x4030201", "0x5040302", "0x6050403", "0x7060504"]
