"""A connection table without verdicts, as CSV: the bytes that ``csv.py`` writes of its DataFrame, without making one.

Hundreds of thousands of rows are written by compiled code (``kernels/textrows.py``), and neither pandas nor Arrow is imported: for a small
capture that takes longer than all the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from auditor.kernels import textrows
from auditor.model.columns import CONNECTIONS
from auditor.model.connections import (
    CONN_STATES,
    DIRECTION_BY,
    FRAME_BITS,
    ConnectionTable,
    seen_from,
    sightings_of,
    translations_of,
    transport_name,
    tunnel_of,
)
from auditor.report._text import spreadsheet

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from auditor.model.roles import Out

UNKNOWN_TO_PACKETS = frozenset(
    {
        *("originator_role", "responder_role", "originator_component", "responder_component"),
        *("disposition", "paths", "near_miss", "findings"),
        *("tls", "ssh", "mysql", "nats", "http"),
    }
    | {column.name for column in CONNECTIONS if column.name.startswith("authentication_")}
)
"""Columns of what was not asked: a policy, and the first bytes."""

CHUNK_ROWS = 4_096
_CHUNK_BYTES = 1 << 24


def _quoted(text: str) -> bytes:
    return b'"' + text.encode("utf-8", "replace").replace(b'"', b'""') + b'"'


def _json(value: Any) -> str:
    if isinstance(value, list | tuple) and all(
        isinstance(each, str) and each.isascii() and each.isprintable() for each in value
    ):
        return json.dumps(value, separators=(",", ":"))
    from auditor.report._json import encode  # nothing of a plain capture needs it, and it takes its time to load

    return encode(value).decode()


class _Pool:
    """Words, one after the other."""

    def __init__(self) -> None:
        self.words: list[bytes] = []

    def raw(self, *words: bytes) -> int:
        """Puts words in as they are; gives the number of the first."""
        return self._put(words)

    def texts(self, texts: Iterable[str]) -> int:
        """Puts texts in; gives the number of the first."""
        return self._put(_quoted(spreadsheet(text)) for text in texts)

    def values(self, values: Iterable[Any]) -> int:
        """Puts lists and objects in, as JSON."""
        return self._put(_quoted(_json(value)) for value in values)

    def numbers(self, values: Iterable[float]) -> int:
        """Puts numbers in, the shortest texts that mean them."""
        return self._put(repr(value).removesuffix(".0").encode() for value in values)

    def _put(self, words: Iterable[bytes]) -> int:
        first = len(self.words)
        self.words += words
        return first

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
        """All words, where each begins, and how long the longest is."""
        sizes = np.array([0, *map(len, self.words)], np.int64)
        return np.frombuffer(b"".join(self.words) or b" ", np.uint8), np.cumsum(sizes), int(sizes.max())


def write_csv(
    table: ConnectionTable,
    texts: Sequence[str],
    vantages: Sequence[str],
    digits: Sequence[int],
    fields: Sequence[str],
    out: Out,
) -> None:
    """``fields`` of the table, none: all.

    texts: ``table.addresses`` as text; vantages: a name for each place; digits: of each capture how many its times have.
    """
    names = tuple(fields) or tuple(column.name for column in CONNECTIONS if column.name not in UNKNOWN_TO_PACKETS)
    pool = _Pool()
    plans = {name: _plan(name, table, texts, vantages, pool) for name in names}
    comma = pool.raw(b",", b"\n")
    columns = np.array([(plan[0], *plan[2:], comma if k else -1) for k, plan in enumerate(plans.values())], np.int64)
    words, word_at, longest = pool.arrays()
    texts_of = [
        each.view(np.uint8).reshape(len(table), each.itemsize) for each in (table.id, table.community_id, table.history)
    ]
    fine = np.array([9 if each > 6 else 6 for each in digits] or [6], np.uint8)
    digits_of = fine[np.minimum(table.first_frame >> FRAME_BITS, fine.size - 1)]
    row_bytes = len(names) * (max(longest, textrows.NUMBER_BYTES, _LETTERS_BYTES) + 3)
    step = max(min(CHUNK_ROWS, _CHUNK_BYTES // row_bytes), 1)
    room = np.empty(step * row_bytes, np.uint8)
    letters = np.empty((step, sum(each.shape[1] for each in texts_of)), np.uint8)
    numbers = np.zeros((len(names), step), np.int64)
    out.write(b",".join(_quoted(name) for name in names) + b"\n")
    for start in range(0, len(table), step):
        rows = slice(start, min(start + step, len(table)))
        n = rows.stop - start
        if n < step:
            numbers = np.zeros((len(names), n), np.int64)
        np.concatenate([each[rows] for each in texts_of], axis=1, out=letters[:n])
        for k, plan in enumerate(plans.values()):
            if plan[1] is not None:
                numbers[k] = plan[1](rows)
        size = textrows.write_rows(
            columns, numbers, digits_of[rows], letters[:n], _NO_ITEMS, _NO_LISTS, words, word_at, comma + 1, room
        )
        out.write(room[:size].data)


_ID, _COMMUNITY_ID, _HISTORY = (0, 20), (20, 30), (50, 32)
"""Where in a row's letters each text begins, and how long it is."""
_LETTERS_BYTES = 32
_NO_ITEMS, _NO_LISTS = np.zeros((0, 3), np.int64), np.zeros(1, np.int64)

