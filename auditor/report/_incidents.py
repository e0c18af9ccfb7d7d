"""Incidents in text reports: the answers to the five questions first, then the steps in order of time.

Texts here are raw; the formats escape them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from auditor.incidents import Incident, Step, host_of, of
from auditor.model.audit import Audit
from auditor.policy.times import time_text

ANSWERED = 3
"""How many incidents are shown with their five answers at the top of a report; the others with their title only."""
TITLED = 10
SHOWN = 20
"""How many incidents are shown step by step."""
SHOWN_STEPS = 40


def incidents(audit: Audit) -> tuple[Incident, ...]:
    """Those of the audit, the most successful first."""
    return of(audit)


def heading(number: int, count: int, each: Incident) -> str:
    """``Incident 1 of 3, critical: ...``."""
    if not each.accused:
        return f"Host {each.title}"
    return f"Incident {number} of {count}, {each.severity}: {each.title}"


def head(audit: Audit) -> Iterator[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """(severity, line, answers) of the incidents at the head of a report; a last line where there are more."""
    host, found = host_of(audit), incidents(audit)
    if host is not None:
        yield host.severity, heading(0, 0, host), host.answers[1:]
    for number, each in enumerate(found[:TITLED], 1):
        urgent = number == 1 or (number <= ANSWERED and each.severity == "critical")
        answers = each.answers[1:] if urgent else ()
        yield each.severity, heading(number, len(found), each), answers
    if len(found) > TITLED:
        yield "info", f"and {len(found) - TITLED:,} more incidents (--format json has all)", ()


def without_command(answer: str) -> tuple[str, str]:
    """An answer, and the command at its end by itself; empty where it has none."""
    says, found, command = answer.rpartition("; auditor slice ")
    return (says, f"auditor slice {command}") if found else (answer, "")


def when(step: Step) -> str:
    """The time of a step, and how long it went on."""
    first = time_text(step.first_ns)[11:].rstrip("Z")
    whole, _, rest = first.partition(".")
    took = (step.last_ns - step.first_ns) / 1e9
    lasted = "" if took < 1 else f" ({took:,.0f} s)" if took < 600 else f" ({took / 60:,.0f} min)"
    return f"{whole}.{(rest or '0')[:3]:<03}{lasted}"


def frames(audit: Audit, step: Step) -> str:
    """``frames 12, 13``, with the capture where there are several."""
    by: dict[int, list[int]] = {}
    for capture, frame in step.frames:
        by.setdefault(capture, []).append(frame)
    names = [str(path) for path in audit.captures["path"]] if len(audit.captures) else []
    told = []
    for capture, numbers in by.items():
        name = names[capture] if capture < len(names) else f"capture {capture}"
        place = "" if len(names) < 2 else f"{name} "
        told.append(f"{place}frame{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}")
    return "; ".join(told)


def numbered(audit: Audit) -> Iterator[tuple[str, Incident]]:
    """Heading and story of the incidents that are shown step by step."""
    host, found = host_of(audit), incidents(audit)
    if host is not None:
        yield heading(0, 0, host), host
    for number, each in enumerate(found[:SHOWN], 1):
        yield heading(number, len(found), each), each


def host_record(audit: Audit) -> dict[str, Any] | None:
    """The story of the one that the audit was narrowed to, as the JSON report has it; None where there is none, or its incident is its story."""
    host = host_of(audit)
    if host is None:
        return None
    told = host.as_dict()
    return {name: told[name] for name in _OF_HOST}


_OF_HOST = ("actor", "title", "first_seen", "last_seen", "answers", "credentials", "sent_bytes", "received_bytes", "connections", "findings", "steps", "command")  # fmt: skip


def records(audit: Audit) -> list[dict[str, Any]]:
    """As the JSON report has them."""
    return [each.as_dict() for each in incidents(audit)]
