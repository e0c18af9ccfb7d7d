"""Rule sets let through what the audit calls documented, and drop the rest: loaded into a kernel, with the lab's connections sent through."""

from __future__ import annotations

import csv
import io
import ipaddress
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether

import auditor
from auditor.errors import ConfigError
from auditor.model.judgement import Disposition
from auditor.policy import firewall
from auditor.policy.allowed import allowed
from auditor.policy.inventory import Inventory, load_inventory
from auditor.policy.loader import load_policy
from tests.conftest import absent
from tests.netns import unavailable
from tests.policy.conftest import VMS

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "captures" / "sample" / "lab.inventory.yml"
LOADERS = {"nftables": ["nft", "-f"], "iptables": ["iptables-restore", "--noflush"]}

SEND = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[1], 0))
for line in sys.stdin:
    wire.send(bytes.fromhex(line))
"""
RECEIVE = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
wire.bind((sys.argv[1], 0))
wire.settimeout(60)
print("ready", flush=True)
while True:
    frame = wire.recv(2000)
    print(frame[14:].hex(), flush=True)
    if frame[14 + 4 : 14 + 6] == b"\\xff\\xff":  # the last one's IP identification
        break
"""


def lab(policies: list[str]) -> tuple[Any, Inventory]:
    policy = load_policy(policies)
    return policy, load_inventory([str(LAB)], policy)


class Router:
    """A machine between two wires that forwards whatever comes."""

    def __init__(self) -> None:
        self.names = {side: f"fw{os.getpid()}{side}" for side in "arb"}
        for name in self.names.values():
            self._ip("netns", "add", name)
        for side, wire in (("a", "in"), ("b", "out")):
            self._ip("link", "add", "wire", "netns", self.names[side], "type", "veth", "peer", "name", wire, "netns", self.names["r"])  # fmt: skip
            self._ip("-n", self.names[side], "link", "set", "wire", "up")
            self._ip("-n", self.names["r"], "link", "set", wire, "up")
        self._ip("-n", self.names["r"], "link", "set", "out", "arp", "off")
        self._ip("-n", self.names["r"], "addr", "add", "192.0.2.1/32", "dev", "out")
        self._ip("-n", self.names["r"], "route", "add", "default", "dev", "out")
        for key in ("ip_forward=1", "conf.all.rp_filter=0", "conf.in.rp_filter=0"):
            self.run("r", "sysctl", "-qw", f"net.ipv4.{key}")
        told = json.loads(self.run("r", "ip", "-j", "link", "show", "in"))
        self.mac = told[0]["address"]

    @staticmethod
    def _ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    def command(self, side: str, *argv: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[side], *argv]

    def run(self, side: str, *argv: str, **options: Any) -> str:
        told = subprocess.run(self.command(side, *argv), check=True, capture_output=True, text=True, **options)
        return told.stdout

    def passes(self, packets: list[Any]) -> list[bytes]:
        """Which of these get through, as they come out; the last one must."""
        with subprocess.Popen(
            self.command("b", sys.executable, "-c", RECEIVE, "wire"), stdout=subprocess.PIPE, text=True
        ) as receiver:
            assert receiver.stdout is not None
            assert receiver.stdout.readline() == "ready\n"
            frames = "".join(f"{bytes(Ether(dst=self.mac) / each).hex()}\n" for each in packets)
            self.run("a", sys.executable, "-c", SEND, "wire", input=frames)
            return [bytes.fromhex(line) for line in receiver.stdout]

    def close(self) -> None:
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.fixture
def router() -> Iterator[Router]:
    why = unavailable()
    if why is None and not all(shutil.which(each) for each in ("nft", "iptables-restore")):
        why = "nft or iptables is not installed (Debian packages nftables, iptables)"
    if why is not None:
        absent(why)
    made = Router()
    yield made
    made.close()


def packet(row: Any, number: int) -> Any:
    head = IP(src=row["originator_ip"], dst=row["responder_ip"], id=number)
    if row["transport"] == "icmp":
        return head / ICMP(type=8)
    ports = {"sport": 30_000 + number, "dport": int(row["responder_port"])}
    return head / (TCP(flags="S", **ports) if row["transport"] == "tcp" else UDP(**ports))


