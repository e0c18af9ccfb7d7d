"""The packets of a live capture kept on disk, within a size: the oldest file goes when a new one needs its room.

Every source has files of its own (``NAME.000001.pcap``, one link type each, nanoseconds), so that the folder, audited afterwards, is the same
set of capture points that was audited live. They have what was sent, passwords too: only their owner can read them.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import threading
from collections import deque
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from auditor.errors import ConfigError
from auditor.kernels.save import RECORD_BYTES, write_pcap
from auditor.model.frames import FrameBatch
from auditor.wire import pcap

FILES: Final = 16
"""A ring is about so many files: the oldest sixteenth goes at a time."""
LEAST_BYTES: Final = 64 * 1024
SNAPLEN: Final = 262_144
_OURS = re.compile(r".+\.\d{6,}\.pcap\Z")


class Ring:
    """A folder of capture files that never holds more than ``size_bytes`` (but for the files being written, where there are very many sources)."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        """Raises ConfigError where the folder cannot be used or the size is too small for any packet."""
        if size_bytes < FILES * LEAST_BYTES:
            raise ConfigError(
                "--ring-size", f"{size_bytes} bytes are too small", hint=f"at least {FILES * LEAST_BYTES // 1024} KiB"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
            here = sorted(folder.iterdir(), key=lambda each: each.stat().st_mtime_ns)
        except OSError as error:
            raise ConfigError(
                str(folder), f"cannot be used for packets: {error.strerror or error}", hint="name another folder"
            ) from error
        if not os.access(folder, os.W_OK):
            raise ConfigError(str(folder), "cannot be used for packets: it is read-only", hint="name another folder")
        if any(not _OURS.match(each.name) for each in here):
            raise ConfigError(str(folder), "has other files in it than kept packets", hint="name a new folder")
        self.folder, self.size_bytes = folder, size_bytes
        self.file_bytes = max(size_bytes // FILES, LEAST_BYTES)
        self.removed_files = 0
        self._lock = threading.Lock()
        self._files: deque[tuple[Path, int]] = deque((each, each.stat().st_size) for each in here)
        self._total = sum(size for _, size in self._files)
        self._number = max((int(each.name.split(".")[-2]) for each in here), default=0)

    def writer(self, name: str) -> RingWriter:
        """The files of one source."""
        return RingWriter(self, re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "source")

    def take(self, stem: str) -> Path:
        """The name of the next file, its room made. Raises OSError."""
        with self._lock:
            while self._files and self._total + self.file_bytes > self.size_bytes:
                oldest, size = self._files.popleft()
                oldest.unlink(missing_ok=True)
                self._total -= size
                self.removed_files += 1
            self._number += 1
            # What is being written is counted with its whole room.
            self._total += self.file_bytes
            return self.folder / f"{stem}.{self._number:06d}.pcap"

    def full(self, path: Path, size: int) -> None:
        """A file is written to its end."""
        with self._lock:
            self._total += size - self.file_bytes
            self._files.append((path, size))


def warm(batch: FrameBatch) -> None:
    """Load what writing needs, before packets wait for it."""
    out: NDArray[Any] = np.zeros(RECORD_BYTES, np.uint8)
    columns = (batch.start, batch.caplen_bytes, batch.wirelen_bytes, batch.ts_ns, batch.link_type)
    write_pcap(batch.buf, *columns, 0, 0, out)


class RingWriter:
    """One source's part of the ring. Not for several threads."""

    def __init__(self, ring: Ring, name: str) -> None:
        self._ring, self._name = ring, name
        self._open: dict[int, tuple[Path, IO[bytes], int]] = {}
        self._out: NDArray[Any] = np.zeros(min(1024 * 1024, ring.file_bytes // 4), np.uint8)
        self.failed: str | None = None
        """Why no more packets are kept."""

    def write(self, batch: FrameBatch, link_type: NDArray[np.int32]) -> None:
        """Keep the frames. A disk that takes no more is reported in ``failed``."""
        if self.failed is not None or not len(batch):
            return
        largest = int(batch.caplen_bytes.max()) + RECORD_BYTES
        if largest > self._out.size:
            self._out = np.zeros(largest, np.uint8)
        try:
            for kind in np.unique(link_type).tolist():
                self._write_kind(batch, link_type, kind)
        except OSError as error:
            self.failed = f"packets are no longer kept: {error.strerror or error}"
            self.close()

    def _write_kind(self, batch: FrameBatch, link_type: NDArray[np.int32], kind: int) -> None:
        at = 0
        while at < len(batch):
            at, filled = write_pcap(
                batch.buf,
                batch.start,
                batch.caplen_bytes,
                batch.wirelen_bytes,
                batch.ts_ns,
                link_type,
                kind,
                at,
                self._out,
            )
            if filled:
                self._append(kind, self._out[:filled].data)

    def _append(self, kind: int, data: memoryview) -> None:
        path, file, size = self._open.get(kind) or self._begin(kind)
        file.write(data)
        size += len(data)
        self._open[kind] = path, file, size
        if size + self._out.size > self._ring.file_bytes:
            file.close()
            del self._open[kind]
            self._ring.full(path, size)

    def _begin(self, kind: int) -> tuple[Path, IO[bytes], int]:
        path = self._ring.take(self._name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        file = os.fdopen(descriptor, "wb", buffering=0)
        header = struct.pack("<IHHiIII", pcap.MAGIC_NANOS, 2, 4, 0, 0, SNAPLEN, kind)
        file.write(header)
        return path, file, len(header)

    def close(self) -> None:
        """All that was kept is on disk and named."""
        for path, file, size in self._open.values():
            with contextlib.suppress(OSError):
                file.close()
            self._ring.full(path, size)
        self._open.clear()
