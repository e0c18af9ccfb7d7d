"""`auditor inventory`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from auditor.cli.inventory import app
from auditor.errors import ConfigError, InputError
from tests.conftest import ROOT

SAMPLE = ROOT / "captures" / "sample"


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


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
    assert run("check", vms) == (0, "3 addresses, 3 with a role of the policy, 0 conflicts\n")
    other = tmp_path / "other.csv"
    other.write_text("ip,name,role\n10.0.4.20,nats/1,\n")
    status, out = run("check", vms, str(other))
    assert status == 1
    assert "10.0.4.20 is both diego_cell/1" in out
    with pytest.raises(ConfigError, match="no such file"):
        run("check", "absent.json")


def test_a_group_without_a_role_is_loud(tmp_path: Path) -> None:
    file = tmp_path / "vms.csv"
    file.write_text("ip,name\n10.0.4.20,diego-platform-cell/1\n10.0.4.21,diego_brain/0\n")
    status, out = run("check", str(file))
    assert status == 1
    assert "no policy knows the group 'diego-platform-cell'; did you mean diego_cell?" in out
    assert "2 addresses, 1 with a role of the policy" in out


def test_other_deployments_are_named(vms: str, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"Tables": [{"Content": "vms", "Rows": [{"instance": "mysql/1", "ips": "10.0.9.9"}]}]}))
    status, out = run("check", vms, f"p-mysql={other}")
    assert status == 0
    assert "of other deployments, with no role of the platform: mysql" in out


def test_import_writes_what_can_be_read_again(vms: str, tmp_path: Path) -> None:
    out = tmp_path / "vms.yml"
    assert run("import", vms, "--output", str(out)) == (0, "")
    assert run("show", str(out)) == run("show", vms)
    assert run("import", str(out))[1] == out.read_text()


def test_infer_drafts_an_inventory_from_a_capture(tmp_path: Path) -> None:
    out = tmp_path / "draft.yml"
    assert run("infer", "sample:healthy", "--output", str(out)) == (0, "")
    drafted = dict(line.split()[:3:2] for line in run("show", str(out))[1].splitlines()[1:])
    played = dict(line.split()[:3:2] for line in run("show", str(SAMPLE / "healthy.inventory.yml"))[1].splitlines()[1:])
    assert {played[address] for address in drafted} >= {"diego_cell", "diego_brain", "diego_database", "nats"}
    assert {address: role for address, role in drafted.items() if played.get(address) != role} == {}
    said = out.read_text()
    assert "its server certificate or SNI is" in said
    assert "its client certificate or SNI is" in said
    status, printed = run("infer", "sample:healthy")
    assert (status, printed) == (0, said)


def test_infer_says_what_is_no_capture(tmp_path: Path) -> None:
    nothing = tmp_path / "notes.txt"
    nothing.write_text("no capture")
    with pytest.raises(InputError, match=r"notes\.txt"):
        run("infer", str(nothing))
    with pytest.raises(ConfigError, match="--linktype"):
        run("infer", str(nothing), "--linktype", "ethernet")
