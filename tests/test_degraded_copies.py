"""A worse capture of the same connections takes nothing away (contract, rule 14): what is said of a whole capture W is said of W and any degraded copy D.

D is W cut to some octets a packet, with packets lost, one direction of it, its end or its beginning, doubled, out of order, by another clock, or two of these
at once. W and D are given in both orders. Verdicts, findings, what is undecided and the exit status are those of W; what D lacks is told of D.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

import auditor
from auditor.api import Report
from tests.conftest import ROOT
from tests.doubling import ETHERNET, Frame, doubled, frames_of, write
from tests.test_loss import late, lossy

CAPTURES = ROOT / "captures"
SAMPLE, LAB, INSIDE = CAPTURES / "sample", CAPTURES / "lab" / "recorded", CAPTURES / "inside"
RULES = sorted(path for path in (CAPTURES / "rules").glob("*/*.pcap*") if path.suffix in (".pcap", ".pcapng"))
INVENTORY = CAPTURES / "rules" / "inventory.yml"
RECORDED = {
    "lab": (LAB / "lab.bridge.pcap.zst", LAB / "lab.inventory.yml"),
    "diego": (SAMPLE / "diego.pcapng", SAMPLE / "diego.inventory.yml"),
    "healthy": (SAMPLE / "healthy.pcap", SAMPLE / "healthy.inventory.yml"),
    "inside": (INSIDE / "nats.pcap", INSIDE / "inventory.yml"),
    "mysql": (INSIDE / "mysql.pcap", INSIDE / "inventory.yml"),
}
SECOND = 10**9
DEEP = settings().max_examples > 1_000
QUICK = (Phase.explicit, Phase.generate)
"""The message names all that made an example: to look for a smaller one takes minutes."""

Degrade = Callable[[Sequence[Frame], random.Random], list[Frame]]


def cut(frames: Sequence[Frame], rng: random.Random) -> list[Frame]:
    """As ``tcpdump -s`` cuts."""
    size = rng.choice((54, 64, 68, 96, 128, 200, 300, 576, 1_000))
    return [(ts_ns, data[:size], wire) for ts_ns, data, wire in frames]


def ports_alone(frames: Sequence[Frame], rng: random.Random) -> list[Frame]:
    """So short that TCP's numbers are not in it."""
    size = rng.choice((38, 40, 44, 46))
    return [(ts_ns, data[:size], wire) for ts_ns, data, wire in frames]


def sampled(frames: Sequence[Frame], rng: random.Random) -> list[Frame]:
    """As an overrun buffer or sFlow loses packets."""
    return lossy(frames, rng, rng.choice((0.02, 0.1, 0.3, 0.5, 0.9)), all_kinds=rng.random() < 0.5)[0]


def one_way(frames: Sequence[Frame], rng: random.Random) -> list[Frame]:
    """As a tap on one fibre."""
    up = rng.random() < 0.5
    return [frame for frame in frames if (frame[1][26:30] < frame[1][30:34]) is up]


def twice(frames: Sequence[Frame], rng: random.Random) -> list[Frame]:
    """As a mirror of two ports."""
    return doubled(frames, rng, within_ms=rng.choice((1, 50)))


def shuffled(frames: Sequence[Frame], rng: random.Random) -> list[Frame]:
    """As several queues of a card hand packets over: out of order by some 50 ms, with the times of the order that they came in, or with their own."""
    if rng.random() < 0.5:
        return late(frames, rng)
    return sorted(frames, key=lambda frame: frame[0] + rng.randrange(50_000_000))


def other_clock(frames: Sequence[Frame], rng: random.Random) -> list[Frame]:
    """As a VM whose clock nobody has set."""
    ahead_ns = rng.choice((-3_600, -30, -1, 1, 5, 90, 7_000, 86_400, 10**7)) * SECOND + rng.randrange(SECOND)
    return [(ts_ns + ahead_ns, data, wire) for ts_ns, data, wire in frames]


