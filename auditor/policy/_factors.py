"""What each documented factor asks for, and what a connection shows of it.

A factor is judged by what was accepted, not by what was offered: NATS and MySQL servers say themselves whether they check (INFO,
AuthSwitchRequest), HTTP servers answer with a status. Inside TLS such a factor is hidden by design. What protects a path as a whole (TLS)
is judged in ``_tls.py``; a documented protocol in the clear where TLS is documented is ``plaintext``, whatever credentials it carried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from auditor.model.facts import FOLLOWED
from auditor.model.judgement import NO_PAYLOAD, Fault, Verdict
from auditor.model.streams import HEAD_BYTES
from auditor.policy._observation import (
    HIDDEN,
    Observation,
    Said,
    all_of,
    any_of,
    hidden,
    rejected,
    unverifiable,
    violated,
)
from auditor.policy._tls import (
    LEAST_ERROR,
    OPEN,
    REFUSALS,
    SIGNED_REFUSALS,
    TlsReading,
    closed_after_little,
    judge_mutual,
    judge_server_only,
    observed_tls,
    refuses_last,
)
from auditor.policy.policy import HTTP_LIKE
from auditor.wire.mysql import CAPACITY_ERRORS

NATS_REFUSALS = frozenset(
    {
        "authorization_violation", "authentication_timeout", "authentication_expired", "authentication_revoked", "tls_required",
        "tls_handshake", "connections_exceeded", "invalid_protocol", "route_port", "leaf_port",
    }
)  # fmt: skip

CLEAR_PASSWORD = "mysql_clear_password"  # noqa: S105
NATIVE_PASSWORD = "mysql_native_password"  # noqa: S105

ENCRYPTED = frozenset({"ssh", "quic", "dtls"})
"""Recognised applications other than TLS whose data is encrypted."""

_SCHEMES = {"basic": "basic", "bearer": "oauth2"}
_CREDENTIAL = {"basic": "a user and password", "oauth2": "a bearer token", "signed_url": "a signed URL"}


_BESIDE = {
    "proxy": "credentials for a proxy (Proxy-Authorization)",
    "url_password": "a user and password in a URL",
    "url_token": "a bearer token in a URL",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a path documents."""

    tree: Any
    """``authentication.required``: a word, {"all": [...]}, {"any": [...]}."""
    https: bool = False
    """The application column says HTTPS, which documents TLS (contract, rule 1)."""
    foreign: bool = False
    """What is spoken is not the documented application."""

    @property
    def words(self) -> frozenset[str]:
        """All factors named."""
        return frozenset(_words(self.tree))


def _words(tree: Any) -> list[str]:
    if isinstance(tree, str):
        return [tree]
    return [word for parts in tree.values() for part in parts for word in _words(part)]


def asks_for_tls(tree: Any) -> bool:
    """No way around TLS in this tree."""
    if isinstance(tree, str):
        return tree in {"tls", "mutual_tls"}
    ((word, parts),) = tree.items()
    asked = [asks_for_tls(part) for part in parts]
    return any(asked) if word == "all" else all(asked)


def judge(seen: Observation, wanted: Wanted, tls: TlsReading | None) -> Said:
    """All factors of a path together; the faults of what they say, of cleartext credentials and of refusals among them."""
    if seen.application == "none":
        if seen.lossy or seen.snapped:
            lost = "snaplen" if seen.snapped else "gap"
            nothing = unverifiable(lost, "none of the payload was captured")
        else:
            says = "established, and no payload was sent" if seen.lacks is None else "no payload was seen"
            nothing = unverifiable(NO_PAYLOAD, says, counted=False)
        return _tree(wanted.tree, lambda _: nothing)
    tree = wanted.tree
    if wanted.https and not asks_for_tls(tree):
        tree = {"all": ["tls", tree]}
    return _tree(tree, lambda name: factor(name, seen, wanted, tls))


def _tree(tree: Any, ask: Any) -> Said:
    if isinstance(tree, str):
        said: Said = ask(tree)
        return Said(
            said.verdict,
            said.says,
            said.confidence,
            said.missing,
            said.faults,
            said.kinds,
            said.counted,
            ((tree, said),),
        )
    ((word, parts),) = tree.items()
    judged = [_tree(part, ask) for part in parts]
    return all_of(judged) if word == "all" else any_of(judged)


