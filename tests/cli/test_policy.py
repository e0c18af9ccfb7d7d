"""`auditor policy`."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from auditor.cli.policy import app
from auditor.errors import ConfigError


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def test_list_and_show() -> None:
    assert run("list")[1].startswith("tas-diego (default)")
    status, out, _ = run("show")
    assert (status, len(out.splitlines())) == (0, 26)
    status, out, _ = run("show", "bosh-dns", "--path", "bosh-dns-health")
    assert (status, "ports: 8853" in out) == (0, True)
    assert len(run("show", "loggregator", "--release", "TAS 2.11")[1].splitlines()) == 42


def test_a_path_that_is_none() -> None:
    with pytest.raises(ConfigError, match="no path has this id"):
        run("show", "--path", "x")


def test_check(tmp_path: Path) -> None:
    assert run("check", "tas-diego", "nats") == (0, "tas-diego: valid\nnats: valid\n", "")
    file = tmp_path / "p.yml"
    file.write_text("schema: auditor.policy/1\nnaem: x\n")
    status, out, err = run("check", str(file))
    assert (status, out) == (2, "")
    assert f"{file}:2: unknown key 'naem' (did you mean name?)" in err.splitlines()


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
