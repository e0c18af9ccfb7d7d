"""Every format says the same of the same audit, in the same bytes, whatever the wire held."""

from __future__ import annotations

import csv
import gc
import io
import json
import re
import unicodedata
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import jsonschema
import pandas as pd
import pyarrow.parquet as pq
import pytest

from auditor.api import Report, find_format, format_names
from auditor.catalogue import discover
from auditor.cli import _options
from auditor.errors import ConfigError
from auditor.model.columns import TABLES
from tests import golden
from tests.report import make

STREAMS = [name for name in format_names() if not find_format(name).folder]


@pytest.fixture(scope="module")
def schema():
    return json.loads(files("auditor.report").joinpath("report.schema.json").read_text(encoding="utf-8"))


def test_a_format_has_the_name_of_its_file_and_is_offered():
    assert tuple(sorted(each.name for each in discover("auditor.report", "FORMAT"))) == format_names()
    assert set(_options.FORMATS) == set(format_names())
    assert tuple(sorted(TABLES)) == tuple(sorted(_options.TABLES))


@pytest.mark.parametrize("name", ["table", "markdown", "json"])
def test_golden(name, audit, written):
    golden.check(f"report/faulty{find_format(name).suffix}", written(name, audit))


def test_golden_of_a_clean_audit(written):
    golden.check("report/clean.txt", written("table", make.audit(clean=True, complete=True)))


@pytest.mark.parametrize("table", [None, *TABLES])
@pytest.mark.parametrize("name", STREAMS)
def test_same_audit_same_bytes(name, table, audit, written):
    assert written(name, audit, table=table) == written(name, make.audit(), table=table)


def test_parquet_same_audit_same_bytes(tmp_path, audit):
    for name in ("one", "two"):
        Report(make.audit() if name == "one" else audit).write("parquet", tmp_path / name)
    names = {each.name for each in (tmp_path / "one").iterdir()}
    assert names == {*(f"{table}.parquet" for table in TABLES), "audit.json"}
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


# -- what strangers wrote --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("color", [False, True])
@pytest.mark.parametrize("table", [None, *TABLES])
@pytest.mark.parametrize("name", STREAMS)
def test_nothing_that_a_terminal_would_act_on(name, table, color, audit, written):
    text = written(name, audit, table=table, color=color).decode()
    if color:
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)  # our own colours
    left = {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")}
    assert left <= {"\n"}


def test_hostile_text_is_still_there_to_be_seen(audit, written):
    assert rb"\x1b[31mred.example" in written("table", audit)
    text = [row["originator"]["instance"] for row in json.loads(written("json", audit))["connections"]]
    assert make.HOSTILE[0] in text


def test_markdown_of_strangers_is_no_markup(audit, written):
    text = written("markdown", audit).decode()
    assert "<script" not in re.sub(r"\\<", "", re.sub(r"`[^`]*`", "", text))
    widths = {
        line.count("|") - line.count("\\|")
        for line in text.split("## Documented paths")[1].splitlines()
        if line.startswith("|")
    }
    assert len(widths) == 1


def test_no_cell_of_a_csv_starts_a_formula(audit, written):
    for table in TABLES:
        for row in csv.reader(io.StringIO(written("csv", audit, table=table).decode())):
            assert not [cell for cell in row if len(cell) > 1 and cell[0] in "=+-@\t\r"]


# -- JSON ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [{}, {"clean": True}, {"complete": True, "inventory": "inferred"}, {"clean": True, "inventory": "mixed"}]
)
def test_json_is_valid_by_its_schema(given, schema, written):
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(written("json", make.audit(**given))))


def test_the_schema_is_closed_where_the_contract_lists_the_keys(schema, audit, written):
    report = json.loads(written("json", audit))
    validator = jsonschema.Draft202012Validator(schema)
    for place in (report, report["audit"], report["summary"], report["coverage"][0], report["captures"][0], report["findings"][0],
                  report["connections"][0], report["connections"][0]["originator"], report["connections"][0]["authentication"]):  # fmt: skip
        place["surprise"] = 1
        assert not validator.is_valid(report)
        del place["surprise"]
    assert validator.is_valid(report)


def test_json_has_the_keys_of_the_contract_in_their_order(audit, written):
    report = json.loads(written("json", audit))
    keys = [
        "schema",
        "audit",
        "captures",
        "summary",
        "coverage",
        "connections",
        "findings",
        "certificates",
        "incidents",
    ]
    assert list(report) == keys
    first = report["connections"][0]
    end = ["ip", "port", "instance", "role", "roles", "component", "packets", "bytes", "copies"]
    assert list(first["originator"]) == end
    assert list(first["authentication"]) == [
        "required",
        "observed",
        "verdict",
        "confidence",
        "outcome",
        "factors",
        "evidence",
    ]
    assert [each["row"] for each in report["coverage"]] == list(range(1, 26))
    icmp = report["connections"][18]
    assert (icmp["transport"], icmp["originator"]["port"]) == ("icmp", None)
    assert report["connections"][23]["authentication"]["required"] == {"all": ["tls", "oauth2"]}


