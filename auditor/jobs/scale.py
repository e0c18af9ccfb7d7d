"""Captures followed by many processes, one capture a task.

Following a capture is most of the work, and a capture followed by itself is a ``TrackedPart`` that joins with others: so it can be done anywhere, and
what follows is the same in all cases. What a worker sends back is connection records and what was found in first bytes, not packets.

The rules:

- Workers are new processes (spawn), not copies of this one: it may hold threads and locks.
- Standard input, pipes and open streams are followed here, while the workers are busy: they cannot be handed on.
- Where kernels are not compiled yet, the smallest capture is followed here first: each worker would compile them for itself.
- Whatever ends the audit early (Ctrl-C, an error, a dead worker) ends the workers too; and they end by themselves when this process is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from pathlib import Path
from typing import Any

from auditor.capture.remote import shown
from auditor.errors import ConfigError, InputError
from auditor.kernels._folder import read_folders
from auditor.pipeline import Follow, Followed, Progress, Source, follow_here, follow_one

Tell = Callable[[Progress], None]

DIED = "a worker process died before this capture was read: killed, or out of memory; use fewer workers"


def follow_many(workers: int) -> Follow:
    """Follows captures in ``workers`` processes; with 1, or one capture, in this one. Raises ConfigError below 1.

    A program that calls it needs ``if __name__ == "__main__":`` around its start, as for everything that spawns processes.
    """
    if workers < 1:
        raise ConfigError("--workers", f"{workers} is not a usable number of workers", hint="1 or more")

    def follow(sources: Sequence[Source], options: Mapping[str, Any], progress: Tell | None) -> Iterable[Followed]:
        apart = [k for k, source in enumerate(sources) if can_be_handed_on(source)]
        if workers == 1 or len(sources) == 1 or not apart:
            return follow_here(sources, options, progress)
        return _by_workers(sources, options, progress, min(workers, len(apart)), apart)

    return follow


def follow_apart(source: Source, index: int, options: Mapping[str, Any]) -> Followed:
    """Follow one capture in a process of its own. Raises InputError where that process dies."""
    try:
        with _workers(1) as pool, _interrupts_held():
            task = pool.submit(follow_one, source, index, dict(options), False)
            return task.result()
    except BrokenProcessPool:
        raise InputError(shown(str(source)), "the process that read it died: killed, or out of memory") from None


def can_be_handed_on(source: Source) -> bool:
    """Whether another process can open it by its name: a file or an address, not a pipe or a descriptor of this process."""
    if not isinstance(source, str) or source.startswith(("/dev/", "/proc/")):
        return False
    return "://" in source or Path(source).is_file()


class CaptureProgress:
    """The captures of one audit and their progress."""

    def __init__(self, sources: Sequence[Source], options: Mapping[str, Any], progress: Tell | None) -> None:
        self._sources, self._options, self._progress = sources, dict(options), progress
        self._packets = self._bytes = 0
        self._total = _total_bytes(sources)

    def largest_first(self, numbers: Iterable[int]) -> list[int]:
        """Numbers of captures in the order in which workers get them."""
        return sorted(numbers, key=lambda k: (-_size(self._sources[k]), k))

    def here(self, k: int) -> Followed:
        """Follow one capture in this process."""
        followed = follow_one(self._sources[k], k, self._options, False, self._tell_on)
        self.done(followed)
        return followed

    def all_here(self) -> Iterator[Followed]:
        """Follow all, one after the other, in this process."""
        return iter(follow_here(self._sources, self._options, self._progress))

    def done(self, followed: Followed) -> None:
        """Count a whole capture."""
        self._packets += followed.capture.packets
        self._bytes += followed.capture.bytes
        if self._progress is not None:
            self._progress(Progress(followed.capture.path, self._packets, self._bytes, self._total))

    def _tell_on(self, progress: Progress) -> None:
        """Progress inside a capture that is followed here."""
        if self._progress is not None:
            packets, size = self._packets + progress.packets, self._bytes + progress.bytes
            self._progress(Progress(progress.path, packets, size, self._total))


def _by_workers(
    sources: Sequence[Source], options: Mapping[str, Any], progress: Tell | None, workers: int, apart: Sequence[int]
) -> Iterator[Followed]:
    """The captures in order; those with the numbers in ``apart`` by workers."""
    captures = CaptureProgress(sources, options, progress)
    found: dict[int, Followed] = {}
    apart = captures.largest_first(apart)
    if not _compiled():
        smallest = apart.pop()
        found[smallest] = captures.here(smallest)
    try:
        with _workers(workers) as pool:
            with _interrupts_held():
                # The largest first: then no worker is left alone with a large one at the end.
                try:
                    tasks = {pool.submit(follow_one, sources[k], k, dict(options), False): k for k in apart}
                except (OSError, ValueError) as error:
                    # One died while the next was started: its pipes are closed already, or their numbers are in use again.
                    raise BrokenProcessPool(str(error)) from error
            for k in range(len(sources)):
                if k not in apart and k not in found:
                    found[k] = captures.here(k)
            waiting: set[Future[Followed]] = set(tasks)
            while waiting:
                finished, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for task in finished:
                    found[tasks[task]] = task.result()
                    captures.done(found[tasks[task]])
    except BrokenProcessPool:
        # It breaks for all captures; which worker died is unknown.
        lost = min(k for k in apart if k not in found)
        raise InputError(str(sources[lost]), DIED) from None
    for k in range(len(sources)):
        yield found.pop(k)


def _compiled() -> bool:
    """Whether the largest kernel has machine code on disk."""
    return any(any(folder.glob("tcpstate.track-*.o")) for folder in read_folders())


def _size(source: Source) -> int:
    try:
        return Path(str(source)).stat().st_size
    except (OSError, ValueError):
        return 0


def _total_bytes(sources: Sequence[Source]) -> int | None:
    if all(isinstance(each, str) and Path(each).is_file() for each in sources):
        return sum(map(_size, sources))
    return None


class _Spawn(SpawnContext):
    """Starts processes afresh, and remembers them."""

    def __init__(self) -> None:
        self.started: list[SpawnProcess] = []

    def Process(self, *args: Any, **options: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        made = SpawnProcess(*args, **options)
        self.started.append(made)
        return made


@contextmanager
def _workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool that leaves no process behind, also after errors."""
    context = _Spawn()
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(list(sys.path),))
    try:
        yield pool
    except BaseException:
        for process in context.started:
            if process.pid is not None:
                process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C goes to all processes of a terminal: those started inside inherit that they do not listen; for this one it waits."""
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(path: list[str]) -> None:
    """In each worker, first of all."""
    sys.path[:] = path
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the parent was killed: its results would never be fetched."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
