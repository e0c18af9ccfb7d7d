"""Layout of the page's two drawings: who talked to whom, and when findings were seen.

Both are laid out here in numbers and drawn as plain SVG by the page's template, so that they need no script, follow the reader's colours and
stay text for a screen reader. The map is a flow diagram with two sides, who opened on the left and who answered on the right, because the question is
directed; a band's width is its number of connections, never below ``THINNEST``, so that one undeclared connection among a million is seen.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditor.report._columns import rfc3339

THINNEST = 2.0
SHOWN_ROLES = 44
"""How many roles and unknown hosts of one side get a node of their own, those with undeclared connections first; the rest share one."""
OTHERS = "other roles"

_NODE, _LOWEST, _HIGHEST = 9.0, 13.0, 400.0


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a drawing: both are laid out for a wide and a narrow screen, and the page shows the one that fits."""

    width: float
    left: float
    """Left edge of the map's left nodes, right edge of its right nodes."""
    right: float
    gap: float
    """Gap between two nodes; names are put there where there is no room beside a node."""
    plot_left: float
    """Position of the timeline's first and last moment."""
    plot_right: float
    bins: int
    ticks: int
    top: float
    row: float
    beside: bool
    """Names are beside what they name, else above."""
    flat: float = 0.0
    """So far from its ends a band is level, and leaves room for the names above."""


DESK = Shape(1000.0, 212.0, 788.0, 11.0, 232.0, 988.0, 126, 8, 14.0, 22.0, beside=True)
TELEPHONE = Shape(368.0, 1.0, 367.0, 24.0, 4.0, 364.0, 60, 4, 26.0, 38.0, beside=False, flat=118.0)


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
    shape: Shape
    height: float


_ORDER = {"documented": 0, "violated": 1, "ambient": 2, "out_of_scope": 3, "undeclared": 4}


def _folded(edges: Sequence[Edge]) -> list[Edge]:
    """The edges with the roles beyond ``SHOWN_ROLES`` of each side as one."""
    kept = []
    for side in ("source", "target"):
        counts: dict[str, int] = defaultdict(int)
        for edge in edges:
            counts[getattr(edge, side)] += edge.count
        accused = {getattr(edge, side) for edge in edges if edge.kind == "undeclared"}
        ranked = sorted(counts, key=lambda name: (name not in accused, -counts[name], name))
        kept.append(set(ranked if len(ranked) <= SHOWN_ROLES else ranked[: SHOWN_ROLES - 1]))
    together: dict[tuple[str, str, str], int] = defaultdict(int)
    for edge in edges:
        source = edge.source if edge.source in kept[0] else OTHERS
        target = edge.target if edge.target in kept[1] else OTHERS
        together[source, target, edge.kind] += edge.count
    return [Edge(*key, count) for key, count in together.items()]


def _sorted_sides(edges: Sequence[Edge]) -> tuple[list[str], list[str]]:
    """An order of both sides with few crossings: each side sorted by the weighted middle of its neighbours, several times."""
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


