"""``python -m auditor``, and the installed program."""

from __future__ import annotations

import gc
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from types import FrameType


def start() -> NoReturn:
    """One command, and the end of the process."""
    # Nothing that is imported is garbage; ``main`` says how often to look afterwards.
    gc.disable()
    # Ctrl-C while modules are imported would be a traceback, or be lost in somebody's ``except``.
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _interrupted)
    from auditor.cli import start as begin

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    begin()


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    """Nothing has begun yet that could be left half done."""
    with suppress(OSError):
        os.write(2, b"auditor: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    start()
