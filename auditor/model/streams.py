"""The first bytes of a connection, each direction in order, with gaps known as gaps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from auditor.model.connections import FRAME_BITS

HEAD_BYTES = 8_192
"""So many first bytes of a direction are kept: a TLS flight with a chain and a list of CA names fits."""

HEAD_SEGMENTS = 24
"""So many segments of a head remember their frame; bytes behind them are evidenced by the last one."""

HEAD_RANGES = 16
"""Ranges of bytes that arrived out of order and are stored; further ones are left out, as if lost."""

TRAIL_RECORDS = 40
"""So many records (and messages in the clear) of TLS behind a full head are told: more than both flights and the dialogue that is judged."""

TRAIL_NONE, TRAIL_RUNS, TRAIL_FULL, TRAIL_OTHER, TRAIL_BAD_RECORD, TRAIL_BAD_MESSAGE = range(6)
"""Of what lies behind a head: not looked at, followed, followed as far as is told, no TLS, and where it stopped to be TLS."""

OPAQUE = 0x100
"""In place of the type of a message where it is not in the clear."""

TRAIL_GAP, TRAIL_LIMIT, TRAIL_CUT = 1, 2, 4
"""How a trail ends: bytes are missing, more was there than is followed, inside a record."""

HEAD = np.dtype(
    [
        ("filled_bytes", np.int32),  # contiguous from the start of the head
        ("gap", np.uint8),  # 1: bytes behind filled_bytes were seen, but not the next one
        ("ended", np.uint8),  # 1: the direction was closed (FIN, RST) right at filled_bytes: nothing follows
        ("midstream", np.uint8),  # 1: the head does not start at the first byte of the stream
        ("n_segments", np.uint8),
        ("stream_bytes", np.int64),  # payload of the direction so far, as sequence numbers tell (UDP: as lengths tell)
        ("n_ranges", np.int32),  # stretches of bytes behind the gap, for the reassembler alone
        ("segment_at", np.int32, (HEAD_SEGMENTS,)),  # offset of each kept segment in the head, in order of arrival
        ("segment_frame", np.int64, (HEAD_SEGMENTS,)),
        ("segment_ack", np.uint32, (HEAD_SEGMENTS,)),  # TCP: what it acknowledges; 0: nothing
        ("first_seq", np.uint32),  # TCP: sequence number of the head's first byte
        ("other", np.int32),  # 1 + the slot of another reading of the same bytes; 0: there is none
        ("removed", np.int32),  # bytes that this reading leaves out (urgent ones)
        ("ttl", np.uint8),  # of the packet that brought the first of it
        ("sender", np.uint32),  # ... and its ``PACKET.sender``
        ("range_from", np.int32, (HEAD_RANGES,)),
        ("range_to", np.int32, (HEAD_RANGES,)),
        # What follows a full head of TLS: headers alone, as ``kernels/trail.py`` finds them. Places count from the head's first byte.
        ("trail", np.uint8),  # TRAIL_ state
        ("trail_end", np.uint8),  # TRAIL_GAP, TRAIL_LIMIT, TRAIL_CUT
        ("n_trail", np.uint8),
        ("trail_stash", np.uint8),  # 1 + the number of the room for what came too early; 0: none
        ("trail_need", np.uint8),  # what is read next: a NEED_ of the follower
        ("trail_clear", np.uint8),  # 1: records of type 22 hold messages in the clear
        ("trail_unsure", np.uint8),  # 1: midstream, and no message was seen yet
        ("trail_kind", np.uint8),  # of the record that is read
        ("trail_inside", np.uint8),  # 1: inside a message
        ("trail_message", np.uint8),  # ... its type
        ("trail_data", np.uint8),  # records of type 23 so far
        ("trail_have", np.uint8),  # bytes of the header that is read
        ("trail_bytes", np.uint8, (5,)),
        ("trail_held", np.uint8),  # bytes of the message header that is read
        ("trail_start", np.uint8, (4,)),
        ("trail_at", np.int32),  # the header of the record in which the head ends
        ("trail_left", np.int32),  # bytes of the message that are still to come
        ("trail_length", np.int32),  # ... of all its body
        ("trail_next", np.int64),  # the next byte that is read
        ("trail_record", np.int64),  # the header of the record that is read
        ("trail_until", np.int64),  # ... its end
        ("trail_record_frame", np.int64),
        ("trail_message_frame", np.int64),
        ("told_kind", np.uint8, (TRAIL_RECORDS,)),  # of each record that ended behind the head: its type
        ("told_what", np.uint16, (TRAIL_RECORDS,)),  # the message's type, OPAQUE, or an alert's level and description
        ("told_size", np.int32, (TRAIL_RECORDS,)),
        ("told_first", np.int64, (TRAIL_RECORDS,)),  # frames of its first and of its last byte
        ("told_last", np.int64, (TRAIL_RECORDS,)),
    ],
    align=True,
)
"""What is known of one direction's head; its bytes are a row of a second array, ``uint8[HEAD_BYTES]``."""

