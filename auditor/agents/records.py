"""Connection records as columns, and back, every number checked before compiled code may use it.

Most fields follow from others: a stream ends where its payload does, its FIN stands at its end, acknowledgements name that place. So what is sent of
them is how far they are from that, which is nearly always nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from auditor.agents.columns import Column, Numbers, pack, rising, summed, unpack, within
from auditor.errors import WireError
from auditor.model.connections import (
    CONN,
    FRAME_BITS,
    HISTORY_LETTERS,
    HISTORY_ROOM,
    MAX_HOLES,
    NEVER,
    NOWHERE,
    SLOT_GONE,
)
from auditor.model.packets import TUNNEL_NAMES
from auditor.model.streams import HEAD_BYTES

Array = NDArray[Any]

MOST_FRAMES: Final = 1 << FRAME_BITS
"""Frame numbers of one capture are below."""
_POSITION: Final = 1 << 61
"""No stream position is further from 0: sums of two still fit."""
_TIME: Final = (1 << 62) - 1
_COUNT: Final = 1 << 53
_U8, _U16, _U32 = (1 << 8) - 1, (1 << 16) - 1, (1 << 32) - 1
_HALF: Final = 1 << 31
_HEADERS: Final = 52
"""IP and TCP with time stamps: what most packets have beside their payload."""

_PLAIN: Final[Mapping[str, tuple[int, int]]] = {
    "tunnel_id": (0, _U32),
    "a_port": (0, _U16),
    "b_port": (0, _U16),
    "proto": (0, _U8),
    "tunnel": (0, max(TUNNEL_NAMES)),
    "ip_version": (0, 6),
    "first_side": (0, 1),
    "superseded": (0, 1),
    "state": (0, _U8),
    "n_history": (0, HISTORY_ROOM),
    "client_side": (-1, 1),
    "icmp_type": (0, _U8),
    "icmp_code": (0, _U8),
    "strays": (0, _U32),
    "evidence": (0, _U8),
    "odd": (0, _U16),
}
_SIDES: Final[Mapping[str, tuple[int, int]]] = {
    "pkts": (0, _COUNT),
    "payload_bytes": (0, _COUNT),
    "start": (-_POSITION, _POSITION),
    "copies": (0, _U32),
    "seen": (0, _U16),
    "history_seen": (0, _U8),
    "n_holes": (0, MAX_HOLES),
    "lost_bytes": (0, _COUNT),
    "isn": (0, _U32),
}


def to_columns(rows: Array) -> dict[str, Column]:
    """Records (CONN), but for what ``auditor.agents.evidence`` sends of them: frames of payload, applications."""
    out: dict[str, Numbers] = {}
    ends = np.zeros(2 * len(rows), np.dtype([("hi", np.uint64), ("lo", np.uint64)]))
    ends["hi"], ends["lo"] = np.concatenate([rows["a_hi"], rows["b_hi"]]), np.concatenate([rows["a_lo"], rows["b_lo"]])
    hosts, which = np.unique(ends, return_inverse=True)
    which = which.reshape(-1)
    out["a"], out["b"] = which[: len(rows)].astype(np.int64), which[len(rows) :].astype(np.int64)
    for name in _PLAIN:
        out[name] = rows[name].astype(np.int64)
    first = rows["first_ns"].astype(np.int64)
    out["first_ns"], out["last_ns"] = rising(first), rows["last_ns"] - first
    out["first_frame"] = rising(rows["first_frame"])
    out["last_frame"] = rows["last_frame"] - rows["first_frame"]
    out["outer"] = rows["outer"].astype(np.int64)
    history = np.arange(HISTORY_ROOM) < rows["n_history"][:, None]
    out["history"] = rows["history"][history].astype(np.int64)
    for k in range(2):
        side, other = rows["side"][:, k], rows["side"][:, 1 - k]
        for name in _SIDES:
            out[f"{k}.{name}"] = side[name].astype(np.int64)
        payload, end = side["payload_bytes"], side["end"]
        out[f"{k}.ip_bytes"] = side["ip_bytes"] - payload - _HEADERS * side["pkts"]
        out[f"{k}.end"] = end - side["start"] - payload
        out[f"{k}.base"] = _turned(side["base"].astype(np.int64) - side["isn"])
        out[f"{k}.acked"] = _marked(side["acked"] - end, side["acked"] == NOWHERE)
        out[f"{k}.fin_at"] = _marked(side["fin_at"] - end, side["fin_at"] == NOWHERE)
        out[f"{k}.fin_ack"] = _turned(side["fin_ack"].astype(np.int64) - other["base"] - other["end"])
        for name in ("fin_ns", "rst_ns"):
            out[f"{k}.{name}"] = _marked(rows["last_ns"] - side[name], side[name] == NEVER)
        out[f"{k}.head_base"] = side["head_base"] - side["start"]
        # Compared with its like only, behind both initial sequence numbers: a part of it tells as much.
        out[f"{k}.head_sum"] = np.where(
            side["head_sum"] == 0, 0, (side["head_sum"] >> np.uint64(32)) & np.uint64(_U16) | np.uint64(1)
        ).astype(np.int64)
        out[f"{k}.head_bytes"] = rows["head_bytes"][:, k].astype(np.int64) - np.minimum(payload, HEAD_BYTES)
        holes = np.arange(MAX_HOLES) < side["n_holes"][:, None]
        out[f"{k}.hole_from"] = side["hole_from"][holes].astype(np.int64)
        out[f"{k}.hole_to"] = side["hole_to"][holes].astype(np.int64)
    columns = {name: pack(values) for name, values in out.items()}
    columns["hosts"] = pack(np.array([len(hosts)]))
    columns["host_hi"], columns["host_lo"] = pack(hosts["hi"]), pack(hosts["lo"])
    columns["captures"] = pack(rows["captures"])
    return columns


def to_rows(columns: Mapping[str, Column], n: int) -> Array:
    """As ``to_columns`` had them. Raises WireError for anything that it could not have made."""

    def of(name: str, size: int = n) -> Numbers:
        if name not in columns:
            raise WireError(f"column {name} is missing")
        return unpack(columns[name], size)

    def bounded(name: str, least: int, most: int, size: int = n) -> Numbers:
        return within(of(name, size), least, most, name)

    rows = np.zeros(n, CONN)
    count = int(bounded("hosts", 0, 2 * n, 1)[0])
    hosts = of("host_hi", count).view(np.uint64), of("host_lo", count).view(np.uint64)
    for letter in "ab":
        which = bounded(letter, 0, count - 1)
        rows[f"{letter}_hi"], rows[f"{letter}_lo"] = hosts[0][which], hosts[1][which]
    for name, bounds in _PLAIN.items():
        rows[name] = bounded(name, *bounds)
    first = within(summed(of("first_ns")), -_TIME, _TIME, "first_ns")
    rows["first_ns"] = first
    last = within(first + bounded("last_ns", -_TIME, _TIME), -_TIME, _TIME, "last_ns")
    rows["last_ns"] = last
    frame = within(summed(of("first_frame")), 0, MOST_FRAMES - 1, "first_frame")
    rows["first_frame"] = frame
    rows["last_frame"] = within(
        frame + bounded("last_frame", -MOST_FRAMES, MOST_FRAMES), 0, MOST_FRAMES - 1, "last_frame"
    )
    rows["outer"] = _outer(bounded("outer", -1, n - 1))
    rows["captures"] = of("captures").view(np.uint64)
    history = np.arange(HISTORY_ROOM) < rows["n_history"][:, None]
    rows["history"][history] = bounded("history", 0, 2 * len(HISTORY_LETTERS) - 1, int(history.sum()))
    for k in range(2):
        side = rows["side"][:, k]
        for name, bounds in _SIDES.items():
            side[name] = bounded(f"{k}.{name}", *bounds)
        payload, start = side["payload_bytes"], side["start"]
        apart = bounded(f"{k}.ip_bytes", -_COUNT * 64, _COUNT)
        side["ip_bytes"] = within(apart + payload + _HEADERS * side["pkts"], 0, 64 * _COUNT, "ip_bytes")
        end = within(bounded(f"{k}.end", -_POSITION, _POSITION) + start + payload, -_POSITION, _POSITION, "end")
        side["end"] = end
        side["base"] = (bounded(f"{k}.base", -_HALF, _HALF) + side["isn"]) & _U32
        for name in ("acked", "fin_at"):
            far, none = _unmarked(of(f"{k}.{name}"))
            far = within(within(far, -_POSITION, _POSITION, name) + end, -_POSITION, _POSITION, name)
            side[name] = np.where(none, NOWHERE, far)
        for name in ("fin_ns", "rst_ns"):
            far, none = _unmarked(of(f"{k}.{name}"))
            at = within(last - within(far, -_TIME, _TIME, name), -_TIME, _TIME, name)
            side[name] = np.where(none, NEVER, at)
        begins: Numbers = bounded(f"{k}.head_base", -_POSITION, _POSITION) + start
        side["head_base"] = within(begins, -_POSITION, _POSITION, "head_base")
        side["head_sum"] = bounded(f"{k}.head_sum", 0, _U16)
        kept = bounded(f"{k}.head_bytes", -HEAD_BYTES, HEAD_BYTES) + np.minimum(payload, HEAD_BYTES)
        rows["head_bytes"][:, k] = within(kept, 0, HEAD_BYTES, "head_bytes")
        holes = np.arange(MAX_HOLES) < side["n_holes"][:, None]
        some = int(holes.sum())
        begin, stop = (bounded(f"{k}.{name}", -_POSITION, _POSITION, some) for name in ("hole_from", "hole_to"))
        # Whoever walks from hole to hole has to come on.
        within(stop - begin, 1, 2 * _POSITION, "a hole")
        side["hole_from"][holes], side["hole_to"][holes] = begin, stop
        side["slot"] = SLOT_GONE
    for k in range(2):
        side, other = rows["side"][:, k], rows["side"][:, 1 - k]
        side["fin_ack"] = (bounded(f"{k}.fin_ack", -_HALF, _HALF) + other["base"] + other["end"]) & _U32
    return rows


def _turned(values: Numbers) -> Numbers:
    """Differences of sequence numbers, which go round: the way that is shorter."""
    made: Numbers = ((values + _HALF) & _U32) - _HALF
    return made


def _marked(values: Numbers, none: NDArray[np.bool_]) -> Numbers:
    """Numbers with a place for none: 0; the others from 1 up, and below 0 as they are."""
    made: Numbers = np.where(none, 0, values + (values >= 0))
    return made


def _unmarked(values: Numbers) -> tuple[Numbers, NDArray[np.bool_]]:
    return values - (values > 0), values == 0


def _outer(outer: Numbers) -> Numbers:
    """Rows that carry others; in no circle. Raises WireError."""
    at = outer
    for _ in range(64):
        if not (at >= 0).any():
            return outer
        at = np.where(at >= 0, outer[np.maximum(at, 0)], -1)
    raise WireError("tunnels are nested without an end")
