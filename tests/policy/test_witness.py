"""What is said of connections that no path declares: who was let in, by what, and who was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import auditor
from auditor.model.judgement import Verdict
from auditor.policy._factors import Wanted, judge
from auditor.policy._observation import Observation
from auditor.policy._tls import ACCEPTED, NOT_ASKED, REFUSED, SENT, TlsReading
from auditor.policy.witness import witness

RULES = Path(__file__).resolve().parents[2] / "captures" / "rules"


def said(seen: Observation, tls: TlsReading | None = None, outcome: str = "unknown"):
    return witness(seen, judge(seen, Wanted("none"), tls), tls, outcome)


NATS = {"nats.info": True, "nats.auth_required": True, "nats.connect": True, "nats.user": True, "nats.pass": True}


@pytest.mark.parametrize(
    ("application", "facts", "entered", "says"),
    [
        ("nats", {**NATS, "nats.user_name": "router", "nats.pong": True}, True, "CONNECT with a user and a password in the clear, as router: the server answered with PONG"),
        ("nats", {**NATS, "nats.pong": True}, True, "CONNECT with a user and a password in the clear: the server answered with PONG"),
        ("nats", {**NATS, "nats.error": "authorization_violation"}, False, "-ERR"),
        ("http", {"http.method": "POST", "http.authorization": ("none",), "http.statuses": (200,)}, True, "POST in the clear without credentials: the server answered with status 200"),
        ("http", {"http.method": "GET", "http.authorization": ("bearer",), "http.statuses": (401,)}, False, "a bearer token"),
        ("mysql", {"mysql.plugin": "mysql_native_password", "mysql.auth_response": "empty", "mysql.outcome": "ok"}, True, "without a password"),
        ("ssh", {"ssh.login": "accepted", "ssh.login_says": "a session followed"}, True, "an SSH login"),
    ],
)  # fmt: skip
def test_logins_in_the_clear(application, facts, entered, says):
    made = said(Observation(facts, application, answered=True))
    assert made.entered is entered
    assert says in made.says
    assert made.verdict is Verdict.NOT_APPLICABLE
    assert made.outcome == ("served" if entered else "refused")


@pytest.mark.parametrize("application", ["unknown", "none", "dns", "ftp"])
def test_an_answer_that_is_no_login_lets_nobody_in(application):
    made = said(Observation({}, application, answered=True))
    assert (made.entered, made.outcome, made.says) == (False, "unknown", "")


CHAIN = {"tls.client_certificates": ("0ca7f8ec" * 8,)}
TAKEN = TlsReading("TLS 1.2", SENT, proof=True, outcome=ACCEPTED, done=True, doubt=True, why="the server answered")


@pytest.mark.parametrize(
    ("reading", "outcome", "entered", "confidence"),
    [
        (TAKEN, "unknown", True, "high"),
        (replace(TAKEN, clear=False), "unknown", True, "medium"),
        (replace(TAKEN, misfit=True), "unknown", False, None),
        (replace(TAKEN, proof=False), "unknown", False, None),
        (replace(TAKEN, outcome=REFUSED), "refused", False, None),
        (replace(TAKEN, certificate=NOT_ASKED, doubt=False), "served", True, "high"),
        (replace(TAKEN, certificate=NOT_ASKED), "unknown", False, None),
    ],
)
def test_certificates(reading, outcome, entered, confidence):
    made = said(Observation(CHAIN, "tls"), reading, outcome)
    assert (made.entered, made.confidence) == (entered, confidence)
    assert made.outcome == ("served" if entered else outcome)
    if reading.certificate == SENT:
        assert "client certificate 0ca7f8ec0ca7f8ec…" in made.says


def test_a_stranger_who_was_served_is_critical_and_the_finding_says_by_what():
    report = auditor.audit(RULES / "stolen-credential" / "fires.pcap", inventory=RULES / "inventory.yml")
    found = {each["rule"]: each for each in report.findings.to_dict("records")}
    stranger = found["unknown-host"]
    assert stranger["severity"] == "critical"
    assert stranger["title"].endswith("and got access")
    assert "whose key it proved to hold, accepted by the server" in stranger["detail"]
    row = report.connections.set_index("id").loc[stranger["connections"][0]]
    assert row["authentication_verdict"] == "not_applicable"
    assert (row["authentication_outcome"], row["authentication_observed"]) == ("served", "mutual_tls")
    assert any(each["kind"] == "tls.certificate_verify" and each["frames"] for each in row["authentication_evidence"])


def test_a_stranger_who_only_knocks_stays_high():
    report = auditor.audit(RULES / "undeclared-attempt" / "fires.pcap", inventory=RULES / "inventory.yml")
    assert set(report.findings["severity"]) == {"medium"}
