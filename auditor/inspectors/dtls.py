"""DTLS: the handshake of TLS in datagrams, whose messages are numbered, cut into fragments, and sent again when they are lost.

Put in order, and without what datagrams need (record numbers, fragments, the cookie of HelloVerifyRequest), they are messages of TLS, and
are handed on as such. The version of a HelloVerifyRequest says nothing (RFC 6347 section 4.2.1): the ServerHello's does.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from auditor.errors import WireError
from auditor.model.evidence import Certainty, Evidence, Handover
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import HEAD_BYTES, StreamHead, Streams
from auditor.wire import dtls as wire
from auditor.wire import tls
from auditor.wire.reader import Reader

_MAX_MESSAGE_BYTES = 65_536
_MAX_MESSAGES = 64
_FIRST_MESSAGES = frozenset({tls.CLIENT_HELLO, tls.SERVER_HELLO, wire.HELLO_VERIFY_REQUEST, tls.CERTIFICATE})


def _side(data: bytes) -> Match:
    """A record's header, and of a handshake in the clear the header of a message that fits in it."""
    if not data:
        return Match.MORE
    if data[0] not in range(tls.CHANGE_CIPHER_SPEC, tls.APPLICATION_DATA + 1) or data[1:2] not in {b"", b"\xfe"}:
        return Match.NO
    if len(data) < wire.RECORD_HEADER_BYTES:
        return Match.MORE
    size = int.from_bytes(data[wire.RECORD_LENGTH : wire.RECORD_HEADER_BYTES], "big")
    known = int.from_bytes(data[wire.RECORD_VERSION : wire.RECORD_EPOCH], "big") in wire.VERSIONS
    if not known or not 0 < size <= tls.MAX_RECORD_BYTES:
        return Match.NO
    if data[0] == tls.HANDSHAKE and data[wire.RECORD_EPOCH : wire.RECORD_EPOCH + 2] == b"\0\0":
        header = data[wire.RECORD_HEADER_BYTES : wire.RECORD_HEADER_BYTES + wire.MESSAGE_HEADER_BYTES]
        if len(header) < wire.MESSAGE_HEADER_BYTES:
            return Match.MORE
        length, at, part = (int.from_bytes(header[k : k + 3], "big") for k in (1, 6, 9))
        fits = at + part <= length <= _MAX_MESSAGE_BYTES and part + wire.MESSAGE_HEADER_BYTES <= size
        return Match.YES if fits and header[0] in _FIRST_MESSAGES else Match.NO
    return Match.YES if len(data) >= wire.RECORD_HEADER_BYTES + size else Match.MORE


def probe(streams: Streams) -> Match:
    """A record from either side."""
    said = (_side(streams.orig.data), _side(streams.resp.data))
    if Match.YES in said:
        return Match.YES
    return Match.MORE if Match.MORE in said else Match.NO


@dataclass(slots=True)
class _Message:
    """A handshake message, as far as its fragments have come."""

    kind: int
    length: int
    parts: dict[int, bytes] = field(default_factory=dict)
    """By offset."""
    frames: tuple[int, ...] = ()

    def whole(self) -> bytes | None:
        """The message's body; None while something of it is missing."""
        body = b""
        for at in sorted(self.parts):
            if at > len(body):
                return None
            body += self.parts[at][len(body) - at :]
        return body if len(body) == self.length else None


@dataclass(slots=True)
class _Said:
    """One direction."""

    messages: dict[int, _Message] = field(default_factory=dict)
    """By message_seq."""
    later: list[tuple[int, bytes, tuple[int, ...]]] = field(default_factory=list)
    """Records that are no handshake in the clear: type, body, frames."""
    version: int | None = None
    """Of the newest record."""

    def fragment(self, reader: Reader, frames: tuple[int, ...]) -> None:
        """One fragment of a handshake message. Raises WireError."""
        kind, length, number = reader.big(1), reader.big(3), reader.big(2)
        at = reader.big(3)
        part = reader.vector(3, "fragment").take_rest()
        if length > _MAX_MESSAGE_BYTES or at + len(part) > length:
            raise WireError("a fragment outside its message", at=reader.at)
        message = self.messages.get(number)
        if message is None:
            if len(self.messages) >= _MAX_MESSAGES:
                return
            message = self.messages[number] = _Message(kind, length)
        if message.kind == kind and message.length == length and len(message.parts.get(at, b"")) < max(len(part), 1):
            message.parts[at] = part
            message.frames = tuple(sorted({*message.frames, *frames}))


