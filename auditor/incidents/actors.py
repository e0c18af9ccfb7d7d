"""Who did what no path declares, and what it did in order of time.

The rules that hold here:

1. An **actor** is a VM of the inventory (whatever addresses it had) or an address in none. It is one where a finding says that it did what no path
   declares: a stranger, an undeclared connection or attempt, a sweep, a certificate of others, a platform VM that leaves the platform. Faults of
   documented connections make no actor, nor a ping, nor what a shipped policy would explain, nor what is waived.
2. Once it is an actor, **all** its connections are its story, those out of scope too: where it took what it got is the question.
3. A step is what a reader would say in one breath: a sweep however many ports, a login at one server, a call that comes back every minute.
4. Nothing is said that the tables do not hold, so that an audit of the store tells the same story as on the day it was made.
"""

from __future__ import annotations

import hashlib
import re
import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from auditor.incidents.again import next_of
from auditor.incidents.peers import witnesses
from auditor.incidents.story import CONNECTED, LET_IN, TRIED, Incident, Step, listed
from auditor.model.audit import Audit
from auditor.model.quoted import ICMP_ERROR
from auditor.model.roles import Severity
from auditor.policy.addresses import to_int
from auditor.policy.inventory import parse_span
from auditor.units import size
from auditor.wire.text import known_as, many

FOUNDING = frozenset(
    {
        *("unknown-host", "stolen-credential", "undeclared-connection", "undeclared-port", "ssh-port-out-of-range"),
        *("undeclared-attempt", "port-sweep", "control-plane-egress"),
    }
)
"""Rules that make an actor of whom they find."""

SERVED_AMISS = frozenset({"plaintext", "authentication-downgrade", "missing-credentials", "missing-client-certificate"})
"""Rules of documented connections that say that a client was served without what the documents ask for."""

_SWEEPS = ("port-sweep", "undeclared-attempt")

MOST_ACTORS = 500
"""So many are reported, those that got farthest; more is a policy that does not fit."""
MOST_LOOKED_AT = 4 * MOST_ACTORS
"""Of so many the whole story is made, to choose from."""
MOST_STEPS = 200
MOST_ROWS = 200_000
"""So many connections of one actor are looked at."""
SHOWN_CONNECTIONS = 20
SHOWN_FRAMES = 8
SWEEP_GAP_NS = 120 * 1_000_000_000
"""Attempts that lie closer together are one step."""
BEATS = 6
"""So many calls, regularly, make a beacon."""
REGULAR = 0.25
"""... where most of them come within this share of the period."""
SHORTEST_PERIOD_NS = 500_000_000

_BECAME = ("closed", "filtered", "silent")
"""The result of an attempt, the most informative first."""
_AWAY = ("unreachable", "prohibited", "unknown", "no route", "policy", "rejected", "beyond")
"""Words of the ICMP errors that turn a packet away."""
_REFUSED = ("REJ", "RSTR", "RSTRH", "RSTOS0")

_LEFT = re.compile("the client (closed|reset) the connection.*(without an|no) answer")
"""What is said of a connection that its client gave up."""

_UNOPENED = (*_BECAME, "mixed")
"""Outcomes of steps that are attempts."""

_LATEST: list[tuple[weakref.ref[pd.DataFrame], weakref.ref[pd.DataFrame], tuple[Incident, ...]]] = []


def of(audit: Audit) -> tuple[Incident, ...]:
    """The incidents of an audit, those that got farthest first."""
    if _LATEST:
        findings, connections, known = _LATEST[0]
        if findings() is audit.findings and connections() is audit.connections:
            return known
    made = _Teller(audit).incidents() if _tellable(audit) else ()
    _LATEST[:] = [(weakref.ref(audit.findings), weakref.ref(audit.connections), made)]
    return made


def host_of(audit: Audit) -> Incident | None:
    """What the address or VM did that an audit is narrowed to (``told_of``), and what was done to it; None where its incident says all of it."""
    host = (audit.info.get("options") or {}).get("host")
    if not host or not _tellable(audit):
        return None
    found = _Teller(audit).host(str(host))
    mine = [each for each in of(audit) if found is not None and each.actor == found.actor]
    return None if mine and found is not None and mine[0].connections == found.connections else found


