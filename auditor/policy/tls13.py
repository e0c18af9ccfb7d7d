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
a stack is known to do looks the same. Fewer records or a gap never turn ``unknown`` into a claim. What became of the attempt is read
from the dialogue behind both flights (``dialogue.py``).
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from itertools import pairwise
from math import gcd

from auditor.policy.dialogue import NO_DIALOGUE, Answers, Dialogue, behind, read_dialogue, spoken

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
EXTENSIONS = MESSAGE_HEAD + 2
"""EncryptedExtensions without any, RFC 8446 section 4.3.1."""
ALPN_H2, ALPN_HTTP1 = 9, 15
"""The extension that selects ``h2``, and ``http/1.1``: RFC 7301 section 3.1. All others that servers answer with here have an even length."""
SNI_TAKEN = 4
"""An empty server_name, RFC 6066 section 3."""
LEAST_TICKET = 32
"""No session ticket is shorter: it is a random number that names the session, or the session itself, sealed."""


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
    """Answers that no refusal is."""
    LIKELY = "likely"
    """Answers, or a session ticket alone: a refusal inside TLS might look the same, and is not to be expected."""
    REFUSED = "refused"
    """An alert or a close, and no answer."""
    HIDDEN = "hidden"
    """No certificate, and answers that all may be refusals inside TLS."""
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
    order: str = ""
    """Who said what, as ``tls.order`` tells: ``c`` and ``s`` for a record of either side, ``x`` and ``y`` for alerts in the clear."""
    psk_selected: bool = False
    """``pre_shared_key`` in the ServerHello: a resumed session (or an external key)."""
    psk_identity_bytes: int = 0
    """Length of the first identity that the client offered; 0: not seen."""
    alpn_offered: tuple[str, ...] = ()
    hello_retry: bool = False
    early_data: bool = False
    """The (last) ClientHello offers ``early_data``: client records may come before its flight."""
    post_handshake_auth: bool = False
    """The client offers ``post_handshake_auth``: a certificate may come later, among the data."""
    client_alert: bool = False
    """A plaintext alert (outer type 21) from the client after its hello."""
    server_alert: bool = False
    client_gap: bool = False
    """Records are missing behind the last one listed (lost packets, short snaplen)."""
    server_gap: bool = False
    client_more: bool = False
    """More records followed than are listed."""
    server_more: bool = False
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
    late: str = ""
    """No certificate in the handshake, and the client offered to authenticate later: ``sent``, one crossed then; ``possible``, it may have
    (docs/verdicts.md, rule 3)."""
    flights: tuple[int, int] = (0, 0)
    """So many first records of client and server are their flights; none: they were not recognised."""
    certificate_bytes: int | None = 0
    """Length of the client's certificates; None: not known (resumed)."""
    http2: bool | None = None
    """Whether HTTP/2 was agreed on, by the length of the server's EncryptedExtensions; None: it does not show."""
    external: bool = False
    """A pre-shared key that is not a session's: its name is shorter than any ticket."""
    dialogue: Dialogue = NO_DIALOGUE
    shape: str = ""
    """How the client's flight lay in records: ``separate``, ``whole`` (one record) or empty; with its constant padding, ``separate+16``."""
    stacks: tuple[str, ...] = ()
    """Names of the measured stacks whose client has this shape."""


@dataclass(frozen=True, slots=True)
class Tls13Model:
    """The numbers of ``tls13_stacks.toml``."""

    certificate_min: int
    request_max: int
    fragment_max: int
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
        fragment_max=sizes["fragment_max"],
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
    certificate_bytes: int = 0
    """Of the Certificate message, at least."""


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
            if count == 2 and not _fragment(between[0], seen[: at + 1], wire, padding, model):
                return _Request(Asked.YES, at + 1, True)
            return _Request(Asked.UNKNOWN, at + 1, True)
    least = wire.finished + VERIFY_HEAD + min(model.signatures) + model.certificate_min
    if seen and seen[0] >= wire.record(least) and not _blocks(seen, wire, model):
        return _Request(Asked.UNKNOWN, 1, True)
    return _Request(Asked.UNKNOWN, 0, False)


