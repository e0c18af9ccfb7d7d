"""How much an audit may ask of the machine: every limit, its default and what it is for, in one place.

The rules that hold here:

- A limit that is reached is reported: as a Problem of kind ``limit`` of the capture that hit it, with how often and how to raise it. That makes
  the audit incomplete; nothing is dropped in silence.
- Defaults are far above what captures of a platform need, and together stay below the memory of a small VM.
- Numbers that a protocol's standard fixes are no limits; they stand in ``wire/``. How many first bytes of a direction are kept
  (``model.streams.HEAD_BYTES``) is compiled in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from auditor.errors import ConfigError, did_you_mean

KIB, MIB, GIB = 1024, 1024**2, 1024**3
_UNITS = {"": 1, "K": KIB, "M": MIB, "G": GIB}
_VALUE = re.compile(r"(\d{1,15})(?:([KMG])(?:i?B)?)?", re.IGNORECASE)


def _limit(default: int, least: int, most: int, says: str) -> Any:
    return field(default=default, metadata={"least": least, "most": most, "says": says})


@dataclass(frozen=True, slots=True)
class Limits:
    """All limits; immutable, and the same for every capture of an audit.

    Raises ConfigError where a value is outside its bounds.
    """

    captures: int = _limit(10_000, 1, 10**9, "captures that one audit reads")
    connections: int = _limit(2_000_000, 1, 10**9, "connections held, all captures together")
    memory_bytes: int = _limit(0, 0, 1 << 50, "memory of a process that follows packets; 0: half of the machine's")
    first_bytes: int = _limit(96 * MIB, 64 * KIB, 64 * GIB, "first bytes of open connections held")
    waiting_bytes: int = _limit(256 * MIB, 0, 64 * GIB, "first bytes held until other captures are read")
    tunnel_depth: int = _limit(5, 0, 200, "tunnels opened around each other")
    certificate_bytes: int = _limit(64 * KIB, 0, 16 * MIB, "size of a certificate that is read")
    certificates_bytes: int = _limit(64 * MIB, 0, 16 * GIB, "size of all distinct certificates of a capture")
    line_bytes: int = _limit(8 * KIB, 64, MIB, "length of a line of a text protocol")
    frame_bytes: int = _limit(16 * MIB, 64, GIB, "a frame that claims more is corrupt, whatever the snaplen says")
    block_bytes: int = _limit(16 * MIB, 64, GIB, "a pcapng block that must be read whole")
    interfaces: int = _limit(16_384, 1, 10**7, "interfaces of a pcapng, all sections together")
    expanded_bytes: int = _limit(256 * GIB, 1, 10**15, "what a compressed capture may expand to")
    expansion_ratio: int = _limit(250, 1, 10**9, "expanded bytes for one compressed byte")
    expansion_free_bytes: int = _limit(64 * MIB, 0, 10**15, "expanded before the ratio is looked at")
    window_bytes: int = _limit(128 * MIB, 64 * KIB, 4 * GIB, "history that a zstd or xz stream may ask for")
    nesting: int = _limit(2, 0, 16, "compressions around one another")
    buffer_bytes: int = _limit(4 * MIB, 64, GIB, "how much of a capture is read at once")
    follow_idle_seconds: int = _limit(0, 0, 10**9, "--follow ends after so long without a new byte; 0: never")

    def __post_init__(self) -> None:
        for each in fields(self):
            value, least, most = getattr(self, each.name), each.metadata["least"], each.metadata["most"]
            if not isinstance(value, int) or not least <= value <= most:
                raise ConfigError("--limit", f"{each.name}={value} is out of bounds", hint=f"from {least} to {most}")

    def changed(self) -> dict[str, int]:
        """Those that are not the default."""
        return {
            each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) != each.default
        }


DEFAULTS = Limits()


def memory_allowed(
    limits: Limits, files: Iterable[str] = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
) -> int:
    """Bytes that a process may hold while it follows packets: half of what the machine, or its control group, has where none is stated."""
    if limits.memory_bytes:
        return limits.memory_bytes
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in files:
        try:
            text = Path(file).read_text("ascii").strip()
        except (OSError, ValueError):
            continue
        has = min(has, int(text)) if text.isdigit() else has
    return has // 2


def memory_held() -> int:
    """Memory of this process now, in bytes; 0: unknown on this system."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def described() -> list[tuple[str, str, str]]:
    """Name, default and meaning of every limit, for people."""
    return [(each.name, shown(each.name, each.default), each.metadata["says"]) for each in fields(Limits)]


def shown(name: str, value: Any) -> str:
    """A limit's value as ``--limit`` takes it."""
    if name.endswith("_bytes"):
        for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
            if value and value % size == 0:
                return f"{value // size}{unit}"
    return str(value)


def parse_limits(given: Iterable[str], base: Limits = DEFAULTS) -> Limits:
    """``NAME=VALUE`` texts; VALUE is a whole number, with K, M or G (or KiB, ...) behind it. Raises ConfigError."""
    found: dict[str, int] = {}
    names = [each.name for each in fields(Limits)]
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in names:
            raise ConfigError(
                "--limit", f"unknown limit {name!r}", hint=did_you_mean(name, names, f"one of {', '.join(names)}")
            )
        match = _VALUE.fullmatch(value.strip().replace("_", ""))
        if not equals or match is None:
            raise ConfigError("--limit", f"{text!r} has no number", hint=f"{name}=NUMBER, with K, M or G if need be")
        found[name] = int(match[1]) * _UNITS[(match[2] or "").upper()]
    return replace(base, **found)


def told(name: str, limits: Limits, what: str) -> str:
    """The message for a limit that was reached: which one, its value, and how to raise it."""
    value = getattr(limits, name)
    return f"{what}: the limit {name} is {shown(name, value)}; --limit {name}=N sets another"
