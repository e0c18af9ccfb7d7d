"""Protocols of lines that turn into TLS where the client asks and the server agrees (STARTTLS and its kin)."""

import re
from collections.abc import Iterator

from auditor.model.evidence import Certainty, Evidence, Handover
from auditor.model.roles import Match, Signature
from auditor.model.streams import Streams

MAX_LINE_BYTES = 2_048
_RECORD = rb"(?=[\x14-\x17]\x03[\x00-\x04]|\Z)"
"""A record of TLS comes next, or nothing at all."""


def grant(line: bytes) -> re.Pattern[bytes]:
    """The server's go-ahead: a line that begins so, with TLS behind it."""
    return re.compile(rb"(?:\A|\n)" + line + rb"[^\r\n]{0,2048}\r?\n" + _RECORD, re.IGNORECASE)


def turn(
    name: str, streams: Streams, ask: re.Pattern[bytes], agree: re.Pattern[bytes]
) -> Iterator[Evidence | Handover]:
    """What became of the client's request for TLS: accepted (TLS follows), refused (anything else does), asked (nothing does)."""
    orig, resp = streams.orig, streams.resp
    asked = ask.search(orig.data)
    if asked is None:
        if not orig.data:
            agreed = agree.search(resp.data)
            if agreed is not None and agreed.end() < len(resp.data):
                yield Handover("tls", 0, agreed.end())
        return
    frames = orig.frames(*asked.span())
    behind = orig.data[asked.end() :]
    if behind[:1] in {b"\x16", b"\x80"}:
        agreed = agree.search(resp.data)
        yield Evidence(f"{name}.starttls", "accepted", Certainty.PROVEN, frames)
        yield Handover("tls", asked.end(), agreed.end() if agreed is not None else len(resp.data))
    else:
        yield Evidence(f"{name}.starttls", "refused" if behind else "asked", Certainty.PROVEN, frames)


def word(text: str) -> Signature:
    """A client's first word, in capitals or not."""
    value = text.encode()
    return Signature("client", value, 0, bytes(0xDF if 65 <= c <= 90 else 0xFF for c in value))


def starts(data: bytes, *wanted: bytes) -> Match:
    """Whether ``data`` begins with one of these, all in capitals; its case does not matter."""
    capitals = data[: max(map(len, wanted))].upper()
    if any(capitals.startswith(each) for each in wanted):
        return Match.YES
    return Match.MORE if any(each.startswith(capitals) for each in wanted) else Match.NO


def both(server: Match, client: Match) -> Match:
    """Both sides must fit, as far as they spoke."""
    if Match.NO in (server, client):
        return Match.NO
    return Match.YES if server is client is Match.YES else Match.MORE
