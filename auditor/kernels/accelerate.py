"""The one decorator of the hot path.

``kernel`` compiles a function over arrays on its first call and keeps the machine code on disk for the next process. The rules that hold:

- Bounds are checked in production too: captures are hostile, and the check costs about a tenth.
- ``kernel`` functions release the GIL and never raise on purpose; an index out of bounds is an IndexError.
- numba is a compiler, and takes longer to import than most captures take to read. What it made is kept as plain object code with one way
  in (``_compile``); a process that finds the code of all that it calls loads it with LLVM's loader and never imports numba.
- A kernel that calls one of another file, or uses a constant of it, must not go on with old machine code when that file changes: so the
  code lies in a folder named after the content of all of them. The name of a file says for which types and which processor it is.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import numpy as np

from auditor.kernels._folder import PACKAGE, cache_folder

F = TypeVar("F", bound=Callable[..., Any])

_MAGIC = b"auditor kernel 1\n"

_INTERPRETED = os.environ.get("NUMBA_DISABLE_JIT", "0").strip() not in ("", "0")


_FOLDER = cache_folder()


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
_FAILED = 1


class _Compiled:
    """One kernel's machine code for one set of argument types."""

    __slots__ = ("_call", "_engine", "_name", "_returns", "_size")

    def __init__(self, name: str, symbol: str, returns: str, code: bytes) -> None:
        """``returns``: a letter for each value that is returned, with a comma behind them where it is a tuple. Raises RuntimeError: no object code."""
        llvm, self._engine, _ = _llvm()
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        address = self._engine.get_function_address(symbol)
        if not address:
            raise RuntimeError(f"no {symbol} in its machine code")
        self._call = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)(address)
        self._name = name
        self._returns = returns
        self._size = len(returns.rstrip(","))

    def __call__(self, values: list[int | float]) -> Any:
        """``values`` as ``_flatten`` gives them."""
        n = len(values)
        slots = (_Slot * (n + self._size))()
        for slot, value in zip(slots, values, strict=False):
            if isinstance(value, float):
                slot.real = value
            else:
                slot.whole = value
        if self._call(ctypes.addressof(slots)) == _FAILED:
            raise IndexError(f"{self._name}: index is out of bounds")
        found = [_READ[letter](slots[n + k]) for k, letter in enumerate(self._returns) if letter != ","]
        if self._returns.endswith(","):
            return tuple(found)
        return found[0] if found else None


class _Slot(ctypes.Union):
    """What goes in and out of machine code: 64 bits each."""

    _fields_ = (("whole", ctypes.c_int64), ("real", ctypes.c_double), ("natural", ctypes.c_uint64))


_READ: dict[str, Callable[[Any], Any]] = {
    "i": lambda slot: slot.whole,
    "u": lambda slot: slot.natural,
    "f": lambda slot: slot.real,
    "b": lambda slot: bool(slot.whole & 1),
}

_C_ORDER, _F_ORDER, _ALIGNED, _WRITEABLE = 0x1, 0x2, 0x100, 0x400
_OF_TYPE = _C_ORDER | _F_ORDER | _ALIGNED | _WRITEABLE


class _NoPlainArgumentError(Exception):
    """An argument that only numba knows how to hand over."""


