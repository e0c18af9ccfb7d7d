"""TLS in the heads of many connections at once.

One pass over the records of each direction, and over the handshake messages that are in the clear. The server goes first, because its
ServerHello says how the client's records are to be read: up to TLS 1.2 everything behind ChangeCipherSpec is encrypted; in TLS 1.3
ChangeCipherSpec means nothing (RFC 8446 appendix D.4), a second ClientHello may follow it, and encrypted records say they are
application data (section 5.2).

Behind a full head the records go on that were followed by their headers alone (``kernels/trail.py``): what they show is told alike, but the bytes
of certificates that end there are not kept.

What a row says is only what the bytes before the first gap say. A handshake message that is spread over several records, and a session of
SSL 2.0, are not followed here: the row gets ``ODD`` and the inspector, which is this kernel's naive twin, reads that connection. Nothing raises; a stop code says
where reading ended.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.accelerate import kernel, scratch
from auditor.kernels.bytes import be16, u8
from auditor.kernels.signatures import SOON, head_soon
from auditor.model.connections import FRAME_BITS
from auditor.model.streams import (
    OPAQUE,
    TRAIL_BAD_MESSAGE,
    TRAIL_BAD_RECORD,
    TRAIL_CUT,
    TRAIL_FULL,
    TRAIL_GAP,
    TRAIL_LIMIT,
    TRAIL_RUNS,
)
from auditor.wire import tls as wire

# Bits of ``flags``. Those of a side come in pairs, client first.
CLIENT_HELLO = 1 << 0
SERVER_HELLO = 1 << 1
HELLO_RETRY = 1 << 2
SECOND_HELLO = 1 << 3
SSL2_HELLO = 1 << 4
SID_OFFERED = 1 << 5
SID_GIVEN = 1 << 6
SID_ECHOED = 1 << 7  # the server's session id is the one that the client offered
TICKET_OFFERED = 1 << 8
TICKET_ISSUED = 1 << 9
PSK_OFFERED = 1 << 10
PSK_SELECTED = 1 << 11
EARLY_DATA_OFFERED = 1 << 12
POST_HANDSHAKE_AUTH = 1 << 13
SERVER_CERTIFICATE = 1 << 14
SERVER_KEY_EXCHANGE = 1 << 15
CERTIFICATE_REQUEST = 1 << 16
SERVER_HELLO_DONE = 1 << 17
CLIENT_CERTIFICATE = 1 << 18
CLIENT_CERTIFICATE_EMPTY = 1 << 19
CLIENT_KEY_EXCHANGE = 1 << 20
CERTIFICATE_VERIFY = 1 << 21
SNI = 1 << 22
ALPN_OFFERED = 1 << 23
ALPN_SELECTED = 1 << 24
CLIENT_CCS, SERVER_CCS = 1 << 26, 1 << 27
CLIENT_FINISHED, SERVER_FINISHED = (
    1 << 28,
    1 << 29,
)  # the first encrypted handshake record behind ChangeCipherSpec, up to TLS 1.2
CLIENT_LATE, SERVER_LATE = 1 << 30, 1 << 31  # handshake records behind that
CLIENT_DATA, SERVER_DATA = 1 << 32, 1 << 33  # records of type 23 where they mean application data: up to TLS 1.2
CLIENT_HIDDEN_ALERT, SERVER_HIDDEN_ALERT = 1 << 34, 1 << 35
CLIENT_GAP, SERVER_GAP = 1 << 36, 1 << 37
CLIENT_CUT, SERVER_CUT = 1 << 38, 1 << 39  # the head ends inside a record
CLIENT_MIDSTREAM, SERVER_MIDSTREAM = 1 << 40, 1 << 41
CLIENT_BYTES, SERVER_BYTES = 1 << 42, 1 << 43  # that side sent payload
ODD = 1 << 44
CLIENT_LIMIT, SERVER_LIMIT = 1 << 45, 1 << 46  # more was there than is followed
CLIENT_LONG, SERVER_LONG = 1 << 47, 1 << 48  # a Certificate message that ends behind the head: its bytes are not kept

NO_ALERT = 0xFFFF

STOP_NONE = 0
STOP_RECORD = 1
STOP_MESSAGE = 2
STOP_CLIENT_HELLO = 3
STOP_SERVER_HELLO = 4
STOP_SAYS = (
    "",
    "no TLS record",
    "no TLS handshake message",
    "ClientHello contradicts itself",
    "ServerHello contradicts itself",
)

# Places in ``spans``: (offset, bytes) in the head of the side that said it; offset -1: not there.
(
    SPAN_SNI,
    SPAN_CLIENT_ALPN,
    SPAN_SERVER_ALPN,
    SPAN_CLIENT_SID,
    SPAN_SERVER_SID,
    SPAN_CLIENT_TICKET,
    SPAN_SERVER_TICKET,
    SPAN_CLIENT_CERTIFICATE,
    SPAN_SERVER_CERTIFICATE,
) = range(9)
N_SPANS = 9

# Places in ``marks``: frame of the first and of the last byte; 0: none. Pairs are client, server.
(
    MARK_CLIENT_HELLO,
    MARK_SERVER_HELLO,
    MARK_CLIENT_CERTIFICATE,
    MARK_SERVER_CERTIFICATE,
    MARK_CERTIFICATE_REQUEST,
    MARK_CERTIFICATE_VERIFY,
    MARK_CLIENT_FINISHED,
    MARK_SERVER_FINISHED,
    MARK_CLIENT_ALERT,
    MARK_SERVER_ALERT,
    MARK_CLIENT_DATA,
    MARK_SERVER_DATA,
    MARK_CLIENT_RECORDS,
    MARK_SERVER_RECORDS,
    MARK_SERVER_HELLO_DONE,
    MARK_SERVER_TICKET,
) = range(16)
N_MARKS = 16

KEPT_RECORDS = 32
"""So many encrypted records of each side have their length kept: flights, and the dialogue that follows them."""
_EVENTS = KEPT_RECORDS + 4

TLS_ROW = np.dtype(
    [
        # What connections have in common stands first and together: these bytes are the key under which conclusions are shared.
        ("flags", np.int64),
        ("shape", np.uint32, (2,)),  # of the ClientHello: versions, suites, extensions, groups, signature algorithms
        ("hello_version", np.uint16),  # highest offered
        ("version", np.uint16),  # negotiated; 0: no ServerHello
        ("cipher", np.uint16),
        ("alert", np.uint16, (2,)),  # level << 8 | description; the first fatal one, else the first
        ("stop", np.uint8, (2,)),
        ("psk_identity_bytes", np.int32),
        # From here on: what differs.
        ("stop_at", np.int32, (2,)),
        ("spans", np.int32, (N_SPANS, 2)),
        ("n_records", np.int32, (2,)),  # encrypted records seen; ``lengths`` holds the first KEPT_RECORDS
        ("lengths", np.int32, (2, KEPT_RECORDS)),
        ("n_order", np.int32),
        (
            "order",
            np.uint8,
            (2 * _EVENTS,),
        ),  # which side sent what, in order of acknowledgements, else of frames (none: they are of several captures): C S H (retry) hellos, c s encrypted records, x y alerts
        ("marks", np.int64, (N_MARKS, 2)),
    ],
    align=True,
)
KEY_BYTES = int(TLS_ROW.fields["stop_at"][1])  # type: ignore[index]  # a structured dtype has fields

_HTTP_NAMES = sorted(name.encode() for name in wire.HTTP_ALPN)
_HTTP_SIZE = np.array([len(name) for name in _HTTP_NAMES], dtype=np.int64)
_HTTP = np.array([list(name.ljust(int(_HTTP_SIZE.max()), b"\0")) for name in _HTTP_NAMES], dtype=np.uint8)
MAX_ALPN = 16
"""So many names of a list are looked at."""

_RETRY = np.frombuffer(wire.HELLO_RETRY_RANDOM, dtype=np.uint8)
_KNOWN = np.array([t in wire.KNOWN_MESSAGES for t in range(256)], dtype=np.bool_)

_ORDER_CLIENT_HELLO, _ORDER_SERVER_HELLO, _ORDER_RETRY = ord("C"), ord("S"), ord("H")
_ORDER_RECORD = (ord("c"), ord("s"))
_ORDER_ALERT = (ord("x"), ord("y"))
_RECORD_CLIENT, _RECORD_SERVER = _ORDER_RECORD
_ALERT_CLIENT, _ALERT_SERVER = _ORDER_ALERT

# numba freezes plain numbers of this module, not the attributes of another one.
_HEADER, _MESSAGE_HEADER, _MAX_RECORD = wire.RECORD_HEADER_BYTES, wire.MESSAGE_HEADER_BYTES, wire.MAX_RECORD_BYTES
_CCS, _ALERT, _HANDSHAKE, _DATA = wire.CHANGE_CIPHER_SPEC, wire.ALERT, wire.HANDSHAKE, wire.APPLICATION_DATA
_CLIENT_HELLO, _SERVER_HELLO, _NEW_TICKET = wire.CLIENT_HELLO, wire.SERVER_HELLO, wire.NEW_SESSION_TICKET
_CERTIFICATE, _SERVER_KEY_EXCHANGE, _CERTIFICATE_REQUEST = (
    wire.CERTIFICATE,
    wire.SERVER_KEY_EXCHANGE,
    wire.CERTIFICATE_REQUEST,
)
_SERVER_HELLO_DONE, _CERTIFICATE_VERIFY, _CLIENT_KEY_EXCHANGE = (
    wire.SERVER_HELLO_DONE,
    wire.CERTIFICATE_VERIFY,
    wire.CLIENT_KEY_EXCHANGE,
)
_EXT_SNI, _EXT_GROUPS, _EXT_SIGALGS, _EXT_ALPN = (
    wire.EXT_SERVER_NAME,
    wire.EXT_GROUPS,
    wire.EXT_SIGNATURE_ALGORITHMS,
    wire.EXT_ALPN,
)
_EXT_PADDING, _EXT_TICKET, _EXT_PSK, _EXT_EARLY = (
    wire.EXT_PADDING,
    wire.EXT_SESSION_TICKET,
    wire.EXT_PRE_SHARED_KEY,
    wire.EXT_EARLY_DATA,
)
_EXT_VERSIONS, _EXT_COOKIE, _EXT_PHA = (
    wire.EXT_SUPPORTED_VERSIONS,
    wire.EXT_COOKIE,
    wire.EXT_POST_HANDSHAKE_AUTH,
)
_TLS13, _DRAFT, _RANDOM = wire.TLS13, wire.DRAFT_MAJOR, wire.RANDOM_BYTES
_MAX_SID = wire.MAX_SESSION_ID_BYTES
_FRAME_BITS = FRAME_BITS
_HALF, _TIMES = 1 << 31, 3 * _EVENTS
_SSL20, _SSL2_SERVER_HELLO, _SSL2_SERVER_HELLO_BYTES = wire.SSL20, wire.SSL2_SERVER_HELLO, wire.SSL2_SERVER_HELLO_BYTES

_SHAPE_MASK = 0xFFFFFFFF
_SHAPE_A, _SHAPE_B = 16_777_619, 69_069
_SHAPE_START_A, _SHAPE_START_B = 2_166_136_261, 362_437


@kernel
def _int(value: Any) -> int:
    """A field, widened: numba would mix uint64 with int64 into float64."""
    return np.int64(value)  # type: ignore[return-value]  # int64 in the machine, an int to its caller


@kernel
def _be24(buf: NDArray[np.uint8], at: int) -> int:
    return u8(buf, at) << 16 | be16(buf, at + 1)


@kernel
def _grease(number: int) -> bool:
    """RFC 8701 section 2."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF


