"""Findings from faults: what the rules of authentication, TLS and certificates have in common.

A connection carries the faults that the verdict found, as objects that many connections share. A rule of the same name makes findings of
them: one for each subject (path, ends, service, transport) and each thing that the fault is about (a certificate's name, a TLS version),
so that two bad certificates on one path are two facts and one bad certificate on a thousand connections is one.

Evidence is what the fault points at: the kinds it names, with the frames of the first connections that show them.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from auditor.model.audit import Judged
from auditor.model.connections import FRAME_BITS
from auditor.model.evidence import Certainty
from auditor.model.facts import LINK
from auditor.model.finding import Finding
from auditor.model.judgement import Fault
from auditor.model.roles import Rule
from auditor.rules._subject import FIRST_FRAMES, Group, Rows, View, split_path
from auditor.rules._words import first_frames, who

SAYS_NAMED = 3
"""So many different sentences of one finding are reported."""

CONFIDENCE = ("low", "medium", "high")
_ABOUT = "\x1f"
_NUMBER = (1 << FRAME_BITS) - 1


@dataclass(frozen=True, slots=True)
class _Index:
    """Which rows of a table have which distinct tuple of faults."""

    distinct: tuple[tuple[Fault, ...], ...]
    which: npt.NDArray[np.intp]
    """Row to place in ``distinct``."""


_LATEST: list[tuple[weakref.ref[pd.DataFrame], _Index]] = []
"""Of the last table asked about: a dozen rules ask one after the other."""


def _index(table: pd.DataFrame) -> _Index:
    if _LATEST and _LATEST[0][0]() is table:
        return _LATEST[0][1]
    places: dict[int, int] = {}
    values: dict[tuple[Fault, ...], int] = {}
    which = np.zeros(len(table), dtype=np.intp)
    column = table["faults"].tolist()  # keeps them alive while numbers stand for them
    for row, faults in enumerate(column):
        place = places.get(id(faults))
        if place is None:
            value = faults if isinstance(faults, tuple) else ()
            place = places[id(faults)] = values.setdefault(value, len(values))
        which[row] = place
    made = _Index(tuple(values), which)
    _LATEST[:] = [(weakref.ref(table), made)]
    return made


def fault_groups(judged: Judged, rule: str) -> Iterator[tuple[View, Group, tuple[Fault, ...]]]:
    """The connections with faults of this rule by subject and by what the fault is about, with the group's faults, the most frequent first.

    A connection with two such faults about two things is in two groups.
    """
    index = _index(judged.connections)
    mine = [tuple(fault for fault in faults if fault.rule == rule) for faults in index.distinct]
    wanted = np.fromiter((bool(faults) for faults in mine), np.bool_, len(mine))
    if not wanted.any():
        return
    concerned = np.flatnonzero(wanted[index.which])
    concerned = concerned[np.argsort(index.which[concerned], kind="stable")]
    places, starts = np.unique(index.which[concerned], return_index=True)
    at: list[Rows] = []
    about: list[str] = []
    for place, rows in zip(places.tolist(), np.split(concerned, starts[1:]), strict=True):
        for each in dict.fromkeys(fault.about for fault in mine[place]):
            at.append(rows)
            about += [each] * len(rows)
    everywhere = np.concatenate(at)
    order = np.argsort(everywhere, kind="stable")
    view = View(judged.connections, wanted[index.which])
    view.at = everywhere[order]
    told = np.array(about, dtype=object)[order]
    protocol = np.array(
        [f"{transport}{_ABOUT}{each}" for transport, each in zip(view.column("transport"), told, strict=True)],
        dtype=object,
    )
    for group in view.groups(protocol=protocol):
        transport, _, what = group.protocol.partition(_ABOUT)
        counted: Counter[Fault] = Counter()
        for place, count in zip(*np.unique(index.which[group.rows], return_counts=True), strict=True):
            for fault in mine[int(place)]:
                if fault.about == what:
                    counted[fault] += int(count)
        ranked = sorted(counted, key=lambda fault: (-counted[fault], fault.says))
        yield view, replace(group, protocol=transport), tuple(ranked)


def finding_subject(group: Group, faults: tuple[Fault, ...]) -> tuple[str, ...]:
    """The group's subject, and what the fault is about where that tells it from others."""
    return (*group.subject, faults[0].about) if faults[0].about else group.subject


