"""Nothing undeclared goes unsaid: whatever is undeclared and in scope is named by a finding, over all captures that there are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import auditor
from auditor.errors import AuditorError
from auditor.model.judgement import Disposition
from tests.conftest import by_day

ROOT = Path(__file__).resolve().parents[1]
OURS = ROOT / "captures"
SHARED = ROOT.parent / "shared"
SUFFIXES = {".pcap", ".pcapng", ".cap"}


def _ours() -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Captures of the repository, with the inventory beside them."""
    for capture in sorted(OURS.rglob("*.pcap*")):
        if capture.suffix not in SUFFIXES:
            continue
        own = capture.with_name(f"{capture.stem}.inventory.yml")
        near = [own, capture.with_name("inventory.yml"), capture.parent.with_name("inventory.yml")]
        near.append(capture.parent.parent / "inventory.yml")
        yield capture, tuple(str(each) for each in near if each.exists())[:1]


def unsaid(captures: list[str], **options: Any) -> list[str]:
    """Connections that are undeclared, and in no finding."""
    report = auditor.audit(captures, **{name: value for name, value in options.items() if value})
    told = {each for ids in report.findings["connections"] for each in ids}
    table = report.connections[report.connections["disposition"] == str(Disposition.UNDECLARED)]
    columns = ("id", "originator_ip", "responder_ip", "responder_port", "transport", "conn_state")
    return [str(row) for row in zip(*(table[name].tolist() for name in columns), strict=True) if row[0] not in told]


@pytest.mark.parametrize(("capture", "inventories"), list(_ours()), ids=lambda given: getattr(given, "stem", ""))
def test_of_the_captures_that_come_along(capture: Path, inventories: tuple[str, ...]) -> None:
    for scope in ("diego", "all"):
        assert unsaid([str(capture)], inventory=list(inventories) or None, scope=scope) == []


def _beside(folder: str) -> list[Path]:
    files = sorted((SHARED / folder).glob("*.pcap*"))
    return [each for each in files if each.suffixes[0] in SUFFIXES]


@pytest.mark.parametrize("scope", ["diego", "all"])
@pytest.mark.parametrize("capture", _beside("captures-cases"), ids=lambda path: path.stem)
def test_of_fault_reports(capture: Path, scope: str) -> None:
    for inventories in (["vms.json", "externals.yml"], ["lab.inventory.yml"]):
        given = [str(capture.parent / name) for name in inventories]
        assert unsaid([str(capture)], inventory=given, scope=scope) == []


@pytest.mark.parametrize("policy", [None, ["tas-diego"]], ids=["default", "tas-diego"])
@pytest.mark.parametrize("capture", _beside("captures-busy"), ids=lambda path: path.stem)
def test_of_a_busy_cell(capture: Path, policy: list[str] | None) -> None:
    assert unsaid([str(capture)], inventory=[str(capture.with_name("vms.json"))], policy=policy) == []


@pytest.mark.night
@pytest.mark.slow
def test_of_captures_of_others(public_captures: Path) -> None:
    """Some of them by day."""
    found = {}
    for capture in by_day(sorted(each for each in public_captures.rglob("*") if each.suffix in SUFFIXES), 9):
        try:
            silent = unsaid([str(capture)], scope="all")
        except AuditorError:
            continue  # malformed from its first byte on
        if silent:
            found[capture.name] = silent[:3]
    assert found == {}
