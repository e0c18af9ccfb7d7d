"""What one pass hands to the next: the connections that may go on, and what was seen of them.

Most of Diego's streams live for days. A file of one hour shows their middle, and alone it could not tell how they began. So each pass keeps the
records of connections that are open (and for a while those that are closed: another place may have seen them, too), and the next pass takes
them for the part that came before its files:

- A connection that spans two files is one: same id, same originator, same start.
- What an earlier pass judged is not judged by less: its facts stand, without frames (those are in files that may be gone), and a verdict that rests
  on them says ``inherited`` and names the audit that saw it.
- Packets are counted once: a pass counts those of its own files, so the sum over passes is that of one pass over everything.
- First bytes are kept only of a handshake or login that the end of a file cut in two (TLS, SSH, NATS, MySQL), with what is secret in it masked. Everything
  else is records and facts: no payload.

All is plain data (``dump`` and ``load``): nothing in it is ever run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import zstandard
from numpy.typing import NDArray

from auditor.conntrack import TrackedPart
from auditor.inspectors._masked import masked
from auditor.model.connections import CONN, CONN_STATES, SEEN_SYN, SEEN_SYNACK, ConnectionTable
from auditor.model.evidence import Certainty
from auditor.model.facts import LINK, Facts, Proof
from auditor.model.judgement import Authentication, Factor, Verdict
from auditor.model.streams import HEAD, HEAD_BYTES
from auditor.policy.readings import CONFLICT

FORMAT = 1
INHERITED_FROM = "inherited.audit"
"""Kind of the evidence that names the audit that saw it."""

_VERDICT = f"{LINK}verdict"
SILENCE_NS = 7_875 * 1_000_000_000
"""Longer than this nothing is quiet and yet the same connection (``TrackLimits``)."""

_OVER = frozenset(CONN_STATES.index(state) for state in ("SF", "REJ", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR"))
_KEEPS = frozenset({Verdict.VERIFIED, Verdict.INFERRED})
_UNSETTLED = frozenset({Verdict.UNVERIFIABLE, Verdict.NOT_APPLICABLE, Verdict.REJECTED})
_MAY_WAIT = frozenset({"tls", "https", "ssh", "nats", "mysql", "none", "unknown"})
"""What may be seen so far of a connection whose first bytes are kept."""

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class PassStateLimits:
    """How much is handed on."""

    remember_ns: int = 7_200 * 1_000_000_000
    """So long a closed connection is known: files of another place may come later."""
    max_connections: int = 200_000
    """Of more, those that were silent longest are dropped."""


@dataclass(slots=True)
class PassState:
    """Connections of earlier passes; ``part`` is what goes before the captures of this one."""

    limits: PassStateLimits = field(default_factory=PassStateLimits)
    part: TrackedPart = field(default_factory=lambda: TrackedPart(np.zeros(0, CONN), []))
    certificates: dict[str, bytes] = field(default_factory=dict)
    judged_in: list[str] = field(default_factory=list)
    """For each row of ``part`` the audit that saw its beginning; empty: this one, whose id is not known yet."""
    verdicts: list[str] = field(default_factory=list)
    """What was said of each row."""
    ids: NDArray[np.bytes_] = field(default_factory=lambda: np.zeros(0, "S20"))
    """What each row was called: a connection whose opening a file's end cut in two keeps its name."""
    missed: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Bytes that each row was known to lack."""
    dropped: int = 0
    """Connections that were too many to be handed on."""
    _was: Array = field(default_factory=lambda: np.zeros(0, CONN))
    _facts: dict[int, Facts] = field(default_factory=dict)
    """By id(): those that came from earlier passes."""

    def __len__(self) -> int:
        return len(self.part.rows)

    def begin(self) -> TrackedPart:
        """The part that goes before this pass's own; its counters are noted, and nothing of it counts as seen in these captures."""
        self._was = self.part.rows.copy()
        self.part.rows["captures"] = 0
        self._facts = {id(facts): facts for facts in self.part.facts if facts is not None}
        return self.part

    def named(self, table: ConnectionTable, order: NDArray[np.int64]) -> ConnectionTable:
        """The table with the ids that earlier passes gave; ``order``: for each of its rows the record in the joined part."""
        before = order < len(self.ids)
        if not before.any():
            return table
        ids = table.id.copy()
        ids[before] = self.ids[order[before]]
        return replace(table, id=ids)

    def inherited(
        self, facts: Sequence[Facts | None], authentications: Sequence[Authentication]
    ) -> list[Authentication]:
        """The answers, where they rest on what an earlier pass saw, as inherited."""
        if not self._facts:
            return list(authentications)
        made: dict[tuple[int, str], Authentication] = {}
        pending: list[Authentication] = []
        for fact, answer in zip(facts, authentications, strict=True):
            if fact is None or id(fact) not in self._facts:
                pending.append(answer)
                continue
            key = (id(answer), fact.get(_VERDICT))
            if key not in made:
                made[key] = _as_inherited(answer, fact.get(_VERDICT))
            pending.append(made[key])
        return pending

    def settle(
        self,
        whole: TrackedPart,
        order: NDArray[np.int64],
        orig_side: NDArray[np.uint8],
        table: ConnectionTable,
        authentications: Sequence[Authentication],
        pending: Mapping[int, Any],
    ) -> Callable[[pd.DataFrame], pd.DataFrame]:
        """Note what the next pass needs, and say how this pass's connections are counted.

        order: for each row of ``table`` its record in ``whole``; orig_side: of each record; held: first bytes as they were before they
        were examined. The function that is given makes of all connections those of this pass's own captures, with their own packets.
        """
        rows = whole.rows
        n = len(self._was)
        before = order < n
        seen = rows["captures"][order] != 0
        turned = orig_side[order].astype(np.int64)
        own: dict[str, NDArray[np.int64]] = {}
        for which, side in (("originator", turned), ("responder", 1 - turned)):
            for column, name in (("packets", "pkts"), ("bytes", "ip_bytes"), ("copies", "copies")):
                now = rows["side"][name][order, side].astype(np.int64)
                earlier = np.zeros(len(order), np.int64)
                earlier[before] = self._was["side"][name][order[before], side[before]]
                own[f"{which}_{column}"] = now - earlier
        talk = np.zeros(len(order), np.int64)
        talk[before] = self._was["side"]["payload_bytes"][order[before]].sum(axis=1)
        lacked = np.zeros(len(order), np.int64)
        lacked[before] = self.missed[order[before]]
        shown = seen & (own["originator_packets"] + own["responder_packets"] > 0)
        frame = np.where(before, rows["last_frame"][order], rows["first_frame"][order])
        self._hand_on(whole, order, table, authentications, pending)

        def count(connections: pd.DataFrame) -> pd.DataFrame:
            if not before.any():
                return connections
            from auditor.model.connections import FRAME_BITS

            counted = connections.copy(deep=False)
            for name, values in own.items():
                counted[name] = values
            counted["payload_bytes"] = connections["payload_bytes"].to_numpy() - talk
            counted["missed_bytes"] = np.maximum(connections["missed_bytes"].to_numpy() - lacked, 0)
            counted["capture"], counted["first_frame"] = frame >> FRAME_BITS, frame & ((1 << FRAME_BITS) - 1)
            own_rows: pd.DataFrame = counted[shown].reset_index(drop=True)
            return own_rows

        return count

    def name(self, audit: str) -> None:
        """Say which audit has just seen what nobody had seen before."""
        self.judged_in = [each or audit for each in self.judged_in]

    def _hand_on(
        self,
        whole: TrackedPart,
        order: NDArray[np.int64],
        table: ConnectionTable,
        authentications: Sequence[Authentication],
        pending: Mapping[int, Any],
    ) -> None:
        rows = whole.rows
        newest = max((ns for ns in (whole.last_ns, self.part.last_ns) if ns is not None), default=0)
        over = np.isin(table.conn_state, list(_OVER)) & (table.proto == 6)
        age = newest - table.last_ns
        wanted = age <= np.where(over, self.limits.remember_ns, max(SILENCE_NS, self.limits.remember_ns))
        self.dropped = 0
        if int(wanted.sum()) > self.limits.max_connections:
            which = np.flatnonzero(wanted)
            late = which[np.argsort(table.last_ns[which], kind="stable")[: -self.limits.max_connections]]
            self.dropped = len(late)
            wanted[late] = False
        kept = np.sort(order[wanted])
        place = np.full(len(rows), -1, np.int64)
        place[kept] = np.arange(len(kept))
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(order))
        judged_in, verdicts, facts = list[str](), list[str](), list[Any]()
        missed, waiting = np.zeros(len(kept), np.int64), dict[int, Any]()
        new = rows[kept]
        earlier = self.judged_in
        for k, record in enumerate(kept.tolist()):
            at = int(back[record])
            name = table.applications[int(table.application[at])]
            judged_in.append(earlier[record] if record < len(earlier) else "")
            missed[k] = table.missed_bytes[at]
            fact = table.facts[at]
            verdict = authentications[at].verdict
            verdicts.append(str(verdict))
            waits = _waits(rows[record], pending[record], verdict, name) if record in pending and not over[at] else None
            if authentications[at].missing != CONFLICT:
                # Both readings lead to the same; the other one is not handed on.
                new["odd"][k] = 0
            if waits is not None:
                waiting[k] = waits
                fact = None
                new["application"][k] = -1
                new["client_side"][k] = -1
            facts.append(fact)
        outer = new["outer"]
        new["outer"] = np.where(outer >= 0, place[np.maximum(outer, 0)], -1)
        named = {name for fact in facts if fact is not None for name in _fingerprints(fact)}
        self.certificates = {name: der for name, der in self.certificates.items() if name in named}
        first = None if whole.last_ns is None else newest - self.limits.remember_ns
        self.part = TrackedPart(new, facts, waiting, first, newest)
        self.judged_in, self.missed, self.verdicts = judged_in, missed, verdicts
        self.ids = np.array(table.id[back[kept]])

    # As bytes

    def dump(self, applications: Sequence[str]) -> bytes:
        """Plain data; ``applications``: the names behind the numbers of the records."""
        shared: list[Any] = []
        numbers: dict[int, int] = {}
        facts: list[Any] = []
        for fact in self.part.facts:
            if fact is None:
                facts.append(None)
                continue
            if id(fact.shared) not in numbers:
                numbers[id(fact.shared)] = len(shared)
                shared.append(dict(fact.shared))
            own = {kind: value.fits() if isinstance(value, Proof) else value for kind, value in fact.own.items()}
            facts.append((numbers[id(fact.shared)], own) if own else numbers[id(fact.shared)])
        body = {
            "format": FORMAT,
            "records": _shape(),
            "limits": [self.limits.remember_ns, self.limits.max_connections],
            "applications": list(applications),
            "rows": self.part.rows.tobytes(),
            "first_ns": self.part.first_ns,
            "last_ns": self.part.last_ns,
            "shared": shared,
            "facts": facts,
            "held": [(row, heads.tobytes(), data) for row, (heads, data) in self.part.pending.items()],
            "certificates": self.certificates,
            "judged_in": self.judged_in,
            "verdicts": self.verdicts,
            "ids": self.ids.tobytes(),
            "missed": self.missed.tobytes(),
        }
        return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(msgspec.msgpack.encode(body))


