"""certificate-identity: a certificate does not belong to the VM that showed it.

What fires it:   names by table: the common name and DNS names of a leaf belong, in an identity table, to components of which none can run on the VM
                 that showed it, nor, for a client certificate, is the service being called. A table makes findings only where the operator declares it for
                 this deployment (a policy's own identities, `--policy cf-deployment-names`), or where the captures confirm it: at least three of
                 its names where they belong, from one authority, three for each that contradicts it, and the peers show the right names.
                 Peers: one VM of an instance group shows another name, or chains to another authority, than the other VMs at the same
                 service; a name that another role shows moves there; two VMs have one key, where each of the others has its own; a
                 certificate names another VM's address, where the others name their own. It takes three VMs, or two with three
                 connections each, and the confidence says how many agreed.
                 Names are compared without case, with `-`, `_` and space alike; digits, addresses and GUIDs stand for any; the
                 organizational unit is never looked at. Instance identities of applications differ on purpose and are left out. A name
                 that is in no table is not a finding by itself, unless a policy says `names: strict`; a name that all VMs of a role show is this
                 deployment's convention, and is reported once (info).
What proves it:  the certificate as captured, the inventory's entry for the address, and the peers' certificates (`peer.` in the evidence).
                 TLS 1.3 certificates are visible only with keys.
Why it matters:  a certificate of one component on another VM was copied, or the address is not the VM that the inventory names. Diego's
                 servers check the authority only, not the name, so they will not notice.
What to do:      check the inventory first: a moved VM with an old inventory looks like this, and so does the first VM of a rotation. Then find out
                 how the key got there, and rotate it. Where the info line lists the right names, declare them: `auditor policy suggest` drafts
                 the table.
How to waive:    where a deployment shares certificates on purpose, add the name and its components to the identities of a policy of your own
                 (--policy FILE); for a limited time, put an entry for this rule in the file given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import CONVENTION
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import fault_rows, report_faults
from auditor.rules._subject import Group, View
from auditor.rules._words import first_frames, plural, some

_ROLES_NAMED = 6

_UNLIKE = {
    "peers": "A certificate unlike its peers' was shown",
    "authority": "A certificate of a different authority than its peers' was shown",
    "key": "A certificate with the key of another VM was shown",
    "address": "A certificate that names another VM was shown",
}
"""By the second word of a fault's subject."""


def _title(group: Group) -> str:
    return f"A certificate that belongs elsewhere was shown between {group.originator} and {group.responder} on {group.service}"


def _remediation(_group: Group) -> str:
    return "Check the inventory; if it is right, find out how that key came to this VM, and rotate it."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and kind of fault; one for all names that are this deployment's own."""
    for finding in report_faults(judged, RULE, _title, _remediation):
        about = finding.subject[-1].split(" ")
        unlike = _UNLIKE.get(about[1]) if len(about) > 1 else None
        ends = finding.title.partition(" between ")[2]
        yield replace(finding, title=f"{unlike} between {ends}") if unlike else finding
    yield from _convention(judged)


def _convention(judged: Judged) -> Iterator[Finding]:
    found = fault_rows(judged, CONVENTION)
    if not found:
        return
    rows = np.unique(np.concatenate(list(found.values())))
    chosen = np.zeros(len(judged.connections), np.bool_)
    chosen[rows] = True
    view = View(judged.connections, chosen)
    says = [f"{fault.says} ({len(each):,})" for fault, each in found.items()]
    names = plural(len(says), "certificate name is", "certificate names are")
    yield Finding(
        rule=RULE.name,
        severity=Severity.INFO,
        title=f"{names} this deployment's own: no table has {'it' if len(says) == 1 else 'them'}",
        detail=f"{plural(len(rows), 'connection shows', 'connections show')} names that all VMs of a role show: {some(says, _ROLES_NAMED)}. This is not a fault.",
        rows=tuple(rows.tolist()),
        subject=("", "", "", "", "tls", CONVENTION),
        evidence=first_frames(view, np.arange(len(view), dtype=np.intp), "connection.opened", "tls"),
        remediation="Check them; if they are right, declare them (`auditor policy suggest` drafts the table): a certificate on another VM is then found by its name alone.",
        count=len(rows),
    )


RULE = Rule("certificate-identity", Severity.HIGH, check)
