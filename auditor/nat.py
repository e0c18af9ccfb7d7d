"""The same connection on the two sides of a NAT, and how far the packets prove that.

The rules that hold here:

- Both initial sequence numbers are equal (64 bits that nobody chooses, RFC 6528), and streams that reach as far, at the same time, between other hosts. Who
  sends packets can copy all that. So an address that is exchanged for another must be ``foreign`` on one side: two VMs of the platform, or a
  stranger in its networks, are never taken for each other; and an end that keeps its address keeps its port.
- The first bytes are compared by what the tracker kept of them. Then the captures are read once more, and both streams of both connections are compared to
  their end, piece by piece, by digests under a key of this very run. Two that differ anywhere, or whose own segments contradict each other, are two
  connections, and each is judged.
- Where captures cannot be read again (a pipe, a running capture), or lack bytes, it is said how far the streams were compared.
- Both connections stay in the table. One is judged with all that was seen of both: that with more ends that are ``known``, of two alike the one seen first. The other says which one that is.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from auditor.capture import open_capture
from auditor.conntrack import TrackedPart, TrackLimits, lacking
from auditor.decode import Decoder, guess_link_type, relinked
from auditor.errors import InputError
from auditor.kernels import merge_rows, tcpstate
from auditor.model.connections import NOWHERE, SEEN_SYN, SEEN_SYNACK, Translation
from auditor.model.limits import DEFAULTS, Limits

Source = str | BinaryIO
Array = NDArray[Any]

NAT_NS = 5_000_000_000
"""Both sides of a NAT are captured within this time, clocks that differ included."""
MOST_SIDES = 8
"""Numbers that more connections than this have in common prove nothing."""
STEP_BYTES = 4_096
"""Streams are compared in pieces of this size."""
BEHIND_BYTES = 1 << 18
"""So much of each stream is kept, to see whether what is sent again says the same."""
AHEAD_BYTES, AHEAD_SEGMENTS = 1 << 20, 4_096
"""... and so much that came before its turn."""
ALL_BYTES = 256 << 20
"""... and so much of all of them together; streams that come then are not compared."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the captures are read a second time."""

    sources: Sequence[Source] = ()
    """In the order of their packets."""
    link_type: int | None = None
    limits: Limits = DEFAULTS


def merge_nat(
    part: TrackedPart, known: Callable[[int], bool], foreign: Callable[[int], bool], reading: Reading | None = None
) -> None:
    """Put into ``part.translations`` which connections are the same on the two sides of a NAT, and what was seen of both to the one that is judged.

    ``known``: addresses of the inventory; ``foreign``: those that are none of the platform's. For a part whose heads were examined.
    """
    pairs: list[tuple[int, int]] = []
    for group in _same_numbers(part.rows):
        ranked = sorted(
            group, key=lambda row: (-_known_ends(part.rows[row], known), int(part.rows["first_ns"][row]), row)
        )
        pairs += [
            (ranked[0], other)
            for other in ranked[1:]
            if _is_translation(part.rows[ranked[0]], part.rows[other], foreign)
        ]
    if not pairs:
        return
    proven = _Comparison(part.rows, pairs, reading or Reading()).result()
    poorer = lacking(part.rows)
    part.facts.extend([None] * (len(part.rows) - len(part.facts)))
    for kept, other in pairs:
        found = proven[kept, other]
        if found is None:
            continue
        bytes_of, whole = found
        turned = _opener_of(part.rows[kept]) != _opener_of(part.rows[other])
        part.translations.setdefault(kept, Translation(other, True, bytes_of, whole))
        part.translations[other] = Translation(kept, False, bytes_of[::-1] if turned else bytes_of, whole)
        _fold(part, kept, other, turned, bool(poorer[kept] > poorer[other]))


def _same_numbers(rows: Array) -> list[list[int]]:
    """Groups of TCP connections that have both initial sequence numbers in common."""
    both = np.zeros(len(rows), np.uint64)
    merge_rows.openings(rows, len(rows), both)
    which = np.flatnonzero(both)
    both = both[which]
    ranked = np.sort(both)
    # Most captures have none, and that is told by the quicker way to sort.
    if not (ranked[1:] == ranked[:-1]).any():
        return []
    order = np.argsort(both, kind="stable")
    same = both[order][1:] == both[order][:-1]
    starts = np.flatnonzero(same & ~np.concatenate([[False], same[:-1]]))
    ends = np.flatnonzero(same & ~np.concatenate([same[1:], [False]])) + 2
    groups = [which[order[start:end]].tolist() for start, end in zip(starts, ends, strict=True)]
    return [group for group in groups if len(group) <= MOST_SIDES]


