"""IKE of both versions, on both ports, and what is none."""

from __future__ import annotations

import struct

import pytest

from auditor.inspectors._examine import Examiner
from tests.inspectors.heads import says


def message(version: int, exchange: int, *, body: bytes = bytes(40), length: int | None = None) -> bytes:
    """RFC 7296 section 3.1: two indices, next payload, version, exchange, flags, message id, length."""
    size = 28 + len(body) if length is None else length
    return (
        b"\x11" * 8
        + bytes(8)
        + struct.pack(">BBBBII", 33, version, exchange, 8 if version == 0x20 else 1, 0, size)
        + body
    )


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner()


@pytest.mark.parametrize(
    ("version", "exchange", "said"),
    [
        (0x20, 34, ("IKEv2", "IKE_SA_INIT")),
        (0x20, 35, ("IKEv2", "IKE_AUTH")),
        (0x10, 2, ("IKEv1", "main mode")),
        (0x10, 32, ("IKEv1", "quick mode")),
    ],
)
@pytest.mark.parametrize("before", [b"", bytes(4)], ids=["port 500", "port 4500"])
def test_a_key_exchange(examiner: Examiner, before: bytes, version: int, exchange: int, said: tuple[str, str]) -> None:
    asked = before + message(version, exchange)
    application, _, facts = says(examiner, [(3, asked)], [(4, asked)], transport=17)
    assert application == "ipsec"
    assert (facts["ipsec.version"], facts["ipsec.exchange"]) == said
    assert facts.frames("ipsec.version") in {(3,), (4,)}


def test_one_end_is_enough(examiner: Examiner) -> None:
    assert says(examiner, b"", message(0x20, 34), transport=17)[0] == "ipsec"


@pytest.mark.parametrize(
    "wrong",
    [
        message(0x30, 34),
        message(0x20, 2),
        message(0x10, 34),
        message(0x20, 34, length=27),
        message(0x20, 34, length=70_000),
        message(0x20, 34)[:19] + b"\x80" + message(0x20, 34)[20:],
        bytes(8) + message(0x20, 34)[8:],
        message(0x20, 34)[:27],
        b"\x12\x34\x56\x78" + bytes(60),
    ],
)
def test_what_is_no_key_exchange(examiner: Examiner, wrong: bytes) -> None:
    assert says(examiner, wrong, b"", transport=17)[0] == "unknown"


def test_further_messages_do_not_hide_the_first(examiner: Examiner) -> None:
    both = [(3, message(0x20, 34)), (5, message(0x20, 35))]
    application, _, facts = says(examiner, both, [(4, message(0x20, 34)), (6, message(0x20, 35))], transport=17)
    assert (application, facts["ipsec.exchange"]) == ("ipsec", "IKE_SA_INIT")


def test_not_over_tcp(examiner: Examiner) -> None:
    assert says(examiner, message(0x20, 34), b"", transport=6)[0] == "unknown"
