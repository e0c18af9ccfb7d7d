"""What an audit says of a capture, it says of the same capture with every packet twice and all out of order by fifty milliseconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import auditor
from auditor.api import Report
from tests.conftest import ROOT
from tests.doubling import doubled, frames_of, write

SAMPLES = ROOT / "captures" / "sample"
RULES = sorted(path for path in (ROOT / "captures" / "rules").glob("**/*.pcap*") if path.suffix in (".pcap", ".pcapng"))

PUBLIC = (
    "arkime/dns-https.pcap", "arkime/https3-301-get.pcap", "arkime/mysql-allow.pcap", "arkime/mysql-deny.pcap",
    "arkime/openssl-tls1_2.pcap", "arkime/openssl-tls1.pcap", "arkime/http-digestauth.pcap", "arkime/ssl-selfsign.pcap",
    "arkime/wireshark-dtls12.pcap", "arkime/curl-enabled-tls13.pcap", "arkime/quic33-wireshark.pcap",
    "arkime/https-generalizedtime.pcap",
)  # fmt: skip


def said_of(report: Report) -> tuple[Any, ...]:
    """What is judged, and what is counted."""
    columns = ["disposition", "application", "authentication_verdict", "authentication_observed", "paths"]
    columns += ["originator_packets", "responder_packets", "originator_bytes", "responder_bytes", "missed_bytes"]
    table = report.connections
    rows = sorted(zip(table["id"], *(table[name].astype(object) for name in columns), strict=True), key=str)
    findings = report.findings
    found = zip(findings["rule"], findings["fingerprint"], findings["severity"], findings["count"], strict=True)
    return rows, sorted(found), report.summary["sufficiency"]["reasons"]


def same_twice(path: Path, folder: Path, seed: int, **options: Any) -> None:
    link_type, frames = frames_of(path)
    once = write(folder / "once.pcap", link_type, frames)
    twice = write(folder / "twice.pcap", link_type, doubled(frames, random.Random(seed), link_type=link_type))
    here, there = (auditor.audit([str(each)], scope="all", **options) for each in (once, twice))
    assert said_of(here) == said_of(there)
    # What cannot be told from another one sent within a moment is few.
    assert abs(int(there.captures["doubled"].iloc[0]) - len(frames)) <= 4


@pytest.mark.parametrize("name", ["diego.pcapng", "healthy.pcap"])
def test_samples(tmp_path: Path, name: str) -> None:
    inventory = str(SAMPLES / f"{name.partition('.')[0]}.inventory.yml")
    same_twice(SAMPLES / name, tmp_path, 1, inventory=[inventory])


@pytest.mark.night
def test_captures_of_the_rules(tmp_path: Path) -> None:
    assert len(RULES) >= 20
    for path in RULES:
        # Of packets that contradict each other some are no copies, however alike they are.
        if path.parent.name != "conflicting-content":
            same_twice(path, tmp_path, 2)


@settings(max_examples=4)
@given(seed=st.integers(0, 2**32))
def test_handshakes_of_many_stacks(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """Some of the corpus' conversations, whole."""
    link_type, frames = frames_of(ROOT / "captures" / "tls" / "corpus.pcap.zst")
    begin = seed % (len(frames) - 1_500)
    folder = tmp_path_factory.mktemp("corpus")
    same_twice(write(folder / "some.pcap", link_type, frames[begin : begin + 1_500]), folder, seed)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_captures(public_captures: Path, tmp_path: Path, name: str) -> None:
    same_twice(public_captures / name, tmp_path, 3)
