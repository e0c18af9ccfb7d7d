"""IP fragments without reassembling datagrams.

The theory. Only the first fragment has the transport header; of it we remember what the later ones need: ports, TCP sequence number, and how
many bytes of the datagram came before its payload. A later fragment is then a packet of the same connection whose payload stands at a known
place: of the TCP stream, or of the datagram (``seq``, from 0). Whoever puts streams together does so for fragments as for segments, and
nothing is put together twice.

A TCP header may itself be spread over fragments, the least of which are eight bytes long. Until it is whole, the first fragment waits as the later ones do;
then it becomes a row without payload, and what the others hold behind the header is theirs. Where fragments disagree about a byte of the header, the
datagram is given up, as RFC 5722 section 4 and RFC 8200 section 4.5 want it.

A later fragment that arrives before its first one is stored and put out directly after it. A fragment whose first one never arrives is put out with
STOP_FRAGMENT: when its slot is needed, or at the end. All tables are bounded, and time is the packets' own, which may run backwards.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.accelerate import inner, kernel, scratch
from auditor.kernels.bytes import Bytes, int64
from auditor.model.packets import PACKET, STOP_FRAGMENT, STOP_NONE
from auditor.wire import ip, transport

FIRST_WAYS = 4
FIRST_SETS = 256
EARLY_SLOTS = 64
EARLY_BYTES = 2_048

HEADER_GOES_ON = -2
"""``header_bytes`` of a first fragment that ends inside a TCP header."""
_MAX_HEADER = 60

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
        ("header_bytes", np.int32),  # of the datagram before its payload; -1: unknown
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
        ("header_bytes", np.int32),  # first only: as in FIRST, or HEADER_GOES_ON
        ("key_proto", np.uint8),
        ("more", np.uint8),  # not the last
    ],
    align=True,
)


class Fragments(NamedTuple):
    """State between batches."""

    firsts: NDArray[np.void]
    """FIRST, sets of FIRST_WAYS."""
    early: NDArray[np.void]
    """EARLY, one a slot."""
    early_rows: NDArray[np.void]
    """PACKET, the row that the slot's fragment will become."""
    arena: Bytes
    """(EARLY_SLOTS, EARLY_BYTES)."""
    counters: NDArray[np.int64]
    """int64[2]: order of arrival so far; early fragments stored now."""


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
    """Fill in what only the first fragment has: ports, TCP numbers and where the payload stands."""
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
def _skip(row: Any, first: Any, offset: int) -> int:
    """How many bytes of a later fragment still belong to the TCP header, and not to the payload."""
    skip = min(max(int64(first["header_bytes"]) - offset, 0), int64(row["payload_bytes"]))
    row["payload_bytes"] = int64(row["payload_bytes"]) - skip
    row["payload_wire_bytes"] = int64(row["payload_wire_bytes"]) - skip
    return skip


@inner
def _has_ports(proto: int) -> bool:
    """Whether a later fragment needs its first one for ports; extension headers may hide the protocol."""
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
    """Remember what later fragments need of the first one, in place of the oldest of its set. Returns its index."""
    fragments.counters[0] += 1
    at = _set_of(row, ident, key_proto)
    best = _find_first(fragments, row, ident, key_proto)
    if best < 0:
        best = at
        for i in range(at + 1, at + FIRST_WAYS):  # BOUNDS: as in _find_first
            if fragments.firsts[i]["tick"] < fragments.firsts[best]["tick"]:
                best = i
    first = fragments.firsts[best]
    _set_key(first, row, ident, key_proto, fragments.counters[0])
    first["seq"] = row["seq"]
    first["ack"] = row["ack"]
    first["header_bytes"] = header_bytes
    first["src_port"] = row["src_port"]
    first["dst_port"] = row["dst_port"]
    first["window"] = row["window"]
    first["proto"] = row["proto"]
    first["flags"] = row["flags"]
    return best


@inner
def _store_early(fragments: Fragments, buf: Bytes, row: Any, piece: Any, out: NDArray[np.void], n: int) -> int:
    """Store an early fragment; if no slot is free, the oldest is put out at ``n``. Returns the number of rows put out (0 or 1)."""
    slot = 0
    for j in range(1, EARLY_SLOTS):
        if fragments.early[j]["tick"] < fragments.early[slot]["tick"]:
            slot = j
    fragment = fragments.early[slot]
    came = 0
    if fragment["tick"] == 0:
        fragments.counters[1] += 1
    else:
        out[n] = fragments.early_rows[slot]
        _give_up(out[n])
        came = 1
    fragments.counters[0] += 1
    _set_key(fragment, row, int64(piece["ident"]), int64(piece["key_proto"]), fragments.counters[0])
    fragment["offset"] = piece["offset"]
    fragment["more"] = piece["more"]
    fragments.early_rows[slot] = row
    late = fragments.early_rows[slot]
    at = int64(late["payload_at"])
    size = min(int64(late["payload_bytes"]), EARLY_BYTES)
    late["payload_bytes"] = size
    late["outer"] = -1  # it will come out in another array
    for j in range(size):  # BOUNDS: the row's payload is inside buf, size <= EARLY_BYTES
        fragments.arena[slot, j] = buf[at + j]
    return came


