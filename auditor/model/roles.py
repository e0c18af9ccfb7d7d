"""What a plug-in file must define: an inspector, a rule or an output format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from auditor.model.evidence import Attachment, Evidence, Handover
from auditor.model.streams import Streams


class Match(Enum):
    """A probe's answer for the bytes so far; YES and NO never change when more bytes arrive."""

    YES = "yes"
    NO = "no"
    MORE = "more"


@dataclass(frozen=True, slots=True)
class Signature:
    """A cheap first look: these bytes (under this mask) stand at this offset of what this side said first.

    An inspector's ``signatures`` are alternatives; each is tried by a compiled kernel over every connection, and only where one
    holds is ``probe`` asked.
    """

    side: Literal["client", "server"]
    value: bytes
    at: int = 0
    mask: bytes | None = None
    decides: bool = False
    """Where all of it stands there, ``probe`` says YES, whatever else there is: where nothing but the protocol is asked for, it need not be asked."""


@dataclass(frozen=True, slots=True)
class Inspector:
    """A protocol. ``streams.orig`` is the client in ``probe`` and ``inspect``."""

    name: str
    """As in the ``application`` column."""
    transports: frozenset[str]
    ports: frozenset[int]
    """They order the probing, no more."""
    signatures: tuple[Signature, ...]
    probe: Callable[[Streams], Match]
    inspect: Callable[[Streams], Iterator[Evidence | Handover | Attachment]]
    greets: bool = False
    """The server speaks first, in the clear; a client that answers with a TLS hello has turned the protocol into TLS."""
    turned: Callable[[Streams], str | None] | None = None
    """Of settled streams that it was asked YES for: what it turned into, and is called from then on; None: nothing."""
    turns_into: tuple[str, ...] = ()
    """All that ``turned`` says."""
    at_home: tuple[frozenset[int], Callable[[Streams], bool]] | None = None
    """UDP ports, and a look at what nothing else was recognised in there: what has no mark of its own is believed at home only, where its form fits."""
    greetings: (
        Callable[[NDArray[np.uint8], NDArray[Any], NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]], None]
        | None
    ) = None
    """A compiled look at many connections' heads (arena, heads, slots of servers and of clients, where to tell): which of them ``probe`` says YES to. It
    may leave some out. Where nothing but the protocol is asked for, only those are asked for."""


class Severity(IntEnum):
    INFO = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4

    @property
    def word(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Rule:
    """A finding rule: ``check`` takes an ``auditor.model.audit.Judged`` and yields ``Finding``."""

    name: str
    severity: Severity
    check: Callable[[Any], Iterator[Any]]


@dataclass(frozen=True, slots=True)
class Format:
    """An output format."""

    name: str
    suffix: str
    write: Callable[..., None]
    """``write(audit, out, *, table=None, color=False, width=80)``: ``out`` is a binary stream unless ``folder``."""
    folder: bool = False
    """Writes a folder of files, not one stream (parquet): ``out`` is then a ``pathlib.Path``."""
    tables: bool = False
    """Writes one table at a time, chosen with ``--table``."""


Out = IO[bytes]
