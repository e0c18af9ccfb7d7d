"""The first bytes of a direction, in order.

What holds here:
- A head is a row of the arena; byte k of the head is byte k of the stream (from its first byte, or from the first one seen).
- Bytes are never overwritten: of two overlapping segments the first one seen wins.
- ``filled_bytes`` is the contiguous start; bytes that arrived early are stored at their place, as at most HEAD_RANGES ranges.
- ``differs`` finds a segment whose content differs from what is stored. The caller may then continue with a second head, in which the last one seen wins.
"""

from __future__ import annotations

import numpy as np

from auditor.kernels.accelerate import inner, move_bytes
from auditor.model.streams import TRAIL_NONE, TRAIL_OTHER


@inner
def clear_head(head):
    """Make a slot ready for a new direction."""
    head.filled_bytes = 0
    head.gap = 0
    head.ended = 0
    head.midstream = 0
    head.n_segments = 0
    head.stream_bytes = 0
    head.n_ranges = 0
    head.first_seq = 0
    head.other = 0
    head.removed = 0
    head.ttl = 0
    head.trail = TRAIL_NONE
    head.trail_stash = 0


@inner
def _remember(head, start, end):
    """Add the range [start, end), which touches no other one. False: no room."""
    n = head.n_ranges
    at = 0
    while at < n and head.range_from[at] < start:
        at += 1
    joins_left = at > 0 and head.range_to[at - 1] == start
    joins_right = at < n and head.range_from[at] == end
    if joins_left and joins_right:
        head.range_to[at - 1] = head.range_to[at]
        for k in range(at, n - 1):
            head.range_from[k] = head.range_from[k + 1]
            head.range_to[k] = head.range_to[k + 1]
        head.n_ranges = n - 1
        return True
    if joins_left:
        head.range_to[at - 1] = end
        return True
    if joins_right:
        head.range_from[at] = start
        return True
    if n == head.range_from.size:
        return False
    for k in range(n, at, -1):
        head.range_from[k] = head.range_from[k - 1]
        head.range_to[k] = head.range_to[k - 1]
    head.range_from[at] = start
    head.range_to[at] = end
    head.n_ranges = n + 1
    return True


@inner
def place(head, arena, base, room, offset, buf, at, size, frame, ack):
    """Put ``buf[at : at + size]`` at ``offset`` of the head ``arena[base : base + room]``; bytes outside the head are left out.

    The arena is one flat array: a slice of it for each call would cost atomic reference counts, more than the call itself.
    """
    if offset < 0:
        at -= offset
        size += offset
        offset = 0
    if offset + size > room:
        size = room - offset
    if size <= 0 or at < 0 or at + size > buf.size or base < 0 or base + room > arena.size:
        return
    # BOUNDS, for all copies below: they lie in arena[base : base + room] and buf[at : at + size], which are inside.
    end = offset + size
    if end <= head.filled_bytes:
        return
    if offset <= head.filled_bytes and head.n_ranges == 0:
        # The common case: the next bytes in order.
        start = head.filled_bytes
        skip = start - offset
        move_bytes(arena, base + start, buf, at + skip, size - skip)
        head.filled_bytes = end
        added = True
    else:
        added = False
        pos = max(offset, head.filled_bytes)
        while pos < end:
            stop = end
            inside = False
            for k in range(head.n_ranges):
                if head.range_from[k] <= pos < head.range_to[k]:
                    pos = head.range_to[k]
                    inside = True
                    break
                if head.range_from[k] > pos:
                    stop = min(stop, head.range_from[k])
                    break
            if inside:
                continue
            if not _remember(head, pos, stop):
                break
            move_bytes(arena, base + pos, buf, at + pos - offset, stop - pos)
            added = True
            pos = stop
        if head.n_ranges > 0 and head.range_from[0] <= head.filled_bytes:
            head.filled_bytes = head.range_to[0]
            for k in range(head.n_ranges - 1):
                head.range_from[k] = head.range_from[k + 1]
                head.range_to[k] = head.range_to[k + 1]
            head.n_ranges -= 1
        start = offset
    if added and head.n_segments < head.segment_at.size:
        head.segment_at[head.n_segments] = start
        head.segment_frame[head.n_segments] = frame
        head.segment_ack[head.n_segments] = ack
        head.n_segments += 1


