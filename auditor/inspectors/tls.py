"""TLS: hellos, certificates and alerts in the clear, and how long the records are that are not.

Up to TLS 1.2 the handshake is in the clear until ChangeCipherSpec; of TLS 1.3 only the hellos are, and what follows is records of type
23 whose lengths and order are reported. Record layer and messages are read here message by message, spread over records or not; the kernel
that reads many connections at once must say the same (``auditor/kernels/tls.py``).
"""

from collections.abc import Iterator

from auditor.errors import WireError
from auditor.inspectors import _tls_facts as facts
from auditor.inspectors._tls_proof import Proofs
from auditor.kernels import tls as kernel
from auditor.model.evidence import Attachment, Certainty, Evidence
from auditor.model.facts import SIGNATURE_FITS
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import (
    OPAQUE,
    TRAIL_BAD_RECORD,
    Said,
    StreamHead,
    Streams,
    Trail,
    TrailRecord,
    first_of,
)
from auditor.wire import tls as wire
from auditor.wire.reader import Reader, printable

_HELLO_BYTES = 11  # record header, message header, version
_MIN_CLIENT_HELLO_BYTES, _MIN_SERVER_HELLO_BYTES = 41, 36
_MAX_HELLO_BYTES = 131_072


_LEAST = {wire.CHANGE_CIPHER_SPEC: 1, wire.ALERT: 2, wire.HANDSHAKE: 4, wire.APPLICATION_DATA: 0}
"""Types of records, and the fewest bytes that one holds."""


def _record(header: bytes) -> int | None:
    """Length of a record with this header, None where it is none."""
    kind, major, minor, size = header[0], header[1], header[2], int.from_bytes(header[3:5], "big")
    if kind not in _LEAST or major != 3 or minor > 4 or size > wire.MAX_RECORD_BYTES:
        return None
    if size < _LEAST[kind] or (kind == wire.CHANGE_CIPHER_SPEC and size != 1):
        return None
    return size


def _ssl2(data: bytes) -> Match:
    """A ClientHello in the form of SSL 2.0, RFC 5246 appendix E.2."""
    if len(data) > 2 and data[2] != wire.CLIENT_HELLO:
        return Match.NO
    if len(data) < _HELLO_BYTES:
        return Match.MORE
    version, suites, sid, challenge = (int.from_bytes(data[at : at + 2], "big") for at in (3, 5, 7, 9))
    fits = 9 + suites + sid + challenge == (data[0] & 0x7F) << 8 | data[1]
    known = version == wire.SSL20 or wire.SSL30 <= version <= wire.TLS13
    return (
        Match.YES
        if known and fits and suites and suites % 3 == 0 and sid in {0, 16} and 16 <= challenge <= 32
        else Match.NO
    )


def _side(data: bytes) -> Match:
    """A hello, or a whole record with another one's header behind it."""
    if not data:
        return Match.MORE
    if data[0] & 0x80:
        return _ssl2(data)
    if data[0] not in _LEAST or data[1:2] not in {b"", b"\x03"} or (len(data) > 2 and data[2] > 4):
        return Match.NO
    if len(data) < wire.RECORD_HEADER_BYTES:
        return Match.MORE
    size = _record(data)
    if size is None:
        return Match.NO
    end = wire.RECORD_HEADER_BYTES + size
    if data[0] == wire.HANDSHAKE:
        if len(data) < _HELLO_BYTES:
            return Match.MORE
        message, length, major, minor = data[5], int.from_bytes(data[6:9], "big"), data[9], data[10]
        plain = major == 3 and minor <= 4
        if message == wire.CLIENT_HELLO:
            fits = plain and length + 4 >= size and _MIN_CLIENT_HELLO_BYTES <= length <= _MAX_HELLO_BYTES
        else:
            plain = plain or major == wire.DRAFT_MAJOR
            fits = message == wire.SERVER_HELLO and plain and _MIN_SERVER_HELLO_BYTES <= length <= _MAX_HELLO_BYTES
        if fits and size >= 6:
            return Match.YES
    if data[0] == wire.ALERT and size == 2 and len(data) >= end and data[5] not in wire.ALERT_LEVELS:
        return Match.NO
    behind = data[end : end + wire.RECORD_HEADER_BYTES]
    if len(behind) < wire.RECORD_HEADER_BYTES:
        return Match.NO if behind and behind[0] not in _LEAST else Match.MORE
    return Match.YES if _record(behind) is not None else Match.NO


