"""The sample captures, audited, against the truth that their scripts wrote while playing them.

A truth table knows nothing of the auditor: it is the list of scenarios, with the tuple that each got. Its columns are explained in captures/sample/_diego.py.
"""

from __future__ import annotations

import csv
import ipaddress
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from auditor.catalogue import discover
from auditor.model.judgement import Flow, Outcome
from auditor.policy.classify import Classifier
from auditor.policy.inventory import load_inventory
from auditor.policy.loader import load_policy

SAMPLE = Path(__file__).resolve().parents[1] / "captures" / "sample"
FILES = {"diego": "diego.pcapng", "healthy": "healthy.pcap"}
NAMES = sorted(FILES)
ROWS = range(1, 26)
BEGIN_NS = 1_794_819_600 * 1_000_000_000
ABOUT_CAPTURES = {"capture-incomplete", "unverifiable-authentication"}
"""Findings that say what could not be told; they accuse nobody."""
BREACHES = {
    "connection": "undeclared-connection",
    "port": "undeclared-port",
    "ssh_port": "ssh-port-out-of-range",
    "unknown_host": "unknown-host",
    "cell_egress": "cell-egress",
    "attempt": "undeclared-attempt",
    "application": "wrong-application",
}


def truth(name):
    with (SAMPLE / f"{name}.truth.tsv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def inventory(name):
    return str(SAMPLE / f"{name}.inventory.yml")


def key(row):
    return (
        row["transport"],
        row["originator"],
        int(row["originator_port"]),
        row["responder"],
        int(row["responder_port"]),
    )


def known_rules():
    return {rule.name for rule in discover("auditor.rules", "RULE")}


@cache
def audited(name):
    """The report, its connections by tuple, and for each the rules whose findings it is part of."""
    import auditor

    report = auditor.audit([str(SAMPLE / FILES[name])], inventory=[inventory(name)], policy="tas-diego")
    rule_of = dict(zip(report.findings["id"], report.findings["rule"], strict=True))
    seen = {}
    for row in report.connections.to_dict("records"):
        at = (
            row["transport"],
            row["originator_ip"],
            row["originator_port"],
            row["responder_ip"],
            row["responder_port"],
        )
        seen.setdefault(at, []).append(row | {"rules": {rule_of[one] for one in row["findings"]}})
    return report, seen


def connections(name):
    _, seen = audited(name)
    return [(row, seen[key(row)][0]) for row in truth(name)]


# The files


@pytest.mark.parametrize("name", NAMES)
def test_every_documented_path_is_in_the_truth_and_no_tuple_twice(name):
    rows = truth(name)
    assert {int(number) for row in rows for number in row["rows"].split(",") if number} == set(ROWS)
    assert len({key(row) for row in rows}) == len(rows)


def test_every_rule_that_is_not_about_authentication_has_a_scenario():
    told = {row["rule"] for row in truth("diego")} - {""}
    assert told == {*BREACHES.values(), "port-sweep"}
    assert {row["rule"] for row in truth("healthy")} == {""}


def test_the_samples_are_small_and_hold_no_key():
    files = [each for each in SAMPLE.rglob("*") if each.is_file() and "__pycache__" not in each.parts]
    assert sum(each.stat().st_size for each in files) < 2_500_000  # they are part of the package
    held = [each.name for each in files if each.suffix != ".py" and b"PRIVATE KEY" in each.read_bytes()]
    assert held == []


# The policy alone


@pytest.mark.parametrize("name", NAMES)
def test_the_policy_judges_every_scenario_as_it_was_played(name):
    policy = load_policy()
    classifier = Classifier(policy, load_inventory([inventory(name)], policy))

    def number(address):
        return 0xFFFF << 32 | int(ipaddress.IPv4Address(address))

    for row in truth(name):
        flow = Flow(
            number(row["originator"]),
            number(row["responder"]),
            int(row["responder_port"]),
            row["transport"],
            row["application"],
            Outcome(row["outcome"]),
            directed=True,
            start_ns=BEGIN_NS,
        )
        found = classifier.classify(flow)
        rule = BREACHES.get(found.breach or "", "")
        near = found.near_miss.differs if found.near_miss else ""
        assert found.disposition == row["disposition"], row["scenario"]
        assert ",".join(str(policy.path(one).row) for one in found.paths) == row["rows"], row["scenario"]
        assert rule == row["rule"].replace("port-sweep", "undeclared-attempt"), row["scenario"]
        assert near == row["differs"] or not row["differs"], row["scenario"]
        assert (found.sibling or "") == row["overlay"], row["scenario"]


# The whole audit


@pytest.mark.parametrize("name", NAMES)
def test_every_connection_is_found_once_and_no_other(name):
    _, seen = audited(name)
    assert set(seen) == {key(row) for row in truth(name)}
    assert {at: len(found) for at, found in seen.items() if len(found) > 1} == {}


@pytest.mark.parametrize("column", ["disposition", "application"])
@pytest.mark.parametrize("name", NAMES)
def test_column_is_as_played(name, column):
    wrong = {}
    for told, seen in connections(name):
        # What goes on since before the capture may say nothing by which it could be recognised.
        may = {told[column], "unknown"} if told["scenario"].startswith("midstream-") else {told[column]}
        if seen[column] not in may:
            wrong[told["scenario"]] = (seen[column], told[column])
    assert wrong == {}


@pytest.mark.parametrize("name", NAMES)
def test_paths_and_near_misses_are_as_played(name):
    report, _ = audited(name)
    row_of = dict(zip(report.coverage["path"], report.coverage["row"], strict=True))
    for told, seen in connections(name):
        rows = {int(number) for number in told["rows"].split(",") if number}
        found = {int(row_of[path]) for path in seen["paths"]}
        # A certificate may have told which of the candidates it is.
        assert found <= rows, told["scenario"]
        assert bool(found) == bool(rows), told["scenario"]
        if told["differs"]:
            assert seen["near_miss"]["differs"] == told["differs"], told["scenario"]


@pytest.mark.parametrize("name", NAMES)
def test_rules_fire_where_they_must_and_nowhere_else(name):
    rules = known_rules()
    for told, seen in connections(name):
        must = {told["rule"]} - {""}
        may = set(told["later"].split("|")) - {""}
        assert must <= seen["rules"], told["scenario"]
        assert seen["rules"] <= must | may | ABOUT_CAPTURES, told["scenario"]
        if may and may <= rules:
            assert may & seen["rules"], told["scenario"]


@pytest.mark.parametrize("name", NAMES)
def test_coverage_lists_every_documented_path_as_seen(name):
    report, _ = audited(name)
    documented = report.coverage[report.coverage["row"].notna()]
    assert sorted(int(row) for row in documented["row"]) == list(ROWS)
    assert (documented["connections"] > 0).all()


def test_the_sweep_is_one_finding_and_each_intruder_is_one():
    report, _ = audited("diego")
    found = report.findings
    assert (found["rule"] == "port-sweep").sum() == 1
    assert (found["rule"] == "unknown-host").sum() == 3
    assert found["fingerprint"].is_unique


@pytest.mark.parametrize(("name", "status"), [("healthy", 0), ("diego", 1)])
def test_exit_status(name, status):
    command = [sys.executable, "-m", "auditor", "audit", str(SAMPLE / FILES[name]), "--inventory", inventory(name)]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == status, done.stderr
    assert '"auditor.report/1"' in done.stdout
