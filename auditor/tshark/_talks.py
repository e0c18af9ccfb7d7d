"""tshark's view of handshakes and HTTP, by connection: messages, chains, alerts, and how requests authenticate.

tshark is asked for fields, a line of JSON a frame. A frame belongs to a connection by its innermost addresses, its ports and its time. Values of
headers pass through this process as far as the word before the first space.
"""

from __future__ import annotations

import binascii
import contextlib
import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any
from xml.etree import ElementTree

from auditor.tshark.dissect import Flow, display_filter
from auditor.wire import http, tls

MAX_CERTIFICATES = 16
MAX_REQUESTS = 64
_MAX_NAMED_FLOWS = 150
"""So many flows are named one by one in the display filter; of more only the ports are."""

ENCRYPTED_EXTENSIONS, FINISHED = 8, 20
_NORMAL_END = frozenset({0, 90})
"""close_notify and user_canceled say that a connection ends, not that something was refused."""

FIELDS = (
    "frame.number", "frame.time_epoch", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "tcp.srcport", "tcp.dstport",
    "tls.handshake.type", "tls.handshake.certificates_length", "tls.handshake.certificate_length", "tls.handshake.certificate",
    "tls.handshake.extensions_alpn_str", "tls.record.content_type", "tls.record.opaque_type", "tls.alert_message.level",
    "tls.alert_message.desc", "tls.app_data_proto",
    "http.request.method", "http.request.version", "http.authorization", "http.request.uri", "http.cookie", "http.response.code",
    "http2.headers.method", "http2.headers.authorization", "http2.headers.path", "http2.headers.cookie", "http2.headers.status",
)  # fmt: skip


@dataclass(slots=True)
class Side:
    """One direction."""

    messages: list[int] = field(default_factory=list)
    chain: tuple[str, ...] | None = None
    finished: bool = False
    data: bool = False
    alert: tuple[str, str] | None = None
    hidden: bool = False
    """A record was decrypted that the wire hides."""


@dataclass(slots=True)
class Talk:
    """What was seen of one connection so far."""

    flow: Flow
    client: Side = field(default_factory=Side)
    server: Side = field(default_factory=Side)
    alpn: str | None = None
    requests: list[tuple[str, str, str, bool]] = field(default_factory=list)
    """Method, scheme, kind of signed URL, whether a cookie came."""
    unsure: list[int] = field(default_factory=list)
    """Frames with several requests, of which some authenticate: which, only the tree tells."""
    places: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Frame of several requests -> the part of ``requests`` that came with it."""
    statuses: list[int] = field(default_factory=list)
    http_version: str | None = None
    frames: dict[str, set[int]] = field(default_factory=dict)

    def mark(self, kind: str, frame: int) -> None:
        frames = self.frames.setdefault(kind, set())
        if len(frames) < MAX_REQUESTS:
            frames.add(frame)


def which(flows: Sequence[Flow]) -> str:
    """A display filter for flows: one by one, or where they are many by the ports they answer on."""
    if len(flows) <= _MAX_NAMED_FLOWS:
        return " || ".join(f"({display_filter(flow)})" for flow in flows)
    ports = sorted({flow.resp_p for flow in flows if flow.resp_p})
    return f"tcp.port in {{{','.join(map(str, ports))}}}" if len(ports) <= 2_000 else "tcp"


Ends = tuple[str, int, str, int]


def index(talks: Sequence[Talk]) -> dict[Ends, list[tuple[Talk, bool]]]:
    """Connections by sender and receiver, and whether the sender is the client."""
    found: dict[Ends, list[tuple[Talk, bool]]] = {}
    for talk in sorted(talks, key=lambda talk: talk.flow.first_ns):
        orig, resp = (_plain(each) for each in (talk.flow.orig_h, talk.flow.resp_h))
        orig_p, resp_p = talk.flow.orig_p or 0, talk.flow.resp_p or 0
        found.setdefault((orig, orig_p, resp, resp_p), []).append((talk, True))
        found.setdefault((resp, resp_p, orig, orig_p), []).append((talk, False))
    return found


class Row:
    """The fields of one frame."""

    def __init__(self, layers: Mapping[str, Any]) -> None:
        self._layers = layers

    def texts(self, name: str) -> list[str]:
        """All values of a field, in order."""
        value = self._layers.get(name.replace(".", "_"))
        return [str(each) for each in value] if isinstance(value, list) else [] if value is None else [str(value)]

    def numbers(self, name: str) -> list[int]:
        """All values of a numeric field; what is not a number is left out."""
        return [int(each, 0) for each in self.texts(name) if each.isdigit() or each.startswith("0x")]


def read_row(line: bytes) -> Row | None:
    try:
        layers = json.loads(line).get("layers")
    except (ValueError, AttributeError, RecursionError):
        return None
    return Row(layers) if isinstance(layers, dict) else None


def take(row: Row, by_ends: Mapping[Ends, list[tuple[Talk, bool]]], certificates: dict[str, bytes]) -> None:
    """One frame into the connection it belongs to."""
    found = whose(row, by_ends)
    frame = next(iter(row.numbers("frame.number")), 0)
    if found is None or not frame:
        return
    talk, is_client = found
    side, who = (talk.client, "client") if is_client else (talk.server, "server")
    kinds, messages = row.numbers("tls.record.content_type"), row.numbers("tls.handshake.type")
    if row.texts("tls.record.opaque_type"):
        # Of an encrypted record only the opaque type is known; its content's type is reported beside it once it is decrypted.
        seen = tls.APPLICATION_DATA in kinds or ENCRYPTED_EXTENSIONS in messages or FINISHED in messages
        side.hidden = side.hidden or seen or (tls.ALERT in kinds and tls.HANDSHAKE not in kinds)
    _handshake(talk, side, who, frame, row, certificates)
    if tls.APPLICATION_DATA in kinds:
        side.data = True
        if f"tls.{who}_application_data" not in talk.frames:
            talk.mark(f"tls.{who}_application_data", frame)
    levels, descriptions = row.numbers("tls.alert_message.level"), row.numbers("tls.alert_message.desc")
    for level, description in zip(levels, descriptions, strict=False):
        if description not in _NORMAL_END and side.alert is None:
            side.alert = (tls.ALERT_LEVELS.get(level, str(level)), tls.ALERTS.get(description, str(description)))
            talk.mark(f"tls.{who}_alert", frame)
    _http(talk, frame, row)


def whose(row: Row, by_ends: Mapping[Ends, list[tuple[Talk, bool]]]) -> tuple[Talk, bool] | None:
    """The connection of a frame, and whether the client sent it; of a tunnelled one the innermost addresses count."""
    sports, dports = row.numbers("tcp.srcport"), row.numbers("tcp.dstport")
    times = row.texts("frame.time_epoch")
    now_ns = _ns(times[0]) if times else 0
    if not sports or not dports:
        return None
    for version in ("ip", "ipv6"):
        for src, dst in zip(reversed(row.texts(f"{version}.src")), reversed(row.texts(f"{version}.dst")), strict=False):
            for talk, is_client in reversed(by_ends.get((_plain(src), sports[-1], _plain(dst), dports[-1]), ())):
                flow = talk.flow
                if flow.first_ns - 1_000 <= now_ns and (not flow.last_ns or now_ns <= flow.last_ns + 1_000):
                    return talk, is_client
    return None


@lru_cache(65_536)
def _plain(text: str) -> str:
    """The one way to write an address; IPv4 inside IPv6 is written as IPv4, as we do."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    return str(getattr(address, "ipv4_mapped", None) or address)


