"""The one decorator of the hot path.

``kernel`` compiles a function over arrays on its first call and keeps the machine code on disk for the next process. The rules that hold:

- Bounds are checked in production too: captures are hostile, and the check costs about a tenth.
- ``kernel`` functions release the GIL and never raise on purpose; an index out of bounds is an IndexError.
- Importing numba takes longer than reading most captures. Its machine code is kept with a plain C entry (``_compile``) and
  linked (``_image``); a process that finds the code of all its kernels imports neither numba nor LLVM.
- Compiling takes a minute, and plain Python some 2 ms a packet: so a program may allow that few packets pass through what is not compiled yet as plain
  Python (``plainly``). The results are the same; tests compare them.
- A kernel that calls one of another file, or uses a constant of it, must not go on with old machine code when that file changes: so the
  code lies in a folder named after the content of all of them. The name of a file says for which types and which processor it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import struct
import threading
from collections.abc import Callable, Iterator
from operator import itemgetter
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar, cast

import numpy as np

from auditor.kernels import _image
from auditor.kernels._folder import PACKAGE, alone, digest, read_folders, read_trusted, writing_folder

F = TypeVar("F", bound=Callable[..., Any])

_MAGIC = b"auditor kernel 2\n"

_INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0").strip() not in ("", "0")


_FOLDERS = read_folders()
_writing = functools.cache(writing_folder)


# Loading machine code


@functools.cache
def _llvm() -> tuple[ModuleType, Any, str]:
    """LLVM, an engine to load into, and the processor as LLVM calls it."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True, codemodel="jitdefault")
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    if llvm.address_of_symbol(_DESTRUCTOR) is None:
        # Code over arrays refers to what frees arrays that numba owns. No array of ours is, so that it is never called.
        llvm.add_symbol(_DESTRUCTOR, ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p).value or 0)
    processor = f"{llvm.get_default_triple()} {llvm.get_host_cpu_name()} {llvm.get_host_cpu_features().flatten()}"
    return llvm, engine, processor


_DESTRUCTOR = "NRT_MemInfo_call_dtor"
_CPU_FACTS = ("vendor_id", "cpu family", "model", "stepping", "flags", "CPU ", "Features")
"""What Linux tells of a processor that decides which instructions it has: names of lines, or their beginnings (proc_cpuinfo(5))."""


@functools.cache
def _processor() -> str:
    """This processor, so that code for another is not taken for it; LLVM knows too, but takes longer than all else to be asked.

    Where NUMBA_CPU_NAME says for which one code is made (``generic``: for any, as in an image that is built in one place and run in others), that one.
    """
    stated = os.environ.get("NUMBA_CPU_NAME")
    if stated:
        return f"{os.uname().machine}\n{stated}\n{os.environ.get('NUMBA_CPU_FEATURES', '')}"
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as told:  # noqa: PTH123
            first = told.read(16_384).partition("\n\n")[0]
    except OSError:
        first = ""
    facts = [line for line in first.splitlines() if line.startswith(_CPU_FACTS)]
    return "\n".join([os.uname().machine, *facts]) if len(facts) > 1 else _llvm()[2]


def _address(symbol: str, code: bytes) -> int:
    """Where the entry of this image, or object, is in memory. Raises RuntimeError: it has none."""
    if not code.startswith(_image.ELF):
        return _image.load(code)
    llvm, engine, _ = _llvm()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    address: int = engine.get_function_address(symbol)
    if not address:
        raise RuntimeError(f"no {symbol} in its machine code")
    return address


_FAILED = 1
_Entry = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)


