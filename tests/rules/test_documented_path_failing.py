"""What should talk, and cannot."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from auditor.model.facts import Facts
from tests.rules.make import judged, row, undeclared

RULE = "documented-path-failing"
SYN = {
    "outcome": "attempt",
    "conn_state": "S0",
    "history": "S",
    "application": "none",
    "authentication_verdict": "not_applicable",
}
LATER = row(after=60, responder_ip="10.0.6.99", responder_port=1, paths=("other",))
"""So that the capture goes on for a while."""


def unanswered(after=0.0, **fields):
    return row(SYN, after=after, **fields)


def refused(after=0.0):
    return row(SYN, after=after, conn_state="REJ", history="Sr")


def hanging(**fields):
    return row(**{"history": "ShAD", "conn_state": "S1", "duration": 0.1, **fields})


def test_nothing_gets_through(fired):
    [finding] = fired(RULE, judged(unanswered(), unanswered(1), refused(2), LATER))
    assert finding.severity.word == "high"
    assert finding.subject == ("cell-bbs", "diego_cell", "diego_database", "8889", "tcp")
    assert finding.path == "cell-bbs"
    assert finding.title == "diego_cell cannot reach diego_database on 8889/tcp: 2 unanswered, 1 refused"
    assert "No connection succeeded." in finding.detail
    assert "Since 2023-11-14 22:13:20Z." in finding.detail
    assert finding.count == 3


def test_where_others_get_through_it_is_medium_and_tells_who_does_not_answer(fired):
    [finding] = fired(RULE, judged(row(), row(after=1), unanswered(2, responder_ip="10.0.6.11"), LATER))
    assert finding.severity.word == "medium"
    assert "2 other connections succeeded." in finding.detail
    assert "No connection to 10.0.6.11 succeeded." in finding.detail
    assert "from 10.0.4.20 (diego_cell/0)" in finding.detail


def test_a_handshake_that_hangs(fired):
    [finding] = fired(RULE, judged(hanging(), LATER))
    assert finding.title.endswith("1 accepted but not answered")
    given_up = hanging(history="ShADF", duration=5.0)
    assert len(fired(RULE, judged(given_up))) == 1


def test_a_server_that_does_not_greet(fired):
    policy = SimpleNamespace(by_id={"bbs-to-mysql": SimpleNamespace(application="MySQL")})
    idle = hanging(history="ShA", application="none", paths=("bbs-to-mysql",), responder_port=3306)
    table = judged(idle, LATER)
    assert len(fired(RULE, type(table)(table.connections, None, policy))) == 1
    assert fired(RULE, judged(hanging(history="ShA", application="none"), LATER)) == [], "a load balancer's probe"


def test_what_icmp_says_of_it(fired):
    facts = Facts({}, {"icmp.error": ("administratively prohibited, by 10.0.8.1",)}, (({"icmp.error": (7,)}, None),))
    [finding] = fired(RULE, judged(unanswered(facts=facts), LATER))
    assert "ICMP says: administratively prohibited, by 10.0.8.1 (1 connection)." in finding.detail
    assert {"icmp.error", "connection.failed"} == {each["kind"] for each in finding.evidence}


@pytest.mark.parametrize(
    "seen",
    [
        hanging(history="ShADr", duration=5.0),  # refused: authentication-rejected's business
        hanging(history="ShADd"),
        hanging(incomplete="one_way"),
        unanswered(59),  # the capture ends
        row(SYN, history="r"),  # nobody's opening was seen
        undeclared("attempt", SYN),
    ],
)
def test_it_is_quiet(fired, seen):
    assert fired(RULE, judged(seen, LATER)) == []


def test_an_ambient_path_fires_where_nothing_at_all_gets_through(fired):
    ambient = {"disposition": "ambient", "paths": ("gorouter-to-app-instances",)}
    assert fired(RULE, judged(unanswered(**ambient), LATER)) == [], "once may be chance"
    stale = [unanswered(1, **ambient), unanswered(2, **ambient), LATER]
    [finding] = fired(RULE, judged(*stale))
    assert finding.severity.word == "medium"
    assert fired(RULE, judged(row(ambient), *stale)) == []
