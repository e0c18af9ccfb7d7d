"""Packets to connections: one pass, one record for each connection, no Python objects.

The rules that hold here:
- A packet belongs to the newest connection of its key (addresses, ports, protocol, tunnel) unless it starts a new one: the key is new;
  the connection was silent for longer than the time-out of its protocol, by the packets' own clock, and TCP's numbers do not go on where
  they stopped; or a SYN comes with a sequence number that the connection cannot explain. RFC 9293 section 3.4 makes initial
  sequence numbers of reused ports differ.
- A packet that is a copy of another (``duplicates``) is counted separately; it changes only where the packet was seen, first and last.
- Packets come in any order. What came first is decided by their time stamps, where they have some.
- Time stamps alone prove nothing. A packet whose sequence or acknowledgement number fits a connection belongs to it, however far away its time stamp is (``STRAY_NS``);
  the majority of packets decides when the connection began and ended, and the others are counted.
- The originator is not decided here: side 0 is the lower endpoint, and what each side did is recorded.
- All records can be joined with those of another part of the capture (``auditor.conntrack.merge``): counts add up, sets unite,
  sequence space is a set of intervals.
- Segments that no receiver accepts are no evidence (RFC 9293, RFC 5961): they are counted, noted once for each kind and connection (ODD_), and change nothing else. Segments with a wrong
  checksum are distinguished from those whose checksum the network card would have filled in: by the value that such cards leave, and by the first segments of the direction.
- Where two segments have different content for bytes that are not acknowledged yet, both readings are kept: the head, and a second one in which the last segment wins.
- Heads are handed on when they are complete: both are full (and TLS records behind them were followed to the end of the handshake), or the connection closed a moment
  ago. A direction that has not sent anything yet keeps its room, however much the other one sends, until the room is needed.

``track`` stops and says why when it needs room; the caller makes room and calls again.
"""

from __future__ import annotations

import numpy as np

from auditor.kernels.accelerate import inner, kernel, move_bytes, prefetch
from auditor.kernels.bytes import be16, be64, int64, le64
from auditor.kernels.duplicates import LEAST_TELLING_ID, PRINTS, SETS, WAYS, blend, matches, moment, sample
from auditor.kernels.flowkey import EMPTY, key_hash, lower_is_source, place_hash
from auditor.kernels.streams import brought, clear_head, differs, overlay, place, shift_head, take_out
from auditor.kernels.trail import STASH_BYTES, STASH_NOTES, STASHES, end_trail, follow
from auditor.model.connections import (
    AFTER_RST,
    BASE_GUESSED,
    DISORDERED,
    FIN_ACKS,
    H_ACK,
    H_DATA,
    H_FIN,
    H_RST,
    H_SYN,
    H_SYNACK,
    HAS_BASE,
    HEAD_CUT,
    NEVER,
    NOWHERE,
    ODD_ACK,
    ODD_CHECKSUM,
    ODD_CONFLICT,
    ODD_FIN,
    ODD_LATE,
    ODD_NO_ACK,
    ODD_RESET,
    ODD_SENDER,
    ODD_SYN_DATA,
    ODD_TTL,
    ODD_UNREAD,
    ODD_URGENT,
    RETRANSMITTED,
    ROW_ANSWERED,
    ROW_BEYOND,
    ROW_FIRST,
    ROW_FOLLOWED,
    ROW_HANDSHAKE,
    ROW_LINGERS,
    ROW_QUEUED,
    ROW_SETTLED,
    SEEN_ACK,
    SEEN_FIN,
    SEEN_RST,
    SEEN_SYN,
    SEEN_SYNACK,
    SIDE_AT,
    SLOT_GONE,
    SLOT_NONE,
    SNAPPED,
    STRAY_NS,
    SUMMED,
)
from auditor.model.packets import STOP_FRAGMENT, STOP_NONE, STOP_TRUNCATED
from auditor.model.streams import HEAD_BYTES, HEAD_SEGMENTS, TRAIL_NONE, TRAIL_RUNS
from auditor.wire import transport

# Why `track` came back.
DONE = 0
NEED_ROWS = 1
NEED_TABLE = 2
NEED_SLOTS = 3
NEED_QUEUE = 4
MISFIT = 5  # arrays that do not go together: a mistake of the caller

# Places of the state vector (int64).
S_ROWS = 0  # rows in use
S_KEYS = 1  # keys in the hash table
S_FREE = 2  # slots on the free stack
S_QUEUE = 3  # rows in the settled queue
S_LINGER_HEAD = 4  # ring of closed rows: first
S_LINGER_SIZE = 5
S_CLOCK_NS = 6  # largest time stamp seen
S_AGAIN = 7  # 1: the next packet is remembered already, because room ran out while it was looked at
S_SKIPPED = 8  # packets of no connection (not IP, headers cut off)
S_CURSOR = 9  # where settle_all goes on
S_SAMPLES = 10  # packets whose times are kept
S_SAMPLE_MASK = 11  # ... and which prints choose them
S_EARLY = 12  # first packets kept for `merge`
S_REFUSED = 13  # packets of connections that were not taken up: L_ROWS are held
S_AHEAD = 14  # time of the latest packet, where it was too far from the clock for it to follow; 0: it was not
S_ODDS = 15  # contradictions noted
S_SIZE = 16

# Places of the limits vector (int64).
L_TCP_NS = 0  # silence that ends a TCP connection
L_OTHER_NS = 1  # ... any other
L_LINGER_NS = 2  # so long a closed connection waits for late packets before its heads are handed on
L_BEYOND_BYTES = 3  # behind so much of its stream, and a window, a head no longer waits for what it lacks
L_ROWS = 4  # so many connections are held; packets of others are counted and left
L_NEAR_TICKS = (
    5  # a packet that nothing tells from a retransmission is the same one within this time (duplicates.TICK_BITS)
)
L_FAR_TICKS = 6  # ... one that something tells
L_SIZE = 7

FIN, SYN, RST, ACK = 1, 2, 4, 16
TCP, UDP, ICMP, ICMP6 = 6, 17, 1, 58
_LAST_NS = (1 << 63) - 1
FIRST_WINDOW = 1 << 16  # a SYN that comes late, behind packets that it opened, is not further behind than this
LATE_WINDOW = 1 << 24  # late packets of a closed connection are not further back than this
MAX_WINDOW = 1 << 30  # RFC 7323 section 2.3: no acknowledgement is further ahead
SOON = 16  # packets
LINES = (0, 64, SIDE_AT[0], SIDE_AT[1], SIDE_AT[0] + 64, SIDE_AT[1] + 64)  # of a record that a packet touches, in bytes
COPIED = (
    0,
    64,
    128,
    192,
    256,
    320,
    384,
    448,
    512,
    576,
    640,
    704,
)  # of a payload; of a longer one the processor asks for the rest itself
SPARSE = 3  # places of the hash table for each key: few searches look at a second place
LATE_NS = 100_000_000  # packets are out of order by less
PRINT_BYTES = 96  # of a payload without TCP's numbers: so far reach the numbers of a segment inside VXLAN
MARK_FACTOR = np.uint64(0x9E3779B97F4A7C15)
OUTSIDE = 1 << 23  # no window is so wide that a RST or FIN so far ahead is in it (Linux: 6 MiB at the most)
FEW_HOPS = (
    4  # a packet with no more than these left may end before the receiver, where others of its sender have HOPS more
)
HOPS = 8
SUM_UNKNOWN, SUM_RIGHT, SUM_LEFT, SUM_WRONG = range(4)


@inner
def _relative(seq, base, near):
    """Stream position of a sequence number: the one nearest to position ``near`` (RFC 9293 section 3.4, modulo 2**32)."""
    expected = (base + near) & 0xFFFFFFFF
    return near + (((seq - expected + 0x80000000) & 0xFFFFFFFF) - 0x80000000)


@inner
def _note(row, side, which, letter):
    """First occurrence of a history letter of a side."""
    bit = 1 << letter
    if side.history_seen & bit:
        return
    side.history_seen |= bit
    if row.n_history < row.history.size:
        row.history[row.n_history] = (letter << 1) | which
        row.n_history += 1


