"""Two known VMs talk, and nobody documented it."""

from __future__ import annotations

from tests.rules.make import CELL, TO_UAA, judged, miss, row, undeclared

RULE = "undeclared-connection"
NEAR = miss("brain-uaa", "role", "the path is documented for diego_brain, not for diego_cell")


def test_a_cell_at_the_uaa_is_one_finding_however_often(fired):
    seen = [undeclared("connection", CELL, TO_UAA, responder_port=8443, near_miss=NEAR, after=at) for at in range(7)]
    [finding] = fired(RULE, judged(row(after=-1), *seen))
    assert finding.rows == (1, 2, 3, 4, 5, 6, 7)
    assert finding.count == 7
    assert finding.subject == ("brain-uaa", "diego_cell", "uaa", "8443", "tcp")
    assert finding.path == "brain-uaa"
    assert finding.severity.word == "high"
    assert finding.confidence == "high"
    assert finding.title == "diego_cell talks to uaa on 8443/tcp; no documented path allows this"
    assert "7 connections from 10.0.4.20 (diego_cell/0) to 10.0.3.8 (uaa/0) on 8443/tcp (tls)." in finding.detail
    assert "The closest documented path differs in its role: brain-uaa: the path is documented for" in finding.detail


def test_evidence_is_bounded_and_names_capture_and_frame(fired):
    seen = [undeclared("connection", CELL, TO_UAA, after=at) for at in range(7)]
    [finding] = fired(RULE, judged(*seen))
    [evidence] = finding.evidence
    assert evidence["frames"] == [[0, 1], [0, 2], [0, 3], [0, 4], [0, 5]]
    assert evidence["certainty"] == "proven"


def test_a_second_cell_is_the_same_fact_and_another_port_is_not(fired):
    other_cell = {**CELL, "originator_ip": "10.0.4.21", "originator_instance": "diego_cell/1"}
    found = fired(
        RULE,
        judged(
            undeclared("connection", CELL, TO_UAA, responder_port=8443),
            undeclared("connection", other_cell, TO_UAA, responder_port=8443),
            undeclared("connection", CELL, TO_UAA, responder_port=8080),
        ),
    )
    assert [(each.subject[3], each.count) for each in found] == [("8080", 1), ("8443", 2)]
    assert "10.0.4.21 (diego_cell/1)" in found[1].detail


def test_host_ports_are_one_service(fired):
    seen = [undeclared("connection", TO_UAA, responder_port=port) for port in (61_001, 61_777, 65_534)]
    outside = [undeclared("connection", TO_UAA, responder_port=port) for port in (61_000, 65_535)]
    found = fired(RULE, judged(*seen, *outside))
    assert {(each.subject[3], each.count) for each in found} == {("61001-65534", 3), ("61000", 1), ("65535", 1)}


def test_an_overlay_that_would_explain_it_is_named(fired):
    [finding] = fired(RULE, judged(undeclared("connection", CELL, TO_UAA, sibling="bosh-dns")))
    assert finding.sibling == "bosh-dns"
    assert "--policy bosh-dns" in finding.detail
    assert finding.remediation.startswith(
        "If the platform has what the policy bosh-dns declares, audit with --policy bosh-dns. Else: find"
    )


def test_a_guessed_direction_lowers_the_confidence(fired):
    [guessed] = fired(RULE, judged(undeclared("connection", CELL, TO_UAA, direction_by="guess")))
    [listened] = fired(RULE, judged(undeclared("connection", CELL, TO_UAA, direction_by="listener")))
    assert (guessed.confidence, listened.confidence) == ("low", "medium")


def test_a_transport_without_ports_has_no_service_port(fired):
    [finding] = fired(RULE, judged(undeclared("connection", CELL, TO_UAA, transport="icmp", responder_port=None)))
    assert finding.subject[3:] == ("", "icmp")
    assert "on icmp" in finding.title


def test_documented_and_attempted_traffic_does_not_fire(fired):
    quiet = [
        row(),
        undeclared("port"),
        undeclared("attempt", outcome="attempt", would_be="connection"),
        row(disposition="ambient", paths=()),
        row(disposition="out_of_scope", paths=()),
    ]
    assert fired(RULE, judged(*quiet)) == []
    assert fired(RULE, judged()) == []
