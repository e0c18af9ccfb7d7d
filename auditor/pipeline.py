"""The whole audit, as one function that reads like the way of the data.

frames -> packets -> connections and their first bytes -> evidence -> policy -> rules -> audit. Each capture is followed by itself into
a ``TrackedPart``; parts are joined, and only then is anything judged: so it is the same whether one process follows all captures or many do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from auditor import quoting
from auditor.capture import expand, open_capture
from auditor.catalogue import discover
from auditor.conntrack import (
    BY_GUESS,
    BY_POLICY,
    TrackedPart,
    Tracker,
    TrackLimits,
    View,
    build_table,
    decide_originators,
    in_order,
    merge,
)
from auditor.decode import Decoder, guess_link_type, relinked
from auditor.errors import InputError
from auditor.inspectors._examine import Examiner
from auditor.model.connections import ConnectionTable, transport_name
from auditor.model.facts import FOLLOWED, ROLES, Facts
from auditor.model.frames import DATED_NS, Capture, Problem, vantage_name
from auditor.model.limits import DEFAULTS, Limits, memory_allowed, memory_held, told
from auditor.model.packets import STOP_DEPTH, STOP_MALFORMED, STOP_NAMES, STOP_TRUNCATED, STOP_UNSUPPORTED_LINK
from auditor.model.version import VERSION
from auditor.nat import Reading, merge_nat
from auditor.policy.addresses import to_text
from auditor.wire import link
from auditor.wire.pcap import LINKTYPE_NAMES
from auditor.wire.text import many

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

    from auditor.model.audit import Audit
    from auditor.model.judgement import Authentication, Classification
    from auditor.model.tables import Ends
    from auditor.pass_state import PassState
    from auditor.policy.certificates import Attribution, Certificate, CertificateJudge
    from auditor.policy.classify import Classifier, End
    from auditor.policy.infer import Service
    from auditor.policy.inventory import Inventory
    from auditor.policy.learnt import Learnt
    from auditor.policy.policy import Policy
    from auditor.tshark.proof import Proof

# What judges, and what makes DataFrames, is imported where it is used: a bare table of connections needs none of it, and should not wait.

Source = str | BinaryIO


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it is."""

    path: str
    packets: int
    bytes: int
    total_bytes: int | None
    """None: some input does not tell its size."""
    doing: str = ""
    """What is done now that all is read, as a person is told; empty: reading."""


@dataclass(frozen=True, slots=True)
class Followed:
    """One capture, followed to its end."""

    capture: Capture
    part: TrackedPart
    certificates: Mapping[str, bytes]
    """DER by fingerprint."""
    has_secrets: bool = False
    """The capture holds keys of TLS sessions itself (Decryption Secrets Blocks)."""


Follow = Callable[[Sequence[Source], Mapping[str, Any], Callable[[Progress], None] | None], Iterable[Followed]]
"""Follows captures, one after the other or in many processes; gives them in the order of the sources."""


def run(
    sources: Sequence[Source],
    *,
    policy: Policy,
    inventory: Inventory | None,
    options: Mapping[str, Any],
    progress: Callable[[Progress], None] | None = None,
    follow: Follow | None = None,
    warn: Callable[[str], None] | None = None,
    pass_state: PassState | None = None,
    within: Callable[[ConnectionTable], NDArray[np.bool_]] | None = None,
) -> Audit:
    """Audit captures.

    ``options``: scope, strict, linktype, ... (``auditor.api.audit``); ``ca`` are ``Authorities``. ``warn`` is reported in a line what could not
    be done and hinders nothing. ``pass_state``: what earlier passes hand to this one; afterwards, what this one hands to the next. ``within`` says
    which connections the report is about; the others are there for what they tell of these (a full handshake before a resumed
    session). Raises InputError where nothing could be audited.
    """
    from auditor.incidents import shown_certificates
    from auditor.model.audit import Audit, Judged
    from auditor.model.tables import (
        captures_table,
        connections_table,
        coverage_table,
        findings_table,
        judged_columns,
        tell_inferred_certificates,
    )
    from auditor.policy import readings
    from auditor.policy.certificates import forget, judge_for
    from auditor.policy.classify import Classifier
    from auditor.policy.inventory import span_text
    from auditor.policy.times import time_text
    from auditor.rules._explained import fold, told_apart
    from auditor.rules._subject import identify

    started = datetime.now(UTC)
    said: list[str] = []

    def tell(says: str) -> None:
        said.append(says)
        if warn is not None:
            warn(says)

    far: list[Progress] = []

    def note(now: Progress) -> None:
        far[:] = [now]
        if progress is not None:
            progress(now)

    gathered = _gather(sources, _of_reading(options), None if progress is None else note, follow, pass_state, inventory)
    if far:
        note(replace(far[0], doing=f"judging {len(gathered.whole.rows):,} connections"))
    whole, captures, certificates, examiner = (
        gathered.whole,
        gathered.captures,
        gathered.certificates,
        gathered.examiner,
    )
    side, by = decide_originators(whole)
    table = build_table(whole, side, by, examiner.applications)
    if pass_state is not None:
        table = pass_state.named(table, _order_of(whole, table))
    judge = judge_for(certificates, policy, options)
    if inventory is None:
        from auditor.policy.infer import infer_inventory

        who = infer_inventory(services_of(table, judge.describe), policy)
    else:
        who = inventory
    classes, class_of = _classify(table, Classifier(policy, who, options.get("scope") or "diego"), who, whole.quotes)
    turned = np.array([each.flipped for each in classes], np.bool_)[class_of]
    confirmed = np.array([each.decided_by_policy for each in classes], np.bool_)[class_of]
    if turned.any() or confirmed.any():
        # The policy had the last word on who opened these; the table is made again with it.
        order = _order_of(whole, table)
        side[order[turned]] = 1 - side[order[turned]]
        by[order[turned | confirmed]] = BY_POLICY
        table = build_table(whole, side, by, examiner.applications)
    table = readings.told(quoting.told(_by_roles(table, side[_order_of(whole, table)]), whole.quotes))
    seen = _seen_by(captures, whole)
    if pass_state is None:
        # Nobody asks the records any more: the room goes to what is made of them.
        whole.rows = whole.rows[:0].copy()
    else:
        table = pass_state.named(table, _order_of(whole, table))
    judging = {**options, "inventory": who}
    ends = _ends(table, who)
    answers = _judge(table, classes, class_of, certificates, policy, judging, ends)
    table, shown, otherwise = _opened(table, answers, gathered, options.get("keylog"), tell)
    if shown:
        if otherwise:
            classes, class_of = _classify(
                table, Classifier(policy, who, options.get("scope") or "diego"), who, whole.quotes
            )
        # What keys showed of one connection may say more of another: the session that it resumes, the attempt before it.
        answers = _judge(table, classes, class_of, {**certificates, **shown.certificates}, policy, judging, ends)
    classes, class_of, authentications = answers.classes, answers.class_of, answers.authentications
    if table.odd.any():
        authentications = _weighed(
            table, answers, Classifier(policy, who, options.get("scope") or "diego"), certificates, judging, whole, ends
        )
    names = answers.learnt.names
    describe = judge_for({**certificates, **(shown.certificates if shown else {})}, policy, judging).describe
    count: Callable[[pd.DataFrame], pd.DataFrame] | None = None
    if pass_state is not None:
        authentications = pass_state.inherited(table.facts, authentications)
        pass_state.certificates = {**pass_state.certificates, **certificates}
        order = _order_of(whole, table)
        count = pass_state.settle(whole, order, side, table, authentications, whole.pending)
    forget()
    connections = connections_table(table, _texts(table), _vantages(captures, whole.places), ends)
    for name, column in judged_columns(classes, class_of, authentications, table.facts).items():
        connections[name] = column
    tls = connections["tls"].to_numpy(dtype=object).copy()
    tell_inferred_certificates(tls, authentications)
    connections["tls"] = tls
    wanted = None if within is None else within(table)
    # What the columns hold need not be held twice while the rules look at them.
    del table, classes, class_of, authentications, answers
    _fall_back_on_inventory(connections)
    if count is not None:
        connections = count(connections)
    if wanted is not None:
        connections = connections[wanted].reset_index(drop=True)
    certified = shown_certificates(connections, describe)
    judged = Judged(connections, who, policy, dict(options))
    findings = told_apart(fold(finding for rule in discover("auditor.rules", "RULE") for finding in rule.check(judged)))
    found, part_of = findings_table(findings, identify(findings), connections)
    connections["findings"] = part_of
    sufficiency = _sufficiency(connections, captures, whole, options)
    summary = _summary(connections, found, sufficiency, who if inventory is not None else None)
    info = {
        "started": started,
        "finished": datetime.now(UTC),
        "version": VERSION,
        "policies": list(policy.sources),
        "inventories": list(who.sources) if inventory is not None else [],
        "options": _told(options),
    }
    window = {name: options.get(f"{name}_ns") for name in ("since", "until")}
    if any(at is not None for at in window.values()):
        info["window"] = {name: None if at is None else time_text(at) for name, at in window.items()}
    if who.platform_networks:
        info["platform_networks"] = [span_text(each) for each in who.platform_networks[:_MOST_NETWORKS]]
    if inventory is not None and who.conflicts:
        info["conflicts"] = list(who.conflicts[:_MOST_CONFLICTS])
    doubts = [*(who.warnings if inventory is not None else ()), *said]
    if doubts:
        info["warnings"] = doubts[:_MOST_CONFLICTS]
    info = {"id": _audit_id(info, captures), **info}
    declared = (*policy.paths, *policy.ambient_paths)
    covered = coverage_table(declared, connections)
    covered["origin"] = [(path.origin.file, path.origin.line or 1) for path in declared]  # for SARIF
    if pass_state is not None:
        pass_state.name(str(info["id"]))
    return Audit(info, summary, captures_table(captures, seen), connections, found, covered, names, certified)


