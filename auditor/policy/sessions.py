"""What one connection says of another: sessions resumed, and protection given up.

Up to TLS 1.2 a resuming ClientHello shows the session id or the ticket that the full handshake gave out in the clear (RFC 5246 section
7.4.1.2, RFC 5077 section 3): the tie is certain. In TLS 1.3 tickets travel encrypted, so the tie is that the same pair had a handshake on the
same port within a ticket's lifetime, seven days at most (RFC 8446 section 4.6.1), with a suite of the same hash, and that one of its records is
as long as one with the ticket that is offered now. Where several fit and disagree, which one it was does not show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from auditor.model.judgement import Verdict
from auditor.policy._observation import Said, unverifiable, violated, weaker
from auditor.policy._tls import (
    ACCEPTED,
    EMPTY,
    NOT_ASKED,
    NOT_SENT,
    REFUSED,
    UNKNOWN,
    TlsReading,
    is_13,
    judge_mutual,
    judge_server_only,
)

TICKET_LIFETIME_NS = 7 * 86_400 * 1_000_000_000
SHARE_NS = 600 * 1_000_000_000
"""Of several full handshakes within ten minutes the first stands for all: which of them is resumed does not show."""

RECORD_BYTES = 17
"""What a record adds to its content: type and tag, RFC 8446 section 5.2."""
NEW_TICKET_BYTES = 17
"""NewSessionTicket without nonce, ticket and extensions, RFC 8446 section 4.6.1."""
BESIDE_TICKET_BYTES = 24
"""Nonce (up to 16 octets are seen) and the extension that allows early data."""
TICKETS_A_RECORD = 4
TICKETS_COME_BEFORE = 12
"""Among so many first records of the server are its flight and its tickets."""
MOST_KINDS = 16
"""So many kinds of sessions of one pair and port are told apart."""

DOWNGRADE_NS = 60 * 1_000_000_000
"""Contract, rule 13."""

TWIN_DISTANCE = 8
"""A host port and its proxied twin belong to one container and are given out together, so their numbers lie close."""

NATS_PORTS = range(4222, 4226)

_GOOD = (Verdict.VERIFIED, Verdict.INFERRED, Verdict.INHERITED)
_BARE = frozenset({EMPTY, NOT_SENT, NOT_ASKED})
_MISSING = frozenset({"gap", "one_way", "snaplen"})


@dataclass(frozen=True, slots=True)
class Session:
    """A connection that speaks TLS."""

    row: int
    first_ns: int
    ends: tuple[int, int, int]
    """Originator, responder, port."""
    reading: TlsReading
    links: Mapping[str, Any]
    doubtful: bool = False
    """Its packets contradict each other, so that it may have been another handshake than it seems."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The full handshake that a resumed session goes back to."""

    row: int
    mixed: bool = False
    """Others fit as well, which were not mutual, or of which the capture cannot tell: that this one was it is not sure."""


@dataclass(slots=True)
class _Given:
    """Sessions of one pair and port whose tickets look alike."""

    row: int
    first_ns: int
    mutual: bool | None
    """None: a full handshake of which no client certificate is known."""
    tickets: tuple[int, ...] | None
    """Lengths of records that may hold its tickets; None: packets that would show are missing."""
    sha384: bool

    def fits(self, session: Session) -> bool:
        """Whether the ticket that a resumed session offers may be one of these."""
        if not 0 <= session.first_ns - self.first_ns <= TICKET_LIFETIME_NS or session.reading.sha384 != self.sha384:
            return False
        offered = session.reading.identity_bytes
        return self.tickets is None or not offered or _hold(self.tickets, offered)


@lru_cache(maxsize=65_536)
def _hold(lengths: tuple[int, ...], ticket: int) -> bool:
    """Whether one of these records may hold a ticket of so many bytes."""
    return any(_holds(length, ticket) for length in lengths)


