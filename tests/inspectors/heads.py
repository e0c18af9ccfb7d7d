"""Heads of connections as the reassembler hands them on, made of what each side says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from auditor.inspectors._examine import Examined, Examiner
from auditor.model.streams import HEAD, HEAD_BYTES, HEAD_SEGMENTS, StreamHead, Streams

Segments = list[tuple[int, bytes]]
"""(frame number, bytes) in order."""


def head_of(said: Segments | bytes, *, gap: bool = False, ended: bool = True, midstream: bool = False) -> StreamHead:
    """One direction; bytes alone came in frame 1."""
    segments = [(1, said)] if isinstance(said, bytes) else said
    data, kept = b"", []
    for frame, part in segments:
        if len(data) < HEAD_BYTES and part and len(kept) < HEAD_SEGMENTS:
            kept.append((len(data), frame))
        data += part
    return StreamHead(data[:HEAD_BYTES], gap, ended, midstream, len(data), tuple(kept))


def streams(client: Segments | bytes = b"", server: Segments | bytes = b"", **more: Any) -> Streams:
    return Streams(head_of(client, **more), head_of(server, **more))


@dataclass
class Batch:
    """Connections for one call of the examiner."""

    pairs: list[tuple[Streams, int, int, tuple[int, int]]] = field(default_factory=list)

    def add(
        self,
        side0: StreamHead,
        side1: StreamHead,
        *,
        known: int = -1,
        transport: int = 6,
        ports: tuple[int, int] = (40000, 7),
    ) -> None:
        self.pairs.append((Streams(side0, side1), known, transport, ports))

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        n = len(self.pairs)
        arena = np.zeros((max(2 * n, 1), HEAD_BYTES), np.uint8)
        arena[:] = 0xEE  # what was there before must not matter
        heads = np.zeros(max(2 * n, 1), HEAD)
        pairs = np.full((n, 2), -1, np.int32)
        for i, (both, *_) in enumerate(self.pairs):
            for side, head in enumerate((both.orig, both.resp)):
                if head.data or head.gap:
                    put(arena, heads, 2 * i + side, head)
                    pairs[i, side] = 2 * i + side
        return (
            arena,
            heads,
            pairs,
            np.array([known for _, known, _, _ in self.pairs], np.int8),
            np.array([transport for _, _, transport, _ in self.pairs], np.uint8),
            np.array([ports for *_, ports in self.pairs], np.int32).reshape(n, 2),
        )

    def examine(self, examiner: Examiner, *, settled: bool = True) -> Examined:
        return examiner.examine(*self.arrays(), settled=settled)


def put(arena: np.ndarray, heads: np.ndarray, slot: int, head: StreamHead) -> None:
    arena[slot, : len(head.data)] = np.frombuffer(head.data, np.uint8)
    row = heads[slot]
    row["filled_bytes"], row["gap"], row["ended"] = len(head.data), head.gap, head.ended
    row["midstream"], row["stream_bytes"], row["n_segments"] = head.midstream, head.stream_bytes, len(head.segments)
    for k, (at, frame) in enumerate(head.segments):
        row["segment_at"][k], row["segment_frame"][k] = at, frame


def says(examiner: Examiner, client: Segments | bytes, server: Segments | bytes, **more: Any) -> tuple[str, int, Any]:
    """Application, client's side and facts of one connection whose opener nobody saw; side 0 is ``client``."""
    batch = Batch()
    batch.add(head_of(client), head_of(server), **more)
    out = batch.examine(examiner)
    return examiner.applications[out.application[0]], int(out.client_side[0]), out.facts[0]
