"""What of an audit counts: failing findings, and what was incomplete, as words that stay the same from pass to pass."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from auditor.model.audit import Audit
from auditor.model.losses import DAMAGED, loss
from auditor.model.roles import Severity


def failing(audit: Audit, fail_on: str, *, only_new: bool = False) -> int:
    """Unwaived findings at or above this severity."""
    findings = audit.findings
    if fail_on == "never" or not len(findings):
        return 0
    counted = [severity.word for severity in Severity if severity >= Severity[fail_on.upper()]]
    mask = findings["severity"].isin(counted) & findings["waived"].isna()
    if only_new:
        mask &= findings["status"] == "new"
    return int(mask.sum())


@dataclass(frozen=True, slots=True)
class Loss:
    """One reason for which an audit is incomplete."""

    path: str | None
    """Of the capture that it is about; None: the audit as a whole."""
    key: str
    """The same from audit to audit, whatever the numbers in it."""
    says: str
    """``word: explanation``."""


_HIDDEN = {
    "ipsec": ("inside IPsec", "{:,} connections are fully encrypted; their content is unknown"),
    "contradicting_packets": (
        "contradicting packets",
        "{:,} undecided connections have packets that contradict each other",
    ),
    "cut_packets": ("cut packets", "{:,} undecided connections hold packets that were cut short"),
}
"""Reasons of which no share is small enough."""


def incomplete(audit: Audit, max_undecided: float) -> list[str]:
    """Why it is incomplete, each as ``word: explanation``."""
    return [each.says for each in losses(audit, max_undecided)]


def losses(audit: Audit, max_undecided: float) -> list[Loss]:
    """As ``incomplete``, each with what it is about."""
    found = []
    captures = zip(*(audit.captures[name].tolist() for name in ("path", "problems", "dropped")), strict=True)
    for path, problems, dropped in captures:
        for each in problems or ():
            kind = str(each.get("kind"))
            word = loss([kind])
            if word is not None:
                what = f"{kind}: " if word == DAMAGED else ""
                found.append(Loss(path, f"{word}: {kind}", f"{word}: {path}: {what}{each.get('says')}"))
        if not pd.isna(dropped) and dropped:
            found.append(Loss(path, "dropped", f"dropped: {path}: {int(dropped)} packets dropped while capturing"))
    sufficiency = audit.summary.get("sufficiency") or {}
    told = sufficiency.get("reasons") or {}
    if "no_connection_in_scope" in told:
        some = "no connection has an end in scope" if len(audit.connections) else "no connection"
        found.append(Loss(None, "nothing audited", f"nothing audited: {some}"))
    openings = told.get("nothing_decided")
    if openings:
        says = f"nothing decided: of all {openings:,} documented connections only the opening was captured"
        found.append(Loss(None, "nothing decided", says))
    for reason, (key, says) in _HIDDEN.items():
        if told.get(reason):
            found.append(Loss(None, key, f"{key}: {says.format(told[reason])}"))
    percent = float(sufficiency.get("undecided_percent") or 0.0)
    if percent > max_undecided:
        says = f"undecided: {percent:.1f} % of the judged connections, more than {max_undecided:g} %"
        found.append(Loss(None, "undecided", says))
    return found
