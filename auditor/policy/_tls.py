"""Reading a TLS session: which certificate crossed, and what became of the attempt.

Up to TLS 1.2 the handshake is in the clear, and a server's Finished means that it took the client's (RFC 5246 section 7.4.9). So a
certificate with its CertificateVerify and both Finished is proof; without a certificate, only data from the server shows that it did not
mind. In TLS 1.3 lengths of records decide (``tls13.py``). A resumed session shows no certificates in any version: what was judged of
the full handshake holds for it, and finding that one is ``sessions.py``'s business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import gcd
from typing import Any

from auditor.model.facts import ANSWERED_WITH, Facts, signature_fits
from auditor.model.judgement import Fault, Verdict
from auditor.model.streams import HEAD_BYTES, TRAIL_RECORDS
from auditor.policy._observation import Observation, Said, rejected, unverifiable, violated, weaker
from auditor.policy.dialogue import NO_DIALOGUE, Answers, Dialogue, read_dialogue, spoken
from auditor.policy.policy import Settings
from auditor.policy.tls13 import (
    ClientCertificate,
    Confidence,
    Tls13Flights,
    Tls13Judgement,
    Tls13Outcome,
    judge_tls13,
    talk13,
    tls13_model,
    unasked,
)
from auditor.wire.tls_ciphers import CIPHER_SUITES

TLS13 = "TLS 1.3"
VERSIONS = ("SSL 2.0", "SSL 3.0", "TLS 1.0", "TLS 1.1", "TLS 1.2", "TLS 1.3")

SENT, EMPTY, NOT_SENT, NOT_ASKED, UNKNOWN = "sent", "empty", "not_sent", "not_asked", "unknown"
ACCEPTED, REFUSED, VEILED, OPEN = "accepted", "refused", "veiled", "open"
"""The result: data followed; it was refused; an answer that may be either (hidden); neither was seen."""

LONG_FLIGHT = f"the server's flight is longer than the {TRAIL_RECORDS} records that are followed"

LOGIN_RECORDS = 3
"""A client that is refused has said so much at most: CONNECT and PING, in one record or two, and close_notify."""

LONGEST_CLIENT_FLIGHT = 4
LONGEST_SERVER_FLIGHT = 8
"""Certificate (in two records), CertificateVerify, Finished; and before those of the server two more messages, after them two tickets."""

_RECORD_BYTES = {"CHACHA20": 16, "CBC": 32}
"""What a record of TLS 1.2 adds to its content (CBC: with its padding, at least), where it is not GCM's or CCM's explicit nonce and tag."""
_NONCE_AND_TAG_BYTES = 24

REFUSALS = frozenset({400, 401, 403, 407})
"""HTTP status codes that turn an attempt away (contract, rule 5); 400 answers plaintext on a TLS port."""

SIGNED_REFUSALS = REFUSALS | {410}
"""Those of a signed URL: one that has expired is gone."""

_SUITES = {name: number for number, name in CIPHER_SUITES.items()}

_DECLINED = frozenset({EMPTY, NOT_SENT})
LEAST_ERROR = 400
"""HTTP status codes from here on are no acceptance of what was no request."""


@dataclass(frozen=True, slots=True)
class TlsReading:
    """What a TLS session shows."""

    version: str | None = None
    certificate: str = UNKNOWN
    """The client's: sent, empty, not_sent, not_asked, unknown."""
    proof: bool = False
    """CertificateVerify was seen (TLS 1.3: it must have been, or there would be no session)."""
    misfit: bool = False
    """Its signature does not fit the handshake as seen."""
    outcome: str = OPEN
    done: bool = False
    """The handshake was completed on both sides."""
    unseen_end: bool = False
    """The server's Finished lies behind what is kept of a flight that is too long: the client's data alone says that it came."""
    both_ways: bool = False
    """Application data went both ways."""
    doubt: bool = False
    """It was answered, or took a session ticket, and a refusal inside TLS might look the same: what rests on ``outcome`` is of medium confidence at most."""
    weighed: bool = False
    """Other connections of the same server decided the result (``population.py``)."""
    dialogue: Dialogue = NO_DIALOGUE
    """What was said behind the handshake."""
    resumed: bool = False
    identity_bytes: int = 0
    """TLS 1.3: length of the pre-shared key's name that the client offered; 0: not seen."""
    sha384: bool = False
    """The suite hashes with SHA-384, which a resumed session's does too (RFC 8446 section 4.6.1)."""
    unread: bool = False
    """The client's certificate lies behind what is kept of its stream: it was not read, and its proof not checked."""
    plain: bool = False
    """What began as TLS was taken in the clear."""
    late: bool = False
    """A certificate may have crossed later, encrypted (contract, rule 3)."""
    clear: bool = True
    """The certificates' part was in the clear: what is said is proven."""
    asked: bool | None = None
    """The server asked for a client certificate; None: not seen, or not in the clear."""
    absence: bool = True
    """Bytes that could contradict an absence are not missing."""
    confidence: str = "high"
    missing: str | None = None
    says: str = ""
    """Of the certificate."""
    why: str = ""
    """Of the outcome."""
    kinds: tuple[str, ...] = ()
    asked_kinds: tuple[str, ...] = ()
    """Kinds that show the outcome."""
    settled: tuple[Said, Said] | None = None
    """Of a resumed session whose full handshake was found: what holds of mutual TLS, and of TLS."""

    @property
    def inferred_certificate(self) -> str | None:
        """The report's word for what TLS 1.3's lengths say of the client's certificate; None where they say nothing."""
        if self.clear or self.resumed:
            return None
        return {SENT: "inferred_sent", EMPTY: "inferred_empty", NOT_ASKED: "inferred_absent"}.get(self.certificate)


