"""The store of earlier audits: kept whole or not at all, readable while somebody writes, small, and never older than it may be."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap

import pyarrow as pa
import pytest
from pyarrow import parquet

from auditor.errors import ConfigError
from auditor.store import _schema
from auditor.store import history as module
from auditor.store.history import (
    CATALOGUE,
    JOIN_AT,
    JOINED,
    PIECES,
    SPARE,
    DamagedError,
    Decider,
    Fact,
    Kept,
    open_history,
)
from tests.conftest import ROOT

HOUR = 3_600 * 1_000_000_000
DAY = 24 * HOUR
BEGIN = 1_795_300_000 * 1_000_000_000
SCHEMAS = {
    "connections": pa.schema([("id", pa.string()), ("start", pa.timestamp("ns", "UTC")), ("first_frame", pa.int64()),
                              ("duration", pa.float64()), ("capture", pa.int64())]),
    "findings": pa.schema([("fingerprint", pa.string()), ("rule", pa.string())]),
    "coverage": pa.schema([("path", pa.string())]),
    "captures": pa.schema([("capture", pa.int64()), ("path", pa.string()), ("sha256", pa.string())]),
}  # fmt: skip


def an_audit(hour, marks=("aa",), connections=3):
    start = BEGIN + hour * HOUR
    tables = {
        "connections": pa.table(
            {"id": [f"c{hour}-{k}" for k in range(connections)], "start": pa.array([start] * connections, pa.timestamp("ns", "UTC")),
             "first_frame": list(range(connections)), "duration": [1.0] * connections, "capture": [0] * connections}
        ).cast(SCHEMAS["connections"]),
        "findings": pa.table({"fingerprint": list(marks), "rule": ["plaintext"] * len(marks)}).cast(SCHEMAS["findings"]),
        "coverage": pa.table({"path": ["rep-to-bbs"]}),
        "captures": pa.table({"capture": [0], "path": [f"{hour}.pcap"], "sha256": ["00"]}).cast(SCHEMAS["captures"]),
    }  # fmt: skip
    return Kept(
        id=f"{hour:04d}{'abcdef' * 2}",
        kind="audit",
        started_ns=start + HOUR,
        finished_ns=start + HOUR + 1,
        first_ns=start,
        last_ns=start + HOUR - 1,
        counts={"connections": connections, "findings": len(marks)},
        body={"audit": {"id": "x"}, "summary": {"connections": connections}},
        tables=tables,
        facts=[Fact(mark, "plaintext", "high", None, "title", start, start + HOUR // 2) for mark in marks],
        deciders=[Decider("d1", "policy", "tas-diego", b"name: tas-diego\n")],
    )


def names(store):
    return {each.name for each in (store / PIECES).iterdir()}


def ids(history, audit):
    return history.table("connections", audit)["id"].to_pylist()


def test_what_is_kept_comes_back(tmp_path):
    place = tmp_path / "store"
    with open_history(place, write=True) as history:
        assert history.rows() == []
        assert history.keep(an_audit(0), gone_after_ns=DAY) == 1
        assert history.keep(an_audit(1, ("aa", "bb")), gone_after_ns=DAY) == 2
    with open_history(place) as history:
        assert [row.audit for row in history.rows()] == [1, 2]
        assert [row.audit for row in history.rows(since_ns=BEGIN + HOUR)] == [2]
        assert [row.audit for row in history.rows(until_ns=BEGIN)] == [1]
        assert [row.audit for row in history.rows(last=1)] == [2]
        assert ids(history, 2) == ["c1-0", "c1-1", "c1-2"]
        assert history.table("findings", 2, ["fingerprint"])["fingerprint"].to_pylist() == ["aa", "bb"]
        assert history.body(1)["summary"] == {"connections": 3}
        assert [each.content for each in history.deciders(2)] == [b"name: tas-diego\n"]
        for name, audit in (("1", 1), ("latest", 2), ("latest~1", 1), ("0001abc", 2), ("0000abcdefabcdef", 1)):
            assert history.find(name).audit == audit
        for name in ("3", "latest~2", "zzzz", "000", "~1"):
            with pytest.raises(ConfigError, match="audit"):
                history.find(name)


def seen(history, hours, marks_at, gone_after_ns=2 * HOUR):
    """Audits of some hours; for each, which findings were open after it."""
    told = []
    for hour in hours:
        history.keep(an_audit(hour, marks_at(hour)), gone_after_ns=gone_after_ns)
        told.append({mark for mark, known in history.known().items() if known.open})
    return told


@pytest.mark.parametrize("place", ["", PIECES, CATALOGUE])
def test_a_store_that_everybody_may_change_is_refused(tmp_path, place):
    """On a shared machine somebody else could put a quiet past into it."""
    store = tmp_path / "store"
    with open_history(store, write=True) as history:
        history.keep(an_audit(0), gone_after_ns=DAY)
    (store / place).chmod((store / place).stat().st_mode | 0o002)
    for write in (False, True):
        with pytest.raises(ConfigError, match="can be changed by every user"):
            open_history(store, write=write)
    (store / place).chmod((store / place).stat().st_mode & ~0o002)
    open_history(store).close()


def test_a_store_of_another_user_is_read_and_not_written_to(tmp_path, monkeypatch):
    if os.geteuid():
        pytest.skip("needs root")
    store = tmp_path / "store"
    with open_history(store, write=True) as history:
        history.keep(an_audit(0), gone_after_ns=DAY)
    for each in (store, *store.rglob("*")):
        os.chown(each, 4_242, 4_242)
    monkeypatch.setattr(os, "geteuid", lambda: 4_343)
    open_history(store).close()
    with pytest.raises(ConfigError, match="belongs to another user"):
        open_history(store, write=True)
    for each in (store, *store.rglob("*")):
        each.chmod(each.stat().st_mode | 0o020)
    open_history(store, write=True).close()


def test_a_finding_is_new_once_then_continues_then_is_gone(tmp_path):
    with open_history(tmp_path / "s", write=True) as history:
        told = seen(history, range(8), lambda hour: ("aa",) if hour < 4 else ("bb",))
        assert ["aa" in marks for marks in told] == [True] * 5 + [False] * 3, "not seen for an hour is not gone"
        history.keep(an_audit(8, ("aa",)), gone_after_ns=2 * HOUR)
        back = history.known()["aa"]
        assert (back.open, back.first_audit, back.last_audit) == (True, 1, 9)


def test_what_was_seen_for_a_short_while_is_missed_for_twice_as_long(tmp_path):
    with open_history(tmp_path / "s", write=True) as history:
        told = seen(history, range(6), lambda hour: ("aa",) if hour == 0 else ("bb",))
        assert ["aa" in marks for marks in told] == [True] * 4 + [False] * 2


def test_a_finding_with_a_rhythm_of_its_own_is_one_story(tmp_path):
    """Every third hour, where two hours are called gone: as every 24 h 2 min where a day is."""
    with open_history(tmp_path / "s", write=True) as history:
        told = seen(history, range(24), lambda hour: ("aa", "bb") if hour % 3 == 0 and hour < 15 else ("bb",))
        assert ["aa" in marks for marks in told] == [True] * 16 + [False] * 8
        assert history.known()["aa"].last_audit == 13


def test_packets_that_are_dated_ahead_close_nothing_and_are_not_believed(tmp_path):
    with open_history(tmp_path / "s", write=True) as history:
        history.keep(an_audit(0, ("aa",)), gone_after_ns=DAY, until_ns=BEGIN + HOUR)
        history.keep(an_audit(400 * 24, ("bb",)), gone_after_ns=DAY, until_ns=BEGIN + 2 * HOUR)
        assert {mark: known.open for mark, known in history.known().items()} == {"aa": True, "bb": True}
        assert history.known()["bb"].last_seen_ns == BEGIN + 2 * HOUR
        assert history.retain(BEGIN + 3 * DAY, max_age_ns=DAY) == 1, "kept three days ago, whatever the packets say"


def test_pieces_are_joined_and_nothing_changes(tmp_path):
    count = JOIN_AT + 3
    with open_history(tmp_path / "s", write=True) as history:
        for hour in range(count):
            history.keep(an_audit(hour, connections=hour % 4), gone_after_ns=DAY)
        before = {audit: ids(history, audit) for audit in range(1, count + 1)}
        history.tidy(BEGIN)
        assert {audit: ids(history, audit) for audit in before} == before
        pieces = history.sql.execute("SELECT count(*) FROM pieces WHERE of = 'connections'").fetchone()[0]
        assert pieces < count / 2
        files = names(tmp_path / "s")
        history.tidy(BEGIN + HOUR)
        left = names(tmp_path / "s")
        assert left < files, "replaced pieces go once nobody can be reading them"
        assert left == {file for (file,) in history.sql.execute("SELECT file FROM pieces")}
        assert {audit: ids(history, audit) for audit in before} == before
        scanned = [
            row
            for table in history.scan("connections", ["id"], BEGIN + 5 * HOUR, BEGIN + 6 * HOUR)
            for row in table.to_pylist()
        ]
        assert {row["audit"] for row in scanned} == {6, 7}


def test_old_audits_go_by_age_and_by_size(tmp_path):
    with open_history(tmp_path / "s", write=True) as history:
        for hour in range(JOIN_AT + 8):
            history.keep(an_audit(hour, connections=50), gone_after_ns=DAY)
        history.tidy(BEGIN)
        now = BEGIN + (JOIN_AT + 8) * HOUR
        assert history.retain(now, max_age_ns=30 * HOUR) == 10
        assert history.rows()[0].audit == 11
        assert ids(history, 11)[0] == "c10-0"
        assert history.table("connections", 10) is None
        assert history.retain(now, max_age_ns=30 * HOUR) == 0
        total = sum(size for (size,) in history.sql.execute("SELECT bytes FROM pieces"))
        went = history.retain(now, max_bytes=total // 2)
        assert went > 5
        left = sum(size for (size,) in history.sql.execute("SELECT bytes FROM pieces"))
        assert left <= total // 2 + 20_000
        assert history.retain(now, max_bytes=1) > 0
        assert len(history.rows()) == 1, "the latest stays, whatever it takes"
        assert history.keep(an_audit(99), gone_after_ns=DAY) == JOIN_AT + 9, "numbers are not given twice"


def test_what_is_too_old_is_out_of_reach_at_once_and_pieces_are_seldom_written_anew(tmp_path, monkeypatch):
    """A store that has its age loses an audit at each pass; it must not write a large piece for each."""
    place = tmp_path / "s"
    with open_history(place, write=True) as history:
        for hour in range(JOIN_AT):
            history.keep(an_audit(hour), gone_after_ns=DAY)
        history.tidy(BEGIN)
        large = f"connections.{1:08d}-{JOINED:08d}.parquet"
        assert large in names(place)
        written = []
        plain = module._write_parquet
        monkeypatch.setattr(
            module, "_write_parquet", lambda path, *more: written.append(path.name) or plain(path, *more)
        )
        for floor in range(2, JOINED):
            assert history.retain(BEGIN + JOIN_AT * HOUR, max_age_ns=(JOIN_AT - floor + 1) * HOUR) == 1
            assert history.rows()[0].audit == floor
            assert history.table("connections", floor - 1) is None
            assert ids(history, floor)[0] == f"c{floor - 1}-0"
            if floor % 5 == 2:
                tables = ("connections", "findings", "captures", "locations")
                ask = " UNION ALL ".join(f"SELECT min(audit) a FROM {table}" for table in tables)  # noqa: S608  # our own words
                assert history.query(ask, SCHEMAS).to_pylist() == [{"a": floor}] * len(tables)
            scanned = [audit for piece in history.scan("connections", ["id"]) for audit in piece["audit"].to_pylist()]
            assert min(scanned) == floor
        again = [name for name in written if name.startswith("connections")]
        assert 2 <= len(again) <= JOINED // 3 + SPARE, "now and then, not each time"
        # What is left of removed audits is never more than a share of a piece, and nothing of it is joined into another.
        [(first, last)] = history.sql.execute(
            "SELECT first, last FROM pieces WHERE of = 'connections' AND level = 1"
        ).fetchall()
        assert (JOINED - 1 - first) * SPARE <= last - first + 1
        for hour in range(JOIN_AT, JOIN_AT + 2 * JOINED):
            history.keep(an_audit(hour), gone_after_ns=DAY)
        monkeypatch.setattr(module, "JOIN_AT", 2)
        monkeypatch.setattr(module, "JOINED", 2)
        history.retain(BEGIN + JOIN_AT * HOUR, max_age_ns=(JOIN_AT - JOINED + 1) * HOUR)
        history.tidy(1 << 62)
        for file, first in history.sql.execute("SELECT file, first FROM pieces WHERE level = 2"):
            assert first >= history.rows()[0].audit
            assert parquet.read_table(place / PIECES / file)["audit"].to_pylist()[0] == first


def test_readers_read_while_another_process_writes(tmp_path):
    place = tmp_path / "s"
    with open_history(place, write=True) as history:
        history.keep(an_audit(0), gone_after_ns=DAY)
    script = textwrap.dedent("""
        import sys
        from auditor.store.history import open_history
        from tests.store.test_history import DAY, an_audit
        with open_history(sys.argv[1], write=True) as history, history.writing():
            history.keep(an_audit(1), gone_after_ns=DAY)
            print("kept", flush=True)
            sys.stdin.readline()
    """)
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(place)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert writer.stdout.readline() == "kept\n"
        with open_history(place) as history:
            assert [row.audit for row in history.rows()] == [1]
            assert history.query("SELECT count(*) n FROM connections", SCHEMAS).to_pylist() == [{"n": 3}]
        writer.communicate("\n", timeout=60)
        assert writer.returncode == 0
    finally:
        writer.kill()
        writer.wait()
    with open_history(place) as history:
        assert [row.audit for row in history.rows()] == [1, 2]


def test_what_a_killed_writer_left_is_swept_away(tmp_path):
    place = tmp_path / "s"
    with open_history(place, write=True) as history:
        history.keep(an_audit(0), gone_after_ns=DAY)
        with pytest.raises(RuntimeError), history.writing():
            history.keep(an_audit(1), gone_after_ns=DAY)
            raise RuntimeError
        assert len(history.rows()) == 1
        assert any("00000002" in name for name in names(place))
        (place / PIECES / ".x.parquet.part").write_bytes(b"half")
        history.keep(an_audit(2), gone_after_ns=DAY)
        named = {file for (file,) in history.sql.execute("SELECT file FROM pieces")}
        assert names(place) == named
        assert ids(history, 2)[0] == "c2-0"


def test_sql_sees_the_tables_and_nothing_else(tmp_path):
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with open_history(tmp_path / "s", write=True) as history:
        assert history.query("SELECT * FROM connections", SCHEMAS).num_rows == 0
        history.keep(an_audit(0, ("aa", "bb")), gone_after_ns=DAY)
        history.keep(an_audit(1, ("bb",)), gone_after_ns=DAY)
        ask = "SELECT a.audit, a.id, count(*) n FROM audits a JOIN findings f USING (audit) GROUP BY ALL ORDER BY 1"
        assert history.query(ask, SCHEMAS).to_pylist() == [
            {"audit": 1, "id": "0000abcdefabcdef", "n": 2},
            {"audit": 2, "id": "0001abcdefabcdef", "n": 1},
        ]
        found = history.query(
            "SELECT connection, path, sha256, first_frame FROM locations WHERE audit = 2 LIMIT 1", SCHEMAS
        )
        assert found.to_pylist() == [{"connection": "c1-0", "path": "1.pcap", "sha256": "00", "first_frame": 0}]
        assert history.query("SELECT fingerprint FROM facts WHERE last_audit = 2", SCHEMAS).to_pylist() == [
            {"fingerprint": "bb"}
        ]
        [[total]] = history.query("SELECT sum(audit) FROM audits", SCHEMAS).to_pydict().values()
        assert (total, type(total)) == (3, int), "not a number as text: DuckDB adds up in 128 bits"
        for sql in (
            f"FROM read_csv('{secret}')",
            f"COPY audits TO '{tmp_path / 'out.csv'}'",
            "INSTALL httpfs",
            f"ATTACH '{tmp_path / 'other.db'}'",
            "SELEC 1",
            "SELECT * FROM nothing",
            "SET enable_external_access = true",
        ):
            with pytest.raises(ConfigError):
                history.query(sql, SCHEMAS)
    assert {each.name for each in tmp_path.iterdir()} == {"s", "secret.csv"}


def test_a_store_of_a_later_version_is_refused(tmp_path):
    place = tmp_path / "s"
    open_history(place, write=True).close()
    other = sqlite3.connect(place / CATALOGUE)
    other.execute(f"PRAGMA user_version = {_schema.VERSION + 1}")
    other.close()
    for write in (True, False):
        with pytest.raises(ConfigError, match=r"later version.*update the auditor"):
            open_history(place, write=write)


def in_version(place, version, hours):
    """A store as that version wrote it: its tables, its columns, and no file that it did not know."""
    with open_history(place, write=True) as history:
        for hour in hours:
            history.keep(an_audit(hour), gone_after_ns=DAY)
    for file in (place / PIECES).glob("records.*"):
        file.unlink()
    (place / "state").unlink()
    now = place / CATALOGUE
    with sqlite3.connect(place / "then") as sql:
        for step in _schema.STEPS[:version]:
            sql.executescript(step)
        sql.execute(f"PRAGMA user_version = {version}")
        sql.commit()
        sql.execute("ATTACH ? AS now", [str(now)])
        for (name,) in sql.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
            columns = ", ".join(row[1] for row in sql.execute(f"PRAGMA main.table_info({name})"))
            only = " WHERE of <> 'records'" if name == "pieces" else ""
            sql.execute(f"INSERT INTO main.{name} ({columns}) SELECT {columns} FROM now.{name}{only}")  # noqa: S608
    sql.close()
    (place / "then").replace(now)


def tables(place):
    with sqlite3.connect(place / CATALOGUE) as sql:
        return {name for (name,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


@pytest.mark.parametrize("version", range(1, _schema.VERSION))
def test_a_store_of_an_earlier_version_is_brought_up_to_date(tmp_path, version):
    place = tmp_path / "s"
    in_version(place, version, (0, 1))
    old = tables(place)
    with open_history(place) as history:
        assert [row.audit for row in history.rows()] == [1, 2], "it can be read as it is"
        assert history.sql.execute("PRAGMA user_version").fetchone() == (_schema.VERSION,)
    assert tables(place) == old, "reading changes nothing"
    with open_history(place, write=True) as history:
        history.keep(an_audit(2), gone_after_ns=DAY)
        assert [ids(history, audit)[0] for audit in (1, 2, 3)] == ["c0-0", "c1-0", "c2-0"]
        assert history.known()["aa"].first_audit == 1
    new = tmp_path / "new"
    open_history(new, write=True).close()
    assert tables(place) == tables(new), "an old store ends as a new one begins"


def test_two_that_bring_it_up_to_date_at_once_do_it_once(tmp_path):
    place = tmp_path / "s"
    in_version(place, 1, (0,))
    script = "import sys\nfrom auditor.store.history import open_history\nopen_history(sys.argv[1], write=True).close()"
    both = [subprocess.Popen([sys.executable, "-c", script, str(place)], cwd=ROOT) for _ in range(2)]
    assert [each.wait(timeout=300) for each in both] == [0, 0]
    with open_history(place) as history:
        assert ids(history, 1)


def test_what_is_no_store_is_said_to_be_none(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    full = tmp_path / "full"
    full.mkdir()
    (full / "notes.txt").write_text("x")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / CATALOGUE).write_bytes(b"no database at all, but long enough to look at" * 40)
    for place, write, says in (
        (file, True, "is a file"),
        (full, True, "has other files"),
        (full, False, "is not a store"),
        (tmp_path / "gone", False, "is not a store"),
        (broken, True, "is damaged: file is not a database"),
        (broken, False, "is damaged: file is not a database"),
    ):
        with pytest.raises(ConfigError, match=says):
            open_history(place, write=write)
    assert not (tmp_path / "gone").exists()


def test_a_damaged_piece_is_named(tmp_path):
    with open_history(tmp_path / "s", write=True) as history:
        history.keep(an_audit(0), gone_after_ns=DAY)
    [piece] = (tmp_path / "s" / PIECES).glob("connections.*")
    piece.write_bytes(piece.read_bytes()[:-20])
    with (
        open_history(tmp_path / "s") as history,
        pytest.raises(DamagedError, match=r"connections\.00000001-00000001\.parquet: is damaged: \d+ bytes instead of"),
    ):
        history.table("connections", 1)
