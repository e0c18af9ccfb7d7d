"""capture-incomplete: packets are missing that a verdict needs.

What fires it:   a connection on a declared path whose authentication could not be determined, and of which the capture lacks something: its opening
                 (midstream), one of its directions (one_way), packets in the middle (gap), or the ends of packets (snaplen).
                 Connections whose verdict did not need the missing packets are not counted, nor are attempts and traffic on no path. Also
                 undeclared attempts whose SYN was not captured: a reset alone shows an attempt, but not which end made it.
What proves it:  sequence and acknowledgement numbers that name bytes which were not captured; captured lengths below the lengths on the wire.
Why it matters:  a clean report from half a capture does not mean a clean platform. What could not be judged may be wrong.
What to do:      midstream: start the capture before the components, or restart the component that holds long connections (BBS event streams, Locket, NATS).
                 one_way: capture at the other end too, or on both interfaces. gap: give tcpdump a larger buffer (-B) and a filter.
                 snaplen: capture whole packets (-s 0; the examples of `bosh pcap` that cut at 64 bytes keep no TLS handshake).
How to waive:    no waiver is needed: the severity is info. How much undecided traffic makes an audit incomplete (exit status 3) is set with
                 --max-undecided; --allow-incomplete accepts an incomplete audit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Outcome, Verdict
from auditor.model.roles import Rule, Severity
from auditor.rules._subject import View, holds, split_path
from auditor.rules._sweep import fragments
from auditor.rules._words import ends, first_frames, plural, who

LACKS = {
    "midstream": "begun before the capture",
    "one_way": "seen in one direction only",
    "gap": "with packets missing",
    "snaplen": "cut short by the snapshot length",
}
MEND = {
    "midstream": "start the capture before the components connect",
    "one_way": "capture at the other end too",
    "gap": "give the capture a larger buffer or a narrower filter",
    "snaplen": "capture whole packets (-s 0)",
}


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of roles, service and transport."""
    table = judged.connections
    lacking = ~(holds(table, "incomplete", "") | table["incomplete"].isna().to_numpy())
    view = View(
        table,
        holds(table, "outcome", Outcome.ESTABLISHED)
        & holds(table, "authentication_verdict", Verdict.UNVERIFIABLE)
        & lacking,
    )
    for group in view.groups():
        kinds = Counter(
            kind.strip()
            for text in view.column("incomplete")[group.inside]
            for kind in str(text).split(",")
            if kind.strip()
        )
        ranked = sorted(kinds, key=lambda kind: (-kinds[kind], kind))
        lacks = ", ".join(f"{kinds[kind]:,} {LACKS.get(kind, kind)}" for kind in ranked)
        hint = "; ".join(MEND[kind] for kind in ranked if kind in MEND)
        yield Finding(
            rule=RULE.name,
            severity=RULE.severity,
            title=f"{plural(len(group.rows), 'connection')} from {group.originator} to {group.responder} on {group.service} cannot be judged: packets are missing",
            detail=(
                f"{plural(len(group.rows), 'connection')} from {ends(view, group.inside, 'originator')} to "
                f"{ends(view, group.inside, 'responder')} on {group.service}: {lacks}."
            ),
            rows=tuple(group.rows.tolist()),
            subject=group.subject,
            path=split_path(group.path),
            confidence="high",
            evidence=first_frames(view, group.inside, "capture.incomplete", ",".join(sorted(kinds))),
            remediation=f"{hint[:1].upper()}{hint[1:]}." if hint else "",
            count=len(group.rows),
        )
    yield from _fragments(judged)


def _fragments(judged: Judged) -> Iterator[Finding]:
    """Resets of unseen attempts on no documented path, one finding for each pair of ends, service and transport."""
    view = View(judged.connections, fragments(judged.connections))
    for group in view.groups():
        yield Finding(
            rule=RULE.name,
            severity=RULE.severity,
            title=f"Resets between {group.originator} and {group.responder} on {group.service} cannot be judged: the packets that they answer were not captured",
            detail=f"{who(view, group, 'fragment')} It is not known which end tried what.",
            rows=tuple(group.rows.tolist()),
            subject=(*group.subject, "fragment"),
            confidence="low",
            evidence=first_frames(view, group.inside, "capture.incomplete", plural(len(group.rows), "fragment")),
            remediation="Capture both directions, at the ends.",
            count=len(group.rows),
        )


RULE = Rule("capture-incomplete", Severity.INFO, check)
