"""The words that findings share: who, how often, how sure, where to look."""

from __future__ import annotations

from collections import Counter
from typing import Any

from auditor.model.evidence import Certainty
from auditor.rules._subject import FIRST_FRAMES, NAMED_ENDS, Group, Rows, View
from auditor.wire.text import known_as

HOW_SURE = (("high", {"syn", "handshake"}), ("medium", {"listener", "policy"}))
"""Confidence of a finding by how the direction of its connections was decided; the best of them counts, a mere guess is low."""

REFUSED = frozenset({"REJ", "RSTR", "RSTRH"})
"""Zeek's states of an attempt that the responder reset."""


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 connection``, ``3 connections``, ``41,233 connections``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def some(names: list[str], most: int = NAMED_ENDS) -> str:
    """``a, b, c and 4 more``."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


def ends(view: View, inside: Rows, which: str) -> str:
    """The distinct addresses of one end, with the names of their VMs, or else their roles; the busiest first."""
    columns = (view.column(f"{which}_{name}")[inside] for name in ("ip", "instance", "role"))
    counted = Counter(zip(*columns, strict=True))
    ranked = sorted(counted, key=lambda each: (-counted[each], str(each[0])))
    named = [(str(ip), known_as(str(ip), instance, role)) for ip, instance, role in ranked]
    return some([f"{ip} ({name})" if name else ip for ip, name in named])


def ports(view: View, inside: Rows) -> list[int]:
    """Distinct service ports, rising."""
    return [port for port in sorted(set(view.port[inside].tolist())) if port >= 0]


def applications(view: View, inside: Rows) -> str:
    """What was spoken, the most frequent first."""
    seen = Counter(view.column("application")[inside])
    return ", ".join(sorted(map(str, seen), key=lambda name: (-seen[name], name)))


def confidence(view: View, inside: Rows) -> str:
    """How sure it is who opened these connections: the best of them decides."""
    seen = set(view.column("direction_by")[inside])
    for word, ways in HOW_SURE:
        if seen & ways:
            return word
    return "low"


def first_frames(view: View, inside: Rows, kind: str, value: Any) -> tuple[dict[str, Any], ...]:
    """Evidence: the first frame of each of the first few connections."""
    first = inside[:FIRST_FRAMES]
    pairs = zip(view.column("capture")[first].tolist(), view.column("first_frame")[first].tolist(), strict=True)
    frames = [[int(capture), int(frame)] for capture, frame in pairs]
    return ({"kind": kind, "value": value, "certainty": Certainty.PROVEN.value, "frames": frames},)


def common(view: View, inside: Rows, column: str) -> str | None:
    """The column's value where all these rows have the same; else None."""
    seen = set(view.column(column)[inside])
    if len(seen) == 1 and isinstance(only := seen.pop(), str) and only:
        return only
    return None


def near_miss(view: View, group: Group) -> str:
    """A sentence on the closest documented path, with a space before it."""
    miss = view.column("near_miss")[group.inside[0]]
    if not isinstance(miss, dict) or not miss.get("path"):
        return " No documented path comes close."
    says = str(miss["says"]).rstrip(".")
    named = "" if str(miss["path"]) in says else f"{miss['path']}: "
    return f" The closest documented path differs in its {miss['differs']}: {named}{says}."


def overlay(sibling: str | None) -> str:
    """A sentence on the shipped policy that would explain it."""
    return f" The shipped policy {sibling} declares it: --policy {sibling}." if sibling else ""


def cure(sibling: str | None, otherwise: str) -> str:
    """What to do; where a shipped policy would explain it, that comes first."""
    if sibling is None:
        return otherwise
    return f"If the platform has what the policy {sibling} declares, audit with --policy {sibling}. Else: {otherwise[:1].lower()}{otherwise[1:]}"


def sentence(text: str | None) -> str:
    """With a capital, a full stop and a space before it; empty for nothing."""
    return f" {text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


def who(view: View, group: Group, noun: str = "connection") -> str:
    """``3 connections from A to B on 8443/tcp (tls).``"""
    spoken = applications(view, group.inside)
    protocol = "" if spoken == "none" else f" ({spoken})"
    return (
        f"{plural(len(group.rows), noun)} from {ends(view, group.inside, 'originator')} "
        f"to {ends(view, group.inside, 'responder')} on {group.service}{protocol}."
    )


SHOWN_NAMED = 3
"""So many different sentences on what was shown are told of one finding."""


def shown(view: View, inside: Rows) -> str:
    """Sentences on what clients showed and the result, the most frequent first, with a space before them."""
    counted = Counter(text for text in view.column("shown")[inside] if isinstance(text, str) and text)
    ranked = sorted(counted, key=lambda text: (-counted[text], text))
    told = "".join(
        sentence(f"{text} ({plural(counted[text], 'connection')})" if len(ranked) > 1 else text)
        for text in ranked[:SHOWN_NAMED]
    )
    more = len(ranked) - SHOWN_NAMED
    return f"{told} There {'is' if more == 1 else 'are'} {more:,} more of this kind." if more > 0 else told
