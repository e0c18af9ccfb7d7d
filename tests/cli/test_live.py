"""``auditor live`` as its users start it: in network namespaces, between real programs, with real signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from auditor.cli import main
from auditor.cli.live import _Outcome, _status, seconds, size
from auditor.errors import ConfigError
from tests.conftest import ROOT, absent
from tests.netns import PATIENCE_S, Net, until

SAMPLES = ROOT / "captures" / "sample"
INVENTORY = str(SAMPLES / "diego.inventory.yml")
PYTHON = sys.executable


class Live:
    """A running ``auditor live`` on host ``a``."""

    def __init__(self, net: Net, tmp_path: Path, *arguments: str, side: str = "a", **environment: str) -> None:
        self.out_path, self.err_path = tmp_path / "out", tmp_path / "err"
        given = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        with self.out_path.open("wb") as out, self.err_path.open("wb") as err:
            words = (PYTHON, "-m", "auditor", "live", *arguments)
            self.process = net.start(side, *words, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env=given)

    @property
    def err(self) -> str:
        return self.err_path.read_text()

    @property
    def records(self) -> list[dict[str, Any]]:
        """The whole lines of standard output."""
        return [json.loads(line) for line in self.out_path.read_bytes().split(b"\n")[:-1]]

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [{k: v for k, v in each.items() if k != "kind"} for each in self.records if each["kind"] == kind]

    def capturing(self, count: int = 1) -> Live:
        until(lambda: len(re.findall("capturing", self.err)) >= count, "capturing", self.process, lambda: self.err)
        return self

    def told(self, rule: str) -> Live:
        until(lambda: any(each["rule"] == rule for each in self.of("finding")), rule, self.process, lambda: self.err)
        return self

    def stop(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


def offline(*captures: Path, inventory: str = INVENTORY) -> dict[str, Any]:
    """What ``auditor audit`` says of them."""
    words = [
        PYTHON,
        "-m",
        "auditor",
        "audit",
        *map(str, captures),
        "--inventory",
        inventory,
        "--format",
        "json",
        "--quiet",
    ]
    run = subprocess.run(words, capture_output=True, check=False, cwd=ROOT, timeout=PATIENCE_S)
    found: dict[str, Any] = json.loads(run.stdout)
    return found


def same(live: list[dict[str, Any]], audited: list[dict[str, Any]]) -> bool:
    """Connections, but for the names of the places where they were seen."""
    return [{**each, "vantages": None} for each in live] == [{**each, "vantages": None} for each in audited]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that others than root can reach, too."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def test_an_interface_is_audited_as_its_packets_come_and_the_kept_packets_say_the_same(net, place):
    """Findings come while it runs; Ctrl-C finishes; what was kept, audited afterwards, gives the same connections, verdicts and findings."""
    ring = place / "ring"
    live = Live(net, place, "wire", "--inventory", INVENTORY, "--write-ring", str(ring)).capturing()
    net.replay(SAMPLES / "diego.pcapng")
    live.told("missing-client-certificate")
    assert not live.of("summary"), "it was told before the end"
    assert live.stop() == 1
    (capture,) = live.of("capture")
    assert capture["path"] == "wire"
    assert capture["packets"] == 2720
    assert capture["dropped"] == 0
    assert capture["problems"] == []
    audited = offline(ring)
    assert len(audited["connections"]) == 136
    assert same(live.of("connection"), audited["connections"])
    findings = live.of("finding")
    final = findings[-len(audited["findings"]) :]
    assert final == audited["findings"]
    early = findings[: -len(audited["findings"])]
    assert early
    assert {each["fingerprint"] for each in early} <= {each["fingerprint"] for each in final}
    (summary,) = live.of("summary")
    assert summary == audited["summary"]
    assert "privileges dropped: packets are read as nobody" in live.err
    assert (
        "auditor: wire: 2,720 packets; dropped: 0 by the kernel, 0 in the pipe, 0 at the connection table\n" in live.err
    )
    (kept,) = ring.iterdir()
    assert kept.stat().st_mode & 0o077 == 0, "secrets may be in it"
    assert kept.stat().st_uid != 0


def test_as_root_the_report_stands_where_it_was_told_to(net, place):
    """Nobody reads the packets, and nobody may look into that folder."""
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    words = ("wire", "--inventory", INVENTORY, "--format", "json", "--output", str(closed / "report.json"))
    live = Live(net, place, *words, SUDO_UID="").capturing()
    net.replay(SAMPLES / "diego.pcapng")
    live.stop()
    assert "privileges dropped: packets are read as nobody" in live.err
    assert json.loads((closed / "report.json").read_text())["schema"] == "auditor.report/1"
    assert [each.name for each in closed.iterdir()] == ["report.json"]


# Control: signals, spans of time, terminals


def test_a_signal_finishes_the_window(net, place):
    """SIGTERM is a polite end, with a report, and leaves nothing running."""
    live = Live(net, place, "wire", "--inventory", INVENTORY, "--user", "root", "--capture-with", "tcpdump").capturing()
    assert live.stop(signal.SIGTERM) == 3, "nothing was judged"
    assert live.of("summary")[0]["connections"] == 0
    assert [each["packets"] for each in live.of("capture")] == [0]
    assert "finishing the window" in live.err
    assert (
        "0 packets; dropped: 0 by the kernel, 0 in the pipe, 0 at the connection table; check the interface" in live.err
    )
    until(lambda: not net.pids("a"), "all that was started is gone")


def test_a_second_ctrl_c_ends_at_once_and_leaves_nothing_running(net, place):
    """Beside a capture that ends when told to, a far end that does not: the first Ctrl-C would wait for it."""
    (place / "bin").mkdir()
    ssh = place / "bin" / "ssh"
    header = place / "header"
    header.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1))
    ssh.write_text(f"#!/bin/sh\ntrap '' INT TERM\ncat {header}\nwhile :; do sleep 100; done\n")
    ssh.chmod(0o755)
    words = ("wire", "--from", "ssh://stubborn/eth0", "--inventory", INVENTORY, "--user", "root")
    live = Live(net, place, *words, PATH=f"{place / 'bin'}:{os.environ['PATH']}").capturing(2)
    live.process.send_signal(signal.SIGINT)
    until(lambda: "finishing the window; Ctrl-C again stops at once" in live.err, "it finishes", live.process)
    assert live.stop() == 130
    assert live.records == [], "no report"
    assert "Traceback" not in live.err
    until(lambda: not net.pids("a"), "all that was started is gone")


@pytest.mark.night
def test_windows_are_written_beside_each_other_and_cover_all_packets(net, place):
    reports = place / "reports"
    words = ("wire", "--inventory", INVENTORY, "--window", "4s", "--output", str(reports), "--format", "json")
    live = Live(net, place, *words, "--capture-with", "scapy").capturing()
    net.replay(SAMPLES / "diego.pcapng", rate=400)
    until(
        lambda: reports.is_dir() and len(list(reports.glob("*.json"))) >= 2,
        "two windows",
        live.process,
        lambda: live.err,
    )
    assert live.stop() in (0, 1)
    windows = [json.loads(each.read_bytes()) for each in sorted(reports.iterdir())]
    assert [each["audit"]["options"]["live"]["window"] for each in windows] == list(range(1, len(windows) + 1))
    assert [each["audit"]["options"]["live"]["last"] for each in windows] == [False] * (len(windows) - 1) + [True]
    assert sum(each["captures"][0]["packets"] for each in windows) == 2720
    assert all(each["schema"] == "auditor.report/1" for each in windows)
    ids = {connection["id"] for each in windows for connection in each["connections"]}
    assert (
        ids == {connection["id"] for connection in offline(SAMPLES / "diego.pcapng")["connections"]} or len(ids) == 136
    )
    assert live.out_path.read_bytes().count(b'"kind":"finding"') == live.out_path.read_bytes().count(b"\n"), (
        "findings alone"
    )


@pytest.mark.night
def test_on_a_terminal_there_is_a_line_that_lives_and_findings_for_people(net, place):
    """A pseudo terminal of 100 columns: what a user would see, escape sequences and all."""
    import pty

    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "TERM": "xterm"}
    words = (PYTHON, "-m", "auditor", "live", "wire", "--inventory", INVENTORY, "--user", "root")
    process = net.start("a", *words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    seen = Screen(ours)
    until(lambda: "capturing" in seen.text, "capturing", process, lambda: seen.text)
    net.replay(SAMPLES / "diego.pcapng")
    until(lambda: "CRITICAL" in seen.text, "a finding", process, lambda: seen.text)
    until(
        lambda: re.search(r"live: 2,720 packets, 136 connections, 0 dropped, \d+ findings", seen.text),
        "the line",
        process,
    )
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 1
    seen.close()
    assert re.search(r"\d\d:\d\d:\d\d CRITICAL missing-client-certificate: ", seen.text)
    assert "NOT CLEAN" in seen.text
    assert seen.text.rindex("NOT CLEAN") > seen.text.rindex("live: "), "the report comes when the line is gone"
    assert '"kind"' not in seen.text


class Screen:
    """What was written to a terminal, without its escape sequences."""

    def __init__(self, terminal: int) -> None:
        self._terminal, self._data = terminal, b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(self._terminal, 65_536):
                self._data += data

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._data.decode("utf-8", "replace"))

    def close(self) -> None:
        self._thread.join(30)
        os.close(self._terminal)


@pytest.mark.night
def test_a_stream_is_audited_to_its_end(tmp_path):
    """What ``bosh pcap`` or a tcpdump elsewhere pipes in."""
    words = [PYTHON, "-m", "auditor", "live", "-", "--inventory", INVENTORY]
    with (SAMPLES / "diego.pcapng").open("rb") as given:
        run = subprocess.run(words, stdin=given, capture_output=True, check=False, cwd=ROOT, timeout=PATIENCE_S)
    assert run.returncode == 1
    records = [json.loads(line) for line in run.stdout.splitlines()]
    connections = [{k: v for k, v in each.items() if k != "kind"} for each in records if each["kind"] == "connection"]
    assert same(connections, offline(SAMPLES / "diego.pcapng")["connections"])


# VMs elsewhere


class Sshd:
    """A real sshd on host ``b`` with keys and a configuration of its own; and how to get there as anybody."""

    PORT = 2022

    def __init__(self, net: Net, folder: Path) -> None:
        for name in ("host", "user"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True, capture_output=True)
        Path("/run/sshd").mkdir(exist_ok=True, mode=0o755)
        lines = [
            f"Port {self.PORT}", f"HostKey {folder / 'host'}", f"AuthorizedKeysFile {folder / 'user.pub'}", "StrictModes no", "UsePAM no",
            "PermitRootLogin prohibit-password", f"PidFile {folder / 'pid'}",
        ]  # fmt: skip
        (folder / "sshd_config").write_text("\n".join(lines) + "\n")
        (folder / "known").write_text(f"[{net.B}]:{self.PORT} {(folder / 'host.pub').read_text()}")
        config = f"Host brain\n  HostName {net.B}\n  Port {self.PORT}\n  User root\n  IdentityFile {folder / 'user'}\n"
        config += f"  IdentitiesOnly yes\n  UserKnownHostsFile {folder / 'known'}\n"
        (folder / "config").write_text(config)
        # The user's own ssh, with the user's configuration; that of the account that runs the tests is left alone.
        (folder / "bin").mkdir()
        wrapper = folder / "bin" / "ssh"
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder / "config"} "$@"\n')
        wrapper.chmod(0o755)
        for each in ("user", "config", "known"):
            os.chown(folder / each, 65534, 65534)
        self.path = f"{folder / 'bin'}:{os.environ['PATH']}"
        sshd = shutil.which("sshd") or "/usr/sbin/sshd"
        self.log = folder / "log"
        self.process = net.start("b", sshd, "-D", "-E", str(self.log), "-f", str(folder / "sshd_config"))
        until(lambda: self.log.exists() and "Server listening" in self.log.read_text(), "sshd listens", self.process)

    def end_sessions(self) -> None:
        """Cut every connection: a VM that goes away."""
        for pid in subprocess.run(
            ["pgrep", "-P", str(self._main())], capture_output=True, text=True, check=False
        ).stdout.split():
            with contextlib.suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)

    def _main(self) -> int:
        # `ip netns exec` becomes what it executes.
        return self.process.pid


@pytest.fixture
def sshd(net, place) -> Iterator[Sshd]:
    lacking = [name for name in ("ssh", "ssh-keygen") if not shutil.which(name)]
    if lacking or not (shutil.which("sshd") or Path("/usr/sbin/sshd").exists()):
        absent("sshd and ssh are not installed (Debian packages openssh-server, openssh-client)")
    (place / "ssh").mkdir(mode=0o755)
    daemon = Sshd(net, place / "ssh")
    yield daemon
    daemon.end_sessions()
    net.end()


ENDS = """schema: auditor.inventory/1
vms:
  - {name: diego_cell/0, ips: [10.0.4.10]}
  - {name: diego_database/0, ips: [10.0.4.20]}