TRAIL_FIELDS = tuple(name for name in HEAD.names or () if name.startswith(("trail", "told_", "n_trail")))


@dataclass(frozen=True, slots=True)
class TrailRecord:
    """A record of TLS, or a handshake message in the clear, that ended behind the head; its bytes were not kept."""

    kind: int
    """Type of the record."""
    what: int
    """Type of the message, or OPAQUE; of an alert in the clear its level and description."""
    size: int
    """Of the record's fragment, or of the message's body."""
    first: int
    """Frame of its first byte."""
    last: int
    """Frame of its last byte."""


@dataclass(frozen=True, slots=True)
class Trail:
    """What follows a full head of TLS."""

    at: int
    """Where in the head the record begins in which it ends."""
    records: tuple[TrailRecord, ...] = ()
    bad: int = 0
    """TRAIL_BAD_RECORD, TRAIL_BAD_MESSAGE: behind these records it is TLS no more."""
    gap: bool = False
    limit: bool = False
    """More was there than is followed."""
    cut: bool = False
    """It ends inside a record."""


TOLD_TRAILS = (TRAIL_RUNS, TRAIL_FULL, TRAIL_BAD_RECORD, TRAIL_BAD_MESSAGE)
"""States of a head behind which there is a trail."""


def trail_of(head: np.void) -> Trail:
    """The trail of a ``HEAD`` that is in one of the states of ``TOLD_TRAILS``."""
    columns = (head[name][: head["n_trail"]].tolist() for name in _TOLD)
    how, state = int(head["trail_end"]), int(head["trail"])
    return Trail(
        int(head["trail_at"]),
        tuple(TrailRecord(*record) for record in zip(*columns, strict=True)),
        state if state in {TRAIL_BAD_RECORD, TRAIL_BAD_MESSAGE} else 0,
        bool(how & TRAIL_GAP),
        bool(how & TRAIL_LIMIT),
        bool(how & TRAIL_CUT),
    )


_TOLD = ("told_kind", "told_what", "told_size", "told_first", "told_last")


class Said(NamedTuple):
    """When bytes were sent, as far as packets show."""

    frame: int
    """With which it had come."""
    end: int = -1
    """Sequence number behind it; -1: not known."""
    ack: int = 0
    """What had come of the other side before; 0: not known."""


def first_of(a: Said, b: Said) -> int:
    """Which of two sides sent first: 0 or 1, -1: unknown. A segment that acknowledges the other came after it, in whatever order they were captured."""
    if b.ack and a.end >= 0 and (b.ack - a.end) & 0xFFFFFFFF < _HALF:
        return 0
    if a.ack and b.end >= 0 and (a.ack - b.end) & 0xFFFFFFFF < _HALF:
        return 1
    if a.frame >> FRAME_BITS != b.frame >> FRAME_BITS:
        return -1
    return int(a.frame > b.frame)


