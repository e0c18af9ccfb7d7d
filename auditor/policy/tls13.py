"""Client authentication of TLS 1.3 from the lengths of encrypted records.

The theory. After the hellos everything is encrypted, but lengths are not, and three facts hold whatever the keys (RFC 8446):

1. The client's first encrypted record starts its last flight: Certificate and CertificateVerify, if the server asked, then Finished
   (section 4.4). A client that was asked and has nothing answers with an empty Certificate of a known length (section 4.4.2).
2. Finished has the length of the suite's hash (section 4.4.4), CertificateVerify that of a signature (section 4.4.3); application data
   never shares a record with a handshake message (section 5.1). So the first record's length decides most of it: Finished alone, an empty
   Certificate (alone, or with Finished behind it), or something larger, which must hold a certificate unless the client pads.
3. The server's flight is EncryptedExtensions, CertificateRequest where it asks, Certificate, CertificateVerify, Finished (section 2): where each
   has a record of its own, the number of records says whether it asked. Both sides must agree; where they do not, nothing is claimed.

What stacks do differently (one record or several, constant padding) is data: ``inspectors/data/tls13_stacks.toml``. What lengths cannot
say (a client that pads to blocks, a gap in the flight, a resumed session) is ``unknown``: a certificate is claimed only where nothing else that
a stack is known to do looks the same. Fewer records or a gap never turn ``unknown`` into a claim.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from itertools import pairwise
from math import gcd

MESSAGE_HEAD = 4
"""Handshake type and length, RFC 8446 section 4."""
INNER_TYPE = 1
"""The content type behind the plaintext, RFC 8446 section 5.2."""
ALERT = 2
"""Level and description, RFC 8446 section 6."""
EMPTY_CERTIFICATE = MESSAGE_HEAD + 4
"""Empty context, empty list: RFC 8446 section 4.4.2."""
VERIFY_HEAD = MESSAGE_HEAD + 4
"""Algorithm and length before the signature, RFC 8446 section 4.4.3."""
SHA384_SUITES = frozenset({0x1302})
"""RFC 8446 appendix B.4; all others of version 1.3 hash with SHA-256."""
SHORT_TAG_SUITES = frozenset({0x1305})
"""TLS_AES_128_CCM_8_SHA256: a tag of 8 octets, all others 16."""
FLIGHT_RECORDS = 12
"""A Finished is looked for among so many first records of a side."""
BUSY = 4
"""So many answers make a conversation, whatever the first of them said."""


class ClientCertificate(StrEnum):
    """What the client answered; the words of the report's ``tls.client_certificate``."""

    SENT = "inferred_sent"
    EMPTY = "inferred_empty"
    ABSENT = "inferred_absent"
    UNKNOWN = "unknown"


class Asked(StrEnum):
    """Whether the server asked for a certificate during the handshake."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Tls13Outcome(StrEnum):
    """What became of the attempt."""

    ACCEPTED = "accepted"
    """Data from the responder after the client's flight (for a certificate that was sent: or its session ticket)."""
    REFUSED = "refused"
    """An alert or a close, and no data, straight after the flight."""
    HIDDEN = "hidden"
    """Asked and declined, and no more than one short answer: a refusal inside TLS would look the same."""
    UNKNOWN = "unknown"


class Confidence(StrEnum):
    """How sure the judgement of the certificate is."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class Tls13Flights:
    """Lengths of the records of outer type 23 in the order of the stream, after the hellos, and what is known beside them."""

    client: tuple[int, ...]
    """After the last ClientHello."""
    server: tuple[int, ...]
    """After the ServerHello."""
    cipher_suite: int
    psk_selected: bool = False
    """``pre_shared_key`` in the ServerHello: a resumed session (or an external key)."""
    hello_retry: bool = False
    early_data: bool = False
    """The (last) ClientHello offers ``early_data``: client records may come before its flight."""
    post_handshake_auth: bool = False
    """The client offers ``post_handshake_auth``: a certificate may come later, among the data."""
    client_alert: bool = False
    """A plaintext alert (outer type 21) from the client after its hello."""
    server_alert: bool = False
    client_gap: bool = False
    """Records are missing behind the last one listed (lost packets, short snaplen, head full)."""
    server_gap: bool = False
    client_ended: bool = False
    """FIN or RST right behind the last record listed."""
    server_ended: bool = False


@dataclass(frozen=True, slots=True)
class Tls13Judgement:
    """What the lengths say."""

    client_certificate: ClientCertificate
    asked: Asked
    outcome: Tls13Outcome
    confidence: Confidence
    says: str
    """One sentence for the evidence."""
    resumed: bool = False
    late_possible: bool = False
    """No certificate in the handshake, but the client offered to authenticate later and was not asked (contract, rule 3)."""
    shape: str = ""
    """How the client's flight lay in records: ``separate``, ``whole`` (one record) or empty; with its constant padding, ``separate+16``."""
    stacks: tuple[str, ...] = ()
    """Names of the measured stacks whose client has this shape."""


