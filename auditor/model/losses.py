"""What problems of an input cost, in one word: three cases that reports must keep apart.

- ``damaged``: bytes are missing or make no sense (truncated, corrupt, unreadable, empty).
- ``unsupported``: it is whole, and something in it is read by nobody here.
- ``limited``: it is whole, and a limit of ours was hit: ``--limit`` sets another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from auditor.model.frames import REMARKS

DAMAGED, UNSUPPORTED, LIMITED = "damaged", "unsupported", "limited"
_OTHERS = {"unsupported": UNSUPPORTED, "limit": LIMITED}


def loss(kinds: Iterable[str]) -> str | None:
    """The worst loss of problems of these kinds; None: no loss."""
    found = {_OTHERS.get(kind, DAMAGED) for kind in kinds if kind not in REMARKS}
    return next((word for word in (DAMAGED, UNSUPPORTED, LIMITED) if word in found), None)


def counted(inputs: Iterable[Iterable[str]]) -> dict[str, int]:
    """How many inputs, each with the kinds of its problems, lost what; those that occur, worst first."""
    words = [loss(kinds) for kinds in inputs]
    return {word: words.count(word) for word in (DAMAGED, UNSUPPORTED, LIMITED) if word in words}


def told(inputs: Iterable[Sequence[Mapping[str, Any]]]) -> list[str]:
    """Of the problems of each input: ``1 of 2 captures damaged``, one line per word."""
    every = [[(str(each.get("kind")), str(each.get("says"))) for each in problems] for problems in inputs]
    says = {
        DAMAGED: "captures damaged",
        UNSUPPORTED: "captures hold what is not read",
        LIMITED: "captures read in part: a limit was hit",
    }
    unread = next((text for problems in every for kind, text in problems if kind == "unsupported"), "")
    lines = []
    for word, count in counted([kind for kind, _ in problems] for problems in every).items():
        quoted = f" ({unread})" if word == UNSUPPORTED else ""
        lines.append(f"{count} of {len(every)} {says[word]}{quoted}")
    return lines
