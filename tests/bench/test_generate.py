"""The benchmark's capture is what it says: the same for the same seed, right to the last checksum, and read alike by tshark and the C floor."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
PACKETS = 4_000
CHECKED = ("-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE")
GOOD = "1"


def numbers(text: str) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"^(\w+) (\d+)$", text, re.MULTILINE)}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recording") / "handshakes.json"


def generate(out: Path, recording: Path, *options: str) -> dict[str, int]:
    command = [sys.executable, BENCH / "generate.py", "--handshakes", recording, "--out", out, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return numbers(done.stdout)


@pytest.fixture(scope="module", params=["bulk", "many"])
def made(
    request: pytest.FixtureRequest, recording: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, int]]:
    path = tmp_path_factory.mktemp("made") / "capture.pcap"
    return path, generate(path, recording, "--shape", request.param, "--packets", str(PACKETS))


def fields(tshark: str, path: Path, *names: str, only: str = "") -> list[tuple[str, ...]]:
    command = [tshark, "-n", *CHECKED, "-r", path, "-T", "fields"]
    for name in names:
        command += ["-e", name]
    if only:
        command += ["-Y", only]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [tuple(line.split("\t")) for line in lines]


@pytest.mark.night
def test_same_seed_same_bytes(recording: Path, tmp_path: Path) -> None:
    one, two, other = tmp_path / "one", tmp_path / "two", tmp_path / "other"
    for path, seed in ((one, "7"), (two, "7"), (other, "8")):
        generate(path, recording, "--packets", "1000", "--seed", seed)
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() != other.read_bytes()


@pytest.mark.tshark
def test_tshark_sees_every_connection_and_nothing_wrong(tshark: str, made: tuple[Path, dict[str, int]]) -> None:
    path, told = made
    rows = fields(
        tshark,
        path,
        "tcp.stream",
        "ip.checksum.status",
        "tcp.checksum.status",
        "tcp.analysis.flags",
        "tcp.options.timestamp.tsecr",
        "tcp.flags.syn",
    )
    assert len(rows) == told["packets"]
    assert len({row[0] for row in rows}) == told["connections"]
    assert Counter(row[1:3] for row in rows) == {(GOOD, GOOD): told["packets"]}
    assert not [row for row in rows if row[3]]

    conversations = subprocess.run(
        [tshark, "-n", "-q", "-z", "conv,tcp", "-r", path], capture_output=True, text=True, check=True
    )
    assert conversations.stdout.count("<->") == told["connections"]


@pytest.mark.tshark
def test_timestamps_echo_the_other_end(tshark: str, made: tuple[Path, dict[str, int]]) -> None:
    path, _ = made
    last: dict[tuple[str, str], str] = {}
    wanted = ("tcp.stream", "tcp.srcport", "tcp.dstport", "tcp.options.timestamp.tsval", "tcp.options.timestamp.tsecr")
    for stream, source, target, value, echo in fields(tshark, path, *wanted):
        assert echo == last.get((stream, target), "0")
        last[stream, source] = value


@pytest.mark.tshark
def test_every_tls_connection_greets_behind_its_preamble(tshark: str, made: tuple[Path, dict[str, int]]) -> None:
    path, _ = made
    opened = Counter(
        port for (port,) in fields(tshark, path, "tcp.dstport", only="tcp.flags.syn == 1 && tcp.flags.ack == 0")
    )
    hellos = fields(
        tshark,
        path,
        "tcp.dstport",
        "tls.handshake.random",
        only="tls.handshake.type == 1 && tcp.dstport in {443, 3306}",
    )
    assert hellos
    assert Counter(port for port, _ in hellos) == {port: opened[port] for port in ("443", "3306") if opened[port]}
    assert len({random for _, random in hellos}) == len(hellos)  # fresh in every connection

    data = path.read_bytes()
    assert data.count(b'INFO {"server_id"') == opened["4222"]
    assert data.count(b"mysql_native_password") == opened["3306"]


def test_recording_has_client_certificates(recording: Path, made: tuple[Path, dict[str, int]]) -> None:
    """TLS 1.2 shows them: a Certificate message (type 11) in the first record of the client's second turn; TLS 1.3 hides them by length."""
    sys.path.insert(0, str(BENCH))
    try:
        import handshakes
    finally:
        sys.path.remove(str(BENCH))
    talks = handshakes.load(recording)
    seconds = [[said for by, said in talk if by == handshakes.ORIG][1] for talk in talks]
    open_ones = [said for said in seconds if said[0] == 22 and said[5] == 11]
    assert len(talks) == 12
    assert len(open_ones) == 6
    assert all(len(said) > 900 for said in seconds)


@pytest.mark.tshark
def test_floor_agrees_with_tshark(tshark: str, made: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    path, told = made
    floor = tmp_path / "floor"
    subprocess.run(
        [compiler, "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-o", floor, BENCH / "floor.c"], check=True
    )
    said = numbers(subprocess.run([floor, path], capture_output=True, text=True, check=True).stdout)
    reused = numbers(subprocess.run([floor, "--reuse", path], capture_output=True, text=True, check=True).stdout)

    kept: Counter[tuple[str, str]] = Counter()
    ip_bytes = 0
    for stream, source, payload, length in fields(tshark, path, "tcp.stream", "tcp.srcport", "tcp.len", "ip.len"):
        kept[stream, source] += int(payload)
        ip_bytes += int(length)
    assert said["frames"] == said["counted"] == told["packets"]
    assert said["tcp_connections"] == told["connections"]
    assert said["ip_bytes"] == ip_bytes
    assert said["kept_bytes"] == sum(min(size, 2_048) for size in kept.values())
    assert reused["kept_bytes"] == said["kept_bytes"]
    assert reused["slots"] < said["slots"]


@pytest.mark.tshark
def test_loss_reordering_vlan_and_pcapng(tshark: str, recording: Path, tmp_path: Path) -> None:
    path = tmp_path / "rough.pcapng"
    told = generate(
        path, recording, "--packets", str(PACKETS), "--loss", "0.02", "--reorder", "0.02", "--vlan", "7", "--pcapng"
    )
    rows = fields(tshark, path, "vlan.id", "tcp.checksum.status")
    assert told["lost"] > 0
    assert told["reordered"] > 0
    assert len(rows) == told["packets"]
    assert set(rows) == {("7", GOOD)}
    assert fields(tshark, path, "frame.number", only="tcp.analysis.out_of_order || tcp.analysis.lost_segment")
