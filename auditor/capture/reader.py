"""What the readers of all formats share: one buffer over the source, one set of columns, and the account of what was read.

The buffer is filled again and again (a mapped file would count as memory, however large it is). Its last RESERVE_BYTES stay
free for the decoder. What is not yet taken moves to the front before the buffer is filled up; a record that is larger than the
buffer makes it grow, up to the limit of a frame.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from auditor.capture.growing import GrowingSource
from auditor.capture.sources import RawSource, Source, SourceError
from auditor.kernels.load import overlapping_words
from auditor.model.frames import BATCH_FRAMES, RESERVE_BYTES, Capture, FrameBatch, Problem, VantagePoint
from auditor.model.limits import Limits


class Window:
    """The part of a source that lies in the buffer: ``buf[at:filled]`` waits to be taken."""

    def __init__(self, source: Source, fill_bytes: int, *, eager: bool = False) -> None:
        """``eager``: hand on what there is, because what follows may be long in coming."""
        self._source, self._eager = source, eager
        self._room = fill_bytes
        self.buf: NDArray[np.uint8] = np.zeros(fill_bytes + RESERVE_BYTES, np.uint8)
        self.words = overlapping_words(self.buf)
        self.at = 0
        self.filled = 0
        self._base = 0
        self.ended = False
        """The source has no more to give."""
        self.failed: SourceError | None = None
        """Why, when not by its end."""

    @property
    def offset(self) -> int:
        """Where ``at`` is in the decompressed input."""
        return self._base + self.at

    @property
    def left(self) -> int:
        """Bytes that wait."""
        return self.filled - self.at

    def more(self, want: int) -> bool:
        """Read on until ``want`` bytes wait or the source ends; True when they do. What was behind ``at`` is gone then."""
        rest = self.left
        if rest >= want:
            return True
        if self.ended:
            return False
        old = self.buf
        if want > self._room:
            self._room = want
            self.buf = np.zeros(want + RESERVE_BYTES, np.uint8)
            self.words = overlapping_words(self.buf)
        self.buf[:rest] = old[self.at : self.filled]
        self._base += self.at
        self.at, self.filled = 0, rest
        view = self.buf.data
        # To the brim, also from a pipe that gives little at a time: what follows costs the same for a small batch as for a full one.
        while self.filled < self._room:
            try:
                count = self._source.readinto(view[self.filled : self._room])
            except SourceError as error:
                self.failed, self.ended = error, True
                break
            if count == 0:
                self.ended = True
                break
            self.filled += count
            if self._eager and self.filled >= want:
                break
        return self.left >= want

    def skip(self, count: int, *, wipe: bool = False) -> bool:
        """Pass over ``count`` bytes, however many; False when the source ends before. ``wipe``: leave no trace of them."""
        while count > 0:
            if self.left == 0 and not self.more(1):
                return False
            step = min(count, self.left)
            if wipe:
                self.buf[self.at : self.at + step] = 0
            self.at += step
            count -= step
        return True

    def peek(self, size: int) -> bytes:
        """The next bytes, at most what waits."""
        return self.buf[self.at : min(self.at + size, self.filled)].tobytes()


class Columns:
    """The columns that every batch shows a part of."""

    def __init__(self, link_type: int, frames: int = BATCH_FRAMES) -> None:
        self.start = np.zeros(frames, np.int64)
        self.caplen = np.zeros(frames, np.int64)
        self.wirelen = np.zeros(frames, np.int64)
        self.ts_ns = np.zeros(frames, np.int64)
        self.interface = np.zeros(frames, np.int32)
        self.link_type = np.full(frames, link_type, np.int32)
        self.number = np.zeros(frames, np.int64)


OPENING_BYTES = 1024 * 1024
"""Largest header (pcapng sections and interfaces) kept so that a batch can be read separately."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where reading can begin again, with a batch that was read before."""

    offset: int
    """In the (decompressed) input."""
    frames_before: int
    opening: bytes
    """Headers that have to be read first: they describe what is at ``offset``."""


