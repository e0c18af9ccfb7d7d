"""One cause, one finding."""

from __future__ import annotations

from auditor.rules._explained import fold
from tests.rules.make import CELL, TO_UAA, attempt, judged, undeclared


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
