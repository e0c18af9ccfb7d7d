"""A table that grows where it lies.

Its memory is a mapping of its own, from the start of a page: records whose size is a whole number of cache lines begin where
lines do. The mapping is made larger than what is asked for, because pages that nobody touches cost nothing; what outgrows it
has its pages moved instead of its bytes, where the system can (mremap of Linux). Large pages are asked for: rows are
visited in no order, and the processor remembers the places of few pages.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

AHEAD_BYTES = 1 << 28
"""So much of the address space is taken at once."""


class GrowingTable:
    """Records of one dtype; ``rows`` is the whole room, zero where nothing was written."""

    def __init__(self, dtype: np.dtype[Any], room: int) -> None:
        self._dtype = dtype
        self._memory = _mapped(max(room * dtype.itemsize, AHEAD_BYTES))
        self.rows: NDArray[Any] = np.frombuffer(self._memory, dtype, room)

    def grow(self, room: int) -> None:
        """Have room for so many rows. What was taken from ``rows`` before keeps the rows as they were then."""
        dtype = self._dtype
        n = self.rows.size
        self.rows = np.zeros(0, dtype)  # the mapping cannot be moved while an array of ours shows it
        try:
            if room * dtype.itemsize > len(self._memory):
                self._memory.resize(room * dtype.itemsize)
        except (BufferError, SystemError, OSError):
            # Somebody holds rows, or the system has no way to do it.
            before = np.frombuffer(self._memory, dtype, n)
            self._memory = _mapped(room * dtype.itemsize)
            np.frombuffer(self._memory, dtype, n)[:] = before
        self.rows = np.frombuffer(self._memory, dtype, room)


def _mapped(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
