"""Elastic Common Schema 9 documents, one a line: events of kind ``event`` for connections, of kind ``alert`` for findings.

Only fields of ECS are used; what it has no field for is under ``labels``, where ECS puts words of one's own (texts, no objects).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from auditor.model.audit import Audit
from auditor.model.roles import Format, Out
from auditor.report import _story as story
from auditor.report._json import encode_lines
from auditor.report._pairs import PROTOCOLS, Record, connections, duration_ns, findings, nanoseconds, present

VERSION = "9.4.0"

_SEVERITIES = {"info": 10, "low": 21, "medium": 47, "high": 73, "critical": 99}
"""``event.severity`` has no scale of its own; these are the scores of Elastic's own rules."""

CHUNK_EVENTS = 4096


def _address(end: Record) -> Record:
    return {
        "ip": end.get("ip"),
        "address": end.get("instance") or end.get("ip"),
        "port": end.get("port"),
        "packets": end.get("packets"),
        "bytes": end.get("bytes"),
    }


def _labels(**words: Any) -> Record:
    """Keywords without dots in their names; a list is one text."""
    return {
        name: ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, value in words.items()
        if value is not None and value not in ("", [], ())
    }


def _tls(facts: Record | None) -> Record | None:
    if not facts:
        return None
    version = facts.get("version")
    return {
        "version": str(version).removeprefix("TLS ") if version else None,
        "version_protocol": "tls" if version else None,
        "cipher": facts.get("cipher"),
        "resumed": facts.get("resumed"),
        "next_protocol": facts.get("alpn"),
        "established": facts.get("server_finished"),
        "client": {"server_name": facts.get("sni")},
    }


def _flow(connection: Record) -> Record:
    """What an event of a connection and an alert on it share."""
    transport = str(connection.get("transport") or "")
    originator, responder = connection["originator"], connection["responder"]
    application = connection.get("application")
    return {
        "source": _address(originator),
        "destination": _address(responder),
        "network": {
            "transport": {"icmp6": "ipv6-icmp"}.get(transport, transport),
            "type": "ipv6" if ":" in str(originator.get("ip")) else "ipv4",
            "iana_number": str(PROTOCOLS[transport]) if transport in PROTOCOLS else None,
            "protocol": application if application not in ("none", "unknown") else None,
            "community_id": connection.get("community_id"),
            "bytes": int(originator.get("bytes") or 0) + int(responder.get("bytes") or 0),
            "packets": int(originator.get("packets") or 0) + int(responder.get("packets") or 0),
        },
        "tls": _tls(connection.get("tls")),
    }


def _observer(audit: Audit) -> Record:
    return {"product": "Diego flow auditor", "type": "auditor", "version": str(audit.info.get("version"))}


def _end(start: str | None, took_ns: int) -> str | None:
    """RFC 3339 of the end of a connection, as exact as its start."""
    if not start:
        return None
    at = nanoseconds(start) + took_ns
    whole = datetime.fromtimestamp(at // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{whole}.{at % 1_000_000_000:09d}Z"


def _event(audit: Audit, connection: Record) -> Record:
    authentication = connection.get("authentication") or {}
    took = duration_ns(connection)
    near = connection.get("near_miss") or {}
    return present(
        {
            "@timestamp": connection.get("start"),
            "ecs": {"version": VERSION},
            "event": {
                "kind": "event",
                "category": ["network"],
                "type": ["connection", "info"],
                "dataset": "auditor.connection",
                "id": connection.get("id"),
                "start": connection.get("start"),
                "end": _end(connection.get("start"), took),
                "duration": took,
            },
            **_flow(connection),
            "observer": _observer(audit),
            "labels": _labels(
                disposition=connection.get("disposition"),
                paths=connection.get("paths"),
                near_miss=near.get("says"),
                verdict=authentication.get("verdict"),
                verdict_confidence=authentication.get("confidence"),
                conn_state=connection.get("conn_state"),
                history=connection.get("history"),
                originator_role=connection["originator"].get("role"),
                originator_component=connection["originator"].get("component"),
                responder_role=connection["responder"].get("role"),
                responder_component=connection["responder"].get("component"),
                client_certificate=(connection.get("tls") or {}).get("client_certificate"),
                findings=connection.get("findings"),
                audit=audit.info.get("id"),
                window=story.window(audit),
            ),
        }
    )


def _alert(audit: Audit, finding: Record, connection: Record | None) -> Record:
    waived = finding.get("waived") or {}
    return present(
        {
            "@timestamp": finding.get("last_seen") or finding.get("first_seen"),
            "ecs": {"version": VERSION},
            "message": finding["title"],
            "event": {
                "kind": "alert",
                "category": ["network"],
                "type": ["connection", "info"],
                "dataset": "auditor.finding",
                "id": finding["id"],
                "start": finding.get("first_seen"),
                "end": finding.get("last_seen"),
                "severity": _SEVERITIES[finding["severity"]],
                "reason": finding.get("detail"),
            },
            "rule": {
                "id": finding["rule"],
                "name": finding["rule"],
                "description": finding["title"],
                "uuid": finding["fingerprint"],
                "ruleset": "auditor",
            },
            **(_flow(connection) if connection else {}),
            "observer": _observer(audit),
            "labels": _labels(
                severity=finding["severity"],
                confidence=finding.get("confidence"),
                path=finding.get("path"),
                status=finding.get("status"),
                count=finding.get("count"),
                remediation=finding.get("remediation"),
                waived_by=waived.get("owner"),
                waived_reason=waived.get("reason"),
                connections=list(finding.get("connections") or ())[:100],
                audit=audit.info.get("id"),
                window=story.window(audit),
            ),
        }
    )


def _warning(audit: Audit, says: str) -> Record:
    """What is doubtful of the inventory or the policy."""
    return {
        "@timestamp": audit.info.get("started"),
        "ecs": {"version": VERSION},
        "message": says,
        "event": {"kind": "event", "category": ["configuration"], "type": ["info"], "dataset": "auditor.warning"},
        "log": {"level": "warning"},
        "observer": _observer(audit),
        "labels": _labels(audit=audit.info.get("id"), window=story.window(audit)),
    }


def _documents(audit: Audit, table: str | None) -> Iterator[Record]:
    if table is None:
        for says in story.warnings(audit):
            yield _warning(audit, says)
    if table in (None, "connections"):
        for connection in connections(audit):
            yield _event(audit, connection)
    if table in (None, "findings"):
        for finding, first in findings(audit):
            yield _alert(audit, finding, first)


def write(audit: Audit, out: Out, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """The documents of the connections, then those of the findings; or of one of both tables. The other tables have none."""
    documents: list[Record] = []
    for document in _documents(audit, table):
        documents.append(document)
        if len(documents) == CHUNK_EVENTS:
            out.write(encode_lines(documents))
            documents.clear()
    out.write(encode_lines(documents) if documents else b"")


FORMAT = Format("ecs", ".ecs.ndjson", write, tables=True)
