"""Why a TLS attempt was refused, as far as its handshake shows: what the alert means, and what the certificates beside it say.

Rules that hold here:

- An alert speaks of the other end's certificate: the client's of the server's, the server's of the client's.
- An alert names a kind of reason, and implementations choose freely among them (a wrong name is ``bad_certificate`` with Go and
  ``certificate_unknown`` with Java). So what the certificate itself shows stands beside it: out of force at the time, made for other names than the one
  that the client asked for (SNI), issued by whom.
- TLS 1.3 encrypts the certificates and what is said of them. What the client asked for is in the clear there, too, and all that can be told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from auditor.model.frames import DATED_NS
from auditor.model.judgement import Fault
from auditor.policy.certificates import SIDES, Certificate
from auditor.policy.times import time_text

RULE = "authentication-rejected"

MEANS = {
    "bad_certificate": "bad certificate",
    "unsupported_certificate": "unsupported certificate",
    "certificate_revoked": "certificate revoked",
    "certificate_expired": "certificate expired",
    "certificate_unknown": "certificate not accepted",
    "unknown_ca": "unknown CA",
    "access_denied": "access denied",
    "certificate_required": "certificate missing",
    "unrecognized_name": "name not known",
    "handshake_failure": "no common parameters, or no certificate where one is required",
    "protocol_version": "no common version",
    "insufficient_security": "no common cipher suite that is strong enough",
    "decrypt_error": "a signature or Finished that does not match",
}
"""Alerts that end a handshake (RFC 8446 section 6.2, RFC 5246 section 7.2.2), in an operator's words."""

_ABOUT_CERTIFICATES = frozenset(
    {"bad_certificate", "certificate_unknown", "certificate_expired", "unknown_ca", "unsupported_certificate"}
)
_NAMES = 3


def why_refused(facts: Mapping[str, Any], describe: Callable[[str], Certificate | None], at_ns: int) -> Fault | None:
    """What the handshake shows of the reason; None: nothing. ``describe`` knows certificates by fingerprint."""
    told: list[str] = []
    kinds: list[str] = []
    for side, other in (("client", "server"), ("server", "client")):
        alert = facts.get(f"tls.{side}_alert")
        if alert is None or alert[1] not in MEANS:
            continue
        told.append(f"{MEANS[alert[1]]}, according to the {side}")
        kinds.append(f"tls.{side}_alert")
        if alert[1] in _ABOUT_CERTIFICATES:
            leaf = _leaf(facts, other, describe)
            says = [] if leaf is None else list(_of_certificate(leaf, other, facts, at_ns))
            told += says
            kinds += [SIDES[other], "tls.sni"] if says else []
    asked = facts.get("tls.sni")
    if not told and asked and facts.get("tls.version") == "TLS 1.3":
        told.append(f"TLS 1.3 encrypts certificates and the reason; the client had asked for {asked} (SNI)")
        kinds.append("tls.sni")
    if not told:
        return None
    return Fault(RULE, "; ".join(told), "high", tuple(kind for kind in dict.fromkeys(kinds) if kind in facts))


def _leaf(facts: Mapping[str, Any], side: str, describe: Callable[[str], Certificate | None]) -> Certificate | None:
    chain = facts.get(SIDES[side]) or ()
    return describe(chain[0]) if chain else None


def _of_certificate(leaf: Certificate, side: str, facts: Mapping[str, Any], at_ns: int) -> Iterable[str]:
    if at_ns >= DATED_NS:
        if leaf.until_ns is not None and at_ns > leaf.until_ns:
            yield f"the {side}'s certificate {leaf.called} expired on {time_text(leaf.until_ns - 999_999_999)}"
        elif leaf.from_ns is not None and at_ns < leaf.from_ns:
            yield f"the {side}'s certificate {leaf.called} is in force from {time_text(leaf.from_ns)} only"
    asked = facts.get("tls.sni")
    if side == "server" and asked and leaf.names and not any(covers(name, str(asked)) for name in leaf.names):
        names = ", ".join(leaf.names[:_NAMES]) + (", …" if len(leaf.names) > _NAMES else "")
        yield f"name mismatch: the client asked for {asked} (SNI), and the certificate is for {names}"
    if (
        leaf.issuer
        and (facts.get("tls.client_alert" if side == "server" else "tls.server_alert") or ("", ""))[1] == "unknown_ca"
    ):
        yield f"the {side}'s certificate {leaf.called} was issued by {leaf.issuer}"


def covers(name: str, asked: str) -> bool:
    """Whether a certificate's name is the one asked for; ``*`` is the leftmost label, whole (RFC 9525 section 6.3)."""
    name, asked = name.lower().rstrip("."), asked.lower().rstrip(".")
    if not name.startswith("*."):
        return name == asked
    label, dot, rest = asked.partition(".")
    return bool(label and dot) and rest == name[2:]