def factor(name: str, seen: Observation, wanted: Wanted, tls: TlsReading | None) -> Said:
    """One factor."""
    if name == "none":
        return _nothing_asked(seen, tls)
    if tls is not None and tls.plain:
        return judge_server_only(tls)  # nothing is inside, and nothing hidden
    if name in {"tls", "mutual_tls"}:
        if tls is None:
            return _instead_of_tls(seen)
        return judge_mutual(tls) if name == "mutual_tls" else judge_server_only(tls)
    if tls is None and wanted.foreign and seen.application not in HTTP_LIKE:
        return _foreign(seen)
    if name == "ssh":
        return _ssh(seen, tls)
    if name == NATIVE_PASSWORD:
        return _mysql(seen, tls)
    if name == "basic" and seen.application == "nats":
        return _nats(seen, tls)
    if tls is not None:
        return _opened(name, seen, tls) or _inside(tls, f"whether the client presented {_CREDENTIAL.get(name, name)}")
    if name == "basic" and seen.application == "websocket":
        says = "WebSocket was set up (status 101); the login inside it is not read"
        return unverifiable(HIDDEN, says, "http.statuses", counted=False)
    if seen.application in HTTP_LIKE:
        return _http(name, seen)
    return _foreign(seen)


def _nothing_asked(seen: Observation, tls: TlsReading | None) -> Said:
    """No authentication is documented; yet a TLS session that was tried and never established was not served without it either."""
    if tls is not None:
        session = judge_server_only(tls)
        begun = "tls.client_hello" in seen.facts and seen.lacks is None
        hangs = begun and not tls.resumed and not tls.done and tls.outcome == OPEN
        if session.verdict is Verdict.REJECTED or (hangs and session.verdict is Verdict.UNVERIFIABLE):
            return session
    return Said(Verdict.VERIFIED, "no authentication is documented", "high")


def _opened(name: str, seen: Observation, tls: TlsReading) -> Said | None:
    """A factor in the HTTP that keys opened; None: they did not."""
    if not _is_open(seen) or "http.authorization" not in seen.facts:
        return None
    if judge_server_only(tls).verdict is Verdict.REJECTED:
        return None
    return _http(name, replace(seen, application="http"))


def _is_open(seen: Observation) -> bool:
    """Keys opened both directions."""
    return seen.facts.get("tls.decrypted") == "both"


def _inside(tls: TlsReading, what: str) -> Said:
    """A factor inside TLS."""
    session = judge_server_only(tls)
    if session.verdict is Verdict.REJECTED:
        return session
    return hidden(what, "tls.version")


# Applications in the clear


@dataclass(frozen=True, slots=True)
class Clear:
    """What became of a conversation in the clear."""

    outcome: str
    """accepted, refused, open."""
    why: str
    kinds: tuple[str, ...] = ()


def in_clear(seen: Observation, refusals: frozenset[int] = REFUSALS) -> Clear:
    """Whether the responder went along with what was said in the clear; ``refusals``: status codes that say that it did not."""
    facts = seen.facts
    alert = facts.get("tls.alert_to_plaintext")
    if alert is not None:
        return Clear("refused", f"the server answered with the TLS alert {alert[1]}", ("tls.alert_to_plaintext",))
    if seen.application in HTTP_LIKE:
        return _http_clear(seen, refusals)
    reader = {"nats": _nats_clear, "mysql": _mysql_clear}.get(seen.application)
    if reader is not None:
        return reader(seen)
    if seen.application == "ssh" and "ssh.login" in facts:
        return _ssh_outcome(seen)
    if seen.application not in {"nats", "mysql", "ssh"} and seen.answered:
        return Clear("accepted", "the responder answered")
    return _unanswered(seen)


def _unanswered(seen: Observation) -> Clear:
    if seen.closed_by and seen.whole:
        return Clear("refused", f"{seen.closing} without an answer")
    return Clear("open", "no answer was seen")


def _http_clear(seen: Observation, refusals: frozenset[int]) -> Clear:
    facts = seen.facts
    final = [status for status in facts.get("http.statuses", ()) if status >= 200 or status == 101]
    accepted = [status for status in final if status not in refusals]
    if accepted:
        return Clear("accepted", f"the server answered with status {accepted[0]}", ("http.statuses", "http.method"))
    if final and (seen.lossy or seen.one_way):
        return Clear("open", "packets are missing, and the answers that were seen are refusals", ("http.statuses",))
    if final:
        return Clear("refused", f"the server answered with status {final[0]}", ("http.statuses",))
    if facts.get("http.version") == "2" and seen.answered:
        return Clear("accepted", "the server answered in HTTP/2", ("http.version",))
    return _unanswered(seen)