@dataclass(frozen=True, slots=True)
class Tls13Model:
    """The numbers of ``tls13_stacks.toml``."""

    certificate_min: int
    request_max: int
    paddings: tuple[int, ...]
    block_min: int
    handshake_block: int
    tickets_max: int
    signatures: frozenset[int]
    stacks: tuple[tuple[str, str, int], ...]
    """(name, layout of the client's flight, padding)."""

    def named(self, layout: str, padding: int) -> tuple[str, ...]:
        """Stacks whose client lays its flight out so."""
        return tuple(name for name, client, pad in self.stacks if (client, pad) == (layout, padding))


@cache
def tls13_model() -> Tls13Model:
    """The model shipped with the package, read once."""
    raw = tomllib.loads((files("auditor") / "inspectors" / "data" / "tls13_stacks.toml").read_text(encoding="utf-8"))
    sizes = raw["sizes"]
    signatures = {n for each in raw["signature"] for n in range(each["octets"][0], each["octets"][1] + 1)}
    stacks = tuple((each["name"], each["client"], each["padding"]) for each in raw["stack"])
    return Tls13Model(
        certificate_min=sizes["certificate_min"],
        request_max=sizes["request_max"],
        paddings=tuple(sizes["paddings"]),
        block_min=sizes["block_min"],
        handshake_block=sizes["handshake_block"],
        tickets_max=sizes["tickets_max"],
        signatures=frozenset(signatures),
        stacks=stacks,
    )


@dataclass(frozen=True, slots=True)
class _Wire:
    """What a suite adds to a message on its way into a record, and the length of its Finished."""

    overhead: int
    finished: int

    def record(self, body: int, padding: int = 0) -> int:
        return body + self.overhead + padding


def _wire(cipher_suite: int) -> _Wire:
    tag = 8 if cipher_suite in SHORT_TAG_SUITES else 16
    return _Wire(INNER_TYPE + tag, MESSAGE_HEAD + (48 if cipher_suite in SHA384_SUITES else 32))


@dataclass(frozen=True, slots=True)
class _Answer:
    """The client's flight, read."""

    what: ClientCertificate
    records: int
    """So many first records are its flight."""
    sure: bool
    """No padding and no other message gives these lengths."""
    layout: str
    padding: int
    says: str


@dataclass(frozen=True, slots=True)
class _Request:
    """The server's flight, read."""

    asked: Asked
    records: int
    whole: bool
    """The flight was recognised to its end."""


def _messages(lengths: tuple[int, ...]) -> int:
    """How many messages lie in these records, where a message longer than a record fills equal ones before its last."""
    count, largest = 0, max(lengths, default=0)
    fragmented = any(a == b == largest for a, b in pairwise(lengths))
    for length in lengths:
        if not (fragmented and length == largest):
            count += 1
    return count


def _request(flights: Tls13Flights, wire: _Wire, model: Tls13Model) -> _Request:
    """The server's flight: separate records up to a Finished, or one record that holds it all (which hides whether it asked)."""
    seen = flights.server
    for padding in model.paddings:
        finished = wire.record(wire.finished, padding)
        for at in range(3, min(len(seen), FLIGHT_RECORDS + 8)):
            verify = seen[at - 1] - wire.overhead - padding - VERIFY_HEAD
            if seen[at] != finished or verify not in model.signatures:
                continue
            between = seen[1 : at - 1]  # CertificateRequest, where there is one, and Certificate
            count = _messages(between)
            if count == 1 and between[-1] >= wire.record(model.certificate_min, padding):
                return _Request(Asked.NO, at + 1, True)
            if count == 2 and between[0] <= wire.record(model.request_max, padding):
                return _Request(Asked.YES, at + 1, True)
            return _Request(Asked.UNKNOWN, at + 1, True)
    least = wire.finished + VERIFY_HEAD + min(model.signatures) + model.certificate_min
    if seen and seen[0] >= wire.record(least) and not _blocks(seen, wire, model):
        return _Request(Asked.UNKNOWN, 1, True)
    return _Request(Asked.UNKNOWN, 0, False)