def is_tls(seen: Observation) -> bool:
    """TLS is spoken, from the first byte or after a protocol's upgrade."""
    facts = seen.facts
    if facts.get(ANSWERED_WITH) == "other":
        return False
    return seen.application in {"tls", "https"} or "tls.client_hello" in facts or "tls.server_hello" in facts


def is_13(version: object) -> bool:
    """TLS 1.3 or a draft of it."""
    return isinstance(version, str) and version.startswith(TLS13)


def read_tls(seen: Observation) -> TlsReading:
    """What a connection that speaks TLS shows."""
    facts = seen.facts
    version = facts.get("tls.version")
    if "tls.server_hello" not in facts:
        return _unanswered(seen)
    if not is_13(version):
        return _read12(seen, version)
    lengths = _read13(seen, str(version))
    return _read_opened(seen, lengths) if facts.get("tls.decrypted") == "both" else lengths


def _lacks(seen: Observation) -> str | None:
    """What is missing of the handshake."""
    facts = seen.facts
    if "tls.midstream" in facts and "tls.client_hello" not in facts:
        return "midstream"
    return seen.lacks or ("gap" if "tls.gap" in facts else "one_way" if facts.get("tls.silent") == "both" else None)


def _clean(seen: Observation) -> bool:
    """Nothing is missing of what both sides said at first."""
    facts = seen.facts
    broken = ("tls.gap", "tls.cut", "tls.limit", "tls.malformed", "tls.midstream", "tls.silent")
    return seen.whole and not any(kind in facts for kind in broken)


def _alert_says(seen: Observation) -> tuple[str, str] | None:
    """The first alert in the clear that ends an attempt: what it says and its kind."""
    facts = seen.facts
    for side in ("server", "client"):
        alert = facts.get(f"tls.{side}_alert")
        if alert is not None and (alert[0] == "fatal" or alert[1] == "close_notify"):
            return f"the {side} sent the alert {alert[1]}", f"tls.{side}_alert"
    return None


def _unanswered(seen: Observation) -> TlsReading:
    """No ServerHello was seen."""
    facts = seen.facts
    hello = "tls.client_hello" in facts
    alert = _alert_says(seen)
    if alert is not None:
        return TlsReading(outcome=REFUSED, why=alert[0], asked_kinds=(alert[1],), missing=_lacks(seen))
    if facts.get(ANSWERED_WITH) == "http":
        status = facts.get("tls.answered_status", 0)
        why = "the server answered the ClientHello with HTTP in the clear"
        if 0 < status < LEAST_ERROR:
            says = f"{why}, status {status}: it accepted the connection without TLS"
            return TlsReading(outcome=ACCEPTED, plain=True, why=says, asked_kinds=(ANSWERED_WITH,))
        return TlsReading(outcome=REFUSED, why=f"{why}: it does not speak TLS there", asked_kinds=(ANSWERED_WITH,))
    lacks = _lacks(seen)
    quiet = facts.get("tls.silent") == "server" and not any(k in facts for k in ("tls.gap", "tls.cut", "tls.malformed"))
    if hello and seen.closed_by and lacks is None and quiet:
        why = f"{seen.closing} after the ClientHello, with no answer to it"
        return TlsReading(outcome=REFUSED, why=why, asked_kinds=("tls.client_hello",))
    if hello and seen.closed_by and lacks is None and facts.get("tls.hello_retry") and _clean(seen):
        why = f"{seen.closing} in the middle of the handshake"
        return TlsReading(outcome=REFUSED, why=why, asked_kinds=("tls.client_hello",))
    words = {
        "midstream": "the handshake took place before the capture",
        "one_way": "only one direction was captured",
        "gap": "packets of the handshake are missing",
    }
    nothing = "no answer to the ClientHello was seen" if hello else "no handshake was seen"
    if hello and seen.answered and "tls.malformed" in facts:
        nothing = "what came back for the ClientHello is no TLS"
    says = words.get(lacks or "", nothing)
    kinds = tuple(k for k in ("tls.midstream", "tls.gap", "tls.client_hello") if k in facts)
    return TlsReading(missing=lacks or "no_handshake", says=says, kinds=kinds)