@pytest.mark.parametrize("policies", [["tas-diego"], ["tas"]], ids=["documented", "ambient"])
@pytest.mark.parametrize("to", ["nftables", "iptables"])
def test_what_the_audit_calls_documented_passes_and_the_rest_is_dropped(
    router: Router, tmp_path: Path, to: str, policies: list[str]
) -> None:
    policy, inventory = lab(policies)
    rules = tmp_path / "rules"
    rules.write_text(firewall.export(policy, inventory, to))
    for _ in range(2):  # loaded again it replaces itself
        router.run("r", *LOADERS[to], str(rules))
    if to == "iptables":
        router.run("r", "iptables", "-I", "FORWARD", "-j", "DIEGO")
    connections = auditor.audit("sample:lab", policy=policies, scope="all").connections
    rows = connections.drop_duplicates(["originator_ip", "responder_ip", "responder_port", "transport"])
    rows = rows[rows["transport"].isin(["tcp", "udp", "icmp"])].to_dict("records")
    sent = [packet(row, number) for number, row in enumerate(rows, 1)]
    last = IP(src="10.0.8.30", dst="10.0.8.20", id=0xFFFF) / TCP(sport=1, dport=1801, flags="S")
    came = {IP(each).id for each in router.passes([*sent, last])} - {0xFFFF}
    declared = {Disposition.DOCUMENTED.value, Disposition.AMBIENT.value}
    allowed_ = {number for number, row in enumerate(rows, 1) if row["disposition"] in declared and len(row["paths"])}
    assert came == allowed_
    assert allowed_
    assert len(rows) > len(allowed_)
    if to == "nftables":
        told = json.loads(router.run("r", "nft", "-j", "list", "ruleset"))
        counted = [
            next(part["counter"]["packets"] for part in each["rule"]["expr"] if "counter" in part)
            for each in told["nftables"]
            if "rule" in each and any("counter" in part for part in each["rule"]["expr"])
        ]
        assert counted[-1] == len(rows) - len(allowed_), "all of the rest, and nothing else, is dropped"
        assert 0 < counted[-2] <= counted[-1], "and logged, as often as the limit lets it"
    else:
        told = router.run("r", "iptables-save", "-c")
        [dropped] = [line for line in told.splitlines() if "-A DIEGO -j DROP" in line]
        assert dropped.startswith(f"[{len(rows) - len(allowed_)}:")
        assert "LOG --log-prefix" in told


def test_rule_sets_of_one_vm_load(router: Router, tmp_path: Path) -> None:
    policy, inventory = lab(["tas"])
    for to, check in (
        ("nftables", ["nft", "-c", "-f"]), ("iptables", ["iptables-restore", "--test"]), ("ip6tables", ["ip6tables-restore", "--test"]),
    ):  # fmt: skip
        rules = tmp_path / to
        rules.write_text(firewall.export(policy, inventory, to, "diego_cell/0"))
        router.run("r", *check, str(rules))


SIX = VMS.replace("diego_cell/c1, ips: [10.0.4.20]", 'diego_cell/c1, ips: [10.0.4.20, "fd00::20"]').replace(
    "diego_brain/b1, ips: [10.0.4.21]", 'diego_brain/b1, ips: [10.0.4.21, "fd00::21"]'
)

Export = Callable[..., str]


@pytest.fixture
def export(tmp_path: Path) -> Export:
    def made(to: str, policies: tuple[str, ...] = ("tas-diego",), vms: str = VMS, vm: str | None = None) -> str:
        policy = load_policy(policies)
        file = tmp_path / "vms.yml"
        file.write_text(vms)
        return firewall.export(policy, load_inventory([str(file)], policy), to, vm)

    return made


def test_each_rule_names_its_path_and_both_families_are_there(export: Export) -> None:
    text = export("nftables", vms=SIX)
    assert 'ip6 saddr @diego_brain_6 ip6 daddr @diego_cell_6 tcp dport { 1801 } counter accept comment "auctioneer-to-rep"' in text  # fmt: skip
    assert 'log prefix "auditor undeclared: "' in text
    assert "-s fd00::21/128" in export("ip6tables", vms=SIX)


def test_a_front_is_let_through_for_what_it_fronts(export: Export) -> None:
    rows = {row["path"]: row for row in csv.DictReader(io.StringIO(export("csv")))}
    assert "192.0.2.10" in rows["ssh-proxy-to-uaa"]["responders"].split()
    assert (rows["auctioneer-to-rep"]["originators"], rows["auctioneer-to-rep"]["ports"]) == ("10.0.4.21", "1801")
    assert rows["rep-to-blobstore"]["ports"] == "1-65535", "a firewall cannot tell ports that vary"


def test_paths_inside_a_vm_and_leases_that_are_over_need_no_rule(export: Export) -> None:
    text = export("csv", ("tas",))
    assert "bosh-dns-to-bosh-dns-adapter" not in text
    over = VMS.replace("ips: [10.0.4.21]", "ips: [10.0.4.21], until: 2020-01-01T00:00:00Z")
    assert "auctioneer-to-rep" not in export("csv", vms=over)


def test_one_vm_has_its_own_rules_alone(export: Export) -> None:
    text = export("nftables", vm="diego_brain/b1")
    incoming, outgoing = text.split("\tchain output")
    assert ("bbs-to-auctioneer" in incoming, "bbs-to-auctioneer" in outgoing) == (True, False)
    assert ("auctioneer-to-rep" in incoming, "auctioneer-to-rep" in outgoing) == (False, True)
    assert "cc-to-bbs" not in text
    assert text == export("nftables", vm="10.0.4.21").replace("of 10.0.4.21,", "of diego_brain/b1,")


