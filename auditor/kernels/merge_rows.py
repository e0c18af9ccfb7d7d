"""Connection records at the end: joining two parts of one connection, and its conn_state and history in Zeek's terms."""

from __future__ import annotations

from typing import Any

import numpy as np

from auditor.kernels.accelerate import inner, kernel, prefetch
from auditor.kernels.duplicates import blend
from auditor.kernels.flowkey import EMPTY, first_place, key_hash, place_hash, same_key
from auditor.kernels.streams import place, shift_head
from auditor.kernels.tcpstate import (
    ACK,
    MAX_WINDOW,
    SYN,
    TCP,
    _relative,
    add_hole,
    answers_fin,
    begins_anew,
    extend,
    goes_on_at,
    is_foreign,
    is_near,
    note_fin_ack,
    opener,
    said_to_reach,
)
from auditor.kernels.trail import go_on
from auditor.model.connections import (
    BASE_GUESSED,
    DISORDERED,
    FIN_ACKS,
    H_FIN,
    H_GAP,
    H_RETRANSMISSION,
    H_RST,
    HAS_BASE,
    HEAD_CUT,
    NEVER,
    NOWHERE,
    RETRANSMITTED,
    ROW_FIRST,
    ROW_RELEASED,
    SEEN_FIN,
    SEEN_RST,
    SEEN_SYN,
    SEEN_SYNACK,
    SNAPPED,
    STRAY_NS,
)

_BASE64 = np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", np.uint8)
"""RFC 4648 section 4."""

S0, S1, SF, REJ, S2, S3, RSTO, RSTR, RSTOS0, RSTRH, SH, SHR, OTH = range(13)
MIDSTREAM, ONE_WAY, GAP, SNAPLEN, LIMIT = 1, 2, 4, 8, 16
ESP, AH = 50, 51

NUMBERS = (
    *("first_ns", "last_ns", "orig_pkts", "resp_pkts", "orig_ip_bytes", "resp_ip_bytes", "payload_bytes"),
    *("outer", "orig_copies", "resp_copies", "first_frame"),
)
"""Columns of the table that ``tabulate`` writes as int64."""
ENDS = ("orig_h", "resp_h", "orig_p", "resp_p")
"""Those that it writes as int32."""
ANCHORED = 1 << 20
"""In a row's worth: a direction is there from its first byte on."""
TELLING_ISN = 1 << 16
"""Initial sequence numbers below this are taken for made up: by RFC 6528 they are random, and one in 65,536 is smaller by chance."""
_SOON = 8
SKEW_NS = 100_000_000
"""The same packet is seen at two vantage points within this time: clock difference and travel time together."""


@kernel
def match(rows, table, later, n_later, found, secret):
    """For each row of a later part that is the first of its key: the newest row of the earlier part with that key, or -1.

    table: as ``flowkey.rehash`` fills it.
    """
    for i in range(n_later):
        found[i] = -1
        b = later[i]
        if not b.state & ROW_FIRST:
            continue
        at = first_place(b, table, secret)
        while table[at] != EMPTY:
            if same_key(rows[table[at]], b):
                found[i] = table[at]
                break
            at = (at + 1) & (table.size - 1)


@kernel
def match_together(rows, table, later, n_later, tcp_ns, other_ns, found, secret):
    """For each row of a part from another place at the same time: the row of the same connection, or -1.

    Ports may have been reused, so all rows of a key are compared; of those that match, the nearest in time is taken. If none
    matches, ``-2 - k`` says that row k has the newest of the key's connections. table: as ``flowkey.index_all`` fills it.
    """
    for i in range(n_later):
        found[i] = -1
        b = later[i]
        nearest = np.int64(0)
        at = first_place(b, table, secret)
        while table[at] != EMPTY:
            a = rows[table[at]]
            if same_key(a, b):
                shared = min(a.last_ns, b.last_ns) - max(a.first_ns, b.first_ns)
                fits = goes_on(a, b, tcp_ns, other_ns) and -shared <= (tcp_ns if a.proto == TCP else other_ns)
                if same_opening(a, b):
                    found[i] = table[at]
                    break
                if fits and (found[i] < 0 or shared > nearest):
                    found[i] = table[at]
                    nearest = shared
                elif found[i] < 0 and a.superseded == 0:
                    found[i] = -2 - table[at]
            at = (at + 1) & (table.size - 1)


@inner
def same_opening(a, b):
    """Whether two TCP rows of one key share an initial sequence number (they are random) and none differs; clocks are not compared."""
    common = 0
    if a.proto == TCP:
        for which in range(2):
            x, y = a.side[which], b.side[which]
            if x.seen & y.seen & (SEEN_SYN | SEEN_SYNACK):
                if x.isn != y.isn:
                    return False
                common += 1 if np.int64(x.isn) >= TELLING_ISN else 0
    return common > 0


