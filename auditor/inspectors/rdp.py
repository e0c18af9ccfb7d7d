"""RDP: a connection request and its answer, TPKT around X.224, and TLS where both name a protection that needs it.

Messages: [MS-RDPBCGR] sections 2.2.1.1 and 2.2.1.2 (RDP negotiation request, response and failure), RFC 1006 section 6 (TPKT).
"""

from collections.abc import Iterator

from auditor.model.evidence import Certainty, Evidence, Handover
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import Streams

_TPKT = b"\x03\x00"
_HEADER_BYTES = 11  # TPKT (4), X.224: length, type, destination and source (2 each), class
_TYPE = 5
_REQUEST, _CONFIRM = 0xE0, 0xD0
_MAX_BYTES = 1_024
_NEGOTIATION_BYTES = 8
_ASKS, _RESPONSE = 1, 2


def _message(data: bytes, kind: int) -> Match:
    """A connection request (or confirm) with lengths that fit each other."""
    if not _TPKT.startswith(data[:2]):
        return Match.NO
    if len(data) < _HEADER_BYTES:
        return Match.MORE
    size = int.from_bytes(data[2:4], "big")
    fits = _HEADER_BYTES <= size <= _MAX_BYTES and data[4] == size - 5 and data[_TYPE] == kind
    return Match.YES if fits and data[6:8] == b"\0\0" and data[10] == 0 else Match.NO


def probe(streams: Streams) -> Match:
    """A client's connection request: no other protocol over TPKT asks for class 0 from reference 0."""
    return _message(streams.orig.data, _REQUEST)


def _negotiation(data: bytes, kind: int) -> int:
    """Protocols that the last eight bytes of a message name, as bits; 0: standard RDP security, which is in the clear to an auditor."""
    said = data[_HEADER_BYTES:][-_NEGOTIATION_BYTES:]
    return int.from_bytes(said[4:], "little") if len(said) == _NEGOTIATION_BYTES and said[0] == kind else 0


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Never raises."""
    orig, resp = streams.orig, streams.resp
    asked = int.from_bytes(orig.data[2:4], "big")
    if not _negotiation(orig.data[:asked], _ASKS):
        return
    answered, outcome = 0, "asked"
    if _message(resp.data, _CONFIRM) is Match.YES:
        answered = int.from_bytes(resp.data[2:4], "big")
        outcome = "accepted" if _negotiation(resp.data[:answered], _RESPONSE) else "refused"
    elif not resp.data and orig.data[asked : asked + 1] == b"\x16":
        outcome = "accepted"  # its answer was not seen, but what the client made of it
    frames = orig.frames(0, asked) + resp.frames(0, answered)
    yield Evidence("rdp.starttls", outcome, Certainty.PROVEN, frames)
    if outcome == "accepted":
        yield Handover("tls", asked, answered)


INSPECTOR = Inspector(
    name="rdp",
    transports=frozenset({"tcp"}),
    ports=frozenset({3389}),
    signatures=(
        Signature(
            "client",
            b"\x03\x00\x00\x00\x00\xe0\x00\x00\x00\x00\x00",
            0,
            b"\xff\xff\xfc\x00\x00\xff\xff\xff\x00\x00\xff",
        ),
    ),
    probe=probe,
    inspect=inspect,
)
