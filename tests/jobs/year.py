"""A year of scheduled passes on a clock of their own, and the truth beside what was told.

``python -m tests.jobs.year FOLDER 365`` plays the year; ``... write`` puts what came of it into ``docs/run.md``. Two sources deliver: ``cells`` at each pass, ``brain`` once a day at half past
two in Berlin, whatever its clocks do in March and October. Strangers come and go by rhythms of their own. What else happens is in ``Plan``.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.conftest import ROOT

HOUR_NS = 3_600 * 10**9
DAY_NS = 24 * HOUR_NS
BEGIN = datetime(2026, 12, 1, tzinfo=ZoneInfo("UTC"))
BEGIN_NS = int(BEGIN.timestamp()) * 10**9
WHO = "schema: auditor.inventory/1\nnetworks: [10.0.4.0/24]\nvms:\n  - {name: router/0, ips: [10.0.4.90]}\n  - {name: diego_cell/0, ips: [10.0.4.20]}\n"
CONFIG = """
name = "year"
store = "history"
[spool]
folders = ["in"]
settle = "0s"
after = "delete"
aside = "aside"
[audit]
scope = "all"
max_undecided = 100
[retention]
age = "400d"
[[inventory]]
file = "who.yml"
[[notify]]
name = "team"
url = "json://127.0.0.1:1"
severity = "medium"
"""


@dataclass(frozen=True)
class Plan:
    """What happens on which day."""

    days: int
    every: int
    """So many hours lie between two passes, and two captures of ``cells``."""
    strangers: dict[str, tuple[float, float, float]]
    """By the last number of its address: from and until which day, and how many hours lie between two visits."""
    down: tuple[float, float]
    """Nobody can be told."""
    damage: tuple[float, ...]
    """A piece of the store is damaged."""
    ahead: tuple[float, float]
    """The machine's clock is two years ahead."""
    behind: tuple[float, float]
    """It is forty days behind."""
    future: float
    """A capture comes that is dated 400 days ahead."""
    silent: tuple[float, float]
    """``brain`` delivers nothing."""


YEAR = Plan(
    days=365,
    every=12,
    strangers={
        "201": (5, 300, 12),
        "202": (10, 200, 24 + 2 / 60),
        "203": (30, 330, 7 * 24),
        "204": (102, 360, 36),
        "205": (40, 41, 12),
    },
    down=(100, 107),
    damage=(60, 150, 250),
    ahead=(180, 181),
    behind=(220, 222),
    future=130,
    silent=(270, 280),
)
WEEK = Plan(
    days=9,
    every=6,
    strangers={"201": (1, 9, 6), "202": (1, 5.5, 24 + 2 / 60), "204": (2.3, 9, 12)},
    down=(2, 3),
    damage=(3.5,),
    ahead=(4, 4.5),
    behind=(5, 5.5),
    future=1.5,
    silent=(4.5, 9),
)


def record(host: str) -> bytes:
    """The packets of one visit to the router, as a capture without its header; their times are still to be put in."""
    from tests.jobs.test_scheduled_run import talk

    return talk(0, host)[24:]


def dated(packets: bytes, at_ns: int) -> bytes:
    """The same at this time."""
    out, at = bytearray(packets), 0
    while at < len(out):
        seconds = at_ns // 10**9
        out[at : at + 4] = seconds.to_bytes(4, "little")
        at += 16 + int.from_bytes(out[at + 8 : at + 12], "little")
    return bytes(out)


