"""The JSON report: one object, schema ``auditor.report/1`` (``report.schema.json`` beside this file), a record a line.

With ``table`` only that table's records, as an array. Written a few thousand records at a time.
"""

from __future__ import annotations

from auditor.model.audit import Audit
from auditor.model.roles import Format, Out
from auditor.report import _incidents as incidents
from auditor.report._columns import SCHEMA
from auditor.report._json import encode
from auditor.report._json_rows import lines


def _array(audit: Audit, table: str, out: Out) -> None:
    out.write(b"[")
    before = b""
    for chunk in lines(audit, table, end=b",\n"):
        out.write(before or b"\n")
        # The last row of all has no comma.
        out.write(memoryview(chunk)[:-2])
        before = b",\n"
    out.write(b"\n]" if before else b"]")


def write(audit: Audit, out: Out, *, table: str | None = None, color: bool = False, width: int = 80) -> None:
    """The whole report, or one table of it."""
    if table:
        _array(audit, table, out)
        out.write(b"\n")
        return
    out.write(b'{"schema":' + encode(SCHEMA))
    out.write(b',\n"audit":' + encode(audit.info))
    out.write(b',\n"captures":')
    _array(audit, "captures", out)
    out.write(b',\n"summary":' + encode(audit.summary))
    for name in ("coverage", "connections", "findings"):
        out.write(b',\n"' + name.encode() + b'":')
        _array(audit, name, out)
    for name, values in (("certificates", audit.certificates), ("incidents", incidents.records(audit))):
        told = b",\n".join(encode(each) for each in values)
        out.write(b',\n"' + name.encode() + b'":[' + (b"\n" + told + b"\n" if told else b"") + b"]")
    host = incidents.host_record(audit)
    if host is not None:
        out.write(b',\n"host":' + encode(host))
    out.write(b"}\n")


FORMAT = Format("json", ".json", write, tables=True)
