"""One scheduled pass: take finished and new captures, audit them, store the audit, and report changes.

What makes it safe to be killed at any moment:

- Everything that a pass decides about some files becomes true in one transaction of the store: the audit, that the files were taken, what is
  handed to the next pass, and the tasks (reports to write, notifications to send, files to move). If it fails before that, the next pass does it again.
- Errands are done after that, each as often as it takes. A report is written again from the store; a digest carries a key by which a
  receiver knows one that came twice.
- So nothing is counted twice and nothing is lost if a pass is killed, or by a full disk or a power failure.
- Files that a disk has damaged are moved aside and reported (``store.health``); nothing else is lost. Housekeeping does not change the exit status.
- A clock that cannot be right is not believed (``clocks``), and captures that are dated ahead of it are kept apart.

The exit status is quiet, too: 1 for findings that are new since the last pass (or a waiver that has expired), 3 for incompleteness that is new; and two bits that stay as long as
their reason does: 4 if the clock or the dates of captures are not trusted, 8 if a notification or report waits to be delivered.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.errors import AuditorError, ConfigError, InputError
from auditor.jobs import clocks, keep, spool
from auditor.jobs.config import InventorySection, RunConfig
from auditor.jobs.errands import Errands, Told, disposal
from auditor.jobs.exit_criteria import failing, losses
from auditor.jobs.lock import only_one
from auditor.jobs.log import Log
from auditor.jobs.sources import Sources
from auditor.model.audit import Audit
from auditor.model.roles import Severity
from auditor.pass_state import PassState, PassStateLimits, load
from auditor.policy.inventory import Inventory, load_inventory, time_text
from auditor.policy.loader import load_policy
from auditor.policy.policy import Policy
from auditor.policy.waivers import Applied, Waivers, load_waivers, today_of
from auditor.store import health
from auditor.store.history import DamagedError, History, guarded, open_history, sync, write_whole
from auditor.wire.text import many

if TYPE_CHECKING:
    from auditor.pipeline import Followed, Progress

CARRIED = "open"
INVENTORIES = "inventories"
DEATHS = 3
"""After so many passes have died while reading a file, it is read by a separate process."""
MAX_INVENTORY_BYTES = 256 * 1024 * 1024
LOOK_S = 0.5
"""Seconds between checks of how much the command has printed."""
FORGET_NS = 30 * 86_400 * 1_000_000_000
ENDED = "pass ended"
"""Key in the catalogue's ``meta`` of when the last complete pass ended."""
UNBELIEVED, UNDELIVERED = 4, 8
"""Bits of the exit status."""


@dataclass(slots=True)
class Outcome:
    """What a pass came to."""

    audits: list[int] = field(default_factory=list)
    files: int = 0
    aside: list[str] = field(default_factory=list)
    new: int = 0
    """New unwaived findings at or above ``fail_on``."""
    failing: int = 0
    """All unwaived findings at or above ``fail_on``."""
    incomplete: list[str] = field(default_factory=list)
    newly_incomplete: list[str] = field(default_factory=list)
    expired: int = 0
    over: list[str] = field(default_factory=list)
    """Waivers that cover nothing because more matched than they allow."""
    unused: set[str] | None = None
    """Waivers that matched nothing in any audit of this pass."""
    undone: int = 0
    """Errands that are still to be done."""
    clock: str | None = None
    """Why the machine's clock is not believed."""
    apart: list[str] = field(default_factory=list)
    """Files dated ahead of the clock."""
    known: int = 0
    """Files with content that was taken already."""
    damage: list[str] = field(default_factory=list)
    """What was damaged in the store, and what is lost with it."""
    silent: list[str] = field(default_factory=list)
    """Sources from which no captures arrive any more."""
    troubles: list[str] = field(default_factory=list)
    """Housekeeping tasks that failed."""

    def status(self, everything: bool, allow_incomplete: bool) -> int:
        """The exit status; ``everything``: as ``auditor audit`` would have it."""
        bits = (UNBELIEVED if self.clock or self.apart else 0) | (UNDELIVERED if self.undone else 0)
        if self.expired or (self.failing if everything else self.new):
            return 1 | bits
        incomplete = self.incomplete if everything else self.newly_incomplete
        return (3 if incomplete and not allow_incomplete else 0) | bits


def one_pass(
    config: RunConfig,
    log: Log,
    now_ns: Callable[[], int],
    *,
    tell: Told | None = None,
    progress: Callable[[Progress], None] | None = None,
    following: type[Follower] | None = None,
) -> Outcome:
    """One pass over the spool. ``following``: how its files are followed, where they are no captures. Raises ConfigError where it cannot even begin."""
    place = Path(config.store)
    with only_one(place, now_ns()) as lock:
        if lock.died:
            log.say(
                "recovering",
                f"the last pass was interrupted ({lock.died}); its work is completed now",
                "warning",
            )
        with guarded(place):
            history, healed = _opened(place, now_ns(), log)
            with history:
                return _Pass(config, history, log, now_ns, tell, progress, following or Follower).run(healed)


