"""The decoder over whole captures: foreign ones beside tshark, broken ones, and ones whose header names the wrong link type."""

from __future__ import annotations

import struct
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from auditor.capture.opening import open_capture
from auditor.decode import Decoder, guess_link_type
from auditor.errors import InputError
from auditor.model.packets import PACKET, STOP_NONE, STOP_UNSUPPORTED_LINK, TUNNEL_L2TP, TUNNEL_NAMES
from tests.conftest import BY_NIGHT, by_day
from tests.frames import batch_of, every_kind

TCP, UDP, UDP_LITE = 6, 17, 136


KNOWN = {
    "ayiya-large-identity.pcap": "AYIYA, a tunnel of a broker that closed in 2017",
    "ayiya3.pcap": "AYIYA",
    "capwap.pcap": "CAPWAP: 802.11 inside of UDP",
    "capwap_data.pcapng": "CAPWAP",
    "gre-aruba-amsdu.pcap": "802.11 inside of Aruba's own GRE protocol",
    "netlink-nflog.pcap": "several messages in a frame: the first is decoded",
    "erspan.pcap": "first fragments of the outer packet: we say what the inner header claims, tshark what is there",
    "gtp2_different_udp_port.pcap": "first fragments of the outer packet",
    "ajp.pcap": "IP headers that claim more than their frames had",
    "ndpi_match_string_subprotocol__error.pcapng": "IP headers that claim more than their frames had",
    "reasm_crash_anon.pcapng": "IP headers that claim more than their frames had",
    "telnet.pcap": "IP headers that claim more than their frames had",
    "LINKTYPE_IPV6_invalid.pcap": "IPv4 under the link type for IPv6: we believe the version",
}
"""Where tshark and we differ, and why."""


def pcapng_of(frames: list[tuple[int, int, bytes]]) -> bytes:
    """One capture of frames with their link types and lengths on the wire: an interface for every link type."""

    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        return struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)

    kinds = sorted({kind for kind, _, _ in frames})
    out = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))]
    out += [block(1, struct.pack("<HHI", kind, 0, 0)) for kind in kinds]
    for at, (kind, wire, data) in enumerate(frames):
        out.append(block(6, struct.pack("<IIIII", kinds.index(kind), at, 0, len(data), wire) + data))
    return b"".join(out)


def public_files(folder: Path) -> list[Path]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.parent != folder)
    return [path for path in found if "truth" not in path.parts]


@pytest.mark.tshark
def test_ports_sequence_numbers_and_lengths_are_those_of_tshark(
    public_captures: Path, tshark: str, tmp_path: Path
) -> None:
    """Frame by frame over public captures (by day some) and all layers of tunnels; where ICMP quotes a header, tshark has more, behind ours."""
    frames: list[tuple[int, int, bytes]] = []
    origin: list[tuple[str, int]] = []
    ours: dict[int, list[np.void]] = defaultdict(list)
    for path in by_day([path for path in public_files(public_captures) if path.name not in KNOWN], 4):
        try:
            with open_capture(path) as reader:
                place: dict[int, int] = {}
                decoder = Decoder()
                for batch in reader.batches():
                    for at in range(len(batch)):
                        data = batch.buf[batch.start[at] :][: batch.caplen_bytes[at]].tobytes()
                        frames.append((int(batch.link_type[at]), int(batch.wirelen_bytes[at]), data))
                        origin.append((path.name, at + 1))
                        place[int(batch.numbers[at])] = len(frames)
                    for rows in decoder.decode(batch):
                        ports = (rows["src_port"] | rows["dst_port"]) != 0
                        for row in rows[(rows["fragment"] != 2) & (ports | (rows["stop"] == STOP_NONE))].copy():
                            ours[place[int(row["frame"])]].append(row)
        except InputError:
            continue
    mixed = tmp_path / "mixed.pcapng"
    mixed.write_bytes(pcapng_of(frames))
    fields = "frame.number frame.protocols tcp.srcport tcp.dstport tcp.seq tcp.len udp.srcport udp.dstport"
    command = [tshark, "-n", "-r", str(mixed), "-T", "fields"]
    for option in ("ip.defragment", "ipv6.defragment", "tcp.relative_sequence_numbers", "tcp.analyze_sequence_numbers"):
        command += ["-o", f"{option}:FALSE"]
    for protocol in ("tls", "http"):
        command += ["--disable-protocol", protocol]
    for name in fields.split():
        command += ["-e", name]
    said = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout
    compared, differ = 0, []
    for line in said.splitlines():
        number, protocols, *columns = line.split("\t")
        theirs = [[int(value) for value in column.split(",") if value] for column in columns]
        tcp = [row for row in ours[int(number)] if row["proto"] == TCP]
        udp = [row for row in ours[int(number)] if row["proto"] in {UDP, UDP_LITE}]
        mine = [[int(row[name]) for row in tcp] for name in ("src_port", "dst_port", "seq", "payload_wire_bytes")]
        mine += [[int(row[name]) for row in udp] for name in ("src_port", "dst_port")]
        if "icmp" in protocols:
            theirs = [their[: len(own)] for their, own in zip(theirs, mine, strict=True)]
        for column in (2, 3):  # where a header is cut off, tshark is silent about its later fields
            mine[column] = mine[column][: len(theirs[column])]
        compared += 1
        if theirs != mine:
            differ.append((origin[int(number) - 1], protocols, theirs, mine))
    assert compared == len(frames) > (130_000 if BY_NIGHT else 10_000)
    assert not differ


