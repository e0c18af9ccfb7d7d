"""unknown-host: a host that is in no inventory communicates with a Diego VM.

What fires it:   a connection that was established, one end of which is a Diego VM (or a responder and port of a documented path) and the other end is an address
                 in no inventory that lies in a platform network or opened the connection itself. Platform networks are those that the
                 inventory names; where it names none, the /24 (IPv6: /64) around every VM in it. One finding for each such address, service port and transport.
                 So is a service at a link-local, multicast or broadcast address, as no inventory says which machine is behind it; except neighbour
                 discovery, DHCP, time and names.
                 The VMs of the inventory that show the same certificate are named.
                 Critical where the unknown host opened it and got access: its certificate or login was accepted, or a request was answered with success.
What proves it:  the address in the packets, and the inventory at the time of the packets: a lease that had ended does not count.
Why it matters:  the policy says which role may talk to which. An unknown host has no role, so nothing it does is documented, even with the
                 right certificate: use of stolen credentials looks like this.
What to do:      find out which machine had the address at that time (`bosh vms --json`, the IaaS). If BOSH made it since, import a new inventory. A load
                 balancer, jumpbox or Director: list it in the inventory as external. If it is unknown to you, treat it as an intrusion.
How to waive:    add the address to the inventory with its role, or under externals. For a limited time: an entry for this rule in the file given
                 with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Breach
from auditor.model.roles import Rule, Severity
from auditor.rules._certificates import NAMED_VMS, holders_of, leaves_of
from auditor.rules._faults import evidence_of
from auditor.rules._subject import Group, Mask, Rows, View, holds, split_path
from auditor.rules._words import common, confidence, cure, first_frames, near_miss, overlay, sentence, shown, some, who

SHOWN_KINDS = (
    "tls.client_certificates",
    "tls.certificate_verify",
    "nats.connect",
    "mysql.outcome",
    "ssh.login",
    "http.method",
    "http.statuses",
)
"""Evidence of what an unknown host showed and of the answers."""


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
    """By the originator of the connections; access is only as certain as the record lengths that show it."""
    sure = confidence(view, inside)
    doubtful = entered.any() and "high" not in set(view.column("authentication_confidence")[inside][entered])
    return "medium" if doubtful and sure == "high" else sure


def _unknown_leaves(view: View) -> npt.NDArray[np.object_]:
    """The certificate that the unknown end of each connection showed; empty where none was seen."""
    opened = pd.isna(view.column("originator_role")).astype(np.bool_)
    return np.where(opened, leaves_of(view, "client"), leaves_of(view, "server"))


def _also_shown(leaves: npt.NDArray[np.object_], holders: dict[str, list[str]]) -> str:
    """Sentences on the VMs that show the same certificates, with a space before them."""
    told = ""
    for leaf in dict.fromkeys(leaves.tolist()):
        if leaf in holders:
            vms = holders[leaf]
            told += f" {some(vms, NAMED_VMS)} {'shows' if len(vms) == 1 else 'show'} the certificate {leaf[:16]}…, too."
    return told


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each unknown host, other end, service and transport."""
    view = View(judged.connections, holds(judged.connections, "breach", Breach.UNKNOWN_HOST))
    leaves = _unknown_leaves(view)
    holders = holders_of(judged, {each for each in leaves.tolist() if each})
    for group in view.groups():
        sibling = common(view, group.inside, "sibling")
        says = common(view, group.inside, "says")
        dials = pd.isna(view.column("originator_role")[group.inside])
        entered = view.column("entered")[group.inside].astype(np.bool_) & dials
        yield Finding(
            rule=RULE.name,
            severity=Severity.CRITICAL if entered.any() else RULE.severity,
            title=_title(view, group) + (", and got access" if entered.any() else ""),
            detail=who(view, group)
            + sentence(says)
            + shown(view, group.inside)
            + _also_shown(leaves[group.inside], holders)
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
                "Find out which machine had the address at that time. If it is a VM of the platform or an external, add it to the inventory. "
                "Else treat it as an intrusion.",
            ),
            count=len(group.rows),
            sibling=sibling,
        )


RULE = Rule("unknown-host", Severity.HIGH, check)
