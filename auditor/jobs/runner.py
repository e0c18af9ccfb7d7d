"""Scheduled passes with metrics, notifications and the waiting between them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from auditor.errors import AuditorError
from auditor.jobs.config import RunConfig
from auditor.jobs.digest import tell
from auditor.jobs.lock import BusyError
from auditor.jobs.log import Log
from auditor.jobs.scheduled_run import Follower, Outcome, one_pass
from auditor.wire.text import many


class Runner:
    """Runs passes of one configuration."""

    def __init__(
        self,
        config: RunConfig,
        log: Log,
        environment: Mapping[str, str],
        following: type[Follower] | None = None,
    ) -> None:
        """``following``: how the files of the spool are followed, where they are no captures."""
        self._following = following
        self.config, self.log, self._environment = config, log, environment
        self._last: tuple[Outcome | None, float, int, bool] = (None, 0.0, 0, False)

    def once(self) -> Outcome:
        """One pass, and its metrics, whatever becomes of it. Raises AuditorError where it could not be done."""
        began = time.monotonic()
        try:
            outcome = one_pass(self.config, self.log, time.time_ns, tell=self._tell, following=self._following)
        except BusyError:
            raise
        except BaseException:
            self._last = None, time.monotonic() - began, time.time_ns(), True
            self._write_metrics()
            raise
        self._last = outcome, time.monotonic() - began, time.time_ns(), False
        self._write_metrics()
        return outcome

    def _write_metrics(self) -> None:
        if self.config.metrics.textfile is not None:
            from auditor.jobs.metrics import write_textfile

            try:
                write_textfile(self.collect(), self.config.metrics.textfile)
            except AuditorError as error:
                self.log.say("metrics", str(error), "error")

    def _tell(self, section: Any, digest: dict[str, Any]) -> None:
        tell(section, digest, self._environment)
        self.log.say("told", f"sent to {section.name}: {digest['title']}", name=section.name, key=digest["key"])

    def collect(self) -> Any:
        """The metrics as they are now."""
        from auditor.jobs.metrics import registry

        outcome, seconds, ended, failed = self._last
        return registry(self.config.store, outcome, seconds, ended, self.config.name, failed)

    def summary(self, outcome: Outcome, seconds: float) -> str:
        """A pass in a sentence."""
        says = f"{many(outcome.files, 'file')} in {many(len(outcome.audits), 'audit')}, {many(outcome.new, 'new finding')} that count{'s' if outcome.new == 1 else ''}"
        if outcome.aside:
            says += f", {many(len(outcome.aside), 'file')} set aside"
        if outcome.apart:
            says += f", {many(len(outcome.apart), 'file')} dated ahead of the clock"
        if outcome.undone:
            says += f", {many(outcome.undone, 'delivery', 'deliveries')} pending"
        return f"{says}; {seconds:.1f} s"

    def stay(self, every_s: float) -> int | None:
        """Run pass after pass until a signal asks to stop; returns the signal."""
        from auditor.jobs.watch import Stop, serve, signals, watch

        stop = Stop()
        server = None
        if self.config.metrics.listen is not None:
            server, port = serve(self.config.metrics.listen, self.collect)
            self.log.say("metrics", f"metrics on port {port}", port=port)

        def one() -> None:
            began = time.monotonic()
            try:
                outcome = self.once()
            except AuditorError as error:  # the next pass may do better
                self.log.say("pass", f"this pass failed: {error}", "error")
                return
            if outcome.files or outcome.aside:
                self.log.say(
                    "pass", self.summary(outcome, time.monotonic() - began), files=outcome.files, new=outcome.new
                )

        try:
            with signals(stop):
                watch(
                    self.config,
                    self.log,
                    stop,
                    one,
                    every_s=every_s,
                    quiet_s=min(self.config.spool.settle / 1e9 + 0.2, every_s),
                )
        finally:
            if server is not None:
                server.shutdown()
                server.server_close()
        return stop.by
