"""missing-client-certificate, fired and not fired."""

from __future__ import annotations

from auditor.model.facts import Facts
from auditor.model.judgement import Fault
from tests.rules.make import judged, row

RULE = "missing-client-certificate"
FAULT = Fault(
    RULE, "the server asked for no client certificate and answered", kinds=("tls.client_certificate",), about="x"
)
FACTS = Facts({"tls.client_certificate": "not_asked"}, marks=(({"tls.client_certificate": (4,)}, None),))


def test_it_fires_with_its_evidence(fired):
    wrong = row(faults=(FAULT,), facts=FACTS, after=1, authentication_verdict="violated")
    [finding] = fired(RULE, judged(row(), wrong))
    assert (finding.severity.word, finding.rows, finding.subject[5]) == ("critical", (1,), "x")
    assert FAULT.says[1:] in finding.detail
    assert finding.evidence == (
        {"kind": "tls.client_certificate", "value": "not_asked", "certainty": "proven", "frames": [[0, 4]]},
    )


def test_without_the_fault_it_does_not(fired):
    assert (
        fired(
            RULE,
            judged(
                row(),
                row(facts=FACTS, after=1, authentication_verdict="violated"),
                row(faults=(Fault("other", "x"),), after=2),
            ),
        )
        == []
    )
