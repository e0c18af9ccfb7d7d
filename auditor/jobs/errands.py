"""Tasks that follow from audits: reports to write, files to move, notifications to send.

The rules:

- A task is committed together with its audit, and stays until it is done or an operator withdraws it. None is dropped.
- What fails is tried again with growing pauses, at most an hour long. Also if the clock jumped, none waits longer than its own pause.
- Notifications are sent at the end of a pass, in one digest; what could not be sent is added to the next digest, once the receiver is reachable again. So each event is in one digest.
- A digest is composed before it is sent, and sent again as it is where it may have been sent already: its key is the same then.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import AuditorError, ConfigError
from auditor.jobs import keep, spool
from auditor.jobs.config import RunConfig
from auditor.jobs.log import Log
from auditor.policy.inventory import time_text
from auditor.store.history import DamagedError, History, sync, write_whole

RETRY_NS = 60 * 1_000_000_000
LONGEST_NS = 3_600 * 1_000_000_000
PART = ".auditor-"
"""Names of files that are being moved to another file system begin so."""
SENDING = "being sent"
"""The state of a digest while it is being sent: if it is found later, the digest may have been delivered."""
SWEPT_S = 3_600.0
"""What is left of a report or a move that was ended before its time is removed after so long."""

Told = Callable[[Any, dict[str, Any]], None]
"""Sends a digest to a receiver (a ``NotifySection``); raises AuditorError if it fails."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One errand that is still to be done."""

    errand: int
    kind: str
    audit: int | None
    what: dict[str, Any]
    tries: int
    due_ns: int
    made_ns: int
    says: str | None

    @property
    def name(self) -> str:
        """Whom or what it is about; no address."""
        return str(self.what.get("name") or self.what.get("path") or self.what.get("output"))


def pause_ns(tries: int) -> int:
    """How long after so many tries the next one is made."""
    return min(RETRY_NS << min(max(tries - 1, 0), 10), LONGEST_NS)


def waiting(history: History) -> list[Waiting]:
    """All of them, the oldest first."""
    rows = history.sql.execute(
        "SELECT errand, kind, audit, what, tries, due_ns, made_ns, says FROM errands ORDER BY errand"
    )
    return [
        Waiting(errand, kind, audit, json.loads(what), tries, due_ns, made_ns, says)
        for errand, kind, audit, what, tries, due_ns, made_ns, says in rows
    ]


def withdraw(history: History, which: str) -> int:
    """Forget an errand, by its number, or ``all``; how many there were. Raises ConfigError."""
    if which != "all" and not (which.isascii() and which.isdigit() and len(which) < 16):
        raise ConfigError("--withdraw", f"{which!r} is not a pending delivery", hint="a number from --status, or all")
    with history.writing() as sql:
        where, values = ("1", []) if which == "all" else ("errand = ?", [int(which)])
        count = sql.execute(f"DELETE FROM errands WHERE {where}", values).rowcount  # noqa: S608  # our own words
    if not count and which != "all":
        raise ConfigError("--withdraw", f"no pending delivery {which}", hint="auditor run CONFIG --status lists them")
    return int(count)