@inner
def cut_holes(side, start, end):
    """Bytes [start, end), inside the known stream, were seen. Returns how many of them for the second time."""
    fresh = 0
    k = 0
    while k < side.n_holes:
        lo = max(side.hole_from[k], start)
        hi = min(side.hole_to[k], end)
        if lo >= hi:
            k += 1
            continue
        fresh += hi - lo
        left = lo - side.hole_from[k]
        right = side.hole_to[k] - hi
        if left == 0 and right == 0:
            for j in range(k, side.n_holes - 1):
                side.hole_from[j] = side.hole_from[j + 1]
                side.hole_to[j] = side.hole_to[j + 1]
            side.n_holes -= 1
            continue
        if left > 0 and right > 0:
            old_to = side.hole_to[k]
            side.hole_to[k] = lo
            add_hole(side, hi, old_to)
        elif left > 0:
            side.hole_to[k] = lo
        else:
            side.hole_from[k] = hi
        k += 1
    return end - start - fresh


@inner
def add_hole(side, start, end):
    """Bytes [start, end) were skipped. If there is no room for another hole, the smallest one is counted as lost."""
    if side.n_holes < side.hole_from.size:
        side.hole_from[side.n_holes] = start
        side.hole_to[side.n_holes] = end
        side.n_holes += 1
        return
    least = 0
    for k in range(1, side.n_holes):
        if side.hole_to[k] - side.hole_from[k] < side.hole_to[least] - side.hole_from[least]:
            least = k
    if side.hole_to[least] - side.hole_from[least] <= end - start:
        side.lost_bytes += side.hole_to[least] - side.hole_from[least]
        side.hole_from[least] = start
        side.hole_to[least] = end
    else:
        side.lost_bytes += end - start


@inner
def extend(side, start, end, anchored):
    """The direction carried the bytes of positions [start, end); ``anchored``: position ``side.start`` is its first byte.

    Returns how many of them it had carried before.
    """
    if anchored and start < side.start:
        start = side.start
    if end <= start:
        return 0
    if start > side.end:
        add_hole(side, side.end, start)
        side.end = end
        return 0
    if end < side.start:
        add_hole(side, end, side.start)
        side.start = start
        return 0
    lo = max(start, side.start)
    hi = min(end, side.end)
    again = cut_holes(side, lo, hi) if lo < hi else 0
    side.start = min(side.start, start)
    side.end = max(side.end, end)
    return again


@inner
def _enqueue(rows, at, queue, state):
    """Hand on the heads of a row, once. BOUNDS: the caller proved room in the queue."""
    row = rows[at]
    if row.state & (ROW_QUEUED | ROW_SETTLED):
        return
    if row.side[0].slot < 0 and row.side[1].slot < 0:
        return
    row.state |= ROW_QUEUED
    queue[state[S_QUEUE]] = at
    state[S_QUEUE] += 1


@inner
def _leave(rows, queue, linger_row, linger_ns, state, now_ns, wait_ns):
    """Hand on heads of connections that closed long enough ago. False: the queue is full."""
    while state[S_LINGER_SIZE] > 0:
        at = state[S_LINGER_HEAD]
        if 0 <= now_ns - linger_ns[at] < wait_ns:
            return True
        if state[S_QUEUE] + 2 > queue.size:
            return False
        _enqueue(rows, linger_row[at], queue, state)
        state[S_LINGER_HEAD] = (at + 1) % linger_row.size
        state[S_LINGER_SIZE] -= 1
    return True


