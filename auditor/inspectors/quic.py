"""QUIC: its handshake is TLS 1.3 in CRYPTO frames, and the two hellos can be read.

Initial packets are protected with keys that follow from the client's first Destination Connection ID and a public salt (RFC 9001 section
5.2): that keeps middleboxes from meddling, not from reading. So the ClientHello (server name, ALPN) and the ServerHello (version, suite)
are there for whoever sees both directions; what comes after them, certificates first, is not. After a Retry the client derives new
keys from the id that it was given. CRYPTO frames come in any order and more than once, over several packets and datagrams.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from auditor.errors import WireError
from auditor.model.evidence import Certainty, Evidence, Handover
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import StreamHead, Streams
from auditor.wire import quic as wire
from auditor.wire import tls
from auditor.wire.reader import Reader

_MAX_IDS = 4
"""So many connection ids are tried as the origin of keys: the first one, and one more for each Retry."""
_MAX_CRYPTO_BYTES = 16_384
_SAMPLE_AT, _SAMPLE_BYTES = 4, 16
"""Where the sample for header protection begins behind the packet number's first byte, RFC 9001 section 5.4.2."""


def _first_packet(data: bytes) -> Match:
    """A long header of a known version whose connection ids have lawful lengths."""
    if not data:
        return Match.MORE
    if data[0] & (wire.LONG_HEADER | wire.FIXED_BIT) != wire.LONG_HEADER | wire.FIXED_BIT:
        return Match.NO
    if len(data) < 6:
        return Match.MORE
    if not wire.is_known(int.from_bytes(data[1:5], "big")) or data[5] > wire.MAX_CONNECTION_ID_BYTES:
        return Match.NO
    at = 6 + data[5]
    if len(data) <= at:
        return Match.MORE
    if data[at] > wire.MAX_CONNECTION_ID_BYTES:
        return Match.NO
    return Match.YES if len(data) > at + data[at] else Match.MORE


def probe(streams: Streams) -> Match:
    """A long header from either side."""
    said = (_first_packet(streams.orig.data), _first_packet(streams.resp.data))
    if Match.YES in said:
        return Match.YES
    return Match.MORE if Match.MORE in said else Match.NO


def _varint(reader: Reader) -> int:
    """RFC 9000 section 16."""
    size = 1 << (reader.peek(1) or b"\0")[0] // 64
    return reader.big(size) & (1 << 8 * size - 2) - 1


@dataclass(frozen=True, slots=True)
class _Packet:
    """A long header packet."""

    version: int
    kind: int
    to_id: bytes
    from_id: bytes
    start: int
    number_at: int
    end: int


def _packets(head: StreamHead) -> Iterator[_Packet]:
    """Long header packets of one direction, those that share a datagram too; what else a datagram holds is passed over."""
    data = head.data
    starts = sorted(at for at, _ in head.segments)
    at = 0
    while at < len(data):
        next_datagram = next((start for start in starts if start > at), len(data))
        packet = None
        with suppress(WireError):
            packet = _packet(data, at, next_datagram)
        if packet is not None:
            yield packet
        at = packet.end if packet is not None else next_datagram


def _packet(data: bytes, at: int, next_datagram: int) -> _Packet | None:
    """The long header packet at ``at``; None where there is none. Raises WireError."""
    reader = Reader(data, at)
    first = reader.big(1)
    if not first & wire.LONG_HEADER:
        return None
    version = reader.big(4)
    to_id, from_id = reader.vector(1).take_rest(), reader.vector(1).take_rest()
    if version == 0:  # Version Negotiation fills its datagram, RFC 9000 section 17.2.1
        return None
    if not wire.is_known(version):
        return None
    kind = wire.packet_type(version, first)
    if kind == wire.RETRY:
        return _Packet(version, kind, to_id, from_id, at, reader.at, next_datagram)  # a Retry has no length
    if kind == wire.INITIAL:
        reader.skip(_varint(reader), "token")
    size = _varint(reader)
    reader.need(size, "packet")
    return _Packet(version, kind, to_id, from_id, at, reader.at, reader.at + size)


