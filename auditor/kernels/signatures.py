"""A first look at the heads of many connections: which protocols may be spoken there, and whether it is TLS for sure.

Signatures are necessary, not sufficient: they say whose probe is worth asking. TLS is common enough to be decided here alone. It is told
- by a hello: eleven bytes of a ClientHello or ServerHello with lengths that fit each other, or a ClientHello in the form of SSL 2.0;
- midstream, by a chain: a whole record from the head's first byte on, and behind it the header of another one.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.accelerate import inner, kernel, prefetch, scratch
from auditor.kernels.bytes import be16, u8
from auditor.wire import mysql

# What a look at one side says of TLS.
LOOK_NO = 0
LOOK_MORE = 1
LOOK_CHAIN = 2
LOOK_CHAIN_CLIENT = 3
LOOK_CHAIN_SERVER = 4
LOOK_CLIENT_HELLO = 5
LOOK_SERVER_HELLO = 6
LOOK_ALERT = 7  # a lone alert in the clear: an answer of TLS, too little to be called TLS

# What a look at both says.
TLS_NO = 0
TLS_MORE = 1
TLS_CHAIN = 2
TLS_HELLO = 3

MAX_SIGNATURE = 16
"""Longest signature."""

TCP, UDP = 6, 17

_MIN_CLIENT_HELLO, _MIN_SERVER_HELLO = 2 + 32 + 1 + 2 + 2 + 1 + 1, 2 + 32 + 2
_MAX_HELLO = 131_072
_MAX_RECORD = 16_384 + 2_048

SOON = 4
"""So many connections ahead the first bytes are fetched: rows of the arena lie far apart, and the cache holds few of their starts."""

_MYSQL_HEADER, _MYSQL_SALT, _MYSQL_VERSION = mysql.HEADER_BYTES, mysql.SALT_BYTES, mysql.MAX_VERSION_BYTES
_MYSQL_PROTOCOL, _MYSQL_GREETING = mysql.PROTOCOL_10, 1_024


@kernel
def _int(value: Any) -> int:
    """A field, widened: numba would mix uint64 with int64 into float64."""
    return np.int64(value)  # type: ignore[return-value]  # int64 in the machine, an int to its caller


@inner
def head_soon(arena: NDArray[np.uint8], heads: NDArray[Any], slot: int, lines: int) -> None:
    """Have the head in a slot (-1: none) and the first ``lines`` lines of its bytes in the cache soon."""
    ahead = max(_int(slot), 0)
    prefetch(heads, ahead, 0)
    for line in range(lines):
        prefetch(arena, ahead * arena.shape[1], line * 64)


@kernel
def _record_size(buf: NDArray[np.uint8], at: int) -> int:
    """Length of the record whose five header bytes stand at ``at``; -1: no record (RFC 8446 section 5.1)."""
    kind = u8(buf, at)
    size = be16(buf, at + 3)
    if kind < 20 or kind > 23 or u8(buf, at + 1) != 3 or u8(buf, at + 2) > 4 or size > _MAX_RECORD:
        return -1
    if (kind == 20 and size != 1) or (kind == 21 and size < 2) or (kind == 22 and size < 4):
        return -1
    return size


@kernel
def tls_side(buf: NDArray[np.uint8], filled: int, over: bool) -> int:
    """A ``LOOK_`` code for ``buf[:filled]``; ``over``: no more bytes will come."""
    more = LOOK_NO if over else LOOK_MORE
    if filled == 0:
        return more
    first = u8(buf, 0)
    if first & 0x80:  # RFC 5246 appendix E.2
        if filled > 2 and u8(buf, 2) != 1:
            return LOOK_NO
        if filled < 11:
            return more
        suites, sid, challenge = be16(buf, 5), be16(buf, 7), be16(buf, 9)
        version = be16(buf, 3)
        if (
            (version == 2 or (version >> 8 == 3 and version & 0xFF <= 4))
            and suites
            and suites % 3 == 0
            and sid in (0, 16)
            and 16 <= challenge <= 32
            and 9 + suites + sid + challenge == (first & 0x7F) << 8 | u8(buf, 1)
        ):
            return LOOK_CLIENT_HELLO
        return LOOK_NO
    if first < 20 or first > 23 or (filled > 1 and u8(buf, 1) != 3) or (filled > 2 and u8(buf, 2) > 4):
        return LOOK_NO
    if filled < 5:
        return more
    size = _record_size(buf, 0)
    if size < 0:
        return LOOK_NO
    side = LOOK_CHAIN
    if first == 22:
        if filled < 11:
            return more if filled >= 5 + size or not over else LOOK_NO
        message = u8(buf, 5)
        length = u8(buf, 6) << 16 | be16(buf, 7)
        major, minor = u8(buf, 9), u8(buf, 10)
        if (
            message == 1
            and size >= 6
            and _MIN_CLIENT_HELLO <= length <= _MAX_HELLO
            and length + 4 >= size
            and major == 3
            and minor <= 4
        ):
            return LOOK_CLIENT_HELLO
        if (
            message == 2
            and size >= 6
            and _MIN_SERVER_HELLO <= length <= _MAX_HELLO
            and ((major == 3 and minor <= 4) or major == 0x7F)
        ):
            return LOOK_SERVER_HELLO
        if length + 4 <= size:
            if message in (15, 16):
                side = LOOK_CHAIN_CLIENT
            elif message in (12, 13, 14):
                side = LOOK_CHAIN_SERVER
    end = 5 + size
    if first == 21 and size == 2 and filled >= 7:
        level = u8(buf, 5)
        if level not in (1, 2):
            return LOOK_NO
        if filled == end:
            return LOOK_ALERT if over else LOOK_MORE
    if filled < end + 5:
        if filled > end and u8(buf, end) - 20 not in (0, 1, 2, 3):
            return LOOK_NO
        return more
    # BOUNDS: end + 5 <= filled
    return side if _record_size(buf, end) >= 0 else LOOK_NO


@kernel
def _holds(
    buf: NDArray[np.uint8],
    filled: int,
    over: bool,
    value: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    at: int,
    size: int,
) -> bool:
    """Whether the signature stands in ``buf[:filled]``, or may still come to stand there."""
    if filled < at + size and over:
        return False
    for k in range(min(size, filled - at)):  # noqa: SIM110  # all() is slow in a kernel
        if u8(buf, at + k) & u8(mask, k) != u8(value, k):
            return False
    return True


@kernel
def first_look(
    arena: NDArray[np.uint8],
    heads: NDArray[Any],
    pairs: NDArray[np.int32],
    transport: NDArray[np.uint8],
    settled: bool,
    sig_value: NDArray[np.uint8],
    sig_mask: NDArray[np.uint8],
    sig_at: NDArray[np.int32],
    sig_size: NDArray[np.int32],
    sig_server: NDArray[np.bool_],
    sig_protocol: NDArray[np.int32],
    sig_transport: NDArray[np.uint8],
    sig_decides: NDArray[np.bool_],
    candidates: NDArray[np.int64],
    decided: NDArray[np.int64],
    tls: NDArray[np.uint8],
    tls_client: NDArray[np.int8],
    alerted: NDArray[np.int8],
) -> None:
    """Look at each connection once.

    ``pairs`` (n, 2): slots of side 0 and 1 in ``arena`` and ``heads``, -1 where that side sent nothing. Signatures as columns, a row
    each: ``sig_value`` is masked already, ``sig_transport`` an IP protocol number, 0: any.

    Out: ``candidates`` (n, 2): bits of the protocols whose signature holds if side 0 (column 0) or side 1 (column 1) is the client;
    not looked for where both sides say TLS; ``decided`` (n, 2): those of them whose signature decides and stands there whole; ``tls``: a ``TLS_`` code; ``tls_client``: the client's side where a hello or a handshake message tells it, else -1; ``alerted``: the
    side whose first and only words are a TLS alert, else -1.
    """
    looks = scratch(2)
    n = pairs.shape[0]
    for i in range(n):
        if i + SOON < n:
            for side in range(2):
                head_soon(arena, heads, pairs[i + SOON, side], 1)
        candidates[i, 0] = 0
        candidates[i, 1] = 0
        decided[i, 0] = 0
        decided[i, 1] = 0
        tls[i] = TLS_NO
        tls_client[i] = -1
        alerted[i] = -1
        mixed = False  # one side says what is no TLS
        for side in range(2):
            slot = pairs[i, side]
            looks[side] = LOOK_NO if settled else LOOK_MORE
            if slot < 0:
                continue
            head = heads[slot]
            filled = min(_int(head["filled_bytes"]), arena.shape[1])
            over = bool(settled or head["gap"] != 0 or head["ended"] != 0 or filled == arena.shape[1])
            if transport[i] != TCP:
                looks[side] = LOOK_NO
                continue
            looks[side] = tls_side(arena[slot], filled, over)
            if looks[side] == LOOK_NO and filled > 0:
                mixed = True
            if looks[side] == LOOK_ALERT and head["midstream"] == 0:
                alerted[i] = side
        a, b = looks[0], looks[1]
        if a == LOOK_CLIENT_HELLO or (b == LOOK_SERVER_HELLO and a != LOOK_SERVER_HELLO and b != LOOK_CLIENT_HELLO):
            tls[i] = TLS_HELLO
            tls_client[i] = 0
        elif b == LOOK_CLIENT_HELLO or a == LOOK_SERVER_HELLO:
            tls[i] = TLS_HELLO
            tls_client[i] = 1
        elif LOOK_CHAIN <= a <= LOOK_CHAIN_SERVER or LOOK_CHAIN <= b <= LOOK_CHAIN_SERVER:
            tls[i] = TLS_CHAIN
            if a == LOOK_CHAIN_CLIENT or b == LOOK_CHAIN_SERVER:
                tls_client[i] = 0
            elif b == LOOK_CHAIN_CLIENT or a == LOOK_CHAIN_SERVER:
                tls_client[i] = 1
        elif LOOK_MORE in (a, b) and transport[i] == TCP:
            tls[i] = TLS_MORE
        if tls[i] == TLS_HELLO and not mixed:
            continue
        for side in range(2):
            slot = pairs[i, side]
            if slot < 0:
                continue
            head = heads[slot]
            filled = min(_int(head["filled_bytes"]), arena.shape[1])
            if filled == 0:
                continue
            over = bool(settled or head["gap"] != 0 or head["ended"] != 0 or filled == arena.shape[1])
            buf = arena[slot]
            for s in range(sig_at.size):
                at = _int(sig_at[s])
                # The first byte alone turns most away. BOUNDS: at < filled
                if at < filled and buf[at] & sig_mask[s, 0] != sig_value[s, 0]:
                    continue
                if sig_transport[s] != 0 and sig_transport[s] != transport[i]:
                    continue
                bit = 1 << _int(sig_protocol[s])
                column = 1 - side if sig_server[s] else side
                if candidates[i, column] & bit and (decided[i, column] & bit or not sig_decides[s]):
                    continue
                if _holds(buf, filled, over, sig_value[s], sig_mask[s], at, _int(sig_size[s])):
                    candidates[i, column] |= bit
                    if sig_decides[s] and filled >= at + sig_size[s]:
                        decided[i, column] |= bit


@kernel
def silent(heads: NDArray[Any], pairs: NDArray[np.int32], told: NDArray[np.bool_]) -> None:
    """Which connections sent no payload; ``pairs`` as for ``first_look``."""
    for i in range(pairs.shape[0]):
        told[i] = True
        for side in range(2):
            slot = pairs[i, side]
            if slot >= 0 and (heads[slot]["filled_bytes"] > 0 or heads[slot]["gap"] > 0):
                told[i] = False


@kernel
def mysql_greetings(
    arena: NDArray[np.uint8],
    heads: NDArray[Any],
    slots: NDArray[np.int32],
    clients: NDArray[np.int32],
    told: NDArray[np.bool_],
) -> None:
    """Which heads begin with a greeting of MySQL's protocol 10, whole up to the zero behind its salt: what ``inspectors/mysql.py`` says YES to.

    ``slots``, ``clients`` (n,): of each server and client in ``arena`` and ``heads``, -1: it said nothing. False: only ``probe`` knows.
    """
    for i in range(slots.size):
        if i + SOON < slots.size:
            head_soon(arena, heads, slots[i + SOON], 1)
        told[i] = False
        if slots[i] < 0:
            continue
        told[i] = _greets_mysql(arena[slots[i]], min(_int(heads[slots[i]]["filled_bytes"]), arena.shape[1]))
        if told[i] and clients[i] >= 0 and heads[clients[i]]["midstream"] == 0:
            told[i] = _answers_mysql(arena[clients[i]], min(_int(heads[clients[i]]["filled_bytes"]), arena.shape[1]))


@kernel
def _answers_mysql(buf: NDArray[np.uint8], filled: int) -> bool:
    """A client's first bytes may be its response to a greeting: a packet with the number 1 (2: inside TLS, behind the request for it)."""
    return filled < _MYSQL_HEADER or ((buf[3] == 1 or buf[3] == 2) and buf[2] == 0)


@kernel
def _greets_mysql(buf: NDArray[np.uint8], filled: int) -> bool:
    """A packet (length in three bytes, little endian; number 0): protocol, version and a zero, thread id (4), salt (8), a zero, capabilities (2)."""
    if filled < _MYSQL_HEADER + 1 or buf[2] != 0 or buf[3] != 0 or buf[4] != _MYSQL_PROTOCOL:
        return False
    size = u8(buf, 1) << 8 | u8(buf, 0)
    if size > _MYSQL_GREETING:
        return False
    start, end = _MYSQL_HEADER + 1, min(_MYSQL_HEADER + size, filled)
    at = start
    while at < min(end, start + _MYSQL_VERSION) and 0x20 <= u8(buf, at) < 0x7F:
        at += 1
    # BOUNDS: at <= end <= filled, and zero < end
    zero = at + 1 + 4 + _MYSQL_SALT
    if at >= start + _MYSQL_VERSION or zero >= end or zero + 2 >= _MYSQL_HEADER + size:
        return False
    return bool(buf[at] == 0 and buf[zero] == 0 and 0x30 <= u8(buf, start) <= 0x39)
