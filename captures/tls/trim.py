"""Trims the raw capture: ciphertext becomes zeros, so that lengths stay and everything compresses; checksums are made right again.

Also zeros: the client's random, session ids, pre-shared-key identities, binders and key shares of TLS 1.3 hellos. What TLS 1.2 sends in the clear stays.
Usage: trim.py WORK OUT  (reads WORK/corpus.raw.pcap and WORK/truth.tsv, writes OUT/corpus.pcap.zst and OUT/corpus.truth.tsv)
"""

from __future__ import annotations

import struct
import sys
from collections import defaultdict
from pathlib import Path

import zstandard

HANDSHAKE, ALERT, CCS, DATA = 22, 21, 20, 23
KEY_SHARE, PRE_SHARED_KEY = 51, 41


def packets(data: bytes) -> list[tuple[bytes, bytearray]]:
    """(record header, frame) of a little-endian classic file."""
    found, at = [], 24
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        found.append((data[at : at + 16], bytearray(data[at + 16 : at + 16 + size])))
        at += 16 + size
    return found


def layout(frame: bytearray) -> tuple[tuple[bytes, bytes], int, int, int, int] | None:
    """(direction, sequence number, payload start, payload end, TCP start) of a TCP segment over IPv4 on Ethernet."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    tcp = 14 + (frame[14] & 15) * 4
    end = 14 + struct.unpack_from(">H", frame, 16)[0]
    sport, dport, seq = struct.unpack_from(">HHI", frame, tcp)
    key = (bytes(frame[26:30]) + sport.to_bytes(2, "big"), bytes(frame[30:34]) + dport.to_bytes(2, "big"))
    return key, seq, tcp + (frame[tcp + 12] >> 4) * 4, end, tcp


def blank_hello(stream: bytearray, at: int, end: int) -> None:
    """Zeros the random-looking extension bodies of a ClientHello or ServerHello at ``stream[at:end]`` (a whole record body)."""
    kind = stream[at]
    if kind not in (1, 2) or at + 39 > end:
        return
    spans = [(at + 6, at + 38)] if kind == 1 else []  # a ServerHello's random marks a HelloRetryRequest: it stays
    here = at + 38
    spans.append((here + 1, here + 1 + stream[here]))  # the session id, which 1.3 only echoes
    here += 1 + stream[here]
    here += 2 + struct.unpack_from(">H", stream, here)[0] if kind == 1 else 2
    here += 1 + stream[here] if kind == 1 else 1
    if here + 2 > end:
        return
    here += 2
    offered_13 = False
    while here + 4 <= end:
        which, size = struct.unpack_from(">HH", stream, here)
        body = here + 4
        if which == 43:
            offered_13 = (
                b"\x03\x04" in stream[body : body + size]
            )  # negotiated or the only one offered: these peers offer one
        if which == PRE_SHARED_KEY and kind == 1:
            identities = struct.unpack_from(">H", stream, body)[0]
            each = body + 2
            while each + 2 <= end and each < body + 2 + identities:
                length = struct.unpack_from(">H", stream, each)[0]
                spans.append((each + 2, each + 2 + length))
                each += 2 + length + 4
            binder = body + 2 + identities + 2
            while binder < min(body + size, end):
                spans.append((binder + 1, binder + 1 + stream[binder]))
                binder += 1 + stream[binder]
        if which == KEY_SHARE and size > 4:
            each = body + 2 if kind == 1 else body
            while each + 4 <= body + size:
                length = struct.unpack_from(">H", stream, each + 2)[0]
                spans.append((each + 4, each + 4 + length))
                each += 4 + length
        here = body + size
    if offered_13:
        for start, stop in spans:
            stop_here = min(stop, end)  # a hello in fragments: what lies in the next record stays
            stream[start:stop_here] = bytes(max(stop_here - start, 0))


def blank(stream: bytearray) -> None:
    """Zeros what is encrypted in one direction.

    After a ChangeCipherSpec a handshake record is encrypted in TLS 1.2; in TLS 1.3 it is a second hello in the clear.
    """
    at, encrypted = 0, False
    while at + 5 <= len(stream):
        kind, size = stream[at], struct.unpack_from(">H", stream, at + 3)[0]
        body, end = at + 5, min(at + 5 + size, len(stream))
        hello = (
            kind == HANDSHAKE
            and end - body > 44
            and stream[body] in (1, 2)
            and stream[body + 4 : body + 6] == b"\x03\x03"
        )
        if hello:
            blank_hello(stream, body, end)
        elif kind == DATA or (encrypted and kind in (HANDSHAKE, ALERT)):
            stream[body:end] = bytes(end - body)
        encrypted = encrypted or kind == CCS
        at = end


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8 if len(data) & 1 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def main() -> None:
    work, out = Path(sys.argv[1]), Path(sys.argv[2])
    raw = (work / "corpus.raw.pcap").read_bytes()
    seen = packets(raw)
    first: dict[tuple[bytes, bytes], int] = {}
    pieces: dict[tuple[bytes, bytes], list[tuple[int, int, int, int]]] = defaultdict(list)
    for number, (_, frame) in enumerate(seen):
        place = layout(frame)
        if place is None:
            continue
        key, seq, start, end, tcp = place
        if frame[tcp + 13] & 2:
            first[key] = (seq + 1) & 0xFFFFFFFF
        elif end > start and key in first:
            pieces[key].append(((seq - first[key]) & 0xFFFFFFFF, number, start, end))
    for segments in pieces.values():
        size = max(offset + end - start for offset, _, start, end in segments)
        stream = bytearray(size)
        for offset, number, start, end in segments:
            stream[offset : offset + end - start] = seen[number][1][start:end]
        blank(stream)
        for offset, number, start, end in segments:
            seen[number][1][start:end] = stream[offset : offset + end - start]
    written = bytearray(raw[:24])
    for header, frame in seen:
        place = layout(frame)
        if place:
            tcp, end = place[4], place[3]
            frame[tcp + 16 : tcp + 18] = b"\0\0"
            pseudo = bytes(frame[26:34]) + struct.pack(">HH", 6, end - tcp)
            frame[tcp + 16 : tcp + 18] = struct.pack(">H", checksum(pseudo + bytes(frame[tcp:end])))
        written += header + frame
    settings = zstandard.ZstdCompressionParameters.from_level(22, window_log=27, enable_ldm=True)
    (out / "corpus.pcap.zst").write_bytes(
        zstandard.ZstdCompressor(compression_params=settings).compress(bytes(written))
    )
    (out / "corpus.truth.tsv").write_text((work / "truth.tsv").read_text())
    print(f"{len(seen)} frames, {len(written)} bytes, compressed {(out / 'corpus.pcap.zst').stat().st_size}")


if __name__ == "__main__":
    main()
