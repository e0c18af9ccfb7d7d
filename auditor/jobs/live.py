"""A running capture audited: sources that are followed at the same time, and windows that end while they go on.

What holds here:

- Every source is followed by a thread of its own, with the reader, decoder and tracker that files have. If it fails, it is started again after a while;
  the others continue, and the report says when and how often.
- A window ends by the clock that is handed in (or because the table is full). Its report is about the connections that had packets in it, each
  with all that is known since it began: the last word on a connection is the same as if all packets had been audited at once.
- What is reported is forgotten, unless it may go on. So memory is bounded by the connections of a window, and by ``Limits.connections``;
  sessions that a later one may resume are remembered apart, some thousands of them.
- A finding is reported early if further packets cannot change it: its connections are closed, or their first bytes are complete; who opened them is
  known; and roles come from an inventory (inferred ones may change with every packet).
- Losses are counted where they happen: in the kernel, in the pipe to us, in the table.
- Our own connections are no finding: a capture filter leaves out those that are known when it is made, and those that come later (a login that is
  made again, one that another VM sees pass) are taken out of what is judged (``Own``).
"""

from __future__ import annotations

import importlib
import io
import pkgutil
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from auditor.capture import open_capture
from auditor.capture.live import Ends, Place, Stream
from auditor.capture.live import told as told_ends
from auditor.capture.ring import RingWriter, warm
from auditor.conntrack import TrackedPart, Tracker, TrackLimits
from auditor.decode import Decoder, guess_link_type
from auditor.errors import InputError
from auditor.inspectors._examine import Examiner
from auditor.kernels import tcpstate
from auditor.model.audit import Audit
from auditor.model.connections import CONN, ROW_SETTLED, SEEN_FIN, SEEN_RST, SEEN_SYN, SEEN_SYNACK, ConnectionTable
from auditor.model.frames import Capture, FrameBatch, Problem, VantagePoint
from auditor.model.limits import Limits, told
from auditor.pipeline import Followed, follow_one
from auditor.policy.addresses import to_int
from auditor.wire import link, pcap
from auditor.wire.text import many

NS: Final = 1_000_000_000
TICK_SECONDS: Final = 0.1
LOOK_SECONDS: Final = 2.0
"""Seconds between searches for findings; more if a search takes longer than a tenth of it."""
CLOSED_SECONDS: Final = 60
"""So long a closed connection stays, for packets that come late: Linux keeps TIME_WAIT for 60 s."""
ATTEMPT_SECONDS: Final = 10
"""Seconds without an answer after which none is expected: Linux repeats a SYN after 1, 3 and 7 s."""
OWN: Final = 256
"""So many connections of our own are remembered."""
_LOW: Final = (1 << 64) - 1
SESSIONS: Final = 8_192
"""So many closed TLS connections are remembered for those that resume them, a source."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
GOOD_SECONDS: Final = 60.0
"""A source that ran for so long is begun again at once when it dies."""
FIRST_TRIES: Final = 3
"""Attempts after which a source that never sent a packet is given up."""
JOIN_SECONDS: Final = 15.0
LAST_SECONDS: Final = 1.2
"""The kernel hands packets over in blocks, and where few come, after up to a second (tcpdump): so long those of the last moment are waited for."""
KEPT_PROBLEMS: Final = 20
_LATER: Final = frozenset({"unverifiable-authentication", "capture-incomplete"})
"""What is missing now may still arrive: reported when the window ends."""
_TLS: Final = frozenset({"tls", "https"})

Array = NDArray[Any]


class Opener(Protocol):
    """Opens a source, again and again."""

    def __call__(self) -> Stream:
        """Its bytes from now on. Raises InputError or OSError."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One line for the user: a source started, failed, or is back."""

    says: str


@dataclass(frozen=True, slots=True)
class Told:
    """Findings that further packets cannot change, reported for the first time."""

    audit: Audit
    """Of all that is certain; ``findings`` holds the new ones only."""


@dataclass(frozen=True, slots=True)
class Window:
    """A window that ended."""

    audit: Audit
    number: int
    """From 1."""
    last: bool
    early: bool
    """It ended because the table was full."""


