"""A short round of fuzzing with fixed seeds, the corpus of the last long round, and what earlier rounds broke.

``make fuzz`` runs the long rounds; docs/reliability.md has their figures.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from auditor.catalogue import discover
from tests.conftest import ROOT
from tests.fuzz.__main__ import COMPILED, KEPT, pack, unpack
from tests.fuzz.mutate import mutate, nest, pcap_records, pcapng_blocks
from tests.fuzz.seeds import seeds, write
from tests.fuzz.targets import Target, frames_of, pack_frames, pack_talk, talk_of, targets

ROUNDS = {"audit": 15, "connections": 60, "policy": 60}
"""Mutated inputs of each target in this round; 250 of the others."""
CATALOGUE = sorted(targets().values(), key=lambda each: each.name)
every = pytest.mark.parametrize("target", CATALOGUE, ids=lambda each: each.name)


@pytest.fixture(autouse=True)
def quiet():
    """Odd certificates and YAML make their libraries warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    assert unpack(folder) > 500
    return folder


def test_every_inspector_is_a_target_by_being_there() -> None:
    names = {f"inspect-{each.name}" for each in discover("auditor.inspectors", "INSPECTOR")}
    assert names < set(targets())
    assert set(targets()) - names == {
        "audit",
        "authorities",
        "connections",
        "decode",
        "examine",
        "inventory",
        "keylog",
        "policy",
        "read",
    }
    assert set(COMPILED) < set(targets())


@every
def test_seeds_and_what_is_made_of_them(target: Target) -> None:
    begin = seeds(target.name, target.kind)
    assert begin
    for data in begin[:: {"audit": 12, "connections": 4}.get(target.name, 1)]:
        target.run(data)
    for seed in range(ROUNDS.get(target.name, 250)):
        target.run(mutate(target.kind, begin[seed % len(begin)], seed, begin))


@every
def test_the_kept_corpus_breaks_nothing(target: Target, corpus: Path) -> None:
    files = sorted((corpus / target.name).glob("*"))
    step = max(len(files) // (12 if target.name in ("audit", "connections", "policy") else 40), 1)
    for file in files[::step]:
        target.run(file.read_bytes())


def test_the_kept_corpus_is_small() -> None:
    assert KEPT.stat().st_size < 1_000_000


@pytest.mark.night
@pytest.mark.slow
def test_a_guided_round_runs_and_counts_what_it_reaches(tmp_path: Path) -> None:
    write(tmp_path / "corpus", "inspect-nats", "talk")
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.one",
        "inspect-nats",
        "-runs=300",
        "-seed=1",
        "-timeout=60",
        str(tmp_path / "corpus"),
    ]
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr[-2_000:]
    done = re.search(r"#(\d+)\s+DONE\s+cov: (\d+)", ran.stderr)
    assert done and int(done[1]) >= 300 and int(done[2]) > 60


# The tools themselves


def test_inputs_are_packed_and_unpacked() -> None:
    frames = [(1, b"abc"), (276, b""), (101, b"x" * 300)]
    assert frames_of(pack_frames(frames)) == frames
    assert frames_of(pack_frames(frames)[:-5])[-1] == (101, b"x" * 295), "the last one may be short"
    both = talk_of(pack_talk(b"client", b"server", 0b10001))
    assert (both.orig.data, both.resp.data) == (b"client", b"server")
    assert (both.orig.gap, both.orig.ended, both.resp.ended) == (True, False, True)


def test_mutations_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    for target in CATALOGUE:
        begin = seeds(target.name, target.kind)
        data = begin[0]
        some = [mutate(target.kind, data, seed, begin) for seed in range(20)]
        assert some == [mutate(target.kind, data, seed, begin) for seed in range(20)]
        assert len(set(some)) > 15


def test_captures_are_taken_apart_where_their_records_are() -> None:
    import random

    captures = seeds("read", "capture")
    split = pcap_records(captures[0])
    assert split is not None and len(split[1]) > 2
    assert split[0] + b"".join(split[1]) == captures[0]
    [ng, *_] = [each for each in captures if pcapng_blocks(each) is not None]
    blocks = pcapng_blocks(ng)
    assert blocks is not None and b"".join(blocks) == ng
    frame = frames_of(seeds("decode", "frames")[0])[0]
    nested = {nest(random.Random(seed), frame)[1] for seed in range(60)}
    assert len(nested) >= 9


def test_a_corpus_is_kept_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.__main__.KEPT", tmp_path / "kept")
    (tmp_path / "grown" / "read").mkdir(parents=True)
    (tmp_path / "grown" / "read" / "aabb").write_bytes(b"input")
    (tmp_path / "grown" / "read" / "seed-001").write_bytes(b"made anew each time")
    assert pack(tmp_path / "grown") == 1
    assert unpack(tmp_path / "back") == 1
    assert (tmp_path / "back" / "read" / "aabb").read_bytes() == b"input"


# What earlier rounds broke

BROKE = {
    "authorities": [
        # A certificate of version 19: cryptography's error for it is no ValueError.
        next(data for data in seeds("authorities", "text") if data[:1] == b"\x30").replace(
            b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x12", 1
        )
    ],
    "inspect-dns": [
        # Both sides send an answer: the code was told twice.
        pack_talk(
            bytes.fromhex("000085800001000100000000") + b"\1a\0\0\1\0\1" + bytes(16),
            bytes.fromhex("000085830001000100000000") + b"\1a\0\0\1\0\1" + bytes(16),
        )
    ],
}


@pytest.mark.parametrize("name", BROKE)
def test_what_broke_once(name: str) -> None:
    for data in BROKE[name]:
        targets()[name].run(data)
