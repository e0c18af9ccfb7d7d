"""Writes docs/auditor.1, the manual page, anew from the help of every command."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from auditor.cli._man import manual  # noqa: E402


def main() -> None:
    """Write the page."""
    (HERE / "auditor.1").write_text(manual(), encoding="utf-8")


if __name__ == "__main__":
    main()
