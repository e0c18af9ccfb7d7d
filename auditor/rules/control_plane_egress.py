"""control-plane-egress: a VM of the platform that is not a cell opened a connection to an address outside the platform.

What fires it:   a connection that was established from a Diego VM other than a cell to an address in no inventory and outside every platform network. One
                 finding for each destination block (/24, IPv6: /64) and transport, with ports, addresses and bytes. Traffic that looks like a service that every BOSH
                 VM calls and that a list of VMs does not name (DNS, NTP; at private addresses the Director's NATS and blobstore, and syslog) is of low severity,
                 unless much more leaves on the port of DNS or NTP than comes back.
What proves it:  the destination address, and the networks that the inventory names (where it names none, the /24 or /64 around every VM in it).
Why it matters:  no application runs on these VMs, and their processes have few destinations. A connection to the outside can carry a stolen database out, and is how an
                 intruder's tool contacts its owner.
What to do:      find the process on the originator (`ss -tnp` there). If the destination belongs to the platform (a log server, an external database
                 or blobstore, the Director), list it in the inventory under externals with its role. Else treat it as an intrusion.
How to waive:    an entry for this rule in the file given with --waivers, with reason, owner and end date; better: add the address to the inventory.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Breach
from auditor.model.roles import Rule, Severity
from auditor.rules._egress import Kind, findings

_TITLE = "{originator} calls {addresses} on {services}, {where}"
_OUTSIDE = "outside every platform network"
_KINDS = (
    Kind(
        Breach.CONTROL_PLANE_EGRESS,
        Severity.HIGH,
        _TITLE,
        "No application runs there.",
        "Find the process on the originator. If the destination belongs to the platform, list it in the inventory under externals; else treat it as an intrusion.",
        where=_OUTSIDE,
    ),
    Kind(
        Breach.INFRASTRUCTURE_EGRESS,
        Severity.LOW,
        _TITLE,
        "It looks like a service that every BOSH VM calls.",
        "If it is your Director, resolver, time server or log server, list it in the inventory under externals with its role; "
        "else find the process on the originator.",
        where=_OUTSIDE,
        about="infrastructure",
    ),
)


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each destination block and transport."""
    yield from findings(judged, RULE.name, _KINDS)


RULE = Rule("control-plane-egress", Severity.HIGH, check)
