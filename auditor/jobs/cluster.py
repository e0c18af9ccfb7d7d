"""Captures followed by the workers of a Dask cluster, one capture a task.

As in ``scale``, what comes back is a ``TrackedPart`` for each capture; parts are joined and judged here, so that the report is the same. The rules:

- Workers read captures themselves, by the same path: nothing of a capture goes through the scheduler. That a worker sees the same file is
  checked (its size, its first bytes), because another of that name would give a report about something else.
- Scheduler and workers have this version of the auditor installed; a worker of another version refuses.
- Standard input, pipes and open streams are followed here, while the workers are busy.
- A worker that dies is the cluster's matter, which gives its captures to another, some times. None left, or one capture that ended
  several: an error. So is whatever does not answer within ``PATIENCE_SECONDS``.
- What is sent is pickled, as always with Dask: who can write to the scheduler can run programs on all its machines. Dask's own
  configuration (TLS of ``tls://`` addresses, say) holds here too.
"""

from __future__ import annotations

import logging
import pickle
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from auditor.capture.remote import is_url, shown
from auditor.errors import AuditorError, ConfigError, InputError, MissingToolError
from auditor.model.version import VERSION
from auditor.policy.addresses import is_private, kind_of, to_int

if TYPE_CHECKING:
    from auditor.pipeline import Follow, Followed, Progress, Source

# The scheduler imports this module to read what it is sent: it needs nothing of what follows captures.

PATIENCE_SECONDS = 10.0
"""Seconds without an answer of the scheduler, or without a worker, before the audit ends."""
ANSWER_SECONDS = 3.0
"""Seconds to wait for a worker's version."""
LOOK_SECONDS = 1.0
HEAD_BYTES = 65_536

OPTION = "--scheduler"
PLAIN = "plain+tcp"
"""Prefix of an address by which the user asks for TCP without TLS, also outside private networks."""
_ENCRYPTED = ("tls", "wss")


def follow_on_cluster(address: str) -> Follow:
    """Follows captures on the Dask cluster whose scheduler has this address (``tcp://10.0.0.5:8786``).

    What it gives raises MissingToolError without Dask, ConfigError where the cluster does not answer or is not a cluster of this
    auditor, and InputError where a worker cannot read a capture, or none lived to follow it.
    """

    def follow(
        sources: Sequence[Source], options: Mapping[str, Any], progress: Callable[[Progress], None] | None
    ) -> Iterable[Followed]:
        if options.get("growth") is not None:
            raise ConfigError(OPTION, "--follow works only without a scheduler", hint="leave it out")
        return _Run(address, sources, options, progress).follow()

    return follow


@dataclass(frozen=True, slots=True)
class Errand:
    """A capture for a worker."""

    name: str
    """What reports call it."""
    path: str
    index: int
    options: Mapping[str, Any]
    alone: bool
    version: str
    size: int
    """At least so many bytes of it were there when it was sent off; -1: its sender could not read it, or it is not a file."""
    head: tuple[int, int] = (0, 0)
    """Length and CRC-32 of its beginning."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a worker did not follow a capture."""

    says: str
    of_capture: bool
    """The capture is to blame, not the worker."""


_one_at_a_time = threading.Lock()


def run_errand(errand: Errand) -> tuple[Refused | None, bytes]:
    """In a worker: the ``Followed``, pickled (so that its arrays can be written to wherever it is opened)."""
    if errand.version != VERSION:
        return Refused(f"has auditor {VERSION}", False), b""
    from auditor.pipeline import follow_one

    says = _differs(errand)
    if says is not None:
        return Refused(says, True), b""
    # A worker may have threads; following holds the interpreter nearly all the time, and a second capture would only need room.
    with _one_at_a_time:
        try:
            followed = follow_one(errand.path, errand.index, dict(errand.options), errand.alone)
        except InputError as error:
            raise type(error)(errand.name, error.says, error.offset) from None
    capture = replace(followed.capture, path=errand.name)
    return None, pickle.dumps(replace(followed, capture=capture), pickle.HIGHEST_PROTOCOL)


def _differs(errand: Errand) -> str | None:
    """What keeps this from being the file that was meant."""
    if errand.size < 0:
        return None
    length, sum_ = errand.head
    try:
        with Path(errand.path).open("rb") as file:
            head = file.read(length)
            size = file.seek(0, 2)
    except OSError as error:
        return f"cannot read it: {error.strerror or error}"
    if size < errand.size or zlib.crc32(head) != sum_:
        return "has another file there"
    return None