@inner
def goes_on(a, b, tcp_ns, other_ns):
    """Whether row ``b`` of a later part is the same connection as row ``a``, by the rules with which ``track`` starts a new one."""
    silent = b.first_ns - a.last_ns > (tcp_ns if a.proto == TCP else other_ns)
    if a.proto != TCP:
        return not silent
    silent = silent and not same_opening(a, b)
    if silent and b.first_ns - a.last_ns > STRAY_NS:
        # No connection is idle for so long: one of them has a wrong date, or they are two connections. Sequence numbers decide.
        near = 0
        for which in range(2):
            side = b.side[which]
            if side.seen & HAS_BASE and a.side[which].seen & HAS_BASE:
                if not is_near(a.side[which], (np.int64(side["base"]) + side.start) & 0xFFFFFFFF):
                    return False
                near += 1
        if near == 0:
            return False
    elif silent:
        known = 0
        for which in range(2):
            side = b.side[which]
            if side.seen & (SEEN_SYN | SEEN_SYNACK):
                return False
            if side.seen & HAS_BASE and not side.seen & BASE_GUESSED:
                known += 1
                if not goes_on_at(a, which, (np.int64(side["base"]) + side.start) & 0xFFFFFFFF):
                    return False
        if known == 0:
            return False
    for which in range(2):
        seen = b.side[which].seen
        if seen & (SEEN_SYN | SEEN_SYNACK):
            flags = SYN if seen & SEEN_SYN else SYN | ACK
            if begins_anew(a, which, flags, np.int64(b.side[which].isn), b.first_ns if b.first_ns > 0 else NEVER):
                return False
        elif seen & HAS_BASE and not seen & BASE_GUESSED:
            side = b.side[which]
            if is_foreign(a, which, (np.int64(side["base"]) + side.start) & 0xFFFFFFFF):
                return False
    return True


@inner
def _join_stream(a, b, together):
    """Merge the sequence space of one direction: ``b``'s covered bytes into ``a``'s. Returns how many of them ``a`` had already."""
    if not b.seen & HAS_BASE:
        return 0
    if b.seen & (SEEN_SYN | SEEN_SYNACK) and not a.seen & (SEEN_SYN | SEEN_SYNACK):
        a.isn = b.isn
    if not a.seen & HAS_BASE:
        a["base"], a.start, a.end, a.acked, a.lost_bytes = b["base"], b.start, b.end, b.acked, b.lost_bytes
        a.fin_at = b.fin_at
        a.n_holes = b.n_holes
        for k in range(b.n_holes):
            a.hole_from[k] = b.hole_from[k]
            a.hole_to[k] = b.hole_to[k]
        a.seen |= b.seen & (HAS_BASE | BASE_GUESSED)
        return 0
    a_base, b_base = np.int64(a["base"]), np.int64(b["base"])
    if a.seen & BASE_GUESSED and not b.seen & BASE_GUESSED:
        # Of the earlier part only acknowledgements of the other side are known.
        moved = _relative(a_base, b_base, b.start)
        acked = a.acked + moved
        a["base"], a.start, a.end, a.lost_bytes = b["base"], b.start, b.end, b.lost_bytes
        a.fin_at = b.fin_at
        a.n_holes = b.n_holes
        for k in range(b.n_holes):
            a.hole_from[k] = b.hole_from[k]
            a.hole_to[k] = b.hole_to[k]
        a.acked = b.acked
        if acked > a.acked and acked - a.end < MAX_WINDOW:
            a.acked = acked
        a.seen = np.int64(a.seen) & ~BASE_GUESSED
        return 0
    near = a.acked if b.seen & BASE_GUESSED and a.acked > NOWHERE else a.end
    moved = _relative(b_base, a_base, near)
    mine_from, mine_to = np.int64(a.start), np.int64(a.end)
    if b.seen & (SEEN_SYN | SEEN_SYNACK) and not a.seen & (SEEN_SYN | SEEN_SYNACK):
        start = moved + b.start  # the SYN may have come behind its data there
        if start < a.start:
            add_hole(a, start, a.start)
        a.start = start
    anchored = (a.seen & (SEEN_SYN | SEEN_SYNACK)) != 0
    again = np.int64(0)
    if not b.seen & BASE_GUESSED:
        # Covered stretches between the holes, from the lowest on.
        at = b.start
        while at < b.end:
            hole = -1
            for k in range(b.n_holes):
                if b.hole_from[k] >= at and (hole < 0 or b.hole_from[k] < b.hole_from[hole]):
                    hole = k
            stop = b.end if hole < 0 else b.hole_from[hole]
            if stop > at:
                again += extend(a, at + moved, stop + moved, anchored)
            if hole < 0:
                break
            at = b.hole_to[hole]
        if not anchored and b.start + moved < a.start:
            add_hole(a, b.start + moved, a.start)
            a.start = b.start + moved
        if not together:
            a.lost_bytes += b.lost_bytes
        elif b.start + moved <= mine_from and mine_to <= b.end + moved:
            # Where the other place saw all of it and more, no more is lost than is there.
            a.lost_bytes = min(a.lost_bytes, b.lost_bytes)
        elif not (mine_from <= b.start + moved and b.end + moved <= mine_to):
            a.lost_bytes = max(a.lost_bytes, b.lost_bytes)
        if b.fin_at > NOWHERE:
            a.fin_at = max(a.fin_at, b.fin_at + moved)
    reached = b.acked + moved
    if b.acked > NOWHERE and reached > a.acked and reached - a.end < MAX_WINDOW:
        a.acked = reached
    if a.seen & BASE_GUESSED and b.seen & BASE_GUESSED:
        a.start = min(a.start, b.start + moved)
    return again


