"""SARIF: what the maker of the format and code scanning say of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pandas as pd
import pytest

from auditor.catalogue import discover
from auditor.model.audit import Audit
from auditor.policy import shipped
from tests.report import make


def log(written, audit: Audit) -> dict:
    return json.loads(written("sarif", audit))["runs"][0]


@pytest.fixture
def objections(validators, tmp_path) -> Callable[[bytes], list[str]]:
    """Rules of the multitool, those of code scanning among them, that a log breaks."""
    tool = validators / "@microsoft" / "sarif-multitool-linux" / "Sarif.Multitool"
    tool.chmod(0o755)

    def validate(log: bytes) -> list[str]:
        (tmp_path / "log.sarif").write_bytes(log)
        done = subprocess.run(
            [tool, "validate", "--rule-kind", "Sarif;Ghas", "-o", "told.sarif", "log.sarif"],
            cwd=tmp_path,
            capture_output=True,
            check=False,  # it exits with 1 where it objects
            env={"DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1", "HOME": str(tmp_path)},
            timeout=120,
        )
        assert (tmp_path / "told.sarif").is_file(), done.stdout
        told = json.loads((tmp_path / "told.sarif").read_text(encoding="utf-8-sig"))["runs"][0]
        return [each["ruleId"] for each in told["results"]]

    return validate


@pytest.mark.parametrize("which", ["audit", "real"])
def test_the_multitool_has_no_objection(which, request, written, objections):
    assert objections(written("sarif", request.getfixturevalue(which))) == []


def test_the_multitool_objects_to_a_result_without_a_place(real, written, objections):
    """The check above can fail."""
    whole = json.loads(written("sarif", real))
    del whole["runs"][0]["results"][0]["locations"]
    assert objections(json.dumps(whole).encode()) != []


def test_a_result_stands_at_the_line_of_its_path(real, written):
    lines = shipped.find("tas-diego").read_text().splitlines()
    found = {each["ruleId"]: each for each in log(written, real)["results"]}
    place = found["missing-client-certificate"]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "policies/tas-diego.yml"
    assert lines[place["region"]["startLine"] - 1].strip() == "- id: auctioneer-to-rep"


def test_every_finding_is_a_result_with_its_fingerprint(real, written):
    run = log(written, real)
    prints = [each["partialFingerprints"]["auditorFinding/v1"] for each in run["results"]]
    assert sorted(prints) == sorted(real.findings["fingerprint"])
    known = {rule.name for rule in discover("auditor.rules", "RULE")}
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == known
    assert all(run["tool"]["driver"]["rules"][each["ruleIndex"]]["id"] == each["ruleId"] for each in run["results"])


def test_waived_is_suppressed_and_incomplete_is_said(audit, written):
    run = log(written, audit)
    waived = [each for each in run["results"] if "suppressions" in each]
    assert len(waived) == int(audit.findings["waived"].notna().sum()) > 0
    notes = run["invocations"][0]["toolExecutionNotifications"]
    assert any("damaged" in note["message"]["text"] for note in notes)


def test_an_audit_without_findings_is_a_log_without_results(written):
    run = log(written, make.audit(clean=True, complete=True))
    assert run["results"] == []
    assert run["invocations"][0]["toolExecutionNotifications"] == []


@pytest.mark.night
def test_more_results_than_code_scanning_takes(real, written):
    many = pd.concat([real.findings] * (25_000 // len(real.findings) + 1), ignore_index=True)
    run = log(written, Audit(real.info, real.summary, real.captures, real.connections, many, real.coverage))
    assert len(run["results"]) == 25_000
    assert run["results"][0]["properties"]["severity"] == "critical"
    assert any("left out" in note["message"]["text"] for note in run["invocations"][0]["toolExecutionNotifications"])
