"""The switches of a foundation that connections show."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from auditor.policy.loader import load_policy
from auditor.policy.policy import Policy
from auditor.policy.switches import learn

SENT = {"client_certificate": "inferred_sent"}
USERS, NONE = {"info": True, "auth_required": True}, {"info": True, "auth_required": False}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(["tas"])


def seen(path: str, application: str = "tls", role: str = "nats", **more: Any) -> dict[str, Any]:
    row = {
        "paths": (path,), "application": application, "responder_role": role, "disposition": "documented", "outcome": "established", "tls": None,
        "authentication_verdict": "verified",
        "nats": None,
    }  # fmt: skip
    return {**row, **more}


def told(policy: Policy, *rows: dict[str, Any]) -> dict[str, str]:
    audit: Any = SimpleNamespace(connections=pd.DataFrame(list(rows)).astype(object))
    return {each.name: each.value for each in learn(audit, policy)}


NATS = "route-emitter-to-nats"


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        ([seen(NATS, tls=SENT, nats=USERS)] * 3, "mutual_tls_and_password"),
        ([seen(NATS, tls=SENT, nats=NONE)] * 3, "mutual_tls"),
        ([seen(NATS, tls=SENT, nats=USERS), seen(NATS, tls={"client_certificate": "not_asked"}, nats=USERS)], "tls_and_password"),
        ([seen(NATS, tls=SENT, nats=USERS), seen(NATS, "nats", nats=USERS)], "password"),
    ],
)  # fmt: skip
def test_what_nats_asks_for_is_the_least_that_was_served(policy: Policy, rows: list[Any], value: str) -> None:
    assert told(policy, *rows) == {"nats": value}


def test_the_middle_of_a_session_tells_nothing_of_nats(policy: Policy) -> None:
    assert told(policy, seen(NATS, tls={"midstream": "both", "client_certificate": "unknown"})) == {}


def test_database_and_its_protection(policy: Policy) -> None:
    clear, inside = seen("bbs-to-mysql", "mysql", "mysql_proxy"), seen("bbs-to-mysql", "mysql", "mysql_proxy", tls={"version": "TLS 1.3"})  # fmt: skip
    assert told(policy, clear, inside) == {"database": "internal", "mysql": "password"}
    assert told(policy, inside) == {"database": "internal", "mysql": "tls_and_password"}


def test_networking_and_blobstore(policy: Policy) -> None:
    vxlan = seen("vxlan-between-cells", "unknown", "diego_cell", disposition="ambient")
    store = seen("rep-to-blobstore", "https", "blobstore", tls=SENT)
    assert told(policy, vxlan, store) == {"networking": "silk", "blobstore": "external"}
    assert told(policy, seen("router-to-container", "http", "app_container")) == {"networking": "external"}


def test_attempts_and_undeclared_connections_tell_nothing(policy: Policy) -> None:
    assert told(policy, seen(NATS, "none", outcome="attempt"), seen(NATS, "nats", disposition="undeclared")) == {}


@pytest.mark.parametrize("verdict", ["violated", "rejected"])
def test_what_is_accused_or_turned_away_tells_nothing(policy: Policy, verdict: str) -> None:
    inside = [seen(NATS, tls=SENT, nats=USERS)] * 3
    assert told(policy, *inside, seen(NATS, "nats", nats=USERS, authentication_verdict=verdict)) == {
        "nats": "mutual_tls_and_password"
    }
