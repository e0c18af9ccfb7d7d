"""Which application security groups let applications reach the control plane."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditor.errors import ConfigError
from auditor.policy import firewall
from auditor.policy.inventory import Inventory, load_inventory
from auditor.policy.loader import load_policy
from auditor.policy.policy import Policy
from auditor.policy.security_groups import as_json, reaches, read, told
from tests.policy.conftest import VMS

PUBLIC = [
    {"protocol": "all", "destination": "0.0.0.0-9.255.255.255"},
    {"protocol": "all", "destination": "11.0.0.0-169.253.255.255"},
    {"protocol": "all", "destination": "169.255.0.0-172.15.255.255"},
]
"""The platform's own public_networks, as far as it matters here."""


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(["tas"])


@pytest.fixture
def inventory(tmp_path: Path, policy: Policy) -> Inventory:
    file = tmp_path / "vms.yml"
    director = "  - {name: bosh, ip: 10.0.0.6, role: bosh_director}\n"
    file.write_text(VMS + director)
    return load_inventory([str(file)], policy)


def written(tmp_path: Path, document: Any, name: str = "wide.json") -> str:
    file = tmp_path / name
    file.write_text(json.dumps(document))
    return str(file)


def rule(destination: str, ports: str | None = None, protocol: str = "tcp") -> dict[str, str]:
    return {"protocol": protocol, "destination": destination, **({"ports": ports} if ports else {})}


def found(tmp_path: Path, policy: Policy, inventory: Inventory, *rules: dict[str, str]) -> list[tuple[int, str, str]]:
    groups = read(written(tmp_path, list(rules)))
    return [(each.rule.number, each.what, each.says) for each in reaches(groups, policy, inventory)]


def test_public_networks_reach_nothing_of_the_control_plane(
    tmp_path: Path, policy: Policy, inventory: Inventory
) -> None:
    assert found(tmp_path, policy, inventory, *PUBLIC) == []


def test_a_port_that_a_path_has(tmp_path: Path, policy: Policy, inventory: Inventory) -> None:
    told_ = found(tmp_path, policy, inventory, rule("10.0.4.24", "4222,8080"))
    assert [(number, what) for number, what, _ in told_] == [(1, "nats (nats/n1)")]
    assert "tcp 4222 (route-emitter-to-nats)" in told_[0][2]
    assert found(tmp_path, policy, inventory, rule("10.0.4.24", "8080")) == []


def test_a_whole_network_reaches_all_that_is_in_it(tmp_path: Path, policy: Policy, inventory: Inventory) -> None:
    told_ = found(tmp_path, policy, inventory, rule("10.0.0.0/8", protocol="all"))
    names = {what.split(" ")[0] for _, what, _ in told_}
    assert {"diego_database", "diego_cell", "diego_brain", "nats", "bosh_director", "mysql_proxy"} <= names
    assert "router" not in names, "applications call routers"
    assert all(says.startswith("every port") for _, _, says in told_)


@pytest.mark.parametrize(
    ("destination", "ports"), [("169.254.169.254", "80"), ("169.254.0.0/16", None), ("0.0.0.0/0", "80")]
)
def test_the_metadata_service(
    tmp_path: Path, policy: Policy, inventory: Inventory, destination: str, ports: str | None
) -> None:
    assert "a cloud's metadata service" in {
        what for _, what, _ in found(tmp_path, policy, inventory, rule(destination, ports))
    }


def test_what_is_for_applications_is_theirs(tmp_path: Path, policy: Policy) -> None:
    file = tmp_path / "vms.yml"
    file.write_text(VMS.replace("externals:", "  - {name: credhub/0, ips: [10.0.4.40]}\nexternals:"))
    who = load_inventory([str(file)], policy)
    assert found(tmp_path, policy, who, rule("10.0.4.40", "8844")) == []
    assert found(tmp_path, policy, who, rule("10.0.4.40"))


def test_what_this_auditor_exports_is_clean(tmp_path: Path, policy: Policy, inventory: Inventory) -> None:
    file = tmp_path / "ours.json"
    file.write_text(firewall.export(policy, inventory, "asg"))
    assert reaches(read(str(file)), policy, inventory) == []


