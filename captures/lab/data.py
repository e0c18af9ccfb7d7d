"""The lab's data: ``scenarios.yml`` read and unfolded, with the vendor's 25 rows from the shipped policy (as data: none of the auditor's code runs here)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
POLICY = HERE.parents[1] / "policies" / "tas-diego.yml"
HOST_PORTS = range(61001, 65535)
CASES = ("accepted", "refused", "innocent")
Spec = dict[str, Any]


def said(value: Any) -> Any:
    """YAML's yes and no as words."""
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value


@dataclass(frozen=True)
class Row:
    """A row of the vendor's page."""

    number: int
    source: str
    destinations: tuple[str, ...]
    ports: Any
    required: str

    def takes(self, source: str, destination: str, port: int) -> bool:
        if source != self.source or destination not in self.destinations:
            return False
        if self.ports == "varies":
            return self.required != "ssh" or port in HOST_PORTS
        return port in (self.ports if isinstance(self.ports, list) else [self.ports])


@dataclass(frozen=True)
class Machine:
    name: str
    ip: str
    record: str
    known: bool
    role: str
    """Of an external; empty for a VM."""
    down: bool

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]


@dataclass
class Scenario:
    name: str
    says: str
    client: Spec
    server: Spec
    source: Machine
    target: Machine
    ports: list[int]
    rule: str = ""
    case: str = ""
    place: str = ""
    captured: str = "whole"
    after: str = ""
    connections: list[str] = field(default_factory=lambda: ["full"])
    story: bool = False
    small: bool = False
    pause: float = 0
    """Seconds before it is played."""


@dataclass
class Lab:
    raw: Spec
    machines: dict[str, Machine]
    rows: dict[int, Row]
    scenarios: list[Scenario]

    def numbers(self, source: Machine, target: Machine, port: int) -> list[int]:
        """The documented rows of a connection over TCP between these two."""
        if not (source.known and target.known):
            return []
        return [row.number for row in self.rows.values() if row.takes(source.kind, target.kind, port)]


def _required(tree: Any) -> str:
    if isinstance(tree, str):
        return tree
    ((word, parts),) = tree.items()
    return {"all": "+", "any": "/"}[word].join(parts)


def rows() -> dict[int, Row]:
    found = {}
    for path in yaml.safe_load(POLICY.read_text(encoding="utf-8"))["paths"]:
        vm = path["destination"]["vm"]
        targets = tuple(vm) if isinstance(vm, list) else (vm,)
        required = _required(path["authentication"])
        found[path["row"]] = Row(path["row"], path["source"]["vm"], targets, path["ports"], required)
    return found


def _fill(value: Any, names: Spec) -> Any:
    if isinstance(value, str):
        for key, word in names.items():
            value = value.replace(f"{{{key}}}", str(word))
    return value


def _machine(raw: Spec) -> Machine:
    return Machine(
        raw["name"],
        raw["ip"],
        raw.get("record", ""),
        raw.get("inventory", True),
        raw.get("role", ""),
        raw.get("down", False),
    )


def _one(raw: Spec, names: Spec, lab: Spec, machines: dict[str, Machine], table: dict[int, Row]) -> Scenario:
    number = names.get("row", raw.get("row"))
    usual: Spec = dict(lab["clients"].get(number, {})) if number else {}
    client = usual | raw.get("client", {})
    if "stack" in raw.get("client", {}) and raw["client"]["stack"] != usual.get("stack"):
        client = {key: value for key, value in client.items() if key in {"name", "cert", *raw["client"]}}
    if "tls" in names:
        client["tls"] = names["tls"]
    if client.get("cert") == "-":
        del client["cert"]
    if number:
        row = table[number]
        source = machines[_fill(raw.get("from", f"{row.source}/0"), names)]
        second = row.source == row.destinations[0]
        target = machines[raw.get("to", f"{row.destinations[0]}/{int(second)}")]
        port = raw.get("port") or usual.get("port") or row.ports
    else:
        source, target, port = machines[raw["from"]], machines[raw["to"]], raw.get("port")
    ports = raw.get("ports") or [port]
    server = dict(raw.get("server") or lab["services"].get(f"{target.kind}/{ports[0]}") or {"stack": "none"})
    if unknown := set(raw) - {*Scenario.__dataclass_fields__, "row", "from", "to", "port", "each"}:
        raise ValueError(f"{raw['name']}: no such key: {', '.join(sorted(unknown))}")
    return Scenario(
        _fill(raw["name"], names),
        _fill(raw.get("says", ""), names),
        client,
        server,
        source,
        target,
        ports,
        **{
            key: raw[key]
            for key in ("rule", "case", "place", "captured", "after", "connections", "story", "small", "pause")
            if key in raw
        },
    )


def load(text: str | None = None, play: str | None = None) -> Lab:
    """The lab, unfolded; ``play``: a file of other scenarios on its machines, recorded on the bridge alone. Raises ValueError or KeyError where a file is wrong."""
    raw = yaml.safe_load(text or (HERE / "scenarios.yml").read_text(encoding="utf-8"))
    if play is not None:
        other = yaml.safe_load((HERE / f"{play}.yml").read_text(encoding="utf-8"))
        raw["machines"] = [{k: v for k, v in each.items() if k != "record"} for each in raw["machines"]]
        raw["machines"] += other["machines"]
        raw["services"] |= other["services"]
        raw["scenarios"] = other["scenarios"]
    machines = {each["name"]: _machine(each) for each in raw["machines"]}
    table = rows()
    scenarios: list[Scenario] = []
    for each in raw["scenarios"]:
        axes = each.get("each", {})
        every = (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
        scenarios += [_one(each, names, raw, machines, table) for names in every]
    names = [each.name for each in scenarios]
    if len(set(names)) != len(names):
        raise ValueError(f"two scenarios have one name: {sorted({name for name in names if names.count(name) > 1})}")
    return Lab(raw, machines, table, scenarios)