@inner
def _folded(total):
    """A sum of 16-bit words in ones' complement: RFC 1071 section 2."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@inner
def checksum_of(buf, p):
    """What a whole TCP segment's checksum is: right, left to a network card (the pseudo header's sum, or nothing at all), wrong; SUM_UNKNOWN where not all was captured."""
    header, size = np.int64(p.header_bytes), np.int64(p.payload_bytes)
    at = np.int64(p.payload_at) - header
    stop = at + header + size
    if header < 20 or p.fragment != 0 or size != p.payload_wire_bytes or at < 0 or stop > buf.size:
        return SUM_UNKNOWN
    # BOUNDS: all of the segment, from its header on, is in the buffer.
    told = be16(buf, int64(at + transport.TCP_CHECKSUM))
    total = np.uint64(0)
    low = np.uint64(0xFFFFFFFF)
    while at + 8 <= stop:
        word = le64(buf, int64(at))
        total += (word & low) + (word >> np.uint64(32))
        at += 8
    shift = np.uint64(0)
    while at < stop:
        total += np.uint64(buf[at]) << shift
        shift += np.uint64(8)
        at += 1
    turned = _folded(np.int64(total))
    found = (turned & 0xFF) << 8 | turned >> 8
    ends = np.int64(0)
    for word in (p.src_lo, p.dst_lo):
        ends += np.int64(word & low)
        if p.ip_version == 6:
            ends += np.int64(word >> np.uint64(32))
    if p.ip_version == 6:
        for word in (p.src_hi, p.dst_hi):
            ends += np.int64(word & low) + np.int64(word >> np.uint64(32))
    ends = _folded(ends + TCP)
    pseudo = _folded(ends + header + size)
    if _folded(found + pseudo) == 0xFFFF:
        return SUM_RIGHT
    # Longer than any Ethernet frame: a card or the kernel made one of several (LRO, GRO), or makes several of it (TSO), and the sum is of something else.
    return SUM_LEFT if told in (0, ends, pseudo) or size > transport.ETHERNET_SEGMENT_BYTES else SUM_WRONG


@inner
def _odd(row, at, side, kind, frame, against, odds, state):
    """Note a packet that contradicts others: the first of each kind and connection with its frame."""
    if row.odd & (1 << kind):
        return
    row.odd = np.int64(row.odd) | 1 << kind
    n = state[S_ODDS]
    if n < odds.size:
        one = odds[n]
        one.row, one.side, one.kind, one.frame, one.against = at, side, kind, frame, against
        state[S_ODDS] = n + 1


@inner
def from_elsewhere(sender, ttl, other_sender, other_ttl):
    """Whether two segments of one direction took different ways: another link address or VLAN, or at least HOPS more or fewer hops."""
    another = sender != other_sender and sender != 0 and other_sender != 0  # noqa: PLR1714 - a tuple costs a kernel more
    return another or abs(np.int64(ttl) - np.int64(other_ttl)) >= HOPS


@inner
def _untaken(row, me, p, flags, seq, wire, ttl):
    """Why no receiver takes a segment whatever it holds (ODD_), as far as the connection is known; -1: it may be taken. ``ttl``: of others of its sender, 0: not known."""
    side = row.side[me]
    if flags & SYN:
        return -1
    if flags & (ACK | RST) == 0 and p.fragment != 2:
        # RFC 9293 section 3.10.7.4: if the ACK bit is off, drop the segment.
        return ODD_NO_ACK if side.seen & (SEEN_SYN | SEEN_SYNACK) else -1
    if ttl >= p.ttl + HOPS and p.ttl <= FEW_HOPS and (wire == 0 or flags & (RST | FIN)):
        return ODD_TTL
    if flags & (RST | FIN) and side.seen & HAS_BASE and not side.seen & BASE_GUESSED and side.end > side.start:
        position = _relative(seq, np.int64(side["base"]), side.end)
        if position - side.end > OUTSIDE or position + wire < side.acked - FIRST_WINDOW:
            return ODD_RESET if flags & RST else ODD_FIN
    return -1


@kernel
def fingerprints(packets, buf, hashes, keys, secret):
    """The hash of each packet's connection key for the table (``flowkey.place_hash``), and of what no retransmission of it repeats (see ``duplicates``): uint64[>= n] both.

    The highest bit of the first says that side 1 sent it. secret: ``flowkey.SECRET``. Returns the least and the greatest time stamp; of no packets, those of none.
    """
    earliest, latest = np.int64(_LAST_NS), np.int64(-_LAST_NS)
    for i in range(packets.size):
        p = packets[i]
        earliest, latest = min(earliest, p.ts_ns), max(latest, p.ts_ns)
        proto = np.int64(p.proto)
        has_ports = proto in (TCP, UDP, 132, 136)
        sport = np.int64(p.src_port) if has_ports else 0
        dport = np.int64(p.dst_port) if has_ports else 0
        context = np.uint64(proto) | (np.uint64(p.tunnel) << np.uint64(8)) | (np.uint64(p.tunnel_id) << np.uint64(16))
        me = 0
        if lower_is_source(p.src_hi, p.src_lo, sport, p.dst_hi, p.dst_lo, dport):
            ports = (np.uint64(sport) << np.uint64(16)) | np.uint64(dport)
            key = key_hash(p.src_hi, p.src_lo, p.dst_hi, p.dst_lo, ports, context)
            lies_at = place_hash(p.src_hi, p.src_lo, p.dst_hi, p.dst_lo, ports, context, secret)
        else:
            me = 1
            ports = (np.uint64(dport) << np.uint64(16)) | np.uint64(sport)
            key = key_hash(p.dst_hi, p.dst_lo, p.src_hi, p.src_lo, ports, context)
            lies_at = place_hash(p.dst_hi, p.dst_lo, p.src_hi, p.src_lo, ports, context, secret)
        hashes[i] = (lies_at & ~(np.uint64(1) << np.uint64(63))) | (np.uint64(me) << np.uint64(63))
        numbers = (np.uint64(p.seq) << np.uint64(32)) | np.uint64(p.ack)
        rest = (np.uint64(p.ip_id) << np.uint64(48)) | (np.uint64(p.window) << np.uint64(32))
        rest |= (np.uint64(p["flags"]) << np.uint64(24)) | (np.uint64(p.payload_wire_bytes) & np.uint64(0xFFFFFF))
        if proto == TCP:
            key = blend(blend(key ^ np.uint64(me), numbers), rest ^ np.uint64(p.mark) * MARK_FACTOR)
        else:
            numbers ^= (np.uint64(p.src_port) << np.uint64(16)) | np.uint64(p.dst_port)
            key = blend(blend(key ^ np.uint64(me), numbers), rest)
            at = np.int64(p.payload_at)
            stop = at + np.int64(min(p.payload_bytes, PRINT_BYTES))
            if proto in (ICMP, ICMP6) and at >= 8:
                at -= 8
            if at >= 0 and stop <= buf.size:
                while at + 8 <= stop:
                    key = blend(key, be64(buf, int64(at)))
                    at += 8
                while at < stop:
                    key = blend(key, np.uint64(buf[at]))
                    at += 1
        keys[i] = key
    return earliest, latest


@kernel
def track(
    packets,
    begin,
    buf,
    frame_base,
    rows,
    table,
    arena,
    heads,
    free,
    queue,
    linger_row,
    linger_ns,
    conn_of,
    hashes,
    keys,
    prints,
    samples,
    early,
    stashes,
    stash_bytes,
    notes,
    odds,
    state,
    limits,
):
    """Packets from ``begin`` on into the connection records; returns (why, next packet).

    packets: PACKET[n]; buf: the batch's bytes; frame_base: capture index << FRAME_BITS; rows: CONN[capacity]; table: int32[power of two];
    arena: uint8[slots * HEAD_BYTES]; heads: HEAD[slots]; free: int32[slots], the free stack; queue: int64, settled rows; linger_row, linger_ns:
    int64 ring; conn_of: int64[>= n], out: row of each packet or -1; hashes, keys: as ``fingerprints`` gives them; prints, samples, early: see ``duplicates``; stashes: HEAD[STASHES], stash_bytes: uint8[STASHES * STASH_BYTES],
    notes: int64[STASHES + 1, STASH_NOTES], see ``trail``; odds: ODD[any], contradictions; state, limits: see S_ and L_.
    Never raises.
    """
    n = np.uint64(packets.size)
    if (
        min(hashes.size, keys.size, conn_of.size) < packets.size
        or min(table.size, linger_row.size) < 1
        or linger_ns.size < linger_row.size
        or prints.size < PRINTS
        or state.size < S_SIZE
        or limits.size < L_SIZE
        or stashes.size < STASHES
        or stash_bytes.size < STASHES * STASH_BYTES
        or notes.size < (STASHES + 1) * STASH_NOTES
        or begin < 0
    ):
        return MISFIT, begin
    # BOUNDS: said once here, so that the loop need not ask again for each packet. Places are unsigned for the same reason: a place
    # that may be negative is looked at twice.
    mask = np.uint64(table.size - 1)
    tcp_ns, other_ns, linger_limit_ns = limits[L_TCP_NS], limits[L_OTHER_NS], limits[L_LINGER_NS]
    near_ticks, far_ticks = limits[L_NEAR_TICKS], limits[L_FAR_TICKS]
    queue_room = queue.size - 2
    following = np.uint64(begin)
    while following < n:
        i = following
        following += np.uint64(1)
        # Much of the time would be spent on waiting for memory: so what comes soon is asked for now.
        if i + np.uint64(SOON) < n:
            ahead = i + np.uint64(SOON)
            prefetch(table, np.int64(hashes[ahead] & mask), 0)
            prefetch(prints, np.int64(keys[ahead] & np.uint64(SETS - 1)) * WAYS, 0)
            soon = np.int64(table[hashes[i + np.uint64(SOON // 4)] & mask])
            if soon >= 0:
                sender = rows[np.uint64(soon)].side[np.int64(hashes[i + np.uint64(SOON // 4)] >> np.uint64(63))]
                if sender.slot >= 0:
                    # Its payload will be copied behind what the head holds.
                    to = np.int64(sender.slot) * HEAD_BYTES + min(max(sender.end - sender.head_base, 0), HEAD_BYTES)
                    out_of = packets[i + np.uint64(SOON // 4)].payload_at
                    prefetch(heads, np.int64(sender.slot), 0)
                    for line in COPIED:
                        prefetch(buf, out_of, line)
                        prefetch(arena, to, line)
            near = np.int64(table[hashes[i + np.uint64(SOON // 2)] & mask])
            if near >= 0:
                for line in LINES:
                    prefetch(rows, near, line)
        p = packets[i]
        conn_of[i] = -1
        if p.ip_version == 0 or p.stop == STOP_FRAGMENT:
            state[S_SKIPPED] += 1
            continue
        proto = np.int64(p.proto)
        has_ports = proto in (TCP, UDP, 132, 136)
        # A transport header cut off before its ports belongs to no connection (port 0 is on no wire).
        if has_ports and p.stop != STOP_NONE and p.src_port == 0 and p.dst_port == 0:
            state[S_SKIPPED] += 1
            continue
        now = p.ts_ns
        if state[S_QUEUE] > queue_room:
            return NEED_QUEUE, np.int64(i)
        clock_ns = state[S_CLOCK_NS]
        if clock_ns < 0 or -STRAY_NS <= now - clock_ns <= STRAY_NS:
            clock_ns = max(clock_ns, now)
            state[S_AHEAD] = 0
        elif now > 0:
            # One packet does not set the clock; two in a row do.
            if state[S_AHEAD] > 0 and -STRAY_NS <= now - state[S_AHEAD] <= STRAY_NS:
                clock_ns = now
            state[S_AHEAD] = now
        state[S_CLOCK_NS] = clock_ns
        if (
            state[S_LINGER_SIZE] > 0
            and not 0 <= clock_ns - linger_ns[np.uint64(state[S_LINGER_HEAD])] < linger_limit_ns
            and not _leave(rows, queue, linger_row, linger_ns, state, clock_ns, linger_limit_ns)
        ):
            return NEED_QUEUE, np.int64(i)
        sport = np.int64(p.src_port) if has_ports else 0
        dport = np.int64(p.dst_port) if has_ports else 0
        me = np.int64(hashes[i] >> np.uint64(63))
        if me == 0:
            a_hi, a_lo, b_hi, b_lo, a_port, b_port = p.src_hi, p.src_lo, p.dst_hi, p.dst_lo, sport, dport
        else:
            a_hi, a_lo, b_hi, b_lo, a_port, b_port = p.dst_hi, p.dst_lo, p.src_hi, p.src_lo, dport, sport
        at = hashes[i] & mask
        found = np.int64(table[at])
        while found != EMPTY:
            r = rows[np.uint64(found)]
            if (
                r.a_lo == a_lo
                and r.b_lo == b_lo
                and r.a_port == a_port
                and r.b_port == b_port
                and r.proto == proto
                and r.a_hi == a_hi
                and r.b_hi == b_hi
                and r.tunnel == p.tunnel
                and r.tunnel_id == p.tunnel_id
            ):
                break
            at = (at + np.uint64(1)) & mask
            found = np.int64(table[at])
        flags = np.int64(p["flags"]) if proto == TCP else 0
        # Of a header that is cut off nothing but the ports is sure to be there.
        bare = proto == TCP and flags == 0 and p.stop == STOP_TRUNCATED
        seq = np.int64(p.seq)
        wire = np.int64(p.payload_wire_bytes)
        size = np.int64(p.payload_bytes)
        key = keys[i]
        telling = p.ip_id >= LEAST_TELLING_ID or p.mark & 1 != 0
        if state[S_AGAIN] != 0:
            twice = False
            state[S_AGAIN] = 0
        else:
            # All of it here: each call that is handed an array costs two atomic operations.
            # BOUNDS: four places from a multiple of four below PRINTS.
            place_of = (key & np.uint64(SETS - 1)) * np.uint64(WAYS)
            w0, w1 = prints[place_of], prints[place_of | np.uint64(1)]
            w2, w3 = prints[place_of | np.uint64(2)], prints[place_of | np.uint64(3)]
            tag, tick = key >> np.uint64(24), moment(now)
            twice = False
            if (
                (w0 >> np.uint64(24) == tag)
                | (w1 >> np.uint64(24) == tag)
                | (w2 >> np.uint64(24) == tag)
                | (w3 >> np.uint64(24) == tag)
            ):
                ticks = far_ticks if telling else near_ticks
                twice = (
                    matches(w0, tag, tick, ticks)
                    or matches(w1, tag, tick, ticks)
                    or matches(w2, tag, tick, ticks)
                    or matches(w3, tag, tick, ticks)
                )
            if twice and found != EMPTY and proto == TCP:
                # A copy says the same as what was there before. Prints can be forged, so that is looked at.
                r = rows[np.uint64(found)]
                side = r.side[me]
                if side.seen & HAS_BASE:
                    begins = _relative(seq, np.int64(side["base"]), side.end) + (1 if flags & SYN else 0)
                    if (wire > 0 and begins + wire > side.end) or (
                        flags & SYN and side.seen & (SEEN_SYN | SEEN_SYNACK) and np.int64(side.isn) != seq
                    ):
                        twice = False
                if twice and size > 0 and side.slot >= 0 and side.seen & HAS_BASE:
                    from_base = begins - side.head_base
                    base_of = np.int64(side.slot) * HEAD_BYTES
                    where = np.int64(p.payload_at)
                    head = heads[side.slot]
                    if (
                        from_base < HEAD_BYTES
                        and differs(head, arena, base_of, HEAD_BYTES, from_base, buf, where, size) >= 0
                    ):
                        twice = False
                        other_of = np.int64(head.other) - 1
                        if other_of >= 0 and heads[other_of].removed == 0:
                            base_of = other_of * HEAD_BYTES
                            if differs(heads[other_of], arena, base_of, HEAD_BYTES, from_base, buf, where, size) < 0:
                                twice = True
            if not twice:
                # The oldest of its set is forgotten.
                prints[place_of | np.uint64(3)], prints[place_of | np.uint64(2)] = w2, w1
                prints[place_of | np.uint64(1)] = w0
                prints[place_of] = (tag << np.uint64(24)) | np.uint64(tick)
            elif found != EMPTY:
                r = rows[np.uint64(found)]
                conn_of[i] = found
                _seen_at(r, now, me, proto, p)
                r.last_frame = frame_base | p.frame
                side = r.side[me]
                side.copies += 1
                if flags & FIN:
                    side.fin_ns = min(side.fin_ns, now if now > 0 else p.frame)
                if flags & RST:
                    side.rst_ns = min(side.rst_ns, now if now > 0 else p.frame)
                if telling and (key >> np.uint64(14)) & np.uint64(state[S_SAMPLE_MASK]) == 0:
                    state[S_SAMPLES], state[S_SAMPLE_MASK] = sample(
                        samples, state[S_SAMPLES], state[S_SAMPLE_MASK], key, now, found, me, p.interface
                    )
                continue
        if (
            proto == TCP
            and flags & (SYN | FIN | RST | ACK) == ACK
            and found != EMPTY
            and not twice
            and wire == size
            and p.fragment == 0
            and state[S_EARLY] >= early.size
        ):
            # Most packets: the next bytes of a stream in order whose head has all it can, or an acknowledgement. As the rest of this loop would
            # take them.
            r = rows[np.uint64(found)]
            side, other = r.side[me], r.side[1 - me]
            seen, their = np.int64(side.seen), np.int64(other.seen)
            if (
                (wire == 0 or r.state & (ROW_BEYOND << me) != 0)
                and (seen | their) & (BASE_GUESSED | SEEN_FIN | SEEN_RST) == 0
                and seen & their & HAS_BASE != 0
                and now > 0
                and now - r.last_ns <= tcp_ns
                and r.first_ns - now <= STRAY_NS
                and (np.int64(side["base"]) + side.end) & 0xFFFFFFFF == seq
                and other.acked <= other.end
                and _relative(np.int64(p.ack), np.int64(other["base"]), other.end) <= other.end
            ):
                conn_of[i] = found
                _seen_at(r, now, me, proto, p)
                if telling and (key >> np.uint64(14)) & np.uint64(state[S_SAMPLE_MASK]) == 0:
                    state[S_SAMPLES], state[S_SAMPLE_MASK] = sample(
                        samples, state[S_SAMPLES], state[S_SAMPLE_MASK], key, now, found, me, p.interface
                    )
                r.last_frame = frame_base | p.frame
                side.pkts += 1
                side.ip_bytes += p.ip_bytes
                side.payload_bytes += wire
                side.end += wire
                side.seen = seen | SEEN_ACK
                _note(r, side, me, H_DATA if wire > 0 else H_ACK)
                other.acked = max(other.acked, _relative(np.int64(p.ack), np.int64(other["base"]), other.end))
                continue
        summed = SUM_UNKNOWN
        if (
            proto == TCP
            and (wire > 0 or flags & (SYN | FIN | RST))
            and (
                found == EMPTY
                or flags & (SYN | FIN | RST)
                or rows[np.uint64(found)].state & (ROW_SETTLED | ROW_QUEUED) == 0
            )
        ):
            summed = checksum_of(buf, p)
        if proto == TCP and found != EMPTY and not bare:
            r = rows[np.uint64(found)]
            side = r.side[me]
            usual = np.int64(heads[side.slot].ttl) if side.slot >= 0 else 0
            why = ODD_CHECKSUM if summed == SUM_WRONG and side.seen & SUMMED else -1
            if why < 0:
                why = _untaken(r, me, p, flags, seq, wire, usual)
            if why < 0 and flags & ACK and not flags & (SYN | RST) and r.side[1 - me].seen & HAS_BASE:
                theirs = r.side[1 - me]
                beyond = _relative(np.int64(p.ack), np.int64(theirs["base"]), theirs.end) > theirs.end
                if beyond and side.seen & SUMMED and wire == 0 and checksum_of(buf, p) == SUM_WRONG:
                    why = ODD_CHECKSUM
            if why >= 0:
                conn_of[i] = found
                if now > 0 and r.last_ns > 0 and (now - r.last_ns > STRAY_NS or r.first_ns - now > STRAY_NS):
                    now = _dated(r, now)
                _seen_at(r, now, me, proto, p)
                r.last_frame = frame_base | p.frame
                side.pkts += 1
                side.ip_bytes += p.ip_bytes
                _odd(r, found, me, why, frame_base | p.frame, np.int64(-1), odds, state)
                # What says the same with better numbers is no copy of it.
                prints[(key & np.uint64(SETS - 1)) * np.uint64(WAYS)] = np.uint64(0)
                continue
        fresh = found == EMPTY
        if not fresh:
            r = rows[np.uint64(found)]
            # Frames without a time stamp (pcapng's Simple Packet Block) say nothing of silence.
            timed = now > 0 and r.last_ns > 0
            if timed and now - r.last_ns > (tcp_ns if proto == TCP else other_ns):
                # Keep-alive may be off, and what wakes up after a night is still the same connection.
                fresh = proto != TCP or wakes_anew(r, me, flags, seq, np.int64(p.ack), now)
            elif proto == TCP and flags & SYN and not flags & RST:
                fresh = begins_anew(r, me, flags, seq, now if now > 0 else p.frame)
            elif (
                proto == TCP
                and not bare
                and not flags & RST
                and (r.side[0].seen | r.side[1].seen) & (SEEN_FIN | SEEN_RST)
            ):
                fresh = is_foreign(r, me, seq)
        if fresh:
            if state[S_ROWS] >= limits[L_ROWS]:
                state[S_REFUSED] += 1
                conn_of[i] = -1
                continue
            if state[S_ROWS] == rows.size:
                state[S_AGAIN] = 1
                return NEED_ROWS, np.int64(i)
            if found == EMPTY and (state[S_KEYS] + 1) * SPARSE > table.size:
                state[S_AGAIN] = 1
                return NEED_TABLE, np.int64(i)
            if found != EMPTY:
                rows[found].superseded = 1
                _enqueue(rows, found, queue, state)
            else:
                state[S_KEYS] += 1
            first_of_key = table[at] == EMPTY
            found = state[S_ROWS]
            state[S_ROWS] += 1
            table[at] = found
            r = rows[np.uint64(found)]
            r.a_hi, r.a_lo, r.b_hi, r.b_lo = a_hi, a_lo, b_hi, b_lo
            r.a_port, r.b_port = a_port, b_port
            r.proto, r.ip_version = p.proto, p.ip_version
            r.tunnel, r.tunnel_id = p.tunnel, p.tunnel_id
            r.first_ns, r.last_ns = now, now
            r.first_frame = frame_base | p.frame
            r.first_side = me
            r.outer = conn_of[p.outer] if p.outer >= 0 else -1
            r.superseded, r.state, r.n_history = 0, ROW_FIRST if first_of_key else 0, 0
            r.evidence, r.odd = 0, 0
            r.client_side, r.application = -1, -1
            r.icmp_type = p.src_port if proto in (ICMP, ICMP6) else 0
            r.icmp_code = p.dst_port if proto in (ICMP, ICMP6) else 0
            r.captures, r.strays = 0, 0
            r.head_bytes[0], r.head_bytes[1] = 0, 0
            for k in range(2):
                s = r.side[k]
                s.pkts, s.ip_bytes, s.payload_bytes = 0, 0, 0
                s.start, s.end, s.acked, s.lost_bytes, s.n_holes = 0, 0, NOWHERE, 0, 0
                s.fin_at, s.head_base, s.payload_frame = NOWHERE, 0, -1
                s["base"], s.isn, s.seen, s.history_seen, s.fin_ack = 0, 0, 0, 0, 0
                s.copies, s.fin_ns, s.rst_ns, s.head_sum = 0, NEVER, NEVER, 0
                s.slot = SLOT_NONE
        r = rows[np.uint64(found)]
        side = r.side[me]
        other = r.side[1 - me]
        if now > 0 and r.last_ns > 0 and (now - r.last_ns > STRAY_NS or r.first_ns - now > STRAY_NS):
            now = _dated(r, now)
        settled = (r.state & (ROW_SETTLED | ROW_QUEUED)) != 0
        if size > 0 and side.slot == SLOT_NONE and not settled and state[S_FREE] == 0:
            # Come back to this very packet; nothing of it is counted yet, and a new row stays as it is.
            state[S_AGAIN] = 1
            return NEED_SLOTS, np.int64(i)
        conn_of[i] = found
        newest = now > r.last_ns
        _seen_at(r, now, me, proto, p)
        if telling and (key >> np.uint64(14)) & np.uint64(state[S_SAMPLE_MASK]) == 0:
            state[S_SAMPLES], state[S_SAMPLE_MASK] = sample(
                samples, state[S_SAMPLES], state[S_SAMPLE_MASK], key, now, found, me, p.interface
            )
        if state[S_EARLY] < early.size:
            e = early[state[S_EARLY]]
            state[S_EARLY] += 1
            e["print"], e.ts_ns, e.row, e.side = key, now, found, me
            e["bytes"], e.wire, e.telling = p.ip_bytes, wire, telling
        r.last_frame = frame_base | p.frame
        side.pkts += 1
        side.ip_bytes += p.ip_bytes
        side.payload_bytes += wire
        if wire > size or p.stop == STOP_TRUNCATED:
            side.seen |= SNAPPED
        if wire > 0 and side.payload_bytes == wire:
            side.payload_frame = frame_base | p.frame
        if bare:
            # It was seen, and has no place in the stream.
            position = np.int64(HEAD_BYTES)
        elif proto == TCP:
            if summed in (SUM_RIGHT, SUM_LEFT):
                side.seen |= SUMMED
            if (
                flags & (SYN | ACK) == SYN | ACK
                and other.seen & (SEEN_SYN | SEEN_ACK) == SEEN_SYN
                and other.end > 0
                and np.int64(p.ack) == np.int64(other["base"])
            ):
                # Nothing of what came with the SYN (RFC 7413) was taken; it is sent again.
                other.start, other.end, other.n_holes, other.lost_bytes = 0, 0, 0, 0
                if other.slot >= 0:
                    if heads[other.slot].other > 0:
                        free[state[S_FREE]] = heads[other.slot].other - 1
                        state[S_FREE] += 1
                    clear_head(heads[other.slot])
                    other.head_base = 0
                _odd(r, found, 1 - me, ODD_SYN_DATA, np.int64(other.payload_frame), np.int64(-1), odds, state)
            if newest and flags & SYN and side.payload_bytes == 0 and other.payload_bytes == 0:
                if flags & ACK == 0 and side.seen & SEEN_SYN and other.seen & SEEN_RST:
                    # Who was refused asks again with the same number, as Windows does; a reset without a date was for the attempt before.
                    other.rst_ns = NEVER
                elif flags & ACK and side.seen & SEEN_RST and side.rst_ns == NEVER:
                    side.seen = np.int64(side.seen) & ~SEEN_RST
            position, told = _tcp(r, side, other, me, p, now, flags, seq, wire, newest)
            if told >= 0:
                _odd(r, found, me, told, frame_base | p.frame, np.int64(-1), odds, state)
            if flags & SYN and side.slot >= 0 and side.head_base > side.start:
                # The SYN came behind the data it opened: the stream begins right behind the SYN.
                shift_head(heads[side.slot], arena, side.slot * HEAD_BYTES, HEAD_BYTES, side.head_base - side.start)
                side.head_base = side.start
        else:
            if wire > 0 or proto == UDP:  # a datagram is data, however short
                _note(r, side, me, H_DATA)
            # The head is the first datagram alone, or, of a handshake, those at the start of which none is missing; later fragments
            # of the first one say their offset in seq.
            position = np.int64(0)
            if p.fragment == 2:
                position = seq
            elif side.payload_frame != frame_base | p.frame:
                position = np.int64(HEAD_BYTES)
            if r.state & ROW_HANDSHAKE and side.slot >= 0 and side.end > 0:
                goes_on = p.fragment == 0 or (p.fragment == 2 and seq == side.end)
                takes = goes_on and not is_complete(heads[side.slot], side.end)
                position = side.end if takes else np.int64(HEAD_BYTES)
            side.end += wire
        if wire > 0 and settled:
            # What a handed-on head had no room for is no loss; what it lacks is, and records that were still followed.
            if position - side.head_base < HEAD_BYTES or r.evidence & (ROW_FOLLOWED << me):
                side.seen |= HEAD_CUT
            if position - side.head_base >= HEAD_BYTES:
                r.state |= ROW_BEYOND << me
        elif wire > 0:
            if side.slot == SLOT_NONE and size > 0:
                state[S_FREE] -= 1
                slot = free[state[S_FREE]]
                side.slot = slot
                clear_head(heads[slot])
                heads[slot].ttl, heads[slot].sender = p.ttl, p.sender
                anchored = proto != TCP or side.seen & (SEEN_SYN | SEEN_SYNACK)
                side.head_base = side.start if anchored and proto == TCP else position
            if side.slot >= 0 and size > 0:
                slot = np.int64(side.slot)
                offset = position - side.head_base
                if offset < 0 and not side.seen & (SEEN_SYN | SEEN_SYNACK) and offset > -HEAD_BYTES:
                    shift_head(heads[slot], arena, slot * HEAD_BYTES, HEAD_BYTES, -offset)
                    side.head_base = position
                    offset = 0
                head = heads[slot]
                # Whoever takes part from another place brings bytes; who retransmits brings none.
                if (
                    proto == TCP
                    and p.fragment != 2
                    and from_elsewhere(head.sender, head.ttl, p.sender, p.ttl)
                    and head.filled_bytes < offset + size
                    and offset < HEAD_BYTES
                    and side.seen & (SEEN_SYN | SEEN_SYNACK)
                ):
                    first = np.int64(head.segment_frame[0]) if head.n_segments > 0 else np.int64(-1)
                    _odd(r, found, me, ODD_SENDER, frame_base | p.frame, first, odds, state)
                if (
                    offset == head.filled_bytes
                    and head.n_ranges == 0
                    and offset + size <= HEAD_BYTES
                    and head.n_segments < HEAD_SEGMENTS
                    and head.other == 0
                    and p.urgent == 0
                    and p.payload_at >= 0
                    and p.payload_at + size <= buf.size
                    and (slot + 1) * HEAD_BYTES <= arena.size
                ):
                    # Nearly always: the next bytes in order. As `place` does it, without a call.
                    # BOUNDS: 0 <= offset, offset + size <= HEAD_BYTES, all of slot's row and of the payload inside.
                    move_bytes(arena, slot * HEAD_BYTES + offset, buf, p.payload_at, size)
                    head.filled_bytes = offset + size
                    head.segment_at[head.n_segments] = offset
                    head.segment_frame[head.n_segments] = frame_base | p.frame
                    head.segment_ack[head.n_segments] = p.ack
                    head.n_segments += 1
                elif offset < HEAD_BYTES:
                    filled = np.int64(head.filled_bytes)
                    # Not below what was acknowledged: the receiver has that, and takes nothing else for it.
                    least = side.acked - side.head_base if side.acked > NOWHERE else np.int64(0)
                    against = -1
                    if proto == TCP and (offset < filled or head.n_ranges > 0):
                        against = differs(
                            head, arena, slot * HEAD_BYTES, HEAD_BYTES, offset, buf, np.int64(p.payload_at), size
                        )
                        if against >= 0 and size == 1 and offset == side.end - side.head_base - 1:
                            # A probe of keep-alive holds a byte of no meaning: RFC 9293 section 3.8.4.
                            against = -1
                        elif against >= 0:
                            kind = ODD_CONFLICT if against >= least else ODD_LATE
                            _odd(r, found, me, kind, frame_base | p.frame, brought(head, against), odds, state)
                    place(
                        head,
                        arena,
                        slot * HEAD_BYTES,
                        HEAD_BYTES,
                        offset,
                        buf,
                        p.payload_at,
                        size,
                        frame_base | p.frame,
                        p.ack,
                    )
                    urgent = np.int64(p.urgent) if proto == TCP else 0
                    if (against >= 0 and against >= least) or urgent > 0:
                        if urgent > 0:
                            _odd(r, found, me, ODD_URGENT, frame_base | p.frame, np.int64(-1), odds, state)
                        if head.other == 0 and state[S_FREE] > 0:
                            state[S_FREE] -= 1
                            second = np.int64(free[state[S_FREE]])
                            heads[second] = heads[slot]
                            twin = heads[second]
                            twin.trail, twin.trail_stash, twin.removed = TRAIL_NONE, 0, 0
                            head.other = second + 1
                            if urgent > 0:
                                # What it was before this segment.
                                twin.filled_bytes = filled
                                twin.n_segments = min(np.int64(twin.n_segments), max(np.int64(head.n_segments) - 1, 0))
                            if (max(slot, second) + 1) * HEAD_BYTES <= arena.size:
                                # BOUNDS: both rows are inside.
                                move_bytes(arena, second * HEAD_BYTES, arena, slot * HEAD_BYTES, HEAD_BYTES)
                    if head.other > 0:
                        second = np.int64(head.other) - 1
                        twin = heads[second]
                        kept = True
                        if urgent > 0 and offset == filled and 0 < urgent <= size and p.fragment == 0:
                            kept = take_out(
                                twin,
                                arena,
                                second * HEAD_BYTES,
                                HEAD_BYTES,
                                offset,
                                urgent - 1,
                                buf,
                                np.int64(p.payload_at),
                                size,
                                frame_base | p.frame,
                                p.ack,
                            )
                        elif urgent > 0 and (offset + size > filled or twin.removed == 0):
                            kept = False
                        elif twin.removed == 0 or offset >= filled:
                            overlay(
                                twin,
                                arena,
                                second * HEAD_BYTES,
                                HEAD_BYTES,
                                least,
                                offset - twin.removed,
                                buf,
                                np.int64(p.payload_at),
                                size,
                                frame_base | p.frame,
                                p.ack,
                            )
                        elif against >= 0:
                            kept = False
                        if not kept:
                            _odd(r, found, me, ODD_UNREAD, frame_base | p.frame, np.int64(-1), odds, state)
                    elif (against >= 0 and against >= least) or urgent > 0:
                        _odd(r, found, me, ODD_UNREAD, frame_base | p.frame, np.int64(-1), odds, state)
                if proto == TCP and side.end - side.head_base >= HEAD_BYTES and r.state & (ROW_BEYOND << me) == 0:
                    # BOUNDS: `follow` proves those of the payload; slot's row is inside the arena, or was refused above.
                    done = (slot + 1) * HEAD_BYTES > arena.size or follow(
                        head,
                        arena,
                        slot * HEAD_BYTES,
                        HEAD_BYTES,
                        stashes,
                        stash_bytes,
                        notes,
                        slot,
                        buf,
                        np.int64(p.payload_at),
                        size,
                        offset,
                        frame_base | p.frame,
                        side.end - side.head_base,
                        side.seen & (SEEN_SYN | SEEN_SYNACK) == 0,
                        limits[L_BEYOND_BYTES] + FIRST_WINDOW,
                    )
                    if done:
                        r.state |= ROW_BEYOND << me
                if r.state & (ROW_BEYOND << (1 - me)):
                    r.evidence |= ROW_ANSWERED << me
                if proto == UDP and position == 0 and begins_handshake(arena, slot * HEAD_BYTES, head.filled_bytes):
                    r.state |= ROW_HANDSHAKE
        if settled:
            continue
        # Settled? Positions decide, not packets, so that a doubled packet changes nothing.
        if proto == TCP:
            a, b = r.side[0], r.side[1]
            if a.slot >= 0 or b.slot >= 0:
                if a.slot >= 0 and b.slot >= 0 and r.state & (ROW_BEYOND * 3) == ROW_BEYOND * 3:
                    _enqueue(rows, found, queue, state)
                elif not r.state & ROW_LINGERS and (
                    (a.seen | b.seen) & SEEN_RST or (a.seen & SEEN_FIN and b.seen & SEEN_FIN)
                ):
                    if state[S_LINGER_SIZE] == linger_row.size:
                        first = state[S_LINGER_HEAD]
                        _enqueue(rows, linger_row[first], queue, state)
                        state[S_LINGER_HEAD] = (first + 1) % linger_row.size
                        state[S_LINGER_SIZE] -= 1
                    last = (state[S_LINGER_HEAD] + state[S_LINGER_SIZE]) % linger_row.size
                    linger_row[last] = found
                    linger_ns[last] = state[S_CLOCK_NS]
                    state[S_LINGER_SIZE] += 1
                    r.state |= ROW_LINGERS
        elif r.side[0].slot >= 0 and r.side[1].slot >= 0 and p.fragment == 0:
            a, b = r.side[0], r.side[1]
            if (
                not r.state & ROW_HANDSHAKE
                or max(a.end, b.end) > 3 * HEAD_BYTES
                or (is_complete(heads[a.slot], a.end) and is_complete(heads[b.slot], b.end))
            ):
                _enqueue(rows, found, queue, state)
    return DONE, packets.size


@inner
def _seen_at(row, now, me, proto, p):
    """When and at which interface a packet of a connection was seen; the first one by time says who began."""
    row.captures |= np.uint64(1) << np.uint64(min(max(p.interface, 0), 63))
    if now > 0 and row.last_ns > 0 and (now - row.last_ns > STRAY_NS or row.first_ns - now > STRAY_NS):
        return
    if now < row.first_ns:
        row.first_ns = now
        row.first_side = me
        if proto in (ICMP, ICMP6):
            row.icmp_type, row.icmp_code = p.src_port, p.dst_port
    row.last_ns = max(row.last_ns, now)


@inner
def _dated(row, now):
    """The time of a packet of this connection that is dated too far from it: as the greater part of its packets has it."""
    packets = row.side[0].pkts + row.side[1].pkts + 1
    row.strays += 1
    if row.strays * 2 <= packets:
        return row.last_ns
    row.strays = packets - row.strays
    row.first_ns, row.last_ns = now, now
    return now


@inner
def wakes_anew(row, me, flags, seq, ack, now):
    """Whether a TCP packet that comes after a long silence begins another connection."""
    side = row.side[me]
    other = row.side[1 - me]
    far = now - row.last_ns > STRAY_NS
    if flags & SYN == 0:
        # A closed connection does not wake up; but a wrong date is no waking up.
        return not goes_on_at(row, me, seq) and not (far and side.seen & BASE_GUESSED == 0 and is_near(side, seq))
    if flags & ACK == 0:
        return not far or begins_anew(row, me, flags, seq, now)
    # An answer to the SYN names its number: RFC 9293 section 3.10.7.3.
    if not other.seen & SEEN_SYN or (np.int64(other.isn) + 1) & 0xFFFFFFFF != ack:
        return True
    return side.seen & (SEEN_SYN | SEEN_SYNACK) != 0 and np.int64(side.isn) != seq


@inner
def is_near(side, seq):
    """Whether a number is where a late packet of this direction may be."""
    if not side.seen & HAS_BASE:
        return False
    ahead = _relative(seq, np.int64(side["base"]), side.end) - side.end
    return -LATE_WINDOW <= ahead <= FIRST_WINDOW


@inner
def goes_on_at(row, me, seq):
    """Whether a segment after a long silence goes on where its side of the connection stopped; a chance of one in 2**15 for a stranger's."""
    a, b = row.side[0].seen, row.side[1].seen
    if (a | b) & SEEN_RST or (a & SEEN_FIN and b & SEEN_FIN):
        return False
    side = row.side[me]
    if not side.seen & HAS_BASE:
        return False
    last = side.acked if side.seen & BASE_GUESSED else max(side.end, side.acked)
    off = _relative(seq, np.int64(side["base"]), last) - last
    return -FIRST_WINDOW <= off <= FIRST_WINDOW


