"""MySQL conversations."""

from __future__ import annotations

import ssl
import struct

import pytest

from auditor.inspectors._examine import Examiner
from auditor.wire import mysql as wire
from tests.inspectors.handshakes import contexts, shake
from tests.inspectors.heads import says

CAPABILITIES = (
    wire.CLIENT_PROTOCOL_41 | wire.CLIENT_SECURE_CONNECTION | wire.CLIENT_PLUGIN_AUTH | wire.CLIENT_CONNECT_WITH_DB
)
ANSWER = b"\xa1" * 20


def packet(sequence: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([sequence]) + payload


def greeting(plugin: bytes = b"mysql_native_password", *, tls: bool = True, version: bytes = b"8.4.2-1") -> bytes:
    flags = CAPABILITIES | (wire.CLIENT_SSL if tls else 0)
    return packet(
        0,
        b"\x0a" + version + b"\0" + struct.pack("<I", 7) + b"12345678\0"
        + struct.pack("<HBHH", flags & 0xFFFF, 255, 2, flags >> 16) + bytes([21]) + bytes(10) + b"123456789012\0"
        + plugin + b"\0",
    )  # fmt: skip


def login(answer: bytes = ANSWER, plugin: bytes = b"mysql_native_password", sequence: int = 1) -> bytes:
    return packet(
        sequence,
        struct.pack("<IIB", CAPABILITIES, 1 << 24, 255) + bytes(23) + b"diego\0" + bytes([len(answer)]) + answer
        + b"diego\0" + plugin + b"\0",
    )  # fmt: skip


OK = b"\0\0\0\2\0\0\0"
ERROR = b"\xff" + struct.pack("<H", 1045) + b"#28000Access denied"


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner()


def test_login_with_the_native_password(examiner: Examiner) -> None:
    application, client, facts = says(
        examiner,
        [(2, login()), (4, packet(0, b"\x03select 1"))],
        [(1, greeting()), (3, packet(2, OK)), (5, packet(1, b"\1"))],
    )
    assert (application, client) == ("mysql", 0)
    assert facts["mysql.protocol"] == 10
    assert facts["mysql.server_version"] == "8.4.2-1"
    assert facts["mysql.server_ssl"] is True
    assert facts["mysql.ssl_request"] is False
    assert facts["mysql.plugin"] == facts["mysql.plugin_offered"] == "mysql_native_password"
    assert facts["mysql.auth_response"] == "present"
    assert facts["mysql.outcome"] == "ok"
    assert facts["mysql.client_traffic"] is True
    assert (facts.frames("mysql.server_version"), facts.frames("mysql.plugin"), facts.frames("mysql.outcome")) == (
        (1,),
        (2,),
        (3,),
    )
    assert facts["mysql.user_name"] == "diego"
    assert "\xa1" not in repr(facts)


def test_login_that_is_refused(examiner: Examiner) -> None:
    _, _, facts = says(examiner, login(), greeting() + packet(2, ERROR))
    assert (facts["mysql.outcome"], facts["mysql.error"]) == ("error", 1045)


def test_the_plugin_switched_to_is_the_one_used(examiner: Examiner) -> None:
    switch = b"\xfecaching_sha2_password\0" + b"s" * 20 + b"\0"
    _, _, facts = says(
        examiner, login() + packet(3, b"\x55" * 32), greeting() + packet(2, switch) + packet(4, b"\1\3") + packet(5, OK)
    )
    assert facts["mysql.plugin_requested"] == "mysql_native_password"
    assert facts["mysql.plugin_switched"] == facts["mysql.plugin"] == "caching_sha2_password"
    assert facts["mysql.auth_more_data"] is True
    assert facts["mysql.outcome"] == "ok"


def test_clear_password_is_seen_and_not_kept(examiner: Examiner) -> None:
    switch = b"\xfemysql_clear_password\0"
    _, _, facts = says(examiner, login() + packet(3, b"open-sesame\0"), greeting() + packet(2, switch) + packet(4, OK))
    assert facts["mysql.plugin"] == "mysql_clear_password"
    assert facts["mysql.auth_response"] == "present"
    assert "open-sesame" not in repr(facts)


def test_empty_answer(examiner: Examiner) -> None:
    _, _, facts = says(examiner, login(b""), greeting() + packet(2, OK))
    assert (facts["mysql.auth_response"], facts["mysql.outcome"]) == ("empty", "ok")
    switch = b"\xfemysql_native_password\0" + b"s" * 20 + b"\0"
    _, _, facts = says(examiner, login() + packet(3, b""), greeting() + packet(2, switch) + packet(4, OK))
    assert facts["mysql.auth_response"] == "empty"
    # Plugins whose answer is a text end it with a zero: that zero alone is no password either.
    for plugin in (b"caching_sha2_password", b"mysql_clear_password"):
        _, _, facts = says(examiner, login(b"\0", plugin), greeting(plugin) + packet(2, OK))
        assert (facts["mysql.plugin"], facts["mysql.auth_response"]) == (plugin.decode(), "empty")


def test_the_answer_to_a_switch_is_the_one_with_the_next_number(examiner: Examiner) -> None:
    """What the client says in between answers something else: a question of a plugin that gave up."""
    switch = b"\xfemysql_native_password\0" + b"s" * 20 + b"\0"
    _, _, facts = says(
        examiner,
        login(plugin=b"dialog") + packet(3, b"x") + packet(5, b""),
        greeting() + packet(2, b"\1question") + packet(4, switch) + packet(6, OK),
    )
    assert (facts["mysql.plugin"], facts["mysql.auth_response"]) == ("mysql_native_password", "empty")


def test_tls_inside(examiner: Examiner) -> None:
    told = shake(*contexts(ssl.TLSVersion.TLSv1_3))
    claims = CAPABILITIES | wire.CLIENT_SSL
    request = packet(
        1, struct.pack("<IIB", claims, 1 << 24, 255) + b"\x07" * 23
    )  # go-sql-driver leaves bytes in the filler
    application, client, facts = says(examiner, [(2, request), *told.client], [(1, greeting()), *told.server])
    assert (application, client) == ("mysql", 0)
    assert facts["mysql.ssl_request"] is True
    assert facts["tls.version"] == "TLS 1.3"
    assert facts["tls.sni"] == "server.test"
    assert "mysql.plugin" not in facts


def test_server_that_does_not_want_this_host(examiner: Examiner) -> None:
    refusal = b"\xff" + struct.pack("<H", 1130) + b"Host 'x' is not allowed to connect"
    application, client, facts = says(examiner, b"", packet(0, refusal))
    assert (application, client) == ("mysql", 0)
    assert facts["mysql.error"] == 1130


def test_each_side_alone(examiner: Examiner) -> None:
    assert says(examiner, greeting(), b"")[:2] == ("mysql", 1)
    assert says(examiner, login(), b"")[0] == "unknown"  # a login without a greeting is not told from chance


def test_cut_in_the_middle(examiner: Examiner) -> None:
    _, _, facts = says(examiner, login()[:40], greeting())
    assert facts["mysql.plugin_offered"] == "mysql_native_password"
    assert "mysql.cut" in facts and "mysql.outcome" not in facts


def test_malformed_packet_keeps_what_came_before(examiner: Examiner) -> None:
    _, _, facts = says(examiner, login(), greeting() + packet(2, b"\x42what"))
    assert facts["mysql.malformed"] == "no answer to a login"
    assert facts["mysql.plugin"] == "mysql_native_password"


def test_greeting_of_something_else(examiner: Examiner) -> None:
    assert says(examiner, b"", b"\x20\0\0\0\x0aabcdefgh" + bytes(40))[0] == "unknown"


def test_mariadb_numbers_the_error_instead_of_a_greeting_1(examiner: Examiner) -> None:
    blocked = b"\xff" + struct.pack("<H", 1129) + b"Host '10.0.0.1' is blocked because of many connection errors"
    application, _, facts = says(examiner, b"", packet(1, blocked))
    assert (application, facts["mysql.error"]) == ("mysql", 1129)
    assert says(examiner, b"", packet(1, b"\x0a8.4.2-1\0" + bytes(40)))[0] == "unknown"


def test_a_later_login_of_the_same_connection(examiner: Examiner) -> None:
    change = packet(0, b"\x11admin\0\0\0!\0mysql_native_password\0")
    switch = packet(1, b"\xfemysql_native_password\0" + b"s" * 20 + b"\0")
    for answer, said in ((b"", "empty"), (ANSWER, "present")):
        client = [(2, login()), (4, change), (6, packet(2, answer)), (8, packet(0, b"\x03select 1"))]
        server = [(1, greeting()), (3, packet(2, OK)), (5, switch), (7, packet(3, OK))]
        facts = says(examiner, client, server)[2]
        assert (facts["mysql.changed_user"], facts["mysql.changed_response"]) == ("ok", said)
        assert facts["mysql.auth_response"] == "present"
    assert "mysql.changed_user" not in says(examiner, client[:2], server)[2]
