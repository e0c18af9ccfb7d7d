"""Golden results: what the reports say of a known audit, kept in ``tests/golden/`` and read like code when it changes.

``AUDITOR_GOLDEN=rewrite pytest ...`` (``make golden``) writes them anew.
"""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"


def check(name: str, data: bytes) -> None:
    """``data`` is what ``tests/golden/NAME`` holds."""
    path = FOLDER / name
    if os.environ.get("AUDITOR_GOLDEN") == "rewrite":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return
    assert path.is_file(), f"no golden result {name}; AUDITOR_GOLDEN=rewrite makes it"
    assert data.decode() == path.read_text(encoding="utf-8"), (
        f"{name} differs; AUDITOR_GOLDEN=rewrite takes the new one"
    )
