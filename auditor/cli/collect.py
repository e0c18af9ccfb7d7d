"""``auditor collect``: takes what agents send, and audits it together."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auditor.cli import _options as options

if TYPE_CHECKING:
    from auditor.agents.collector import Collector

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def collect(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="Configuration (TOML), as in docs/agents.md.")],
    once: Annotated[
        bool,
        typer.Option("--once", help="Stop when a first window of all agents is judged, or --wait is over for it."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the configuration and the files it names.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Take windows from agents over mutual TLS, and judge those of one time together: one store, reports, notifications and metrics, as auditor run has.

    Agents that are silent, or dropped packets, make the audit incomplete and are named. auditor history, auditor review and auditor slice --from
    agent://HOST work on the store. Ctrl-C or SIGTERM ends after the pass that is at work. Exit status: 0; 2 where it could not start.
    """
    from auditor.agents.config import load_collector, passes_of
    from auditor.agents.transport import context
    from auditor.jobs.log import Log

    told = load_collector(config)
    log = Log(json=told.log.format == "json", quiet=quiet)
    if check:
        from auditor.jobs.check import check as checked

        context(told.tls.ca, told.tls.certificate, told.tls.key, server=True)
        for name in told.collect.agents:
            (Path(told.collect.folder) / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        options.report_check(config, checked(passes_of(told), os.environ, config), log)
        return
    from auditor.agents.collector import Collector, Seldom

    seldom = Seldom(json=log.json, quiet=quiet)
    asyncio.run(_collect(Collector(told, seldom, time.time_ns, os.environ), once=once))


async def _collect(collector: Collector, *, once: bool) -> None:
    """Run it, with metrics, until a signal comes."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, collector.stop)
    server = None
    listen = collector.config.metrics.listen
    if listen is not None:
        from auditor.jobs.watch import serve

        server, port = serve(listen, collector.runner.collect)
        collector.log.say("metrics", f"metrics on port {port}", port=port)
    try:
        await collector.run(once=once)
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()
