"""``auditor live``: audits live traffic."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, Final

import typer

from auditor.cli import _options as options
from auditor.cli import complain
from auditor.errors import ConfigError
from auditor.report._text import clip, escape
from auditor.wire.text import many

if TYPE_CHECKING:
    from auditor.capture.live import Command, Place, Starter, Tool
    from auditor.capture.ring import Ring
    from auditor.jobs.live import Feed, Session, Status, Told, Window
    from auditor.model.limits import Limits

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

REDRAW_SECONDS: Final = 0.5
AWAY_SECONDS: Final = 15.0
"""How long a local capture waits for remote ones to begin."""
CONNECTIONS: Final = 250_000
"""The most connections held at once, unless --limit sets another: a window ends early before there are more."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\Z")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?\Z", re.IGNORECASE)


def seconds(option: str, text: str | None) -> float | None:
    """``90``, ``30s``, ``5m``, ``2h``, ``1d``. Raises ConfigError."""
    if text is None:
        return None
    match = _DURATION.match(text.strip())
    found = float(match[1]) * _SECONDS[match[2] or "s"] if match else 0.0
    if not 0 < found <= 400 * 86_400:
        raise ConfigError(option, f"{text!r} is not a duration", hint="such as 30s, 5m, 2h or 1d")
    return found


def size(option: str, text: str) -> int:
    """``512MiB``, ``1GiB``, ``1G``; a bare number is bytes. Raises ConfigError."""
    match = _SIZE.match(text.strip())
    if match is None:
        raise ConfigError(option, f"{text!r} is not a size", hint="such as 512MiB or 1GiB")
    power = " KMGT".index(match[2].upper() or " ")
    return int(
        float(match[1]) * (1000 if match[2] and not match[3] and text.strip().upper().endswith("B") else 1024) ** power
    )


