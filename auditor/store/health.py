"""A store that heals: what is damaged is found, named, put aside, and costs only itself.

The rules:

- The catalogue's rows of an audit are in a piece, too (``records``), and its small tables in ``state``: each can be rebuilt from the others.
- A damaged file is moved to ``damaged``, never deleted. Its content is recorded as lost, and that is reported whenever it is asked for.
- A piece of records is made again from the catalogue, so that nothing is lost with it.
- Nothing that is lost is reported as new again: facts, taken files and sent notifications are restored from ``state`` and the records. What may have been told and may not have been
  (transactions after ``state`` was written) is said, and not told a second time.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import zstandard

from auditor.errors import ConfigError
from auditor.store import _state
from auditor.store._files import digest_of, sync
from auditor.store.history import (
    CATALOGUE,
    DAMAGED,
    KEPT,
    PIECES,
    RECORDS,
    DamagedError,
    Decider,
    Fact,
    History,
    Record,
    joined_level,
    open_history,
    parquet_file,
    wrong_with,
)
from auditor.wire.text import many

SCRUB_BYTES = 64 << 20
"""So much is looked at again by each pass, the piece first that was not looked at for longest: a year's store is through in a few hours of passes."""
SCRUB_AGAIN_NS = 86_400 * 1_000_000_000
"""No piece is looked at again sooner, unless the clock was set back."""
_NEW = ".rebuilt.sqlite"
CARRY = "carry"
"""Where passes hand on what is open."""
_PIECE = re.compile(r"([a-z]+)\.(\d{8,})-(\d{8,})\.parquet")
_UNREADABLE = (sqlite3.Error, OSError, zstandard.ZstdError, msgspec.MsgspecError, ValueError, TypeError, KeyError)


# One piece


def set_aside(history: History, damage: DamagedError, now_ns: int) -> list[str]:
    """Put a damaged piece away and note what is lost with it; that in words. Raises ConfigError."""
    file = damage.file.removeprefix(f"{PIECES}/")
    with history.writing() as sql:
        row = sql.execute("SELECT of, first, last FROM pieces WHERE file = ?", [file]).fetchone()
        if row is None:
            return []
        sql.execute("DELETE FROM pieces WHERE file = ?", [file])
        says = f"{damage.file} was damaged: {damage.what}"
        if row[0] != RECORDS:
            lost = dict(zip(("of", "first", "last"), row, strict=True))
            history.insert("lost", {"file": file, **lost, "at_ns": now_ns, "says": says})
    history.doubt()
    _away(history.path, history.path / PIECES / file)
    if row[0] == RECORDS:
        return [f"{says}; it is rebuilt from the catalogue"]
    return history.missing(row[0], row[1], row[2])


def _away(store: Path, path: Path) -> None:
    """Into ``damaged``, beside what lies there already."""
    folder = store / DAMAGED
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True, mode=0o700)
        free = next(
            place
            for place in (folder / (path.name + (f".{k}" if k else "")) for k in itertools.count())
            if not place.exists()
        )
        path.replace(free)
        sync(folder)
        sync(path.parent)


def scrub(history: History, now_ns: int, budget: int = SCRUB_BYTES) -> list[str]:
    """Look at some pieces, those first that were not looked at for longest, and put the damaged ones aside; that in words. Raises ConfigError."""
    told: list[str] = []
    again = [now_ns - SCRUB_AGAIN_NS, now_ns]
    rows = history.sql.execute(
        "SELECT file, bytes, sha256 FROM pieces WHERE checked_ns NOT BETWEEN ? AND ? ORDER BY checked_ns, file", again
    ).fetchall()
    looked: list[tuple[int, str, str]] = []
    for file, size, sha256 in rows:
        says, found = _looked_at(history.path / PIECES / file, size, sha256)
        if says is not None:
            told += set_aside(history, DamagedError(history.path, f"{PIECES}/{file}", says), now_ns)
        else:
            looked.append((now_ns, found, file))
        budget -= size
        if budget <= 0:
            break
    if looked:
        with history.writing() as sql:
            sql.executemany("UPDATE pieces SET checked_ns = ?, sha256 = ? WHERE file = ?", looked)
    mirror(history)
    return told


def _looked_at(path: Path, size: int, sha256: str | None) -> tuple[str | None, str]:
    """What is wrong with a piece, and its checksum. A piece without a known checksum (of an earlier version) is read whole once."""
    says = wrong_with(path, size, None)
    if says is not None:
        return says, ""
    try:
        found = digest_of(path)
        if sha256 is not None:
            return (None if found == sha256 else "its checksum differs"), found
        parquet_file(path).read()
    except _UNREADABLE as error:
        return " ".join(str(error).split()), ""
    return None, found


