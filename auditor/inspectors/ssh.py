"""SSH: both banners, the key exchange in the clear, NEWKEYS, then encrypted packets.

User authentication is encrypted; what lengths and order of its packets show is read in ``_ssh_login.py``. Which side is the client is told by
the key exchange: only a client sends KEXDH_INIT and its like.
"""

from collections.abc import Iterator
from functools import lru_cache

from auditor.errors import WireError
from auditor.inspectors._ssh_login import Login, Protection, protection, read_login, units_of
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


_Lists = tuple[tuple[str, ...], ...]
"""The name-lists of a KEXINIT, RFC 4253 section 7.1: eight of them."""


@lru_cache(maxsize=256)
def _lists(said: bytes) -> _Lists:
    """The name-lists behind the cookie of a KEXINIT, of which few differ. Raises WireError."""
    reader = Reader(said, whole=True)
    return tuple(tuple(printable(reader.vector(4).take_rest(), 4096).split(",")) for _ in range(8))


class _Side:
    """What one direction shows."""

    def __init__(self, head: StreamHead) -> None:
        self.head = head
        self.version = self.software = ""
        self.banner_end = 0
        self.lists: _Lists = ()
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
                self.lists = _lists(packet.take_rest())
                self.kexinit = (start, reader.at)
            elif kind == wire.MSG_NEWKEYS:
                self.newkeys_end = reader.at

    @property
    def encrypted(self) -> bool:
        """Bytes follow NEWKEYS."""
        return bool(self.newkeys_end) and (self.head.stream_bytes or len(self.head.data)) > self.newkeys_end


_CHOSEN = (("kex", 0), ("host_key_algorithm", 1), ("cipher", 2), ("mac", 4))
_CIPHERS, _MACS, _COMPRESSIONS = (2, 3), (4, 5), (6, 7)
"""Places of the lists in KEXINIT, from client to server and back."""


@lru_cache(maxsize=256)
def _agreed(client: _Lists, server: _Lists) -> tuple[tuple[str | None, ...], tuple[Protection | None, ...]]:
    """What is chosen of each list (RFC 4253 section 7.1: the first of the client's that the server has), and how packets are protected there and back."""
    chosen = tuple(
        next((one for one in mine if one in others), None) for mine, others in zip(client, server, strict=True)
    )
    ways = tuple(protection(*(chosen[places[way]] for places in (_CIPHERS, _MACS, _COMPRESSIONS))) for way in (0, 1))
    return chosen, ways


def _login(client: _Side, server: _Side) -> Login | None:
    """What became of the login, where lengths tell; a gap in either direction leaves answers without their requests."""
    if not (client.encrypted and server.encrypted and client.lists and server.lists):
        return None
    if client.head.gap or server.head.gap:
        return None
    how = _agreed(client.lists, server.lists)[1]
    if how[0] is None or how[1] is None:
        return None
    return read_login(
        units_of(client.head, client.newkeys_end, how[0], server=False),
        units_of(server.head, server.newkeys_end, how[1], server=True),
        how[0],
        how[1],
        (client.software, server.software),
    )


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
        agreed = _agreed(client.lists, server.lists)[0]
        for name, place in _CHOSEN:
            chosen = agreed[place]
            if name == "cipher" and chosen is not None and chosen.endswith(wire.AEAD):
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
    login = _login(client, server)
    if login is not None:
        frames = () if login.unit is None else server.head.frames(login.unit.at, login.unit.at + login.unit.size)
        yield Evidence("ssh.login", login.outcome, Certainty.INFERRED, frames)
        yield Evidence("ssh.login_confidence", login.confidence, Certainty.INFERRED)
        yield Evidence("ssh.login_requests", login.requests, Certainty.INFERRED)
        yield Evidence("ssh.login_says", login.says, Certainty.INFERRED, frames)
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