def _fragment(length: int, others: tuple[int, ...], wire: _Wire, padding: int, model: Tls13Model) -> bool:
    """Whether this record may be the first part of a Certificate in two: it is as long as this server makes them."""
    content = length - wire.overhead - padding
    if content <= model.request_max or length < max(others):
        return False
    return content <= model.fragment_max or content & (content - 1) == 0


def _blocks(lengths: tuple[int, ...], wire: _Wire, model: Tls13Model) -> bool:
    """Whether the inner plaintexts of all records share a divisor too large for chance: padding to blocks. One record alone tells nothing."""
    if len(lengths) < 2:
        return False
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
            return _Answer(
                ClientCertificate.ABSENT, 1, padding == 0, "", padding, f"a Finished and nothing else ({first} bytes)"
            )
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
            shown = sum(part - wire.overhead - padding for part in parts)
            if shown >= model.certificate_min:
                says = f"Certificate ({'+'.join(map(str, parts))}), CertificateVerify ({seen[at - 1]}) and Finished ({seen[at]})"
                return _Answer(ClientCertificate.SENT, at + 1, True, "separate", padding, says, shown)
    least = wire.finished + VERIFY_HEAD + min(model.signatures) + model.certificate_min
    large = first >= wire.record(least, max(model.paddings))
    if len(seen) > 1 and seen[1] in {wire.record(wire.finished, padding) for padding in model.paddings}:
        return None  # an empty Certificate that was padded, and Finished behind it, would look the same
    if large and not _blocks(flights.client, wire, model) and not _rounded(first, wire, model):
        says = f"one record ({first}) that is long enough only for a certificate, its signature and Finished"
        shown = first - wire.overhead - wire.finished - VERIFY_HEAD - max(model.signatures)
        return _Answer(ClientCertificate.SENT, 1, False, "whole", 0, says, max(shown, model.certificate_min))
    return None


def _alerts(wire: _Wire, model: Tls13Model) -> frozenset[int]:
    return frozenset(wire.record(ALERT, padding) for padding in model.paddings)


def _http2(flights: Tls13Flights, wire: _Wire, model: Tls13Model, request: _Request) -> bool | None:
    """Whether HTTP/2 was agreed on: the answer to ALPN is encrypted, but EncryptedExtensions has its length (RFC 8446 section 4.3.1)."""
    if "h2" not in flights.alpn_offered:
        return False
    if len(flights.alpn_offered) == 1:
        return True
    if request.records < 2:
        return None
    padding = next(
        (pad for pad in model.paddings if flights.server[request.records - 1] == wire.record(wire.finished, pad)), 0
    )
    extensions = flights.server[0] - wire.record(EXTENSIONS, padding)
    if extensions in {ALPN_H2, ALPN_H2 + SNI_TAKEN}:
        return True
    if extensions % 2 == 0 or extensions in {ALPN_HTTP1, ALPN_HTTP1 + SNI_TAKEN}:
        return False
    return None


def _dialogue(
    flights: Tls13Flights, model: Tls13Model, client: int, server: int, http2: bool | None, shown: int | None
) -> Dialogue:
    """What followed the flights; ``client``, ``server``: so many records they have; ``shown``: bytes of the client's certificates."""
    ended_by = "server" if flights.server_ended else "client" if flights.client_ended else ""
    return talk13(
        flights.order,
        flights.client,
        flights.server,
        flights=(client, server),
        cipher_suite=flights.cipher_suite,
        http2=http2,
        certificate_bytes=shown,
        ended_by=ended_by,
        whole=not (flights.server_gap or flights.client_gap),
        model=model,
    )