class _Compiled:
    """One kernel's machine code for one set of argument types."""

    __slots__ = ("_call", "_given", "_name", "_returned", "_returns")

    def __init__(self, name: str, symbol: str, takes: str, returns: str, code: bytes) -> None:
        """``takes``: a letter for each value that goes in (``_flatten``); ``returns``: for each that comes out, with a comma behind them where it
        is a tuple. Raises RuntimeError: no such code."""
        self._call = _Entry(_address(symbol, code))
        self._name = name
        self._returns = returns
        letters = returns.rstrip(",")
        self._given = struct.Struct(f"{takes}{8 * len(letters)}x")
        self._returned = struct.Struct("".join(_READ[letter] for letter in letters))

    def __call__(self, values: list[int | float]) -> Any:
        """``values`` as ``_flatten`` gives them."""
        slots = bytearray(self._given.pack(*values))
        if self._call(ctypes.addressof(ctypes.c_char.from_buffer(slots)) if slots else None) == _FAILED:
            raise IndexError(f"{self._name}: index is out of bounds")
        if not self._returns:
            return None
        found = self._returned.unpack_from(slots, len(slots) - self._returned.size)
        if "b" in self._returns:
            letters = self._returns.rstrip(",")
            found = tuple(
                bool(each & 1) if letter == "b" else each for letter, each in zip(letters, found, strict=True)
            )
        return found if self._returns.endswith(",") else found[0]


_READ = {"i": "q", "u": "Q", "f": "d", "b": "q"}
"""What comes out, as ``struct`` calls it: 64 bits each."""

_C_ORDER, _F_ORDER, _ALIGNED, _WRITEABLE = 0x1, 0x2, 0x100, 0x400
_OF_TYPE = _C_ORDER | _F_ORDER | _ALIGNED | _WRITEABLE
# A table of one row is in the order of columns, too: it needs no machine code of its own.
_FLAGS = [flags & ~_F_ORDER if flags & _C_ORDER else flags for flags in (each & _OF_TYPE for each in range(0x800))]


def _check_arrays() -> None:
    """Machine code reads of an array what numpy's C interface says of it: PyArrayObject_fields (numpy/ndarraytypes.h), behind what every object
    has. Raises RuntimeError where this numpy has it elsewhere."""
    probe = np.zeros((3, 5), np.int16)[::2]
    data, ndim, shape, strides = struct.unpack("Pi4xPP", ctypes.string_at(id(probe) + object.__basicsize__, 32))
    if (data, ndim) != (probe.ctypes.data, 2) or any(
        struct.unpack("2n", ctypes.string_at(place, 16)) != wanted
        for place, wanted in ((shape, probe.shape), (strides, probe.strides))
    ):
        raise RuntimeError("this numpy keeps its arrays in another way")


_check_arrays()


class _NoPlainArgumentError(Exception):
    """An argument that only numba knows how to hand over."""


def _flatten(given: tuple[Any, ...], values: list[int | float]) -> tuple[Any, ...]:
    """The arguments as numbers, behind what is in ``values``; and their types, as something to look up by.

    An array is the address of its object, which says where its numbers are; a tuple what is in it.
    """
    types: list[Any] = []
    for each in given:
        if isinstance(each, np.ndarray):
            values.append(id(each))
            types.append((each.dtype, each.ndim, _FLAGS[each.flags.num & _OF_TYPE]))
        elif isinstance(each, bool | np.bool_):
            values.append(int(each))
            types.append(bool)
        elif isinstance(each, int | np.integer):
            # As 64 bits with a sign, whatever it was: what is larger wraps around.
            values.append((int(each) + _SIGN & _MASK) - _SIGN)
            types.append(int)
        elif isinstance(each, float):
            values.append(float(each))
            types.append(float)
        elif isinstance(each, tuple) and each:
            types.append((type(each), _flatten(each, values)))
        else:
            raise _NoPlainArgumentError
    return tuple(types)


_SIGN, _MASK = 1 << 63, (1 << 64) - 1


def _taken(values: list[int | float]) -> str:
    """A letter for each value, as ``struct`` calls it."""
    return "".join("d" if isinstance(each, float) else "q" for each in values)


@functools.cache
def _dtype_told(dtype: np.dtype[Any], aligned: bool) -> str:
    return f"{dtype!r}/{dtype.itemsize}/{aligned}"


def _told(types: tuple[Any, ...]) -> str:
    """The same for equal types in every process."""
    words = []
    for each in types:
        if not isinstance(each, tuple):
            words.append(each.__name__)
        elif isinstance(each[0], type):
            words.append(f"{each[0].__qualname__}({_told(each[1])})")
        else:
            dtype, ndim, flags = each
            words.append(f"{_dtype_told(dtype, dtype.isalignedstruct)}[{ndim}]{flags}")
    return " ".join(words)