def load(raw: bytes, applications: Sequence[str], limits: PassStateLimits) -> PassState | None:
    """What ``dump`` made; None where another version made it, so that it means nothing here."""
    try:
        body = msgspec.msgpack.decode(zstandard.ZstdDecompressor().decompress(raw, max_output_size=1 << 32))
        if body["format"] != FORMAT or body["records"] != _shape():
            return None
        rows = np.frombuffer(body["rows"], CONN).copy()
        here = {name: k for k, name in enumerate(applications)}
        told = np.array([here.get(name, here["unknown"]) for name in body["applications"]] + [-1], np.int16)
        rows["application"] = told[rows["application"]]
        made: dict[tuple[int, str, str], Mapping[str, Any]] = {}
        facts: list[Facts | None] = []
        for entry, audit, verdict in zip(body["facts"], body["judged_in"], body["verdicts"], strict=True):
            if entry is None:
                facts.append(None)
                continue
            number, own = (entry, {}) if isinstance(entry, int) else entry
            key = (number, audit, verdict)
            if key not in made:
                shared = {kind: _tupled(value) for kind, value in body["shared"][number].items()}
                made[key] = {**shared, INHERITED_FROM: audit, _VERDICT: verdict}
            # Nothing is proven by frames that nobody has any more.
            own = {kind: _tupled(value) for kind, value in own.items()}
            certain = dict.fromkeys([*made[key], *own], Certainty.INHERITED)
            facts.append(Facts(made[key], own, (), certain) if own else Facts(made[key], certainties=certain))
        pending = {
            row: (np.frombuffer(heads, HEAD).copy(), [None if data is None else bytes(data) for data in both])
            for row, heads, both in body["held"]
        }
        part = TrackedPart(rows, facts, pending, body["first_ns"], body["last_ns"])
        ids, missed = np.frombuffer(body["ids"], "S20").copy(), np.frombuffer(body["missed"], np.int64).copy()
        if not len(rows) == len(facts) == len(ids) == len(missed):
            return None
        return PassState(
            limits, part, dict(body["certificates"]), list(body["judged_in"]), list(body["verdicts"]), ids, missed
        )
    except (msgspec.MsgspecError, zstandard.ZstdError, KeyError, ValueError, TypeError, IndexError):
        return None


