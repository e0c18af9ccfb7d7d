"""Rights that capturing needs and reading does not: given up before the first packet is parsed.

Root opens packet sockets; what comes out of them was written by strangers. So whoever starts us as root has the capturing programs started by a
process that can do nothing else (``capture.live.KeptStarter``), while the one that reads becomes an ordinary user: the one who called sudo,
the one named, or nobody.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
            raise ConfigError("--user", "only root can become another user", mend="leave it out")
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
            return None  # no such user as nobody: a machine that small has nobody else
        raise ConfigError("--user", f"there is no user {wanted!r}", mend="a name of /etc/passwd") from None
    return None if found.pw_uid == 0 else User(found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir)


def _name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def become(user: User) -> None:
    """Give up root for good. Raises ConfigError where that fails: nothing is parsed as root by accident."""
    try:
        os.initgroups(user.name, user.gid)
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
    except OSError as error:
        says = f"cannot become {user.name}: {error.strerror or error}"
        raise ConfigError("--user", says, mend="--user root keeps the rights") from error
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
            str(path), f"cannot be made: {error.strerror or error}", mend="name another folder"
        ) from error
