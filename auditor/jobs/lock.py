"""One pass at a time.

The lock is the kernel's (``flock``), on a file in the store: it ends with the process that has it, in every case. So a stale lock cannot block
another process, and breaking one does not affect a running process. What is written in the file only says who: a record that is still there
when the lock is free was left by a pass that died.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import ConfigError
from auditor.policy.inventory import time_text

NAME = "run.lock"


class BusyError(ConfigError):
    """Another pass is at work."""


@dataclass(frozen=True, slots=True)
class Held:
    """The lock, while it is taken."""

    died: str | None
    """Which process had it and died, in words; None: the last pass ended normally."""


@contextmanager
def only_one(store: Path, now_ns: int) -> Iterator[Held]:
    """Hold the store's lock. Raises BusyError where another pass has it, ConfigError where it cannot be had."""
    try:
        store.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(store / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ConfigError(str(store), f"cannot be used as a store: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = _read(handle)
            says = "another pass is running" + (f": {who}" if who else "")
            raise BusyError(str(store), says, hint="wait until it ends, or stop it") from None
        died = _read(handle) or None
        _write(
            handle,
            f"process {os.getpid()} on {socket.gethostname()} since {time_text(now_ns // 1_000_000_000 * 1_000_000_000)}",
        )
        try:
            yield Held(died)
        finally:
            _write(handle, "")  # also if the pass failed: that was reported, and the process did not die
    finally:
        os.close(handle)


def _read(handle: int) -> str:
    text = os.pread(handle, 500, 0).decode("utf-8", "replace")
    return " ".join(text.split())


def _write(handle: int, text: str) -> None:
    with contextlib.suppress(OSError):  # a full disk: the lock works anyway
        os.ftruncate(handle, 0)
        os.pwrite(handle, text.encode(), 0)
