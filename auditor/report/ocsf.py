"""OCSF 1.7.0 events, one a line: Network Activity (class 4001) for connections, Detection Finding (class 2004) for findings.

A certificate or an SNI that is not there is left out: in TLS 1.3 they are encrypted. What OCSF has no word for (the documented path, the
verdict and how it was reached) is under ``unmapped``. A connection without a verdict has no disposition: OCSF's ``disposition_id`` says what a
control did, and an auditor does nothing to the traffic.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from auditor.incidents import Incident, of
from auditor.incidents.story import LET_IN
from auditor.model.audit import Audit
from auditor.model.roles import Format, Out
from auditor.report import _story as story
from auditor.report._json import encode_lines
from auditor.report._pairs import PROTOCOLS, Record, began_ns, connections, duration_ns, findings, milliseconds, present
from auditor.rules._attack import techniques

VERSION = "1.7.0"

_SEVERITIES = {"info": 1, "low": 2, "medium": 3, "high": 4, "critical": 5}
_CONFIDENCES = {"low": 1, "medium": 2, "high": 3}
_STATUSES = {"new": 1, "continuing": 2}
_SUPPRESSED = 3

CHUNK_EVENTS = 4096


def _metadata(audit: Audit, uid: str) -> Record:
    return {
        "version": VERSION,
        "product": {
            "name": "Diego flow auditor",
            "vendor_name": "Diego flow auditor",
            "version": str(audit.info.get("version")),
        },
        "uid": uid,
        "correlation_uid": str(audit.info.get("id")),
        **({"labels": [f"{story.window(audit)} only"]} if story.window(audit) else {}),
    }


def _endpoint(end: Record) -> Record:
    return present(
        {
            "ip": end.get("ip"),
            "port": end.get("port"),
            "name": end.get("instance"),
            "svc_name": end.get("component"),
            "type": end.get("role"),
            "type_id": 99 if end.get("role") else 0,
        }
    )


def _connection_info(connection: Record) -> Record:
    transport = str(connection.get("transport") or "")
    return present(
        {
            "direction_id": 0,
            "protocol_name": transport,
            "protocol_num": PROTOCOLS.get(transport),
            "protocol_ver_id": 6 if ":" in str(connection["originator"].get("ip")) else 4,
            "uid": connection.get("id"),
            "community_uid": connection.get("community_id"),
        }
    )


def _tls(facts: Record | None) -> Record | None:
    if not facts or not facts.get("version"):
        return None
    return present(
        {
            "version": str(facts["version"]).removeprefix("TLS "),
            "cipher": facts.get("cipher"),
            "sni": facts.get("sni"),
            "alert": None,
        }
    )


def _network(audit: Audit, connection: Record) -> Record:
    start = milliseconds(connection.get("start"))
    took = duration_ns(connection) // 1_000_000
    originator, responder = connection["originator"], connection["responder"]
    sent, received = (int(end.get("bytes") or 0) for end in (originator, responder))
    packets = [int(end.get("packets") or 0) for end in (originator, responder)]
    authentication = connection.get("authentication") or {}
    return present(
        {
            "category_uid": 4,
            "class_uid": 4001,
            "activity_id": 6,
            "type_uid": 400106,
            "severity_id": 1,
            "time": start,
            "start_time": start,
            "end_time": start + took,
            "duration": took,
            "metadata": _metadata(audit, str(connection.get("id"))),
            "app_name": connection.get("application"),
            "src_endpoint": _endpoint(originator),
            "dst_endpoint": _endpoint(responder),
            "connection_info": _connection_info(connection),
            "traffic": {
                "bytes": sent + received,
                "bytes_in": received,
                "bytes_out": sent,
                "packets": sum(packets),
                "packets_in": packets[1],
                "packets_out": packets[0],
            },
            "tls": _tls(connection.get("tls")),
            "status_detail": connection.get("conn_state"),
            "unmapped": {
                "auditor": {
                    "disposition": connection.get("disposition"),
                    "paths": list(connection.get("paths") or ()),
                    "near_miss": connection.get("near_miss"),
                    "verdict": authentication.get("verdict"),
                    "verdict_confidence": authentication.get("confidence"),
                    "client_certificate": (connection.get("tls") or {}).get("client_certificate"),
                    "history": connection.get("history"),
                    "direction_by": connection.get("direction_by"),
                    "findings": list(connection.get("findings") or ()),
                }
            },
        }
    )


def _detection(audit: Audit, finding: Record, connection: Record | None) -> Record:
    fresh = finding.get("status") != "continuing"
    waived = finding.get("waived")
    status = _SUPPRESSED if waived else _STATUSES.get(str(finding.get("status")), 1)
    evidence: Record = {"uid": str(finding["id"]), "data": {"facts": list(finding.get("evidence") or ())}}
    if connection is not None:
        evidence |= {
            "src_endpoint": _endpoint(connection["originator"]),
            "dst_endpoint": _endpoint(connection["responder"]),
            "connection_info": _connection_info(connection),
        }
    first, last = milliseconds(finding.get("first_seen")), milliseconds(finding.get("last_seen"))
    return present(
        {
            "category_uid": 2,
            "class_uid": 2004,
            "activity_id": 1 if fresh else 2,
            "type_uid": 200401 if fresh else 200402,
            "severity_id": _SEVERITIES[finding["severity"]],
            "confidence_id": _CONFIDENCES.get(str(finding.get("confidence")), 0),
            "status_id": status,
            "is_alert": not waived and finding["severity"] != "info",
            "time": last or first,
            "start_time": first,
            "end_time": last,
            "count": max(int(finding.get("count") or 0), 1),
            "message": finding["title"],
            "metadata": _metadata(audit, str(finding["id"])),
            "finding_info": {
                "uid": str(finding["fingerprint"]),
                "title": finding["title"],
                "desc": finding.get("detail"),
                "first_seen_time": first,
                "last_seen_time": last,
                "analytic": {"type_id": 1, "name": finding["rule"], "uid": finding["rule"]},
                "types": [finding["rule"]],
                "attacks": [
                    {"technique": {"uid": each.id, "name": each.name, "src_url": each.url}}
                    for each in techniques(finding["rule"])
                ]
                or None,
            },
            "evidences": [evidence],
            "remediation": {"desc": finding["remediation"]} if finding.get("remediation") else None,
            "comment": f"waived by {waived.get('owner')}: {waived.get('reason')}" if waived else None,
            "unmapped": {
                "auditor": {"path": finding.get("path"), "connections": list(finding.get("connections") or ())}
            },
        }
    )


def _incident(audit: Audit, each: Incident) -> Record:
    """Incident Finding: what one actor did."""
    first, last = each.first_ns // 1_000_000, each.last_ns // 1_000_000
    titles = dict(zip(audit.findings["id"].astype(str), audit.findings["title"].astype(str), strict=True))
    return present(
        {
            "category_uid": 2,
            "class_uid": 2005,
            "activity_id": 1,
            "type_uid": 200501,
            "severity_id": _SEVERITIES[each.severity],
            "status_id": 1,
            "is_suspected_breach": each.reach == LET_IN,
            "assignee_group": {"name": "nobody yet"},  # the class requires an actor
            "time": last or first,
            "start_time": first,
            "end_time": last,
            "count": each.connections,
            "message": each.title,
            "desc": "; ".join(f"{name}: {says}" for name, says in each.answers),
            "metadata": _metadata(audit, each.id),
            "finding_info_list": [
                {"uid": name, "title": titles.get(name, each.title)} for name in (each.findings or (each.id,))
            ],
            "unmapped": {"auditor": {"incident": each.as_dict()}},
        }
    )


def _warning(audit: Audit, says: str) -> Record:
    """What is doubtful of the inventory or the policy: an event of no class."""
    uid = f"{audit.info.get('id')}-{hashlib.sha256(says.encode()).hexdigest()[:16]}"
    return {
        "category_uid": 0,
        "class_uid": 0,
        "activity_id": 99,
        "activity_name": "Warning",
        "type_uid": 99,
        "severity_id": _SEVERITIES["low"],
        "time": began_ns(audit) // 1_000_000,
        "message": says,
        "metadata": _metadata(audit, uid),
    }


def _events(audit: Audit, table: str | None) -> Iterator[Record]:
    if table is None:
        for says in story.warnings(audit):
            yield _warning(audit, says)
    if table in (None, "connections"):
        for connection in connections(audit):
            yield _network(audit, connection)
    if table in (None, "findings"):
        for finding, first in findings(audit):
            yield _detection(audit, finding, first)
    if table is None:
        for each in of(audit):
            yield _incident(audit, each)


def write(audit: Audit, out: Out, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """The events of the connections, then those of the findings; or of one of both tables. The other tables have none."""
    events: list[Record] = []
    for event in _events(audit, table):
        events.append(event)
        if len(events) == CHUNK_EVENTS:
            out.write(encode_lines(events))
            events.clear()
    out.write(encode_lines(events) if events else b"")


FORMAT = Format("ocsf", ".ocsf.ndjson", write, tables=True)
