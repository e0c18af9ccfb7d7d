"""From columns of codes to the tables that rules and reports read.

What repeats is kept once: texts are Categoricals over their distinct values, tuples and dicts are shared objects. A row costs a few hundred
bytes, and no loop here runs over rows in Python but where a column's values are objects of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from auditor.model.columns import CAPTURES, COVERAGE, FINDINGS
from auditor.model.connections import (
    CONN_STATES,
    CONTRADICTION,
    DIRECTION_BY,
    FRAME_BITS,
    INCOMPLETE,
    ConnectionTable,
    seen_from,
    sightings_of,
    translations_of,
    transport_name,
    tunnel_of,
)
from auditor.model.facts import Facts
from auditor.model.finding import Finding
from auditor.model.frames import Capture, vantage_name
from auditor.model.judgement import Authentication, Classification
from auditor.model.quoted import ICMP_ERROR

FRAME_MASK = (1 << FRAME_BITS) - 1
PROTOCOLS = ("tls", "ssh", "mysql", "nats", "http")
"""Protocols that have an object of their own in a connection's record."""

PROXY_KINDS = ("proxy.version", "proxy.source", "proxy.destination")
"""Facts of a PROXY protocol header; they prove no identity."""


def coded(codes: NDArray[Any], names: Sequence[Any]) -> pd.Categorical:
    """A Categorical; code -1 is None. Names that occur twice are folded into one."""
    distinct = list(dict.fromkeys(names))
    if len(distinct) != len(names):
        place = {name: k for k, name in enumerate(distinct)}
        codes = np.array([*(place[name] for name in names), -1], np.int32)[codes]
    return pd.Categorical.from_codes(codes, categories=pd.Index(distinct, dtype=object))


def spread(codes: NDArray[Any], values: Sequence[Any]) -> NDArray[np.object_]:
    """``values[codes]`` as objects, each shared by all its rows; code -1 is None."""
    taken = np.empty(len(values) + 1, dtype=object)
    for k, value in enumerate(values):
        taken[k] = value
    taken[len(values)] = None
    spread_out: NDArray[np.object_] = taken[codes]
    return spread_out


def place_of(frame: int) -> list[int]:
    """[capture index, frame number] of a frame number that carries its capture."""
    return [frame >> FRAME_BITS, frame & FRAME_MASK]


class EvidenceList(Sequence[dict[str, Any]]):
    """The evidence of one connection, as a report shows it; made when it is read, because most never is."""

    __slots__ = ("facts", "kinds")

    def __init__(self, facts: Facts, kinds: tuple[str, ...]) -> None:
        self.facts, self.kinds = facts, kinds

    def _one(self, kind: str) -> dict[str, Any]:
        return {
            "kind": kind,
            "value": self.facts.get(kind),
            "certainty": str(self.facts.certainty(kind)),
            "frames": [place_of(frame) for frame in self.facts.frames(kind)],
        }

    @property
    def packed(self) -> bytes | None:
        """All its frames as ``pack_marks`` made them; None: they are kept in another way, or not all is proven."""
        facts = self.facts
        return facts.marks[0][1] if len(facts.marks) == 1 and not facts.certainties else None

    def head(self, kind: str, encode: Callable[[Any], bytes]) -> bytes:
        """What ``encode`` writes of one kind, up to its frames."""
        facts = self.facts
        told = {"kind": kind, "value": facts.get(kind), "certainty": str(facts.certainty(kind))}
        return encode(told)[:-1] + b',"frames":['

    def json(self, encode: Callable[[Any], bytes], made: dict[Any, bytes]) -> bytes:
        """All of it as ``encode`` writes it. made: what was encoded before, of which most comes again; its keys live as long as the evidence does."""
        facts = self.facts
        told = []
        for kind in self.kinds:
            # What connections share is one object; what is a connection's own is looked up by its content.
            own = facts.own.get(kind)
            key = (id(facts.shared), kind) if own is None else (kind, own) if isinstance(own, tuple) else None
            head = None if key is None or kind in facts.certainties else made.get(key)
            if head is None:
                head = self.head(kind, encode)
                if key is not None and kind not in facts.certainties:
                    made[key] = head
            frames = (b"[%d,%d]" % (frame >> FRAME_BITS, frame & FRAME_MASK) for frame in facts.frames(kind))
            told.append(head + b",".join(frames) + b"]}")
        return b"[" + b",".join(told) + b"]"

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._one(kind) for kind in self.kinds[index]]
        return self._one(self.kinds[index])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(self._one, self.kinds)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # a view over values that may be lists