def test_times_have_as_many_digits_as_their_capture(audit, written):
    report = json.loads(written("json", audit))
    assert report["captures"][0]["first_packet"] == "2025-11-22T08:26:40.123456Z"
    assert report["captures"][2]["first_packet"] == "2025-11-22T08:26:40.123456007Z"
    assert report["captures"][2]["last_packet"] is None
    digits = {row["id"]: len(row["start"]) for row in report["connections"]}
    assert digits["c000000000000000"] == len("2025-11-22T08:26:40.123456Z")
    assert digits["c00000000000001d"] == len("2025-11-22T08:26:40.123456789Z")


def test_one_table_as_json_is_an_array(audit, written):
    whole = json.loads(written("json", audit))
    for table in TABLES:
        assert json.loads(written("json", audit, table=table)) == whole[table]


def test_an_audit_of_nothing_is_still_json(audit, schema, written):
    empty = replace(audit, connections=audit.connections.iloc[:0], findings=audit.findings.iloc[:0])
    report = json.loads(written("json", empty))
    jsonschema.Draft202012Validator(schema).validate(report)
    assert report["connections"] == []
    for name in STREAMS:
        # A format that has a line a record, and no more, has nothing to say.
        assert bool(written(name, empty)) is (name not in ("cef", "ocsf", "ecs"))


def test_ndjson_has_the_same_records_with_their_kind(audit, written):
    whole = json.loads(written("json", audit))
    lines = [json.loads(line) for line in written("ndjson", audit).splitlines()]
    assert [line.pop("kind") for line in lines] == (
        ["audit"]
        + ["capture"] * 3
        + ["summary"]
        + ["coverage"] * 25
        + ["connection"] * 30
        + ["finding"] * 12
        + ["incident"] * len(whole["incidents"])
    )
    assert whole["incidents"]
    assert lines[72:] == whole["incidents"]
    assert lines[0] == {"schema": "auditor.report/1", **whole["audit"]}
    assert lines[5:30] == whole["coverage"]
    assert lines[30:60] == whole["connections"]
    only = [json.loads(line) for line in written("ndjson", audit, table="connections").splitlines()]
    assert {line["kind"] for line in only} == {"connection"}
    assert len(only) == 30


# -- tables ----------------------------------------------------------------------------------------------------------------------


def _nested(record, path):
    for key in path:
        record = record[key]
    return record


@pytest.mark.parametrize("table", TABLES)
def test_csv_says_what_json_says(table, audit, written):
    records = json.loads(written("json", audit))[table]
    rows = list(csv.DictReader(io.StringIO(written("csv", audit, table=table).decode())))
    assert list(rows[0]) == [column.name for column in TABLES[table]]
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        for column in TABLES[table]:
            value, cell = _nested(record, column.path), row[column.name]
            if value is None:
                assert cell == ""
            elif column.kind in ("list", "object") and not isinstance(value, str):
                assert json.loads(cell) == value
            elif column.kind in ("int", "float"):
                assert float(cell) == value
            elif column.kind == "time":
                assert cell == value


@pytest.mark.parametrize("table", TABLES)
def test_parquet_says_what_json_says(table, audit, written, tmp_path):
    Report(audit).write("parquet", tmp_path / "out")
    records = json.loads(written("json", audit))[table]
    rows = pq.read_table(tmp_path / "out" / f"{table}.parquet").to_pylist()
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        for column in TABLES[table]:
            value, cell = _nested(record, column.path), row[column.name]
            if column.kind == "time" and value is not None:
                assert pd.Timestamp(cell) == pd.Timestamp(value)
            elif column.name.endswith("evidence"):
                assert [{**each, "value": json.loads(each["value"])} for each in cell] == value
            elif column.kind == "object" and isinstance(value, dict):
                assert json.loads(cell) == value
            else:
                assert cell == value


def test_parquet_of_an_audit_without_rows_has_the_same_schema(audit, tmp_path):
    empty = replace(audit, connections=audit.connections.iloc[:0])
    for name, each in (("full", audit), ("empty", empty)):
        Report(each).write("parquet", tmp_path / name)
    schemas = [pq.read_schema(tmp_path / name / "connections.parquet") for name in ("full", "empty")]
    assert schemas[0].equals(schemas[1])