def _holds(length: int, ticket: int) -> bool:
    """Whether a record of this length may hold one NewSessionTicket with a ticket of so many bytes, or several alike."""
    for count in range(1, TICKETS_A_RECORD + 1):
        each, rest = divmod(length - RECORD_BYTES, count)
        if rest == 0 and 0 <= each - NEW_TICKET_BYTES - ticket <= BESIDE_TICKET_BYTES:
            return True
    return False


def origins(sessions: Iterable[Session]) -> dict[int, Origin]:
    """Row of each resumed session whose full handshake is known, to that one. ``sessions`` in order of start."""
    found: dict[int, Origin] = {}
    tied: dict[tuple[int, str], int] = {}
    pairs: dict[tuple[int, int, int], list[_Given]] = {}
    mutual: dict[int, bool | None] = {}
    for session in sessions:
        reading = session.reading
        if not is_13(reading.version) and reading.version is not None:
            _tie(session, tied, found)
            continue
        given = pairs.setdefault(session.ends, [])
        if reading.resumed:
            fitting = [each for each in given if each.fits(session)]
            sure = [each for each in fitting if each.mutual is not None]
            if not sure:
                continue
            # The last mutual one, where there is one: of others it is told that they would do as well.
            best = next((each for each in reversed(sure) if each.mutual), sure[-1])
            found[session.row] = Origin(best.row, any(each.mutual is not best.mutual for each in fitting))
            for each in fitting:
                _give(given, replace(each, tickets=_tickets(session), first_ns=session.first_ns))
            continue
        if reading.outcome == REFUSED:
            continue
        key = id(reading)
        if key not in mutual:
            mutual[key] = _is_mutual(reading)
        known = None if session.doubtful else mutual[key]
        if known is not None or session.doubtful or _may_be_bare(reading):
            _give(given, _Given(session.row, session.first_ns, known, _tickets(session), reading.sha384))
    return found


def _tickets(session: Session) -> tuple[int, ...] | None:
    """Lengths of the records of a session that may hold its tickets."""
    reading = session.reading
    if reading.version is None or reading.missing is not None:
        return None
    return _lengths(session.links.get("tls.server_records", ()))


@lru_cache(maxsize=65_536)
def _lengths(records: tuple[int, ...]) -> tuple[int, ...]:
    """The distinct lengths among the records that may hold tickets."""
    return tuple(sorted({*records[1:TICKETS_COME_BEFORE]}))


def _give(given: list[_Given], new: _Given) -> None:
    """Note a session. Of those alike within ten minutes the first stands for all: which of them is resumed does not show."""
    for at, each in enumerate(given):
        if (each.mutual, each.tickets, each.sha384) == (new.mutual, new.tickets, new.sha384):
            if new.first_ns - each.first_ns > SHARE_NS:
                given[at : at + 1] = []
                given.append(new)
            return
    given.append(new)
    if len(given) > MOST_KINDS:
        # What cannot be kept apart any more might have been any of them.
        given[:2] = [
            replace(given[1], mutual=given[1].mutual if given[0].mutual is given[1].mutual else None, tickets=None)
        ]


def _is_mutual(reading: TlsReading) -> bool | None:
    """Whether a full handshake was mutual; None: it cannot be told, or nothing came of it."""
    verdict = judge_mutual(reading).verdict
    if verdict in _GOOD:
        return True
    return False if judge_server_only(reading).verdict is Verdict.VERIFIED and verdict is Verdict.VIOLATED else None


def _may_be_bare(reading: TlsReading) -> bool:
    """A full handshake, not refused, of which no client certificate is known: none crossed, or packets are missing that would show it.

    Without the second half, losing packets of one connection could lift another one's verdict.
    """
    if reading.resumed or reading.outcome == REFUSED:
        return False
    if reading.version is None:
        return reading.missing in _MISSING
    return is_13(reading.version) and (
        reading.certificate in _BARE or (reading.certificate == UNKNOWN and reading.missing in _MISSING)
    )


