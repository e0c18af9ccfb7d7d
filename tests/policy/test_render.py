"""Policies and inventories for people and other tools."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from auditor.errors import ConfigError
from auditor.policy import render, shipped
from auditor.policy.inventory import load_inventory
from auditor.policy.loader import load_policy
from auditor.policy.policy import Policy


def test_the_list_of_shipped_policies() -> None:
    lines = render.shipped_list().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split()[:4] == ["tas-diego", "25", "paths", "documented"]
    assert any(line.startswith("tas (default) ") and " both " in line for line in lines)
    assert any(line.startswith("bosh-dns ") and "ambient" in line for line in lines)


def test_the_list_of_paths_fits_a_terminal(tas_diego: Policy) -> None:
    first, second, *rest = render.path_list(tas_diego.paths).splitlines()
    assert first == "  1  cc-to-bbs: 8889/tcp, HTTPS, Mutual TLS"
    assert second == "     cloud_controller to diego_database (BBS)"
    assert [line for line in rest if line[:3].strip()][-1].startswith(" 25  locket-to-mysql: 3306/tcp")
    for name in shipped.names():
        assert max(map(len, render.path_list(load_policy([name]).all_paths).splitlines())) <= 80


@pytest.mark.parametrize("form", sorted(render.EXPORTS))
def test_exports_hold_every_path(tas_diego: Policy, form: str) -> None:
    text = render.export(tas_diego, form)
    assert all(path.id in text for path in tas_diego.paths)
    if form in ("json", "yaml"):
        record = json.loads(text) if form == "json" else yaml.safe_load(text)
        assert len(record["paths"]) == 25
        assert record["paths"][18]["required"] == {"all": ["tls", "oauth2"]}
        assert record["policies"][0]["name"] == "tas-diego"
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert [row["row"] for row in rows] == [str(number) for number in range(1, 26)]


def test_no_other_export(tas_diego: Policy) -> None:
    with pytest.raises(ConfigError, match="unknown format 'xml'"):
        render.export(tas_diego, "xml")


def test_one_path_with_all_that_is_declared_of_it(tas_diego: Policy) -> None:
    text = render.path_text(tas_diego.path("bbs-to-mysql"))
    for word in (
        "row: 24",
        "condition: MySQL native password method",
        "required: mysql_native_password",
        "tas-diego.yml:",
    ):
        assert word in text


def test_differences(tmp_path: Path, tas_diego: Policy) -> None:
    assert render.diff(tas_diego, tas_diego) == []
    more = load_policy(["bosh-dns"])
    assert [line[0] for line in render.diff(tas_diego, more)] == ["+", "+", "+"]
    assert [line[0] for line in render.diff(more, tas_diego)] == ["-", "-", "-"]
    text = (Path(render.shipped.folder() or "") / "tas-diego.yml").read_text()
    changed = text.replace("ports: 8447", "ports: 8443").replace('minimum: "1.2"', 'minimum: "1.3"')
    file = tmp_path / "changed.yml"
    file.write_text(changed)
    assert render.diff(tas_diego, load_policy([str(file)])) == [
        "~ rep-to-file-server: ports: 8447 -> 8443; port_ranges: [[8447, 8447]] -> [[8443, 8443]]",
        "~ settings.tls_minimum: 1.2 -> 1.3",
    ]


def test_the_inventory_as_a_table(tmp_path: Path, tas_diego: Policy) -> None:
    file = tmp_path / "v.yml"
    file.write_text(
        "vms:\n  - {name: diego_cell/1, ip: 10.0.0.1, until: 2026-01-01}\nexternals:\n  - {ip: 192.0.2.1, fronts: uaa}\n"
    )
    lines = render.inventory_table(load_inventory([str(file)], tas_diego)).splitlines()
    assert lines[0].split() == ["address", "instance", "roles", "from", "until", "notes"]
    assert any(line.split() == ["10.0.0.1", "diego_cell/1", "diego_cell", "2026-01-01T00:00:00Z"] for line in lines)
    assert any("fronts uaa, external" in line for line in lines)


def test_written_whole_or_not_at_all(tmp_path: Path) -> None:
    render.write_whole(tmp_path / "a.yml", "x: 1\n")
    assert (tmp_path / "a.yml").read_text() == "x: 1\n"
    with pytest.raises(ConfigError, match="cannot be written"):
        render.write_whole(tmp_path / "absent" / "a.yml", "x")
    assert [each.name for each in tmp_path.iterdir()] == ["a.yml"]
