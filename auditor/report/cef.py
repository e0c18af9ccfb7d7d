"""Common Event Format lines (ArcSight, version 0), one a finding: what goes behind a syslog header.

The first connection of a finding gives its addresses. Texts are escaped for a terminal first, because a syslog ends in one, and then
as CEF asks: ``\\`` and ``|`` in the header, ``\\`` and ``=`` in values.
"""

from __future__ import annotations

from auditor.model.audit import Audit
from auditor.model.roles import Format, Out
from auditor.report import _story as story
from auditor.report._pairs import Record, findings, milliseconds
from auditor.report._text import clip, escape

_SEVERITIES = {"info": 1, "low": 3, "medium": 5, "high": 8, "critical": 10}

LONGEST = {"name": 512, "msg": 1023, "externalId": 40, "reason": 1023}
"""As the CEF dictionary limits them."""

CUSTOM = 4000
"""Longest custom string."""


def _value(text: object, room: int) -> str:
    shown = clip(escape(str(text)), room)
    return shown.replace("\\", "\\\\").replace("=", "\\=")


def _header(text: object) -> str:
    return clip(escape(str(text)), LONGEST["name"]).replace("\\", "\\\\").replace("|", "\\|")


def _ends(connection: Record) -> dict[str, object]:
    fields: dict[str, object] = {}
    for end, plain, number, six in (("originator", "src", "spt", "c6a2"), ("responder", "dst", "dpt", "c6a3")):
        told = connection[end]
        address = str(told.get("ip"))
        if ":" in address:
            fields[six] = address
            fields[f"{six}Label"] = "Source IPv6 Address" if six == "c6a2" else "Destination IPv6 Address"
        else:
            fields[plain] = address
        fields[number] = told.get("port")
        fields["shost" if plain == "src" else "dhost"] = told.get("instance")
    return fields | {"proto": str(connection.get("transport")).upper(), "app": connection.get("application")}


def _line(audit: Audit, finding: Record, connection: Record | None) -> str:
    header = "|".join(
        map(_header, ("Diego flow auditor", "auditor", audit.info.get("version"), finding["rule"], finding["title"]))
    )
    waived = finding.get("waived") or {}
    fields: dict[str, object] = {
        "rt": milliseconds(finding.get("last_seen")) or None,
        "start": milliseconds(finding.get("first_seen")) or None,
        "end": milliseconds(finding.get("last_seen")) or None,
        "externalId": finding["fingerprint"],
        "cnt": max(int(finding.get("count") or 0), 1),
        **(_ends(connection) if connection else {}),
        "msg": finding.get("detail"),
    }
    custom = {
        "documentedPath": finding.get("path"),
        "confidence": finding.get("confidence"),
        "connection": connection and connection.get("id"),
        "remediation": finding.get("remediation"),
        "status": finding.get("status"),
        "waived": f"{waived.get('owner')}: {waived.get('reason')}" if waived else None,
    }
    for number, (label, value) in enumerate(custom.items(), 1):
        if value not in (None, ""):
            fields |= {f"cs{number}Label": label, f"cs{number}": value}
    if story.window(audit):
        fields |= {"flexString1Label": "window", "flexString1": f"{story.window(audit)} only"}
    shown = " ".join(
        f"{key}={_value(value, LONGEST.get(key, CUSTOM))}" for key, value in fields.items() if value not in (None, "")
    )
    return f"CEF:0|{header}|{_SEVERITIES[finding['severity']]}|{shown}"


def _warning(audit: Audit, says: str) -> str:
    """What is doubtful of the inventory or the policy."""
    header = "|".join(map(_header, ("Diego flow auditor", "auditor", audit.info.get("version"), "warning", says)))
    return f"CEF:0|{header}|{_SEVERITIES['low']}|msg={_value(says, LONGEST['msg'])}"


def write(audit: Audit, out: Out, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """One line per finding, after one for each warning. ``table``, ``color`` and ``width`` mean nothing to it."""
    for says in story.warnings(audit):
        out.write(_warning(audit, says).encode() + b"\n")
    for finding, connection in findings(audit):
        out.write(_line(audit, finding, connection).encode() + b"\n")


FORMAT = Format("cef", ".cef", write)
