"""Conversations as a test tells them: who sends what, and the decoded packets that gives.

``Wire`` collects packets of any number of conversations; ``Wire.batches`` hands them on as ``decode`` would.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from auditor.model.packets import PACKET

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def address(text: str) -> tuple[int, int, int]:
    """High and low 64 bits and the version of an address; IPv4 as ::ffff:a.b.c.d."""
    ip = ipaddress.ip_address(text)
    value = int(ip) if ip.version == 6 else 0xFFFF_0000_0000 | int(ip)
    return value >> 64, value & (2**64 - 1), ip.version


@dataclass
class Sent:
    """One packet."""

    ts_ns: int
    src: str
    sport: int
    dst: str
    dport: int
    flags: int = 0
    seq: int = 0
    ack: int = 0
    data: bytes = b""
    wire: int | None = None
    proto: int = 6
    fragment: int = 0
    ident: int = 0
    """The IP identification: each packet has another one, what is sent again, too."""
    interface: int = 0


@dataclass
class Wire:
    """All packets, in the order in which they were captured."""

    sent: list[Sent] = field(default_factory=list)
    now_ns: int = 1_700_000_000_000_000_000
    step_ns: int = 1_000_000
    sent_before: int = 0

    def add(self, **fields: Any) -> Sent:
        self.now_ns += self.step_ns
        self.sent_before += 1
        packet = Sent(self.now_ns, **{"ident": 2 + self.sent_before % 60_000, **fields})
        self.sent.append(packet)
        return packet

    def packets(self, begin: int = 0, end: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """PACKET rows and the buffer that holds their payload; frames are numbered over the whole wire."""
        chosen = self.sent[begin:end]
        rows = np.zeros(len(chosen), PACKET)
        buf = bytearray()
        for k, (row, packet) in enumerate(zip(rows, chosen, strict=True)):
            row["ts_ns"], row["frame"] = packet.ts_ns, begin + k + 1
            row["src_hi"], row["src_lo"], version = address(packet.src)
            row["dst_hi"], row["dst_lo"], _ = address(packet.dst)
            row["ip_version"], row["proto"] = version, packet.proto
            row["src_port"], row["dst_port"] = packet.sport, packet.dport
            row["flags"], row["seq"], row["ack"] = packet.flags, packet.seq % 2**32, packet.ack % 2**32
            row["payload_at"], row["payload_bytes"] = len(buf), len(packet.data)
            row["payload_wire_bytes"] = len(packet.data) if packet.wire is None else packet.wire
            row["ip_bytes"] = (
                (20 if version == 4 else 40) + (20 if packet.proto == 6 else 8) + int(row["payload_wire_bytes"])
            )
            row["outer"], row["fragment"] = -1, packet.fragment
            row["ip_id"], row["interface"] = packet.ident, packet.interface
            buf += packet.data
        return rows, np.frombuffer(bytes(buf) or b"\0", np.uint8).copy()


@dataclass
class Talk:
    """A TCP conversation between two ends, with sequence numbers kept right."""

    wire: Wire
    client: str = "10.0.1.10"
    cport: int = 40_000
    server: str = "10.0.2.20"
    sport: int = 8889
    isn_c: int = 1_000
    isn_s: int = 9_000

    def __post_init__(self) -> None:
        self.next_c, self.next_s = self.isn_c, self.isn_s

    def _c(self, flags: int, data: bytes = b"", **more: Any) -> Sent:
        packet = self.wire.add(
            src=self.client, sport=self.cport, dst=self.server, dport=self.sport, flags=flags, seq=self.next_c,
            ack=self.next_s if flags & ACK else 0, data=data, **more,
        )  # fmt: skip
        self.next_c += len(data) + (1 if flags & (SYN | FIN) else 0)
        return packet

    def _s(self, flags: int, data: bytes = b"", **more: Any) -> Sent:
        packet = self.wire.add(
            src=self.server, sport=self.sport, dst=self.client, dport=self.cport, flags=flags, seq=self.next_s,
            ack=self.next_c if flags & ACK else 0, data=data, **more,
        )  # fmt: skip
        self.next_s += len(data) + (1 if flags & (SYN | FIN) else 0)
        return packet

    def opens(self) -> Talk:
        self._c(SYN)
        self._s(SYN | ACK)
        self._c(ACK)
        return self

    def attempts(self) -> Talk:
        self._c(SYN)
        return self

    def refuses(self) -> Talk:
        self._s(RST | ACK)
        return self

    def says(self, data: bytes, mss: int = 1448) -> Talk:
        for at in range(0, len(data), mss):
            self._c(PSH | ACK, data[at : at + mss])
        return self

    def answers(self, data: bytes, mss: int = 1448) -> Talk:
        for at in range(0, len(data), mss):
            self._s(PSH | ACK, data[at : at + mss])
        return self

    def acks(self) -> Talk:
        self._c(ACK)
        return self

    def server_acks(self) -> Talk:
        self._s(ACK)
        return self

    def closes(self) -> Talk:
        self._c(FIN | ACK)
        self._s(FIN | ACK)
        self._c(ACK)
        return self

    def aborts(self) -> Talk:
        self._c(RST | ACK)
        return self


class Echo:
    """An examiner that hands the first bytes on as they are: what a test compares."""

    applications = ("none", "unknown", "seen")

    def examine(self, arena: Any, heads: Any, pairs: Any, known: Any, transport: Any, ports: Any) -> Any:
        n = len(pairs)
        facts = []
        for pair in pairs:
            sides = []
            for slot in pair:
                if slot < 0:
                    sides.append((b"", False, False, False, ()))
                    continue
                head = heads[slot]
                filled = int(head["filled_bytes"])
                segments = tuple(
                    sorted(
                        (int(at), int(frame))
                        for at, frame in zip(
                            head["segment_at"][: head["n_segments"]],
                            head["segment_frame"][: head["n_segments"]],
                            strict=True,
                        )
                        if at < filled
                    )
                )
                sides.append(
                    (
                        arena[slot, :filled].tobytes(),
                        bool(head["gap"]),
                        bool(head["ended"]),
                        bool(head["midstream"]),
                        segments,
                    )
                )
            facts.append(tuple(sides))
        return _Examined(np.full(n, 2, np.int16), np.full(n, -1, np.int8), facts)


@dataclass
class _Examined:
    application: np.ndarray
    client_side: np.ndarray
    facts: list[Any]