class Kernel:
    """A compiled function: called with arrays and numbers, it finds its machine code for their types, or makes it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.py_func = function
        """The plain one."""
        self._ready: dict[tuple[Any, ...], _Compiled] = {}

    @property
    def signatures(self) -> tuple[tuple[Any, ...], ...]:
        """The types that it was called with in this process."""
        return tuple(self._ready)

    @functools.cached_property
    def dispatcher(self) -> Any:
        """As numba knows it: for compiling what calls it, and itself."""
        from auditor.kernels import _compile

        return _compile.dispatcher(self.py_func)

    @functools.cached_property
    def _numba_type_(self) -> Any:
        """What numba asks of a global that it meets in a function."""
        return self.dispatcher._numba_type_

    def __call__(self, *given: Any) -> Any:
        """Arrays, numbers, truth values and tuples of them; whole numbers count as int64. Raises IndexError."""
        if _PLAIN.thread == threading.get_ident():
            return self.py_func(*given)  # by a kernel that runs as plain Python
        values: list[int | float] = []
        try:
            types = _flatten(given, values)
        except _NoPlainArgumentError:
            return self._by_numba(*given)
        compiled = self._ready.get(types)
        if compiled is None:
            compiled = self._find(types, _taken(values), given)
            if compiled is None:
                return _PLAIN.run(self.py_func, given)
            self._ready[types] = compiled
        return compiled(values)

    @functools.cached_property
    def _by_numba(self) -> Any:
        """For what is called with records and the like: by tests, not by an audit."""
        from auditor.kernels import _compile

        return _compile.callable_by_python(self.py_func)

    def _find(self, types: tuple[Any, ...], takes: str, given: tuple[Any, ...]) -> _Compiled | None:
        """The machine code for these types: loaded, or compiled and kept; None: it is not to be compiled yet."""
        name = f"{self.py_func.__module__.rpartition('.')[2]}.{self.py_func.__qualname__}"
        told = f"{_processor()}\n{object.__basicsize__}\n{_told(types)}\n".encode() + _foreign_source(self.py_func)
        mark = digest(told)
        symbol = f"auditor_{name}_{mark}"
        file = f"{name.replace('<locals>', '_')}-{mark}.o"
        for folder in _FOLDERS:
            found = _kept(f"{folder}/{file}")
            if found is not None:
                return _Compiled(name, symbol, takes, *found)
        if _PLAIN.left > 0:
            _PLAIN.used = True
            return None
        place = _writing()
        with alone(place, file):
            found = None if place is None else _kept(f"{place}/{file}")
            if found is None:
                if _PLAIN.compiling is not None:
                    _PLAIN.compiling()
                from auditor.kernels import _compile

                returns, code = _compile.compile_entry(self.dispatcher, given, symbol)
                found = returns, _image.link(code, symbol) or code
                if place is not None:
                    _keep(place / file, *found)
        return _Compiled(name, symbol, takes, *found)


_HERE = str(PACKAGE / "kernels")


def _foreign_source(function: Callable[..., Any]) -> bytes:
    """The file of a function that is none of the package's: the folder is not named after its content."""
    name = function.__code__.co_filename
    if name.rpartition("/")[0] == _HERE:
        return b""
    file = Path(name)
    return b"" if file.parent == PACKAGE / "kernels" or not file.is_file() else file.read_bytes()


def _kept(file: str) -> tuple[str, bytes] | None:
    """What a kernel returns and its code; None where there is none, or not all of it."""
    data = read_trusted(file)
    if data is None:
        return None
    head, _, code = data[len(_MAGIC) :].partition(b"\n")
    returns, _, told = head.decode("ascii", "replace").partition(" ")
    if not data.startswith(_MAGIC) or digest(code) != told:
        return None
    return returns, code


def _keep(file: Path, returns: str, code: bytes) -> None:
    """Whole or not at all: other processes look for it at the same time. Not kept where the disk is full: then it is made again."""
    import tempfile

    head = f"{returns} {digest(code)}\n".encode()
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as made:
            made.write(_MAGIC + head + code)
        Path(made.name).chmod(0o644)
        Path(made.name).replace(file)
    except OSError:
        return