@dataclass(frozen=True, slots=True)
class _Answers:
    """What the policy says of each connection."""

    classes: list[Classification]
    class_of: NDArray[np.int32]
    authentications: Sequence[Authentication]
    learnt: Learnt


def _judge(
    table: ConnectionTable,
    classes: Sequence[Classification],
    class_of: NDArray[np.int32],
    certificates: Mapping[str, bytes],
    policy: Policy,
    options: Mapping[str, Any],
    ends: Ends,
) -> _Answers:
    from auditor.policy.authenticate import authenticate
    from auditor.policy.certificates import judge_for
    from auditor.policy.learnt import learn

    judge = judge_for(certificates, policy, options)
    told, which = attribute(table.facts, classes, class_of, judge)
    learnt = learn(table, told, which, judge, options["inventory"], (ends.originator, ends.responder, ends.hosts))
    answers = authenticate(table, told, which, certificates=certificates, policy=policy, options=options, learnt=learnt)
    return _Answers(told, which, answers, learnt)


def _weighed(
    table: ConnectionTable,
    answers: _Answers,
    classifier: Classifier,
    certificates: Mapping[str, bytes],
    options: Mapping[str, Any],
    whole: TrackedPart,
    ends: Ends,
) -> list[Authentication]:
    """The answers with regard to packets that contradict each other: the other reading of streams is judged as the first was, among all connections."""
    from auditor.policy import readings

    first = readings.Judged(answers.classes, answers.class_of, answers.authentications)
    otherwise = readings.other(table)
    if otherwise is None:
        return readings.weighed(table, first, None)
    classes, class_of = _classify(otherwise, classifier, options["inventory"], whole.quotes)
    judged = _judge(otherwise, classes, class_of, certificates, classifier.policy, options, ends)
    second = readings.Judged(judged.classes, judged.class_of, judged.authentications)
    return readings.weighed(table, first, second)


def _opened(
    table: ConnectionTable,
    answers: _Answers,
    gathered: _Gathered,
    keylog: str | None,
    warn: Callable[[str], None],
) -> tuple[ConnectionTable, Proof | None, bool]:
    """The table with what keys show of the connections that the wire leaves open (None: they show nothing), and whether anything else is
    spoken inside than was known."""
    if keylog is None and not any(gathered.secrets):
        return table, None, False
    plain = table.applications.index("tls")
    left_open = [
        row
        for row, (answer, facts) in enumerate(zip(answers.authentications, table.facts, strict=True))
        if facts is not None and "tls.server_hello" in facts and _hides(answer, facts, table.application[row] == plain)
    ]
    from auditor.tshark.proof import prove  # few audits have keys, and it takes its time to load

    log = None if keylog is None else Path(keylog)
    proof = prove(table, left_open, gathered.captures, gathered.secrets, _texts(table), log)
    for problem in proof.problems:
        warn(problem)
    if not proof.facts:
        return table, None, False
    facts, application = list(table.facts), table.application.copy()
    https = table.applications.index("https")
    otherwise = False
    for row, found in proof.facts.items():
        facts[row] = found
        if application[row] == plain and "http.version" in found:
            application[row] = https
    for row, streams in proof.inside.items():
        read = gathered.examiner.inside(streams)
        if read is None:
            continue
        name, inner = read
        facts[row] = _with_inner(proof.facts[row], inner)
        spoken = https if name == "http" else table.applications.index(name)
        otherwise = otherwise or (spoken != application[row] and spoken != https)
        application[row] = spoken
    return replace(table, facts=tuple(facts), application=application), proof, otherwise


