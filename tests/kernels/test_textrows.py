"""Rows of CSV and JSON, against Python's own formatting, Arrow's and msgspec's."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pyarrow import csv as arrow_csv

from auditor.kernels import textrows
from auditor.model.connections import FRAME_BITS

WORDS = (b'"plain"', b"", b'"two ""quoted"" words"', "«ö»".encode())
LETTERS = ("abc", "", "abcdef")
NO_ITEMS = np.zeros((0, 3), np.int64)


def rows(
    columns: list[tuple[int, ...]],
    numbers: list[list[int]],
    words: Sequence[bytes] = WORDS,
    *,
    digits: int = 6,
    letters: Any = None,
    items: Any = NO_ITEMS,
    items_at: Sequence[int] = (0,),
    out: Any = None,
) -> bytes:
    """What the kernel writes; a line feed ends each row."""
    n = len(numbers[0])
    pool = (*words, b"\n")
    room = n * (sum(map(len, pool)) + len(columns) * (textrows.NUMBER_BYTES + 60)) + 200 * len(items)
    out = np.full(room, 0xEE, np.uint8) if out is None else out
    size = textrows.write_rows(
        np.array(columns, np.int64),
        np.array(numbers, np.int64),
        np.full(n, digits, np.uint8),
        np.zeros((n, 6), np.uint8) if letters is None else letters,
        np.array(items, np.int64).reshape(-1, 3),
        np.array(items_at, np.int64),
        np.frombuffer(b"".join(pool), np.uint8),
        np.cumsum([0, *map(len, pool)]).astype(np.int64),
        len(words),
        out,
    )
    return bytes(out[:size].tobytes())


def written(kind: int, values: list[int], digits: int = 6, letters: tuple[str, ...] = ()) -> bytes:
    """One column, as the kernel writes it."""
    signs = np.zeros((len(values), 6), np.uint8)
    for row, text in enumerate(letters):
        signs[row, : len(text)] = np.frombuffer(text.encode(), np.uint8)
    return rows([(kind, 0, 6, -1)], [values], digits=digits, letters=signs)


@given(st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=1, max_size=20))
@example([0, 9, 10, 99, 100, -1, -10])
def test_integers_are_written_as_python_writes_them(values: list[int]) -> None:
    assert written(textrows.INTEGER, values).decode().split() == [str(each) for each in values]


def test_what_is_missing_is_empty() -> None:
    assert written(textrows.NATURAL, [-1, 0, 65_535, -1]) == b"\n0\n65535\n\n"
    assert (
        written(textrows.WORD, [-1, 0, 3, 1, 2]) == b"\n" + b"\n".join((WORDS[0], WORDS[3], WORDS[1], WORDS[2])) + b"\n"
    )


def test_letters_end_at_their_zero_byte() -> None:
    told = written(textrows.LETTERS, [0] * 3, letters=LETTERS).decode()
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
        assert written(textrows.MOMENT, values, digits).decode().split() == expected


@given(st.lists(st.integers(0, textrows.MAX_SECONDS_NS), min_size=1, max_size=20))
@example([0, 1, 12, 123, 999, 1_000, 1_234, 9_999, 10_000, 120_000, 10**9, 10**14, textrows.MAX_SECONDS_NS])
def test_seconds_are_written_as_arrow_writes_them(values: list[int]) -> None:
    out = io.BytesIO()
    arrow_csv.write_csv(pa.table({"s": np.array(values) / 1e9}), out, arrow_csv.WriteOptions(include_header=False))
    assert written(textrows.SECONDS, values) == out.getvalue()


def test_seconds_that_have_too_many_digits_are_words() -> None:
    assert written(textrows.SECONDS, [-1, 1_500_000_000, -3]) == b'"plain"\n1.5\n"two ""quoted"" words"\n'


@pytest.mark.parametrize(("kind", "value"), [(textrows.WORD, 5), (textrows.SECONDS, -9)])
def test_a_word_that_is_not_in_the_pool_is_an_error(kind: int, value: Any) -> None:
    with pytest.raises(IndexError):
        written(kind, [value])


@given(st.lists(st.binary(max_size=100), min_size=1, max_size=8), st.data())
def test_words_of_any_length_into_just_enough_room(words: list[bytes], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(-1, len(words) - 1), min_size=1, max_size=20))
    expected = b"".join((words[each] if each >= 0 else b"") + b"\n" for each in values)
    plan = [(textrows.WORD, 0, 0, -1)]
    assert rows(plan, [values], words, out=np.full(len(expected), 0xEE, np.uint8)) == expected
    with pytest.raises(IndexError):
        rows(plan, [values], words, out=np.full(len(expected) - 1, 0xEE, np.uint8))


def test_letters_stand_where_their_column_says() -> None:
    letters = np.frombuffer(b"a" * 40 + b"bc\0\0", np.uint8).reshape(1, 44)
    plan = [(textrows.LETTERS, 40, 4, -1), (textrows.LETTERS, 0, 40, 0)]
    assert rows(plan, [[0], [0]], (b",",), letters=letters) == b'"bc","' + b"a" * 40 + b'"\n'


@given(st.lists(st.integers(0, textrows.MAX_SECONDS_NS), min_size=1, max_size=20))
@example([0, 1, 12, 999, 1_000, 10_000, 10**9, 60 * 10**9, 10**14, textrows.MAX_SECONDS_NS])
def test_fractions_are_written_as_msgspec_writes_them(values: list[int]) -> None:
    expected = msgspec.json.Encoder().encode_lines([value / 1e9 for value in values])
    assert written(textrows.FRACTION, values) == expected


def test_what_is_missing_may_have_a_word() -> None:
    plan = [(textrows.NATURAL, 0, 0, 0), (textrows.FRACTION, 0, 0, 1), (textrows.ITEMS, 0, 0, 1)]
    assert rows(plan, [[-3], [-2], [-2]], (b"[", b"null")) == b"[nullnullnullnullnull\n"


FRAMES = st.tuples(st.integers(1, 2**62), st.integers(0, 2**62)) | st.just((0, 0))
"""Two frames; the second is missing, or both."""


@given(st.lists(st.lists(FRAMES, max_size=3), min_size=1, max_size=5))
@example([[], [(0, 0)], [(1, 0), (1, 2)]])
def test_evidence_is_written_with_its_frames(lists: list[list[tuple[int, int]]]) -> None:
    head = b'{"frames":['
    flat = [(0, *pair) for each in lists for pair in each]
    at = np.cumsum([0, *map(len, lists)])
    told = rows([(textrows.ITEMS, 0, 0, -1)], [list(range(len(lists)))], (head,), items=flat, items_at=at)

    def place(frame: int) -> list[int]:
        return [frame >> FRAME_BITS, frame & (1 << FRAME_BITS) - 1]

    expected = [[{"frames": [place(frame) for frame in pair if frame]} for pair in each] for each in lists]
    assert told == msgspec.json.Encoder().encode_lines(expected)