@inner
def _covered(side):
    """Payload bytes seen in a direction; -1: unknown."""
    if not side.seen & HAS_BASE or side.seen & BASE_GUESSED:
        return -1
    total = side.end - side.start - side.lost_bytes
    for k in range(side.n_holes):
        total -= side.hole_to[k] - side.hole_from[k]
    return total


@inner
def _add_history(row, more):
    """Append the history letters that another row has and this one lacks."""
    for k in range(more.n_history):
        entry = more.history[k]
        side = row.side[entry & 1]
        bit = 1 << (entry >> 1)
        if not side.history_seen & bit:
            side.history_seen |= bit
            if row.n_history < row.history.size:
                row.history[row.n_history] = entry
                row.n_history += 1


@inner
def _saw_begin(one, other):
    """Whether one vantage point saw at least as much of a connection's start as another: the SYN, or as many packets where none has it."""
    mine = (one.side[0].seen | one.side[1].seen) & SEEN_SYN
    theirs = (other.side[0].seen | other.side[1].seen) & SEEN_SYN
    return mine or (not theirs and one.side[0].pkts + one.side[1].pkts >= other.side[0].pkts + other.side[1].pkts)


@inner
def join(a, b, together, twice, trust):
    """Add a later part of the same connection to its row; ``together``: both saw it at the same time, from two vantage points.

    twice: int64[2], bytes of each side that are in both parts because packets are. trust: whose times and order of packets count, 1: of ``a``, 2: of ``b``,
    0: both are as good.
    """
    earlier = b.first_ns < a.first_ns
    if together and trust == 1:
        earlier = earlier and not _saw_begin(a, b)
    elif together and trust == 2:
        earlier = earlier or _saw_begin(b, a)
    if earlier and together:
        a.first_frame = b.first_frame
    if earlier:
        a.first_side, a.icmp_type, a.icmp_code = b.first_side, b.icmp_type, b.icmp_code
    a.strays += b.strays
    if b.first_ns - a.last_ns <= STRAY_NS and a.first_ns - b.last_ns <= STRAY_NS:
        a.first_ns = b.first_ns if earlier else a.first_ns
        a.last_ns = max(a.last_ns, b.last_ns)
    elif b.side[0].pkts + b.side[1].pkts > a.side[0].pkts + a.side[1].pkts:
        a.first_ns, a.last_ns = b.first_ns, b.last_ns
    a.last_frame = b.last_frame
    a.captures |= b.captures
    a.odd |= b.odd
    if together and trust == 2:
        _add_history(b, a)
        a.n_history = b.n_history
        for k in range(b.n_history):
            a.history[k] = b.history[k]
        for which in range(2):
            a.side[which].history_seen = b.side[which].history_seen
    else:
        _add_history(a, b)
    for which in range(2):
        x, y = a.side[which], b.side[which]
        mine, theirs = _covered(x), _covered(y)
        if a.proto != TCP:
            mine, theirs = np.int64(x.pkts), np.int64(y.pkts)
        if together:
            x.pkts = max(x.pkts, y.pkts)
            x.ip_bytes = max(x.ip_bytes, y.ip_bytes)
            x.payload_bytes = max(x.payload_bytes, y.payload_bytes)
        else:
            x.pkts += y.pkts
            x.ip_bytes += y.ip_bytes
            x.payload_bytes += y.payload_bytes
        x.copies += y.copies
        if together and trust != 0:
            if x.fin_ns == NEVER or (trust == 2 and y.fin_ns != NEVER):
                x.fin_ns = y.fin_ns
            if x.rst_ns == NEVER or (trust == 2 and y.rst_ns != NEVER):
                x.rst_ns = y.rst_ns
        else:
            x.fin_ns = min(x.fin_ns, y.fin_ns)
            x.rst_ns = min(x.rst_ns, y.rst_ns)
        if y.seen & FIN_ACKS:
            note_fin_ack(x, np.int64(y.fin_ack))
        if x.head_sum == 0:
            x.head_sum = y.head_sum
        if x.payload_frame < 0:
            x.payload_frame = y.payload_frame
        if a.proto == TCP:
            again = _join_stream(x, y, together)
            if not together and again > twice[which]:
                x.seen |= RETRANSMITTED
        elif together:
            x.end = max(x.end, y.end)
        else:
            x.end += y.end
        kept = np.int64(y.seen)
        if not x.seen & BASE_GUESSED:
            kept &= ~BASE_GUESSED
        # A head that one vantage point cut short does not matter if the other has all of it.
        both = _covered(x) if a.proto == TCP else np.int64(x.pkts)
        if x.seen & SNAPPED and not kept & SNAPPED and theirs >= max(both, 0):
            x.seen = np.int64(x.seen) & ~SNAPPED
        elif kept & SNAPPED and not x.seen & SNAPPED and mine >= max(both, 0):
            kept &= ~SNAPPED
        if together and trust == 1:
            kept &= ~DISORDERED
        elif together and trust == 2:
            x.seen = np.int64(x.seen) & ~DISORDERED
        x.seen |= kept


