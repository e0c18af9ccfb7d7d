"""Where the marks of the page's two drawings stand: who talked to whom, and when findings were seen.

Both are laid out here in numbers and drawn as plain SVG by the page's template, so that they need no script, follow the reader's colours and
stay text for a screen reader. The map is a flow diagram with two sides, who opened on the left and who answered on the right, because the question is
directed; a band's width is its number of connections, never below ``THINNEST``, so that one undeclared connection among a million is seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from auditor.report._columns import rfc3339

WIDTH = 1000.0
THINNEST = 2.0
SHOWN_ROLES = 24
"""Roles of one side with a node of their own; the rest share one."""
OTHERS = "other roles"

_LEFT, _RIGHT, _NODE = 212.0, 788.0, 9.0
_GAP, _LOWEST, _HIGHEST = 11.0, 13.0, 400.0


@dataclass(frozen=True, slots=True)
class Edge:
    """Connections of one kind from one role to another."""

    source: str
    target: str
    kind: str
    """documented, violated, undeclared, ambient, out_of_scope."""
    count: int


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    x: float
    y: float
    height: float
    count: int
    left: bool

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Band:
    edge: Edge
    outline: str
    """``d`` of its path."""


@dataclass(frozen=True, slots=True)
class FlowMap:
    nodes: tuple[Node, ...]
    bands: tuple[Band, ...]
    """Widest first, undeclared last: what matters is drawn on top."""
    width: float
    height: float


_ORDER = {"documented": 0, "violated": 1, "ambient": 2, "out_of_scope": 3, "undeclared": 4}


def _folded(edges: Sequence[Edge]) -> list[Edge]:
    """The edges with the roles beyond ``SHOWN_ROLES`` of each side as one."""
    kept = []
    for side in ("source", "target"):
        counts: dict[str, int] = defaultdict(int)
        for edge in edges:
            counts[getattr(edge, side)] += edge.count
        ranked = sorted(counts, key=lambda name: (-counts[name], name))
        kept.append(set(ranked if len(ranked) <= SHOWN_ROLES else ranked[: SHOWN_ROLES - 1]))
    together: dict[tuple[str, str, str], int] = defaultdict(int)
    for edge in edges:
        source = edge.source if edge.source in kept[0] else OTHERS
        target = edge.target if edge.target in kept[1] else OTHERS
        together[source, target, edge.kind] += edge.count
    return [Edge(*key, count) for key, count in together.items()]


def _sorted_sides(edges: Sequence[Edge]) -> tuple[list[str], list[str]]:
    """An order of both sides in which few bands cross: each side by the weighted middle of what it is bound to, some times over."""
    counts: dict[str, int] = defaultdict(int)
    for edge in edges:
        counts[edge.source] += edge.count
    left = sorted(counts, key=lambda name: (-counts[name], name))
    right = sorted({edge.target for edge in edges})
    for _ in range(6):
        for side, other, mine, theirs in (("target", left, right, "source"), ("source", right, left, "target")):
            place = {name: number for number, name in enumerate(other)}
            middle: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
            for edge in edges:
                weight = float(np.sqrt(edge.count))
                middle[getattr(edge, side)][0] += weight * place[getattr(edge, theirs)]
                middle[getattr(edge, side)][1] += weight
            mine.sort(key=lambda name: (middle[name][0] / middle[name][1], name))
    return left, right


def flow_map(given: Iterable[Edge]) -> FlowMap:
    """The layout of who talked to whom."""
    edges = _folded([edge for edge in given if edge.count > 0])
    if not edges:
        return FlowMap((), (), WIDTH, 0.0)
    sides = _sorted_sides(edges)
    total = sum(edge.count for edge in edges)
    room = min(_HIGHEST, 90.0 + 34.0 * max(map(len, sides)))
    width = {id(edge): max(THINNEST, edge.count / total * room) for edge in edges}
    nodes: dict[tuple[bool, str], Node] = {}
    heights = []
    for left, names in zip((True, False), sides, strict=True):
        y = 4.0
        for name in names:
            mine = [edge for edge in edges if (edge.source if left else edge.target) == name]
            height = max(_LOWEST, sum(width[id(edge)] for edge in mine))
            nodes[left, name] = Node(
                name, _LEFT if left else _RIGHT - _NODE, y, height, sum(edge.count for edge in mine), left
            )
            y += height + _GAP
        heights.append(y - _GAP + 4.0)
    tallest = max(heights)
    for left, height in zip((True, False), heights, strict=True):  # the shorter side stands in the middle
        shift = (tallest - height) / 2
        for name in sides[0] if left else sides[1]:
            node = nodes[left, name]
            nodes[left, name] = Node(node.name, node.x, node.y + shift, node.height, node.count, left)

    starts: dict[tuple[bool, str], float] = {}
    ends: dict[tuple[int, bool], float] = {}
    for left in (True, False):
        for name in sides[0] if left else sides[1]:
            node = nodes[left, name]
            mine = [edge for edge in edges if (edge.source if left else edge.target) == name]
            mine.sort(key=lambda edge: (nodes[not left, edge.target if left else edge.source].y, _ORDER[edge.kind]))
            starts[left, name] = node.y + (node.height - sum(width[id(edge)] for edge in mine)) / 2
            for edge in mine:
                ends[id(edge), left] = starts[left, name]
                starts[left, name] += width[id(edge)]
    bands = []
    for edge in sorted(edges, key=lambda each: (_ORDER[each.kind], -each.count, each.source, each.target)):
        x0, x1, thick = _LEFT + _NODE, _RIGHT - _NODE, width[id(edge)]
        y0, y1, bend = ends[id(edge), True], ends[id(edge), False], (x0 + x1) / 2
        bands.append(
            Band(
                edge,
                f"M{x0:.1f} {y0:.1f}C{bend:.1f} {y0:.1f} {bend:.1f} {y1:.1f} {x1:.1f} {y1:.1f}v{thick:.1f}"
                f"C{bend:.1f} {y1 + thick:.1f} {bend:.1f} {y0 + thick:.1f} {x0:.1f} {y0 + thick:.1f}z",
            )
        )
    return FlowMap(tuple(nodes.values()), tuple(bands), WIDTH, tallest)


# -- when ------------------------------------------------------------------------------------------------------------------------

_PLOT_LEFT, _PLOT_RIGHT = 232.0, 988.0
_BINS, _TALL, _ROW, _TOP, _DOT = 126, 52.0, 22.0, 14.0, 6.0
_STEPS_NS = [
    int(seconds * 1_000_000_000)
    for seconds in (
        *(each * 10**power for power in range(-6, 0) for each in (1, 2, 5)),
        *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
        *(3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800),
    )
]


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """Connections that began in one slice of time."""

    x: float
    width: float
    documented: float
    """Heights."""
    undeclared: float
    says: str


@dataclass(frozen=True, slots=True)
class Mark:
    """One finding, or some of a rule that stand too close together to be told apart."""

    x: float
    width: float
    target: str
    """Id of the (first) finding."""
    says: str


@dataclass(frozen=True, slots=True)
class Lane:
    rule: str
    severity: str
    findings: int
    y: float
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    lanes: tuple[Lane, ...]
    most: int
    """Connections of the highest bar."""
    left: float
    right: float
    base: float
    """Foot of the bars."""
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Span:
    """A finding in time."""

    id: str
    title: str
    first_ns: int
    last_ns: int


def clock(ns: int, digits: int = 0, *, date: bool = False) -> str:
    """``16:48:00.123``, with the date before it where asked for."""
    text = str(rfc3339(np.array([ns], np.int64), np.zeros(1, bool), 9)[0].as_py())
    time = text[11:19] + (f".{text[20 : 20 + digits]}" if digits else "")
    return f"{text[:10]} {time}" if date else time


def _ticks(first: int, last: int) -> tuple[Tick, ...]:
    span = max(last - first, 1)
    step = next((each for each in _STEPS_NS if span / each <= 8), None)
    if step is None:
        step = -(-span // 8 // _STEPS_NS[-1]) * _STEPS_NS[-1]
    digits = 0 if step >= 10**9 else len(f"{step / 10**9:.9f}".rstrip("0")) - 2
    found = []
    for at in range(-(-first // step) * step, last + 1, step):
        text = clock(at, date=True)[:10] if step >= 86_400 * 10**9 else clock(at, digits)
        found.append(Tick(_PLOT_LEFT + (at - first) / span * (_PLOT_RIGHT - _PLOT_LEFT), text))
    return tuple(found)


def _bars(starts: pd.Series[int], undeclared: pd.Series[bool], first: int, last: int) -> tuple[tuple[Bar, ...], int]:
    span = max(last - first, 1)
    at = np.clip((starts.to_numpy(np.int64) - first).astype(np.float64) / span * _BINS, 0, _BINS - 1).astype(np.int64)
    bad = undeclared.to_numpy(bool)
    counts = np.bincount(at, minlength=_BINS)
    wrong = np.bincount(at[bad], minlength=_BINS)
    most = int(counts.max()) if counts.size else 0
    wide = (_PLOT_RIGHT - _PLOT_LEFT) / _BINS
    bars = []
    for number in np.flatnonzero(counts).tolist():
        all_, red = int(counts[number]), int(wrong[number])
        height = max(1.5, all_ / most * _TALL)
        red_height = min(height, max(1.5, red / most * _TALL)) if red else 0.0
        when = clock(first + int(span * number / _BINS), 0 if span > 120 * 10**9 else 3)
        bars.append(
            Bar(
                _PLOT_LEFT + number * wide, wide - 1, height, red_height, f"{when}: {all_:,} opened, {red:,} undeclared"
            )
        )
    return tuple(bars), most


def _mark(spans: Sequence[Span], start: float, end: float) -> Mark:
    says = spans[0].title if len(spans) == 1 else f"{len(spans)} findings: {spans[0].title}, …"
    start = min(start, _PLOT_RIGHT - _DOT)
    return Mark(start, max(end - start, _DOT), spans[0].id, f"{clock(spans[0].first_ns, 3, date=True)} {says}")


def timeline(
    starts: pd.Series[int],
    undeclared: pd.Series[bool],
    lanes: Sequence[tuple[str, str, Sequence[Span]]],
    first: int,
    last: int,
) -> Timeline:
    """The layout of what was seen when.

    Parameters
    ----------
    starts, undeclared : of each connection, when it began in nanoseconds, and whether no path declares it
    lanes : rule, severity and findings
    first, last : nanoseconds; what lies outside is drawn at the edge
    """
    span = max(last - first, 1)
    scale = (_PLOT_RIGHT - _PLOT_LEFT) / span
    base = _TOP + _TALL
    bars, most = _bars(starts, undeclared, first, last)
    drawn = []
    for number, (rule, severity, spans) in enumerate(lanes):
        marks: list[Mark] = []
        together: list[Span] = []
        start = end = 0.0
        for each in sorted(spans, key=lambda one: (one.first_ns, one.last_ns, one.id)):
            x0, x1 = (_PLOT_LEFT + (min(max(at, first), last) - first) * scale for at in (each.first_ns, each.last_ns))
            if together and x0 > end + 1:
                marks.append(_mark(together, start, end))
                together = []
            if not together:
                start, end = x0, x0
            together.append(each)
            end = max(end, x1, x0 + _DOT)
        if together:
            marks.append(_mark(together, start, end))
        drawn.append(Lane(rule, severity, len(spans), base + 30 + number * _ROW, tuple(marks)))
    height = base + 26 + len(drawn) * _ROW + 8
    return Timeline(_ticks(first, last), bars, tuple(drawn), most, _PLOT_LEFT, _PLOT_RIGHT, base, WIDTH, height)
