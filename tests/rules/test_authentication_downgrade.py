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


def test_of_four_refused_attempts_each_belongs_to_what_went_on_after_it(fired):
    """Four cells fail at 4224; two go on at 4222, two at 4223. Neither of the two fallbacks takes the attempts of the other."""
    fell = [Fault(RULE, f"TLS was tried in connection {k} and failed; it went on without it") for k in range(4)]
    cells = [{"originator_ip": f"10.0.4.2{k}", "originator_instance": f"diego_cell/{k}"} for k in range(4)]
    tried = [row(cells[k], faults=(fell[k],), responder_port=4224, authentication_verdict="rejected") for k in range(4)]
    went_on = [
        row(cells[k], faults=(fell[k],), responder_port=4222 + k // 2, application="nats", after=1) for k in range(4)
    ]
    found = fired(RULE, judged(*tried, *went_on))
    assert [(each.rows, each.count, each.subject[3]) for each in found] == [
        ((0, 1, 4, 5), 4, "4222"),
        ((2, 3, 6, 7), 4, "4223"),
    ]
    for each, mine, others in ((found[0], "01", "23"), (found[1], "23", "01")):
        assert "Before: 2 failed attempts with TLS on 4224/tcp." in each.detail
        assert all(f"connection {k} " in each.detail for k in mine)
        assert not any(f"connection {k} " in each.detail for k in others)


def test_an_attempt_that_nothing_followed_is_in_no_fallback(fired):
    fell = Fault(RULE, "TLS was tried in connection a and failed")
    tried = row(faults=(fell,), authentication_verdict="rejected")
    refused = row(faults=(Fault("authentication-rejected", "an alert"),), authentication_verdict="rejected", after=1)
    [finding] = fired(RULE, judged(tried, refused, row(faults=(fell,), after=2)))
    assert finding.rows == (0, 2)
