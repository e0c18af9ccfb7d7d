"""Days of running in minutes: a live session fed by the generator through a pipe, windows by the packets' own clock, memory watched.

The session is the one of `auditor live` (same feed, table, windows, judging), with two things handed in: its clock is the time of the packets,
so that a day of windows passes in minutes, and its source is a pipe. Into that goes one capture of `generate.py` again and again, each round later by
its own length. `bulk` has 250 packets a connection, some of them in windows to come; `many` has 14, and a thousand new connections a second: a table
that forgets nothing would grow all the time.

    python bench/soak.py                                                  # 5 million packets of `many`
    python bench/soak.py --shape bulk --window 120 --packets 100000000    # the figures in docs/live.md: 100 million,
    python bench/soak.py --shape many --packets 12000000                  # and a million connections

Exits 1 where the resident memory after the last window is more than a tenth above that after the first fifth of them.
"""

import argparse
import ipaddress
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from auditor.capture import open_capture
from auditor.jobs import live

HERE = Path(__file__).resolve().parent
MIB = 1024 * 1024
NS = 1_000_000_000
ROUND_PACKETS = {"bulk": 5_000_000, "many": 4_100_000}


class Capture(NamedTuple):
    """What is played again and again."""

    path: Path
    packets: int
    length_ns: int


def capture(shape: str) -> Capture:
    """The generator's capture, made where it is not there yet."""
    path = HERE / "out" / f"soak-{shape}.pcap"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        words = [
            sys.executable,
            HERE / "generate.py",
            "--shape",
            shape,
            "--packets",
            str(ROUND_PACKETS[shape]),
            "--out",
            path,
        ]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    with open_capture(path) as reader:
        for _ in reader.batches():
            pass
        told = reader.summary()
    return Capture(path, told.packets, told.last_ns - told.first_ns + NS)


def write(path: Path, pipe: Path, rounds: int) -> None:
    """The file, so many times, as one capture: its header once."""
    with pipe.open("wb", buffering=0) as out:
        for number in range(rounds):
            with path.open("rb", buffering=0) as given:
                given.seek(24 if number else 0)
                while data := given.read(MIB):
                    out.write(data)


class Rounds(live.Feed):
    """A source whose packets come again, later by the capture's length each time."""

    def __init__(self, made: Capture, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._made = made

    def _taken(self, batch: Any, corrected: int | None, before: int) -> Any:
        taken = super()._taken(batch, corrected, before)
        number = (taken.first_frame_no - 1 + np.arange(len(taken))) // self._made.packets
        return replace(taken, ts_ns=taken.ts_ns + number * self._made.length_ns)


def resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packets", type=int, default=5_000_000)
    parser.add_argument("--shape", choices=sorted(ROUND_PACKETS), default="many")
    parser.add_argument("--window", type=float, default=30.0, help="seconds of the packets' clock a window")
    parser.add_argument("--connections", type=int, default=250_000, help="held at once")
    args = parser.parse_args()

    from auditor.capture.live import open_stream, place_of
    from auditor.model.limits import Limits
    from auditor.policy.inventory import load_inventory
    from auditor.policy.loader import load_policy

    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder) / "packets"
        os.mkfifo(pipe)
        inventory_file = Path(folder) / "inventory.yml"
        inventory_file.write_text(inventory())
        policy = load_policy(["tas-diego"])
        who = load_inventory([str(inventory_file)], policy)
        place = place_of(str(pipe))
        limits = Limits(connections=args.connections)
        notices: deque[str] = deque()
        made = capture(args.shape)
        rounds = -(-args.packets // made.packets)
        writer = threading.Thread(target=write, args=(made.path, pipe, rounds), daemon=True)
        writer.start()
        feed = Rounds(
            made, place, lambda: open_stream(place), index=0, limits=limits, tell=notices.append, clock=lambda: 0
        )
        session = live.Session(
            [feed],
            live.judge_with(policy, who, {"scope": "all"}),
            lambda: feed.tracker.clock_ns or 0,
            limits=limits,
            window_ns=int(args.window * 1e9),
            early=False,
            notices=notices,
        )
        began = time.monotonic()
        print("  window      packets  connections  reported   held   memory")
        memory: list[int] = []
        seen = 0
        for event in session.events():
            if isinstance(event, live.Notice):
                print(f"  {event.says}")
                continue
            if isinstance(event, live.Window):
                reported = event.audit.summary["connections"]
                seen += reported
                del event
                memory.append(resident())
                status = session.status()
                print(
                    f"{session.windows:8,} {status.packets:12,} {status.connections:12,} {reported:9,} "
                    f"{len(feed.tracker):6,} {memory[-1] / MIB:8.0f} MiB",
                    flush=True,
                )
        writer.join()
        spent = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF)
    early = max(memory[: max(len(memory) // 5, 1)])
    print(
        f"{status.packets:,} packets, {status.connections:,} connections, {session.windows} windows in {spent:.0f} s "
        f"({status.packets / spent:,.0f} packets/s, judging included); {peak.ru_utime + peak.ru_stime:.0f} s of CPU; "
        f"{threading.active_count() - 1} threads left; memory after the first fifth of the windows at most {early / MIB:.0f} MiB, "
        f"at the end {memory[-1] / MIB:.0f} MiB, peak {peak.ru_maxrss / 1024:.0f} MiB"
    )
    return 0 if memory[-1] <= early * 1.1 else 1


def inventory() -> str:
    """Every host of the generator, with a role of the documented paths."""
    sys.path.insert(0, str(HERE))
    import generate

    roles = ("diego_cell", "diego_brain", "diego_database", "cloud_controller", "nats", "mysql_proxy", "uaa")
    lines = ["schema: auditor.inventory/1", "vms:"]
    for number in range(generate.HOSTS):
        role = roles[number % len(roles)]
        lines.append(f"  - {{name: {role}/{number}, ips: [{ipaddress.ip_address(0x0A00100A + number)}]}}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
