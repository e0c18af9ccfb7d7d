"""The connections inside the page: small enough to send by mail, fast enough to filter while typing.

Three parts, all in base64 (which also means that nothing in them can end the element they stand in):

- The head, JSON: the choices of the filters with their counts, the findings, and the ``FIRST`` rows. It is all that the page's first view needs.
- The columns, compressed with gzip: what rows and filters need. Words stand once each; numbers, and the numbers of words, are arrays of the narrowest type
  that holds them, little-endian, -1 for what is missing; times are differences from the row before. They are read after the first view is on the screen.
- Everything else of a connection, as in the JSON report, ``CHUNK`` connections a piece (gzip) and each piece an element of its own: a piece is read
  when one of its connections is opened, and costs nothing before.
"""

from __future__ import annotations

import base64
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditor.model.audit import Audit
from auditor.report._columns import int_parts
from auditor.report._json import encode
from auditor.report._records import records

MOST = 300_000
"""Connections that a page holds."""
CHUNK = 256
FIRST = 64
"""Rows that the head holds: more than a window shows."""

NAMES = (("tls", "sni"), ("http", "host"), ("quic", "sni"))
"""Names from the traffic (SNI, ...): the search finds them."""

_INSIDE = ("says", "incomplete", "authentication_missing", "sibling", "capture", "first_frame")
"""Columns beside the public ones that a reader is shown."""


def pack(data: bytes) -> str:
    """gzip and base64; the same bytes for the same data."""
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    return base64.b64encode(packer.compress(data) + packer.flush()).decode()


def shown_rows(connections: pd.DataFrame) -> NDArray[np.int64]:
    """Positions of the connections that the page holds, rising: those of findings first, then undeclared ones, then the earliest."""
    count = len(connections)
    if count <= MOST:
        return np.arange(count)
    rank = np.full(count, 2)
    if "disposition" in connections:
        rank[(connections["disposition"] == "undeclared").to_numpy(bool)] = 1
    if "findings" in connections:
        rank[np.fromiter((len(each) > 0 for each in connections["findings"]), bool, count)] = 0
    return np.sort(np.argsort(rank, kind="stable")[:MOST])


@dataclass(frozen=True, slots=True)
class Coded:
    """A column of words or lists of words: each once, and for each row its number; -1 where the row has none."""

    codes: NDArray[np.int64]
    words: list[Any]


def _coded(values: Sequence[Any] | NDArray[Any]) -> Coded:
    codes, words = pd.factorize(np.asarray(values, object))
    return Coded(codes, [str(word) for word in words])


def _words(connections: pd.DataFrame, name: str) -> Coded:
    series = connections[name]
    values = series.astype(object).where(series.notna(), None)
    return _coded(values.to_numpy(object))


def _lists(connections: pd.DataFrame, name: str) -> Coded:
    values = np.empty(len(connections), object)
    values[:] = [tuple(map(str, each)) if each is not None else () for each in connections[name].tolist()]
    codes, lists = pd.factorize(values)
    return Coded(codes, [list(each) for each in lists])


def _numbers(connections: pd.DataFrame, name: str) -> NDArray[np.int64]:
    values, missing = int_parts(connections[name])
    return np.where(missing, -1, values)


def _names_seen(connections: pd.DataFrame) -> Coded:
    columns = [(connections[column].tolist(), key) for column, key in NAMES if column in connections]
    found: list[str | None] = [None] * len(connections)
    for values, key in columns:
        for row, value in enumerate(values):
            if isinstance(value, dict) and value.get(key):
                found[row] = str(value[key])
    return _coded(found)


Columns = dict[str, Coded | NDArray[np.int64] | list[str]]


def columns(connections: pd.DataFrame) -> Columns:
    """The columns for rows and filters, by name; those that the audit does not have are left out.

    ``start`` holds microseconds since the row before (the first row: 0), ``duration`` microseconds, ``id`` texts.
    """
    data: Columns = {}
    if "start" in connections:
        micros = int_parts(connections["start"])[0] // 1000
        data["start"] = np.diff(micros, prepend=micros[:1])
    if "duration" in connections:
        data["duration"] = np.round(connections["duration"].to_numpy(np.float64) * 1e6).astype(np.int64)
    for name in (
        *(
            f"{end}_{what}"
            for end in ("originator", "responder")
            for what in ("ip", "role", "place", "instance", "component")
        ),
        *("transport", "application", "disposition", "authentication_verdict", "conn_state"),
    ):
        if name in connections:
            data[name] = _words(connections, name)
    for name in ("originator_port", "responder_port", "originator_bytes", "responder_bytes"):
        if name in connections:
            data[name] = _numbers(connections, name)
    for name in ("paths", "findings"):
        if name in connections:
            data[name] = _lists(connections, name)
    if "id" in connections:
        data["id"] = connections["id"].astype(str).tolist()
    data["name"] = _names_seen(connections)
    return data


