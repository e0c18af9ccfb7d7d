"""The Python interface of ``import auditor``: ``audit`` and the ``Report`` it returns. The command line is a thin layer on this.

report = auditor.audit("cell.pcap", inventory="vms.json")
report.findings.query("severity == 'critical'")
report.exit_status()
"""

from __future__ import annotations

import io
import json
import pkgutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal

from auditor import report as formats_package
from auditor.errors import ConfigError, InputError, MissingToolError, did_you_mean
from auditor.model.columns import TABLES
from auditor.model.limits import DEFAULTS, Limits, parse_limits
from auditor.report._target import file_target, folder_target
from auditor.wire.text import many

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from auditor.model.audit import Audit
    from auditor.model.connections import ConnectionTable
    from auditor.model.roles import Format
    from auditor.pipeline import Bare, Progress
    from auditor.policy.infer import Service
    from auditor.policy.waivers import Applied

Source = str | Path | BinaryIO
Place = str | Path
Policies = Any
"""``Place``, a dict, a DataFrame, a list of dicts, a ``Policy``, or a sequence of these."""
Inventories = Any
"""``Place``, a DataFrame, a list of dicts, an ``Inventory``, or a sequence of these."""
Follow = Callable[[], bool]
"""Called repeatedly while a growing capture is followed: True ends the reading."""

SAMPLE = "sample:"
FIRST_NS, LAST_NS = -(2**63), 2**63 - 1
_PACKAGE = Path(__file__).resolve().parent


def format_names() -> tuple[str, ...]:
    """Names of the output formats; each is a module of ``auditor.report``."""
    found = (each.name for each in pkgutil.iter_modules(formats_package.__path__))
    return tuple(sorted(name for name in found if not name.startswith("_")))


def find_format(name: str) -> Format:
    """The format of that name. Raises ConfigError."""
    names = format_names()
    if name not in names:
        raise ConfigError("--format", f"unknown format {name!r}", hint=f"one of {', '.join(names)}")
    found: Format = import_module(f"auditor.report.{name}").FORMAT
    return found


def _samples() -> Path | None:
    for place in (_PACKAGE / "_data" / "captures" / "sample", _PACKAGE.parent / "captures" / "sample"):
        if place.is_dir():
            return place
    return None


