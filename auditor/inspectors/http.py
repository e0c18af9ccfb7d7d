"""HTTP/1 requests and responses, and the preface of HTTP/2.

What is told of a request is how it authenticates, as a kind: the scheme of its Authorization header, and whether its URL is a signed
one; and of Basic the user's name. No other part of header values leaves this file, nor do paths and queries.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from auditor.errors import WireError
from auditor.inspectors._names import basic_name
from auditor.model.evidence import Certainty, Evidence, Handover
from auditor.model.facts import FOLLOWED
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import Streams
from auditor.wire import http as wire
from auditor.wire.reader import Reader

_LONGEST_METHOD = max(len(method) for method in wire.METHODS)
WEBSOCKET = "websocket"
UNREAD = "http.unread"
_SWITCHING = 101
_MAX_KEPT = 1_024
"""More than the first bytes of a direction can hold."""
_MOST_USERS = 4
_NOT_KNOWN, _TO_THE_END = -1, 1 << 62
"""Where a message ends: behind the first bytes, and no length tells; where the stream does."""
_UPGRADE_TO_TLS = re.compile(rb"(?:\A|,)[ \t]*TLS/1", re.IGNORECASE)
_UPGRADE_TO_WEBSOCKET = re.compile(rb"\nUpgrade:[^\r\n]*\bwebsocket\b", re.IGNORECASE)
_CONTROL = re.compile(rb"[\x00-\x0c\x0e-\x1f]")


def _request(data: bytes) -> Match:
    """A whole request line of HTTP/1, RFC 9112 section 3, or the preface."""
    if data.startswith(wire.PREFACE):
        return Match.YES
    if wire.PREFACE.startswith(data):
        return Match.MORE
    space = data.find(b" ", 0, _LONGEST_METHOD + 1)
    if space < 0:
        known = len(data) <= _LONGEST_METHOD and any(method.startswith(data) for method in wire.METHODS)
        return Match.MORE if known else Match.NO
    if data[:space] not in wire.METHODS:
        return Match.NO
    end = data.find(b"\n", space, wire.MAX_LINE_BYTES)
    line = data[space + 1 : end if end >= 0 else wire.MAX_LINE_BYTES]
    if _CONTROL.search(line):
        return Match.NO
    if end < 0:
        return Match.MORE if len(data) < wire.MAX_LINE_BYTES else Match.NO
    target, _, version = line.rstrip(b"\r").rpartition(b" ")
    return Match.YES if target and version in {b"HTTP/1.0", b"HTTP/1.1"} else Match.NO


def _response(data: bytes) -> Match:
    """The start of a status line, RFC 9112 section 4: ``HTTP/1.1 200``."""
    said = data[:12]
    pattern = b"HTTP/1."
    if said[: len(pattern)] != pattern[: len(said)]:
        return Match.NO
    for at, allowed in ((7, b"01"), (8, b" "), (9, b"12345"), (10, b"0123456789"), (11, b"0123456789")):
        if len(said) > at and said[at] not in allowed:
            return Match.NO
    return Match.YES if len(said) == 12 else Match.MORE


def probe(streams: Streams) -> Match:
    """A request from the client, or a response from the server."""
    said = (_request(streams.orig.data), _response(streams.resp.data))
    if Match.YES in said:
        return Match.YES
    return Match.MORE if Match.MORE in said else Match.NO


def turned(streams: Streams) -> str | None:
    """WebSocket, where the client asked for it and the server agreed (RFC 6455 section 4). What travels inside is not read."""
    agreed = _response(streams.resp.data) is Match.YES and streams.resp.data[9:12] == b"101"
    asked = agreed and _UPGRADE_TO_WEBSOCKET.search(streams.orig.data.partition(b"\r\n\r\n")[0])
    return WEBSOCKET if asked else None


def signed_url_kind(target: bytes) -> str | None:
    """Kind of the signed URL that a request target is, or None; only names of parameters are looked at, and that they have a value."""
    query = target.partition(b"?")[2].partition(b"#")[0]
    if not query:
        return None
    names = {name.lower() for name, _, value in _parameters(query) if value}
    return next((kind for kind, wanted in wire.SIGNED_URLS if wanted <= names), None)


def _parameters(query: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    for part in query.replace(b";", b"&").split(b"&"):
        yield part.partition(b"=")


def authorization_scheme(value: bytes | None) -> str:
    """How the value of an Authorization field authenticates: none, basic, bearer, other. A scheme without anything behind it presents nothing."""
    said = (value or b"").split(None, 1)
    if len(said) < 2:
        return "none"
    word = said[0].lower()
    return word.decode() if word in {b"basic", b"bearer"} else "other"


def carried_beside(target: bytes, headers: Mapping[bytes, bytes]) -> Iterator[str]:
    """Kinds of credentials that a request carries elsewhere than in Authorization and in a signed URL: url_password, url_token, proxy."""
    scheme, _, rest = target.partition(b"://")
    if scheme.isalpha() and b":" in rest.partition(b"/")[0].rpartition(b"@")[0]:  # RFC 3986 section 3.2.1
        yield "url_password"
    query = target.partition(b"?")[2].partition(b"#")[0]
    if any(name.lower() == b"access_token" and value for name, _, value in _parameters(query)):  # RFC 6750 section 2.3
        yield "url_token"
    if authorization_scheme(headers.get(b"proxy-authorization")) in {"basic", "bearer"}:  # RFC 9110 section 11.7.2
        yield "proxy"


@dataclass(slots=True)
class _Message:
    """One request or response."""

    start: int
    first: bytes
    headers: dict[bytes, bytes]
    """The first of each name, which is in lower case."""

    @property
    def scheme(self) -> str:
        """How the request authenticates: none, basic, bearer, other."""
        return authorization_scheme(self.headers.get(b"authorization"))


def _head(reader: Reader) -> _Message:
    """Start line and header fields up to the empty line."""
    start = reader.at
    end = reader.data.find(b"\r\n\r\n", start, min(reader.end, start + wire.MAX_LINE_BYTES))
    if end >= 0:  # the common case at once
        lines = reader.data[start:end].split(b"\r\n")
        if end - start > reader.line_bytes and max(map(len, lines)) > reader.line_bytes:
            raise WireError("header is longer than the limit", kind="limit", at=start)
        reader.at = end + 4
    else:
        lines = []
        while line := reader.line(wire.MAX_LINE_BYTES, "header"):
            lines.append(line)
            if len(lines) > wire.MAX_HEADERS:
                break
    if len(lines) > wire.MAX_HEADERS:
        raise WireError("too many headers", at=start)
    if not lines:
        raise WireError("no start line", at=start)
    headers: dict[bytes, bytes] = {}
    name, first = b"", False
    for line in lines[1:]:
        if line[:1] in {b" ", b"\t"} and name:  # a value that goes on in the next line: RFC 9112 section 5.2
            if first:
                headers[name] = (headers[name] + b" " + line.strip()).strip()
            continue
        name, colon, value = line.partition(b":")
        if not colon:
            raise WireError("header without a colon", at=start)
        name = name.strip().lower()
        first = name not in headers
        headers.setdefault(name, value.strip())
    return _Message(start, lines[0], headers)


def _number(text: bytes | None, base: int = 10) -> int | None:
    """A length, None where it is none."""
    digits = b"0123456789abcdefABCDEF" if base == 16 else b"0123456789"
    if text is None or not 0 < len(text) <= 12 or any(c not in digits for c in text):
        return None
    return int(text, base)


def _pass_body(reader: Reader, message: _Message, *, until_close: bool) -> int | None:
    """Move behind the body; where it ends if that is behind the first bytes (RFC 9112 section 6.3), else None."""
    if b"chunked" in (message.headers.get(b"transfer-encoding") or b"").lower():
        while True:
            at = reader.at
            size = _number(reader.line(wire.MAX_LINE_BYTES, "chunk size").split(b";")[0].strip(), 16)
            if size is None:
                raise WireError("chunk size is not a number", at=at)
            if size == 0:
                while reader.line(wire.MAX_LINE_BYTES, "trailer"):
                    pass
                return None
            if size + 2 > reader.left:
                return _NOT_KNOWN
            reader.skip(size + 2)
    text = message.headers.get(b"content-length")
    size = _number(text)
    if text is not None and size is None:
        raise WireError("Content-Length is not a number", at=message.start)
    if size is None:
        return _TO_THE_END if until_close else None
    if size > reader.left:
        return reader.at + size
    reader.skip(size)
    return None


@dataclass(slots=True)
class _Requests:
    """What all requests of the head tell."""

    methods: list[bytes] = field(default_factory=list)
    schemes: list[str] = field(default_factory=list)
    signed: list[str] = field(default_factory=list)
    users: dict[str, None] = field(default_factory=dict)
    """Names of Basic, each once, in order."""
    cookie: bool = False
    beside: set[str] = field(default_factory=set)
    """Kinds of ``carried_beside``, of all requests together."""
    version: str | None = None
    spans: list[tuple[int, int]] = field(default_factory=list)
    upgrades: list[tuple[int, int, bool]] = field(default_factory=list)
    """Requests for another protocol: the number of the request, where what follows it begins, and whether that is a tunnel, or TLS (RFC 2817 section 3)."""
    reach: int = _NOT_KNOWN
    """Up to here the stream is read, or is a body of known length."""

    def until(self, count: int, at: int) -> None:
        """Keep so many requests: what follows them, from there on, is none."""
        for each in (self.methods, self.schemes, self.signed, self.spans):
            del each[count:]
        self.reach = at


def _read_requests(reader: Reader) -> tuple[_Requests, WireError | None]:
    told = _Requests()
    try:
        while reader.left and len(told.methods) < _MAX_KEPT:
            if _request(reader.data[reader.at :] if reader.at else reader.data) is not Match.YES:
                if told.upgrades and told.upgrades[-1][:2] == (len(told.methods) - 1, reader.at):
                    break  # what was asked for begins
                if told.methods and reader.peek(1) not in b"\r\n":
                    raise WireError("no request line", kind="malformed" if reader.left > 64 else "short", at=reader.at)
                if reader.peek(1) in {
                    b"\r",
                    b"\n",
                }:  # RFC 9112 section 2.2: an empty line before a request is passed over
                    reader.skip(1)
                    continue
                break
            message = _head(reader)
            method, _, rest = message.first.partition(b" ")
            target, _, version = rest.rpartition(b" ")
            told.methods.append(method)
            told.version = told.version or version[5:].decode("ascii", "replace")
            told.schemes.append(message.scheme)
            if message.scheme == "basic" and len(told.users) < _MOST_USERS:
                name = basic_name(message.headers[b"authorization"])
                told.users |= {name: None} if name is not None else {}
            told.signed.append(signed_url_kind(target) or "none")
            told.cookie = told.cookie or message.headers.get(b"cookie") is not None
            told.beside.update(carried_beside(target, message.headers))
            told.spans.append((message.start, reader.at))
            upgrade = message.headers.get(b"upgrade")
            if method == b"CONNECT" or upgrade is not None:
                # What follows is HTTP still, unless the server agrees.
                to_tls = method == b"CONNECT" or _UPGRADE_TO_TLS.search(upgrade or b"") is not None
                told.upgrades.append((len(told.methods) - 1, reader.at, to_tls))
            body = _pass_body(reader, message, until_close=False)
            told.reach = reader.at if body is None else body
            if body is not None:
                break
    except WireError as error:
        return told, error
    return told, None


def _read_responses(
    reader: Reader, methods: list[bytes]
) -> tuple[list[int], str | None, int, int | None, WireError | None, int]:
    """Status codes, version, end of the first response's head, where a tunnel or another protocol begins (the last status agrees to it), what stopped the reading, and how far it went."""
    reach = _NOT_KNOWN
    statuses: list[int] = []
    version: str | None = None
    first_end = 0
    pending = list(methods)
    try:
        while reader.left and len(statuses) < _MAX_KEPT:
            if _response(reader.peek(12)) is not Match.YES:
                if statuses:
                    kind = "malformed" if reader.left > 64 else "short"
                    raise WireError("no status line", kind=kind, at=reader.at)
                break
            message = _head(reader)
            status = int(message.first[9:12])
            version = version or message.first[5:8].decode("ascii", "replace")
            statuses.append(status)
            first_end = first_end or reader.at
            if status == _SWITCHING:
                return statuses, version, first_end, reader.at, None, reach
            if 100 <= status < 200:
                continue
            method = pending.pop(0) if pending else b""
            if method == b"CONNECT" and 200 <= status < 300:
                return statuses, version, first_end, reader.at, None, reach
            if method == b"HEAD" or status in wire.BODYLESS:
                reach = reader.at
                continue
            body = _pass_body(reader, message, until_close=True)
            reach = reader.at if body is None else body
            if body is not None:
                break
    except WireError as error:
        return statuses, version, first_end, None, error, reach
    return statuses, version, first_end, None, None, reach