def _sizes(seen: Observation, side: str) -> tuple[int, ...]:
    sizes: tuple[int, ...] = seen.facts.get(f"tls.{side}_records", ())
    return sizes


def _longer_than_kept(seen: Observation) -> bool:
    """The server's records are not told to their end because no more of them are followed, not because packets are missing."""
    facts = seen.facts
    return facts.get("tls.limit") in {"server", "both"} and "tls.gap" not in facts and seen.whole


def closed_after_little(seen: Observation, reading: TlsReading) -> bool:
    """The server ended it after no more than a login and its answer: a refusal inside TLS looks so (NATS says -ERR, and closes)."""
    if seen.closed_by != "server" or "tls.client_records_more" in seen.facts:
        return False
    flight = 0 if not is_13(reading.version) else {SENT: 3, EMPTY: 2}.get(reading.certificate, 1)
    return len(_sizes(seen, "client")) - flight <= LOGIN_RECORDS


def _dialogue12(seen: Observation) -> Dialogue:
    """What followed a handshake up to TLS 1.2."""
    facts = seen.facts
    suite = facts.get("tls.cipher", "")
    overhead = next((size for word, size in _RECORD_BYTES.items() if word in suite), _NONCE_AND_TAG_BYTES)
    records = spoken(facts.get("tls.order", ""), _sizes(seen, "client"), _sizes(seen, "server"), overhead)
    return read_dialogue(
        records,
        http2=_is_http2(seen),
        ended_by=seen.closed_by,
        whole=_clean(seen),
        ordered=bool(facts.get("tls.order")),
    )


def _is_http2(seen: Observation) -> bool:
    return bool(seen.facts.get("tls.alpn") == "h2")


_MAYBE_REFUSED = "a refusal inside TLS might look the same"


NATS_REFUSAL_BYTES = 32
"""-ERR 'Authorization Violation' and its end of line."""


def refuses_last(seen: Observation, reading: TlsReading) -> bool:
    """The server's last record with data is as long as the -ERR of NATS that refuses a login (an alert may close behind it)."""
    ends = _refusing_ends(_sizes(seen, "server"))
    around = {17} if is_13(reading.version) else {16, 24}
    return "tls.server_records_more" not in seen.facts and not ends.isdisjoint(
        NATS_REFUSAL_BYTES + more for more in around
    )


def _refusing_ends(sizes: tuple[int, ...]) -> frozenset[int]:
    """Those of the last two lengths that a record with NATS' refusal may have."""
    return frozenset(size for size in sizes[-2:] if size - NATS_REFUSAL_BYTES in {16, 17, 24})


