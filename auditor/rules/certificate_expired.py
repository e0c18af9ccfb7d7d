"""certificate-expired: a certificate was outside its validity when it was shown.

What fires it:   a leaf or intermediate certificate that crossed the wire before its first or after its last day, by the time of the capture, not of
                 the audit. A root that is sent along is ignored, and a certificate that expires soon is not a finding.
What proves it:  the certificate's own dates and the packet's time. In TLS 1.3 certificates are encrypted and not visible without a key log. A list of
                 the foundation's certificates (`auditor policy certificates`) then shows it with medium confidence, if all certificates that it has of a
                 component have expired.
Why it matters:  a peer that accepts an expired certificate does not check, and accepts others too; a peer that does check fails at the worst
                 time. A clock that is wrong at the capturing machine looks the same: compare the capture's times first.
What to do:      rotate the certificate (Ops Manager's certificate rotation; cf-deployment: regenerate the variable and deploy), and
                 find out why the other end accepted it.
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
    return f"A certificate outside its validity was shown between {group.originator} and {group.responder} on {group.service}"


def _remediation(_group: Group) -> str:
    return "Rotate the certificate, and make the other end check validity."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and kind of fault."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("certificate-expired", Severity.HIGH, check)
