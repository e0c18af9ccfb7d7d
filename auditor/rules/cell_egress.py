"""cell-egress: a cell opened a connection to an address outside the platform.

What fires it:   a connection that came about from a diego_cell to an address in no inventory and outside every platform network. One finding for each
                 destination block (/24, IPv6: /64) and transport, with its ports and addresses.
What proves it:  the destination address, and the networks that the inventory names (where it names none, the /24 or /64 around every VM in it).
Why it matters:  applications leave by the address of their cell, so this is what a working platform does all day; it is neither documented nor undeclared
                 but ambient. It is listed because the same road carries data out, and because a destination that nobody can name is worth a look.
What to do:      compare the destinations with the application security groups. If one of them belongs to the platform (an external blobstore, say), name it in
                 the inventory's externals with its role: what the policy documents for that role is then judged as documented.
How to waive:    nothing has to be waived: the severity is info.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import numpy as np
import pandas as pd

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Breach, Outcome
from auditor.model.roles import Rule, Severity
from auditor.rules._subject import View, grouped, holds
from auditor.rules._words import applications, confidence, ends, first_frames, plural, ports, some

BLOCK_V4 = 24
BLOCK_V6 = 64
PORTS_NAMED = 5


def block(address: str) -> str:
    """The block that an address is grouped by: its /24, IPv6 /64."""
    ip = ipaddress.ip_address(address)
    return str(ipaddress.ip_network((ip, BLOCK_V4 if ip.version == 4 else BLOCK_V6), strict=False))


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each destination block and transport."""
    table = judged.connections
    mask = holds(table, "breach", Breach.CELL_EGRESS) & ~holds(table, "outcome", Outcome.ATTEMPT)
    view = View(table, mask)
    if not len(view):
        return
    which, addresses = pd.factorize(view.column("responder_ip"))
    blocks = np.array([block(str(address)) for address in addresses], dtype=object)
    keys = pd.DataFrame(
        {"originator": view.originator, "block": blocks[which], "transport": view.column("transport").astype(object)}
    )
    for (originator, destination, transport), inside in grouped(keys, ["originator", "block", "transport"]):
        rows = view.at[inside]
        services = some([str(port) for port in ports(view, inside)], PORTS_NAMED)
        on = f" on {services}/{transport}" if services else f" ({transport})"
        yield Finding(
            rule=RULE.name,
            severity=RULE.severity,
            title=f"{originator} opens connections to {destination}, outside the platform",
            detail=(
                f"{plural(len(rows), 'connection')} from {ends(view, inside, 'originator')} to "
                f"{ends(view, inside, 'responder')}{on}, application {applications(view, inside)}. Applications leave by the "
                "address of their cell, so the packets do not tell an application from a component."
            ),
            rows=tuple(rows.tolist()),
            subject=("", originator, destination, "", transport),
            confidence=confidence(view, inside),
            evidence=first_frames(view, inside, "connection.opened", destination),
            remediation=(
                "Compare with the application security groups. If the destination belongs to the platform, name it in the inventory."
            ),
            count=len(rows),
        )


RULE = Rule("cell-egress", Severity.INFO, check)
