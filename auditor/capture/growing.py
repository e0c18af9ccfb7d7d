"""A capture that is still being written: its end is where the writer is now, and reading waits there.

The rules, those of ``tail -f`` on a file that matters:

- Reading ends when the caller says so (Ctrl-C, SIGTERM), when the file was rotated (its name leads to another file or to none, or it became
  shorter than what was read) and all of the old one is read, or when nothing came for the time allowed, counted in looks and not by a clock.
- A pipe ends when its writer closes it; while it delivers nothing, the caller is still asked.
- Bytes behind the place where the caller ended the reading are reported, not forgotten. A record that its writer has not finished yet is no
  damage when the caller ended the reading; it is one where the file ended by itself.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from auditor.capture.sources import RawSource
from auditor.errors import InputError

POLL_SECONDS: Final = 0.2
"""Between two looks at a file that has not grown."""


@dataclass(frozen=True, slots=True)
class Growth:
    """How a growing capture is followed."""

    stopped: Callable[[], bool]
    """Whether the caller wants no more."""
    idle_seconds: float = 0.0
    """Reading ends after so long without a new byte; 0: it waits for ever."""


class GrowingSource(RawSource):
    """A file or pipe that is read beyond its present end."""

    def __init__(self, file: BinaryIO, path: str | None, growth: Growth) -> None:
        """``path``: the name by which a rotation is noticed; None: there is none. Raises InputError where it cannot be waited for."""
        # What a buffered stream read ahead would hide from ``select``.
        super().__init__(getattr(file, "raw", None) or file)
        self._path, self._growth = path, growth
        try:
            self._descriptor = file.fileno()
            self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        except (OSError, AttributeError, ValueError):
            raise InputError(
                path or "stream", "cannot be followed: neither a file nor a pipe of this machine"
            ) from None
        self.ended_by_caller = False
        self.unread_bytes = 0
        """What lay behind the place where the caller ended the reading."""

    def readinto(self, view: memoryview) -> int:
        """At least one byte, however long that takes; 0 where following has ended. Raises SourceError."""
        looks = 0
        while True:
            if self._growth.stopped():
                return self._end_here()
            if self._regular or self._something_waits():
                # Whether the name still leads here is asked first: what came before the answer is then read.
                rotated = self._regular and self._rotated()
                count = super().readinto(view)
                if count or rotated or not self._regular:
                    return count
            looks += 1
            if 0 < self._growth.idle_seconds <= looks * POLL_SECONDS:
                return 0
            if self._regular:
                select.select([], [], [], POLL_SECONDS)

    def _something_waits(self) -> bool:
        return bool(select.select([self._descriptor], [], [], POLL_SECONDS)[0])

    def _end_here(self) -> int:
        """The caller's word: what lies unread behind it is reported."""
        self.ended_by_caller = True
        if self._regular:
            self.unread_bytes = max(os.fstat(self._descriptor).st_size - self.read_bytes, 0)
        return 0

    def _rotated(self) -> bool:
        """Whether this is no longer the file of that name, or was cut short."""
        ours = os.fstat(self._descriptor)
        if ours.st_size < self.read_bytes:
            return True
        if self._path is None:
            return False
        try:
            named = Path(self._path).stat()
        except OSError:
            return True
        return (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino)
