"""The one decorator of the hot path.

``kernel`` compiles a function over arrays on its first call and keeps the machine code on disk for the next process. Bounds are checked
in production too: captures are hostile, and the check costs about a tenth. (numba's cache does not notice the environment
variable for it, so it is set here.) ``kernel`` functions release the GIL and never raise on purpose.

numba's cache looks at the file of a function alone: a kernel that calls one of another file, or uses a constant of it, would go on
with the old machine code when only that file changed. So the code is kept in a folder named after the content of all of them.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

# The published types of numba lack its configuration and some of its options.
_config: Any = numba.config
_njit: Any = numba.njit

_PACKAGE = Path(__file__).resolve().parents[1]
_BAKED_IN = ("kernels", "model", "wire")
_KEPT = 3


def _source_hash() -> str:
    """16 hexadecimal digits over everything that is compiled into kernels, and the compiler."""
    digest = hashlib.sha256(f"{numba.__version__}".encode())
    for folder in _BAKED_IN:
        for file in sorted((_PACKAGE / folder).glob("*.py")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def cache_folder() -> Path:
    """Where the machine code of these very sources lies: NUMBA_CACHE_DIR, else beside them, else in the user's cache, else a temporary folder."""
    stated = os.environ.get("NUMBA_CACHE_DIR")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diego-flow-auditor"
    places = [Path(stated)] if stated else [_PACKAGE / "kernels" / "__pycache__" / "compiled", user]
    name = _source_hash()
    for place in places:
        if (place / name).is_dir() and os.access(place / name, os.W_OK):
            return place / name
        if _writable(place / name):
            _forget(place, name)
            return place / name
    # Never a name that others could guess and fill: machine code is loaded from here.
    return Path(tempfile.mkdtemp(prefix="diego-flow-auditor-"))


def _forget(place: Path, name: str) -> None:
    """Remove what older sources left, but for the newest few: another version may be in use beside this one."""
    older = sorted((each for each in place.iterdir() if each.name != name and len(each.name) == len(name)), key=_age)
    for each in older[:-_KEPT]:
        shutil.rmtree(each, ignore_errors=True)


def _age(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0


_FOLDER = str(cache_folder())
_compile = _njit(cache=True, boundscheck=True, nogil=True, error_model="numpy")


def kernel(function: F) -> F:
    """Compiled twin of ``function``; the plain one stays reachable as ``.py_func``."""
    if _config.DISABLE_JIT:
        return _plain(function)
    # numba reads the folder while it decorates; other users of numba in this process keep theirs.
    before = _config.CACHE_DIR
    _config.CACHE_DIR = _FOLDER
    try:
        return cast("F", _compile(function))
    finally:
        _config.CACHE_DIR = before


def _plain(function: F) -> F:
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
    return cast("F", interpreted)


_compile_inner = _njit(
    boundscheck=True, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
)


def inner(function: F) -> F:
    """Like ``kernel``, for what only kernels call: no way in from Python and no file of its own, which makes compiling shorter."""
    return cast("F", _compile_inner(function))


def _move_plainly(target: Any, to: Any, source: Any, at: Any, size: Any) -> None:
    target[to : to + size] = source[at : at + size]


def _move_compiled(_typing: Any, target: Any, to: Any, source: Any, at: Any, size: Any) -> Any:
    del to, at, size

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        into = context.make_array(signature.args[0])(context, builder, arguments[0])
        out_of = context.make_array(signature.args[2])(context, builder, arguments[2])
        to_place = builder.gep(into.data, [arguments[1]])
        cgutils.raw_memcpy(builder, to_place, builder.gep(out_of.data, [arguments[3]]), arguments[4], 1)
        return context.get_dummy_value()

    return types.void(target, types.int64, source, types.int64, types.int64), generate


move_bytes: Callable[[Any, Any, Any, Any, Any], None] = (
    _move_plainly if _config.DISABLE_JIT else cast("Any", intrinsic(_move_compiled))
)
"""``move_bytes(target, to, source, at, size)``: ``source[at : at + size]`` to ``target[to:]``, thirty times as fast as slices in a kernel.

It checks nothing: the caller proves that both stretches lie inside their arrays, in a BOUNDS comment. Not a function, so that
a call costs no atomic reference counts either.
"""
