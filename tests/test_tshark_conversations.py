"""Connections against tshark's streams: the same tuples, packets and IP bytes each way, on captures that others made.

Bytes are those of IP (``ip.len``; ``ipv6.plen`` and its header), as in our table: tshark's own conversations count frames. Captures with
tunnels or fragments are left to ``test_public``: there a frame has no one stream.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.public import Key, audit_of, decoded, expected, key_of

pytestmark = [pytest.mark.tshark, pytest.mark.slow]
FIELDS = [
    *("ip.src", "ip.dst", "ip.len", "ipv6.src", "ipv6.dst", "ipv6.plen"),
    *("tcp.stream", "tcp.srcport", "tcp.dstport", "udp.stream", "udp.srcport", "udp.dstport"),
]
WANTED, MAX_PACKETS = 66, 5_000
IPV6_HEADER_BYTES = 40
Sums = dict[tuple[str, str], tuple[int, int]]
"""(packets, IP bytes) of each end, by address and port."""


def is_plain(path: Path) -> bool:
    """No tunnel, no fragment: each frame has one IP header, and one stream."""
    for rows, _ in decoded(path):
        if rows["tunnel"].any() or rows["fragment"].any() or np.isin(rows["proto"], (4, 41, 47, 50, 51, 115)).any():
            return False
    return True


def chosen(folder: Path) -> list[str]:
    """Captures on which all tools agree: those with most connections, and others from all sources by a chance that never changes."""
    rows = [
        row
        for row in expected(folder)
        if row["counts_agree"] == "all"
        and row["priority"] != "M"
        and int(row["packets"] or 0) <= MAX_PACKETS
        and int(row["tcp_connections"] or 0) + int(row["udp_connections"] or 0) > 0
    ]
    found: list[str] = []
    by_size = sorted(rows, key=lambda row: -int(row["tcp_connections"]) - int(row["udp_connections"]))
    by_chance = sorted(rows, key=lambda row: hashlib.sha256(row["file"].encode()).digest())
    for order, enough in ((by_size, WANTED // 3), (by_chance, WANTED)):
        for row in order:
            if len(found) >= enough:
                break
            if row["file"] not in found and is_plain(folder / row["file"]):
                found.append(row["file"])
    return found


def streams_of(tshark: str, path: Path) -> dict[Key, list[Sums]]:
    """tshark's TCP and UDP streams by tuple."""
    command = [tshark, "-n", "-r", str(path), "-Y", "(tcp or udp) and not icmp and not icmpv6", "-T", "fields"]
    command += ["-E", "occurrence=f", *(part for name in FIELDS for part in ("-e", name))]
    # Sequence analysis and reassembly are of no use here; heuristics would read payload as more headers.
    for option in ("tcp.desegment_tcp_streams:FALSE", "ip.defragment:FALSE"):
        command += ["-o", option]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, errors="replace").stdout
    sums: dict[tuple[Key, str], Sums] = defaultdict(dict)
    for line in said.splitlines():
        fields = dict(zip(FIELDS, line.split("\t"), strict=True))
        transport = "tcp" if fields["tcp.srcport"] else "udp"
        source, target = fields["ip.src"] or fields["ipv6.src"], fields["ip.dst"] or fields["ipv6.dst"]
        if not source or not fields[f"{transport}.srcport"]:
            continue  # its stream may be missing: tshark gives none to a header that contradicts itself
        size = int(fields["ip.len"]) if fields["ip.src"] else int(fields["ipv6.plen"]) + IPV6_HEADER_BYTES
        ends = (source, fields[f"{transport}.srcport"]), (target, fields[f"{transport}.dstport"])
        one = sums[key_of(transport, *ends), fields[f"{transport}.stream"]]
        sender = key_of("", ends[0])[1]
        packets, volume = one.get(sender, (0, 0))
        one[sender] = packets + 1, volume + size
    by_key: dict[Key, list[Sums]] = defaultdict(list)
    for (key, _), one in sums.items():
        by_key[key].append(one)
    return by_key


def sums_of(row: Any) -> Sums:
    ends = (row.originator_ip, row.originator_port), (row.responder_ip, row.responder_port)
    names = [key_of("", end)[1] for end in ends]
    counts = (
        (row.originator_packets + row.originator_copies, row.originator_bytes),
        (row.responder_packets + row.responder_copies, row.responder_bytes),
    )
    return {name: count for name, count in zip(names, counts, strict=True) if count[0]}


def packets_of(one: Sums) -> dict[Any, int]:
    return {end: packets for end, (packets, _) in one.items()}


def merged(several: list[Sums]) -> Sums:
    whole: Sums = {}
    for one in several:
        for end, (packets, volume) in one.items():
            before = whole.get(end, (0, 0))
            whole[end] = before[0] + packets, before[1] + volume
    return whole


@pytest.mark.night
def test_tuples_packets_and_bytes(tshark: str, public_captures: Path) -> None:
    files = chosen(public_captures)
    seen: Counter[str] = Counter()
    wrong: list[tuple[Any, ...]] = []
    for file in files:
        theirs = streams_of(tshark, public_captures / file)
        found = audit_of(public_captures / file)
        ours = {key: [sums_of(row) for row in rows] for key, rows in found.by_key.items() if key[0] in ("tcp", "udp")}
        if set(ours) != set(theirs):
            wrong.append((file, "tuples", sorted(set(ours) ^ set(theirs))[:3]))
        for key in set(ours) & set(theirs):
            seen["tuples"] += 1
            a, b = ours[key], theirs[key]
            if sorted(map(sorted, (one.items() for one in a))) == sorted(map(sorted, (one.items() for one in b))):
                seen["same stream by stream"] += 1
            elif any(row.originator_copies or row.responder_copies for row in found.by_key[key]):
                # The copies that tshark counts are in the captures; their bytes are counted once.
                seen["with copies"] += 1
                if packets_of(merged(a)) != packets_of(merged(b)):
                    wrong.append((file, key, a[:2], b[:2]))
            elif merged(a) == merged(b):
                seen["same in sum, split otherwise"] += 1
            else:
                wrong.append((file, key, a[:2], b[:2]))
            seen["packets"] += sum(packets for packets, _ in merged(a).values())
    print(len(files), "captures", dict(seen))
    for each in wrong:
        print(*each)
    assert len(files) >= 60 and seen["tuples"] >= 300
    assert not wrong
    assert seen["same in sum, split otherwise"] <= seen["tuples"] * 0.02
