"""What became of an attempt, read from the dialogue that followed the handshake.

Inside TLS nothing of an answer shows but its length, when it came, and what came after it. That is enough for much, and for some of it it is not:

1. What a server says of its own accord is not an answer: session tickets (RFC 8446 section 4.6.1), and the control frames of HTTP/2 (RFC 9113 section 6).
   Where a record may be a ticket or an answer, neither is built on.
2. A refusal inside TLS (400, 401, 403 and 421, or the status of gRPC) is short, and the same each time. So answers that are few, short and alike
   (``ALIKE``) may all be refusals. A long answer, several answers that differ, and a long talk are ``SERVICE``: hardly anybody goes on so
   with one who is refused. Who keeps asking and is told the same each time is the exception, so of a talk that is only long
   (``monotonous``) less is claimed.
3. An attempt that the server ended with requests unanswered was refused (``UNANSWERED``), whatever tickets came before.

This reads one direction's lengths beside the other's; what it means for a certificate that was sent, empty or not asked for is ``_tls.py``'s
business, and what other connections of the same server say of it that of ``population.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from auditor.policy.refusal_pages import page_of

SHORT_ANSWER_BYTES = 4_096
"""A refusal has so much at most: nginx's page for status 400 has some 600 bytes, Tomcat's for 403 some 700."""

LONG_TALK = 5
"""So many answers are a long talk: who is refused seldom asks as often on one connection."""

DIFFERENT_BYTES = 8
"""Two answers that differ by more are two answers: a refusal varies by a number or two (an id, a length)."""

SEVERAL = 3
"""So many different answers are service. Two may be one refusal: of GET and of HEAD, with the headers in full and by reference (HPACK)."""

CONTROL_BYTES = 40
"""HTTP/2 frames of control that share a record have so much at most: SETTINGS, its acknowledgement, WINDOW_UPDATE, PING, GOAWAY."""

QUIET_FRAMES = frozenset({9, 13, 22})
"""An HTTP/2 client's acknowledgement of SETTINGS and its WINDOW_UPDATE, alone or together: they end no answer, and ask nothing."""

CONTINUE_BYTES = 25
"""``HTTP/1.1 100 Continue`` and an empty line: a server's leave to go on, no answer (RFC 9110 section 15.2.1)."""

TICKET_BYTES = 57
"""A NewSessionTicket has so much at least (RFC 8446 section 4.6.1, with a ticket of 32 octets)."""

PLAIN_TICKETS_BYTES = 2_048
"""Tickets that hold no client's certificate have so much at most, two of them in one record."""

BARE_TICKETS_BYTES = 450
"""Those that are a name alone, or a session without any certificate: so much at most."""

BESIDE_CERTIFICATE_BYTES = 400
"""What a ticket holds besides the client's certificate: so much at most."""

ALIKE_TICKETS_BYTES = frozenset({0, 16})
"""Two tickets of one session are of one length, or differ by a block of the cipher that seals them."""


DIFFER = "the server gave several answers that differ"
MONOTONOUS = f"the server answered {LONG_TALK} times or more"


