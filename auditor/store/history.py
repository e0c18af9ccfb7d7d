"""What earlier audits found, in one folder that any number may read while one writes.

    STORE/catalogue.sqlite    which audits there are, what was ever found, which pieces hold the rest, the policies and inventories as they were
    STORE/pieces/*.parquet    connections, findings, coverage and captures of one audit, or of many in a row

Two tools, each for what it does best. The catalogue is small and changes: SQLite with a write-ahead log gives transactions that survive a kill, a full
disk and a power cut, and readers that wait for no writer. The tables are large and never change: Parquet is an eighth of the size, and DuckDB reads just
the columns that a question needs. (A DuckDB file cannot be opened by a reader during a write.)

The rules:

- A piece is written under a name of its own, synced and renamed before the catalogue's transaction names it. What the catalogue names is there; what
  it does not name is not in use, and is removed by the next writer.
- Writers hold the catalogue's write lock from numbering an audit to committing it. So audits are numbered in the order of their commits.
- Small pieces are joined into larger ones as they add up, so that a year is a few dozen files. Pieces that are replaced stay for a while: somebody
  may be reading them.
- A piece is checked as it is read, by the size and the SHA-256 that the catalogue has of it (a large one by the checksums of its pages). One that is damaged is an
  error that names it; ``health`` sets it aside, so that it costs only itself. Each audit is also written down in a piece of its own kind, ``records``, from which
  ``health`` makes the catalogue again.
- A store that a later version wrote is refused, one that an earlier version wrote is brought up to date by the next writer, and read through a
  copy of its catalogue until then.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
import zstandard

from auditor.errors import ConfigError, MissingToolError
from auditor.policy.times import window_text
from auditor.store import _state
from auditor.store._files import digest_of, exposure, sync, whole_file, write_whole
from auditor.store._schema import STEPS, VERSION
from auditor.wire.text import many

__all__ = [
    "CATALOGUE",
    "DamagedError",
    "Decider",
    "Fact",
    "History",
    "Kept",
    "Known",
    "Row",
    "guarded",
    "open_history",
    "sync",
    "write_whole",
]

if TYPE_CHECKING:
    import pyarrow as pa

CATALOGUE = "catalogue.sqlite"
PIECES = "pieces"
TABLES = ("connections", "findings", "coverage", "captures")
RECORDS = "records"
"""Pieces with the catalogue's rows of an audit: it can be rebuilt from them."""
KEPT = (*TABLES, RECORDS)
DAMAGED = "damaged"
"""Where damaged files are put."""
WAIT_S = 60.0
"""So long a writer waits for another one's commit."""

JOIN_AT, JOINED = 32, 24
"""When so many pieces of a level have added up, so many of the oldest become one of the next."""
LEVELS = 3
ROW_GROUP = 65_536
SPARE = 8
"""A piece whose oldest audits were removed is rewritten once they are this part of it (an eighth): until then nobody can ask for them."""
GRACE_NS = 600 * 1_000_000_000
"""Pieces that are not in use any more are left for readers so long."""

SHORT_BYTES = 32 << 20
"""Pieces up to here are read whole to be checked, larger ones page by page."""
RHYTHMS = 32
"""A pause of up to so many times ``gone_after`` may be a finding's rhythm."""

Tables = Mapping[str, "pa.Table"]


