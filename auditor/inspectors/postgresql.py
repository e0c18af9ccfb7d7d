"""PostgreSQL: a startup message, or first a request for TLS that the server answers with one byte.

Messages: https://www.postgresql.org/docs/current/protocol-message-formats.html. A newer client may begin with TLS at once; then nothing
but ALPN tells PostgreSQL.
"""

from collections.abc import Iterator

from auditor.model.evidence import Certainty, Evidence, Handover
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import Streams

_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
_VERSION_3 = b"\x00\x03\x00"
_MAX_STARTUP_BYTES = 10_000
_USER = b"user\0"


def probe(streams: Streams) -> Match:
    """SSLRequest, or a StartupMessage of version 3 whose first parameters are names."""
    data = streams.orig.data
    if data[:8] == _SSL_REQUEST:
        return Match.YES
    if _SSL_REQUEST.startswith(data):
        return Match.MORE
    size = int.from_bytes(data[:4], "big")
    if (len(data) >= 4 and not 9 <= size <= _MAX_STARTUP_BYTES) or not _VERSION_3.startswith(data[4:7]):
        return Match.NO
    if len(data) < max(size, 8):
        return Match.MORE
    return Match.YES if _USER in data[8:size] and data[size - 1] == 0 else Match.NO


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Never raises."""
    orig, resp = streams.orig, streams.resp
    if orig.data[:8] == _SSL_REQUEST:
        answer = {b"S": "accepted", b"N": "refused"}.get(resp.data[:1], "asked")
        if not resp.data and orig.data[8:9] == b"\x16":
            answer = "accepted"  # its answer was not seen, but what the client made of it
        yield Evidence("postgresql.starttls", answer, Certainty.PROVEN, orig.frames(0, 8) + resp.frames(0, 1))
        if answer == "accepted":
            yield Handover("tls", 8, 1)


INSPECTOR = Inspector(
    name="postgresql",
    transports=frozenset({"tcp"}),
    ports=frozenset({5432, 6432}),
    signatures=(
        Signature("client", _SSL_REQUEST),
        Signature("client", b"\x00\x00\x00\x00\x00\x03\x00", 0, b"\xff\xff\x00\x00\xff\xff\xff"),
    ),
    probe=probe,
    inspect=inspect,
)
