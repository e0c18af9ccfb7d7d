"""Where a report is written: a stream, or a file or folder that appears only when complete.

A report is written beside its target and renamed when it is whole, so that a reader never sees half of one and an audit that fails leaves
the old one in place. The place is checked before the audit begins, so that a read-only folder is not noticed an hour later.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from auditor.errors import ConfigError

OURS = frozenset(
    {
        "connections.parquet",
        "findings.parquet",
        "coverage.parquet",
        "captures.parquet",
        "audit.json",
        "reporter.log",
        "conn.log",
        "ssl.log",
        "notice.log",
        "x509.log",
    }
)


def _refused(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        str(path), f"cannot be written: {error.strerror or error}", hint="name another place with --output"
    )


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(3).hex()}.part")


@contextmanager
def file_target(path: Path) -> Iterator[IO[bytes]]:
    """A binary stream; the file appears under its name when the block ends without an error. Raises ConfigError where it cannot be written."""
    if path.is_dir():
        raise ConfigError(str(path), "is a folder", hint="name a file")
    try:
        special = path.exists() and not stat.S_ISREG(path.stat().st_mode)
        target = path if special else path.resolve()
        part = target if special else _beside(target)
        out = part.open("wb")
    except OSError as error:
        raise _refused(path, error) from error
    try:
        yield out
        out.close()
    except BaseException:
        with contextlib.suppress(OSError):  # an error of closing on a full disk was already reported
            out.close()
        if not special:
            with contextlib.suppress(OSError):
                part.unlink()
        raise
    if not special:
        try:
            part.replace(target)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink()
            raise _refused(path, error) from error


def may_be_replaced(path: Path) -> None:
    """Whether a folder of reports may stand here. Raises ConfigError, OSError."""
    if path.exists() and not path.is_dir():
        raise ConfigError(str(path), "is a file", hint="name a folder")
    if path.is_dir() and {each.name for each in path.iterdir()} - OURS:
        raise ConfigError(str(path), "holds other files than a report", hint="name a new folder")


@contextmanager
def folder_target(path: Path) -> Iterator[Path]:
    """An empty folder to write into; it appears under its name when the block ends without an error, and replaces an older report.

    Raises ConfigError where it cannot be made, or where something else than an older report is there.
    """
    try:
        may_be_replaced(path)
        target = path.resolve()
        part = _beside(target)
        part.mkdir()
    except OSError as error:
        raise _refused(path, error) from error
    try:
        yield part
        if target.is_dir():
            old = _beside(target)
            target.rename(old)
            part.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            part.rename(target)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise _refused(path, error) from error
        raise
