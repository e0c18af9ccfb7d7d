"""Whether the documented authentication happened: a verdict, factors and faults for every connection on a declared path.

The theory, which is the contract's section "How a verdict is reached" (its rules are numbered there):

- The verdict speaks of the method alone; faults of certificates, versions and suites stand beside it (rule 1).
- Each factor that a path names is judged by itself (``_factors.py``, ``_tls.py``), and the tree of factors combined: where all are asked for,
  the worst; where one suffices, the best. HTTPS in a path's application column asks for TLS, whatever else is asked for.
- Acceptance makes a violation, refusal a rejection; where neither was seen, nothing is claimed (rule 5). What is missing of the capture moves a
  verdict towards unverifiable, never away from it (``_seen.py``).
- Some connections are judged by others: resumed sessions by the full handshake, a downgrade by the failed attempt before (``sessions.py``).

Most connections of a capture are alike. What decides is gathered into a key for each connection, and each distinct key is judged once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.model.connections import (
    CONN_STATES,
    INCOMPLETE,
    ODD_CONFLICT,
    ODD_UNREAD,
    ODD_URGENT,
    ConnectionTable,
)
from auditor.model.facts import FOLLOWED, SIGNATURE_FITS, Facts, signature_fits
from auditor.model.judgement import Authentication, Breach, Classification, Disposition, Factor, Fault, Verdict
from auditor.model.streams import HEAD_BYTES
from auditor.policy._factors import (
    Wanted,
    cleartext_credentials,
    in_clear,
    is_clear,
    judge,
    observed,
)
from auditor.policy._observation import Observation, Said
from auditor.policy._tls import (
    ACCEPTED,
    OF_LENGTHS,
    REFUSED,
    SENT,
    UNKNOWN,
    VEILED,
    Digests,
    TlsReading,
    dialogue_of,
    is_tls,
    judge_mutual,
    read_tls,
    weak_tls,
    weigh_in,
)
from auditor.policy.certificates import SIDES, certificate_faults, judge_for
from auditor.policy.learnt import NOTHING, Learnt
from auditor.policy.listed import Listed
from auditor.policy.policy import WINDOWS, Policy
from auditor.policy.population import Member, Weighed, weigh
from auditor.policy.refusal import why_refused
from auditor.policy.sessions import NATS_PORTS, Session, Try, downgrades, inherit, origins
from auditor.policy.witness import witness

HOST_PORTS = range(61_001, 65_535)
"""Host ports of application instances (contract, rule 4)."""
WINDOWS_HOST_PORTS = range(40_000, 45_000)
"""Those of Windows cells (winc, cmd/winc-network/main.go)."""

_MAX_DIGESTS = 50_000
MOST_MEMBERS = 50_000
"""So many connections of servers whose answers hide an outcome are compared."""

NOT_JUDGED = Authentication()

_GAP = sum(1 << INCOMPLETE.index(word) for word in ("gap", "snaplen"))
_OPEN_READINGS = 1 << ODD_CONFLICT | 1 << ODD_URGENT | 1 << ODD_UNREAD
_SNAPLEN = 1 << INCOMPLETE.index("snaplen")
_LIMIT = 1 << INCOMPLETE.index("limit")
_ONE_WAY = 1 << INCOMPLETE.index("one_way")
_MIDSTREAM = 1 << INCOMPLETE.index("midstream")
_RESETS = np.array([(False, state.startswith("RSTO"), state.startswith(("RSTR", "REJ"))) for state in CONN_STATES])
"""By state, and by who closed first (nobody, client, server): whether that one did it with a RST."""

# Bits of a connection's code, below its application and class.
_FIRST, _ALONE, _MID, _LOSSY, _RESET, _ANSWERED, _HOST, _SNAPPED, _UNREAD = (1 << k for k in range(9))
_CLOSED = 9  # two bits: nobody, client, server
_APPLICATION = 11
_CLASS = 18
_CLOSERS = ("", "client", "server")


@dataclass(slots=True)
class _Group:
    """Connections that are alike in all that decides."""

    seen: Observation
    wanted: Wanted
    required: object
    tls: TlsReading | None
    said: Said
    facts: Facts | None
    class_id: int
    certified: bool
    """Certificates were shown in the clear."""
    made: dict[tuple[Fault, ...], Authentication] = field(default_factory=dict)


def authenticate(
    table: ConnectionTable,
    classes: Sequence[Classification],
    class_of: NDArray[np.int32],
    *,
    certificates: Mapping[str, bytes],
    policy: Policy,
    options: Mapping[str, Any],
    learnt: Learnt = NOTHING,
) -> list[Authentication]:
    """One answer a connection; equal answers are one object.

    ``class_of`` is the index into ``classes`` of each connection, ``certificates`` the DER of those seen by fingerprint, ``learnt`` what those say
    together. Never raises on what was seen.
    """
    n = len(table)
    told = _documented(table, classes, class_of, certificates, policy, options, learnt) if n else []
    undeclared = np.array([each.disposition is Disposition.UNDECLARED for each in classes], dtype=np.bool_)
    rows = np.flatnonzero(undeclared[class_of] & table.established) if n else np.zeros(0, np.intp)
    if rows.size:
        _undeclared(table, classes, class_of, rows, told)
    return told


def _documented(
    table: ConnectionTable,
    classes: Sequence[Classification],
    class_of: NDArray[np.int32],
    certificates: Mapping[str, bytes],
    policy: Policy,
    options: Mapping[str, Any],
    learnt: Learnt,
) -> list[Authentication]:
    """What is said of each connection on a declared path; of the others that nothing is judged."""
    wanted = [_wanted(each, policy) for each in classes]
    plain = [NOT_JUDGED if want is None else Authentication(required=want.tree) for want in wanted]
    told: list[Authentication] = [plain[k] for k in class_of.tolist()]
    asked = np.array([want is not None for want in wanted], dtype=np.bool_)
    rows = np.flatnonzero(asked[class_of] & table.established)
    if not rows.size:
        return told
    groups, group_of = _grouped(table, classes, class_of, wanted, rows)
    _population(table, rows, groups, group_of)
    resumed_from = _resume(table, rows, groups, group_of)
    beside = _downgraded(table, rows, groups, group_of, policy, classes)
    first_ns = table.first_ns.tolist()
    listed = Listed(policy)
    learnt_of = None if learnt.of_row is None else learnt.of_row.tolist()
    for place, row in enumerate(rows.tolist()):
        group = groups[group_of[place]]
        extra = beside.get(row, ()) if beside else ()
        if group.certified and group.facts is not None:
            found = certificate_faults(
                table.facts[row], classes[group.class_id], first_ns[row], certificates, policy, options
            )
            if learnt_of is not None and learnt_of[row]:
                found = (*found, *learnt.faults[learnt_of[row]])
            extra = (*found, *extra) if extra else found
        if listed and group.tls is not None and group.tls.version == "TLS 1.3" and not group.certified:
            shown = group.tls.certificate == SENT
            extra = (*listed.faults(classes[group.class_id], first_ns[row], client=shown), *extra)
        if group.said.verdict is Verdict.REJECTED and group.tls is not None and group.facts is not None:
            why = why_refused(table.facts[row] or {}, judge_for(certificates, policy, options).describe, first_ns[row])
            extra = extra if why is None else (*extra, why)
        made = group.made.get(extra)
        if made is None:
            made = group.made[extra] = _authentication(group, policy, extra)
        told[row] = _naming(made, resumed_from[place]) if place in resumed_from else made
    return told


def _undeclared(
    table: ConnectionTable,
    classes: Sequence[Classification],
    class_of: NDArray[np.int32],
    rows: NDArray[np.intp],
    told: list[Authentication],
) -> None:
    """What was shown on connections that no path declares: nothing is asked of them, so no verdict comes of it, but it says who got in."""
    nothing = [Wanted("none")] * len(classes)
    groups, group_of = _grouped(table, classes, class_of, nothing, rows)
    _population(table, rows, groups, group_of)
    resumed_from = _resume(table, rows, groups, group_of)
    made: dict[int, Authentication] = {}
    for place, row in enumerate(rows.tolist()):
        at = group_of[place]
        if at not in made:
            group = groups[at]
            made[at] = witness(group.seen, group.said, group.tls, _outcome(group))
        told[row] = _naming(made[at], resumed_from[place]) if place in resumed_from else made[at]


def _wanted(classification: Classification, policy: Policy) -> Wanted | None:
    """What the matched paths ask for; None: nothing is judged."""
    judged = classification.disposition in {Disposition.DOCUMENTED, Disposition.AMBIENT}
    if not judged or classification.required is None or not classification.paths:
        return None
    paths = [policy.by_id[path] for path in classification.paths if path in policy.by_id]
    return Wanted(
        classification.required,
        https=bool(paths) and all(path.application == "HTTPS" for path in paths),
        foreign=classification.breach is Breach.APPLICATION,
    )


# Connections that are alike


def _codes(
    table: ConnectionTable, classes: Sequence[Classification], class_of: NDArray[np.int32], rows: NDArray[np.intp]
) -> NDArray[np.int64]:
    """What decides of each of these connections, apart from its facts, as one number."""
    incomplete = table.incomplete[rows]
    early = table.payload_bytes[rows] <= 2 * HEAD_BYTES
    letters = np.ascontiguousarray(table.history[rows]).view(np.uint8).reshape(len(rows), -1)
    closed = table.closed_by[rows].astype(np.int64)
    port = table.resp_p[rows]
    host = np.array([each.orig_role == "diego_brain" and each.resp_role == "diego_cell" for each in classes], np.bool_)
    windows = np.array([each.orig_role == "diego_brain" and each.resp_role == WINDOWS for each in classes], np.bool_)
    on_host = (port >= HOST_PORTS.start) & (port < HOST_PORTS.stop) & host[class_of[rows]]
    on_host |= (port >= WINDOWS_HOST_PORTS.start) & (port < WINDOWS_HOST_PORTS.stop) & windows[class_of[rows]]
    code = np.zeros(len(rows), np.int64)
    for bit, holds in (
        (_FIRST, table.first_bytes[rows]),
        (_ALONE, incomplete & _ONE_WAY != 0),
        (_MID, incomplete & _MIDSTREAM != 0),
        (_LOSSY, ((incomplete & _GAP != 0) & early) | (incomplete & _LIMIT != 0)),
        (_SNAPPED, incomplete & _SNAPLEN != 0),
        (_RESET, _RESETS[table.conn_state[rows], closed]),
        (_ANSWERED, (letters == ord("d")).any(axis=1)),
        (_HOST, on_host),
    ):
        code[holds] |= bit
    code[_unread(table, rows)] |= _UNREAD
    code |= closed << _CLOSED
    code |= table.application[rows].astype(np.int64) << _APPLICATION
    code |= class_of[rows].astype(np.int64) << _CLASS
    return code


def _unread(table: ConnectionTable, rows: NDArray[np.intp]) -> NDArray[np.int64]:
    """Places in ``rows`` of connections with answered requests, or with bytes of a client that may log in again, that were not read."""
    long = table.payload_bytes[rows] > HEAD_BYTES
    spoken = table.application[rows]

    def speaks(name: str) -> NDArray[np.bool_]:
        return spoken == table.applications.index(name) if name in table.applications else np.zeros(len(rows), np.bool_)

    http = speaks("http")
    again = long & (speaks("mysql") | speaks("nats")) & (table.stream_bytes[rows, 0] > HEAD_BYTES)
    found = np.flatnonzero(again).tolist()
    for place in np.flatnonzero(long & http).tolist():
        row = rows[place]
        facts = table.facts[row]
        followed = None if facts is None else facts.get(FOLLOWED)
        if followed is not None and all(
            sent > reach for sent, reach in zip(table.stream_bytes[row].tolist(), followed[:2], strict=True)
        ):
            found.append(place)
    return np.array(found, np.int64)


def _grouped(
    table: ConnectionTable,
    classes: Sequence[Classification],
    class_of: NDArray[np.int32],
    wanted: Sequence[Wanted | None],
    rows: NDArray[np.intp],
) -> tuple[list[_Group], list[int]]:
    """The distinct questions, judged, and which of them each row asks."""
    groups: list[_Group] = []
    group_of: list[int] = []
    known: dict[Any, int] = {}
    digests: dict[tuple[Any, ...], Any] = {}
    digest_of = Digests().of
    facts_of = table.facts
    for row, code in zip(rows.tolist(), _codes(table, classes, class_of, rows).tolist(), strict=True):
        facts = facts_of[row]
        key: Any = code
        if facts is not None:
            own = facts.own
            if "tls.server_records" in own:
                raw = id(facts.shared), *map(own.get, OF_LENGTHS)
                digest = digests.get(raw)
                if digest is None:
                    if len(digests) >= _MAX_DIGESTS:
                        digests.clear()
                    digest = digests[raw] = digest_of(facts)
                fits = own.get(SIGNATURE_FITS)
                key = (code, id(facts.shared), digest, fits if fits is None else signature_fits(own))
            else:
                key = (code, id(facts.shared))
        at = known.get(key)
        if at is None:
            at = known[key] = len(groups)
            groups.append(_judged(table, classes, wanted, code, facts))
        group_of.append(at)
    return groups, group_of


def _judged(
    table: ConnectionTable,
    classes: Sequence[Classification],
    wanted: Sequence[Wanted | None],
    code: int,
    facts: Facts | None,
) -> _Group:
    class_id = code >> _CLASS
    want = wanted[class_id]
    assert want is not None  # noqa: S101
    seen = Observation(
        facts={} if facts is None else facts,
        application=table.applications[code >> _APPLICATION & 0x7F],
        first_bytes=bool(code & _FIRST),
        one_way=bool(code & _ALONE),
        midstream=bool(code & _MID),
        lossy=bool(code & _LOSSY),
        snapped=bool(code & _SNAPPED),
        closed_by=_CLOSERS[code >> _CLOSED & 3],
        reset=bool(code & _RESET),
        answered=bool(code & _ANSWERED),
        host_port=bool(code & _HOST),
        unread=bool(code & _UNREAD),
    )
    tls = read_tls(seen) if is_tls(seen) else None
    certified = any(kind in seen.facts for kind in SIDES.values())
    return _Group(seen, want, classes[class_id].required, tls, judge(seen, want, tls), facts, class_id, certified)


# Across connections


def _population(table: ConnectionTable, rows: NDArray[np.intp], groups: list[_Group], group_of: list[int]) -> None:
    """Settle outcomes that one connection hides and others of the same server show."""
    hides = {at for at, group in enumerate(groups) if group.tls is not None and _hides_outcome(group.tls)}
    if not hides:
        return
    kinds: dict[tuple[int, int], set[bool]] = {}
    hosts, ports = table.resp_h[rows].tolist(), table.resp_p[rows].tolist()
    certified = {
        at: group.tls.certificate == SENT
        for at, group in enumerate(groups)
        if group.tls is not None and _is_answered(group.tls)
    }
    for place, at in enumerate(group_of):
        if at in certified:
            kinds.setdefault((hosts[place], ports[place]), set()).add(certified[at])
    members: list[Member] = []
    for place, at in enumerate(group_of):
        server = hosts[place], ports[place]
        facts = table.facts[rows[place]]
        if at not in certified or len(kinds[server]) < 2 or facts is None:  # with and without
            continue
        if len(members) >= MOST_MEMBERS:
            break
        members.append(
            Member(place, (*server, facts.get("tls.alpn_offered")), certified[at], at in hides, dialogue_of(facts))
        )
    made: dict[tuple[int, Weighed], int] = {}
    for place, weighed in weigh(members).items():
        key = group_of[place], weighed
        if key not in made:
            name = bytes(table.id[rows[weighed.witness]]).decode()
            group = groups[group_of[place]]
            reading = weigh_in(group.tls, served=weighed.served, name=name) if group.tls is not None else None
            made[key] = len(groups)
            groups.append(replace(group, tls=reading, said=judge(group.seen, group.wanted, reading), made={}))
        group_of[place] = made[key]


def _hides_outcome(reading: TlsReading) -> bool:
    return not reading.resumed and (reading.outcome == VEILED or reading.doubt)


def _is_answered(reading: TlsReading) -> bool:
    return not reading.resumed and reading.outcome in (ACCEPTED, VEILED) and reading.certificate != UNKNOWN


_ORIGIN = "\0origin\0"
"""Stands for the id of the connection that a session goes back to: no text holds a NUL otherwise."""


def _naming(said: Authentication, name: str) -> Authentication:
    """The answer with the id of the connection that this session goes back to."""
    return replace(
        said,
        factors=tuple(replace(each, says=each.says.replace(_ORIGIN, name)) for each in said.factors),
        faults=tuple(replace(each, says=each.says.replace(_ORIGIN, name)) for each in said.faults),
        says=said.says.replace(_ORIGIN, name),
    )


def _resume(
    table: ConnectionTable, rows: NDArray[np.intp], groups: list[_Group], group_of: list[int]
) -> dict[int, str]:
    """Settle resumed sessions: each gets the group of its own kind and its origin's. Returns by place the id of that origin, for which the texts have ``_ORIGIN``."""
    if not any(group.tls is not None and group.tls.resumed for group in groups):
        return {}
    places = [k for k, at in enumerate(group_of) if _session_of(groups[at]) is not None]
    orig, resp, port, first = (
        column[rows].tolist() for column in (table.orig_h, table.resp_h, table.resp_p, table.first_ns)
    )
    numbers = rows.tolist()
    doubtful = (table.odd[rows] & _OPEN_READINGS != 0).tolist()
    sessions = []
    for k in places:
        reading = _session_of(groups[group_of[k]])
        if reading is not None:
            links = table.facts[numbers[k]].own
            ends = orig[k], resp[k], port[k]
            sessions.append(Session(k, first[k], ends, reading, links, bool(doubtful[k])))
    settled: dict[tuple[int, int, bool], int] = {}
    names: dict[int, str] = {}
    # What a session goes back to is a full handshake, whose group stays as it is.
    for place, origin in origins(sessions).items():
        key = group_of[place], group_of[origin.row], origin.mixed
        if key not in settled:
            group, source = groups[key[0]], groups[key[1]]
            if group.tls is None or source.tls is None:
                continue
            reading = replace(group.tls, settled=inherit(group.tls, source.tls, _ORIGIN, mixed=origin.mixed))
            settled[key] = len(groups)
            said = judge(group.seen, group.wanted, reading)
            groups.append(replace(group, tls=reading, said=said, made={}))
        group_of[place] = settled[key]
        names[place] = bytes(table.id[numbers[origin.row]]).decode()
    return names