def _opened(place: Path, now_ns: int, log: Log) -> tuple[History, list[str]]:
    """The store; where its catalogue is damaged it is made again: what that was, and what is lost. Raises ConfigError where it cannot be."""
    try:
        with guarded(place):
            return open_history(place, write=True), []
    except DamagedError as error:
        told = health.rebuild(place, error, now_ns)
    for says in told:
        log.say("store", says, "error")
    return open_history(place, write=True), told


class _Pass:
    def __init__(
        self,
        config: RunConfig,
        history: History,
        log: Log,
        now_ns: Callable[[], int],
        tell: Told | None,
        progress: Callable[[Progress], None] | None,
        following: type[Follower],
    ) -> None:
        self.config, self.history, self.log = config, history, log
        self._following = following
        self.progress = progress
        self.outcome = Outcome()
        self.time = clocks.judge(history, now_ns())
        self._wall_ns, self._lead_ns = now_ns, self.time.now_ns - self.time.wall_ns
        self.errands = Errands(config, history, log, self.now_ns, tell, self._put_aside)
        self.sources = Sources(history, config.source, len(config.spool.folders))
        self._packets_ns: int | None = None

    def now_ns(self) -> int:
        """The clock that is believed."""
        return self._wall_ns() + self._lead_ns

    def run(self, healed: Sequence[str]) -> Outcome:
        config, history = self.config, self.history
        policy = load_policy(config.audit.policies, release=config.audit.release)
        waivers = load_waivers(config.audit.waivers, keep.known_names(policy)) if config.audit.waivers else Waivers()
        self._clock()
        self._damaged(healed, said=True)
        self.errands.settle()
        self.errands.do()
        self._expiries(waivers)
        found, wrong = spool.look(config.spool, self.time.wall_ns, history)
        for each in wrong:
            self.log.say("spool", each, "warning")
        self._take(found, policy, waivers)
        self._ceilings()
        self._incompleteness(wrong)
        self._silence()
        self.errands.do()
        self._housekeeping()
        self.errands.tell_all()
        clocks.note(history, self.time, self._packets_ns)
        with history.writing():
            history.insert("meta", {"name": ENDED, "value": str(self.now_ns())})
        (self.outcome.undone,) = history.sql.execute("SELECT count(*) FROM errands").fetchone()
        return self.outcome

    def _take(self, found: Sequence[spool.Found], policy: Policy, waivers: Waivers) -> None:
        """Audit what is new of it."""
        config = self.config
        ready, unread, again = spool.new_files(self.history, found, self.now_ns())
        large = [each for each in ready if each.found.bytes > config.limits.file_bytes]
        ready = [each for each in ready if each not in large]
        unread += [
            spool.Aside(each.found, each.content, f"is larger than {config.limits.file_bytes} bytes") for each in large
        ]
        if unread:
            self._set_aside(unread)
        if ready:
            who, files = self._inventory(policy)
            for batch in spool.batches(ready, config.limits.files, config.limits.bytes):
                self._audit(batch, policy, who, waivers, [*files, *config.audit.policies, *config.audit.waivers])
                self.errands.do()
        self._known_content(again)

    def _known_content(self, again: Sequence[spool.Again]) -> None:
        """Files with content that was taken already: reported, and removed from the spool as the first was."""
        history, how = self.history, self.config.spool.after
        again = [each for each in again if spool.known(history, each.content)]
        if not again:
            return
        with history.writing():
            for each in again:
                spool.note_place(history, each.found, each.content, self.now_ns())
                if how != "keep":
                    self.errands.plan("dispose", None, disposal(each.found, each.content, how, self.config.spool.done))
        for each in again:
            self.log.say("known", f"{each.found.path}: {each.says}; not counted again", path=each.found.path)
        self.outcome.known += len(again)
        self._delivered([each.found.path for each in again])

    # What surrounds it

    def _clock(self) -> None:
        """A clock that is not believed is reported once, and again when it is another."""
        self.outcome.clock = self.time.says
        if self.time.says is not None:
            self.log.say("clock", self.time.says, "error")
        since = [] if self.time.says is None else [str(self.time.since_ns)]
        if self._differs("clock told", since):
            self._tell_change("clock told", since, [{"change": "clock", "title": self.time.says}] if since else [])

    def _damaged(self, told: Sequence[str], said: bool = False) -> None:
        """What was damaged in the store is reported, once."""
        if not told:
            return
        if not said:
            for says in told:
                self.log.say("store", says, "error")
        self.outcome.damage += told
        with self.history.writing():
            self.errands.plan_digest(None, [{"change": "store", "title": says} for says in told])

    def _put_aside(self, damage: DamagedError) -> None:
        """A damaged piece costs itself; all else is raised again."""
        if not damage.file.startswith("pieces/"):
            raise damage
        self._damaged(health.set_aside(self.history, damage, self.now_ns()))

    def _housekeeping(self) -> None:
        """What keeps the store small and sound. It never decides how a pass ends."""
        history, config = self.history, self.config

        def retain() -> None:
            if self.time.says is not None:
                return
            gone = history.retain(self.now_ns(), max_age_ns=config.retention.age, max_bytes=config.retention.size)
            if gone:
                self.log.say("retention", f"{gone} old audits removed", audits=gone)

        works: tuple[tuple[str, Callable[[], None]], ...] = (
            ("scrub", lambda: self._damaged(health.scrub(history, self.now_ns()))),
            ("tidy", lambda: history.tidy(self.now_ns())),
            ("retention", retain),
            ("files", lambda: spool.forget_files(history, self.now_ns() - FORGET_NS)),
            ("sweep", self._sweep),
        )
        for what, work in works:
            try:
                try:
                    with guarded(history.path):
                        work()
                except DamagedError as error:
                    self._put_aside(error)
            except Exception as error:  # on any error the pass ends and a notification is sent
                says = str(error) if isinstance(error, AuditorError | OSError) else type(error).__name__
                self.outcome.troubles.append(f"{what}: {says}")
                self.log.say("housekeeping", f"{what}: {says}", "error", what=what)

    def _sweep(self) -> None:
        """Remove what passes left that were ended before their time."""
        self.errands.sweep()
        self._sweep_carry()
        folder = self.history.path / INVENTORIES
        for each in folder.glob(".*") if folder.is_dir() else ():
            each.unlink()

    def _delivered(self, paths: Iterable[str]) -> None:
        for name in self.sources.delivered(paths, self.now_ns()):
            self.log.say("source", f"{name} delivers again", source=name)

    def _silence(self) -> None:
        """A source that stops delivering is news, once."""
        self.sources.begin(self.now_ns())
        found = [] if self.time.says is not None else self.sources.silent(self.now_ns())
        self.outcome.silent = [f"{name}: nothing for {_span(ns)}" for name, ns in found]
        for says in self.outcome.silent:
            self.log.say("source", says, "warning")
        with self.history.writing():
            self.sources.save()
            self.errands.plan_digest(None, [{"change": "silent", "title": says} for says in self.outcome.silent])

    # Inventories

    def _inventory(self, policy: Policy) -> tuple[Inventory | None, list[str]]:
        files = []
        for number, each in enumerate(self.config.inventory):
            files.append(each.file if each.file is not None else self._asked(number, each))
        if not files:
            return None, []
        who = load_inventory(files, policy)
        for says in (*who.warnings, *who.conflicts):
            self.log.say("inventory", says, "warning")
        return who, files

    def _asked(self, number: int, section: InventorySection) -> str:
        """The file with what the command printed; its last good answer where it fails."""
        command = section.command or []
        folder = self._folder(INVENTORIES)
        digest = hashlib.sha256(json.dumps(command).encode()).hexdigest()[:8]
        answer = folder / f"{Path(command[0]).name}-{digest}.json"
        try:
            raw = _run_command(command, section.timeout / 1e9)
            part = folder / f".{answer.name}.check"
            try:
                part.write_bytes(raw)
                load_inventory([str(part)], load_policy(self.config.audit.policies, release=self.config.audit.release))
            finally:
                part.unlink(missing_ok=True)
            write_whole(answer, raw)
        except (AuditorError, OSError) as error:
            says = f"inventory {number + 1}: {error}".replace(f".{answer.name}.check", "its answer")
            if not answer.is_file() or self.time.wall_ns - answer.stat().st_mtime_ns > section.stale:
                raise ConfigError("inventory", says, hint="run it manually as this user") from None
            self.log.say("inventory", f"{says}; its last output is used", "warning")
        return str(answer)

    # Auditing

    def _audit(
        self,
        batch: Sequence[spool.Ready],
        policy: Policy,
        who: Inventory | None,
        waivers: Waivers,
        files: Sequence[str],
        apart: bool = False,
    ) -> None:
        """Audit these files and keep that; ``apart``: they are dated ahead of the clock."""
        from auditor import pipeline
        from auditor.inspectors._examine import Examiner

        config = self.config
        applications = Examiner().applications
        pass_state = PassState(PassStateLimits()) if apart else self._carried(applications)
        follower = self._following(self, batch)
        options: dict[str, Any] = {
            "scope": config.audit.scope,
            "strict": config.audit.strict,
            "linktype": config.audit.linktype,
            "release": config.audit.release,
            "fail_on": config.audit.fail_on,
            "max_undecided": config.audit.max_undecided,
        }
        if config.audit.ca:
            from auditor.policy.certificates import load_cas

            options["ca"] = load_cas(config.audit.ca, policy)
        skip = {each.found.path: each.skip for each in batch if each.skip}
        if skip:
            options["skip"] = skip
        sources = [each.found.path for each in batch]
        try:
            audit = pipeline.run(
                sources,
                policy=policy,
                inventory=who,
                options=options,
                progress=self.progress,
                follow=follower.follow,
                pass_state=pass_state,
            )
        except InputError:
            if follower.usable:
                raise
            self._set_aside(follower.aside)  # none of them was a capture
            return
        # A file changed while it was read: audit again, without it.
        changed = [each for each in follower.usable if spool.Found.at(each.found.path) not in (each.found, None)]
        ahead = [] if apart else self._ahead(audit, follower)
        if changed or ahead:
            for each in changed:
                self.log.say(
                    "changed", f"{each.found.path}: changed while it was read; left for the next pass", "warning"
                )
            rest = [each for each in batch if each not in changed and each not in ahead]
            if rest:
                self._audit(rest, policy, who, waivers, files)
            if ahead:
                self._audit([each for each in ahead if each not in changed], policy, who, waivers, files, apart=True)
            return
        audit, applied, _ = keep.excused(audit, waivers, today_of(self.now_ns()), keep.matched_before(self.history))
        audit = keep.hashed(audit, {follower.capture_of(each): each.content for each in follower.usable})
        if apart:
            self._keep_apart(audit, follower, files)
        else:
            self._keep(audit, follower, files, pass_state, pass_state.dump(applications), applied)

    def _ahead(self, audit: Audit, follower: Follower) -> list[spool.Ready]:
        """Those whose packets are dated further ahead of the clock than clocks may differ."""
        latest = self.time.latest_ns + self.config.spool.ahead
        dated = audit.captures[audit.captures["last_packet"].notna()]
        lasts = dict(zip(dated["path"].tolist(), map(int, dated["last_packet"].tolist()), strict=True))
        found = [each for each in follower.usable if lasts.get(follower.capture_of(each), 0) > latest]
        if not found and lasts:
            self._packets_ns = max(self._packets_ns or 0, *lasts.values())
        return found

    def _keep_apart(self, audit: Audit, follower: Follower, files: Sequence[str]) -> None:
        """Store an audit of captures with dates in the future, and report it: no finding becomes new or gone by it."""
        findings = audit.findings.copy()
        findings["status"] = None
        audit = replace(audit, findings=findings)
        name = self.config.spool.aside
        with self.history.writing():
            number = keep.keep(
                audit,
                self.history,
                kind=keep.APART,
                files=files,
                gone_after_ns=self.config.audit.gone_after,
                until_ns=self.now_ns(),
            )
            self._note_files(audit, number, follower)
            changes = []
            lasts = dict(zip(audit.captures["path"].tolist(), audit.captures["last_packet"].tolist(), strict=True))
            for each in follower.usable:
                last = lasts[follower.capture_of(each)]
                says = f"{each.found.path}: its packets are dated up to {time_text(int(last) // 10**9 * 10**9)}, {_span(int(last) - self.time.latest_ns)} ahead of the clock"
                changes.append(
                    {
                        "change": "clock",
                        "title": f"{says}; kept separately as audit {number} ({many(len(audit.findings), 'finding')}), not compared with history",
                    }
                )
                if name is not None:
                    self.errands.plan("dispose", None, disposal(each.found, each.content, "move", name, says))
            self._plan_reports(number, changed=True)
            self.errands.plan_digest(number, changes)
        for change in changes:
            self.log.say("clock", change["title"], "warning", audit=number)
        self.outcome.audits.append(number)
        self.outcome.files += len(follower.usable)
        self.outcome.apart += [each.found.path for each in follower.usable]

    def _keep(
        self,
        audit: Audit,
        follower: Follower,
        files: Sequence[str],
        pass_state: PassState,
        state: bytes,
        applied: Applied,
    ) -> None:
        """Keep an audit, with all that is decided by it, in one transaction."""
        config, history = self.config, self.history
        with history.writing() as sql:
            known = {mark for mark, each in history.known().items() if each.open}
            excused = {
                mark
                for (mark,) in sql.execute(
                    "SELECT fingerprint FROM facts WHERE gone_audit IS NULL AND waived IS NOT NULL"
                )
            }
            audit = keep.marked(audit, known)
            number = keep.keep(
                audit, history, kind="run", files=files, gone_after_ns=config.audit.gone_after, until_ns=self.now_ns()
            )
            keep.note_matched(history, applied)
            gone = sql.execute(
                "SELECT fingerprint, rule, severity, title, path FROM facts WHERE gone_audit = ?", [number]
            ).fetchall()
            lost = losses(audit, config.audit.max_undecided)
            if any(each.skip for each in follower.usable) and not audit.captures["packets"].sum():
                lost = [each for each in lost if each.path is not None]  # a file grew by less than a packet
            if follower.may_be_idle and not len(audit.connections):
                lost = [each for each in lost if each.path is not None]
            self._note_files(audit, number, follower)
            fresh, whole = self.sources.audited(follower.told_of(), lost, self.now_ns())
            self.sources.save()
            self._hand_on(state, str(audit.info["id"]))
            unwaived = _counting(audit, lambda mark, _status: mark in excused, "unwaived")
            changes = [*_counting(audit, lambda _mark, status: status == "new", "new"), *unwaived, *_gone(gone)]
            self._plan_reports(
                number,
                changed=bool(changes)
                or bool((audit.findings["status"] == "new").any() if len(audit.findings) else False),
            )
            if config.spool.after != "keep":
                for each in follower.usable:
                    self.errands.plan(
                        "dispose", number, disposal(each.found, each.content, config.spool.after, config.spool.done)
                    )
            self.errands.plan_digest(number, [*changes, *({"change": "incomplete", "title": says} for says in fresh)])
        self._sweep_carry()
        self.outcome.incomplete += [each.says for each in lost]
        self.outcome.newly_incomplete += fresh
        for says in fresh:
            self.log.say("incomplete", f"incomplete: {says}", "warning")
        for says in whole:
            self.log.say("source", f"complete again: {says}")
        self._account(audit, number, follower, pass_state)
        self._waived(applied, unwaived)

    def _note_files(self, audit: Audit, number: int, follower: Follower) -> None:
        """What became of the files of an audit; inside its transaction."""
        packets = dict(zip(audit.captures["path"].tolist(), map(int, audit.captures["packets"].tolist()), strict=True))
        spool.note_taken(self.history, follower.usable, number, self.now_ns(), packets)
        spool.note_aside(self.history, follower.aside, self.now_ns())
        self._delivered([*(each.found.path for each in follower.usable), *(each.found.path for each in follower.aside)])
        self._plan_aside(follower.aside)

    def _account(self, audit: Audit, number: int, follower: Follower, pass_state: PassState) -> None:
        outcome, config = self.outcome, self.config
        outcome.audits.append(number)
        outcome.files += len(follower.usable)
        outcome.aside += [f"{each.found.path}: {each.says}" for each in follower.aside]
        outcome.failing += failing(audit, config.audit.fail_on)
        outcome.new += failing(audit, config.audit.fail_on, only_new=True)
        new = int((audit.findings["status"] == "new").sum()) if len(audit.findings) else 0
        says = f"audit {number}: {many(len(follower.usable), 'file')}, {many(len(audit.connections), 'connection')}, {many(len(audit.findings), 'finding')}, {new:,} new"
        self.log.say(
            "audit", says, audit=number, id=str(audit.info["id"]), files=len(follower.usable), connections=len(audit.connections),
            findings=len(audit.findings), new=new,
        )  # fmt: skip
        if pass_state.dropped:
            says = f"{many(pass_state.dropped, 'open connection')} are too many to be handed on: in the next capture they begin midstream"
            self.log.say("carry", says, "warning", dropped=pass_state.dropped)

    def _carried(self, applications: Sequence[str]) -> PassState:
        limits = PassStateLimits(remember_ns=self.config.spool.remember)
        row = self.history.sql.execute("SELECT file FROM carried WHERE name = ?", [CARRIED]).fetchone()
        if row is None:
            return PassState(limits)
        file, _, digest = row[0].partition(" ")
        try:
            raw = (self.history.path / health.CARRY / file).read_bytes()
            wrong = "its checksum differs" if digest and hashlib.sha256(raw).hexdigest() != digest else None
        except OSError as error:
            raw, wrong = b"", error.strerror or str(error)
        if wrong is not None:
            self._damaged(
                [f"{health.CARRY}/{file} was damaged: {wrong}; open connections will appear to begin midstream"]
            )
            return PassState(limits)
        found = load(raw, applications, limits)
        if found is None:
            says = "the state of the last pass cannot be read by this version; open connections will appear to begin midstream"
            self.log.say("carry", says, "warning")
            return PassState(limits)
        return found

    def _hand_on(self, state: bytes, name: str) -> None:
        folder = self._folder(health.CARRY)
        write_whole(folder / f"{name}.bin", state)
        told = f"{name}.bin {hashlib.sha256(state).hexdigest()}"
        self.history.sql.execute("INSERT OR REPLACE INTO carried VALUES (?, ?)", [CARRIED, told])

    def _folder(self, name: str) -> Path:
        """A folder of the store, there for good."""
        folder = self.history.path / name
        if not folder.is_dir():
            folder.mkdir(exist_ok=True, mode=0o700)
            sync(self.history.path)
        return folder

    def _sweep_carry(self) -> None:
        named = {file.partition(" ")[0] for (file,) in self.history.sql.execute("SELECT file FROM carried")}
        folder = self.history.path / health.CARRY
        for each in folder.iterdir() if folder.is_dir() else ():
            if each.name not in named:
                with contextlib.suppress(OSError):
                    each.unlink()

    def _set_aside(self, files: Sequence[spool.Aside]) -> None:
        with self.history.writing():
            spool.note_aside(self.history, files, self.now_ns())
            self._delivered([each.found.path for each in files])
            self._plan_aside(files)
        self.outcome.aside += [f"{each.found.path}: {each.says}" for each in files]

    # What follows from an audit

    def _plan_reports(self, number: int, *, changed: bool) -> None:
        """The reports that are to be written; inside the audit's transaction."""
        for section in self.config.report:
            if section.on == "always" or changed:
                what = {"format": section.format, "output": section.output, "table": section.table}
                self.errands.plan("report", number, what)

    def _plan_aside(self, files: Sequence[spool.Aside]) -> None:
        spooled = self.config.spool
        for each in files:
            self.log.say("aside", f"{each.found.path}: set aside: {each.says}", "warning", path=each.found.path)
            unread = each.content.startswith(spool.UNREAD)
            # What is empty leaves the spool as what was audited does, where there is no place for what failed.
            folder = spooled.aside or (spooled.done if not each.found.bytes and spooled.after == "move" else None)
            if folder is not None and not (unread and each.found.bytes):
                content = spool.NOTHING if unread else each.content
                self.errands.plan("dispose", None, disposal(each.found, content, "move", folder, each.says))
            elif not each.found.bytes and spooled.after == "delete":
                self.errands.plan("dispose", None, disposal(each.found, spool.NOTHING, "delete", None))
        if files:
            self.errands.plan_digest(
                None, [{"change": "aside", "title": f"{Path(each.found.path).name}: {each.says}"} for each in files]
            )

    def _waived(self, applied: Applied, unwaived: Sequence[dict[str, Any]]) -> None:
        """What the waivers did in this audit. A finding that a waiver covered until now counts as new: it was not reported yet."""
        outcome = self.outcome
        self._tell_unwaived(unwaived)
        outcome.over += [
            f"{each['place']}: waiver of {each['rule']} {each['says']}; so it covers none" for each in applied.over
        ]
        unused = {f"{each['place']}: waiver of {each['rule']}" for each in applied.unused}
        outcome.unused = unused if outcome.unused is None else outcome.unused & unused

    def _tell_unwaived(self, unwaived: Sequence[dict[str, Any]]) -> None:
        for each in unwaived:
            self.log.say("waiver", f"no longer waived: {each['rule']}: {each['title']}", "warning")
        least = self.config.audit.fail_on
        if least != "never":
            self.outcome.new += sum(Severity[each["severity"].upper()] >= Severity[least.upper()] for each in unwaived)

    def _ceilings(self) -> None:
        """Report waivers that match more than they allow, and those that matched nothing, once."""
        outcome = self.outcome
        if not outcome.audits:
            return
        over = list(dict.fromkeys(outcome.over))
        for says in over:
            self.log.say("waiver", says, "warning")
        keys = sorted({says.partition(" covers ")[0] for says in over})
        before = self._noted("over")
        if self._differs("over", keys):
            fresh = [says for says in over if says.partition(" covers ")[0] not in before]
            self._tell_change("over", keys, [{"change": "waiver", "title": says} for says in fresh])
        unused = sorted(outcome.unused or ())
        if self._differs("unused", unused):
            for says in unused:
                self.log.say("waiver", f"{says} matched nothing", "warning")
            self._tell_change("unused", unused, [])

    def _expiries(self, waivers: Waivers) -> None:
        """Waivers that have expired fail the pass, and are reported once, with the findings that they cover no longer."""
        today = today_of(self.now_ns())
        expired = [each for each in waivers.entries if each.expired(today)]
        self.outcome.expired = len(expired)
        told = [
            f"{each.place}: waiver of {each.model.rule} expired on {each.model.expires} ({', '.join(filter(None, (each.model.owner, each.model.ticket)))})"
            for each in expired
        ]
        for says in told:
            self.log.say("waiver", says, "warning")
        if not self._differs("expired", told):
            return
        before = self._noted("expired")
        with self.history.writing() as sql:
            bare = []
            for mark, rule, severity, title, path, waived in sql.execute(
                "SELECT fingerprint, rule, severity, title, path, waived FROM facts WHERE gone_audit IS NULL AND waived IS NOT NULL"
            ).fetchall():
                if str(json.loads(waived)["until"]) < today.isoformat():
                    bare.append(_change("unwaived", mark, rule, severity, title, path, 0))
                    sql.execute("UPDATE facts SET waived = NULL WHERE fingerprint = ?", [mark])
            fresh = [{"change": "waiver", "title": says} for says in told if says not in before]
            self._tell_change("expired", told, [*fresh, *bare])
        self._tell_unwaived(bare)

    def _incompleteness(self, wrong: Sequence[str]) -> None:
        """Folders that cannot be looked at, and files that were set aside, are incompleteness of the pass."""
        outcome = self.outcome
        folders = [f"folder: {each}" for each in wrong]
        before = set(self._noted("incomplete"))
        fresh = [each for each in folders if each not in before]
        for each in fresh:
            self.log.say("incomplete", f"incomplete: {each}", "warning")
        if self._differs("incomplete", folders):
            self._tell_change("incomplete", folders, [{"change": "incomplete", "title": each} for each in fresh])
        outcome.incomplete = [*dict.fromkeys(outcome.incomplete), *folders, *outcome.aside]
        outcome.newly_incomplete += [*fresh, *outcome.aside]

    def _noted(self, name: str) -> list[str]:
        row = self.history.sql.execute("SELECT value FROM meta WHERE name = ?", [name]).fetchone()
        return list(json.loads(row[0])) if row else []

    def _differs(self, name: str, now: Sequence[str]) -> bool:
        return self._noted(name) != list(now)

    def _tell_change(self, name: str, now: Sequence[str], changes: Sequence[Mapping[str, Any]]) -> None:
        with self.history.writing() as sql:
            sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [name, json.dumps(list(now))])
            if changes:
                self.errands.plan_digest(None, changes)


