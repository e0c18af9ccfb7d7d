"""What was shown on an undeclared connection, and whether it got access.

No path asks for anything there, so there is no verdict: it stays ``not_applicable`` whatever was shown. But an unknown host that was served differs
from one that only tried, and the packets show which it was, by the same evidence that documented connections are judged by.

Access (``entered``) is reported only with proof: a certificate whose holder proved its key and with whom the handshake was finished, a login
that was accepted, a request that was answered with success. A greeting, an answer to a question of names or time, and unrecognised
bytes prove no access.
"""

from __future__ import annotations

from collections.abc import Iterable

from auditor.model.judgement import Authentication
from auditor.policy._factors import in_clear, observed
from auditor.policy._observation import Observation, Said
from auditor.policy._tls import ACCEPTED, EMPTY, NOT_ASKED, NOT_SENT, REFUSED, SENT, TlsReading
from auditor.policy.policy import HTTP_LIKE

_LOGINS = frozenset({"nats", "mysql", "ssh", *HTTP_LIKE})
"""Applications in the clear whose answer shows that access was given."""

_NO_CERTIFICATE = {
    EMPTY: "an empty client certificate",
    NOT_SENT: "no client certificate, though the server asked for one",
    NOT_ASKED: "no client certificate, and the server asked for none",
}
_SCHEMES = {"basic": "a user and password (Basic)", "bearer": "a bearer token"}
_NATS = {
    "user": "a user",
    "pass": "a password",
    "token": "a token",
    "jwt": "a JWT",
    "nkey": "an NKey",
}


def witness(seen: Observation, said: Said, tls: TlsReading | None, outcome: str) -> Authentication:
    """What there is to say; ``said``, ``outcome``: of a path that asks for nothing."""
    if tls is not None:
        return _of_tls(seen, said, tls, outcome)
    if seen.application in _LOGINS:
        return _in_the_clear(seen, said)
    return Authentication(observed=observed(seen, said, None))


def _of_tls(seen: Observation, said: Said, tls: TlsReading, outcome: str) -> Authentication:
    certified = tls.certificate == SENT and tls.proof and not tls.misfit
    taken = certified and tls.outcome == ACCEPTED and (tls.clear or tls.confidence != "low")
    entered = taken or (outcome == "served" and not tls.weighed)
    if tls.outcome == REFUSED:
        became = f"refused: {tls.why}"
    elif taken:
        became = "accepted by the server" if outcome != "served" else f"accepted by the server; {tls.why}"
    elif entered:
        became = f"served: {tls.why}"
    else:
        became = (
            f"but it is not known whether the client was served: {tls.why or tls.says or 'the handshake was not seen'}"
        )
    kinds = (*tls.kinds, *tls.asked_kinds)
    return Authentication(
        observed=observed(seen, said, tls),
        confidence=None if not entered else "high" if tls.clear and (taken or not tls.doubt) else "medium",
        outcome="served" if entered else outcome,
        kinds=tuple(dict.fromkeys(kinds)),
        client_certificate=tls.inferred_certificate,
        says=f"{_certificate(seen, tls)}, {became}",
        entered=entered,
    )


def _certificate(seen: Observation, tls: TlsReading) -> str:
    """What the client showed of itself."""
    version = tls.version or "TLS"
    chain = seen.facts.get("tls.client_certificates") or ()
    if tls.certificate == SENT and chain:
        proved = "whose key it proved to hold" if tls.proof and not tls.misfit else "without proof of its key"
        return f"{version} with the client certificate {str(chain[0])[:16]}…, {proved}"
    if tls.certificate == SENT:
        return f"{version} with a client certificate, which the encryption hides"
    if tls.resumed:
        return f"a resumed session of {version}"
    return f"{version} with {_NO_CERTIFICATE.get(tls.certificate, 'a client certificate or without: it was not seen')}"


def _in_the_clear(seen: Observation, said: Said) -> Authentication:
    facts = seen.facts
    clear = in_clear(seen)
    outcome = {"accepted": "served", "refused": "refused"}.get(clear.outcome, "unknown")
    shown, kinds = _shown(seen)
    kinds = tuple(kind for kind in dict.fromkeys((*kinds, *clear.kinds)) if kind in facts)
    return Authentication(
        observed=observed(seen, said, None),
        confidence="high" if outcome == "served" else None,
        outcome=outcome,
        kinds=kinds,
        says=f"{shown}: {clear.why}",
        entered=outcome == "served",
    )


def _shown(seen: Observation) -> tuple[str, tuple[str, ...]]:
    """What the client said of itself, and the evidence of it."""
    facts = seen.facts
    if seen.application in HTTP_LIKE:
        schemes = dict.fromkeys(each for each in facts.get("http.authorization", ()) if each != "none")
        told = [_SCHEMES.get(each, each) for each in schemes]
        if any(each != "none" for each in facts.get("http.signed_url", ())):
            told.append("a signed URL")
        carried = f"with {' and '.join(told)}" if told else "without credentials"
        carried += _named(facts.get("http.user_names", ()))
        method = str(facts.get("http.method", "HTTP"))
        return f"{method} in the clear {carried}", (
            "http.method",
            "http.authorization",
            "http.user_names",
            "http.statuses",
        )
    if seen.application == "nats":
        words = [word for word in _NATS if facts.get(f"nats.{word}")]
        carried = f"CONNECT with {' and '.join(_NATS[word] for word in words)}" if words else "NATS without credentials"
        named = _named([facts["nats.user_name"]] if "nats.user_name" in facts else ())
        return f"{carried} in the clear{named}", (
            "nats.auth_required",
            "nats.connect",
            *(f"nats.{word}" for word in words),
            "nats.user_name",
        )
    if seen.application == "mysql":
        kinds = ("mysql.plugin", "mysql.auth_response", "mysql.user_name")
        named = _named([facts["mysql.user_name"]] if "mysql.user_name" in facts else ())
        if facts.get("mysql.auth_response") == "empty":
            return f"a MySQL login without a password{named}", kinds
        return f"a MySQL login by {facts.get('mysql.plugin', 'an unknown method')}{named}", kinds
    return "an SSH login", ("ssh.client_version", "ssh.server_version", "ssh.login")


def _named(users: Iterable[str]) -> str:
    """As whom."""
    names = ", ".join(users)
    return f", as {names}" if names else ""
