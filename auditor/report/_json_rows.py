"""Rows of a table as lines of JSON: the bytes that encoding its records one by one gives, without making them.

Hundreds of thousands of rows are written by compiled code (``kernels/textrows.py``) out of words that are encoded once and of numbers. A small table is
written record by record: it is not worth loading that code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditor.model.audit import Audit
from auditor.model.columns import Column
from auditor.model.facts import unpack_marks
from auditor.model.tables import EvidenceList
from auditor.report._columns import chosen, int_parts, object_ids, row_digits
from auditor.report._json import encode, encode_lines
from auditor.report._records import places_of, records
from auditor.report._text import unicode_text

WORTH_ROWS = 4_096
"""A table with fewer rows is written record by record."""
CHUNK_ROWS = 4_096
_NULL = b"null"
_FAR = np.iinfo(np.int64).max
_MOST_MADE_BYTES = 32 << 20
_MOST_TEMPLATES = 50_000


def lines(audit: Audit, table: str, kind: str | None = None, *, end: bytes = b"\n") -> Iterator[bytes]:
    """The rows of a table in order, many at a time, each with ``end`` behind it; ``kind`` becomes the first key of each."""
    frame: pd.DataFrame = getattr(audit, table)
    if len(frame) < WORTH_ROWS:
        for chunk in records(audit, table, kind, encoded=True):
            told = encode_lines(chunk)
            # A line feed is between rows alone: inside a text it is escaped.
            yield told if end == b"\n" else told.replace(b"\n", end)
        return
    from auditor.kernels import textrows  # of the many rows alone

    words = _Words()
    columns = chosen(frame, table)
    digits = row_digits(audit, table)
    readers: list[_Reader] = []
    before: list[int] = []
    for fragment, column in _fragments(columns, kind):
        before.append(words.put(fragment))
        readers.append(_reader(frame[column.name], column, words))
    ending = words.put(_ending(columns) + end)
    words.settle()
    plan = np.zeros((len(readers), 4), np.int64)
    plan[:, 0] = [reader.kind for reader in readers]
    plan[:, 3] = before
    letters_at = 0
    for k, reader in enumerate(readers):
        if reader.letters is not None:
            size = reader.letters.shape[1]
            plan[k, 1:3] = letters_at, size
            letters_at += size
    fixed = int(words.sizes(np.array([*before, ending])).sum())
    for start in range(0, len(frame), CHUNK_ROWS):
        rows = slice(start, min(start + CHUNK_ROWS, len(frame)))
        n = rows.stop - start
        words.begin()
        items = _Items()
        numbers = np.zeros((len(readers), n), np.int64)
        for k, reader in enumerate(readers):
            if reader.read is not None:
                numbers[k] = reader.read(rows, items)
        letters = [reader.letters[rows] for reader in readers if reader.letters is not None]
        pool, pool_at = words.arrays()
        room = n * fixed + items.room(words) + letters_at * n
        for k, reader in enumerate(readers):
            room += n * (textrows.NUMBER_BYTES + 3)
            room += int(words.sizes(_words_in(reader.kind, numbers[k])).sum())
        out = np.empty(room, np.uint8)
        size = textrows.write_rows(
            plan,
            numbers,
            digits[rows],
            np.concatenate(letters, axis=1) if letters else np.zeros((n, 1), np.uint8),
            *items.arrays(),
            pool,
            pool_at,
            ending,
            out,
        )
        yield out[:size].tobytes()


class _Words:
    """Words of JSON, one after the other: those of the whole table, and behind them those of some rows."""

    def __init__(self) -> None:
        self._kept: list[bytes] = []
        self._more: list[bytes] = []
        self._raw, self._at = b"", np.zeros(1, np.int64)
        self._now = self._at

    def put(self, word: bytes) -> int:
        """Puts a word in; gives its number. For good, or after ``begin`` for these rows."""
        self._more.append(word)
        return len(self._kept) + len(self._more) - 1

    def settle(self) -> None:
        """What is in now stays."""
        self._kept += self._more
        self._more = []
        self._raw = b"".join(self._kept)
        self._at = self._now = np.cumsum([0, *map(len, self._kept)]).astype(np.int64)

    def begin(self) -> None:
        """Other rows begin."""
        self._more = []

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """All words, and where each begins and the last one ends."""
        ends = self._at[-1] + np.cumsum([*map(len, self._more)]).astype(np.int64)
        self._now = np.concatenate((self._at, ends))
        return np.frombuffer(b"".join((self._raw, *self._more, b" ")), np.uint8), self._now

    def sizes(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """How long these words are."""
        found: NDArray[np.int64] = self._now[numbers + 1] - self._now[numbers]
        return found


class _Items:
    """Evidence of some rows: words and the frames behind them."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.int64]] = []
        self._counts: list[int] = []

    def add(self, parts: NDArray[np.int64], counts: Sequence[int]) -> int:
        """Puts lists in, int64[i, 3], so many items each; gives the number of the first list."""
        first = len(self._counts)
        self._parts.append(parts)
        self._counts += counts
        return first

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """As ``write_rows`` takes them."""
        parts = np.concatenate(self._parts) if self._parts else np.zeros((0, 3), np.int64)
        return parts, np.cumsum([0, *self._counts]).astype(np.int64)

    def room(self, words: _Words) -> int:
        """How many bytes they take at the most, apart from the brackets of a list."""
        from auditor.kernels.textrows import ITEM_BYTES

        return sum(len(each) * ITEM_BYTES + int(words.sizes(each[:, 0]).sum()) for each in self._parts)