def _protocol_objects(facts: Sequence[Facts | None]) -> dict[str, NDArray[np.object_]]:
    """The object of each protocol, a column each: {kind without its protocol: value}; equal facts share it."""
    columns = {name: np.full(len(facts), None, dtype=object) for name in PROTOCOLS}
    made: dict[int, tuple[Any, dict[str, dict[str, Any]]]] = {}
    for row, fact in enumerate(facts):
        if fact is None:
            continue
        known = made.get(id(fact.shared))
        if known is None:
            found: dict[str, dict[str, Any]] = {}
            for kind, value in fact.shared.items():
                protocol, _, name = kind.partition(".")
                if protocol in columns and name:
                    found.setdefault(protocol, {})[name] = value
            if "tls" in found:  # not seen is not absent
                found["tls"].setdefault("client_certificate", "unknown")
            # The mapping itself is kept so that its identity stays its own.
            known = made[id(fact.shared)] = (fact.shared, found)
        for protocol, value in known[1].items():
            columns[protocol][row] = value
    return columns


@dataclass(frozen=True, slots=True)
class Ends:
    """Who the ends of each connection are: indices into ``hosts`` (-1: in no inventory), shape (n,)."""

    originator: NDArray[np.int32]
    responder: NDArray[np.int32]
    hosts: Sequence[Any]
    """Inventory entries with ``instance`` and ``roles``."""


def connections_table(
    table: ConnectionTable, texts: Sequence[str], vantages: Sequence[str], ends: Ends, *, evidence: bool = True
) -> pd.DataFrame:
    """The columns that packets, first bytes and inventory tell; what the policy makes of them is added by ``judged_columns``.

    texts: ``table.addresses`` as text; vantages: a name for each place; evidence: with the columns of what the first bytes show.
    """
    protos, proto_of = np.unique(table.proto, return_inverse=True)
    histories, history_of = np.unique(table.history, return_inverse=True)
    columns: dict[str, Any] = {
        "id": ascii_texts(table.id),
        "community_id": ascii_texts(table.community_id),
        "start": table.first_ns,
        "duration": (table.last_ns - table.first_ns) / 1e9,
        "transport": coded(proto_of, [transport_name(int(proto)) for proto in protos]),
        "conn_state": coded(table.conn_state, CONN_STATES),
        "history": coded(history_of, [history.decode("ascii") for history in histories.tolist()]),
    }
    columns |= _end(
        "originator",
        table.orig_h,
        table.orig_p,
        table.orig_pkts,
        table.orig_ip_bytes,
        table.orig_copies,
        ends.originator,
        texts,
        ends.hosts,
    )
    columns |= _end(
        "responder",
        table.resp_h,
        table.resp_p,
        table.resp_pkts,
        table.resp_ip_bytes,
        table.resp_copies,
        ends.responder,
        texts,
        ends.hosts,
    )
    columns |= {
        "missed_bytes": table.missed_bytes,
        "direction_by": coded(table.direction_by, DIRECTION_BY),
        "vantages": spread(*seen_from(table, vantages)),
        "sightings": _sightings(table, vantages),
        "tunnel": _tunnels(table),
        "translated": _translations(table),
        "application": coded(table.application, table.applications),
        **(_protocol_objects(table.facts) if evidence else {}),
        "capture": table.first_frame >> FRAME_BITS,
        "first_frame": table.first_frame & FRAME_MASK,
        "payload_bytes": table.payload_bytes,
        "incomplete": _incomplete(table.incomplete),
        "outcome": coded(np.where(table.established, 0, 1), ("established", "attempt")),
    }
    if evidence:
        columns["facts"] = spread(np.arange(len(table)), table.facts)
    return pd.DataFrame(columns, index=pd.RangeIndex(len(table)))


