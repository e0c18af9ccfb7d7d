"""Units as people read them: one way for every report, finding and progress line."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes in the largest fitting unit: ``950 B``, ``180.4 KiB``, ``2.1 GiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:,.0f} B" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    raise AssertionError
