"""What hostile input costs: each attempt made, audited in a process of its own, and measured; the table in docs/reliability.md.

    python bench/hostile.py                       # all attempts, the table on standard output
    python bench/hostile.py --only tuples,chain   # those whose name holds one of the words
    python bench/hostile.py --write               # the table, of what was measured last of each, into docs/reliability.md

A capture is as large as it can be below 50 MB, a text as deep or as long as its name says. ``make(name, folder, share)`` makes an attempt's files at a
share of that size: the tests do the same with a hundredth.
"""

from __future__ import annotations

import argparse
import datetime
import gzip
import io
import json
import lzma
import os
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import zstandard

MB, MIB = 1_000_000, 1 << 20
MOST_BYTES = 50 * MB
MOST_SECONDS, MOST_MIB = 60, 1536
KEPT = Path(__file__).resolve().parent / "out" / "hostile.json"
"""What was measured last of each attempt."""
PAGE = Path(__file__).resolve().parents[1] / "docs" / "reliability.md"
BEGIN, END = "<!-- hostile input: made by bench/hostile.py -->", "<!-- end of hostile input -->"

RAW, ETHERNET = 101, 1
SYN, ACK, PSH = 2, 16, 8
EPOCH = 1_760_000_000


# Captures, made as arrays: a row a packet


def pcap(packets: np.ndarray, link: int = RAW) -> bytes:
    """Packets of one length (uint8[n, length]), a microsecond apart."""
    n, size = packets.shape
    rows = np.zeros(n, [("sec", "<u4"), ("usec", "<u4"), ("cap", "<u4"), ("wire", "<u4"), ("data", "u1", (size,))])
    rows["sec"], rows["usec"] = EPOCH + np.arange(n) // MB, np.arange(n) % MB
    rows["cap"] = rows["wire"] = size
    rows["data"] = packets
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, link) + rows.tobytes()