@app.command()
def live(
    source: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]...", help="Where to capture, as for --from.", show_default=False),
    ] = None,
    from_: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="SOURCE",
            help="An interface, ssh://[USER@]HOST[:PORT]/IFACE, bosh://DEPLOYMENT/GROUP/ID[/IFACE], - (a stream), a pipe, or a growing file; repeatable.",
            show_default=False,
        ),
    ] = None,
    policy: options.Policies = None,
    release: options.Release = None,
    inventory: options.Inventories = None,
    ca: options.Cas = None,
    scope: options.Scope = "diego",
    strict: options.Strict = False,
    linktype: options.Linktype = None,
    filter_: Annotated[
        str,
        typer.Option(
            "--filter",
            metavar="EXPR|needed|none",
            help="pcap filter of packets to capture; `auditor policy filter` prints the one that is needed.",
        ),
    ] = "none",
    snaplen: Annotated[
        int,
        typer.Option("--snaplen", metavar="BYTES", help="Snap length: capture at most this many bytes of each packet."),
    ] = 262_144,
    capture_with: Annotated[
        str | None,
        typer.Option(
            "--capture-with",
            metavar="dumpcap|tcpdump|scapy",
            help="Capture with this tool. Default: the best one that can be used.",
            show_default=False,
        ),
    ] = None,
    duration: Annotated[
        str | None, typer.Option("--duration", metavar="TIME", help="Stop after 30s, 5m, 2h, 1d.", show_default=False)
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            "--window", metavar="TIME", help="Write a report for each period of this length.", show_default=False
        ),
    ] = None,
    write_ring: Annotated[
        Path | None,
        typer.Option(
            "--write-ring",
            metavar="DIR",
            help="Keep the packets in this folder, with all content, secrets too.",
            show_default=False,
        ),
    ] = None,
    ring_size: Annotated[
        str, typer.Option("--ring-size", metavar="SIZE", help="Total size of the kept packets.")
    ] = "1GiB",
    limit: options.LimitValues = None,
    user: Annotated[
        str | None,
        typer.Option(
            "--user",
            metavar="NAME",
            help="User to switch to when started as root. Default: the user who called sudo, or nobody.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[  # noqa: A002  # the option's name
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="|".join(options.FORMATS),
            help="Default: table on a terminal, ndjson elsewhere.",
            show_default=False,
        ),
    ] = None,
    output: options.Output = None,
    table: Annotated[
        str | None,
        typer.Option("--table", metavar="|".join(options.TABLES), help="Only this table.", show_default=False),
    ] = None,
    fail_on: Annotated[
        str,
        typer.Option(
            "--fail-on", metavar="|".join(options.FAIL_ON), help="Exit 1 for findings of this severity or higher."
        ),
    ] = "medium",
    max_undecided: options.MaxUndecided = 5.0,
    allow_incomplete: options.AllowIncomplete = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    no_color: options.NoColor = False,
    progress: options.Progress = "auto",
) -> None:
    """Audit live traffic: print findings as soon as they are certain, and write a report at the end or for every --window.

    Ctrl-C (or SIGTERM) finishes the window and writes its report; a second Ctrl-C stops at once. Exit status as for audit.
    """
    names = [*(source or ()), *(from_ or ())]
    if not names:
        raise ConfigError("live", "no source is named", hint="for example auditor live eth0, or --from ssh://HOST/eth0")
    written = _written(format, output, table, window)
    options.choice("--fail-on", fail_on, options.FAIL_ON)
    options.choice("--scope", scope, ("diego", "all"))
    options.choice("--progress", progress, ("auto", "never"))
    options.percent("--max-undecided", max_undecided)
    if capture_with is not None:
        options.choice("--capture-with", capture_with, ("dumpcap", "tcpdump", "scapy"))
    if not 64 <= snaplen <= 262_144:
        raise ConfigError("--snaplen", f"{snaplen} bytes are out of range", hint="from 64 to 262144")
    from auditor.model.limits import Limits, parse_limits

    limits = parse_limits(limit or (), Limits(connections=CONNECTIONS))
    link = options.number("--linktype", linktype, 65_535)
    lasting, each = seconds("--duration", duration), seconds("--window", window)
    kept = size("--ring-size", ring_size)
    from auditor.capture import live as capture
    from auditor.capture.privileges import become, folder_for, output_for, user_for
    from auditor.report._target import may_be_replaced

    places = _distinct(capture, names)
    tools = [capture.check_rights(place, capture_with) if place.local else None for place in places]
    whom = user_for(user, os.environ) if any(place.local for place in places) else None
    for folder in (write_ring, output if each else None):
        if folder is not None:
            folder_for(folder, whom)
    judging = _Judging(policy or ["tas"], release, inventory or [], ca or [], scope, strict, fail_on, max_undecided)
    judging.load()
    expression = judging.filter(filter_)
    if not quiet:
        for warning in judging.warnings:
            complain(warning)
    commands = _commands(capture, places, tools, capture.CaptureOptions(expression, snaplen))
    with _starters(capture, places, commands, whom) as starters, contextlib.ExitStack() as stack:
        target = None
        if output is not None and not each and whom is not None:
            whole = written.name in options.FOLDERS
            if whole:
                may_be_replaced(output)
            target = stack.enter_context(output_for(output, whom, whole))
        _warm(judging, written.name, ring=write_ring is not None, rare=whom is not None, quiet=quiet)
        if whom is not None:
            become(whom)
            if not quiet:
                complain(f"privileges dropped: packets are read as {whom.name}")
        ring = _ring(write_ring, kept)
        if ring is not None and not quiet:
            complain(f"{write_ring}: the packets are kept, with any secrets in them")
        notices: deque[str] = deque()
        feeds = _feeds(places, commands, starters, tools, notices, ring, limits, link)
        session = _session(feeds, judging, notices, lasting, each, limits)
        shown = _Shown(written, session, quiet=quiet, verbose=verbose, progress=progress, no_color=no_color)
        if output is not None and not each and target is None:
            target = stack.enter_context(options.destination(written.name, output))
        reports = _live(session, shown, target)
    status = _status(reports, fail_on, max_undecided, allow_incomplete)
    if verbose:
        complain(f"{_line(session.status())}; exit status {status}")
    raise typer.Exit(status)


# Options


@dataclass(frozen=True, slots=True)
class _Written:
    """How and where reports are written."""

    name: str
    table: str | None
    output: Path | None
    windows: bool

    @property
    def streamed(self) -> bool:
        """Findings go to standard output as they become certain."""
        return self.table is None and (self.name == "ndjson" or (self.name == "table" and sys.stdout.isatty()))


def _written(format_: str | None, output: Path | None, table: str | None, window: str | None) -> _Written:
    """Raises ConfigError where the options contradict each other."""
    shown = output is None and sys.stdout is not None and sys.stdout.isatty()
    chosen = format_ or ("table" if shown else "ndjson")
    name, _ = options.written_as(chosen, output, table)
    if window is not None and output is None and name not in ("table", "ndjson", "markdown"):
        raise ConfigError(
            "--window",
            f"{name} can hold only one report",
            hint="write one file per window with --output DIR, or use --format ndjson",
        )
    if window is not None and output is not None and output.exists() and not output.is_dir():
        raise ConfigError(str(output), "is a file", hint="--window needs a folder")
    return _Written(name, table, output, window is not None)


