"""One TCP connection, packet by packet, with whatever somebody may forge between its packets; written as a capture."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field
from pathlib import Path

from tests.doubling import ETHERNET, Frame, write

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
CLIENT, SERVER = 0, 1
BEGIN_NS = 1_794_819_601 * 10**9


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@dataclass
class Talk:
    """Client and server; what honest ends send moves the sequence numbers, what is forged does not."""

    client: str
    server: str
    port: int
    sport: int = 40_000
    offload: tuple[bool, bool] = (False, False)
    """The checksums of this end are left to its network card."""
    frames: list[Frame] = field(default_factory=list)
    now_ns: int = BEGIN_NS
    seq: list[int] = field(default_factory=lambda: [1_000_000, 5_000_000])
    ident: int = 100

    def packet(
        self,
        who: int,
        flags: int,
        data: bytes = b"",
        *,
        at: int = 0,
        acks: int = 0,
        right: bool = True,
        ttl: int = 64,
        urgent: int = 0,
        ident: int | None = None,
        after_ms: float = 1,
        sender: int = 1,
        vlan: int = 0,
    ) -> Talk:
        """One packet ``at`` bytes from where this end is, acknowledging ``acks`` bytes more than the other end has sent; ``right``: so is its checksum; ``sender``: the
        last byte of the link address it comes from."""
        ends = [ipaddress.ip_address(each).packed for each in (self.client, self.server)]
        ports = [self.sport, self.port]
        if who == SERVER:
            ends.reverse()
            ports.reverse()
        ack = (self.seq[1 - who] + acks) % 2**32 if flags & ACK else 0
        header = struct.pack(">HHIIBBHHH", *ports, (self.seq[who] + at) % 2**32, ack, 5 << 4, flags, 64_000, 0, urgent)
        pseudo = ends[0] + ends[1] + struct.pack(">HH", 6, len(header) + len(data))
        told = checksum(pseudo + header + data)
        if self.offload[who]:
            told = checksum(pseudo) ^ 0xFFFF
        elif not right:
            told ^= 0x5555
        header = header[:16] + struct.pack(">H", told) + header[18:]
        self.ident += 1
        ip = struct.pack(
            ">BBHHHBBH", 0x45, 0, 40 + len(data), self.ident if ident is None else ident, 0x4000, ttl, 6, 0
        )
        ip = ip[:10] + struct.pack(">H", checksum(ip + ends[0] + ends[1])) + ends[0] + ends[1]
        tag = struct.pack(">HH", 0x8100, vlan) if vlan else b""
        frame = bytes(6) + bytes([2, 0, 0, 0, who, sender]) + tag + b"\x08\x00" + ip + header + data
        self.now_ns += int(after_ms * 10**6)
        self.frames.append((self.now_ns, frame, len(frame)))
        return self

    def opens(self, data: bytes = b"", *, taken: bool = True) -> Talk:
        """The handshake; ``data`` comes in the SYN, and is acknowledged if ``taken``."""
        self.packet(CLIENT, SYN, data)
        self.seq[CLIENT] += 1 + (len(data) if taken else 0)
        self.packet(SERVER, SYN | ACK)
        self.seq[SERVER] += 1
        return self.packet(CLIENT, ACK)

    def says(self, who: int, data: bytes, *, acked: bool = True, urgent: int = 0) -> Talk:
        """Data that the other end takes."""
        for start in range(0, len(data), 1_400):
            piece = data[start : start + 1_400]
            self.packet(who, PSH | ACK | (URG if urgent else 0), piece, urgent=urgent)
            self.seq[who] += len(piece)
        return self.packet(1 - who, ACK) if acked else self

    def holds(self, chunks: list[tuple[int, bytes]]) -> Talk:
        """A whole dialogue."""
        for who, data in chunks:
            self.says(who, data)
        return self

    def closes(self) -> Talk:
        """Both ends say goodbye."""
        for who in (CLIENT, SERVER):
            self.packet(who, FIN | ACK)
            self.seq[who] += 1
        return self.packet(CLIENT, ACK)

    def write(self, folder: Path) -> str:
        """As a capture."""
        return str(write(folder / "talk.pcap", ETHERNET, self.frames))


def datagram(
    client: str, server: str, sport: int, port: int, data: bytes, *, proto: int = 17, mac: bytes = bytes(12)
) -> bytes:
    """A frame with one UDP datagram; of another ``proto``, with ``data`` right behind its IP header."""
    ends = [ipaddress.ip_address(each).packed for each in (client, server)]
    if proto == 17:
        header = struct.pack(">HHHH", sport, port, 8 + len(data), 0)
        pseudo = (
            ends[0]
            + ends[1]
            + (
                struct.pack(">HH", 17, 8 + len(data))
                if len(ends[0]) == 4
                else struct.pack(">IHH", 8 + len(data), 0, 17)
            )
        )
        data = header[:6] + struct.pack(">H", checksum(pseudo + header + data) or 0xFFFF) + data
    if len(ends[0]) == 16:
        return mac + b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(data), proto, 255) + ends[0] + ends[1] + data
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(data), sport, 0x4000, 64, proto, 0)
    ip = ip[:10] + struct.pack(">H", checksum(ip + ends[0] + ends[1])) + ends[0] + ends[1]
    return mac + b"\x08\x00" + ip + data


def inside_vxlan(talk: Talk, client: str, server: str, *, sport: int = 50_001, vni: int = 7) -> list[Frame]:
    """All of a talk, and how it came there, in datagrams that ``client`` sends to ``server``'s UDP port 4789 (RFC 7348)."""
    head = struct.pack(">II", 0x0800_0000, vni << 8)
    frames = ((now, datagram(client, server, sport, 4789, head + frame)) for now, frame, _ in talk.frames)
    return [(now, frame, len(frame)) for now, frame in frames]
