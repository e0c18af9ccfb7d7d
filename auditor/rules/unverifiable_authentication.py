"""unverifiable-authentication: the capture does not show whether the documented authentication took place.

What fires it:   connections on declared paths whose verdict is unverifiable: they began before the capture, packets are missing, the handshake is
                 encrypted so that lengths do not show it, the session was resumed from one that was not seen. Connections without payload (load
                 balancers probe so) and factors that are hidden by design (OAuth inside TLS) are not counted. Where the client was seen to send an empty
                 certificate, and only the result is hidden, there is a separate finding: more is known there than in the other cases.
What proves it:  nothing: the finding says what is missing, for how many connections.
Why it matters:  these connections may be right or wrong. With severity info it is a note on the capture; with --strict it is a finding of medium severity.
What to do:      start the capture before the components connect, or restart those that keep connections open for long; capture both directions and whole
                 packets; give a key log (--keylog) for TLS 1.3.
How to waive:    not needed for severity info; with --strict, put an entry for this rule in the file given with --waivers, with reason, owner and end date.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from auditor.model.audit import Judged
from auditor.model.finding import Finding
from auditor.model.judgement import Disposition, Verdict
from auditor.model.roles import Rule, Severity
from auditor.rules._failing import failing
from auditor.rules._subject import View, holds, split_path
from auditor.rules._words import first_frames, plural, who

LACKS = {
    "midstream": "begun before the capture",
    "one_way": "seen in one direction only",
    "gap": "with packets missing",
    "snaplen": "cut short by the snapshot length",
    "limit": "longer than the followed part",
    "encrypted": "encrypted, and lengths do not show how",
    "no_handshake": "without their handshake",
    "no_payload": "without payload",
    "resumed": "resumed from a session that was not seen",
    "outcome": "whose outcome is hidden",
    "conflict": "whose packets contradict each other",
    "late_certificate": "in which a certificate may have been sent later, under encryption",
    "no_proof": "with a certificate, without proof that the client holds its key",
    "hanging": "accepted but never answered",
}
"""``Authentication.missing`` in words."""
MEND = {
    "midstream": "start the capture before the components connect",
    "no_handshake": "start the capture before the components connect",
    "resumed": "start the capture before the components connect",
    "one_way": "capture at the other end too",
    "gap": "give the capture a larger buffer or a narrower filter",
    "snaplen": "capture whole packets (-s 0)",
    "encrypted": "give a key log (--keylog)",
    "outcome": "give a key log (--keylog)",
    "conflict": "capture at the receiver",
    "late_certificate": "give a key log (--keylog)",
    "no_proof": "capture the whole handshake",
}


_EMPTY = "\x1fempty"


def _declined(tls: Any) -> bool:
    """The client was seen to send no certificate although it was asked for one: more is known here than nothing."""
    return isinstance(tls, dict) and tls.get("client_certificate") in ("empty", "not_sent", "inferred_empty")


def _lack(word: str) -> str:
    return LACKS.get(word, f"undecided ({word.replace('_', ' ')})")


def check(judged: Judged) -> Iterator[Finding]:
    """One finding for each path, pair of ends, service and transport."""
    table = judged.connections
    counted = np.asarray(table["authentication_counted"].fillna(True), dtype=np.bool_)
    _, hang = failing(judged)
    # What hangs on a documented path is documented-path-failing: no capture would tell more of it.
    outage = hang & holds(table, "disposition", Disposition.DOCUMENTED)
    view = View(table, holds(table, "authentication_verdict", Verdict.UNVERIFIABLE) & counted & ~outage)
    severity = Severity.MEDIUM if judged.options.get("strict") else RULE.severity
    empty = np.fromiter((_declined(tls) for tls in view.column("tls")), np.bool_, len(view))
    kinds = np.where(empty, _EMPTY, "").astype(object) if len(view) else np.zeros(0, object)
    for group in view.groups(protocol=view.column("transport") + kinds):
        declined = group.protocol.endswith(_EMPTY)
        group = replace(group, protocol=group.protocol.removesuffix(_EMPTY))  # noqa: PLW2901
        missing = Counter(
            "hanging" if stuck else word if isinstance(word, str) and word else "unknown"
            for stuck, word in zip(hang[group.rows], view.column("authentication_missing")[group.inside], strict=True)
        )
        ranked = sorted(missing, key=lambda word: (-missing[word], word))
        hint = "; ".join(dict.fromkeys(MEND[word] for word in ranked if word in MEND))
        on = f" Path {group.path.replace('+', ' or ')}." if group.path else ""
        yield Finding(
            rule=RULE.name,
            severity=severity,
            title=(
                f"{group.responder} asked {group.originator} for a certificate on {group.service} and got an empty one in "
                f"{plural(len(group.rows), 'connection')}; it is not known whether it was served"
                if declined
                else f"The capture does not show how {group.originator} authenticated with {group.responder} on {group.service} "
                f"in {plural(len(group.rows), 'connection')}"
            ),
            detail=f"{who(view, group)}{on} Undecided: {'; '.join(f'{missing[word]:,} {_lack(word)}' for word in ranked)}.",
            rows=tuple(group.rows.tolist()),
            subject=(*group.subject, "empty") if declined else group.subject,
            path=split_path(group.path),
            confidence="high",
            evidence=first_frames(view, group.inside, "authentication.missing", ",".join(sorted(missing))),
            remediation=f"{hint[:1].upper()}{hint[1:]}." if hint else "",
            count=len(group.rows),
        )


RULE = Rule("unverifiable-authentication", Severity.INFO, check)
