"""Text from strangers, fit for a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from auditor.wire.text import clip, escape


@given(st.text())
def test_what_is_escaped_is_printable_and_on_one_line(text):
    shown = escape(text)
    assert shown.isprintable()
    assert escape(shown) == shown


def test_escapes():
    assert escape("\x1b[31mred\u202e\udcff") == "\\x1b[31mred\\u202e\\xff"


def test_clip():
    assert clip("abcdef", 4) == "abc…"
    assert clip("abcd", 4) == "abcd"