@inner
def differs(head, arena, base, room, offset, buf, at, size):
    """The last place of the head where ``buf[at : at + size]``, to be put at ``offset``, differs from what is stored; -1: nowhere."""
    if at < 0 or at + size > buf.size or base < 0 or base + room > arena.size:
        return -1
    last = -1
    for k in range(-1, head.n_ranges):
        start = 0 if k < 0 else head.range_from[k]
        stop = head.filled_bytes if k < 0 else head.range_to[k]
        # BOUNDS: inside the head, and inside the segment.
        for pos in range(max(start, offset), min(stop, offset + size, room)):
            if arena[base + pos] != buf[at + pos - offset]:
                last = max(last, pos)
    return last


@inner
def brought(head, pos):
    """The frame that brought a byte of a head; -1: not known."""
    frame, nearest = np.int64(-1), -1
    for k in range(head.n_segments):
        if nearest < head.segment_at[k] <= pos:
            frame, nearest = np.int64(head.segment_frame[k]), head.segment_at[k]
    return frame


@inner
def overlay(head, arena, base, room, least, offset, buf, at, size, frame, ack):
    """As ``place``, but the segment overwrites what is stored, from ``least`` on: bytes acknowledged before do not change."""
    alone = head.n_ranges == 0 and offset >= head.filled_bytes
    place(head, arena, base, room, offset, buf, at, size, frame, ack)
    start = max(offset, least, 0)
    if alone:
        return
    stop = min(offset + size, room)
    if stop <= start or at < 0 or at + size > buf.size or base < 0 or base + room > arena.size:
        return
    # BOUNDS: both stretches are inside, by the comparisons above.
    move_bytes(arena, base + start, buf, at + start - offset, stop - start)
    if head.n_segments < head.segment_at.size:
        head.segment_at[head.n_segments] = start
        head.segment_frame[head.n_segments] = frame
        head.segment_ack[head.n_segments] = ack
        head.n_segments += 1


@inner
def take_out(head, arena, base, room, offset, urgent, buf, at, size, frame, ack):
    """Put a segment without its urgent byte, number ``urgent`` of it (RFC 6093 section 2), into a reading that leaves such bytes out. False: it does not go on there."""
    offset -= head.removed
    if head.n_ranges > 0 or offset != head.filled_bytes:
        return False
    place(head, arena, base, room, offset, buf, at, urgent, frame, ack)
    place(head, arena, base, room, offset + urgent, buf, at + urgent + 1, size - urgent - 1, frame, ack)
    head.removed += 1
    return True


@inner
def shift_head(head, arena, base, room, by):
    """Make room for ``by`` bytes in front: a stream without SYN began earlier than its first seen segment. What falls off is lost."""
    size = room
    if by >= size:
        clear_head(head)
        return
    # Records were followed from places that are no longer the same.
    head.trail_stash = 0
    if head.trail != TRAIL_NONE:
        head.trail = TRAIL_OTHER
    for k in range(size - 1, by - 1, -1):
        arena[base + k] = arena[base + k - by]
    head.first_seq = (head.first_seq - by) & 0xFFFFFFFF
    kept = 0
    n = head.n_ranges
    # The contiguous start becomes a stretch of its own behind the new gap, in front of all others.
    if head.filled_bytes > 0:
        last = min(n, head.range_from.size - 1)
        for k in range(last, 0, -1):
            head.range_from[k] = head.range_from[k - 1]
            head.range_to[k] = head.range_to[k - 1]
        n = last + 1
        head.range_from[0] = 0
        head.range_to[0] = head.filled_bytes
    for k in range(n):
        start = head.range_from[k] + by
        end = min(head.range_to[k] + by, size)
        if start < size:
            head.range_from[kept] = start
            head.range_to[kept] = end
            kept += 1
    head.n_ranges = kept
    head.filled_bytes = 0
    for k in range(head.n_segments):
        head.segment_at[k] = min(head.segment_at[k] + by, size)
