"""The first bytes of a connection, each direction in order, with gaps known as gaps."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace

import numpy as np

HEAD_BYTES = 8_192
"""So many first bytes of a direction are kept: a TLS flight with a chain and a list of CA names fits."""

HEAD_SEGMENTS = 24
"""So many segments of a head remember their frame; bytes behind them are evidenced by the last one."""

HEAD_RANGES = 16
"""So many stretches of bytes that came before the ones in front of them are held; more are left out, as if lost."""

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
        ("range_from", np.int32, (HEAD_RANGES,)),
        ("range_to", np.int32, (HEAD_RANGES,)),
    ],
    align=True,
)
"""What is known of one direction's head; its bytes are a row of a second array, ``uint8[HEAD_BYTES]``."""


@dataclass(frozen=True, slots=True)
class StreamHead:
    """One direction's first bytes, up to the first gap."""

    data: bytes = b""
    gap: bool = False
    """Bytes behind ``data`` were seen, but not the next one."""
    ended: bool = False
    """Nothing follows ``data``: the direction was closed there."""
    midstream: bool = False
    """``data`` does not start at the first byte of the stream (or nobody saw whether it does)."""
    stream_bytes: int = 0
    """Payload of the whole direction as far as seen; may exceed ``len(data)``."""
    segments: tuple[tuple[int, int], ...] = ()
    """(offset in ``data``, frame number), by offset."""

    @property
    def full(self) -> bool:
        """The head holds all it can or all there is: more bytes will never be appended to ``data``."""
        return self.ended or self.gap or len(self.data) >= HEAD_BYTES

    def frames(self, start: int, end: int) -> tuple[int, ...]:
        """Numbers of the frames that carried ``data[start:end]``, in rising order."""
        if not self.segments or end <= start:
            return ()
        if len(self.segments) == 1:
            return (self.segments[0][1],)
        offsets = [at for at, _ in self.segments]
        first = max(bisect_right(offsets, start) - 1, 0)
        last = max(bisect_right(offsets, end - 1), first + 1)
        return tuple(sorted({frame for _, frame in self.segments[first:last]}))

    def after(self, at: int) -> StreamHead:
        """The same stream without its first ``at`` bytes."""
        if at == 0:
            return self
        moved = tuple((max(offset - at, 0), frame) for offset, frame in self.segments)
        kept = [pair for i, pair in enumerate(moved) if i + 1 == len(moved) or moved[i + 1][0] > 0]
        return replace(self, data=self.data[at:], stream_bytes=max(self.stream_bytes - at, 0), segments=tuple(kept))


@dataclass(frozen=True, slots=True)
class Streams:
    """Both directions of a connection, as inspectors see them."""

    orig: StreamHead = field(default_factory=StreamHead)
    resp: StreamHead = field(default_factory=StreamHead)
    settled: bool = True
    """No more bytes will come; while False, an inspector may answer that it needs more."""
    line_bytes: int = HEAD_BYTES
    """The longest line of a text that is read (``Limits.line_bytes``)."""
