"""DNS over UDP and TCP: header and question, read strictly, because nothing else tells DNS from chance.

Over TCP each message has its length before it (RFC 1035 section 4.2.2). A probe is not told the transport and tries both forms; that
one message is right in both is as good as impossible, as the length would be the id.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from auditor.errors import WireError
from auditor.model.evidence import Certainty, Evidence
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import StreamHead, Streams
from auditor.wire import dns as wire
from auditor.wire.reader import printable


@dataclass(frozen=True, slots=True)
class _Message:
    """Header and first question."""

    answer: bool
    opcode: int
    rcode: int
    name: str
    kind: int
    end: int


def _name(data: bytes, start: int, at: int) -> tuple[str, int]:
    """A name at ``at`` of the message that begins at ``start``, and where it ends; a pointer (section 4.1.4) is not followed."""
    labels: list[str] = []
    first = at
    while at < len(data):
        size = data[at]
        if size == 0:
            return ".".join(labels) or ".", at + 1
        if size & wire.POINTER == wire.POINTER:
            if at + 1 < len(data) and (size & 0x3F) << 8 | data[at + 1] >= at - start:
                raise WireError("a name points forward", at=at)
            at += 2
            if at > len(data):
                break
            return ".".join([*labels, "*"]), at
        end = at + 1 + size
        if size > wire.MAX_LABEL_BYTES or end - first > wire.MAX_NAME_BYTES:
            raise WireError("label too long", at=at)
        labels.append(printable(data[at + 1 : end]).replace(".", "\\."))
        at = end
    raise WireError("name runs past the end", kind="short", at=first)


_HEADER = struct.Struct(">HHHHHH")
_QUESTION = struct.Struct(">HH")


def _message(data: bytes, *, tcp: bool) -> _Message:
    """Raises WireError: short where more bytes might complete it, malformed where they cannot."""
    start = 2 if tcp else 0
    if tcp and len(data) >= 2 and int.from_bytes(data[:2], "big") < wire.HEADER_BYTES + 5:
        raise WireError("too short for a message", at=0)
    if len(data) < start + wire.HEADER_BYTES:
        raise WireError("header runs past the end", kind="short", at=start)
    _, flags, questions, answers, authorities, additional = _HEADER.unpack_from(data, start)
    answer = bool(flags & wire.QR)
    opcode, rcode = flags >> 11 & 0xF, flags & 0xF
    if opcode not in wire.OPCODES or flags & wire.Z or rcode > wire.MAX_RCODE or (not answer and rcode):
        raise WireError("no flags of DNS", at=start)
    if questions > 1:
        raise WireError("more than one question", at=start)
    multicast_answer = answer and opcode == 0 and bool(flags & wire.AA) and answers > 0
    if questions == 0 and not multicast_answer:
        raise WireError("no question", at=start)
    if max(answers, authorities, additional) > wire.MAX_RECORDS:
        raise WireError("too many records", at=start)
    if not answer and opcode not in {wire.NOTIFY, wire.UPDATE} and (answers > 64 or additional > 8 or authorities > 64):
        raise WireError("a query with answers", at=start)
    name, at = _name(data, start, start + wire.HEADER_BYTES)
    if len(data) < at + 4:
        raise WireError("question runs past the end", kind="short", at=at)
    kind, group = _QUESTION.unpack_from(data, at)
    if not wire.is_type(kind):
        raise WireError("no type of DNS", at=at)
    if group & wire.CLASS_MASK not in wire.CLASSES:
        raise WireError("no class of DNS", at=at + 2)
    end = at + 4
    if tcp and end - start > int.from_bytes(data[:2], "big"):
        raise WireError("message longer than its length", at=start)
    return _Message(answer, opcode, rcode, name, kind, end)


@lru_cache(maxsize=64)
def _read(data: bytes) -> tuple[_Message | None, bool]:
    """The first message, and whether more bytes might make one; probe and inspector ask for the same."""
    might = False
    for tcp in (False, True):
        try:
            return _message(data, tcp=tcp), False
        except WireError as error:
            might = might or error.kind == "short"
    return None, might


def _said(data: bytes, *, answer: bool) -> Match:
    message, might = _read(data)
    if message is not None:
        return Match.YES if message.answer is answer else Match.NO
    return Match.MORE if might else Match.NO


def probe(streams: Streams) -> Match:
    """A query from the client or an answer from the server."""
    said = (_said(streams.orig.data, answer=False), _said(streams.resp.data, answer=True))
    if Match.YES in said:
        return Match.YES
    return Match.MORE if Match.MORE in said else Match.NO


def inspect(streams: Streams) -> Iterator[Evidence]:
    """The first question and the first answer's code; what cannot be read is left out."""
    told: list[tuple[StreamHead, _Message]] = []
    for head in (streams.orig, streams.resp):
        message, _ = _read(head.data)
        if message is not None:
            told.append((head, message))
    for head, message in told[:1]:
        frames = head.frames(0, message.end)
        yield Evidence("dns.name", message.name, Certainty.PROVEN, frames)
        yield Evidence("dns.type", wire.TYPES.get(message.kind, str(message.kind)), Certainty.PROVEN, frames)
    # Both sides may send the same: then the client's query counts, and the server's answer.
    for head, message in [each for each in told if not each[1].answer][:1]:
        yield Evidence("dns.query", True, Certainty.PROVEN, head.frames(0, message.end))
    for head, message in [each for each in told if each[1].answer][-1:]:
        rcode = wire.RCODES.get(message.rcode, str(message.rcode))
        yield Evidence("dns.rcode", rcode, Certainty.PROVEN, head.frames(0, message.end))


_COUNT_MASK = b"\x00\x40\xff\xfe"  # any opcode, Z clear, at most one question

INSPECTOR = Inspector(
    name="dns",
    transports=frozenset({"tcp", "udp"}),
    ports=frozenset({53, 5353, 5355, 137}),
    signatures=tuple(
        Signature(side, b"\x00\x00\x00\x00", at, _COUNT_MASK) for side in ("client", "server") for at in (2, 4)
    ),
    probe=probe,
    inspect=inspect,
)
