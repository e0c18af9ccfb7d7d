"""Connections as the pipeline hands them to the rules, made by hand.

``row`` is one connection of a healthy platform (a cell to the BBS); name what differs. ``judged`` makes the table of them, in order of start, with the dtypes
of the real one: texts that repeat are Categoricals, shared tuples and dicts stay objects.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from auditor.model.audit import Judged
from auditor.model.columns import CONNECTIONS, INTERNAL

SECOND = 1_000_000_000
BEGIN = 1_700_000_000 * SECOND

CELL = {"originator_ip": "10.0.4.20", "originator_role": "diego_cell", "originator_instance": "diego_cell/0"}
BRAIN = {"originator_ip": "10.0.5.10", "originator_role": "diego_brain", "originator_instance": "diego_brain/0"}
TO_UAA = {"responder_ip": "10.0.3.8", "responder_role": "uaa", "responder_instance": "uaa/0"}
TO_CELL = {"responder_ip": "10.0.4.20", "responder_role": "diego_cell", "responder_instance": "diego_cell/0"}

_HEALTHY: dict[str, Any] = {
    "id": "c",
    "community_id": "1:x",
    "start": BEGIN,
    "duration": 1.0,
    "transport": "tcp",
    "conn_state": "SF",
    "history": "ShADadFf",
    "originator_ip": "10.0.4.20",
    "originator_port": 40_000,
    "originator_instance": "diego_cell/0",
    "originator_role": "diego_cell",
    "originator_roles": ("diego_cell",),
    "originator_component": None,
    "originator_packets": 10,
    "originator_bytes": 1_000,
    "originator_copies": 0,
    "responder_ip": "10.0.6.10",
    "responder_port": 8889,
    "responder_instance": "diego_database/0",
    "responder_role": "diego_database",
    "responder_roles": ("diego_database",),
    "responder_component": None,
    "responder_packets": 10,
    "responder_bytes": 1_000,
    "responder_copies": 0,
    "missed_bytes": 0,
    "direction_by": "syn",
    "vantages": ("eth0",),
    "sightings": (),
    "tunnel": None,
    "translated": None,
    "application": "tls",
    "disposition": "documented",
    "paths": ("cell-bbs",),
    "near_miss": None,
    "authentication_required": "mutual_tls",
    "authentication_observed": None,
    "authentication_verdict": "verified",
    "authentication_confidence": "high",
    "authentication_outcome": "served",
    "authentication_factors": (),
    "authentication_evidence": (),
    "tls": None,
    "ssh": None,
    "mysql": None,
    "nats": None,
    "http": None,
    "outcome": "established",
    "breach": None,
    "would_be": None,
    "says": "",
    "sibling": None,
    "capture": 0,
    "first_frame": 1,
    "payload_bytes": 1_000,
    "incomplete": "",
    "faults": (),
    "authentication_missing": None,
    "authentication_counted": True,
    "shown": None,
    "entered": False,
    "facts": None,
}
_REPEATED = (
    "transport",
    "conn_state",
    "history",
    "originator_ip",
    "originator_instance",
    "originator_role",
    "responder_ip",
    "responder_instance",
    "responder_role",
    "direction_by",
    "application",
    "disposition",
    "authentication_verdict",
    "outcome",
    "breach",
    "would_be",
    "says",
    "sibling",
    "incomplete",
)


def row(*parts: dict[str, Any], after: float = 0.0, **fields: Any) -> dict[str, Any]:
    """One connection; ``after`` seconds from the beginning. Unknown columns are a mistake of the test."""
    made = dict(_HEALTHY)
    for part in (*parts, fields):
        strange = set(part) - set(made)
        assert not strange, f"no such columns: {strange}"
        made.update(part)
    made["start"] = BEGIN + int(after * SECOND)
    return made


def undeclared(breach: str, *parts: dict[str, Any], after: float = 0.0, **fields: Any) -> dict[str, Any]:
    """One connection that the policy does not know."""
    common = {"disposition": "undeclared", "paths": (), "breach": breach, "authentication_verdict": "not_applicable"}
    return row(common, *parts, after=after, **fields)


def attempt(would_be: str, *parts: dict[str, Any], after: float = 0.0, **fields: Any) -> dict[str, Any]:
    """One undeclared attempt that was refused."""
    common = {"outcome": "attempt", "would_be": would_be, "conn_state": "REJ", "history": "Sr", "application": "none"}
    return undeclared("attempt", common, *parts, after=after, **fields)


def miss(path: str, differs: str, says: str) -> dict[str, str]:
    return {"path": path, "differs": differs, "says": says}


def judged(*rows: dict[str, Any], **options: Any) -> Judged:
    """The table of these connections, in order of start."""
    ordered = sorted(rows, key=lambda each: int(each["start"]))
    names = [column.name for column in (*CONNECTIONS, *INTERNAL) if column.name != "findings"]
    table = pd.DataFrame({name: pd.Series([each[name] for each in ordered], dtype=object) for name in names})
    for column in (*CONNECTIONS, *INTERNAL):
        if column.kind in ("int", "time") and column.name in table and not column.nullable:
            table[column.name] = table[column.name].astype("int64")
    for name in _REPEATED:
        table[name] = table[name].astype("category")
    for name in ("originator_port", "responder_port"):
        table[name] = table[name].astype("Int64")
    for number, _ in enumerate(ordered):
        table.loc[number, "id"] = f"c{number}"
    table["first_frame"] = range(1, len(table) + 1)
    return Judged(table, inventory=None, policy=None, options=options)
