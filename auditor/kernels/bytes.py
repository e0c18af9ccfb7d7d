"""Numbers out of bytes: big endian unless the name says otherwise.

All give int64, because numba turns uint64 with int64 into float64 and leaves ``int(uint8)`` eight bits wide. Callers have proven the
bounds; the decorator checks them once more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.accelerate import load

Bytes = NDArray[np.uint8]

int64: Callable[[Any], int] = np.int64  # type: ignore[assignment]  # an int to whoever reads the types
"""Widens a field of a record or an array."""


u8: Callable[[Bytes, int], int] = load(1, "big")
"""The byte at a place."""

be16: Callable[[Bytes, int], int] = load(2, "big")
"""Two bytes."""

be32: Callable[[Bytes, int], int] = load(4, "big")
"""Four bytes; never negative."""

be64: Callable[[Bytes, int], np.uint64] = load(8, "big")
"""Eight bytes; unsigned, and only fit to be stored or compared with its like."""

le16: Callable[[Bytes, int], int] = load(2, "little")
"""Two bytes, little endian."""

le32: Callable[[Bytes, int], int] = load(4, "little")
"""Four bytes, little endian; never negative."""

le64: Callable[[Bytes, int], np.uint64] = load(8, "little")
"""Eight bytes, little endian; unsigned."""
