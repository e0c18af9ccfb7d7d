"""SARIF 2.1.0 (OASIS), for code scanning: a result a finding, anchored at the line of the policy that it breaks.

Code scanning shows a result at a place in a file, and refuses a log in which one has none: so a finding stands where its path is
declared, or, where no path is near it, at the top of the policy. Who talked to whom is in the logical locations. The fingerprint is the
finding's own, so that an alert stays one alert from audit to audit; a waived finding is a suppressed result. What the audit could not
see is a notification of the run: a log without results must not look clean because nothing was captured.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from auditor.model.audit import Audit
from auditor.model.roles import Format, Out, Severity
from auditor.report import _incidents as incidents
from auditor.report import _story as story
from auditor.report._json import encode
from auditor.report._records import records
from auditor.report._text import escape
from auditor.rules import _pages
from auditor.rules._attack import techniques

SCHEMA_URI = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
INFORMATION = "https://docs.cloudfoundry.org/concepts/diego/diego-architecture.html"

_LEVELS = {"critical": "error", "high": "error", "medium": "warning", "low": "note", "info": "note"}
_SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "3.0", "info": "0.0"}
"""``security-severity`` as code scanning sorts it: above 9.0 critical, from 7.0 high, from 4.0 medium, from 0.1 low."""

MOST_RESULTS = 25_000
"""Code scanning takes no more results of a run; the worst come first, and what was left out is said."""

MOST_CONNECTIONS = 20
"""Logical locations of a result."""

FALLBACK = ("tas-diego.yml", 1)


def write(audit: Audit, out: Out, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """The whole log. ``table``, ``color`` and ``width`` mean nothing to it."""
    pages = {page.name: page for page in map(_pages.rule_page, _pages.rules())}
    index = {name: number for number, name in enumerate(pages)}
    places = _places(audit)
    results = [_result(finding, index, places) for finding in _worst_first(audit)]
    left = len(audit.findings) - len(results)
    notes = [
        *story.reasons(audit),
        *([f"{left:,} findings are left out: a run can hold {MOST_RESULTS:,}"] if left else []),
    ]
    if str(audit.summary.get("inventory")) == "inferred":
        notes.insert(0, "Roles are inferred: no inventory was given.")
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "Diego flow auditor",
                "semanticVersion": str(audit.info.get("version")),
                "informationUri": INFORMATION,
                "rules": [_rule(page) for page in pages.values()],
            }
        },
        "automationDetails": {"id": "diego-flow-auditor/"},
        "invocations": [
            {
                "executionSuccessful": True,
                **({"properties": {"window": audit.info["window"]}} if audit.info.get("window") else {}),
                "toolExecutionNotifications": [
                    {"level": "warning", "message": {"text": _text(note)}, "descriptor": {"id": "incomplete"}}
                    for note in notes
                ]
                + [
                    {"level": "warning", "message": {"text": _text(says)}, "descriptor": {"id": "warning"}}
                    for says in story.warnings(audit)
                ],
            }
        ],
        "originalUriBaseIds": {"POLICIES": {"description": {"text": "Where the policies of the audit lie."}}},
        "columnKind": "unicodeCodePoints",
        "results": results,
        "properties": {
            "auditor": {"schema": "auditor.report/1", "summary": audit.summary, "incidents": incidents.records(audit)}
        },
    }
    out.write(encode({"$schema": SCHEMA_URI, "version": "2.1.0", "runs": [run]}) + b"\n")


def _worst_first(audit: Audit) -> Iterator[dict[str, Any]]:
    found = [finding for chunk in records(audit, "findings") for finding in chunk]
    found.sort(key=lambda finding: -Severity[finding["severity"].upper()])  # stable: the report's order within each
    yield from found[:MOST_RESULTS]


def _rule(page: Any) -> dict[str, Any]:
    name = "Auditor" + "".join(word.capitalize() for word in page.name.split("-"))
    text = "\n\n".join(f"{title}: {says}" for title, says in page.sections)
    return {
        "id": page.name,
        "name": name,
        "shortDescription": {"text": f"{page.summary[:1].upper()}{page.summary[1:]}"},
        "fullDescription": {"text": dict(page.sections)["Why it matters"]},
        "help": {"text": text, "markdown": page.as_markdown()},
        "defaultConfiguration": {"level": _LEVELS[page.severity]},
        "properties": {
            "tags": ["security", "network", *(f"external/attack/{each.id}" for each in techniques(page.name))],
            "precision": "high",
            "security-severity": _SCORES[page.severity],
        },
    }


def _places(audit: Audit) -> dict[str, tuple[str, int]]:
    """File and line of each path that coverage lists, where the audit knows it."""
    if "origin" not in audit.coverage:
        return {}
    return {
        str(path): (str(file), int(line))
        for path, (file, line) in zip(audit.coverage["path"].tolist(), audit.coverage["origin"].tolist(), strict=True)
    }


def _uri(file: str) -> str:
    """A relative reference: an absolute file name says too much, and code scanning wants paths inside a repository."""
    name = re.sub(r"[^A-Za-z0-9._/-]", "_", file.replace("\\", "/")).lstrip("/")
    return name if "/" in name else f"policies/{name}"


def _result(finding: dict[str, Any], index: dict[str, int], places: dict[str, tuple[str, int]]) -> dict[str, Any]:
    top = next(iter(places.values()), FALLBACK)[0]
    file, line = places.get(str(finding["path"]), (top, 1))
    ids = list(finding["connections"])
    logical = [
        {"name": str(each), "fullyQualifiedName": f"connection/{each}", "kind": "resource"}
        for each in ids[:MOST_CONNECTIONS]
    ]
    says = [finding["title"], finding["detail"], finding["remediation"]]
    made: dict[str, Any] = {
        "ruleId": finding["rule"],
        "ruleIndex": index[finding["rule"]],
        "level": _LEVELS[finding["severity"]],
        "message": {"text": _text("\n".join(str(each) for each in says if each))},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _uri(file), "uriBaseId": "POLICIES"},
                    "region": {"startLine": max(line, 1)},
                },
                **({"logicalLocations": logical} if logical else {}),
            }
        ],
        "partialFingerprints": {"auditorFinding/v1": str(finding["fingerprint"])},
        "occurrenceCount": max(int(finding["count"] or 0), 1),
        "properties": {
            "severity": finding["severity"],
            "confidence": finding["confidence"],
            "path": finding["path"],
            "findingId": finding["id"],
            "firstSeen": finding["first_seen"],
            "lastSeen": finding["last_seen"],
            "evidence": finding["evidence"],
        },
    }
    if finding["status"] in ("new", "continuing"):
        made["baselineState"] = "new" if finding["status"] == "new" else "unchanged"
    if finding["waived"]:
        waiver = finding["waived"]
        words = f"{waiver.get('reason')} ({', '.join(filter(None, (waiver.get('owner'), waiver.get('ticket'))))}, until {waiver.get('until')})"
        made["suppressions"] = [{"kind": "external", "status": "accepted", "justification": _text(words)}]
    return made


def _text(text: str) -> str:
    """A message: links and placeholders of SARIF (sections 3.11.5 and 3.11.6) taken as they are written, controls escaped."""
    shown = "\n".join(escape(line) for line in text.split("\n"))
    return shown.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace("{", "{{").replace("}", "}}")


FORMAT = Format("sarif", ".sarif", write)
