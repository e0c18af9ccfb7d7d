"""undeclared-port: the two roles have a documented path, but not on this port or transport.

What fires it:   a connection that was established between two VMs of the inventory for whose roles the policy has a path, on a port or over a transport that
                 no path between them names. A path documented with ports that vary covers every TCP port of the responder; there a
                 connection without recognisable content fires this rule.
What proves it:  the opening (SYN) shows the port; the finding shows the first frames and the documented port.
Why it matters:  the documented port is the one with the documented authentication. Cloud Controller's 9022 is the plaintext twin of 9023; NATS 4222 is the
                 plaintext twin of 4224; a debug port (17001 to 17019) gives heap and goroutine dumps to any client.
What to do:      compare the client's configured address with the documented port. If the listener should not exist, turn it off
                 (`temporary_disable_non_tls_endpoints` for Cloud Controller's plaintext port); if it should, bind it to loopback.
How to waive:    declare the port in a policy of your own and add it with --policy FILE; for a limited time, an entry for this rule in the
                 file given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Breach
from auditor.model.roles import Rule, Severity
from auditor.rules._subject import Group, View, holds, split_path
from auditor.rules._words import common, confidence, cure, first_frames, near_miss, overlay, shown, who


def _what(view: View, group: Group) -> str:
    miss = view.column("near_miss")[group.inside[0]]
    return "transport" if isinstance(miss, dict) and miss.get("differs") == "transport" else "port"


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each pair of roles, service and transport."""
    view = View(judged.connections, holds(judged.connections, "breach", Breach.PORT))
    for group in view.groups():
        sibling = common(view, group.inside, "sibling")
        yield Finding(
            rule=RULE.name,
            severity=RULE.severity,
            title=f"{group.originator} reaches {group.responder} on {group.service}, which is not the documented {_what(view, group)}",
            detail=who(view, group) + shown(view, group.inside) + near_miss(view, group) + overlay(sibling),
            rows=tuple(group.rows.tolist()),
            subject=group.subject,
            path=split_path(group.path),
            confidence=confidence(view, group.inside),
            evidence=first_frames(view, group.inside, "connection.port", group.service),
            remediation=cure(
                sibling,
                f"Point {group.originator} at the documented {_what(view, group)}, and close {group.service} on {group.responder} "
                "or declare it in a policy of your own (--policy FILE).",
            ),
            count=len(group.rows),
            sibling=sibling,
        )


RULE = Rule("undeclared-port", Severity.HIGH, check)
