"""Lost and late packets move a verdict only toward unverifiable: over real captures, from the file to the report.

What is dropped is drawn by a seed, over all connections at once: also those that lost nothing are compared, because some are judged by others
(resumed sessions). Where nothing shows that packets of a connection are missing, it is a shorter connection and has the verdict of that one.
"""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import auditor
from auditor.capture import open_capture
from auditor.conntrack import Tracker, build_table, decide_originators
from auditor.decode import Decoder
from auditor.inspectors._examine import Examiner
from auditor.policy.authenticate import authenticate
from auditor.policy.loader import load_policy
from tests.conftest import ROOT
from tests.doubling import Frame, frames_of, write
from tests.policy.scenes import documented

CAPTURES = ROOT / "captures"
SAMPLE, LAB = CAPTURES / "sample", CAPTURES / "lab" / "recorded"
LATE_NS = 50_000_000
DEEP = settings().max_examples > 1_000
TIMES = 40 if DEEP else 1
"""So many seeds for each capture and way of losing packets."""

Ends = tuple[tuple[bytes, int], tuple[bytes, int]]


class Said(NamedTuple):
    verdict: str
    missed: int
    says: str
    untold: bool = False
    """No path is documented, and no content was seen that could show one."""


def tcp_of(frame: bytes) -> tuple[Ends, int] | None:
    """Ends, in order, and size of the payload of TCP over IPv4 over Ethernet; None: something else, left alone."""
    if len(frame) < 54 or frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    tcp = 14 + (frame[14] & 15) * 4
    total = struct.unpack_from(">H", frame, 16)[0] or len(frame) - 14
    sport, dport = struct.unpack_from(">HH", frame, tcp)
    one, other = sorted(((frame[26:30], sport), (frame[30:34], dport)))
    return (one, other), 14 + total - tcp - (frame[tcp + 12] >> 4) * 4


def lossy(
    frames: Sequence[Frame], rng: random.Random, rate: float, *, all_kinds: bool
) -> tuple[list[Frame], set[Ends]]:
    """The capture without some of its TCP packets (those with payload, or all kinds), and whose they were."""
    kept, gone = [], set()
    for frame in frames:
        found = tcp_of(frame[1])
        if found and (found[1] > 0 or all_kinds) and rng.random() < rate:
            gone.add(found[0])
        else:
            kept.append(frame)
    return kept, gone


def late(frames: Sequence[Frame], rng: random.Random) -> list[Frame]:
    """Packets in the order in which they would have come, each late by up to 50 ms; the capture's clock goes on as it did."""
    order = sorted(range(len(frames)), key=lambda at: frames[at][0] + rng.randrange(LATE_NS))
    return [(frames[at][0], *frames[came][1:]) for at, came in enumerate(order)]


def compare(before: Mapping[Ends, list[Said]], after: Mapping[Ends, list[Said]], gone: set[Ends]) -> Counter[str]:
    """Holds every connection against what was said of it before. Raises AssertionError."""
    counted: Counter[str] = Counter()
    for ends, rows in after.items():
        was = {row.verdict for row in before.get(ends, ())}
        for row in rows:
            counted["unverifiable" if row.verdict == "unverifiable" else "same"] += 1
            if row.verdict in was or row.verdict == "unverifiable":
                continue
            # Where ports vary, content alone makes a connection a documented one (contract, rule 8); all of it was lost.
            if row.verdict == "not_applicable" and row.untold and ends in gone:
                counted["untold"] += 1
                continue
            # Packets are missing and nothing tells of them: it is judged as the shorter connection that it seems to be.
            assert ends in gone, (ends, before.get(ends), row)
            assert row.missed == 0, (ends, before.get(ends), row)
            counted["shorter"] += 1
    return counted


def spoilt(frames: Sequence[Frame], seed: int) -> Iterator[tuple[str, list[Frame], set[Ends]]]:
    """The three ways, some of each."""
    rng = random.Random(seed)
    for name, rate, all_kinds in (("payload", 0.04, False), ("any", 0.03, True)):
        yield name, *lossy(frames, rng, rate, all_kinds=all_kinds)
    yield "late", late(frames, rng), set()


# Whole audits --------------------------------------------------------------------------------------------------------


def audited(path: Path, inventory: Path) -> dict[Ends, list[Said]]:
    report = auditor.audit([str(path)], inventory=str(inventory))
    found: dict[Ends, list[Said]] = {}
    for row in report.connections.to_dict("records"):
        if row["transport"] != "tcp" or ":" in row["originator_ip"]:
            continue
        ends = [
            (bytes(map(int, row[f"{end}_ip"].split("."))), row[f"{end}_port"]) for end in ("originator", "responder")
        ]
        one, other = sorted(ends)
        untold = row["disposition"] == "undeclared" and row["application"] in ("none", "unknown")
        said = Said(row["authentication_verdict"], row["missed_bytes"], repr(row["authentication_factors"]), untold)
        found.setdefault((one, other), []).append(said)
    return found


