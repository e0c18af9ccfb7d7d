"""From settled heads to applications and facts: recognition, inspection, and following a protocol into the one it turns into.

Three sieves, from cheap to dear: a compiled first look at all connections; probes, only where a signature holds; inspectors, only where
a probe says yes. TLS passes through compiled code alone, and what many connections have in common is one object. Which side is the client
is told by content where it can be; a SYN is known beforehand and is believed first.
"""

import gc
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.catalogue import discover
from auditor.errors import WireError
from auditor.inspectors import _prefaces, _tls_facts
from auditor.inspectors._table import PROTOCOL_NUMBERS, SignatureTable, build
from auditor.kernels import signatures
from auditor.kernels import tls as tls_kernel
from auditor.model.evidence import Certainty, Evidence, Handover
from auditor.model.facts import ANSWERED_WITH, ROLES, Facts
from auditor.model.limits import DEFAULTS, Limits
from auditor.model.roles import Inspector, Match
from auditor.model.streams import HEAD_BYTES, TOLD_TRAILS, StreamHead, Streams, trail_of
from auditor.wire import tls as tls_wire

NONE, UNKNOWN, TLS, HTTPS = 0, 1, 2, 3
_STATUS_BYTES = 12
"""``HTTP/1.1 200``."""
MAX_HANDOVERS = 3
_PROBED_BYTES = 4_096
"""So much of a head is looked at where only the protocol is asked for."""
_MAX_CACHED = 50_000
_PREFACES_AT_ONCE = 256
"""Their heads are copied: so many take 4 MiB."""

_EMPTY = StreamHead()


@dataclass(frozen=True, slots=True)
class Examined:
    """What was found of a batch of connections; all have an entry a connection."""

    application: NDArray[np.int16]
    """Index into ``Examiner.applications``."""
    client_side: NDArray[np.int8]
    """The side (0, 1) whose content is the client's, and as whom it was read; -1: content does not tell."""
    sure: NDArray[np.bool_]
    """False: more bytes might change ``application`` (only where heads are not settled)."""
    facts: list[Facts | None]
    """None: nothing was found, or heads are not settled."""


@dataclass(slots=True)
class _Found:
    """What inspectors told of one connection."""

    values: dict[str, Any]
    frames: dict[str, tuple[int, ...]]
    certainties: dict[str, Certainty]
    handover: Handover | None = None
    roles: str | None = None
    limited: bool = False
    """A line was longer than the limit."""


_Handed = tuple[int, _Found, Streams, int]
"""A connection whose protocol turned into another: its number, what was found, its streams, and the client's side."""


class _Heads:
    """The heads of some connections as inspectors see them; their fields are read for all at once, which costs a tenth of one by one."""

    def __init__(
        self, arena: NDArray[np.uint8], heads: NDArray[Any], pairs: NDArray[np.int32], rows: list[int], limit: int
    ) -> None:
        """``limit``: only so many bytes of each are wanted; below HEAD_BYTES the frames neither."""
        slots = pairs[rows].reshape(-1)
        self._text, self._width = arena.reshape(-1).data, arena.shape[1]
        self._slots, self._place = slots.tolist(), {row: 2 * k for k, row in enumerate(rows)}
        some = heads[np.maximum(slots, 0)]
        self._filled: list[int] = np.minimum(some["filled_bytes"], limit).tolist()
        self._flags: list[tuple[bool, bool, bool]] = list(
            zip(*(some[name].astype(np.bool_).tolist() for name in ("gap", "ended", "midstream")), strict=True)
        )
        self._stream_bytes: list[int] = some["stream_bytes"].tolist()
        trails = some["trail"] if limit == HEAD_BYTES else np.zeros(len(slots), np.uint8)
        self._trails = {int(k): trail_of(some[k]) for k in np.flatnonzero(np.isin(trails, TOLD_TRAILS))}
        counts = some["n_segments"] if limit == HEAD_BYTES else np.zeros(len(slots), np.uint8)
        most = int(counts.max(initial=0))
        self._counts: list[int] = counts.tolist()
        self._at = some["segment_at"][:, :most].tolist()
        self._frame = some["segment_frame"][:, :most].tolist()
        self._ack = some["segment_ack"][:, :most].tolist()
        self._first_seq: list[int] = some["first_seq"].tolist()

    def of(self, row: int, side: int) -> StreamHead:
        """One direction."""
        k = self._place[row] + side
        slot, count = self._slots[k], self._counts[k]
        if slot < 0:
            return _EMPTY
        segments: tuple[tuple[int, int], ...] = ()
        acks: tuple[int, ...] = ()
        if count == 1:
            segments, acks = ((self._at[k][0], self._frame[k][0]),), (self._ack[k][0],)
        elif count:
            kept = sorted(zip(self._at[k][:count], self._frame[k][:count], self._ack[k][:count], strict=True))
            segments, acks = tuple((at, frame) for at, frame, _ in kept), tuple(ack for *_, ack in kept)
        start = slot * self._width
        data = bytes(self._text[start : start + self._filled[k]])
        return StreamHead(
            data,
            *self._flags[k],
            self._stream_bytes[k],
            segments,
            self._trails.get(k),
            acks=acks,
            first_seq=self._first_seq[k],
        )


