"""Facts that frames show."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from auditor.model.streams import StreamHead


class Certainty(StrEnum):
    PROVEN = "proven"
    """The frames show it directly."""
    INFERRED = "inferred"
    """It follows from indirect signs, such as the record lengths of an encrypted handshake."""
    INHERITED = "inherited"
    """It was seen in the connection that this one resumes."""


class Evidence(NamedTuple):
    """One fact; never a secret: that a password crossed is evidence, the password is not."""

    kind: str
    """Dotted name, protocol first: ``tls.version``, ``nats.auth_required``, ``http.authorization``."""
    value: Any
    """bool, int, str, None, or a tuple of these; None: seen and undecided."""
    certainty: Certainty
    frames: tuple[int, ...] = ()
    """Frame numbers in the connection's capture, from 1."""


@dataclass(frozen=True, slots=True)
class Handover:
    """The protocol turns into another (NATS into TLS): the next inspector starts at these offsets of both heads."""

    protocol: str
    orig_at: int
    resp_at: int
    carried: tuple[StreamHead, StreamHead] | None = None
    """Where the other protocol travels inside this one (QUIC, DTLS): its own bytes, client and server, and the offsets mean nothing."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A certificate as it was sent: kept beside the evidence, which refers to it by ``fingerprint``; it is in no output."""

    fingerprint: str
    """SHA-256 in hex."""
    der: bytes
