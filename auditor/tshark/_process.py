"""Running tshark: a stranger's million lines of parsers over a stranger's bytes, so it is kept on a short leash.

Without a shell; in a process group of its own that ends when its time is over; with an environment made for it, in which neither the
user's preferences, profiles, host names and Lua plugins nor a key log named by SSLKEYLOGFILE are found; with bounds on what it may say
and how much memory it may take; and it leaves no core file, which would hold keys.
"""

from __future__ import annotations

import contextlib
import os
import queue
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from auditor.errors import InputError, MissingToolError

MAX_MEMORY_BYTES = 6 * 1024**3
MAX_LINE_BYTES = 32 * 1024**2
_MAX_SAID_BYTES = 16 * 1024
_QUEUED_LINES = 1_000
_HANDED_ON = ("PATH", "TMPDIR", "SYSTEMROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

CUT_SHORT = "cut short"
"""In tshark's words for a capture whose last packet is not whole: what came before it was read."""


def find() -> str:
    """Path of tshark. Raises MissingToolError."""
    found = shutil.which("tshark")
    if found is None:
        raise MissingToolError(
            "tshark is not installed: it reads protocol trees and decrypts with --keylog (Debian: apt-get install tshark)"
        )
    return str(Path(found).absolute())


@cache
def version(path: str) -> str:
    """Version of tshark, ``4.0.17`` say. Raises MissingToolError where it does not start."""
    with private_profile() as profile:
        try:
            run = subprocess.run(
                [path, "--version"], capture_output=True, timeout=20, check=False, env=environment(profile), cwd=profile,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise MissingToolError(f"{path} does not start: {_why(error)}") from None
    words = run.stdout.decode("utf-8", "replace").split()
    found = next((word for word in words if word[:1].isdigit() and "." in word), None)
    if run.returncode or found is None:
        raise MissingToolError(f"{path} does not say its version: it is no tshark, or a broken one")
    return found.rstrip(".,;)")


def _why(error: BaseException) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"no answer in {error.timeout:g} s"
    return getattr(error, "strerror", None) or type(error).__name__


@contextlib.contextmanager
def private_profile() -> Iterator[Path]:
    """An empty folder that stands for the user's home and Wireshark's preferences."""
    with tempfile.TemporaryDirectory(prefix="auditor-tshark-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def environment(profile: Path) -> dict[str, str]:
    """All of the environment that tshark gets."""
    handed_on = {name: os.environ[name] for name in _HANDED_ON if name in os.environ}
    home = str(profile)
    return handed_on | {
        "HOME": home,
        "XDG_CONFIG_HOME": home,
        "XDG_DATA_HOME": home,
        "XDG_CACHE_HOME": home,
        "WIRESHARK_CONFIG_DIR": home,
        "WIRESHARK_PLUGIN_DIR": str(profile / "no-plugins"),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
    }


def readable(path: Path) -> Path:
    """The absolute path of a file that can be read. Raises InputError."""
    try:
        with path.open("rb"):
            pass
    except IsADirectoryError:
        raise InputError(str(path), "is a folder") from None
    except FileNotFoundError:
        raise InputError(str(path), "no such file") from None
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error.strerror}") from None
    return path.absolute()


def bound(pid: int) -> None:
    """Limits of memory, and no core file, for a process and those that it starts."""
    if not hasattr(resource, "prlimit"):
        return
    with contextlib.suppress(OSError, ValueError):
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))
        resource.prlimit(pid, resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started in its own session, and all processes that it started."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        process.wait(10)
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.close()


def _read_lines(stream: IO[bytes], lines: queue.Queue[bytes | None], gone: threading.Event) -> None:
    """Lines into the queue until the end, or until the reader is gone; None: the end."""

    def put(line: bytes | None) -> bool:
        while not gone.is_set():
            try:
                lines.put(line, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    with contextlib.suppress(OSError, ValueError):
        while line := stream.readline(MAX_LINE_BYTES):
            if not put(line):
                return
    put(None)


def _read_some(stream: IO[bytes], said: bytearray) -> None:
    """All of a stream, of which the first bytes are kept."""
    with contextlib.suppress(OSError, ValueError):
        while part := stream.read(4096):
            said += part[: max(_MAX_SAID_BYTES - len(said), 0)]


class Run:
    """One run of a program whose lines are read as they come; use as a context manager."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        about: str,
        seconds: float,
        max_bytes: int,
        env: Mapping[str, str],
        cwd: Path,
        told: bytes = b"",
    ) -> None:
        self.about, self.seconds, self.max_bytes = about, seconds, max_bytes
        self.full = False
        """It said more than it may; the rest was not read."""
        self.status: int | None = None
        self._said = bytearray()
        self._gone = threading.Event()
        self._until = time.monotonic() + seconds
        try:
            self._process = subprocess.Popen(
                list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(env), cwd=cwd,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise MissingToolError(f"{command[0]} does not start: {_why(error)}") from None
        bound(self._process.pid)
        assert self._process.stdin and self._process.stdout and self._process.stderr  # noqa: S101  # they are pipes
        with contextlib.suppress(OSError):
            self._process.stdin.write(told)
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._lines: queue.Queue[bytes | None] = queue.Queue(_QUEUED_LINES)
        self._threads = [
            threading.Thread(target=_read_lines, args=(self._process.stdout, self._lines, self._gone), daemon=True),
            threading.Thread(target=_read_some, args=(self._process.stderr, self._said), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: Any) -> None:
        self._gone.set()
        stop(self._process)
        for thread in self._threads:
            thread.join(5)

    def lines(self) -> Iterator[bytes]:
        """Lines of standard output. Raises InputError when the time is over."""
        read = 0
        while True:
            left = self._until - time.monotonic()
            if left <= 0:
                raise InputError(self.about, f"tshark did not finish in {self.seconds:g} s")
            try:
                line = self._lines.get(timeout=left)
            except queue.Empty:
                continue
            if line is None:
                break
            read += len(line)
            if read > self.max_bytes:
                self.full = True
                return
            yield line
        try:
            self.status = self._process.wait(max(self._until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            raise InputError(self.about, f"tshark did not finish in {self.seconds:g} s") from None
        self._threads[1].join(5)

    def complaint(self) -> str:
        """The line of standard error that says what is wrong."""
        return complaint(self._said)


def complaint(said: bytes | bytearray) -> str:
    """Of what tshark said on standard error, the line with the error, without tshark's name before it."""
    lines = [line.strip() for line in bytes(said).decode("utf-8", "replace").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Running as user", "**"))]
    told = [line for line in lines if line.startswith("tshark: ")] or lines
    return told[0].removeprefix("tshark: ")[:300].rstrip(".") if told else ""


def judge(capture: Path, status: int | None, said: str, *, anything: bool) -> str | None:
    """A problem in how tshark ended, if packets were read before it; else None.

    Raises InputError where it could not read the capture at all.
    """
    if not status:
        return None
    if CUT_SHORT in said or anything:
        return f"tshark: {said}" if said else f"tshark ended with status {status}"
    raise InputError(str(capture), f"tshark cannot read it: {said or f'status {status}'}")