def _hides(answer: Authentication, facts: Facts, unknown: bool) -> bool:
    """The wire leaves something open of this connection: its verdict, the server's certificate, or (``unknown``) what is spoken inside."""
    from auditor.model.judgement import Verdict

    if answer.verdict in (Verdict.INFERRED, Verdict.UNVERIFIABLE):
        return True
    certified = "tls.server_certificates" in facts or "tls.resumed" in facts
    return answer.verdict is Verdict.VERIFIED and (unknown or not certified)


def _with_inner(outer: Facts, inner: Facts) -> Facts:
    """The facts of a TLS session with those of what is spoken inside, which know nothing of how it came to TLS."""
    values = {kind: value for kind, value in inner.shared.items() if kind not in _OF_UPGRADE}
    own = {kind: value for kind, value in outer.own.items() if kind not in values}
    certainties = {**outer.certainties, **inner.certainties}
    return Facts({**outer.shared, **values}, own, (*inner.marks, *outer.marks), certainties)


_OF_UPGRADE = frozenset({"mysql.ssl_request", FOLLOWED})


def connections(
    sources: Sequence[Source],
    *,
    policy: Policy | None = None,
    inventory: Inventory | None = None,
    options: Mapping[str, Any],
    progress: Callable[[Progress], None] | None = None,
    follow: Follow | None = None,
) -> Audit:
    """The connection table alone: no policy has judged it, and its other tables are empty."""
    import pandas as pd

    from auditor.model.audit import Audit
    from auditor.model.tables import captures_table, connections_table

    del policy
    started = datetime.now(UTC)
    found = bare(sources, options=options, progress=progress, follow=follow)
    table, captures = found.table, found.captures
    ends = _ends(table, inventory)
    shown = connections_table(table, found.texts(), found.vantages(), ends, evidence=options.get("evidence", True))
    info = {"started": started, "finished": datetime.now(UTC), "version": VERSION, "options": _told(options)}
    info = {"id": _audit_id(info, captures), **info, "policies": [], "inventories": []}
    summary = {"connections": len(shown)}
    return Audit(info, summary, captures_table(captures, found.seen), shown, pd.DataFrame(), pd.DataFrame())


@dataclass(frozen=True, slots=True)
class Bare:
    """Connections that nobody judged, as columns of codes."""

    table: ConnectionTable
    captures: Sequence[Capture]
    places: Sequence[tuple[int, int]]
    seen: Sequence[Mapping[str, Any]]
    """What each capture amounts to beside the others."""

    def texts(self) -> list[str]:
        """``table.addresses`` as text."""
        return _texts(self.table)

    def vantages(self) -> list[str]:
        """A name for each place."""
        return _vantages(self.captures, self.places)


def bare(
    sources: Sequence[Source],
    *,
    options: Mapping[str, Any],
    progress: Callable[[Progress], None] | None = None,
    follow: Follow | None = None,
) -> Bare:
    """The connections, without making DataFrames of them."""
    gathered = _gather(sources, options, progress, follow)
    whole, captures = gathered.whole, gathered.captures
    side, by = decide_originators(whole)
    table = build_table(whole, side, by, gathered.examiner.applications)
    return Bare(table, captures, whole.places, _seen_by(captures, whole))


def services(
    sources: Sequence[Source],
    *,
    options: Mapping[str, Any],
    progress: Callable[[Progress], None] | None = None,
    follow: Follow | None = None,
) -> list[Service]:
    """What each address serves, and to whom: what roles are inferred from."""
    gathered = _gather(sources, options, progress, follow)
    side, by = decide_originators(gathered.whole)
    table = build_table(gathered.whole, side, by, gathered.examiner.applications)
    return services_of(table, describer(gathered.certificates))


