"""Packets that are others once more: told by what a retransmission would not repeat, remembered for a while in little room.

The rules that hold here:

- A packet's print is over what stays the same from one place of a network to another: ends, ports, lengths, TCP's numbers, flags, window and
  options, the IP identification; of other transports the first payload bytes. Link headers, tags, TTL and checksums are not in it
  (the checksum of a packet captured at its sender is often not computed yet).
- TCP sends again with another identification (RFC 6864 section 4 allows repeating it only where nothing is fragmented; stacks count on) and other
  time stamps (RFC 7323 section 3). Where a packet has one of the two, the same print is the same packet, however far the clocks of
  two places are apart; where it has neither, only within a moment.
- What is remembered is a table of PRINTS words in sets of four: a set forgets its oldest. A hundred thousand packets a second stay for half a second.
- Some prints of packets with one of the two are kept as samples, chosen by their own bits: so two places choose the same packets, and
  their times can be compared.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.accelerate import inner, kernel

PRINTS = 1 << 16
WAYS = 4
SETS = PRINTS // WAYS
TICK_BITS = 20  # of nanoseconds: a tick is about a millisecond
TICKS = 1 << 24  # the clock of the table goes round after 4.9 hours
LEAST_TELLING_ID = 2
"""An IP identification of 0 tells nothing (Linux writes it where it may not fragment), nor does 1, which packet generators write."""

SAMPLES = 1 << 14

SAMPLE = np.dtype(
    [
        ("print", np.uint64),
        ("ts_ns", np.int64),
        ("row", np.int64),
        ("side", np.uint8),  # who sent it
        ("place", np.int32),  # interface; once parts are joined, index into their places
    ],
    align=True,
)
"""A packet whose time at this place is kept."""

EARLY_PACKETS = 1 << 13

EARLY = np.dtype(
    [
        ("print", np.uint64),
        ("ts_ns", np.int64),
        ("row", np.int64),
        ("bytes", np.int32),  # IP bytes
        ("wire", np.int32),  # payload
        ("side", np.uint8),
        ("telling", np.uint8),
    ],
    align=True,
)
"""A packet at the start of a part, which may be one once more that the part before it ends with."""


@inner
def blend(h, word):
    """One step of a hash: multiply and shift, as in the finalizer of MurmurHash3."""
    h = (h ^ word) * np.uint64(0xFF51AFD7ED558CCD)
    return h ^ (h >> np.uint64(32))


@inner
def moment(ts_ns):
    """Time in ticks, modulo TICKS."""
    return (ts_ns >> TICK_BITS) & (TICKS - 1)


@inner
def within(one, other, ticks):
    """Whether two moments are no further apart."""
    apart = (one - other) & (TICKS - 1)
    return apart <= ticks or TICKS - apart <= ticks


@inner
def matches(known, tag, now, ticks):
    """Whether a remembered word (40 bits of a print above the moment it was seen; 0: none) is of this print, at about this moment."""
    return known >> np.uint64(24) == tag and within(now, np.int64(known & np.uint64(TICKS - 1)), ticks)


@inner
def sample(samples, n, mask, key, now_ns, row, side, place):
    """Keep a packet's time if its print is one of the chosen; returns how many are kept, and the mask that chooses.

    When there is no room the mask is made longer: half of the samples stay, the same half everywhere.
    """
    while n == samples.size and mask < 0xFFFF_FFFF:
        mask = mask << 1 | 1
        kept = 0
        for k in range(n):
            if (samples[k]["print"] >> np.uint64(14)) & np.uint64(mask) == 0:
                samples[kept] = samples[k]
                kept += 1
        n = kept
    if n < samples.size and (key >> np.uint64(14)) & np.uint64(mask) == 0:
        one = samples[n]
        one["print"], one.ts_ns, one.row, one.side, one.place = key, now_ns, row, side, place
        n += 1
    return n, mask


@kernel
def recall(prints, early, n, near_ticks, far_ticks, again):
    """Which of the first packets of a part the part before it had: ``again[k]`` 1 or 0. prints: as that part left them."""
    for k in range(n):
        e = early[k]
        at = np.int64(e["print"] & np.uint64(SETS - 1)) * WAYS
        tag = e["print"] >> np.uint64(24)
        now = moment(e.ts_ns)
        again[k] = 0
        for j in range(at, at + WAYS):
            if matches(prints[j], tag, now, far_ticks if e.telling else near_ticks):
                again[k] = 1


def shared(mine: NDArray[np.void], theirs: NDArray[np.void]) -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Samples of two places (SAMPLE) that are of the same packets, side by side; of several with one print the first."""
    _, at, other = np.intersect1d(mine["print"], theirs["print"], return_indices=True)
    return mine[at], theirs[other]


def ahead_ns(mine: NDArray[np.void], theirs: NDArray[np.void]) -> tuple[int, int | None]:
    """How far the clock of ``theirs`` is ahead, and how long packets travel, from samples of the same packets (at least one).

    A packet's times at the two places differ by the clocks' difference and the way between, whose sign turns with the direction: the mean of
    both directions of a connection is the clocks' alone, as in RFC 5905 section 8. Medians, because some packets wait. Where no
    connection has samples of both directions the way is in the result, and not known (None).
    """
    apart = theirs["ts_ns"] - mine["ts_ns"]
    order = np.lexsort((apart, mine["side"], mine["row"]))
    group = mine["row"][order] * 2 + mine["side"][order]
    first = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    last = np.append(first[1:], group.size)
    middle = apart[order][(first + last - 1) // 2]
    which = group[first]
    pair = np.flatnonzero((which[:-1] ^ which[1:]) == 1)
    pair = pair[which[pair] & 1 == 0]
    if not pair.size:
        return int(np.median(apart)), None
    there, back = middle[pair], middle[pair + 1]
    return int(np.median((there + back) // 2)), int(np.median(np.abs(there - back) // 2))


def apart_ns(samples: NDArray[np.void]) -> int | None:
    """How far in time the copies of a packet are apart, in the median; None where none of the samples came twice."""
    order = np.argsort(samples["print"], kind="stable")
    prints, times = samples["print"][order], samples["ts_ns"][order]
    same = prints[1:] == prints[:-1]
    return int(np.median(np.abs(times[1:] - times[:-1])[same])) if same.any() else None
