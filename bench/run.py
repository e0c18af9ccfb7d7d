"""Times the auditor beside its yardsticks, in one run on one machine, and prints the ratios.

What is compared is **user + system CPU of a whole process** (interpreter, imports and cached machine code included), as the kernel accounts
it to the child at ``wait4``, children of the child included. Absolute figures drift with whatever else the machine does, up to twofold; so
the tools run in pairs, auditor, other, auditor, other, and only the ratio within a pair is judged: its median, with the least and the
greatest beside it.

The peak is ``ru_maxrss`` of the largest single process. A child starts out with the mark of the process that spawned it, so this file imports
nothing but the standard library, and a peak below about 20 MiB is its own.
"""

import argparse
import functools
import json
import os
import platform
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import foundation

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
OUT = BENCH / "out"
FLOOR = OUT / "floor"
RESULTS = BENCH / "RESULTS.md"

PCAP_HEADER_BYTES, RECORD_HEADER_BYTES = 24, 16
SMALL_CAPTURE_BYTES = 1_000_000
RAN = {0, 1, 3}
"""Exit status with which the auditor did its work: findings (1) and an incomplete capture (3) are results."""

ROLES = [
    *["diego_cell"] * 15,
    *["diego_brain"] * 3,
    *["diego_database"] * 3,
    *["cloud_controller"] * 3,
    *["mysql"] * 2,
    *["nats"] * 2,
    *["uaa"] * 2,
]
"""Of the generator's 30 hosts, in the order of their addresses."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took."""

    cpu_s: float
    wall_s: float
    peak_mib: float
    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Capture:
    """A file and the number of packets in it."""

    path: Path
    packets: int


@dataclass(frozen=True, slots=True)
class Peer:
    """Something to compare with."""

    name: str
    command: Callable[[Path], list[str]]
    connections: Callable[[Cost], int | None]
    absent: str | None = None
    """Why it cannot run here, or None."""
    slow: bool = False
    """Measured on a slice unless asked otherwise."""
    yardstick: bool = False
    """The ratio says what the auditor costs in units of it, not how many times faster the auditor is."""
    audit: bool = False
    """Compared with ``auditor audit``, not with the bare table."""


@dataclass(slots=True)
class Row:
    """Paired measurements of the auditor and one peer on one file."""

    shape: str
    peer: str
    capture: Capture
    whole: bool
    yardstick: bool
    audit: bool
    ours: list[Cost] = field(default_factory=list)
    theirs: list[Cost] = field(default_factory=list)
    connections: int | None = None

    def ratios(self) -> list[float]:
        """One a pair: above 1 is good for the auditor, but for a yardstick."""
        pairs = [(a.cpu_s, b.cpu_s) for a, b in zip(self.ours, self.theirs, strict=True)]
        return [a / b if self.yardstick else b / a for a, b in pairs]


def installed_environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of an installed program: Python keeps bytecode, whatever the caller of the benchmark has set for itself."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **(more or {})}