@inner
def missed(side):
    """Payload bytes that are missing in the capture, by sequence numbers."""
    total = side.lost_bytes
    for k in range(side.n_holes):
        total += side.hole_to[k] - side.hole_from[k]
        # The sequence number of a FIN that arrived late is not a byte of payload.
        if side.hole_from[k] <= side.fin_at < side.hole_to[k]:
            total -= 1
    if side.seen & BASE_GUESSED:
        return total + max(said_to_reach(side) - side.start, 0)
    return total + max(said_to_reach(side) - side.end, 0)


@kernel
def missed_all(rows, n, out):
    """``missed`` of both sides of each row; 0 where there are no sequence numbers."""
    for i in range(n):
        out[i] = missed(rows[i].side[0]) + missed(rows[i].side[1]) if rows[i].proto == TCP else 0


@kernel
def worth_all(rows, n, out):
    """Rank of each row's evidence against that of another vantage point (``out``, int64[n, 3]), most important first.

    Directions whose first byte is there, and how many bytes in a row of both heads; how many bytes of the whole streams (of datagrams: their number); 0 where
    segments came out of order, else 1.
    """
    for i in range(n):
        row = rows[i]
        worth, covered, ordered = np.int64(row.head_bytes[0]) + np.int64(row.head_bytes[1]), np.int64(0), 1
        for which in range(2):
            side = row.side[which]
            if row.proto != TCP:
                # Bytes before numbers: a copy that was cut may count more datagrams, where they were doubled.
                worth += ANCHORED if row.head_bytes[which] > 0 else 0
                covered += side.pkts
                continue
            if row.head_bytes[which] > 0 and side.seen & (SEEN_SYN | SEEN_SYNACK):
                worth += ANCHORED
            covered += max(_covered(side), 0)
            if side.seen & DISORDERED:
                ordered = 0
        out[i, 0], out[i, 1], out[i, 2] = worth, covered, ordered


@kernel
def disorder(rows, n, out):
    """How many of the TCP rows with payload have segments out of order, and how many have payload (``out``, int64[2])."""
    for i in range(n):
        row = rows[i]
        if row.proto == TCP and row.side[0].payload_bytes + row.side[1].payload_bytes > 0:
            out[1] += 1
            out[0] += 1 if (row.side[0].seen | row.side[1].seen) & DISORDERED else 0


@kernel
def attempts(rows, n, out):
    """Hash of each TCP row's key and its originator's initial sequence number (uint64[n]); 0: not seen, or below ``TELLING_ISN``."""
    for i in range(n):
        row = rows[i]
        out[i] = 0
        if row.proto != TCP:
            continue
        for which in range(2):
            side = row.side[which]
            if side.seen & SEEN_SYN and np.int64(side.isn) >= TELLING_ISN:
                ports = np.uint64(row.a_port) << np.uint64(16) | np.uint64(row.b_port)
                told = np.uint64(side.isn) << np.uint64(1) | np.uint64(which)
                context = np.uint64(row.tunnel) << np.uint64(32) | np.uint64(row.tunnel_id)
                out[i] = blend(key_hash(row.a_hi, row.a_lo, row.b_hi, row.b_lo, ports, context), told) | np.uint64(1)
                break


@kernel
def join_all(rows, later, n_later, found, together, tcp_ns, other_ns, twice, trust, next_row, target):
    """Join the rows of a later part to the rows they continue; ``target[i]`` is the row of each in the whole. Returns how many were joined.

    Both parts were timed by the same clock. twice: int64[n_later, 2], payload of packets that are in both parts; trust: as ``join`` takes it.
    """
    joined = 0
    for i in range(n_later):
        b = later[i]
        if found[i] >= 0 and (together or goes_on(rows[found[i]], b, tcp_ns, other_ns)):
            a = rows[found[i]]
            apart = max(b.first_ns - a.last_ns, a.first_ns - b.last_ns)
            join(a, b, together and (apart <= SKEW_NS or same_opening(a, b)), twice[i], trust)
            a.superseded = a.superseded | b.superseded if together else b.superseded
            target[i] = found[i]
            joined += 1
            continue
        if found[i] >= 0:
            rows[found[i]].superseded = 1
        elif found[i] < -1 and b.superseded == 0:
            newest = rows[-2 - found[i]]
            if newest.first_ns <= b.first_ns:
                newest.superseded = 1
            else:
                b.superseded = 1
        target[i] = next_row
        next_row += 1
    return joined


