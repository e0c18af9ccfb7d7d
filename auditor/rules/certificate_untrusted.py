"""certificate-untrusted: a certificate does not chain to any authority given with --ca.

What fires it:   a certificate chain on a declared path that does not end, by issuers and signatures of the certificates sent, at any of the authorities
                 that were given for this path (`--ca ROLE=FILE` for paths to that role, `--ca FILE` for the others). Without --ca nothing fires. A
                 missing subject alternative name, a serial number of zero, and other objections of web browsers are not this rule; validity in time
                 is `certificate-expired`. A certificate that this program cannot read fires with low confidence.
What proves it:  the certificates as captured, and the signatures in them.
Why it matters:  an unknown authority vouches for this end: a forgotten test certificate, an unfinished rotation, or a machine in the middle.
What to do:      compare the issuer with the authority that is configured at the other end. Right after a rotation, give both the old and the new
                 authority with --ca.
How to waive:    give the authority with --ca if it is one of the platform's; for a limited time, put an entry for this rule in the file given with
                 --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import report_faults
from auditor.rules._subject import Group


def _title(group: Group) -> str:
    return f"A certificate of another authority was shown between {group.originator} and {group.responder} on {group.service}"


def _remediation(_group: Group) -> str:
    return "Compare its issuer with the authority configured at the other end; if it is one of the platform's, pass it with --ca."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and kind of fault."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("certificate-untrusted", Severity.HIGH, check)
