"""LDAP: messages in BER, the first of them strictly read; StartTLS is an extended operation (RFC 4511 sections 4.1.1 and 4.14)."""

from collections.abc import Iterator

from auditor.errors import WireError
from auditor.model.evidence import Certainty, Evidence, Handover
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import Streams
from auditor.wire.reader import Reader

_SEQUENCE, _INTEGER, _ENUMERATED, _OCTETS = 0x30, 0x02, 0x0A, 0x04
_BIND, _SEARCH, _EXTENDED, _EXTENDED_ANSWER = 0x60, 0x63, 0x77, 0x78
_START_TLS = b"1.3.6.1.4.1.1466.20037"
_MAX_MESSAGE_BYTES = 1 << 20
_MAX_MESSAGES = 64
_ENOUGH_BYTES = 40


def _length(reader: Reader) -> int:
    """A length in BER, X.690 section 8.1.3, definite. Raises WireError."""
    first = reader.big(1)
    if first < 0x80:
        return first
    if not 1 <= first & 0x7F <= 4:
        raise WireError("a length that LDAP does not use", at=reader.at)
    return reader.big(first & 0x7F)


def _tagged(reader: Reader, *tags: int) -> int:
    """A tag; raises WireError where it is none of these."""
    tag = reader.big(1)
    if tag not in tags:
        raise WireError("another type", at=reader.at)
    return tag


def _message(reader: Reader, *operations: int) -> tuple[int, int]:
    """Operation of a message, and where the message ends; the reader stands in the operation. Raises WireError."""
    _tagged(reader, _SEQUENCE)
    size = _length(reader)
    end = reader.at + size
    if not 5 <= size <= _MAX_MESSAGE_BYTES:
        raise WireError("no message is so long or so short", at=reader.at)
    _tagged(reader, _INTEGER)
    number = _length(reader)
    if not 1 <= number <= 4:
        raise WireError("no message id", at=reader.at)
    reader.skip(number)
    operation = _tagged(reader, *operations)
    if reader.at + _length(reader) > end:
        raise WireError("an operation that is longer than its message", at=reader.at)
    return operation, end


def _request(data: bytes) -> Match:
    """A bind of version 2 or 3, a search, or an extended operation that names itself."""
    reader = Reader(data)
    try:
        operation, _ = _message(reader, _BIND, _SEARCH, _EXTENDED)
        if operation == _BIND:
            _tagged(reader, _INTEGER)
            good = reader.big(1) == 1 and reader.big(1) in {2, 3} and _tagged(reader, _OCTETS) == _OCTETS
        elif operation == _SEARCH:
            _tagged(reader, _OCTETS)
            reader.skip(_length(reader))
            good = _tagged(reader, _ENUMERATED) == _ENUMERATED and reader.big(1) == 1 and reader.big(1) <= 3
        else:
            _tagged(reader, 0x80)
            name = reader.take(_length(reader))
            good = len(name) > 3 and all(c in b"0123456789." for c in name)
    except WireError as error:
        return Match.MORE if error.kind == "short" and len(data) < _MAX_MESSAGE_BYTES else Match.NO
    return Match.YES if good else Match.NO


def probe(streams: Streams) -> Match:
    """A client that begins with a request."""
    return _request(streams.orig.data)


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Never raises: what is no message ends the reading."""
    reader = Reader(streams.orig.data)
    for _ in range(_MAX_MESSAGES):
        start = reader.at
        try:
            _, end = _message(reader, *range(0x40, 0x80))
        except WireError:
            return
        if _START_TLS in streams.orig.data[reader.at : min(end, reader.at + _ENOUGH_BYTES)]:
            frames = streams.orig.frames(start, end)
            behind = streams.orig.data[end:]
            answer = "accepted" if behind[:1] == b"\x16" else "refused" if behind else "asked"
            yield Evidence("ldap.starttls", answer, Certainty.PROVEN, frames)
            if answer == "accepted":
                yield Handover("tls", end, _answer_end(streams.resp.data))
            return
        reader = Reader(streams.orig.data, end)


def _answer_end(data: bytes) -> int:
    """Where the server's answer to StartTLS ends: behind an extended response that TLS follows."""
    at = 0
    for _ in range(_MAX_MESSAGES):
        try:
            operation, end = _message(Reader(data, at), *range(0x40, 0x80))
        except WireError:
            return at
        at = end
        if operation == _EXTENDED_ANSWER and data[end : end + 1] in {b"\x16", b"\x15", b""}:
            return end
    return at


INSPECTOR = Inspector(
    name="ldap",
    transports=frozenset({"tcp"}),
    ports=frozenset({389, 3268}),
    signatures=(
        *(Signature("client", bytes((_SEQUENCE, 0, _INTEGER, size)), 0, b"\xff\x80\xff\xff") for size in (1, 2)),
        *(
            Signature(
                "client", bytes((_SEQUENCE, 0x80 | more, *[0] * more, _INTEGER)), 0, b"\xff\xff" + bytes(more) + b"\xff"
            )
            for more in (1, 2, 3, 4)
        ),
    ),
    probe=probe,
    inspect=inspect,
)
