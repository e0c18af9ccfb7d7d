"""The pages of a review: all audits of a store, one audit, the packets of a connection, two audits compared, a waiver to write.

Each is made from the store on request (what was restored last is remembered), escaped by the same environment as the HTML report. Nothing here
knows of sockets or tokens; ``server.py`` decides who may ask.
"""

from __future__ import annotations

import re
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import IO, Any, Protocol

import jinja2

from auditor.errors import AuditorError, ConfigError
from auditor.jobs.compare import CHANGES, compare, made_of
from auditor.jobs.keep import excused, known_of, restore, rule_names
from auditor.model.audit import Audit
from auditor.model.roles import Severity
from auditor.policy.times import OUTSIDE
from auditor.policy.waivers import MAX_BYTES, Known, Waivers
from auditor.policy.waiving import appended, check, entry
from auditor.policy.yaml_positions import read_text
from auditor.report import _overview as overview
from auditor.report import _story as story
from auditor.report import html as report
from auditor.report._drawings import clock
from auditor.review import packets
from auditor.store.history import Decider, History, Row, open_history, write_whole

SHOWN_AUDITS = 200
DRAWN_AUDITS = 90
SHOWN_FACTS = 100
REMEMBERED = 2
"""Audits that stay in memory."""
VALID_DAYS = 90
"""Default lifetime of a new waiver."""
SEVERITIES = tuple(severity.word for severity in sorted(Severity, reverse=True))