def _shown(path: Path) -> str:
    """The path relative to the working directory where possible, so that reports do not show private folder names."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def sample(name: str) -> tuple[list[Path], list[Path]]:
    """The captures of a shipped sample, and its inventory where it has one. Raises InputError."""
    from auditor.capture.opening import looks_like_capture

    place = _samples()
    here = sorted(place.iterdir()) if place else []
    captures = [each for each in here if each.is_file() and looks_like_capture(each)]
    exact = [each for each in captures if name and (each.name == name or each.name.startswith(f"{name}."))]
    found = exact or [each for each in captures if name and each.name.startswith(name)]
    if not found:
        names = sorted({each.name.split(".")[0] for each in captures if not each.name.startswith((".", "_"))})
        there = f"samples: {', '.join(names) or 'none'}"
        raise InputError(f"{SAMPLE}{name}", f"no such sample; {did_you_mean(name, names, there)}")
    stems = dict.fromkeys([name, *(each.name.split(".")[0] for each in found)])
    inventories = [each for stem in stems for each in here if each.name == f"{stem}.inventory.yml"]
    return found, inventories


def _many(given: Any, what: str = "captures") -> list[Any]:
    """One, or several, as a list. Raises ConfigError for what is neither."""
    if given is None:
        return []
    found = [given] if _is_one(given) else list(given) if isinstance(given, Iterable) else [given]
    tables = what in ("policy", "inventory")
    for each in found:
        if isinstance(each, bytes) or not (
            _is_one(each) if tables else isinstance(each, str | Path) or hasattr(each, "read")
        ):
            raise ConfigError(
                what, f"{type(each).__name__} is not accepted", hint=_TAKEN.get(what, "a file, or a list of files")
            )
    return found


_TAKEN = {
    "captures": "a file, a folder, sample:NAME, a binary stream, or a list of these",
    "policy": "a name or file, a dict, a DataFrame, what load_policy returns, or a list of these",
    "inventory": "a file, a dict, a DataFrame, what load_inventory returns, or a list of these",
}


def _is_one(given: Any) -> bool:
    return isinstance(given, Mapping | str | Path) or hasattr(given, "read") or _whole(given) or _is_rows(given)


def _whole(given: Any) -> bool:
    """A DataFrame, a parsed policy, or a parsed inventory."""
    return hasattr(given, "to_csv") or hasattr(given, "all_paths") or hasattr(given, "listing")


def _is_rows(given: Any) -> bool:
    return isinstance(given, list | tuple) and bool(given) and all(isinstance(each, Mapping) for each in given)


def check_scope(scope: str) -> None:
    """Raises ConfigError if the word is not a scope."""
    words = ("diego", "all")
    if scope not in words:
        hint = did_you_mean(str(scope), words, f"one of {', '.join(words)}")
        raise ConfigError("--scope", f"unknown scope {scope!r}", hint=hint)


def check_severity(fail_on: str) -> None:
    """Raises ConfigError if the word is not a severity."""
    from auditor.model.roles import Severity

    words = [*(severity.word for severity in sorted(Severity, reverse=True)), "never"]
    if fail_on not in words:
        hint = did_you_mean(str(fail_on), words, f"one of {', '.join(words)}")
        raise ConfigError("--fail-on", f"unknown severity {fail_on!r}", hint=hint)


def _policy(given: Any, release: str | None) -> Any:
    """The policy, whatever it was given as. Raises ConfigError."""
    if hasattr(given, "all_paths"):
        if release is not None:
            raise ConfigError("--release", "the policy is parsed already", hint="give the release to load_policy")
        return given
    from auditor.policy.policy_cache import load_policy
    from auditor.policy.yaml_positions import Document

    named: list[Any] = []
    for number, each in enumerate(_many(given, "policy"), 1):
        if isinstance(each, str | Path):
            named.append(str(each))
            continue
        rows = each.to_dict("records") if hasattr(each, "to_dict") else each
        document = dict(rows) if isinstance(rows, Mapping) else {
            "schema": "auditor.policy/1", "name": f"given-{number}", "version": "1", "title": "Given in Python", "overlay": True,
            "origin": {"title": "Given in Python"}, "paths": list(rows),
        }  # fmt: skip
        named.append(Document(f"policy {number}", json.dumps(document, default=str)))
    return load_policy(named, release=release)


def _given_or(inventory: Any, brought: list[str]) -> Any:
    """The inventory that was given; where none was, that of the samples."""
    return inventory if _whole(inventory) or len(_many(inventory, "inventory")) else brought


def _inventory(given: Any, rules: Any) -> Any:
    """The inventory, whatever it was given as; None where nothing was given. Raises ConfigError."""
    if hasattr(given, "listing"):
        return given
    from auditor.policy.inventory import load_inventory
    from auditor.policy.yaml_positions import Document

    named: list[Any] = []
    for number, each in enumerate(_many(given, "inventory"), 1):
        if isinstance(each, str | Path):
            named.append(str(each))
        elif isinstance(each, Mapping):
            named.append(Document(f"inventory {number}", json.dumps(dict(each), default=str)))
        else:
            named.append(Document(f"inventory {number}", _as_csv(each)))
    return load_inventory(named, rules) if named else None


def _as_csv(rows: Any) -> str:
    """Rows of an inventory as in a CSV file; lists within a cell are separated by spaces."""
    import pandas as pd

    frame = rows if hasattr(rows, "to_csv") else pd.DataFrame(list(rows))
    cells = frame.map(lambda cell: " ".join(map(str, cell)) if isinstance(cell, list | tuple | set) else cell)
    return str(cells.to_csv(index=False))


def _sources(captures: Iterable[Source]) -> tuple[list[str | BinaryIO], list[str]]:
    """The captures with samples resolved, and the inventories that the samples bring."""
    sources: list[str | BinaryIO] = []
    brought: dict[str, None] = {}
    for each in captures:
        if isinstance(each, str) and each.startswith(SAMPLE):
            found, inventories = sample(each[len(SAMPLE) :])
            sources += map(_shown, found)
            brought |= dict.fromkeys(map(_shown, inventories))
        else:
            sources.append(str(each) if isinstance(each, Path) else each)
    return sources, list(brought)


def _losses(problems: Sequence[Any], dropped: Iterable[Any]) -> list[str]:
    """What is missing from captures: their problems, and packets they report as dropped."""
    from auditor.model import losses

    packets = int(sum(each or 0 for each in dropped))
    told = losses.told(each or () for each in problems)
    return [*told, f"{packets} packets dropped while capturing"] if packets > 0 else told


def _idle(packets: Iterable[int]) -> str:
    if not any(packets):
        return "no packets"
    return "no connection in these packets: no IP, or another link type"


class Report:
    """The result of an audit: tables to work with, and every form it is written in."""

    def __init__(self, audit: Audit, warnings: Sequence[str] = (), waivers: Applied | None = None) -> None:
        self.audit = audit
        """All of it, with the internal columns and times as nanoseconds."""
        self.warnings = tuple(warnings)
        """Warnings about the inventory (an address with two names at one time, ...), and what could not be decrypted."""
        self.waivers = waivers
        """Status of the waivers: how many there are, which have expired, match nothing, or exceed their ceiling."""

    def __repr__(self) -> str:
        return (
            f"<Report: {many(len(self.audit.connections), 'connection')}, {many(len(self.audit.findings), 'finding')}>"
        )

    def _public(self, table: str) -> pd.DataFrame:
        import pandas as pd

        frame: pd.DataFrame = getattr(self.audit, table)
        columns = [column for column in TABLES[table] if column.name in frame.columns]
        public = frame[[column.name for column in columns]].copy()
        for column in columns:
            if column.kind == "time":
                public[column.name] = pd.to_datetime(public[column.name], unit="ns", utc=True)
        return public

    @cached_property
    def connections(self) -> pd.DataFrame:
        """One row per connection; columns as in docs/reports.md. ``connections.auditor`` has tables and plots of the usual questions."""
        from auditor.report import _plots  # noqa: F401  # gives DataFrames ``auditor``

        return self._public("connections")

    @cached_property
    def findings(self) -> pd.DataFrame:
        """One row per finding; severity and confidence are ordered: ``findings[findings.severity >= "high"]``."""
        import pandas as pd

        from auditor.model.roles import Severity

        frame = self._public("findings")
        for name, words in (
            ("severity", [severity.word for severity in sorted(Severity)]),
            ("confidence", ["low", "medium", "high"]),
        ):
            if name in frame:
                frame[name] = pd.Categorical(frame[name], categories=words, ordered=True)
        return frame

    @cached_property
    def coverage(self) -> pd.DataFrame:
        """One row per documented path, seen or not."""
        return self._public("coverage")

    @cached_property
    def captures(self) -> pd.DataFrame:
        """One row per capture."""
        return self._public("captures")

    @property
    def summary(self) -> dict[str, Any]:
        """The ``summary`` object of the JSON report."""
        return self.audit.summary

    @property
    def info(self) -> dict[str, Any]:
        """The ``audit`` object of the JSON report: id, times, policies, inventories, options."""
        return self.audit.info

    @property
    def certificates(self) -> list[dict[str, Any]]:
        """The certificates seen, and which ends showed them: as in the JSON report."""
        return list(self.audit.certificates)

    @property
    def incidents(self) -> list[dict[str, Any]]:
        """What each actor did, the most successful first: as in the JSON report."""
        from auditor.incidents import of

        return [each.as_dict() for each in of(self.audit)]

    def of_host(self, host: str) -> Report:
        """The report reduced to one address, or to one VM by its name in the inventory. Raises ConfigError."""
        from auditor.incidents import told_of

        try:
            return Report(told_of(self.audit, host), self.warnings, self.waivers)
        except ValueError:
            raise ConfigError("--host", f"no connection from or to {host!r}", hint="name an address or a VM") from None

    def _repr_html_(self) -> str:
        """Summary, findings and coverage, for notebooks."""
        from auditor.report._notebook import notebook_html

        return notebook_html(self.audit)

    def to_json(self, table: str | None = None) -> str:
        """The JSON report (schema ``auditor.report/1``), or one table as an array."""
        return self._text("json", table=table)

    def to_ndjson(self, table: str | None = None) -> str:
        """The records of the JSON report, one a line."""
        return self._text("ndjson", table=table)

    def encryption(self, form: str = "json") -> str:
        """What is still sent unencrypted, by path and by VM: json (schema ``auditor.encryption/1``), csv, table, markdown, html. Raises ConfigError."""
        from auditor.report._encryption_forms import FORMS

        if form not in FORMS:
            raise ConfigError("--format", f"unknown format {form!r}", hint=f"one of {', '.join(FORMS)}")
        return FORMS[form](self.audit)

    def to_csv(self, table: str = "connections") -> str:
        """One table as CSV."""
        return self._text("csv", table=table)

    def to_markdown(self, table: str | None = None) -> str:
        """The report as Markdown."""
        return self._text("markdown", table=table)

    def to_html(self, table: str | None = None) -> str:
        """The report as one self-contained HTML page."""
        return self._text("html", table=table)

    def to_table(self, *, color: bool = False, width: int = 80) -> str:
        """The report as text for a terminal."""
        return self._text("table", color=color, width=width)

    def _text(self, name: str, **options: Any) -> str:
        out = io.BytesIO()
        self.write(name, out, **options)
        return out.getvalue().decode()

    def write(self, format: str, out: Place | IO[bytes], **options: Any) -> None:  # noqa: A002  # the option's name
        """Write to a binary stream, or to a file that appears only when complete.

        ``options``: ``table`` (connections, findings, coverage, captures), ``color``, ``width``. Raises ConfigError for an unknown
        format or table, and where the place cannot be written.
        """
        found = find_format(format)
        if options.get("table") not in (None, *TABLES):
            raise ConfigError("--table", f"unknown table {options['table']!r}", hint=f"one of {', '.join(TABLES)}")
        if isinstance(out, str | Path):
            with (folder_target if found.folder else file_target)(Path(out)) as target:
                found.write(self.audit, target, **options)
        elif found.folder:
            raise ConfigError("--output", f"{format} is a folder of files", hint="name a folder")
        else:
            found.write(self.audit, out, **options)

    @property
    def idle(self) -> str | None:
        """Why there is no connection, as far as known (only ARP, the wrong link type); None: there is one."""
        return None if len(self.audit.connections) else _idle(self.audit.captures["packets"])

    def incomplete(self, max_undecided: float = 5.0) -> list[str]:
        """Why the audit is incomplete: damaged inputs, dropped packets, too many undecided connections. Empty: it is complete."""
        captures = self.audit.captures
        reasons = (
            _losses(captures["problems"].tolist(), captures["dropped"].fillna(0).tolist()) if len(captures) else []
        )
        sufficiency = self.summary.get("sufficiency") or {}
        told = sufficiency.get("reasons") or {}
        if "no_connection_in_scope" in told:
            some = "no connection has an end in scope" if self.summary["connections"] else "no connection"
            some += " in that time" if {"since_ns", "until_ns"} & set(self.audit.info.get("options") or {}) else ""
            reasons.append(f"nothing was audited: {some}")
        openings = told.get("nothing_decided")
        if openings:
            reasons.append(
                f"no authentication was judged: only the opening of all {openings:,} documented connections was captured"
            )
        closed = told.get("ipsec")
        if closed:
            reasons.append(f"IPsec hides the content of {many(closed, 'connection')}: capture where it is decrypted")
        contradicted = told.get("contradicting_packets")
        if contradicted:
            some = "connection" if contradicted == 1 else "connections"
            reasons.append(
                f"{contradicted:,} undecided {some} with packets that contradict each other: any such connection makes an audit incomplete"
            )
        cut = told.get("cut_packets")
        if cut:
            some = "connection" if cut == 1 else "connections"
            reasons.append(f"{cut:,} undecided {some} whose packets were cut short: no share of these is small enough")
        percent = sufficiency.get("undecided_percent") or 0.0
        if percent > max_undecided:
            reasons.append(f"{percent:.1f} % of the judged connections are undecided, more than {max_undecided:g} %")
        return reasons

    def failing(self, fail_on: str = "medium") -> int:
        """Number of findings at or above this severity that are not waived. Raises ConfigError for an unknown severity."""
        from auditor.model.roles import Severity

        words = [severity.word for severity in sorted(Severity, reverse=True)]
        check_severity(fail_on)
        findings = self.audit.findings
        if fail_on == "never" or not len(findings):
            return 0
        counted = words[: words.index(fail_on) + 1]
        return int((findings["severity"].isin(counted) & findings["waived"].isna()).sum())

    def exit_status(self, fail_on: str = "medium", max_undecided: float = 5.0, allow_incomplete: bool = False) -> int:
        """0: clean and complete. 1: findings at or above ``fail_on``, or a waiver that has expired. 3: none of these, but incomplete."""
        if self.failing(fail_on) or (self.waivers is not None and self.waivers.expired):
            return 1
        return 3 if self.incomplete(max_undecided) and not allow_incomplete else 0


def audit(
    captures: Source | Sequence[Source],
    *,
    policy: Policies = "tas",
    inventory: Inventories = (),
    release: str | None = None,
    ca: Place | Sequence[Place] = (),
    keylog: Place | None = None,
    scope: Literal["diego", "all"] = "diego",
    strict: bool = False,
    linktype: int | None = None,
    limits: Limits | Mapping[str, int] | None = None,
    follow: Follow | None = None,
    fail_on: str = "medium",
    max_undecided: float = 5.0,
    waivers: Place | Sequence[Place] = (),
    store: Place | None = None,
    baseline: str | None = None,
    new_only: bool = False,
    hash: bool = False,  # noqa: A002  # the option's name
    since: datetime | int | str | None = None,
    until: datetime | int | str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """One pass over captures.

    Parameters
    ----------
    captures : files, folders, globs, ``sample:NAME``, ``-`` for standard input, or binary streams
    policy : names of shipped policies or files, later ones add; a dict as a policy file has it; declared paths as a DataFrame or a list of dicts;
        a parsed ``Policy``
    inventory : inventory files; a DataFrame or a list of dicts with the columns of a CSV inventory (name, ip, roles, ...); a parsed
        ``Inventory``. None: a sample brings its own, else roles are inferred
    release : of the platform, ``2.10`` say; paths that it does not have are left out
    ca : files with CA certificates that certificates must chain to; ``ROLE=FILE`` those of one service (or path)
    keylog : NSS key log file; tshark decrypts with it what the packets alone do not show (as with keys inside a pcapng). It is
        read in place and never copied
    scope : ``all`` judges connections without a Diego VM, too
    strict : unverifiable authentication is a finding of medium severity
    linktype : LINKTYPE_ number to use for every input instead of its own
    limits : limits on memory and time (``auditor.Limits``, or some of its values by name). Reaching one makes the audit
        incomplete and is reported in ``report.captures.problems``
    follow : the only capture is still being written: read on at its end until this function returns True, the file is rotated, or
        ``limits.follow_idle_seconds`` are over
    fail_on, max_undecided : when the report counts as clean and complete
    waivers : files with accepted findings; they stay in the report, marked, and no longer count
    store : folder of earlier audits; this one is kept there, and says which of its findings are new
    baseline : an earlier report (JSON, NDJSON, folder of Parquet), or an audit of the store: findings that are not in it are new
    new_only : leave out the findings that are not new; needs ``store`` or ``baseline``
    hash : compute the SHA-256 of captures, as ``store`` does
    since, until : the report is about connections seen then or later, begun then or earlier: a datetime with a time zone, RFC 3339, a date, ``"2h"``
        for two hours ago, or nanoseconds since 1970. All
        packets are read: earlier ones may be needed (a resumed handshake, the originator)
    workers : processes that follow captures, one capture each at a time; the result is the same. A script that asks for more
        than one starts under ``if __name__ == "__main__":``
    scheduler : address of a Dask scheduler whose workers follow the captures, one each at a time, instead of this process; they read them by
        the same path. The result is the same. Who can write to the scheduler can run programs on its machines, and this one
    progress : called now and then while reading

    Raises
    ------
    InputError : nothing could be audited, or an argument does not exist
    ConfigError : a policy, an inventory or an option is wrong, or the scheduler does not answer
    MissingToolError : ``scheduler`` without Dask
    """
    from auditor import pipeline

    check_severity(fail_on)
    check_scope(scope)
    first, last = nanoseconds(since, "--since"), nanoseconds(until, "--until")
    if first is not None and last is not None and first > last:
        raise ConfigError("--since", "it is later than --until", hint="swap them")

    def made() -> Report:
        return _run(pipeline.run, captures, policy, inventory, release, progress, {
            "scope": scope, "strict": strict, "linktype": linktype, "release": release, "fail_on": fail_on,
            "max_undecided": max_undecided, "ca": [str(each) for each in _many(ca, "ca")],
            "keylog": None if keylog is None else str(keylog), **_reading(captures, limits, follow),
            **{name: ns for name, ns in (("since_ns", first), ("until_ns", last)) if ns is not None},
        }, workers, scheduler)  # fmt: skip

    excused = [str(each) for each in _many(waivers, "waivers")]
    if not (excused or store is not None or baseline is not None or new_only or hash):
        return made()
    from auditor.jobs.keep import Wishes, known_names

    given = [*_many(policy, "policy"), *_many(inventory, "inventory")]
    files = [str(each) for each in (*given, *_brought(captures), *excused) if isinstance(each, str | Path)]
    known = None
    if excused:
        rules = _policy(policy, None)  # rules and paths that a release leaves out are known, too
        known = known_names(rules, _inventory(_given_or(inventory, _brought(captures)), rules))
    wishes = Wishes(excused, known, None if store is None else str(store), baseline, new_only, hash, tuple(files))
    with wishes.ready() as settle:
        report = made()
        settled, applied, warnings = settle(report.audit)
    return Report(settled, (*report.warnings, *warnings), applied)


def _brought(captures: Any) -> list[str]:
    """The inventories that samples among the captures bring."""
    return _sources(_many(captures))[1]


def connections(
    captures: Source | Sequence[Source],
    *,
    linktype: int | None = None,
    limits: Limits | Mapping[str, int] | None = None,
    follow: Follow | None = None,
    evidence: bool = True,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Report:
    """Only the connection table: who talked to whom, how much, and in which protocol; nothing is judged.

    The columns that say what a policy makes of a connection are missing from its table; with ``evidence`` False those of what the first bytes show, too, which is
    several times as fast. Parameters and errors as in ``audit``.
    """
    from auditor import pipeline

    sources, _ = _sources(_many(captures))
    options = {"linktype": linktype, "evidence": evidence, **_reading(captures, limits, follow)}
    return Report(pipeline.connections(sources, options=options, progress=progress, follow=_follow(workers, scheduler)))


class Connections:
    """The connection table alone, to be written: what ``connections`` gives, without DataFrames."""

    warnings: tuple[str, ...] = ()

    def __init__(self, found: Bare) -> None:
        self._found = found

    def __len__(self) -> int:
        return len(self._found.table)

    def write_csv(self, out: IO[bytes], fields: Sequence[str] = ()) -> None:
        """These columns, none: all that packets tell; the same bytes as ``Report.write("csv", ...)``."""
        from auditor.report._rows import write_csv

        found = self._found
        digits = [each.time_digits for each in found.captures]
        write_csv(found.table, found.texts(), found.vantages(), digits, fields, out)

    @property
    def idle(self) -> str | None:
        """As ``Report.idle``."""
        return None if len(self) else _idle(each.packets for each in self._found.captures)

    def incomplete(self, max_undecided: float = 100.0) -> list[str]:
        """As ``Report.incomplete``; nothing was decided, so that nothing is undecided."""
        del max_undecided
        problems = [[problem.as_dict() for problem in each.problems] for each in self._found.captures]
        return _losses(problems, [each.dropped for each in self._found.captures])


def bare_connections(
    captures: Source | Sequence[Source],
    *,
    linktype: int | None = None,
    limits: Limits | Mapping[str, int] | None = None,
    follow: Follow | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Connections:
    """As ``connections`` without evidence, for writing alone: pandas, slow to import, is left alone."""
    from auditor import pipeline

    sources, _ = _sources(_many(captures))
    options = {"linktype": linktype, "evidence": False, **_reading(captures, limits, follow)}
    return Connections(pipeline.bare(sources, options=options, progress=progress, follow=_follow(workers, scheduler)))


def services(
    captures: Source | Sequence[Source],
    *,
    linktype: int | None = None,
    limits: Limits | Mapping[str, int] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> list[Service]:
    """What each address serves, and to whom: what ``auditor inventory infer`` drafts an inventory from.

    Parameters and errors as in ``audit``.
    """
    from auditor import pipeline

    sources, _ = _sources(_many(captures))
    return pipeline.services(sources, options={"linktype": linktype, **_reading(captures, limits)}, progress=progress)


def _reading(captures: Any, limits: Limits | Mapping[str, int] | None, follow: Follow | None = None) -> dict[str, Any]:
    """Limits and following as options of the pipeline. Raises ConfigError."""
    if limits is not None and not isinstance(limits, Limits):
        limits = parse_limits(f"{name}={value}" for name, value in limits.items())
    found: dict[str, Any] = {"limits": limits or DEFAULTS}
    if follow is not None:
        named = _many(captures)
        if len(named) != 1 or (isinstance(named[0], str) and (named[0].startswith(SAMPLE) or Path(named[0]).is_dir())):
            raise ConfigError("--follow", "follows one capture", hint="name one file, or - for standard input")
        from auditor.capture.growing import Growth

        found["growth"] = Growth(follow, float(found["limits"].follow_idle_seconds))
    return found


def _follow(workers: int, scheduler: str | None) -> Any:
    """How captures are followed: in this process, in many, or on a cluster. Raises ConfigError."""
    if scheduler is not None:
        if workers != 1:
            raise ConfigError("--scheduler", "the cluster has its own workers", hint="leave --workers out")
        from auditor.jobs.cluster import follow_on_cluster

        return follow_on_cluster(scheduler)
    if workers == 1:
        return None
    from auditor.jobs.scale import follow_many

    return follow_many(workers)


def _run(
    run: Callable[..., Audit],
    captures: Any,
    policy: Any,
    inventory: Any,
    release: str | None,
    progress: Callable[[Progress], None] | None,
    options: dict[str, Any],
    workers: int,
    scheduler: str | None,
) -> Report:
    sources, brought = _sources(_many(captures))
    rules = _policy(policy, release)
    who = _inventory(_given_or(inventory, brought), rules)
    if options.get("ca"):
        from auditor.policy.certificates import load_cas

        options["ca"] = load_cas(options["ca"], rules)
    else:
        options.pop("ca", None)
    warnings = list(who.warnings + who.conflicts) if who else []
    before: list[str] = []
    told: dict[str, Any] = {}
    if "since_ns" in options or "until_ns" in options:
        told["within"] = _between(options.get("since_ns"), options.get("until_ns"))
    if "keylog" in options:
        _check_keylog(options, before)
        warnings += before
        told["warn"] = warnings.append
    result = run(
        sources,
        policy=rules,
        inventory=who,
        options=options,
        progress=progress,
        follow=_follow(workers, scheduler),
        **told,
    )
    earlier = [each for each in before if each not in result.info.get("warnings", ())]
    if earlier:
        result.info["warnings"] = [*earlier, *result.info.get("warnings", ())]
    return Report(result, warnings)


def nanoseconds(moment: datetime | int | str | None, option: str = "since, until") -> int | None:
    """Since 1970. Raises ConfigError for a time without a time zone, or none at all."""
    if moment is None or (isinstance(moment, int) and not isinstance(moment, bool)):
        return moment
    if isinstance(moment, str):
        from auditor.policy import times

        return times.moment(option, moment, time.time_ns())
    if not isinstance(moment, datetime):
        raise ConfigError(
            option,
            f"{moment!r} is not a time",
            hint='a datetime with a time zone, "2026-11-22T10:00:00Z", "2h", or nanoseconds as int',
        )
    if moment.tzinfo is None:
        raise ConfigError(option, f"{moment.isoformat()} has no time zone", hint="tzinfo=UTC, say")
    return round(moment.timestamp() * 1_000_000) * 1_000


def _between(since_ns: int | None, until_ns: int | None) -> Callable[[ConnectionTable], NDArray[np.bool_]]:
    """Which connections were open then."""

    def within(table: ConnectionTable) -> NDArray[np.bool_]:
        keep: NDArray[np.bool_] = table.last_ns >= (FIRST_NS if since_ns is None else since_ns)
        return keep & (table.first_ns <= (LAST_NS if until_ns is None else until_ns))

    return within


def _check_keylog(options: dict[str, Any], warnings: list[str]) -> None:
    """That the key log can be used; without tshark it is left aside with a warning. Raises InputError where it cannot be read."""
    if options["keylog"] is None:
        del options["keylog"]
        return
    from auditor.tshark.decrypt import check

    try:
        check(Path(options["keylog"]))
    except MissingToolError as error:
        warnings.append(f"{options.pop('keylog')}: {error}; verdicts rest on the packets alone")
