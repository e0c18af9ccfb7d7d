"""One scheduled pass: take what is finished and new, audit it, keep it, and tell what changed.

What makes it safe to be killed at any moment:

- Everything that a pass decides about some files becomes true in one transaction of the store: the audit, that the files were taken, what is
  handed to the next pass, and the errands (reports to write, people to tell, files to move). Before it nothing is; the next pass does it again.
- Errands are done after that, each as often as it takes. A report is written again from the store; a digest carries a key by which a
  receiver knows one that came twice.
- So nothing is counted twice and nothing is lost, whatever ends a pass: a kill, a full disk, a power cut.

The exit status is quiet, too: 1 for findings that are new since the last pass (or a waiver that has expired), 3 for incompleteness that is new.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.carry import Carry, CarryLimits, load
from auditor.errors import AuditorError, ConfigError, InputError
from auditor.jobs import keep, spool
from auditor.jobs.config import InventorySection, RunConfig
from auditor.jobs.lock import only_one
from auditor.jobs.log import Log
from auditor.model.audit import Audit
from auditor.model.roles import Severity
from auditor.policy.inventory import Inventory, load_inventory, time_text
from auditor.policy.loader import load_policy
from auditor.policy.policy import Policy
from auditor.policy.waivers import Applied, Waivers, load_waivers, today_of
from auditor.store.history import History, open_history, sync, write_whole

if TYPE_CHECKING:
    from auditor.pipeline import Followed, Progress

CARRIED = "open"
CARRY_FOLDER = "carry"
INVENTORIES = "inventories"
DEATHS = 3
"""After so many passes have died over a file, it is read by a process of its own, whose death hurts nobody."""
MAX_INVENTORY_BYTES = 256 * 1024 * 1024
LOOK_S = 0.5
"""So often somebody looks how much the command has printed."""
FORGET_NS = 30 * 86_400 * 1_000_000_000
RETRY_NS = 60 * 1_000_000_000


@dataclass(slots=True)
class Outcome:
    """What a pass came to."""

    audits: list[int] = field(default_factory=list)
    files: int = 0
    aside: list[str] = field(default_factory=list)
    new: int = 0
    """New findings at or above ``fail_on`` that nobody waived."""
    failing: int = 0
    """All findings at or above ``fail_on`` that nobody waived."""
    incomplete: list[str] = field(default_factory=list)
    newly_incomplete: list[str] = field(default_factory=list)
    expired: int = 0
    over: list[str] = field(default_factory=list)
    """Waivers that cover nothing because they are above their ceiling."""
    unused: set[str] | None = None
    """Waivers that matched nothing in any audit of this pass."""
    undone: int = 0
    """Errands that are still to be done."""

    def status(self, everything: bool, allow_incomplete: bool) -> int:
        """The exit status; ``everything``: as ``auditor audit`` would have it."""
        if self.expired or (self.failing if everything else self.new):
            return 1
        incomplete = self.incomplete if everything else self.newly_incomplete
        return 3 if incomplete and not allow_incomplete else 0


Told = Callable[[Any, dict[str, Any]], None]
"""Tells somebody (a ``NotifySection``) a digest; raises AuditorError where it fails."""


def one_pass(
    config: RunConfig,
    log: Log,
    now_ns: Callable[[], int],
    *,
    tell: Told | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Outcome:
    """One pass over the spool. Raises ConfigError where it cannot even begin."""
    place = Path(config.store)
    with only_one(place, now_ns()) as lock:
        if lock.died:
            log.say(
                "recovering",
                f"the last pass was ended before its time ({lock.died}); what it left is finished now",
                "warning",
            )
        with open_history(place, write=True) as history:
            return _Pass(config, history, log, now_ns, tell, progress).run()


class _Pass:
    def __init__(
        self,
        config: RunConfig,
        history: History,
        log: Log,
        now_ns: Callable[[], int],
        tell: Told | None,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.config, self.history, self.log, self.now_ns = config, history, log, now_ns
        self.tell, self.progress = tell, progress
        self.outcome = Outcome()

    def run(self) -> Outcome:
        config, history = self.config, self.history
        policy = load_policy(config.audit.policies, release=config.audit.release)
        waivers = load_waivers(config.audit.waivers, keep.rule_names())
        self.errands()
        found, wrong = spool.look(config.spool, self.now_ns())
        for each in wrong:
            self.log.say("spool", each, "warning")
        ready, unread = spool.new_files(history, found, self.now_ns())
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
                self.errands()
        self._expiries(waivers)
        self._ceilings()
        self._incompleteness(wrong)
        self.errands()
        history.tidy(self.now_ns())
        gone = history.retain(self.now_ns(), max_age_ns=config.retention.age, max_bytes=config.retention.size)
        if gone:
            self.log.say("retention", f"{gone} old audits removed", audits=gone)
        spool.forget_files(history, self.now_ns() - FORGET_NS)
        (self.outcome.undone,) = history.sql.execute("SELECT count(*) FROM errands").fetchone()
        return self.outcome

    # Who is who

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
            part.write_bytes(raw)
            load_inventory([str(part)], load_policy(self.config.audit.policies, release=self.config.audit.release))
            part.unlink()
            write_whole(answer, raw)
        except (AuditorError, OSError) as error:
            says = f"inventory {number + 1}: {error}".replace(f".{answer.name}.check", "its answer")
            if not answer.is_file() or self.now_ns() - answer.stat().st_mtime_ns > section.stale:
                raise ConfigError("inventory", says, mend="run it by hand, as this user") from None
            self.log.say("inventory", f"{says}; its last answer is used", "warning")
        return str(answer)

    # Auditing

    def _audit(
        self,
        batch: Sequence[spool.Ready],
        policy: Policy,
        who: Inventory | None,
        waivers: Waivers,
        files: Sequence[str],
    ) -> None:
        from auditor import pipeline
        from auditor.inspectors._examine import Examiner

        config, history = self.config, self.history
        applications = Examiner().applications
        carry = self._carried(applications)
        follower = _Follower(self, batch)
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
        sources = [each.found.path for each in batch]
        try:
            audit = pipeline.run(
                sources,
                policy=policy,
                inventory=who,
                options=options,
                progress=self.progress,
                follow=follower.follow,
                carry=carry,
            )
        except InputError:
            if follower.usable:
                raise
            self._set_aside(follower.aside)  # none of them was a capture
            return
        # One that changed while it was read is nobody's yet: all of it again, without that one.
        changed = [each for each in follower.usable if spool.Found.at(each.found.path) not in (each.found, None)]
        if changed:
            for each in changed:
                self.log.say(
                    "changed", f"{each.found.path}: was written to while it was read; left for the next pass", "warning"
                )
            rest = [each for each in batch if each not in changed]
            if rest:
                self._audit(rest, policy, who, waivers, files)
            return
        audit, applied, _ = keep.excused(audit, waivers, today_of(self.now_ns()), keep.matched_before(history))
        audit = keep.hashed(audit, {each.found.path: each.content for each in follower.usable})
        state = carry.dump(applications)
        with history.writing() as sql:
            known = {mark for mark, each in history.known().items() if each.open}
            excused = {
                mark
                for (mark,) in sql.execute(
                    "SELECT fingerprint FROM facts WHERE gone_audit IS NULL AND waived IS NOT NULL"
                )
            }
            audit = keep.marked(audit, known)
            number = keep.keep(audit, history, kind="run", files=files, gone_after_ns=config.audit.gone_after)
            keep.note_matched(history, applied)
            gone = sql.execute(
                "SELECT fingerprint, rule, severity, title, path FROM facts WHERE gone_audit = ?", [number]
            ).fetchall()
            spool.note_taken(history, follower.usable, number, self.now_ns())
            spool.note_aside(history, follower.aside, self.now_ns())
            self._hand_on(state, str(audit.info["id"]))
            unwaived = _counting(audit, lambda mark, _status: mark in excused, "unwaived")
            self._plan(audit, number, [*unwaived, *_gone(gone)], follower)
        self._sweep_carry()
        self._account(audit, number, follower, carry)
        self._waived(applied, unwaived)

    def _account(self, audit: Audit, number: int, follower: _Follower, carry: Carry) -> None:
        from auditor.jobs.tally import failing, incomplete

        outcome, config = self.outcome, self.config
        outcome.audits.append(number)
        outcome.files += len(follower.usable)
        outcome.aside += [f"{each.found.path}: {each.says}" for each in follower.aside]
        outcome.failing += failing(audit, config.audit.fail_on)
        outcome.new += failing(audit, config.audit.fail_on, only_new=True)
        outcome.incomplete += incomplete(audit, config.audit.max_undecided)
        new = int((audit.findings["status"] == "new").sum()) if len(audit.findings) else 0
        says = f"audit {number}: {len(follower.usable)} files, {len(audit.connections)} connections, {len(audit.findings)} findings, {new} new"
        self.log.say(
            "audit", says, audit=number, id=str(audit.info["id"]), files=len(follower.usable), connections=len(audit.connections),
            findings=len(audit.findings), new=new,
        )  # fmt: skip
        if carry.dropped:
            says = f"{carry.dropped} open connections were too many to be handed on; they will seem to begin midstream"
            self.log.say("carry", says, "warning", dropped=carry.dropped)

    def _carried(self, applications: Sequence[str]) -> Carry:
        limits = CarryLimits(remember_ns=self.config.spool.remember)
        row = self.history.sql.execute("SELECT file FROM carried WHERE name = ?", [CARRIED]).fetchone()
        if row is None:
            return Carry(limits)
        try:
            raw = (self.history.path / CARRY_FOLDER / row[0]).read_bytes()
            found = load(raw, applications, limits)
        except OSError:
            found = None
        if found is None:
            says = "what the last pass handed on cannot be read by this version; open connections will seem to begin midstream"
            self.log.say("carry", says, "warning")
            return Carry(limits)
        return found

    def _hand_on(self, state: bytes, name: str) -> None:
        folder = self._folder(CARRY_FOLDER)
        write_whole(folder / f"{name}.bin", state)
        self.history.sql.execute("INSERT OR REPLACE INTO carried VALUES (?, ?)", [CARRIED, f"{name}.bin"])

    def _folder(self, name: str) -> Path:
        """A folder of the store, there for good."""
        folder = self.history.path / name
        if not folder.is_dir():
            folder.mkdir(exist_ok=True, mode=0o700)
            sync(self.history.path)
        return folder

    def _sweep_carry(self) -> None:
        named = {file for (file,) in self.history.sql.execute("SELECT file FROM carried")}
        folder = self.history.path / CARRY_FOLDER
        for each in folder.iterdir() if folder.is_dir() else ():
            if each.name not in named:
                with contextlib.suppress(OSError):
                    each.unlink()

    def _set_aside(self, files: Sequence[spool.Aside]) -> None:
        with self.history.writing():
            spool.note_aside(self.history, files, self.now_ns())
            self._plan_aside(files)
        self.outcome.aside += [f"{each.found.path}: {each.says}" for each in files]

    # Errands: what follows from an audit

    def _errand(self, kind: str, audit: int | None, what: Mapping[str, Any]) -> None:
        now = self.now_ns()
        self.history.sql.execute(
            "INSERT INTO errands (kind, audit, what, tries, due_ns, made_ns) VALUES (?, ?, ?, 0, ?, ?)",
            [kind, audit, json.dumps(what, sort_keys=True), now, now],
        )

    def _plan(self, audit: Audit, number: int, more: Sequence[dict[str, Any]], follower: _Follower) -> None:
        """Everything that is to follow from this audit; ``more``: changes beside the new findings. Inside its transaction."""
        changed = bool(more) or bool((audit.findings["status"] == "new").any() if len(audit.findings) else False)
        for section in self.config.report:
            if section.on == "always" or changed:
                self._errand(
                    "report", number, {"format": section.format, "output": section.output, "table": section.table}
                )
        self._plan_aside(follower.aside)
        if self.config.spool.after != "keep":
            for each in follower.usable:
                self._errand("dispose", number, _disposal(each, self.config.spool.after, self.config.spool.done))
        fresh = _counting(audit, lambda _mark, status: status == "new", "new")
        self._plan_digest(number, [*fresh, *more])

    def _plan_aside(self, files: Sequence[spool.Aside]) -> None:
        folder = self.config.spool.aside
        for each in files:
            self.log.say("aside", f"{each.found.path}: set aside: {each.says}", "warning", path=each.found.path)
            if folder is not None and not each.content.startswith("unread-"):
                self._errand(
                    "dispose",
                    None,
                    {"path": each.found.path, "content": each.content, "how": "move", "to": folder, "why": each.says},
                )
        if files:
            self._plan_digest(
                None, [{"change": "aside", "title": f"{Path(each.found.path).name}: {each.says}"} for each in files]
            )

    def _plan_digest(self, number: int | None, changes: Sequence[Mapping[str, Any]]) -> None:
        from auditor.jobs.digest import digest_of

        for section in self.config.notify:
            digest = digest_of(self.config.name, section, changes, number, self.now_ns())
            if digest is not None:
                self._errand("notify", number, {"name": section.name, "digest": digest})

    def _waived(self, applied: Applied, unwaived: Sequence[dict[str, Any]]) -> None:
        """What the waivers did in this audit. A finding that one covered until now counts as a new one does: nobody was told of it yet."""
        outcome = self.outcome
        for each in unwaived:
            self.log.say("waiver", f"no longer waived: {each['rule']}: {each['title']}", "warning")
        least = self.config.audit.fail_on
        if least != "never":
            outcome.new += sum(Severity[each["severity"].upper()] >= Severity[least.upper()] for each in unwaived)
        outcome.over += [
            f"{each['place']}: waiver of {each['rule']} {each['says']}; it covers none" for each in applied.over
        ]
        unused = {f"{each['place']}: waiver of {each['rule']}" for each in applied.unused}
        outcome.unused = unused if outcome.unused is None else outcome.unused & unused

    def _ceilings(self) -> None:
        """Waivers above their ceiling, and those that matched nothing, are told where that is new."""
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
        """Waivers that have expired fail the pass, and are told once."""
        today = today_of(self.now_ns())
        expired = [each for each in waivers.entries if each.expired(today)]
        self.outcome.expired = len(expired)
        told = [
            f"{each.place}: waiver of {each.model.rule} expired on {each.model.expires} ({each.model.owner}, {each.model.ticket})"
            for each in expired
        ]
        for says in told:
            self.log.say("waiver", says, "warning")
        if self._differs("expired", told):
            self._tell_change("expired", told, [{"change": "waiver", "title": says} for says in told])

    def _incompleteness(self, wrong: Sequence[str]) -> None:
        """What was not done whole; new is what the last pass that audited did not have."""
        outcome = self.outcome
        outcome.incomplete = [*dict.fromkeys(outcome.incomplete), *(f"folder: {each}" for each in wrong)]
        if not outcome.audits and not outcome.aside and not wrong:
            return
        before = set(self._noted("incomplete"))
        outcome.newly_incomplete = [each for each in outcome.incomplete if _key(each) not in before]
        keys = sorted({_key(each) for each in outcome.incomplete})
        outcome.newly_incomplete += outcome.aside
        for each in outcome.newly_incomplete:
            self.log.say("incomplete", f"incomplete: {each}", "warning")
        if self._differs("incomplete", keys):
            fresh = [each for each in outcome.newly_incomplete if each not in outcome.aside]
            self._tell_change("incomplete", keys, [{"change": "incomplete", "title": each} for each in fresh])
        outcome.incomplete += outcome.aside

    def _noted(self, name: str) -> list[str]:
        row = self.history.sql.execute("SELECT value FROM meta WHERE name = ?", [name]).fetchone()
        return list(json.loads(row[0])) if row else []

    def _differs(self, name: str, now: Sequence[str]) -> bool:
        return self._noted(name) != list(now)

    def _tell_change(self, name: str, now: Sequence[str], changes: Sequence[Mapping[str, Any]]) -> None:
        with self.history.writing() as sql:
            sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [name, json.dumps(list(now))])
            if changes:
                self._plan_digest(None, changes)

    def errands(self) -> None:
        """Do what is due; what fails is tried again later."""
        due = self.history.sql.execute(
            "SELECT errand, kind, audit, what, tries FROM errands WHERE due_ns <= ? ORDER BY errand", [self.now_ns()]
        ).fetchall()
        for errand, kind, audit, what, tries in due:
            try:
                self._do(kind, audit, json.loads(what))
            except (AuditorError, OSError) as error:
                self._later(errand, kind, tries + 1, what, " ".join(str(error).split()))
                continue
            with self.history.writing() as sql:
                sql.execute("DELETE FROM errands WHERE errand = ?", [errand])

    def _later(self, errand: int, kind: str, tries: int, what: str, says: str) -> None:
        most = next((each.tries for each in self.config.notify if each.name == json.loads(what).get("name")), 8)
        final = tries >= most
        with self.history.writing() as sql:
            if final:
                sql.execute("DELETE FROM errands WHERE errand = ?", [errand])
            else:
                due = self.now_ns() + RETRY_NS * (1 << min(tries - 1, 10))
                sql.execute(
                    "UPDATE errands SET tries = ?, due_ns = ?, says = ? WHERE errand = ?",
                    [tries, due, says[:500], errand],
                )
        more = f"given up after {tries} tries" if final else f"try {tries}; it is tried again"
        self.log.say("errand", f"{kind}: {says} ({more})", "error" if final else "warning", kind=kind, tries=tries)

    def _do(self, kind: str, audit: int | None, what: dict[str, Any]) -> None:
        if kind == "report":
            _write_report(self.history, audit, what)
        elif kind == "dispose":
            _dispose(what)
        elif kind == "notify":
            section = next((each for each in self.config.notify if each.name == what["name"]), None)
            if section is not None and self.tell is not None:
                self.tell(section, what["digest"])


class _Follower:
    """Follows the files of one audit; what cannot be followed is set aside and keeps nothing else."""

    def __init__(self, owner: _Pass, batch: Sequence[spool.Ready]) -> None:
        self._pass, self._batch = owner, {each.found.path: each for each in batch}
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
        wanted = self._pass.config.audit
        several = (wanted.workers > 1 or wanted.scheduler) and len(sources) > 1
        return (self._by_many if several else self._one_by_one)(sources, options, progress)

    def _one_by_one(self, sources: Sequence[Any], options: Mapping[str, Any], progress: Any) -> Iterator[Followed]:
        from auditor.pipeline import follow_one

        history = self._pass.history
        for source in sources:
            file = self._batch[source]
            deaths = spool.begin_following(history, source)
            try:
                if deaths >= DEATHS:
                    followed = self._apart(source, options)
                else:
                    followed = follow_one(source, len(self.usable), options, False, progress)
            except AuditorError as error:
                self._refuse(file, str(error).removeprefix(f"{source}: "))
                continue
            except (Exception, MemoryError) as error:  # one file keeps nothing else from being audited
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

        wanted = self._pass.config.audit
        many = follow_on_cluster(wanted.scheduler) if wanted.scheduler else follow_many(wanted.workers)
        try:
            followed = list(many(sources, options, progress))
        except AuditorError as error:
            if wanted.scheduler is None and not isinstance(error, InputError):
                raise
            says = "a worker process died" if wanted.scheduler is None else str(error)
            self._pass.log.say("workers", f"{says}; the files are followed one by one", "warning")
            yield from self._one_by_one(sources, options, progress)
            return
        if any(_unusable(each) for each in followed):
            # Numbers of captures are in their frames: without some, they are others.
            bad = [source for source, each in zip(sources, followed, strict=True) if _unusable(each)]
            for source, each in zip(sources, followed, strict=True):
                if source in bad:
                    self._fit(self._batch[source], each)
            yield from self._follow([source for source in sources if source not in bad], options, progress)
            return
        for source, each in zip(sources, followed, strict=True):
            if self._fit(self._batch[source], each):
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


def _key(reason: str) -> str:
    """By what a reason is the same as before: the file, where one is damaged; else the kind, because its numbers change."""
    return reason if reason.startswith(("damaged", "unsupported", "limited", "folder")) else reason.partition(":")[0]


def _unusable(followed: Followed) -> str | None:
    return next((each.says for each in followed.capture.problems if each.kind == "unreadable"), None)


def _counting(audit: Audit, wanted: Callable[[str, str], bool], change: str) -> list[dict[str, Any]]:
    """Findings that nobody waived and that are wanted by their fingerprint and status, as a change of this kind."""
    findings = audit.findings
    if not len(findings):
        return []
    names = ("fingerprint", "rule", "severity", "title", "path", "count", "status", "waived")
    rows = zip(*(findings[name].tolist() for name in names), strict=True)
    return [
        {
            "change": change,
            "fingerprint": str(mark),
            "rule": str(rule),
            "severity": str(severity),
            "title": str(title),
            "path": path if isinstance(path, str) else None,
            "count": int(count),
        }
        for mark, rule, severity, title, path, count, status, waived in rows
        if wanted(str(mark), str(status)) and not isinstance(waived, dict)
    ]


def _gone(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Facts that are gone, as changes."""
    return [
        {
            "change": "gone",
            "fingerprint": mark,
            "rule": rule,
            "severity": severity,
            "title": title,
            "path": path,
            "count": 0,
        }
        for mark, rule, severity, title, path in rows
    ]


