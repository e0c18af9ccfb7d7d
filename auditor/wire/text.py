"""Text from packets or files, made safe for a terminal.

The rule is Unicode's own: a character that is not printable (controls C0 and C1, format characters such as bidirectional overrides and
zero-width joiners, line separators, surrogates, odd spaces) is shown as its escape, ``\\x1b`` or ``\\u202e``, and so are the few
printable ones that draw nothing. A lone surrogate is a byte that was no UTF-8 (PEP 383) and is shown as that byte.
"""

from __future__ import annotations

from collections.abc import Iterator

_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {chr(c) for c in range(0xFE00, 0xFE10)}


def visible(character: str) -> str:
    """A character as its escape."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def escape(text: str) -> str:
    """``text`` on one line, with every character that a terminal would act on or not draw as a visible escape."""
    if text.isprintable() and (text.isascii() or not _BLANK.intersection(text)):
        return text
    return "".join(c if c.isprintable() and c not in _BLANK else visible(c) for c in text)


def many(count: int, one: str, more: str | None = None) -> str:
    """``1 finding``, ``2 findings``."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def known_as(address: str, *names: object) -> str | None:
    """The first of ``names`` that says more than the address; None: none does. An inventory's entry without a name is called by its address."""
    return next((name for name in names if isinstance(name, str) and name and name != address), None)


def wrapped(text: str, room: int, hang: int = 0) -> Iterator[str]:
    """``text`` in lines of at most ``room`` characters (0: one line), broken between words where that can be; further lines begin ``hang`` columns in."""
    room = max(room, hang + 20) if room else len(text)
    while len(text) > room:
        at = text.rfind(" ", len(text) - len(text.lstrip()) + 1, room + 1)
        at = at if at > 0 else room
        yield text[:at].rstrip()
        text = " " * hang + text[at:].lstrip()
    yield text


def clip(text: str, room: int) -> str:
    """``text``, or its start and an ellipsis where it is longer than ``room`` characters."""
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"