def mirror(history: History) -> None:
    """Write records of audits that have none: those of an earlier version, and those whose piece was damaged. Raises ConfigError."""
    with history.writing() as sql:
        covered = sql.execute("SELECT first, last FROM pieces WHERE of = ? ORDER BY first", [RECORDS]).fetchall()
        audits = [audit for (audit,) in sql.execute("SELECT audit FROM audits ORDER BY audit")]
        bare = [audit for audit in audits if not any(first <= audit <= last for first, last in covered)]
        for run in _runs(bare, [first for first, _ in covered]):
            held: set[str] = set()
            records = [_record_of(history, audit, held) for audit in run]
            history.record(run[0], run[-1], joined_level(len(run)), records)


def _runs(audits: Sequence[int], barriers: Sequence[int]) -> Iterator[list[int]]:
    """Audits one after the other, with no piece between them."""
    run: list[int] = []
    for audit in audits:
        if run and any(run[-1] < barrier < audit for barrier in barriers):
            yield run
            run = []
        run.append(audit)
    if run:
        yield run


def _record_of(history: History, audit: int, held: set[str]) -> Record:
    """What the catalogue says of an audit; ``held``: files that a record before it holds."""
    found = history.sql.execute("SELECT * FROM audits WHERE audit = ?", [audit])
    row = dict(zip((each[0] for each in found.description), found.fetchone(), strict=True))
    files = history.deciders(audit)
    fresh = [each for each in files if each.sha256 not in held]
    held.update(each.sha256 for each in fresh)
    # Its findings are in their own piece and in the facts: gone_after is not known any more.
    return Record(row, [each.sha256 for each in files], [], 0, fresh)


# All of it


def check(path: Path) -> tuple[list[str], list[str]]:
    """What is wrong with a store, and what was lost of it before. Raises ConfigError where it is none."""
    found: list[str] = []
    lost: list[str] = []
    try:
        with open_history(path) as history:
            says = _state.complaint(path, history.sql, path / CATALOGUE, _state.logged(path / CATALOGUE))
            if says is not None:
                found.append(f"{CATALOGUE}: is damaged: {says}")
            for file, size, sha256 in history.sql.execute("SELECT file, bytes, sha256 FROM pieces ORDER BY file"):
                wrong, _ = _looked_at(path / PIECES / file, size, sha256)
                if wrong is not None:
                    found.append(f"{PIECES}/{file}: is damaged: {wrong}")
            lost += history.missing()
    except DamagedError as error:
        found.append(f"{error.file}: is damaged: {error.what}")
    except sqlite3.DatabaseError as error:
        found.append(f"{CATALOGUE}: is damaged: {error}")
    with contextlib.suppress(OSError):
        if _state.read(path) is None:
            how = "damaged" if (path / _state.NAME).exists() else "missing"
            found.append(f"{_state.NAME}: is {how}; it is rebuilt at the next write")
    return found, lost


def repair(path: Path, now_ns: int) -> list[str]:
    """Put aside what is damaged and make the catalogue again where it has to be; what was found and what is lost, in words.

    Nobody else may write meanwhile. Raises ConfigError.
    """
    told: list[str] = []
    try:
        history = open_history(path, write=True)
    except DamagedError as error:
        told += rebuild(path, error, now_ns)
        history = open_history(path, write=True)
    with history:
        try:
            told += scrub_all(history, now_ns)
        except DamagedError:
            raise
        except ConfigError as error:
            told.append(str(error))
    return told


def scrub_all(history: History, now_ns: int) -> list[str]:
    """As ``scrub``, of every piece."""
    with history.writing() as sql:
        sql.execute("UPDATE pieces SET checked_ns = 0")
    return scrub(history, now_ns, 1 << 62)


def rebuild(path: Path, damage: DamagedError, now_ns: int) -> list[str]:
    """Make the catalogue again from records and ``state``, and put the damaged one aside; what is lost, in words. Raises ConfigError."""
    told = [f"{damage.file} was damaged: {damage.what}; it was rebuilt"]
    for each in path.glob(f"{_NEW}*"):
        each.unlink()
    (path / PIECES).mkdir(exist_ok=True, mode=0o700)
    state = _state.read(path)
    old = _Remains(path / CATALOGUE)
    fresh = path / _NEW
    with contextlib.closing(old), open_history(path, write=True, catalogue=fresh) as history:
        with history.writing():
            told += _refill(history, state, old, now_ns)
        history.sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for name in (CATALOGUE, f"{CATALOGUE}-wal", f"{CATALOGUE}-shm"):
        if (path / name).exists():
            _away(path, path / name)
    fresh.replace(path / CATALOGUE)
    sync(path)
    return told