def probe(streams: Streams) -> Match:
    """A hello or a chain of records from either side."""
    client = _side(streams.orig.data)
    if client is Match.YES:
        return client
    server = _side(streams.resp.data)
    return client if server is Match.NO else server


class _Seen:
    """What both directions have shown so far: the fields of the kernel's row."""

    def __init__(self) -> None:
        self.flags = 0
        self.numbers: list[int] | None = None
        self.hello_version = self.version = self.cipher = self.psk_identity_bytes = 0
        self.alerts = [kernel.NO_ALERT, kernel.NO_ALERT]
        self.stops = [0, 0]
        self.texts: dict[int, bytes] = {}
        """By the kernel's ``SPAN_`` place."""
        self.lengths: tuple[list[int], list[int]] = ([], [])
        self.counts = [0, 0]
        self.frames: dict[int, tuple[int, ...]] = {}
        """By the kernel's ``MARK_`` place."""
        self.events: tuple[list[tuple[Said, str]], list[tuple[Said, str]]] = ([], [])

    @property
    def is13(self) -> bool:
        return self.version == wire.TLS13 or self.version >> 8 == wire.DRAFT_MAJOR

    @property
    def shape(self) -> tuple[int, int]:
        """Two hashes of what makes clients differ; 0: none."""
        if self.numbers is None:
            return 0, 0
        a, b = 2_166_136_261, 362_437
        for number in self.numbers:
            a = ((a ^ number) * 16_777_619) % 2**32
            b = ((b ^ number) * 69_069 + 1) % 2**32
        return a, b

    @property
    def order(self) -> str:
        """Letters of both directions by what they acknowledge, else by frame; none where these are of several captures."""
        client, server = (list(side) for side in self.events)
        letters = []
        while client or server:
            which = first_of(client[0][0], server[0][0]) if client and server else int(not client)
            if which < 0:
                return ""
            letters.append((client, server)[which].pop(0)[1])
        return "".join(letters)


