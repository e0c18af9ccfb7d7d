"""Captures of other projects: our frames against foreign counts, and against tshark frame by frame."""

from __future__ import annotations

import csv
import random
import subprocess
from pathlib import Path

import pytest

from auditor.capture import expand
from auditor.errors import AuditorError, NotACaptureError
from auditor.kernels.load import MAX_NS
from auditor.model.limits import Limits
from tests.capture.make import Trickle, read
from tests.naive_load import parse_pcap, parse_pcapng

DIFFER = {
    # tshark refuses the three and reads none of the fourth's packets; libpcap reads one packet of the fourth, as we do.
    "malformed/libpcap/pcap-invalid-version-1.pcap": (1, "unsupported"),
    "malformed/libpcap/pcap-invalid-version-2.pcap": (1, "unsupported"),
    "malformed/libpcap/linktype-reserved-field-not-zero.pcap": (0, "unsupported"),
    "malformed/ndpi/fuzz-2021-10-13.pcap": (1, "truncated"),
}
"""Captures with something wrong in the file itself: our frames, and the Problem we tell."""

AGAINST_TSHARK = [
    "arkime/bigendian.pcap",
    "arkime/ipv6-gtp6.pcap",
    "gopacket/be/test010.pcapng",
    "gopacket/be/test100.pcapng",
    "gopacket/le/test100.pcapng",
    "gopacket/le/test300.pcapng",
    "ipfixprobe/mqtt.pcap",
    "malformed/tcpdump/quic_handshake_truncated.pcap",
    "malformed/zeek/tcp/truncated-header.pcap",
    "ndpi/anydesk.pcapng",
    "ndpi/doq.pcapng",
    "ndpi/mysql.pcapng",
    "ndpi/nano.pcapng",
    "ndpi/nfsv3.pcap",
    "ndpi/someip_sd_sample.pcap",
    "ndpi/z3950.pcapng",
    "pcap-parser/modified-format.pcap",
    "pcapplusplus/PacketExamples/BgpPackets.pcap",
    "pcapplusplus/PacketExamples/ldap.pcapng",
    "pcapplusplus/file_heuristics/nanosecs.pcap",
    "pcapplusplus/many_interfaces-1.pcapng",
    "pcapplusplus/microsecs_big_endian.pcap",
    "pcapplusplus/pcapng-example.pcapng",
    "scapy/dcerpc_msnrpc.pcapng.gz",
    "scapy/http_chunk.pcap.gz",
    "tcpdump/slow-ossp.pcap",
    "tcpdump/tcp-handshake-nano.pcap",
    "zeek/ldap/gap-data-missing.pcapng",
]


def test_every_public_capture_has_the_frames_that_others_count(public_captures: Path) -> None:
    odd = {}
    with (public_captures / "EXPECTED.tsv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table, delimiter="\t"))
    for row in rows:
        try:
            frames, summary = read(public_captures / row["file"])
        except AuditorError as error:
            odd[row["file"]] = str(error)
            continue
        link_types = ",".join(str(each) for each in sorted({v.link_type for v in summary.vantage_points}))
        damage = [problem.kind for problem in summary.problems if problem.damaging]
        if damage or str(len(frames)) != row["packets"] or link_types != row["link_types"]:
            odd[row["file"]] = (len(frames), *damage)
    assert len(rows) > 1_000
    assert odd == DIFFER


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Up to four times: a byte changed, bytes lost or put in, the end cut off, a length made to lie, a part said twice."""
    out = bytearray(data)
    for _ in range(rng.randint(0, 4)):
        at = rng.randrange(len(out))
        match rng.randrange(6):
            case 0:
                out[at] = rng.randrange(256)
            case 1:
                del out[at : at + rng.randint(1, 40)]
            case 2:
                out[at:at] = rng.randbytes(rng.randint(1, 8))
            case 3:
                del out[at + 1 :]
            case 4:
                word = rng.choice([b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f", b"\x10\0\0\0", b"\x06\0\0\0"])
                out[at & ~3 : (at & ~3) + 4] = word
            case _:
                out += out[:at]
        out = out or bytearray(1)
    return bytes(out)


def test_mutated_captures_are_read_as_a_plain_parser_reads_them(public_captures: Path) -> None:
    rng = random.Random(20)
    with (public_captures / "EXPECTED.tsv").open(encoding="utf-8") as table:
        files = [public_captures / row["file"] for row in csv.DictReader(table, delimiter="\t")]
    small = [path for path in files if path.stat().st_size < 20_000 and path.suffix != ".gz"]
    blocks = [path for path in small if path.read_bytes()[:4] == b"\n\r\r\n"]
    ends = set()
    for _ in range(1_500):
        path = rng.choice(rng.choice([small, blocks]))
        data = mutated(path.read_bytes(), rng)
        pieces = Trickle(data, rng.choice([50, 5_000]), rng.random())
        try:
            frames, summary = read(pieces, name=path.name, limits=Limits(buffer_bytes=rng.choice([64, 1_000, 65_536])))
        except NotACaptureError:
            continue
        is_pcapng = data[:4] == b"\n\r\r\n"
        want = parse_pcapng(data) if is_pcapng else parse_pcap(data)
        assert frames == want.frames
        assert summary.dropped == want.dropped
        # What a pcap's file header has against it does not end the reading.
        told = [
            (p.kind, p.offset)
            for p in summary.problems
            if p.damaging and (is_pcapng or (p.kind, p.offset) != ("unsupported", 0))
        ]
        assert told == ([(want.ended, want.offset)] if want.ended else [])
        ends.add(want.ended)
    assert ends >= {None, "truncated", "corrupt"}


def test_a_folder_of_captures_is_found_whole(public_captures: Path) -> None:
    folder = public_captures / "malformed"
    listed = {row.split("\t")[0] for row in (public_captures / "EXPECTED.tsv").read_text().splitlines()}
    assert {str(Path(each).relative_to(public_captures)) for each in expand([str(folder)])} == {
        each for each in listed if each.startswith("malformed/")
    }


def test_fractions_of_more_than_a_second_are_carried(public_captures: Path) -> None:
    folder = public_captures / "malformed" / "tcpdump"
    micro, nano = (read(folder / f"timestamp_invalid_{unit}.pcap")[0] for unit in ("micro", "nano"))
    at = 1_418_145_370 * 10**9
    assert [f.ts_ns - at for f in micro] == [-1_000, 10**9, 2_147_483_648_000]
    assert [f.ts_ns - at for f in nano] == [-1, 10**9, 2_147_483_648]


@pytest.mark.tshark
@pytest.mark.parametrize("file", AGAINST_TSHARK)
def test_times_and_lengths_are_those_of_tshark(public_captures: Path, tshark: str, file: str) -> None:
    fields = ["frame.time_epoch", "frame.cap_len", "frame.len", "frame.interface_id"]
    command = [tshark, "-n", "-r", str(public_captures / file), "-T", "fields"]
    for field in fields:
        command += ["-e", field]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()
    frames, summary = read(public_captures / file)
    first_of_section = {}
    ours, theirs = [], []
    for frame, line in zip(frames, told, strict=True):
        epoch, caplen, wirelen, interface = line.split("\t")
        seconds, _, fraction = epoch.partition(".")
        time = int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9]) if epoch else frame.ts_ns  # a simple packet
        theirs.append((min(time, MAX_NS), int(caplen), int(wirelen)))
        ours.append((frame.ts_ns, len(frame.data), frame.wirelen))
        first_of_section.setdefault(interface, frame.vantage)
        assert first_of_section[interface] == frame.vantage
    assert ours == theirs
    assert summary.packets == len(told)
