"""What the policy says of a connection: documented, undeclared, ambient or out of scope, and the closest path where it is undeclared.

The rules that hold here, in the order in which they decide:

1. **Direction.** Only where packets and listeners left it open does the policy decide, and only by a single port: a range or "varies"
   never makes an end a listener, nor does the lower port. A path from one end's role to the other's weighs more than one end's port
   alone; where both ends could listen, nothing is decided.
2. **Who.** An address in no inventory is unknown, whatever it authenticated with. Addresses that no router forwards (loopback,
   link-local, multicast, broadcast) are no hosts, so nobody unknown stands behind them.
3. **Scope.** An end that is a Diego VM, or a stranger at the responder of a documented path. A VM that holds a part of a Diego role only
   (cf-deployment's ``api``) is in scope on the paths and ports of that part.
4. **Path.** Union of the roles at each end. A single port beats a range, a range beats "varies"; documented beats ambient at a par.
   Under "varies" the content decides: it must be the documented one to be documented, and without any it is an undeclared port.
5. **Otherwise undeclared**, by the most specific word. A pair is documented if any path leads from one role to the other; a path that is
   open to any VM, or leads from a VM to itself, documents no pair, and neither does an ambient one.
6. **Nothing undeclared goes unsaid.** Whatever is undeclared has a breach, and each breach a rule that names it.

Nothing here knows single addresses: the answer depends on what the two ends are, so that equal questions share one answer.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from auditor.model.judgement import Breach, Classification, Disposition, Flow, NearMiss, Outcome
from auditor.policy.addresses import LINK_SERVICES, METADATA, is_private, kind_of
from auditor.policy.inventory import Fronted, Inventory
from auditor.policy.policy import ANY, CONTAINER, HTTP_LIKE, Fit, Held, Policy, PolicyPath, ports_text
from auditor.policy.policy_cache import overlays_beside

CELL = "diego_cell"
BRAIN = "diego_brain"
RELAYS = frozenset({"load_balancer", "ha_proxy"})
"""They pass on what others say: any certificate may show through them."""
DOORS = RELAYS | {"router", "tcp_router"}
"""Roles that take in what comes from outside."""
OUTSIDE = DOORS | {"ntp", "syslog", "dns_resolver", "blobstore", "service_instance"}
"""Roles of externals that applications may call; all others are the platform's own."""
DIRECTOR_PORTS = (25_555, 8_844)
"""The Director's API and its CredHub; its NATS (4222) and blobstore (25250) are every VM's agent's business."""

IPSEC = "IPsec"
"""How ``Classification.says`` begins of what is closed by it."""
_MEMO_LIMIT = 1 << 16
_UNTOLD = ("unknown", "none")


@dataclass(frozen=True, slots=True, eq=False)
class End:
    """What matters of an end. Equal ones are one object, so that questions compare fast."""

    known: bool
    held: tuple[Held, ...] = ()
    fronts: tuple[Fronted, ...] = ()
    external: bool = False
    platform: bool = False
    """In a platform network; only told of strangers and externals."""
    kind: str | None = None
    """loopback, link-local, multicast, broadcast, unspecified; None for a host."""
    metadata: bool = False
    """A cloud's metadata service, or another of its services on the link."""
    private: bool = False
    """Of an address that the internet does not route; only told of strangers."""

    @property
    def role(self) -> str | None:
        """The first of its roles."""
        return self.held[0].role if self.held else None


class _Question(NamedTuple):
    orig: End
    resp: End
    resp_p: int | None
    orig_p: int | None
    transport: str
    application: str
    outcome: Outcome
    directed: bool
    first_bytes: bool
    same: bool
    """Both ends have one address."""
    about_others: bool
    document: bool = False
    """The port stands for its stretch: texts have ``_PORT`` in its place."""


class _Match(NamedTuple):
    path: PolicyPath
    fit: Fit
    orig_role: str | None
    resp_role: str | None


def _is_closed(question: _Question) -> bool:
    """ESP, AH, or IKE and ESP in UDP, by what they hold."""
    return question.transport in ("esp", "ah") or question.application == "ipsec"


