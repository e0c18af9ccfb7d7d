"""What of a window may leave its VM: what was found in first bytes, never the bytes.

First bytes hold passwords, tokens and tickets, and what masks them leaves no proof in them. So all of them are examined where they were captured, as they are when the window ends; a window's
end cuts no handshake in two, because connections that began shortly before stay for the next one (``agent.AgentFeed``). One whose last word was a request, and which is examined without its
answer, says so: its first bytes count as given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from auditor.conntrack import TrackedPart, examine_held
from auditor.inspectors._examine import Examiner
from auditor.model.connections import HEAD_CUT, ROW_RELEASED, SEEN_FIN, SEEN_RST, SEEN_SYN, SEEN_SYNACK
from auditor.model.facts import Facts
from auditor.model.streams import HEAD_BYTES

_TCP = 6

Array = NDArray[Any]


def may_leave(part: TrackedPart, examiner: Examiner, *, last: bool) -> None:
    """Make the part one that may be sent. ``last``: nothing follows that could answer."""
    for row, (heads, _) in part.pending.items():
        record = part.rows[row]
        if not last and _unanswered(record, heads):
            record["state"] |= ROW_RELEASED
            record["side"]["seen"] |= HEAD_CUT
    examine_held(part, examiner)


def _unanswered(record: Any, heads: Array) -> bool:
    """Whether an open connection's last word is its opener's."""
    seen = record["side"]["seen"]
    if record["proto"] != _TCP or (seen & SEEN_FIN).all() or (seen & SEEN_RST).any():
        return False
    opener = 0 if seen[0] & SEEN_SYN or seen[1] & SEEN_SYNACK else 1
    if not (seen[opener] & SEEN_SYN or seen[1 - opener] & SEEN_SYNACK):
        return False
    if any(int(head["filled_bytes"]) >= HEAD_BYTES for head in heads):
        return False
    said = [int(head["segment_frame"][: head["n_segments"]].max(initial=-1)) for head in heads]
    return said[opener] > said[1 - opener]


def certificates_of(facts: Iterable[Facts | None], der: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those that the facts name."""
    shared = {id(fact.shared): fact.shared for fact in facts if fact is not None}
    named = {
        name
        for each in shared.values()
        for kind, value in each.items()
        if kind.endswith("_certificates") and isinstance(value, tuple)
        for name in value
    }
    return {name: der[name] for name in sorted(named) if name in der}
