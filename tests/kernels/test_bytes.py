"""Numbers out of bytes, compiled: what Python says, and nothing from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.kernels import bytes as numbers
from auditor.kernels.accelerate import kernel


@kernel
def all_of(buf, at, out):
    out[0] = numbers.u8(buf, at)
    out[1] = numbers.be16(buf, at)
    out[2] = numbers.le16(buf, at)
    out[3] = numbers.be32(buf, at)
    out[4] = numbers.le32(buf, at)


@kernel
def u8(buf, at):
    return numbers.u8(buf, at)


@kernel
def be16(buf, at):
    return numbers.be16(buf, at)


@kernel
def be32(buf, at):
    return numbers.be32(buf, at)


@kernel
def be64(buf, at):
    return numbers.be64(buf, at)


@given(st.binary(min_size=4, max_size=12), st.data())
def test_numbers_are_what_python_says(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 4))
    out = np.zeros(5, np.int64)
    all_of(np.frombuffer(data, np.uint8), at, out)
    assert out.tolist() == [
        data[at],
        int.from_bytes(data[at : at + 2], "big"),
        int.from_bytes(data[at : at + 2], "little"),
        int.from_bytes(data[at : at + 4], "big"),
        int.from_bytes(data[at : at + 4], "little"),
    ]


@given(st.binary(min_size=8, max_size=8))
def test_eight_bytes_have_no_sign(data: bytes) -> None:
    assert be64(np.frombuffer(data, np.uint8), 0) == int.from_bytes(data, "big")


@pytest.mark.parametrize(
    ("compiled", "plain", "size"),
    [(u8, numbers.u8, 1), (be16, numbers.be16, 2), (be32, numbers.be32, 4), (be64, numbers.be64, 8)],
)
@pytest.mark.parametrize("room", [0, 1, 2, 4, 7, 8, 9])
def test_what_does_not_lie_inside_is_refused(
    compiled: Callable[..., Any], plain: Callable[..., Any], size: int, room: int
) -> None:
    buf = np.arange(1, room + 1, dtype=np.uint8)
    for at in (-(2**63), -9, -1, *range(room + 2), 2**63 - 1):
        for call in (compiled, plain):
            if 0 <= at <= room - size:
                assert call(buf, at) == int.from_bytes(buf[at : at + size].tobytes(), "big")
            else:
                with pytest.raises(IndexError):
                    call(buf, at)