def _session_of(group: _Group) -> TlsReading | None:
    return group.tls if group.facts is not None else None


def _downgraded(
    table: ConnectionTable,
    rows: NDArray[np.intp],
    groups: list[_Group],
    group_of: list[int],
    policy: Policy,
    classes: Sequence[Classification],
) -> dict[int, tuple[Fault, ...]]:
    """Faults of pairs that tried the documented protection, failed, and went on without it."""
    failed_groups = {k for k, group in enumerate(groups) if group.tls is not None and group.tls.outcome == REFUSED}
    if not failed_groups:
        return {}
    bare_groups = {k for k, group in enumerate(groups) if _unprotected(group, policy, classes)}

    def tries(which: set[int]) -> list[Try]:
        found = []
        for place, row in enumerate(rows.tolist()):
            if group_of[place] not in which:
                continue
            port = int(table.resp_p[row])
            group = groups[group_of[place]]
            kind = "ssh" if group.seen.host_port else "nats" if port in NATS_PORTS else ""
            found.append(
                Try(
                    row,
                    int(table.first_ns[row]),
                    int(table.last_ns[row]),
                    int(table.orig_h[row]),
                    int(table.resp_h[row]),
                    port,
                    kind,
                )
            )
        return found

    found: dict[int, tuple[Fault, ...]] = {}
    for before, after in downgrades(tries(failed_groups), tries(bare_groups)):
        names = [bytes(table.id[each.row]).decode() for each in (before, after)]
        apart_ns = after.first_ns - before.first_ns
        later = f"{apart_ns / 1e9:.1f} s" if apart_ns >= 1_000_000_000 else f"{apart_ns / 1e6:.0f} ms"
        confidence = "high" if before.port == after.port or before.kind == "nats" else "medium"
        where = "" if before.port == after.port else f" on port {after.port}"
        says = f"TLS was tried in connection {names[0]} and failed; {later} later connection {names[1]} went on without it{where}"
        fault = Fault("authentication-downgrade", says, confidence, ("tls.client_hello",))
        for each in (before, after):
            found[each.row] = (*found.get(each.row, ()), fault)
    return found


