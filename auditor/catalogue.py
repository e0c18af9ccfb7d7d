"""Finding what a folder offers: adding a protocol, a rule or a format is adding a file.

A module offers itself by one attribute (``INSPECTOR``, ``RULE``, ``FORMAT``). Modules whose name starts with ``_`` are helpers.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from typing import Any


@cache
def discover(package: str, attribute: str) -> tuple[Any, ...]:
    """The attribute of every module of the package, in the order of module names.

    Raises TypeError where a module forgot it: a file that nobody would ever call is a mistake.
    """
    root = importlib.import_module(package)
    found = []
    for info in sorted(pkgutil.iter_modules(root.__path__), key=lambda each: each.name):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package}.{info.name}")
        if not hasattr(module, attribute):
            raise TypeError(f"{module.__name__} offers no {attribute}")
        found.append(getattr(module, attribute))
    return tuple(found)
