"""Columns of a table as Arrow arrays and as lists of Python values.

A DataFrame keeps the same text in one of several ways (Categorical, Arrow, objects), an int with nulls likewise. Here each way is
turned into one of two, always whole columns at once. Lists and objects are mostly shared between rows: a column of them is
encoded once per distinct object, by identity, and spread again.

Which columns: those of ``columns.TABLES`` that the frame has; in declared order where it has all, in the frame's own order where
only some were chosen.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from auditor.model.audit import Audit
from auditor.model.columns import TABLES, Column
from auditor.report._json import clean, encode, encode_lines
from auditor.report._text import unicode_text

SCHEMA = "auditor.report/1"
"""Name of the warnings in every machine-readable format."""

ArrowArray: TypeAlias = Any
"""A pyarrow.Array: the published stubs of pyarrow miss much of what it does."""

_FRAMES = pa.list_(pa.list_(pa.int64()))
_FACTOR = pa.struct([("name", pa.string()), ("verdict", pa.string()), ("says", pa.string())])
_EVIDENCE = pa.struct([("kind", pa.string()), ("value", pa.string()), ("certainty", pa.string()), ("frames", _FRAMES)])
_SIGHTING = pa.struct(
    [
        ("vantage", pa.string()),
        ("originator_packets", pa.int64()),
        ("responder_packets", pa.int64()),
        ("missed_bytes", pa.int64()),
    ]
)
_PROBLEM = pa.struct([("kind", pa.string()), ("says", pa.string()), ("frame", pa.int64()), ("offset", pa.int64())])

ELEMENTS: dict[str, pa.DataType] = {
    "originator_roles": pa.string(),
    "responder_roles": pa.string(),
    "vantages": pa.string(),
    "sightings": _SIGHTING,
    "paths": pa.string(),
    "findings": pa.string(),
    "connections": pa.string(),
    "authentication_factors": _FACTOR,
    "authentication_evidence": _EVIDENCE,
    "evidence": _EVIDENCE,
    "link_types": pa.int64(),
    "problems": _PROBLEM,
}
"""What the lists of a ``list`` column hold, for Parquet."""


def chosen(frame: pd.DataFrame, table: str) -> tuple[Column, ...]:
    """The public columns that ``frame`` has."""
    declared = TABLES[table]
    by_name = {column.name: column for column in declared}
    if all(name in frame.columns for name in by_name):
        return declared
    return tuple(by_name[name] for name in frame.columns if name in by_name)


# -- JSON ------------------------------------------------------------------------------------------------------------------------


def _json_array(values: NDArray[np.object_]) -> ArrowArray:
    """A string array with the JSON of each value, null for None; a text stays as it is.

    No Python per value: the lines are cut apart as arrays.
    """
    lines = np.frombuffer(encode_lines(values.tolist()), np.uint8)
    ends = np.flatnonzero(lines == 0x0A)
    offsets = np.zeros(ends.size + 1, np.int32)
    offsets[1:] = ends - np.arange(ends.size)
    data = lines[lines != 0x0A]
    array: ArrowArray = pa.StringArray.from_buffers(
        values.size, pa.py_buffer(offsets.tobytes()), pa.py_buffer(data.tobytes())
    )
    array = pc.if_else(pa.array(_missing(values)), pa.scalar(None, pa.string()), array)
    words = data[offsets[:-1]] == 0x22
    if words.any():
        array = pc.if_else(pa.array(words), _texts(values.tolist(), unicode_text), array)
    return array


def _missing(values: NDArray[np.object_]) -> NDArray[np.bool_]:
    """True where an object is None or a missing value of pandas; a list is an object like any other."""
    return np.asarray(pd.isna(values), bool)


def _indices(codes: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> ArrowArray:
    return pa.array(codes, mask=mask)


def object_ids(values: NDArray[np.object_]) -> NDArray[np.int64]:
    """What id() gives of each object of a contiguous array, without making an int for each: an object array holds addresses."""
    return np.ctypeslib.as_array(ctypes.cast(values.ctypes.data, ctypes.POINTER(ctypes.c_int64)), (values.size,))


def _shared(
    values: NDArray[np.object_], convert: Callable[[NDArray[np.object_]], ArrowArray], type_: pa.DataType
) -> ArrowArray:
    """``convert`` applied once per distinct object."""
    if values.size == 0:
        return pa.array([], type_)
    values = np.ascontiguousarray(values)
    codes, unique = pd.factorize(object_ids(values))
    if unique.size > values.size // 2:
        return convert(values)
    first = np.empty(unique.size, np.int64)
    first[codes[::-1]] = np.arange(values.size)[::-1]
    return convert(values[first]).take(_indices(codes))


# -- times -----------------------------------------------------------------------------------------------------------------------


def rfc3339(ns: NDArray[np.int64], missing: NDArray[np.bool_], digits: NDArray[np.uint8] | int) -> ArrowArray:
    """Times as ``2026-11-22T16:48:00.123456Z``; ``digits`` behind the second: 6 or 9."""
    if not isinstance(digits, int):
        kinds = np.unique(digits)
        if kinds.size > 1:
            return pc.if_else(pa.array(digits > 6), rfc3339(ns, missing, 9), rfc3339(ns, missing, 6))
        digits = int(kinds[0]) if kinds.size else 6
    unit, values = ("ns", ns) if digits > 6 else ("us", ns // 1000)
    # Without a time zone: with one, the cast asks the zone's rules for every value, which takes ten times as long.
    texts = pa.array(values, pa.int64(), mask=missing).cast(pa.timestamp(unit)).cast(pa.string())
    zulu: Any = "Z"
    joined: ArrowArray = pc.binary_join_element_wise(pc.binary_replace_slice(texts, 10, 11, "T"), zulu, "")
    return joined


def capture_digits(audit: Audit) -> NDArray[np.uint8]:
    """For each capture, how many digits its times have."""
    if "time_digits" in audit.captures.columns:
        return np.where(int_parts(audit.captures["time_digits"])[0] > 6, 9, 6).astype(np.uint8)
    fine = any(
        bool((values % 1000).any())
        for frame, name in (
            (audit.connections, "start"),
            (audit.captures, "first_packet"),
            (audit.captures, "last_packet"),
        )
        if name in frame.columns
        for values in [int_parts(frame[name])[0]]
    )
    return np.full(len(audit.captures), 9 if fine else 6, np.uint8)


def row_digits(audit: Audit, table: str) -> NDArray[np.uint8]:
    """For each row of a table, how many digits its times have: those of its capture, else the most of any capture."""
    each = capture_digits(audit)
    frame: pd.DataFrame = getattr(audit, table)
    most = np.uint8(each.max()) if each.size else np.uint8(6)
    if table == "captures":
        return each
    if table == "connections" and "capture" in frame.columns and each.size:
        index = int_parts(frame["capture"])[0]
        return np.where((index >= 0) & (index < each.size), each[np.clip(index, 0, each.size - 1)], most)
    return np.full(len(frame), most, np.uint8)


# -- columns ---------------------------------------------------------------------------------------------------------------------


def int_parts(series: pd.Series[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Values and where they are missing; a missing value is 0."""
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "iu":
        return series.to_numpy(np.int64), np.zeros(len(series), bool)
    if isinstance(series.dtype, pd.DatetimeTZDtype) or (
        isinstance(series.dtype, np.dtype) and series.dtype.kind == "M"
    ):
        missing = series.isna().to_numpy(bool)
        stamps = series.dt.tz_convert("UTC").dt.tz_localize(None) if series.dt.tz is not None else series
        return np.where(missing, 0, stamps.to_numpy("datetime64[ns]").view(np.int64)), missing
    missing = series.isna().to_numpy(bool)
    if not missing.any():
        return series.to_numpy(np.int64), missing
    values = np.zeros(len(series), np.int64)
    values[~missing] = series[~missing].to_numpy(np.int64)
    return values, missing


