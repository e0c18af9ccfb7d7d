"""Heads put together from segments in any order, against a dict from place to byte."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from auditor.kernels.accelerate import kernel
from auditor.kernels.streams import place, shift_head
from auditor.model.streams import HEAD, HEAD_RANGES, HEAD_SEGMENTS

ROOM = 64
BASE = 32
Segments = list[tuple[int, int]]


@kernel
def place_all(heads, arena, base, room, buf, offsets, starts, sizes):
    for k in range(offsets.size):
        place(heads[0], arena, base, room, offsets[k], buf, starts[k], sizes[k], k + 1, 0)


@kernel
def shift(heads, arena, base, room, by):
    shift_head(heads[0], arena, base, room, by)


class Head:
    """A head of ROOM bytes in the middle of an arena."""

    def __init__(self) -> None:
        self.heads = np.zeros(1, HEAD)
        self.arena = np.full(BASE + ROOM + 32, 0xEE, np.uint8)

    def lay(self, segments: Segments, first: int = 0) -> Head:
        """Every segment has bytes of its own: its number."""
        buf = np.concatenate([np.full(size, first + k + 1, np.uint8) for k, (_, size) in enumerate(segments)])
        sizes = np.array([size for _, size in segments], np.int64)
        starts = np.cumsum(sizes) - sizes
        offsets = np.array([at for at, _ in segments], np.int64)
        place_all(self.heads, self.arena, BASE, ROOM, buf, offsets, starts, sizes)
        return self

    @property
    def data(self) -> bytes:
        return self.arena[BASE : BASE + self.heads[0]["filled_bytes"]].tobytes()

    @property
    def ranges(self) -> list[tuple[int, int]]:
        n = self.heads[0]["n_ranges"]
        pairs = zip(self.heads[0]["range_from"][:n], self.heads[0]["range_to"][:n], strict=True)
        return [(int(start), int(end)) for start, end in pairs]


def naive(segments: Segments) -> tuple[bytes, list[tuple[int, int]], int]:
    """Contiguous start, stretches behind it, and how many stretches there were at once at the most."""
    there: dict[int, int] = {}
    most = 0
    found: list[tuple[int, int]] = []
    data = b""
    for k, (offset, size) in enumerate(segments):
        for at in range(max(offset, 0), min(offset + size, ROOM)):
            there.setdefault(at, k + 1)
        filled = next(at for at in range(ROOM + 1) if at not in there)
        data = bytes(there[at] for at in range(filled))
        found = []
        for at in sorted(at for at in there if at >= filled):
            if found and found[-1][1] == at:
                found[-1] = found[-1][0], at + 1
            else:
                found.append((at, at + 1))
        most = max(most, len(found))
    return data, found, most


segments_of = st.lists(st.tuples(st.integers(-8, ROOM + 4), st.integers(0, 20)), min_size=1, max_size=14)


@given(segments_of)
@example([(8, 4), (0, 16)])  # around what is there
@example([(0, 4), (2, 4)])
@example([(60, 20)])
def test_segments_in_any_order_give_the_bytes_that_came_first(segments: Segments) -> None:
    head = Head().lay(segments)
    data, ranges, most = naive(segments)
    if most < HEAD_RANGES:
        assert (head.data, head.ranges) == (data, ranges)
    else:  # stretches without room are as if lost
        assert data.startswith(head.data)
    assert set(head.arena[:BASE].tolist()) | set(head.arena[BASE + ROOM :].tolist()) == {0xEE}


@given(segments_of)
def test_every_byte_has_a_segment_that_brought_it(segments: Segments) -> None:
    head = Head().lay(segments)
    kept = head.heads[0]
    told = zip(kept["segment_at"][: kept["n_segments"]].tolist(), kept["segment_frame"].tolist(), strict=False)
    assert all(0 <= at < ROOM and segments[frame - 1][1] > 0 for at, frame in told)
    assert head.data == b"" or min(kept["segment_at"][: kept["n_segments"]]) == 0


@given(segments_of, st.integers(0, ROOM + 8), segments_of)
def test_a_head_that_is_moved_back_has_room_in_front(segments: Segments, by: int, more: Segments) -> None:
    moved = [(max(at, 0) + by, at + size - max(at, 0)) for at, size in segments if at + size > max(at, 0)]
    most = max(naive(segments)[2], naive([*moved, *more])[2])
    head = Head().lay(segments)
    shift(head.heads, head.arena, BASE, ROOM, by)
    head.lay(more, len(segments))
    if by == 0 or most + 1 >= HEAD_RANGES:
        return
    numbered = [k for k, (at, size) in enumerate(segments) if at + size > max(at, 0)]
    data, ranges, _ = naive([*moved, *more])
    names = {k + 1: number + 1 for k, number in enumerate(numbered)}
    names |= {len(moved) + k + 1: len(segments) + k + 1 for k in range(len(more))}
    assert (head.data, head.ranges) == (bytes(names[each] for each in data), ranges)


def test_frames_are_remembered_up_to_a_number() -> None:
    head = Head().lay([(k, 1) for k in range(HEAD_SEGMENTS + 5)])
    assert len(head.data) == HEAD_SEGMENTS + 5
    assert head.heads[0]["n_segments"] == HEAD_SEGMENTS
    assert head.heads[0]["segment_frame"].tolist() == list(range(1, HEAD_SEGMENTS + 1))


def test_payload_outside_the_buffer_is_left_alone() -> None:
    head = Head()
    for at, size in ((-1, 4), (7, 4), (100, 1)):
        offsets, starts, sizes = (np.array([each], np.int64) for each in (0, at, size))
        place_all(head.heads, head.arena, BASE, ROOM, np.ones(10, np.uint8), offsets, starts, sizes)
    place_all(head.heads, head.arena, 90, ROOM, np.ones(10, np.uint8), *[np.array([k], np.int64) for k in (0, 0, 4)])
    assert head.data == b""
    assert set(head.arena.tolist()) == {0xEE}
