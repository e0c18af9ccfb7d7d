"""Text of strangers in Markdown and in spreadsheets: no markup, no formula comes of it."""

from __future__ import annotations

import re

from auditor.wire.text import escape

_MARKDOWN = re.compile(r"[\\`*\[\]<>|&~!#@$]|:(?=//)|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_WWW = re.compile(r"(?i)\b(www)\.")


def markdown(text: str) -> str:
    """``text`` as plain words in Markdown: no markup, no table cell, no HTML, no link comes of it."""
    return _WWW.sub(r"\1\\.", _MARKDOWN.sub(lambda found: "\\" + found.group(), escape(text)))


def markdown_code(text: str) -> str:
    """``text`` as a code span that also stands in a table cell."""
    shown = escape(text).replace("`", "\\x60").replace("|", "\\x7c")
    return f"`{shown}`" if shown.strip() else "` `"


def spreadsheet(text: str) -> str:
    """``text`` for a CSV cell: escaped, and with ``'`` before what a spreadsheet would take for a formula (=, +, -, @)."""
    shown = escape(text)
    return "'" + shown if len(shown) > 1 and shown[0] in "=+-@" else shown
