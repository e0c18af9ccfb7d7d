"""From findings and connections of a report, or of a store, to what is to be cut out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from auditor.errors import ConfigError
from auditor.incidents import peers
from auditor.incidents.again import DEPENDS
from auditor.model.connections import transport_name
from auditor.policy.addresses import to_int
from auditor.slices.cut import Wanted
from auditor.slices.verdict import WITNESS, title_of

SHORTEST_ID = 6

_PROTOCOLS = {transport_name(number): number for number in range(256)}


@dataclass(frozen=True, slots=True)
class Choice:
    """The connections that were asked for."""

    connections: tuple[Wanted, ...]
    findings: tuple[str, ...]
    """Fingerprints."""
    title: str
    """What was asked for, in words."""
    witnesses: tuple[str, ...] = ()
    """Ids of connections that were not asked for: findings compare with them (the peers of a certificate)."""


def choose(
    connections: pd.DataFrame,
    findings: pd.DataFrame | None,
    *,
    finding_ids: Sequence[str],
    connection_ids: Sequence[str],
) -> Choice:
    """What these ids name, or how they begin: a finding's id or fingerprint, a connection's id. Raises ConfigError."""
    says: dict[str, list[str]] = {}
    asked: dict[str, Mapping[Any, Any]] = {}
    for wanted in finding_ids:
        row = _finding(findings, wanted)
        if asked.setdefault(str(row["fingerprint"]), row) is not row:
            continue  # named twice
        for each in row["connections"]:
            says.setdefault(str(each), []).append(f"finding {row['id']} ({row['rule']})")
    for wanted in connection_ids:
        says.setdefault(_connection(connections, wanted), [])
    witnesses: dict[str, None] = {}
    for row in asked.values():
        for each in peers.witnesses(connections, row):
            if each not in says or each in witnesses:
                witnesses[each] = None
                says.setdefault(each, []).append(f"{WITNESS}finding {row['id']} ({row['rule']})")
    rows = connections[connections["id"].astype(str).isin(set(says))]
    found = tuple(wanted_of(row, says[str(row["id"])]) for row in rows.to_dict("records"))
    if not found:
        raise ConfigError(
            "--finding", "none of its connections is in the table", hint="name the captures that it was found in"
        )
    title = title_of(asked.values(), (each.id for each in found), witnesses)
    return Choice(found, tuple(asked), title, tuple(each.id for each in found if each.id in witnesses))


def _finding(findings: pd.DataFrame | None, wanted: str) -> Mapping[Any, Any]:
    several = False
    if findings is not None:
        for column in ("id", "fingerprint"):
            names = findings[column].astype(str)
            rows = findings[names == wanted]
            if not len(rows) and len(wanted) >= SHORTEST_ID:
                rows = findings[names.str.startswith(wanted)]
            several |= len(rows) > 1
            if len(rows) == 1:
                found: Mapping[Any, Any] = rows.to_dict("records")[0]
                return found
    raise ConfigError(
        "--finding",
        f"{json.dumps(wanted)} matches {'several findings' if several else 'no finding'}",
        hint=f"{DEPENDS}; list ids and fingerprints with auditor audit ... --table findings --format csv",
    )


def _connection(connections: pd.DataFrame, wanted: str) -> str:
    names = connections["id"].astype(str)
    rows = names[names == wanted]
    if not len(rows) and len(wanted) >= SHORTEST_ID:
        rows = names[names.str.startswith(wanted)]
    if len(rows) != 1:
        raise ConfigError(
            "--connection",
            f"{json.dumps(wanted)} matches {'several connections' if len(rows) else 'no connection'}",
            hint="list the ids with auditor connections --fields id,originator_ip,responder_ip,responder_port",
        )
    return str(rows.iloc[0])


def wanted_of(row: Mapping[Any, Any], findings: Iterable[str] = ()) -> Wanted:
    """A row of the connections table, whose times are nanoseconds since 1970 or time stamps."""
    start = row["start"]
    first = int(start.value) if isinstance(start, pd.Timestamp) else int(start)
    ends = []
    for end in ("originator", "responder"):
        port = row[f"{end}_port"]
        ends.append((to_int(str(row[f"{end}_ip"])), 0 if port is None or pd.isna(port) else int(port)))
    return Wanted(
        id=str(row["id"]),
        originator=ends[0],
        responder=ends[1],
        protocol=_PROTOCOLS[str(row["transport"])],
        first_ns=first,
        last_ns=first + round(float(row["duration"]) * 1e9),
        application=str(row["application"]),
        says="".join(f"{each}, " for each in findings),
    )
