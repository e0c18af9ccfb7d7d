"""One cause, one finding."""

from __future__ import annotations

from auditor.model.judgement import Fault
from auditor.rules._explained import fold, told_apart
from tests.rules.make import CELL, TO_UAA, attempt, judged, row, undeclared


def test_what_one_overlay_explains_is_one_finding_of_no_alarm(fired):
    dns = {"responder_port": 8853, "sibling": "bosh-dns"}
    table = judged(
        undeclared("connection", CELL, TO_UAA, dns),
        undeclared("connection", CELL, dns, responder_role="nats", responder_ip="10.0.3.9"),
        undeclared("connection", CELL, dns, responder_role="nats", responder_ip="10.0.3.9", after=1),
        undeclared("connection", CELL, TO_UAA, responder_port=8443, sibling="routing"),
        undeclared("connection", CELL, TO_UAA, responder_port=22),
        attempt("connection", CELL, TO_UAA, dns),
    )
    found = fold([*fired("undeclared-connection", table), *fired("undeclared-attempt", table)])
    assert [(each.rule, each.severity.word, each.sibling, each.count) for each in found] == [
        ("undeclared-connection", "high", None, 1),
        ("undeclared-connection", "info", "bosh-dns", 3),
        ("undeclared-connection", "info", "routing", 1),
        ("undeclared-attempt", "info", "bosh-dns", 1),
    ]
    dns_finding = found[1]
    assert dns_finding.title == "3 connections between 2 pairs of roles that the shipped policy bosh-dns declares"
    assert "diego_cell to nats on 8853/tcp, diego_cell to uaa on 8853/tcp." in dns_finding.detail
    assert len(dns_finding.rows) == 3, "every connection is still named"
    assert dns_finding.evidence
    assert len({each.subject for each in found if each.rule == "undeclared-connection"}) == 3


def test_titles_that_are_alike_say_which_certificate_and_which_path(fired):
    expired = [Fault("certificate-expired", f"{about} is old", about=about) for about in ("client rep", "server bbs")]
    both = row(faults=tuple(expired))
    found = told_apart(fired("certificate-expired", judged(both)))
    assert [each.title.partition(" on 8889/tcp")[2] for each in found] == [
        " (the client's certificate rep)",
        " (the server's certificate bbs)",
    ]
    other = row(faults=(expired[0],), paths=("cell-locket",), after=1)
    titles = [each.title for each in told_apart(fired("certificate-expired", judged(both, other)))]
    assert len(set(titles)) == 3
    assert titles[-1].endswith("(path cell-locket; the client's certificate rep)")


def test_titles_that_differ_stay_as_they_are(fired):
    expired = Fault("certificate-expired", "it is old", about="client rep")
    found = fired("certificate-expired", judged(row(faults=(expired,)), row(faults=(expired,), responder_port=8891)))
    assert len(found) == 2
    assert told_apart(found) == found
