"""FTP's control connection: in clear, or in TLS after AUTH TLS (RFC 959, RFC 4217)."""

import re
from collections.abc import Iterator

from auditor.inspectors import _upgrade as upgrade
from auditor.model.evidence import Evidence, Handover
from auditor.model.roles import Inspector, Match
from auditor.model.streams import Streams

_VERBS = (b"USER ", b"AUTH TLS", b"AUTH SSL", b"FEAT\r\n", b"SYST\r\n", b"OPTS UTF8", b"CLNT ", b"HOST ")
_ASK = re.compile(rb"(?:\A|\n)AUTH[ \t]+(?:TLS|TLS-C|SSL)[ \t]*\r?\n", re.IGNORECASE)
_AGREE = upgrade.grant(rb"234[ -]")


def probe(streams: Streams) -> Match:
    """A server that greets with a code of FTP, and a client that begins as FTP's do."""
    return upgrade.both(
        upgrade.starts(streams.resp.data, b"220", b"120", b"421"), upgrade.starts(streams.orig.data, *_VERBS)
    )


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Never raises."""
    yield from upgrade.turn("ftp", streams, _ASK, _AGREE)


INSPECTOR = Inspector(
    name="ftp",
    transports=frozenset({"tcp"}),
    ports=frozenset({21, 990}),
    signatures=tuple(upgrade.word(each.decode()) for each in _VERBS),
    probe=probe,
    inspect=inspect,
)
