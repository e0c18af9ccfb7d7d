"""What captures themselves say of certificate names: which are this deployment's own, and who differs from its peers.

The rules that hold here:

1. **A table that is presumed has to be confirmed** before its names accuse: at least three of its names, each shown where it belongs, from one
   authority, and three for each that contradicts it. Clients' names and servers' are confirmed apart: the servers' are published, the
   clients' are each deployment's own.
2. **What all VMs of a group show is a convention**, whatever a table says; it is reported once and accuses nobody.
3. **One that differs from its peers is the finding**, and only that: peers are VMs of one instance group that use or give the same
   service. At least two of them have to agree, and three VMs have to be there (or two with several connections each).
4. **Several components of a VM may call one service**, each with a certificate of its own, and some of them on one VM at a time (who holds a lock).
   So another name among the clients of a service is a deviation only where the names that peers share are already as many as the
   components that a policy, loaded or shipped, lets call it.
5. **Names of VMs are patterns**: digits, addresses and GUIDs in them stand for any. What differs from VM to VM on purpose (instance
   identities of applications, a name or key for each VM) has no peers that agree, and so no deviation.
6. A key that belongs to one VM, an address in a certificate, an authority: they accuse where the peers each have their own key, name their own
   address, or all have one authority. Where ``--ca`` was given, that says who is to be trusted, and nothing is learnt of authorities.

Everything is found out once for each distinct certificate, pair of ends and service.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from auditor.model.connections import ConnectionTable
from auditor.model.facts import Facts
from auditor.model.judgement import CONVENTION, Classification, Disposition, Fault
from auditor.policy.addresses import to_int, to_text
from auditor.policy.certificates import (
    SIDES,
    Certificate,
    CertificateJudge,
    about_certificate,
    identities_of,
    says_misplaced,
    slugs_of,
    which_certificate,
)
from auditor.policy.inventory import Host, Inventory
from auditor.policy.policy import ANY, Held, Identity, canonical, slug
from auditor.policy.policy_cache import overlays_beside

RULE = "certificate-identity"

CONFIRMING = 3
"""So many names of a table, each in its place, confirm it."""

OUTWEIGH = 3
"""And so many of them for each that contradicts it: a name that a role's VMs show, or a VM that does so alone."""

SEVERAL = 3
"""Connections: enough to take two VMs for peers."""

FEW = 4
"""Up to so many VMs a deviation is of medium confidence."""

_OTHERS = 3
"""So many VMs of other roles agree on an authority before one connection with another is reported,"""
_TOGETHER = 8
"""in so many connections."""

_HOST_PORTS = range(61_001, 65_535)
_APPLICATION = "app_instances"
_OPERATORS_TOOL = "cfdot"
_NAMED = 3

Authority = tuple[str, str]
"""Name and, where certificates say it, the identifier of its key."""

Place = tuple[str, str, tuple[str, int, str]]
"""Side, instance group, service: within it VMs are peers."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A table of names that the captures show in use."""

    table: str
    side: str
    names: int
    authority: str


@dataclass(frozen=True, slots=True)
class LearntName:
    """A name that this deployment gives, which no declared table has."""

    names: tuple[str, ...]
    """As they were shown; several where they differ in digits, addresses or GUIDs only."""
    side: str
    role: str
    components: tuple[str, ...]
    """Those of the role that it may belong to."""
    known: bool
    """The components are those of a table whose name it is, not those that may have shown it."""
    connections: int
    vms: int
    issuer: str | None
    first: str
    """Id of the first connection."""


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """What was learnt of all connections together."""

    faults: tuple[tuple[Fault, ...], ...] = ((),)
    of_row: NDArray[np.int32] | None = None
    """For each connection its place in ``faults``; None: nobody has any."""
    confirmed: tuple[Confirmed, ...] = ()
    names: tuple[LearntName, ...] = ()


NOTHING = Learnt()

# Names as patterns ---------------------------------------------------------------------------------------------------

