"""From what the user names to a reader: files, folders, globs, ``-``, URLs; format and compression by content."""

from __future__ import annotations

import glob
import io
import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from auditor.capture.growing import GrowingSource, Growth
from auditor.capture.remote import expand_url, is_url, open_url, shown
from auditor.capture.sources import HEAD_BYTES, MAGIC_BYTES, RawSource, Rewound, compression_of, unwrapped
from auditor.errors import InputError, NotACaptureError
from auditor.model.limits import Limits, told
from auditor.wire import pcap, pcapng

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from auditor.capture.reader import CaptureReader, Place

STANDARD_INPUT: Final = "-"

_OTHER_FORMATS: Final = (
    (b"PK\x03\x04", "a ZIP archive; unpack it first"),
    (b"BZh", "bzip2 data; decompress it first"),
    (b"snoop\0\0\0", "a snoop file; convert it with editcap"),
    (b"GMBU", "a Network Monitor file; convert it with editcap"),
    (b"RTSS", "a Network Monitor file; convert it with editcap"),
    (b"\xd0\xcf\x11\xe0", "an OLE document"),
    (b"\x7fELF", "a program"),
)
"""What people mistake for captures, or what holds them."""
_TAR_MAGIC: Final = (257, b"ustar")


def open_capture(
    source: str | Path | BinaryIO,
    *,
    name: str | None = None,
    link_type: int | None = None,
    limits: Limits | None = None,
    growth: Growth | None = None,
    prompt: bool = False,
) -> CaptureReader:
    """A reader for one capture; its first bytes have been looked at.

    ``source``: a path, ``-`` for standard input, an fsspec URL, or an open binary file, which stays open. ``name`` is what
    reports call it; ``link_type`` overrides what the capture says of its interfaces. ``growth``: the capture is still being
    written, and reading waits at its end (``auditor.capture.growing``).
    ``prompt``: packets are handed on as they come, for a capture that is running.

    Raises InputError (missing, unreadable, a folder), NotACaptureError (empty, unknown format) and MissingToolError (a URL
    without fsspec or without the library for its kind). What is wrong further on becomes a Problem of the summary.
    """
    limits = limits or Limits()
    file, label, close = _opened(source)
    label = name or label
    try:
        growing = None
        if growth is not None:
            named = isinstance(source, str | Path) and str(source) != STANDARD_INPUT
            growing = GrowingSource(file, str(source) if named else None, growth)
        raw = growing or RawSource(file)
        rewound, compressions = unwrapped(raw, limits, MAGIC_BYTES if prompt else HEAD_BYTES)
        head = _capture_head(rewound, label, compressions, limits, prompt=prompt)
        # Only now: the kernels bring numba, which takes longer to import than a wrong file name takes to be told.
        from auditor.capture.pcap import PcapReader
        from auditor.capture.pcapng import PcapngReader

        is_pcapng = head.startswith(pcapng.SHB_BYTES)
        words = (label, "+".join(["pcapng" if is_pcapng else "pcap", *reversed(compressions)]), rewound, raw, limits)
        size = None if growing else _size_of(file)
        if is_pcapng:
            return PcapngReader(*words, link_type, total_bytes=size, close=close, growing=growing, prompt=prompt)
        return PcapReader(head, *words, link_type, total_bytes=size, close=close, growing=growing, prompt=prompt)
    except BaseException:
        if close is not None:
            close()
        raise


@contextmanager
def reopen_capture(
    path: Path, place: Place, *, link_type: int | None = None, limits: Limits | None = None
) -> Iterator[CaptureReader]:
    """A reader that begins at a place of a capture that is not compressed. Raises as ``open_capture``."""
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise InputError(str(path), error.strerror or "cannot be read") from error
    with file:
        file.seek(place.offset)
        joined = cast(BinaryIO, _Joined(place.opening, file))
        reader = open_capture(joined, name=str(path), link_type=link_type, limits=limits)
        reader.number_from(place.frames_before)
        yield reader


class _Joined(io.RawIOBase):
    """Some bytes, and then the rest of a file."""

    def __init__(self, before: bytes, file: io.RawIOBase) -> None:
        self._before, self._file = memoryview(before), file

    def readable(self) -> bool:
        return True

    def readinto(self, view: Buffer) -> int | None:
        if not self._before:
            return self._file.readinto(view)
        into = memoryview(view).cast("B")
        count = min(len(into), len(self._before))
        into[:count] = self._before[:count]
        self._before = self._before[count:]
        return count


def _capture_head(rewound: Rewound, label: str, compressions: list[str], limits: Limits, *, prompt: bool) -> bytes:
    """The first bytes, proven to start a capture; ``prompt``: no more than the header, because the first packet may be long in coming."""
    head = rewound.peek(pcap.FILE_HEADER_BYTES) if prompt else rewound.peek()
    if is_capture_head(head):
        needed = pcapng.SHB_MIN_BYTES if head.startswith(pcapng.SHB_BYTES) else pcap.FILE_HEADER_BYTES
        head = rewound.peek(needed)
        if len(head) >= needed:
            return head
        raise NotACaptureError(label, "cut off inside the file header")
    head = rewound.peek()
    failed = rewound.failed
    if failed is not None and failed.kind == "unreadable":
        raise InputError(label, failed.says)
    if failed is not None:
        raise NotACaptureError(label, failed.says)
    if not head:
        raise NotACaptureError(label, f"the {compressions[-1]} data is empty" if compressions else "is empty")
    if compression_of(head) is not None:
        raise NotACaptureError(label, told("nesting", limits, "is compressed too many times"))
    if any(head[:4] in (each.to_bytes(4, "little"), each.to_bytes(4, "big")) for each in pcap.FOREIGN_MAGICS):
        raise NotACaptureError(label, "is an unknown variant of pcap; convert it with editcap -F pcap")
    says = "is not a pcap or pcapng capture"
    for magic, what in (*_OTHER_FORMATS, (b"", "")):
        if magic and head.startswith(magic):
            says += f", but {what}"
    at, magic = _TAR_MAGIC
    if head[at:].startswith(magic):
        says += ", but a tar archive; unpack it first"
    raise NotACaptureError(label, says)