@kernel
def _span(row: Any, which: int, at: int, size: int) -> None:
    if row["spans"][which, 0] < 0:
        row["spans"][which, 0] = at
        row["spans"][which, 1] = size


@kernel
def _frame_at(head: Any, at: int) -> int:
    """Number of the frame that brought the byte at ``at``."""
    best, frame = -1, 0
    for k in range(_int(head["n_segments"])):
        offset = _int(head["segment_at"][k])
        if best < offset <= at:
            best, frame = offset, _int(head["segment_frame"][k])
    return frame


@kernel
def _frame_until(head: Any, brief: bool, end: int) -> int:
    """Number of the frame with which all bytes before ``end`` had come; ``brief``: nobody asks, 0."""
    frame = 0
    if brief:
        return frame
    for k in range(_int(head["n_segments"])):
        if _int(head["segment_at"][k]) < end:
            frame = max(frame, _int(head["segment_frame"][k]))
    return frame


@kernel
def _said(head: Any, brief: bool, end: int, event_frame: NDArray[np.int64], n: int) -> None:
    """Note when all bytes before ``end`` had been said: the frame, the sequence number behind them, and what they acknowledge."""
    best, ack = -1, 0
    if not brief:
        for k in range(_int(head["n_segments"])):
            at = _int(head["segment_at"][k])
            if best < at < end:
                best, ack = at, _int(head["segment_ack"][k])
    event_frame[n] = _frame_until(head, brief, end)
    event_frame[_EVENTS + n] = (_int(head["first_seq"]) + end) & 0xFFFFFFFF
    event_frame[2 * _EVENTS + n] = ack