_ALONE = r"(?<![0-9a-z]){}(?![0-9a-z])"
_FOLDED = tuple(
    (re.compile(_ALONE.format(pattern), re.ASCII), stands)
    for pattern, stands in (
        (r"[0-9a-f]{8}(?:_[0-9a-f]{4}){3}_[0-9a-f]{4,12}", "<guid>"),
        (r"[0-9]{1,3}(?:[._][0-9]{1,3}){3}", "<address>"),
        (r"[0-9a-f]*(?::[0-9a-f]*){2,7}", "<address>"),
        (r"(?=[a-f]*[0-9])[0-9a-f]{12,}", "<hex>"),
    )
)
_DIGITS = re.compile("[0-9]+", re.ASCII)
_DOTTED = re.compile(_ALONE.format(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"), re.ASCII)


def fold(name: str) -> str:
    """The pattern of a name: what differs from VM to VM stands for any."""
    key = canonical(name).rstrip(".")
    for pattern, stands in _FOLDED:
        key = pattern.sub(stands, key)
    return _DIGITS.sub("#", key)


def _pattern(leaf: Certificate) -> str:
    """Of the name it is called by: the common name, else the first of its names."""
    return fold(leaf.common_name or min(leaf.names, default=""))


# What was shown ------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Shown:
    """One certificate that one VM showed at one service."""

    side: str
    leaf: Certificate
    pattern: str
    authority: Authority
    vm: str
    host: Host
    address: int
    group: str
    role: str
    service: tuple[str, int, str]
    """Role that answers, port, and for a server the name it was asked for."""
    classification: Classification
    allowed: frozenset[str]
    """Slugs of what may be named here."""
    where: tuple[Identity, ...]
    """What the tables say of its names."""
    first: int
    """Its first connection's row."""
    count: int = 0
    alike: list[int] = field(default_factory=list)
    """Numbers of the distinct questions that show it."""

    @property
    def place(self) -> Place:
        return self.side, self.group, self.service

    @property
    def kind(self) -> str:
        return SIDES[self.side]

    @property
    def fits(self) -> bool:
        """A table has its name, and here is its place."""
        return bool(slugs_of(self.where) & self.allowed)

    @property
    def called(self) -> str:
        return which_certificate(self.side, self.leaf, self.leaf)

    @property
    def name(self) -> str:
        return self.leaf.common_name or (self.leaf.names[0] if self.leaf.names else "a certificate without a name")


def learn(
    table: ConnectionTable,
    classes: Sequence[Classification],
    class_of: NDArray[np.int32],
    judge: CertificateJudge,
    inventory: Inventory,
    hosts: tuple[NDArray[np.int32], NDArray[np.int32], Sequence[Host]],
) -> Learnt:
    """What the certificates of these connections say together. Never raises on what was seen.

    hosts: for each connection the originator's and the responder's place in a list of hosts, -1 for an unknown one.
    """
    chains, number = _chains(table.facts)
    if not chains:
        return NOTHING
    judged = np.array([_judged(each) for each in classes], np.bool_)
    rows = np.flatnonzero((number >= 0) & table.established & judged[class_of])
    if not rows.size:
        return NOTHING
    orig_host, resp_host, known = hosts
    keys = np.stack(
        [
            number[rows],
            class_of[rows],
            table.orig_h[rows],
            table.resp_h[rows],
            np.where(np.isin(table.resp_p[rows], _HOST_PORTS), _HOST_PORTS.start, table.resp_p[rows]),
            orig_host[rows],
            resp_host[rows],
        ],
        axis=1,
    ).astype(np.int64)
    which = pd.DataFrame(keys).groupby(list(range(keys.shape[1])), sort=False).ngroup().to_numpy()
    counts = np.bincount(which)
    first = np.zeros(len(counts), np.int64)
    first[which[::-1]] = np.arange(len(which) - 1, -1, -1)
    distinct = keys[first]
    gathered: dict[tuple[object, ...], _Shown] = {}
    made = _Maker(table, judge, known)
    for at, key in enumerate(distinct.tolist()):
        chain, class_id, orig, resp, port, *ends = key
        for side, address, host in (("client", orig, ends[0]), ("server", resp, ends[1])):
            one = made.shown(side, chains[chain], classes[class_id], address, host, port, int(rows[first[at]]))
            if one is None:
                continue
            kept = gathered.setdefault((one.place, one.vm, one.leaf.fingerprint), one)
            kept.first = min(kept.first, one.first)
            kept.count += int(counts[at])
            kept.alike.append(at)
    if not gathered:
        return NOTHING
    found = _Together(tuple(gathered.values()), judge, inventory, table).heard()
    told: list[tuple[Fault, ...]] = [()]
    places: dict[tuple[Fault, ...], int] = {(): 0}
    of_question = np.zeros(len(distinct), np.int32)
    for at, faults in found.faults.items():
        of_question[at] = places.setdefault(tuple(faults), len(told))
        if of_question[at] == len(told):
            told.append(tuple(faults))
    of_row = None
    if len(told) > 1:
        of_row = np.zeros(len(table), np.int32)
        of_row[rows] = of_question[which]
    return Learnt(tuple(told), of_row, found.confirmed, found.names)


def _judged(classification: Classification) -> bool:
    """It is on a declared path, whose authentication is judged."""
    return bool(classification.paths) and classification.disposition in (Disposition.DOCUMENTED, Disposition.AMBIENT)


_Chain = tuple[tuple[str, ...], tuple[str, ...], str]
"""Fingerprints that client and server showed, and the name that was asked for."""


def _chains(facts: Sequence[Facts | None]) -> tuple[list[_Chain], NDArray[np.int32]]:
    """The distinct chains that were shown, and for each connection its place among them, -1: none."""
    found: dict[_Chain, int] = {}
    known: dict[int, int] = {}
    number: list[int] = []
    client, server = SIDES.values()

    def place(fact: Facts) -> int:
        sni = fold(str(fact.get("tls.sni") or ""))
        chain: _Chain = tuple(fact.get(client) or ()), tuple(fact.get(server) or ()), sni
        return found.setdefault(chain, len(found)) if chain[0] or chain[1] else -1

    for fact in facts:
        if fact is None:
            number.append(-1)
            continue
        own = fact.own
        if own and (client in own or server in own):
            number.append(place(fact))
            continue
        at = known.get(id(fact.shared))
        if at is None:
            at = known[id(fact.shared)] = place(fact)
        number.append(at)
    return list(found), np.array(number, np.int32)


class _Maker:
    """Makes a ``_Shown`` of what a question says of one side."""

    def __init__(self, table: ConnectionTable, judge: CertificateJudge, hosts: Sequence[Host]) -> None:
        self.table, self.judge, self.hosts = table, judge, hosts
        self._leaves: dict[tuple[str, ...], tuple[Certificate, str, Authority] | None] = {}
        self._where: dict[tuple[str, str], tuple[Identity, ...]] = {}

    def shown(
        self, side: str, chain: _Chain, told: Classification, address: int, host: int, port: int, row: int
    ) -> _Shown | None:
        """None: this side showed nothing, nothing that can be read, or nobody knows what runs there."""
        fingerprints = chain[0] if side == "client" else chain[1]
        here = told.orig_holds if side == "client" else told.resp_holds
        if not fingerprints or here is None or host < 0:
            return None
        read = self._read(fingerprints)
        called = self.judge.called(told)
        if read is None or (side == "server" and _APPLICATION in called):
            return None
        leaf, pattern, authority = read
        who = self.hosts[host]
        role = (told.orig_role if side == "client" else told.resp_role) or ""
        name = who.instance or to_text(self.table.addresses[address])
        key = side, leaf.fingerprint
        if key not in self._where:
            self._where[key] = identities_of(leaf, self.judge.policy, side)
        return _Shown(
            side,
            leaf,
            pattern,
            authority,
            name,
            who,
            self.table.addresses[address],
            canonical(who.group or name.partition("/")[0] if who.instance else who.group or role),
            role,
            (told.resp_role or "", port, chain[2] if side == "server" else ""),
            told,
            here | called if side == "client" else here,
            self._where[key],
            row,
        )

    def _read(self, fingerprints: tuple[str, ...]) -> tuple[Certificate, str, Authority] | None:
        if fingerprints not in self._leaves:
            chain = [one for one in map(self.judge.describe, fingerprints) if one is not None]
            usable = chain and chain[0].fingerprint == fingerprints[0] and chain[0].parsed is not None
            plain = usable and not chain[0].application and bool(chain[0].names)
            self._leaves[fingerprints] = (chain[0], _pattern(chain[0]), authority_of(chain)) if plain else None
        return self._leaves[fingerprints]


def authority_of(chain: Sequence[Certificate]) -> Authority:
    """Who vouches for a leaf in the end, as far as the chain that was sent leads."""
    one, left = chain[0], list(chain[1:])
    while not one.self_issued:
        name, key = one.issuer_id
        above = next((each for each in left if each.authority and _is_issuer(each, name, key)), None)
        if above is None:
            return one.issuer_id
        left.remove(above)
        one = above
    return one.subject_id


def _is_issuer(one: Certificate, name: str, key: str) -> bool:
    own_name, own_key = one.subject_id
    return own_name == name and (not key or not own_key or key == own_key)


# What they say together ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Found:
    faults: dict[int, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    """By number of the question."""
    confirmed: tuple[Confirmed, ...] = ()
    names: tuple[LearntName, ...] = ()


class _Together:
    """All that was shown, and what is to be made of it."""

    def __init__(
        self, shown: tuple[_Shown, ...], judge: CertificateJudge, inventory: Inventory, table: ConnectionTable
    ) -> None:
        self.certificates, self.policy, self.inventory, self.table = judge, judge.policy, inventory, table
        self.shown = tuple(sorted(shown, key=lambda one: one.first))
        self._same_authorities()
        self.places: dict[Place, dict[str, list[_Shown]]] = defaultdict(lambda: defaultdict(list))
        for one in self.shown:
            self.places[one.place][one.vm].append(one)
        self.blamed: set[int] = set()
        """id() of what has been accused: one fact is one finding."""
        self.found = _Found()
        self._slots_of: dict[tuple[str, tuple[str, int, str]], int] = {}

    def heard(self) -> _Found:
        """Who is accused, what is confirmed, and what is convention."""
        confirmed = self._confirmed()
        self.found.confirmed = tuple(confirmed[key] for key in sorted(confirmed))
        self.settled = {
            id(one)
            for one in self.shown
            if one.where and any(each.declared or (each.table, one.side) in confirmed for each in one.where)
        }
        """id() of those whose name a table knows that may accuse."""
        for accuse in (self._by_table(confirmed), self._addresses(), self._keys(), self._authorities(), self._peers()):
            for one, says, confidence, about, beside in accuse:
                self._blame(one, says, confidence, about, beside)
        self._conventions()
        return self.found

    def _blame(self, one: _Shown, says: str, confidence: str, about: str, beside: Sequence[_Shown]) -> None:
        if id(one) in self.blamed:
            return
        self.blamed.add(id(one))
        if one.host.origin == "inferred" and confidence == "high":
            confidence = "medium"  # the role it is judged by is a guess
        ids = tuple(dict.fromkeys(self._id(each) for each in beside))[:_NAMED]
        peers = f" ({'connection' if len(ids) == 1 else 'connections'} {', '.join(ids)})" if ids else ""
        fault = Fault(RULE, f"{says}{peers}", confidence, (one.kind,), about, ids)
        for at in one.alike:
            self.found.faults[at].append(fault)

    def _id(self, one: _Shown) -> str:
        return bytes(self.table.id[one.first]).decode()

    def _same_authorities(self) -> None:
        """Where some certificates name an authority without its key, all of that name are one."""
        bare = {one.authority[0] for one in self.shown if not one.authority[1]}
        for one in self.shown:
            if one.authority[0] in bare:
                one.authority = one.authority[0], ""

    # Tables

    def _confirmed(self) -> dict[tuple[str, str], Confirmed]:
        """Presumed tables that the captures confirm, by name and side."""
        good: dict[tuple[str, str], dict[Authority, set[frozenset[str]]]] = defaultdict(lambda: defaultdict(set))
        bad: dict[tuple[str, str], set[object]] = defaultdict(set)
        issuers: dict[Authority, str] = {}
        for one in self.shown:
            for table in {each.table for each in one.where if not each.declared}:
                here = [each for each in one.where if each.table == table and each.slugs & one.allowed]
                key = table, one.side
                if here and self._telling(table, one):
                    issuers.setdefault(one.authority, one.leaf.issuer or one.authority[0])
                    good[key][one.authority].update(each.slugs for each in here if one.side in each.use)
                elif not here:
                    # Whoever shows many foreign names counts once: it must not take a table its weight.
                    alone = self._alone(one)
                    bad[key].update(
                        [one.vm] if alone else [(each.slugs, one.role, one.service[0]) for each in one.where]
                    )
        confirmed = {}
        for key, by_authority in good.items():
            authority = max(by_authority, key=lambda each: (len(by_authority[each]), each))
            names = len(by_authority[authority])
            if names >= max(CONFIRMING, OUTWEIGH * len(bad[key])):
                confirmed[key] = Confirmed(*key, names, issuers[authority])
        return confirmed

    @cached_property
    def _by_side(self) -> Mapping[tuple[str, str], list[Identity]]:
        found: dict[tuple[str, str], list[Identity]] = defaultdict(list)
        for each in self.policy.identities:
            for side in each.use:
                found[each.table, side].append(each)
        return found

    def _telling(self, table: str, one: _Shown) -> bool:
        """Most of the table's names would not be in their place there: that this one is means something."""
        names = self._by_side[table, one.side]
        return 2 * sum(bool(each.slugs & one.allowed) for each in names) <= len(names)

    def _alone(self, one: _Shown) -> bool:
        """It is one VM's own doing: the other VMs of its group show what belongs there, or it mostly does so itself."""
        vms = self.places[one.place]
        also = [each for each in vms.values() if any(other.pattern == one.pattern for other in each)]
        if len(also) > 1:
            return False
        if len(vms) > 1:
            return any(each.fits for vm, all_shown in vms.items() if vm != one.vm for each in all_shown)
        own = vms[one.vm]
        alike = sum(each.count for each in own if each.pattern == one.pattern)
        return sum(each.count for each in own if each.fits) > OUTWEIGH * alike

    def _by_table(self, confirmed: Mapping[tuple[str, str], Confirmed]) -> Iterator[_Accusation]:
        """Names of confirmed tables out of their place."""
        for one in self.shown:
            if one.fits or any(each.declared for each in one.where) or not self._alone(one):
                continue
            by = next((confirmed[key] for each in one.where if (key := (each.table, one.side)) in confirmed), None)
            if by is None:
                continue
            peers = [each for vm in self.places[one.place].values() for each in vm if each.fits]
            says = (
                f"{says_misplaced(one.side, one.leaf, one.where, one.classification)}; the captures show {by.names} names of "
                f"{by.table} from {by.authority} where they belong, and {_names(peers)} on this service"
            )
            yield one, says, "high", about_certificate(one.side, one.leaf, self.policy), peers

    # Peers

    def _enough(self, vms: Mapping[str, list[_Shown]]) -> bool:
        if len(vms) > 2:
            return True
        return len(vms) == 2 and all(sum(each.count for each in own) >= SEVERAL for own in vms.values())

    @staticmethod
    def _few(odd: Collection[str], vms: Collection[str]) -> bool:
        """So few VMs that the others are the rule."""
        return 0 < len(odd) <= max(1, len(vms) // 3)

    def _peers(self) -> Iterator[_Accusation]:
        """A VM that shows another name than its peers."""
        for (side, group, service), vms in self.places.items():
            if not self._enough(vms):
                continue
            by_pattern: dict[str, set[str]] = defaultdict(set)
            for one in (each for own in vms.values() for each in own):
                by_pattern[one.pattern].add(one.vm)
            shared = {pattern for pattern, who in by_pattern.items() if len(who) > 1}
            odd = {vm for pattern, who in by_pattern.items() if pattern not in shared for vm in who}
            slots = self._slots(side, next(iter(vms.values()))[0].role, service)
            if not shared and len(vms) == 2 and slots == 1:
                # Of two that differ, the one whose name is at home with others.
                odd = {vm for vm, own in vms.items() if any(self._home(each) for each in own)}
                if len(odd) != 1:
                    continue
            elif not shared or not self._all_shown((side, group, service)) or not self._few(odd, vms):
                continue
            for vm in sorted(odd):
                peers = [each for other, own in vms.items() if other != vm for each in own if other not in odd]
                for one in vms[vm]:
                    if one.pattern in shared or id(one) in self.settled:
                        continue
                    home = self._home(one)
                    says = f"{one.called} is shown only by {one.vm}; {_vms(peers)} show {_names(peers)} there"
                    if home is not None:
                        says += f", and {home.vm} shows {home.name}"
                    confidence = "low" if len(vms) == 2 else "high" if home or len(vms) > FEW else "medium"
                    yield one, says, confidence, f"{side} peers {one.pattern}", [*peers, *([home] if home else [])]

    def _all_shown(self, place: Place) -> bool:
        """The names that VMs share there are as many as the components that may call: another is one too many."""
        side, _, service = place
        vms = self.places[place]
        by_pattern = Counter(pattern for own in vms.values() for pattern in {each.pattern for each in own})
        shared = sum(count > 1 for count in by_pattern.values())
        return shared >= self._slots(side, next(iter(vms.values()))[0].role, service)

    def _home(self, one: _Shown) -> _Shown | None:
        """Where else a name is shown: by a VM of another group, from the same authority."""
        return next(
            (
                each
                for each in self._by_pattern[one.pattern]
                if each.group != one.group and each.authority == one.authority
            ),
            None,
        )

    @cached_property
    def _by_pattern(self) -> Mapping[str, list[_Shown]]:
        found: dict[str, list[_Shown]] = defaultdict(list)
        for one in self.shown:
            found[one.pattern].append(one)
        return found

    def _slots(self, side: str, role: str, service: tuple[str, int, str]) -> int:
        """How many components may show a certificate of their own there."""
        if side == "server":
            return 1
        if (role, service) not in self._slots_of:
            called, port, _ = service
            paths = [
                path
                for path in (
                    *self.policy.all_paths,
                    *(path for _, more in overlays_beside(self.policy) for path in more),
                )
                if path.orig_slug != _OPERATORS_TOOL
                and not {called, ANY}.isdisjoint(path.resp_roles)
                and not {role, ANY}.isdisjoint(path.orig_roles)
                and path.fit(port, "tcp") is not None
            ]
            everywhere = {path.orig_slug or path.id for path in paths if role not in path.orig_roles}
            named = {path.orig_slug for path in paths if role in path.orig_roles}
            open_to_all = None in named or not paths
            count = len(self.policy.components_of([Held(role)])) if open_to_all else len(everywhere | named)
            self._slots_of[role, service] = max(1, count)
        return self._slots_of[role, service]

    # Authorities, keys, addresses

    def _authorities(self) -> Iterator[_Accusation]:
        """An authority that one VM alone has, where its peers have another; or one connection among many."""
        users: dict[Authority, set[str]] = defaultdict(set)
        connections: Counter[Authority] = Counter()
        for one in self.shown:
            users[one.authority].add(one.vm)
            connections[one.authority] += one.count
        for vms in self.places.values():
            if not self._enough(vms):
                continue
            for vm, own in vms.items():
                peers = [each for other, theirs in vms.items() if other != vm for each in theirs]
                theirs = {each.authority for each in peers}
                for one in own:
                    if len(theirs) != 1 or one.authority in theirs or self._asked(one):
                        continue
                    # Another component of the VM may have an authority of its own: it has to be of their name, or one too many.
                    if one.pattern not in {each.pattern for each in peers} and not self._all_shown(one.place):
                        continue
                    if len(users[one.authority]) == 1 and len(users[peers[0].authority]) > 1:
                        confidence = "low" if len(vms) == 2 else "high" if len(vms) > FEW else "medium"
                        yield self._foreign(one, peers, confidence)
        callers: dict[tuple[str, int, str], list[_Shown]] = defaultdict(list)
        for one in self.shown:
            if one.side == "client":
                callers[one.service].append(one)
        for shown in callers.values():
            for one in shown:
                others = [each for each in shown if each.vm != one.vm]
                if connections[one.authority] != 1 or self._asked(one) or len({each.authority for each in others}) != 1:
                    continue
                enough = len({each.vm for each in others}) >= _OTHERS and len({each.group for each in others}) > 1
                if enough and sum(each.count for each in others) >= _TOGETHER:
                    yield self._foreign(one, others, "medium")

    def _foreign(self, one: _Shown, peers: Sequence[_Shown], confidence: str) -> _Accusation:
        issuer, theirs = one.leaf.issuer or one.authority[0], peers[0].leaf.issuer or peers[0].authority[0]
        same = " of the same name" if issuer == theirs else ""
        says = (
            f"{one.called}, which {one.vm} shows, chains to an authority that no other VM has, {issuer}; the certificates of "
            f"{_vms(peers)} there chain to another{same}, {theirs}"
        )
        return one, says, confidence, f"{one.side} authority", peers

    def _asked(self, one: _Shown) -> bool:
        """``--ca`` says who is to be trusted there."""
        return self.certificates.authorities is not None and bool(
            self.certificates.authorities.judging(one.classification, self.policy)
        )

    def _keys(self) -> Iterator[_Accusation]:
        """A key that two VMs have, where each of their peers has its own."""
        personal: dict[str, _Shown] = {}
        for vms in self._alike():
            holders: dict[str, set[str]] = defaultdict(set)
            for one in (each for own in vms.values() for each in own):
                if one.leaf.key:
                    holders[one.leaf.key].add(one.vm)
            common = [key for key, who in holders.items() if len(who) > 1]
            own_only = {vm: own for vm, own in vms.items() if not any(each.leaf.key in common for each in own)}
            if len(own_only) < _OTHERS or len(common) > 1:
                continue
            peers = [each for own in own_only.values() for each in own]
            personal.update((each.leaf.key, each) for each in peers if each.leaf.key)
            if not common or len(holders[common[0]]) > len(own_only):
                continue
            sharing = [each for own in vms.values() for each in own if each.leaf.key == common[0]]
            for one in sharing:
                others = [each for each in sharing if each.vm != one.vm]
                says = (
                    f"the key of {one.called}, which {one.vm} shows, is also the key of {_vms(others)}, and {_vms(peers)} each have one of "
                    "their own"
                )
                yield one, says, "medium", f"{one.side} key", [*others, *peers]
        for one in self.shown:
            owner = personal.get(one.leaf.key or "")
            if owner is not None and owner.vm != one.vm:
                says = f"the key of {one.called}, which {one.vm} shows, is {owner.vm}'s, and the VMs beside it each have one of their own"
                yield one, says, "high", f"{one.side} key", [owner]

    def _alike(self) -> Iterator[dict[str, list[_Shown]]]:
        """The VMs of each place, by one pattern of names at a time."""
        for vms in self.places.values():
            by_pattern: dict[str, dict[str, list[_Shown]]] = defaultdict(lambda: defaultdict(list))
            for one in (each for own in vms.values() for each in own):
                by_pattern[one.pattern][one.vm].append(one)
            yield from by_pattern.values()

    def _addresses(self) -> Iterator[_Accusation]:
        """A certificate that names another VM's address, where its peers name their own."""
        groups: dict[tuple[str, str], dict[str, list[_Shown]]] = defaultdict(lambda: defaultdict(list))
        for one in self.shown:
            groups[one.side, one.group][one.vm].append(one)
        for vms in groups.values():
            truly = {vm for vm, own in vms.items() if any(self._named_hosts(each).get(vm) for each in own)}
            for vm, own in vms.items():
                if len(truly - {vm}) < 2:
                    continue
                peers = [each for other in sorted(truly - {vm}) for each in vms[other]]
                for one in own:
                    named = self._named_hosts(one)
                    if named and vm not in named:
                        whose, address = next(iter(sorted(named.items())))
                        says = (
                            f"{one.called} names {address}, the address of {whose}, and {one.vm} shows it; "
                            f"{_vms(peers)} show certificates that name their own"
                        )
                        yield one, says, "high", f"{one.side} address", peers

    def _named_hosts(self, one: _Shown) -> dict[str, str]:
        """The VMs whose addresses it names, with the first of them."""
        moment = int(self.table.first_ns[one.first])
        found: dict[str, str] = {}
        for address in sorted(one.leaf.addresses | _in_names(one.leaf.names)):
            if address == one.address:
                found.setdefault(one.vm, to_text(address))
                continue
            host = self.inventory.lookup(address, moment)
            if host is not None and not host.external and host.instance:
                found.setdefault(host.instance, to_text(address))
        return found

    # Conventions

    def _conventions(self) -> None:
        """What is this deployment's own: told once, and drafted."""
        alike: dict[tuple[str, str, str], list[_Shown]] = defaultdict(list)
        for one in self.shown:
            if id(one) not in self.blamed and not any(each.declared for each in one.where):
                alike[one.side, one.role, one.pattern].append(one)
        names = []
        for (side, role, _), shown in sorted(alike.items()):
            names.append(self._learnt(side, role, shown))
            news = [one for one in shown if id(one) not in self.settled and not one.fits]
            if len({one.vm for one in news}) < 2 and sum(one.count for one in news) < SEVERAL:
                continue
            does = "calls itself" if side == "client" else "answers as"
            fault = Fault(CONVENTION, f"{role} {does} {news[0].name}", "high", (news[0].kind,), CONVENTION)
            for at in {at for one in news for at in one.alike}:
                self.found.faults[at].append(fault)
        self.found.names = tuple(names)

    def _learnt(self, side: str, role: str, shown: Sequence[_Shown]) -> LearntName:
        spelt = {slug(each): each for each in self.policy.roles[role].components} if role in self.policy.roles else {}
        tabled = {slug(each): each for one in shown if one.fits for of in one.where for each in of.components}
        if tabled:
            components = sorted(tabled.values(), key=str.lower)
        else:
            components = [spelt[each] for each in sorted(_common(map(self._candidates, shown)) & spelt.keys())]
        first = shown[0]
        return LearntName(
            tuple(dict.fromkeys(one.name for one in shown)),
            side,
            role,
            tuple(components or spelt.values()),
            bool(tabled),
            sum(one.count for one in shown),
            len({one.vm for one in shown}),
            first.leaf.issuer,
            self._id(first),
        )

    def _candidates(self, one: _Shown) -> frozenset[str]:
        """Components that may have shown it: those that the paths name, else all that run there."""
        paths = [self.policy.path(path) for path in one.classification.paths if path in self.policy.by_id]
        named = {path.orig_slug if one.side == "client" else path.resp_slug for path in paths}
        holds = one.classification.orig_holds if one.side == "client" else one.classification.resp_holds
        return frozenset(each for each in named if each) if named and None not in named else holds or frozenset()


_Accusation = tuple[_Shown, str, str, str, Sequence[_Shown]]
"""Who, what is said, how sure, what tells it from others, and the peers."""


def _in_names(names: Iterable[str]) -> frozenset[int]:
    found = set()
    for text in (match[0] for name in names for match in _DOTTED.finditer(name)):
        try:
            found.add(to_int(text))
        except ValueError:
            continue
    return frozenset(found)


def _common(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    """What all have; where there is nothing, what any has."""
    every = list(sets)
    both = frozenset.intersection(*every) if every else frozenset[str]()
    return both or frozenset[str]().union(*every)


def _some(words: Iterable[str]) -> str:
    distinct = sorted(set(words))
    shown, more = distinct[:_NAMED], len(distinct) - _NAMED
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else "".join(shown)


def _vms(shown: Iterable[_Shown]) -> str:
    return _some(one.vm for one in shown)


def _names(shown: Iterable[_Shown]) -> str:
    return _some(one.name for one in shown)
