"""cell-egress: a cell opened a connection to an address outside the platform.

What fires it:   a connection that was established from a diego_cell to an address in no inventory and outside every platform network. One finding for each
                 destination block (/24, IPv6: /64) and transport, with its ports and addresses. Two kinds are told apart and are of medium severity: to
                 an address at which a cloud tells a machine who it is (169.254.169.254 and the like), and to a port that BOSH Directors have.
What proves it:  the destination address, and the networks that the inventory names (where it names none, the /24 or /64 around every VM in it).
Why it matters:  applications leave by the address of their cell, so this is what a working platform does all day; it is neither documented nor undeclared
                 but ambient. It is listed because the same road carries data out, and because a destination that nobody can name is worth a look. Who
                 reaches the metadata service gets the cell's own credentials for the cloud; who reaches the Director needs but a password.
What to do:      compare the destinations with the application security groups. If one of them belongs to the platform (an external blobstore, say), name it in
                 the inventory's externals with its role: what the policy documents for that role is then judged as documented. Close
                 169.254.0.0/16 and the Director's network to applications.
How to waive:    as info it needs none; else an entry for this rule in the file given with --waivers, with reason, owner and end.
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
        "Applications leave by the address of their cell, so the packets do not tell an application from a component.",
        "Compare with the application security groups. If the destination belongs to the platform, name it in the inventory.",
    ),
    Kind(
        Breach.CELL_TO_METADATA,
        Severity.MEDIUM,
        "{originator} asks the cloud's metadata service at {addresses}",
        "It hands out the machine's own credentials; the packets do not tell an application from the cell's agent.",
        "Close the metadata service's addresses to applications by a security group; find out who asked.",
        about="metadata",
    ),
    Kind(
        Breach.CELL_TO_DIRECTOR,
        Severity.MEDIUM,
        "{originator} reaches {addresses} on {services}, a port that BOSH Directors have",
        "Nothing on a cell talks to the Director's API or CredHub; an application that does leaves by the cell's address.",
        "If it is the Director, close its network to applications and find the application; else name the address in the inventory's externals.",
        about="director",
    ),
)


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each destination block and transport."""
    yield from findings(judged, RULE.name, _KINDS)


RULE = Rule("cell-egress", Severity.INFO, check)
