"""What is known of a connection before its authentication is judged, and the words of a judgement.

Two rules keep judgements honest where packets are missing:

- What was seen stays seen: a request in the clear that was answered proves the same with or without the packets around it.
- What was *not* seen proves something only where it could not have hidden: a conclusion from absence (no data followed, no certificate
  crossed, nobody asked) needs the bytes it speaks of to be there. So a visible gap moves a verdict towards unverifiable and no other way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from auditor.model.judgement import VERDICT_RANK, Fault, Verdict

HIDDEN = "hidden"
"""``missing``: a factor that encryption hides by design; nothing of the capture would show it."""

_RANK = {"high": 0, "medium": 1, "low": 2}


def weaker(*confidences: str | None) -> str | None:
    """The least of these confidences; None where none is given."""
    given = [each for each in confidences if each is not None]
    return max(given, key=_RANK.__getitem__) if given else None


@dataclass(frozen=True, slots=True)
class Observation:
    """A connection as far as its authentication is concerned."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    application: str = "unknown"
    first_bytes: bool = True
    one_way: bool = False
    midstream: bool = False
    lossy: bool = False
    """Bytes are missing that may belong to its first ones: holes, a short snapshot length, heads handed on early."""
    snapped: bool = False
    """The snapshot length cut packets of it short."""
    closed_by: str = ""
    """Who sent the first FIN or RST: client, server; empty: it was open at the end of the capture."""
    reset: bool = False
    """That first one was a RST."""
    answered: bool = False
    """The responder sent payload."""
    host_port: bool = False
    """A brain at a cell's host port, 61001-65534."""
    unread: bool = False
    """Requests were answered that lie behind the first bytes and were not read."""

    @property
    def whole(self) -> bool:
        """No bytes of its beginning are missing: what was not seen did not happen."""
        return not (self.one_way or self.midstream or self.lossy)

    @property
    def lacks(self) -> str | None:
        """What the capture lacks, one word, or None."""
        if self.midstream:
            return "midstream"
        if self.one_way:
            return "one_way"
        if self.lossy or not self.first_bytes:
            return "snaplen" if self.snapped else "gap" if self.lossy else "midstream"
        return None

    @property
    def closing(self) -> str:
        """How it ended, in words."""
        return f"the {self.closed_by} {'reset' if self.reset else 'closed'} the connection"


@dataclass(frozen=True, slots=True)
class Said:
    """What is said of one factor, or of several together."""

    verdict: Verdict
    says: str
    confidence: str | None = None
    missing: str | None = None
    faults: tuple[Fault, ...] = ()
    kinds: tuple[str, ...] = ()
    counted: bool = True
    factors: tuple[tuple[str, Said], ...] = ()
    """Of a combination: the factors by name."""

    @property
    def rank(self) -> int:
        """The lower the worse."""
        return VERDICT_RANK[self.verdict]


def unverifiable(missing: str, says: str, *kinds: str, counted: bool = True) -> Said:
    """The capture cannot tell."""
    return Said(Verdict.UNVERIFIABLE, says, None, missing, (), kinds, counted)


def hidden(what: str, *kinds: str) -> Said:
    """Encryption hides it by design."""
    return unverifiable(HIDDEN, f"{what}: hidden inside TLS, by design", *kinds, counted=False)


def rejected(says: str, *kinds: str, confidence: str = "high") -> Said:
    """Either end refused the attempt."""
    return Said(Verdict.REJECTED, says, confidence, None, (), kinds)


def violated(rule: str | None, says: str, *kinds: str, confidence: str = "high") -> Said:
    """Something else was accepted; ``rule`` names the fault, None: another judgement names it already."""
    if confidence == "low":
        return unverifiable("encrypted", says, *kinds)
    faults = () if rule is None else (Fault(rule, says, confidence, kinds),)
    return Said(Verdict.VIOLATED, says, confidence, None, faults, kinds)


def all_of(parts: list[Said]) -> Said:
    """The worst of several: each is asked for."""
    worst = min(parts, key=lambda part: part.rank)
    blind = [part for part in parts if part.verdict is Verdict.UNVERIFIABLE]
    if worst.verdict is Verdict.UNVERIFIABLE:
        worst = next((part for part in blind if part.counted), worst)
    confidence = weaker(*(part.confidence for part in parts if part.verdict is worst.verdict))
    return Said(
        worst.verdict,
        worst.says,
        confidence,
        worst.missing,
        tuple(dict.fromkeys(fault for part in parts for fault in part.faults)),
        tuple(dict.fromkeys([*worst.kinds, *(kind for part in parts for kind in part.kinds)])),
        worst.counted,
        _factors(parts),
    )


def any_of(parts: list[Said]) -> Said:
    """The best of several: one of them suffices."""
    best = max(parts, key=lambda part: part.rank)
    if best.verdict is Verdict.UNVERIFIABLE:
        best = next((part for part in parts if part.verdict is Verdict.UNVERIFIABLE and part.counted), best)
    return Said(
        best.verdict,
        best.says,
        best.confidence,
        best.missing,
        best.faults,
        best.kinds,
        best.counted,
        _factors(parts),
    )


def _factors(parts: list[Said]) -> tuple[tuple[str, Said], ...]:
    found: dict[str, Said] = {}
    for part in parts:
        for name, said in part.factors:
            found.setdefault(name, said)
    return tuple(found.items())