@inner
def is_complete(head, carried):
    """Whether a head of datagrams takes no more of them: it is full, remembers no more frames, or lacks one already."""
    return head.filled_bytes != carried or carried >= HEAD_BYTES or head.n_segments == HEAD_SEGMENTS


@inner
def begins_handshake(arena, at, filled):
    """Whether a first datagram belongs to a handshake of several: QUIC with a long header (RFC 9000 section 17.2), DTLS (RFC 9147 section 4)."""
    if filled < 13:
        return False
    if arena[at] == 22:
        return arena[at + 1] == 0xFE and arena[at + 2] >= 0xFC
    if arena[at] & 0x80 == 0:
        return False
    version = np.int64(0)
    for k in range(1, 5):
        version = (version << 8) | np.int64(arena[at + k])
    return version in (1, 0x6B3343CF) or 0xFF000017 <= version <= 0xFF000022


@inner
def is_foreign(row, me, seq):
    """Whether a packet without SYN is too far from a closed connection to be a late one of it: its ports are in use again."""
    a, b = row.side[0].seen, row.side[1].seen
    if not ((a | b) & SEEN_RST or (a & SEEN_FIN and b & SEEN_FIN)):
        return False
    side = row.side[me]
    if not side.seen & HAS_BASE or side.seen & BASE_GUESSED:
        return False
    return not is_near(side, seq)


