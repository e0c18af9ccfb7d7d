"""Walking the records of a capture into columns: one pass over the headers, the frames' bytes stay where they are.

The rules that hold here:

- A walk starts at ``at``, reads what lies whole before ``end`` and says where it stopped and why. It never looks at bytes of a
  record that is not whole, so the caller may move the rest to the front of the buffer, read on and call again.
- ``words`` is the buffer once more, as overlapping little-endian 32-bit words, one at every byte (``overlapping_words``): a
  field at any offset is one load with one bounds check, twice as fast as four bytes. ``words.size`` is ``buf.size - 3``.
- All arithmetic is in signed 64 bits, and each product is proven or clamped to fit: interpreted and compiled agree.
- Time is nanoseconds since 1970, clamped (not wrapped) to 0 and the year 2255: files with nonsense for time exist, and the
  difference of two times, or a time and some years, must still fit in int64.

Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng; numbers in ``auditor.wire.pcap`` and ``auditor.wire.pcapng``.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.accelerate import kernel
from auditor.wire import pcap, pcapng

# Why a walk stopped. The first three are the course of things, the others are corrupt input at ``next_at``.
STOP_SHORT: Final = 0
"""No whole record is left before ``end``."""
STOP_FULL: Final = 1
"""The columns are full."""
STOP_BLOCK: Final = 2
"""A block that the caller handles (its 12 first bytes at least are there; it may not be whole)."""
STOP_CAPLEN: Final = 3
"""A captured length above the limit."""
STOP_LENGTH: Final = 4
"""A block length that is too small for its type, or no multiple of 4."""
STOP_TRAILER: Final = 5
"""A block whose second length differs from its first."""
STOP_INSIDE: Final = 6
"""A captured length that is larger than its block."""
STOP_INTERFACE: Final = 7
"""A packet of an interface that was not described."""

# How a pcap orders the two lengths of a record header.
LENGTHS_CAPTURED_FIRST: Final = 0
LENGTHS_WIRE_FIRST: Final = 1
LENGTHS_EITHER: Final = 2

# Columns of the interface table of a pcapng section (int64, one row an interface).
IF_LINK_TYPE: Final = 0
IF_VANTAGE: Final = 1
"""Index into the capture's vantage points."""
IF_TSRESOL: Final = 2
"""The byte of the option."""
IF_TSOFFSET_SECONDS: Final = 3
IF_SNAPLEN: Final = 4
"""0: none."""
IF_LOST: Final = 5
"""Sum of the drop counts in packets; -1: no packet has one."""
IF_COLUMNS: Final = 6

# What a pcapng walk carries from call to call (int64).
CARRY_TIME: Final = 0
"""Time of the latest frame that had one: Simple Packet Blocks have none and are given this."""
CARRY_UNTIMED: Final = 1
"""How many frames had none."""
CARRY_FRAMES: Final = 2
"""Number of the latest frame, as Wireshark counts: blocks that are no packets may have one."""
CARRY_SIZE: Final = 3

NS: Final = 1_000_000_000
MAX_NS: Final = 9_000_000_000 * NS
"""In the year 2255."""
MAX_OFFSET_SECONDS: Final = 9_000_000_000
_WORD: Final = 2**32
_NS_DIGITS: Final = 9

