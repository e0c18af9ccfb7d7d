"""What is doubtful of the inventory stands in the report, in every format: whoever reads it need not have seen standard error."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

import auditor
from auditor.api import Report, find_format, format_names
from auditor.report import _story as story
from auditor.report.ocsf import VERSION
from tests.report import make

SAYS = "vms.yml:3: no policy knows the group 'cell_z1'; did you mean diego_cell? No documented path goes to or from its 2 addresses"
ROWS_ONLY = {"csv"}
"""One table and nothing else."""
STREAMS = [name for name in format_names() if not find_format(name).folder and name not in ROWS_ONLY]


@pytest.fixture(scope="module")
def doubtful() -> auditor.api.Audit:
    audit = make.audit()
    return replace(audit, info={**audit.info, "warnings": [SAYS, "another \x1b[31mone|=<b>"]})


def text(name: str, audit: auditor.api.Audit) -> str:
    out = io.BytesIO()
    find_format(name).write(audit, out)
    return out.getvalue().decode()


@pytest.mark.parametrize("name", STREAMS)
def test_every_format_has_them(name: str, doubtful: auditor.api.Audit) -> None:
    told = text(name, doubtful)
    assert "cell" in told
    assert "no policy knows the group" in " ".join(told.split())
    assert "\x1b" not in told
    assert "no policy knows the group" not in " ".join(text(name, make.audit()).split())


def test_folders_have_them(tmp_path: Path, doubtful: auditor.api.Audit) -> None:
    Report(doubtful).write("zeek", tmp_path / "zeek")
    [one, two] = [line for line in (tmp_path / "zeek" / "reporter.log").read_text().splitlines() if line[0] != "#"]
    assert one.split("\t")[1:3] == ["Reporter::WARNING", SAYS]
    assert "\x1b" not in two
    Report(doubtful).write("parquet", tmp_path / "parquet")
    about = json.loads((tmp_path / "parquet" / "audit.json").read_text())
    assert about["audit"]["warnings"][0] == SAYS


def test_they_come_first_for_people(doubtful: auditor.api.Audit) -> None:
    assert text("table", doubtful).index("WARNING: vms.yml:3") < text("table", doubtful).index("CLEAN")
    assert text("markdown", doubtful).index("**Warning**") < text("markdown", doubtful).index("CLEAN")


def test_a_schema_has_no_objection(doubtful: auditor.api.Audit) -> None:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(VERSION))
    base = jsonschema.Draft202012Validator(schema.get_class_schema(schema.lookup_class_name_from_uid(0)))
    events = [json.loads(line) for line in text("ocsf", doubtful).splitlines()]
    found = [event for event in events if event["class_uid"] == 0]
    assert found[0]["message"] == SAYS
    assert [error.message for event in found for error in base.iter_errors(event)] == []


def test_many_are_cut_short_for_people() -> None:
    audit = make.audit()
    many = replace(audit, info={**audit.info, "warnings": [f"w{k}" for k in range(50)]})
    assert len(story.warnings(many)) == story.MOST_WARNINGS + 1
    assert story.warnings(many)[-1] == "and 30 more (--format json has all)"


def test_an_audit_tells_what_the_inventory_lacks(tmp_path: Path) -> None:
    """A cell whose role nobody knows: its plaintext is nobody's finding, and the report says why."""
    file = tmp_path / "vms.yml"
    file.write_text(
        "vms:\n  - {name: diego_database/0, ip: 10.0.4.40}\n  - {name: one, ip: 10.0.4.20, role: dieog_cell}\n"
    )
    capture = Path(__file__).resolve().parents[2] / "captures" / "rules" / "certificate-identity" / "fires.pcap"
    report = auditor.audit([capture], inventory=file)
    [says] = report.audit.info["warnings"]
    assert "vms.yml:3: no policy knows the role 'dieog_cell'; did you mean diego_cell?" in says
    assert list(report.warnings) == [says]