def _hmac(key: bytes, message: bytes) -> bytes:
    import hmac  # loads OpenSSL, which few captures need

    return hmac.digest(key, message, "sha256")


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label, RFC 8446 section 7.1, for at most 32 bytes."""
    text = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes([len(text)]) + text + b"\0"
    return _hmac(secret, info + b"\x01")[:size]


class _Keys:
    """Keys of one direction's Initial packets, RFC 9001 sections 5.1 and 5.2."""

    def __init__(self, version: int, first_id: bytes, side: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        secret = _expand(_hmac(wire.salt(version), first_id), f"{side} in".encode(), 32)
        self.aead = AESGCM(_expand(secret, wire.label(version, "key"), 16))
        self.iv = int.from_bytes(_expand(secret, wire.label(version, "iv"), 12), "big")
        self.mask_key = _expand(secret, wire.label(version, "hp"), 16)

    def open(self, data: bytes, packet: _Packet) -> bytes | None:
        """What the packet holds; None where these are not its keys."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        at = packet.number_at
        sample = data[at + _SAMPLE_AT : at + _SAMPLE_AT + _SAMPLE_BYTES]
        if len(sample) < _SAMPLE_BYTES:
            return None
        # One block under a public key: header protection is AES in ECB mode by RFC 9001 section 5.4.3.
        cipher = Cipher(algorithms.AES(self.mask_key), modes.ECB())  # noqa: S305
        mask = cipher.encryptor().update(sample)
        first = data[packet.start] ^ mask[0] & 0x0F
        size = (first & 3) + 1
        number = bytes(a ^ b for a, b in zip(data[at : at + size], mask[1 : 1 + size], strict=True))
        header = bytes([first]) + data[packet.start + 1 : at] + number
        nonce = (self.iv ^ int.from_bytes(number, "big")).to_bytes(12, "big")
        try:
            return self.aead.decrypt(nonce, data[at + size : packet.end], header)
        except InvalidTag:
            return None


@dataclass(slots=True)
class _Crypto:
    """What one side said in CRYPTO frames of its Initial packets."""

    parts: dict[int, tuple[bytes, tuple[int, ...]]] = field(default_factory=dict)
    """By offset: bytes, and the frames that carried them."""
    closed: bool = False
    close_frames: tuple[int, ...] = ()

    def read(self, plain: bytes, frames: tuple[int, ...]) -> None:
        """The frames of a packet, RFC 9000 section 19. Raises WireError."""
        reader = Reader(plain, whole=True)
        while reader.left:
            kind = _varint(reader)
            if kind in {wire.PADDING, wire.PING}:
                continue
            if kind in {wire.ACK, wire.ACK_ECN}:
                for _ in range(2):
                    _varint(reader)
                ranges = _varint(reader)
                _varint(reader)
                for _ in range(min(2 * ranges, reader.left)):
                    _varint(reader)
                for _ in range(3 if kind == wire.ACK_ECN else 0):
                    _varint(reader)
            elif kind == wire.CRYPTO:
                at = _varint(reader)
                part = reader.take(_varint(reader), "CRYPTO frame")
                if at + len(part) <= _MAX_CRYPTO_BYTES and len(part) > len(self.parts.get(at, (b"", ()))[0]):
                    self.parts[at] = part, frames
            elif kind == wire.CONNECTION_CLOSE:
                self.closed, self.close_frames = True, frames
                return
            else:
                raise WireError("a frame that no Initial packet holds", at=reader.at)

    def head(self, like: StreamHead) -> StreamHead:
        """The handshake messages, from the first byte on without a gap, as records of TLS."""
        said = b""
        segments: list[tuple[int, int]] = []
        for at in sorted(self.parts):
            part, frames = self.parts[at]
            if at > len(said):
                break
            if at + len(part) > len(said):
                segments += [(len(said), frame) for frame in frames[:1]]
                said += part[len(said) - at :]
        if not said:
            return StreamHead(midstream=like.midstream)
        size = max(len(said), 4 + int.from_bytes(said[1:4], "big")) if len(said) >= 4 else len(said)
        header = bytes([tls.HANDSHAKE]) + tls.TLS12.to_bytes(2, "big") + min(size, 0x4000).to_bytes(2, "big")
        moved = tuple((at + len(header) if at else 0, frame) for at, frame in segments)
        return StreamHead(header + said, gap=len(said) < size, stream_bytes=len(header) + size, segments=moved)


@dataclass(slots=True)
class _Talk:
    """A QUIC connection so far."""

    ids: list[bytes] = field(default_factory=list)
    """Connection ids that Initial keys may follow from."""
    keys: dict[tuple[int, bytes, str], _Keys] = field(default_factory=dict)

    def open(self, side: str, data: bytes, packet: _Packet) -> bytes | None:
        """What an Initial packet holds, by whichever keys open it."""
        for first_id in reversed(self.ids):
            key = (packet.version, first_id, side)
            if key not in self.keys:
                self.keys[key] = _Keys(*key)
            plain = self.keys[key].open(data, packet)
            if plain is not None:
                return plain
        return None


def _roles(streams: Streams) -> str | None:
    """Whether the sides are as taken: only a client's Initial packet opens with the keys that its own Destination Connection ID gives."""
    for said, head in (("told", streams.orig), ("swapped", streams.resp)):
        for packet in _packets(head):
            if packet.kind == wire.INITIAL and _Talk([packet.to_id]).open("client", head.data, packet) is not None:
                return said
    return None


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Never raises: a packet that no key opens, or that holds what it must not, is passed over."""
    roles = _roles(streams)
    if roles is not None:
        yield Evidence("_roles", roles, Certainty.PROVEN)
    talk = _Talk()
    said = (_Crypto(), _Crypto())
    version: tuple[int, tuple[int, ...]] | None = None
    retry: tuple[int, ...] | None = None
    early: tuple[int, ...] | None = None
    for which, head in enumerate((streams.orig, streams.resp)):
        for packet in _packets(head):
            frames = head.frames(packet.start, packet.end)
            if version is None or which == 1:  # a server may go on in another version, RFC 9368 section 2.3
                version = packet.version, frames
            if packet.kind == wire.RETRY:
                retry = retry or frames
            elif packet.kind == wire.ZERO_RTT:
                early = early or frames
            elif packet.kind == wire.INITIAL:
                if which == 0 and packet.to_id not in talk.ids and len(talk.ids) < _MAX_IDS:
                    talk.ids.append(packet.to_id)
                plain = talk.open(("client", "server")[which], head.data, packet)
                if plain is None:
                    continue
                try:
                    said[which].read(plain, frames)
                except WireError:
                    continue
    if version is not None:
        yield Evidence("quic.version", wire.version_name(version[0]), Certainty.PROVEN, version[1])
    if retry is not None:
        yield Evidence("quic.retry", True, Certainty.PROVEN, retry)
    if early is not None:
        yield Evidence("quic.early_data", True, Certainty.PROVEN, early)
    for name, side in zip(("client", "server"), said, strict=True):
        if side.closed:
            yield Evidence(f"quic.{name}_closed", True, Certainty.PROVEN, side.close_frames)
    carried = said[0].head(streams.orig), said[1].head(streams.resp)
    if carried[0].data or carried[1].data:
        yield Handover("tls", 0, 0, carried)


INSPECTOR = Inspector(
    name="quic",
    transports=frozenset({"udp"}),
    ports=frozenset({443}),
    signatures=tuple(
        Signature(side, value, 0, mask)
        for side in ("client", "server")
        for value, mask in (
            (b"\xc0\x00\x00\x00\x01", b"\xc0\xff\xff\xff\xff"),
            (b"\xc0\x6b\x33\x43\xcf", b"\xc0\xff\xff\xff\xff"),
            (b"\xc0\xff\x00\x00\x00", b"\xc0\xff\xff\xff\xc0"),
        )
    ),
    probe=probe,
    inspect=inspect,
)
