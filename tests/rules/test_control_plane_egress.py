"""A platform VM that is no cell calls out."""

from __future__ import annotations

from tests.rules.make import BRAIN, judged, row, undeclared

RULE = "control-plane-egress"
OUT = {"responder_ip": "203.0.113.66", "responder_role": None, "responder_instance": None, "responder_port": 443}


def egress(*parts, breach="control_plane_egress", **fields):
    return undeclared(breach, BRAIN, OUT, *parts, **fields)


def test_one_finding_for_each_block_with_ports_and_bytes(fired):
    shell = {"responder_ip": "203.0.113.9", "responder_port": 4444, "application": "unknown"}
    [finding] = fired(RULE, judged(egress(originator_bytes=180_400), egress(shell, originator_bytes=600)))
    assert finding.severity.word == "high"
    assert finding.subject == ("", "diego_brain", "203.0.113.0/24", "", "tcp")
    assert (
        finding.title == "diego_brain calls 203.0.113.66, 203.0.113.9 on 443, 4444/tcp, outside every platform network"
    )
    assert "176.8 KiB went out, 2.0 KiB came in" in finding.detail


def test_what_every_bosh_vm_calls_is_low_and_apart(fired):
    names = {"responder_port": 53, "transport": "udp", "application": "dns"}
    found = fired(RULE, judged(egress(), egress(names, breach="infrastructure_egress")))
    assert [(each.severity.word, each.subject[3:]) for each in found] == [
        ("high", ("", "tcp")),
        ("low", ("infrastructure", "udp")),
    ]


def test_much_that_leaves_on_the_port_of_a_question_is_high(fired):
    """Time and names are asked in a few bytes, and answered with as many."""
    time = {"responder_port": 123, "transport": "udp", "application": "unknown"}
    for sent, came, severity in ((428_400, 0, "high"), (428_400, 400_000, "low"), (9_000, 0, "low")):
        gone = {"originator_bytes": sent, "responder_bytes": came}
        [finding] = fired(RULE, judged(egress(time, gone, breach="infrastructure_egress")))
        assert finding.severity.word == severity
        assert ("much more than such a service receives" in finding.detail) is (severity == "high")


def test_attempts_and_cells_do_not_fire(fired):
    tried = undeclared("attempt", BRAIN, OUT, outcome="attempt", would_be="control_plane_egress")
    cell = undeclared("cell_egress", OUT, disposition="ambient")
    assert fired(RULE, judged(row(), tried, cell, undeclared("connection"))) == []