@kernel
def _mark(row: Any, head: Any, brief: bool, which: int, at: int, end: int) -> None:
    """First call: frames of both ends; later calls move the last. ``brief``: nobody asks."""
    if brief:
        return
    if row["marks"][which, 0] == 0:
        row["marks"][which, 0] = _frame_at(head, at)
    row["marks"][which, 1] = _frame_at(head, end - 1)


@kernel
def _stop(row: Any, side: int, code: int, at: int) -> None:
    if row["stop"][side] == STOP_NONE:
        row["stop"][side] = code
        row["stop_at"][side] = at


@kernel
def _client_hello(row: Any, brief: bool, buf: NDArray[np.uint8], at: int, end: int) -> bool:
    """Body of a ClientHello at ``buf[at:end]``, RFC 8446 section 4.1.2; False where it contradicts itself. ``brief``: nobody asks for its shape."""
    if end - at < 2 + _RANDOM + 1:
        return False
    legacy = be16(buf, at)
    row["hello_version"] = legacy
    a = ((_SHAPE_START_A ^ legacy) * _SHAPE_A) & _SHAPE_MASK
    b = ((_SHAPE_START_B ^ legacy) * _SHAPE_B + 1) & _SHAPE_MASK
    at += 2 + _RANDOM
    size = u8(buf, at)
    at += 1
    if size > _MAX_SID or end - at < size + 2:
        return False
    if size:
        row["flags"] |= SID_OFFERED
        _span(row, SPAN_CLIENT_SID, at, size)
    at += size
    size = be16(buf, at)
    at += 2
    if size < 2 or size % 2 or end - at < size + 1:
        return False
    for k in range(at, at if brief else at + size, 2):
        suite = be16(buf, k)
        if not _grease(suite):
            a = ((a ^ suite) * _SHAPE_A) & _SHAPE_MASK
            b = ((b ^ suite) * _SHAPE_B + 1) & _SHAPE_MASK
    at += size
    size = u8(buf, at)
    at += 1
    if size < 1 or end - at < size:
        return False
    at += size
    good = True
    if at < end:
        if end - at < 2 or be16(buf, at) != end - at - 2:
            good = False
        else:
            at += 2
            while good and at < end:
                if end - at < 4:
                    good = False
                    break
                kind, size = be16(buf, at), be16(buf, at + 2)
                at += 4
                if end - at < size:
                    good = False
                    break
                # BOUNDS: at + size <= end, and every read below is inside size
                if not _grease(kind) and kind not in (_EXT_SNI, _EXT_PADDING, _EXT_PSK, _EXT_EARLY, _EXT_COOKIE):
                    a = ((a ^ kind) * _SHAPE_A) & _SHAPE_MASK
                    b = ((b ^ kind) * _SHAPE_B + 1) & _SHAPE_MASK
                if kind == _EXT_SNI:
                    if size >= 5:
                        name = be16(buf, at + 3)
                        if be16(buf, at) != size - 2 or name > size - 5 or name == 0:
                            good = False
                        elif buf[at + 2] == 0:
                            row["flags"] |= SNI
                            _span(row, SPAN_SNI, at + 5, name)
                    elif size:
                        good = False
                elif kind == _EXT_ALPN:
                    if size < 2 or be16(buf, at) != size - 2:
                        good = False
                    else:
                        row["flags"] |= ALPN_OFFERED
                        _span(row, SPAN_CLIENT_ALPN, at + 2, size - 2)
                elif kind == _EXT_TICKET:
                    if size:
                        row["flags"] |= TICKET_OFFERED
                        _span(row, SPAN_CLIENT_TICKET, at, size)
                elif kind == _EXT_PSK:
                    if size < 4 or be16(buf, at + 2) > size - 4:
                        good = False
                    elif not row["flags"] & PSK_OFFERED:
                        row["flags"] |= PSK_OFFERED
                        row["psk_identity_bytes"] = be16(buf, at + 2)
                elif kind == _EXT_EARLY:
                    row["flags"] |= EARLY_DATA_OFFERED
                elif kind == _EXT_PHA:
                    row["flags"] |= POST_HANDSHAKE_AUTH
                elif kind == _EXT_VERSIONS:
                    if size < 3 or size % 2 == 0 or buf[at] != size - 1:
                        good = False
                    else:
                        highest = 0
                        for k in range(at + 1, at + size, 2):
                            offered = be16(buf, k)
                            if offered >> 8 == _DRAFT:
                                offered = _TLS13
                            if not _grease(offered) and offered <= _TLS13:
                                highest = max(highest, offered)
                        if highest:
                            row["hello_version"] = highest
                elif kind in (_EXT_GROUPS, _EXT_SIGALGS):
                    if size < 2 or be16(buf, at) != size - 2 or size % 2:
                        good = False
                    else:
                        for k in range(at + 2, at + 2 if brief else at + size, 2):
                            group = be16(buf, k)
                            if not _grease(group):
                                a = ((a ^ group) * _SHAPE_A) & _SHAPE_MASK
                                b = ((b ^ group) * _SHAPE_B + 1) & _SHAPE_MASK
                at += size
    row["shape"][0] = a
    row["shape"][1] = b
    return good


