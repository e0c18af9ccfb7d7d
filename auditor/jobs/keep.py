"""Audits and their history: what is new in one, keeping it, and having it back as it was.

A finding is new where its fingerprint is not open in the store (or not in the baseline), and continuing where it is. It is gone once the captures
have gone on for so long after it was last seen (``GONE_AFTER_NS``): a pair that talks every three hours is one story, not one an hour.

The store keeps the public tables and the few internal columns that reports for people read, so that an audit can be written again in any format
long after its captures are gone.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd

from auditor.catalogue import discover
from auditor.errors import ConfigError
from auditor.model.audit import Audit
from auditor.model.columns import CAPTURES, CONNECTIONS, COVERAGE, FINDINGS, INTERNAL, Column
from auditor.model.roles import Severity
from auditor.policy import shipped
from auditor.policy.inventory import Inventory, parse_time
from auditor.policy.policy import Policy, canonical
from auditor.policy.policy_cache import load_policy
from auditor.policy.waivers import Applied, Known, Waivers, apply, load_waivers, today_of
from auditor.policy.waivers import warnings as told
from auditor.policy.yaml_positions import read_text
from auditor.report._json import encode
from auditor.report._text import unicode_text
from auditor.report.parquet import arrow_schema, arrow_table
from auditor.store.history import Decider, Fact, History, Kept, Row, open_history

if TYPE_CHECKING:
    import pyarrow as pa

GONE_AFTER_NS = 24 * 3_600 * 1_000_000_000
"""A finding that was not seen for so long, by the clock of the packets, is gone."""

APART = "apart"
"""Kind of an audit of captures with dates in the future: it is not compared with history."""

_MATCHED = "waivers"
"""Key in the catalogue's ``meta`` of what the waivers matched."""

_INSIDE = (
    "outcome",
    "breach",
    "would_be",
    "authentication_missing",
    "authentication_counted",
    "says",
    "sibling",
    "capture",
    "first_frame",
    "payload_bytes",
    "incomplete",
    "shown",
    "entered",
)

COLUMNS: dict[str, tuple[Column, ...]] = {
    "connections": (*CONNECTIONS, *(column for column in INTERNAL if column.name in _INSIDE)),
    "findings": (*FINDINGS, Column("sibling", "text", "overlay policy that would declare it", nullable=True)),
    "coverage": (*COVERAGE, Column("origin", "object", "file and line of the policy that declares it", nullable=True)),
    "captures": (
        Column("capture", "int", "its index, as in frames"),
        *CAPTURES,
        Column("time_digits", "int", "digits behind the second"),
    ),
}
"""What the store keeps of each table."""

Progress = Callable[[int], None]


def schemas() -> dict[str, pa.Schema]:
    """The types of the kept tables."""
    return {name: arrow_schema(columns) for name, columns in COLUMNS.items()}


# Captures


def sha256_of(path: str | Path) -> str | None:
    """Of a regular file; None where it is none, or cannot be read."""
    place = Path(path)
    try:
        if not place.is_file():
            return None
        with place.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return None


def hashed(audit: Audit, known: Mapping[str, str] | None = None) -> Audit:
    """The audit with the SHA-256 of its captures; those in ``known`` (by path) are not read again."""
    captures = audit.captures.copy()
    known = known or {}
    captures["sha256"] = [known.get(path) or sha256_of(path) for path in captures["path"].tolist()]
    return replace(audit, captures=captures)


# New and continuing


def marked(audit: Audit, known: Iterable[str]) -> Audit:
    """The audit with the status of each finding: continuing where its fingerprint is in ``known``."""
    before = frozenset(known)
    findings = audit.findings.copy()
    findings["status"] = ["continuing" if mark in before else "new" for mark in findings["fingerprint"].tolist()]
    return replace(audit, findings=findings)


def only_new(audit: Audit) -> Audit:
    """The audit without the findings that are continuing; its summary counts what is left."""
    findings = audit.findings[audit.findings["status"] != "continuing"].reset_index(drop=True)
    left = frozenset(findings["id"].tolist())
    connections = audit.connections.copy(deep=False)
    made: dict[tuple[str, ...], tuple[str, ...]] = {}
    column = np.empty(len(connections), dtype=object)
    for row, names in enumerate(connections["findings"].tolist()):
        names = tuple(names)  # noqa: PLW2901  # a list after a store, a tuple else
        if names not in made:
            made[names] = tuple(name for name in names if name in left)
        column[row] = made[names]
    connections["findings"] = column
    severities, rules = findings["severity"].value_counts(), findings["rule"].value_counts()
    counted = {
        "by_severity": {word: int(severities.get(word, 0)) for word in audit.summary["findings"]["by_severity"]},
        "by_rule": {str(rule): int(count) for rule, count in sorted(rules.items()) if count},
    }
    info = {**audit.info, "options": {**(audit.info.get("options") or {}), "new_only": True}}
    return replace(
        audit, info=info, findings=findings, connections=connections, summary={**audit.summary, "findings": counted}
    )


