"""Records behind a full head, from segments in any order, against a walk over the whole stream."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditor.kernels.accelerate import kernel
from auditor.kernels.streams import clear_head, place
from auditor.kernels.tcpstate import extend
from auditor.kernels.tls import KEPT_RECORDS
from auditor.kernels.trail import STASH_BYTES, STASH_NOTES, STASHES, end_trail, follow, tls_start
from auditor.model.connections import CONN
from auditor.model.streams import (
    HEAD,
    OPAQUE,
    TRAIL_BAD_MESSAGE,
    TRAIL_BAD_RECORD,
    TRAIL_CUT,
    TRAIL_FULL,
    TRAIL_GAP,
    TRAIL_LIMIT,
    TRAIL_NONE,
    TRAIL_OTHER,
    TRAIL_RECORDS,
    TRAIL_RUNS,
    trail_of,
)
from auditor.wire.tls import KNOWN_MESSAGES

Chunks = list[tuple[int, int]]
Told = tuple[int, int, int]
FAR = 1 << 17


@kernel
def feed(rows, heads, slot, arena, room, stashes, stash_bytes, notes, buf, begins, ends, frames):
    """Segments of ``buf`` as ``track`` takes them; how many of them were wanted."""
    side, head = rows[slot].side[0], heads[slot]
    for k in range(begins.size):
        at, size = begins[k], ends[k] - begins[k]
        extend(side, at, at + size, True)
        place(head, arena, slot * room, room, at, buf, at, size, frames[k], 0)
        if side.end >= room and follow(
            head,
            arena,
            slot * room,
            room,
            stashes,
            stash_bytes,
            notes,
            slot,
            buf,
            at,
            size,
            at,
            frames[k],
            side.end,
            False,
            FAR,
        ):
            return k + 1
    return begins.size


@kernel
def close(rows, heads, slot, snapped):
    side, head = rows[slot].side[0], heads[slot]
    head.stream_bytes = max(side.end, side.acked)
    end_trail(head, side, snapped)


@kernel
def start_of(arena, room):
    return tls_start(arena, 0, room)


@kernel
def clear(heads, slot):
    clear_head(heads[slot])


class Directions:
    """Directions with heads of ``room`` bytes that share the stashes."""

    def __init__(self, room: int, count: int = 1) -> None:
        self.room = room
        self.rows = np.zeros(count, CONN)
        self.heads = np.zeros(count, HEAD)
        self.arena = np.full(count * room, 0xEE, np.uint8)
        self.stashes = np.zeros(STASHES, HEAD)
        self.stash_bytes = np.zeros(STASHES * STASH_BYTES, np.uint8)
        self.notes = np.full((STASHES + 1, STASH_NOTES), -1, np.int64)
        self.notes[STASHES] = 0
        for slot in range(count):
            clear(self.heads, slot)

    def take(self, data: bytes, chunks: Chunks, slot: int = 0) -> int:
        begins, ends = (np.array([each[k] for each in chunks], np.int64) for k in (0, 1))
        # A frame is named for where it ends.
        return feed(
            self.rows, self.heads, slot, self.arena, self.room, self.stashes, self.stash_bytes, self.notes,
            np.frombuffer(data, np.uint8), begins, ends, ends,
        )  # fmt: skip

    def end(self, slot: int = 0, *, snapped: bool = False) -> int:
        close(self.rows, self.heads, slot, snapped)
        return int(self.heads["trail_end"][slot])

    def told(self, slot: int = 0) -> list[Told]:
        return [(each.kind, each.what, each.size) for each in trail_of(self.heads[slot]).records]

    def frames(self, slot: int = 0) -> list[tuple[int, int]]:
        return [(each.first, each.last) for each in trail_of(self.heads[slot]).records]


@dataclass
class Naive:
    """What a whole stream says, a byte at a time."""

    told: list[Told] = field(default_factory=list)
    spans: list[tuple[int, int]] = field(default_factory=list)
    state: int = TRAIL_RUNS
    cut: bool = False


def naive(data: bytes, room: int) -> Naive:
    found = Naive()
    numbered = 0

    def tell(kind: int, what: int, size: int, first: int, end: int) -> bool:
        if end <= room:
            return True
        if len(found.told) == TRAIL_RECORDS:
            found.state = TRAIL_FULL
            return False
        found.told.append((kind, what, size))
        found.spans.append((first, end))
        return True

    at, clear_text = 0, True
    pending: list[int] = []
    while at < len(data):
        if at + 5 > len(data):
            found.cut = True
            break
        kind, major, minor, size = data[at], data[at + 1], data[at + 2], int.from_bytes(data[at + 3 : at + 5], "big")
        if not 20 <= kind <= 23 or major != 3 or minor > 4 or size > 16_384 + 2_048 or (size == 0 and kind != 23):
            found.state = TRAIL_BAD_RECORD if at + 5 > room else TRAIL_OTHER
            break
        body, end = at + 5, at + 5 + size
        if kind == 22 and clear_text:
            pending += range(body, min(end, len(data)))
            while len(pending) >= 4:
                what, length = data[pending[0]], int.from_bytes(bytes(data[k] for k in pending[1:4]), "big")
                if what not in KNOWN_MESSAGES:
                    found.state = TRAIL_BAD_MESSAGE if pending[3] >= room else TRAIL_OTHER
                    return found
                if len(pending) < 4 + length:
                    break
                if not tell(22, what, length, pending[0], pending[3 + length] + 1):
                    return found
                del pending[: 4 + length]
        if end > len(data):
            found.cut = True
            break
        if kind == 20:
            clear_text = False
        numbered += kind == 23
        alert = kind == 21 and size == 2
        if not (kind == 22 and clear_text) and not tell(
            kind, int.from_bytes(data[body:end], "big") if alert else OPAQUE, size, at, end
        ):
            return found
        if numbered > KEPT_RECORDS:
            found.state = TRAIL_FULL
            break
        at = end
    return found


def record(kind: int, body: bytes, minor: int = 3) -> bytes:
    return bytes([kind, 3, minor]) + len(body).to_bytes(2, "big") + body


def message(kind: int, size: int) -> bytes:
    return bytes([kind]) + size.to_bytes(3, "big") + bytes(size)


@st.composite
def tls(draw: st.DrawFn) -> bytes:
    """Handshake messages cut into records at any places, then records of any kind; sometimes spoilt."""
    clear_text = b"".join(
        message(draw(st.sampled_from([1, 2, 11, 12, 13, 14, 15, 16, 22])), draw(st.sampled_from([0, 1, 3, 40, 300])))
        for _ in range(draw(st.integers(1, 6)))
    )
    out = b""
    while clear_text:
        size = draw(st.integers(1, 400))
        out += record(22, clear_text[:size])
        clear_text = clear_text[size:]
    if draw(st.booleans()):
        out += record(20, b"\1")
    for _ in range(draw(st.sampled_from([0, 1, 5, 20, 45]))):
        kind = draw(st.sampled_from([23, 23, 23, 21, 22]))
        out += record(kind, bytes([11]) * draw(st.sampled_from([2, 24, 53, 300] if kind != 22 else [40, 52])))
    if draw(st.sampled_from([False, False, True])):
        spoilt = bytearray(out)
        spoilt[draw(st.integers(5, len(out) - 1))] = draw(st.integers(0, 255))
        out = bytes(spoilt)
    return out[: draw(st.integers(1, len(out)))] if draw(st.booleans()) else out


@st.composite
def chunked(draw: st.DrawFn, data: bytes) -> Chunks:
    """The stream in at most sixteen segments, so that a stash has room for what comes too early in any order."""
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=14))
    edges = sorted({0, len(data), *cuts})
    return list(itertools.pairwise(edges))


rooms = st.integers(16, 700)


@pytest.mark.night
@given(st.data(), tls(), rooms)
def test_in_order_it_is_what_the_whole_stream_says(data: st.DataObject, stream: bytes, room: int) -> None:
    chunks = data.draw(chunked(stream))
    one = Directions(room)
    one.take(stream, chunks)
    head, expected = one.heads[0], naive(stream, room)
    if len(stream) < room:
        assert head["trail"] == TRAIL_NONE
        return
    assert (head["trail"], one.told()) == (expected.state, expected.told)
    frames = [
        max(end for start, end in chunks if start <= at) for span in expected.spans for at in (span[0], span[1] - 1)
    ]
    assert [frame for both in one.frames() for frame in both] == frames
    how = one.end()
    assert (how == TRAIL_CUT) == (expected.state == TRAIL_RUNS and expected.cut)
    assert not how & TRAIL_GAP


@given(st.data(), tls(), rooms)
def test_the_order_of_segments_does_not_matter(data: st.DataObject, stream: bytes, room: int) -> None:
    chunks = data.draw(chunked(stream))
    again = data.draw(st.lists(st.sampled_from(chunks), max_size=3))
    one = Directions(room)
    one.take(stream, data.draw(st.permutations(chunks + again)))
    expected = naive(stream, room)
    if len(stream) >= room:
        assert (one.heads[0]["trail"], one.told()) == (expected.state, expected.told)
        assert not one.end() & (TRAIL_GAP | (TRAIL_LIMIT if expected.state == TRAIL_RUNS else 0))


@given(st.data(), tls(), st.integers(16, 64))
@example(None, record(22, message(2, 40)) + record(22, message(11, 300)) + record(22, message(14, 0)), 40)
def test_what_is_missing_ends_it_and_is_told(data: st.DataObject | None, stream: bytes, room: int) -> None:
    """Records told are those of the whole stream; fewer only where a header is missing, and that is said."""
    chunks = [(0, 60), (60, 200), (200, len(stream))] if data is None else data.draw(chunked(stream))
    lost = 1 if data is None else data.draw(st.integers(0, len(chunks) - 1))
    kept = [each for k, each in enumerate(chunks) if k != lost]
    if not kept or chunks[lost][0] < room or len(stream) <= room:
        return
    one = Directions(room)
    one.take(stream, kept)
    expected, told, how = naive(stream, room), one.told(), one.end()
    assert told == expected.told[: len(told)]
    if lost == len(chunks) - 1:
        assert not how & TRAIL_GAP  # nothing shows that there was more
    elif len(told) < len(expected.told):
        assert how & (TRAIL_GAP | TRAIL_LIMIT)


def test_a_body_that_is_missing_hides_no_header() -> None:
    stream = record(22, message(2, 40)) + record(23, bytes(9_000)) + record(23, bytes(53)) + record(23, bytes(40))
    one = Directions(64)
    one.take(stream, [(0, 700), (2_000, 3_000), (5_000, len(stream))])
    assert one.told() == [(23, OPAQUE, 9_000), (23, OPAQUE, 53), (23, OPAQUE, 40)]
    assert one.end() == 0


def test_a_header_that_was_cut_off_is_missing() -> None:
    stream = record(22, message(2, 40)) + record(23, bytes(900)) + record(23, bytes(53))
    one = Directions(64)
    one.take(stream, [(0, 100), (100, 900)])
    one.rows["side"]["end"] = len(stream)
    assert one.end(snapped=True) == TRAIL_GAP
    assert one.end() == TRAIL_LIMIT  # it was seen, and we did not read it
    one.rows["side"]["end"] = 900
    one.rows["side"]["acked"] = len(stream)
    assert one.end() == TRAIL_GAP  # only an acknowledgement tells of it


def test_a_stream_that_does_not_become_tls_is_left_alone() -> None:
    for stream in (b"GET / HTTP/1.1\r\n" * 40, b"\x16\x03\x01\xff\xff" + bytes(600), bytes(600), b"INFO " + bytes(595)):
        one = Directions(500)
        assert one.take(stream, [(0, 300), (300, 550), (550, 600)]) == 2
        assert one.heads[0]["trail"] == TRAIL_OTHER


def test_tls_begins_behind_a_preface() -> None:
    hello = record(22, message(2, 40)) + record(23, bytes(900)) + record(23, bytes(53))
    hello = hello[:9] + b"\3\3" + hello[11:]
    for preface in (b"", b"INFO {}\r\n", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", bytes(36)):
        one = Directions(200)
        one.take(preface + hello, [(0, 220), (220, len(preface + hello))])
        assert one.told() == [(23, OPAQUE, 900), (23, OPAQUE, 53)]
        assert one.heads[0]["trail_at"] == len(preface) + 49


@given(st.binary(min_size=16, max_size=300))
def test_any_bytes_have_a_beginning_or_none(data: bytes) -> None:
    for room in (0, 5, 15, 16, len(data)):
        assert -1 <= start_of(np.frombuffer(data, np.uint8), min(room, len(data))) < len(data)


def test_a_header_that_came_too_early_by_far_is_a_limit() -> None:
    stream = record(22, message(2, 40)) + b"".join(record(21, bytes(1_000)) for _ in range(300))
    one = Directions(64)
    # 100 KiB come before the segment with the next header.
    late = [(500, 1_500)]
    early = [(at, at + 1_000) for at in range(1_500, 100_500, 1_000)]
    one.take(stream, [(0, 500), *early, *late])
    assert one.end() == TRAIL_LIMIT
    assert len(one.told()) > 20  # what there was room for was read


def test_one_more_direction_than_there_are_stashes() -> None:
    """Each lacks its second segment; who came first goes without what was put aside."""
    stream = record(22, message(2, 40)) + b"".join(record(23, bytes(100)) for _ in range(8))
    many = Directions(64, STASHES + 1)
    for slot in range(STASHES + 1):
        many.take(stream, [(0, 100), (300, len(stream))], slot)
    for slot in range(STASHES + 1):
        many.take(stream, [(100, 300)], slot)
    assert many.end(0) == TRAIL_LIMIT
    for slot in range(1, STASHES + 1):
        assert (many.told(slot), many.end(slot)) == ([(23, OPAQUE, 100)] * 8, 0)


def test_no_more_is_told_than_there_is_room_for() -> None:
    for body, most in ((bytes(40), KEPT_RECORDS + 1), (b"", TRAIL_RECORDS)):
        kind = 23 if body else 21
        stream = record(22, message(2, 40)) + b"".join(record(kind, body or bytes(30)) for _ in range(90))
        one = Directions(64)
        one.take(stream, [(at, min(at + 500, len(stream))) for at in range(0, len(stream), 500)])
        assert (one.heads[0]["trail"], len(one.told()), one.end()) == (TRAIL_FULL, most, TRAIL_LIMIT)
