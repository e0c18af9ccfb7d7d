"""What leaves by a cell's address is listed by destination, and accuses nobody."""

from __future__ import annotations

import pytest

from auditor.rules._egress import block
from tests.rules.make import CELL, judged, row, undeclared

RULE = "cell-egress"


def egress(address, port=443, breach="cell_egress", **fields):
    there = {"responder_ip": address, "responder_role": None, "responder_instance": None, "responder_port": port}
    return undeclared(breach, CELL, there, disposition="ambient", **fields)


def test_one_line_for_each_block_of_destinations(fired):
    found = fired(
        RULE,
        judged(egress("203.0.113.7"), egress("203.0.113.9", 8443), egress("198.51.100.1"), egress("2001:db8:1::5")),
    )
    assert [(each.subject[2], each.count, each.severity.word) for each in found] == [
        ("198.51.100.0/24", 1, "info"),
        ("2001:db8:1::/64", 1, "info"),
        ("203.0.113.0/24", 2, "info"),
    ]
    assert found[2].subject == ("", "diego_cell", "203.0.113.0/24", "", "tcp")
    assert "443, 8443/tcp" in found[2].detail


@pytest.mark.parametrize(
    ("address", "expected"),
    [("203.0.113.7", "203.0.113.0/24"), ("2001:db8::1", "2001:db8::/64"), ("0.0.0.0", "0.0.0.0/24")],  # noqa: S104
)
def test_block(address, expected):
    assert block(address) == expected


def test_an_attempt_is_no_connection(fired):
    assert fired(RULE, judged(row(), egress("203.0.113.7", outcome="attempt"), undeclared("unknown_host"))) == []


def test_metadata_and_the_director_are_told_apart(fired):
    found = fired(
        RULE,
        judged(
            egress("169.254.169.254", 80, breach="cell_to_metadata"),
            egress("10.0.0.6", 25555, breach="cell_to_director"),
            egress("169.254.169.254", 53),
        ),
    )
    assert [(each.severity.word, each.title) for each in found] == [
        ("info", "diego_cell opens connections to 169.254.169.0/24, outside the platform"),
        ("medium", "diego_cell asks the cloud's metadata service at 169.254.169.254"),
        ("medium", "diego_cell reaches 10.0.0.6 on 25555/tcp, a port of BOSH Directors"),
    ]
    assert len({each.subject for each in found}) == 3


def test_a_vm_of_another_deployment_is_not_outside_of_everything(fired):
    [known] = fired(RULE, judged(egress("10.0.9.5", responder_instance="redis/0", responder_role="service_instance")))
    assert known.title == "diego_cell opens connections to 10.0.9.0/24, of another deployment"
    [nobody] = fired(RULE, judged(egress("203.0.113.7")))
    assert nobody.title == "diego_cell opens connections to 203.0.113.0/24, outside the platform"