def baseline(name: str, history: History | None) -> frozenset[str]:
    """Fingerprints of an earlier audit: a report (JSON, NDJSON, the folder of Parquet), or an audit of the store. Raises ConfigError."""
    place = Path(name)
    try:
        if place.is_dir():
            return _of_parquet(place)
        if place.is_file():
            return _of_report(place)
    except OSError as error:
        raise ConfigError(name, f"cannot be read: {error.strerror or error}") from error
    if history is None:
        raise ConfigError(name, "no such report", hint="name a JSON report, or add --store for one of its audits")
    found = history.table("findings", history.find(name).audit, ["fingerprint"])
    return frozenset() if found is None else frozenset(map(str, found["fingerprint"].to_pylist()))


def _of_parquet(folder: Path) -> frozenset[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        found = parquet.read_table(folder / "findings.parquet", columns=["fingerprint"])
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(str(folder), "has no findings.parquet of the auditor", hint="name a report") from error
    return frozenset(map(str, found["fingerprint"].to_pylist()))


class _Finding(msgspec.Struct):
    fingerprint: str


class _Report(msgspec.Struct):
    findings: list[_Finding]


class _Line(msgspec.Struct):
    kind: str | None = None
    fingerprint: str | None = None


def _of_report(place: Path) -> frozenset[str]:
    raw = place.read_bytes()
    hint = "name a report that --format json or ndjson wrote"
    try:
        return frozenset(each.fingerprint for each in msgspec.json.decode(raw, type=_Report).findings)
    except msgspec.MsgspecError:
        pass
    try:
        lines = [msgspec.json.decode(line, type=_Line) for line in raw.splitlines() if line.strip()]
    except msgspec.MsgspecError as error:
        raise ConfigError(str(place), f"is not a report: {error}", hint=hint) from None
    if not any(line.kind == "audit" for line in lines):
        raise ConfigError(str(place), "is not a complete report", hint=hint)
    return frozenset(line.fingerprint for line in lines if line.kind == "finding" and line.fingerprint)


# Keeping


def keep(
    audit: Audit,
    history: History,
    *,
    kind: str = "audit",
    files: Sequence[str] = (),
    gone_after_ns: int = GONE_AFTER_NS,
    until_ns: int | None = None,
) -> int:
    """Keep an audit whose findings are ``marked``; its number. ``files``: policies, inventories and waivers that decided. Raises ConfigError.

    ``until_ns``: as of ``History.keep``. An audit of kind ``apart`` is kept beside history: its findings are not part of any story.
    """
    captures = audit.captures.copy()
    captures["capture"] = np.arange(len(captures))
    if "time_digits" not in captures:
        captures["time_digits"] = 6
    whole = replace(audit, captures=captures)
    tables = {
        name: arrow_table(whole, name, [column for column in columns if column.name in getattr(whole, name)])
        for name, columns in COLUMNS.items()
    }
    findings = audit.findings if kind != APART else audit.findings.iloc[:0]
    firsts, lasts = captures["first_packet"].dropna(), captures["last_packet"].dropna()
    kept = Kept(
        id=str(audit.info["id"]),
        kind=kind,
        started_ns=_ns(audit.info["started"]),
        finished_ns=_ns(audit.info["finished"]),
        first_ns=int(firsts.min()) if len(firsts) else None,
        last_ns=int(lasts.max()) if len(lasts) else None,
        counts=_counts(audit),
        body={"audit": msgspec.json.decode(encode(audit.info)), "summary": msgspec.json.decode(encode(audit.summary)),
              "certificates": msgspec.json.decode(encode(list(audit.certificates)))},
        tables=tables,
        facts=[
            Fact(str(mark), str(rule), str(severity), path if isinstance(path, str) else None, str(title), int(first), int(last),
                 encode(waived).decode() if isinstance(waived, dict) else None)
            for mark, rule, severity, path, title, first, last, waived in zip(
                *(findings[name].tolist() for name in ("fingerprint", "rule", "severity", "path", "title", "first_seen", "last_seen", "waived")),
                strict=True)
        ],
        deciders=_deciders(audit, files),
    )  # fmt: skip
    return history.keep(kept, gone_after_ns=0 if kind == APART else gone_after_ns, until_ns=until_ns)


def _ns(value: Any) -> int:
    if isinstance(value, datetime):
        return parse_time(value.isoformat())
    return parse_time(value)


def _counts(audit: Audit) -> dict[str, int]:
    findings = audit.findings
    waived = findings["waived"].notna() if len(findings) else pd.Series([], dtype=bool)
    severities: Any = findings.loc[~waived, "severity"].value_counts() if len(findings) else {}
    return {
        "captures": len(audit.captures),
        "packets": int(audit.captures["packets"].sum()),
        "connections": len(audit.connections),
        "findings": len(findings),
        "new": int((findings["status"] == "new").sum()) if len(findings) else 0,
        "waived": int(waived.sum()),
        **{severity.word: int(severities.get(severity.word, 0)) for severity in Severity},
        "complete": int(bool((audit.summary.get("sufficiency") or {}).get("complete", True))),
    }


def _deciders(audit: Audit, files: Sequence[str]) -> list[Decider]:
    """The files that the audit names by their hash, with what is in them."""
    from auditor.policy import shipped

    named: dict[str, tuple[str, str]] = {}
    for each in audit.info.get("policies") or ():
        named[each["sha256"]] = ("policy", str(each["name"]))
    for each in audit.info.get("inventories") or ():
        named[each["sha256"]] = ("inventory", str(each["path"]))
    for each in ((audit.info.get("options") or {}).get("waivers") or {}).get("files", ()):
        named[each["sha256"]] = ("waivers", str(each["path"]))
    found: dict[str, Decider] = {}
    for file in [*files, *shipped.names()]:
        place = shipped.find(file)
        if place is None and not Path(file).is_file():
            continue
        text = read_text(str(place or file), 256 * 1024 * 1024)
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest in named:
            kind, name = named[digest]
            found[digest] = Decider(digest, kind, unicode_text(name), text.encode())
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is to be done with an audit once it is made."""

    waivers: Sequence[str] = ()
    known: Known | None = None
    """The names that waivers may use; None: only rules are looked at."""
    store: str | None = None
    baseline: str | None = None
    new_only: bool = False
    hash: bool = False
    files: tuple[str, ...] = ()
    """Policies, inventories and waivers, as given."""

    @contextmanager
    def ready(self) -> Iterator[Callable[[Audit], tuple[Audit, Applied | None, list[str]]]]:
        """Everything read and tried before the audit begins; what to do with it then. Raises ConfigError."""
        if self.new_only and self.store is None and self.baseline is None:
            raise ConfigError("--new-only", "needs earlier findings to compare with", hint="add --store or --baseline")
        waivers = load_waivers(self.waivers, self.known or Known(rule_names())) if self.waivers else None
        with contextlib.ExitStack() as stack:
            history = stack.enter_context(open_history(self.store, write=True)) if self.store is not None else None
            before = baseline(self.baseline, history) if self.baseline is not None else None

            def settle(audit: Audit) -> tuple[Audit, Applied | None, list[str]]:
                applied, says = None, list[str]()
                if self.hash or history is not None:
                    audit = hashed(audit)
                with history.writing() if history is not None else contextlib.nullcontext():
                    if waivers is not None:
                        earlier = None if history is None else matched_before(history)
                        audit, applied, says = excused(audit, waivers, earlier=earlier)
                    if history is not None:
                        known = [mark for mark, known in history.known().items() if known.open]
                        audit = marked(audit, known if before is None else before)
                        keep(audit, history, files=self.files)
                        if applied is not None:
                            note_matched(history, applied)
                if history is not None:
                    history.tidy(_ns(audit.info["finished"]))
                elif before is not None:
                    audit = marked(audit, before)
                return only_new(audit) if self.new_only else audit, applied, says

            yield settle


def rule_names() -> tuple[str, ...]:
    """Names of all rules."""
    return tuple(rule.name for rule in discover("auditor.rules", "RULE"))


def known_names(policy: Policy, inventory: Inventory | None = None) -> Known:
    """The names that waivers may use beside this policy, and this inventory where it is known."""
    hosts = None
    if inventory is not None:
        hosts = frozenset(canonical(entry.instance) for entry in inventory.entries if entry.instance)
    return Known(rule_names(), policy, frozenset(load_policy((shipped.DEFAULT,)).by_id), hosts)


def known_of(audit: Audit) -> Known:
    """The names that waivers of this audit's findings may use, whatever policy it was judged by."""
    table = audit.connections
    ends = [table[f"{end}_{name}"] for end in ("originator", "responder") for name in ("role", "instance")]
    hosts = frozenset(canonical(str(each)) for column in ends for each in column.dropna().unique())
    paths = {str(each) for held in table["paths"].dropna().unique() for each in held}
    paths.update(str(each) for each in audit.findings["path"].dropna().unique())
    policy = load_policy((shipped.DEFAULT,))
    return Known(rule_names(), policy, frozenset(paths), hosts)


def excused(
    audit: Audit,
    waivers: Waivers,
    today: date | None = None,
    earlier: Mapping[str, frozenset[str]] | None = None,
) -> tuple[Audit, Applied, list[str]]:
    """The audit with its findings waived, what the waivers did, and that in words; ``today`` is the day it was made where nothing is given.

    ``earlier``: as of ``matched_before``.
    """
    day = today_of(_ns(audit.info["started"])) if today is None else today
    column, applied = apply(waivers, audit.findings, audit.connections, day, earlier)
    findings = audit.findings.copy()
    held = np.empty(len(findings), dtype=object)
    held[:] = column
    findings["waived"] = held
    options = {**(audit.info.get("options") or {}), "waivers": applied.as_dict()}
    return replace(audit, findings=findings, info={**audit.info, "options": options}), applied, told(applied)


def matched_before(history: History) -> dict[str, frozenset[str]]:
    """By key of a waiver, the fingerprints that it matched in earlier audits and that are not gone."""
    row = history.sql.execute("SELECT value FROM meta WHERE name = ?", [_MATCHED]).fetchone()
    if row is None:
        return {}
    here = frozenset(mark for mark, known in history.known().items() if known.open)
    return {key: here.intersection(marks) for key, marks in msgspec.json.decode(row[0]).items()}


def note_matched(history: History, applied: Applied) -> None:
    """Remember what the waivers matched, for as long as that is not gone; inside ``writing``, after the audit is kept."""
    here = {mark for mark, known in history.known().items() if known.open}
    told = {key: sorted(marks & here) for key, marks in sorted(applied.matched.items()) if marks & here}
    history.sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [_MATCHED, msgspec.json.encode(told).decode()])


