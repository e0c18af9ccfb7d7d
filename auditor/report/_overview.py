"""Content of the page's drawings and findings, from the tables of an audit.

Everything here is counted over whole columns; rows become Python objects only where each one is shown.
"""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditor.incidents.again import Next, candidates, file_word, next_of
from auditor.model import losses
from auditor.model.audit import Audit
from auditor.model.frames import REMARKS
from auditor.model.judgement import Disposition, Verdict
from auditor.model.roles import Severity
from auditor.report import _story as story
from auditor.report._columns import int_parts, rfc3339, row_digits
from auditor.report._drawings import DESK, TELEPHONE, Edge, FlowMap, Moments, Timeline, flow_map, timeline
from auditor.report._json import encode
from auditor.report._places import places
from auditor.report._text import clip
from auditor.rules.unverifiable_authentication import LACKS
from auditor.wire.text import known_as, many

SHOWN_FINDINGS = 400
"""Findings of one rule that are reported; the machine-readable formats have all."""
SHOWN_CONNECTIONS = 6
"""Connections shown with a finding where scripts are off."""
LOOKED_AT = 2_000
"""Connections of a finding that are asked for what was missing."""
SHOWN_FRAMES = 12
CELL = 600

VERDICTS = tuple(verdict.value for verdict in Verdict)
SEVERITIES = tuple(severity.word for severity in sorted(Severity, reverse=True))


# -- documented paths ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class PathRow:
    """A row of the documented table with what was seen on it."""

    path: str
    number: int | None
    source: str
    destination: str
    ports: str
    application: str
    authentication: str
    connections: int
    verdicts: dict[str, int]
    """Worst first."""
    attempts: int = 0
    ambient: bool = False
    components: list[str] = field(default_factory=list)
    """``BBS → Auctioneer``, the most frequent first."""
    ends: str = ""
    """``2 VMs to 3``."""
    applications: list[str] = field(default_factory=list)
    findings: dict[str, int] = field(default_factory=dict)
    """By severity, worst first."""


def _ordered(counts: dict[str, int] | None, order: Iterable[str]) -> dict[str, int]:
    counts = counts or {}
    known = [word for word in order if counts.get(word)]
    return {word: int(counts[word]) for word in [*known, *sorted(set(counts) - set(known))] if counts[word]}


def _text(series: pd.Series[Any]) -> list[str | None]:
    return [value if isinstance(value, str) else None for value in series.astype(object).tolist()]


def path_rows(audit: Audit) -> list[PathRow]:
    """The documented table, each row with what was seen; then the ambient paths of which anything was."""
    documented, ambient, _ = story.covered(audit)
    found = {
        str(row["path"]): PathRow(
            path=str(row["path"]),
            number=row["row"],
            source=str(row["source"]),
            destination=str(row["destination"]),
            ports=str(row["ports"]),
            application=str(row["application"]),
            authentication=str(row["authentication"]),
            connections=row["connections"],
            verdicts=_ordered(row["verdicts"], VERDICTS),
            attempts=row["attempts"],
            ambient=row.get("disposition") == "ambient",
        )
        for row in (*documented, *ambient)
    }
    _seen_on(audit.connections, found)
    if len(audit.findings):
        worst: dict[str, Counter[str]] = defaultdict(Counter)
        for path, severity, waived in zip(
            audit.findings["path"], audit.findings["severity"], audit.findings["waived"], strict=True
        ):
            if isinstance(path, str) and not isinstance(waived, dict):
                worst[path][str(severity)] += 1
        for path, counts in worst.items():
            if path in found:
                found[path].findings = _ordered(dict(counts), SEVERITIES)
    return list(found.values())


def _seen_on(table: pd.DataFrame, found: dict[str, PathRow]) -> None:
    wanted = ("originator_component", "responder_component", "originator_ip", "responder_ip", "application")
    if "paths" not in table or not set(wanted) <= set(table.columns):
        return
    paths = table["paths"].tolist()
    lengths = np.fromiter((len(each) for each in paths), np.int64, len(paths))
    each = table.iloc[np.repeat(np.arange(len(paths)), lengths)]
    seen = pd.DataFrame({name: _text(each[name]) for name in wanted})
    seen["path"] = [path for row in paths for path in row]
    for path, rows in seen.groupby("path", sort=False):
        row = found.get(str(path))
        if row is None:
            continue
        pairs = Counter(zip(rows["originator_component"], rows["responder_component"], strict=True))
        for (source, target), _ in sorted(pairs.items(), key=lambda pair: (-pair[1], str(pair[0]))):
            if isinstance(source, str) or isinstance(target, str):
                ends = (end if isinstance(end, str) else "?" for end in (source, target))
                row.components.append(" → ".join(ends))
        row.ends = f"{rows['originator_ip'].nunique():,} → {rows['responder_ip'].nunique():,}"
        row.applications = [str(word) for word in rows["application"].value_counts(sort=True).index]


