"""What earlier audits found, in one folder that any number may read while one writes.

    STORE/catalogue.sqlite    which audits there are, what was ever found, which pieces hold the rest, the policies and inventories as they were
    STORE/pieces/*.parquet    connections, findings, coverage and captures of one audit, or of many in a row

Two tools, each for what it does best. The catalogue is small and changes: SQLite with a write-ahead log gives transactions that survive a kill, a full
disk and a power cut, and readers that wait for nobody. The tables are large and never change: Parquet is an eighth of the size, and DuckDB reads just
the columns that a question needs. (A DuckDB file could not be opened by a reader while somebody writes.)

The rules:

- A piece is written under a name of its own, synced and renamed before the catalogue's transaction names it. What the catalogue names is there; what
  it does not name is nobody's, and swept away by the next writer.
- Writers hold the catalogue's write lock from numbering an audit to committing it. So audits are numbered in the order of their commits.
- Small pieces are joined into larger ones as they add up, so that a year is a few dozen files. Pieces that are replaced stay for a while: somebody
  may be reading them.
- A store that a later version wrote is refused, one that an earlier version wrote is brought up to date by the next writer, and read through a
  copy of its catalogue until then.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import zstandard

from auditor.errors import ConfigError, MissingToolError
from auditor.store._schema import STEPS, VERSION

if TYPE_CHECKING:
    import pyarrow as pa

CATALOGUE = "catalogue.sqlite"
PIECES = "pieces"
TABLES = ("connections", "findings", "coverage", "captures")
WAIT_S = 60.0
"""So long a writer waits for another one's commit."""

JOIN_AT, JOINED = 32, 24
"""When so many pieces of a level have added up, so many of the oldest become one of the next."""
LEVELS = 3
ROW_GROUP = 65_536
SPARE = 8
"""A piece whose oldest audits were removed is written anew once they are this part of it (an eighth): until then nobody can ask for them."""
GRACE_NS = 600 * 1_000_000_000
"""Pieces that nothing names any more are left for readers so long."""

Tables = Mapping[str, "pa.Table"]


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
    """What no table holds: the ``audit`` and ``summary`` objects."""
    tables: Tables
    facts: Sequence[Fact] = ()
    deciders: Sequence[Decider] = ()


@dataclass(frozen=True, slots=True)
class Known:
    """What history says of a fingerprint."""

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
    says = str(getattr(error, "strerror", None) or error)
    if "locked" in says or "busy" in says:
        return ConfigError(str(path), "somebody else has been writing to it for a minute", mend="try again later")
    if "full" in says:
        return ConfigError(str(path), "cannot be written: no space left on the disk")
    if "not a database" in says or "malformed" in says:
        return ConfigError(str(path), f"is no store of audits, or damaged: {says}", mend="name another with --store")
    return ConfigError(str(path), f"cannot be used as a store: {says}")


def sync(place: Path) -> None:
    """Make a file's content, or the names in a folder, durable. Raises OSError."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """A file that is there whole or not at all, also after a power cut. Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync(path.parent)


