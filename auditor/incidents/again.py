"""From a finding to its proof: commands that show more of it.

They name the captures and options of the audit, so that they can be copied as they stand.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from auditor.model.audit import Audit
from auditor.policy import shipped

DEPENDS = "an id depends on policy and inventory: repeat --inventory, --policy and the other options of the audit that found it"
"""What to do about a finding's id that is not found."""
NAMED = 6
"""Up to this many captures are named; otherwise ``CAPTURE...`` stands for them."""


def file_word(path: str) -> str:
    """A file as one word of a shell's command, that no program takes for an option."""
    return shlex.quote(f"./{path}" if path.startswith("-") else path)


@dataclass(frozen=True, slots=True)
class Next:
    """Commands to look into the findings of one audit."""

    captures: str
    options: str
    reading: str = ""
    """Those of the options that decide how packets are read."""

    @property
    def again(self) -> str:
        """Captures and options, as the audit had them."""
        return f"{self.captures} {self.options}".strip()

    def commands(self, finding: str) -> tuple[str, ...]:
        """The commands that explain this finding and cut its packets out."""
        return (
            f"auditor explain {finding} {self.again}",
            f"auditor slice {self.again} --finding {finding} -w {finding}.pcapng",
        )

    def connection(self, connection: str) -> str:
        """What cuts a connection out: whose it is, and what is thought of it, does not matter."""
        words = ["auditor slice", self.captures, self.reading, f"--connection {connection} -w {connection[:10]}.pcapng"]
        return " ".join(filter(None, words))

    def host(self, address: str) -> str:
        """The page of an address or VM."""
        return f"auditor audit {self.again} --host {shlex.quote(address)}"


def next_of(audit: Audit) -> Next:
    """The captures and options with which this audit can be repeated."""
    paths = [str(path) for path in audit.captures["path"]]
    captures = " ".join(map(file_word, paths)) if 0 < len(paths) <= NAMED else "CAPTURE..."
    options = audit.info.get("options") or {}
    given: list[tuple[str, str]] = [("--policy", each) for each in _policies(audit)]
    given += [("--release", str(options["release"]))] if options.get("release") else []
    given += [("--inventory", _place(each)) for each in audit.info.get("inventories") or ()]
    given += [("--ca", str(each)) for each in options.get("ca") or ()]
    given += [("--keylog", str(options["keylog"]))] if options.get("keylog") else []
    given += [("--scope", "all")] if options.get("scope") == "all" else []
    given += [(f"--{name}", str(at)) for name, at in (audit.info.get("window") or {}).items() if at]
    words = [f"{name} {shlex.quote(value)}" for name, value in given]
    words += ["--strict"] if options.get("strict") else []
    reading = " ".join(_reading(options))
    return Next(captures, " ".join([*words, *([reading] if reading else [])]), reading)


def _reading(options: Mapping[str, Any]) -> Iterator[str]:
    """What decides how packets are read, whatever is asked of them."""
    if options.get("linktype") is not None:
        yield f"--linktype {options['linktype']}"
    for name, value in (options.get("limits") or {}).items():
        yield f"--limit {shlex.quote(f'{name}={value}')}"


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
    """All paths that a finding may be about: more than one if the components cannot be distinguished."""
    path = finding.get("path")
    if not path:
        return ()
    held = tuple(str(each) for each in (first or {}).get("paths") or ())
    return held if path in held else (str(path),)