class _Reader:
    """How a column's values are written: their kind, and their numbers or texts for some rows."""

    def __init__(
        self,
        kind: int,
        read: Callable[[slice, _Items], NDArray[np.int64]] | None = None,
        letters: NDArray[np.uint8] | None = None,
    ) -> None:
        self.kind, self.read, self.letters = kind, read, letters


def _words_in(kind: int, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The words among the numbers of a column of this kind."""
    from auditor.kernels import textrows

    if kind == textrows.WORD:
        return numbers
    if kind in (textrows.SECONDS, textrows.FRACTION, textrows.ITEMS):
        return -1 - numbers[numbers < 0]
    return -2 - numbers[numbers < 0] if kind == textrows.NATURAL else numbers[:0]


def _fragments(columns: Sequence[Column], kind: str | None) -> Iterator[tuple[bytes, Column]]:
    """The columns in the order of a record's keys, each with what stands before its value."""
    before = b"{" if kind is None else b'{"kind":' + encode(kind) + b","
    for top, place in places_of(columns).items():
        inner = [(None, place)] if isinstance(place, int) else place
        for number, (key, index) in enumerate(inner):
            if number == 0:
                before += encode(top) + b":"
            if key is not None:
                before += (b"{" if number == 0 else b",") + encode(key) + b":"
            yield before, columns[index]
            before = b""
        before = b"," if isinstance(place, int) else b"},"


def _ending(columns: Sequence[Column]) -> bytes:
    last = list(places_of(columns).values())[-1]
    return b"}" if isinstance(last, int) else b"}}"


def _reader(series: pd.Series[Any], column: Column, words: _Words) -> _Reader:
    from auditor.kernels import textrows

    if column.kind == "text":
        return _text(series, words)
    if column.kind == "int":
        values, missing = int_parts(series)
        if not missing.any():
            return _Reader(textrows.INTEGER, lambda rows, _: values[rows])
        null = words.put(_NULL)
        if (values >= 0).all():
            natural = np.where(missing, -2 - null, values)
            return _Reader(textrows.NATURAL, lambda rows, _: natural[rows])
    if column.kind == "time":
        values, missing = int_parts(series)
        if not missing.any():
            return _Reader(textrows.MOMENT, lambda rows, _: values[rows])
    if column.kind == "float":
        return _seconds(series.to_numpy(np.float64), words)
    values_of = series.to_numpy(object)
    if column.kind == "list" and any(isinstance(each, EvidenceList) for each in values_of):
        evidence = _Evidence(values_of, words)
        return _Reader(textrows.ITEMS, evidence.read)
    return _Reader(textrows.WORD, _Objects(values_of, words).read)


def _text(series: pd.Series[Any], words: _Words) -> _Reader:
    from auditor.kernels import textrows

    if isinstance(series.dtype, pd.CategoricalDtype):
        told = [words.put(encode(unicode_text(str(each)))) for each in series.cat.categories]
        place, codes = np.array([*told, words.put(_NULL)], np.int64), series.cat.codes.to_numpy()
        return _Reader(textrows.WORD, lambda rows, _: place[codes[rows]])
    letters = _same_size(series)
    if letters is not None:
        return _Reader(textrows.LETTERS, letters=letters)
    values = series.to_numpy(object)

    def read(rows: slice, _: _Items) -> NDArray[np.int64]:
        texts = [encode(unicode_text(each)) if isinstance(each, str) else _NULL for each in values[rows]]
        return np.array([words.put(text) for text in texts], np.int64)

    return _Reader(textrows.WORD, read)


def _same_size(series: pd.Series[Any]) -> NDArray[np.uint8] | None:
    """Texts of one length that need no escape, as their letters; None: they are others."""
    import pyarrow as pa

    try:
        array: Any = pa.array(series, pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        return None
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    _, where, data = array.buffers()
    if array.null_count or data is None:
        return None
    offsets = np.frombuffer(where, np.int64)[array.offset : array.offset + len(array) + 1]
    sizes = np.unique(np.diff(offsets))
    if sizes.size != 1 or not sizes[0]:
        return None
    letters = np.frombuffer(data, np.uint8)[offsets[0] : offsets[-1]].reshape(len(array), int(sizes[0]))
    return letters if _PLAIN[letters].all() else None


_PLAIN = np.zeros(256, np.bool_)
_PLAIN[0x20:0x7F] = True
_PLAIN[[ord('"'), ord("\\")]] = False


def _seconds(values: NDArray[np.float64], words: _Words) -> _Reader:
    """Seconds that are whole nanoseconds as these; others are words."""
    from auditor.kernels import textrows

    known = np.isfinite(values) & (np.abs(values) < textrows.MAX_SECONDS_NS / 1e9)
    ns = np.round(np.where(known, values, 0) * 1e9).astype(np.int64)
    odd = np.flatnonzero(~known | (ns < 0) | (ns / 1e9 != values) | np.signbit(values))
    ns[odd] = [-1 - words.put(encode(value)) for value in values[odd].tolist()]
    return _Reader(textrows.FRACTION, lambda rows, _: ns[rows])


class _Objects:
    """A column of objects, most of which many rows share: each is encoded once, while it is remembered."""

    def __init__(self, values: NDArray[np.object_], words: _Words) -> None:
        self._values, self._words = np.ascontiguousarray(values), words
        self._made: dict[int, bytes] = {}
        self._bytes = 0

    def _encoded(self, identity: int, value: Any) -> bytes:
        # The column holds what it is asked for, so that identities stay.
        found = self._made.get(identity)
        if found is None:
            found = encode(None if value is pd.NA else value)
            self._bytes += len(found)
            if self._bytes > _MOST_MADE_BYTES:
                self._made.clear()
                self._bytes = len(found)
            self._made[identity] = found
        return found

    def read(self, rows: slice, _: _Items) -> NDArray[np.int64]:
        """Words of these rows."""
        values = self._values[rows]
        ids = object_ids(values)
        codes, unique = pd.factorize(ids)
        first = np.empty(unique.size, np.int64)
        first[codes[::-1]] = np.arange(values.size)[::-1]
        told = [
            self._words.put(self._encoded(identity, value))
            for identity, value in zip(unique.tolist(), values[first].tolist(), strict=True)
        ]
        found: NDArray[np.int64] = np.array(told, np.int64)[codes]
        return found


_Template = tuple[tuple[bytes, int], ...]
"""What each item begins with, and the place of its frames among the marks; -1: it has none."""


class _Evidence:
    """A column of evidence. What connections share is written once; their frames are numbers."""

    def __init__(self, values: NDArray[np.object_], words: _Words) -> None:
        self._values, self._words = values, words
        self._templates: dict[Any, _Template] = {}
        self._heads: dict[Any, bytes] = {}

    def read(self, rows: slice, items: _Items) -> NDArray[np.int64]:
        """Numbers of the lists of these rows, or of words."""
        values = self._values[rows].tolist()
        told = np.zeros(len(values), np.int64)
        put: dict[bytes, int] = {}

        def word(text: bytes) -> int:
            found = put.get(text)
            if found is None:
                found = put[text] = self._words.put(text)
            return found

        # With the template, so that its identity stays its own.
        numbered: dict[int, tuple[list[int], list[int], _Template]] = {}
        chosen_rows: list[int] = []
        packed_of: list[bytes] = []
        counts: list[int] = []
        heads: list[int] = []
        places: list[int] = []
        for k, value in enumerate(values):
            if not isinstance(value, EvidenceList):
                told[k] = -1 - word(encode(None if value is pd.NA else value))
                continue
            packed = value.packed
            if packed is None:
                told[k] = -1 - word(value.json(encode, self._heads))
                continue
            template = self._template(value)
            found = numbered.get(id(template))
            if found is None:
                found = [word(head) for head, _ in template], [at for _, at in template], template
                numbered[id(template)] = found
            chosen_rows.append(k)
            packed_of.append(packed)
            counts.append(len(template))
            heads += found[0]
            places += found[1]
        if len(self._heads) > _MOST_TEMPLATES:
            self._heads.clear()
        if not chosen_rows:
            return told
        place = np.array(places, np.int64)
        pairs = unpack_marks(packed_of)[np.repeat(np.arange(len(counts)), counts), place]
        pairs[place < 0] = 0
        low, high = pairs.min(axis=1, initial=_FAR), pairs.max(axis=1, initial=0)
        parts = np.zeros((place.size, 3), np.int64)
        parts[:, 0] = heads
        # One frame where the other is not known, or the same.
        parts[:, 1] = np.where(low > 0, low, high)
        parts[:, 2] = np.where((low > 0) & (low != high), high, 0)
        told[chosen_rows] = items.add(parts, counts) + np.arange(len(chosen_rows))
        return told

    def _template(self, value: EvidenceList) -> _Template:
        facts, kinds = value.facts, value.kinds
        places: Mapping[str, Any] = facts.marks[0][0]
        mine = tuple(map(facts.own.get, kinds)) if facts.own else ()
        key = id(facts.shared), id(kinds), id(places), mine
        found = self._templates.get(key)
        if found is None:
            if len(self._templates) >= _MOST_TEMPLATES:
                self._templates = {}
            found = self._templates[key] = tuple((value.head(kind, encode), places.get(kind, -1)) for kind in kinds)
        return found