def _end(
    which: str,
    address: NDArray[np.int32],
    port: NDArray[np.int32],
    packets: NDArray[np.int64],
    volume: NDArray[np.int64],
    copies: NDArray[np.int64],
    host: NDArray[np.int32],
    texts: Sequence[str],
    hosts: Sequence[Any],
) -> dict[str, Any]:
    return {
        f"{which}_ip": coded(address, texts),
        f"{which}_port": pd.arrays.IntegerArray(np.maximum(port, 0).astype(np.int64), port < 0),
        f"{which}_instance": _names(address, host, texts, hosts),
        f"{which}_roles": spread(np.where(host < 0, len(hosts), host), [*(each.roles for each in hosts), ()]),
        f"{which}_packets": packets,
        f"{which}_bytes": volume,
        f"{which}_copies": copies,
    }


def _names(
    address: NDArray[np.int32], host: NDArray[np.int32], texts: Sequence[str], hosts: Sequence[Any]
) -> pd.Categorical:
    """What the inventory calls each end. An entry without a name goes by its address: of a network, each address by its own."""
    names = [each.instance for each in hosts]
    unnamed = np.array([name is None for name in names] + [False])[host]  # -1, in no inventory, is the last
    if not unnamed.any():
        return coded(host, [name or "" for name in names])
    addresses, which = np.unique(address[unnamed], return_inverse=True)
    codes = host.copy()
    codes[unnamed] = len(names) + which
    found = coded(codes, [*(name or "" for name in names), *(texts[each] for each in addresses.tolist())])
    return found.remove_unused_categories()


def ascii_texts(values: NDArray[np.bytes_]) -> pd.api.extensions.ExtensionArray:
    """Fixed-size ASCII as a column of texts, without a Python object a row."""
    size = values.dtype.itemsize
    offsets = np.arange(len(values) + 1, dtype=np.int64) * size
    array = pa.LargeStringArray.from_buffers(
        len(values), pa.py_buffer(offsets.data), pa.py_buffer(np.ascontiguousarray(values).data)
    )
    return pd.arrays.ArrowStringArray(pa.chunked_array([array]))


def _translations(table: ConnectionTable) -> NDArray[np.object_]:
    """The other side of a NAT."""
    column = np.full(len(table), None, dtype=object)
    for row, ends in translations_of(table).items():
        column[row] = ends
    return column


def _sightings(table: ConnectionTable, vantages: Sequence[str]) -> NDArray[np.object_]:
    """What each place has of the connections that several have."""
    column = spread(np.zeros(len(table), np.int64), [()])
    for row, seen in sightings_of(table, vantages).items():
        column[row] = seen
    return column


def _tunnels(table: ConnectionTable) -> NDArray[np.object_]:
    tunnels = np.full(len(table), None, dtype=object)
    for row in np.flatnonzero(table.tunnel).tolist():
        tunnels[row] = tunnel_of(table, row)
    return tunnels


def _incomplete(bits: NDArray[np.uint8]) -> pd.Categorical:
    names = [
        ",".join(name for k, name in enumerate(INCOMPLETE) if code >> k & 1) for code in range(1 << len(INCOMPLETE))
    ]
    return coded(bits, names)


