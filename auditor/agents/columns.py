"""Numbers in little room: a column as its least value and as many bytes a value as it needs, byte by byte, so that a compressor finds what repeats.

Reading checks everything: whatever is read, the result is an array of the length that was asked for, or WireError.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from auditor.errors import WireError

Numbers = NDArray[np.int64]


class Column(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """``least + step * k``, k in ``width`` bytes: first the lowest byte of all values, then the next."""

    least: int
    step: int
    width: int
    data: bytes


def pack(values: NDArray[Any]) -> Column:
    """Any integers of up to 64 bits; uint64 are taken as int64 with the same bits."""
    numbers = values.astype(np.uint64) if values.dtype.kind == "u" else values.astype(np.int64).view(np.uint64)
    signed = numbers.view(np.int64)
    if not signed.size:
        return Column(0, 1, 0, b"")
    least = int(signed.min())
    apart = numbers - np.array(least, np.int64).view(np.uint64)
    step = 1000 if apart.any() and not (apart % np.uint64(1000)).any() else 1
    apart = apart // np.uint64(step)
    width = (int(apart.max()).bit_length() + 7) // 8
    planes = apart.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width]
    return Column(least, step, width, np.ascontiguousarray(planes.T).tobytes())


def unpack(column: Column, n: int) -> Numbers:
    """The values, ``n`` of them. Raises WireError."""
    if not (0 <= column.width <= 8 and 1 <= column.step <= 1_000_000 and len(column.data) == n * column.width):
        raise WireError("a column is not as long as it says")
    if not -(1 << 63) <= column.least < 1 << 63:
        raise WireError("a column begins with no number of 64 bits")
    bytes_of = np.zeros((n, 8), np.uint8)
    bytes_of[:, : column.width] = np.frombuffer(column.data, np.uint8).reshape(column.width, n).T
    apart = bytes_of.view("<u8").reshape(n).astype(np.uint64)
    made: Numbers = (apart * np.uint64(column.step) + np.array(column.least, np.int64).view(np.uint64)).view(np.int64)
    return made


def within(values: Numbers, least: int, most: int, what: str) -> Numbers:
    """The values, all inside these bounds. Raises WireError."""
    if values.size and (int(values.min()) < least or int(values.max()) > most):
        raise WireError(f"{what} is out of range")
    return values


def rising(values: NDArray[Any]) -> Numbers:
    """What each value is above the one before; ``summed`` takes it back."""
    numbers = values.astype(np.int64)
    made: Numbers = np.diff(numbers, prepend=np.zeros(1, np.int64))
    return made


def summed(values: Numbers) -> Numbers:
    """As ``rising`` had them."""
    made: Numbers = np.cumsum(values, dtype=np.int64)
    return made
