"""Live sessions against audits of the same packets: whatever the windows, sources and accidents."""

from __future__ import annotations

import itertools
import json
import os
import struct
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from auditor import api
from auditor.capture.live import Command, DirectStarter, Place, open_stream, place_of
from auditor.errors import InputError
from auditor.jobs import live
from auditor.model.limits import Limits
from auditor.policy.inventory import load_inventory
from auditor.policy.loader import load_policy
from tests.conftest import ROOT
from tests.netns import until

SAMPLE = ROOT / "captures" / "sample" / "diego.pcapng"
INVENTORY = str(ROOT / "captures" / "sample" / "diego.inventory.yml")


@pytest.fixture(scope="module")
def judge() -> live.Judge:
    policy = load_policy(["tas"])
    inventory = load_inventory([INVENTORY], policy)
    return live.judge_with(policy, inventory, {"scope": "diego", "fail_on": "medium", "max_undecided": 5.0})


@pytest.fixture(scope="module")
def offline() -> api.Report:
    return api.audit(SAMPLE, inventory=INVENTORY)


def feed(place: Place, number: int = 0, notices: deque[str] | None = None, **options: Any) -> live.Feed:
    opener = options.pop("opener", None) or (lambda: open_stream(place))
    options = {"limits": Limits(), "clock": time.time_ns, **options}
    return live.Feed(place, opener, index=number, tell=(notices if notices is not None else deque()).append, **options)


def session(judge: live.Judge, *feeds: live.Feed, **options: Any) -> live.Session:
    return live.Session(feeds, judge, options.pop("clock", time.time_ns), **options)


def rows(report: api.Report) -> dict[str, Any]:
    """Connections by id, without the name of the place where they were seen and the findings of this report."""
    found = {}
    for record in json.loads(report.to_json())["connections"]:
        del record["vantages"], record["findings"]
        for sighting in record["sightings"]:
            del sighting["vantage"]
        found[record["id"]] = record
    return found


class Clock:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000_000

    def __call__(self) -> int:
        return self.now