def _ns(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    digits = (fraction + "000000000")[:9]
    return int(seconds) * 10**9 + int(digits) if seconds.isdigit() and digits.isdigit() else 0


def _handshake(talk: Talk, side: Side, who: str, frame: int, row: Row, certificates: dict[str, bytes]) -> None:
    """Messages that a frame completes, and the chains in them."""
    messages = row.numbers("tls.handshake.type")
    chain_sizes = iter(row.numbers("tls.handshake.certificates_length"))
    sizes = iter(row.numbers("tls.handshake.certificate_length"))
    ders = iter(row.texts("tls.handshake.certificate"))
    for message in messages:
        side.messages.append(message)
        kind = {
            tls.CERTIFICATE: f"tls.{who}_certificates",
            tls.CERTIFICATE_REQUEST: "tls.certificate_requested",
            tls.CERTIFICATE_VERIFY: "tls.certificate_verify" if who == "client" else "",
            FINISHED: f"tls.{who}_finished",
        }.get(message)
        if kind:
            talk.mark(kind, frame)
        if message == FINISHED:
            side.finished = True
        elif message == tls.CERTIFICATE:
            if who == "client":
                talk.mark("tls.client_certificate", frame)
            chain = _chain(next(chain_sizes, 0), sizes, ders, certificates)
            if chain is not None and not side.chain:
                side.chain = chain
        elif message == ENCRYPTED_EXTENSIONS and who == "server":
            talk.alpn = next(iter(row.texts("tls.handshake.extensions_alpn_str")), talk.alpn)
    if tls.SERVER_HELLO in messages and who == "server" and ENCRYPTED_EXTENSIONS not in messages:
        talk.alpn = next(iter(row.texts("tls.handshake.extensions_alpn_str")), talk.alpn)


def _chain(
    size: int, sizes: Iterator[int], ders: Iterator[str], certificates: dict[str, bytes]
) -> tuple[str, ...] | None:
    """Fingerprints of one Certificate message; None where its certificates do not add up."""
    chain: list[str] = []
    left = size
    while left > 0:
        length, text = next(sizes, 0), next(ders, None)
        if not length or text is None:
            return tuple(chain) or None
        try:
            der = binascii.unhexlify(text.replace(":", ""))
        except (binascii.Error, ValueError):
            return None
        name = sha256(der).hexdigest()
        if len(chain) < MAX_CERTIFICATES:
            certificates[name] = der
            chain.append(name)
        left -= 3 + length
        # TLS 1.3 has extensions behind each certificate (RFC 8446 section 4.4.2), two bytes of length at least.
        if left <= 2:
            break
    return tuple(chain)


def _http(talk: Talk, frame: int, row: Row) -> None:
    """Requests and responses that a frame completes."""
    for version, names in (
        (None, ("http.request.method", "http.authorization", "http.request.uri", "http.cookie", "http.response.code")),
        ("2", ("http2.headers.method", "http2.headers.authorization", "http2.headers.path", "http2.headers.cookie", "http2.headers.status")),
    ):  # fmt: skip
        methods, authorizations, targets, cookies = (row.texts(name) for name in names[:4])
        statuses = row.numbers(names[4])
        if methods or statuses:
            spoken = version or next((each.partition("/")[2] for each in row.texts("http.request.version")), "1.1")
            talk.http_version = talk.http_version or spoken[:8]
        for status in statuses:
            if len(talk.statuses) < MAX_REQUESTS:
                talk.statuses.append(status)
                talk.mark("http.statuses", frame)
        count = min(len(methods), MAX_REQUESTS - len(talk.requests))
        if count <= 0:
            continue
        aligned = all(len(each) in {0, len(methods)} for each in (authorizations, targets, cookies))
        if not aligned and len(methods) > 1:
            talk.unsure.append(frame)
            talk.places[frame] = (len(talk.requests), count)
        for k in range(count):
            talk.requests.append(
                _request(
                    methods[k],
                    authorizations[k] if k < len(authorizations) else None,
                    targets[k] if k < len(targets) else "",
                    k < len(cookies),
                )
            )
        talk.mark("http.requests", frame)


def _request(method: str, authorization: str | None, target: str, cookie: bool) -> tuple[str, str, str, bool]:
    """What is kept of a request: no values."""
    return method[:20], _scheme(authorization), _signed(target), cookie


def _scheme(value: str | None) -> str:
    """none, basic, bearer, other."""
    said = (value or "").split(None, 1)
    if len(said) < 2:
        return "none"
    word = said[0].lower()
    return word if word in {"basic", "bearer"} else "other"


def _signed(target: str) -> str:
    """Kind of the signed URL that a request target is; only names of parameters are looked at, and that they have a value."""
    query = target.partition("?")[2].partition("#")[0]
    parts = (part.partition("=") for part in query.replace(";", "&").split("&"))
    names = {name.lower().encode("utf-8", "replace") for name, _, value in parts if value}
    return next((kind for kind, wanted in http.SIGNED_URLS if wanted <= names), "none") if query else "none"


def trees(lines: Iterable[bytes]) -> Iterator[Any]:
    """Trees of frames from PDML, one after another; one that is no XML is left out."""
    part: list[bytes] = []
    for line in lines:
        if line.startswith(b"<packet>"):
            part = []
        part.append(line)
        if line.startswith(b"</packet>"):
            with contextlib.suppress(ElementTree.ParseError):
                yield ElementTree.fromstring(b"".join(part))  # noqa: S314  # tshark's own output: it declares no entities
            part = []


def mend(talks: Sequence[Talk], trees: Iterable[Any]) -> None:
    """Requests of frames that hold several, from their trees: there each has its own headers."""
    by_frame = {frame: talk for talk in talks for frame in talk.unsure}
    for tree in trees:
        number = next((each.get("show") for each in tree.iter("field") if each.get("name") == "num"), "")
        talk = by_frame.get(int(number)) if number and number.isdigit() else None
        if talk is None:
            continue
        first, count = talk.places[int(number)]
        found = list(_requests_of(tree))
        if len(found) >= count:
            talk.requests[first : first + count] = found[:count]


def _requests_of(tree: Any) -> Iterator[tuple[str, str, str, bool]]:
    """Requests of a frame, in order."""
    for layer in tree.findall("proto"):
        name = layer.get("name")
        names = {
            "http": ("http.request.method", "http.authorization", "http.request.uri", "http.cookie"),
            "http2": (
                "http2.headers.method",
                "http2.headers.authorization",
                "http2.headers.path",
                "http2.headers.cookie",
            ),
        }.get(name or "")
        if names is None:
            continue
        for message in [layer] if name == "http" else layer.findall("field"):
            values: dict[str, str] = {}
            for element in message.iter("field"):
                if element.get("name") in names:
                    values.setdefault(element.get("name"), element.get("show") or "")
            if names[0] in values:
                yield _request(values[names[0]], values.get(names[1]), values.get(names[2], ""), names[3] in values)


def name_of(text: str) -> str:
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:64])
