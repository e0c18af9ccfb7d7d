"""pcapng: sections, interfaces, clocks, counters, and blocks that lie."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.capture import open_capture
from auditor.model.frames import VantagePoint
from auditor.model.limits import Limits
from tests.capture.make import Blocks, Trickle, read
from tests.naive_load import parse_pcapng

SMALL = Limits(frame_bytes=500, buffer_bytes=64)


def ng(order: str = "<") -> Blocks:
    return Blocks(order).section()


@pytest.mark.parametrize("order", ["<", ">"])
def test_two_interfaces_with_clocks_of_their_own(order: str) -> None:
    blocks = (
        ng(order).interface(1, 96, name="eth0", description="cell 4").interface(276, name="any", tsresol=9, tsoffset=-1)
    )
    blocks.enhanced(5_000_000, b"micro", 0, 60).enhanced(7_000_000_001, b"nano", 1)
    frames, summary = read(blocks.bytes)
    assert [(f.ts_ns, f.wirelen, f.data, f.vantage, f.link_type) for f in frames] == [
        (5_000_000_000, 60, b"micro", 0, 1),
        (6_000_000_001, 4, b"nano", 1, 276),
    ]
    assert summary.vantage_points == (VantagePoint("cell 4", "eth0", 1, 96), VantagePoint(None, "any", 276, 0))
    assert (summary.format, summary.time_digits, summary.dropped, summary.problems) == ("pcapng", 9, None, ())


def test_sections_number_their_interfaces_anew_and_may_change_the_byte_order() -> None:
    blocks = ng("<").interface(1, name="a").enhanced(1, b"one")
    blocks.section(">").interface(113, name="b").interface(101, name="c").enhanced(2, b"two", 1)
    blocks.section("<").interface(1, name="d").enhanced(3, b"three")
    frames, summary = read(blocks.bytes)
    assert [(f.data, f.vantage, f.link_type) for f in frames] == [(b"one", 0, 1), (b"two", 2, 101), (b"three", 3, 1)]
    assert [v.interface for v in summary.vantage_points] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("tsresol", "digits"), [(6, 6), (9, 9), (12, 9), (3, 3), (0x80 | 10, 4), (0x80 | 32, 9)])
def test_digits_follow_the_resolution(tsresol: int, digits: int) -> None:
    assert read(ng().interface(tsresol=tsresol).bytes)[1].time_digits == digits


def test_simple_packets_have_neither_length_nor_time() -> None:
    blocks = ng().interface(1, 4).simple(b"1234", wire=90).enhanced(8, b"x").simple(b"12", wire=2)
    frames, summary = read(blocks.bytes)
    assert [(f.data, f.wirelen, f.ts_ns) for f in frames] == [(b"1234", 90, 0), (b"x", 1, 8_000), (b"12", 2, 8_000)]
    assert (summary.first_ns, summary.last_ns) == (8_000, 8_000), "no time is not the year 1970"
    assert read(ng().interface().simple(b"x").bytes)[1].first_ns is None


def test_drops_are_the_latest_statistics_of_each_interface_over_all_sections() -> None:
    blocks = ng().interface().interface().interface()
    blocks.statistics(0, ifdrop=1, osdrop=1).statistics(0, ifrecv=900, ifdrop=5, osdrop=2).statistics(1, osdrop=10)
    blocks.statistics(2, ifrecv=7).statistics(9, ifdrop=1_000)
    blocks.section(">").interface().statistics(0, ifdrop=100)
    assert read(blocks.bytes)[1].dropped == 7 + 10 + 100
    assert read(ng().interface().statistics(0, ifrecv=9).bytes)[1].dropped is None, "it does not say"
    assert read(ng().interface().statistics(0, ifdrop=0).bytes)[1].dropped == 0


def test_packets_may_say_what_was_lost_before_them() -> None:
    blocks = (
        ng().interface().interface().enhanced(1, b"x", 0, lost=3).enhanced(1, b"x", 0, lost=4).old_packet(1, b"y", 1, 2)
    )
    assert read(blocks.bytes)[1].dropped == 9
    assert read(blocks.statistics(0, ifdrop=50).bytes)[1].dropped == 52, "statistics of the interface know better"
    assert read(ng().interface().old_packet(1, b"y", 0, 0xFFFF).bytes)[1].dropped is None


def test_secrets_are_noticed_and_leave_no_trace() -> None:
    secret = b"CLIENT_RANDOM 00 11"
    padded = struct.pack("<II", 0x544C534B, len(secret)) + secret + b"\0"
    blocks = ng().interface().enhanced(1, b"before").block(10, padded).enhanced(2, b"after")
    with open_capture(Trickle(blocks.bytes), name="with keys") as reader:  # type: ignore[arg-type]
        buffers = [batch.buf for batch in reader.batches()]
    assert reader.has_secrets
    assert reader.summary().packets == 2
    assert all(secret not in buf.tobytes() for buf in buffers)
    assert "CLIENT_RANDOM" not in repr(reader.summary())


def test_blocks_larger_than_any_buffer_are_passed_over() -> None:
    blocks = ng().interface().enhanced(1, b"a").block(0x0BAD, bytes(9_000_000)).block(4, bytes(700)).enhanced(2, b"b")
    assert [f.data for f in read(blocks.bytes)[0]] == [b"a", b"b"]
    assert [f.data for f in read(Trickle(blocks.bytes, 100_000), limits=SMALL)[0]] == [b"a", b"b"]


@pytest.mark.parametrize(
    ("tail", "kind", "says"),
    [
        (Blocks().enhanced(1, b"x", 3).bytes, "corrupt", "interface"),
        (Blocks().enhanced(1, b"12345678").bytes[:-1], "truncated", "packet"),
        (Blocks().block(77, bytes(52)).bytes[:-1], "truncated", "block"),
        (Blocks().block(10, bytes(52)).bytes[:-8], "truncated", "block"),
        (Blocks().interface(name="eth1").bytes[:-3], "truncated", "interface"),
        (b"\x06\0\0\0\x03\0\0\0" + bytes(20), "corrupt", "length"),
        (b"\x01\0\0\0\x10\0\0\0" + bytes(20), "corrupt", "length"),
        (b"\x01\0\0\0\0\0\0\x7f" + bytes(20), "limit", "interface"),
        (b"\x06\0\0\0\xf0\xff\xff\xff" + bytes(40), "corrupt", "4294967280"),
        (Blocks().block(5, bytes(12)).bytes[:-4] + b"\1\0\0\0", "corrupt", "lengths"),
        (Blocks().block(10, bytes(12)).bytes[:-4] + b"\1\0\0\0", "corrupt", "lengths"),
        (Blocks().block(0x0A0D0D0A, bytes(24)).bytes, "corrupt", "byte order"),
        (Blocks().section(major=7).bytes, "unsupported", "7.0"),
        (b"\n\r\r\n" + bytes(3), "truncated", ""),
    ],
)
def test_what_is_broken_ends_the_reading_and_is_told(tail: bytes, kind: str, says: str) -> None:
    good = ng().interface().enhanced(1, b"good").bytes
    frames, summary = read(good + tail)
    assert [f.data for f in frames] == [b"good"]
    (problem,) = summary.problems
    assert (problem.kind, problem.frame, problem.offset) == (kind, 1, len(good))
    assert says in problem.says


def test_blocks_that_wireshark_counts_have_numbers_and_are_no_packets() -> None:
    blocks = ng().interface().block(9, bytes(40)).enhanced(1, b"a").block(0xBAD, bytes(8)).block(77, bytes(8))
    blocks.block(0x40000BAD, bytes(9_000_000)).simple(b"b").block(4, bytes(8)).block(0x204, bytes(40)).enhanced(2, b"c")
    for source in (blocks.bytes, Trickle(blocks.bytes, 100_000)):
        frames, summary = read(source, limits=SMALL)
        assert [(f.data, f.number) for f in frames] == [(b"a", 2), (b"b", 5), (b"c", 7)]
        assert summary.packets == 3
    frames, summary = read(blocks.block(5, bytes(12)).bytes[:-4] + b"\1\0\0\0")
    assert summary.problems[0].frame == 7


@pytest.mark.parametrize("packet", [Blocks().enhanced(1, b"x"), Blocks().simple(b"x"), Blocks().old_packet(1, b"x")])
def test_packets_before_any_interface_are_corrupt(packet: Blocks) -> None:
    frames, summary = read(ng().bytes + packet.bytes)
    assert frames == []
    assert (summary.problems[0].kind, summary.problems[0].frame) == ("corrupt", 0)


def test_too_many_interfaces() -> None:
    blocks = ng()
    for _ in range(6):
        blocks.interface()
    _, summary = read(blocks.enhanced(1, b"x").bytes, limits=Limits(interfaces=5))
    assert summary.problems[0].kind == "limit"
    assert len(summary.vantage_points) == 5
    assert len(read(blocks.enhanced(1, b"x", 5).bytes)[0]) == 2


def test_a_broken_option_does_not_spoil_its_block() -> None:
    body = struct.pack("<HHI", 113, 0, 0) + struct.pack("<HH", 2, 900) + b"eth0"
    _, summary = read(ng().block(1, body).bytes)
    assert summary.vantage_points == (VantagePoint(None, None, 113, 0),)
    assert summary.problems == ()


def test_the_link_type_can_be_set_for_all_interfaces() -> None:
    frames, summary = read(ng().interface(1).interface(1).enhanced(1, b"x", 1).bytes, link_type=113)
    assert [f.link_type for f in frames] == [113]
    assert [v.link_type for v in summary.vantage_points] == [113, 113]


steps = st.one_of(
    st.tuples(st.just("section"), st.sampled_from("<>")),
    st.tuples(st.just("interface"), st.sampled_from([1, 113]), st.sampled_from([0, 3]), st.integers(0, 255)),
    st.tuples(st.just("enhanced"), st.integers(0, 2**64 - 1), st.binary(max_size=90), st.integers(0, 2)),
    st.tuples(st.just("lost"), st.integers(0, 2**64 - 1), st.binary(max_size=9), st.integers(0, 1)),
    st.tuples(st.just("old_packet"), st.integers(0, 2**50), st.binary(max_size=20), st.integers(0, 1)),
    st.tuples(st.just("simple"), st.binary(max_size=20)),
    st.tuples(st.just("statistics"), st.integers(0, 2)),
    st.tuples(
        st.just("block"),
        st.sampled_from([4, 9, 10, 77, 0x216, 0xBAD, 0x40000BAD]),
        st.sampled_from([b"", bytes(8), bytes(200)]),
    ),
)


def written(order: str, script: list[Any]) -> bytes:
    blocks = ng(order).interface(1)
    for verb, *rest in script:
        if verb == "interface":
            blocks.interface(rest[0], rest[1], tsresol=rest[2], name="if", tsoffset=rest[2] - 100)
        elif verb == "lost":
            blocks.enhanced(rest[0], rest[1], rest[2], lost=rest[0] >> 40)
        elif verb == "statistics":
            blocks.statistics(rest[0], ifdrop=5, osdrop=6)
        else:
            getattr(blocks, verb)(*rest)
    return blocks.bytes


@given(
    order=st.sampled_from("<>"),
    script=st.lists(steps, max_size=14),
    cut=st.none() | st.integers(28, 600),
    flips=st.lists(st.tuples(st.integers(28, 900), st.integers(0, 255)), max_size=2),
    most=st.integers(1, 90),
)
def test_whatever_the_pieces_the_frames_are_those_of_a_plain_parser(
    order: str, script: list[Any], cut: int | None, flips: Any, most: int
) -> None:
    data = bytearray(written(order, script)[:cut])
    for at, value in flips:
        if at < len(data):
            data[at] = value
    want = parse_pcapng(bytes(data), SMALL.frame_bytes)
    for source, limits in ((bytes(data), Limits(frame_bytes=500)), (Trickle(bytes(data), most), SMALL)):
        frames, summary = read(source, limits=limits)
        assert frames == want.frames
        assert [(p.kind, p.frame, p.offset) for p in summary.problems] == (
            [(want.ended, want.number, want.offset)] if want.ended else []
        )
        assert summary.dropped == want.dropped
        assert [v.link_type for v in summary.vantage_points] == want.link_types
        assert [v.interface for v in summary.vantage_points] == want.names
