"""IP fragments without reassembling datagrams.

The theory. Only the first fragment has the transport header; of it we remember what the later ones need: ports, TCP sequence number, and how
many bytes of the datagram came before its payload. A later fragment is then a packet of the same connection whose payload stands at a known
place: of the TCP stream, or of the datagram (``seq``, from 0). Whoever puts streams together does so for fragments as for segments, and
nothing is put together twice.

A later fragment that comes before its first is copied aside and let out right behind it. What never sees its first is let out with
STOP_FRAGMENT: when its place is needed, or at the end. All tables are bounded, and time is the packets' own, which may run backwards.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.accelerate import inner, kernel
from auditor.kernels.bytes import Bytes, int64
from auditor.model.packets import PACKET, STOP_FRAGMENT
from auditor.wire import ip, transport

FIRST_WAYS = 4
FIRST_SETS = 256
EARLY_SLOTS = 64
EARLY_BYTES = 2_048

_KEY = [
    ("src_hi", np.uint64),
    ("src_lo", np.uint64),
    ("dst_hi", np.uint64),
    ("dst_lo", np.uint64),
    ("ts_ns", np.int64),
    ("tick", np.int64),  # order of arrival, from 1; 0: free
    ("ident", np.uint32),
    ("tunnel_id", np.uint32),
    ("key_proto", np.uint8),  # as the IP or fragment header has it, before any extension header
    ("tunnel", np.uint8),
]

FIRST = np.dtype(
    [
        *_KEY,
        ("seq", np.uint32),
        ("ack", np.uint32),
        ("header_bytes", np.int32),  # of the datagram before its payload; -1: the first fragment ended before that
        ("src_port", np.uint16),
        ("dst_port", np.uint16),
        ("window", np.uint16),
        ("proto", np.uint8),
        ("flags", np.uint8),  # TCP flags of the whole segment
    ],
    align=True,
)

EARLY = np.dtype([*_KEY, ("offset", np.int32), ("more", np.uint8)], align=True)


PIECE = np.dtype(
    [
        ("row", np.int32),  # which row is an IP fragment
        ("ident", np.uint32),
        ("offset", np.int32),  # of its data in the datagram, in bytes; 0: the first
        ("header_bytes", np.int32),  # first only: as in FIRST
        ("key_proto", np.uint8),
        ("more", np.uint8),  # not the last
    ],
    align=True,
)


class Fragments(NamedTuple):
    """What is carried from batch to batch."""

    firsts: NDArray[np.void]
    """FIRST, sets of FIRST_WAYS."""
    early: NDArray[np.void]
    """EARLY, one a slot."""
    early_rows: NDArray[np.void]
    """PACKET, the row that the slot's fragment will become."""
    arena: Bytes
    """(EARLY_SLOTS, EARLY_BYTES)."""
    tally: NDArray[np.int64]
    """Ticks so far; slots in use."""


def new_fragments() -> Fragments:
    """Nothing seen yet."""
    return Fragments(
        np.zeros(FIRST_SETS * FIRST_WAYS, FIRST),
        np.zeros(EARLY_SLOTS, EARLY),
        np.zeros(EARLY_SLOTS, PACKET),
        np.zeros((EARLY_SLOTS, EARLY_BYTES), np.uint8),
        np.zeros(2, np.int64),
    )


@inner
def _same(entry: Any, row: Any, ident: int, key_proto: int) -> bool:
    """Whether ``entry`` is of the datagram that ``row`` is a piece of; RFC 791 section 3.2, RFC 8200 section 4.5."""
    return bool(
        entry["tick"] != 0
        and entry["ident"] == ident
        and entry["src_lo"] == row["src_lo"]
        and entry["dst_lo"] == row["dst_lo"]
        and entry["src_hi"] == row["src_hi"]
        and entry["dst_hi"] == row["dst_hi"]
        and entry["key_proto"] == key_proto
        and entry["tunnel_id"] == row["tunnel_id"]
        and entry["tunnel"] == row["tunnel"]
        and abs(entry["ts_ns"] - row["ts_ns"]) <= ip.FRAGMENT_TIMEOUT_NS
    )


