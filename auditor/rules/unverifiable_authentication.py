"""unverifiable-authentication: the capture cannot tell whether the documented authentication took place.

What fires it:   connections on declared paths whose verdict is unverifiable: they began before the capture, packets are missing, the handshake is
                 encrypted in a way that lengths do not tell, the session was resumed from one that was not seen. Connections without payload (load
                 balancers probe so) and factors that are hidden by design (OAuth inside TLS) are not counted. Where the client was seen to send an empty
                 certificate, and only what became of it is hidden, that is a finding of its own: it is no honest unknown.
What proves it:  nothing proves it: the finding says what is missing and of how many connections.
Why it matters:  not accused is not acquitted. As info it is a note on the capture; with --strict what cannot be told is a finding of medium severity.
What to do:      start the capture before the components connect, or restart those that hold connections for long; capture both directions and whole
                 packets; give a key log (--keylog) for TLS 1.3.
How to waive:    as info it needs none; with --strict, put an entry for this rule in the file given with --waivers, with reason, owner and end.
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
    "limit": "longer than what is followed of them",
    "encrypted": "encrypted, and lengths do not tell how",
    "no_handshake": "without their handshake",
    "no_payload": "without payload",
    "resumed": "resumed from a session that was not seen",
    "outcome": "whose outcome is hidden",
    "conflict": "whose packets contradict each other",
    "late_certificate": "in which a certificate may have been sent later, under encryption",
    "no_proof": "with a certificate that nothing proves to be the client's",
    "hanging": "accepted and never answered",
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
    """The client was seen to send no certificate although it was asked for one: another thing than not to know."""
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
        mend = "; ".join(dict.fromkeys(MEND[word] for word in ranked if word in MEND))
        on = f" Path {group.path.replace('+', ' or ')}." if group.path else ""
        yield Finding(
            rule=RULE.name,
            severity=severity,
            title=(
                f"{group.responder} asked {group.originator} for a certificate on {group.service} and got an empty one in "
                f"{plural(len(group.rows), 'connection')}; whether it was served does not show"
                if declined
                else f"The capture cannot tell how {group.originator} authenticated with {group.responder} on {group.service} "
                f"in {plural(len(group.rows), 'connection')}"
            ),
            detail=f"{who(view, group)}{on} Undecided: {'; '.join(f'{missing[word]:,} {_lack(word)}' for word in ranked)}.",
            rows=tuple(group.rows.tolist()),
            subject=(*group.subject, "empty") if declined else group.subject,
            path=split_path(group.path),
            confidence="high",
            evidence=first_frames(view, group.inside, "authentication.missing", ",".join(sorted(missing))),
            remediation=f"{mend[:1].upper()}{mend[1:]}." if mend else "",
            count=len(group.rows),
        )


RULE = Rule("unverifiable-authentication", Severity.INFO, check)
