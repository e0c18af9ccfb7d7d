"""One finding explained: what was seen, what was documented, what would resolve it, what to do."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from auditor.errors import ConfigError
from auditor.incidents.again import DEPENDS, next_of
from auditor.model.audit import Audit
from auditor.report._json import encode
from auditor.report._pairs import Record, findings
from auditor.report._text import clip, escape
from auditor.wire.text import many

SHORTEST_ID = 6
SHOWN_CONNECTIONS = 10
SHOWN_FRAMES = 8
ROOM = 2_000
"""Texts are cut to this length; JSON has all."""


def finding_text(audit: Audit, name: str, width: int = 80) -> str:
    """The finding of this id or fingerprint, or the only one whose id begins so. Raises ConfigError."""
    found = [(finding, first) for finding, first in findings(audit) if name in (finding["id"], finding["fingerprint"])]
    if not found and len(name) >= SHORTEST_ID:
        found = [
            (finding, first)
            for finding, first in findings(audit)
            if str(finding["id"]).startswith(name) or str(finding["fingerprint"]).startswith(name)
        ]
    if len(found) != 1:
        says = f"{len(found)} findings have an id that begins like this" if found else "no finding with this id"
        raise ConfigError(
            name, says, hint=f"{DEPENDS}; list the findings with auditor audit ... --table findings --format csv"
        )
    lines: list[str] = []
    for title, texts in _sections(audit, *found[0]):
        lines += ["", title] if lines else [title]
        for text in texts:
            shown = clip(escape(text), ROOM)
            lines += textwrap.wrap(
                shown, width - 2, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
            )
    return "\n".join(lines) + "\n"


def _sections(audit: Audit, finding: Record, first: Record | None) -> Iterator[tuple[str, list[str]]]:
    sure = "" if finding["confidence"] in (None, "high") else f", confidence {finding['confidence']}"
    yield f"{finding['id']}: {finding['rule']} ({finding['severity']}{sure})", [str(finding["title"])]
    yield "Why it was flagged", [str(finding["detail"]), *_evidence(audit, finding)]
    yield "Where and when", list(_where(finding, first))
    documented = (first or {}).get("disposition") != "undeclared"
    right = list(_judged(first) if documented else _right(finding, first))
    if right:
        yield "What was documented, and what was seen" if documented else "How to resolve it", right
    if finding["remediation"]:
        yield "What to do", [str(finding["remediation"])]
    waived = finding["waived"]
    if waived:
        yield "Waived", [f"by {waived.get('owner')} until {waived.get('until')}: {waived.get('reason')}"]
    yield (
        "More",
        [
            f"auditor explain {finding['rule']}   meaning of the rule, and how to waive it",
            f"{next_of(audit).commands(str(finding['id']))[1]}   its packets",
            f"fingerprint {finding['fingerprint']}, the same in every audit",
        ],
    )


def _evidence(audit: Audit, finding: Record) -> Iterator[str]:
    names = [str(path) for path in audit.captures["path"]]
    for each in finding["evidence"] or ():
        value = each.get("value")
        shown = value if isinstance(value, str) else encode(value).decode()
        places: dict[int, list[int]] = {}
        for capture, frame in each.get("frames") or ():
            places.setdefault(int(capture), []).append(int(frame))
        told = "; ".join(
            f"{names[capture] if capture < len(names) else f'capture {capture}'} frames "
            + ", ".join(map(str, sorted(set(frames))[:SHOWN_FRAMES]))
            + (", ..." if len(set(frames)) > SHOWN_FRAMES else "")
            for capture, frames in sorted(places.items())
        )
        yield f"{each.get('kind')} = {shown} ({each.get('certainty')}){': ' + told if told else ''}"


def _where(finding: Record, first: Record | None) -> Iterator[str]:
    yield f"{many(int(finding['count'] or 0), 'connection')}, {finding['first_seen']} to {finding['last_seen']}"
    if finding["path"]:
        yield f"path {finding['path']} (auditor explain {str(finding['path']).split(',')[0]})"
    if first is not None:
        yield f"the first: {_end(first['originator'])} to {_end(first['responder'])}, {first['transport']} {first['application']}"
    ids = [str(each) for each in finding["connections"]]
    more = f" and {len(ids) - SHOWN_CONNECTIONS:,} more" if len(ids) > SHOWN_CONNECTIONS else ""
    yield f"connections {', '.join(ids[:SHOWN_CONNECTIONS])}{more}"


def _end(end: Record) -> str:
    address = str(end.get("ip"))
    if end.get("port") is not None:
        address = f"[{address}]:{end['port']}" if ":" in address else f"{address}:{end['port']}"
    # What a host in no inventory would be by its port or certificate is no name of it.
    known = end.get("instance") or end.get("role")
    who = ", ".join(
        str(each) for each in (end.get("instance"), end.get("role"), end.get("component")) if each and known
    )
    return f"{address} ({who})" if who else address


def _right(finding: Record, first: Record | None) -> Iterator[str]:
    """What would make the connection a documented one."""
    near: dict[str, Any] = (first or {}).get("near_miss") or {}
    if finding["rule"] == "stolen-credential" or (
        finding["rule"] == "unknown-host" and finding["severity"] == "critical"
    ):
        yield "Contain it first: isolate the host, rotate the certificate or login that it used and all credentials of its owner, and keep the packets (auditor slice --bundle)."
        yield "Only if the host is proven to be the platform's own: add it to the inventory, and audit again."
        return
    if near:
        yield f"The closest documented path is {near.get('path')}; the difference is the {near.get('differs')}: {near.get('says')}."
    yield (
        "It is documented as soon as a policy declares it: auditor policy list shows the shipped policies, auditor policy suggest CAPTURE... drafts one."
    )
    if finding["rule"] == "unknown-host":
        yield "If the host is a VM of the platform, add it to the inventory first."


def _judged(first: Record | None) -> Iterator[str]:
    """What the path of the first connection requires, and what was seen."""
    if first is None:
        yield "None of its connections is in the table."
        return
    judged: dict[str, Any] = first.get("authentication") or {}
    if not judged.get("required"):
        return
    yield f"The path documents {_asked(judged['required'])}. Of the first connection:"
    factors = judged.get("factors") or ()
    for factor in factors:
        yield f"{factor.get('name')} is {factor.get('verdict')}: {factor.get('says')}."
    if judged.get("verdict") in _TOOK_PLACE:
        yield "The documented authentication took place. This finding is about something else and changes no verdict."


_TOOK_PLACE = frozenset({"verified", "inferred", "inherited"})


def _asked(required: Any) -> str:
    """``{"any": ["signed_url", "tls"]}`` as words."""
    if isinstance(required, str):
        return required
    ((word, parts),) = required.items()
    told = [_asked(part) if isinstance(part, str) else f"({_asked(part)})" for part in parts]
    return {"any": " or ", "all": " and "}.get(word, ", ").join(told)