@inner
def _give_up(row: Any) -> None:
    row["payload_at"] = 0
    row["payload_bytes"] = 0
    row["stop"] = STOP_FRAGMENT


@inner
def _header(fragments: Fragments, row: Any, ident: int, key_proto: int, header: NDArray[np.int64]) -> int:
    """Assemble the TCP header of a datagram from its stored fragments, into ``header`` (int64[_MAX_HEADER]).

    Returns its size in bytes; 0: parts of it are still missing; -1: there is no header, or fragments disagree about it.
    """
    for k in range(_MAX_HEADER):
        header[k] = -1
    first = False
    for slot in range(EARLY_SLOTS):
        fragment = fragments.early[slot]
        if not _same(fragment, row, ident, key_proto):
            continue
        offset = int64(fragment["offset"])
        first = first or offset == 0
        for j in range(min(int64(fragments.early_rows[slot]["payload_bytes"]), _MAX_HEADER - offset)):
            # BOUNDS: offset + j < _MAX_HEADER, j < EARLY_BYTES
            byte = int64(fragments.arena[slot, j])
            if header[offset + j] >= 0 and header[offset + j] != byte:
                return -1
            header[offset + j] = byte
    if not first:
        return 0
    size = transport.TCP_MIN_BYTES
    if header[transport.TCP_DATA_OFFSET] >= 0:
        size = (header[transport.TCP_DATA_OFFSET] >> 4) * 4
        if size < transport.TCP_MIN_BYTES:
            return -1
    for k in range(size):
        if header[k] < 0:
            return 0
    return size


@inner
def _has_first(fragments: Fragments, row: Any, ident: int, key_proto: int) -> bool:
    """Whether the first fragment of a datagram is stored."""
    for slot in range(EARLY_SLOTS):
        fragment = fragments.early[slot]
        if fragment["offset"] == 0 and _same(fragment, row, ident, key_proto):
            return True
    return False


@inner
def _word(header: NDArray[np.int64], at: int, size: int) -> int:
    value = int64(0)
    for k in range(at, at + size):
        value = value << 8 | header[k]
    return value


@inner
def _emit(
    fragments: Fragments,
    buf: Bytes,
    reserve_at: int,
    row: Any,
    ident: int,
    key_proto: int,
    header: NDArray[np.int64],
    size: int,
    out: NDArray[np.void],
    n: int,
) -> tuple[int, int]:
    """Put out the stored fragments of a datagram whose header is complete (``size`` bytes) or given up (-1), the first one first.

    Returns the number of rows in ``out``, and the offset in ``buf`` from which on it is free.
    """
    at_first, last_inside = -1, False
    carried = int64(0)
    for slot in range(EARLY_SLOTS):
        fragment = fragments.early[slot]
        if not _same(fragment, row, ident, key_proto):
            continue
        if fragment["offset"] == 0 and at_first < 0:
            at_first = slot
        elif int64(fragment["offset"]) + int64(fragments.early_rows[slot]["payload_bytes"]) <= size:
            carried += int64(fragments.early_rows[slot]["ip_bytes"])
            last_inside = last_inside or fragment["more"] == 0
    # BOUNDS: only called with a first fragment among those that wait, at_first >= 0
    start = out[n]
    out[n] = fragments.early_rows[at_first]
    fragments.early[at_first]["tick"] = 0
    fragments.counters[1] -= 1
    n += 1
    _give_up(start)
    start["payload_wire_bytes"] = 0
    flags = int64(0)
    if size > 0:
        start["stop"] = STOP_NONE
        start["src_port"] = _word(header, transport.SRC_PORT, 2)
        start["dst_port"] = _word(header, transport.DST_PORT, 2)
        start["seq"] = _word(header, transport.TCP_SEQ, 4)
        start["ack"] = _word(header, transport.TCP_ACK, 4)
        start["window"] = _word(header, transport.TCP_WINDOW, 2)
        start["ip_bytes"] = int64(start["ip_bytes"]) + carried
        flags = header[transport.TCP_FLAGS]
        start["flags"] = flags
    place = _remember(fragments, start, ident, key_proto, size)
    if size > 0 and not last_inside:
        start["flags"] = flags & ~transport.TCP_FIN
    for slot in range(EARLY_SLOTS):
        fragment = fragments.early[slot]
        if int64(fragment["offset"]) + int64(fragments.early_rows[slot]["payload_bytes"]) > size or not _same(
            fragment, row, ident, key_proto
        ):
            continue
        # All of it is header: it counts as a frame, not as a packet.
        out[n] = fragments.early_rows[slot]
        out[n]["src_port"] = start["src_port"]
        out[n]["dst_port"] = start["dst_port"]
        out[n]["ip_version"] = 0
        out[n]["payload_bytes"] = 0
        out[n]["payload_wire_bytes"] = 0
        fragment["tick"] = 0
        fragments.counters[1] -= 1
        n += 1
    if fragments.counters[1] == 0:
        return n, reserve_at
    return _emit_waiting(fragments, buf, reserve_at, start, ident, key_proto, place, out, n)