@dataclass
class World:
    """The machine, its clock, and whoever is told."""

    place: Path
    plan: Plan
    told: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """When, by the true time; and what."""
    statuses: dict[int, int] = field(default_factory=dict)
    passes: int = 0
    spoilt: list[str] = field(default_factory=list)
    packets: int = 0
    """That were captured, those of the future not among them."""

    def __post_init__(self) -> None:
        self.rng = random.Random(20261130)
        self.now = BEGIN_NS
        for name in ("in", "aside"):
            (self.place / name).mkdir(parents=True)
        (self.place / "who.yml").write_text(WHO)
        (self.place / "run.toml").write_text(CONFIG)
        from tests.jobs.test_scheduled_run import talk

        self.head = talk(0, "10.0.4.20")[:24]
        self.records = {host: record(f"10.0.4.{host}") for host in ("20", *self.plan.strangers)}

    @property
    def day(self) -> float:
        return (self.now - BEGIN_NS) / DAY_NS

    @property
    def wall(self) -> int:
        """What the machine's clock says."""
        plan, at = self.plan, self.day
        if plan.ahead[0] <= at < plan.ahead[1]:
            return self.now + 730 * DAY_NS
        return self.now - 40 * DAY_NS if plan.behind[0] <= at < plan.behind[1] else self.now

    def capture(self, name: str, hosts: list[str], ahead_ns: int = 0, hours: float = 1.0) -> None:
        file = self.place / "in" / name
        begin = self.now - int(hours * HOUR_NS) + ahead_ns
        parts = [dated(self.records[host], begin + k * 60 * 10**9) for k, host in enumerate(["20", *hosts])]
        file.write_bytes(self.head + b"".join(parts))
        os.utime(file, ns=(self.wall, self.wall))
        self.packets += 0 if ahead_ns else 6 * len(parts)

    def visitors(self, before: int) -> list[str]:
        """Strangers who came since the last capture."""
        found = []
        for host, (first, last, hours) in self.plan.strangers.items():
            begin, end, step = (
                int(value) for value in (BEGIN_NS + first * DAY_NS, BEGIN_NS + last * DAY_NS, hours * HOUR_NS)
            )
            until = min(self.now, end)
            if (until > begin and (until - 1 - begin) // step > (before - 1 - begin) // step) or begin in range(
                before, self.now
            ):
                found.append(host)
        return found

    def play(self) -> None:
        """All of it."""
        plan = self.plan
        due_damage, brain, future = [*plan.damage], brains(), plan.future
        next_brain, before = next(brain), self.now
        for number in range(plan.days * 24 // plan.every):
            self.now = BEGIN_NS + (number + 1) * plan.every * HOUR_NS
            stamp = datetime.fromtimestamp(self.now / 1e9, ZoneInfo("UTC")).strftime("%Y%m%dT%H%M")
            self.capture(f"cells_{stamp}.pcap", self.visitors(before))
            while next_brain <= self.now:
                if not plan.silent[0] <= (next_brain - BEGIN_NS) / DAY_NS < plan.silent[1]:
                    self.capture(f"brain_{stamp}.pcap", [], hours=0.5)
                next_brain = next(brain)
            if self.day >= future:
                self.capture(f"cells_{stamp}.ahead.pcap", ["201"], 400 * DAY_NS)
                future = 1e9
            if due_damage and self.day >= due_damage[0]:
                due_damage.pop(0)
                self.spoil()
            self.one()
            before = self.now

    def spoil(self) -> None:
        """A bit of some connections or findings turns."""
        pieces = sorted((self.place / "history" / "pieces").glob("*.parquet"))
        file = self.rng.choice([each for each in pieces if each.name.startswith(("connections", "findings"))])
        raw = bytearray(file.read_bytes())
        raw[self.rng.randrange(len(raw))] ^= 1 << self.rng.randrange(8)
        file.write_bytes(raw)
        self.spoilt.append(file.name)

    def one(self) -> None:
        """A pass, as the timer starts it."""
        from auditor.jobs.config import load_config
        from auditor.jobs.digest import NotToldError
        from auditor.jobs.log import Log
        from auditor.jobs.scheduled_run import one_pass

        def tell(_section: Any, digest: dict[str, Any]) -> None:
            if self.plan.down[0] <= self.day < self.plan.down[1]:
                raise NotToldError("notify team: it is down")
            self.told.append((self.now, digest))

        log = Log(write=lambda _line: None)
        outcome = one_pass(load_config(self.place / "run.toml"), log, lambda: self.wall, tell=tell)
        status = outcome.status(False, False)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.passes += 1

    def changes(self, kind: str, words: str = "") -> list[float]:
        """On which days changes of this kind with these words were told."""
        return [
            round((at - BEGIN_NS) / DAY_NS, 2)
            for at, digest in self.told
            for each in digest["changes"]
            if each["change"] == kind and words in each["title"]
        ]


def brains() -> Iterator[int]:
    """Half past two in Berlin, day after day; where that hour is left out, an hour later."""
    local = datetime(2026, 12, 1, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    while True:
        yield int(local.timestamp()) * 10**9
        local += timedelta(days=1)


def verdicts(world: World) -> list[tuple[str, str, str, bool]]:
    """The truth, what is to be told of it, what was told, and whether that is it."""
    from auditor.store.history import open_history

    plan, rows = world.plan, []

    def row(truth: str, due: str, found: Any, right: bool) -> None:
        rows.append((truth, due, str(found), right))

    for host, (first, last, hours) in plan.strangers.items():
        new, gone = world.changes("new", f"10.0.4.{host}"), world.changes("gone", f"10.0.4.{host}")
        every = f"{hours:g} h" if hours != 24 + 2 / 60 else "24 h 2 min"
        ends = last < plan.days
        # A rhythm longer than two days is learnt from the first time that it comes back.
        times = 2 if hours > 48 else 1
        late = first if not plan.down[0] <= first < plan.down[1] else plan.down[1]
        right = len(new) == times and len(gone) in (
            (times, times) if ends and last + 2.1 + 1.5 * hours / 24 < plan.days else (times - 1, times)
        )
        right = right and 0 <= new[0] - late <= 1.1 and all(at > last or times == 2 for at in gone)
        row(
            f"10.0.4.{host} talks to a router every {every}, days {first:g} to {last:g}",
            f"new {times}×, gone once it ended",
            f"new on {new}, gone on {gone}",
            right,
        )
    late = [digest["body"] for at, digest in world.told if "could not be delivered sooner" in digest["body"]]
    sent = [at for at, _ in world.told if plan.down[0] <= (at - BEGIN_NS) / DAY_NS < plan.down[1]]
    row(
        f"nobody can be told, days {plan.down[0]:g} to {plan.down[1]:g}",
        "one digest when that is over",
        f"{len(late)} late digest, {len(sent)} before",
        (len(late), len(sent)) == (1, 0),
    )
    lost = world.changes("store", "damaged")
    row(
        f"{len(plan.damage)} pieces are damaged: {', '.join(world.spoilt)}",
        "each told once",
        f"on {lost}",
        len(lost) == len(plan.damage),
    )
    clock = world.changes("clock", "it is not believed")
    row(
        f"the clock is two years ahead, days {plan.ahead[0]:g} to {plan.ahead[1]:g}, and 40 days behind, {plan.behind[0]:g} to {plan.behind[1]:g}",
        "each told once; nothing is removed or closed",
        f"on {clock}",
        len(clock) == 2,
    )
    apart = world.changes("clock", "kept apart")
    row(f"a capture dated 400 days ahead, day {plan.future:g}", "told once, kept apart", f"on {apart}", len(apart) == 1)
    silent = world.changes("silent", "brain")
    row(
        f"`brain` delivers nothing, days {plan.silent[0]:g} to {plan.silent[1]:g}; the clocks of Berlin change on 28 March and 31 October",
        "silent once, at no change of clocks",
        f"on {silent}",
        len(silent) == 1 and plan.silent[0] < silent[0] < plan.silent[1],
    )
    with open_history(world.place / "history") as history:
        audits, frames = 0, 0
        for each in history.rows():
            audits += 1
            frames += 0 if each.kind == "apart" else each.counts["packets"]
        retained = all(each.audit > 1 or each.audit == 1 for each in history.rows())
    row(
        f"{world.packets:,} packets were captured",
        "each is counted once, and no audit is removed",
        f"{frames:,} packets in {audits:,} audits",
        frames == world.packets and retained,
    )
    twice = [
        key
        for key in {digest["key"] for _, digest in world.told}
        if sum(digest["key"] == key for _, digest in world.told) > 1
    ]
    row(
        f"{world.passes:,} passes",
        "no digest twice",
        f"{len(world.told)} digests, {len(twice)} twice; exit statuses {dict(sorted(world.statuses.items()))}",
        not twice,
    )
    return rows


def log_of(world: World) -> list[str]:
    """What was told, a line a digest."""
    lines = []
    for at, digest in world.told:
        when = datetime.fromtimestamp(at / 1e9, ZoneInfo("UTC"))
        titles = []
        for each in digest["changes"]:
            words = each["title"].replace(str(world.place), "").replace("|", "/")
            titles.append(f"{each['change']}: {words}"[:170])
        lines.append(f"day {(at - BEGIN_NS) / DAY_NS:6.2f}  {when:%Y-%m-%d %H:%M}  " + "; ".join(titles))
    return lines


MARKS = ("<!-- year: written by python -m tests.jobs.year FOLDER 365 write -->", "<!-- end of year -->")


def written(world: World, seconds: float) -> str:
    """As it stands in ``docs/run.md``."""
    rows = verdicts(world)
    table = ["| what happened | what is to be told | what was told (days) | right |", "| --- | --- | --- | --- |"]
    table += [f"| {truth} | {due} | {found} | {'yes' if right else 'NO'} |" for truth, due, found, right in rows]
    head = f"{world.plan.days} days from 1 December 2026, a pass every {world.plan.every} hours, played in {seconds / 60:.0f} minutes. The whole log:"
    return "\n".join([MARKS[0], "", *table, "", head, "", "```text", *log_of(world), "```", "", MARKS[1]])


def main(folder: str, days: str, write: str = "") -> None:
    """Play it, and say what came of it."""
    began = time.monotonic()
    world = World(Path(folder), YEAR if days == "365" else WEEK)
    world.play()
    text = written(world, time.monotonic() - began)
    if write:
        file = ROOT / "docs" / "run.md"
        page = file.read_text()
        head, _, rest = page.partition(MARKS[0])
        file.write_text(head + text + rest.partition(MARKS[1])[2])
    print(text)
    print(json.dumps({"wrong": [row[0] for row in verdicts(world) if not row[3]]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
