"""Frames as they come from a file or an interface, and where they were taken.

A batch is columns over one buffer. Readers fill the same buffer again for the next batch, so a batch is valid only until
the next one is taken; whoever needs bytes for longer copies them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH_FRAMES = 16_384
"""At most this many frames are handed on at once: the decoded rows of a batch then stay in the processor's cache."""

BATCH_BYTES = 4 * 1024 * 1024
"""About this many bytes are read at once."""

RESERVE_BYTES = 65_536
"""Free room behind ``FrameBatch.used_bytes`` of every buffer: fragments that arrived before their first are put there."""


@dataclass(frozen=True, slots=True)
class VantagePoint:
    """The interface of the machine where frames were taken; unknown in a merged file."""

    name: str | None
    interface: str | None
    link_type: int
    """LINKTYPE_ number (https://www.tcpdump.org/linktypes.html)."""
    snaplen_bytes: int
    """0: no limit is stated."""


REMARKS = frozenset({"corrected", "continued", "cut", "filtered", "undated", "misdated"})
"""Kinds of problems that take nothing away from what was captured: a wrong link type put right, a file whose beginning was audited before, packets cut short, a filter that the capture was taken
with, packets without a date or with one that cannot be. What a judgement lacks because of them is told of the connection, unless another capture has it."""

DATED_NS = 788_918_400 * 1_000_000_000
"""Start of 1995. TLS is younger: an earlier packet has no time stamp, or one of a clock that was not set."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of an input, and where it is."""

    kind: str
    """One word a script can rely on: truncated, corrupt, unsupported, unreadable, limit, interrupted; and those of REMARKS."""
    says: str
    frame: int | None = None
    """The last whole frame before it, from 1."""
    offset: int | None = None
    """Byte offset in the (decompressed) input."""

    @property
    def damaging(self) -> bool:
        """Whether packets were lost; not if the reader could repair it, or if all that was captured was read."""
        return self.kind not in REMARKS

    def as_dict(self) -> dict[str, Any]:
        return {"kind": self.kind, "says": self.says, "frame": self.frame, "offset": self.offset}


@dataclass(frozen=True, slots=True)
class Capture:
    """One file or live session, as known when it has been read to its end."""

    path: str
    format: str
    """pcap or pcapng; with the compression behind it: ``pcap+gzip``."""
    packets: int
    bytes: int
    """Bytes of the input as it lies on disk or came through the pipe."""
    first_ns: int | None
    last_ns: int | None
    """Smallest and largest time stamp: frames need not be in time order."""
    time_digits: int
    """Digits behind the second that the capture has: 6 or 9 (pcapng: what if_tsresol gives, at most 9)."""
    vantage_points: tuple[VantagePoint, ...]
    dropped: int | None
    """None: not in the file."""
    problems: tuple[Problem, ...] = ()
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """Frames in capture order, which need not be time order; all columns have one row a frame."""

    buf: NDArray[np.uint8]
    """Writable; frame i is ``buf[start[i] : start[i] + caplen_bytes[i]]``, always inside ``used_bytes``."""
    used_bytes: int
    start: NDArray[np.int64]
    caplen_bytes: NDArray[np.int64]
    wirelen_bytes: NDArray[np.int64]
    """At least caplen; what the frame had on the wire."""
    ts_ns: NDArray[np.int64]
    """Since 1970 in UTC."""
    interface: NDArray[np.int32]
    """Index into ``Capture.vantage_points``."""
    link_type: NDArray[np.int32]
    """LINKTYPE_ number of the frame's interface."""
    first_frame_no: int
    """Number that the frame behind the batch before has, from 1 as in Wireshark."""
    number: NDArray[np.int64] | None = None
    """Each frame's; None: they follow without a hole. Blocks that are no packets have numbers in Wireshark, and are left out here."""

    @property
    def numbers(self) -> NDArray[np.int64]:
        """Each frame's number."""
        if self.number is None:
            return np.arange(self.first_frame_no, self.first_frame_no + len(self), dtype=np.int64)
        return self.number

    def place(self, frame: int) -> int:
        """Index of the frame with this number, -1: it is not here."""
        if self.number is None:
            at = frame - self.first_frame_no
        else:
            at = int(np.searchsorted(self.number, frame))
            at = at if at < len(self) and self.number[at] == frame else -1
        return at if 0 <= at < len(self) else -1

    def __len__(self) -> int:
        return int(self.start.size)

    def without(self, count: int) -> FrameBatch:
        """The same without its first frames; their numbers stay."""
        names = ("start", "caplen_bytes", "wirelen_bytes", "ts_ns", "interface", "link_type")
        left = {name: getattr(self, name)[count:] for name in names}
        first = int(self.numbers[count]) if count < len(self) else self.first_frame_no + len(self)
        return replace(self, **left, first_frame_no=first, number=None if self.number is None else self.number[count:])


def vantage_name(capture: Capture) -> str | None:
    """Where the capture was taken, as far as the file has it."""
    told = dict.fromkeys(point.interface or point.name for point in capture.vantage_points)
    return ", ".join(name for name in told if name) or None


def names_of(mask: int, vantages: Sequence[str]) -> tuple[str, ...]:
    """Names of the captures in the mask; the last bit stands for all beyond."""
    return tuple(name for k, name in enumerate(vantages) if mask >> min(k, 63) & 1)
