"""Metrics: as Prometheus' own parser reads them, with labels that cannot grow."""

from __future__ import annotations

import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

import auditor
from auditor.errors import ConfigError
from auditor.jobs.config import load_config
from auditor.jobs.metrics import registry, write_textfile
from auditor.jobs.scheduled_run import Outcome
from auditor.jobs.status import status
from auditor.jobs.watch import serve


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    place = tmp_path_factory.mktemp("metrics") / "store"
    auditor.audit("sample:diego", store=place, policy="tas-diego")
    return place


def samples(text):
    return {
        (sample.name, *sorted((key, value) for key, value in sample.labels.items() if key != "name")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_textfile_says_what_the_store_says(store, tmp_path):
    outcome = Outcome(audits=[1], files=3, aside=["x: bad"], new=4, expired=1, incomplete=["damaged"])
    file = tmp_path / "node" / "auditor.prom"
    write_textfile(registry(store, outcome, 1.5, 1_795_300_000 * 10**9, "prod"), str(file))
    found = samples(file.read_text())
    assert found[("auditor_pass_timestamp_seconds",)] == 1_795_300_000
    assert [
        found[(f"auditor_{name}",)]
        for name in (
            "pass_files",
            "pass_files_aside",
            "pass_new_findings",
            "waivers_expired",
            "errands_waiting",
            "pass_incomplete",
        )
    ] == [3, 1, 4, 1, 0, 1]
    assert found["auditor_findings_open", ("rule", "plaintext"), ("severity", "critical"), ("waived", "no")] == 1
    assert found["auditor_findings_open", ("rule", "weak-certificate"), ("severity", "medium"), ("waived", "no")] == 0
    assert found["auditor_connections", ("disposition", "undeclared")] == 45
    assert found["auditor_path_connections", ("path", "rep-to-cc")] > 0
    assert found["auditor_last_packet_timestamp_seconds",] == pytest.approx(1_794_819_717.011498)
    assert found["auditor_last_audit_window",] == 0
    assert file.stat().st_mode & 0o777 == 0o644
    assert [each.name for each in file.parent.iterdir()] == ["auditor.prom"]


def test_a_window_is_told_by_metrics_and_status(tmp_path):
    place = tmp_path / "store"
    auditor.audit("sample:healthy", store=place, until="2026-11-16T09:00:20Z")
    file = tmp_path / "auditor.prom"
    write_textfile(registry(place, Outcome(), 1.0, 0, "prod"), str(file))
    assert samples(file.read_text())["auditor_last_audit_window",] == 1
    (tmp_path / "spool").mkdir()
    config = tmp_path / "run.toml"
    config.write_text(f'name = "prod"\nstore = "{place}"\n[spool]\nfolders = ["{tmp_path / "spool"}"]\n')
    says = "the latest audit, 1: to 2026-11-16 09:00:20 UTC only; nothing outside this time was audited"
    assert says in status(load_config(config), 0)[0]
    auditor.audit("sample:healthy", store=place)
    assert not [line for line in status(load_config(config), 0)[0] if "alone" in line]


def test_labels_are_bounded(store):
    made = registry(store, Outcome(), 1.0, 0, "prod")
    labels: dict[str, set[str]] = {}
    for family in made.collect():
        for sample in family.samples:
            for key, value in sample.labels.items():
                labels.setdefault(key, set()).add(value)
    assert set(labels) == {"name", "rule", "severity", "waived", "disposition", "verdict", "path"}
    assert not any("10.0." in value or ":" in value for values in labels.values() for value in values)
    assert sum(map(len, labels.values())) < 120


def test_they_are_served_over_http(store):
    server, port = serve("127.0.0.1:0", lambda: registry(store, Outcome(files=5), 1.0, 0, "prod"))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            found = samples(answer.read().decode())
    finally:
        server.shutdown()
        server.server_close()
    assert found[("auditor_pass_files",)] == 5
    with pytest.raises(ConfigError, match=r"metrics\.listen"):
        serve("256.0.0.1:1", lambda: None)


def test_a_place_that_cannot_be_written_is_told(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_textfile(registry(store, None, 0.0, 0, "prod"), str(tmp_path / "file" / "x.prom"))
