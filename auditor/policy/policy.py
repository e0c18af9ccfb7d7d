"""A policy as the rest of the program uses it: paths, roles, aliases, settings and identities, merged from one or more files.

Rules that hold here:

- A role is a kind of VM, a component is what runs on it. A VM holds a set of roles, and of some of them perhaps only a part of the
  components (``Held``): a path that names a component is open only to who holds it.
- ``any`` as a role is every VM of the inventory; it makes no pair of roles documented by itself.
- A single port fits better than a range, a range better than "varies" (``Fit``).
- TLS around a documented protocol is that protocol still: stronger satisfies weaker. Plain HTTP where HTTPS is documented is no other
  protocol but missing protection, which is another rule's business.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

ANY = "any"
WINDOWS = "cell_on_windows"
"""The role of Windows cells by which their application instances are reached: on other host ports than those of Linux."""
CONTAINER = "app_container"
"""The role of applications with addresses of their own (NSX-T and other container networks than silk): no VM, and judged like cells."""

TLS_LIKE = frozenset({"tls", "https"})

HTTP_LIKE = frozenset({"http", "websocket"})
"""HTTP in the clear, also what it turned into."""

_HTTP = HTTP_LIKE | TLS_LIKE

SATISFIED_BY: Mapping[str, frozenset[str] | None] = {
    "HTTPS": TLS_LIKE,
    "HTTP": _HTTP,
    "HTTP/HTTPS": _HTTP,
    "HTTP/WebSocket": _HTTP,
    "HTTP/Server Sent Events": _HTTP,
    "gRPC over HTTP/2": _HTTP,
    "SSH": frozenset({"ssh", "tls"}),
    "NATS": frozenset({"nats", "tls", "websocket"}),
    "MySQL": frozenset({"mysql", "tls"}),
    "DNS": frozenset({"dns", "tls"}),
    "Syslog": frozenset({"unknown", "tls"}),
    "NTP": frozenset({"unknown"}),
    "VXLAN": frozenset({"unknown"}),
    "ICMP": None,
    "TCP": None,
    "Varies": None,
}
"""What on the wire is the documented application; None: anything. ``unknown`` stands for protocols that are not recognised at all."""

AUTHENTICATION_WORDS = {
    "mutual_tls": "Mutual TLS",
    "tls": "TLS",
    "oauth2": "OAuth 2.0",
    "basic": "Basic authentication",
    "ssh": "SSH",
    "signed_url": "Signed URLs",
    "mysql_native_password": "MySQL authentication",
    "none": "None",
}


class Fit(IntEnum):
    """How closely a path names a port; the lower the better."""

    SINGLE = 0
    RANGE = 1
    VARIES = 2


@dataclass(frozen=True, slots=True)
class Held:
    """A role of a VM."""

    role: str
    components: frozenset[str] | None = None
    """Slugs of the components it runs; None: all that the role has."""

    def plays(self, role: str, component: str | None) -> bool:
        """Whether this is that role, with that component (a slug) where one is named."""
        return self.role == role and (self.components is None or component is None or component in self.components)


@dataclass(frozen=True, slots=True)
class Role:
    """A kind of VM."""

    name: str
    diego: bool = False
    components: tuple[str, ...] = ()
    says: str | None = None
    added: bool = False
    """Only a policy that adds to others has it: it is none of the platform's own."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A name of a group, or a pattern with ``*``, and the roles behind it."""

    pattern: str
    """In the form that ``canonical`` gives."""
    held: tuple[Held, ...]
    says: str | None = None
    written: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to judge what the paths leave open."""

    tls_minimum: str = "1.2"
    forbidden_suites: tuple[str, ...] = ("NULL", "anonymous", "EXPORT", "RC4", "DES", "3DES")
    names: str = "lenient"
    origin: str | None = None


UNNAMED = "no name"
"""Pattern of an identity whose names are not known. With a space, which no canonical name has."""


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate name and the components it belongs to."""

    pattern: str
    """Canonical; ``*.`` stands for one label or none."""
    components: tuple[str, ...]
    slugs: frozenset[str]
    use: frozenset[str]
    says: str | None = None
    table: str = ""
    """Name of the policy whose table it is in."""
    declared: bool = True
    """It is known to be this deployment's: it accuses. Else it accuses only where a capture confirms the table."""
    variables: tuple[str, ...] = ()
    """Properties and variables that hold such a certificate, canonical."""
    owner: str | None = None
    until_ns: int | None = None
    """From then on it is out of force, as a list of this deployment's certificates says."""


