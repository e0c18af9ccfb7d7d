"""cleartext-credentials, fired and not fired."""

from __future__ import annotations

from auditor.model.facts import Facts
from auditor.model.judgement import Fault
from tests.rules.make import judged, row

RULE = "cleartext-credentials"
FAULT = Fault(RULE, "a bearer token crossed in the clear", kinds=("http.authorization",), about="x")
FACTS = Facts({"http.authorization": ("bearer",)}, marks=(({"http.authorization": (4,)}, None),))


def test_it_fires_with_its_evidence(fired):
    wrong = row(faults=(FAULT,), facts=FACTS, after=1, application="http")
    [finding] = fired(RULE, judged(row(), wrong))
    assert (finding.severity.word, finding.rows, finding.subject[5]) == ("medium", (1,), "x")
    assert FAULT.says[1:] in finding.detail
    assert finding.evidence == (
        {"kind": "http.authorization", "value": ("bearer",), "certainty": "proven", "frames": [[0, 4]]},
    )


def test_without_the_fault_it_does_not(fired):
    assert (
        fired(
            RULE,
            judged(row(), row(facts=FACTS, after=1, application="http"), row(faults=(Fault("other", "x"),), after=2)),
        )
        == []
    )