def talk13(
    order: str,
    client: Sequence[int],
    server: Sequence[int],
    *,
    flights: tuple[int, int],
    cipher_suite: int,
    http2: bool | None,
    certificate_bytes: int | None,
    ended_by: str = "",
    whole: bool = True,
    model: Tls13Model | None = None,
) -> Dialogue:
    """The dialogue behind flights of so many first records of client and server; lengths are those of records of outer type 23.

    ``certificate_bytes``: of the client's certificates, which session tickets may hold; None: not known.
    """
    wire = _wire(cipher_suite)
    records = spoken(order, client, server, wire.overhead, _alerts(wire, model or tls13_model()))
    return read_dialogue(
        behind(records, *flights),
        http2=http2 is not False,
        tickets=True,
        certificate_bytes=certificate_bytes,
        coalesced=flights[1] == 1,
        ordered=bool(order),
        ended_by=ended_by,
        whole=whole,
    )


def _outcome(dialogue: Dialogue, answer: ClientCertificate, http2: bool | None) -> Tls13Outcome:
    """What the dialogue says of an attempt with this certificate."""
    if dialogue.answers is Answers.UNANSWERED:
        return Tls13Outcome.REFUSED
    if dialogue.answers is Answers.SERVICE:
        return Tls13Outcome.ACCEPTED
    if dialogue.answers is Answers.NONE:
        said = dialogue.tickets or dialogue.maybe
        if answer is not ClientCertificate.SENT or not said or dialogue.ended or not dialogue.whole:
            return Tls13Outcome.UNKNOWN
        # A server makes a ticket after the client's Finished, and some make it before they look at the certificate.
        return Tls13Outcome.UNKNOWN if dialogue.requests and not dialogue.maybe else Tls13Outcome.LIKELY
    if answer is ClientCertificate.SENT:
        return Tls13Outcome.LIKELY
    if answer is ClientCertificate.EMPTY:
        return Tls13Outcome.HIDDEN
    return unasked(dialogue, http2=http2 is not False)


def unasked(dialogue: Dialogue, *, http2: bool) -> Tls13Outcome:
    """Few, short and equal answers of a server that did not ask for a certificate: it does not refuse for want of one.

    It may refuse the name it was asked for (421) or the call (gRPC), in HTTP/2, and such a refusal is headers alone (RFC 9110 section 15.5.20).
    """
    if len(dialogue.turns) > 1:
        return Tls13Outcome.ACCEPTED
    return Tls13Outcome.HIDDEN if http2 and not dialogue.bodies else Tls13Outcome.LIKELY


def _late(flights: Tls13Flights, wire: _Wire, model: Tls13Model, answer: _Answer) -> str:
    """Whether a certificate crossed after the handshake: its flight ends in a Finished, as the first one does (RFC 8446 section 4.6.2)."""
    if flights.client_gap:
        return "possible"
    later = flights.client[answer.records :]
    found = ""
    for padding in model.paddings:
        for at, length in enumerate(later):
            if length != wire.record(wire.finished, padding):
                continue
            found = found or "possible"
            verify = later[at - 1] - wire.overhead - padding - VERIFY_HEAD if at >= 2 else 0
            if verify in model.signatures and later[at - 2] >= wire.record(model.certificate_min, padding):
                return "sent"
    return found


def _refused_early(flights: Tls13Flights, wire: _Wire, model: Tls13Model) -> bool:
    """Nothing but alerts from the client: it turned the server away before its own flight."""
    alerts = {wire.record(ALERT, padding) for padding in model.paddings}
    only = all(n in alerts for n in flights.client) and (bool(flights.client) or flights.client_alert)
    return only and not flights.client_gap


def _unknown(says: str, asked: Asked = Asked.UNKNOWN, outcome: Tls13Outcome = Tls13Outcome.UNKNOWN) -> Tls13Judgement:
    return Tls13Judgement(ClientCertificate.UNKNOWN, asked, outcome, Confidence.LOW, says)


