"""Cutting connections out of captures: their frames, from every capture that saw them, into one pcapng.

The frames of small slices are sorted by time, whichever capture they are from; those of large ones come capture after capture. Each names in a
comment what it belongs to and where it stands in its capture. Nothing but packets is taken along: keys that a capture carries stay behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from auditor.capture import open_capture
from auditor.model.connections import STRAY_NS
from auditor.model.frames import FrameBatch
from auditor.model.limits import Limits
from auditor.slices import index as where
from auditor.slices.redact import HEAD_BYTES, Direction, Spans, kept
from auditor.slices.verdict import COMMENT, REDACTED
from auditor.slices.writer import PcapngWriter
from auditor.wire.transport import TCP_CHECKSUM

SORTED_BYTES = 64 * 1024 * 1024
"""A slice of no more is sorted by time."""

SLACK_NS = 2_000
"""Ends of connections are known to the microsecond."""

_TCP = 6

_SURELY_HEADERS = 34
"""Ethernet and the shortest IPv4 header."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A connection to cut out."""

    id: str
    originator: tuple[int, int]
    """Address as 128 bits, port (0 where there is none)."""
    responder: tuple[int, int]
    protocol: int
    first_ns: int
    last_ns: int
    application: str
    says: str
    """For the comments: which finding it belongs to."""


@dataclass(slots=True)
class Slice:
    """What was cut."""

    frames: int = 0
    bytes: int = 0
    captures: dict[str, int] = field(default_factory=dict)
    """Frames by capture."""
    connections: set[str] = field(default_factory=set)
    """Those of which there is a frame."""
    origins: list[tuple[str, int]] = field(default_factory=list)
    """Of each frame of the slice, in its order, the capture that it was cut from and its number there."""
    sorted: bool = True
    read_blocks: int = 0
    """Parts of captures that were read, of ``all_blocks``; both 0 where nothing has an index."""
    all_blocks: int = 0


@dataclass(frozen=True, slots=True)
class _Frame:
    ts_ns: int
    interface: tuple[str, int, int]
    wirelen: int
    comment: str
    data: bytes
    origin: tuple[str, int]


@dataclass(frozen=True, slots=True)
class _Hit:
    """A row of a wanted connection."""

    place: int
    """Index into the batch."""
    row: np.void
    wanted: Wanted
    forward: bool


def cut(
    captures: Sequence[Path],
    wanted: Sequence[Wanted],
    out: IO[bytes],
    *,
    redact: bool = False,
    comment: str = "",
    link_type: int | None = None,
    limits: Limits | None = None,
    index: Path | None = None,
) -> Slice:
    """Write the frames of connections.

    ``redact``: overwrite payload beyond handshakes; ``index``: folder of indexes, which are used and made (None: captures are read whole).
    Raises as ``open_capture``.
    """
    cutter = _Cutter(wanted, redact=redact, link_type=link_type, limits=limits)
    cutter.find(captures, index)
    told = cutter.told
    writer = PcapngWriter(out, comment)
    waiting: list[_Frame] = []
    size = 0
    for frame in cutter.frames():
        size += len(frame.data)
        if told.sorted:
            waiting.append(frame)
            if size <= SORTED_BYTES:
                continue
            told.sorted = False
            for each in waiting:
                _write(writer, each, told)
            waiting.clear()
        else:
            _write(writer, frame, told)
    for each in sorted(waiting, key=lambda one: one.ts_ns):  # stable: of equal times the order read
        _write(writer, each, told)
    told.bytes = size
    return told


def _write(writer: PcapngWriter, frame: _Frame, told: Slice) -> None:
    told.origins.append(frame.origin)
    writer.packet(writer.interface(*frame.interface), frame.ts_ns, frame.data, frame.wirelen, frame.comment)


