"""The truth of the sample captures, as far as the policy alone decides it."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from auditor.model.judgement import Breach, Flow, Outcome
from auditor.policy.addresses import to_int
from auditor.policy.classify import Classifier
from auditor.policy.inventory import load_inventory, parse_time
from auditor.policy.loader import load_policy

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "sample"
AFTER_ALL_LEASES_NS = parse_time("2026-11-16")

RULES = {
    Breach.CONNECTION: "undeclared-connection",
    Breach.PORT: "undeclared-port",
    Breach.SSH_PORT: "ssh-port-out-of-range",
    Breach.UNKNOWN_HOST: "unknown-host",
    Breach.CELL_EGRESS: "cell-egress",
    Breach.ATTEMPT: "undeclared-attempt",
    Breach.APPLICATION: "wrong-application",
    None: "",
}


@pytest.mark.parametrize("name", ["diego", "healthy"])
def test_the_truth(name: str) -> None:
    policy = load_policy()
    classifier = Classifier(policy, load_inventory([str(SAMPLES / f"{name}.inventory.yml")], policy))
    with (SAMPLES / f"{name}.truth.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert rows
    for row in rows:
        flow = Flow(
            to_int(row["originator"]), to_int(row["responder"]), int(row["responder_port"]), row["transport"],
            row["application"], Outcome(row["outcome"]), True, AFTER_ALL_LEASES_NS, not row["scenario"].startswith("midstream"),
        )  # fmt: skip
        told = classifier.classify(flow)
        assert told.disposition == row["disposition"], (row, told)
        assert [str(policy.path(path).row) for path in told.paths] == [
            each for each in row["rows"].split(",") if each
        ], row
        if row["rule"] != "port-sweep":
            assert RULES[told.breach] == row["rule"], (row, told)
        if row["differs"]:
            assert told.near_miss is not None, row
            assert told.near_miss.differs == row["differs"], (row, told)
        if row["overlay"]:
            assert told.sibling == row["overlay"], (row, told)