def _ends_of(row: Any) -> tuple[int, int, int, int]:
    """Address and port of side 0 and of side 1."""
    a, b = (int(row["a_hi"]) << 64) | int(row["a_lo"]), (int(row["b_hi"]) << 64) | int(row["b_lo"])
    return a, int(row["a_port"]), b, int(row["b_port"])


def _known_ends(row: Any, known: Callable[[int], bool]) -> int:
    a, _, b, _ = _ends_of(row)
    return known(a) + known(b)


def _opener_of(row: Any) -> int:
    return 0 if row["side"]["seen"][0] & SEEN_SYN and row["side"]["seen"][1] & SEEN_SYNACK else 1


def _is_translation(one: Any, other: Any, foreign: Callable[[int], bool]) -> bool:
    """Whether records with the same initial sequence numbers may be one connection between other ends."""
    apart = max(one["first_ns"], other["first_ns"]) - min(one["first_ns"], other["first_ns"])
    tunnels = one["tunnel"] == other["tunnel"] and one["tunnel_id"] == other["tunnel_id"]
    hosts = [{ends[0], ends[2]} for ends in (_ends_of(one), _ends_of(other))]
    if apart > NAT_NS or not tunnels or hosts[0] == hosts[1]:
        return False
    sides, ends = other["side"], _ends_of(other)
    if _opener_of(one) != _opener_of(other):
        sides, ends = sides[::-1], (*ends[2:], *ends[:2])
    (here_a, port_a, here_b, port_b), (there_a, to_a, there_b, to_b) = _ends_of(one), ends
    for here, there, port, to in ((here_a, there_a, port_a, to_a), (here_b, there_b, port_b, to_b)):
        # An end that keeps its address keeps its port: a NAT has no reason to exchange it.
        if port != to if here == there else not (foreign(here) or foreign(there)):
            return False
    mine, theirs = one["side"]["head_sum"], sides["head_sum"]
    both = (mine != 0) & (theirs != 0)
    reach = [[_reaches(side) for side in each] for each in (one["side"], sides)]
    return bool(both.any() and (mine == theirs)[both].all() and reach[0] == reach[1])


def _reaches(side: Any) -> int:
    """How long the stream of a direction is, as far as its own packets and those of the other end tell; from its first byte, where its SYN was seen."""
    reached = max(int(side["end"]), int(side["acked"]), int(side["fin_at"])) - int(side["start"])
    # A FIN has a number of its own, which an acknowledgement may count.
    return reached - (1 if int(side["fin_at"]) > NOWHERE and int(side["acked"]) > int(side["fin_at"]) else 0)


def _fold(part: TrackedPart, kept: int, other: int, turned: bool, poorer: bool) -> None:
    """Add what was seen of record ``other`` to ``kept``, which is judged for both; ``poorer``: the other one saw more of the connection."""
    rows = part.rows
    later = rows[other : other + 1].copy()
    if turned:
        later["side"] = later["side"][:, ::-1].copy()
        later["first_side"] = 1 - later["first_side"]
        later["history"] ^= 1
        if later["client_side"][0] >= 0:
            later["client_side"] = 1 - later["client_side"]
    if poorer and later["application"][0] >= 0:
        rows["application"][kept], rows["client_side"][kept] = later["application"][0], later["client_side"][0]
        part.facts[kept] = part.facts[other]
    # What its bytes show is told once, of the connection that is judged.
    part.facts[other] = None
    part.second.pop(other, None)
    part.odds["row"][part.odds["row"] == other] = kept
    rows["odd"][other] = 0
    found, target = np.array([kept], np.int64), np.zeros(1, np.int64)
    limits = TrackLimits().vector()
    merge_rows.join_all(
        rows,
        later,
        1,
        found,
        True,
        limits[tcpstate.L_TCP_NS],
        limits[tcpstate.L_OTHER_NS],
        np.zeros((1, 2), np.int64),
        0,
        len(rows),
        target,
    )


# The streams, read once more


