"""What follows a full head of TLS: the headers of records, and of handshake messages in the clear, to the end of both flights.

A head keeps the first bytes of a direction. Handshakes may be longer: large certificates, chains, long lists of authorities. So behind a
full head the stream is followed on by its headers alone, which tell where the next ones stand (RFC 8446 section 5.1, RFC 5246 sections 6.2 and 7.4).

What holds here:
- The state is a few numbers of the head's own record, whatever the length of the stream; ``read`` goes on from it with the next bytes. It begins with
  the bytes of the head itself, from where TLS starts there (behind a preface, too).
- Only headers are needed: a segment between two of them may be missing, late or cut off, and changes nothing.
- A segment that comes before the header that is wanted next waits in a stash, of which there are a few for all directions. The oldest makes room.
- Nothing of what a ServerHello says is needed: ``kernels/tls.py``, which goes on with these records behind the head, knows what they mean.
- What has room in the head is told by the head; a record (a message) is told here where its last byte lies behind it.
"""

from __future__ import annotations

import numpy as np

from auditor.kernels.accelerate import inner
from auditor.kernels.bytes import be16, u8
from auditor.kernels.streams import clear_head, place
from auditor.kernels.tls import KEPT_RECORDS
from auditor.model.streams import (
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
)
from auditor.wire import tls as wire

STASHES = 64
STASH_BYTES = 32_768
"""Room for bytes that came too early: an initial window, or a large segment of a network card."""
STASH_NOTES = 2
"""Of each stash: whose it is (a slot), and the place of its first byte."""
FAR_BYTES = 1 << 17
"""A header that is so far behind what was seen does not come any more."""
PREFACE_BYTES = 2_048
"""TLS that begins behind another protocol begins within these."""

# What is read next.
NEED_RECORD, NEED_ALERT, NEED_BODY, NEED_MESSAGE = range(4)

_HEADER, _MESSAGE_HEADER, _MAX_RECORD = wire.RECORD_HEADER_BYTES, wire.MESSAGE_HEADER_BYTES, wire.MAX_RECORD_BYTES
_CCS, _ALERT, _HANDSHAKE, _DATA = wire.CHANGE_CIPHER_SPEC, wire.ALERT, wire.HANDSHAKE, wire.APPLICATION_DATA
_CLIENT_HELLO, _SERVER_HELLO = wire.CLIENT_HELLO, wire.SERVER_HELLO
_KNOWN = np.array([t in wire.KNOWN_MESSAGES for t in range(256)], dtype=np.bool_)
_LEAST_HELLO = 36


@inner
def _tell(head, kind, what, size, first, last, room):
    """Note a record (or message) that ended at ``head.trail_next``, unless the head tells of it."""
    if head.trail_next <= room:
        return
    if head.n_trail == TRAIL_RECORDS:
        head.trail = TRAIL_FULL
        return
    n = np.int64(head.n_trail)
    head.told_kind[n], head.told_what[n], head.told_size[n] = kind, what, size
    head.told_first[n], head.told_last[n] = first, last
    head.n_trail = n + 1