@dataclass(frozen=True, slots=True)
class Condition:
    """A footnote of a row."""

    kind: str
    says: str
    ports: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class PathOrigin:
    """Where a path is written, and who says so."""

    file: str
    line: int | None
    title: str
    page: str | None = None
    section: str | None = None
    releases: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class PolicyPath:
    """One declared way to talk."""

    id: str
    row: int | None
    orig_roles: tuple[str, ...]
    orig_component: str | None
    resp_roles: tuple[str, ...]
    resp_component: str | None
    ports: tuple[tuple[int, int], ...]
    """What a port must lie in; where ``varies``, ports that are known all the same."""
    varies: bool
    transports: tuple[str, ...]
    application: str
    authentication: Any
    """``authentication.required`` of the report: a word, {"all": [...]} or {"any": [...]}."""
    conditions: tuple[Condition, ...]
    footnote: str | None
    origin: PathOrigin
    ambient: bool
    policy: str
    """Name of the policy that declares it."""
    source: str
    """As documented, like the four below."""
    destination: str
    ports_text: str
    application_text: str
    authentication_text: str
    orig_slug: str | None = None
    resp_slug: str | None = None
    local: bool = False
    """It leads from a VM to itself."""
    tile: str | None = None
    """The tile without which there is no such path."""

    @property
    def transport(self) -> str:
        """As in "tcp" or "tcp and udp"."""
        return " and ".join(self.transports)

    @property
    def judged_ports(self) -> str:
        """The documented ports, and those that a footnote names where the column alone says that they vary."""
        known = ports_text(self.ports)
        if not known or known == self.ports_text:
            return self.ports_text
        return f"{self.ports_text} ({known} among them)" if self.varies else f"{self.ports_text}: {known}"

    @property
    def applications(self) -> frozenset[str] | None:
        """Words of the ``application`` column that satisfy it; None: any."""
        return SATISFIED_BY[self.application]

    @property
    def wild(self) -> bool:
        """It says nothing of a pair of roles: one end may be any VM, or both are one."""
        return self.local or ANY in self.orig_roles or ANY in self.resp_roles

    def fit(self, port: int | None, transport: str) -> Fit | None:
        """How closely it names this port and transport, or None."""
        if transport not in self.transports:
            return None
        if port is None or transport not in ("tcp", "udp", "sctp"):
            return Fit.SINGLE
        best: Fit | None = None
        for low, high in self.ports:
            if low <= port <= high:
                if low == high:
                    return Fit.SINGLE
                best = Fit.RANGE
        if best is None and self.varies:
            return Fit.VARIES
        return best

    def distance(self, port: int | None) -> int:
        """How far a port is from the path's."""
        if port is None or not self.ports:
            return 0
        return min(max(low - port, port - high, 0) for low, high in self.ports)

    def describe(self) -> dict[str, str]:
        """source, destination, ports, application, authentication as documented: the coverage table's texts."""
        return {
            "source": self.source,
            "destination": self.destination,
            "ports": self.ports_text,
            "application": self.application_text,
            "authentication": self.authentication_text,
        }


_SAME_AS_UNDERSCORE = str.maketrans("- ", "__")


def canonical(name: str) -> str:
    """Lower case, ``-`` and space as ``_``: how names of VMs and certificates are compared (cf-deployment wrote ``bbs client`` before v14)."""
    return name.strip().lower().translate(_SAME_AS_UNDERSCORE)


_NOT_WORD = re.compile(r"[^a-z0-9]+")
_PARTITION = re.compile(r"_partition_[0-9a-f]+$")


@functools.lru_cache(maxsize=4_096)
def slug(component: str) -> str:
    """A component's name for comparing: ``local Route Emitter`` is ``route_emitter``."""
    return _NOT_WORD.sub("_", component.lower().removeprefix("local ")).strip("_")


def authentication_text(tree: Any) -> str:
    """As the pages write it: TLS and OAuth 2.0."""
    if isinstance(tree, str):
        return AUTHENTICATION_WORDS[tree]
    ((word, parts),) = tree.items()
    joint = " and " if word == "all" else " or "
    texts = [authentication_text(part) for part in parts]
    return joint.join(f"({text})" if isinstance(part, dict) else text for text, part in zip(texts, parts, strict=True))