def _distinct(capture: Any, names: Sequence[str]) -> list[Place]:
    """Each source once. Raises ConfigError."""
    found = {name: capture.place_of(name) for name in names}
    if sum(place.kind == capture.STDIN for place in found.values()) > 1:
        raise ConfigError("--from", "standard input can be read only once", hint="name - only once")
    return list(found.values())


@dataclass(slots=True)
class _Judging:
    """Policy, inventory and how to apply them."""

    policies: Sequence[str]
    release: str | None
    inventories: Sequence[str]
    cas: Sequence[str]
    scope: str
    strict: bool
    fail_on: str
    max_undecided: float
    policy: Any = None
    inventory: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def load(self) -> None:
        """Raises ConfigError."""
        from auditor.policy.inventory import load_inventory
        from auditor.policy.loader import load_policy

        self.policy = load_policy(list(self.policies), release=self.release)
        if self.inventories:
            self.inventory = load_inventory(list(self.inventories), self.policy)
            self.warnings += [*self.inventory.warnings, *self.inventory.conflicts]
        else:
            self.warnings.append(
                "no inventory: roles are inferred, and findings are reported only when a window ends; add --inventory FILE to report them at once"
            )
        self.options = {
            "scope": self.scope, "strict": self.strict, "release": self.release, "fail_on": self.fail_on,
            "max_undecided": self.max_undecided, "linktype": None,
        }  # fmt: skip
        if self.cas:
            from auditor.policy.certificates import load_cas

            self.options["ca"] = load_cas(list(self.cas), self.policy)

    def filter(self, asked: str) -> str:
        """The capture filter."""
        if asked == "none":
            return ""
        if asked != "needed":
            return asked
        from auditor.policy.capture_filter import filter_for

        return filter_for(self.policy, self.inventory).expression


def _commands(capture: Any, places: Sequence[Place], tools: Sequence[Tool | None], how: Any) -> list[Command | None]:
    return [
        capture.command_for(place, how, tool) if place.endless else None
        for place, tool in zip(places, tools, strict=True)
    ]


@contextmanager
def _starters(
    capture: Any, places: Sequence[Place], commands: Sequence[Command | None], whom: Any
) -> Iterator[list[tuple[Starter, int] | None]]:
    """The process that starts the command of each source, and its number there. Local capture may need privileges that the rest drops."""
    here = [k for k, place in enumerate(places) if place.local]
    away = [k for k, command in enumerate(commands) if command is not None and k not in here]
    kept = capture.KeptStarter if whom is not None else capture.DirectStarter
    groups = [(kept, here), (capture.DirectStarter, away)]
    found: list[tuple[Starter, int] | None] = [None] * len(places)
    made: list[Starter] = []
    try:
        for make, which in groups:
            if which:
                starter = make([commands[k] for k in which])
                made.append(starter)
                for number, k in enumerate(which):
                    found[k] = starter, number
        yield found
    finally:
        for starter in made:
            starter.close()


def _warm(judging: _Judging, name: str, *, ring: bool, rare: bool, quiet: bool) -> None:
    """Load (or compile) all that judging needs before the first packet, while files can still be read."""
    from auditor.cli._machine import kernel_cache

    notice = kernel_cache().notice
    if notice is not None and not quiet:
        complain(notice)
    from auditor.api import find_format, sample
    from auditor.errors import InputError
    from auditor.jobs.live import warm_up

    shown = None
    if rare:
        with contextlib.suppress(InputError):
            shown = str(sample("diego")[0][0])
    audit = warm_up(judging.policy, judging.inventory, judging.options, ring=ring, sample=shown)
    if rare:
        _write_once(find_format(name), audit)


def _write_once(form: Any, audit: Any) -> None:
    """Write a report to a null device: this loads all that writing needs."""
    with tempfile.TemporaryDirectory() as folder:
        form.write(audit, Path(folder) if form.folder else io.BytesIO(), table=None, color=False, width=80)


def _ring(folder: Path | None, size_bytes: int) -> Ring | None:
    if folder is None:
        return None
    from auditor.capture.ring import Ring

    return Ring(folder, size_bytes)