def _nats_clear(seen: Observation) -> Clear:
    facts = seen.facts
    for kind, what in (("nats.ok", "+OK"), ("nats.pong", "PONG"), ("nats.server_traffic", "traffic")):
        if kind in facts:
            return Clear("accepted", f"the server answered with {what}", (kind,))
    error = facts.get("nats.error")
    if error in NATS_REFUSALS:
        return Clear("refused", f"the server answered -ERR ({error})", ("nats.error",))
    if "nats.connect" in facts and seen.closed_by == "server" and seen.whole:
        return Clear("refused", f"{seen.closing} after CONNECT", ("nats.connect",))
    return Clear("open", "no answer to CONNECT was seen" if "nats.connect" in facts else "no CONNECT was seen")


def _mysql_clear(seen: Observation) -> Clear:
    facts = seen.facts
    outcome = facts.get("mysql.outcome")
    if outcome == "ok":
        return Clear("accepted", "the server answered OK", ("mysql.outcome",))
    if outcome == "error":
        code = facts.get("mysql.error")
        if code in CAPACITY_ERRORS or "mysql.protocol" not in facts:
            return Clear(
                "open",
                f"the server answered ERR {code}, an error of the server or the host, not of the login",
                ("mysql.outcome", "mysql.error"),
            )
        says = "the server answered ERR" + (f" {code}" if code is not None else "")
        return Clear("refused", says, ("mysql.outcome", "mysql.error"))
    if "mysql.auth_response" in facts and seen.closed_by == "server" and seen.whole:
        return Clear("refused", f"{seen.closing} after the login", ("mysql.auth_response",))
    return Clear("open", "no answer to the login was seen")


def is_clear(application: str) -> bool:
    """A recognised application that carries its data in the clear."""
    return application not in ENCRYPTED and application not in {"none", "unknown", "tls", "https"}


def _instead_of_tls(seen: Observation) -> Said:
    """TLS is documented, and something else is spoken."""
    clear = in_clear(seen)
    what = seen.application.upper()
    if is_clear(seen.application):
        if clear.outcome == "accepted":
            return violated("plaintext", f"{what} in the clear where TLS is documented; {clear.why}", *clear.kinds)
        if clear.outcome == "refused":
            return rejected(f"{what} in the clear was refused: {clear.why}", *clear.kinds)
        return unverifiable(seen.lacks or "outcome", f"{what} in the clear; {clear.why}", *clear.kinds)
    return _foreign(seen)


_BEGINNINGS = {
    "midstream": "the capture starts in the middle of the stream, in bytes that cannot be recognised",
    "one_way": "only one direction was captured, in bytes that cannot be recognised",
    "gap": "packets of its beginning are missing, and the others cannot be recognised",
    "snaplen": "its packets were cut short by the snap length, and the rest cannot be recognised",
}


def _foreign(seen: Observation) -> Said:
    """Another protocol than the documented one, or none that is known. The fault is ``wrong-application``, which classification tells."""
    clear = in_clear(seen)
    unknown = seen.application == "unknown"
    if unknown and not seen.first_bytes:
        lacks = seen.lacks or "midstream"
        return unverifiable(lacks, _BEGINNINGS[lacks])
    if unknown and (seen.lossy or seen.one_way) and clear.outcome != "refused":
        return unverifiable(
            seen.lacks or "gap", "bytes that cannot be recognised, and packets are missing", *clear.kinds
        )
    what = "an unrecognised protocol" if unknown else seen.application.upper()
    if clear.outcome == "accepted":
        return violated(
            None,
            f"{what} is spoken instead of the documented one; {clear.why}",
            *clear.kinds,
            confidence="medium" if unknown else "high",
        )
    if clear.outcome == "refused":
        return rejected(f"{what} was refused: {clear.why}", *clear.kinds)
    return unverifiable(seen.lacks or "outcome", f"{what} is spoken; {clear.why}", *clear.kinds)


# HTTP credentials


def _carries(name: str, scheme: str, signed: str) -> bool:
    return signed != "none" if name == "signed_url" else _SCHEMES.get(scheme) == name


