"""A large capture, made fast and always the same: traffic of a platform of 30 hosts, with real TLS handshakes in it.

A connection is a script (SYN, what a protocol says before TLS, a recorded handshake, a request and its answer) and then, in the ``bulk``
shape, bursts of TLS data records until its packet budget is spent, and FIN. All connections open at a time stand in one heap ordered by the
time of their next packet; a compiled loop takes the earliest, writes its packet and puts it back. So packets come out interleaved and in
time order, and memory holds the connections, one 8 MiB buffer and no packet.

Whatever a receiver could check is right: IP and TCP checksums, sequence and acknowledgement numbers, time stamps that echo the other end's
last one (some analysers silently drop a connection whose SYN/ACK echoes a wrong one), and the session id that a TLS 1.3 server repeats.

The same options, numpy and recorded handshakes (see ``handshakes.py``) give the same bytes.
"""

import argparse
import struct
import sys
import time
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import diego
import foundation
import handshakes
import numba
import numpy as np
from numpy.typing import NDArray

OUT = Path(__file__).resolve().parent / "out"
ORIG, RESP = handshakes.ORIG, handshakes.RESP

HOSTS = 30
FIXED_PORTS = (8889, 8891, 1801, 9016, 9023, 443, 3306, 4222)
"""A tenth of the connections each; the remaining fifth goes to a port of the SSH host range, 61001 to 65534."""
MYSQL, NATS = 3306, 4222
FIRST_SOURCE_PORT, SOURCE_PORTS = 1024, 64512
EPOCH_NS = 1_794_819_600_000_000_000
"""The day of the sample's captures, on which the certificates of ``diego`` are in force."""

MSS = 1448  # 1500 - 20 (IP) - 20 (TCP) - 12 (time stamps)
BACK_TO_BACK_NS = 12_000  # a full frame at 1 Gbit/s
FIN, SYN, PSH, ACK = 1, 2, 8, 16
BUFFER_BYTES = 8 << 20
MARGIN_BYTES = 8_192  # more than two packets with their record headers
POOL_BYTES = 1 << 20
PCAP, PCAPNG = 0, 1
SCRIPT, DATA, CLOSE, DONE = range(4)
CLOSING_PACKETS = 3
TABLE = 4_096  # entries of a table that random draws are made from; a power of two


compiled = numba.njit(cache=True, error_model="numpy")


def compiled_as(signature: str) -> Any:
    """The same for one signature: without it, numba compiles a helper again for every constant that it is called with."""
    return numba.njit(signature, cache=True, error_model="numpy")


class Shape(NamedTuple):
    """How much of what; all but the packets is per default size and scales with ``--packets``."""

    packets: int
    connections: int
    seconds: float
    life_median_s: float
    """Median time from SYN to FIN; log-normal."""
    budget_sigma: float
    """Spread of the log-normal number of data packets a connection."""


SHAPES = {
    "bulk": Shape(5_000_000, 20_000, 600.0, 60.0, 1.2),
    "many": Shape(4_100_000, 300_000, 300.0, 0.5, 0.5),
    "diego": Shape(4_500_000, 300_000, 300.0, 0.5, 0.5),
}

CONNECTION = np.dtype(
    [
        ("next_ns", "i8"),
        ("start_ns", "i8"),
        ("rng", "u8"),
        ("seed", "u8"),
        ("kin", "u8"),  # the seed of the connection whose session is resumed
        ("signed", "i8"),  # which pair of signatures is played
        ("gap_ns", "i8"),  # mean pause before a burst of data
        ("budget", "i8"),  # data packets left
        ("oneway_ns", "i8"),
        ("burst_bytes", "i8"),  # of the record being sent
        ("burst_at", "i8"),  # where in the pool its next bytes are; -1: the record's header comes first
        ("host", "u1", (2,)),
        ("port", "u2", (2,)),
        ("seq", "u4", (2,)),
        ("tsval", "u4", (2,)),  # the last one each end sent
        ("tsbase", "u4", (2,)),
        ("ipid", "u2", (2,)),
        ("step", "i4"),
        ("script", "i4"),
        ("burst_by", "u1"),
        ("unacked", "u1"),
        ("phase", "u1"),
    ]
)
STEP = np.dtype([("at", "i8"), ("bytes", "i4"), ("by", "u1"), ("flags", "u1"), ("patch", "i4"), ("patches", "i4")])
PATCH = np.dtype([("at", "i4"), ("bytes", "i4"), ("slot", "i4")])
"""Bytes of a step that are fresh in every connection; equal slots get equal bytes. From ``diego.KIN`` on they are another connection's."""
SIGNATURE_BYTES = 256


