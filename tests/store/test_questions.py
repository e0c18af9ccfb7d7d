"""Questions of an incident, by name, on a store with the intruder's audit; and the page that documents them."""

from __future__ import annotations

import csv
import io
import re
import shutil
from pathlib import Path

import pytest

import auditor
from auditor.cli import main
from auditor.store.questions import QUESTIONS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "incident.md").read_text(encoding="utf-8")


_EACH = [
    ("who-spoke-to", "10.0.8.99"), ("who-shows", "cell.service"), ("first-and-last", "10.0.8.99", "10.0.8.40"), ("longest",), ("beacons",),
    ("leaving",), ("new-since", "0.0001"),
]  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = tmp_path_factory.mktemp("store") / "store"
    auditor.audit("sample:intruder", store=place)
    return str(place)


@pytest.fixture
def ask(store, capsys):
    def answer(*words):
        assert main(["history", "query", *words, "--store", store, "--format", "csv"]) == 0
        return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))

    return answer


def test_who_spoke_to_this_address(ask):
    found = ask("who-spoke-to", "10.0.8.99")
    access = {(row["responder"], row["responder_port"]) for row in found if row["access"] != "0"}
    assert access == {("diego_database/0", "8889"), ("diego_cell/0", "1801"), ("nats/0", "4222")}


def test_which_hosts_show_this_certificate(ask):
    report = auditor.audit("sample:intruder")
    [leaf] = [each["sha256"] for each in report.certificates if each["common_name"] == "cell.service.cf.internal"]
    found = ask("who-shows", leaf[:12])
    assert {row["address"] for row in found if row["shown_as"] == "client"} == {"10.0.8.20", "10.0.8.21", "10.0.8.99"}


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("O=Example BBS", {"10.0.8.40"}),
        ("cn=internalca cell.service", {"10.0.8.20", "10.0.8.21", "10.0.8.99"}),
        ("cell.service 10.0.8.99", {"10.0.8.99"}),
        ("cell.service diego_cell/0", {"10.0.8.20"}),
        ("diego_brain server", {"10.0.8.30"}),
        ("10.0.8.2", set()),
        ("nobody", set()),
    ],
)
def test_certificates_are_found_by_all_that_is_known_of_them(ask, text, addresses):
    assert {row["address"] for row in ask("who-shows", text)} == addresses


def test_certificates_are_found_by_their_days_and_are_a_table(ask, store, capsys):
    told = auditor.audit("sample:intruder").certificates
    for name in ("not_before", "not_after"):
        day = told[0][name][:10]
        wanted = {each["sha256"] for each in told if day in (each["not_before"][:10], each["not_after"][:10])}
        assert {row["certificate"] for row in ask("who-shows", day)} == wanted
    found = ask("SELECT sha256, subject, hosts FROM certificates")
    assert {(row["sha256"], row["subject"], int(row["hosts"])) for row in found} == {
        (each["sha256"], each["subject"], each["hosts"]) for each in told
    }


def test_a_connection_of_several_audits_is_counted_once(ask, store, tmp_path, capsys):
    twice = tmp_path / "twice"
    shutil.copytree(store, twice)
    auditor.audit("sample:intruder", store=twice, since="2026-11-30T15:12:10Z", until="2026-11-30T15:12:16Z")
    for words in _EACH:
        once = ask(*words)
        assert main(["history", "query", *words, "--store", str(twice), "--format", "csv"]) == 0
        again = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        assert [sorted(row.items()) for row in again] == [sorted(row.items()) for row in once], words
    assert ask("longest"), "there is something to count"


def test_the_first_and_last_time_a_pair_spoke(ask):
    [row] = ask("first-and-last", "10.0.8.60", "10.0.8.99")
    assert (row["application"], row["connections"]) == ("nats", "1")


