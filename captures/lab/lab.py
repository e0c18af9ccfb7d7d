"""The lab: a small Diego of real daemons, recorded and audited end to end.

    lab.py record [--only SET] [--out FOLDER]   plays the scenarios and writes the recording, its truth and its inventory (root)
    lab.py check [FOLDER]                       audits a recording and holds the report against its truth
    lab.py install [--only SET]                 installs the Debian packages that are missing (root)
    lab.py can                                  whether namespaces are allowed here, in one line

How it records, in order: what is missing is installed (Debian packages), keys are made and the peers compiled in a scratch folder; then everything
runs in network, mount and process namespaces of its own, so that nothing else is captured, nothing else is disturbed, and the kernel cleans up when
the first process in them ends: after a failure, after Ctrl-C, after a kill of this script, and when the time is up.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
ROOT = HERE.parents[1]
PEERS = HERE.parent / "tls" / "peers"
SETS = ("all", "story", "small", "intruder")
PLAYS = {"intruder": "intruder"}
"""Sets that are a file of their own."""
SECONDS = {"all": 600, "story": 300, "small": 150, "intruder": 200}
"""What a recording may take, installing and compiling apart."""
PACKAGES = {
    "nats-server": "nats-server",
    "mariadbd": "mariadb-server-core",
    "mariadb-install-db": "mariadb-server-core",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "nginx": "nginx-light",
    "dnsmasq": "dnsmasq-base",
    "tcpdump": "tcpdump",
    "ip": "iproute2",
    "unshare": "util-linux",
    "sysctl": "procps",
    "go": "golang-go",
    "javac": "default-jdk-headless",
}
SPACES = ["unshare", "--net", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]


def found(program: str) -> bool:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is not None


def cannot() -> str:
    """Why this machine cannot record; empty where it can."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    if os.geteuid() != 0:
        return "recording needs root: network namespaces and tcpdump"
    if not found("unshare") or not found("ip"):
        return "unshare (util-linux) or ip (iproute2) is missing"
    tried = subprocess.run(
        [*SPACES, "sh", "-c", "mount -t tmpfs tmpfs /run && ip netns add a && ip link add type bridge && ip link add type veth"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if tried.returncode:
        says = (tried.stderr.strip().splitlines() or ["no reason was given"])[-1]
        return f"this machine allows no network namespaces here ({says})"
    return ""


def missing(only: str) -> list[str]:
    """Debian packages that are needed and absent. The small set does without Go and Java where they are absent."""
    absent = [package for program, package in PACKAGES.items() if not found(program)]
    optional = {"golang-go", "default-jdk-headless"} if only == "small" else set()
    return list(dict.fromkeys(each for each in absent if each not in optional))


def install(packages: list[str]) -> None:
    """With services kept from starting: the lab runs its own."""
    policy = Path("/usr/sbin/policy-rc.d")
    mine = not policy.exists()
    if mine:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], check=False)
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages], check=True, env=env)
    finally:
        if mine:
            policy.unlink()


def plugins(work: Path) -> None:
    """MariaDB's PAM plugin, unpacked from its package and not installed: the package would bring a service along."""
    folder = work / "mariadb"
    folder.mkdir()
    fetched = subprocess.run(
        ["apt-get", "download", "-qq", "mariadb-server"], cwd=folder, check=False, capture_output=True, text=True
    )
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)
    if fetched.returncode:
        print(f"MariaDB's PAM plugin is not to be had: {fetched.stderr.strip()}", flush=True)


def compile_peers(work: Path) -> None:
    built = work / "bin"
    built.mkdir()
    if found("go"):
        env = {**os.environ, "GO111MODULE": "off"}
        subprocess.run(["go", "build", "-o", str(built / "peer_go"), str(PEERS / "peer.go")], check=True, env=env)
    if found("javac"):
        subprocess.run(["javac", "-d", str(built), str(PEERS / "Peer.java")], check=True)


def chosen(only: str) -> tuple[Any, list[Any]]:
    """The lab, and its scenarios of that set that this machine's stacks can play."""
    from data import load

    lab = load(play=PLAYS.get(only))
    scenes = [each for each in lab.scenarios if only == "all" or only in PLAYS or getattr(each, only)]
    have = {"go": found("go"), "java": found("javac")}
    if only == "small":
        scenes = [
            each for each in scenes if all(have.get(end.get("stack", ""), True) for end in (each.client, each.server))
        ]
    names = {each.name for each in scenes}
    if broken := [each.name for each in scenes if each.after and each.after not in names]:
        raise ValueError(f"{', '.join(broken)}: the scenario before is not in the set {only}")
    return lab, scenes


