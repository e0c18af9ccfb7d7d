"""The records of the JSON report one a line, each with its ``kind`` first: audit, capture, summary, coverage, connection,
finding, certificate, incident.

With ``table`` only that table's records.
"""

from __future__ import annotations

from auditor.model.audit import Audit
from auditor.model.roles import Format, Out
from auditor.report import _incidents as incidents
from auditor.report._columns import SCHEMA
from auditor.report._json import encode, encode_lines
from auditor.report._json_rows import lines

KINDS = {"captures": "capture", "coverage": "coverage", "connections": "connection", "findings": "finding"}


def _lines(audit: Audit, table: str, out: Out) -> None:
    for chunk in lines(audit, table, KINDS[table]):
        out.write(chunk)


def write(audit: Audit, out: Out, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """Every record, or those of one table."""
    if table:
        _lines(audit, table, out)
        return
    out.write(encode({"kind": "audit", "schema": SCHEMA, **audit.info}) + b"\n")
    _lines(audit, "captures", out)
    out.write(encode({"kind": "summary", **audit.summary}) + b"\n")
    for name in ("coverage", "connections", "findings"):
        _lines(audit, name, out)
    for kind, values in (("certificate", audit.certificates), ("incident", incidents.records(audit))):
        out.write(encode_lines([{"kind": kind, **each} for each in values]) if values else b"")
    host = incidents.host_record(audit)
    if host is not None:
        out.write(encode_lines([{"kind": "host", **host}]))


FORMAT = Format("ndjson", ".ndjson", write, tables=True)
