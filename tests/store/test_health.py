"""A store that is damaged anywhere: it is found, it is named, and it costs only itself."""

from __future__ import annotations

import random
import shutil

import pytest

from auditor.errors import ConfigError
from auditor.store import health
from auditor.store.history import CATALOGUE, PIECES, DamagedError, open_history
from tests.store.test_history import BEGIN, DAY, HOUR, SCHEMAS, an_audit, ids, in_version

NOW = BEGIN + 100 * HOUR
AUDITS = 4


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A store of a few audits, with something of everything in it; the folder's name stays the same in every trial."""
    place = tmp_path_factory.mktemp("health") / "store"
    with open_history(place, write=True) as history:
        for hour in range(AUDITS):
            history.keep(an_audit(hour, ("aa", f"m{hour}")), gone_after_ns=DAY)
            with history.writing():
                history.insert(
                    "errands",
                    {"errand": hour + 1, "kind": "notify", "what": "{}", "tries": 1, "due_ns": 0, "made_ns": 0},
                )
    return place


@pytest.fixture
def store(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "store")


def all_that_it_says(place):
    """Everything of a store, and what it says is lost."""
    with open_history(place) as history:
        said = {"facts": set(history.known()), "audits": [(row.audit, row.id) for row in history.rows()]}
        said["lost"] = sorted(history.sql.execute("SELECT of, first FROM lost").fetchall())
        said["errands"] = history.sql.execute("SELECT errand, kind, tries FROM errands").fetchall()
        for name in ("connections", "findings"):
            for audit, _ in said["audits"]:
                if (name, audit) in said["lost"]:
                    with pytest.raises(ConfigError, match="are lost"):
                        history.table(name, audit)
                else:
                    said[name, audit] = history.table(name, audit).to_pylist()
        said["deciders"] = [each.content for audit, _ in said["audits"] for each in history.deciders(audit)]
    return said


def damaged(rng, how, file, other):
    """One file is no more as it was written."""
    raw = file.read_bytes()
    if how == "flip":
        at = rng.randrange(len(raw))
        file.write_bytes(raw[:at] + bytes([raw[at] ^ 1 << rng.randrange(8)]) + raw[at + 1 :])
    elif how == "truncate":
        file.write_bytes(raw[: rng.randrange(len(raw))])
    elif how == "zero":
        at = rng.randrange(len(raw))
        file.write_bytes(raw[:at] + bytes(min(512, len(raw) - at)) + raw[at + 512 :])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "swap":
        file.write_bytes(other.read_bytes())
        other.write_bytes(raw)
    else:
        file.unlink()


@pytest.mark.parametrize("how", ["flip", "flip", "truncate", "zero", "empty", "swap", "missing"])
def test_damage_at_every_file_is_found_named_and_costs_only_itself(store, whole, tmp_path, how, request):
    rng = random.Random(request.node.name)
    expected = all_that_it_says(whole)
    # A reader leaves a log of nothing beside the catalogue.
    files = sorted(
        each.relative_to(store)
        for each in store.rglob("*")
        if each.is_file() and each.name[-4:] not in ("-wal", "-shm")
    )
    assert len(files) == 2 + 5 * AUDITS
    for file in files:
        shutil.rmtree(store)
        shutil.copytree(whole, store)
        other = store / rng.choice([each for each in files if each != file and each.suffix == file.suffix] or [file])
        before = (store / file).read_bytes()
        damaged(rng, how, store / file, other)
        if (store / file).exists() and (store / file).read_bytes() == before:
            continue
        assert any(health.check(store)), (how, file)
        told = health.repair(store, NOW)
        found, lost = health.check(store)
        assert (found, sorted(lost)) == ([], sorted(each for each in told if "lost" in each)), (how, file)
        found = all_that_it_says(store)
        names = {file.name, other.name} if how == "swap" else {file.name}
        lost = [(name.split(".")[0], int(name.split(".")[1][:8])) for name in sorted(names)
                if name.endswith(".parquet") and not name.startswith("records")]  # fmt: skip
        assert found["lost"] == sorted(lost), (how, file)
        assert all(any(name in line for line in told) for name in names if name.split(".")[0] not in ("state",)), (
            how,
            file,
            told,
        )
        for key, value in expected.items():
            if key in found and key != "lost":
                assert found[key] == value, (how, file, key)
        assert set(expected) - set(found) <= {each for each in lost if each[0] in ("connections", "findings")}


