"""What hostile bytes reach, as functions over bytes: every reader, decoder and inspector, and every loader of files that users hand over.

The rules that hold here:

- A target takes any bytes and returns. It may meet an error of ``auditor.errors`` where its docstring says so; every other error is a
  bug, and so is what an assertion here does not hold.
- Targets are a catalogue: ``@target`` adds one, and each inspector of ``auditor.inspectors`` is one by being there.
- Nothing here looks at a clock, and nothing is random: the same bytes do the same.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from auditor import pipeline
from auditor.capture import open_capture
from auditor.capture.sources import compression_of
from auditor.catalogue import discover
from auditor.conntrack import Tracker, build_table, decide_originators, merge
from auditor.decode import Decoder, guess_link_type
from auditor.errors import AuditorError, ConfigError, WireError
from auditor.inspectors._examine import Examiner
from auditor.model.frames import RESERVE_BYTES, Capture, FrameBatch
from auditor.model.limits import KIB, MIB, Limits
from auditor.model.packets import STOP_NAMES
from auditor.model.roles import Inspector, Match
from auditor.model.streams import HEAD_BYTES, StreamHead, Streams

Run = Callable[[bytes], None]

SMALL = Limits(
    frame_bytes=4 * KIB,
    block_bytes=4 * KIB,
    interfaces=16,
    expanded_bytes=MIB,
    expansion_free_bytes=64 * KIB,
    window_bytes=MIB,
    connections=64,
    first_bytes=64 * KIB,
    waiting_bytes=8 * KIB,
    certificates_bytes=16 * KIB,
    line_bytes=512,
)
"""Limits that small inputs reach, too."""


@dataclass(frozen=True, slots=True)
class Target:
    """One way in."""

    name: str
    run: Run
    kind: str
    """What its input is: capture, frames, talk, text, lines."""


_made: dict[str, Target] = {}


def target(name: str, kind: str) -> Callable[[Run], Run]:
    """Adds a function to the catalogue."""

    def add(run: Run) -> Run:
        _made[name] = Target(name, run, kind)
        return run

    return add


@cache
def targets() -> dict[str, Target]:
    """All of them, by name."""
    found = dict(_made)
    for each in discover("auditor.inspectors", "INSPECTOR"):
        found[f"inspect-{each.name}"] = Target(f"inspect-{each.name}", _Inspect(each), "talk")
    return found


# Captures ------------------------------------------------------------------------------------------------------------


def _check_batch(batch: FrameBatch, before: int) -> None:
    assert batch.first_frame_no > before and (np.diff(batch.numbers) > 0).all()
    assert batch.buf.size - batch.used_bytes >= RESERVE_BYTES
    assert len(batch) > 0
    assert (batch.start >= 0).all()
    assert (batch.caplen_bytes >= 0).all()
    assert (batch.start + batch.caplen_bytes <= batch.used_bytes).all()
    assert (batch.wirelen_bytes >= batch.caplen_bytes).all()
    assert (batch.ts_ns >= 0).all()


def _check_summary(capture: Capture, frames: int) -> None:
    assert capture.packets == frames
    assert len(capture.problems) <= 32
    for problem in capture.problems:
        assert problem.says and "\n" not in problem.says
    json.dumps([problem.as_dict() for problem in capture.problems])


@target("read", "capture")
def read(data: bytes) -> None:
    """Readers and decompressors, whatever the pieces. May meet InputError."""
    counts = []
    for source in (io.BytesIO(data), _Pieces(data)):
        frames = 0
        try:
            with open_capture(cast(Any, source), limits=SMALL) as reader:
                for batch in reader.batches():
                    _check_batch(batch, frames)
                    frames += len(batch)
                _check_summary(reader.summary(), frames)
                problems = [(each.kind, each.says) for each in reader.summary().problems]
        except AuditorError as error:
            problems = [("refused", str(error).partition(": ")[2])]
        counts.append((frames, problems))
    # A decoder that meets damage loses what it was just making, which depends on the pieces it was given.
    if compression_of(data[:8]) is None:
        assert counts[0] == counts[1], "a pipe gives the same as a file"


class _Pieces(io.RawIOBase):
    """A pipe that gives little at a time."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def readable(self) -> bool:
        return True

    def readinto(self, view: Any) -> int:
        size = min(len(view), 1 + self._at % 37)
        part = self._data[self._at : self._at + size]
        view[: len(part)] = part
        self._at += len(part)
        return len(part)


