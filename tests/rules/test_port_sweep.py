"""Ten targets within a minute are a sweep; its attempts are not told twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from auditor.rules._sweep import SWEEP_TARGETS, SWEEP_WINDOW_NS, crowded
from tests.rules.make import CELL, TO_UAA, attempt, judged, row

RULE = "port-sweep"


def sweep(ports, every=1.0, start=0.0, **fields):
    return [
        attempt("connection", CELL, TO_UAA, responder_port=port, after=start + every * number, **fields)
        for number, port in enumerate(ports)
    ]


def test_twelve_ports_of_one_host(fired):
    [finding] = fired(RULE, judged(row(after=-1), *sweep(range(8000, 8012))))
    assert finding.count == 12
    assert finding.rows == tuple(range(1, 13))
    assert finding.severity.word == "high"
    assert finding.title == "10.0.4.20 (diego_cell) tried 12 targets on 1 host without a connection"
    assert finding.subject == ("", "diego_cell", "*", "*", "tcp")
    assert "8000, 8001, 8002, 8003, 8004, 8005, 8006, 8007 and 4 more" in finding.detail


def test_its_attempts_are_folded_into_it(fired):
    seen = judged(*sweep(range(8000, 8012)), *sweep([8443], start=600.0))
    [sweeping] = fired(RULE, seen)
    [left] = fired("undeclared-attempt", seen)
    assert (sweeping.count, left.count, left.subject[3]) == (12, 1, "8443")


def test_one_port_of_many_hosts(fired):
    seen = [
        attempt("connection", CELL, responder_ip=f"10.0.7.{host}", responder_port=22, after=host / 10)
        for host in range(1, 31)
    ]
    [finding] = fired(RULE, judged(*seen))
    assert finding.title == "10.0.4.20 (diego_cell) tried 30 targets on 30 hosts without a connection"


def test_a_stranger_is_named_by_address_and_two_strangers_are_two(fired):
    def unknown(address):
        return sweep(range(100, 111), originator_ip=address, originator_role=None, originator_instance=None)

    found = fired(RULE, judged(*unknown("10.0.9.98"), *unknown("10.0.9.99")))
    assert [each.subject[1] for each in found] == ["10.0.9.98", "10.0.9.99"]
    assert found[0].title == "10.0.9.98 tried 11 targets on 1 host without a connection"


def test_nine_targets_slow_targets_and_documented_targets_are_no_sweep(fired):
    assert fired(RULE, judged(*sweep(range(8000, 8000 + SWEEP_TARGETS - 1)))) == []
    assert fired(RULE, judged(*sweep(range(8000, 8040), every=7.0))) == []
    down = [
        row(responder_ip=f"10.0.4.{cell}", responder_port=1801, outcome="attempt", conn_state="S0")
        for cell in range(1, 200)
    ]
    assert fired(RULE, judged(*down)) == []


def test_two_who_share_the_work_are_not_counted_together(fired):
    other = {"originator_ip": "10.0.4.21"}
    assert fired(RULE, judged(*sweep(range(8000, 8005)), *sweep(range(8005, 8010), **other))) == []


def naive_crowded(times, targets, least, window):
    """As ``crowded``, window by window."""
    hit = [False] * len(times)
    for end, last in enumerate(times):
        inside = [at for at in range(end + 1) if times[at] >= last - window]
        if len({targets[at] for at in inside}) >= least:
            for at in inside:
                hit[at] = True
    return hit


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=40),
    st.integers(1, 5),
    st.integers(0, 12),
)
def test_crowded_agrees_with_counting_window_by_window(events, least, window):
    events.sort(key=lambda event: event[0])
    times, targets = [time for time, _ in events], [target for _, target in events]
    made = crowded(np.array(times, dtype=np.int64), np.array(targets, dtype=np.int64), least, window)
    assert made.tolist() == naive_crowded(times, targets, least, window)


def test_the_threshold_is_what_the_page_says():
    from auditor.rules import port_sweep

    assert f"at least {SWEEP_TARGETS} distinct pairs" in port_sweep.__doc__
    assert f"within {SWEEP_WINDOW_NS // 10**9} seconds" in port_sweep.__doc__