Event = Notice | Told | Window


@dataclass(frozen=True, slots=True)
class Status:
    """How far the session is."""

    packets: int
    bytes: int
    connections: int
    """Held now, and those forgotten."""
    dropped: int
    findings: int
    running: int
    sources: int


@dataclass(slots=True)
class _Mark:
    """Counts at the last cut."""

    packets: int = 0
    bytes: int = 0
    kernel: int = 0
    pipe: int = 0
    last_frame: int = 0
    clock_ns: int = -1


class Own:
    """The auditor's own connections, as any source knows them. For all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[Ends, None] = {}

    def add(self, ends: Sequence[Ends]) -> None:
        """Remember connections; the oldest go when there are very many."""
        with self._lock:
            self._ends |= dict.fromkeys(ends)
            while len(self._ends) > OWN:
                del self._ends[next(iter(self._ends))]

    def among(self, rows: Array) -> tuple[NDArray[np.bool_], list[Ends]]:
        """Which rows (CONN) are among them, and whose they are."""
        found = np.zeros(len(rows), np.bool_)
        whose = []
        with self._lock:
            ends = list(self._ends)
        for each in ends:
            one, other = to_int(each[0]), to_int(each[2])
            mine = np.zeros(len(rows), np.bool_)
            for (a, a_port), (b, b_port) in (
                ((one, each[1]), (other, each[3])),
                ((other, each[3]), (one, each[1])),
            ):
                ports = (rows["a_port"] == a_port) & (rows["b_port"] == b_port) & (rows["proto"] == tcpstate.TCP)
                if ports.any():
                    high = (rows["a_hi"] == a >> 64) & (rows["b_hi"] == b >> 64)
                    mine |= ports & high & (rows["a_lo"] == a & _LOW) & (rows["b_lo"] == b & _LOW)
            if mine.any():
                found |= mine
                whose.append(each)
        return found, whose


class Feed:
    """One source, followed by a thread."""

    def __init__(
        self,
        place: Place,
        opener: Opener,
        *,
        index: int,
        limits: Limits,
        tell: Callable[[str], None],
        clock: Callable[[], int],
        ring: RingWriter | None = None,
        link_type: int | None = None,
        tool: str = "",
        own: Own | None = None,
        alone: bool = True,
    ) -> None:
        """``alone``: no other source has packets of the same connections; else first bytes with gaps wait for what others saw of them."""
        self.place, self.tool = place, tool
        self._own = own if own is not None else Own()
        self._left_out: dict[Ends, None] = {}
        self._at_first: list[Ends] = []
        self.lock = threading.Lock()
        """Lock: taken while packets are added, and while they are examined."""
        self._opener, self._tell, self._clock, self._ring, self._wanted = opener, tell, clock, ring, link_type
        self._index = index
        self._limits = limits
        self.examiner = Examiner(limits=limits)
        # More come while a window that is full is written; beyond twice as many their packets are counted and left.
        held = replace(TrackLimits.of(limits), connections=2 * limits.connections)
        self.tracker = Tracker(self.examiner, capture=index, alone=alone, limits=held)
        self._stream: Stream | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"source {index}", daemon=True)
        self._context = TrackedPart(np.zeros(0, CONN), [])
        self._mark = _Mark()
        # Since the beginning:
        self.packets = self.bytes = 0
        self.forgotten = self.given_up = 0
        self.restarts = 0
        self.running = False
        self.ran = False
        """It gave the header of a capture at least once."""
        self.failed: str | None = None
        """Why it never ran."""
        self._kernel_before = self._pipe_before = 0
        self._counted = False
        self.took_ns = 0
        """When packets came last, by our clock."""
        self._format, self._link_type, self._digits = "pcap", 1, 9
        # Of this window:
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._problems: list[Problem] = []
        self._given_up = 0
        self._refused = 0

    # Following

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def done(self) -> bool:
        """Its thread has ended."""
        return not self._thread.is_alive()

    def _run(self) -> None:
        pause, tries = FIRST_PAUSE_SECONDS, 0
        while not self._stop.is_set():
            began = self._clock()
            why = self._follow()
            self.running = False
            if self._stop.is_set() or (not self.place.endless and why is None):
                break
            tries += 1
            if not self.ran and (tries >= FIRST_TRIES or not self.place.endless):
                self.failed = why or "no data"
                break
            if not self.place.endless:
                self._trouble("interrupted", why or "")
                break
            if self._clock() - began > GOOD_SECONDS * NS:
                pause = FIRST_PAUSE_SECONDS
            says = f"ended: {why or 'without a message'}"
            self._trouble("interrupted", f"{says}; packets are missing until it is captured again")
            self._tell(f"{self.place.text}: {says}; trying again in {pause:.0f} s")
            self.restarts += 1
            if self._stop.wait(pause):
                break
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _trouble(self, kind: str, says: str) -> None:
        with self.lock:
            if len(self._problems) < KEPT_PROBLEMS:
                self._problems.append(Problem(kind, says, frame=self.packets))

    def _follow(self) -> str | None:
        """One run of the source, to its end; returns why it ended, None where that was to be."""
        try:
            stream = self._opener()
        except (InputError, OSError) as error:
            return getattr(error, "says", None) or str(error)
        with self.lock:
            self._stream = stream
        if self._stop.is_set():
            stream.stop()
        stream.tick = None
        try:
            return self._read(stream)
        except InputError as error:
            return stream.why() or error.says
        except Exception as error:  # any error ends only this source
            return f"internal error: {type(error).__name__}"
        finally:
            stream.close()
            with self.lock:
                # What it dropped is reported at its very end.
                self._kernel_before += stream.said.drops.kernel or 0
                self._pipe_before += stream.said.drops.pipe or 0
                self._counted = self._counted or stream.said.drops.kernel is not None
                self._stream = None

    def _read(self, stream: Stream) -> str | None:
        before_bytes, before_frames = self.bytes, self.packets
        # A reader asks for no more of a file than ``readinto``.
        file = cast(BinaryIO, stream)
        name, wanted, limits = self.place.text, self._wanted, self._limits
        with open_capture(file, name=name, link_type=wanted, limits=limits, prompt=True) as reader:
            self.ran = self.running = True
            self.leaves_out(stream.said.left_out)
            self._own.add([*stream.said.left_out, *stream.connections])
            left_out = told_ends([*stream.said.left_out, *self._at_first])
            again = "again " if self.restarts else ""
            apart = f"; left out: the auditor's own connection ({left_out})" if left_out else ""
            self._tell(
                f"{self.place.text}: capturing {again}{f'with {self.tool}' if self.tool else ''}".rstrip() + apart
            )
            self._format = reader.format_name
            decoder = Decoder(max_depth=self._limits.tunnel_depth)
            corrected: int | None = None
            looked = 0
            for batch in reader.batches():
                if looked < 64 and corrected is None and self._wanted is None:
                    corrected = guess_link_type(batch)
                    looked += len(batch)
                    if corrected is not None:
                        self._trouble("corrected", "its header gives a link type that its frames do not have")
                taken = self._taken(batch, corrected, before_frames)
                with self.lock:
                    for packets in decoder.decode(taken):
                        self.tracker.feed(packets, taken.buf)
                    self._count(taken, before_bytes + reader.read_bytes)
                if self._ring is not None:
                    self._keep(taken)
            with self.lock:
                left = decoder.finish()
                if len(left):
                    self.tracker.feed(left, np.zeros(1, np.uint8))
            problems = reader.summary().problems
        damaged = [each for each in problems if each.kind not in ("corrected", "truncated")]
        for each in damaged:
            self._trouble(each.kind, each.says)
        cut = [each for each in problems if each.kind == "truncated"]
        if cut and not stream.stopping:
            self._trouble("truncated", cut[0].says)
        if stream.stopping:
            return None
        if self.place.endless:
            return stream.why() or (damaged[0].says if damaged else None)
        return None

    def _taken(self, batch: FrameBatch, corrected: int | None, before: int) -> FrameBatch:
        """The batch as the session sees it: its frames numbered over all runs of the source."""
        kinds = batch.link_type if corrected is None else np.full(len(batch), corrected, np.int32)
        number = None if batch.number is None else batch.number + before
        return replace(batch, link_type=kinds, first_frame_no=batch.first_frame_no + before, number=number)

    def _count(self, batch: FrameBatch, read_bytes: int) -> None:
        self.packets += len(batch)
        self.bytes = read_bytes
        self.took_ns = self._clock()
        times = batch.ts_ns[batch.ts_ns != 0]
        if times.size:
            first, last = int(times.min()), int(times.max())
            self._first_ns = first if self._first_ns is None else min(self._first_ns, first)
            self._last_ns = last if self._last_ns is None else max(self._last_ns, last)
        if len(batch):
            self._link_type = int(batch.link_type[0])

    def _keep(self, batch: FrameBatch) -> None:
        assert self._ring is not None  # noqa: S101
        self._ring.write(batch, batch.link_type)
        if self._ring.failed is not None:
            self._trouble("limit", self._ring.failed)
            self._tell(f"{self.place.text}: {self._ring.failed}")
            self._ring = None

    @property
    def begun(self) -> bool:
        """Set when it runs, ran or never will: waiting for its start ends."""
        return self.ran or self.failed is not None or self._stop.is_set() or self.restarts > 0

    def connections(self) -> list[Ends]:
        """The TCP connections through which its packets come."""
        stream = self._stream
        return stream.connections if stream is not None else []

    def leaves_out(self, ends: Sequence[Ends], *, here: bool = False) -> None:
        """Connections of our own that its capture leaves out. ``here``: its capture on this machine was begun so."""
        self._left_out |= dict.fromkeys(ends)
        if here:
            self._at_first = list(ends)

    def stop(self) -> None:
        """Let it finish."""
        self._stop.set()
        with self.lock:
            if self._stream is not None:
                self._stream.stop()

    def join(self, seconds: float) -> bool:
        """Wait for its end; what does not come to one is ended."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self.abort()
            self._thread.join(5.0)
        if self._ring is not None and self.done:
            self._ring.close()
        return self.done

    def abort(self) -> None:
        """End it at once."""
        self._stop.set()
        stream = self._stream
        if stream is not None:
            stream.abort()

    # What is known

    def dropped(self) -> tuple[int | None, int]:
        """Packets lost in the kernel (None: unknown) and in the pipe, since the start."""
        stream = self._stream
        kernel, pipe, counted = self._kernel_before, self._pipe_before, self._counted
        if stream is not None:
            drops = stream.said.drops
            counted = counted or drops.kernel is not None
            kernel, pipe = kernel + (drops.kernel or 0), pipe + (drops.pipe or 0)
        return (kernel if counted else None), pipe

    def certain(self, many: bool) -> Followed:
        """The connections of this window that further packets cannot change. ``many``: other sources may have seen answers that this one lacks."""
        with self.lock:
            self.tracker.examine()
            rows = self.tracker.rows
            clock = self.tracker.clock_ns or 0
            seen = rows["side"]["seen"]
            tcp = rows["proto"] == tcpstate.TCP
            directed = ((seen & (SEEN_SYN | SEEN_SYNACK)) != 0).any(axis=1) | ~tcp
            finished = ((seen & SEEN_FIN) != 0).all(axis=1) | ((seen & SEEN_RST) != 0).any(axis=1)
            # By the packets' clock, and by ours where no packets come.
            silent = clock - rows["last_ns"] + max(self._clock() - self.took_ns, 0)
            settled = ((rows["state"] & ROW_SETTLED) != 0) & (rows["application"] >= 0)
            answered = (rows["side"]["pkts"] > 0).all(axis=1)
            quiet = (silent >= ATTEMPT_SECONDS * NS) & (answered | (not many))
            wanted = directed & (settled | (finished & (silent >= NS)) | quiet)
            part = self.tracker.peek(wanted & ~self._ours())
            return Followed(self._capture(0), self._with_context(part), dict(self.examiner.certificates.der))

    def window(self) -> tuple[Followed, Array, int]:
        """All that is known; which of it had packets in the window that ends here (first frames of the connections); and when that began.

        What comes from now on belongs to the next window.
        """
        with self.lock:
            part = self.tracker.peek(~self._ours())
            active = part.rows["first_frame"][part.rows["last_frame"] > self._mark.last_frame]
            since = self._mark.clock_ns
            refused = part.hits.get("connections", 0)
            capture = self._capture(refused - self._refused)
            self._refused = refused
            kernel, pipe = self.dropped()
            last = int(part.rows["last_frame"].max(initial=self._mark.last_frame))
            self._mark = _Mark(self.packets, self.bytes, kernel or 0, pipe, last, self.tracker.clock_ns or 0)
            self._first_ns = self._last_ns = None
            self._problems, self._given_up = [], 0
            followed = Followed(capture, self._with_context(part), dict(self.examiner.certificates.der))
            return followed, active, since

    def _ours(self) -> NDArray[np.bool_]:
        """Rows that are the auditor's own connections."""
        rows, whose = self._own.among(self.tracker.rows)
        self._left_out |= dict.fromkeys(whose)
        return rows

    def _with_context(self, part: TrackedPart) -> TrackedPart:
        context = self._context
        if not len(context.rows):
            return part
        moved = part.rows.copy()
        at = len(context.rows)
        moved["outer"] = np.where(moved["outer"] >= 0, moved["outer"] + at, -1)
        held = {row + at: waits for row, waits in part.pending.items()}
        facts = [*context.facts, *part.facts]
        return replace(part, rows=np.concatenate([context.rows, moved]), facts=facts, pending=held)

    def _capture(self, refused: int) -> Capture:
        """This window of the source. ``refused``: packets for which there was no room in the table."""
        kernel, pipe = self.dropped()
        dropped = None if kernel is None else kernel - self._mark.kernel + pipe - self._mark.pipe
        problems = list(self._problems)
        if self._given_up:
            says = f"{self._given_up} connections dropped before their end"
            problems.append(Problem("limit", told("connections", self._limits, says)))
        if refused:
            says = f"{refused} packets belong to connections above the limit; they are in no connection"
            problems.append(Problem("limit", told("connections", self._limits, says)))
        if self.failed is not None:
            problems.append(Problem("interrupted", f"no packets from it: {self.failed}"))
        point = VantagePoint(self.place.text, None, self._link_type, 0)
        return Capture(
            path=self.place.text,
            format=self._format,
            packets=self.packets - self._mark.packets,
            bytes=self.bytes - self._mark.bytes,
            first_ns=self._first_ns,
            last_ns=self._last_ns,
            time_digits=self._digits,
            vantage_points=(point,),
            dropped=dropped,
            problems=tuple(problems),
        )

    def account(self) -> dict[str, Any]:
        """Notes on the source for the report, since the start."""
        kernel, pipe = self.dropped()
        return {
            "source": self.place.text,
            "tool": self.tool or None,
            "left_out": told_ends(list(self._left_out)),
            "packets": self.packets,
            "restarts": self.restarts,
            "dropped": {"kernel": kernel, "pipe": pipe, "table": self._refused},
            "given_up": self.given_up,
        }

    # Cutting

    def cut(self, room: int | None) -> None:
        """Drop what the last window reported and what has ended. ``room``: no more connections than that may stay (None: all that may go on)."""
        with self.lock:
            rows = self.tracker.rows
            clock = self.tracker.clock_ns or 0
            limits = TrackLimits()
            tcp = rows["proto"] == tcpstate.TCP
            seen = rows["side"]["seen"]
            closed = ((seen & SEEN_FIN) != 0).all(axis=1) | ((seen & SEEN_RST) != 0).any(axis=1)
            closed |= rows["superseded"] != 0
            silent = clock - rows["last_ns"]
            wait = CLOSED_SECONDS if room is None else 2
            longest = np.where(tcp, limits.tcp_silence_s, limits.other_silence_s) * NS
            reported = rows["last_frame"] <= self._mark.last_frame
            gone = reported & ((closed & (silent >= wait * NS)) | (silent > longest))
            staying = np.flatnonzero(reported & ~gone)
            if room is not None and staying.size > room:
                # Datagrams first, then the longest idle.
                order = np.lexsort((rows["last_ns"][staying], tcp[staying]))
                over = staying[order[: staying.size - room]]
                gone[over] = True
                self._given_up = int((~closed[over]).sum())
                self.given_up += self._given_up
            if gone.any():
                self._remember(gone)
                self.forgotten += int(gone.sum())
                self.tracker.forget(gone)

    def _remember(self, gone: NDArray[np.bool_]) -> None:
        """Keep the TLS connections among what goes: later ones may resume their sessions."""
        codes = [code for code, name in enumerate(self.examiner.applications) if name in _TLS]
        wanted = gone & np.isin(self.tracker.rows["application"], codes)
        part = self.tracker.peek(wanted)
        part.rows["superseded"] = 1
        part.rows["outer"] = -1
        rows = np.concatenate([self._context.rows, part.rows])[-SESSIONS:]
        self._context = TrackedPart(rows, [*self._context.facts, *part.facts][-SESSIONS:])


