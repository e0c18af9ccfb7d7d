"""The windows of agents as a pass of ``auditor run`` takes them: one capture an agent, joined of its windows, and one that says so for each agent that is silent.

An agent is a stranger with a certificate: what it sends is checked when it is read, and where it still upsets what judges, its windows are found by judging each agent's alone,
and put aside. The others are judged without them.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from auditor.agents.wire import Window, read_window
from auditor.conntrack import TrackedPart, joined
from auditor.errors import AuditorError, InputError
from auditor.jobs.scheduled_run import Follower
from auditor.model.connections import CONN
from auditor.model.frames import Capture, Problem, VantagePoint
from auditor.pipeline import Followed

FILE: Final = re.compile(r"([0-9a-f]{16})\.(\d{16})\.window")
"""Names of received windows: the life of the agent's spool and the window's number."""


class Remarks:
    """What the collector knows of its agents that no window says."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.silent: dict[str, str] = {}
        """Agents that delivered nothing for the windows that are judged now, and why, in words."""
        self.clocks: dict[str, str] = {}
        """Agents whose clock is off, in words."""
        self.lost: Mapping[str, Sequence[str]] = {}
        """Agents of whose windows some are missing, and which."""

    def absence(self, name: str) -> str:
        """Why an agent is not in this audit, in words; empty: nothing is known of that."""
        silent = [self.silent[name]] if name in self.silent else []
        return "; ".join([*silent, *self.lost.get(name, ())])


def follower_of(remarks: Remarks) -> type[Follower]:
    """How a pass follows windows."""

    class WindowFollower(Follower):
        """Windows to captures, agent by agent."""

        may_be_idle = True

        def capture_of(self, file: Any) -> str:
            return f"agent://{Path(file.found.path).parent.name}"

        def told_of(self) -> list[str]:
            return [*super().told_of(), *(f"agent://{name}" for name in remarks.names if remarks.absence(name))]

        def _follow(self, sources: Sequence[Any], options: Mapping[str, Any], progress: Any) -> Iterator[Followed]:
            del options, progress
            by_agent: dict[str, list[str]] = {}
            for source in sorted(sources, key=lambda each: Path(each).name):
                by_agent.setdefault(Path(source).parent.name, []).append(source)
            index = 0
            for name, files in sorted(by_agent.items()):
                windows = [window for window in (self._window(name, file, index) for file in files) if window]
                if windows:
                    yield _of_agent(name, windows, remarks)
                    index += 1
            for name in remarks.names:
                says = remarks.absence(name)
                if says and name not in by_agent and index:
                    yield _nothing(name, says)

        def _window(self, name: str, path: str, index: int) -> Window | None:
            file = self.batch[path]
            try:
                window = read_window(Path(path).read_bytes(), path, index)
                if window.agent != name:
                    raise InputError(path, f"is a window of {window.agent}")
            except (AuditorError, OSError) as error:
                says = error.says if isinstance(error, InputError) else str(error)
                self._refuse(file, says)
                return None
            self.usable.append(file)
            return window

    return WindowFollower


def _of_agent(name: str, windows: Sequence[Window], remarks: Remarks) -> Followed:
    """One capture of the windows of an agent, in the order of their numbers."""
    captures = [each.followed.capture for each in windows]
    problems = [problem for each in captures for problem in each.problems]
    if name in remarks.clocks:
        problems.append(Problem("misdated", remarks.clocks[name]))
    problems += [Problem("interrupted", says) for says in remarks.lost.get(name, ())]
    certificates = {key: der for each in windows for key, der in each.followed.certificates.items()}
    dropped = [each.dropped for each in captures if each.dropped is not None]
    capture = replace(
        captures[-1],
        packets=sum(each.packets for each in captures),
        bytes=sum(each.bytes for each in captures),
        first_ns=min((each.first_ns for each in captures if each.first_ns is not None), default=None),
        last_ns=max((each.last_ns for each in captures if each.last_ns is not None), default=None),
        dropped=sum(dropped) if dropped else None,
        problems=tuple(dict.fromkeys(problems)),
    )
    return Followed(capture, joined([each.followed.part for each in windows]), certificates)


def _nothing(name: str, says: str) -> Followed:
    """In place of an agent that delivered nothing: what is missing has its name."""
    problem = Problem("interrupted", says)
    point = VantagePoint(name, None, 0, 0)
    capture = Capture(f"agent://{name}", "agent", 0, 0, None, None, 9, (point,), None, (problem,))
    return Followed(capture, TrackedPart(np.zeros(0, CONN), []), {})


def culprits(files: Mapping[str, Sequence[Path]], judge: Callable[[Sequence[Followed]], object]) -> dict[str, str]:
    """Agents whose windows alone upset what judges, and how; ``files``: the windows of each, in order."""
    found = {}
    for name, paths in files.items():
        windows = []
        for path in paths:
            with contextlib.suppress(AuditorError, OSError):
                windows.append(read_window(path.read_bytes(), str(path)))
        if not windows:
            continue
        try:
            judge([_of_agent(name, windows, Remarks(()))])
        except AuditorError:
            continue
        except Exception as error:  # whatever a stranger made of it
            found[name] = f"internal error: {type(error).__name__} while its windows were judged; please report it"
    return found


def alone(policy: Any, inventory: Any, options: Mapping[str, Any]) -> Callable[[Sequence[Followed]], object]:
    """Judges what was followed, and nothing is kept of it."""
    from auditor import pipeline

    def judge(followed: Sequence[Followed]) -> object:
        places = [io.BytesIO() for _ in followed]
        return pipeline.run(places, policy=policy, inventory=inventory, options=options, follow=lambda *_: followed)

    return judge
