"""certificate-identity: a certificate's names contradict the place where it was shown.

What fires it:   a leaf certificate whose common name or DNS names belong, in the policy's identity table, to components of which none can run on the
                 VM that showed it, nor, for a client certificate, is the service being called. Names are compared without case, with `-` and `_`
                 alike; a wildcard belongs to all that it covers; the organizational unit is never looked at. A name that is in no table attributes
                 nothing and fires nothing, unless a policy says `names: strict`.
What proves it:  the certificate as it crossed the wire, and the inventory's word on the address.
Why it matters:  a certificate of one component in the hands of another VM has been copied, or the address is not who the inventory says. Diego's
                 servers check the authority only, not the name, so they will not notice.
What to do:      check the inventory first: a moved VM and an old inventory look like this. Then find out how the key got there, and rotate it.
How to waive:    where a deployment shares certificates on purpose, add the name and its components to the identities of a policy of your own
                 (--policy FILE); for a while only, put an entry for this rule in the file given with --waivers, with reason, owner and end.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import report_faults
from auditor.rules._subject import Group


def _title(group: Group) -> str:
    return f"A certificate that belongs elsewhere was shown between {group.originator} and {group.responder} on {group.service}"


def _remediation(_group: Group) -> str:
    return "Check the inventory; if it is right, find out how that key came to this VM, and rotate it."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service, and thing that is wrong."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("certificate-identity", Severity.HIGH, check)
