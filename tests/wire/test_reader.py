"""The byte cursor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import WireError
from auditor.wire.reader import Reader, printable


def test_numbers_and_vectors() -> None:
    reader = Reader(b"\x01\x02\x03\x04\x00\x02ab\x07rest")
    assert reader.big(2) == 0x0102
    assert reader.little(2) == 0x0403
    part = reader.vector(2)
    assert (part.take_rest(), reader.big(1), reader.left) == (b"ab", 7, 4)


def test_an_end_is_short_unless_a_length_was_stated() -> None:
    with pytest.raises(WireError) as head_ends:
        Reader(b"\x00").big(2)
    assert head_ends.value.kind == "short"
    vector = Reader(b"\x00\x03abcd").vector(2)
    vector.skip(3)
    with pytest.raises(WireError) as vector_ends:
        vector.big(1)
    assert vector_ends.value.kind == "malformed"


def test_lines_and_json() -> None:
    reader = Reader(b'INFO {"a": [1]}\r\nnext\nno end')
    assert reader.json_line(b"INFO ", 100) == {"a": [1]}
    assert reader.line(100) == b"next"
    with pytest.raises(WireError) as cut:
        reader.line(100)
    assert cut.value.kind == "short"
    with pytest.raises(WireError) as too_long:
        Reader(b"x" * 50).line(10)
    assert too_long.value.kind == "malformed"


@pytest.mark.parametrize(
    "text", [b"INFO []\n", b"INFO {\n", b"OTHER {}\n", b"INFO " + b"[" * 20_000 + b"\n", b"INFO \xff\n"]
)
def test_what_is_no_json_object_is_malformed(text: bytes) -> None:
    with pytest.raises(WireError) as wrong:
        Reader(text).json_line(b"INFO ", 32_768)
    assert wrong.value.kind == "malformed"


def test_text_is_escaped_and_cut() -> None:
    assert printable(b"plain text") == "plain text"
    assert printable(b"a\x1b\\\xff\n") == r"a\x1b\x5c\xff\x0a"
    assert printable(b"x" * 300, 5) == "xxxxx..."


@given(
    st.binary(max_size=30),
    st.lists(st.tuples(st.sampled_from(["big", "take", "vector", "line", "skip"]), st.integers(0, 9))),
)
def test_never_reads_outside(data: bytes, steps: list[tuple[str, int]]) -> None:
    reader = Reader(data)
    for step, size in steps:
        before = reader.at
        try:
            getattr(reader, step)(min(size, 4) if step == "vector" else size)
        except WireError:
            assert reader.at <= len(data)
            break
        assert before <= reader.at <= len(data)
