"""NATS: the server's INFO in clear, then the client's CONNECT in clear, or TLS.

INFO is in the clear even where TLS is required, and says whether credentials are checked: what a client sends unasked proves nothing.
With ``verbose`` off a server does not answer CONNECT with ``+OK``; PONG or other traffic then shows that it was accepted.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from auditor.errors import WireError
from auditor.inspectors._names import user_name
from auditor.model.evidence import Certainty, Evidence, Handover
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import StreamHead, Streams
from auditor.wire import nats as wire
from auditor.wire.reader import Reader, printable

_TLS_RECORD = b"\x16\x03"
_INFO = b'INFO {"'
_CONNECT = b"CONNECT {"
_INFOS = (_INFO, b'INFO  {"')
_OPENINGS = (_CONNECT, b"PING\r\nCONNECT {")
_FLAGS = ("auth_required", "tls_required", "tls_verify", "tls_available")


def _start(data: bytes, *wanted: bytes) -> Match:
    if data.startswith(wanted):
        return Match.YES
    return Match.MORE if any(each.startswith(data) for each in wanted) else Match.NO


def probe(streams: Streams) -> Match:
    """The server's INFO with a JSON object, or a client that speaks first."""
    said = (
        _start(streams.resp.data, *_INFOS),
        _start(streams.orig.data, *_OPENINGS),
    )
    if Match.YES in said:
        return Match.YES
    return Match.MORE if Match.MORE in said else Match.NO


def _error_kind(line: bytes) -> str:
    text = line[4:].strip().strip(b"'").lower().decode("ascii", "replace")
    if text.startswith("permissions violation"):
        return "permissions_violation"
    return wire.ERRORS.get(text, "other")


class _Told:
    """What one side says in clear after its first line."""

    def __init__(self) -> None:
        self.verbs: dict[bytes, tuple[int, int]] = {}
        self.error: tuple[str, int, int] | None = None
        self.connects: list[tuple[dict[str, Any], int, int]] = []
        self.again: tuple[bytes, int, int] | None = None
        """The last INFO behind the first line."""

    def read(self, reader: Reader, known: frozenset[bytes]) -> None:
        """Lines until something is not a line of NATS; payloads are passed over."""
        while reader.left:
            start = reader.at
            if reader.peek(9).upper() == _CONNECT:
                self.connects.append((reader.json_line(b"CONNECT ", wire.MAX_LINE_BYTES, "CONNECT"), start, reader.at))
                continue
            line = reader.line(wire.MAX_LINE_BYTES)
            words = line.split()
            verb = words[0].upper() if words else b""
            if verb not in known and verb not in wire.ROUTE_VERBS:
                raise WireError("no operation of NATS", at=start)
            self.verbs.setdefault(verb, (start, reader.at))
            if verb == b"INFO":
                self.again = (line, start, reader.at)
            if verb == b"-ERR" and self.error is None:
                self.error = (_error_kind(line), start, reader.at)
            if verb in {b"PUB", b"HPUB", b"MSG", b"HMSG", b"RMSG", b"LMSG"}:
                size = words[-1]
                if not size.isdigit() or len(size) > 9:
                    raise WireError("size of a message is not a number", at=start)
                if int(size) + 2 > reader.left:
                    return
                reader.skip(int(size) + 2)


def _opened(head: StreamHead) -> StreamHead:
    """The head without the frames of S2, in which leaf nodes wrap what follows their INFO; up to the first that is really compressed."""
    at = head.data.find(wire.S2_BEGIN)
    if at < 0 or head.data[max(at - 2, 0) : at] not in {b"", b"\r\n"}:
        return head
    data, moved = head.data[:at], [(offset, frame) for offset, frame in head.segments if offset < at]
    while len(head.data) - at >= wire.S2_HEADER_BYTES:
        kind, size = head.data[at], int.from_bytes(head.data[at + 1 : at + wire.S2_HEADER_BYTES], "little")
        end = at + wire.S2_HEADER_BYTES + size
        if end > len(head.data) or kind not in wire.S2_PLAIN:
            break
        if kind == wire.S2_UNCOMPRESSED:
            moved += [(len(data), frame) for frame in head.frames(at, end)[:1]]
            data += head.data[at + wire.S2_HEADER_BYTES + wire.S2_CHECK_BYTES : end]
        at = end
    return replace(head, data=data, segments=tuple(moved), acks=())


