"""Frames written out again, as records of a pcap file (draft-ietf-opsawg-pcap, nanoseconds, little-endian)."""

from __future__ import annotations

from auditor.kernels.accelerate import inner, kernel, move_bytes

RECORD_BYTES = 16
NS = 1_000_000_000


@inner
def _word(out, at, value):
    """A 32-bit word, lowest byte first. BOUNDS: the caller proved four bytes of room."""
    for k in range(4):
        out[at + k] = (value >> (8 * k)) & 0xFF


@kernel
def write_pcap(buf, start, caplen, wirelen, ts_ns, link_type, wanted, begin, out):
    """Records of the frames from ``begin`` on whose link type is ``wanted``; returns (next frame, bytes written).

    buf: uint8; start, caplen, wirelen, ts_ns: int64[n]; link_type: int32[n]; out: uint8, room for a record at least: where
    the next one does not fit, that one is next. Never raises.
    """
    at = 0
    for i in range(begin, start.size):
        if link_type[i] != wanted:
            continue
        size = caplen[i]
        if at + RECORD_BYTES + size > out.size:
            return i, at
        _word(out, at, ts_ns[i] // NS)
        _word(out, at + 4, ts_ns[i] % NS)
        _word(out, at + 8, size)
        _word(out, at + 12, max(wirelen[i], size))
        if size > 0:
            # BOUNDS: frames lie inside buf as their reader proved; the room in out is proven above.
            move_bytes(out, at + RECORD_BYTES, buf, start[i], size)
        at += RECORD_BYTES + size
    return start.size, at