@inner
def _set_key(entry: Any, row: Any, ident: int, key_proto: int, tick: int) -> None:
    entry["src_hi"] = row["src_hi"]
    entry["src_lo"] = row["src_lo"]
    entry["dst_hi"] = row["dst_hi"]
    entry["dst_lo"] = row["dst_lo"]
    entry["ts_ns"] = row["ts_ns"]
    entry["tick"] = tick
    entry["ident"] = ident
    entry["tunnel_id"] = row["tunnel_id"]
    entry["key_proto"] = key_proto
    entry["tunnel"] = row["tunnel"]


@inner
def _set_of(row: Any, ident: int, key_proto: int) -> int:
    """Index of the first entry of the set that this datagram belongs to."""
    mixed = int64(row["src_lo"] & np.uint64(0xFFFF_FFFF)) * 31 + int64(row["dst_lo"] & np.uint64(0xFFFF_FFFF))
    mixed = (mixed * 31 + ident * 7 + key_proto) & 0x7FFF_FFFF
    mixed = (mixed * 0x9E37_79B1) & 0xFFFF_FFFF
    return (mixed >> 16) % FIRST_SETS * FIRST_WAYS


@inner
def _find_first(fragments: Fragments, row: Any, ident: int, key_proto: int) -> int:
    """Index of the remembered first fragment, or -1."""
    at = _set_of(row, ident, key_proto)
    for i in range(at, at + FIRST_WAYS):  # BOUNDS: at <= (FIRST_SETS - 1) * FIRST_WAYS
        if _same(fragments.firsts[i], row, ident, key_proto):
            return i
    return -1


@inner
def _complete(row: Any, first: Any, offset: int, more: int) -> None:
    """A later fragment takes from its first what only that one had."""
    row["src_port"] = first["src_port"]
    row["dst_port"] = first["dst_port"]
    row["proto"] = first["proto"]
    if first["header_bytes"] < 0:
        row["payload_bytes"] = 0
        row["payload_wire_bytes"] = 0
        row["stop"] = STOP_FRAGMENT
        return
    at = offset - int64(first["header_bytes"])
    if first["proto"] == ip.PROTO_TCP:
        flags = int64(first["flags"])
        at += int64(first["seq"])
        if flags & transport.TCP_SYN:
            at += 1  # the SYN takes a number: RFC 9293 section 3.4
        row["ack"] = first["ack"]
        row["window"] = first["window"]
        # The FIN belongs behind the segment's last byte.
        row["flags"] = flags & (transport.TCP_FLAG_ACK if more else transport.TCP_FLAG_ACK | transport.TCP_FIN)
    row["seq"] = at & 0xFFFF_FFFF


@inner
def _has_ports(proto: int) -> bool:
    """Whether a later fragment needs its first to say whose it is; extension headers may hide one that does."""
    return proto in (
        ip.PROTO_TCP,
        ip.PROTO_UDP,
        ip.PROTO_ICMP,
        ip.PROTO_ICMPV6,
        ip.PROTO_SCTP,
        ip.PROTO_UDPLITE,
        ip.PROTO_DCCP,
        ip.PROTO_DSTOPTS,
        ip.PROTO_AH,
    )


@inner
def _remember(fragments: Fragments, row: Any, ident: int, key_proto: int, header_bytes: int) -> int:
    """Keep what later fragments will need of the first; gives its place. The oldest of its set gives way."""
    fragments.tally[0] += 1
    at = _set_of(row, ident, key_proto)
    best = _find_first(fragments, row, ident, key_proto)
    if best < 0:
        best = at
        for i in range(at + 1, at + FIRST_WAYS):  # BOUNDS: as in _find_first
            if fragments.firsts[i]["tick"] < fragments.firsts[best]["tick"]:
                best = i
    first = fragments.firsts[best]
    _set_key(first, row, ident, key_proto, fragments.tally[0])
    first["seq"] = row["seq"]
    first["ack"] = row["ack"]
    first["header_bytes"] = header_bytes
    first["src_port"] = row["src_port"]
    first["dst_port"] = row["dst_port"]
    first["window"] = row["window"]
    first["proto"] = row["proto"]
    first["flags"] = row["flags"]
    return best


