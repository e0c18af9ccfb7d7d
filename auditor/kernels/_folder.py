"""Where machine code is kept: in a folder named after the content of all that is compiled into it, so that no old code is ever met again."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
_BAKED_IN = ("kernels", "model", "wire")
_KEPT = 3


def _source_hash() -> str:
    """16 hexadecimal digits over everything that is compiled into kernels, and the compiler."""
    digest = hashlib.sha256()
    for compiler in ("numba", "llvmlite"):
        spec = find_spec(compiler)
        if spec is not None and spec.origin is not None:
            digest.update(Path(spec.origin).with_name("_version.py").read_bytes())
    for folder in _BAKED_IN:
        for file in sorted((PACKAGE / folder).glob("*.py")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _places() -> list[Path]:
    """Where machine code may be kept, the best place first."""
    stated = os.environ.get("NUMBA_CACHE_DIR")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diego-flow-auditor"
    return [Path(stated)] if stated else [PACKAGE / "kernels" / "__pycache__" / "compiled", user]


def known_folder() -> tuple[Path, bool]:
    """Where the machine code of these very sources lies, or will lie; and whether it is there already."""
    places, name = _places(), _source_hash()
    for place in places:
        if (place / name).is_dir() and os.access(place / name, os.W_OK):
            return place / name, True
    return next((place for place in places if os.access(place, os.W_OK)), places[-1]) / name, False


def cache_folder() -> Path:
    """Where the machine code of these very sources lies: NUMBA_CACHE_DIR, else beside them, else in the user's cache, else a temporary folder."""
    found, there = known_folder()
    if there:
        return found
    places, name = _places(), found.name
    for place in places:
        if _writable(place / name):
            _forget(place, name)
            return place / name
    # Never a name that others could guess and fill: machine code is loaded from here.
    return Path(tempfile.mkdtemp(prefix="diego-flow-auditor-"))


def _forget(place: Path, name: str) -> None:
    """Remove what older sources left, but for the newest few: another version may be in use beside this one."""
    older = sorted((each for each in place.iterdir() if each.name != name and len(each.name) == len(name)), key=_age)
    for each in older[:-_KEPT]:
        shutil.rmtree(each, ignore_errors=True)


def _age(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
