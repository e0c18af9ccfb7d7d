"""Waivers: accepted findings, with an owner and an end date.

Rules that hold here:

- A waiver names a rule, what it matches, a reason, an owner and the day it ends, and a ticket where there is one. Nothing is waived for ever: ``expires`` is mandatory.
- It covers a finding only where every connection of the finding matches, so that a wide finding is not waived by its harmless half.
- It has a ceiling. One that covers more findings (or connections) than it says covers none: a second intruder is not hidden by the
  waiver of the first, nor is one that comes in a later audit.
- One that has expired covers nothing and fails the audit until it is renewed or removed. One that matched nothing is reported.
- A rule, path or role that there is not is an error with the nearest name: a misspelt waiver must not be silently without effect.
- A waived finding stays in every machine-readable output, marked; it only stops counting.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from auditor.errors import ConfigError, did_you_mean, together
from auditor.policy._ports import Ports
from auditor.policy.policy import canonical
from auditor.policy.validation_errors import Mistakes, validation_errors
from auditor.policy.yaml_positions import Place, YamlDocument, other_kind, parse_json_with_lines, parse_yaml, read_text
from auditor.wire.text import many

if TYPE_CHECKING:
    import pandas as pd

    from auditor.policy.policy import Policy

SCHEMA = "auditor.waivers/1"
MAX_BYTES = 4 * 1024 * 1024
BUDGET = 100_000

Text = Annotated[str, StringConstraints(min_length=1, max_length=1_000, strip_whitespace=True)]


def _day(value: Any) -> Any:
    """A date; a time is taken for its day."""
    text = value.isoformat() if isinstance(value, date) else str(value)
    try:
        return date.fromisoformat(text[:10] if "T" in text or " " in text else text)
    except ValueError:
        says = f"{text[:40]!r} is not a date".replace("{", "(").replace("}", ")")
        raise PydanticCustomError("policy_date", says, {"hint": "write 2027-01-31"}) from None


def _ends(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Words = Annotated[tuple[Text, ...], BeforeValidator(lambda value: tuple(_ends(value)))]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)


class Match(_Model):
    """Which findings of the rule: all that is named must hold; of several words one."""

    fingerprint: Words = Field((), description="Of the finding, or its first eight digits or more.")
    path: Words = Field((), description="Documented path or near miss.")
    from_: Words = Field((), alias="from", description="Role, address, network or instance of the originator.")
    to: Words = Field((), description="Role, address, network or instance of the responder.")
    port: Ports | None = Field(None, description="Port of the responder, or ranges.")
    transport: Literal["tcp", "udp", "icmp", "icmp6", "sctp"] | None = None

    @model_validator(mode="after")
    def _something(self) -> Match:
        if not (self.fingerprint or self.path or self.from_ or self.to or self.port or self.transport):
            raise PydanticCustomError(
                "policy_match", "match is empty", {"hint": "add from, to, port, path, transport or fingerprint"}
            )
        if any(len(each) < 8 for each in self.fingerprint):
            raise PydanticCustomError(
                "policy_match", "a fingerprint is too short", {"hint": "write eight digits or more"}
            )
        return self


class WaiverModel(_Model):
    """One waiver."""

    rule: Text
    match: Match
    reason: Text
    owner: Text
    ticket: Text | None = Field(None, description="Optional: where it is discussed.")
    expires: Annotated[date, BeforeValidator(_day)] = Field(description="The last day on which it is valid, in UTC.")
    max_findings: int = Field(1, ge=1, description="Ceiling: if more findings match than this, it covers none.")
    max_connections: int | None = Field(
        None, ge=1, description="Ceiling: if more connections match than this in one audit, it covers none."
    )


class WaiversModel(_Model):
    """A file of waivers."""

    schema_: Literal["auditor.waivers/1"] = Field("auditor.waivers/1", alias="schema")
    waivers: tuple[WaiverModel, ...] = ()


@dataclass(frozen=True, slots=True)
class Waiver:
    """One waiver and where it stands."""

    file: str
    line: int
    model: WaiverModel

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"

    def expired(self, today: date) -> bool:
        """Whether its last day is over."""
        return today > self.model.expires

    @property
    def key(self) -> str:
        """Of what it covers: the same wherever it stands and whoever answers for it."""
        covers = self.model.model_dump_json(include={"rule", "match"})
        return hashlib.sha256(covers.encode()).hexdigest()[:32]

    def told(self) -> dict[str, Any]:
        """As reports name it."""
        model = self.model
        return {
            "place": self.place,
            "rule": model.rule,
            "owner": model.owner,
            "ticket": model.ticket,
            "until": model.expires.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class Waivers:
    """The waivers of some files."""

    entries: tuple[Waiver, ...] = ()
    sources: tuple[dict[str, str], ...] = ()
    """{path, sha256} of each file."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What the waivers did in one audit; each is reported as ``Waiver.told`` plus what matters."""

    sources: tuple[dict[str, str], ...] = ()
    entries: int = 0
    expired: tuple[dict[str, Any], ...] = ()
    unused: tuple[dict[str, Any], ...] = ()
    over: tuple[dict[str, Any], ...] = ()
    """Those above their ceiling, with ``says``."""
    matched: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Fingerprints that each waiver (by its key) matched, covered or not, in this audit and earlier ones."""

    def as_dict(self) -> dict[str, Any]:
        """As the report's ``audit.options.waivers``."""
        return {
            "files": list(self.sources),
            "entries": self.entries,
            "expired": list(self.expired),
            "unused": list(self.unused),
            "over": list(self.over),
        }


