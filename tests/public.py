"""Captures that others made, with what others said of them, and what we say, each made once a session.

Beside the audits stand plain reckonings over decoded packets (keys, gaps, openings, first payloads): the evidence by which a disagreement
is given its cause. They share nothing with the connection table but the decoder.
"""

from __future__ import annotations

import csv
import ipaddress
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from auditor import pipeline
from auditor.capture import open_capture
from auditor.decode import Decoder, guess_link_type, relinked
from auditor.errors import AuditorError
from auditor.model.packets import STOP_FRAGMENT
from auditor.policy.addresses import to_text

Key = tuple[Any, ...]
"""Transport and both ends (address and port as texts), the lower first."""

TCP_SILENCE_S, UDP_SILENCE_S = 7_875, 7_200
LINKTYPE_NETLINK = 253
LINKTYPE_IPV6 = 229
FOLLOWED_ELSEWHERE = {3544, 5072, 5247}
"""UDP ports of Teredo, AYIYA and CAPWAP's data channel: the packets inside are not followed, or only some."""
TUNNEL_PORTS = {2152, 3544, 4754, 4789, 5072, 5247, 6081}
GRE = 47
PCAP_MAGICS = {bytes.fromhex(each) for each in ("d4c3b2a1", "a1b2c3d4", "4d3cb2a1", "a1b23c4d")}
FAR_BYTES = 1 << 24
"""Numbers of a connection that is closed do not jump so far."""


@dataclass
class Outcome:
    """What an audit of one capture gave."""

    table: pd.DataFrame | None
    error: str | None = None
    by_key: dict[Key, list[Any]] = field(default_factory=lambda: defaultdict(list))
    """Rows by tuple, of all transports with ports."""

    def count(self, transport: str) -> int:
        return 0 if self.table is None else int((self.table["transport"] == transport).sum())

    @property
    def pair(self) -> tuple[str, str]:
        return str(self.count("tcp")), str(self.count("udp"))


@cache
def plain(address: str) -> str:
    """The one way to write an address; IPv4 inside IPv6 is written as IPv4, as we do."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def key_of(transport: str, *ends: tuple[str, Any]) -> Key:
    return (transport.lower(), *sorted((plain(address), str(port)) for address, port in ends))


@cache
def expected(folder: Path) -> list[dict[str, str]]:
    with (folder / "EXPECTED.tsv").open(newline="") as text:
        return list(csv.DictReader(text, delimiter="\t"))


@cache
def told_connections(folder: Path) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (folder / "EXPECTED_CONNECTIONS.tsv").open(newline="") as text:
        for row in csv.DictReader(text, delimiter="\t"):
            found[row["file"]].append(row)
    return found


def audit_of(path: Path) -> Outcome:
    """Raises whatever an audit should not raise."""
    try:
        audit = pipeline.connections([str(path)], policy=None, inventory=None, options={})  # type: ignore[arg-type]
    except AuditorError as error:
        return Outcome(None, str(error))
    table = audit.connections.drop(columns=["facts"]).astype(object)
    found = Outcome(table)
    for row in table.itertuples(index=False):
        ends = (row.originator_ip, row.originator_port), (row.responder_ip, row.responder_port)
        found.by_key[key_of(row.transport, *ends)].append(row)
    return found


@cache
def outcomes(folder: Path) -> dict[str, Outcome]:
    """Every capture of the folder, audited."""
    return {row["file"]: audit_of(folder / row["file"]) for row in expected(folder)}


def decoded(path: Path) -> Iterator[tuple[Any, Any]]:
    """Packets of a capture and the buffer of their payload, batch by batch; a pair is good until the next one is taken."""
    decoder = Decoder()
    link_type: int | None = None
    with open_capture(str(path)) as reader:
        for batch in reader.batches():
            if batch.first_frame_no == 1:
                link_type = guess_link_type(batch)
            taken = batch if link_type is None else relinked(batch, link_type)
            for rows in decoder.decode(taken):
                yield rows, batch.buf
    left = decoder.finish()
    if len(left):
        yield left, np.zeros(1, np.uint8)


@dataclass
class Observation:
    """A plain reckoning over the packets of one tuple, tunnels apart."""

    last_ns: int = 0
    gaps: int = 0
    """Silences longer than our time-out, by the packets' own clock."""
    isn: dict[str, int] = field(default_factory=dict)
    reopened: int = 0
    """SYNs with another sequence number than the one before from the same end, or a SYN+ACK to none seen after both ends closed; behind a
    reset or both FINs, a packet without SYN whose numbers lie far from those before."""
    fins: set[str] = field(default_factory=set)
    whole: int = 0
    """Packets that are no fragments."""
    sound: int = 0
    """Packets whose headers were there whole and made sense."""
    next_seq: dict[str, int] = field(default_factory=dict)
    """Of each end, the sequence number behind the last packet that followed the one before."""
    reset: bool = False
    packets: int = 0
    payload: dict[str, bytes] = field(default_factory=dict)
    """The first payload of each end, at most 64 bytes."""


