"""``python -m auditor``, and the installed program."""

import gc
from typing import NoReturn


def start() -> NoReturn:
    """One command, and the end of the process."""
    # Nothing that is imported is garbage; ``main`` says how often to look afterwards.
    gc.disable()
    from auditor.cli import start as begin

    begin()


if __name__ == "__main__":
    start()
