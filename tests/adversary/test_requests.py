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
