"""SMTP, told by the client's EHLO, HELO or LHLO; in clear, or in TLS after STARTTLS (RFC 5321, RFC 3207)."""

import re
from collections.abc import Iterator

from auditor.inspectors import _upgrade as upgrade
from auditor.model.evidence import Evidence, Handover
from auditor.model.roles import Inspector, Match
from auditor.model.streams import Streams

_HELLOS = (b"EHLO ", b"HELO ", b"LHLO ")
_ASK = re.compile(rb"(?:\A|\n)STARTTLS[ \t]*\r?\n", re.IGNORECASE)
_AGREE = upgrade.grant(rb"220[ -]")


def probe(streams: Streams) -> Match:
    """A client that says hello: no other protocol has these words."""
    return upgrade.starts(streams.orig.data, *_HELLOS)


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Never raises."""
    yield from upgrade.turn("smtp", streams, _ASK, _AGREE)


INSPECTOR = Inspector(
    name="smtp",
    transports=frozenset({"tcp"}),
    ports=frozenset({25, 465, 587}),
    signatures=tuple(upgrade.word(each.decode()) for each in _HELLOS),
    probe=probe,
    inspect=inspect,
)
