"""One target under libFuzzer (atheris): ``python -m tests.fuzz.one TARGET [options of libFuzzer] CORPUS...``.

What our modules do is instrumented, so that inputs which reach new code are kept; with NUMBA_DISABLE_JIT=1 the kernels are plain Python
and count, too. Compiled, they cannot be instrumented: there what they return, and their checked bounds, are what is looked at.
"""

from __future__ import annotations

import os
import pkgutil
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import atheris
import numpy as np


def _hash_quickly() -> None:
    """As plain Python the SHA-1 over our own messages takes most of the time, and nothing hostile reaches it but as content."""
    import hashlib

    from auditor.kernels import flowkey

    def sha1_rows(messages: Any, lengths: Any, digests: Any) -> None:
        for row, size, out in zip(messages, lengths.tolist(), digests, strict=True):
            out[:] = np.frombuffer(hashlib.sha1(row[:size].tobytes()).digest(), np.uint8)  # noqa: S324 - Community ID is made of it

    flowkey.sha1_rows = sha1_rows


def main(argv: Sequence[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    warnings.simplefilter("ignore")
    compiled = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
    if compiled:
        # numba compiles what it finds, and knows no calls of atheris: these are loaded before anything is instrumented.
        for module in pkgutil.iter_modules(import_module("auditor.kernels").__path__, "auditor.kernels."):
            import_module(module.name)
    with atheris.instrument_imports(include=["auditor"]):
        # All of it now: what is imported later is not seen.
        for room in ("policy", "inspectors", "rules", "report", "tshark", "capture"):
            for module in pkgutil.iter_modules(import_module(f"auditor.{room}").__path__, f"auditor.{room}."):
                import_module(module.name)
        from tests.fuzz import targets as catalogue

        chosen = catalogue.targets()[argv[1]]
    if not compiled:
        _hash_quickly()
    from tests.fuzz.mutate import mutate
    from tests.fuzz.seeds import seeds

    others = seeds(chosen.name, chosen.kind)

    def changed(data: bytes, most: int, seed: int) -> bytes:
        # Half of the changes know what the input is made of, the others are libFuzzer's.
        if seed % 2:
            return bytes(atheris.Mutate(data, most))
        return mutate(chosen.kind, data, seed, others)[:most]

    atheris.Setup([argv[0], *argv[2:]], chosen.run, custom_mutator=changed)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
