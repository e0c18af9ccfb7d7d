"""The catalogue's second leg: its small tables in a file of their own, and the seal by which damage to the catalogue shows.

SQLite notices a page that makes no sense, and no other damage. So a writer that lets go of a store notes how the catalogue's file is then (its SHA-256), and the
``generation``, a number that grows with each transaction. The next writer that finds that generation and another file has found damage.

The tables here are those that no piece holds: what was told and is still to be told, which files were taken, what is known of sources and findings. They are plain text, and their
number is that of the files in the spool and of findings, not of connections.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from auditor.store._files import digest_of, write_whole

NAME = "state"
GENERATION = "generation"
TABLES = (
    "meta", "facts", "taken", "carried", "following", "errands", "pieces", "trash", "lost", "waiting", "sources",
)  # fmt: skip
_MAGIC = b"auditor state 1"
_UNSEALED = "-"
PATIENCE_MS = 2_000
"""So long a reader or writer may keep a store from being sealed; the next one seals it then."""


@dataclass(frozen=True, slots=True)
class State:
    """As it was written."""

    generation: int
    seal: str | None
    """SHA-256 of the catalogue's file at this generation; None where somebody else had it open."""
    packed: bytes

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        """Rows by table. Raises ZstdError, MsgspecError: never, where ``read`` gave it."""
        told = msgspec.json.decode(zstandard.ZstdDecompressor().decompress(self.packed, max_output_size=1 << 31))
        return {
            name: [dict(zip(each["columns"], row, strict=True)) for row in each["rows"]] for name, each in told.items()
        }


def generation_of(sql: sqlite3.Connection) -> int:
    """How many transactions there were."""
    row = sql.execute("SELECT value FROM meta WHERE name = ?", [GENERATION]).fetchone()
    return int(row[0]) if row else 0


def count(sql: sqlite3.Connection) -> None:
    """One more; inside a transaction."""
    sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [GENERATION, str(generation_of(sql) + 1)])


def read(store: Path) -> State | None:
    """None where there is none, or not as it was written. Raises OSError where it cannot be read."""
    try:
        raw = (store / NAME).read_bytes()
    except FileNotFoundError:
        return None
    head, _, packed = raw.partition(b"\n")
    words = head.split(b" ")
    if len(words) != 6 or b" ".join(words[:3]) != _MAGIC:
        return None
    told = b" ".join(words[3:5]) + packed
    if hashlib.sha256(told).hexdigest().encode() != words[5] or not words[3].isdigit():
        return None
    seal = words[4].decode()
    return State(int(words[3]), None if seal == _UNSEALED else seal, packed)


def save(store: Path, sql: sqlite3.Connection, catalogue: Path) -> None:
    """Write it, where it is not as it should be already. Raises sqlite3.Error, OSError."""
    with contextlib.suppress(OSError):
        before = read(store)
        if before is not None and before.seal is not None and before.generation == generation_of(sql):
            return
    sql.execute(f"PRAGMA busy_timeout = {PATIENCE_MS}")
    (busy, _, _) = sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    with _still(sql):
        seal = _UNSEALED if busy or logged(catalogue) else digest_of(catalogue)
        generation = generation_of(sql)
        tables = {}
        for name in TABLES:
            found = sql.execute(f"SELECT * FROM {name}")  # noqa: S608  # our own names
            tables[name] = {"columns": [each[0] for each in found.description], "rows": found.fetchall()}
        packed = zstandard.ZstdCompressor(level=3).compress(msgspec.json.encode(tables))
        said = f"{generation} {seal}".encode()
        head = b" ".join([_MAGIC, said, hashlib.sha256(said + packed).hexdigest().encode()])
        write_whole(store / NAME, head + b"\n" + packed)


@contextlib.contextmanager
def _still(sql: sqlite3.Connection) -> Iterator[None]:
    """Nobody writes meanwhile."""
    sql.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        sql.execute("ROLLBACK")


def logged(catalogue: Path) -> bool:
    """Whether transactions lie in the write-ahead log and not in the file."""
    try:
        return catalogue.with_name(f"{catalogue.name}-wal").stat().st_size > 0
    except OSError:
        return False


def complaint(store: Path, sql: sqlite3.Connection, catalogue: Path, was_logged: bool) -> str | None:
    """What is wrong with the catalogue; None: nothing that shows. ``was_logged``: as of ``logged`` before it was opened. Raises sqlite3.Error, OSError."""
    state = read(store)
    generation = generation_of(sql)
    if state is not None and generation < state.generation:
        return f"it is at transaction {generation}, but {state.generation} were written"
    if state is not None and state.seal is not None and state.generation == generation and not was_logged:
        if digest_of(catalogue) != state.seal and generation_of(sql) == generation:
            return "it was changed"
        return None
    (says,) = sql.execute("PRAGMA quick_check(1)").fetchone()
    return None if says == "ok" else " ".join(str(says).split())[:200]