_HALF = 1 << 31
_offset = itemgetter(0)


@dataclass(frozen=True, slots=True)
class StreamHead:
    """One direction's first bytes, up to the first gap."""

    data: bytes = b""
    gap: bool = False
    """Bytes behind ``data`` were seen, but not the next one."""
    ended: bool = False
    """The direction was closed right after ``data``."""
    midstream: bool = False
    """``data`` does not start at the first byte of the stream, or that is unknown."""
    stream_bytes: int = 0
    """Payload of the whole direction as far as seen; may exceed ``len(data)``."""
    segments: tuple[tuple[int, int], ...] = ()
    """(offset in ``data``, frame number), by offset."""
    trail: Trail | None = None
    """Records behind ``data``, where that is TLS and full."""
    taken_bytes: int = 0
    """So many bytes in front of ``data`` were taken off (``after``)."""
    acks: tuple[int, ...] = ()
    """What each segment acknowledges (TCP; 0: nothing)."""
    first_seq: int = 0
    """Sequence number of the first byte."""

    @property
    def stuffed(self) -> bool:
        """There is no room for more bytes."""
        return self.taken_bytes + len(self.data) >= HEAD_BYTES

    @property
    def full(self) -> bool:
        """The head holds all it can or all there is: more bytes will never be appended to ``data``."""
        return self.ended or self.gap or self.stuffed

    def frames(self, start: int, end: int) -> tuple[int, ...]:
        """Numbers of the frames that carried ``data[start:end]``, in rising order."""
        if not self.segments or end <= start:
            return ()
        if len(self.segments) == 1:
            return (self.segments[0][1],)
        first = max(bisect_right(self.segments, start, key=_offset) - 1, 0)
        last = max(bisect_right(self.segments, end - 1, key=_offset), first + 1)
        if last == first + 1:
            return (self.segments[first][1],)
        return tuple(sorted({frame for _, frame in self.segments[first:last]}))

    def said(self, end: int) -> Said:
        """When ``data[:end]`` was said."""
        return self.telling()(end)

    def telling(self) -> Callable[[int], Said]:
        """Says when ``data[:end]`` was said, for ends that rise."""
        segments, acks, first_seq = self.segments, self.acks, self.first_seq
        place = frame = ack = 0

        def said(end: int) -> Said:
            nonlocal place, frame, ack
            while place < len(segments) and segments[place][0] < end:
                frame, ack = max(frame, segments[place][1]), acks[place] if acks else 0
                place += 1
            return Said(frame, (first_seq + end) & 0xFFFFFFFF, ack)

        return said

    def after(self, at: int) -> StreamHead:
        """The same stream without its first ``at`` bytes."""
        if at == 0:
            return self
        moved = tuple((max(offset - at, 0), frame) for offset, frame in self.segments)
        stays = [i for i in range(len(moved)) if i + 1 == len(moved) or moved[i + 1][0] > 0]
        trail = self.trail and replace(self.trail, at=self.trail.at - at)
        left = max(self.stream_bytes - at, 0)
        return replace(
            self,
            data=self.data[at:],
            stream_bytes=left,
            segments=tuple(moved[i] for i in stays),
            acks=tuple(self.acks[i] for i in stays) if self.acks else (),
            first_seq=(self.first_seq + at) & 0xFFFFFFFF,
            trail=trail,
            taken_bytes=self.taken_bytes + at,
        )


@dataclass(frozen=True, slots=True)
class Streams:
    """Both directions of a connection, as inspectors see them."""

    orig: StreamHead = field(default_factory=StreamHead)
    resp: StreamHead = field(default_factory=StreamHead)
    settled: bool = True
    """No more bytes will come; while False, an inspector may answer that it needs more."""
    line_bytes: int = HEAD_BYTES
    """The longest line of a text that is read (``Limits.line_bytes``)."""
