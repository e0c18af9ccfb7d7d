"""What changed between two audits: findings, documented paths, and who talks to whom.

Findings are compared by fingerprint, paths by whether and how they were seen, connections by the roles (or addresses) at their ends and the service: so
that a week's difference is some lines, however many connections there were.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from auditor.policy.times import parse_time, time_text
from auditor.store.history import History, Row
from auditor.wire.text import many

if TYPE_CHECKING:
    import pyarrow as pa

FEW_ROWS = 100_000
HOST_PORTS = range(61_001, 65_535)
CHANGES = (
    "new",
    "gone",
    "continuing",
    "waived",
    "unwaived",
    "seen",
    "silent",
    "verdicts",
    "appeared",
    "disappeared",
    "outside",
    "decided_by",
)
"""Kinds of changes: of findings (the first five), to documented paths (seen, silent, verdicts), to edges, and to the files that decide.

``outside``: a finding, path or edge of the earlier audit that lies outside of the later one's window, so that it was not looked at."""


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a difference."""

    change: str
    """One of ``CHANGES``."""
    what: str
    """finding, path, edge or file."""
    name: str
    """Fingerprint, id of the path, ends and service, or name of the file."""
    severity: str | None
    says: str

    def as_dict(self) -> dict[str, Any]:
        """As every format has it."""
        return {
            "change": self.change,
            "what": self.what,
            "name": self.name,
            "severity": self.severity,
            "says": self.says,
        }


def compare(history: History, before: Row, after: Row) -> list[Change]:
    """From one audit of the store to another. Raises ConfigError."""
    looked = _looked(history, before, after)
    changes = [*_findings(history, before, after, looked), *_paths(history, before, after, looked)]
    return [*changes, *_edges(history, before, after, looked), *_files(history, before, after)]


@dataclass(frozen=True, slots=True)
class _Looked:
    """The connections of the earlier audit in the window of the later one."""

    table: pa.Table
    ids: frozenset[str]
    paths: frozenset[str]


def _looked(history: History, before: Row, after: Row) -> _Looked | None:
    """None: the later audit has no window, and looked at all that it was given."""
    if not history.window(after):
        return None
    table = history.table("connections", before.audit, ["id", "start", "duration", "paths", *_EDGE])
    if table is None:
        return None
    window = history.body(after.audit)["audit"]["window"]
    since, until = (parse_time(window[name]) if window.get(name) else None for name in ("since", "until"))
    import pyarrow as pa

    starts = [int(each or 0) for each in table["start"].cast(pa.int64()).to_pylist()]
    kept = [
        (since is None or start + round((took or 0.0) * 1e9) >= since) and (until is None or start <= until)
        for start, took in zip(starts, table["duration"].to_pylist(), strict=True)
    ]
    inside = table.take([at for at, there in enumerate(kept) if there]) if any(kept) else table.slice(0, 0)
    paths = frozenset(str(path) for told in inside["paths"].to_pylist() for path in told or ())
    return _Looked(inside, frozenset(map(str, inside["id"].to_pylist())), paths)


NAMED = 3
"""Captures of an audit that are named; of the others there is the number."""


def made_of(history: History, row: Row) -> str:
    """Captures and times of an audit: ``a.pcap and b.pcap, captured ... to ..., audited ...``."""
    paths = [str(each["path"]) for each in _rows(history, "captures", row, ["path"])]
    named, more = paths[:NAMED], len(paths) - NAMED
    listed = [*named, f"{more:,} more"] if more > 0 else named
    what = " and ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed) or "no capture"
    span = ""
    if row.first_ns is not None and row.last_ns is not None:
        span = f", captured {time_text(row.first_ns)} to {time_text(row.last_ns)}"
    return f"{what}{span}, audited {time_text(row.finished_ns // 10**9 * 10**9)}"


def _rows(history: History, name: str, row: Row, columns: list[str]) -> list[dict[str, Any]]:
    table = history.table(name, row.audit, columns)
    return [] if table is None else table.to_pylist()


def _findings(history: History, before: Row, after: Row, looked: _Looked | None = None) -> list[Change]:
    columns = [
        "fingerprint",
        "rule",
        "severity",
        "title",
        "path",
        "count",
        "waived",
        *(["connections"] if looked else []),
    ]
    old, new = (
        {each["fingerprint"]: each for each in _rows(history, "findings", row, columns)} for row in (before, after)
    )
    found = []
    for mark in [*new, *(mark for mark in old if mark not in new)]:
        here = new.get(mark) or old[mark]
        place = f" [{here['path']}]" if here["path"] else ""
        says = f"{here['rule']}: {here['title']}{place}"
        kinds = [("new" if mark not in old else "continuing") if mark in new else "gone"]
        if looked is not None and mark not in new and not looked.ids.intersection(old[mark]["connections"] or ()):
            kinds = ["outside"]
        if mark in old and mark in new and bool(old[mark]["waived"]) != bool(new[mark]["waived"]):
            kinds.append("waived" if new[mark]["waived"] else "unwaived")
        found += [Change(kind, "finding", mark, here["severity"], says) for kind in kinds]
    return sorted(found, key=lambda each: CHANGES.index(each.change))


def _paths(history: History, before: Row, after: Row, looked: _Looked | None = None) -> list[Change]:
    import msgspec

    columns = ["path", "source", "destination", "ports", "connections", "verdicts"]
    old, new = ({each["path"]: each for each in _rows(history, "coverage", row, columns)} for row in (before, after))
    found = []
    for path, here in new.items():
        was = old.get(path)
        if was is None:
            continue
        words = f"{here['source']} to {here['destination']} on {here['ports']}"
        if bool(was["connections"]) != bool(here["connections"]):
            unseen = "silent" if looked is None or path in looked.paths else "outside"
            found.append(Change("seen" if here["connections"] else unseen, "path", path, None, words))
            continue
        verdicts = [set(msgspec.json.decode(each["verdicts"] or "{}")) for each in (was, here)]
        if verdicts[0] != verdicts[1]:
            says = f"{words}: {', '.join(sorted(verdicts[0]))} before, {', '.join(sorted(verdicts[1]))} now"
            found.append(Change("verdicts", "path", path, None, says))
    return sorted(found, key=lambda each: CHANGES.index(each.change))


Edge = tuple[str, str, str, str]


def _edges(history: History, before: Row, after: Row, looked: _Looked | None = None) -> list[Change]:
    old, new = (edges(history.table("connections", row.audit, _EDGE)) for row in (before, after))
    found = []
    inside = old if looked is None else edges(looked.table)
    outside = {edge: count for edge, count in old.items() if edge not in inside}
    for change, here, other in (("appeared", new, old), ("disappeared", inside, new), ("outside", outside, new)):
        fresh = sorted(set(here) - set(other))
        swept = Counter((edge[0], edge[2].rpartition("/")[2]) for edge in fresh if edge[3] == _UNDECLARED)
        told: set[tuple[str, str]] = set()
        for edge in fresh:
            originator, responder, service, disposition = edge
            who = originator, service.rpartition("/")[2]
            if disposition != _UNDECLARED or swept[who] < MANY_SERVICES:
                says = f"{originator} to {responder} on {service}, {disposition}, {many(here[edge], 'connection')}"
                found.append(Change(change, "edge", f"{originator} {responder} {service}", None, says))
            elif who not in told:
                told.add(who)
                found.append(_sweep(change, who, [each for each in fresh if each[0] == originator], here))
    return found


_UNDECLARED = "undeclared"
MANY_SERVICES = 10
"""So many undeclared services of one originator are a sweep, and one line."""


def _sweep(change: str, who: tuple[str, str], fresh: list[Edge], here: Mapping[Edge, int]) -> Change:
    """What one originator tried over one transport, together."""
    originator, transport = who
    mine = [edge for edge in fresh if edge[3] == _UNDECLARED and edge[2].rpartition("/")[2] == transport]
    targets = sorted({edge[1] for edge in mine})
    shown = ", ".join(targets[:3]) + (f" and {len(targets) - 3} more" if len(targets) > 3 else "")
    services = len({edge[2] for edge in mine})
    count = sum(here[edge] for edge in mine)
    says = f"{originator} to {shown} on {many(services, 'service')} over {transport}, {_UNDECLARED}, {many(count, 'connection')}"
    return Change(change, "edge", f"{originator} * {transport}", None, says)


_EDGE = [
    "originator_role",
    "originator_ip",
    "responder_role",
    "responder_ip",
    "responder_port",
    "transport",
    "disposition",
]


def edges(table: pa.Table | None) -> Mapping[Edge, int]:
    """Who talks to whom: originator and responder (role, else address), service and disposition, with the number of connections."""
    if table is None or not table.num_rows:
        return {}
    found: dict[Edge, int] = {}
    for each, count in _counted(table):
        port = each["responder_port"]
        service = (
            "" if port is None else f"{HOST_PORTS.start}-{HOST_PORTS.stop - 1}/" if port in HOST_PORTS else f"{port}/"
        )
        edge = (
            each["originator_role"] or each["originator_ip"],
            each["responder_role"] or each["responder_ip"],
            service + each["transport"],
            each["disposition"].replace("_", " "),
        )
        found[edge] = found.get(edge, 0) + count
    return found


def _counted(table: pa.Table) -> Iterator[tuple[dict[str, Any], int]]:
    """The distinct rows of these columns, and how many there are of each."""
    if table.num_rows > FEW_ROWS:
        for each in table.select(_EDGE).group_by(_EDGE).aggregate([([], "count_all")]).to_pylist():
            yield each, each["count_all"]
        return
    # Arrow's own grouping imports pandas, which takes longer than counting some thousand rows.
    rows = Counter(zip(*(table[name].to_pylist() for name in _EDGE), strict=True))
    for row, count in rows.items():
        yield dict(zip(_EDGE, row, strict=True)), count


def _files(history: History, before: Row, after: Row) -> list[Change]:
    old, new = (
        {(each.kind, each.name): each.sha256 for each in history.deciders(row.audit)} for row in (before, after)
    )
    return [
        Change("decided_by", "file", name, None, f"{kind} {name}: " + ("changed" if (kind, name) in old else "added"))
        for (kind, name), digest in sorted(new.items())
        if old.get((kind, name)) != digest
    ] + [
        Change("decided_by", "file", name, None, f"{kind} {name}: left out")
        for kind, name in sorted(set(old) - set(new))
    ]