@inner
def read(head, room, buf, at, size, pos, frame):
    """Go on with ``buf[at : at + size]``, the bytes of the stream from ``pos`` on, which came with ``frame``; ``room``: so much is in the head.

    BOUNDS: the caller proved the bytes, and that pos <= head.trail_next.
    """
    end = pos + size
    off = at - pos
    while head.trail == TRAIL_RUNS and head.trail_next <= end:
        here = np.int64(head.trail_next)
        need = np.int64(head.trail_need)
        if need == NEED_BODY:
            # All of the record.
            kind, length = np.int64(head.trail_kind), head.trail_until - head.trail_record - _HEADER
            if kind == _CCS:
                head.trail_clear = 0
            elif kind == _DATA and head.trail_data <= KEPT_RECORDS:
                head.trail_data += 1
            _tell(head, kind, OPAQUE, length, head.trail_record_frame, frame, room)
            head.trail_need = NEED_RECORD
            if head.trail == TRAIL_RUNS and head.trail_data > KEPT_RECORDS:
                head.trail = TRAIL_FULL
        elif need == NEED_MESSAGE:
            if head.trail_inside and head.trail_left == 0:
                head.trail_inside, head.trail_unsure = 0, 0
                what, length = head.trail_message, head.trail_length
                _tell(head, _HANDSHAKE, what, length, head.trail_message_frame, frame, room)
            elif here >= head.trail_until:
                if head.trail_held > 0 and head.trail_unsure:
                    head.trail_clear = 0
                head.trail_need = NEED_RECORD
            elif head.trail_inside:
                step = min(np.int64(head.trail_left), head.trail_until - here)
                head.trail_left -= step
                head.trail_next = here + step
            elif here == end:
                return
            else:
                if head.trail_held == 0:
                    head.trail_message_frame = frame
                head.trail_start[head.trail_held] = buf[off + here]
                head.trail_held += 1
                head.trail_next = here + 1
                if head.trail_held == _MESSAGE_HEADER:
                    head.trail_held = 0
                    what = np.int64(head.trail_start[0])
                    length = np.int64(head.trail_start[1]) << 16
                    length |= np.int64(head.trail_start[2]) << 8 | np.int64(head.trail_start[3])
                    if head.trail_unsure and (not _KNOWN[what] or here + 1 + length > head.trail_until):
                        head.trail_clear = 0
                        head.trail_next = head.trail_until
                        head.trail_need = NEED_BODY
                    elif not _KNOWN[what]:
                        head.trail = TRAIL_BAD_MESSAGE
                    else:
                        head.trail_inside = 1
                        head.trail_message, head.trail_length, head.trail_left = what, length, length
        elif here == end:
            return
        else:
            # A header, or an alert of two bytes.
            if need == NEED_RECORD and head.trail_have == 0:
                head.trail_record, head.trail_record_frame = here, frame
            head.trail_bytes[head.trail_have] = buf[off + here]
            head.trail_have += 1
            head.trail_next = here + 1
            if need == NEED_ALERT:
                if head.trail_have == 2:
                    head.trail_have, head.trail_need = 0, NEED_RECORD
                    what = np.int64(head.trail_bytes[0]) << 8 | np.int64(head.trail_bytes[1])
                    _tell(head, _ALERT, what, 2, head.trail_record_frame, frame, room)
            elif head.trail_have == _HEADER:
                head.trail_have = 0
                kind = np.int64(head.trail_bytes[0])
                length = np.int64(head.trail_bytes[3]) << 8 | np.int64(head.trail_bytes[4])
                head.trail_kind = kind
                head.trail_until = here + 1 + length
                if (
                    kind < _CCS
                    or kind > _DATA
                    or head.trail_bytes[1] != 3
                    or head.trail_bytes[2] > 4
                    or length > _MAX_RECORD
                    or (length == 0 and kind != _DATA)
                ):
                    head.trail = TRAIL_BAD_RECORD
                elif kind == _ALERT and length == 2:
                    head.trail_need = NEED_ALERT
                elif kind == _HANDSHAKE and head.trail_clear:
                    head.trail_need = NEED_MESSAGE
                else:
                    head.trail_need = NEED_BODY
                    head.trail_next = head.trail_until


@inner
def _is_record(buf, at):
    """Whether a record's header may stand at ``buf[at : at + 5]``."""
    kind, size = u8(buf, at), be16(buf, at + 3)
    known = _CCS <= kind <= _DATA and buf[at + 1] == 3 and buf[at + 2] <= 4
    return known and size <= _MAX_RECORD and (size > 0 or kind == _DATA)


