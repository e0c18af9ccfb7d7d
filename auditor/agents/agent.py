"""The agent: captures on its VM, cuts what it follows into windows, and delivers them.

What holds here:

- The source is followed by a thread, as ``auditor live`` does (``jobs.live.Feed``); a window's end takes connections out of the table, but for those that have just begun. Connections that go on
  are joined by the collector, as those of consecutive captures are.
- Each window is on disk before anything is sent of it (``spool``). The thread that sends knows nothing but the spool: a collector that is away costs room on the disk and nothing else.
- What is missing is said in the window: what the kernel dropped, what the table had no room for, when nothing was captured because the agent was not running.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from auditor.agents.partial import certificates_of, may_leave
from auditor.agents.spool import Spool
from auditor.agents.transport import (
    MOST_SMALL,
    Alive,
    Delivery,
    FromCollector,
    Hello,
    Later,
    Refused,
    Taken,
    Welcome,
    message,
    receive,
)
from auditor.agents.wire import MOST_BYTES, Window, write_window
from auditor.conntrack import TrackedPart
from auditor.errors import InputError, WireError
from auditor.inspectors._examine import Examiner
from auditor.jobs.live import Feed
from auditor.model.frames import Capture, FrameBatch, Problem
from auditor.model.limits import told
from auditor.pipeline import Followed
from auditor.wire.text import many

NS: Final = 1_000_000_000
TICK_SECONDS: Final = 0.2
ALIVE_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 30.0
"""So long the collector may be silent."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
YOUNG: Final = 20
"""A connection is young, and stays for the next window, within so large a part of a window."""
SPARE_WINDOWS: Final = 2
"""So many windows that were cut may wait to be written."""
_FROM_COLLECTOR: Final = FromCollector


@dataclass(frozen=True, slots=True)
class Cut:
    """What a window's end took out."""

    capture: Capture
    part: TrackedPart
    examiner: Examiner
    began_ns: int
    ended_ns: int
    last: bool


class AgentFeed(Feed):
    """The source; at the end of a window all that was followed is taken out."""

    def __init__(self, *args: Any, window_ns: int, by_packets: bool, **options: Any) -> None:
        """``by_packets``: windows end by the packets' clock, for a source that is read as fast as it comes; else somebody calls ``cut_window``."""
        super().__init__(*args, alone=False, index=0, **options)
        self.cuts: queue.Queue[Cut] = queue.Queue(SPARE_WINDOWS)
        self._window_ns, self._by_packets = window_ns, by_packets
        self._began_ns = self._clock()
        self._end_ns: int | None = None
        self.notes: list[Problem] = []
        """To be said in the next window."""

    def _count(self, batch: FrameBatch, read_bytes: int) -> None:
        super()._count(batch, read_bytes)
        if not self._by_packets:
            return
        now = self.tracker.clock_ns or 0
        if self._end_ns is None:
            self._began_ns = self._first_ns or 0
            self._end_ns = self._began_ns - self._began_ns % self._window_ns + self._window_ns
        if now >= self._end_ns:
            self._end_ns = now - now % self._window_ns + self._window_ns
            self.cuts.put(self._take(now))

    def cut_window(self, now_ns: int, *, last: bool = False) -> Cut:
        """End the window now; ``last``: nothing follows."""
        with self.lock:
            return self._take(now_ns, last)

    def _take(self, now_ns: int, last: bool = False) -> Cut:
        """What is followed, out of the table; the lock is held.

        Connections that have just begun stay for the next window: so its end cuts no handshake in two, and no request from its answer.
        """
        tracker, examiner = self.tracker, self.examiner
        tracker.examine()
        rows = tracker.rows
        stays = rows["first_ns"] > (tracker.clock_ns or 0) - self._window_ns // YOUNG
        # What is in a tunnel goes with what carries it.
        inside = rows["outer"] >= 0
        stays &= ~inside
        stays[rows["outer"][inside]] = False
        taken = np.ones(len(rows), np.bool_) if last else ~stays
        part = tracker.peek(taken & ~self._ours())
        part.first_ns = int(part.rows["first_ns"].min()) if len(part.rows) else None
        part.last_ns = int(part.rows["last_ns"].max()) if len(part.rows) else None
        refused = part.hits.get("connections", 0)
        part.hits = {"first_bytes": part.hits.get("first_bytes", 0)}
        capture = self._capture(refused - self._refused)
        self._refused = refused
        certificates = [
            Problem("limit", told(name, self._limits, f"{count} certificates were not kept"))
            for name, count in examiner.hits.items()
            if count and name.startswith("certificate")
        ]
        capture = replace(capture, problems=(*capture.problems, *self.notes, *certificates))
        self.notes = []
        tracker.forget(taken)
        self.examiner = Examiner(limits=self._limits)
        for name, der in certificates_of(tracker.facts, examiner.certificates.der).items():
            self.examiner.certificates.keep(name, der)
        tracker.examine_with(self.examiner)
        kernel, pipe = self.dropped()
        mark = self._mark
        mark.packets, mark.bytes, mark.kernel, mark.pipe = self.packets, self.bytes, kernel or 0, pipe
        self._first_ns = self._last_ns = None
        self._problems = []
        began, self._began_ns = self._began_ns, now_ns
        return Cut(capture, part, examiner, began, now_ns, last)


