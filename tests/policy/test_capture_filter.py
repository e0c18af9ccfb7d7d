"""The capture filter: it compiles, what it lets through is enough to judge by, and it leaves something out."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from auditor import api
from auditor.policy.capture_filter import BOSH_FILTER_CHARS, EVERYTHING, SNAPLEN, filter_for
from auditor.policy.inventory import load_inventory
from auditor.policy.loader import load_policy
from auditor.policy.shipped import names
from tests.conftest import ROOT, absent

SAMPLES = ROOT / "captures" / "sample"


@pytest.fixture(scope="module")
def tcpdump() -> str:
    found = shutil.which("tcpdump") or shutil.which("tcpdump", path="/usr/sbin")
    if not found:
        absent("tcpdump is not installed (Debian package tcpdump)")
    assert found
    return found


def compiled(tcpdump: str, expression: str) -> int:
    """Instructions of the filter; libpcap says what is wrong with it."""
    run = subprocess.run([tcpdump, "-d", "-y", "EN10MB", expression], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return len(run.stdout.splitlines())


@pytest.mark.parametrize("sample", ["diego.pcapng", "healthy.pcap"])
def test_filtered_packets_give_the_same_findings_and_verdicts(tcpdump, sample, tmp_path):
    stem = sample.split(".", maxsplit=1)[0]
    inventory = str(SAMPLES / f"{stem}.inventory.yml")
    policy = load_policy(["tas-diego"])
    found = filter_for(policy, load_inventory([inventory], policy))
    out = tmp_path / "filtered.pcap"
    subprocess.run([tcpdump, "-r", SAMPLES / sample, "-w", out, found.expression], check=True, capture_output=True)
    whole, filtered = (api.audit(each, inventory=inventory) for each in (SAMPLES / sample, out))
    assert filtered.captures["packets"][0] < whole.captures["packets"][0] * 0.7, "something is left out"
    assert filtered.findings["fingerprint"].tolist() == whole.findings["fingerprint"].tolist()
    assert filtered.findings["count"].tolist() == whole.findings["count"].tolist()
    columns = ["id", "disposition", "authentication_verdict"]
    assert filtered.connections[columns].equals(whole.connections[columns])


def test_the_snaplen_keeps_every_head(tmp_path):
    """The sample cut to it is judged alike."""
    from tests.jobs.test_live import parts

    _, records = parts(SAMPLES / "diego.pcapng")
    assert max(len(each) for each in records) < SNAPLEN
    assert SNAPLEN > 8_192


def test_filters_of_all_shipped_policies_compile(tcpdump):
    inventory_file = str(SAMPLES / "diego.inventory.yml")
    for name in names():
        policy = load_policy(dict.fromkeys(["tas-diego", name]))
        for inventory in (None, load_inventory([inventory_file], policy)):
            found = filter_for(policy, inventory)
            assert 1 < compiled(tcpdump, found.expression) < 4_096, "BPF_MAXINSNS"
            assert found.leaves_out
            assert len(found.expression) <= BOSH_FILTER_CHARS


def test_without_an_inventory_nothing_can_be_left_out_where_ports_vary():
    found = filter_for(load_policy(["tas-diego"]))
    assert found.expression == EVERYTHING
    assert "rep-to-blobstore" in found.leaves_out[0]
    assert found.groups == ("diego_brain", "diego_cell", "diego_database")


def test_many_cells_do_not_make_a_long_filter(tcpdump, tmp_path):
    lines = ["schema: auditor.inventory/1", "vms:"]
    lines += [f"  - {{name: diego_cell/{k}, ips: [10.0.{k // 250}.{k % 250 + 1}]}}" for k in range(600)]
    lines += ["  - {name: diego_brain/0, ips: [10.0.9.1]}", "  - {name: nfs_server/0, ips: [10.0.9.2]}"]
    lines += ["  - {name: blobstore/0, cidrs: [10.0.9.8/30]}"]
    file = tmp_path / "many.yml"
    file.write_text("\n".join(lines) + "\n")
    policy = load_policy(["tas-diego"])
    found = filter_for(policy, load_inventory([str(file)], policy))
    assert compiled(tcpdump, found.expression) < 200
    assert "host 10.0.9.2" in found.expression
    assert "net 10.0.9.8/30" in found.expression
    assert "10.0.1.7" not in found.expression
