"""Files that are there whole or not at all, and stay."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO


def sync(place: Path) -> None:
    """Make a file's content, or the names in a folder, durable. Raises OSError."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """To write a file that is there whole or not at all, also after a power cut. Raises OSError."""
    part = path.with_name(f".{path.name}.part")
    try:
        with part.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
    sync(path.parent)


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """All of a file at once. Raises OSError."""
    with whole_file(path) as out:
        out.write(content)


def exposure(place: Path, *, writes: bool) -> str | None:
    """Why files here are not trusted: other users may change them; None: they cannot. Raises OSError.

    Another user's store (of a service, for example) can be read. To be written, it must be one's own, root's, or shared with the group by its owner.
    """
    there = place.stat()
    if there.st_mode & stat.S_IWOTH:
        return "can be changed by every user of this machine"
    ours = os.geteuid() in (0, there.st_uid) or there.st_uid == 0
    if writes and not ours and not there.st_mode & stat.S_IWGRP:
        return "belongs to another user"
    return None


def digest_of(path: Path) -> str:
    """SHA-256 of a file. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
