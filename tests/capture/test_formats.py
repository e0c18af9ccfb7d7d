"""Formats to the letter: every block and option, every variant of the header, times of this century and the next; beside tshark where it reads them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import auditor
from auditor.capture import open_capture
from auditor.cli import main
from auditor.errors import NotACaptureError
from auditor.model.frames import Problem, VantagePoint
from tests.capture.make import Blocks, pcap, read
from tests.conftest import ROOT
from tests.test_limits import capture, talk, zeros

NS = 10**9
BEYOND = {"2038": 2_147_483_648, "2046": 2_400_000_000, "2106": 4_294_967_295}
"""Seconds that do not fit into 31 bits; the last ones that fit into 32."""
LATER = {"2107": 4_330_000_000, "2200": 7_258_118_400}
"""What 64 bits hold, and 32 do not."""

OPTIONS = {
    "section": {1: b"cell 4, taken by night\nsecond line", 2: b"Intel", 3: b"Linux 6.1", 4: b"dumpcap"},
    "interface": {
        1: b"a comment", 2: b"eth0", 3: b"uplink", 4: b"\x0a\0\0\1\xff\xff\xff\0", 6: b"\2\0\0\0\0\1", 8: bytes(8), 11: b"\0tcp port 443",
        12: b"Linux", 13: b"\4", 15: b"igb", 16: bytes(8), 17: bytes(8),
    },
    "packet": {1: b"first comment", 2: b"\x01\0\0\0", 3: b"\2abcd", 5: bytes(8), 6: bytes(4), 7: b"\2\0\0\0\0\0\0\0\0"},
    "statistics": {2: bytes(8), 3: bytes(8), 4: b"\x63" + bytes(7), 6: bytes(8), 8: bytes(8)},
}  # fmt: skip
"""Codes of draft-ietf-opsawg-pcapng, sections 4.1 to 4.6, that change nothing of what is read, and those that do."""


def everything(order: str) -> bytes:
    """A pcapng with every block and option there is, and some that there are not."""
    blocks = Blocks(order)
    body = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    blocks.block(0x0A0D0D0A, body + blocks.options(OPTIONS["section"]))
    blocks.block(1, struct.pack(order + "HHI", 1, 0, 96) + blocks.options(OPTIONS["interface"]))
    blocks.interface(1, name="lo", tsresol=9).interface(101, tsresol=0x80 | 20, tsoffset=1_000).interface(1, tsresol=3)
    packet = talk(4_000, b"")[0]

    def enhanced(which: int, stamp: int, options: dict[int, bytes]) -> None:
        head = struct.pack(order + "IIIII", which, stamp >> 32, stamp & 0xFFFFFFFF, len(packet), len(packet) + 9)
        blocks.block(6, head + packet + bytes(-len(packet) % 4) + blocks.options(options))

    enhanced(0, 1_800_000_000_123_456, {**OPTIONS["packet"], 4: struct.pack(order + "Q", 5)})
    enhanced(1, 1_800_000_001_123_456_789, OPTIONS["packet"])
    enhanced(2, 1_800_000_002 << 20 | 1 << 19, {})
    enhanced(3, 1_800_000_003_123, {2: bytes(4), 9_999: b"of nobody"})
    blocks.block(4, struct.pack(order + "HH", 1, 14) + b"\x0a\0\0\1a.example\0\0\0" + struct.pack(order + "HH", 0, 0))
    blocks.block(
        5,
        struct.pack(order + "III", 0, 1, 2) + blocks.options({**OPTIONS["statistics"], 5: struct.pack(order + "Q", 7)}),
    )
    blocks.block(9, b"__REALTIME_TIMESTAMP=1800000000000000\nMESSAGE=hello\n\0\0\0\0")
    blocks.block(10, struct.pack(order + "II", 0x544C534B, 4) + b"key\n")
    for kind in (0x0BAD, 0x40000BAD):
        blocks.block(kind, struct.pack(order + "I", 32473) + b"anything")
    blocks.block(0x7777, b"").block(0x80000001, bytes(400))
    return blocks.simple(packet).old_packet(1_800_000_004_000_000, packet, 0, 3).bytes


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_block_and_option_of_pcapng(order: str) -> None:
    frames, summary = read(everything(order))
    packet = talk(4_000, b"")[0]
    start = 1_800_000_000 * NS
    assert [(each.ts_ns - start, each.wirelen, each.vantage, each.link_type) for each in frames] == [
        (123_456_000, len(packet) + 9, 0, 1),
        (NS + 123_456_789, len(packet) + 9, 1, 1),
        (2 * NS + NS // 2 + 1_000 * NS, len(packet) + 9, 2, 101),
        (3 * NS + 123_000_000, len(packet) + 9, 3, 1),
        (3 * NS + 123_000_000, len(packet), 0, 1),
        (4 * NS, len(packet), 0, 1),
    ]
    assert [each.data for each in frames] == [packet] * 6
    place = "cell 4, taken by night"
    assert summary.vantage_points == (
        VantagePoint("uplink", "eth0", 1, 96),
        VantagePoint(place, "lo", 1, 0),
        VantagePoint(place, None, 101, 0),
        VantagePoint(place, None, 1, 0),
    )
    assert summary.dropped == 7, "the statistics know better than the packets"
    [remark] = summary.problems
    assert (remark.kind, remark.says) == (
        "filtered",
        "taken with the filter 'tcp port 443': other traffic is not in it",
    )
    assert not remark.damaging


def test_a_cut_inside_any_block_is_told_and_what_came_before_stands() -> None:
    whole = everything("<")
    frames, _ = read(whole)
    ends = {0}
    at = 0
    while at < len(whole):
        at += struct.unpack_from("<I", whole, at + 4)[0]
        ends.add(at)
    for size in range(28, len(whole), 7):
        try:
            some, summary = read(whole[:size])
        except NotACaptureError:
            assert size < 28
            continue
        assert frames[: len(some)] == some
        assert [each.kind for each in summary.problems if each.damaging] == ([] if size in ends else ["truncated"])


@pytest.mark.parametrize("at", range(7))
def test_a_block_whose_lengths_differ_ends_the_reading(at: int) -> None:
    kinds = (4, 9, 10, 0x0BAD, 0x7777, 5, 1)
    body = bytes(12) if kinds[at] != 1 else struct.pack("<HHI", 1, 0, 0)
    good = Blocks().section().interface().enhanced(1, b"good").bytes
    bad = bytearray(Blocks().block(kinds[at], body).bytes)
    bad[-4] ^= 4
    frames, summary = read(good + bytes(bad) + Blocks().enhanced(2, b"behind").bytes)
    assert [each.data for each in frames] == [b"good"]
    assert [(each.kind, each.offset) for each in summary.problems] == [("corrupt", len(good))]


def told_by(tshark: str, file: Path, *filtered: str) -> list[tuple[int, int, int]]:
    """Time in ns, captured and wire length of every frame, as tshark says; -1: it says no time."""
    fields = ["frame.time_epoch", "frame.cap_len", "frame.len"]
    command = [
        tshark,
        "-n",
        "-r",
        str(file),
        *filtered,
        "-T",
        "fields",
        *(word for field in fields for word in ("-e", field)),
    ]
    found = []
    for line in subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines():
        epoch, caplen, wirelen = line.split("\t")
        seconds, _, fraction = epoch.partition(".")
        found.append((int(seconds) * NS + int(fraction.ljust(9, "0")[:9]) if epoch else -1, int(caplen), int(wirelen)))
    return found


@pytest.mark.tshark
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_block_as_tshark_reads_it(tshark: str, tmp_path: Path, order: str) -> None:
    file = tmp_path / "all.pcapng"
    file.write_bytes(everything(order))
    # tshark lists journal entries and blocks of companies, too; they came from no interface.
    theirs = told_by(tshark, file, "-Y", "frame.interface_id")
    ours = [(each.ts_ns, len(each.data), each.wirelen) for each in read(file)[0]]
    assert [each[1:] for each in ours] == [each[1:] for each in theirs]
    # A Simple Packet Block has no time.
    assert [each for k, each in enumerate(ours) if k != 4] == [each for k, each in enumerate(theirs) if k != 4]


def ixia(order: str, magic: int) -> bytes:
    plain = capture(talk(4_000, b"hello"))
    records = b"".join(
        struct.pack(order + "IIII", *struct.unpack_from("<IIII", plain, at)) + plain[at + 16 : end]
        for at, end in spans(plain)
    )
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65_535, 1)
    return head + struct.pack(order + "I", len(records)) + records


def spans(data: bytes) -> list[tuple[int, int]]:
    found, at = [], 24
    while at < len(data):
        end = at + 16 + int(struct.unpack_from("<I", data, at + 8)[0])
        found.append((at, end))
        at = end
    return found


@pytest.mark.tshark
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("magic", [0xA1B2C3D4, 0xA1B23C4D, 0xA1B2CD34, 0x1C0001AC, 0x1C0001AB])
def test_every_header_of_pcap_as_tshark_reads_it(tshark: str, tmp_path: Path, order: str, magic: int) -> None:
    file = tmp_path / "a.pcap"
    frames = talk(4_000, b"hello")
    records = [(1_800_000_000 + k, 123_456, data, len(data) + k) for k, data in enumerate(frames)]
    file.write_bytes(ixia(order, magic) if magic >> 16 == 0x1C00 else pcap(records, order=order, magic=magic))
    ours = [(each.ts_ns, len(each.data), each.wirelen) for each in read(file)[0]]
    assert ours == told_by(tshark, file)
    assert len(ours) == len(frames)


@pytest.mark.parametrize("magic", [0xA1B234CD, 0xA12B3C4D, 0xA1E2CB12])
def test_variants_that_nobody_documented_are_named(magic: int) -> None:
    for order in "<>":
        with pytest.raises(NotACaptureError, match="unknown variant of pcap"):
            open_capture(io.BytesIO(pcap([(1, 2, b"x")], order=order, magic=magic)))  # type: ignore[arg-type]


@pytest.mark.tshark
def test_ixia_cut_off_inside_its_header(tshark: str) -> None:
    frames, summary = read(ixia("<", 0x1C0001AC)[:26])
    assert (frames, [(each.kind, each.offset) for each in summary.problems]) == ([], [("truncated", 0)])


# Time


def times_of(data: bytes, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    file = tmp_path / name
    file.write_bytes(data)
    command = [str(file), "--scope", "all", "--fail-on", "never", "--allow-incomplete", "--quiet"]
    assert main(["audit", *command, "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert main(["audit", *command]) == 0
    return report, capsys.readouterr().out


@pytest.mark.parametrize("year", BEYOND)
@pytest.mark.parametrize(("magic", "digits"), [(0xA1B2C3D4, 6), (0xA1B23C4D, 9)])
def test_times_beyond_2038_in_pcap(
    year: str, magic: int, digits: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = BEYOND[year]
    frames = talk(4_000, b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n")
    report, told = times_of(
        pcap([(seconds, k + 1, data) for k, data in enumerate(frames)], magic=magic), "a.pcap", tmp_path, capsys
    )
    start = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + "1".rjust(digits, "0") + "Z"
    assert start.startswith(year)
    [connection] = report["connections"]
    assert connection["start"] == report["captures"][0]["first_packet"] == start
    assert 0 < connection["duration"] < 1e-3
    assert start in told.replace("\n  ", " ")


@pytest.mark.parametrize("year", BEYOND | LATER)
def test_times_beyond_2038_in_pcapng(year: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = (BEYOND | LATER)[year]
    blocks = Blocks().section().interface(name="eth0")
    for k, data in enumerate(talk(4_000, b"x")):
        blocks.enhanced(seconds * 10**6 + k, data)
    report, _ = times_of(blocks.bytes, "a.pcapng", tmp_path, capsys)
    assert report["connections"][0]["start"] == datetime.fromtimestamp(seconds, UTC).strftime(
        "%Y-%m-%dT%H:%M:%S.000000Z"
    )
    assert report["captures"][0]["first_packet"].startswith(year)


@pytest.mark.tshark
@pytest.mark.parametrize("seconds", [*BEYOND.values(), *LATER.values()])
def test_times_beyond_2038_as_tshark_says_them(tshark: str, tmp_path: Path, seconds: int) -> None:
    file = tmp_path / "a"
    file.write_bytes(Blocks().section().interface().enhanced(seconds * 10**6 + 7, bytes(60)).bytes)
    assert [each.ts_ns for each in read(file)[0]] == [told_by(tshark, file)[0][0]] == [seconds * NS + 7_000]
    if seconds < 2**32:
        file.write_bytes(pcap([(seconds, 7, bytes(60))]))
        assert [each.ts_ns for each in read(file)[0]] == [told_by(tshark, file)[0][0]] == [seconds * NS + 7_000]


# What the report makes of it


def test_the_vantage_is_the_interface_else_what_the_section_says_of_its_place(tmp_path: Path) -> None:
    packet = talk(4_000, b"")[0]

    def vantage(comment: bytes | None, **interface: str) -> str | None:
        blocks = Blocks()
        body = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
        blocks.block(0x0A0D0D0A, body + blocks.options({} if comment is None else {1: comment, 4: b"dumpcap"}))
        file = tmp_path / "a.pcapng"
        file.write_bytes(blocks.interface(1, **interface).enhanced(1, packet).bytes)
        found = auditor.audit(str(file), scope="all").captures["vantage"].tolist()[0]
        return found if isinstance(found, str) else None

    assert vantage(b"cell 4", name="eth0", description="uplink") == "eth0"
    assert vantage(b"cell 4", description="uplink") == "uplink"
    assert vantage(b"\n  cell 4 \nmore") == "cell 4"
    assert vantage(None) is None
    assert vantage(b"\x1b[31m\xff") == "\x1b[31m\ufffd", "the text itself; reports escape it"


def test_a_filter_is_told_and_damages_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = Blocks().section()
    blocks.block(
        1, struct.pack("<HHI", 1, 0, 0) + blocks.options({2: b"eth0", 11: b"\0port 4222 and \x1b[31m" + b"x" * 200})
    )
    for k, data in enumerate(talk(4_000, b"x")):
        blocks.enhanced(k, data)
    file = tmp_path / "a.pcapng"
    file.write_bytes(blocks.bytes)
    assert main(["audit", str(file), "--scope", "all", "--fail-on", "never"]) == 0
    told = capsys.readouterr().out
    assert "taken with the filter" in told and "\x1b" not in told
    assert "x" * 100 not in told
    other = Blocks().section().block(1, struct.pack("<HHI", 1, 0, 0) + Blocks().options({11: b"\1\0\0\0\0"}))
    assert read(other.bytes)[1].problems == (), "a filter in byte code is not shown"


def test_remarks_are_no_damage() -> None:
    assert not Problem("corrected", "x").damaging
    assert Problem("limit", "x").damaging


# Streams and bombs from the command line


def run(*words: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "auditor", *words]
    return subprocess.run(command, input=data, capture_output=True, cwd=ROOT, timeout=300, check=False)


def test_a_pipe_that_ends_inside_a_packet() -> None:
    data = (ROOT / "captures" / "sample" / "healthy.pcap").read_bytes()
    ran = run("audit", "-", "--fail-on", "never", "--format", "json", data=data[:-5])
    assert ran.returncode == 3
    report = json.loads(ran.stdout)
    [problem] = report["captures"][0]["problems"]
    assert (problem["kind"], problem["frame"]) == ("truncated", report["captures"][0]["packets"])
    assert b"incomplete: 1 of 1 captures damaged" in ran.stderr


def test_a_bomb_stops_with_a_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bomb = tmp_path / "bomb.pcap.gz"
    bomb.write_bytes(gzip.compress(zeros(120_000_000)))
    assert bomb.stat().st_size < 400_000
    assert main(["audit", str(bomb), "--scope", "all", "--fail-on", "never", "--format", "json"]) == 3
    out, err = capsys.readouterr()
    [problem] = json.loads(out)["captures"][0]["problems"]
    assert problem["kind"] == "limit"
    assert problem["says"].startswith(
        "expands to more than 250 times its size, like a decompression bomb; reading stopped"
    )
    assert "incomplete: 1 of 1 captures read in part: a limit was hit" in err
    nothing = tmp_path / "zeros.gz"
    nothing.write_bytes(gzip.compress(bytes(100_000_000)))
    assert main(["audit", str(nothing)]) == 2
    assert "zeros.gz: is not a pcap or pcapng capture" in capsys.readouterr().err
