"""What inspectors found, as columns: values that repeat once, links between sessions as bytes, frames as small numbers beside their connection's first.

Reading gives facts of plain values (texts, numbers, true, false, none and rows of them) under names that facts have, or WireError; whether their types are
what a judge expects is the judge's matter, which is why a window that upsets it is put aside (``auditor.agents.judging``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from auditor.agents.columns import Column, Numbers, pack, rising, summed, unpack, within
from auditor.agents.records import MOST_FRAMES
from auditor.errors import WireError
from auditor.model.evidence import Certainty
from auditor.model.facts import LINK, Facts, Proof, pack_marks

Array = NDArray[Any]

_KIND = re.compile(r"[a-z_][a-z0-9_.]{0,63}")
_HASH: Final = re.compile(r"[0-9a-f]{16}")
_HASH_BYTES: Final = 8
_DEPTH: Final = 6
_CERTAINTIES: Final = tuple(Certainty)
MOST_PLACES: Final = 256
"""So many kinds may one inspector tell frames of."""


class Own(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What connections have of one kind beside what they share."""

    kind: int
    count: int
    rows: Column
    linked: bool
    """Its values are links."""
    values: Column


class Form(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One way in which inspectors tell frames: of which kinds."""

    packed: bool
    """Two frames for each of ``places``, which kinds name; else lists of frames, one for each kind."""
    kinds: list[int]
    places: list[int]


class Found(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """All evidence of a table of connections."""

    kinds: list[str]
    values: list[Any]
    links: bytes
    shared: list[list[int]]
    """Kind and value, again and again."""
    certain: list[list[int]]
    """Kind and certainty, again and again."""
    row_shared: Column
    row_certain: Column
    own: list[Own]
    frame_counts: Column
    frames: Column
    forms: list[Form]
    mark_counts: Column
    mark_forms: Column
    packed: list[Column]
    """Of each packed form the places in their connections' frames, 0: none."""
    list_counts: Column
    listed: Column
    payload: list[Column]


class _Table:
    """Distinct things, numbered as they come."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._numbers: dict[Any, int] = {}

    def number(self, key: Any, item: Any) -> int:
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.items)
            self.items.append(item)
        return found


def _plain(value: Any) -> Any:
    return value.fits() if isinstance(value, Proof) else value


def _key(value: Any) -> Any:
    """True is not 1."""
    return value if isinstance(value, str) else msgspec.msgpack.encode(value)


class _Writer:
    def __init__(self) -> None:
        self.kinds, self.values, self.links = _Table(), _Table(), _Table()
        self.forms = _Table()
        self._form_of: dict[int, tuple[int, Mapping[str, Any]]] = {}

    def kind(self, name: str) -> int:
        return self.kinds.number(name, name)

    def value(self, value: Any) -> int:
        value = _plain(value)
        return self.values.number(_key(value), value)

    def form(self, places: Mapping[str, Any], packed: bool) -> int:
        known = self._form_of.get(id(places)) if packed else None
        if known is not None:
            return known[0]
        kinds = tuple(self.kind(each) for each in places)
        at = tuple(int(each) for each in places.values()) if packed else ()
        number = self.forms.number((packed, kinds, at), Form(packed, list(kinds), list(at)))
        if packed:
            self._form_of[id(places)] = number, places
        return number


def to_columns(rows: Array, facts: Sequence[Facts | None]) -> Found:
    """Facts of records (CONN), row by row, and the frames that the records themselves name as the first ones with payload."""
    writer = _Writer()
    n = len(rows)
    shared_of: dict[int, int] = {}
    shared, certain = _Table(), _Table()
    row_shared, row_certain = np.zeros(n, np.int64), np.zeros(n, np.int64)
    own: dict[tuple[int, bool], tuple[list[int], list[int]]] = {}
    marks: list[tuple[int, int, Mapping[str, Any], bytes | None]] = []
    counts = np.zeros(n, np.int64)
    for row, fact in enumerate(facts):
        if fact is None:
            continue
        number = shared_of.get(id(fact.shared))
        if number is None:
            flat = [each for kind, value in fact.shared.items() for each in (writer.kind(kind), writer.value(value))]
            number = shared_of[id(fact.shared)] = shared.number(tuple(flat), flat)
        row_shared[row] = number + 1
        if fact.certainties:
            flat = [
                each for kind, how in fact.certainties.items() for each in (writer.kind(kind), _CERTAINTIES.index(how))
            ]
            row_certain[row] = certain.number(tuple(flat), flat) + 1
        for kind, value in fact.own.items():
            linked = kind.startswith(LINK) and isinstance(value, str) and _HASH.fullmatch(value) is not None
            at, values = own.setdefault((writer.kind(kind), linked), ([], []))
            at.append(row)
            values.append(writer.links.number(value, bytes.fromhex(value)) if linked else writer.value(value))
        counts[row] = len(fact.marks)
        marks += [(row, writer.form(places, packed is not None), places, packed) for places, packed in fact.marks]
    frames = _Frames(rows, marks, writer.forms.items)
    return Found(
        kinds=writer.kinds.items,
        values=writer.values.items,
        links=b"".join(writer.links.items),
        shared=shared.items,
        certain=certain.items,
        row_shared=pack(row_shared),
        row_certain=pack(row_certain),
        own=[
            Own(kind, len(at), pack(rising(np.array(at))), linked, pack(np.array(values)))
            for (kind, linked), (at, values) in own.items()
        ],
        frame_counts=pack(frames.counts),
        frames=pack(frames.told),
        forms=writer.forms.items,
        mark_counts=pack(counts),
        mark_forms=pack(np.array([form for _, form, _, _ in marks], np.int64)),
        packed=frames.packed,
        list_counts=pack(frames.list_counts),
        listed=pack(frames.listed),
        payload=frames.payload,
    )


class _Frames:
    """The distinct frames of each row, in order, and all that names one as its place among them."""

    def __init__(
        self, rows: Array, marks: list[tuple[int, int, Mapping[str, Any], bytes | None]], forms: list[Form]
    ) -> None:
        asked_rows: list[NDArray[np.int64]] = []
        asked: list[NDArray[np.int64]] = []

        def ask(row: NDArray[np.int64], frame: NDArray[np.int64]) -> None:
            asked_rows.append(row.reshape(-1))
            asked.append(frame.reshape(-1))

        everyone = np.arange(len(rows))
        for k in range(2):
            ask(everyone, np.maximum(rows["side"]["payload_frame"][:, k] + 1, 0))
        by_form = []
        for number, form in enumerate(forms):
            if not form.packed:
                continue
            mine = [(row, packed) for row, which, _, packed in marks if which == number]
            matrix = _unpacked([packed or b"" for _, packed in mine], _width(form))
            by_form.append(matrix.shape)
            ask(
                np.repeat(np.array([row for row, _ in mine], np.int64), matrix.shape[1]),
                np.where(matrix > 0, matrix + 1, 0),
            )
        lists = [(row, frames) for row, _, places, packed in marks if packed is None for frames in places.values()]
        self.list_counts = np.array([len(frames) for _, frames in lists], np.int64)
        flat = np.array([frame for _, frames in lists for frame in frames], np.int64)
        ask(np.repeat(np.array([row for row, _ in lists], np.int64), self.list_counts), flat + 1)
        row, frame = np.concatenate(asked_rows), np.concatenate(asked)
        # Frames are one more than they are: 0 is none.
        some = frame > 0
        keys = row[some] * (2 * MOST_FRAMES) + frame[some]
        distinct = np.unique(keys)
        of_row = distinct // (2 * MOST_FRAMES)
        self.counts = np.bincount(of_row, minlength=len(rows)).astype(np.int64)
        begins = np.cumsum(self.counts) - self.counts
        told = distinct % (2 * MOST_FRAMES) - 1
        before = np.concatenate([np.zeros(1, np.int64), told[:-1]])
        leads = begins[self.counts > 0]
        before[leads] = rows["first_frame"][self.counts > 0]
        self.told: Numbers = told - before
        places = np.zeros(len(frame), np.int64)
        places[some] = np.searchsorted(distinct, keys) - begins[row[some]] + 1
        pieces = np.split(places, np.cumsum([len(each) for each in asked])[:-1])
        self.payload = [pack(each) for each in pieces[:2]]
        self.packed = [
            pack(np.ascontiguousarray(piece.reshape(shape).T).reshape(-1))
            for piece, shape in zip(pieces[2:-1], by_form, strict=True)
        ]
        self.listed = pieces[-1]


def _width(form: Form) -> int:
    """Frames of a mark: first and last of each place."""
    return 2 * (max(form.places, default=-1) + 1)


def _unpacked(packed: list[bytes], width: int) -> NDArray[np.int64]:
    """What ``pack_marks`` made, as frames; 0: none."""
    out = np.zeros((len(packed), width), np.int64)
    sizes = np.array([len(each) for each in packed], np.int64)
    for size in np.unique(sizes).tolist():
        at = np.flatnonzero(sizes == size)
        raw = np.frombuffer(b"".join(packed[k] for k in at.tolist()), np.uint8).reshape(at.size, size)
        base = np.ascontiguousarray(raw[:, :8]).view("<i8").reshape(-1)
        short = base < 0
        for which, kind in ((short, "<u2"), (~short, "<u4")):
            if which.any():
                deltas = np.ascontiguousarray(raw[which, 8:]).view(kind).astype(np.int64)[:, :width]
                start = np.where(base[which] < 0, ~base[which], base[which])[:, None]
                out[at[which], : deltas.shape[1]] = np.where(deltas > 0, start + deltas, 0)
    return out


# Reading


def from_columns(found: Found, rows: Array, capture_base: int) -> list[Facts | None]:
    """The facts; the rows get the frames of their first payload. ``capture_base`` is added to frame numbers. Raises WireError."""
    n = len(rows)
    kinds = [_named(kind) for kind in found.kinds]
    for value in found.values:
        _check(value, _DEPTH)
    values = [_tupled(value) for value in found.values]
    if len(found.links) % _HASH_BYTES:
        raise WireError("links are cut short")
    text = found.links.hex()
    links = [text[at : at + 2 * _HASH_BYTES] for at in range(0, len(text), 2 * _HASH_BYTES)]
    shared = [
        {kinds[_at(kind, kinds)]: values[_at(value, values)] for kind, value in _pairs(flat)} for flat in found.shared
    ]
    certain = [
        {kinds[_at(kind, kinds)]: _CERTAINTIES[_at(how, _CERTAINTIES)] for kind, how in _pairs(flat)}
        for flat in found.certain
    ]
    row_shared = within(unpack(found.row_shared, n), 0, len(shared), "shared facts")
    row_certain = within(unpack(found.row_certain, n), 0, len(certain), "certainties")
    own: dict[int, dict[str, Any]] = {}
    for each in found.own:
        if not 0 <= each.count <= n:
            raise WireError("more facts than connections")
        at = within(summed(unpack(each.rows, each.count)), 0, n - 1, "a fact's row")
        table: Sequence[Any] = links if each.linked else values
        which = within(unpack(each.values, each.count), 0, len(table) - 1, "a fact's value")
        kind = kinds[_at(each.kind, kinds)]
        for row, value in zip(at.tolist(), which.tolist(), strict=True):
            own.setdefault(row, {})[kind] = table[value]
    marks = _marks(found, kinds, rows, capture_base)
    facts: list[Facts | None] = [None] * n
    for row in np.flatnonzero(row_shared).tolist():
        told = row_certain[row]
        facts[row] = Facts(
            shared[row_shared[row] - 1],
            own.get(row, {}),
            tuple(marks.get(row, ())),
            certain[told - 1] if told else {},
        )
    return facts


def _marks(
    found: Found, kinds: list[str], rows: Array, base: int
) -> dict[int, list[tuple[Mapping[str, Any], bytes | None]]]:
    """Where frames are found, by row; sets the rows' first frames of payload."""
    n = len(rows)
    counts = within(unpack(found.frame_counts, n), 0, MOST_PLACES * 64, "frames of a connection")
    total = int(counts.sum())
    steps = unpack(found.frames, total)
    within(steps, -MOST_FRAMES, MOST_FRAMES, "a frame")
    begins = np.cumsum(counts) - counts
    along = np.cumsum(steps)
    lead = np.repeat(along[begins[counts > 0]] - steps[begins[counts > 0]], counts[counts > 0])
    first = np.repeat(rows["first_frame"], counts)
    frames = within(along - lead + first, 0, MOST_FRAMES - 1, "a frame") + base

    def named(places: Numbers, row: NDArray[np.int64], none: int) -> Numbers:
        """The frames with these places in their rows; ``none`` where the place is 0."""
        if places.size and (places.min() < 0 or (places > counts[row]).any()):
            raise WireError("a frame is named that is not there")
        if not total:
            return np.full(places.shape, none, np.int64)
        return np.where(places > 0, frames[np.minimum(begins[row] + np.maximum(places - 1, 0), total - 1)], none)

    everyone = np.arange(n)
    if len(found.payload) != 2:
        raise WireError("frames of payload are missing")
    for k, column in enumerate(found.payload):
        rows["side"]["payload_frame"][:, k] = named(unpack(column, n), everyone, -1)
    mark_counts = within(unpack(found.mark_counts, n), 0, 64, "marks of a connection")
    row_of = np.repeat(everyone, mark_counts)
    form_of = within(unpack(found.mark_forms, row_of.size), 0, len(found.forms) - 1, "the form of a mark")
    made: dict[int, tuple[Mapping[str, Any], bytes | None]] = {}
    packed = iter(found.packed)
    taken = 0
    lists: list[tuple[int, list[str]]] = []
    for number, form in enumerate(found.forms):
        names = [kinds[_at(kind, kinds)] for kind in form.kinds]
        at = np.flatnonzero(form_of == number)
        if not form.packed:
            lists += [(mark, names) for mark in at.tolist()]
            continue
        if len(names) != len(form.places) or any(not 0 <= place < MOST_PLACES for place in form.places):
            raise WireError("a form of marks contradicts itself")
        last = next(packed, None)
        if last is None:
            raise WireError("marks are missing")
        width = _width(form)
        which = unpack(last, width * at.size).reshape(width, at.size).T
        matrix = named(which, row_of[at][:, None].repeat(width, 1), 0)
        places = dict(zip(names, form.places, strict=True))
        for mark, raw in zip(at.tolist(), pack_marks(matrix.reshape(at.size, width // 2, 2)), strict=True):
            if raw is not None:
                made[mark] = places, raw
    sizes = within(unpack(found.list_counts, sum(len(names) for _, names in lists)), 0, 1 << 20, "a list of frames")
    rows_of_lists = np.array([row_of[mark] for mark, names in sorted(lists) for _ in names], np.int64)
    listed = named(unpack(found.listed, int(sizes.sum())), np.repeat(rows_of_lists, sizes), 0).tolist()
    size = iter(sizes.tolist())
    for mark, names in sorted(lists):
        told = {}
        for name in names:
            step = next(size)
            told[name] = tuple(listed[taken : taken + step])
            taken += step
        made[mark] = told, None
    out: dict[int, list[tuple[Mapping[str, Any], bytes | None]]] = {}
    for mark in sorted(made):
        out.setdefault(int(row_of[mark]), []).append(made[mark])
    return out


def _named(kind: str) -> str:
    if not _KIND.fullmatch(kind):
        raise WireError("a fact has a name that no fact has")
    return kind


def _pairs(flat: list[int]) -> list[tuple[int, int]]:
    if len(flat) % 2:
        raise WireError("facts are cut short")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _at(number: int, table: Sequence[Any]) -> int:
    if not 0 <= number < len(table):
        raise WireError("a fact names what is not there")
    return number


def _check(value: Any, depth: int) -> None:
    if isinstance(value, list):
        if depth == 0:
            raise WireError("a fact is nested too deeply")
        for each in value:
            _check(each, depth - 1)
    elif not isinstance(value, str | bool | int | float | None):
        raise WireError("a fact is of no type that facts have")


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list) else value