class Examiner:
    """Recognises what is spoken and collects the evidence. One a process: its caches grow with what is distinct, within bounds."""

    def __init__(
        self, inspectors: Iterable[Inspector] | None = None, *, collect: bool = True, limits: Limits = DEFAULTS
    ) -> None:
        """``inspectors``: all of the catalogue, unless a test gives others; ``collect`` False: say what is spoken and collect no facts."""
        self._collect = collect
        self._line_bytes = limits.line_bytes
        self._long_lines = 0
        found = tuple(discover("auditor.inspectors", "INSPECTOR") if inspectors is None else inspectors)
        self.inspectors: tuple[Inspector, ...] = found
        self._by_name = {each.name: each for each in reversed(found)}
        names = ["none", "unknown", "tls", "https"]
        names += [name for each in found for name in (each.name, *each.turns_into) if name not in names]
        self.applications: tuple[str, ...] = tuple(dict.fromkeys(names))
        self._code = {name: code for code, name in enumerate(self.applications)}
        self._numbers = [frozenset(PROTOCOL_NUMBERS[each] for each in one.transports) for one in found]
        self._table: SignatureTable = build(found)
        self._tls_bit = sum(1 << place for place, each in enumerate(found) if each.name == "tls")
        self._greeted = [(1 << place, each.greetings) for place, each in enumerate(found) if each.greetings is not None]
        self._greeting_bits = sum(1 << place for place, each in enumerate(found) if each.greets)
        self.certificates = _tls_facts.Certificates(limits.certificates_bytes, limits.certificate_bytes)
        """Certificates seen, by the fingerprints that facts name."""
        self._tls = _tls_facts.TlsFacts(self.certificates)
        self._rows = np.zeros(0, dtype=tls_kernel.TLS_ROW)
        self._interned: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._places: dict[int, list[int]] = {}
        """Which inspectors bits stand for; signatures make few combinations."""

    @property
    def hits(self) -> dict[str, int]:
        """How often each limit (a name of ``Limits``) cost something until now."""
        return {
            "certificate_bytes": self.certificates.too_large,
            "certificates_bytes": self.certificates.left_out,
            "line_bytes": self._long_lines,
        }

    def examine(
        self,
        arena: NDArray[np.uint8],
        heads: NDArray[Any],
        pairs: NDArray[np.int32],
        known: NDArray[np.int8],
        transport: NDArray[np.uint8],
        ports: NDArray[np.int32],
        settled: bool = True,
    ) -> Examined:
        """Examine many connections.

        ``arena`` uint8[slots, HEAD_BYTES] and ``heads`` HEAD[slots]; ``pairs`` int32[n, 2]: slots of side 0 and 1, -1: that side sent
        nothing; ``known`` int8[n]: the side that opened the connection, or -1; ``transport`` uint8[n]: IP protocol numbers; ``ports``
        int32[n, 2]. ``settled`` False: more bytes may come; then facts are left for later.
        """
        # What is made here has no cycles and stays; collecting in between would walk all earlier facts again and again.
        resting = gc.isenabled()
        gc.disable()
        try:
            out = self._examine(arena, heads, pairs, known, transport, ports, settled)
            self._look_behind(out, arena, heads, pairs, known, transport, ports, settled)
            return out
        finally:
            if resting:
                gc.enable()

    def _examine(
        self,
        arena: NDArray[np.uint8],
        heads: NDArray[Any],
        pairs: NDArray[np.int32],
        known: NDArray[np.int8],
        transport: NDArray[np.uint8],
        ports: NDArray[np.int32],
        settled: bool,
    ) -> Examined:
        """With the garbage collector at rest."""
        n = len(pairs)
        candidates, decided = np.zeros((n, 2), dtype=np.int64), np.zeros((n, 2), dtype=np.int64)
        tls = np.zeros(n, dtype=np.uint8)
        tls_client = np.zeros(n, dtype=np.int8)
        alerted = np.zeros(n, dtype=np.int8)
        table = self._table
        signatures.first_look(
            arena,
            heads,
            pairs,
            transport,
            settled,
            table.value,
            table.mask,
            table.at,
            table.size,
            table.server,
            table.protocol,
            table.transport,
            table.decides,
            candidates,
            decided,
            tls,
            tls_client,
            alerted,
        )
        silent = np.zeros(n, dtype=np.bool_)
        signatures.silent(heads, pairs, silent)
        out = Examined(
            np.where(silent, NONE, UNKNOWN).astype(np.int16),
            np.full(n, -1, dtype=np.int8),
            np.ones(n, dtype=np.bool_),
            [None] * n,
        )
        if not settled:
            out.sure[silent | (tls == signatures.TLS_MORE)] = False
        hello = tls == signatures.TLS_HELLO
        asked = ((candidates[:, 0] | candidates[:, 1]) & ~self._tls_bit) != 0
        if not self._collect:
            asked &= ~self._decide(out, decided, known, transport, hello)
            asked &= ~self._greet(out, candidates, known, transport, arena, heads, pairs, asked)
        handed: list[_Handed] = []
        asked_rows: list[int] = np.flatnonzero(asked).tolist()
        if asked_rows:
            some = _Heads(arena, heads, pairs, asked_rows, HEAD_BYTES if self._collect else _PROBED_BYTES)
            asking = zip(
                asked_rows,
                *(each[asked_rows].tolist() for each in (known, transport, ports, candidates, decided, hello)),
                strict=True,
            )
            for i, opener, number, ends, bits, sure, turns in asking:
                self._ask(out, handed, i, some, opener, number, ends, bits, sure, turns, settled)
        open_question = out.application == UNKNOWN
        tls_rows = np.flatnonzero(hello & open_question)
        chains = np.flatnonzero((tls == signatures.TLS_CHAIN) & open_question)
        which = np.concatenate([tls_rows, chains])
        out.client_side[which] = tls_client[which]
        out.sure[which] = True
        self._examine_tls(out, which, arena, heads, pairs, known, settled)
        if not self._collect:
            self._look_at_home(out, arena, heads, pairs, transport, ports, settled)
            out.facts[:] = [None] * n
            return out
        self._look_at_home(out, arena, heads, pairs, transport, ports, settled)
        self._hand_over(out, handed, arena, heads, pairs)
        if settled:
            self._note_alerts(out, alerted, arena, heads, pairs)
        return out

    def _look_behind(
        self,
        out: Examined,
        arena: NDArray[np.uint8],
        heads: NDArray[Any],
        pairs: NDArray[np.int32],
        known: NDArray[np.int8],
        transport: NDArray[np.uint8],
        ports: NDArray[np.int32],
        settled: bool,
    ) -> None:
        """Examine what begins with a preface once more, as if it did not."""
        found, more = _prefaces.find(arena, heads, pairs, known, transport)
        if not settled:
            out.sure[more] = False
        for begin in range(0, len(found), _PREFACES_AT_ONCE):
            some = found[begin : begin + _PREFACES_AT_ONCE]
            rows = np.array([each.row for each in some])
            client = np.array([each.client for each in some], np.int8)
            without = _prefaces.without(some, arena, heads, pairs)
            inner = self._examine(*without, client, transport[rows], ports[rows], settled)
            for k, preface in enumerate(some):
                i = preface.row
                application, facts = int(inner.application[k]), inner.facts[k]
                outer: _Found | None = None
                if preface.tunnel:
                    outer, application = self._tunnel(preface, arena, heads, pairs, application)
                out.application[i], out.client_side[i] = application, preface.client
                out.sure[i] = inner.sure[k]
                out.facts[i] = None
                if settled and self._collect:
                    head = self._head(arena, heads, int(pairs[i, preface.client]))
                    frames = head.frames(0, preface.told_until)
                    out.facts[i] = self._preceded(facts, preface.told, frames, outer)

    def _look_at_home(
        self,
        out: Examined,
        arena: NDArray[np.uint8],
        heads: NDArray[Any],
        pairs: NDArray[np.int32],
        transport: NDArray[np.uint8],
        ports: NDArray[np.int32],
        settled: bool,
    ) -> None:
        """Say what has no mark of its own, where it is at home and nothing else was recognised."""
        open_question = (out.application == UNKNOWN) & (transport == signatures.UDP)
        if not settled or not open_question.any():
            return
        for inspector in self.inspectors:
            if inspector.at_home is None:
                continue
            home, look = inspector.at_home
            rows: list[int] = np.flatnonzero(open_question & np.isin(ports, list(home)).any(axis=1)).tolist()
            some = _Heads(arena, heads, pairs, rows, HEAD_BYTES)
            for i in rows:
                if look(Streams(some.of(i, 0), some.of(i, 1))):
                    out.application[i] = self._code[inspector.name]

    def _tunnel(
        self,
        preface: _prefaces.Preface,
        arena: NDArray[np.uint8],
        heads: NDArray[Any],
        pairs: NDArray[np.int32],
        application: int,
    ) -> tuple[_Found | None, int]:
        """What HTTP told before a tunnel, and what is spoken: HTTP, where what is in the tunnel is not known."""
        http = self._by_name.get("http")
        if http is None:
            return None, application
        orig, resp = (
            replace(each, data=each.data[: preface.sizes[side]]).after(preface.proxied[side])
            for side in (preface.client, 1 - preface.client)
            for each in (self._head(arena, heads, int(pairs[preface.row, side])),)
        )
        spoken = self._code["http"] if application in (NONE, UNKNOWN) else application
        return self._inspect(http, Streams(orig, resp, line_bytes=self._line_bytes)), spoken

    def _preceded(
        self, facts: Facts | None, told: dict[str, Any], frames: tuple[int, ...], outer: _Found | None
    ) -> Facts | None:
        """Facts with those of what came before."""
        if facts is None and not told and outer is None:
            return None
        facts = facts or Facts({})
        shared: dict[str, Any] = {**(outer.values if outer else {}), **facts.shared}
        marks = facts.marks
        if outer is not None and outer.frames:
            marks = (*marks, (outer.frames, None))
        if told:
            marks = (*marks, (dict.fromkeys(told, frames), None))
        return Facts(self._intern(shared), {**facts.own, **told}, marks, facts.certainties)

    def inside(self, streams: Streams) -> tuple[str, Facts] | None:
        """What is spoken in the first bytes that keys opened, and its facts; None: nothing that is known."""
        for inspector in self.inspectors:
            if "tcp" in inspector.transports and inspector.name != "tls" and inspector.probe(streams) is Match.YES:
                found = self._inspect(inspector, streams)
                if found.roles != "swapped":
                    return inspector.name, self._facts(found)
        return None

    def _decide(
        self,
        out: Examined,
        decided: NDArray[np.int64],
        known: NDArray[np.int8],
        transport: NDArray[np.uint8],
        hello: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Say what is spoken where one signature decides it and the opener is known; returns where."""
        bits = np.where(known == 1, decided[:, 1], decided[:, 0])
        which = np.flatnonzero((bits != 0) & (known >= 0) & (transport == signatures.TCP))
        bits = bits[which]
        alone = bits & (bits - 1) == 0
        # What does not greet has to be read where TLS follows.
        alone &= ~hello[which] | ((bits & self._greeting_bits) != 0)
        which, bits = which[alone], bits[alone]
        every = int(np.bitwise_or.reduce(bits))
        for place, inspector in enumerate(self.inspectors):
            if every >> place & 1:
                out.application[which[bits == 1 << place]] = self._code[inspector.name]
        out.client_side[which] = known[which]
        out.sure[which] = True
        done = np.zeros(len(known), dtype=np.bool_)
        done[which] = True
        return done

    def _greet(
        self,
        out: Examined,
        candidates: NDArray[np.int64],
        known: NDArray[np.int8],
        transport: NDArray[np.uint8],
        arena: NDArray[np.uint8],
        heads: NDArray[Any],
        pairs: NDArray[np.int32],
        asked: NDArray[np.bool_],
    ) -> NDArray[np.bool_]:
        """Say what is spoken where the opener is known and the other end greets in the one protocol that may be spoken; returns where."""
        done = np.zeros(len(known), dtype=np.bool_)
        which = np.flatnonzero(asked & (known >= 0) & (transport == signatures.TCP))
        bits = candidates[which, known[which]] & ~self._tls_bit
        for bit, greetings in self._greeted:
            of_it = which[bits == bit]
            told = np.zeros(of_it.size, dtype=np.bool_)
            greetings(arena, heads, pairs[of_it, 1 - known[of_it]], pairs[of_it, known[of_it]], told)
            of_it = of_it[told]
            out.application[of_it] = self._code[self.inspectors[bit.bit_length() - 1].name]
            out.client_side[of_it] = known[of_it]
            out.sure[of_it] = True
            done[of_it] = True
        return done

    @staticmethod
    def _head(arena: NDArray[np.uint8], heads: NDArray[Any], slot: int) -> StreamHead:
        """A row of the arena as inspectors see it."""
        return _Heads(arena, heads, np.array([[slot, -1]], np.int32), [0], HEAD_BYTES).of(0, 0)

    def _ask(
        self,
        out: Examined,
        handed: list[_Handed],
        i: int,
        heads: _Heads,
        opener: int,
        number: int,
        ports: list[int],
        candidates: list[int],
        decided: list[int],
        turns: bool,
        settled: bool,
    ) -> None:
        """Ask the probes of one connection, the opener as client first, what a signature decides and then protocols at home on its ports first.

        ``opener``: the side, or -1; ``number``: of the transport; ``candidates``, ``decided``: bits of protocols if side 0 or 1 is the client. ``turns``: there is
        a hello on one side only: TLS, unless the other side began in a protocol that turns into it, and only that is wanted.
        """
        for client in (opener, 1 - opener) if opener >= 0 else (0, 1):
            bits = candidates[client] & ~self._tls_bit
            places = self._places.get(bits)
            if places is None:
                places = self._places[bits] = [place for place in range(len(self.inspectors)) if bits >> place & 1]
            if not places:
                continue
            if len(places) > 1:
                sure = decided[client]
                places = sorted(
                    places, key=lambda place: (not sure >> place & 1, self.inspectors[place].ports.isdisjoint(ports))
                )
            streams = Streams(heads.of(i, client), heads.of(i, 1 - client), settled, self._line_bytes)
            for place in places:
                inspector = self.inspectors[place]
                if number not in self._numbers[place]:
                    continue
                match = inspector.probe(streams)
                if match is Match.MORE and not settled and not turns:
                    out.sure[i] = False
                if match is not Match.YES:
                    continue
                # What greets and was answered with a hello has turned; others have to be read.
                if turns and not inspector.greets and self._inspect(inspector, streams).handover is None:
                    continue
                turned = inspector.turned(streams) if settled and inspector.turned is not None else None
                out.application[i] = self._code[turned or inspector.name]
                out.sure[i] = True
                either = (
                    opener < 0
                    and candidates[1 - client] >> place & 1
                    and inspector.probe(Streams(streams.resp, streams.orig, settled, self._line_bytes)) is Match.YES
                )
                if settled and (self._collect or opener < 0):
                    self._tell(out, handed, i, inspector, streams, client, bool(either))
                elif not either:
                    out.client_side[i] = client
                return

    def _tell(
        self,
        out: Examined,
        handed: list[_Handed],
        i: int,
        inspector: Inspector,
        streams: Streams,
        client: int,
        either: bool,
    ) -> None:
        """Inspect a recognised connection; ``either``: it would be recognised with the sides swapped, too."""
        found = self._inspect(inspector, streams)
        if found.roles == "swapped":
            client = 1 - client
            streams = Streams(streams.resp, streams.orig, streams.settled, self._line_bytes)
            found = self._inspect(inspector, streams)
            either = False
        elif found.roles is not None:
            either = False
        out.client_side[i] = -1 if either else client
        if either:
            found.values[ROLES] = "unknown"
        if found.handover is not None:
            handed.append((i, found, streams, client))
        else:
            out.facts[i] = self._facts(found)

    def _inspect(self, inspector: Inspector, streams: Streams) -> _Found:
        """Run an inspector; bytes that contradict the protocol are evidence too."""
        found = _Found({}, {}, {})
        try:
            for told in inspector.inspect(streams):
                if isinstance(told, Evidence):
                    if told.kind == ROLES:
                        found.roles = told.value
                    else:
                        _take(found, told)
                elif isinstance(told, Handover):
                    found.handover = told
                else:
                    self.certificates.keep(told.fingerprint, told.der)
        except WireError as error:
            kind = "malformed" if error.kind == "malformed" else "cut"
            found.limited = error.kind == "limit"
            _take(found, Evidence(f"{inspector.name}.{kind}", error.says, Certainty.PROVEN))
        return found

    def _facts(self, found: _Found) -> Facts:
        self._long_lines += found.limited
        return Facts(
            self._intern(found.values),
            marks=((found.frames, None),) if found.frames else (),
            certainties=found.certainties,
        )

    def _with(self, facts: Facts, kind: str, value: str | int) -> Facts:
        """The same with one more."""
        return Facts(self._intern({**facts.shared, kind: value}), facts.own, facts.marks, facts.certainties)

    def _intern(self, values: dict[str, Any]) -> dict[str, Any]:
        """The one dictionary with this content."""
        key = tuple(values.items())
        if len(self._interned) >= _MAX_CACHED:
            self._interned.clear()
        return self._interned.setdefault(key, values)

    def _examine_tls(
        self,
        out: Examined,
        at: NDArray[np.int64],
        arena: NDArray[np.uint8],
        heads: NDArray[Any],
        pairs: NDArray[np.int32],
        known: NDArray[np.int8],
        settled: bool,
    ) -> None:
        """All connections that begin with TLS."""
        if not at.size:
            return
        if not settled:
            out.application[at] = TLS
            return
        opener = np.where(known[at] >= 0, known[at], 0)
        client = np.where(out.client_side[at] >= 0, out.client_side[at], opener)
        slots = np.ascontiguousarray(np.where((client == 1)[:, None], pairs[at, ::-1], pairs[at]))
        starts = np.zeros((len(at), 2), dtype=np.int32)
        if not self._collect:
            if len(self._rows) < len(slots):
                self._rows = np.zeros(len(slots), dtype=tls_kernel.TLS_ROW)
            rows = self._rows[: len(slots)]
            inside = np.zeros(len(slots), dtype=np.bool_)
            tls_kernel.walk_tls(arena, heads, slots, starts, True, rows)
            tls_kernel.is_https(arena, slots, rows, inside)
            odd = np.flatnonzero(rows["flags"] & tls_kernel.ODD)
            if odd.size:
                inside[odd] = [each for _, each in self._walk(arena, heads, slots[odd], starts[odd])]
            out.application[at] = np.where(inside, HTTPS, TLS)
            unsaid = out.client_side[at] < 0
            out.client_side[at[unsaid]] = np.where(known[at] >= 0, known[at], -1)[unsaid]
            return
        told = self._walk(arena, heads, slots, starts)
        unsaid = out.client_side[at] < 0
        opened = unsaid & (known[at] >= 0)
        out.client_side[at[opened]] = client[opened]
        out.application[at] = np.where([https for _, https in told], HTTPS, TLS)
        for i, (facts, _) in zip(at.tolist(), told, strict=True):
            out.facts[i] = facts
            if facts.get(ANSWERED_WITH) == "other":
                out.application[i] = UNKNOWN
        for i in at[unsaid & ~opened].tolist():
            out.facts[i] = self._with(out.facts[i], ROLES, "unknown")

    def _walk(
        self, arena: NDArray[np.uint8], heads: NDArray[Any], slots: NDArray[np.int32], starts: NDArray[np.int32]
    ) -> list[tuple[Facts, bool]]:
        """Facts of TLS that begins at ``starts`` of the heads in ``slots`` (client, server), and whether they show HTTPS."""
        rows = np.zeros(len(slots), dtype=tls_kernel.TLS_ROW)
        tls_kernel.walk_tls(arena, heads, slots, starts, False, rows)
        told: list[tuple[Facts, bool]] = []
        strange = ((rows["stop"][:, 1] == tls_kernel.STOP_RECORD) & (rows["stop_at"][:, 1] == starts[:, 1])).tolist()
        filled = np.where(slots >= 0, heads["filled_bytes"][np.maximum(slots, 0)], 0)
        within = np.stack([starts, filled.astype(np.int32)], axis=2)
        for i, found in enumerate(self._tls.of_rows(rows, arena, slots, within)):
            if found is None:
                streams = Streams(
                    _cut(self._head(arena, heads, int(slots[i, 0])), int(starts[i, 0])),
                    _cut(self._head(arena, heads, int(slots[i, 1])), int(starts[i, 1])),
                )
                read = self._facts(self._inspect(self._by_name["tls"], streams))
                told.append((read, _tls_facts.is_https(read)))
                continue
            facts = found[0]
            if strange[i]:
                said = arena[slots[i, 1], starts[i, 1] : starts[i, 1] + _STATUS_BYTES].tobytes()
                if said.startswith(b"HTTP/1."):
                    facts = self._with(facts, ANSWERED_WITH, "http")
                    if said[9:].isdigit() and len(said) == _STATUS_BYTES:
                        facts = self._with(facts, "tls.answered_status", int(said[9:]))
                elif _goes_on(arena[slots[i, 0]], int(starts[i, 0]), int(filled[i, 0])) and not (
                    heads["midstream"][slots[i]].any()
                ):
                    facts = self._with(facts, ANSWERED_WITH, "other")
            told.append((facts, found[1]))
        return told

    def _hand_over(
        self,
        out: Examined,
        handed: list[_Handed],
        arena: NDArray[np.uint8],
        heads: NDArray[Any],
        pairs: NDArray[np.int32],
    ) -> None:
        """Follow protocols that turn into others: those that turn into TLS together, the rest one by one."""
        to_tls: list[tuple[int, _Found, int]] = []
        for i, found, streams, client in handed:
            upgrade = found.handover
            bare = upgrade is not None and upgrade.carried is None and upgrade.protocol == "tls"
            if upgrade is not None and bare and self._is_tls(streams, upgrade):
                to_tls.append((i, found, client))
            else:
                self._follow(found, streams, 1)
                out.facts[i] = self._facts(found)
        if not to_tls:
            return
        slots = np.array([[pairs[i, client], pairs[i, 1 - client]] for i, _, client in to_tls], dtype=np.int32)
        starts = np.array(
            [[found.handover.orig_at, found.handover.resp_at] for _, found, _ in to_tls if found.handover],
            dtype=np.int32,
        )
        for (i, found, _), (facts, _) in zip(to_tls, self._walk(arena, heads, slots, starts), strict=True):
            marks = ((found.frames, None), *facts.marks)
            out.facts[i] = Facts(
                self._intern(found.values | dict(facts.shared)),
                facts.own,
                marks,
                {**found.certainties, **facts.certainties},
            )

    def _is_tls(self, streams: Streams, upgrade: Handover) -> bool:
        inspector = self._by_name.get("tls")
        if inspector is None:
            return False
        rest = Streams(_bytes_after(streams.orig, upgrade.orig_at), _bytes_after(streams.resp, upgrade.resp_at))
        return inspector.probe(rest) is Match.YES

    def _follow(self, found: _Found, streams: Streams, depth: int) -> None:
        """Inspect what a protocol turned into, at most ``MAX_HANDOVERS`` deep."""
        upgrade = found.handover
        if upgrade is None or depth > MAX_HANDOVERS:
            return
        inspector = self._by_name.get(upgrade.protocol)
        if upgrade.carried is not None:
            rest = Streams(*upgrade.carried, line_bytes=self._line_bytes)
        else:
            rest = Streams(
                _cut(streams.orig, upgrade.orig_at), _cut(streams.resp, upgrade.resp_at), line_bytes=self._line_bytes
            )
        if inspector is None or inspector.probe(rest) is not Match.YES:
            return
        inner = self._inspect(inspector, rest)
        found.limited = found.limited or inner.limited
        self._follow(inner, rest, depth + 1)
        for kind, value in inner.values.items():
            found.values.setdefault(kind, value)
            found.frames.setdefault(kind, inner.frames.get(kind, ()))

    def _note_alerts(
        self,
        out: Examined,
        alerted: NDArray[np.int8],
        arena: NDArray[np.uint8],
        heads: NDArray[Any],
        pairs: NDArray[np.int32],
    ) -> None:
        """A TLS alert as the only answer to something that is no TLS: its server wants TLS."""
        spoken = (out.application != TLS) & (out.application != HTTPS) & (alerted >= 0)
        for i in np.flatnonzero(spoken).tolist():
            side = int(alerted[i])
            if pairs[i, 1 - side] < 0:
                continue
            head = self._head(arena, heads, int(pairs[i, side]))
            told = (
                tls_wire.ALERT_LEVELS.get(head.data[5], str(head.data[5])),
                tls_wire.ALERTS.get(head.data[6], str(head.data[6])),
            )
            facts = out.facts[i]
            values = {} if facts is None else dict(facts.shared)
            frames: tuple[tuple[Any, bytes | None], ...] = (({"tls.alert_to_plaintext": head.frames(0, 7)}, None),)
            shared = self._intern({**values, "tls.alert_to_plaintext": told})
            if facts is None:
                out.facts[i] = Facts(shared, marks=frames)
                out.client_side[i] = 1 - side
            else:
                out.facts[i] = Facts(shared, facts.own, facts.marks + frames, facts.certainties)


def _take(found: _Found, told: Evidence) -> None:
    found.values[told.kind] = told.value
    if told.frames:
        found.frames[told.kind] = told.frames
    if told.certainty is not Certainty.PROVEN:
        found.certainties[told.kind] = told.certainty


def _cut(head: StreamHead, at: int) -> StreamHead:
    """What follows ``at`` bytes, whose beginning is then known."""
    return replace(head.after(at), midstream=False) if at else head


def _bytes_after(head: StreamHead, at: int) -> StreamHead:
    """The same for a probe, which asks for no frames."""
    left = max(head.stream_bytes - at, 0)
    return StreamHead(head.data[at:], head.gap, head.ended, head.midstream and not at, left)


def _goes_on(data: NDArray[np.uint8], start: int, filled: int) -> bool:
    """Whether a client says more behind its ClientHello than an alert."""
    end = (
        start
        + tls_wire.RECORD_HEADER_BYTES
        + int.from_bytes(data[start + 3 : start + tls_wire.RECORD_HEADER_BYTES].tobytes(), "big")
    )
    return filled > end and int(data[end]) != tls_wire.ALERT