@inner
def _emit_waiting(
    fragments: Fragments,
    buf: Bytes,
    reserve_at: int,
    row: Any,
    ident: int,
    key_proto: int,
    place: int,
    out: NDArray[np.void],
    n: int,
) -> tuple[int, int]:
    """Put out the stored fragments whose first one is remembered at ``place``. Returns the same as ``_emit``."""
    first = fragments.firsts[place]
    for slot in range(EARLY_SLOTS):
        fragment = fragments.early[slot]
        if not _same(fragment, row, ident, key_proto):
            continue
        out[n] = fragments.early_rows[slot]
        late = out[n]
        n += 1
        offset = int64(fragment["offset"])
        skip = _skip(late, first, offset)
        _complete(late, first, offset + skip, int64(fragment["more"]))
        size = int64(late["payload_bytes"])
        late["payload_at"] = 0
        if reserve_at + size <= buf.size:  # BOUNDS: skip + size <= EARLY_BYTES
            for j in range(size):
                buf[reserve_at + j] = fragments.arena[slot, skip + j]
            late["payload_at"] = reserve_at
            reserve_at += size
        else:
            late["payload_bytes"] = 0
        fragment["tick"] = 0
        fragments.counters[1] -= 1
    return n, reserve_at


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
    """Copy ``rows`` to ``out``, fragments are completed, early ones stored or put out. Returns the number of rows in ``out``.

    ``out`` has EARLY_SLOTS rows more than ``rows``: no more can be stored. ``moved`` is scratch, as long as ``rows``. Bytes of early fragments are put
    into ``buf`` from ``reserve_at`` on; when it is full such a row has no payload.
    """
    header = scratch(_MAX_HEADER)
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
        if offset or piece["header_bytes"] == HEADER_GOES_ON:
            known = _find_first(fragments, row, ident, key_proto) if offset else -1
            if known >= 0:
                # A repeated piece of the header has no payload.
                skip = _skip(row, fragments.firsts[known], offset)
                row["payload_at"] = int64(row["payload_at"]) + skip
                _complete(row, fragments.firsts[known], offset + skip, more)
                continue
            n -= 1
            n += _store_early(fragments, buf, rows[i], piece, out, n)
            if key_proto == ip.PROTO_TCP and offset < _MAX_HEADER:
                size = _header(fragments, rows[i], ident, key_proto, header)
                if size != 0 and _has_first(fragments, rows[i], ident, key_proto):
                    n, reserve_at = _emit(fragments, buf, reserve_at, rows[i], ident, key_proto, header, size, out, n)
            continue
        place = _remember(fragments, row, ident, key_proto, int64(piece["header_bytes"]))
        if row["proto"] == ip.PROTO_TCP:
            row["flags"] = int64(row["flags"]) & ~transport.TCP_FIN
        if fragments.counters[1] == 0:
            continue
        n, reserve_at = _emit_waiting(fragments, buf, reserve_at, row, ident, key_proto, place, out, n)
    return n


@kernel
def release_all(fragments: Fragments, rows: NDArray[np.void]) -> int:
    """Put out the fragments whose first one never arrived, oldest first, into ``rows`` (EARLY_SLOTS of them), and empty the tables. Returns their number."""
    n_rows = 0
    while fragments.counters[1] > 0:
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
        fragments.counters[1] -= 1
    for i in range(fragments.firsts.size):
        fragments.firsts[i]["tick"] = 0
    return n_rows
