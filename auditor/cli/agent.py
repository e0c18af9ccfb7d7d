"""``auditor agent``: captures on a VM and sends connections and evidence to a collector."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from auditor.cli import _options as options
from auditor.cli import complain
from auditor.errors import ConfigError
from auditor.wire.text import escape

if TYPE_CHECKING:
    from auditor.agents.agent import AgentFeed
    from auditor.agents.config import AgentConfig
    from auditor.capture.ring import Ring
    from auditor.jobs.log import Log

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

LAST_SECONDS = 20.0
"""So long the last window may take to be delivered when the agent is stopped; it stays in the spool otherwise."""


@app.command()
def agent(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="Configuration (TOML), as in docs/agents.md.")
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="The source is a file: read it to its end, deliver everything, and stop."),
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the configuration and the files it names.")
    ] = False,
    make_certificates: Annotated[
        Path | None,
        typer.Option(
            "--make-certificates",
            metavar="DIR",
            help="Make a CA in this folder (or use the one there), and a certificate for each --for.",
            show_default=False,
        ),
    ] = None,
    for_: Annotated[
        list[str] | None,
        typer.Option(
            "--for",
            metavar="NAME",
            help="With --make-certificates: an agent, the collector, or somebody who may fetch packets; repeatable.",
            show_default=False,
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Follow packets on this VM, and send connections and evidence (no packets, no secrets) to auditor collect, over mutual TLS.

    Windows wait on disk until the collector has them. Ctrl-C or SIGTERM ends the window and delivers it. Exit status: 0; 2 where the agent could
    not start, or its source gave nothing; 3 where --once could not deliver everything.
    """
    if make_certificates is not None:
        _make(make_certificates, for_ or [])
        return
    if config is None:
        raise ConfigError(
            "CONFIG", "is missing", hint="auditor agent agent.toml, or --make-certificates DIR --for NAME"
        )
    from auditor.agents.config import load_agent
    from auditor.agents.transport import address_of, context
    from auditor.jobs.log import Log

    told = load_agent(config)
    log = Log(json=told.log.format == "json", quiet=quiet)
    tls = context(told.tls.ca, told.tls.certificate, told.tls.key, server=False)
    address_of(told.collector.address, 0)
    if check:
        print(f"{escape(str(config))}: everything is in order")
        return
    raise typer.Exit(_run(told, log, tls, once=once))


def _make(folder: Path, names: Sequence[str]) -> None:
    from auditor.agents.certificates import CA_KEY, make

    if not names:
        raise ConfigError("--for", "no name is given", hint="--for collector --for diego_cell-0 --for operator")
    for place in make(folder, names, datetime.now(UTC)):
        print(f"{escape(str(place))}: ca.pem, cert.pem, key.pem")
    complain(f"{folder / CA_KEY} signs new certificates: keep it where no agent runs")


def _run(config: AgentConfig, log: Log, tls: Any, *, once: bool) -> int:
    from auditor.agents.agent import Agent, Sender
    from auditor.agents.packets import PacketServer
    from auditor.agents.spool import Spool
    from auditor.agents.transport import COLLECTOR_PORT, address_of, context
    from auditor.capture.ring import Ring
    from auditor.cli._machine import kernel_cache

    notice = kernel_cache().notice
    if notice is not None:
        log.say("kernels", notice)
    spool = Spool(Path(config.spool.folder), config.spool.size)
    ring = Ring(Path(config.ring.folder), config.ring.size) if config.ring is not None else None
    address = address_of(config.collector.address, COLLECTOR_PORT)
    feed, close = _feed(config, log, ring, address, once=once)
    agent = Agent(
        config.name,
        feed,
        spool,
        config.window,
        time.time_ns,
        log.say,
        once=once,
        connections=config.capture.connections,
    )
    name = config.collector.name or address[0]
    sender = Sender(config.name, spool, address, name, tls, config.window, time.time_ns, log.say)
    server = None
    if config.ring is not None and config.ring.listen is not None:
        own = context(config.tls.ca, config.tls.certificate, config.tls.key, server=True)
        server = PacketServer(Path(config.ring.folder), config.ring.listen, own, config.ring.readers, log.say)
        server.start()
        log.say(
            "packets", f"packets are given on port {server.port} to {', '.join(config.ring.readers)}", port=server.port
        )

    def stop(_number: int, _frame: Any) -> None:
        if agent.stopped.is_set():
            raise KeyboardInterrupt
        agent.stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    sending = threading.Thread(target=sender.run, name="sender", daemon=True)
    sending.start()
    try:
        agent.run()
        sender.until_empty.set()
        sending.join(None if once and not agent.stopped.is_set() else LAST_SECONDS)
    finally:
        sender.stop()
        if server is not None:
            server.stop()
        close()
    left, size = spool.waiting
    log.say("stopped", f"{sender.delivered} windows delivered; {left} ({size} bytes) wait in the spool", waiting=left)
    return 3 if once and left else 0


def _feed(
    config: AgentConfig, log: Log, ring: Ring | None, address: tuple[str, int], *, once: bool
) -> tuple[AgentFeed, Any]:
    """The source, and how what it started is ended."""
    from auditor.agents.agent import AgentFeed
    from auditor.capture import live as capture
    from auditor.jobs.live import Own
    from auditor.model.limits import Limits

    wanted = config.capture
    place = capture.place_of(wanted.source)
    tool = capture.check_rights(place, wanted.tool) if place.local else None
    starter: Any = None
    command = None
    if place.endless:
        without = _without(config, address)
        expression = f"({wanted.filter}) and {without}" if wanted.filter else without
        command = capture.command_for(place, capture.CaptureOptions(expression, wanted.snaplen), tool)
        starter = capture.DirectStarter([command])
        log.say("capture", f"left out: the agent's own connections ({without})")

    def opened() -> Any:
        if once and place.kind == capture.FILE:
            return capture.Stream(place.text, None, os.open(place.path, os.O_RDONLY))
        return capture.open_stream(place, starter, 0, command)

    own = Own()
    own.add(capture.watched_through(os.environ))
    feed = AgentFeed(
        place,
        opened,
        window_ns=config.window,
        by_packets=once,
        limits=Limits(connections=wanted.connections),
        tell=lambda says: log.say("capture", says),
        clock=time.time_ns,
        ring=ring.writer(config.name) if ring is not None else None,
        link_type=wanted.linktype,
        tool=tool.name if tool is not None else "",
        own=own,
    )
    return feed, (starter.close if starter is not None else lambda: None)


def _without(config: AgentConfig, address: tuple[str, int]) -> str:
    """The filter expression that leaves the agent's own connections out."""
    import socket

    from auditor.agents.transport import AGENT_PORT, address_of

    try:
        hosts = sorted(
            {str(each[4][0]).partition("%")[0] for each in socket.getaddrinfo(*address, type=socket.SOCK_STREAM)}
        )
    except OSError as error:
        raise ConfigError(
            "collector.address", f"{address[0]}: {error.strerror or error}", hint="name its address"
        ) from None
    parts = [f"not (tcp port {address[1]} and host {host})" for host in hosts]
    if config.ring is not None and config.ring.listen is not None:
        parts.append(f"not (tcp port {address_of(config.ring.listen, AGENT_PORT)[1]})")
    return " and ".join(parts)