@inner
def begins_anew(row, me, flags, seq, when):
    """Whether a SYN or SYN+ACK, sent at the time ``when``, cannot belong to this connection."""
    side = row.side[me]
    other = row.side[1 - me]
    if side.seen & (SEEN_SYN | SEEN_SYNACK):
        return np.int64(side.isn) != seq
    if flags & ACK == 0 and other.seen & SEEN_SYN and not other.seen & (SEEN_FIN | SEEN_RST):
        # Both ends sent a SYN: simultaneous opening (RFC 9293 section 3.5), unless the first was answered and talk has begun.
        return side.pkts > 0 or other.payload_bytes > 0
    if side.seen & HAS_BASE and not side.seen & BASE_GUESSED:
        # Traffic of this side came before its SYN. Out of order it is the same connection; then the stream starts not far behind.
        behind = side.start - _relative((seq + 1) & 0xFFFFFFFF, np.int64(side["base"]), side.start)
        return behind < 0 or behind > FIRST_WINDOW
    if side.seen & HAS_BASE:
        # Only acknowledgements of the other side are known of it.
        ahead = side.acked - _relative((seq + 1) & 0xFFFFFFFF, np.int64(side["base"]), side.acked)
        return ahead < 0 or ahead > FIRST_WINDOW
    # An end that came behind its SYN, though not in the capture, is its answer; and what came first of the SYN may be a copy.
    ended = (other.seen & (SEEN_FIN | SEEN_RST)) != 0 and when > min(other.fin_ns, other.rst_ns) + LATE_NS
    return not other.seen & SEEN_SYN and ended


