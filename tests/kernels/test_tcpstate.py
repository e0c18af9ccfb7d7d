"""Sequence space of a direction against a set of places; who opened; what makes a SYN another connection's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditor.kernels import tcpstate
from auditor.kernels.accelerate import kernel
from auditor.kernels.merge_rows import missed
from auditor.model.connections import (
    BASE_GUESSED,
    CONN,
    HAS_BASE,
    MAX_HOLES,
    NOWHERE,
    RETRANSMITTED,
    SEEN_FIN,
    SEEN_RST,
    SEEN_SYN,
    SEEN_SYNACK,
)

Stretches = list[tuple[int, int]]


@kernel
def extend_all(rows, starts, ends, anchored):
    for k in range(starts.size):
        if tcpstate.extend(rows[0].side[0], starts[k], ends[k], anchored):
            rows[0].side[0].seen |= RETRANSMITTED
    return missed(rows[0].side[0])


@kernel
def relative(seq, base, near):
    return tcpstate._relative(seq, base, near)


@kernel
def opener(rows):
    return tcpstate.opener(rows[0])


@kernel
def begins_anew(rows, me, flags, seq, when):
    return tcpstate.begins_anew(rows[0], me, flags, seq, when)


@kernel
def is_foreign(rows, me, seq):
    return tcpstate.is_foreign(rows[0], me, seq)


def row(**sides: object) -> np.ndarray:
    """A record; ``a_seen=...`` sets a field of side 0, ``b_...`` one of side 1."""
    rows = np.zeros(1, CONN)
    rows["side"]["acked"] = rows["side"]["fin_at"] = NOWHERE
    for name, value in sides.items():
        rows["side"][name[2:]][0, "ab".index(name[0])] = value
    return rows


def naive(stretches: Stretches, anchored: bool) -> tuple[set[int], int, int, bool, int]:
    """Places covered, the first, one behind the last, whether any came twice, and how many holes there were at once."""
    covered: set[int] = set()
    start = end = 0
    again, most = False, 0
    for lo, hi in stretches:
        came = set(range(max(lo, start) if anchored else lo, hi))
        if came:
            again |= bool(came & covered)
            covered |= came
            start, end = min(start, *came), max(end, max(came) + 1)
        holes = sum(at not in covered and (at - 1 in covered or at == start) for at in range(start, end))
        most = max(most, holes)
    return covered, start, end, again, most


stretches_of = st.lists(
    st.tuples(st.integers(-40, 120), st.integers(0, 25)).map(lambda pair: (pair[0], pair[0] + pair[1])), max_size=16
)


@given(stretches_of, st.booleans())
@example([(5, 10), (0, 20)], True)
@example([(-10, -5), (0, 5)], False)
def test_what_was_seen_and_what_is_missing(stretches: Stretches, anchored: bool) -> None:
    rows = row(a_seen=HAS_BASE)
    starts, ends = (np.array([each[k] for each in stretches], np.int64) for k in (0, 1))
    lost = extend_all(rows, starts, ends, anchored)
    side = rows["side"][0, 0]
    covered, start, end, again, most = naive(stretches, anchored)
    assert (side["start"], side["end"]) == (start, end)
    if most <= MAX_HOLES:
        assert lost == end - start - len(covered)
        assert bool(side["seen"] & RETRANSMITTED) == again
    else:  # the smallest hole was given up: what comes there later changes nothing
        assert lost >= end - start - len(covered)


def test_the_smallest_hole_is_given_up() -> None:
    rows = row(a_seen=HAS_BASE)
    starts = np.array([10, 22, *range(40, 40 + 20 * MAX_HOLES, 20)], np.int64)
    lost = extend_all(rows, starts, starts + 5, True)
    assert lost == 10 + 7 + 13 + 15 * (MAX_HOLES - 1)
    assert rows["side"]["lost_bytes"][0, 0] == 10 + 7
    # Behind the limit the bytes of the largest holes still count when they come.
    assert extend_all(rows, np.array([45], np.int64), np.array([60], np.int64), True) == lost - 15


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(-(2**40), 2**40))
@example(5, 2**32 - 10, 0)
@example(2**32 - 10, 5, 0)
def test_a_sequence_number_is_taken_for_the_nearest_place(seq: int, base: int, near: int) -> None:
    place = relative(np.int64(seq), np.int64(base), np.int64(near))
    assert (base + int(place) - seq) % 2**32 == 0
    assert abs(int(place) - near) <= 2**31


@pytest.mark.parametrize(
    ("a", "b", "first", "expected"),
    [
        (SEEN_SYN, 0, 1, 0),
        (0, SEEN_SYN, 0, 1),
        (SEEN_SYN, SEEN_SYNACK, 1, 0),
        (SEEN_SYNACK, 0, 0, 1),
        (0, SEEN_SYNACK, 1, 0),
        (0, 0, 0, -1),
        (SEEN_FIN, SEEN_RST, 1, -1),
        (SEEN_SYN, SEEN_SYN, 1, 1),
        (SEEN_SYN, SEEN_SYN, 0, 0),
        (SEEN_SYN | SEEN_SYNACK, SEEN_SYN, 0, 1),
        (SEEN_SYN, SEEN_SYN | SEEN_SYNACK, 1, 0),
        (SEEN_SYN | SEEN_SYNACK, SEEN_SYN | SEEN_SYNACK, 1, 1),
        (SEEN_SYNACK, SEEN_SYNACK, 0, -1),
    ],
)
def test_the_syn_says_who_opened(a: int, b: int, first: int, expected: int) -> None:
    rows = row(a_seen=a, b_seen=b)
    rows["first_side"] = first
    assert opener(rows) == expected


S, SA = tcpstate.SYN, tcpstate.SYN | tcpstate.ACK


@pytest.mark.parametrize(
    ("known", "flags", "seq", "anew"),
    [
        ({"a_seen": SEEN_SYN | HAS_BASE, "a_isn": 7}, S, 7, False),
        ({"a_seen": SEEN_SYN | HAS_BASE, "a_isn": 7}, S, 8, True),
        ({"a_seen": SEEN_SYNACK | HAS_BASE, "a_isn": 7}, S, 7, False),
        # Nothing but the other end's SYN: simultaneous opening; not behind its data, and not behind packets of this side.
        ({"b_seen": SEEN_SYN | HAS_BASE}, S, 7, False),
        ({"b_seen": SEEN_SYN | HAS_BASE, "b_payload_bytes": 3}, S, 7, True),
        ({"b_seen": SEEN_SYN | HAS_BASE, "a_pkts": 1}, S, 7, True),
        ({"b_seen": SEEN_SYN | SEEN_RST | HAS_BASE}, S, 7, False),
        ({"b_seen": SEEN_SYN | HAS_BASE}, SA, 7, False),
        # Packets of this side came before: its stream begins right behind the SYN, or not far.
        ({"a_seen": HAS_BASE, "a_base": 1_000}, S, 999, False),
        ({"a_seen": HAS_BASE, "a_base": 1_000}, S, 1_000, True),
        ({"a_seen": HAS_BASE, "a_base": 1_000}, S, 2**32 - 64_000, False),
        ({"a_seen": HAS_BASE, "a_base": 1_000}, S, 2**32 - 70_000, True),
        # Only acknowledgements of it.
        ({"a_seen": HAS_BASE | BASE_GUESSED, "a_base": 1_000, "a_acked": 500}, SA, 1_499, False),
        ({"a_seen": HAS_BASE | BASE_GUESSED, "a_base": 1_000, "a_acked": 500}, SA, 1_500, True),
        # Nothing of it at all, and the other end had closed.
        ({"b_seen": SEEN_FIN | HAS_BASE}, S, 7, True),
        ({"b_seen": HAS_BASE}, S, 7, False),
    ],
)
def test_a_syn_belongs_to_the_connection_that_can_explain_it(
    known: dict[str, int], flags: int, seq: int, anew: bool
) -> None:
    assert bool(begins_anew(row(**known), 0, flags, np.int64(seq), np.int64(2 * 10**8))) == anew


@pytest.mark.parametrize(("sent_ns", "anew"), [(4, False), (10**8 + 5, False), (10**8 + 6, True)])
def test_a_syn_that_was_sent_before_the_answer_seen_first_is_what_it_answers(sent_ns: int, anew: bool) -> None:
    refused = row(b_seen=SEEN_RST, b_rst_ns=5, b_fin_ns=9)
    assert bool(begins_anew(refused, 0, S, np.int64(7), np.int64(sent_ns))) == anew


@pytest.mark.parametrize(
    ("known", "ahead", "foreign"),
    [
        ({"a_seen": HAS_BASE | SEEN_RST}, 65_536, False),
        ({"a_seen": HAS_BASE | SEEN_RST}, 65_537, True),
        ({"a_seen": HAS_BASE | SEEN_RST}, -(2**24), False),
        ({"a_seen": HAS_BASE | SEEN_RST}, -(2**24) - 1, True),
        ({"a_seen": HAS_BASE | SEEN_FIN, "b_seen": SEEN_FIN}, 2**30, True),
        ({"a_seen": HAS_BASE | SEEN_FIN}, 2**30, False),  # half closed: it may go on
        ({"a_seen": HAS_BASE | SEEN_RST | BASE_GUESSED}, 2**30, False),
        ({"a_seen": SEEN_RST}, 2**30, False),
    ],
)
def test_late_packets_of_a_closed_connection_are_near(known: dict[str, int], ahead: int, foreign: bool) -> None:
    base, end = 4_000_000_000, 1_000
    rows = row(a_base=base, a_end=end, **known)
    assert bool(is_foreign(rows, 0, np.int64((base + end + ahead) % 2**32))) == foreign


@given(st.integers(0, 200), st.integers(100, 120))
def test_bytes_behind_the_capture_are_known_from_acknowledgements(acked: int, fin: int) -> None:
    """What the other end acknowledged, or a FIN stands behind, and nobody saw is missing; the FIN takes a number, and is no byte.

    Behind the FIN there is nothing: who acknowledges more tells of bytes that were never sent.
    """
    rows = row(a_seen=HAS_BASE, a_acked=acked, a_fin_at=fin)
    lost = extend_all(rows, np.array([0], np.int64), np.array([100], np.int64), True)
    assert lost == max(min(acked, fin), fin, 100) - 100