def _resumed(flights: Tls13Flights, wire: _Wire, model: Tls13Model) -> Tls13Judgement:
    """A session that was set up with a pre-shared key: no certificate crosses (RFC 8446 section 4.3.2)."""
    finished = {wire.record(wire.finished, padding) for padding in model.paddings}
    server = next((i + 1 for i, n in enumerate(flights.server[:3]) if n in finished), 1)
    client = next((i + 1 for i, n in enumerate(flights.client) if n in finished), 1) if flights.early_data else 1
    http2 = None if "h2" in flights.alpn_offered else False
    external = 0 < flights.psk_identity_bytes < LEAST_TICKET
    dialogue = _dialogue(flights, model, client, server, http2, 0 if external else None)
    if external:
        outcome = _outcome(dialogue, ClientCertificate.ABSENT, http2)
        says = (
            f"an external pre-shared key is used instead of certificates: its name has {flights.psk_identity_bytes} bytes, fewer than any "
            "session ticket"
        )
        return Tls13Judgement(
            ClientCertificate.ABSENT,
            Asked.NO,
            outcome,
            Confidence.HIGH,
            says,
            flights=(client, server),
            http2=http2,
            external=True,
            dialogue=dialogue,
        )
    outcome = _outcome(dialogue, ClientCertificate.SENT, None)
    says = "the session was resumed: no certificate is sent, the full handshake that it resumes decides"
    return Tls13Judgement(
        ClientCertificate.UNKNOWN,
        Asked.NO,
        outcome,
        Confidence.HIGH,
        says,
        resumed=True,
        flights=(client, server),
        certificate_bytes=None,
        http2=http2,
        dialogue=dialogue,
    )


def judge_tls13(flights: Tls13Flights, model: Tls13Model | None = None) -> Tls13Judgement:
    """What record lengths say of the client's authentication; never ``inferred_sent`` where a declined or absent one could look so."""
    model = model or tls13_model()
    wire = _wire(flights.cipher_suite)
    if flights.psk_selected:
        return _resumed(flights, wire, model)
    if flights.early_data:
        return _unknown("early data may precede the client's flight, and no record marks where the flight starts")
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
        return _unknown("the lengths of the client's records match no known flight, or are padded", request.asked)
    against = (answer.what is ClientCertificate.ABSENT) is (request.asked is Asked.YES)
    if request.asked is not Asked.UNKNOWN and against:
        return _unknown(
            f"the client's flight looks like {answer.says}, but the server's shows the opposite", request.asked
        )
    if not answer.sure and (flights.client_gap or flights.client_more) and len(flights.client) <= answer.records:
        return _unknown("records after the client's first are missing", request.asked)
    confidence = Confidence.HIGH if answer.sure or request.asked is not Asked.UNKNOWN else Confidence.MEDIUM
    if answer.layout == "whole" and answer.what is ClientCertificate.SENT:
        # Padding makes any record long; and of a client that says no more nothing shows that it does not pad.
        confidence = Confidence.LOW if len(flights.client) == 1 else Confidence.MEDIUM
    elif answer.what is ClientCertificate.SENT:
        # A client that wants to can pad an empty Certificate, a Finished and its first data to these very lengths (RFC 8446 section 5.4).
        confidence = Confidence.MEDIUM
    asked = Asked.NO if answer.what is ClientCertificate.ABSENT else Asked.YES
    http2 = _http2(flights, wire, model, request)
    dialogue = NO_DIALOGUE
    if request.whole:
        dialogue = _dialogue(flights, model, answer.records, request.records, http2, answer.certificate_bytes)
    outcome = _outcome(dialogue, answer.what, http2)
    # HTTP/2 forbids authentication after the handshake (RFC 8740).
    offered = answer.what is ClientCertificate.ABSENT and flights.post_handshake_auth and http2 is not True
    late = _late(flights, wire, model, answer) if offered else ""
    shape = answer.layout + (f"+{answer.padding}" if answer.layout and answer.padding else "")
    witness = {
        Asked.YES: "; the server asked for a certificate",
        Asked.NO: "; the server did not ask for a certificate",
        Asked.UNKNOWN: "; the server's flight does not show whether it asked",
    }[request.asked]
    return Tls13Judgement(
        answer.what,
        asked,
        outcome,
        confidence,
        f"by their lengths, the client's encrypted records are {answer.says}{witness}",
        late=late,
        flights=(answer.records, request.records) if request.whole else (0, 0),
        certificate_bytes=answer.certificate_bytes,
        http2=http2,
        dialogue=dialogue,
        shape=shape,
        stacks=model.named(answer.layout, answer.padding) if answer.layout else (),
    )
