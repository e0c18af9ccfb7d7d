"""JUnit XML: a test case for each documented path, so that a pipeline shows what passed, too.

A path fails where a finding that counts (``--fail-on``) is on it, and is skipped where the capture never shows it: a path not seen is no
proof. A waived finding fails nothing and is in the output of its case, with its owner. Findings on no documented path are a suite of their own, one case per rule. The last suite says whether the audit was
done whole; where it was not, its case is an error, so that a clean result of an insufficient capture is not green.
"""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree import ElementTree as ET

from auditor.model.audit import Audit
from auditor.model.roles import Format, Out, Severity
from auditor.policy.times import OUTSIDE
from auditor.report import _story as story
from auditor.report._pairs import Record, findings
from auditor.report._records import records
from auditor.report._text import escape
from auditor.rules import _pages
from auditor.wire.text import many


def _xml(text: object) -> str:
    """Without what XML 1.0 (section 2.2) does not allow; line feeds stay."""
    lines = (escape(line) for line in str(text).split("\n"))
    return "\n".join("".join(c for c in line if c not in "\ufffe\uffff") for line in lines)


def _case(suite: ET.Element, group: str, name: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", {"classname": f"auditor.{group}", "name": _xml(name), "time": "0"})


def _fail(case: ET.Element, kind: str, message: str, type_: str, text: str) -> None:
    ET.SubElement(case, kind, {"message": _xml(message), "type": type_}).text = _xml(text)


def _told(found: Iterable[Record]) -> str:
    return "\n\n".join(
        "\n".join(
            str(each)
            for each in (
                f"{finding['severity'].upper()} {finding['rule']}: {finding['title']}",
                finding["detail"],
                f"Fix: {finding['remediation']}" if finding["remediation"] else "",
                f"{many(int(finding['count'] or 0), 'connection')}, the first {finding['connections'][0]}"
                if finding["connections"]
                else "",
                f"Fingerprint: {finding['fingerprint']}",
            )
            if each
        )
        for finding in found
    )


def _say(case: ET.Element, says: str, waived: Iterable[Record]) -> None:
    """The output of a case: a sentence, and its waived findings."""
    lines = [says] if says else []
    for finding in waived:
        held = finding["waived"]
        lines.append(
            f"Waived until {held.get('until')} by {held.get('owner')} ({': '.join(filter(None, (held.get('ticket'), held.get('reason'))))}): "
            f"{finding['severity'].upper()} {finding['rule']}: {finding['title']}; fingerprint {finding['fingerprint']}"
        )
    if lines:
        ET.SubElement(case, "system-out").text = _xml("\n".join(lines))


def _suite(root: ET.Element, name: str) -> ET.Element:
    return ET.SubElement(root, "testsuite", {"name": name})


def _count(suite: ET.Element) -> None:
    for key, tag in (
        ("tests", "testcase"),
        ("failures", "testcase/failure"),
        ("errors", "testcase/error"),
        ("skipped", "testcase/skipped"),
    ):
        suite.set(key, str(len(suite.findall(tag))))
    suite.set("time", "0")


def write(audit: Audit, out: Out, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """The whole document. ``table``, ``color`` and ``width`` mean nothing to it."""
    least = story.level(audit)
    by_path: dict[str, list[Record]] = {}
    elsewhere: list[Record] = []
    waived: dict[str, list[Record]] = {}
    for finding, connection in findings(audit):
        # The path of an undeclared connection is the nearest one, which is not to blame.
        here = finding["path"] and connection is not None and finding["path"] in (connection.get("paths") or ())
        if finding["waived"]:
            waived.setdefault(str(finding["path"] if here else finding["rule"]), []).append(finding)
        elif Severity[finding["severity"].upper()] < least:
            continue
        elif here:
            by_path.setdefault(str(finding["path"]), []).append(finding)
        else:
            elsewhere.append(finding)
    root = ET.Element("testsuites", {"name": "Diego flow auditor"})

    covered = [row for chunk in records(audit, "coverage") for row in chunk]
    for title, ambient in (("documented paths", False), ("ambient paths", True)):
        rows = [row for row in covered if (row.get("disposition") == "ambient") is ambient]
        if ambient:  # there are many, and most are silent in most captures
            rows = [row for row in rows if row["connections"] or row["attempts"] or row["path"] in by_path]
        if not rows:
            continue
        suite = _suite(root, title)
        for row in rows:
            case = _case(suite, "path", f"{row['path']}: {row['source']} to {row['destination']}")
            found = by_path.pop(row["path"], [])
            if found:
                says = f"{many(len(found), 'finding')}: {found[0]['title']}"
                _fail(case, "failure", says, found[0]["rule"], _told(found))
            elif not row["connections"]:
                tried = many(row.get("attempts") or 0, "attempt")
                says = (
                    f"{tried}, no connection"
                    if row.get("attempts")
                    else "not seen: the captures show no connection on it"
                )
                ET.SubElement(case, "skipped", {"message": says})
            else:
                says = f"{many(row['connections'], 'connection')}: {story.verdict_words(row['verdicts'])}"
                _say(case, says, waived.pop(row["path"], []))
            _say(case, "", waived.pop(row["path"], []))
        _count(suite)

    suite = _suite(root, "everything else")
    elsewhere += [finding for left in by_path.values() for finding in left]  # on ambient paths
    rest = [finding for left in waived.values() for finding in left]
    for rule in (each.name for each in _pages.rules()):
        case = _case(suite, "rule", rule)
        found = [finding for finding in elsewhere if finding["rule"] == rule]
        if found:
            _fail(case, "failure", f"{many(len(found), 'finding')}: {found[0]['title']}", rule, _told(found))
        _say(case, "", [finding for finding in rest if finding["rule"] == rule])
    _count(suite)

    suite = _suite(root, "sufficiency")
    case = _case(suite, "capture", "the audit is complete")
    reasons = story.reasons(audit)
    if not story.complete(audit):
        _fail(case, "error", "; ".join(reasons) or "incomplete", "incomplete", "\n".join(reasons))
    doubts = story.warnings(audit)
    if doubts:
        _say(_case(suite, "inventory", "inventory and policy"), "\n".join(f"Warning: {each}" for each in doubts), ())
    _count(suite)
    if story.window(audit):
        properties = ET.Element("properties")
        ET.SubElement(properties, "property", {"name": "window", "value": f"{story.window(audit)} only; {OUTSIDE}"})
        suite.insert(0, properties)

    for key in ("tests", "failures", "errors", "skipped"):
        root.set(key, str(sum(int(each.get(key, "0")) for each in root)))
    root.set("time", "0")
    ET.indent(root)
    out.write(ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


FORMAT = Format("junit", ".xml", write)
