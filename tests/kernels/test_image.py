"""Images are what LLVM would load: the same functions, at work in memory that nobody can write to."""

from __future__ import annotations

import ctypes
import mmap
import platform
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from auditor.kernels import _image, accelerate
from auditor.kernels.accelerate import inner, kernel, move_bytes

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.byteorder != "little", reason="other processors load with LLVM"
)


@inner
def chosen(number):
    """A jump table."""
    if number == 0:
        return 11
    if number == 1:
        return 7
    if number == 2:
        return 23
    if number == 3:
        return 2
    if number == 4:
        return 31
    if number == 5:
        return 5
    return 0


@kernel
def worked(numbers, out, source, factor):
    """Calls another function, has constants of its own, moves and clears memory."""
    total = 0.0
    for k in range(numbers.size):
        out[k] = chosen(numbers[k])
        total += out[k] * factor + 0.125
    move_bytes(out, 0, source, 0, source.size)
    for k in range(source.size, out.size):
        out[k] = 0
    return total


@pytest.fixture
def objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[bytes, str]]]:
    """What was linked since: object code and symbol."""
    monkeypatch.setattr(accelerate, "_FOLDERS", (tmp_path,))
    monkeypatch.setattr(accelerate, "_writing", lambda: tmp_path)
    link, seen = _image.link, []

    def linked(code: bytes, symbol: str) -> bytes | None:
        seen.append((code, symbol))
        return link(code, symbol)

    monkeypatch.setattr(_image, "link", linked)
    worked._ready.clear()
    yield seen
    worked._ready.clear()


def result() -> tuple[float, list[int]]:
    out = np.zeros(100, np.uint8)
    found = worked(np.arange(40) % 7, out, np.arange(50, dtype=np.uint8), 1.5)
    return found, out.tolist()


def test_an_image_does_what_the_object_does(objects, monkeypatch: pytest.MonkeyPatch) -> None:
    by_image = result()
    ((code, symbol),) = objects
    wanted = [chosen.py_func(k % 7) for k in range(40)]
    assert by_image == (sum(each * 1.5 + 0.125 for each in wanted), [*range(50), *[0] * 50])
    assert code.startswith(_image.ELF)
    assert _image.link(code, symbol) is not None
    monkeypatch.setattr(accelerate, "_llvm", lambda: pytest.fail("LLVM was asked"))
    worked._ready.clear()
    assert result() == by_image  # as it was kept
    monkeypatch.undo()
    monkeypatch.setattr(accelerate, "_kept", lambda _: ("f", code))
    worked._ready.clear()
    assert result() == by_image


def test_what_only_llvm_can_load_is_left_to_it(objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_image, "link", lambda *_: None)
    for _ in range(2):  # compiled, then kept
        found, out = result()
        assert (found, out[:3]) == (sum(chosen.py_func(k % 7) * 1.5 + 0.125 for k in range(40)), [0, 1, 2])
        worked._ready.clear()
    (kept,) = tmp_path.glob("*.o")
    assert _image.ELF in kept.read_bytes()


def test_memory_is_never_written_to_and_executed(objects) -> None:
    result()
    code, symbol = objects[0]
    image = _image.link(code, symbol)
    assert image is not None
    address = _image.load(image)
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(each, 16) for each in line.split()[0].split("-"))
        if first <= address < last:
            assert line.split()[1] == "r-xp"
            break
    else:
        pytest.fail("it is nowhere")


def test_a_system_that_lets_nobody_make_code_is_told(objects, monkeypatch: pytest.MonkeyPatch) -> None:
    result()
    image = _image.link(*objects[0])
    assert image is not None
    monkeypatch.setattr(mmap, "PROT_EXEC", 0x7000_0000)
    with pytest.raises(OSError, match="no program make machine code"):
        _image.load(image)


def header(code: bytes, at: int, form: str, value: int) -> bytes:
    changed = bytearray(code)
    struct.pack_into(form, changed, at, value)
    return bytes(changed)


def sections(code: bytes) -> list[tuple[int, tuple[int, ...]]]:
    start, size, count = *struct.unpack_from("<Q", code, 40), *struct.unpack_from("<HH", code, 58)
    return [(start + k * size, struct.unpack_from("<IIQQQQIIQQ", code, start + k * size)) for k in range(count)]


def writable(code: bytes) -> bytes:
    at, fields = next((at, fields) for at, fields in sections(code) if fields[2] & 2 and fields[5])
    return header(code, at + 8, "<Q", fields[2] | 1)


def of_another_kind(code: bytes) -> bytes:
    """The relocations of code, which come first."""
    _, fields = next((at, fields) for at, fields in sections(code) if fields[1] == 4)
    return header(code, fields[4] + 8, "<I", 9)


@pytest.mark.parametrize(
    "change",
    [
        lambda code: header(code, 18, "<H", 183),  # aarch64
        lambda code: header(code, 16, "<H", 2),  # a program
        lambda code: header(code, 4, "<B", 1),  # 32 bits
        lambda code: header(code, 40, "<Q", 2**40),
        lambda code: code[:100],
        lambda code: b"",
        lambda code: code.replace(b"memcpy", b"system").replace(b"memset", b"system").replace(b"memmove", b"systems"),
        writable,
        of_another_kind,
    ],
)
def test_what_is_not_known_is_not_linked(objects, change: Callable[[bytes], bytes]) -> None:
    result()
    code, symbol = objects[0]
    assert change(code) != code
    assert _image.link(change(code), symbol) is None
    assert _image.link(code, "nothing_of_that_name") is None


def test_distances_are_filled_in() -> None:
    """An object made by hand: ``lea rax, [rip + distance]; ret``, and what lies there."""
    names = b"\0.text\0.rodata\0.symtab\0.rela.text\0entry\0data\0"
    name = {text: names.index(text) for text in (b".text", b".rodata", b".symtab", b".rela.text", b"entry", b"data")}
    code, data = bytes.fromhex("488d0500000000c3"), b"found"
    symbols = bytes(24) + struct.pack("<IBBHQQ", name[b"entry"], 0x12, 0, 2, 0, 8)
    symbols += struct.pack("<IBBHQQ", name[b"data"], 0x11, 0, 3, 0, 5)
    relocations = struct.pack("<QQq", 3, 2 << 32 | 2, -4)
    places, body = [], b""
    for part in (names, code, data, symbols, relocations):
        places.append((64 + len(body), len(part)))
        body += part
    kinds: list[tuple[Any, ...]] = [
        (0, 3, 0, places[0], 0, 0, 1),
        (name[b".text"], 1, 6, places[1], 0, 0, 16),
        (name[b".rodata"], 1, 2, places[2], 0, 0, 8),
        (name[b".symtab"], 2, 0, places[3], 1, 1, 8),
        (name[b".rela.text"], 4, 64, places[4], 4, 2, 8),
    ]
    table = bytes(64) + b"".join(
        struct.pack("<IIQQQQIIQQ", text, kind, flags, 0, at, size, link, info, align, 24)
        for text, kind, flags, (at, size), link, info, align in kinds
    )
    head = (
        _image.ELF
        + b"\x02\x01\x01"
        + bytes(9)
        + struct.pack("<HHIQQQIHHHHHH", 1, 62, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, 6, 1)
    )
    image = _image.link(head + body + table, "entry")
    assert image is not None
    made = ctypes.CFUNCTYPE(ctypes.c_void_p)(_image.load(image))
    found = made()
    assert found is not None
    assert ctypes.string_at(found, 5) == data