@dataclass(slots=True)
class _Walk:
    """One direction of a connection as one capture has it, in order from its first byte."""

    key: bytes
    next: int = 0
    """So many bytes are in the digest."""
    digests: list[bytes] = field(default_factory=list)
    """Of all bytes up to each STEP_BYTES."""
    differs: bool = False
    """Segments of it say different things of one byte."""
    stopped: bool = False
    """It is not known whether the rest is what was received."""
    _kept: bytearray = field(default_factory=bytearray)
    """The last bytes."""
    _early: dict[int, bytes] = field(default_factory=dict)
    _order: list[int] = field(default_factory=list)
    """Where those begin, as a heap."""
    _early_bytes: int = 0
    _hash: Any = None

    def take(self, at: int, data: bytes) -> int:
        """Bytes at a place of the stream; returns how many more are held."""
        if self.stopped or (len(data) == 1 and at == self.next - 1):
            # A probe of keep-alive holds a byte of no meaning: RFC 9293 section 3.8.4.
            return 0
        before = len(self._kept) + self._early_bytes
        if at > self.next:
            self._wait(at, data)
        else:
            self._go_on(at, data)
            while self._order and self._order[0] <= self.next:
                first = heapq.heappop(self._order)
                early = self._early.pop(first)
                self._early_bytes -= len(early)
                self._go_on(first, early)
        return len(self._kept) + self._early_bytes - before

    def _wait(self, at: int, data: bytes) -> None:
        known = self._early.get(at)
        if known is None:
            heapq.heappush(self._order, at)
            known = b""
        self.differs |= not data.startswith(known) and not known.startswith(data)
        self._early[at] = max(known, data, key=len)
        self._early_bytes += len(self._early[at]) - len(known)
        self.stopped = self._early_bytes > AHEAD_BYTES or len(self._order) > AHEAD_SEGMENTS

    def _go_on(self, at: int, data: bytes) -> None:
        again = data[: self.next - at]
        begin = self.next - len(self._kept)
        if at < begin:
            # Longer ago than what is kept: nobody can say whether it is the same.
            self.stopped = True
            return
        self.differs |= self._kept[at - begin : at - begin + len(again)] != again
        data = data[len(again) :]
        if self._hash is None:
            self._hash = blake2b(key=self.key, digest_size=16)
        while data:
            piece = data[: STEP_BYTES - self.next % STEP_BYTES]
            self._hash.update(piece)
            self._kept += piece
            self.next += len(piece)
            data = data[len(piece) :]
            if self.next % STEP_BYTES == 0:
                self.digests.append(self._hash.digest())
        if len(self._kept) > 2 * BEHIND_BYTES:
            del self._kept[:-BEHIND_BYTES]

    def agrees(self, other: _Walk) -> int | None:
        """So many bytes are the same in both; None: not all are."""
        shared = min(len(self.digests), len(other.digests))
        if self.differs or other.differs or self.digests[:shared] != other.digests[:shared]:
            return None
        if self.next == other.next:
            same = self._hash is None or other._hash is None or self._hash.digest() == other._hash.digest()
            return self.next if same else None
        return shared * STEP_BYTES


_ENDS = ("src_hi", "src_lo", "src_port", "dst_hi", "dst_lo", "dst_port", "tunnel", "tunnel_id")
_RUN_PACKETS = 32
"""So many packets at the most are taken together."""

_Key = tuple[int, int, int, int, int, int]
"""Address and port of who sends and who receives, kind and number of the tunnel."""


@dataclass(slots=True)
class _Flow:
    """One direction of a record."""

    row: int
    side: int
    first: int
    """Sequence number of its first byte."""
    walks: list[_Walk] = field(default_factory=list)
    capture: int = -1
    """The one that its last walk is of."""
    running: bool = False
    """Its own SYN was the last one of these ends."""


