"""Delivery: who may speak, what is kept, and that nothing is lost silently or counted twice, whoever is killed when."""

from __future__ import annotations

import asyncio
import datetime
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from auditor.agents import certificates
from auditor.agents.agent import Sender
from auditor.agents.collector import Collector, Store
from auditor.agents.config import load_agent, load_collector
from auditor.agents.spool import Spool
from auditor.agents.transport import Hello, Refused, Welcome, address_of, context, message, receive
from auditor.agents.wire import read_window, write_window
from auditor.errors import ConfigError
from auditor.jobs.log import Log
from tests.agents.windows import ROOT, followed_of, window_of

SECOND = 1_000_000_000
COLLECTOR = """
store = "history"
[tls]
ca = "certs/collector/ca.pem"
certificate = "certs/collector/cert.pem"
key = "certs/collector/key.pem"
[collect]
listen = "127.0.0.1:{port}"
agents = ["cell-0", "cell-1"]
folder = "received"
wait = "{wait}"
[[inventory]]
file = "{inventory}"
"""
AGENT = """
name = "{name}"
[tls]
ca = "certs/{holder}/ca.pem"
certificate = "certs/{holder}/cert.pem"
key = "certs/{holder}/key.pem"
[collector]
address = "127.0.0.1:{port}"
name = "collector"
[capture]
source = "{source}"
[spool]
folder = "spool-{name}"
"""


@pytest.fixture
def place(tmp_path):
    """A folder with certificates of one CA."""
    certificates.make(
        tmp_path / "certs", ["collector", "cell-0", "cell-1", "stranger"], datetime.datetime.now(datetime.UTC)
    )
    return tmp_path


def configured(place: Path, port: int, wait: str = "30s") -> Path:
    inventory = ROOT / "captures" / "sample" / "lab.inventory.yml"
    (place / "collector.toml").write_text(COLLECTOR.format(port=port, wait=wait, inventory=inventory))
    return place / "collector.toml"


def agent_of(place: Path, name: str, port: int, source: str = "none.pcap", holder: str | None = None) -> Path:
    (place / f"{name}.toml").write_text(AGENT.format(name=name, port=port, source=source, holder=holder or name))
    return place / f"{name}.toml"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


class OnlyTaking(Collector):
    """Judges nothing."""

    def _due(self, now_ns: int, began_ns: int) -> bool:
        return False


@contextmanager
def collecting(place: Path, wait: str = "30s", judged: bool = False):
    """A collector in a thread. judged: it judges; else it only takes."""
    said: list[str] = []
    config = load_collector(configured(place, free_port(), wait))
    made = (Collector if judged else OnlyTaking)(config, Log(write=said.append), time.time_ns, {})
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=lambda: loop.run_until_complete(made.run()), daemon=True)
    thread.start()
    until(lambda: made.port)
    try:
        yield made, said
    finally:
        loop.call_soon_threadsafe(made.stop)
        thread.join(20)
        assert not thread.is_alive()


def until(what, seconds: float = 30.0):
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def sender_of(
    place: Path, name: str, port: int, spool: Spool, holder: str | None = None, said: list[str] | None = None
) -> Sender:
    config = load_agent(agent_of(place, name, port, holder=holder))
    tls = context(config.tls.ca, config.tls.certificate, config.tls.key, server=False)
    told = [] if said is None else said
    made = Sender(
        name,
        spool,
        ("127.0.0.1", port),
        "collector",
        tls,
        60 * SECOND,
        time.time_ns,
        lambda _, says, *__, **___: told.append(says),
    )
    made.until_empty.set()
    return made


def filled(place: Path, name: str, count: int = 3) -> Spool:
    spool = Spool(place / f"spool-{name}", 64 << 20)
    for k in range(count):
        spool.put(lambda number, k=k: window_of(name, spool.life, number, k))
    return spool


def test_windows_arrive_once_and_in_order(place):
    spool = filled(place, "cell-0")
    with collecting(place) as (collector, said):
        sender_of(place, "cell-0", collector.port, spool).run()
        assert spool.waiting == (0, 0)
        names = sorted(each.name for each in (place / "received" / "cell-0").glob("*.window"))
        assert names == [f"{spool.life}.{number:016}.window" for number in (1, 2, 3)]
        assert any("cell-0 is connected" in each for each in said)


