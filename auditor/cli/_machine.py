"""What this machine has, found without importing any of it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[1] / "kernels"
RARE = frozenset({"csvrows", "defrag", "doubles", "links", "save"})
"""Kernels for fragments, several captures of one time, seldom met link types, kept packets, and one way of writing: an audit that needs none of them is warm without."""


@dataclass(frozen=True, slots=True)
class KernelCache:
    """Where the compiled kernels are kept between runs."""

    folder: Path
    warm: bool
    """Every file of kernels has machine code there that is newer than all that is compiled into it."""


def _cache_folders() -> list[Path]:
    """Where ``kernels.accelerate`` keeps machine code, in its order: a folder given by the user, beside the source, the user's cache."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return [Path(os.environ["NUMBA_CACHE_DIR"])]
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [KERNELS / "__pycache__" / "compiled", base / "diego-flow-auditor"]


def kernel_cache() -> KernelCache:
    """The cache that will be used, and whether it has what an audit needs; numba itself, slow to import, is not asked."""
    folders = _cache_folders()
    folder = next((each for each in folders if os.access(each, os.W_OK)), folders[-1])
    sources = [each for each in sorted(KERNELS.glob("*.py")) if "@kernel" in each.read_text(encoding="utf-8")]
    baked_in = [each for room in ("kernels", "model", "wire") for each in (KERNELS.parent / room).glob("*.py")]
    changed = max(each.stat().st_mtime for each in baked_in)
    fresh = {
        each.name.split(".", 1)[0]
        for each in (folder.rglob("*.o") if folder.is_dir() else ())
        if each.stat().st_mtime >= changed
    }
    # What only rare captures need is compiled when one comes.
    return KernelCache(folder, {each.stem for each in sources} - RARE <= fresh)


def has_module(name: str) -> bool:
    """Whether a module could be imported."""
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def tool(name: str) -> tuple[str, str] | None:
    """Path and first line of ``--version`` of a program, or None."""
    path = shutil.which(name)
    if path is None:
        return None
    try:
        run = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=10, check=False, errors="replace"
        )
    except (OSError, subprocess.SubprocessError) as error:
        return path, f"does not start: {error}"
    lines = [line.strip() for line in (run.stdout + run.stderr).splitlines() if line.strip()]
    return path, lines[0] if lines else "says no version"