def _numbered(columns: Sequence[Array]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row the number of its combination of values, and the first row of each combination."""
    import pandas as pd  # where streams are compared, which few audits do

    codes = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, distinct = pd.factorize(column)
        codes = pd.factorize(codes * len(distinct) + values)[0]
    firsts = np.zeros(int(codes.max(initial=-1)) + 1, np.int64)
    firsts[codes[::-1]] = np.arange(len(codes) - 1, -1, -1)
    return codes, firsts


class _Comparison:
    """Both streams of connections that may be one."""

    def __init__(self, rows: Array, pairs: Sequence[tuple[int, int]], reading: Reading) -> None:
        self._rows, self._pairs, self._reading = rows, pairs, reading
        self._key = os.urandom(32)
        self._held = 0
        self._flows: dict[_Key, list[_Flow]] = {}
        self._of: dict[tuple[int, int], _Flow] = {}
        for row in sorted({row for pair in pairs for row in pair}):
            record = rows[row]
            a, a_port, b, b_port = _ends_of(record)
            tunnel = int(record["tunnel"]), int(record["tunnel_id"])
            for side, key in enumerate(((a, a_port, b, b_port, *tunnel), (b, b_port, a, a_port, *tunnel))):
                flow = _Flow(row, side, (int(record["side"]["isn"][side]) + 1) & 0xFFFFFFFF)
                self._of[row, side] = flow
                self._flows.setdefault(key, []).append(flow)
        self._ports = np.unique([key[1] << 16 | key[3] for key in self._flows])

    def result(self) -> dict[tuple[int, int], tuple[tuple[int, int], bool] | None]:
        """For each pair how many bytes of side 0 and 1 of its first record are the same in the second, and whether those are all; None: some are not."""
        for index, source in enumerate(self._reading.sources):
            if isinstance(source, str) and Path(source).is_file():
                try:
                    self._read(index, source)
                except InputError:
                    continue  # it is no longer what it was; what is not compared is told
        return {pair: self._compare(*pair) for pair in self._pairs}

    def _read(self, index: int, source: str) -> None:
        decoder = Decoder(max_depth=self._reading.limits.tunnel_depth)
        with open_capture(source, link_type=self._reading.link_type, limits=self._reading.limits) as reader:
            corrected: int | None = None
            for batch in reader.batches():
                if batch.first_frame_no == 1 and self._reading.link_type is None:
                    corrected = guess_link_type(batch)
                for packets in decoder.decode(batch if corrected is None else relinked(batch, corrected)):
                    self._feed(index, packets, batch.buf)

    def _feed(self, index: int, packets: Array, buf: NDArray[np.uint8]) -> None:
        wanted = packets["proto"] == tcpstate.TCP
        ports = packets["src_port"].astype(np.int64) << 16 | packets["dst_port"]
        wanted &= np.isin(ports, self._ports)
        wanted &= (packets["payload_bytes"] > 0) | (packets["flags"] & tcpstate.SYN != 0)
        some = packets[wanted]
        if not len(some):
            return
        of_packet, firsts = _numbered([some[name] for name in _ENDS])
        memory = buf.data
        for number, packet in enumerate(some[firsts]):
            src_hi, src_lo, src_port, dst_hi, dst_lo, dst_port, *tunnel = (int(packet[name]) for name in _ENDS)
            key = src_hi << 64 | src_lo, src_port, dst_hi << 64 | dst_lo, dst_port, tunnel[0], tunnel[1]
            for flow in self._flows.get(key, ()):
                self._follow(index, flow, some[of_packet == number], memory)

    def _follow(self, index: int, flow: _Flow, packets: Array, memory: memoryview) -> None:
        """Packets of one direction, in the order of the capture: those that go on where the one before ended together, so that little is done for each."""
        flags, seq = packets["flags"], packets["seq"].astype(np.int64)
        size = np.maximum(packets["payload_bytes"].astype(np.int64), 0)
        # A probe of keep-alive has one byte, and no packet continues it.
        plain = (flags & (tcpstate.SYN | tcpstate.RST) == 0) & (size > 1)
        goes_on = plain[1:] & plain[:-1] & (seq[1:] == (seq[:-1] + size[:-1]) & 0xFFFFFFFF)
        begins = [0, *(np.flatnonzero(~goes_on) + 1).tolist()]
        first = packets["payload_at"].astype(np.int64)
        pieces = [memory[at:end] for at, end in zip(first.tolist(), (first + size).tolist(), strict=True)]
        for begin, end in zip(begins, [*begins[1:], len(packets)], strict=True):
            for k in range(begin, end, _RUN_PACKETS):
                data = b"".join(pieces[k : min(k + _RUN_PACKETS, end)])
                self._take(index, flow, int(flags[k]), int(seq[k]), data)

    def _take(self, index: int, flow: _Flow, flags: int, seq: int, data: bytes) -> None:
        """What one packet says, or several that go on one behind the other."""
        if flags & tcpstate.SYN:
            seq = (seq + 1) & 0xFFFFFFFF
            flow.running = seq == flow.first
            if flow.running and flow.capture != index:
                # Another place saw it, too. A capture without its SYN goes on where the one before it stopped.
                flow.walks.append(_Walk(self._key))
                flow.capture = index
        if not flow.running or not data or flags & tcpstate.RST or not flow.walks:
            return
        walk = flow.walks[-1]
        position = walk.next + ((seq - flow.first - walk.next + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        if position < 0 or self._held > ALL_BYTES:
            walk.stopped = True
            return
        self._held += walk.take(position, data)

    def _compare(self, one: int, other: int) -> tuple[tuple[int, int], bool] | None:
        turned = _opener_of(self._rows[one]) != _opener_of(self._rows[other])
        compared = [0, 0]
        for side in range(2):
            mine, theirs = self._of[one, side].walks, self._of[other, 1 - side if turned else side].walks
            told = [walk.agrees(each) for walk in mine for each in theirs]
            if None in told:
                return None
            compared[side] = max((each for each in told if each is not None), default=0)
        reach = [_reaches(side) for side in self._rows[one]["side"]]
        if not any(compared):
            # As far as their first bytes go, by the sum that is kept of them.
            compared = [min(int(kept), end) for kept, end in zip(self._rows[one]["head_bytes"], reach, strict=True)]
        whole = all(done >= end for done, end in zip(compared, reach, strict=True))
        return (compared[0], compared[1]), whole