def _feeds(
    places: Sequence[Place],
    commands: Sequence[Command | None],
    starters: Sequence[tuple[Starter, int] | None],
    tools: Sequence[Tool | None],
    notices: deque[str],
    ring: Ring | None,
    limits: Limits,
    link: int | None,
) -> list[Feed]:
    from auditor.capture import live as capture
    from auditor.jobs.live import Feed, Own

    feeds: list[Feed] = []
    own = Own()
    own.add(capture.watched_through(os.environ))

    def opener(k: int) -> Any:
        starter, number = starters[k] or (None, 0)
        if not places[k].local:
            return lambda: capture.open_stream(places[k], starter, number, commands[k])

        def open_here() -> Any:
            # The traffic of our own ssh must be left out here: so ssh starts first.
            away = [feed for feed in feeds if feed.place.endless and not feed.place.local]
            end = time.monotonic() + AWAY_SECONDS
            while time.monotonic() < end and not all(feed.begun for feed in away):
                time.sleep(0.05)
            apart = [*capture.watched_through(os.environ), *(each for feed in away for each in feed.connections())]
            feeds[k].leaves_out(apart, here=True)
            return capture.open_stream(places[k], starter, number, commands[k], apart)

        return open_here

    for k, (place, tool, command) in enumerate(zip(places, tools, commands, strict=True)):
        feeds.append(
            Feed(
                place,
                opener(k),
                index=k,
                limits=limits,
                tell=notices.append,
                clock=time.time_ns,
                ring=ring.writer(f"{k}-{place.text}") if ring is not None else None,
                link_type=link,
                tool=tool.name if tool is not None else command.tool if command is not None else "",
                own=own,
                alone=len(places) == 1,
            )
        )
    return feeds


def _session(
    feeds: list[Feed], judging: _Judging, notices: deque[str], lasting: float | None, each: float | None, limits: Limits
) -> Session:
    from auditor.jobs.live import NS, Session, judge_with

    return Session(
        feeds,
        judge_with(judging.policy, judging.inventory, judging.options),
        time.time_ns,
        limits=limits,
        window_ns=None if each is None else int(each * NS),
        duration_ns=None if lasting is None else int(lasting * NS),
        early=judging.inventory is not None,
        notices=notices,
    )


# Running


@dataclass(slots=True)
class _Outcome:
    """What a window's report amounts to; the report itself is not kept."""

    failing: int
    incomplete: list[str]
    quiet: bool = False
    """Only connections are missing: there was no traffic in that window."""


def _status(outcomes: Sequence[_Outcome], fail_on: str, max_undecided: float, allow_incomplete: bool) -> int:
    del fail_on, max_undecided
    if any(each.failing for each in outcomes):
        return 1
    # A window without traffic does not make a session incomplete if other windows had some; a session without any traffic is incomplete.
    lacking = [each for each in outcomes if each.incomplete and not (each.quiet and len(outcomes) > 1)]
    return 3 if lacking and not allow_incomplete else 0


def _live(session: Session, shown: _Shown, target: Any) -> list[_Outcome]:
    """Run the session and print its events. Raises KeyboardInterrupt on the second Ctrl-C."""
    from auditor.jobs.live import Notice, Told

    outcomes: dict[tuple[bool, tuple[str, ...], bool], _Outcome] = {}
    with _signals(session), shown:
        for event in session.events():
            if isinstance(event, Notice):
                shown.say(event.says)
            elif isinstance(event, Told):
                shown.tell(event)
            else:
                outcome = shown.report(event, target if event.last else None)
                outcomes[outcome.failing > 0, tuple(outcome.incomplete[:1]), outcome.quiet] = outcome
    return list(outcomes.values())


@contextmanager
def _signals(session: Session) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM finishes the window, the second Ctrl-C ends everything."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def finish(number: int, frame: Any) -> None:
        if session.stopped.is_set() and number == signal.SIGINT:
            # Only the exception is raised: locks of the interrupted line are released as it passes; the end of the session kills what runs.
            again = before[signal.SIGINT]
            signal.signal(signal.SIGINT, again)
            if callable(again):
                again(number, frame)
            raise KeyboardInterrupt
        if not session.stopped.is_set():
            session.notices.append("finishing the window; Ctrl-C again stops at once")
        session.stop()

    for number in before:
        signal.signal(number, finish)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _line(status: Status) -> str:
    """Progress, in one line."""
    words = [
        many(status.packets, "packet"),
        many(status.connections, "connection"),
        f"{status.dropped:,} dropped",
        many(status.findings, "finding"),
    ]
    if status.running < status.sources:
        words.append(f"{status.running} of {status.sources} sources running")
    return ", ".join(words)


