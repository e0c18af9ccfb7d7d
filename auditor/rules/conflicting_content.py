"""conflicting-content: packets of one connection contradict each other.

What fires it:   segments with different content for the same place of the stream (before the receiver acknowledged it, or after), urgent bytes in the first
                 bytes of a stream, segments with a wrong checksum among correct ones, resets and FINs after which the connection continued or with numbers that
                 no receiver accepts, acknowledgements of bytes that were never sent, bytes in a SYN that were not acknowledged, segments
                 without ACK, packets with far fewer hops left than the others of their sender, data from another link address, VLAN or hop count than
                 its sender began with (of connections seen at one place), a client's signature (CertificateVerify, TLS 1.2) that does not match the
                 captured handshake. Severity info; high where the two readings lead to different
                 verdicts, or one of them could not be kept: the verdict is then `unverifiable`, reason `conflict`.
What proves it:  the frames of both readings. Retransmissions that say the same, doubled packets and checksums left to a network card contradict nothing; nor does a SYN that is sent
                 again after a refusal, or Telnet's urgent mark.
Why it matters:  systems differ in which of two segments they use, so whoever can send packets can show an auditor another conversation than the receiver got. It
                 does not happen by chance: without an attacker, only a broken network card or a middlebox makes such packets, and rarely.
What to do:      look at the frames of both readings. Capture at the receiver: what reached it is what it used. A wrong checksum or a hop count that jumps
                 shows the forged packet; its link address shows the machine that sent it.
How to waive:    an entry for this rule in the file given with --waivers, with reason, owner and end date: for example for a known middlebox.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from auditor.model.audit import Judged
from auditor.model.connections import CONTRADICTION
from auditor.model.finding import Finding
from auditor.model.roles import Rule, Severity
from auditor.rules._faults import report_faults
from auditor.rules._subject import Group


def _title(group: Group) -> str:
    return f"Packets from {group.originator} to {group.responder} on {group.service} contradict each other"


def _cure(group: Group) -> str:
    del group
    return "Look at the frames of both readings, and capture at the receiver: what reached it is what it used."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and transport, and for whether a verdict depends on it."""
    for finding in report_faults(judged, RULE, _title, _cure):
        says = "; ".join(
            dict.fromkeys(word for each in finding.evidence if each["kind"] == CONTRADICTION for word in each["value"])
        )
        severity = RULE.severity if finding.subject[-1] == "agrees" else Severity.HIGH
        yield replace(finding, severity=severity, detail=f"{finding.detail} Seen: {says}." if says else finding.detail)


RULE = Rule("conflicting-content", Severity.INFO, check)