def test_every_public_capture_is_decoded(public_captures: Path) -> None:
    """Broken ones too: every frame gives rows, nothing raises, and what rows say lies in their buffer."""
    captures, frames, tunnels = 0, 0, set()
    for path in public_files(public_captures):
        decoder = Decoder()
        seen = 0
        try:
            with open_capture(path) as reader:
                for batch in reader.batches():
                    for rows in decoder.decode(batch):
                        payload = rows["payload_bytes"] > 0
                        assert (rows["payload_at"][payload] >= 0).all()
                        assert (rows["payload_at"] + rows["payload_bytes"])[payload].max(initial=0) <= batch.buf.size
                        assert (rows["payload_bytes"] >= 0).all()
                        assert (rows["payload_wire_bytes"] >= rows["payload_bytes"]).all()
                        assert (rows["outer"] < np.arange(rows.size)).all()
                        seen += int((rows["depth"] == 0).sum())
                        tunnels |= set(rows["tunnel"].tolist())
        except InputError:
            continue
        seen += int((decoder.finish()["depth"] == 0).sum())
        assert seen == decoder.frames, path
        assert decoder.stops.sum() == decoder.packets
        captures += 1
        frames += decoder.frames
    assert captures > 900
    assert frames > 130_000
    assert tunnels == {0, *TUNNEL_NAMES} - {TUNNEL_L2TP}  # of L2TP they hold control messages only


def test_counters_and_frame_numbers_go_on_over_batches() -> None:
    decoder = Decoder()
    first = [rows["frame"].tolist() for rows in decoder.decode(batch_of([(1, b"short")] * 3, first_frame_no=1))]
    then = [rows["frame"].tolist() for rows in decoder.decode(batch_of([(249, b"usb")] * 2, first_frame_no=4))]
    assert (first, then) == ([[1, 2, 3]], [[4, 5]])
    assert decoder.frames == decoder.packets == 5
    assert decoder.stops[STOP_UNSUPPORTED_LINK] == 2
    assert list(decoder.decode(batch_of([]))) == []
    assert decoder.finish().size == 0


def test_a_segmentation_offload_packet_has_no_total_length() -> None:
    data = bytearray(every_kind()[0][1])
    data[16:18] = b"\0\0"
    (rows,) = Decoder().decode(batch_of([(1, bytes(data))]))
    assert rows["stop"].tolist() == [STOP_NONE]
    assert rows["payload_bytes"].tolist() == [18]
    assert rows["ip_bytes"].tolist() == [len(data) - 14]


# -- wrong link types --------------------------------------------------------------------------------------------------------------


def frames_of(link_type: int) -> list[bytes]:
    return [data for kind, data in every_kind() if kind == link_type]


@pytest.mark.parametrize("truth", [113, 276, 101])
def test_ethernet_written_over_another_link_type_is_found_out(truth: int) -> None:
    """bosh pcap does this."""
    frames = [(1, data) for data in frames_of(truth) * 9 if data[60:]]
    assert guess_link_type(batch_of(frames)) == truth
    assert guess_link_type(batch_of([(1, bytes(42)), *frames])) == truth  # one ARP among them


@pytest.mark.parametrize("claim", [113, 276, 101, 0])
def test_ethernet_under_another_name_is_found_out(claim: int) -> None:
    frames = [(claim, data) for data in frames_of(1)[:14]]
    assert guess_link_type(batch_of(frames)) == 1


@pytest.mark.parametrize("truth", [0, 1, 101, 113, 276])
def test_the_right_link_type_is_not_doubted(truth: int) -> None:
    assert guess_link_type(batch_of([(truth, data) for data in frames_of(truth)])) is None


def test_frames_without_ip_are_no_reason_to_doubt() -> None:
    arp = next(data for kind, data in every_kind() if data[12:14] == b"\x08\x06")
    assert guess_link_type(batch_of([(1, arp)] * 64)) is None
    assert guess_link_type(batch_of([])) is None
    assert (
        guess_link_type(batch_of([(1, data) for data in frames_of(113)] + [(113, data) for data in frames_of(113)]))
        is None
    )
    assert guess_link_type(batch_of([(249, data) for data in frames_of(113)])) is None


def test_public_captures_name_their_link_type(public_captures: Path) -> None:
    """But for one: raw IP that says Ethernet."""
    doubted = {}
    for path in public_files(public_captures):
        if "malformed" in path.parts:
            continue
        try:
            with open_capture(path) as reader:
                for batch in reader.batches():
                    guess = guess_link_type(batch)
                    if guess is not None:
                        doubted[path.name] = guess
                    break
        except InputError:
            continue
    assert doubted == {"python-packet-cb.pcap": 101}


def test_rows_have_the_declared_form() -> None:
    assert all(rows.dtype == PACKET for rows in Decoder().decode(batch_of(list(every_kind()))))