class Scripts(NamedTuple):
    """Every (recorded handshake, preamble) as steps; script ``i`` is ``steps[first[i]:first[i + 1]]`` over ``blob``."""

    blob: NDArray[np.uint8]
    steps: NDArray[np.void]
    first: NDArray[np.int64]
    patches: NDArray[np.void]


def _mysql_packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


def _preamble(port: int) -> list[handshakes.Message]:
    """What is said before TLS on ports whose protocol upgrades to it."""
    if port == NATS:
        return [
            (
                RESP,
                b'INFO {"server_id":"NBENCHBENCHBENCHBENCH","version":"2.10.24","proto":1,"host":"0.0.0.0","port":4222,'
                b'"headers":true,"auth_required":true,"tls_required":true,"max_payload":1048576}\r\n',
            )
        ]
    if port == MYSQL:
        # HandshakeV10: CLIENT_PROTOCOL_41, SSL, SECURE_CONNECTION, PLUGIN_AUTH and the usual others; then SSLRequest.
        capabilities = 0xFFFFFFFF & ~0x0020_0020 | 0x0800
        greeting = (
            b"\x0a8.0.36\x00"
            + struct.pack("<I", 4242)
            + b"saltsalt\x00"
            + struct.pack("<HBHHB", capabilities & 0xFFFF, 255, 2, capabilities >> 16, 21)
            + bytes(10)
            + b"saltsaltsalt\x00"
            + b"mysql_native_password\x00"
        )
        request = struct.pack("<IIB23x", 0x0018_AE85, 1 << 24, 255)
        return [(RESP, _mysql_packet(0, greeting)), (ORIG, _mysql_packet(1, request))]
    return []


def _hello_patches(hello: bytes, slot: int) -> list[tuple[int, int, int]]:
    """Random and session id of a ClientHello or ServerHello: RFC 8446 section 4.1.2, behind 5 bytes of record and 4 of message header."""
    patches = [(11, 32, slot)]
    if hello[43] == 32:
        patches.append((44, 32, 2))
    return patches


def make_scripts(talks: list[list[handshakes.Message]]) -> Scripts:
    """Scripts in the order: all handshakes bare, all behind MySQL's greeting, all behind NATS's INFO."""
    blob = bytearray()
    steps: list[tuple[int, int, int, int, int, int]] = []
    patches: list[tuple[int, int, int]] = []
    first = [0]
    for port in (0, MYSQL, NATS):
        for talk in talks:
            steps += [(0, 0, ORIG, SYN, 0, 0), (0, 0, RESP, SYN | ACK, 0, 0), (0, 0, ORIG, ACK, 0, 0)]
            greeted = {ORIG: False, RESP: False}
            preamble = _preamble(port)
            for number, (by, said) in enumerate(preamble + talk):
                hello = number >= len(preamble) and not greeted[by]
                unacked = 0
                for at in range(0, len(said), MSS):
                    segment = said[at : at + MSS]
                    fresh = _hello_patches(said, by) if hello and at == 0 else []
                    greeted[by] |= hello
                    last = at + MSS >= len(said)
                    flags = ACK | PSH if last else ACK
                    steps.append((len(blob), len(segment), by, flags, len(patches), len(fresh)))
                    patches += fresh
                    blob += segment
                    unacked += 1
                    if unacked == 2 and not last:
                        steps.append((0, 0, 1 - by, ACK, 0, 0))
                        unacked = 0
            first.append(len(steps))
    return Scripts(
        np.frombuffer(bytes(blob), np.uint8),
        np.array(steps, STEP),
        np.array(first, np.int64),
        np.array(patches, PATCH),
    )


