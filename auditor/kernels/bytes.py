"""Numbers out of bytes: big endian unless the name says otherwise.

All give int64, because numba turns uint64 with int64 into float64 and leaves ``int(uint8)`` eight bits wide. Callers have proven the
bounds; the decorator checks them once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.accelerate import inner

Bytes = NDArray[np.uint8]

int64: Callable[[Any], int] = np.int64  # type: ignore[assignment]  # an int to whoever reads the types
"""Widens a field of a record or an array."""


@inner
def u8(buf: Bytes, at: int) -> int:
    """The byte at ``at``."""
    return int64(buf[at])


@inner
def be16(buf: Bytes, at: int) -> int:
    """Two bytes."""
    return int64(buf[at]) << 8 | int64(buf[at + 1])


@inner
def be32(buf: Bytes, at: int) -> int:
    """Four bytes; never negative."""
    return int64(buf[at]) << 24 | int64(buf[at + 1]) << 16 | int64(buf[at + 2]) << 8 | int64(buf[at + 3])


@inner
def be64(buf: Bytes, at: int) -> np.uint64:
    """Eight bytes; unsigned, and only fit to be stored or compared with its like."""
    return np.uint64(be32(buf, at)) << np.uint64(32) | np.uint64(be32(buf, at + 4))


@inner
def le16(buf: Bytes, at: int) -> int:
    """Two bytes, little endian."""
    return int64(buf[at]) | int64(buf[at + 1]) << 8


@inner
def le32(buf: Bytes, at: int) -> int:
    """Four bytes, little endian; never negative."""
    return le16(buf, at) | le16(buf, at + 2) << 16
