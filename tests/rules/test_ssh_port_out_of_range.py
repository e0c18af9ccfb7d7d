"""SSH from a brain to a cell's own sshd."""

from __future__ import annotations

from tests.rules.make import BRAIN, TO_CELL, judged, miss, row, undeclared

RULE = "ssh-port-out-of-range"
SSH = {"application": "ssh", "near_miss": miss("brain-app", "port", "documented are host ports 61001-65534")}


def test_ssh_on_2222_of_a_cell(fired):
    [finding] = fired(RULE, judged(undeclared("ssh_port", BRAIN, TO_CELL, SSH, responder_port=2222)))
    assert finding.subject == ("brain-app", "diego_brain", "diego_cell", "2222", "tcp")
    assert finding.title == "SSH from diego_brain to diego_cell on 2222/tcp, outside 61001-65534"
    assert "port 2222 of a cell is outside this range" in finding.detail


def test_ssh_inside_the_range_is_documented_and_a_plain_undeclared_port_is_another_rule(fired):
    fine = row(BRAIN, TO_CELL, application="ssh", responder_port=61_010, paths=("brain-app",))
    assert fired(RULE, judged(fine, undeclared("port", BRAIN, TO_CELL, responder_port=2222))) == []


def test_a_pool_that_was_moved_is_one_finding(fired):
    rows = [
        undeclared("ssh_port", BRAIN, TO_CELL, SSH, responder_port=port) for port in (40_000, 40_007, 40_001, 40_100)
    ]
    one = undeclared("ssh_port", BRAIN, TO_CELL, SSH, responder_port=22)
    moved, own = fired(RULE, judged(*rows, one))
    assert own.subject[3] == "22"
    assert own.count == 1
    assert moved.title == "SSH from diego_brain to diego_cell on 4 ports from 40000 to 40100, outside 61001-65534"
    assert moved.count == 4
    assert "4 ports from 40000 to 40100 of cells are outside this range" in moved.detail
    assert "block these ports" in moved.remediation


def test_three_ports_are_three_findings(fired):
    rows = [undeclared("ssh_port", BRAIN, TO_CELL, SSH, responder_port=port) for port in (2222, 40_001, 40_100)]
    assert len(fired(RULE, judged(*rows))) == 3
