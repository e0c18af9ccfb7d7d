"""Connections of a wire in plain Python, one byte and one packet at a time: what the compiled table is compared with.

Sequence numbers become whole numbers that never wrap, a stream is a dict from place to byte, and nothing is bounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from auditor.model.streams import HEAD_BYTES
from tests.conversation import ACK, FIN, RST, SYN, Sent, address

TCP, UDP = 6, 17
TCP_SILENCE_NS = 7_875 * 10**9
OTHER_SILENCE_NS = 7_200 * 10**9
STRAY_NS = 366 * 86_400 * 10**9

NEAR, FAR_BACK = 2**16, 2**24
OUTSIDE = 2**23
DOUBLE_NS, FAR_DOUBLE_NS = 10**8, 5 * 10**9


def place_of(seq: int, near: int) -> int:
    """The place nearest to ``near`` that has this sequence number."""
    return near + (seq - near + 2**31) % 2**32 - 2**31


@dataclass
class End:
    """What one end sent."""

    who: tuple[int, int]
    packets: int = 0
    ip_bytes: int = 0
    payload: int = 0
    isn: int | None = None
    syn: bool = False
    synack: bool = False
    fin: bool = False
    rst: bool = False
    seen: bool = False
    start: int | None = None
    end: int = 0
    acked: int | None = None
    fin_at: int | None = None
    stream: dict[int, int | None] = field(default_factory=dict)
    again: bool = False
    copies: int = 0
    fin_ns: int | None = None
    rst_ns: int | None = None
    acks: bool = False
    """It acknowledged something."""
    after: bool = False
    """New bytes came behind a reset."""
    datagram: bytes | None = None

    @property
    def closed_ns(self) -> int | None:
        """When its first FIN or RST was sent."""
        return min((ns for ns in (self.fin_ns, self.rst_ns) if ns is not None), default=None)

    @property
    def opened(self) -> bool:
        return self.isn is not None

    @property
    def reached(self) -> int:
        """One behind the last payload byte that there must have been."""
        reached = self.end
        if self.fin_at is not None and self.fin_at - self.end < 2**30:
            reached = max(reached, self.fin_at)
        if self.acked is None:
            return reached
        acked = self.acked - (self.fin_at is not None and self.acked > self.fin_at)
        return max(reached, self.fin_at if self.fin_at is not None and self.end <= self.fin_at < acked else acked)

    def missed(self) -> int:
        if self.start is None:
            return 0
        places = set(self.stream) | ({self.fin_at} if self.seen and self.fin_at is not None else set())
        return max(self.reached - self.start, 0) - sum(self.start <= place < self.reached for place in places)

    def first_bytes(self) -> bytes:
        """Up to the first byte that is missing."""
        if self.datagram is not None:
            return self.datagram
        if not self.stream:
            return b""
        base = at = self.start if self.opened and self.start is not None else min(self.stream)
        out = bytearray()
        while at < base + HEAD_BYTES and (value := self.stream.get(at)) is not None:
            out.append(value)
            at += 1
        return bytes(out)


@dataclass
class Conversation:
    """All packets of one connection."""

    proto: int
    first: int
    ends: tuple[End, End]
    last_ns: int
    first_ns: int = 0
    strays: int = 0

    @property
    def closed(self) -> bool:
        return any(end.rst for end in self.ends) or all(end.fin for end in self.ends)


def ends_of(packet: Sent) -> tuple[tuple[int, int], tuple[int, int]]:
    """Sender and receiver as numbers."""
    source, target = address(packet.src), address(packet.dst)
    return (source[0] << 64 | source[1], packet.sport), (target[0] << 64 | target[1], packet.dport)


def starts_anew(talk: Conversation, packet: Sent, mine: End, other: End) -> bool:
    """Whether this packet opens another connection of the same two ends."""
    quiet = packet.ts_ns - talk.last_ns
    if packet.proto != TCP:
        return quiet > OTHER_SILENCE_NS
    if quiet > TCP_SILENCE_NS and not packet.flags & SYN:
        if quiet > STRAY_NS and mine.seen and -FAR_BACK <= place_of(packet.seq % 2**32, mine.end) - mine.end <= NEAR:
            return False
        if talk.closed or not (mine.seen or mine.acked is not None):
            return True
        last = max(place for place in (mine.end, mine.acked) if place is not None)
        return abs(place_of(packet.seq % 2**32, last) - last) > NEAR
    if quiet > TCP_SILENCE_NS and packet.flags & ACK:
        return (
            not other.syn or (other.isn + 1) % 2**32 != packet.ack or (mine.opened and mine.isn != packet.seq % 2**32)
        )
    if TCP_SILENCE_NS < quiet <= STRAY_NS:
        return True
    if packet.flags & RST:
        return False
    seq = packet.seq % 2**32
    if not packet.flags & SYN:
        if not talk.closed or not mine.seen:
            return False
        ahead = place_of(seq, mine.end) - mine.end
        return ahead > NEAR or ahead < -FAR_BACK
    if mine.opened:
        return mine.isn != seq
    if not packet.flags & ACK and other.syn and not other.fin and not other.rst:
        return mine.packets > 0 or other.payload > 0
    known = mine.start if mine.seen else mine.acked
    if known is not None:
        return not 0 <= known - place_of(seq + 1, known) <= NEAR
    return not other.syn and other.closed_ns is not None and packet.ts_ns > other.closed_ns + 10**8


def is_far(talk: Conversation, ts_ns: int) -> bool:
    """Whether a date is more than a year away from the connection's."""
    return ts_ns - talk.last_ns > STRAY_NS or talk.first_ns - ts_ns > STRAY_NS