@kernel
def _server_hello(row: Any, buf: NDArray[np.uint8], at: int, end: int) -> bool:
    """Body of a ServerHello at ``buf[at:end]``, RFC 8446 section 4.1.3; False where it contradicts itself."""
    if end - at < 2 + _RANDOM + 2:
        return False
    version = be16(buf, at)
    at += 2
    retry = True
    for k in range(_RANDOM):
        if buf[at + k] != _RETRY[k]:
            retry = False
            break
    if retry:
        row["flags"] |= HELLO_RETRY
    else:
        row["flags"] |= SERVER_HELLO
    row["version"] = version
    at += _RANDOM
    if (
        version >> 8 == _DRAFT or version == _TLS13
    ):  # drafts of 1.3 up to 21 had neither session id nor compression here
        row["cipher"] = be16(buf, at)
        at += 2
    else:
        size = u8(buf, at)
        at += 1
        if size > _MAX_SID or end - at < size + 3:
            return False
        if size:
            row["flags"] |= SID_GIVEN
            _span(row, SPAN_SERVER_SID, at, size)
        at += size
        row["cipher"] = be16(buf, at)
        at += 3
    if at == end:
        return True
    if end - at < 2 or be16(buf, at) != end - at - 2:
        return False
    at += 2
    while at < end:
        if end - at < 4:
            return False
        kind, size = be16(buf, at), be16(buf, at + 2)
        at += 4
        if end - at < size:
            return False
        # BOUNDS: at + size <= end, and every read below is inside size
        if kind == _EXT_VERSIONS:
            if size != 2:
                return False
            row["version"] = be16(buf, at)
        elif kind == _EXT_PSK:
            row["flags"] |= PSK_SELECTED
        elif kind == _EXT_ALPN:
            if size < 4 or be16(buf, at) != size - 2 or u8(buf, at + 2) != size - 3:
                return False
            row["flags"] |= ALPN_SELECTED
            _span(row, SPAN_SERVER_ALPN, at + 3, size - 3)
        at += size
    return True