# Frames --------------------------------------------------------------------------------------------------------------


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """Frames packed as link type (2 bytes) and length (2 bytes) before each; the last one may be short."""
    found = []
    at = 0
    while at + 4 <= len(data) and len(found) < 64:
        link, size = int.from_bytes(data[at : at + 2], "big"), int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((link, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


def pack_frames(frames: list[tuple[int, bytes]]) -> bytes:
    """The reverse of ``frames_of``."""
    return b"".join(link.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for link, data in frames)


def batch_of(frames: list[tuple[int, bytes]]) -> FrameBatch:
    """A batch of these frames, with bytes between them that must not be read."""
    caplen = np.array([len(data) for _, data in frames], np.int64)
    start = np.cumsum(caplen + 3) - caplen
    used = int(start[-1] + caplen[-1])
    buf = np.full(used + RESERVE_BYTES, 0xEE, np.uint8)
    for at, (_, data) in zip(start, frames, strict=True):
        buf[at : at + len(data)] = np.frombuffer(data, np.uint8)
    times = np.array([(k * 7919 % 50) * 1_000_000 + 10**18 for k in range(len(frames))], np.int64)
    links = np.array([link for link, _ in frames], np.int32)
    return FrameBatch(buf, used, start, caplen, caplen + caplen % 3, times, np.zeros(len(frames), np.int32), links, 1)


@target("decode", "frames")
def decode(data: bytes) -> None:
    """Link layers, IP, tunnels, fragments."""
    frames = frames_of(data)
    if not frames:
        return
    batch = batch_of(frames)
    guess_link_type(batch)
    decoder = Decoder(max_depth=data[-1] % 8, max_rows=8)
    parts = [(rows.copy(), batch) for rows in decoder.decode(batch)]
    parts.append((decoder.finish().copy(), batch))
    assert decoder.frames == len(frames)
    for rows, _ in parts:
        assert ((rows["frame"] >= 1) & (rows["frame"] <= len(frames))).all()
        assert (rows["payload_bytes"] >= 0).all()
        assert (rows["payload_wire_bytes"] >= rows["payload_bytes"]).all()
        held = rows[rows["payload_bytes"] > 0]
        assert ((held["payload_at"] >= 0) & (held["payload_at"] + held["payload_bytes"] <= batch.buf.size)).all()
        assert set(rows["stop"].tolist()) <= {0, *STOP_NAMES}
        assert (rows["outer"] < len(rows)).all()


@target("connections", "frames")
def connections(data: bytes) -> None:
    """Connection table, streams, recognition and inspection of what frames carry, in one part and in two."""
    frames = frames_of(data)
    if not frames:
        return
    from auditor.conntrack import TrackLimits

    examiner = Examiner(limits=SMALL)
    limits = TrackLimits.of(SMALL)
    half = len(frames) // 2
    for groups in ((frames,), (frames[:half], frames[half:])):
        parts = []
        for k, group in enumerate(groups):
            tracker = Tracker(examiner, capture=k, alone=len(groups) == 1, limits=limits)
            if group:
                decoder = Decoder()
                batch = batch_of(group)
                for rows in decoder.decode(batch):
                    tracker.feed(rows, batch.buf)
                tracker.feed(decoder.finish(), np.zeros(1, np.uint8))
            parts.append(tracker.finish())
        whole = merge(parts, examiner, limits)
        side, by = decide_originators(whole)
        table = build_table(whole, side, by, examiner.applications)
        assert len(table) <= SMALL.connections * len(groups)
        assert (table.orig_pkts + table.resp_pkts > 0).all()
        assert (table.missed_bytes >= 0).all()
        assert ((table.outer >= -1) & (table.outer < len(table))).all()
        for facts in table.facts:
            if facts is not None:
                for each in facts.evidence():
                    hash(each.value)


# Conversations -------------------------------------------------------------------------------------------------------


def talk_of(data: bytes) -> Streams:
    """Two sides: what is known of the ends of each (1 byte), the length of the client's (2 bytes), then both."""
    flags, split = (data[0], int.from_bytes(data[1:3], "big")) if len(data) >= 3 else (0, 0)
    client, server = data[3 : 3 + split][:HEAD_BYTES], data[3 + split :][:HEAD_BYTES]

    def head(said: bytes, bits: int) -> StreamHead:
        cut = len(said) // 3
        places = tuple(sorted({0: 5, cut: 7, 2 * cut: 6}.items())) if said else ()
        more = 100 if bits & 1 else 0
        return StreamHead(
            said, bool(bits & 1), bool(bits & 2) and not bits & 1, bool(bits & 4), len(said) + more, places
        )

    return Streams(head(client, flags & 7), head(server, flags >> 3 & 7), True, 512 if flags & 64 else HEAD_BYTES)


def pack_talk(client: bytes, server: bytes, flags: int = 0) -> bytes:
    """The reverse of ``talk_of``."""
    client = client[:HEAD_BYTES]
    return bytes([flags]) + len(client).to_bytes(2, "big") + client + server[:HEAD_BYTES]


class _Inspect:
    """Probe and inspector of one protocol. May meet WireError."""

    def __init__(self, inspector: Inspector) -> None:
        self._inspector = inspector

    def __call__(self, data: bytes) -> None:
        both = talk_of(data)
        assert isinstance(self._inspector.probe(both), Match)
        kinds: set[str] = set()
        with contextlib.suppress(WireError):
            for told in self._inspector.inspect(both):
                kind = getattr(told, "kind", None)
                if kind is not None and hasattr(told, "certainty"):
                    assert kind not in kinds, "told twice"
                    kinds.add(kind)
                    hash(told.value)
                    repr(told.value)


@cache
def _examiner() -> Examiner:
    return Examiner()


@target("examine", "talk")
def examine(data: bytes) -> None:
    """Recognition by kernels, probes, the TLS walk and everything a protocol turns into, from either side."""
    from tests.inspectors.heads import Batch

    both = talk_of(data)
    batch = Batch()
    for known in (-1, 0, 1):
        batch.add(both.orig, both.resp, known=known, transport=(6, 17)[data[:1] > b"\x80"])
    batch.add(both.resp, both.orig)
    examiner = _examiner()
    for settled in (True, False):
        out = batch.examine(examiner, settled=settled)
        assert ((out.application >= 0) & (out.application < len(examiner.applications))).all()
        for facts in out.facts:
            if facts is not None:
                list(facts.evidence())


# Files that users hand over ------------------------------------------------------------------------------------------


@cache
def _policy() -> Any:
    from auditor.policy.loader import load_policy

    return load_policy()


@contextlib.contextmanager
def _file(data: bytes, suffix: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"given{suffix}"
        path.write_bytes(data)
        yield path


def _one_line(error: ConfigError) -> None:
    assert "\n" not in str(error)


@target("policy", "text")
def policy(data: bytes) -> None:
    """Policies. May meet ConfigError."""
    from auditor.policy.loader import check_policy, load_policy

    with _file(data, ".yml") as path:
        try:
            load_policy([str(path)])
        except ConfigError as error:
            _one_line(error)
        try:
            for error in check_policy(str(path)):
                _one_line(error)
        except ConfigError as error:
            _one_line(error)


@target("inventory", "text")
def inventory(data: bytes) -> None:
    """Inventories of every form. May meet ConfigError."""
    from auditor.policy.inventory import load_inventory

    with _file(data, ".txt") as path:
        try:
            found = load_inventory([str(path)], _policy())
        except ConfigError as error:
            _one_line(error)
            return
        found.lookup(0xFFFF_0A00_0001, 0)
        found.to_yaml()


@target("authorities", "text")
def authorities(data: bytes) -> None:
    """Bundles of ``--ca``, and certificates as they cross the wire. May meet ConfigError."""
    from auditor.policy.certificates import leads_to, load_cas, read_certificate

    one = read_certificate("0" * 64, data)
    assert one.called.isprintable()
    one.as_dict()
    with _file(data, ".pem") as path:
        try:
            found = load_cas([str(path)])
        except ConfigError as error:
            _one_line(error)
            return
        leads_to([one], found.unscoped)


@target("keylog", "lines")
def keylog(data: bytes) -> None:
    """What tshark answers about a capture that is opened with a key log: fields a line, trees, and what was inside TLS."""
    from auditor.tshark import _talks, decrypt
    from auditor.tshark.dissect import Flow

    flow = Flow("tcp", "10.0.0.1", 40_000, "10.0.0.2", 443, 0, 0)
    talk = _talks.Talk(flow)
    by_ends = _talks.index([talk])
    lines = data.split(b"\n")
    certificates: dict[str, bytes] = {}
    for line in lines[:64]:
        row = _talks.read_row(line)
        if row is not None:
            _talks.take(row, by_ends, certificates)
    _talks.mend([talk], _talks.trees(line + b"\n" for line in lines))
    half = len(data) // 2
    for inside in (None, (StreamHead(data[:half]), StreamHead(data[half:]))):
        decrypt._conclude(talk, inside)


# The whole way -------------------------------------------------------------------------------------------------------

FORMATS = ("json", "ndjson", "csv", "markdown", "table")


@target("audit", "capture")
def audit(data: bytes) -> None:
    """From the bytes of a capture to every report that is one stream. May meet InputError."""
    from auditor.api import Report

    options: dict[str, Any] = {"scope": "all", "limits": SMALL}
    try:
        found = pipeline.run([io.BytesIO(data)], policy=_policy(), inventory=None, options=options)
    except AuditorError as error:
        assert "\n" not in str(error)
        return
    report = Report(found)
    for name in FORMATS:
        out = io.BytesIO()
        report.write(name, out, **({"table": "connections"} if name == "csv" else {}))
        text = out.getvalue().decode()
        if name == "json":
            json.loads(text)
        if name in ("table", "markdown"):
            assert "\x1b" not in text
    report.exit_status()
