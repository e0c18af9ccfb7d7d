"""What lengths and order of encrypted SSH packets say of a login.

Authentication is a strict dialogue (RFC 4252): SERVICE_REQUEST and SERVICE_ACCEPT, whose length is known, then requests of the client, each
answered by FAILURE, a step of the method, or SUCCESS. SUCCESS is one byte of payload, so nothing that a server may answer instead is as
short, except, with blocks of 16 bytes, a FAILURE that leaves no method and an empty IGNORE; then what follows decides: nothing follows
a refusal, and a channel is opened after a success.

Where packets show their length (AES-GCM, encrypt-then-MAC) they are counted exactly. Elsewhere a packet is a segment: a login waits for each
answer, so each is sent by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from auditor.model.connections import FRAME_BITS
from auditor.model.streams import HEAD_SEGMENTS, Said, StreamHead, first_of
from auditor.wire import ssh as wire

ACCEPTED, NONE_ACCEPTED, REFUSED = "accepted", "none_accepted", "refused"


@dataclass(frozen=True, slots=True)
class Protection:
    """How packets of one direction are encrypted, as far as their lengths are concerned."""

    block: int
    tag: int
    shown: bool
    """The packet's length is in the clear."""
    apart: bool
    """The length is not part of what is filled up to blocks."""

    def size(self, payload: int) -> int:
        """Bytes of a packet with so much payload and no more padding than must be."""
        ahead = 1 if self.apart else 1 + wire.LENGTH_BYTES
        filled = -(-(ahead + payload + wire.MIN_PADDING_BYTES) // self.block) * self.block
        return filled + self.tag + (wire.LENGTH_BYTES if self.apart else 0)

    def fits(self, size: int, packets: int = 1) -> bool:
        """So many packets can have this size together."""
        around = self.tag + (wire.LENGTH_BYTES if self.apart else 0)
        return size >= packets * self.size(1) and (size - packets * around) % self.block == 0

    @property
    def telling(self) -> bool:
        """SUCCESS is shorter than anything else that is said before it."""
        return self.size(wire.SUCCESS_BYTES) < self.size(wire.EMPTY_IGNORE_BYTES)

    @property
    def blind(self) -> bool:
        """Two packets together look like a longer one."""
        return not self.shown and (self.tag + (wire.LENGTH_BYTES if self.apart else 0)) % self.block == 0


def protection(cipher: str | None, mac: str | None, compression: str | None) -> Protection | None:
    """Of negotiated names; None: lengths say nothing that is known."""
    if cipher is None or compression not in wire.LATE_COMPRESSION or cipher == "none":
        return None
    block = 8 if cipher.startswith(wire.SMALL_BLOCKS) else 16
    if cipher.endswith(wire.AEAD):
        return Protection(block, wire.AEAD_TAG_BYTES, cipher.endswith(wire.GCM), True)
    etm = mac is not None and mac.endswith(wire.ETM)
    tag = wire.MAC_BYTES.get((mac or "").split("@")[0].removesuffix("-etm"))
    return None if tag is None else Protection(block, tag, etm, etm)


class Unit(NamedTuple):
    """A packet, or a segment that stands for one."""

    said: Said
    at: int
    size: int
    server: bool


@dataclass(frozen=True, slots=True)
class Direction:
    """What encrypted packets of one side show."""

    units: tuple[Unit, ...] = ()
    whole: bool = True
    """Nothing of it lies behind the units."""


def units_of(head: StreamHead, start: int, how: Protection, *, server: bool) -> Direction:
    """Packets behind NEWKEYS, which ends at ``start``."""
    return _shown(head, start, how, server) if how.shown else _hidden(head, start, how, server)


def _shown(head: StreamHead, at: int, how: Protection, server: bool) -> Direction:
    found: list[Unit] = []
    data = head.data
    said = head.telling()
    while len(data) - at >= wire.LENGTH_BYTES:
        length = int.from_bytes(data[at : at + wire.LENGTH_BYTES])
        size = wire.LENGTH_BYTES + length + how.tag
        if length > wire.MAX_PACKET_BYTES or not how.fits(size) or at + size > len(data):
            return Direction(tuple(found), whole=False)
        found.append(Unit(said(at + size), at, size, server))
        at += size
    return Direction(tuple(found), at == len(data) and head.stream_bytes <= at)


def _hidden(head: StreamHead, start: int, how: Protection, server: bool) -> Direction:
    """A segment each; one that no packets fit is the first part of something longer."""
    found: list[Unit] = []
    end = len(head.data)
    known = len(head.segments) < HEAD_SEGMENTS
    bounds = [at for at, _ in head.segments if at < end]
    begun = start
    for place in range(len(bounds)):
        last = place + 1 == len(bounds)
        until = end if last else bounds[place + 1]
        if until <= begun:
            continue
        if last and not known:
            return Direction(tuple(found), whole=False)
        if how.fits(until - begun) or how.fits(until - begun, 2):
            found.append(Unit(head.said(until), begun, until - begun, server))
            begun = until
    return Direction(tuple(found), begun >= end and head.stream_bytes <= end)


@dataclass(frozen=True, slots=True)
class Login:
    """The result."""

    outcome: str
    """accepted, none_accepted, refused: by what was seen, nothing was accepted."""
    confidence: str
    says: str
    requests: int
    """Requests of the client that were answered."""
    unit: Unit | None
    """The server's packet that says so."""


def _turns(client: Sequence[Unit], server: Sequence[Unit]) -> list[tuple[bool, list[Unit]]]:
    """Units in order, those of one side together; none where no order shows."""
    turns: list[tuple[bool, list[Unit]]] = []
    left = [list(client), list(server)]
    while left[0] or left[1]:
        which = first_of(left[0][0].said, left[1][0].said) if left[0] and left[1] else int(not left[0])
        if which < 0:
            return []
        unit = left[which].pop(0)
        if turns and turns[-1][0] is unit.server:
            turns[-1][1].append(unit)
        else:
            turns.append((unit.server, [unit]))
    return turns


def read_login(
    client: Direction, server: Direction, of_client: Protection, of_server: Protection, software: tuple[str, str]
) -> Login | None:
    """What both directions say; ``software``: of client and server, as banners name it. None: nothing, or too little."""
    if len({unit.said.frame >> FRAME_BITS for unit in (*client.units, *server.units)}) > 1:
        # Put together from several captures: who waited for whom does not show, nor what was sent at once.
        return None
    turns = _turns(client.units, server.units)
    while turns and turns[0][0]:  # EXT_INFO, right behind NEWKEYS
        turns.pop(0)
    if len(turns) < 2:
        return None
    service = of_server.size(wire.SERVICE_BYTES)
    asked, answered = turns[2::2], [units for _, units in turns[3::2]]
    accept = [unit.size for unit in turns[1][1]]
    early = accept.index(service) + 1 if service in accept else len(accept)
    if early < len(accept):  # the client did not wait for SERVICE_ACCEPT
        asked, answered = turns[::2], [turns[1][1][early:], *answered]
    spare = _spare(accept, service, of_server)
    begun = service in accept or spare > 0 or _behind_extensions(accept[-1] - service, of_server)
    shortest = of_server.size(wire.SUCCESS_BYTES) + spare
    telling = of_server.telling
    ignores = software[1].startswith(wire.IGNORES_FIRST)
    if telling and ignores:
        answered = [_without_ignores(units, of_server) for units in answered]
    elif telling and _rounded(answered, shortest, of_server):
        shortest, telling = of_server.size(wire.EMPTY_IGNORE_BYTES) + spare, False
    for number, units in enumerate(answered):
        found = _success(units, shortest, ignores=ignores and not telling)
        later = [unit.size for others in answered[number + 1 :] for unit in others]
        if found is None:
            found = _beside_keys(units, later, shortest, of_server)
            if found is None:
                continue
            beside = [found.size - shortest]
        else:
            beside = [unit.size for unit in units[units.index(found) + 1 :]]
        goes_on = max(beside, default=0) >= of_server.size(wire.HOST_KEYS_BYTES) or len(later) >= 2
        if not telling and not goes_on:
            return None
        confidence = "high" if goes_on and (telling or of_server.shown) else "medium"
        if number == 0:
            return _at_once(asked[0][1], found, of_client, software[0], confidence) if begun else None
        says = "an answer of the server has the length of USERAUTH_SUCCESS"
        says += ", and a session followed" if goes_on else ""
        return Login(ACCEPTED, confidence, says, number + 1, found)
    if ignores and not telling:
        answered = [_without_ignores(units, of_server) for units in answered]
    sizes = [unit.size for units in answered for unit in units]
    if not (sizes and begun and client.whole and server.whole) or not _all_refusals(answered, of_server):
        return None
    if telling and software[1].startswith(wire.ROUNDS_UP) and of_server.size(wire.EMPTY_IGNORE_BYTES) in sizes:
        return None
    says = "no answer of the server has the length of USERAUTH_SUCCESS"
    return Login(REFUSED, "medium" if of_server.blind else "high", says, len(answered), answered[-1][-1])


def _behind_extensions(ahead: int, how: Protection) -> bool:
    """EXT_INFO, which names algorithms for signatures, and SERVICE_ACCEPT in one segment."""
    return (
        ahead >= how.size(wire.EXTENSIONS_BYTES)
        and how.fits(ahead)
        and not how.fits(ahead + how.size(wire.SERVICE_BYTES))
    )


def _rounded(answered: list[list[Unit]], shortest: int, how: Protection) -> bool:
    """A server that keeps to the least length of a packet, as dropbear does: SUCCESS is as long as an empty IGNORE, and a session follows it."""
    sizes = [unit.size for units in answered for unit in units]
    least = how.size(wire.EMPTY_IGNORE_BYTES)
    if shortest in sizes or least not in sizes:
        return False
    at = sizes.index(least)
    return all(map(how.fits, sizes[:at])) and _session(sizes[at + 1 :], how)


def _session(sizes: list[int], how: Protection) -> bool:
    """Answers of a session: a channel is confirmed, and what follows is not that again and again, as a refusal may be."""
    return sizes[:1] == [how.size(wire.CONFIRMATION_BYTES)] and len(set(sizes)) > 1


def _without_ignores(units: list[Unit], how: Protection) -> list[Unit]:
    """Answers of a server that sends an empty IGNORE before each."""
    ignore = how.size(wire.EMPTY_IGNORE_BYTES)
    return units[1::2] if len(units) % 2 == 0 and all(unit.size == ignore for unit in units[::2]) else units


def _beside_keys(units: list[Unit], later: list[int], shortest: int, how: Protection) -> Unit | None:
    """SUCCESS and the announcement of host keys in one segment, which shows only where two packets cannot be one, and by what follows."""
    if not _session(later, how):
        return None
    least = shortest + how.size(wire.HOST_KEYS_BYTES)
    return next((unit for unit in units if unit.size >= least and not how.fits(unit.size)), None)


def _all_refusals(answered: list[list[Unit]], how: Protection) -> bool:
    """No answer hides SUCCESS among others that are in the same segment."""
    if how.shown:
        return True
    last = answered[-1][-1].size
    if how.blind:
        # A banner and SUCCESS together look like a step of a login; but a session follows, with several answers to one request.
        return all(len(units) == 1 for units in answered[1:]) and last < how.size(wire.SUCCESS_BYTES) + how.size(
            wire.BANNER_BYTES
        )
    doubtful = [unit.size for units in answered for unit in units if not how.fits(unit.size)]
    if not doubtful:
        return True
    # A banner and a refusal in one segment, and after it nothing but the same refusal.
    rest = {unit.size for units in answered[1:] for unit in units}
    return (
        len(doubtful) == 1 and rest == {last} and last > how.size(wire.SERVICE_BYTES) and how.fits(doubtful[0] - last)
    )


def _spare(accept: list[int], service: int, how: Protection) -> int:
    """By how much a server pads its packets beyond what it must, as SERVICE_ACCEPT shows, whose payload is known."""
    more = accept[0] - service if len(accept) == 1 else 0
    return more if more % how.block == 0 and 0 <= more <= 2 * how.block else 0


def _success(units: list[Unit], shortest: int, *, ignores: bool) -> Unit | None:
    """USERAUTH_SUCCESS among the server's answers to one request."""
    if ignores:
        # Each packet has an IGNORE before it, which is as short.
        return next((b for a, b in zip(units[::2], units[1::2], strict=False) if a.size == b.size == shortest), None)
    return next((unit for unit in units if unit.size == shortest), None)


def _at_once(asked: list[Unit], found: Unit, how: Protection, software: str, confidence: str) -> Login | None:
    """The first request was accepted: one of method none, or of a client that begins with something else."""
    size = asked[-1].size
    if not how.fits(size):
        size -= how.size(wire.SERVICE_BYTES)  # in one segment
    short = size < how.size(wire.LONGEST_PLAIN_NONE + 1)
    first = software.startswith(wire.BEGIN_WITH_NONE)
    if short or first:
        why = "of a client that begins with method none" if first else "which is too short for a password"
        says = f"the server accepted the first request, {why}"
        return Login(NONE_ACCEPTED, confidence if short and first else "medium", says, 1, found)
    if software.startswith(wire.MAY_BEGIN_WITH_NONE):
        return None
    says = "the server accepted the first request, which is longer than one of method none"
    return Login(ACCEPTED, "medium", says, 1, found)
