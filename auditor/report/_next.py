"""From a finding to its proof: commands that show more of it.

They name the captures and options of the audit, so that they can be copied as they stand. Where these are long, ``…`` stands for them in each
command, and what it stands for is reported once.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from auditor.model.audit import Audit
from auditor.policy import shipped

INLINE = 40
"""Captures and options of this length are repeated in every command."""
NAMED = 6
"""Up to this many captures are named; otherwise ``CAPTURE...`` stands for them."""
STANDS = "…"


@dataclass(frozen=True, slots=True)
class Next:
    """Commands to look into the findings of one audit."""

    captures: str
    options: str

    @property
    def again(self) -> str:
        """Captures and options, as the audit had them."""
        return f"{self.captures} {self.options}".strip()

    @property
    def short(self) -> bool:
        """They are repeated in every command."""
        return len(self.again) <= INLINE

    def commands(self, finding: str, *, whole: bool = False) -> tuple[str, ...]:
        """The commands that explain this finding and cut its packets out; ``whole``: without ``…``."""
        shown = self.again if self.short or whole else STANDS
        return (
            f"auditor explain {finding} {shown}",
            f"auditor slice {shown} --finding {finding} -w {finding}.pcapng",
        )

    @property
    def note(self) -> str:
        """What ``…`` stands for; empty where it is not used."""
        return "" if self.short else f"In these commands {STANDS} stands for: {self.again}"


def next_of(audit: Audit) -> Next:
    """The captures and options with which this audit can be repeated."""
    paths = [str(path) for path in audit.captures["path"]]
    captures = " ".join(map(shlex.quote, paths)) if 0 < len(paths) <= NAMED else "CAPTURE..."
    options = audit.info.get("options") or {}
    given: list[tuple[str, str]] = [("--policy", each) for each in _policies(audit)]
    given += [("--release", str(options["release"]))] if options.get("release") else []
    given += [("--inventory", _place(each)) for each in audit.info.get("inventories") or ()]
    given += [("--ca", str(each)) for each in options.get("ca") or ()]
    given += [("--scope", "all")] if options.get("scope") == "all" else []
    return Next(captures, " ".join(f"{name} {shlex.quote(value)}" for name, value in given))


def _place(inventory: Any) -> str:
    return str(inventory.get("path") or inventory.get("name")) if isinstance(inventory, dict) else str(inventory)


def _policies(audit: Audit) -> list[str]:
    """The policies that were asked for, as --policy takes them; none where it was the default."""
    names = [str(each.get("name")) for each in audit.info.get("policies") or () if not each.get("profile")]
    if names in (["tas"], []):
        return []
    ours = set(shipped.names())
    files = [str(file) for file, _ in audit.coverage["origin"]] if "origin" in audit.coverage else []
    own = [file for file in dict.fromkeys(files) if PurePath(file).stem not in ours]
    return [*(name for name in names if name in ours), *(own or ["FILE"] * (not ours.issuperset(names)))]


def candidates(finding: dict[str, Any], first: dict[str, Any] | None) -> tuple[str, ...]:
    """All paths that a finding may be about: where nothing tells components apart there is more than one."""
    path = finding.get("path")
    if not path:
        return ()
    held = tuple(str(each) for each in (first or {}).get("paths") or ())
    return held if path in held else (str(path),)