@dataclass(slots=True)
class Agent:
    """One agent's life; ``stop`` may be called from anywhere."""

    name: str
    feed: AgentFeed
    spool: Spool
    window_ns: int
    clock: Callable[[], int]
    say: Callable[..., None]
    once: bool = False
    """The source has an end: stop when all of it is delivered."""
    connections: int = 20_000
    """A window ends early before there are more."""
    stopped: threading.Event = field(default_factory=threading.Event)
    sent_bytes: int = 0
    made_bytes: int = 0

    def run(self) -> None:
        """Follow, cut, keep, until somebody stops it. Raises InputError where the source never gave anything."""
        self._tell_gap()
        self.feed.start()
        end = self._next_end(self.clock())
        while not (self.stopped.is_set() or self.feed.done):
            self._keep_cuts(TICK_SECONDS)
            now = self.clock()
            full = len(self.feed.tracker) >= self.connections
            if not self.once and (now >= end or full):
                if full:
                    self.say(
                        "window", f"limit of {self.connections} connections reached: the window ends early", "warning"
                    )
                self._keep(self.feed.cut_window(now))
                end = self._next_end(now)
        # It may wait for room for a window, which is made here: so nobody waits for it meanwhile.
        threading.Thread(target=self.feed.stop, daemon=True).start()
        while not self.feed.done:
            self._keep_cuts(TICK_SECONDS)
        self.feed.join(1.0)
        while not self.feed.cuts.empty():
            self._keep_cuts(TICK_SECONDS)
        if not self.feed.ran:
            raise InputError(self.feed.place.text, self.feed.failed or "no data")
        end_ns = self.feed.tracker.clock_ns if self.once else None
        self._keep(self.feed.cut_window(end_ns or self.clock(), last=True))

    def _next_end(self, now: int) -> int:
        """Windows of all agents end at the same moments, as far as their clocks agree."""
        return now - now % self.window_ns + self.window_ns

    def _tell_gap(self) -> None:
        """What was not captured because there was no agent is said in the first window."""
        ended = self.spool.ended_ns()
        if ended is None or self.once:
            return
        from auditor.policy.times import time_text

        says = f"nothing was captured from {time_text(ended)} to {time_text(self.clock())}: the agent was not running, or was killed"
        self.feed.notes.append(Problem("interrupted", says))
        self.say("gap", says, "warning")

    def _keep_cuts(self, seconds: float) -> None:
        with contextlib.suppress(queue.Empty):
            self._keep(self.feed.cuts.get(timeout=seconds))

    def _keep(self, cut: Cut) -> None:
        """Make a window of it, on disk."""
        examiner = cut.examiner
        may_leave(cut.part, examiner, last=cut.last)
        facts = [*cut.part.facts, *(fact for _, fact in cut.part.second.values())]
        certificates = certificates_of(facts, examiner.certificates.der)
        followed = Followed(cut.capture, cut.part, certificates)

        def made(number: int) -> bytes:
            window = Window(self.name, self.spool.life, number, cut.began_ns, cut.ended_ns, followed)
            raw = write_window(window, examiner.applications)
            if len(raw) > MOST_BYTES:
                says = f"the window has {len(raw)} bytes, more than a window may have: its connections were given up"
                empty = replace(cut.capture, problems=(*cut.capture.problems, Problem("limit", says)))
                nothing = TrackedPart(cut.part.rows[:0], [])
                raw = write_window(replace(window, followed=Followed(empty, nothing, {})), ())
            return raw

        try:
            size = self.spool.put(made)
        except OSError as error:
            says = f"a window of {cut.capture.packets} packets could not be kept: {error.strerror or error}"
            self.feed.notes.append(Problem("interrupted", says))
            self.say("spool", says, "error")
            return
        self.made_bytes += size
        share = f" ({100 * size / cut.capture.bytes:.2f} % of what was captured)" if cut.capture.bytes else ""
        counts = f"{many(cut.capture.packets, 'packet')}, {many(len(cut.part.rows), 'connection')}"
        self.say(
            "window",
            f"window {self.spool.last}: {counts}, {size:,} bytes{share}",
            number=self.spool.last,
            packets=cut.capture.packets,
            connections=len(cut.part.rows),
            bytes=size,
            captured=cut.capture.bytes,
            dropped=cut.capture.dropped,
        )