@kernel
def _message(row: Any, head: Any, brief: bool, buf: NDArray[np.uint8], kind: int, at: int, end: int, side: int) -> int:
    """One whole handshake message in the clear at ``buf[at:end]``, header included; returns its letter in ``order``, 0: none."""
    body = at + _MESSAGE_HEADER
    letter = 0
    if side == 0:
        if kind == _CLIENT_HELLO:
            letter = _ORDER_CLIENT_HELLO
            if row["flags"] & CLIENT_HELLO:
                row["flags"] |= SECOND_HELLO
                _mark(row, head, brief, MARK_CLIENT_HELLO, at, end)
            else:
                row["flags"] |= CLIENT_HELLO
                _mark(row, head, brief, MARK_CLIENT_HELLO, at, end)
                if not _client_hello(row, brief, buf, body, end):
                    _stop(row, side, STOP_CLIENT_HELLO, at)
        elif kind == _CERTIFICATE:
            if not row["flags"] & (CLIENT_CERTIFICATE | CLIENT_CERTIFICATE_EMPTY):
                _mark(row, head, brief, MARK_CLIENT_CERTIFICATE, at, end)
                if end - body < 3 or _be24(buf, body) == 0:
                    row["flags"] |= CLIENT_CERTIFICATE_EMPTY
                else:
                    row["flags"] |= CLIENT_CERTIFICATE
                    _span(row, SPAN_CLIENT_CERTIFICATE, body, end - body)
        elif kind == _CLIENT_KEY_EXCHANGE:
            row["flags"] |= CLIENT_KEY_EXCHANGE
        elif kind == _CERTIFICATE_VERIFY:
            row["flags"] |= CERTIFICATE_VERIFY
            _mark(row, head, brief, MARK_CERTIFICATE_VERIFY, at, end)
    elif kind == _SERVER_HELLO:
        if not row["flags"] & SERVER_HELLO:
            retried = row["flags"] & HELLO_RETRY
            _mark(row, head, brief, MARK_SERVER_HELLO, at, end)
            if not _server_hello(row, buf, body, end):
                _stop(row, side, STOP_SERVER_HELLO, at)
            letter = _ORDER_SERVER_HELLO
            if not retried and row["flags"] & HELLO_RETRY:
                letter = _ORDER_RETRY
    elif kind == _CERTIFICATE:
        if not row["flags"] & SERVER_CERTIFICATE:
            row["flags"] |= SERVER_CERTIFICATE
            _mark(row, head, brief, MARK_SERVER_CERTIFICATE, at, end)
            _span(row, SPAN_SERVER_CERTIFICATE, body, end - body)
    elif kind == _SERVER_KEY_EXCHANGE:
        row["flags"] |= SERVER_KEY_EXCHANGE
    elif kind == _CERTIFICATE_REQUEST:
        row["flags"] |= CERTIFICATE_REQUEST
        _mark(row, head, brief, MARK_CERTIFICATE_REQUEST, at, end)
    elif kind == _SERVER_HELLO_DONE:
        row["flags"] |= SERVER_HELLO_DONE
        _mark(row, head, brief, MARK_SERVER_HELLO_DONE, at, end)
    elif kind == _NEW_TICKET and end - body > 6:  # lifetime (4), length (2), ticket: RFC 5077 section 3.3
        row["flags"] |= TICKET_ISSUED
        _mark(row, head, brief, MARK_SERVER_TICKET, at, end)
        _span(row, SPAN_SERVER_TICKET, body + 6, end - body - 6)
    return letter


@kernel
def _ssl2_hello(row: Any, head: Any, brief: bool, buf: NDArray[np.uint8], at: int, filled: int) -> int:
    """A ClientHello in the form of SSL 2.0 (RFC 5246 appendix E.2) at ``at``; returns where it ends, ``at`` where there is none."""
    if filled - at < 11 or buf[at] & 0x80 == 0 or buf[at + 2] != 1:
        return at
    end = at + 2 + ((u8(buf, at) & 0x7F) << 8 | u8(buf, at + 1))
    if end > filled:
        return at
    row["flags"] |= CLIENT_HELLO | SSL2_HELLO
    row["hello_version"] = be16(buf, at + 3)
    _mark(row, head, brief, MARK_CLIENT_HELLO, at, end)
    return end


@kernel
def _answers_ssl2(buf: NDArray[np.uint8], at: int, filled: int) -> bool:
    """Whether a ServerHello of SSL 2.0 may begin at ``at``."""
    return bool(
        filled - at >= _SSL2_SERVER_HELLO_BYTES
        and buf[at] & 0x80
        and buf[at + 2] == _SSL2_SERVER_HELLO
        and be16(buf, at + 5) == _SSL20
    )


@kernel
def _mark_frames(row: Any, which: int, first: int, last: int) -> None:
    """As ``_mark``, of frames that are known."""
    if row["marks"][which, 0] == 0:
        row["marks"][which, 0] = first
    row["marks"][which, 1] = last


@kernel
def _message_behind(row: Any, side: int, kind: int, size: int, first: int, last: int) -> int:
    """A handshake message in the clear that ended behind the head, its body ``size`` bytes; returns its letter in ``order``, 0: none.

    What only its bytes would tell is not told.
    """
    if side == 0:
        if kind == _CLIENT_HELLO:
            if row["flags"] & CLIENT_HELLO:
                row["flags"] |= SECOND_HELLO
                _mark_frames(row, MARK_CLIENT_HELLO, first, last)
                return _ORDER_CLIENT_HELLO
        elif kind == _CERTIFICATE:
            if not row["flags"] & (CLIENT_CERTIFICATE | CLIENT_CERTIFICATE_EMPTY):
                _mark_frames(row, MARK_CLIENT_CERTIFICATE, first, last)
                row["flags"] |= CLIENT_CERTIFICATE | CLIENT_LONG if size > 3 else CLIENT_CERTIFICATE_EMPTY
        elif kind == _CLIENT_KEY_EXCHANGE:
            row["flags"] |= CLIENT_KEY_EXCHANGE
        elif kind == _CERTIFICATE_VERIFY:
            row["flags"] |= CERTIFICATE_VERIFY
            _mark_frames(row, MARK_CERTIFICATE_VERIFY, first, last)
    elif kind == _CERTIFICATE:
        if not row["flags"] & SERVER_CERTIFICATE:
            row["flags"] |= SERVER_CERTIFICATE | SERVER_LONG
            _mark_frames(row, MARK_SERVER_CERTIFICATE, first, last)
    elif kind == _SERVER_KEY_EXCHANGE:
        row["flags"] |= SERVER_KEY_EXCHANGE
    elif kind == _CERTIFICATE_REQUEST:
        row["flags"] |= CERTIFICATE_REQUEST
        _mark_frames(row, MARK_CERTIFICATE_REQUEST, first, last)
    elif kind == _SERVER_HELLO_DONE:
        row["flags"] |= SERVER_HELLO_DONE
        _mark_frames(row, MARK_SERVER_HELLO_DONE, first, last)
    elif kind == _NEW_TICKET and size > 6:
        row["flags"] |= TICKET_ISSUED
        _mark_frames(row, MARK_SERVER_TICKET, first, last)
    return 0


