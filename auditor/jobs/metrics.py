"""Prometheus metrics of a store and of the last pass.

Labels are bounded: rules, severities, verdicts and dispositions are the words of this program, documented paths those of the policy. No address, no name from the
wire. A job writes them for the node exporter's textfile collector, whole or not at all; ``--watch`` also serves them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.errors import ConfigError, MissingToolError
from auditor.jobs.passes import Outcome
from auditor.model.roles import Severity
from auditor.store.history import History, open_history

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

PREFIX = "auditor"


def registry(store: str | Path, outcome: Outcome | None, seconds: float, now_ns: int, name: str) -> CollectorRegistry:
    """What there is to tell, from the store as it is now and the pass that just ended. Raises MissingToolError, ConfigError."""
    try:
        from prometheus_client import CollectorRegistry, Gauge
    except ImportError:
        raise MissingToolError("metrics need prometheus-client (pip install 'diego-flow-auditor[run]')") from None
    made = CollectorRegistry()

    def gauge(word: str, says: str, labels: tuple[str, ...] = ()) -> Any:
        return Gauge(f"{PREFIX}_{word}", says, ("name", *labels), registry=made)

    if outcome is not None:
        gauge("pass_timestamp_seconds", "When the last pass ended.").labels(name).set(now_ns / 1e9)
        gauge("pass_duration_seconds", "How long it took.").labels(name).set(seconds)
        gauge("pass_files", "Files that it audited.").labels(name).set(outcome.files)
        gauge("pass_files_aside", "Files that it set aside.").labels(name).set(len(outcome.aside))
        gauge("pass_new_findings", "New findings at or above fail_on that nobody waived.").labels(name).set(outcome.new)
        gauge("pass_incomplete", "1: something was not done whole.").labels(name).set(bool(outcome.incomplete))
        gauge("waivers_expired", "Waivers that have expired.").labels(name).set(outcome.expired)
        gauge("errands_waiting", "Reports, notifications and moves that are still to be done.").labels(name).set(
            outcome.undone
        )
    with open_history(store) as history:
        _of_store(history, gauge, name)
    return made


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
    latest = history.rows(last=1)
    if not latest:
        return
    row = latest[0]
    gauge("last_packet_timestamp_seconds", "Time of the last packet that was audited.").labels(name).set(
        (row.last_ns or 0) / 1e9
    )
    summary = history.body(row.audit)["summary"]
    connections = gauge("connections", "Connections of the last audit.", ("disposition",))
    for word in ("documented", "undeclared", "ambient", "out_of_scope"):
        connections.labels(name, word).set(summary.get(word, 0))
    verdicts = gauge("verdicts", "Verdicts on authentication in the last audit.", ("verdict",))
    for word, count in (summary.get("verdicts") or {}).items():
        verdicts.labels(name, word).set(count)
    gauge("undecided_percent", "Of the judged connections of the last audit.").labels(name).set(
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
