"""`auditor policy`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

import auditor
from auditor.cli.policy import app
from auditor.errors import ConfigError

LAB = str(Path(__file__).resolve().parents[2] / "captures" / "sample" / "lab.inventory.yml")


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_list_and_show() -> None:
    assert run("list")[1].startswith("tas-diego ")
    assert "\ntas (default) " in run("list")[1]
    status, out, _ = run("show")
    assert (status, len(out.splitlines())) == (0, 51)
    assert max(map(len, out.splitlines())) <= 80
    assert (
        " 7  ssh-proxy-to-app: Varies: 61001-65534/tcp, SSH, SSH\n     diego_brain (SSH Proxy) to diego_cell (App instances)\n"
        in out
    )
    status, out, _ = run("show", "bosh-dns", "--path", "bosh-dns-health")
    assert (status, "ports: 8853" in out) == (0, True)
    older, newer = (run("show", "loggregator", "--release", release)[1] for release in ("TAS 2.11", "TPCF 10"))
    assert older != newer


def test_coverage_is_the_table_of_the_report() -> None:
    status, out, _ = run("coverage", "sample:healthy", "--quiet")
    assert status == 0
    assert len([line for line in out.splitlines() if line[:3].strip().isdecimal()]) == 25
    assert max(map(len, out.splitlines())) <= 80
    status, out, _ = run("coverage", "sample:healthy", "--quiet", "--format", "csv")
    assert out.startswith('"path","row",')
    rows = [line for line in out.splitlines() if ",documented" in line or '"documented"' in line]
    assert len(rows) == 25 and rows == out.splitlines()[1:26], "the vendor's come first"


def test_what_is_suggested_is_a_policy_that_declares_it(tmp_path: Path) -> None:
    status, out, _ = run("suggest", "sample:diego", "--quiet")
    assert status == 0
    assert re.search(r"# UNDECLARED today: high undeclared-\w+, F-\w+", out), "what is accused is marked"
    file = tmp_path / "suggested.yml"
    assert run("suggest", "sample:diego", "--quiet", "--output", str(file))[:2] == (0, "")
    assert file.read_text() == out
    assert run("check", str(file))[0] == 0
    before = auditor.audit("sample:diego").connections
    after = auditor.audit("sample:diego", policy=["tas", str(file)]).connections
    undeclared = after[after["disposition"] == "undeclared"]
    # What stays is what the draft says that it leaves out: strangers, attempts, and what a shipped policy explains.
    left = [int(line.split()[3]) for line in out.splitlines() if line.startswith("# Left out, ")]
    assert len(undeclared) == sum(left) < (before["disposition"] == "undeclared").sum()
    assert "diego-brain-to-diego-cell-ssh" in set(after["paths"].explode())


def test_a_name_that_no_policy_can_have() -> None:
    with pytest.raises(ConfigError, match="is not a valid name of a policy"):
        run("suggest", "sample:healthy", "--quiet", "--name", "../x")


def test_a_path_that_is_none() -> None:
    with pytest.raises(ConfigError, match="unknown path"):
        run("show", "--path", "x")


def test_check(tmp_path: Path) -> None:
    assert run("check", "tas-diego", "nats") == (0, "tas-diego: valid\nnats: valid\n", "")
    file = tmp_path / "p.yml"
    file.write_text("schema: auditor.policy/1\nnaem: x\n")
    status, out, err = run("check", str(file))
    assert (status, out) == (2, "")
    assert f"auditor: {file}:2: unknown key 'naem' (did you mean name?)" in err.splitlines()


def test_diff() -> None:
    assert run("diff", "tas-diego", "tas-diego") == (0, "", "")
    status, out, _ = run("diff", "tas-diego", "bosh-dns")
    assert status == 1
    assert (
        out.splitlines()[1] == "+ bosh-dns-health: Any VM running BOSH DNS to each VM on 8853 (tcp), HTTPS, Mutual TLS"
    )


@pytest.mark.parametrize("form", ["yaml", "json", "markdown", "csv"])
def test_export(form: str) -> None:
    status, out, _ = run("export", "--format", form)
    assert (status, "ssh-proxy-to-app" in out) == (0, True)


def test_a_rule_set_needs_an_inventory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="need an inventory"):
        run("export", "--to", "nftables")
    with pytest.raises(ConfigError, match="for firewall rules only"):
        run("export", "--vm", "diego_cell/0")
    file = tmp_path / "rules.nft"
    status, out, _ = run("export", "tas-diego", "--to", "nftables", "--inventory", LAB, "--output", str(file))
    assert (status, out) == (0, "")
    assert 'comment "auctioneer-to-rep"' in file.read_text()


def test_security_groups_that_reach_the_control_plane(tmp_path: Path) -> None:
    file = tmp_path / "wide.json"
    file.write_text('[{"protocol": "tcp", "destination": "10.0.8.0/24", "ports": "4222"}]')
    status, out, _ = run("check", "--asg", str(file), "--inventory", LAB)
    assert status == 1
    assert out.splitlines()[0] == "wide allows applications to reach the control plane:"
    assert "rule 1 (tcp 10.0.8.0/24 4222): nats (nats/0, nats/1): tcp 4222 (" in out
    assert out.endswith("0 of 1 security group do not reach the control plane\n")
    file.write_text('[{"protocol": "tcp", "destination": "203.0.113.0/24", "ports": "443"}]')
    status, out, _ = run("check", "--asg", str(file), "--inventory", LAB, "--format", "json")
    assert (status, out) == (0, "[]\n")
    with pytest.raises(ConfigError, match="needs an inventory"):
        run("check", "--asg", str(file))