def inventory(lab: Any, title: str) -> str:
    lines = [
        f"# The VMs of the lab. {title}",
        "schema: auditor.inventory/1",
        "title: the lab, a small Diego of real daemons",
        f"networks: [{lab.raw['networks']['platform']}]",
        "vms:",
    ]
    known = [each for each in lab.machines.values() if each.known]
    lines += [f"  - {{name: {each.name}, ips: [{each.ip}]}}" for each in known if not each.role]
    lines.append("externals:")
    lines += [f"  - {{name: {each.name}, ips: [{each.ip}], roles: [{each.role}]}}" for each in known if each.role]
    return "\n".join(lines) + "\n"


def inside(work: Path, only: str) -> None:
    """In the namespaces: the network, the daemons, the scenarios, the truth."""
    from network import Network, Recorders
    from play import COLUMNS, Stage, play

    os.environ["PATH"] += ":/usr/sbin:/sbin"
    lab, scenes = chosen(only)
    network = Network(list(lab.machines.values()), list(lab.raw["networks"].values()))
    stage = Stage(lab, network, work, json.loads((work / "prints.json").read_text()))
    recorders: list[Recorders] = []
    try:
        rows = play(lab, scenes, stage, lambda: recorders.append(Recorders(network, work)))
        recorders[0].stop()
    finally:
        stage.stop()
    with (work / "truth.tsv").open("w", newline="", encoding="utf-8") as out:
        table = csv.DictWriter(out, COLUMNS, delimiter="\t", lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow({key: " ".join(str(value).split()).replace(str(work), "") for key, value in row.items()})


def die_with_parent() -> None:
    """Linux only: the namespaces' first process is killed when this one ends, however it ends (prctl PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def versions() -> str:
    said = []
    for program, package in {"go": "golang-1.19-go", "javac": "openjdk-17-jre-headless", "openssl": "libssl3"}.items():
        if found(program):
            said.append(package)
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package}\t${Version}\n", *sorted({*said, *PACKAGES.values()})],
        capture_output=True,
        text=True,
        check=False,
    )
    return "".join(
        f"{line}\n" for line in sorted(asked.stdout.splitlines()) if "\t" in line and not line.endswith("\t")
    )


def record(out: Path, only: str, stem: str) -> int:
    if reason := cannot():
        print(
            f"The lab cannot be recorded here: {reason}. The recording that comes with the project can be checked: make lab-check"
        )
        return 3
    if needed := missing(only):
        print(f"Installing {' '.join(needed)} ...", flush=True)
        install(needed)
    import pki
    import zstandard
    from data import load

    work = Path(tempfile.mkdtemp(prefix="lab-"))
    try:
        lab = load()
        (work / "prints.json").write_text(json.dumps(pki.make(work / "keys", lab.raw)))
        compile_peers(work)
        if any("pam" in each.client.get("user", "") for each in chosen(only)[1]):
            plugins(work)
        command = [
            *SPACES,
            sys.executable,
            str(Path(__file__).resolve()),
            "inside",
            "--work",
            str(work),
            "--only",
            only,
        ]
        process = subprocess.Popen(command, preexec_fn=die_with_parent)  # noqa: PLW1509  (no threads here)
        try:
            status = process.wait(SECONDS[only])
        except subprocess.TimeoutExpired:
            status = 1
            print(f"The recording took more than {SECONDS[only]} s and was stopped.")
        finally:
            process.kill()
            process.wait()
        if status:
            errors = work / "errors.log"
            print(errors.read_text(errors="replace")[-2000:] if errors.exists() else "", file=sys.stderr)
            return 1
        out.mkdir(parents=True, exist_ok=True)
        for each in sorted(work.glob("*.pcap")):
            packed = zstandard.ZstdCompressor(level=19).compress(each.read_bytes())
            (out / f"{stem}.{each.stem}.pcap.zst").write_bytes(packed)
        shutil.copy(work / "truth.tsv", out / f"{stem}.truth.tsv")
        shutil.copy(work / "keys" / "ca.pem", out / f"{stem}.ca.pem")
        (out / f"{stem}.inventory.yml").write_text(inventory(lab, "Made by captures/lab/lab.py."))
        (out / f"{stem}.versions.tsv").write_text(versions())
        size = sum(each.stat().st_size for each in out.glob(f"{stem}.*"))
        print(f"Recorded {out}: {size / 1e6:.1f} MB")
        return 0
    finally:
        shutil.rmtree(work, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=("record", "check", "install", "can", "inside"))
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--only", choices=SETS, default="all")
    parser.add_argument("--stem", default="lab")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quiet", action="store_true", help="check: one line where all is right")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.do == "can":
        reason = cannot()
        print(reason or "network namespaces are allowed here")
        return 3 if reason else 0
    if options.do == "install":
        needed = [] if cannot() else missing(options.only)
        if needed:
            print(f"Installing {' '.join(needed)} ...", flush=True)
            install(needed)
        return 0
    if options.do == "inside":
        inside(options.work, options.only)
        return 0
    if options.do == "record":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return record(options.out or HERE / "recorded", options.only, options.stem)
    import check

    return check.main(options.folder or HERE / "recorded", options.stem, options.quiet)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