def told_of(audit: Audit, address: str) -> Audit:
    """The same audit as far as it is about one address or VM: its connections, its findings, its story. Raises ValueError where nothing is."""
    table = audit.connections
    mine = np.zeros(len(table), np.bool_)
    for which in ("originator", "responder"):
        for column in (f"{which}_ip", f"{which}_instance"):
            if column in table:
                mine |= (table[column] == address).fillna(False).to_numpy(bool)
    if not mine.any():
        raise ValueError(address)
    connections = table[mine].reset_index(drop=True)
    ids = set(connections["id"].astype(str))
    # What others do with its certificate is its business, too.
    held = [
        bool(ids.intersection(map(str, told or ()))) or bool(witnesses(connections, {"evidence": evidence}))
        for told, evidence in zip(audit.findings["connections"], audit.findings["evidence"], strict=True)
    ]
    findings = audit.findings[np.array(held, np.bool_)].reset_index(drop=True)
    severities, rules = findings["severity"].value_counts(), findings["rule"].value_counts()
    summary = {
        **audit.summary,
        "connections": len(connections),
        **{
            word: int((connections["disposition"] == word).sum())
            for word in ("documented", "undeclared", "ambient", "out_of_scope")
            if "disposition" in connections
        },
        "verdicts": {
            word: int((connections["authentication_verdict"] == word).sum())
            for word in audit.summary.get("verdicts") or {}
        },
        "findings": {
            "by_severity": {each.word: int(severities.get(each.word, 0)) for each in sorted(Severity, reverse=True)},
            "by_rule": {str(rule): int(count) for rule, count in sorted(rules.items()) if count},
        },
    }
    crossed = {
        str(sha256)
        for tls in (connections["tls"].tolist() if "tls" in connections else ())
        for side in ("client", "server")
        for sha256 in ((tls.get(f"{side}_certificates") or ()) if isinstance(tls, dict) else ())
    }
    shown = tuple(
        each
        for each in audit.certificates
        if each["sha256"] in crossed or any(address in (host["ip"], host["instance"]) for host in each["shown_by"])
    )
    judged = sum(int(summary[word]) for word in ("documented", "undeclared", "ambient") if word in summary)
    if not judged and "disposition" in connections:
        sufficiency = audit.summary.get("sufficiency") or {}
        reasons = {**(sufficiency.get("reasons") or {}), "no_connection_in_scope": len(connections)}
        summary["sufficiency"] = {**sufficiency, "complete": False, "reasons": reasons}
    options = {
        **(audit.info.get("options") or {}),
        "host": address,
        "host_peers": _accused_peers(audit, connections, address),
    }
    return replace(
        audit,
        info={**audit.info, "options": options},
        summary=summary,
        connections=connections,
        findings=findings,
        coverage=audit.coverage.iloc[:0],
        certificates=shown,
    )


def _accused_peers(audit: Audit, connections: pd.DataFrame, address: str) -> list[str]:
    """What the actors of the whole audit's incidents sent to this host and got from it, a sentence each."""
    told = []
    ends = {which: connections[f"{which}_ip"].astype(str) for which in ("originator", "responder")}
    for each in of(audit):
        if address == each.actor or address in each.addresses:
            continue
        out, back = (connections[ends[which].isin(each.addresses)] for which in ("originator", "responder"))
        if not len(out) and not len(back):
            continue
        sent = int(out["originator_bytes"].sum() + back["responder_bytes"].sum())
        taken = int(out["responder_bytes"].sum() + back["originator_bytes"].sum())
        told.append(
            f"{each.actor} of incident {each.id} ({each.severity}) sent it {size(sent)} and received {size(taken)}"
        )
    return told[:SHOWN_CONNECTIONS]


def _tellable(audit: Audit) -> bool:
    wanted = {"id", "start", "originator_ip", "responder_ip", "originator_bytes", "originator_roles", "conn_state"}
    return wanted <= set(audit.connections.columns) and "rule" in audit.findings.columns


@dataclass(slots=True)
class _Actor:
    name: str
    rows: set[int]
    findings: list[int]