def test_what_was_taken_is_taken_again_and_kept_once(place):
    """An acknowledgement that is lost: the agent sends again, also to a collector that has audited and removed it."""
    spool = filled(place, "cell-0", 2)
    raws = {each.name: each.read_bytes() for each in (place / "spool-cell-0").glob("*.window")}
    for removed in (False, True):
        with collecting(place) as (collector, _):
            sender_of(place, "cell-0", collector.port, spool).run()
            kept = sorted((place / "received" / "cell-0").glob("*.window"))
            assert len(kept) == (0 if removed else 2)
            for each in kept:
                each.unlink()  # as a pass does
        (place / "spool-cell-0" / "0000000002.sent").unlink()
        for name, raw in raws.items():
            (place / "spool-cell-0" / name).write_bytes(raw)
        spool = Spool(place / "spool-cell-0", 64 << 20)
        assert spool.waiting[0] == 2


def test_a_new_spool_is_a_new_life(place):
    with collecting(place) as (collector, _):
        first = filled(place, "cell-0", 1)
        sender_of(place, "cell-0", collector.port, first).run()
        for each in (place / "spool-cell-0").iterdir():
            each.unlink()
        second = filled(place, "cell-0", 1)
        sender_of(place, "cell-0", collector.port, second).run()
        assert first.life != second.life
        assert len(list((place / "received" / "cell-0").glob("*.window"))) == 2


@pytest.mark.parametrize(
    ("name", "holder", "says"),
    [
        ("cell-0", "stranger", "the certificate of stranger is not cell-0's"),
        ("cell-0", "cell-1", "the certificate of cell-1 is not cell-0's"),
        ("stranger", "stranger", "stranger is not among the agents"),
    ],
)
def test_who_is_not_in_the_list_is_refused_by_name(place, name, holder, says):
    spool = filled(place, name, 1)
    told: list[str] = []
    with collecting(place) as (collector, said):
        sender = sender_of(place, name, collector.port, spool, holder=holder, said=told)
        thread = threading.Thread(target=sender.run, daemon=True)
        thread.start()
        until(lambda: any(says in each for each in told))
        sender.stop()
        thread.join(10)
        assert any(says in each for each in said)
        assert not list((place / "received").glob("*/*.window"))
        assert spool.waiting[0] == 1


