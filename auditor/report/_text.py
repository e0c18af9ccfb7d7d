"""Text that came over the wire, or from somebody's file, made fit to be shown.

Names in a capture (SNI, banners, file names) are written by strangers. What reaches a terminal must not move its cursor, change its
title, reverse the reading direction or hide letters; what reaches Markdown must not become a table cell, a link or HTML. The rule
for terminals is Unicode's own: a character that is not printable (controls C0 and C1, format characters such as bidirectional
overrides and zero-width joiners, line separators, surrogates, odd spaces) is shown as its escape, ``\\x1b`` or ``\\u202e``, and so are
the few printable ones that draw nothing. A lone surrogate is a byte that was no UTF-8 (PEP 383) and is shown as that byte.
"""

from __future__ import annotations

import re

_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {chr(c) for c in range(0xFE00, 0xFE10)}
_MARKDOWN = re.compile(r"[\\`*\[\]<>|&~!#@$]|:(?=//)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_WWW = re.compile(r"(?i)\b(www)\.")

# In JSON text these bytes may stand only inside strings, so that each may be written as its escape there.
_RAW_IN_JSON = re.compile(
    rb"\x7f"
    rb"|\xc2[\x80-\x9f\xad]"  # C1 controls, soft hyphen
    rb"|\xd8\x9c|\xe1\xa0\x8e"  # Arabic letter mark, Mongolian vowel separator
    rb"|\xe2\x80[\x8b-\x8f\xa8-\xae]"  # zero width, marks, separators, bidirectional embeddings and overrides
    rb"|\xe2\x81[\xa0-\xaf]"  # word joiner, isolates
    rb"|\xef\xbb\xbf|\xef\xbf[\xb9-\xbb]"  # byte order mark, interlinear annotation
    rb"|\xf3\xa0[\x80\x81][\x80-\xbf]"  # tags
)


def _visible(character: str) -> str:
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
    return "".join(c if c.isprintable() and c not in _BLANK else _visible(c) for c in text)


def unicode_text(text: str) -> str:
    """``text`` without lone surrogates, so that it has a UTF-8 form; everything else stays as it is."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(_visible(c) if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)
    return text


def clip(text: str, room: int) -> str:
    """``text``, or its start and an ellipsis where it is longer than ``room`` characters."""
    return text if len(text) <= room else text[: max(room - 1, 0)] + "…"


def markdown(text: str) -> str:
    """``text`` as plain words in Markdown: no markup, no table cell, no HTML, no link comes of it."""
    return _WWW.sub(r"\1\\.", _MARKDOWN.sub(lambda found: "\\" + found.group(), escape(text)))


def markdown_code(text: str) -> str:
    """``text`` as a code span that also stands in a table cell."""
    shown = escape(text).replace("`", "\\x60").replace("|", "\\x7c")
    return f"`{shown}`" if shown.strip() else "` `"


def _json_escape(found: re.Match[bytes]) -> bytes:
    character = found.group().decode()
    units = character.encode("utf-16-be")
    return b"".join(b"\\u%04x" % int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))


def json_for_terminals(data: bytes) -> bytes:
    """JSON text of the same value, in which no raw control or invisible character is left."""
    if data.isascii() and b"\x7f" not in data:
        return data
    return _RAW_IN_JSON.sub(_json_escape, data)


def spreadsheet(text: str) -> str:
    """``text`` for a CSV cell: escaped, and with ``'`` before what a spreadsheet would take for a formula (=, +, -, @)."""
    shown = escape(text)
    return "'" + shown if len(shown) > 1 and shown[0] in "=+-@" else shown
