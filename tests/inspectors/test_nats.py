"""NATS conversations."""

from __future__ import annotations

import json
import ssl
from typing import Any

import pytest

from auditor.inspectors._examine import Examiner
from tests.inspectors.handshakes import contexts, shake
from tests.inspectors.heads import says

PASSWORD = "ducks-cross-the-river"


def info(**fields: Any) -> bytes:
    return b"INFO " + json.dumps({"server_id": "S1", "version": "2.10.1", **fields}).encode() + b" \r\n"


def connect(**fields: Any) -> bytes:
    return b"CONNECT " + json.dumps({"verbose": False, **fields}).encode() + b"\r\n"


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner()


def test_login_that_is_accepted(examiner: Examiner) -> None:
    application, client, facts = says(
        examiner,
        [(2, connect(user="nats", **{"pass": PASSWORD})), (3, b"PING\r\n"), (5, b"SUB a 1\r\n")],
        [(1, info(auth_required=True)), (4, b"PONG\r\n"), (6, b"MSG a 1 5\r\nhello\r\n")],
    )
    assert (application, client) == ("nats", 0)
    assert facts["nats.auth_required"] is True
    assert facts["nats.tls_required"] is False
    assert facts["nats.user"] is True and facts["nats.pass"] is True and facts["nats.token"] is False
    assert facts["nats.pong"] is True and facts["nats.server_traffic"] is True
    assert "nats.error" not in facts and "nats.ok" not in facts
    assert facts["nats.server_version"] == "2.10.1"
    assert facts.frames("nats.auth_required") == (1,)
    assert facts.frames("nats.pass") == (2,)
    assert facts.frames("nats.pong") == (4,)
    assert PASSWORD not in repr(facts)


def test_login_that_is_refused(examiner: Examiner) -> None:
    _, _, facts = says(
        examiner,
        connect(user="nats", **{"pass": PASSWORD}),
        info(auth_required=True) + b"-ERR 'Authorization Violation'\r\n",
    )
    assert facts["nats.error"] == "authorization_violation"
    assert "nats.server_traffic" not in facts


def test_server_that_checks_nothing_although_a_password_came(examiner: Examiner) -> None:
    _, _, facts = says(examiner, connect(user="nats", **{"pass": PASSWORD}) + b"PING\r\n", info() + b"+OK\r\nPONG\r\n")
    assert facts["nats.auth_required"] is False
    assert facts["nats.pass"] is True
    assert facts["nats.ok"] is True


def test_no_credentials(examiner: Examiner) -> None:
    _, _, facts = says(examiner, connect() + b"PING\r\n", info() + b"PONG\r\n")
    assert not any(facts[f"nats.{word}"] for word in ("user", "pass", "token", "jwt", "nkey"))


def test_ping_of_the_server_is_no_acceptance(examiner: Examiner) -> None:
    _, _, facts = says(examiner, connect(user="u"), info(auth_required=True) + b"PING\r\n")
    assert "nats.server_traffic" not in facts


def test_tls_after_info(examiner: Examiner) -> None:
    told = shake(*contexts(ssl.TLSVersion.TLSv1_2, require=True))
    server = [
        (100, info(auth_required=True, tls_required=True, tls_verify=True)),
        *((110 + f, d) for f, d in told.server),
    ]
    client = [(110 + f, d) for f, d in told.client]
    application, side, facts = says(examiner, client, server)
    assert application == "nats"
    assert side == 0
    assert facts["nats.tls_required"] is True and facts["nats.tls_verify"] is True
    assert facts["tls.client_certificate"] == "sent"
    assert facts["tls.version"] == "TLS 1.2"
    assert "nats.connect" not in facts
    assert facts.frames("nats.info") == (100,)
    assert facts.frames("tls.version") == (110 + told.server[0][0],)


def test_client_that_speaks_first(examiner: Examiner) -> None:
    application, client, facts = says(examiner, connect(auth_token=PASSWORD), b"")
    assert (application, client) == ("nats", 0)
    assert facts["nats.token"] is True
    assert PASSWORD not in repr(facts)


def test_server_alone_and_swapped_sides(examiner: Examiner) -> None:
    application, client, facts = says(examiner, info(auth_required=True), b"")
    assert (application, client) == ("nats", 1)
    assert facts["nats.auth_required"] is True


def test_capture_cut_short(examiner: Examiner) -> None:
    application, _, facts = says(examiner, b"", info(auth_required=True)[:-20])
    assert application == "nats"
    assert "nats.cut" in facts and "nats.auth_required" not in facts


def test_malformed_line_keeps_what_came_before(examiner: Examiner) -> None:
    _, _, facts = says(examiner, b"\x00\x01 what\r\n", info(auth_required=True))
    assert facts["nats.auth_required"] is True
    assert facts["nats.malformed"] == "no operation of NATS"


def test_info_of_something_else_is_not_nats(examiner: Examiner) -> None:
    assert says(examiner, b"hello\r\n", b"INFO server ready\r\n")[0] == "unknown"


def test_permission_errors_name_no_subject(examiner: Examiner) -> None:
    facts = says(examiner, connect(), info() + b"-ERR 'Permissions Violation for Publish to \"secret.subject\"'\r\n")[2]
    assert facts["nats.error"] == "permissions_violation"
    assert "secret" not in repr(facts)


def test_info_behind_connect_says_whether_the_server_has_users(examiner: Examiner) -> None:
    """A server whose clients may name no user does not ask in its first INFO; servers since 2.12 say behind CONNECT what holds."""
    client = [(2, connect(user="u", **{"pass": "p"}) + b"PING\r\n")]
    for fields, asks in (({"auth_required": True}, True), ({}, False)):
        server = [(1, info()), (3, info(connect_info=True, **fields) + b"PONG\r\n")]
        facts = says(examiner, client, server)[2]
        assert (facts["nats.auth_required"], facts["nats.auth_required_after"]) == (False, asks)
    assert "nats.auth_required_after" not in says(examiner, client, [(1, info()), (3, b"PONG\r\n")])[2]


def test_leaf_node_in_frames_of_s2(examiner: Examiner) -> None:
    def framed(data: bytes) -> bytes:
        return b"\xff\x06\x00\x00S2sTwO\x01" + (len(data) + 4).to_bytes(3, "little") + b"crc." + data

    client = [
        (2, info(compression="s2_auto")),
        (4, framed(connect(user="leaf", **{"pass": "p"}))),
        (6, framed(b"LS+ a\r\nPING\r\n")),
    ]
    server = [(1, info(auth_required=True)), (3, framed(info(auth_required=True))), (7, framed(b"PONG\r\n"))]
    facts = says(examiner, client, server)[2]
    assert facts["nats.user"] and facts["nats.pass"] and facts["nats.pong"]
    assert facts.frames("nats.connect") == (4,)
    packed = [client[0], (4, b"\xff\x06\x00\x00S2sTwO\x00\x08\x00\x00packed..")]
    assert "nats.connect" not in says(examiner, packed, server)[2]