def _read12(seen: Observation, version: str | None) -> TlsReading:
    facts = seen.facts
    clean = _clean(seen)
    certificate = str(facts.get("tls.client_certificate", UNKNOWN))
    resumed = facts.get("tls.resumed") is True
    done = "tls.client_finished" in facts and "tls.server_finished" in facts
    served, asked = "tls.server_application_data" in facts, "tls.client_application_data" in facts
    long = _longer_than_kept(seen)
    alert = _alert_says(seen)
    dialogue = _dialogue12(seen)
    outcome, why, doubt = OPEN, "nothing shows whether it was accepted", False
    kinds: tuple[str, ...] = ()
    if alert is not None and not served and (not done or seen.facts[alert[1]][0] == "fatal"):
        outcome, why, kinds = REFUSED, alert[0], (alert[1],)
    elif not done:
        if seen.closed_by and clean:
            outcome, why, kinds = REFUSED, f"{seen.closing} before the handshake was complete", ("tls.server_hello",)
        elif long and asked and "tls.client_finished" in facts:
            outcome, kinds = ACCEPTED, ("tls.client_application_data",)
            why = f"{LONG_FLIGHT}, and the client continued with data, which it does only after the server's Finished"
        else:
            why = LONG_FLIGHT if long else "the end of the handshake was not seen"
    elif served:
        kinds = ("tls.server_application_data",)
        inside = _inside_says(seen) if certificate in _DECLINED else None
        if inside is not None:
            outcome, why, kinds = *inside, ("http.statuses",)
        else:
            outcome, why, doubt = _answered12(dialogue, certificate, resumed=resumed, http2=_is_http2(seen))
    elif "tls.server_encrypted_alert" in facts and clean and (asked or certificate in _DECLINED):
        outcome, why, kinds = REFUSED, "the server answered with an alert and no data", ("tls.server_encrypted_alert",)
    elif seen.closed_by == "server" and clean and (asked or certificate in _DECLINED):
        outcome, why, kinds = REFUSED, f"{seen.closing} without any data", ("tls.server_finished",)
    elif certificate == SENT and clean:
        outcome, why, kinds = ACCEPTED, "the server finished the handshake", ("tls.server_finished",)
    elif resumed and clean:
        outcome, why, kinds = ACCEPTED, "both ends finished the handshake", ("tls.client_finished",)
    says = {
        SENT: "the client sent a certificate",
        EMPTY: "the server asked, and the client sent an empty certificate",
        NOT_SENT: "the server asked, and the client sent no certificate",
        NOT_ASKED: "the server did not ask for a client certificate",
    }.get(certificate, "the client's certificate was not seen")
    shown = ("tls.client_certificate", "tls.certificate_requested", "tls.certificate_verify", "tls.client_finished")
    lacks = _lacks(seen) or ("limit" if long and not done else "gap" if "tls.cut" in facts and not done else None)
    return TlsReading(
        version=version,
        certificate=certificate,
        proof=facts.get("tls.certificate_verify") is True,
        misfit=signature_fits(facts) is False,
        unread=facts.get("tls.certificate_not_kept") in {"client", "both"},
        outcome=outcome,
        done=done,
        unseen_end=long and not done,
        both_ways=done and served and asked,
        doubt=doubt,
        dialogue=dialogue,
        resumed=resumed,
        late="tls.late_handshake" in facts,
        asked=facts.get("tls.certificate_requested"),
        absence=seen.whole and not any(k in facts for k in ("tls.gap", "tls.midstream", "tls.silent")),
        missing=lacks,
        says=says,
        why=why,
        kinds=tuple(kind for kind in shown if kind in facts),
        asked_kinds=kinds,
    )


def _answered12(dialogue: Dialogue, certificate: str, *, resumed: bool, http2: bool) -> tuple[str, str, bool]:
    """Outcome, why, and whether it is in doubt, of a session up to TLS 1.2 in which the server sent data."""
    if dialogue.answers is Answers.SERVICE:
        return ACCEPTED, dialogue.says, dialogue.monotonous and certificate in _DECLINED and not resumed
    if certificate in _DECLINED and not resumed:
        return VEILED, f"asked and declined, outcome hidden: {_MAYBE_REFUSED}", False
    if dialogue.answers is Answers.UNANSWERED:
        return ACCEPTED, "the server sent application data", True
    if certificate == NOT_ASKED and not resumed and dialogue.answers is Answers.ALIKE:
        return _OUTCOMES[unasked(dialogue, http2=http2)]
    return ACCEPTED, f"the server answered; {_MAYBE_REFUSED}", True


OF_LENGTHS = (
    *("tls.client_records", "tls.server_records", "tls.order"),
    *("tls.client_records_more", "tls.server_records_more"),
)
"""All that a digest reads of a connection's own facts."""


class Digests:
    """What decides of connections' record lengths, so that equal digests (and equal shared facts) have equal readings.

    Lengths of application data differ from connection to connection, and decide by what they amount to (``Dialogue.digest``). Of the
    handshake's all are kept up to the first that a Finished could have, and where more than one could be a Finished's, all of them.
    """

    def __init__(self) -> None:
        self._framed: dict[tuple[Any, ...], Tls13Judgement] = {}

    def of(self, facts: Facts) -> tuple[Any, ...] | None:
        """The digest; None: no lengths are reported. ``facts`` live as long as this does."""
        own = facts.own
        server = own.get("tls.server_records")
        if server is None:
            return None
        client = own.get("tls.client_records", ())
        more = "tls.client_records_more" in own, "tls.server_records_more" in own, _refusing_ends(server)
        counts = min(len(client), _MANY), min(len(server), _MANY)
        if not is_13(facts.shared.get("tls.version")):
            return (*_dialogue12(Observation(facts)).digest, *more, *counts)
        finished, alerts, long, block = _telling()
        head = (
            _head(client, 1, finished, alerts),
            _head(server, 4, finished, alerts),
            bool(client) and client[0] >= long and (_padded(client, 16, block), _padded(client, 8, block)),
            *more,
            *counts,
        )
        framed = self._framed.get((id(facts.shared), head))
        if framed is None:
            framed = self._framed[id(facts.shared), head] = judge_tls13(_flights(Observation(facts)))
        talk = talk13(
            own.get("tls.order", ""),
            client,
            server,
            flights=framed.flights,
            cipher_suite=_SUITES.get(facts.shared.get("tls.cipher", ""), 0x1301),
            http2=framed.http2,
            certificate_bytes=framed.certificate_bytes,
        )
        return head, talk.digest


