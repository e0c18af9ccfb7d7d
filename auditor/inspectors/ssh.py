"""SSH: both banners, the key exchange in the clear, NEWKEYS, then encrypted packets.

User authentication is encrypted; what the wire shows of it is that packets follow both NEWKEYS. Which side is the client is told by the key
exchange: only a client sends KEXDH_INIT and its like.
"""

from collections.abc import Iterator

from auditor.errors import WireError
from auditor.model.evidence import Certainty, Evidence
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import StreamHead, Streams
from auditor.wire import ssh as wire
from auditor.wire.reader import Reader, printable

_VERSIONS = (b"SSH-1.", b"SSH-2.")


def _banner(data: bytes, *, lines_before: bool) -> Match:
    """Whether ``data`` begins with an identification string, RFC 4253 section 4.2."""
    at = 0
    for _ in range(wire.MAX_LINES_BEFORE_BANNER if lines_before else 1):
        said = data[at : at + 6]
        if said in _VERSIONS:
            return Match.YES
        if any(version.startswith(said) for version in _VERSIONS):
            return Match.MORE
        if not lines_before or said.startswith(b"SSH-"):
            return Match.NO
        end = data.find(b"\n", at, at + wire.MAX_BANNER_BYTES)
        line = data[at : end if end >= 0 else at + wire.MAX_BANNER_BYTES]
        if not all(c in b"\t\r" or 0x20 <= c < 0x7F for c in line):
            return Match.NO
        if end < 0:
            return Match.MORE if len(line) < wire.MAX_BANNER_BYTES else Match.NO
        at = end + 1
    return Match.NO


def probe(streams: Streams) -> Match:
    """A banner from either side; the server's may follow other lines."""
    said = (_banner(streams.orig.data, lines_before=False), _banner(streams.resp.data, lines_before=True))
    if Match.YES in said:
        return Match.YES
    return Match.MORE if Match.MORE in said else Match.NO


class _Side:
    """What one direction shows."""

    def __init__(self, head: StreamHead) -> None:
        self.head = head
        self.version = self.software = ""
        self.banner_end = 0
        self.lists: list[list[str]] = []
        self.kexinit: tuple[int, int] = (0, 0)
        self.newkeys_end = 0
        self.messages: set[int] = set()
        self.error: WireError | None = None
        try:
            self._read(Reader(head.data))
        except WireError as stopped:
            self.error = stopped

    def _read(self, reader: Reader) -> None:
        if reader.left == 0:
            return
        for _ in range(wire.MAX_LINES_BEFORE_BANNER):
            line = reader.line(4 * wire.MAX_BANNER_BYTES, "banner")
            if line.startswith(wire.BANNER):
                break
        else:
            raise WireError("no banner", at=reader.at)
        _, self.version, self.software = [*printable(line).split("-", 2), "", ""][:3]
        self.banner_end = reader.at
        if not self.version.startswith(("2", "1.99")):
            return
        while reader.left and not self.newkeys_end:
            start = reader.at
            size = reader.big(4, "packet length")
            if not 8 <= size <= wire.MAX_PACKET_BYTES:
                raise WireError("packet length out of bounds", at=start)
            packet = reader.inside(size, "packet")
            padding = packet.big(1)
            if padding < wire.MIN_PADDING_BYTES or padding >= size - 1:
                raise WireError("padding out of bounds", at=start)
            packet.end -= padding
            kind = packet.big(1)
            self.messages.add(kind)
            if kind == wire.MSG_KEXINIT and not self.lists:
                packet.skip(wire.COOKIE_BYTES)
                self.lists = [printable(packet.vector(4).take_rest(), 4096).split(",") for _ in range(8)]
                self.kexinit = (start, reader.at)
            elif kind == wire.MSG_NEWKEYS:
                self.newkeys_end = reader.at

    @property
    def encrypted(self) -> bool:
        """Bytes follow NEWKEYS."""
        return bool(self.newkeys_end) and (self.head.stream_bytes or len(self.head.data)) > self.newkeys_end


_CHOSEN = (("kex", 0), ("host_key_algorithm", 1), ("cipher", 2), ("mac", 4))
_AEAD = ("-gcm@openssh.com", "chacha20-poly1305@openssh.com")


def inspect(streams: Streams) -> Iterator[Evidence]:
    """Raises WireError where a packet before NEWKEYS contradicts RFC 4253 section 6."""
    client, server = _Side(streams.orig), _Side(streams.resp)
    if client.messages & wire.SERVER_MESSAGES or server.messages & wire.CLIENT_MESSAGES:
        yield Evidence("_roles", "swapped", Certainty.PROVEN)
        return
    if client.messages & wire.CLIENT_MESSAGES or server.messages & wire.SERVER_MESSAGES:
        yield Evidence("_roles", "told", Certainty.PROVEN)
    for name, side in (("client", client), ("server", server)):
        if not side.banner_end:
            continue
        frames = side.head.frames(0, side.banner_end)
        yield Evidence(f"ssh.{name}_version", side.version, Certainty.PROVEN, frames)
        yield Evidence(f"ssh.{name}_software", side.software, Certainty.PROVEN, frames)
    if client.lists and server.lists:
        frames = tuple(sorted({*client.head.frames(*client.kexinit), *server.head.frames(*server.kexinit)}))
        for name, place in _CHOSEN:
            # RFC 4253 section 7.1: the first of the client's that the server has
            chosen = next((one for one in client.lists[place] if one in server.lists[place]), None)
            if name == "cipher" and chosen is not None and chosen.endswith(_AEAD):
                yield Evidence("ssh.cipher", chosen, Certainty.PROVEN, frames)
                break
            yield Evidence(f"ssh.{name}", chosen, Certainty.PROVEN, frames)
    for name, side in (("client", client), ("server", server)):
        if side.newkeys_end:
            frames = side.head.frames(side.newkeys_end - 1, side.newkeys_end)
            yield Evidence(f"ssh.{name}_newkeys", True, Certainty.PROVEN, frames)
            yield Evidence(
                f"ssh.{name}_encrypted",
                side.encrypted,
                Certainty.PROVEN,
                side.head.frames(side.newkeys_end, len(side.head.data)),
            )
        elif side.head.ended and side.error is None and side.head.data:
            yield Evidence(f"ssh.{name}_newkeys", False, Certainty.PROVEN)
    for side in (client, server):
        if side.error is not None:
            raise side.error


INSPECTOR = Inspector(
    name="ssh",
    transports=frozenset({"tcp"}),
    ports=frozenset({22, 2222}),
    signatures=(Signature("client", wire.BANNER), Signature("server", wire.BANNER)),
    probe=probe,
    inspect=inspect,
)