class DamagedError(ConfigError):
    """A file of a store is not as it was written. ``file``: its name under the store's folder."""

    def __init__(self, path: Path, file: str, says: str) -> None:
        self.store, self.file, self.what = path, file, says
        super().__init__(
            str(path / file), f"is damaged: {says}", hint=f"auditor history repair --store {path} moves it aside"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process to raise it again."""
        return type(self), (self.store, self.file, self.what)


@dataclass(frozen=True, slots=True)
class Fact:
    """One finding of an audit, as far as its history goes."""

    fingerprint: str
    rule: str
    severity: str
    path: str | None
    title: str
    first_seen_ns: int
    last_seen_ns: int
    waived: str | None = None


@dataclass(frozen=True, slots=True)
class Decider:
    """A policy, inventory or waiver file as it was."""

    sha256: str
    kind: str
    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """An audit to be kept. ``tables`` have the columns of the public tables and some internal ones, all but ``audit``."""

    id: str
    kind: str
    started_ns: int
    finished_ns: int
    first_ns: int | None
    last_ns: int | None
    counts: Mapping[str, int]
    """captures, packets, connections, findings, new, waived, critical, high, medium, low, info, complete."""
    body: Mapping[str, Any]
    """The parts of a report that are in no table: the ``audit`` and ``summary`` objects."""
    tables: Tables
    facts: Sequence[Fact] = ()
    deciders: Sequence[Decider] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """History of one fingerprint."""

    first_audit: int
    last_audit: int
    last_seen_ns: int
    open: bool


@dataclass(frozen=True, slots=True)
class Row:
    """An audit in the catalogue."""

    audit: int
    id: str
    kind: str
    started_ns: int
    finished_ns: int
    first_ns: int | None
    last_ns: int | None
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Record:
    """What the catalogue says of an audit, and what it was made of: written down in a piece, too."""

    row: dict[str, Any]
    """The row of ``audits``."""
    deciders: list[str]
    facts: list[Fact]
    gone_after_ns: int
    files: list[Decider] = field(default_factory=list)
    """The policies, inventories and waivers that no earlier record has."""


_COUNTS = (
    "captures",
    "packets",
    "connections",
    "findings",
    "new",
    "waived",
    "critical",
    "high",
    "medium",
    "low",
    "info",
    "complete",
)
_COLUMNS = ("audit", "id", "kind", "started_ns", "finished_ns", "first_ns", "last_ns", *_COUNTS)


def _complaint(path: Path, error: Exception) -> ConfigError:
    if isinstance(error, ConfigError):
        return error
    says = " ".join(str(getattr(error, "strerror", None) or error).split())
    if "locked" in says or "busy" in says:
        return ConfigError(str(path), "another process has been writing to it for a minute", hint="try again later")
    if "full" in says:
        return ConfigError(str(path), "cannot be written: no space left on the disk")
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return DamagedError(path, CATALOGUE, says)
    if isinstance(error, sqlite3.OperationalError) and any(word in says for word in ("no such", "malformed", "decode")):
        return DamagedError(path, CATALOGUE, says)
    if isinstance(error, OSError | sqlite3.Error):
        return ConfigError(str(path), f"cannot be used as a store: {says}")
    # The data that was read is not what was written: the disk is damaged.
    return DamagedError(path, CATALOGUE, f"{type(error).__name__}: {says}"[:200])


@contextmanager
def guarded(path: Path | str) -> Iterator[None]:
    """Whatever a disk may do to a store ends as ConfigError (DamagedError where it is damage)."""
    try:
        yield
    except (sqlite3.Error, OSError, zstandard.ZstdError, msgspec.MsgspecError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise _complaint(Path(path), error) from error


class History:
    """A store, open. Made by ``open_history``; a context manager."""

    def __init__(
        self, path: Path, connection: sqlite3.Connection, borrowed: Path | None = None, writes: bool = False
    ) -> None:
        self.path = path
        self.sql = connection
        """The catalogue. Change it only inside ``writing``."""
        self._borrowed = borrowed
        self._writes = writes
        self._sound: set[str] = set()

    def __enter__(self) -> History:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        """Context in which damage of the disk becomes a ConfigError."""
        self.close()
        if isinstance(error, sqlite3.Error | zstandard.ZstdError | msgspec.MsgspecError):
            raise _complaint(self.path, error) from error

    def close(self) -> None:
        """Let go of it; a writer seals it, where it can."""
        if self._writes and not self.sql.in_transaction:
            with contextlib.suppress(sqlite3.Error, OSError):
                _state.save(self.path, self.sql, self.path / CATALOGUE)
        self.sql.close()
        if self._borrowed is not None:
            shutil.rmtree(self._borrowed, ignore_errors=True)

    # Writing

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The catalogue's write lock: what is done inside is there whole or not at all. Raises ConfigError."""
        if self.sql.in_transaction:
            yield self.sql
            return
        try:
            self.sql.execute("BEGIN IMMEDIATE")
            try:
                _state.count(self.sql)
                yield self.sql
                self.sql.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self.sql.execute("ROLLBACK")
                raise
        except (sqlite3.Error, OSError) as error:
            raise _complaint(self.path, error) from error

    def next_audit(self) -> int:
        """The number that the next audit gets; asked inside ``writing``."""
        (last,) = self.sql.execute("SELECT coalesce(max(audit), 0) FROM audits").fetchone()
        (floor,) = self.sql.execute(
            "SELECT coalesce(max(cast(value AS INTEGER)), 0) FROM meta WHERE name = 'last'"
        ).fetchone()
        return int(max(last, floor)) + 1

    def keep(self, kept: Kept, *, gone_after_ns: int, until_ns: int | None = None) -> int:
        """Keep an audit; its number. Inside ``writing`` it is part of what is written there. Raises ConfigError.

        ``until_ns``: the clock of whoever keeps it, where it is believed. What the packets say goes no further than that.
        """
        with self.writing() as sql:
            self._sweep()
            audit = self.next_audit()
            for name, table in kept.tables.items():
                numbered = _numbered(table, audit)
                self._piece(name, audit, audit, 0, numbered.schema.remove_metadata(), [numbered])
            values: list[Any] = [
                audit,
                kept.id,
                kept.kind,
                kept.started_ns,
                kept.finished_ns,
                kept.first_ns,
                kept.last_ns,
            ]
            values += [int(kept.counts.get(name, 0)) for name in _COUNTS]
            row = dict(zip((*_COLUMNS, "body", "kept_ns"), [*values, _packed(kept.body), until_ns], strict=True))
            self.insert("audits", row)
            sql.execute("INSERT OR REPLACE INTO meta VALUES ('last', ?)", [str(audit)])
            known = {sha256 for (sha256,) in sql.execute("SELECT sha256 FROM deciders")}
            fresh = [each for each in kept.deciders if each.sha256 not in known]
            told = Record(row, [each.sha256 for each in kept.deciders], list(kept.facts), gone_after_ns, fresh)
            self.record(audit, audit, 0, [told])
            self.learn(audit, kept.last_ns, told)
            for each in kept.deciders:
                self.hold(each)
                sql.execute("INSERT OR IGNORE INTO decided_by VALUES (?, ?)", [audit, each.sha256])
        return audit

    def insert(self, table: str, row: Mapping[str, Any]) -> None:
        """A row by the names of its columns; inside ``writing``."""
        names, places = ", ".join(row), ", ".join("?" * len(row))
        self.sql.execute(f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({places})", list(row.values()))  # noqa: S608  # names of our own columns

    def hold(self, file: Decider) -> None:
        """Keep a file that decided, once; inside ``writing``."""
        content = zstandard.ZstdCompressor(level=9).compress(file.content)
        self.sql.execute(
            "INSERT OR IGNORE INTO deciders VALUES (?, ?, ?, ?)", [file.sha256, file.kind, file.name, content]
        )

    def learn(self, audit: int, last_ns: int | None, told: Record) -> None:
        """The findings of this audit, and those that are gone since the one before."""
        until_ns = told.row.get("kept_ns")
        believed = 1 << 62 if until_ns is None else int(until_ns)
        self.sql.executemany(
            """
            INSERT INTO facts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?6, min(?7, ?10), min(?8, ?10), NULL, ?9, 0)
            ON CONFLICT (fingerprint) DO UPDATE SET
                severity = excluded.severity, path = excluded.path, title = excluded.title, last_audit = excluded.last_audit,
                opened_audit = CASE WHEN gone_audit IS NULL THEN opened_audit ELSE excluded.opened_audit END,
                rhythm_ns = CASE WHEN excluded.first_seen_ns - last_seen_ns BETWEEN rhythm_ns AND ?11
                    THEN excluded.first_seen_ns - last_seen_ns ELSE rhythm_ns END,
                first_seen_ns = min(first_seen_ns, excluded.first_seen_ns), last_seen_ns = max(last_seen_ns, excluded.last_seen_ns),
                gone_audit = NULL, waived = excluded.waived
            """,
            [
                (each.fingerprint, each.rule, each.severity, each.path, each.title, audit, each.first_seen_ns, each.last_seen_ns, each.waived,
                 believed, RHYTHMS * told.gone_after_ns)
                for each in told.facts
            ],
        )  # fmt: skip
        if last_ns is not None and told.gone_after_ns:
            # What was seen for less than this time has shown no rhythm yet; what has one is missed when it stays away for half as long again.
            self.sql.execute(
                """
                UPDATE facts SET gone_audit = ?1 WHERE gone_audit IS NULL AND last_audit < ?1
                AND last_seen_ns + CASE WHEN last_seen_ns - first_seen_ns < ?2 THEN 2 * ?2 ELSE max(?2, rhythm_ns * 3 / 2) END <= ?3
                """,
                [audit, told.gone_after_ns, min(last_ns, believed)],
            )

    def record(self, first: int, last: int, level: int, records: Sequence[Record]) -> None:
        """Write the catalogue's rows of these audits to a piece; inside ``writing``."""
        import pyarrow as pa

        columns: dict[str, Any] = {
            "audit": pa.array([int(each.row["audit"]) for each in records], pa.int32()),
            "record": pa.array([msgspec.msgpack.encode(each) for each in records], pa.binary()),
        }
        table = pa.table(columns)
        self._piece(RECORDS, first, last, level, table.schema, [table])

    def _piece(
        self, name: str, first: int, last: int, level: int, schema: pa.Schema, tables: Iterable[pa.Table]
    ) -> None:
        file = f"{name}.{first:08d}-{last:08d}.parquet"
        path = self.path / PIECES / file
        rows = _write_parquet(path, schema, tables)
        self.sql.execute("DELETE FROM trash WHERE file = ?", [file])
        made = {"file": file, "of": name, "level": level, "first": first, "last": last, "rows": rows}
        self.insert("pieces", {**made, "bytes": path.stat().st_size, "sha256": digest_of(path), "checked_ns": 0})
        self._sound.add(file)

    def sound(self, file: str) -> Path:
        """Where a piece lies that is as it was written. Raises DamagedError."""
        path = self.path / PIECES / file
        if file in self._sound:
            return path
        row = self.sql.execute("SELECT bytes, sha256 FROM pieces WHERE file = ?", [file]).fetchone()
        says = None if row is None else wrong_with(path, *row)
        if says is not None:
            raise DamagedError(self.path, f"{PIECES}/{file}", says)
        self._sound.add(file)
        return path

    @contextmanager
    def _reading(self, file: str) -> Iterator[None]:
        """What reading a piece may raise is DamagedError."""
        import pyarrow as pa

        try:
            yield
        except (OSError, pa.ArrowException, ValueError) as error:
            raise DamagedError(self.path, f"{PIECES}/{file}", " ".join(str(error).split())) from error

    def doubt(self) -> None:
        """Look at every piece again that is asked for from now on."""
        self._sound.clear()

    def missing(self, name: str | None = None, first: int = 0, last: int = 1 << 40) -> list[str]:
        """What was lost of these audits by damage, in words."""
        return [
            f"{of} of {_span(begin, end)} are lost: {says}"
            for of, begin, end, says in self.sql.execute(
                "SELECT of, first, last, says FROM lost WHERE last >= ? AND first <= ? AND of = coalesce(?, of) ORDER BY first, of",
                [max(first, self._floor()), last, name],
            )
        ]

    def _sweep(self) -> None:
        """Remove files that are not in use: a writer was killed between a piece and its commit."""
        named = {file for (file,) in self.sql.execute("SELECT file FROM pieces UNION SELECT file FROM trash")}
        with os.scandir(self.path / PIECES) as found:
            for each in found:
                if each.name not in named:
                    with contextlib.suppress(OSError):
                        Path(each.path).unlink()

    def tidy(self, now_ns: int) -> None:
        """Join small pieces, and remove those that were replaced long ago. Raises ConfigError."""
        with self.writing() as sql:
            floor = self._floor()
            for name in KEPT:
                for level in range(LEVELS - 1):
                    some = sql.execute(
                        "SELECT file, first, last FROM pieces WHERE of = ? AND level = ? ORDER BY first", [name, level]
                    ).fetchall()
                    if len(some) >= JOIN_AT:
                        self._join(name, level + 1, some[:JOINED], now_ns, since=floor)
            # One from the future was put there before the clock was set back.
            old = "since_ns NOT BETWEEN ? AND ?"
            span = [now_ns - GRACE_NS + 1, now_ns + GRACE_NS]
            done = sql.execute(f"SELECT file FROM trash WHERE {old}", span).fetchall()  # noqa: S608  # our own words
            sql.execute(f"DELETE FROM trash WHERE {old}", span)  # noqa: S608
        # After the commit: until then the file is in use.
        for (file,) in done:
            with contextlib.suppress(OSError):
                (self.path / PIECES / file).unlink()

    def _join(self, name: str, level: int, some: Sequence[tuple[str, int, int]], now_ns: int, since: int = 0) -> None:
        import pyarrow as pa
        from pyarrow import compute

        places = {file: self.sound(file) for file, _, _ in some}

        def tables() -> Iterator[pa.Table]:
            for file, first, _ in some:
                with self._reading(file):
                    table = parquet_file(places[file]).read()
                yield (
                    table
                    if first >= since
                    else table.filter(compute.greater_equal(table["audit"], pa.scalar(since, pa.int32())))
                )

        schemas = []
        for file, place in places.items():
            with self._reading(file):
                schemas.append(parquet_file(place).schema_arrow.remove_metadata())
        self._bin([file for file, _, _ in some], now_ns)
        self._piece(name, max(some[0][1], since), some[-1][2], level, pa.unify_schemas(schemas), tables())

    def _bin(self, files: Iterable[str], now_ns: int) -> None:
        for file in files:
            self.sql.execute("DELETE FROM pieces WHERE file = ?", [file])
            self.sql.execute("INSERT OR REPLACE INTO trash VALUES (?, ?)", [file, now_ns])

    def retain(self, now_ns: int, *, max_age_ns: int | None = None, max_bytes: int | None = None) -> int:
        """Remove the oldest audits: those whose captures are older than ``max_age_ns``, and as many as it takes to stay below ``max_bytes``.

        The latest audit always stays. How many went. Raises ConfigError.
        """
        with self.writing() as sql:
            rows = sql.execute(
                "SELECT audit, min(coalesce(last_ns, finished_ns), coalesce(kept_ns, 1 << 62)), length(body) FROM audits ORDER BY audit"
            ).fetchall()
            if not rows:
                return 0
            floor = rows[0][0]
            if max_age_ns is not None:
                young = [audit for audit, last_ns, _ in rows[:-1] if last_ns >= now_ns - max_age_ns]
                floor = min([*young, rows[-1][0]])
            if max_bytes is not None:
                floor = max(floor, self._floor_below(rows, max_bytes))
            gone = [audit for audit, _, _ in rows if audit < floor]
            if not gone:
                return 0
            sql.execute("DELETE FROM audits WHERE audit < ?", [floor])
            sql.execute("DELETE FROM decided_by WHERE audit < ?", [floor])
            sql.execute("DELETE FROM deciders WHERE sha256 NOT IN (SELECT sha256 FROM decided_by)")
            sql.execute("DELETE FROM facts WHERE gone_audit IS NOT NULL AND last_audit < ?", [floor])
            sql.execute("DELETE FROM lost WHERE last < ?", [floor])
            self._bin(
                [file for (file,) in sql.execute("SELECT file FROM pieces WHERE last < ?", [floor]).fetchall()], now_ns
            )
            for file, name, level, first, last in sql.execute(
                "SELECT file, of, level, first, last FROM pieces WHERE first < ?1 AND last >= ?1 AND (?1 - first) * ?2 > last - first + 1",
                [floor, SPARE],
            ).fetchall():
                self._join(name, level, [(file, first, last)], now_ns, since=floor)
        return len(gone)

    def _floor_below(self, rows: Sequence[tuple[int, int, int]], max_bytes: int) -> int:
        """The first audit that may stay, so that all pieces and bodies from it on take no more than ``max_bytes``; estimated inside joined pieces."""
        pieces = self.sql.execute("SELECT first, last, bytes FROM pieces").fetchall()
        # What is left of audits that were removed takes room, too.
        begin = rows[0][0]
        left = max_bytes - sum(
            size * (begin - first) / (last - first + 1) for first, last, size in pieces if first < begin
        )
        for audit, _, body in reversed(rows):
            left -= body + sum(size / (last - first + 1) for first, last, size in pieces if first <= audit <= last)
            if left < 0:
                return min(audit + 1, rows[-1][0])
        return rows[0][0]

    def _floor(self) -> int:
        """The oldest audit that was not removed. Pieces may hold what is left of older ones; nobody is given it."""
        (floor,) = self.sql.execute("SELECT coalesce(min(audit), 0) FROM audits").fetchone()
        return int(floor)

    # Reading

    def rows(self, *, since_ns: int | None = None, until_ns: int | None = None, last: int | None = None) -> list[Row]:
        """Audits whose captures lie (partly) between the two times, in order; the ``last`` so many of them."""
        where, values = ["1"], []
        if since_ns is not None:
            where.append("coalesce(last_ns, finished_ns) >= ?")
            values.append(since_ns)
        if until_ns is not None:
            where.append("coalesce(first_ns, started_ns) <= ?")
            values.append(until_ns)
        limit = -1 if last is None else last
        found = self.sql.execute(
            f"SELECT {', '.join(_COLUMNS)} FROM audits WHERE {' AND '.join(where)} ORDER BY audit DESC LIMIT ?",  # noqa: S608  # our own words
            [*values, limit],
        ).fetchall()
        return [_row(each) for each in reversed(found)]

    def find(self, name: str) -> Row:
        """The audit of this id (or its first digits), number, ``latest`` or ``latest~N``. Raises ConfigError."""
        back = _steps_back(name)
        columns = ", ".join(_COLUMNS)
        if back is not None:
            found = self.sql.execute(
                f"SELECT {columns} FROM audits ORDER BY audit DESC LIMIT 1 OFFSET ?",  # noqa: S608  # names of our own columns
                [back],
            ).fetchall()
        else:
            digits = name.isascii() and name.isdigit() and len(name) < 10
            found = self.sql.execute(
                f"SELECT {columns} FROM audits WHERE audit = ?",  # noqa: S608  # names of our own columns
                [int(name) if digits else -1],
            ).fetchall()
            if not found and len(name) >= 4 and name.isalnum():
                found = self.sql.execute(
                    f"SELECT {columns} FROM audits WHERE substr(id, 1, ?) = ? LIMIT 2",  # noqa: S608  # names of our own columns
                    [len(name), name],
                ).fetchall()
        if len(found) == 1:
            return _row(found[0])
        says = (
            f"{many(len(found), 'audit begins', 'audits begin')} with {name!r}" if found else f"unknown audit {name!r}"
        )
        raise ConfigError(str(self.path), says, hint="auditor history list shows them; latest and latest~1 work, too")

    def newest(self, without: str) -> Row | None:
        """The last audit of another kind than this."""
        columns = ", ".join(_COLUMNS)
        sql = f"SELECT {columns} FROM audits WHERE kind <> ? ORDER BY audit DESC LIMIT 1"  # noqa: S608  # names of our own columns
        found = self.sql.execute(sql, [without]).fetchone()
        return None if found is None else _row(found)

    def last_with(self, mark: str) -> int | None:
        """The last audit that has a finding whose fingerprint begins so; None: no audit has one, or the mark is too short to tell."""
        if len(mark) < 6 or not mark.isalnum():
            return None
        (found,) = self.sql.execute(
            "SELECT max(last_audit) FROM facts WHERE substr(fingerprint, 1, ?) = ?", [len(mark), mark]
        ).fetchone()
        return None if found is None else int(found)

    def window(self, row: Row) -> str:
        """``from ... to ...``, where this audit looked at a part of the time alone; empty: at all of it. Scheduled passes always do."""
        if row.kind != "audit":
            return ""
        try:
            return window_text(self.body(row.audit)["audit"].get("window"))
        except DamagedError:
            return ""

    def body(self, audit: int) -> dict[str, Any]:
        """The ``audit`` and ``summary`` objects of an audit."""
        (packed,) = self.sql.execute("SELECT body FROM audits WHERE audit = ?", [audit]).fetchone()
        try:
            told: dict[str, Any] = msgspec.json.decode(zstandard.ZstdDecompressor().decompress(packed))
        except (zstandard.ZstdError, msgspec.MsgspecError, TypeError) as error:
            raise DamagedError(self.path, CATALOGUE, f"audit {audit}: {' '.join(str(error).split())}") from error
        return told

    def table(self, name: str, audit: int, columns: Sequence[str] | None = None) -> pa.Table | None:
        """One table of an audit, or None where it was kept without. Raises ConfigError."""
        for file, first, last in self._pieces(name, audit, audit):
            place = self.sound(file)
            with self._reading(file):
                source = parquet_file(place)
                if first == last:
                    return cast("pa.Table", source.read(None if columns is None else list(columns)))
                at = source.schema_arrow.get_field_index("audit")
                groups = [
                    k for k in range(source.num_row_groups) if _holds(source.metadata.row_group(k).column(at), audit)
                ]
                wanted = None if columns is None else [*dict.fromkeys([*columns, "audit"])]
                found = source.read_row_groups(groups, wanted)
                begin, end = _within(found["audit"], audit)
                return cast("pa.Table", found.slice(begin, end - begin))
        gone = self.missing(name, audit, audit)
        if gone:
            raise ConfigError(str(self.path), gone[0], hint="the other tables of this audit exist")
        return None

    def _pieces(self, name: str, first: int, last: int) -> list[tuple[str, int, int]]:
        if last < self._floor():
            return []
        return self.sql.execute(
            "SELECT file, first, last FROM pieces WHERE of = ? AND last >= ? AND first <= ? ORDER BY first",
            [name, first, last],
        ).fetchall()

    def known(self) -> dict[str, Known]:
        """What was ever found, by fingerprint."""
        return {
            mark: Known(first, last, seen, gone is None)
            for mark, first, last, seen, gone in self.sql.execute(
                "SELECT fingerprint, first_audit, last_audit, last_seen_ns, gone_audit FROM facts"
            )
        }

    def deciders(self, audit: int) -> list[Decider]:
        """Policies, inventories and waivers of an audit, as they were."""
        try:
            return [
                Decider(sha256, kind, name, zstandard.ZstdDecompressor().decompress(content))
                for sha256, kind, name, content in self.sql.execute(
                    "SELECT sha256, kind, name, content FROM deciders JOIN decided_by USING (sha256) WHERE audit = ? ORDER BY kind, name",
                    [audit],
                )
            ]
        except (zstandard.ZstdError, TypeError) as error:
            raise DamagedError(
                self.path, CATALOGUE, f"the policies, inventories and waivers of audit {audit}: {error}"
            ) from error

    def size(self) -> int:
        """Bytes of it all on disk."""
        return sum(each.stat().st_size for each in self.path.rglob("*") if each.is_file())

    def scan(
        self, name: str, columns: Sequence[str], since_ns: int | None = None, until_ns: int | None = None
    ) -> Iterator[pa.Table]:
        """A table of all audits between two times, piece by piece, with the column ``audit``."""
        import pyarrow as pa
        from pyarrow import compute

        wanted = {row.audit for row in self.rows(since_ns=since_ns, until_ns=until_ns)}
        if not wanted:
            return
        for file, _, _ in self._pieces(name, min(wanted), max(wanted)):
            place = self.sound(file)
            with self._reading(file):
                source = parquet_file(place)
                there = set(source.schema_arrow.names)
                table = source.read([*dict.fromkeys([*(each for each in columns if each in there), "audit"])])
            yield table.filter(compute.is_in(table["audit"], pa.array(sorted(wanted), pa.int32())))

    def query(self, sql: str, schemas: Mapping[str, pa.Schema]) -> pa.Table:
        """What DuckDB answers; ``schemas``: of the tables, for those that have no row yet. Raises ConfigError, MissingToolError."""
        try:
            import duckdb
        except ImportError:
            raise MissingToolError(
                "history query needs duckdb (pip install 'diego-flow-auditor[history]', or '.[history]' in its folder)"
            ) from None
        base = duckdb.connect(":memory:", config={"custom_user_agent": "auditor"})
        try:
            self._views(base, schemas)
            if _ASKS_CERTIFICATES.search(sql):
                base.register("certificates", self._certificates())
            base.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
            base.execute(f"SET allowed_directories = ['{_quoted(self.path / PIECES)}/']")
            base.execute("SET TimeZone = 'UTC'")
            base.execute("SET enable_external_access = false")
            base.execute("SET lock_configuration = true")
            answer = base.sql(sql)
            if answer is None:
                raise ConfigError("query", "does not return a table", hint="start with SELECT, WITH, DESCRIBE or SHOW")
            return _whole(answer.to_arrow_table())
        except duckdb.Error as error:
            first = str(error).strip().splitlines()
            raise ConfigError(
                "query", " ".join(first[:1]) or "failed", hint="tables: " + ", ".join([*_VIEWS, "certificates"])
            ) from None
        finally:
            base.close()

    def _certificates(self) -> pa.Table:
        """The certificates of all audits, one row per audit and certificate. They stand in the bodies, so only who asks for them pays."""
        import pyarrow as pa

        rows = []
        for (audit,) in self.sql.execute("SELECT audit FROM audits ORDER BY audit").fetchall():
            for each in self.body(audit).get("certificates") or ():
                names = " ".join(map(str, each.get("names") or ()))
                rows.append({**each, "audit": audit, "names": names})
        whole: dict[str, pa.DataType] = {
            "audit": pa.int32(),
            "connections": pa.int64(),
            "hosts": pa.int64(),
            "authority": pa.bool_(),
        }
        return pa.Table.from_pylist(
            rows, pa.schema([(name, whole.get(name, pa.string())) for name in _CERTIFICATE_COLUMNS])
        )

    def _views(self, base: Any, schemas: Mapping[str, pa.Schema]) -> None:
        import pyarrow as pa

        floor = self._floor()
        for name in TABLES:
            pieces = self._pieces(name, 0, 1 << 40)
            for file, _, _ in pieces:
                self.sound(file)
            if pieces:
                listed = ", ".join(f"'{_quoted(self.path / PIECES / file)}'" for file, _, _ in pieces)
                only = f" WHERE audit >= {floor}" if pieces[0][1] < floor else ""
                source = f"read_parquet([{listed}], union_by_name = true)"
                base.execute(f"CREATE VIEW {name} AS SELECT * FROM {source}{only}")  # noqa: S608  # our own files
            else:
                schema = pa.schema([pa.field("audit", pa.int32()), *schemas[name]])
                base.register(name, schema.empty_table())
        moment = pa.timestamp("ns", "UTC")
        for name, sql in _VIEWS.items():
            if not sql:
                continue
            found = self.sql.execute(sql)
            names = [each[0] for each in found.description]
            values = found.fetchall()
            columns = {}
            for at, column in enumerate(names):
                array = pa.array([each[at] for each in values])
                if column.endswith("_ns"):
                    columns[column.removesuffix("_ns")] = array.cast(pa.int64()).cast(moment)
                else:
                    columns[column] = array if values else pa.array([], pa.string())
            base.register(name, pa.table(columns))
        base.execute(
            """
            CREATE VIEW locations AS
            SELECT c.audit, c.id AS connection, f.sha256, f.path, c.first_frame, c.start, c.duration
            FROM connections c JOIN captures f ON f.audit = c.audit AND f.capture = c.capture
            """
        )


_CERTIFICATE_COLUMNS = (
    "audit", "sha256", "common_name", "subject", "issuer", "issuer_name", "names", "not_before", "not_after", "key_sha256", "authority",
    "refused", "connections", "hosts",
)  # fmt: skip
_ASKS_CERTIFICATES = re.compile(r"\bcertificates\b", re.IGNORECASE)

_VIEWS: dict[str, str] = {
    "connections": "",
    "findings": "",
    "coverage": "",
    "captures": "",
    "locations": "",
    "audits": f"SELECT {', '.join(_COLUMNS)} FROM audits",  # noqa: S608  # names of our own columns
    "facts": "SELECT fingerprint, rule, severity, path, title, first_audit, last_audit, opened_audit, first_seen_ns, last_seen_ns, gone_audit, waived FROM facts",
    "deciders": "SELECT audit, sha256, kind, name FROM decided_by JOIN deciders USING (sha256)",
}


def wrong_with(path: Path, size: int, sha256: str | None) -> str | None:
    """What is wrong with a file of a store; None where it is as it was written, as far as that is known or (a large one) can be seen at once."""
    try:
        found = path.stat().st_size
        if found != size:
            return f"{found} bytes instead of {size}"
        if sha256 is not None and size <= SHORT_BYTES and digest_of(path) != sha256:
            return "its checksum differs"
    except OSError as error:
        return "it is missing" if isinstance(error, FileNotFoundError) else str(error.strerror or error)
    return None


def parquet_file(path: Path) -> Any:
    """A piece, opened; each page is checked as it is read. Raises OSError, ArrowException."""
    from pyarrow import parquet

    return parquet.ParquetFile(path, page_checksum_verification=True)


def joined_level(audits: int) -> int:
    """The level of a piece of so many audits."""
    return min(LEVELS - 1, next((level for level in range(LEVELS) if audits < JOINED ** (level + 1)), LEVELS - 1))


def _span(first: int, last: int) -> str:
    return f"audit {first}" if first == last else f"audits {first} to {last}"


def _whole(table: pa.Table) -> pa.Table:
    """The table with sums of whole numbers (128 bits in DuckDB) as such, where 64 bits hold them."""
    import pyarrow as pa

    for at, each in enumerate(table.schema):
        if pa.types.is_decimal(each.type) and each.type.scale == 0:
            with contextlib.suppress(pa.ArrowInvalid):
                table = table.set_column(at, each.name, table[at].cast(pa.int64()))
    return table


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("'", "''")


def _row(values: Sequence[Any]) -> Row:
    head = len(_COLUMNS) - len(_COUNTS)
    audit, name, kind, started_ns, finished_ns, first_ns, last_ns = values[:head]
    counts = dict(zip(_COUNTS, values[head:], strict=True))
    return Row(audit, name, kind, started_ns, finished_ns, first_ns, last_ns, counts)


def _steps_back(name: str) -> int | None:
    if name in ("latest", "last"):
        return 0
    word, tilde, steps = name.partition("~")
    if word in ("latest", "last") and tilde and steps.isascii() and steps.isdigit() and len(steps) < 9:
        return int(steps)
    return None


def _holds(column: Any, audit: int) -> bool:
    known = column.statistics
    return known is None or not known.has_min_max or known.min <= audit <= known.max


def _within(column: Any, audit: int) -> tuple[int, int]:
    """Where the rows of an audit begin and end: audits lie one after the other in a piece.

    (Arrow's filter, and its way to numpy, import pandas where it is installed. That takes longer than everything else that a diff does.)
    """
    import numpy as np

    seen, begin, end = 0, None, 0
    for chunk in column.chunks:
        numbers = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk)]
        first, last = np.searchsorted(numbers, [audit, audit + 1]).tolist()
        if last > first:
            begin, end = seen + first if begin is None else begin, seen + last
        seen += len(chunk)
    return (0, 0) if begin is None else (begin, end)


