"""Where machine code is kept: in a folder named after the content of all that is compiled into it, so that no old code is ever met again.

Rules that hold here:

- Code is loaded only from folders and files of those whom this process trusts anyway: root, its own user, and whoever owns the program; and that nobody else may
  write to. A file is looked at as it was opened, so that what is exchanged meanwhile, or linked to, changes nothing.
- It may be read where it cannot be written: what root compiled beside the program is used by everybody, and only what is missing there is kept elsewhere.
- Several that start at once compile each kernel once: the others wait for it.
- Where nothing can be written nothing is kept, and nothing is left behind.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec, source_hash
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
_BAKED_IN = ("kernels", "model", "wire")
_KEPT = 3
_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH


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


def _places() -> list[Path]:
    """Where machine code may be kept, the best place first."""
    stated = os.environ.get("NUMBA_CACHE_DIR")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diego-flow-auditor"
    return [Path(stated)] if stated else [PACKAGE / "kernels" / "__pycache__" / "compiled", user]


def read_folders() -> tuple[Path, ...]:
    """Where machine code of these very sources lies that may be used, the best place first."""
    name = _sources()[0]
    return tuple(place / name for place in _places() if _trusted(place / name))


def _trusted(folder: Path) -> bool:
    """Whether it can be read, and nobody put anything into it who could not change the program itself."""
    try:
        there = folder.stat()
        owners = _owners()
    except OSError:
        return False
    return there.st_uid in owners and not there.st_mode & _OF_OTHERS and os.access(folder, os.R_OK | os.X_OK)


@cache
def _owners() -> tuple[int, ...]:
    return 0, os.geteuid(), PACKAGE.stat().st_uid


def read_trusted(file: str | Path) -> bytes | None:
    """The content of a file that only those could write who could change the program itself; None where there is none, or it is another's."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    try:
        there = os.fstat(handle)
        if not stat.S_ISREG(there.st_mode) or there.st_uid not in _owners() or there.st_mode & _OF_OTHERS:
            return None
        with open(handle, "rb", closefd=False) as opened:  # each run reads some twenty
            return opened.read()
    except OSError:
        return None
    finally:
        os.close(handle)


def known_folder() -> tuple[Path, bool]:
    """Where the machine code of these very sources lies, or will lie; and whether it is there already."""
    found = read_folders()
    if found:
        return found[0], True
    places, name = _places(), _sources()[0]
    return next(filter(can_be_made, places), places[-1]) / name, False


def can_be_made(folder: Path) -> bool:
    """Whether this folder can be written, or made first; nothing is tried."""
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def writing_folder() -> Path | None:
    """Where machine code is to be kept: NUMBA_CACHE_DIR, else beside the sources, else in the user's cache. None: it cannot be kept."""
    places, name = _places(), _sources()[0]
    for folder in (*(each / name for each in places if (each / name).is_dir()), *(each / name for each in places)):
        with contextlib.suppress(OSError):
            fresh = not folder.is_dir()
            folder.mkdir(parents=True, exist_ok=True)
            if fresh:
                folder.chmod(folder.stat().st_mode & ~_OF_OTHERS)  # whatever the umask is
            if not _trusted(folder) or not os.access(folder, os.W_OK):
                continue
            if fresh:
                _share(folder)
                _forget(folder.parent, name)
            return folder
    return None


def _share(folder: Path) -> None:
    """What lies beside the program is for all who run it."""
    if folder.is_relative_to(PACKAGE):
        for each in (folder, folder.parent):
            each.chmod(each.stat().st_mode | 0o755)


@contextlib.contextmanager
def alone(folder: Path | None, name: str, *, wait: bool = True) -> Iterator[bool]:
    """Nobody else makes this file meanwhile; whoever waited finds it made. Gives False where another makes it and is not waited for."""
    try:
        import fcntl

        if folder is None:
            raise FileNotFoundError
        lock = folder / f".{name}.lock"
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except (ImportError, OSError):  # then each makes its own
        yield True
        return
    mine = True
    try:
        # A file system may have no locks: then each makes its own, too.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                mine = False
        yield mine
    finally:
        if mine:
            with contextlib.suppress(OSError):
                lock.unlink()
        os.close(handle)


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