def _blocks(lengths: tuple[int, ...], wire: _Wire, model: Tls13Model) -> bool:
    """Whether the inner plaintexts of all records share a divisor too large for chance: padding to blocks."""
    common = 0
    for length in lengths:
        common = gcd(common, length - wire.overhead + INNER_TYPE)
    return common >= model.block_min * 4 or (common > 0 and common % model.block_min == 0)


def _rounded(length: int, wire: _Wire, model: Tls13Model) -> bool:
    """Whether one record's inner plaintext fills blocks as no flight does but by chance: some stacks pad the handshake alone."""
    return (length - wire.overhead + INNER_TYPE) % model.handshake_block == 0


def _answer(flights: Tls13Flights, wire: _Wire, model: Tls13Model) -> _Answer | None:
    """The client's flight, or None where its lengths say nothing."""
    seen = flights.client[:FLIGHT_RECORDS]
    if not seen:
        return None
    first = seen[0]
    for padding in model.paddings:
        if first == wire.record(wire.finished, padding):
            return _Answer(ClientCertificate.ABSENT, 1, padding == 0, "", padding, f"Finished alone ({first})")
    for padding in model.paddings:
        if first == wire.record(EMPTY_CERTIFICATE, padding):
            for other in model.paddings:
                if len(seen) > 1 and seen[1] == wire.record(wire.finished, other):
                    says = f"an empty Certificate ({first}) and Finished ({seen[1]})"
                    return _Answer(ClientCertificate.EMPTY, 2, True, "separate", padding, says)
            return None
    for padding in model.paddings:
        if first == wire.record(EMPTY_CERTIFICATE + wire.finished, padding):
            says = f"an empty Certificate and Finished in one record ({first})"
            return _Answer(ClientCertificate.EMPTY, 1, False, "whole", padding, says)
    for padding in model.paddings:
        for at in range(2, len(seen)):
            verify = seen[at - 1] - wire.overhead - padding - VERIFY_HEAD
            parts = seen[: at - 1]
            if (
                seen[at] != wire.record(wire.finished, padding)
                or verify not in model.signatures
                or _messages(parts) != 1
            ):
                continue
            if sum(part - wire.overhead - padding for part in parts) >= model.certificate_min:
                says = f"Certificate ({'+'.join(map(str, parts))}), CertificateVerify ({seen[at - 1]}) and Finished ({seen[at]})"
                return _Answer(ClientCertificate.SENT, at + 1, True, "separate", padding, says)
    least = wire.finished + VERIFY_HEAD + min(model.signatures) + model.certificate_min
    large = first >= wire.record(least, max(model.paddings))
    if large and not _blocks(flights.client, wire, model) and not _rounded(first, wire, model):
        says = f"one record ({first}) too long for anything but a certificate, its signature and Finished"
        return _Answer(ClientCertificate.SENT, 1, False, "whole", 0, says)
    return None


def _outcome(flights: Tls13Flights, wire: _Wire, model: Tls13Model, answer: _Answer, request: _Request) -> Tls13Outcome:
    """Accepted, refused or neither, from what followed both flights."""
    alerts = {wire.record(ALERT, padding) for padding in model.paddings}
    asked_for = [n for n in flights.client[answer.records :] if n not in alerts]
    behind = flights.server[request.records :]
    answers = [n for n in behind if n not in alerts]
    if not request.whole:
        return Tls13Outcome.UNKNOWN
    if not answers:
        over = flights.server_alert or flights.server_ended or any(n in alerts for n in behind)
        left = any(n in alerts for n in flights.client[answer.records :])
        if over and not flights.server_gap and (asked_for or not left):
            return Tls13Outcome.REFUSED
        return Tls13Outcome.UNKNOWN
    # Tickets come first, alike when there are several; a stack that sends none may answer twice alike: the smaller count stands.
    tickets = min(model.tickets_max, len(answers)) if len(answers) > 1 and answers[0] == answers[1] else 1
    data = len(answers) - tickets
    if answer.what is ClientCertificate.SENT:
        return Tls13Outcome.ACCEPTED  # a ticket too: a server makes it after the client's Finished
    if answer.what is ClientCertificate.ABSENT:
        return Tls13Outcome.ACCEPTED if data >= 1 and asked_for else Tls13Outcome.UNKNOWN
    if data >= BUSY or (data >= 2 and len(asked_for) >= 2):
        return Tls13Outcome.ACCEPTED
    return Tls13Outcome.HIDDEN