class CaptureReader(ABC):
    """Frames of one capture, once. A context manager: leaving it closes what ``open_capture`` opened."""

    def __init__(
        self,
        name: str,
        format_name: str,
        source: Source,
        raw: RawSource,
        limits: Limits,
        link_type: int | None,
        *,
        total_bytes: int | None = None,
        close: Callable[[], None] | None = None,
        growing: GrowingSource | None = None,
        prompt: bool = False,
    ) -> None:
        self.name, self.format_name = name, format_name
        self.total_bytes = total_bytes
        """Size of the input on disk; None for a pipe. With ``read_bytes``, for showing progress."""
        self.has_secrets = False
        """The capture carries keys (Decryption Secrets Blocks). They are passed over and never kept."""
        self._raw, self._limits, self._link_type = raw, limits, link_type
        self._growing = growing
        self.place: Place | None = None
        """Of the batch given last; None where its headers are too large to keep."""
        self._window = Window(source, limits.buffer_bytes, eager=prompt or growing is not None)
        self._close = close
        self._frames = 0
        """Number of the latest frame."""
        self._packets = 0
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._vantage_points: list[VantagePoint] = []
        self._problems: list[Problem] = []
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the input, if ``open_capture`` opened it. May be called again."""
        if self._close is not None:
            self._close()
            self._close = None

    @property
    def read_bytes(self) -> int:
        """Bytes taken from the input until now, as they lie on disk."""
        return self._raw.read_bytes

    def number_from(self, frames_before: int) -> None:
        """Count frames on from those of a part that is not read; before the first batch only."""
        if self._started:
            raise RuntimeError("frames were counted already")
        self._frames = self._packets = frames_before

    def batches(self) -> Iterator[FrameBatch]:
        """The frames in capture order; each batch is valid until the next is taken. Bad input ends them: see ``summary``."""
        if self._started:
            raise RuntimeError("the frames of a capture can be read only once")
        self._started = True
        return self._walk()

    def summary(self) -> Capture:
        """What is known until now; complete after the last batch."""
        return Capture(
            path=self.name,
            format=self.format_name,
            packets=self._packets,
            bytes=self.read_bytes if self.total_bytes is None else self.total_bytes,
            first_ns=self._first_ns,
            last_ns=self._last_ns,
            time_digits=self._time_digits(),
            vantage_points=tuple(self._vantage_points),
            dropped=self._dropped(),
            problems=tuple(self._problems),
        )

    @abstractmethod
    def _walk(self) -> Iterator[FrameBatch]: ...

    @abstractmethod
    def _time_digits(self) -> int: ...

    @abstractmethod
    def _dropped(self) -> int | None: ...

    def _batch(self, columns: Columns, count: int, *, untimed: bool = False, numbered: bool = False) -> FrameBatch:
        """The first ``count`` rows of the columns. ``untimed``: some have no time, 0 stands where none was known; ``numbered``: the column of frame
        numbers is filled.
        """
        times = columns.ts_ns[:count]
        known = times[times != 0] if untimed else times
        if known.size:
            first, last = int(known.min()), int(known.max())
            self._first_ns = first if self._first_ns is None else min(self._first_ns, first)
            self._last_ns = last if self._last_ns is None else max(self._last_ns, last)
        batch = FrameBatch(
            buf=self._window.buf,
            used_bytes=self._window.filled,
            start=columns.start[:count],
            caplen_bytes=columns.caplen[:count],
            wirelen_bytes=columns.wirelen[:count],
            ts_ns=times,
            interface=columns.interface[:count],
            link_type=columns.link_type[:count],
            first_frame_no=self._frames + 1,
            number=columns.number[:count] if numbered else None,
        )
        self._frames = int(batch.numbers[-1]) if count else self._frames
        self._packets += count
        return batch

    def _placed(self, offset: int, opening: bytes | bytearray | None) -> None:
        """Note where the batch that is given next begins."""
        self.place = None if opening is None else Place(offset, self._frames, bytes(opening))

    def _problem(self, kind: str, says: str, offset: int | None = None) -> None:
        at = self._window.offset if offset is None else offset
        self._problems.append(Problem(kind, says, frame=self._frames, offset=at))

    def _at_end(self, says: str, start: int | None = None) -> None:
        """The source has ended: report why, unless it was between two records.

        ``says``: what is cut off; ``start``: the offset where that begins, when part of it was taken already.
        """
        failed, window, growing = self._window.failed, self._window, self._growing
        if growing is not None and growing.ended_by_caller:
            # What its writer has not finished yet is no damage.
            if growing.unread_bytes:
                says = f"reading was ended before the end: {growing.unread_bytes} bytes at the end were not read"
                self._problem("truncated", says, window.offset + window.left)
        elif failed is not None:
            self._problem(failed.kind, failed.says, window.offset + window.left)
        elif start is not None or window.left:
            self._problem("truncated", f"cut off inside {says}; everything before it was read", start)