"""


def test_a_cell_and_a_brain_at_once_over_a_real_sshd(net, place, sshd):
    """An interface here, a VM through ssh, real daemons that talk: one audit, two vantage points, and no packet of our own connection.

    A BBS that answers in the clear is a finding; one that talks TLS without asking for a certificate another.
    """
    inventory = place / "inventory.yml"
    inventory.write_text(ENDS)
    clear = bbs_in_the_clear(net)
    words = ("wire", "--from", "ssh://brain/wire", "--inventory", str(inventory), "--write-ring", str(place / "ring"))
    live = Live(net, place, *words, "--capture-with", "tcpdump", PATH=sshd.path).capturing(2)
    until(lambda: fetches(net), "the daemon answers", clear)
    live.told("plaintext")
    sshd.end_sessions()
    until(lambda: "ssh://brain/wire: capturing again" in live.err, "the VM is back", live.process, lambda: live.err)
    assert fetches(net)
    until(lambda: live.err.count("plaintext") or len(live.of("finding")), "still told")
    assert live.stop() == 1
    captures = {each["path"]: each for each in live.of("capture")}
    assert set(captures) == {"wire", "ssh://brain/wire"}
    assert captures["wire"]["problems"] == []
    assert "interrupted" in {each["kind"] for each in captures["ssh://brain/wire"]["problems"]}
    assert captures["ssh://brain/wire"]["packets"] > 0
    assert "ssh://brain/wire: ended: " in live.err
    http = [each for each in live.of("connection") if each["responder"]["port"] == 8889]
    assert len(http) >= 2
    assert http[0]["vantages"] == ["wire", "ssh://brain/wire"]
    ring = {side: sorted((place / "ring").glob(f"{side}-*")) for side in (0, 1)}
    alone = {each["id"]: each for each in offline(*ring[0], inventory=str(inventory))["connections"]}
    assert http[0]["responder"]["packets"] == alone[http[0]["id"]]["responder"]["packets"], "seen twice, counted once"
    said = [
        line for line in live.err.splitlines() if "left out: the auditor's own connection (tcp 10.0.4.10 port" in line
    ]
    assert len(said) >= 2, "on the far end and here"
    # That of the second login passes the filter here, which was made before it, and is taken out of what is judged.
    assert Sshd.PORT not in {each["responder"]["port"] for each in live.of("connection")}
    assert Sshd.PORT in {each["responder"]["port"] for each in alone.values()}
    options = live.of("audit")[0]["options"]["live"]["sources"]
    assert [each["tool"] for each in options] == ["tcpdump", "ssh"]
    assert options[1]["restarts"] == 1
    assert options[1]["dropped"]["kernel"] == 0
    assert all(len(re.findall("port 2022", each["left_out"])) == 2 for each in options), "both logins, at both"
    audited = offline(*ring[0], *ring[1], inventory=str(inventory))
    findings = {each["fingerprint"] for each in live.of("finding")}
    assert {each["fingerprint"] for each in audited["findings"] if each["rule"] == "plaintext"} <= findings


def bbs_in_the_clear(net: Net) -> Any:
    """A daemon on the BBS' port that speaks HTTP without TLS."""
    return net.start(
        "b",
        PYTHON,
        "-u",
        "-m",
        "http.server",
        "8889",
        "--bind",
        net.B,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
    )