@dataclass
class Evidence:
    """What the packets of a capture show."""

    seen: dict[tuple[Key, int, int], Observation] = field(default_factory=lambda: defaultdict(Observation))
    tunnelled: int = 0
    version: int = 2
    """Major version that a pcap file claims."""
    link_types: set[int] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)
    protocols: set[int] = field(default_factory=set)
    ip_versions: set[int] = field(default_factory=set)

    def keys(self, transport: str) -> list[Observation]:
        return [seen for (key, _, _), seen in self.seen.items() if key[0] == transport]

    def payloads(self, key: Key) -> list[bytes]:
        return [data for (at, _, _), seen in self.seen.items() if at == key for data in seen.payload.values()]


@cache
def evidence(path: Path) -> Evidence:
    """Reckoned packet by packet."""
    found = Evidence()
    head = path.read_bytes()[:6]
    if head[:4] in PCAP_MAGICS:
        found.version = int.from_bytes(head[4:], "little" if head[0] in b"\xd4\x4d" else "big")
    with open_capture(str(path)) as reader:
        for batch in reader.batches():
            found.link_types |= set(batch.link_type.tolist())
    for rows, buf in decoded(path):
        for p in rows:
            if not p["ip_version"]:
                continue
            protocol = int(p["proto"])
            found.protocols.add(protocol)
            found.ip_versions.add(int(p["ip_version"]))
            found.tunnelled += bool(p["tunnel"])
            if (
                protocol not in {6, 17}
                or p["stop"] == STOP_FRAGMENT
                or (p["src_port"] == 0 and p["dst_port"] == 0 and p["stop"])
            ):
                continue
            found.ports |= {int(p["src_port"]), int(p["dst_port"])}
            source = to_text(int(p["src_hi"]) << 64 | int(p["src_lo"]))
            target = to_text(int(p["dst_hi"]) << 64 | int(p["dst_lo"]))
            transport = "tcp" if protocol == 6 else "udp"
            key = key_of(transport, (source, int(p["src_port"])), (target, int(p["dst_port"])))
            seen = found.seen[key, int(p["tunnel"]), int(p["tunnel_id"])]
            _note(seen, p, transport, f"{source} {p['src_port']}", f"{target} {p['dst_port']}")
            end = f"{source} {p['src_port']}"
            if p["payload_bytes"] and end not in seen.payload:
                at = int(p["payload_at"])
                seen.payload[end] = bytes(buf[at : at + min(int(p["payload_bytes"]), 64)])
    return found


def _note(seen: Observation, p: Any, transport: str, end: str, other: str) -> None:
    now = int(p["ts_ns"])
    silence = TCP_SILENCE_S if transport == "tcp" else UDP_SILENCE_S
    if seen.packets and seen.last_ns > 0 and now - seen.last_ns > silence * 1_000_000_000:
        seen.gaps += 1
        seen.isn.clear()
        seen.fins.clear()
    flags = int(p["flags"]) if transport == "tcp" else 0
    if flags & 2 and not flags & 4:
        known = seen.isn.get(end)
        if (known is not None and known != int(p["seq"])) or (known is None and {end, other} <= seen.fins):
            seen.reopened += 1
            seen.isn.clear()
            seen.fins.clear()
        seen.isn[end] = int(p["seq"])
    elif transport == "tcp":
        ahead = (int(p["seq"]) - seen.next_seq.get(end, int(p["seq"])) + 2**31) % 2**32 - 2**31
        if (seen.reset or {end, other} <= seen.fins) and abs(ahead) > FAR_BYTES:
            seen.reopened += 1
            seen.isn.clear()
            seen.fins.clear()
            seen.reset = False
            seen.next_seq.clear()
            ahead = 0
        if abs(ahead) <= FAR_BYTES:
            seen.next_seq[end] = int(p["seq"]) + int(p["payload_wire_bytes"])
        seen.reset |= bool(flags & 4)
    if flags & 1:
        seen.fins.add(end)
    seen.last_ns = max(seen.last_ns, now) if not seen.gaps else now
    seen.packets += 1
    seen.whole += int(p["fragment"]) == 0
    seen.sound += int(p["stop"]) == 0
