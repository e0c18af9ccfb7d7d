"""certificate-untrusted, fired and not fired."""

from __future__ import annotations

from auditor.model.facts import Facts
from auditor.model.judgement import Fault
from tests.rules.make import judged, row

RULE = "certificate-untrusted"
FAULT = Fault(
    RULE, "the certificate does not chain to any --ca certificate", kinds=("tls.client_certificates",), about="x"
)
FACTS = Facts({"tls.client_certificates": ("ab" * 32,)}, marks=(({"tls.client_certificates": (4,)}, None),))


def test_it_fires_with_its_evidence(fired):
    wrong = row(faults=(FAULT,), facts=FACTS, after=1)
    [finding] = fired(RULE, judged(row(), wrong))
    assert (finding.severity.word, finding.rows, finding.subject[5]) == ("high", (1,), "x")
    assert FAULT.says[1:] in finding.detail
    assert finding.evidence == (
        {"kind": "tls.client_certificates", "value": ("ab" * 32,), "certainty": "proven", "frames": [[0, 4]]},
    )


def test_without_the_fault_it_does_not(fired):
    assert fired(RULE, judged(row(), row(facts=FACTS, after=1), row(faults=(Fault("other", "x"),), after=2))) == []