def _flatten(given: tuple[Any, ...], values: list[int | float]) -> tuple[Any, ...]:
    """The arguments as numbers, behind what is in ``values``; and their types, as something to look up by.

    An array is its address, shape and strides; a tuple what is in it.
    """
    types: list[Any] = []
    for each in given:
        if isinstance(each, np.ndarray):
            values.append(each.ctypes.data)
            values.extend(each.shape)
            values.extend(each.strides)
            flags = each.flags.num & _OF_TYPE
            # A table of one row is in the order of columns, too: it needs no machine code of its own.
            types.append((each.dtype, each.ndim, flags & ~_F_ORDER if flags & _C_ORDER else flags))
        elif isinstance(each, bool | np.bool_):
            values.append(int(each))
            types.append(bool)
        elif isinstance(each, int | np.integer):
            values.append(int(each))
            types.append(int)
        elif isinstance(each, float):
            values.append(float(each))
            types.append(float)
        elif isinstance(each, tuple) and each:
            types.append((type(each), _flatten(each, values)))
        else:
            raise _NoPlainArgumentError
    return tuple(types)


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
            words.append(f"{dtype!r}/{dtype.itemsize}/{dtype.isalignedstruct}[{ndim}]{flags}")
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
        values: list[int | float] = []
        try:
            types = _flatten(given, values)
        except _NoPlainArgumentError:
            return self._by_numba(*given)
        compiled = self._ready.get(types)
        if compiled is None:
            compiled = self._ready[types] = self._find(types, given)
        return compiled(values)

    @functools.cached_property
    def _by_numba(self) -> Any:
        """For what is called with records and the like: by tests, not by an audit."""
        from auditor.kernels import _compile

        return _compile.callable_by_python(self.py_func)

    def _find(self, types: tuple[Any, ...], given: tuple[Any, ...]) -> _Compiled:
        """The machine code for these types: loaded, or compiled and kept."""
        name = f"{self.py_func.__module__.rpartition('.')[2]}.{self.py_func.__qualname__}"
        told = f"{_llvm()[2]}\n{_told(types)}\n".encode() + _foreign_source(self.py_func)
        mark = hashlib.sha256(told).hexdigest()[:16]
        symbol = f"auditor_{name}_{mark}"
        file = _FOLDER / f"{name.replace('<locals>', '_')}-{mark}.o"
        found = _kept(file)
        if found is not None:
            return _Compiled(name, symbol, *found)
        from auditor.kernels import _compile

        returns, code = _compile.compile_entry(self.dispatcher, given, symbol)
        _keep(file, returns, code)
        return _Compiled(name, symbol, returns, code)


def _foreign_source(function: Callable[..., Any]) -> bytes:
    """The file of a function that is none of the package's: the folder is not named after its content."""
    file = Path(function.__code__.co_filename)
    return b"" if file.parent == PACKAGE / "kernels" or not file.is_file() else file.read_bytes()


def _kept(file: Path) -> tuple[str, bytes] | None:
    """What a kernel returns and its object code; None where there is none, or not all of it."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    head, _, rest = data[len(_MAGIC) :].partition(b"\n")
    returns, _, digest = head.decode("ascii", "replace").partition(" ")
    if not data.startswith(_MAGIC) or hashlib.sha256(rest).hexdigest() != digest:
        return None
    return returns, rest


def _keep(file: Path, returns: str, code: bytes) -> None:
    """Whole or not at all: other processes look for it at the same time. Not kept where the disk is full: then it is made again."""
    head = f"{returns} {hashlib.sha256(code).hexdigest()}\n".encode()
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as made:
            made.write(_MAGIC + head + code)
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
    """``function`` as plain Python where compiling is switched off (NUMBA_DISABLE_JIT=1): numpy then checks every index.

    Records have their fields as attributes there as in compiled code, and unsigned numbers wrap around as silently.
    """

    @functools.wraps(function)
    def interpreted(*given: Any) -> Any:
        taken = (
            each.view(np.recarray) if isinstance(each, np.ndarray) and each.dtype.names is not None else each
            for each in given
        )
        with np.errstate(over="ignore"):
            return function(*taken)

    interpreted.__dict__["py_func"] = interpreted
    return interpreted


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

    def __call__(self, array: Any, at: Any) -> None:
        del array, at

    @functools.cached_property
    def _numba_type_(self) -> Any:
        from auditor.kernels import _compile

        return _compile.prefetching_type()


prefetch: Callable[[Any, Any], None] = _Prefetch()
"""``prefetch(array, at)``: have the start of ``array[at]`` in the cache soon. It reads nothing, so any place will do."""
