"""Captures that do not suffice: each connection knows what is missing, the summary too, and nothing that is missing becomes a finding."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import auditor
from auditor.api import Report
from auditor.jobs.exit_criteria import incomplete
from tests.conftest import ROOT
from tests.doubling import Frame, frames_of, write

SAMPLE = ROOT / "captures" / "sample"
INVENTORY = str(SAMPLE / "healthy.inventory.yml")
SYN = 2

ABOUT_CAPTURES = {"capture-incomplete", "unverifiable-authentication"}
GUESSED = {"undeclared-port"}
"""Without its opening, who opened a connection to a port that varies is a guess, and the finding says so."""


def is_tcp(data: bytes) -> bool:
    return data[12:14] == b"\x08\x00" and data[23] == 6


def ends(data: bytes) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
    source, target = struct.unpack(">HH", data[34:38])
    return (data[26:30], source), (data[30:34], target)


def payload_of(data: bytes) -> bytes:
    """What TCP carries; nothing for others."""
    return data[34 + (data[46] >> 4) * 4 : 14 + int.from_bytes(data[16:18], "big")] if is_tcp(data) else b""


def late(frames: Iterable[Frame]) -> list[Frame]:
    """From the seventh packet of each connection on."""
    seen: Counter[object] = Counter()
    kept = []
    for frame in frames:
        key = frozenset(ends(frame[1])) if is_tcp(frame[1]) else None
        seen[key] += 1
        if key is None or seen[key] > 6:
            kept.append(frame)
    return kept


def one_way(towards_low: bool) -> Callable[[list[Frame]], list[Frame]]:
    """Packets to the lower port, or to the higher one."""

    def some(frames: list[Frame]) -> list[Frame]:
        return [
            frame
            for frame in frames
            if not is_tcp(frame[1]) or (ends(frame[1])[0][1] > ends(frame[1])[1][1]) is towards_low
        ]

    return some


def cut(size: int) -> Callable[[list[Frame]], list[Frame]]:
    return lambda frames: [(ts_ns, data[:size], wire) for ts_ns, data, wire in frames]


def audited(folder: Path, change: Callable[[list[Frame]], list[Frame]]) -> Report:
    link_type, frames = frames_of(SAMPLE / "healthy.pcap")
    return auditor.audit(str(write(folder / "poor.pcap", link_type, change(frames))), inventory=INVENTORY)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (late, "midstream"),
        (one_way(towards_low=True), "one_way"),
        (one_way(towards_low=False), "one_way"),
        (lambda frames: [frame for k, frame in enumerate(frames) if k % 7], "gap"),
        (cut(44), "snaplen"),
        (cut(54), "snaplen"),
        (cut(64), "snaplen"),
        (cut(200), "snaplen"),
        (lambda frames: [frame for frame in frames if not payload_of(frame[1])], "gap"),
    ],
    ids=[
        *("begun before", "to the server", "to the client", "every seventh lost"),
        *("ports alone", "headers alone", "64 bytes", "200 bytes", "no payload captured"),
    ],
)
def test_what_cannot_be_told_is_said_and_accused_of_nothing(
    tmp_path: Path, change: Callable[[list[Frame]], list[Frame]], reason: str
) -> None:
    report = audited(tmp_path, change)
    sufficiency = report.summary["sufficiency"]
    assert sufficiency["complete"] is False
    assert sufficiency["undecided_percent"] > 50
    assert reason in sufficiency["reasons"]
    found = set(report.findings["rule"])
    assert found >= ABOUT_CAPTURES
    assert found - ABOUT_CAPTURES <= (GUESSED if change is late else set())
    assert report.exit_status("critical") == 3
    assert report.exit_status("critical", allow_incomplete=True) == 0
    undecided = report.connections["authentication_verdict"] == "unverifiable"
    factors = report.connections.loc[undecided, "authentication_factors"]
    assert all(factor["says"] for each in factors for factor in each if factor["verdict"] == "unverifiable")


@pytest.mark.parametrize("mask", [0x12, 0x02], ids=["SYN alone", "SYN and its answer"])
def test_openings_alone_show_no_authentication(tmp_path: Path, mask: int) -> None:
    """tcp[tcpflags] & tcp-syn != 0, as many filter: paths are told, and nothing of who proved to be whom."""
    report = audited(
        tmp_path, lambda frames: [each for each in frames if is_tcp(each[1]) and each[1][47] & mask == SYN]
    )
    assert report.summary["documented"] == report.summary["connections"] > 20
    assert report.summary["sufficiency"]["reasons"] == {"nothing_decided": report.summary["connections"]}
    assert report.exit_status("critical") == 3
    for told in (report.to_table(), *report.incomplete(), *incomplete(report.audit, 5.0)):
        assert re.search("opening only|only the opening", " ".join(told.split()))


def test_one_attempt_that_nobody_answers_is_all_there_was(tmp_path: Path) -> None:
    report = audited(tmp_path, lambda frames: [each for each in frames if is_tcp(each[1])][:1])
    assert report.connections["history"].tolist() == ["S"]
    assert report.summary["documented"] == 1
    assert report.summary["sufficiency"] == {"complete": True, "undecided_percent": 0.0, "reasons": {}}


def test_a_probe_of_a_port_is_no_opening_alone(tmp_path: Path) -> None:
    """Load balancers open and close."""

    def probes(frames: list[Frame]) -> list[Frame]:
        opening = next(each for each in frames if is_tcp(each[1]) and each[1][47] == SYN)
        here = ends(opening[1])
        (ts_ns, syn, _), sequence = opening, int.from_bytes(opening[1][38:42], "big") + 1
        answer = next(each for each in frames if is_tcp(each[1]) and ends(each[1]) == here[::-1])[1]
        behind = int.from_bytes(answer[38:42], "big") + 1

        def packet(flags: int, at_ms: int) -> Frame:
            tcp = struct.pack(">HHIIBBHHH", here[0][1], here[1][1], sequence, behind, 0x50, flags, 512, 0, 0)
            data = syn[:16] + struct.pack(">H", 40) + syn[18:24] + b"\0\0" + syn[26:34] + tcp
            return ts_ns + at_ms * 1_000_000, data, len(data)

        return [opening, (ts_ns + 1_000_000, answer, len(answer)), packet(0x10, 2), packet(0x14, 3)]

    report = audited(tmp_path, probes)
    assert report.connections["history"].tolist() == ["ShAR"]
    assert report.audit.connections["authentication_missing"].tolist() == ["no_payload"]
    assert report.summary["sufficiency"]["complete"] is True


def test_nobody_has_expired_where_nothing_has_a_date(tmp_path: Path) -> None:
    """Simple Packet Blocks have no time: the certificates of 2026 are not on trial in 1970, and an address is whose it was last."""
    link_type, frames = frames_of(SAMPLE / "healthy.pcap")
    undated = tmp_path / "undated.pcapng"
    undated.write_bytes(
        block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
        + block(1, struct.pack("<HHI", link_type, 0, 0))
        + b"".join(block(3, struct.pack("<I", len(data)) + data) for _, data, _ in frames)
    )
    leased = tmp_path / "inventory.yml"
    vms = Path(INVENTORY).read_text()
    leased.write_text(vms.replace("ips: [10.0.4.60]}", "ips: [10.0.4.60], from: 2026-01-01T00:00:00Z}"))
    assert leased.read_text() != vms
    report = auditor.audit(str(undated), inventory=str(leased))
    assert report.findings.empty
    assert report.summary["documented"] == report.summary["connections"]
    [[problem]] = report.captures["problems"].tolist()
    assert problem["kind"] == "undated"
    assert "have no date" in " ".join(report.to_table().split())
    assert report.exit_status() == 0


def block(kind: int, body: bytes) -> bytes:
    """A block of pcapng, little endian."""
    body += b"\0" * (-len(body) % 4)
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


def test_a_syn_that_was_missed_costs_nothing_where_the_handshake_is_there(tmp_path: Path) -> None:
    def without_syn(frames: list[Frame]) -> list[Frame]:
        return [frame for frame in frames if not (is_tcp(frame[1]) and frame[1][47] & SYN)]

    whole, poor = audited(tmp_path, list), audited(tmp_path, without_syn)
    assert poor.summary["verdicts"] == whole.summary["verdicts"]
    assert poor.exit_status() == 0


def test_ipsec_hides_what_it_carries(tmp_path: Path) -> None:
    """ESP between a cell and a database: no finding, nothing verified, not complete."""

    def closed(frames: list[Frame]) -> list[Frame]:
        out = []
        for ts_ns, data, wire in frames:
            packet = bytearray(data)
            if is_tcp(data):
                packet[23] = 50
            out.append((ts_ns, bytes(packet), wire))
        return out

    report = audited(tmp_path, closed)
    esp = report.connections[report.connections["transport"] == "esp"]
    assert len(esp) >= 5
    assert set(esp["application"]) == {"ipsec"}
    assert set(esp["disposition"]) <= {"ambient", "out_of_scope"}
    assert set(esp["authentication_verdict"]) == {"not_applicable"}
    assert not set(report.findings["connections"].explode()) & set(esp["id"])
    assert report.summary["sufficiency"]["reasons"]["ipsec"] == int((esp["disposition"] == "ambient").sum())
    assert report.exit_status("critical") == 3
    assert any("IPsec" in reason for reason in report.incomplete())
    assert any("IPsec" in reason for reason in incomplete(report.audit, 100.0))


def test_a_handshake_is_judged_though_later_packets_are_missing(tmp_path: Path) -> None:
    """Behind the first 8 KiB of both directions nothing can change a verdict."""
    link_type, frames = frames_of(SAMPLE / "healthy.pcap")
    longest = Counter(frozenset(ends(data)) for _, data, _ in frames if is_tcp(data)).most_common(1)[0][0]
    whole = [frame for frame in frames if is_tcp(frame[1]) and frozenset(ends(frame[1])) == longest]
    last = [frame for frame in whole if len(frame[1]) > 66 and not frame[1][47] & 1][-1]
    sequence = int.from_bytes(last[1][38:42], "big")
    far = bytearray(last[1])
    far[38:42] = ((sequence + 50_000) % 2**32).to_bytes(4, "big")
    far[18:20] = b"\x7f\x77"
    far[50:52] = bytes(2)  # the checksum: of other bytes
    begun = whole[: whole.index(last) + 1]
    later = [*begun, (last[0] + 10**9, bytes(far), last[2])]
    verdicts = []
    for k, some in enumerate((begun, later)):
        report = auditor.audit(str(write(tmp_path / f"{k}.pcap", link_type, some)), inventory=INVENTORY)
        (row,) = report.connections.itertuples()
        verdicts.append(row.authentication_verdict)
        assert bool(row.missed_bytes) is bool(k)
    assert verdicts[0] == verdicts[1] or verdicts[1] == "unverifiable"
