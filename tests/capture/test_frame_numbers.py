"""Frame numbers are Wireshark's: each packet of each public pcapng file, and each frame that an audit cites, has the number that tshark gives it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import auditor
from auditor.errors import AuditorError
from tests.capture.make import Blocks, read
from tests.conftest import by_day

pytestmark = pytest.mark.tshark
OTHER_RECORDS = {"data", "bblog", "systemd_journal", "sysdig"}
"""What tshark calls a block that is not a packet."""


def told(path: Path) -> tuple[list[tuple[int, int, str]], bool]:
    """Number, captured length and protocols of each frame, by tshark; whether it read the file to its end."""
    fields = [word for name in ("number", "cap_len", "protocols") for word in ("-e", f"frame.{name}")]
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", *fields]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [line.split("\t") for line in run.stdout.splitlines()]
    return [(int(row[0]), int(row[1]), row[2]) for row in rows], run.returncode == 0


def agrees(path: Path) -> set[int] | None:
    """Numbers of the packets of one file, which both gave alike; None where one of both did not read it to its end."""
    frames, whole = told(path)
    try:
        with path.open("rb") as file:
            ours, summary = read(file)
    except AuditorError:
        return None
    if not whole or any(each.damaging for each in summary.problems):
        return None
    numbered = {number: size for number, size, _ in frames}
    assert [each.number for each in ours] == sorted({each.number for each in ours}), path
    # tshark takes pseudo headers of a link layer off first.
    assert all(numbered.get(each.number, 1 << 30) <= len(each.data) for each in ours), path
    packets = {each.number for each in ours}
    assert {protocols for number, _, protocols in frames if number not in packets} <= OTHER_RECORDS, path
    return packets


def cited(path: Path) -> set[int]:
    report = auditor.audit([str(path)])
    lists = [*report.connections["authentication_evidence"], *report.findings["evidence"]]
    return {frame for evidence in lists for each in evidence for _, frame in each["frames"]}


def test_blocks_of_every_kind_are_counted_as_tshark_counts_them(tmp_path: Path) -> None:
    journal = b"__REALTIME_TIMESTAMP=1500000000000000\nMESSAGE=hi\n\n"
    event = bytes(2) + (10**18).to_bytes(8, "little") + bytes(8) + (26).to_bytes(4, "little") + bytes(14)
    blocks = Blocks().section().interface()
    for kind, body in (
        (0xBAD, b"\xd9\x7e\0\0some"),
        (0x40000BAD, b"\xd9\x7e\0\0some"),
        (9, journal + bytes(-len(journal) % 4)),
        (0x204, event),
        (0x208, bytes(48)),
        (0x216, event + bytes(4)),
        (0x217, bytes(48)),
        (0x221, event + bytes(4)),
        (0x201, bytes(40)),
        (4, bytes(4)),
        (5, bytes(12)),
        (7, bytes(16)),
        (0x777, bytes(16)),
        (0x80000001, bytes(16)),
    ):
        blocks.block(kind, body).enhanced(1, bytes(60)).simple(bytes(61))
    path = tmp_path / "blocks.pcapng"
    path.write_bytes(blocks.bytes)
    assert len(told(path)[0]) == 2 * 14 + 6
    assert agrees(path) is not None


@pytest.mark.night
@pytest.mark.slow
def test_public_captures_have_the_numbers_of_tshark(public_captures: Path) -> None:
    """Some of them by day."""
    compared = 0
    paths = [path for path in sorted(public_captures.rglob("*.pcapng")) if path.is_file() and "truth" not in path.parts]
    chosen = by_day(paths, 9)
    for path in chosen:
        packets = agrees(path)
        if packets is not None:
            compared += 1
            assert cited(path) <= packets, path
    assert compared > len(chosen) // 2 > 5
