"""``auditor history``: as somebody uses it who looks back."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date

import pytest

import auditor
from auditor.cli import _options as options
from auditor.cli import main
from auditor.jobs import keep
from auditor.review.pages import Review
from auditor.store import history
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = tmp_path_factory.mktemp("history") / "store"
    auditor.audit("sample:healthy", store=place, policy="tas-diego")
    auditor.audit("sample:diego", store=place, policy="tas-diego")
    return str(place)


def asked(capsys, *words):
    status = main(["history", *words])
    got = capsys.readouterr()
    assert status == 0, got.err
    return got.out


def test_list(capsys, store, monkeypatch):
    rows = json.loads(asked(capsys, "list", "--store", store, "--format", "json"))
    assert [(row["audit"], row["connections"]) for row in rows] == [(1, 28), (2, 136)]
    assert rows[1]["first"] == "2026-11-16T09:00:00.000000Z"
    monkeypatch.setenv("AUDITOR_STORE", store)
    assert (
        asked(capsys, "list", "--last", "1", "--fields", "audit,findings", "--format", "csv")
        == '"audit","findings"\n2,46\n'
    )
    assert asked(capsys, "list", "--since", "2030-01-01", "--format", "json").strip() == "[]"


def test_a_diff_starts_nothing_heavy_also_where_pieces_were_joined(tmp_path, monkeypatch):
    """Its time is that of Python starting, so what it imports is what it costs."""
    place = tmp_path / "store"
    report = auditor.audit("sample:healthy")
    monkeypatch.setattr(history, "JOIN_AT", 2)
    monkeypatch.setattr(history, "JOINED", 2)
    with history.open_history(place, write=True) as held:
        for number in range(3):
            info = {**report.audit.info, "id": f"{number:016x}"}
            keep.keep(keep.marked(replace(report.audit, info=info), ()), held)
            held.tidy(1 << 62)
        assert held._pieces("connections", 0, 9) != []
        assert any(first < last for _, first, last in held._pieces("connections", 0, 9))
    script = "import sys\nfrom auditor.cli import main\nstatus = main(sys.argv[1:])\nprint(status, sorted({'pandas', 'duckdb', 'numba'} & set(sys.modules)))"
    for pair in (("1", "2"), ("1", "latest")):
        done = subprocess.run(
            [sys.executable, "-c", script, "history", "diff", *pair, "--store", str(place)],
            capture_output=True, text=True, check=False, cwd=ROOT,
        )  # fmt: skip
        *_, nothing, last = done.stdout.splitlines()
        assert (nothing, last) == ("Nothing changed.", "0 []"), done.stderr


def test_show_is_the_report_again(capsys, store):
    assert asked(capsys, "show", "1", "--store", store).startswith("CLEAN and COMPLETE")
    told = json.loads(asked(capsys, "show", "latest", "--store", store, "--format", "json"))
    assert (told["schema"], len(told["findings"])) == ("auditor.report/1", 46)
    found = json.loads(asked(capsys, "show", "--store", store, "--table", "findings", "--format", "json"))
    assert found == told["findings"]
    cells = asked(
        capsys, "show", "--store", store, "--from-role", "diego_cell", "--to-port", "8889", "--format", "ndjson"
    )
    for line in cells.splitlines():
        record = json.loads(line)
        assert (record["originator"]["role"], record["responder"]["port"]) == ("diego_cell", 8889)


def test_diff(capsys, store):
    words = asked(capsys, "diff", "--store", store)
    assert "New findings: 46" in words
    assert re.search(r"^From audit 1 \(.*healthy.pcap, captured 20.* to 20.*, audited 20.*Z$", words, re.M)
    assert re.search(r"^to audit 2 \(.*diego.pcapng, captured 20.* to 20.*, audited 20.*Z$", words, re.M)
    assert "CRITICAL plaintext: diego_cell talks to cloud_controller on 9023/tcp in the clear [rep-to-cc]" in words
    rows = list(csv.DictReader(io.StringIO(asked(capsys, "diff", "2", "1", "--store", store, "--format", "csv"))))
    assert sum(row["change"] == "gone" for row in rows) == 46
    assert "Nothing changed." in asked(capsys, "diff", "1", "1", "--store", store)


@pytest.mark.parametrize(
    ("words", "test"),
    [
        (["--verdict", "violated"], lambda c, f: c["authentication"]["verdict"] == "violated"),
        (["--rule", "plaintext", "--rule", "weak-tls"], lambda c, f: bool({f[n] for n in c["findings"]} & {"plaintext", "weak-tls"})),
        (["--to-role", "nats", "--not"], lambda c, f: "nats" not in c["responder"]["roles"]),
        (["--since", "2026-11-16T09:01:40Z"], lambda c, f: None),
        (["--ip", "10.0.4.22"], lambda c, f: "10.0.4.22" in (c["originator"]["ip"], c["responder"]["ip"])),
    ],
)  # fmt: skip
def test_filters_find_what_the_reports_say(capsys, store, words, test):
    rows = json.loads(
        asked(capsys, "query", "--store", store, *words, "--fields", "id,start,duration", "--format", "json")
    )
    expected = set()
    for audit in ("1", "2"):
        told = json.loads(asked(capsys, "show", audit, "--store", store, "--format", "json"))
        rules = {each["id"]: each["rule"] for each in told["findings"]}
        expected |= {(int(audit), each["id"]) for each in told["connections"] if test(each, rules)}
    found = {(row["audit"], row["id"]) for row in rows}
    if "--since" in words:
        assert found
        assert all(row["start"] >= "2026-11-16T09:01" or row["duration"] > 30 for row in rows)
        return
    assert found == expected
    assert found


def test_sql(capsys, store):
    ask = "SELECT audit, rule, count(*) AS n FROM findings WHERE rule = 'plaintext' GROUP BY ALL"
    assert json.loads(asked(capsys, "query", ask, "--store", store, "--format", "json")) == [
        {"audit": 2, "rule": "plaintext", "n": 1}
    ]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["list"], "no store is named"),
        (["list", "--store", "gone"], "gone: is not a store of audits"),
        (["show", "9", "--store", "STORE"], "unknown audit '9'"),
        (["show", "--store", "STORE", "--verdict", "fine"], "unknown value 'fine'"),
        (["query", "--store", "STORE", "--rule", "plain"], "unknown rule 'plain'"),
        (["query", "SELECT 1", "--store", "STORE", "--to-port", "1"], "SQL and filter options cannot be combined"),
        (["query", "SELEC 1", "--store", "STORE"], "syntax error"),
        (["list", "--store", "STORE", "--since", "yesterday-ish"], "--since: 'yesterday-ish' is not a time"),
        (["list", "--store", "STORE", "--fields", "nope"], "unknown column 'nope'"),
        (["list", "--store", "STORE", "--format", "html"], "unknown value 'html'"),
        (["diff", "--store", "STORE", "--format", "parquet"], "add --output DIR"),
    ],
)
def test_mistakes_are_one_line(capsys, store, words, says, monkeypatch):
    monkeypatch.delenv("AUDITOR_STORE", raising=False)
    assert main(["history", *(store if word == "STORE" else word for word in words)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert says in line


def test_parquet_and_markdown(capsys, store, tmp_path):
    asked(
        capsys,
        "query",
        "--store",
        store,
        "--verdict",
        "violated",
        "--format",
        "parquet",
        "--output",
        str(tmp_path / "out"),
    )
    assert (tmp_path / "out" / "connections.parquet").is_file()
    assert asked(capsys, "list", "--store", store, "--format", "markdown").startswith("| audit | id |")


def test_a_store_is_checked_and_mended(tmp_path, capsys):
    place = tmp_path / "s"
    auditor.audit("sample:healthy", store=place)
    assert main(["history", "check", "--store", str(place)]) == 0
    assert main(["history", "repair", "--store", str(place)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{place}: all files are intact"] * 2
    [piece] = (place / "pieces").glob("connections.*")
    piece.write_bytes(piece.read_bytes()[:99])
    (place / "catalogue.sqlite").write_bytes(b"")
    assert main(["history", "list", "--store", str(place)]) == 2
    assert "catalogue.sqlite: is damaged: it is empty" in capsys.readouterr().err
    assert main(["history", "check", "--store", str(place)]) == 3
    assert main(["history", "repair", "--store", str(place)]) == 0
    told = capsys.readouterr().out
    assert "catalogue.sqlite was damaged" in told
    assert "connections of audit 1 are lost" in told
    assert main(["history", "list", "--store", str(place)]) == 0
    assert "connections of audit 1 are lost" in capsys.readouterr().err
    assert main(["history", "show", "--store", str(place)]) == 2
    assert "connections of audit 1 are lost" in capsys.readouterr().err
    assert main(["history", "show", "--store", str(place), "--table", "findings", "--format", "csv"]) in (0, 2)
    assert main(["history", "query", "SELECT count(*) n FROM findings", "--store", str(place)]) == 0
    assert main(["history", "check", "--store", str(tmp_path / "none")]) == 2
    assert main(["history", "repair", "--store", str(tmp_path / "none")]) == 2


def test_check_and_repair_say_the_same_of_a_store(tmp_path, capsys):
    place = tmp_path / "s"
    auditor.audit("sample:healthy", store=place)
    [piece] = (place / "pieces").glob("findings.*")
    piece.write_bytes(piece.read_bytes()[:99])
    told = []
    for command, status in (("check", 3), ("repair", 0), ("check", 3), ("repair", 0)):
        assert main(["history", command, "--store", str(place)]) == status
        told.append(capsys.readouterr().out.splitlines())
    assert told[0][-1] == f"{place}: 1 thing to repair (auditor history repair)"
    assert told[1] == told[2] == told[3]
    assert told[1][-1] == f"{place}: all files are intact, apart from 1 loss found earlier (above)"


def test_a_window_is_named_wherever_the_audit_is(tmp_path, capsys, monkeypatch):
    place = tmp_path / "store"
    auditor.audit("sample:healthy", store=place, since="2026-11-16T09:00:10Z")
    auditor.audit("sample:healthy", store=place)
    store = str(place)
    says = "from 2026-11-16 09:00:10 UTC only; nothing outside this time was audited"
    told = asked(capsys, "list", "--store", store)
    assert told.count(says) == 1
    assert f"audit 1: {says}" in told
    rows = json.loads(asked(capsys, "list", "--store", store, "--format", "json"))
    assert [row["window"] for row in rows] == ["from 2026-11-16 09:00:10 UTC", None]
    shown = " ".join(asked(capsys, "show", "1", "--store", store).split())
    assert "CLEAN and COMPLETE, from 2026-11-16 09:00:10 UTC only:" in shown
    assert "nothing outside this time" in shown
    assert "09:00:10 UTC only" not in " ".join(asked(capsys, "show", "2", "--store", store).split())
    assert f"audit 1: {says}" in asked(capsys, "diff", "1", "2", "--store", store)
    assert "alone" not in asked(capsys, "diff", "2", "2", "--store", store)
    monkeypatch.setattr(options, "width", lambda: 80)
    for words in (("list",), ("diff", "1", "2"), ("diff", "2", "1")):
        narrow = asked(capsys, *words, "--store", store)
        assert max(map(len, narrow.splitlines())) <= 80
        assert says in " ".join(narrow.split())
    review = Review(store=place, today=lambda: date(2026, 11, 22))
    pages = [review.answer(*asks, None, "").body.decode() for asks in (("/", {}), ("/compare", {}), ("/audit/1", {}))]
    assert [page.count(says) for page in pages[:2]] == [1, 1]
    assert "from 2026-11-16 09:00:10 UTC only; nothing outside this time was audited." in pages[2]
    same = review.answer("/compare", {"before": "2", "after": "2"}, None, "").body.decode()
    assert "UTC only" not in same.rpartition("</form>")[2], "only its list names the window of the other audit"