@inner
def _tcp(row, side, other, me, p, now, flags, seq, wire, newest):
    """TCP's part of a packet: flags, sequence space, history; returns the stream position of its first payload byte, and what it contradicts (ODD_, or -1).

    ``newest``: no packet of the connection is dated as late. Out of order, what seems to come behind a reset or to take something back was sent before.
    """
    odd = -1
    first = seq
    if flags & SYN:
        first = (seq + 1) & 0xFFFFFFFF
        if flags & ACK == 0 and other.seen & SEEN_SYNACK and not side.seen & SEEN_SYN:
            side.seen |= DISORDERED
        if not side.seen & (SEEN_SYN | SEEN_SYNACK):
            side.isn = seq
            if side.seen & HAS_BASE and not side.seen & BASE_GUESSED:
                side.seen |= DISORDERED
                start = _relative(first, np.int64(side["base"]), side.start)
                if start < side.start:
                    add_hole(side, start, side.start)
                side.start = start
            else:
                kept = side.acked
                guessed = side.seen & BASE_GUESSED
                old_base = np.int64(side["base"])
                side["base"] = first
                side.start, side.end = 0, 0
                side.acked = _relative((old_base + kept) & 0xFFFFFFFF, first, 0) if guessed else NOWHERE
                side.seen = (np.int64(side.seen) | HAS_BASE) & ~BASE_GUESSED
        if flags & ACK:
            side.seen |= SEEN_SYNACK
            _note(row, side, me, H_SYNACK)
        else:
            side.seen |= SEEN_SYN
            _note(row, side, me, H_SYN)
    if not side.seen & HAS_BASE:
        if not flags & RST or wire > 0:
            side["base"] = first
            side.start, side.end = 0, 0
            side.seen |= HAS_BASE
            position = np.int64(0)
        else:
            position = np.int64(0)
    else:
        if side.seen & BASE_GUESSED and not flags & RST:
            side.seen = np.int64(side.seen) & ~BASE_GUESSED
            start = _relative(first, np.int64(side["base"]), side.acked)
            side.start, side.end = start, start
        position = _relative(first, np.int64(side["base"]), side.end)
    # A copy that was not known as one does not go on.
    goes_on = position + wire > side.end or (flags & FIN and not side.seen & SEEN_FIN)
    # Bytes of a RST are a diagnostic text (RFC 9293 section 3.5.2), not the stream's.
    if wire > 0 and not flags & RST:
        behind = side.end - position
        if position >= side.end and (side.seen | other.seen) & SEEN_RST and now > min(side.rst_ns, other.rst_ns):
            side.seen |= AFTER_RST
        again = extend(side, position, position + wire, (side.seen & (SEEN_SYN | SEEN_SYNACK)) != 0)
        if again < min(behind, wire):
            side.seen |= DISORDERED
        if again > 0 and side.lost_bytes > 0:
            # Holes were given up for want of room; what comes where none is known rather fills them than comes twice.
            side.lost_bytes -= min(again, side.lost_bytes)
        elif again > 0:
            side.seen |= RETRANSMITTED
        _note(row, side, me, H_DATA)
    elif flags & ACK and not flags & (SYN | FIN | RST):
        _note(row, side, me, H_ACK)
        if not side.seen & (SEEN_SYN | SEEN_SYNACK) and side.start - FIRST_WINDOW <= position < side.start:
            # It was sent before the first one seen, and names bytes between.
            add_hole(side, position, side.start)
            side.start = position
    if flags & FIN:
        side.seen |= SEEN_FIN
        side.fin_at = max(side.fin_at, position + wire)
        side.fin_ns = min(side.fin_ns, now if now > 0 else p.frame)
        _note(row, side, me, H_FIN)
    if flags & (FIN | RST) and flags & ACK:
        note_fin_ack(side, np.int64(p.ack))
    if flags & RST:
        side.rst_ns = min(side.rst_ns, now if now > 0 else p.frame)
        side.seen |= SEEN_RST
        _note(row, side, me, H_RST)
        if side.seen & HAS_BASE and not side.seen & BASE_GUESSED and 0 < position - side.end <= FIRST_WINDOW:
            # It names the next byte (RFC 9293 section 3.10.7): what lies between was sent.
            side.acked = max(side.acked, position)
    if flags & ACK and not flags & RST:
        side.seen |= SEEN_ACK
        ack = np.int64(p.ack)
        if not other.seen & HAS_BASE:
            other["base"] = ack
            other.start, other.end, other.acked = 0, 0, 0
            other.seen |= HAS_BASE | BASE_GUESSED
        else:
            reached = _relative(ack, np.int64(other["base"]), other.end)
            if reached > other.acked and reached - other.end < MAX_WINDOW:
                other.acked = reached
                if other.seen & AFTER_RST and reached == other.end and newest:
                    # What came after a reset was taken: who was to be reset never took that.
                    other.seen = np.int64(other.seen) & ~(AFTER_RST | SEEN_RST)
                    side.seen = np.int64(side.seen) & ~SEEN_RST
                    other.rst_ns, side.rst_ns = NEVER, NEVER
                    odd = ODD_RESET
                if other.seen & SEEN_FIN and other.end > other.fin_at and reached > other.fin_at + 1:
                    other.seen = np.int64(other.seen) & ~SEEN_FIN
                    other.fin_at, other.fin_ns = NOWHERE, NEVER
                    odd = ODD_FIN
            elif (
                not other.seen & BASE_GUESSED
                and reached <= other.end < other.acked - 1
                and other.seen & (SEEN_SYN | SEEN_SYNACK)
                and goes_on
                and newest
            ):
                # It says again what it had before, and goes on: what it acknowledged in between was never sent.
                # What is out of order by little may still come: that is not told.
                odd = ODD_ACK if other.acked - other.end > FIRST_WINDOW else -1
                other.acked = reached
            if other.seen & BASE_GUESSED and reached < other.start and other.end - reached < MAX_WINDOW:
                # Acknowledgements come out of order, too.
                other.start = reached
    return position, odd


