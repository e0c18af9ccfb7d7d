"""Which files of a spool are finished and new, and remembering what was taken.

Rules that hold here:

- A file is finished when it was not changed for a while and nobody is seen to have it open for writing. It is looked at again after it was read:
  one that changed meanwhile is left for the next pass.
- A file is its content. The same content is taken once, under whatever name it comes again; a name with other content is another file.
- Reading a file to know its content costs as much as auditing it, so a name, size, time and inode that were taken before are not read again.
- What cannot be audited is set aside with its reason, once, and keeps nothing else from being audited.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import ConfigError
from auditor.jobs.config import SpoolSection
from auditor.store.history import History

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """A file of the spool, as it lay there."""

    path: str
    bytes: int
    mtime_ns: int
    inode: int

    @classmethod
    def at(cls, path: str) -> Found | None:
        """As it lies there now; None where it is gone or no regular file."""
        try:
            now = Path(path).stat()
        except OSError:
            return None
        return cls(path, now.st_size, now.st_mtime_ns, now.st_ino) if stat.S_ISREG(now.st_mode) else None


@dataclass(frozen=True, slots=True)
class Ready:
    """A finished file that nobody has taken."""

    found: Found
    content: str
    """SHA-256."""


@dataclass(frozen=True, slots=True)
class Aside:
    """A file that cannot be audited."""

    found: Found
    content: str
    says: str


def look(spool: SpoolSection, now_ns: int) -> tuple[list[Found], list[str]]:
    """Finished files in the order in which they were finished, and what could not be looked at. Raises ConfigError where no folder can be read."""
    found: dict[str, Found] = {}
    wrong: list[str] = []
    read = 0
    for folder in spool.folders:
        if not Path(folder).is_dir():
            wrong.append(f"{folder}: no such folder")
            continue
        try:
            os.listdir(folder)  # noqa: PTH208  # only whether it can be
            read += 1
        except OSError as error:
            wrong.append(f"{folder}: {error.strerror or error}")
            continue
        for path in _names(folder, spool, wrong):
            each = Found.at(path)
            if each is not None and each.bytes and _quiet_ns(each, now_ns) >= spool.settle:
                found[os.path.realpath(path)] = each
    if not read:
        raise ConfigError("spool.folders", "; ".join(wrong), mend="make the folder, or let this user read it")
    busy = _written_to({(each.inode, each.path) for each in found.values()})
    done = [each for each in found.values() if each.path not in busy]
    return sorted(done, key=lambda each: (each.mtime_ns, each.path)), wrong


def _quiet_ns(found: Found, now_ns: int) -> int:
    """How long the file was not changed. A time that is still to come (a copied file, a clock that was set back) says nothing."""
    if found.mtime_ns <= now_ns:
        return now_ns - found.mtime_ns
    try:
        changed = Path(found.path).stat().st_ctime_ns
    except OSError:
        return 0
    return now_ns - changed if changed <= now_ns else 1 << 62


def _names(folder: str, spool: SpoolSection, wrong: list[str]) -> Iterator[str]:
    for root, folders, names in os.walk(
        folder, onerror=lambda error: wrong.append(f"{error.filename}: {error.strerror}")
    ):
        if not spool.recursive:
            folders.clear()
        folders.sort()
        for name in sorted(names):
            wanted = any(fnmatch.fnmatchcase(name, pattern) for pattern in spool.patterns)
            if wanted and not any(fnmatch.fnmatchcase(name, pattern) for pattern in spool.ignore):
                yield str(Path(root) / name)


def _written_to(files: set[tuple[int, str]]) -> set[str]:
    """Those that some process which we may look at has open for writing (Linux; elsewhere nobody is seen)."""
    inodes = dict(files)
    busy: set[str] = set()
    proc = Path("/proc")
    if not inodes or not (proc / "self" / "fd").is_dir():
        return busy
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            handles = list((process / "fd").iterdir())
        except OSError:
            continue
        for handle in handles:
            try:
                held = handle.stat()
                path = inodes.get(held.st_ino)
                if path is None or not stat.S_ISREG(held.st_mode) or not os.path.samestat(held, Path(path).stat()):
                    continue
                flags = (process / "fdinfo" / handle.name).read_text()
            except OSError:
                continue
            told = [line.split()[1] for line in flags.splitlines() if line.startswith("flags:")]
            if told and int(told[0], 8) & os.O_ACCMODE != os.O_RDONLY:
                busy.add(path)
    return busy


def content_of(found: Found) -> str | None:
    """SHA-256 of the file; None where it changed meanwhile. Raises OSError."""
    digest = hashlib.sha256()
    with Path(found.path).open("rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest() if Found.at(found.path) == found else None


def new_files(history: History, found: Iterable[Found], now_ns: int) -> tuple[list[Ready], list[Aside]]:
    """Those that were never taken, each content once; and those that cannot even be read."""
    ready: dict[str, Ready] = {}
    aside: list[Aside] = []
    again: list[tuple[Found, str]] = []
    for each in found:
        if known_place(history, each):
            continue
        try:
            content = content_of(each)
        except OSError as error:
            mark = _no_content(each)
            if not known(history, mark):
                aside.append(Aside(each, mark, f"cannot be read: {error.strerror or error}"))
            continue
        if content is None:
            continue
        if content in ready or known(history, content):
            again.append((each, content))
            continue
        ready[content] = Ready(each, content)
    if again:
        with history.writing():
            for each, content in again:
                if known(history, content):
                    note_place(history, each, content, now_ns)
    return list(ready.values()), aside


def _no_content(found: Found) -> str:
    """Stands for the content of a file that cannot be read; one that changes is tried again."""
    return "unread-" + hashlib.sha256(repr(found).encode()).hexdigest()[:40]


def known(history: History, content: str) -> bool:
    """Whether this content was taken or set aside."""
    return history.sql.execute("SELECT 1 FROM taken WHERE content = ?", [content]).fetchone() is not None


def known_place(history: History, found: Found) -> bool:
    """Whether this very file was."""
    asked = [found.path, found.bytes, found.mtime_ns, found.inode]
    sql = "SELECT 1 FROM places WHERE path = ? AND bytes = ? AND mtime_ns = ? AND inode = ?"
    return history.sql.execute(sql, asked).fetchone() is not None


def note_place(history: History, found: Found, content: str, now_ns: int) -> None:
    """Remember that the file at this place has this content; inside ``writing``."""
    history.sql.execute(
        "INSERT OR REPLACE INTO places VALUES (?, ?, ?, ?, ?, ?)",
        [found.path, found.bytes, found.mtime_ns, found.inode, content, now_ns],
    )


def note_taken(history: History, files: Sequence[Ready], audit: int, now_ns: int) -> None:
    """Remember that these files are in this audit; inside ``writing``."""
    for each in files:
        history.sql.execute(
            "INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?, NULL, ?)",
            [each.content, each.found.path, each.found.bytes, audit, now_ns],
        )
        note_place(history, each.found, each.content, now_ns)
        history.sql.execute("DELETE FROM following WHERE path = ?", [each.found.path])


def note_aside(history: History, files: Iterable[Aside], now_ns: int) -> None:
    """Remember that these files are set aside, and why; inside ``writing``."""
    for each in files:
        history.sql.execute(
            "INSERT OR REPLACE INTO taken VALUES (?, ?, ?, NULL, ?, ?)",
            [each.content, each.found.path, each.found.bytes, each.says, now_ns],
        )
        note_place(history, each.found, each.content, now_ns)
        history.sql.execute("DELETE FROM following WHERE path = ?", [each.found.path])


def begin_following(history: History, path: str) -> int:
    """Note that this file is being read now; how many passes have died over it."""
    with _lightly(history), history.writing() as sql:
        row = sql.execute("SELECT deaths FROM following WHERE path = ?", [path]).fetchone()
        deaths = int(row[0]) if row else 0
        sql.execute("INSERT OR REPLACE INTO following VALUES (?, ?)", [path, deaths + 1])
    return deaths


def end_following(history: History, path: str) -> None:
    """Note that this file was read to its end."""
    with _lightly(history), history.writing() as sql:
        sql.execute("UPDATE following SET deaths = max(deaths - 1, 0) WHERE path = ?", [path])


@contextmanager
def _lightly(history: History) -> Iterator[None]:
    """Without waiting for the disk: this survives a killed process, and need not survive a power cut."""
    history.sql.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        history.sql.execute("PRAGMA synchronous = FULL")


def forget_files(history: History, before_ns: int) -> None:
    """Forget files that were last known before this time and are gone from the spool, so that the memory of a spool does not grow for ever."""
    old = history.sql.execute("SELECT path, content FROM places WHERE at_ns < ?", [before_ns]).fetchall()
    gone = [(path, content) for path, content in old if not Path(path).exists()]
    if not gone:
        return
    with history.writing() as sql:
        sql.executemany("DELETE FROM places WHERE path = ?", [(path,) for path, _ in gone])
        sql.execute("DELETE FROM taken WHERE at_ns < ? AND content NOT IN (SELECT content FROM places)", [before_ns])


def batches(files: Sequence[Ready], most_files: int, most_bytes: int) -> Iterator[list[Ready]]:
    """The files, some at a time, in their order."""
    batch: list[Ready] = []
    size = 0
    for each in files:
        if batch and (len(batch) >= most_files or size + each.found.bytes > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(each)
        size += each.found.bytes
    if batch:
        yield batch