# Errands


def _write_report(history: History, audit: int | None, what: Mapping[str, Any]) -> None:
    """Write a report of a kept audit; one that retention has removed meanwhile is nobody's loss."""
    from importlib import import_module

    from auditor.report._target import file_target, folder_target

    found = [row for row in history.rows() if row.audit == audit]
    if not found:
        return
    row = found[0]
    day = time_text(row.last_ns or row.finished_ns)[:10]
    place = Path(str(what["output"]).replace("{id}", row.id).replace("{audit}", str(row.audit)).replace("{date}", day))
    _make(place.parent)
    try:
        chosen = import_module(f"auditor.report.{what['format']}").FORMAT
    except ModuleNotFoundError:
        raise ConfigError("report.format", f"there is no format {what['format']!r}") from None
    table = what["table"] or ("connections" if chosen.name == "csv" else None)
    with (folder_target if chosen.folder else file_target)(place) as target:
        chosen.write(keep.restore(history, row), target, table=table)
    for each in (*(place.iterdir() if place.is_dir() else (place,)), place.parent):
        sync(each)


def _make(folder: Path) -> None:
    """A folder, there for good with all above it: what is moved into one whose own name is lost would be lost with it. Raises OSError."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def _disposal(file: spool.Ready, how: str, to: str | None) -> dict[str, Any]:
    return {"path": file.found.path, "content": file.content, "how": how, "to": to, "why": None}


def _dispose(what: Mapping[str, Any]) -> None:
    """Delete or move a file that is in the store, if it is still what was taken. Raises OSError."""
    path = Path(what["path"])
    if keep.sha256_of(path) != what["content"]:
        return
    if what["how"] == "delete":
        path.unlink(missing_ok=True)
        return
    folder = Path(what["to"])
    _make(folder)
    target = folder / path.name
    if target.exists() and keep.sha256_of(target) != what["content"]:
        target = folder / f"{what['content'][:12]}-{path.name}"
    if what["why"]:
        write_whole(folder / f"{target.name}.reason", f"{what['why']}\n".encode())
    try:
        path.replace(target)
    except OSError:  # another file system: copied whole, then removed
        handle, part = tempfile.mkstemp(dir=folder, prefix=".")
        os.close(handle)
        shutil.copy2(path, part)
        sync(Path(part))
        Path(part).replace(target)
        sync(folder)
        path.unlink()
        return
    for each in (folder, path.parent):
        sync(each)


def _run_command(command: Sequence[str], seconds: float) -> bytes:
    """What a command prints. Raises ConfigError where it fails, takes too long or says too much; nothing that it started is left then."""
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
                    raise ConfigError(shown, f"took longer than {seconds:g} s", mend="raise its timeout")
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