def _http(name: str, seen: Observation) -> Said:
    """Basic, bearer token or signed URL on every request that was answered."""
    facts = seen.facts
    refusals = SIGNED_REFUSALS if name == "signed_url" else REFUSALS
    clear = in_clear(seen, refusals)
    schemes, signed = facts.get("http.authorization", ()), facts.get("http.signed_url", ())
    requests = list(zip(schemes, signed, strict=False))
    final = [status for status in facts.get("http.statuses", ()) if status >= 200 or status == 101]
    what = _CREDENTIAL.get(name, name)
    kind = "http.signed_url" if name == "signed_url" else "http.authorization"
    kinds = (kind, *clear.kinds)
    if not requests and facts.get("http.version") == "2":
        return unverifiable(seen.lacks or "limit", "requests of HTTP/2 in the clear are not read", *clear.kinds)
    if not requests:
        return unverifiable(seen.lacks or "one_way", "no request was seen", *clear.kinds)
    if clear.outcome == "refused":
        with_ = "with" if any(_carries(name, *each) for each in requests) else "without"
        return rejected(f"{clear.why}; the request came {with_} {what}", *kinds)
    if clear.outcome == "open":
        return unverifiable(seen.lacks or "outcome", clear.why, *kinds)
    carried = [_carries(name, *each) for each in requests]
    if seen.midstream or not seen.first_bytes:
        accepted = carried if all(status not in refusals for status in final) or not any(carried) else []
        if not accepted or (any(accepted) and not all(accepted)):
            says = "the capture starts in the middle, and it is not known which answer belongs to which request"
            return unverifiable("midstream", says, *kinds)
    else:
        answered = zip(carried, final, strict=False)
        accepted = [has for has, status in answered if status not in refusals]
    if accepted and not all(accepted):
        others = {
            _SCHEMES.get(scheme, scheme)
            for (scheme, _), has in zip(requests, carried, strict=True)
            if not has and scheme != "none"
        } | {"signed_url" for (_, url), has in zip(requests, carried, strict=True) if not has and url != "none"}
        if others:
            says = f"{' and '.join(sorted(others))} was presented instead of {what}, and accepted"
            return violated("wrong-authentication-method", says, *kinds)
        return violated("missing-credentials", f"a request without {what} was accepted: {clear.why}", *kinds)
    if seen.lossy or seen.one_way:
        return unverifiable(seen.lacks or "gap", "packets are missing between the requests", *kinds)
    if not accepted:
        return unverifiable("outcome", "no answer belongs to a request that was seen", *kinds)
    unread = _unread_says(facts, final[len(requests) :], refusals)
    if unread is not None:
        count = f"{len(requests):,} request{'s' if len(requests) > 1 else ''}"
        return unverifiable("limit", f"{what} on the first {count}; {unread}", *kinds)
    if seen.unread and len(facts[FOLLOWED]) > 2 and not all(carried[len(final) :]):
        says = f"a request without {what} was seen; its answer is after the first {HEAD_BYTES:,} bytes and was not read"
        return unverifiable("limit", says, *kinds)
    if seen.unread and len(facts[FOLLOWED]) == 2:
        says = (
            f"{what} on the first {len(requests):,} requests; those after the first {HEAD_BYTES:,} bytes were not read"
        )
        return unverifiable("limit", says, *kinds)
    return Said(Verdict.VERIFIED, f"{what} on every request seen; {clear.why}", "high", None, (), kinds)


def _unread_says(facts: Mapping[str, Any], more: Sequence[int], refusals: frozenset[int]) -> str | None:
    """What the client said beside the requests that were read, and was answered; ``more``: status codes beyond one for each request."""
    word = facts.get("http.unread")
    if word == "upgrade":
        return "what followed the change to another protocol was not read"
    if word == "malformed":
        return "what followed is no HTTP request, and was answered"
    if FOLLOWED not in facts and any(status not in refusals and status < LEAST_ERROR for status in more):
        return "the server answered more, and took for a request what does not look like one here"
    return None


# NATS