_Plan = tuple[int, Callable[[slice], Any] | None, int, int]
"""What a column holds, its numbers for some rows, and where its letters are."""


def _plan(name: str, table: ConnectionTable, texts: Sequence[str], vantages: Sequence[str], pool: _Pool) -> _Plan:
    which, _, field = name.partition("_")
    if which in ("originator", "responder"):
        return _end_plan(field, which == "originator", table, texts, pool)
    match name:
        case "id":
            return textrows.LETTERS, None, *_ID
        case "community_id":
            return textrows.LETTERS, None, *_COMMUNITY_ID
        case "history":
            return textrows.LETTERS, None, *_HISTORY
        case "start":
            return textrows.MOMENT, lambda rows: table.first_ns[rows], 0, 0
        case "duration":
            return textrows.SECONDS, _durations(table, pool), 0, 0
        case "missed_bytes":
            return textrows.INTEGER, lambda rows: table.missed_bytes[rows], 0, 0
        case "tunnel":
            return textrows.WORD, _tunnels(table, pool), 0, 0
        case "translated":
            sides = translations_of(table)
            texts_of = np.full(len(table), -1, np.int64)
            texts_of[list(sides)] = pool.values(sides.values()) + np.arange(len(sides))
            return textrows.WORD, lambda rows: texts_of[rows], 0, 0
        case "transport":
            protos = np.flatnonzero(np.bincount(table.proto)).tolist()
            return _words(table.proto, pool.texts(map(transport_name, protos)), protos)
        case "conn_state":
            return _words(table.conn_state, pool.texts(CONN_STATES))
        case "direction_by":
            return _words(table.direction_by, pool.texts(DIRECTION_BY))
        case "application":
            return _words(table.application, pool.texts(table.applications))
        case "vantages":
            codes, places = seen_from(table, vantages)
            return _words(codes, pool.values(places))
        case "sightings":
            found = sightings_of(table, vantages)
            none = pool.values([()])
            words = np.full(len(table), none, np.int64)
            words[list(found)] = pool.values(found.values()) + np.arange(len(found))
            return textrows.WORD, lambda rows: words[rows], 0, 0
        case _:
            raise ValueError(f"packets alone do not show {name}")


def _end_plan(field: str, originator: bool, table: ConnectionTable, texts: Sequence[str], pool: _Pool) -> _Plan:
    match field:
        case "ip":
            return _words(table.orig_h if originator else table.resp_h, pool.texts(texts))
        case "port":
            ports = table.orig_p if originator else table.resp_p
            return textrows.NATURAL, lambda rows: ports[rows], 0, 0
        case "packets":
            packets = table.orig_pkts if originator else table.resp_pkts
            return textrows.INTEGER, lambda rows: packets[rows], 0, 0
        case "bytes":
            volume = table.orig_ip_bytes if originator else table.resp_ip_bytes
            return textrows.INTEGER, lambda rows: volume[rows], 0, 0
        case "copies":
            copies = table.orig_copies if originator else table.resp_copies
            return textrows.INTEGER, lambda rows: copies[rows], 0, 0
        case "instance":
            return textrows.WORD, lambda _: -1, 0, 0
        case "roles":
            place = pool.values([()])
            return textrows.WORD, lambda _: place, 0, 0
        case _:
            raise ValueError(f"packets alone do not show the {field} of an end")


def _words(codes: NDArray[Any], first: int, known: Sequence[int] | None = None) -> _Plan:
    """A column of codes: those in ``known``, else all from 0 on, have words from ``first`` on."""
    if known is None:
        return textrows.WORD, lambda rows: codes[rows].astype(np.int64) + first, 0, 0
    place = np.zeros(max(known, default=0) + 1, np.int64)
    place[list(known)] = np.arange(len(known)) + first
    return textrows.WORD, lambda rows: place[codes[rows]], 0, 0


def _durations(table: ConnectionTable, pool: _Pool) -> Callable[[slice], Any]:
    ns = table.last_ns - table.first_ns
    odd = np.flatnonzero((ns < 0) | (ns > textrows.MAX_SECONDS_NS))
    if odd.size:
        first = pool.numbers((ns[odd] / 1e9).tolist())
        ns[odd] = -1 - (first + np.arange(odd.size))
    return lambda rows: ns[rows]


def _tunnels(table: ConnectionTable, pool: _Pool) -> Callable[[slice], Any]:
    inside = np.flatnonzero(table.tunnel)
    if not inside.size:
        return lambda _: -1
    words = np.full(len(table), -1, np.int64)
    words[inside] = pool.values(tunnel_of(table, row) for row in inside.tolist()) + np.arange(inside.size)
    return lambda rows: words[rows]
