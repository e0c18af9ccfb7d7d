"""What only compiling needs: numba.

Machine code is made for one set of types and given one way in from outside, ``int32 entry(slots)``: it takes every argument from an array
of 64-bit slots (an array as the address of its object, where its data, shape and strides are found), calls the function, and puts what it
returns behind them. So whoever calls it needs an address and ctypes, and not numba. The code refers to nothing of numba either: what allocates cannot be compiled like this, which
is as it should be, because a kernel takes its arrays from its caller.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import numba
from llvmlite import binding as llvm
from llvmlite import ir
from numba import types as numba_types
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np import arrayobj

from auditor.errors import AuditorError
from auditor.kernels.accelerate import SHA1_ADDED, SHA1_LANES

# The published types of numba lack much of what it does.
_njit: Any = numba.njit
types: Any = numba_types
_OPTIONS = {"boundscheck": True, "nogil": True, "error_model": "numpy"}

_WORD, _REAL, _STATUS = ir.IntType(64), ir.DoubleType(), ir.IntType(32)
_ALLOWED = frozenset({"NRT_MemInfo_call_dtor", "memcpy", "memmove", "memset", "memcmp"})


def dispatcher(function: Callable[..., Any]) -> Any:
    """``function`` as numba compiles it into others; with no way in from Python, which makes compiling shorter."""
    return _njit(no_cpython_wrapper=True, no_cfunc_wrapper=True, **_OPTIONS)(function)


def callable_by_python(function: Callable[..., Any]) -> Any:
    """``function`` as numba compiles it for Python; kept nowhere."""
    return _njit(**_OPTIONS)(function)


def _type_of(value: Any) -> Any:
    """The type to compile an argument for: all whole numbers are int64."""
    if isinstance(value, tuple):
        inside = [_type_of(each) for each in value]
        if hasattr(value, "_fields"):
            made = types.NamedUniTuple if len(set(inside)) == 1 else types.NamedTuple
            return made(inside[0], len(inside), type(value)) if len(set(inside)) == 1 else made(inside, type(value))
        return types.Tuple(inside)
    found = numba.typeof(value)
    if isinstance(found, types.Boolean):
        return types.boolean
    return types.int64 if isinstance(found, types.Integer) else found


def compile_entry(compiled: Any, given: tuple[Any, ...], symbol: str) -> tuple[str, bytes]:
    """Compile for the types of ``given``: what is returned (a letter each, as ``accelerate._Compiled`` takes it), and object code with ``symbol`` in it."""
    with global_compiler_lock:
        return _compile_entry(compiled, tuple(map(_type_of, given)), symbol)


def _compile_entry(compiled: Any, signature: tuple[Any, ...], symbol: str) -> tuple[str, bytes]:
    compiled.compile(signature)
    result = compiled.overloads[signature]
    context = result.target_context
    module = context.create_module(symbol)
    returns = _entry(context, module, result.fndesc, symbol)
    whole = llvm.parse_assembly(str(module))
    whole.link_in(result.library._get_module_for_linking(), preserve=True)
    whole.verify()
    for function in whole.functions:
        outside = function.is_declaration and not function.name.startswith("llvm.")
        if outside and function.name not in _ALLOWED:
            raise CompileError(f"{symbol} refers to {function.name}: does it allocate?")
    return returns, result.library.codegen._tm.emit_object(whole)


class CompileError(AuditorError):
    """A kernel does what kernels must not."""


def _entry(context: Any, module: Any, described: Any, symbol: str) -> str:
    """The way in, as LLVM's language has it, into ``module``; gives the letters of what is returned."""
    function = ir.Function(module, ir.FunctionType(_STATUS, [_WORD.as_pointer()]), symbol)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    slots = _Slots(builder, function.args[0])
    arguments = [_take(context, builder, slots, each) for each in described.argtypes]
    called = context.declare_function(module, described)
    status, found = context.call_conv.call_function(builder, called, described.restype, described.argtypes, arguments)
    with builder.if_then(status.is_error, likely=False):
        builder.ret(ir.Constant(_STATUS, 1))
    returns = _give(context, builder, slots, described.restype, found)
    builder.ret(ir.Constant(_STATUS, 0))
    return returns


class _Slots:
    """The slots, one after the other."""

    def __init__(self, builder: Any, start: Any) -> None:
        self._builder, self._start, self._next = builder, start, 0

    def place(self, kind: Any = _WORD) -> Any:
        at = self._builder.gep(self._start, [ir.Constant(_WORD, self._next)])
        self._next += 1
        return self._builder.bitcast(at, kind.as_pointer())

    def take(self, kind: Any = _WORD) -> Any:
        return self._builder.load(self.place(kind))


