"""Rows of a table as nested records, as the JSON report has them.

A column's ``path`` says where its value stands: ``("originator", "ip")`` is ``{"originator": {"ip": ...}}``. Records are made a few
thousand at a time, so that a report of millions of connections needs no memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
import pandas as pd

from auditor.model.audit import Audit
from auditor.model.columns import TABLES, Column
from auditor.model.tables import EvidenceList
from auditor.report._columns import chosen, python_reader, row_digits
from auditor.report._json import encode

CHUNK_ROWS = 4096
_NESTED = frozenset({"list", "object"})
_MOST_MADE = 100_000


def records(
    audit: Audit, table: str, kind: str | None = None, *, encoded: bool = False
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a table as dicts in order, ``CHUNK_ROWS`` at a time; ``kind`` becomes the first key of each.

    ``encoded``: lists and objects, most of which many rows share, are JSON already, made once.
    """
    frame: pd.DataFrame = getattr(audit, table)
    columns = chosen(frame, table)
    digits = row_digits(audit, table)
    places = places_of(columns)
    readers = [
        _encoded(frame[column.name])
        if encoded and column.kind in _NESTED
        else python_reader(column, frame[column.name], digits)
        for column in columns
    ]
    names = [*(["kind"] if kind else []), *places]
    for start in range(0, len(frame), CHUNK_ROWS):
        rows_here = slice(start, min(start + CHUNK_ROWS, len(frame)))
        values = [read(rows_here) for read in readers]
        nested: list[Any] = [[kind] * (rows_here.stop - start)] if kind else []
        for place in places.values():
            if isinstance(place, int):
                nested.append(values[place])
            else:
                keys = [key for key, _ in place]
                rows = zip(*(values[index] for _, index in place), strict=True)
                nested.append([dict(zip(keys, row, strict=True)) for row in rows])
        yield [dict(zip(names, row, strict=True)) for row in zip(*nested, strict=True)]


def places_of(columns: Sequence[Column]) -> dict[str, list[tuple[str, int]] | int]:
    """The keys of a record, each with the index of its column, or with the keys and indices below it."""
    places: dict[str, list[tuple[str, int]] | int] = {}
    for index, column in enumerate(columns):
        top = column.path[0]
        if len(column.path) == 1:
            places[top] = index
        else:
            below = places.setdefault(top, [])
            assert isinstance(below, list), f"{column.name} stands inside a value"  # noqa: S101
            below.append((column.path[1], index))
    return places


def _encoded(series: pd.Series[Any]) -> Callable[[slice], list[Any]]:
    """Reads any rows of a column of lists or objects as their JSON."""
    values = series.to_numpy(object)
    shared: dict[int, msgspec.Raw] = {}
    made: dict[Any, bytes] = {}

    def one(value: Any) -> msgspec.Raw:
        if isinstance(value, EvidenceList):
            if len(made) >= _MOST_MADE:
                made.clear()
            return msgspec.Raw(value.json(encode, made))
        # The column holds what it is asked for, so that identities stay.
        found = shared.get(id(value))
        if found is None:
            found = shared[id(value)] = msgspec.Raw(encode(None if value is pd.NA else value))
        return found

    return lambda rows: [one(value) for value in values[rows]]


def text_rows(audit: Audit, table: str, names: Sequence[str], most: int) -> Iterator[list[str]]:
    """The first ``most`` rows, one text per cell: ``-`` for what is missing, lists with commas, objects as JSON."""
    frame: pd.DataFrame = getattr(audit, table).iloc[:most]
    by_name = {column.name: column for column in TABLES[table]}
    digits = row_digits(audit, table)[:most]
    values = [python_reader(by_name[name], frame[name], digits)(slice(0, len(frame))) for name in names]
    for row in zip(*values, strict=True):
        yield [_cell(value) for value in row]


def _cell(value: Any) -> str:
    if value is None or value in ("", ()):
        return "-"
    if isinstance(value, list | tuple) and all(isinstance(each, str | int) for each in value):
        return ",".join(str(each) for each in value) or "-"
    if isinstance(value, float):
        return f"{value:.6f}"
    return str(value) if isinstance(value, str | int) else encode(value).decode()
