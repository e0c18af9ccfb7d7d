"""Captures by URL, through fsspec: one object, all below a prefix or folder, or what a glob matches.

What a URL carries beside the place (a user and password, the query of a signed one) opens it, and is shown nowhere.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO, Final, TypeVar, cast

from auditor.errors import AuditorError, InputError, MissingToolError

Answer = TypeVar("Answer")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_USER: Final = re.compile(r"(?<=://)[^/?#]*@")
_IN_TEXT: Final = re.compile(_URL.pattern + r"[^\s'\"<>]*")
_WEB: Final = ("http", "https")
_LOOKS_AT_ONCE: Final = 16
"""Objects whose first bytes are asked for at the same time."""


def is_url(text: str) -> bool:
    """Whether this names a scheme and a place in it, as in ``s3://bucket/prefix``."""
    """Whether this names a scheme and a place in it, as in ``s3://bucket/prefix``."""
    return _URL.match(text) is not None


def shown(url: str) -> str:
    """The URL as messages and reports name it."""
    place, asked, _ = url.partition("?")
    if not url.lower().startswith(("http:", "https:")):
        place, asked = url, ""  # a question mark is part of a glob there
    return _USER.sub("***@", place) + ("?..." if asked else "")


def without_secrets(text: str) -> str:
    """A library's words, with its URLs as they are shown."""
    return _IN_TEXT.sub(lambda found: shown(found[0]), text)


def open_url(url: str) -> BinaryIO:
    """The object, open to be read. Raises InputError and MissingToolError."""

    def opened() -> BinaryIO:
        return cast(BinaryIO, _fsspec(url).open(url, "rb").open())

    return _asked(url, opened)


def expand_url(url: str, is_capture: Callable[[BinaryIO], bool]) -> list[str]:
    """What a URL names, sorted: an object is itself; a folder or prefix is the captures below it, found by content; a glob what it matches.

    A page of the web is itself unless its address ends in ``/`` and it lists files, or has a ``*`` in it. Raises InputError where nothing
    is there or the store does not answer, and MissingToolError without the library for it.
    """
    scheme = url.partition("://")[0].lower()
    listed = "*" in url.partition("?")[0] if scheme in _WEB else any(each in url for each in "*?[")
    if scheme in _WEB and not listed and not url.endswith("/"):
        return [url]

    def found() -> list[str]:
        fs, path = _fsspec(url).core.url_to_fs(url)
        if listed:
            matches = fs.glob(path, detail=True)
            files = [name for name, told in matches.items() if told.get("type") != "directory"]
            if not files:
                raise InputError(shown(url), "nothing matches")
            return [str(fs.unstrip_protocol(name)) for name in sorted(files)]
        try:
            if scheme in _WEB:
                names = [each for each in fs.ls(path, detail=False) if each.startswith(path)]  # nothing above it
            elif fs.info(path)["type"] != "directory":
                return [url]
            else:
                names = fs.find(path)
        except FileNotFoundError:
            names = _with_prefix(fs, path)
            if not names:
                raise
        captures = [str(fs.unstrip_protocol(name)) for name in _captures(fs, sorted(names), is_capture)]
        if not captures:
            raise InputError(shown(url), "no captures below it")
        return captures

    return _asked(url, found)


def _with_prefix(fs: Any, path: str) -> list[str]:
    """Objects whose names begin so."""
    parent, slash, name = path.rpartition("/")
    if not slash or not name:
        return []
    return [each for each in fs.find(parent, prefix=name) if each.startswith(path)]


def _captures(fs: Any, names: list[str], is_capture: Callable[[BinaryIO], bool]) -> Iterator[str]:
    """Those that are captures by their first bytes. Files that cannot be read are among them: the error is raised when they are opened."""

    def look(name: str) -> bool:
        try:
            with fs.open(name, "rb") as file:
                return is_capture(file)
        except (OSError, ValueError):
            return True

    with ThreadPoolExecutor(_LOOKS_AT_ONCE) as pool:
        for name, wanted in zip(names, pool.map(look, names), strict=True):
            if wanted:
                yield name


def _fsspec(url: str) -> Any:
    try:
        import fsspec
    except ImportError:
        says = "reading URLs needs fsspec (pip install 'diego-flow-auditor[remote]')"
        raise MissingToolError(f"{shown(url)}: {says}") from None
    return fsspec


def _asked(url: str, ask: Callable[[], Answer]) -> Answer:
    """What the store answers; its errors as ours."""
    try:
        return ask()
    except AuditorError:
        raise
    except ImportError as error:
        raise MissingToolError(f"{shown(url)}: {' '.join(str(error).split())}") from None
    except Exception as error:  # each kind of storage has its own errors
        raise InputError(shown(url), _why(error)) from None


def _why(error: BaseException) -> str:
    """The cause behind what a library made of it: a server that is not there is no missing file."""
    cause: BaseException | None = error
    while cause is not None:
        status = getattr(cause, "status", None)
        if isinstance(cause, socket.gaierror):
            return "cannot be opened: the name of the server is not known"
        if isinstance(cause, TimeoutError):
            return "cannot be opened: the server does not answer"
        if isinstance(cause, ConnectionError | OSError) and cause.errno in (
            errno.ECONNREFUSED,
            errno.ENETUNREACH,
            errno.EHOSTUNREACH,
        ):
            return f"cannot be opened: {os.strerror(cause.errno or 0).lower()} by the server"
        if isinstance(status, int) and status != 404:  # RFC 9110, section 15.5.5
            return f"cannot be opened: the server answers with status {status}"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, FileNotFoundError):
        return "no such file"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return f"cannot be opened: {without_secrets(' '.join(text.split())) or type(error).__name__}"
