"""What agents and their collector cost: bytes sent for bytes captured, CPU and memory of an agent, and a collector that many agents deliver to at once.

    bench/agents.py follow bench/out/diego.pcap            # an agent reads it as it would capture
    bench/agents.py replay bench/out/diego.pcap --agents 50 --windows 4 --connections 600

``replay`` sends what was recorded of the capture as if each agent had seen connections of its own: the same ones, between other addresses. All on loopback.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from auditor import pipeline
from auditor.agents import certificates
from auditor.agents.agent import Agent, AgentFeed, Sender
from auditor.agents.partial import certificates_of, may_leave
from auditor.agents.spool import Spool
from auditor.agents.transport import context
from auditor.agents.wire import Window, write_window
from auditor.capture.live import Place, Stream
from auditor.conntrack import TrackedPart
from auditor.inspectors._examine import Examiner
from auditor.model.limits import Limits

SECOND = 1_000_000_000
RATE = 20_000


def follow(capture: Path, window_s: int) -> None:
    """An agent alone, without its sender: what it makes, and what that costs."""
    with tempfile.TemporaryDirectory() as name:
        warm = _agent(
            Path(__file__).resolve().parents[1] / "captures/sample/diego.pcapng", Path(name) / "warm", window_s
        )
        warm.run()
        before = _cpu()
        agent = _agent(capture, Path(name) / "spool", window_s)
        agent.run()
        spent = _cpu() - before
        packets, size = agent.feed.packets, agent.feed.bytes
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"packets {packets:,}, captured {size:,} bytes, windows {agent.spool.last}")
        print(f"sent {agent.made_bytes:,} bytes: {100 * agent.made_bytes / size:.3f} % of what was captured")
        print(
            f"CPU {spent:.2f} s: {1e6 * spent / packets:.2f} us a packet, {100 * RATE * spent / packets:.1f} % of a core at {RATE:,} packets a second (without tcpdump)"
        )
        print(f"peak memory {peak:.0f} MiB")


def _cpu() -> float:
    told = resource.getrusage(resource.RUSAGE_SELF)
    return told.ru_utime + told.ru_stime


def _agent(capture: Path, spool: Path, window_s: int) -> Agent:
    feed = AgentFeed(
        Place("file", str(capture), path=str(capture)),
        lambda: Stream(str(capture), None, os.open(capture, os.O_RDONLY)),
        window_ns=window_s * SECOND,
        by_packets=True,
        limits=Limits(connections=100_000),
        tell=lambda _: None,
        clock=time.time_ns,
    )
    return Agent(
        "bench", feed, Spool(spool, 1 << 30), window_s * SECOND, time.time_ns, lambda *_, **__: None, once=True
    )


COLLECTOR = """
store = "history"
[tls]
ca = "certs/collector/ca.pem"
certificate = "certs/collector/cert.pem"
key = "certs/collector/key.pem"
[collect]
listen = "127.0.0.1:{port}"
agents = {names}
folder = "received"
wait = "600s"
"""


def replay(capture: Path, agents: int, windows: int, connections: int) -> None:
    """Many agents deliver to one collector at once."""
    followed = pipeline.follow_one(str(capture), 0, {}, False)
    examiner = Examiner()
    may_leave(followed.part, examiner, last=True)
    held = {**followed.certificates, **examiner.certificates.der}
    names = [f"vm-{k}" for k in range(agents)]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        certificates.make(place / "certs", ["collector", *names], datetime.datetime.now(datetime.UTC))
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        (place / "collector.toml").write_text(COLLECTOR.format(port=port, names=json.dumps(names)))
        sent = 0
        spools = []
        for k, name in enumerate(names):
            spool = Spool(place / "spools" / name, 1 << 30)
            for number in range(windows):
                sent += spool.put(
                    lambda told, k=k, n=number, s=spool, name=name: _window(
                        followed, held, examiner, name, s.life, told, k, n, connections
                    )
                )
            spools.append(spool)
        print(
            f"{agents} agents, {windows} windows each, {connections} connections a window: {sent:,} bytes, {sent / (agents * windows * connections):.0f} a connection"
        )
        log = (place / "collect.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "auditor", "collect", "collector.toml"], cwd=place, stderr=log
        )
        try:
            _measure(place, process, spools, names, port, agents * windows * connections, windows)
        finally:
            process.kill()


def _measure(place, process, spools, names, port, total, windows) -> None:
    while b"waiting for" not in (place / "collect.log").read_bytes():
        time.sleep(0.1)
    before = _of(process.pid)
    began = time.monotonic()
    senders = []
    for name, spool in zip(names, spools, strict=True):
        own = place / "certs" / name
        tls = context(str(own / "ca.pem"), str(own / "cert.pem"), str(own / "key.pem"), server=False)
        sender = Sender(
            name, spool, ("127.0.0.1", port), "collector", tls, 60 * SECOND, time.time_ns, lambda *_, **__: None
        )
        sender.until_empty.set()
        senders.append(threading.Thread(target=sender.run, daemon=True))
    for each in senders:
        each.start()
    for each in senders:
        each.join()
    delivered = time.monotonic() - began
    while any((place / "received").glob("*/*.window")):
        time.sleep(0.1)
    spent = time.monotonic() - began
    cpu = _of(process.pid)[0] - before[0]
    store = sum(each.stat().st_size for each in (place / "history").rglob("*") if each.is_file())
    print(
        f"delivered in {delivered:.1f} s, judged in {spent:.1f} s: {total / spent:,.0f} connections a second; CPU {cpu:.1f} s"
    )
    print(f"collector's peak memory {_of(process.pid)[1]:.0f} MiB (before: {before[1]:.0f})")
    print(f"store {store:,} bytes for {windows} windows: {store / total:.0f} a connection")
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    print((place / "collect.log").read_text()[-600:])


def _of(pid: int) -> tuple[float, float]:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    status = Path(f"/proc/{pid}/status").read_text()
    return (int(words[11]) + int(words[12])) / ticks, int(status.split("VmHWM:")[1].split()[0]) / 1024


def _window(followed, held, examiner, name, life, number, k, n, connections) -> bytes:
    """A stretch of the connections, between addresses of this agent's own."""
    part = followed.part
    start = (k * 7 + n * 131) * connections % max(len(part.rows) - connections, 1)
    rows = part.rows[start : start + connections].copy()
    for end in ("a_lo", "b_lo"):
        rows[end] += np.uint64(k << 16)
    rows["side"]["isn"] ^= np.uint32(secrets.randbits(24) | (n << 24))
    rows["outer"] = -1
    facts = [*part.facts[start : start + connections]]
    own = TrackedPart(rows, facts, first_ns=int(rows["first_ns"].min()), last_ns=int(rows["last_ns"].max()))
    capture = replace(
        followed.capture, packets=int(rows["side"]["pkts"].sum()), bytes=int(rows["side"]["ip_bytes"].sum())
    )
    window = Window(
        name,
        life,
        number,
        number * 60 * SECOND - 60 * SECOND,
        number * 60 * SECOND,
        pipeline.Followed(capture, own, certificates_of(facts, held)),
    )
    return write_window(window, examiner.applications)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("follow", "replay"))
    parser.add_argument("capture", type=Path)
    parser.add_argument("--window", type=int, default=60)
    parser.add_argument("--agents", type=int, default=50)
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--connections", type=int, default=600)
    told = parser.parse_args()
    if told.what == "follow":
        follow(told.capture, told.window)
    else:
        replay(told.capture, told.agents, told.windows, told.connections)


if __name__ == "__main__":
    main()
