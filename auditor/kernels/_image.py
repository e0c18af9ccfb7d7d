"""Machine code that needs no linker to be loaded.

LLVM makes objects (ELF, System V ABI, chapter 4): sections with holes, and a list of what goes into each hole. To have LLVM fill the holes costs
ten times as much as all the rest, so that it is done here, once, when code is compiled. What comes of it is an image: all sections
one behind the other, in which only two kinds of holes are left, words that depend on where the image comes to lie, and addresses
of the few functions of the C library that code may call. ``load`` fills these.

The rules that hold here:

- x86-64 alone (AMD64 supplement to the ABI, section 4.4): other processors want their caches flushed, which only LLVM can. An object that has
  anything else than what is known here, data that is written to above all, is left as it is, for LLVM to load.
- Memory is written first and executed then, never both.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

ELF = b"\x7fELF"
_ELF64_LITTLE_REL_X86_64 = (ELF + b"\x02\x01", 1, 62)
_HEADER, _SECTION, _SYMBOL, _RELOCATION = (
    struct.Struct("<6s10xHH20xQ10xHHH"),
    struct.Struct("<IIQQQQIIQQ"),
    struct.Struct("<IBBHQQ"),
    struct.Struct("<QQq"),
)
_SYMTAB, _RELA, _NOBITS = 2, 4, 8
_WRITE, _ALLOC = 1, 2
_UNDEFINED, _RESERVED = 0, 0xFF00
_ABS64, _PC32, _PLT32, _PC64 = 1, 2, 4, 24

_OUTSIDE = ("abs", "memcpy", "memmove", "memset", "memcmp")
"""Functions of the C library that an image may call."""
_MEANT = {name: name for name in _OUTSIDE} | {
    # What frees arrays that numba owns. No array of ours is, so that it is never called.
    "NRT_MemInfo_call_dtor": "abs"
}
_COUNTS = struct.Struct("<4q")


class _Section(NamedTuple):
    """A section header (ELF, chapter 4)."""

    name: int
    type: int
    flags: int
    address: int
    at: int
    size: int
    link: int
    info: int
    align: int
    entry_bytes: int


class _UnknownError(Exception):
    """Something that only LLVM knows how to load."""


def link(code: bytes, symbol: str) -> bytes | None:
    """The image of an object, entered at ``symbol``; None where only LLVM can load it."""
    try:
        return _link(code, symbol.encode())
    except (_UnknownError, struct.error, IndexError, KeyError):
        return None


def _link(code: bytes, symbol: bytes) -> bytes:
    magic, kind, machine, at, entry_bytes, count, names_in = _HEADER.unpack_from(code)
    if (magic, kind, machine) != _ELF64_LITTLE_REL_X86_64:
        raise _UnknownError
    sections = [_Section(*_SECTION.unpack_from(code, at + k * entry_bytes)) for k in range(count)]
    place, image = _laid_out(code, sections, sections[names_in])
    relative: list[int] = []
    outside: list[tuple[int, int]] = []
    tables = {k: _symbols(code, sections, k, place) for k, section in enumerate(sections) if section.type == _SYMTAB}
    entry = next((value for table in tables.values() for name, value in table if name == symbol), None)
    for section in sections:
        if section.type != _RELA or section.info not in place:
            continue
        symbols = tables[section.link]
        for offset, info, addend in _RELOCATION.iter_unpack(code[section.at : section.at + section.size]):
            name, value = symbols[info >> 32]
            hole = place[section.info] + offset
            wanted = info & 0xFFFFFFFF
            if wanted == _ABS64 and value is None:
                outside.append((hole, _OUTSIDE.index(_MEANT[name.decode()])))
                struct.pack_into("<q", image, hole, addend)
            elif value is None:
                raise _UnknownError
            elif wanted == _ABS64:
                relative.append(hole)
                struct.pack_into("<q", image, hole, value + addend)
            elif wanted in (_PC32, _PLT32):
                struct.pack_into("<i", image, hole, value + addend - hole)
            elif wanted == _PC64:
                struct.pack_into("<q", image, hole, value + addend - hole)
            else:
                raise _UnknownError
    if entry is None:
        raise _UnknownError
    holes = np.array([*relative, *(hole for hole, _ in outside)], "<i8").tobytes()
    functions = bytes(which for _, which in outside)
    return _COUNTS.pack(len(image), entry, len(relative), len(outside)) + holes + functions + bytes(image)


def _laid_out(code: bytes, sections: list[_Section], names: _Section) -> tuple[dict[int, int], bytearray]:
    """Where in the image each section lies, by its number, and the image with its holes. How to unwind the stack is left out: nobody does."""
    place: dict[int, int] = {}
    image = bytearray()
    for k, section in enumerate(sections):
        if not section.flags & _ALLOC:
            continue
        start = names.at + section.name
        if code[start : code.index(b"\0", start)] == b".eh_frame":
            continue
        if section.flags & _WRITE or section.type == _NOBITS:
            raise _UnknownError
        image += bytes(-len(image) % max(section.align, 1))
        place[k] = len(image)
        image += code[section.at : section.at + section.size]
    return place, image


def _symbols(
    code: bytes, sections: list[_Section], number: int, place: dict[int, int]
) -> list[tuple[bytes, int | None]]:
    """Name of each symbol and where in the image it is; None: outside of it."""
    table = sections[number]
    strings = sections[table.link].at

    def found() -> Iterator[tuple[bytes, int | None]]:
        for name, _, _, section, value, _ in _SYMBOL.iter_unpack(code[table.at : table.at + table.size]):
            start = strings + name
            text = code[start : code.index(b"\0", start)]
            if section == _UNDEFINED or (section < _RESERVED and section not in place):
                yield text, None
            elif section >= _RESERVED:
                # Constants and file names; and memory that is shared, which kernels have none of.
                yield text, None
            else:
                yield text, place[section] + value

    return list(found())


@functools.cache
def _c_library() -> tuple[Any, tuple[int, ...]]:
    """The C library, and where its functions are that images call."""
    library = ctypes.CDLL(None, use_errno=True)
    return library, tuple(ctypes.cast(library[name], ctypes.c_void_p).value or 0 for name in _OUTSIDE)


_LOADED: list[Any] = []
"""The memory of images; it stays to the end, as functions do."""


def load(image: bytes) -> int:
    """The address of an image's entry. Raises OSError where the system lets no program make code."""
    size, entry, relative, outside = _COUNTS.unpack_from(image)
    library, functions = _c_library()
    holes = np.frombuffer(image, "<i8", relative + outside, _COUNTS.size)
    which = _COUNTS.size + holes.nbytes
    memory = np.frombuffer(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), np.uint8)
    memory[:] = np.frombuffer(image, np.uint8, size, which + outside)
    base: int = memory.ctypes.data
    values = [*[base] * relative, *(functions[k] for k in image[which : which + outside])]
    bytes_at = holes[:, None] + np.arange(8)
    words = memory[bytes_at].view(np.uint64)[:, 0] + np.array(values, np.uint64)
    memory[bytes_at] = words.view(np.uint8).reshape(-1, 8)
    if library.mprotect(ctypes.c_void_p(base), ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "this system lets no program make machine code")
    _LOADED.append(memory)
    return base + int(entry)