@inner
def tls_start(arena, base, room):
    """Where in a full head TLS begins: at once, or with a hello behind a preface; -1: nowhere."""
    if room < 16:
        return -1
    if _is_record(arena, base):
        return 0
    for at in range(1, min(PREFACE_BYTES, room - 16)):
        # BOUNDS: 11 bytes from base + at, and room is in the arena.
        here = base + at
        if arena[here] != _HANDSHAKE or arena[here + 1] != 3 or not _is_record(arena, here):
            continue
        message, length = u8(arena, here + 5), u8(arena, here + 6) << 16 | be16(arena, here + 7)
        if message in (_CLIENT_HELLO, _SERVER_HELLO) and length >= _LEAST_HELLO and arena[here + 9] == 3:
            return at
    return -1


@inner
def _piece(head, pos, end):
    """Where the segment that brought the byte at ``pos`` of a head (or stash) begins and ends, and its frame; inside ``[.., end)``."""
    first, until, frame = np.int64(-1), np.int64(end), np.int64(0)
    for k in range(np.int64(head.n_segments)):
        at = np.int64(head.segment_at[k])
        if first < at <= pos:
            first, frame = at, np.int64(head.segment_frame[k])
        elif pos < at < until:
            until = at
    return max(first, 0), until, frame


@inner
def begin(head, arena, base, room, midstream):
    """Start to follow what lies behind the full head ``arena[base : base + room]``, with the records in it."""
    start = tls_start(arena, base, room)
    head.trail = TRAIL_OTHER
    if start < 0:
        return
    head.trail = TRAIL_RUNS
    head.n_trail, head.trail_data, head.trail_have, head.trail_held, head.trail_inside = 0, 0, 0, 0, 0
    head.trail_clear, head.trail_unsure = 1, 1 if midstream and start == 0 else 0
    head.trail_need, head.trail_next = NEED_RECORD, start
    at = np.int64(start)
    while at < room:
        _, until, frame = _piece(head, at, room)
        # BOUNDS: start <= at < until <= room; what is wanted next is at or behind `at`, for all before it was read.
        read(head, room, arena, base + at, until - at, at, frame)
        at = until
    if head.trail in (TRAIL_BAD_RECORD, TRAIL_BAD_MESSAGE):
        head.trail = TRAIL_OTHER  # the head says so by itself
        return
    header = head.trail_need == NEED_RECORD
    head.trail_at = head.trail_next - head.trail_have if header else head.trail_record


@inner
def go_on(head, arena, base, room, midstream, later, more, offset):
    """Go on behind a full head with the bytes of another one, ``more``, which begin at ``offset`` of the stream."""
    if head.filled_bytes < room:
        return
    if head.trail == TRAIL_NONE:
        begin(head, arena, base, room, midstream)
    filled = min(np.int64(later.filled_bytes), more.size)
    at = np.int64(0)
    while at < filled and head.trail == TRAIL_RUNS:
        _, until, frame = _piece(later, at, filled)
        if offset + at <= head.trail_next <= offset + until:
            # BOUNDS: 0 <= at < until <= filled <= more.size.
            read(head, room, more, at, until - at, offset + at, frame)
        at = until


@inner
def _keep(head, stashes, stash_bytes, notes, slot, first, buf, at, size, pos, frame):
    """Put bytes aside that came before the one that is wanted next, which is at ``first``."""
    which = np.int64(head.trail_stash) - 1
    if which < 0 or notes[which, 0] != slot:
        if pos >= first + STASH_BYTES:
            return
        # The next one in turn; its previous user loses it.
        which = notes[STASHES, 0]
        notes[STASHES, 0] = (which + 1) % STASHES
        notes[which, 0], notes[which, 1] = slot, first
        clear_head(stashes[which])
        head.trail_stash = which + 1
    # BOUNDS: `place` proves them.
    place(stashes[which], stash_bytes, which * STASH_BYTES, STASH_BYTES, pos - notes[which, 1], buf, at, size, frame, 0)


