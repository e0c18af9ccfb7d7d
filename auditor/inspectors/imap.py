"""IMAP: the server's untagged greeting and the client's tagged commands; in clear, or in TLS after STARTTLS (RFC 9051)."""

import re
from collections.abc import Iterator

from auditor.inspectors import _upgrade as upgrade
from auditor.model.evidence import Evidence, Handover
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import Streams

_GREETINGS = (b"* OK", b"* PREAUTH", b"* BYE")
_MAX_TAG_BYTES = 32
_COMMANDS = (
    b"CAPABILITY",
    b"LOGIN ",
    b"AUTHENTICATE ",
    b"STARTTLS",
    b"NOOP",
    b"ID ",
    b"LOGOUT",
    b"SELECT ",
    b"LIST ",
    b"ENABLE ",
)
_ASK = re.compile(rb"(?:\A|\n)[!-~]{1,32} STARTTLS[ \t]*\r?\n", re.IGNORECASE)
_AGREE = upgrade.grant(rb"[!-~]{1,32} OK")


def _command(data: bytes) -> Match:
    tag, space, rest = data.partition(b" ")
    if len(tag) > _MAX_TAG_BYTES or not all(0x21 <= c < 0x7F for c in tag) or (space and not tag):
        return Match.NO
    return upgrade.starts(rest, *_COMMANDS) if space else Match.MORE


def probe(streams: Streams) -> Match:
    """A server that greets, and a client that begins with a tagged command."""
    return upgrade.both(upgrade.starts(streams.resp.data, *_GREETINGS), _command(streams.orig.data))


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Never raises."""
    yield from upgrade.turn("imap", streams, _ASK, _AGREE)


INSPECTOR = Inspector(
    name="imap",
    transports=frozenset({"tcp"}),
    ports=frozenset({143, 993}),
    signatures=tuple(Signature("server", each) for each in _GREETINGS),
    probe=probe,
    inspect=inspect,
)
