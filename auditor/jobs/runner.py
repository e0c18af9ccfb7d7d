"""Passes with everything around them: metrics, people to tell, staying."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.errors import AuditorError, ConfigError
from auditor.jobs.config import RunConfig
from auditor.jobs.digest import address_of, tell
from auditor.jobs.log import Log
from auditor.jobs.passes import Outcome, one_pass


def check(config: RunConfig, environment: Mapping[str, str]) -> list[str]:
    """Read all files that the configuration names; nothing is run, written or told. What this machine lacks. Raises AuditorError."""
    from auditor.jobs.keep import rule_names
    from auditor.policy.inventory import load_inventory
    from auditor.policy.loader import load_policy
    from auditor.policy.waivers import load_waivers

    policy = load_policy(config.audit.policies, release=config.audit.release)
    load_waivers(config.audit.waivers, rule_names())
    files = [each.file for each in config.inventory if each.file is not None]
    if files:
        load_inventory(files, policy)
    if config.audit.ca:
        from auditor.policy.certificates import load_cas

        load_cas(config.audit.ca, policy)
    lacks = [f"spool.folders: {each}: no such folder" for each in config.spool.folders if not Path(each).is_dir()]
    for number, each in enumerate(config.inventory, 1):
        if each.command is not None and shutil.which(each.command[0]) is None:
            lacks.append(f"inventory {number}: there is no command {each.command[0]}")
    for section in config.notify:
        try:
            address_of(section, environment)
        except ConfigError as error:
            lacks.append(str(error))
    return lacks


class Runner:
    """Runs passes of one configuration."""

    def __init__(self, config: RunConfig, log: Log, environment: Mapping[str, str]) -> None:
        self.config, self.log, self._environment = config, log, environment
        self._last: tuple[Outcome | None, float, int] = (None, 0.0, 0)

    def once(self) -> Outcome:
        """One pass, and its metrics. Raises AuditorError where it could not be done."""
        began = time.monotonic()
        outcome = one_pass(self.config, self.log, time.time_ns, tell=self._tell)
        self._last = outcome, time.monotonic() - began, time.time_ns()
        if self.config.metrics.textfile is not None:
            from auditor.jobs.metrics import write_textfile

            try:
                write_textfile(self.collect(), self.config.metrics.textfile)
            except AuditorError as error:
                self.log.say("metrics", str(error), "error")
        return outcome

    def _tell(self, section: Any, digest: dict[str, Any]) -> None:
        tell(section, digest, self._environment)
        self.log.say("told", f"told {section.name}: {digest['title']}", name=section.name, key=digest["key"])

    def collect(self) -> Any:
        """The metrics as they are now."""
        from auditor.jobs.metrics import registry

        outcome, seconds, ended = self._last
        return registry(self.config.store, outcome, seconds, ended, self.config.name)

    def summary(self, outcome: Outcome, seconds: float) -> str:
        """A pass in a sentence."""
        says = f"{outcome.files} files in {len(outcome.audits)} audits, {outcome.new} new findings that count"
        if outcome.aside:
            says += f", {len(outcome.aside)} files set aside"
        if outcome.undone:
            says += f", {outcome.undone} errands left to do"
        return f"{says}; {seconds:.1f} s"

    def stay(self, every_s: float) -> int | None:
        """Pass after pass until somebody asks to stop; the signal that asked."""
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
                self.log.say("pass", f"this pass could not be done: {error}", "error")
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