def _nats(seen: Observation, tls: TlsReading | None) -> Said:
    """User and password, decided by the server's INFO (contract, rule 6)."""
    facts = seen.facts
    required = facts.get("nats.auth_required")
    clear = in_clear(seen)
    session = None if tls is None else judge_server_only(tls)
    if session is not None and session.verdict is Verdict.REJECTED:
        return session
    if tls is not None and not (_is_open(seen) and ("nats.connect" in facts or "nats.error" in facts)):
        if required is None:
            return hidden("CONNECT and what it carries")
        if not tls.both_ways or tls.outcome != "accepted":
            missing = tls.missing or "outcome"
            return unverifiable(missing, f"INFO was seen, traffic inside TLS was not: {tls.why}", "nats.auth_required")
        shown = ("nats.auth_required", *tls.asked_kinds)
        if required is True and closed_after_little(seen, tls):
            if refuses_last(seen, tls):
                says = f"INFO requires authentication; the server's last record is as long as -ERR 'Authorization Violation', and {seen.closing}"
                return rejected(says, *shown, confidence="medium")
            says = f"INFO requires authentication; {seen.closing} after only a login and its answer, as for a refusal"
            return unverifiable("outcome", says, *shown)
        return hidden("whether CONNECT carried user and password", *shown)
    presented = [word for word in ("user", "pass", "token", "jwt", "nkey") if facts.get(f"nats.{word}")]
    kinds = ("nats.auth_required", "nats.connect", *clear.kinds)
    kinds = tuple(kind for kind in kinds if kind in facts)
    if clear.outcome == "refused":
        return rejected(clear.why, *kinds)
    if required is None:
        missing = seen.lacks or "midstream"
        return unverifiable(missing, "the server's INFO, which says whether it checks, was not seen", *kinds)
    if clear.outcome == "open":
        return unverifiable(seen.lacks or "outcome", clear.why, *kinds)
    if "nats.connect" not in facts:
        if required is True or not (seen.whole and seen.first_bytes):
            return unverifiable(seen.lacks or "outcome", "no CONNECT was seen", *kinds)
        says = f"INFO does not ask for authentication, and the client was served without CONNECT; {clear.why}"
        return violated("missing-credentials", says, *kinds)
    renewed = facts.get("nats.auth_required_after")
    kinds = (*kinds, "nats.auth_required_after") if renewed is not None else kinds
    if required is False and presented and renewed is None:
        says = f"INFO does not ask for authentication, and it is not known whether the credentials were checked anyway; {clear.why}"
        return unverifiable(seen.lacks or "outcome", says, *kinds)
    if required is False and not (presented and renewed):
        # A second INFO that asks tells of a server with users, one of whom stands for clients who name none: who names one is checked.
        sent = "; the client sent credentials anyway" if presented else ""
        says = f"INFO does not ask for authentication, so nothing was checked{sent}; {clear.why}"
        return violated("missing-credentials", says, *kinds)
    if not presented:
        return violated("missing-credentials", f"CONNECT carried no credentials; {clear.why}", *kinds)
    if "user" in presented and "pass" in presented:
        says = f"INFO {'requires' if required else 'after CONNECT requires'} authentication, CONNECT carried user and password; {clear.why}"
        return Said(Verdict.VERIFIED, says + _as_far_as_read(seen), "high", None, (), kinds)
    says = f"CONNECT carried {' and '.join(presented)} instead of user and password; {clear.why}"
    return violated("wrong-authentication-method", says, *kinds)


# MySQL