def _budgets(rng: np.random.Generator, total: int, connections: int, sigma: float) -> NDArray[np.int64]:
    """``total`` data packets, shared out log-normally and exactly."""
    weight = rng.lognormal(0.0, sigma, connections)
    share: NDArray[np.int64] = np.floor(weight * (max(total, 0) / weight.sum())).astype(np.int64)
    share[: max(total, 0) - int(share.sum())] += 1
    return share


def _tuples(rng: np.random.Generator, connections: int) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Hosts and ports of both ends; no two connections share a tuple, in either direction."""
    orig = rng.integers(0, HOSTS, connections)
    resp = (orig + rng.integers(1, HOSTS, connections)) % HOSTS
    kind = rng.integers(0, 10, connections)
    fixed = np.array((*FIXED_PORTS, 0, 0))
    service = np.where(kind < len(FIXED_PORTS), fixed[kind], rng.integers(61001, 65535, connections))
    # An originator's ports step through the whole range (the factor is coprime to its size), so none comes twice.
    turn = np.zeros(connections, np.int64)
    for host in range(HOSTS):
        mine = orig == host
        turn[mine] = np.arange(np.count_nonzero(mine))
    if turn.max(initial=0) >= SOURCE_PORTS:
        raise SystemExit(f"{connections} connections: more than {HOSTS} hosts have source ports for")
    source = FIRST_SOURCE_PORT + (turn * 40_507 + 1_000 * orig) % SOURCE_PORTS
    # Only a tuple and its mirror image are left to collide: rare, and cured by another service port.
    while True:
        one, two = orig * 65_536 + source, resp * 65_536 + service
        _, kept = np.unique(np.minimum(one, two) << 32 | np.maximum(one, two), return_index=True)
        again = np.setdiff1d(np.arange(connections), kept)
        if not again.size:
            break
        service[again] = rng.integers(61001, 65535, again.size)
    return (
        np.stack((orig, resp), axis=1).astype(np.uint8),
        np.stack((source, service), axis=1).astype(np.uint16),
    )


def diego_scripts(talks: list[diego.Talk]) -> Scripts:
    """A script for each conversation."""
    blob = bytearray()
    steps: list[tuple[int, int, int, int, int, int]] = []
    patches: list[tuple[int, int, int]] = []
    first = [0]
    for talk in talks:
        steps += [(0, 0, ORIG, SYN, 0, 0), (0, 0, RESP, SYN | ACK, 0, 0), (0, 0, ORIG, ACK, 0, 0)]
        told = 0
        for by, said in talk.said:
            for at in range(0, len(said), MSS):
                segment, last = said[at : at + MSS], at + MSS >= len(said)
                # A stretch of fresh bytes may lie across segments: 8 bytes of a slot are drawn at once, from where it begins.
                fresh = [
                    (max(place - told, 0), min(place + size, told + len(segment)) - max(place, told), slot | max(told - place, 0) << 8)
                    for place, size, slot in talk.fresh
                    if place < told + len(segment) and place + size > told
                ]  # fmt: skip
                steps.append((len(blob), len(segment), by, ACK | PSH if last else ACK, len(patches), len(fresh)))
                patches += fresh
                blob += segment
                told += len(segment)
        first.append(len(steps))
    return Scripts(
        np.frombuffer(bytes(blob), np.uint8),
        np.array(steps, STEP),
        np.array(first, np.int64),
        np.array(patches, PATCH),
    )


def plan_diego(
    shape: Shape, packets: int, seed: int, talks: list[diego.Talk], scripts: Scripts
) -> tuple[NDArray[np.void], NDArray[np.uint8]]:
    """As ``plan``, with the signatures of both ends, uint8[n, 2, SIGNATURE_BYTES]."""
    rows = plan(shape, packets, seed, scripts)
    rng = np.random.default_rng((seed, 2))
    which, kin = diego.choose(rng, talks, len(rows))
    hosts = np.array([talk.hosts for talk in talks], np.int64)[which]
    ports = np.array([diego.PATHS[talk.path].port for talk in talks], np.int64)[which]
    ports = np.where(ports == 0, rng.integers(61_001, 65_535, len(rows)), ports)
    ports = np.where(rng.random(len(rows)) < diego.UNDECLARED, ports - 1_000, ports)
    rows["host"], rows["port"] = _apart(hosts, ports, len(foundation.HOSTS))
    rows["kin"] = np.where(kin < 0, 0, rows["seed"][kin])
    rows["script"] = which
    rows["step"] = scripts.first[which]
    scripted = scripts.first[which + 1] - rows["step"] + CLOSING_PACKETS
    goes_on = np.array([talk.kind[0] == "1" for talk in talks], np.bool_)[which]
    budgets = _budgets(rng, packets - int(scripted.sum()), int(goes_on.sum()), shape.budget_sigma)
    rows["budget"] = 0
    rows["budget"][goes_on] = budgets
    signing = np.flatnonzero(np.array([bool(talk.signed) for talk in talks], np.bool_)[which])
    signed = np.zeros((len(signing) + 1, 2, SIGNATURE_BYTES), np.uint8)
    said = [np.frombuffer(b"".join(data for _, data in talk.said), np.uint8) for talk in talks]
    for number, row in enumerate(signing.tolist()):
        talk, played = talks[which[row]], said[which[row]].copy()
        for at, size, slot in talk.fresh:
            if slot < diego.SIGNED:
                seed_of = rows["kin"][row] if slot >= diego.KIN else rows["seed"][row]
                _freshen(played, at, size, seed_of, slot % diego.KIN, 0)
        for by, pem, over in talk.signed:
            made = np.frombuffer(diego.sign(talk, played, by, over, diego.private_key(pem)), np.uint8)
            signed[number, by] = made
            # The client signs what the server did, too.
            at = next(at for at, _, slot in talk.fresh if slot == diego.SIGNED + by)
            played[at : at + SIGNATURE_BYTES] = made
        rows["signed"][row] = number
    return rows, signed


def _apart(
    hosts: NDArray[np.int64], services: NDArray[np.int64], count: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint16]]:
    """Hosts and ports of both ends, with source ports below those of any service, so that no two connections share a tuple."""
    orig = hosts[:, 0]
    turn = np.zeros(len(hosts), np.int64)
    for host in range(count):
        mine = orig == host
        turn[mine] = np.arange(np.count_nonzero(mine))
    source = 10_000 + (turn * 7_919 + 1_000 * orig) % 50_000
    # The 50,001st of a host meets the first again: another service port keeps them apart only by chance, so time does.
    return hosts.astype(np.uint8), np.stack((source, services), axis=1).astype(np.uint16)


def plan(shape: Shape, packets: int, seed: int, scripts: Scripts) -> NDArray[np.void]:
    """Every connection as it is before its SYN, in the order of their starts."""
    rng = np.random.default_rng(seed)
    count = max(1, round(shape.connections * packets / shape.packets))
    rows = np.zeros(count, CONNECTION)
    window_ns = shape.seconds * 1e9
    life_ns = np.minimum(rng.lognormal(np.log(shape.life_median_s * 1e9), 0.8, count), 0.9 * window_ns)
    start = np.sort((rng.random(count) * (window_ns - life_ns)).astype(np.int64))
    rows["start_ns"] = rows["next_ns"] = EPOCH_NS + start
    rows["rng"] = rng.integers(1, 2**63, count)
    rows["seed"] = rng.integers(1, 2**63, count)
    rows["host"], rows["port"] = _tuples(rng, count)
    rows["seq"] = rng.integers(0, 2**32, (count, 2))
    rows["tsbase"] = rng.integers(0, 2**31, (count, 2))
    rows["ipid"] = rng.integers(0, 2**16, (count, 2))
    rows["oneway_ns"] = rng.integers(50_000, 400_000, count)
    talks = (len(scripts.first) - 1) // 3
    behind = np.select([rows["port"][:, 1] == MYSQL, rows["port"][:, 1] == NATS], [1, 2], 0)
    rows["script"] = behind * talks + rng.integers(0, talks, count)
    rows["step"] = scripts.first[rows["script"]]
    scripted = scripts.first[rows["script"] + 1] - rows["step"] + CLOSING_PACKETS
    rows["budget"] = _budgets(rng, packets - int(scripted.sum()), count, shape.budget_sigma)
    rows["gap_ns"] = life_ns * 2.2 / np.maximum(rows["budget"], 1)  # a burst is about 2.2 packets
    return rows


@compiled
def _draw(row):  # type: ignore[no-untyped-def]
    """xorshift64*; the state lives in the connection, so its bytes do not depend on its neighbours."""
    x = row.rng
    x ^= x >> np.uint64(12)
    x ^= x << np.uint64(25)
    x ^= x >> np.uint64(27)
    row.rng = x
    return (x * np.uint64(2685821657736338717)) >> np.uint64(16)


@compiled_as("void(u1[::1], i8, i8)")
def _put16(out, at, value):  # type: ignore[no-untyped-def]
    out[at] = (value >> 8) & 0xFF
    out[at + 1] = value & 0xFF


@compiled_as("void(u1[::1], i8, i8)")
def _put32(out, at, value):  # type: ignore[no-untyped-def]
    _put16(out, at, (value >> 16) & 0xFFFF)
    _put16(out, at + 2, value & 0xFFFF)


@compiled_as("void(u1[::1], i8, i8)")
def _put32_le(out, at, value):  # type: ignore[no-untyped-def]
    _put32(out, at, ((value & 0xFF) << 24) | ((value & 0xFF00) << 8) | ((value >> 8) & 0xFF00) | ((value >> 24) & 0xFF))


@compiled_as("i8(u1[::1], i8, i8)")
def _sum16(out, start, end):  # type: ignore[no-untyped-def]
    """Sum of the big-endian 16-bit words of out[start:end], an odd last byte padded: RFC 1071."""
    total = 0
    for at in range(start, end - 1, 2):
        total += (np.int64(out[at]) << 8) | np.int64(out[at + 1])
    if (end - start) & 1:
        total += np.int64(out[end - 1]) << 8
    return total


@compiled_as("i8(i8)")
def _fold(total):  # type: ignore[no-untyped-def]
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@compiled_as("i8(u1[::1], i8, i8, i8, i8)")
def _record(out, at, size, now_ns, form):  # type: ignore[no-untyped-def]
    """Header (and trailer) of a record around the ``size`` bytes of frame behind it; returns where the next record goes."""
    if form == PCAP:
        _put32_le(out, at, now_ns // 1_000_000_000)
        _put32_le(out, at + 4, now_ns % 1_000_000_000 // 1_000)
        _put32_le(out, at + 8, size)
        _put32_le(out, at + 12, size)
        return at + 16 + size
    padded = (size + 3) & ~3
    now_us = now_ns // 1_000
    _put32_le(out, at, 6)
    _put32_le(out, at + 4, padded + 32)
    _put32_le(out, at + 8, 0)
    _put32_le(out, at + 12, now_us >> 32)
    _put32_le(out, at + 16, now_us & 0xFFFFFFFF)
    _put32_le(out, at + 20, size)
    _put32_le(out, at + 24, size)
    for i in range(size, padded):
        out[at + 28 + i] = 0
    _put32_le(out, at + 28 + padded, padded + 32)
    return at + 32 + padded


@compiled
def _segment(out, at, row, by, flags, payload_bytes, now_ns, vlan):  # type: ignore[no-untyped-def]
    """Ethernet, IPv4 and TCP headers at ``out[at:]``; returns where the payload goes. The checksums come in ``_seal``."""
    to = 1 - by
    for i in range(12):
        out[at + i] = 0
    out[at] = out[at + 6] = 2  # locally administered
    out[at + 5] = row.host[to]
    out[at + 11] = row.host[by]
    ip = at + 14
    if vlan:
        _put16(out, at + 12, 0x8100)
        _put16(out, at + 14, vlan)
        ip += 4
    _put16(out, ip - 2, 0x0800)
    syn = flags & SYN
    tcp_bytes = 40 if syn else 32
    out[ip], out[ip + 1] = 0x45, 0
    _put16(out, ip + 2, 20 + tcp_bytes + payload_bytes)
    _put16(out, ip + 4, np.int64(row.ipid[by]))
    row.ipid[by] = (row.ipid[by] + 1) & 0xFFFF
    _put16(out, ip + 6, 0x4000)
    out[ip + 8], out[ip + 9] = 64, 6
    _put16(out, ip + 10, 0)
    _put32(out, ip + 12, 0x0A00100A + np.int64(row.host[by]))  # 10.0.16.10 and on
    _put32(out, ip + 16, 0x0A00100A + np.int64(row.host[to]))
    tcp = ip + 20
    _put16(out, tcp, np.int64(row.port[by]))
    _put16(out, tcp + 2, np.int64(row.port[to]))
    _put32(out, tcp + 4, np.int64(row.seq[by]))
    _put32(out, tcp + 8, np.int64(row.seq[to]) if flags & ACK else 0)
    out[tcp + 12] = tcp_bytes << 2
    out[tcp + 13] = flags
    _put16(out, tcp + 14, 64_240 if syn else 501)
    _put32(out, tcp + 16, 0)
    row.tsval[by] = (row.tsbase[by] + (now_ns - EPOCH_NS) // 1_000_000) & 0xFFFFFFFF
    option = tcp + 20
    if syn:
        _put32(out, option, 0x020405B4)  # MSS 1460
        _put16(out, option + 4, 0x0402)  # SACK permitted
        option += 6
    else:
        _put16(out, option, 0x0101)
        option += 2
    _put16(out, option, 0x080A)
    _put32(out, option + 2, np.int64(row.tsval[by]))
    _put32(out, option + 6, np.int64(row.tsval[to]) if flags & ACK else 0)
    if syn:
        _put32(out, option + 10, 0x01030307)  # window scale 7
    row.seq[by] = (np.int64(row.seq[by]) + payload_bytes + (1 if flags & (SYN | FIN) else 0)) & 0xFFFFFFFF
    return tcp + tcp_bytes


@compiled_as("void(u1[::1], i8, i8)")
def _seal(out, ip, end):  # type: ignore[no-untyped-def]
    """Checksums of the packet at out[ip:end]: RFC 791 section 3.1, RFC 9293 section 3.1."""
    _put16(out, ip + 10, _fold(_sum16(out, ip, ip + 20)))
    tcp = ip + 20
    pseudo = _sum16(out, ip + 12, ip + 20) + 6 + (end - tcp)
    _put16(out, tcp + 16, _fold(pseudo + _sum16(out, tcp, end)))


@compiled
def _freshen(out, at, bytes_, seed, slot, begin):  # type: ignore[no-untyped-def]
    """The connection's own random bytes of this slot, from its byte ``begin`` on (splitmix64)."""
    x = np.uint64(0)
    for j in range(begin, begin + bytes_):
        i = j
        if i & 7 == 0 or j == begin:
            i &= ~7
            x = seed + np.uint64(slot * 1_000_003 + i + 1) * np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        out[at + j - begin] = (x >> np.uint64(8 * (j & 7))) & np.uint64(0xFF)