def is_capture_head(head: bytes) -> bool:
    """Whether decompressed bytes start a pcap or pcapng."""
    if head.startswith(pcapng.SHB_BYTES):
        magic = head[pcapng.SHB_MAGIC : pcapng.SHB_MAJOR]
        orders = (pcapng.BYTE_ORDER_MAGIC.to_bytes(4, "little"), pcapng.BYTE_ORDER_MAGIC.to_bytes(4, "big"))
        return magic in orders or any(order.startswith(magic) for order in orders)
    return any(head[:4] in (each.to_bytes(4, "little"), each.to_bytes(4, "big")) for each in pcap.MAGICS)


def looks_like_capture(path: str | Path) -> bool:
    """By content, through its compressions. Raises OSError where it cannot be read."""
    with Path(path).open("rb", buffering=0) as file:
        return _is_capture(cast(BinaryIO, file))


def _is_capture(file: BinaryIO) -> bool:
    rewound, _ = unwrapped(RawSource(file), Limits())
    return is_capture_head(rewound.peek(HEAD_BYTES))


def _opened(source: str | Path | BinaryIO) -> tuple[BinaryIO, str, Callable[[], None] | None]:
    """The open file, what to call it, and how to close it (None: it is not ours)."""
    if not isinstance(source, str | Path):
        return source, str(getattr(source, "name", "stream")), None
    text = str(source)
    if text == STANDARD_INPUT:
        if sys.stdin is None or sys.stdin.isatty():
            raise InputError(STANDARD_INPUT, "standard input is neither a pipe nor a file: nothing to read")
        return sys.stdin.buffer, STANDARD_INPUT, None
    if isinstance(source, str) and is_url(text):
        remote = open_url(text)
        return remote, shown(text), remote.close
    try:
        file = cast(BinaryIO, Path(source).open("rb", buffering=0))  # noqa: SIM115 - the reader closes it
    except FileNotFoundError:
        raise InputError(text, "no such file") from None
    except IsADirectoryError:
        raise InputError(text, "is a folder") from None
    except (OSError, ValueError) as error:
        raise InputError(text, f"cannot be read: {_reason(error)}") from None
    return file, text, file.close


def _size_of(file: BinaryIO) -> int | None:
    """Bytes on disk of a regular file; None for what has no size."""
    try:
        status = os.fstat(file.fileno())
    except (OSError, AttributeError, ValueError):
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _reason(error: BaseException) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


def expand(sources: Sequence[str]) -> list[str]:
    """What the arguments name, in their order, each file once; for ``open_capture`` one by one.

    Files, ``-`` and URLs of objects stand for themselves. A folder, or a URL of a folder or prefix, gives the captures in it and below, found by content, sorted; also
    what in it cannot be read, so that ``open_capture`` says so. A glob (``*``, ``?``, ``[``, ``**``) gives what it matches.

    Raises InputError: missing, a glob that matches nothing, a folder without captures.
    """
    found: dict[str, str] = {}
    for source in sources:
        for each in _expanded(source):
            alike = each if each == STANDARD_INPUT or is_url(each) else os.path.realpath(each)
            found.setdefault(alike, each)
    return list(found.values())


def _expanded(source: str) -> Iterator[str]:
    if source == STANDARD_INPUT:
        yield source
        return
    if is_url(source):
        yield from expand_url(source, _is_capture)
        return
    if not source or "\0" in source:
        raise InputError(repr(source), "is not a file name")
    try:
        exists = Path(source).exists()
    except OSError as error:
        raise InputError(source, f"cannot be read: {_reason(error)}") from None
    if exists:
        yield from _in_folder(source) if Path(source).is_dir() else (source,)
        return
    if not glob.has_magic(source):
        raise InputError(source, "no such file or folder")
    matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not matches:
        raise InputError(source, "nothing matches")
    folders = [each for each in matches if Path(each).is_dir()]
    for each in matches:
        if each not in folders:
            yield each
        elif "**" not in source:  # else its files match by themselves
            yield from _in_folder(each)


def _in_folder(folder: str) -> list[str]:
    unreadable: list[str] = []
    found: list[str] = []
    for root, _, names in os.walk(folder, onerror=lambda error: unreadable.append(str(error.filename))):
        for name in names:
            path = Path(root) / name
            if not path.is_file():  # a pipe would block, a dangling link is nothing
                continue
            try:
                if looks_like_capture(path):
                    found.append(str(path))
            except OSError:
                unreadable.append(str(path))
    if folder in unreadable:
        raise InputError(folder, "the folder cannot be read")
    if not found and not unreadable:
        raise InputError(folder, "no captures in folder")
    return sorted(found + unreadable)
