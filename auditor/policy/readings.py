"""Packets that contradict each other: what is told of them, and verdicts that hang on which of two readings the receiver took.

Two segments may say different things for one place of a stream, and systems differ in which they keep; urgent bytes are in the stream for one receiver
and not for another. So both readings are examined and judged (contract, rule 15). Where they lead to the same, that stands; where they do not, or one of
them could not be kept, nothing is claimed: ``unverifiable``, reason ``conflict``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.model.connections import (
    CONTRADICTION,
    ODD_CONFLICT,
    ODD_UNREAD,
    ODD_URGENT,
    ODDS,
    ConnectionTable,
)
from auditor.model.facts import Facts
from auditor.model.judgement import Authentication, Classification, Factor, Fault, Verdict

CONFLICT = "conflict"
"""``Authentication.missing``: two readings of the same bytes lead to different verdicts."""
RULE = "conflicting-content"
MOST_FRAMES = 12

_OPEN = 1 << ODD_CONFLICT | 1 << ODD_URGENT
_UNREAD = 1 << ODD_UNREAD
_NOTHING: MappingProxyType[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Judged:
    """What the policy says of each connection, of one reading."""

    classes: Sequence[Classification]
    class_of: NDArray[np.int32]
    authentications: Sequence[Authentication]

    def of(self, row: int) -> tuple[Any, ...]:
        """What would have to differ for a reader to care."""
        told, answer = self.classes[self.class_of[row]], self.authentications[row]
        rules = frozenset(fault.rule for fault in answer.faults)
        return told.disposition, told.breach, answer.verdict, rules


def told(table: ConnectionTable) -> ConnectionTable:
    """The table with what contradicts itself in each connection as evidence there."""
    rows = np.flatnonzero(table.odd).tolist()
    if not rows:
        return table
    facts = list(table.facts)
    starts = np.searchsorted(table.odds["row"], rows)
    ends = np.searchsorted(table.odds["row"], rows, side="right")
    for row, start, end in zip(rows, starts.tolist(), ends.tolist(), strict=True):
        odd = int(table.odd[row])
        says = tuple(word for bit, word in enumerate(ODDS) if odd >> bit & 1)
        some = table.odds[start:end]
        frames = sorted({frame for frame in (*some["frame"].tolist(), *some["against"].tolist()) if frame > 0})
        shown = ({CONTRADICTION: tuple(frames[:MOST_FRAMES])}, None)
        known = facts[row] or Facts(_NOTHING)
        facts[row] = Facts(known.shared, {**known.own, CONTRADICTION: says}, (*known.marks, shown), known.certainties)
    return replace(table, facts=tuple(facts))


def other(table: ConnectionTable) -> ConnectionTable | None:
    """The table as the other reading has it; None: there is none."""
    if not table.second:
        return None
    facts, application = list(table.facts), table.application.copy()
    for row, (spoken, found) in table.second.items():
        known = facts[row]
        application[row] = spoken
        # What packets contradict each other in is so in both.
        says = None if known is None else known.get(CONTRADICTION)
        facts[row] = found if says is None else Facts(*_with(found, says))
    return replace(table, facts=tuple(facts), application=application)


def _with(found: Facts | None, says: Any) -> tuple[Any, ...]:
    found = found or Facts(_NOTHING)
    return found.shared, {**found.own, CONTRADICTION: says}, found.marks, found.certainties


def weighed(table: ConnectionTable, first: Judged, second: Judged | None) -> list[Authentication]:
    """The answers; where the readings differ, or one of them is not known, ``unverifiable``."""
    answers = list(first.authentications)
    for row in np.flatnonzero(table.odd).tolist():
        odd, answer = int(table.odd[row]), answers[row]
        if odd & _UNREAD or (odd & _OPEN and row not in table.second):
            differ: tuple[str, ...] | None = ("one reading of them could not be kept",)
        elif second is not None and row in table.second and first.of(row) != second.of(row):
            differ = (_words(first, row), _words(second, row))
        else:
            differ = None
        if differ is None and odd == 1 << ODD_URGENT and not _is_known(table, row):
            # What nobody recognises may be Telnet, whose Synch is urgent by design (RFC 854): there is no handshake to contradict.
            continue
        if differ is None:
            fault = Fault(RULE, "the verdict does not depend on it", "high", (CONTRADICTION,), "agrees")
            answers[row] = replace(answer, faults=(*answer.faults, fault))
            continue
        says = f"it is not known which of two readings the receiver used: {' or '.join(differ)}"
        fault = Fault(RULE, says, "high", (CONTRADICTION,), "differs")
        if answer.verdict is Verdict.NOT_APPLICABLE:
            answers[row] = replace(answer, faults=(*answer.faults, fault))
            continue
        answers[row] = replace(
            answer,
            verdict=Verdict.UNVERIFIABLE,
            confidence=None,
            outcome="unknown",
            factors=tuple(Factor(each.name, Verdict.UNVERIFIABLE, says) for each in answer.factors),
            faults=(fault,),
            kinds=(CONTRADICTION, *answer.kinds),
            counted=True,
            missing=CONFLICT,
        )
    return answers


def _is_known(table: ConnectionTable, row: int) -> bool:
    """Whether the application is known, in one of the readings."""
    spoken = (
        {int(table.application[row]), table.second[row][0]} if row in table.second else {int(table.application[row])}
    )
    return any(table.applications[each] != "unknown" for each in spoken)


def _words(judged: Judged, row: int) -> str:
    told, answer = judged.classes[judged.class_of[row]], judged.authentications[row]
    if answer.verdict is Verdict.NOT_APPLICABLE:
        return str(told.disposition)
    faults = sorted({fault.rule for fault in answer.faults})
    return f"{answer.verdict} ({', '.join(faults)})" if faults else str(answer.verdict)