def _numbers(reader: Reader) -> list[int]:
    """A vector of 16-bit numbers that fills what is left."""
    inside = reader.vector(2)
    if reader.left or inside.left % 2:
        raise WireError("list of odd length", at=reader.at)
    return [inside.big(2) for _ in range(inside.left // 2)]


def _client_hello(seen: _Seen, reader: Reader) -> None:
    """RFC 8446 section 4.1.2. Raises WireError."""
    if reader.left < 2 + wire.RANDOM_BYTES + 1:
        raise WireError("ClientHello too short", at=reader.at)
    seen.hello_version = reader.big(2)
    numbers = [seen.hello_version]
    reader.skip(wire.RANDOM_BYTES)
    sid_bytes = reader.big(1)
    if sid_bytes > wire.MAX_SESSION_ID_BYTES or reader.left < sid_bytes + 2:
        raise WireError("session id too long", at=reader.at)
    sid = reader.take(sid_bytes)
    if sid:
        seen.flags |= kernel.SID_OFFERED
        seen.texts.setdefault(kernel.SPAN_CLIENT_SID, sid)
    suites = reader.vector(2, "cipher suites")
    if suites.left < 2 or suites.left % 2:
        raise WireError("cipher suites of odd length", at=reader.at)
    numbers += [suite for suite in (suites.big(2) for _ in range(suites.left // 2)) if not wire.is_grease(suite)]
    if reader.vector(1, "compression methods").left < 1:
        raise WireError("no compression method", at=reader.at)
    try:
        if reader.left:
            extensions = reader.vector(2, "extensions")
            if reader.left:
                raise WireError("bytes behind the extensions", at=reader.at)
            while extensions.left:
                kind = extensions.big(2)
                _client_extension(seen, kind, extensions.vector(2, "extension"), numbers)
    finally:
        seen.numbers = numbers


_UNSTABLE = frozenset(
    {
        wire.EXT_SERVER_NAME,
        wire.EXT_PADDING,
        wire.EXT_PRE_SHARED_KEY,
        wire.EXT_EARLY_DATA,
        wire.EXT_COOKIE,
    }
)
"""Extensions that depend on where and how often a client has been, not on what it is."""


def _client_extension(seen: _Seen, kind: int, body: Reader, numbers: list[int]) -> None:
    if not wire.is_grease(kind) and kind not in _UNSTABLE:
        numbers.append(kind)
    if kind == wire.EXT_SERVER_NAME:
        if not body.left:
            return
        names = body.vector(2, "server names")
        if body.left or names.left < 3:
            raise WireError("server names of a wrong length", at=body.at)
        host_name = names.big(1) == 0
        name = names.vector(2, "server name").take_rest()
        if not name:
            raise WireError("empty server name", at=body.at)
        if host_name:
            seen.flags |= kernel.SNI
            seen.texts.setdefault(kernel.SPAN_SNI, name)
    elif kind == wire.EXT_ALPN:
        names = body.vector(2, "ALPN names")
        if body.left:
            raise WireError("bytes behind the ALPN names", at=body.at)
        seen.flags |= kernel.ALPN_OFFERED
        seen.texts.setdefault(kernel.SPAN_CLIENT_ALPN, names.take_rest())
    elif kind == wire.EXT_SESSION_TICKET:
        if body.left:
            seen.flags |= kernel.TICKET_OFFERED
            seen.texts.setdefault(kernel.SPAN_CLIENT_TICKET, body.take_rest())
    elif kind == wire.EXT_PRE_SHARED_KEY:
        body.skip(2, "identities")
        identity = body.vector(2, "identity").left
        if not seen.flags & kernel.PSK_OFFERED:
            seen.flags |= kernel.PSK_OFFERED
            seen.psk_identity_bytes = identity
    elif kind == wire.EXT_EARLY_DATA:
        seen.flags |= kernel.EARLY_DATA_OFFERED
    elif kind == wire.EXT_POST_HANDSHAKE_AUTH:
        seen.flags |= kernel.POST_HANDSHAKE_AUTH
    elif kind == wire.EXT_SUPPORTED_VERSIONS:
        versions = body.vector(1, "versions")
        if body.left or versions.left < 2 or versions.left % 2:
            raise WireError("versions of odd length", at=body.at)
        offered = [versions.big(2) for _ in range(versions.left // 2)]
        offered = [wire.TLS13 if each >> 8 == wire.DRAFT_MAJOR else each for each in offered]
        known = [each for each in offered if not wire.is_grease(each) and 0 < each <= wire.TLS13]
        if known:
            seen.hello_version = max(known)
    elif kind in {wire.EXT_GROUPS, wire.EXT_SIGNATURE_ALGORITHMS}:
        numbers += [number for number in _numbers(body) if not wire.is_grease(number)]


def _server_hello(seen: _Seen, reader: Reader) -> None:
    """RFC 8446 section 4.1.3. Raises WireError."""
    if reader.left < 2 + wire.RANDOM_BYTES + 2:
        raise WireError("ServerHello too short", at=reader.at)
    seen.version = reader.big(2)
    retry = reader.take(wire.RANDOM_BYTES) == wire.HELLO_RETRY_RANDOM
    seen.flags |= kernel.HELLO_RETRY if retry else kernel.SERVER_HELLO
    if seen.is13:  # drafts of 1.3 up to 21 had neither session id nor compression here
        seen.cipher = reader.big(2)
    else:
        sid_bytes = reader.big(1)
        if sid_bytes > wire.MAX_SESSION_ID_BYTES or reader.left < sid_bytes + 3:
            raise WireError("session id too long", at=reader.at)
        sid = reader.take(sid_bytes)
        if sid:
            seen.flags |= kernel.SID_GIVEN
            seen.texts.setdefault(kernel.SPAN_SERVER_SID, sid)
        seen.cipher = reader.big(2)
        reader.skip(1, "compression method")
    if not reader.left:
        return
    extensions = reader.vector(2, "extensions")
    if reader.left:
        raise WireError("bytes behind the extensions", at=reader.at)
    while extensions.left:
        kind = extensions.big(2)
        body = extensions.vector(2, "extension")
        if kind == wire.EXT_SUPPORTED_VERSIONS:
            if body.left != 2:
                raise WireError("not one version", at=body.at)
            seen.version = body.big(2)
        elif kind == wire.EXT_PRE_SHARED_KEY:
            seen.flags |= kernel.PSK_SELECTED
        elif kind == wire.EXT_ALPN:
            names = body.vector(2, "ALPN names")
            name = names.vector(1, "ALPN name").take_rest()
            if body.left or names.left or not name:
                raise WireError("not one ALPN name", at=body.at)
            seen.flags |= kernel.ALPN_SELECTED
            seen.texts.setdefault(kernel.SPAN_SERVER_ALPN, name)


class _Direction:
    """The records of one direction."""

    def __init__(self, seen: _Seen, head: StreamHead, side: int) -> None:
        self.seen, self.head, self.side = seen, head, side
        self.encrypted = self.opaque = False
        self.messages = 0
        self.pending = b""
        """Start of a handshake message that goes on in the next record."""
        self.pending_at = 0
        self.no_hello = False

    def _flag(self, client_bit: int) -> None:
        self.seen.flags |= client_bit << self.side

    def _mark(self, place: int, at: int, end: int) -> None:
        frames = self.head.frames(at, end)
        self.seen.frames[place] = tuple(sorted({*self.seen.frames.get(place, ()), *frames}))

    def _event(self, end: int, letter: str) -> None:
        self._note(self.head.said(end), letter)

    def _note(self, said: Said, letter: str) -> None:
        events = self.seen.events[self.side]
        if len(events) < kernel.KEPT_RECORDS + 4:
            events.append((said, letter))

    def _stop(self, code: int) -> None:
        if not self.seen.stops[self.side]:
            self.seen.stops[self.side] = code

    @property
    def _full(self) -> bool:
        """More follows than is kept."""
        return self.head.stuffed and self.head.stream_bytes > len(self.head.data)

    def walk(self) -> None:
        """All records."""
        seen, head, data = self.seen, self.head, self.head.data
        if head.gap:
            self._flag(kernel.CLIENT_GAP)
        if head.midstream:
            self._flag(kernel.CLIENT_MIDSTREAM)
        if data:
            self._flag(kernel.CLIENT_BYTES)
        at = self._pass_ssl2(data) if self.side == 0 else self._pass_ssl2_answer(data)
        if at and (seen.version if self.side else seen.hello_version) == wire.SSL20:
            self._walk_ssl2(data, at)
            return
        self.no_hello = seen.version == 0 and not seen.flags & kernel.CLIENT_HELLO
        stopped = False
        while at + wire.RECORD_HEADER_BYTES <= len(data):
            kind, major, minor = data[at], data[at + 1], data[at + 2]
            size = int.from_bytes(data[at + 3 : at + 5], "big")
            known = kind in range(20, 24) and major == 3 and minor <= 4
            if not known or size > wire.MAX_RECORD_BYTES or (size == 0 and kind != wire.APPLICATION_DATA):
                self._stop(kernel.STOP_RECORD)
                stopped = True
                break
            end = at + wire.RECORD_HEADER_BYTES + size
            if not self._record(kind, at, end, size):
                stopped = True
                break
            if end > len(data):
                break
            at = end
        if stopped:
            return
        if head.trail is not None and head.trail.at == at:
            self._walk_trail(head.trail)
        elif self._full:
            self._flag(kernel.CLIENT_LIMIT)
        elif at < len(data):
            self._flag(kernel.CLIENT_CUT)

    def _walk_trail(self, trail: Trail) -> None:
        """The records behind a full head, of which only headers were read."""
        for record in trail.records:
            self._record_behind(record)
        if trail.bad:
            self._stop(kernel.STOP_RECORD if trail.bad == TRAIL_BAD_RECORD else kernel.STOP_MESSAGE)
        for holds, flag in (
            (trail.gap, kernel.CLIENT_GAP),
            (trail.limit, kernel.CLIENT_LIMIT),
            (trail.cut, kernel.CLIENT_CUT),
        ):
            if holds:
                self._flag(flag)

    def _mark_frames(self, place: int, record: TrailRecord) -> None:
        self.seen.frames[place] = tuple(sorted({*self.seen.frames.get(place, ()), record.first, record.last}))

    def _record_behind(self, record: TrailRecord) -> None:
        seen, side = self.seen, self.side
        letter = ""
        if record.kind == wire.CHANGE_CIPHER_SPEC:
            self._flag(kernel.CLIENT_CCS)
            self.encrypted = not seen.is13
        elif record.kind == wire.ALERT and record.size == 2:
            old = seen.alerts[side]
            if old == kernel.NO_ALERT or (old >> 8 != 2 and record.what >> 8 == 2):
                seen.alerts[side] = record.what
                seen.frames.pop(kernel.MARK_CLIENT_ALERT + side, None)
                self._mark_frames(kernel.MARK_CLIENT_ALERT + side, record)
            letter = "xy"[side]
        elif record.kind == wire.ALERT:
            self._flag(kernel.CLIENT_HIDDEN_ALERT)
        elif record.kind == wire.APPLICATION_DATA:
            if record.size and not seen.is13 and (seen.version or self.no_hello):
                self._flag(kernel.CLIENT_DATA)
                if kernel.MARK_CLIENT_DATA + side not in seen.frames:
                    self._mark_frames(kernel.MARK_CLIENT_DATA + side, record)
            seen.counts[side] += 1
            if len(seen.lengths[side]) < kernel.KEPT_RECORDS:
                seen.lengths[side].append(record.size)
                self._mark_frames(kernel.MARK_CLIENT_RECORDS + side, record)
                letter = "cs"[side]
        elif record.what != OPAQUE:
            letter = self._message_behind(record)
        elif self.encrypted and seen.flags & kernel.CLIENT_FINISHED << side:
            self._flag(kernel.CLIENT_LATE)
        elif self.encrypted:
            self._flag(kernel.CLIENT_FINISHED)
            self._mark_frames(kernel.MARK_CLIENT_FINISHED + side, record)
        if letter:
            self._note(Said(record.last), letter)

    def _message_behind(self, record: TrailRecord) -> str:
        """A message in the clear whose bytes were not kept; returns its letter in the order."""
        seen = self.seen
        shown, empty = kernel.CLIENT_CERTIFICATE, kernel.CLIENT_CERTIFICATE_EMPTY
        if self.side == 0:
            if record.what == wire.CLIENT_HELLO and seen.flags & kernel.CLIENT_HELLO:
                seen.flags |= kernel.SECOND_HELLO
                self._mark_frames(kernel.MARK_CLIENT_HELLO, record)
                return "C"
            if record.what == wire.CERTIFICATE and not seen.flags & (shown | empty):
                seen.flags |= shown | kernel.CLIENT_LONG if record.size > 3 else empty
                self._mark_frames(kernel.MARK_CLIENT_CERTIFICATE, record)
            elif record.what == wire.CLIENT_KEY_EXCHANGE:
                seen.flags |= kernel.CLIENT_KEY_EXCHANGE
            elif record.what == wire.CERTIFICATE_VERIFY:
                seen.flags |= kernel.CERTIFICATE_VERIFY
                self._mark_frames(kernel.MARK_CERTIFICATE_VERIFY, record)
        elif record.what == wire.CERTIFICATE:
            if not seen.flags & kernel.SERVER_CERTIFICATE:
                seen.flags |= kernel.SERVER_CERTIFICATE | kernel.SERVER_LONG
                self._mark_frames(kernel.MARK_SERVER_CERTIFICATE, record)
        elif record.what == wire.SERVER_KEY_EXCHANGE:
            seen.flags |= kernel.SERVER_KEY_EXCHANGE
        elif record.what == wire.CERTIFICATE_REQUEST:
            seen.flags |= kernel.CERTIFICATE_REQUEST
            self._mark_frames(kernel.MARK_CERTIFICATE_REQUEST, record)
        elif record.what == wire.SERVER_HELLO_DONE:
            seen.flags |= kernel.SERVER_HELLO_DONE
            self._mark_frames(kernel.MARK_SERVER_HELLO_DONE, record)
        elif record.what == wire.NEW_SESSION_TICKET and record.size > 6:
            seen.flags |= kernel.TICKET_ISSUED
            self._mark_frames(kernel.MARK_SERVER_TICKET, record)
        return ""

    def _pass_ssl2(self, data: bytes) -> int:
        if len(data) < _HELLO_BYTES or not data[0] & 0x80 or data[2] != wire.CLIENT_HELLO:
            return 0
        end = 2 + ((data[0] & 0x7F) << 8 | data[1])
        if end > len(data):
            return 0
        self.seen.flags |= kernel.CLIENT_HELLO | kernel.SSL2_HELLO
        self.seen.hello_version = int.from_bytes(data[3:5], "big")
        self._mark(kernel.MARK_CLIENT_HELLO, 0, end)
        self._event(end, "C")
        return end

    def _pass_ssl2_answer(self, data: bytes) -> int:
        """The ServerHello of SSL 2.0, whole or not: its first bytes tell it. Returns where it ends, 0: it is none."""
        if len(data) < wire.SSL2_SERVER_HELLO_BYTES or not data[0] & 0x80 or data[2] != wire.SSL2_SERVER_HELLO:
            return 0
        kind, version, certificate, kinds, name = (
            data[4],
            *(int.from_bytes(data[k : k + 2], "big") for k in (5, 7, 9, 11)),
        )
        size = (data[0] & 0x7F) << 8 | data[1]
        if version != wire.SSL20 or size != wire.SSL2_SERVER_HELLO_BYTES - 2 + certificate + kinds + name:
            return 0
        seen, end, begin = self.seen, 2 + size, wire.SSL2_SERVER_HELLO_BYTES
        seen.flags |= kernel.SERVER_HELLO
        seen.version = version
        self._mark(kernel.MARK_SERVER_HELLO, 0, min(end, len(data)))
        self._event(min(end, len(data)), "S")
        if certificate and kind == wire.SSL2_X509 and begin + certificate <= len(data):
            seen.flags |= kernel.SERVER_CERTIFICATE
            self._mark(kernel.MARK_SERVER_CERTIFICATE, begin, begin + certificate)
            entry = certificate.to_bytes(3, "big") + data[begin : begin + certificate]
            seen.texts[kernel.SPAN_SERVER_CERTIFICATE] = len(entry).to_bytes(3, "big") + entry
        return end

    def _walk_ssl2(self, data: bytes, at: int) -> None:
        """Messages of SSL 2.0 behind the hello, which are encrypted but for the client's key: how many there are tells how far it came."""
        ends: list[tuple[int, int]] = []
        start = at
        while at + 2 <= len(data):
            long = data[at] & 0x80 == 0
            size = ((data[at] & (0x3F if long else 0x7F)) << 8 | data[at + 1]) + (3 if long else 2)
            if at + size > len(data):
                break
            ends.append((at, at + size))
            at += size
        if at < len(data) or start > len(data):
            self._flag(kernel.CLIENT_CUT)
        if self.side == 0:
            if not ends or data[start + 2 : start + 3] != bytes([wire.SSL2_CLIENT_MASTER_KEY]):
                return
            self.seen.flags |= kernel.CLIENT_KEY_EXCHANGE
            del ends[0]
        # Each end verifies or finishes in its first message; the server may ask for a certificate before it finishes, and the client send one.
        finished = 0 if self.side == 0 else 2
        if len(ends) > finished:
            self._flag(kernel.CLIENT_FINISHED)
            self._mark(kernel.MARK_CLIENT_FINISHED + self.side, *ends[finished])
        if len(ends) > finished + 2:
            self._flag(kernel.CLIENT_DATA)
            self._mark(kernel.MARK_CLIENT_DATA + self.side, *ends[finished + 2])

    def _record(self, kind: int, at: int, end: int, size: int) -> bool:
        """One record at ``at``, perhaps cut off; False where reading must end."""
        seen, data, side = self.seen, self.head.data, self.side
        body = at + wire.RECORD_HEADER_BYTES
        whole = end <= len(data)
        visible = data[body:end]
        if kind == wire.CHANGE_CIPHER_SPEC:
            if whole:
                self._flag(kernel.CLIENT_CCS)
                self.encrypted = not seen.is13
        elif kind == wire.ALERT:
            if whole and size == 2:
                said, old = int.from_bytes(visible, "big"), seen.alerts[side]
                if old == kernel.NO_ALERT or (old >> 8 != 2 and said >> 8 == 2):
                    seen.alerts[side] = said
                    seen.frames.pop(kernel.MARK_CLIENT_ALERT + side, None)
                    self._mark(kernel.MARK_CLIENT_ALERT + side, at, end)
                self._event(end, "xy"[side])
            elif whole:
                self._flag(kernel.CLIENT_HIDDEN_ALERT)
                self._event(end, "xy"[side])
        elif kind == wire.APPLICATION_DATA:
            if visible and not seen.is13 and (seen.version or self.no_hello):
                self._flag(kernel.CLIENT_DATA)
                if kernel.MARK_CLIENT_DATA + side not in seen.frames:
                    self._mark(kernel.MARK_CLIENT_DATA + side, at, min(end, len(data)))
            # Of a record in which the head ends, what was followed behind it tells.
            followed = self.head.trail is not None and self.head.trail.at == at
            if whole or (self._full and not followed):
                seen.counts[side] += 1
                if len(seen.lengths[side]) < kernel.KEPT_RECORDS:
                    seen.lengths[side].append(size)
                    self._mark(kernel.MARK_CLIENT_RECORDS + side, at, min(end, len(data)))
                    self._event(min(end, len(data)), "cs"[side])
        else:
            return self._handshake(visible, body, end, size, whole=whole)
        return True

    def _handshake(self, visible: bytes, body: int, end: int, size: int, *, whole: bool) -> bool:
        """A record of type 22."""
        seen = self.seen
        # Without a ServerHello, a second ClientHello behind ChangeCipherSpec tells of TLS 1.3.
        second = (
            self.side == 0
            and seen.version == 0
            and visible[:1] == b"\x01"
            and len(visible) >= 4
            and int.from_bytes(visible[1:4], "big") == size - wire.MESSAGE_HEADER_BYTES
        )
        if self.opaque or (self.encrypted and not second):
            if whole and self.encrypted:
                if seen.flags & kernel.CLIENT_FINISHED << self.side:
                    self._flag(kernel.CLIENT_LATE)
                else:
                    self._flag(kernel.CLIENT_FINISHED)
                    self._mark(kernel.MARK_CLIENT_FINISHED + self.side, body - wire.RECORD_HEADER_BYTES, end)
            return True
        unsure = self.head.midstream and self.messages == 0
        data = self.pending + visible
        base = body - len(self.pending)
        """Offset in the head that ``data[0]`` would have, were the message in one piece: right for all but its first bytes."""
        start = self.pending_at if self.pending else body
        at = 0
        while at < len(data):
            left = len(data) - at
            if left < wire.MESSAGE_HEADER_BYTES:
                if whole and unsure:
                    self.opaque = True
                    return True
                break
            kind, length = data[at], int.from_bytes(data[at + 1 : at + 4], "big")
            over = whole or base + at + 4 + length <= end
            unsure = self.head.midstream and self.messages == 0
            beyond = base + at + 4 + length > end
            if kind not in wire.KNOWN_MESSAGES or (beyond and unsure):
                if unsure:
                    self.opaque = True
                    return True
                self._stop(kernel.STOP_MESSAGE)
                return False
            if left < 4 + length or not over:
                break
            self._message(kind, data[at : at + 4 + length], start, base + at + 4 + length)
            self.messages += 1
            at += 4 + length
            start = base + at
        self.pending, self.pending_at = (data[at:], start) if whole else (b"", 0)
        return True

    def _message(self, kind: int, message: bytes, at: int, end: int) -> None:
        """One whole handshake message; it came between ``at`` and ``end`` of the head."""
        seen = self.seen
        reader = Reader(message, wire.MESSAGE_HEADER_BYTES, whole=True)
        if self.side == 0:
            if kind == wire.CLIENT_HELLO:
                first = not seen.flags & kernel.CLIENT_HELLO
                seen.flags |= kernel.CLIENT_HELLO if first else kernel.SECOND_HELLO
                self._mark(kernel.MARK_CLIENT_HELLO, at, end)
                self._event(end, "C")
                if first:
                    try:
                        _client_hello(seen, reader)
                    except WireError:
                        self._stop(kernel.STOP_CLIENT_HELLO)
            elif kind == wire.CERTIFICATE:
                if not seen.flags & (kernel.CLIENT_CERTIFICATE | kernel.CLIENT_CERTIFICATE_EMPTY):
                    self._mark(kernel.MARK_CLIENT_CERTIFICATE, at, end)
                    if reader.peek(3) == bytes(3) or reader.left < 3:
                        seen.flags |= kernel.CLIENT_CERTIFICATE_EMPTY
                    else:
                        seen.flags |= kernel.CLIENT_CERTIFICATE
                        seen.texts[kernel.SPAN_CLIENT_CERTIFICATE] = reader.take_rest()
            elif kind == wire.CLIENT_KEY_EXCHANGE:
                seen.flags |= kernel.CLIENT_KEY_EXCHANGE
            elif kind == wire.CERTIFICATE_VERIFY:
                seen.flags |= kernel.CERTIFICATE_VERIFY
                self._mark(kernel.MARK_CERTIFICATE_VERIFY, at, end)
        elif kind == wire.SERVER_HELLO:
            if not seen.flags & kernel.SERVER_HELLO:
                retried = seen.flags & kernel.HELLO_RETRY
                self._mark(kernel.MARK_SERVER_HELLO, at, end)
                try:
                    _server_hello(seen, reader)
                except WireError:
                    self._stop(kernel.STOP_SERVER_HELLO)
                self._event(end, "H" if seen.flags & kernel.HELLO_RETRY and not retried else "S")
        elif kind == wire.CERTIFICATE:
            if not seen.flags & kernel.SERVER_CERTIFICATE:
                seen.flags |= kernel.SERVER_CERTIFICATE
                self._mark(kernel.MARK_SERVER_CERTIFICATE, at, end)
                seen.texts[kernel.SPAN_SERVER_CERTIFICATE] = reader.take_rest()
        elif kind == wire.SERVER_KEY_EXCHANGE:
            seen.flags |= kernel.SERVER_KEY_EXCHANGE
        elif kind == wire.CERTIFICATE_REQUEST:
            seen.flags |= kernel.CERTIFICATE_REQUEST
            self._mark(kernel.MARK_CERTIFICATE_REQUEST, at, end)
        elif kind == wire.SERVER_HELLO_DONE:
            seen.flags |= kernel.SERVER_HELLO_DONE
            self._mark(kernel.MARK_SERVER_HELLO_DONE, at, end)
        elif kind == wire.NEW_SESSION_TICKET and reader.left > 6:  # lifetime (4), length (2): RFC 5077 section 3.3
            seen.flags |= kernel.TICKET_ISSUED
            self._mark(kernel.MARK_SERVER_TICKET, at, end)
            seen.texts.setdefault(kernel.SPAN_SERVER_TICKET, message[10:])


def _look(streams: Streams) -> _Seen:
    """Both directions; the server's first, because its hello says how the client's records are to be read."""
    seen = _Seen()
    for side, head in ((1, streams.resp), (0, streams.orig)):
        _Direction(seen, head, side).walk()
    ids = seen.texts.get(kernel.SPAN_CLIENT_SID), seen.texts.get(kernel.SPAN_SERVER_SID)
    if ids[0] is not None and ids[0] == ids[1]:
        seen.flags |= kernel.SID_ECHOED
    return seen


def _signature_fits(seen: _Seen, streams: Streams) -> bool | None:
    """Whether the client's signature fits its handshake; None: that cannot be checked."""
    if seen.flags & facts.SIGNED != facts.SIGNED or seen.version != wire.TLS12:
        return None
    leaf = facts.split_certificates(seen.texts[kernel.SPAN_CLIENT_CERTIFICATE])[0]
    return Proofs().fits(streams.orig.data, streams.resp.data, leaf)


def inspect(streams: Streams) -> Iterator[Evidence | Attachment]:
    """Never raises: what contradicts itself is reported as ``tls.malformed``, beside what was read before it."""
    seen = _look(streams)
    told = facts.describe(
        seen.flags,
        seen.shape,
        seen.hello_version,
        seen.version,
        seen.cipher,
        (seen.alerts[0], seen.alerts[1]),
        (seen.stops[0], seen.stops[1]),
        seen.psk_identity_bytes,
    )
    wrong = False
    chains: list[tuple[str, ...] | None] = [None, None]
    attached: list[Attachment] = []
    for side, place in enumerate((kernel.SPAN_CLIENT_CERTIFICATE, kernel.SPAN_SERVER_CERTIFICATE)):
        if place in seen.texts:
            try:
                ders = facts.split_certificates(seen.texts[place])
            except WireError:
                wrong = True
            else:
                entries = [Attachment(facts.fingerprint(der), der) for der in ders]
                attached += entries
                chains[side] = tuple(each.fingerprint for each in entries)
    offered = None
    if kernel.SPAN_CLIENT_ALPN in seen.texts:
        try:
            offered = facts.split_alpn(seen.texts[kernel.SPAN_CLIENT_ALPN])
        except WireError:
            wrong = True
    sni, selected = seen.texts.get(kernel.SPAN_SNI), seen.texts.get(kernel.SPAN_SERVER_ALPN)
    told |= facts.common_parts(
        None if sni is None else printable(sni),
        offered,
        None if selected is None else printable(selected, 64),
        chains[0],
        chains[1],
        wrong,
    )
    fits = _signature_fits(seen, streams) if chains[0] else None
    if fits is not None:
        told[SIGNATURE_FITS] = fits
    told |= facts.own_facts(
        seen.flags,
        seen.version,
        seen.texts.get(kernel.SPAN_CLIENT_SID, b""),
        seen.texts.get(kernel.SPAN_SERVER_SID, b""),
        seen.texts.get(kernel.SPAN_CLIENT_TICKET, b""),
        seen.texts.get(kernel.SPAN_SERVER_TICKET, b""),
        (tuple(seen.lengths[0]), tuple(seen.lengths[1])),
        (seen.counts[0], seen.counts[1]),
        seen.order,
    )
    yield from attached
    for kind, value in told.items():
        mark = facts.MARKS.get(kind)
        yield Evidence(kind, value, Certainty.PROVEN, () if mark is None else seen.frames.get(mark, ()))


INSPECTOR = Inspector(
    name="tls",
    transports=frozenset({"tcp"}),
    ports=frozenset({443, 1801, 4224, 4443, 8443, 8889, 8891, 9016, 9023, 9024, 9091}),
    signatures=(
        Signature("client", b"\x16\x03\x00", 0, b"\xff\xff\xf8"),
        Signature("server", b"\x16\x03\x00", 0, b"\xff\xff\xf8"),
        Signature("client", b"\x80\x00\x01", 0, b"\x80\x00\xff"),
        *(Signature(side, bytes((kind, 3)), 0) for side in ("client", "server") for kind in (20, 21, 23)),
    ),
    probe=probe,
    inspect=inspect,
)
