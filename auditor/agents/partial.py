"""What of a window may leave its VM: first bytes that wait are masked, or examined here and left here.

The rule is that of passes (``auditor.pass_state``): bytes are kept only of a handshake or login of TLS, SSH, NATS or MySQL, with what is secret in it masked. All else is examined where
it was captured, and only what was found is sent. Two kinds of connections wait:

- Those whose handshake the window's end cut in two: they were opened in the last ``YOUNG_NS`` of it, or the window before sent their beginning.
- Those of which bytes are missing here that another agent may have seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from numpy.typing import NDArray

from auditor.conntrack import TrackedPart, examine_held
from auditor.inspectors._examine import Examiner
from auditor.inspectors._masked import continues, masked
from auditor.model.connections import SEEN_SYN, SEEN_SYNACK
from auditor.model.facts import Facts
from auditor.model.streams import HEAD_BYTES

YOUNG_NS: Final = 10_000_000_000
"""A handshake that takes longer is none any more."""
MOST_WAITING: Final = 4_096
"""So many connections wait for the next window; of more, the rest is examined as it is."""
_TCP: Final = 6

Array = NDArray[Any]
_Heads = tuple[Array, list[bytes | None]]


@dataclass(slots=True)
class Waiting:
    """Connections whose beginning the window before sent, by their ends; and what it was."""

    begun: dict[tuple[int, ...], list[bytes | None]] = field(default_factory=dict)


def key_of(row: Any) -> tuple[int, ...]:
    """What tells a connection from others at one time."""
    names = ("a_hi", "a_lo", "b_hi", "b_lo", "a_port", "b_port", "proto", "tunnel", "tunnel_id")
    return tuple(int(row[name]) for name in names)


def may_leave(part: TrackedPart, examiner: Examiner, waiting: Waiting) -> None:
    """Make the part one that may be sent; ``waiting`` is what the window before left, and afterwards what this one leaves."""
    end = part.last_ns or 0
    kept: dict[int, _Heads] = {}
    begun: dict[tuple[int, ...], list[bytes | None]] = {}
    for row, pending in sorted(part.pending.items()):
        record = part.rows[row]
        key = key_of(record)
        may = _masked(record, pending, waiting.begun.get(key))
        young = end - int(record["first_ns"]) <= YOUNG_NS
        if may is None or not (young or _lacks(record, pending) or key in waiting.begun):
            continue
        kept[row] = may
        if young and len(begun) < MOST_WAITING:
            begun[key] = may[1]
    part.pending = {row: pending for row, pending in part.pending.items() if row not in kept}
    examine_held(part, examiner)
    part.pending = kept
    waiting.begun = begun


def _masked(record: Any, pending: _Heads, before: list[bytes | None] | None) -> _Heads | None:
    """The heads as they may leave; None where they may not. ``before``: what of it was sent before, where it goes on."""
    heads, data = pending
    opening = bool((record["side"]["seen"] & (SEEN_SYN | SEEN_SYNACK)).any())
    if record["proto"] != _TCP or not (opening or before is not None) or record["odd"]:
        return None
    if any(int(head["filled_bytes"]) >= HEAD_BYTES for head in heads):
        return None
    may = masked(data) if opening or before is None else continues(before, data)
    if may is None:
        return None
    holes = any(
        text is not None and len(text) != int(head["filled_bytes"]) for head, text in zip(heads, data, strict=True)
    )
    # Behind a hole nobody knows what is a secret.
    return None if holes and may != list(data) else (heads, may)


def _lacks(record: Any, pending: _Heads) -> bool:
    """Whether bytes are missing that were sent, as far as the packets tell."""
    heads, data = pending
    for side, head, text in zip(record["side"], heads, data, strict=True):
        told = int(side["acked"]) - int(side["start"]) > 1 or int(side["pkts"]) == 0
        if (text is None and told) or int(head["n_ranges"]) or int(side["n_holes"]) or int(side["lost_bytes"]):
            return True
    return False


def certificates_of(part: TrackedPart, der: Mapping[str, bytes]) -> dict[str, bytes]:
    """Those that the part's facts name."""
    shared: dict[int, Facts] = {
        id(fact.shared): fact for fact in (*part.facts, *(fact for _, fact in part.second.values())) if fact is not None
    }
    named = {
        name
        for fact in shared.values()
        for kind, value in fact.shared.items()
        if kind.endswith("_certificates") and isinstance(value, tuple)
        for name in value
    }
    return {name: der[name] for name in sorted(named) if name in der}
