"""Which VMs are the platform's: a Director deploys other things beside it, whose VMs have names like its own.

An on-demand database is a group ``mysql``, too, and nobody should take it for the platform's. The rules that hold here:

- What stands in one table of ``bosh vms --json``, or in one file of ``bosh -d NAME vms --json``, is one deployment, also where nobody tells its
  name. Where another source has the name of an address's deployment (``records.json``, a row's own column), that counts.
- A deployment is the platform's if ``bosh deployments --json`` shows diego among its releases, if one of its VMs holds a Diego role, or by the
  name that tiles give it (an isolation segment of routers alone has no cell). On-demand instances never are.
- The VMs of the others hold no role of the platform, whatever their groups are called: they are service instances. Roles that an entry
  states itself stand, and so do those that a policy of one's own adds, and those of machines beside the platform (the Director, a resolver).
- Where no deployment is known to be the platform's, nothing is taken from anybody but on-demand instances.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import SequenceMatcher

from auditor.policy.inventory import Entry
from auditor.policy.policy import Policy, canonical

INSTANCE = "service_instance"
"""The role of a VM that is none of the platform's."""

BESIDE = frozenset({
    INSTANCE, "bosh_director", "jumpbox", "ops_manager", "ntp", "syslog", "dns_resolver", "blobstore", "load_balancer", "backup_restore",
})  # fmt: skip
"""Roles of machines that are deployed, or stand, beside the platform."""

_ON_DEMAND = ("service_instance", "service-instance")
_TILES = re.compile(r"(cf|cf-[0-9a-f]{8,}|(p-|p_)?isolation-segment.*|(p-|pas-)windows.*)", re.ASCII)
_SHARED = re.compile(r"isolated_", re.ASCII)
_ALIKE = 0.6


def settle(entries: Sequence[Entry], released: Mapping[str, bool], policy: Policy) -> list[Entry]:
    """The entries, with the role of those that are not the platform's.

    released: of the deployments that ``bosh deployments`` names, whether they have diego among their releases.
    """
    named = _adopted(entries)
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in named:
        if _key(entry):
            groups[_key(entry)].append(entry)
    platform = {key for key, members in groups.items() if _is_platform(members, released, policy)}
    settled = []
    for entry in named:
        on_demand = (entry.deployment or "").startswith(_ON_DEMAND)
        beside = _key(entry) and bool(platform) and _key(entry) not in platform
        if (on_demand or beside) and not entry.external and not entry.roles and _loses(entry, policy):
            settled.append(replace(entry, roles=(INSTANCE,)))
        else:
            settled.append(entry)
    return settled


def _key(entry: Entry) -> str:
    return entry.deployment or entry.table or ""


def _adopted(entries: Sequence[Entry]) -> list[Entry]:
    """Where only another source names an address's deployment, that name."""
    known: dict[tuple[int, int], set[str]] = defaultdict(set)
    for entry in entries:
        if entry.deployment:
            for one in entry.spans:
                known[one].add(entry.deployment)
    adopted = []
    for entry in entries:
        names = set().union(*(known[one] for one in entry.spans if one in known))
        single = not entry.deployment and entry.table is not None and len(names) == 1
        adopted.append(replace(entry, deployment=names.pop()) if single else entry)
    return adopted


def _is_platform(members: Sequence[Entry], released: Mapping[str, bool], policy: Policy) -> bool:
    name = next((entry.deployment for entry in members if entry.deployment), None) or ""
    if name.startswith(_ON_DEMAND):
        return False
    if name in released:
        return released[name]
    return bool(_TILES.fullmatch(name)) or any(_shows(entry, policy) for entry in members)


def _shows(entry: Entry, policy: Policy) -> bool:
    """It holds a whole role of Diego, or is called as only a tile of the platform calls its VMs."""
    held = [one for name in entry.roles for one in policy.held_by(name) or ()]
    if not entry.roles and entry.group:
        held = list(policy.held_by_group(entry.group) or ())
    diego = any(one.components is None and one.role in policy.diego_roles for one in held)
    return diego or bool(entry.group and _SHARED.match(canonical(entry.group)))


def _loses(entry: Entry, policy: Policy) -> bool:
    """Its group is called like one of the platform, or as nobody knows."""
    held = policy.held_by_group(entry.group) if entry.group else None
    return held is None or all(one.role not in BESIDE and not policy.roles[one.role].added for one in held)


def doubts(entries: Iterable[Entry], policy: Policy) -> Iterable[str]:
    """A line for each role and each group that no policy knows, with the nearest one that it does."""
    roles: dict[str, list[Entry]] = defaultdict(list)
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        for name in entry.roles:
            if policy.held_by(name) is None:
                roles[name].append(entry)
        if not entry.roles and not entry.external and entry.group and policy.held_by_group(entry.group) is None:
            groups[entry.group].append(entry)
    for what, found in (("role", roles), ("group", groups)):
        for name, members in found.items():
            count = len({one for entry in members for one in entry.spans})
            near = nearest(name, policy)
            hint = f"; did you mean {near}?" if near else "."
            whose = "its address" if count == 1 else f"its {count:,} addresses"
            first = members[0]
            says = f"{first.file}:{first.place}: no policy knows the {what} '{name}'{hint}"
            yield f"{says} No documented path goes to or from {whose}"


def nearest(name: str, policy: Policy) -> str | None:
    """The role that is likeliest meant: spelt nearly so, or made of the same words."""
    key = canonical(name)
    words = {word for word in re.split(r"[^a-z]+", key) if len(word) > 1}

    def likeness(role: str) -> float:
        same = words & set(role.split("_"))
        return max(
            SequenceMatcher(None, key, role).ratio(), _ALIKE + len(same) / 10 if same and _telling(same) else 0.0
        )

    counted = Counter({role: likeness(role) for role in policy.roles})
    if not counted:
        return None
    role, best = max(counted.items(), key=lambda each: (each[1], -len(each[0]), each[0]))
    return role if best >= _ALIKE else None


def _telling(words: set[str]) -> bool:
    """More than what half of all roles are called."""
    return bool(words - {"server", "proxy", "global", "adapter", "monitor", "control", "service", "instance"})