@kernel
def _walk_trail(
    row: Any,
    head: Any,
    side: int,
    is13: bool,
    encrypted: bool,
    no_hello: bool,
    event_frame: NDArray[np.int64],
    event: NDArray[np.uint8],
    n_events: int,
) -> int:
    """The records behind a full head; returns how many events there are now."""
    for k in range(_int(head["n_trail"])):
        kind, what, size = _int(head["told_kind"][k]), _int(head["told_what"][k]), _int(head["told_size"][k])
        first, last = _int(head["told_first"][k]), _int(head["told_last"][k])
        letter = 0
        if kind == _CCS:
            row["flags"] |= CLIENT_CCS << side
            encrypted = not is13
        elif kind == _ALERT:
            if size == 2:
                old = _int(row["alert"][side])
                if old == NO_ALERT or (old >> 8 != 2 and what >> 8 == 2):
                    row["alert"][side] = what
                    row["marks"][MARK_CLIENT_ALERT + side, 0] = 0
                    _mark_frames(row, MARK_CLIENT_ALERT + side, first, last)
                letter = _ALERT_CLIENT if side == 0 else _ALERT_SERVER
            else:
                row["flags"] |= CLIENT_HIDDEN_ALERT << side
        elif kind == _DATA:
            if not is13 and size > 0 and (row["version"] or no_hello):
                row["flags"] |= CLIENT_DATA << side
                if row["marks"][MARK_CLIENT_DATA + side, 0] == 0:
                    _mark_frames(row, MARK_CLIENT_DATA + side, first, last)
            count = _int(row["n_records"][side])
            row["n_records"][side] = count + 1
            if count < KEPT_RECORDS:
                row["lengths"][side, count] = size
                _mark_frames(row, MARK_CLIENT_RECORDS + side, first, last)
                letter = _RECORD_CLIENT if side == 0 else _RECORD_SERVER
        elif what != OPAQUE:
            letter = _message_behind(row, side, what, size, first, last)
        elif encrypted:
            if row["flags"] & (CLIENT_FINISHED << side):
                row["flags"] |= CLIENT_LATE << side
            else:
                row["flags"] |= CLIENT_FINISHED << side
                _mark_frames(row, MARK_CLIENT_FINISHED + side, first, last)
        if letter and n_events < event.size:
            event[n_events] = letter
            event_frame[n_events], event_frame[_EVENTS + n_events], event_frame[2 * _EVENTS + n_events] = last, -1, 0
            n_events += 1
    if head["trail"] == TRAIL_BAD_RECORD:
        _stop(row, side, STOP_RECORD, head["filled_bytes"])
    elif head["trail"] == TRAIL_BAD_MESSAGE:
        _stop(row, side, STOP_MESSAGE, head["filled_bytes"])
    how = _int(head["trail_end"])
    if how & TRAIL_GAP:
        row["flags"] |= CLIENT_GAP << side
    if how & TRAIL_LIMIT:
        row["flags"] |= CLIENT_LIMIT << side
    if how & TRAIL_CUT:
        row["flags"] |= CLIENT_CUT << side
    return n_events


