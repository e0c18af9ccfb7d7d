"""The report for a terminal: the summary line, what is wrong with the inputs, the findings, then every documented path, seen or not.

Readable at 80 columns, but for commands, which are never broken, so that they can be copied; colour only where asked for, and never the only marker of anything.
"""

from __future__ import annotations

import io
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from auditor.model.audit import Audit
from auditor.model.columns import TABLES
from auditor.model.roles import Format, Out
from auditor.report import _incidents as incidents
from auditor.report import _story as story
from auditor.report._columns import chosen
from auditor.report._lines import CELL, connection_lines, plain_lines, record_lines, safe
from auditor.report._text import clip, escape
from auditor.wire.text import many

_STYLE = {"critical": "bold red", "high": "red", "medium": "yellow", "low": "cyan", "info": "dim"}
_MARK = {"critical": "!!", "high": "! ", "medium": "* ", "low": "- ", "info": "  "}

PLAIN_ROWS = 1_000
"""A table of rows for people stops here."""


DETAIL = 2_400
"""So long a finding's detail is reported; JSON has all of it."""


def _say(console: Console, text: str, *, style: str = "", indent: int = 0, hang: int = 0, most: int = CELL) -> None:
    """A paragraph of at most ``most`` characters, whose further lines start ``hang`` columns deeper."""
    room = max(console.width - indent - hang, 20)
    for number, line in enumerate(Text(clip(escape(text), most)).wrap(console, room)):
        shift = " " * (indent + (hang if number else 0))
        console.print(Text(shift).append(line.plain.rstrip(), style=style or None), soft_wrap=True)


def _command(console: Console, text: str, *, style: str = "", indent: int = 0) -> None:
    """A command whole, in one line however long: what is copied from a report must run."""
    console.print(Text(" " * indent).append(escape(text), style=style or None), soft_wrap=True)


def _findings(console: Console, audit: Audit) -> None:
    console.print()
    _say(console, "Findings", style="bold")
    groups = story.groups(audit)
    if not groups:
        _say(console, "none", indent=2)
    for group in groups:
        counts = f"{many(group.findings, 'finding')}, {many(group.connections, 'connection')}"
        _say(
            console,
            f"{_MARK[group.severity]} {group.severity.upper()} {group.rule}: {counts}",
            style=_STYLE[group.severity],
        )
        for told in group.told:
            place = f" [{told.paths}]" if told.paths else ""
            sure = "" if told.confidence in (None, "high") else f" (confidence {told.confidence})"
            _say(console, f"- {told.id} {told.title}{place}{sure}", indent=3, hang=2)
            if told.detail:
                _say(console, f"seen: {told.detail}", indent=5, hang=2, most=DETAIL)
            for line in told.consequences:
                _say(console, f"led to: {line}", indent=5, hang=2)
            if told.waived:
                _say(console, told.waived, indent=5, hang=2)
            if told.near_miss:
                _say(console, f"near miss: {told.near_miss}", indent=5, hang=2)
            if told.example:
                _say(console, f"e.g. {told.example}", indent=5, hang=2)
            if told.remediation:
                _say(console, f"fix: {told.remediation}", indent=5, hang=2)
            for line in told.commands:
                _command(console, line, indent=5)
        if group.findings > len(group.told):
            more = (
                f"- and {group.findings - len(group.told):,} more: --table findings lists each, --format json has all"
            )
            _say(console, more, indent=3, hang=2)
        if group.remediation:
            _say(console, f"fix: {group.remediation}", indent=3, hang=2)


def _coverage(console: Console, audit: Audit) -> None:
    documented, ambient, siblings = story.covered(audit)
    seen = sum(bool(row["connections"]) for row in documented)
    tried = sum(bool(row["attempts"]) and not row["connections"] for row in documented)
    silent = len(documented) - seen - tried
    failing = f", {tried} attempted without success" if tried else ""
    console.print()
    _say(
        console,
        f"Documented paths: {seen} of {len(documented)} seen{failing}, {silent} not seen (which does not mean not used)",
        style="bold",
    )
    console.print(_paths(documented))
    if ambient:
        console.print()
        _say(console, f"Ambient paths: {len(ambient)} of the {siblings} that siblings declare were seen", style="bold")
        console.print(_paths(ambient))


