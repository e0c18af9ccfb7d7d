"""Attempts inside a connection that began well: what is authenticated per request is judged over all requests, or the verdict says how far they were read."""

from __future__ import annotations

from pathlib import Path

import pytest

import auditor
from tests.adversary.talk import CLIENT, SERVER, Talk
from tests.conftest import ROOT

CELL, BLOBS = "10.0.4.20", "10.0.4.80"
SIGNED = b"GET /read/cc-droplets/a?md5=bm8tc2lnbmF0dXJl&expires=1795290800 HTTP/1.1\r\nHost: blobstore\r\n%s\r\n"
UNSIGNED = b"GET /read/cc-droplets/a HTTP/1.1\r\nHost: blobstore\r\n\r\n"
GIVEN = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n" + b"b" * 20


def verdict_of(talk: Talk, folder: Path) -> tuple[str, str]:
    report = auditor.audit(
        [talk.closes().write(folder)], inventory=[str(ROOT / "captures/rules/inventory.yml")], policy="tas-diego"
    )
    one = report.audit.connections.iloc[0]
    return one["authentication_verdict"], "; ".join(each["says"] for each in one["authentication_factors"])


def to_blobs(signed: int, pad: int = 0, answer: bytes = GIVEN) -> Talk:
    talk = Talk(CELL, BLOBS, 8080).opens()
    padding = b"X-Pad: " + b"p" * pad + b"\r\n" if pad else b""
    for _ in range(signed):
        talk.says(CLIENT, SIGNED % padding).says(SERVER, answer)
    return talk


@pytest.mark.parametrize("signed", [1, 20, 70])
def test_an_unsigned_request_among_the_first_bytes_is_seen(signed: int, tmp_path: Path) -> None:
    talk = to_blobs(signed).says(CLIENT, UNSIGNED).says(SERVER, GIVEN)
    assert verdict_of(talk, tmp_path)[0] == "violated"


@pytest.mark.parametrize(("signed", "pad", "answer"), [(20, 600, GIVEN), (9, 1_200, GIVEN), (20, 600, GIVEN + b"\r\n")])
def test_what_lies_behind_the_first_bytes_is_said_to_be_unread(
    signed: int, pad: int, answer: bytes, tmp_path: Path
) -> None:
    talk = to_blobs(signed, pad, answer).says(CLIENT, UNSIGNED).says(SERVER, GIVEN)
    verdict, says = verdict_of(talk, tmp_path)
    assert verdict == "unverifiable"
    assert "were not read" in says


def test_an_unsigned_request_whose_answer_lies_behind_them_is_not_passed_over(tmp_path: Path) -> None:
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n" + b"b" * 600
    talk = to_blobs(20, answer=long).says(CLIENT, UNSIGNED).says(SERVER, long)
    verdict, says = verdict_of(talk, tmp_path)
    assert (verdict, "was not read" in says) == ("unverifiable", True)


def test_a_long_answer_hides_no_second_one(tmp_path: Path) -> None:
    """The request is read to its end, and all that comes back is its answer."""
    talk = to_blobs(1, answer=b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"b" * 60_000)
    assert verdict_of(talk, tmp_path)[0] == "verified"


@pytest.mark.parametrize("after", [False, True])
def test_a_long_upload_is_one_request_and_what_follows_is_another(after: bool, tmp_path: Path) -> None:
    talk = to_blobs(0)
    talk.says(CLIENT, SIGNED.replace(b"GET", b"PUT", 1) % b"Content-Length: 30000\r\n" + b"u" * 30_000)
    talk.says(SERVER, GIVEN)
    if after:
        talk.says(CLIENT, UNSIGNED).says(SERVER, GIVEN)
    assert verdict_of(talk, tmp_path)[0] == ("unverifiable" if after else "verified")


UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n"
ASKS = b"Connection: Upgrade\r\nUpgrade: %s\r\n"
H2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0" + b"\0\0\x10\1\5\0\0\0\3" + b"x" * 16
LONG = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2328\r\n" + b"b" * 9_000 + b"\r\n0\r\n\r\n"
SIGNED_PUT = SIGNED.replace(b"GET", b"PUT", 1)


@pytest.mark.parametrize(
    ("chunks", "verdict"),
    [
        ([(CLIENT, SIGNED % b"" + UNSIGNED), (SERVER, GIVEN + GIVEN)], "violated"),
        ([(CLIENT, SIGNED % b"" + UNSIGNED), (SERVER, LONG + LONG)], "unverifiable"),
        ([(CLIENT, SIGNED % b""), (SERVER, LONG), (CLIENT, UNSIGNED), (SERVER, GIVEN)], "unverifiable"),
        # In a body: for whoever counts bytes it is one request, and the server answered two.
        ([(CLIENT, SIGNED % b"Content-Length: 53\r\n" + UNSIGNED), (SERVER, GIVEN + GIVEN)], "unverifiable"),
        ([(CLIENT, SIGNED % b"Content-Length: 53\r\nContent-Length: 0\r\n" + UNSIGNED), (SERVER, GIVEN * 2)], "unverifiable"),
        ([(CLIENT, SIGNED_PUT % b"Content-Length: 53\r\n" + UNSIGNED), (SERVER, GIVEN)], "verified"),
        # Of no form that is known here, and served.
        ([(CLIENT, SIGNED % b""), (SERVER, GIVEN), (CLIENT, b"FOO /a HTTP/1.1\r\n\r\n"), (SERVER, GIVEN)], "unverifiable"),
        ([(CLIENT, SIGNED % b""), (SERVER, GIVEN), (CLIENT, b"GET /a\r\n"), (SERVER, b"what is there")], "unverifiable"),
        ([(CLIENT, SIGNED % b""), (SERVER, GIVEN), (SERVER, GIVEN.replace(b"200 OK", b"408 Late"))], "verified"),
        # Upgrades: passed over by the server, granted, and to what is one conversation.
        ([(CLIENT, SIGNED % ASKS % b"h2c"), (SERVER, GIVEN), (CLIENT, UNSIGNED), (SERVER, GIVEN)], "violated"),
        ([(CLIENT, SIGNED % ASKS % b"h2c"), (SERVER, GIVEN)], "verified"),
        ([(CLIENT, SIGNED % ASKS % b"h2c"), (SERVER, UPGRADED % b"h2c"), (CLIENT, H2), (SERVER, H2[24:])], "unverifiable"),
        ([(CLIENT, SIGNED % ASKS % b"websocket"), (SERVER, UPGRADED % b"websocket"), (CLIENT, b"\x81\x02hi")], "verified"),
        ([(CLIENT, H2), (SERVER, H2[24:])], "unverifiable"),
    ],
)  # fmt: skip
def test_requests_in_other_forms(chunks: list[tuple[int, bytes]], verdict: str, tmp_path: Path) -> None:
    assert len(UNSIGNED) == 53, "as the lengths above say"
    said, says = verdict_of(to_blobs(0).holds(chunks), tmp_path)
    assert said == verdict, says
