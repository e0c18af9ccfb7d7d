"""Which files of a spool are finished and new, and remembering what was taken.

Rules that hold here:

- A file is finished when it was not changed for a while and no process has it open for writing, as far as can be seen. It is looked at again after it was read:
  one that changed meanwhile is left for the next pass.
- A file is identified by its content. The same content is taken once, under any name; the same name with other content is another file.
- A file that goes on after it was taken begins with what was taken: what is new is audited, and counted once, however often that happens.
- A file that was taken already, or is empty, is reported and leaves the spool as other files do.
- Reading a file to know its content costs as much as auditing it, so a name, size, time and inode that were taken before are not read again.
- A file that cannot be audited is set aside once, with the reason; the others are audited.
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from auditor.errors import ConfigError
from auditor.jobs.config import SpoolSection
from auditor.store.history import History

CHUNK = 1 << 20
UNREAD = "unread-"
NOTHING = hashlib.sha256().hexdigest()


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
    """A finished file that was not taken yet."""

    found: Found
    content: str
    """SHA-256."""
    skip: int = 0
    """So many packets at its beginning were audited before it grew."""


@dataclass(frozen=True, slots=True)
class Again:
    """A file with content that was taken already."""

    found: Found
    content: str
    says: str


@dataclass(frozen=True, slots=True)
class Aside:
    """A file that cannot be audited."""

    found: Found
    content: str
    says: str


def look(spool: SpoolSection, now_ns: int, history: History | None = None) -> tuple[list[Found], list[str]]:
    """Finished files in the order in which they were finished, and what could not be looked at. Raises ConfigError where no folder can be read.

    ``now_ns`` is the machine's clock, which files are dated by. With ``history`` files whose dates are all to come are finished, too, once passes have seen them lie still.
    """
    found: dict[str, Found] = {}
    wrong: list[str] = []
    read = 0
    still = _Still(history, now_ns)
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
            if each is not None and _quiet_ns(each, now_ns, still) >= spool.settle:
                found[os.path.realpath(path)] = each
    still.save()
    if not read:
        raise ConfigError("spool.folders", "; ".join(wrong), hint="make the folder, or let this user read it")
    busy = _written_to({(each.inode, each.path) for each in found.values()})
    done = [each for each in found.values() if each.path not in busy]
    return sorted(done, key=lambda each: (each.mtime_ns, each.path)), wrong


class _Still:
    """Since when files are unchanged whose own dates are of no use: the clock was set back after they were written."""

    def __init__(self, history: History | None, now_ns: int) -> None:
        self._history, self._now_ns = history, now_ns
        self._seen: dict[Found, int] = {}

    def since_ns(self, found: Found) -> int:
        """When a pass first saw the file like this."""
        since = self._now_ns
        if self._history is not None:
            sql = "SELECT since_ns FROM waiting WHERE path = ? AND bytes = ? AND mtime_ns = ? AND inode = ?"
            row = self._history.sql.execute(sql, [found.path, found.bytes, found.mtime_ns, found.inode]).fetchone()
            since = min(int(row[0]), since) if row else since
        self._seen[found] = since
        return since

    def save(self) -> None:
        """Remember those that were asked for, and no others."""
        if self._history is None:
            return
        (known,) = self._history.sql.execute("SELECT count(*) FROM waiting").fetchone()
        if known or self._seen:
            with self._history.writing() as sql:
                sql.execute("DELETE FROM waiting")
                sql.executemany(
                    "INSERT OR REPLACE INTO waiting VALUES (?, ?, ?, ?, ?)",
                    [(each.path, each.bytes, each.mtime_ns, each.inode, since) for each, since in self._seen.items()],
                )


def _quiet_ns(found: Found, now_ns: int, still: _Still) -> int:
    """How long the file was not changed. A time in the future (a copied file, a clock that was set back) is ignored."""
    if found.mtime_ns <= now_ns:
        return now_ns - found.mtime_ns
    try:
        changed = Path(found.path).stat().st_ctime_ns
    except OSError:
        return 0
    return now_ns - (changed if changed <= now_ns else still.since_ns(found))


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
    """Files that a process has open for writing, of the processes that we may inspect (Linux only)."""
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
    return _contents_of(found, ())[0]


def _contents_of(found: Found, sizes: Iterable[int]) -> tuple[str | None, dict[int, str]]:
    """As ``content_of``, and of its beginnings of these sizes. Raises OSError."""
    digest = hashlib.sha256()
    begins: dict[int, str] = {}
    at = 0
    with Path(found.path).open("rb") as file:
        for size in (*sorted({each for each in sizes if each < found.bytes}), None):
            while piece := file.read(CHUNK if size is None else min(CHUNK, size - at)):
                digest.update(piece)
                at += len(piece)
            if size is not None:
                begins[size] = digest.copy().hexdigest()
    return (digest.hexdigest() if Found.at(found.path) == found else None), begins


def new_files(history: History, found: Iterable[Found], now_ns: int) -> tuple[list[Ready], list[Aside], list[Again]]:
    """Those that were never taken, each content once; those that cannot be audited (unreadable, empty); and those that were taken under another name."""
    ready: dict[str, Ready] = {}
    aside: list[Aside] = []
    again: list[Again] = []
    for each in found:
        if known_place(history, each):
            continue
        if not each.bytes:
            aside.append(Aside(each, _no_content(each), "is empty"))
            continue
        before = _taken_here(history, each)
        try:
            content, begins = _contents_of(each, [size for size, _, _ in before])
        except OSError as error:
            mark = _no_content(each)
            if not known(history, mark):
                aside.append(Aside(each, mark, f"cannot be read: {error.strerror or error}"))
            continue
        if content is None:
            continue
        if content in ready or known(history, content):
            again.append(Again(each, content, _taken_as(history, content, ready, each.path)))
            continue
        grown = max((packets for size, mark, packets in before if begins.get(size) == mark), default=0)
        ready[content] = Ready(each, content, grown)
    return list(ready.values()), aside, again


def _taken_here(history: History, found: Found) -> list[tuple[int, str, int]]:
    """Size, content and packets of what was audited before at this place or of this file."""
    sql = """
        SELECT DISTINCT taken.bytes, taken.content, taken.packets, taken.at_ns FROM taken LEFT JOIN places USING (content)
        WHERE (taken.path = ?1 OR places.path = ?1 OR places.inode = ?2) AND taken.audit IS NOT NULL AND taken.packets > 0 AND taken.bytes < ?3
        ORDER BY taken.at_ns DESC LIMIT 64
    """
    return [row[:3] for row in history.sql.execute(sql, [found.path, found.inode, found.bytes])]


def _taken_as(history: History, content: str, ready: dict[str, Ready], place: str) -> str:
    if content in ready:
        return f"has the same content as {ready[content].found.path}"
    path, audit, says = history.sql.execute(
        "SELECT path, audit, aside FROM taken WHERE content = ?", [content]
    ).fetchone()
    return ("has the same content as before, " if path == place else f"has the same content as {path}, ") + (
        f"in audit {audit}" if says is None else "and set aside"
    )


def _no_content(found: Found) -> str:
    """Stands for the content of a file that cannot be read or is empty; one that changes is tried again."""
    return f"{UNREAD}{hashlib.sha256(repr(found).encode()).hexdigest()[:40]}"


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


def note_taken(
    history: History, files: Sequence[Ready], audit: int, now_ns: int, packets: Mapping[str, int] | None = None
) -> None:
    """Remember that these files are in this audit; inside ``writing``. ``packets``: of each path, those that were audited before it grew not among them."""
    for each in files:
        counted = None if packets is None else packets.get(each.found.path, 0) + each.skip
        row = {"content": each.content, "path": each.found.path, "bytes": each.found.bytes, "audit": audit}
        history.insert("taken", {**row, "at_ns": now_ns, "packets": counted})
        note_place(history, each.found, each.content, now_ns)
        history.sql.execute("DELETE FROM following WHERE path = ?", [each.found.path])


def note_aside(history: History, files: Iterable[Aside], now_ns: int) -> None:
    """Remember that these files are set aside, and why; inside ``writing``."""
    for each in files:
        row = {"content": each.content, "path": each.found.path, "bytes": each.found.bytes, "aside": each.says}
        history.insert("taken", {**row, "at_ns": now_ns})
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