def judged_columns(
    classes: Sequence[Classification],
    class_of: NDArray[np.int32],
    authentications: Sequence[Authentication],
    facts: Sequence[Facts | None],
) -> dict[str, Any]:
    """Each connection judged by the policy: columns by name."""

    def by_class(value: Callable[[Classification], Any]) -> pd.Categorical:
        return coded_values(class_of, [value(each) for each in classes])

    distinct: dict[int, int] = {}
    auth_of = np.array([distinct.setdefault(id(each), len(distinct)) for each in authentications], np.int32)
    auths: list[Authentication] = []
    for each in authentications:
        if distinct[id(each)] == len(auths):
            auths.append(each)

    def by_auth(value: Callable[[Authentication], Any]) -> pd.Categorical:
        return coded_values(auth_of, [value(each) for each in auths])

    evidence = np.empty(len(auth_of), dtype=object)
    for row, (auth, fact) in enumerate(zip(authentications, facts, strict=True)):
        kinds = auth.kinds
        if (
            fact is not None and "proxy.version" in fact.own
        ):  # what a proxy reports is shown whether or not it was judged
            kinds = (*kinds, *(kind for kind in PROXY_KINDS if kind in fact.own))
        if fact is not None and ICMP_ERROR in fact.own:  # nor do ICMP errors of routers depend on a judgement
            kinds = (*kinds, ICMP_ERROR)
        if fact is not None and CONTRADICTION in fact.own and CONTRADICTION not in kinds:
            kinds = (*kinds, CONTRADICTION)
        evidence[row] = EvidenceList(fact, kinds) if fact is not None and kinds else ()
    return {
        "originator_role": by_class(lambda each: each.orig_role),
        "responder_role": by_class(lambda each: each.resp_role),
        "originator_component": by_class(lambda each: each.orig_component),
        "responder_component": by_class(lambda each: each.resp_component),
        "disposition": by_class(lambda each: str(each.disposition)),
        "paths": spread(class_of, [each.paths for each in classes]),
        "near_miss": spread(class_of, [each.near_miss.as_dict() if each.near_miss else None for each in classes]),
        "breach": by_class(lambda each: str(each.breach) if each.breach else None),
        "would_be": by_class(lambda each: str(each.would_be) if each.would_be else None),
        "says": by_class(lambda each: each.says),
        "sibling": by_class(lambda each: each.sibling),
        "authentication_required": spread(auth_of, [each.required for each in auths]),
        "authentication_observed": by_auth(lambda each: each.observed),
        "authentication_verdict": by_auth(lambda each: str(each.verdict)),
        "authentication_confidence": by_auth(lambda each: each.confidence),
        "authentication_outcome": by_auth(lambda each: each.outcome),
        "authentication_factors": spread(
            auth_of, [tuple(factor.as_dict() for factor in each.factors) for each in auths]
        ),
        "authentication_evidence": evidence,
        "authentication_missing": by_auth(lambda each: each.missing),
        "shown": by_auth(lambda each: each.says or None),
        "entered": np.array([each.entered for each in auths], np.bool_)[auth_of],
        "authentication_counted": np.array([each.counted for each in auths], np.bool_)[auth_of],
        "faults": spread(auth_of, [each.faults for each in auths]),
    }


def tell_inferred_certificates(tls: NDArray[np.object_], authentications: Sequence[Authentication]) -> None:
    """Put what record lengths tell of a client certificate in place of ``unknown``, in ``tls`` objects that rows share."""
    made: dict[tuple[int, str], dict[str, Any]] = {}
    kept: list[Any] = []
    for row, auth in enumerate(authentications):
        word, shown = auth.client_certificate, tls[row]
        if word is None or shown is None:
            continue
        key = (id(shown), word)
        if key not in made:
            # The original is kept, so that its identity stays its own while this runs.
            kept.append(shown)
            made[key] = {**shown, "client_certificate": word}
        tls[row] = made[key]


def coded_values(codes: NDArray[Any], values: Sequence[Any]) -> pd.Categorical:
    """``values[codes]`` as a Categorical; None stays None."""
    names = [value for value in dict.fromkeys(values) if value is not None]
    place = {name: k for k, name in enumerate(names)}
    return coded(np.array([*(place.get(value, -1) for value in values), -1], np.int32)[codes], names)


def findings_table(
    findings: Sequence[Finding], names: Sequence[tuple[str, str]], connections: pd.DataFrame
) -> tuple[pd.DataFrame, NDArray[np.object_]]:
    """The findings DataFrame, the most severe first, and for each connection the ids of its findings.

    names: (id, fingerprint) of each finding.
    """
    ids = connections["id"].to_numpy(dtype=object)
    starts = connections["start"].to_numpy()
    ends = starts + (connections["duration"].to_numpy() * 1e9).round().astype(np.int64)
    order = sorted(range(len(findings)), key=lambda k: (-findings[k].severity, findings[k].rule, findings[k].subject))
    part_of: dict[int, list[str]] = {}
    records = []
    for k in order:
        finding, (name, mark) = findings[k], names[k]
        rows = list(finding.rows)
        for row in rows:
            part_of.setdefault(row, []).append(name)
        records.append(
            {
                "id": name,
                "fingerprint": mark,
                "status": None,
                "rule": finding.rule,
                "severity": finding.severity.word,
                "confidence": finding.confidence,
                "title": finding.title,
                "detail": finding.detail,
                "connections": tuple(ids[rows]),
                "evidence": finding.evidence,
                "count": finding.count or len(rows),
                "first_seen": int(starts[rows].min()) if rows else 0,
                "last_seen": int(ends[rows].max()) if rows else 0,
                "path": finding.path,
                "remediation": finding.remediation,
                "waived": None,
            }
        )
    table = pd.DataFrame(records, columns=[*(column.name for column in FINDINGS)])
    table["sibling"] = [findings[k].sibling for k in order]
    for name in ("count", "first_seen", "last_seen"):
        table[name] = table[name].astype(np.int64)
    part = np.empty(len(connections), dtype=object)
    part[:] = [()] * len(connections)
    for row, found in part_of.items():
        part[row] = tuple(found)
    return table, part


