"""Reads the corpus without the auditor: frames, TCP streams, TLS records, and the truth beside them.

Self-contained, so that the judge can be measured against something that shares none of the auditor's code.
"""

from __future__ import annotations

import csv
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

HERE = Path(__file__).resolve().parent
HRR_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""RFC 8446 section 4.1.3."""


@dataclass
class Side:
    stream: bytearray = field(default_factory=bytearray)
    came: list[tuple[int, int]] = field(default_factory=list)
    """How long the stream was after which frame."""
    ended: bool = False
    reset: bool = False


@dataclass
class Connection:
    client: tuple[str, int]
    server: tuple[str, int]
    up: Side = field(default_factory=Side)
    down: Side = field(default_factory=Side)


@dataclass(frozen=True)
class Cell:
    """One connection of the corpus: its row of the truth, and what crossed."""

    truth: dict[str, str]
    connection: Connection | None


def frames(data: bytes) -> Iterator[bytes]:
    at = 24
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at + 16 : at + 16 + size]
        at += 16 + size


def connections(data: bytes) -> list[Connection]:
    """In the order of their SYNs; segments by sequence number (loopback: nothing is lost)."""
    found: list[Connection] = []
    sides: dict[tuple[bytes, int, bytes, int], tuple[Side, list[int]]] = {}
    for number, frame in enumerate(frames(data)):
        ip = 14
        tcp = ip + (frame[ip] & 15) * 4
        end = ip + struct.unpack_from(">H", frame, ip + 2)[0]
        sport, dport, seq = struct.unpack_from(">HHI", frame, tcp)
        source, target, flags = frame[ip + 12 : ip + 16], frame[ip + 16 : ip + 20], frame[tcp + 13]
        start = tcp + (frame[tcp + 12] >> 4) * 4
        key = (source, sport, target, dport)
        if flags & 2 and not flags & 16:
            made = Connection((".".join(map(str, source)), sport), (".".join(map(str, target)), dport))
            found.append(made)
            sides[key] = made.up, [seq + 1]
            sides[target, dport, source, sport] = made.down, [0]
            continue
        if key not in sides:
            continue
        side, first = sides[key]
        if flags & 2:
            first[0] = seq + 1
            continue
        offset = (seq - first[0]) & 0xFFFFFFFF
        if end > start and offset == len(side.stream):
            side.stream += frame[start:end]
            side.came.append((len(side.stream), number))
        side.ended = side.ended or bool(flags & 1)
        side.reset = side.reset or bool(flags & 4)
    return found


def records(stream: bytes) -> list[tuple[int, int, int]]:
    """(type, length, offset of the body) of each whole record."""
    found, at = [], 0
    while at + 5 <= len(stream):
        kind, _, size = struct.unpack_from(">BHH", stream, at)
        if at + 5 + size > len(stream):
            break
        found.append((kind, size, at + 5))
        at += 5 + size
    return found


def order(connection: Connection) -> str:
    """Who sent a record of application data (c, s) or an alert (x, y), in order of the frames that ended them."""
    said = []
    for side, letters in ((connection.up, {23: "c", 21: "x"}), (connection.down, {23: "s", 21: "y"})):
        for kind, size, at in records(side.stream):
            if kind in letters:
                said.append((next(number for length, number in side.came if length >= at + size), letters[kind]))
    return "".join(letter for _, letter in sorted(said, key=lambda each: each[0]))


def corpus(folder: Path = HERE) -> list[Cell]:
    """Every row of the truth; ``connection`` is None for a cell that a stack could not make."""
    raw = zstandard.ZstdDecompressor().decompress((folder / "corpus.pcap.zst").read_bytes(), max_output_size=1 << 28)
    by_host: dict[str, list[Connection]] = defaultdict(list)
    for each in connections(raw):
        by_host[each.server[0]].append(each)
    with (folder / "corpus.truth.tsv").open(newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    made = []
    for row in rows:
        row["cell"] = "/".join(row[each] for each in ("client", "server", "version", "auth", "kind", "policy"))
        nth = int(row["nth"])
        here = by_host.get(row["resp_h"], [])
        made.append(Cell(row, here[nth - 1] if 0 < nth <= len(here) else None))
    return made