def _tie(session: Session, tied: dict[tuple[int, str], int], found: dict[int, Origin]) -> None:
    """What a server gave out names a session of that server's alone."""
    links, row, server = session.links, session.row, session.ends[1]
    if session.reading.resumed:
        # A client that offers a ticket makes a session id up, to see whether the server echoes it (RFC 5077 section 3.4).
        offered = links.get("_link.ticket_offered") or links.get("_link.session_id")
        origin = tied.get((server, str(offered))) if offered else None
        if origin is None:
            return
        found[row], row = Origin(origin), origin
    elif session.reading.outcome == REFUSED:
        return
    for kind in ("_link.session_id", "_link.ticket_issued"):
        if kind in links and (kind != "_link.session_id" or not links.get("_link.session_id_echoed")):
            if session.doubtful:
                tied.pop((server, str(links[kind])), None)
            else:
                tied[server, str(links[kind])] = row


def inherit(reading: TlsReading, origin: TlsReading, name: str, *, mixed: bool = False) -> tuple[Said, Said]:
    """What holds of mutual TLS, and of TLS, for a session resumed from ``origin``, whose connection's id is ``name``.

    ``mixed``: of ``Origin``; whichever handshake it was, TLS it was.
    """
    mutual = _inherit(reading, judge_mutual(origin), origin, name)
    if mixed:
        says = (
            "the session was resumed, but it is not known from which handshake: one between the same ends had a client "
            f"certificate (connection {name}), another had none"
        )
        mutual = unverifiable("resumed", says, "tls.resumed", *reading.asked_kinds)
    return mutual, _inherit(reading, judge_server_only(origin), origin, name)


def _inherit(reading: TlsReading, said: Said, origin: TlsReading, name: str) -> Said:
    kinds = ("tls.resumed", *reading.asked_kinds)
    certain = origin.clear and not is_13(origin.version)
    tied = "is tied to" if certain else "follows"
    says = f"the resumed session {tied} connection {name}, whose full handshake was {said.verdict}: {said.says}"
    if reading.outcome != ACCEPTED:
        return unverifiable(reading.missing or "outcome", f"{says}; of this one, {reading.why}", *kinds)
    if said.verdict in _GOOD:
        confidence = said.confidence if certain else weaker(said.confidence, "medium")
        return Said(Verdict.INHERITED, says, confidence, None, (), kinds)
    if said.verdict is Verdict.VIOLATED and certain and not reading.late and reading.absence:
        rule = said.faults[0].rule if said.faults else None
        return violated(rule, says, *kinds, confidence=said.confidence or "medium")
    return unverifiable("resumed", says, *kinds)


# Downgrade


@dataclass(frozen=True, slots=True)
class Try:
    """A connection that tried the documented protection and failed, or one that went on without it."""

    row: int
    first_ns: int
    last_ns: int
    orig_h: int
    resp_h: int
    port: int
    kind: str
    """ssh, nats: several ports are one service; else empty."""


def downgrades(failed: list[Try], bare: list[Try]) -> list[tuple[Try, Try]]:
    """Pairs of a failed attempt and what followed it within a minute, the last attempt before each."""
    by_pair: dict[tuple[int, int, str | int], list[Try]] = {}
    for each in failed:
        by_pair.setdefault((each.orig_h, each.resp_h, each.kind or each.port), []).append(each)
    found = []
    for each in bare:
        fitting = [
            before
            for before in by_pair.get((each.orig_h, each.resp_h, each.kind or each.port), ())
            if before.first_ns <= each.first_ns <= before.last_ns + DOWNGRADE_NS
            and (each.kind != "ssh" or abs(before.port - each.port) <= TWIN_DISTANCE)
        ]
        if fitting:
            nearest = min(fitting, key=lambda before: (abs(before.port - each.port), -before.first_ns))
            found.append((nearest, each))
    return found