class _Run:
    """One audit's captures on their way through the cluster."""

    def __init__(
        self,
        address: str,
        sources: Sequence[Source],
        options: Mapping[str, Any],
        progress: Callable[[Progress], None] | None,
    ) -> None:
        from auditor.jobs.scale import CaptureProgress

        self._address, self._sources, self._options = address, sources, options
        self._captures = CaptureProgress(sources, options, progress)
        self._answers: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self._ended: SimpleQueue[tuple[int, Any] | None] = SimpleQueue()
        """Tasks whose answers are to be fetched; None: no more."""
        self._quiet_since: float | None = None
        self._why = ""

    def follow(self) -> Iterator[Followed]:
        """The captures in their order."""
        from auditor.jobs.scale import can_be_handed_on

        apart = [k for k, source in enumerate(self._sources) if can_be_handed_on(source)]
        if not apart:
            yield from self._captures.all_here()
            return
        found: dict[int, Followed] = {}
        with _connected(self._address) as client:
            threading.Thread(target=self._fetch, daemon=True).start()
            try:
                # The largest first: then no worker is left alone with a large one at the end. Dask drops a task that nobody holds.
                tasks = [self._send(client, k) for k in self._captures.largest_first(apart)]
                for k in sorted(set(range(len(self._sources))) - set(apart)):
                    found[k] = self._captures.here(k)
                while len(found) < len(self._sources):
                    try:
                        k, answer = self._answers.get(timeout=LOOK_SECONDS)
                    except Empty:
                        self._look_after(client, shown(str(self._sources[min(set(apart) - set(found))])))
                        continue
                    found[k] = self._opened(k, answer)
                    self._captures.done(found[k])
                del tasks
            finally:
                self._ended.put(None)
        for k in range(len(self._sources)):
            yield found.pop(k)

    def _send(self, client: Any, k: int) -> Any:
        """Hand one capture on; when it is done, its answer is fetched."""
        errand = _errand(str(self._sources[k]), k, self._options, len(self._sources) == 1)
        task = client.submit(run_errand, errand, pure=False, key=f"auditor-{k}-{id(self):x}-{time.time_ns():x}")
        # Dask has one thread for what all clients of a process want to be told, and a client that is closed meanwhile answers nothing any more:
        # so nothing is waited for there.
        task.add_done_callback(lambda done: self._ended.put((k, done)))
        return task

    def _fetch(self) -> None:
        """In a thread of its own: what workers gave, one after the other. Where the client was closed it waits without success, and ends with the process."""
        while (ended := self._ended.get()) is not None:
            k, done = ended
            try:
                self._answers.put((k, done.result()))
            except BaseException as error:  # any error belongs to the capture whose result is awaited
                self._answers.put((k, error))
            done.release()

    def _opened(self, k: int, answer: Any) -> Followed:
        """A worker's result for a capture. Raises the worker's error as one of ours."""
        path = shown(str(self._sources[k]))
        if isinstance(answer, AuditorError):
            raise answer
        if isinstance(answer, BaseException):
            kind = type(answer).__name__
            if kind == "KilledWorker":
                says = "each worker that read it died: killed, or out of memory"
                raise InputError(path, says) from None
            if "Cancelled" in kind:
                raise ConfigError(OPTION, f"the scheduler at {self._address} lost the work before it was finished")
            if isinstance(answer, ImportError | AttributeError) or isinstance(answer.__cause__, ImportError):
                raise _foreign(self._address, "has no auditor")
            raise answer
        refused, followed = answer
        if refused is not None and refused.of_capture:
            hint = "workers read captures themselves: put it where every worker has it under this path"
            raise InputError(path, f"a worker of {self._address} {refused.says} ({hint})")
        if refused is not None:
            raise _foreign(self._address, refused.says)
        made: Followed = pickle.loads(followed)  # noqa: S301  # as everything that comes from the cluster
        return made

    def _look_after(self, client: Any, waiting_for: str) -> None:
        """Check that a worker is still active. Raises ConfigError or InputError if none was for too long."""
        why = _ailing(client)
        if why is None:
            self._quiet_since = None
            return
        now = time.monotonic()
        if self._quiet_since is None:
            self._quiet_since = now
        if now - self._quiet_since < PATIENCE_SECONDS:
            return
        if why == "no worker":
            says = f"no worker of {self._address} is left to read it: killed, or out of memory"
            raise InputError(waiting_for, says)
        raise ConfigError(OPTION, f"the scheduler at {self._address} no longer answers")


def _errand(name: str, k: int, options: Mapping[str, Any], alone: bool) -> Errand:
    if is_url(name):
        return Errand(shown(name), name, k, dict(options), alone, VERSION, -1)
    path = str(Path(name).absolute())
    try:
        with Path(path).open("rb") as file:
            head = file.read(HEAD_BYTES)
            size = file.seek(0, 2)
    except OSError:  # it cannot be read here either: the error is raised where it is opened
        return Errand(name, path, k, dict(options), alone, VERSION, -1)
    return Errand(name, path, k, dict(options), alone, VERSION, size, (len(head), zlib.crc32(head)))


def _foreign(address: str, says: str) -> ConfigError:
    hint = f"install diego-flow-auditor {VERSION} for the scheduler and for every worker"
    return ConfigError(OPTION, f"a process of the cluster at {address} {says}", hint=hint)