# -- who talked to whom ----------------------------------------------------------------------------------------------------------


def edges(audit: Audit) -> list[Edge]:
    """Connections by the places of both ends and what the policy says of them; a documented path that was violated is a kind of its own."""
    table = audit.connections
    ends = places(table)
    if not ends or not len(table):
        return []
    kind = np.array(_text(table["disposition"]), object)
    if "authentication_verdict" in table:
        violated = (table["authentication_verdict"] == Verdict.VIOLATED.value).to_numpy(bool)
        kind[violated & (kind == Disposition.DOCUMENTED.value)] = Verdict.VIOLATED.value
    counts = pd.DataFrame({**ends, "kind": kind}).groupby(["originator", "responder", "kind"], sort=True).size()
    return [
        Edge(str(source), str(target), str(kind), int(count))
        for (source, target, kind), count in zip(counts.index.tolist(), counts.tolist(), strict=True)
    ]


def drawn_map(audit: Audit) -> tuple[FlowMap, FlowMap]:
    """Who talked to whom, laid out for a desk and for a telephone."""
    found = edges(audit)
    return flow_map(found, DESK), flow_map(found, TELEPHONE)


# -- when ------------------------------------------------------------------------------------------------------------------------


def drawn_timeline(audit: Audit) -> tuple[Timeline, Timeline] | None:
    """What was seen when, laid out for a desk and for a telephone; None where there is nothing."""
    table = audit.connections
    if not len(table) or "start" not in table:
        return None
    start = int_parts(table["start"])[0]
    end = start
    if "duration" in table:
        end = start + np.round(table["duration"].to_numpy(np.float64) * 1e9).astype(np.int64)
    kinds = [Disposition.DOCUMENTED.value] * len(table)
    if "disposition" in table:
        kinds = table["disposition"].astype(object).fillna(Disposition.OUT_OF_SCOPE.value).astype(str).tolist()
    lanes = list(_lanes(audit, start, end))
    first, last = int(start.min()), int(end.max())
    wide, small = (timeline(pd.Series(start), kinds, lanes, first, last, shape) for shape in (DESK, TELEPHONE))
    return wide, small


def _lanes(audit: Audit, start: NDArray[np.int64], end: NDArray[np.int64]) -> Iterator[tuple[str, str, Moments]]:
    """Findings of a rule and severity, worst first, with their connections in time."""
    seen: dict[str, list[int]] = defaultdict(list)
    if "findings" in audit.connections:
        for row, ids in enumerate(audit.connections["findings"].tolist()):
            for id_ in ids if ids is not None else ():
                seen[str(id_)].append(row)
    lanes: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for finding in story.rows(audit.findings):
        lanes[-int(Severity[str(finding["severity"]).upper()]), str(finding["rule"])].append(finding)
    for (rank, rule), findings in sorted(lanes.items(), key=lambda lane: lane[0]):
        told, which, first, last = [], [], [], []
        for number, finding in enumerate(findings):
            told.append((str(finding["id"]), clip(str(finding["title"]), 200)))
            rows = seen.get(told[-1][0], [])
            if rows:
                begins, ends = start[rows], end[rows]
            elif finding["count"]:  # of its connections none is at hand: only when they began and ended is known
                begins = ends = np.array([finding["first_seen"], finding["last_seen"]], np.int64)
            else:
                begins, ends = (np.array([finding[name]], np.int64) for name in ("first_seen", "last_seen"))
            which.append(np.full(len(begins), number, np.int64))
            first.append(begins)
            last.append(ends)
        yield rule, Severity(-rank).word, Moments(tuple(told), *map(np.concatenate, (which, first, last)))


# -- findings --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proof:
    """One piece of evidence."""

    kind: str
    value: str
    certainty: str
    frames: tuple[tuple[str, str], ...]
    """(capture, ``frames 12, 13 and 4 more``)"""


@dataclass(frozen=True, slots=True)
class Line:
    """One connection on a line."""

    id: str
    start: str
    originator: str
    responder: str
    service: str
    application: str
    paths: str
    verdict: str
    disposition: str


