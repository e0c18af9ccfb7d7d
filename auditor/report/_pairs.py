"""Connections and findings as one event each, for formats of other systems: what several of them need in the same way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from auditor.model.audit import Audit
from auditor.report._records import records

Record = dict[str, Any]

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmp6": 58, "sctp": 132}
"""IANA protocol numbers of the transports."""


def connections(audit: Audit) -> Iterator[Record]:
    """Every connection as the JSON report has it."""
    for chunk in records(audit, "connections"):
        yield from chunk


def findings(audit: Audit) -> Iterator[tuple[Record, Record | None]]:
    """Every finding, with the first of its connections."""
    found = [finding for chunk in records(audit, "findings") for finding in chunk]
    wanted = {finding["connections"][0] for finding in found if finding["connections"]}
    first = {each["id"]: each for each in connections(audit) if each["id"] in wanted} if wanted else {}
    for finding in found:
        yield finding, first.get(finding["connections"][0]) if finding["connections"] else None


def began_ns(audit: Audit) -> int:
    """The time of the audit: used by warnings, which have no packet time."""
    began = audit.info.get("started")
    if isinstance(began, datetime):
        return int(began.timestamp() * 1_000) * 1_000_000
    return nanoseconds(began)


def milliseconds(time: str | None) -> int:
    """RFC 3339 as milliseconds since 1970; 0 where there is no time."""
    return nanoseconds(time) // 1_000_000


def nanoseconds(time: str | None) -> int:
    """RFC 3339 in UTC, with any number of digits behind the second, as nanoseconds since 1970; 0 where there is no time."""
    if not time:
        return 0
    whole, _, fraction = time.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 1_000_000_000 + int((fraction or "0").ljust(9, "0")[:9])


def duration_ns(connection: Record) -> int:
    """Of a connection."""
    return round(float(connection.get("duration") or 0.0) * 1e9)


def present(record: Record) -> Record:
    """Without what is missing or empty, at any depth."""
    kept = {key: present(value) if isinstance(value, dict) else value for key, value in record.items()}
    return {key: value for key, value in kept.items() if value not in (None, "", {}) and value != []}
