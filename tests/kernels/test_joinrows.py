"""Parts of a direction joined; conn_state from every mix of flags; texts of digests."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from auditor.kernels import flowkey, joinrows, tcpstate
from auditor.kernels.accelerate import kernel
from auditor.model.connections import (
    CONN,
    CONN_STATES,
    HAS_BASE,
    MAX_HOLES,
    NEVER,
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


@kernel
def join_with(rows, later, together, twice):
    joinrows.join(rows[0], later[0], together, twice)


def join(rows, later, together):
    join_with(rows, later, together, np.zeros(2, np.int64))


@kernel
def missed(rows):
    return joinrows.missed(rows[0].side[0])


def blank(count: int = 1) -> np.ndarray:
    rows = np.zeros(count, CONN)
    rows["proto"] = 6
    rows["side"]["acked"] = rows["side"]["fin_at"] = NOWHERE
    rows["side"]["payload_frame"] = -1
    rows["side"]["fin_ns"] = rows["side"]["rst_ns"] = NEVER
    return rows


def carrying(stretches: Stretches, base: int, first: int, seen: int) -> np.ndarray:
    """A record whose side 0 carried these stretches of a stream; its place 0 is the stream's place ``first``."""
    rows = blank()
    side = rows["side"][0, 0:1]
    side["base"], side["seen"] = (base + first) % 2**32, HAS_BASE | seen
    if stretches and not seen:
        side["start"] = side["end"] = stretches[0][0] - first
    starts, ends = (np.array([each[k] - first for each in stretches], np.int64) for k in (0, 1))
    extend_all(rows, starts, ends, bool(seen))
    return rows


