"""The same connections recorded at several places: one connection with several vantages, clocks compared, what one lacks told."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

import auditor
from auditor.api import Report
from tests.conftest import ROOT
from tests.doubling import frames_of, write

LEVELS = ["", "low", "medium", "high"]
RECORDED = ROOT / "captures" / "lab" / "recorded"
SECOND = 10**9


def recorded() -> list[Path]:
    """The lab's captures: the bridge that all packets cross, both cells, the brain."""
    return sorted(path for path in RECORDED.iterdir() if ".pcap" in path.suffixes and path.suffix != ".md")


def judged(paths: list[Path]) -> Report:
    return auditor.audit([str(path) for path in paths], inventory=str(RECORDED / "lab.inventory.yml"))


def told(report: Report) -> list[tuple[object, ...]]:
    """What is said of each connection. Not its id, which has its start in it: by how little clocks differ is known to half a microsecond."""
    table = report.connections
    names = (
        "community_id",
        "disposition",
        "application",
        "authentication_verdict",
        "originator_packets",
        "responder_packets",
    )
    return sorted(zip(*(table[name].astype(object) for name in names), strict=True), key=str)


@pytest.fixture(scope="module")
def everywhere() -> Report:
    return judged(recorded())


def test_a_connection_seen_at_several_places_is_one(everywhere: Report) -> None:
    table = everywhere.connections
    assert table["id"].is_unique
    several = table[table["vantages"].map(len) > 1]
    assert len(several) > 50
    # Nothing is counted twice: the bridge saw every packet of what a cell saw.
    bridge = judged([path for path in recorded() if "bridge" in path.name])
    alone = bridge.connections.set_index("id")[["originator_packets", "responder_packets"]]
    both = several.set_index("id")[["originator_packets", "responder_packets"]]
    shared = alone.index.intersection(both.index)
    assert len(shared) > 50
    assert (alone.loc[shared] == both.loc[shared]).all(axis=1).mean() > 0.95


def test_what_each_place_has_is_told(everywhere: Report) -> None:
    table = everywhere.connections
    seen = table[table["sightings"].map(len) > 0]
    assert len(seen) > 50
    for row in seen.itertuples():
        assert {each["vantage"] for each in row.sightings} <= set(row.vantages)
        assert max(each["originator_packets"] for each in row.sightings) == row.originator_packets
        assert max(each["responder_packets"] for each in row.sightings) == row.responder_packets
    lacking = everywhere.captures["unseen"]
    differences = sum(
        row.originator_packets + row.responder_packets - each["originator_packets"] - each["responder_packets"]
        for row in seen.itertuples()
        for each in row.sightings
    )
    assert int(lacking.sum()) == differences


def test_clocks_of_one_machine_agree(everywhere: Report) -> None:
    clocks = [clock for clock in everywhere.captures["clock"] if clock is not None]
    assert len(clocks) == len(recorded()) - 1
    for clock in clocks:
        assert abs(clock["ahead_s"]) < 0.001
        assert clock["packets"] > 20
        assert clock["delay_s"] is not None and clock["delay_s"] < 0.001


@pytest.mark.parametrize("skew_s", [-3.5, 90.0, 86_400.0])
def test_a_wrong_clock_changes_nothing_and_is_reported(tmp_path: Path, everywhere: Report, skew_s: float) -> None:
    paths = recorded()
    link_type, frames = frames_of(paths[-1])
    moved = [(ts_ns + int(skew_s * SECOND), data, wire) for ts_ns, data, wire in frames]
    report = judged([*paths[:-1], write(tmp_path / "wrong.pcap", link_type, moved)])
    assert told(report) == told(everywhere)
    clock = {row.path: row.clock for row in report.captures.itertuples()}
    wrong = clock[str(tmp_path / "wrong.pcap")]
    others = [each for path, each in clock.items() if path != str(tmp_path / "wrong.pcap")]
    if wrong is None:  # it is the one that the others are compared with
        assert all(abs(each["ahead_s"] + skew_s) < 0.01 for each in others if each is not None)
    else:
        assert abs(wrong["ahead_s"] - skew_s) < 0.01


def bridge_frames() -> tuple[int, list[tuple[int, bytes, int]]]:
    return frames_of(next(path for path in recorded() if "bridge" in path.name))


