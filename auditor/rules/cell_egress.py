"""cell-egress: a cell opened a connection to an address outside the platform.

What fires it:   a connection that was established from a diego_cell to an address in no inventory and outside every platform network. One finding for each
                 destination block (/24, IPv6: /64) and transport, with its ports and addresses. Two kinds are of medium severity: to
                 the metadata service of a cloud (169.254.169.254 and similar), and to a port of BOSH Directors.
What proves it:  the destination address, and the networks that the inventory names (where it names none, the /24 or /64 around every VM in it).
Why it matters:  applications use the address of their cell, so this is normal traffic of a platform; it is neither documented nor undeclared
                 but ambient. It is listed because data can also be stolen this way, and because unknown destinations should be checked. Whoever
                 reaches the metadata service gets the cell's own credentials for the cloud; whoever reaches the Director needs only a password.
What to do:      compare the destinations with the application security groups. If one of them belongs to the platform (for example an external blobstore), list it in
                 the inventory's externals with its role: what the policy documents for that role is then judged as documented. Close
                 169.254.0.0/16 and the Director's network to applications.
How to waive:    not needed for severity info; else an entry for this rule in the file given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Breach
from auditor.model.roles import Rule, Severity
from auditor.rules._egress import Kind, findings

_KINDS = (
    Kind(
        Breach.CELL_EGRESS,
        Severity.INFO,
        "{originator} opens connections to {block}, {where}",
        "Applications use the address of their cell, so the packets do not show whether it was an application or a component.",
        "Compare with the application security groups. If the destination belongs to the platform, add it to the inventory.",
    ),
    Kind(
        Breach.CELL_TO_METADATA,
        Severity.MEDIUM,
        "{originator} asks the cloud's metadata service at {addresses}",
        "It gives out the machine's own credentials; the packets do not show whether it was an application or the cell's agent.",
        "Block the metadata service's addresses for applications with a security group; find out which process asked.",
        about="metadata",
    ),
    Kind(
        Breach.CELL_TO_DIRECTOR,
        Severity.MEDIUM,
        "{originator} reaches {addresses} on {services}, a port of BOSH Directors",
        "Nothing on a cell talks to the Director's API or CredHub; an application that does uses the cell's address.",
        "If it is the Director, block its network for applications and find the application; else list the address in the inventory under externals.",
        about="director",
    ),
)


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each destination block and transport."""
    yield from findings(judged, RULE.name, _KINDS)


RULE = Rule("cell-egress", Severity.INFO, check)
