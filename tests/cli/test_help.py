"""One style of help on every page, the manual page made of it, and what a misspelt word is told."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

from auditor.cli import COMMANDS, app, main
from auditor.cli._examples import EXAMPLES
from auditor.cli._help import GROUPS
from auditor.cli._man import manual, pages
from tests.conftest import absent

ROOT = Path(__file__).resolve().parents[2]
PAGES = {page.path: page for page in pages()}


def test_every_command_has_a_page():
    assert len(PAGES) >= 30
    assert set(EXAMPLES) - {""} == {path.removeprefix("auditor ") for path in PAGES}


@pytest.mark.parametrize("path", PAGES)
def test_a_page_of_help(path):
    page = PAGES[path]
    text = page.as_text()
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"[╭│╰]|<bool>|<str>|<list", text)
    assert page.paragraphs
    assert 2 <= len(page.examples) <= 3 or path == "auditor doctor", "there is one way to call it"
    assert dict(page.sections)["Options"][-1].names == "-h, --help"
    assert set(dict(page.sections)) <= {*GROUPS, "Commands", "Arguments", "Options"}
    assert max(len(each.says) for _, entries in page.sections for each in entries) <= 320, "that fills too many lines"


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_is_asked_for_in_two_ways(flag, capsys):
    assert main(["policy", "show", flag]) == 0
    assert capsys.readouterr().out == PAGES["auditor policy show"].as_text()


@pytest.mark.parametrize("argv", [[], ["policy"], ["history"], ["inventory"]])
def test_alone_it_shows_what_one_can_do(argv, capsys):
    assert main(argv) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith(f"Usage: {' '.join(['auditor', *argv])} ")
    for name in COMMANDS if not argv else ():
        assert f"  {name} " in said.out


@pytest.mark.parametrize("path", EXAMPLES)
def test_an_example_can_be_typed(path):
    root = typer.main.get_command(app)
    for command, says in EXAMPLES[path]:
        assert says
        words = shlex.split(re.sub(r"\$\((.*)\)", r"\1", command))
        words = words[words.index("auditor") + 1 :] if "auditor" in words else shlex.split(words[-1])[1:]
        context, each = root.make_context("auditor", [], resilient_parsing=True), root
        while hasattr(each, "list_commands"):
            each = each.get_command(context, words.pop(0))
        each.make_context("auditor", words)  # raises where an option is not there


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["audti"], "unknown command 'audti'; did you mean audit?"),
        (["policy", "chek"], "did you mean check?"),
        (["audit", "x.pcap", "--fromat", "json"], "unknown option '--fromat'; did you mean --format?"),
        (["audit", "x.pcap", "--format", "jsn"], "unknown value 'jsn' (did you mean json"),
        (["audit", "x.pcap", "--fail-on", "hihg"], "unknown value 'hihg' (did you mean high?"),
        (["connections", "x.pcap", "--application", "mysq"], "unknown application 'mysq' (did you mean mysql?"),
        (
            ["history", "query", "--store", "x", "--rule", "weak-tsl"],
            "unknown rule 'weak-tsl' (did you mean weak-tls",
        ),
        (
            ["history", "query", "--store", "x", "--verdict", "verifed"],
            "unknown value 'verifed' (did you mean verified",
        ),
        (["policy", "show", "--path", "rep-to-bb"], "unknown path (did you mean rep-to-bbs"),
        (["policy", "show", "tas-deigo"], "did you mean"),
        (["explain", "weak-tsl"], "did you mean weak-tls"),
        (["--show-completion", "fsh"], "no completion for 'fsh' (did you mean fish"),
    ],
)
def test_a_misspelling_is_told_what_was_meant(argv, says, capsys):
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert says in said.err


@pytest.mark.parametrize(
    ("short", "long"), [("-f", "--format"), ("-o", "--output"), ("-q", "--quiet"), ("-v", "--verbose")]
)
def test_the_usual_short_names_go_with_their_long_ones(short, long):
    held = 0
    for page in PAGES.values():
        for _, entries in page.sections:
            for each in entries:
                names = re.split(r",? ", each.names.strip())
                assert (short in names) <= (long in names), page.path
                assert (long in names) <= (short in names), page.path
                held += long in names
    assert held >= 3


def test_the_version_with_all_that_matters(capsys):
    assert main(["--version", "--verbose"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["auditor", "python", "numpy"]
    assert any(line.startswith("policies: /") for line in lines)


def test_the_manual_page_names_all_that_the_help_does():
    shown = (ROOT / "docs" / "auditor.1").read_text(encoding="utf-8").replace("\\-", "-")
    for page in PAGES.values():
        assert f".SS {page.path}\n" in shown, "make docs brings docs/auditor.1 up to date"
        for _, entries in page.sections:
            for each in entries:
                assert f".B {each.names.strip()}\n" in shown, f"{page.path}: make docs brings docs/auditor.1 up to date"


def test_the_manual_page_is_one():
    if not shutil.which("groff"):
        absent("groff is not installed (Debian package groff-base)")
    run = subprocess.run(["groff", "-man", "-ww", "-z"], input=manual(), capture_output=True, text=True, check=True)
    assert run.stderr == ""


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["hisotry"], "unknown command 'hisotry'; did you mean history?"),
        (["history", "lst"], "unknown command 'lst'; did you mean list?"),
        (["history", "qqqq"], "unknown command 'qqqq'; auditor history -h lists the commands"),
        (["completion"], "--install-completion SHELL installs it"),
        (["audit", "x", "--workers", "x"], "--workers: a whole number is expected"),
        (["audit", "x", "--limit", "conections=4"], "did you mean connections?"),
    ],
)
def test_a_wrong_word_is_answered_in_one_style(argv, says, capsys):
    assert main(argv) == 2
    assert says in capsys.readouterr().err


def test_help_is_a_command_too(capsys):
    assert main(["help", "audit"]) == 0
    assert "Usage: auditor audit" in capsys.readouterr().out
    assert main(["help"]) == 0
    assert "Usage: auditor" in capsys.readouterr().out