_MANY = max(LONGEST_CLIENT_FLIGHT, LONGEST_SERVER_FLIGHT) + 1


def _padded(sizes: tuple[int, ...], tag: int, block: int) -> bool:
    """All lengths share a divisor that speaks of padding to blocks."""
    common = sizes[0] - tag
    for size in sizes[1:]:
        common = gcd(common, size - tag)
        if common < block:
            return False
    return common >= block


def dialogue_of(facts: Facts) -> Dialogue:
    """What was said behind the handshake of this very connection (readings are shared by connections whose lengths differ)."""
    seen = Observation(facts)
    return judge_tls13(_flights(seen)).dialogue if is_13(facts.get("tls.version")) else _dialogue12(seen)


def weigh_in(reading: TlsReading, *, served: bool, name: str) -> TlsReading:
    """The reading of a connection whose outcome others of the same server decide; ``name``: id of one of them."""
    certified = reading.certificate == SENT
    if not served:
        why = f"a client with a certificate got another answer to a request of the same length (connection {name}): it was refused inside TLS"
        return replace(reading, outcome=REFUSED, why=why, weighed=True, doubt=False)
    why = (
        f"clients without a certificate got another answer to a request of the same length (connection {name})"
        if certified
        else f"a client with a certificate was served with the same answer (connection {name})"
    )
    return replace(reading, outcome=ACCEPTED, why=why, weighed=True, doubt=False)


@cache
def _telling() -> tuple[frozenset[int], frozenset[int], int, int]:
    """Lengths of a record with a Finished and with an alert in any suite and padding; less than a flight in one record has; a block."""
    paddings = tls13_model().paddings
    tags = (8, 16)
    finished = {4 + size + 1 + tag + pad for size in (32, 48) for tag in tags for pad in paddings}
    alerts = {2 + 1 + tag + pad for tag in tags for pad in paddings}
    return frozenset(finished), frozenset(alerts), tls13_model().certificate_min, tls13_model().block_min


def _head(sizes: tuple[int, ...], least: int, finished: frozenset[int], alerts: frozenset[int]) -> tuple[int, ...]:
    """Lengths up to the first that could be a Finished's, at least ``least`` of them; all, where more than one could, or an alert is the last."""
    ends = [at for at, size in enumerate(sizes) if size in finished]
    if len(ends) > 1:
        return sizes
    head = max(ends[0] + 1, least) if ends else least
    return sizes if head > len(sizes) or sizes[head - 1] in alerts else sizes[:head]


def _flights(seen: Observation) -> Tls13Flights:
    facts = seen.facts
    ends = [facts.get(kind, "") for kind in ("tls.gap", "tls.cut", "tls.limit")]
    lossy = seen.lossy or seen.one_way or "tls.malformed" in facts

    def missing(side: str) -> bool:
        return lossy or any(end in {side, "both"} for end in ends)

    return Tls13Flights(
        client=_sizes(seen, "client"),
        server=_sizes(seen, "server"),
        cipher_suite=_SUITES.get(facts.get("tls.cipher", ""), 0x1301),
        order=facts.get("tls.order", ""),
        psk_selected=facts.get("tls.resumed") is True,
        psk_identity_bytes=facts.get("tls.psk_identity_bytes", 0),
        alpn_offered=facts.get("tls.alpn_offered", ()),
        hello_retry="tls.hello_retry" in facts,
        early_data="tls.early_data_offered" in facts,
        post_handshake_auth=facts.get("tls.post_handshake_auth_offered") is True,
        client_alert="tls.client_alert" in facts,
        server_alert="tls.server_alert" in facts,
        client_gap=missing("client"),
        server_gap=missing("server"),
        client_more="tls.client_records_more" in facts,
        server_more="tls.server_records_more" in facts,
        client_ended=bool(seen.closed_by),
        server_ended=seen.closed_by == "server",
    )


def _goes_on(client: tuple[int, ...], server: tuple[int, ...]) -> bool:
    """More records than any flights and session tickets have, whatever their lengths mean: data goes both ways.

    By number alone: in which order the two directions were captured proves nothing.
    """
    return len(client) > LONGEST_CLIENT_FLIGHT and len(server) > LONGEST_SERVER_FLIGHT


_OUTCOMES = {
    Tls13Outcome.ACCEPTED: (ACCEPTED, "the server went on after the client's flight", False),
    Tls13Outcome.LIKELY: (ACCEPTED, f"the server went on after the client's flight; {_MAYBE_REFUSED}", True),
    Tls13Outcome.REFUSED: (REFUSED, "the attempt ended with an alert or a close and no answer", False),
    Tls13Outcome.HIDDEN: (VEILED, f"outcome hidden: {_MAYBE_REFUSED}", False),
    Tls13Outcome.UNKNOWN: (OPEN, "nothing shows whether it was accepted", False),
}