def test_tables_in_pieces_are_the_same_as_whole(written, monkeypatch):
    audit = make.large(300, hostile=True)
    whole = {name: written(name, audit, table="connections") for name in ("csv", "ndjson", "json")}
    monkeypatch.setattr("auditor.report.csv.CHUNK_ROWS", 7)
    monkeypatch.setattr("auditor.report._records.CHUNK_ROWS", 7)
    assert {name: written(name, audit, table="connections") for name in whole} == whole


class Sink:
    """Takes everything, keeps nothing but the count."""

    taken = 0

    def write(self, data):
        self.taken += len(data)
        return len(data)


@pytest.mark.parametrize("name", ["json", "ndjson"])
def test_writing_does_not_hold_the_report(name):
    audit = make.large(20_000)
    gc.collect()
    sink, largest = Sink(), 0

    def write(data, write=sink.write):
        nonlocal largest
        largest = max(largest, len(data))
        return write(data)

    sink.write = write
    find_format(name).write(audit, sink)
    assert sink.taken > 15_000_000
    assert largest < sink.taken / 3


# -- for people ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_table_keeps_to_its_width(width, audit, written):
    lines = written("table", audit, width=width).decode().splitlines()
    # Commands are never broken, so that they can be copied.
    assert max(len(line) for line in lines if not line.lstrip().startswith("auditor ")) <= width
    assert not any(line.rstrip().endswith("…") for line in lines if line.lstrip().startswith("auditor "))


@pytest.mark.parametrize(
    ("given", "first"),
    [
        ({}, "NOT CLEAN and INCOMPLETE: "),
        ({"complete": True}, "NOT CLEAN (complete): "),
        ({"clean": True}, "CLEAN SO FAR, but INCOMPLETE: "),
        ({"clean": True, "complete": True}, "CLEAN and COMPLETE: "),
        ({"clean": True, "inventory": "inferred"}, "ROLES INFERRED"),
        ({"clean": True, "inventory": "mixed"}, "ROLES PARTLY INFERRED"),
    ],
)
def test_the_first_line_says_whether_it_is_clean_and_complete(given, first, written):
    audit = make.audit(**given)
    assert written("table", audit).decode().startswith(first)
    assert first.rstrip(": ") in written("markdown", audit).decode().split("\n")[2]


def test_colour_is_only_ever_added(audit, written):
    plain, coloured = written("table", audit), written("table", audit, color=True)
    assert b"\x1b[" not in plain
    bare = re.sub(rb"\x1b\[[0-9;]*m", b"", coloured)
    assert [line.rstrip() for line in bare.splitlines()] == plain.splitlines()


def test_a_sibling_policy_that_explains_is_named_once(audit, written):
    text = written("table", audit).decode()
    assert text.count("--policy bosh-dns") == 1
    assert "5 undeclared connections would be explained by bosh-dns" in text


def test_every_documented_path_is_there_seen_or_not(audit, written):
    text = written("table", audit).decode().split("Documented paths")[1]
    assert [int(row) for row in re.findall(r"^ {0,2}(\d+)  ", text, re.MULTILINE)] == list(range(1, 26))
    assert text.count(" not seen") == 20


def test_many_findings_of_a_rule_are_cut_short_and_counted(audit, written):
    many = pd.concat([audit.findings[audit.findings["rule"] == "cell-egress"]] * 12, ignore_index=True)
    text = written("table", replace(audit, findings=many)).decode()
    assert "12 findings" in text
    assert "and 7 more" in text


# -- where it goes ---------------------------------------------------------------------------------------------------------------


def test_a_file_appears_whole_or_not_at_all(tmp_path, audit, monkeypatch):
    target = tmp_path / "report.json"
    target.write_text("the old one")

    def half(audit, out, **options):
        out.write(b"{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("auditor.api.find_format", lambda name: replace(find_format("json"), write=half))
    with pytest.raises(OSError, match="No space"):
        Report(audit).write("json", target)
    assert target.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_taken_only_where_it_holds_a_report(tmp_path, audit):
    Report(audit).write("parquet", tmp_path / "out")
    Report(audit).write("parquet", tmp_path / "out")
    (tmp_path / "out" / "thesis.doc").write_text("mine")
    with pytest.raises(ConfigError, match="other files"):
        Report(audit).write("parquet", tmp_path / "out")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize(
    ("name", "place", "says"),
    [
        ("json", "missing/report.json", "cannot be written"),
        ("json", ".", "is a folder"),
        ("parquet", "file", "is a file"),
        ("nosuch", "x", "unknown format"),
    ],
)
def test_a_place_that_cannot_be_written(name, place, says, tmp_path, audit):
    Path(tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=says):
        Report(audit).write(name, tmp_path / place)
