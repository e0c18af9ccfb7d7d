"""The status of scheduled passes for an operator: what waits, which sources are silent or incomplete, what was lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from auditor.jobs import clocks, errands
from auditor.jobs.config import RunConfig
from auditor.jobs.scheduled_run import ENDED, UNBELIEVED, UNDELIVERED
from auditor.jobs.sources import Sources, told
from auditor.policy.inventory import time_text
from auditor.policy.times import OUTSIDE
from auditor.store.history import History, guarded, open_history
from auditor.wire.text import many


def status(config: RunConfig, now_ns: int) -> tuple[list[str], int]:
    """Lines, and the current bits of the exit status. Raises ConfigError."""
    with guarded(config.store), open_history(Path(config.store)) as history:
        time = clocks.judge(history, now_ns)
        bits = UNBELIEVED if time.says is not None else 0
        if errands.waiting(history):
            bits |= UNDELIVERED
        return list(_lines(config, history, time)), bits


def _lines(config: RunConfig, history: History, time: clocks.Time) -> Iterator[str]:
    row = history.sql.execute("SELECT value FROM meta WHERE name = ?", [ENDED]).fetchone()
    (audits,) = history.sql.execute("SELECT count(*) FROM audits").fetchone()
    yield f"{config.name}: {many(audits, 'audit')}; " + (
        f"the last pass ended at {_moment(int(row[0]))}" if row else "no pass yet"
    )
    latest = history.rows(last=1)
    window = history.window(latest[0]) if latest else ""
    if window:
        yield f"the latest audit, {latest[0].audit}: {window} only; {OUTSIDE}"
    if time.says is not None:
        yield time.says
    for each in errands.waiting(history):
        since = f"pending since {_moment(each.made_ns)}, {many(each.tries, 'try', 'tries')}"
        following = f"; next attempt not before {_moment(each.due_ns)}" if each.tries else ""
        says = f": {each.says}" if each.says else ""
        yield f"delivery {each.errand}: {each.kind} {each.name} {since}{following}{says}"
    for name, source, patience in Sources(history, config.source, len(config.spool.folders)).items():
        rhythm = "its interval is not known yet" if patience is None else f"missed after {patience / 3_600e9:.1f} hours"
        state = "SILENT" if source.silent else "delivers"
        whole = f"; incomplete: {told(source.incomplete)}" if source.incomplete else ""
        yield f"source {name}: {state}, last at {_moment(source.last_ns)}, {rhythm}{whole}"
    yield from history.missing()


def _moment(ns: int) -> str:
    return time_text(ns // 1_000_000_000 * 1_000_000_000)
