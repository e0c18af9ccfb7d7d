"""Looking at a tracker while it goes on, and letting it forget: neither changes what it says of anything else."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from auditor.conntrack import Tracker, build_table, decide_originators
from auditor.inspectors._examine import Examiner
from auditor.model.connections import SEEN_FIN, SEEN_RST
from tests.conversation import Talk, Wire
from tests.wires import wires


def told(part, examiner):
    """Every connection as a comparable tuple, by its first frame."""
    side, by = decide_originators(part)
    table = build_table(part, side, by, examiner.applications)
    columns = (
        "id",
        "first_ns",
        "last_ns",
        "orig_p",
        "resp_p",
        "orig_pkts",
        "resp_pkts",
        "payload_bytes",
        "missed_bytes",
    )
    columns += ("conn_state", "history", "application", "established", "incomplete", "first_frame")
    values = [getattr(table, name).tolist() for name in columns]
    facts = [None if each is None else dict(each) for each in table.facts]
    return dict(zip(table.first_frame.tolist(), zip(*values, facts, strict=True), strict=True))


def fed(tracker, wire, begin, end):
    if end > begin:
        tracker.feed(*wire.packets(begin, end))


@given(wire=wires(), cuts=st.lists(st.integers(0, 400), max_size=4))
def test_peeking_changes_nothing_and_the_last_look_is_the_end(wire, cuts):
    plain, looked = Tracker(Examiner()), Tracker(Examiner())
    fed(plain, wire, 0, len(wire.sent))
    at = 0
    for cut in sorted(min(each, len(wire.sent)) for each in cuts):
        fed(looked, wire, at, cut)
        at = cut
        looked.peek()
    fed(looked, wire, at, len(wire.sent))
    last = told(looked.peek(), Examiner())
    assert last == told(looked.finish(), Examiner())
    assert last == told(plain.finish(), Examiner())


@given(wire=wires(), cuts=st.lists(st.integers(0, 400), min_size=1, max_size=4))
def test_windows_that_forget_what_is_over_say_the_same_in_the_end(wire, cuts):
    """Closed connections are told and forgotten; those that had packets are told again. The last word on each is that of one long look."""
    plain, windowed = Tracker(Examiner()), Tracker(Examiner())
    fed(plain, wire, 0, len(wire.sent))
    whole = told(plain.finish(), Examiner())
    last: dict[int, object] = {}
    at = 0
    for cut in [*sorted(min(each, len(wire.sent)) for each in cuts), len(wire.sent)]:
        fed(windowed, wire, at, cut)
        at = cut
        last |= told(windowed.peek(), Examiner())
        if cut == len(wire.sent):
            break
        rows = windowed.rows
        seen = rows["side"]["seen"]
        closed = ((seen & SEEN_FIN) != 0).all(axis=1) | ((seen & SEEN_RST) != 0).any(axis=1)
        # Nothing more comes for it: as after a minute in which nothing came.
        later = {(p.src, p.sport, p.dst, p.dport) for p in wire.sent[cut:]}
        ports = {frozenset((sport, dport)) for _, sport, _, dport in later}
        over = np.array([frozenset((int(r["a_port"]), int(r["b_port"]))) not in ports for r in rows], np.bool_)
        windowed.forget(closed & over)
    assert last == whole


def test_forgetting_gives_rows_and_heads_back():
    wire = Wire()
    for number in range(50):
        talk = Talk(wire, cport=40_000 + number)
        talk.opens()
        talk.says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    tracker = Tracker(Examiner())
    fed(tracker, wire, 0, len(wire.sent))
    free = int(tracker._state[2])
    gone = np.ones(len(tracker), np.bool_)
    gone[7] = False
    kept = tracker.rows[7]["first_frame"]
    tracker.forget(gone)
    assert len(tracker) == 1
    assert tracker.rows[0]["first_frame"] == kept
    assert int(tracker._state[2]) == free + 49
    talk = Talk(wire, cport=40_007)
    talk.next_c, talk.next_s = talk.isn_c + 28, talk.isn_s + 1
    before = len(wire.sent)
    talk.answers(b"HTTP/1.1 200 OK\r\n\r\n")
    fed(tracker, wire, before, len(wire.sent))
    assert len(tracker) == 1, "its packets still find it"


def test_a_row_that_was_forgotten_begins_anew():
    wire = Wire()
    talk = Talk(wire)
    talk.opens()
    tracker = Tracker(Examiner())
    fed(tracker, wire, 0, len(wire.sent))
    tracker.forget(np.ones(1, np.bool_))
    assert len(tracker) == 0
    before = len(wire.sent)
    talk.says(b"more")
    fed(tracker, wire, before, len(wire.sent))
    assert len(tracker) == 1
    assert tracker.rows[0]["first_frame"] == before + 1
