"""authentication-rejected: an attempt to authenticate was refused.

What fires it:   a connection on a declared path whose authentication was refused by either end: a TLS alert, NATS' -ERR, MySQL's ERR, HTTP 401 or 403
                 (410 for a signed URL), HTTP 400 or a TLS alert as the answer to plaintext on a TLS port, a reset or close straight after the
                 attempt.
What proves it:  the refusal, in the frames that the finding shows.
Why it matters:  access was denied, but something keeps trying: a client with an expired certificate, a password that was changed at one end only, or
                 an attacker. An application in a cell that probes the control plane looks like this, because it uses the cell's address.
What to do:      up to TLS 1.2 the finding says why: the alert (certificate expired, unknown CA, bad certificate), and what the certificate
                 shows (expiry, a name that the client did not ask for, the issuer). TLS 1.3 encrypts both; what the client asked for
                 (SNI) is reported. Compare both ends' certificates and credentials;
                 if both are right, find the process at the originator.
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
    return f"{group.responder} and {group.originator} did not agree on authentication on {group.service}"


def _remediation(group: Group) -> str:
    return (
        f"Compare both ends' certificates and credentials; if they are right, find the process at {group.originator}."
    )


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and kind of fault."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("authentication-rejected", Severity.MEDIUM, check)
