"""What stands in front of a conversation and is none of it: the PROXY protocol, and the tunnel that HTTP's CONNECT opened.

A preface is told by its own bytes, on the first bytes of a direction, and taken off both heads; what is behind it is then examined as if
there had been no preface. What it says of addresses are facts of the connection: nobody vouches for them, and they make nobody its end.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.signatures import TCP
from auditor.model.streams import HEAD, HEAD_SEGMENTS
from auditor.wire import proxy

MAX_PREFACES = 4
"""So many behind each other are taken off: proxies may stand in a row."""

_MAX_HEADER_BYTES = 4_096
_STARTS = (proxy.V1_START, proxy.V2_START, b"CONNECT ")
_FIRST = np.array(sorted({start[0] for start in _STARTS}), np.uint8)
_CONNECT = re.compile(rb"CONNECT [^ \r\n]{1,1024} HTTP/1\.[01]\r?\n")
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d)[^\r\n]{0,1024}\r?\n")
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r?\n", re.IGNORECASE)
_END = re.compile(rb"\r?\n\r?\n")


@dataclass(slots=True)
class Preface:
    """What stands before one connection's conversation."""

    row: int
    client: int
    """The side that sent it."""
    sizes: list[int] = field(default_factory=lambda: [0, 0])
    """Bytes of side 0 and 1."""
    proxied: list[int] = field(default_factory=lambda: [0, 0])
    """Those of them that are headers of the PROXY protocol."""
    told: dict[str, Any] = field(default_factory=dict)
    """Kind to value: of several PROXY headers what the first says, who stands next to the auditor."""
    told_until: int = 0
    """So many bytes of the client say it."""
    tunnel: bool = False
    """CONNECT was answered with success."""


def _end(address: str, port: int) -> str | None:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return None
    return f"[{parsed}]:{port}" if parsed.version == 6 else f"{parsed}:{port}"


def _version_1(data: bytes) -> tuple[int, dict[str, Any]] | None:
    """Bytes and facts of a line such as ``PROXY TCP4 192.0.2.1 192.0.2.2 40000 443``; None: it is none."""
    end = data.find(b"\r\n", 0, proxy.V1_MAX_BYTES)
    if end < 0:
        return None
    words = data[:end].decode("ascii", "replace").split(" ")
    told: dict[str, Any] = {"proxy.version": 1}
    if words[1] == "UNKNOWN":
        return end + 2, told
    if words[1] not in ("TCP4", "TCP6") or len(words) != 6 or not all(each.isdecimal() for each in words[4:]):
        return None
    ports = [int(each) for each in words[4:]]
    ends = [_end(address, port) for address, port in zip(words[2:4], ports, strict=True)]
    if None in ends or max(ports) > 0xFFFF:
        return None
    return end + 2, {**told, "proxy.source": ends[0], "proxy.destination": ends[1]}


def _version_2(data: bytes) -> tuple[int, dict[str, Any]] | None:
    """The same of a binary header; its extensions (TLVs) are passed over."""
    if len(data) < proxy.V2_BYTES or data[proxy.V2_COMMAND] not in (proxy.V2_LOCAL, proxy.V2_PROXY):
        return None
    size = proxy.V2_BYTES + int.from_bytes(data[proxy.V2_LENGTH : proxy.V2_BYTES], "big")
    if len(data) < size:
        return None
    told: dict[str, Any] = {"proxy.version": 2}
    wide = proxy.V2_ADDRESS_BYTES.get(data[proxy.V2_FAMILY] >> 4)
    body = data[proxy.V2_BYTES : size]
    if data[proxy.V2_COMMAND] == proxy.V2_PROXY and wide is not None and len(body) >= 2 * wide + 4:
        for name, at in (("source", 0), ("destination", 1)):
            address = str(ipaddress.ip_address(body[at * wide : (at + 1) * wide]))
            port = int.from_bytes(body[2 * wide + 2 * at : 2 * wide + 2 * at + 2], "big")
            told[f"proxy.{name}"] = _end(address, port)
    return size, told


def _tunnel(client: bytes, server: bytes) -> tuple[int, int] | None:
    """Bytes of both sides up to where a tunnel begins (RFC 9110 section 9.3.6), refusals before it included; None: there is none."""
    at, answered = 0, 0
    for _ in range(MAX_PREFACES):
        asked = _CONNECT.match(client, at)
        said = _STATUS.match(server, answered)
        if asked is None or said is None:
            return None
        ends = (
            _END.search(client, asked.end() - 2, at + _MAX_HEADER_BYTES),
            _END.search(server, said.end() - 2, answered + _MAX_HEADER_BYTES),
        )
        if ends[0] is None or ends[1] is None:
            return None
        at, head = ends[0].end(), server[answered : ends[1].end()]
        answered = ends[1].end()
        if said[1].startswith(b"2"):
            return at, answered
        length = _LENGTH.search(head)  # a proxy that wants credentials first answers 407
        answered += int(length[1]) if length is not None else 0
    return None


