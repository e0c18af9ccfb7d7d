"""The output formats of the encryption view: table, Markdown, HTML, JSON, CSV."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from auditor.model.audit import Audit
from auditor.report import _story as story
from auditor.report._columns import rfc3339
from auditor.report._encryption import WITHOUT_ROLE, view
from auditor.report._json import encode
from auditor.report._text import clip, escape, markdown, spreadsheet
from auditor.units import size
from auditor.wire.text import many

_SHOWN = 3
_WIDE = 60
MOST_VMS = 20
"""The most VMs in a text report, those with the most in the clear first."""

Rows = list[list[str]]


def _when(ns: int | None) -> str | None:
    if ns is None:
        return None
    told: str = rfc3339(np.array([ns], np.int64), np.array([False]), 6)[0].as_py()
    return told


def _dated(entry: dict[str, Any]) -> dict[str, Any]:
    times = {name: _when(entry["clear"][name]) for name in ("first_seen", "last_seen")}
    return {**entry, "clear": {**entry["clear"], **times}}


def document(audit: Audit) -> dict[str, Any]:
    """The view, with its times as text."""
    told = view(audit)
    return {**told, **{name: [_dated(each) for each in told[name]] for name in ("paths", "vms")}}


def _few(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(clip(name, _WIDE) for name in names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _lead(audit: Audit, told: dict[str, Any]) -> list[str]:
    clear, encrypted, unknown = (told["summary"][kind] for kind in ("clear", "encrypted", "unknown"))

    def words(counts: dict[str, int]) -> str:
        return (
            f"{many(counts['connections'], 'connection')} on {many(counts['paths'], 'path')}, {size(counts['bytes'])}"
        )

    lines = [f"In the clear: {words(clear)}.", f"Encrypted: {words(encrypted)}."]
    if unknown["connections"]:
        lines.append(f"Unknown (unrecognised bytes, or the middle of a stream): {words(unknown)}.")
    strangers = told["summary"][WITHOUT_ROLE]
    if strangers["connections"]:
        lines.append(
            f"Not counted, because neither end has a known role: {many(strangers['connections'], 'connection')}, "
            f"{size(strangers['bytes'])}. Name the VMs with --inventory FILE."
        )
    return [*lines, f"Read: {story.capture_lines(audit)[0]}", f"By: {story.provenance(audit)}"]


PATHS = (
    "path",
    "TLS declared",
    "in the clear",
    "bytes",
    "since",
    "until",
    "spoken",
    "credentials",
    "from",
    "to",
    "also encrypted",
)
VMS = ("VM", "in the clear", "bytes", "since", "spoken", "paths", "peers", "encrypted")


def _path_rows(told: dict[str, Any]) -> Rows:
    return [
        [
            each["path"], "yes" if each["tls_declared"] else "no", f"{each['clear']['connections']:,}", size(each["clear"]["bytes"]),
            each["clear"]["first_seen"] or "", each["clear"]["last_seen"] or "", ", ".join(each["clear"]["applications"]),
            ", ".join(each["credentials"]), _few(each["clear"]["originators"]), _few(each["clear"]["responders"]),
            f"{each['encrypted']['connections']:,}",
        ]
        for each in told["paths"]
        if each["clear"]["connections"]
    ]  # fmt: skip


def _vm_rows(told: dict[str, Any]) -> Rows:
    return [
        [
            each["instance"], f"{each['clear']['connections']:,}", size(each["clear"]["bytes"]), each["clear"]["first_seen"] or "",
            ", ".join(each["clear"]["applications"]), _few(each["clear"]["paths"]), _few(each["clear"]["peers"]),
            f"{each['encrypted']['connections']:,}",
        ]
        for each in _shown(told)
    ]  # fmt: skip


def _shown(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in told["vms"] if each["clear"]["connections"]][:MOST_VMS]


def _others(told: dict[str, Any]) -> str:
    more = sum(1 for each in told["vms"] if each["clear"]["connections"]) - MOST_VMS
    return f"and {many(more, 'VM')} more with fewer bytes (--format json has all)" if more > 0 else ""


def _as_table(audit: Audit) -> str:
    told = document(audit)
    uncounted = told["summary"][WITHOUT_ROLE]["connections"]
    out = _lead(audit, told)
    for title, rows in (("By path", _paragraphs(told["paths"], "path")), ("By VM", _paragraphs(_shown(told), "instance"))):  # fmt: skip
        out += ["", title]
        out += rows or ["  nothing unencrypted was seen" + (" of what was counted" if uncounted else "")]
    out += [f"  {_others(told)}"] if _others(told) else []
    wrapped = (textwrap.fill(escape(line), 80, subsequent_indent=" " * _hang(line), break_on_hyphens=False, break_long_words=False) for line in out)  # fmt: skip
    return "\n".join(wrapped) + "\n"


def _hang(line: str) -> int:
    return len(line) - len(line.lstrip(" ")) + 2


def _paragraphs(entries: Iterable[dict[str, Any]], key: str) -> list[str]:
    lines = []
    for each in entries:
        clear = each["clear"]
        if not clear["connections"]:
            continue
        mark = " (TLS IS DECLARED)" if each.get("tls_declared") else ""
        lines.append(f"  {each[key]}{mark}: {many(clear['connections'], 'connection')}, {size(clear['bytes'])}, {', '.join(clear['applications'])}")  # fmt: skip
        if each["credentials"]:
            lines.append(f"    credentials crossed: {', '.join(each['credentials'])}")
        if key == "path":
            lines.append(f"    from {_few(clear['originators'])}")
            lines.append(f"    to {_few(clear['responders'])}")
        else:
            lines.append(f"    on {_few(clear['paths'])}")
        also = f"; {many(each['encrypted']['connections'], 'connection')} encrypted" if each["encrypted"]["connections"] else ""  # fmt: skip
        lines.append(f"    {clear['first_seen']} to {clear['last_seen']}{also}")
    return lines


def _as_markdown(audit: Audit) -> str:
    told = document(audit)
    out = ["# What is sent unencrypted", "", *(f"- {markdown(line)}" for line in _lead(audit, told))]
    for title, head, rows in (("By path", PATHS, _path_rows(told)), ("By VM", VMS, _vm_rows(told))):
        out += ["", f"## {title}", ""]
        if not rows:
            out.append("Nothing unencrypted was seen.")
            continue
        out += ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
        out += ["| " + " | ".join(markdown(cell) for cell in row) + " |" for row in rows]
    out += ["", f"{_others(told)}."] if _others(told) else []
    return "\n".join(out) + "\n"


def _as_html(audit: Audit) -> str:
    from auditor.report import html

    told = document(audit)
    style = html.style()
    page = html.environment().get_template("encryption.html")
    rendered: str = page.render(
        style=html.trusted(style),
        style_hash=html.trusted(html.hash_source(style)),
        lead=[*_lead(audit, told), *([_others(told)] if _others(told) else [])],
        tables=[("By path", PATHS, _path_rows(told)), ("By VM", VMS, _vm_rows(told))],
    )
    return rendered + "\n"


def _as_json(audit: Audit) -> str:
    told = document(audit)
    parts = [f'"{name}":{encode(told[name]).decode()}' for name in ("schema", "audit", "summary")]
    for name in ("paths", "vms"):
        rows = ",\n".join(encode(each).decode() for each in told[name])
        parts.append(f'"{name}":[\n{rows}\n]' if rows else f'"{name}":[]')
    return "{" + ",\n".join(parts) + "}\n"


CSV_COLUMNS = (
    "path", "disposition", "source", "destination", "ports", "tls_declared", "clear_connections", "clear_bytes", "clear_first_seen",
    "clear_last_seen", "applications", "credentials", "originators", "responders", "encrypted_connections", "unknown_connections",
)  # fmt: skip


def _as_csv(audit: Audit) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for each in document(audit)["paths"]:
        clear = each["clear"]
        cells = [
            each["path"], each["disposition"], each["source"], each["destination"], each["ports"], str(each["tls_declared"]).lower(),
            clear["connections"], clear["bytes"], clear["first_seen"], clear["last_seen"], " ".join(clear["applications"]),
            ", ".join(each["credentials"]), " ".join(clear["originators"]), " ".join(clear["responders"]), each["encrypted"]["connections"],
            each["unknown"]["connections"],
        ]  # fmt: skip
        writer.writerow([spreadsheet(cell) if isinstance(cell, str) else cell for cell in cells])
    return out.getvalue()


FORMS: dict[str, Callable[[Audit], str]] = {
    "table": _as_table,
    "json": _as_json,
    "markdown": _as_markdown,
    "html": _as_html,
    "csv": _as_csv,
}
