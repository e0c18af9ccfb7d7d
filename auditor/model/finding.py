"""What the owner of the platform should know."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from auditor.model.roles import Severity


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault, with the connections that show it."""

    rule: str
    severity: Severity
    title: str
    """One line; no text from the wire without going through the report's escaping."""
    detail: str
    rows: tuple[int, ...]
    """Positions in the connections table, rising."""
    subject: tuple[str, ...]
    """What makes it this finding and not another, for the fingerprint: path or empty, originator role (or address), responder role (or address),
    service port (or the name of the range), protocol."""
    path: str | None = None
    confidence: str | None = "high"
    evidence: tuple[dict[str, Any], ...] = ()
    """{kind, value, certainty, frames: [[capture index, frame], ...]}"""
    remediation: str = ""
    count: int = 0
    """Connections concerned; ``rows`` may be a sample of them when it is larger."""
    sibling: str | None = None
    """Shipped overlay policy that would explain it."""
    extra: dict[str, Any] = field(default_factory=dict)