class Answers(StrEnum):
    """What the answers amount to."""

    NONE = "none"
    """None, or nothing but what may be session tickets."""
    UNANSWERED = "unanswered"
    """The server ended it, and answered nothing that it was asked."""
    ALIKE = "alike"
    """Few, short and alike: all of them may be refusals."""
    SERVICE = "service"
    """What no refusal is: long, different from each other, or many."""


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What was said behind the handshake; lengths are of content, in bytes."""

    answers: Answers = Answers.NONE
    turns: tuple[int, ...] = ()
    """Length of each answer: what the server said between two requests, without tickets and control frames."""
    requests: tuple[int, ...] = ()
    """Length of each request, in their order."""
    bodies: bool = False
    """HTTP/2: an answer came in several records, as headers and a body do."""
    tickets: bool = False
    """A record came that may be a session ticket."""
    maybe: bool = False
    """One of those came behind a request, or a record of HTTP/2 that may be control alone: it may also be the answer."""
    ended: bool = False
    """The server ended it, and the client had not before."""
    left: bool = False
    """The client said goodbye (an alert), and the server had not before."""
    whole: bool = True
    """Nothing is missing of what both said."""
    says: str = ""
    """Of service: what makes it so."""
    page: str = ""
    """Which known page of a refusal all answers are as long as."""

    @property
    def monotonous(self) -> bool:
        """Service only by how often the same answer came."""
        return self.says == MONOTONOUS

    @property
    def asked(self) -> bool:
        """The client asked for something."""
        return bool(self.requests)

    @property
    def digest(self) -> tuple[object, ...]:
        """All of it that decides, without the lengths: equal for dialogues that mean the same."""
        return (
            self.answers, self.says, len(self.turns) > 1, self.asked, self.bodies, self.tickets, self.maybe, self.ended, self.left, self.page,
        )  # fmt: skip


NO_DIALOGUE = Dialogue()


@dataclass(frozen=True, slots=True)
class Spoken:
    """One record of the dialogue."""

    side: str
    """``c`` client, ``s`` server; ``x`` and ``y`` for their alerts."""
    bytes: int = 0
    """Of content."""


def spoken(
    order: str, client: Sequence[int], server: Sequence[int], overhead: int, alerts: frozenset[int] = frozenset()
) -> list[Spoken]:
    """The encrypted records in order, from who said what (``tls.order``), and the lengths of each side's records.

    ``overhead``: what a record adds to its content; ``alerts``: lengths that only alerts have (TLS 1.3).
    """
    found: list[Spoken] = []
    left = {"c": iter(client), "s": iter(server)}
    # Where the order is not known, one request and one answer are the least that there was.
    for letter in order or "c" * len(client) + "s" * len(server):
        if letter in "xy":
            found.append(Spoken(letter))
        elif letter in left:
            length = next(left[letter], None)
            if length is None:
                break
            if length in alerts:
                found.append(Spoken("x" if letter == "c" else "y"))
            else:
                found.append(Spoken(letter, max(length - overhead, 0)))
    return found


def behind(records: Sequence[Spoken], client: int, server: int) -> list[Spoken]:
    """What follows the flights of the handshake: ``client`` and ``server`` first records of the sides."""
    left = {"c": client, "s": server}
    found = []
    for each in records:
        if left.get(each.side, 0) > 0:
            left[each.side] -= 1
        else:
            found.append(each)
    return found


def read_dialogue(
    records: Sequence[Spoken],
    *,
    http2: bool = False,
    tickets: bool = False,
    certificate_bytes: int | None = 0,
    coalesced: bool = False,
    ended_by: str = "",
    whole: bool = True,
    ordered: bool = True,
) -> Dialogue:
    """What the records behind the handshake say.

    ``http2``: it is, or may be, what is spoken; ``tickets``: they come under encryption (TLS 1.3); ``certificate_bytes``: length of the client's
    certificates, which a ticket may hold (None: not known); ``coalesced``: the server puts messages of the handshake that belong together into one record; ``ended_by``: who closed first, client or server, empty: nobody; ``whole``:
    nothing is missing of what both said; ``ordered``: which request an answer follows is known, else all of them are taken for alike.
    """
    given = _tickets(records, certificate_bytes) if tickets else []
    turns: list[list[int]] = [[]]
    requests: list[int] = []
    asking = over = left = maybe = little = False
    unasked = bool(given) and not any(each.side == "c" for each in records[: given[0]])
    twins = len(given) > 1 and not any(each.side == "c" for each in records[given[0] : given[1]])
    sure = twins or (unasked and coalesced and _two_with(records[given[0]].bytes, certificate_bytes))
    for at, each in enumerate(records):
        if each.side == "y":
            over = over or not left
        elif each.side == "x":
            left = left or not over
        elif each.side == "c":
            if http2 and each.bytes in QUIET_FRAMES:
                continue
            if not asking:
                turns.append([])
                requests.append(0)
            requests[-1] += each.bytes
            asking = True
        elif at in given:
            maybe = maybe or (bool(requests) and not sure)
        elif not (each.bytes <= CONTROL_BYTES if http2 else each.bytes == CONTINUE_BYTES):
            turns[-1].append(each.bytes)
            asking = False
        elif http2:
            little = little or bool(requests)
    # What a server says unasked answers nothing: a greeting, or tickets that nothing tells from it.
    answered = [each for each in turns[1:] if each]
    if not ordered:
        # No more than that one of them is long can be told of all together.
        answered = [[max(each)] for each in answered]
    kind, says = _kind(answered, http2)
    ended = (over or (ended_by == "server" and not left)) and whole
    # A client that asked, had nothing at all and said goodbye was not answered either, if the server closed before it.
    hung_up = ended_by == "server" and whole and bool(requests) and not given
    # In which order both directions were captured proves nothing: a lone record may be the answer to any request.
    unanswered = not turns[0] and not little and (sure or not (given and requests))
    if kind is Answers.NONE and (ended or hung_up) and unanswered and (requests or not left):
        kind = Answers.UNANSWERED
    lengths = tuple(sum(each) for each in answered)
    page = page_of(lengths, http2=http2) if kind is Answers.ALIKE and ordered else None
    return Dialogue(
        kind,
        lengths,
        tuple(requests),
        http2 and any(len(each) > 1 for each in answered),
        bool(given),
        maybe or little,
        ended,
        left,
        whole,
        says,
        "" if page is None else page.says,
    )


def _tickets(records: Sequence[Spoken], certificate: int | None) -> list[int]:
    """Places of the server's first records that may be session tickets: one, or two that are alike."""
    said = [at for at, each in enumerate(records) if each.side == "s"]
    with_it = 2 * ((certificate or 0) + BESIDE_CERTIFICATE_BYTES)
    most = None if certificate is None else max(PLAIN_TICKETS_BYTES, with_it)
    first = next((at for at in said if records[at].bytes >= TICKET_BYTES), None)
    if first is None or (most is not None and records[first].bytes > most):
        return []
    if any(records[at].side == "c" for at in range(first)) and said[0] != first:
        return []  # an answer came before
    second = next((at for at in said if at > first and records[at].bytes >= TICKET_BYTES), None)
    if second is not None and abs(records[second].bytes - records[first].bytes) in ALIKE_TICKETS_BYTES:
        between = any(each.side == "c" for each in records[first:second])
        later = [each.bytes for each in records[second + 1 :] if each.side == "s"]
        # Both are sent at once. What the client said meanwhile may lie between, but then an answer to it has to follow.
        if not between or (later and records[second].bytes not in later):
            return [first, second]
    # Behind a request, too long for a name, too short to hold what the client showed: an answer.
    asked = any(each.side == "c" for each in records[:first])
    answer = asked and certificate and BARE_TICKETS_BYTES < records[first].bytes < certificate
    return [] if answer else [first]


def _two_with(length: int, certificate: int | None) -> bool:
    """Whether this is what two tickets in one record have that hold the client's certificates."""
    return bool(certificate) and 2 * (certificate or 0) <= length <= 2 * ((certificate or 0) + BESIDE_CERTIFICATE_BYTES)


def _kind(answered: Sequence[Sequence[int]], http2: bool) -> tuple[Answers, str]:
    if not answered:
        return Answers.NONE, ""
    lengths = [sum(each) for each in answered]
    if max(lengths) > SHORT_ANSWER_BYTES:
        return Answers.SERVICE, f"the server gave an answer of more than {SHORT_ANSWER_BYTES} bytes"
    if _differ(lengths[1:] if http2 else lengths):
        return Answers.SERVICE, DIFFER
    if len(lengths) >= LONG_TALK:
        return Answers.SERVICE, MONOTONOUS
    return Answers.ALIKE, ""


def _differ(lengths: Sequence[int]) -> bool:
    """Whether these are several different answers."""
    kinds = 1
    told = sorted(lengths)
    for before, after in pairwise(told):
        kinds += after - before > DIFFERENT_BYTES
    return kinds >= SEVERAL
