"""Attempts to cost an audit more than it should, each small: what is said of them. ``bench/hostile.py`` makes them at full size and measures; docs/reliability.md has the table."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import auditor
from auditor.cli import main
from auditor.incidents import actors, of
from auditor.rules import _subject
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "bench"))
import hostile

SHARES = {
    "first-fragments": 0.0005,
    "bomb-gz": 0.002,
    "bomb-zst": 0.0005,
    "bomb-xz": 0.002,
    "bomb-small-frames": 0.0005,
}
CAPTURES = [name for name, each in hostile.ATTEMPTS.items() if not each.option]
TEXTS = [name for name, each in hostile.ATTEMPTS.items() if each.option and name != "inventory-aliases"]
"""That one takes seconds: two million values are followed before it is told."""


@pytest.mark.parametrize("name", CAPTURES)
def test_a_small_one_is_audited_to_its_end(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = hostile.make(name, tmp_path, SHARES.get(name, 0.0002))
    assert main([*words, "--quiet"]) in (0, 1, 3)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["captures"][0]["packets"] > 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_refused_in_one_line_with_its_mend(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At full size: they are small."""
    assert main([*hostile.make(name, tmp_path), "--quiet"]) == 2
    out, err = capsys.readouterr()
    [line] = [each for each in err.splitlines() if "compiling" not in each]
    assert out == ""
    assert hostile.ATTEMPTS[name].file in line
    assert line.endswith(")"), "the mend"
    assert len(line) < 300


def test_addresses_that_nobody_knows_make_no_finding_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more subjects than anybody reads they are told together; every connection stays in a finding."""
    monkeypatch.setattr(_subject, "MOST_SUBJECTS", 100)
    hostile.make("strangers", tmp_path, 0.0006)
    report = auditor.audit([tmp_path / "a.pcap"], scope="all")
    assert len(report.connections) > 500
    assert len(report.findings) < 210
    assert any(_subject.MANY_ADDRESSES in title for title in report.findings["title"])
    named = {each for ids in report.findings["connections"] for each in ids}
    assert named == set(report.connections["id"])


def test_of_many_actors_the_gravest_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A story for each of a million addresses would take an hour; who got in stands before them all the same."""
    hostile.make("strangers", tmp_path, 0.0001)
    captures = [str(ROOT / "captures" / "sample" / "intruder.bridge.pcap.zst"), str(tmp_path / "a.pcap")]
    report = auditor.audit(captures, inventory=ROOT / "captures" / "sample" / "lab.inventory.yml", scope="all")
    everyone = of(report.audit)
    monkeypatch.setattr(actors, "MOST_LOOKED_AT", 5)
    assert len(everyone) > 50
    some = of(replace(report.audit, findings=report.audit.findings.copy()))
    assert len(some) == 5
    assert (some[0].id, some[0].reach) == (everyone[0].id, "let_in")
