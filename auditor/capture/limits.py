"""How much a capture may ask of the machine. Each limit that is hit stops the reading and is told as a Problem."""

from __future__ import annotations

from dataclasses import dataclass

from auditor.model.frames import BATCH_BYTES

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CaptureLimits:
    """Limits of reading one capture; the defaults are far above what real captures need."""

    frame_bytes: int = 16 * MIB
    """A frame whose header claims more is corrupt. The snaplen is not asked: files often lie about it."""
    block_bytes: int = 16 * MIB
    """The same for pcapng blocks that must be read whole (section, interface, statistics)."""
    interfaces: int = 65_536
    """Interfaces of all sections of a pcapng together."""
    expanded_bytes: int = 256 * 1024 * MIB
    """What a compressed capture may expand to."""
    expansion_ratio: int = 250
    """Expanded bytes for one compressed byte; captures of real traffic stay below 50."""
    expansion_free_bytes: int = 64 * MIB
    """The ratio is not looked at before this much has come out: small captures may be very repetitive."""
    window_bytes: int = 128 * MIB
    """History a zstd or xz stream may ask the decoder to keep."""
    buffer_bytes: int = BATCH_BYTES
    """How much of a capture is held at once; a larger frame makes it grow, up to ``frame_bytes``."""
    nesting: int = 2
    """Compressions around one another."""
