"""The first bytes of a handshake or login that the end of a file cut in two, so that they may lie on a disk until the rest comes.

TLS and SSH say nothing secret in theirs. NATS and MySQL without TLS do: a password, a token, an answer to a challenge. What judges a login needs none of it: only whether it is
empty, and which plugin or kind it is. So everything that a client says of itself is masked, byte for byte, and the masked login is judged as the real one. Nothing behind a
login is kept: where the server has answered, or the client has gone on to anything but the login, there is nothing to wait for.

Sources: the NATS client protocol (INFO, CONNECT, PING, PONG, +OK, -ERR, SUB, UNSUB); MySQL's Protocol::HandshakeV10, HandshakeResponse41, SSLRequest and AuthSwitchRequest.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from auditor.wire import mysql

Data = bytes | None

_HARMLESS = (b"\x16\x03", b"\x15\x03", b"SSH-")
_STRING = re.compile(rb'"((?:[^"\\]|\\.)*)(\\?\Z|")', re.DOTALL)
_WORD = re.compile(rb"[^\s{}\[\]:,]+")
_WORDS = (b"true", b"false", b"null")
_FILLED = re.compile(rb"[^\0]")
_MASK = b"\x7f"
"""In no name: what is masked, or masked in part, is never taken for one."""
_BARE, _ASKS = frozenset({b"PING", b"PONG", b"+OK"}), frozenset({b"SUB", b"UNSUB"})
_FIXED = 4 + 4 + 1 + 23
"""Bytes of HandshakeResponse41 before the user: capabilities, largest packet, character set, reserved."""


def masked(data: Sequence[Data]) -> list[Data] | None:
    """Both directions as they may be kept, byte for byte as long; None where they may not be kept."""
    if all(_harmless(each) for each in data):
        return list(data)
    for kept in (_nats(data), _mysql(data)):
        if kept is not None:
            return kept
    return None


def _harmless(text: Data) -> bool:
    return not text or text.startswith(_HARMLESS)


# NATS


def _nats(data: Sequence[Data]) -> list[Data] | None:
    made = [each if _harmless(each) else _nats_side(each or b"") for each in data]
    return None if any(each is None and text is not None for each, text in zip(made, data, strict=True)) else made


def _nats_side(text: bytes) -> bytes | None:
    """INFO, CONNECT and what says nothing, line by line; None where there is anything else."""
    made: list[bytes] = []
    at = 0
    while at < len(text):
        if made and text.startswith(_HARMLESS, at):
            return b"".join([*made, text[at:]])
        end = text.find(b"\n", at) + 1 or len(text)
        line = text[at:end]
        at = end
        verb, rest = line[:8].upper(), line.rstrip(b"\r\n")
        if verb.startswith(b"INFO "):
            made.append(line)
        elif verb.startswith(b"CONNECT ") and line[8:].lstrip()[:1] in (b"{", b""):
            made.append(line[:8] + _masked_json(line[8:]))
        elif rest.split(b" ")[0].upper() in _ASKS:
            made.append(re.sub(rb"(?<=\s)\S+", lambda found: _MASK * len(found[0]), line))
        elif rest.upper() in _BARE or (end == len(text) and _begins(rest)):
            made.append(line)
        else:
            return None
    return b"".join(made)


def _begins(rest: bytes) -> bool:
    """Whether it may become one of the words, all of it said so far being that word."""
    return any(word.startswith(rest.upper()) for word in (*_BARE, *_ASKS, b"INFO ", b"CONNECT "))


def _masked_json(text: bytes) -> bytes:
    """An object with its texts and numbers masked; names stay, and so do true, false and what is empty. It may be cut short anywhere."""
    made: list[bytes] = []
    nested: list[int] = []
    at = last = 0
    for found in _STRING.finditer(text):
        between = text[at : found.start()]
        for each in between:
            if each in b"{[":
                nested.append(each)
            elif each in b"}]" and nested:
                nested.pop()
            last = last if each in b" \t\r\n" else each
        made.append(_WORD.sub(_masked_word, between))
        is_name = nested[-1:] == [ord("{")] and last in b"{,"
        whole = found[2] == b'"'
        made.append(found[0] if is_name else b'"' + _MASK * len(found[1]) + (b'"' if whole else _MASK * len(found[2])))
        at = found.end()
        last = ord('"')
    made.append(_WORD.sub(_masked_word, text[at:]))
    return b"".join(made)


def _masked_word(found: re.Match[bytes]) -> bytes:
    """A number, or a word of JSON; the last one may be cut short."""
    word = found[0]
    whole = word in _WORDS or (found.end() == len(found.string) and any(each.startswith(word) for each in _WORDS))
    return word if whole else b"1" * len(word)


# MySQL


def _mysql(data: Sequence[Data]) -> list[Data] | None:
    served = [each is not None and len(each) >= 5 and each[3] == 0 and each[4] in _PROTOCOLS for each in data]
    if served.count(True) != 1:
        return None
    server = served.index(True)
    if not _asks_only(data[server] or b""):
        return None
    made = list(data)
    said = data[1 - server]
    if said:
        made[1 - server] = _masked_login(said)
    return None if said and made[1 - server] is None else made


_PROTOCOLS = frozenset({mysql.PROTOCOL_10, mysql.PROTOCOL_9})


def _asks_only(text: bytes) -> bool:
    """Whether the server greets and asks for more, and has neither accepted nor refused."""
    at, first = 0, True
    while at + 4 < len(text):
        if not first and text[at + 4] not in (mysql.EOF_OR_SWITCH, mysql.MORE_DATA):
            return text.startswith(_HARMLESS, at)
        first = False
        at += 4 + int.from_bytes(text[at : at + 3], "little")
    return True


def _masked_login(text: bytes) -> bytes | None:
    """The client's packets, with what they say masked: of the first the numbers and the plugin stay, of all others the length."""
    size = int.from_bytes(text[:3], "little")
    claims = int.from_bytes(text[4:8].ljust(4, b"\0"), "little")
    if size in (mysql.SSL_REQUEST_BYTES, mysql.OLD_SSL_REQUEST_BYTES) and claims & mysql.CLIENT_SSL:
        return text if _harmless(text[4 + size :]) else None
    if not claims & mysql.CLIENT_PROTOCOL_41 and len(text) >= 8:
        return None
    made = bytearray(text)
    _cover_login(made, min(4 + size, len(text)), claims)
    at = 4 + size
    while at < len(text):
        size = int.from_bytes(text[at : at + 3], "little")
        _cover(made, at + 4, at + 4 + size)
        at += 4 + size
    return bytes(made)


