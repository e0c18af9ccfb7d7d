"""What of a window may leave its VM: first bytes that wait are masked, or examined here and left here.

The rule is that of passes (``auditor.pass_state``): bytes are kept only of a handshake or login of TLS, SSH, NATS or MySQL, with what is secret in it masked. All else is examined where
it was captured, and only what was found is sent. What waits is connections of which bytes are missing here that another agent may have seen.

A window's end cuts no handshake in two: connections that began shortly before stay for the next window (``agent.AgentFeed``). One whose last word was a request, and which is examined
without its answer, says so: its first bytes count as given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import NDArray

from auditor.conntrack import TrackedPart, examine_held
from auditor.inspectors._examine import Examiner
from auditor.inspectors._masked import masked
from auditor.model.connections import HEAD_CUT, ROW_RELEASED, SEEN_FIN, SEEN_RST, SEEN_SYN, SEEN_SYNACK
from auditor.model.facts import Facts
from auditor.model.streams import HEAD_BYTES

_TCP = 6

Array = NDArray[Any]
_Heads = tuple[Array, list[bytes | None]]


def may_leave(part: TrackedPart, examiner: Examiner, *, last: bool) -> None:
    """Make the part one that may be sent. ``last``: nothing follows that could answer."""
    kept: dict[int, _Heads] = {}
    for row, pending in part.pending.items():
        record = part.rows[row]
        may = _masked(record, pending) if _lacks(record, pending) else None
        if may is not None:
            kept[row] = may
        elif not last and _unanswered(record, pending[0]):
            record["state"] |= ROW_RELEASED
            record["side"]["seen"] |= HEAD_CUT
    part.pending = {row: pending for row, pending in part.pending.items() if row not in kept}
    examine_held(part, examiner)
    part.pending = kept


def _masked(record: Any, pending: _Heads) -> _Heads | None:
    """The heads as they may leave; None where they may not."""
    heads, data = pending
    opening = bool((record["side"]["seen"] & (SEEN_SYN | SEEN_SYNACK)).any())
    if record["proto"] != _TCP or not opening or record["odd"]:
        return None
    if any(int(head["filled_bytes"]) >= HEAD_BYTES for head in heads):
        return None
    may = masked(data)
    holes = any(
        text is not None and len(text) != int(head["filled_bytes"]) for head, text in zip(heads, data, strict=True)
    )
    # Behind a hole nobody knows what is a secret.
    return None if may is None or (holes and may != list(data)) else (heads, may)


def _lacks(record: Any, pending: _Heads) -> bool:
    """Whether bytes are missing that were sent, as far as the packets tell."""
    heads, data = pending
    for side, head, text in zip(record["side"], heads, data, strict=True):
        told = int(side["acked"]) - int(side["start"]) > 1 or int(side["pkts"]) == 0
        if (text is None and told) or int(head["n_ranges"]) or int(side["n_holes"]) or int(side["lost_bytes"]):
            return True
    return False


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