# Having it back


def restore(history: History, row: Row) -> Audit:
    """An audit of the store, as it was. Raises ConfigError."""
    body = history.body(row.audit)
    frames = {name: _frame(name, history.table(name, row.audit)) for name in COLUMNS}
    info = {**body["audit"], **{name: _moment(body["audit"][name]) for name in ("started", "finished")}}
    return Audit(
        info,
        body["summary"],
        frames["captures"],
        frames["connections"],
        frames["findings"],
        frames["coverage"],
        certificates=tuple(body.get("certificates") or ()),
    )


def _moment(text: str) -> datetime | str:
    """A time of the audit as the pipeline has it, where that is written as it was."""
    made = datetime.fromisoformat(text)
    return made if msgspec.json.decode(encode(made)) == text else text


def frame_of(name: str, table: pa.Table) -> pd.DataFrame:
    """A kept table, or some columns of it, as the rest of the program knows it."""
    return _frame(name, table)


def _frame(name: str, table: pa.Table | None) -> pd.DataFrame:
    columns = COLUMNS[name]
    if table is None:
        return pd.DataFrame({column.name: [] for column in columns})
    there = set(table.schema.names)
    made: dict[str, Any] = {}
    for column in columns:
        if column.name in there:
            made[column.name] = _values(column, table[column.name])
    if "audit" in there:
        made["audit"] = table["audit"].to_numpy()
    return pd.DataFrame(made, index=pd.RangeIndex(table.num_rows))


