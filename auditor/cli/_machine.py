"""What is installed on this machine, found without importing it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from auditor import __version__ as VERSION  # noqa: N812
from auditor.kernels._folder import PACKAGE, can_be_made, kernel_files, known_folder, read_folders

KERNELS = PACKAGE / "kernels"
LIBRARIES = (
    "numpy",
    "pandas",
    "pyarrow",
    "numba",
    "cryptography",
    "pydantic",
    "msgspec",
    "typer",
    "rich",
    "scapy",
    "pyshark",
    "duckdb",
    "distributed",
    "matplotlib",
)
RARE = frozenset({"textrows", "defrag", "duplicates", "links", "save"})
"""Kernels for fragments, simultaneous captures, rare link types, kept packets, and for CSV and large JSON: an audit that needs none of them is warm without them."""


@dataclass(frozen=True, slots=True)
class KernelCache:
    """Where the compiled kernels are kept between runs."""

    folder: Path
    warm: bool
    """Every kernel file has machine code there, compiled from the current sources."""
    keeps: bool = True
    """The folder is writable."""

    @property
    def notice(self) -> str | None:
        """Why the next audit starts with compiling; None: it does not."""
        if self.warm:
            return None
        if self.keeps:
            return "compiling for the first run (once, a minute or two)"
        return f"compiling (a minute or two, on every run: {self.folder} cannot be written; NUMBA_CACHE_DIR names another folder)"


def kernel_cache() -> KernelCache:
    """The cache that will be used, and whether it is complete for an audit; found without importing numba, which is slow."""
    folder, there = known_folder()
    kept = {
        name.split(".", 1)[0]
        for each in read_folders()
        for name in os.listdir(each)  # noqa: PTH208
        if name.endswith(".o")
    }
    # Kernels that only rare captures need are compiled when needed.
    return KernelCache(folder.parent, kernel_files() - RARE <= kept, there or can_be_made(folder))


def sample_names() -> list[str]:
    """Names of the sample recordings."""
    for place in (PACKAGE / "_data" / "captures" / "sample", PACKAGE.parent / "captures" / "sample"):
        if place.is_dir():
            return sorted(
                {each.name.split(".")[0] for each in place.glob("*.pcap*") if each.suffix not in (".py", ".md")}
            )
    return []


def versions() -> Iterator[str]:
    """What a bug report should contain, one item per line."""
    from auditor.policy import shipped

    yield f"auditor {VERSION} ({PACKAGE})"
    yield f"python {platform.python_version()} ({sys.executable}) on {platform.system()} {platform.machine()}"
    for name in LIBRARIES:
        try:
            yield f"{name} {version(name)}"
        except PackageNotFoundError:
            yield f"{name} is not installed"
    for name in ("tshark", "dumpcap", "tcpdump"):
        found = tool(name)
        yield f"{found[1]} ({found[0]})" if found else f"{name} is not installed"
    cache = kernel_cache()
    yield f"compiled kernels: {'warm' if cache.warm else 'cold'} ({cache.folder})"
    yield f"policies: {shipped.folder() or 'missing'}"


def has_module(name: str) -> bool:
    """Whether a module could be imported."""
    try:
        return find_spec(name) is not None
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
    return path, lines[0] if lines else "does not report a version"