def head(data: Columns, connections: pd.DataFrame, rules: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What the first view needs, of these columns of these connections; ``rules``: (rule, severity, title) of each finding by its id."""
    count = len(connections)
    micros = int_parts(connections["start"])[0] // 1000 if "start" in connections else np.zeros(0, np.int64)
    return {
        "rows": count,
        "epoch": str(int(micros[0])) if len(micros) else "0",
        "last": int(micros[-1] - micros[0]) if len(micros) else 0,
        "names": list(data),
        "rules": rules,
        "choices": _choices(data, rules),
        "first": {name: _first(column) for name, column in data.items() if name != "id"},
    }


def _first(column: Coded | NDArray[np.int64] | list[str]) -> Any:
    if not isinstance(column, Coded):
        return column[:FIRST] if isinstance(column, list) else column[:FIRST].tolist()
    codes = column.codes[:FIRST].tolist()
    used = sorted({code for code in codes if code >= 0})
    place = {code: at for at, code in enumerate(used)}
    return {"codes": [place.get(code, -1) for code in codes], "words": [column.words[code] for code in used]}


def _choices(data: Columns, rules: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """[word, connections] of each filter's choices; ``nobody``: connections of which an end has no role."""
    found: dict[str, Any] = {}
    for key, name in (
        ("from", "originator_place"),
        ("to", "responder_place"),
        ("path", "paths"),
        ("verdict", "authentication_verdict"),
        ("disposition", "disposition"),
        ("app", "application"),
        ("finding", "findings"),
    ):
        found[key] = list(_counted(data.get(name)).items())
    of_rule: Counter[str] = Counter()
    for ids, count in _each(data.get("findings")):
        for rule in {rules[each][0] for each in ids if each in rules}:
            of_rule[rule] += count
    found["rule"] = list(of_rule.items())
    nobody = (data.get(f"{end}_role") for end in ("originator", "responder"))
    found["nobody"] = [int(np.count_nonzero(each.codes < 0)) if isinstance(each, Coded) else 0 for each in nobody]
    return found


def _each(column: Any) -> Iterator[tuple[Any, int]]:
    """Each word, or list of words, with the number of its connections."""
    if isinstance(column, Coded):
        counts = np.bincount(column.codes[column.codes >= 0], minlength=len(column.words))
        yield from zip(column.words, counts.tolist(), strict=True)


def _counted(column: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for words, count in _each(column):
        for word in [words] if isinstance(words, str) else words:
            found[word] += count
    return found


_TYPES = (np.int8, np.int16, np.int32)


def _narrow(values: NDArray[np.int64]) -> dict[str, str]:
    """An array in the narrowest type that holds it, packed, and the type's name; more than 32 bits as float64, exact to 53."""
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    kind: Any = next((each for each in _TYPES if np.iinfo(each).min <= low and high <= np.iinfo(each).max), np.float64)
    return {"type": np.dtype(kind).name, "data": pack(values.astype(np.dtype(kind).newbyteorder("<")).tobytes())}


def packed(data: Columns) -> Iterator[tuple[str, dict[str, str]]]:
    """Each column by name: ``type`` and ``data`` of its numbers, ``words`` (JSON) of its words; base64, all but the type of gzip."""
    for name, column in data.items():
        if isinstance(column, Coded):
            yield name, _narrow(column.codes) | {"words": pack(encode(column.words))}
        elif isinstance(column, list):
            yield name, {"words": pack(encode(column))}
        else:
            yield name, _narrow(column)


def details(audit: Audit, positions: NDArray[np.int64]) -> Iterator[str]:
    """Everything of the connections at these positions, packed, ``CHUNK`` a piece."""
    frame = audit.connections.iloc[positions].reset_index(drop=True)
    extra = {
        name: frame[name].astype(object).where(frame[name].notna(), None).tolist()
        for name in _INSIDE
        if name in frame.columns
    }
    row, waiting = 0, []
    for chunk in records(replace(audit, connections=frame), "connections"):
        for record in chunk:
            waiting.append({**record, "inside": {name: values[row] for name, values in extra.items() if values[row]}})
            row += 1
            if len(waiting) == CHUNK:
                yield pack(encode(waiting))
                waiting = []
    if waiting:
        yield pack(encode(waiting))
