"""A report in a notebook: the first line, the findings, and which documented paths were seen.

Plain HTML without style or script of its own: a notebook has both. Captured names are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape as markup

from auditor.incidents.again import candidates
from auditor.model.audit import Audit
from auditor.report import _story as story
from auditor.report._text import clip, escape

MOST = 50
"""Findings that are shown."""
CELL = 300


def notebook_html(audit: Audit) -> str:
    """Summary, findings, coverage."""
    return "".join(_parts(audit))


def _text(value: object) -> str:
    return markup(clip(escape(str(value)), CELL))


def _parts(audit: Audit) -> Iterator[str]:
    head = story.heading(audit)
    if head.inferred:
        yield f"<p><b>{_text(head.inferred)}</b></p>"
    yield f"<p><b>{_text(head.verdict)}</b>: {_text(head.says)}</p>"
    for line in () if story.complete(audit) else story.reasons(audit):
        yield f"<p>incomplete: {_text(line)}</p>"
    yield f"<p>Connections: {_text(story.dispositions(audit))}</p>"
    found = [each for _, _, group in story.by_news(audit) for each in group]
    yield from _table(
        f"Findings ({len(found):,})",
        ("severity", "rule", "finding", "what", "path", "connections"),
        (_finding(each) for each in found[:MOST]),
    )
    if len(found) > MOST:
        yield f"<p>and {len(found) - MOST:,} more: report.findings</p>"
    if len(audit.coverage):
        documented, _, _ = story.covered(audit)
        yield from _table(
            f"Documented paths ({sum(bool(each['connections']) for each in documented)} of {len(documented)} seen)",
            ("path", "source", "destination", "ports", "seen", "verdicts"),
            (
                [
                    row["path"],
                    row["source"],
                    row["destination"],
                    row["ports"],
                    row["connections"],
                    story.seen_words(row),
                ]
                for row in documented
            ),
        )


def _finding(each: dict[str, object]) -> list[object]:
    path = " or ".join(candidates(each, None))
    return [each["severity"], each["rule"], each["id"], each["title"], path, each["count"]]


def _table(title: str, names: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    yield f"<details open><summary>{_text(title)}</summary><table><thead><tr>"
    yield "".join(f"<th>{_text(name)}</th>" for name in names)
    yield "</tr></thead><tbody>"
    for row in rows:
        yield f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>"
    yield "</tbody></table></details>"
