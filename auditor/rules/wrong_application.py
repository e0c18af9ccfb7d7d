"""wrong-application: the right VMs on the right port, but another protocol than the documented one.

What fires it:   a connection on a documented path that speaks a recognised protocol other than the documented one, or whose first bytes were seen and
                 are not the documented protocol's. A documented protocol inside TLS (NATS, MySQL, SSH) is not a wrong one, nor are
                 unrecognised bytes of a connection that was already open when the capture began.
What proves it:  the first bytes of the connection, in the frames that the finding shows.
Why it matters:  a documented port is open in the firewall; other traffic through it has no review and no documented
                 authentication. Plain HTTP on a TLS port is most often a half-finished migration; SSH on an HTTPS port is a tunnel.
What to do:      look at both ends' configuration of that port: scheme of the URL, TLS turned on at one end only, a health check that
                 speaks the wrong protocol. If neither end's configuration explains it, find the process.
How to waive:    document the protocol for this path in a policy of your own (--policy FILE), or put an entry for this rule in the file given with
                 --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Breach
from auditor.model.roles import Rule, Severity
from auditor.rules._subject import View, holds, split_path
from auditor.rules._words import common, confidence, ends, first_frames, plural

UNRECOGNISED = "an unrecognised protocol"


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of roles, service and protocol spoken."""
    view = View(judged.connections, holds(judged.connections, "breach", Breach.APPLICATION))
    for group in view.groups(protocol=view.column("application")):
        spoken = UNRECOGNISED if group.protocol == "unknown" else group.protocol
        transport = common(view, group.inside, "transport") or "tcp"
        service = f"{group.port}/{transport}"
        says = common(view, group.inside, "says")
        yield Finding(
            rule=RULE.name,
            severity=RULE.severity,
            title=f"{group.originator} speaks {spoken} to {group.responder} on {service}",
            detail=(
                f"{plural(len(group.rows), 'connection')} from {ends(view, group.inside, 'originator')} to "
                f"{ends(view, group.inside, 'responder')} on {service}, path {group.path.replace('+', ' or ')}: "
                f"{(says or f'{spoken} is not the documented protocol').rstrip('.')}."
            ),
            rows=tuple(group.rows.tolist()),
            subject=group.subject,
            path=split_path(group.path),
            confidence=confidence(view, group.inside),
            evidence=first_frames(view, group.inside, "connection.application", group.protocol),
            remediation=(
                f"Compare both ends' configuration of {service}: scheme of the URL, TLS at one end only, "
                "a health check with the wrong protocol."
            ),
            count=len(group.rows),
            sibling=common(view, group.inside, "sibling"),
        )


RULE = Rule("wrong-application", Severity.HIGH, check)