def measure(command: list[str], env: dict[str, str] | None = None) -> Cost:
    """Run to the end and ask the kernel what it took."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        actions = [(os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, err.fileno(), 2)]
        began = time.monotonic()
        pid = os.posix_spawnp(command[0], command, installed_environment(env), file_actions=actions)
        _, status, use = os.wait4(pid, 0)
        wall = time.monotonic() - began
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    return Cost(use.ru_utime + use.ru_stime, wall, use.ru_maxrss / 1024, os.waitstatus_to_exitcode(status), *texts)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- captures ---------------------------------------------------------------------------------------------------------------------------


def whole_capture(python: str, shape: str, packets: int, seed: int) -> Capture:
    """The generated capture; made if it is not there yet."""
    path = OUT / f"{shape}-{packets or 'full'}-{seed}.pcap"
    note = path.with_suffix(".json")
    if not (path.is_file() and note.is_file()):
        say(f"making {path.name}")
        cost = measure(
            [
                python,
                str(BENCH / "generate.py"),
                "--shape",
                shape,
                "--packets",
                str(packets),
                "--seed",
                str(seed),
                "--out",
                str(path),
            ]
        )
        if cost.status:
            raise SystemExit(f"generate.py failed:\n{cost.stderr}")
        made = dict(line.split() for line in cost.stdout.splitlines())
        note.write_text(json.dumps({name: int(value) for name, value in made.items()}), encoding="utf-8")
    return Capture(path, json.loads(note.read_text(encoding="utf-8"))["packets"])


def cut(capture: Capture, packets: int = 0, most_bytes: int = 0) -> Capture:
    """The first packets of a capture, as a file of its own; the same capture if it is not longer than that."""
    if packets and packets >= capture.packets:
        return capture
    path = capture.path.with_name(f"{capture.path.stem}-first-{packets or f'{most_bytes}B'}.pcap")
    kept = 0
    with capture.path.open("rb") as source, path.open("wb") as target:
        target.write(source.read(PCAP_HEADER_BYTES))
        while header := source.read(RECORD_HEADER_BYTES):
            frame = source.read(struct.unpack_from("<I", header, 8)[0])
            if (packets and kept == packets) or (most_bytes and target.tell() + len(header) + len(frame) > most_bytes):
                break
            target.write(header + frame)
            kept += 1
    return Capture(path, kept)


# --- tools ------------------------------------------------------------------------------------------------------------------------------


def build_floor() -> str | None:
    """Compile floor.c; why not, if it fails."""
    OUT.mkdir(exist_ok=True)
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        return "no C compiler"
    done = measure(
        [compiler, "-O3", "-march=native", "-std=gnu11", "-Wall", "-Wextra", "-o", str(FLOOR), str(BENCH / "floor.c")]
    )
    return done.stderr.strip().splitlines()[0] if done.status else None


def _said(name: str) -> Callable[[Cost], int | None]:
    def find(cost: Cost) -> int | None:
        found = re.search(rf"^{name} (\d+)$", cost.stdout, re.MULTILINE)
        return int(found[1]) if found else None

    return find


def peers(scratch: Path) -> list[Peer]:
    """Everything to compare with, the absent ones too."""
    floor_absent = build_floor()
    venv = OUT / "venv" / "bin" / "python"
    nfstream_absent = (
        None
        if venv.is_file() and not measure([str(venv), "-c", "import nfstream"]).status
        else "not installed (bench/setup_peers.sh)"
    )
    tshark, argus = shutil.which("tshark"), shutil.which("argus") or shutil.which("argus", path="/usr/sbin:/sbin")
    suricata, ndpi = shutil.which("suricata"), shutil.which("ndpiReader")
    argus_out = scratch / "argus.out"

    def suricata_command(path: Path) -> list[str]:
        (scratch / "eve.json").unlink(missing_ok=True)
        words = ["-c", str(BENCH / "peers" / "suricata.yaml"), "-l", str(scratch), "-S", "/dev/null"]
        return [suricata or "suricata", *words, "--runmode", "single", "-r", str(path)]

    def argus_connections(_: Cost) -> int | None:
        if not (ra := shutil.which("ra")):
            return None
        # A connection is one or more status records (argus reports long ones in between): the distinct tuples are counted.
        lines = measure(
            [ra, "-n", "-r", str(argus_out), "-s", "saddr", "sport", "daddr", "dport", "-c", ",", "-", "tcp"]
        ).stdout
        seen = {
            tuple(sorted((tuple(line.split(",")[:2]), tuple(line.split(",")[2:4]))))
            for line in lines.splitlines()
            if line[:1].isdigit()
        }
        return len(seen)

    def argus_command(path: Path) -> list[str]:
        argus_out.unlink(missing_ok=True)
        return [argus or "argus", "-X", "-U", "64", "-r", str(path), "-w", str(argus_out)]

    return [
        Peer("floor (C)", lambda p: [str(FLOOR), str(p)], _said("tcp_connections"), floor_absent, yardstick=True),
        Peer(
            "floor (C), slots reused",
            lambda p: [str(FLOOR), "--reuse", str(p)],
            _said("tcp_connections"),
            floor_absent,
            yardstick=True,
        ),
        Peer("argus", argus_command, argus_connections, None if argus else "not installed (bench/setup_peers.sh)"),
        Peer(
            "suricata (eve tls+flow)",
            suricata_command,
            lambda _: sum('"event_type":"flow"' in line for line in (scratch / "eve.json").open(encoding="utf-8")),
            None if suricata else "not installed (bench/setup_peers.sh)",
            audit=True,
        ),
        Peer(
            "ndpiReader",
            lambda p: [ndpi or "ndpiReader", "-q", "-i", str(p)],
            lambda _: None,
            None if ndpi else "not installed (bench/setup_peers.sh)",
            audit=True,
        ),
        Peer(
            "nfstream",
            lambda p: [str(venv), str(BENCH / "peers" / "nfstream_flows.py"), str(p)],
            _said("tcp_flows"),
            nfstream_absent,
            slow=True,
            audit=True,
        ),
        Peer(
            "tshark -z conv,tcp",
            lambda p: [tshark or "tshark", "-n", "-q", "-z", "conv,tcp", "-r", str(p)],
            lambda cost: cost.stdout.count("<->"),
            None if tshark else "not installed (bench/setup_peers.sh)",
            slow=True,
        ),
    ]


@dataclass(frozen=True, slots=True)
class Auditor:
    """The command under test."""

    python: str
    scratch: Path
    inventory: Path

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> Cost:
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        cost = measure([self.python, "-m", "auditor", *arguments], {"PYTHONPATH": path, **(env or {})})
        if cost.status not in RAN:
            raise SystemExit(f"auditor {' '.join(arguments)}: exit status {cost.status}\n{cost.stderr[-2000:]}")
        return cost

    def connections(self, path: Path) -> Cost:
        return self.run("connections", str(path), "--format", "csv", "--output", str(self.scratch / "connections.csv"))

    def audit(self, path: Path, env: dict[str, str] | None = None, inventory: Path | None = None) -> Cost:
        options = (
            "--inventory",
            str(inventory or self.inventory),
            "--format",
            "json",
            "--output",
            str(self.scratch / "audit.json"),
        )
        return self.run("audit", str(path), *options, env=env)

    def table(self, path: Path, evidence: bool) -> Cost:
        """The connection table as DataFrames, with what inspectors and policy are told of each connection or without it."""
        code = f"from auditor import api; api.connections([{str(path)!r}], evidence={evidence})"
        cost = measure([self.python, "-c", code], {"PYTHONPATH": str(ROOT)})
        if cost.status:
            raise SystemExit(f"connections, evidence={evidence}: exit status {cost.status}\n{cost.stderr[-2000:]}")
        return cost

    def rows(self) -> int:
        """Rows of the last connection table."""
        with (self.scratch / "connections.csv").open("rb") as table:
            return sum(1 for _ in table) - 1


# --- measuring --------------------------------------------------------------------------------------------------------------------------


def pair(row: Row, ours: Callable[[Path], Cost] | None, theirs: Peer, n: int) -> Row:
    """Fill a row with n pairs."""
    for number in range(n):
        say(f"{row.shape}, {row.peer}, {row.capture.packets} packets: {number + 1} of {n}")
        if ours:
            row.ours.append(ours(row.capture.path))
        cost = measure(theirs.command(row.capture.path))
        if cost.status:
            raise SystemExit(f"{theirs.name}: exit status {cost.status}\n{cost.stderr[-2000:]}")
        row.theirs.append(cost)
    row.connections = theirs.connections(row.theirs[-1])
    return row


def median(values: list[float]) -> float:
    return statistics.median(values)


def spread(values: list[float]) -> str:
    return f"{median(values):.2f} [{min(values):.2f}-{max(values):.2f}]"


def rate(costs: list[Cost], packets: int) -> float:
    """Packets per CPU second."""
    return packets / median([cost.cpu_s for cost in costs])


def line(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def cost_line(shape: str, tool: str, capture: Capture, whole: bool, costs: list[Cost], connections: int | None) -> str:
    return line(
        shape,
        tool,
        f"{capture.packets:,}" + ("" if whole else " (slice)"),
        f"{median([c.cpu_s for c in costs]):.2f}",
        f"{rate(costs, capture.packets) / 1000:,.0f}",
        f"{max(c.peak_mib for c in costs):,.0f}",
        "" if connections is None else f"{connections:,}",
        len(costs),
    )


def versions(auditor: Auditor) -> Iterator[str]:
    """What was measured on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    yield f"{model[1] if model else platform.machine()}, {os.cpu_count()} cores, Linux {platform.release().split('-')[0]}"
    code = "import numba, numpy, platform; print('Python', platform.python_version(), 'numba', numba.__version__, 'numpy', numpy.__version__)"
    commands = {
        "auditor": [auditor.python, "-c", code],
        "commit": ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
        "cc": ["cc", "-dumpfullversion"],
        "tshark": ["tshark", "--version"],
        "argus": [shutil.which("argus", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "argus", "-h"],
        "suricata": ["suricata", "-V"],
        "nfstream": [str(OUT / "venv/bin/python"), "-c", "import nfstream; print(nfstream.__version__)"],
    }
    for name, command in commands.items():
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            text = (done.stdout or done.stderr).strip().splitlines()
            yield f"{name}: {text[0] if text else 'unknown'}"


def startup(auditor: Auditor, capture: Capture, n: int) -> list[str]:
    """What it costs before there is anything to do."""
    small = cut(capture, most_bytes=SMALL_CAPTURE_BYTES)
    lines = ["", "## Start-up", "", line("command", "CPU s", "wall s", "peak MiB", "n"), line(*["---"] * 5)]

    def add(name: str, costs: list[Cost]) -> None:
        cells = (
            f"{median([c.cpu_s for c in costs]):.2f}",
            f"{median([c.wall_s for c in costs]):.2f}",
            f"{max(c.peak_mib for c in costs):.0f}",
        )
        lines.append(line(name, *cells, len(costs)))

    with tempfile.TemporaryDirectory() as empty:
        add(
            "first run: `auditor audit` with an empty code cache",
            [auditor.audit(small.path, {"NUMBA_CACHE_DIR": empty})],
        )
    auditor.audit(small.path)
    add(
        f"`auditor audit` on a 1 MB capture ({small.packets:,} packets), warm",
        [auditor.audit(small.path) for _ in range(n)],
    )
    add("`auditor --help`", [auditor.run("--help") for _ in range(n)])
    return lines


def run(args: argparse.Namespace, scratch: Path) -> str:
    """Measure everything asked for; the report in Markdown."""
    inventory = OUT / "inventory.json"
    OUT.mkdir(exist_ok=True)
    hosts = [{"ip": f"10.0.16.{10 + i}", "name": f"{role}/{i}", "role": role} for i, role in enumerate(ROLES)]
    inventory.write_text(json.dumps(hosts), encoding="utf-8")
    of_diego = OUT / "inventory-diego.json"
    of_diego.write_text(json.dumps(foundation.inventory()), encoding="utf-8")
    inventories = {"bulk": inventory, "many": inventory, "diego": of_diego}
    auditor = Auditor(args.python, scratch, inventory)
    table = peers(scratch)
    if args.peers is not None:
        table = [peer for peer in table if any(peer.name.startswith(name) for name in args.peers)]
    absent = [peer for peer in table if peer.absent]
    table = [peer for peer in table if not peer.absent]

    costs = [
        line("capture", "tool", "packets", "CPU s", "kpkt / CPU s", "peak MiB", "TCP connections", "n"),
        line(*["---"] * 8),
    ]
    ratios = [
        line("capture", "compared with", "packets", "the auditor ...", "median [min-max]", "n"),
        line(*["---"] * 6),
    ]
    tail: list[str] = []
    for shape in args.shapes:
        capture = whole_capture(args.python, shape, args.packets, args.seed)
        if args.auditor:
            auditor.connections(cut(capture, most_bytes=SMALL_CAPTURE_BYTES).path)  # machine code into the cache
        whole: list[Cost] = []
        rows = []
        for peer in table:
            on = cut(capture, args.slice) if peer.slow and not args.whole else capture
            n = args.peer_pairs if not peer.yardstick else args.pairs
            row = Row(shape, peer.name, on, on == capture, peer.yardstick, peer.audit)
            ours = functools.partial(auditor.audit, inventory=inventories[shape]) if peer.audit else auditor.connections
            rows.append(pair(row, ours if args.auditor else None, peer, n))
            if row.whole and not peer.audit:
                whole += row.ours
        if args.auditor:
            if not whole:
                whole = [auditor.connections(capture.path) for _ in range(args.peer_pairs)]
            else:
                auditor.connections(capture.path)
            found = auditor.rows()
            costs.append(cost_line(shape, "**auditor connections**", capture, True, whole, found))
            audits = []
            for number in range(args.peer_pairs):
                say(f"{shape}, auditor audit: {number + 1} of {args.peer_pairs}")
                audits.append(auditor.audit(capture.path, inventory=inventories[shape]))
            costs.append(cost_line(shape, "**auditor audit** (JSON)", capture, True, audits, None))
            pairs = []
            for number in range(args.peer_pairs):
                say(f"{shape}, evidence: {number + 1} of {args.peer_pairs}")
                pairs.append((auditor.table(capture.path, False), auditor.table(capture.path, True)))
            extra = [(with_.cpu_s - without.cpu_s) / without.cpu_s for without, with_ in pairs]
            tail.append(
                f"- {shape}: evidence costs {spread(extra)} times the connection table without it (n {len(pairs)}, both as DataFrames)."
            )
            allowed = 256 + found / 1024
            tail.append(
                f"- {shape}: `auditor connections` peaks at {max(c.peak_mib for c in whole):.0f} MiB; 256 MiB + 1 KiB a connection is {allowed:.0f} MiB."
            )
        for row in rows:
            if row.ours and not row.whole:
                costs.append(
                    cost_line(
                        shape,
                        f"auditor {'audit' if row.audit else 'connections'}, beside {row.peer}",
                        row.capture,
                        False,
                        row.ours,
                        None,
                    )
                )
            costs.append(cost_line(shape, row.peer, row.capture, row.whole, row.theirs, row.connections))
            if not row.ours:
                continue
            verb = "costs x times the CPU" if row.yardstick else "is x times as fast"
            part = "whole file" if row.whole else "same slice, start-up included"
            ratios.append(
                line(
                    shape,
                    row.peer,
                    f"{row.capture.packets:,} ({part})",
                    f"{'audit' if row.audit else 'connections'} {verb}",
                    spread(row.ratios()),
                    len(row.theirs),
                )
            )
            if not row.whole:
                per_packet = [c.cpu_s / row.capture.packets for c in row.theirs]
                ours = median([c.cpu_s for c in (audits if row.audit else whole)]) / capture.packets
                cells = f"their slice, our whole file ({capture.packets:,})", verb + " a packet (not paired)"
                ratios.append(line(shape, row.peer, *cells, spread([t / ours for t in per_packet]), len(row.theirs)))

    report = ["# Benchmark", "", "Made by `bench/run.py`; what is measured and how fair it is: `bench/README.md`.", ""]
    report += [f"- {text}" for text in versions(auditor)]
    report += [f"- not compared: {peer.name}: {peer.absent}" for peer in absent]
    report += ["", "## CPU and memory", "", *costs]
    if args.auditor:
        report += ["", *tail, "", "## Ratios, paired", "", *ratios]
        report += startup(auditor, whole_capture(args.python, args.shapes[0], args.packets, args.seed), args.pairs)
    return "\n".join(report) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Measure the auditor beside its yardsticks.")
    parser.add_argument("--shapes", nargs="+", choices=["bulk", "many", "diego"], default=["bulk", "many", "diego"])
    parser.add_argument(
        "--packets", type=int, default=0, help="packets a capture (default: the shape's, some millions)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=5, help="pairs with the C floor, and runs of each start-up figure")
    parser.add_argument("--peer-pairs", type=int, default=3, help="pairs with each other peer")
    parser.add_argument(
        "--peers", nargs="*", help="only those whose names begin so: floor argus suricata ndpiReader nfstream tshark"
    )
    parser.add_argument("--slice", type=int, default=500_000, help="packets that slow peers are measured on")
    parser.add_argument("--whole", action="store_true", help="slow peers on the whole file too (minutes, gigabytes)")
    parser.add_argument("--no-auditor", dest="auditor", action="store_false", help="measure the peers alone")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the auditor and the generator")
    parser.add_argument("--core", type=int, help="pin everything to this core")
    parser.add_argument("--write", action="store_true", help=f"write the report to {RESULTS.relative_to(ROOT)} too")
    args = parser.parse_args()
    if args.core is not None:
        os.sched_setaffinity(0, {args.core})
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        report = run(args, Path(scratch))
    print(report, end="")
    if args.write:
        RESULTS.write_text(report, encoding="utf-8")


if __name__ == "__main__":
    main()
