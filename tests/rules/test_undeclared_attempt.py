"""Tried, and got nothing."""

from __future__ import annotations

from tests.rules.make import CELL, TO_UAA, attempt, judged, miss, row, undeclared

RULE = "undeclared-attempt"


def test_refused_and_unanswered_attempts_on_one_service_are_one_finding(fired):
    near = miss("brain-uaa", "role", "documented for diego_brain")
    refused = attempt("connection", CELL, TO_UAA, responder_port=8443, near_miss=near)
    unanswered = attempt(
        "connection", CELL, TO_UAA, responder_port=8443, near_miss=near, conn_state="S0", history="S", after=2
    )
    [finding] = fired(RULE, judged(refused, unanswered))
    assert finding.severity.word == "medium"
    assert finding.subject == ("brain-uaa", "diego_cell", "uaa", "8443", "tcp")
    assert finding.title == "diego_cell tried uaa on 8443/tcp without a connection"
    assert "2 attempts from 10.0.4.20" in finding.detail
    assert "1 refused and 1 unanswered." in finding.detail
    assert "It would have been undeclared-connection." in finding.detail


def test_one_dead_target_dialled_all_day_is_no_sweep_and_stays_here(fired):
    seen = [attempt("connection", CELL, TO_UAA, responder_port=8443, after=at) for at in range(500)]
    [finding] = fired(RULE, judged(*seen))
    assert finding.count == 500
    assert fired("port-sweep", judged(*seen)) == []


def test_what_a_cell_fails_to_reach_outside_is_the_applications_own_business(fired):
    out = {"responder_ip": "203.0.113.5", "responder_role": None}
    tried = undeclared("cell_egress", CELL, out, disposition="ambient", outcome="attempt", conn_state="S0", history="S")
    assert fired(RULE, judged(tried)) == []


def test_a_platform_vm_that_fails_to_reach_the_outside_is_told(fired):
    [finding] = fired(RULE, judged(attempt("control_plane_egress", responder_ip="203.0.113.5", responder_role=None)))
    assert "It would have been control-plane-egress." in finding.detail


def test_a_reset_whose_opening_was_not_captured_is_no_attempt(fired):
    seen = judged(attempt("connection", CELL, TO_UAA, responder_port=8443, history="r"))
    assert fired(RULE, seen) == []
    [finding] = fired("capture-incomplete", seen)
    assert (finding.severity.word, finding.confidence) == ("info", "low")
    assert "the packets that they answer were not captured" in finding.title


def test_documented_attempts_and_connections_do_not_fire(fired):
    down = row(outcome="attempt", conn_state="S0", authentication_verdict="not_applicable")
    assert fired(RULE, judged(row(), down, undeclared("connection"))) == []
