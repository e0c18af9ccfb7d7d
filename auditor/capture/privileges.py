"""Rights that capturing needs and reading does not: given up before the first packet is parsed.

Root opens packet sockets; what comes out of them was written by strangers. So if we are started as root, the capturing programs are started by a
process that can do nothing else (``capture.live.KeptStarter``), while the one that reads becomes an ordinary user: the one who called sudo,
the one named, or nobody.

The report goes where root said, all the same: its file is opened before rights are given up, belongs to whom we become, and is put under its name by another process that can do
nothing but that.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from auditor.errors import ConfigError

NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class User:
    """Whom to become."""

    name: str
    uid: int
    gid: int
    home: str


def user_for(wanted: str | None, environment: Mapping[str, str]) -> User | None:
    """Whom to become; None: stay who we are (no root, or root by request). Raises ConfigError for a user that does not exist."""
    if os.geteuid() != 0:
        if wanted is not None and wanted != _name():
            raise ConfigError("--user", "only root can become another user", hint="leave it out")
        return None
    name = wanted
    if name is None and environment.get("SUDO_UID", "").isdigit():
        uid = int(environment["SUDO_UID"])
        with contextlib.suppress(KeyError):
            name = pwd.getpwuid(uid).pw_name
    try:
        found = pwd.getpwnam(name or NOBODY)
    except KeyError:
        if wanted is None:
            return None  # no user called nobody: a very small machine has no other
        raise ConfigError("--user", f"unknown user {wanted!r}", hint="a name of /etc/passwd") from None
    return None if found.pw_uid == 0 else User(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir)


def _name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def become(user: User) -> None:
    """Give up root permanently. Raises ConfigError if that fails: packets are never parsed as root."""
    try:
        os.initgroups(user.name, user.gid)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        says = f"cannot become {user.name}: {error.strerror or error}"
        raise ConfigError("--user", says, hint="--user root keeps the privileges") from error
    os.environ.update(HOME=user.home, USER=user.name, LOGNAME=user.name)
    for gone in ("XDG_RUNTIME_DIR", "XDG_CACHE_HOME"):
        os.environ.pop(gone, None)


def folder_for(path: Path, user: User | None) -> None:
    """A folder that is still to be made is made now, and given to whom we become. Raises ConfigError."""
    if user is None or path.exists():
        return
    try:
        path.mkdir(parents=True)
        os.chown(path, user.uid, user.gid)
    except OSError as error:
        raise ConfigError(
            str(path), f"cannot be made: {error.strerror or error}", hint="name another folder"
        ) from error


_KEEPER = """
import os, shutil, sys
part, target = sys.argv[1:]
if sys.stdin.buffer.read(1) == b"k":
    if os.path.isdir(target) and not os.path.islink(target):
        os.rename(target, part + ".old")
    os.rename(part, target)
    shutil.rmtree(part + ".old", ignore_errors=True)
elif os.path.isdir(part):
    shutil.rmtree(part)
else:
    os.unlink(part)
"""
"""What keeps root's rights beside us: told so, it gives the report its name; else it removes what there is of it."""


@contextmanager
def output_for(path: Path, user: User, folder: bool) -> Iterator[IO[bytes] | Path]:
    """Where the report is written, made before we become ``user``: it stands under its name once the block ends well.

    A folder is given as its descriptor (``/proc/self/fd``): its parents may be closed to whom we become. Raises ConfigError where it cannot be made.
    """
    if path.is_file() if folder else path.is_dir():
        raise ConfigError(str(path), "is a file" if folder else "is a folder", hint="name another place with --output")
    part = path.resolve().with_name(f".{path.name}.{os.getpid()}-{os.urandom(3).hex()}.part")
    try:
        if path.exists() and not folder and not stat.S_ISREG(path.stat().st_mode):
            with path.open("wb") as out:
                yield out
            return
        if folder:
            part.mkdir(mode=0o755)
        handle = (
            os.open(part, os.O_RDONLY | os.O_DIRECTORY)
            if folder
            else os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        )
        os.fchown(handle, user.uid, user.gid)
    except OSError as error:
        raise ConfigError(
            str(path), f"cannot be written: {error.strerror or error}", hint="name another place with --output"
        ) from error
    keeper = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _KEEPER, str(part), str(path.resolve())],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        if folder:
            yield Path(f"/proc/self/fd/{handle}")
            os.close(handle)
        else:
            with os.fdopen(handle, "wb") as out:
                yield out
    except BaseException:
        keeper.communicate(b"")
        raise
    keeper.communicate(b"k")
    if keeper.returncode:
        raise ConfigError(
            str(path),
            "cannot be written: the finished report could not be renamed",
            hint="name another place with --output",
        )