@dataclass(frozen=True, slots=True)
class Known:
    """The names that a waiver may hold."""

    rules: Sequence[str]
    policy: Policy | None = None
    """Whose roles and paths there are; None: these are not looked at."""
    paths: frozenset[str] = frozenset()
    """Paths besides: those of shipped policies, which near misses name, too."""
    hosts: frozenset[str] | None = None
    """Instances, canonical; None: the inventory is not known here, so that any may be one."""


def load_waivers(files: Sequence[str], known: Known) -> Waivers:
    """The waivers of these YAML or JSON files. Raises ConfigError with file, line and fix of every mistake."""
    found: list[Waiver] = []
    sources: list[dict[str, str]] = []
    wrong: list[ConfigError] = []
    for file in files:
        text = read_text(file, MAX_BYTES)
        try:
            found += entries(parsed(file, text), known)
        except ConfigError as error:
            wrong += error.all
        sources.append({"path": file, "sha256": hashlib.sha256(text.encode()).hexdigest()})
    if wrong:
        raise together(wrong)
    return Waivers(tuple(found), tuple(sources))


def parsed(file: str, text: str) -> YamlDocument:
    """A file of waivers with its lines. Raises ConfigError."""
    return (parse_json_with_lines if file.endswith(".json") else parse_yaml)(file, text, BUDGET)


def entries(document: YamlDocument, known: Known) -> list[Waiver]:
    """The waivers of a file that is read already. Raises ConfigError of every mistake."""
    data = document.data
    if data is None:
        return []
    if not isinstance(data, dict):
        raise document.error((), "must be a mapping", "write 'waivers:' and a list below it")
    if other := other_kind(data, "waivers"):
        raise ConfigError(document.file, f"is {other[0]}, not a file of waivers", hint=other[1])
    mistakes = Mistakes(document.file)
    model = WaiversModel.model_validate({})
    try:
        model = WaiversModel.model_validate(data)
    except ValidationError as error:
        for each in validation_errors(document, error, WaiversModel):
            mistakes.add(each)
    # Names are looked at as they stand, so that a waiver without an owner tells its misspelt rule, too.
    items = data.get("waivers")
    for at, item in enumerate(items if isinstance(items, list) else ()):
        for wrong in _unknown(document, ("waivers", at), item, known) if isinstance(item, dict) else ():
            mistakes.add(wrong)
    mistakes.settle()
    return [Waiver(document.file, document.line(("waivers", at)) or 1, each) for at, each in enumerate(model.waivers)]


def _unknown(document: YamlDocument, place: Place, item: dict[str, Any], known: Known) -> Iterator[ConfigError]:
    """Unknown names in a waiver, as read from the file; values of wrong types are not looked at."""
    rule = item.get("rule")
    if isinstance(rule, str) and rule.strip() and rule.strip() not in known.rules:
        hint = did_you_mean(rule.strip(), known.rules, "auditor explain lists them")
        yield document.error((*place, "rule"), f"unknown rule {rule.strip()!r}", hint)
    match = item.get("match")
    if known.policy is None or not isinstance(match, dict):
        return
    paths = known.paths.union(known.policy.by_id)
    for word in _named(match, "path"):
        if word not in paths:
            hint = did_you_mean(
                word, paths, "auditor policy show tas lists them; those of other policies with --policy"
            )
            yield document.error((*place, "match", "path"), f"unknown path {word!r}", hint)
    for key in ("from", "to"):
        for word in _named(match, key):
            told = _not_an_end(word, known.policy, known.hosts)
            if told is not None:
                yield document.error((*place, "match", key), *told)


