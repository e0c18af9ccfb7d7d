"""A Director deploys more than the platform: what VMs of other deployments are called gives them none of its roles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from auditor.model.judgement import Disposition
from auditor.policy.addresses import to_int
from auditor.policy.classify import Classifier
from auditor.policy.deployments import nearest
from auditor.policy.inventory import Inventory, load_inventory
from auditor.policy.policy import Policy
from tests.policy.conftest import Build, Foundation

CF = {"diego_cell/a": "10.0.4.20", "diego_brain/b": "10.0.4.21", "mysql/c": "10.0.4.22", "mysql_proxy/d": "10.0.4.23"}
ON_DEMAND = {"mysql/x": "10.0.9.10"}
RABBIT = {"rabbitmq-server/y": "10.0.9.20"}


def tables(*deployments: dict[str, str], lines: list[str] | None = None, **more: str) -> str:
    return json.dumps(
        {
            "Tables": [
                {
                    "Content": "vms",
                    "Rows": [{"instance": name, "ips": ip, "az": "z1", **more} for name, ip in vms.items()],
                }
                for vms in deployments
            ],
            "Blocks": None,
            "Lines": lines,
        }
    )


def releases(**names: str) -> str:
    rows = [
        {"name": name.replace("_", "-"), "release_s": text, "stemcell_s": "jammy/1", "team_s": ""}
        for name, text in names.items()
    ]
    return json.dumps({"Tables": [{"Content": "deployments", "Rows": rows}], "Blocks": None, "Lines": []})


@pytest.fixture
def load(tmp_path: Path, tas_diego: Policy) -> Any:
    def make(**files: str) -> Inventory:
        specs = []
        for name, text in files.items():
            given, _, stem = name.rpartition("__")
            file = tmp_path / f"{stem.replace('_DOT_', '.')}.json"
            file.write_text(text)
            specs.append(f"{given}={file}" if given else str(file))
        return load_inventory(specs, tas_diego)

    return make


def roles(who: Inventory, ip: str) -> tuple[str, ...]:
    host = who.lookup(to_int(ip))
    assert host is not None
    return host.roles


def test_each_table_is_a_deployment(load: Any) -> None:
    who = load(vms=tables(CF, ON_DEMAND, RABBIT))
    assert [roles(who, ip) for ip in CF.values()] == [("diego_cell",), ("diego_brain",), ("mysql",), ("mysql_proxy",)]
    assert roles(who, "10.0.9.10") == roles(who, "10.0.9.20") == ("service_instance",)
    host = who.lookup(to_int("10.0.9.10"))
    assert host is not None
    assert (host.instance, host.group) == ("mysql/x", "mysql")
    assert who.warnings == ()


def test_what_is_in_one_table_stays_together(load: Any) -> None:
    assert roles(load(vms=tables({**CF, **ON_DEMAND})), "10.0.9.10") == ("mysql",)


def test_without_a_platform_nothing_is_taken_away(load: Any) -> None:
    who = load(vms=tables(ON_DEMAND, {"router/r": "10.0.9.30"}))
    assert (roles(who, "10.0.9.10"), roles(who, "10.0.9.30")) == (("mysql",), ("router",))


@pytest.mark.parametrize(
    "files",
    [
        {"a": tables(CF), "b": tables(ON_DEMAND, lines=["Using deployment 'service-instance_0a1b'", "Succeeded"])},
        {"a": tables(CF), "service-instance_0a1b": tables(ON_DEMAND)},
        {"cf_DOT_vms": tables(CF), "vms-service-instance_0a1b": tables(ON_DEMAND)},
        {"a": tables(CF), "service-instance_0a1b__b": tables(ON_DEMAND)},
        {"b": tables(ON_DEMAND, deployment="service-instance_0a1b")},
        {"service-instance_0a1b": tables(ON_DEMAND)},
    ],
)
def test_a_file_for_each_deployment(load: Any, files: dict[str, str]) -> None:
    who = load(**files)
    assert roles(who, "10.0.9.10") == ("service_instance",)
    assert {entry.deployment for entry in who.entries if entry.group == "mysql" and entry.spans[0][0] == to_int("10.0.9.10")} == {
        "service-instance_0a1b"
    }  # fmt: skip


def test_records_know_the_deployments_of_a_merged_table(load: Any) -> None:
    keys = ["id", "instance_group", "deployment", "ip"]
    rows = [[name.split("/")[1], name.split("/")[0], "cf-0a1b2c3d", ip] for name, ip in CF.items()]
    rows += [["x", "mysql", "service-instance_77", "10.0.9.10"], ["y", "rabbitmq-server", "p-rabbitmq", "10.0.9.20"]]
    records = json.dumps({"record_keys": keys, "record_infos": rows})
    who = load(vms=tables({**CF, **ON_DEMAND, **RABBIT}), records=records)
    assert roles(who, "10.0.9.10") == roles(who, "10.0.9.20") == ("service_instance",)
    assert roles(who, "10.0.4.22") == ("mysql",)


def test_releases_tell_the_platform(load: Any) -> None:
    """A deployment of routers alone is the platform's where diego is among its releases; one that merely calls a VM diego_cell is not."""
    routers = tables({"router/r": "10.0.4.30"}, deployment="edge")
    fake = tables({"diego_cell/f": "10.0.9.40"}, deployment="lookalike")
    who = load(
        cf=tables(CF, deployment="cf"), edge=routers, fake=fake,
        deployments=releases(cf="capi/1\ndiego/2.99", edge="routing/0.3\ndiego/2.99", lookalike="other/1"),
    )  # fmt: skip
    assert (roles(who, "10.0.4.30"), roles(who, "10.0.9.40")) == (("router",), ("service_instance",))
    assert [source["format"] for source in who.sources] == ["bosh", "bosh", "bosh", "bosh-deployments"]