# As plain numbers of this module: kernels compile them in.
_RECORD_FRACTION: Final = pcap.RECORD_FRACTION
_RECORD_CAPLEN: Final = pcap.RECORD_CAPLEN
_RECORD_WIRELEN: Final = pcap.RECORD_WIRELEN
_LENGTH: Final = pcapng.BLOCK_LENGTH
_MIN: Final = pcapng.BLOCK_MIN_BYTES
_TRAILER: Final = pcapng.BLOCK_TRAILER_BYTES
_EPB: Final = pcapng.EPB
_PB: Final = pcapng.PB
_SPB: Final = pcapng.SPB
_IDB: Final = pcapng.IDB
_ISB: Final = pcapng.ISB
_DSB: Final = pcapng.DSB
_SHB: Final = pcapng.SHB
_JOURNAL: Final = pcapng.SYSTEMD_JOURNAL
_SYSDIG: Final = pcapng.SYSDIG_EVENT
_SYSDIG_V2: Final = pcapng.SYSDIG_EVENT_V2
_SYSDIG_V2_LARGE: Final = pcapng.SYSDIG_EVENT_V2_LARGE
_CB: Final = pcapng.CB
_CB_NO_COPY: Final = pcapng.CB_NO_COPY
_EPB_MIN: Final = pcapng.EPB_MIN_BYTES
_SPB_MIN: Final = pcapng.SPB_MIN_BYTES
_EPB_INTERFACE: Final = pcapng.EPB_INTERFACE
_EPB_TIME_HIGH: Final = pcapng.EPB_TIME_HIGH
_EPB_TIME_LOW: Final = pcapng.EPB_TIME_LOW
_EPB_CAPLEN: Final = pcapng.EPB_CAPLEN
_EPB_WIRELEN: Final = pcapng.EPB_WIRELEN
_EPB_DATA: Final = pcapng.EPB_DATA
_SPB_WIRELEN: Final = pcapng.SPB_WIRELEN
_SPB_DATA: Final = pcapng.SPB_DATA
_PB_DROPS: Final = pcapng.PB_DROPS
_PB_DROPS_UNKNOWN: Final = pcapng.PB_DROPS_UNKNOWN
_OPTION_HEADER: Final = pcapng.OPTION_HEADER_BYTES
_OPT_ENDOFOPT: Final = pcapng.OPT_ENDOFOPT
_EPB_DROPCOUNT: Final = pcapng.EPB_DROPCOUNT
_BASE_2: Final = pcapng.TSRESOL_BASE_2
_EXPONENT: Final = pcapng.TSRESOL_EXPONENT


# A record of one field, because numba takes any plain array to be aligned, and a packed record not to be.
_WORD_DTYPE: Final = np.dtype([("word", "<u4")])


def overlapping_words(buf: NDArray[np.uint8]) -> NDArray[np.void]:
    """A view of ``buf`` (contiguous, at least 4 bytes): element i is the little-endian word at bytes i..i+3."""
    return np.ndarray(shape=(buf.size - 3,), dtype=_WORD_DTYPE, buffer=buf.data, strides=(1,))


@kernel
def word_at(words: Any, at: Any, swapped: Any) -> Any:
    """The unsigned 32-bit field at ``at``, as int64; ``swapped``: the file is big endian."""
    value = np.int64(words[at]["word"])
    if swapped:
        value = ((value & 0xFF) << 24) | ((value & 0xFF00) << 8) | ((value >> 8) & 0xFF00) | (value >> 24)
    return value


@kernel
def half_at(words: Any, at: Any, swapped: Any) -> Any:
    """The unsigned 16-bit field at ``at``, as int64. The two bytes behind it must exist."""
    value = np.int64(words[at]["word"]) & 0xFFFF
    if swapped:
        value = ((value & 0xFF) << 8) | (value >> 8)
    return value


@kernel
def time_ns(high: Any, low: Any, tsresol: Any, offset_seconds: Any) -> Any:
    """A pcapng time stamp (two 32-bit words) in ns since 1970, rounded down; between 0 and MAX_NS.

    draft-ietf-opsawg-pcapng section 4.3, with if_tsresol and if_tsoffset of section 4.2.
    """
    exponent = tsresol & _EXPONENT
    if tsresol & _BASE_2:
        # ns = stamp * 10^9 >> exponent. The product has up to 94 bits: ``upper`` holds it from bit 32 upwards
        # (below 2^62: high * 10^9 < 2^62 and the carry < 2^30), and the lower 32 bits only matter when exponent < 32.
        lower = low * NS
        upper = high * NS + (lower >> 32)
        lower = lower & 0xFFFF_FFFF
        if exponent >= 32:
            ns = upper >> (exponent - 32) if exponent - 32 < 63 else np.int64(0)
        elif upper >> (31 + exponent) != 0:
            ns = np.int64(MAX_NS)
        else:
            ns = (upper << (32 - exponent)) | (lower >> exponent)
    elif exponent <= _NS_DIGITS:
        factor = np.int64(1)
        for _ in range(_NS_DIGITS - exponent):
            factor *= 10
        # A stamp fits in 63 bits when high < 2^31; it is compared before it is multiplied.
        stamp = high << 32 | low if high >> 31 == 0 else np.int64(MAX_NS)
        ns = stamp * factor if stamp <= MAX_NS // factor else np.int64(MAX_NS)
    else:
        # Long division by 10^k, at most 10^9 a step so that remainder * 2^32 + low fits: rounding down twice is rounding down.
        left = exponent - _NS_DIGITS
        while left > 0 and (high | low) != 0:
            step = min(left, _NS_DIGITS)
            divisor = np.int64(1)
            for _ in range(step):
                divisor *= 10
            rest = ((high % divisor) << 32) | low
            high = high // divisor
            low = rest // divisor  # below 2^32, as the rest is below divisor * 2^32
            left -= step
        ns = np.int64(MAX_NS) if high >> 31 != 0 else high << 32 | low
    ns = min(ns, np.int64(MAX_NS))
    if offset_seconds != 0:
        shift = min(max(offset_seconds, -MAX_OFFSET_SECONDS), MAX_OFFSET_SECONDS) * NS
        ns = np.int64(MAX_NS) if shift > 0 and ns > MAX_NS - shift else max(ns + shift, np.int64(0))
    return ns


