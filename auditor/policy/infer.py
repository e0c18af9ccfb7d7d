"""Who is probably who, from nothing but a capture: what each address serves, whom it calls, what its certificates say.

Rules that hold here:

- Evidence is counted in points per address and role; a role is decided at ``MEDIUM`` points, below that it is only a remark.
- A port of Diego's own that one role alone serves, spoken as documented, decides; one of another role needs a caller too. A port that several serve (4222, 8443, 8080, 9091, 443, ...) decides
  nothing alone: it takes a caller whose role is decided and whose path leads there.
- Callers: a call that one role alone makes, or several calls that only one role makes all of.
- A certificate name or SNI of the identity table decides.
- The order of the services decides nothing; what one round decides is evidence in the next, until nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from auditor.policy.addresses import around, kind_of, to_text
from auditor.policy.inventory import Entry, Inventory, write_yaml
from auditor.policy.policy import CONTAINER, WINDOWS, Fit, Policy, PolicyPath, slug
from auditor.policy.policy_cache import overlays_beside

HIGH, MEDIUM = 6, 3
_NAMED, _OWN_PORT, _CALLS, _CALLED, _SHARED_PORT = 6, 4, 3, 2, 1
_ROUNDS = 4
_HOST_PORTS = (61001, 65534)
_ROUTED = frozenset({"tls", "http", "https", "websocket"})
_FEW = 3
"""Of reasons and candidates no more than this are reported."""

COLLIDING = frozenset({22, 80, 443, 2222, 4222, 8080, 8082, 8443, 8844, 9091})
"""Ports that more than the documented roles serve (Director, routers' status, health checks): they decide nothing alone."""


_ELSEWHERE = frozenset({"blobstore", "external_database", CONTAINER, WINDOWS})
"""Roles of what is not a VM of the platform, or none by itself: no port of theirs is known."""


@dataclass(frozen=True, slots=True)
class Service:
    """One listener, with all that connected to it."""

    address: int
    port: int
    transport: str
    application: str
    clients: tuple[int, ...] = ()
    connections: int = 1
    names: tuple[str, ...] = ()
    """Names in the certificates it presented, and in the SNI that clients asked it for."""
    client_names: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    """Names in the certificates that clients presented to it, by client."""


@dataclass(frozen=True, slots=True)
class Guess:
    """What an address probably is."""

    address: int
    role: str
    points: int
    reasons: tuple[str, ...]
    slugs: frozenset[str] = frozenset()
    """Components that the evidence is about."""

    @property
    def confidence(self) -> str:
        """high, medium or low; a role of low confidence is not assigned."""
        return "high" if self.points >= HIGH else "medium" if self.points >= MEDIUM else "low"


def infer_inventory(services: Sequence[Service], policy: Policy) -> Inventory:
    """The inventory that these services suggest; its ``origin`` is ``inferred``."""
    return Inventory(tuple(_entries(infer(services, policy))), policy)


def draft(services: Sequence[Service], policy: Policy) -> str:
    """The same as YAML to correct, with comments that say why, and what was not decided."""
    guesses = infer(services, policy)
    text = write_yaml(Inventory(tuple(_entries(guesses)), policy))
    decided = {guess.address for guess in guesses if guess.points >= MEDIUM}
    out = [
        "# Inferred from captures: correct it, add what is missing, and remove 'origin: inferred' from entries that you have checked.",
        text.rstrip("\n"),
    ]
    rest: dict[int, list[Guess]] = {}
    for guess in guesses:
        if guess.address not in decided:
            rest.setdefault(guess.address, []).append(guess)
    # A port that many roles serve is not a remark worth a line.
    told = {address: found for address, found in rest.items() if len(found) <= _FEW or found[0].points > _SHARED_PORT}
    if told:
        out.append("# Not decided:")
        for address, found in sorted(told.items()):
            roles = " or ".join(guess.role for guess in found[:_FEW])
            out.append(f"#   {to_text(address)}: {roles}? {', '.join(found[0].reasons)}")
    if not decided:
        out += ["# No host here looks like a VM of the platform. Example of an entry:", "vms: []"]
        out.append("#   - {name: diego_cell/0, ips: [10.0.4.20], roles: [diego_cell]}")
    return "\n".join(out) + "\n"


def infer(services: Sequence[Service], policy: Policy) -> tuple[Guess, ...]:
    """Every role that some evidence speaks for, by address, the likeliest first."""
    return _Scores(services, policy).settle()


def _entries(guesses: Iterable[Guess]) -> Iterable[Entry]:
    by_address: dict[int, list[Guess]] = {}
    for guess in guesses:
        if guess.points >= MEDIUM:
            by_address.setdefault(guess.address, []).append(guess)
    for address, found in sorted(by_address.items()):
        roles = [guess.role for guess in found]
        note = "; ".join(f"{guess.role} ({guess.confidence}): {', '.join(guess.reasons[:_FEW])}" for guess in found)
        group = None
        parts = [guess for guess in found if guess.role in ("diego_brain", "diego_database")]
        if "cloud_controller" in roles and parts and all(guess.slugs and guess.slugs <= _OF_API for guess in parts):
            # cf-deployment's api: only these components of the brain and of diego_database are there.
            group, roles = "api", [role for role in roles if role not in ("diego_brain", "diego_database")]
            roles = [role for role in roles if role != "cloud_controller"]
            roles = ["api", *roles] if roles else []
        name = f"{group or roles[0]}/{to_text(address)}"
        yield Entry("capture", to_text(address), name, group, tuple(roles), ((address, address),), origin="inferred", note=note)  # fmt: skip


_OF_API = frozenset(
    {"cc_uploader", "file_server", "policy_server", "policy_server_internal", "policy_server_asg_syncer"}
)


@lru_cache(maxsize=8)
def _roles_by_slug(policy_roles: tuple[tuple[str, tuple[str, ...]], ...]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    for role, components in policy_roles:
        for component in components:
            found.setdefault(slug(component), []).append(role)
    return {key: tuple(roles) for key, roles in found.items()}


def _total(why: Mapping[str, int]) -> int:
    """Ports that several serve count beside other evidence, and not beside each other."""
    shared = [points for points in why.values() if points <= _SHARED_PORT]
    rest = sum(why.values()) - sum(shared)
    return rest + max(shared, default=0) if not rest or _has_caller(why) else rest


def _has_caller(why: Mapping[str, int]) -> bool:
    return any(not reason.startswith("serves ") for reason in why)


def _weightiest(why: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(sorted(why, key=lambda reason: (-why[reason], reason)))


class _Scores:
    def __init__(self, services: Sequence[Service], policy: Policy) -> None:
        self.policy = policy
        own = [each for each in services if kind_of(each.address) is None]
        self.services = sorted(own, key=lambda each: (each.address, each.port, each.transport, each.application))
        beside = [path for _, paths in overlays_beside(policy) for path in paths]
        # cfdot is an operator's tool: it may be run anywhere, so its calls tell nothing.
        self.paths = [path for path in (*policy.all_paths, *beside) if path.orig_slug != "cfdot"]
        self.roles_by_slug = _roles_by_slug(tuple((role.name, role.components) for role in policy.roles.values()))
        # (address, role) -> reason -> points; a reason counts once.
        self.points: dict[tuple[int, str], dict[str, int]] = {}
        self.slugs: dict[tuple[int, str], set[str]] = {}
        self.ports: dict[tuple[int, str], set[int]] = {}
        self.servers: set[int] = set()
        self.firm: set[tuple[int, str]] = set()
        """What more than shared ports speaks for."""

    def settle(self) -> tuple[Guess, ...]:
        for service in self.services:
            self._names(service)
            self._port(service)
        for _ in range(_ROUNDS):
            before = self._decided()
            self._callers(before)
            self._called(before)
            if self._decided() == before:
                break
        self._routers(self._decided())
        kept = self._without_shadows()
        guesses = [
            Guess(
                address,
                role,
                points,
                _weightiest(self.points[address, role]),
                frozenset(self.slugs.get((address, role), ())),
            )
            for (address, role), points in kept.items()
        ]
        return tuple(sorted(guesses, key=lambda each: (each.address, -each.points, each.role)))

    def _without_shadows(self) -> dict[tuple[int, str], int]:
        """Points, where a role that only shared ports speak for does not stand beside a stronger one that explains them."""
        points = {key: _total(why) for key, why in self.points.items()}
        by_address: dict[int, list[str]] = {}
        for address, role in sorted(points, key=lambda key: (key[0], -points[key], key[1])):
            stronger = by_address.setdefault(address, [])
            ports = self.ports.get((address, role), set())
            explained = {port for other in stronger for port in self.ports.get((address, other), ())}
            if stronger and (address, role) not in self.firm and ports <= explained:
                points[address, role] = min(points[address, role], MEDIUM - 1)
            elif points[address, role] >= MEDIUM:
                stronger.append(role)
        return points

    def _routers(self, decided: dict[int, frozenset[str]]) -> None:
        """Who calls applications on cells, and is nobody else, is a router."""
        for service in self.services:
            if "diego_cell" not in decided.get(service.address, ()) or service.application not in _ROUTED:
                continue
            if service.transport == "tcp" and _HOST_PORTS[0] <= service.port <= _HOST_PORTS[1]:
                for client in service.clients:
                    if client not in decided and kind_of(client) is None:
                        self._add(
                            client, "router", f"calls applications on a diego_cell ({service.application})", _CALLS
                        )
                        self.firm.add((client, "router"))

    def _decided(self) -> dict[int, frozenset[str]]:
        found: dict[int, set[str]] = {}
        for (address, role), points in self._without_shadows().items():
            if points >= MEDIUM:
                found.setdefault(address, set()).add(role)
        return {address: frozenset(roles) for address, roles in found.items()}

    def _add(self, address: int, role: str, reason: str, points: int, component: str | None = None) -> None:
        self.points.setdefault((address, role), {}).setdefault(reason, points)
        if component:
            self.slugs.setdefault((address, role), set()).add(component)

    def _names(self, service: Service) -> None:
        for name in sorted(set(service.names)):
            self._name(service.address, name, "server")
            first = name.split(".")[0].lower()
            if service.port in (443, 8443) and first in ("uaa", "login"):
                self._add(service.address, "uaa", f"is asked for as {name}", _OWN_PORT)
        for client, names in sorted(service.client_names.items()):
            for name in sorted(set(names)):
                self._name(client, name, "client")

    def _name(self, address: int, name: str, use: str) -> None:
        for identity in self.policy.identify(name):
            if use not in identity.use:
                continue
            owners = {role for key in identity.slugs for role in self.roles_by_slug.get(key, ())}
            if len(owners) == 1:
                only = next(iter(identity.slugs)) if len(identity.slugs) == 1 else None
                role = owners.pop()
                self._add(address, role, f"its {use} certificate or SNI is {name}", _NAMED, only)
                self.firm.add((address, role))

    def _serving(self, service: Service) -> list[PolicyPath]:
        """Paths that end at this port, spoken like this."""
        found = []
        for path in self.paths:
            if path.wild and path.resp_roles == ("any",):
                continue
            if path.fit(service.port, service.transport) is not Fit.SINGLE:
                continue
            allowed = path.applications
            if allowed is None or service.application in allowed or service.application in ("unknown", "none"):
                found.append(path)
        return found

    def _port(self, service: Service) -> None:
        paths = self._serving(service)
        roles = {role for path in paths for role in path.resp_roles} - _ELSEWHERE
        spoken = service.application not in ("unknown", "none")
        for role in sorted(roles):
            components = {path.resp_slug for path in paths if role in path.resp_roles}
            component = next(iter(components)) if len(components) == 1 else None
            known = "; the Director does so, too" if service.port == 4222 else ""
            reason = f"serves {service.port} ({service.application}{known})"
            self.ports.setdefault((service.address, role), set()).add(service.port)
            if len(roles) == 1 and service.port not in COLLIDING:
                # TLS on 4443 may be anybody's; NATS, or TLS on 1801, hardly.
                own = spoken and (role in self.policy.diego_roles or service.application == "nats")
                self._add(service.address, role, reason, _OWN_PORT if own else _CALLED, component)
                self.firm.add((service.address, role))
                if own or role in {path_role for path in self.policy.paths for path_role in path.resp_roles}:
                    self.servers.add(service.address)
            else:
                self._add(service.address, role, reason, _SHARED_PORT, component)

    def _callers(self, decided: dict[int, frozenset[str]]) -> None:
        calls: dict[int, dict[tuple[str, int], frozenset[str]]] = {}
        for service in self.services:
            for role in decided.get(service.address, ()):
                candidates = self._origins(service, role)
                if candidates:
                    for client in service.clients:
                        calls.setdefault(client, {})[(role, service.port)] = candidates
        for client, made in sorted(calls.items()):
            # Who serves a role's own port is told by that: a call that is not its own may be the very thing to find.
            if kind_of(client) is not None or client in self.servers:
                continue
            for (role, port), candidates in sorted(made.items()):
                # Whatever answers on 443 may be asked for by anybody.
                if len(candidates) == 1 and port != 443:
                    self._add(client, next(iter(candidates)), f"calls {port} of a {role}", _CALLS)
                    self.firm.add((client, next(iter(candidates))))
            common = frozenset.intersection(*made.values())
            if len(made) > 1 and len(common) == 1:
                ports = ", ".join(str(port) for _, port in sorted(made, key=lambda each: each[1]))
                self.firm.add((client, next(iter(common))))
                self._add(client, next(iter(common)), f"calls everything that this role calls ({ports})", _CALLS)

    def _origins(self, service: Service, role: str) -> frozenset[str]:
        """The roles that documented paths let call this service: ports of a range only where it speaks what they document."""
        found: set[str] = set()
        for path in self.paths:
            fit = path.fit(service.port, service.transport)
            if path.wild or role not in path.resp_roles or fit is None or fit is Fit.VARIES:
                continue
            if fit is Fit.SINGLE or service.application == path.application.lower():
                found.update(path.orig_roles)
        return frozenset(found)

    def _called(self, decided: dict[int, frozenset[str]]) -> None:
        for service in self.services:
            paths = self._serving(service)
            explained = {role for path in paths for role in path.resp_roles} & decided.get(service.address, frozenset())
            callers = {role for client in service.clients for role in decided.get(client, ())}
            for path in paths:
                if path.wild or (service.port == 443 and not self._near_brains(service, callers, decided)):
                    continue
                matching = sorted(callers & set(path.orig_roles))
                for role in sorted(set(path.resp_roles) - _ELSEWHERE):
                    if matching and (not explained or role in explained):
                        reason = f"is called on {service.port} by a {matching[0]}"
                        self._add(service.address, role, reason, _CALLED, path.resp_slug)

    @staticmethod
    def _near_brains(service: Service, callers: set[str], decided: dict[int, frozenset[str]]) -> bool:
        """Brains alone ask it, beside the platform's own: uaa, or what fronts it, and no server of the world's."""
        return callers == {"diego_brain"} and around(service.address) in {around(address) for address in decided}