@kernel
def lay(mine, data, theirs, more, offset, anchored):
    """Put the head of a later part (``theirs[0]``, bytes ``more``) at ``offset`` of a head (``mine[0]``, ``data``)."""
    head, later = mine[0], theirs[0]
    if offset < 0 and not anchored and -offset < data.size:
        shift_head(head, data, 0, data.size, -offset)
        offset = 0
    if head.n_segments == 0:
        head.first_seq = (np.int64(later.first_seq) - offset) & 0xFFFFFFFF
    for k in range(later.n_ranges + 1):
        start = 0 if k == 0 else later.range_from[k - 1]
        end = later.filled_bytes if k == 0 else later.range_to[k - 1]
        # By the segments it came in, so that each keeps its frame.
        for j in range(later.n_segments):
            at = later.segment_at[j]
            if not start <= at < end:
                continue
            stop = end
            for q in range(later.n_segments):
                if at < later.segment_at[q] < stop:
                    stop = later.segment_at[q]
            place(
                head,
                data,
                0,
                data.size,
                offset + at,
                more,
                at,
                stop - at,
                later.segment_frame[j],
                later.segment_ack[j],
            )
        if later.n_segments == later.segment_at.size:
            place(
                head,
                data,
                0,
                data.size,
                offset + start,
                more,
                start,
                end - start,
                later.segment_frame[later.n_segments - 1],
                later.segment_ack[later.n_segments - 1],
            )


@kernel
def go_on_behind(mine, data, theirs, more, offset, midstream):
    """Follow records behind a full head (``mine[0]``, ``data``) with the bytes ``more`` of the head of a later part, at ``offset`` of it."""
    go_on(mine[0], data, 0, data.size, midstream, theirs[0], more, offset)


@kernel
def shift(mine, data, by):
    """Make room for ``by`` bytes in front of a head (``mine[0]``, ``data``)."""
    shift_head(mine[0], data, 0, data.size, by)


def moved(a: Any, b: Any) -> int:
    """How far position 0 of side ``b`` of a later part lies behind position 0 of the joined side ``a``."""
    base = int(a["base"])
    near = int(a["end"])
    expected = (base + near) & 0xFFFFFFFF
    return near + (((int(b["base"]) - expected + 0x80000000) & 0xFFFFFFFF) - 0x80000000)


@kernel
def openers(rows, n, side, by):
    """Originating side by SYN (``by`` 0) or content (1); else the first sender (4)."""
    for i in range(n):
        row = rows[i]
        told = opener(row) if row.proto == TCP else -1
        if told >= 0:
            side[i], by[i] = told, 0
        elif row.client_side >= 0:
            side[i], by[i] = row.client_side, 1
        elif (row.proto == 1 and row.icmp_type in (0, 14, 18)) or (row.proto == 58 and row.icmp_type in (129, 136)):
            # A reply came first: the other end asked.
            side[i], by[i] = 1 - row.first_side, 1
        elif (row.proto == 1 and row.icmp_type in (8, 13, 17)) or (row.proto == 58 and row.icmp_type in (128, 135)):
            side[i], by[i] = row.first_side, 1
        else:
            side[i], by[i] = row.first_side, 4


@kernel
def distinct_addresses(rows, n, table, hi, lo, version, ends, count, secret):
    """Number the addresses of some rows; ``ends[i]`` are those of side 0 and 1; ``count`` are numbered already. Returns how many there are."""
    mask = table.size - 1
    for i in range(n):
        row = rows[i]
        for which in range(2):
            x_hi = row.a_hi if which == 0 else row.b_hi
            x_lo = row.a_lo if which == 0 else row.b_lo
            place = place_hash(x_hi, x_lo, np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0), secret)
            at = np.int64(place & np.uint64(mask))
            while table[at] >= 0 and (hi[table[at]] != x_hi or lo[table[at]] != x_lo):
                at = (at + 1) & mask
            if table[at] < 0:
                table[at] = count
                hi[count], lo[count], version[count] = x_hi, x_lo, row.ip_version
                count += 1
            ends[i, which] = table[at]
    return count


@inner
def _put(message, at, value, size):
    """Big-endian ``value`` in ``size`` bytes."""
    v = np.uint64(value)
    for k in range(size):
        message[at + k] = np.uint8((v >> np.uint64(8 * (size - 1 - k))) & np.uint64(0xFF))
    return at + size


