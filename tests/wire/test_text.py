"""Text from strangers, fit for a terminal."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from auditor.wire.text import clip, escape, wrapped


@given(st.text())
def test_what_is_escaped_is_printable_and_on_one_line(text):
    shown = escape(text)
    assert shown.isprintable()
    assert escape(shown) == shown


def test_escapes():
    assert escape("\x1b[31mred\u202e\udcff") == "\\x1b[31mred\\u202e\\xff"


@given(text=st.text(alphabet="ab \u2026", max_size=90), room=st.integers(0, 60), hang=st.integers(0, 6))
def test_wrapped_lines_fit_and_hold_all_words(text, room, hang):
    lines = list(wrapped(text, room, hang))
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    if not room:
        assert lines == [text]
    assert not room or all(len(line) <= max(room, hang + 20) for line in lines)


def test_wrapped():
    assert list(wrapped("  one two three four five", 20, 4)) == ["  one two three four", "    five"]


def test_clip():
    assert clip("abcdef", 4) == "abc…"
    assert clip("abcd", 4) == "abcd"