def _read13(seen: Observation, version: str) -> TlsReading:
    facts = seen.facts
    judged: Tls13Judgement = judge_tls13(_flights(seen))
    certificate = {
        ClientCertificate.SENT: SENT,
        ClientCertificate.EMPTY: EMPTY,
        ClientCertificate.ABSENT: NOT_ASKED,
    }.get(judged.client_certificate, UNKNOWN)
    says, dialogue = judged.says, judged.dialogue
    outcome, why, doubt = _OUTCOMES[judged.outcome]
    if judged.outcome is Tls13Outcome.ACCEPTED and dialogue.answers is Answers.SERVICE:
        why, doubt = dialogue.says, dialogue.monotonous and judged.client_certificate is ClientCertificate.EMPTY
    confidence = judged.confidence
    if judged.late == "sent":
        # The server asked later, behind a first request, and the client's second flight ends as a mutual one does.
        certificate, confidence = SENT, Confidence.MEDIUM
        says = f"{says}; later the client sent records of the lengths of a Certificate, CertificateVerify and Finished"
    alert = _alert_says(seen)
    if alert is not None and outcome is not ACCEPTED:
        outcome, why = REFUSED, alert[0]
    done = outcome in {ACCEPTED, VEILED} or (
        outcome == OPEN and _goes_on(_sizes(seen, "client"), _sizes(seen, "server"))
    )
    shut = seen.closed_by and _clean(seen)
    if outcome == OPEN and not done and shut and not _sizes(seen, "client"):
        outcome, why = REFUSED, f"{seen.closing} before the handshake was complete"
    seen_kinds = tuple(k for k in ("tls.client_records", "tls.server_records", "tls.resumed") if k in facts)
    return TlsReading(
        version=version,
        certificate=certificate,
        proof=certificate == SENT,
        outcome=outcome,
        done=done,
        both_ways=outcome == ACCEPTED and dialogue.asked and bool(dialogue.turns),
        doubt=doubt,
        dialogue=dialogue,
        resumed=judged.resumed,
        identity_bytes=facts.get("tls.psk_identity_bytes", 0),
        sha384=str(facts.get("tls.cipher")).endswith("SHA384"),
        late=judged.late == "possible",
        clear=False,
        absence=seen.whole and not any(k in facts for k in ("tls.gap", "tls.midstream")),
        confidence={Confidence.HIGH: "high", Confidence.MEDIUM: "medium"}.get(confidence, "low"),
        missing=_lacks(seen),
        says=f"{LONG_FLIGHT}; {says}" if certificate == UNKNOWN and _longer_than_kept(seen) else says,
        why=why,
        kinds=seen_kinds,
        asked_kinds=("tls.server_records",) if "tls.server_records" in facts else (),
    )


_CERTIFICATE_ALERTS = frozenset(
    {
        "certificate_required", "bad_certificate", "unsupported_certificate", "certificate_revoked", "certificate_expired",
        "certificate_unknown", "unknown_ca", "access_denied",
    }
)  # fmt: skip


def _read_opened(seen: Observation, lengths: TlsReading) -> TlsReading:
    """TLS 1.3 that keys opened on both sides: its handshake is as good as in the clear.

    Here the server finishes first (RFC 8446 section 2), so its Finished accepts nothing: data does, or the session ticket that the lengths of
    records show. With the handshake open to its end nothing can have crossed later unseen.
    """
    facts = seen.facts
    certificate = str(facts.get("tls.client_certificate", UNKNOWN))
    resumed = facts.get("tls.resumed") is True
    done = "tls.client_finished" in facts and "tls.server_finished" in facts
    alert = _alert_says(seen)
    if (certificate == UNKNOWN and not resumed) or not (done or alert):
        return lengths
    served, asked = "tls.server_application_data" in facts, "tls.client_application_data" in facts
    inside = _inside_says(seen) if certificate != SENT and not resumed else None
    outcome, why, kinds = lengths.outcome, lengths.why, lengths.asked_kinds
    if alert is not None and (not served or facts[alert[1]][1] in _CERTIFICATE_ALERTS):
        outcome, why, kinds = REFUSED, alert[0], (alert[1],)
    elif inside is not None:
        outcome, why = inside
        kinds = ("http.statuses",)
    elif served and lengths.outcome != VEILED:
        outcome, why, kinds = ACCEPTED, "the server sent application data", ("tls.server_application_data",)
    says = {
        SENT: "the client sent a certificate",
        EMPTY: "the server asked, and the client sent an empty certificate",
        NOT_SENT: "the server asked, and the client sent no certificate",
        NOT_ASKED: "the server did not ask for a client certificate",
    }.get(certificate, "the client's certificate was not seen")
    shown = ("tls.client_certificate", "tls.certificate_requested", "tls.certificate_verify", "tls.client_finished")
    return TlsReading(
        version=lengths.version,
        certificate=certificate,
        proof=facts.get("tls.certificate_verify") is True,
        outcome=outcome,
        done=done,
        both_ways=done and served and asked,
        resumed=resumed,
        identity_bytes=lengths.identity_bytes,
        sha384=lengths.sha384,
        absence=lengths.absence,
        missing=lengths.missing,
        says=says,
        why=why,
        kinds=("tls.decrypted", *(kind for kind in shown if kind in facts)),
        asked_kinds=kinds,
    )