def dated(talk: Conversation, ts_ns: int) -> int:
    """The time of one of its packets, as the greater part of them has it."""
    if is_far(talk, ts_ns):
        packets = sum(end.packets for end in talk.ends) + 1
        talk.strays += 1
        if talk.strays * 2 <= packets:
            return talk.last_ns
        talk.strays = packets - talk.strays
        talk.first_ns = talk.last_ns = ts_ns
    talk.first_ns, talk.last_ns = min(talk.first_ns, ts_ns), max(talk.last_ns, ts_ns)
    return ts_ns


def is_untaken(packet: Sent, mine: End) -> bool:
    """Whether no receiver takes it."""
    if packet.proto != TCP or packet.flags & SYN:
        return False
    if not packet.flags & (ACK | RST):
        return mine.opened and packet.fragment != 2
    if packet.flags & (RST | FIN) and mine.seen and mine.start is not None and mine.end > mine.start:
        size = len(packet.data) if packet.wire is None else packet.wire
        at = place_of(packet.seq % 2**32, mine.end)
        return at - mine.end > OUTSIDE or (mine.acked is not None and at + size < mine.acked - NEAR)
    return False


def take_back(mine: End, other: End) -> None:
    """An answer to a SYN that acknowledges the SYN alone: what came with it was not taken."""
    assert other.isn is not None
    other.start = other.end = other.isn + 1
    other.stream.clear()
    del mine


def take_segment(packet: Sent, mine: End, other: End, now: int, newest: bool) -> None:
    """One TCP segment."""
    if packet.flags & (SYN | ACK) == SYN | ACK and other.syn and not other.acks and other.stream:
        assert other.isn is not None
        if other.isn + 1 == other.start and packet.ack % 2**32 == (other.isn + 1) % 2**32:
            take_back(mine, other)
    size = len(packet.data) if packet.wire is None else packet.wire
    first = packet.seq % 2**32 + bool(packet.flags & SYN)
    if packet.flags & SYN:
        mine.syn |= not packet.flags & ACK
        mine.synack |= bool(packet.flags & ACK)
        if not mine.opened:
            mine.isn = packet.seq % 2**32
            if mine.seen and mine.start is not None:
                mine.start = place_of(first, mine.start)
            else:
                if mine.acked is not None:
                    mine.acked = place_of(mine.acked, first)
                mine.start = mine.end = first
                mine.seen = True
    at = place_of(first, mine.end if mine.seen or mine.acked is None else mine.acked)
    if not mine.seen and (not packet.flags & RST or (size > 0 and mine.acked is None)):
        if mine.acked is None:
            at = first
        mine.start = mine.end = at
        mine.seen = True
    goes_on = at + size > mine.end or (packet.flags & FIN and not mine.fin)
    resets = [end.rst_ns for end in (mine, other) if end.rst_ns is not None]
    if size and not packet.flags & RST and at >= mine.end and (mine.rst or other.rst) and now > min(resets):
        mine.after = True
    if size and not packet.flags & RST and mine.start is not None:
        came = [place for place in range(at, at + size) if not mine.opened or place >= mine.start]
        for place in came:
            mine.again |= place in mine.stream
            offset = place - at
            mine.stream.setdefault(place, packet.data[offset] if offset < len(packet.data) else None)
        if came:
            mine.start, mine.end = min(mine.start, came[0]), max(mine.end, came[-1] + 1)
    bare = not size and packet.flags & (SYN | FIN | RST | ACK) == ACK and not mine.opened
    if bare and mine.start is not None and mine.start - NEAR <= at < mine.start:
        mine.start = at
    if packet.flags & RST:
        mine.rst_ns = min(now, mine.rst_ns or now)
    if packet.flags & FIN:
        mine.fin_ns = min(now, mine.fin_ns or now)
        mine.fin = True
        mine.fin_at = max(at + size, at + size if mine.fin_at is None else mine.fin_at)
    mine.rst |= bool(packet.flags & RST)
    if packet.flags & RST and mine.seen and 0 < at - mine.end <= NEAR:
        mine.acked = at if mine.acked is None else max(mine.acked, at)
    if packet.flags & ACK and not packet.flags & RST:
        mine.acks = True
        ack = packet.ack % 2**32
        if other.start is None:
            other.start = other.end = other.acked = ack
        else:
            reached = place_of(ack, other.end)
            if not other.seen and other.end - reached < 2**30:
                other.start = min(other.start, reached)
            if reached - other.end < 2**30 and (other.acked is None or reached > other.acked):
                other.acked = reached
                if other.after and reached == other.end and newest:
                    other.after = mine.rst = other.rst = False
                    mine.rst_ns = other.rst_ns = None
                if other.fin and other.fin_at is not None and other.end > other.fin_at and reached > other.fin_at + 1:
                    other.fin, other.fin_at, other.fin_ns = False, None, None
            elif (
                other.seen
                and other.acked is not None
                and reached <= other.end < other.acked - 1
                and other.opened
                and goes_on
                and newest
            ):
                other.acked = reached


