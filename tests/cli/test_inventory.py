"""`auditor inventory`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from auditor.cli.inventory import app
from auditor.errors import ConfigError


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


@pytest.fixture
def vms(tmp_path: Path) -> str:
    file = tmp_path / "vms.json"
    rows = [{"instance": "diego_cell/1", "ips": "10.0.4.20"}, {"instance": "uaa/1", "ips": "10.0.4.21\n10.0.5.21"}]
    file.write_text(json.dumps({"Tables": [{"Content": "vms", "Rows": rows}], "Blocks": None, "Lines": None}))
    return str(file)


def test_show(vms: str) -> None:
    status, out = run("show", vms)
    assert status == 0
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["10.0.4.20", "diego_cell/1", "diego_cell"],
        ["10.0.4.21", "uaa/1", "uaa"],
        ["10.0.5.21", "uaa/1", "uaa"],
    ]


def test_check(vms: str, tmp_path: Path) -> None:
    assert run("check", vms) == (0, "3 addresses, 3 with a role, 0 conflicts\n")
    other = tmp_path / "other.csv"
    other.write_text("ip,name,role\n10.0.4.20,nats/1,\n")
    status, out = run("check", vms, str(other))
    assert status == 1
    assert "10.0.4.20 is both diego_cell/1" in out
    with pytest.raises(ConfigError, match="no such file"):
        run("check", "absent.json")


def test_import_writes_what_can_be_read_again(vms: str, tmp_path: Path) -> None:
    out = tmp_path / "vms.yml"
    assert run("import", vms, "--output", str(out)) == (0, "")
    assert run("show", str(out)) == run("show", vms)
    assert run("import", str(out))[1] == out.read_text()
