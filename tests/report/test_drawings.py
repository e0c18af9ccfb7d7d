"""The drawings show every connection and every finding, in their place and inside the frame."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.report._drawings import (
    DESK,
    OTHERS,
    SHOWN_ROLES,
    TELEPHONE,
    THINNEST,
    Edge,
    Moments,
    clock,
    flow_map,
    timeline,
)

ROLES = st.sampled_from(["diego_cell", "diego_brain", "nats", "uaa", "router", "(in no inventory)"])
KINDS = st.sampled_from(["documented", "violated", "undeclared", "ambient", "out_of_scope"])
EDGES = st.lists(st.builds(Edge, ROLES, ROLES, KINDS, st.integers(1, 10**6)), max_size=40, unique_by=lambda e: (e.source, e.target, e.kind))  # fmt: skip
SECOND = 10**9
START = 1_794_819_600 * SECOND


def corners(outline: str) -> tuple[float, float, float, float, float]:
    """x and y where a band begins, x and y where it ends, and how thick it is."""
    numbers = [float(each) for each in re.findall(r"-?\d+\.?\d*", outline)]
    # M x0 y0 H level C bend y0 bend y1 level y1 H x1 v thick
    return numbers[0], numbers[1], numbers[9], numbers[8], numbers[10]


@given(EDGES, st.sampled_from([DESK, TELEPHONE]))
def test_bands_join_their_nodes_and_do_not_overlap_there(edges, shape):
    drawn = flow_map(edges, shape)
    assert sum(band.edge.count for band in drawn.bands) == sum(edge.count for edge in edges)
    assert len(drawn.bands) == len(edges)
    nodes = {(node.left, node.name): node for node in drawn.nodes}
    for left in (True, False):
        names = [node for (side, _), node in nodes.items() if side == left]
        for upper, lower in itertools.pairwise(names):
            assert upper.y + upper.height < lower.y
        assert all(node.y >= 0 and node.y + node.height <= drawn.height for node in names)
        for node in names:
            mine = []
            for band in drawn.bands:
                x0, y0, x1, y1, thick = corners(band.outline)
                assert 0 < x0 < x1 < shape.width
                assert thick >= THINNEST
                if (band.edge.source if left else band.edge.target) == node.name:
                    mine.append((y0 if left else y1, thick))
            mine.sort()
            assert mine[0][0] >= node.y - 0.2
            assert mine[-1][0] + mine[-1][1] <= node.y + node.height + 0.2
            for (y, thick), (below, _) in itertools.pairwise(mine):
                assert y + thick <= below + 0.2
            assert node.count == sum(e.count for e in edges if (e.source if left else e.target) == node.name)


def test_width_is_by_connections_and_undeclared_is_on_top():
    drawn = flow_map(
        [Edge("a", "b", "undeclared", 1), Edge("a", "c", "documented", 300), Edge("d", "c", "documented", 100)]
    )
    thick = {band.edge.target + band.edge.source: corners(band.outline)[4] for band in drawn.bands}
    assert thick["ca"] == pytest.approx(3 * thick["cd"], rel=0.01)
    assert thick["ba"] == THINNEST
    assert drawn.bands[-1].edge.kind == "undeclared"


def test_many_roles_share_a_node():
    drawn = flow_map([Edge(f"r{number:03d}", "b", "documented", 1000 - number) for number in range(100)])
    left = [node.name for node in drawn.nodes if node.left]
    assert len(left) == SHOWN_ROLES
    assert OTHERS in left
    assert "r000" in left
    assert "r099" not in left
    assert sum(node.count for node in drawn.nodes if node.left) == sum(1000 - n for n in range(100))


def test_nothing_to_draw():
    assert flow_map([]).bands == ()
    assert flow_map([Edge("a", "b", "documented", 0)]).nodes == ()


def moments(*spans: tuple[int, int, int]) -> Moments:
    """Of (finding, first, last)."""
    which, first, last = np.array(spans, np.int64).reshape(-1, 3).T
    return Moments(
        tuple((f"f{n}", f"finding {n}") for n in range(int(which.max()) + 1)), which, START + first, START + last
    )


@given(
    st.lists(st.tuples(st.integers(0, 10**13), st.integers(0, 10**13)), min_size=1, max_size=60),
    st.lists(st.integers(0, 10**13), min_size=1, max_size=60),
    st.sampled_from([DESK, TELEPHONE]),
)
def test_marks_stand_inside_and_where_connections_are(spans, starts, shape):
    every = [(n // 2, min(pair), max(pair)) for n, pair in enumerate(spans)]
    series = pd.Series([START + each for each in starts])
    kinds = ["undeclared" if each % 2 == 0 else "out_of_scope" if each % 3 else "documented" for each in series]
    drawn = timeline(series, kinds, [("rule", "high", moments(*every))], START, START + 10**13, shape)
    marks = drawn.lanes[0].marks
    assert drawn.lanes[0].findings == len({each[0] for each in every})
    scale = (shape.plot_right - shape.plot_left) / 10**13
    drawn_x = [(shape.plot_left + first * scale, shape.plot_left + last * scale) for _, first, last in every]
    for x0, x1 in drawn_x:
        assert any(mark.x - 4 <= x0 <= x1 <= mark.x + mark.width + 0.01 for mark in marks)
    for mark in marks:
        assert shape.plot_left <= mark.x
        assert mark.x + mark.width <= shape.plot_right + 0.01
        inside = sum(min(x1, mark.x + mark.width) - max(x0, mark.x) + 5 for x0, x1 in drawn_x if mark.x - 5 < x0 < mark.x + mark.width)  # fmt: skip
        assert mark.width <= inside + 0.01, "no mark is wider than the connections that it stands for"
    for one, other in itertools.pairwise(marks):
        assert one.x + one.width < other.x
    assert 1 <= len(drawn.ticks) <= 9
    for word, count in (("opened", len(starts)), *((kind, kinds.count(kind)) for kind in set(kinds))):
        told = [re.search(rf"([\d,]+) {word.replace('_', ' ')}", bar.says) for bar in drawn.bars]
        assert sum(int(each[1].replace(",", "")) for each in told if each) == count
    assert set(drawn.kinds) == set(kinds)
    for bar in drawn.bars:
        assert all(foot + tall == other for (_, foot, tall), (_, other, _) in itertools.pairwise(bar.parts))


def test_a_gap_between_two_connections_of_a_finding_stays_a_gap():
    series = pd.Series([START, START + 90 * SECOND])
    told = moments((0, 0, SECOND), (0, 90 * SECOND, 100 * SECOND), (1, 90 * SECOND, 91 * SECOND))
    [lane] = timeline(series, ["undeclared"] * len(series), [("rule", "high", told)], START, START + 100 * SECOND).lanes
    assert [mark.target for mark in lane.marks] == ["f0", "f1"]
    assert lane.marks[0].x + lane.marks[0].width < lane.marks[1].x - 600
    assert lane.marks[1].says == "2026-11-16 09:01:30.000 2 findings: finding 1, …"


@pytest.mark.parametrize(
    ("span", "texts"),
    [
        (3 * SECOND // 1000, ["09:00:00.0000", "09:00:00.0005", "09:00:00.0010"]),
        (100 * SECOND, ["09:00:00", "09:00:15", "09:00:30"]),
        (8 * 3600 * SECOND, ["09:00:00", "10:00:00"]),
        (30 * 86_400 * SECOND, ["2026-11-19", "2026-11-26"]),
        (3 * 365 * 86_400 * SECOND, []),
    ],
)
def test_ticks_are_round_times(span, texts):
    series = pd.Series([START])
    drawn = timeline(series, ["undeclared"] * len(series), [], START, START + span)
    assert 1 <= len(drawn.ticks) <= 9
    assert [tick.text for tick in drawn.ticks][: len(texts)] == texts
    assert all(DESK.plot_left <= tick.x <= DESK.plot_right for tick in drawn.ticks)


def test_one_moment_is_a_timeline_too():
    series = pd.Series([START])
    drawn = timeline(series, ["undeclared"] * len(series), [("rule", "info", moments((0, 0, 0)))], START, START)
    assert drawn.lanes[0].marks[0].target == "f0"
    assert drawn.most == 1


def test_clock():
    assert clock(START) == "09:00:00"
    assert clock(START + 123_456_789, 3) == "09:00:00.123"
    assert clock(START, date=True) == "2026-11-16 09:00:00"