class Errands:
    """The errands of a pass."""

    def __init__(
        self,
        config: RunConfig,
        history: History,
        log: Log,
        now_ns: Callable[[], int],
        tell: Told | None,
        damaged: Callable[[DamagedError], None],
    ) -> None:
        self._config, self._history, self._log, self._now_ns, self._tell = config, history, log, now_ns, tell
        self._damaged = damaged

    # Planning: inside the transaction of what they follow from

    def plan(self, kind: str, audit: int | None, what: Mapping[str, Any]) -> None:
        """One more."""
        now = self._now_ns()
        row = {"kind": kind, "audit": audit, "what": json.dumps(what, sort_keys=True), "tries": 0}
        self._history.insert("errands", {**row, "due_ns": now, "made_ns": now})

    def plan_digest(self, number: int | None, changes: Sequence[Mapping[str, Any]]) -> None:
        """Add a notification for every receiver that wants some of the changes."""
        from auditor.jobs.digest import wanted

        for section in self._config.notify:
            some = wanted(section, changes)
            if some:
                audits = [] if number is None else [number]
                self.plan("notify", number, {"name": section.name, "changes": some, "audits": audits})

    # Doing

    def do(self) -> None:
        """Reports and moves that are due; what fails is tried again later."""
        now = self._now_ns()
        for each in waiting(self._history):
            if each.kind == "notify" or self._due_ns(each) > now:
                continue
            try:
                if each.kind == "report":
                    self._report(each)
                elif each.kind == "dispose":
                    dispose(each.what)
            except (AuditorError, OSError) as error:
                self._later(each, " ".join(str(error).split()))
                continue
            self._done(each)

    def _report(self, each: Waiting) -> None:
        try:
            write_report(self._history, each.audit, each.what)
        except ConfigError as error:
            if isinstance(error, DamagedError):
                self._damaged(error)
            if not self._history.missing(None, each.audit or 0, each.audit or 0):
                raise
            # Its audit is lost, which was reported: there is nothing to wait for.
            self._log.say("errand", f"report of audit {each.audit}: {error}", "error", kind="report")

    def tell_all(self) -> None:
        """One digest for each receiver with pending notifications that is not waiting after a failure."""
        if self._tell is None:
            return
        found = [each for each in waiting(self._history) if each.kind == "notify"]
        for section in self._config.notify:
            mine = [each for each in found if each.what["name"] == section.name]
            # One that may have been sent is sent again as it was.
            for each in [each for each in mine if each.says == SENDING]:
                mine.remove(each)
                if not self._sent(section, each):
                    mine = []
            if mine and max(self._due_ns(each) for each in mine if each.tries or each is mine[0]) <= self._now_ns():
                for each in self._composed(section, mine):
                    if not self._sent(section, each):
                        break

    def _composed(self, section: Any, mine: Sequence[Waiting]) -> list[Waiting]:
        """The notifications for one receiver as one digest; those that an earlier version composed stay as they are."""
        from auditor.jobs.digest import digest_of

        old = [each for each in mine if "changes" not in each.what]
        loose = [each for each in mine if "changes" in each.what]
        if not loose:
            return old
        changes: dict[tuple[str, str], Any] = {}
        for each in loose:
            for change in each.what["changes"]:
                changes[change["change"], str(change.get("fingerprint") or change["title"])] = change
        audits = sorted({number for each in loose for number in each.what["audits"]})
        late = min((each.made_ns for each in loose if each.tries), default=None)
        digest = digest_of(self._config.name, section, [*changes.values()], audits, self._now_ns(), late)
        what = {"name": section.name, "changes": [*changes.values()], "audits": audits, "digest": digest}
        first, tries = loose[0], max(each.tries for each in loose)
        with self._history.writing() as sql:
            sql.executemany("DELETE FROM errands WHERE errand = ?", [(each.errand,) for each in loose[1:]])
            sql.execute(
                "UPDATE errands SET what = ?, tries = ? WHERE errand = ?",
                [json.dumps(what, sort_keys=True), tries, first.errand],
            )
        made = Waiting(first.errand, "notify", first.audit, what, tries, first.due_ns, first.made_ns, first.says)
        return [*old, made]

    def _sent(self, section: Any, each: Waiting) -> bool:
        if each.says != SENDING:
            with self._history.writing() as sql:
                sql.execute("UPDATE errands SET says = ? WHERE errand = ?", [SENDING, each.errand])
        assert self._tell is not None  # noqa: S101
        try:
            self._tell(section, {**each.what["digest"], "changes": each.what.get("changes", [])})
        except (AuditorError, OSError) as error:
            self._later(each, " ".join(str(error).split()))
            return False
        self._done(each)
        return True

    def _due_ns(self, each: Waiting) -> int:
        return min(each.due_ns, self._now_ns() + pause_ns(each.tries)) if each.tries else 0

    def _done(self, each: Waiting) -> None:
        with self._history.writing() as sql:
            sql.execute("DELETE FROM errands WHERE errand = ?", [each.errand])

    def _later(self, each: Waiting, says: str) -> None:
        tries = each.tries + 1
        alarm = next((section.tries for section in self._config.notify if section.name == each.what.get("name")), 8)
        with self._history.writing() as sql:
            sql.execute(
                "UPDATE errands SET tries = ?, due_ns = ?, says = ? WHERE errand = ?",
                [tries, self._now_ns() + pause_ns(tries), says[:500], each.errand],
            )
        self._log.say(
            "errand",
            f"{each.kind}: {says} (try {tries}; attempts continue until it is done or withdrawn)",
            "error" if tries >= alarm else "warning",
            kind=each.kind,
            tries=tries,
            errand=each.errand,
        )

    def settle(self) -> None:
        """Errands that were put off by a clock that is not believed any more are due after their own pause."""
        late = [each for each in waiting(self._history) if each.tries and each.due_ns > self._due_ns(each)]
        if late:
            with self._history.writing() as sql:
                for each in late:
                    sql.execute("UPDATE errands SET due_ns = ? WHERE errand = ?", [self._due_ns(each), each.errand])

    def sweep(self) -> None:
        """Remove what reports and moves left that were ended before their time."""
        config = self._config
        folders = {Path(each) for each in (config.spool.done, config.spool.aside) if each is not None}
        folders |= {Path(each.output).parent for each in config.report if "{" not in str(Path(each.output).parent)}
        names = {Path(each.output).name for each in config.report}
        for folder in folders:
            with contextlib.suppress(OSError):
                for each in folder.iterdir():
                    if _left_over(each, names):
                        shutil.rmtree(each) if each.is_dir() else each.unlink()