class _Remains:
    """What can still be read of a damaged catalogue. Only rows whose checksums are right are used."""

    def __init__(self, file: Path) -> None:
        self._sql: sqlite3.Connection | None = None
        with contextlib.suppress(sqlite3.Error):
            if file.is_file() and file.stat().st_size:
                self._sql = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro&immutable=1", uri=True)

    def close(self) -> None:
        """Let go of it."""
        if self._sql is not None:
            self._sql.close()

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows up to the first that cannot be read."""
        found: list[dict[str, Any]] = []
        if self._sql is None:
            return found
        with contextlib.suppress(sqlite3.Error, ValueError):
            cursor = self._sql.execute(sql, list(values))
            names = [each[0] for each in cursor.description]
            found.extend(dict(zip(names, row, strict=True)) for row in cursor)
        return found


def _refill(history: History, state: _state.State | None, old: _Remains, now_ns: int) -> list[str]:
    told: list[str] = []
    tables = {} if state is None else state.tables()
    for name in _state.TABLES:
        if name != "pieces":
            for row in tables.get(name, ()):
                history.insert(name, row)
    # Another catalogue than the one that was sealed.
    past = 0 if state is None else state.generation
    history.insert("meta", {"name": _state.GENERATION, "value": str(past + 1)})
    told += _pieces_again(history, tables, now_ns)
    told += _audits_again(history, old, tables)
    for audit, path, sha256 in _captures(history):
        taken = {"content": sha256, "path": path, "bytes": 0, "audit": audit, "aside": None, "at_ns": now_ns}
        if history.sql.execute("SELECT 1 FROM taken WHERE content = ?", [sha256]).fetchone() is None:
            history.insert("taken", taken)
    (last,) = history.sql.execute("SELECT coalesce(max(audit), 0) FROM audits").fetchone()
    before = max((int(each["value"]) for each in tables.get("meta", ()) if each["name"] == "last"), default=0)
    if last > before:
        history.insert("meta", {"name": "last", "value": str(last)})
        span = f"audit {last}" if last == before + 1 else f"audits {before + 1} to {last}"
        told.append(f"reports and notifications of {span} may not have been sent; they are not sent again")
    if state is None:
        # What was handed on lies there; which of it was the last is plain where there is one.
        handed = sorted((history.path / CARRY).glob("*.bin"))
        if len(handed) == 1:
            history.insert("carried", {"name": "open", "file": handed[0].name})
        told.append("pending deliveries and the state of sources and waivers are lost")
    return told


def _pieces_again(history: History, tables: dict[str, list[dict[str, Any]]], now_ns: int) -> list[str]:
    """Name the pieces that lie there; what is lost with those that do not, or not as they were."""
    told: list[str] = []
    folder = history.path / PIECES
    known = {row["file"]: row for row in tables.get("pieces", ())}
    replaced = {row["file"] for row in tables.get("trash", ())}
    found: list[dict[str, Any]] = []
    for file, row in known.items():
        says, sha256 = _looked_at(folder / file, row["bytes"], row["sha256"])
        if says is None:
            found.append({**row, "sha256": sha256})
            continue
        # Gone because it was joined with others after ``state`` was written, or because of the damage: the larger piece decides.
        found.append({**row, "wrong": says})
    for each in sorted(folder.iterdir()):
        match = _PIECE.fullmatch(each.name)
        if match is None or match[1] not in KEPT or each.name in known or each.name in replaced:
            continue
        first, last = int(match[2]), int(match[3])
        row = {"file": each.name, "of": match[1], "level": joined_level(last - first + 1), "first": first, "last": last}
        try:
            rows = parquet_file(each).read().num_rows
        except _UNREADABLE as error:
            found.append({**row, "wrong": " ".join(str(error).split())})
            continue
        size = {"rows": rows, "bytes": each.stat().st_size, "sha256": digest_of(each)}
        found.append({**row, **size, "checked_ns": now_ns})
    for name in KEPT:
        # The widest first: what lies inside a piece that is sound is in it.
        some = sorted(
            (row for row in found if row["of"] == name), key=lambda row: (row["first"] - row["last"], row["first"])
        )
        sound: list[dict[str, Any]] = []
        for row in (*(row for row in some if "wrong" not in row), *(row for row in some if "wrong" in row)):
            if any(each["first"] <= row["first"] and row["last"] <= each["last"] for each in sound):
                continue
            if "wrong" not in row:
                sound.append(row)
                history.insert("pieces", row)
                continue
            _away(history.path, folder / row["file"])
            if name != RECORDS:
                says = f"{PIECES}/{row['file']} was damaged: {row['wrong']}"
                lost = {key: row[key] for key in ("file", "of", "first", "last")}
                history.insert("lost", {**lost, "at_ns": now_ns, "says": says})
                told += history.missing(name, row["first"], row["last"])
    return told


def _audits_again(history: History, old: _Remains, tables: dict[str, list[dict[str, Any]]]) -> list[str]:
    told: list[str] = []
    records: dict[int, Record] = {}
    for table in _tables(history, RECORDS, ["record"]):
        for packed in table["record"].to_pylist():
            record = msgspec.msgpack.decode(packed, type=Record)
            records[int(record.row["audit"])] = record
    for row in old.rows("SELECT * FROM audits"):
        if row["audit"] not in records and _proves_itself(row):
            decided = [
                each["sha256"] for each in old.rows("SELECT sha256 FROM decided_by WHERE audit = ?", [row["audit"]])
            ]
            records[row["audit"]] = Record(row, decided, [], 0)
    known = max((int(each["value"]) for each in tables.get("meta", ()) if each["name"] == "last"), default=0)
    wanted: set[str] = set()
    for audit, record in sorted(records.items()):
        history.insert("audits", record.row)
        wanted.update(record.deciders)
        history.sql.executemany(
            "INSERT OR IGNORE INTO decided_by VALUES (?, ?)", [(audit, each) for each in record.deciders]
        )
        if audit > known or not tables:
            facts = record if record.facts else Record(record.row, [], _facts(history, audit), record.gone_after_ns)
            history.learn(audit, record.row["last_ns"] if facts.gone_after_ns else None, facts)
    for record in records.values():
        for file in record.files:
            history.hold(file)
    for row in old.rows("SELECT * FROM deciders"):
        proven = _decider(row)
        if proven is not None:
            history.hold(proven)
    wanted.difference_update(sha256 for (sha256,) in history.sql.execute("SELECT sha256 FROM deciders"))
    if wanted:
        told.append(
            f"{many(len(wanted), 'policy, inventory or waiver file', 'policies, inventories and waiver files')} of earlier audits lost"
        )
    there = {audit for first, last in history.sql.execute("SELECT first, last FROM pieces WHERE of IN ('connections', 'findings')")
             for audit in range(first, last + 1)}  # fmt: skip
    floor = min(records, default=max(there, default=0) + 1)
    bare = sorted(audit for audit in there - records.keys() if audit > floor or not records)
    if bare:
        told.append(
            f"the catalogue entries of {many(len(bare), 'audit')} ({bare[0]} to {bare[-1]}) are lost; their tables still exist"
        )
    return told


def _proves_itself(row: dict[str, Any]) -> bool:
    try:
        body = msgspec.json.decode(zstandard.ZstdDecompressor().decompress(row["body"], max_output_size=1 << 30))
        return bool(body["audit"]["id"] == row["id"])
    except _UNREADABLE:
        return False


def _decider(row: dict[str, Any]) -> Decider | None:
    """A file out of a damaged catalogue, if its SHA-256 is its name."""
    with contextlib.suppress(*_UNREADABLE):
        content = zstandard.ZstdDecompressor().decompress(row["content"], max_output_size=1 << 30)
        if hashlib.sha256(content).hexdigest() == row["sha256"]:
            return Decider(row["sha256"], str(row["kind"]), str(row["name"]), content)
    return None


def _tables(history: History, name: str, columns: Sequence[str]) -> Iterator[Any]:
    for (file,) in history.sql.execute("SELECT file FROM pieces WHERE of = ? ORDER BY first", [name]).fetchall():
        with contextlib.suppress(*_UNREADABLE):
            source = parquet_file(history.path / PIECES / file)
            yield source.read([*(each for each in columns if each in source.schema_arrow.names), "audit"])


def _facts(history: History, audit: int) -> list[Fact]:
    """History of an audit's findings from its findings table, where its record lacks it."""
    import pyarrow as pa

    with contextlib.suppress(ConfigError):
        table = history.table("findings", audit)
        if table is None or "first_seen" not in table.schema.names:
            return []
        seen = [table[name].cast(pa.int64()).to_pylist() for name in ("first_seen", "last_seen")]
        words = [table[name].to_pylist() for name in ("fingerprint", "rule", "severity", "path", "title", "waived")]
        return [
            Fact(mark, rule, severity, path, title, first or 0, last or 0, waived)
            for mark, rule, severity, path, title, waived, first, last in zip(*words, *seen, strict=True)
        ]
    return []


def _captures(history: History) -> Iterator[tuple[int, str, str]]:
    for table in _tables(history, "captures", ["path", "sha256"]):
        if {"path", "sha256"} <= set(table.schema.names):
            for row in table.to_pylist():
                if row["sha256"]:
                    yield row["audit"], row["path"], row["sha256"]
