"""Keys of connections: which end is side 0, where a key lies in the hash table, and the ids that leave this program.

A connection is kept with its lower end (address, then port) as side 0, whoever sent first: both directions then have one key, and
two parts of a capture agree on it without knowing who opened it.

Whoever writes packets chooses keys, and would choose those that lie in one place of a table. So a table's hash has a secret, new in every process: no two keys
are alike to it but by chance. Prints of packets (``duplicates``) are compared across processes, and use the hash without one.
"""

from __future__ import annotations

import os

import numpy as np

from auditor.kernels.accelerate import SHA1_LANES, inner, kernel, move_bytes, scratch, sha1_block

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


SECRET_WORDS = 12
SECRET = np.frombuffer(os.urandom(8 * SECRET_WORDS), np.uint64).copy()
"""This process's, for ``place_hash``: it changes where keys lie, and nothing that leaves a table."""


@inner
def place_hash(a_hi, a_lo, b_hi, b_lo, ports, context, secret):
    """Where a key begins to be looked for in a table, in the lower bits. secret: uint64[SECRET_WORDS].

    A sum of 32-bit words with secret factors, of which the upper half is strongly universal (Lemire and Kaser, "Strongly universal string hashing is fast", 2014);
    then spread, so that keys in a row do not lie in a row.
    """
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    # BOUNDS: secret has SECRET_WORDS words.
    h = secret[0] + secret[1] * (a_lo & low) + secret[2] * (a_lo >> half)
    h = h + secret[3] * (a_hi & low) + secret[4] * (a_hi >> half)
    h = h + secret[5] * (b_lo & low) + secret[6] * (b_lo >> half)
    h = h + secret[7] * (b_hi & low) + secret[8] * (b_hi >> half)
    h = h + secret[9] * ports + secret[10] * (context & low) + secret[11] * (context >> half)
    h = (h ^ (h >> half)) * np.uint64(0xC2B2AE3D27D4EB4F)
    return h ^ (h >> np.uint64(29))


@inner
def key_hash(a_hi, a_lo, b_hi, b_lo, ports, context):
    """64 bits of a key, the same in every process; multiply and shift as in the finalizer of MurmurHash3, which spreads every bit.

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
def rehash(rows, n_rows, table, secret):
    """Put the newest row of every key into an empty table (its size is a power of two)."""
    for i in range(table.size):
        table[i] = EMPTY
    for i in range(n_rows):
        if rows[i].superseded == 0:
            _insert(rows[i], i, table, secret)


@kernel
def index_all(rows, n_rows, table, secret):
    """Put all rows into an empty table: those of a key stand one behind the other, perhaps with others between, before a free place."""
    for i in range(table.size):
        table[i] = EMPTY
    for i in range(n_rows):
        _insert(rows[i], i, table, secret)


@inner
def first_place(row, table, secret):
    """Where a search for the key of a row begins."""
    ports = (np.uint64(row.a_port) << np.uint64(16)) | np.uint64(row.b_port)
    context = (
        np.uint64(row.proto) | (np.uint64(row.tunnel) << np.uint64(8)) | (np.uint64(row.tunnel_id) << np.uint64(16))
    )
    place = place_hash(row.a_hi, row.a_lo, row.b_hi, row.b_lo, ports, context, secret)
    return np.int64(place & np.uint64(table.size - 1))


@inner
def _insert(row, i, table, secret):
    at = first_place(row, table, secret)
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


_START = np.repeat(np.array([0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0], np.uint32), SHA1_LANES)
_SHA1_START = _START.view(np.int64)
"""FIPS 180-4 section 5.3.1, in every lane."""
_WORDS = _SHA1_START.size
_ZEROS = np.zeros(72, np.uint8)


@kernel
def sha1_rows(messages, lengths, digests):
    """SHA-1 (FIPS 180-4 section 6.1) of ``messages[i, :lengths[i]]`` into ``digests[i]`` (20 bytes).

    For identifiers, where Community ID asks for it; nothing here rests on its strength. A message and its padding
    fit the row: ``lengths[i] + 9 <= messages.shape[1]``, a multiple of 64; bytes behind the message are overwritten.
    """
    rows = scratch(SHA1_LANES)
    blocks = scratch(SHA1_LANES)
    state = scratch(_WORDS)
    for first in range(0, lengths.size, SHA1_LANES):
        used = min(SHA1_LANES, lengths.size - first)
        most = 0
        for lane in range(used):
            i = first + lane
            n = lengths[i]
            rows[lane] = i
            blocks[lane] = (n + 9 + 63) // 64
            end = blocks[lane] * 64
            messages[i, n] = 0x80
            messages[i, end - 1] = 0
            # BOUNDS: n and end - 1 are inside the row, as was checked just now; at most 64 + 8 bytes follow the message.
            move_bytes(messages[i], n + 1, _ZEROS, 0, end - n - 1)
            for k in range(5):  # a row is shorter than 128 GiB
                messages[i, end - 1 - k] = (n >> (8 * k - 3) if k else n << 3) & 0xFF
            most = max(most, blocks[lane])
        for lane in range(used, SHA1_LANES):
            rows[lane] = first
        for k in range(_WORDS):
            state[k] = _SHA1_START[k]
        for block in range(most):
            # BOUNDS: all rows are rows of messages, and a byte at most * 64 - 1 of one of them was written above. A shorter one goes on with whatever is there.
            sha1_block(messages, rows, block * 64, state)
            for lane in range(used):
                if block == blocks[lane] - 1:
                    digest = digests[first + lane]
                    for k in range(5):
                        word = state[(k * SHA1_LANES + lane) // 2] >> (lane % 2 * 32)
                        for byte in range(4):
                            digest[4 * k + byte] = (word >> (24 - 8 * byte)) & 0xFF