def flow_map(given: Iterable[Edge], shape: Shape = DESK) -> FlowMap:
    """The layout of who talked to whom."""
    edges = _folded([edge for edge in given if edge.count > 0])
    if not edges:
        return FlowMap((), (), shape, 0.0)
    sides = _sorted_sides(edges)
    total = sum(edge.count for edge in edges)
    room = min(_HIGHEST, 90.0 + 34.0 * max(map(len, sides)))
    width = {id(edge): max(THINNEST, edge.count / total * room) for edge in edges}
    nodes: dict[tuple[bool, str], Node] = {}
    heights = []
    for left, names in zip((True, False), sides, strict=True):
        y = 4.0 if shape.beside else shape.gap
        for name in names:
            mine = [edge for edge in edges if (edge.source if left else edge.target) == name]
            height = max(_LOWEST, sum(width[id(edge)] for edge in mine))
            nodes[left, name] = Node(
                name, shape.left if left else shape.right - _NODE, y, height, sum(edge.count for edge in mine), left
            )
            y += height + shape.gap
        heights.append(y - shape.gap + 4.0)
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
        x0, x1, thick = shape.left + _NODE, shape.right - _NODE, width[id(edge)]
        flat = shape.flat
        y0, y1, bend = ends[id(edge), True], ends[id(edge), False], (x0 + x1) / 2
        bands.append(
            Band(
                edge,
                f"M{x0:.1f} {y0:.1f}H{x0 + flat:.1f}C{bend:.1f} {y0:.1f} {bend:.1f} {y1:.1f} {x1 - flat:.1f} {y1:.1f}H{x1:.1f}v{thick:.1f}"
                f"H{x1 - flat:.1f}C{bend:.1f} {y1 + thick:.1f} {bend:.1f} {y0 + thick:.1f} {x0 + flat:.1f} {y0 + thick:.1f}H{x0:.1f}z",
            )
        )
    return FlowMap(tuple(nodes.values()), tuple(bands), shape, tallest)


# -- when ------------------------------------------------------------------------------------------------------------------------

_TALL, _DOT = 52.0, 4.0
_STEPS_NS = [
    int(seconds * 1_000_000_000)
    for seconds in (
        *(each * 10**power for power in range(-6, 0) for each in (1, 2, 5)),
        *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
        *(3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800),
    )
]


STACKED = ("undeclared", "out_of_scope", "ambient", "documented")
"""Dispositions from the foot of a bar to its head."""


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    text_x: float
    """The middle of its text, which stands whole in the drawing."""
    text: str


