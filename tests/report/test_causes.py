"""Several findings of one connection are told as one, with what it led to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from auditor import api
from auditor.report import _overview as overview
from auditor.report import _story as story
from auditor.report._causes import cause_of


def finding(name: str, rule: str, severity: str, *connections: str, **differs: Any) -> dict[str, Any]:
    known = {"id": name, "rule": rule, "severity": severity, "connections": connections, "count": len(connections)}
    return {**known, "waived": None, "status": None, **differs}


EXPIRED = finding("F-1", "certificate-expired", "high", "a", "b")
REJECTED = finding("F-2", "authentication-rejected", "medium", "b")


def test_what_the_connections_of_a_worse_one_show_is_its_consequence() -> None:
    assert cause_of([EXPIRED, REJECTED]) == {"F-2": "F-1"}
    assert cause_of([REJECTED, EXPIRED]) == {"F-2": "F-1"}
    hidden = finding("F-3", "unverifiable-authentication", "info", "c")
    assert cause_of([hidden, finding("F-4", "capture-incomplete", "info", "c")]) == {"F-3": "F-4"}


@pytest.mark.parametrize(
    ("cause", "other"),
    [
        (EXPIRED, {**REJECTED, "connections": ("b", "c"), "count": 2}),  # it reaches further
        (EXPIRED, {**REJECTED, "count": 9}),  # its connections are a sample
        (EXPIRED, {**REJECTED, "connections": (), "count": 0}),
        (EXPIRED, {**REJECTED, "rule": "weak-certificate"}),  # another cause
        (EXPIRED, {**REJECTED, "severity": "high"}),  # nothing high is told on another's line
        ({**EXPIRED, "severity": "low"}, REJECTED),  # the other is not worse
        ({**EXPIRED, "waived": {"reason": "known"}}, REJECTED),
        (EXPIRED, {**REJECTED, "waived": {"reason": "known"}}),
        ({**EXPIRED, "status": "continuing"}, {**REJECTED, "status": "new"}),
    ],
)
def test_what_is_no_consequence(cause: dict[str, Any], other: dict[str, Any]) -> None:
    assert cause_of([cause, other]) == {}


def test_the_worst_of_several_causes() -> None:
    clear = finding("F-5", "plaintext", "critical", "b")
    method = finding("F-6", "wrong-authentication-method", "high", "b")
    assert cause_of([method, clear, finding("F-7", "cleartext-credentials", "medium", "b")]) == {"F-7": "F-5"}


@pytest.fixture(scope="module")
def sample() -> Any:
    return api.audit("sample:diego").audit


def test_lists_for_people_name_it_on_the_line_of_its_cause_and_machines_have_every_finding(sample: Any) -> None:
    findings = sample.findings.set_index("id")
    cause = cause_of(list(story.rows(sample.findings)))
    pairs = {(findings.loc[each, "rule"], findings.loc[of, "rule"]) for each, of in cause.items()}
    assert pairs == {
        ("authentication-rejected", "authentication-downgrade"),
        ("cleartext-credentials", "wrong-authentication-method"),
        ("unverifiable-authentication", "capture-incomplete"),
    }
    report = api.Report(sample)
    table, text, page, machines = report.to_table(width=500), report.to_markdown(), report.to_html(), report.to_json()
    for each in cause:
        assert f"led to: {each} {findings.loc[each, 'rule']}" in table
        assert f"- {each} " not in table
        assert f"led to: {each} " in text
        assert page.count(f'id="{each}"') == 1, "links to it lead somewhere"
        assert each in machines
    heads = {told.id: told for group in overview.groups(sample) for told in group.told}
    assert not set(heads) & set(cause)
    assert {each.id for told in heads.values() for each in told.consequences} == set(cause)
    assert len(heads) + len(cause) == len(sample.findings)


def test_what_has_no_cause_stays_a_line_of_its_own(sample: Any) -> None:
    alone = replace(sample, findings=sample.findings[sample.findings["rule"] != "authentication-downgrade"])
    assert "did not agree" not in "".join(
        line for told in story.groups(alone) for each in told.told for line in each.consequences
    )
    told = {each.title for group in story.groups(alone) for each in group.told}
    assert "diego_cell and diego_brain did not agree on authentication on 61001-65534/tcp" in told
