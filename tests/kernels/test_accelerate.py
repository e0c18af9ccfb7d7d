"""Kernels are compiled once, kept as object code, and loaded without the compiler."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from auditor.errors import AuditorError
from auditor.kernels import accelerate
from auditor.kernels.accelerate import inner, kernel, move_bytes, scratch

ROOT = Path(__file__).resolve().parents[2]


class Pair(NamedTuple):
    weights: Any
    rows: Any


ROW = np.dtype([("kind", np.uint8), ("size", np.uint32)])


@inner
def doubled(value):
    return value * 2


@kernel
def mixed(values, factor, pair, exact):
    """A bit of all that kernels are called with, and give back."""
    if exact:
        total = 0
        for k in range(values.shape[0]):
            for j in range(values.shape[1]):
                total += values[k, j] * factor
        for k in range(pair.rows.size):
            pair.rows[k]["size"] = doubled(pair.rows[k]["kind"])
            total += pair.weights[k]
    else:
        total = -1
    return total, exact, total / 2


@kernel
def put(out, at):
    out[at] = 1


@kernel
def reversed_copy(target, source):
    room = scratch(4)
    for k in range(4):
        room[k] += source[3 - k]
    for k in range(4):
        target[k] = room[k]
    if target.size >= 8 and source.size >= 8:
        move_bytes(target, 4, source, 4, 4)
    return np.uint64(2**64 - 1)


@kernel
def allocating(n):
    return np.zeros(n, np.int64).sum()


@kernel
def told(number):
    return number, 0.5


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(accelerate, "_FOLDERS", (tmp_path,))
    monkeypatch.setattr(accelerate, "_writing", lambda: tmp_path)
    for each in (mixed, put, reversed_copy, allocating, told):
        each._ready.clear()
    yield tmp_path
    for each in (mixed, put, reversed_copy, allocating, told):
        each._ready.clear()


def called() -> tuple[Any, ...]:
    rows = np.zeros(3, ROW)
    rows["kind"] = [3, 4, 250]
    values = np.arange(24, dtype=np.int16).reshape(4, 6)
    told = [
        mixed(values, 3, Pair(np.arange(3), rows), True),
        mixed(values[::2, ::3], np.int32(1), Pair(np.arange(3), rows), np.True_),
        mixed(values.T, 1, Pair(np.arange(3), rows), False),
    ]
    return (*told, rows["size"].tolist())


def test_arrays_records_tuples_and_numbers_go_in_and_out_as_in_plain_python(folder: Path) -> None:
    assert called() == ((831, True, 415.5), (33, True, 16.5), (-1, False, -0.5), [6, 8, 500])
    assert len(mixed.signatures) == len(list(folder.glob("test_accelerate.mixed-*.o"))) == 3


def test_what_was_compiled_is_loaded_and_not_compiled_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = called()
    mixed._ready.clear()
    monkeypatch.setattr(accelerate.Kernel, "dispatcher", property(lambda _: pytest.fail("compiled again")))
    assert called() == before


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:-9], lambda data: b"", lambda data: data[:200] + b"!" + data[201:]]
)
def test_code_that_is_not_whole_is_made_again(folder: Path, spoil: Any) -> None:
    out = np.zeros(3, np.uint8)
    put(out, 1)
    (kept,) = folder.glob("*.o")
    whole = kept.read_bytes()
    kept.write_bytes(spoil(whole))
    put._ready.clear()
    put(out, 2)
    assert out.tolist() == [0, 1, 1]
    assert kept.read_bytes() == whole


def test_an_index_out_of_bounds_is_an_error(folder: Path) -> None:
    out = np.zeros(3, np.uint8)
    with pytest.raises(IndexError, match=r"test_accelerate.put"):
        put(out, 3)
    put(out, 0)
    assert out.tolist() == [1, 0, 0]


def test_scratch_is_empty_at_every_call_and_bytes_are_moved(folder: Path) -> None:
    source = np.arange(1, 9, dtype=np.uint8)
    for function in (reversed_copy, reversed_copy, reversed_copy.py_func):
        target = np.zeros(8, np.uint8)
        assert function(target, source) == 2**64 - 1
        assert target.tolist() == [4, 3, 2, 1, 5, 6, 7, 8]


def test_a_kernel_that_allocates_is_refused(folder: Path) -> None:
    with pytest.raises(AuditorError, match="allocate"):
        allocating(8)


def test_a_folder_that_takes_no_more_hinders_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerate, "_FOLDERS", (folder / "gone",))
    monkeypatch.setattr(accelerate, "_writing", lambda: folder / "gone")
    out = np.zeros(3, np.uint8)
    put(out, 1)
    assert out.tolist() == [0, 1, 0]


def test_code_for_another_processor_is_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = np.zeros(3, np.uint8)
    put(out, 1)
    monkeypatch.setattr(accelerate, "_processor", lambda: "another")
    put._ready.clear()
    put(out, 2)
    assert len(list(folder.glob("*.o"))) == 2
    assert out.tolist() == [0, 1, 1]


def test_a_processor_that_the_system_does_not_tell_is_asked_of_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    told = accelerate._processor()
    assert len(told.splitlines()) > 1
    monkeypatch.setattr("builtins.open", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    assert accelerate._processor.__wrapped__() == accelerate._llvm()[2]


def test_arrays_that_are_parts_of_others_or_written_to_by_nobody(folder: Path) -> None:
    rows = np.arange(60, dtype=np.int64).reshape(5, 12)
    weights = np.arange(3)
    weights.flags.writeable = False
    for values in (rows, rows[::-1], rows[1:4, ::-2], rows[:, 3:4], rows[:0], np.asfortranarray(rows)):
        pair = Pair(weights, np.zeros(3, ROW))
        assert mixed(values, 2, pair, True) == mixed.py_func(values, 2, pair, True)


@pytest.mark.parametrize("number", [2**63, 2**64 - 1, -(2**63), -1, 2**63 - 1])
def test_numbers_go_in_as_64_bits(folder: Path, number: int) -> None:
    assert told(np.uint64(number) if number >= 2**63 else number) == ((number + 2**63) % 2**64 - 2**63, 0.5)


def test_code_of_another_source_is_not_taken(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("source") / "made.py"
    for number in (1, 2):
        place.write_text(f"def answer(n):\n    return n + {number}\n", encoding="utf-8")
        made: dict[str, Any] = {"__name__": "made"}
        exec(compile(place.read_text(encoding="utf-8"), str(place), "exec"), made)  # noqa: S102  # a source that changes
        assert kernel(made["answer"])(1) == 1 + number


def test_the_compiler_is_imported_only_to_compile(tmp_path: Path) -> None:
    code = (
        "import sys, numpy as np\n"
        "from auditor.kernels.flowkey import sha1_rows\n"
        "sha1_rows(np.zeros((1, 64), np.uint8), np.zeros(1, np.int64), np.zeros((1, 20), np.uint8))\n"
        "print(sorted({'numba', 'llvmlite', 'hashlib', 'tempfile'} & set(sys.modules)))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    said = [
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    ]
    assert "numba" in said[0]
    assert said[1] == "[]\n"


NESTED = np.dtype([("small", np.uint8), ("ends", [("at", np.int64), ("word", np.uint32)], (2,))])


@kernel
def noted(rows, by):
    for k in range(rows.size):
        row = rows[k]
        row.small += np.uint8(by)
        row.ends[1].at = row.ends[0].at - k
        rows[k].ends[0].word = np.uint32(doubled(row.small))
    return rows[0].ends[1].at


def test_few_packets_pass_through_plain_python_instead_of_a_compiler(folder: Path) -> None:
    noted._ready.clear()
    told: list[str] = []
    results = []
    with accelerate.plainly(5, lambda: told.append("compiling")) as used:
        for packets in (2, 2, 2):
            accelerate.expect(packets)
            rows = np.zeros(3, NESTED)
            rows["small"], rows["ends"]["at"] = [1, 2, 255], [[7, 0], [8, 0], [9, 0]]
            results.append((noted(rows, 3), str(rows.tolist())))
            assert len(list(folder.iterdir())) == len(told) == (len(results) == 3)
        assert used()
    assert results[0] == results[1] == results[2]
    assert rows[2]["small"] == 2, "255 + 3 wraps around"
    assert rows[2]["ends"].tolist() == [(9, 4), (7, 0)]
    with accelerate.plainly(5, lambda: told.append("again")) as used:
        noted(np.zeros(3, NESTED), 3)
        assert not used(), "what is compiled is used as such"
    assert told == ["compiling"]


def test_outside_an_array_is_an_error_as_plain_python_too_and_the_next_call_finds_its_way(folder: Path) -> None:
    with accelerate.plainly(5, lambda: pytest.fail("compiled")):
        for _ in range(2):
            with pytest.raises(IndexError):
                put(np.zeros(2, np.int64), 2)
        put(np.zeros(3, np.int64), 2)
    assert not list(folder.iterdir())
