"""The collector: takes windows from agents over mutual TLS, keeps them on disk, and has them judged together.

What holds here:

- Who has no certificate of the CA gets no connection; whose certificate names no agent of the list is refused, and that is told.
- A window is acknowledged when it is on disk, under the agent's name, its spool's life and its number. The same one again is acknowledged and not kept again. The highest number of
  each agent is on disk as well, so that this holds after the window was audited and removed, too.
- Where more waits to be audited than there is room for, agents are told to come again: their spools hold it meanwhile.
- Numbers of windows have no hole. Where one is missing, or some upset what judges and were set aside, the next audit says so and is incomplete.
- Windows are judged when every agent has delivered those that end by then, or after ``wait``. Who delivered nothing is named in that audit, which is then incomplete. What comes late
  is in the next one: passes know the connections of those before (``pass_state``).
- An agent's clock is compared with ours whenever it speaks. One that is off is told, and does not keep windows open.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from auditor.agents.config import ASIDE, CollectConfig, passes_of
from auditor.agents.judging import FILE, Remarks, alone, culprits, follower_of
from auditor.agents.transport import (
    COLLECTOR_PORT,
    LENGTH,
    MOST_MESSAGE,
    MOST_SMALL,
    Alive,
    Delivery,
    FromAgent,
    Hello,
    Later,
    Refused,
    Taken,
    Welcome,
    address_of,
    allowed,
    context,
    message,
    names_of,
    parsed,
    size_of,
)
from auditor.agents.wire import LIFE, NAME, ended_ns_of
from auditor.errors import AuditorError, ConfigError, WireError
from auditor.jobs.lock import BusyError
from auditor.jobs.log import Level, Log
from auditor.jobs.runner import Runner
from auditor.store._files import sync, write_whole
from auditor.wire.text import escape, many

NS: Final = 1_000_000_000
TICK_SECONDS: Final = 0.25
IDLE_SECONDS: Final = 60.0
"""An agent that says nothing for so long is gone; it says something every 15 s."""
HANDSHAKE_SECONDS: Final = 20.0
MOST_CONNECTIONS: Final = 4_096
LATER_SECONDS: Final = 5.0
HOUSEKEEPING_NS: Final = 300 * NS
"""A pass is made at least so often: somebody may have become silent, or errands wait."""
STATE: Final = "state.json"
MOST_SAID: Final = 1_000
MOST_LOST: Final = 16
"""So much is said of what is missing of one agent; one is enough for an audit to be incomplete."""


@dataclass(frozen=True, slots=True)
class Seldom(Log):
    """A log that says of inventories once what each pass, every minute, would say again."""

    said: set[str] = field(default_factory=set)

    def say(self, event: str, says: str, level: Level = "info", **more: Any) -> None:
        """One event."""
        if event == "inventory" and says in self.said:
            return
        if event == "inventory" and len(self.said) < MOST_SAID:
            self.said.add(says)
        Log.say(self, event, says, level, **more)


@dataclass(slots=True)
class Known:
    """One agent, as the collector knows it."""

    name: str
    lives: dict[str, int] = field(default_factory=dict)
    """The highest number of each life of its spool."""
    until_ns: int = 0
    """Its windows are there up to this time, by our clock."""
    heard_ns: int | None = None
    """When it said something last."""
    ahead_ns: int = 0
    """So far its clock is ahead of ours."""
    lost: list[str] = field(default_factory=list)
    """What of its windows is missing, in words, until an audit has said so."""
    connected: int = 0
    windows: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Waiting:
    """A window that was received and is not audited."""

    path: Path
    bytes: int
    ended_ns: int
    """By our clock."""
    arrived_ns: int


class Store:
    """Received windows on disk."""

    def __init__(self, config: CollectConfig, clock: Callable[[], int]) -> None:
        """Raises ConfigError where the folder cannot be used."""
        self.folder, self.size_bytes = Path(config.collect.folder), config.collect.size
        self.lock = threading.Lock()
        self.agents = {name: Known(name) for name in config.collect.agents}
        self.waiting: dict[Path, Waiting] = {}
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name, known in self.agents.items():
                self._begin(name, known, clock())
        except OSError as error:
            raise ConfigError(
                str(self.folder), f"cannot be used for windows: {error.strerror or error}", hint="name another folder"
            ) from error

    def _begin(self, name: str, known: Known, now_ns: int) -> None:
        folder = self.folder / name
        folder.mkdir(exist_ok=True, mode=0o700)
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            told = json.loads((folder / STATE).read_bytes())
            known.lives = {life: int(number) for life, number in told["lives"].items() if LIFE.fullmatch(life)}
            known.until_ns = int(told["until_ns"])
            known.lost = [str(each) for each in told["lost"]]
        before = dict(known.lives)
        for each in sorted(folder.iterdir()):
            match = FILE.fullmatch(each.name)
            if match is not None:
                self._number(known, match[1], int(match[2]))
                self.waiting[each] = Waiting(each, each.stat().st_size, known.until_ns or now_ns, now_ns)
        if known.lives != before:
            self._save(known)

    def _number(self, known: Known, life: str, number: int) -> None:
        """A window with this number is here; what is missing before it is noted."""
        last = known.lives.get(life, 0)
        if number > last + 1:
            missing = f"window {last + 1} was" if number == last + 2 else f"windows {last + 1} to {number - 1} were"
            self._note(known, f"{missing} not delivered: lost on the VM, or delivered to another folder")
        if last == 0 and known.lives:
            self._note(known, "its spool is new: what it had not delivered of the one before is lost")
        known.lives[life] = max(last, number)

    def _note(self, known: Known, says: str) -> None:
        if says not in known.lost and len(known.lost) < MOST_LOST:
            known.lost.append(says)

    def _save(self, known: Known) -> None:
        """What holds after the windows were audited and removed. Raises OSError."""
        told = {"lives": known.lives, "until_ns": known.until_ns, "lost": known.lost}
        write_whole(self.folder / known.name / STATE, json.dumps(told).encode())

    def lose(self, known: Known, says: str) -> None:
        """Windows of an agent are lost; the next audit says so. Raises OSError."""
        with self.lock:
            self._note(known, says)
        self._save(known)

    def lost(self) -> dict[str, tuple[str, ...]]:
        """By agent, what of its windows is missing and in no audit yet."""
        with self.lock:
            return {name: tuple(known.lost) for name, known in self.agents.items() if known.lost}

    def told(self, lost: Mapping[str, Sequence[str]]) -> None:
        """An audit has said this. Raises OSError."""
        for name, says in lost.items():
            known = self.agents[name]
            with self.lock:
                known.lost = [each for each in known.lost if each not in says]
            self._save(known)

    def full(self, more: int) -> bool:
        """Whether there is no room for so many bytes more; one window there is always."""
        with self.lock:
            held = sum(each.bytes for each in self.waiting.values())
        return bool(held) and held + more > self.size_bytes

    def keep(self, known: Known, life: str, number: int, raw: bytes, ended_ns: int, now_ns: int) -> bool:
        """Have a window on disk; False: it is there already. Raises OSError."""
        if number <= known.lives.get(life, 0):
            return False
        path = self.folder / known.name / f"{life}.{number:016}.window"
        write_whole(path, raw)
        with self.lock:
            self._number(known, life, number)
            known.until_ns = max(known.until_ns, ended_ns)
            self.waiting[path] = Waiting(path, len(raw), ended_ns, now_ns)
            known.windows += 1
            known.bytes += len(raw)
        # The file itself says its number until it is audited; this says it afterwards.
        self._save(known)
        return True

    def audited(self) -> None:
        """Forget windows that a pass has removed."""
        with self.lock:
            self.waiting = {path: each for path, each in self.waiting.items() if path.exists()}


@dataclass(slots=True)
class Collector:
    """A collector's life."""

    config: CollectConfig
    log: Log
    clock: Callable[[], int]
    environment: Any
    store: Store = field(init=False)
    remarks: Remarks = field(init=False)
    runner: Runner = field(init=False)
    port: int = 0
    passes: int = 0
    refused: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _connections: int = 0
    _told: dict[str, str] = field(default_factory=dict)
    _clocks: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.store = Store(self.config, self.clock)
        self.remarks = Remarks(self.config.collect.agents)
        self.runner = Runner(passes_of(self.config), self.log, self.environment, follower_of(self.remarks))

    def stop(self) -> None:
        """End after the pass that is at work. From the loop's own thread."""
        self._stop.set()

    async def run(self, *, once: bool = False) -> None:
        """Take and judge until somebody stops it; ``once``: until every agent has delivered something, and it is judged. Raises ConfigError."""
        host, port = address_of(self.config.collect.listen, COLLECTOR_PORT)
        files = self.config.tls
        tls = context(files.ca, files.certificate, files.key, server=True)
        try:
            server = await asyncio.start_server(
                self._connected,
                host,
                port,
                ssl=tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
                limit=1 << 20,
                backlog=512,
            )
        except OSError as error:
            raise ConfigError(
                "collect.listen",
                f"{self.config.collect.listen}: {error.strerror or error}",
                hint="name another address",
            ) from None
        self.port = server.sockets[0].getsockname()[1]
        self.log.say(
            "listening",
            f"waiting for {many(len(self.store.agents), 'agent')} on {host} port {self.port}",
            port=self.port,
        )
        async with server:
            await self._judge_when_due(once)
            server.close()
            for task in [each for each in asyncio.all_tasks() if each.get_name().startswith("agent ")]:
                task.cancel()

    # Judging

    async def _judge_when_due(self, once: bool) -> None:
        began = last = self.clock()
        while not self._stop.is_set():
            now = self.clock()
            due = self._due(now, began)
            if due or now - last >= HOUSEKEEPING_NS:
                last = now
                await asyncio.to_thread(self._pass)
                if once and due:
                    return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), TICK_SECONDS)

    def _due(self, now_ns: int, began_ns: int) -> bool:
        """Whether what waits is to be judged now; who is missing then is noted."""
        settings = self.config.collect
        with self.store.lock:
            waiting = list(self.store.waiting.values())
            if not waiting:
                return False
            target = max(each.ended_ns for each in waiting)
            late = [each for each in self.store.agents.values() if each.until_ns < target - settings.window // 2]
            oldest = max(min(each.arrived_ns for each in waiting), began_ns)
            if late and now_ns - oldest < settings.wait:
                return False
            self.remarks.silent = {each.name: _silence(each, now_ns) for each in late}
        return True

    def _pass(self) -> None:
        """Judge what waits; in a thread of its own."""
        self.remarks.lost = self.store.lost()
        self.remarks.clocks = {
            name: f"the clock of {name} is {_span(known.ahead_ns)} {'ahead of' if known.ahead_ns > 0 else 'behind'} the collector's"
            for name, known in self.store.agents.items()
            if abs(known.ahead_ns) > self.config.collect.clock
        }
        for name, says in self.remarks.silent.items():
            if self._told.get(name) != "silent":
                self._told[name] = "silent"
                self.log.say("silent", f"{name}: {says}", "warning", agent=name)
        for name in [name for name in self._told if name not in self.remarks.silent]:
            del self._told[name]
        try:
            outcome = self.runner.once()
        except BusyError as error:
            self.log.say("pass", f"{error}; trying again", "warning")
            return
        except AuditorError as error:  # the next pass may do better
            self.log.say("pass", f"this pass failed: {error}", "error")
            return
        except Exception as error:  # a stranger's windows may be to blame
            self._set_aside(error)
            return
        self.passes += 1
        self.store.audited()
        if outcome.files:
            for name, missing in self.remarks.lost.items():
                self.log.say("lost", f"{name}: {'; '.join(missing)}", "warning", agent=name)
            self.store.told(self.remarks.lost)
            self.log.say(
                "pass", self.runner.summary(outcome, 0.0).rpartition(";")[0], files=outcome.files, new=outcome.new
            )
        self.remarks.silent = {}

    def _set_aside(self, error: Exception) -> None:
        """Find whose windows upset what judges, and put them aside."""
        from auditor.policy.loader import load_policy

        audit = self.config.audit
        judge = alone(
            load_policy(audit.policies, release=audit.release), None, {"scope": audit.scope, "strict": audit.strict}
        )
        with self.store.lock:
            files: dict[str, list[Path]] = {}
            for path in sorted(self.store.waiting):
                files.setdefault(path.parent.name, []).append(path)
        found = culprits(files, judge)
        if not found:
            self.log.say("pass", f"this pass failed: internal error: {type(error).__name__}; please report it", "error")
            return
        aside = self.store.folder / ASIDE
        aside.mkdir(exist_ok=True, mode=0o700)
        for name, says in found.items():
            for path in files[name]:
                path.rename(aside / f"{name}.{path.name}")
            put = f"{many(len(files[name]), 'window')} set aside: {says}"
            self.store.lose(self.store.agents[name], put)
            self.log.say("aside", f"{name}: {put}", "error", agent=name)
        sync(aside)
        self.store.audited()

    # Taking

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end. Whatever the other end does, it costs that connection alone."""
        task = asyncio.current_task()
        if task is not None:
            task.set_name("agent connection")
        self._connections += 1
        try:
            await self._served(reader, writer)
        except (OSError, EOFError, WireError, TimeoutError, ssl.SSLError):
            pass
        except asyncio.CancelledError:
            writer.transport.abort()
        finally:
            self._connections -= 1
            writer.close()
            with contextlib.suppress(OSError, ssl.SSLError, asyncio.CancelledError, TimeoutError):
                await asyncio.wait_for(writer.wait_closed(), 5.0)

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        certificate = writer.get_extra_info("peercert")
        hello = await self._next(reader, Hello, MOST_SMALL)
        says = self._stranger(certificate, hello)
        if says is not None:
            self.refused += 1
            self.log.say("refused", escape(f"refused: {says}"), "warning")
            await self._answer(writer, Refused(says))
            return
        known = self.store.agents[hello.agent]
        known.connected += 1
        try:
            await self._serve(known, hello, reader, writer)
        finally:
            known.connected -= 1

    def _stranger(self, certificate: Any, hello: Hello) -> str | None:
        """Why this is none of the agents; None: it is the one that it says."""
        if self._connections > MOST_CONNECTIONS:
            return "too many connections"
        if not NAME.fullmatch(hello.agent) or not LIFE.fullmatch(hello.life):
            return "it does not say who it is"
        settings = self.config.collect
        if hello.agent not in self.store.agents:
            return f"{hello.agent} is not among the agents of the collector"
        if not allowed(certificate, [hello.agent, *settings.shared]):
            shown = ", ".join(sorted(names_of(certificate))[:3]) or "nobody"
            return f"the certificate of {shown[:200]} is not {hello.agent}'s"
        if hello.window_ns != settings.window:
            return f"{hello.agent} has windows of {_span(hello.window_ns)}, the collector of {_span(settings.window)}"
        return None

    async def _serve(
        self, known: Known, hello: Hello, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._heard(known, hello.now_ns)
        await self._answer(writer, Welcome(known.lives.get(hello.life, 0)))
        self.log.say("agent", f"{known.name} is connected", agent=known.name)
        while True:
            each = await self._next(reader, FromAgent, MOST_MESSAGE)
            if isinstance(each, Alive):
                self._heard(known, each.now_ns)
            elif isinstance(each, Delivery):
                await self._answer(writer, await self._delivered(known, hello.life, each))
            else:
                raise WireError("a second hello")

    async def _delivered(self, known: Known, life: str, each: Delivery) -> Taken | Later | Refused:
        """Have the window on disk, and only then say so."""
        now = self.clock()
        known.heard_ns = now
        ended = ended_ns_of(each.window)
        if ended is None or not 0 < each.number < 10**16:
            return Refused("that is no window")
        if each.number <= known.lives.get(life, 0):
            return Taken(each.number)
        if self.store.full(len(each.window)):
            return Later(LATER_SECONDS, "more waits to be audited than the collector has room for")
        try:
            await asyncio.to_thread(
                self.store.keep,
                known,
                life,
                each.number,
                each.window,
                ended - known.ahead_ns,
                now,
            )
        except OSError as error:
            self.log.say("disk", f"a window of {known.name} cannot be kept: {error.strerror or error}", "error")
            return Later(LATER_SECONDS, "the collector's disk takes no more")
        return Taken(each.number)

    def _heard(self, known: Known, now_ns: int) -> None:
        ours = self.clock()
        known.heard_ns = ours
        apart = now_ns - ours
        known.ahead_ns = apart if abs(apart) > self.config.collect.clock else 0
        off = known.ahead_ns != 0
        if off and known.name not in self._clocks:
            self._clocks.add(known.name)
            says = f"the clock of {known.name} is {_span(abs(apart))} {'ahead of' if apart > 0 else 'behind'} the collector's"
            self.log.say("clock", says, "warning", agent=known.name, ahead_s=apart / NS)
        elif not off:
            self._clocks.discard(known.name)

    async def _next(self, reader: asyncio.StreamReader, kinds: Any, most: int) -> Any:
        async with asyncio.timeout(IDLE_SECONDS):
            size = size_of(await reader.readexactly(LENGTH), most)
            return parsed(await reader.readexactly(size), kinds)

    async def _answer(self, writer: asyncio.StreamWriter, each: Any) -> None:
        writer.write(message(each))
        async with asyncio.timeout(IDLE_SECONDS):
            await writer.drain()


def _silence(known: Known, now_ns: int) -> str:
    if known.heard_ns is None:
        return "it has never been connected, and delivered nothing"
    if known.connected:
        return "it is connected, and delivered nothing in time"
    return f"nothing was heard of it for {_span(now_ns - known.heard_ns)}"


def _span(ns: int) -> str:
    seconds = abs(ns) / NS
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7_200 else f"{seconds / 3_600:.0f} hours"
