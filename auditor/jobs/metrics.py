"""Prometheus metrics of a store and of the last pass.

Labels are bounded: rules, severities, verdicts and dispositions are the words of this program, documented paths those of the policy, sources those that are declared and the
patterns of file names, ``SOURCES`` of them at the most. No address, no name from the wire. A pass that could not be done writes them, too: with ``auditor_pass_failed``, and with
the time of the last one that could. A job writes them for the node exporter's textfile collector, whole or not at all; ``--watch`` also serves them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.errors import AuditorError, ConfigError, MissingToolError
from auditor.jobs.errands import waiting
from auditor.jobs.keep import APART
from auditor.jobs.scheduled_run import ENDED, Outcome
from auditor.jobs.sources import Sources
from auditor.model.roles import Severity
from auditor.store.history import History, guarded, open_history

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PREFIX = "auditor"
SOURCES = 50


def registry(
    store: str | Path, outcome: Outcome | None, seconds: float, now_ns: int, name: str, failed: bool = False
) -> CollectorRegistry:
    """The metrics, from the store as it is now and the pass that just ended; ``failed``: the pass was aborted. Raises MissingToolError."""
    try:
        from prometheus_client import CollectorRegistry, Gauge
    except ImportError:
        raise MissingToolError("metrics need prometheus-client (pip install 'diego-flow-auditor[run]')") from None
    made = CollectorRegistry()

    def gauge(word: str, says: str, labels: tuple[str, ...] = ()) -> Any:
        return Gauge(f"{PREFIX}_{word}", says, ("name", *labels), registry=made)

    gauge("pass_failed", "1: the last pass failed.").labels(name).set(failed)
    if outcome is not None:
        for word, says, value in _of_pass(outcome, seconds):
            gauge(word, says).labels(name).set(value)
    ended = gauge("pass_timestamp_seconds", "End of the last pass that finished.").labels(name)
    readable = gauge("store_readable", "0: the store is damaged, or cannot be read.").labels(name)
    ended.set(now_ns / 1e9)
    try:
        with guarded(store), open_history(store) as history:
            row = history.sql.execute("SELECT value FROM meta WHERE name = ?", [ENDED]).fetchone()
            if outcome is None:
                ended.set(int(row[0]) / 1e9 if row else 0)
            _of_store(history, gauge, name)
            _of_sources(history, gauge, name)
            _of_last(history, gauge, name)
        readable.set(1)
    except AuditorError:
        readable.set(0)
    return made


def _of_pass(outcome: Outcome, seconds: float) -> tuple[tuple[str, str, float], ...]:
    return (
        ("pass_duration_seconds", "Duration of the last pass.", seconds),
        ("pass_files", "Files audited.", outcome.files),
        ("pass_files_aside", "Files set aside.", len(outcome.aside)),
        ("pass_files_apart", "Files dated ahead of the clock, kept separate.", len(outcome.apart)),
        ("pass_files_known", "Files with content that was audited before.", outcome.known),
        ("pass_new_findings", "New findings at or above fail_on that are not waived.", outcome.new),
        ("pass_incomplete", "1: the pass is incomplete.", bool(outcome.incomplete)),
        ("pass_troubles", "Housekeeping tasks that failed.", len(outcome.troubles)),
        ("clock_believed", "0: the machine's clock is wrong.", outcome.clock is None),
        ("waivers_expired", "Waivers that have expired.", outcome.expired),
    )


def _of_sources(history: History, gauge: Any, name: str) -> None:
    """What is known of each source of captures."""
    last = gauge("source_last_capture_timestamp_seconds", "Time of its last capture.", ("source",))
    silent = gauge("source_silent", "1: it no longer delivers files.", ("source",))
    incomplete = gauge("source_incomplete", "1: it had incomplete captures within a day.", ("source",))
    for number, (source, state, _) in enumerate(Sources(history, (), 1).items()):
        if number < SOURCES:
            last.labels(name, source).set(state.last_ns / 1e9)
            silent.labels(name, source).set(state.silent)
            incomplete.labels(name, source).set(bool(state.incomplete))


def _of_store(history: History, gauge: Any, name: str) -> None:
    open_ = gauge(
        "findings_open",
        "Findings that were seen and are not gone, by rule and severity.",
        ("rule", "severity", "waived"),
    )
    from auditor.catalogue import discover

    for rule in discover("auditor.rules", "RULE"):
        open_.labels(name, rule.name, rule.severity.word, "no").set(0)
    rows = history.sql.execute(
        "SELECT rule, severity, waived IS NOT NULL, count(*) FROM facts WHERE gone_audit IS NULL GROUP BY 1, 2, 3"
    )
    words = {severity.word for severity in Severity}
    for rule, severity, waived, count in rows.fetchall():
        open_.labels(name, rule, severity if severity in words else "other", "yes" if waived else "no").set(count)
    gauge("audits", "Audits in the store.").labels(name).set(
        history.sql.execute("SELECT count(*) FROM audits").fetchone()[0]
    )
    gauge("store_bytes", "Size of the store.").labels(name).set(history.size())
    gauge("store_lost", "Tables of audits that were lost through damage.").labels(name).set(len(history.missing()))
    left = waiting(history)
    gauge("errands_waiting", "Pending reports, notifications and moves.").labels(name).set(len(left))


def _of_last(history: History, gauge: Any, name: str) -> None:
    """The last audit of what is not dated ahead of the clock."""
    row = history.newest(without=APART)
    if row is None:
        return
    gauge("last_packet_timestamp_seconds", "Time of the last packet that was audited.").labels(name).set(
        (row.last_ns or 0) / 1e9
    )
    windowed = gauge("last_audit_window", "1: the last audit covers only a part of the time (--since, --until).")
    windowed.labels(name).set(bool(history.window(row)))
    summary = history.body(row.audit)["summary"]
    connections = gauge("connections", "Connections of the last audit.", ("disposition",))
    for word in ("documented", "undeclared", "ambient", "out_of_scope"):
        connections.labels(name, word).set(summary.get(word, 0))
    verdicts = gauge("verdicts", "Verdicts on authentication in the last audit.", ("verdict",))
    for word, count in (summary.get("verdicts") or {}).items():
        verdicts.labels(name, word).set(count)
    gauge("undecided_percent", "Share of the judged connections of the last audit.").labels(name).set(
        (summary.get("sufficiency") or {}).get("undecided_percent") or 0
    )
    coverage = history.table("coverage", row.audit, ["path", "connections", "disposition"])
    paths = gauge(
        "path_connections", "Connections of the last audit on each path, ambient ones where there are any.", ("path",)
    )
    for each in coverage.to_pylist() if coverage is not None else ():
        if each["connections"] or each["disposition"] != "ambient":
            paths.labels(name, each["path"]).set(each["connections"])


def write_textfile(made: CollectorRegistry, place: str) -> None:
    """For the node exporter; there whole or not at all. Raises ConfigError."""
    from prometheus_client import write_to_textfile

    try:
        Path(place).parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(place, made)
        Path(place).chmod(0o644)  # its reader is another user
    except OSError as error:
        raise ConfigError(place, f"cannot be written: {error.strerror or error}") from error
