"""One cause, one finding: what a shipped policy that is not loaded would explain is reported once for that policy, not once for each pair of roles.

BOSH DNS between thirty kinds of VM is one fact, and no alarm: the line that names the policy says what to do. So findings of one rule that the same
overlay explains become one, of severity info, with all their connections.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from auditor.model.finding import Finding
from auditor.model.roles import Severity
from auditor.rules._subject import FIRST_FRAMES
from auditor.rules._words import plural, some

PAIRS_NAMED = 4
ANY = "*"
"""In the subject: which pairs of roles it is seen between is not what makes it this finding."""


def fold(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, with one for each rule and overlay in the place of those that it explains."""
    kept: list[Finding] = []
    explained: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.sibling is None:
            kept.append(finding)
        else:
            explained[finding.rule, finding.sibling].append(finding)
    return [*kept, *(_one(rule, sibling, told) for (rule, sibling), told in explained.items())]


def _one(rule: str, sibling: str, told: list[Finding]) -> Finding:
    """One finding of those that an overlay explains."""
    count = sum(finding.count for finding in told)
    pairs = sorted(
        {
            f"{finding.subject[1]} to {finding.subject[2]} on {finding.subject[3]}/{finding.subject[4]}"
            for finding in told
        }
    )
    rows = tuple(sorted({row for finding in told for row in finding.rows}))
    first = told[0]
    return replace(
        first,
        severity=Severity.INFO,
        title=f"{plural(count, 'connection')} between {plural(len(pairs), 'pair')} of roles that the shipped policy {sibling} declares",
        detail=f"{some(pairs, PAIRS_NAMED)}. The shipped policy {sibling} declares them: --policy {sibling}.",
        rows=rows,
        subject=("", ANY, ANY, sibling, ""),
        path=None,
        evidence=tuple(one for finding in told[:FIRST_FRAMES] for one in finding.evidence),
        remediation=f"If the platform has what the policy {sibling} declares, audit with --policy {sibling}.",
        count=count,
    )


def told_apart(findings: list[Finding]) -> list[Finding]:
    """The findings; titles that were the same say what differs: which certificate, which end, which path."""
    alike: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, finding in enumerate(findings):
        alike[finding.rule, finding.title].append(place)
    told = list(findings)
    for places in alike.values():
        if len(places) < 2:
            continue
        subjects = [findings[place].subject for place in places]
        length = max(map(len, subjects))
        filled = [(*subject, *[""] * (length - len(subject))) for subject in subjects]
        differs = [k for k in range(length) if len({subject[k] for subject in filled}) > 1]
        for place, subject in zip(places, filled, strict=True):
            says = "; ".join(text for k in differs if (text := _part(k, subject[k])))
            if says:
                told[place] = replace(findings[place], title=f"{findings[place].title} ({says})")
    return told


_PATH, _ABOUT = 0, 5


def _part(place: int, text: str) -> str:
    """What one part of a subject is in words."""
    if place == _PATH:
        return f"path {text.replace('+', ' or ')}" if text else "no path"
    side, _, name = text.partition(" ")
    if place >= _ABOUT and side in ("client", "server"):
        return f"the {side}'s certificate{f' {name}' if name else ''}"
    return text
