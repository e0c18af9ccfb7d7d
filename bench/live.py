"""The highest rate at which nothing is lost, of `auditor live` and of others, in one run on one machine.

Two network namespaces with a pair of virtual interfaces between them; `tcpreplay` sends on one side, one receiver at a time listens on the
other. A rate passes if the receiver counted every packet that was sent, in one of two tries; the rates rise until one does not. All share the processors with
the sender, as on a busy VM. Needs root, iproute2, tcpreplay; receivers that are not installed are left out and named.

    python bench/live.py                         # all receivers: some minutes
    python bench/live.py --receivers auditor-dumpcap scapy --seconds 3
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RATES = (250, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 150_000, 200_000, 300_000)
FAST = 20_000
"""Receivers in compiled code begin here."""
TRIES = 2
"""What else the machine does may cost packets at any rate: so often a rate is tried before it counts as lossy."""
SENDER, RECEIVER = f"bench{os.getpid()}s", f"bench{os.getpid()}r"

SCAPY = """
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
from scapy.sendrecv import AsyncSniffer
import scapy.arch, scapy.layers.l2, scapy.layers.inet
count = 0
def one(packet):
    global count
    count += 1
sniffer = AsyncSniffer(iface='wire', prn=one, store=False)
sniffer.start()
while not hasattr(sniffer, 'stop_cb') : pass
print('ready', flush=True)
signal.sigwait({signal.SIGINT})
sniffer.stop()
print('counted', count, flush=True)
"""
PYSHARK = """
import signal, sys, threading
import pyshark
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
count = 0
def run():
    global count
    import asyncio
    asyncio.set_event_loop(asyncio.new_event_loop())
    for packet in pyshark.LiveCapture(interface='wire').sniff_continuously():
        count += 1
