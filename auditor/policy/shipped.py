"""Where the policies that come with the package are: beside the package in a checkout, inside it once installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

BASE = "tas-diego"
"""The documented table: what overlays add to, and where roles are named."""
DEFAULT = "tas"
"""What audits go by where no policy is named: the table and all overlays."""

_PACKAGE = Path(__file__).resolve().parents[1]


@cache
def folder() -> Path | None:
    """The folder of shipped policies; None where someone removed it."""
    for place in (_PACKAGE / "_data" / "policies", _PACKAGE.parent / "policies"):
        if (place / f"{BASE}.yml").is_file():
            return place
    return None


@cache
def names() -> tuple[str, ...]:
    """Names of the shipped policies, the table first."""
    place = folder()
    if place is None:
        return ()
    found = sorted(each.stem for each in place.glob("*.yml"))
    return tuple(sorted(found, key=lambda name: (name != BASE, name)))


def find(name: str) -> Path | None:
    """The file of a shipped policy, or None."""
    place = folder()
    return place / f"{name}.yml" if place is not None and name in names() else None