def _read(row: int, side: int, client: bytes, server: bytes) -> Preface | None:
    """The prefaces of a connection, if ``side`` is the client."""
    found = Preface(row, side)
    at = 0
    for _ in range(MAX_PREFACES):
        read = None
        if client.startswith(proxy.V1_START, at):
            read = _version_1(client[at : at + proxy.V1_MAX_BYTES])
        elif client.startswith(proxy.V2_START, at):
            read = _version_2(client[at:])
        if read is None:
            break
        at += read[0]
        if not found.told:
            found.told, found.told_until = read[1], at
    found.sizes[side] = found.proxied[side] = at
    tunnel = _tunnel(client[at:], server)
    if tunnel is not None:
        found.tunnel = True
        found.sizes[side] += tunnel[0]
        found.sizes[1 - side] = tunnel[1]
    return found if found.told or found.tunnel else None


def find(
    arena: NDArray[np.uint8],
    heads: NDArray[Any],
    pairs: NDArray[np.int32],
    known: NDArray[np.int8],
    transport: NDArray[np.uint8],
) -> tuple[list[Preface], list[int]]:
    """The connections that begin with a preface, and those whose first bytes may become one (of use where heads are not settled).

    Arguments as for ``Examiner.examine``. Where it is known who opened a connection, only that side has a preface.
    """
    slots = np.maximum(pairs, 0)
    may = np.isin(arena[slots, 0], _FIRST) & (pairs >= 0) & (heads["filled_bytes"][slots] > 0)
    may &= (transport == TCP)[:, None]
    found: list[Preface] = []
    more: list[int] = []
    for row, side in np.argwhere(may).tolist():
        if known[row] == 1 - side:
            continue
        client = _bytes(arena, heads, int(pairs[row, side]))
        if not any(client.startswith(start) or start.startswith(client) for start in _STARTS):
            continue
        read = _read(row, side, client, _bytes(arena, heads, int(pairs[row, 1 - side])))
        if read is None:
            more.append(row)
        elif not found or found[-1].row != row:
            found.append(read)
    return found, more


def _bytes(arena: NDArray[np.uint8], heads: NDArray[Any], slot: int) -> bytes:
    return arena[slot, : heads["filled_bytes"][slot]].tobytes() if slot >= 0 else b""


def without(
    prefaces: Sequence[Preface], arena: NDArray[np.uint8], heads: NDArray[Any], pairs: NDArray[np.int32]
) -> tuple[NDArray[np.uint8], NDArray[Any], NDArray[np.int32]]:
    """The connections' heads behind their prefaces, as an arena, heads and pairs of their own."""
    room = np.zeros((2 * len(prefaces), arena.shape[1]), np.uint8)
    kept = np.zeros(2 * len(prefaces), HEAD)
    slots = np.full((len(prefaces), 2), -1, np.int32)
    for k, preface in enumerate(prefaces):
        for side, size in enumerate(preface.sizes):
            slot = int(pairs[preface.row, side])
            if slot < 0:
                continue
            filled = int(heads["filled_bytes"][slot]) - size
            slots[k, side] = 2 * k + side
            room[2 * k + side, :filled] = arena[slot, size : size + filled]
            kept[2 * k + side] = heads[slot]
            if size:
                _shift(kept[2 * k + side], size)
    return room, kept, slots


def _shift(head: Any, size: int) -> None:
    """Take the first ``size`` bytes off a head; what is behind a preface has a known beginning."""
    head["filled_bytes"] -= size
    head["stream_bytes"] = max(int(head["stream_bytes"]) - size, 0)
    head["midstream"] = 0
    head["trail_at"] -= size  # what follows the head was looked for behind prefaces, too
    count = int(head["n_segments"])
    order = np.argsort(head["segment_at"][:count], kind="stable")
    moved = np.maximum(head["segment_at"][:count][order] - size, 0)
    frames = head["segment_frame"][:count][order]
    stays = np.append(moved[1:] > 0, True)[:count]  # what lies before the last one at 0 is taken off
    at, frame = np.zeros(HEAD_SEGMENTS, np.int32), np.zeros(HEAD_SEGMENTS, np.int64)
    ack = np.zeros(HEAD_SEGMENTS, np.uint32)
    at[: stays.sum()], frame[: stays.sum()] = moved[stays], frames[stays]
    ack[: stays.sum()] = head["segment_ack"][:count][order][stays]
    head["segment_ack"], head["first_seq"] = ack, (int(head["first_seq"]) + size) & 0xFFFFFFFF
    head["segment_at"], head["segment_frame"], head["n_segments"] = at, frame, stays.sum()