def _read(head: StreamHead) -> _Said:
    """All records of a direction; a datagram that goes on with something else is passed over."""
    said = _Said()
    starts = sorted(at for at, _ in head.segments)
    at = 0
    data = head.data
    while at < len(data):
        end = _record(said, head, at)
        if end is None:
            later = [start for start in starts if start > at]
            if not later:
                break
            end = later[0]
        at = end
    return said


def _record(said: _Said, head: StreamHead, at: int) -> int | None:
    """Read the record at ``at``; returns where it ends, None where there is none."""
    data = head.data
    if len(data) - at < wire.RECORD_HEADER_BYTES:
        return None
    kind = data[at]
    version = int.from_bytes(data[at + wire.RECORD_VERSION : at + wire.RECORD_EPOCH], "big")
    size = int.from_bytes(data[at + wire.RECORD_LENGTH : at + wire.RECORD_HEADER_BYTES], "big")
    body = at + wire.RECORD_HEADER_BYTES
    if version not in wire.VERSIONS or not tls.CHANGE_CIPHER_SPEC <= kind <= tls.APPLICATION_DATA:
        return None
    if body + size > len(data):
        return None
    said.version = version
    frames = head.frames(at, body + size)
    if kind == tls.HANDSHAKE and data[at + wire.RECORD_EPOCH : at + wire.RECORD_EPOCH + 2] == b"\0\0":
        reader = Reader(data, body, body + size, whole=True)
        try:
            while reader.left:
                said.fragment(reader, frames)
        except WireError:
            return None
    else:
        said.later.append((kind, data[body : body + size], frames))
    return body + size


def _plain(number: int) -> bytes:
    """The version of TLS that belongs to a version of DTLS."""
    return wire.TLS_OF.get(number, number).to_bytes(2, "big")


def _as_tls(kind: int, body: bytes) -> tuple[bytes, int]:
    """A hello without its cookie, with versions of TLS, and the version of DTLS that it offers at most or chooses.

    Raises WireError.
    """
    reader = Reader(body, whole=True)
    version = reader.big(2)
    said = _plain(version) + reader.take(tls.RANDOM_BYTES)
    sid = reader.vector(1).take_rest()
    said += bytes([len(sid)]) + sid
    if kind == tls.CLIENT_HELLO:
        reader.vector(1, "cookie")
        for prefix in (2, 1):  # cipher suites, compression methods
            part = reader.vector(prefix).take_rest()
            said += len(part).to_bytes(prefix, "big") + part
    else:
        said += reader.take(3)
    if reader.left:
        extensions = reader.vector(2)
        changed = b""
        while extensions.left:
            number, value = extensions.big(2), extensions.vector(2).take_rest()
            if number == tls.EXT_SUPPORTED_VERSIONS:  # one version, or a list behind its length
                odd = len(value) % 2
                named = [int.from_bytes(value[at : at + 2], "big") for at in range(odd, len(value), 2)]
                version = min((each for each in named if each in wire.VERSIONS), default=version)
                value = value[:odd] + b"".join(map(_plain, named))
            changed += number.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value
        said += len(changed).to_bytes(2, "big") + changed
    return said, version


def _hello(said: _Said, kind: int) -> tuple[int, tuple[int, ...]] | None:
    """The version of the newest whole hello of this kind, and its frames."""
    for number in sorted(said.messages, reverse=True):
        message = said.messages[number]
        body = message.whole() if message.kind == kind else None
        if body is not None:
            try:
                return _as_tls(kind, body)[1], message.frames
            except WireError:
                return None
    return None


