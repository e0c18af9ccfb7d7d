"""Rows of any columns in any format: what ``auditor history`` lists and answers.

``write_table`` takes an Arrow table with undeclared columns, so a column is written by its type: times as RFC 3339, lists and structures
as JSON, texts escaped as everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from auditor.errors import ConfigError
from auditor.report._columns import rfc3339
from auditor.report._json import encode, encode_lines
from auditor.report._text import clip, escape, markdown, spreadsheet, wrapped

CELL = 200
_MOMENT = re.compile(r"^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)[0-9:.]*Z$")
ROWS_FOR_PEOPLE = 5_000


def _told(array: Any) -> list[Any]:
    """Values of a column as JSON has them."""
    if pa.types.is_timestamp(array.type):
        import numpy as np

        ns = array.cast(pa.timestamp("ns", array.type.tz)).cast(pa.int64())
        values = ns.fill_null(0).to_numpy()
        missing = np.asarray(
            ns.is_null().to_numpy(zero_copy_only=False) if isinstance(ns, pa.Array) else ns.is_null().to_numpy()
        )
        digits = 9 if (values % 1000).any() else 6
        return list(rfc3339(values, missing.astype(bool), digits).to_pylist())
    return list(array.to_pylist())


def _cell(value: Any, fit: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return str(fit(clip(value, CELL)))
    if isinstance(value, list) and all(isinstance(each, str | int) for each in value):
        return str(fit(clip(",".join(map(str, value)), CELL))) or "-"
    return str(fit(clip(encode(value).decode(), CELL))) if not isinstance(value, int) else str(value)


def write_table(
    table: pa.Table, name: str, out: IO[bytes] | Path, kind: str = "row", *, width: int = 0, spare: Sequence[str] = ()
) -> None:
    """The table in a format: table, json, ndjson, csv, markdown; parquet into the folder ``out``. Raises ConfigError.

    ``width``: columns that a terminal has (0: any number); a table that does not fit loses first the digits of its times, then ``spare`` columns, in
    this order, and says so.
    """
    if name == "html":
        raise ConfigError("--format", "html is for whole audits", hint="auditor history show AUDIT --format html")
    names = table.schema.names
    if isinstance(out, Path):
        if name != "parquet":
            raise ConfigError("--format", f"{name} is not a folder", hint="--format parquet")
        parquet.write_table(table, out / f"{kind}s.parquet", compression="zstd")
        return
    if name == "csv":
        out.write(_csv(table))
        return
    if name in ("json", "ndjson"):
        columns = [_told(table[each]) for each in names]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        if name == "ndjson":
            out.write(encode_lines([{"kind": kind, **row} for row in rows]))
        else:
            body = encode_lines(rows)[:-1].replace(b"\n", b",\n") if rows else b""
            out.write(b"[\n" + body + b"\n]\n" if rows else b"[]\n")
        return
    shown = table.slice(0, ROWS_FOR_PEOPLE)
    fit = markdown if name == "markdown" else escape
    cells = [[_cell(value, fit) for value in _told(shown[each])] for each in names]
    left_out: list[str] = []
    if name == "table" and width:
        names, cells, left_out = _fitted(list(names), cells, width, spare)
    lines = list(zip(*cells, strict=True))
    out.write("\n".join(_grid(names, lines, name == "markdown")).encode() + b"\n")
    if left_out:
        says = f"To fit {width} columns: without {', '.join(left_out)} (--format csv and --fields show all)"
        out.write("\n".join(wrapped(says, width, 2)).encode() + b"\n")
    if table.num_rows > ROWS_FOR_PEOPLE:
        out.write(f"and {table.num_rows - ROWS_FOR_PEOPLE:,} more (--format csv has all)\n".encode())


def _fitted(
    names: list[str], cells: list[list[str]], width: int, spare: Sequence[str]
) -> tuple[list[str], list[list[str]], list[str]]:
    """Names and cells that fit, and the names of columns that were left out."""

    def wide() -> int:
        return sum(max(map(len, (name, *column))) for name, column in zip(names, cells, strict=True)) + 2 * (
            len(names) - 1
        )

    if wide() > width:
        cells = [[_MOMENT.sub(r"\1 \2", cell) for cell in column] for column in cells]
    left_out = []
    for each in spare:
        if wide() <= width:
            break
        if each in names:
            at = names.index(each)
            del names[at], cells[at]
            left_out.append(each.upper())
    return names, cells, left_out


def _grid(names: Sequence[str], lines: Sequence[Sequence[str]], as_markdown: bool) -> list[str]:
    if as_markdown:
        head = ["| " + " | ".join(map(markdown, names)) + " |", "| " + " | ".join("---" for _ in names) + " |"]
        return head + ["| " + " | ".join(line) + " |" for line in lines]
    whole = [[escape(name).upper() for name in names], *lines]
    widths = [max(len(line[k]) for line in whole) for k in range(len(names))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in whole]


def _csv(table: pa.Table) -> bytes:
    arrays = []
    for name in table.schema.names:
        values = _told(table[name])
        if (
            pa.types.is_integer(table[name].type)
            or pa.types.is_floating(table[name].type)
            or pa.types.is_boolean(table[name].type)
        ):
            arrays.append(table[name])
            continue
        texts = [None if v is None else spreadsheet(v if isinstance(v, str) else encode(v).decode()) for v in values]
        arrays.append(pa.chunked_array([pa.array(texts, pa.string())]))
    sink = pa.BufferOutputStream()
    arrow_csv.write_csv(pa.table(arrays, [escape(name) for name in table.schema.names]), sink)
    return bytes(sink.getvalue())