_HEADS = {
    "new": "New findings",
    "gone": "Findings that are gone",
    "continuing": "Findings that continue",
    "waived": "Findings now waived",
    "unwaived": "Findings no longer waived",
    "seen": "Documented paths now seen",
    "silent": "Documented paths no longer seen",
    "verdicts": "Documented paths with other verdicts",
    "appeared": "New pairs of ends that talk",
    "disappeared": "Pairs of ends that no longer talk",
    "outside": "Outside the later audit's window",
    "decided_by": "Policies, inventories and waivers",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A page, or a file to keep."""

    body: bytes
    status: int = 200
    file: IO[bytes] | None = None
    """A file that is sent instead of ``body``, from its start; the sender closes it."""
    name: str = ""
    """Of the file."""


class Bundler(Protocol):
    """Writes the evidence bundle of a finding; ``places``: where its captures lie now, and where the audit read them. Raises AuditorError."""

    def __call__(  # noqa: D102  # the class says it
        self,
        audit: Audit,
        deciders: Iterable[Decider],
        finding: str,
        places: Mapping[str, str],
        out: IO[bytes],
        *,
        redact: bool,
    ) -> None: ...


def _resource(name: str) -> str:
    return files("auditor.review").joinpath("_html", name).read_text(encoding="utf-8")


def style() -> str:
    """The style of the pages that are not the report."""
    return report.style() + _resource("review.css")


@cache
def _environment() -> jinja2.Environment:
    """That of the report, with the templates of this room."""
    inherited = report.environment()
    assert inherited.loader  # noqa: S101  # it has one
    own = jinja2.ChoiceLoader([jinja2.FunctionLoader(_own), inherited.loader])
    return inherited.overlay(loader=own)


def _own(name: str) -> str | None:
    try:
        return _resource(name)
    except FileNotFoundError:
        return None


@dataclass(slots=True)
class Review:
    """A store under review."""

    store: Path
    today: Callable[[], date]
    waivers: Path | None = None
    """The file that new waivers go into; None: they are shown, to be put somewhere by hand."""
    originals: packets.Library = field(default_factory=packets.Library)
    keylog: Path | None = None
    bundler: Bundler | None = None
    """None: no bundles."""
    _audits: OrderedDict[int, Audit] = field(default_factory=OrderedDict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _bundling: threading.Lock = field(default_factory=threading.Lock)

    # -- what is asked for

    def answer(self, path: str, query: Mapping[str, str], form: Mapping[str, str] | None, base: str) -> Answer:
        """The page at ``path``; ``form`` is None unless something is to be written. ``base`` stands before every address."""
        for pattern, wants_form, make in _ROUTES:
            found = pattern.fullmatch(path)
            if found and (form is None or wants_form):
                try:
                    with open_history(self.store) as history:
                        return make(self, history, base, {**query, **found.groupdict()}, form)
                except AuditorError as error:
                    return self.sorry(base, 404 if isinstance(error, ConfigError) else 500, str(error))
        return self.sorry(base, 404, "No such page.")

    def sorry(self, base: str, status: int, says: str) -> Answer:
        """A page that says why there is none."""
        return Answer(self._page("sorry.html", base, title="Not found", says=says), status)

    def _page(self, template: str, base: str, **given: Any) -> bytes:
        made = _environment().get_template(template)
        context = {
            "base": base,
            "style": report.trusted(style()),
            "store": self.store,
            "overview": overview,
            "story": story,
        }
        return made.render({**context, **given}).encode()

    def audit(self, history: History, row: Row) -> Audit:
        """A kept audit, restored."""
        with self._lock:
            if row.audit not in self._audits:
                self._audits[row.audit] = restore(history, row)
                while len(self._audits) > REMEMBERED:
                    self._audits.popitem(last=False)
            self._audits.move_to_end(row.audit)
            return self._audits[row.audit]

    # -- pages

    def index(self, history: History, base: str, given: Mapping[str, str], _form: Any) -> Answer:
        """Every audit of the store, and what is open."""
        rows = history.rows(last=SHOWN_AUDITS)
        (total,) = history.sql.execute("SELECT count(*) FROM audits").fetchone()
        return Answer(
            self._page(
                "index.html",
                base,
                title="Audits",
                rows=list(reversed(rows)),
                windows={row.audit: history.window(row) for row in rows},
                total=total,
                bars=_bars(rows[-DRAWN_AUDITS:]),
                facts=_open_facts(history),
                when=_when,
                severities=SEVERITIES,
                outside=OUTSIDE,
            )
        )

    def one(self, history: History, base: str, given: Mapping[str, str], _form: Any) -> Answer:
        """The report of one audit."""
        row = history.find(given["audit"])
        place = f"{base}/audit/{row.audit}"
        return Answer(b"".join(report.render(self.audit(history, row), review=place)))

    def connection(self, history: History, base: str, given: Mapping[str, str], _form: Any) -> Answer:
        """A connection with its packets."""
        row = history.find(given["audit"])
        audit = self.audit(history, row)
        found = audit.connections[audit.connections["id"].astype(str) == given["connection"]]
        if len(found) != 1:
            return self.sorry(base, 404, f"Audit {row.audit} has no connection {given['connection']}.")
        told = next(story.rows(found))
        told["authentication_evidence"] = found["authentication_evidence"].iloc[0]
        limit = (
            min(int(given.get("limit") or packets.FRAMES), packets.MOST_FRAMES)
            if given.get("limit", "60").isdigit()
            else packets.FRAMES
        )
        shown = packets.dissected(self.originals, audit.captures, told, limit=max(limit, 1), keylog=self.keylog)
        [line] = overview.lines(audit, [int(found.index[0])]).values()
        mine = set(told["findings"] or ())
        findings = list(story.rows(audit.findings[audit.findings["id"].isin(mine)]))
        return Answer(
            self._page(
                "packets.html", base, title=f"Packets of {given['connection']}", audit=row, line=line, told=told, findings=findings,
                packets=shown, limit=limit, more=min(limit * 4, packets.MOST_FRAMES),
            )
        )  # fmt: skip

    def compared(self, history: History, base: str, given: Mapping[str, str], _form: Any) -> Answer:
        """What changed between two audits."""
        before, after = history.find(given.get("before") or "latest~1"), history.find(given.get("after") or "latest")
        changes = compare(history, before, after)
        groups = [(_HEADS[kind], kind, [each for each in changes if each.change == kind]) for kind in CHANGES]
        return Answer(
            self._page("compare.html", base, title="Comparison", before=before, after=after, when=_when,
                       windows=[(row.audit, history.window(row)) for row in (before, after)], outside=OUTSIDE,
                       sides=[(row, made_of(history, row)) for row in (before, after)],
                       row_windows={row.audit: history.window(row) for row in history.rows(last=SHOWN_AUDITS)}, groups=[group for group in groups if group[2]], rows=list(reversed(history.rows(last=SHOWN_AUDITS))))
        )  # fmt: skip

    def bundle(self, history: History, base: str, given: Mapping[str, str], _form: Any) -> Answer:
        """What an evidence bundle of a finding would be made of, and the bundle itself."""
        row = history.find(given["audit"])
        audit = self.audit(history, row)
        found = audit.findings[audit.findings["id"] == given["finding"]]
        if len(found) != 1:
            return self.sorry(base, 404, f"Audit {row.audit} has no finding {given['finding']}.")
        finding = next(story.rows(found))
        mine = audit.connections[audit.connections["id"].astype(str).isin(set(map(str, finding["connections"] or ())))]
        flows = [packets.flow(each) for each in story.rows(mine)]
        captures = []
        for path, sha256, first, last in zip(
            *(audit.captures[name] for name in ("path", "sha256", "first_packet", "last_packet")), strict=True
        ):
            if packets.ran(first, last, flows):
                place, why = self.originals.find(str(path), sha256 if isinstance(sha256, str) else None)
                captures.append((str(path), sha256 if isinstance(sha256, str) else None, place, why))
        whole = bool(captures) and all(place is not None for _, _, place, _ in captures)
        if not given.get("zip"):
            shown = self._page("bundle.html", base, title=f"Evidence of {finding['id']}", audit=row, finding=finding, captures=captures,
                               whole=whole and self.bundler is not None)  # fmt: skip
            return Answer(shown)
        if self.bundler is None or not whole:
            missing = [f"{path}: {says}" for path, _, place, says in captures if place is None] or [
                "no capture covers that time"
            ]
            return self.sorry(base, 409, f"A bundle needs the captures that were audited. {'; '.join(missing)}.")
        redact = given.get("redact") == "yes"
        out: IO[bytes] = tempfile.TemporaryFile(prefix="auditor-bundle-")  # noqa: SIM115  # whoever sends it closes it
        try:
            with self._bundling:  # one at a time: this runs on a user's own machine
                places = {str(place): path for path, _, place, _ in captures}
                self.bundler(audit, history.deciders(row.audit), str(finding["id"]), places, out, redact=redact)
        except BaseException:
            out.close()
            raise
        return Answer(b"", file=out, name=f"audit-{row.audit}-{finding['id']}{'-redacted' if redact else ''}.zip")

    def waiver(self, history: History, base: str, given: Mapping[str, str], form: Mapping[str, str] | None) -> Answer:
        """A waiver to fill in, tried on this audit, or written."""
        row = history.find(given["audit"])
        audit = self.audit(history, row)
        found = audit.findings[audit.findings["id"] == given["finding"]]
        if len(found) != 1:
            return self.sorry(base, 404, f"Audit {row.audit} has no finding {given['finding']}.")
        finding = next(story.rows(found))
        fields = (
            _proposed(audit, finding, self.today())
            if form is None
            else {name: form.get(name, "").strip() for name in _FIELDS}
        )
        context: dict[str, Any] = {"audit": row, "finding": finding, "fields": fields, "file": self.waivers}
        context |= {"text": "", "covers": [], "error": "", "written": False, "notes": []}
        status = 200
        if form is not None:
            try:
                values = _values(str(finding["rule"]), fields)
                made = check(values, known_of(audit), str(self.waivers or "waiver"))
                judged, _, notes = excused(audit, Waivers((made,)), self.today())
                covered = judged.findings[[isinstance(each, dict) for each in judged.findings["waived"]]]
                context |= {"text": entry(values), "covers": list(story.rows(covered)), "notes": notes}
                if form.get("do") == "write" and self.waivers is not None:
                    self._write(values)
                    context["written"] = True
            except ConfigError as error:
                context["error"], status = str(error), 422
        return Answer(self._page("waiver.html", base, title="Waiver", **context), status)

    def _write(self, values: Mapping[str, Any]) -> None:
        """One entry more at the end of the file. Raises ConfigError."""
        assert self.waivers is not None  # noqa: S101
        with self._lock:
            place = self.waivers.resolve()
            text = read_text(str(place), MAX_BYTES) if place.exists() else ""
            made = appended(text, values, Known(rule_names()), str(self.waivers))
            try:
                mode = place.stat().st_mode if place.exists() else None
                write_whole(place, made.encode())
                if mode is not None:
                    place.chmod(mode & 0o7777)
            except OSError as error:
                raise ConfigError(str(self.waivers), f"cannot be written: {error.strerror or error}") from error


_ID = "[0-9A-Za-z_-]{1,64}"
_ROUTES: tuple[tuple[re.Pattern[str], bool, Callable[..., Answer]], ...] = (
    (re.compile(r"/?"), False, Review.index),
    (re.compile(r"/audit/(?P<audit>[0-9]{1,9})/?"), False, Review.one),
    (re.compile(rf"/audit/(?P<audit>[0-9]{{1,9}})/connection/(?P<connection>{_ID})"), False, Review.connection),
    (re.compile(rf"/audit/(?P<audit>[0-9]{{1,9}})/finding/(?P<finding>{_ID})/waiver"), True, Review.waiver),
    (
        re.compile(rf"/audit/(?P<audit>[0-9]{{1,9}})/finding/(?P<finding>{_ID})/bundle(?P<zip>\.zip)?"),
        False,
        Review.bundle,
    ),
    (re.compile(r"/compare"), False, Review.compared),
)


# -- what the pages show -------------------------------------------------------------------------------------------------------------


def _when(ns: int | None) -> str:
    return clock(ns, date=True) if ns is not None else ""


@dataclass(frozen=True, slots=True)
class _Bar:
    row: Row
    x: float
    width: float
    parts: tuple[tuple[str, float, float], ...]
    """Severity, y and height, from the foot."""
    label: str


def _bars(rows: list[Row]) -> list[_Bar]:
    """The audits side by side, their findings stacked."""
    if not rows:
        return []
    most = max(sum(row.counts[word] for word in SEVERITIES) for row in rows) or 1
    wide = min(1000 / len(rows), 48.0)
    bars = []
    for number, row in enumerate(rows):
        foot, parts = 120.0, []
        for word in SEVERITIES:
            height = row.counts[word] / most * 104
            if row.counts[word]:
                foot -= max(height, 1.5)
                parts.append((word, foot, max(height, 1.5)))
        every = max(1, round(90 / wide))
        label = _when(row.last_ns or row.finished_ns)[5:16] if number % every == 0 else ""
        bars.append(_Bar(row, number * wide, wide - min(4.0, wide / 5), tuple(parts), label))
    return bars


@dataclass(frozen=True, slots=True)
class _Fact:
    severity: str
    rule: str
    title: str
    path: str | None
    first: str
    last: str
    audit: int
    finding: str | None
    waived: bool


def _open_facts(history: History) -> list[_Fact]:
    """Findings that are not gone, most severe and newest first."""
    rows = history.sql.execute(
        "SELECT fingerprint, severity, rule, title, path, first_seen_ns, last_seen_ns, last_audit, waived FROM facts WHERE gone_audit IS NULL"
    ).fetchall()
    rank = {word: number for number, word in enumerate(SEVERITIES)}
    rows.sort(key=lambda row: (row[8] is not None, rank.get(row[1], 9), -row[5], row[2], row[3]))
    ids: dict[int, dict[str, str]] = {}
    facts = []
    for mark, severity, rule, title, path, first, last, audit, waived in rows[:SHOWN_FACTS]:
        if audit not in ids:
            table = history.table("findings", audit, ["fingerprint", "id"])
            rows_ = [] if table is None else table.to_pylist()
            ids[audit] = {str(each["fingerprint"]): str(each["id"]) for each in rows_}
        facts.append(
            _Fact(
                severity, rule, title, path, _when(first), _when(last), audit, ids[audit].get(mark), waived is not None
            )
        )
    return facts


# -- waivers -------------------------------------------------------------------------------------------------------------------------

_MATCH = ("from", "to", "port", "transport", "path", "fingerprint")
_FIELDS = (*_MATCH, "reason", "owner", "ticket", "expires", "max_findings", "max_connections")


def _common(audit: Audit, finding: Mapping[str, Any], name: str) -> str:
    """The value that all connections of a finding have in this column, or nothing."""
    ids = set(map(str, finding["connections"] or ()))
    values = audit.connections.loc[audit.connections["id"].astype(str).isin(ids), name].astype(object)
    found = {str(each) for each in values.dropna()}
    return found.pop() if len(found) == 1 and values.notna().all() else ""


def _proposed(audit: Audit, finding: Mapping[str, Any], today: date) -> dict[str, str]:
    """The narrowest waiver that says in words what the finding is about."""
    ends = {}
    for end, column in (("from", "originator"), ("to", "responder")):
        ends[end] = _common(audit, finding, f"{column}_role") or _common(audit, finding, f"{column}_ip")
    return {
        **ends,
        "port": _common(audit, finding, "responder_port"),
        "transport": _common(audit, finding, "transport"),
        "path": str(finding["path"] or ""),
        "fingerprint": "" if any(ends.values()) else str(finding["fingerprint"])[:16],
        "reason": "",
        "owner": "",
        "ticket": "",
        "expires": (today + timedelta(days=VALID_DAYS)).isoformat(),
        "max_findings": "1",
        "max_connections": "",
    }


def _number(name: str, text: str) -> int | str:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(name, f"{text!r} is not a number", hint="a whole number")
    return int(text)


def _values(rule: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """What was filled in, as a waiver file has it. Raises ConfigError."""
    match: dict[str, Any] = {}
    for name in _MATCH:
        words = [word.strip() for word in fields[name].split(",") if word.strip()]
        if name == "port":
            words = [int(word) if word.isascii() and word.isdigit() else word for word in words]  # type: ignore[misc]  # numbers are written as numbers
        if words:
            match[name] = words[0] if len(words) == 1 else words
    values: dict[str, Any] = {"rule": rule, "match": match}
    values |= {name: fields[name] for name in ("reason", "owner", "ticket") if fields[name] or name != "ticket"}
    try:
        values["expires"] = date.fromisoformat(fields["expires"])
    except ValueError:
        raise ConfigError("expires", f"{fields['expires'][:40]!r} is not a date", hint="write 2027-01-31") from None
    for name in ("max_findings", "max_connections"):
        if fields[name]:
            values[name] = _number(name, fields[name])
    return values