def _named(match: dict[str, Any], key: str) -> list[str]:
    """The texts that stand there, one or a list."""
    value = _ends(match.get(key))
    return [word.strip() for word in value if isinstance(word, str) and word.strip()] if isinstance(value, list) else []


_ADDRESS_LIKE = re.compile(r"[0-9.]+(/.*)?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(/.*)?")
_ALIKE = 0.8
"""So alike to a role that it is meant, where it might be an instance of an inventory that is not known here."""


def _not_an_end(word: str, policy: Policy, hosts: frozenset[str] | None) -> tuple[str, str] | None:
    """Why no connection can have such an end, and what to write; None: one can."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_network(word, strict=False)
        return None
    name, (group, slash, _) = canonical(word), word.partition("/")
    if _ADDRESS_LIKE.fullmatch(word):
        return f"{word!r} is not an address or network", "write 10.0.8.20 or 10.0.8.0/24"
    if name in policy.roles or name in (hosts or ()):
        return None
    held = policy.held_by(group)
    if held is not None:
        # An instance may have gone from the inventory; that of a known group was one.
        meant = " or ".join(one.role for one in held)
        return None if slash else (f"{word!r} is the name of a group, and no role", f"write {meant}")
    if hosts is None:
        from difflib import get_close_matches

        close = get_close_matches(canonical(group), policy.roles, 1, _ALIKE)
        return (f"unknown role {group!r}", f"did you mean {close[0]}{slash and word[len(group) :]}?") if close else None
    hint = did_you_mean(word, [*policy.roles, *hosts], "auditor policy show and auditor inventory show list them")
    return f"unknown role or instance {word!r}", hint


# Matching


def apply(
    waivers: Waivers,
    findings: pd.DataFrame,
    connections: pd.DataFrame,
    today: date,
    earlier: Mapping[str, frozenset[str]] | None = None,
) -> tuple[list[dict[str, Any] | None], Applied]:
    """``waived`` of each finding, and what the waivers did. The tables are those of an audit; ``today`` is the day in UTC.

    ``earlier``: by key of a waiver, the fingerprints that it matched in earlier audits and that are not gone. They count against its ceiling, too:
    a second host that appears an hour after the waived one is another case.
    """
    earlier = earlier or {}
    matched: dict[str, frozenset[str]] = {}
    waived: list[dict[str, Any] | None] = [None] * len(findings)
    expired = [each.told() for each in waivers.entries if each.expired(today)]
    unused: list[dict[str, Any]] = []
    over: list[dict[str, Any]] = []
    wanted = {each.model.rule for each in waivers.entries}
    rule_of = [str(rule) for rule in findings["rule"]] if len(findings) else []
    subjects = _subjects(findings, connections, [k for k, rule in enumerate(rule_of) if rule in wanted])
    for waiver in waivers.entries:
        model = waiver.model
        hits = [k for k, subject in subjects.items() if rule_of[k] == model.rule and _covers(model.match, subject)]
        before = earlier.get(waiver.key, frozenset())
        marks = before | {subjects[k].fingerprint for k in hits}
        matched[waiver.key] = marks
        if not hits:
            if not before:
                unused.append(waiver.told())
            continue
        if waiver.expired(today):
            continue
        concerned = sum(subjects[k].count for k in hits)
        says = None
        if len(marks) > model.max_findings:
            ago = f" ({len(marks) - len(hits)} of them seen earlier)" if len(marks) > len(hits) else ""
            says = f"covers {many(len(marks), 'finding')}{ago}, more than its max_findings of {model.max_findings}"
        elif model.max_connections is not None and concerned > model.max_connections:
            says = f"covers {many(concerned, 'connection')}, more than its max_connections of {model.max_connections}"
        if says:
            over.append({**waiver.told(), "says": says})
            continue
        for k in hits:
            until = model.expires.isoformat()
            mark = {"reason": model.reason, "owner": model.owner, "ticket": model.ticket, "until": until}
            held = waived[k]
            if held is None or held["until"] < until:
                waived[k] = mark
    return waived, Applied(waivers.sources, len(waivers.entries), tuple(expired), tuple(unused), tuple(over), matched)


@dataclass(frozen=True, slots=True)
class _End:
    ip: str
    names: frozenset[str]
    """Roles and instance."""


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a finding is about, as far as a waiver may ask."""

    fingerprint: str
    paths: frozenset[str]
    """All that it may be about; a waiver may name any of them."""
    count: int
    ends: frozenset[tuple[_End, _End, int | None, str]]
    """Originator, responder, port and transport of all its connections."""