_DATA, _SHAPE, _STRIDES = (object.__basicsize__ + at for at in (0, 16, 24))
"""Where an array's object has them: PyArrayObject_fields (numpy/ndarraytypes.h); ``accelerate`` makes sure of it."""


def _fields(builder: Any, array: Any, ndim: int) -> tuple[Any, list[Any], list[Any]]:
    """Address of the data, shape and strides of the array whose object lies at this address."""

    def word(start: Any, at: int) -> Any:
        place = builder.inttoptr(builder.add(start, ir.Constant(_WORD, at)), _WORD.as_pointer())
        return builder.load(place)

    shape, strides = word(array, _SHAPE), word(array, _STRIDES)
    return (
        word(array, _DATA),
        [word(shape, 8 * k) for k in range(ndim)],
        [word(strides, 8 * k) for k in range(ndim)],
    )


def _take(context: Any, builder: Any, slots: _Slots, kind: Any) -> Any:
    """An argument of this type out of the next slots."""
    if isinstance(kind, types.Array):
        array = context.make_array(kind)(context, builder)
        numbers, shape, strides = _fields(builder, slots.take(), kind.ndim)
        data = builder.inttoptr(numbers, array.data.type)
        size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        arrayobj.populate_array(
            array, data=data, shape=shape, strides=strides, itemsize=ir.Constant(_WORD, size), meminfo=None
        )
        return array._getvalue()
    if isinstance(kind, types.BaseTuple):
        inside = [_take(context, builder, slots, each) for each in kind]
        return context.make_tuple(builder, kind, inside)
    if isinstance(kind, types.Boolean):
        return builder.icmp_unsigned("!=", slots.take(), ir.Constant(_WORD, 0))
    return slots.take(_REAL if isinstance(kind, types.Float) else _WORD)


def _give(context: Any, builder: Any, slots: _Slots, kind: Any, value: Any) -> str:
    """Put what is returned into the next slots."""
    if isinstance(kind, types.NoneType):
        return ""
    if isinstance(kind, types.BaseTuple):
        inside = cgutils.unpack_tuple(builder, value, len(kind))
        return "".join(_give(context, builder, slots, each, one) for each, one in zip(kind, inside, strict=True)) + ","
    if isinstance(kind, types.Float):
        builder.store(context.cast(builder, value, kind, types.float64), slots.place(_REAL))
        return "f"
    if isinstance(kind, types.Boolean):
        builder.store(builder.zext(context.cast(builder, value, kind, types.uint64), _WORD), slots.place())
        return "b"
    if isinstance(kind, types.Integer):
        wide = types.int64 if kind.signed else types.uint64
        builder.store(context.cast(builder, value, kind, wide), slots.place())
        return "i" if kind.signed else "u"
    raise CompileError(f"a kernel returns {kind}")


# What kernels are given beyond the language


def _move_compiled(_typing: Any, target: Any, to: Any, source: Any, at: Any, size: Any) -> Any:
    del to, at, size

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into = context.make_array(signature.args[0])(context, builder, arguments[0])
        out_of = context.make_array(signature.args[2])(context, builder, arguments[2])
        to_place = builder.gep(into.data, [arguments[1]])
        cgutils.raw_memcpy(builder, to_place, builder.gep(out_of.data, [arguments[3]]), arguments[4], 1)
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, types.int64), generate


def _load_compiled(size: int, byte_order: str) -> Callable[..., Any]:
    def define(_typing: Any, buf: Any, at: Any) -> Any:
        del at
        if not isinstance(buf, types.Array) or (buf.dtype, buf.ndim, buf.layout) != (types.uint8, 1, "C"):
            return None

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, arguments[0])
            at = arguments[1]
            # Places where the number fits, none below zero: so one comparison without signs does for both ends.
            fits = builder.sub(array.nitems, _WORD(size - 1))
            fits = builder.select(builder.icmp_signed("<", fits, _WORD(0)), _WORD(0), fits)
            with builder.if_then(builder.icmp_unsigned(">=", at, fits), likely=False):
                context.call_conv.return_user_exc(builder, IndexError, ("index is out of bounds",))
            place = builder.bitcast(builder.gep(array.data, [at]), ir.IntType(size * 8).as_pointer())
            word = builder.load(place, align=1)
            if byte_order != sys.byteorder and size > 1:
                word = builder.bswap(word)
            return word if size == 8 else builder.zext(word, _WORD)

        return (types.uint64 if size == 8 else types.int64)(buf, types.int64), generate

    return define


def _prefetch_compiled(_typing: Any, array: Any, at: Any, offset: Any) -> Any:
    del at, offset

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        here = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        place = builder.gep(builder.bitcast(builder.gep(here.data, [arguments[1]]), byte), [arguments[2]])
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        # To be read, kept in all caches, data.
        told = [place, word(0), word(3), word(1)]
        builder.call(builder.module.declare_intrinsic("llvm.prefetch", [byte], kind), told)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


