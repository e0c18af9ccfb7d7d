"""What an audit must say of a recording, from its truth table and the rules of ``scenarios.yml``: disposition, verdict and findings of each connection."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

Truth = dict[str, str]


@dataclass(frozen=True)
class Expected:
    disposition: str
    verdict: str
    findings: frozenset[str]


def read(path: Path) -> list[Truth]:
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines, delimiter="\t"))


def _matches(wanted: Any, value: str) -> bool:
    if isinstance(wanted, list):
        return any(_matches(each, value) for each in wanted)
    text = {True: "yes", False: "no"}.get(wanted, str(wanted)) if isinstance(wanted, bool) else str(wanted)
    return value != text[1:] if text.startswith("!") else value == text


def holds(when: dict[str, Any], truth: Truth) -> bool:
    """Raises KeyError for a condition on a column that the truth does not have."""
    return all(_matches(wanted, truth[column]) for column, wanted in when.items())


def widened(truth: Truth, lab: dict[str, Any], before: dict[str, Truth], after: dict[str, Truth]) -> Truth:
    """The truth's columns, and what follows from the certificates that were shown and from the scenario before."""
    more = dict(truth)
    clear = truth["tls"] in {"1.0", "1.1", "1.2"} and truth["resumed"] == "no" and truth["captured"] == "whole"
    more["shown_in_clear"] = "yes" if clear else "no"
    facts = dict.fromkeys(("expired", "foreign", "weak", "elsewhere"), False)
    for end, shown in (("originator_vm", truth["client_showed"]), ("responder_vm", truth["server_showed"])):
        if shown in {"", "none"}:
            continue
        made = lab["certificates"][shown]
        facts["expired"] |= made.get("days", [0, 1])[1] < 0
        facts["foreign"] |= bool(lab["authorities"][made["ca"]].get("foreign"))
        facts["weak"] |= made.get("bits", 2048) < 2048 or made.get("digest") == "sha1"
        home = lab["expect"]["belongs"].get(truth[end].partition("/")[0], ["*"])
        facts["elsewhere"] |= not any(fnmatch(shown, each) for each in home)
    more |= {key: "yes" if value else "no" for key, value in facts.items()}
    first = before.get(truth["after"])
    second = after.get(truth["scenario"])
    for column, one, other in (("after_refused", first, truth), ("before_fallback", truth, second)):
        fell = (
            one and other and one["accepted"] == "no" and one["tls"] and other["accepted"] == "yes" and not other["tls"]
        )
        more[column] = "yes" if fell else "no"
    return more


def expect(truths: list[Truth], lab: dict[str, Any]) -> list[Expected]:
    """One for each row of the truth. Raises LookupError where no rule says what the verdict must be."""
    by_name = {truth["scenario"]: truth for truth in truths}
    follows = {truth["after"]: truth for truth in truths if truth["after"]}
    found = []
    for truth in truths:
        full = widened(truth, lab, by_name, follows)
        verdict = next((rule["verdict"] for rule in lab["expect"]["verdict"] if holds(rule["when"], full)), None)
        if verdict is None:
            raise LookupError(f"no rule of scenarios.yml says what the verdict on {truth['scenario']} must be")
        full["verdict"] = verdict
        findings = {rule["finding"] for rule in lab["expect"]["findings"] if holds(rule["when"], full)}
        if truth["place"] == "out_of_scope":
            disposition = "out_of_scope"
        elif truth["place"] == "cell-egress":
            disposition = "ambient"
        else:
            disposition = "documented" if truth["rows"] else "undeclared"
        found.append(Expected(disposition, verdict, frozenset(findings)))
    return found