def _told(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a report tells them."""
    shown = {key: value for key, value in sorted(options.items()) if key not in ("workers", "progress")}
    authorities = shown.get("ca")
    if authorities is not None:
        shown["ca"] = list(authorities.specs)
    if "limits" in shown:
        shown["limits"] = shown["limits"].changed()
    if "growth" in shown:
        shown["follow"] = shown.pop("growth") is not None
    return shown


# Reading


def _of_reading(options: Mapping[str, Any]) -> dict[str, Any]:
    """What decides how captures are followed, wherever that is done."""
    return {key: options[key] for key in ("linktype", "evidence", "limits", "growth", "skip") if key in options}


@dataclass(frozen=True, slots=True)
class _Gathered:
    """All captures, followed and joined."""

    whole: TrackedPart
    captures: Sequence[Capture]
    secrets: Sequence[bool]
    """Whether each capture holds keys of TLS sessions."""
    certificates: Mapping[str, bytes]
    examiner: Examiner


def _gather(
    sources: Sequence[Source],
    options: Mapping[str, Any],
    progress: Callable[[Progress], None] | None,
    follow: Follow | None,
    pass_state: PassState | None = None,
    inventory: Inventory | None = None,
) -> _Gathered:
    """All captures followed and joined; ``inventory`` says which side of a NAT is the platform's. Raises InputError where none could be read."""
    found: list[Source] = []
    for source in sources:
        found.extend(expand([source]) if isinstance(source, str) else [source])
    found = list(dict.fromkeys(found))
    if not found:
        raise InputError("captures", "none were named")
    limits: Limits = options.get("limits", DEFAULTS)
    if len(found) > limits.captures:
        raise InputError("captures", told("captures", limits, f"{len(found)} are too many"))
    followed = _within((follow or follow_here)(found, options, progress), limits)
    captures = [each.capture for each in followed]
    usable = [each for each in captures if not any(problem.kind == "unreadable" for problem in each.problems)]
    if not usable:
        first = captures[0]
        raise InputError(first.path, first.problems[0].says)
    certificates: dict[str, bytes] = {} if pass_state is None else dict(pass_state.certificates)
    for each in followed:
        certificates.update(each.certificates)
    examiner = Examiner(collect=options.get("evidence", True), limits=limits)
    # In the order of their packets: a connection that spans two files is one.
    parts = sorted((each.part for each in followed), key=lambda part: (part.first_ns is None, part.first_ns or 0))
    if pass_state is not None:
        parts = [pass_state.begin(), *parts]
    whole = merge(parts, examiner, TrackLimits.of(limits), keep_pending=pass_state is not None)
    if pass_state is None:
        again = [
            source for _, source in sorted(zip(captures, found, strict=False), key=lambda each: each[0].first_ns or 0)
        ]
        merge_nat(whole, _knows(inventory), _foreign(inventory), Reading(again, options.get("linktype"), limits))
    certificates.update(examiner.certificates.der)
    captures[0] = _told_limits(captures[0], limits, examiner.hits)
    return _Gathered(whole, captures, [each.has_secrets for each in followed], certificates, examiner)


def _knows(inventory: Inventory | None) -> Callable[[int], bool]:
    """Whether an address is, at some time, one of the inventory's."""
    if inventory is None:
        return lambda _: False
    moments = [_moment(inventory, period) for period in range(len(inventory.boundaries_ns) + 1)]
    return lambda address: any(inventory.lookup(address, moment) is not None for moment in moments)


def _foreign(inventory: Inventory | None) -> Callable[[int], bool]:
    """Whether an address is none of the platform's, as far as an inventory tells."""
    if inventory is None:
        return lambda _: True
    known = _knows(inventory)
    return lambda address: not (known(address) or inventory.platform(address))


def _within(followed: Iterable[Followed], limits: Limits) -> list[Followed]:
    """All captures, with no more connections than may be held together: what a later capture has beyond is given up and told."""
    kept: list[Followed] = []
    left = limits.connections
    for each in followed:
        part = each.part
        beyond = part.rows[left:]
        if len(beyond):
            packets = int(beyond["side"]["pkts"].sum())
            part.rows, part.facts = part.rows[:left].copy(), part.facts[:left]
            part.rows["outer"][part.rows["outer"] >= left] = -1
            part.pending = {row: head for row, head in part.pending.items() if row < left}
            part.samples = part.samples[part.samples["row"] < left]
            part.odds = part.odds[part.odds["row"] < left]
            part.second = {row: told for row, told in part.second.items() if row < left}
            part.early = part.early[part.early["row"] < left]
            hits = {"connections": packets}
            each = replace(each, capture=_told_limits(each.capture, limits, hits))  # noqa: PLW2901 - the same, told
        left -= len(part.rows)
        kept.append(each)
    return kept


def follow_here(
    sources: Sequence[Source], options: Mapping[str, Any], progress: Callable[[Progress], None] | None
) -> Iterator[Followed]:
    """Follow captures one after the other, in this process."""
    before = _Before()
    for index, source in enumerate(sources):
        yield follow_one(source, index, options, len(sources) == 1, progress, before)


@dataclass(slots=True)
class _Before:
    """What earlier captures amounted to, for progress."""

    packets: int = 0
    bytes: int = 0


def follow_one(
    source: Source,
    index: int,
    options: Mapping[str, Any],
    alone: bool,
    progress: Callable[[Progress], None] | None = None,
    before: _Before | None = None,
) -> Followed:
    """Follow one capture to its end; what is wrong with it is reported in its ``Capture``, not raised (unless it is ``alone``)."""
    before = before or _Before()
    limits: Limits = options.get("limits", DEFAULTS)
    examiner = Examiner(collect=options.get("evidence", True), limits=limits)
    tracker = Tracker(examiner, capture=index, alone=alone, limits=TrackLimits.of(limits))
    wanted = options.get("linktype")
    try:
        reader = open_capture(source, link_type=wanted, limits=limits, growth=options.get("growth"))
    except InputError as error:
        if alone:
            raise
        problem = Problem("unreadable", error.says, offset=error.offset)
        nothing = Capture(error.path, "unknown", 0, 0, None, None, 6, (), None, (problem,))
        return Followed(nothing, tracker.finish(), {})
    decoder = Decoder(max_depth=limits.tunnel_depth)
    corrected: int | None = None
    cut = longest = 0
    most, looked = memory_allowed(limits), 0
    skip = int((options.get("skip") or {}).get(source, 0)) if isinstance(source, str) else 0
    skipped, spans = 0, list[int]()
    with reader:
        for batch in reader.batches():
            short = batch.caplen_bytes < batch.wirelen_bytes
            if short.any():
                cut, longest = cut + int(short.sum()), max(longest, int(batch.caplen_bytes[short].max()))
            if batch.first_frame_no == 1 and wanted is None:
                corrected = guess_link_type(batch)
            taken = batch if corrected is None else relinked(batch, corrected)
            if skip:
                spare = min(skip - skipped, len(taken))
                taken, skipped = taken.without(spare), skipped + spare
                if not len(taken):
                    continue
                spans += [int(taken.ts_ns.min()), int(taken.ts_ns.max())]
            for packets in decoder.decode(taken):
                tracker.feed(packets, batch.buf)
            if len(tracker) >= looked + _LOOK_CONNECTIONS:
                looked = len(tracker)
                if memory_held() > most:
                    tracker.hold_no_more()
            if progress is not None:
                progress(
                    Progress(
                        reader.name,
                        before.packets + decoder.frames,
                        before.bytes + reader.read_bytes,
                        None if reader.total_bytes is None else before.bytes + reader.total_bytes,
                    )
                )
        left = decoder.finish()
        if len(left):
            tracker.feed(left, np.zeros(1, np.uint8))
        capture = reader.summary()
    before.packets += decoder.frames
    before.bytes += capture.bytes
    if skipped:
        capture = _continued(capture, skipped, spans)
    if corrected is not None:
        capture = _told_corrected(capture, corrected)
    if cut:
        says = f"{cut:,} of {capture.packets:,} packets are cut short, to {longest:,} octets at the most"
        capture = replace(capture, problems=(*capture.problems, Problem("cut", says)))
    part = tracker.finish()
    hits = {**part.hits, **examiner.hits, "tunnel_depth": int(decoder.stops[STOP_DEPTH])}
    if len(examiner.certificates):
        capture = _told_undated(capture, part)
    capture = _told_unread(_told_misdated(capture, part), decoder, len(part.rows))
    capture = _told_limits(capture, replace(limits, memory_bytes=most), hits)
    return Followed(capture, part, dict(examiner.certificates.der), reader.has_secrets)


def _continued(capture: Capture, skipped: int, spans: Sequence[int]) -> Capture:
    """A capture that has grown, without the packets that were audited before."""
    says = f"its first {many(skipped, 'packet')} {'was' if skipped == 1 else 'were'} audited before, and {'is' if skipped == 1 else 'are'} not counted again"
    first, last = (min(spans), max(spans)) if spans else (None, None)
    return replace(
        capture,
        packets=capture.packets - skipped,
        first_ns=first,
        last_ns=last,
        problems=(*capture.problems, Problem("continued", says)),
    )


_LOOK_CONNECTIONS = 4_096
"""After so many more connections it is looked at how much memory there is."""

_HIT = {
    "connections": "{} packets belong to connections beyond those that are held; they are in no connection",
    "memory_bytes": "{} packets belong to connections for which there was no memory; they are in no connection",
    "first_bytes": "the first bytes of {} connections were given up before they were whole",
    "waiting_bytes": "{} connections were judged without waiting for what other captures hold of them",
    "tunnel_depth": "{} packets carry tunnels that were not opened",
    "certificate_bytes": "{} certificates are too large to be read",
    "certificates_bytes": "{} certificates were not kept",
    "line_bytes": "{} connections have lines that were not read to their end",
}
"""What a limit cost when it was hit so often."""


def _told_limits(capture: Capture, limits: Limits, hits: Mapping[str, int]) -> Capture:
    """The capture with a problem for each limit that was hit."""
    found = [
        Problem("limit", told(name, limits, says.format(hits[name]))) for name, says in _HIT.items() if hits.get(name)
    ]
    return replace(capture, problems=(*capture.problems, *found)) if found else capture


def _told_unread(capture: Capture, decoder: Decoder, connections: int) -> Capture:
    """The capture with a problem where frames are of a link type or in an encapsulation that nobody reads here, or where no connection came of it
    because most headers make no sense."""
    says, stops = None, decoder.stops
    inside = [
        f"{count:,} of {capture.packets:,} frames are in {link.UNREAD[kind]} (EtherType 0x{kind:04X}), which is not read; what it carries is in no connection"
        for kind, count in sorted(decoder.unread.items())
    ]
    capture = replace(capture, problems=(*capture.problems, *(Problem("unsupported", each) for each in inside)))
    unread = int(stops[STOP_UNSUPPORTED_LINK])
    if unread:
        kinds = sorted({point.link_type for point in capture.vantage_points})
        which = f"link type {kinds[0]}" if len(kinds) == 1 else f"one of the link types {', '.join(map(str, kinds))}"
        says = f"{unread:,} of {capture.packets:,} frames are of {which}, which is not read; they are in no connection"
    elif not connections and 2 * int(stops[STOP_TRUNCATED] + stops[STOP_MALFORMED]) > capture.packets:
        # Not where it holds ARP and the like alone: an idle interface is no loss.
        why = [f"{name}: {int(stops[code]):,}" for code, name in STOP_NAMES.items() if stops[code]]
        says = f"of {capture.packets:,} frames none is in a connection; {', '.join(why)}"
    if says is None:
        return capture
    return replace(capture, problems=(*capture.problems, Problem("unsupported", says)))


def _told_misdated(capture: Capture, part: TrackedPart) -> Capture:
    """The capture with a remark where packets are dated far from the rest of their connection."""
    strays = part.rows["strays"]
    if not strays.any():
        return capture
    says = f"{int(strays.sum()):,} packets of {int((strays > 0).sum()):,} connections are dated more than a year away from the others: these dates are not believed"
    return replace(capture, problems=(*capture.problems, Problem("misdated", says)))


def _told_undated(capture: Capture, part: TrackedPart) -> Capture:
    """The capture, in which there are certificates, with a remark where it does not say on which day connections were."""
    if part.first_ns is None or part.first_ns >= DATED_NS:
        return capture
    count = int((part.rows["first_ns"] < DATED_NS).sum())
    says = f"{count:,} of {len(part.rows):,} connections have no date: nobody can say whether their certificates had expired"
    return replace(capture, problems=(*capture.problems, Problem("undated", says)))


def _told_corrected(capture: Capture, link_type: int) -> Capture:
    """The capture with a remark that its header gives a link type that its frames do not have."""
    claimed = LINKTYPE_NAMES.get(capture.vantage_points[0].link_type, "another")
    says = f"its header says {claimed}, its frames are {LINKTYPE_NAMES.get(link_type, str(link_type))}: read as such"
    points = tuple(replace(point, link_type=link_type) for point in capture.vantage_points)
    return replace(capture, vantage_points=points, problems=(*capture.problems, Problem("corrected", says)))


# Inventory and classification


def _texts(table: ConnectionTable) -> list[str]:
    return [to_text(address) for address in table.addresses]


def _vantages(captures: Sequence[Capture], places: Sequence[tuple[int, int]]) -> list[str]:
    """A name for each place: the interface where a capture has several, else what the capture says of itself, else its path."""
    names = []
    for index, interface in places:
        capture = captures[index]
        points = capture.vantage_points
        several = len(points) > 1 and interface < len(points)
        own = (points[interface].interface or points[interface].name) if several else vantage_name(capture)
        names.append(own or (f"{capture.path} interface {interface}" if several else capture.path))
    return [
        name if names.count(name) == 1 else f"{captures[index].path}: {name}"
        for name, (index, _) in zip(names, places, strict=True)
    ]


def _seen_by(captures: Sequence[Capture], whole: TrackedPart) -> list[dict[str, Any]]:
    """What each capture amounts to beside the others."""
    unseen = [0] * len(captures)
    sights = whole.sights
    lacking = np.maximum(whole.rows["side"]["pkts"][sights["row"]] - sights["pkts"], 0).sum(axis=1)
    for masks, count in zip(sights["places"].tolist(), lacking.tolist(), strict=True):
        for capture in {capture for k, (capture, _) in enumerate(whole.places) if masks >> min(k, 63) & 1}:
            unseen[capture] += count
    told = []
    for index in range(len(captures)):
        view = whole.views.get(index, View())
        clock = None
        if view.against is not None and view.ahead_ns is not None:
            clock = {
                "against": view.against,
                "ahead_s": view.ahead_ns / 1e9,
                "delay_s": None if view.delay_ns is None else view.delay_ns / 1e9,
                "packets": view.shared,
            }
        told.append({"doubled": view.doubled, "clock": clock, "unseen": unseen[index]})
    return told


def _ends(table: ConnectionTable, inventory: Inventory | None) -> Ends:
    """Inventory entries of both ends, at the time of each connection."""
    from auditor.model.tables import Ends

    n = len(table)
    if inventory is None:
        nobody = np.full(n, -1, np.int32)
        return Ends(nobody, nobody, ())
    period = _periods(table, inventory)
    hosts: list[Any] = []
    known: dict[int, int] = {}
    sides = []
    count = len(inventory.boundaries_ns) + 1
    for address in (table.orig_h, table.resp_h):
        pairs, which = np.unique(address.astype(np.int64) * count + period, return_inverse=True)
        found = np.full(pairs.size, -1, np.int32)
        for k, pair in enumerate(pairs.tolist()):
            at, when = divmod(pair, count)
            host = inventory.lookup(table.addresses[at], _moment(inventory, when))
            if host is not None:
                place = known.setdefault(id(host), len(hosts))
                if place == len(hosts):
                    hosts.append(host)
                found[k] = place
        sides.append(found[which.reshape(-1)] if n else found[:0])
    return Ends(sides[0], sides[1], hosts)


def _periods(table: ConnectionTable, inventory: Inventory) -> NDArray[np.int32]:
    """Between which edges of leases each connection began; after all of them where it has no date."""
    edges = np.array(inventory.boundaries_ns, np.int64)
    began = np.searchsorted(edges, table.first_ns, side="right")
    return np.where(table.first_ns < DATED_NS, edges.size, began).astype(np.int32)


def _moment(inventory: Inventory, period: int) -> int:
    """A time in that period."""
    edges = inventory.boundaries_ns
    if not edges:
        return 0
    return edges[period - 1] if period > 0 else edges[0] - 1


def _classify(
    table: ConnectionTable, classifier: Classifier, inventory: Inventory, quotes: NDArray[np.void]
) -> tuple[list[Classification], NDArray[np.int32]]:
    """The classification of each connection: asked once for each kind of ends, stretch of ports and the rest, and put into words for its port."""
    import pandas as pd

    from auditor.model.judgement import Flow, Outcome
    from auditor.policy.classify import names_port

    n = len(table)
    if n == 0:
        return [], np.zeros(0, np.int32)
    guessed = table.direction_by == BY_GUESS
    periods = _periods(table, inventory)
    ends, end_of = _kinds_of_ends(table, periods, classifier, inventory)
    # Who opened it is known: ports of one stretch are alike.
    stretch = -2 - np.searchsorted(np.array(classifier.bounds, np.int64), table.resp_p, side="right")
    facts = pd.DataFrame(
        {
            "orig": end_of[0],
            "resp": end_of[1],
            "same": table.orig_h == table.resp_h,
            "port": np.where(guessed | (table.resp_p < 0), table.resp_p, stretch),
            "proto": table.proto,
            "application": table.application,
            "established": table.established,
            "guessed": guessed,
            "first_bytes": table.first_bytes,
            "orig_p": np.where(guessed, table.orig_p, -1),
            "about_others": quoting.about_others(table, quotes),
        }
    )
    number = facts.groupby(list(facts.columns), sort=False).ngroup().to_numpy().astype(np.int64)
    first = np.zeros(int(number.max()) + 1, np.int64)
    first[number[::-1]] = np.arange(n - 1, -1, -1)
    distinct: dict[int, int] = {}
    classes: list[Classification] = []

    def place(found: Classification) -> int:
        at = distinct.setdefault(id(found), len(classes))
        if at == len(classes):
            classes.append(found)
        return at

    of_flow = np.zeros(first.size, np.int32)
    named: list[tuple[int, Classification]] = []
    for k, row in enumerate(first.tolist()):
        resp_p, orig_p, by_guess = int(table.resp_p[row]), int(table.orig_p[row]), bool(guessed[row])
        flow = Flow(
            orig_h=table.addresses[table.orig_h[row]],
            resp_h=table.addresses[table.resp_h[row]],
            resp_p=None if resp_p < 0 else resp_p,
            transport=transport_name(int(table.proto[row])),
            application=table.applications[table.application[row]],
            outcome=Outcome.ESTABLISHED if table.established[row] else Outcome.ATTEMPT,
            directed=not by_guess,
            start_ns=_moment(inventory, int(periods[row])),
            first_bytes=bool(table.first_bytes[row]),
            orig_p=None if not by_guess or orig_p < 0 else orig_p,
            about_others=bool(facts["about_others"].iat[row]),
        )
        found = classifier.of_ends(ends[end_of[0][row]], ends[end_of[1][row]], flow)
        if names_port(found):
            named.append((k, found))
        else:
            of_flow[k] = place(found)
    class_of = of_flow[number]
    if named:
        _in_words(table, classifier, number, named, class_of, place)
    _distrust_tunnels(table, classes, class_of, inventory)
    _set_aside(table, classes, class_of)
    return classes, class_of


def _kinds_of_ends(
    table: ConnectionTable, periods: NDArray[np.int32], classifier: Classifier, inventory: Inventory
) -> tuple[list[End], list[NDArray[np.int32]]]:
    """What ends there are, and of which kind both of each connection are."""
    ends: list[End] = []
    known: dict[int, int] = {}
    sides = []
    count = len(inventory.boundaries_ns) + 1
    for address in (table.orig_h, table.resp_h):
        pairs, which = np.unique(address.astype(np.int64) * count + periods, return_inverse=True)
        kinds = np.zeros(pairs.size, np.int32)
        for k, pair in enumerate(pairs.tolist()):
            at, period = divmod(pair, count)
            end = classifier.end(table.addresses[at], _moment(inventory, period))
            kinds[k] = known.setdefault(id(end), len(ends))
            if kinds[k] == len(ends):
                ends.append(end)
        sides.append(kinds[which.reshape(-1)])
    return ends, sides


def _in_words(
    table: ConnectionTable,
    classifier: Classifier,
    number: NDArray[np.int64],
    named: Sequence[tuple[int, Classification]],
    class_of: NDArray[np.int32],
    place: Callable[[Classification], int],
) -> None:
    """Put answers into words for each connection's port. ``named``: of which questions (``number``) the answers name it; ``place``: numbers an answer."""
    answers = dict(named)
    asks = np.zeros(int(number.max()) + 1, np.bool_)
    asks[list(answers)] = True
    rows = np.flatnonzero(asks[number])
    keys, which = np.unique(number[rows] << 16 | table.resp_p[rows], return_inverse=True)
    told = [place(classifier.in_words(answers[key >> 16], key & 0xFFFF)) for key in keys.tolist()]
    class_of[rows] = np.array(told, np.int32)[which.reshape(-1)]


def _set_aside(table: ConnectionTable, classes: list[Classification], class_of: NDArray[np.int32]) -> None:
    """Of a connection that was seen on both sides of a NAT one row is judged for both."""
    from auditor.model.judgement import Classification, Disposition

    aside = [row for row, each in table.translated.items() if not each.judged]
    if aside:
        says = "the other side of a NAT of a connection that is judged (translated)"
        class_of[aside] = len(classes)
        classes.append(Classification(Disposition.OUT_OF_SCOPE, says=says))


def _distrust_tunnels(
    table: ConnectionTable, classes: list[Classification], class_of: NDArray[np.int32], inventory: Inventory
) -> None:
    """What a tunnel that is not the platform's carries is whatever its sender made up: on no path, and nobody's fault.

    A tunnel is the platform's where the policy declares it between these ends (VXLAN between cells). One between machines that are
    none of the platform's is how the capture came here (a mirror of a switch or a cloud), unless VMs of the platform talk beside it: then it is a
    container's.
    """
    from auditor.model.judgement import Classification, Disposition

    inside = np.flatnonzero(table.outer >= 0)
    if not inside.size:
        return
    trusted: dict[int, bool] = {}
    mirrored = not _talks_outside(table, inventory)

    def trust(row: int) -> bool:
        if row not in trusted:
            trusted[row] = True  # against tunnels in a circle, which nobody can make
            told, outer = classes[class_of[row]], int(table.outer[row])
            ends = [table.addresses[table.orig_h[row]], table.addresses[table.resp_h[row]]]
            moment = int(table.first_ns[row])
            ours = any(inventory.lookup(end, moment) is not None or inventory.platform(end) for end in ends)
            declared = bool(told.paths) and told.breach is None
            trusted[row] = (declared or (mirrored and not ours)) and (outer < 0 or trust(outer))
        return trusted[row]

    doubtful = [row for row in inside.tolist() if not trust(int(table.outer[row]))]
    if doubtful:
        says = "inside a tunnel that is not the platform's: whoever sent it made up what it carries"
        class_of[doubtful] = len(classes)
        classes.append(Classification(Disposition.OUT_OF_SCOPE, says=says))


def _talks_outside(table: ConnectionTable, inventory: Inventory) -> bool:
    """Whether VMs of the platform hold a connection of TCP with each other in no tunnel."""
    plain = np.flatnonzero((table.outer < 0) & table.established & (table.proto == _TCP))
    moments = table.first_ns[plain].tolist()
    ends = zip(table.orig_h[plain].tolist(), table.resp_h[plain].tolist(), moments, strict=True)
    return any(
        all(inventory.lookup(table.addresses[end], moment) is not None for end in (orig, resp))
        for orig, resp, moment in ends
    )


_TCP = 6
_MOST_NETWORKS = 256
_MOST_CONFLICTS = 100
"""So many of an inventory's are reported in the report; ``auditor inventory check`` tells all."""


def attribute(
    facts: Sequence[Facts | None],
    classes: Sequence[Classification],
    class_of: NDArray[np.int32],
    judge: CertificateJudge,
) -> tuple[list[Classification], NDArray[np.int32]]:
    """Classifications with what certificates tell of components, and with the paths that they leave.

    One object for each distinct answer. What certificates tell is the same for all that share facts and classification, so a connection costs a look.
    """
    from auditor.policy.certificates import SIDES

    told = list(classes)
    of_row = class_of.tolist()
    known: dict[tuple[int, int], int] = {}
    answers: dict[tuple[int, Attribution], int] = {}
    for row, fact in enumerate(facts):
        if fact is None:
            continue
        class_id = of_row[row]
        place = known.get((id(fact.shared), class_id))
        if place is None:
            place = class_id
            if SIDES["client"] in fact or SIDES["server"] in fact:
                answer = judge.component_of(fact, told[class_id])
                place = answers.get((class_id, answer), -1)
                if place < 0:
                    place = answers[class_id, answer] = _attributed(told, class_id, answer, judge.policy)
            known[id(fact.shared), class_id] = place
        of_row[row] = place
    return told, np.array(of_row, np.int32)


def _attributed(told: list[Classification], class_id: int, answer: Attribution, policy: Policy) -> int:
    """The place in ``told`` of this classification with that answer."""
    from auditor.policy.classify import narrowed

    plain = told[class_id]
    if (answer.originator, answer.responder, answer.paths) == (
        plain.orig_component,
        plain.resp_component,
        plain.paths,
    ):
        return class_id
    told.append(narrowed(plain, answer.paths, answer.originator, answer.responder, policy))
    return len(told) - 1


def _order_of(whole: TrackedPart, table: ConnectionTable) -> NDArray[np.int64]:
    """For each row of the table, its record in the part: the order that ``build_table`` sorts by."""
    order = in_order(whole.rows)
    return order[: len(table)]


def _by_roles(table: ConnectionTable, side: NDArray[np.uint8]) -> ConnectionTable:
    """The table with facts whose client is the originator, where content did not say who the client is; ``side``: of each row, the originator's."""
    made: dict[int, Mapping[str, Any]] = {}
    facts: list[Facts | None] | None = None
    for row in np.flatnonzero(side == 1).tolist():
        fact = table.facts[row]
        if fact is not None and ROLES in fact.shared:
            facts = list(table.facts) if facts is None else facts
            facts[row] = fact.turned(made)
    return table if facts is None else replace(table, facts=tuple(facts))


def services_of(table: ConnectionTable, describe: Describe) -> list[Service]:
    """Every end that answered, with who asked and the names in SNI and certificates."""
    from auditor.policy.infer import Service

    answered = table.established & (table.resp_p >= 0)
    # What a tunnel carries says nothing of machines that are seen outside of it.
    inside = table.outer >= 0
    if inside.any():
        shown = np.union1d(table.orig_h[~inside], table.resp_h[~inside])
        answered &= ~(inside & np.isin(table.resp_h, shown))
    # What stands on the other side of a NAT is who it stands for.
    answered[[row for row, each in table.translated.items() if not each.judged]] = False
    found: dict[tuple[int, int, int], _Listener] = {}
    keys = zip(
        np.flatnonzero(answered).tolist(),
        table.resp_h[answered].tolist(),
        table.resp_p[answered].tolist(),
        table.proto[answered].tolist(),
        table.application[answered].tolist(),
        table.orig_h[answered].tolist(),
        strict=True,
    )
    for row, address, port, proto, application, client in keys:
        one = found.get((address, port, proto))
        if one is None:
            one = found[address, port, proto] = _Listener()
        one.clients.add(client)
        one.applications[application] = one.applications.get(application, 0) + 1
        one.connections += 1
        facts = table.facts[row]
        if facts is not None:
            one.hear(facts, client, describe)
    return [
        Service(
            address=table.addresses[address],
            port=port,
            transport=transport_name(proto),
            application=table.applications[max(one.applications, key=lambda code: (one.applications[code], -code))],
            clients=tuple(sorted(table.addresses[client] for client in one.clients)),
            connections=one.connections,
            names=tuple(sorted(one.names)),
            client_names={table.addresses[client]: tuple(sorted(said)) for client, said in one.client_names.items()},
        )
        for (address, port, proto), one in sorted(found.items())
    ]


Describe = Callable[[str], "Certificate | None"]
"""What is known of a certificate, by its fingerprint."""


def describer(certificates: Mapping[str, bytes]) -> Describe:
    """Reads each certificate once."""
    from auditor.policy.certificates import read_certificate

    @cache
    def describe(fingerprint: str) -> Certificate | None:
        der = certificates.get(fingerprint)
        return None if der is None else read_certificate(fingerprint, der)

    return describe


@dataclass(slots=True)
class _Listener:
    """What is known of one service so far; addresses by their index."""

    clients: set[int] = field(default_factory=set)
    applications: dict[int, int] = field(default_factory=dict)
    connections: int = 0
    names: set[str] = field(default_factory=set)
    client_names: dict[int, set[str]] = field(default_factory=dict)
    heard: set[tuple[Any, ...]] = field(default_factory=set)
    """What was asked for and shown, by whom: most connections show the same again."""

    def hear(self, facts: Facts, client: int, describe: Describe) -> None:
        """The names that a connection shows."""
        from auditor.policy.certificates import SIDES

        told = tuple(facts.get(kind) for kind in ("tls.sni", SIDES["server"], SIDES["client"]))
        if told == _NOTHING_SHOWN or (client, told) in self.heard:
            return
        self.heard.add((client, told))
        asked_for, server, own = told
        if isinstance(asked_for, str):
            self.names.add(asked_for)
        self.names.update(_names_in(server, describe))
        said = _names_in(own, describe)
        if said:
            self.client_names.setdefault(client, set()).update(said)


_NOTHING_SHOWN = (None, None, None)


def _names_in(chain: Sequence[str] | None, describe: Describe) -> tuple[str, ...]:
    """Names of the certificate at the end of a chain of fingerprints."""
    leaf = describe(chain[0]) if chain else None
    return leaf.names if leaf is not None else ()


def _fall_back_on_inventory(connections: pd.DataFrame) -> None:
    """An end whose role no path named has the first of its roles: null only where it has none."""
    import pandas as pd

    for which in ("originator", "responder"):
        role = connections[f"{which}_role"]
        open_rows = np.flatnonzero(role.isna().to_numpy())
        if not open_rows.size:
            continue
        firsts = [each[0] if each else None for each in connections[f"{which}_roles"].take(open_rows)]
        names = sorted({*role.cat.categories, *(name for name in firsts if name)})
        values = role.cat.set_categories(names)
        codes = values.cat.codes.to_numpy().copy()
        place = {name: k for k, name in enumerate(names)}
        codes = codes.astype(np.int32)
        codes[open_rows] = [place[name] if name else -1 for name in firsts]
        connections[f"{which}_role"] = pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=object))


