"""The log of a scheduled pass, on standard error: one line per event, as text or as JSON.

Texts may hold names from captures or file names: they are escaped for terminals. Payload is never logged.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from auditor.policy.inventory import time_text
from auditor.report._json import encode
from auditor.wire.text import escape

Level = Literal["info", "warning", "error"]


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201  # it is the log


@dataclass(frozen=True, slots=True)
class Log:
    """Writes events."""

    json: bool = False
    quiet: bool = False
    write: Callable[[str], None] = _to_stderr
    now_ns: Callable[[], int] = time.time_ns

    def say(self, event: str, says: str, level: Level = "info", **more: Any) -> None:
        """One event: ``event`` is a word for machines, ``says`` a sentence for people, ``more`` are values for machines."""
        if self.quiet and level == "info":
            return
        try:
            if self.json:
                record = {"time": time_text(self.now_ns()), "level": level, "event": event, "says": escape(says)}
                self.write(encode(record | msgspec.to_builtins(more)).decode())
            else:
                self.write(f"auditor: {escape(' '.join(says.split()))}")
        except (OSError, ValueError):  # the log cannot be written: the exit status and the store still have it
            return
