"""Switches of a foundation: rows that it has, and what it asks of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from auditor.errors import ConfigError
from auditor.model.judgement import Authentication, Breach, Verdict
from auditor.policy.foundation import with_tls
from auditor.policy.loader import check_policy, load_policy
from auditor.policy.policy import Policy
from tests.policy.conftest import VMS, Build
from tests.policy.scenes import MUTUAL13, MYSQL, NATS, Scene, documented, judge_all

HEAD = """\
schema: auditor.policy/1
name: ours
version: "1"
title: Our foundation
overlay: true
origin: {title: our Ops Manager}
foundation:
  origin: {title: our Ops Manager}
"""
NSX = VMS.replace("externals:", "  - {name: containers, cidr: 10.12.0.0/14, roles: [app_container]}\nexternals:")


def written(tmp_path: Path, switches: str) -> str:
    file = tmp_path / "ours.yml"
    file.write_text(HEAD + switches)
    return str(file)


def loaded(tmp_path: Path, switches: str) -> Policy:
    return load_policy(["tas", written(tmp_path, switches)])


def test_without_switches_nothing_changes() -> None:
    assert load_policy(["tas"]).foundation == {}
    assert load_policy(["tas"]).path("bbs-to-mysql").authentication == "mysql_native_password"


def test_a_file_of_switches_is_a_policy_and_documents_nothing(tmp_path: Path) -> None:
    policy = loaded(tmp_path, "  nats: mutual_tls\n")
    assert check_policy(written(tmp_path, "  nats: mutual_tls\n")) == []
    assert policy.foundation == {"nats": "mutual_tls"}
    assert [path.id for path in policy.paths] == [path.id for path in load_policy(["tas"]).paths]


@pytest.mark.parametrize(
    ("nats", "required"),
    [
        ("password", "basic"), ("mutual_tls", "mutual_tls"), ("tls_and_password", {"all": ["tls", "basic"]}),
        ("mutual_tls_and_password", {"all": ["mutual_tls", "basic"]}),
    ],
)  # fmt: skip
def test_what_nats_asks_for(tmp_path: Path, nats: str, required: object) -> None:
    path = loaded(tmp_path, f"  nats: {nats}\n").path("route-emitter-to-nats")
    assert path.authentication == required
    assert path.authentication_text == "Basic authentication", "the page's own words stay"
    assert ("this foundation requires" in (path.footnote or "")) is (nats != "password")


def judged(policy: Policy, path: str, application: str, facts: dict[str, Any]) -> Authentication:
    return judge_all(policy, Scene(application, facts, documented(policy, path)))[0]


@pytest.mark.parametrize(("nats", "verdict"), [("password", Verdict.VERIFIED), ("mutual_tls", Verdict.VIOLATED)])
def test_plaintext_nats_is_a_finding_where_the_foundation_has_tls(tmp_path: Path, nats: str, verdict: Verdict) -> None:
    told = judged(loaded(tmp_path, f"  nats: {nats}\n"), "route-emitter-to-nats", "nats", NATS)
    assert told.verdict is verdict
    assert ("plaintext" in {fault.rule for fault in told.faults}) is (verdict is Verdict.VIOLATED)


def test_mutual_tls_without_passwords_is_no_missing_credential(tmp_path: Path) -> None:
    policy = loaded(tmp_path, "  nats: mutual_tls\n")
    told = judged(policy, "route-emitter-to-nats", "tls", {**MUTUAL13, "nats.info": True, "nats.auth_required": False})
    assert told.verdict is Verdict.INFERRED
    assert told.faults == ()


def test_what_mysql_asks_for(tmp_path: Path) -> None:
    policy = loaded(tmp_path, "  mysql: tls_and_password\n")
    wanted = {"all": ["tls", "mysql_native_password"]}
    assert {policy.path(each).authentication == wanted for each in ("bbs-to-mysql", "locket-to-mysql", "uaa-to-mysql-proxy")} == {True}  # fmt: skip
    told = judged(policy, "bbs-to-mysql", "mysql", MYSQL)
    assert {fault.rule for fault in told.faults} == {"plaintext"}


def test_tls_may_be_asked_of_single_rows(tmp_path: Path) -> None:
    policy = loaded(tmp_path, "  require_tls: [rep-to-blobstore, load-balancer-to-gorouter]\n")
    assert policy.path("rep-to-blobstore").authentication == "tls"
    assert policy.path("load-balancer-to-gorouter").authentication == "tls"
    assert policy.path("bbs-to-mysql").authentication == "mysql_native_password"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("none", "tls"), ("basic", {"all": ["tls", "basic"]}), ("mutual_tls", "mutual_tls"), ({"any": ["tls", "none"]}, "tls"),
        ({"any": ["signed_url", "tls"]}, "tls"), ({"all": ["tls", "oauth2"]}, {"all": ["tls", "oauth2"]}),
        ({"any": ["mutual_tls", "basic"]}, {"any": ["mutual_tls", {"all": ["tls", "basic"]}]}),
    ],
)  # fmt: skip
def test_inside_tls(before: Any, after: Any) -> None:
    assert with_tls(before) == after


def test_an_external_database_and_blobstore(tmp_path: Path) -> None:
    policy = loaded(tmp_path, "  database: external\n  blobstore: external\n")
    assert policy.path("bbs-to-mysql").resp_roles == ("external_database",)
    assert policy.path("rep-to-blobstore").resp_roles == ("blobstore",)
    assert "mysql-to-galera" not in policy.by_id
    inside = loaded(tmp_path, "  database: internal\n  blobstore: internal\n")
    assert inside.path("bbs-to-mysql").resp_roles == ("mysql_proxy",)
    assert inside.path("rep-to-blobstore").resp_roles == ("nfs_server",)


def test_another_port_for_vxlan(tmp_path: Path) -> None:
    path = loaded(tmp_path, "  ports: {vxlan-between-cells: 4799}\n").path("vxlan-between-cells")
    assert path.ports == ((4799, 4799),)
    assert "on 4799 in this foundation" in (path.footnote or "")


def test_silk_and_other_networks(tmp_path: Path) -> None:
    silk, nsx = (loaded(tmp_path, f"  networking: {kind}\n").by_id for kind in ("silk", "external"))
    assert "vxlan-between-cells" in silk
    assert "ssh-proxy-to-container" not in silk
    assert "vxlan-between-cells" not in nsx
    assert {"ssh-proxy-to-container", "router-to-container"} <= set(nsx)


def test_with_container_addresses_ssh_and_routers_dial_containers(build: Build) -> None:
    foundation = build(NSX, ("tas",))
    assert foundation.says("brain", "10.12.3.4", 2222, "ssh").paths == ("ssh-proxy-to-container",)
    assert foundation.says("router", "10.12.3.4", 8080, "http").paths == ("router-to-container",)
    assert foundation.says("brain", "10.12.3.4", 22, "ssh").breach is Breach.CONNECTION
    assert foundation.says("10.12.3.4", "database", 8889).breach is Breach.CONNECTION, "applications are no cells"
    assert foundation.says("10.12.3.4", "internet", 443).breach is Breach.CELL_EGRESS


def test_a_path_inside_a_vm_documents_nothing_between_two(build: Build) -> None:
    foundation = build(policies=("tas",))
    assert foundation.says("cell", "cell", 8053, "http").paths == ("bosh-dns-to-bosh-dns-adapter",)
    for port in (8053, 23954):
        assert foundation.says("cell", "cell2", port, "http").breach is Breach.CONNECTION


WINDOWS = VMS.replace("vms:", "vms:\n  - {name: windows2019-cell/w1, ips: [10.0.4.40]}")


def test_application_instances_of_windows_cells_have_host_ports_of_their_own(build: Build) -> None:
    foundation = build(WINDOWS, ("tas",))
    assert foundation.says("router", "10.0.4.40", 40_010, "http").paths == ("router-to-windows-app-instances",)
    assert foundation.says("brain", "10.0.4.40", 40_010, "ssh").paths == ("ssh-proxy-to-windows-app",)
    assert foundation.says("brain", "cell", 40_010, "ssh").breach is Breach.SSH_PORT, "a Linux cell has none there"
    assert foundation.says("10.0.4.40", "database", 8889).paths == ("route-emitter-to-bbs", "rep-to-bbs"), (
        "it is a cell"
    )
    assert foundation.says("brain", "10.0.4.40", 1801).paths == ("auctioneer-to-rep",)
    alone = build(WINDOWS)
    assert alone.says("brain", "10.0.4.40", 40_010, "ssh").sibling == "cf-deployment", (
        "told once, as what a sibling explains"
    )


def test_ssh_inside_tls_on_a_windows_host_port_is_judged_like_mutual_tls(tmp_path: Path) -> None:
    policy = load_policy(["tas"])
    on = documented(policy, "ssh-proxy-to-windows-app", orig_role="diego_brain", resp_role="cell_on_windows")
    [told] = judge_all(policy, Scene("tls", MUTUAL13, on, port=40_010))
    assert told.verdict is Verdict.INFERRED
    [elsewhere] = judge_all(policy, Scene("tls", MUTUAL13, on, port=45_010))
    assert elsewhere.verdict is Verdict.UNVERIFIABLE


MISTAKES = [
    ("  nats: mtls\n", "'mtls' is not a valid nats"),
    ("  require_tls: [route-emiter-to-nats]\n", "did you mean route-emitter-to-nats"),
    ("  ports: {vxlan-between-cels: 4799}\n", "did you mean vxlan-between-cells?"),
    ("  ports: {vxlan-between-cells: 99999}\n", "outside 1-65535"),
    ("  natz: mutual_tls\n", "did you mean nats?"),
]


@pytest.mark.parametrize(("switches", "says"), MISTAKES)
def test_mistakes_are_told(tmp_path: Path, switches: str, says: str) -> None:
    with pytest.raises(ConfigError) as told:
        loaded(tmp_path, switches)
    assert says in str(told.value)
    assert "ours.yml:" in str(told.value)