def test_a_damaged_piece_does_not_keep_others_from_being_asked(store):
    [piece] = (store / PIECES).glob("connections.00000002*")
    piece.write_bytes(piece.read_bytes()[:100])
    with open_history(store, write=True) as history:
        with pytest.raises(DamagedError, match="history repair"):
            history.query("SELECT count(*) FROM connections", SCHEMAS)
        told = health.scrub(history, NOW)
        [line] = told
        assert line.startswith(
            "connections of audit 2 are lost: pieces/connections.00000002-00000002.parquet was damaged: 100 bytes"
        )
        assert ids(history, 3)[0] == "c2-0"
        assert history.query("SELECT count(*) n FROM connections", SCHEMAS).to_pylist() == [{"n": 9}]
        assert health.scrub(history, NOW) == [], "it is told once"
        with pytest.raises(ConfigError, match="connections of audit 2 are lost"):
            history.table("connections", 2)
    assert [each.name for each in (store / "damaged").iterdir()] == [piece.name]


def test_pieces_are_looked_at_in_turn(store):
    with open_history(store, write=True) as history:
        health.scrub(history, NOW, budget=1)
        looked = history.sql.execute("SELECT count(*) FROM pieces WHERE checked_ns = ?", [NOW]).fetchone()
        assert looked == (1,)
        for _ in range(5 * AUDITS):
            health.scrub(history, NOW + 1, budget=1)
        assert history.sql.execute("SELECT min(checked_ns) FROM pieces").fetchone() >= (NOW,)


def test_without_its_state_the_catalogue_is_made_of_records_alone(store, whole):
    (store / CATALOGUE).write_bytes(b"")
    (store / "state").unlink()
    told = health.repair(store, NOW)
    assert any("pending deliveries" in line for line in told)
    expected, found = all_that_it_says(whole), all_that_it_says(store)
    assert found["errands"] == []
    for key in expected.keys() - {"errands"}:
        assert found[key] == expected[key], key


def test_an_audit_that_state_does_not_know_is_there_and_is_said(store):
    state = (store / "state").read_bytes()
    with open_history(store, write=True) as history:
        history.keep(an_audit(9, ("zz",)), gone_after_ns=DAY)
    (store / "state").write_bytes(state)
    (store / CATALOGUE).unlink()
    told = health.repair(store, NOW)
    assert any("of audit 5 may not have been sent" in line for line in told)
    with open_history(store) as history:
        assert [row.audit for row in history.rows()] == [1, 2, 3, 4, 5]
        assert "zz" in history.known()
        assert history.next_audit() == 6


def test_an_earlier_version_s_audits_get_their_records(tmp_path):
    place = tmp_path / "s"
    in_version(place, 2, range(3))
    with open_history(place, write=True) as history:
        assert health.scrub(history, NOW) == []
        assert history.sql.execute("SELECT count(*) FROM pieces WHERE sha256 IS NULL").fetchone() == (0,)
    (place / CATALOGUE).write_bytes(b"rubbish" * 1_000)
    health.repair(place, NOW)
    with open_history(place) as history:
        assert [row.audit for row in history.rows()] == [1, 2, 3]
        assert "aa" in history.known()


def test_a_large_piece_is_checked_page_by_page_as_it_is_read(store, monkeypatch):
    monkeypatch.setattr("auditor.store.history.SHORT_BYTES", 0)
    [piece] = (store / PIECES).glob("connections.00000001*")
    raw = bytearray(piece.read_bytes())
    raw[60] ^= 4
    piece.write_bytes(raw)
    monkeypatch.setattr("auditor.store.history.JOIN_AT", 2)
    monkeypatch.setattr("auditor.store.history.JOINED", 2)
    with open_history(store, write=True) as history:
        for work in (
            lambda: history.table("connections", 1),
            lambda: history.tidy(NOW),
            lambda: list(history.scan("connections", ["id"])),
        ):
            with pytest.raises(DamagedError, match=r"connections\.00000001"):
                work()
        assert ids(history, 2)


def test_a_store_whose_pieces_are_all_gone_says_so(store):
    shutil.rmtree(store / PIECES)
    (store / CATALOGUE).unlink()
    told = health.repair(store, NOW)
    assert sum("are lost" in line for line in told) >= 4 * AUDITS
    with open_history(store) as history:
        assert len(history.known()) == 1 + AUDITS


def test_whoever_asks_a_damaged_catalogue_is_told_in_one_line(store):
    raw = bytearray((store / CATALOGUE).read_bytes())
    raw[4096:] = bytes(len(raw) - 4096)
    (store / CATALOGUE).write_bytes(raw)
    with pytest.raises(ConfigError, match="history repair"), open_history(store) as history:
        history.rows()
        history.known()