# Summing up


def _sufficiency(
    connections: pd.DataFrame, captures: Sequence[Capture], whole: TrackedPart, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What share of the judged connections could be decided, and why the rest could not."""
    from auditor.model.judgement import Disposition, Verdict
    from auditor.policy.classify import IPSEC
    from auditor.policy.readings import RULE as CONTRADICTED

    judged = connections["disposition"].isin([str(Disposition.DOCUMENTED), str(Disposition.AMBIENT)])
    judged &= connections["authentication_verdict"] != str(Verdict.NOT_APPLICABLE)
    judged &= connections["authentication_counted"]
    undecided = judged & (connections["authentication_verdict"] == str(Verdict.UNVERIFIABLE))
    total = int(judged.sum())
    percent = 100.0 * int(undecided.sum()) / total if total else 0.0
    reasons: dict[str, int] = {}
    for word, count in connections.loc[undecided, "authentication_missing"].value_counts().items():
        if count:
            reasons[str(word)] = int(count)
    from auditor.model import losses

    lost = losses.counted([problem.kind for problem in each.problems] for each in captures)
    dropped = sum(each.dropped or 0 for each in captures)
    reasons |= {f"{word}_captures": count for word, count in lost.items()}
    if dropped:
        reasons["dropped_packets"] = dropped
    if whole.hits.get("first_bytes"):
        reasons["first_bytes_given_up"] = whole.hits["first_bytes"]
    idle = not (connections["disposition"] != str(Disposition.OUT_OF_SCOPE)).any()
    if idle:
        reasons["no_connection_in_scope"] = len(connections)
    openings = _openings_alone(connections)
    if openings:
        reasons["nothing_decided"] = openings
    says = connections["says"]
    closed = says.isin([word for word in says.cat.categories if word.startswith(IPSEC)])
    closed &= connections["disposition"] == str(Disposition.AMBIENT)
    if closed.any():
        reasons["ipsec"] = int(closed.sum())
    limit = options.get("max_undecided")
    enough = percent <= (5.0 if limit is None else float(limit))
    contradicted = sum(
        any(fault.rule == CONTRADICTED for fault in faults) for faults in connections.loc[undecided, "faults"]
    )
    if contradicted:
        # Somebody may have made it so: no share of these is small enough.
        reasons["contradicting_packets"] = contradicted
    cut = int((connections.loc[undecided, "authentication_missing"] == "snaplen").sum())
    if cut:
        # So may a packet be made that says less than its headers promise.
        reasons["cut_packets"] = cut
    # What was not compared may have been said to somebody else.
    apart = sum(not each.whole for each in whole.translations.values() if not each.judged)
    if apart:
        reasons["translated_not_compared"] = apart
    complete = enough and not (idle or closed.any() or lost or dropped or openings or contradicted or cut or apart)
    return {"complete": complete, "undecided_percent": round(percent, 3), "reasons": dict(sorted(reasons.items()))}


def _openings_alone(connections: pd.DataFrame) -> int:
    """How many connections are on documented paths, if of all of them nothing but SYN and SYN+ACK was seen: more than chance, a filter leaves that."""
    from auditor.model.judgement import Disposition

    history = connections.loc[connections["disposition"] == str(Disposition.DOCUMENTED), "history"]
    seen = {str(each) for each in history.unique()}
    # One SYN that nobody answers is an attempt, and all that there was of it.
    if len(history) < 2 and not any("h" in each for each in seen):
        return 0
    return len(history) if all(each and set(each) <= _OPENING for each in seen) else 0


_OPENING = frozenset("SsHhTt")
"""Letters of histories that begin and go no further; T: once more."""


def _summary(
    connections: pd.DataFrame, findings: pd.DataFrame, sufficiency: dict[str, Any], inventory: Inventory | None
) -> dict[str, Any]:
    from auditor.model.judgement import Disposition, Verdict

    dispositions = connections["disposition"].value_counts()
    verdicts = connections["authentication_verdict"].value_counts()
    severities = findings["severity"].value_counts()
    return {
        "connections": len(connections),
        **{str(each): int(dispositions.get(str(each), 0)) for each in Disposition},
        "verdicts": {str(each): int(verdicts.get(str(each), 0)) for each in Verdict},
        "findings": {
            "by_severity": {
                word: int(severities.get(word, 0)) for word in ("critical", "high", "medium", "low", "info")
            },
            "by_rule": {str(rule): int(count) for rule, count in sorted(findings["rule"].value_counts().items())},
        },
        "sufficiency": sufficiency,
        "inventory": "inferred" if inventory is None else inventory.origin,
    }


def _audit_id(info: Mapping[str, Any], captures: Sequence[Capture]) -> str:
    """Of this very run: when it began, and over what."""
    import hashlib

    digest = hashlib.sha256(repr((info["started"], info["version"])).encode())
    for capture in captures:
        digest.update(repr((capture.path, capture.packets, capture.first_ns, capture.last_ns)).encode())
    return digest.hexdigest()[:16]


__all__ = ["Followed", "Progress", "connections", "follow_here", "follow_one", "run", "services"]
