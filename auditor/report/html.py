"""The report as one HTML file: opens offline, holds everything it shows, useful without scripts, printable and easy to share.

Its content comes from untrusted captures, so three things hold for any name:

- Every value passes ``auditor.wire.text.escape`` (nothing invisible, nothing that turns the reading direction) and Jinja2's autoescape, both by
  the environment, so that no template can forget it; the script writes text nodes only.
- The page's own Content-Security-Policy allows one script and one style, by their hashes, and nothing else: no other source, no
  inline handler, no request to anywhere.
- The data inside is base64, which cannot end the element it stands in.

The same audit gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from auditor.model.audit import Audit
from auditor.model.columns import TABLES
from auditor.model.roles import Format, Out
from auditor.report import _embedded as embedded
from auditor.report import _incidents as told
from auditor.report import _overview as overview
from auditor.report import _story as story
from auditor.report._columns import int_parts
from auditor.report._drawings import clock
from auditor.report._json import encode
from auditor.report._places import NOISE, is_stranger, places
from auditor.wire.text import escape

STATIC_ROWS = 200
SHOWN_CERTIFICATES = 1_000
"""Connections in the page as HTML, for readers without scripts and for print."""

_CODE = re.compile(r"`([^`]*)`")


def _shown(value: Any) -> Any:
    """Every value on its way into the page: visible text, or markup that this package made."""
    if value is None or isinstance(value, Markup | jinja2.Undefined):
        return value if value is not None else ""
    return escape(str(value))


def trusted(text: str) -> Markup:
    """Text written by this package, with nothing from captures in it."""
    return Markup(text)  # noqa: S704


def _prose(text: str) -> Markup:
    """A rule page's text: what stands between backticks is code."""
    parts = _CODE.split(escape(text[:1].upper() + text[1:]))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )


def _short(name: str, most: int) -> str:
    """A place's name in a drawing; of a long address both ends are shown, which distinguish it."""
    if len(name) <= most:
        return name
    return f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}" if is_stranger(name) else f"{name[: most - 1]}…"


def _words(text: Any) -> str:
    return str(text or "").replace("_", " ")


def _resource(name: str) -> str:
    return files("auditor.report").joinpath("_html", name).read_text(encoding="utf-8")


def hash_source(text: str) -> str:
    """The source expression that allows exactly this inline script or style (CSP 3, section 2.3.1)."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def environment() -> jinja2.Environment:
    """Templates of the page: strict about names, escaping everything."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(_resource),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        prose=_prose,
        words=_words,
        n=lambda count: f"{count:,}",
        px=lambda x: f"{x:.1f}".removesuffix(".0"),
        short=_short,
    )
    made.tests["stranger"] = is_stranger
    return made


def _rule_pages(names: list[str]) -> dict[str, Any]:
    from auditor.rules import _pages

    known = {rule.name: rule for rule in _pages.rules()} if names else {}
    return {name: _pages.rule_page(known[name]) for name in names if name in known}


def _techniques(names: list[str]) -> dict[str, Any]:
    from auditor.rules._attack import techniques

    return {name: techniques(name) for name in names}


def _facts(audit: Audit) -> dict[str, Any]:
    """When and from what."""
    ends: dict[str, list[int]] = {"first_packet": [], "last_packet": []}
    for name, found in ends.items():
        if len(audit.captures):
            values, missing = int_parts(audit.captures[name])
            found.extend(values[~missing].tolist())
    first, last = ends.values()
    line = story.capture_lines(audit)[0].split(", ")
    if not (first and last):
        return {"line": ", ".join(line), "span": ""}
    return {
        "line": ", ".join(line[:3]),
        "span": overview.span_words(min(first), max(last)),
        "first": clock(min(first), 3, date=True),
        "last": clock(max(last), 3, date=True),
    }


