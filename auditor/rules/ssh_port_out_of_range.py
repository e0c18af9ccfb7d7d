"""ssh-port-out-of-range: SSH from a brain to a cell, but not on a host port of an application instance.

What fires it:   SSH from a diego_brain to a diego_cell on a port outside 61001-65534. The SSH proxy reaches application instances by host ports that Garden
                 takes from that pool; SSH on any other port of the cell is the cell's own sshd or a program that imitates it.
What proves it:  the SSH banner in the first bytes, and the port of the opening.
Why it matters:  a session with the cell's own sshd controls the cell, with every application on it. No component of a brain needs that.
What to do:      see which user on the brain opened it (`last`, the SSH proxy's log), and whether port 22 of the cells can be reached by others than the Director
                 and the jumpbox. If Garden's pool was moved (`garden.port_pool.start`), declare it in the policy.
How to waive:    a foundation whose Garden pool differs declares the range in a policy of its own (--policy FILE). For a limited time: an entry for this
                 rule in the file given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Breach
from auditor.model.roles import Rule, Severity
from auditor.rules._subject import HOST_PORTS, View, holds, split_path
from auditor.rules._words import common, confidence, first_frames, who


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each pair of roles and port; of many ports, as where Garden's pool was moved, one for all."""
    view = View(judged.connections, holds(judged.connections, "breach", Breach.SSH_PORT))
    view.fold_ports(_MOST_PORTS)
    for group in view.groups():
        numbers = np.unique(view.port[group.inside]).tolist()
        several = len(numbers) > 1
        service = f"{len(numbers):,} ports from {numbers[0]} to {numbers[-1]}" if several else group.service
        block = "these ports" if several else f"port {group.port}"
        yield Finding(
            rule=RULE.name,
            severity=RULE.severity,
            title=f"SSH from {group.originator} to {group.responder} on {service}, outside {HOST_PORTS}",
            detail=(
                f"{who(view, group)} The SSH proxy reaches application instances on host ports {HOST_PORTS}; "
                + (f"{service} of cells are" if several else f"port {group.port} of a cell is")
                + " outside this range."
            ),
            rows=tuple(group.rows.tolist()),
            subject=group.subject,
            path=split_path(group.path),
            confidence=confidence(view, group.inside),
            evidence=first_frames(view, group.inside, "ssh.port", service),
            remediation=(
                f"Find out who on the {group.originator} opened the session, and block {block} of the cells for it. "
                "If Garden's port pool was moved, declare its range in a policy of your own (--policy FILE)."
            ),
            count=len(group.rows),
            sibling=common(view, group.inside, "sibling"),
        )


_MOST_PORTS = 3
"""More unprivileged ports than these are no server's, but a range."""

RULE = Rule("ssh-port-out-of-range", Severity.HIGH, check)
