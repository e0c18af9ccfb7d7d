"""Application security groups as Cloud Foundry exports them, and which of them let applications reach the control plane.

Applications leave a cell by the cell's address, so that no capture tells them from the platform there. What they may reach is decided by their
security groups: lists of rules of what is allowed, added up. Rules that hold here:

- A group reaches the control plane where a rule covers the address of a VM of the platform and a port that a declared path has there, or all of
  its ports; where it covers the Director, Ops Manager or a jumpbox on any; or a cloud's metadata service.
- What is declared for applications (a row whose source is ``App instances``: CredHub) is theirs to reach, and so are service instances, routers and
  load balancers, and externals that are none of the platform's.
- A rule without ports covers them all; ``all`` is every protocol; destinations are addresses, networks, ranges, or lists of them.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import ConfigError
from auditor.policy.addresses import METADATA, METADATA_V4, V4_MAPPED, is_private, span, to_text
from auditor.policy.allowed import APPS, EVERY_PORT, MANAGERS
from auditor.policy.classify import DOORS, OUTSIDE
from auditor.policy.inventory import Host, Inventory, Span
from auditor.policy.policy import ANY, Policy, ports_text
from auditor.policy.yaml_positions import parse_json, read_text

MAX_BYTES = 16 * 1024 * 1024
_PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "all")
_FEW = 6
_METADATA = [each for each in METADATA if each == V4_MAPPED | METADATA_V4 or is_private(each)]
"""Those that no public network covers: the others are one cloud's, and public addresses elsewhere."""

Ports = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a group."""

    number: int
    """From 1, as in the group."""
    protocol: str
    destination: str
    spans: tuple[Span, ...]
    ports: Ports

    def __str__(self) -> str:
        ports = "" if self.ports == EVERY_PORT else f" {ports_text(self.ports)}"
        return f"rule {self.number} ({self.protocol} {self.destination}{ports})"


@dataclass(frozen=True, slots=True)
class SecurityGroup:
    """Rules under a name."""

    name: str
    rules: tuple[Rule, ...]
    everywhere: tuple[str, ...] = ()
    """running, staging: for all applications."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What one rule lets applications reach."""

    group: SecurityGroup
    rule: Rule
    what: str
    says: str


# Reading ---------------------------------------------------------------------------------------------------------------


def read(file: str) -> list[SecurityGroup]:
    """The groups of a file: rules alone (``cf security-group NAME``, what ``cf create-security-group`` takes), or groups with names
    (``cf curl /v3/security_groups``, ``/v2/security_groups``). Raises ConfigError."""
    text, name = _without_words(read_text(file, MAX_BYTES))
    found = list(_groups(file, parse_json(file, text).data, name or Path(file).name.split(".")[0]))
    if not found:
        raise ConfigError(file, "holds no security group", hint="write what cf curl /v3/security_groups prints")
    return found


def _without_words(text: str) -> tuple[str, str | None]:
    """The JSON alone, and the group's name: ``cf security-group`` says what it does and the name before it, and what is bound behind it."""
    start = re.search(r"^[ \t]*[\[{]", text, re.MULTILINE)
    if start is None or not text[: start.start()].strip():
        return text, None
    said = text[: start.start()]
    end = next(
        (each.end() for each in reversed(list(re.finditer(r"^[ \t]*[\]}][ \t]*$", text, re.MULTILINE)))), len(text)
    )
    named = re.search(r"^name:?\s+(\S+)", said, re.MULTILINE | re.IGNORECASE)
    # Lines keep their numbers.
    return "\n" * said.count("\n") + text[start.start() : end], named[1] if named else None