def _shape() -> str:
    """Of the records: a version that has others cannot read these."""
    return hashlib.sha256(repr((CONN.descr, HEAD.descr, HEAD_BYTES)).encode()).hexdigest()[:16]


def _tupled(value: Any) -> Any:
    return tuple(map(_tupled, value)) if isinstance(value, list | tuple) else value


def _as_inherited(answer: Authentication, before: str) -> Authentication:
    """The same conclusion, drawn earlier; ``before``: the verdict of that time."""
    if answer.verdict is Verdict.REJECTED and before != Verdict.REJECTED:
        # The handshake went on where nobody kept its bytes: that it seems to break off there says nothing.
        says = "its handshake lay across two passes"
        factors = tuple(Factor(each.name, Verdict.UNVERIFIABLE, says) for each in answer.factors)
        left = tuple(each for each in answer.faults if each.rule != "authentication-rejected")
        return replace(
            answer, verdict=Verdict.UNVERIFIABLE, confidence=None, factors=factors, faults=left, missing="gap"
        )
    if answer.verdict not in _KEEPS and not any(factor.verdict in _KEEPS for factor in answer.factors):
        return answer
    factors = tuple(
        Factor(factor.name, Verdict.INHERITED, f"seen in an earlier capture: {factor.says}")
        if factor.verdict in _KEEPS
        else factor
        for factor in answer.factors
    )
    verdict = Verdict.INHERITED if answer.verdict in _KEEPS else answer.verdict
    return replace(answer, verdict=verdict, factors=factors, kinds=(INHERITED_FROM, *answer.kinds))


def _waits(row: Any, pending: Any, verdict: Verdict, application: str) -> Any:
    """Its first bytes as they are handed on, where the end of the captures may have cut its handshake or login in two; else None.

    What is secret in them is masked, and no frame is named: those are in files that may be gone.
    """
    heads, data = pending
    seen = row["side"]["seen"]
    opening = bool((seen & (SEEN_SYN | SEEN_SYNACK)).any())
    if (
        verdict not in _UNSETTLED
        or not opening
        or row["proto"] != 6
        or application not in _MAY_WAIT
        or any(int(head["filled_bytes"]) >= HEAD_BYTES for head in heads)
    ):
        return None
    kept = masked(data)
    # Behind a hole nobody knows what is a secret.
    holes = any(
        text is not None and len(text) != int(head["filled_bytes"]) for head, text in zip(heads, data, strict=True)
    )
    if kept is None or (holes and kept != list(data)):
        return None
    heads = heads.copy()
    heads["segment_frame"] = 0
    return heads, kept


def _fingerprints(fact: Facts) -> list[str]:
    """Certificates that a connection showed."""
    return [
        name
        for kind in ("tls.server_certificates", "tls.client_certificates")
        for name in (fact.get(kind) or ())
        if isinstance(name, str)
    ]
