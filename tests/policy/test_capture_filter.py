"""The capture filter: it compiles, what it lets through is enough to judge by, and it leaves something out."""

from __future__ import annotations

import shlex
import shutil
import struct
import subprocess

import pytest

from auditor import api
from auditor.cli import main
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


def in_the_clear(snaplen: int) -> bytes:
    """A cell asks the BBS in the clear; the answer comes as one frame of 40 kB, as VMs' interfaces hand them to a capture."""
    request, answer = (
        b"GET /v1/cells HTTP/1.1\r\nHost: bbs\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 39960\r\n\r\n",
    )
    answer += bytes(40_000 - len(answer))
    steps = [(2, 1, 0, b"", False), (18, 1, 2, b"", True), (16, 2, 2, b"", False), (24, 2, 2, request, False)]
    at = 2 + len(request)
    steps += [(24, 2, at, answer, True), (17, at, 40_002, b"", False), (17, 40_002, at + 1, b"", True)]
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, snaplen, 1)
    for k, (flags, seq, ack, data, back) in enumerate(steps):
        ports = (8889, 40_000) if back else (40_000, 8889)
        ends = [bytes((10, 0, 4, 40)), bytes((10, 0, 4, 20))]
        segment = struct.pack(">HHIIBBHHH", *ports, seq, ack, 0x50, flags, 65_535, 0, 0) + data
        frame = bytes(12) + b"\x08\0" + struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(segment), k, 0, 64, 6, 0)
        frame += b"".join(ends if back else ends[::-1]) + segment
        kept = frame[:snaplen]
        out += struct.pack("<IIII", 1_763_200_000, k, len(kept), len(frame)) + kept
    return out


def test_the_snaplen_keeps_what_is_judged(tmp_path):
    """The same verdict and findings as of whole packets."""
    inventory = str(SAMPLES / "diego.inventory.yml")
    reports = []
    for snaplen in (262_144, SNAPLEN):
        file = tmp_path / f"{snaplen}.pcap"
        file.write_bytes(in_the_clear(snaplen))
        reports.append(api.audit(file, inventory=inventory))
    whole, cut = reports
    assert (tmp_path / f"{SNAPLEN}.pcap").stat().st_size < 10_000 < (tmp_path / "262144.pcap").stat().st_size
    assert whole.connections["authentication_verdict"].tolist() == ["violated"]
    columns = ["id", "disposition", "authentication_verdict", "application", "responder_bytes"]
    assert cut.connections[columns].equals(whole.connections[columns])
    assert cut.findings["fingerprint"].tolist() == whole.findings["fingerprint"].tolist()


def test_filters_of_all_shipped_policies_compile(tcpdump):
    inventory_file = str(SAMPLES / "diego.inventory.yml")
    for name in names():
        policy = load_policy(list(dict.fromkeys(["tas-diego", name])))
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


def test_the_command_prints_the_filter_alone_and_says_the_rest_on_standard_error(tcpdump, capsys):
    inventory = str(SAMPLES / "diego.inventory.yml")
    assert main(["policy", "filter", "--inventory", inventory]) == 0
    told = capsys.readouterr()
    assert compiled(tcpdump, told.out.strip()) > 50
    assert told.out.count("\n") == 1
    assert "capture on all of diego_brain, diego_cell, diego_database" in told.err
    assert f"snaplen: {SNAPLEN} bytes of each packet are enough" in told.err
    assert told.err.count("leaves out: ") == 3


def test_the_bosh_command_is_ready_for_a_shell(tcpdump, capsys):
    inventory = str(SAMPLES / "diego.inventory.yml")
    assert main(["policy", "filter", "--inventory", inventory, "--bosh-pcap", "-d", "cf", "--quiet"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    words = shlex.split(told.out)
    assert words[:4] == ["bosh", "-d", "cf", "pcap"]
    assert words[words.index("-s") + 1] == str(SNAPLEN)
    expression = words[words.index("-f") + 1]
    # bosh-cli hands it to a shell on the VM, between double quotes.
    run = subprocess.run(["sh", "-c", f'printf %s "{expression}"'], capture_output=True, text=True, check=True)
    assert run.stdout == expression
    assert compiled(tcpdump, run.stdout) > 50
