"""Compressed bytes: every compression, in pieces, concatenated, cut, broken, nested, and expanding without end."""

from __future__ import annotations

import gzip
import io
import lzma
import random
from collections.abc import Callable

import lz4.frame
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from auditor.capture.sources import RawSource, SourceError, compression_of, unwrapped
from auditor.model.limits import MIB, Limits
from tests.capture.make import Trickle

NOISE = random.Random(1).randbytes(200_000) + bytes(150_000) + b"hello" * 2_000
SKIPPABLE = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def zstd_streamed(data: bytes) -> bytes:
    stream = zstandard.ZstdCompressor(write_checksum=False).compressobj()
    return stream.compress(data) + stream.flush()


def lz4_checked(data: bytes) -> bytes:
    return lz4.frame.compress(data, content_checksum=True, block_linked=True)


COMPRESSIONS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "xz": ("xz", lzma.compress),
    "lz4": ("lz4", lz4.frame.compress),
    "lz4 checked": ("lz4", lz4_checked),
    "zstd": ("zstd", zstd),
    "zstd streamed": ("zstd", zstd_streamed),
}
every = pytest.mark.parametrize(("name", "compress"), COMPRESSIONS.values(), ids=COMPRESSIONS)


def drain(
    data: bytes, most: int | None = None, limits: Limits | None = None
) -> tuple[bytes, list[str], SourceError | None]:
    """All that comes out, the compressions found, and the error at the end."""
    raw = RawSource(Trickle(data, most) if most else io.BytesIO(data))  # type: ignore[arg-type]
    source, names = unwrapped(raw, limits or Limits())
    out = bytearray()
    room = bytearray(100_000)
    try:
        while count := source.readinto(memoryview(room)):
            out += room[:count]
    except SourceError as error:
        return bytes(out), names, error
    assert source.readinto(memoryview(room)) == 0, "the end stays the end"
    return bytes(out), names, None


@every
@pytest.mark.parametrize("most", [None, 700])
def test_what_went_in_comes_out(name: str, compress: Callable[[bytes], bytes], most: int | None) -> None:
    packed = compress(NOISE)
    assert compression_of(packed) == name
    assert drain(packed, most) == (NOISE, [name], None)
    assert drain(packed * 2 + compress(b"") + packed, most) == (NOISE * 3, [name], None), "concatenated"
    assert drain(compress(packed), most) == (NOISE, [name, name], None), "nested"
    assert drain(compress(b"")) == (b"", [name], None)


@every
def test_a_cut_is_no_end(name: str, compress: Callable[[bytes], bytes]) -> None:
    packed = compress(NOISE)
    for keep in (9, 20, 1_000, len(packed) // 2, len(packed) - 5, len(packed) - 1):
        for before in (0, 1):
            out, _, error = drain(packed * before + packed[:keep])
            assert (NOISE * (before + 1)).startswith(out)
            assert len(out) >= len(NOISE) * before
            assert error is not None
            assert (error.kind, name in error.says) == ("truncated", True)


@every
def test_what_follows_is_told_after_all_good_bytes(name: str, compress: Callable[[bytes], bytes]) -> None:
    out, _, error = drain(compress(NOISE) + b"something else")
    assert out == NOISE
    assert error is not None
    assert error.kind == "corrupt"


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, lz4.frame.compress])
def test_padding_between_and_behind_members_is_none(compress: Callable[[bytes], bytes]) -> None:
    assert drain(compress(NOISE) + bytes(512) + compress(NOISE) + bytes(7))[::2] == (NOISE * 2, None)


def test_skippable_frames_are_skipped() -> None:
    data = SKIPPABLE + zstd(NOISE) + SKIPPABLE + zstd(b"") * 3_000 + zstd_streamed(b"end") + SKIPPABLE
    assert drain(data) == (NOISE + b"end", ["zstd"], None)
    assert drain(data[:-1])[2] is not None
    assert drain(lz4.frame.compress(NOISE) + SKIPPABLE + lz4.frame.compress(b"end"))[::2] == (NOISE + b"end", None)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zstd, lz4_checked])
def test_a_flipped_bit_is_found_out(compress: Callable[[bytes], bytes]) -> None:
    packed = bytearray(compress(NOISE))
    packed[len(packed) // 2] ^= 0x40
    out, _, error = drain(bytes(packed))
    assert error is not None
    assert error.kind == "corrupt"
    assert len(out) <= len(NOISE)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress, zstd])
def test_a_bomb_is_stopped_by_its_ratio(compress: Callable[[bytes], bytes]) -> None:
    limits = Limits(expansion_free_bytes=MIB)
    packed = compress(bytes(20 * MIB))
    out, _, error = drain(packed, limits=limits)
    assert len(out) <= MIB + 250 * len(packed)
    assert error is not None
    assert (error.kind, "250 times" in error.says) == ("limit", True)
    nested, _, error = drain(compress(compress(bytes(20 * MIB))), limits=limits)
    assert len(nested) <= MIB + 250 * len(packed)
    assert error is not None


def test_a_bomb_is_stopped_by_its_size() -> None:
    out, _, error = drain(gzip.compress(NOISE), limits=Limits(expanded_bytes=100_000))
    assert len(out) <= 100_000
    assert error is not None
    assert (error.kind, "100000 bytes" in error.says) == ("limit", True)


def test_a_window_beyond_the_limit_is_refused() -> None:
    wide = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=28)).compressobj()
    packed = wide.compress(NOISE) + wide.flush()
    assert getattr(drain(packed)[2], "kind", None) == "limit"
    packed = lzma.compress(NOISE, preset=9)
    assert getattr(drain(packed, limits=Limits(window_bytes=MIB))[2], "kind", None) == "limit"


def test_no_more_than_the_allowed_compressions_are_taken_off() -> None:
    out, names, error = drain(gzip.compress(zstd(lzma.compress(NOISE))))
    assert names == ["gzip", "zstd"]
    assert error is None
    assert compression_of(out) == "xz"


def test_a_failing_file_is_unreadable() -> None:
    class Broken(io.RawIOBase):
        def readinto(self, _: object) -> int:
            raise OSError(5, "Input/output error")

    source, _ = unwrapped(RawSource(Broken()), Limits())  # type: ignore[arg-type]
    with pytest.raises(SourceError, match="Input/output error") as caught:
        source.readinto(memoryview(bytearray(9)))
    assert caught.value.kind == "unreadable"


@given(
    st.sampled_from([gzip.compress, lzma.compress, zstd, zstd_streamed, lz4_checked]),
    st.binary(max_size=300),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(1, 50),
)
def test_broken_bytes_are_nothing_but_a_source_error(
    compress: Callable[[bytes], bytes], data: bytes, flips: list[tuple[int, int]], most: int
) -> None:
    packed = bytearray(compress(data) * 2)
    for at, value in flips:
        if at < len(packed):
            packed[at] = value
    out, names, error = drain(bytes(packed), most)
    assert len(names) <= 2
    assert error is None or error.kind in ("truncated", "corrupt", "limit")
    assert len(out) <= Limits().expanded_bytes
