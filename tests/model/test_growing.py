"""A table that grows where it lies keeps what was written, whoever holds rows of it."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

from auditor.model import growing
from auditor.model.growing import GrowingTable

ROW = np.dtype([("number", np.int64), ("rest", np.uint8, (56,))])


def numbered(room: int) -> GrowingTable:
    table = GrowingTable(ROW, room)
    table.rows["number"] = np.arange(room)
    return table


@pytest.mark.parametrize("ahead", [0, 4096, 1 << 20])
def test_rows_stay_and_new_ones_are_zero(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "AHEAD_BYTES", ahead)
    table = numbered(100)
    table.grow(5_000)
    assert table.rows["number"].tolist() == [*range(100), *[0] * 4_900]
    assert table.rows.flags.writeable


def test_rows_that_somebody_holds_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "AHEAD_BYTES", 0)
    table = numbered(100)
    held = table.rows[10:20]
    table.grow(50_000)
    table.rows["number"][:100] = 0
    assert held["number"].tolist() == list(range(10, 20))


def test_rows_begin_where_lines_of_the_cache_do() -> None:
    assert numbered(3).rows.ctypes.data % 64 == 0


def test_what_the_system_will_not_move_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rigid(mmap.mmap):
        def resize(self, newsize: int) -> None:
            raise SystemError("mmap: resizing not available--no mremap()")

    monkeypatch.setattr(growing, "AHEAD_BYTES", 0)
    monkeypatch.setattr(growing.mmap, "mmap", Rigid)
    table = numbered(100)
    table.grow(5_000)
    assert table.rows["number"].tolist() == [*range(100), *[0] * 4_900]