def _pcap(link_type: int, frames: Sequence[bytes]) -> bytes:
    """A capture of these frames, a millisecond apart."""
    records = (struct.pack("<IIII", 1, k * 1_000_000, len(frame), len(frame)) + frame for k, frame in enumerate(frames))
    return struct.pack("<IHHiIII", pcap.MAGIC_NANOS, 2, 4, 0, 0, 65_535, link_type) + b"".join(records)


def _ipv4(proto: int, body: bytes, *, back: bool = False, fragment: int = 0) -> bytes:
    """An IPv4 packet between two documentation addresses (RFC 5737)."""
    ends = (bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2)))
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 7, fragment, 64, proto, 0)
    return header + (ends[1] + ends[0] if back else ends[0] + ends[1]) + body


def _tcp(flags: int, seq: int, ack: int, data: bytes = b"", *, back: bool = False) -> bytes:
    ports = (443, 50_000) if back else (50_000, 443)
    return _ipv4(6, struct.pack(">HHIIBBHHH", *ports, seq, ack, 0x50, flags, 65_535, 0, 0) + data, back=back)


def _few_packets() -> Iterator[tuple[int, list[bytes]]]:
    """(link type, frames) of captures that between them pass through all compiled code: a TLS connection and a datagram; then what is rare."""
    hello = bytes.fromhex("16030100310100002d0303") + bytes(32) + bytes.fromhex("000002c02f01000002ff01") + bytes(2)
    answer = bytes.fromhex("160303002a020000260303") + bytes(32) + bytes.fromhex("00c02f0000")
    query = _ipv4(17, struct.pack(">HHHH", 50_000, 53, 20, 0) + bytes(12))
    talk = [
        _tcp(2, 1, 0),
        _tcp(18, 9, 2, back=True),
        _tcp(24, 2, 10, hello),
        _tcp(24, 10, 2 + len(hello), answer, back=True),
        _tcp(17, 2 + len(hello), 10 + len(answer)),
        query,
    ]
    ethernet = bytes(12) + b"\x08\x00"
    yield link.LINKTYPE_ETHERNET, [ethernet + each for each in talk]
    yield link.LINKTYPE_ETHERNET, [ethernet + each for each in talk]
    late, first = _ipv4(17, bytes(16), fragment=1), _ipv4(17, bytes((0, 9, 0, 9, 0, 24, 0, 0)), fragment=0x2000)
    yield link.LINKTYPE_ETHERNET, [ethernet + late, ethernet + first, ethernet + _ipv4(17, bytes(8), fragment=0x2002)]
    wireless = bytes((8, 0)) + bytes(22) + bytes.fromhex("aaaa030000000800")
    yield link.LINKTYPE_IEEE802_11, [wireless + query]