def _objects(series: pd.Series[Any]) -> NDArray[np.object_]:
    return series.to_numpy(object)


def _texts(values: Sequence[Any], fit: Callable[[str], str]) -> ArrowArray:
    return pa.array([fit(str(v)) if isinstance(v, str) else None for v in values], pa.string())


def _text_array(series: pd.Series[Any], fit: Callable[[str], str], fits: Callable[[ArrowArray], bool]) -> ArrowArray:
    """A string array of the column; ``fit`` repairs a text, ``fits`` says whether a whole array needs no repair."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        names = _texts(series.cat.categories.tolist(), fit)
        codes = series.cat.codes.to_numpy(np.int32)
        return names.take(_indices(codes, codes < 0))
    try:
        array: ArrowArray = pa.array(series, pa.string(), from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        return _texts(series.tolist(), fit)  # a lone surrogate, or an Enum
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if fits(array):
        return array
    once = array.dictionary_encode()
    return _texts(once.dictionary.to_pylist(), fit).take(once.indices)


def _always(_array: ArrowArray) -> bool:
    return True


def text_array(
    series: pd.Series[Any], fit: Callable[[str], str] = unicode_text, fits: Callable[[ArrowArray], bool] = _always
) -> ArrowArray:
    """A text column as Arrow strings."""
    return _text_array(series, fit, fits)


def int_array(series: pd.Series[Any]) -> ArrowArray:
    """An int column as Arrow int64 with nulls."""
    values, missing = int_parts(series)
    return pa.array(values, pa.int64(), mask=missing)


def json_array(series: pd.Series[Any]) -> ArrowArray:
    """A list or object column as JSON text; a word that stands for itself (``mutual_tls``) stays a word."""

    return _shared(_objects(series), _json_array, pa.string())


def list_array(series: pd.Series[Any], element: pa.DataType) -> ArrowArray:
    """A list column as Arrow lists; evidence's values, which may be of any kind, as JSON text."""
    whole = pa.list_(element)

    def one(value: Any) -> Any:
        if element == _EVIDENCE:
            return [{**each, "value": encode(each.get("value")).decode()} for each in value]
        return value

    def convert(values: NDArray[np.object_]) -> ArrowArray:
        plain = [None if gone else one(v) for v, gone in zip(values.tolist(), _missing(values).tolist(), strict=True)]
        try:
            return pa.array(plain, whole)
        except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
            return pa.array(clean(plain), whole)

    return _shared(_objects(series), convert, whole)


def python_reader(column: Column, series: pd.Series[Any], digits: NDArray[np.uint8]) -> Callable[[slice], list[Any]]:
    """Reads any rows of a column as the values that go into JSON."""
    if column.kind == "text" and isinstance(series.dtype, pd.CategoricalDtype):
        names = np.array([*(unicode_text(str(c)) for c in series.cat.categories), None], object)
        codes = series.cat.codes.to_numpy()
        return lambda rows: names[codes[rows]].tolist()  # code -1, missing, is the last name
    match column.kind:
        case "text":
            return lambda rows: [unicode_text(v) if isinstance(v, str) else None for v in series.iloc[rows].tolist()]
        case "int":
            values, missing = int_parts(series)
            if not missing.any():
                return lambda rows: values[rows].tolist()
            return lambda rows: [
                None if gone else value
                for value, gone in zip(values[rows].tolist(), missing[rows].tolist(), strict=True)
            ]
        case "time":
            values, missing = int_parts(series)
            return lambda rows: rfc3339(values[rows], missing[rows], digits[rows]).to_pylist()
        case _:
            return lambda rows: [None if v is pd.NA else v for v in series.iloc[rows].tolist()]