@compiled
def _sift_up(heap, rows, at):  # type: ignore[no-untyped-def]
    while at > 0:
        above = (at - 1) >> 1
        if rows[heap[above]].next_ns <= rows[heap[at]].next_ns:
            break
        heap[above], heap[at] = heap[at], heap[above]
        at = above


@compiled
def _sift_down(heap, rows, size):  # type: ignore[no-untyped-def]
    at = 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and rows[heap[below + 1]].next_ns < rows[heap[below]].next_ns:
            below += 1
        if rows[heap[at]].next_ns <= rows[heap[below]].next_ns:
            break
        heap[below], heap[at] = heap[at], heap[below]
        at = below


@compiled
def fill(
    out, form, vlan, loss, reorder, rows, heap, at_now, blob, steps, first, patches, signed, pool, sizes, pauses, held
):  # type: ignore[no-untyped-def]
    """Fill ``out`` with whole records; returns the bytes used, 0 at the end of the capture.

    ``at_now``: [open connections, connections started, packets written, packets lost, packets put out of order, held bytes, whose].
    """
    at = 0
    lead = 16 if form == PCAP else 28
    while at < out.size - MARGIN_BYTES:
        open_, started = at_now[0], at_now[1]
        while started < rows.size and (open_ == 0 or rows[started].start_ns <= rows[heap[0]].next_ns):
            heap[open_] = started
            _sift_up(heap, rows, open_)
            open_ += 1
            started += 1
        at_now[0], at_now[1] = open_, started
        if open_ == 0:
            break
        me = heap[0]
        row = rows[me]
        now = row.next_ns
        frame = at + lead
        ip = frame + (18 if vlan else 14)

        # Who sends what: `size` bytes of payload from the script's blob at `talk`, or of data.
        phase, by, flags, size, talk = row.phase, ORIG, ACK, 0, 0
        if phase == SCRIPT:
            step = steps[row.step]
            by, flags, size, talk = np.int64(step.by), np.int64(step.flags), np.int64(step.bytes), step.at
        elif phase == CLOSE:
            by = RESP if row.step == 1 else ORIG
            flags = ACK if row.step == 2 else ACK | FIN
        elif row.unacked == 2 or (row.burst_bytes == 0 and row.unacked > 0):
            by = 1 - np.int64(row.burst_by)
        else:
            # A burst: one TLS record in segments, an acknowledgement after every second and after the last.
            if row.burst_bytes == 0:
                row.burst_by = RESP if _draw(row) % np.uint64(10) < 7 else ORIG
                row.burst_bytes = min(sizes[_draw(row) % np.uint64(TABLE)], row.budget * MSS)
                row.burst_at = -1
            by = np.int64(row.burst_by)
            size = min(row.burst_bytes, MSS)
            flags = ACK if row.burst_bytes > size else ACK | PSH

        body = _segment(out, frame, row, by, flags, size, now, vlan)
        end = body + size

        pause = row.oneway_ns
        if phase == SCRIPT:
            out[body:end] = blob[talk : talk + size]
            for i in range(step.patch, step.patch + step.patches):
                fresh = patches[i]
                slot, begin = np.int64(fresh.slot) & 0xFF, np.int64(fresh.slot) >> 8
                at_fresh, size_fresh = body + fresh.at, np.int64(fresh.bytes)
                if slot >= 64:
                    out[at_fresh : at_fresh + size_fresh] = signed[row.signed, slot - 64, begin : begin + size_fresh]
                elif slot >= 16:
                    _freshen(out, at_fresh, size_fresh, row.kin, slot - 16, begin)
                else:
                    _freshen(out, at_fresh, size_fresh, row.seed, slot, begin)
            row.step += 1
            if row.step == first[row.script + 1]:
                row.phase = DATA if row.budget > 0 else CLOSE
                row.step = 0
            elif steps[row.step].by == by:
                pause = BACK_TO_BACK_NS
        elif phase == CLOSE:
            row.step += 1
            if row.step == CLOSING_PACKETS:
                row.phase = DONE
        else:
            if size:
                record_header = 0
                if row.burst_at < 0:
                    row.burst_at = np.int64(_draw(row) % np.uint64(pool.size - 32_768))
                    record_header = 5
                    out[body], out[body + 1], out[body + 2] = 0x17, 3, 3
                    _put16(out, body + 3, row.burst_bytes - record_header)
                random_bytes = size - record_header
                out[body + record_header : end] = pool[row.burst_at : row.burst_at + random_bytes]
                row.burst_at += random_bytes
                row.burst_bytes -= size
                row.unacked += 1
            else:
                row.unacked = 0
            row.budget -= 1
            if row.budget == 0:
                row.phase = CLOSE
            elif row.burst_bytes > 0:
                pause = BACK_TO_BACK_NS if row.unacked == 1 else row.oneway_ns
            elif row.unacked == 0:
                pause += np.int64(pauses[_draw(row) % np.uint64(TABLE)] * row.gap_ns)
        row.next_ns = now + pause
        _seal(out, ip, end)

        done = row.phase == DONE
        if done:
            at_now[0] = open_ - 1
            heap[0] = heap[open_ - 1]
        _sift_down(heap, rows, at_now[0])

        if loss > 0.0 and (_draw(row) & np.uint64(0xFFFFFF)) < loss * 0x1000000:
            at_now[3] += 1  # crossed the wire, not captured
        elif reorder > 0.0 and not done and at_now[5] == 0 and (_draw(row) & np.uint64(0xFFFFFF)) < reorder * 0x1000000:
            held[: end - frame] = out[frame:end]
            at_now[5], at_now[6] = end - frame, me
            continue
        else:
            at = _record(out, at, end - frame, now, form)
            at_now[2] += 1
        if at_now[5] and at_now[6] == me:  # the held packet follows its successor
            size = at_now[5]
            out[at + lead : at + lead + size] = held[:size]
            at = _record(out, at, size, now + 1_000, form)
            at_now[2] += 1
            at_now[4] += 1
            at_now[5] = 0
    return at