stretches_of = st.lists(
    st.tuples(st.integers(0, 100), st.integers(1, 25)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("seen", [SEEN_SYN, 0], ids=["from the start", "from the middle"])
@given(stretches_of, stretches_of, st.integers(0, 2**32 - 1), st.integers(0, 90))
def test_what_two_parts_saw_is_what_one_would_have_seen(
    seen: int, mine: Stretches, theirs: Stretches, base: int, first: int
) -> None:
    """The later part starts anywhere, and numbers its places from there."""
    whole = carrying([*mine, *theirs], base, 0, seen)
    rows = carrying(mine, base, 0, seen)
    later = carrying(theirs, base, first, 0)
    assume(max(each["side"]["n_holes"][0, 0] for each in (whole, rows, later)) < MAX_HOLES)
    join(rows, later, False)
    for field in ("start", "end", "lost_bytes", "base"):
        assert rows["side"][field][0, 0] == whole["side"][field][0, 0], field
    assert missed(rows) == missed(whole)
    assert (rows["side"]["seen"][0, 0] ^ whole["side"]["seen"][0, 0]) & RETRANSMITTED == 0


def test_counts_add_up_or_are_the_same_packets_twice() -> None:
    for together, count in ((False, 12), (True, 7)):
        rows, later = blank(), blank()
        for each, packets in ((rows, 5), (later, 7)):
            for name in ("pkts", "ip_bytes", "payload_bytes"):
                each["side"][name] = packets
        rows["captures"], later["captures"] = 1, 4
        join(rows, later, together)
        assert {int(rows["side"][name][0, k]) for name in ("pkts", "ip_bytes", "payload_bytes") for k in (0, 1)} == {
            count
        }
        assert rows["captures"][0] == 5


def concluded(
    o: int, r: int, answered: bool, ends: dict[str, int], history: tuple[int, ...] = (), proto: int = 6
) -> tuple[str, int]:
    """conn_state and who closed, where the originator (side 1) and the responder (side 0) were seen to do this.

    ends: the second of an end's FIN or RST: ``o_fin``, ``r_rst``; those not named came all at once.
    """
    rows = blank()
    rows["proto"] = proto
    rows["side"]["seen"][0] = r, o
    rows["side"]["pkts"][0] = int(answered), 1
    for which, seen in enumerate((r, o)):
        for kind, bit in (("fin", F), ("rst", R)):
            if seen & bit:
                rows["side"][f"{kind}_ns"][0, which] = ends.get(f"{'ro'[which]}_{kind}", 0)
    rows["n_history"] = len(history)
    rows["history"][0, : len(history)] = history
    state, incomplete, closed_by = np.zeros(1, np.uint8), np.zeros(1, np.uint8), np.zeros(1, np.uint8)
    text, lost, established = np.zeros((1, 32), np.uint8), np.zeros(1, np.int64), np.zeros(1, np.bool_)
    joinrows.conclude(
        rows,
        1,
        np.ones(1, np.uint8),
        np.zeros(1, np.bool_),
        state,
        text,
        lost,
        incomplete,
        established,
        closed_by,
    )
    return CONN_STATES[state[0]], int(closed_by[0])


def state_of(o: int, r: int, answered: bool, proto: int = 6, **ends: int) -> str:
    return concluded(o, r, answered, ends, proto=proto)[0]


S, H, F, R = SEEN_SYN, SEEN_SYNACK, SEEN_FIN, SEEN_RST


@pytest.mark.parametrize(
    ("o", "r", "answered", "state"),
    [
        (S, 0, False, "S0"),
        (S, H, True, "S1"),
        (S | F, H | F, True, "SF"),
        (S, R, True, "REJ"),
        (S | F, H, True, "S2"),
        (S, H | F, True, "S3"),
        (S | R, H, True, "RSTO"),
        (S, H | R, True, "RSTR"),
        (S | R, 0, False, "RSTOS0"),
        (0, H | R, True, "RSTRH"),
        (S | F, 0, False, "SH"),
        (0, H | F, True, "SHR"),
        (0, 0, True, "OTH"),
        (0, H, True, "OTH"),
        # Midstream.
        (F, F, True, "SF"),
        (F, 0, True, "S2"),
        (R, 0, True, "RSTO"),
        (R, 0, False, "RSTOS0"),
    ],
)
def test_conn_state_by_what_was_seen(o: int, r: int, answered: bool, state: str) -> None:
    assert state_of(o, r, answered) == state


def test_of_two_resets_the_first_decides() -> None:
    assert state_of(S | R, H | R, True, o_rst=4, r_rst=5) == "RSTO"
    assert state_of(S | R, H | R, True, o_rst=5, r_rst=4) == "RSTR"


@pytest.mark.parametrize(
    ("o", "r", "ends", "closer"),
    [
        (S, H, {}, 0),
        (S | F, H, {}, 1),
        (S, H | R, {}, 2),
        (S | F, H | F, {"o_fin": 4, "r_fin": 5}, 1),
        (S | F, H | F, {"o_fin": 5, "r_fin": 4}, 2),
        (S | F | R, H | F, {"o_fin": 5, "o_rst": 3, "r_fin": 4}, 1),
    ],
)
def test_who_closed_first(o: int, r: int, ends: dict[str, int], closer: int) -> None:
    assert concluded(o, r, True, ends)[1] == closer


@pytest.mark.parametrize("side", [0, 1])
def test_where_times_are_the_same_frames_say_who_closed_first(side: int) -> None:
    fin = tcpstate.H_FIN << 1
    assert concluded(S | F, H | F, True, {}, (fin | side, fin | 1 - side))[1] == (2, 1)[side]


def test_every_mix_of_flags_has_a_state() -> None:
    for o in range(32):
        for r in range(32):
            assert state_of(o, r, bool(r)) in CONN_STATES


def test_datagrams_are_answered_or_not() -> None:
    assert state_of(0, 0, True, proto=17) == "SF"
    assert state_of(0, 0, False, proto=17) == "S0"


def test_a_reset_behind_both_fins_changes_nothing() -> None:
    assert state_of(S | F, H | F | R, True, o_fin=1, r_fin=2, r_rst=3) == "SF"
    assert state_of(S | F, H | F | R, True, o_fin=1, r_fin=3, r_rst=2) == "RSTR"


@given(st.lists(st.binary(min_size=20, max_size=20), min_size=1, max_size=4))
def test_digests_as_text(texts: list[bytes]) -> None:
    digests = np.array([list(text) for text in texts], np.uint8)
    community, ids = np.zeros((len(texts), 30), np.uint8), np.zeros((len(texts), 20), np.uint8)
    joinrows.community_text(digests, community)
    joinrows.hex_text(digests, ids)
    assert [row.tobytes() for row in community] == [b"1:" + base64.b64encode(text) for text in texts]
    assert [row.tobytes().decode() for row in ids] == [text[:10].hex() for text in texts]


def test_every_address_has_one_number() -> None:
    rows = blank(50)
    k = np.arange(50)
    rows["a_hi"], rows["a_lo"], rows["b_hi"], rows["b_lo"] = k % 2, k % 7, 0, k % 3
    rows["ip_version"] = 4
    hi, lo, version = np.zeros(101, np.uint64), np.zeros(101, np.uint64), np.zeros(101, np.uint8)
    ends, table = np.zeros((50, 2), np.int32), np.full(256, -1, np.int32)
    # Some rows at a time, in the same book.
    count = joinrows.distinct_addresses(rows[:20], 20, table, hi, lo, version, ends[:20], 0)
    count = joinrows.distinct_addresses(rows[20:], 30, table, hi, lo, version, ends[20:], count)
    pairs = list(zip(hi[:count].tolist(), lo[:count].tolist(), strict=True))
    assert len(set(pairs)) == count == 14
    for i in range(50):
        assert pairs[ends[i, 0]] == (i % 2, i % 7)
        assert pairs[ends[i, 1]] == (0, i % 3)


def test_of_ports_in_use_several_times_the_connection_of_the_same_time_is_meant() -> None:
    """Seen from another place: without a SYN only the time tells which one it is."""
    rows, later = blank(3), blank(3)
    rows["first_ns"], rows["last_ns"] = [0, 1_000, 2_000], [500, 1_500, 2_500]
    rows["superseded"] = [1, 1, 0]
    later["first_ns"], later["last_ns"] = [1_010, 2_010, 9_000], [1_490, 2_490, 9_500]
    later["b_port"] = [0, 0, 7]
    table, found = np.full(16, 0, np.int32), np.zeros(3, np.int64)
    flowkey.index_all(rows, 3, table)
    joinrows.match_together(rows, table, later, 3, 10**9, 10**9, found)
    assert found.tolist() == [1, 2, -1]
    later["side"]["seen"][:, 0], later["side"]["isn"][:, 0] = SEEN_SYN, 5
    rows["side"]["seen"][:, 0], rows["side"]["isn"][:, 0] = SEEN_SYN, [5, 6, 7]
    joinrows.match_together(rows, table, later, 1, 10**9, 10**9, found)
    assert found[0] == 0  # the initial sequence number says more than the time
    later["side"]["isn"][:, 0] = 9
    joinrows.match_together(rows, table, later, 1, 10**9, 10**9, found)
    assert found[0] == -2 - 2  # none of these; row 2 is the newest so far
