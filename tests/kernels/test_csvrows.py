"""Rows of CSV, against Python's own formatting and Arrow's."""

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv

from auditor.kernels import csvrows

WORDS = (b'"plain"', b"", b'"two ""quoted"" words"', "«ö»".encode())
LETTERS = ("abc", "", "abcdef")


def written(kind: int, values: list[int], digits: int = 6, letters: tuple[str, ...] = ()) -> bytes:
    """One column, as the kernel writes it."""
    n = len(values)
    signs = np.zeros((n, 6), np.uint8)
    for row, text in enumerate(letters):
        signs[row, : len(text)] = np.frombuffer(text.encode(), np.uint8)
    out = np.zeros(n * (csvrows.NUMBER_BYTES + 30), np.uint8)
    size = csvrows.write_rows(
        np.array([[kind, 0, 6]], np.int64),
        np.array([values], np.int64),
        np.full(n, digits, np.uint8),
        signs,
        np.frombuffer(b"".join(WORDS), np.uint8),
        np.cumsum([0, *map(len, WORDS)]).astype(np.int64),
        out,
    )
    return out[:size].tobytes()


@given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=20))
@example([0, 9, 10, 99, 100, -1, -10])
def test_integers_are_written_as_python_writes_them(values: list[int]) -> None:
    assert written(csvrows.INTEGER, values).decode().split() == [str(each) for each in values]


def test_what_is_missing_is_empty() -> None:
    assert written(csvrows.NATURAL, [-1, 0, 65_535, -1]) == b"\n0\n65535\n\n"
    assert (
        written(csvrows.WORD, [-1, 0, 3, 1, 2]) == b"\n" + b"\n".join((WORDS[0], WORDS[3], WORDS[1], WORDS[2])) + b"\n"
    )


def test_letters_end_at_their_zero_byte() -> None:
    told = written(csvrows.LETTERS, [0] * 3, letters=LETTERS).decode()
    assert [row[0] for row in csv.reader(io.StringIO(told))] == list(LETTERS)


@given(st.lists(st.integers(-(2**62), 2**63 - 1), min_size=1, max_size=20))
@example([0, -1, 951_782_400 * 10**9, 951_868_799 * 10**9 + 999_999_999, -2_203_891_200 * 10**9, 4_107_542_400 * 10**9])
def test_moments_are_written_as_python_writes_them(values: list[int]) -> None:
    for digits in (6, 9):
        expected = []
        for ns in values:
            moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=ns // 10**9)
            fraction = f"{ns % 10**9:09d}"[:digits]
            expected.append(f'"{moment:%Y-%m-%dT%H:%M:%S}.{fraction}Z"')
        assert written(csvrows.MOMENT, values, digits).decode().split() == expected


@given(st.lists(st.integers(0, csvrows.MAX_SECONDS_NS), min_size=1, max_size=20))
@example([0, 1, 12, 123, 999, 1_000, 1_234, 9_999, 10_000, 120_000, 10**9, 10**14, csvrows.MAX_SECONDS_NS])
def test_seconds_are_written_as_arrow_writes_them(values: list[int]) -> None:
    out = io.BytesIO()
    arrow_csv.write_csv(pa.table({"s": np.array(values) / 1e9}), out, arrow_csv.WriteOptions(include_header=False))
    assert written(csvrows.SECONDS, values) == out.getvalue()


def test_seconds_that_have_too_many_digits_are_words() -> None:
    assert written(csvrows.SECONDS, [-1, 1_500_000_000, -3]) == b'"plain"\n1.5\n"two ""quoted"" words"\n'


@pytest.mark.parametrize(("kind", "value"), [(csvrows.WORD, 4), (csvrows.SECONDS, -9)])
def test_a_word_that_is_not_in_the_pool_is_an_error(kind: int, value: Any) -> None:
    with pytest.raises(IndexError):
        written(kind, [value])


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=8), st.data())
def test_words_of_any_length_into_just_enough_room(words: list[bytes], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(-1, len(words) - 1), min_size=1, max_size=20))
    expected = b"".join((words[each] if each >= 0 else b"") + b"\n" for each in values)
    out = np.full(len(expected), 0xEE, np.uint8)
    arguments = (
        np.array([[csvrows.WORD, 0, 0]], np.int64),
        np.array([values], np.int64),
        np.zeros(len(values), np.uint8),
        np.zeros((len(values), 1), np.uint8),
        np.frombuffer(b"".join(words) or b" ", np.uint8),
        np.cumsum([0, *map(len, words)]).astype(np.int64),
    )
    assert csvrows.write_rows(*arguments, out) == len(expected)
    assert out.tobytes() == expected
    with pytest.raises(IndexError):
        csvrows.write_rows(*arguments, out[:-1])


def test_letters_stand_where_their_column_says() -> None:
    letters = np.frombuffer(b"a" * 40 + b"bc\0\0", np.uint8).reshape(1, 44)
    out = np.zeros(60, np.uint8)
    size = csvrows.write_rows(
        np.array([[csvrows.LETTERS, 40, 4], [csvrows.LETTERS, 0, 40]], np.int64),
        np.zeros((2, 1), np.int64),
        np.zeros(1, np.uint8),
        letters,
        np.zeros(1, np.uint8),
        np.zeros(1, np.int64),
        out,
    )
    assert out[:size].tobytes() == b'"bc","' + b"a" * 40 + b'"\n'
