"""`auditor explain`."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from auditor.cli.explain import explain
from auditor.errors import ConfigError

APP = typer.Typer()
APP.command()(explain)


def run(*arguments):
    return CliRunner().invoke(APP, list(arguments))


def test_a_rule():
    done = run("port-sweep")
    assert done.exit_code == 0
    assert done.output.startswith("port-sweep (high)\n")
    assert "What to do" in done.output


def test_a_path():
    done = run("bbs-to-locket")
    assert done.exit_code == 0
    assert "diego_database (BBS)" in done.output


def test_all_names():
    done = run()
    assert done.exit_code == 0
    assert "cell-egress" in done.output
    assert "rep-to-cc-uploader" in done.output


def test_a_misspelling_gets_a_suggestion_and_no_traceback():
    done = run("undeclared-prot")
    assert isinstance(done.exception, ConfigError)
    assert "no rule or path has this name (did you mean undeclared-port" in str(done.exception)


@pytest.mark.parametrize("nonsense", ["zzzz", "F-0123456789"])
def test_an_unknown_name_says_where_names_are(nonsense):
    assert "auditor explain alone lists all names" in str(run(nonsense).exception)