class Follower:
    """Follows the files of one audit; a file that cannot be read is set aside, and the others are audited."""

    may_be_idle = False
    """That nothing was said in the time of these files is no loss: others tell of other times."""

    def capture_of(self, file: spool.Ready) -> str:
        """What the audit calls the capture that the file is, or is a part of."""
        return file.found.path

    def told_of(self) -> list[str]:
        """Of which sources the audit tells, by the paths of their files."""
        return [each.found.path for each in self.usable]

    def __init__(self, owner: _Pass, batch: Sequence[spool.Ready]) -> None:
        self.owner, self.batch = owner, {each.found.path: each for each in batch}
        self.usable: list[spool.Ready] = []
        self.aside: list[spool.Aside] = []

    def follow(
        self, sources: Sequence[Any], options: Mapping[str, Any], progress: Callable[[Progress], None] | None
    ) -> Iterable[Followed]:
        """As ``pipeline.Follow``; raises InputError where nothing is left."""
        usable = list(self._follow(sources, options, progress))
        if not usable:
            raise InputError("spool", "nothing could be audited")
        return usable

    def _follow(self, sources: Sequence[Any], options: Mapping[str, Any], progress: Any) -> Iterator[Followed]:
        # One capture by itself is followed here, where it is known that connections of earlier audits go on in it.
        wanted = self.owner.config.audit
        several = (wanted.workers > 1 or wanted.scheduler) and len(sources) > 1
        return (self._by_many if several else self._one_by_one)(sources, options, progress)

    def _one_by_one(self, sources: Sequence[Any], options: Mapping[str, Any], progress: Any) -> Iterator[Followed]:
        from auditor.pipeline import follow_one

        history = self.owner.history
        for source in sources:
            file = self.batch[source]
            deaths = spool.begin_following(history, source)
            try:
                if deaths >= DEATHS:
                    followed = self._apart(source, options)
                else:
                    followed = follow_one(source, len(self.usable), options, False, progress)
            except AuditorError as error:
                self._refuse(file, str(error).removeprefix(f"{source}: "))
                continue
            except (Exception, MemoryError) as error:  # one file does not stop the audit of the others
                self._refuse(file, f"internal error: {type(error).__name__}; please report it")
                continue
            spool.end_following(history, source)
            if self._fit(file, followed):
                yield followed

    def _apart(self, source: str, options: Mapping[str, Any]) -> Followed:
        """Follow it in a process of its own."""
        from auditor.jobs.scale import follow_apart

        return follow_apart(source, len(self.usable), options)

    def _by_many(self, sources: Sequence[Any], options: Mapping[str, Any], progress: Any) -> Iterator[Followed]:
        from auditor.jobs.cluster import follow_on_cluster
        from auditor.jobs.scale import follow_many

        wanted = self.owner.config.audit
        many = follow_on_cluster(wanted.scheduler) if wanted.scheduler else follow_many(wanted.workers)
        try:
            followed = list(many(sources, options, progress))
        except AuditorError as error:
            if wanted.scheduler is None and not isinstance(error, InputError):
                raise
            says = "a worker process died" if wanted.scheduler is None else str(error)
            self.owner.log.say("workers", f"{says}; the files are read one by one", "warning")
            yield from self._one_by_one(sources, options, progress)
            return
        if any(_unusable(each) for each in followed):
            # Numbers of captures are in their frames: without some, they are others.
            bad = [source for source, each in zip(sources, followed, strict=True) if _unusable(each)]
            for source, each in zip(sources, followed, strict=True):
                if source in bad:
                    self._fit(self.batch[source], each)
            yield from self._follow([source for source in sources if source not in bad], options, progress)
            return
        for source, each in zip(sources, followed, strict=True):
            if self._fit(self.batch[source], each):
                yield each

    def _fit(self, file: spool.Ready, followed: Followed) -> bool:
        says = _unusable(followed)
        if says is None:
            self.usable.append(file)
            return True
        self._refuse(file, says)
        return False

    def _refuse(self, file: spool.Ready, says: str) -> None:
        self.aside.append(spool.Aside(file.found, file.content, says))


