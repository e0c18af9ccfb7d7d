"""The encryption view: what is still sent unencrypted, on which path, by whom, how much, and since when.

Rules that hold here:

- A connection is *in the clear* where a cleartext protocol was recognised, or where its path declares a protocol that cannot be
  recognised by its bytes (VXLAN, NTP); *encrypted* where TLS, SSH, QUIC, DTLS or IPsec was recognised; otherwise it is not known, and is
  reported as such. Connections without payload, and ICMP, are not counted.
- Whether TLS was declared is reported beside it: what is documented as cleartext is not a finding, but can still be read by anyone on the network path.
- Paths first, by what is worst: TLS declared and in the clear, then credentials, then bytes. Undeclared connections stand by their roles and port;
  connections of applications to the outside are one line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from auditor.model.audit import Audit
from auditor.model.judgement import Breach, Outcome

SCHEMA = "auditor.encryption/1"

CLEAR, ENCRYPTED, UNKNOWN = "clear", "encrypted", "unknown"

_ENCRYPTED = frozenset({"tls", "https", "ssh", "quic", "dtls", "ipsec"})
_CLEAR_BY_DECLARATION = frozenset({"VXLAN", "NTP", "Syslog"})
"""Applications that no inspector recognises; over UDP they are in the clear. Syslog over TCP may be TLS from its middle."""
_SHOWN_TLS = ("server_hello", "version", "server_application_data", "client_application_data")
_MOST_NAMES = 20
_OUTSIDE = "cell-egress"

_COLUMNS = [
    "start", "duration", "transport", "originator_ip", "originator_instance", "originator_role", "originator_bytes", "responder_ip",
    "responder_port", "responder_instance", "responder_role", "responder_bytes", "application", "tls", "nats", "http", "paths", "disposition",
    "breach", "authentication_required", "outcome",
]  # fmt: skip


@dataclass(slots=True)
class _Tally:
    connections: int = 0
    bytes: int = 0
    first_ns: int | None = None
    last_ns: int | None = None

    def add(self, row: Mapping[Any, Any], count: int) -> None:
        self.connections += 1
        self.bytes += count
        last = int(row["start"]) + int(float(row["duration"]) * 1e9)
        self.first_ns = int(row["start"]) if self.first_ns is None else min(self.first_ns, int(row["start"]))
        self.last_ns = last if self.last_ns is None else max(self.last_ns, last)


WITHOUT_ROLE = "without_role"


@dataclass(slots=True)
class _Entry:
    """A path, or a VM."""

    about: dict[str, Any]
    clear: _Tally = field(default_factory=_Tally)
    encrypted: _Tally = field(default_factory=_Tally)
    unknown: _Tally = field(default_factory=_Tally)
    applications: Counter[str] = field(default_factory=Counter)
    originators: Counter[str] = field(default_factory=Counter)
    responders: Counter[str] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    credentials: Counter[str] = field(default_factory=Counter)

    def add(self, row: Mapping[Any, Any], kind: str, count: int, name: str, spoken: str) -> None:
        getattr(self, kind).add(row, count)
        if kind != CLEAR:
            return
        self.applications[spoken] += 1
        self.originators[_end(row, "originator")] += count
        self.responders[_end(row, "responder")] += count
        self.paths[name] += count
        self.credentials.update(_credentials(row))


def view(audit: Audit) -> dict[str, Any]:
    """The view as the JSON of ``auditor encryption`` has it; times in nanoseconds, so that who writes it says how."""
    declared = {str(row["path"]): row for row in audit.coverage.to_dict("records")}
    paths: dict[str, _Entry] = {}
    vms: dict[str, _Entry] = {}
    for row in _rows(audit):
        kind = _kind(row, declared)
        if kind is None:
            continue
        name = _name(row)
        count = int(row["originator_bytes"] or 0) + int(row["responder_bytes"] or 0)
        spoken = str(row["application"])
        if spoken == "unknown" and kind == CLEAR:
            spoken = str(declared[row["paths"][0]]["application"]).lower()
        if name not in paths:
            paths[name] = _Entry(_about(row, declared))
        paths[name].add(row, kind, count, name, spoken)
        for which in ("originator", "responder"):
            if row[f"{which}_role"] is not None:
                key = _end(row, which)
                if key not in vms:
                    vms[key] = _Entry({"instance": key, "role": row[f"{which}_role"]})
                vms[key].add(row, kind, count, name, spoken)
    told = [_told(entry, {"path": name, **entry.about}, own=False) for name, entry in paths.items()]
    mine = [_told(entry, entry.about, own=True) for entry in vms.values()]
    told.sort(key=lambda each: (not each["clear"]["connections"], not each["tls_declared"], not each["credentials"], -each["clear"]["bytes"], each["path"]))  # fmt: skip
    mine.sort(key=lambda each: (-each["clear"]["bytes"], each["instance"]))
    summary = {**_summary(told), WITHOUT_ROLE: _without_role(audit)}
    return {"schema": SCHEMA, "audit": audit.info, "summary": summary, "paths": told, "vms": mine}


def _without_role(audit: Audit) -> dict[str, int]:
    """What is not counted, because no role is known of either end."""
    rows = [
        row
        for row in _rows(audit)
        if row["originator_role"] is None and row["responder_role"] is None
        and row["transport"] not in ("icmp", "icmp6") and row["application"] != "none"
    ]  # fmt: skip
    return {
        "connections": len(rows),
        "bytes": sum(int(row["originator_bytes"] or 0) + int(row["responder_bytes"] or 0) for row in rows),
    }


def _summary(paths: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    found = list(paths)
    return {
        kind: {
            "paths": sum(1 for each in found if each[kind]["connections"]),
            "connections": sum(each[kind]["connections"] for each in found),
            "bytes": sum(each[kind]["bytes"] for each in found),
        }
        for kind in (CLEAR, ENCRYPTED, UNKNOWN)
    }


def _rows(audit: Audit) -> Iterable[Mapping[Any, Any]]:
    frame = audit.connections[_COLUMNS]
    frame = frame[frame["outcome"] != Outcome.ATTEMPT.value]
    rows: Iterable[Mapping[Any, Any]] = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return rows


def _kind(row: Mapping[Any, Any], declared: Mapping[str, Mapping[Any, Any]]) -> str | None:
    """In the clear, encrypted, or unknown; None: no payload, or no end is a VM of the platform."""
    if row["transport"] in ("icmp", "icmp6") or (row["originator_role"] is None and row["responder_role"] is None):
        return None
    application = str(row["application"])
    tls = row["tls"] or {}
    if application in _ENCRYPTED or row["transport"] in ("esp", "ah") or any(tls.get(word) for word in _SHOWN_TLS):
        return ENCRYPTED
    if application == "none":
        return None
    if application != "unknown":
        return CLEAR
    words = {str(declared[path]["application"]) for path in row["paths"] or () if path in declared}
    return CLEAR if row["transport"] == "udp" and words and words <= _CLEAR_BY_DECLARATION else UNKNOWN


def _name(row: Mapping[Any, Any]) -> str:
    if row["paths"]:
        return " or ".join(row["paths"])
    if row["breach"] == Breach.CELL_EGRESS.value:
        return _OUTSIDE
    ends = [row[f"{end}_role"] or "a host in no inventory" for end in ("originator", "responder")]
    port = "" if row["responder_port"] is None else f" {row['responder_port']}"
    return f"{ends[0]} to {ends[1]}{port}/{row['transport']}"


def _about(row: Mapping[Any, Any], declared: Mapping[str, Mapping[Any, Any]]) -> dict[str, Any]:
    known = [declared[path] for path in row["paths"] or () if path in declared]
    return {
        "disposition": row["disposition"],
        "source": known[0]["source"] if known else row["originator_role"],
        "destination": known[0]["destination"] if known else row["responder_role"],
        "ports": known[0]["ports"] if known else "" if row["responder_port"] is None else str(row["responder_port"]),
        "tls_declared": bool(known) and (_asks_for_tls(row["authentication_required"]) or all(each["application"] == "HTTPS" for each in known)),
    }  # fmt: skip


def _asks_for_tls(tree: Any) -> bool:
    from auditor.policy._factors import asks_for_tls

    return tree is not None and asks_for_tls(tree)


def _end(row: Mapping[Any, Any], which: str) -> str:
    return str(row[f"{which}_instance"] or row[f"{which}_ip"])


def _credentials(row: Mapping[Any, Any]) -> Iterable[str]:
    nats, http = row["nats"] or {}, row["http"] or {}
    if any(nats.get(word) for word in ("pass", "token", "jwt")):
        yield "NATS password or token"
    schemes = set(http.get("authorization") or ())
    if "basic" in schemes:
        yield "user and password (HTTP Basic)"
    if "bearer" in schemes:
        yield "bearer token"
    if set(http.get("signed_url") or ()) - {"none"}:
        yield "signed URL"


def _told(entry: _Entry, about: Mapping[str, Any], *, own: bool) -> dict[str, Any]:
    clear = {
        "connections": entry.clear.connections, "bytes": entry.clear.bytes, "first_seen": entry.clear.first_ns,
        "last_seen": entry.clear.last_ns, "applications": _most(entry.applications),
    }  # fmt: skip
    if own:
        clear["paths"] = _most(entry.paths)
        clear["peers"] = _most(Counter({name: count for name, count in (entry.originators + entry.responders).items() if name != about["instance"]}))  # fmt: skip
    else:
        clear["originators"] = _most(entry.originators)
        clear["responders"] = _most(entry.responders)
    return {
        **about,
        "clear": clear,
        "credentials": _most(entry.credentials),
        "encrypted": {"connections": entry.encrypted.connections, "bytes": entry.encrypted.bytes},
        "unknown": {"connections": entry.unknown.connections, "bytes": entry.unknown.bytes},
    }


def _most(counts: Counter[str]) -> list[str]:
    """By size, largest first; lists are cut to a readable length."""
    return sorted(counts, key=lambda name: (-counts[name], name))[:_MOST_NAMES]
