"""undeclared-attempt: somebody tried what no documented path allows, and got no connection.

What fires it:   an attempt that was refused or never answered, and that would have been undeclared-connection, undeclared-port, ssh-port-out-of-range or
                 unknown-host or control-plane-egress had it been established. Attempts that are part of a port-sweep are counted there and not again here; a
                 cell's failed attempts to reach the outside are the applications' own business and not counted. A reset whose SYN was not
                 captured tells that somebody tried, and not who: capture-incomplete names it.
What proves it:  a SYN, and a reset, an ICMP error or nothing after it. Nothing after it may also be the capture's fault: where the answers
                 went by another road, the detail says unanswered, not refused.
Why it matters:  the network did its work this time. But whoever tries has an address to try, and a reason: a leftover configuration, or a look around.
What to do:      find the process on the originator. A leftover: correct its configuration before somebody opens the port for it. None to be found:
                 look at what else that address did.
How to waive:    declare the path in a policy of your own (--policy FILE), or put an entry for this rule in the file given with --waivers, with
                 reason, owner and end.
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
    """One finding for each pair of ends, service and transport, without what a sweep explains."""
    table = judged.connections
    view = View(table, attempts(table) & ~sweeping(table))
    for group in view.groups():
        sibling = common(view, group.inside, "sibling")
        would_be = common(view, group.inside, "would_be")
        as_rule = f" It would have been {WOULD_BE[Breach(would_be)]}." if would_be in WOULD_BE else ""
        yield Finding(
            rule=RULE.name,
            severity=RULE.severity,
            title=f"{group.originator} tried {group.responder} on {group.service} and got no connection",
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
                f"Find the process on {group.originator} that dials {group.service}; correct its configuration, or find out who is probing.",
            ),
            count=len(group.rows),
            sibling=sibling,
        )


RULE = Rule("undeclared-attempt", Severity.MEDIUM, check)