def _paths(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_edge=False, header_style="bold")
    table.add_column("row", justify="right")
    table.add_column("source", min_width=16, overflow="fold")
    table.add_column("destination", min_width=16, overflow="fold")
    table.add_column("ports", min_width=10, overflow="fold")
    table.add_column("seen", justify="right")
    table.add_column("verdicts", min_width=15, no_wrap=True)
    for row in rows:
        seen = row["connections"]
        number = "-" if row["row"] is None else str(row["row"])
        cells = [number, row["source"], row["destination"], row["ports"], f"{seen:,}" if seen else "-"]
        # One verdict per line: cut or folded, a count would be lost or stand apart from its word.
        words = Text("\n".join(map(safe, story.seen_words(row).split(", "))))
        table.add_row(*(Text(safe(cell)) for cell in cells), words, style="" if seen or row["attempts"] else "dim")
    return table


def _report(console: Console, audit: Audit) -> None:
    head = story.heading(audit)
    if head.inferred:
        _say(console, head.inferred, style="bold yellow")
    for line in story.warnings(audit):
        _say(console, f"WARNING: {line}", style="bold yellow", hang=2)
    _say(console, f"{head.verdict}: {head.says}", style="bold green" if head.good else "bold red")
    for line in () if story.complete(audit) else story.reasons(audit):
        _say(console, f"incomplete: {line}", indent=2, hang=2)
    for severity, title, answers in incidents.head(audit):
        _say(console, title, style=_STYLE[severity], hang=2)
        for name, answer in answers:
            shown, command = incidents.without_command(answer)
            _say(console, f"{name}: {shown}", indent=2, hang=2)
            if command:
                _command(console, command, indent=4)
    _say(console, f"Connections: {story.dispositions(audit)}", hang=2)
    verdicts = story.authentication(audit)
    if verdicts:
        _say(console, f"Authentication: {verdicts}", hang=2)
    line, troubled = story.capture_lines(audit)
    _say(console, f"Read: {line}", hang=2)
    for path, says in troubled:
        for each in says:
            _say(console, f"{clip(escape(path), 120)}: {each}", style="yellow", indent=2, hang=2)
    _say(console, f"By: {story.provenance(audit)}", hang=2)
    for each in story.explained(audit):
        _say(console, each, hang=2)
    _incidents(console, audit)
    _findings(console, audit)
    if len(audit.coverage):
        _coverage(console, audit)


def _incidents(console: Console, audit: Audit) -> None:
    """What each actor did, in order of time."""
    found = incidents.incidents(audit)
    for title, each in incidents.numbered(audit):
        console.print()
        _say(console, f"{title} ({each.id})" if each.accused else title, style="bold", hang=2)
        for step in each.steps[: incidents.SHOWN_STEPS]:
            _say(console, f"{incidents.when(step)}  {step.says}", indent=2, hang=4)
            _say(console, incidents.frames(audit, step), style="dim", indent=6, hang=2)
            _command(console, step.command, style="dim", indent=6)
        if len(each.steps) > incidents.SHOWN_STEPS:
            _say(
                console, f"and {len(each.steps) - incidents.SHOWN_STEPS:,} more steps (--format json has all)", indent=2
            )
        _say(console, f"findings {', '.join(each.findings) or 'none'}; all of it:", indent=2, hang=2)
        _command(console, each.command, indent=4)
    if len(found) > incidents.SHOWN:
        _say(console, f"and {len(found) - incidents.SHOWN:,} more incidents (--format json has all)")


def _plain(console: Console, audit: Audit, name: str) -> None:
    """One table: connections a line each; others, whose columns are too many for lines, as paragraphs; columns that somebody chose as wide as they are."""
    frame = getattr(audit, name)
    columns = [column.name for column in chosen(frame, name)]
    whole = len(columns) == len(TABLES[name])
    if name == "connections" and set(story.LINE) < set(columns):
        lines = connection_lines(audit, PLAIN_ROWS, console.width)
    elif whole:
        lines = record_lines(audit, name, columns, PLAIN_ROWS, console.width)
    else:
        lines = plain_lines(audit, name, columns, PLAIN_ROWS)
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    if len(frame) > PLAIN_ROWS:
        console.print(Text(f"and {len(frame) - PLAIN_ROWS:,} more (--format csv has all)"), soft_wrap=True)


def write(audit: Audit, out: Out, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """The report, or one table of it."""
    text = io.StringIO()
    console = Console(
        file=text,
        width=max(width, 40),
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        legacy_windows=False,
        markup=False,
        highlight=False,
        emoji=False,
        _environ={},
    )
    if table == "coverage":
        _coverage(console, audit)
    elif table:
        _plain(console, audit, table)
    else:
        _report(console, audit)
    lines = (line.rstrip() for line in text.getvalue().split("\n"))
    out.write("\n".join(lines).rstrip("\n").encode() + b"\n")


FORMAT = Format("table", ".txt", write, tables=True)
