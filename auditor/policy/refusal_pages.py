"""Lengths of the pages with which programs that stand in front of others turn an attempt away.

Inside TLS a short answer may be a refusal or a service. But some programs refuse with a page that nobody has written for the occasion: the same headers,
the same text, so the same length to the byte. An answer of that length, to a client that declined to show its certificate, is that page rather
than anything else; it may still be chance, so what rests on it is of medium confidence, and it accuses nobody.

The lengths follow from the sources of the programs (haproxy: ``src/http.c``, ``http_err_msgs``; Caddy: ``modules/caddyhttp``, status 421 without a body), and were
measured at haproxy 2.6 and Caddy 2.6. Pages of libraries (Go's ``http.Error``) are left out: any program may answer so many bytes, and on recordings
that nothing was learnt from one did, with a service.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FRAME_HEADER_BYTES = 9
"""RFC 9113 section 4.1."""


@dataclass(frozen=True, slots=True)
class Page:
    """One page: the bytes of the whole answer in HTTP/1.1, and of its frames in HTTP/2 (0: not known)."""

    program: str
    status: int
    plain: int
    http2: int = 0

    @property
    def says(self) -> str:
        """For an operator."""
        return f"each answer is as long as the page that {self.program} sends with status {self.status}"


def _haproxy(status: int, reason: str, text_bytes: int, status_bytes: int) -> Page:
    """haproxy's page: three headers and a text; in HTTP/2 the headers by reference, values in full (RFC 7541)."""
    length = len(str(text_bytes))
    plain = (
        len(f"HTTP/1.1 {status} {reason}\r\n")
        + len("content-length: \r\n") + length
        + len("cache-control: no-cache\r\n")
        + len("content-type: text/html\r\n\r\n")
        + text_bytes
    )  # fmt: skip
    fields = status_bytes + (2 + length) + (2 + len("no-cache")) + (2 + len("text/html"))
    return Page("haproxy", status, plain, FRAME_HEADER_BYTES + fields + FRAME_HEADER_BYTES + text_bytes)


REFUSAL_PAGES = (
    _haproxy(400, "Bad request", 90, 1),
    _haproxy(403, "Forbidden", 93, 5),
    _haproxy(421, "Misdirected Request", 104, 5),
    Page("Caddy", 421, 107, 46),
)

_PLAIN = {page.plain: page for page in REFUSAL_PAGES}
_HTTP2 = {page.http2: page for page in REFUSAL_PAGES if page.http2}


def page_of(answers: Sequence[int], *, http2: bool) -> Page | None:
    """The page that all these answers, by their bytes, are."""
    lengths = set(answers)
    return (_HTTP2 if http2 else _PLAIN).get(lengths.pop()) if len(lengths) == 1 else None