def fetches(net: Net) -> bool:
    """Whether the daemon of host ``b`` answers host ``a``."""
    code = f"import urllib.request; urllib.request.urlopen('http://{net.B}:8889/', timeout=20).read()"
    return subprocess.run(net.inside("a", PYTHON, "-c", code), check=False, capture_output=True).returncode == 0


def test_bosh_ssh_carries_a_capture_as_text(net, place, sshd):
    """A stand-in for the bosh command line: its arguments, and the form of its output (each line behind ``GROUP/ID: stdout | ``, as bosh-cli's
    streaming writer marks it). What it is given runs for real, on the other host, over a real ssh with a terminal, as bosh-cli starts it. Only the
    Director, who would tell the address and place a key, is not there.
    """
    inventory = place / "inventory.yml"
    inventory.write_text(ENDS)
    bosh = place / "ssh" / "bin" / "bosh"
    bosh.write_text(
        "#!/bin/sh\n"
        '[ "$1 $2 $3 $4 $5 $6" = "-n -d cf ssh diego_database/0 -c" ] && [ $# = 7 ] || { echo "usage: $*" >&2; exit 1; }\n'
        "echo \"Using environment '10.0.3.6' as client 'admin'\"\n"
        f"""{place / "ssh" / "bin" / "ssh"} -tt brain "$7" 2>&1 </dev/null | sed -u 's!^!diego_database/0: stdout | !'\n"""
    )
    bosh.chmod(0o755)
    words = ("--from", "bosh://cf/diego_database/0/wire", "--inventory", str(inventory), "--filter", "tcp")
    live = Live(net, place, *words, PATH=sshd.path).capturing()
    daemon = bbs_in_the_clear(net)
    until(lambda: fetches(net), "the daemon answers", daemon)
    live.told("plaintext")
    assert re.search(
        r"left out: the auditor's own connection \(tcp 10.0.4.10 port \d+, 10.0.4.20 port 2022\)", live.err
    )
    assert live.stop() == 1
    (capture,) = live.of("capture")
    assert capture["path"] == "bosh://cf/diego_database/0/wire"
    assert capture["packets"] > 5
    assert capture["dropped"] == 0, "tcpdump says so twice a second"
    until(lambda: not {*net.pids("b")} - {daemon.pid, sshd.process.pid}, "nothing is left there")
    assert {each["responder"]["port"] for each in live.of("connection")} == {8889}


