"""authentication-downgrade, fired and not fired."""

from __future__ import annotations

from auditor.model.facts import Facts
from auditor.model.judgement import Fault
from tests.rules.make import judged, row

RULE = "authentication-downgrade"
FAULT = Fault(RULE, "plain SSH followed a failed TLS handshake", kinds=("ssh.client_banner",), about="x")
FACTS = Facts({"ssh.client_banner": True}, marks=(({"ssh.client_banner": (4,)}, None),))


def test_it_fires_with_its_evidence(fired):
    wrong = row(faults=(FAULT,), facts=FACTS, after=1, application="ssh")
    [finding] = fired(RULE, judged(row(), wrong))
    assert (finding.severity.word, finding.rows, finding.subject[5]) == ("high", (1,), "x")
    assert FAULT.says[1:] in finding.detail
    assert finding.evidence == (
        {"kind": "ssh.client_banner", "value": True, "certainty": "proven", "frames": [[0, 4]]},
    )


def test_without_the_fault_it_does_not(fired):
    assert (
        fired(
            RULE,
            judged(row(), row(facts=FACTS, after=1, application="ssh"), row(faults=(Fault("other", "x"),), after=2)),
        )
        == []
    )