def _unread(streams: Streams, agreed: tuple[int, bool] | None, stopped: WireError | None) -> str | None:
    """Why bytes of the client that were answered are not read as requests: ``upgrade`` or ``malformed``; None: there are none such."""
    if agreed is not None:
        at, to_tls = agreed
        went_on = len(streams.orig.data) > at or streams.orig.stuffed
        return "upgrade" if went_on and not to_tls and turned(streams) is None else None
    return "malformed" if stopped is not None else None


def inspect(streams: Streams) -> Iterator[Evidence | Handover]:
    """Raises WireError where a message contradicts RFC 9112."""
    orig, resp = streams.orig, streams.resp
    if orig.data.startswith(wire.PREFACE):
        frames = orig.frames(0, len(wire.PREFACE))
        yield Evidence("http.version", "2", Certainty.PROVEN, frames)
        return
    told, stopped = _read_requests(Reader(orig.data, line_bytes=streams.line_bytes))
    statuses, version, first_end, tunnel_at, stopped_too, answered_to = _read_responses(
        Reader(resp.data, line_bytes=streams.line_bytes), told.methods
    )
    final = sum(status >= 200 or status == _SWITCHING for status in statuses)
    agreed: tuple[int, bool] | None = None
    for number, at, to_tls in told.upgrades:
        if tunnel_at is not None and number == final - 1:
            agreed = at, to_tls
        elif number < final:
            continue  # the server went on with HTTP
        told.until(number + 1, at)
        stopped = None
        break
    if told.methods:
        first = orig.frames(*told.spans[0])
        every = orig.frames(told.spans[0][0], told.spans[-1][1])
        yield Evidence("http.version", told.version, Certainty.PROVEN, first)
        yield Evidence("http.method", told.methods[0].decode(), Certainty.PROVEN, first)
        yield Evidence("http.requests", len(told.methods), Certainty.PROVEN, every)
        yield Evidence("http.authorization", tuple(told.schemes), Certainty.PROVEN, every)
        if told.users:
            yield Evidence("http.user_names", tuple(told.users), Certainty.PROVEN, every)
        yield Evidence("http.signed_url", tuple(told.signed), Certainty.PROVEN, every)
        yield Evidence("http.cookie", told.cookie, Certainty.PROVEN, every)
        # Requests behind the first bytes count if they are answered.
        more = final > len(told.methods)
        unread = _unread(streams, agreed, stopped if (more or stopped_too) and not orig.stuffed else None)
        if unread is not None:
            yield Evidence(UNREAD, unread, Certainty.PROVEN, every)
        if orig.stuffed and agreed is None and (more or resp.stuffed or stopped_too is not None):
            yield Evidence(FOLLOWED, (told.reach, _NOT_KNOWN if more else answered_to), Certainty.PROVEN, ())
        elif resp.stuffed and final < len(told.methods):
            yield Evidence(FOLLOWED, (_NOT_KNOWN, answered_to, final), Certainty.PROVEN, ())
        if told.beside:
            yield Evidence("http.carried_beside", tuple(sorted(told.beside)), Certainty.PROVEN, every)
    elif version is not None:
        yield Evidence("http.version", version, Certainty.PROVEN, resp.frames(0, first_end))
    if statuses:
        yield Evidence("http.statuses", tuple(statuses), Certainty.PROVEN, resp.frames(0, first_end))
    if tunnel_at is not None and agreed is not None and agreed[1]:
        yield Handover("tls", agreed[0], tunnel_at)
    for error in (stopped, stopped_too):
        if error is not None:
            raise error


INSPECTOR = Inspector(
    name="http",
    transports=frozenset({"tcp"}),
    ports=frozenset({80, 8080, 9022, 8889, 17001, 17010, 17020}),
    signatures=(
        *(Signature("client", method + b" ") for method in wire.METHODS),
        Signature("client", wire.PREFACE[:16]),
        Signature("server", wire.STATUS_LINE),
    ),
    probe=probe,
    inspect=inspect,
    turned=turned,
    turns_into=(WEBSOCKET,),
)
