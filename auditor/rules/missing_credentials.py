"""missing-credentials: the documented credentials were not presented or not checked, and the session was accepted.

What fires it:   a session that continued although its path documents credentials: NATS whose INFO does not ask for authentication (even where the
                 client sent a password: it was not checked), or a CONNECT without credentials that was accepted; a MySQL login with an empty answer
                 that got OK; HTTP that was answered with success without the documented authorization or signed URL.
What proves it:  the greeting or request and the answer that accepts it, in the frames that the finding shows.
Why it matters:  anyone who can reach the port gets access. On NATS that is enough to register a route for any host name; on MySQL to read
                 the database of BBS, Locket or the policy server.
What to do:      turn authentication on at the server and give the client its credentials; then look for other clients in the server's log.
How to waive:    put an entry for this rule in the file given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import report_faults
from auditor.rules._subject import Group


def _title(group: Group) -> str:
    return f"{group.responder} accepted {group.originator} on {group.service} without the documented credentials"


def _remediation(group: Group) -> str:
    return f"Turn authentication on at {group.responder}, and find out who else has used {group.service}."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and kind of fault."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("missing-credentials", Severity.CRITICAL, check)
