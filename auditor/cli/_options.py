"""Options shared by several commands, and what follows from them: where a report is written and in which form."""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from auditor.errors import ConfigError, did_you_mean
from auditor.model.limits import Limits, parse_limits
from auditor.wire.text import escape, many

if TYPE_CHECKING:
    from auditor.jobs.log import Log

FORMATS = (
    "table",
    "json",
    "ndjson",
    "csv",
    "parquet",
    "markdown",
    "html",
    "sarif",
    "junit",
    "ocsf",
    "ecs",
    "cef",
    "zeek",
)
FOLDERS = ("parquet", "zeek")
"""Formats that are written as a folder of files."""
WHOLE = ("html", "sarif", "junit", "cef")
"""Formats that hold the whole audit, not one table."""
TABLES = ("connections", "findings", "coverage", "captures")
FAIL_ON = ("critical", "high", "medium", "low", "info", "never")

Captures = Annotated[
    list[str],
    typer.Argument(
        metavar="CAPTURE", help="Files, folders, globs, - for standard input, sample:NAME.", show_default=False
    ),
]
Policies = Annotated[
    list[str] | None,
    typer.Option(
        "--policy",
        metavar="NAME|FILE",
        help="Policy; repeatable, later ones add paths. Default: tas (the Diego table and all other shipped policies).",
        show_default=False,
    ),
]
Release = Annotated[
    str | None,
    typer.Option("--release", metavar="VERSION", help="Release of the platform, such as 2.10.", show_default=False),
]
Inventories = Annotated[
    list[str] | None,
    typer.Option(
        "--inventory",
        metavar="FILE",
        help="Inventory (addresses and roles of VMs): FILE or DEPLOYMENT=FILE; repeatable. Default: roles are inferred from the traffic.",
        show_default=False,
    ),
]
Cas = Annotated[
    list[str] | None,
    typer.Option(
        "--ca",
        metavar="[ROLE=]FILE",
        help="CA certificates (PEM) that the certificates in use must chain to; with a role, only for that service; repeatable.",
        show_default=False,
    ),
]
Keylog = Annotated[
    Path | None,
    typer.Option(
        "--keylog",
        metavar="FILE",
        help="TLS keys (NSS key log); read by tshark, never copied.",
        show_default=False,
    ),
]
Waivers = Annotated[
    list[str] | None,
    typer.Option(
        "--waivers",
        metavar="FILE",
        help="Waivers (accepted findings, with owner and end date); repeatable.",
        show_default=False,
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="FILE",
        help="Keep this audit in this store, and compare it with earlier ones.",
        show_default=False,
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        "--baseline",
        metavar="AUDIT",
        help="An earlier report or stored audit: findings that are not in it are new.",
        show_default=False,
    ),
]
NewOnly = Annotated[bool, typer.Option("--new-only", help="Only findings that are new.")]
Scope = Annotated[
    str, typer.Option("--scope", metavar="diego|all", help="all: judge connections without a Diego VM, too.")
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Report unverifiable authentication as a finding of medium severity.")
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Connections seen at this time or later: RFC 3339, or 2h for two hours ago.",
        show_default=False,
    ),
]
Host = Annotated[
    str | None,
    typer.Option(
        "--host",
        metavar="ADDRESS",
        help="Report only about one address or VM: what it did, in order of time.",
        show_default=False,
    ),
]
Until = Annotated[
    str | None,
    typer.Option(
        "--until",
        metavar="TIME",
        help="Connections that began at this time or earlier; a date means the end of that day (UTC).",
        show_default=False,
    ),
]
Hash = Annotated[bool, typer.Option("--hash", help="Compute the SHA-256 of captures.")]
Format = Annotated[str, typer.Option("--format", "-f", metavar="|".join(FORMATS), help="Output format.")]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE|DIR",
        help="Write there instead of standard output; replaced only when complete.",
        show_default=False,
    ),
]
Linktype = Annotated[
    str | None,
    typer.Option(
        "--linktype",
        metavar="NUMBER",
        help="Read every capture as this link type (LINKTYPE_ number).",
        show_default=False,
    ),
]
LimitValues = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        metavar="NAME=VALUE",
        help="Set a limit on memory or time; repeatable. `auditor doctor` lists names and defaults.",
        show_default=False,
    ),
]
Follow = Annotated[
    bool,
    typer.Option(
        "--follow",
        help="The capture is still being written: read on until Ctrl-C, until it is rotated, or for --limit follow_idle_seconds.",
    ),
]
MaxUndecided = Annotated[
    float,
    typer.Option(
        "--max-undecided", metavar="PERCENT", help="The audit is incomplete with more undecided connections than this."
    ),
]
AllowIncomplete = Annotated[bool, typer.Option("--allow-incomplete", help="Exit 0 instead of 3 when incomplete.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors on standard error.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Statistics on standard error.")]
NoColor = Annotated[bool, typer.Option("--no-color", help="No colour; NO_COLOR in the environment does the same.")]
Workers = Annotated[
    int,
    typer.Option("--workers", metavar="N", help="Number of processes that read captures, one capture each."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Dask scheduler, such as tls://10.0.0.5:8786, whose workers read the captures.",
        show_default=False,
    ),
]
Progress = Annotated[
    str, typer.Option("--progress", metavar="auto|never", help="Progress on standard error, if it is a terminal.")
]