def print_of(packet: Sent) -> tuple[object, ...]:
    """What a network leaves alone."""
    source, target = ends_of(packet)
    size = len(packet.data) if packet.wire is None else packet.wire
    same: tuple[object, ...] = (source, target, packet.proto, size, packet.ident)
    if packet.proto == TCP:
        same = (*same, packet.seq % 2**32, packet.ack % 2**32, packet.flags)
    else:
        same = (*same, packet.data[:96])
    return same


def forget(packet: Sent, times: dict[object, list[int]]) -> None:
    """Nothing is a copy of what was not taken."""
    times[print_of(packet)].pop()


def is_double(packet: Sent, times: dict[object, list[int]]) -> bool:
    """Whether all that a network leaves alone was seen a moment before; remembered if not."""
    same = print_of(packet)
    tick = packet.ts_ns >> 20
    bound = (FAR_DOUBLE_NS if packet.ident >= 2 else DOUBLE_NS) >> 20
    if any(abs(tick - before) <= bound for before in times.get(same, ())):
        return True
    times.setdefault(same, []).append(tick)
    return False


def follow(sent: Sequence[Sent]) -> list[Conversation]:
    """All connections, in order of their first packet."""
    times: dict[object, list[int]] = {}
    newest: dict[object, Conversation] = {}
    found: list[Conversation] = []
    for number, packet in enumerate(sent, 1):
        source, target = ends_of(packet)
        low, high = sorted((source, target))
        key = low, high, packet.proto
        talk = newest.get(key)
        if is_double(packet, times) and talk is not None:
            mine = talk.ends[0] if talk.ends[0].who == source else talk.ends[1]
            mine.copies += 1
            if packet.proto == TCP and packet.flags & FIN and mine.fin_ns is not None:
                mine.fin_ns = min(mine.fin_ns, packet.ts_ns)
            if packet.proto == TCP and packet.flags & RST and mine.rst_ns is not None:
                mine.rst_ns = min(mine.rst_ns, packet.ts_ns)
            if not is_far(talk, packet.ts_ns):
                dated(talk, packet.ts_ns)
            continue
        if talk is not None:
            mine, other = talk.ends if talk.ends[0].who == source else talk.ends[::-1]
            if is_untaken(packet, mine):
                size = len(packet.data) if packet.wire is None else packet.wire
                dated(talk, packet.ts_ns)
                mine.packets += 1
                mine.ip_bytes += size + (20 if ":" not in packet.src else 40) + 20
                forget(packet, times)
                continue
            if starts_anew(talk, packet, mine, other):
                talk = None
        if talk is None:
            talk = newest[key] = Conversation(packet.proto, number, (End(low), End(high)), packet.ts_ns, packet.ts_ns)
            found.append(talk)
        mine, other = talk.ends if talk.ends[0].who == source else talk.ends[::-1]
        size = len(packet.data) if packet.wire is None else packet.wire
        before, stray = talk.last_ns, is_far(talk, packet.ts_ns)
        now = dated(talk, packet.ts_ns)
        mine.packets += 1
        mine.payload += size
        mine.ip_bytes += size + (20 if ":" not in packet.src else 40) + (20 if packet.proto == TCP else 8)
        if packet.proto == TCP:
            take_segment(packet, mine, other, now, now > before and not stray)
        elif mine.datagram is None and size:
            mine.datagram = packet.data
    return found
