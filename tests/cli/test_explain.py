"""`auditor explain`."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from auditor import api
from auditor.cli import main
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


@pytest.mark.parametrize("nonsense", ["zzzz", "diego-0123456789"])
def test_an_unknown_name_says_where_names_are(nonsense):
    assert "auditor explain lists all names" in str(run(nonsense).exception)


def _told(capsys, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["explain", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def _finding_of(rule: str, capture: str = "sample:diego") -> str:
    table = api.audit(capture).audit.findings
    return str(table[table["rule"] == rule]["id"].iloc[0])


def test_a_finding_says_why_and_what_would_make_it_right(capsys):
    name = _finding_of("missing-client-certificate")
    status, out, _ = _told(capsys, name, "sample:diego")
    assert status == 0
    assert out.startswith(f"{name}: missing-client-certificate (critical, confidence medium)")
    for words in (
        "Why it was flagged",
        "tls.server_application_data = true (proven)",
        "The path documents mutual_tls. Of the first connection:",
        "mutual_tls is violated: the server did not ask for a client certificate",
        "What to do",
    ):
        assert words in out
    assert max(map(len, out.splitlines())) <= 80
    status, again, _ = _told(capsys, name[:8], "sample:diego")
    assert (status, again) == (0, out)


def test_a_fault_beside_the_method_says_that_the_method_took_place(capsys):
    _, out, _ = _told(capsys, _finding_of("cleartext-credentials", "sample:lab"), "sample:lab")
    joined = " ".join(out.split())
    assert "The path documents signed_url or tls. Of the first connection: signed_url is verified: " in joined
    assert "The documented authentication took place. This finding is about something else" in joined
    _, out, _ = _told(capsys, _finding_of("cell-egress"), "sample:diego")
    assert "What was documented" not in out and "make it right" not in out


def test_an_undeclared_one_names_the_closest_path(capsys):
    _, out, _ = _told(capsys, _finding_of("undeclared-port"), "sample:diego")
    joined = " ".join(out.split())
    assert "The closest documented path is rep-to-cc; the difference is the port" in joined
    assert "auditor policy suggest" in joined


def test_a_finding_of_a_store(capsys, tmp_path):
    store = str(tmp_path / "store")
    main(
        [
            "audit",
            "sample:diego",
            "--store",
            store,
            "--quiet",
            "--fail-on",
            "never",
            "--allow-incomplete",
            "--format",
            "csv",
        ]
    )
    name = _finding_of("plaintext")
    status, out, _ = _told(capsys, name, "--store", store)
    assert status == 0
    assert out == _told(capsys, name, "sample:diego")[1]


def test_a_finding_needs_a_place_to_look(capsys):
    status, _, err = _told(capsys, "F-0123456789")
    assert status == 2
    assert "auditor explain F-0123456789 CAPTURE" in err
    status, _, err = _told(capsys, "F-0123456789", "sample:healthy")
    assert status == 2
    assert "no finding with this id" in err