@inner
def _icmp_answer(proto, kind):
    """The type that answers an ICMP type, or -1 (Community ID specification, ICMP section)."""
    pairs = ((8, 0), (13, 14), (15, 16), (10, 9), (17, 18))
    pairs6 = ((128, 129), (133, 134), (135, 136), (130, 131), (139, 140), (144, 145))
    if proto == 1:
        for x, y in pairs:
            if kind == x:
                return y
            if kind == y:
                return x
    else:
        for x, y in pairs6:
            if kind == x:
                return y
            if kind == y:
                return x
    return -1


@kernel
def community_messages(rows, n, messages, lengths):
    """What Community ID v1 hashes, with seed 0: both ends in order, protocol, ports (https://github.com/corelight/community-id-spec)."""
    for i in range(n):
        row = rows[i]
        message = messages[i]
        proto = np.int64(row.proto)
        first_port, second_port = np.int64(row.a_port), np.int64(row.b_port)
        swap: Any = False
        ports = proto in (TCP, 17, 132)
        if proto in (1, 58):
            ports = True
            answer = _icmp_answer(proto, row.icmp_type)
            mine, theirs = np.int64(row.icmp_type), np.int64(answer)
            if answer < 0:
                # One way: in the order of sending.
                theirs = np.int64(row.icmp_code)
                swap = row.first_side == 1
            if row.first_side == 0:
                first_port, second_port = mine, theirs
            else:
                first_port, second_port = theirs, mine
            if answer >= 0 and row.a_hi == row.b_hi and row.a_lo == row.b_lo:
                swap = second_port < first_port
        a_hi, a_lo, b_hi, b_lo = row.a_hi, row.a_lo, row.b_hi, row.b_lo
        if swap:
            a_hi, a_lo, b_hi, b_lo = row.b_hi, row.b_lo, row.a_hi, row.a_lo
            first_port, second_port = second_port, first_port
        at = _put(message, 0, 0, 2)
        if row.ip_version == 4:
            at = _put(message, at, a_lo & np.uint64(0xFFFFFFFF), 4)
            at = _put(message, at, b_lo & np.uint64(0xFFFFFFFF), 4)
        else:
            at = _put(message, at, a_hi, 8)
            at = _put(message, at, a_lo, 8)
            at = _put(message, at, b_hi, 8)
            at = _put(message, at, b_lo, 8)
        at = _put(message, at, proto, 1)
        at = _put(message, at, 0, 1)
        if ports:
            at = _put(message, at, first_port, 2)
            at = _put(message, at, second_port, 2)
        lengths[i] = at


@kernel
def id_messages(rows, n, orig_side, messages, lengths):
    """What identifies a connection: its tuple and initial sequence numbers, or else its first time stamp."""
    for i in range(n):
        row = rows[i]
        message = messages[i]
        turned = orig_side[i] == 1
        at = _put(message, 0, row.proto, 1)
        at = _put(message, at, row.tunnel, 1)
        at = _put(message, at, row.tunnel_id, 4)
        at = _put(message, at, row.b_hi if turned else row.a_hi, 8)
        at = _put(message, at, row.b_lo if turned else row.a_lo, 8)
        at = _put(message, at, row.a_hi if turned else row.b_hi, 8)
        at = _put(message, at, row.a_lo if turned else row.b_lo, 8)
        at = _put(message, at, row.b_port if turned else row.a_port, 2)
        at = _put(message, at, row.a_port if turned else row.b_port, 2)
        o, r = row.side[orig_side[i]], row.side[1 - orig_side[i]]
        opened = (o.seen & SEEN_SYN) != 0
        answered = (r.seen & SEEN_SYNACK) != 0
        at = _put(message, at, (2 if opened else 0) + (1 if answered else 0), 1)
        if opened or answered:
            at = _put(message, at, o.isn if opened else 0, 4)
            at = _put(message, at, r.isn if answered else 0, 4)
        else:
            at = _put(message, at, row.first_ns, 8)
        lengths[i] = at


@kernel
def community_text(digests, out):
    """``1:`` and the base64 of each digest, 30 characters."""
    for i in range(digests.shape[0]):
        out[i, 0], out[i, 1] = 49, 58
        for k in range(7):
            x = np.int64(digests[i, 3 * k]) << 16
            x |= np.int64(digests[i, 3 * k + 1]) << 8
            if 3 * k + 2 < 20:
                x |= np.int64(digests[i, 3 * k + 2])
            for j in range(4):
                out[i, 2 + 4 * k + j] = _BASE64[(x >> (18 - 6 * j)) & 63]
        out[i, 29] = 61