def _cover(text: bytearray, begin: int, end: int) -> None:
    """Mask it; zeros stay, so that what is empty is still."""
    if begin < len(text):
        text[begin:end] = _FILLED.sub(_MASK, bytes(text[begin:end]))


def _cover_login(text: bytearray, end: int, claims: int) -> None:
    at = 4 + _FIXED
    at = _covered_text(text, at, end)
    if claims & mysql.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA and text[at : at + 1] >= b"\xfb":
        _cover(text, at, end)  # longer than any answer: nobody needs it
        return
    if claims & (mysql.CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA | mysql.CLIENT_SECURE_CONNECTION):
        size = text[at] if at < end else 0
        _cover(text, at + 1, min(at + 1 + size, end))
        at += 1 + size
    else:
        at = _covered_text(text, at, end)
    if claims & mysql.CLIENT_CONNECT_WITH_DB:
        at = _covered_text(text, at, end)
    if claims & mysql.CLIENT_PLUGIN_AUTH:
        at = (text.find(b"\0", at, end) + 1 or end) if at < end else end
    _cover(text, at, end)


def _covered_text(text: bytearray, at: int, end: int) -> int:
    """Mask a text that a zero ends; where the next thing begins."""
    if at >= end:
        return at
    stop = text.find(b"\0", at, end)
    stop = end if stop < 0 else stop
    _cover(text, at, stop)
    return stop + 1
