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


def test_an_attempt_on_one_port_and_what_went_on_at_another_are_one_finding(fired):
    """A client of NATS fails at 4224 and goes on at 4222: one fallback, told of where it went on."""
    fell = Fault(
        RULE, "TLS was tried in connection a and failed; 0.1 s later connection b went on without it on port 4222"
    )
    tried = row(faults=(fell,), responder_port=4224, authentication_verdict="rejected")
    went_on = row(faults=(fell,), responder_port=4222, after=1, application="nats")
    [finding] = fired(RULE, judged(tried, went_on))
    assert (finding.rows, finding.count, finding.subject[3]) == ((0, 1), 2, "4222")
    assert finding.title.endswith("on 4222/tcp")
    alone = fired(RULE, judged(tried))  # a table that lacks the other half still tells of this one
    assert [each.rows for each in alone] == [(0,)]
