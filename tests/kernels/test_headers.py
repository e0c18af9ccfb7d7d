"""The compiled decoder and its interpreted self against a plain one, over every kind of frame, whole, cut, and bent out of shape."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import auditor.decode
from auditor.decode import Decoder, guess_link_type
from auditor.kernels import bytes as bytes_kernels
from auditor.kernels import defrag, headers, links
from auditor.model.packets import PACKET, STOP_DEPTH
from tests import naive_headers as naive
from tests.frames import Frame, batch_of, every_kind


def rows_of(frames: Sequence[Frame], wire: Sequence[int] = (), **options: Any) -> list[naive.Row]:
    """What the decoder says, as the plain one would say it."""
    decoder = Decoder(**options)
    batch = batch_of(frames, wire=wire)
    out = []
    for rows in decoder.decode(batch):
        assert rows.dtype == PACKET
        for row in rows:
            said = {name: int(row[name]) for name in PACKET.names or ()}
            out.append(
                naive.Row(
                    src=said.pop("src_hi") << 64 | said.pop("src_lo"),
                    dst=said.pop("dst_hi") << 64 | said.pop("dst_lo"),
                    payload=batch.buf[said["payload_at"] :][: said.pop("payload_bytes")].tobytes(),
                    **{name: said[name] for name in said if name not in {"payload_at", "interface"}},
                )
            )
            assert row["interface"] == (row["frame"] - 1) % 3
            assert row["payload_at"] + row["payload_bytes"] <= batch.buf.size
    return out


def expected(frames: Sequence[Frame], wire: Sequence[int] = (), max_depth: int = 5) -> list[naive.Row]:
    settler = naive.Settler()
    out: list[naive.Row] = []
    for number, ((kind, data), size) in enumerate(zip(frames, wire or [0] * len(frames), strict=True), 1):
        first = len(out)
        rows = naive.decode(data, size, kind, max_depth)
        for row in rows:
            row.frame = number
        for row in settler.settle(rows):
            out.append(row)
            if row.outer >= 0:
                row.outer += first
    return out


@pytest.fixture
def interpreted() -> Iterator[None]:
    """Every kernel replaced by the Python that it was compiled from."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (bytes_kernels, headers, links, defrag, auditor.decode):
            for name, value in list(vars(module).items()):
                if hasattr(value, "py_func"):
                    patch.setattr(module, name, value.py_func)
        with np.errstate(all="raise"):
            yield


def test_every_kind_of_frame_is_decoded_like_the_plain_decoder() -> None:
    frames = every_kind()
    assert rows_of(frames) == expected(frames)
    assert [row.frame for row in rows_of(frames)] == [row.frame for row in expected(frames)]


def test_every_kind_of_frame_holds_what_it_was_made_of() -> None:
    """Nearly all were made around 10.0.16.5 or fd00::5; the plain decoder might share a mistake."""
    said = rows_of([frame for frame in every_kind() if frame[0] != 249])
    by_frame: dict[int, list[naive.Row]] = {}
    for row in said:
        by_frame.setdefault(row.frame, []).append(row)
    without_ip = [number for number, rows in by_frame.items() if rows[0].ip_version == 0]
    assert len(without_ip) == 4  # ARP, STP, LCP, a beacon
    assert {row.tunnel for row in said} == set(range(9))
    inner = [row for row in said if row.depth == 1 and (row.src_port, row.dst_port) == (50000, 8080)]
    assert len(inner) == 20
    assert {row.payload for row in inner} == {b"GET / HTTP/1.1\r\n\r\n"}
    assert {row.tunnel_id for row in inner} == {0, 0x1234, 0x777, 9, 5}
    assert max(row.depth for row in said) == 5
    assert [row.stop for row in said if row.depth == 5] == [STOP_DEPTH]


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_tunnels_are_opened_as_deep_as_is_set(depth: int) -> None:
    frames = every_kind()
    assert rows_of(frames, max_depth=depth) == expected(frames, max_depth=depth)


def test_few_free_rows_give_the_same_rows_in_more_arrays() -> None:
    frames = every_kind()
    decoder = Decoder(max_rows=3)
    arrays = [rows.copy() for rows in decoder.decode(batch_of(frames))]
    assert len(arrays) > 20
    assert [int(frame) for rows in arrays for frame in rows["frame"]] == [row.frame for row in rows_of(frames)]
    for rows in arrays:
        inner = rows[rows["outer"] >= 0]
        assert (rows["frame"][inner["outer"]] == inner["frame"]).all()
        assert (rows["depth"][inner["outer"]] + 1 == inner["depth"]).all()


