"""Logins inside TLS at real servers: what the wire leaves open, and what keys show of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

import auditor

FOLDER = Path(__file__).resolve().parents[2] / "captures" / "inside"
pytestmark = pytest.mark.tshark


@cache
def rows(name: str, *, keys: bool) -> tuple[dict[str, Any], ...]:
    """Connections in order of start, each with the rules of its findings."""
    report = auditor.audit(
        FOLDER / f"{name}.pcap", inventory=FOLDER / "inventory.yml", keylog=FOLDER / f"{name}.keys" if keys else None
    )
    assert report.warnings == ()
    rule_of = dict(zip(report.findings["id"], report.findings["rule"], strict=True))
    found = report.connections.sort_values("start").to_dict("records")
    return tuple(row | {"rules": {rule_of[each] for each in row["findings"]}} for row in found)


def verdicts(name: str, *, keys: bool) -> list[str]:
    return [str(row["authentication_verdict"]) for row in rows(name, keys=keys)]


RIGHT, WRONG, NONE = "verified", "rejected", "violated"


def test_nats_on_the_wire_is_told_as_refused_and_the_kind_of_login_stays_hidden():
    """The server says -ERR inside TLS and closes: that must not pass for a login. What kind one is that it took does not show (contract, rule 6)."""
    assert verdicts("nats", keys=False) == ["unverifiable", "rejected", "rejected", "unverifiable"] * 2


def test_nats_with_keys_is_told_by_connect_and_its_answer(tshark):
    # The last server has no users: what it did with the credentials that it was sent does not show.
    assert verdicts("nats", keys=True) == ["verified", "rejected", "rejected", "unverifiable"] * 2
    right, wrong, _, open_to_all = rows("nats", keys=True)[4:]
    assert (right["application"], right["authentication_observed"]) == ("nats", "mutual_tls+basic")
    assert right["rules"] == set()
    assert wrong["rules"] == {"authentication-rejected"}
    assert open_to_all["rules"] == {"unverifiable-authentication"}
    assert "does not ask for authentication" in open_to_all["authentication_factors"][0]["says"]
    assert right["nats"]["connect"] is True
    assert right["nats"]["auth_required"] is True
    assert right["tls"]["client_certificate"] == "sent"


def test_mysql_on_the_wire_is_hidden_by_design():
    assert verdicts("mysql", keys=False) == ["unverifiable"] * 6
    assert not any(row["rules"] - {"unverifiable-authentication"} for row in rows("mysql", keys=False))


def test_mysql_with_keys_is_told_by_the_login_and_its_answer(tshark):
    assert verdicts("mysql", keys=True) == ["verified", "violated", "rejected"] * 2
    right, empty, wrong = rows("mysql", keys=True)[3:]
    assert right["authentication_observed"] == "tls+mysql_native_password"
    assert (right["mysql"]["plugin"], right["mysql"]["ssl_request"], right["mysql"]["outcome"]) == (
        "mysql_native_password",
        True,
        "ok",
    )
    assert (empty["rules"], wrong["rules"]) == ({"missing-credentials"}, {"authentication-rejected"})


def test_a_flight_of_the_server_that_is_longer_than_the_first_bytes_hides_nothing(tshark):
    """With 120 authorities in the request the server's Finished comes behind the first bytes that are kept; records are followed to it."""
    closed, opened = rows("authorities", keys=False), rows("authorities", keys=True)
    by_port = {row["originator_port"]: row for row in closed}
    told = {port: (row["authentication_verdict"], row["tls"]["client_certificate"]) for port, row in by_port.items()}
    assert told[41_001] == ("verified", "sent")
    assert told[41_000] == ("violated", "empty")
    assert told[41_003] == ("inferred", "inferred_sent")
    assert told[41_002][1] == "inferred_empty"
    assert not any("longer than" in row["authentication_factors"][0]["says"] for row in closed)
    with_keys = {row["originator_port"]: row["authentication_verdict"] for row in opened}
    assert with_keys[41_001] == with_keys[41_003] == "verified"
    assert {row["tls"]["client_certificate"] for row in opened} == {"sent", "empty"}


@pytest.mark.parametrize("name", ["nats", "mysql"])
def test_evidence_of_what_was_inside_names_its_frames_and_no_secret(name, tshark):
    for row in rows(name, keys=True):
        shown = [each for each in row["authentication_evidence"] if each["kind"].startswith(f"{name}.")]
        assert shown
        assert all(each["frames"] for each in shown)
        assert "this-is-" not in repr(row)