def kernel(function: F) -> F:
    """Compiled twin of ``function``; the plain one stays reachable as ``.py_func``."""
    return cast("F", _plain(function) if _INTERPRETED else Kernel(function))


def inner(function: F) -> F:
    """Like ``kernel``, for what only kernels call."""
    return kernel(function)


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as plain Python where compiling is switched off (NUMBA_DISABLE_JIT=1): numpy then checks every index."""

    @functools.wraps(function)
    def interpreted(*given: Any) -> Any:
        return function(*given) if _PLAIN.thread == threading.get_ident() else _PLAIN.run(function, given)

    interpreted.__dict__["py_func"] = interpreted
    return interpreted


# Kernels as plain Python

FEW_PACKETS = 6_000
"""They take less time as plain Python than compiling takes."""


class _Plain:
    """Who runs kernels as plain Python, and how long that is still quicker than to compile them."""

    def __init__(self) -> None:
        self.left = 0
        """So many packets more."""
        self.used = False
        """Some kernel had no machine code, and was not compiled."""
        self.compiling: Callable[[], None] | None = None
        """Called before something is compiled."""
        self.thread = 0
        """The one that is inside a kernel now."""
        self._alone = threading.Lock()

    def run(self, function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        """Call it. Records have their fields as attributes, as in compiled code, and unsigned numbers wrap around as silently."""
        taken = [
            each.view(_record(each.dtype)) if isinstance(each, np.ndarray) and each.dtype.names is not None else each
            for each in given
        ]
        with self._alone, np.errstate(over="ignore"):
            self.thread = threading.get_ident()
            try:
                return function(*taken)
            finally:
                self.thread = 0


_PLAIN = _Plain()


@contextlib.contextmanager
def plainly(packets: int, compiling: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Inside, about so many packets may pass through kernels that are not compiled yet as plain Python; ``compiling`` is called before anything
    is compiled. Gives whether any did."""
    before = _PLAIN.left, _PLAIN.compiling
    _PLAIN.left, _PLAIN.used, _PLAIN.compiling = packets, False, compiling
    try:
        yield lambda: _PLAIN.used
    finally:
        _PLAIN.left, _PLAIN.compiling = before


def expect(packets: int) -> None:
    """So many packets come now. Where they are too many for plain Python, everything is compiled from here on."""
    if _PLAIN.left > 0:
        _PLAIN.left = max(_PLAIN.left - packets, 0)


