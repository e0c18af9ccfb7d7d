"""What a process did to a folder, call by call, and what a disk would hold had the power gone at any of its syncs.

``record`` runs a program under strace; ``cuts`` plays its calls on a model of a file system and stops at each fsync. Two disks are given at each: one
that has everything written until then, in order; and one that has only what was synced: contents as at the last fsync of the file, names as at the
last fsync of their folder. The second is the worst that POSIX allows.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CALLS = "openat,open,creat,write,pwrite64,ftruncate,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,close,lseek,copy_file_range,sendfile,link,linkat,symlink"
NEVER = "writev,pwritev,fallocate"
"""Calls that change files and that the model does not know: seen on the folder, they are an error."""
_LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)\)\s+=\s+(-?\d+|\?)")
_BYTES = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')
_FD = re.compile(r"^(-?\d+)<((?:\\x[0-9a-f]{2})*)>|^(-?\d+)<([^>]*)>")


def record(command: list[str], log: Path, folder: Path) -> None:
    """Run it, with every call on files noted. ``-yy`` would name the folder for us; with ``-xx`` names are as hex as data."""
    done = subprocess.run(
        ["strace", "-f", "-y", "-xx", "-s", str(1 << 24), "-e", f"trace={CALLS},{NEVER}", "-e", "signal=none", "-o", str(log), *command],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(folder).encode().hex(" ").replace(" ", "\\x") in log.read_text(errors="replace"), (
        "the folder was never touched"
    )


@dataclass
class _File:
    content: bytearray = field(default_factory=bytearray)
    synced: bytes = b""


@dataclass
class _Folder:
    names: dict[str, _File | _Folder] = field(default_factory=dict)
    synced: dict[str, _File | _Folder] = field(default_factory=dict)


def _text(raw: str) -> str:
    return bytes.fromhex(raw.replace("\\x", "")).decode("utf-8", "surrogateescape")


def _load(path: Path) -> _Folder:
    made = _Folder()
    for each in path.iterdir():
        made.names[each.name] = _load(each) if each.is_dir() else _File(bytearray(each.read_bytes()), each.read_bytes())
    made.synced = dict(made.names)
    return made


class Model:
    """A folder, with what is written and what is synced."""

    def __init__(self, folder: Path) -> None:
        self.base = str(folder)
        self.root = _load(folder)
        self.open: dict[tuple[str, int], tuple[_File, int]] = {}
        self.syncs = 0

    def _find(self, path: str) -> tuple[_Folder, str] | None:
        """The folder that holds the last part of the path, and that part; None: elsewhere, or nothing there."""
        if path == self.base or not path.startswith(self.base + "/"):
            return None
        *parents, name = path[len(self.base) + 1 :].split("/")
        here: _File | _Folder | None = self.root
        for each in parents:
            here = here.names.get(each) if isinstance(here, _Folder) else None
        return (here, name) if isinstance(here, _Folder) else None

    def play(self, line: str) -> bool:
        """One call; True where it was a sync in this folder."""
        match = _LINE.match(line)
        if match is None or match[4] == "?" or int(match[4]) < 0:
            return False
        process, call, given, result = match[1], match[2], match[3], int(match[4])
        names = [_text(found[0]) for found in _BYTES.findall(given)]
        handle = _FD.match(given)
        if call in ("openat", "open", "creat"):
            self._opened(process, names[0] if names else "", given, result)
        elif call in ("mkdir", "mkdirat") and (at := self._find(names[0])):
            at[0].names[at[1]] = _Folder()
        elif call in ("unlink", "unlinkat", "rmdir") and (at := self._find(names[0])):
            at[0].names.pop(at[1], None)
        elif (
            call in ("rename", "renameat", "renameat2")
            and (old := self._find(names[0]))
            and (new := self._find(names[1]))
        ):
            new[0].names[new[1]] = old[0].names.pop(old[1])
        elif handle:
            number = int(handle[1] or handle[3])
            path = _text(handle[2]) if handle[2] is not None else handle[4]
            return self._handled(process, call, number, path, given, names, result)
        return False

    def _opened(self, process: str, path: str, given: str, number: int) -> None:
        self.open.pop((process, number), None)
        at = self._find(path)
        if at is None:
            return
        found = at[0].names.get(at[1])
        if found is None and "O_CREAT" in given:
            found = at[0].names[at[1]] = _File()
        if isinstance(found, _File):
            if "O_TRUNC" in given:
                found.content.clear()
            self.open[process, number] = (found, len(found.content) if "O_APPEND" in given else 0)

    def _handled(
        self, process: str, call: str, number: int, path: str, given: str, names: list[str], result: int
    ) -> bool:
        if call in ("fsync", "fdatasync") and (path == self.base or path.startswith(self.base + "/")):
            at = self._find(path)
            target: _File | _Folder | None = self.root if path == self.base else at[0].names.get(at[1]) if at else None
            if target is None:
                opened = self.open.get((process, number))
                target = opened[0] if opened else None
            if isinstance(target, _File):
                target.synced = bytes(target.content)
            elif isinstance(target, _Folder):
                target.synced = dict(target.names)
            self.syncs += 1
            return True
        key = (process, number)
        if call == "close":
            self.open.pop(key, None)
        if key not in self.open:
            return False
        file, at_byte = self.open[key]
        if call == "write":
            self._put(file, at_byte, names[0], result)
            self.open[key] = (file, at_byte + result)
        elif call == "pwrite64":
            self._put(file, int(given.rsplit(",", 1)[1]), names[0], result)
        elif call == "ftruncate":
            size = int(given.rsplit(",", 1)[1])
            del file.content[size:]
            file.content.extend(bytes(size - len(file.content)))
        elif call == "lseek":
            self.open[key] = (file, result)
        elif call in NEVER or call in ("copy_file_range", "sendfile"):
            raise AssertionError(f"{call} on {path}: the model does not know it")
        return False

    @staticmethod
    def _put(file: _File, at: int, data: str, size: int) -> None:
        raw = data.encode("utf-8", "surrogateescape")[:size]
        assert len(raw) == size, "strace cut the data short"
        if len(file.content) < at:
            file.content.extend(bytes(at - len(file.content)))
        file.content[at : at + size] = raw

    def write(self, folder: Path, only_synced: bool) -> None:
        """The disk as it is, or only as it was synced."""
        _store(self.root, folder, only_synced)

    def digest(self, only_synced: bool) -> str:
        """Of all that ``write`` would write."""
        digest = hashlib.sha256()
        _digest(self.root, digest, only_synced)
        return digest.hexdigest()


def _digest(folder: _Folder, digest: Any, only_synced: bool) -> None:
    for name, each in sorted((folder.synced if only_synced else folder.names).items()):
        inside = isinstance(each, _Folder)
        raw = b"" if inside else each.synced if only_synced else bytes(each.content)
        digest.update(f"{name}\0{'folder' if inside else len(raw)}\0".encode())
        if inside:
            _digest(each, digest, only_synced)
            digest.update(b"..\0")
        else:
            digest.update(raw)


def _store(folder: _Folder, place: Path, only_synced: bool) -> None:
    place.mkdir()
    for name, each in (folder.synced if only_synced else folder.names).items():
        if isinstance(each, _Folder):
            _store(each, place / name, only_synced)
        else:
            (place / name).write_bytes(each.synced if only_synced else bytes(each.content))


def cuts(log: Path, before: Path, folder: Path) -> Iterator[tuple[int, Model]]:
    """The model at each sync; ``before``: a copy of ``folder`` as it was when the program began."""
    model = Model(before)
    model.base = str(folder)
    waiting: dict[str, str] = {}
    with log.open(errors="replace") as lines:
        for line in lines:
            process = line.split(" ", 1)[0]
            if line.rstrip().endswith("<unfinished ...>"):
                waiting[process] = line.rstrip()[: -len("<unfinished ...>")].rstrip()
                continue
            resumed = re.match(r"^(\d+)\s+<\.\.\. \w+ resumed>\s?(.*)$", line)
            whole = waiting.pop(resumed[1]) + resumed[2] if resumed and resumed[1] in waiting else line
            if model.play(whole):
                yield model.syncs, model