threading.Thread(target=run, daemon=True).start()
import time; time.sleep(5)
print('ready', flush=True)
signal.sigwait({signal.SIGINT})
print('counted', count, flush=True)
import os; os._exit(0)
"""


class Receiver(NamedTuple):
    """A way to receive."""

    argv: list[str]
    ready: str
    """What it says when it listens."""
    counted: Callable[[str], int | None]
    """Packets, from all that it said."""
    needs: str
    first: int = FAST


def _last(pattern: str) -> Callable[[str], int | None]:
    def find(text: str) -> int | None:
        found = re.findall(pattern, text)
        return int(found[-1]) if found else None

    return find


def receivers(inventory: Path) -> dict[str, Receiver]:
    live = [
        sys.executable,
        "-m",
        "auditor",
        "live",
        "wire",
        "--user",
        "root",
        "--inventory",
        str(inventory),
        "--format",
        "ndjson",
    ]
    packets = _last(r'"kind":"capture","path":"wire".*?"packets":(\d+)')
    return {
        "auditor-dumpcap": Receiver([*live, "--capture-with", "dumpcap"], "capturing", packets, "dumpcap"),
        "auditor-tcpdump": Receiver([*live, "--capture-with", "tcpdump"], "capturing", packets, "tcpdump"),
        "auditor-scapy": Receiver([*live, "--capture-with", "scapy"], "capturing", packets, sys.executable),
        "tshark -z conv,tcp": Receiver(
            ["tshark", "-i", "wire", "-q", "-B", "64", "-z", "conv,tcp"],
            "Capturing on",
            _last(r"(\d+) packets? captured"),
            "tshark",
        ),
        "scapy AsyncSniffer": Receiver(
            [sys.executable, "-c", SCAPY], "ready", _last(r"counted (\d+)"), sys.executable, 250
        ),
        "pyshark LiveCapture": Receiver(
            [sys.executable, "-c", PYSHARK], "ready", _last(r"counted (\d+)"), "tshark", 250
        ),
    }


def _run(*words: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True, **options)


def _ip(*words: str) -> None:
    _run("ip", *words)


def trial(receiver: Receiver, capture: Path, rate: int, seconds: float, packets: int) -> tuple[int, int, float, float]:
    """Sent, received, the rate that was reached, and seconds of CPU that the receiver took."""
    count = max(int(rate * seconds), 200)
    with tempfile.TemporaryFile("w+b") as said:
        began = os.times()
        process = subprocess.Popen(
            ["ip", "netns", "exec", RECEIVER, *receiver.argv],
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

        def text() -> str:
            said.seek(0)
            return said.read().decode("utf-8", "replace")

        end = time.monotonic() + 180
        while receiver.ready not in text():
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                raise SystemExit(f"{receiver.argv}: {text()[-500:]}")
            time.sleep(0.1)
        time.sleep(2)
        loops = -(-count // packets)
        words = [
            "tcpreplay",
            "-q",
            "-i",
            "wire",
            f"--pps={rate}",
            f"--limit={count}",
            f"--loop={loops}",
            "--preload-pcap",
            str(capture),
        ]
        sent = _run("ip", "netns", "exec", SENDER, *words).stdout
        done = re.search(r"Actual: (\d+) packets .* sent in ([\d.]+) seconds", sent)
        assert done, sent
        time.sleep(3 + (10 if "pyshark" in str(receiver.argv) else 0))  # what is on its way
        process.send_signal(signal.SIGINT)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        spent = os.times()
        received = receiver.counted(text())
    cpu = spent.children_user + spent.children_system - began.children_user - began.children_system
    return int(done[1]), received or 0, int(done[1]) / float(done[2]), cpu


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--capture", type=Path, default=HERE / "out" / "live.pcap", help="made where it is not there")
    parser.add_argument("--seconds", type=float, default=5.0, help="of sending, a rate")
    parser.add_argument("--receivers", nargs="*", default=[])
    parser.add_argument("--from-rate", type=int, default=0)
    args = parser.parse_args()
    if not args.capture.exists():
        args.capture.parent.mkdir(exist_ok=True)
        _run(sys.executable, HERE / "generate.py", "--packets", 200_000, "--out", args.capture)
    packets = int(re.search(r"= +(\d+)", _run("capinfos", "-cM", args.capture).stdout.replace(":", "="))[1])  # type: ignore[index]
    sys.path.insert(0, str(HERE))
    import soak

    with tempfile.TemporaryDirectory() as folder:
        inventory = Path(folder) / "inventory.yml"
        inventory.write_text(soak.inventory())
        _ip("netns", "add", SENDER)
        _ip("netns", "add", RECEIVER)
        try:
            _ip("link", "add", "wire", "netns", SENDER, "type", "veth", "peer", "name", "wire", "netns", RECEIVER)
            for name in (SENDER, RECEIVER):
                _run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
                _ip("-n", name, "link", "set", "wire", "up")
            print(
                f"{packets:,} packets of {args.capture.stat().st_size / packets:.0f} bytes on average, sent again and again; load {os.getloadavg()[0]:.1f}"
            )
            print(f"{'receiver':22} {'rate':>9} {'sent':>10} {'received':>10} {'lost':>8}  CPU s")
            best: dict[str, int] = {}
            for name, receiver in receivers(inventory).items():
                if args.receivers and not any(name.startswith(each) for each in args.receivers):
                    continue
                if not shutil.which(receiver.needs):
                    print(f"{name:22} left out: {receiver.needs} is not installed")
                    continue
                best[name] = 0
                for rate in (each for each in RATES if each >= max(args.from_rate, receiver.first)):
                    passed = False
                    for _ in range(TRIES):
                        sent, received, reached, cpu = trial(receiver, args.capture, rate, args.seconds, packets)
                        lost = f"{1 - received / sent:8.2%}"
                        print(f"{name:22} {reached:9,.0f} {sent:10,} {received:10,} {lost} {cpu:6.1f}", flush=True)
                        passed = received >= sent
                        if passed:
                            break
                    if not passed:
                        break
                    best[name] = max(best[name], round(reached))
            print()
            for name, rate in best.items():
                print(f"{name:22} {rate:9,} packets/s without loss")
        finally:
            for name in (SENDER, RECEIVER):
                with contextlib.suppress(subprocess.CalledProcessError):
                    _ip("netns", "del", name)


if __name__ == "__main__":
    main()
