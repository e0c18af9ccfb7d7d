"""Inventories: which address had which roles, when, and from which source.

Rules that hold here:

- An address is known by exact entry, else by the narrowest network entry that is open at the time (``from`` <= time < ``until``).
- Several entries for one address at one time are one host with the union of their roles; under two names they are a conflict, which is
  reported and decided by nothing else.
- A VM of a group that no policy knows is accepted: the group's name is its role, and no path goes there.
- The order of entries and files decides nothing.
- Platform networks are those that the inventory names; where it names none, the /24 (IPv6: /64) of any of its VMs.
"""

from __future__ import annotations

import ipaddress
import itertools
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auditor.errors import ConfigError, together
from auditor.policy.addresses import Network, around, span, to_text
from auditor.policy.policy import Held, Policy, canonical, ports_text
from auditor.policy.times import parse_time as parse_time  # noqa: PLC0414  # handed on: who reads inventories needs them
from auditor.policy.times import time_text as time_text  # noqa: PLC0414
from auditor.policy.yaml_positions import Document, one_or_many

Span = tuple[int, int]

_CACHE_LIMIT = 1 << 17


@dataclass(frozen=True, slots=True)
class Fronted:
    """A role that an address takes traffic in for."""

    role: str
    ports: tuple[tuple[int, int], ...] | None = None
    """None: those documented for the role."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a file, as read."""

    file: str
    place: str
    """Line or row, for messages."""
    instance: str | None
    group: str | None
    roles: tuple[str, ...]
    """As written; empty: they follow from the group."""
    spans: tuple[Span, ...]
    """Addresses and networks, first and last."""
    from_ns: int | None = None
    until_ns: int | None = None
    fronts: tuple[Fronted, ...] = ()
    external: bool = False
    origin: str = "given"
    note: str | None = None
    deployment: str | None = None
    table: str | None = None
    """What stands in one table is one deployment, also where nobody tells its name."""


@dataclass(frozen=True, slots=True)
class Host:
    """Who an address is at a time."""

    instance: str | None
    roles: tuple[str, ...]
    """Canonical names; empty: nobody said."""
    group: str | None
    held: tuple[Held, ...]
    """The same roles, with the components where only some run there."""
    fronts: tuple[Fronted, ...] = ()
    external: bool = False
    origin: str = "given"


