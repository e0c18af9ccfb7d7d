"""The connections inside the page: small enough to send by mail, fast enough to filter while typing.

Two parts, each JSON, compressed with gzip and written in base64 (which also means that nothing in it can end the element it stands in). The first is
what rows and filters need, as columns: words once each and numbers of them, times as differences from the row before. The second is everything
else of a connection, as in the JSON report, ``CHUNK`` connections a piece and each piece an element of its own: a piece is read and unpacked when one
of its connections is opened, and costs nothing before.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
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


def _coded(values: Sequence[Any] | NDArray[Any]) -> dict[str, Any]:
    codes, words = pd.factorize(np.asarray(values, object))
    return {"codes": codes.tolist(), "words": [str(word) for word in words]}


def _words(connections: pd.DataFrame, name: str) -> dict[str, Any]:
    series = connections[name]
    values = series.astype(object).where(series.notna(), None)
    return _coded(values.to_numpy(object))


def _lists(connections: pd.DataFrame, name: str) -> dict[str, Any]:
    values = np.empty(len(connections), object)
    values[:] = [tuple(map(str, each)) if each is not None else () for each in connections[name].tolist()]
    codes, lists = pd.factorize(values)
    return {"codes": codes.tolist(), "words": [list(each) for each in lists]}


def _numbers(connections: pd.DataFrame, name: str) -> list[int | None]:
    values, missing = int_parts(connections[name])
    if not missing.any():
        return list(values.tolist())
    return [None if gone else value for value, gone in zip(values.tolist(), missing.tolist(), strict=True)]


def _stranger_names(connections: pd.DataFrame) -> dict[str, Any]:
    columns = [(connections[column].tolist(), key) for column, key in NAMES if column in connections]
    found: list[str | None] = [None] * len(connections)
    for values, key in columns:
        for row, value in enumerate(values):
            if isinstance(value, dict) and value.get(key):
                found[row] = str(value[key])
    return _coded(found)


def columns(connections: pd.DataFrame) -> dict[str, Any]:
    """The columns for rows and filters; those that the audit does not have are left out."""
    data: dict[str, Any] = {"rows": len(connections)}
    if "start" in connections:
        start = int_parts(connections["start"])[0]
        micros = start // 1000
        data["start"] = np.diff(micros, prepend=micros[:1]).tolist()
        data["epoch"] = str(int(micros[0])) if len(micros) else "0"
    if "duration" in connections:
        data["duration"] = np.round(connections["duration"].to_numpy(np.float64) * 1e6).astype(np.int64).tolist()
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
    data["name"] = _stranger_names(connections)
    return data


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