def _inside_says(seen: Observation) -> tuple[str, str] | None:
    """What HTTP that keys opened says of the attempt; None: nothing that decides."""
    statuses: tuple[int, ...] = seen.facts.get("http.statuses", ()) if "tls.decrypted" in seen.facts else ()
    final = [status for status in statuses if status >= 200 or status == 101]
    served = [status for status in final if status not in REFUSALS]
    if served:
        return ACCEPTED, f"the server answered with status {served[0]} inside TLS"
    return (REFUSED, f"the server answered with status {final[0]} inside TLS") if final and _clean(seen) else None


def _resumed(reading: TlsReading, which: int) -> Said:
    """What the full handshake says, where it was found."""
    if reading.settled is not None:
        return reading.settled[which]
    says = "the session was resumed, and the full handshake that it resumes was not seen"
    return unverifiable("resumed", says, "tls.resumed", *reading.kinds)


def _turned_away(reading: TlsReading) -> Said:
    """Of an attempt that was refused."""
    detail = f"{reading.why}; {reading.says}" if reading.says and reading.certificate != UNKNOWN else reading.why
    return rejected(
        detail,
        *reading.asked_kinds,
        *reading.kinds,
        confidence="high" if reading.clear and not reading.weighed else "medium",
    )


def judge_mutual(reading: TlsReading) -> Said:
    """Mutual TLS: verified, inferred, violated, rejected, or what is missing. A resumed session is settled later."""
    if reading.outcome == VEILED and reading.dialogue.page and not reading.resumed:
        reading = replace(reading, outcome=REFUSED, why=reading.dialogue.page, weighed=True)
    kinds = (*reading.kinds, *reading.asked_kinds)
    if reading.outcome == REFUSED:
        return _turned_away(reading)
    if reading.plain:
        return violated("plaintext", reading.why, *kinds)
    if reading.resumed:
        return _resumed(reading, 0)
    if reading.certificate == UNKNOWN or (not reading.clear and reading.confidence == "low"):
        missing = reading.missing or ("no_handshake" if reading.version is None else "encrypted")
        if reading.clear and reading.version is not None:
            missing = reading.missing or "gap"
        return unverifiable(missing, reading.says, *kinds)
    if reading.certificate == SENT:
        return _with_certificate(reading, kinds)
    if reading.late:
        says = f"{reading.says}; one may have crossed later, under encryption"
        late = "tls.late_handshake" if reading.clear else "tls.post_handshake_auth_offered"
        return unverifiable("late_certificate", says, late, *kinds)
    if reading.outcome != ACCEPTED or reading.unseen_end:
        missing = "outcome" if reading.outcome == VEILED else reading.missing or "outcome"
        return unverifiable(missing, f"{reading.says}; {reading.why}", *kinds)
    if not reading.absence:
        return unverifiable(reading.missing or "gap", f"{reading.says}; packets are missing, too", *kinds)
    says = f"{reading.says}; the client was served: {reading.why}"
    return violated("missing-client-certificate", says, *kinds, confidence=_sure(reading) or "low")


