"""A connection judged by the policy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Disposition(StrEnum):
    DOCUMENTED = "documented"
    UNDECLARED = "undeclared"
    AMBIENT = "ambient"
    OUT_OF_SCOPE = "out_of_scope"


class Outcome(StrEnum):
    """Whether a connection was established, as far as the packets tell."""

    ESTABLISHED = "established"
    """Both ends took part (TCP: SYN answered, or midstream traffic; UDP: any datagram)."""
    ATTEMPT = "attempt"
    """Refused or unanswered: no connection."""


class Verdict(StrEnum):
    """Worst first is the order of ``VERDICT_RANK``."""

    VIOLATED = "violated"
    REJECTED = "rejected"
    UNVERIFIABLE = "unverifiable"
    INHERITED = "inherited"
    INFERRED = "inferred"
    VERIFIED = "verified"
    NOT_APPLICABLE = "not_applicable"


VERDICT_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


class Breach(StrEnum):
    """Why a connection is undeclared (or worth a line although it is not): one word a rule looks for.

    The most specific one that holds (contract, rule 8).
    """

    CONNECTION = "connection"
    """Both ends are known and no documented path leads from one role to the other."""
    PORT = "port"
    """The pair of roles is documented, but not on this port or transport."""
    SSH_PORT = "ssh_port"
    """SSH from a brain to a cell outside 61001-65534."""
    UNKNOWN_HOST = "unknown_host"
    CELL_EGRESS = "cell_egress"
    CELL_TO_METADATA = "cell_to_metadata"
    """As CELL_EGRESS, to the address of the cloud's metadata service."""
    CELL_TO_DIRECTOR = "cell_to_director"
    """As CELL_EGRESS, to a port that BOSH Directors have."""
    CONTROL_PLANE_EGRESS = "control_plane_egress"
    """A platform VM other than a cell to an address outside every platform network."""
    INFRASTRUCTURE_EGRESS = "infrastructure_egress"
    """As CONTROL_PLANE_EGRESS, to what looks like a service that every BOSH VM calls: names, time, logs, the Director."""
    ATTEMPT = "attempt"
    """As the others, but no connection was established."""
    APPLICATION = "application"
    """Documented pair and port, another protocol on the wire."""


CELL_EGRESS = frozenset({Breach.CELL_EGRESS, Breach.CELL_TO_METADATA, Breach.CELL_TO_DIRECTOR})
"""What leaves by a cell's address, applications' connections among it."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The facts of a connection that decide its classification: many connections share one Flow."""

    orig_h: int
    """128-bit address; IPv4 is ::ffff:a.b.c.d."""
    resp_h: int
    resp_p: int | None
    """None for ICMP and protocols without ports."""
    transport: str
    application: str
    """tls, https, http, ssh, mysql, nats, dns, unknown (payload, not recognised), none (no payload)."""
    outcome: Outcome
    directed: bool
    """False: which end opened it is only a guess; the policy may decide (``Classification.flipped``)."""
    start_ns: int
    """Only where the inventory has leases that end; else 0, so that Flows stay few."""
    first_bytes: bool = True
    """The first payload bytes of the stream were seen (not midstream): rule 9 of the contract needs it."""
    orig_p: int | None = None
    """Only where ``directed`` is False; else None, so that Flows stay few."""
    about_others: bool = False
    """Only ICMP errors, which are about other connections."""


@dataclass(frozen=True, slots=True)
class NearMiss:
    """The closest documented path of an undeclared connection."""

    path: str
    differs: str
    """port, direction, role, transport"""
    says: str

    def as_dict(self) -> dict[str, str]:
        return {"path": self.path, "differs": self.differs, "says": self.says}