def _context(audit: Audit, table: str | None, review: str | None) -> dict[str, Any]:
    table_of = {"findings": "findings", "coverage": "paths", "connections": "connections", "captures": "captures"}
    sections = (
        {table_of[table]} if table else {"summary", "paths", "map", "timeline", "findings", "connections", "captures"}
    )
    context: dict[str, Any] = {"sections": sections, "info": audit.info, "story": story, "overview": overview,
               "captures": list(story.rows(audit.captures)), "review": review}  # fmt: skip
    if "summary" in sections:
        context |= {
            "answer": overview.answer(audit),
            "facts": _facts(audit),
            "severities": story.severity_counts(audit),
            "summary": audit.summary,
            "verdicts": {word: int((audit.summary.get("verdicts") or {}).get(word, 0)) for word in overview.VERDICTS},
            "explained": story.explained(audit),
            "warnings": story.warnings(audit),
        }
    if "summary" in sections:
        context |= {
            "incidents": [each for _, each in told.numbered(audit)],
            "incident_count": len(told.incidents(audit)),
            "told": told,
            "audit": audit,
            "certificates": audit.certificates,
            "shown_certificates": SHOWN_CERTIFICATES,
            "certificate_text": _certificate_text,
        }
    if sections & {"summary", "findings"}:
        context["groups"] = overview.groups(audit)
        context["found"] = len(audit.findings)
        context["heads"] = {f"{group.rule} {group.severity}" for group in context["groups"]}
        context["techniques"] = _techniques([group.rule for group in context["groups"]])
        context["pages"] = _rule_pages([group.rule for group in context["groups"]])
        context["level"] = story.level(audit).word
    if "paths" in sections:
        context["paths"] = overview.path_rows(audit)
    if "map" in sections:
        context |= {"map": overview.drawn_map(audit), "noise": NOISE}
    if "timeline" in sections:
        context["timeline"] = overview.drawn_timeline(audit)
    if "connections" in sections:
        context |= _connections(audit)
    return context


def _certificate_text(each: Mapping[str, Any]) -> str:
    """All that a certificate is searched by."""
    named = (
        "sha256",
        "common_name",
        "subject",
        "issuer",
        "issuer_name",
        "not_before",
        "not_after",
        "key_sha256",
        "refused",
    )
    words = [str(each[name]) for name in named if each.get(name)]
    words += map(str, each.get("names") or ())
    for host in each["shown_by"]:
        words += [str(host["ip"]), str(host["as"]), str(host["instance"] or ""), *map(str, host["roles"])]
    return " ".join(filter(None, dict.fromkeys(words)))


def _connections(audit: Audit) -> dict[str, Any]:
    positions = embedded.shown_rows(audit.connections)
    table = audit.connections
    held = table.assign(**{f"{end}_place": names for end, names in places(table).items()}).iloc[positions]
    first = list(range(len(held)))
    if "findings" in held:
        worth = [len(each) == 0 for each in held["findings"].tolist()]
        first.sort(key=worth.__getitem__)
    static = sorted(first[:STATIC_ROWS])
    rules = {}
    if len(audit.findings):
        columns = (audit.findings[name] for name in ("id", "rule", "severity", "title"))
        rules = {str(id_): [str(rule), str(word), str(title)] for id_, rule, word, title in zip(*columns, strict=True)}
    data = embedded.columns(held)
    head = embedded.head(data, held, rules) | {
        "chunk": embedded.CHUNK,
        "captures": [str(path) for path in audit.captures["path"]],
    }
    return {
        "total": len(audit.connections),
        "held": len(held),
        "static": list(overview.lines(audit, positions[static].tolist()).values()),
        "head": trusted(base64.b64encode(encode(head)).decode()),
        "columns": (
            (name, {part: trusted(text) for part, text in each.items()}) for name, each in embedded.packed(data)
        ),  # base64
        "details": map(trusted, embedded.details(audit, positions)),  # base64
    }


def style() -> str:
    """The page's style."""
    return _resource("style.css")


def script() -> str:
    """The page's script."""
    return _resource("page.js")


def render(audit: Audit, *, table: str | None = None, review: str | None = None) -> Iterator[bytes]:
    """The page in pieces; ``review``: where `auditor review` shows this audit, for links to packets and waivers."""
    if table is not None and table not in TABLES:
        raise ValueError(table)
    context = _context(audit, table, review) | {
        "style": trusted(style()),
        "script": trusted(script()),
        "style_hash": trusted(hash_source(style())),
        "script_hash": trusted(hash_source(script())),
    }
    stream = environment().get_template("report.html").stream(context)
    stream.enable_buffering(500)
    for piece in stream:
        yield piece.encode()


def write(audit: Audit, out: Out, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """The page, or a page with one table's part of it."""
    for piece in render(audit, table=table):
        out.write(piece)


FORMAT = Format("html", ".html", write, tables=True)