def told(faults: tuple[Fault, ...]) -> str:
    """What the faults say, each once, with a space before it."""
    says = list(dict.fromkeys(fault.says for fault in faults))
    shown = "".join(f" {_sentence(text)}." for text in says[:SAYS_NAMED] if text)
    more = len(says) - SAYS_NAMED
    return f"{shown} There {'is' if more == 1 else 'are'} {more:,} more of this kind." if more > 0 else shown


def _sentence(text: str) -> str:
    """With a capital where it begins with a word, and not with a name that is spelt so (mysql_clear_password)."""
    first = text.split(maxsplit=1)[0] if text.strip() else ""
    return (f"{text[:1].upper()}{text[1:]}" if first.isalpha() else text).rstrip(".")


def surest(faults: tuple[Fault, ...]) -> str:
    """The confidence of the surest of them."""
    return max(
        (fault.confidence for fault in faults), key=lambda word: CONFIDENCE.index(word) if word in CONFIDENCE else -1
    )


def in_captures(frames: tuple[int, ...]) -> list[list[int]]:
    """Frame numbers as the report has them: [capture index, number from 1]."""
    return [[frame >> FRAME_BITS, frame & _NUMBER] for frame in frames]


def evidence_of(view: View, inside: Rows, kinds: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    """What the first connections show of these kinds, equal values together; empty where no frames are known of them."""
    shown: dict[tuple[str, str], dict[str, Any]] = {}
    for facts in view.column("facts")[inside[:FIRST_FRAMES]]:
        if not hasattr(facts, "frames"):
            continue
        for kind in kinds:
            if kind in facts and not kind.startswith(LINK):
                value, certainty = facts[kind], Certainty(facts.certainty(kind)).value
                one = shown.setdefault(
                    (kind, repr(value)), {"kind": kind, "value": value, "certainty": certainty, "frames": []}
                )
                one["frames"] += [each for each in in_captures(facts.frames(kind)) if each not in one["frames"]]
    ranked = [shown[key] for key in sorted(shown, key=lambda key: kinds.index(key[0]))]
    return tuple([one for one in ranked if one["frames"]] or ranked)


def fault_rows(judged: Judged, rule: str) -> dict[Fault, Rows]:
    """The connections with each fault of this rule, rising; the most frequent fault first."""
    index = _index(judged.connections)
    places: dict[Fault, list[int]] = {}
    for place, faults in enumerate(index.distinct):
        for fault in dict.fromkeys(faults):
            if fault.rule == rule:
                places.setdefault(fault, []).append(place)
    found = {fault: np.flatnonzero(np.isin(index.which, which)) for fault, which in places.items()}
    return dict(sorted(found.items(), key=lambda each: (-len(each[1]), each[0].says)))


def _peers(judged: Judged, faults: tuple[Fault, ...], kinds: tuple[str, ...]) -> tuple[dict[str, Any], ...]:
    """What the connections show that these were compared with."""
    ids = list(dict.fromkeys(each for fault in faults for each in fault.beside))[:FIRST_FRAMES]
    if not ids:
        return ()
    view = View(judged.connections, np.asarray(judged.connections["id"].isin(ids), dtype=np.bool_))
    shown = evidence_of(view, np.arange(len(view), dtype=np.intp), kinds)
    return tuple({**one, "kind": f"peer.{one['kind']}"} for one in shown)


def report_faults(
    judged: Judged,
    rule: Rule,
    title: Callable[[Group], str],
    remediation: Callable[[Group], str],
) -> Iterator[Finding]:
    """One finding for each subject and each thing that a fault of this rule is about."""
    for view, group, faults in fault_groups(judged, rule.name):
        kinds = tuple(dict.fromkeys(kind for fault in faults for kind in fault.kinds))
        shown = evidence_of(view, group.inside, kinds)
        if not any(one["frames"] for one in shown):
            shown = (*shown, *first_frames(view, group.inside, "connection.opened", group.service))
        shown = (*shown, *_peers(judged, faults, kinds))
        on = f" Path {group.path.replace('+', ' or ')}." if group.path else ""
        yield Finding(
            rule=rule.name,
            severity=rule.severity,
            title=title(group),
            detail=f"{who(view, group)}{on}{told(faults)}",
            rows=tuple(group.rows.tolist()),
            subject=finding_subject(group, faults),
            path=split_path(group.path),
            confidence=surest(faults),
            evidence=shown,
            remediation=remediation(group),
            count=len(group.rows),
        )