@dataclass(frozen=True, slots=True)
class Classification:
    """One flow judged by the policy."""

    disposition: Disposition
    paths: tuple[str, ...] = ()
    """Ids of the documented paths it matches; more than one where the components cannot be distinguished."""
    near_miss: NearMiss | None = None
    breach: Breach | None = None
    would_be: Breach | None = None
    """For ``Breach.ATTEMPT``: what it would have been, had it been established."""
    says: str = ""
    """One sentence: why it is what it is."""
    orig_role: str | None = None
    """The role the path or near miss was matched by, else the first of the roles."""
    resp_role: str | None = None
    orig_component: str | None = None
    """The component the matched paths name, where they all name the same; else None."""
    resp_component: str | None = None
    required: object = None
    """``authentication.required`` of the contract: a word, {"all": [...]}, {"any": [...]}, or None."""
    expected_applications: frozenset[str] = frozenset()
    """Applications that satisfy the matched paths."""
    sibling: str | None = None
    """Name of the shipped overlay policy that would explain this undeclared connection."""
    flipped: bool = False
    """By the policy the other end opened it (``direction_by`` becomes policy). All other fields are of the corrected direction."""
    decided_by_policy: bool = False
    """The policy confirms the guessed or corrected direction."""
    orig_holds: frozenset[str] | None = None
    """Slugs of all components that the originator's VM can run; None: unknown."""
    resp_holds: frozenset[str] | None = None
    """The same for the responder, with those of the roles whose traffic it accepts."""
    matched_by: tuple[tuple[str | None, str | None], ...] = ()
    """Roles of originator and responder by which each of ``paths`` was matched."""


@dataclass(frozen=True, slots=True)
class Factor:
    """One factor that a path asks for, with its own verdict."""

    name: str
    """mutual_tls, tls, oauth2, basic, ssh, signed_url, mysql_native_password."""
    verdict: Verdict
    says: str

    def as_dict(self) -> dict[str, str]:
        return {"name": self.name, "verdict": str(self.verdict), "says": self.says}


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault in a connection's protection, for the finding rule of the same name."""

    rule: str
    """Name of the rule, for example ``missing-client-certificate``."""
    says: str
    """One sentence; the only text from the wire is names that are safe after escaping."""
    confidence: str = "high"
    kinds: tuple[str, ...] = ()
    """Evidence that shows it."""
    about: str = ""
    """What distinguishes two faults of one rule on one path (a certificate's fingerprint or name, a version), for the finding's subject."""
    beside: tuple[str, ...] = ()
    """Ids of connections that it was compared with: evidence, too."""


CONVENTION = "certificate-convention"
"""In place of a rule's name: no fault, but a certificate's name that no table has and that all of a role show."""


NO_PAYLOAD = "no_payload"
"""``Authentication.missing``: established, and no packet shows payload."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """Whether the documented authentication happened. Many connections share one."""

    required: object = None
    observed: str | None = None
    """Observed method: mutual_tls, tls, none, basic, ssh, ...; None: unknown."""
    verdict: Verdict = Verdict.NOT_APPLICABLE
    confidence: str | None = None
    outcome: str = "unknown"
    """Apart from the verdict, whether the responder served the attempt or refused it, at any layer: served, refused, unknown."""
    factors: tuple[Factor, ...] = ()
    faults: tuple[Fault, ...] = ()
    kinds: tuple[str, ...] = ()
    """Kinds of evidence for the verdict, the decisive ones first."""
    counted: bool = True
    """It counts where it is asked how much of the audit stayed undecided (contract, rule 10)."""
    missing: str | None = None
    """For ``unverifiable``: what the capture lacks, one word: midstream, gap, one_way, encrypted, no_payload, no_handshake, ..."""
    client_certificate: str | None = None
    """What record lengths say of it in TLS 1.3: inferred_sent, inferred_empty, inferred_absent; None: the evidence's own word stands."""
    says: str = ""
    """Of a connection that no path declares: what was shown, and the result. One sentence, or empty."""
    entered: bool = False
    """Of a connection that no path declares: the responder took a credential, or served what was asked."""
