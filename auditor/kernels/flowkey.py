"""Keys of connections: which end is side 0, where a key lies in the hash table, and the ids that leave this program.

A connection is kept with its lower end (address, then port) as side 0, whoever sent first: both directions then have one key, and
two parts of a capture agree on it without knowing who opened it.
"""

from __future__ import annotations

import numpy as np

from auditor.kernels.accelerate import inner, kernel, scratch

EMPTY = -1
"""A free place of the hash table."""


@inner
def lower_is_source(src_hi, src_lo, src_port, dst_hi, dst_lo, dst_port):
    """Whether the sender of a packet is side 0."""
    if src_hi != dst_hi:
        return src_hi < dst_hi
    if src_lo != dst_lo:
        return src_lo < dst_lo
    return src_port <= dst_port


@inner
def key_hash(a_hi, a_lo, b_hi, b_lo, ports, context):
    """64 bits of a key; multiply and shift as in the finalizer of MurmurHash3, which spreads every bit.

    ``ports`` is both ports in 32 bits, ``context`` protocol, tunnel kind and tunnel id. All are uint64.
    """
    first = np.uint64(0x9E3779B97F4A7C15)
    second = np.uint64(0xC2B2AE3D27D4EB4F)
    h = a_lo * first
    h = (h ^ (h >> np.uint64(29))) + b_lo
    h = h * second
    h = (h ^ (h >> np.uint64(32))) + (a_hi ^ (b_hi << np.uint64(1)))
    h = h * first
    h = (h ^ (h >> np.uint64(29))) + ports + (context << np.uint64(32))
    h = h * second
    return h ^ (h >> np.uint64(32))


@kernel
def rehash(rows, n_rows, table):
    """Put the newest row of every key into an empty table (its size is a power of two)."""
    for i in range(table.size):
        table[i] = EMPTY
    for i in range(n_rows):
        if rows[i].superseded == 0:
            _insert(rows[i], i, table)


@kernel
def index_all(rows, n_rows, table):
    """Put all rows into an empty table: those of a key stand one behind the other, perhaps with others between, before a free place."""
    for i in range(table.size):
        table[i] = EMPTY
    for i in range(n_rows):
        _insert(rows[i], i, table)


@inner
def first_place(row, table):
    """Where a search for the key of a row begins."""
    ports = (np.uint64(row.a_port) << np.uint64(16)) | np.uint64(row.b_port)
    context = (
        np.uint64(row.proto) | (np.uint64(row.tunnel) << np.uint64(8)) | (np.uint64(row.tunnel_id) << np.uint64(16))
    )
    return np.int64(key_hash(row.a_hi, row.a_lo, row.b_hi, row.b_lo, ports, context) & np.uint64(table.size - 1))


@inner
def _insert(row, i, table):
    at = first_place(row, table)
    while table[at] != EMPTY:
        at = (at + 1) & (table.size - 1)
    table[at] = i


@inner
def same_key(a, b):
    """Whether two rows have the same ends, protocol and tunnel."""
    return (
        a.a_lo == b.a_lo
        and a.b_lo == b.b_lo
        and a.a_port == b.a_port
        and a.b_port == b.b_port
        and a.proto == b.proto
        and a.a_hi == b.a_hi
        and a.b_hi == b.b_hi
        and a.tunnel == b.tunnel
        and a.tunnel_id == b.tunnel_id
    )


@inner
def _rotated(x, n):
    return ((x << n) | (x >> (32 - n))) & 0xFFFFFFFF


@kernel
def sha1_rows(messages, lengths, digests):
    """SHA-1 (FIPS 180-4 section 6.1) of ``messages[i, :lengths[i]]`` into ``digests[i]`` (20 bytes).

    For identifiers, where Community ID asks for it; nothing here rests on its strength. A message and its padding
    fit the row: ``lengths[i] + 9 <= messages.shape[1]``, a multiple of 64; bytes behind the message are overwritten.
    """
    w = scratch(80)
    for i in range(lengths.size):
        n = lengths[i]
        blocks = (n + 9 + 63) // 64
        for k in range(n, blocks * 64):
            messages[i, k] = 0
        messages[i, n] = 0x80
        bits = n * 8
        for k in range(8):
            messages[i, blocks * 64 - 1 - k] = (bits >> (8 * k)) & 0xFF
        h0, h1, h2, h3, h4 = 0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0
        for block in range(blocks):
            for t in range(16):
                at = block * 64 + t * 4
                w[t] = (
                    (np.int64(messages[i, at]) << 24)
                    | (np.int64(messages[i, at + 1]) << 16)
                    | (np.int64(messages[i, at + 2]) << 8)
                    | np.int64(messages[i, at + 3])
                )
            for t in range(16, 80):
                w[t] = _rotated(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1)
            a, b, c, d, e = h0, h1, h2, h3, h4
            for t in range(80):
                if t < 20:
                    f, k = (b & c) | ((b ^ 0xFFFFFFFF) & d), 0x5A827999
                elif t < 40:
                    f, k = b ^ c ^ d, 0x6ED9EBA1
                elif t < 60:
                    f, k = (b & c) | (b & d) | (c & d), 0x8F1BBCDC
                else:
                    f, k = b ^ c ^ d, 0xCA62C1D6
                step = (_rotated(a, 5) + f + e + k + w[t]) & 0xFFFFFFFF
                e, d, c, b, a = d, c, _rotated(b, 30), a, step
            h0, h1, h2 = (h0 + a) & 0xFFFFFFFF, (h1 + b) & 0xFFFFFFFF, (h2 + c) & 0xFFFFFFFF
            h3, h4 = (h3 + d) & 0xFFFFFFFF, (h4 + e) & 0xFFFFFFFF
        for k in range(4):
            shift = 24 - 8 * k
            digests[i, k] = (h0 >> shift) & 0xFF
            digests[i, 4 + k] = (h1 >> shift) & 0xFF
            digests[i, 8 + k] = (h2 >> shift) & 0xFF
            digests[i, 12 + k] = (h3 >> shift) & 0xFF
            digests[i, 16 + k] = (h4 >> shift) & 0xFF