V3 = {
    "pagination": {"total_results": 2},
    "resources": [
        {"name": "dns", "rules": [rule("10.0.0.2", "53", "udp")], "globally_enabled": {"running": True, "staging": True}},
        {"name": "wide", "rules": [rule("10.0.4.0/24,10.0.9.0/24", "8000-9000")], "globally_enabled": {"running": True, "staging": False}},
    ],
}  # fmt: skip
V2 = {
    "resources": [
        {"metadata": {}, "entity": {"name": "wide", "rules": [rule("10.0.4.22", "8889")], "running_default": True}}
    ]
}


@pytest.mark.parametrize("document", [V3, V2, V3["resources"], {"name": "wide", "rules": [rule("10.0.4.22", "8889")]}])
def test_every_form_in_which_cf_exports_them(
    tmp_path: Path, policy: Policy, inventory: Inventory, document: Any
) -> None:
    groups = read(written(tmp_path, document, "groups.json"))
    reached = reaches(groups, policy, inventory)
    assert {each.group.name for each in reached} == {"wide"}
    assert any("8889 (cc-to-bbs)" in each.says for each in reached)
    assert told(reached).startswith("wide")
    assert {each["group"] for each in json.loads(as_json(reached))} == {"wide"}


def test_groups_for_all_applications_are_told_as_such(tmp_path: Path, policy: Policy, inventory: Inventory) -> None:
    text = told(reaches(read(written(tmp_path, V3)), policy, inventory))
    assert text.startswith("wide, for all applications (running) allows applications to reach the control plane:\n")


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "no security group"), ({"x": 1}, "no security group"), ([rule("10.0.4.999")], "not an address, network or range"),
        ([rule("10.0.0.9-10.0.0.1")], "reversed"), ([rule("10.0.0.1", "http")], "not ports"), ([{"protocol": "tcp2"}], "not a protocol"), ([7], "not a rule"),
        ([rule("fe80::1-10.0.0.1")], "reversed"),
    ],
)  # fmt: skip
def test_mistakes(tmp_path: Path, document: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(written(tmp_path, document))


def test_who_runs_the_platform_is_reached_on_any_port(tmp_path: Path, policy: Policy) -> None:
    file = tmp_path / "vms.yml"
    file.write_text(f"{VMS}  - {{name: ops, roles: [ops_manager], ips: [10.0.4.41]}}\n")
    who = load_inventory([str(file)], policy)
    assert found(tmp_path, policy, who, rule("10.0.4.41", "443")) == [
        (1, "ops_manager (ops)", "tcp 443 (no declared path)")
    ]


@pytest.mark.parametrize("paging", [{"pagination": {"total_results": 80}}, {"total_results": 80}])
def test_a_page_of_a_list_is_no_list(tmp_path: Path, paging: dict[str, object]) -> None:
    file = tmp_path / "asg.json"
    file.write_text(json.dumps({"resources": [{"name": "a", "rules": [rule("10.0.0.1", "1")]}], **paging}))
    with pytest.raises(ConfigError, match="holds 1 of 80 security groups"):
        read(str(file))


def test_reversed_ports_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "asg.json"
    file.write_text(json.dumps([rule("10.0.0.1", "8889-8000")]))
    with pytest.raises(ConfigError, match="8889-8000 are reversed"):
        read(str(file))


def test_what_cf_says_before_and_behind_the_rules_is_skipped(tmp_path: Path) -> None:
    """``cf security-group NAME`` of cf 7 and 8."""
    rules = json.dumps([rule("10.0.0.0/8", "8889")], indent=2)
    indented = "\n".join(f"\t{line}" for line in rules.splitlines())
    text = f"Getting info for security group wide-open as admin...\n\nname:   wide-open\nrules:\n{indented}\n\n     org    space\n#0   o      s\n"
    file = tmp_path / "groups.json"
    file.write_text(text)
    [group] = read(str(file))
    assert (group.name, [each.destination for each in group.rules]) == ("wide-open", ["10.0.0.0/8"])
    file.write_text(text.replace('"protocol"', "protocol"))
    with pytest.raises(ConfigError) as caught:
        read(str(file))
    assert caught.value.line == 7, "lines are those of the file"
