"""Mutual TLS between agents, their collector and who asks for packets; and the few messages that cross it.

Both ends show a certificate of the operator's own CA, and are who it names. A message is a length and MessagePack, bounded before it is read: whoever breaks the
rules loses the connection, and nothing else happens.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from auditor.errors import ConfigError, WireError

LENGTH: Final = 4
MOST_MESSAGE: Final = (64 << 20) + 65_536
MOST_SMALL: Final = 65_536
"""What is no window is smaller."""
COLLECTOR_PORT, AGENT_PORT = 7444, 7445


class Hello(msgspec.Struct, tag="hello", forbid_unknown_fields=True):
    """An agent begins."""

    agent: str
    life: str
    now_ns: int
    window_ns: int


class Welcome(msgspec.Struct, tag="welcome", forbid_unknown_fields=True):
    """The collector knows the agent."""

    known: int
    """All windows up to this number are there; 0: none."""


class Delivery(msgspec.Struct, tag="window", forbid_unknown_fields=True):
    """A window."""

    number: int
    window: bytes


class Alive(msgspec.Struct, tag="alive", forbid_unknown_fields=True):
    """Nothing to send, and still there."""

    now_ns: int


class Taken(msgspec.Struct, tag="taken", forbid_unknown_fields=True):
    """A window is on the collector's disk."""

    number: int


class Later(msgspec.Struct, tag="later", forbid_unknown_fields=True):
    """No room now: the same again after so many seconds."""

    seconds: float
    says: str


class Refused(msgspec.Struct, tag="refused", forbid_unknown_fields=True):
    """Why not."""

    says: str


class Wanted(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A connection whose packets are asked for; addresses as 128 bits in hexadecimal."""

    id: str
    originator: str
    originator_port: int
    responder: str
    responder_port: int
    protocol: int
    first_ns: int
    last_ns: int


class Ask(msgspec.Struct, tag="ask", forbid_unknown_fields=True):
    """Packets are asked for."""

    connections: list[Wanted]


class Packets(msgspec.Struct, tag="packets", forbid_unknown_fields=True):
    """A piece of a capture file; the last one is empty."""

    data: bytes


FromAgent = Hello | Delivery | Alive
FromCollector = Welcome | Taken | Later | Refused
Kind = TypeVar("Kind")

_encoder = msgspec.msgpack.Encoder()
_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def message(each: msgspec.Struct) -> bytes:
    """As it crosses the wire."""
    raw = _encoder.encode(each)
    return len(raw).to_bytes(LENGTH, "big") + raw


def size_of(raw: bytes, most: int) -> int:
    """How long the message is that these bytes announce. Raises WireError."""
    size = int.from_bytes(raw, "big")
    if not 0 < size <= most:
        raise WireError("a message is empty or too long")
    return size


def parsed(raw: bytes, kinds: Any) -> Any:
    """The message, one of these. Raises WireError."""
    decoder = _decoders.get(kinds)
    if decoder is None:
        decoder = _decoders[kinds] = msgspec.msgpack.Decoder(kinds)
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        raise WireError("a message is none that is known") from None


def receive(connection: ssl.SSLSocket, kinds: Any, most: int = MOST_SMALL) -> Any:
    """The next message of a blocking connection. Raises WireError, OSError; EOFError where it was closed."""
    size = size_of(_exactly(connection, LENGTH), most)
    return parsed(_exactly(connection, size), kinds)


def _exactly(connection: ssl.SSLSocket, size: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < size:
        piece = connection.recv(min(size - len(pieces), 1 << 20))
        if not piece:
            raise EOFError
        pieces += piece
    return bytes(pieces)


def context(ca: str, certificate: str, key: str, *, server: bool) -> ssl.SSLContext:
    """TLS 1.3 with certificates on both ends. Raises ConfigError where a file cannot be used."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_mode = ssl.CERT_REQUIRED
    hint = "auditor agent --make-certificates FOLDER makes a CA and certificates"
    for path in (ca, certificate, key):
        if not os.access(path, os.R_OK):
            raise ConfigError(path, "cannot be read", hint=hint)
    try:
        made.load_verify_locations(ca)
    except (OSError, ValueError):
        raise ConfigError(ca, "is no CA certificate in PEM", hint=hint) from None
    try:
        made.load_cert_chain(certificate, key, password=_no_password)
    except (OSError, ValueError):
        raise ConfigError(
            certificate, f"and {key} are no certificate and its key, without a password, in PEM", hint=hint
        ) from None
    return made


def _no_password() -> str:
    """A key with a password would be asked for on a terminal."""
    return ""


def names_of(peer: Mapping[str, Any] | None) -> set[str]:
    """The names in a peer's certificate: those of its subjectAltName, else its common name."""
    told = peer or {}
    alternative = {value for kind, value in told.get("subjectAltName", ()) if kind == "DNS"}
    common = {value for part in told.get("subject", ()) for kind, value in part if kind == "commonName"}
    return alternative or common


def allowed(peer: Mapping[str, Any] | None, names: Iterable[str]) -> bool:
    """Whether the peer's certificate has one of these names."""
    return not names_of(peer).isdisjoint(names)


def address_of(text: str, port: int) -> tuple[str, int]:
    """Host and port of ``HOST``, ``HOST:PORT`` or ``[IPv6]:PORT``. Raises ConfigError."""
    host, colon, number = text.rpartition(":")
    if text.startswith("[") and text.endswith("]"):
        host, colon, number = text, "", ""
    elif not colon or (":" in host and not host.startswith("[")):
        host, number = text, ""
    if (number and not (number.isascii() and number.isdigit() and 0 < int(number) < 65_536)) or not host.strip("[]"):
        raise ConfigError(text, "is not an address", hint="such as 10.0.0.9:7444 or [fd00::9]:7444")
    return host.strip("[]"), int(number) if number else port
