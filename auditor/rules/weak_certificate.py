"""weak-certificate: a certificate with a short RSA key or an MD5 or SHA-1 signature.

What fires it:   a leaf or intermediate certificate that was sent with an RSA key below 2048 bits, or signed with MD5 or SHA-1 (a root's own
                 signature does not matter: it is trusted as it is).
What proves it:  the certificate itself, captured unencrypted (up to TLS 1.2).
Why it matters:  SHA-1 collisions are affordable, MD5 collisions cost nothing: with them, one signature is valid for a certificate with another name, too.
                 RSA below 2048 bits has been disallowed since 2013 (NIST SP 800-131A).
What to do:      rotate the certificate, and its authority if it signs with SHA-1.
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
    return f"A weak certificate was shown between {group.originator} and {group.responder} on {group.service}"


def _remediation(_group: Group) -> str:
    return "Rotate the certificate with an RSA key of at least 2048 bits and a SHA-256 signature."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and kind of fault."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("weak-certificate", Severity.MEDIUM, check)
