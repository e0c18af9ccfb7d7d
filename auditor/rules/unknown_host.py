"""unknown-host: somebody who is in no inventory is on a path of a Diego VM.

What fires it:   a connection that was established, one end of which is a Diego VM (or a responder and port of a documented path) and the other end is an address
                 in no inventory that lies in a platform network or opened the connection itself. Platform networks are those that the
                 inventory names; where it names none, the /24 (IPv6: /64) around every VM in it. One finding for each such address, service port and transport.
                 Critical where the stranger opened it and was let in: a certificate or a login of its was taken, or a request answered with success.
What proves it:  the address in the packets, and the inventory at the time of the packets: a lease that had ended does not count.
Why it matters:  the policy says which role may talk to which. A stranger has no role, so nothing it does is documented, even where it brings the
                 right certificate: stolen credentials look like this.
What to do:      ask who had the address at that time (`bosh vms --json`, the IaaS). A VM that BOSH made since: import a fresh inventory. A load
                 balancer, jumpbox or Director: name it in the inventory as external. Nobody's: treat it as an intrusion.
How to waive:    put the address into the inventory with its role, or among the externals. For a while only: an entry for this rule in the file given
                 with --waivers, with reason, owner and end.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Breach
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import evidence_of
from auditor.rules._subject import Group, Mask, Rows, View, holds, split_path
from auditor.rules._words import common, confidence, cure, first_frames, near_miss, overlay, sentence, shown, who

SHOWN_KINDS = (
    "tls.client_certificates",
    "tls.certificate_verify",
    "nats.connect",
    "mysql.outcome",
    "ssh.login",
    "http.method",
    "http.statuses",
)
"""Evidence of what a stranger showed and of what it was answered."""


def _title(view: View, group: Group) -> str:
    first = group.inside[0]
    stranger_dials = pd.isna(view.column("originator_role")[first])
    stranger_answers = pd.isna(view.column("responder_role")[first])
    if stranger_dials and stranger_answers:
        return f"{group.originator} and {group.responder}, both in no inventory, talk on {group.service}"
    if stranger_dials:
        return f"{group.originator}, in no inventory, talks to {group.responder} on {group.service}"
    return f"{group.originator} talks to {group.responder}, in no inventory, on {group.service}"


def _sure(view: View, inside: Rows, entered: Mask) -> str:
    """By who opened the connections; that somebody was let in is no surer than the lengths of records that show it."""
    sure = confidence(view, inside)
    doubtful = entered.any() and "high" not in set(view.column("authentication_confidence")[inside][entered])
    return "medium" if doubtful and sure == "high" else sure


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each stranger, other end, service and transport."""
    view = View(judged.connections, holds(judged.connections, "breach", Breach.UNKNOWN_HOST))
    for group in view.groups():
        sibling = common(view, group.inside, "sibling")
        says = common(view, group.inside, "says")
        dials = pd.isna(view.column("originator_role")[group.inside])
        entered = view.column("entered")[group.inside].astype(np.bool_) & dials
        yield Finding(
            rule=RULE.name,
            severity=Severity.CRITICAL if entered.any() else RULE.severity,
            title=_title(view, group) + (", and was let in" if entered.any() else ""),
            detail=who(view, group)
            + sentence(says)
            + shown(view, group.inside)
            + near_miss(view, group)
            + overlay(sibling),
            rows=tuple(group.rows.tolist()),
            subject=group.subject,
            path=split_path(group.path),
            confidence=_sure(view, group.inside, entered),
            evidence=(
                *first_frames(view, group.inside, "host.unknown", f"{group.originator} to {group.responder}"),
                *evidence_of(view, np.concatenate([group.inside[entered], group.inside[~entered]]), SHOWN_KINDS),
            ),
            remediation=cure(
                sibling,
                "Ask who had the address at that time. A VM of the platform or an external: add it to the inventory. "
                "Nobody's: treat it as an intrusion.",
            ),
            count=len(group.rows),
            sibling=sibling,
        )


RULE = Rule("unknown-host", Severity.HIGH, check)
