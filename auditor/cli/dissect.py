"""``auditor dissect``: the protocol tree of one connection with masked credential fields, or a comparison of all connections with tshark."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from auditor.cli import _options as options
from auditor.cli import complain
from auditor.cli._progress import meter
from auditor.errors import ConfigError

if TYPE_CHECKING:
    from auditor.api import Report
    from auditor.tshark.dissect import Flow

app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)

FORMATS = ("text", "json")
_SHORTEST_ID = 6


@app.command()
def dissect(
    captures: options.Captures,
    connection: Annotated[
        str | None,
        typer.Option(
            "--connection", metavar="ID", help="The connection's id, or its first characters.", show_default=False
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Instead: compare our fields of all connections with tshark's.")
    ] = False,
    format: Annotated[str, typer.Option("--format", "-f", metavar="|".join(FORMATS), help="Output format.")] = "text",  # noqa: A002
    keylog: options.Keylog = None,
    limit: Annotated[str, typer.Option("--limit", metavar="N", help="Show at most this many frames.")] = "200",
    timeout: Annotated[str, typer.Option("--timeout", metavar="SECONDS", help="Time limit for each capture.")] = "120",
    linktype: options.Linktype = None,
    quiet: options.Quiet = False,
    progress: options.Progress = "auto",
) -> None:
    """The full protocol tree of one connection, as tshark reads it; credentials and payload are masked.

    Exit status: 0, 1 where --compare finds a difference without a known cause, 2 for no such connection, no tshark or wrong
    arguments, 3 where a capture was damaged.
    """
    options.choice("--format", format, FORMATS)
    most = _at_least_one("--limit", limit, 1_000_000)
    seconds = _at_least_one("--timeout", timeout, 86_400)
    link = options.number("--linktype", linktype, 65_535)
    from auditor.tshark import decrypt
    from auditor.tshark import dissect as tree

    tree.check()
    if (connection is None) == (not compare):
        raise ConfigError("--connection", "name one connection, or --compare", hint="auditor dissect -h")
    if compare and keylog is not None:
        raise ConfigError("--keylog", "--compare reads the packets without keys", hint="leave --keylog out")
    if keylog is not None:
        decrypt.check(keylog)
    with meter(progress, quiet=quiet) as tell:
        from auditor import api

        report = api.connections(captures, linktype=link, progress=tell)
        tell.done()
    if connection is None:
        _compare(report, format, float(seconds))
    row = _find(report.audit.connections, connection)
    flow = _flow(row)
    told = tree.dissect(_where(report.audit.captures, flow), flow, keylog=keylog, limit=most, seconds=float(seconds))
    if format == "json":
        sys.stdout.write(tree.as_json(told, {"connection": str(row["id"])}) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in tree.as_text(told))
    for problem in told.problems:
        complain(problem)
    if told.truncated and not quiet:
        complain(f"{len(told.frames)} frames are shown, more exist (--limit)")
    raise typer.Exit(3 if told.problems else 0)


def _compare(report: Report, form: str, seconds: float) -> NoReturn:
    """Compare with tshark."""
    from auditor.tshark import compare as beside

    table, told = report.audit.connections, beside.Agreement()
    for index, path in enumerate(report.audit.captures["path"]):
        if not Path(path).is_file():
            raise ConfigError(
                str(path),
                "is not a file; tshark needs one, because it reads a capture twice",
                hint="save it to a file first",
            )
        told.add(beside.compare(Path(path), beside.ours_of(table[table["capture"] == index]), seconds=seconds))
    sys.stdout.writelines(f"{line}\n" for line in ([beside.as_json(told)] if form == "json" else beside.as_lines(told)))
    for problem in told.problems:
        complain(problem)
    raise typer.Exit(1 if told.unexplained else 3 if told.problems else 0)


def _at_least_one(option: str, given: str, most: int) -> int:
    found = options.number(option, given, most)
    if not found:
        raise ConfigError(option, f"{given!r} is not such a number", hint=f"a whole number from 1 to {most}")
    return found


def _find(table: Any, wanted: str) -> dict[str, Any]:
    """The row of the connection with this id, or the only one whose id begins so. Raises ConfigError."""
    ids = table["id"].astype(str)
    found = table[ids == wanted]
    if not len(found) and len(wanted) >= _SHORTEST_ID:
        found = table[ids.str.startswith(wanted)]
    if len(found) != 1:
        says = (
            f"{len(found)} connections have an id that begins like this"
            if len(found)
            else f"no connection with the id {json.dumps(wanted)}"
        )
        raise ConfigError(
            "--connection",
            says,
            hint="list the ids with auditor connections --fields id,originator_ip,responder_ip,responder_port",
        )
    return dict(found.iloc[0])


def _flow(row: dict[str, Any]) -> Flow:
    import pandas as pd

    from auditor.tshark.dissect import Flow

    ports = [None if pd.isna(row[name]) else int(row[name]) for name in ("originator_port", "responder_port")]
    first = int(row["start"])
    return Flow(
        transport=str(row["transport"]),
        orig_h=str(row["originator_ip"]),
        orig_p=ports[0],
        resp_h=str(row["responder_ip"]),
        resp_p=ports[1],
        first_ns=first,
        last_ns=first + round(float(row["duration"]) * 1e9),
        application=str(row["application"]),
    )


def _where(captures: Any, flow: Flow) -> list[Path]:
    """The captures that cover the time of the connection, earliest first. Raises ConfigError where one is not a file."""
    import pandas as pd

    running = []
    for path, first, last in zip(captures["path"], captures["first_packet"], captures["last_packet"], strict=True):
        if pd.isna(first) or int(first) > flow.last_ns or int(last) < flow.first_ns:
            continue
        if not Path(path).is_file():
            raise ConfigError(
                str(path),
                "is not a file; tshark needs one, because it reads a capture twice",
                hint="save it to a file first",
            )
        running.append((int(first), Path(path)))
    return [path for _, path in sorted(running)]
