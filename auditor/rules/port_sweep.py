"""port-sweep: one address tried many ports or hosts, and none of them accepted.

What fires it:   at least 10 distinct pairs of responder and port, tried by one address within 60 seconds, undeclared and without a connection
                 (`SWEEP_TARGETS` and `SWEEP_WINDOW_NS` of auditor/rules/_sweep.py). Targets are counted, not packets: a client that dials one dead
                 port again and again is not a sweep. Documented targets that are down do not count, nor does what a cell tries outside the platform.
What proves it:  the openings (SYN) and what came back: resets, ICMP errors, or nothing.
Why it matters:  no component of this platform finds services by trying addresses: they come from BOSH DNS. From a cell it is most likely an application
                 that tests what its security groups allow; that is the first step of an intrusion.
What to do:      find the container by time and cell, and tighten the application security groups for the platform's networks. If the address is a
                 scanner of your own, add it to the inventory and waive the finding.
How to waive:    an entry for this rule in the file given with --waivers, with reason, owner and end date: scanners should be known by name.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.roles import Rule, Severity
from auditor.rules._subject import View, grouped
from auditor.rules._sweep import SWEEP_TARGETS, SWEEP_WINDOW_NS, sweeping
from auditor.rules._words import confidence, ends, first_frames, plural, ports, some

PORTS_NAMED = 8
MANY = "*"
"""In the subject: the hosts and ports that were tried do not identify the finding."""


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each role or address that sweeps, over each transport."""
    view = View(judged.connections, sweeping(judged.connections))
    if not len(view):
        return
    keys = pd.DataFrame({"originator": view.originator, "transport": view.column("transport").astype(object)})
    for (originator, transport), inside in grouped(keys, ["originator", "transport"]):
        rows = view.at[inside]
        addresses = sorted(set(view.column("originator_ip")[inside]))
        hosts, tried = set(view.column("responder_ip")[inside]), ports(view, inside)
        targets = set(zip(view.column("responder_ip")[inside], view.column("responder_port")[inside], strict=True))
        sweeper = some([address if address == originator else f"{address} ({originator})" for address in addresses])
        yield Finding(
            rule=RULE.name,
            severity=RULE.severity,
            title=f"{sweeper} tried {plural(len(targets), 'target')} on {plural(len(hosts), 'host')} without a connection",
            detail=(
                f"{plural(len(rows), 'attempt')} from {ends(view, inside, 'originator')} to {ends(view, inside, 'responder')}, "
                f"{'port' if len(tried) == 1 else 'ports'} {some([str(port) for port in tried], PORTS_NAMED)}: at least {SWEEP_TARGETS} targets within "
                f"{SWEEP_WINDOW_NS // 1_000_000_000} seconds (a target is a port of a host), without a single connection."
            ),
            rows=tuple(rows.tolist()),
            subject=("", originator, MANY, MANY, transport),
            confidence=confidence(view, inside),
            evidence=first_frames(view, inside, "connection.attempted", plural(len(rows), "attempt")),
            remediation=(
                "Find the process or container by address and time, and tighten the application security groups for the platform's networks."
            ),
            count=len(rows),
        )


RULE = Rule("port-sweep", Severity.HIGH, check)