def _ailing(client: Any) -> str | None:
    """Why the cluster cannot work; None: it can."""
    if client.status != "running":
        return "no scheduler"
    try:
        return None if client.sync(client.scheduler.ncores, callback_timeout=PATIENCE_SECONDS) else "no worker"
    except (OSError, RuntimeError):
        return "no scheduler"


def _check_versions(client: Any, address: str) -> None:
    """That scheduler and workers have this auditor; who does not answer in time is asked again when it is given a capture. Raises ConfigError.

    A worker without the auditor cannot even read what it is sent, and ends: so this asks with what Python has.
    """
    ask = (resolve_name, "auditor.model.version:VERSION")
    told = _within_patience(lambda: client.run(*ask, on_error="return"), ANSWER_SECONDS) or {}
    for found in told.values():
        if found != VERSION:
            raise _foreign(address, "has no auditor" if isinstance(found, BaseException) else f"has auditor {found}")
    on_scheduler = _within_patience(lambda: [client.run_on_scheduler(*ask)], PATIENCE_SECONDS)
    if on_scheduler != [VERSION]:
        raise _foreign(address, f"has auditor {on_scheduler[0]}" if on_scheduler else "has no auditor")


def _is_address(text: str) -> bool:
    """Host and port, with a transport that Dask has before them or none."""
    from distributed.comm.registry import backends

    scheme, mark, rest = text.rpartition("://")
    host, _, port = rest.rpartition(":")
    known = scheme == PLAIN or (scheme in backends and scheme != "inproc") if mark else True
    return known and bool(host.strip()) and port.isascii() and port.isdigit() and 0 < int(port) < 65_536


def protected(address: str) -> str:
    """The scheduler's address with its transport: TLS where none is named. Raises ConfigError where strangers could listen in, or be the cluster.

    Whoever can connect to a scheduler can run programs on all its machines; without TLS that is everybody who reaches it or is on the network path.
    """
    scheme, mark, rest = address.rpartition("://")
    if not mark:
        return f"tls://{address}"
    if scheme == PLAIN:
        return f"tcp://{rest}"
    if scheme in _ENCRYPTED:
        return address
    host = rest.rpartition(":")[0].strip("[]")
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError:  # no scheduler there: reported when it is connected to
        return address
    if all(_is_near(to_int(str(each))) for each in found):
        return address
    says = f"{address} is not a private address, and {scheme}:// is not encrypted: anyone on the network path could run programs here"
    raise ConfigError(
        OPTION,
        says,
        hint=f"tls://{rest} with Dask's certificates; or {PLAIN}://{rest} where something else protects the connection",
    )


def _is_near(address: int) -> bool:
    return kind_of(address) == "loopback" or is_private(address)


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """A client of that scheduler; at the end all our tasks are removed from it. Raises MissingToolError and ConfigError."""
    try:
        from dask import distributed
    except ImportError:
        says = f"{OPTION} needs Dask (pip install 'diego-flow-auditor[cluster]')"
        raise MissingToolError(says) from None
    make: Any = distributed.Client  # it has no types
    if not _is_address(address):
        raise ConfigError(OPTION, f"{address!r} is not an address", hint="such as tls://10.0.0.5:8786")
    address = protected(address)
    with _silent():
        client = _within_patience(
            lambda: make(address, timeout=PATIENCE_SECONDS, set_as_default=False, name="auditor"), PATIENCE_SECONDS
        )
        if client is None:
            says = f"{address}: no Dask scheduler answers within {PATIENCE_SECONDS:g} s"
            raise ConfigError(OPTION, says, hint="start dask scheduler there, or name another")
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while (why := _ailing(client)) is not None:
                if time.monotonic() > deadline:
                    raise ConfigError(OPTION, f"the cluster at {address} has {why}", hint="start dask worker there")
                time.sleep(0.1)
            _check_versions(client, address)
            yield client
        finally:
            _within_patience(lambda: client.close(timeout=PATIENCE_SECONDS), PATIENCE_SECONDS)


def _within_patience(do: Callable[[], Any], seconds: float) -> Any:
    """Its result; None if it fails or takes longer, as it may: a time limit of Dask's own does not hold where the other end
    takes a connection and then says nothing. What is not over then is left alone; it ends with the process."""
    made: list[Any] = []

    def run() -> None:
        with suppress(Exception):  # the kinds of errors are many
            made.append(do())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return made[0] if made else None


@contextmanager
def _silent() -> Iterator[None]:
    """Dask logs what goes wrong, with tracebacks; here each of it becomes one line."""
    rooms = ("distributed", "tornado", "asyncio")  # each module of theirs has a level of its own
    names = [*rooms, *(name for name in logging.root.manager.loggerDict if name.partition(".")[0] in rooms)]
    loggers = [logging.getLogger(name) for name in dict.fromkeys(names)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