def _mysql(seen: Observation, tls: TlsReading | None) -> Said:
    """The plugin that the server asked for last, and its answer (contract, rule 6)."""
    facts = seen.facts
    if tls is not None:
        if not (_is_open(seen) and ("mysql.plugin" in facts or "mysql.outcome" in facts)):
            return _inside(tls, "the login and its plugin")
        session = judge_server_only(tls)
        if session.verdict is Verdict.REJECTED:
            return session
    if seen.application != "mysql":
        return _foreign(seen)
    clear = in_clear(seen)
    plugin, answer = facts.get("mysql.plugin"), facts.get("mysql.auth_response")
    kinds = tuple(
        k for k in ("mysql.plugin", "mysql.plugin_switched", "mysql.auth_response", *clear.kinds) if k in facts
    )
    if clear.outcome == "refused":
        return rejected(clear.why, *kinds)
    if tls is None and facts.get("mysql.ssl_request") is True:
        return unverifiable(seen.lacks or "gap", "the client asked for TLS, and no TLS was seen after it", *kinds)
    if plugin is None or answer is None:
        return unverifiable(seen.lacks or ("midstream" if not facts else "no_login"), "no login was seen", *kinds)
    if clear.outcome == "open":
        return unverifiable(seen.lacks or "outcome", clear.why, *kinds)
    if "mysql.plugin_switched" in facts and (seen.lossy or seen.one_way):
        return unverifiable(seen.lacks or "gap", "packets are missing in the exchange of the login", *kinds)
    changed = facts.get("mysql.changed_user")
    again = tuple(k for k in ("mysql.changed_user", "mysql.changed_response", "mysql.changed_plugin") if k in facts)
    if changed == "ok" and facts.get("mysql.changed_response") == "empty":
        says = "a later login on the same connection (COM_CHANGE_USER) was empty, and the server answered OK"
        return violated("missing-credentials", says, *kinds, *again)
    if answer == "empty":
        says = f"the client's answer to {plugin} was empty; {clear.why}"
        return violated("missing-credentials", says, *kinds)
    if plugin != NATIVE_PASSWORD:
        return _other_plugin(plugin, f"{plugin} was used instead of {NATIVE_PASSWORD}; {clear.why}", kinds)
    later = facts.get("mysql.changed_plugin", NATIVE_PASSWORD)
    if changed == "ok" and later != NATIVE_PASSWORD:
        says = f"a later login on the same connection (COM_CHANGE_USER) used {later} instead of {NATIVE_PASSWORD}, and the server answered OK"
        return _other_plugin(later, says, (*kinds, *again))
    if changed == "unread":
        says = f"a later login was seen (COM_CHANGE_USER) whose answer, behind the first {HEAD_BYTES:,} bytes, was not read"
        return unverifiable("limit", says, *kinds, *again)
    says = f"{NATIVE_PASSWORD} was used; {clear.why}{_as_far_as_read(seen)}"
    return Said(Verdict.VERIFIED, says, "high", None, (), kinds)


def _other_plugin(plugin: str, says: str, kinds: tuple[str, ...]) -> Said:
    """Accepted with another method of MySQL than the documented one."""
    said = violated("wrong-authentication-method", says, *kinds)
    fault = said.faults[0]
    named = Fault(fault.rule, fault.says, fault.confidence, fault.kinds, plugin)
    return Said(said.verdict, said.says, said.confidence, None, (named,), kinds)


def _as_far_as_read(seen: Observation) -> str:
    """How far the client's stream was read for further logins, where it is longer than that."""
    return f"; {UNREAD_LOGINS}" if seen.unread else ""


UNREAD_LOGINS = f"logins behind the client's first {HEAD_BYTES:,} bytes would not show"
"""Said of a login that was judged, on a connection whose later ones were not looked for."""


# SSH


def _ssh(seen: Observation, tls: TlsReading | None) -> Said:
    """SSH in the clear, or inside mutual TLS at a host port (contract, rule 4)."""
    facts = seen.facts
    if tls is not None:
        if seen.host_port:
            said = judge_mutual(tls)
            says = f"SSH inside TLS, through the application's proxy: {said.says}"
            faults = tuple(Fault(fault.rule, says, fault.confidence, fault.kinds, fault.about) for fault in said.faults)
            return Said(said.verdict, says, said.confidence, said.missing, faults, said.kinds, said.counted)
        return _inside(tls, "SSH")
    if seen.application != "ssh":
        return _foreign(seen)
    shown = [
        f"ssh.{side}_{what}"
        for what in ("version", "newkeys", "encrypted")
        for side in ("client", "server")
        if facts.get(f"ssh.{side}_{what}")
    ]
    clear = in_clear(seen)
    shown += clear.kinds
    confidence = str(facts.get("ssh.login_confidence", "medium"))
    if clear.outcome == "refused" and ("ssh.login" in facts or not seen.answered):
        return rejected(clear.why, *shown, confidence=confidence if "ssh.login" in facts else "high")
    if clear.outcome == "accepted":
        if facts["ssh.login"] == "none_accepted":
            says = f"method none was accepted: by the lengths of encrypted packets, {clear.why}"
            return violated("missing-credentials", says, *shown, confidence=confidence)
        says = f"by the lengths of encrypted packets, a login was accepted: {clear.why}"
        return Said(Verdict.INFERRED, says, confidence, None, (), tuple(shown))
    encrypted = facts.get("ssh.client_encrypted") and facts.get("ssh.server_encrypted")
    if encrypted:
        says = (
            clear.why
            if "ssh.login" in facts
            else "the lengths of encrypted packets do not show the result of the login"
        )
        return unverifiable(seen.lacks or "outcome", says, *shown)
    says = "the end of the key exchange was not seen" if shown else "neither banners nor the key exchange were seen"
    return unverifiable(seen.lacks or ("no_handshake" if not shown else "outcome"), says, *shown)