_OF_CLIENT = frozenset({tls.CLIENT_HELLO, tls.CLIENT_KEY_EXCHANGE, tls.CERTIFICATE_VERIFY})
_OF_SERVER = frozenset({tls.SERVER_HELLO, wire.HELLO_VERIFY_REQUEST, tls.SERVER_KEY_EXCHANGE, tls.SERVER_HELLO_DONE})


def _roles(client: _Said, server: _Said) -> str | None:
    """Whether the sides are as taken: told, swapped, or None where no message tells."""
    kinds = [{message.kind for message in side.messages.values()} for side in (client, server)]
    if kinds[0] & _OF_CLIENT or kinds[1] & _OF_SERVER:
        return "told"
    return "swapped" if kinds[0] & _OF_SERVER or kinds[1] & _OF_CLIENT else None


def _carried(said: _Said, like: StreamHead) -> StreamHead:
    """The same as records of TLS."""
    out = b""
    segments: list[tuple[int, int]] = []
    hellos = [number for number in sorted(said.messages) if said.messages[number].kind == tls.CLIENT_HELLO]
    gap = False

    def put(kind: int, body: bytes, frames: tuple[int, ...]) -> None:
        nonlocal out
        for at in range(0, max(len(body), 1), 0x4000):
            part = body[at : at + 0x4000]
            segments.append((len(out), frames[0] if frames else 0))
            out += bytes([kind]) + tls.TLS12.to_bytes(2, "big") + len(part).to_bytes(2, "big") + part

    expected: int | None = None
    for number in sorted(said.messages):
        message = said.messages[number]
        body = message.whole()
        if body is None or (expected is not None and number != expected):
            gap = True
            break
        expected = number + 1
        if message.kind == wire.HELLO_VERIFY_REQUEST or number in hellos[:-1]:
            continue  # the client says hello again, with the cookie
        if message.kind in {tls.CLIENT_HELLO, tls.SERVER_HELLO}:
            with suppress(WireError):
                body = _as_tls(message.kind, body)[0]
        put(tls.HANDSHAKE, bytes([message.kind]) + len(body).to_bytes(3, "big") + body, message.frames)
    if not gap:
        for kind, body, frames in said.later:
            put(kind, body, frames)
    return StreamHead(
        out[:HEAD_BYTES], gap=gap, midstream=0 not in said.messages, stream_bytes=len(out), segments=tuple(segments)
    )


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Never raises: a record or fragment that contradicts itself ends the reading of its datagram."""
    said = (_read(streams.orig), _read(streams.resp))
    roles = _roles(said[0], said[1])
    if roles is not None:
        yield Evidence("_roles", roles, Certainty.PROVEN)
    for kind, hello in (
        ("tls.hello_version", _hello(said[0], tls.CLIENT_HELLO)),
        ("tls.version", _hello(said[1], tls.SERVER_HELLO)),
    ):
        if hello is not None and hello[0] in wire.VERSIONS:
            yield Evidence(kind, wire.VERSIONS[hello[0]], Certainty.PROVEN, hello[1])
    verified = [m for m in said[1].messages.values() if m.kind == wire.HELLO_VERIFY_REQUEST]
    if verified:
        yield Evidence("dtls.cookie", True, Certainty.PROVEN, verified[0].frames)
    carried = _carried(said[0], streams.orig), _carried(said[1], streams.resp)
    if carried[0].data or carried[1].data:
        yield Handover("tls", 0, 0, carried)


INSPECTOR = Inspector(
    name="dtls",
    transports=frozenset({"udp"}),
    ports=frozenset({443, 4433, 5684, 3391}),
    signatures=tuple(
        Signature(side, bytes((kind, 0xFE, 0xFC)), 0, b"\xff\xff\xfc")
        for side in ("client", "server")
        for kind in range(20, 24)
    ),
    probe=probe,
    inspect=inspect,
)