@dataclass(frozen=True, slots=True)
class Told:
    """A finding as shown on the page."""

    id: str
    title: str
    detail: str
    severity: str
    status: str | None
    confidence: str | None
    paths: tuple[str, ...]
    """All that it may be about."""
    count: int
    first_seen: str
    last_seen: str
    evidence: tuple[Proof, ...]
    missing: tuple[str, ...]
    near: tuple[str, ...]
    factors: tuple[str, ...]
    remediation: str
    waived: dict[str, Any] | None
    connections: tuple[Line, ...]
    commands: tuple[str, ...]
    rule: str
    consequences: tuple[Told, ...]
    """What it led to on the same connections."""


@dataclass(frozen=True, slots=True)
class Group:
    """All findings of a rule and severity that are no consequence of others."""

    rule: str
    severity: str
    total: int
    waived: int
    connections: int
    told: tuple[Told, ...]
    remediation: str


def _frames(audit: Audit, pairs: Iterable[Any]) -> tuple[tuple[str, str], ...]:
    by: dict[int, set[int]] = defaultdict(set)
    for pair in pairs:
        index, frame = (int(each) for each in pair)
        by[index].add(frame)
    shown = []
    for index in sorted(by):
        numbers = sorted(by[index])
        text = ", ".join(map(str, numbers[:SHOWN_FRAMES]))
        if len(numbers) > SHOWN_FRAMES:
            text += f" and {len(numbers) - SHOWN_FRAMES:,} more"
        shown.append((capture_name(audit, index), text))
    return tuple(shown)


def capture_name(audit: Audit, index: int) -> str:
    """A capture's path by its index."""
    return str(audit.captures["path"].iloc[index]) if 0 <= index < len(audit.captures) else f"capture {index}"


