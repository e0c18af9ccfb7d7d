"""Fingerprints: the same for the same fact, another for another."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from auditor.model.finding import Finding
from auditor.model.roles import Severity
from auditor.rules._subject import fingerprint, identify

SUBJECT = ("brain-uaa", "diego_cell", "uaa", "8443", "tcp")
PLAIN = Finding("undeclared-connection", Severity.HIGH, "", "", (0,), SUBJECT)


def test_a_fingerprint_never_changes():
    assert fingerprint("undeclared-connection", SUBJECT) == "a55f2c31a04b5009890065e9003fa3e3"


def test_a_fingerprint_depends_on_rule_and_subject_alone():
    again = replace(PLAIN, title="other words", rows=(5, 6), count=2, evidence=({"kind": "x"},))
    assert identify([PLAIN]) == identify([again])
    assert identify([replace(PLAIN, rule="undeclared-port")]) != identify([PLAIN])


@given(st.lists(st.tuples(*[st.text(max_size=4)] * 5), unique=True, max_size=30))
def test_distinct_subjects_have_distinct_marks_and_ids(subjects):
    named = identify([replace(PLAIN, subject=subject) for subject in subjects])
    assert len({name for name, _ in named}) == len(subjects)
    if not any("\x1f" in part for subject in subjects for part in subject):
        assert len({mark for _, mark in named}) == len(subjects)


def test_two_findings_with_one_subject_keep_two_ids():
    named = identify([PLAIN, PLAIN, PLAIN])
    assert len({name for name, _ in named}) == 3
    assert len({mark for _, mark in named}) == 1
