"""Fragments: a datagram is sent in pieces, the pieces come as they like; every piece becomes a row of its connection."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.decode import Decoder
from auditor.kernels.defrag import EARLY_BYTES, EARLY_SLOTS
from auditor.model.packets import STOP_FRAGMENT, STOP_NONE, STOP_TRUNCATED
from tests.frames import batch_of

RAW = 101
TCP, UDP = 6, 17
SECOND = 1_000_000_000


def piece(ident: int, offset: int, body: bytes, *, more: bool, proto: int = TCP, src: int = 0x0A000001) -> bytes:
    word = offset // 8 | (0x2000 if more else 0)
    return struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(body), ident, word, 64, proto, 0, src, 0x0A000002) + body


def tcp_segment(payload: bytes, *, seq: int = 1000, flags: int = 0x19) -> bytes:
    return struct.pack(">HHIIBBHHH", 4001, 8889, seq, 5000, 0x50, flags, 300, 0, 0) + payload


def in_pieces(ident: int, datagram: bytes, size: int, *, proto: int = TCP) -> list[bytes]:
    return [
        piece(ident, at, datagram[at : at + size], more=at + size < len(datagram), proto=proto)
        for at in range(0, len(datagram), size)
    ]


def decoded(decoder: Decoder, frames: Sequence[bytes], ts_ns: Sequence[int] = ()) -> list[dict[str, object]]:
    batch = batch_of([(RAW, frame) for frame in frames], ts_ns=ts_ns)
    out = []
    for rows in decoder.decode(batch):
        for row in rows:
            said: dict[str, object] = {name: int(row[name]) for name in rows.dtype.names or ()}
            said["payload"] = batch.buf[row["payload_at"] :][: row["payload_bytes"]].tobytes()
            out.append(said)
    return out


PAYLOAD = bytes(range(100))


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_every_order_gives_the_same_stream(order: tuple[int, ...]) -> None:
    pieces = in_pieces(7, tcp_segment(PAYLOAD), 32)
    assert len(pieces) == 4
    decoder = Decoder()
    rows = decoded(decoder, [pieces[at] for at in order])
    assert decoder.finish().size == 0
    stream = bytearray(100)
    for row in rows:
        at, said = int(str(row["seq"])) - 1000, row["payload"]
        assert isinstance(said, bytes)
        stream[at : at + len(said)] = said
        assert (row["src_port"], row["dst_port"], row["proto"], row["stop"]) == (4001, 8889, TCP, STOP_NONE)
        assert (row["ack"], row["window"]) == (5000, 300)
    assert bytes(stream) == PAYLOAD
    assert sorted(int(str(row["frame"])) for row in rows) == [1, 2, 3, 4]
    # The FIN is behind the last byte, so it stands in the row that has it; so does nothing else of the first's flags.
    by_seq = sorted(rows, key=lambda row: int(str(row["seq"])))
    assert [row["flags"] for row in by_seq] == [0x18, 0x10, 0x10, 0x11]
    assert [row["fragment"] for row in by_seq] == [1, 2, 2, 2]


def test_syn_with_data_takes_a_sequence_number() -> None:
    rows = decoded(Decoder(), in_pieces(7, tcp_segment(PAYLOAD, seq=2**32 - 1, flags=0x02), 40))
    assert [row["seq"] for row in rows] == [2**32 - 1, 20, 60]


def test_datagram_rows_say_where_their_bytes_belong() -> None:
    datagram = struct.pack(">HHHH", 53, 4000, 108, 0) + PAYLOAD
    rows = decoded(Decoder(), in_pieces(7, datagram, 48, proto=UDP))
    assert [(row["seq"], row["payload"]) for row in rows] == [
        (0, PAYLOAD[:40]),
        (40, PAYLOAD[40:88]),
        (88, PAYLOAD[88:]),
    ]


def test_state_lasts_from_batch_to_batch() -> None:
    pieces = in_pieces(7, tcp_segment(PAYLOAD), 64)
    decoder = Decoder()
    assert decoded(decoder, [pieces[1]]) == []
    rows = decoded(decoder, [pieces[0]])
    assert [row["payload"] for row in rows] == [PAYLOAD[:44], PAYLOAD[44:]]
    assert decoder.frames == decoder.packets == 2


def test_pieces_of_other_datagrams_are_not_mixed_up() -> None:
    late = [
        piece(8, 64, b"other id", more=False),
        piece(7, 64, b"other source", more=False, src=0x0A000009),
        piece(7, 64, b"other protocol", more=False, proto=UDP),
    ]
    decoder = Decoder()
    rows = decoded(decoder, [*late, *in_pieces(7, tcp_segment(PAYLOAD), 64)])
    assert [row["payload"] for row in rows] == [PAYLOAD[:44], PAYLOAD[44:]]
    rest = decoder.finish()
    assert rest["stop"].tolist() == [STOP_FRAGMENT] * 3
    assert rest["frame"].tolist() == [1, 2, 3]
    assert rest["proto"].tolist() == [TCP, TCP, UDP]
    assert not rest["src_port"].any()
    assert not rest["payload_bytes"].any()
    assert decoder.stops[STOP_FRAGMENT] == 3
    assert decoder.finish().size == 0


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(("apart_s", "together"), [(29, True), (31, False)])
def test_half_a_minute_is_the_limit_in_either_direction_of_time(apart_s: int, together: bool, backwards: bool) -> None:
    pieces = in_pieces(7, tcp_segment(PAYLOAD), 64)
    times = [100 * SECOND, (100 - apart_s if backwards else 100 + apart_s) * SECOND]
    for order in ([0, 1], [1, 0]):
        decoder = Decoder()
        rows = decoded(decoder, [pieces[at] for at in order], times)
        assert len(rows) == 1 + together
        assert decoder.finish().size == 1 - together


def stream_of(rows: Sequence[dict[str, object]], seq: int) -> tuple[bytes, int]:
    """What the rows carry of one segment, and the flags of all of them."""
    stream, flags = bytearray(), 0
    for row in rows:
        assert (row["src_port"], row["dst_port"], row["stop"]) == (4001, 8889, STOP_NONE)
        if row["ip_version"] == 0:
            assert row["payload"] == b""
            continue
        assert (row["ack"], row["window"]) == (5000, 300)
        at, said = int(str(row["seq"])) - seq + (int(str(row["flags"])) >> 1 & 1), row["payload"]
        assert isinstance(said, bytes) and row["payload_wire_bytes"] == len(said)
        flags |= int(str(row["flags"]))
        if not said:
            continue
        assert 0 <= at < 100
        stream.extend(bytes(max(at + len(said) - len(stream), 0)))
        stream[at : at + len(said)] = said
    return bytes(stream), flags


@given(
    options=st.integers(0, 10),
    payload=st.binary(max_size=60),
    flags=st.sampled_from([0x02, 0x10, 0x11, 0x18, 0x19, 0x12]),
    sizes=st.lists(st.sampled_from([8, 8, 8, 16, 24, 40]), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
    shuffled=st.booleans(),
    doubled=st.booleans(),
)
def test_a_header_over_several_fragments_is_read_when_it_is_whole(
    options: int, payload: bytes, flags: int, sizes: list[int], order: random.Random, shuffled: bool, doubled: bool
) -> None:
    segment = struct.pack(">HHIIBBHHH", 4001, 8889, 1000, 5000, (5 + options) << 4, flags, 300, 0, 0)
    segment += b"\x01" * 4 * options + payload
    pieces, at = [], 0
    for size in [*sizes, *[8] * 40]:
        if at < len(segment):
            pieces.append(piece(7, at, segment[at : at + size], more=at + size < len(segment)))
            at += size
    if doubled:
        pieces = [each for one in pieces for each in (one, one)]
    if shuffled:
        order.shuffle(pieces)
    decoder = Decoder()
    rows = [row for one in pieces for row in decoded(decoder, [one])]
    assert len(rows) == len(pieces) or doubled
    assert decoder.finish().size == 0 or doubled
    if doubled:
        rows = [row for row in rows if row["stop"] == STOP_NONE]
    assert stream_of(rows, 1000 + (flags >> 1 & 1)) == (payload, flags)


def test_eight_bytes_of_a_header_hide_nothing() -> None:
    """RFC 1858: eight bytes of TCP are ports and sequence number, the flags are hidden in the second fragment."""
    segment = tcp_segment(PAYLOAD)
    rows = decoded(Decoder(), [piece(7, 0, segment[:8], more=True), piece(7, 8, segment[8:], more=False)])
    assert stream_of(rows, 1000) == (PAYLOAD, 0x19)
    assert [row["frame"] for row in rows] == [1, 2]
    assert [row["ip_bytes"] for row in rows] == [28, 20 + len(segment) - 8]
    # A segment that is nothing but header is one packet, with all of its bytes.
    bare = decoded(Decoder(), in_pieces(8, tcp_segment(b"", flags=0x11), 8))
    packets = [row for row in bare if row["ip_version"]]
    assert [(row["flags"], row["ip_bytes"], row["payload"]) for row in packets] == [(0x11, 80, b"")]
    assert sorted(int(str(row["frame"])) for row in bare) == [1, 2, 3]


def test_fragments_that_disagree_about_a_header_are_given_up() -> None:
    segment = tcp_segment(PAYLOAD)
    other = tcp_segment(PAYLOAD, flags=0x02)
    decoder = Decoder()
    pieces = [piece(7, 0, segment[:8], more=True), piece(7, 16, segment[16:24], more=True)]
    rows = decoded(decoder, [*pieces, piece(7, 8, segment[8:16], more=True)])
    assert {row["stop"] for row in rows} == {STOP_NONE}
    decoder = Decoder()
    second = [piece(8, 0, segment[:8], more=True), piece(8, 8, segment[8:14] + b"\0\0", more=True)]
    rows = decoded(decoder, [*second, piece(8, 8, other[8:16], more=True), piece(8, 16, segment[16:], more=False)])
    assert {row["stop"] for row in rows} == {STOP_FRAGMENT} and not any(row["payload"] for row in rows)
    assert decoder.finish().size == 0


def test_a_header_that_is_never_whole_comes_out_at_the_end() -> None:
    segment = tcp_segment(PAYLOAD)
    decoder = Decoder()
    assert decoded(decoder, [piece(7, 0, segment[:8], more=True), piece(7, 16, segment[16:], more=False)]) == []
    rest = decoder.finish()
    assert rest["frame"].tolist() == [1, 2] and set(rest["stop"].tolist()) == {STOP_FRAGMENT}


def test_a_cut_off_later_fragment_says_how_much_there_was() -> None:
    pieces = in_pieces(7, tcp_segment(PAYLOAD), 64)
    batch = batch_of([(RAW, pieces[0]), (RAW, pieces[1][:30])], wire=[84, 76])
    (rows,) = Decoder().decode(batch)
    assert rows["payload_bytes"].tolist() == [44, 10]
    assert rows["payload_wire_bytes"].tolist() == [44, 56]
    (cut,) = Decoder().decode(batch_of([(RAW, pieces[1][:15])], wire=[76]))
    assert cut["stop"].tolist() == [STOP_TRUNCATED]


def test_more_waiting_fragments_than_places_let_the_oldest_go() -> None:
    decoder = Decoder()
    rows = decoded(decoder, [piece(ident, 64, b"late", more=False) for ident in range(EARLY_SLOTS + 10)])
    assert [row["frame"] for row in rows] == list(range(1, 11))
    assert {row["stop"] for row in rows} == {STOP_FRAGMENT}
    assert decoder.finish()["frame"].tolist() == list(range(11, EARLY_SLOTS + 11))


def test_a_large_early_fragment_is_kept_in_part() -> None:
    segment = tcp_segment(bytes(6000))
    rows = decoded(Decoder(), in_pieces(7, segment, 4000)[::-1])
    assert [len(row["payload"]) for row in rows] == [3980, 2020]  # type: ignore[arg-type]  # bytes
    rows = decoded(Decoder(), [piece(7, 4000, bytes(5000), more=False), piece(7, 0, segment[:4000], more=True)])
    assert [row["payload_wire_bytes"] for row in rows] == [3980, 5000]
    assert rows[1]["payload_bytes"] == EARLY_BYTES


def test_a_full_reserve_costs_the_payload_only() -> None:
    late = [piece(7, 64 * 8 + at * 8, bytes(1600), more=True) for at in range(60)]
    rows = decoded(Decoder(), [*late, piece(7, 0, tcp_segment(PAYLOAD)[:64], more=True)])
    assert len(rows) == 61
    sizes = [int(str(row["payload_bytes"])) for row in rows[1:]]
    assert sizes == [1600] * 40 + [0] * 20
    assert {row["payload_wire_bytes"] for row in rows[1:]} == {1600}


def test_rows_of_tunnels_keep_pointing_at_their_outer_packet() -> None:
    inner = piece(1, 0, tcp_segment(b"inner"), more=False)
    outer = struct.pack(">BBHHHBBHII", 0x45, 0, 20 + len(inner), 3, 0, 64, 4, 0, 1, 2) + inner
    late, first = in_pieces(7, tcp_segment(PAYLOAD), 64)[::-1]
    batch = batch_of([(RAW, frame) for frame in (late, outer, first, outer)])
    (rows,) = Decoder().decode(batch)
    assert rows["frame"].tolist() == [2, 2, 3, 1, 4, 4]
    assert rows["outer"].tolist() == [-1, 0, -1, -1, -1, 4]
    assert rows["depth"].tolist() == [0, 1, 0, 0, 0, 1]


def test_ten_thousand_datagrams_in_pieces_need_no_more_memory() -> None:
    decoder = Decoder()
    rng = np.random.default_rng(3)
    frames = [frame for ident in range(10_000) for frame in in_pieces(ident, tcp_segment(PAYLOAD), 64)]
    order = np.argsort(np.arange(len(frames)) + rng.uniform(0, 8, len(frames)))
    rows = decoded(decoder, [frames[at] for at in order])
    assert len(rows) + decoder.finish().size == 20_000
    assert sum(row["stop"] == STOP_NONE for row in rows) == 20_000
