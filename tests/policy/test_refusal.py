"""Why a TLS attempt was refused: alerts by name, and what the certificates beside them show."""

from __future__ import annotations

from typing import Any

import pytest

from auditor.model.judgement import Verdict
from auditor.policy.certificates import Certificate
from auditor.policy.policy import Policy
from auditor.policy.refusal import covers, why_refused
from tests.policy.scenes import MUTUAL12, Scene, documented, judge_all

AT_NS = 1_795_000_000_000_000_000
DAY_NS = 86_400 * 10**9

BBS = Certificate(
    "ab" * 32, None, None, common_name="bbs.service.cf.internal", names=("bbs.service.cf.internal", "*.bbs.service.cf.internal"),
    issuer="CN=diegoCA", from_ns=AT_NS - 30 * DAY_NS, until_ns=AT_NS + 30 * DAY_NS,
)  # fmt: skip
OLD = Certificate("cd" * 32, None, None, common_name="rep", names=("rep",), issuer="CN=oldCA", until_ns=AT_NS - DAY_NS)
KNOWN = {each.fingerprint: each for each in (BBS, OLD)}


def why(**facts: Any) -> str | None:
    told = why_refused({f"tls.{name}": value for name, value in facts.items()}, KNOWN.get, AT_NS)
    return None if told is None else told.says


def alert(name: str) -> tuple[str, str]:
    return "fatal", name


def test_an_expired_certificate_is_named_with_its_day() -> None:
    says = why(client_alert=alert("certificate_expired"), server_certificates=(OLD.fingerprint,))
    assert says is not None
    assert says.startswith("certificate expired, according to the client; the server's certificate rep (SHA-256 cdcd")
    assert "expired on 2026-11-" in says


def test_a_name_that_was_not_asked_for_is_a_mismatch() -> None:
    says = why(client_alert=alert("bad_certificate"), server_certificates=(BBS.fingerprint,), sni="locket.service.cf.internal")  # fmt: skip
    assert says == (
        "bad certificate, according to the client; name mismatch: the client asked for locket.service.cf.internal (SNI), and the certificate is for "
        "bbs.service.cf.internal, *.bbs.service.cf.internal"
    )
    fits = why(client_alert=alert("bad_certificate"), server_certificates=(BBS.fingerprint,), sni="a.bbs.service.cf.internal")  # fmt: skip
    assert fits == "bad certificate, according to the client"


def test_an_unknown_ca_is_named() -> None:
    says = why(server_alert=alert("unknown_ca"), client_certificates=(OLD.fingerprint,), sni="other")
    assert says is not None
    assert says.startswith("unknown CA, according to the server; the client's certificate rep")
    assert says.endswith("was issued by CN=oldCA")
    assert "mismatch" not in says, "the client's certificate is not asked for by name"


def test_tls_1_3_shows_what_was_asked_for_and_no_more() -> None:
    assert why(version="TLS 1.3", sni="bbs.service.cf.internal") == (
        "TLS 1.3 encrypts certificates and the reason; the client had asked for bbs.service.cf.internal (SNI)"
    )
    assert why(version="TLS 1.2", sni="bbs.service.cf.internal") is None


@pytest.mark.parametrize("facts", [{}, {"client_alert": alert("close_notify")}, {"server_alert": alert("119")}])
def test_nothing_is_made_up(facts: dict[str, Any]) -> None:
    assert why(**facts) is None


@pytest.mark.parametrize(
    ("name", "asked", "fits"),
    [
        ("a.example", "A.example.", True), ("*.example", "a.example", True), ("*.example", "a.b.example", False), ("*.example", "example", False),
        ("a.example", "b.example", False), ("*.", "a", False),
    ],
)  # fmt: skip
def test_names(name: str, asked: str, fits: bool) -> None:
    assert covers(name, asked) is fits


def test_the_reason_is_evidence_of_the_refusal(tas_diego: Policy) -> None:
    refused = {key: value for key, value in MUTUAL12.items() if "application_data" not in key and "finished" not in key}
    facts = {**refused, "tls.server_alert": alert("unknown_ca"), "tls.sni": "bbs.service.cf.internal"}
    [told] = judge_all(tas_diego, Scene("tls", facts, documented(tas_diego, "auctioneer-to-bbs")))
    assert told.verdict is Verdict.REJECTED
    says = [fault.says for fault in told.faults if fault.rule == "authentication-rejected"]
    assert any("unknown CA, according to the server" in each for each in says)