def _weakest(connects: list[tuple[dict[str, Any], int, int]], *, refused: bool) -> tuple[dict[str, Any], int, int]:
    """Of several logins on one connection the first that presents least; the last is not among them if the server turned that away."""
    taken = connects[:-1] if refused and len(connects) > 1 else connects

    def presents(each: tuple[dict[str, Any], int, int]) -> int:
        shown = {word for key, word in wire.CREDENTIALS.items() if each[0].get(key)}
        return 2 if {"user", "pass"} <= shown else 1 if shown else 0

    return min(taken, key=presents)


def _user(connect: dict[str, Any]) -> str | None:
    """The name of the user; without a password it may be a token, and is none."""
    user, password = connect.get("user"), connect.get("pass")
    if not isinstance(user, str) or not password:
        return None
    secrets = (connect.get(key) for key in wire.CREDENTIALS if key != "user")
    return user_name(_octets(user), *(_octets(str(each)) for each in secrets if each))


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Raises WireError on a line that is malformed or no operation of NATS."""
    orig, resp = _opened(streams.orig), _opened(streams.resp)
    client, server = (Reader(each.data, line_bytes=streams.line_bytes) for each in (orig, resp))
    if resp.data[:5].upper() == b"INFO ":
        info = server.json_line(b"INFO ", wire.MAX_LINE_BYTES, "INFO")
        frames = resp.frames(0, server.at)
        yield Evidence("nats.info", True, Certainty.PROVEN, frames)
        for name in _FLAGS:
            yield Evidence(f"nats.{name}", info.get(name) is True, Certainty.PROVEN, frames)
        version = info.get("version")
        if isinstance(version, str):
            text = printable(version.encode("utf-8", "replace"), 64)
            yield Evidence("nats.server_version", text, Certainty.PROVEN, frames)
    if orig.data.startswith(_TLS_RECORD) or (
        not orig.data and server.at and server.peek(2) in {_TLS_RECORD, b"\x15\x03"}
    ):
        yield Handover("tls", 0, server.at)
        return
    told, answer = _Told(), _Told()
    stopped: WireError | None = None
    try:
        told.read(client, wire.CLIENT_VERBS)
    except WireError as error:
        stopped = error
    try:
        answer.read(server, wire.SERVER_VERBS)
    except WireError as error:
        stopped = stopped or error
    if told.connects:
        connect, start, end = _weakest(
            told.connects, refused=answer.error is not None and answer.error[0] in wire.REFUSED
        )
        frames = orig.frames(start, end)
        yield Evidence("nats.connect", True, Certainty.PROVEN, frames)
        for key, word in wire.CREDENTIALS.items():
            yield Evidence(f"nats.{word}", bool(connect.get(key)), Certainty.PROVEN, frames)
        called = _user(connect)
        if called is not None:
            yield Evidence("nats.user_name", called, Certainty.PROVEN, frames)
        yield Evidence("nats.verbose", connect.get("verbose") is True, Certainty.PROVEN, frames)
    if answer.again is not None and told.connects:
        line, start, end = answer.again
        renewed = Reader(line + b"\r\n").json_line(b"INFO ", wire.MAX_LINE_BYTES, "INFO")
        if renewed.get("connect_info") is True:
            asked = renewed.get("auth_required") is True
            yield Evidence("nats.auth_required_after", asked, Certainty.PROVEN, resp.frames(start, end))
    traffic = [span for verb, span in told.verbs.items() if verb not in {b"CONNECT", b"INFO"}]
    if traffic:
        yield Evidence("nats.client_traffic", True, Certainty.PROVEN, orig.frames(*min(traffic)))
    if b"+OK" in answer.verbs:
        yield Evidence("nats.ok", True, Certainty.PROVEN, resp.frames(*answer.verbs[b"+OK"]))
    if b"PONG" in answer.verbs:
        yield Evidence("nats.pong", True, Certainty.PROVEN, resp.frames(*answer.verbs[b"PONG"]))
    if answer.error is not None:
        kind, start, end = answer.error
        yield Evidence("nats.error", kind, Certainty.PROVEN, resp.frames(start, end))
    # PING is no acceptance: a server sends it to measure the round trip before CONNECT has come.
    accepted = [span for verb, span in answer.verbs.items() if verb not in {b"-ERR", b"INFO", b"PING"}]
    if accepted:
        yield Evidence("nats.server_traffic", True, Certainty.PROVEN, resp.frames(*min(accepted)))
    if stopped is not None:
        raise stopped


INSPECTOR = Inspector(
    name="nats",
    transports=frozenset({"tcp"}),
    ports=frozenset({4222, 4223, 4224, 4225}),
    signatures=(
        *(Signature("server", each, decides=True) for each in _INFOS),
        *(Signature("client", each, decides=True) for each in _OPENINGS),
    ),
    probe=probe,
    inspect=inspect,
    greets=True,
)
