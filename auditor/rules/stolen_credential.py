"""stolen-credential: an address in no inventory holds a certificate's key that a VM of the platform has.

What fires it:   a connection that an address in no inventory opened with a client certificate and the proof of its key (CertificateVerify), where a VM of
                 the inventory shows the same certificate in the same captures, as a client or as a server. One finding for each unknown address and certificate.
                 A certificate that was shown without its key proves nothing (up to TLS 1.2 it is sent unencrypted), and does not fire.
What proves it:  the certificate's fingerprint and the CertificateVerify in the handshake of the unknown address, and the same fingerprint in a handshake of a VM.
Why it matters:  whoever has the key can act as that VM towards every server that asks for a certificate: BBS, Locket, rep, Cloud Controller. Changing an
                 address or a password does not stop this.
What to do:      find out which machine has the address. A VM that BOSH made since the inventory was written shares the certificates of its instance group: import a
                 fresh inventory. A NAT in front of a VM: add it to the inventory. Else the key was stolen: rotate this certificate and all other credentials of its
                 VM, then look at what the unknown address did (the report's incidents).
How to waive:    add the address to the inventory with its role, or under externals. For a limited time: an entry for this rule in the file given
                 with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from auditor.model.audit import Judged
from auditor.model.facts import signature_fits
from auditor.model.finding import Finding
from auditor.model.judgement import Breach
from auditor.model.roles import Rule, Severity
from auditor.rules._certificates import NAMED_VMS, holders_of, in_inventory, leaves_of
from auditor.rules._faults import evidence_of
from auditor.rules._subject import Rows, View, holds
from auditor.rules._words import confidence, plural, some

_KINDS = ("tls.client_certificates", "tls.certificate_verify", "tls.client_finished")


def _proved(facts: Any) -> bool:
    """The client signed with the key, and nothing contradicts the signature."""
    if facts is None or facts.get("tls.client_certificate") != "sent":
        return False
    return facts.get("tls.certificate_verify") is True and signature_fits(facts) is not False


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each unknown address and certificate."""
    table = judged.connections
    strangers = View(table, holds(table, "breach", Breach.UNKNOWN_HOST) & table["originator_role"].isna().to_numpy())
    if not len(strangers):
        return
    leaves = leaves_of(strangers, "client")
    proved = np.fromiter((_proved(each) for each in strangers.column("facts")), np.bool_, len(strangers))
    shown = {each for each in leaves[proved].tolist() if each}
    if not shown:
        return
    holders = holders_of(judged, shown)
    at: dict[tuple[str, str], list[int]] = {}
    for place in np.flatnonzero(proved).tolist():
        if leaves[place] in holders:
            at.setdefault((str(strangers.column("originator_ip")[place]), str(leaves[place])), []).append(place)
    for (stranger, leaf), places in sorted(at.items()):
        inside = np.array(places, np.intp)
        vms = holders[leaf]
        servers = dict.fromkeys(
            f"{ip}:{port}"
            for ip, port in zip(
                strangers.column("responder_ip")[inside], strangers.column("responder_port")[inside], strict=True
            )
        )
        taken = int(np.count_nonzero(strangers.column("entered")[inside]))
        became = f"{plural(taken, 'server connection')} accepted it" if taken else "no server was seen to accept it"
        yield Finding(
            rule=RULE.name,
            severity=RULE.severity,
            title=f"{stranger}, in no inventory, holds the certificate {leaf[:16]}… of {some(vms, NAMED_VMS)}",
            detail=(
                f"{plural(len(places), 'connection')} from {stranger} to {some(list(servers))} with the client certificate {leaf} and the proof "
                f"of its key; {became}. {some(vms, NAMED_VMS)} {'shows' if len(vms) == 1 else 'show'} the same certificate."
            ),
            rows=tuple(strangers.at[inside].tolist()),
            subject=("", stranger, "*", leaf, "tls"),
            confidence=confidence(strangers, inside),
            evidence=(*evidence_of(strangers, inside, _KINDS), *_beside(judged, leaf, vms[:NAMED_VMS])),
            remediation=(
                "Find out which machine had the address at that time. If it is a VM newer than the inventory, or a NAT in front of one, correct the inventory. "
                "Else rotate this certificate "
                "and all credentials of its VM, and follow what the unknown address did."
            ),
            count=len(places),
        )


def _beside(judged: Judged, leaf: str, vms: list[str]) -> tuple[dict[str, Any], ...]:
    """Where each of these VMs of the inventory shows it first."""
    found: list[dict[str, Any]] = []
    left = set(vms)
    for which, side in (("originator", "client"), ("responder", "server")):
        view = View(judged.connections, in_inventory(judged, which) & judged.connections["tls"].notna().to_numpy())
        leaves, names = leaves_of(view, side), view.column(f"{which}_instance")
        inside: Rows = np.flatnonzero(leaves == leaf).astype(np.intp)
        first: dict[str, int] = {}
        for row in inside.tolist():
            if str(names[row]) in left:
                first.setdefault(str(names[row]), row)
        left -= set(first)
        shown = evidence_of(view, np.array(list(first.values()), np.intp), (f"tls.{side}_certificates",))
        found += [{**one, "kind": f"peer.{one['kind']}"} for one in shown]
    return tuple(found)


RULE = Rule("stolen-credential", Severity.CRITICAL, check)
