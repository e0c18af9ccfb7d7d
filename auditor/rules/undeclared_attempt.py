"""undeclared-attempt: an attempt that no documented path allows, without a connection.

What fires it:   an attempt that was refused or never answered, and that would have been undeclared-connection, undeclared-port, ssh-port-out-of-range,
                 unknown-host or control-plane-egress had it been established. Attempts that are part of a port-sweep are counted there and not again here; a
                 cell's failed attempts to reach the outside are normal for applications and are not counted. A reset whose SYN was not
                 captured shows an attempt, but not which end made it: capture-incomplete reports it.
What proves it:  a SYN, and a reset, an ICMP error or nothing after it. No answer may also be due to the capture: if the answers
                 took another route, the detail says unanswered, not refused.
Why it matters:  the network blocked it this time. But an attempt has a cause: an old configuration, or someone exploring the network.
What to do:      find the process on the originator. If its configuration is old, correct it before the port is opened for it. If there is no such process,
                 look at what else the address did.
How to waive:    declare the path in a policy of your own (--policy FILE), or put an entry for this rule in the file given with --waivers, with
                 reason, owner and end date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Breach
from auditor.model.roles import Rule, Severity
from auditor.rules._subject import Group, View, split_path
from auditor.rules._sweep import attempts, sweeping
from auditor.rules._words import REFUSED, common, confidence, cure, first_frames, near_miss, overlay, plural, who

WOULD_BE = {
    Breach.CONNECTION: "undeclared-connection",
    Breach.PORT: "undeclared-port",
    Breach.SSH_PORT: "ssh-port-out-of-range",
    Breach.UNKNOWN_HOST: "unknown-host",
    Breach.CONTROL_PLANE_EGRESS: "control-plane-egress",
    Breach.INFRASTRUCTURE_EGRESS: "control-plane-egress",
}


def _ending(view: View, group: Group) -> str:
    states = Counter(view.column("conn_state")[group.inside])
    refused = sum(count for state, count in states.items() if state in REFUSED)
    unanswered = len(group.inside) - refused
    said = [f"{refused:,} refused"] if refused else []
    said += [f"{unanswered:,} unanswered"] if unanswered else []
    return " and ".join(said)


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each pair of ends, service and transport, without attempts that belong to a sweep."""
    table = judged.connections
    view = View(table, attempts(table) & ~sweeping(table))
    for group in view.groups():
        sibling = common(view, group.inside, "sibling")
        would_be = common(view, group.inside, "would_be")
        as_rule = f" It would have been {WOULD_BE[Breach(would_be)]}." if would_be in WOULD_BE else ""
        yield Finding(
            rule=RULE.name,
            severity=RULE.severity,
            title=f"{group.originator} tried {group.responder} on {group.service} without a connection",
            detail=(
                f"{who(view, group, 'attempt')} {_ending(view, group).capitalize()}.{as_rule}"
                f"{near_miss(view, group)}{overlay(sibling)}"
            ),
            rows=tuple(group.rows.tolist()),
            subject=group.subject,
            path=split_path(group.path),
            confidence=confidence(view, group.inside),
            evidence=first_frames(view, group.inside, "connection.attempted", plural(len(group.rows), "attempt")),
            remediation=cure(
                sibling,
                f"Find the process on {group.originator} that tries {group.service}; correct its configuration, or find out who is probing.",
            ),
            count=len(group.rows),
            sibling=sibling,
        )


RULE = Rule("undeclared-attempt", Severity.MEDIUM, check)