@kernel
def walk_pcap(
    words: Any,
    at: Any,
    end: Any,
    swapped: Any,
    nanos: Any,
    header_bytes: Any,
    lengths: Any,
    max_frame_bytes: Any,
    start: Any,
    caplen: Any,
    wirelen: Any,
    ts_ns: Any,
) -> tuple[Any, Any, Any]:
    """Records of a pcap between ``at`` and ``end`` into the columns (int64); section 5 of the draft.

    ``header_bytes`` is 16, or 24 for the modified format; ``lengths`` a LENGTHS_ number. Returns how many frames, the offset
    of the first record not taken, and STOP_SHORT, STOP_FULL or STOP_CAPLEN. BOUNDS: end <= words.size + 3.
    """
    room = start.size
    fraction_ns = np.int64(1) if nanos else np.int64(1000)
    count = 0
    while True:
        if end - at < header_bytes:
            return count, at, STOP_SHORT
        # BOUNDS: end - at >= header_bytes, so the words at at..at+12 lie before end.
        taken = word_at(words, at + _RECORD_CAPLEN, swapped)
        whole = word_at(words, at + _RECORD_WIRELEN, swapped)
        if lengths == LENGTHS_WIRE_FIRST or (lengths == LENGTHS_EITHER and taken > whole):
            taken, whole = whole, taken
        if taken > max_frame_bytes:
            return count, at, STOP_CAPLEN
        behind = at + header_bytes + taken
        if behind > end:
            return count, at, STOP_SHORT
        if count == room:
            return count, at, STOP_FULL
        start[count] = at + header_bytes
        caplen[count] = taken
        wirelen[count] = max(taken, whole)
        ts_ns[count] = word_at(words, at, swapped) * NS + word_at(words, at + _RECORD_FRACTION, swapped) * fraction_ns
        count += 1
        at = behind


@kernel
def _lost_before(words: Any, at: Any, end: Any, swapped: Any) -> Any:
    """epb_dropcount among the options at ``at``..``end``, section 4.3.1; -1: it is not there. Broken options end the search."""
    # BOUNDS: a trailer of 4 bytes lies behind end, so each word that starts before end exists.
    while at + _OPTION_HEADER <= end:
        code = half_at(words, at, swapped)
        size = half_at(words, at + 2, swapped)
        at += _OPTION_HEADER
        if code == _OPT_ENDOFOPT or at + size > end:
            return np.int64(-1)
        if code == _EPB_DROPCOUNT and size == 8:
            first, second = word_at(words, at, swapped), word_at(words, at + 4, swapped)
            high, low = (first, second) if swapped else (second, first)
            return np.int64(MAX_NS) if high >> 31 != 0 else high << 32 | low
        at += (size + 3) & ~3
    return np.int64(-1)