@kernel
def _walk_side(
    row: Any,
    head: Any,
    buf: NDArray[np.uint8],
    at: int,
    side: int,
    brief: bool,
    event_frame: NDArray[np.int64],
    event: NDArray[np.uint8],
) -> int:
    """All records of one direction from ``at`` on (``brief``: up to its first message); returns how many events it wrote."""
    n_events = 0
    filled = min(_int(head["filled_bytes"]), buf.size)
    midstream = head["midstream"] != 0 and at == 0
    if head["gap"]:
        row["flags"] |= CLIENT_GAP << side
    if midstream:
        row["flags"] |= CLIENT_MIDSTREAM << side
    if at < filled:
        row["flags"] |= CLIENT_BYTES << side
    if side == 0:
        end = _ssl2_hello(row, head, brief, buf, at, filled)
        if end > at:
            event[0] = _ORDER_CLIENT_HELLO
            _said(head, brief, end, event_frame, 0)
            n_events = 1
            at = end
            if row["hello_version"] == _SSL20:
                row["flags"] |= ODD  # sessions of SSL 2.0 are left to the inspector
    elif _answers_ssl2(buf, at, filled):
        row["flags"] |= ODD
        return n_events
    is13 = row["version"] == _TLS13 or row["version"] >> 8 == _DRAFT
    no_hello = row["version"] == 0 and not row["flags"] & CLIENT_HELLO
    encrypted = False
    opaque = False
    stopped = False
    messages = 0
    full = filled == buf.size and _int(head["stream_bytes"]) > filled
    trail = _int(head["trail"])
    followed = not brief and trail in (TRAIL_RUNS, TRAIL_FULL, TRAIL_BAD_RECORD, TRAIL_BAD_MESSAGE)
    while at + _HEADER <= filled and not (brief and (messages > 0 or n_events > 0)):
        kind = u8(buf, at)
        size = be16(buf, at + 3)
        if (
            kind < _CCS
            or kind > _DATA
            or buf[at + 1] != 3
            or buf[at + 2] > 4
            or size > _MAX_RECORD
            or (size == 0 and kind != _DATA)
        ):
            _stop(row, side, STOP_RECORD, at)
            stopped = True
            break
        body = at + _HEADER
        end = body + size
        whole = end <= filled
        seen = min(end, filled)
        # BOUNDS: every read below stays before seen <= filled <= buf.size
        if kind == _CCS:
            if whole:
                row["flags"] |= CLIENT_CCS << side
                encrypted = not is13
        elif kind == _ALERT:
            if whole and size == 2:
                what = be16(buf, body)
                old = _int(row["alert"][side])
                if old == NO_ALERT or (old >> 8 != 2 and what >> 8 == 2):
                    row["alert"][side] = what
                    row["marks"][MARK_CLIENT_ALERT + side, 0] = 0
                    _mark(row, head, brief, MARK_CLIENT_ALERT + side, at, end)
                if n_events < event.size:
                    _said(head, brief, end, event_frame, n_events)
                    event[n_events] = _ALERT_CLIENT if side == 0 else _ALERT_SERVER
                    n_events += 1
            elif whole:
                row["flags"] |= CLIENT_HIDDEN_ALERT << side
                if n_events < event.size:
                    _said(head, brief, end, event_frame, n_events)
                    event[n_events] = _ALERT_CLIENT if side == 0 else _ALERT_SERVER
                    n_events += 1
        elif kind == _DATA:
            if not is13 and seen > body and (row["version"] or no_hello):
                row["flags"] |= CLIENT_DATA << side
                if row["marks"][MARK_CLIENT_DATA + side, 0] == 0:
                    _mark(row, head, brief, MARK_CLIENT_DATA + side, at, seen)
            # For the record in which the head ends, see what was followed behind it.
            if whole or (full and not (followed and at == _int(head["trail_at"]))):
                count = _int(row["n_records"][side])
                row["n_records"][side] = count + 1
                if count < KEPT_RECORDS:
                    row["lengths"][side, count] = size
                    _mark(row, head, brief, MARK_CLIENT_RECORDS + side, at, seen)
                    if n_events < event.size:
                        _said(head, brief, seen, event_frame, n_events)
                        event[n_events] = _RECORD_CLIENT if side == 0 else _RECORD_SERVER
                        n_events += 1
        else:
            clear = not encrypted and not opaque
            if (
                not clear
                and not opaque
                and side == 0
                and row["version"] == 0
                and seen - body >= _MESSAGE_HEADER
                and buf[body] == _CLIENT_HELLO
                and _be24(buf, body + 1) == size - _MESSAGE_HEADER
            ):
                clear = True  # no ServerHello was seen: a second ClientHello behind ChangeCipherSpec tells of TLS 1.3
            if clear:
                p = body
                while p < seen:
                    if seen - p < _MESSAGE_HEADER:
                        if whole:
                            if midstream and messages == 0:
                                opaque = True
                            else:
                                row["flags"] |= ODD
                        break
                    message = u8(buf, p)
                    stop = p + _MESSAGE_HEADER + _be24(buf, p + 1)
                    if not _KNOWN[message] or (stop > end and midstream and messages == 0):
                        if midstream and messages == 0:
                            opaque = True
                        else:
                            _stop(row, side, STOP_MESSAGE, p)
                            stopped = True
                        break
                    if stop > end and whole:
                        row["flags"] |= ODD
                        break
                    if stop > seen:
                        break
                    letter = _message(row, head, brief, buf, message, p, stop, side)
                    messages += 1
                    if letter and n_events < event.size:
                        event[n_events] = letter
                        _said(head, brief, stop, event_frame, n_events)
                        n_events += 1
                    if message == _SERVER_HELLO and side == 1:
                        is13 = row["version"] == _TLS13 or row["version"] >> 8 == _DRAFT
                    p = stop
                if stopped or row["flags"] & ODD:
                    break
            elif whole and encrypted:
                if row["flags"] & (CLIENT_FINISHED << side):
                    row["flags"] |= CLIENT_LATE << side
                else:
                    row["flags"] |= CLIENT_FINISHED << side
                    _mark(row, head, brief, MARK_CLIENT_FINISHED + side, at, end)
        if not whole:
            break
        at = end
    if stopped or row["flags"] & ODD:
        return n_events
    if followed and _int(head["trail_at"]) == at:
        return _walk_trail(row, head, side, is13, encrypted, no_hello, event_frame, event, n_events)
    if full:
        row["flags"] |= CLIENT_LIMIT << side
    elif at < filled:
        row["flags"] |= CLIENT_CUT << side
    return n_events


@kernel
def _first_of(a: NDArray[np.int64], i: int, b: NDArray[np.int64], j: int) -> int:
    """Which of two sides sent first, event ``i`` of one or ``j`` of the other: 0 or 1, -1: unknown (``first_of`` of the model)."""
    if b[2 * _EVENTS + j] and a[_EVENTS + i] >= 0 and (b[2 * _EVENTS + j] - a[_EVENTS + i]) & 0xFFFFFFFF < _HALF:
        return 0
    if a[2 * _EVENTS + i] and b[_EVENTS + j] >= 0 and (a[2 * _EVENTS + i] - b[_EVENTS + j]) & 0xFFFFFFFF < _HALF:
        return 1
    if a[i] >> _FRAME_BITS != b[j] >> _FRAME_BITS:
        return -1
    return 1 if a[i] > b[j] else 0