def _left_over(path: Path, outputs: Iterable[str]) -> bool:
    """Whether it is a temporary file of ours whose writer is gone."""
    part = _REPORT_PART.fullmatch(path.name)
    ours = path.name.startswith(PART) or re.fullmatch(r"\..+\.reason\.part", path.name) is not None
    if part is not None:
        ours = any(re.fullmatch(_FILLED.sub(".+", re.escape(each)), part[1]) for each in outputs)
    return ours and abs(time.time() - path.stat().st_mtime) > SWEPT_S


_REPORT_PART = re.compile(r"\.(.+)\.\d+-[0-9a-f]{6}\.part")
"""As ``report._target`` names what it writes beside its target."""
_FILLED = re.compile(r"\\\{(?:id|audit|date)\\\}")


def write_report(history: History, audit: int | None, what: Mapping[str, Any]) -> None:
    """Write a report of a stored audit; if retention has removed the audit meanwhile, nothing is written. Raises ConfigError, OSError."""
    from importlib import import_module

    from auditor.report._target import file_target, folder_target

    found = [row for row in history.rows() if row.audit == audit]
    if not found:
        return
    row = found[0]
    day = time_text(row.last_ns or row.finished_ns)[:10]
    place = Path(str(what["output"]).replace("{id}", row.id).replace("{audit}", str(row.audit)).replace("{date}", day))
    make_folder(place.parent)
    try:
        chosen = import_module(f"auditor.report.{what['format']}").FORMAT
    except ModuleNotFoundError:
        raise ConfigError("report.format", f"unknown format {what['format']!r}") from None
    table = what["table"] or ("connections" if chosen.name == "csv" else None)
    with (folder_target if chosen.folder else file_target)(place) as target:
        chosen.write(keep.restore(history, row), target, table=table)
    for each in (*(place.iterdir() if place.is_dir() else (place,)), place.parent):
        sync(each)


def make_folder(folder: Path) -> None:
    """A folder, there for good with all above it: what is moved into one whose own name is lost would be lost with it. Raises OSError."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def disposal(file: spool.Found, content: str, how: str, to: str | None, why: str | None = None) -> dict[str, Any]:
    """A task of kind ``dispose``: delete or move this file, if it still has this content."""
    return {"path": file.path, "content": content, "how": how, "to": to, "why": why}


def dispose(what: Mapping[str, Any]) -> None:
    """Delete or move a file that is in the store, if it is still what was taken. Raises OSError, InputError."""
    path = Path(what["path"])
    now = spool.Found.at(str(path))
    if now is None:
        if path.parent.is_dir():
            return  # it was removed by another program
        raise FileNotFoundError(f"{path.parent}: no such folder")
    if spool.content_of(now) != what["content"]:
        return
    if what["how"] == "delete":
        path.unlink(missing_ok=True)
        return
    folder = Path(what["to"])
    make_folder(folder)
    target = folder / path.name
    if target.exists() and keep.sha256_of(target) != what["content"]:
        target = folder / f"{what['content'][:12]}-{path.name}"
    if what["why"]:
        write_whole(folder / f"{target.name}.reason", f"{what['why']}\n".encode())
    try:
        path.replace(target)
    except OSError:  # another file system: copied whole, then removed
        handle, part = tempfile.mkstemp(dir=folder, prefix=PART)
        os.close(handle)
        try:
            shutil.copy2(path, part)
            sync(Path(part))
            Path(part).replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(part).unlink()
            raise
        sync(folder)
        path.unlink()
        return
    for each in (folder, path.parent):
        sync(each)
