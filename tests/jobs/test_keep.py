"""Audits and their history: what is new, what is kept, and that it comes back as it was."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest

import auditor
from auditor.api import Report, find_format, format_names
from auditor.errors import ConfigError
from auditor.jobs import keep
from auditor.store.history import open_history
from tests.conftest import ROOT
from tests.report import make


@pytest.fixture(scope="module")
def diego():
    return auditor.audit("sample:diego").audit


def same_but_for_files(audit, other):
    return json.loads(Report(audit).to_json()) == json.loads(Report(other).to_json())


def test_an_audit_comes_back_as_it_was(tmp_path, diego):
    inventory = str(ROOT / "captures" / "sample" / "diego.inventory.yml")
    with open_history(tmp_path / "s", write=True) as history:
        audit = keep.marked(keep.hashed(diego), ())
        keep.keep(audit, history, files=[inventory, "tas-diego"])
        back = keep.restore(history, history.find("latest"))
        kinds = [(each.kind, each.content[:10]) for each in history.deciders(1)]
    assert Report(back).to_json() == Report(audit).to_json()
    for name in format_names():
        if not find_format(name).folder:
            written = []
            for each in (audit, back):
                out = io.BytesIO()
                Report(each).write(name, out, **({"table": "connections"} if name == "csv" else {}))
                written.append(out.getvalue())
            assert written[0] == written[1], name
    assert len(Report(back).captures["sha256"].iloc[0]) == 64
    assert [kind for kind, _ in kinds] == ["inventory", *["policy"] * len(audit.info["policies"])]


def test_hostile_texts_and_nulls_come_back_as_they_were(tmp_path):
    audit = make.audit()
    with open_history(tmp_path / "s", write=True) as history:
        keep.keep(audit, history)
        back = keep.restore(history, history.find("1"))
    assert same_but_for_files(audit, back)


def test_the_second_time_everything_continues(tmp_path):
    first = auditor.audit("sample:diego", store=tmp_path / "s")
    assert set(first.findings["status"]) == {"new"}
    second = auditor.audit("sample:diego", store=tmp_path / "s")
    assert set(second.findings["status"]) == {"continuing"}
    third = auditor.audit("sample:diego", store=tmp_path / "s", new_only=True)
    assert (len(third.findings), third.exit_status(max_undecided=20)) == (0, 0)
    assert not any(third.connections["findings"])
    assert "no new findings" in third.to_table()
    with open_history(tmp_path / "s") as history:
        kept = [row.counts for row in history.rows()]
    assert [each["findings"] for each in kept] == [len(first.findings)] * 3, "the store keeps all of it"
    assert [each["new"] for each in kept] == [len(first.findings), 0, 0]


def test_a_baseline_is_a_report_in_any_form_or_an_audit_of_the_store(tmp_path, diego):
    audit = keep.marked(diego, ())
    without = replace(audit, findings=audit.findings.iloc[2:].reset_index(drop=True))
    missing = set(audit.findings["fingerprint"].iloc[:2])
    report = Report(without)
    report.write("json", tmp_path / "r.json")
    report.write("ndjson", tmp_path / "r.ndjson")
    report.write("parquet", tmp_path / "r")
    with open_history(tmp_path / "s", write=True) as history:
        keep.keep(without, history)
        for name in (str(tmp_path / "r.json"), str(tmp_path / "r.ndjson"), str(tmp_path / "r"), "latest"):
            again = keep.only_new(keep.marked(diego, keep.baseline(name, history)))
            assert set(again.findings["fingerprint"]) == missing, name
            counted = again.summary["findings"]["by_severity"]
            assert sum(counted.values()) == len(missing)
    (tmp_path / "other.json").write_text('{"a": 1}')
    for name, says in (
        (str(tmp_path / "other.json"), "is no"),
        ("latest", "add --store"),
        (str(tmp_path), "has no findings"),
    ):
        with pytest.raises(ConfigError, match=says):
            keep.baseline(name, None)


def test_new_only_needs_something_to_compare_with(tmp_path):
    with pytest.raises(ConfigError, match="add --store or --baseline"):
        auditor.audit("sample:healthy", new_only=True)
    with pytest.raises(ConfigError, match="no such file"):
        auditor.audit("sample:healthy", waivers=tmp_path / "gone.yml", store=tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_waived_findings_stay_marked_and_an_expired_waiver_fails(tmp_path):
    file = tmp_path / "w.yml"
    text = """
waivers:
  - {rule: plaintext, match: {from: diego_cell}, reason: legacy, owner: team, ticket: T-1, expires: 2999-01-01}
  - {rule: weak-tls, match: {from: uaa}, reason: gone, owner: team, ticket: T-2, expires: 2999-01-01}
"""
    file.write_text(text)
    report = auditor.audit("sample:diego", waivers=file)
    waived = report.findings[report.findings["waived"].notna()]
    assert waived["rule"].tolist() == ["plaintext"]
    told = json.loads(report.to_json())
    assert [each["waived"]["ticket"] for each in told["findings"] if each["waived"]] == ["T-1"]
    assert [each["ticket"] for each in told["audit"]["options"]["waivers"]["unused"]] == ["T-2"]
    assert any("matched nothing" in line for line in report.warnings)
    assert report.exit_status("never", max_undecided=20) == 0
    file.write_text(text.replace("2999-01-01}", "2020-01-01}", 1))
    report = auditor.audit("sample:healthy", waivers=file)
    assert (len(report.findings), report.exit_status()) == (0, 1)
    assert report.to_table().startswith("NOT CLEAN, 1 waiver expired")


def test_streams_have_no_hash(tmp_path):
    assert keep.sha256_of("-") is None
    assert keep.sha256_of(tmp_path) is None
    assert keep.sha256_of("a\0b") is None
    (tmp_path / "a").write_bytes(b"abc")
    assert keep.sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
