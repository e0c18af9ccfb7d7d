"""``--check`` tells everything that a real pass would miss."""

from __future__ import annotations

import pytest

from auditor.jobs import check as module
from auditor.jobs.check import check
from auditor.jobs.config import load_config
from tests.conftest import ROOT

DEPLOY = ROOT / "docs" / "deploy"


@pytest.fixture
def place(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path


def lacks(place, text, units=()):
    file = place / "run.toml"
    file.write_text('store = "history"\n[spool]\nfolders = ["in"]\n' + text)
    return [each.replace(str(place), "") for each in check(load_config(file), {}, file, units)]


def test_packages_that_are_absent(place, monkeypatch):
    real = module.find_spec
    monkeypatch.setattr(
        module,
        "find_spec",
        lambda name: None if name in ("prometheus_client", "apprise", "distributed") else real(name),
    )
    told = lacks(
        place,
        '[audit]\nscheduler = "tcp://127.0.0.1:1"\n[metrics]\ntextfile = "m/x.prom"\n[[notify]]\nname = "a"\nurl = "json://x"\n',
    )
    assert [each.split(" (")[0] for each in told] == [
        "metrics need prometheus-client",
        "notifications need apprise",
        "audit.scheduler needs dask",
    ]
    assert lacks(place, "") == []


def test_folders_that_a_pass_could_not_write_to(place):
    (place / "file").write_text("")
    told = lacks(
        place,
        'after = "move"\ndone = "file/done"\naside = "/proc/aside"\n[[report]]\nformat = "json"\noutput = "file/{id}.json"\n'
        '[metrics]\ntextfile = "/proc/x/a.prom"\n[[inventory]]\ncommand = ["no-such-command-here"]\n',
    )
    assert [each.split(":")[0] for each in told] == [
        "spool.done",
        "spool.aside",
        "report 1",
        "metrics.textfile",
        "inventory 1",
    ][: len(told)] or told
    assert any(each.startswith("spool.done: /file") for each in told)
    assert any(each.startswith("report 1: /file") for each in told)
    assert told[-1] == "inventory 1: command not found: no-such-command-here"


def test_what_the_sandbox_of_the_unit_keeps_from_a_pass(place):
    units = place / "units"
    units.mkdir()
    text = (DEPLOY / "auditor.service").read_text()
    (units / "auditor.service").write_text(text.replace("/etc/auditor/auditor.toml", str(place / "run.toml")))
    (units / "other.service").write_text("[Service]\nProtectSystem=strict\nExecStart=/bin/true run /etc/x.toml\n")
    told = lacks(
        place, 'after = "delete"\n[metrics]\ntextfile = "/var/lib/prometheus/node-exporter/a.prom"\n', [str(units)]
    )
    told = [each for each in told if each.startswith("/units")]
    assert told == [
        "/units/auditor.service: store: /history is read-only inside it (ReadWritePaths=/history)",
        "/units/auditor.service: spool.folders: /in is read-only inside it (ReadWritePaths=/in)",
    ]


def test_the_shipped_configuration_and_the_shipped_unit_fit_together(monkeypatch):
    """Nothing that the example writes lies outside what the unit lets it write."""
    from pathlib import Path

    file = DEPLOY / "auditor.toml"
    config = load_config(file)
    text = (DEPLOY / "auditor.service").read_text().replace("/etc/auditor/auditor.toml", str(file))
    monkeypatch.setattr(Path, "read_text", lambda _self, **_more: text)
    assert list(module._unit(config, file, Path("/x.service"))) == []