@dataclass
class Inventory:
    """Answers who had an address at a time. Made by ``load_inventory`` and ``infer_inventory``."""

    entries: tuple[Entry, ...]
    policy: Policy
    networks: tuple[Span, ...] = ()
    sources: tuple[dict[str, str], ...] = ()
    """{path, format, sha256} of each file."""
    warnings: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    boundaries_ns: tuple[int, ...] = ()
    """Edges of all leases, sorted: between two of them every answer stays the same."""
    _exact: dict[int, Host] = field(default_factory=dict, repr=False)
    _timed: dict[int, tuple[list[int], list[Host | None]]] = field(default_factory=dict, repr=False)
    _spans: list[tuple[int, int, int | None, int | None, Host]] = field(default_factory=list, repr=False)
    _around: set[Span] = field(default_factory=set, repr=False)
    _seen: dict[int, Host | None] = field(default_factory=dict, repr=False)
    _inside: dict[int, bool] = field(default_factory=dict, repr=False)
    _addresses: dict[int, list[tuple[Entry, Host]]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        # A canonical order first: nothing below may depend on the order of entries.
        self.entries = tuple(sorted(self.entries, key=_entry_key))
        self.networks = tuple(sorted(set(self.networks)))
        self._fill()

    @property
    def timed(self) -> bool:
        """Some lease begins or ends."""
        return bool(self.boundaries_ns)

    @property
    def origin(self) -> str:
        """given, inferred or mixed."""
        kinds = {entry.origin for entry in self.entries}
        if not kinds:
            return "given" if self.sources else "inferred"
        return kinds.pop() if len(kinds) == 1 else "mixed"

    def lookup(self, address: int, at_ns: int = 0) -> Host | None:
        """Who had the address then, or None: nobody that the inventory knows."""
        host = self._exact.get(address)
        if host is not None:
            return host
        leases = self._timed.get(address)
        if leases is not None:
            edges, hosts = leases
            host = hosts[bisect_right(edges, at_ns)]
            if host is not None:
                return host
        if not self._spans:
            return None
        if self.boundaries_ns:
            return self._in_spans(address, at_ns)
        if address not in self._seen:
            if len(self._seen) > _CACHE_LIMIT:
                self._seen.clear()
            self._seen[address] = self._in_spans(address, at_ns)
        return self._seen[address]

    def platform(self, address: int) -> bool:
        """Whether it lies in a platform network."""
        found = self._inside.get(address)
        if found is None:
            if len(self._inside) > _CACHE_LIMIT:
                self._inside.clear()
            if self.networks:
                found = any(first <= address <= last for first, last in self.networks)
            else:
                found = around(address) in self._around or any(first <= address <= last for first, last in self._around)
            self._inside[address] = found
        return found

    @property
    def platform_networks(self) -> tuple[Span, ...]:
        """Those that the inventory names; where it names none, what lies around its VMs."""
        return self.networks or tuple(sorted(self._around))

    def broadcast(self, address: int) -> bool:
        """Whether it is the last address of a platform network: everybody there, and no single host."""
        if address >> 32 != 0xFFFF or not self.platform(address):
            return False
        if self.networks:
            return any(address == last and last > first for first, last in self.networks)
        return address & 0xFF == 0xFF

    def listing(self) -> tuple[tuple[Entry, str, Host], ...]:
        """Each entry's addresses and networks as text, with its host by itself; for people."""
        return tuple((entry, span_text(one), self._host([entry])) for entry in self.entries for one in entry.spans)

    def standing(self) -> tuple[tuple[Span, Host], ...]:
        """Who is where once all leases that end are over: stretches of addresses in their order, none of them in another."""
        at_ns = self.boundaries_ns[-1] if self.boundaries_ns else 0
        edges = {edge for entry in self.entries for first, last in entry.spans for edge in (first, last + 1)}
        found: list[tuple[Span, Host]] = []
        for first, after in itertools.pairwise(sorted(edges)):
            host = self.lookup(first, at_ns)
            if host is not None:
                found.append(((first, after - 1), host))
        return tuple(found)

    def to_yaml(self) -> str:
        """This inventory as our own YAML, whatever it was read from."""
        return write_yaml(self)

    # Building

    def _fill(self) -> None:
        exact: dict[int, list[Entry]] = {}
        networks: dict[Span, list[Entry]] = {}
        edges: set[int] = set()
        for entry in self.entries:
            edges.update(edge for edge in (entry.from_ns, entry.until_ns) if edge is not None)
            for one in entry.spans:
                if one[0] == one[1]:
                    exact.setdefault(one[0], []).append(entry)
                else:
                    networks.setdefault(one, []).append(entry)
                if not entry.external:
                    self._around.add(around(one[0]) if one[0] == one[1] else one)
        self.boundaries_ns = tuple(sorted(edges))
        conflicts: list[str] = []
        for address in sorted(exact):
            found = exact[address]
            conflicts += _conflicts(to_text(address), found)
            if all(entry.from_ns is None and entry.until_ns is None for entry in found):
                self._exact[address] = self._host(found)
            else:
                own = sorted({edge for entry in found for edge in (entry.from_ns, entry.until_ns) if edge is not None})
                hosts = []
                # The moment that stands for each stretch between two edges; -1 before the first is as good as any.
                for moment in [own[0] - 1, *own]:
                    then = [entry for entry in found if _open(entry, moment)]
                    hosts.append(self._host(then) if then else None)
                self._timed[address] = own, hosts
        for one in sorted(networks, key=lambda each: (each[1] - each[0], each)):
            conflicts += _conflicts(span_text(one), networks[one])
            for group in _by_lease(networks[one]):
                self._spans.append((*one, group[0].from_ns, group[0].until_ns, self._host(group)))
        self.conflicts = tuple(conflicts)

    def _in_spans(self, address: int, at_ns: int) -> Host | None:
        for first, last, from_ns, until_ns, host in self._spans:
            inside = first <= address <= last
            if inside and (from_ns is None or from_ns <= at_ns) and (until_ns is None or at_ns < until_ns):
                return host
        return None

    def _host(self, entries: Sequence[Entry]) -> Host:
        names = sorted({entry.instance for entry in entries if entry.instance}, key=lambda name: (name == "?", name))
        # Of diego-cell/1 (BOSH DNS) and diego_cell/1 (the Director) the Director's is the name.
        real = [name for name in names if canonical(name) == canonical(names[0])] if names else []
        held: list[Held] = []
        for entry in entries:
            held += self._held(entry)
        merged = _merge_held(held)
        groups = sorted({entry.group for entry in entries if entry.group})
        return Host(
            real[-1] if real else None,
            tuple(dict.fromkeys(one.role for one in merged)),
            groups[-1] if groups else None,
            merged,
            tuple(dict.fromkeys(front for entry in entries for front in entry.fronts)),
            all(entry.external for entry in entries),
            "inferred" if any(entry.origin == "inferred" for entry in entries) else "given",
        )

    def _held(self, entry: Entry) -> Iterable[Held]:
        named = [(name, self.policy.held_by(name)) for name in entry.roles]
        if not named and entry.group:
            named = [(entry.group, self.policy.held_by_group(entry.group))]
        for name, held in named:
            yield from held if held is not None else (Held(canonical(name)),)


def load_inventory(files: str | Path | Sequence[str | Path | Document], policy: Policy | None = None) -> Inventory:
    """The inventory that this file, or these together, make, each of a form of its own. Raises ConfigError of all mistakes in them.

    ``DEPLOYMENT=FILE`` says whose VMs a file lists that does not say it itself. ``policy``: whose roles they have; None: the default policy, ``tas``.
    """
    from auditor.policy import deployments, inventory_files

    if policy is None:
        from auditor.policy import shipped
        from auditor.policy.policy_cache import load_policy

        policy = load_policy((shipped.DEFAULT,))
    elif not isinstance(policy, Policy):
        raise ConfigError("policy", f"{type(policy).__name__} is not a policy", hint="give what load_policy returns")

    read: list[Entry] = []
    networks: list[Span] = []
    sources: list[dict[str, str]] = []
    released: dict[str, bool] = {}
    wrong: list[ConfigError] = []
    for file in one_or_many("inventory", files):
        try:
            found = inventory_files.read(file, policy)
        except ConfigError as error:
            wrong += error.all
            continue
        read += found.entries
        networks += found.networks
        released |= found.released
        sources.append({"path": found.file, "format": found.form, "sha256": found.sha256})
    if wrong:
        raise together(wrong)
    entries = deployments.settle(read, released, policy)
    doubts = tuple(deployments.doubts(entries, policy))
    return Inventory(tuple(entries), policy, tuple(networks), tuple(sources), doubts)


def _entry_key(entry: Entry) -> tuple[Any, ...]:
    return (
        entry.instance or "",
        entry.group or "",
        entry.roles,
        entry.spans,
        -1 if entry.from_ns is None else entry.from_ns,
        -1 if entry.until_ns is None else entry.until_ns,
        entry.external,
        entry.origin,
        tuple((front.role, front.ports or ()) for front in entry.fronts),
        entry.file,
        entry.place,
    )


def _open(entry: Entry, moment: int) -> bool:
    return (entry.from_ns is None or entry.from_ns <= moment) and (entry.until_ns is None or moment < entry.until_ns)


def _by_lease(entries: Iterable[Entry]) -> list[list[Entry]]:
    groups: dict[tuple[int | None, int | None], list[Entry]] = {}
    for entry in entries:
        groups.setdefault((entry.from_ns, entry.until_ns), []).append(entry)
    return [groups[lease] for lease in sorted(groups, key=lambda lease: (lease[0] or 0, lease[1] or 0))]


def _merge_held(held: Iterable[Held]) -> tuple[Held, ...]:
    found: dict[str, frozenset[str] | None] = {}
    for one in held:
        if one.role in found:
            before = found[one.role]
            found[one.role] = None if before is None or one.components is None else before | one.components
        else:
            found[one.role] = one.components
    return tuple(Held(role, components) for role, components in found.items())


def _conflicts(where: str, entries: Sequence[Entry]) -> Iterable[str]:
    named = [entry for entry in entries if entry.instance and entry.instance != "?"]
    said: set[tuple[str, str]] = set()
    for at, one in enumerate(named):
        for other in named[at + 1 :]:
            pair = (canonical(str(one.instance)), canonical(str(other.instance)))
            if pair[0] == pair[1] or pair in said or not _overlap(one, other):
                continue
            said.add(pair)
            yield (
                f"{where} is both {one.instance} ({one.file}:{one.place}) and {other.instance} "
                f"({other.file}:{other.place}) at the same time; it is treated as both"
            )


def _overlap(one: Entry, other: Entry) -> bool:
    begins_late = max((each.from_ns for each in (one, other) if each.from_ns is not None), default=None)
    ends_early = min((each.until_ns for each in (one, other) if each.until_ns is not None), default=None)
    return begins_late is None or ends_early is None or begins_late < ends_early


# Writing -------------------------------------------------------------------------------------------------------------


def span_text(one: Span) -> str:
    """An address or a network."""
    first, last = one
    if first == last:
        return to_text(first)
    v4 = last >> 32 == 0xFFFF
    length = (32 if v4 else 128) - (last - first).bit_length()
    return f"{to_text(first)}/{length}"


def parse_span(text: str) -> Span:
    """An address or a network. Raises ValueError."""
    bare = text.strip().strip("[]").partition("%")[0]
    network: Network = ipaddress.ip_network(bare, strict=False)
    return span(network)


def write_yaml(inventory: Inventory) -> str:
    """Our own YAML; notes become comments."""
    out = ["schema: auditor.inventory/1"]
    if inventory.networks:
        out.append("networks:")
        out += [f"  - {_quoted(span_text(one))}" for one in inventory.networks]
    for key, external in (("vms", False), ("externals", True)):
        entries = [entry for entry in inventory.entries if entry.external is external]
        if entries:
            out.append(f"{key}:")
            for entry in entries:
                out += _entry_lines(entry)
    return "\n".join(out) + "\n"


def _entry_lines(entry: Entry) -> Iterable[str]:
    if entry.note:
        for line in entry.note.splitlines():
            yield f"  # {line}"
    exact = [span_text(one) for one in entry.spans if one[0] == one[1]]
    networks = [span_text(one) for one in entry.spans if one[0] != one[1]]
    pairs: list[tuple[str, str]] = []
    if entry.instance:
        pairs.append(("name", _quoted(entry.instance)))
    if exact:
        pairs.append(("ips", _flow(exact)))
    if networks:
        pairs.append(("cidrs", _flow(networks)))
    if entry.roles:
        pairs.append(("roles", _flow(entry.roles)))
    if entry.group:
        pairs.append(("group", _quoted(entry.group)))
    if entry.deployment:
        pairs.append(("deployment", _quoted(entry.deployment)))
    if entry.from_ns is not None:
        pairs.append(("from", _quoted(time_text(entry.from_ns))))
    if entry.until_ns is not None:
        pairs.append(("until", _quoted(time_text(entry.until_ns))))
    if entry.fronts:
        pairs.append(("fronts", "[" + ", ".join(_front_text(front) for front in entry.fronts) + "]"))
    if entry.origin != "given":
        pairs.append(("origin", entry.origin))
    for at, (key, value) in enumerate(pairs):
        yield f"  {'-' if at == 0 else ' '} {key}: {value}"


def _front_text(front: Fronted) -> str:
    if front.ports is None:
        return _quoted(front.role)
    return f"{{role: {_quoted(front.role)}, ports: {_flow(ports_text(front.ports).split(', '))}}}"


def _flow(texts: Iterable[str]) -> str:
    return "[" + ", ".join(_quoted(text) for text in texts) + "]"


def _quoted(text: str) -> str:
    import yaml

    dumped: str = yaml.safe_dump([text], default_flow_style=True, width=1_000_000, allow_unicode=False)
    return dumped.strip()[1:-1].strip()