@kernel
def settle(
    fragments: Fragments,
    buf: Bytes,
    reserve_at: int,
    rows: NDArray[np.void],
    n_rows: int,
    pieces: NDArray[np.void],
    n_pieces: int,
    moved: NDArray[np.int32],
    out: NDArray[np.void],
) -> int:
    """Copy ``rows`` to ``out``, fragments completed, early ones held back or let out. Gives the number of rows in ``out``.

    ``out`` has EARLY_SLOTS rows more than ``rows``: no more can have waited. ``moved`` is scratch, as long as ``rows``. Bytes of early fragments are put
    into ``buf`` from ``reserve_at`` on; when it is full such a row has no payload.
    """
    n = 0
    k = 0
    for i in range(n_rows):
        out[n] = rows[i]
        row = out[n]
        moved[i] = n
        n += 1
        if row["outer"] >= 0:
            row["outer"] = moved[row["outer"]]  # BOUNDS: an outer row stands before its inner ones, and stays
        if k == n_pieces or pieces[k]["row"] != i:
            continue
        piece = pieces[k]
        k += 1
        ident, key_proto = int64(piece["ident"]), int64(piece["key_proto"])
        offset, more = int64(piece["offset"]), int64(piece["more"])
        if not _has_ports(key_proto):
            continue
        if offset:
            known = _find_first(fragments, row, ident, key_proto)
            if known >= 0:
                _complete(row, fragments.firsts[known], offset, more)
                continue
            n -= 1
            slot = 0
            for j in range(1, EARLY_SLOTS):
                if fragments.early[j]["tick"] < fragments.early[slot]["tick"]:
                    slot = j
            held = fragments.early[slot]
            if held["tick"] == 0:
                fragments.tally[1] += 1
            else:  # the oldest gives way, and comes out where the newcomer stood
                out[n] = fragments.early_rows[slot]
                out[n]["payload_at"] = 0
                out[n]["payload_bytes"] = 0
                out[n]["stop"] = STOP_FRAGMENT
                n += 1
            fragments.tally[0] += 1
            _set_key(held, rows[i], ident, key_proto, fragments.tally[0])
            held["offset"] = offset
            held["more"] = more
            fragments.early_rows[slot] = rows[i]
            late = fragments.early_rows[slot]
            at = int64(late["payload_at"])
            size = min(int64(late["payload_bytes"]), EARLY_BYTES)
            late["payload_bytes"] = size
            late["outer"] = -1  # it will come out in another array
            for j in range(size):  # BOUNDS: the row's payload is inside buf, size <= EARLY_BYTES
                fragments.arena[slot, j] = buf[at + j]
            continue
        first = fragments.firsts[_remember(fragments, row, ident, key_proto, int64(piece["header_bytes"]))]
        if row["proto"] == ip.PROTO_TCP:
            row["flags"] = int64(row["flags"]) & ~transport.TCP_FIN
        if fragments.tally[1] == 0:
            continue
        for slot in range(EARLY_SLOTS):
            held = fragments.early[slot]
            if not _same(held, row, ident, key_proto):
                continue
            out[n] = fragments.early_rows[slot]
            late = out[n]
            n += 1
            _complete(late, first, int64(held["offset"]), int64(held["more"]))
            size = int64(late["payload_bytes"])
            late["payload_at"] = 0
            if reserve_at + size <= buf.size:  # BOUNDS: size <= EARLY_BYTES
                for j in range(size):
                    buf[reserve_at + j] = fragments.arena[slot, j]
                late["payload_at"] = reserve_at
                reserve_at += size
            else:
                late["payload_bytes"] = 0
            held["tick"] = 0
            fragments.tally[1] -= 1
    return n


@kernel
def release_all(fragments: Fragments, rows: NDArray[np.void]) -> int:
    """Let out what never saw its first, oldest first, into ``rows`` (EARLY_SLOTS of them), and forget everything. Gives their number."""
    n_rows = 0
    while fragments.tally[1] > 0:
        oldest = -1
        for i in range(EARLY_SLOTS):
            tick = fragments.early[i]["tick"]
            if tick != 0 and (oldest < 0 or tick < fragments.early[oldest]["tick"]):
                oldest = i
        rows[n_rows] = fragments.early_rows[oldest]
        rows[n_rows]["payload_at"] = 0
        rows[n_rows]["payload_bytes"] = 0
        rows[n_rows]["stop"] = STOP_FRAGMENT
        n_rows += 1
        fragments.early[oldest]["tick"] = 0
        fragments.tally[1] -= 1
    for i in range(fragments.firsts.size):
        fragments.firsts[i]["tick"] = 0
    return n_rows