def test_two_halves_of_the_packets_are_the_whole(tmp_path: Path) -> None:
    """Each packet in one of two files, by chance, or by its direction: together they tell what one file would, or less.

    In which order both sides spoke is known within one capture alone, so what their dialogue tells may be lacking; nothing else is claimed.
    """
    link_type, frames = bridge_frames()
    whole = judged([write(tmp_path / "whole.pcap", link_type, frames)])
    rng = random.Random(4)
    for name, choose in (
        ("chance", lambda data: rng.random() < 0.5),
        ("sender", lambda data: data[26:30] < data[30:34]),
    ):
        halves: tuple[list[tuple[int, bytes, int]], ...] = ([], [])
        for frame in frames:
            halves[choose(frame[1])].append(frame)
        report = judged([write(tmp_path / f"{name}{k}.pcap", link_type, half) for k, half in enumerate(halves)])
        names = ("community_id", "application", "authentication_verdict", "authentication_confidence")
        told_of = [
            sorted(
                zip(*(each.connections[n].astype(object).fillna("") for n in names), strict=True),
                key=lambda row: row[:2],
            )
            for each in (whole, report)
        ]
        assert [row[:2] for row in told_of[0]] == [row[:2] for row in told_of[1]]
        less = 0
        for (community_id, *_, verdict, confidence), (*_, claim, sureness) in zip(*told_of, strict=True):
            assert claim in (verdict, "unverifiable"), community_id
            assert claim != verdict or LEVELS.index(sureness) <= LEVELS.index(confidence), community_id
            less += (claim, sureness) != (verdict, confidence)
        assert less < len(told_of[0]) / 5
        more = Counter(report.findings["rule"]) - Counter(whole.findings["rule"])
        assert set(more) <= {"unverifiable-authentication"}


def test_losses_at_two_places_accuse_nobody(tmp_path: Path) -> None:
    link_type, frames = bridge_frames()
    whole = judged([write(tmp_path / "whole.pcap", link_type, frames)])
    for seed in range(3):
        rng = random.Random(seed)
        poor = [
            write(tmp_path / f"{seed}{place}.pcap", link_type, [each for each in frames if rng.random() < 0.8])
            for place in "ab"
        ]
        found = judged(poor).findings
        for rule in ("wrong-application", "port-sweep", "undeclared-attempt", "missing-client-certificate"):
            assert (found["rule"] == rule).sum() <= (whole.findings["rule"] == rule).sum(), rule


def test_resets_alone_are_no_attempts(tmp_path: Path) -> None:
    """Of a sweep only the answers were captured: who sent the resets tried nothing."""
    link_type, frames = bridge_frames()
    resets = [frame for frame in frames if frame[1][12:14] == b"\x08\x00" and frame[1][23] == 6 and frame[1][47] & 4]
    assert len(resets) > 20
    found = judged([write(tmp_path / "resets.pcap", link_type, resets)]).findings
    assert not set(found["rule"]) & {"port-sweep", "undeclared-attempt"}


def test_merged_in_one_file_the_same_connections_are_found(tmp_path: Path, everywhere: Report) -> None:
    """As ``bosh pcap`` writes them: one file, every packet as often as it was seen, nothing says where."""
    frames = []
    kinds = set()
    for path in recorded():
        link_type, some = frames_of(path)
        kinds.add(link_type)
        frames += some
    if len(kinds) > 1:
        pytest.fail("the lab's captures have one link type")
    frames.sort(key=lambda frame: frame[0])
    merged = judged([write(tmp_path / "merged.pcap", kinds.pop(), frames)])
    here, there = told(merged), told(everywhere)
    assert [row[:4] for row in here] == [row[:4] for row in there]
    assert sum(a == b for a, b in zip(here, there, strict=True)) > 0.95 * len(there)
    assert int(merged.captures["doubled"].iloc[0]) > 0.3 * len(frames)
    again = merged.connections["vantages"].map(len) == 2
    assert again.sum() > 50
    assert merged.connections.loc[again, "vantages"].iloc[0][1].endswith("(again)")


def test_the_report_holds_it_all(everywhere: Report) -> None:
    whole = json.loads(everywhere.to_json())
    assert {"doubled", "clock", "unseen"} <= set(whole["captures"][0])
    assert any(each["sightings"] for each in whole["connections"])
    assert all("copies" in each["originator"] for each in whole["connections"])


def translated(data: bytes, inside: bytes, outside: bytes, port: int) -> bytes:
    """The frame with one end's address and port exchanged, as source NAT does; checksums are left as offloading leaves them."""
    packet = bytearray(data)
    for address, at in ((26, 34), (30, 36)):
        if packet[address : address + 4] == inside:
            packet[address : address + 4] = outside
            packet[at : at + 2] = port.to_bytes(2, "big")
    return bytes(packet)


def conversation() -> tuple[int, list[tuple[int, bytes, int]], bytes]:
    """The longest TCP conversation of the healthy sample with a port that is not a range's, whole; and the address that opened it."""
    link_type, frames = frames_of(ROOT / "captures" / "sample" / "healthy.pcap")
    by_ends: dict[frozenset[bytes], list[tuple[int, bytes, int]]] = {}
    for frame in frames:
        data = frame[1]
        if data[12:14] == b"\x08\x00" and data[23] == 6:
            by_ends.setdefault(frozenset((data[26:30] + data[34:36], data[30:34] + data[36:38])), []).append(frame)
    one = max((some for some in by_ends.values() if int.from_bytes(some[0][1][36:38], "big") < 10_000), key=len)
    return link_type, one, one[0][1][26:30]