class History:
    """A store, open. Made by ``open_history``; a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection, borrowed: Path | None = None) -> None:
        self.path = path
        self.sql = connection
        """The catalogue. Change it only inside ``writing``."""
        self._borrowed = borrowed

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of it."""
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

    def keep(self, kept: Kept, *, gone_after_ns: int) -> int:
        """Keep an audit; its number. Inside ``writing`` it is part of what is written there. Raises ConfigError."""
        with self.writing() as sql:
            self._sweep()
            audit = self.next_audit()
            for name, table in kept.tables.items():
                numbered = _numbered(table, audit)
                self._piece(name, audit, audit, 0, numbered.schema.remove_metadata(), [numbered])
            values = [audit, kept.id, kept.kind, kept.started_ns, kept.finished_ns, kept.first_ns, kept.last_ns]
            values += [int(kept.counts.get(name, 0)) for name in _COUNTS]
            places = ", ".join("?" * (len(values) + 1))
            sql.execute(
                f"INSERT INTO audits ({', '.join(_COLUMNS)}, body) VALUES ({places})",  # noqa: S608  # names of our own columns
                [*values, _packed(kept.body)],
            )
            sql.execute("INSERT OR REPLACE INTO meta VALUES ('last', ?)", [str(audit)])
            self._remember(audit, kept.facts)
            self._forget(audit, kept.last_ns, gone_after_ns)
            for each in kept.deciders:
                content = zstandard.ZstdCompressor(level=9).compress(each.content)
                sql.execute(
                    "INSERT OR IGNORE INTO deciders VALUES (?, ?, ?, ?)", [each.sha256, each.kind, each.name, content]
                )
                sql.execute("INSERT OR IGNORE INTO decided_by VALUES (?, ?)", [audit, each.sha256])
        return audit

    def _remember(self, audit: int, facts: Iterable[Fact]) -> None:
        self.sql.executemany(
            """
            INSERT INTO facts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?6, ?7, ?8, NULL, ?9)
            ON CONFLICT (fingerprint) DO UPDATE SET
                severity = excluded.severity, path = excluded.path, title = excluded.title, last_audit = excluded.last_audit,
                opened_audit = CASE WHEN gone_audit IS NULL THEN opened_audit ELSE excluded.opened_audit END,
                first_seen_ns = min(first_seen_ns, excluded.first_seen_ns), last_seen_ns = max(last_seen_ns, excluded.last_seen_ns),
                gone_audit = NULL, waived = excluded.waived
            """,
            [
                (
                    each.fingerprint,
                    each.rule,
                    each.severity,
                    each.path,
                    each.title,
                    audit,
                    each.first_seen_ns,
                    each.last_seen_ns,
                    each.waived,
                )
                for each in facts
            ],
        )

    def _forget(self, audit: int, until_ns: int | None, gone_after_ns: int) -> None:
        """What this audit did not show any more is gone, once its captures are so much later than it was last seen."""
        if until_ns is None:
            return
        self.sql.execute(
            "UPDATE facts SET gone_audit = ? WHERE gone_audit IS NULL AND last_audit < ? AND last_seen_ns + ? <= ?",
            [audit, audit, gone_after_ns, until_ns],
        )

    def _piece(
        self, name: str, first: int, last: int, level: int, schema: pa.Schema, tables: Iterable[pa.Table]
    ) -> None:
        file = f"{name}.{first:08d}-{last:08d}.parquet"
        path = self.path / PIECES / file
        rows = _write_parquet(path, schema, tables)
        self.sql.execute("DELETE FROM trash WHERE file = ?", [file])
        self.sql.execute(
            "INSERT INTO pieces VALUES (?, ?, ?, ?, ?, ?, ?)",
            [file, name, level, first, last, rows, path.stat().st_size],
        )

    def _sweep(self) -> None:
        """Remove files that nothing names: a writer was killed between a piece and its commit."""
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
            for name in TABLES:
                for level in range(LEVELS - 1):
                    some = sql.execute(
                        "SELECT file, first, last FROM pieces WHERE of = ? AND level = ? ORDER BY first", [name, level]
                    ).fetchall()
                    if len(some) >= JOIN_AT:
                        self._join(name, level + 1, some[:JOINED], now_ns, since=floor)
            done = sql.execute("SELECT file FROM trash WHERE since_ns <= ?", [now_ns - GRACE_NS]).fetchall()
            sql.execute("DELETE FROM trash WHERE since_ns <= ?", [now_ns - GRACE_NS])
        # After the commit: a file whose removal was not committed is still somebody's.
        for (file,) in done:
            with contextlib.suppress(OSError):
                (self.path / PIECES / file).unlink()

    def _join(self, name: str, level: int, some: Sequence[tuple[str, int, int]], now_ns: int, since: int = 0) -> None:
        import pyarrow as pa
        from pyarrow import compute, parquet

        def tables() -> Iterator[pa.Table]:
            for file, first, _ in some:
                table = parquet.ParquetFile(self.path / PIECES / file).read()
                yield (
                    table
                    if first >= since
                    else table.filter(compute.greater_equal(table["audit"], pa.scalar(since, pa.int32())))
                )

        schemas = [parquet.read_schema(self.path / PIECES / file).remove_metadata() for file, _, _ in some]
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
                "SELECT audit, coalesce(last_ns, finished_ns), length(body) FROM audits ORDER BY audit"
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
        says = f"{len(found)} audits begin with {name!r}" if found else f"there is no audit {name!r}"
        raise ConfigError(
            str(self.path), says, mend="auditor history list names them; latest and latest~1 are understood"
        )

    def body(self, audit: int) -> dict[str, Any]:
        """The ``audit`` and ``summary`` objects of an audit."""
        (packed,) = self.sql.execute("SELECT body FROM audits WHERE audit = ?", [audit]).fetchone()
        told: dict[str, Any] = msgspec.json.decode(zstandard.ZstdDecompressor().decompress(packed))
        return told

    def table(self, name: str, audit: int, columns: Sequence[str] | None = None) -> pa.Table | None:
        """One table of an audit, or None where it was kept without. Raises ConfigError."""
        import pyarrow as pa
        from pyarrow import parquet

        for file, first, last in self._pieces(name, audit, audit):
            path = self.path / PIECES / file
            try:
                source = parquet.ParquetFile(path)
                if first == last:
                    return source.read(None if columns is None else list(columns))
                at = source.schema_arrow.get_field_index("audit")
                groups = [
                    k for k in range(source.num_row_groups) if _holds(source.metadata.row_group(k).column(at), audit)
                ]
                wanted = None if columns is None else [*dict.fromkeys([*columns, "audit"])]
                found = source.read_row_groups(groups, wanted)
                begin, end = _within(found["audit"], audit)
                return found.slice(begin, end - begin)
            except (OSError, pa.ArrowException) as error:
                raise ConfigError(str(path), f"is damaged: {' '.join(str(error).split())}") from error
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
        return [
            Decider(sha256, kind, name, zstandard.ZstdDecompressor().decompress(content))
            for sha256, kind, name, content in self.sql.execute(
                "SELECT sha256, kind, name, content FROM deciders JOIN decided_by USING (sha256) WHERE audit = ? ORDER BY kind, name",
                [audit],
            )
        ]

    def size(self) -> int:
        """Bytes of it all on disk."""
        return sum(each.stat().st_size for each in self.path.rglob("*") if each.is_file())

    def scan(
        self, name: str, columns: Sequence[str], since_ns: int | None = None, until_ns: int | None = None
    ) -> Iterator[pa.Table]:
        """A table of all audits between two times, piece by piece, with the column ``audit``."""
        from pyarrow import compute, parquet

        wanted = {row.audit for row in self.rows(since_ns=since_ns, until_ns=until_ns)}
        if not wanted:
            return
        for file, _, _ in self._pieces(name, min(wanted), max(wanted)):
            source = parquet.ParquetFile(self.path / PIECES / file)
            there = set(source.schema_arrow.names)
            table = source.read([*dict.fromkeys([*(each for each in columns if each in there), "audit"])])
            import pyarrow as pa

            yield table.filter(compute.is_in(table["audit"], pa.array(sorted(wanted), pa.int32())))

    def query(self, sql: str, schemas: Mapping[str, pa.Schema]) -> pa.Table:
        """What DuckDB answers; ``schemas``: of the tables, for those that have no row yet. Raises ConfigError, MissingToolError."""
        try:
            import duckdb
        except ImportError:
            raise MissingToolError("history query needs duckdb (pip install 'diego-flow-auditor[history]')") from None
        base = duckdb.connect(":memory:", config={"custom_user_agent": "auditor"})
        try:
            self._views(base, schemas)
            base.execute("SET autoinstall_known_extensions = false; SET autoload_known_extensions = false")
            base.execute(f"SET allowed_directories = ['{_quoted(self.path / PIECES)}/']")
            base.execute("SET TimeZone = 'UTC'")
            base.execute("SET enable_external_access = false")
            base.execute("SET lock_configuration = true")
            answer = base.sql(sql)
            if answer is None:
                raise ConfigError("query", "gives no table", mend="begin it with SELECT, WITH, DESCRIBE or SHOW")
            return _whole(answer.to_arrow_table())
        except duckdb.Error as error:
            first = str(error).strip().splitlines()
            raise ConfigError("query", " ".join(first[:1]) or "failed", mend="tables: " + ", ".join(_VIEWS)) from None
        finally:
            base.close()

    def _views(self, base: Any, schemas: Mapping[str, pa.Schema]) -> None:
        import pyarrow as pa

        floor = self._floor()
        for name in TABLES:
            pieces = self._pieces(name, 0, 1 << 40)
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

    part = path.with_name(f".{path.name}.part")
    rows = 0
    try:
        with part.open("wb") as out:
            with parquet.ParquetWriter(out, schema, compression="zstd", compression_level=6) as writer:
                waiting: list[pa.Table] = []
                for table in tables:
                    waiting.append(_fitted(table, schema))
                    rows += table.num_rows
                    if sum(each.num_rows for each in waiting) >= ROW_GROUP:
                        writer.write_table(pa.concat_tables(waiting).combine_chunks(), row_group_size=ROW_GROUP)
                        waiting = []
                if waiting:
                    writer.write_table(pa.concat_tables(waiting).combine_chunks(), row_group_size=ROW_GROUP)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync(path.parent)
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


