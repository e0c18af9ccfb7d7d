"""POP3: in clear, or in TLS after STLS (RFC 1939, RFC 2449, RFC 2595)."""

import re
from collections.abc import Iterator

from auditor.inspectors import _upgrade as upgrade
from auditor.model.evidence import Evidence, Handover
from auditor.model.roles import Inspector, Match
from auditor.model.streams import Streams

_VERBS = (
    b"USER ",
    b"APOP ",
    b"CAPA\r\n",
    b"STLS\r\n",
    b"AUTH\r\n",
    b"AUTH PLAIN",
    b"AUTH LOGIN",
    b"AUTH NTLM",
    b"AUTH CRAM-",
)
_ASK = re.compile(rb"(?:\A|\n)STLS[ \t]*\r?\n", re.IGNORECASE)
_AGREE = upgrade.grant(rb"\+OK")


def probe(streams: Streams) -> Match:
    """A server that greets with +OK, and a client that begins as POP3's do."""
    return upgrade.both(upgrade.starts(streams.resp.data, b"+OK"), upgrade.starts(streams.orig.data, *_VERBS))


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Never raises."""
    yield from upgrade.turn("pop3", streams, _ASK, _AGREE)


INSPECTOR = Inspector(
    name="pop3",
    transports=frozenset({"tcp"}),
    ports=frozenset({110, 995}),
    signatures=tuple(upgrade.word(each.decode()) for each in _VERBS),
    probe=probe,
    inspect=inspect,
)
