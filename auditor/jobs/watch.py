"""Staying: a pass whenever files appear, and now and then in any case.

Notices of new files only say that it is time to look; what is finished is decided by the pass, as without ``--watch``. So a lost notice costs time and nothing
else. Ctrl-C and SIGTERM end it after the pass that is at work; a second one at once.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from auditor.errors import ConfigError, MissingToolError
from auditor.jobs.config import RunConfig
from auditor.jobs.log import Log

TICK_MS = 500
"""So often it is seen whether a pass is due."""


class Stop:
    """Whether it is time to end, and by which signal."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.by: int | None = None

    def __call__(self, number: int, _frame: Any = None) -> None:
        """As a signal handler."""
        if self.event.is_set():
            raise KeyboardInterrupt
        self.by = number
        self.event.set()


@contextmanager
def signals(stop: Stop) -> Iterator[None]:
    """SIGINT and SIGTERM ask ``stop``."""
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(config: RunConfig, log: Log, stop: Stop, one: Callable[[], None], *, every_s: float, quiet_s: float) -> None:
    """Call ``one`` at once, after files have appeared and lain for ``quiet_s``, and every ``every_s`` seconds. Raises MissingToolError."""
    try:
        import watchfiles
    except ImportError:
        raise MissingToolError("--watch needs watchfiles (pip install 'diego-flow-auditor[run]')") from None
    while not stop.event.is_set():
        folders = [each for each in config.spool.folders if Path(each).is_dir()]
        if not folders:
            raise ConfigError("spool.folders", "none of them exists any more")
        # One watcher all the time: what appears during a pass, or while one waits for a file to be finished, is told afterwards. The first pass is made once
        # it watches, so that nothing falls between the two.
        due = time.monotonic()
        for changes in watchfiles.watch(
            *folders, stop_event=stop.event, recursive=config.spool.recursive, rust_timeout=TICK_MS, yield_on_timeout=True,
            debounce=400, raise_interrupt=False,
        ):  # fmt: skip
            if changes and time.monotonic() < due:
                # What appears is being written: it is looked at once it may be finished.
                log.say("watch", "files appeared")
                stop.event.wait(quiet_s)
                due = time.monotonic()
            if stop.event.is_set():
                return
            if time.monotonic() >= due:
                one()
                due = time.monotonic() + every_s
            if {each for each in config.spool.folders if Path(each).is_dir()} != set(folders):
                break  # one came or went


def serve(listen: str, collect: Callable[[], Any]) -> tuple[Any, int]:
    """Serve metrics over HTTP until the server is shut down; the server and its port. Raises ConfigError, MissingToolError."""
    try:
        from prometheus_client import start_http_server
    except ImportError:
        raise MissingToolError("metrics need prometheus-client (pip install 'diego-flow-auditor[run]')") from None

    class _Now:
        def collect(self) -> Any:
            return collect().collect()

    host, _, port = listen.rpartition(":")
    try:
        server, _ = start_http_server(int(port), addr=host.strip("[]"), registry=_Now())
    except (OSError, OverflowError) as error:
        raise ConfigError("metrics.listen", f"{listen}: {getattr(error, 'strerror', None) or error}") from error
    return server, int(server.server_port)
