"""What holds for every rule: a new file is covered by being there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from auditor.catalogue import discover
from auditor.rules._subject import identify
from tests.rules.make import CELL, TO_UAA, attempt, judged, row, undeclared

ROOT = Path(__file__).resolve().parents[2]
RULES = discover("auditor.rules", "RULE")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_is_named_after_its_file_and_has_a_test(rule):
    stem = rule.name.replace("-", "_")
    assert (ROOT / "auditor" / "rules" / f"{stem}.py").is_file()
    assert (ROOT / "tests" / "rules" / f"test_{stem}.py").is_file()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_an_empty_or_healthy_audit_fires_nothing(rule):
    assert list(rule.check(judged())) == []
    assert list(rule.check(judged(row(), row(after=1)))) == []


@pytest.mark.parametrize("order", [1, -1])
def test_findings_do_not_depend_on_what_else_was_seen_first(order):
    """The same facts get the same fingerprints whatever the order in which they were captured."""
    facts = [
        undeclared("connection", CELL, TO_UAA, responder_port=8443),
        undeclared("port", CELL, responder_port=8890),
        undeclared("unknown_host", originator_ip="10.0.9.9", originator_role=None),
        attempt("connection", CELL, TO_UAA, responder_port=1),
        row(breach="application", application="ssh"),
    ]
    table = judged(*facts[::order])
    found = [finding for rule in RULES for finding in rule.check(table)]
    assert len(found) == 5
    assert re.fullmatch(r"(F-[0-9a-f]{10}){5}", "".join(name for name, _ in identify(found)))
    marks = sorted(mark for _, mark in identify(found))
    straight = [finding for rule in RULES for finding in rule.check(judged(*facts))]
    assert marks == sorted(mark for _, mark in identify(straight))
