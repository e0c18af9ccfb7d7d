"""DNS conversations."""

from __future__ import annotations

import struct

import pytest

from auditor.inspectors._examine import Examiner
from auditor.inspectors.dns import probe
from auditor.model.roles import Match
from tests.inspectors.heads import says, streams


def name(text: str) -> bytes:
    return b"".join(bytes([len(part)]) + part.encode() for part in text.split(".")) + b"\0"


def message(
    flags: int = 0x0100, asked: str = "bbs.service.cf.internal", kind: int = 1, answers: int = 0, group: int = 1
) -> bytes:
    tail = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\0\0\1" * answers
    return (
        struct.pack(">HHHHHH", 0x1234, flags, 1, answers, 0, 0) + name(asked) + struct.pack(">HH", kind, group) + tail
    )


QUERY, ANSWER = message(), message(0x8180, answers=1)


def over_tcp(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner()


@pytest.mark.parametrize("transport", [17, 6])
def test_question_and_answer(examiner: Examiner, transport: int) -> None:
    wrap = over_tcp if transport == 6 else bytes
    application, side, facts = says(examiner, [(1, wrap(QUERY))], [(2, wrap(ANSWER))], transport=transport)
    assert (application, side) == ("dns", 0)
    assert facts["dns.name"] == "bbs.service.cf.internal"
    assert (facts["dns.type"], facts["dns.rcode"], facts["dns.query"]) == ("A", "NOERROR", True)
    assert facts.frames("dns.query") == (1,) and facts.frames("dns.rcode") == (2,)


def test_the_flag_tells_who_asks(examiner: Examiner) -> None:
    assert says(examiner, ANSWER, QUERY, transport=17)[:2] == ("dns", 1)
    assert says(examiner, ANSWER, b"", transport=17)[:2] == ("dns", 1)
    assert says(examiner, b"", QUERY, transport=17)[:2] == ("dns", 1)


def test_failure(examiner: Examiner) -> None:
    assert says(examiner, QUERY, message(0x8183), transport=17)[2]["dns.rcode"] == "NXDOMAIN"


def test_name_is_escaped(examiner: Examiner) -> None:
    facts = says(examiner, message(asked="\x1b[1mx.a b"), b"", transport=17)[2]
    assert facts["dns.name"] == r"\x1b[1mx.a b"


@pytest.mark.parametrize(
    "wrong",
    [
        message(0x0140),  # the reserved bit
        message(0x7800),  # an opcode that is none
        message(0x0103),  # a query with a response code
        message(kind=0),
        message(group=77),
        struct.pack(">HHHHHH", 1, 0x0100, 3, 0, 0, 0) + name("a.b") + bytes(4),
        message()[:12] + b"\x7f" + bytes(130),
        bytes(60),
    ],
)
def test_what_is_almost_dns(wrong: bytes) -> None:
    assert probe(streams(wrong, b"\xff" * 20)) is Match.NO


def test_cut_short(examiner: Examiner) -> None:
    assert says(examiner, QUERY[:-3], b"", transport=17)[0] == "unknown"
    assert probe(streams(QUERY[:-3], b"")) is Match.MORE
