"""One network namespace a VM, all on one bridge, and tcpdump on the bridge and in the VMs that are recorded.

All of it lives in a network, mount and process namespace of its own (``lab.py`` makes them): when its first process ends, however it ends, the kernel ends
every process, removes every interface and forgets every mount in it. Nothing of the host is touched and nothing is left.
"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

from data import Machine

ONE_WAY, GAP = (39000, 39099), (39100, 39199)
"""Source ports of connections that the captures shall see one direction of, and without the long packets of their server."""
FILTER = (
    f"not (tcp dst portrange {ONE_WAY[0]}-{ONE_WAY[1]}) and "
    f"not (tcp and dst portrange {GAP[0]}-{GAP[1]} and greater 900)"
)


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


class Network:
    """The bridge, the VMs, their addresses."""

    def __init__(self, machines: list[Machine], networks: list[str]) -> None:
        self.machines = [each for each in machines if not each.down]
        self.of = {each.name: f"vm{number}" for number, each in enumerate(self.machines)}
        run("mount", "-t", "tmpfs", "tmpfs", "/run")
        Path("/run/sshd").mkdir()
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "br0", "type", "bridge")
        run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        run("ip", "link", "set", "br0", "up")
        for number, each in enumerate(self.machines):
            space = self.of[each.name]
            run("ip", "netns", "add", space)
            mac = "02:00:" + ":".join(f"{int(part):02x}" for part in each.ip.split("."))
            run(
                "ip",
                "link",
                "add",
                f"port{number}",
                "type",
                "veth",
                "peer",
                "name",
                "eth0",
                "address",
                mac,
                "netns",
                space,
            )
            run("ip", "link", "set", f"port{number}", "master", "br0", "up")
            run(*self.inside(each.name, ["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"]))
            run("ip", "-n", space, "addr", "add", f"{each.ip}/32", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "lo", "up")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            for network in networks:
                run("ip", "-n", space, "route", "add", network, "dev", "eth0")

    def inside(self, name: str, command: list[str]) -> list[str]:
        return ["ip", "netns", "exec", self.of[name], *command]

    def nobody(self, source: str, address: str) -> None:
        """A VM that is down: its neighbours still know its link address, and nobody answers."""
        run("ip", "-n", self.of[source], "neigh", "replace", address, "lladdr", "02:00:00:00:00:99", "dev", "eth0")


class Recorders:
    """tcpdump on the bridge and in each VM that names a recording."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.files = {"bridge": folder / "bridge.pcap"}
        places: dict[str, list[str]] = {"bridge": ["-i", "br0"]}
        inside = {each.record: each.name for each in network.machines if each.record}
        self.files |= {record: folder / f"{record}.pcap" for record in inside}
        self.running: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
        for record, path in self.files.items():
            on = places.get(record, ["-i", "eth0"])
            options = ["--immediate-mode", "-U", "-n", "-s", "0", "-B", "16384", "-Z", "root", "-w", str(path), FILTER]
            command = ["tcpdump", *on, *options]
            log = folder / f"{record}.tcpdump"
            with log.open("wb") as says:
                whole = network.inside(inside[record], command) if record in inside else command
                self.running[record] = (subprocess.Popen(whole, stderr=says), log)
        for record, (process, log) in self.running.items():
            end = time.monotonic() + 20
            while "listening on" not in log.read_text(errors="replace"):
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"tcpdump on {record} did not start: {log.read_text(errors='replace').strip()}")
                time.sleep(0.05)

    def stop(self) -> dict[str, Path]:
        """The recordings. Raises RuntimeError where the kernel dropped packets: such a recording is no truth."""
        time.sleep(1)
        for record, (process, log) in self.running.items():
            process.terminate()
            process.wait(20)
            says = log.read_text(errors="replace")
            dropped = re.search(r"(\d+) packets dropped by kernel", says)
            if not dropped or int(dropped[1]):
                raise RuntimeError(f"tcpdump on {record}: {says.strip().splitlines()[-1]}")
        return self.files