def _scratch_compiled(_typing: Any, size: Any) -> Any:
    if not isinstance(size, types.IntegerLiteral):
        return None
    room = types.Array(types.int64, 1, "C")

    def generate(context: Any, builder: Any, _signature: Any, _arguments: Any) -> Any:
        n = size.literal_value
        place = cgutils.alloca_once(builder, ir.ArrayType(_WORD, n))
        cgutils.memset(builder, place, ir.Constant(_WORD, n * 8), 0)
        array = context.make_array(room)(context, builder)
        arrayobj.populate_array(
            array,
            data=builder.bitcast(place, array.data.type),
            shape=[ir.Constant(_WORD, n)],
            strides=[ir.Constant(_WORD, 8)],
            itemsize=ir.Constant(_WORD, 8),
            meminfo=None,
        )
        return array._getvalue()

    return room(size), generate


def _sha1_compiled(_typing: Any, messages: Any, rows: Any, at: Any, state: Any) -> Any:
    del at

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data, numbers, kept = (context.make_array(signature.args[k])(context, builder, arguments[k]) for k in (0, 1, 3))
        one, lanes = ir.IntType(32), ir.VectorType(ir.IntType(32), SHA1_LANES)
        stride = builder.extract_value(data.strides, 0)
        words = [ir.Constant(lanes, ir.Undefined) for _ in range(16)]
        for lane in range(SHA1_LANES):
            row = builder.load(builder.gep(numbers.data, [_WORD(lane)]))
            start = builder.gep(data.data, [builder.add(builder.mul(row, stride), arguments[2])])
            start = builder.bitcast(start, one.as_pointer())
            for t in range(16):
                word = builder.load(builder.gep(start, [_WORD(t)]), align=1)
                words[t] = builder.insert_element(words[t], builder.bswap(word), one(lane))

        def every(number: Any) -> Any:
            return ir.Constant(lanes, [one(int(number))] * SHA1_LANES)

        def rotated(x: Any, n: int) -> Any:
            return builder.or_(builder.shl(x, every(n)), builder.lshr(x, every(32 - n)))

        def mixed(quarter: int, b: Any, c: Any, d: Any) -> Any:
            if quarter == 0:
                return builder.xor(d, builder.and_(b, builder.xor(c, d)))
            if quarter == 2:
                return builder.or_(builder.and_(b, c), builder.and_(d, builder.or_(b, c)))
            return builder.xor(builder.xor(b, c), d)

        places = [builder.gep(builder.bitcast(kept.data, lanes.as_pointer()), [_WORD(k)]) for k in range(5)]
        before = [builder.load(place, align=8) for place in places]
        a, b, c, d, e = before
        for t in range(80):
            if t >= 16:
                known = builder.xor(builder.xor(words[t - 3], words[t - 8]), builder.xor(words[t - 14], words[t - 16]))
                words.append(rotated(known, 1))
            step = builder.add(builder.add(rotated(a, 5), mixed(t // 20, b, c, d)), builder.add(e, words[t]))
            step = builder.add(step, every(SHA1_ADDED[t // 20]))
            a, b, c, d, e = step, a, rotated(b, 30), c, d
        for place, old, new in zip(places, before, (a, b, c, d, e), strict=True):
            builder.store(builder.add(old, new), place, align=8)
        return context.get_dummy_value()

    return types.void(messages, rows, types.int64, state), generate


def _type_of_intrinsic(define: Callable[..., Any], prefer_literal: bool) -> Any:
    made: Any = intrinsic(prefer_literal=prefer_literal)
    context = cpu_target.typing_context
    moving = made(define)
    context.refresh()
    return context.resolve_value_type(moving)


@functools.cache
def moving_type() -> Any:
    """The type of ``accelerate.move_bytes`` in compiled code."""
    return _type_of_intrinsic(_move_compiled, prefer_literal=False)


@functools.cache
def prefetching_type() -> Any:
    """The type of ``accelerate.prefetch`` in compiled code."""
    return _type_of_intrinsic(_prefetch_compiled, prefer_literal=False)


@functools.cache
def sha1_type() -> Any:
    """The type of ``accelerate.sha1_block`` in compiled code."""
    return _type_of_intrinsic(_sha1_compiled, prefer_literal=False)


@functools.cache
def loading_type(size: int, byte_order: str) -> Any:
    """The type of ``accelerate.load(size, byte_order)`` in compiled code."""
    return _type_of_intrinsic(_load_compiled(size, byte_order), prefer_literal=False)


@functools.cache
def scratch_type() -> Any:
    """The type of ``accelerate.scratch`` in compiled code."""
    return _type_of_intrinsic(_scratch_compiled, prefer_literal=True)
