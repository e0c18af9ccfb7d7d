"""authentication-rejected, fired and not fired."""

from __future__ import annotations

from auditor.model.facts import Facts
from auditor.model.judgement import Fault
from tests.rules.make import judged, row

RULE = "authentication-rejected"
FAULT = Fault(RULE, "a TLS alert (bad_certificate) turned it away", kinds=("tls.server_alert",), about="x")
FACTS = Facts({"tls.server_alert": ("fatal", "bad_certificate")}, marks=(({"tls.server_alert": (4,)}, None),))


def test_it_fires_with_its_evidence(fired):
    wrong = row(faults=(FAULT,), facts=FACTS, after=1, authentication_verdict="rejected")
    [finding] = fired(RULE, judged(row(), wrong))
    assert (finding.severity.word, finding.rows, finding.subject[5]) == ("medium", (1,), "x")
    assert FAULT.says[1:] in finding.detail
    assert finding.evidence == (
        {"kind": "tls.server_alert", "value": ("fatal", "bad_certificate"), "certainty": "proven", "frames": [[0, 4]]},
    )


def test_without_the_fault_it_does_not(fired):
    assert (
        fired(
            RULE,
            judged(
                row(),
                row(facts=FACTS, after=1, authentication_verdict="rejected"),
                row(faults=(Fault("other", "x"),), after=2),
            ),
        )
        == []
    )
