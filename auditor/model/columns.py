"""Every public column, once: DataFrames, CSV, Parquet, JSON and the documentation are made from these lists.

A column's name is its dotted place in the JSON report with ``_`` for the dots; ``place`` gives the nesting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["text", "int", "float", "time", "bool", "list", "object"]


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: Kind
    """text: str, Categorical or None. time: int64 nanoseconds since 1970 inside, RFC 3339 outside. list: tuple. object: dict or None."""
    says: str
    place: tuple[str, ...] = ()
    unit: str = ""
    nullable: bool = False

    @property
    def path(self) -> tuple[str, ...]:
        return self.place or (self.name,)


def _end(which: str) -> tuple[Column, ...]:
    def at(field: str, kind: Kind, says: str, unit: str = "", nullable: bool = False) -> Column:
        return Column(f"{which}_{field}", kind, f"{which}: {says}", (which, field), unit, nullable)

    return (
        at("ip", "text", "address"),
        at("port", "int", "port; null where the transport has none", nullable=True),
        at("instance", "text", "name in the inventory", nullable=True),
        at(
            "role", "text", "role that the path or near miss was matched by, else the first of its roles", nullable=True
        ),
        at("roles", "list", "all its roles at that time"),
        at("component", "text", "component, where paths or certificates tell", nullable=True),
        at("packets", "int", "IP packets sent"),
        at("bytes", "int", "IP bytes sent, headers included", "bytes"),
        at("copies", "int", "packets that were captured once more; in no other count"),
    )


CONNECTIONS: tuple[Column, ...] = (
    Column("id", "text", "the same in every run and from every vantage where the opening was seen"),
    Column("community_id", "text", "Community ID v1"),
    Column("start", "time", "first packet", unit="ns"),
    Column("duration", "float", "first to last packet", unit="s"),
    Column("transport", "text", "tcp, udp, icmp, ..."),
    Column("conn_state", "text", "Zeek's conn_state"),
    Column("history", "text", "Zeek's history"),
    *_end("originator"),
    *_end("responder"),
    Column("missed_bytes", "int", "payload bytes that sequence numbers show and the capture lacks", unit="bytes"),
    Column("direction_by", "text", "syn, handshake, listener, policy, guess"),
    Column("vantages", "list", "where it was seen"),
    Column(
        "sightings",
        "list",
        "where captures of several places have it, what each has: {vantage, originator_packets, responder_packets, missed_bytes}",
    ),
    Column("tunnel", "object", "null, or {kind, id, outer}", nullable=True),
    Column(
        "translated",
        "object",
        "null, or the same connection on the other side of a NAT: {originator: {ip, port}, responder: {ip, port}, connection, judged, compared_bytes, whole}",
        nullable=True,
    ),
    Column("application", "text", "spoken on the wire: tls, https, http, ssh, mysql, nats, dns, unknown, none"),
    Column("disposition", "text", "documented, undeclared, ambient, out_of_scope"),
    Column("paths", "list", "documented paths it matches"),
    Column("near_miss", "object", "closest path of an undeclared connection: {path, differs, says}", nullable=True),
    Column(
        "authentication_required", "object", "what the path documents", ("authentication", "required"), nullable=True
    ),
    Column("authentication_observed", "text", "what the wire shows", ("authentication", "observed"), nullable=True),
    Column(
        "authentication_verdict",
        "text",
        "verified, inferred, inherited, unverifiable, violated, rejected, not_applicable",
        ("authentication", "verdict"),
    ),
    Column("authentication_confidence", "text", "high, medium, low", ("authentication", "confidence"), nullable=True),
    Column(
        "authentication_outcome",
        "text",
        "whether the responder served the attempt, apart from the verdict: served, refused, unknown",
        ("authentication", "outcome"),
    ),
    Column(
        "authentication_factors",
        "list",
        "each factor with its verdict: {name, verdict, says}",
        ("authentication", "factors"),
    ),
    Column(
        "authentication_evidence",
        "list",
        "what shows it: {kind, value, certainty, frames}",
        ("authentication", "evidence"),
    ),
    Column("tls", "object", "what the TLS handshake shows", nullable=True),
    Column("ssh", "object", "what the SSH banners show", nullable=True),
    Column("mysql", "object", "what the MySQL greeting and login show", nullable=True),
    Column("nats", "object", "what NATS' INFO and CONNECT show", nullable=True),
    Column("http", "object", "what HTTP requests show", nullable=True),
    Column("findings", "list", "ids of the findings it is part of"),
)

INTERNAL: tuple[Column, ...] = (
    Column("outcome", "text", "established or attempt"),
    Column("breach", "text", "a word of judgement.Breach", nullable=True),
    Column("would_be", "text", "for an attempt: the breach it would have been", nullable=True),
    Column("says", "text", "why the policy classifies it so"),
    Column("sibling", "text", "overlay policy that would explain it", nullable=True),
    Column("capture", "int", "index of the capture it was seen in first"),
    Column("first_frame", "int", "number of its first frame in that capture"),
    Column("payload_bytes", "int", "payload both ways", unit="bytes"),
    Column(
        "incomplete", "text", "what is missing of it, comma separated: midstream, one_way, gap, snaplen; empty: nothing"
    ),
    Column("faults", "list", "judgement.Fault of its protection"),
    Column("authentication_missing", "text", "why it is unverifiable, one word", nullable=True),
    Column("authentication_counted", "bool", "it counts where it is asked how much stayed undecided"),
    Column("shown", "text", "of an undeclared connection: which credential was shown, and the result", nullable=True),
    Column("entered", "bool", "of an undeclared connection: the responder took a credential, or served what was asked"),
    Column("facts", "object", "{kind: value} of its evidence", nullable=True),
)

FINDINGS: tuple[Column, ...] = (
    Column("id", "text", "of this finding in this audit"),
    Column("fingerprint", "text", "the same from audit to audit"),
    Column("status", "text", "new, continuing, null where there is no history", nullable=True),
    Column("rule", "text", "name of the rule"),
    Column("severity", "text", "critical, high, medium, low, info"),
    Column("confidence", "text", "high, medium, low", nullable=True),
    Column("title", "text", "one line"),
    Column("detail", "text", "what was seen"),
    Column("connections", "list", "ids"),
    Column("evidence", "list", "{kind, value, certainty, frames}"),
    Column("count", "int", "connections concerned"),
    Column("first_seen", "time", "start of the first", unit="ns"),
    Column("last_seen", "time", "end of the last", unit="ns"),
    Column("path", "text", "documented path or near miss", nullable=True),
    Column("remediation", "text", "what to do"),
    Column("waived", "object", "null, or {reason, owner, ticket, until}", nullable=True),
)

COVERAGE: tuple[Column, ...] = (
    Column("path", "text", "id of the path"),
    Column("row", "int", "its number in the vendor's page", nullable=True),
    Column("source", "text", "VM (component) that opens it"),
    Column("destination", "text", "VM (component) that answers"),
    Column("ports", "text", "ports as documented"),
    Column("application", "text", "application protocol as documented"),
    Column("authentication", "text", "authentication as documented"),
    Column("connections", "int", "seen on it; attempts are none"),
    Column("verdicts", "object", "{verdict: count} of the connections"),
    Column("attempts", "int", "tries on it of which no connection came"),
    Column("disposition", "text", "documented, or ambient where a sibling of the documented table declares it"),
)

CAPTURES: tuple[Column, ...] = (
    Column("path", "text", "as given"),
    Column("sha256", "text", "taken where the audit is kept or handed over", nullable=True),
    Column("format", "text", "pcap, pcapng; +gzip, +zstd, +xz, +lz4"),
    Column("packets", "int", "frames read"),
    Column("bytes", "int", "size of the input", unit="bytes"),
    Column("first_packet", "time", "earliest time stamp", unit="ns", nullable=True),
    Column("last_packet", "time", "latest time stamp", unit="ns", nullable=True),
    Column("link_types", "list", "LINKTYPE_ numbers"),
    Column("vantage", "text", "where it was taken, as far as known", nullable=True),
    Column("dropped", "int", "packets that the capture says were dropped; null: it does not say", nullable=True),
    Column("problems", "list", "{kind, says, frame, offset}"),
    Column("doubled", "int", "packets that were others of the same capture once more; they are counted once"),
    Column(
        "clock",
        "object",
        "compared with another capture's by packets in both: {against, ahead_s, delay_s, packets}",
        nullable=True,
    ),
    Column("unseen", "int", "packets that other captures have of connections that this one saw, too"),
)

TABLES = {"connections": CONNECTIONS, "findings": FINDINGS, "coverage": COVERAGE, "captures": CAPTURES}
