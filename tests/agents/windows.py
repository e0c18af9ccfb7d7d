"""Windows for tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

from auditor import pipeline
from auditor.agents import wire
from auditor.agents.partial import certificates_of, may_leave
from auditor.inspectors._examine import Examiner

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("lab.cell0.pcap.zst", "lab.brain.pcap.zst")


@cache
def followed_of(which: int) -> pipeline.Followed:
    """What an agent would send of a capture of the lab."""
    followed = pipeline.follow_one(str(ROOT / "captures" / "sample" / NAMES[which]), 0, {}, False)
    examiner = Examiner()
    may_leave(followed.part, examiner, last=True)
    held = certificates_of(followed.part.facts, {**followed.certificates, **examiner.certificates.der})
    return replace(followed, certificates=held)


def window_of(agent: str, life: str, number: int, which: int) -> bytes:
    """A window with that number."""
    ended = 1_795_000_000 * 1_000_000_000 + number * 60_000_000_000
    window = wire.Window(agent, life, number, ended - 60_000_000_000, ended, followed_of(which % 2))
    return wire.write_window(window, Examiner().applications)
