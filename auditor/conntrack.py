"""Packets to connections, and parts of a capture to the whole.

A ``Tracker`` follows one capture (or one part of it) and ends as a ``TrackedPart``: connection records whose two sides are ordered by address, not
by who opened them, and what inspectors found in their first bytes. Parts of consecutive captures, or of captures taken at the same
time at two places, are joined by ``merge``; ``decide_originators`` then decides directions over all of them, and ``build_table``
makes the table that everything after it reads. One process or many, one file or twenty: the same steps.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from auditor.kernels import duplicates, flowkey, merge_rows, tcpstate, trail
from auditor.kernels import quoted as quoted_kernel
from auditor.model.connections import (
    CONN,
    DIRECTION_BY,
    FRAME_BITS,
    HAS_BASE,
    HEAD_CUT,
    NEVER,
    NOWHERE,
    ODD,
    ODD_SENDER,
    ODD_UNREAD,
    ROW_ANSWERED,
    ROW_BEYOND,
    ROW_FIRST,
    ROW_HANDSHAKE,
    ROW_RELEASED,
    SEEN_SYN,
    SEEN_SYNACK,
    SIGHT,
    ConnectionTable,
    Translation,
)
from auditor.model.growing import GrowingTable
from auditor.model.limits import DEFAULTS, Limits
from auditor.model.quoted import QUOTE, QUOTES
from auditor.model.streams import HEAD, HEAD_BYTES, HEAD_SEGMENTS, TOLD_TRAILS, TRAIL_FIELDS, TRAIL_GAP, TRAIL_RUNS

QUEUE_ROWS = 4_096
LINGER_ROWS = 16_384
FIRST_ROWS = 4_096
ODDS_KEPT = 8_192
"""Of so many contradictions of one capture the frames are reported."""
OUT_OF_ORDER_NS = 100_000_000
"""Consecutive parts may overlap by so much: packets are out of order by less."""
AGREEING_NS = 1_000_000
"""Clocks that differ by less are not set."""
BY_SYN, BY_HANDSHAKE, BY_LISTENER, BY_POLICY, BY_GUESS = range(5)
assert DIRECTION_BY[BY_GUESS] == "guess"  # noqa: S101

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TrackLimits:
    """Settings of the connection table."""

    tcp_silence_s: float = 7_875.0
    """Silence that ends a TCP connection without FIN or RST: Linux drops an idle peer with keep-alive after 7200 s + 9 probes of 75 s."""
    """... unless its sequence numbers go on where they stopped."""
    other_silence_s: float = 7_200.0
    """Silence that ends a UDP flow or the like: two ends that go on after an hour still talk about the same."""
    linger_s: float = 0.2
    """So long a closed connection waits for packets that come out of order."""
    beyond_bytes: int = 4 * HEAD_BYTES
    """Behind so much of its stream, and a window of 64 KiB, a head no longer waits for bytes that it lacks."""
    near_s: float = 0.1
    """Within this time a packet with the same numbers is the same one, where nothing tells it from a retransmission."""
    far_s: float = 5.0
    """... where identification or time stamps tell: so far the clocks of two places may differ in one file."""
    head_slots: int = DEFAULTS.first_bytes // HEAD_BYTES
    """Directions whose first bytes are held at once: 96 MiB at the most, touched only as far as used."""
    connections: int = DEFAULTS.connections
    """Connections of one capture that are held; packets of more are counted and left."""
    waiting_bytes: int = DEFAULTS.waiting_bytes
    """Of heads that wait for what other captures hold of them; more are examined as they are."""

    @classmethod
    def of(cls, limits: Limits) -> TrackLimits:
        """What the user's limits ask of a tracker."""
        return cls(
            head_slots=max(limits.first_bytes // HEAD_BYTES, 2),
            connections=limits.connections,
            waiting_bytes=limits.waiting_bytes,
        )

    def vector(self) -> NDArray[np.int64]:
        """As the kernels take them: see L_ in ``kernels/tcpstate.py``."""
        ns = 1_000_000_000
        return np.array(
            [
                int(self.tcp_silence_s * ns),
                int(self.other_silence_s * ns),
                int(self.linger_s * ns),
                self.beyond_bytes,
                self.connections,
                int(self.near_s * ns) >> duplicates.TICK_BITS,
                int(self.far_s * ns) >> duplicates.TICK_BITS,
            ],
            np.int64,
        )


class Examined(Protocol):
    """What an examiner says of a batch of settled heads; all have an entry a connection."""

    @property
    def application(self) -> Any:
        """int16[n], index into ``Examiner.applications``."""

    @property
    def client_side(self) -> Any:
        """int8[n]: the side (0, 1) whose content is the client's, or -1."""

    @property
    def facts(self) -> Any:
        """Sequence of n: what inspectors found, or None."""


class Examiner(Protocol):
    """Recognises applications and collects evidence (``auditor.inspectors``)."""

    @property
    def applications(self) -> tuple[str, ...]:
        """Names, ``none`` (no payload) and ``unknown`` (payload, not recognised) among them."""

    def examine(
        self,
        arena: Array,
        heads: Array,
        pairs: Array,
        known: Array,
        transport: Array,
        ports: Array,
    ) -> Examined:
        """Settled heads: ``arena`` uint8[slots, HEAD_BYTES], ``heads`` HEAD[slots], ``pairs`` int32[n, 2] slots of side 0 and 1 (-1: silent),
        ``known`` int8[n] the side whose SYN opened it or -1, ``transport`` uint8[n], ``ports`` int32[n, 2].
        """


def aligned(size: int, dtype: np.dtype[Any]) -> Array:
    """Zeros that begin where a line of the processor's cache begins."""
    line = 64
    memory = np.zeros(size * dtype.itemsize + line, np.uint8)
    at = -memory.ctypes.data % line
    return memory[at : at + size * dtype.itemsize].view(dtype)


FEW = 4
"""So many packets in common, and a twentieth of the samples, show that two captures were taken at the same time."""


@dataclass(slots=True)
class View:
    """What one capture, as a place to look from, amounts to."""

    doubled: int = 0
    """Packets that were others once more; in none of the counts."""
    apart_ns: int | None = None
    """... and so long after those, in the median."""
    against: int | None = None
    """The capture whose clock this one's is compared with."""
    ahead_ns: int | None = None
    """So far this one's clock is ahead of that."""
    delay_ns: int | None = None
    """So long a packet travels between them, where both directions tell."""
    shared: int = 0
    """Packets whose times were compared."""


@dataclass(slots=True)
class TrackedPart:
    """The connections of one part of the packets, before directions are decided."""

    rows: Array
    """CONN[n], in order of first packet."""
    facts: list[Any]
    """Row by row; shorter than ``rows`` where the rest has none."""
    pending: dict[int, tuple[Array, list[bytes | None]]] = field(default_factory=dict)
    """Heads not examined yet, because an earlier part may hold what comes before them: HEAD[2], and the bytes of each side."""
    first_ns: int | None = None
    last_ns: int | None = None
    skipped: int = 0
    """Packets that belong to no connection."""
    evicted: int = 0
    """Connections whose heads were handed on early, because room ran out."""
    hits: dict[str, int] = field(default_factory=dict)
    """How often each limit (a name of ``Limits``) cost something while this part was followed."""
    places: tuple[tuple[int, int], ...] = ((0, 0),)
    """Capture and interface of each bit of ``rows["captures"]``."""
    samples: Array = field(default_factory=lambda: np.zeros(0, duplicates.SAMPLE))
    """Packets whose times are kept, to compare clocks."""
    early: Array = field(default_factory=lambda: np.zeros(0, duplicates.EARLY))
    """Its first packets."""
    late: list[tuple[int, Array]] = field(default_factory=list)
    """What was remembered of packets at its end, and the time of that."""
    views: dict[int, View] = field(default_factory=dict)
    """By capture."""
    sights: Array = field(default_factory=lambda: np.zeros(0, SIGHT))
    """Connections seen from several places, as each saw them."""
    translations: dict[int, Translation] = field(default_factory=dict)
    """By row: the same connection on the other side of a NAT."""
    quotes: Array = field(default_factory=lambda: np.zeros(0, QUOTE))
    """What ICMP errors quote."""
    odds: Array = field(default_factory=lambda: np.zeros(0, ODD))
    """Packets that contradict others of their connection."""
    second: dict[int, tuple[int, Any]] = field(default_factory=dict)
    """By row: application and facts of the other reading of its first bytes."""


class Tracker:
    """Connections of one capture, batch by batch, in memory bounded by the connections seen and ``limits``."""

    def __init__(
        self,
        examiner: Examiner,
        *,
        capture: int = 0,
        alone: bool = True,
        limits: TrackLimits | None = None,
    ) -> None:
        """``alone``: there are no other packets; else heads that go on in another part are held back for ``merge``."""
        self._examiner = examiner
        self._alone = alone
        limits = limits or TrackLimits()
        self._limits = limits.vector()
        self._rows = GrowingTable(CONN, FIRST_ROWS)
        self._table = np.full(FIRST_ROWS * 4, flowkey.EMPTY, np.int32)
        slots = limits.head_slots
        # Pages of the arena are touched only as far as heads are used, so no huge pages here.
        memory = mmap.mmap(-1, slots * HEAD_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            memory.madvise(mmap.MADV_NOHUGEPAGE)
        self._flat = np.frombuffer(memory, np.uint8)
        self._arena = self._flat.reshape(slots, HEAD_BYTES)
        self._words = self._flat.view(np.uint64)
        self._heads = np.zeros(slots, HEAD)
        self._free = np.arange(slots - 1, -1, -1, dtype=np.int32)
        self._queue = np.zeros(QUEUE_ROWS, np.int64)
        self._linger_row = np.zeros(LINGER_ROWS, np.int64)
        self._linger_ns = np.zeros(LINGER_ROWS, np.int64)
        self._conn_of = np.zeros(1, np.int64)
        self._hashes, self._keys = np.zeros(1, np.uint64), np.zeros(1, np.uint64)
        self._prints = aligned(duplicates.PRINTS, np.dtype(np.uint64))
        self._samples = np.zeros(duplicates.SAMPLES, duplicates.SAMPLE)
        self._early = np.zeros(0 if alone else duplicates.EARLY_PACKETS, duplicates.EARLY)
        self._stashes = np.zeros(trail.STASHES, HEAD)
        self._stash_bytes = np.zeros(trail.STASHES * trail.STASH_BYTES, np.uint8)
        self._notes = np.full((trail.STASHES + 1, trail.STASH_NOTES), -1, np.int64)
        self._notes[trail.STASHES] = 0
        self._odds = np.zeros(ODDS_KEPT, ODD)
        self._second: dict[int, tuple[int, Any]] = {}
        self._state = np.zeros(tcpstate.S_SIZE, np.int64)
        self._state[tcpstate.S_FREE] = slots
        self._state[tcpstate.S_CLOCK_NS] = np.iinfo(np.int64).min // 2
        self._capture = capture
        self._frame_base = capture << FRAME_BITS
        self._pairs = np.zeros((QUEUE_ROWS, 2), np.int32)
        self._known = np.zeros(QUEUE_ROWS, np.int8)
        self._ports = np.zeros((QUEUE_ROWS, 2), np.int32)
        self._transport = np.zeros(QUEUE_ROWS, np.uint8)
        self._quotes = np.zeros(QUOTES, QUOTE)
        self._unquoted = 0
        self._facts: list[Any] = []
        self._held: dict[int, tuple[Array, list[bytes | None]]] = {}
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._released = 0
        self._waiting_limit = limits.waiting_bytes
        self._waiting = 0
        self._impatient = 0
        self._refused_by = "connections"

    def hold_no_more(self) -> None:
        """Take no more connections: memory is short. Those that are held go on; packets of others are counted and left."""
        self._limits[tcpstate.L_ROWS] = min(len(self), int(self._limits[tcpstate.L_ROWS]))
        self._refused_by = "memory_bytes"

    def __len__(self) -> int:
        """Connections so far."""
        return int(self._state[tcpstate.S_ROWS])

    def feed(self, packets: Array, buf: NDArray[np.uint8]) -> None:
        """Take decoded packets; ``buf`` holds their payload and is free again when this returns."""
        if packets.size == 0:
            return
        if self._conn_of.size < packets.size:
            self._conn_of = np.zeros(packets.size, np.int64)
            self._hashes = np.zeros(packets.size, np.uint64)
            self._keys = np.zeros(packets.size, np.uint64)
        earliest, latest = tcpstate.fingerprints(packets, buf, self._hashes, self._keys, flowkey.SECRET)
        self._first_ns = earliest if self._first_ns is None else min(self._first_ns, earliest)
        self._last_ns = latest if self._last_ns is None else max(self._last_ns, latest)
        self._unquoted += quoted_kernel.quotes(packets, buf, self._frame_base, self._quotes)
        at = 0
        while True:
            why, at = tcpstate.track(
                packets,
                at,
                buf,
                self._frame_base,
                self._rows.rows,
                self._table,
                self._flat,
                self._heads,
                self._free,
                self._queue,
                self._linger_row,
                self._linger_ns,
                self._conn_of,
                self._hashes,
                self._keys,
                self._prints,
                self._samples,
                self._early,
                self._stashes,
                self._stash_bytes,
                self._notes,
                self._odds,
                self._state,
                self._limits,
            )
            if why == tcpstate.NEED_ROWS:
                self._rows.grow(self._rows.rows.size + self._rows.rows.size // 2)
            elif why == tcpstate.NEED_TABLE:
                self._table = np.full(self._table.size * 2, flowkey.EMPTY, np.int32)
                flowkey.rehash(self._rows.rows, len(self), self._table, flowkey.SECRET)
            elif why == tcpstate.NEED_SLOTS:
                self._make_room()
            elif why == tcpstate.NEED_QUEUE:
                self._examine()
            elif why == tcpstate.MISFIT:
                raise RuntimeError("arrays of the connection table do not go together")
            else:
                break
        if self._state[tcpstate.S_QUEUE] >= QUEUE_ROWS // 4:
            self._examine()

    def _make_room(self) -> None:
        """Settle connections: those first that wait for one direction alone, and of them those that were silent longest.

        Where that direction spoke since the other was complete, nothing need be missing; the others are remembered as handed on early.
        """
        self._examine()
        if self._state[tcpstate.S_FREE] > 0:
            return
        rows = self._rows.rows[: len(self)]
        slots = rows["side"]["slot"]
        holding = np.flatnonzero((slots[:, 0] >= 0) | (slots[:, 1] >= 0))
        whole = rows["state"][holding] & (3 * ROW_BEYOND) != 0
        oldest = holding[np.lexsort((rows["last_ns"][holding], ~whole))][: max(QUEUE_ROWS // 4, 1)]
        one = rows["state"][oldest] & (3 * ROW_BEYOND) != 0
        early = oldest[~one | (rows["evidence"][oldest] & (3 * ROW_ANSWERED) == 0)]
        self._released += early.size
        rows["state"][early] |= ROW_RELEASED
        for row in oldest:
            self._queue[self._state[tcpstate.S_QUEUE]] = row
            self._state[tcpstate.S_QUEUE] += 1
        self._examine()

    def _examine(self) -> None:
        """Hand the queued heads to the examiner and take their slots back."""
        n = int(self._state[tcpstate.S_QUEUE])
        if n == 0:
            return
        rows = self._rows.rows
        tcpstate.seal(
            rows,
            self._queue,
            n,
            self._heads,
            self._words,
            self._pairs,
            self._known,
            self._ports,
            self._transport,
            HEAD_BYTES,
        )
        queued = self._queue[:n]
        wanted = np.arange(n)
        if not self._alone:
            seen = rows["side"]["seen"][queued]
            opening = (seen & SEEN_SYN).any(axis=1)
            anchored = ((seen & (SEEN_SYN | SEEN_SYNACK)) != 0) | (self._pairs[:n] < 0)
            back = ((rows["state"][queued] & ROW_FIRST) != 0) & ~(opening & anchored.all(axis=1))
            # What is missing here may have been seen at another place: bytes, or a whole direction.
            slots = np.maximum(self._pairs[:n], 0)
            lacks = (self._heads["gap"][slots] != 0) | (self._heads["trail_end"][slots] & TRAIL_GAP != 0)
            gaps = (self._pairs[:n] >= 0) & lacks
            sides = rows["side"][queued]
            silent = (sides["pkts"] == 0) | _unseen(sides)
            back |= (self._transport[:n] == tcpstate.TCP) & (gaps | silent).any(axis=1)
            for k in np.flatnonzero(back):
                if self._waiting >= self._waiting_limit:
                    back[k] = False
                    self._impatient += 1
                    continue
                self._hold(int(queued[k]), self._pairs[k])
            wanted = np.flatnonzero(~back)
        if wanted.size:
            told = [each[:n] for each in (self._pairs, self._known, self._transport, self._ports)]
            at = queued
            if wanted.size < n:
                told, at = [each[wanted] for each in told], queued[wanted]
            examined = self._examiner.examine(self._arena, self._heads, *told)
            rows["application"][at] = examined.application
            rows["client_side"][at] = examined.client_side
            _put_facts(self._facts, at, examined.facts)
            self._read_again(self._second, at, told)
        tcpstate.release(rows, self._queue, n, self._heads, self._free, self._state)

    def _read_again(self, second: dict[int, tuple[int, Any]], rows: Array, told: Sequence[Array]) -> None:
        """Examine the other reading of those heads that have one; ``told``: pairs of slots and so on, as they were examined."""
        pairs = told[0]
        others = self._heads["other"][np.maximum(pairs, 0)] * (pairs >= 0)
        which = np.flatnonzero((others > 0).any(axis=1))
        if not which.size:
            return
        again = np.where(others > 0, others - 1, pairs)[which].astype(np.int32)
        examined = self._examiner.examine(
            self._arena, self._heads, again, *(np.ascontiguousarray(each[which]) for each in told[1:])
        )
        for row, application, facts in zip(
            rows[which].tolist(), examined.application.tolist(), examined.facts, strict=True
        ):
            second[row] = application, facts

    def _hold(self, row: int, pair: Array) -> None:
        if (self._heads["other"][pair[pair >= 0]] > 0).any():
            self._rows.rows["odd"][row] |= 1 << ODD_UNREAD
        heads, data = self._copied(pair)
        self._held[row] = (heads, data)
        self._rows.rows["head_bytes"][row] = heads["filled_bytes"]
        self._waiting += heads.nbytes + sum(len(each) for each in data if each is not None)

    def _copied(self, pair: Array) -> tuple[Array, list[bytes | None]]:
        """The heads in a pair of slots."""
        heads = np.zeros(2, HEAD)
        data: list[bytes | None] = [None, None]
        for side, slot in enumerate(pair):
            if slot < 0:
                continue
            heads[side] = self._heads[slot]
            heads[side]["trail_stash"] = 0
            heads[side]["other"] = 0
            ranges = heads[side]["range_to"][: heads[side]["n_ranges"]]
            extent = max([int(heads[side]["filled_bytes"]), *map(int, ranges)])
            data[side] = self._arena[slot, :extent].tobytes()
        return heads, data

    @property
    def rows(self) -> Array:
        """CONN[n]: the records as they stand, not a copy. What was handed on by ``examine`` has its application."""
        return self._rows.rows[: len(self)]

    @property
    def facts(self) -> list[Any]:
        """What was found of the rows; shorter than ``rows`` where the rest has none."""
        return self._facts

    @property
    def clock_ns(self) -> int | None:
        """The largest time stamp so far."""
        return self._last_ns

    def examine_with(self, examiner: Examiner) -> None:
        """Another examiner from now on; what was examined stands."""
        self._examine()
        self._examiner = examiner

    def examine(self) -> None:
        """Have the first bytes examined that no more packets can change."""
        self._examine()

    def peek(self, wanted: NDArray[np.bool_] | None = None) -> TrackedPart:
        """What is known now, of the rows ``wanted`` (None: all), as a part of its own; the tracker goes on with its packets.

        First bytes that may still grow are examined as they are, and again later.
        """
        self._examine()
        n = len(self)
        taken = np.arange(n) if wanted is None else np.flatnonzero(wanted)
        known = len(self._facts)
        facts = [self._facts[row] if row < known else None for row in taken.tolist()]
        rows = self._rows.rows[taken]
        place = np.full(n + 1, -1, np.int64)
        place[taken] = np.arange(taken.size)
        rows["outer"] = place[rows["outer"]]
        pending = {
            int(place[row]): (heads.copy(), list(data)) for row, (heads, data) in self._held.items() if place[row] >= 0
        }
        second = {int(place[row]): told for row, told in self._second.items() if place[row] >= 0}
        slots = rows["side"]["slot"]
        waiting = np.flatnonzero((slots >= 0).any(axis=1))
        for start in range(0, waiting.size, QUEUE_ROWS):
            queue = waiting[start : start + QUEUE_ROWS]
            m = queue.size
            pairs, ports = np.zeros((m, 2), np.int32), np.zeros((m, 2), np.int32)
            known_side, transport = np.zeros(m, np.int8), np.zeros(m, np.uint8)
            if not self._alone:
                # Another place may have the bytes that are missing here.
                for row in queue.tolist():
                    pending[row] = self._copied(slots[row])
                    if (self._heads["other"][slots[row][slots[row] >= 0]] > 0).any():
                        rows["odd"][row] |= 1 << ODD_UNREAD
                    rows["head_bytes"][row] = pending[row][0]["filled_bytes"]
                continue
            tcpstate.seal(rows, queue, m, self._heads, self._words, pairs, known_side, ports, transport, HEAD_BYTES)
            examined = self._examiner.examine(self._arena, self._heads, pairs, known_side, transport, ports)
            rows["application"][queue] = examined.application
            rows["client_side"][queue] = examined.client_side
            _put_facts(facts, queue, examined.facts)
            self._read_again(second, queue, (pairs, known_side, transport, ports))
        rows["side"]["slot"] = np.minimum(rows["side"]["slot"], -1)
        skipped = int(self._state[tcpstate.S_SKIPPED])
        hits = {
            self._refused_by: int(self._state[tcpstate.S_REFUSED]),
            "first_bytes": _hurried(rows),
            "waiting_bytes": self._impatient,
        }
        samples = _moved(self._samples[: self._state[tcpstate.S_SAMPLES]], place)
        early = _moved(self._early[: self._state[tcpstate.S_EARLY]], place)
        return TrackedPart(
            rows,
            facts,
            pending,
            self._first_ns,
            self._last_ns,
            skipped,
            self._released,
            hits,
            self._places(rows, samples),
            samples,
            early,
            [],
            {self._capture: _view(rows, samples)},
            quotes=self._quoted(),
            odds=_moved(self._odds[: self._state[tcpstate.S_ODDS]], place),
            second=second,
        )

    def forget(self, gone: NDArray[np.bool_]) -> None:
        """Drop rows, and the memory they took; packets that still come for one of them begin a new connection.

        First bytes of them that were not examined yet are lost: ``peek`` before.
        """
        self._examine()
        if self._unquoted:
            self._quotes[:] = 0
            self._unquoted = 0
        n = len(self)
        kept = np.flatnonzero(~gone[:n])
        place = np.full(n + 1, -1, np.int64)
        place[kept] = np.arange(kept.size)
        for slot in self._rows.rows["side"]["slot"][:n][gone[:n]].reshape(-1).tolist():
            if slot >= 0:
                other = int(self._heads["other"][slot])
                if other:
                    self._free[self._state[tcpstate.S_FREE]] = other - 1
                    self._state[tcpstate.S_FREE] += 1
                self._free[self._state[tcpstate.S_FREE]] = slot
                self._state[tcpstate.S_FREE] += 1
        rows = self._rows.rows[kept]
        rows["outer"] = place[rows["outer"]]
        room = max(FIRST_ROWS, kept.size + kept.size // 2)
        self._rows = GrowingTable(CONN, room)
        self._rows.rows[: kept.size] = rows
        known = len(self._facts)
        self._facts = [self._facts[row] for row in kept.tolist() if row < known]
        self._held = {int(place[row]): waits for row, waits in self._held.items() if place[row] >= 0}
        self._waiting = sum(len(side) for _, data in self._held.values() for side in data if side is not None)
        self._second = {int(place[row]): told for row, told in self._second.items() if place[row] >= 0}
        state = self._state
        odds = _moved(self._odds[: state[tcpstate.S_ODDS]], place)
        self._odds[: len(odds)] = odds
        state[tcpstate.S_ODDS] = len(odds)
        samples = _moved(self._samples[: state[tcpstate.S_SAMPLES]], place)
        self._samples[: len(samples)] = samples
        state[tcpstate.S_SAMPLES] = len(samples)
        if len(samples) < duplicates.SAMPLES // 4:
            # Room for more of what comes.
            state[tcpstate.S_SAMPLE_MASK] >>= 1
        # What goes on here is no longer the beginning that an earlier part might have had the packets of.
        self._early = self._early[:0]
        state[tcpstate.S_EARLY] = 0
        head, size = int(state[tcpstate.S_LINGER_HEAD]), int(state[tcpstate.S_LINGER_SIZE])
        ring = (head + np.arange(size)) % LINGER_ROWS
        moved, since = place[self._linger_row[ring]], self._linger_ns[ring]
        still = moved >= 0
        left = int(still.sum())
        self._linger_row[:left], self._linger_ns[:left] = moved[still], since[still]
        state[tcpstate.S_LINGER_HEAD], state[tcpstate.S_LINGER_SIZE] = 0, left
        state[tcpstate.S_ROWS] = kept.size
        state[tcpstate.S_KEYS] = int((rows["superseded"] == 0).sum())
        self._table = np.full(1 << max(int(room * 2 - 1).bit_length(), 4), flowkey.EMPTY, np.int32)
        flowkey.rehash(self._rows.rows, kept.size, self._table, flowkey.SECRET)

    def finish(self) -> TrackedPart:
        """All that is known at the end of the packets. The tracker is spent afterwards."""
        n = len(self)
        self._examine()
        self._state[tcpstate.S_CURSOR] = 0
        while True:
            at = tcpstate.settle_all(self._rows.rows, n, self._queue, self._state)
            if self._alone:
                self._examine()
            else:
                self._hold_queued()
            if at >= n:
                break
        rows = self._rows.rows[:n]
        if rows["strays"].any():
            # The greater part of each connection's packets knows when it was.
            self._first_ns, self._last_ns = int(rows["first_ns"].min()), int(rows["last_ns"].max())
        hits = {
            self._refused_by: int(self._state[tcpstate.S_REFUSED]),
            "first_bytes": _hurried(rows) if self._released else 0,
            "waiting_bytes": self._impatient,
        }
        samples = self._samples[: self._state[tcpstate.S_SAMPLES]].copy()
        return TrackedPart(
            rows,
            self._facts,
            self._held,
            self._first_ns,
            self._last_ns,
            int(self._state[tcpstate.S_SKIPPED]),
            self._released,
            hits,
            self._places(rows, samples),
            samples,
            self._early[: self._state[tcpstate.S_EARLY]].copy(),
            [] if self._alone or self._last_ns is None else [(self._last_ns, self._prints)],
            {self._capture: _view(rows, samples)},
            quotes=self._quoted(),
            odds=self._odds[: self._state[tcpstate.S_ODDS]].copy(),
            second=self._second,
        )

    def _quoted(self) -> Array:
        return np.sort(self._quotes[self._quotes["count"] > 0], order="frame")

    def _places(self, rows: Array, samples: Array) -> tuple[tuple[int, int], ...]:
        """The interfaces that packets came from, in the order of their bits; rows and samples are numbered by it."""
        used = int(np.bitwise_or.reduce(rows["captures"])) if len(rows) else 1
        interfaces = [k for k in range(64) if used >> k & 1] or [0]
        if interfaces != list(range(len(interfaces))):
            rows["captures"] = _renumbered(rows["captures"], interfaces, range(len(interfaces)))
        samples["place"] = np.searchsorted(interfaces, np.clip(samples["place"], 0, 63))
        return tuple((self._capture, interface) for interface in interfaces)

    def _hold_queued(self) -> None:
        """Keep what the packets' end left unsettled: a later part may go on with it."""
        n = int(self._state[tcpstate.S_QUEUE])
        if self._waiting >= self._waiting_limit:
            self._examine()
            return
        slots = self._rows.rows["side"]["slot"][self._queue[:n]]
        for row, pair in zip(self._queue[:n].tolist(), slots, strict=True):
            self._hold(row, pair)
        tcpstate.release(self._rows.rows, self._queue, n, self._heads, self._free, self._state)


def _hurried(rows: Array) -> int:
    """Of how many rows first bytes were given up, because room ran out."""
    evicted = rows[rows["state"] & ROW_RELEASED != 0]
    return int((evicted["side"]["seen"] & HEAD_CUT != 0).any(axis=1).sum())


def _moved(noted: Array, place: NDArray[np.int64]) -> Array:
    """What was noted of packets of rows that stay; ``place``: of each row its new number, -1: it goes."""
    out: Array = noted[place[noted["row"]] >= 0]
    out["row"] = place[out["row"]]
    return out


def _view(rows: Array, samples: Array) -> View:
    """What one capture is known to have of its own."""
    doubled = int(rows["side"]["copies"].sum())
    return View(doubled, duplicates.apart_ns(samples) if doubled else None)


def _put_facts(facts: list[Any], rows: Array, found: Any) -> None:
    if found.count(None) == len(rows):
        return
    need = int(rows.max()) + 1
    if len(facts) < need:
        facts.extend([None] * (need - len(facts)))
    for row, each in zip(rows.tolist(), found, strict=True):
        facts[row] = each


def merge(
    parts: list[TrackedPart], examiner: Examiner, limits: TrackLimits | None = None, *, keep_pending: bool = False
) -> TrackedPart:
    """The connections of all parts together, their held heads examined.

    Parts are taken in the order given: that of their packets. Where the times of two parts overlap for more than a tenth of the shorter one, they
    were taken at two places: a connection in both is one, seen twice, and its packets are counted once. Else the later part
    goes on where the earlier one ended, and counts add up. So it is, too, where they share many packets although their times do not overlap:
    a clock is wrong. Packets that the earlier part ended with and the later one begins with are counted once, either way. With ``keep_pending`` the
    heads that waited stay in ``pending``, for who hands them on to yet another part.
    """
    whole = joined(parts, limits)
    pending = dict(whole.pending)
    examine_held(whole, examiner)
    if keep_pending:
        whole.pending = pending
    return whole


def joined(parts: Sequence[TrackedPart], limits: TrackLimits | None = None) -> TrackedPart:
    """As ``merge``; heads that wait for other parts still wait."""
    limits = limits or TrackLimits()
    if not parts:
        return TrackedPart(np.zeros(0, CONN), [])
    whole = parts[0]
    for later in parts[1:]:
        whole = _join_parts(whole, later, limits)
    return whole


def _same_time(a: TrackedPart, b: TrackedPart) -> bool:
    if a.first_ns is None or a.last_ns is None or b.first_ns is None or b.last_ns is None:
        return False
    shared = min(a.last_ns, b.last_ns) - max(a.first_ns, b.first_ns)
    return shared > OUT_OF_ORDER_NS and shared * 10 > min(a.last_ns - a.first_ns, b.last_ns - b.first_ns)


def _same_packets(a: TrackedPart, b: TrackedPart, mine: Array, theirs: Array) -> bool:
    """Whether parts share so many packets that they were taken at the same time, although their times do not overlap: a clock is wrong, or they are short.

    Where clocks agree, what is in both is what the earlier part ended with, unless it is most of one.
    """
    fewer = min(a.samples.size, b.samples.size)
    if mine.size < min(FEW, max(fewer, 1)) or mine.size * 20 < fewer or _one_capture(a, b):
        return False
    return mine.size * 2 > fewer or abs(duplicates.ahead_ns(mine, theirs)[0]) > OUT_OF_ORDER_NS


def _one_capture(a: TrackedPart, b: TrackedPart) -> bool:
    """Whether they are parts of the same capture."""
    return bool({capture for capture, _ in a.places} & {capture for capture, _ in b.places})


def _join_parts(a: TrackedPart, b: TrackedPart, limits: TrackLimits) -> TrackedPart:
    if not len(a.rows) or not len(b.rows):
        kept = a if len(a.rows) else b
        kept.skipped, kept.evicted = a.skipped + b.skipped, a.evicted + b.evicted
        kept.hits = _added(a.hits, b.hits)
        kept.quotes = _joined_quotes(a, b, 0)
        return kept
    n, m = len(a.rows), len(b.rows)
    size = 1 << max(int(n * 2 - 1).bit_length(), 4)
    table = np.full(size, flowkey.EMPTY, np.int32)
    found = np.zeros(m, np.int64)
    vector = limits.vector()
    places = _unite_places(a, b)
    mine, theirs = duplicates.shared(a.samples, b.samples)
    apart = _openings_apart(a, b) if mine.size < FEW else None
    together = _same_time(a, b) or _same_packets(a, b, mine, theirs) or apart is not None
    twice = np.zeros((m, 2), np.int64)
    ahead = trust = 0
    if together:
        trust = _better_ordered(a, b)
        ahead = _compare_clocks(a, b, mine, theirs) if apart is None else _told_clock(a, b, 0, *apart)
        if ahead:
            # One clock for all from here on.
            _set_clock(b.rows, ahead)
            b.first_ns, b.last_ns = _by_clock(b.first_ns, ahead), _by_clock(b.last_ns, ahead)
        flowkey.index_all(a.rows, n, table, flowkey.SECRET)
        merge_rows.match_together(
            a.rows, table, b.rows, m, vector[tcpstate.L_TCP_NS], vector[tcpstate.L_OTHER_NS], found, flowkey.SECRET
        )
    else:
        flowkey.rehash(a.rows, n, table, flowkey.SECRET)
        again = _had_before(a, b, vector)
        merge_rows.match(a.rows, table, b.rows, m, found, flowkey.SECRET)
        _take_back(b, again, twice)
    worth, more = _worth(a.rows).tolist(), _worth(b.rows).tolist()
    target = np.zeros(m, np.int64)
    before = _sights(a, b, found) if together else None
    joined = merge_rows.join_all(
        a.rows,
        b.rows,
        m,
        found,
        together,
        vector[tcpstate.L_TCP_NS],
        vector[tcpstate.L_OTHER_NS],
        twice,
        trust,
        n,
        target,
    )
    facts = a.facts + [None] * (n - len(a.facts))
    pending = dict(a.pending)
    fresh = target >= n
    moved = b.rows[fresh]
    b_facts = b.facts + [None] * (m - len(b.facts))
    b.facts = b_facts
    for row in np.flatnonzero(~fresh).tolist():
        into = int(target[row])
        # Bytes behind what an earlier part had are no other place's evidence of the same.
        same = together or (b.rows["proto"][row] == tcpstate.TCP and more[row][0] >= merge_rows.ANCHORED)
        better = bool(same and _ranked(more[row], trust == 2) > _ranked(worth[into], trust == 1))
        _join_evidence(a, pending, facts, into, b, row, together, better)
        if better:
            worth[into] = more[row]
    outer = moved["outer"]
    moved["outer"] = np.where(outer >= 0, target[np.maximum(outer, 0)], -1)
    facts.extend(b_facts[row] for row in np.flatnonzero(fresh).tolist())
    pending.update({int(target[row]): kept for row, kept in b.pending.items() if fresh[row]})
    assert joined == m - int(fresh.sum())  # noqa: S101
    return TrackedPart(
        np.concatenate([a.rows, moved]),
        facts,
        pending,
        min((ns for ns in (a.first_ns, b.first_ns) if ns is not None), default=None),
        max((ns for ns in (a.last_ns, b.last_ns) if ns is not None), default=None),
        a.skipped + b.skipped,
        a.evicted + b.evicted,
        _added(a.hits, b.hits),
        places,
        _joined_samples(a, b, target, ahead),
        a.early,
        [kept for kept in a.late if kept[0] >= (b.last_ns or 0) - limits.far_s * 1e9] + b.late,
        _joined_views(a, b),
        _joined_sights(a, b, target, before),
        quotes=_joined_quotes(a, b, ahead),
        odds=_joined_odds(a, b, target),
        second={**{int(target[row]): told for row, told in b.second.items()}, **a.second},
    )


def _joined_odds(a: TrackedPart, b: TrackedPart, target: NDArray[np.int64]) -> Array:
    theirs = b.odds.copy()
    theirs["row"] = target[theirs["row"]]
    return np.concatenate([a.odds, theirs])[: 16 * ODDS_KEPT]


def _joined_quotes(a: TrackedPart, b: TrackedPart, ahead: int) -> Array:
    """What errors quote in both, in the clock of ``a``."""
    theirs = b.quotes.copy()
    theirs["ts_ns"] -= ahead
    return np.concatenate([a.quotes, theirs])[: 16 * QUOTES]


def _by_clock(ts_ns: int | None, ahead_ns: int) -> int | None:
    return None if ts_ns is None else ts_ns - ahead_ns


def _set_clock(rows: Array, ahead_ns: int) -> None:
    """Take rows whose clock is so far ahead back to the right one."""
    for times in (rows["first_ns"], rows["last_ns"], rows["side"]["fin_ns"], rows["side"]["rst_ns"]):
        times[times != NEVER] -= ahead_ns


def _renumbered(masks: NDArray[np.uint64], old: Sequence[int], new: Sequence[int]) -> NDArray[np.uint64]:
    """Masks with each old bit at its new place; places beyond the 64th share the last bit."""
    out = np.zeros_like(masks)
    for here, there in zip(old, new, strict=True):
        out |= ((masks >> np.uint64(min(here, 63))) & np.uint64(1)) << np.uint64(min(there, 63))
    return out


def _unite_places(a: TrackedPart, b: TrackedPart) -> tuple[tuple[int, int], ...]:
    """The places of both; those of ``b`` are numbered behind those of ``a``."""
    places = [*a.places, *(place for place in b.places if place not in a.places)]
    new = [places.index(place) for place in b.places]
    if new != list(range(len(new))):
        b.rows["captures"] = _renumbered(b.rows["captures"], range(len(new)), new)
        b.sights["places"] = _renumbered(b.sights["places"], range(len(new)), new)
        b.samples["place"] = np.array(new, np.int32)[b.samples["place"]]
    return tuple(places)


def _compare_clocks(a: TrackedPart, b: TrackedPart, mine: Array, theirs: Array) -> int:
    """How far the clock of ``b`` is to be set back to be that of ``a``, as far as packets tell that both saw; its captures say so.

    0 where they agree: by less than a millisecond, what is told of clocks says more of queues and cards.
    """
    if not mine.size:
        return 0
    ahead, delay = duplicates.ahead_ns(mine, theirs)
    which, counts = np.unique(mine["place"], return_counts=True)
    return _told_clock(a, b, int(which[np.argmax(counts)]), ahead, int(mine.size), delay)


def _told_clock(a: TrackedPart, b: TrackedPart, place: int, ahead: int, shared: int, delay: int | None = None) -> int:
    """Note that the clock of ``b`` is so far ahead of that of a place of ``a``, as so many packets tell; how far it is to be set back."""
    against = a.places[place][0]
    against = next((k for k in (against, *a.views) if k in a.views and a.views[k].against is None), against)
    for capture, view in b.views.items():
        if capture not in a.views and view.against is None:
            view.against, view.ahead_ns, view.delay_ns, view.shared = against, ahead, delay, shared
    return ahead if abs(ahead) > AGREEING_NS else 0


def _openings_apart(a: TrackedPart, b: TrackedPart) -> tuple[int, int] | None:
    """How far the clock of ``b`` is ahead where packets do not tell, but SYNs with the same initial sequence number are in both, and how many those are.

    None where there are none, or times agree and most connections are in one alone.
    """
    if _one_capture(a, b):
        return None
    here, there = np.zeros(len(a.rows), np.uint64), np.zeros(len(b.rows), np.uint64)
    merge_rows.attempts(a.rows, len(a.rows), here)
    merge_rows.attempts(b.rows, len(b.rows), there)
    both, mine, theirs = np.intersect1d(here, there, return_indices=True)
    shared = both != 0
    if not shared.any():
        return None
    ahead = int(np.median(b.rows["first_ns"][theirs[shared]] - a.rows["first_ns"][mine[shared]]))
    count = int(shared.sum())
    most = count * 2 > min(np.count_nonzero(here), np.count_nonzero(there))
    return (ahead, count) if most or abs(ahead) > OUT_OF_ORDER_NS else None


DISORDER = 0.1
"""Two places differ in how well they keep the order of packets where so much more of the connections have some out of order."""


def _better_ordered(a: TrackedPart, b: TrackedPart) -> int:
    """Whose times and order of packets are those of the wire: 1 of ``a``, 2 of ``b``, 0: both are as good."""
    share = []
    for rows in (a.rows, b.rows):
        count = np.zeros(2, np.int64)
        merge_rows.disorder(rows, len(rows), count)
        # Where no segment has numbers, nothing shows that their order was kept.
        share.append(count[0] / count[1] if count[1] else 1.0)
    if abs(share[0] - share[1]) < DISORDER:
        return 0
    return 1 if share[0] < share[1] else 2


def _had_before(a: TrackedPart, b: TrackedPart, vector: NDArray[np.int64]) -> Array:
    """Those of the first packets of ``b`` that ``a`` ended with; the rows that they began are asked after in ``a``."""
    again = np.zeros(len(b.early), np.uint8)
    told = np.zeros(len(b.early), np.bool_)
    for _, prints in a.late:
        duplicates.recall(
            prints, b.early, len(b.early), vector[tcpstate.L_NEAR_TICKS], vector[tcpstate.L_FAR_TICKS], again
        )
        told |= again != 0
    found = b.early[told]
    b.rows["state"][found["row"]] |= ROW_FIRST
    return found


def _take_back(b: TrackedPart, again: Array, twice: NDArray[np.int64]) -> None:
    """Take packets that the part before it had out of the counts of ``b``; ``twice``, per row and side, gets their payload."""
    for one in again:
        row, which, size = int(one["row"]), int(one["side"]), int(one["wire"])
        side = b.rows["side"][row : row + 1, which]
        side["pkts"] -= 1
        side["copies"] += 1
        side["ip_bytes"] -= one["bytes"]
        side["payload_bytes"] -= size
        twice[row, which] += size
        if b.rows["proto"][row] != tcpstate.TCP:
            side["end"] -= size
            _cut_head(b.pending.get(row), which, size)


def _cut_head(pending: tuple[Array, list[bytes | None]] | None, which: int, size: int) -> None:
    """Take the first datagram out of a held head of datagrams, if it has that size."""
    if pending is None or pending[1][which] is None or not size:
        return
    heads, data = pending
    head, text = heads[which], data[which] or b""
    n = int(head["n_segments"])
    edges = [*head["segment_at"][1:n].tolist(), int(head["filled_bytes"])]
    if n and edges[0] == size:
        head["n_segments"] = n - 1
        head["segment_at"][: n - 1] = head["segment_at"][1:n] - size
        head["segment_frame"][: n - 1] = head["segment_frame"][1:n].copy()
        head["filled_bytes"] -= size
        data[which] = text[size:] or None


def _joined_samples(a: TrackedPart, b: TrackedPart, target: NDArray[np.int64], ahead: int) -> Array:
    """Samples of both, in the clock of ``a``."""
    theirs = b.samples.copy()
    theirs["row"] = target[theirs["row"]]
    theirs["ts_ns"] -= ahead
    both = np.concatenate([a.samples, theirs])
    # Places that were seen later must find what they share: the same choice for all, so that no more are kept than of one.
    mask = np.uint64(0)
    while both.size > 4 * duplicates.SAMPLES:
        mask = (mask << np.uint64(1)) | np.uint64(1)
        both = both[(both["print"] >> np.uint64(14)) & mask == 0]
    return both


def _joined_views(a: TrackedPart, b: TrackedPart) -> dict[int, View]:
    views = dict(a.views)
    for capture, view in b.views.items():
        known = views.setdefault(capture, view)
        if known is not view:  # two parts of one capture
            known.doubled += view.doubled
            known.apart_ns = view.apart_ns if known.apart_ns is None else known.apart_ns
    return views


def _missed(rows: Array) -> NDArray[np.int64]:
    """Payload bytes that each connection is known to lack."""
    out = np.zeros(len(rows), np.int64)
    merge_rows.missed_all(rows, len(rows), out)
    return out


def _seen_so(rows: Array, which: NDArray[np.int64]) -> Array:
    """Those rows as their places saw them."""
    out = np.zeros(which.size, SIGHT)
    taken = rows[which]
    out["row"], out["places"] = which, taken["captures"]
    out["pkts"], out["missed"] = taken["side"]["pkts"], _missed(taken)
    return out


def _sights(a: TrackedPart, b: TrackedPart, found: NDArray[np.int64]) -> tuple[Array, Array]:
    """Of connections that are in both parts: what was seen of each before they are joined."""
    theirs = np.flatnonzero(found >= 0)
    mine = np.setdiff1d(found[theirs], a.sights["row"])
    return _seen_so(a.rows, mine), _seen_so(b.rows, np.setdiff1d(theirs, b.sights["row"]))


def _joined_sights(
    a: TrackedPart, b: TrackedPart, target: NDArray[np.int64], before: tuple[Array, Array] | None
) -> Array:
    theirs = [b.sights, before[1]] if before else [b.sights]
    moved = np.concatenate(theirs)
    moved["row"] = target[moved["row"]]
    return np.concatenate([a.sights, *(before[:1] if before else ()), moved])


def _added(a: dict[str, int], b: dict[str, int]) -> dict[str, int]:
    return {name: a.get(name, 0) + b.get(name, 0) for name in {**a, **b}}


def lacking(rows: Array) -> NDArray[np.int64]:
    """How many bytes each connection is known to lack; a direction of which nothing was seen counts as the most."""
    total: NDArray[np.int64] = _missed(rows) + (np.where(rows["side"]["pkts"] == 0, 1 << 40, 0)).sum(axis=1)
    return total


def _worth(rows: Array) -> NDArray[np.int64]:
    """What the evidence of each row is worth beside that of another place: see ``merge_rows.worth_all``."""
    out = np.zeros((len(rows), 3), np.int64)
    merge_rows.worth_all(rows, len(rows), out)
    return out


def _ranked(worth: list[int], trusted: bool) -> tuple[int, int, bool, int]:
    """A row's worth as it is compared; ``trusted``: its place keeps the better order, over all connections."""
    first_bytes, bytes_in_all, ordered = worth
    return first_bytes, bytes_in_all, trusted, ordered


def _join_evidence(
    a: TrackedPart,
    pending: dict[int, tuple[Array, list[bytes | None]]],
    facts: list[Any],
    row: int,
    b: TrackedPart,
    later: int,
    together: bool,
    better: bool,
) -> None:
    """What two parts know of a connection's first bytes: those that wait in both are put together; else that stands which is worth more.

    One that holds all that the other has is taken alone: who spoke when, and what was sent at once, is known within one capture only. Datagrams have no numbers, so of those that two places saw (``together``) one place's are taken. ``better``: ``b``'s is worth more.
    """
    a_row, b_row = a.rows[row], b.rows[later]
    mine, theirs = row in pending, later in b.pending
    if mine and theirs and (a_row["proto"] == tcpstate.TCP or not together):
        # Parts of one capture go on where the other ended: nothing of either is left out.
        apart = a_row["proto"] == tcpstate.TCP and not _one_capture(a, b)
        alone = _sufficient(a, pending[row], row, b, later, better) if apart else 0
        if alone == 2:
            pending.pop(row)
        if alone != 1:
            _join_heads(a, pending, row, b, later)
        return
    examined = mine or a_row["application"] >= 0, theirs or b_row["application"] >= 0
    if not examined[1] or (examined[0] and not better):
        return
    pending.pop(row, None)
    a_row["application"], a_row["client_side"] = b_row["application"], b_row["client_side"]
    a_row["head_bytes"] = b_row["head_bytes"]
    a_row["state"] = (a_row["state"] & ~np.uint8(ROW_RELEASED)) | (b_row["state"] & np.uint8(ROW_RELEASED))
    facts[row] = b.facts[later]
    if theirs:
        _join_heads(a, pending, row, b, later)


_Heads = tuple[Array, list[bytes | None]]


def _sufficient(a: TrackedPart, pending: _Heads, row: int, b: TrackedPart, later: int, better: bool) -> int:
    """Whose first bytes of a stream hold all that the other's do: 1 ``a``'s, 2 ``b``'s, 0: both are needed. ``better``: if both do, ``b``'s are worth more."""
    at = [int(end["head_base"]) for end in a.rows["side"][row]]
    there = [
        int(theirs["head_base"]) + merge_rows.moved(mine, theirs)
        for mine, theirs in zip(a.rows["side"][row], b.rows["side"][later], strict=True)
    ]
    mine, theirs = (pending, at), (b.pending[later], there)
    enough = [_holds(*mine, *theirs), _holds(*theirs, *mine)]
    if all(enough):
        several = _captures_of(pending[0]), _captures_of(b.pending[later][0])
        return 1 if several[0] < several[1] or (several[0] == several[1] and not better) else 2
    return 1 if enough[0] else 2 if enough[1] else 0


def _holds(one: _Heads, at: list[int], other: _Heads, there: list[int]) -> bool:
    """Whether heads of a stream, which begin ``at`` these places, have all bytes of others and tell of as many records behind them."""
    for side in range(2):
        if other[1][side] is None:
            continue
        if one[1][side] is None:
            return False
        mine, theirs = one[0][side], other[0][side]
        moved = there[side] - at[side]
        stretches = _stretches(mine)
        for begin, stop in _stretches(theirs):
            start, end = begin + moved, min(stop + moved, HEAD_BYTES)
            if start < end and not any(low <= start and end <= high for low, high in stretches):
                return False
            if mine["trail"] == TRAIL_RUNS and stop + moved > max(int(mine["trail_next"]), HEAD_BYTES):
                return False  # what is followed behind the first bytes goes on there
        followed = mine["trail"] in TOLD_TRAILS and mine["trail_next"] >= theirs["trail_next"] + moved
        if theirs["trail"] in TOLD_TRAILS and not followed:
            return False
    return True


def _stretches(head: Any) -> list[tuple[int, int]]:
    """The bytes that a head has."""
    n = int(head["n_ranges"])
    pairs = zip(head["range_from"][:n].tolist(), head["range_to"][:n].tolist(), strict=True)
    return [(0, int(head["filled_bytes"])), *pairs]


def _captures_of(heads: Array) -> int:
    """Of how many captures the frames of both directions are."""
    return len({int(frame) >> FRAME_BITS for head in heads for frame in head["segment_frame"][: head["n_segments"]]})


def _join_heads(
    a: TrackedPart,
    pending: dict[int, tuple[Array, list[bytes | None]]],
    row: int,
    b: TrackedPart,
    later: int,
) -> None:
    """Put first bytes that wait in a later part to those that wait of the earlier one."""
    theirs = b.pending[later]
    a_row, b_row = a.rows[row], b.rows[later]
    heads, data = pending.get(row) or (np.zeros(2, HEAD), [None, None])
    pending[row] = heads, data
    stream = a_row["proto"] == tcpstate.TCP
    scratch = np.zeros(HEAD_BYTES, np.uint8)
    for side in range(2):
        more = theirs[1][side]
        if more is None:
            continue
        end, later_end = a_row["side"][side], b_row["side"][side]
        carried = int(end["end"] - later_end["end"])
        if data[side] is not None and not stream:
            # The head is the first datagram alone, or the first ones of a handshake.
            head = heads[side]
            lacks = head["filled_bytes"] != carried or head["n_segments"] == HEAD_SEGMENTS or carried >= HEAD_BYTES
            if lacks or not a_row["state"] & ROW_HANDSHAKE:
                continue
        anchored = bool(end["seen"] & (SEEN_SYN | SEEN_SYNACK)) and stream
        position = int(later_end["head_base"])
        if stream:
            position += merge_rows.moved(end, later_end)
        elif data[side] is not None:
            position += carried
        if data[side] is None:
            # Before this the side was silent: its head starts behind the SYN, or with these bytes.
            end["head_base"] = end["start"] if anchored else position
        have = data[side] or b""
        first, second = ((int(each[side]["sender"]), int(each[side]["ttl"])) for each in (heads, theirs[0]))
        if data[side] is None:
            heads[side]["sender"], heads[side]["ttl"] = second
        elif anchored and tcpstate.from_elsewhere(*first, *second):
            a_row["odd"] |= 1 << ODD_SENDER
            frames = (theirs[0][side]["segment_frame"][0], heads[side]["segment_frame"][0])
            a.odds = np.concatenate([a.odds, np.array([(row, *frames, side, ODD_SENDER)], ODD)])
        scratch[: len(have)] = np.frombuffer(have, np.uint8)
        if anchored and end["head_base"] > end["start"]:
            # The later part brought the SYN: the stream begins right behind it.
            merge_rows.shift(heads[side : side + 1], scratch, int(end["head_base"] - end["start"]))
            end["head_base"] = end["start"]
        merge_rows.lay(
            heads[side : side + 1],
            scratch,
            theirs[0][side : side + 1],
            np.frombuffer(more, np.uint8),
            position - int(end["head_base"]),
            anchored,
        )
        _join_trails(
            heads[side : side + 1],
            scratch,
            theirs[0][side : side + 1],
            np.frombuffer(more, np.uint8),
            position - int(end["head_base"]),
            anchored,
        )
        if not anchored:
            end["head_base"] = min(int(end["head_base"]), position)
        ranges = heads[side]["range_to"][: heads[side]["n_ranges"]]
        data[side] = scratch[: max([int(heads[side]["filled_bytes"]), *map(int, ranges)])].tobytes()
    a_row["head_bytes"] = [int(heads[side]["filled_bytes"]) for side in range(2)]


def _join_trails(mine: Array, data: Array, theirs: Array, more: Array, offset: int, anchored: bool) -> None:
    """What follows a full head: of the same beginning, whoever saw more; else this one's, as far as the bytes of the later one's head go."""
    told = [head["trail_next"][0] if head["trail"][0] in TOLD_TRAILS else -1 for head in (mine, theirs)]
    if offset == 0 and told[1] > told[0]:
        for name in TRAIL_FIELDS:
            mine[name] = theirs[name]
    elif offset >= 0:
        merge_rows.go_on_behind(mine, data, theirs, more, offset, not anchored)


def examine_held(part: TrackedPart, examiner: Examiner) -> None:
    """Examine the heads that waited for other parts, some at a time."""
    at_once = 512
    waiting = sorted(part.pending.items())
    if not waiting:
        return
    rows = part.rows
    arena = np.zeros((at_once * 2, HEAD_BYTES), np.uint8)
    heads = np.zeros(at_once * 2, HEAD)
    for start in range(0, len(waiting), at_once):
        some = waiting[start : start + at_once]
        queue = np.array([row for row, _ in some], np.int64)
        for k, (row, (kept, data)) in enumerate(some):
            for side in range(2):
                slot = k * 2 + side
                text = data[side]
                rows["side"]["slot"][row, side] = -1 if text is None else slot
                if text is not None:
                    heads[slot] = kept[side]
                    arena[slot, : len(text)] = np.frombuffer(text, np.uint8)
        n = len(some)
        pairs, ports = np.zeros((n, 2), np.int32), np.zeros((n, 2), np.int32)
        known, transport = np.zeros(n, np.int8), np.zeros(n, np.uint8)
        tcpstate.seal(
            rows, queue, n, heads, arena.reshape(-1).view(np.uint64), pairs, known, ports, transport, HEAD_BYTES
        )
        examined = examiner.examine(arena, heads, pairs, known, transport, ports)
        rows["application"][queue] = examined.application
        rows["client_side"][queue] = examined.client_side
        _put_facts(part.facts, queue, examined.facts)
        rows["side"]["slot"][queue] = -2
    part.pending.clear()


# Directions and the table


def decide_originators(part: TrackedPart) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Which side (0, 1) opened each connection, and how that is known (index into DIRECTION_BY).

    The SYN decides; without one the content of the first bytes; then which end answered a SYN anywhere in these packets; what is left is
    a guess (whoever was seen first), which the policy may correct.
    """
    rows = part.rows
    n = len(rows)
    side = np.zeros(n, np.uint8)
    by = np.full(n, BY_GUESS, np.uint8)
    if n == 0:
        return side, by
    merge_rows.openers(rows, n, side, by)
    seen = rows["side"]["seen"]
    tcp = rows["proto"] == tcpstate.TCP
    open_question = np.flatnonzero((by == BY_GUESS) & tcp)
    if open_question.size:
        answered = (seen & SEEN_SYNACK) != 0
        listens = answered[:, 0] & (side == 1), answered[:, 1] & (side == 0)
        inside = rows["outer"] >= 0
        # What a tunnel carries its sender made up: it says nothing of who listens outside of it.
        for where in (~inside, inside):
            asking = open_question[where[open_question]]
            if not asking.size:
                continue
            listeners = np.concatenate([_ends(rows[each & where], which) for which, each in enumerate(listens)])
            first, second = (np.isin(_ends(rows[asking], which), listeners) for which in range(2))
            told = first != second
            side[asking[told]] = np.where(first[told], 1, 0)
            by[asking[told]] = BY_LISTENER
    return side, by


def _ends(rows: Array, side: int) -> Array:
    """Address and port of one side as comparable bytes."""
    packed = np.zeros(len(rows), np.dtype([("hi", ">u8"), ("lo", ">u8"), ("port", ">u2")]))
    which = "ab"[side]
    packed["hi"], packed["lo"], packed["port"] = rows[f"{which}_hi"], rows[f"{which}_lo"], rows[f"{which}_port"]
    return packed.view("V18")


def build_table(
    part: TrackedPart, orig_side: NDArray[np.uint8], by: NDArray[np.uint8], applications: tuple[str, ...]
) -> ConnectionTable:
    """The table of connections, in order of start; ``orig_side`` and ``by`` as ``decide_originators`` gives them (or the policy corrected them)."""
    rows = part.rows
    order = in_order(rows)
    n = len(rows)
    back = np.empty(n, np.int64)
    back[order] = np.arange(n)
    book = _AddressBook(n)
    columns = _columns(part, order, orig_side, by, applications, book)
    rank, addresses, versions = book.sorted()
    sights = part.sights.copy()
    sights["pkts"] = np.where(orig_side[sights["row"], None] == 1, sights["pkts"][:, ::-1], sights["pkts"])
    sights["row"] = back[sights["row"]]
    odds = part.odds.copy()
    odd = _without_other_places(rows)
    odds = odds[odd[odds["row"]] >> odds["kind"] & 1 != 0]
    odds["side"] = np.where(orig_side[odds["row"]] == 1, 1 - odds["side"], odds["side"])
    odds["row"] = back[odds["row"]]
    outer = columns["outer"]
    if (outer >= 0).any():
        columns["outer"] = np.where(outer >= 0, back[np.maximum(outer, 0)], -1)
    for name in ("orig_h", "resp_h"):
        columns[name] = rank[columns[name]]
    return ConnectionTable(
        **columns,
        sights=sights[np.argsort(sights["row"], kind="stable")],
        translated={
            int(back[row]): replace(
                each,
                other=int(back[each.other]),
                compared=each.compared if orig_side[row] == 0 else each.compared[::-1],
            )
            for row, each in part.translations.items()
        },
        addresses=addresses,
        ip_versions=versions,
        applications=applications,
        facts=_in_order(part.facts, order),
        stream_bytes=_lengths(rows["side"], order, orig_side),
        odd=odd[order],
        odds=odds[np.argsort(odds["row"], kind="stable")],
        second={int(back[row]): told for row, told in part.second.items()},
    )


def _without_other_places(rows: Array) -> NDArray[np.uint16]:
    """What contradicts itself in each connection; of one that was seen at several places not that its packets came different ways."""
    odd: NDArray[np.uint16] = rows["odd"].copy()
    odd[rows["side"]["copies"].sum(axis=1) > 0] &= ~np.uint16(1 << ODD_SENDER)
    return odd


def _lengths(sides: Array, order: NDArray[np.int64], orig_side: NDArray[np.uint8]) -> NDArray[np.int64]:
    # A FIN takes a number that is no byte: a part that saw it acknowledged, and not the FIN, counted one.
    ends = np.where(sides["fin_at"] > NOWHERE, np.minimum(sides["end"], sides["fin_at"]), sides["end"])
    lengths: NDArray[np.int64] = np.maximum(ends - sides["start"], 0)[order]
    turned = orig_side[order] == 1
    lengths[turned] = lengths[turned, ::-1]
    return lengths


def in_order(rows: Array) -> NDArray[np.int64]:
    """The order of the table: by time, and then by what does not depend on how the packets were cut into parts."""
    times = np.ascontiguousarray(rows["first_ns"])
    order: NDArray[np.int64] = np.argsort(times, kind="stable")
    sorted_times = times[order]
    same = sorted_times[1:] == sorted_times[:-1]
    tied = np.zeros(len(rows), np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    # Few connections begin in the same nanosecond: only they are looked at once more.
    some = order[tied]
    few = rows[some]
    order[tied] = some[np.lexsort((few["b_port"], few["a_port"], few["b_lo"], few["a_lo"], few["first_ns"]))]
    return order


SOME_ROWS = 4_096


class _AddressBook:
    """Distinct addresses, numbered as they come."""

    def __init__(self, rows: int) -> None:
        self.table = np.full(1 << max(int(4 * rows).bit_length(), 4), -1, np.int32)
        self.hi, self.lo = np.zeros(2 * rows + 1, np.uint64), np.zeros(2 * rows + 1, np.uint64)
        self.version = np.zeros(2 * rows + 1, np.uint8)
        self.count = 0

    def number(self, rows: Array) -> NDArray[np.int32]:
        """int32[n, 2]: the numbers of side 0 and 1 of each row."""
        ends = np.zeros((len(rows), 2), np.int32)
        self.count = merge_rows.distinct_addresses(
            rows, len(rows), self.table, self.hi, self.lo, self.version, ends, self.count, flowkey.SECRET
        )
        return ends

    def sorted(self) -> tuple[NDArray[np.int32], tuple[int, ...], tuple[int, ...]]:
        """Rank of each number, and addresses and IP versions in their order: the same however the connections came."""
        hi, lo = self.hi[: self.count], self.lo[: self.count]
        order = np.lexsort((lo, hi))
        rank = np.empty(self.count, np.int32)
        rank[order] = np.arange(self.count, dtype=np.int32)
        pairs = zip(hi[order].tolist(), lo[order].tolist(), strict=True)
        addresses = tuple((int(high) << 64) | int(low) for high, low in pairs)
        return rank, addresses, tuple(self.version[: self.count][order].tolist())


def _unseen(sides: Array) -> NDArray[np.bool_]:
    """Directions of which no byte was seen, and some may have been: the other end acknowledged them, or their beginning was not seen."""
    known = (sides["payload_bytes"] == 0) & (sides["seen"] & HAS_BASE != 0)
    begun = sides["seen"] & (SEEN_SYN | SEEN_SYNACK) != 0
    return np.asarray(known & (~begun | (sides["acked"] > sides["start"] + 1)))


def _columns(
    part: TrackedPart,
    order: NDArray[np.int64],
    orig_side: NDArray[np.uint8],
    by: NDArray[np.uint8],
    applications: tuple[str, ...],
    book: _AddressBook,
) -> dict[str, Array]:
    """Columns of the table; ``outer`` still names records, addresses are the book's numbers."""
    n = len(order)
    numbers = np.empty((len(merge_rows.NUMBERS), n), np.int64)
    sides = np.empty((len(merge_rows.ENDS), n), np.int32)
    found: dict[str, Array] = dict(zip(merge_rows.NUMBERS, numbers, strict=True))
    found |= zip(merge_rows.ENDS, sides, strict=True)
    for kind, names in _OTHERS.items():
        found |= {name: np.zeros(n, kind) for name in names}
    found["direction_by"] = by[order]
    codes = [applications.index(name) if name in applications else -1 for name in ("none", "unknown", "ipsec")]
    # Some rows at a time, few enough for the cache: a sorted copy of all records would double the memory of a large audit.
    some = np.empty(min(SOME_ROWS, n), CONN)
    messages = np.empty((some.size, 128), np.uint8)
    for start in range(0, n, SOME_ROWS):
        at = order[start : start + SOME_ROWS]
        m = at.size
        rows = part.rows.take(at, out=some[:m], mode="clip")
        side, here = orig_side[at], slice(start, start + m)
        merge_rows.finish_rows(
            rows,
            m,
            side,
            by[at] != BY_SYN,
            found["conn_state"][here],
            found["history"][here],
            found["missed_bytes"][here],
            found["incomplete"][here],
            found["established"][here],
            found["closed_by"][here],
        )
        merge_rows.tabulate(
            rows,
            m,
            start,
            side,
            np.array(codes, np.int64),
            book.number(rows),
            numbers,
            sides,
            found["captures"],
            found["proto"],
            found["tunnel"],
            found["tunnel_id"],
            found["application"],
            found["incomplete"],
            found["first_bytes"],
        )
        _identify(rows, side, messages[:m], found["community_id"][here], found["id"][here])
    for name in ("id", "community_id", "history"):
        texts = found[name]
        found[name] = texts.view(f"S{texts.shape[1]}").reshape(n)
    return found


_LETTERS = np.dtype((np.uint8, 20)), np.dtype((np.uint8, 30)), np.dtype((np.uint8, 32))
_OTHERS: dict[Any, tuple[str, ...]] = {
    np.uint8: ("proto", "tunnel", "conn_state", "incomplete", "closed_by"),
    np.bool_: ("established", "first_bytes"),
    np.int16: ("application",),
    np.uint32: ("tunnel_id",),
    np.int64: ("missed_bytes",),
    np.uint64: ("captures",),
    **dict(zip(_LETTERS, (("id",), ("community_id",), ("history",)), strict=True)),
}
"""Columns of the table that kernels write into arrays of their own."""


def _in_order(facts: list[Any], order: NDArray[np.int64]) -> tuple[Any, ...]:
    n, known = order.size, len(facts)
    if known == 0:
        return (None,) * n
    return tuple([facts[row] if row < known else None for row in order.tolist()])


def _identify(rows: Array, orig_side: NDArray[np.uint8], messages: Array, community: Array, ids: Array) -> None:
    """Community ID and our own id of each row, as ASCII into ``community`` (uint8[n, 30]) and ``ids`` (uint8[n, 20]); ``messages`` is room for what is hashed."""
    n = len(rows)
    lengths, digests = np.zeros(n, np.int64), np.zeros((n, 20), np.uint8)
    merge_rows.community_messages(rows, n, messages, lengths)
    flowkey.sha1_rows(messages, lengths, digests)
    merge_rows.community_text(digests, community)
    merge_rows.id_messages(rows, n, orig_side, messages, lengths)
    flowkey.sha1_rows(messages, lengths, digests)
    merge_rows.hex_text(digests, ids)
