"""The one byte cursor: every read proves its bounds first, and fails as data (`WireError`), never by surprise.

A reader over a head knows that more bytes might follow its end: running out is ``short``. A reader over something whose length was
stated (a record, a message, a vector) is ``whole``: running out there contradicts the statement and is ``malformed``.
"""

import json
from typing import Any

from auditor.errors import WireError

MAX_TEXT = 255
"""So many characters of a text from the wire are kept."""
MAX_LINE = 1 << 20
"""Longest line of any protocol, unless a constant below sets another limit."""


def printable(data: bytes, limit: int = MAX_TEXT) -> str:
    r"""Text that is safe on a terminal and in a report: printable ASCII stays, all else becomes ``\xNN``; cut to ``limit`` bytes."""
    kept = data[:limit]
    text = kept.decode("ascii", "replace")
    if not (text.isascii() and text.isprintable()) or "\\" in text:
        text = "".join(chr(c) if 0x20 <= c < 0x7F and c != 0x5C else f"\\x{c:02x}" for c in kept)
    return text if len(data) <= limit else text + "..."


class Reader:
    """A cursor over ``data[at:end]``; ``at`` is always an offset into ``data``."""

    __slots__ = ("at", "data", "end", "line_bytes", "whole")

    def __init__(
        self, data: bytes, at: int = 0, end: int | None = None, *, whole: bool = False, line_bytes: int = MAX_LINE
    ) -> None:
        self.data, self.at, self.whole, self.line_bytes = data, at, whole, line_bytes
        self.end = len(data) if end is None else min(end, len(data))

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.end - self.at

    def need(self, size: int, what: str = "field") -> None:
        """Prove that ``size`` bytes are there; raises WireError."""
        if size < 0 or self.left < size:
            raise WireError(
                f"{what} runs past the end", kind="malformed" if self.whole or size < 0 else "short", at=self.at
            )

    def take(self, size: int, what: str = "field") -> bytes:
        """The next ``size`` bytes."""
        at = self.at
        end = at + size
        if size < 0 or end > self.end:
            self.need(size, what)
        self.at = end
        return self.data[at:end]

    def take_rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(self.left)

    def skip(self, size: int, what: str = "field") -> None:
        """Pass over ``size`` bytes."""
        at = self.at + size
        if size < 0 or at > self.end:
            self.need(size, what)
        self.at = at

    def peek(self, size: int) -> bytes:
        """At most ``size`` bytes from here, without moving."""
        return self.data[self.at : min(self.at + size, self.end)]

    def big(self, size: int, what: str = "number") -> int:
        """An unsigned number of ``size`` bytes in network order."""
        at = self.at
        end = at + size
        if end > self.end:
            self.need(size, what)
        self.at = end
        return int.from_bytes(self.data[at:end], "big")

    def little(self, size: int, what: str = "number") -> int:
        """An unsigned number of ``size`` bytes, least significant first."""
        return int.from_bytes(self.take(size, what), "little")

    def inside(self, size: int, what: str = "vector") -> "Reader":
        """A whole reader over the next ``size`` bytes; this one moves behind them."""
        self.need(size, what)
        part = Reader(self.data, self.at, self.at + size, whole=True)
        self.at += size
        return part

    def vector(self, prefix: int, what: str = "vector") -> "Reader":
        """A whole reader over a vector whose length stands before it in ``prefix`` bytes (RFC 8446 section 3.4)."""
        return self.inside(self.big(prefix, f"length of {what}"), what)

    def until(self, mark: bytes, limit: int, what: str = "text") -> bytes:
        """Bytes up to ``mark``, which is passed over too; at most ``limit`` bytes."""
        found = self.data.find(mark, self.at, min(self.end, self.at + limit + len(mark)))
        if found < 0:
            too_long = self.left >= limit + len(mark)
            raise WireError(f"{what} does not end", kind="malformed" if self.whole or too_long else "short", at=self.at)
        text = self.data[self.at : found]
        self.at = found + len(mark)
        return text

    def line(self, limit: int, what: str = "line") -> bytes:
        """A line without its LF or CRLF. Raises WireError of kind ``limit`` where it exceeds what is read of lines at all."""
        least = self.line_bytes
        if least < limit and self.left > least and self.data.find(b"\n", self.at, self.at + least + 1) < 0:
            raise WireError(f"{what} is longer than the limit", kind="limit", at=self.at)
        return self.until(b"\n", limit, what).removesuffix(b"\r")

    def json_line(self, prefix: bytes, limit: int, what: str = "JSON line") -> dict[str, Any]:
        """``prefix`` and a JSON object on one line."""
        start = self.at
        line = self.line(limit, what)
        if line[: len(prefix)].upper() != prefix.upper():
            raise WireError(f"{what} starts otherwise", at=start)
        try:
            value = json.loads(line[len(prefix) :])
        except (ValueError, RecursionError):
            raise WireError(f"{what} holds no JSON", at=start) from None
        if not isinstance(value, dict):
            raise WireError(f"{what} holds no JSON object", at=start)
        return value