@kernel
def walk_tls(
    arena: NDArray[np.uint8],
    heads: NDArray[Any],
    slots: NDArray[np.int32],
    starts: NDArray[np.int32],
    brief: bool,
    rows: NDArray[Any],
) -> None:
    """TLS of many connections, or (``brief``) no more of it than the hellos, without frames, shape and whether a session id is echoed.

    ``arena`` (slots, head bytes) and ``heads`` hold the heads; ``slots`` (n, 2) says which are client's and server's of each connection
    (-1: that side sent nothing), ``starts`` (n, 2) where TLS begins in them, ``rows`` (n,) of ``TLS_ROW`` takes the result and need not
    be cleared.
    """
    client_frame = scratch(_TIMES)
    server_frame = scratch(_TIMES)
    client_event = scratch(_EVENTS)
    server_event = scratch(_EVENTS)
    n_rows = slots.shape[0]
    for i in range(n_rows):
        if i + SOON < n_rows:
            for side in range(2):
                head_soon(arena, heads, slots[i + SOON, side], 4)
        row = rows[i]
        row["flags"] = 0
        row["hello_version"] = 0
        row["version"] = 0
        row["cipher"] = 0
        row["psk_identity_bytes"] = 0
        for side in range(2):
            row["shape"][side] = 0
            row["alert"][side] = NO_ALERT
            row["stop"][side] = STOP_NONE
            row["stop_at"][side] = 0
            row["n_records"][side] = 0
        for k in range(N_SPANS):
            row["spans"][k, 0] = -1
            row["spans"][k, 1] = 0
        if not brief:
            for k in range(N_MARKS):
                row["marks"][k, 0] = 0
                row["marks"][k, 1] = 0
        n_client, n_server = 0, 0
        if slots[i, 1] >= 0:
            n_server = _walk_side(
                row, heads[slots[i, 1]], arena[slots[i, 1]], _int(starts[i, 1]), 1, brief, server_frame, server_event
            )
        if slots[i, 0] >= 0:
            n_client = _walk_side(
                row, heads[slots[i, 0]], arena[slots[i, 0]], _int(starts[i, 0]), 0, brief, client_frame, client_event
            )
        a, b = row["spans"][SPAN_CLIENT_SID, 0], row["spans"][SPAN_SERVER_SID, 0]
        size = row["spans"][SPAN_CLIENT_SID, 1]
        if a >= 0 and b >= 0 and size == row["spans"][SPAN_SERVER_SID, 1] and not brief:
            same = True
            for k in range(size):
                if arena[slots[i, 0], a + k] != arena[slots[i, 1], b + k]:
                    same = False
                    break
            if same:
                row["flags"] |= SID_ECHOED
        c, s, n = 0, 0, 0
        while c < n_client or s < n_server:
            which = 0 if s >= n_server else 1
            if c < n_client and s < n_server:
                which = _first_of(client_frame, c, server_frame, s)
            if which < 0:
                n = 0
                break
            if which == 0:
                row["order"][n] = client_event[c]
                c += 1
            else:
                row["order"][n] = server_event[s]
                s += 1
            n += 1
        row["n_order"] = n


@kernel
def _is_http(buf: NDArray[np.uint8], at: int, size: int) -> bool:
    """Whether ``buf[at : at + size]`` is a name of HTTP over TLS."""
    for name in range(_HTTP_SIZE.size):
        if size != _HTTP_SIZE[name]:
            continue
        same = True
        for k in range(size):
            if buf[at + k] != _HTTP[name, k]:
                same = False
                break
        if same:
            return True
    return False


@kernel
def _all_http(buf: NDArray[np.uint8], at: int, end: int) -> bool:
    """Whether a list of names, RFC 7301 section 3.1, names HTTP and nothing else; not so where it contradicts itself."""
    count = 0
    while at < end and count < MAX_ALPN:
        size = u8(buf, at)
        # BOUNDS: what walk_tls gives as a span lies inside the head
        if at + 1 + size > end or not _is_http(buf, at + 1, size):
            return False
        at += 1 + size
        count += 1
    return count > 0


@kernel
def is_https(arena: NDArray[np.uint8], slots: NDArray[np.int32], rows: NDArray[Any], told: NDArray[np.bool_]) -> None:
    """Which of the rows that ``walk_tls`` wrote are HTTPS: by the name that was selected, or, where the answer is encrypted, by nothing else being offered."""
    for i in range(slots.shape[0]):
        row = rows[i]
        told[i] = False
        if row["flags"] & ALPN_SELECTED:
            at, size = _int(row["spans"][SPAN_SERVER_ALPN, 0]), _int(row["spans"][SPAN_SERVER_ALPN, 1])
            told[i] = _is_http(arena[slots[i, 1]], at, size)
        elif row["flags"] & ALPN_OFFERED and (row["version"] == _TLS13 or row["version"] >> 8 == _DRAFT):
            at, size = _int(row["spans"][SPAN_CLIENT_ALPN, 0]), _int(row["spans"][SPAN_CLIENT_ALPN, 1])
            told[i] = _all_http(arena[slots[i, 0]], at, at + size)
