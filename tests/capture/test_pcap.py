"""Classic pcap: every variant of the format, whole, cut and broken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.model.frames import VantagePoint
from auditor.model.limits import Limits
from tests.capture.make import Trickle, pcap, read
from tests.naive_load import parse_pcap

SMALL = Limits(frame_bytes=500, buffer_bytes=64)
"""A buffer so small that every record crosses its end."""

records = st.lists(
    st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 999_999), st.binary(max_size=200), st.integers(0, 300)),
    max_size=10,
)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("magic", "unit", "digits"), [(0xA1B2C3D4, 1_000, 6), (0xA1B23C4D, 1, 9), (0xA1B2CD34, 1_000, 6)]
)
def test_a_capture_of_two_packets(order: str, magic: int, unit: int, digits: int) -> None:
    frames, summary = read(pcap([(10, 20, b"first", 99), (4_000_000_000, 1, b"second")], order=order, magic=magic))
    assert [(f.ts_ns, f.wirelen, f.data) for f in frames] == [
        (10 * 10**9 + 20 * unit, 99, b"first"),
        (4_000_000_000 * 10**9 + unit, 6, b"second"),
    ]
    assert summary.first_ns == 10 * 10**9 + 20 * unit
    assert summary.last_ns == 4_000_000_000 * 10**9 + unit, "seconds are unsigned: this is the year 2096"
    assert summary.time_digits == digits
    assert summary.format == "pcap"
    assert summary.vantage_points == (VantagePoint(None, None, 1, 262144),)
    assert summary.dropped is None
    assert summary.problems == ()


def test_a_header_without_packets_is_a_capture() -> None:
    frames, summary = read(pcap())
    assert frames == []
    assert (summary.packets, summary.first_ns, summary.problems) == (0, None, ())


def test_time_may_run_backwards() -> None:
    _, summary = read(pcap([(30, 0, b""), (10, 0, b""), (20, 0, b"")]))
    assert (summary.first_ns, summary.last_ns) == (10 * 10**9, 30 * 10**9)


def test_a_length_on_the_wire_below_the_captured_one_is_raised_to_it() -> None:
    frames, _ = read(pcap([(1, 0, b"12345", 3)]))
    assert frames[0].wirelen == 5


@pytest.mark.parametrize("keep", [1, 15, 16, 19])
def test_a_file_cut_off_in_the_middle_gives_its_whole_frames(keep: int) -> None:
    whole = pcap([(1, 0, b"whole")])
    frames, summary = read((whole + pcap([(2, 0, b"lost")])[24:])[: len(whole) + keep])
    assert [f.data for f in frames] == [b"whole"]
    (problem,) = summary.problems
    assert (problem.kind, problem.frame, problem.offset) == ("truncated", 1, len(whole))


def test_an_absurd_length_ends_the_reading() -> None:
    good = pcap([(1, 0, b"good")])
    bad = good + b"\0" * 8 + b"\xff\xff\xff\x7f" * 2 + bytes(100)
    frames, summary = read(bad)
    assert len(frames) == 1
    (problem,) = summary.problems
    assert (problem.kind, problem.frame, problem.offset) == ("corrupt", 1, len(good))
    assert "frame 2" in problem.says


def test_a_frame_above_the_snaplen_is_no_fault_and_one_above_the_buffer_makes_it_grow() -> None:
    big = bytes(range(256)) * 20_000
    frames, summary = read(pcap([(1, 0, b"a"), (2, 0, big), (3, 0, b"c")], snaplen=96))
    assert [f.data for f in frames] == [b"a", big, b"c"]
    assert summary.problems == ()


@pytest.mark.parametrize(
    ("version", "kind"), [((2, 2), None), ((2, 3), None), ((543, 0), None), ((1, 4), "unsupported")]
)
def test_older_versions_order_the_lengths_differently(version: tuple[int, int], kind: str | None) -> None:
    # The helper writes (captured, wire): version 2.2 has them the other way round, so here the frame claims more on the wire.
    swapped = version in ((2, 2), (543, 0))
    data = bytearray(pcap([(1, 0, b"12345678", 20)], version=version))
    if swapped:
        data[32:40] = data[36:40] + data[32:36]
    frames, summary = read(bytes(data))
    assert [(f.data, f.wirelen) for f in frames] == [(b"12345678", 20)]
    assert [p.kind for p in summary.problems] == ([kind] if kind else [])


def test_the_link_type_field_holds_more_than_the_link_type() -> None:
    with_fcs = 4 << 28 | 0x0400_0000 | 113
    frames, summary = read(pcap([(1, 0, b"x")], link=with_fcs))
    assert frames[0].link_type == summary.vantage_points[0].link_type == 113
    assert summary.problems == ()
    frames, summary = read(pcap([(1, 0, b"x")], link=0x0030_0001))
    assert frames[0].link_type == 1
    assert "0x00300000" in summary.problems[0].says


def test_the_link_type_can_be_set() -> None:
    frames, summary = read(pcap([(1, 0, b"x")], link=1), link_type=276)
    assert frames[0].link_type == summary.vantage_points[0].link_type == 276


def test_many_small_frames_come_in_batches_of_bounded_size() -> None:
    count = 40_000
    frames, summary = read(pcap([(i, 0, b"") for i in range(count)]))
    assert [f.ts_ns for f in frames] == [i * 10**9 for i in range(count)]
    assert summary.packets == count


@given(
    records=records,
    order=st.sampled_from("<>"),
    magic=st.sampled_from([0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34]),
    cut=st.none() | st.integers(24, 400),
    flips=st.lists(st.tuples(st.integers(24, 1_000), st.integers(0, 255)), max_size=2),
    most=st.integers(1, 90),
)
def test_whatever_the_pieces_the_frames_are_those_of_a_plain_parser(
    records: Any, order: str, magic: int, cut: int | None, flips: Any, most: int
) -> None:
    data = bytearray(pcap(records, order=order, magic=magic)[:cut])
    for at, value in flips:
        if at < len(data):
            data[at] = value
    want = parse_pcap(bytes(data), SMALL.frame_bytes)
    for source, limits in ((bytes(data), Limits(frame_bytes=500)), (Trickle(bytes(data), most), SMALL)):
        frames, summary = read(source, limits=limits)
        assert frames == want.frames
        assert [(p.kind, p.frame, p.offset) for p in summary.problems] == (
            [(want.ended, len(frames), want.offset)] if want.ended else []
        )
