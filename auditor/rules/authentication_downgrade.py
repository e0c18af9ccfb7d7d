"""authentication-downgrade: a pair tried the documented protection, failed, and went on without it.

What fires it:   a failed attempt with the documented protection (a TLS handshake that broke off), and within 60 seconds a connection of the same
                 originator to the same service without it that was accepted: plain SSH to the same host port of a cell or its proxied twin; any of
                 the ports of NATS.
What proves it:  both connections: the failed handshake and the unprotected session, in the frames that the finding shows.
Why it matters:  a client that falls back on failure lets anybody on the way choose for it, by breaking the handshake. ssh_proxy does so: when the TLS
                 dial to an application's proxy fails it goes on with plain TCP.
What to do:      find out why the handshake fails (an alert names the reason up to TLS 1.2): most often an expired instance identity or an authority
                 that is not trusted. Then take the fallback away (turn mappings that pass by the proxy off).
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
    return f"{group.originator} fell back to an unprotected session with {group.responder} on {group.service}"


def _remediation(_group: Group) -> str:
    return "Find out why the protected attempt failed, and take the fallback away."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service, and thing that is wrong."""
    yield from report_faults(judged, RULE, _title, _remediation)


RULE = Rule("authentication-downgrade", Severity.HIGH, check)