def open_history(path: Path | str, *, write: bool = False) -> History:
    """A store; with ``write`` it is made where nothing is yet, and brought up to date. Raises ConfigError."""
    path = Path(path)
    file = path / CATALOGUE
    try:
        if path.exists() and not path.is_dir():
            raise ConfigError(str(path), "is a file", mend="name a folder; a store is one")
        if write:
            ours = {"run.lock", PIECES, CATALOGUE, f"{CATALOGUE}-wal", f"{CATALOGUE}-shm"}
            if path.is_dir() and not file.exists() and {each.name for each in path.iterdir()} - ours:
                raise ConfigError(str(path), "holds other files than a store", mend="name a new folder")
            return _open_for_writing(path, file)
        if not file.is_file():
            raise ConfigError(str(path), "is no store of audits", mend="auditor audit --store or auditor run make one")
        return _open_for_reading(path, file)
    except (OSError, sqlite3.Error) as error:
        raise _complaint(path, error) from error


def _open_for_writing(path: Path, file: Path) -> History:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    (path / PIECES).mkdir(exist_ok=True, mode=0o700)
    connection = _connect(str(file))
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(path, connection)
    except BaseException:
        connection.close()
        raise
    sync(path)
    with contextlib.suppress(OSError):  # the store's own name; its parent may be readable for others alone
        sync(path.parent)
    return History(path, connection)


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
        f"was written by a later version (format {version}, this one knows {VERSION})",
        mend="update the auditor",
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
        version = _version(connection)  # somebody may have been faster
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