def _file_header(form: int) -> bytes:
    if form == PCAP:
        return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)
    section = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    interface = struct.pack("<IIHHII", 1, 20, 1, 0, 262_144, 20)
    return section + interface


class Made(NamedTuple):
    """What went into the file."""

    packets: int
    connections: int
    lost: int
    reordered: int
    file_bytes: int


def generate(
    out: BinaryIO,
    shape: str,
    *,
    packets: int = 0,
    seed: int = 1,
    recording: Path = OUT / "handshakes.json",
    pcapng: bool = False,
    vlan: int = 0,
    loss: float = 0.0,
    reorder: float = 0.0,
) -> Made:
    """Write a capture of about ``packets`` packets (0: the shape's own number) to ``out``.

    ``loss`` and ``reorder`` are shares of the packets: crossed the wire but not captured, and captured behind their successor.
    """
    form = PCAPNG if pcapng else PCAP
    size = packets or SHAPES[shape].packets
    signed = np.zeros((1, 2, SIGNATURE_BYTES), np.uint8)
    if shape == "diego":
        talks = diego.load(recording.with_name("diego.json"))
        scripts = diego_scripts(talks)
        rows, signed = plan_diego(SHAPES[shape], size, seed, talks, scripts)
    else:
        scripts = make_scripts(handshakes.load(recording))
        rows = plan(SHAPES[shape], size, seed, scripts)
    rng = np.random.default_rng((seed, 1))
    pool = rng.integers(0, 256, POOL_BYTES, dtype=np.uint8)
    sizes = np.clip(rng.lognormal(np.log(420), 1.0, TABLE), 40, 16_384).astype(np.int64)
    pauses = rng.exponential(1.0, TABLE)
    buffer = np.zeros(BUFFER_BYTES, np.uint8)
    held = np.zeros(2_048, np.uint8)
    heap = np.zeros(rows.size, np.int64)
    at_now = np.zeros(7, np.int64)
    header = _file_header(form)
    out.write(header)
    written = len(header)
    tables = (scripts.blob, scripts.steps, scripts.first, scripts.patches, signed, pool, sizes, pauses, held)
    while used := fill(buffer, form, vlan, loss, reorder, rows, heap, at_now, *tables):
        out.write(buffer[:used].data)
        written += used
    return Made(int(at_now[2]), rows.size, int(at_now[3]), int(at_now[4]), written)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write a large capture for the benchmark.")
    parser.add_argument("--shape", choices=sorted(SHAPES), default="bulk")
    parser.add_argument("--packets", type=int, default=0, help="about this many (default: the shape's)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--handshakes", type=Path, default=OUT / "handshakes.json", help="recording to use; made if absent"
    )
    parser.add_argument("--pcapng", action="store_true", help="write pcapng instead of classic pcap")
    parser.add_argument("--vlan", type=int, default=0, help="802.1Q tag to put on every frame")
    parser.add_argument("--loss", type=float, default=0.0, help="share of packets that the capture misses")
    parser.add_argument("--reorder", type=float, default=0.0, help="share of packets captured behind their successor")
    args = parser.parse_args()
    began = time.process_time()
    with args.out.open("wb") as out:
        made = generate(
            out,
            args.shape,
            packets=args.packets,
            seed=args.seed,
            recording=args.handshakes,
            pcapng=args.pcapng,
            vlan=args.vlan,
            loss=args.loss,
            reorder=args.reorder,
        )
    for name, value in made._asdict().items():
        print(name, value)
    print(f"cpu_seconds {time.process_time() - began:.1f}", file=sys.stderr)


if __name__ == "__main__":
    main()
