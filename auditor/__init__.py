"""Diego flow auditor: from packet captures to documented, undeclared and wrongly authenticated connections.

``auditor.audit(captures, policy=..., inventory=...)`` gives a ``Report``; the command line is a thin layer on it.
"""

from __future__ import annotations

from auditor.model.version import VERSION

TYPE_CHECKING = False  # checkers take it for true; typing would be imported before the program sees to Ctrl-C
if TYPE_CHECKING:
    from typing import Any

    from auditor.api import Report, audit
    from auditor.model.limits import Limits

__version__ = VERSION

__all__ = ["Limits", "Report", "__version__", "audit"]


def __getattr__(name: str) -> Any:
    # Handed on lazily: numba and pandas take longer to import than `auditor --help` may take.
    if name in ("audit", "Report"):
        from auditor import api

        return getattr(api, name)
    if name == "Limits":
        from auditor.model.limits import Limits

        return Limits
    raise AttributeError(f"module 'auditor' has no attribute {name!r}")