def part(frames: Sequence[Frame], rng: random.Random) -> list[Frame]:
    """Begun later or ended earlier."""
    begin = rng.randrange(max(len(frames) // 2, 1))
    return list(frames[begin:] if rng.random() < 0.5 else frames[: begin + 1])


WAYS: tuple[Degrade, ...] = (cut, ports_alone, sampled, one_way, twice, shuffled, other_clock, part)


def degraded(frames: Sequence[Frame], ways: Sequence[Degrade], seed: int) -> list[Frame]:
    """The capture after all of these, in this order."""
    rng = random.Random(seed)
    some = list(frames)
    for way in ways:
        some = way(some, rng)
    return some


@cache
def whole(path: Path) -> tuple[int, list[Frame]]:
    return frames_of(path)


def said_of(report: Report) -> tuple[Any, ...]:
    """What is judged of each connection, what is found, whether that is all."""
    names = (
        "community_id",
        "disposition",
        "application",
        "authentication_verdict",
        "authentication_confidence",
        "paths",
    )
    table = report.connections
    rows = sorted(zip(*(table[name].astype(object) for name in names), strict=True), key=str)
    found = zip(*(report.findings[name] for name in ("rule", "fingerprint", "severity")), strict=True)
    sufficiency = report.summary["sufficiency"]
    return rows, sorted(found), sufficiency, report.exit_status("medium"), report.exit_status("critical")


def audited(paths: Sequence[Path], inventory: Path) -> Report:
    return auditor.audit([str(path) for path in paths], inventory=[str(inventory)], scope="all")


def takes_nothing_away(path: Path, inventory: Path, ways: Sequence[Degrade], seed: int, folder: Path) -> None:
    """Raises AssertionError where a copy of the capture, degraded in these ways, changes what is said."""
    link_type, frames = whole(path)
    copy = degraded(frames, ways, seed)
    poor, good = write(folder / "poor.pcap", link_type, copy), write(folder / "good.pcap", link_type, frames)
    alone = said_of(audited([good], inventory))
    for order in ([good, poor], [poor, good]):
        together = said_of(audited(order, inventory))
        assert together == alone, (path.name, [way.__name__ for way in ways], seed, order[0].name)


def test_a_copy_cut_short_is_told_of_and_costs_nothing(tmp_path: Path) -> None:
    """A critical finding stays, and the audit is complete: what each capture lacks stands with the capture."""
    link_type, frames = whole(CAPTURES / "rules" / "missing-client-certificate" / "fires.pcap")
    good = write(tmp_path / "good.pcap", link_type, frames)
    poor = write(tmp_path / "poor.pcap", link_type, [(ts_ns, data[:96], wire) for ts_ns, data, wire in frames])
    both = audited([poor, good], INVENTORY)
    assert "missing-client-certificate" in set(both.findings["rule"])
    assert both.exit_status("critical") == 1
    assert both.summary["sufficiency"] == audited([good], INVENTORY).summary["sufficiency"]
    problems = dict(zip(both.captures["path"], both.captures["problems"], strict=True))
    assert not problems[str(good)]
    [problem] = problems[str(poor)]
    longer = sum(len(data) > 96 for _, data, _ in frames)
    assert problem["kind"] == "cut"
    assert problem["says"] == f"{longer} of {len(frames)} packets are cut short, to 96 octets at the most"


some_ways = st.lists(st.sampled_from(WAYS), min_size=1, max_size=3, unique=True).filter(
    # Where there are no numbers, nothing tells of another clock.
    lambda ways: not {ports_alone, other_clock} <= set(ways)
)


@settings(max_examples=2_000 if DEEP else 30, phases=QUICK)
@given(path=st.sampled_from(RULES), ways=some_ways, seed=st.integers(0, 2**32))
# Segments that were cut and then filled up showed other lengths of SSH packets: a login that was accepted looked refused.
@pytest.mark.night
@example(path=CAPTURES / "rules" / "authentication-downgrade" / "fires.pcap", ways=[cut], seed=0)
def test_beside_the_captures_of_the_rules(
    path: Path, ways: list[Degrade], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if whole(path)[0] != ETHERNET:
        ways = [way for way in ways if way is not one_way]
    takes_nothing_away(path, INVENTORY, ways, seed, tmp_path_factory.mktemp("copies"))


@settings(max_examples=300 if DEEP else 8, phases=QUICK)
@given(name=st.sampled_from(sorted(RECORDED)), ways=some_ways, seed=st.integers(0, 2**32))
# Datagrams that were doubled and cut to nothing were taken for the better copy, because there were more of them.
@example(name="diego", ways=[shuffled, twice, ports_alone], seed=130)
def test_beside_recordings(name: str, ways: list[Degrade], seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    takes_nothing_away(*RECORDED[name], ways, seed, tmp_path_factory.mktemp("copies"))
