"""The report as Markdown (GitHub's flavour), for a ticket or a wiki. Captured names are plain words or a code span, never markup."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from auditor.model.audit import Audit
from auditor.model.roles import Format, Out
from auditor.report import _incidents as incidents
from auditor.report import _story as story
from auditor.report._columns import chosen
from auditor.report._records import text_rows
from auditor.report._text import clip, markdown, markdown_code
from auditor.wire.text import many

CELL = 400
LONG = 1_000
"""Longest text of an incident."""
DETAIL = 2_400
"""So long a finding's detail is reported; JSON has all of it."""
TABLE_ROWS = 1_000
"""A table of rows for people stops here; the machine-readable formats have all."""


def _words(text: object) -> str:
    return markdown(clip(str(text), CELL))


def _code(text: object) -> str:
    return markdown_code(clip(str(text), CELL))


def _grid(head: list[str], right: set[int], lines: Iterator[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "| " + " | ".join("---:" if i in right else "---" for i in range(len(head))) + " |"
    for line in lines:
        yield "| " + " | ".join(line) + " |"


def _findings(audit: Audit) -> Iterator[str]:
    yield "## Findings"
    yield ""
    groups = story.groups(audit)
    if not groups:
        yield "None."
        yield ""
    for group in groups:
        counts = f"{many(group.findings, 'finding')}, {many(group.connections, 'connection')}"
        yield f"### {group.severity.capitalize()}: {_code(group.rule)} ({counts})"
        yield ""
        for told in group.told:
            place = f" ({' or '.join(map(_code, told.paths.split(' or ')))})" if told.paths else ""
            sure = "" if told.confidence in (None, "high") else f" (confidence {_words(told.confidence)})"
            yield f"- {_code(told.id)} {_words(told.title)}{place}{sure}"
            if told.detail:
                yield f"  - seen: {markdown(clip(told.detail, DETAIL))}"
            for line in told.consequences:
                yield f"  - led to: {_words(line)}"
            if told.waived:
                yield f"  - {_words(told.waived)}"
            if told.near_miss:
                yield f"  - near miss: {_words(told.near_miss)}"
            if told.example:
                yield f"  - e.g. {_code(told.example)}"
            if told.remediation:
                yield f"  - fix: {_words(told.remediation)}"
            for line in told.commands:
                yield f"  - {markdown_code(line)}"
        if group.findings > len(group.told):
            more = f"{group.findings - len(group.told):,} more"
            yield f"- and {more}: `--format markdown --table findings` lists each, `--format json` has all"
        yield ""
        if group.remediation:
            yield f"Fix: {_words(group.remediation)}"
            yield ""


def _coverage(audit: Audit) -> Iterator[str]:
    documented, ambient, siblings = story.covered(audit)
    head = ["Row", "Source", "Destination", "Ports", "Application", "Authentication", "Seen", "Verdicts"]
    for title, rows in (
        ("Documented paths", documented),
        (f"Ambient paths seen, of the {siblings} that siblings declare", ambient),
    ):
        if rows:
            yield f"## {title}"
            yield ""
            yield from _grid(head, {0, 6}, map(_path, rows))
            yield ""


def _path(row: dict[str, Any]) -> list[str]:
    number = "" if row["row"] is None else str(row["row"])
    words = [_words(row[name]) for name in ("source", "destination", "ports", "application", "authentication")]
    told = story.seen_words(row)
    return [number, *words, f"{row['connections']:,}", "*not seen*" if told == "not seen" else told]


def _incidents(audit: Audit) -> Iterator[str]:
    """Each incident with its five answers and its steps."""
    found = incidents.incidents(audit)
    for number, (title, each) in enumerate(incidents.numbered(audit)):
        if not number:
            yield "## Incidents" if found else "## What it did"
            yield ""
        yield f"### {_words(title)}"
        yield ""
        for name, says in each.answers:
            told, command = incidents.without_command(says)
            yield f"- **{name}**: {markdown(clip(told, LONG))}{f': {markdown_code(command)}' if command else ''}"
        yield ""
        for place, step in enumerate(each.steps[: incidents.SHOWN_STEPS], 1):
            shown = incidents.frames(audit, step)
            yield f"{place}. {_words(incidents.when(step))} {markdown(clip(step.says, LONG))} ({_words(shown)}): {markdown_code(step.command)}"
        if len(each.steps) > incidents.SHOWN_STEPS:
            yield ""
            yield f"And {len(each.steps) - incidents.SHOWN_STEPS:,} more steps."
        yield ""
    if len(found) > incidents.SHOWN:
        yield f"And {len(found) - incidents.SHOWN:,} more incidents."
        yield ""


def _report(audit: Audit) -> Iterator[str]:
    head = story.heading(audit)
    yield "# Diego flow audit"
    yield ""
    if head.inferred:
        yield f"**{_words(head.inferred)}**"
        yield ""
    for line in story.warnings(audit):
        yield f"> **Warning**: {_words(line)}"
        yield ""
    yield f"**{head.verdict}**: {_words(head.says)}"
    yield ""
    yield from _incidents(audit)
    for line in () if story.complete(audit) else story.reasons(audit):
        yield f"- incomplete: {_words(line)}"
    yield f"- Connections: {story.dispositions(audit)}"
    verdicts = story.authentication(audit)
    if verdicts:
        yield f"- Authentication: {_words(verdicts)}"
    line, troubled = story.capture_lines(audit)
    yield f"- Read: {_words(line)}"
    for path, says in troubled:
        for each in says:
            yield f"  - {_code(path)}: {_words(each)}"
    yield f"- By: {_words(story.provenance(audit))}"
    for line in story.explained(audit):
        yield f"- {_words(line)}"
    yield ""
    yield from _findings(audit)
    if len(audit.coverage):
        yield from _coverage(audit)


def _table(audit: Audit, name: str) -> Iterator[str]:
    frame = getattr(audit, name)
    columns = [column.name for column in chosen(frame, name)]
    if name == "connections" and set(story.LINE) <= set(columns):
        columns = list(story.LINE)
    found = ([_words(cell) for cell in row] for row in text_rows(audit, name, columns, TABLE_ROWS))
    yield from _grid([_words(column) for column in columns], set(), found)
    if len(frame) > TABLE_ROWS:
        yield ""
        yield f"And {len(frame) - TABLE_ROWS:,} more."


def write(audit: Audit, out: Out, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """The report, or one table of it."""
    lines = list(_table(audit, table) if table else _report(audit))
    while lines and not lines[-1]:
        lines.pop()
    out.write("\n".join(lines).encode() + b"\n")


FORMAT = Format("markdown", ".md", write, tables=True)
