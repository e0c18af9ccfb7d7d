"""The right roles on the wrong port."""

from __future__ import annotations

from tests.rules.make import CELL, judged, miss, row, undeclared

RULE = "undeclared-port"
TO_CC = {"responder_ip": "10.0.2.5", "responder_role": "cloud_controller", "responder_port": 9022}
NEAR = miss("cell-cc", "port", "documented is 9023")


def test_the_plaintext_twin_of_a_documented_port(fired):
    [finding] = fired(RULE, judged(row(), undeclared("port", CELL, TO_CC, near_miss=NEAR, application="http")))
    assert finding.subject == ("cell-cc", "diego_cell", "cloud_controller", "9022", "tcp")
    assert finding.title == "diego_cell reaches cloud_controller on 9022/tcp, which is not the documented port"
    assert "differs in its port: cell-cc: documented is 9023." in finding.detail
    assert "(http)" in finding.detail


def test_the_same_port_over_another_transport_is_another_finding(fired):
    found = fired(
        RULE,
        judged(
            undeclared("port", near_miss=miss("cell-bbs", "transport", "documented is tcp"), transport="udp"),
            undeclared("port", CELL, TO_CC, near_miss=NEAR),
        ),
    )
    assert [each.subject[4] for each in found] == ["udp", "tcp"]
    assert found[0].title == "diego_cell reaches diego_database on 8889/udp, which is not the documented transport"


def test_other_breaches_do_not_fire(fired):
    assert fired(RULE, judged(row(), undeclared("connection"), undeclared("ssh_port"))) == []