@kernel
def walk_pcapng(
    words: Any,
    at: Any,
    end: Any,
    swapped: Any,
    max_frame_bytes: Any,
    interfaces: Any,
    known: Any,
    carry: Any,
    start: Any,
    caplen: Any,
    wirelen: Any,
    ts_ns: Any,
    interface: Any,
    link_type: Any,
    number: Any,
) -> tuple[Any, Any, Any]:
    """Blocks of one pcapng section between ``at`` and ``end`` into the columns.

    Packet blocks become frames; section, interface, statistics and secrets blocks go back to the caller (STOP_BLOCK), as
    does a block of another type that is not whole; other whole blocks are passed over. ``interfaces`` is the table of the
    section (int64, IF_ columns) with ``known`` rows in use; its IF_LOST is added to. ``carry`` has the CARRY_ fields; ``number`` takes frame numbers.
    Returns how many frames, the offset of the first block not taken, and a STOP_ number. BOUNDS: end <= words.size + 3.
    """
    room = start.size
    count = 0
    while True:
        if end - at < _MIN:
            return count, at, STOP_SHORT
        # BOUNDS: end - at >= 12: type, length and one word more exist.
        kind = word_at(words, at, swapped)
        if kind == _SHB:
            return count, at, STOP_BLOCK  # its length has the byte order of the section it opens
        size = word_at(words, at + _LENGTH, swapped)
        if size < _MIN or size & 3 != 0:
            return count, at, STOP_LENGTH
        if kind in (_IDB, _ISB, _DSB):
            return count, at, STOP_BLOCK
        if kind not in (_EPB, _SPB, _PB):
            if size > end - at:
                return count, at, STOP_BLOCK
            if word_at(words, at + size - _TRAILER, swapped) != size:
                return count, at, STOP_TRAILER
            at += size
            if kind in (_CB, _CB_NO_COPY, _JOURNAL, _SYSDIG, _SYSDIG_V2, _SYSDIG_V2_LARGE):
                carry[CARRY_FRAMES] += 1
            continue

        if size < (_SPB_MIN if kind == _SPB else _EPB_MIN):
            return count, at, STOP_LENGTH
        header = _SPB_DATA if kind == _SPB else _EPB_DATA
        if end - at < header:
            return count, at, STOP_SHORT
        # BOUNDS: the fields of the block up to its data lie before end.
        which = np.int64(0)
        if kind == _EPB:
            which = word_at(words, at + _EPB_INTERFACE, swapped)
        elif kind == _PB:
            which = half_at(words, at + _EPB_INTERFACE, swapped)
        if which >= known:
            return count, at, STOP_INTERFACE
        inside = size - header - _TRAILER
        if kind == _SPB:
            # The captured length is not written: it is the least of what the wire, the snaplen and the block allow.
            whole = word_at(words, at + _SPB_WIRELEN, swapped)
            taken = min(whole, inside)
            limit = interfaces[which, IF_SNAPLEN]
            if limit > 0:
                taken = min(taken, limit)
        else:
            taken = word_at(words, at + _EPB_CAPLEN, swapped)
            whole = word_at(words, at + _EPB_WIRELEN, swapped)
            if taken > inside:
                return count, at, STOP_INSIDE
        if taken > max_frame_bytes:
            return count, at, STOP_CAPLEN
        if size > end - at:
            return count, at, STOP_SHORT
        if word_at(words, at + size - _TRAILER, swapped) != size:
            return count, at, STOP_TRAILER
        if count == room:
            return count, at, STOP_FULL

        if kind == _SPB:
            carry[CARRY_UNTIMED] += 1
        else:
            carry[CARRY_TIME] = time_ns(
                word_at(words, at + _EPB_TIME_HIGH, swapped),
                word_at(words, at + _EPB_TIME_LOW, swapped),
                interfaces[which, IF_TSRESOL],
                interfaces[which, IF_TSOFFSET_SECONDS],
            )
            lost = np.int64(-1)
            if kind == _PB:
                drops = half_at(words, at + _PB_DROPS, swapped)
                if drops != _PB_DROPS_UNKNOWN:
                    lost = drops
            options = at + header + ((taken + 3) & ~3)
            if kind == _EPB and options + _OPTION_HEADER <= at + size - _TRAILER:
                lost = _lost_before(words, options, at + size - _TRAILER, swapped)
            if lost >= 0:
                before = max(interfaces[which, IF_LOST], 0)
                interfaces[which, IF_LOST] = MAX_NS if lost > MAX_NS - before else before + lost
        start[count] = at + header
        caplen[count] = taken
        wirelen[count] = max(taken, whole)
        ts_ns[count] = carry[CARRY_TIME]
        interface[count] = interfaces[which, IF_VANTAGE]
        link_type[count] = interfaces[which, IF_LINK_TYPE]
        carry[CARRY_FRAMES] += 1
        number[count] = carry[CARRY_FRAMES]
        count += 1
        at += size
