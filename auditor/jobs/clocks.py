"""One notion of time for a pass: three clocks are compared, and what is implausible is refused.

- The pass's clock may be set to anything: by a person, by a battery that died, by a time server that is wrong.
- The last pass's clock is in the store. Between two passes the clock goes forward, and not by much more than it does between other passes.
- The packets' clocks are those of the machines that capture.

A clock that has jumped is not trusted: until the jump is explained, time continues from the last trusted time, at the clock's own pace. So nothing is removed,
closed, expired or put off by a jump, in either direction. It is believed again once it is back where it should be, or once it has run well for a day (``PROBATION_NS``) and new packets
agree with it: two clocks against a memory.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from auditor.policy.inventory import time_text
from auditor.store.history import History

NAME = "clock"
SECOND_NS = 1_000_000_000
DAY_NS = 86_400 * SECOND_NS
BACK_NS = 600 * SECOND_NS
"""Time servers put a clock back by less."""
LEAP_NS = 7 * DAY_NS
"""A pass may come so much later than the last one without being asked why: a machine that was off for a week."""
PACES = 3
"""One that comes so many times later than passes came before is plausible, too: where a timer runs once a month."""
PROBATION_NS = DAY_NS
AGREE_NS = DAY_NS
"""New packets that are no older than this agree with a clock."""
FIRST_NS = 1_704_067_200 * SECOND_NS
"""2024: a clock that is before this was never set."""


@dataclass(frozen=True, slots=True)
class Time:
    """What time it is for a pass."""

    now_ns: int
    """The trusted time: for retention, closing, waivers, retries, and silent sources."""
    wall_ns: int
    """The machine's clock: for the times of files, which are of the same clock."""
    says: str | None = None
    """Why the machine's clock is not believed."""
    paces: tuple[int, ...] = ()
    since_ns: int | None = None
    """When, by the machine's clock, it was first not believed."""
    agreed: bool = False

    @property
    def latest_ns(self) -> int:
        """Later than this no packet can be: whichever of the two clocks is wrong, and however long ago the last pass was."""
        return max(self.now_ns + self._unknown_ns, self.wall_ns)

    @property
    def _unknown_ns(self) -> int:
        """While the clock is not trusted, so much more time may have passed."""
        return 0 if self.says is None else max(DAY_NS, PACES * max(self.paces, default=0))

    def told_by(self, packets_ns: int | None) -> int:
        """The trusted time, once packets were read: they may show how much time has passed."""
        if packets_ns is None or self.says is None or packets_ns > self.now_ns + self._unknown_ns:
            return self.now_ns
        return max(self.now_ns, packets_ns)


def judge(history: History, wall_ns: int) -> Time:
    """What time it is."""
    record = _record(history)
    if wall_ns < FIRST_NS:
        then = FIRST_NS if record is None else int(record["now"])
        return Time(then, wall_ns, f"the clock says {_text(wall_ns)}: it was never set")
    if record is None:
        return Time(wall_ns, wall_ns)
    paces = tuple(record["paces"])
    passed = wall_ns - int(record["wall"])
    leap = max(LEAP_NS, PACES * max(paces, default=0))
    steady = -BACK_NS <= passed <= leap
    expected = int(record["now"]) + (max(passed, 0) if steady else 0)
    since, agreed = record["since"], bool(record["agreed"]) and steady
    if -BACK_NS <= wall_ns - expected <= leap:
        if passed > 0 and since is None:
            paces = (*paces, passed)[-8:]
        return Time(max(wall_ns, int(record["now"])), wall_ns, paces=paces)
    if since is None or not steady:
        since = wall_ns
    if agreed and wall_ns - since >= PROBATION_NS:
        return Time(wall_ns, wall_ns, paces=paces)
    way = "ahead of" if wall_ns > expected else "behind"
    off = abs(wall_ns - expected) / DAY_NS
    amount = f"{off:.0f} days" if off >= 2 else f"{off * 24:.1f} hours"
    says = f"the clock says {_text(wall_ns)}, {amount} {way} what follows from the last pass ({_text(expected)}): it is not believed"
    return Time(expected, wall_ns, says, paces, since, agreed)


def note(history: History, time: Time, packets_ns: int | None) -> None:
    """Remember it for the next pass; ``packets_ns``: of the newest packet of this one."""
    if time.wall_ns < FIRST_NS:
        return
    before = _record(history)
    agreed = time.agreed or (packets_ns is not None and -AGREE_NS <= time.wall_ns - packets_ns <= AGREE_NS)
    made = {
        "wall": time.wall_ns, "now": time.told_by(packets_ns), "paces": list(time.paces), "since": time.since_ns,
        "agreed": agreed and time.since_ns is not None,
    }  # fmt: skip
    with history.writing() as sql:
        sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", [NAME, json.dumps(made)])
        if before is not None and time.now_ns < int(before["now"]):
            # An earlier clock was wrong, and this one is trusted: no packet is later than now.
            sql.execute(
                "UPDATE facts SET last_seen_ns = min(last_seen_ns, ?1), first_seen_ns = min(first_seen_ns, ?1)",
                [time.now_ns],
            )
            sql.execute("UPDATE audits SET kept_ns = min(kept_ns, ?)", [time.now_ns])


def _record(history: History) -> dict[str, Any] | None:
    row = history.sql.execute("SELECT value FROM meta WHERE name = ?", [NAME]).fetchone()
    return json.loads(row[0]) if row else None


def _text(ns: int) -> str:
    return time_text(ns // SECOND_NS * SECOND_NS)