def _groups(file: str, data: Any, name: str) -> Iterable[SecurityGroup]:
    if isinstance(data, Mapping):
        if isinstance(data.get("resources"), list):
            _whole(file, data)
            for each in data["resources"]:
                yield from _groups(file, each, name)
            return
        data = data["entity"] if isinstance(data.get("entity"), Mapping) else data
        if isinstance(data.get("rules"), list):
            yield _group(file, str(data.get("name") or name), data["rules"], data)
        return
    if isinstance(data, list):
        if data and all(isinstance(each, Mapping) and ("rules" in each or "entity" in each) for each in data):
            for each in data:
                yield from _groups(file, each, name)
        elif data:
            yield _group(file, name, data, {})


def _whole(file: str, data: Mapping[str, Any]) -> None:
    """Raises ConfigError where a page says that there are more."""
    paging = data.get("pagination")
    total = paging.get("total_results") if isinstance(paging, Mapping) else data.get("total_results")
    have = len(data["resources"])
    if isinstance(total, int) and total > have:
        raise ConfigError(
            file,
            f"holds {have:,} of {total:,} security groups",
            hint="export all of them: cf curl '/v3/security_groups?per_page=5000'",
        )


def _group(file: str, name: str, rules: Sequence[Any], about: Mapping[str, Any]) -> SecurityGroup:
    globally = about.get("globally_enabled")
    v3 = globally if isinstance(globally, Mapping) else {}
    everywhere = tuple(
        phase for phase in ("running", "staging") if v3.get(phase) is True or about.get(f"{phase}_default") is True
    )
    return SecurityGroup(
        name, tuple(_rule(file, name, number, each) for number, each in enumerate(rules, 1)), everywhere
    )


def _rule(file: str, name: str, number: int, given: Any) -> Rule:
    where = f"group {name}, rule {number}"
    if not isinstance(given, Mapping):
        raise ConfigError(
            file, f"{where}: is not a rule", hint='write {"protocol": "tcp", "destination": "...", "ports": "443"}'
        )
    protocol = str(given.get("protocol", "")).lower()
    if protocol not in _PROTOCOLS:
        raise ConfigError(file, f"{where}: {protocol!r} is not a protocol", hint=f"one of {', '.join(_PROTOCOLS)}")
    destination = str(given.get("destination", ""))
    try:
        spans = tuple(_destination(part) for part in destination.split(","))
        ports = _ports(str(given["ports"])) if given.get("ports") not in (None, "") else EVERY_PORT
    except ValueError as error:
        raise ConfigError(file, f"{where}: {error}") from None
    return Rule(number, protocol, destination, spans, ports)


def _destination(text: str) -> Span:
    first, dash, last = (part.strip() for part in text.partition("-"))
    try:
        if dash:
            low, high = (span(ipaddress.ip_network(each)) for each in (first, last))
            found = low[0], high[1]
        else:
            found = span(ipaddress.ip_network(first, strict=False))
    except ValueError:
        raise ValueError(f"{text.strip()!r} is not an address, network or range") from None
    if found[0] > found[1]:
        raise ValueError(f"the range {text.strip()} is reversed")
    return found


def _ports(text: str) -> Ports:
    found = []
    for part in text.split(","):
        low, dash, high = (each.strip() for each in part.partition("-"))
        if not (low.isdigit() and (not dash or high.isdigit())) or not low.isascii() or not high.isascii():
            raise ValueError(f"{part.strip()!r} are not ports")
        if int(low) > int(high or low):
            raise ValueError(f"the ports {part.strip()} are reversed")
        found.append((int(low), int(high or low)))
    return tuple(found)


# Judging ---------------------------------------------------------------------------------------------------------------


def reaches(groups: Iterable[SecurityGroup], policy: Policy, inventory: Inventory) -> list[Reach]:
    """What of the control plane these groups let applications reach, group by group and rule by rule."""
    own = [each for each in inventory.standing() if _is_control_plane(each[1], policy)]
    listens = {host: _listens(host, policy) for _, host in own}
    found: list[Reach] = []
    for group in groups:
        for rule in group.rules:
            found += _of_rule(group, rule, own, listens)
    return found


def _is_control_plane(host: Host, policy: Policy) -> bool:
    roles = set(host.roles)
    if not roles or roles <= OUTSIDE | DOORS:
        return False
    return bool(roles & policy.roles.keys()) or not host.external