def parts(path: Path) -> tuple[bytes, list[bytes]]:
    """A sample as pcap: header and records."""
    from auditor.capture import open_capture

    records = []
    with open_capture(path) as reader:
        for batch in reader.batches():
            for at, caplen, wire, ts in zip(
                batch.start, batch.caplen_bytes, batch.wirelen_bytes, batch.ts_ns, strict=True
            ):
                data = batch.buf[at : at + caplen].tobytes()
                records.append(struct.pack("<IIII", ts // 10**9, ts % 10**9, caplen, wire) + data)
    return struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1), records


class Pipe:
    """A named pipe that a test writes to."""

    def __init__(self, folder: Path, name: str = "pipe") -> None:
        self.path = folder / name
        os.mkfifo(self.path)
        self.place = place_of(str(self.path))
        self._file: Any = None

    def write(self, data: bytes) -> None:
        if self._file is None:
            self._file = self.path.open("wb", buffering=0)
        self._file.write(data)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def test_a_pipe_gives_what_the_file_gives(judge, offline, tmp_path):
    pipe = Pipe(tmp_path)
    writer = threading.Thread(target=lambda: (pipe.write(SAMPLE.read_bytes()), pipe.close()))
    writer.start()
    events = list(session(judge, feed(pipe.place)).events())
    writer.join()
    window = events[-1]
    assert isinstance(window, live.Window)
    assert window.last
    report = api.Report(window.audit)
    assert rows(report) == rows(offline)
    assert report.findings["fingerprint"].tolist() == offline.findings["fingerprint"].tolist()
    assert report.audit.summary == offline.audit.summary


def test_windows_tell_each_connection_while_it_has_packets_and_its_last_word_is_the_whole(judge, offline, tmp_path):
    """A minute a window: the sample lasts long enough for several, with sessions resumed across their borders."""
    header, records = parts(SAMPLE)
    clock = Clock()
    pipe = Pipe(tmp_path)
    feeds = [feed(pipe.place, clock=clock)]
    running = session(judge, *feeds, clock=clock, window_ns=60 * 10**9, early=False)
    # None between a SYN and its answer: the id of a connection holds both initial sequence numbers.
    cuts = [0, 300, 900, 901, 1_705, len(records)]
    windows: list[live.Window] = []
    done = threading.Event()

    def play() -> None:
        pipe.write(header)
        for begin, end in itertools.pairwise(cuts):
            pipe.write(b"".join(records[begin:end]))
            until(lambda end=end: feeds[0].packets == end, "the packets are taken")
            before = running.windows
            if end < len(records):
                clock.now += 60 * 10**9
                until(lambda before=before: running.windows > before, "the window ends")
        pipe.close()
        done.set()

    player = threading.Thread(target=play)
    player.start()
    windows = [each for each in running.events() if isinstance(each, live.Window)]
    player.join()
    assert done.is_set()
    assert [each.last for each in windows] == [False] * 4 + [True]
    told: dict[str, Any] = {}
    for each in windows:
        told |= rows(api.Report(each.audit))
    assert told == rows(offline)
    assert sum(int(each.audit.captures["packets"][0]) for each in windows) == len(records)
    assert all(len(each.audit.connections) < len(offline.connections) for each in windows)
    assert {fingerprint for each in windows for fingerprint in each.audit.findings["fingerprint"]} >= set(
        offline.findings.query("rule in ['missing-client-certificate', 'plaintext', 'unknown-host']")["fingerprint"]
    )


def test_findings_told_early_stand_in_the_end(judge, offline, tmp_path):
    header, records = parts(SAMPLE)
    pipe = Pipe(tmp_path)
    running = session(judge, feed(pipe.place))
    writer = threading.Thread(target=lambda: pipe.write(header + b"".join(records)))
    writer.start()
    early: list[str] = []
    final: list[str] = []
    for event in running.events():
        if isinstance(event, live.Told):
            early += event.audit.findings["fingerprint"].tolist()
            running.stop()
        elif isinstance(event, live.Window):
            final = event.audit.findings["fingerprint"].tolist()
    writer.join()
    pipe.close()
    assert early
    assert len(early) == len(set(early)), "each is told once"
    assert set(early) <= set(final)
    assert set(final) == set(offline.findings["fingerprint"])


def test_two_sources_at_once_are_two_vantage_points_of_one_audit(judge, tmp_path):
    """Both see every packet, as the two ends of a wire do: connections are counted once, and name both."""
    header, records = parts(SAMPLE)
    pipes = [Pipe(tmp_path, name) for name in ("cell", "brain")]
    places = [pipe.place for pipe in pipes]

    def write(pipe: Pipe) -> None:
        pipe.write(header + b"".join(records))
        pipe.close()

    writers = [threading.Thread(target=write, args=(pipe,)) for pipe in pipes]
    for writer in writers:
        writer.start()
    events = list(session(judge, *(feed(place, k, alone=False) for k, place in enumerate(places))).events())
    for writer in writers:
        writer.join()
    report = api.Report(events[-1].audit)
    files = [tmp_path / "cell.pcap", tmp_path / "brain.pcap"]
    for file in files:
        file.write_bytes(header + b"".join(records))
    both = api.audit(files, inventory=INVENTORY)
    assert rows(report) == rows(both)
    assert len(report.connections) == 136
    assert {tuple(each) for each in report.connections["vantages"]} == {tuple(map(str, (pipe.path for pipe in pipes)))}


def test_windows_over_two_places_that_each_miss_packets_end_as_one_audit_of_both(judge, tmp_path):
    """What one place missed the other saw; connections that go on over the end of a window are one, seen from both."""
    header, records = parts(SAMPLE)
    seen = [[each for k, each in enumerate(records) if k % 11], [each for k, each in enumerate(records) if k % 13]]
    pipes = [Pipe(tmp_path, name) for name in ("cell", "brain")]
    clock = Clock()
    feeds = [feed(pipe.place, k, clock=clock, alone=False) for k, pipe in enumerate(pipes)]
    running = session(judge, *feeds, clock=clock, window_ns=60 * 10**9, early=False)

    windows: list[live.Window] = []

    def play() -> None:
        for pipe in pipes:
            pipe.write(header)
        for begin, end in itertools.pairwise((0.0, 0.2, 0.55, 1.0)):
            for pipe, mine in zip(pipes, seen, strict=True):
                pipe.write(b"".join(mine[int(begin * len(mine)) : int(end * len(mine))]))
            taken = [int(end * len(mine)) for mine in seen]
            until(lambda taken=taken: [each.packets for each in feeds] == taken, "the packets are taken")
            if end < 1:
                before = len(windows)
                clock.now += 60 * 10**9
                # Told, and with it cut at both places: later packets belong to the next.
                until(lambda before=before: len(windows) > before, "the window ends")
        for pipe in pipes:
            pipe.close()

    player = threading.Thread(target=play)
    player.start()
    for event in running.events():
        if isinstance(event, live.Window):
            windows.append(event)  # noqa: PERF401 - the player looks at it meanwhile
    player.join()
    assert [each.last for each in windows] == [False, False, True]
    last: dict[str, Any] = {}
    for each in windows:
        last |= rows(api.Report(each.audit))
    files = [tmp_path / "cell.pcap", tmp_path / "brain.pcap"]
    for file, mine in zip(files, seen, strict=True):
        file.write_bytes(header + b"".join(mine))
    both = rows(api.audit(files, inventory=INVENTORY))
    assert {key: each["authentication"]["verdict"] for key, each in last.items()} == {
        key: each["authentication"]["verdict"] for key, each in both.items()
    }
    assert last == both


def opened(number: int) -> bytes:
    """Records of a connection that was opened and goes on."""
    client, server = bytes((10, 0, 4, 10)), bytes((10, 0, 4, 20))
    found = b""
    for step, (flags, back) in enumerate(((2, False), (18, True), (16, False))):
        ports = (8889, 40_000 + number) if back else (40_000 + number, 8889)
        segment = struct.pack(">HHIIBBHHH", *ports, 7 + (step == 2), 8 if flags & 16 else 0, 0x50, flags, 65_535, 0, 0)
        ends = server + client if back else client + server
        frame = bytes(12) + b"\x08\0" + struct.pack(">BBHHHBBH", 0x45, 0, 40, 0, 0, 64, 6, 0) + ends + segment
        found += struct.pack("<IIII", 1_700_000_000 + number, step, len(frame), len(frame)) + frame
    return found


def test_a_full_table_ends_the_window_early_and_says_what_it_gives_up(judge, tmp_path):
    """Thirty connections that never close, where ten may be held: each full table is reported, and half of it forgotten, the silent first."""
    header, _ = parts(SAMPLE)
    pipe = Pipe(tmp_path)
    limits = Limits(connections=10)
    one = feed(pipe.place, limits=limits)
    running = session(judge, one, limits=limits, early=False)

    def write() -> None:
        pipe.write(header)
        for number in range(30):
            pipe.write(opened(number))
            until(lambda number=number: one.packets == 3 * (number + 1), "the connection is taken")
            until(lambda: len(one.tracker) < 10, "the window has ended")
        pipe.close()

    writer = threading.Thread(target=write)
    writer.start()
    events = list(running.events())
    writer.join()
    windows = [each for each in events if isinstance(each, live.Window)]
    assert [each.early for each in windows] == [True] * 5 + [False]
    assert sum("--limit connections=N" in each.says for each in events if isinstance(each, live.Notice)) == 5
    told = [each.audit.captures["problems"][0] for each in windows]
    assert [len(each) for each in told] == [0, 1, 1, 1, 1, 1], "told in the window after"
    assert all(each[0]["kind"] == "limit" and "5 connections dropped" in each[0]["says"] for each in told[1:])
    assert windows[-1].audit.info["options"]["live"]["sources"][0]["given_up"] == 25
    seen = [each.audit.connections["originator_port"].tolist() for each in windows]
    assert seen[0] == list(range(40_000, 40_010))
    assert seen[1] == list(range(40_010, 40_015)), "those that had packets since"
    assert {port for each in seen for port in each} == set(range(40_000, 40_030))


def test_a_source_that_dies_is_begun_again_and_the_others_go_on(judge, tmp_path, monkeypatch):
    """The first run of the command gives a few packets and dies; so do the next ones, until one goes on."""
    monkeypatch.setattr(live, "FIRST_PAUSE_SECONDS", 0.05)
    header, records = parts(SAMPLE)
    first, second = tmp_path / "first.pcap", tmp_path / "second.pcap"
    first.write_bytes(header + b"".join(records[:500]) + records[500][:20])
    second.write_bytes(header + b"".join(records[500:]))
    other = tmp_path / "other.pcap"
    other.write_bytes(header)
    script = (
        f"echo x >> {tmp_path}/runs; case $(wc -l < {tmp_path}/runs) in "
        f"1) cat {first}; echo 'the wire was cut' >&2; exit 1;; 2) echo 'still nothing' >&2; exit 1;; "
        f"*) cat {second}; read _;; esac"
    )
    command = Command(("/bin/sh", "-c", script))
    starter = DirectStarter([command])
    place = Place("ssh", "ssh://cell/eth0", "eth0", "cell")
    notices: deque[str] = deque()
    dying = feed(place, 0, notices, opener=lambda: open_stream(place, starter, 0, command))
    beside = feed(place_of(str(other)), 1, notices)
    running = session(judge, dying, beside, notices=notices, early=False)
    says: list[str] = []
    stopper = threading.Thread(
        target=lambda: (until(lambda: dying.packets == len(records), "all packets"), running.stop())
    )
    stopper.start()
    events = list(running.events())
    stopper.join()
    starter.close()
    says = [each.says for each in events if isinstance(each, live.Notice)]
    assert any("ssh://cell/eth0: ended: the wire was cut; trying again in" in each for each in says)
    assert any("ssh://cell/eth0: capturing again" in each for each in says)
    assert beside.running is False
    assert beside.restarts == 0
    captures = api.Report(events[-1].audit).captures.set_index("path")
    assert captures.loc["ssh://cell/eth0", "packets"] == len(records)
    kinds = [each["kind"] for each in captures.loc["ssh://cell/eth0", "problems"]]
    assert "interrupted" in kinds
    assert "truncated" in kinds
    assert len(captures.loc[str(other), "problems"]) == 0
    assert events[-1].audit.summary["connections"] == 136, "connections go on over the gap"
    assert api.Report(events[-1].audit).incomplete()


def test_sources_that_never_gave_anything_are_an_error(judge, monkeypatch):
    monkeypatch.setattr(live, "FIRST_PAUSE_SECONDS", 0.01)
    command = Command(("/bin/sh", "-c", "echo 'ssh: Could not resolve hostname nowhere' >&2; exit 255"))
    starter = DirectStarter([command])
    place = Place("ssh", "ssh://nowhere/eth0", "eth0", "nowhere")
    running = session(judge, feed(place, opener=lambda: open_stream(place, starter, 0, command)))
    with pytest.raises(InputError, match="nowhere/eth0: ssh: Could not resolve hostname nowhere"):
        list(running.events())
    starter.close()


def test_a_file_that_grows_is_followed_until_the_end_is_asked_for(judge, offline, tmp_path):
    header, records = parts(SAMPLE)
    file = tmp_path / "growing.pcap"
    file.write_bytes(header + b"".join(records[:100]) + records[100][:7])
    one = feed(place_of(str(file)))
    running = session(judge, one, early=False)

    def grow() -> None:
        until(lambda: one.packets == 100, "the first packets")
        with file.open("ab") as more:
            more.write(records[100][7:] + b"".join(records[101:]))
        until(lambda: one.packets == len(records), "the rest")
        running.stop()

    writer = threading.Thread(target=grow)
    writer.start()
    events = list(running.events())
    writer.join()
    assert rows(api.Report(events[-1].audit)) == rows(offline)
    assert events[-1].audit.captures["problems"][0] == ()


def test_the_warm_up_passes_through_all_that_a_session_needs(judge):
    policy = load_policy(["tas"])
    live.warm_up(policy, load_inventory([INVENTORY], policy), {"scope": "diego"}, ring=True, sample=str(SAMPLE))
    kinds = [kind for kind, _ in live._few_packets()]
    assert kinds == [1, 1, 1, 105]
    from auditor.kernels.defrag import settle
    from auditor.kernels.links import peel_links
    from auditor.kernels.save import write_pcap

    for kernel in (settle, peel_links, write_pcap):
        assert kernel.signatures, "compiled, or loaded"