class Classifier:
    """Answers for one policy and one inventory; ``classify`` is pure."""

    def __init__(self, policy: Policy, inventory: Inventory, scope: Literal["diego", "all"] = "diego") -> None:
        if scope not in ("diego", "all"):
            raise ValueError("scope must be diego or all")
        self.policy, self.inventory, self.scope = policy, inventory, scope
        self._diego = policy.diego_roles
        # Documented paths first: at a par they win.
        self._paths = (*policy.paths, *policy.ambient_paths)
        self._memo: dict[_Question, Classification] = {}
        # By identity: ends with one content are one object, and paths are the policy's.
        self._pairs: dict[tuple[int, int], list[PolicyPath]] = {}
        self._leaving: dict[tuple[int, int], list[tuple[PolicyPath, str]]] = {}
        self._ends: dict[int, End] = {}
        self._profiles: dict[tuple[int, bool], End] = {}
        self._distinct: dict[tuple[Any, ...], End] = {}
        self._siblings: tuple[tuple[str, tuple[PolicyPath, ...]], ...] | None = None
        self._held: dict[tuple[int, bool], frozenset[str] | None] = {}
        self._edges: dict[int, list[int]] = {}
        """By id() of paths: the ports at which one of their stretches begins, or is over. Between two of them all ports fit alike."""
        self._fits: dict[tuple[int, int, str], list[tuple[PolicyPath, Fit]]] = {}
        self._opened: dict[tuple[int, int, int, str], list[tuple[PolicyPath, Fit, str]]] = {}
        self._bounds: list[int] | None = None
        self._worded: dict[tuple[int, int], tuple[Classification, Classification]] = {}

    def classify(self, flow: Flow) -> Classification:
        """What the policy says of this flow. Never raises."""
        told = self.of_ends(self.end(flow.orig_h, flow.start_ns), self.end(flow.resp_h, flow.start_ns), flow)
        return told if flow.resp_p is None else self.in_words(told, flow.resp_p)

    def of_ends(self, orig: End, resp: End, flow: Flow) -> Classification:
        """The same, where it is known what the ends are, and before it is put into words for the port.

        Where it is known who opened it, the answer holds for all ports of a stretch between two of ``bounds``: to every path they are alike.
        """
        port = flow.resp_p
        document = flow.directed and port is not None
        question = _Question(
            orig,
            resp,
            port,
            None if flow.directed else flow.orig_p,
            flow.transport,
            flow.application,
            flow.outcome,
            flow.directed,
            flow.first_bytes,
            flow.orig_h == flow.resp_h,
            flow.about_others,
            document,
        )
        key = question
        if port is not None and document:
            key = question._replace(resp_p=bisect_right(self.bounds, port))
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= _MEMO_LIMIT:
                self._memo.clear()
            found = self._memo[key] = self._with_holds(question, self._answer(question))
        return found

    @property
    def bounds(self) -> list[int]:
        """The ports at which one of the stretches begins in which all ports have the same answer, but for their number."""
        if self._bounds is None:
            paths = [*self._paths, *(path for _, paths in self._overlays() for path in paths)]
            spans = {span for path in paths for span in path.ports}
            spans |= {span for entry in self.inventory.entries for front in entry.fronts for span in front.ports or ()}
            spans |= {(port, port) for port in _TOLD_PORTS}
            edges = {edge for low, high in spans for edge in (low, high + 1)}
            # Halfway between two spans the nearest one changes; where it is as far to both, by a port of its own.
            halves = {high + low for _, high in spans for low, _ in spans if high < low}
            edges |= {edge for twice in halves for edge in ((twice + 1) // 2, twice // 2 + 1)}
            self._bounds = sorted(edges)
        return self._bounds

    def in_words(self, told: Classification, port: int) -> Classification:
        """The answer of a stretch for one of its ports."""
        if not names_port(told):
            return told
        # The answer is kept beside, so that its identity stays its own.
        key = id(told), port
        found = self._worded.get(key)
        if found is None:
            if len(self._worded) >= _MEMO_LIMIT:
                self._worded.clear()
            word, near = str(port), told.near_miss
            if near is not None:
                near = replace(near, says=near.says.replace(_PORT, word))
            found = self._worded[key] = told, replace(told, says=told.says.replace(_PORT, word), near_miss=near)
        return found[1]

    def _with_holds(self, question: _Question, told: Classification) -> Classification:
        """The answer with what can run at both ends: what a certificate's name is compared with."""
        orig, resp = (question.resp, question.orig) if told.flipped else (question.orig, question.resp)
        return replace(told, orig_holds=self._holds(orig), resp_holds=self._holds(resp, fronts=True))

    def _holds(self, end: End, *, fronts: bool = False) -> frozenset[str] | None:
        """Slugs of what an end can run; None where a role is in no policy, or only passes on what others say."""
        key = id(end), fronts
        if key not in self._held:
            if len(self._held) >= _MEMO_LIMIT:
                self._held.clear()
            self._held[key] = self._can_run(end, fronts)
        return self._held[key]

    def _can_run(self, end: End, fronts: bool) -> frozenset[str] | None:
        fronted = tuple(Held(front.role) for front in end.fronts) if fronts else ()
        own = tuple(one for one in end.held if not (fronted and one.role in RELAYS))
        roles = (*own, *fronted)
        if not end.known or not roles or any(one.role in RELAYS or one.role not in self.policy.roles for one in roles):
            return None
        return self.policy.components_of(roles)

    # Ends

    def end(self, address: int, at_ns: int) -> End:
        """What an address is at that time. Equal ones are one object."""
        host = self.inventory.lookup(address, at_ns)
        if host is not None:
            platform = host.external and self.inventory.platform(address)
            # Hosts are shared objects of the inventory, which outlives this.
            key = id(host), platform
            end = self._profiles.get(key)
            if end is None:
                end = self._same(True, host.held, host.fronts, host.external, platform, None)
                self._profiles[key] = end
            return end
        end = self._ends.get(address)
        if end is None:
            if len(self._ends) >= _MEMO_LIMIT:
                self._ends.clear()
            kind = kind_of(address) or ("broadcast" if self.inventory.broadcast(address) else None)
            metadata, private = address in METADATA or address in LINK_SERVICES, is_private(address)
            end = self._same(False, (), (), False, self.inventory.platform(address), kind, metadata, private)
            self._ends[address] = end
        return end

    def _same(self, *what: Any) -> End:
        end = self._distinct.get(what)
        if end is None:
            end = self._distinct[what] = End(*what)
        return end

    def _is_diego(self, end: End) -> bool:
        """It is a Diego VM, or passes for one, in all it does."""
        return any(one.components is None and one.role in self._diego for one in end.held)

    def _plays(self, end: End, roles: Iterable[str], component: str | None) -> str | None:
        """The role by which an end may stand at this end of a path: the first of the path's roles that it holds."""
        for role in roles:
            if role == ANY:
                if end.known:
                    return end.role or ANY
                continue
            if any(one.plays(role, component) for one in end.held):
                return role
        return None

    def _fronted(self, end: End, path: PolicyPath, port: int | None) -> str | None:
        """The role that an end takes this port's traffic in for."""
        for front in end.fronts:
            if front.role not in path.resp_roles or port is None:
                continue
            if front.ports is None or any(low <= port <= high for low, high in front.ports):
                return front.role
        return None

    # Matching

    def _originates(self, end: End, path: PolicyPath) -> str | None:
        return self._plays(end, path.orig_roles, path.orig_slug)

    def _responds(self, end: End, path: PolicyPath, port: int | None) -> str | None:
        return self._plays(end, path.resp_roles, path.resp_slug) or self._fronted(end, path, port)

    def _from(self, paths: tuple[PolicyPath, ...], orig: End) -> list[tuple[PolicyPath, str]]:
        """Those of these paths that this end may open, and as what."""
        key = id(paths), id(orig)
        found = self._leaving.get(key)
        if found is None:
            if len(self._leaving) >= _MEMO_LIMIT:
                self._leaving.clear()
            told = ((path, self._originates(orig, path)) for path in paths)
            found = self._leaving[key] = [(path, role) for path, role in told if role is not None]
        return found

    def _stretch(self, paths: tuple[PolicyPath, ...], port: int | None) -> int:
        """The number of the stretch of ports that fit these paths like this one."""
        if port is None:
            return -1
        edges = self._edges.get(id(paths))
        if edges is None:
            edges = self._edges[id(paths)] = sorted(
                {edge for path in paths for low, high in path.ports for edge in (low, high + 1)}
            )
        return bisect_right(edges, port)

    def _fitting(self, paths: tuple[PolicyPath, ...], port: int | None, transport: str) -> list[tuple[PolicyPath, Fit]]:
        """Those of these paths that name this port and transport, and how closely."""
        key = id(paths), self._stretch(paths, port), transport
        found = self._fits.get(key)
        if found is None:
            told = ((path, path.fit(port, transport)) for path in paths)
            found = self._fits[key] = [(path, fit) for path, fit in told if fit is not None]
        return found

    def _opens(
        self, paths: tuple[PolicyPath, ...], orig: End, port: int | None, transport: str
    ) -> list[tuple[PolicyPath, Fit, str]]:
        """Those of them that this end may open, and as what."""
        key = id(paths), id(orig), self._stretch(paths, port), transport
        found = self._opened.get(key)
        if found is None:
            if len(self._opened) >= _MEMO_LIMIT:
                self._opened.clear()
            roles = {id(path): role for path, role in self._from(paths, orig)}
            found = self._opened[key] = [
                (path, fit, roles[id(path)]) for path, fit in self._fitting(paths, port, transport) if id(path) in roles
            ]
        return found

    def _matches(self, paths: tuple[PolicyPath, ...], question: _Question) -> list[_Match]:
        """The paths that fit best, documented ones alone where there are any."""
        port = question.resp_p
        found: list[_Match] = []
        for path, fit, orig_role in self._opens(paths, question.orig, port, question.transport):
            resp_role = self._responds(question.resp, path, port) if question.same or not path.local else None
            if resp_role is not None:
                found.append(_Match(path, fit, orig_role, resp_role))
        if not found:
            return found
        best = min(match.fit for match in found)
        found = [match for match in found if match.fit == best]
        documented = [match for match in found if not match.path.ambient]
        return documented or found

    def _listens(self, end: End, port: int | None, transport: str, application: str = "none") -> bool:
        """This end and port are the responder of a documented path; where its ports vary, the content must say so."""
        for path, fit in self._fitting(self.policy.paths, port, transport):
            if self._plays(end, path.resp_roles, path.resp_slug) is None:
                continue
            if fit is not Fit.VARIES or (application not in _UNTOLD and _satisfies(path, application)):
                return True
        return False

    def _serves(self, end: End, port: int | None, transport: str) -> bool:
        """Some path names just this port for this end."""
        return any(
            fit is Fit.SINGLE and self._responds(end, path, port) is not None
            for path, fit in self._fitting(self._paths, port, transport)
        )

    def _pair(self, orig: End, resp: End) -> list[PolicyPath]:
        """Paths from a role of one to a role of the other, on whatever port."""
        key = id(orig), id(resp)
        found = self._pairs.get(key)
        if found is None:
            if len(self._pairs) >= _MEMO_LIMIT:
                self._pairs.clear()
            found = self._pairs[key] = [
                path
                for path, _ in self._from(self._paths, orig)
                if not path.wild
                and (
                    self._plays(resp, path.resp_roles, path.resp_slug) is not None
                    or any(front.role in path.resp_roles for front in resp.fronts)
                )
            ]
        return found

    # Direction

    def _answer(self, question: _Question) -> Classification:
        if question.directed:
            return self._judge(question)
        turned = self._turn(question)
        ahead, back = self._weight(question), self._weight(turned)
        if question.orig_p is None or back == ahead:
            if question.orig_p is not None and self._apps_leave(question):
                return replace(self._judge(turned), flipped=True, decided_by_policy=True)
            return self._undecided(question, turned)
        if back > ahead:
            return replace(self._judge(turned), flipped=True, decided_by_policy=True)
        return replace(self._judge(question), decided_by_policy=True)

    def _undecided(self, question: _Question, turned: _Question) -> Classification:
        """The guess stands; where only the other reading is a path, the near miss says so."""
        told = self._judge(question)
        if told.breach not in (Breach.CONNECTION, Breach.PORT) or question.orig_p is None:
            return told
        other = self._judge(turned)
        if not other.paths:
            return told
        says = f"{other.paths[0]} would match if {_names(turned.orig)} had opened it; the originator is a guess"
        return replace(told, near_miss=NearMiss(other.paths[0], "direction", says))

    @staticmethod
    def _turn(question: _Question) -> _Question:
        return question._replace(orig=question.resp, resp=question.orig, resp_p=question.orig_p, orig_p=question.resp_p)

    def _weight(self, question: _Question) -> int:
        """2: a path names this port between these roles; 1: a path names it for this responder; 0: neither."""
        port, transport = question.resp_p, question.transport
        if port is None:
            return 0
        for match in self._matches(self._paths, question):
            if match.fit is Fit.SINGLE and not match.path.wild:
                return 2
        return 1 if self._serves(question.resp, port, transport) else 0

    def _apps_leave(self, question: _Question) -> bool:
        """A guess says that an unknown machine outside called a cell where no path has a listener: applications leave by its address."""
        outside = question.orig
        if outside.known or outside.platform or outside.kind or not self._is_cell(question.resp):
            return False
        return not self._serves(question.resp, question.resp_p, question.transport)

    def _is_cell(self, end: End) -> bool:
        return any(one.role in (CELL, CONTAINER) and one.components is None for one in end.held)

    # Judging

    def _judge(self, question: _Question) -> Classification:
        orig, resp = question.orig, question.resp
        if question.about_others:
            return self._beside(
                question, "ICMP errors: they belong to the connections that they quote and are reported there"
            )
        if orig.kind or resp.kind:
            return self._housekeeping(question)
        if _is_closed(question):
            return self._closed(question)
        if orig.known and resp.known:
            return self._both_known(question)
        return self._unknown(question)

    def _told(
        self, disposition: Disposition, question: _Question, says: str, *, breach: Breach | None = None,
        near: tuple[NearMiss, str | None, str | None] | None = None, sibling: str | None = None,
    ) -> Classification:  # fmt: skip
        near_miss, orig_role, resp_role = near or (None, None, None)
        would_be = None
        if question.outcome is Outcome.ATTEMPT and breach in _NAMED:
            breach, would_be = Breach.ATTEMPT, breach
        return Classification(
            disposition=disposition,
            near_miss=near_miss,
            breach=breach,
            would_be=would_be,
            says=says,
            orig_role=orig_role or question.orig.role,
            resp_role=resp_role or question.resp.role,
            sibling=sibling,
        )

    def _housekeeping(self, question: _Question) -> Classification:
        """To or from an address that no router forwards: what keeps a link going is ordinary, and a service is somebody's."""
        orig, resp = question.orig, question.resp
        kind = resp.kind or orig.kind
        known = orig if orig.known else resp
        diego = self._is_diego(known)
        wanted = diego or (self.scope == "all" and known.known)
        # Who is behind a link-local address does not show: it may be any VM on the link.
        neighbours = "link-local" in (orig.kind, resp.kind) and self.inventory.origin != "inferred"
        if (diego or wanted or neighbours) and not (orig.metadata or resp.metadata or _keeps_link(question)):
            says = f"a service at a {kind} address, which no path names, and nothing that keeps a link going; seen on {_port_text(question)}"
            return self._told(Disposition.UNDECLARED, question, says, breach=Breach.UNKNOWN_HOST)
        disposition = Disposition.AMBIENT if wanted else Disposition.OUT_OF_SCOPE
        says = f"{kind} address: it does not leave its machine or link, so no unknown host is behind it"
        return self._told(disposition, question, says)

    def _closed(self, question: _Question) -> Classification:
        """IPsec: which connections it carries, and to what ports, nobody can tell; so it is none on any path and none beside them."""
        return self._beside(question, f"{IPSEC}: the connections inside cannot be classified")

    def _beside(self, question: _Question, says: str) -> Classification:
        """On no path and beside none; ambient where it is a VM's in scope."""
        wanted = any(
            self._is_diego(end) or (self.scope == "all" and end.known) for end in (question.orig, question.resp)
        )
        return self._told(Disposition.AMBIENT if wanted else Disposition.OUT_OF_SCOPE, question, says)

    def _both_known(self, question: _Question) -> Classification:
        orig, resp = question.orig, question.resp
        matches = self._matches(self._paths, question)
        if self.scope == "diego" and not self._in_scope(question, matches):
            return self._told(Disposition.OUT_OF_SCOPE, question, "neither end is a Diego VM")
        if matches:
            if matches[0].fit is not Fit.VARIES or self._content_shows(question, matches):
                return self._matched(question, matches)
            return self._silent(question, matches[0])
        if question.same:
            return self._told(
                Disposition.AMBIENT, question, "both ends have one address: the connection stays inside one VM"
            )
        if self._is_outside(resp) and self._is_cell(orig) and not self._pair(orig, resp):
            return self._egress(question)
        return self._undeclared(question)

    def _is_outside(self, end: End) -> bool:
        """A machine that applications may call: the Director and the like are none, wherever they are; a service instance is made for them."""
        if end.held and all(one.role == "service_instance" for one in end.held):
            return True
        own = self.policy.roles.keys() - OUTSIDE
        return end.external and not end.platform and not any(one.role in own for one in end.held)

    @staticmethod
    def _content_shows(question: _Question, matches: Sequence[_Match]) -> bool:
        """Under ports that vary: is there content to judge by?"""
        if question.outcome is Outcome.ATTEMPT:
            return False
        return question.application not in _UNTOLD or any(match.path.applications is None for match in matches)

    def _in_scope(self, question: _Question, matches: Sequence[_Match]) -> bool:
        if self._is_diego(question.orig) or self._is_diego(question.resp):
            return True
        if any(match.orig_role in self._diego or match.resp_role in self._diego for match in matches):
            return True
        # A part of a Diego role: its own ports are Diego's business, the rest of the VM is not.
        part = tuple(one for one in question.resp.held if one.role in self._diego)
        fronted = tuple(one for one in question.resp.fronts if one.role in self._diego)
        end = End(True, part, fronted)
        return any(
            fit in (Fit.SINGLE, Fit.RANGE) and not path.wild and self._responds(end, path, question.resp_p) is not None
            for path, fit in self._fitting(self._paths, question.resp_p, question.transport)
        )

    def _matched(self, question: _Question, matches: Sequence[_Match]) -> Classification:
        """On documented (or ambient) paths: which of them, and is it their protocol?"""
        application = question.application
        fitting = [match for match in matches if _satisfies(match.path, application)]
        wrong = not fitting and self._wrong(question, matches)
        kept = fitting or list(matches)
        paths = [match.path for match in kept]
        expected: set[str] = set()
        for path in paths:
            expected |= path.applications or set()
        if any(path.applications is None for path in paths):
            expected = set()
        named = " or ".join(dict.fromkeys(path.application_text for path in paths))
        says = _on_paths(paths)
        if wrong:
            seen = "unrecognised bytes" if application == "unknown" else application
            says = f"{seen} where {named} is {'declared' if paths[0].ambient else 'documented'}"
        return Classification(
            disposition=Disposition.AMBIENT if paths[0].ambient else Disposition.DOCUMENTED,
            paths=tuple(path.id for path in paths),
            matched_by=tuple((match.orig_role, match.resp_role) for match in kept),
            breach=Breach.APPLICATION if wrong else None,
            says=says,
            orig_role=kept[0].orig_role,
            resp_role=kept[0].resp_role,
            orig_component=_only(path.orig_component for path in paths),
            resp_component=_only(path.resp_component for path in paths),
            required=required_of(paths),
            expected_applications=frozenset(expected - {"unknown"}),
        )

    @staticmethod
    def _wrong(question: _Question, matches: Sequence[_Match]) -> bool:
        application = question.application
        if question.outcome is Outcome.ATTEMPT or application == "none":
            return False
        if application == "unknown":
            # Bytes from the middle of a stream show nothing; the first ones are not the documented protocol's.
            return question.first_bytes
        # HTTP in the clear where HTTPS is documented is that protocol without its protection: rule plaintext's business.
        return not (application in HTTP_LIKE and any(match.path.application == "HTTPS" for match in matches))

    def _silent(self, question: _Question, match: _Match) -> Classification:
        """Ports vary, and no content tells whether it is the documented protocol."""
        path = match.path
        known = f" ({ports_text(path.ports)} is known)" if path.ports else ""
        what = (
            "no connection was established" if question.outcome is Outcome.ATTEMPT else "no content shows the protocol"
        )
        says = f"ports vary on {path.id}{known}; port {_port_word(question)} may be {path.application_text}, and {what}"
        near = NearMiss(path.id, "port", says), match.orig_role, match.resp_role
        return self._told(Disposition.UNDECLARED, question, says, breach=Breach.PORT, near=near)

    def _undeclared(self, question: _Question) -> Classification:
        pair = self._pair(question.orig, question.resp)
        near = self._near(question, pair)
        sibling = self._sibling(question)
        roles = f"{_names(question.orig)} to {_names(question.resp)}"
        port = _port_text(question)
        if all(path.ambient for path in pair):
            says = f"no documented path goes from {roles}; seen on {port}"
            breach = Breach.CONNECTION
        elif self._ssh_elsewhere(question):
            says = f"SSH from a brain to a cell on {port}, outside the documented host ports"
            breach = Breach.SSH_PORT
        else:
            says = f"{roles} is documented, but not on {port}"
            breach = Breach.PORT
        return self._told(Disposition.UNDECLARED, question, says, breach=breach, near=near, sibling=sibling)

    def _ssh_elsewhere(self, question: _Question) -> bool:
        if question.application != "ssh" or question.transport != "tcp":
            return False
        return self._plays(question.orig, (BRAIN,), "ssh_proxy") is not None and self._is_cell(question.resp)

    def _egress(self, question: _Question) -> Classification:
        says = "a cell to an address outside every platform network: an application or the platform; the cell's address does not show which"
        breach = Breach.CELL_EGRESS
        if question.resp.held and all(one.role == "service_instance" for one in question.resp.held):
            says = (
                "a cell to a VM of another deployment, not of the platform: probably an application that uses a service"
            )
        if question.resp.metadata and not _infrastructure(question):
            says = "a cell to the cloud's metadata service, which gives the machine's credentials to any client"
            breach = Breach.CELL_TO_METADATA
        elif not question.resp.known and question.transport == "tcp" and question.resp_p in DIRECTOR_PORTS:
            says = f"a cell to port {_port_word(question)} of an address outside every platform network, a port of BOSH Directors"
            breach = Breach.CELL_TO_DIRECTOR
        return self._told(Disposition.AMBIENT, question, says, breach=breach)

    def _platform_egress(self, question: _Question) -> Classification:
        """A platform VM other than a cell leaves the platform's networks."""
        if question.resp.metadata:
            return self._told(Disposition.AMBIENT, question, "the cloud's metadata service, which the BOSH agent asks")
        says = f"a platform VM opens a connection to an address outside every platform network; seen on {_port_text(question)}"
        near = self._near(question, [])
        breach = Breach.CONTROL_PLANE_EGRESS
        if _infrastructure(question):
            says += (
                "; it looks like a service that every BOSH VM calls: if so, list it in the inventory under externals"
            )
            breach = Breach.INFRASTRUCTURE_EGRESS
        return self._told(Disposition.UNDECLARED, question, says, breach=breach, near=near)

    def _unknown(self, question: _Question) -> Classification:
        orig, resp = question.orig, question.resp
        if not orig.known and not resp.known:
            says = "both ends are in no inventory"
            if self.scope == "all":
                return self._told(Disposition.UNDECLARED, question, says, breach=Breach.UNKNOWN_HOST)
            return self._told(Disposition.OUT_OF_SCOPE, question, says)
        known, stranger = (resp, orig) if resp.known else (orig, resp)
        originates = stranger is orig
        listener = originates and self._listens(resp, question.resp_p, question.transport, question.application)
        diego = self._is_diego(known)
        if not diego and not listener and self.scope == "diego":
            return self._told(
                Disposition.OUT_OF_SCOPE, question, "one end is in no inventory, the other is not a Diego VM"
            )
        if not stranger.platform and known.external and not diego and not listener:
            return self._told(Disposition.OUT_OF_SCOPE, question, "neither end is a VM of the platform")
        if not originates and not stranger.platform:
            return self._egress(question) if self._is_cell(known) else self._platform_egress(question)
        if not stranger.platform and not diego and not listener and any(one.role in DOORS for one in known.held):
            return self._told(Disposition.AMBIENT, question, "a host outside connects to the platform's public entry")
        near = self._near(question, [])
        where = "in a platform network" if stranger.platform else "outside every platform network"
        which = "originator" if originates else "responder"
        says = f"the {which} is in no inventory, {where}; seen on {_port_text(question)}"
        return self._told(Disposition.UNDECLARED, question, says, breach=Breach.UNKNOWN_HOST, near=near)

    # The closest path

    def _near(self, question: _Question, pair: Sequence[PolicyPath]) -> tuple[NearMiss, str | None, str | None] | None:
        """The path from which one thing differs: transport, then direction, then port, then role."""
        orig, resp, port, transport = question.orig, question.resp, question.resp_p, question.transport
        same_port = self._other_transport(question, pair)
        if same_port is not None:
            path = same_port
            says = f"{path.id} is documented on {path.transport}, not on {transport}"
            return NearMiss(path.id, "transport", says), self._originates(orig, path), self._any_responder(resp, path)
        if port is None:
            return None
        for path, fit in self._fitting(self._paths, port, transport):
            if path.wild or fit not in (Fit.SINGLE, Fit.RANGE):
                continue
            orig_role, resp_role = self._any_responder(orig, path), self._originates(resp, path)
            if orig_role is not None and resp_role is not None:
                says = f"{path.id} has the other direction, from {path.source} to {path.destination}"
                return NearMiss(path.id, "direction", says), orig_role, resp_role
        on_transport = [path for path in pair if transport in path.transports]
        if on_transport:
            ssh = question.application == "ssh"
            path = min(
                on_transport,
                key=lambda each: (
                    ssh and each.application != "SSH",
                    not (_satisfies(each, question.application) or _unprotected(each, question.application)),
                    each.distance(port),
                ),
            )
            wanted = ports_text(path.ports) or path.ports_text
            says = f"{path.id} is documented on {wanted}, not on {_port_word(question)}"
            return NearMiss(path.id, "port", says), self._originates(orig, path), self._any_responder(resp, path)
        return self._other_role(question)

    def _any_responder(self, end: End, path: PolicyPath) -> str | None:
        role = self._plays(end, path.resp_roles, path.resp_slug)
        return role or next((front.role for front in end.fronts if front.role in path.resp_roles), None)

    @staticmethod
    def _other_transport(question: _Question, pair: Sequence[PolicyPath]) -> PolicyPath | None:
        others = [path for path in pair if question.transport not in path.transports]
        if not others:
            return None
        if question.resp_p is None:
            return others[0]
        return next((path for path in others if path.fit(question.resp_p, path.transports[0]) == Fit.SINGLE), None)

    def _other_role(self, question: _Question) -> tuple[NearMiss, str | None, str | None] | None:
        orig, resp, port, transport = question.orig, question.resp, question.resp_p, question.transport
        told = self._fitting(self._paths, port, transport)
        fitting = [path for path, fit in told if not path.wild and fit is Fit.SINGLE]
        for path in fitting:
            resp_role = self._responds(resp, path, port)
            if resp_role is not None:
                says = f"{path.id} goes from {path.source} to {path.destination}, not from {_names(orig)}"
                return NearMiss(path.id, "role", says), orig.role, resp_role
        for path in fitting:
            orig_role = self._originates(orig, path)
            if orig_role is not None:
                says = f"{path.id} goes from {path.source} to {path.destination}, not to {_names(resp)}"
                return NearMiss(path.id, "role", says), orig_role, resp.role
        return None

    def _overlays(self) -> tuple[tuple[str, tuple[PolicyPath, ...]], ...]:
        if self._siblings is None:
            self._siblings = overlays_beside(self.policy)
        return self._siblings

    def _sibling(self, question: _Question) -> str | None:
        """The first shipped overlay, by name, that would explain it."""
        for name, paths in self._overlays():
            matches = self._matches(paths, question)
            if any(
                _satisfies(match.path, question.application)
                or (question.application in _UNTOLD and match.fit is not Fit.VARIES)
                for match in matches
            ):
                return name
        return None


_NAMED = (
    Breach.CONNECTION,
    Breach.PORT,
    Breach.SSH_PORT,
    Breach.UNKNOWN_HOST,
    Breach.CONTROL_PLANE_EGRESS,
    Breach.INFRASTRUCTURE_EGRESS,
)
_AGENTS = (
    (4_222, ("nats", "tls", "https")),
    (25_250, ("tls", "https")),
    (514, ("unknown",)),
    (6_514, ("tls", "https")),
)
"""Ports that every BOSH VM calls and what is spoken there: the Director's NATS and blobstore, a log server."""
_TIME_PORT, _NAME_PORT = 123, 53
_TOLD_PORTS = (*DIRECTOR_PORTS, *(port for port, _ in _AGENTS), _TIME_PORT, _NAME_PORT)
"""Ports that are asked for by number, whatever paths say."""
_PORT = "\x00port\x00"
"""Stands in texts for the number of a port."""


def _infrastructure(question: _Question) -> bool:
    """Whether this looks like a service that every BOSH VM calls, and that a list of VMs does not name."""
    port, application = question.resp_p, question.application
    if question.transport == "udp" and port == _TIME_PORT and application == "unknown":
        return True
    if port == _NAME_PORT and application in ("dns", "none"):
        return True
    return question.resp.private and any(port == one and application in ("none", *spoken) for one, spoken in _AGENTS)


def _keeps_link(question: _Question) -> bool:
    """Whether this is of the protocols by which neighbours on a link find and configure each other, as far as port and content tell."""
    kinds = question.orig.kind, question.resp.kind
    if "loopback" in kinds or "unspecified" in kinds:
        return True  # inside one machine, or before it has an address
    if question.transport not in ("tcp", "udp", "sctp", "dccp", "udplite"):
        return True  # ICMP, IGMP, VRRP, OSPF and the like
    if question.resp_p is None or question.transport not in ("tcp", "udp"):
        return False
    if question.transport == "tcp":
        return question.resp_p == _NAME_PORT and question.application in ("dns", "none")
    ports = {question.resp_p} if question.directed else {question.resp_p, question.orig_p}
    for port in ports:
        spoken = _LINK_PORTS.get(port or 0)
        if spoken is not None and (not spoken or question.application in spoken):
            return True
    return False


_LINK_PORTS: dict[int, tuple[str, ...]] = {
    53: ("dns", "none"),  # BOSH DNS, and clouds' resolvers
    67: (), 68: (), 546: (), 547: (),  # DHCP
    123: (), 319: (), 320: (),  # time
    137: (), 138: (),  # NetBIOS names
    1900: (), 3702: (),  # SSDP, WS-Discovery
    5353: ("dns", "none"), 5355: ("dns", "none"),  # mDNS, LLMNR
}  # fmt: skip
"""Datagrams by which neighbours find and configure each other, by port (IANA), and what is spoken there; empty: nothing that is recognised."""


def _unprotected(path: PolicyPath, application: str) -> bool:
    """HTTP in the clear where HTTPS is documented: the same talk, as far as nearness goes."""
    return application in HTTP_LIKE and path.application == "HTTPS"


def _satisfies(path: PolicyPath, application: str) -> bool:
    allowed = path.applications
    return allowed is None or application in allowed


def _only(words: Iterable[str | None]) -> str | None:
    found = set(words)
    return found.pop() if len(found) == 1 else None


def required_of(paths: Sequence[PolicyPath]) -> object:
    """What the paths document; where candidates differ, any of it."""
    found: list[object] = []
    for path in paths:
        if path.authentication not in found:
            found.append(path.authentication)
    return found[0] if len(found) == 1 else {"any": found}


def _on_paths(paths: Sequence[PolicyPath]) -> str:
    word = "ambient" if paths[0].ambient else "documented"
    return f"{word}: {', '.join(path.id for path in paths)}"


def narrowed(
    told: Classification, kept: Sequence[str], orig_component: str | None, resp_component: str | None, policy: Policy
) -> Classification:
    """The same of fewer paths and with components, where certificates tell who talked. ``kept``: some of ``told.paths``, in their order."""
    changed = replace(told, orig_component=orig_component, resp_component=resp_component)
    if tuple(kept) == told.paths:
        return changed
    paths = [policy.path(each) for each in kept]
    roles = tuple(told.matched_by[told.paths.index(each)] for each in kept)
    return replace(
        changed,
        paths=tuple(kept),
        matched_by=roles,
        says=_on_paths(paths) if told.breach is None else told.says,
        orig_role=roles[0][0],
        resp_role=roles[0][1],
        required=required_of(paths),
    )


def _names(end: End) -> str:
    if not end.known:
        return "a host in no inventory"
    return "+".join(one.role for one in end.held) or "a VM without a role"


def _port_text(question: _Question) -> str:
    if question.resp_p is None:
        return question.transport
    return f"{question.transport} port {_port_word(question)}"


def names_port(told: Classification) -> bool:
    """Whether an answer has to be put into words for a port."""
    return _PORT in told.says or (told.near_miss is not None and _PORT in told.near_miss.says)


def _port_word(question: _Question) -> str:
    return _PORT if question.document else str(question.resp_p)
