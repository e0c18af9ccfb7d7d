"""Windows on the agent's disk until the collector has them, in the order of their numbers.

- A window is whole on disk before it is sent, and stays until it is acknowledged. So one that is sent twice has the same number, and counts once.
- Numbers have no hole. The last window that was delivered stays, so that a new process knows where to go on.
- Where there is no room, the oldest windows that nobody has fetched are given up: each leaves a small one with its number that says what was lost.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from auditor.agents.wire import LIFE, read_window, write_window
from auditor.conntrack import TrackedPart
from auditor.errors import AuditorError, ConfigError
from auditor.model.connections import CONN
from auditor.model.frames import Problem
from auditor.pipeline import Followed
from auditor.store._files import sync, write_whole
from auditor.wire.text import many

WAITING, SENT = "window", "sent"
_NAME: Final = re.compile(rf"(\d{{10}})\.({WAITING}|{SENT})")
LEAST_BYTES: Final = 1 << 20


class Spool:
    """For the thread that makes windows and the one that sends them."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        """Raises ConfigError where the folder cannot be used."""
        if size_bytes < LEAST_BYTES:
            raise ConfigError("spool.size", f"{size_bytes} bytes are too small", hint="at least 1MiB")
        self.folder, self.size_bytes = folder, size_bytes
        self.given_up = 0
        self._lock = threading.Condition()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.life = self._life()
            found = [match for each in folder.iterdir() if (match := _NAME.fullmatch(each.name))]
        except OSError as error:
            raise ConfigError(
                str(folder), f"cannot be used for windows: {error.strerror or error}", hint="name another folder"
            ) from error
        self._waiting = {int(each[1]): (folder / each[0]).stat().st_size for each in found if each[2] == WAITING}
        self._sent = max((int(each[1]) for each in found if each[2] == SENT), default=0)
        self._waiting = {number: size for number, size in self._waiting.items() if number > self._sent}
        self.last = max([self._sent, *self._waiting])

    def _life(self) -> str:
        place = self.folder / "life"
        if place.is_file():
            told = place.read_text(encoding="ascii", errors="replace").strip()
            if LIFE.fullmatch(told):
                return told
        made = secrets.token_hex(8)
        write_whole(place, made.encode())
        return made

    def ended_ns(self) -> int | None:
        """When the last window ended that an earlier process made; None: there was none, or nobody knows."""
        for kind in (WAITING, SENT):
            path = self._path(self.last, kind)
            if self.last and path.is_file():
                try:
                    return read_window(path.read_bytes(), path.name).ended_ns
                except (OSError, AuditorError):
                    return path.stat().st_mtime_ns
        return None

    def _path(self, number: int, kind: str = WAITING) -> Path:
        return self.folder / f"{number:010}.{kind}"

    def put(self, make: Callable[[int], bytes]) -> int:
        """Keep a window, made with the number that it gets; its size. Raises OSError where the disk takes no more: then it has no number."""
        with self._lock:
            number = self.last + 1
        raw = make(number)
        write_whole(self._path(number), raw)
        with self._lock:
            self.last = number
            self._waiting[number] = len(raw)
            self._make_room()
            self._lock.notify_all()
        return len(raw)

    def _make_room(self) -> None:
        """Give up the oldest; never the one that was made last."""
        for number in sorted(self._waiting)[:-1]:
            if sum(self._waiting.values()) <= self.size_bytes:
                return
            path = self._path(number)
            if self._waiting[number] < LEAST_BYTES // 64:
                continue
            small = _given_up(path)
            if small is not None:
                write_whole(path, small)
                self._waiting[number] = len(small)
                self.given_up += 1

    def first(self, seconds: float = 0.0) -> tuple[int, bytes] | None:
        """The oldest window that nobody has, waiting for one so long."""
        with self._lock:
            if not self._waiting and seconds:
                self._lock.wait(seconds)
            if not self._waiting:
                return None
            number = min(self._waiting)
            return number, self._path(number).read_bytes()

    @property
    def waiting(self) -> tuple[int, int]:
        """How many windows wait, and their bytes."""
        with self._lock:
            return len(self._waiting), sum(self._waiting.values())

    def taken(self, number: int) -> None:
        """All windows up to this one are on the collector's disk."""
        with self._lock:
            done = sorted(each for each in self._waiting if each <= number)
            if not done:
                return
            before, self._sent = self._sent, done[-1]
            self._path(self._sent).rename(self._path(self._sent, SENT))
            sync(self.folder)
            for each in done[:-1]:
                self._path(each).unlink(missing_ok=True)
            if before:
                self._path(before, SENT).unlink(missing_ok=True)
            for each in done:
                del self._waiting[each]
            self._lock.notify_all()


def _given_up(path: Path) -> bytes | None:
    """What is left of a window that there was no room for; None where it cannot be read."""
    try:
        window = read_window(path.read_bytes(), path.name)
    except (OSError, AuditorError):
        return None
    followed = window.followed
    capture = followed.capture
    says = f"{many(len(followed.part.rows), 'connection')} of {many(capture.packets, 'packet')} were given up: the agent's spool was full and the collector did not answer"
    lost = capture.packets + (capture.dropped or 0)
    left = replace(capture, packets=0, dropped=lost, problems=(*capture.problems, Problem("interrupted", says)))
    empty = TrackedPart(np.zeros(0, CONN), [])
    return write_window(replace(window, followed=Followed(left, empty, {})), ())
