"""Text from packets or files, made safe to show.

Names in a capture (SNI, banners, file names) are untrusted. What reaches a terminal must not move its cursor, change its
title, reverse the reading direction or hide letters (``auditor/wire/text.py``); what reaches Markdown must not become a table cell, a
link or HTML.
"""

from __future__ import annotations

import re

from auditor.wire.markup import markdown, markdown_code, spreadsheet
from auditor.wire.text import clip, escape, visible, wrapped

__all__ = [
    "clip",
    "escape",
    "json_for_terminals",
    "markdown",
    "markdown_code",
    "spreadsheet",
    "unicode_text",
    "wrapped",
]

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


def unicode_text(text: str) -> str:
    """``text`` without lone surrogates, so that it has a UTF-8 form; everything else stays as it is."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return "".join(visible(c) if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)
    return text


def _json_escape(found: re.Match[bytes]) -> bytes:
    character = found.group().decode()
    units = character.encode("utf-16-be")
    return b"".join(b"\\u%04x" % int.from_bytes(units[i : i + 2]) for i in range(0, len(units), 2))


def json_for_terminals(data: bytes) -> bytes:
    """JSON text of the same value, in which no raw control or invisible character is left."""
    if data.isascii() and b"\x7f" not in data:
        return data
    return _RAW_IN_JSON.sub(_json_escape, data)