@pytest.mark.parametrize(
    ("vms", "more", "kept"),
    [
        ({"isolated_router/r": "10.0.4.30"}, {}, True),
        ({"router/r": "10.0.4.30"}, {"deployment": "p-isolation-segment-1a2b3c"}, True),
        ({"router/r": "10.0.4.30"}, {"deployment": "cf-0a1b2c3d4e"}, True),
        ({"router/r": "10.0.4.30"}, {"deployment": "cf-rabbitmq"}, False),
        ({"router/r": "10.0.4.30", "windows_diego_cell/w": "10.0.4.31"}, {}, True),
        ({"router/r": "10.0.4.30"}, {}, False),
    ],
)
def test_tiles_of_the_platform_are_its_own(load: Any, vms: dict[str, str], more: dict[str, str], kept: bool) -> None:
    who = load(cf=tables(CF), other=tables(vms, **more))
    assert roles(who, "10.0.4.30") == (("router",) if kept else ("service_instance",))


def test_what_an_entry_states_stands(load: Any) -> None:
    ours = json.dumps({"vms": [{"name": "mysql/x", "ip": "10.0.9.10", "deployment": "p-mysql", "role": "mysql"}]})
    assert roles(load(cf=tables(CF), ours=ours), "10.0.9.10") == ("mysql",)
    director = json.dumps({"vms": [{"name": "bosh/0", "ip": "10.0.9.6", "deployment": "p-bosh"}]})
    assert roles(load(cf=tables(CF), ours=director), "10.0.9.6") == ("bosh_director",)


def test_a_role_that_ones_own_policy_adds_stands(tmp_path: Path, build: Build) -> None:
    policy = tmp_path / "ours.yml"
    policy.write_text(
        "schema: auditor.policy/1\nname: ours\nversion: '1'\ntitle: ours\noverlay: true\norigin: {title: us}\npaths: []\n"
        "roles: [{name: tsdb}]\n"
    )
    file = tmp_path / "vms.json"
    file.write_text(tables(CF, {"tsdb/t": "10.0.9.50"}))
    who = load_inventory([str(file)], build(policies=(str(policy),)).policy)
    assert roles(who, "10.0.9.50") == ("tsdb",)


def test_applications_call_service_instances(load: Any, tas_diego: Policy) -> None:
    who = load(vms=tables(CF, ON_DEMAND))
    classifier = Classifier(tas_diego, who, "diego")
    flow = Foundation(tas_diego, who).flow
    told = classifier.classify(flow("10.0.4.20", "10.0.9.10", 3306, "mysql"))
    assert told.disposition is Disposition.AMBIENT
    assert "a VM of another deployment" in told.says
    # The platform's own database is another matter, and so is a brain at a service.
    for orig, resp in (("10.0.4.20", "10.0.4.23"), ("10.0.4.21", "10.0.9.10"), ("10.0.9.10", "10.0.4.20")):
        assert classifier.classify(flow(orig, resp, 3306, "mysql")).disposition is Disposition.UNDECLARED


def test_yaml_keeps_the_deployment(load: Any, tmp_path: Path, tas_diego: Policy) -> None:
    who = load(cf=tables(CF), other=tables(ON_DEMAND, deployment="service-instance_7"))
    file = tmp_path / "kept.yml"
    file.write_text(who.to_yaml())
    again = load_inventory([str(file)], tas_diego)
    assert roles(again, "10.0.9.10") == ("service_instance",)
    assert again.to_yaml() == who.to_yaml()


# Groups and roles that nobody knows ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("diego-platform-cell", "diego_cell"),
        ("cell_z1", "diego_cell"),
        ("dieog_cell", "diego_cell"),
        ("diego_databse", "diego_database"),
        ("brain", "diego_brain"),
        ("uaa_z2", "uaa"),
        ("cloud-controler", "cloud_controller"),
        ("rabbitmq-server", None),
        ("x", None),
    ],
)
def test_the_nearest_role(tas_diego: Policy, name: str, near: str | None) -> None:
    assert nearest(name, tas_diego) == near


def test_groups_without_a_role_are_told(load: Any) -> None:
    who = load(vms=tables({**CF, "cell_z1/a": "10.0.4.40", "cell_z1/b": "10.0.4.41", "oddity/c": "10.0.4.42"}))
    cells, oddity = who.warnings
    assert (
        "no policy knows the group 'cell_z1'; did you mean diego_cell? No documented path goes to or from its 2 addresses"
        in cells
    )
    assert "no policy knows the group 'oddity'. No documented path goes to or from its address" in oddity


def test_externals_and_strangers_among_them_are_not(load: Any) -> None:
    ours = json.dumps(
        {
            "vms": [{"ip": "10.0.4.50"}, {"name": "?", "ip": "10.0.4.51"}],
            "externals": [{"name": "ldap/0", "ip": "10.9.9.9"}],
        }
    )
    assert load(cf=tables(CF), ours=ours).warnings == ()