HEALTHY = str(ROOT / "captures" / "sample" / "healthy.inventory.yml")


@pytest.mark.parametrize("order", [1, -1], ids=["inside first", "outside first"])
def test_both_sides_of_a_nat_are_one_connection(tmp_path: Path, order: int) -> None:
    """The sequence numbers and the first bytes prove it; the side stays that the inventory knows."""
    link_type, inside, address = conversation()
    outside = [
        (ts_ns + 200_000, translated(data, address, b"\xc6\x33\x64\x07", 61_234), wire) for ts_ns, data, wire in inside
    ]
    paths = [write(tmp_path / "inside.pcap", link_type, inside), write(tmp_path / "outside.pcap", link_type, outside)]
    alone = auditor.audit([str(paths[0])], inventory=HEALTHY)
    both = auditor.audit([str(path) for path in paths[::order]], inventory=HEALTHY)
    assert [each for each in told(both) if each[1] != "out_of_scope"] == told(alone)
    row, other = sorted(both.connections.itertuples(), key=lambda each: each.disposition == "out_of_scope")
    assert (other.originator_ip, other.translated["connection"]) == ("198.51.100.7", row.id)
    assert row.translated["whole"]
    assert len(row.vantages) == 2
    assert row.translated["originator"] == {"ip": "198.51.100.7", "port": 61_234}
    assert row.translated["responder"]["port"] == row.responder_port
    assert alone.connections["translated"].iloc[0] is None
    assert set(both.findings["rule"]) == set(alone.findings["rule"])
    listed = [each["translated"]["originator"]["port"] for each in json.loads(both.to_json())["connections"]]
    assert 61_234 in listed
    assert len(listed) == 2


@pytest.mark.parametrize(
    ("address", "service", "cut", "why"),
    [
        ("10.0.4.20", 9_999, None, "both responders are known"),
        ("10.0.4.200", None, None, "a stranger in the platform's network"),
        ("198.51.100.7", None, 9, "the copy is shorter than what it copies"),
    ],
)
def test_copied_sequence_numbers_hide_no_connection(
    tmp_path: Path, address: str, service: int | None, cut: int | None, why: str
) -> None:
    """Whoever sends packets can copy numbers and first bytes of another connection: both are listed, and each is judged."""
    link_type, inside, opened = conversation()
    told_apart = bytes(map(int, address.split(".")))
    other = []
    for ts_ns, data, wire in inside[:cut]:
        packet = bytearray(translated(data, opened, told_apart, 61_234))
        if service is not None:
            # From the same end, to another VM and port.
            packet = bytearray(data)
            at, port = (30, 36) if data[26:30] == opened else (26, 34)
            packet[at : at + 4], packet[port : port + 2] = told_apart, service.to_bytes(2, "big")
        other.append((ts_ns + 200_000, bytes(packet), wire))
    paths = [write(tmp_path / "one.pcap", link_type, inside), write(tmp_path / "two.pcap", link_type, other)]
    report = auditor.audit([str(path) for path in paths], inventory=HEALTHY)
    assert len(report.connections) == 2, why
    assert set(report.connections["translated"]) == {None}
    assert set(report.findings["rule"]) >= ({"unknown-host"} if service is None else {"undeclared-port"})


def test_other_sequence_numbers_are_another_connection(tmp_path: Path) -> None:
    """The same conversation a second time, from an address nobody knows: it is not a translation of the first."""
    link_type, inside, address = conversation()
    other = []
    for ts_ns, data, wire in inside:
        packet = bytearray(translated(data, address, b"\xc6\x33\x64\x07", 61_234))
        for at in (38, 42):
            number = int.from_bytes(packet[at : at + 4], "big")
            packet[at : at + 4] = ((number + 77_777_777) % 2**32 if number else 0).to_bytes(4, "big")
        other.append((ts_ns + 200_000, bytes(packet), wire))
    paths = [write(tmp_path / "one.pcap", link_type, inside), write(tmp_path / "two.pcap", link_type, other)]
    report = auditor.audit([str(path) for path in paths], inventory=HEALTHY)
    assert len(report.connections) == 2
    assert set(report.connections["translated"]) == {None}
    assert "unknown-host" in set(report.findings["rule"])


def test_midstream_facts_name_the_originator_as_client(tmp_path: Path) -> None:
    """TLS from the middle on: content does not tell who is the client; whoever the policy says opened it is, whatever side spoke first."""
    link_type, frames, _ = conversation()
    late = [frame for frame in frames if len(frame[1]) > 60][6:]
    reports = []
    for k, some in enumerate((late, late[1:])):
        reports.append(auditor.audit([str(write(tmp_path / f"{k}.pcap", link_type, some))], inventory=HEALTHY))
    ends = [
        (row.originator_ip, row.responder_ip, row.responder_port, row.authentication_verdict)
        for report in reports
        for row in report.connections.itertuples()
    ]
    assert len(set(ends)) == 1