class _Shown:
    """What the user sees while it runs: findings on standard output, notices on standard error, on a terminal one line that is overwritten."""

    def __init__(
        self, written: _Written, session: Session, *, quiet: bool, verbose: bool, progress: str, no_color: bool
    ) -> None:
        self._written, self._session = written, session
        self._quiet, self._verbose, self._no_color = quiet, verbose, no_color
        self._color = options.colors(no_color)
        self._line: Any = None
        terminal = sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None
        self._terminal = terminal if progress == "auto" and not quiet else None

    def __enter__(self) -> _Shown:
        if self._terminal is not None:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._terminal, markup=False, highlight=False, emoji=False)
            self._line = Live(
                console=console,
                get_renderable=self._status,
                refresh_per_second=1 / REDRAW_SECONDS,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._line.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._line is not None:
            self._line.stop()
            self._line = None

    def _status(self) -> Any:
        from rich.text import Text

        state = "finishing" if self._session.stopped.is_set() else "live"
        return Text(f"{state}: {_line(self._session.status())}", no_wrap=True, overflow="ellipsis")

    @contextmanager
    def _above(self) -> Iterator[None]:
        """Context without the line, to print something else."""
        shown, self._line = self._line, None
        if shown is not None:
            shown.stop()
        try:
            yield
        finally:
            if shown is not None and self._terminal is not None:
                self.__enter__()

    def say(self, says: str) -> None:
        """A notice."""
        if not self._quiet:
            with self._above():
                complain(says)

    def tell(self, told: Told) -> None:
        """Findings, as they become certain."""
        if not self._written.streamed:
            self._tell_aside(told)
            return
        with self._above():
            if self._written.name == "ndjson":
                self._write_lines(told)
            else:
                for says in _lines(told):
                    print(says)
            sys.stdout.flush()

    def _tell_aside(self, told: Told) -> None:
        """Standard output is for the report alone."""
        if not self._quiet:
            with self._above():
                for says in _lines(told):
                    complain(says)

    def _write_lines(self, told: Told) -> None:
        from auditor.api import find_format

        out = sys.stdout.buffer
        find_format("ndjson").write(told.audit, out, table="findings", color=False, width=80)
        out.flush()

    def report(self, window: Window, target: IO[bytes] | Path | None) -> _Outcome:
        """Write a window's report to its place."""
        from auditor.api import Report

        report = Report(window.audit)
        written = self._written
        live = window.audit.info["options"]
        with self._above():
            if target is not None:
                options.write(report, written.name, target, written.table, no_color=True, output=written.output)
            elif written.output is not None:
                place = self._place(window)
                with options.destination(written.name, place) as own:
                    options.write(report, written.name, own, written.table, no_color=True, output=place)
                if not self._quiet:
                    complain(
                        f"{place}: {many(len(report.audit.connections), 'connection')}, {many(len(report.audit.findings), 'finding')}"
                    )
            else:
                with options.destination(written.name, None) as out:
                    options.write(report, written.name, out, written.table, no_color=self._no_color, output=None)
        if window.last and not self._quiet:
            for each in live["live"]["sources"]:
                complain(_losses(each))
        reasons = report.incomplete(float(live.get("max_undecided") or 5.0))
        if not self._quiet and written.name != "table":
            for reason in reasons:
                complain(f"incomplete: {reason}")
        quiet = not len(report.audit.connections) and len(reasons) == 1
        return _Outcome(report.failing(live.get("fail_on") or "medium"), reasons, quiet)

    def _place(self, window: Window) -> Path:
        """The file of a window: in the folder, or beside the requested file where a full table ended the window early."""
        output = self._written.output
        assert output is not None  # noqa: S101
        began = window.audit.info["started"].astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        if self._written.windows:
            from auditor.api import find_format

            suffix = find_format(self._written.name).suffix
            output.mkdir(parents=True, exist_ok=True)
            return output / f"{window.number:06d}-{began}{suffix}"
        return output.with_name(f"{output.stem}.{window.number:06d}{output.suffix}")


def _losses(source: dict[str, Any]) -> str:
    """Packets of a source, and where packets were lost, in one line."""
    dropped = source["dropped"]
    kernel = "unknown in the kernel" if dropped["kernel"] is None else f"{dropped['kernel']:,} by the kernel"
    says = f"{many(source['packets'], 'packet')}; dropped: {kernel}, {dropped['pipe']:,} in the pipe, {dropped['table']:,} at the connection table"
    if not source["packets"]:
        says += "; check the interface and the filter"
    return f"{source['source']}: {says}"


def _lines(told: Told) -> Iterator[str]:
    """Each finding as one line of text."""
    moment = datetime.now(UTC).strftime("%H:%M:%S")
    findings = told.audit.findings
    for severity, rule, title in zip(findings["severity"], findings["rule"], findings["title"], strict=True):
        yield clip(escape(f"{moment} {str(severity).upper():8} {rule}: {title}"), 400)
