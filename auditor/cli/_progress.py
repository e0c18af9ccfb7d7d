"""Progress on standard error, one line that is overwritten; nothing where standard error is not a terminal."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from auditor.cli import complain
from auditor.cli._machine import kernel_cache
from auditor.cli._options import choice
from auditor.jobs.compiling import compile_later
from auditor.kernels.accelerate import FEW_PACKETS, plainly
from auditor.report._text import clip, escape
from auditor.units import size
from auditor.wire.text import many

EVERY_SECONDS = 0.1


class Meter:
    """Called by the pipeline with its progress; remembers the last state for ``summary``."""

    def __init__(self, shown: bool) -> None:
        self.shown = shown
        self.began = time.monotonic()
        self.last = 0.0
        self.packets = 0
        self.bytes = 0
        self.drawn = False
        self.told = False
        """The message about compiling was shown."""

    def say(self, text: str) -> None:
        """Overwrite the line."""
        if self.shown:
            room = shutil.get_terminal_size((80, 24)).columns - 1
            self._draw(f"\r\x1b[K{clip(escape(text), room)}")
            self.drawn = True

    def _draw(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except (OSError, ValueError):
            self.shown = False

    def __call__(self, progress: Any) -> None:
        """Draw, at most every ``EVERY_SECONDS``."""
        self.packets, self.bytes = progress.packets, progress.bytes
        if progress.doing:
            self.say(f"{self.packets:,} packets read, {progress.doing}")
            return
        now = time.monotonic()
        if not self.shown or now - self.last < EVERY_SECONDS:
            return
        self.last = now
        spent = max(now - self.began, 1e-6)
        words = [many(self.packets, "packet"), f"{self.packets / spent:,.0f} packets/s"]
        total = progress.total_bytes
        if total:
            share = min(self.bytes / total, 1.0)
            words.insert(0, f"{share:4.0%} {size(self.bytes)} of {size(total)}")
            if 0.01 < share < 1 and spent > 1:
                words.append(f"{spent / share - spent:.0f} s left")
        else:
            words.insert(0, size(self.bytes))
        self.say(", ".join(words))

    def done(self) -> None:
        """Remove the line."""
        if self.drawn:
            self._draw("\r\x1b[K")
            self.drawn = False

    def summary(self) -> str:
        """Statistics, in one line."""
        import resource

        spent = max(time.monotonic() - self.began, 1e-6)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return (
            f"{many(self.packets, 'packet')}, {size(self.bytes)} in {spent:.1f} s "
            f"({self.packets / spent:,.0f} packets/s), at most {size(memory)} of memory"
        )


@contextmanager
def meter(when: str, *, quiet: bool) -> Iterator[Meter]:
    """The meter for one run. Raises ConfigError for an unknown word."""
    choice("--progress", when, ("auto", "never"))
    shown = when == "auto" and not quiet and sys.stderr is not None and sys.stderr.isatty()
    made = Meter(shown)
    cache = kernel_cache()
    if shown:
        made.say("starting")

    def compiling() -> None:
        if cache.notice is None or made.told or quiet or when == "never":
            return
        made.told = True
        if shown and cache.keeps:
            made.say(cache.notice)
        else:
            made.done()
            complain(cache.notice)

    few = 0 if cache.warm or os.environ.get("AUDITOR_COMPILE") == "now" else FEW_PACKETS
    try:
        with plainly(few, compiling) as used:
            yield made
            made.done()
            if used() and compile_later() and not quiet and when != "never":
                complain("compiling in the background for the next run (AUDITOR_COMPILE=now waits for it instead)")
    finally:
        made.done()