class _Teller:
    """Makes incidents of one audit."""

    def __init__(self, audit: Audit) -> None:
        self.audit = audit
        table = audit.connections
        self.table = table
        self.ids = table["id"].astype(str).to_numpy(dtype=object)
        self.names = {which: self._names(which) for which in ("originator", "responder")}
        self.start = table["start"].to_numpy().astype(np.int64)
        self.end = self.start + np.round(table["duration"].to_numpy(np.float64) * 1e9).astype(np.int64)
        self.networks = [parse_span(each) for each in audit.info.get("platform_networks") or ()]
        self._outside: dict[str, bool] = {}
        self._columns: dict[str, npt.NDArray[np.object_]] = {}
        self._beside: npt.NDArray[np.bool_] | None = None
        self.volume = [table[f"{which}_bytes"].to_numpy() for which in ("originator", "responder")]
        findings = audit.findings
        self.sweeps = set(findings.loc[findings["rule"] == "port-sweep", "id"].astype(str))
        amiss = findings["rule"].isin(SERVED_AMISS) & findings["waived"].isna()
        self.amiss = dict(
            zip(findings.loc[amiss, "id"].astype(str), findings.loc[amiss, "rule"].astype(str), strict=True)
        )
        self.certificates = {str(each["sha256"]): each for each in audit.certificates}
        self.then = next_of(audit)

    def _names(self, which: str) -> npt.NDArray[np.object_]:
        """Instance, or address where it is in no inventory."""
        addresses = self.table[f"{which}_ip"].astype(object).to_numpy()
        instances = self.table[f"{which}_instance"].astype(object)
        named = instances.notna().to_numpy()
        return np.where(named, instances.to_numpy(), addresses)

    def at(self, name: str, row: int) -> Any:
        """A value of a row; None where the audit has no such column."""
        values = self._columns.get(name)
        if values is None:
            if name not in self.table:
                return None
            values = self._columns[name] = self.table[name].astype(object).to_numpy()
        return values[row]

    def text(self, name: str, row: int) -> str | None:
        """A text of a row; None where there is none."""
        value = self.at(name, row)
        return str(value) if isinstance(value, str) and value else None

    def known(self, which: str, row: int) -> bool:
        """Whether this end is in the inventory."""
        return self.text(f"{which}_instance", row) is not None or bool(self.at(f"{which}_roles", row))

    def outside(self, address: str) -> bool:
        """Whether it lies outside every network of the platform, as far as those are known."""
        if address not in self._outside:
            number = to_int(address)
            self._outside[address] = bool(self.networks) and not any(
                first <= number <= last for first, last in self.networks
            )
        return self._outside[address]

    # Who

    def incidents(self) -> tuple[Incident, ...]:
        actors = self._actors()
        if not actors:
            return ()
        chosen = self._foremost(actors)
        rows_of = self._rows_of({each.name for each in chosen})
        made = [self._incident(actor, rows_of[actor.name]) for actor in chosen if rows_of.get(actor.name)]
        made.sort(key=_rank)
        made = made[:MOST_ACTORS]
        return tuple(self._led(each, made) for each in made)

    def _foremost(self, actors: dict[str, _Actor]) -> list[_Actor]:
        """Those whose incidents may be among the first: an incident costs a millisecond, and whoever sends packets may have a million addresses."""
        if len(actors) <= MOST_LOOKED_AT:
            return list(actors.values())
        findings = self.audit.findings
        founding = findings["rule"].isin(FOUNDING).tolist()
        worst = [
            -int(Severity[str(each).upper()]) if told else 0
            for each, told in zip(findings["severity"], founding, strict=True)
        ]

        def rank(actor: _Actor) -> tuple[int, int, int, str]:
            reached = min(
                0 if self._access(row) else 1 if self.text("outcome", row) != "attempt" else 2 for row in actor.rows
            )
            return min(worst[at] for at in actor.findings), reached, -len(actor.rows), actor.name

        return sorted(actors.values(), key=rank)[:MOST_LOOKED_AT]

    def host(self, host: str) -> Incident | None:
        """The host that the audit was narrowed to: what it did, and what was done to it."""
        for which in ("originator", "responder"):
            for column in (f"{which}_ip", f"{which}_instance"):
                rows = np.flatnonzero((self.table[column] == host).fillna(False).to_numpy(bool))
                if rows.size:
                    name = str(self.names[which][rows[0]])
                    actor = _Actor(name, set(), list(range(len(self.audit.findings))))
                    return self._host_story(actor, self._rows_of({name})[name])
        return None

    def _host_story(self, actor: _Actor, rows: list[int]) -> Incident:
        """Not an incident: no finding accuses it."""
        told = self._incident(actor, rows, whole=True)
        did = [each for each in told.steps if each.kind != "called"]
        suffered = [each for each in told.steps if each.kind == "called"]
        entered = list(
            dict.fromkeys(
                self.peer(row, "originator")
                for row in rows
                if self.names["originator"][row] != actor.name and self._access(row)
            )
        )
        done = [f"let {listed(entered, 4)} in"] if entered else []
        done += _counted("was called in", "by", suffered)
        tried = [each for each in suffered if each.outcome in _UNOPENED]
        if tried:
            callers = listed(list(dict.fromkeys(peer for each in tried for peer in each.peers)), 4)
            silent = sum(each.outcome == "silent" for each in tried) == len(tried)
            closed = sum(each.outcome == "closed" for each in tried) == len(tried)
            became = ", none of them answered" if silent else ", all refused" if closed else ", none of them accepted"
            done.append(f"was tried in {many(sum(each.count for each in tried), 'attempt')} by {callers}{became}")
        done += (self.audit.info.get("options") or {}).get("host_peers") or ()
        return replace(
            told,
            accused=False,
            severity=Severity.INFO.word,
            how="; ".join([*(each.says for each in did if each.outcome in _UNOPENED), *_counted("opened", "to", did)])
            or "opened no connection",
            how_far="; ".join(done) or "was called by nobody",
            proof=self._proof(list(told.steps), list(told.findings)),
        )

    def _actors(self) -> dict[str, _Actor]:
        findings = self.audit.findings
        founding = findings["rule"].isin(FOUNDING).to_numpy(bool) & findings["waived"].isna().to_numpy(bool)
        if "sibling" in findings:
            founding &= findings["sibling"].isna().to_numpy(bool)
        if not founding.any():
            return {}
        place = pd.Series(np.arange(len(self.ids)), index=self.ids)
        place = place[~place.index.duplicated()]
        actors: dict[str, _Actor] = {}
        for at in np.flatnonzero(founding).tolist():
            told = [str(each) for each in findings["connections"].iloc[at] or ()]
            rows = place.reindex(told).dropna().astype(np.int64).tolist()
            # Who only pings does nothing that anybody could be let in by; a sweep of pings is one.
            if findings["rule"].iloc[at] not in _SWEEPS and all(
                "icmp" in (self.text("transport", row) or "") for row in rows
            ):
                continue
            for row in rows:
                name = self._who(row)
                actor = actors.setdefault(name, _Actor(name, set(), []))
                actor.rows.add(row)
                if not actor.findings or actor.findings[-1] != at:
                    actor.findings.append(at)
        for actor in actors.values():
            actor.findings = sorted(set(actor.findings))
        self._add_other_findings(actors, place)
        return actors

    def _add_other_findings(self, actors: dict[str, _Actor], place: pd.Series[int]) -> None:
        """What else was found of what an actor opened."""
        findings = self.audit.findings
        others = ~findings["rule"].isin(FOUNDING).to_numpy(bool) & (findings["severity"] != "info").to_numpy(bool)
        for at in np.flatnonzero(others).tolist():
            told = [str(each) for each in findings["connections"].iloc[at] or ()][:2_000]
            rows = place.reindex(told).dropna().astype(np.int64).tolist()
            for name in {str(self.names["originator"][row]) for row in rows} & set(actors):
                actors[name].findings.append(at)

    def _who(self, row: int) -> str:
        """The actor of a connection: of an unknown host and a VM the unknown host, else the originator."""
        if self.known("originator", row) and not self.known("responder", row):
            address = str(self.at("responder_ip", row))
            if not self.outside(address) and self.text("breach", row) == "unknown_host":
                return str(self.names["responder"][row])
        return str(self.names["originator"][row])

    def _rows_of(self, names: set[str]) -> dict[str, list[int]]:
        """All connections of each actor, by time."""
        told = sorted(names)
        number = {name: k for k, name in enumerate(told)}
        sides = [
            np.fromiter((number.get(name, -1) for name in self.names[which].tolist()), np.int64, len(self.ids))
            for which in ("originator", "responder")
        ]
        # Who calls itself has the connection once.
        sides[1][sides[1] == sides[0]] = -1
        rows = np.concatenate([np.flatnonzero(side >= 0) for side in sides])
        actor = np.concatenate([side[side >= 0] for side in sides])
        order = np.lexsort((rows, self.start[rows], actor))
        rows, ends = rows[order], np.cumsum(np.bincount(actor, minlength=len(told)))
        return {
            name: rows[first : min(last, first + MOST_ROWS)].tolist()
            for name, first, last in zip(told, [0, *ends.tolist()], ends.tolist(), strict=False)
            if last > first
        }

    # What

    def _incident(self, actor: _Actor, rows: list[int], *, whole: bool = False) -> Incident:
        findings = self.audit.findings
        first = rows[0]
        which = "originator" if self.names["originator"][first] == actor.name else "responder"
        known = self.known(which, first)
        if known and not whole:
            # What a VM does by the documents is not part of the story; what it did beside them is.
            beside, opener = self._beside_documents(), self.names["originator"]
            rows = [row for row in rows if row in actor.rows or (beside[row] and opener[row] == actor.name)] or rows
        addresses = self._addresses(actor.name, rows)
        roles = tuple(map(str, self.at(f"{which}_roles", first) or ()))
        steps = self._steps(actor, rows, whole=whole)
        let_in = [each for each in steps if each.let_in]
        connected = [each for each in steps if each.kind in ("connection", "login", "request", "beacon", "egress")]
        mine = [each for each in connected if each.outcome != "refused"]
        reach = LET_IN if let_in else CONNECTED if mine else TRIED
        # What a VM is found for on documented paths is listed, and makes the incident no graver.
        counted = [at for at in actor.findings if findings["rule"].iloc[at] in FOUNDING]
        worst = max((Severity[str(findings["severity"].iloc[at]).upper()] for at in counted), default=Severity.INFO)
        reached = list(dict.fromkeys(peer for each in (let_in or mine) for peer in each.peers))
        outside = sum(each.sent_bytes for each in steps if each.peers and self._leaves(each))
        credentials = tuple(dict.fromkeys(text for each in rows for text in self._credential(each, actor.name)))
        # What a sweep sent is no conversation.
        talks = [each for each in steps if each.kind not in ("sweep", "attempt")]
        sent, received = sum(each.sent_bytes for each in talks), sum(each.received_bytes for each in talks)
        who = f"{_short(actor.name)} ({', '.join(addresses[:2])})" if known else f"{actor.name}, in no inventory,"
        name = hashlib.sha256(actor.name.encode("utf-8", "replace")).hexdigest()[:10]
        told = [str(findings["id"].iloc[at]) for at in actor.findings]
        command = self.then.host(addresses[0])
        return Incident(
            id=f"I-{name}",
            actor=actor.name,
            addresses=addresses,
            roles=roles,
            severity=worst.word,
            reach=reach,
            first_ns=min(each.first_ns for each in steps),
            last_ns=max(each.last_ns for each in steps),
            who=who,
            how=self._how(steps, let_in, credentials),
            how_far=self._how_far(steps, reached, reach, outside),
            proof=self._proof(let_in or mine or list(steps), told),
            credentials=credentials,
            reached=tuple(reached),
            sent_bytes=sent,
            received_bytes=received,
            outside_bytes=outside,
            connections=len(rows),
            findings=tuple(told),
            led_to=(),
            steps=tuple(steps[:MOST_STEPS]),
            command=command,
        )

    def _beside_documents(self) -> npt.NDArray[np.bool_]:
        """Which connections were opened beside the documents; what others did to a VM is their story."""
        if self._beside is None:
            beside = np.zeros(len(self.ids), np.bool_)
            if "disposition" in self.table:
                beside |= self.table["disposition"].isin(("undeclared", "out_of_scope")).to_numpy(bool)
            for row in np.flatnonzero(~beside).tolist() if self.amiss else ():
                beside[row] = bool(self._amiss(row))
            self._beside = beside
        return self._beside

    def _amiss(self, row: int) -> tuple[str, ...]:
        """Findings that say of this documented connection that it went on without what the documents ask for."""
        return tuple(each for each in map(str, self.at("findings", row) or ()) if each in self.amiss)

    def _access(self, row: int) -> bool:
        """Whether its originator got access, or was served without what the documents ask for."""
        return bool(self.at("entered", row)) or (
            self.text("authentication_outcome", row) == "served" and bool(self._amiss(row))
        )

    def _became(self, row: int) -> str | None:
        """What was shown on this connection and the answer: of a documented one what its path asks for, and why it is not that."""
        shown = self.text("shown", row)
        amiss = self._amiss(row)
        if shown or not amiss:
            return shown
        factors = self.at("authentication_factors", row)
        says = "; ".join(dict.fromkeys(str(each.get("says")) for each in ([] if factors is None else factors)))
        named = ", ".join(f"{each} {self.amiss[each]}" for each in amiss)
        return f"{says} ({named})" if says else named

    def _addresses(self, name: str, rows: list[int]) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for row in rows:
            for which in ("originator", "responder"):
                if self.names[which][row] == name:
                    found[str(self.at(f"{which}_ip", row))] = None
        return tuple(found)

    def _leaves(self, step: Step) -> bool:
        return step.kind in ("egress", "beacon") and self.outside(_address(step.peers[0]))

    def peer(self, row: int, which: str) -> str:
        """``10.0.8.40:8889 (diego_database/0)``."""
        address = str(self.at(f"{which}_ip", row))
        port = self.at(f"{which}_port", row)
        place = address if which == "originator" or pd.isna(port) else _placed(address, int(port))
        who = known_as(address, self.text(f"{which}_instance", row), self.text(f"{which}_role", row))
        return f"{place} ({_short(who)})" if who else place

    def _steps(self, actor: _Actor, rows: list[int], *, whole: bool) -> list[Step]:
        attempts, talks = [], []
        suffered: dict[str, list[int]] = {}
        swept_hosts = set()
        for row in rows:
            mine = self.names["originator"][row] == actor.name
            attempt = self.text("outcome", row) == "attempt"
            if mine and attempt:
                attempts.append(row)
                swept_hosts.add(str(self.at("responder_ip", row)))
            elif not attempt:
                talks.append(row)
            elif whole:
                suffered.setdefault(str(self.names["originator"][row]), []).append(row)
        bursts = self._bursts(attempts)
        opened: dict[int, list[int]] = {}
        left = []
        for row in talks:
            at = self._in_burst(row, bursts, swept_hosts) if self.names["originator"][row] == actor.name else None
            if at is None:
                left.append(row)
            else:
                opened.setdefault(at, []).append(row)
        steps = [self._sweep(burst, opened.get(at, [])) for at, burst in enumerate(bursts)]
        steps += [self._tried(burst) for each in suffered.values() for burst in self._bursts(each)]
        groups: dict[tuple[Any, ...], list[int]] = {}
        for row in left:
            mine = self.names["originator"][row] == actor.name
            other = "responder" if mine else "originator"
            key = (
                mine,
                str(self.names[other][row]),
                _port(self.at("responder_port", row)),
                self.text("transport", row),
                self.text("application", row),
                self.text("authentication_outcome", row),
                self._access(row),
                self._certificate(row) if mine else "",
                self._amiss(row) if mine else (),
            )
            groups.setdefault(key, []).append(row)
        steps += [self._talk(key[0], group) for key, group in groups.items()]
        return sorted(steps, key=lambda each: (each.first_ns, each.last_ns, each.says))

    def _bursts(self, attempts: list[int]) -> list[list[int]]:
        """Attempts that lie close together."""
        found: list[list[int]] = []
        for row in attempts:
            if found and int(self.start[row]) - int(self.start[found[-1][-1]]) <= SWEEP_GAP_NS:
                found[-1].append(row)
            else:
                found.append([row])
        return found

    def _in_burst(self, row: int, bursts: list[list[int]], hosts: set[str]) -> int | None:
        """The sweep that found this port open: a connection in its time, to one of its hosts, on which nothing was said."""
        if (
            "payload_bytes" not in self.table
            or int(self.at("payload_bytes", row))
            or str(self.at("responder_ip", row)) not in hosts
        ):
            return None
        for at, burst in enumerate(bursts):
            first, last = int(self.start[burst[0]]), int(self.start[burst[-1]])
            if len(burst) > 2 and first - SWEEP_GAP_NS <= int(self.start[row]) <= last + SWEEP_GAP_NS:
                return at
        return None

    def _sweep(self, rows: list[int], opened: list[int]) -> Step:
        everything = sorted([*rows, *opened], key=lambda row: (int(self.start[row]), row))
        targets = {(str(self.at("responder_ip", row)), _port(self.at("responder_port", row))) for row in everything}
        open_ones = list(dict.fromkeys(self.peer(row, "responder") for row in opened))
        open_targets = {(str(self.at("responder_ip", row)), _port(self.at("responder_port", row))) for row in opened}
        by: dict[tuple[str, int], str] = {}
        says: dict[str, None] = {}
        for row in rows:
            target = str(self.at("responder_ip", row)), _port(self.at("responder_port", row))
            state = self.text("conn_state", row) or ""
            refusal = self._turned_away(row)
            became = (
                "closed" if state in _REFUSED or refusal == "port unreachable" else "filtered" if refusal else "silent"
            )
            by[target] = min(by.get(target, became), became, key=_BECAME.index)
            if became == "filtered":
                says[refusal] = None
        counts = Counter(word for target, word in by.items() if target not in open_targets)
        hosts = list(dict.fromkeys(str(self.names["responder"][row]) for row in everything))
        told = []
        if counts["closed"]:
            told.append(f"{counts['closed']:,} closed (refused)")
        if counts["filtered"]:
            told.append(f"{counts['filtered']:,} filtered (ICMP: {listed(list(says))})")
        if counts["silent"]:
            told.append(f"{counts['silent']:,} without an answer")
        if open_ones:
            told.append(f"{len(open_targets):,} open: {listed(open_ones)}")
        # A target is a port of a host, here and in the finding; it counts those that it was told of.
        cited = Counter(
            str(name) for row in everything for name in self.at("findings", row) or () if name in self.sweeps
        )
        some = [f"{name} counts {count:,} of them" for name, count in sorted(cited.items()) if count < len(targets)]
        more = f"; {', '.join(some)}" if some else ""
        what = f"tried {many(len(targets), 'target')} on {listed(hosts)}"
        outcome = next(iter(counts)) if len(counts) == 1 else "mixed" if counts else "closed"
        sweep = len(targets) >= 10
        return self._step(
            "sweep" if sweep else "attempt",
            f"{what}: {', '.join(told)}{more}",
            everything,
            mine=True,
            peers=tuple(dict.fromkeys(self.peer(row, "responder") for row in (opened or rows)[:SHOWN_CONNECTIONS])),
            outcome=outcome,
            let_in=False,
            application=None,
        )

    def _tried(self, rows: list[int]) -> Step:
        """Attempts of another."""
        caller = self.peer(rows[0], "originator")
        ports = {_port(self.at("responder_port", row)) for row in rows}
        refused = sum((self.text("conn_state", row) or "") in _REFUSED for row in rows)
        told = [f"{refused:,} refused"] if refused else []
        told += [f"{len(rows) - refused:,} without an answer"] if refused < len(rows) else []
        return self._step(
            "called",
            f"was tried by {caller} on {many(len(ports), 'port')} in {many(len(rows), 'attempt')}: {', '.join(told)}",
            rows,
            mine=False,
            peers=(caller,),
            outcome="closed" if refused == len(rows) else "mixed" if refused else "silent",
            let_in=False,
            application=None,
        )

    def _turned_away(self, row: int) -> str:
        """What a router or firewall said of this attempt (RFC 792, RFC 4443), without its name; empty: nothing."""
        for each in self.at("authentication_evidence", row) or ():
            for text in (each.get("value") or ()) if each.get("kind") == ICMP_ERROR else ():
                what, _, by = str(text).partition(", by ")
                if what == "port unreachable":
                    # Only of a datagram, and by the host itself, does this say that the port is closed: firewalls reject TCP so.
                    own = by == str(self.at("responder_ip", row)) and self.text("transport", row) != "tcp"
                    return what if own else f"{what}, by a firewall"
                if any(word in what for word in _AWAY):
                    return what
        return ""

    def _certificate(self, row: int) -> str:
        tls = self.at("tls", row)
        chain = tls.get("client_certificates") if isinstance(tls, dict) else None
        return str(chain[0]) if chain else ""

    def _credential(self, row: int, actor: str) -> list[str]:
        """What the actor showed of itself on a connection that it opened, in words."""
        if self.names["originator"][row] != actor:
            return []
        told = []
        leaf = self._certificate(row)
        tls = self.at("tls", row)
        if leaf:
            told.append(self._certificate_words(leaf, actor))
        elif isinstance(tls, dict) and tls.get("client_certificate") in ("sent", "inferred_sent"):
            told.append("a client certificate that TLS 1.3 hides")
        nats = self.at("nats", row)
        if isinstance(nats, dict) and nats.get("connect"):
            words = [word for word in ("user", "pass", "token", "jwt", "nkey") if nats.get(word)]
            told.append(
                "NATS "
                + ("user and password" if words[:2] == ["user", "pass"] else ", ".join(words) or "without credentials")
                + _as([nats.get("user_name")])
            )
        mysql = self.at("mysql", row)
        if isinstance(mysql, dict) and mysql.get("auth_response"):
            told.append(
                (
                    "an empty MySQL password"
                    if mysql["auth_response"] == "empty"
                    else f"a MySQL login ({mysql.get('plugin')})"
                )
                + _as([mysql.get("user_name")])
            )
        http = self.at("http", row)
        if isinstance(http, dict):
            schemes = [each for each in http.get("authorization") or () if each != "none"]
            told += [
                f"HTTP {'bearer token' if each == 'bearer' else each}"
                + (_as(http.get("user_names") or ()) if each == "basic" else "")
                for each in dict.fromkeys(schemes)
            ]
            if any(each != "none" for each in http.get("signed_url") or ()):
                told.append("a signed URL")
        ssh = self.at("ssh", row)
        if isinstance(ssh, dict) and ssh.get("login") == "accepted":
            told.append("an SSH login")
        return told

    def _certificate_words(self, leaf: str, actor: str) -> str:
        known = self.certificates.get(leaf) or {}
        name = known.get("common_name")
        others = list(
            dict.fromkeys(
                str(host["instance"] or host["ip"])
                for host in known.get("shown_by") or ()
                if host["leaf"] and actor not in (host["instance"], host["ip"])
            )
        )
        shown = f", which {listed(others)} {'shows' if len(others) == 1 else 'show'} too" if others else ""
        return f"client certificate {leaf[:12]}…{f' ({name})' if name else ''}{shown}"

    def _talk(self, mine: bool, rows: list[int]) -> Step:
        row = rows[0]
        other = "responder" if mine else "originator"
        peer = self.peer(row, "responder") if mine else self.peer(row, "originator")
        application = self.text("application", row) or "unknown"
        let_in = mine and self._access(row)
        outcome = self.text("authentication_outcome", row) or "unknown"
        shown = self._became(row) if mine else None
        # Who hangs up before the answer was not refused.
        left = outcome == "refused" and bool(_LEFT.search(self.text("shown", row) or ""))
        beat = self._beat(rows) if mine else None
        leaves = mine and self.outside(str(self.at(f"{other}_ip", row)))
        sent, received = self._bytes(rows, mine=mine)
        times = "" if len(rows) == 1 else f" in {many(len(rows), 'connection')}"
        moved = f"sent {size(sent)}, received {size(received)}"
        spoken = "" if application in ("none", "unknown") else f" ({application})"
        if not mine:
            port = _port(self.at("responder_port", row))
            on = f" on its port {port}/{self.text('transport', row)}" if port >= 0 else ""
            became = (
                f"let {peer} in{on}{spoken}{times}: {self.text('shown', row)}"
                if self.at("entered", row)
                else f"refused {peer}{on}{spoken}{times}"
                if outcome == "refused" and not left
                else f"was called by {peer}{on}{spoken}{times}"
            )
            kind, says = "called", f"{became}; {moved}"
        elif beat is not None:
            period, jitter = beat
            kind = "beacon"
            says = f"called {peer}{spoken} every {_seconds(period)} (give or take {_seconds(jitter)}), {len(rows):,} times; {moved}"
        elif leaves:
            kind, says = "egress", f"left the platform to {peer}{spoken}{times}; {moved}"
        elif let_in:
            kind = "login" if self._credential(row, str(self.names["originator"][row])) else "request"
            says = f"got access to {peer}{spoken}{times}: {shown}; {moved}"
        elif left:
            kind, outcome = "connection", "unknown"
            says = f"connected to {peer}{spoken}{times} and ended that itself: neither access nor a refusal was seen; {moved}"
        elif outcome == "refused":
            kind, says = "login", f"was refused by {peer}{spoken}{times}: {shown or 'refused'}"
        else:
            kind = "connection"
            detail = f": {shown}" if shown else ""
            says = f"connected to {peer}{spoken}{times}{detail}; {moved}"
        step = self._step(
            kind, says, rows, mine=mine, peers=(peer,), outcome=outcome, let_in=let_in, application=application
        )
        if beat is not None:
            step = replace(step, period_s=round(beat[0] / 1e9, 3), jitter_s=round(beat[1] / 1e9, 3))
        return step

    def _beat(self, rows: list[int]) -> tuple[float, float] | None:
        """Period and jitter in nanoseconds of calls that come back regularly."""
        if len(rows) < BEATS:
            return None
        return regular(self.start[np.array(rows)])

    def _bytes(self, rows: list[int], *, mine: bool) -> tuple[int, int]:
        at = np.array(rows)
        sent, received = (int(each[at].sum()) for each in self.volume)
        return (sent, received) if mine else (received, sent)

    def _step(
        self,
        kind: str,
        says: str,
        rows: list[int],
        *,
        mine: bool,
        peers: tuple[str, ...],
        outcome: str,
        let_in: bool,
        application: str | None,
    ) -> Step:
        sent, received = self._bytes(rows, mine=mine)
        ids = tuple(str(self.ids[row]) for row in rows[:SHOWN_CONNECTIONS])
        return Step(
            kind=kind,
            says=says,
            first_ns=int(self.start[rows].min()),
            last_ns=int(self.end[rows].max()),
            count=len(rows),
            peers=peers,
            application=application,
            outcome=outcome,
            let_in=let_in,
            sent_bytes=sent,
            received_bytes=received,
            connections=ids,
            frames=self._frames(rows),
            command=self.then.connection(ids[0]),
        )

    def _frames(self, rows: list[int]) -> tuple[tuple[int, int], ...]:
        """The first frame of the first connections, and the frames that show what came of the first."""
        found: set[tuple[int, int]] = set()
        if {"capture", "first_frame"} <= set(self.table.columns):
            for row in rows[: SHOWN_FRAMES // 2]:
                found.add((int(self.at("capture", row)), int(self.at("first_frame", row))))
        evidence = self.at("authentication_evidence", rows[0])
        for each in evidence or ():
            for capture, frame in each.get("frames") or ():
                if len(found) < SHOWN_FRAMES:
                    found.add((int(capture), int(frame)))
        return tuple(sorted(found))

    # The five questions

    def _how(self, steps: list[Step], let_in: list[Step], credentials: tuple[str, ...]) -> str:
        told: list[str] = []
        for kind in ("sweep", "attempt"):
            tried = [each for each in steps if each.kind == kind]
            if tried and not told:
                told.append(tried[0].says + (f", and {many(len(tried) - 1, kind)} more" if len(tried) > 1 else ""))
        if credentials:
            told.append(f"{'access with' if let_in else 'showed'} {listed(list(credentials), 4)}")
        elif let_in:
            told.append("access without any credential")
        refused = sum(each.count for each in steps if each.outcome == "refused")
        if refused:
            told.append(f"refused {many(refused, 'time')}")
        called = [each for each in steps if each.kind == "called"]
        if called and not told:
            told.append(called[0].says)
        return "; ".join(told) or "connections that no path declares, no credential seen"

    def _how_far(self, steps: list[Step], reached: list[str], reach: str, outside: int) -> str:
        if all(each.kind == "called" for each in steps):
            return f"opened nothing itself; sent {size(sum(each.sent_bytes for each in steps))} in answer"
        word = {LET_IN: "access to", CONNECTED: "connected to", TRIED: ""}[reach]
        told = [f"{word} {listed(reached, 4)}"] if word and reached else ["no access"]
        inside = [
            each for each in steps if each.kind in ("login", "request", "connection") and each.outcome != "refused"
        ]
        took = sum(each.received_bytes for each in inside)
        if took:
            told.append(f"took {size(took)} from the platform")
        if outside:
            names = list(dict.fromkeys(each.peers[0] for each in steps if each.peers and self._leaves(each)))
            told.append(f"sent {size(outside)} outside to {listed(names)}")
        beats = [each for each in steps if each.kind == "beacon" and each.period_s]
        if beats:
            told.append(f"calls {beats[0].peers[0]} every {_seconds((beats[0].period_s or 0) * 1e9)}")
        return "; ".join(told)

    def _proof(self, steps: list[Step], findings: list[str]) -> str:
        """Frames of the telling step, and how to cut them out."""
        step = steps[0]
        by: dict[int, list[int]] = {}
        for capture, frame in step.frames:
            by.setdefault(capture, []).append(frame)
        named = len(self.audit.captures) > 1
        shown = "; ".join(
            f"{'' if not named else self._capture(capture) + ' '}frame{'s' * (len(frames) > 1)} {', '.join(map(str, frames))}"
            for capture, frames in by.items()
        )
        cited = f"findings {listed(findings, 3)}" if findings else "no finding"
        return f"{shown or 'no frames'}; {cited}; {step.command}"

    def _capture(self, index: int) -> str:
        paths = self.audit.captures["path"]
        return str(paths.iloc[index]) if 0 <= index < len(paths) else f"capture {index}"

    def _led(self, one: Incident, everyone: Iterable[Incident]) -> Incident:
        """With the incidents of those whom it reached, that began after it was there."""
        reached = {_address(step.peers[0]): step.first_ns for step in reversed(one.steps) if step.let_in and step.peers}
        after = tuple(
            each.id
            for each in everyone
            if each.id != one.id
            and any(reached.get(here, each.first_ns + 1) <= each.first_ns for here in each.addresses)
        )
        return replace(one, led_to=after) if after else one


def _counted(verb: str, toward: str, steps: list[Step]) -> list[str]:
    """``opened 3 connections to a, b, 1 of them refused``; attempts are no connections."""
    opened = [each for each in steps if each.outcome not in _UNOPENED]
    if not opened:
        return []
    count, refused = (
        sum(each.count for each in some) for some in (opened, [e for e in opened if e.outcome == "refused"])
    )
    peers = listed(list(dict.fromkeys(peer for each in opened for peer in each.peers)), 4)
    vain = f", {refused:,} of them refused" if refused else ""
    return [f"{verb} {many(count, 'connection')} {toward} {peers}{vain}"]


def regular(starts: npt.NDArray[np.int64]) -> tuple[float, float] | None:
    """Period and jitter in nanoseconds, where calls come back regularly; None: they do not.

    A call that was missed leaves a gap of a whole multiple: so gaps are held against the nearest multiple of the period.
    """
    gaps = np.diff(np.sort(starts)).astype(np.float64)
    gaps = gaps[gaps > 0]
    if len(gaps) < BEATS - 1:
        return None
    period = float(np.median(gaps))
    if period < SHORTEST_PERIOD_NS:
        return None
    off = np.abs(gaps - np.maximum(np.round(gaps / period), 1) * period)
    jitter = float(np.median(off))
    steady = float((off <= REGULAR * period).mean())
    return (period, jitter) if steady >= 0.8 and jitter <= REGULAR / 2 * period else None


def _rank(each: Incident) -> tuple[Any, ...]:
    # Below who got in: who looks for a way in, a stranger, and who takes something outside; then who called what no path declares, as monitoring does.
    searches = any(step.kind == "sweep" for step in each.steps)
    strange = each.reach == CONNECTED and (not each.roles or each.outside_bytes > 0)
    unusual = 0 if each.reach == LET_IN else 1 if searches or strange else 2
    order = unusual, (LET_IN, CONNECTED, TRIED).index(each.reach)
    severity = -int(Severity[each.severity.upper()])
    return severity, order, -len(each.reached), -each.outside_bytes, -each.received_bytes, each.first_ns, each.actor


def _short(name: str) -> str:
    """A VM's name with the first digits of its UUID."""
    group, slash, which = name.partition("/")
    return f"{group}{slash}{which[:8]}" if len(which) == _UUID else name


_UUID = 36


def _port(value: Any) -> int:
    return -1 if pd.isna(value) else int(value)


def _placed(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _address(peer: str) -> str:
    place = peer.split(" ", 1)[0]
    if place.startswith("["):
        return place[1:].partition("]")[0]
    return place.rpartition(":")[0] if place.count(":") == 1 else place


def _as(users: Iterable[str | None]) -> str:
    """As whom."""
    names = ", ".join(each for each in users if each)
    return f" as {names}" if names else ""


def _seconds(ns: float) -> str:
    seconds = ns / 1e9
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
