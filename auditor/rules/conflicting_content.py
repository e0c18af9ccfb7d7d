"""conflicting-content: packets of one connection contradict each other.

What fires it:   segments that say different things for one place of the stream (before the receiver acknowledged it, or after), urgent bytes in the first
                 bytes of a stream, segments with a wrong checksum beside right ones, resets and FINs after which the connection went on or with numbers that
                 no receiver takes, acknowledgements of bytes that were never sent, bytes in a SYN that were not acknowledged, segments
                 without ACK, packets with far fewer hops left than the others of their sender, data from another link address, VLAN or hop count than
                 its sender began with (of connections seen at one place), a client's signature (CertificateVerify, TLS 1.2) that does not fit the
                 handshake as it was seen. Severity info; high where the two readings lead to different
                 verdicts, or one of them could not be kept: the verdict is then `unverifiable`, reason `conflict`.
What proves it:  the frames of both readings. Retransmissions that say the same, doubled packets and checksums left to a network card contradict nothing; nor does a SYN that is sent
                 again after a refusal, or Telnet's urgent mark.
Why it matters:  systems differ in which of two segments they take, so who can send packets can show an auditor another talk than the receiver had. By
                 itself it does not happen: of honest traffic, a broken card or a middlebox makes such packets, and seldom.
What to do:      look at the frames of both readings. Capture at the receiver: what reached it is what it took. A wrong checksum or a hop count that jumps
                 names the forged packet; its link address names the machine that sent it.
How to waive:    an entry for this rule in the file given with --waivers, with reason, owner and end: a middlebox that is known, say.
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
    return "Look at the frames of both readings, and capture at the receiver: what reached it is what it took."


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and transport, and for whether a verdict hangs on it."""
    for finding in report_faults(judged, RULE, _title, _cure):
        says = "; ".join(
            dict.fromkeys(word for each in finding.evidence if each["kind"] == CONTRADICTION for word in each["value"])
        )
        severity = RULE.severity if finding.subject[-1] == "agrees" else Severity.HIGH
        yield replace(finding, severity=severity, detail=f"{finding.detail} Seen: {says}." if says else finding.detail)


RULE = Rule("conflicting-content", Severity.INFO, check)
