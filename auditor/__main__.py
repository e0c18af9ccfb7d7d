"""``python -m auditor``, and the installed program.

Ctrl-C while modules are imported would be a traceback, or be lost in some library's ``except``; so it is handled before almost all imports. What
Python itself imports before this file cannot be fixed here.
"""

from __future__ import annotations

# The built-in part of ``signal``: ``signal`` itself imports enum and more, milliseconds in which Ctrl-C is not handled.
import _signal  # type: ignore[import-not-found,unused-ignore]  # typeshed does not know it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import NoReturn


def start() -> NoReturn:
    """One command, and the end of the process."""
    ours = _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler
    if ours:
        _signal.signal(_signal.SIGINT, _interrupted)
    import gc

    # Imports create no garbage; ``main`` sets the thresholds afterwards.
    gc.disable()
    from auditor.cli import start as begin

    if ours:
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    begin()


def _interrupted(_number: int, _frame: FrameType | None) -> NoReturn:
    """Nothing has begun yet, so ending at once is safe."""
    import os

    try:
        os.write(2, b"auditor: interrupted\n")
    finally:
        os._exit(130)


if __name__ == "__main__":
    start()
