"""undeclared-connection: two known VMs talk, and no documented path leads from one role to the other.

What fires it:   a connection that was established, whose originator and responder are both in the inventory, and for which the policy has no path from any
                 role of the one to any role of the other, whatever the port. One finding for each pair of roles, service port and transport.
What proves it:  the opening (SYN) shows who opened the connection; the finding shows the first frames. Where the capture began later, direction comes from
                 the handshake or from the end known to listen, and the confidence says so.
Why it matters:  an undocumented path is not reviewed or filtered, and its credentials are not rotated. An application that broke out of
                 its container, or a component pointed at the wrong address, looks exactly like this.
What to do:      find the process on the originator (`ss -tnp` there) and the release that configures it. If the direction is the only difference
                 (the near miss says so), look for a changed role or a stale inventory first. Else close the path with a security group.
How to waive:    if the path is intended, declare it in a policy of your own and add it with --policy FILE: it is then judged like a documented one.
                 For a limited time: an entry for this rule in the file given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Breach
from auditor.model.roles import Rule, Severity
from auditor.rules._subject import View, holds, split_path
from auditor.rules._words import common, confidence, cure, first_frames, near_miss, overlay, shown, who


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each pair of roles, service and transport."""
    view = View(judged.connections, holds(judged.connections, "breach", Breach.CONNECTION))
    for group in view.groups():
        sibling = common(view, group.inside, "sibling")
        yield Finding(
            rule=RULE.name,
            severity=RULE.severity,
            title=f"{group.originator} talks to {group.responder} on {group.service}; no documented path allows this",
            detail=who(view, group) + shown(view, group.inside) + near_miss(view, group) + overlay(sibling),
            rows=tuple(group.rows.tolist()),
            subject=group.subject,
            path=split_path(group.path),
            confidence=confidence(view, group.inside),
            evidence=first_frames(view, group.inside, "connection.opened", f"{group.responder} {group.service}"),
            remediation=cure(
                sibling,
                f"Find the process on {group.originator} that connects to {group.service} and the release that configures it; "
                "close the path, or declare it in a policy of your own (--policy FILE).",
            ),
            count=len(group.rows),
            sibling=sibling,
        )


RULE = Rule("undeclared-connection", Severity.HIGH, check)
