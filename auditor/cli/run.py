"""``auditor run``: one scheduled pass over a spool of captures; ``--watch`` keeps running."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditor.cli import _options as options
from auditor.errors import AuditorError, ConfigError
from auditor.wire.text import escape

if TYPE_CHECKING:
    from auditor.jobs.config import RunConfig
    from auditor.jobs.log import Log

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def run(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="Configuration (TOML); docs/deploy/auditor.toml is an example.")
    ],
    watch: Annotated[bool, typer.Option("--watch", help="Keep running, and react to new files.")] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=1, help="With --watch: look at least this often.")
    ] = 60.0,
    all_: Annotated[
        bool, typer.Option("--all", help="Exit status as for auditor audit: all findings count, not only new ones.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the configuration and the files it names.")
    ] = False,
    status: Annotated[
        bool,
        typer.Option("--status", help="Show pending deliveries, silent or incomplete sources, and losses."),
    ] = False,
    withdraw: Annotated[
        str | None,
        typer.Option(
            "--withdraw", metavar="ERRAND|all", help="Give up this pending delivery, or all.", show_default=False
        ),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(
            "--log-format", metavar="text|json", help="Instead of the one in the configuration.", show_default=False
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Run one pass: audit the new, complete captures of the spool, store the audit and send the reports.

    Exit status: 0 no new findings, and everything is complete; 1 findings at or above fail_on that are new since the last pass, or a waiver that has
    expired; 2 the pass failed; 3 something is incomplete that was complete before. Added to that: 4 while the clock, or the dates of captures, are not
    trusted; 8 while a delivery is pending. --all: as auditor audit.
    """
    from auditor.jobs.log import Log

    if log_format is not None:
        options.choice("--log-format", log_format, ("text", "json"))
    log = Log(json=log_format == "json", quiet=quiet)
    try:
        from auditor.jobs.config import load_config

        told = load_config(config)
        log = Log(json=(log_format or told.log.format) == "json", quiet=quiet)
        if status:
            raise typer.Exit(_status(told))
        if withdraw is not None:
            _withdraw(told, withdraw)
            return
        _run(config, told, log, watch=watch, every=every, all_=all_, check=check)
    except AuditorError as error:
        if not log.json:
            raise
        log.say("failed", str(error), "error")
        raise typer.Exit(2) from None


def _status(told: RunConfig) -> int:
    from auditor.jobs.status import status

    lines, bits = status(told, time.time_ns())
    for line in lines:
        print(escape(line))
    return bits


def _withdraw(told: RunConfig, which: str) -> None:
    from auditor.jobs.errands import withdraw
    from auditor.jobs.lock import only_one
    from auditor.store.history import guarded, open_history

    store = Path(told.store)
    if not store.is_dir():
        raise ConfigError(told.store, "is not a store of audits")
    with only_one(store, time.time_ns()), guarded(store), open_history(store, write=True) as history:
        print(f"{withdraw(history, which)} withdrawn")


def _run(config: Path, told: RunConfig, log: Log, *, watch: bool, every: float, all_: bool, check: bool) -> None:
    if check:
        from auditor.jobs.check import check as checked

        options.report_check(config, checked(told, os.environ, config), log)
        return
    from auditor.jobs.runner import Runner

    runner = Runner(told, log, os.environ)
    if not watch:
        began = time.monotonic()
        outcome = runner.once()
        log.say(
            "pass",
            runner.summary(outcome, time.monotonic() - began),
            files=outcome.files,
            new=outcome.new,
            aside=len(outcome.aside),
        )
        raise typer.Exit(outcome.status(all_, told.audit.allow_incomplete))
    stopped = runner.stay(every)
    raise typer.Exit(130 if stopped == signal.SIGINT else 0)