def warm_up(policy: Any, inventory: Any, options: dict[str, Any], *, ring: bool, sample: str | None = None) -> Audit:
    """Audit a few packets, so that all code is loaded and compiled before the first real ones; returns that audit.

    ``ring``: packets will be kept. ``sample``: a capture with many findings, where nothing can be loaded later: then what is seldom needed is loaded, too.
    """
    rare = sample is not None
    if rare:
        for each in pkgutil.walk_packages(sys.modules["auditor"].__path__, "auditor."):
            if not each.name.startswith(("auditor.cli", "auditor.__main__", "auditor._data")):
                importlib.import_module(each.name)
    followed = []
    for k, (link_type, frames) in enumerate(list(_few_packets())[: None if rare else 2]):
        examiner = Examiner()
        tracker = Tracker(examiner, capture=k, limits=TrackLimits(head_slots=64))
        with open_capture(io.BytesIO(_pcap(link_type, frames)), name="warm-up", prompt=True) as reader:
            decoder = Decoder()
            for batch in reader.batches():
                guess_link_type(batch)
                for packets in decoder.decode(batch):
                    tracker.feed(packets, batch.buf)
                if ring:
                    warm(batch)
            tracker.feed(decoder.finish(), np.zeros(1, np.uint8))
        tracker.forget(np.zeros(len(tracker), np.bool_))
        followed.append(Followed(reader.summary(), tracker.peek(), {}))
    judge = judge_with(policy, inventory, options)
    audit = judge(followed, None)
    return judge([follow_one(sample, 0, {}, False)], None) if sample is not None else audit


