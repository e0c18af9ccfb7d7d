"""Keys and digests: against hashlib, and against a dict."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.kernels import flowkey
from auditor.kernels.accelerate import kernel
from auditor.model.connections import CONN


@kernel
def hashes(rows, out, secret):
    for i in range(out.size):
        row = rows[i]
        ports = (np.uint64(row.a_port) << np.uint64(16)) | np.uint64(row.b_port)
        out[i] = flowkey.place_hash(row.a_hi, row.a_lo, row.b_hi, row.b_lo, ports, np.uint64(row.proto), secret)


@kernel
def source_is_lower(ends):
    return flowkey.lower_is_source(ends[0], ends[1], ends[2], ends[3], ends[4], ends[5])


def digests_of(texts: list[bytes]) -> list[bytes]:
    width = 64 * max((len(text) + 9 + 63) // 64 for text in texts)
    messages = np.full((len(texts), width), 0xEE, np.uint8)
    for row, text in zip(messages, texts, strict=True):
        row[: len(text)] = np.frombuffer(text, np.uint8)
    out = np.zeros((len(texts), 20), np.uint8)
    flowkey.sha1_rows(messages, np.array([len(text) for text in texts], np.int64), out)
    return [row.tobytes() for row in out]


def test_sha1_of_every_length_around_the_blocks() -> None:
    texts = [bytes((3 * k + size) % 256 for k in range(size)) for size in range(260)]
    assert digests_of(texts) == [hashlib.sha1(text, usedforsecurity=False).digest() for text in texts]


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=8))
def test_sha1_of_anything(texts: list[bytes]) -> None:
    assert digests_of(texts) == [hashlib.sha1(text, usedforsecurity=False).digest() for text in texts]


@given(st.tuples(*[st.integers(0, 3)] * 6))
def test_one_of_both_ends_is_the_lower_one(ends: tuple[int, ...]) -> None:
    there, back = np.array(ends, np.uint64), np.array([*ends[3:], *ends[:3]], np.uint64)
    # Ports follow their addresses: high, low, port of the source, then of the destination.
    assert source_is_lower(there) == (ends[:3] <= ends[3:])
    assert source_is_lower(there) != source_is_lower(back) or ends[:3] == ends[3:]


def some_rows(count: int) -> np.ndarray:
    rows = np.zeros(count, CONN)
    k = np.arange(count)
    rows["a_lo"], rows["b_lo"] = 0xFFFF_0A00_0000 + k // 64, 0xFFFF_0A00_0100 + k % 8
    rows["a_port"], rows["b_port"], rows["proto"] = 1024 + k, 8889, 6
    return rows


def test_hashes_of_neighbours_spread_over_a_table() -> None:
    """Addresses and ports of a platform differ in few bits; the places of their keys do not cluster."""
    out = np.zeros(4096, np.uint64)
    hashes(some_rows(out.size), out, np.random.default_rng(1).integers(0, 2**64, flowkey.SECRET_WORDS, np.uint64))
    assert np.unique(out).size == out.size
    places = np.bincount((out & np.uint64(1023)).astype(np.int64), minlength=1024)
    assert places.max() <= 16  # 4 expected; 16 has a chance of one in a thousand for random keys
    assert (places == 0).sum() < 60


def test_keys_that_one_secret_puts_together_another_does_not() -> None:
    """Upper halves chosen so that a sum or XOR of both ends is the same for all: they meet in no table."""
    rows = some_rows(4096)
    k = np.arange(4096, dtype=np.uint64)
    rows["a_hi"], rows["b_hi"] = np.uint64(0x0123_4567_89AB_CDEF) ^ (k << np.uint64(1)), k
    for column in ("a_lo", "b_lo", "a_port", "b_port"):
        rows[column] = 1
    out, other = np.zeros(4096, np.uint64), np.zeros(4096, np.uint64)
    rng = np.random.default_rng(2)
    for found in (out, other):
        hashes(rows, found, rng.integers(0, 2**64, flowkey.SECRET_WORDS, np.uint64))
        assert np.bincount((found & np.uint64(1023)).astype(np.int64), minlength=1024).max() <= 16
    assert not np.array_equal(out, other)
    assert flowkey.SECRET.size == flowkey.SECRET_WORDS
    assert np.unique(flowkey.SECRET).size == flowkey.SECRET_WORDS


def test_the_table_holds_the_newest_row_of_each_key() -> None:
    rows = some_rows(40)
    rows = np.concatenate([rows, rows[:10]])
    rows["superseded"][:10] = 1
    table = np.full(64, 7, np.int32)
    flowkey.rehash(rows, len(rows), table, flowkey.SECRET)
    assert sorted(table[table != flowkey.EMPTY].tolist()) == list(range(10, 50))
    # Each lies where a search from its hash on comes by before a free place.
    out = np.zeros(len(rows), np.uint64)
    hashes(rows, out, flowkey.SECRET)
    for row in range(10, 50):
        at = int(out[row]) % 64
        while table[at] != row:
            assert table[at] != flowkey.EMPTY
            at = (at + 1) % 64


def test_an_index_outside_an_array_is_an_error_in_compiled_code_too() -> None:
    with pytest.raises(IndexError):
        flowkey.rehash(some_rows(3), 4, np.zeros(16, np.int32), flowkey.SECRET)
    with pytest.raises(IndexError):
        flowkey.sha1_rows(np.zeros((1, 64), np.uint8), np.array([60], np.int64), np.zeros((1, 20), np.uint8))
    with pytest.raises(IndexError):
        flowkey.sha1_rows(np.zeros((1, 64), np.uint8), np.array([3], np.int64), np.zeros((1, 19), np.uint8))
