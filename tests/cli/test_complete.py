"""Completion: what is offered where, and that real bash, zsh and fish offer it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from auditor.catalogue import discover
from auditor.cli import main
from auditor.cli._complete import FILES, FOLDERS, candidates, install, split
from auditor.policy.loader import load_policy
from auditor.store.history import open_history
from tests.conftest import absent
from tests.store.test_history import DAY, an_audit

FOUND = "F-3dca8798d5"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with one audit of one finding, in a folder of its own."""
    place = tmp_path_factory.mktemp("complete") / "store"
    made = an_audit(0)
    findings = pa.table(
        {"fingerprint": ["aa"], "rule": ["plaintext"], "id": [FOUND], "severity": ["high"], "title": ["a title"]}
    )
    with open_history(place, write=True) as history:
        history.keep(replace(made, tables={**made.tables, "findings": findings}), gone_after_ns=DAY)
    return place


def offered(line: str, **environment: str) -> list[str]:
    return [value for value, _ in candidates(split(line), environment)]


@pytest.mark.parametrize(
    ("line", "some", "none"),
    [
        ("auditor ", ["audit", "policy", "doctor"], ["check"]),
        ("auditor po", ["policy"], ["audit"]),
        ("auditor policy ", ["check", "suggest"], ["audit"]),
        ("auditor audit ", ["sample:lab", "sample:diego", FILES], ["check"]),
        ("auditor audit sample:la", ["sample:lab"], ["sample:diego"]),
        ("auditor audit --", ["--format", "--inventory", "--help"], ["-f"]),
        ("auditor audit --format json --fo", ["--follow"], ["--format"]),
        ("auditor audit --policy tas --pol", ["--policy"], []),  # it may be repeated
        ("auditor audit --format ", ["json", "html"], ["sample:lab", FILES]),
        ("auditor audit -f ", ["json"], [FILES]),
        ("auditor audit --format=j", ["--format=json", "--format=junit"], ["--format=html"]),
        ("auditor audit --policy ", ["tas", "tas-diego", FILES], []),
        ("auditor audit --inventory ", [FILES], ["tas"]),
        ("auditor audit --limit c", ["captures=", "connections="], ["nesting="]),
        ("auditor audit --strict ", ["sample:lab"], []),  # a flag has no value
        ("auditor audit -- --fo", [FILES], ["--format"]),
        ("auditor explain weak-", ["weak-tls", "weak-certificate"], ["rep-to-bbs"]),
        ("auditor explain rep-to-", ["rep-to-bbs", "rep-to-locket"], ["weak-tls"]),
        ("auditor explain weak-tls ", ["sample:lab", FILES], ["weak-tls"]),
        ("auditor policy show tas-diego --path auctioneer", ["auctioneer-to-rep"], ["rep-to-bbs"]),
        ("auditor history query --rule plain", ["plaintext"], ["weak-tls"]),
        ("auditor history query --from-role diego_", ["diego_cell", "diego_brain"], ["uaa"]),
        ("auditor history query --verdict v", ["verified", "violated"], ["rejected"]),
        ("auditor history show --fields start,orig", ["start,originator_ip"], ["originator_ip"]),
        ("auditor connections x.pcap --application my", ["mysql"], ["tls"]),
        ("auditor run ", [FILES], []),
        ("auditor review --captures ", [FOLDERS], []),
        ("auditor --show-completion ", ["bash", "zsh", "fish"], []),
    ],
)  # fmt: skip
def test_what_is_offered(line, some, none):
    found = offered(line)
    assert set(some) <= set(found)
    assert not set(none) & set(found)


def test_a_name_that_is_no_command_is_answered_with_nothing(capsys, monkeypatch):
    monkeypatch.setenv("_AUDITOR_COMPLETE", "complete_zsh")
    monkeypatch.setenv("_AUDITOR_WORDS", "auditor\nfrobnicate\n")
    assert main([]) == 0
    assert capsys.readouterr().out == ""


def test_every_rule_and_path_is_offered():
    found = set(offered("auditor explain "))
    assert {rule.name for rule in discover("auditor.rules", "RULE")} <= found
    assert {path.id for path in load_policy(["tas"]).all_paths} <= found


def test_findings_and_audits_of_a_store(store):
    assert offered(f"auditor explain --store {store} F-") == [FOUND]
    assert offered("auditor explain F-", AUDITOR_STORE=str(store)) == [FOUND]
    assert offered(f"auditor slice --store {store} --finding ") == [FOUND]
    assert {"latest", "1"} <= set(offered(f"auditor history show --store {store} "))
    assert offered("auditor slice --finding ") == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("auditor au", ["auditor", "au"]),
        ("auditor audit ", ["auditor", "audit", ""]),
        ("auditor audit 'a b' c\\ d \"e'f", ["auditor", "audit", "a b", "c d", "e'f"]),
        ("auditor audit '' x", ["auditor", "audit", "", "x"]),
        ("", [""]),
    ],
)
def test_words_of_an_unfinished_line(line, words):
    assert split(line) == words


