"""The declared paths between the addresses of an inventory: what a firewall that follows the policy lets through.

Rules that hold here:

- What the audit calls documented (or ambient, by a policy that was named) is allowed, and nothing else. Both take roles, parts of roles, fronts
  and ports the same way.
- An inventory with leases counts as it stands once those that end are over.
- A firewall knows ports, not what is spoken: where ports vary, all of them are open between those ends.
- A path that stays inside a VM (``local``) needs no rule.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.policy.addresses import Network, to_text
from auditor.policy.inventory import Fronted, Host, Inventory, Span
from auditor.policy.policy import ANY, Policy, PolicyPath

EVERY_PORT = ((1, 65_535),)
MANAGERS = ("bosh_director", "ops_manager", "jumpbox")
"""Who runs the platform, and is in no list of BOSH's VMs."""

APPS = "app_instances"
"""The component that applications are, by its slug."""
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class Group:
    """Addresses at one end of paths."""

    name: str
    """A word of lower case letters, digits and underscores; another group has another."""
    hosts: tuple[tuple[Span, Host], ...]

    def networks(self, version: int) -> list[Network]:
        """As few as there can be, in their order."""
        return _networks((one for one, _ in self.hosts), version)


@dataclass(frozen=True, slots=True)
class Allow:
    """One thing to let through."""

    path: PolicyPath
    originators: Group
    responders: Group
    transport: str
    ports: tuple[tuple[int, int], ...]
    """Empty: the transport has none."""


def _networks(spans: Iterable[Span], version: int) -> list[Network]:
    found: list[Network] = []
    for first, last in spans:
        if (first >> 32 == 0xFFFF) is (version == 4):
            ends: Any = [ipaddress.ip_address(to_text(each)) for each in (first, last)]
            found += ipaddress.summarize_address_range(*ends)
    return list(ipaddress.collapse_addresses(found))  # type: ignore[type-var]  # all of one version


class _Groups:
    """Names for sets of addresses: one set, one name."""

    def __init__(self) -> None:
        self._known: dict[tuple[Span, ...], Group] = {}
        self._taken: set[str] = set()

    def of(self, roles: Sequence[str], slug: str | None, hosts: list[tuple[Span, Host]]) -> Group:
        key = tuple(one for one, _ in hosts)
        if key not in self._known:
            self._known[key] = Group(self._name(roles, slug), tuple(hosts))
        return self._known[key]

    def _name(self, roles: Sequence[str], slug: str | None) -> str:
        plain = "any_vm" if ANY in roles else "_or_".join(roles)
        if len(plain) > _LONGEST_NAME:
            plain = f"{roles[0][:_LONGEST_NAME]}_and_{len(roles) - 1}_more"
        names = [plain, f"{plain}_{slug}"] if slug else [plain]
        name = next((each for each in names if each not in self._taken), None)
        number = 1
        while name is None or name in self._taken:
            number += 1
            name = f"{names[-1]}_{number}"
        self._taken.add(name)
        return name


def allowed(policy: Policy, inventory: Inventory) -> list[Allow]:
    """What these policies declare between these addresses, in the order of the paths. Ends that nobody has are left out."""
    standing = inventory.standing()
    groups = _Groups()
    found: list[Allow] = []
    for path in policy.all_paths:
        originators = [(one, host) for one, host in standing if _plays(host, path.orig_roles, path.orig_slug)]
        if path.local or not originators:
            continue
        for ports, responders in _responders(path, standing):
            if not responders:
                continue
            ends = (
                groups.of(path.orig_roles, path.orig_slug, originators),
                groups.of(path.resp_roles, path.resp_slug, responders),
            )
            for transport in path.transports:
                with_ports = ports if transport in ("tcp", "udp", "sctp") else ()
                found.append(Allow(path, *ends, transport, with_ports))
    return found


def _plays(host: Host, roles: Iterable[str], slug: str | None) -> bool:
    return any(role == ANY or any(one.plays(role, slug) for one in host.held) for role in roles)


def _responders(
    path: PolicyPath, standing: Sequence[tuple[Span, Host]]
) -> list[tuple[tuple[tuple[int, int], ...], list[tuple[Span, Host]]]]:
    """Who answers on which ports: those that hold the role, and those that take its traffic in."""
    declared = EVERY_PORT if path.varies else path.ports
    found = {declared: [each for each in standing if _plays(each[1], path.resp_roles, path.resp_slug)]}
    for each in standing:
        for front in each[1].fronts:
            if front.role in path.resp_roles:
                ports = _both(declared, front)
                if ports and each not in found.setdefault(ports, []):
                    found[ports].append(each)
    return list(found.items())


def _both(declared: tuple[tuple[int, int], ...], front: Fronted) -> tuple[tuple[int, int], ...]:
    if front.ports is None:
        return declared
    pairs = ((max(low, other), min(high, end)) for low, high in declared for other, end in front.ports)
    return tuple((low, high) for low, high in pairs if low <= high)
