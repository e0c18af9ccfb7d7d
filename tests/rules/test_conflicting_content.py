"""conflicting-content, fired and not fired."""

from __future__ import annotations

from auditor.model.connections import CONTRADICTION, ODDS
from auditor.model.facts import Facts
from auditor.model.judgement import Fault
from tests.rules.make import judged, row

RULE = "conflicting-content"
FACTS = Facts({}, {CONTRADICTION: (ODDS[1],)}, (({CONTRADICTION: (6, 7)}, None),))
DIFFERS = Fault(RULE, "it is not known which of two readings the receiver used: verified or violated", "high", (CONTRADICTION,), "differs")  # fmt: skip
AGREES = Fault(RULE, "the verdict does not depend on it", "high", (CONTRADICTION,), "agrees")


def test_it_is_high_where_the_readings_lead_to_different_verdicts(fired):
    [finding] = fired(RULE, judged(row(), row(faults=(DIFFERS,), facts=FACTS, after=1)))
    assert (finding.severity.word, finding.rows) == ("high", (1,))
    assert finding.evidence == (
        {"kind": CONTRADICTION, "value": (ODDS[1],), "certainty": "proven", "frames": [[0, 6], [0, 7]]},
    )
    assert "verified or violated" in finding.detail
    assert ODDS[1] in finding.detail


def test_it_is_info_where_they_agree(fired):
    [finding] = fired(RULE, judged(row(faults=(AGREES,), facts=FACTS)))
    assert finding.severity.word == "info"


def test_both_are_two_findings(fired):
    found = fired(RULE, judged(row(faults=(AGREES,), facts=FACTS), row(faults=(DIFFERS,), facts=FACTS, after=1)))
    assert sorted(each.severity.word for each in found) == ["high", "info"]


def test_without_the_fault_it_does_not(fired):
    assert fired(RULE, judged(row(), row(faults=(Fault("other", "x"),), after=1))) == []