def _with_certificate(reading: TlsReading, kinds: tuple[str, ...]) -> Said:
    if reading.clear and reading.asked is False:
        return unverifiable("no_proof", "a client certificate was sent that the server had not asked for", *kinds)
    if reading.misfit:
        says = "a signature of the handshake (the client's CertificateVerify or the server's key exchange) does not match the handshake as captured: the ends accepted another one"
        fault = Fault(
            "conflicting-content", says, "high", ("tls.certificate_verify", "tls.client_certificate"), "signature"
        )
        return Said(Verdict.UNVERIFIABLE, says, None, "conflict", (fault,), kinds)
    if not reading.proof:
        if reading.outcome == ACCEPTED and reading.absence:
            says = (
                "a client certificate was sent without CertificateVerify: nothing proves that the client holds its key"
            )
            return unverifiable("no_proof", says, *kinds)
        return unverifiable(reading.missing or "no_handshake", "the end of the handshake was not seen", *kinds)
    if reading.outcome != ACCEPTED:
        return unverifiable(reading.missing or "outcome", f"{reading.says}; {reading.why}", *kinds)
    if reading.unseen_end:
        return Said(
            Verdict.INFERRED, f"{reading.says} and proved to hold its key; {reading.why}", "medium", None, (), kinds
        )
    if reading.clear and reading.unread:
        says = (
            f"the server asked, and the client sent a certificate and its proof; it lies behind the first {HEAD_BYTES:,} bytes or is longer "
            f"than the limit, so it was not read, and the proof not checked; {reading.why}"
        )
        return Said(Verdict.INFERRED, says, "medium", None, (), (*kinds, "tls.certificate_not_kept"))
    if reading.clear:
        says = "the server asked, the client sent its certificate and proved to hold its key, both ends finished"
        says += f"; {reading.why}" if reading.doubt or reading.weighed else ""
        return Said(Verdict.VERIFIED, says, _sure(reading), None, (), kinds)
    says = f"{reading.says}; {reading.why}"
    return Said(Verdict.INFERRED, says, _sure(reading), None, (), kinds)


def _sure(reading: TlsReading) -> str | None:
    """The confidence of what rests on the attempt being accepted."""
    return weaker(reading.confidence, "medium" if reading.doubt or reading.weighed else "high")


def judge_server_only(reading: TlsReading) -> Said:
    """TLS, whoever the client is."""
    kinds = (*reading.kinds, *reading.asked_kinds)
    if reading.outcome == REFUSED:
        return _turned_away(reading)
    if reading.plain:
        return violated("plaintext", reading.why, *kinds)
    if reading.resumed:
        return _resumed(reading, 1)
    if reading.version is None:
        return unverifiable(reading.missing or "no_handshake", reading.says, *kinds)
    if reading.unseen_end and reading.outcome == ACCEPTED:
        return Said(
            Verdict.INFERRED,
            f"{reading.version} was negotiated; {reading.why}",
            "medium",
            None,
            (),
            ("tls.version", *kinds),
        )
    if not reading.done:
        missing = reading.missing or ("outcome" if not reading.clear else "no_handshake")
        return unverifiable(missing, reading.why, *kinds)
    if reading.outcome == OPEN and reading.missing is not None and reading.clear:
        return unverifiable(reading.missing, reading.why, *kinds)
    says = f"{reading.version} was negotiated and set up" + ("" if reading.outcome == OPEN else f"; {reading.why}")
    return Said(Verdict.VERIFIED, says, "high", None, (), ("tls.version", *kinds))


def observed_tls(reading: TlsReading, mutual: Said) -> str:
    """The word for what was seen: tls, mutual_tls."""
    proven = mutual.verdict in {Verdict.VERIFIED, Verdict.INFERRED, Verdict.INHERITED}
    offered = reading.certificate == SENT and reading.confidence != "low"
    return "mutual_tls" if proven or offered else "tls"


# Weak versions and suites


def _words(suite: str) -> frozenset[str]:
    """The settings' words that a suite falls under."""
    parts = suite.upper().split("_")
    found = {part for part in parts if part in {"NULL", "RC4", "DES", "3DES"}}
    if any(part.startswith("EXPORT") for part in parts):
        found.add("EXPORT")
    if "DES40" in parts:
        found.add("DES")
    if "ANON" in parts:
        found.add("ANONYMOUS")
    if suite in {"TLS_SHA256_SHA256", "TLS_SHA384_SHA384"}:  # RFC 9150: integrity alone
        found.add("NULL")
    return frozenset(found | {suite.upper(), suite.upper().removeprefix("TLS_")})


def weak_tls(version: str | None, suite: str | None, settings: Settings) -> tuple[Fault, ...]:
    """Faults of a negotiated version and suite."""
    found = []
    least = f"TLS {settings.tls_minimum}" if settings.tls_minimum[:1].isdigit() else settings.tls_minimum
    if version in VERSIONS and least in VERSIONS and VERSIONS.index(version) < VERSIONS.index(least):
        says = f"{version} was negotiated, below the policy's minimum of {least}"
        found.append(Fault("weak-tls", says, "high", ("tls.version",), version))
    if suite:
        forbidden = sorted(_words(suite) & _forbidden(settings.forbidden_suites))
        if forbidden:
            says = f"the cipher suite {suite} was negotiated, which the policy forbids ({', '.join(forbidden)})"
            found.append(Fault("weak-tls", says, "high", ("tls.cipher",), suite))
    return tuple(found)


def _forbidden(words: Sequence[str]) -> frozenset[str]:
    return frozenset(word.upper() for word in words)
