"""The examples of the documentation load, and its lists are complete."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from auditor.policy import shipped
from auditor.policy.addresses import to_int
from auditor.policy.inventory import load_inventory
from auditor.policy.loader import load_policy
from auditor.policy.policy import Policy
from auditor.policy.schema import FoundationModel

DOCS = Path(__file__).resolve().parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def test_the_policy_example(tmp_path: Path) -> None:
    text, names = blocks("policy.md", "yaml")
    file = tmp_path / "ours.yml"
    file.write_text(text + names)
    policy = load_policy([str(file)])
    assert [each.slugs for each in policy.identify("rep.tas.internal") if each.declared] == [{"rep"}]
    assert [path.id for path in policy.ambient_paths] == ["cell-to-redis", "scraper-to-cells"]
    assert [held.role for held in policy.held_by("redis-big-server") or ()] == ["redis"]


@pytest.mark.parametrize("at", range(3))
def test_the_inventory_examples(tmp_path: Path, tas_diego: Policy, at: int) -> None:
    text = [*blocks("inventory.md", "yaml"), *blocks("inventory.md", "csv")][at]
    file = tmp_path / "vms"
    file.write_text(text)
    who = load_inventory([str(file)], tas_diego)
    assert who.conflicts == ()
    assert who.warnings == ()
    host = who.lookup(to_int("10.0.4.20"))
    assert host is not None
    assert host.roles == ("diego_cell",)


def test_the_page_of_rows_and_their_sources_is_current() -> None:
    spec = importlib.util.spec_from_file_location("make_paths", DOCS / "make_paths.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert (DOCS / "paths.md").read_text() == made.text(), "run docs/make_paths.py"


def test_the_foundation_example(tmp_path: Path) -> None:
    (text,) = blocks("foundation.md", "yaml")
    file = tmp_path / "ours.yml"
    file.write_text(text)
    policy = load_policy(["tas", str(file)])
    assert policy.path("route-emitter-to-nats").authentication == "mutual_tls"
    assert policy.path("vxlan-between-cells").ports == ((4799, 4799),)
    assert set(policy.foundation) <= set(FoundationModel.model_fields)


def test_every_shipped_policy_has_a_line() -> None:
    page = (DOCS / "policy.md").read_text()
    assert all(f"`{name}`" in page for name in shipped.names())