def _ssh_outcome(seen: Observation) -> Clear:
    """What lengths of encrypted packets say of the login."""
    facts = seen.facts
    says, kinds = str(facts.get("ssh.login_says", "")), ("ssh.login",)
    if facts["ssh.login"] != "refused":
        return Clear("accepted", says, kinds)
    if seen.closed_by and seen.whole:
        return Clear(
            "refused", f"by the lengths of encrypted packets, no login was accepted: {says}; {seen.closing}", kinds
        )
    return Clear("open", f"no login was accepted so far: {says}", kinds)


# What goes beside the factors


def cleartext_credentials(seen: Observation, wanted: Wanted, tls: TlsReading | None) -> tuple[Fault, ...]:
    """Credentials that crossed in the clear where the path does not document that."""
    # HTTP that turned into TLS (CONNECT) had its say in the clear.
    if tls is not None and (seen.application not in HTTP_LIKE or _is_open(seen)):
        return ()
    facts, words = seen.facts, wanted.words
    protected = wanted.https or asks_for_tls(wanted.tree)
    found: list[Fault] = []

    def add(what: str, kind: str, about: str) -> None:
        found.append(Fault("cleartext-credentials", f"{what} crossed in the clear", "high", (kind,), about))

    if seen.application in HTTP_LIKE:
        schemes = set(facts.get("http.authorization", ()))
        if "bearer" in schemes and (protected or "oauth2" not in words):
            add("a bearer token", "http.authorization", "bearer")
        if "basic" in schemes and (protected or "basic" not in words):
            add("a user and password (Basic)", "http.authorization", "basic")
        for kind in sorted(set(facts.get("http.signed_url", ())) - {"none"}):
            add(f"a signed URL ({kind})", "http.signed_url", kind)
        for kind in facts.get("http.carried_beside", ()):
            add(_BESIDE.get(kind, kind), "http.carried_beside", kind)
    elif seen.application == "nats" and (protected or "basic" not in words):
        for word in ("pass", "token", "jwt"):
            if facts.get(f"nats.{word}"):
                add(f"CONNECT's {word}", f"nats.{word}", word)
    elif facts.get("mysql.plugin") == CLEAR_PASSWORD and facts.get("mysql.auth_response") == "present":
        add("a password (mysql_clear_password)", "mysql.plugin", CLEAR_PASSWORD)
    return tuple(found)


def observed(seen: Observation, said: Said, tls: TlsReading | None) -> str | None:
    """What the wire shows, in the words of the contract; None where it shows nothing."""
    facts = seen.facts
    if seen.application == "none":
        return None
    found: list[str] = []
    if tls is not None:
        found.append(observed_tls(tls, judge_mutual(tls)))
        inferred = (Verdict.INFERRED, Verdict.VERIFIED)
        found += [name for name, each in said.factors if name in _CREDENTIAL and each.verdict in inferred]
        if _is_open(seen) and "mysql.plugin" in facts:
            found.append("none" if facts.get("mysql.auth_response") == "empty" else str(facts["mysql.plugin"]))
    elif seen.application in HTTP_LIKE:
        schemes = {_SCHEMES.get(scheme, scheme) for scheme in facts.get("http.authorization", ())} - {"none"}
        found += sorted(schemes)
        if set(facts.get("http.signed_url", ())) - {"none"}:
            found.append("signed_url")
        found = found or ["none"]
    elif seen.application == "nats":
        words = [word for word in ("user", "pass", "token", "jwt", "nkey") if facts.get(f"nats.{word}")]
        if "nats.connect" not in facts:
            return None
        checked = facts.get("nats.auth_required") is not False or facts.get("nats.auth_required_after") is not False
        basic = "user" in words and "pass" in words
        found += (["basic"] if basic else words) if words and checked else ["none"]
    elif seen.application == "mysql":
        if "mysql.plugin" not in facts:
            return None
        found.append("none" if facts.get("mysql.auth_response") == "empty" else str(facts["mysql.plugin"]))
    elif seen.application == "ssh":
        found.append("ssh")
    elif is_clear(seen.application):
        found.append("none")
    return "+".join(found) or None
