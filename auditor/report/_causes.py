"""Which findings are consequences of others: where several findings of one connection have one cause, they are reported with the cause.

An expired certificate leads to a refused login; a wrong authentication method leads to a password in the clear. Nothing critical or high
is ever reported as a consequence, nor a finding on more connections than its cause, nor a new finding whose cause is known. The machine-readable formats have
every finding.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from auditor.model.roles import Severity

_CERTIFICATES = frozenset({"certificate-expired", "certificate-identity", "certificate-untrusted"})

CAUSES: dict[str, frozenset[str]] = {
    "authentication-rejected": frozenset({"authentication-downgrade", "weak-tls"}) | _CERTIFICATES,
    "cleartext-credentials": frozenset(
        {"authentication-downgrade", "plaintext", "wrong-application", "wrong-authentication-method"}
    ),
    "documented-path-failing": _CERTIFICATES,
    "unverifiable-authentication": frozenset({"capture-incomplete", "conflicting-content"}),
}
"""By rule: the rules that its findings may be consequences of."""

Row = dict[str, Any]


def cause_of(findings: Sequence[Row]) -> dict[str, str]:
    """By id of a finding: the id of its cause."""
    wanted: dict[str, list[Row]] = defaultdict(list)
    for each in findings:
        told = each["connections"] or ()
        whole = len(told) == int(each.get("count") or len(told))
        if each["rule"] in CAUSES and told and whole and _grade(each) < Severity.HIGH:
            wanted[str(told[0])].append(each)
    if not wanted:
        return {}
    found: dict[str, Row] = {}
    causing = frozenset().union(*CAUSES.values())
    for cause in findings:
        if cause["rule"] not in causing:
            continue
        held: frozenset[str] | None = None
        for name in map(str, cause["connections"] or ()):
            for each in wanted.get(name, ()):
                if not _may_lead_to(cause, each):
                    continue
                held = frozenset(map(str, cause["connections"])) if held is None else held
                if not held.issuperset(map(str, each["connections"])):
                    continue
                known = found.get(str(each["id"]))
                if known is None or _grade(cause) > _grade(known):
                    found[str(each["id"])] = cause
    return {name: str(cause["id"]) for name, cause in found.items()}


def _grade(finding: Row) -> Severity:
    return Severity[str(finding["severity"]).upper()]


def _may_lead_to(cause: Row, each: Row) -> bool:
    """Whether rules, severities, waivers and ages allow it."""
    if cause["rule"] not in CAUSES[each["rule"]] or _grade(cause) < _grade(each):
        return False
    if isinstance(cause.get("waived"), dict) != isinstance(each.get("waived"), dict):
        return False
    return not (each.get("status") == "new" and cause.get("status") == "continuing")