@functools.cache
def _record(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The same with records whose fields are attributes, seven times as fast as those of ``numpy.recarray``."""
    if dtype.subdtype is not None:
        return np.dtype((_record(dtype.subdtype[0]), dtype.subdtype[1]))
    if dtype.names is None or dtype.fields is None:
        return dtype
    fields = [dtype.fields[name] for name in dtype.names]
    whole = {
        "names": list(dtype.names),
        "formats": [_record(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "itemsize": dtype.itemsize,
    }
    members: dict[str, Any] = {name: property(itemgetter(name), _setter(name)) for name in dtype.names}
    made: Any = np.dtype
    return cast("np.dtype[Any]", made((type("Record", (np.void,), {"__slots__": (), **members}), made(whole))))


def _setter(name: str) -> Callable[[Any, Any], None]:
    def put(record: Any, value: Any) -> None:
        record[name] = value

    return put


class _MoveBytes:
    """Slices in plain Python, a plain copy of memory in compiled code."""

    def __call__(self, target: Any, to: Any, source: Any, at: Any, size: Any) -> None:
        target[to : to + size] = source[at : at + size]

    @functools.cached_property
    def _numba_type_(self) -> Any:
        from auditor.kernels import _compile

        return _compile.moving_type()


move_bytes: Callable[[Any, Any, Any, Any, Any], None] = _MoveBytes()
"""``move_bytes(target, to, source, at, size)``: ``source[at : at + size]`` to ``target[to:]``, thirty times as fast as slices in a kernel.

It checks nothing: the caller proves that both stretches lie inside their arrays, in a BOUNDS comment. Not a function, so that
a call costs no atomic reference counts either.
"""


class _Load:
    """A whole number out of consecutive bytes: byte by byte in plain Python, one load with one check of bounds in compiled code."""

    def __init__(self, size: int, byte_order: Literal["little", "big"]) -> None:
        self._size = size
        self._byte_order = byte_order

    def __call__(self, buf: Any, at: Any) -> Any:
        if not 0 <= at <= buf.size - self._size:
            raise IndexError("index is out of bounds")
        value = int.from_bytes(buf[at : at + self._size].tobytes(), self._byte_order)
        return np.uint64(value) if self._size == 8 else value

    @functools.cached_property
    def _numba_type_(self) -> Any:
        from auditor.kernels import _compile

        return _compile.loading_type(self._size, self._byte_order)


def load(size: int, byte_order: Literal["little", "big"]) -> Callable[[Any, Any], Any]:
    """``load(size, order)(buf, at)``: the number in ``buf[at : at + size]`` (uint8, contiguous), size 1, 2, 4 or 8.

    int64, and never negative; of 8 bytes uint64. Raises IndexError, also where ``at`` is negative.
    """
    return _Load(size, byte_order)


class _Scratch:
    """An array of its own in plain Python, room on the stack in compiled code."""

    def __call__(self, size: int) -> Any:
        return np.zeros(size, np.int64)

    @functools.cached_property
    def _numba_type_(self) -> Any:
        from auditor.kernels import _compile

        return _compile.scratch_type()


scratch: Callable[[int], Any] = _Scratch()
"""``scratch(size)``: int64[size], zero, for use in this very function alone; ``size`` is a constant and not large."""


class _Prefetch:
    """Nothing in plain Python, an instruction in compiled code."""

    def __call__(self, array: Any, at: Any, offset: Any) -> None:
        del array, at, offset

    @functools.cached_property
    def _numba_type_(self) -> Any:
        from auditor.kernels import _compile

        return _compile.prefetching_type()


prefetch: Callable[[Any, Any, Any], None] = _Prefetch()
"""``prefetch(array, at, offset)``: have the line of the cache with byte ``offset`` of ``array[at]`` soon. It reads nothing, so any place will do."""


class _Sha1:
    """Arrays of numpy in plain Python, vectors in compiled code."""

    def __call__(self, messages: Any, rows: Any, at: int, state: Any) -> None:
        block = np.ascontiguousarray(messages[rows, at : at + 64]).view(">u4").astype(np.uint32).T
        with np.errstate(over="ignore"):
            w = list(block)
            for t in range(16, 80):
                w.append(self._rotated(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1))
            before = state.view(np.uint32).reshape(5, SHA1_LANES)
            a, b, c, d, e = before.copy()
            for t in range(80):
                mixed = (d ^ b & (c ^ d), b ^ c ^ d, b & c | d & (b | c), b ^ c ^ d)[t // 20]
                step = self._rotated(a, 5) + mixed + e + SHA1_ADDED[t // 20] + w[t]
                a, b, c, d, e = step, a, self._rotated(b, 30), c, d
            before += np.array([a, b, c, d, e])

    @staticmethod
    def _rotated(x: Any, n: int) -> Any:
        return x << np.uint32(n) | x >> np.uint32(32 - n)

    @functools.cached_property
    def _numba_type_(self) -> Any:
        from auditor.kernels import _compile

        return _compile.sha1_type()


SHA1_LANES = 16
"""So many messages are hashed side by side: two vectors of AVX2, one of AVX-512."""
SHA1_ADDED = tuple(map(np.uint32, (0x5A827999, 0x6ED9EBA1, 0x8F1BBCDC, 0xCA62C1D6)))
"""What is added in each quarter of the rounds."""

sha1_block: Callable[[Any, Any, Any, Any], None] = _Sha1()
"""``sha1_block(messages, rows, at, state)``: one block of SHA-1 (FIPS 180-4 section 6.1.2) of as many messages as there are lanes.

``messages`` uint8[n, m] in C order; ``rows`` int64[SHA1_LANES], the row of each lane's message; its block is the 64 bytes from ``at`` on. ``state``
is memory for uint32[5, SHA1_LANES] as int64. It checks nothing: the caller proves that rows and blocks lie inside, in a BOUNDS comment.
"""