@dataclass(frozen=True, slots=True)
class Bar:
    """Connections that began in one slice of time."""

    x: float
    width: float
    parts: tuple[tuple[str, float, float], ...]
    """(disposition, distance from the foot, height): undeclared ones at the foot."""
    says: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Connections of one finding, or of several of one rule, that are too close together to be drawn apart; without gaps."""

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
    kinds: tuple[str, ...]
    """Dispositions that are drawn, for the legend."""
    shape: Shape
    base: float
    """Foot of the bars."""
    height: float
    first_ns: int
    last_ns: int


@dataclass(frozen=True, slots=True)
class Moments:
    """Findings of a rule in time: when each of their connections began and ended."""

    findings: tuple[tuple[str, str], ...]
    """Ids and titles."""
    which: NDArray[np.int64]
    """Of each connection, the place of its finding in ``findings``."""
    first_ns: NDArray[np.int64]
    last_ns: NDArray[np.int64]


def clock(ns: int, digits: int = 0, *, date: bool = False) -> str:
    """``16:48:00.123``, with the date before it where asked for."""
    text = str(rfc3339(np.array([ns], np.int64), np.zeros(1, bool), 9)[0].as_py())
    time = text[11:19] + (f".{text[20 : 20 + digits]}" if digits else "")
    return f"{text[:10]} {time}" if date else time


def _x(at: NDArray[np.int64], first: int, last: int, shape: Shape) -> NDArray[np.float64]:
    """Positions of moments; those outside are at the edge."""
    share = np.clip((at - first).astype(np.float64) / max(last - first, 1), 0.0, 1.0)
    return shape.plot_left + share * (shape.plot_right - shape.plot_left)


def _ticks(first: int, last: int, shape: Shape) -> tuple[Tick, ...]:
    span = max(last - first, 1)
    step = next((each for each in _STEPS_NS if span / each <= shape.ticks), None)
    if step is None:
        step = -(-span // shape.ticks // _STEPS_NS[-1]) * _STEPS_NS[-1]
    digits = 0 if step >= 10**9 else len(f"{step / 10**9:.9f}".rstrip("0")) - 2
    found = []
    for at in range(-(-first // step) * step, last + 1, step):
        text = clock(at, date=True)[:10] if step >= 86_400 * 10**9 else clock(at, digits)
        x = shape.plot_left + (at - first) / span * (shape.plot_right - shape.plot_left)
        half = 3.5 * len(text)
        found.append(Tick(x, min(max(x, half), shape.width - half), text))
    return tuple(found)


def _bars(
    starts: pd.Series[int], kinds: Sequence[str], first: int, last: int, shape: Shape
) -> tuple[tuple[Bar, ...], int]:
    span = max(last - first, 1)
    share = (starts.to_numpy(np.int64) - first).astype(np.float64) / span
    at = np.clip(share * shape.bins, 0, shape.bins - 1).astype(np.int64)
    counts = np.bincount(at, minlength=shape.bins)
    words = np.array(kinds, object)
    of_kind = {kind: np.bincount(at[words == kind], minlength=shape.bins) for kind in STACKED}
    most = int(counts.max()) if counts.size else 0
    wide = (shape.plot_right - shape.plot_left) / shape.bins
    bars = []
    for number in np.flatnonzero(counts).tolist():
        parts, foot, said = [], 0.0, []
        for kind in STACKED:
            count = int(of_kind[kind][number])
            if count:
                height = max(1.5, count / most * _TALL)
                parts.append((kind, foot, height))
                foot += height
                said.append(f"{count:,} {kind.replace('_', ' ')}")
        when = clock(first + int(span * number / shape.bins), 0 if span > 120 * 10**9 else 3)
        says = f"{when}: {int(counts[number]):,} opened, {', '.join(said)}"
        bars.append(Bar(shape.plot_left + number * wide, wide - 1, tuple(parts), says))
    return tuple(bars), most


def _marks(moments: Moments, first: int, last: int, shape: Shape) -> Iterator[Mark]:
    """Each connection where it is; those that touch are one mark."""
    order = np.lexsort((moments.which, moments.last_ns, moments.first_ns))
    if not order.size:
        return
    which, began = moments.which[order], moments.first_ns[order]
    start = np.minimum(_x(began, first, last, shape), shape.plot_right - _DOT)
    end = np.maximum(_x(moments.last_ns[order], first, last, shape), start + _DOT)
    reach = np.maximum.accumulate(end)
    bounds = [0, *(np.flatnonzero(start[1:] > reach[:-1] + 1) + 1).tolist(), order.size]
    for low, high in itertools.pairwise(bounds):
        ids = pd.unique(which[low:high]).tolist()
        id_, title = moments.findings[ids[0]]
        says = title if len(ids) == 1 else f"{len(ids)} findings: {title}, …"
        x = float(start[low])
        yield Mark(x, float(reach[high - 1]) - x, id_, f"{clock(int(began[low]), 3, date=True)} {says}")


def timeline(
    starts: pd.Series[int],
    kinds: Sequence[str],
    lanes: Sequence[tuple[str, str, Moments]],
    first: int,
    last: int,
    shape: Shape = DESK,
) -> Timeline:
    """The layout of what was seen when.

    Parameters
    ----------
    starts, kinds : of each connection, when it began in nanoseconds, and its disposition
    lanes : rule, severity and findings
    first, last : nanoseconds; what is outside is drawn at the edge
    """
    base = shape.top + _TALL
    bars, most = _bars(starts, kinds, first, last, shape)
    drawn_kinds = tuple(kind for kind in STACKED if any(kind == part for bar in bars for part, _, _ in bar.parts))
    head = 30.0 if shape.beside else 48.0
    drawn = [
        Lane(rule, severity, len(moments.findings), base + head + number * shape.row, tuple(_marks(moments, first, last, shape)))
        for number, (rule, severity, moments) in enumerate(lanes)
    ]  # fmt: skip
    height = base + 26 + len(drawn) * shape.row + 8
    return Timeline(_ticks(first, last, shape), bars, tuple(drawn), most, drawn_kinds, shape, base, height, first, last)