def ports_text(ports: Iterable[tuple[int, int]]) -> str:
    """As people write them: 4222, 61001-65534."""
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ports)


_MAX_IDENTIFIED = 20_000
"""So many names of certificates are remembered: many connections show the same few."""


@dataclass(frozen=True)
class Policy:
    """All that was loaded."""

    all_paths: tuple[PolicyPath, ...]
    """Documented and ambient ones, in the order loaded."""
    roles: Mapping[str, Role]
    aliases: tuple[Alias, ...]
    """Those loaded last come first, among them the narrower pattern first."""
    settings: Settings
    identities: tuple[Identity, ...]
    sources: tuple[dict[str, str], ...]
    """{name, version, sha256} of each file, in the order loaded; ``profile``: the one that brought it."""
    release: str | None = None
    overlays: frozenset[str] = frozenset()
    """Names of the loaded policies whose paths are ambient."""
    foundation: Mapping[str, Any] = field(default_factory=dict)
    """The switches of this foundation that a policy sets, as ``foundation:`` writes them."""
    _groups: dict[str, tuple[Held, ...] | None] = field(default_factory=dict, repr=False, compare=False)
    _identified: dict[str, tuple[Identity, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def paths(self) -> tuple[PolicyPath, ...]:
        """Documented paths."""
        return tuple(path for path in self.all_paths if not path.ambient)

    @cached_property
    def ambient_paths(self) -> tuple[PolicyPath, ...]:
        """Declared by overlays."""
        return tuple(path for path in self.all_paths if path.ambient)

    @cached_property
    def by_id(self) -> Mapping[str, PolicyPath]:
        """All paths."""
        return {path.id: path for path in self.all_paths}

    def path(self, path_id: str) -> PolicyPath:
        """Raises KeyError where there is none."""
        return self.by_id[path_id]

    @cached_property
    def diego_roles(self) -> frozenset[str]:
        """Roles whose VMs bring a connection into scope."""
        return frozenset(role.name for role in self.roles.values() if role.diego)

    def held_by(self, group: str) -> tuple[Held, ...] | None:
        """The roles behind a role's name or a group's; None: nobody knows the name.

        Raises nothing: any text is a name.
        """
        key = canonical(group)
        if key not in self._groups:
            self._groups[key] = self._find(key)
        return self._groups[key]

    def held_by_group(self, group: str) -> tuple[Held, ...] | None:
        """As ``held_by``, of the name of a group of VMs: an alias of that very name comes before a role of that name."""
        key = canonical(group)
        return next((alias.held for alias in self.aliases if alias.pattern == key), None) or self.held_by(key)

    def _find(self, key: str) -> tuple[Held, ...] | None:
        # Ops Manager names a group diego_cell-partition-0123abcd where it spans availability zones of old.
        for name in dict.fromkeys((key, _PARTITION.sub("", key))):
            if name in self.roles:
                return (Held(name),)
            for alias in self.aliases:
                if fnmatch.fnmatchcase(name, alias.pattern):
                    return alias.held
        return None

    def components_of(self, held: Iterable[Held]) -> frozenset[str]:
        """Slugs of all components that these roles can run."""
        found: set[str] = set()
        for each in held:
            if each.components is not None:
                found |= each.components
            elif each.role in self.roles:
                found.update(slug(component) for component in self.roles[each.role].components)
        return frozenset(found)

    def identify(self, name: str) -> tuple[Identity, ...]:
        """The identities that a certificate's name belongs to; none: it attributes nothing. What is declared of a name replaces what is presumed."""
        known = self._identified.get(name)
        if known is None:
            key = canonical(name).rstrip(".")
            found = {
                (each.slugs, each.use, each.declared, each.table): each
                for each in self.identities
                if _same_name(each.pattern, key)
            }
            if len(self._identified) >= _MAX_IDENTIFIED:
                self._identified.clear()
            declared = tuple(each for each in found.values() if each.declared)
            known = self._identified[name] = declared or tuple(found.values())
        return known


def _same_name(pattern: str, name: str) -> bool:
    if pattern == name:
        return True
    if not pattern.startswith("*."):
        return False
    bare = pattern[2:]
    return name == bare or (name.endswith("." + bare) and "." not in name[: -len(bare) - 1])