class _Cutter:
    """Reads the blocks of captures that matter, twice where it has to know a stream before it may show a part of it."""

    def __init__(self, wanted: Sequence[Wanted], *, redact: bool, link_type: int | None, limits: Limits | None) -> None:
        self.told = Slice()
        self._redact, self._link_type, self._limits = redact, link_type, limits
        self._by_number: dict[int, list[Wanted]] = {}
        for each in wanted:
            number = where.pair_number(_ported(each.originator, each), _ported(each.responder, each), each.protocol)
            self._by_number.setdefault(number, []).append(each)
        self._numbers: NDArray[np.uint64] = np.array(sorted(self._by_number), np.uint64)
        self._sources: list[tuple[Path, Callable[[], Iterator[_Batch]]]] = []
        self._streams: dict[tuple[Path, str, bool], Direction] = {}
        self._stay: dict[tuple[Path, str, bool], Spans] = {}

    def find(self, captures: Sequence[Path], folder: Path | None) -> None:
        """Which parts of the captures are to be read."""
        for path in captures:
            index = None
            if folder is not None:
                index = where.load(path, folder, self._link_type)
                if index is None:
                    index = where.make(path, link_type=self._link_type, limits=self._limits)
                    where.save(index, path, folder, self._link_type)
            if index is None or not index.blocks:
                self._sources.append((path, lambda path=path: self._all(path)))  # type: ignore[misc]  # mypy cannot infer a default's type
                continue
            spans = [
                (
                    min(one.first_ns for one in self._by_number[number]) - SLACK_NS,
                    max(one.last_ns for one in self._by_number[number]) + SLACK_NS,
                )
                for number in self._numbers.tolist()
            ]
            blocks = index.where(self._numbers, spans)
            self.told.read_blocks += len(blocks)
            self.told.all_blocks += len(index.blocks)
            self._sources.append((path, lambda path=path, index=index, blocks=blocks: self._some(path, index, blocks)))  # type: ignore[misc]  # as above

    def frames(self) -> Iterator[_Frame]:
        """All frames of the connections."""
        if self._redact:
            for path, batches in self._sources:
                for batch, rows, _ in batches():
                    self._learn(path, batch, rows)
            for key, stream in self._streams.items():
                self._stay[key] = kept(self._application(key[1]), stream.whole)
        for path, batches in self._sources:
            for batch, rows, names in batches():
                yield from self._take(path, batch, rows, names)

    def _application(self, connection: str) -> str:
        return next(each.application for found in self._by_number.values() for each in found if each.id == connection)

    def _all(self, path: Path) -> Iterator[_Batch]:
        with open_capture(path, link_type=self._link_type, limits=self._limits) as reader:
            for batch, rows, _ in where.read(reader, guess=self._link_type is None):
                yield batch, rows, _names(reader.summary())

    def _some(self, path: Path, index: where.CaptureIndex, blocks: Sequence[where.Block]) -> Iterator[_Batch]:
        found = where.read_blocks(path, index, blocks, link_type=self._link_type, limits=self._limits)
        for reader, batch, rows in found:
            yield batch, rows, _names(reader.summary())

    def _hits(self, batch: FrameBatch, many: list[NDArray[np.void]]) -> Iterator[_Hit]:
        for rows in many:
            numbers = where.pair_numbers(rows)
            for at in np.flatnonzero(np.isin(numbers, self._numbers)).tolist():
                row = rows[at]
                source, target, time = _ends(row), _ends(row, "dst"), int(row["ts_ns"])
                for each in self._by_number[int(numbers[at])]:
                    if int(row["proto"]) != each.protocol or not _is_of_time(time, each):
                        continue
                    ends = (_ported(each.originator, each), _ported(each.responder, each))
                    here = (_ported(source, each), _ported(target, each))
                    if here in (ends, ends[::-1]):
                        yield _Hit(batch.place(int(row["frame"])), row, each, here == ends)

    def _learn(self, path: Path, batch: FrameBatch, many: list[NDArray[np.void]]) -> None:
        for hit in self._hits(batch, many):
            if hit.wanted.protocol != _TCP or not hit.row["payload_bytes"]:
                continue
            stream = self._streams.setdefault((path, hit.wanted.id, hit.forward), Direction())
            at = int(hit.row["payload_at"])
            stream.add(
                int(hit.row["seq"]) + _syn(hit.row), batch.buf[at : at + int(hit.row["payload_bytes"])].tobytes()
            )

    def _take(self, path: Path, batch: FrameBatch, many: list[NDArray[np.void]], names: list[str]) -> Iterator[_Frame]:
        by_frame: dict[int, list[_Hit]] = {}
        for hit in self._hits(batch, many):
            if 0 <= hit.place < len(batch):
                by_frame.setdefault(hit.place, []).append(hit)
        numbers = batch.numbers
        for place in sorted(by_frame):
            hits = by_frame[place]
            start, size = int(batch.start[place]), int(batch.caplen_bytes[place])
            data = bytearray(batch.buf[start : start + size].tobytes())
            if self._redact:
                for hit in hits:
                    self._overwrite(path, hit, start, data)
            number = int(numbers[place])
            says = "; ".join(dict.fromkeys(f"{hit.wanted.says}connection {hit.wanted.id}" for hit in hits))
            self.told.frames += 1
            self.told.captures[str(path)] = self.told.captures.get(str(path), 0) + 1
            self.told.connections.update(hit.wanted.id for hit in hits)
            vantage = int(batch.interface[place])
            name = names[vantage] if vantage < len(names) and names[vantage] else path.name
            redacted = REDACTED if self._redact else ""
            yield _Frame(
                int(batch.ts_ns[place]),
                (name, int(batch.link_type[place]), 0),
                int(batch.wirelen_bytes[place]),
                f"{COMMENT}{says}; {path.name} frame {number}{redacted}",
                bytes(data),
                (str(path), number),
            )

    def _overwrite(self, path: Path, hit: _Hit, start: int, data: bytearray) -> None:
        """Zeros over all payload that may not stay, and over whatever follows it in the frame."""
        begin = int(hit.row["payload_at"]) - start
        if hit.row["stop"] or not 0 <= begin <= len(data):
            # The headers are damaged: the start of the payload is unknown.
            data[_SURELY_HEADERS:] = bytes(max(len(data) - _SURELY_HEADERS, 0))
            return
        payload = int(hit.row["payload_bytes"])
        stay: Spans = []
        stream = self._streams.get((path, hit.wanted.id, hit.forward))
        if stream is not None and hit.wanted.protocol == _TCP and payload:
            at = stream.offset(int(hit.row["seq"]) + _syn(hit.row))
            for span in self._stay[path, hit.wanted.id, hit.forward]:
                first, past = max(span[0] - at, 0), min(span[1] - at, payload, HEAD_BYTES)
                # What was retransmitted with other bytes is not what was looked at.
                if first < past and data[begin + first : begin + past] == stream.data[at + first : at + past]:
                    stay.append((begin + first, begin + past))
        clear = bytearray(len(data) - begin)
        for first, past in stay:
            clear[first - begin : past - begin] = data[first:past]
        header = int(hit.row["header_bytes"])
        if hit.wanted.protocol == _TCP and header and data[begin:] != clear:
            # It was of what stood there. None is what a sender's capture has where a card computes it.
            sum_at = begin - header + TCP_CHECKSUM
            data[sum_at : sum_at + 2] = bytes(2)
        data[begin:] = clear


_Batch = tuple[FrameBatch, list[NDArray[np.void]], list[str]]


def _names(capture: object) -> list[str]:
    points = getattr(capture, "vantage_points", ())
    return [point.interface or point.name or "" for point in points]


def _is_of_time(time: int, wanted: Wanted) -> bool:
    """Whether a packet may be of the connection by its date; one that is too far away to be believed may."""
    if wanted.first_ns - SLACK_NS <= time <= wanted.last_ns + SLACK_NS:
        return True
    return time > 0 and (time - wanted.last_ns > STRAY_NS or wanted.first_ns - time > STRAY_NS)


def _syn(row: np.void) -> int:
    """A SYN stands in the stream before its payload (RFC 9293 section 3.4)."""
    return int(row["flags"]) >> 1 & 1


def _ends(row: np.void, side: str = "src") -> tuple[int, int]:
    return (int(row[f"{side}_hi"]) << 64) | int(row[f"{side}_lo"]), int(row[f"{side}_port"])


def _ported(end: tuple[int, int], wanted: Wanted) -> tuple[int, int]:
    return (end[0], 0 if wanted.protocol in where.PORTLESS else end[1])
