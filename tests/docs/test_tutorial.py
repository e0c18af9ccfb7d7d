"""The tutorial can be followed: each of its commands runs, in order, and prints what the page shows."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor.cli import main
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "tutorial.md"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LATER_NS = 1_794_931_200_000_000_000
"""2026-11-17T16:00:00Z: the evening of the practice captures' second day."""

BOSH = """
case "$*" in
  "vms --json") cat {practice}/vms.json ;;
  "-d cf ssh diego_cell/0 -c sudo timeout 600 tcpdump "*) ;;
  "-d cf scp diego_cell/0:/tmp/monday.pcapng .") cp -p {practice}/monday.pcapng . ;;
  *) echo "bosh does not know: $*" >&2; exit 9 ;;
esac
"""
SUDO = """
case "$*" in
  "cp ../docs/deploy/"*" /etc/systemd/system/") shift; cd {docs} && for each; do case "$each" in /*) ;; *) test -f "$each" || exit 9 ;; esac; done ;;
  "systemctl enable --now auditor.timer") test -f {docs}/deploy/auditor.timer ;;
  *) echo "sudo does not know: $*" >&2; exit 9 ;;
esac
"""
"""What stands in for a Director and for root: they know the tutorial's commands and no other."""


def steps() -> Iterator[tuple[str, str]]:
    """What the page has one do: ``file`` with its name and text, ``run`` with a command and the output shown."""
    for language, title, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if title:
            yield title, text
        elif language == "console":
            for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, shown = step.partition("\n")
                yield f"$ {command}", shown


def fits(shown: str, printed: str) -> bool:
    """Whether the output has the lines that are shown, in order; ``…`` is what may lie between, in a line or over lines."""
    pattern = ""
    for line in shown.splitlines():
        pattern += r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r" *\n"
    return re.fullmatch(pattern, printed) is not None


@pytest.fixture(scope="module")
def practice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("practice")
    subprocess.run([sys.executable, str(ROOT / "docs" / "practice.py"), str(folder)], check=True)
    for each in folder.iterdir():
        os.utime(each, ns=(LATER_NS - 3_600_000_000_000,) * 2)  # finished an hour ago
    return folder


def test_every_command_runs_and_prints_what_is_shown(
    tmp_path: Path, practice: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    stand_ins, work = tmp_path / "bin", tmp_path / "work"
    stand_ins.mkdir()
    work.mkdir()
    for name, script in (("bosh", BOSH), ("sudo", SUDO)):
        (stand_ins / name).write_text("#!/bin/sh" + script.format(practice=practice, docs=ROOT / "docs"))
        (stand_ins / name).chmod(0o755)
    monkeypatch.chdir(work)
    monkeypatch.setenv("PATH", f"{stand_ins}:{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(time, "time_ns", lambda: LATER_NS)
    status, commands = 0, 0
    for what, text in steps():
        if not what.startswith("$ "):
            (work / what).write_text(text, encoding="utf-8")
            continue
        command = what[2:]
        commands += 1
        if command == "mv tuesday.pcapng spool/":
            shutil.copy2(practice / "tuesday.pcapng", work)
        capfd.readouterr()
        if command.startswith("auditor "):
            status = main([*shlex.split(command)[1:]])
        else:
            shell = ["bash", "-c", f"(exit {status}); {command}"]
            status = subprocess.run(shell, check=False).returncode
            assert status == 0, (command, capfd.readouterr().err)
        out, err = capfd.readouterr()
        printed = out + err
        if text:
            assert fits(text, printed) or fits(text, err + out), f"{command}\n--- shown\n{text}\n--- printed\n{printed}"
        assert command == "echo $?" or status in (0, 1, 3), (command, status, printed)
    assert commands > 25


def test_a_step_that_prints_something_else_is_noticed() -> None:
    assert fits("a\n…\nc\n", "a\nb\nb\nc\n")
    assert fits("1 of … files\n", "1 of 2 files\n")
    assert not fits("a\nc\n", "a\nb\nc\n")
    assert not fits("a\n", "b\n")


def test_failures_are_shown_as_such() -> None:
    """Where a command of the page ends with another status than 0, the page shows it."""
    listed = [what for what, _ in steps() if what.startswith("$ ")]
    assert listed.count("$ echo $?") >= 5
