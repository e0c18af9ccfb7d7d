"""MySQL: the server's greeting, then the client's login in clear, or SSLRequest and TLS.

The plugin that the greeting offers, and even the one that the client names in its response, prove nothing: the server may ask for
another with AuthSwitchRequest, and the last one asked for is the one that decides. What a client answers is a secret; only whether it
is empty is reported, and the user's name.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from auditor.errors import WireError
from auditor.inspectors._names import user_name
from auditor.kernels.signatures import mysql_greetings
from auditor.model.evidence import Certainty, Evidence, Handover
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import StreamHead, Streams
from auditor.wire import mysql as wire
from auditor.wire.reader import Reader, printable

_PRINTABLE = bytes(range(0x20, 0x7F))


def probe(streams: Streams) -> Match:
    """The server speaks first: a greeting of protocol 10 or 9, or an error instead of it. What a client says that speaks something else is that."""
    data = streams.resp.data
    if not _answers(streams.orig):
        return Match.NO
    if len(data) < 5:
        plausible = (len(data) < 4 or data[3] <= 1) and (len(data) < 3 or data[2] == 0)
        return Match.MORE if plausible else Match.NO
    size = int.from_bytes(data[:3], "little")
    kind = data[4]
    # MariaDB numbers an error that it sends instead of a greeting 1.
    if size > 1024 or data[3] > (kind == wire.ERR):
        return Match.NO
    if kind in {wire.PROTOCOL_10, wire.PROTOCOL_9}:
        return _greets(data[5:], size - 1, kind)
    if kind == wire.ERR:
        return _refuses(data[5 : 4 + size], size - 1)
    return Match.NO


def _answers(client: StreamHead) -> bool:
    """The client's first bytes may be its response to a greeting: a packet with the number 1 (2: inside TLS, behind the request for it), or nothing yet."""
    data = client.data
    return client.midstream or len(data) < wire.HEADER_BYTES or (data[3] in {1, 2} and data[2] == 0)


def _greets(body: bytes, size: int, protocol: int) -> Match:
    """A version that starts with a digit, then thread id, salt and, in protocol 10, a zero."""
    if size < 1 + 1 + 4 + wire.SALT_BYTES + 1:
        return Match.NO
    end = body.find(b"\0", 0, min(wire.MAX_VERSION_BYTES, size))
    version = body[: end if end >= 0 else wire.MAX_VERSION_BYTES]
    if version.translate(None, _PRINTABLE) or not (version[:1].isdigit() or not version):
        return Match.NO
    if end < 0:
        return Match.MORE if len(body) < min(wire.MAX_VERSION_BYTES, size) else Match.NO
    zero = end + 1 + 4 + wire.SALT_BYTES
    if not version or zero >= size:
        return Match.NO
    if len(body) <= zero:
        return Match.MORE
    if protocol == wire.PROTOCOL_10:
        return Match.YES if body[zero] == 0 and size >= zero + 1 + 2 else Match.NO
    return Match.YES if body[zero] == 0 and size == zero + 1 else Match.NO


def _refuses(body: bytes, size: int) -> Match:
    """An error code that MySQL has, and a text that fills the packet."""
    if not 2 + 4 <= size <= 512:
        return Match.NO
    if len(body) >= 2 and int.from_bytes(body[:2], "little") not in wire.ERROR_CODES:
        return Match.NO
    if not all(0x20 <= c < 0x7F or c >= 0x80 for c in body[2:]):
        return Match.NO
    return Match.YES if len(body) >= size else Match.MORE


class _Packets:
    """The packets of one direction."""

    def __init__(self, head: StreamHead) -> None:
        self.head, self.reader = head, Reader(head.data)
        self.start = 0

    @property
    def more(self) -> bool:
        return self.reader.left > 0

    def packet(self) -> tuple[int, Reader]:
        """Sequence number and payload of the next packet."""
        self.start = self.reader.at
        size = self.reader.little(3, "packet length")
        sequence = self.reader.big(1, "sequence number")
        return sequence, self.reader.inside(size, "packet")

    def frames(self) -> tuple[int, ...]:
        """Frames of the packet read last."""
        return self.head.frames(self.start, self.reader.at)