def _packed(value: Any) -> bytes:
    return zstandard.ZstdCompressor(level=9).compress(msgspec.json.encode(value))


def _numbered(table: pa.Table, audit: int) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    return table.add_column(0, pa.field("audit", pa.int32()), pa.array(np.full(table.num_rows, audit, np.int32)))


def _write_parquet(path: Path, schema: pa.Schema, tables: Iterable[pa.Table]) -> int:
    """Write tables one after the other as one file, durably; the number of rows. A column that a table lacks is null there."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = 0
    with (
        whole_file(path) as out,
        parquet.ParquetWriter(out, schema, compression="zstd", compression_level=6, write_page_checksum=True) as writer,
    ):
        waiting: list[pa.Table] = []
        for table in tables:
            waiting.append(_fitted(table, schema))
            rows += table.num_rows
            if sum(each.num_rows for each in waiting) >= ROW_GROUP:
                writer.write_table(pa.concat_tables(waiting).combine_chunks(), row_group_size=ROW_GROUP)
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting).combine_chunks(), row_group_size=ROW_GROUP)
    return rows


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    there = set(table.schema.names)
    columns = [
        table[each.name].cast(each.type) if each.name in there else pa.nulls(table.num_rows, each.type)
        for each in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


# Opening


def open_history(path: Path | str, *, write: bool = False, catalogue: Path | None = None) -> History:
    """A store; with ``write`` it is made where nothing is yet, and brought up to date. Raises ConfigError.

    ``catalogue``: one that is being made in place of the store's own.
    """
    path = Path(path)
    file = path / CATALOGUE
    if catalogue is not None:
        connection = _connect(str(catalogue))
        _migrate(path, connection)
        return History(path, connection)
    try:
        if path.exists() and not path.is_dir():
            raise ConfigError(str(path), "is a file", hint="name a folder; a store is a folder")
        _check_owner(path, writes=write)
        if write:
            if path.is_dir() and not file.exists():
                _may_begin(path)
            return _open_for_writing(path, file)
        if not file.is_file():
            if path.is_dir() and not {each.name for each in path.iterdir()} - OURS:
                _may_begin(path)
            raise ConfigError(
                str(path), "is not a store of audits", hint="auditor audit --store or auditor run creates one"
            )
        return _open_for_reading(path, file)
    except (OSError, sqlite3.Error) as error:
        raise _complaint(path, error) from error


def _check_owner(path: Path, *, writes: bool) -> None:
    """Check that no other user can have written it. Raises ConfigError, OSError."""
    for place in (path, path / PIECES, path / CATALOGUE, path / _state.NAME):
        says = exposure(place, writes=writes) if place.exists() else None
        if says is not None:
            raise ConfigError(
                str(place), says, hint=f"chmod -R o-w {path} if it is yours; otherwise name another folder"
            )


OURS = frozenset(
    {
        "run.lock",
        PIECES,
        CATALOGUE,
        f"{CATALOGUE}-wal",
        f"{CATALOGUE}-shm",
        _state.NAME,
        f".{_state.NAME}.part",
        DAMAGED,
        "carry",
        "inventories",
    }
)
"""All that may lie in a store."""


def _may_begin(path: Path) -> None:
    """Whether a catalogue may be made in this folder. Raises ConfigError, DamagedError."""
    there = {each.name for each in path.iterdir()}
    if there - OURS:
        raise ConfigError(str(path), "has other files in it than a store", hint="name a new folder")
    if _holds_audits(path):
        raise DamagedError(path, CATALOGUE, "it is missing, but the rest of the store exists")


def _holds_audits(path: Path) -> bool:
    pieces = path / PIECES
    return (path / _state.NAME).exists() or (pieces.is_dir() and any(pieces.glob("*.parquet")))


def _open_for_writing(path: Path, file: Path) -> History:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    (path / PIECES).mkdir(exist_ok=True, mode=0o700)
    was_logged = _state.logged(file)
    connection = _connect(str(file))
    try:
        version = _version(connection)
        if version == 0 and _holds_audits(path):
            raise DamagedError(path, CATALOGUE, "it is empty, but the rest of the store exists")
        says = _state.complaint(path, connection, file, was_logged) if 0 < version <= VERSION else None
        if says is not None:
            raise DamagedError(path, CATALOGUE, says)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(path, connection)
    except BaseException:
        connection.close()
        raise
    sync(path)
    with contextlib.suppress(OSError):  # only the store's own name; its parent may be unreadable for us
        sync(path.parent)
    return History(path, connection, writes=True)


def _open_for_reading(path: Path, file: Path) -> History:
    borrowed: Path | None = None
    try:
        connection = _connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)
        try:
            version = _version(connection)
        except sqlite3.OperationalError:
            # A log that this user may not touch: read a copy.
            connection.close()
            borrowed, connection = _borrow(file)
            version = _version(connection)
        if version > VERSION:
            connection.close()
            raise _too_new(path, version)
        if version == 0 and _holds_audits(path):
            connection.close()
            raise DamagedError(path, CATALOGUE, "it is empty, but the rest of the store exists")
        if version < VERSION:
            if borrowed is None:
                connection.close()
                borrowed, connection = _borrow(file)
            _migrate(path, connection)
        return History(path, connection, borrowed)
    except BaseException:
        if borrowed is not None:
            shutil.rmtree(borrowed, ignore_errors=True)
        raise


def _borrow(file: Path) -> tuple[Path, sqlite3.Connection]:
    folder = Path(tempfile.mkdtemp(prefix="auditor-"))
    for each in (file, file.with_name(f"{file.name}-wal")):
        if each.exists():
            shutil.copyfile(each, folder / each.name)
    return folder, _connect(str(folder / file.name))


def _connect(place: str, uri: bool = False) -> sqlite3.Connection:
    return sqlite3.connect(place, timeout=WAIT_S, isolation_level=None, uri=uri)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _too_new(path: Path, version: int) -> ConfigError:
    return ConfigError(
        str(path),
        f"was written by a later version (format {version}, this version reads up to {VERSION})",
        hint="update the auditor",
    )


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    """Bring the catalogue up to ``VERSION``, all steps or none."""
    version = _version(connection)
    if version == VERSION:
        return
    if version > VERSION:
        raise _too_new(path, version)
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)  # another process may have been faster
        for step in STEPS[version:]:
            for statement in step.split(";"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
