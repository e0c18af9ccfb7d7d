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
from dataclasses import replace

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Verdict
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import report_faults
from auditor.rules._subject import Group


def _title(group: Group) -> str:
    return f"{group.originator} fell back to an unprotected session with {group.responder} on {group.service}"


def _remediation(_group: Group) -> str:
    return "Find out why the protected attempt failed, and take the fallback away."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service, and thing that is wrong; what failed on another port belongs to what went on after it."""
    found = list(report_faults(judged, RULE, _title, _remediation))
    verdicts, faults = judged.connections["authentication_verdict"], judged.connections["faults"]
    told = [
        frozenset(fault for row in each.rows for fault in faults.iloc[row] if fault.rule == RULE.name) for each in found
    ]
    failed = [all(verdicts.iloc[row] == Verdict.REJECTED for row in each.rows) for each in found]
    for k, each in enumerate(found):
        if failed[k] and any(not failed[other] and told[k] <= told[other] for other in range(len(found))):
            continue
        parts = [found[j] for j in range(len(found)) if failed[j] and told[j] <= told[k]] if not failed[k] else []
        rows = tuple(sorted({*each.rows, *(row for part in parts for row in part.rows)}))
        evidence = (*(one for part in parts for one in part.evidence), *each.evidence)
        yield replace(each, rows=rows, count=len(rows), evidence=evidence)


RULE = Rule("authentication-downgrade", Severity.HIGH, check)