Judge = Callable[[Sequence[Followed], Callable[[ConnectionTable], NDArray[np.bool_]] | None], Audit]
"""Audits what was followed; see ``pipeline.run`` for the second."""


def judge_with(
    policy: Any, inventory: Any, options: dict[str, Any], warn: Callable[[str], None] | None = None
) -> Judge:
    """The pipeline, fed with what live sources gave."""
    from auditor import pipeline

    # Memory of the sources is bounded here, by ending windows; the report covers all of it.
    limits: Limits = options.get("limits", Limits())
    options = {**options, "limits": replace(limits, connections=10**9)}

    def judge(followed: Sequence[Followed], within: Callable[[ConnectionTable], NDArray[np.bool_]] | None) -> Audit:
        places = [io.BytesIO() for _ in followed]
        return pipeline.run(
            places,
            policy=policy,
            inventory=inventory,
            options=options,
            follow=lambda *_: followed,
            warn=warn,
            within=within,
        )

    return judge


@dataclass(slots=True)
class Session:
    """Sources followed together. ``events`` is its life; ``stop`` and ``abort`` may be called from anywhere."""

    feeds: Sequence[Feed]
    judge: Judge
    clock: Callable[[], int]
    """Nanoseconds since 1970."""
    limits: Limits = field(default_factory=Limits)
    window_ns: int | None = None
    duration_ns: int | None = None
    early: bool = True
    """Findings are reported before their window ends."""
    notices: deque[str] = field(default_factory=deque)
    stopped: threading.Event = field(default_factory=threading.Event)
    windows: int = 0
    _told: set[str] = field(default_factory=set)
    _findings: int = 0
    _looked: tuple[tuple[int, ...], bool] = ((), False)

    def stop(self) -> None:
        """Finish the window and end."""
        self.stopped.set()

    def abort(self) -> None:
        """Stop all threads and processes."""
        self.stopped.set()
        for feed in self.feeds:
            feed.abort()

    def status(self) -> Status:
        """How far it is."""
        dropped = 0
        for feed in self.feeds:
            kernel, pipe = feed.dropped()
            dropped += (kernel or 0) + pipe
        return Status(
            packets=sum(feed.packets for feed in self.feeds),
            bytes=sum(feed.bytes for feed in self.feeds),
            connections=sum(len(feed.tracker) + feed.forgotten for feed in self.feeds),
            dropped=dropped,
            findings=self._findings,
            running=sum(feed.running for feed in self.feeds),
            sources=len(self.feeds),
        )

    def events(self) -> Iterator[Event]:
        """Events in order; the last one is the last window. Raises InputError if no source ever sent a packet."""
        began = window_began = self.clock()
        for feed in self.feeds:
            feed.start()
        next_look = began + int(LOOK_SECONDS * NS)
        ticking = threading.Event()
        try:
            while True:
                ended = self.stopped.is_set() or all(feed.done for feed in self.feeds)
                now = self.clock()
                if self.duration_ns is not None and now - began >= self.duration_ns:
                    ended = True
                yield from self._notices()
                if ended:
                    break
                full = sum(len(feed.tracker) for feed in self.feeds) >= self.limits.connections
                if full or (self.window_ns is not None and now - window_began >= self.window_ns):
                    if full:
                        says = f"limit of {many(self.limits.connections, 'connection')} reached: the window ends early"
                        yield Notice(told("connections", self.limits, says))
                    yield self._window(window_began, full, False)
                    # Windows follow each other without a gap, however long the report took.
                    window_began = now if full or self.window_ns is None else window_began + self.window_ns
                    next_look = self.clock() + int(LOOK_SECONDS * NS)
                elif self.early and now >= next_look:
                    found = self._look()
                    if found is not None:
                        yield found
                    after = self.clock()
                    next_look = after + max(int(LOOK_SECONDS * NS), 10 * (after - now))
                ticking.wait(TICK_SECONDS)
            if any(feed.running and feed.place.endless for feed in self.feeds):
                ticking.wait(LAST_SECONDS)
            for feed in self.feeds:
                feed.stop()
            for feed in self.feeds:
                feed.join(JOIN_SECONDS)
            yield from self._notices()
            if not any(feed.ran for feed in self.feeds):
                first = self.feeds[0]
                raise InputError(first.place.text, first.failed or "no data")
            yield self._window(window_began, False, True)
        finally:
            for feed in self.feeds:
                if not feed.done:
                    feed.abort()

    def _notices(self) -> Iterator[Notice]:
        while self.notices:
            yield Notice(self.notices.popleft())

    def _look(self) -> Told | None:
        """Findings that are certain and were not reported yet."""
        packets = tuple(feed.packets for feed in self.feeds)
        quiet = self.clock() - max(feed.took_ns for feed in self.feeds) > (ATTEMPT_SECONDS + 1) * NS
        if self._looked == (packets, True):
            return None
        # If no more packets arrive, time-outs make the rest certain.
        self._looked = packets, quiet
        followed = [feed.certain(len(self.feeds) > 1) for feed in self.feeds]
        if not any(len(each.part.rows) for each in followed):
            return None
        audit = self.judge(followed, None)
        findings = audit.findings
        if not len(findings):
            return None
        guessed = set(audit.connections.loc[audit.connections["direction_by"] == "guess", "id"])
        fresh = [
            fingerprint not in self._told and rule not in _LATER and not guessed.intersection(ids)
            for fingerprint, rule, ids in zip(
                findings["fingerprint"], findings["rule"], findings["connections"], strict=True
            )
        ]
        if not any(fresh):
            return None
        chosen = findings[fresh].reset_index(drop=True)
        self._told.update(chosen["fingerprint"])
        self._findings = max(self._findings, len(self._told))
        return Told(replace(audit, findings=chosen))

    def _window(self, began_ns: int, early: bool, last: bool) -> Window:
        self.windows += 1
        found = [feed.window() for feed in self.feeds]
        active = np.concatenate([frames for _, frames, _ in found])
        late = max(clock for _, _, clock in found)
        whole = self.windows == 1

        def within(table: ConnectionTable) -> NDArray[np.bool_]:
            inside: NDArray[np.bool_] = np.isin(table.first_frame, active) | (table.last_ns > late)
            return inside

        audit = self.judge([each for each, _, _ in found], None if whole else within)
        sources = [feed.account() for feed in self.feeds]
        live = {"window": self.windows, "last": last, "full": early, "sources": sources}
        info = {**audit.info, "options": {**audit.info["options"], "live": live}}
        self._told.update(audit.findings["fingerprint"])
        self._findings = len(self._told)
        if not last:
            held = sum(len(feed.tracker) for feed in self.feeds)
            for feed in self.feeds:
                share = len(feed.tracker) / max(held, 1)
                feed.cut(int(self.limits.connections * share) // 2 if early else None)
        return Window(replace(audit, info=info), self.windows, last, early)
