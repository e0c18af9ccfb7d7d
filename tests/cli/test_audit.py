"""``auditor audit``: its options reach the audit, its result reaches its place."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from auditor import Report, audit
from auditor.cli import main
from auditor.cli._filters import moment
from auditor.errors import ConfigError
from tests.conftest import ROOT
from tests.report import make


def test_options_are_handed_on(given, capsys, tmp_path):
    who = tmp_path / "who.yml"
    who.write_text("- {ip: 10.0.4.10, name: cell-0, role: diego_cell}\n")
    calls = given(make.audit())
    main(["audit", "a.pcap", "b.pcap", "--inventory", str(who), "--scope", "all", "--strict", "--linktype", "1", "--release", "2.10",
          "--max-undecided", "7", "--fail-on", "low", "--quiet"])  # fmt: skip
    [call] = calls
    assert call["sources"] == ["a.pcap", "b.pcap"]
    assert call["inventory"] is not None
    given_options = {
        key: call["options"][key] for key in ("scope", "strict", "linktype", "release", "max_undecided", "fail_on")
    }
    assert given_options == {
        "scope": "all",
        "strict": True,
        "linktype": 1,
        "release": "2.10",
        "max_undecided": 7.0,
        "fail_on": "low",
    }
    capsys.readouterr()


def test_authorities_are_read_before_the_audit_and_told_as_they_were_given(given, capsys, tmp_path):
    calls = given(make.audit())
    folder = ROOT / "captures" / "sample" / "diego.ca"
    main(
        ["audit", "a.pcap", "--ca", f"nats={folder / 'natsCA.crt'}", "--ca", str(folder / "internalCA.crt"), "--quiet"]
    )
    [call] = calls
    authorities = call["options"]["ca"]
    assert authorities.specs == (f"nats={folder / 'natsCA.crt'}", str(folder / "internalCA.crt"))
    assert (len(authorities.scoped["nats"]), len(authorities.unscoped)) == (1, 1)
    main(["audit", "a.pcap", "--quiet"])
    assert "ca" not in calls[1]["options"]
    empty = tmp_path / "empty.pem"
    empty.touch()
    capsys.readouterr()
    for spec, says in (
        ("gone.pem", "gone.pem: cannot be read"),
        (str(empty), "holds no certificate"),
        (f"nat={folder / 'natsCA.crt'}", "did you mean nats?"),
    ):
        assert main(["audit", "a.pcap", "--ca", spec]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert says in line
    assert len(calls) == 2


def test_a_sample_brings_its_inventory(given, capsys, monkeypatch, tmp_path):
    calls = given(make.audit())
    main(["audit", "sample:healthy", "--quiet"])
    monkeypatch.chdir(tmp_path)
    main(["audit", "sample:diego", "--quiet"])
    capsys.readouterr()
    assert [str(source).rsplit("/", 1)[-1] for call in calls for source in call["sources"]] == [
        "healthy.pcap",
        "diego.pcapng",
    ]
    assert all(call["inventory"] is not None for call in calls)


def test_standard_input_is_handed_on(given, capsys):
    calls = given(make.audit())
    main(["audit", "-", "--quiet"])
    assert calls[0]["sources"] == ["-"]
    assert calls[0]["inventory"] is None
    capsys.readouterr()


@pytest.mark.parametrize("name", ["table", "json", "ndjson", "csv", "markdown", "html"])
def test_output_is_what_standard_output_would_be(name, given, capfdbinary, tmp_path):
    given(make.audit())
    extra = ["--table", "connections"] if name == "ndjson" else []
    assert main(["audit", "x.pcap", "--format", name, "--quiet", *extra]) == 1
    shown = capfdbinary.readouterr()
    assert main(["audit", "x.pcap", "--format", name, "--quiet", *extra, "--output", str(tmp_path / "out")]) == 1
    assert (tmp_path / "out").read_bytes() == shown.out != b""
    assert capfdbinary.readouterr() == (b"", b"")
    assert [each.name for each in tmp_path.iterdir()] == ["out"]


def test_ndjson_on_standard_output_is_connections_and_in_a_file_everything(given, capsys, tmp_path):
    given(make.audit())
    main(["audit", "x.pcap", "--format", "ndjson", "--quiet"])
    assert {json.loads(line)["kind"] for line in capsys.readouterr().out.splitlines()} == {"connection"}
    main(["audit", "x.pcap", "--format", "ndjson", "--quiet", "--output", str(tmp_path / "all")])
    kinds = {json.loads(line)["kind"] for line in (tmp_path / "all").read_text().splitlines()}
    assert kinds == {"audit", "summary", "capture", "coverage", "connection", "finding", "incident"}


def test_parquet_goes_to_a_folder(given, tmp_path):
    given(make.audit())
    assert main(["audit", "x.pcap", "--format", "parquet", "--output", str(tmp_path / "out"), "--quiet"]) == 1
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_a_run_that_fails_leaves_no_file(given, tmp_path, capsys):
    given(ValueError("boom"))
    assert main(["audit", "x.pcap", "--output", str(tmp_path / "out")]) == 2
    assert list(tmp_path.iterdir()) == []
    capsys.readouterr()


def test_what_is_incomplete_is_told_beside_a_machine_readable_report(given, capsys):
    given(make.audit(clean=True))
    assert main(["audit", "x.pcap", "--format", "json"]) == 3
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "auditor: incomplete: 1 of 3 captures damaged",
        "auditor: incomplete: 17 packets dropped while capturing",
    ]
    json.loads(said.out)


def test_verbose_says_how_it_went(given, capsys):
    given(make.audit())
    main(["audit", "x.pcap", "--verbose"])
    said = capsys.readouterr().err
    assert "1,000 packets" in said
    assert "exit status 1: 8 findings at or above medium" in said  # the waived one does not count


@pytest.mark.parametrize(("environment", "options", "coloured"), [({}, [], True), ({"NO_COLOR": "1"}, [], False), ({}, ["--no-color"], False),
                                                                 ({"TERM": "dumb"}, [], False)])  # fmt: skip
def test_colour_is_for_terminals_that_want_it(environment, options, coloured, given, capsys, monkeypatch):
    given(make.audit())
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    main(["audit", "x.pcap", *options])
    assert "\x1b[" not in capsys.readouterr().out
    import sys

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    main(["audit", "x.pcap", *options])
    assert ("\x1b[" in capsys.readouterr().out) is coloured


def test_the_same_from_python(given):
    given(make.audit())
    report = audit("x.pcap", policy=["tas-diego"], progress=lambda progress: None)
    assert isinstance(report, Report)
    assert report.exit_status() == 1
    assert report.exit_status(fail_on="never") == 3
    assert report.exit_status("never", 5.0, True) == 0
    assert str(report.connections["start"].dtype) == "datetime64[ns, UTC]"
    assert "sibling" not in report.connections
    assert len(report.coverage) == 25
    assert report.summary["connections"] == len(report.connections) == 30
    assert report.info["version"]
    assert report.to_json().startswith('{"schema":"auditor.report/1"')
    assert report.to_markdown().startswith("# Diego flow audit")
    assert report.to_table().startswith("NOT CLEAN")
    assert report.to_csv("coverage").count("\n") == 26
    assert report.to_ndjson("findings").count("\n") == 12
    assert report.captures["first_packet"].iloc[2].nanosecond == 7


def test_a_date_is_its_whole_day():
    day = moment("--since", "2026-11-16")
    assert day == moment("--since", "2026-11-16T00:00:00Z") == moment("--until", "2026-11-16T00:00:00Z")
    assert moment("--until", "2026-11-16") == moment("--since", "2026-11-17") - 1
    assert moment("--until", "1795300000") == 1_795_300_000 * 10**9
    with pytest.raises(ConfigError):
        moment("--until", "2026-11-31")


@pytest.mark.parametrize("command", ["audit", "connections"])
def test_a_span_of_one_day_is_that_day(capfd, command):
    def count(*span):
        main([command, "sample:diego", "--format", "csv", "--quiet", *span])
        return capfd.readouterr().out.count("\n") - 1

    assert count("--since", "2026-11-16", "--until", "2026-11-16") == count() > 50


@pytest.mark.parametrize(
    ("span", "count"),
    [
        (["--until", "2026-11-16T09:00:10Z"], 15),
        (["--since", "2026-11-16T09:00:10Z", "--until", "2026-11-16T09:00:20Z"], None),
        (["--since", "2026-12-16T00:00:00Z"], 0),
    ],
)
def test_a_span_of_time(capfd, span, count):
    assert main(["audit", "sample:diego", "--format", "json", "--quiet"]) in (0, 1)
    whole = json.loads(capfd.readouterr().out)
    status = main(["audit", "sample:diego", "--format", "json", "--quiet", *span])
    told = json.loads(capfd.readouterr().out)
    named = dict(zip(span[::2], span[1::2], strict=True))
    since = pd.Timestamp(named.get("--since", "2000-01-01T00:00:00Z"))
    until = pd.Timestamp(named.get("--until", "2100-01-01T00:00:00Z"))
    inside = set()
    for each in whole["connections"]:
        start = pd.Timestamp(each["start"])
        if start <= until and start + pd.Timedelta(each["duration"], "s") >= since:
            inside.add(each["id"])
    assert {each["id"] for each in told["connections"]} == inside
    assert count is None or len(told["connections"]) == count
    by_id = {each["id"]: each["authentication"]["verdict"] for each in whole["connections"]}
    assert all(each["authentication"]["verdict"] == by_id[each["id"]] for each in told["connections"])
    if count == 0:
        assert status == 3


def test_no_connection_is_no_clean_result(capfd, tmp_path):
    empty = tmp_path / "empty.pcap"
    empty.write_bytes((ROOT / "captures" / "sample" / "healthy.pcap").read_bytes()[:24])
    assert main(["audit", str(empty), "--policy", "tas-diego"]) == 3
    told = capfd.readouterr()
    assert "NOTHING AUDITED (no connection)" in told.out
    assert main(["audit", str(empty), "--allow-incomplete", "--quiet"]) == 0
