"""Where captures come from, and how each of these sources does: whether it still delivers, and whether what it delivers is whole.

A source is what the configuration declares (``[[source]]``), or a folder and the pattern of its files' names: dates, times and numbers in them differ from file to file. The
rules:

- Each source is judged separately. Two sources in turn, one of them incomplete, are not reported at each turn.
- Incompleteness is over once ``WHOLE`` audits in a row were whole and a day (``HOLD_NS``) has passed: until then it is one story.
- A source that has a rhythm and misses it is news, once, until it delivers again. What it does often enough (a weekend) is its rhythm.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auditor.jobs.config import SourceSection
from auditor.jobs.exit_criteria import Loss
from auditor.store.history import History

SECOND_NS = 1_000_000_000
HOLD_NS = 86_400 * SECOND_NS
WHOLE = 3
GAPS = 16
FEW = 3
"""So many pauses are needed to know a rhythm."""
SLACK = 3
"""Silent: so many times longer than it is used to (as declared: twice)."""
LEAST_NS = 900 * SECOND_NS
MOST = 200
"""Limit of undeclared sources that are known by name; further ones count as one."""
OTHERS = "others"
_DATE = re.compile(r"\d{4,}(?:[-_.:T ]?\d{1,6})*Z?")
_TAIL = re.compile(r"(?:^|(?<=[-_.]))\d+$")
_SUFFIXES = re.compile(
    r"\.(?:pcapng|pcap|cap|dmp)\d*(?:\.(?:gz|zst|lz4|bz2|xz))?$|\.(?:gz|zst|lz4|bz2|xz)$", re.IGNORECASE
)


def pattern_of(name: str) -> str:
    """The name of a file without what differs from file to file of its source."""
    suffix = _SUFFIXES.search(name)
    stem = name if suffix is None else name[: suffix.start()]
    end = "" if suffix is None else re.sub(r"\d+", "", suffix[0])
    return _TAIL.sub("#", _DATE.sub("#", stem)) + end


def source_of(path: str, declared: Sequence[SourceSection], folders: int = 1) -> str:
    """The source of a file; its folder is named where there are several."""
    place = Path(path)
    for each in declared:
        if any(
            fnmatch.fnmatchcase(place.name, pattern) or fnmatch.fnmatchcase(path, pattern) for pattern in each.match
        ):
            return each.name
    pattern = pattern_of(place.name)
    return pattern if folders == 1 else f"{place.parent}/{pattern}"


@dataclass(slots=True)
class Source:
    """What is known of one."""

    last_ns: int
    """When a file of it was taken last, by the trusted time."""
    files: int = 0
    gaps: list[int] = field(default_factory=list)
    """Its last pauses."""
    silences: list[int] = field(default_factory=list)
    """Its last pauses that were reported."""
    silent: bool = False
    incomplete: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By kind of incompleteness: ``last`` (when), ``whole`` (audits in a row without), ``says``."""

    def patience_ns(self, every_ns: int | None) -> int | None:
        """How long it may send nothing; None: its rhythm is not known yet."""
        if every_ns is not None:
            return 2 * every_ns
        if len(self.gaps) < FEW:
            return None
        usual = sorted(self.gaps)[-2]
        often = sorted(self.silences)[-2] * 5 // 4 if len(self.silences) > 1 else 0
        return max(SLACK * usual, often, LEAST_NS)


class Sources:
    """All of them, as the store has them."""

    def __init__(self, history: History, declared: Sequence[SourceSection], folders: int) -> None:
        self._history, self._declared, self._folders = history, declared, folders
        self._known: dict[str, Source] = {}
        for name, state in history.sql.execute("SELECT source, state FROM sources ORDER BY source"):
            self._known[name] = Source(**json.loads(state))
        self._every = {each.name: each.every for each in declared}

    def of(self, path: str) -> str:
        """The source of a file."""
        name = source_of(path, self._declared, self._folders)
        if name in self._known or name in self._every or len(self._known) < MOST:
            return name
        return OTHERS

    def begin(self, now_ns: int) -> None:
        """Those that are declared are waited for from the first pass on."""
        for name, every in self._every.items():
            if every is not None:
                self._known.setdefault(name, Source(now_ns))

    def delivered(self, paths: Iterable[str], now_ns: int) -> list[str]:
        """Note the files taken; returns the sources that had been silent."""
        back = []
        for name in sorted({self.of(path) for path in paths}):
            source = self._known.get(name)
            if source is None:
                self._known[name] = Source(now_ns, 1)
                continue
            gap = now_ns - source.last_ns
            if source.silent:
                back.append(name)
                source.silences = [*source.silences, gap][-4:]
            elif gap > 0 and source.files:
                source.gaps = [*source.gaps, gap][-GAPS:]
            source.last_ns, source.silent, source.files = max(now_ns, source.last_ns), False, source.files + 1
        return back

    def silent(self, now_ns: int) -> list[tuple[str, int]]:
        """Sources that have become silent, and for how long they are."""
        found = []
        for name, source in self._known.items():
            patience = source.patience_ns(self._every.get(name))
            source.last_ns = min(source.last_ns, now_ns)  # the clock was set back
            if not source.silent and patience is not None and now_ns - source.last_ns > patience:
                source.silent = True
                found.append((name, now_ns - source.last_ns))
        return found

    def audited(self, paths: Iterable[str], losses: Sequence[Loss], now_ns: int) -> tuple[list[str], list[str]]:
        """What one audit was not whole in: that which is news (in words), and sources that are whole again."""
        names = sorted({self.of(path) for path in paths})
        fresh: dict[str, None] = {}
        whole = []
        for name in names:
            source = self._known.setdefault(name, Source(now_ns))
            mine = {each.key: each.says for each in losses if each.path is None or self.of(each.path) == name}
            for kind, says in mine.items():
                if kind not in source.incomplete:
                    fresh[says] = None
                source.incomplete[kind] = {"last": now_ns, "whole": 0, "says": says}
            for kind in [kind for kind in source.incomplete if kind not in mine]:
                state = source.incomplete[kind]
                state["whole"] += 1
                state["last"] = min(state["last"], now_ns)
                if state["whole"] >= WHOLE and now_ns - state["last"] >= HOLD_NS:
                    del source.incomplete[kind]
                    whole.append(f"{name}: {kind}")
        return list(fresh), whole

    def save(self) -> None:
        """Into the store; inside ``writing``."""
        for name, source in self._known.items():
            state = {key: getattr(source, key) for key in Source.__slots__}
            self._history.insert("sources", {"source": name, "state": json.dumps(state)})

    def items(self) -> Iterator[tuple[str, Source, int | None]]:
        """Each with its name and its patience."""
        for name, source in self._known.items():
            yield name, source, source.patience_ns(self._every.get(name))


def told(states: Mapping[str, Any]) -> str:
    """The incompleteness of a source, in words."""
    return "; ".join(str(each["says"]) for each in states.values())
