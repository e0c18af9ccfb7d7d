"""Logins with what is secret masked: nothing of it is left, and they are judged as they were."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.inspectors._examine import Examiner
from auditor.inspectors._masked import masked
from tests.inspectors.heads import says

SECRET = "ducks-cross-the-river-4711"
INFO = (
    b"INFO "
    + json.dumps({"server_id": "S1", "version": "2.10.1", "auth_required": True, "nonce": "n"}).encode()
    + b" \r\n"
)
CONNECT = (
    b"CONNECT "
    + json.dumps(
        {
            "verbose": False,
            "pedantic": True,
            "user": f"u-{SECRET}",
            "pass": f'"{SECRET}\\',
            "auth_token": "",
            "protocol": 1,
            "nested": {"a:": SECRET, "list": [SECRET, 4711]},
        }
    ).encode()
    + b"\r\n"
)


def packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


GREETING = packet(
    0,
    b"\x0a8.0.36\0" + b"\x01\0\0\0" + b"saltsalt" + b"\0" + b"\xff\xf7" + b"\xff\x02\0" + b"\xff\xdf" + b"\x15" + bytes(10)
    + b"saltsaltsalt\0" + b"mysql_native_password\0",
)  # fmt: skip


def login(
    answer: bytes, *, lenenc: bool = True, database: bool = True, plugin: bytes = b"mysql_native_password"
) -> bytes:
    claims = 0x200 | 0x8000 | 0x80000 | (0x200000 if lenenc else 0) | (0x8 if database else 0)
    body = claims.to_bytes(4, "little") + b"\0\0\0\1" + b"\x21" + bytes(23) + SECRET.encode() + b"\0"
    body += bytes([len(answer)]) + answer + (SECRET.encode() + b"\0" if database else b"")
    return packet(1, body + plugin + b"\0" + b"\x1d" + b"\x03pid\x18" + SECRET.encode())


SWITCH = packet(2, b"\xfemysql_clear_password\0salt\0")
LOGINS = {
    "nats": (CONNECT + b"PING\r\nSUB " + SECRET.encode() + b" 1\r\n", INFO + b"PING\r\n"),
    "nats without its line's end": (CONNECT[:-2], INFO),
    "mysql": (login(SECRET.encode()[:20]), GREETING),
    "mysql without a database": (login(SECRET.encode()[:20], database=False, lenenc=False), GREETING),
    "mysql that was asked for more": (login(b"") + packet(3, SECRET.encode() + b"\0"), GREETING + SWITCH),
    "mysql without a password": (login(b""), GREETING),
}


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner()


def pieces(secret: str = SECRET) -> list[bytes]:
    return [secret[k : k + 5].encode() for k in range(len(secret) - 4)]


@pytest.mark.parametrize("name", list(LOGINS))
def test_a_masked_login_says_what_the_real_one_says_and_no_secret(examiner, name):
    client, server = LOGINS[name]
    for data in ([client, server], [server, client]):
        kept = masked(data)
        assert kept is not None
        assert [len(each) for each in kept] == [len(each) for each in data]
        assert not any(piece in each for piece in pieces() for each in kept)
    kept = masked([client, server])
    real, made = (says(examiner, [(2, one)], [(1, other)]) for one, other in ((client, server), kept))
    assert made[:2] == real[:2]
    assert dict(made[2].items()) == dict(real[2].items())


@pytest.mark.parametrize("name", list(LOGINS))
def test_cut_anywhere_no_secret_is_left_and_the_rest_makes_it_whole(examiner, name):
    client, server = LOGINS[name]
    whole = dict(says(examiner, [(2, client)], [(1, server)])[2].items())
    for cut in range(1, len(client)):
        kept = masked([client[:cut], server])
        assert kept is not None, cut
        assert len(kept[0]) == cut
        assert not any(piece in kept[0] for piece in pieces()), cut
        if cut % 16 == 0 or cut > len(client) - 3:
            found = dict(says(examiner, [(2, kept[0] + client[cut:])], [(1, kept[1])])[2].items())
            assert found == whole, cut


def test_a_name_that_was_cut_is_told_whole_or_not_at_all(examiner):
    client = CONNECT.replace(f"u-{SECRET}".encode(), b"router")
    for cut in range(1, len(client)):
        kept = masked([client[:cut], INFO])
        assert kept is not None
        facts = says(examiner, [(2, kept[0] + client[cut:])], [(1, kept[1])])[2]
        assert facts.get("nats.user_name") in ("router", None), cut


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (b"GET / HTTP/1.1\r\nAuthorization: Basic bm8=\r\n\r\n", None),
        (b"CONNECT there:443 HTTP/1.1\r\n", None),
        (b"USER me\r\nPASS secret\r\n", b"220 hello\r\n"),
        (CONNECT + b"PUB a 5\r\nhello\r\n", INFO),
        (CONNECT, INFO + b"MSG a 1 5\r\nhello\r\n"),
        (CONNECT, INFO + b"-ERR 'Authorization Violation'\r\n"),
        (None, INFO + b"MSG a 1 5\r\nhello\r\n"),
        (login(b"x"), GREETING + packet(2, b"\0\0\0\2\0\0\0") + packet(1, b"\1rows")),
        (login(b"x"), GREETING + packet(2, b"\xff\x15\x04#28000denied")),
        (packet(1, b"\x05\0\0\0\0user\0pass"), GREETING),  # HandshakeResponse320
        (login(b"x"), None),
        (b"anything", b"else"),
    ],
)
def test_what_goes_on_behind_a_login_or_is_something_else_is_not_kept(client, server):
    assert masked([client, server]) is None


def test_what_is_encrypted_says_nothing():
    hello = b"\x16\x03\x01\x00\x05hello"
    for data in ([hello, None], [b"SSH-2.0-x\r\n", b"SSH-2.0-y\r\n"], [None, None], [hello, INFO + hello]):
        assert masked(data) == data
    request = packet(1, (0x8A00).to_bytes(4, "little") + bytes(28))
    assert masked([request + hello, GREETING + hello]) == [request + hello, GREETING + hello]


BEGINNINGS = (b"", INFO, CONNECT, CONNECT[:60], GREETING, login(b"x"), login(b"x")[:40], b"PING\r\n", b"\x16\x03")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=80), st.sampled_from(BEGINNINGS), st.binary(max_size=80))
def test_whatever_comes_it_is_as_long_as_it_was_or_not_kept(first, more, second, rest):
    data = [first + more, second + rest]
    kept = masked(data)
    assert kept is None or [len(each) for each in kept] == [len(each) for each in data]
    if kept is not None:
        assert masked(kept) == kept, "once is enough"
