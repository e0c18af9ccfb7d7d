"""For every rule of the catalogue a capture in which it fires and one in which it does not, audited from the file to the finding."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

import auditor
from auditor.catalogue import discover

FOLDER = Path(__file__).resolve().parents[2] / "captures" / "rules"
NAMES = sorted(rule.name for rule in discover("auditor.rules", "RULE"))
BESIDE = {
    "authentication-downgrade": {"authentication-rejected"},
    "capture-incomplete": {"unverifiable-authentication"},
    "conflicting-content": {"unverifiable-authentication"},
    "stolen-credential": {"unknown-host"},
    "wrong-authentication-method": {"cleartext-credentials"},
}
"""Rule -> others that the same fault must fire."""


@cache
def audited(rule: str, which: str):
    given = FOLDER / rule / "ca.crt"
    return auditor.audit(
        [str(FOLDER / rule / f"{which}.pcap")],
        inventory=[str(FOLDER / "inventory.yml")],
        policy="tas-diego",
        ca=[str(given)] if given.exists() else None,
    )


@pytest.mark.parametrize("rule", NAMES)
def test_it_fires_and_names_the_connection_and_its_frames(rule):
    report = audited(rule, "fires")
    assert set(report.findings["rule"]) == {rule} | BESIDE.get(rule, set())
    [finding] = report.findings[report.findings["rule"] == rule].to_dict("records")
    assert set(finding["connections"]) <= set(report.connections["id"])
    assert finding["connections"]
    frames = [place for each in finding["evidence"] for place in each["frames"]]
    assert frames
    assert all(capture == 0 and 1 <= number <= report.captures["packets"][0] for capture, number in frames)


@pytest.mark.parametrize("rule", NAMES)
def test_it_does_not_fire_where_the_fault_is_missing(rule):
    report = audited(rule, "quiet")
    assert len(report.connections) >= 1
    assert rule not in set(report.findings["rule"])


def test_no_capture_without_a_rule_no_key_and_no_great_size():
    assert {each.name for each in FOLDER.iterdir() if each.is_dir() and each.name != "__pycache__"} == set(NAMES)
    files = [each for each in FOLDER.rglob("*") if each.is_file() and "__pycache__" not in each.parts]
    assert sum(each.stat().st_size for each in files) < 1_500_000
    assert [each.name for each in files if b"PRIVATE KEY" in each.read_bytes()] == []


def test_the_script_makes_every_capture():
    source = (FOLDER / "make.py").read_text(encoding="utf-8")
    assert all(f'"{rule}": (' in source for rule in NAMES)