def test_the_beacon_with_its_period_and_a_connection(ask):
    [row] = ask("beacons")
    assert (row["originator"], row["responder_ip"], row["responder_port"], row["calls"]) == (
        "10.0.8.99",
        "198.51.100.20",
        "8443",
        "10",
    )
    assert 2.5 < float(row["period_s"]) < 3.6
    assert float(row["jitter_s"]) < 0.3
    assert row["connection"]


def test_what_left_the_platform_by_bytes(ask):
    first, second = ask("leaving")
    assert (first["originator"], first["responder_port"]) == ("10.0.8.99", "443")
    assert int(first["sent_bytes"]) > int(second["sent_bytes"])


def test_the_longest_and_what_is_new(ask):
    found = ask("longest")
    opened = [row["application"] != "none" for row in found if float(row["seconds"])]
    assert opened == sorted(opened, reverse=True), "attempts come after all that were established"
    seconds = [float(row["seconds"]) for row in found if row["application"] != "none"]
    assert seconds == sorted(seconds, reverse=True)
    assert ask("new-since", "0.0004")[0]["originator"] == "10.0.8.99"
    assert ask("new-since", "0") == []


def test_without_anything_older_nothing_is_called_new(store, capsys):
    assert main(["history", "query", "new-since", "--store", store, "--format", "ndjson"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert (
        "there is nothing to compare with: no connection is more than 7 days older than the last one (of 1 audit)"
        in told.err
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["who-spoke-to", "10.0.8.98"], "no connection has the end 10.0.8.98"),
        (["first-and-last", "10.0.8.60", "10.0.8.61"], "no connection of 10.0.8.60 and 10.0.8.61"),
        (["leaving", "--until", "2026-11-30T15:12:00Z"], "no connection left the platform"),
        (["--ip", "192.0.2.1"], "no connection matches"),
    ],
)
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_an_empty_answer_says_so_in_words(words, says, form, store, capsys):
    assert main(["history", "query", *words, "--store", store, "--format", form]) == 0
    assert capsys.readouterr().err == f"auditor: {says} (of 1 audit)\n"


@pytest.mark.parametrize("words", _EACH)
def test_every_question_may_be_about_a_span_of_time(words, ask):
    whole = ask(*words)
    assert ask(*words, "--since", "2026-11-30T15:00:00Z", "--until", "2026-11-30T16:00:00Z") == whole
    assert ask(*words, "--since", "2026-12-30T15:00:00Z") == []


def test_who_was_let_in_comes_first(ask):
    access = [row["access"] != "0" for row in ask("who-spoke-to", "10.0.8.99")]
    assert access == sorted(access, reverse=True)
    assert access[0]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["who-spok-to", "10.0.8.99"], "did you mean who-spoke-to"),
        (["beacon"], "did you mean beacons?"),
        (["longest", "--ip", "10.0.8.99"], "a named question takes --since and --until only"),
    ],
)
def test_a_mistyped_question_is_no_sql(words, says, store, capsys):
    assert main(["history", "query", *words, "--store", store]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["who-spoke-to"],
        ["who-spoke-to", "x'; DROP TABLE connections"],
        ["new-since", "soon"],
        ["who", "x"],
        ["who-shows", "x') OR ('1' = '1"],
        ["longest", "x"],
    ],
)
def test_a_question_that_cannot_be_asked_is_one_line(words, store, capsys):
    assert main(["history", "query", *words, "--store", store]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_page_names_every_question_and_every_command_of_it_is_there(capsys):
    named = re.findall(r"auditor history query ([a-z-]+)", PAGE)
    assert set(QUESTIONS) == {name for name in named if not name.startswith("-")}
    assert main(["history", "query", "--questions", "--store", "nowhere"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in QUESTIONS)


def test_the_page_s_first_command_tells_the_story(capsys):
    assert "auditor audit sample:intruder --host 10.0.8.99" in PAGE
    assert main(["audit", "sample:intruder", "--host", "10.0.8.99", "--progress", "never", "--quiet"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    for words in (
        "Incident 1 of 1, critical",
        "which diego_cell/0, diego_cell/1 show too",
        "NATS user and password as nats",
        "every 3",
    ):
        assert words in out