RECORDED = {
    "lab": (LAB / "lab.bridge.pcap.zst", LAB / "lab.inventory.yml"),
    "diego": (SAMPLE / "diego.pcapng", SAMPLE / "diego.inventory.yml"),
    "inside": (CAPTURES / "inside" / "nats.pcap", CAPTURES / "inside" / "inventory.yml"),
    "mysql": (CAPTURES / "inside" / "mysql.pcap", CAPTURES / "inside" / "inventory.yml"),
}


@pytest.mark.parametrize("name", RECORDED)
def test_of_whole_captures(name: str, tmp_path: Path) -> None:
    """The lab with all its daemons, the samples, logins inside TLS."""
    path, inventory = RECORDED[name]
    link_type, frames = frames_of(path)
    before = audited(write(tmp_path / "whole.pcap", link_type, frames), inventory)
    verdicts = {row.verdict for rows in before.values() for row in rows}
    assert verdicts & {"verified", "inferred", "inherited", "violated", "rejected", "unverifiable"}
    for seed in range(TIMES):
        for way, kept, gone in spoilt(frames, seed):
            counted = compare(before, audited(write(tmp_path / "spoilt.pcap", link_type, kept), inventory), gone)
            assert name == "mysql" or counted["same"] > 0, way  # in it TLS hides everything from the start
            assert way == "late" or len(frames) < 500 or counted["unverifiable"] > 0


RULES = [path for path in sorted(CAPTURES.glob("rules/*/fires.pcap")) if path.parent.name != "conflicting-content"]
"""Without those of two readings: where the packet with one of them is lost, nothing tells that there was another."""


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.parent.name)
def test_of_the_captures_of_the_rules(path: Path, tmp_path: Path) -> None:
    link_type, frames = frames_of(path)
    inventory = CAPTURES / "rules" / "inventory.yml"
    before = audited(path, inventory)
    for seed in range(TIMES):
        rng = random.Random(seed)
        kept, gone = lossy(frames, rng, 0.15, all_kinds=True)
        for each, whose in ((kept, gone), (late(frames, rng), set())):
            compare(before, audited(write(tmp_path / "spoilt.pcap", link_type, each), inventory), whose)


# The corpus of TLS stacks ----------------------------------------------------------------------------------------------

SOME = 3_000
"""Packets of the corpus at a time: some 180 connections."""


@cache
def corpus() -> tuple[int, list[Frame]]:
    return frames_of(CAPTURES / "tls" / "corpus.pcap.zst")


_EXAMINER = Examiner()
_POLICY = load_policy(["tas-diego"])


def judged(path: Path) -> dict[Ends, list[Said]]:
    """All of them as if they were the rep's to BBS."""
    tracker, decoder = Tracker(_EXAMINER), Decoder()
    with open_capture(str(path)) as reader:
        for batch in reader.batches():
            for packets in decoder.decode(batch):
                tracker.feed(packets, batch.buf)
    part = tracker.finish()
    table = build_table(part, *decide_originators(part), _EXAMINER.applications)
    answers = authenticate(
        table, [documented(_POLICY, "rep-to-bbs")], np.zeros(len(table), np.int32),
        certificates=_EXAMINER.certificates.der, policy=_POLICY, options={},
    )  # fmt: skip
    found: dict[Ends, list[Said]] = {}
    for k, answer in enumerate(answers):
        ends = [
            ((table.addresses[host[k]] & 0xFFFF_FFFF).to_bytes(4, "big"), int(port[k]))
            for host, port in ((table.orig_h, table.orig_p), (table.resp_h, table.resp_p))
        ]
        one, other = sorted(ends)
        said = Said(answer.verdict.value, int(table.missed_bytes[k]), repr(answer.factors))
        found.setdefault((one, other), []).append(said)
    return found


@settings(max_examples=400 if DEEP else 3)
@given(seed=st.integers(0, 2**32))
def test_of_handshakes_of_many_stacks(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    link_type, frames = corpus()
    begin = seed % (len(frames) - SOME)
    some = frames[begin : begin + SOME]
    folder = tmp_path_factory.mktemp("loss")
    before = judged(write(folder / "whole.pcap", link_type, some))
    assert len(before) > 50
    for _, kept, gone in spoilt(some, seed):
        compare(before, judged(write(folder / "spoilt.pcap", link_type, kept)), gone)


# A lost tail -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["diego", "inside"])
def test_a_lost_tail_has_the_verdict_of_the_shorter_connection(name: str, tmp_path: Path) -> None:
    """The capture ends earlier: nobody says that anything is missing, and no verdict turns good or bad that was the other way round."""
    path, inventory = RECORDED[name]
    link_type, frames = frames_of(path)
    before = audited(write(tmp_path / "whole.pcap", link_type, frames), inventory)
    rng = random.Random(7)
    good = {"verified", "inferred", "inherited"}
    for _ in range(3 * TIMES):
        kept = frames[: rng.randrange(len(frames) // 8, len(frames))]
        for ends, rows in audited(write(tmp_path / "short.pcap", link_type, kept), inventory).items():
            was = {row.verdict for row in before[ends]}
            for row in rows:
                if row.verdict in good:
                    assert was & good, (ends, was, row)
                if row.verdict == "violated":
                    assert "violated" in was, (ends, was, row)