@kernel
def settle_all(rows, n_rows, queue, state):
    """Hand on every head that is left, oldest row first, from ``state[S_CURSOR]``; returns the next row to look at (``n_rows``: done)."""
    at = state[S_CURSOR]
    while at < n_rows and state[S_QUEUE] + 2 <= queue.size:
        _enqueue(rows, at, queue, state)
        at += 1
    state[S_CURSOR] = at
    return at


@kernel
def seal(rows, queue, n, heads, words, pairs, known, ports, transport, arena_bytes):
    """Close the heads of the queued rows and say where they are.

    words: the arena, uint64[slots * arena_bytes / 8]; pairs: int32[n, 2] slots of side 0 and 1 (-1: none); known: int8[n], the side whose SYN says that it opened, or -1;
    ports: int32[n, 2]; transport: uint8[n].
    """
    for k in range(n):
        row = rows[queue[k]]
        transport[k] = row.proto
        ports[k, 0], ports[k, 1] = row.a_port, row.b_port
        known[k] = -1
        if row.proto == TCP:
            known[k] = opener(row)
        for which in range(2):
            side = row.side[which]
            pairs[k, which] = side.slot if side.slot >= 0 else -1
            row.head_bytes[which] = 0
            if side.slot < 0:
                continue
            head = heads[side.slot]
            row.head_bytes[which] = head.filled_bytes
            head.first_seq = (np.int64(side["base"]) + side.head_base) & 0xFFFFFFFF
            head.midstream = 1 if row.proto == TCP and not side.seen & (SEEN_SYN | SEEN_SYNACK) else 0
            head.stream_bytes = max(side.end, said_to_reach(side)) - side.head_base
            whole = min(head.stream_bytes, arena_bytes)
            if side.fin_at > NOWHERE:
                whole = min(whole, side.fin_at - side.head_base)
            head.gap = 1 if head.n_ranges > 0 or head.filled_bytes < whole else 0
            closed = side.seen & (SEEN_FIN | SEEN_RST) or row.side[1 - which].seen & SEEN_RST
            head.ended = 1 if closed and head.gap == 0 and head.filled_bytes < arena_bytes else 0
            end_trail(head, side, side.seen & SNAPPED != 0)
            if head.other > 0:
                twin = heads[head.other - 1]
                twin.first_seq, twin.midstream = head.first_seq, head.midstream
                twin.stream_bytes = max(head.stream_bytes - twin.removed, 0)
                twin.gap = 1 if twin.n_ranges > 0 or twin.filled_bytes < min(whole - twin.removed, arena_bytes) else 0
                twin.ended = 1 if closed and twin.gap == 0 and twin.filled_bytes < arena_bytes else 0
            if row.proto == TCP and head.midstream == 0:
                # Over all that is kept, in the order of this machine's bytes: it is compared with its like only.
                filled = np.int64(head.filled_bytes)
                first_word = np.int64(side.slot) * (arena_bytes // 8)
                told = np.uint64(filled)
                for k_word in range(filled // 8):
                    # BOUNDS: filled <= arena_bytes, and slot's row is inside.
                    told = blend(told, words[first_word + k_word])
                if filled % 8:
                    # Of the last word some bytes are of whoever had the room before.
                    mask = (np.uint64(1) << np.uint64(8 * (filled % 8))) - np.uint64(1)
                    told = blend(told, words[first_word + filled // 8] & mask)
                side.head_sum = told | np.uint64(1)


@inner
def note_fin_ack(side, ack):
    """What a FIN or RST acknowledged; of several (a FIN is sent again until it is answered) the earliest counts."""
    if not side.seen & FIN_ACKS or (np.int64(side.fin_ack) - ack) & 0xFFFFFFFF < MAX_WINDOW:
        side.fin_ack = ack
        side.seen |= FIN_ACKS


@inner
def answers_fin(side, other):
    """Whether the first FIN or RST of ``side`` acknowledges the FIN of ``other``, which was sent before then: no order of capture says otherwise."""
    if not side.seen & FIN_ACKS or other.fin_at == NOWHERE:
        return False
    fin = np.int64(other["base"]) + other.fin_at
    return (np.int64(side.fin_ack) - fin - 1) & 0xFFFFFFFF < MAX_WINDOW


@inner
def said_to_reach(side):
    """Position behind the last byte of a stream that acknowledgements, a FIN or a RST tell of, be it seen or not."""
    reached = side.acked - (1 if side.fin_at > NOWHERE and side.acked > side.fin_at else 0)
    if side.end <= side.fin_at < reached:
        # What is acknowledged behind its end was never sent.
        reached = side.fin_at
    # A FIN stands behind all data (RFC 9293 section 3.10.4); one that is out of all windows is none of this stream's.
    if side.fin_at - side.end < MAX_WINDOW:
        reached = max(reached, side.fin_at)
    return reached


@inner
def opener(row):
    """The side that opened a TCP connection, by SYN; -1 where none was seen."""
    a, b = row.side[0].seen, row.side[1].seen
    if a & SEEN_SYN and not b & SEEN_SYN:
        return 0
    if b & SEEN_SYN and not a & SEEN_SYN:
        return 1
    if a & SEEN_SYN:
        # Simultaneous opening: whoever was first, unless one end answered too.
        if a & SEEN_SYNACK and not b & SEEN_SYNACK:
            return 1
        if b & SEEN_SYNACK and not a & SEEN_SYNACK:
            return 0
        return np.int64(row.first_side)
    if a & SEEN_SYNACK and not b & SEEN_SYNACK:
        return 1
    if b & SEEN_SYNACK and not a & SEEN_SYNACK:
        return 0
    return -1


@kernel
def release(rows, queue, n, heads, free, state):
    """Give the slots of the first ``n`` queued rows back and empty the queue."""
    for k in range(n):
        row = rows[queue[k]]
        row.state = (np.int64(row.state) & ~ROW_QUEUED) | ROW_SETTLED
        for which in range(2):
            side = row.side[which]
            if side.slot >= 0:
                if heads[side.slot].trail == TRAIL_RUNS:
                    row.evidence |= ROW_FOLLOWED << which
                if heads[side.slot].other > 0:
                    free[state[S_FREE]] = heads[side.slot].other - 1
                    state[S_FREE] += 1
                free[state[S_FREE]] = side.slot
                state[S_FREE] += 1
                side.slot = SLOT_GONE
    state[S_QUEUE] = 0
