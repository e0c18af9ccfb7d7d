"""Diego flow auditor: from packet captures to documented, undeclared and wrongly authenticated connections.

``auditor.audit(captures, policy=..., inventory=...)`` gives a ``Report``; the command line is a thin layer on it.
"""

from __future__ import annotations

from auditor.model.version import VERSION

TYPE_CHECKING = False  # type checkers take it for true; importing typing would delay the Ctrl-C handling
if TYPE_CHECKING:
    from typing import Any

    from auditor.api import Report, audit, connections, services
    from auditor.errors import AuditorError, ConfigError, InputError, MissingToolError, NotACaptureError
    from auditor.model.limits import Limits
    from auditor.model.roles import Severity
    from auditor.policy.inventory import Inventory, load_inventory
    from auditor.policy.loader import load_policy
    from auditor.policy.policy import Policy

__version__ = VERSION

_HANDED_ON = {
    "auditor.api": ("Report", "audit", "connections", "services"),
    "auditor.errors": ("AuditorError", "ConfigError", "InputError", "MissingToolError", "NotACaptureError"),
    "auditor.model.limits": ("Limits",),
    "auditor.model.roles": ("Severity",),
    "auditor.policy.inventory": ("Inventory", "load_inventory"),
    "auditor.policy.loader": ("load_policy",),
    "auditor.policy.policy": ("Policy",),
}
_PLACES = {name: module for module, names in _HANDED_ON.items() for name in names}

__all__ = [
    "AuditorError",
    "ConfigError",
    "InputError",
    "Inventory",
    "Limits",
    "MissingToolError",
    "NotACaptureError",
    "Policy",
    "Report",
    "Severity",
    "__version__",
    "audit",
    "connections",
    "load_inventory",
    "load_policy",
    "services",
]


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__name__", "__file__"])


def __getattr__(name: str) -> Any:
    # Imported lazily: numba and pandas take longer to import than `auditor --help` may take.
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'auditor' has no attribute {name!r}")
