"""What this machine has, found without importing any of it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

KERNELS = Path(__file__).resolve().parents[1] / "kernels"
CAP_NET_RAW = 13


@dataclass(frozen=True, slots=True)
class KernelCache:
    """Where the compiled kernels are kept between runs."""

    folder: Path
    warm: bool
    """Every file of kernels has machine code there that is newer than its source."""


def _cache_folders() -> list[Path]:
    """Where numba looks, in its order: a folder given by the user, beside the source, the user's cache."""
    found = []
    if os.environ.get("NUMBA_CACHE_DIR"):
        found.append(Path(os.environ["NUMBA_CACHE_DIR"]))
    if os.access(KERNELS, os.W_OK):
        found.append(KERNELS / "__pycache__")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    found.append(base / "numba")
    return found


def kernel_cache() -> KernelCache:
    """The cache that numba will use, and whether it has what an audit needs."""
    folder = _cache_folders()[0]
    sources = [each for each in sorted(KERNELS.glob("*.py")) if "@kernel" in each.read_text(encoding="utf-8")]
    indexes = list(folder.rglob("*.nbi")) if folder.is_dir() else []
    tag = f"py{sys.version_info.major}{sys.version_info.minor}"
    warm = bool(sources)
    for source in sources:
        mine = [each for each in indexes if each.name.startswith(f"{source.stem}.") and f".{tag}." in each.name]
        warm &= any(each.stat().st_mtime >= source.stat().st_mtime for each in mine)
    return KernelCache(folder, warm)


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


def may_capture() -> str | None:
    """How packets can be captured here, or None where they cannot."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        held = int(status.split("CapEff:")[1].split()[0], 16)
    except (OSError, IndexError, ValueError):
        held = 0
    if held >> CAP_NET_RAW & 1:
        return "this user has CAP_NET_RAW"
    for name in ("dumpcap", "tcpdump"):
        path = shutil.which(name)
        if path is None:
            continue
        try:
            os.getxattr(path, "security.capability")
        except OSError:
            continue
        return f"{path} has the capability itself"
    return None
