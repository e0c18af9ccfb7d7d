"""cleartext-credentials: credentials were sent unencrypted on a path that does not document that.

What fires it:   a bearer token, a password (HTTP Basic, mysql_clear_password, NATS outside its documented rows) or a signed URL outside TLS. NATS'
                 documented paths have Basic authentication in the clear, so they do not fire; mysql_native_password sends no password and does not
                 either.
What proves it:  the request's header or query, in the frames that the finding shows; only the kind of credential is reported, never the credential.
Why it matters:  whoever made this capture has them too, and so has everyone on the network path. A signed URL is a password for a limited time; so is a bearer token, until
                 it expires.
What to do:      turn TLS on for this path, and change the credentials: they must be considered known. Treat the capture as a secret.
How to waive:    declare the path with its authentication in a policy of your own (--policy FILE) where it is intended; for a limited time, put an entry
                 for this rule in the file given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import report_faults
from auditor.rules._subject import Group


def _title(group: Group) -> str:
    return f"{group.originator} sent credentials to {group.responder} on {group.service} in the clear"


def _remediation(group: Group) -> str:
    return f"Turn TLS on for {group.service}, change the credentials that were sent, and treat the capture as a secret."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and kind of fault."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("cleartext-credentials", Severity.MEDIUM, check)