def test_frames_cut_off_anywhere() -> None:
    """Once as a snap length cuts, once as if it had been sent so short."""
    for kind, data in every_kind():
        cuts = [(kind, data[:size]) for size in range(min(len(data), 160))]
        cuts = [cut for cut in cuts if all(row.fragment == 0 for row in naive.decode(cut[1], len(data), kind))]
        for sizes in ([len(data)] * len(cuts), [0] * len(cuts)):
            assert rows_of(cuts, sizes) == expected(cuts, sizes)


def bent(rng: random.Random, data: bytes) -> bytes:
    """A few bytes of the headers changed, some cut out or doubled."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(min(len(out), 110), 1))
        change = rng.randrange(5)
        if change == 0:
            out[at : at + 1] = bytes([rng.randrange(256)])
        elif change == 1:
            out[at : at + 1] = bytes([rng.choice([0, 1, 4, 6, 8, 17, 41, 43, 44, 47, 51, 60, 0x45, 0x60, 0x81, 0xFF])])
        elif change == 2:
            out[at : at + 2] = rng.choice([b"\x08\x00", b"\x86\xdd", b"\x81\x00", b"\x88\x47", b"\x12\xb5", b"\0\0"])
        elif change == 3:
            del out[at : at + rng.randint(1, 8)]
        else:
            out[at:at] = out[at : at + rng.randint(1, 8)]
    return bytes(out)


def bent_frames(seed: int, count: int) -> tuple[list[Frame], list[int]]:
    rng = random.Random(seed)
    kinds = every_kind()
    frames, wire = [], []
    for _ in range(count):
        kind, data = rng.choice(kinds)
        if rng.random() < 0.1:
            kind = rng.choice(kinds)[0]
        data = bent(rng, data)
        frames.append((kind, data))
        wire.append(len(data) + rng.choice([0, 0, 0, 1, 500]))
    return frames, wire


def without_fragments(frames: list[Frame], wire: list[int]) -> tuple[list[Frame], list[int]]:
    """Bent fragments fill the bounded tables by chance; those have their own tests."""
    kept = [
        at
        for at, (kind, data) in enumerate(frames)
        if all(row.piece is None for row in naive.decode(data, wire[at], kind))
    ]
    return [frames[at] for at in kept], [wire[at] for at in kept]


@pytest.mark.parametrize("seed", range(8))
def test_bent_frames_are_decoded_like_the_plain_decoder(seed: int) -> None:
    frames, wire = bent_frames(seed, 2_500)
    kept, sizes = without_fragments(frames, wire)
    assert len(kept) > 2_000
    assert rows_of(kept, sizes) == expected(kept, sizes)
    assert len(rows_of(frames, wire)) >= len(kept)  # fragments and all: nothing raises


def test_interpreted_kernels_say_the_same(interpreted: None) -> None:
    frames = list(every_kind())
    assert rows_of(frames) == expected(frames)
    kept, sizes = without_fragments(*bent_frames(99, 700))
    assert rows_of(kept, sizes) == expected(kept, sizes)
    assert guess_link_type(batch_of([(1, data) for kind, data in every_kind() if kind == 113][:1])) == 113


@given(st.lists(st.tuples(st.sampled_from(sorted(naive.LINKS)), st.binary(max_size=90)), min_size=1, max_size=30))
def test_any_bytes_are_decoded_like_the_plain_decoder(frames: list[Frame]) -> None:
    assert rows_of(*without_fragments(frames, [0] * len(frames))) == expected(
        *without_fragments(frames, [0] * len(frames))
    )


@given(st.integers(0, 1_000), st.integers(0, 120), st.binary(min_size=1, max_size=6), st.integers(0, 200))
def test_overwritten_headers_are_decoded_like_the_plain_decoder(which: int, at: int, over: bytes, more: int) -> None:
    kind, data = every_kind()[which % len(every_kind())]
    frame = (kind, data[:at] + over + data[at + len(over) :])
    assert rows_of([frame], [len(frame[1]) + more]) == expected([frame], [len(frame[1]) + more])


def test_kernels_are_compiled_for_one_set_of_types() -> None:
    rows_of(every_kind())
    functions: list[Any] = [headers.decode_frames, links.peel_links, defrag.settle]
    assert [len(function.signatures) for function in functions] == [1, 1, 1]