def value_text(value: Any) -> str:
    """A value of evidence on one line."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "undecided"}[value]
    if isinstance(value, str | int | float):
        return clip(str(value), CELL)
    if isinstance(value, list | tuple) and all(isinstance(each, str | int) for each in value):
        return clip(", ".join(map(str, value)), CELL)
    return clip(encode(value).decode(), CELL)


def _end(row: dict[str, Any], which: str) -> str:
    address, port = str(row.get(f"{which}_ip")), row.get(f"{which}_port")
    who = known_as(address, row.get(f"{which}_instance"), row.get(f"{which}_role"))
    if port is not None:
        address = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return f"{who} {address}" if who else address


def lines(audit: Audit, positions: Iterable[int]) -> dict[int, Line]:
    """Connections at these positions as lines."""
    where = list(positions)
    table = audit.connections.iloc[where]
    digits = row_digits(audit, "connections")[where] if where else np.zeros(0, np.uint8)
    starts = rfc3339(*int_parts(table["start"]), digits).to_pylist() if "start" in table else [""] * len(table)
    found = {}
    for position, start, row in zip(where, starts, story.rows(table), strict=True):
        port, transport = row.get("responder_port"), row.get("transport") or ""
        found[position] = Line(
            id=str(row.get("id") or ""),
            start=str(start).replace("T", " ").rstrip("Z"),
            originator=_end(row, "originator"),
            responder=_end(row, "responder"),
            service=str(transport) if port is None else f"{port}/{transport}",
            application=str(row.get("application") or ""),
            paths=" or ".join(map(str, row.get("paths") or ())),
            verdict=str(row.get("authentication_verdict") or ""),
            disposition=str(row.get("disposition") or ""),
        )
    return found


def _lack(word: str) -> str:
    return LACKS.get(word, word.replace("_", " "))


class _Finder:
    """The connections of findings, by id."""

    def __init__(self, audit: Audit, wanted: set[str]) -> None:
        self.audit = audit
        table = audit.connections
        self.position: dict[str, int] = {}
        if wanted and "id" in table:
            ids = table["id"].astype(str)
            self.position = {
                ids.iloc[at]: int(at) for at in np.flatnonzero(ids.isin(wanted).to_numpy(bool))[::-1].tolist()
            }
        self.lines = lines(audit, sorted(self.position.values()))

    def first(self, at: list[int]) -> dict[str, Any] | None:
        """The first of these connections, as far as its paths go."""
        return (
            {"paths": self.audit.connections["paths"].iloc[at[0]]} if at and "paths" in self.audit.connections else None
        )

    def missing(self, at: list[int]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """What was not seen of these connections, the paths they come closest to, and what the judgement of each factor says."""
        table = self.audit.connections.iloc[at]
        lacks: Counter[str] = Counter()
        for name in ("incomplete", "authentication_missing"):
            if name in table:
                for value, count in table[name].astype(object).value_counts().items():
                    for word in str(value).split(","):
                        if word:
                            lacks[word] = max(lacks[word], int(count))
        told = tuple(
            f"{count:,} of {len(at):,} {_lack(word)}"
            for word, count in sorted(lacks.items(), key=lambda pair: (-pair[1], pair[0]))
        )
        near = dict.fromkeys(
            f"{each.get('path')} (differs in {each.get('differs')}): {each.get('says')}"
            for each in table.get("near_miss", ())
            if isinstance(each, dict)
        )
        factors = dict.fromkeys(
            f"{factor.get('name')} {factor.get('verdict')}: {factor.get('says')}"
            for each in table.get("authentication_factors", ())
            for factor in (each if each is not None else ())
        )
        return told, tuple(near)[:3], tuple(factors)[:3]


def groups(audit: Audit) -> list[Group]:
    """The findings by severity, worst first, then by how much they are news; of one rule, unwaived ones come first."""
    ordered, led_to = story.by_cause(audit)
    wanted = {
        str(each)
        for severity, _, found in ordered
        for head in found[: story.shown(severity, SHOWN_FINDINGS)]
        for finding in (head, *led_to.get(str(head["id"]), ()))
        for each in tuple(finding["connections"] or ())[:LOOKED_AT]
    }
    finder, then = _Finder(audit, wanted), next_of(audit)
    result = []
    for severity, rule, found in ordered:
        result.append(
            Group(
                rule=rule,
                severity=Severity(severity).word,
                total=len(found),
                waived=sum(
                    isinstance(each.get("waived"), dict)
                    for head in found
                    for each in (head, *led_to.get(str(head["id"]), ()))
                ),
                connections=sum(int(finding.get("count") or 0) for finding in found),
                told=tuple(
                    _tell(audit, finding, finder, then, led_to.get(str(finding["id"]), ()))
                    for finding in found[: story.shown(severity, SHOWN_FINDINGS)]
                ),
                remediation=str(found[0].get("remediation") or ""),
            )
        )
    return result


def _tell(
    audit: Audit, finding: dict[str, Any], finder: _Finder, then: Next, led_to: Sequence[dict[str, Any]] = ()
) -> Told:
    evidence = tuple(
        Proof(
            kind=str(each.get("kind")),
            value=value_text(each.get("value")),
            certainty=str(each.get("certainty")),
            frames=_frames(audit, each.get("frames") or ()),
        )
        for each in finding.get("evidence") or ()
    )
    ids = [str(each) for each in finding["connections"] or ()][:LOOKED_AT]
    at = [finder.position[each] for each in ids if each in finder.position]
    missing, near, factors = finder.missing(at)
    times = rfc3339(
        np.array([finding["first_seen"], finding["last_seen"]], np.int64),
        np.zeros(2, bool),
        int(max(row_digits(audit, "captures"), default=6)),
    ).to_pylist()
    return Told(
        id=str(finding["id"]),
        title=clip(str(finding.get("title") or ""), CELL),
        detail=clip(str(finding.get("detail") or ""), 4 * CELL),
        severity=str(finding["severity"]),
        status=finding.get("status"),
        confidence=finding.get("confidence"),
        paths=candidates(finding, finder.first(at)),
        count=int(finding.get("count") or 0),
        first_seen=str(times[0]).replace("T", " ").rstrip("Z"),
        last_seen=str(times[1]).replace("T", " ").rstrip("Z"),
        evidence=evidence,
        missing=missing,
        near=near,
        factors=factors,
        remediation=str(finding.get("remediation") or ""),
        waived=finding.get("waived") if isinstance(finding.get("waived"), dict) else None,
        connections=tuple(finder.lines[position] for position in at[:SHOWN_CONNECTIONS]),
        commands=_commands(audit, finding, ids, then),
        rule=str(finding["rule"]),
        consequences=tuple(_tell(audit, each, finder, then) for each in led_to),
    )


def _commands(audit: Audit, finding: dict[str, Any], ids: list[str], then: Next) -> tuple[str, ...]:
    """What shows the proof in a terminal."""
    frames: dict[int, set[int]] = defaultdict(set)
    for each in finding.get("evidence") or ():
        for index, frame in each.get("frames") or ():
            frames[int(index)].add(int(frame))
    told = [*then.commands(str(finding["id"]))]
    for index in sorted(frames)[:2]:
        numbers = ",".join(map(str, sorted(frames[index])[:SHOWN_FRAMES]))
        told.append(f"tshark -r {file_word(capture_name(audit, index))} -Y 'frame.number in {{{numbers}}}'")
    if ids and frames:
        told.append(f"auditor dissect {file_word(capture_name(audit, min(frames)))} --connection {shlex.quote(ids[0])}")
    return tuple(told)


# -- the manager's page ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """The summary for readers who read nothing else."""

    heading: story.Heading
    tone: str
    """good, warn (clean, but not complete), bad."""
    clean: bool
    complete: bool
    says: str
    doubts: tuple[str, ...]
    """What the audit cannot decide."""


def answer(audit: Audit) -> Answer:
    """The first thing on the page. A clean result from insufficient captures is not a good result."""
    head = story.heading(audit)
    is_clean, is_complete = story.clean(audit), story.complete(audit)
    reasons = (audit.summary.get("sufficiency") or {}).get("reasons") or {}
    nothing = "no_connection_in_scope" in reasons
    level = story.level(audit).word
    if nothing:
        some = (
            "No connection has an end that the inventory knows as a Diego VM"
            if len(audit.connections)
            else "The captures have no connection"
        )
        says = f"{some}, so nothing was compared with the documented paths."
    elif is_clean and is_complete:
        says = "All traffic seen matches the documented paths, and the captures are sufficient to say so."
    elif is_clean:
        says = (
            "No problem was seen, but the captures are not sufficient to call the platform clean. "
            "Read below what is missing before you rely on this result."
        )
    elif is_complete:
        says = f"The traffic does not match the documentation: findings of severity {level} or above need attention."
    else:
        says = (
            f"The traffic does not match the documentation: findings of severity {level} or above need attention. The captures "
            "are not sufficient, so there may be more."
        )
    return Answer(
        heading=head,
        tone="bad" if not is_clean else "good" if is_complete and not nothing else "warn",
        clean=is_clean and not nothing,
        complete=is_complete and not nothing,
        says=says,
        doubts=tuple(_doubts(audit)),
    )


def _doubts(audit: Audit) -> Iterable[str]:
    summary = audit.summary
    sufficiency = summary.get("sufficiency") or {}
    counts = {str(word): int(count) for word, count in (summary.get("verdicts") or {}).items()}
    if audit.summary.get("inventory") in ("inferred", "mixed"):
        yield (
            "Roles were inferred from the traffic, at least in part: a wrong guess makes a documented connection "
            "look undeclared, or the reverse."
        )
    for row in story.rows(audit.captures):
        problems = [each for each in row["problems"] or () if each.get("kind") not in REMARKS]
        word = losses.loss(str(each.get("kind")) for each in problems)
        if word is not None:
            lost = {losses.DAMAGED: "is damaged", losses.UNSUPPORTED: "was not fully understood"}
            says = "; ".join(str(each.get("says")) for each in problems[:3])
            yield f"{row['path']} {lost.get(word, 'was read in part, because a limit was reached')}: {says}."
        if row["dropped"]:
            yield f"{row['path']}: {many(int(row['dropped']), 'packet')} dropped while capturing; their content is unknown."
    for conflict in (audit.info.get("conflicts") or ())[:3]:
        yield f"The inventory contradicts itself: {conflict}."
    silent = [row for row in story.rows(audit.captures) if row["dropped"] is None]
    if silent and len(audit.captures):
        yield (
            f"{many(len(silent), 'capture')} of {len(audit.captures):,} "
            f"{'does' if len(silent) == 1 else 'do'} not say whether packets were dropped."
        )
    openings = (sufficiency.get("reasons") or {}).get("nothing_decided")
    if openings:
        yield f"Of all {openings:,} documented connections only the opening was captured, so no authentication was judged."
    if sufficiency.get("undecided_percent"):
        lacks = [
            f"{int(count):,} {_lack(str(word))}"
            for word, count in (sufficiency.get("reasons") or {}).items()
            if str(word) in LACKS and isinstance(count, int | float)
        ]
        yield (
            f"{sufficiency['undecided_percent']:.1f} % of the judged connections are undecided"
            + (f": {'; '.join(lacks)}" if lacks else "")
            + "."
        )
    unread = story.unread_logins(audit)
    if unread:
        yield f"{unread}."
    documented, _, _ = story.covered(audit)
    unseen = sum(not row["connections"] and not row["attempts"] for row in documented)
    if unseen:
        yield (
            f"{unseen:,} of {len(documented):,} documented paths were not seen. Not seen is not the same as not used: the "
            "capture may have been too short or in the wrong place."
        )
    if counts.get("inferred"):
        yield (
            f"{many(counts['inferred'], 'verdict')} {'rests' if counts['inferred'] == 1 else 'rest'} on indirect evidence, "
            "such as record lengths of an encrypted handshake; each connection names its evidence."
        )


def span_words(first_ns: int, last_ns: int) -> str:
    """``1 min 57 s``."""
    seconds = max(last_ns - first_ns, 0) / 10**9
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds) // 60
    if minutes < 60:
        return f"{minutes} min {round(seconds) % 60} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
