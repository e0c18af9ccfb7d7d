"""One table as CSV (RFC 4180, UTF-8, a header line); the connections where none is named.

Lists and objects are JSON text, times RFC 3339, what is missing an empty cell without quotes. A CSV has no escapes of its own and is
opened in terminals and spreadsheets alike, so text is escaped as for a terminal, and a text that a spreadsheet would run as a
formula (it starts with =, +, - or @) gets a ``'`` in front. JSON and Parquet have the same texts unchanged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from auditor.model.audit import Audit
from auditor.model.columns import Column
from auditor.model.roles import Format, Out
from auditor.report._columns import (
    ArrowArray,
    chosen,
    int_array,
    int_parts,
    json_array,
    rfc3339,
    row_digits,
    text_array,
)
from auditor.report._text import spreadsheet

CHUNK_ROWS = 65_536


_PLAIN = np.zeros(256, bool)
_PLAIN[0x20:0x7F] = True
_FORMULA = np.zeros(256, bool)
_FORMULA[list(b"=+-@")] = True


def _harmless(texts: ArrowArray) -> bool:
    """Printable ASCII throughout and no formula: looked at as bytes, because nearly every column is."""
    _, where, data = texts.buffers()
    offsets = np.frombuffer(where, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    if offsets[0] == offsets[-1]:
        return True
    letters = np.frombuffer(data, np.uint8)[: offsets[-1]]
    if not _PLAIN[letters[offsets[0] :]].all():
        return False
    first = offsets[:-1][np.diff(offsets) > 1]
    return not _FORMULA[letters[first]].any()


def _column(series: pd.Series[Any], column: Column, digits: NDArray[np.uint8]) -> ArrowArray:
    match column.kind:
        case "text":
            return text_array(series, spreadsheet, _harmless)
        case "int":
            return int_array(series)
        case "time":
            return rfc3339(*int_parts(series), digits)
        case "list" | "object":
            return json_array(series)
        case _:
            return pa.array(series, from_pandas=True)


def write(audit: Audit, out: Out, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """One table, in pieces of ``CHUNK_ROWS`` rows."""
    table = table or "connections"
    frame = getattr(audit, table)
    columns = chosen(frame, table)
    digits = row_digits(audit, table)
    for start in range(0, max(len(frame), 1), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        arrays = [_column(frame[column.name].iloc[rows], column, digits[rows]) for column in columns]
        piece = pa.table(arrays, [column.name for column in columns])
        arrow_csv.write_csv(piece, out, arrow_csv.WriteOptions(include_header=start == 0))


FORMAT = Format("csv", ".csv", write, tables=True)