@kernel
def hex_text(digests, out):
    """The first ten bytes of each digest, 20 hexadecimal digits."""
    for i in range(digests.shape[0]):
        for k in range(20):
            four = (np.int64(digests[i, k // 2]) >> (4 if k % 2 == 0 else 0)) & 15
            out[i, k] = four + 48 if four < 10 else four + 87


@kernel
def finish_rows(rows, n, orig_side, guessed, conn_state, history, missed_bytes, incomplete, established, closed_by):
    """Fill conn_state, history, missed bytes and ``incomplete`` of each row, once its originator is known.

    orig_side: uint8[n]; guessed: bool[n], no SYN was seen; history: uint8[n, 32], zero filled; closed_by: 1 where the originator sent the first
    FIN or RST, 2 the responder; the rest: arrays of n.
    """
    for i in range(n):
        row = rows[i]
        o, r = row.side[orig_side[i]], row.side[1 - orig_side[i]]
        conn_state[i] = _tcp_state(o, r) if row.proto == TCP else _datagram_state(o, r)
        closed_by[i] = _closer(row, orig_side[i])
        lost = np.int64(0)
        bits = 0
        if row.proto == TCP:
            lost = missed(row.side[0]) + missed(row.side[1])
            if not (o.seen | r.seen) & (SEEN_SYN | SEEN_SYNACK):
                bits |= MIDSTREAM
            answered = o.pkts > 0 and r.pkts > 0
            evident = (o.seen & BASE_GUESSED and o.acked > o.start) or (r.seen & BASE_GUESSED and r.acked > r.start)
            talks = o.payload_bytes > 0 or r.payload_bytes > 0
            if not answered and (evident or talks or (o.seen & SEEN_SYNACK) or (r.seen & SEEN_SYNACK)):
                bits |= ONE_WAY
            if lost > 0:
                bits |= GAP
        if (o.seen | r.seen) & SNAPPED:
            bits |= SNAPLEN
        missed_bytes[i] = lost
        incomplete[i] = bits
        established[i] = _came_about(row.proto, o, r, conn_state[i])
        at = 0
        if guessed[i] and row.proto == TCP:
            history[i, at] = 94  # ^
            at += 1
        for k in range(row.n_history):
            history[i, at] = _letter(row.history[k] >> 1, (row.history[k] & 1) == orig_side[i])
            at += 1
        # Letters for the whole stream come last: a later part of the capture may add them.
        for which in range(2):
            side = o if which == 0 else r
            if side.seen & RETRANSMITTED:
                history[i, at] = _letter(H_RETRANSMISSION, which == 0)
                at += 1
            if row.proto == TCP and missed(side) > 0:
                history[i, at] = _letter(H_GAP, which == 0)
                at += 1


@kernel
def tabulate(
    rows,
    n,
    start,
    orig_side,
    names,
    ends,
    numbers,
    sides,
    captures,
    proto,
    tunnel,
    tunnel_id,
    application,
    incomplete,
    first_bytes,
):
    """Fill the other columns of the table for some records, from row ``start`` of the table on.

    orig_side: uint8[n]; names: int64[3], codes of the applications none, unknown and ipsec (-1: there is none such); ends: int32[n, 2], addresses of side 0 and 1.
    Out, of all rows: numbers: int64[len(NUMBERS), rows]; sides: int32[len(ENDS), rows], ports -1 where the transport has none; captures: uint64; proto, tunnel: uint8;
    tunnel_id: uint32; application: int16; incomplete: uint8, which gets LIMIT on top; first_bytes: bool.
    """
    for i in range(n):
        row, at, orig = rows[i], start + i, np.int64(orig_side[i])
        o, r = row.side[orig], row.side[1 - orig]
        said = o.payload_bytes + r.payload_bytes
        numbers[0, at], numbers[1, at] = row.first_ns, row.last_ns
        numbers[2, at], numbers[3, at] = o.pkts, r.pkts
        numbers[4, at], numbers[5, at] = o.ip_bytes, r.ip_bytes
        numbers[6, at] = said
        numbers[7, at] = row.outer
        numbers[8, at], numbers[9, at] = np.int64(o.copies), np.int64(r.copies)
        numbers[10, at] = row.first_frame
        captures[at] = row.captures
        sides[0, at], sides[1, at] = ends[i, orig], ends[i, 1 - orig]
        a, b = np.int64(row.a_port), np.int64(row.b_port)
        if row.proto not in (TCP, 17, 132, 136):
            a, b = np.int64(-1), np.int64(-1)
        sides[2, at], sides[3, at] = (a, b) if orig == 0 else (b, a)
        proto[at], tunnel[at], tunnel_id[at] = row.proto, row.tunnel, row.tunnel_id
        spoken = np.int64(row.application)
        if spoken < 0:
            spoken = names[0] if said == 0 else names[1]
        if row.proto in (ESP, AH) and names[2] >= 0:
            spoken = names[2]
        application[at] = spoken
        either = np.int64(o.seen) | np.int64(r.seen)
        if row.state & ROW_RELEASED and either & HEAD_CUT:
            incomplete[at] |= LIMIT
        # The rest of a head that was cut short may have been recognised.
        cut = either & SNAPPED != 0 and spoken == names[1]
        whole = either & (SEEN_SYN | SEEN_SYNACK) != 0 and not _begins_unseen(o) and not _begins_unseen(r)
        first_bytes[at] = (row.proto != TCP or whole) and not cut


@inner
def _begins_unseen(side):
    """Whether a direction has payload whose first byte was not seen, or that is only known from the other end's acknowledgements."""
    if side.payload_bytes == 0:
        return side.seen & HAS_BASE != 0 and side.acked > side.start + 1
    if not side.seen & (SEEN_SYN | SEEN_SYNACK):
        return True
    for k in range(side.n_holes):  # noqa: SIM110  # any() is slow in a kernel
        if side.hole_from[k] == side.start:
            return True
    return False


@kernel
def openings(rows, n, both):
    """Both initial sequence numbers of each TCP connection, the opener's in the upper half of ``both[i]`` (uint64[n]); 0: not both were seen, or one is below ``TELLING_ISN``."""
    for i in range(n):
        if i + _SOON < n:
            prefetch(rows, i + _SOON, 0)
        row = rows[i]
        both[i] = 0
        if row.proto != TCP:
            continue
        a, b = row.side[0], row.side[1]
        first, second = np.uint64(a.isn), np.uint64(b.isn)
        if not (a.seen & SEEN_SYN and b.seen & SEEN_SYNACK):
            if not (b.seen & SEEN_SYN and a.seen & SEEN_SYNACK):
                continue
            first, second = second, first
        if first >= np.uint64(TELLING_ISN) and second >= np.uint64(TELLING_ISN):
            both[i] = first << np.uint64(32) | second


@inner
def _letter(letter, by_originator):
    """ASCII of a history letter: capital for the originator. In the order of HISTORY_LETTERS: S H A D F R T G."""
    codes = (83, 72, 65, 68, 70, 82, 84, 71)
    return codes[letter] if by_originator else codes[letter] + 32


@inner
def _closer(row, orig):
    """Who closed first: 1 the originator, 2 the responder, 0 neither.

    A FIN that acknowledges the other's FIN is the second one; otherwise time stamps decide, then the order of frames.
    """
    o, r = row.side[orig], row.side[1 - orig]
    if answers_fin(o, r):
        return 2
    if answers_fin(r, o):
        return 1
    by_o, by_r = min(o.fin_ns, o.rst_ns), min(r.fin_ns, r.rst_ns)
    if by_o < by_r:
        return 1
    if by_r < by_o:
        return 2
    for k in range(row.n_history):
        if row.history[k] >> 1 in (H_FIN, H_RST):
            return 1 if row.history[k] & 1 == orig else 2
    return 0


@inner
def _tcp_state(o, r):
    """conn_state of a TCP connection (Zeek, base/protocols/conn/main.zeek: the meaning of each is in its documentation)."""
    # After both FINs the connection had ended; the RST answers a late segment.
    ended_first = o.seen & SEEN_FIN and r.seen & SEEN_FIN and max(o.fin_ns, r.fin_ns) <= min(o.rst_ns, r.rst_ns)
    o_open = (o.seen & (SEEN_SYN | SEEN_SYNACK)) != 0
    r_open = (r.seen & (SEEN_SYN | SEEN_SYNACK)) != 0
    if ended_first:
        return SF
    if r.seen & SEEN_RST and not (o.seen & SEEN_RST and o.rst_ns <= r.rst_ns):
        if o.seen & SEEN_SYN and not r_open:
            return REJ
        return RSTR if o_open else RSTRH
    if o.seen & SEEN_RST:
        return RSTO if r_open or (not o_open and r.pkts > 0) else RSTOS0
    if o.seen & SEEN_FIN and r.seen & SEEN_FIN:
        return SF
    if o.seen & SEEN_FIN:
        return S2 if r_open or (not o_open and r.pkts > 0) else SH
    if r.seen & SEEN_FIN:
        return S3 if o_open or (not r_open and o.pkts > 0) else SHR
    if o.seen & SEEN_SYN and r.pkts == 0:
        return S0
    if o_open and r_open:
        return S1
    return OTH


@inner
def _datagram_state(o, r):
    if o.pkts > 0:
        return SF if r.pkts > 0 else S0
    return SHR if r.pkts > 0 else OTH


@inner
def _came_about(proto, o, r, state):
    """Whether the connection was established: answered, or seen with payload."""
    if proto != TCP:
        return True
    if o.payload_bytes > 0 and r.payload_bytes > 0:
        return True
    if r.pkts == 0 and o.payload_bytes > 0 and missed(r) > 0:
        return True  # only one direction was captured: what the originator acknowledges, the responder has sent
    if o.seen & SEEN_SYN and not r.seen & SEEN_SYNACK and r.payload_bytes == 0:
        # Unanswered or refused, whatever the originator sent after; acknowledgements of more than the SYN tell of an unseen answer.
        # An acknowledgement in a RST does not count, so a refused SYN is none; a reset that follows one ended what had come about.
        return r.pkts > 0 and o.acked > o.start
    return state not in (REJ, S0, RSTOS0, SH) or (o.seen & HEAD_CUT) != 0