def _not_unicode(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def captures_table(captures: Sequence[Capture], seen: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The captures DataFrame; seen: ``doubled``, ``clock`` and ``unseen`` of each."""
    records = [
        {
            "path": each.path,
            "sha256": each.sha256,
            "format": each.format,
            "packets": each.packets,
            "bytes": each.bytes,
            "first_packet": each.first_ns,
            "last_packet": each.last_ns,
            "link_types": tuple(dict.fromkeys(point.link_type for point in each.vantage_points)),
            "vantage": vantage_name(each),
            "dropped": each.dropped,
            "problems": tuple(problem.as_dict() for problem in each.problems),
            **told,
            "time_digits": each.time_digits,
        }
        for each, told in zip(captures, seen, strict=True)
    ]
    paths = [record.pop("path") for record in records]
    table = pd.DataFrame(records, columns=[*(column.name for column in CAPTURES), "time_digits"])
    # A file's name may be any bytes; those that are not UTF-8 have no place in a column of texts.
    table["path"] = pd.Series(paths, dtype=object if any(map(_not_unicode, paths)) else "str")
    for column in CAPTURES:
        if column.kind in ("int", "time"):
            table[column.name] = table[column.name].astype("Int64" if column.nullable else np.int64)
    return table


def _counts_by_paths(connections: pd.DataFrame, verdicts: int) -> Iterator[tuple[tuple[str, ...], int, list[int]]]:
    """The distinct combinations of paths that connections are on, each with its attempts, and its connections by the code of their verdict."""
    known: dict[int, int] = {}
    combinations: list[tuple[str, ...]] = []
    code_of = np.full(len(connections), -1, np.int32)
    for row, ids in enumerate(connections["paths"].to_numpy() if len(connections) else ()):
        if ids:
            # Rows that are alike share the object, so that looking is cheap.
            code = known.get(id(ids))
            if code is None:
                code = known[id(ids)] = len(combinations)
                combinations.append(ids)
            code_of[row] = code
    on = code_of >= 0
    if not combinations:
        return
    failed = (connections["outcome"] == "attempt").to_numpy(bool)
    tried = np.bincount(code_of[on & failed], minlength=len(combinations))
    came = on & ~failed
    verdict_of = connections["authentication_verdict"].cat.codes.to_numpy()
    counts = np.bincount(code_of[came] * verdicts + verdict_of[came], minlength=len(combinations) * verdicts)
    yield from zip(combinations, tried.tolist(), counts.reshape(len(combinations), verdicts).tolist(), strict=True)


def coverage_table(paths: Sequence[Any], connections: pd.DataFrame) -> pd.DataFrame:
    """A row for every path, seen or not, with its verdicts and the attempts of which no connection came."""
    seen: dict[str, dict[str, int]] = {path.id: {} for path in paths}
    tried = dict.fromkeys(seen, 0)
    verdicts = connections["authentication_verdict"].cat.categories.tolist() if len(connections) else []
    for ids, failed, counts in _counts_by_paths(connections, len(verdicts)):
        for name in ids:
            if name in seen:
                tried[name] += failed
                for verdict, count in zip(verdicts, counts, strict=True):
                    if count:
                        seen[name][verdict] = seen[name].get(verdict, 0) + count
    records = []
    for path in paths:
        told = path.describe()
        records.append(
            {
                "path": path.id,
                # Every page counts its rows from 1: the number is the documented table's.
                "row": None if path.ambient else path.row,
                "source": told["source"],
                "destination": told["destination"],
                "ports": told["ports"],
                "application": told["application"],
                "authentication": told["authentication"],
                "connections": sum(seen[path.id].values()),
                "verdicts": dict(sorted(seen[path.id].items())),
                "attempts": tried[path.id],
                "disposition": "ambient" if path.ambient else "documented",
            }
        )
    table = pd.DataFrame(records, columns=[column.name for column in COVERAGE])
    table["row"] = table["row"].astype("Int64")
    for name in ("connections", "attempts"):
        table[name] = table[name].astype(np.int64)
    return table