@inner
def _drain(head, room, stashes, stash_bytes, notes, slot):
    """Go on with what was put aside, as far as it joins."""
    which = np.int64(head.trail_stash) - 1
    if which < 0:
        return
    if notes[which, 0] != slot:
        head.trail_stash = 0
        return
    stash = stashes[which]
    first = notes[which, 1]
    moved = True
    while moved and head.trail == TRAIL_RUNS:
        moved = False
        want = head.trail_next - first
        if want >= STASH_BYTES:
            break
        for k in range(np.int64(stash.n_ranges) + 1):
            start = np.int64(0) if k == 0 else np.int64(stash.range_from[k - 1])
            end = np.int64(stash.filled_bytes) if k == 0 else np.int64(stash.range_to[k - 1])
            # The last byte before the wanted one is enough where only the end of a record is waited for.
            if start <= want <= end and start < end and want >= 0:
                place_before, need, told, inside = head.trail_next, head.trail_need, head.n_trail, head.trail_inside
                begins, until, frame = _piece(stash, max(min(want, end - 1), start), end)
                begins = max(begins, start)
                # BOUNDS: 0 <= start <= begins <= until <= end <= STASH_BYTES, all of the stash's own room.
                read(head, room, stash_bytes, which * STASH_BYTES + begins, until - begins, first + begins, frame)
                moved = head.trail_next != place_before or head.trail_need != need
                moved = moved or head.n_trail != told or head.trail_inside != inside
                break
    if head.trail_next - first >= STASH_BYTES or (
        stash.n_ranges == 0 and stash.filled_bytes <= head.trail_next - first
    ):
        # None of it is needed any more.
        notes[which, 0] = -1
        head.trail_stash = 0


@inner
def follow(
    head, arena, base, room, stashes, stash_bytes, notes, slot, buf, at, size, pos, frame, reach, midstream, far
):
    """A segment of a direction that is longer than its head: ``buf[at : at + size]``, from ``pos`` on. True: there is nothing more to wait for.

    reach: one behind the last byte seen; far: so long a stream is not waited for any more if its head still lacks something.
    """
    inside = size > 0 and at >= 0 and at + size <= buf.size
    if head.filled_bytes < room:
        if inside and pos + size > room and reach <= far:
            skip = max(room - pos, 0)
            _keep(head, stashes, stash_bytes, notes, slot, room, buf, at + skip, size - skip, pos + skip, frame)
        return reach > far
    if head.trail == TRAIL_NONE:
        begin(head, arena, base, room, midstream)
    if head.trail == TRAIL_RUNS:
        if inside and pos <= head.trail_next:
            read(head, room, buf, at, size, pos, frame)
        elif inside:
            _keep(head, stashes, stash_bytes, notes, slot, head.trail_next, buf, at, size, pos, frame)
        _drain(head, room, stashes, stash_bytes, notes, slot)
    return head.trail != TRAIL_RUNS or reach > head.trail_next + FAR_BYTES


@inner
def end_trail(head, side, snapped):
    """Say in ``trail_end`` how a trail ends; ``head.stream_bytes`` is known, ``snapped``: bytes were cut off."""
    head.trail_end = 0
    if head.trail not in (TRAIL_RUNS, TRAIL_FULL):
        return
    wanted, seen = np.int64(head.trail_next), side.end - side.head_base
    if head.trail == TRAIL_FULL:
        if head.stream_bytes > wanted:
            head.trail_end = TRAIL_LIMIT
    elif seen <= wanted:
        if head.stream_bytes > seen:
            head.trail_end = TRAIL_GAP
        elif seen < wanted or head.trail_need != NEED_RECORD or head.trail_have > 0:
            head.trail_end = TRAIL_CUT
    else:
        at = side.head_base + wanted
        missing = side.lost_bytes > 0 or snapped
        for k in range(side.n_holes):
            missing = missing or side.hole_from[k] <= at < side.hole_to[k]
        head.trail_end = TRAIL_GAP if missing else TRAIL_LIMIT