def _unusable(followed: Followed) -> str | None:
    return next((each.says for each in followed.capture.problems if each.kind == "unreadable"), None)


def _counting(audit: Audit, wanted: Callable[[str, str], bool], change: str) -> list[dict[str, Any]]:
    """Unwaived findings, selected by fingerprint and status, as changes of this kind."""
    findings = audit.findings
    if not len(findings):
        return []
    names = ("fingerprint", "rule", "severity", "title", "path", "count", "status", "waived")
    rows = zip(*(findings[name].tolist() for name in names), strict=True)
    return [
        _change(
            change, str(mark), str(rule), str(severity), str(title), path if isinstance(path, str) else None, int(count)
        )
        for mark, rule, severity, title, path, count, status, waived in rows
        if wanted(str(mark), str(status)) and not isinstance(waived, dict)
    ]


def _gone(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Facts that are gone, as changes."""
    return [_change("gone", mark, rule, severity, title, path, 0) for mark, rule, severity, title, path in rows]


def _change(
    change: str, mark: str, rule: str, severity: str, title: str, path: str | None, count: int
) -> dict[str, Any]:
    return {
        "change": change,
        "fingerprint": mark,
        "rule": rule,
        "severity": severity,
        "title": title,
        "path": path,
        "count": count,
    }


def _span(ns: int) -> str:
    hours = ns / 3_600e9
    return (
        f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} hours" if hours >= 2 else f"{hours * 60:.0f} minutes"
    )


def _run_command(command: Sequence[str], seconds: float) -> bytes:
    """The output of a command. Raises ConfigError if it fails, takes too long or prints too much; its processes are ended then."""
    shown = Path(command[0]).name
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                list(command), stdin=subprocess.DEVNULL, stdout=out, stderr=errors, start_new_session=True
            )
        except OSError as error:
            raise ConfigError(shown, f"cannot be run: {error.strerror or error}") from error
        until = time.monotonic() + seconds
        status: int | None = None
        try:
            while status is None:
                left = until - time.monotonic()
                if left <= 0:
                    raise ConfigError(shown, f"took longer than {seconds:g} s", hint="raise its timeout")
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(min(left, LOOK_S))
                if max(os.fstat(each.fileno()).st_size for each in (out, errors)) > MAX_INVENTORY_BYTES:
                    raise ConfigError(shown, f"printed more than {MAX_INVENTORY_BYTES >> 20} MiB")
        finally:
            # Its children, too: one that hangs would be there a hundred times by tomorrow.
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if status:
            errors.seek(max(errors.seek(0, os.SEEK_END) - 4_096, 0))
            last = errors.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            raise ConfigError(shown, f"exited with {status}" + (f": {last[0][:200]}" if last else ""))
        out.seek(0)
        return out.read()
