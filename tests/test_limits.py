"""Every limit, hit from the command line: the report says which, how often and how to raise it, and is not complete."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
import zstandard

import auditor
from auditor import api
from auditor.cli import main
from auditor.errors import ConfigError, InputError
from auditor.model.limits import Limits, memory_allowed, memory_held, parse_limits
from tests.capture.make import Blocks, pcap
from tests.conftest import ROOT

SAMPLE = ROOT / "captures" / "sample" / "diego.pcapng"
CELL, DATABASE = "10.0.4.10", "10.0.4.20"
SYN, ACK, PSH, FIN = 2, 16, 8, 1


def ip(source: str, target: str, protocol: int, body: bytes) -> bytes:
    ends = bytes(map(int, f"{source}.{target}".split(".")))
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(body), 1, 0, 64, protocol, 0) + ends + body


def tcp(sport: int, dport: int, flags: int, seq: int, ack: int, data: bytes = b"") -> bytes:
    return struct.pack(">HHIIBBHHH", sport, dport, seq, ack, 0x50, flags, 8_192, 0, 0) + data


def udp(sport: int, dport: int, data: bytes) -> bytes:
    return struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data


def frame(packet: bytes) -> bytes:
    return bytes(12) + b"\x08\x00" + packet


def talk(port: int, request: bytes, answer: bytes = b"", server: int = 80) -> list[bytes]:
    """A TCP connection from its SYN to its data."""

    def client(flags: int, seq: int, ack: int, data: bytes = b"") -> bytes:
        return frame(ip(CELL, DATABASE, 6, tcp(port, server, flags, seq, ack, data)))

    def other(flags: int, seq: int, ack: int, data: bytes = b"") -> bytes:
        return frame(ip(DATABASE, CELL, 6, tcp(server, port, flags, seq, ack, data)))

    sent = [client(SYN, 0, 0), other(SYN | ACK, 0, 1), client(ACK, 1, 1)]
    at = 1
    for start in range(0, len(request), 1_000):
        sent.append(client(ACK | PSH, at, 1, request[start : start + 1_000]))
        at += len(request[start : start + 1_000])
    if answer:
        sent.append(other(ACK | PSH, 1, at, answer))
    return sent


def capture(frames: list[bytes], start: int = 1_800_000_000) -> bytes:
    return pcap([(start, k, data) for k, data in enumerate(frames)])


def request(line: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: " + b"x" * line + b"\r\n\r\n"


def interleaved(connections: int) -> bytes:
    """Each says half of a request before any says the other half."""
    first, second = [], []
    for k in range(connections):
        packets = talk(20_000 + k, request(1_500))
        first += packets[:4]
        second += packets[4:]
    return capture(first + second)


def openings(connections: int) -> bytes:
    return capture([frame(ip(CELL, DATABASE, 6, tcp(1_024 + k, 80, SYN, k, 0))) for k in range(connections)])


def tunnelled(depth: int) -> bytes:
    packet = ip(CELL, DATABASE, 6, tcp(4_000, 80, SYN, 0, 0))
    for _ in range(depth):
        packet = ip("10.0.0.1", "10.0.0.2", 4, packet)
    return capture([frame(packet)])


def described(interfaces: int, name: str = "eth0") -> bytes:
    blocks = Blocks().section()
    for k in range(interfaces):
        blocks.interface(1, name=name)
        blocks.enhanced(k, talk(4_000, b"")[0], k)
    return blocks.bytes


def zeros(count: int) -> bytes:
    """A capture that says nothing, at length: it compresses as only a bomb does."""
    return capture([*talk(4_000, request(10)), *[bytes(60_000)] * (count // 60_000)])


@dataclass(frozen=True)
class Case:
    """How to hit a limit."""

    limit: str
    captures: Callable[[], dict[str, bytes]]
    says: str
    kind: str = "limit"
    also: tuple[str, ...] = ()
    named: str | None = None
    """The limit that is told, where another decides whether it is looked at."""


def one(make: Callable[..., bytes], *given: Any) -> Callable[[], dict[str, bytes]]:
    return lambda: {"a.pcap": make(*given)}


def sample() -> dict[str, bytes]:
    return {"a.pcapng": SAMPLE.read_bytes()}


CASES = {
    "connections": Case("connections=3", sample, r"\d+ packets belong to connections beyond"),
    "memory_bytes": Case(
        "memory_bytes=1",
        one(openings, 6_000),
        r"\d+ packets belong to connections for which there was no memory",
        also=("buffer_bytes=64K",),
    ),
    "first_bytes": Case("first_bytes=64K", one(interleaved, 40), r"the first bytes of \d\d connections were given up"),
    "waiting_bytes": Case(
        "waiting_bytes=0",
        lambda: {
            f"{k}.pcap": capture([frame(ip(CELL, DATABASE, 17, udp(53_000, 53, b"a" * 40)))], k + 1) for k in (0, 9)
        },
        "1 connections were judged without waiting",
    ),
    "tunnel_depth": Case("tunnel_depth=2", one(tunnelled, 3), "1 packets carry tunnels that were not opened"),
    "certificate_bytes": Case("certificate_bytes=100", sample, r"\d+ certificates are too large"),
    "certificates_bytes": Case("certificates_bytes=2K", sample, r"\d+ certificates were not kept"),
    "line_bytes": Case(
        "line_bytes=64",
        one(lambda: capture([*talk(4_000, request(20)), *talk(4_001, request(200))])),
        "1 connections have lines",
    ),
    "frame_bytes": Case("frame_bytes=200", sample, r"claims more|impossible length|claims \d+ bytes", kind="corrupt"),
    "block_bytes": Case("block_bytes=100", one(described, 2, "eth" * 60), "an interface description of 208 bytes"),
    "interfaces": Case("interfaces=2", one(described, 4), "more than 2 interfaces"),
    "expanded_bytes": Case(
        "expanded_bytes=1M",
        lambda: {"a.pcap.gz": gzip.compress(zeros(8_000_000))},
        "expands to more than 1048576 bytes",
    ),
    "expansion_ratio": Case(
        "expansion_ratio=20",
        lambda: {"a.pcap.zst": zstandard.compress(zeros(8_000_000))},
        "expands to more than 20 times its size",
        also=("expansion_free_bytes=100K",),
    ),
    "expansion_free_bytes": Case(
        "expansion_free_bytes=100K",
        lambda: {"a.pcap.xz": lzma.compress(zeros(8_000_000))},
        "expands to more than 250 times its size",
        named="expansion_ratio",
    ),
}
"""Those that a capture hits and is still audited. What stands below is hit in ways of its own."""
APART = {"captures", "window_bytes", "nesting", "buffer_bytes", "follow_idle_seconds"}


def written(tmp_path: Path, files: dict[str, bytes]) -> list[str]:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return [str(tmp_path / name) for name in files]


def test_every_limit_has_a_test() -> None:
    assert set(CASES) | APART == {each.name for each in fields(Limits)}


@pytest.mark.parametrize("name", CASES)
def test_a_limit_that_is_hit_is_told_and_makes_the_audit_incomplete(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    files = written(tmp_path, case.captures())
    command = ["audit", *files, "--scope", "all", "--fail-on", "never", "--max-undecided", "100", "--format", "json"]
    output = tmp_path / "report.json"
    limits = [word for each in (case.limit, *case.also) for word in ("--limit", each)]
    assert main([*command, *limits, "--output", str(output), "--quiet"]) == 3
    report = json.loads(output.read_text())
    told = [problem for each in report["captures"] for problem in each["problems"]]
    problem, *_ = [each for each in told if re.search(case.says, each["says"])]
    assert problem["kind"] == case.kind
    if case.kind == "limit":
        hit = case.named or name
        assert f"the limit {hit} is " in problem["says"] and f"--limit {hit}=N sets another" in problem["says"]
    assert report["summary"]["sufficiency"]["complete"] is False
    assert report["audit"]["options"]["limits"][name] == getattr(parse_limits([case.limit]), name)
    assert main([*command, *limits, "--output", str(output), "--quiet", "--allow-incomplete"]) == 0
    # With the defaults nothing is hit.
    assert main([*command, "--output", str(output), "--quiet"]) == 0
    unhurt = json.loads(output.read_text())
    assert [each["problems"] for each in unhurt["captures"]] == [[]] * len(files)
    capsys.readouterr()


def test_the_report_in_words_says_it_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [file] = written(tmp_path, one(tunnelled, 3)())
    assert main(["audit", file, "--limit", "tunnel_depth=1", "--scope", "all", "--fail-on", "never"]) == 3
    told = " ".join(capsys.readouterr().out.split())
    assert "1 packets carry tunnels that were not opened: the limit tunnel_depth is 1" in told


def test_connections_alone_say_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = written(tmp_path, sample())
    assert main(["connections", *files, "--limit", "connections=5", "--format", "csv"]) == 3
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 + 5
    assert "incomplete: 1 of 1 captures read in part: a limit was hit" in err


def test_connections_are_held_over_all_captures_together(tmp_path: Path) -> None:
    files = written(
        tmp_path,
        {
            f"{k}.pcap": capture([packet for n in range(4) for packet in talk(4_000 + 10 * k + n, b"")], k)
            for k in (1, 2, 3)
        },
    )
    for workers in (1, 2):
        report = auditor.audit(files, scope="all", limits={"connections": 6}, workers=workers)
        assert len(report.connections) == 6
        [[], [second], [third]] = (list(each) for each in report.captures["problems"])
        assert second["says"].startswith("6 packets belong to connections beyond")
        assert third["says"].startswith("12 packets belong to connections beyond")
        assert report.incomplete()


def test_a_packet_beyond_the_limit_changes_nothing_of_those_that_are_held() -> None:
    whole = auditor.audit(str(SAMPLE))
    some = auditor.audit(str(SAMPLE), limits={"connections": 40})
    first = whole.connections.sort_values("start", kind="stable")
    kept = some.connections.set_index("id")
    assert len(kept) == 40
    same = first.set_index("id").loc[kept.index]
    for column in ("history", "originator_packets", "responder_bytes", "application", "conn_state"):
        assert same[column].tolist() == kept[column].tolist()


def test_too_many_captures_are_refused_in_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = written(tmp_path, {f"{k}.pcap": tunnelled(0) for k in range(3)})
    assert main(["audit", str(tmp_path), "--limit", "captures=2"]) == 2
    [line] = [each for each in capsys.readouterr().err.splitlines() if "compiling" not in each]
    assert line == "auditor: captures: 3 are too many: the limit captures is 2; --limit captures=N sets another"
    assert len(auditor.audit(files, scope="all", limits={"captures": 3}).captures) == 3


def test_compressions_around_one_another(tmp_path: Path) -> None:
    thrice = gzip.compress(lzma.compress(zstandard.compress(tunnelled(0))))
    [file] = written(tmp_path, {"a": thrice})
    with pytest.raises(InputError, match="is compressed too many times: the limit nesting is 2"):
        auditor.audit(file)
    assert len(api.connections(file, limits=Limits(nesting=3)).connections) == 1


def test_a_window_that_a_decoder_may_not_keep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=24, enable_ldm=True)
    noise = capture([*talk(4_000, request(10)), *[bytes(range(256)) * 200] * 200])
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    [file] = written(tmp_path, {"a.zst": packer.compress(noise) + packer.flush()})
    assert main(["audit", file, "--limit", "window_bytes=1M"]) == 2, "not a byte could be read"
    assert "the limit window_bytes is 1MiB; --limit window_bytes=N sets another" in capsys.readouterr().err
    assert main(["connections", file, "--quiet"]) == 0
    capsys.readouterr()


def test_bzip2_is_named_and_not_read(tmp_path: Path) -> None:
    [file] = written(tmp_path, {"a.bz2": bz2.compress(tunnelled(0))})
    with pytest.raises(InputError, match="bzip2 data; decompress it first"):
        auditor.audit(file)


def test_a_small_buffer_reads_the_same() -> None:
    plain = api.connections(str(SAMPLE)).connections
    small = api.connections(str(SAMPLE), limits={"buffer_bytes": 64}).connections
    assert plain.to_csv() == small.to_csv()


def test_the_memory_of_a_control_group_counts(tmp_path: Path) -> None:
    group = tmp_path / "memory.max"
    group.write_text("2147483648\n")
    assert memory_allowed(Limits(), [str(group)]) == 1 << 30
    group.write_text("max\n")
    whole = memory_allowed(Limits(), [str(group), str(tmp_path / "absent")])
    assert whole == memory_allowed(Limits(), []) > 1 << 28
    assert memory_allowed(Limits(memory_bytes=5), [str(group)]) == 5
    assert memory_held() > 1 << 20


def test_limits_from_python_are_checked() -> None:
    with pytest.raises(ConfigError, match="unknown limit 'conections'"):
        auditor.audit(str(SAMPLE), limits={"conections": 5})
    with pytest.raises(ConfigError, match="out of bounds"):
        auditor.Limits(connections=0)


def test_doctor_lists_them_and_help_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    told = capsys.readouterr().out
    main(["audit", "--help"])
    assert "auditordoctorlistsnamesanddefaults" in re.sub(r"[\s`]+", "", capsys.readouterr().out)
    for each in fields(Limits):
        assert f" {each.name} " in told
