"""What of an audit counts: failing findings, and what was not done whole, as words that stay the same from pass to pass."""

from __future__ import annotations

from auditor.model.audit import Audit
from auditor.model.losses import DAMAGED, loss
from auditor.model.roles import Severity


def failing(audit: Audit, fail_on: str, *, only_new: bool = False) -> int:
    """Findings at or above this severity that nobody waived."""
    findings = audit.findings
    if fail_on == "never" or not len(findings):
        return 0
    counted = [severity.word for severity in Severity if severity >= Severity[fail_on.upper()]]
    mask = findings["severity"].isin(counted) & findings["waived"].isna()
    if only_new:
        mask &= findings["status"] == "new"
    return int(mask.sum())


def incomplete(audit: Audit, max_undecided: float) -> list[str]:
    """Why it was not done whole: a word, a colon, and what there is to say of it."""
    found = []
    for path, problems in zip(audit.captures["path"].tolist(), audit.captures["problems"].tolist(), strict=True):
        for each in problems or ():
            word = loss([str(each.get("kind"))])
            if word is not None:
                kind = f"{each.get('kind')}: " if word == DAMAGED else ""
                found.append(f"{word}: {path}: {kind}{each.get('says')}")
    dropped = int(audit.captures["dropped"].fillna(0).sum()) if len(audit.captures) else 0
    if dropped:
        found.append(f"dropped: {dropped} packets dropped while capturing")
    sufficiency = audit.summary.get("sufficiency") or {}
    told = sufficiency.get("reasons") or {}
    if "no_connection_in_scope" in told:
        some = "no connection has an end in scope" if len(audit.connections) else "there is no connection"
        found.append(f"nothing judged: {some}")
    openings = told.get("nothing_decided")
    if openings:
        found.append(f"nothing decided: of all {openings:,} documented connections nothing but the opening was seen")
    percent = float(sufficiency.get("undecided_percent") or 0.0)
    if percent > max_undecided:
        found.append(f"undecided: {percent:.1f} % of the judged connections, more than {max_undecided:g} %")
    return found
