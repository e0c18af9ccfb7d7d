"""XMPP: XML streams; in clear, or in TLS after starttls and proceed (RFC 6120 section 5)."""

import re
from collections.abc import Iterator

from auditor.inspectors import _upgrade as upgrade
from auditor.model.evidence import Certainty, Evidence, Handover
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import Streams

_STREAMS = b"http://etherx.jabber.org/streams"
_STARTS = (b"<?XML ", b"<STREAM:STREAM ")
_MAX_START_BYTES = 1_024
_ASK = re.compile(rb"<starttls\s[^>]{0,256}(?:/>|></starttls>)\s*")
_AGREE = re.compile(rb"<proceed\s[^>]{0,256}(?:/>|></proceed>)\s*")


def _side(data: bytes) -> Match:
    """The start of an XML stream that names the namespace of streams."""
    begins = upgrade.starts(data, *_STARTS)
    if begins is not Match.YES:
        return begins
    if _STREAMS in data[:_MAX_START_BYTES]:
        return Match.YES
    return Match.MORE if len(data) < _MAX_START_BYTES else Match.NO


def probe(streams: Streams) -> Match:
    """A stream from either side."""
    said = (_side(streams.orig.data), _side(streams.resp.data))
    if Match.YES in said:
        return Match.YES
    return Match.MORE if Match.MORE in said else Match.NO


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Never raises."""
    for said, head in (("told", streams.resp), ("swapped", streams.orig)):
        if b"<stream:features" in head.data or _AGREE.search(head.data):  # only a server offers
            yield Evidence("_roles", said, Certainty.PROVEN)
            break
    yield from upgrade.turn("xmpp", streams, _ASK, _AGREE)


INSPECTOR = Inspector(
    name="xmpp",
    transports=frozenset({"tcp"}),
    ports=frozenset({5222, 5269}),
    signatures=tuple(
        Signature(side, each) for side in ("client", "server") for each in (b"<?xml ", b"<stream:stream ")
    ),
    probe=probe,
    inspect=inspect,
)
