"""Text of strangers, made fit to be shown."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.report import _text
from tests.report.make import HOSTILE

ANY_TEXT = st.text(st.characters(codec=None), max_size=60)


def dangerous(text: str) -> list[str]:
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn")]


@pytest.mark.parametrize(
    ("given_", "shown"),
    [
        ("plain.example", "plain.example"),
        ("ünïcödé 名前", "ünïcödé 名前"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\tc\r", r"a\x0ab\x09c\x0d"),
        ("\x9b2J\x7f", r"\x9b2J\x7f"),
        ("a\u202eb\u2066", r"a\u202eb\u2066"),
        ("\u200b\ufeff\u3164", r"\u200b\ufeff\u3164"),
        ("\udce9", r"\xe9"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("", ""),
    ],
)
def test_escape_shows_what_a_terminal_would_act_on(given_, shown):
    assert _text.escape(given_) == shown


@given(ANY_TEXT)
def test_escape_leaves_nothing_dangerous_and_is_done_once(text):
    shown = _text.escape(text)
    assert not dangerous(shown)
    assert _text.escape(shown) == shown
    shown.encode()


@given(ANY_TEXT)
def test_only_lone_surrogates_are_taken_from_text_that_stays_data(text):
    kept = _text.unicode_text(text)
    kept.encode()
    if not any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        assert kept == text


@given(st.recursive(ANY_TEXT | st.integers() | st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=6))
def test_json_for_terminals_is_the_same_value_without_raw_controls(value):
    data = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
    safe = _text.json_for_terminals(data)
    assert json.loads(safe) == json.loads(data)
    assert not [
        c for c in dangerous(safe.decode()) if unicodedata.category(c) == "Cc" or c in "\u202e\u2066\u200b\ufeff\u00ad"
    ]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_words_have_no_markup_left(text):
    shown = _text.markdown(text)
    for at, character in enumerate(shown):
        if character in "`*[]<>|&~!#@$":
            assert shown[at - 1] == "\\", f"{character} at {at} of {shown}"
    assert "://" not in shown.replace("\\:", "")


@pytest.mark.parametrize("text", [*HOSTILE, "", "   ", "``", "a``b"])
def test_a_code_span_has_no_way_out(text):
    shown = _text.markdown_code(text)
    assert shown[0] == shown[-1] == "`"
    assert "`" not in shown[1:-1]
    assert "|" not in shown
    assert len(shown) > 2


@pytest.mark.parametrize(
    ("given_", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-2+3", "'-2+3"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", r"\x09=1"),
        ("-", "-"),
        ("diego_cell/0", "diego_cell/0"),
    ],
)
def test_a_cell_is_no_formula(given_, cell):
    assert _text.spreadsheet(given_) == cell


def test_clip_ends_with_an_ellipsis():
    assert _text.clip("abcdef", 4) == "abc…"
    assert _text.clip("abcd", 4) == "abcd"