# What is wrong before anything is captured


def test_without_rights_it_says_so_in_one_line_with_the_mend():
    """As an ordinary user, where no program has the capability."""
    code = (
        "import os, sys; import auditor.capture.live as live; from auditor.cli import main; main(['live', 'nosuch0']); live.capture_tools(); "
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); live._has_capability = lambda path: False; "
        "sys.exit(main(['live', 'lo']))"
    )
    run = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert run.returncode == 2
    first, second = run.stderr.splitlines()
    assert first.startswith("auditor: nosuch0: no such interface")
    assert second.startswith("auditor: lo: capturing is not allowed (sudo auditor live")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "no source is named"),
        (["nosuch0"], "no such interface"),
        (["http://a/b"], "cannot capture through http"),
        (["-", "--window", "soon"], "is not a duration"),
        (["-", "--window", "5m", "--format", "json"], "--output DIR"),
        (["-", "--ring-size", "little", "--write-ring", "x"], "not a size"),
        (["-", "--snaplen", "1"], "--snaplen"),
        (["-", "--inventory", "missing.yml"], "missing.yml"),
        (["-", "--limit", "connections=none"], "has no number"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_said_at_once(arguments, says, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["live", *arguments]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert says in told


def test_a_quiet_window_is_no_flaw_of_a_session_that_had_others():
    fine, quiet, dropped = _Outcome(0, []), _Outcome(0, ["nothing was judged"], quiet=True), _Outcome(0, ["dropped"])
    assert [
        _status(each, "medium", 5.0, False)
        for each in ([fine], [quiet], [fine, quiet], [fine, quiet, dropped], [_Outcome(1, []), quiet])
    ] == [0, 3, 0, 3, 1]
    assert _status([quiet], "medium", 5.0, True) == 0


def test_spans_of_time_and_sizes():
    assert [seconds("--window", text) for text in ("90", "30s", "5m", "2h", "1.5d", "100ms", None)] == [
        90,
        30,
        300,
        7200,
        129_600,
        0.1,
        None,
    ]
    assert [size("--ring-size", text) for text in ("1GiB", "1G", "2MB", "500", "10 KiB")] == [
        2**30,
        2**30,
        2_000_000,
        500,
        10_240,
    ]
    for bad in ("", "0", "-5s", "5 fortnights", "1e9d"):
        with pytest.raises(ConfigError):
            seconds("--window", bad)
    for bad in ("", "-1", "GiB"):
        with pytest.raises(ConfigError):
            size("--ring-size", bad)
