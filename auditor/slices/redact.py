"""What may stay of a payload that is handed over: handshakes, and lengths.

Kept are TLS records of the handshake, changes of cipher and alerts with the five bytes before each record (of application data and of heartbeats, which may hold
a server's memory, those five alone), and SSH up to its NEWKEYS; so a slice still shows who proved what. Everything else is overwritten with zeros, which leaves every length as it was: HTTP, NATS
(its CONNECT holds a password), MySQL (its answer to the challenge), whatever is not recognised. What cannot be placed in the
stream (behind a gap, beyond ``HEAD_BYTES``) is overwritten, too: in doubt nothing stays.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HEAD_BYTES = 256 * 1024
"""So much of a direction is looked at; a handshake is over by then."""

_TLS_HEADER = 5
_TLS_KINDS = {20: 64, 21: 64, 22: 1 << 15, 23: 0, 24: 0}
"""So much of each kind of record stays: of a change of cipher and an alert what they may have, encrypted or not; of application data and heartbeats (RFC 6520) nothing."""
_SSH_NEWKEYS = 21
_SSH_MAX_PACKET = 35_000
"""RFC 4253 section 6.1."""

Spans = list[tuple[int, int]]
"""Rising, first to past the last."""


@dataclass(slots=True)
class Direction:
    """The start of what one end sent, put together from its segments."""

    base: int | None = None
    """Sequence number of the first byte."""
    data: bytearray = field(default_factory=bytearray)
    have: Spans = field(default_factory=list)

    def offset(self, seq: int) -> int:
        """Where a sequence number is in the stream, by the shorter way round."""
        gap = (seq - (self.base or 0)) & 0xFFFF_FFFF
        return gap if gap < 1 << 31 else gap - (1 << 32)

    def add(self, seq: int, payload: bytes) -> None:
        """Take a segment; what came first stays."""
        if self.base is None:
            self.base = seq
        at = self.offset(seq)
        if at < 0 and -at <= HEAD_BYTES and not self.data[:1]:
            self.base, at = seq, 0
        elif at < 0:
            payload, at = payload[-at:], 0
        payload = payload[: max(HEAD_BYTES - at, 0)]
        if not payload:
            return
        end = at + len(payload)
        if end > len(self.data):
            self.data.extend(bytes(end - len(self.data)))
        free = [(at, end)]
        for first, past in self.have:
            free = [
                piece
                for one in free
                for piece in ((one[0], min(one[1], first)), (max(one[0], past), one[1]))
                if piece[0] < piece[1]
            ]
        for first, past in free:
            self.data[first:past] = payload[first - at : past - at]
        self.have = _joined([*self.have, (at, end)])

    @property
    def whole(self) -> bytes:
        """From the first byte to the first gap."""
        return bytes(self.data[: self.have[0][1]]) if self.have and self.have[0][0] == 0 else b""


def _joined(spans: Spans) -> Spans:
    found: Spans = []
    for first, past in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], past))
        else:
            found.append((first, past))
    return found


def kept(application: str, data: bytes) -> Spans:
    """What stays of the start of a direction: spans of ``data``."""
    if application in ("tls", "https"):
        return _joined(_tls(data))
    if application == "ssh":
        return _joined(_ssh(data))
    return []


def _tls(data: bytes) -> Spans:
    """RFC 8446 section 5.1. TLS 1.3 hides its own handshake in application data, of which the lengths say enough."""
    at, found = 0, []
    while at + _TLS_HEADER <= len(data):
        kind, major = data[at], data[at + 1]
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        if kind not in _TLS_KINDS or major != 3 or size > (1 << 14) + 2048:
            break
        past = at + _TLS_HEADER + size
        found.append((at, min(past, len(data), at + _TLS_HEADER + _TLS_KINDS[kind])))
        at = past
    return found


def _ssh(data: bytes) -> Spans:
    """RFC 4253 sections 4.2 and 6: the line of the version, then packets in the clear up to NEWKEYS."""
    line = data.find(b"\n", 0, 256)
    if not data.startswith(b"SSH-") or line < 0:
        return []
    at = line + 1
    while at + 6 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if not 2 <= size <= _SSH_MAX_PACKET or at + 4 + size > len(data):
            break
        kind = data[at + 5]
        at += 4 + size
        if kind == _SSH_NEWKEYS:
            break
    return [(0, at)]