def _refused_early(flights: Tls13Flights, wire: _Wire, model: Tls13Model) -> bool:
    """Nothing but alerts from the client: it turned the server away before its own flight."""
    alerts = {wire.record(ALERT, padding) for padding in model.paddings}
    only = all(n in alerts for n in flights.client) and (bool(flights.client) or flights.client_alert)
    return only and not flights.client_gap


def _unknown(says: str, asked: Asked = Asked.UNKNOWN, outcome: Tls13Outcome = Tls13Outcome.UNKNOWN) -> Tls13Judgement:
    return Tls13Judgement(ClientCertificate.UNKNOWN, asked, outcome, Confidence.LOW, says)


def _resumed(flights: Tls13Flights, wire: _Wire, model: Tls13Model) -> Tls13Judgement:
    alerts = {wire.record(ALERT, padding) for padding in model.paddings}
    finished = {wire.record(wire.finished, padding) for padding in model.paddings}
    at = next((i + 1 for i, n in enumerate(flights.server[:3]) if n in finished), 1)
    answers = [n for n in flights.server[at:] if n not in alerts]
    tickets = min(model.tickets_max, len(answers)) if len(answers) > 1 and answers[0] == answers[1] else 1
    if len(answers) > tickets:
        outcome = Tls13Outcome.ACCEPTED
    elif (
        not answers
        and not flights.server_gap
        and len(flights.client) > 1
        and (flights.server_ended or len(flights.server) > at)
    ):
        outcome = Tls13Outcome.REFUSED
    else:
        outcome = Tls13Outcome.UNKNOWN
    says = "the session was resumed: no certificate crosses, the full handshake it resumes decides"
    return Tls13Judgement(ClientCertificate.UNKNOWN, Asked.NO, outcome, Confidence.HIGH, says, resumed=True)


def judge_tls13(flights: Tls13Flights, model: Tls13Model | None = None) -> Tls13Judgement:
    """What record lengths say of the client's authentication; never ``inferred_sent`` where a declined or absent one could look so."""
    model = model or tls13_model()
    wire = _wire(flights.cipher_suite)
    if flights.psk_selected:
        return _resumed(flights, wire, model)
    if flights.early_data:
        return _unknown("early data may precede the client's flight, and no record says where that starts")
    if _refused_early(flights, wire, model):
        return _unknown(
            "the client ended the handshake with an alert before its own flight", outcome=Tls13Outcome.REFUSED
        )
    request = _request(flights, wire, model)
    if flights.server_gap and not request.whole:
        return _unknown("records of the server's flight are missing")
    answer = _answer(flights, wire, model)
    if answer is None:
        if flights.client_gap or not flights.client:
            return _unknown("records of the client's flight are missing", request.asked)
        return _unknown("the lengths of the client's records fit no flight that is known, or are padded", request.asked)
    against = (answer.what is ClientCertificate.ABSENT) is (request.asked is Asked.YES)
    if request.asked is not Asked.UNKNOWN and against:
        return _unknown(
            f"the client's flight looks like {answer.says}, and the server's says the opposite", request.asked
        )
    if not answer.sure and flights.client_gap and len(flights.client) <= answer.records:
        return _unknown("records behind the client's first are missing", request.asked)
    confidence = Confidence.HIGH if answer.sure or request.asked is not Asked.UNKNOWN else Confidence.MEDIUM
    if answer.layout == "whole" and answer.what is ClientCertificate.SENT and len(flights.client) == 1:
        confidence = Confidence.LOW  # nothing else of this client shows that it does not pad
    asked = Asked.NO if answer.what is ClientCertificate.ABSENT else Asked.YES
    outcome = _outcome(flights, wire, model, answer, request)
    shape = answer.layout + (f"+{answer.padding}" if answer.layout and answer.padding else "")
    witness = {
        Asked.YES: "; the server's flight holds a request",
        Asked.NO: "; the server's flight holds no request",
        Asked.UNKNOWN: "; the server's flight does not show whether it asked",
    }[request.asked]
    return Tls13Judgement(
        answer.what,
        asked,
        outcome,
        confidence,
        f"by their lengths, the client's encrypted records are {answer.says}{witness}",
        late_possible=answer.what is ClientCertificate.ABSENT and flights.post_handshake_auth,
        shape=shape,
        stacks=model.named(answer.layout, answer.padding) if answer.layout else (),
    )
