"""Where machine code is kept: in a folder named after the content of all that is compiled into it, so that no old code is ever met again."""

from __future__ import annotations

import os
import shutil
from functools import cache
from importlib.util import find_spec, source_hash
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
_BAKED_IN = ("kernels", "model", "wire")
_KEPT = 3


def digest(data: bytes) -> str:
    """16 hexadecimal digits; what Python itself tells sources apart by. Quicker to have than ``hashlib``, which loads OpenSSL."""
    return source_hash(data).hex()


@cache
def _sources() -> tuple[str, frozenset[str]]:
    """Digits over everything that is compiled into kernels, and the compiler; and which files of ``kernels`` have kernels."""
    read: list[bytes] = []
    for compiler in ("numba", "llvmlite"):
        spec = find_spec(compiler)
        if spec is not None and spec.origin is not None:
            read.append(_read(os.path.join(os.path.dirname(spec.origin), "_version.py")))  # noqa: PTH118, PTH120  # paths take longer
    names = set()
    for folder in _BAKED_IN:
        place = f"{PACKAGE}/{folder}"
        for name in sorted(os.listdir(place)):  # noqa: PTH208  # here too
            if name.endswith(".py"):
                content = _read(f"{place}/{name}")
                read += [name.encode(), content]
                if folder == "kernels" and b"\n@kernel" in content:
                    names.add(name.removesuffix(".py"))
    return digest(b"\0".join(read)), frozenset(names)


def _read(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.read()


def kernel_files() -> frozenset[str]:
    """Names of the files of ``kernels`` that have kernels in them."""
    return _sources()[1]


def _writable(folder: Path) -> bool:
    try:
        import tempfile

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
    places, name = _places(), _sources()[0]
    for place in places:
        if (place / name).is_dir() and os.access(place / name, os.W_OK):
            return place / name, True
    return next(filter(can_be_made, places), places[-1]) / name, False


def can_be_made(folder: Path) -> bool:
    """Whether this folder can be written, or made first; nothing is tried."""
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


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
    import tempfile

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