def test_a_certificate_of_another_ca_gets_no_connection(place, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    certificates.make(other / "certs", ["cell-0"], datetime.datetime.now(datetime.UTC))
    tls = context(
        str(place / "certs/cell-0/ca.pem"),
        str(other / "certs/cell-0/cert.pem"),
        str(other / "certs/cell-0/key.pem"),
        server=False,
    )
    bare = ssl.create_default_context(cafile=str(place / "certs/cell-0/ca.pem"))
    with collecting(place) as (collector, _):
        for each in (tls, bare):
            with (
                socket.create_connection(("127.0.0.1", collector.port)) as plain,
                pytest.raises((OSError, EOFError)),
                each.wrap_socket(plain, server_hostname="collector") as connection,
            ):
                connection.sendall(message(Hello("cell-0", "0" * 16, 1, 60 * SECOND)))
                receive(connection, Welcome | Refused)
        assert not list((place / "received").glob("*/*.window"))


@pytest.mark.parametrize(
    "raw", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x03abc", b"\0\0\0\x01\xc0", b"GET / HTTP/1.1\r\n\r\n"]
)
def test_who_breaks_the_rules_loses_the_connection_and_nothing_else(place, raw):
    config = load_agent(agent_of(place, "cell-0", 1))
    tls = context(config.tls.ca, config.tls.certificate, config.tls.key, server=False)
    spool = filled(place, "cell-0", 1)
    with collecting(place) as (collector, _):
        with (
            socket.create_connection(("127.0.0.1", collector.port)) as plain,
            tls.wrap_socket(plain, server_hostname="collector") as connection,
        ):
            connection.settimeout(20)
            connection.sendall(raw)
            assert connection.recv(1) == b""
        sender_of(place, "cell-0", collector.port, spool).run()
        assert spool.waiting == (0, 0)


def test_where_there_is_no_room_agents_come_again(place, monkeypatch):
    monkeypatch.setattr("auditor.agents.collector.LATER_SECONDS", 0.1)
    spool = filled(place, "cell-0", 3)
    told: list[str] = []
    with collecting(place) as (collector, _):
        collector.store.size_bytes = 10
        sender = sender_of(place, "cell-0", collector.port, spool, said=told)
        thread = threading.Thread(target=sender.run, daemon=True)
        thread.start()
        until(lambda: any("no room" in each for each in told))
        assert len(list((place / "received/cell-0").glob("*.window"))) == 1
        assert spool.waiting[0] == 2
        collector.store.size_bytes = 1 << 30
        thread.join(20)
        assert spool.waiting == (0, 0)


def test_a_full_spool_gives_up_the_oldest_and_says_so(place):
    spool = Spool(place / "spool-cell-0", 1 << 20)
    spool.size_bytes = 50_000
    for k in range(4):
        spool.put(lambda number, k=k: window_of("cell-0", spool.life, number, k))
    windows = [read_window(each.read_bytes(), each.name) for each in sorted((place / "spool-cell-0").glob("*.window"))]
    assert [each.number for each in windows] == [1, 2, 3, 4]
    assert sum(each.stat().st_size for each in (place / "spool-cell-0").glob("*.window")) <= 50_000
    lost = windows[0].followed
    assert len(lost.part.rows) == 0
    assert lost.capture.packets == 0
    assert lost.capture.dropped == followed_of(0).capture.packets
    assert "the agent's spool was full" in lost.capture.problems[-1].says
    assert len(windows[3].followed.part.rows) > 50


def test_a_clock_that_is_off_is_told(place):
    spool = filled(place, "cell-0", 1)
    with collecting(place) as (collector, said):
        sender = sender_of(place, "cell-0", collector.port, spool)
        sender.clock = lambda: time.time_ns() + 300 * SECOND
        sender.run()
        assert any("the clock of cell-0 is 5 minutes ahead of the collector's" in each for each in said)
        assert abs(collector.store.agents["cell-0"].ahead_ns - 300 * SECOND) < 5 * SECOND


def test_an_agent_that_is_silent_makes_the_audit_incomplete_by_name(place):
    spool = filled(place, "cell-0", 1)
    with collecting(place, wait="0s", judged=True) as (collector, said):
        sender_of(place, "cell-0", collector.port, spool).run()
        until(lambda: collector.passes, 120)
    found = "\n".join(said)
    assert "cell-1: it has never been connected" in found
    assert "incomplete: damaged: agent://cell-1: interrupted: it has never been connected" in found
    assert not list((place / "received").glob("*/*.window"))


def test_a_window_that_upsets_what_judges_is_put_aside_and_the_others_are_judged(place, monkeypatch):
    from auditor import pipeline

    spools = {name: filled(place, name, 1) for name in ("cell-0", "cell-1")}
    whole = pipeline.run

    def upset(*args, follow, **options):
        followed = list(follow(args[0], {}, None))
        if any(each.capture.path == "agent://cell-1" and each.capture.packets for each in followed):
            raise TypeError("a fact of a type that no fact has")
        return whole(*args, follow=lambda *_: followed, **options)

    monkeypatch.setattr(pipeline, "run", upset)
    with collecting(place, judged=True) as (collector, said):
        for name, spool in spools.items():
            sender_of(place, name, collector.port, spool).run()
        until(lambda: any("cell-1: 1 window set aside" in each for each in said), 120)
        until(lambda: collector.passes, 120)
    assert len(list((place / "received" / ".aside").iterdir())) == 1
    assert any("audit 1: 1 file" in each for each in said)
    # What was set aside is missing in that audit, by name.
    assert any("incomplete: damaged: agent://cell-1: interrupted: 1 window set aside" in each for each in said)


def kept(place: Path, *numbers: tuple[str, int], collector: Path) -> Store:
    """A store that has been given these windows of cell-0, by life and number."""
    store = Store(load_collector(collector), time.time_ns)
    for life, number in numbers:
        store.keep(store.agents["cell-0"], life, number, window_of("cell-0", life, number, 0), 1, 2)
    return store


def test_a_number_that_is_missing_is_told_until_an_audit_has_said_it(place):
    collector = configured(place, 1)
    one, other = "1" * 16, "2" * 16
    store = kept(place, (one, 1), (one, 2), collector=collector)
    assert store.lost() == {}
    store = kept(place, (one, 4), (one, 7), collector=collector)
    missing = [
        f"{which} not delivered: lost on the VM, or delivered to another folder"
        for which in ("window 3 was", "windows 5 to 6 were")
    ]
    assert store.lost() == {"cell-0": tuple(missing)}
    new = "its spool is new: what it had not delivered of the one before is lost"
    store = kept(place, (other, 1), collector=collector)
    assert store.lost() == {"cell-0": (*missing, new)}
    store.told({"cell-0": missing})
    assert Store(load_collector(collector), time.time_ns).lost() == {"cell-0": (new,)}


def test_a_window_whose_number_is_not_in_the_state_yet_counts(place):
    """The collector was killed between the two: the file's name says it, and the state does from then on, when the file is audited and removed."""
    collector = configured(place, 1)
    life = "1" * 16
    kept(place, (life, 1), collector=collector)
    (place / "received/cell-0/state.json").unlink()
    Store(load_collector(collector), time.time_ns)
    for each in (place / "received/cell-0").glob("*.window"):
        each.unlink()
    store = Store(load_collector(collector), time.time_ns)
    assert store.agents["cell-0"].lives == {life: 1}
    assert store.lost() == {}


def test_an_audit_names_what_is_missing(place):
    spool = filled(place, "cell-0", 3)
    (place / "spool-cell-0" / "0000000002.window").unlink()
    with collecting(place, wait="0s", judged=True) as (collector, said):
        sender_of(place, "cell-0", collector.port, Spool(spool.folder, 64 << 20)).run()
        until(lambda: any("cell-0: window 2 was not delivered" in each for each in said), 120)
        until(lambda: not collector.store.lost(), 20)
    assert any("agent://cell-0: interrupted: window 2 was not delivered" in each for each in said)


# Real processes


def started(place: Path, *words: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "auditor", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=(place / f"{words[0]}.log").open("ab")
    )


@pytest.mark.night
def test_killed_at_either_end_nothing_is_lost_and_nothing_counts_twice(place):
    """The agent is killed while it reads, the collector while it takes; both are begun again: every window is audited once."""
    port = free_port()
    collector, count = configured(place, port), 12
    agent_of(place, "cell-0", port)
    agent_of(place, "cell-1", port)
    spools = [filled(place, name, count) for name in ("cell-0", "cell-1")]
    running = started(place, "collect", str(collector))
    senders = [sender_of(place, f"cell-{k}", port, spool) for k, spool in enumerate(spools)]
    threads = [threading.Thread(target=each.run, daemon=True) for each in senders]
    for each in threads:
        each.start()
    try:
        for _ in range(3):
            until(
                lambda: any((place / "received").glob("*/*.window")) or all(not spool.waiting[0] for spool in spools),
                120,
            )
            running.send_signal(signal.SIGKILL)
            running.wait()
            running = started(place, "collect", str(collector))
        for each in threads:
            each.join(180)
        assert all(spool.waiting == (0, 0) for spool in spools)
        until(lambda: not any((place / "received").glob("*/*.window")), 240)
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0
    finally:
        running.kill()
    from auditor.store.history import open_history

    with open_history(place / "history") as history:
        audits = history.sql.execute("SELECT audit FROM audits").fetchall()
        packets = sum(
            each["packets"] for (audit,) in audits for each in history.table("captures", audit, ["packets"]).to_pylist()
        )
    assert packets == sum(followed_of(k % 2).capture.packets for _ in range(2) for k in range(count))


def test_the_state_of_the_collector_outlives_it(place):
    spool = filled(place, "cell-0", 2)
    with collecting(place) as (collector, _):
        sender_of(place, "cell-0", collector.port, spool).run()
    told = json.loads((place / "received/cell-0/state.json").read_bytes())
    assert told["lives"] == {spool.life: 2}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("10.0.0.9:17", ("10.0.0.9", 17)),
        ("host", ("host", 5)),
        ("[fd00::9]:17", ("fd00::9", 17)),
        ("fd00::9", ("fd00::9", 5)),
    ],
)
def test_an_address(text, found):
    assert address_of(text, 5) == found


@pytest.mark.parametrize("text", ["", ":7", "host:0", "host:x", "host:99999"])
def test_no_address(text):
    with pytest.raises(ConfigError, match="is not an address"):
        address_of(text, 5)


def test_a_window_is_never_larger_than_is_taken():
    followed = followed_of(0)
    window = read_window(window_of("cell-0", "0" * 16, 1, 0), "x")
    assert len(write_window(replace(window, followed=followed), ("none", "unknown"))) < 64 << 20
