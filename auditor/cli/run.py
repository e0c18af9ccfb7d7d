"""``auditor run``: one scheduled pass over a spool of captures; ``--watch`` stays."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditor.cli import _options as options
from auditor.errors import AuditorError, ConfigError
from auditor.wire.text import many

if TYPE_CHECKING:
    from auditor.jobs.config import RunConfig
    from auditor.jobs.log import Log

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def run(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="A TOML file; docs/deploy/auditor.toml is an example.")
    ],
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and react to new files.")] = False,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=1, help="With --watch: look at least this often.")
    ] = 60.0,
    all_: Annotated[
        bool, typer.Option("--all", help="Exit as auditor audit does: for all findings, not only new ones.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Read the configuration and what it names, and do nothing else.")
    ] = False,
    status: Annotated[
        bool,
        typer.Option(
            "--status", help="Show what waits for delivery, which sources are silent or incomplete, and what was lost."
        ),
    ] = False,
    withdraw: Annotated[
        str | None,
        typer.Option(
            "--withdraw", metavar="ERRAND|all", help="Stop trying to deliver this errand, or all.", show_default=False
        ),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option("--log-format", metavar="text|json", help="Instead of the configuration's.", show_default=False),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """One pass: what is finished and new in the spool is audited, kept and told.

    Exit status: 0 nothing new, and everything is complete; 1 findings at or above fail_on that are new since the last pass, or a waiver that has
    expired; 2 it could not be done; 3 something is incomplete that was complete before. Added to that: 4 while the clock, or the dates of captures, are not
    believed; 8 while something waits to be delivered. --all: as auditor audit.
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
    from auditor.report._text import escape

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

        lacks = checked(told, os.environ, config)
        for says in lacks:
            log.say("check", says, "warning")
        if lacks:
            print(f"{config}: can be read; a pass would miss {many(len(lacks), 'thing')}")
            raise typer.Exit(3)
        print(f"{config}: everything is in order")
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