def mixed(packets: list[bytes], link: int = RAW) -> bytes:
    """Packets of any length."""
    out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, link)]
    for k, packet in enumerate(packets):
        out += [struct.pack("<IIII", EPOCH + k // MB, k % MB, len(packet), len(packet)), packet]
    return b"".join(out)


def put(packets: np.ndarray, at: int, kind: str, value: object) -> None:
    """A big-endian field of every packet."""
    given = np.broadcast_to(np.asarray(value), len(packets)).astype(kind)
    packets[:, at : at + given.dtype.itemsize] = given.view(np.uint8).reshape(len(packets), -1)


def ipv4(n: int, protocol: int, payload: int, ident: object = 1, fragment: int = 0) -> np.ndarray:
    """``n`` IPv4 packets from 10.x.x.x (a source each 60,000 packets) to 10.0.0.9, with room for a payload."""
    packets = np.zeros((n, 20 + payload), np.uint8)
    packets[:, 0], packets[:, 8], packets[:, 9] = 0x45, 64, protocol
    put(packets, 2, ">u2", 20 + payload)
    put(packets, 4, ">u2", ident)
    put(packets, 6, ">u2", fragment)
    put(packets, 12, ">u4", 0x0A01_0001 + np.arange(n) // 60_000)
    put(packets, 16, ">u4", 0x0A00_0009)
    return packets


def tcp(packets: np.ndarray, at: int, source: object, target: object, flags: int, seq: object, ack: object = 0) -> None:
    """A TCP header in each."""
    put(packets, at, ">u2", source)
    put(packets, at + 2, ">u2", target)
    put(packets, at + 4, ">u4", seq)
    put(packets, at + 8, ">u4", ack)
    packets[:, at + 12], packets[:, at + 13] = 0x50, flags
    put(packets, at + 14, ">u2", 65_535)


def of_bytes(share: float, each: int) -> int:
    """So many records of that many bytes fit."""
    return max(int(MOST_BYTES * share) // each - 1, 2)


def chosen_tuples(share: float) -> bytes:
    """150,000 keys that a hash table without a key of its own puts into one place."""
    n = max(int(150_000 * share), 2)
    packets = np.zeros((n, 60), np.uint8)
    packets[:, 0], packets[:, 6], packets[:, 7] = 0x60, 6, 64
    put(packets, 4, ">u2", 20)
    upper = np.uint64(0x2000_0000_0000_0000) + np.arange(n, dtype=np.uint64)
    # The mix of both upper halves was a XOR: these are alike for all.
    put(packets, 8, ">u8", np.uint64(0x0123_4567_89AB_CDEF) ^ (upper << np.uint64(1)))
    put(packets, 16, ">u8", 1)
    put(packets, 24, ">u8", upper)
    put(packets, 32, ">u8", 2)
    tcp(packets, 40, 40_000, 443, SYN, np.arange(n))
    return pcap(packets)


def many_tuples(n: int) -> bytes:
    packets = ipv4(n, 6, 20)
    tcp(packets, 20, 1_024 + np.arange(n) % 60_000, 8_889, SYN, np.arange(n))
    return pcap(packets)


def strangers(share: float) -> bytes:
    """SYNs, each of another address to another."""
    n = of_bytes(share, 56)
    packets = ipv4(n, 6, 20)
    put(packets, 12, ">u4", 0x0B00_0000 + np.arange(n))
    put(packets, 16, ">u4", 0x0A00_0000 + np.arange(n) % 50_000)
    tcp(packets, 20, 40_000, 1 + np.arange(n) % 30_000, SYN, np.arange(n))
    return pcap(packets)


def few_bytes_each(share: float) -> bytes:
    """As many connections as there is room for: UDP, cut off behind the ports."""
    n = of_bytes(share, 16 + 28)
    packets = ipv4(n, 17, 8)
    put(packets, 20, ">u2", 1_024 + np.arange(n) % 60_000)
    put(packets, 22, ">u2", 53)
    put(packets, 24, ">u2", 8)
    return pcap(packets)


def first_fragments(n: int, tuples: bool) -> bytes:
    """First fragments that nothing follows."""
    packets = ipv4(n, 17, 8, np.arange(n) & 0xFFFF, 0x2000)
    put(packets, 20, ">u2", 1_024 + np.arange(n) % 60_000 if tuples else 4_000)
    put(packets, 22, ">u2", 53)
    put(packets, 24, ">u2", 100)
    return pcap(packets)


def later_fragments(share: float) -> bytes:
    """Fragments whose first never comes: all wait."""
    n = of_bytes(share, 16 + 28)
    return pcap(ipv4(n, 6, 8, np.arange(n) & 0xFFFF, 0x2001))


def tiny_headers(share: float) -> bytes:
    """First fragments that hold eight bytes of a TCP header, in datagrams that never go on."""
    n = of_bytes(share, 16 + 28)
    packets = ipv4(n, 6, 8, np.arange(n) & 0xFFFF, 0x2000)
    put(packets, 20, ">u2", 1_024 + np.arange(n) % 60_000)
    put(packets, 22, ">u2", 443)
    return pcap(packets)


def unfinished(share: float) -> bytes:
    """200,000 openings of TLS that stop inside the ClientHello."""
    n = max(int(200_000 * share), 2)
    hello = bytes.fromhex("16030100c8010000c40303") + bytes(29)
    packets = np.zeros((2 * n, 60 + len(hello) - 20), np.uint8)
    ports, isn = 1_024 + np.arange(n) % 60_000, np.arange(n)
    first, second = ipv4(n, 6, len(hello) + 20), ipv4(n, 6, len(hello) + 20)
    tcp(first, 20, ports, 8_889, SYN, isn)
    put(first, 2, ">u2", 40)  # the rest is the link's padding
    tcp(second, 20, ports, 8_889, ACK | PSH, isn + 1, 1)
    second[:, 40:] = np.frombuffer(hello, np.uint8)
    packets = np.stack([first, second], 1).reshape(2 * n, -1)
    return pcap(packets)


def out_of_order(share: float) -> bytes:
    """One connection whose segments come with a hole behind each."""
    n = of_bytes(share, 16 + 41)
    packets = ipv4(n, 6, 21)
    put(packets, 12, ">u4", 0x0A01_0001)
    tcp(packets, 20, 40_000, 8_889, ACK, 2 * np.random.default_rng(1).permutation(n), 1)
    return pcap(packets)


def one_byte_segments(share: float) -> bytes:
    """Connections that say a byte at a time, each byte twice and differently."""
    n = of_bytes(share, 2 * (16 + 41)) // 1_000 * 1_000 or 1_000
    connection, at = np.arange(n) // 1_000, np.arange(n) % 1_000
    twice = []
    for byte in (0x41, 0x42):
        packets = ipv4(n, 6, 21)
        put(packets, 12, ">u4", 0x0A01_0001)
        tcp(packets, 20, 1_024 + connection, 8_889, ACK, at + 1, 1)
        packets[:, 40] = byte
        twice.append(packets)
    return pcap(np.stack(twice, 1).reshape(2 * n, -1))


def block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", 12 + len(body))
    return struct.pack("<I", kind) + size + body + size


SECTION = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))


def packet_block(interface: int) -> bytes:
    packet = many_tuples(2)[40:80]
    return block(6, struct.pack("<IIIII", interface, 0, interface, 40, 40) + packet)


def interfaces(share: float) -> bytes:
    n = max(int(100_000 * share), 2)
    described = block(1, struct.pack("<HHI", RAW, 0, 0))
    return SECTION + b"".join(described + packet_block(k) for k in range(n))


def sections(share: float) -> bytes:
    n = max(int(100_000 * share), 2)
    return (SECTION + block(1, struct.pack("<HHI", RAW, 0, 0)) + packet_block(0)) * n


def comments(share: float) -> bytes:
    """A packet, and 40 MB of comments and names."""
    text = b"A" * 65_000
    option = struct.pack("<HH", 1, len(text)) + text + bytes(-len(text) % 4)
    n = max(int(600 * share), 1)
    return (
        SECTION
        + block(1, struct.pack("<HHI", RAW, 0, 0) + option)
        + packet_block(0)
        + SECTION[:8].join([b""])
        + (block(4, struct.pack("<HH", 1, 8) + b"\x0a\x01\x00\x01a.b\0" + option) * n)
    )


# Bombs


def zeros(total: int, frame: int) -> Iterator[bytes]:
    """A capture of empty frames."""
    yield struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, RAW)
    one = struct.pack("<IIII", EPOCH, 0, frame, frame) + bytes(frame)
    many = one * max(MIB // len(one), 1)
    for _ in range(max(total // len(many), 1)):
        yield many


def packed(pieces: Iterator[bytes], kind: str) -> bytes:
    out = io.BytesIO()
    if kind == "gz":
        with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=6) as target:
            for piece in pieces:
                target.write(piece)
    elif kind == "xz":
        packer = lzma.LZMACompressor(preset=1)
        for piece in pieces:
            out.write(packer.compress(piece))
        out.write(packer.flush())
    else:
        with zstandard.ZstdCompressor(level=3).stream_writer(out, closefd=False) as target:
            for piece in pieces:
                target.write(piece)
    return out.getvalue()


# Certificates


def certificate(names: int) -> bytes:
    """A self-signed certificate, DER, with so many alternative names."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a")])
    made = x509.CertificateBuilder(name, name, key.public_key(), 0x7FFF_FFFF_FFFF_FFFF)
    made = made.not_valid_before(datetime.datetime(2025, 1, 1)).not_valid_after(datetime.datetime(2035, 1, 1))
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(f"n{k}.example") for k in range(names)])
        made = made.add_extension(alternative, critical=False)
    from cryptography.hazmat.primitives.serialization import Encoding

    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def renumbered(der: bytes, number: int) -> bytes:
    """The same with another serial number: other bytes for whoever counts them."""
    return der.replace(b"\x7f" + b"\xff" * 7, struct.pack(">Q", 0x7000_0000_0000_0000 + number), 1)


def handshake(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def records(message: bytes) -> bytes:
    pieces = [message[at : at + 16_000] for at in range(0, len(message), 16_000)]
    return b"".join(b"\x16\x03\x03" + struct.pack(">H", len(piece)) + piece for piece in pieces)


def talk(port: int, said: list[tuple[bool, bytes]]) -> list[bytes]:
    """A whole connection to 8889; ``said`` is (by the client, bytes)."""

    def packet(client: bool, flags: int, seq: int, ack: int, data: bytes = b"") -> bytes:
        ends = bytes([10, 1, 0, 1, 10, 0, 0, 9]) if client else bytes([10, 0, 0, 9, 10, 1, 0, 1])
        ports = (port, 8_889) if client else (8_889, port)
        head = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(data), 1, 0, 64, 6, 0) + ends
        return head + struct.pack(">HHIIBBHHH", *ports, seq, ack, 0x50, flags, 65_535, 0, 0) + data

    out = [packet(True, SYN, 0, 0), packet(False, SYN | ACK, 0, 1), packet(True, ACK, 1, 1)]
    sent = [1, 1]
    for client, data in said:
        me = 0 if client else 1
        for at in range(0, len(data), 1_400):
            piece = data[at : at + 1_400]
            out.append(packet(client, ACK | PSH, sent[me], sent[1 - me], piece))
            sent[me] += len(piece)
    return out


HELLO = handshake(1, b"\x03\x03" + bytes(32) + b"\x00\x00\x02\xc0\x2f\x01\x00\x00\x00")
ANSWER = handshake(2, b"\x03\x03" + bytes(32) + b"\x00\xc0\x2f\x00\x00\x00")


def chains(share: float, per_chain: int, names: int) -> bytes:
    """Handshakes of TLS 1.2 whose certificates are all different."""
    one = certificate(names)
    n = max(of_bytes(share, (len(one) + 60) * per_chain) * 9 // 10, 1)
    packets, number = [], 0
    for k in range(n):
        listed = b""
        for _ in range(per_chain):
            number += 1
            listed += len(one).to_bytes(3, "big") + renumbered(one, number)
        chain = handshake(11, len(listed).to_bytes(3, "big") + listed)
        packets += talk(1_024 + k, [(True, records(HELLO)), (False, records(ANSWER + chain + handshake(14, b"")))])
    return mixed(packets)


def nested_json(share: float) -> bytes:
    """NATS CONNECTs of 8,000 nested brackets."""
    line = b"CONNECT " + b'{"a":' * 1_000 + b"[" * 2_500 + b"\r\n"
    info = b'INFO {"server_id":"a","version":"2","auth_required":true}\r\n'
    n = of_bytes(share, len(line) + 600)
    packets = [each for k in range(n) for each in talk(1_024 + k, [(False, info), (True, line), (False, b"+OK\r\n")])]
    return mixed([packet.replace(struct.pack(">H", 8_889), struct.pack(">H", 4_222)) for packet in packets])


def texts(lines: int, share: float) -> bytes:
    """HTTP requests of so many header lines, one behind the other."""
    one = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a: b\r\n" * lines + b"\r\n"
    n = of_bytes(share, 9_000)
    packets = [each for k in range(n) for each in talk(1_024 + k, [(True, (one * (8_192 // len(one) + 1))[:8_192])])]
    return mixed(packets)


# Texts that users hand over


def aliases(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, levels)]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Attempt:
    """One way to cost an audit more than it should."""

    says: str
    file: str
    """Its ending decides how it is read."""
    make: Callable[[float], bytes]
    option: str = ""
    """Where it is no capture: the option that takes it, or the words of a command."""


def text(make: Callable[[float], str]) -> Callable[[float], bytes]:
    return lambda share: make(share).encode()


ATTEMPTS = {
    "chosen-tuples": Attempt("150,000 connections chosen to meet in the hash table", "a.pcap", chosen_tuples),
    "tuples": Attempt("SYNs of as many connections as fit", "a.pcap", lambda share: many_tuples(of_bytes(share, 56))),
    "two-million-tuples": Attempt(
        "SYNs of two million connections (112 MB)", "a.pcap", lambda share: many_tuples(max(int(2 * MB * share), 2))
    ),
    "strangers": Attempt("SYNs of as many addresses as fit, each to another", "a.pcap", strangers),
    "datagrams": Attempt("datagrams of as many flows as fit", "a.pcap", few_bytes_each),
    "first-fragments": Attempt(
        "1.5 million first fragments (66 MB)",
        "a.pcap",
        lambda share: first_fragments(max(int(1.5 * MB * share), 2), False),
    ),
    "first-fragments-of-many": Attempt(
        "first fragments of as many flows as fit", "a.pcap", lambda share: first_fragments(of_bytes(share, 44), True)
    ),
    "later-fragments": Attempt("fragments whose first never comes", "a.pcap", later_fragments),
    "tiny-headers": Attempt("TCP headers of which eight bytes come", "a.pcap", tiny_headers),
    "unfinished-handshakes": Attempt("200,000 ClientHellos that stop halfway", "a.pcap", unfinished),
    "out-of-order": Attempt("one stream with a hole behind every byte", "a.pcap", out_of_order),
    "one-byte-segments": Attempt("streams of single bytes, each said twice, differently", "a.pcap", one_byte_segments),
    "interfaces": Attempt("100,000 interfaces of a pcapng", "a.pcapng", interfaces),
    "sections": Attempt("100,000 sections of a pcapng", "a.pcapng", sections),
    "comments": Attempt("long names and comments of a pcapng", "a.pcapng", comments),
    "bomb-gz": Attempt(
        "4 GB of empty frames in gzip", "a.pcap.gz", lambda share: packed(zeros(int(4e9 * share), 60_000), "gz")
    ),
    "bomb-zst": Attempt(
        "40 GB of empty frames in zstd", "a.pcap.zst", lambda share: packed(zeros(int(40e9 * share), 60_000), "zst")
    ),
    "bomb-xz": Attempt(
        "4 GB of empty frames in xz", "a.pcap.xz", lambda share: packed(zeros(int(4e9 * share), 60_000), "xz")
    ),
    "bomb-small-frames": Attempt(
        "2 GB of frames of one byte in zstd", "a.pcap.zst", lambda share: packed(zeros(int(2e9 * share), 1), "zst")
    ),
    "chains": Attempt("chains of 100 certificates, no two alike", "a.pcap", lambda share: chains(share, 100, 0)),
    "names": Attempt(
        "certificates of 10,000 alternative names",
        "a.pcap",
        lambda share: chains(share, 1, max(int(10_000 * share), 10)),
    ),
    "names-that-fit": Attempt(
        "certificates of 3,500 alternative names", "a.pcap", lambda share: chains(share, 1, max(int(3_500 * share), 10))
    ),
    "nested-json": Attempt("NATS: JSON of thousands of nested brackets", "a.pcap", nested_json),
    "header-lines": Attempt("HTTP requests of a thousand header lines", "a.pcap", lambda share: texts(1_000, share)),
    "short-requests": Attempt("HTTP requests one behind the other", "a.pcap", lambda share: texts(0, share)),
    "policy-brackets": Attempt(
        "policy: YAML of 30,000 nested brackets", "a.yml", text(lambda share: "[" * int(30_000 * share)), "--policy"
    ),
    "inventory-brackets": Attempt(
        "inventory: YAML of 30,000 nested lists",
        "a.yml",
        text(lambda share: "instances:\n" + "- " * int(30_000 * share) + "x\n"),
        "--inventory",
    ),
    "waivers-mappings": Attempt(
        "waivers: YAML of 2,500 nested mappings",
        "a.yml",
        text(lambda share: "".join(" " * k + "a:\n" for k in range(int(2_500 * share)))),
        "--waivers",
    ),
    "policy-aliases": Attempt(
        "policy: YAML aliases that multiply", "a.yml", text(lambda share: aliases(30)), "--policy"
    ),
    "inventory-aliases": Attempt(
        "inventory: YAML aliases that multiply", "a.yml", text(lambda share: aliases(30)), "--inventory"
    ),
    "inventory-json": Attempt(
        "inventory: JSON of a million nested brackets",
        "a.json",
        text(lambda share: "[" * int(MB * share)),
        "--inventory",
    ),
    "inventory-objects": Attempt(
        "inventory: JSON of 100,000 nested objects",
        "a.json",
        text(lambda share: '{"Tables":' * int(100_000 * share)),
        "--inventory",
    ),
    "inventory-number": Attempt(
        "inventory: a number of a million digits",
        "a.json",
        text(lambda share: '{"Tables": ' + "1" * int(MB * share) + "}"),
        "--inventory",
    ),
    "policy-number": Attempt(
        "policy: a number of a million digits",
        "a.yml",
        text(lambda share: "schema: " + "1" * int(MB * share)),
        "--policy",
    ),
}


def make(name: str, folder: Path, share: float = 1.0) -> list[str]:
    """Makes the attempt's file; returns the words of ``auditor`` that meet it."""
    attempt = ATTEMPTS[name]
    (folder / attempt.file).write_bytes(attempt.make(share))
    return _words(name, folder)


def _words(name: str, folder: Path) -> list[str]:
    attempt, file = ATTEMPTS[name], str(folder / ATTEMPTS[name].file)
    options = ["--scope", "all", "--format", "json", "--output", str(folder / "report.json")]
    return ["audit", *(["sample:diego", attempt.option, file] if attempt.option else [file]), *options]


@dataclass(frozen=True)
class Cost:
    """What an attempt came to."""

    name: str
    bytes: int
    seconds: float
    mib: float
    status: int
    said: str

    @property
    def within(self) -> bool:
        return self.seconds <= MOST_SECONDS and self.mib <= MOST_MIB and self.status in (0, 1, 2, 3)


def measure(name: str) -> Cost:
    """Make, audit, and forget. No process may take more than four times what is promised."""
    with tempfile.TemporaryDirectory(prefix="hostile-") as place:
        folder = Path(place)
        # In a process of its own: what it needs for that would count as the next one's.
        subprocess.run([sys.executable, __file__, "--make", name, place], check=True)
        words = _words(name, folder)
        size = (folder / ATTEMPTS[name].file).stat().st_size

        error = folder / "error"
        with error.open("wb") as told:
            process = subprocess.Popen(
                [sys.executable, "-m", "auditor", *words, "--no-color", "--progress", "never"],
                stdout=subprocess.DEVNULL,
                stderr=told,
            )
            # Whoever makes captures may not keep this machine either.
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (4 * MOST_SECONDS, 4 * MOST_SECONDS))
            _, status, used = os.wait4(process.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        return Cost(
            name,
            size,
            used.ru_utime + used.ru_stime,
            used.ru_maxrss / 1024,
            code,
            # A report may be large, and what this process needs for it would count as the next attempt's.
            subprocess.run(
                [sys.executable, __file__, "--said", place], check=True, capture_output=True, text=True
            ).stdout.strip(),
        )


def _said(folder: Path) -> str:
    """What the user is told, in a line."""
    report, error = folder / "report.json", (folder / "error").read_text(errors="replace")
    if report.exists():
        found = json.loads(report.read_text())
        problems = [each["says"] for capture in found["captures"] for each in capture["problems"]]
        told = [problem.partition(":")[0].replace(str(folder) + "/", "") for problem in problems[:2]]
        return "; ".join([f"{found['summary']['connections']:,} connections", *told])
    lines = [line for line in error.splitlines() if line.startswith("auditor:")] or error.splitlines() or ["nothing"]
    return lines[-1].replace(str(folder) + "/", "").removeprefix("auditor: ")


def table(costs: list[Cost]) -> str:
    lines = ["| attempt | MB | CPU s | MiB | status | what is said |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    for cost in costs:
        said = re.sub(r"[|<>]", " ", cost.said)[:160]
        lines.append(
            f"| {ATTEMPTS[cost.name].says} | {cost.bytes / MB:.2f} | {cost.seconds:.1f} | {cost.mib:.0f} | {cost.status} | {said} |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="words in names of attempts, with commas")
    parser.add_argument("--write", action="store_true", help=f"what was measured last of each, into {PAGE.name}")
    parser.add_argument("--make", nargs=2, metavar=("NAME", "FOLDER"), help="make an attempt's file there, and end")
    parser.add_argument("--said", metavar="FOLDER", help="what an audit there said, in a line, and end")
    args = parser.parse_args()
    if args.make:
        make(args.make[0], Path(args.make[1]))
        return 0
    if args.said:
        print(_said(Path(args.said)))
        return 0
    words = [word for word in args.only.split(",") if word]
    costs = []
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name in ATTEMPTS:
        if words and not any(word in name for word in words):
            continue
        began = time.monotonic()
        costs.append(measure(name))
        cost = costs[-1]
        mark = "" if cost.within else "   <-- over"
        print(
            f"{name:24} {cost.bytes / MB:7.2f} MB {cost.seconds:7.1f} s {cost.mib:7.0f} MiB  status {cost.status}"
            f"  ({time.monotonic() - began:.0f} s in all)  {cost.said[:100]}{mark}",
            flush=True,
        )
        kept[name] = asdict(cost)
        KEPT.parent.mkdir(exist_ok=True)
        KEPT.write_text(json.dumps(kept, indent=1))
    if args.write:
        costs = [Cost(**kept[name]) for name in ATTEMPTS if name in kept]
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + "\n\n" + table(costs) + "\n\n" + END + rest.partition(END)[2])
    return 0 if all(cost.within for cost in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
