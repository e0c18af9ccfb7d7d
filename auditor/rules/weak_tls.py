"""weak-tls: a TLS version or cipher suite below the policy's minimum was negotiated.

What fires it:   a ServerHello that selects a version below the policy's minimum (TLS 1.2 as shipped), or a suite of a forbidden kind: without
                 encryption (NULL), without authentication (anonymous), EXPORT, RC4, DES, 3DES. A client that only offers them does not fire. Static
                 RSA, CBC and ChaCha20 are not forbidden.
What proves it:  the ServerHello, in the frames that the finding shows.
Why it matters:  versions below 1.2 and these suites can be broken or downgraded by anyone on the network path; components of Diego have not needed them since
                 2018, so a component that accepts them is old or misconfigured, or an attacker is in the middle.
What to do:      raise the minimum at both ends; update clients that support nothing better. A load balancer in front of UAA often has a setting of its
                 own.
How to waive:    set `tls.minimum` or `tls.forbidden_suites` in a policy of your own (--policy FILE); for a limited time, put an entry for this rule in
                 the file given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import report_faults
from auditor.rules._subject import Group


def _title(group: Group) -> str:
    return f"{group.originator} and {group.responder} negotiated weak TLS on {group.service}"


def _remediation(group: Group) -> str:
    return f"Raise the minimum version and remove the weak suites at both ends of {group.service}."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and kind of fault."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("weak-tls", Severity.HIGH, check)