def choice(option: str, given: str, allowed: tuple[str, ...]) -> str:
    """``given``, where it is allowed. Raises ConfigError."""
    if given not in allowed:
        known = f"one of {', '.join(allowed)}"
        close = did_you_mean(given, allowed, "")
        raise ConfigError(option, f"unknown value {given!r}", hint=f"{close} {known}".strip())
    return given


def limits(given: list[str] | None) -> Limits:
    """The limits of ``--limit NAME=VALUE``. Raises ConfigError."""
    return parse_limits(given or ())


@contextmanager
def following(wanted: bool) -> Iterator[Callable[[], bool] | None]:
    """While a capture is followed, the first Ctrl-C or SIGTERM ends the reading, and the audit goes on; the second ends the program."""
    if not wanted:
        yield None
        return
    asked: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _frame: Any) -> None:
        asked.append(number)
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def percent(option: str, given: float) -> float:
    """``given``, where it is a percentage. Raises ConfigError."""
    if not (math.isfinite(given) and 0 <= given <= 100):
        raise ConfigError(option, f"{given:g} is not a percentage", hint="a number from 0 to 100")
    return given


def number(option: str, given: str | None, most: int) -> int | None:
    """``given`` as a whole number up to ``most``. Raises ConfigError."""
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and int(given) <= most):
        raise ConfigError(option, f"{given!r} is not such a number", hint=f"a whole number from 0 to {most}")
    return int(given)


def written_as(name: str, output: Path | None, table: str | None) -> tuple[str, str | None]:
    """Format and table to write. Raises ConfigError where they cannot be combined."""
    choice("--format", name, FORMATS)
    if table is not None:
        choice("--table", table, TABLES)
    if name in FOLDERS and output is None:
        raise ConfigError("--format", f"{name} is a folder of files", hint="add --output DIR")
    if name in WHOLE and table is not None:
        raise ConfigError("--table", f"{name} has no tables", hint="leave --table out, or take another --format")
    if table is None and (name == "csv" or (name == "ndjson" and output is None)):
        table = "connections"
    return name, table


def colors(no_color: bool) -> bool:
    """Whether standard output is a terminal that wants colour."""
    if no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return sys.stdout is not None and sys.stdout.isatty()


@contextmanager
def destination(name: str, output: Path | None) -> Iterator[IO[bytes] | Path]:
    """Where the report is written; checked before the audit begins. Raises ConfigError."""
    if output is not None:
        from auditor.report._target import file_target, folder_target

        with (folder_target if name in FOLDERS else file_target)(output) as target:
            yield target
        return
    if sys.stdout is None:
        raise ConfigError("standard output", "is closed", hint="name a file with --output")
    sys.stdout.flush()
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


def width() -> int:
    """Width of the terminal on standard output; 0: it is not a terminal."""
    return shutil.get_terminal_size((80, 24)).columns if sys.stdout is not None and sys.stdout.isatty() else 0


def write(
    report: Any, name: str, target: IO[bytes] | Path, table: str | None, *, no_color: bool, output: Path | None
) -> None:
    """Write the report to its place, with the width and colours that the place has. Raises ConfigError where writing fails."""
    from auditor.api import find_format

    shown = output is None and sys.stdout.isatty()
    width = min(shutil.get_terminal_size((80, 24)).columns, 140) if shown else 80
    color = output is None and colors(no_color)
    with writing(target, output):
        find_format(name).write(report.audit, target, table=table, color=color, width=width)


@contextmanager
def writing(target: IO[bytes] | Path, output: Path | None) -> Iterator[None]:
    """Context in which something is written there. Raises ConfigError where writing fails."""
    try:
        yield
        if not isinstance(target, Path):
            target.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        place = "standard output" if output is None else str(output)
        raise ConfigError(place, f"cannot be written: {error.strerror or error}") from error


def report_check(config: Path, lacks: Iterable[str], log: Log) -> None:
    """What ``--check`` found: says that all is in order, or ends with status 3."""
    told = list(lacks)
    for says in told:
        log.say("check", says, "warning")
    if told:
        print(f"{escape(str(config))}: valid, but {many(len(told), 'problem')} would affect a pass")
        raise typer.Exit(3)
    print(f"{escape(str(config))}: everything is in order")