def _unprotected(group: _Group, policy: Policy, classes: Sequence[Classification]) -> bool:
    """It was accepted without the protection that its path documents, or that its service also has."""
    if group.tls is not None:
        if "mutual_tls" not in group.wanted.words and not group.seen.host_port:
            return False
        return judge_mutual(group.tls).verdict is Verdict.VIOLATED
    if in_clear(group.seen).outcome != "accepted":
        return False
    if group.seen.application == "ssh":
        return group.seen.host_port
    if not is_clear(group.seen.application):
        return False
    words = group.wanted.words
    paths = [policy.by_id[path] for path in classes[group.class_id].paths if path in policy.by_id]
    nats = group.seen.application == "nats" and any(path.application == "NATS" for path in paths)
    return nats or group.wanted.https or bool(words & {"tls", "mutual_tls"})


# Answers


_OUTCOMES = {ACCEPTED: "served", REFUSED: "refused"}
"""What TLS and what is in the clear calls them alike, in the report's words."""


def _outcome(group: _Group) -> str:
    """Whether the attempt was served, apart from whether the documented authentication took place."""
    said, tls, seen = group.said, group.tls, group.seen
    if said.verdict is Verdict.REJECTED:
        return "refused"
    if tls is not None:
        return "unknown" if tls.doubt else _OUTCOMES.get(tls.outcome, "unknown")
    return _OUTCOMES.get(in_clear(seen).outcome, "unknown")


def _authentication(group: _Group, policy: Policy, extra: tuple[Fault, ...]) -> Authentication:
    said, tls, seen = group.said, group.tls, group.seen
    faults = [*said.faults, *cleartext_credentials(seen, group.wanted, tls)]
    if tls is not None and tls.outcome != REFUSED:
        faults += weak_tls(tls.version, seen.facts.get("tls.cipher"), policy.settings)
    if said.verdict is Verdict.REJECTED:
        faults.append(Fault("authentication-rejected", said.says, said.confidence or "high", said.kinds))
    elif said.verdict is Verdict.UNVERIFIABLE:
        faults.append(Fault("unverifiable-authentication", said.says, "high", said.kinds, said.missing or ""))
    return Authentication(
        required=group.required,
        observed=observed(seen, said, tls),
        verdict=said.verdict,
        confidence=said.confidence,
        outcome=_outcome(group),
        factors=tuple(Factor(name, each.verdict, each.says) for name, each in said.factors),
        faults=tuple(dict.fromkeys((*faults, *extra))),
        kinds=tuple(dict.fromkeys(said.kinds)),
        counted=said.counted,
        missing=said.missing,
        client_certificate=None if tls is None else tls.inferred_certificate,
    )
