"""An incident, the same in every report: one actor, what it did in order of time, and the frames that show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from auditor.policy.times import time_text

LET_IN, CONNECTED, TRIED = "let_in", "connected", "tried"
REACHES = (LET_IN, CONNECTED, TRIED)
"""How far an actor got, the farthest first."""


def listed(names: list[str], most: int = 3) -> str:
    """``a, b, c and 4 more``."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


@dataclass(frozen=True, slots=True)
class Step:
    """One action of an actor, or of others towards it."""

    kind: str
    """sweep, attempt, login, request, connection, called, egress, beacon"""
    says: str
    first_ns: int
    last_ns: int
    count: int
    peers: tuple[str, ...]
    """``10.0.8.40:8889 (diego_database/0)``, the most frequent first."""
    application: str | None
    outcome: str
    """served, refused, unknown; of attempts closed, filtered, silent or mixed"""
    let_in: bool
    sent_bytes: int
    """By the actor."""
    received_bytes: int
    connections: tuple[str, ...]
    """Ids of the first of them."""
    frames: tuple[tuple[int, int], ...]
    """(capture, frame) that show it."""
    command: str
    period_s: float | None = None
    """Of a beacon."""
    jitter_s: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """As the JSON report has it."""
        return {
            "kind": self.kind,
            "says": self.says,
            "first_seen": time_text(self.first_ns),
            "last_seen": time_text(self.last_ns),
            "count": self.count,
            "peers": list(self.peers),
            "application": self.application,
            "outcome": self.outcome,
            "let_in": self.let_in,
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "period_s": self.period_s,
            "jitter_s": self.jitter_s,
            "connections": list(self.connections),
            "connections_left_out": self.count - len(self.connections),
            "frames": [list(each) for each in self.frames],
            "command": self.command,
        }


@dataclass(frozen=True, slots=True)
class Incident:
    """What one actor did."""

    id: str
    """The same for the same actor in every audit."""
    actor: str
    """Name of the VM, or the address."""
    addresses: tuple[str, ...]
    roles: tuple[str, ...]
    """Empty: it is in no inventory."""
    severity: str
    reach: str
    """One of ``REACHES``."""
    first_ns: int
    last_ns: int
    who: str
    how: str
    how_far: str
    proof: str
    credentials: tuple[str, ...]
    reached: tuple[str, ...]
    """The ends that gave it access, or else that it connected to."""
    sent_bytes: int
    received_bytes: int
    outside_bytes: int
    """Sent to addresses outside the platform."""
    connections: int
    findings: tuple[str, ...]
    led_to: tuple[str, ...]
    """Ids of the incidents of those it reached, that began after."""
    steps: tuple[Step, ...]
    command: str
    accused: bool = True
    """False: the story of an address or VM without an accusation, and no incident."""

    @property
    def title(self) -> str:
        """One line."""
        if not self.accused:
            return f"{self.who.rstrip(',')}: {self.how}; {self.how_far}"
        if all(each.kind == "called" for each in self.steps):
            callers = list(dict.fromkeys(peer for each in self.steps for peer in each.peers))
            return f"{self.who} was called by {listed(callers)}"
        became = {
            LET_IN: f"got access to {listed(list(self.reached))}",
            CONNECTED: f"connected to {listed(list(self.reached))}",
            TRIED: "tried without success",
        }[self.reach]
        return f"{self.who} {became}"

    @property
    def when(self) -> str:
        """From the first to the last packet."""
        first, last = time_text(self.first_ns), time_text(self.last_ns)
        same = first[:10] == last[:10]
        shown = last[11:] if same else last
        return f"{first.replace('T', ' ')} to {shown.replace('T', ' ')}"

    @property
    def answers(self) -> tuple[tuple[str, str], ...]:
        """The five questions, answered."""
        if not self.accused:
            shown = (("showed", listed(list(self.credentials), 4)),) if self.credentials else ()
            return (
                ("who", self.who.rstrip(",")),
                ("when", self.when),
                ("did", self.how),
                ("done to it", self.how_far),
                *shown,
                ("proof", self.proof),
            )
        return (
            ("who", self.who.rstrip(",")),
            ("when", self.when),
            ("how", self.how),
            ("how far", self.how_far),
            ("proof", self.proof),
        )

    def as_dict(self) -> dict[str, Any]:
        """As the JSON report has it."""
        return {
            "id": self.id,
            "actor": {
                "name": self.actor,
                "addresses": list(self.addresses),
                "roles": list(self.roles),
                "known": bool(self.roles) or self.actor not in self.addresses,
            },
            "severity": self.severity,
            "reach": self.reach,
            "title": self.title,
            "first_seen": time_text(self.first_ns),
            "last_seen": time_text(self.last_ns),
            "answers": {name.replace(" ", "_"): says for name, says in self.answers},
            "credentials": list(self.credentials),
            "reached": list(self.reached),
            "sent_bytes": self.sent_bytes,
            "received_bytes": self.received_bytes,
            "outside_bytes": self.outside_bytes,
            "connections": self.connections,
            "findings": list(self.findings),
            "led_to": list(self.led_to),
            "steps": [each.as_dict() for each in self.steps],
            "command": self.command,
        }
