"""authentication-downgrade: two ends tried the documented protection, failed, and continued without it.

What fires it:   a failed attempt with the documented protection (a TLS handshake that was aborted), and within 60 seconds a connection of the same
                 originator to the same service without it that was accepted: plain SSH to the same host port of a cell or its proxied twin; any of
                 the ports of NATS.
What proves it:  both connections: the failed handshake and the unprotected session, in the frames that the finding shows.
Why it matters:  if a client falls back on failure, anyone on the network path can force it to, by breaking the handshake. ssh_proxy does so: when the TLS
                 dial to an application's proxy fails it continues with plain TCP.
What to do:      find out why the handshake fails (an alert names the reason up to TLS 1.2): most often an expired instance identity or an authority
                 that is not trusted. Then remove the fallback (turn off mappings that bypass the proxy).
How to waive:    put an entry for this rule in the file given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Fault, Verdict
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import evidence_of, fault_groups, finding_subject, surest, told
from auditor.rules._subject import Group, Rows, View, split_path
from auditor.rules._words import first_frames, plural, ports, who


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends and service where something went on; with it the failed attempts of its own stories, on whatever port.

    A story is a failed attempt and the session that followed it: both carry the same fault, which names them.
    """
    verdicts, faults = judged.connections["authentication_verdict"], judged.connections["faults"]

    def stories(rows: Rows) -> frozenset[Fault]:
        return frozenset(each for row in rows.tolist() for each in faults.iloc[row] if each.rule == RULE.name)

    groups = []
    tried: dict[Fault, set[int]] = {}
    for _, group, said in fault_groups(judged, RULE.name):
        failed = np.array([verdicts.iloc[row] == Verdict.REJECTED for row in group.rows.tolist()], np.bool_)
        groups.append((group, said, group.rows[~failed], group.rows[failed]))
        for row in group.rows[failed].tolist():
            for each in stories(np.array([row], np.intp)):
                tried.setdefault(each, set()).add(row)
    told_of: set[int] = set()
    for group, said, went_on, _ in groups:
        if len(went_on):
            mine = stories(went_on)
            attempts = np.array(sorted({row for each in mine for row in tried.get(each, ())}), np.intp)
            told_of.update(attempts.tolist())
            yield _finding(judged, group, tuple(each for each in said if each in mine), attempts, went_on)
    for group, said, _, attempts in groups:
        # What went on is in another table: the attempts still tell of it.
        alone = np.array([row for row in attempts.tolist() if row not in told_of], np.intp)
        if len(alone):
            mine = stories(alone)
            yield _finding(judged, group, tuple(each for each in said if each in mine), alone, alone[:0])


def _finding(judged: Judged, group: Group, said: tuple[Fault, ...], attempts: Rows, went_on: Rows) -> Finding:
    rows = np.unique(np.concatenate([attempts, went_on]))
    view, inside = _whole(judged, went_on if len(went_on) else attempts)
    shown = Group(group.path, group.originator, group.responder, group.port, group.protocol, view.at, inside)
    on = f" Path {group.path.replace('+', ' or ')}." if group.path else ""
    before = ""
    if len(went_on) and len(attempts):
        numbers = ", ".join(map(str, ports(*_whole(judged, attempts))))
        before = f" Before: {plural(len(attempts), 'failed attempt')} with TLS on {numbers}/{group.protocol}."
    evidence: list[dict[str, Any]] = []
    for part in (attempts, went_on):
        if len(part):
            evidence += _evidence(*_whole(judged, part), said, group.service)
    return Finding(
        rule=RULE.name,
        severity=RULE.severity,
        title=f"{group.originator} fell back to an unprotected session with {group.responder} on {group.service}",
        detail=f"{who(view, shown)}{on}{before}{told(said)}",
        rows=tuple(rows.tolist()),
        subject=finding_subject(group, said),
        path=split_path(group.path),
        confidence=surest(said),
        evidence=tuple(evidence),
        remediation="Find out why the protected attempt failed, and remove the fallback.",
        count=len(rows),
    )


def _whole(judged: Judged, rows: Rows) -> tuple[View, Rows]:
    """These rows alone, and their places among them."""
    mask = np.zeros(len(judged.connections), np.bool_)
    mask[rows] = True
    return View(judged.connections, mask), np.arange(len(rows), dtype=np.intp)


def _evidence(view: View, inside: Rows, said: tuple[Fault, ...], service: str) -> tuple[dict[str, Any], ...]:
    kinds = tuple(dict.fromkeys(kind for fault in said for kind in fault.kinds))
    found = evidence_of(view, inside, kinds)
    return (
        found
        if any(one["frames"] for one in found)
        else (*found, *first_frames(view, inside, "connection.opened", service))
    )


RULE = Rule("authentication-downgrade", Severity.HIGH, check)