@dataclass(slots=True)
class Sender:
    """Delivers what is in the spool, again and again until it is taken."""

    name: str
    spool: Spool
    address: tuple[str, int]
    server_name: str
    tls: ssl.SSLContext
    window_ns: int
    clock: Callable[[], int]
    say: Callable[..., None]
    until_empty: threading.Event = field(default_factory=threading.Event)
    """Set: no more windows come; it ends when all are delivered."""
    stopped: threading.Event = field(default_factory=threading.Event)
    delivered: int = 0
    _connection: ssl.SSLSocket | None = None
    _told: str = ""

    def run(self) -> None:
        """Until it is stopped, or all is delivered and no more comes."""
        pause = FIRST_PAUSE
        while not self.stopped.is_set():
            if self.until_empty.is_set() and self.spool.first() is None:
                return
            before = self.delivered
            try:
                self._session()
                return
            except (OSError, EOFError, WireError) as error:
                if self.stopped.is_set():
                    return
                says = error.says if isinstance(error, WireError) else _reason(error)
                if says != self._told:
                    self.say("collector", f"{self.address[0]} port {self.address[1]}: {says}; trying again", "warning")
                    self._told = says
            pause = FIRST_PAUSE if self.delivered > before else min(2 * pause, LONGEST_PAUSE)
            self.stopped.wait(pause)

    def stop(self) -> None:
        """End it now; what is not taken stays in the spool."""
        self.stopped.set()
        connection = self._connection
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _session(self) -> None:
        """One connection, until all is delivered and nothing more comes."""
        with socket.create_connection(self.address, PATIENCE_SECONDS) as plain:
            plain.settimeout(PATIENCE_SECONDS)
            with self.tls.wrap_socket(plain, server_hostname=self.server_name) as connection:
                self._connection = connection
                try:
                    self._deliver(connection)
                finally:
                    self._connection = None

    def _deliver(self, connection: ssl.SSLSocket) -> None:
        hello = Hello(self.name, self.spool.life, self.clock(), self.window_ns)
        welcome = self._answer(connection, hello)
        if not isinstance(welcome, Welcome):
            raise WireError("the collector gave no welcome")
        self.spool.taken(welcome.known)
        self.say("collector", f"connected to {self.address[0]} port {self.address[1]}")
        self._told = ""
        while not self.stopped.is_set():
            found = self.spool.first(ALIVE_SECONDS if not self.until_empty.is_set() else 0.0)
            if found is None:
                if self.until_empty.is_set():
                    return
                connection.sendall(message(Alive(self.clock())))
                continue
            number, raw = found
            answer = self._answer(connection, Delivery(number, raw))
            if isinstance(answer, Taken) and answer.number >= number:
                self.spool.taken(number)
                self.delivered += 1
            elif isinstance(answer, Later):
                self.say("collector", f"has no room now: {answer.says}", "warning")
                self.stopped.wait(min(max(answer.seconds, 0.1), LONGEST_PAUSE))
            else:
                raise WireError("the collector answered something else")

    def _answer(self, connection: ssl.SSLSocket, each: Any) -> Any:
        connection.sendall(message(each))
        answer = receive(connection, _FROM_COLLECTOR, MOST_SMALL)
        if isinstance(answer, Refused):
            raise WireError(f"refused: {answer.says}")
        return answer


def _reason(error: BaseException) -> str:
    """Why a connection came to nothing, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or 'the other end ended it').lower().replace('_', ' ')}"
    if isinstance(error, EOFError):
        return "it closed the connection"
    if isinstance(error, TimeoutError):
        return "no answer"
    return str(getattr(error, "strerror", None) or error)
