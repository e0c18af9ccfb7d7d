"""certificate-expired: a certificate was outside its validity when it was shown.

What fires it:   a leaf or intermediate certificate that crossed the wire before its first or after its last day, by the time of the capture, not of
                 the audit. A root that is sent along is not looked at, and that a certificate expires soon is not a finding.
What proves it:  the certificate's own dates and the packet's time. In TLS 1.3 certificates are encrypted: without a key log, nobody sees them. A list of
                 the foundation's certificates (`auditor policy certificates`) tells it then with medium confidence, where all that it has of a
                 component are over.
Why it matters:  a peer that accepts an expired certificate does not check, and then accepts others too; a peer that does check breaks at the worst
                 time. A clock that is wrong at the capturing machine looks the same: compare the capture's times first.
What to do:      rotate the certificate (Ops Manager's certificate rotation; cf-deployment: regenerate the variable and deploy), and
                 find out why the other end took it.
How to waive:    put an entry for this rule in the file given with --waivers, with reason, owner and end.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import report_faults
from auditor.rules._subject import Group


def _title(group: Group) -> str:
    return f"A certificate outside its validity was shown between {group.originator} and {group.responder} on {group.service}"


def _remediation(_group: Group) -> str:
    return "Rotate the certificate, and make the other end check validity."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service, and thing that is wrong."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("certificate-expired", Severity.HIGH, check)