def _subjects(findings: pd.DataFrame, connections: pd.DataFrame, asked: Sequence[int]) -> Mapping[int, _Subject]:
    if not asked:
        return {}
    wanted = {name for k in asked for name in findings["connections"].iloc[k]}
    rows = connections[connections["id"].isin(wanted)]
    ends: dict[str, set[tuple[_End, _End, int | None, str]]] = {}
    paths: dict[str, frozenset[str]] = {}
    for name, held in zip(rows["id"].tolist(), rows["paths"].tolist(), strict=True):
        each = frozenset(map(str, held or ()))
        paths[name] = paths[name] & each if name in paths else each
    columns = [
        rows["id"].tolist(),
        *(rows[f"{end}_{name}"].tolist() for end in ("originator", "responder") for name in ("ip", "role", "roles", "instance")),
        rows["responder_port"].astype(object).tolist(),
        rows["transport"].astype(object).tolist(),
    ]  # fmt: skip
    made: dict[tuple[Any, ...], tuple[_End, _End, int | None, str]] = {}
    for name, *values in zip(*columns, strict=True):
        ip, role, roles, instance, ip2, role2, roles2, instance2, port, transport = values
        key = (ip, role, tuple(roles), instance, ip2, role2, tuple(roles2), instance2, port, transport)
        if key not in made:
            number = int(port) if isinstance(port, int) else None
            made[key] = _end(ip, role, roles, instance), _end(ip2, role2, roles2, instance2), number, str(transport)
        ends.setdefault(name, set()).add(made[key])
    found = {}
    for k in asked:
        row = findings.iloc[k]
        shown = frozenset(each for name in row["connections"] for each in ends.get(name, ()))
        found[k] = _Subject(str(row["fingerprint"]), _candidates(row, paths), int(row["count"]), shown)
    return found


def _candidates(finding: Any, paths: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """The finding's path, and those that all of its connections may be on as well."""
    path = finding["path"]
    if not isinstance(path, str):
        return frozenset()
    shared = [paths[name] for name in finding["connections"] if name in paths]
    return frozenset({path}).union(frozenset.intersection(*shared) if shared else ())


def _end(ip: Any, role: Any, roles: Any, instance: Any) -> _End:
    words = [*(roles or ()), *(each for each in (role, instance) if isinstance(each, str))]
    return _End(str(ip), frozenset(canonical(word) for word in words))


def _covers(match: Match, subject: _Subject) -> bool:
    if match.fingerprint and not any(subject.fingerprint.startswith(each) for each in match.fingerprint):
        return False
    if match.path and subject.paths.isdisjoint(match.path):
        return False
    if not (match.from_ or match.to or match.port or match.transport):
        return True
    return bool(subject.ends) and all(_covers_one(match, *each) for each in subject.ends)


def _covers_one(match: Match, originator: _End, responder: _End, port: int | None, transport: str) -> bool:
    for words, end in ((match.from_, originator), (match.to, responder)):
        if words and not any(_is(end, word) for word in words):
            return False
    if match.transport and match.transport != transport:
        return False
    if match.port is None or match.port == "varies":
        return True
    return port is not None and any(low <= port <= high for low, high in match.port)


def _is(end: _End, word: str) -> bool:
    try:
        network = ipaddress.ip_network(word, strict=False)
    except ValueError:
        return canonical(word) in end.names
    try:
        return ipaddress.ip_address(end.ip) in network
    except ValueError:
        return False


def today_of(at_ns: int) -> date:
    """The day in UTC of a time."""
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).date()


def warnings(applied: Applied) -> list[str]:
    """What the waivers did, a line each."""
    lines = [
        f"{each['place']}: waiver of {each['rule']} expired on {each['until']} ({', '.join(filter(None, (each['owner'], each['ticket'])))})"
        for each in applied.expired
    ]
    lines += [f"{each['place']}: waiver of {each['rule']} {each['says']}; so it covers none" for each in applied.over]
    lines += [f"{each['place']}: waiver of {each['rule']} matched nothing" for each in applied.unused]
    return lines


__all__ = [
    "Applied",
    "ConfigError",
    "Known",
    "Waiver",
    "Waivers",
    "apply",
    "entries",
    "load_waivers",
    "parsed",
    "today_of",
    "warnings",
]