def _values(column: Column, array: Any) -> Any:
    import pyarrow as pa

    match column.kind:
        case "text":
            coded = array.combine_chunks().dictionary_encode()
            if isinstance(coded, pa.ChunkedArray):
                coded = coded.combine_chunks()
            codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            return pd.Categorical.from_codes(codes, categories=pd.Index(coded.dictionary.to_pylist(), dtype=object))
        case "int" | "time":
            plain = array.cast(pa.int64())
            if array.null_count or column.nullable:
                return pd.array(plain.to_pylist(), dtype="Int64")
            return plain.to_numpy()
        case "object":
            return _each(array.to_pylist(), _object)
        case "list":
            evidence = column.name in ("evidence", "authentication_evidence")
            return _each(array.to_pylist(), _evidence if evidence else tuple)
        case _:
            return array.to_pandas().to_numpy()


def _each(values: list[Any], convert: Callable[[Any], Any]) -> Any:
    made = np.empty(len(values), dtype=object)
    known: dict[str, Any] = {}
    for row, value in enumerate(values):
        if isinstance(value, str):
            if value not in known:
                known[value] = convert(value)
            made[row] = known[value]
        else:
            made[row] = None if value is None else convert(value)
    return made


def _object(text: str) -> Any:
    return msgspec.json.decode(text) if text[:1] in "{[" else text


def _evidence(items: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    return tuple({**each, "value": msgspec.json.decode(each["value"])} for each in items)
