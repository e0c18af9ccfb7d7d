"""A folder with one Parquet file a table, and ``audit.json`` with what the audit was of and its summary.

Times are timestamps in UTC with nanoseconds, lists are lists, objects of varying keys (tls, http, ...) are JSON text: so every audit has
the same schema, and a folder of many audits reads as one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from auditor.model.audit import Audit
from auditor.model.columns import TABLES, Column
from auditor.model.roles import Format
from auditor.report import _incidents as incidents
from auditor.report._columns import (
    ELEMENTS,
    SCHEMA,
    ArrowArray,
    chosen,
    int_array,
    int_parts,
    json_array,
    list_array,
    text_array,
)
from auditor.report._json import encode

CHUNK_ROWS = 65_536

_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "time": pa.timestamp("ns", "UTC"),
    "object": pa.string(),
}


def _type(column: Column) -> pa.DataType:
    return pa.list_(ELEMENTS[column.name]) if column.kind == "list" else _TYPES[column.kind]


def _column(audit: Audit, table: str, column: Column, rows: slice) -> ArrowArray:
    series = getattr(audit, table)[column.name].iloc[rows]
    match column.kind:
        case "text":
            return text_array(series)
        case "int":
            return int_array(series)
        case "time":
            values, missing = int_parts(series)
            return pa.array(values, pa.int64(), mask=missing).cast(_type(column))
        case "object":
            return json_array(series)
        case "list":
            return list_array(series, ELEMENTS[column.name])
        case _:
            return pa.array(series, _type(column), from_pandas=True)


def arrow_table(audit: Audit, table: str, columns: Sequence[Column]) -> Any:
    """These columns of one table as an Arrow table, typed as in the files; for who keeps audits."""
    whole = slice(0, len(getattr(audit, table)))
    schema = arrow_schema(columns)
    return pa.Table.from_arrays([_column(audit, table, column, whole) for column in columns], schema=schema)


def arrow_schema(columns: Sequence[Column]) -> Any:
    """The types of these columns in the files."""
    return pa.schema([(column.name, _type(column)) for column in columns])


def write(audit: Audit, out: Path, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """The files into the folder ``out``, which is made where it is missing."""
    out.mkdir(parents=True, exist_ok=True)
    for name in [table] if table else TABLES:
        frame = getattr(audit, name)
        columns = chosen(frame, name)
        schema = pa.schema([(column.name, _type(column)) for column in columns], {"auditor.schema": SCHEMA})
        with parquet.ParquetWriter(out / f"{name}.parquet", schema, compression="zstd") as writer:
            for start in range(0, len(frame), CHUNK_ROWS):
                rows = slice(start, start + CHUNK_ROWS)
                arrays = [_column(audit, name, column, rows) for column in columns]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
    about = {
        "schema": SCHEMA,
        "audit": audit.info,
        "summary": audit.summary,
        "certificates": list(audit.certificates),
        "incidents": incidents.records(audit),
    }
    (out / "audit.json").write_bytes(encode(about) + b"\n")


FORMAT = Format("parquet", "", write, folder=True, tables=True)
