"""certificate-identity, fired and not fired."""

from __future__ import annotations

from dataclasses import replace

from auditor.model.facts import Facts
from auditor.model.judgement import CONVENTION, Fault
from tests.rules.make import judged, row

RULE = "certificate-identity"
FAULT = Fault(RULE, "the certificate belongs to Auctioneer", kinds=("tls.client_certificates",), about="x")
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


def test_peers_are_evidence(fired):
    unlike = replace(FAULT, about="client peers x", beside=("c0",))
    theirs = Facts({"tls.client_certificates": ("cd" * 32,)}, marks=(({"tls.client_certificates": (9,)}, None),))
    [finding] = fired(RULE, judged(row(facts=theirs), row(faults=(unlike,), facts=FACTS, after=1)))
    assert finding.title.startswith("A certificate unlike its peers' was shown between diego_cell and diego_database")
    assert [(each["kind"], each["value"], each["frames"]) for each in finding.evidence] == [
        ("tls.client_certificates", ("ab" * 32,), [[0, 4]]),
        ("peer.tls.client_certificates", ("cd" * 32,), [[0, 9]]),
    ]
    assert finding.rows == (1,)


def test_peers_that_are_not_in_the_report_are_no_evidence(fired):
    unlike = replace(FAULT, about="client key", beside=("gone",))
    [finding] = fired(RULE, judged(row(faults=(unlike,), facts=FACTS)))
    assert [each["kind"] for each in finding.evidence] == ["tls.client_certificates"]


def test_what_is_convention_is_told_once(fired):
    cells, brains = (Fault(CONVENTION, f"{role} calls itself {role}.example") for role in ("cell", "brain"))
    rows = [row(faults=(cells,), after=k) for k in range(3)] + [row(faults=(brains, cells), after=4), row(after=5)]
    [finding] = fired(RULE, judged(*rows))
    assert (finding.severity.word, finding.count, finding.rows) == ("info", 4, (0, 1, 2, 3))
    assert "2 certificate names are this deployment's own" in finding.title
    assert "cell calls itself cell.example (4), brain calls itself brain.example (1)." in finding.detail
    [again] = fired(RULE, judged(rows[0]))
    assert again.subject == finding.subject
