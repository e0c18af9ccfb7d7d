"""documented-path-failing: connections of a documented path are unanswered, refused, or hang in the handshake.

What fires it:   attempts on a documented path without a connection (no answer to the SYN, a reset), and connections in which one end sent data and the other
                 never did (a TLS handshake that hangs; a NATS or MySQL server that does not greet). Attempts in the capture's last seconds are not counted: their
                 answer may have come later. On an ambient path it fires only if no attempt succeeded. One finding for each pair of
                 roles and service. Severity medium; high if no VM of that role succeeded on a documented path.
What proves it:  the openings and what came back: resets, ICMP errors, or nothing, although the attempt was repeated.
Why it matters:  this is what an outage looks like in packets: a security group, a route, a listener that is down, a certificate that makes the other
                 end drop the handshake. Cells that do not reach the BBS lose their applications.
What to do:      no answer: look at security groups, firewalls and routes between the two, and at the other end's health. Refused: the process
                 does not listen (monit summary there). Hangs: look at the other end's log, and at the MTU where ICMP reports
                 fragmentation. If answers may have taken another route than the captured one, capture at the other end.
How to waive:    an entry for this rule in the file given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.frames import DATED_NS
from auditor.model.judgement import Disposition, Outcome
from auditor.model.quoted import ICMP_ERROR
from auditor.model.roles import Rule, Severity
from auditor.rules._failing import failing
from auditor.rules._faults import evidence_of
from auditor.rules._subject import Group, Mask, View, holds, split_path
from auditor.rules._words import REFUSED, confidence, first_frames, plural, some, who

_Service = tuple[str, str, str, str]
"""Ends, port and transport."""


@dataclass(slots=True)
class _Through:
    """Successful connections to a service."""

    count: int = 0
    originators: set[str] = field(default_factory=set)
    responders: set[str] = field(default_factory=set)


def _through(view: View) -> defaultdict[_Service, _Through]:
    found: defaultdict[_Service, _Through] = defaultdict(_Through)
    for group in view.groups():
        one = found[group.originator, group.responder, group.port, group.protocol]
        one.count += len(group.rows)
        one.originators.update(view.column("originator_ip")[group.inside])
        one.responders.update(view.column("responder_ip")[group.inside])
    return found


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each pair of roles, service and transport."""
    table = judged.connections
    tried, hang = failing(judged)
    failed = tried | hang
    if not failed.any():
        return
    declared = holds(table, "disposition", Disposition.DOCUMENTED) | holds(table, "disposition", Disposition.AMBIENT)
    on_path = declared & np.fromiter((bool(paths) for paths in table["paths"]), np.bool_, len(table))
    through = _through(View(table, on_path & ~failed & holds(table, "outcome", Outcome.ESTABLISHED)))
    view = View(table, on_path & failed)
    for group in view.groups():
        others = through[group.originator, group.responder, group.port, group.protocol]
        documented = view.column("disposition")[group.inside[0]] == Disposition.DOCUMENTED
        if not documented and (others.count or len(group.rows) == 1):
            continue  # an ambient path that works, or a single try: nobody's outage
        how = _how(view, group, hang)
        extent = f"{others.count:,} other connections succeeded" if others.count else "No connection succeeded"
        yield Finding(
            rule=RULE.name,
            severity=Severity.HIGH if documented and not others.count else RULE.severity,
            title=f"{group.originator} cannot reach {group.responder} on {group.service}: {how}",
            detail=(
                f"{who(view, group, 'attempt')} {extent}.{_since(table, group)}{_dead(view, group, others)}{_errors(view, group)}"
            ),
            rows=tuple(group.rows.tolist()),
            subject=group.subject,
            path=split_path(group.path),
            confidence=confidence(view, group.inside),
            evidence=(*first_frames(view, group.inside, "connection.failed", how), *_icmp(view, group)),
            remediation=(
                f"Look at security groups and routes between {group.originator} and {group.responder}, and check that "
                f"{group.service} is served there."
            ),
            count=len(group.rows),
        )


def _how(view: View, group: Group, hang: Mask) -> str:
    """``4 unanswered, 2 refused, 1 accepted and silent``."""
    hangs = hang[group.rows]
    reset = np.fromiter((state in REFUSED for state in view.column("conn_state")[group.inside]), np.bool_, len(hangs))
    refused = int((reset & ~hangs).sum())
    said = [
        (len(hangs) - int(hangs.sum()) - refused, "unanswered"),
        (refused, "refused"),
        (int(hangs.sum()), "accepted but not answered"),
    ]
    return ", ".join(f"{count:,} {word}" for count, word in said if count)


def _since(table: pd.DataFrame, group: Group) -> str:
    first = int(table["start"].to_numpy(np.int64)[group.rows].min())
    if first < DATED_NS:
        return ""
    return f" Since {datetime.fromtimestamp(first // 1_000_000_000, UTC):%Y-%m-%d %H:%M:%S}Z."


def _dead(view: View, group: Group, others: _Through) -> str:
    """Ends that never got an answer, or never gave one, while others did."""
    if not others.count:
        return ""
    silent = sorted({str(ip) for ip in view.column("responder_ip")[group.inside]} - others.responders)
    mute = sorted({str(ip) for ip in view.column("originator_ip")[group.inside]} - others.originators)
    said = f" No connection to {some(silent)} succeeded." if silent else ""
    return said + (f" No connection succeeded from {some(mute)}." if mute else "")


def _quoted(view: View, group: Group) -> Counter[str]:
    """What ICMP errors say of these connections."""
    said: Counter[str] = Counter()
    for facts in view.column("facts")[group.inside]:
        if hasattr(facts, "frames"):
            said.update(facts.get(ICMP_ERROR) or ())
    return said


def _errors(view: View, group: Group) -> str:
    told = "; ".join(f"{text} ({plural(count, 'connection')})" for text, count in _quoted(view, group).most_common(3))
    return f" ICMP says: {told}." if told else ""


def _icmp(view: View, group: Group) -> tuple[dict[str, Any], ...]:
    return evidence_of(view, group.inside, (ICMP_ERROR,)) if _quoted(view, group) else ()


RULE = Rule("documented-path-failing", Severity.MEDIUM, check)