@pytest.mark.parametrize("form", ["{}_source", "source_{}"])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_environment_variable_gives_the_script(form, shell, capsys, monkeypatch):
    monkeypatch.setenv("_AUDITOR_COMPLETE", form.format(shell))
    assert main([]) == 0
    given = capsys.readouterr().out
    monkeypatch.delenv("_AUDITOR_COMPLETE")
    assert main(["--show-completion", shell]) == 0
    assert given == capsys.readouterr().out != ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_it_is_installed_where_the_shell_looks(shell, tmp_path, monkeypatch):
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    said = list(install(shell))
    written = Path(said[0].partition(": ")[2])
    assert written.is_file() and tmp_path in written.parents


# -- real shells -----------------------------------------------------------------------------------------------------------------


START = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source <(auditor --show-completion bash)"),
    "zsh": (
        ["zsh", "-f", "-i"],
        "autoload -U compinit; compinit -u -d $PWD/dump; source <(auditor --show-completion zsh)",
    ),
}


class Shell:
    """A shell on a terminal of its own, that has read the completion; ``auditor`` is this Python's."""

    def __init__(self, name: str, folder: Path) -> None:
        if not shutil.which(name):
            absent(f"{name} is not installed (Debian package {name})")
        binary = folder / "bin" / "auditor"
        binary.parent.mkdir(exist_ok=True)
        binary.write_text(f'#!/bin/sh\nexec {sys.executable} -m auditor "$@"\n')
        binary.chmod(0o755)
        argv, setup = START[name]
        path = os.pathsep.join([str(binary.parent), os.environ["PATH"]])
        environment = {
            **os.environ,
            "PATH": path,
            "TERM": "dumb",
            "HOME": str(folder),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        }
        self.pid, self.terminal = pty.fork()
        if not self.pid:
            os.chdir(folder)
            os.execvpe(argv[0], argv, environment)  # noqa: S606
        self.type(f"{setup}; echo rea''dy\r", "ready\r")

    def type(self, keys: str, until: str) -> str:
        """What is drawn from here on, up to ``until``."""
        os.write(self.terminal, keys.encode())
        seen, end = "", time.monotonic() + 90
        while until not in seen:
            assert time.monotonic() < end, f"{until!r} does not come: {seen!r}"
            if select.select([self.terminal], [], [], 1)[0]:
                seen += os.read(self.terminal, 65_536).decode(errors="replace").replace("\a", "")
        return seen

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.close(self.terminal)
        os.waitpid(self.pid, 0)


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_a_shell_completes_what_is_typed(name, store):
    shell = Shell(name, store.parent)
    try:
        # A command, an option, a value, a sample, a rule, a path, a finding of a store: each goes on where the one before ended.
        shell.type("auditor sli\t--fin\t", "slice --finding ")
        shell.type("F-3 --store sto\t", "--store store/")
        shell.type("\x15auditor explain missing-cl\tsample:la\t", "missing-client-certificate sample:lab ")
        shell.type("\x15auditor explain auctioneer-to-r\t", "auctioneer-to-rep ")
        shell.type("\x15auditor explain --store store F-\t", FOUND)
    finally:
        shell.close()


def test_fish_completes_what_is_typed(store, tmp_path):
    if not shutil.which("fish"):
        absent("fish is not installed (Debian package fish)")
    binary = tmp_path / "auditor"
    binary.write_text(f'#!/bin/sh\nexec {sys.executable} -m auditor "$@"\n')
    binary.chmod(0o755)
    lines = ["auditor sli", "auditor audit --forma", "auditor audit -f js", "auditor audit sample:la", "auditor explain missing-cl",
             "auditor explain auctioneer-to-r", "auditor explain --store store F-", "auditor audit --inventory sto"]  # fmt: skip
    script = "auditor --show-completion fish | source; for line in $argv; complete -C $line; end"
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    environment = {
        **os.environ,
        "PATH": path,
        "HOME": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    run = subprocess.run(
        ["fish", "--no-config", "-c", script, *lines], cwd=store.parent, env=environment, capture_output=True, text=True, check=True
    )  # fmt: skip
    assert [line.split("\t")[0] for line in run.stdout.splitlines()] == [
        "slice", "--format", "json", "sample:lab", "missing-client-certificate", "auctioneer-to-rep", FOUND, "store/",
    ]  # fmt: skip
