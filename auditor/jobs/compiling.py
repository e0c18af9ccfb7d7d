"""Machine code made before it is needed: for an image, a folder that will be read-only, or the next run.

``compile_now`` audits what the package brings along, so that all kernels are called for the types that audits have. ``compile_later`` has a process
of its own do that, with the least priority: for who comes back. The first run of a small capture leaves a mark and nothing else.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress

from auditor.kernels._folder import PACKAGE, alone, kernel_files, writing_folder

MARK = "plain"
"""Beside machine code: a run went without some of it."""
COMPILES_NOW = "AUDITOR_COMPILE"


def compile_later() -> bool:
    """A run is over that went without machine code. Where an earlier one did, too, it is compiled in the background; returns whether it is."""
    folder = writing_folder()
    if folder is None:
        return False
    mark = folder / MARK
    try:
        with mark.open("x"):
            return False
    except FileExistsError:
        pass
    except OSError:
        return False
    try:
        subprocess.Popen(  # this very program
            [sys.executable, "-c", "from auditor.cli.doctor import in_background; in_background()"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        )
    except OSError:
        return False
    return True


def compile_now(captures: Sequence[str], *, wait: bool = True) -> Iterator[str]:
    """Compile all kernels for the types that audits have, by auditing ``captures``; gives what is done, a line each.

    Who comes while another does it waits for that one, or (``wait``) leaves it at that.
    """
    folder = writing_folder()
    if folder is None:
        yield "no folder can be written to; NUMBA_CACHE_DIR names another"
        return
    with alone(folder, "all", wait=wait) as mine:
        if not mine:
            return
        yield "compiling, a minute or two of one core"
        from auditor import pipeline
        from auditor.jobs.live import warm_up
        from auditor.policy.loader import load_policy
        from auditor.report._rows import write_csv

        policy = load_policy("tas")
        pipeline.run(captures, policy=policy, inventory=None, options={})
        bare = pipeline.bare(captures, options={"evidence": False})
        digits = [each.time_digits for each in bare.captures]
        write_csv(bare.table, bare.texts(), bare.vantages(), digits, (), io.BytesIO())
        warm_up(policy, None, {}, ring=True, sample=captures[0])
        with suppress(FileNotFoundError):
            (folder / MARK).unlink()
    made = sorted(each.name for each in folder.glob("*.o"))
    missing = sorted(kernel_files() - {name.split(".", 1)[0] for name in made})
    yield f"{len(made)} kernels in {folder}"
    if missing:
        yield f"not among them, compiled when a capture needs them: {', '.join(missing)}"
