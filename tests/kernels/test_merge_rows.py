"""Parts of a direction joined; conn_state from every mix of flags; texts of digests."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from auditor.kernels import flowkey, merge_rows, tcpstate
from auditor.kernels.accelerate import kernel
from auditor.model.connections import (
    CONN,
    CONN_STATES,
    DISORDERED,
    HAS_BASE,
    HEAD_CUT,
    MAX_HOLES,
    NEVER,
    NOWHERE,
    RETRANSMITTED,
    ROW_RELEASED,
    SEEN_FIN,
    SEEN_RST,
    SEEN_SYN,
    SEEN_SYNACK,
    SNAPPED,
)

Stretches = list[tuple[int, int]]


@kernel
def extend_all(rows, starts, ends, anchored):
    for k in range(starts.size):
        if tcpstate.extend(rows[0].side[0], starts[k], ends[k], anchored):
            rows[0].side[0].seen |= RETRANSMITTED


@kernel
def join_with(rows, later, together, twice):
    merge_rows.join(rows[0], later[0], together, twice, 0)


def join(rows, later, together):
    join_with(rows, later, together, np.zeros(2, np.int64))


@kernel
def missed(rows):
    return merge_rows.missed(rows[0].side[0])


def side_of(row: np.void, which: int, **values: int) -> None:
    for name, value in values.items():
        row["side"][which][name] = value


def test_evidence_from_the_first_byte_on_is_worth_more_than_a_longer_one() -> None:
    """Of datagrams longer first bytes are worth more, then more of them: doubled ones that were cut are no better copy."""
    rows = blank(4)
    rows["head_bytes"] = [(10, 10), (10, 8_000), (10, 10), (10, 10)]
    for which in range(2):
        side_of(rows[0], which, seen=SEEN_SYN)
    rows["proto"][2:] = 17
    rows["side"]["pkts"][2:] = [(1, 1), (2, 1)]
    out = np.zeros((4, 3), np.int64)
    merge_rows.worth_all(rows, 4, out)
    worth = [tuple(each) for each in out.tolist()]
    assert worth[0] > worth[1]
    assert worth[3] > worth[2]


def test_of_the_same_first_bytes_those_of_more_of_the_stream_are_worth_more_then_those_in_order() -> None:
    rows = blank(3)
    rows["head_bytes"] = 10
    for row, end, seen in zip(rows, (20, 10, 10), (DISORDERED, 0, DISORDERED), strict=True):
        for which in range(2):
            side_of(row, which, seen=SEEN_SYN | HAS_BASE | seen, end=end)
    out = np.zeros((3, 3), np.int64)
    merge_rows.worth_all(rows, 3, out)
    worth = [tuple(each) for each in out.tolist()]
    assert worth[0] > worth[1] > worth[2]


def test_connections_with_segments_out_of_order_are_counted() -> None:
    rows = blank(3)
    rows["side"]["payload_bytes"][:2] = 1
    rows["side"]["seen"][1, 1] = DISORDERED
    rows["side"]["seen"][2, 0] = DISORDERED  # without payload nothing is out of order
    count = np.zeros(2, np.int64)
    merge_rows.disorder(rows, 3, count)
    assert count.tolist() == [1, 2]


def test_an_attempt_is_known_again_by_its_ends_and_its_number() -> None:
    rows = blank(5)
    rows["a_lo"], rows["a_port"], rows["b_port"] = 1, 40_000, 8_889
    rows["side"]["seen"][:, 0] = SEEN_SYN
    rows["side"]["isn"][:, 0] = [1 << 20, 1 << 20, 1 << 21, 1 << 20, 7]
    rows["a_port"][3] += 1
    found = np.zeros(5, np.uint64)
    merge_rows.attempts(rows, 5, found)
    assert found[0] == found[1] != 0
    assert len(set(found.tolist())) == 4
    assert found[4] == 0, "a number made by hand tells nothing"


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


@pytest.mark.night
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


def finished(
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
    merge_rows.finish_rows(
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
    return finished(o, r, answered, ends, proto=proto)[0]


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
    assert finished(o, r, True, ends)[1] == closer


@pytest.mark.parametrize("side", [0, 1])
def test_where_times_are_the_same_frames_say_who_closed_first(side: int) -> None:
    fin = tcpstate.H_FIN << 1
    assert finished(S | F, H | F, True, {}, (fin | side, fin | 1 - side))[1] == (2, 1)[side]


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
    merge_rows.community_text(digests, community)
    merge_rows.hex_text(digests, ids)
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
    count = merge_rows.distinct_addresses(rows[:20], 20, table, hi, lo, version, ends[:20], 0, flowkey.SECRET)
    count = merge_rows.distinct_addresses(rows[20:], 30, table, hi, lo, version, ends[20:], count, flowkey.SECRET)
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
    flowkey.index_all(rows, 3, table, flowkey.SECRET)
    merge_rows.match_together(rows, table, later, 3, 10**9, 10**9, found, flowkey.SECRET)
    assert found.tolist() == [1, 2, -1]
    later["side"]["seen"][:, 0], later["side"]["isn"][:, 0] = SEEN_SYN, 5
    rows["side"]["seen"][:, 0], rows["side"]["isn"][:, 0] = SEEN_SYN, [5, 6, 7]
    merge_rows.match_together(rows, table, later, 1, 10**9, 10**9, found, flowkey.SECRET)
    assert found[0] == 0  # the initial sequence number says more than the time
    later["side"]["isn"][:, 0] = 9
    merge_rows.match_together(rows, table, later, 1, 10**9, 10**9, found, flowkey.SECRET)
    assert found[0] == -2 - 2  # none of these; row 2 is the newest so far


def some_records(count: int, seed: int) -> np.ndarray:
    """Records with every mix of what their columns are made of."""
    rng = np.random.default_rng(seed)
    rows = np.frombuffer(rng.bytes(count * CONN.itemsize), CONN).copy()
    rows["proto"] = rng.choice([6, 6, 6, 17, 1, 50, 51, 132, 136], count)
    rows["application"] = rng.choice([-1, -1, 0, 3], count)
    for name in ("payload_bytes", "start", "acked"):
        rows["side"][name] = rng.integers(0, 3, (count, 2))
    rows["side"]["n_holes"] = rng.integers(0, MAX_HOLES + 1, (count, 2))
    rows["side"]["hole_from"] = rng.integers(0, 9, (count, 2, MAX_HOLES))
    rows["side"]["isn"][::3, 0] %= merge_rows.TELLING_ISN
    return rows


def told_plainly(row: np.void, orig: int, names: list[int], ends: list[int]) -> dict[str, int | bool]:
    """The naive twin of ``tabulate``."""
    o, r = row["side"][orig], row["side"][1 - orig]
    seen = [int(side["seen"]) for side in (o, r)]
    anchored = [bool(each & (SEEN_SYN | SEEN_SYNACK)) for each in seen]
    said = int(o["payload_bytes"]) + int(r["payload_bytes"])
    application = int(row["application"])
    if application < 0:
        application = names[1] if said else names[0]
    if row["proto"] in (50, 51) and names[2] >= 0:
        application = names[2]
    unknown_start = False
    for side, each, known in zip((o, r), seen, anchored, strict=True):
        holes = side["hole_from"][: side["n_holes"]].tolist()
        if side["payload_bytes"] > 0:
            unknown_start |= not known or int(side["start"]) in holes
        else:
            unknown_start |= bool(each & HAS_BASE) and int(side["acked"]) > int(side["start"]) + 1
    cut = bool((seen[0] | seen[1]) & SNAPPED) and application == names[1]
    ports = [int(row["a_port"]), int(row["b_port"])] if row["proto"] in (6, 17, 132, 136) else [-1, -1]
    told = {name: int(row[name]) for name in ("first_ns", "last_ns", "outer", "first_frame", "captures")}
    told |= {name: int(row[name]) for name in ("proto", "tunnel", "tunnel_id")}
    for name, side in (("orig", o), ("resp", r)):
        told |= {f"{name}_{field}": int(side[field]) for field in ("pkts", "ip_bytes", "copies")}
    return told | {
        "payload_bytes": said,
        "orig_h": ends[orig],
        "resp_h": ends[1 - orig],
        "orig_p": ports[orig],
        "resp_p": ports[1 - orig],
        "application": application,
        "incomplete": 2 | (16 if row["state"] & ROW_RELEASED and (seen[0] | seen[1]) & HEAD_CUT else 0),
        "first_bytes": (row["proto"] != 6 or (any(anchored) and not unknown_start)) and not cut,
    }


@pytest.mark.parametrize("names", [(0, 1, 2), (0, 1, -1)], ids=["ipsec", "no ipsec"])
def test_columns_of_every_mix_of_records(names: tuple[int, ...]) -> None:
    count, before = 400, 7
    rows, n = some_records(count, 5), before + count
    rng = np.random.default_rng(6)
    orig = rng.integers(0, 2, count).astype(np.uint8)
    ends = rng.integers(0, 99, (count, 2)).astype(np.int32)
    numbers, sides = np.zeros((len(merge_rows.NUMBERS), n), np.int64), np.zeros((len(merge_rows.ENDS), n), np.int32)
    columns = dict(zip((*merge_rows.NUMBERS, *merge_rows.ENDS), (*numbers, *sides), strict=True))
    others = {
        "captures": np.uint64, "proto": np.uint8, "tunnel": np.uint8, "tunnel_id": np.uint32, "application": np.int16,
        "incomplete": np.uint8, "first_bytes": np.bool_,
    }  # fmt: skip
    columns |= {name: np.zeros(n, kind) for name, kind in others.items()}
    columns["incomplete"][:] = 2
    merge_rows.tabulate(
        rows, count, before, orig, np.array(names, np.int64), ends, numbers, sides, *(columns[name] for name in others)
    )  # fmt: skip
    for i in range(count):
        told = told_plainly(rows[i], int(orig[i]), list(names), ends[i].tolist())
        assert {name: column[before + i].item() for name, column in columns.items()} == told
    assert columns["first_bytes"][before:].any()
    assert not columns["first_bytes"][before:].all()


def test_initial_sequence_numbers_of_both_ends() -> None:
    rows = some_records(200, 7)
    both = np.full(len(rows), 9, np.uint64)
    merge_rows.openings(rows, len(rows), both)
    expected = []
    for row in rows:
        seen, isn = row["side"]["seen"].tolist(), row["side"]["isn"].tolist()
        opener = next((k for k in (0, 1) if seen[k] & SEEN_SYN and seen[1 - k] & SEEN_SYNACK), None)
        telling = row["proto"] == 6 and opener is not None and min(isn) >= merge_rows.TELLING_ISN
        expected.append(isn[opener] << 32 | isn[1 - opener] if telling else 0)
    assert both.tolist() == expected
    assert 0 < np.count_nonzero(both) < len(rows)