def _listens(host: Host, policy: Policy) -> dict[str, list[tuple[str, Ports]]]:
    """By transport: the paths that lead to a VM, with their ports; those that are for applications are left out."""
    paths = [
        path
        for path in policy.all_paths
        if not path.local
        and ANY not in path.resp_roles
        and any(one.plays(role, path.resp_slug) for one in host.held for role in path.resp_roles)
    ]
    for_apps = {(path.transports, path.ports) for path in paths if path.orig_slug == APPS}
    found: dict[str, list[tuple[str, Ports]]] = {}
    for path in paths:
        if path.ports and (path.transports, path.ports) not in for_apps:
            for transport in path.transports:
                found.setdefault(transport, []).append((path.id, path.ports))
    return found


def _of_rule(
    group: SecurityGroup, rule: Rule, own: Sequence[tuple[Span, Host]], listens: Mapping[Host, Mapping[str, list[tuple[str, Ports]]]]
) -> Iterable[Reach]:  # fmt: skip
    reached: dict[tuple[str, str], list[str]] = {}
    for (first, last), host in own:
        if not any(first <= high and low <= last for low, high in rule.spans):
            continue
        open_ = [
            f"{transport} {ports_text(common)} ({path})"
            for transport in ("tcp", "udp")
            if rule.protocol in (transport, "all")
            for path, ports in listens[host].get(transport, ())
            if (common := _common(ports, rule.ports))
        ]
        if rule.protocol not in ("tcp", "udp", "all"):
            continue
        every = rule.ports == EVERY_PORT
        if not open_ and not every:
            if not set(MANAGERS) & set(host.roles):
                continue
            open_ = [f"{rule.protocol} {ports_text(rule.ports)} (no declared path)"]
        what = "+".join(host.roles)
        says = f"{'every port, among them ' if every and open_ else 'every port' if every else ''}{_some(open_)}"
        reached.setdefault((what, says), []).append(host.instance or to_text(first))
    for (what, says), instances in reached.items():
        yield Reach(group, rule, f"{what} ({_some(instances)})", says)
    metadata = sorted(each for each in _METADATA if any(low <= each <= high for low, high in rule.spans))
    if metadata and rule.protocol in ("tcp", "all") and _common(((80, 80),), rule.ports):
        says = f"tcp 80 at {to_text(metadata[-1])}, which gives out the machine's credentials"
        yield Reach(group, rule, "a cloud's metadata service", says)


def _common(one: Ports, other: Ports) -> Ports:
    pairs = ((max(low, begin), min(high, end)) for low, high in one for begin, end in other)
    return tuple(sorted((low, high) for low, high in pairs if low <= high))


def _some(texts: Sequence[str]) -> str:
    unique = list(dict.fromkeys(texts))
    more = len(unique) - _FEW
    return ", ".join(unique[:_FEW]) + (f" and {more:,} more" if more > 0 else "")


def told(found: Sequence[Reach]) -> str:
    """A line each, under the group that it is about."""
    out: list[str] = []
    before: SecurityGroup | None = None
    for each in found:
        if each.group != before:
            phases = f", for all applications ({' and '.join(each.group.everywhere)})" if each.group.everywhere else ""
            out.append(f"{each.group.name}{phases} allows applications to reach the control plane:")
            before = each.group
        out.append(f"  {each.rule}: {each.what}: {each.says}")
    return "".join(f"{line}\n" for line in out)


def as_json(found: Sequence[Reach]) -> str:
    """The same for programs."""
    return json.dumps([
        {"group": each.group.name, "everywhere": list(each.group.everywhere), "rule": each.rule.number, "protocol": each.rule.protocol,
         "destination": each.rule.destination, "ports": ports_text(each.rule.ports), "reaches": each.what, "says": each.says}
        for each in found
    ], indent=2) + "\n"  # fmt: skip
