"""The decorators of the hot path.

``kernel`` compiles a function over arrays on its first call and keeps the machine code on disk for the next process. Bounds are checked
in production too: captures are hostile, and the check costs about a tenth. (numba's cache does not notice the environment
variable for it, so it is set here.) ``kernel`` functions release the GIL and never raise on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])

_compile: Any = numba.njit(cache=True, boundscheck=True, nogil=True, error_model="numpy")


def kernel(function: F) -> F:
    """Compiled twin of ``function``; the plain one stays reachable as ``.py_func``."""
    compiled: F = _compile(function)
    return compiled


_SHORTER: Any = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_compile_inner: Any = numba.njit(boundscheck=True, nogil=True, error_model="numpy", **_SHORTER)


def inner(function: F) -> F:
    """Like ``kernel``, for what only kernels call: no way in from Python and no file of its own, which makes compiling shorter."""
    compiled: F = _compile_inner(function)
    return compiled