def covered(rules: list[dict[str, str]], address: str, port: int) -> bool:
    """Whether an application security group lets something through."""
    at = ipaddress.ip_address(address)
    for rule in rules:
        first, _, last = rule["destination"].partition("-")
        low, high = ipaddress.ip_address(first.partition("/")[0]), ipaddress.ip_address(last or first.partition("/")[0])
        ports = [tuple(map(int, each.split("-"))) for each in rule.get("ports", "1-65535").split(",")]
        if low.version == at.version and low <= at <= high and any(each[0] <= port <= each[-1] for each in ports):  # type: ignore[operator]
            return True
    return False


def test_an_application_security_group_leaves_the_control_plane_out(export: Export) -> None:
    vms = VMS.replace("externals:", "  - {name: credhub/0, ips: [10.0.4.40]}\nexternals:\n  - {name: dns, ip: 10.0.0.2, role: dns_resolver}")  # fmt: skip
    rules = json.loads(export("asg", ("tas",), vms))
    assert covered(rules, "203.0.113.5", 443)
    assert covered(rules, "10.0.4.40", 8844), "containers ask CredHub with their own certificate"
    assert covered(rules, "10.0.0.2", 53)
    for address, port in (
        ("10.0.4.22", 8889), ("10.0.4.24", 4222), ("10.0.4.28", 3306), ("10.0.200.1", 80), ("169.254.169.254", 80), ("10.0.4.40", 22),
        ("10.0.0.2", 22),
    ):  # fmt: skip
        assert not covered(rules, address, port), (address, port)


def test_security_groups_of_aws(export: Export) -> None:
    groups = {each["GroupName"]: each for each in json.loads(export("aws"))["SecurityGroups"]}
    cell = {each["FromPort"]: each for each in groups["diego-diego_cell"]["IpPermissions"]}
    assert cell[1801]["UserIdGroupPairs"] == [
        {"GroupName": "diego-diego_brain", "Description": "auctioneer-to-rep"},
        {"GroupName": "diego-diego_database", "Description": "bbs-to-rep"},
    ]
    assert (cell[61001]["ToPort"], cell[61001]["IpProtocol"]) == (65534, "tcp")
    egress = {each["FromPort"]: each for each in groups["diego-diego_cell"]["IpPermissionsEgress"]}
    assert egress[1]["IpRanges"] == [{"CidrIp": "198.51.100.0/24", "Description": "rep-to-blobstore"}]
    assert egress[8889]["UserIdGroupPairs"][0]["Description"] == "route-emitter-to-bbs rep-to-bbs"


@pytest.mark.parametrize(
    ("to", "vm", "says"),
    [("pf", None, "unknown rule set 'pf'"), ("aws", "diego_cell/c1", "not for one machine"), ("csv", "diego_cell/9", "has no 'diego_cell/9'")],
)  # fmt: skip
def test_mistakes(export: Export, to: str, vm: str | None, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        export(to, vm=vm)


def test_an_inventory_without_roles_is_told(export: Export) -> None:
    with pytest.raises(ConfigError, match="no declared path has both ends"):
        export("csv", vms="networks: [10.0.0.0/16]\nvms:\n  - {name: redis/0, ips: [10.0.4.9]}\n")


def test_groups_of_addresses_have_one_name_each() -> None:
    policy, inventory = lab(["tas"])
    groups = {
        each.name: each.hosts for allow in allowed(policy, inventory) for each in (allow.originators, allow.responders)
    }
    assert len(set(groups.values())) == len(groups)


def test_who_runs_the_platform_is_missed_where_no_inventory_names_it(tmp_path: Path) -> None:
    """BOSH lists its VMs, and neither itself nor Ops Manager: applications would be let through to them."""
    file = tmp_path / "vms.yml"
    file.write_text("networks: [10.0.0.0/16]\nvms:\n  - {name: diego_cell/0, ips: [10.0.1.10]}\n")
    policy = load_policy(["tas"])
    [says] = firewall.lacks(load_inventory([str(file)], policy), "asg")
    assert "has no bosh_director, ops_manager, jumpbox" in says
    assert firewall.lacks(load_inventory([str(file)], policy), "nftables") == ()
    externals = "".join(
        f"  - {{name: {role}, roles: [{role}], ips: [10.0.0.{at}]}}\n"
        for at, role in enumerate(("bosh_director", "ops_manager", "jumpbox"), 5)
    )
    file.write_text(f"networks: [10.0.0.0/16]\nvms: []\nexternals:\n{externals}")
    assert firewall.lacks(load_inventory([str(file)], policy), "asg") == ()