def _lenenc(reader: Reader) -> int:
    """A length-encoded number."""
    first = reader.big(1)
    if first < 0xFB:
        return first
    if first in {0xFB, 0xFF}:
        raise WireError("no length-encoded number", at=reader.at - 1)
    return reader.little({0xFC: 2, 0xFD: 3, 0xFE: 8}[first])


def _name(text: bytes) -> str:
    return printable(text, 64)


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Raises WireError on a packet that contradicts itself."""
    server, client = _Packets(streams.resp), _Packets(streams.orig)
    if not server.more:
        return
    _, greeting = server.packet()
    frames = server.frames()
    protocol = greeting.big(1)
    if protocol == wire.ERR:
        yield Evidence("mysql.outcome", "error", Certainty.PROVEN, frames)
        yield Evidence("mysql.error", greeting.little(2), Certainty.PROVEN, frames)
        return
    yield Evidence("mysql.protocol", protocol, Certainty.PROVEN, frames)
    version = greeting.until(b"\0", wire.MAX_VERSION_BYTES, "version")
    yield Evidence("mysql.server_version", printable(version, 64), Certainty.PROVEN, frames)
    greeting.skip(4 + wire.SALT_BYTES + 1, "salt")
    offered = ""
    if protocol == wire.PROTOCOL_10:
        capabilities = greeting.little(2, "capabilities")
        if greeting.left:
            greeting.skip(3, "character set and status")
            capabilities |= greeting.little(2, "capabilities") << 16
            salt = greeting.big(1)
            greeting.skip(10, "reserved bytes")
            if capabilities & wire.CLIENT_SECURE_CONNECTION:
                greeting.skip(min(max(13, salt - wire.SALT_BYTES), greeting.left), "salt")
            if capabilities & wire.CLIENT_PLUGIN_AUTH and greeting.left:
                offered = _name(greeting.take_rest().split(b"\0")[0])
        yield Evidence("mysql.server_ssl", bool(capabilities & wire.CLIENT_SSL), Certainty.PROVEN, frames)
        if offered:
            yield Evidence("mysql.plugin_offered", offered, Certainty.PROVEN, frames)
    if not client.more:
        return
    first_after = server.reader.at
    _, login = client.packet()
    frames = client.frames()
    size = login.left
    if size == wire.OLD_SSL_REQUEST_BYTES or size < 4:
        claims = login.little(2, "capabilities")
    else:
        claims = login.little(4, "capabilities")
        if not claims & wire.CLIENT_PROTOCOL_41:
            claims &= 0xFFFF
    is_request = size in {wire.SSL_REQUEST_BYTES, wire.OLD_SSL_REQUEST_BYTES} and bool(claims & wire.CLIENT_SSL)
    yield Evidence("mysql.ssl_request", is_request, Certainty.PROVEN, frames)
    if is_request:
        yield Handover("tls", client.reader.at, first_after)
        return
    plugin, empty, user = _login(login, claims, size)
    name = user_name(user)
    if name is not None:
        yield Evidence("mysql.user_name", name, Certainty.PROVEN, frames)
    if plugin:
        yield Evidence("mysql.plugin_requested", plugin, Certainty.PROVEN, frames)
    yield from _outcome(server, client, plugin or wire.NATIVE_PASSWORD, empty, frames)


def _login(login: Reader, claims: int, size: int) -> tuple[str, bool, bytes]:
    """Plugin that the client names, whether its answer is empty, and the user (HandshakeResponse41, HandshakeResponse320)."""
    if not claims & wire.CLIENT_PROTOCOL_41:
        login.at = login.end - size + 5
        user = login.until(b"\0", wire.MAX_NAME_BYTES, "user")
        return wire.OLD_PASSWORD, login.left == 0 or login.peek(1) == b"\0", user
    login.skip(4 + 1 + 23, "character set")
    user = login.until(b"\0", wire.MAX_NAME_BYTES, "user")
    if claims & wire.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA:
        answer = _lenenc(login)
        said = login.take(answer)
    elif claims & wire.CLIENT_SECURE_CONNECTION:
        said = login.take(login.big(1))
    else:
        said = login.until(b"\0", 4096, "answer")
    if claims & wire.CLIENT_CONNECT_WITH_DB and login.left:
        login.until(b"\0", wire.MAX_NAME_BYTES, "database")
    plugin = ""
    if claims & wire.CLIENT_PLUGIN_AUTH and login.left:
        plugin = _name(login.take_rest().split(b"\0")[0])
    return plugin, _is_empty(said), user


def _is_empty(answer: bytes) -> bool:
    """No password: nothing, or the zero that ends a text; caching_sha2_password and mysql_clear_password send that."""
    return not answer.strip(b"\0")


def _outcome(
    server: _Packets, client: _Packets, plugin: str, empty: bool, frames: tuple[int, ...]
) -> Iterator[Evidence]:
    """What the server makes of the login."""
    stopped: WireError | None = None
    outcome: Evidence | None = None
    code: Evidence | None = None
    try:
        while server.more and outcome is None:
            sequence, packet = server.packet()
            kind = packet.big(1)
            said = server.frames()
            if kind == wire.OK:
                outcome = Evidence("mysql.outcome", "ok", Certainty.PROVEN, said)
            elif kind == wire.ERR:
                outcome = Evidence("mysql.outcome", "error", Certainty.PROVEN, said)
                code = Evidence("mysql.error", packet.little(2), Certainty.PROVEN, said)
            elif kind == wire.EOF_OR_SWITCH:
                plugin = _name(packet.until(b"\0", 64, "plugin")) if packet.left else wire.OLD_PASSWORD
                yield Evidence("mysql.plugin_switched", plugin, Certainty.PROVEN, said)
                while client.more:
                    number, answer = client.packet()
                    if number == (sequence + 1) & 0xFF:  # what came before answered something else
                        empty, frames = _is_empty(answer.take_rest()), client.frames()
                        break
            elif kind == wire.MORE_DATA:
                yield Evidence("mysql.auth_more_data", True, Certainty.PROVEN, said)
                if packet.left == 1 and plugin == wire.CACHING_SHA2:
                    step = packet.big(1)
                    if step == wire.PERFORM_FULL_AUTH:
                        yield Evidence("mysql.full_authentication", True, Certainty.PROVEN, said)
            else:
                raise WireError("no answer to a login", at=server.start)
    except WireError as error:
        stopped = error
    yield Evidence("mysql.plugin", plugin, Certainty.PROVEN, frames)
    yield Evidence("mysql.auth_response", "empty" if empty else "present", Certainty.PROVEN, frames)
    if outcome is not None:
        yield outcome
    if code is not None:
        yield code
    for name, side in (("client", client), ("server", server)):
        if outcome is not None and side.more:
            at = side.reader.at
            yield Evidence(f"mysql.{name}_traffic", True, Certainty.PROVEN, side.head.frames(at, at + 1))
    if outcome is not None and outcome.value == "ok":
        yield from _changed(server, client)
    if stopped is not None:
        raise stopped


@dataclass(slots=True)
class _Command:
    """A command of the client, with what it sent on behind it and what it was answered."""

    kind: int
    body: bytes
    frames: tuple[int, ...]
    sent: dict[int, tuple[bytes, tuple[int, ...]]] = field(default_factory=dict)
    """By sequence number."""
    answer: list[tuple[int, bytes, tuple[int, ...]]] = field(default_factory=list)


def _commands(server: _Packets, client: _Packets) -> list[_Command]:
    """The commands behind the login. Each that is answered at all is answered from number 1 on; a number 1 behind 0 goes on with a long answer."""
    found: list[_Command] = []
    with suppress(WireError):  # the head ends inside a packet
        while client.more:
            number, packet = client.packet()
            if number == 0 and packet.left:
                found.append(_Command(packet.big(1), packet.take_rest(), client.frames()))
            elif found and number:
                found[-1].sent[number] = packet.take_rest(), client.frames()
    asking = iter([each for each in found if each.kind not in wire.UNANSWERED])
    before, asked = -1, None
    with suppress(WireError):
        while server.more:
            number, packet = server.packet()
            if number == 1 and before != 0:
                asked = next(asking, None)
            if asked is not None:
                asked.answer.append((number, packet.take_rest(), server.frames()))
            before = number
    return found


def _changed(server: _Packets, client: _Packets) -> Iterator[Evidence]:
    """Later logins of the same connection, COM_CHANGE_USER: of those that got OK the one that proves least."""
    logins = [_relogin(each) for each in _commands(server, client) if each.kind == wire.COM_CHANGE_USER]
    told = [each for each in logins if each is not None]
    unread = server.head.stuffed and any(outcome is None for _, _, outcome, _ in told)
    done = [each for each in told if each[2] is not None]
    if not done:
        if unread:
            yield Evidence("mysql.changed_user", "unread", Certainty.PROVEN, told[0][3])
        return
    plugin, empty, outcome, frames = min(
        done, key=lambda each: (each[2] != "ok", not each[1], each[0] == wire.NATIVE_PASSWORD)
    )
    if unread and not (outcome == "ok" and (empty or plugin != wire.NATIVE_PASSWORD)):
        outcome = "unread"
    yield Evidence("mysql.changed_plugin", plugin, Certainty.PROVEN, frames)
    yield Evidence("mysql.changed_user", outcome, Certainty.PROVEN, frames)
    yield Evidence("mysql.changed_response", "empty" if empty else "present", Certainty.PROVEN, frames)


def _relogin(command: _Command) -> tuple[str, bool, str | None, tuple[int, ...]] | None:
    """Plugin, whether the answer was empty, what came of it (None: that was not seen), and frames; None: it is of no form that is known."""
    body, frames = Reader(command.body), command.frames
    try:
        body.until(b"\0", wire.MAX_NAME_BYTES, "user")
        empty = _is_empty(body.take(body.big(1)))
        body.until(b"\0", wire.MAX_NAME_BYTES, "database")
        body.skip(min(2, body.left), "character set")
        plugin = _name(body.take_rest().split(b"\0")[0]) or wire.NATIVE_PASSWORD
    except WireError:
        return None
    for number, answer, said in command.answer:
        kind, rest = answer[:1], answer[1:]
        if kind == bytes([wire.EOF_OR_SWITCH]):
            plugin = _name(rest.split(b"\0")[0]) if rest else wire.OLD_PASSWORD
            given = command.sent.get(number + 1)
            if given is None:
                return plugin, empty, None, frames
            empty, frames = _is_empty(given[0]), (*frames, *given[1])
        elif kind in {bytes([wire.OK]), bytes([wire.ERR])}:
            return plugin, empty, "ok" if kind == bytes([wire.OK]) else "error", tuple(dict.fromkeys((*frames, *said)))
        elif kind != bytes([wire.MORE_DATA]):
            break
    return plugin, empty, None, frames


INSPECTOR = Inspector(
    name="mysql",
    transports=frozenset({"tcp"}),
    ports=frozenset({3306}),
    signatures=(
        Signature("server", b"\x00\x00\x0a", 2),
        Signature("server", b"\x00\x00\x09", 2),
        Signature("server", b"\x00\x00\xff", 2),
        Signature("server", b"\x00\x01\xff", 2),
    ),
    probe=probe,
    inspect=inspect,
    greets=True,
    greetings=mysql_greetings,
)
