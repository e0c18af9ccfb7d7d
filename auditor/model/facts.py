"""All evidence of one connection, kept small: what repeats is shared between connections, frame numbers are decoded when asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.model.evidence import Certainty, Evidence

LINK = "_"
"""Kinds that start so tie connections together inside an audit (a ticket to the session it resumes) and never leave it."""

ROLES = f"{LINK}roles"
"""``unknown`` where an inspector could not tell client and server apart, and took side 0 for the client."""

SIGNATURE_FITS = f"{LINK}tls.signature_fits"
"""Whether the signature of the client's CertificateVerify fits the handshake as seen (``signature_fits``); left out where that cannot be checked."""

ANSWERED_WITH = "tls.answered_with"
"""What a server answered a ClientHello with that is no TLS: ``http``, or ``other`` where the client went on with it."""

FOLLOWED = f"{LINK}http.followed"
"""How far requests and answers were read where they continue behind the first bytes: offsets in both streams, -1: unknown.
Where all requests were read, and not all answers, so many of these are the third."""

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def pack_marks(marks: NDArray[np.int64]) -> list[bytes | None]:
    """Pairs of first and last frame (n, places, 2), 0: none, as a few bytes each; None where they are too far apart for that."""
    n = len(marks)
    seen = marks > 0
    low = np.where(seen, marks, np.iinfo(np.int64).max).min(axis=(1, 2), initial=np.iinfo(np.int64).max)
    high = marks.max(axis=(1, 2), initial=0)
    base = np.where(high > 0, low - 1, 0)
    deltas = np.where(seen, marks - base[:, None, None], 0)
    packed: list[bytes | None] = [None] * n
    near, fits = high - base < 1 << 16, high - base < 1 << 32
    for kind, rows in (("<u2", np.flatnonzero(near)), ("<u4", np.flatnonzero(fits & ~near))):
        some = np.zeros(rows.size, dtype=[("base", "<i8"), ("deltas", kind, marks.shape[1:])])
        # A base below zero says that two bytes a delta are enough.
        some["base"], some["deltas"] = (~base if kind == "<u2" else base)[rows], deltas[rows].astype(kind)
        raw, size = some.tobytes(), some.itemsize
        for k, row in enumerate(rows.tolist()):
            packed[row] = raw[k * size : (k + 1) * size]
    return packed


def unpack_marks(packed: Sequence[bytes]) -> NDArray[np.int64]:
    """What ``pack_marks`` made, as pairs of first and last frame (n, places, 2), 0: none. All are of as many places."""
    n = len(packed)
    bases = np.frombuffer(b"".join([each[:8] for each in packed]), "<i8")
    sizes = np.where(bases < 0, 2, 4)
    places = (len(packed[0]) - 8) // (2 * int(sizes[0])) if n else 0
    marks = np.zeros((n, places, 2), np.int64)
    for size in (2, 4):
        rows = np.flatnonzero(sizes == size)
        if rows.size:
            raw = b"".join([packed[row][8:] for row in rows.tolist()])
            deltas = np.frombuffer(raw, f"<u{size}").reshape(rows.size, places, 2).astype(np.int64)
            base = np.where(bases[rows] < 0, ~bases[rows], bases[rows])
            marks[rows] = np.where(deltas > 0, deltas + base[:, None, None], 0)
    return marks


class Proof:
    """The result of an expensive check, made when it is first asked for: for most connections it never is."""

    __slots__ = ("_check",)

    def __init__(self, check: Callable[[], bool | None] | bool | None) -> None:
        self._check = check

    def fits(self) -> bool | None:
        """None: unknown."""
        if callable(self._check):
            self._check = self._check()
        return self._check

    def __eq__(self, other: object) -> bool:
        return self.fits() == (other.fits() if isinstance(other, Proof) else other)

    def __hash__(self) -> int:
        return hash(self.fits())

    def __repr__(self) -> str:
        return repr(self.fits())

    def __reduce__(self) -> tuple[Any, ...]:
        return (Proof, (self.fits(),))


def signature_fits(facts: Mapping[str, Any]) -> bool | None:
    """Whether the client's signature fits; None: that was not or cannot be checked."""
    told = facts.get(SIGNATURE_FITS)
    return told.fits() if isinstance(told, Proof) else told


class Facts(Mapping[str, Any]):
    """``kind -> value`` of a connection's evidence, with certainty and frames.

    ``shared`` holds what many connections have in common: equal content is the same object, so that conclusions can be drawn once for
    each ``id(facts.shared)`` where they need nothing of ``own``. ``own`` holds what differs from connection to connection (record
    lengths, links between sessions).
    """

    __slots__ = ("certainties", "marks", "own", "shared")

    def __init__(
        self,
        shared: Mapping[str, Any],
        own: Mapping[str, Any] = _NOTHING,
        marks: tuple[tuple[Mapping[str, Any], bytes | None], ...] = (),
        certainties: Mapping[str, Certainty] = _NOTHING,
    ) -> None:
        self.shared = shared
        self.own = own
        self.marks = marks
        """Where frames are found: (kind -> frame numbers, None), or (kind -> place, what ``pack_marks`` made)."""
        self.certainties = certainties
        """Only kinds that are not proven."""

    def __getitem__(self, kind: str) -> Any:
        if kind in self.own:
            return self.own[kind]
        return self.shared[kind]

    def __iter__(self) -> Iterator[str]:
        yield from self.shared
        for kind in self.own:
            if kind not in self.shared:
                yield kind

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, kind: object) -> bool:
        return kind in self.own or kind in self.shared

    def get(self, kind: str, default: Any = None) -> Any:
        """Value of ``kind``, or ``default``."""
        return self.own[kind] if kind in self.own else self.shared.get(kind, default)

    def turned(self, made: dict[int, Mapping[str, Any]]) -> Facts:
        """The same with client and server exchanged, and ``ROLES`` settled. made: by id() of a shared mapping what was made of it, so that it stays shared."""
        key = id(self.shared)
        if key not in made:
            made[key] = _exchanged(self.shared)
        marks = tuple(
            ({_other(kind): place for kind, place in places.items()}, packed) for places, packed in self.marks
        )
        return Facts(made[key], _exchanged(self.own), marks, {_other(kind): c for kind, c in self.certainties.items()})

    def __repr__(self) -> str:
        return f"Facts({dict(self)!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (Facts, (dict(self.shared), dict(self.own), self.marks, dict(self.certainties)))

    def certainty(self, kind: str) -> Certainty:
        """How sure ``kind`` is."""
        return self.certainties.get(kind, Certainty.PROVEN)

    def frames(self, kind: str) -> tuple[int, ...]:
        """Numbers of the frames that show ``kind``, rising; of a message over many frames at least the first and the last."""
        for places, packed in self.marks:
            if kind not in places:
                continue
            if packed is None:
                return tuple(places[kind])
            base, width = int.from_bytes(packed[:8], "little", signed=True), 4
            if base < 0:
                base, width = ~base, 2
            at = 8 + 2 * width * places[kind]
            first = int.from_bytes(packed[at : at + width], "little")
            last = int.from_bytes(packed[at + width : at + 2 * width], "little")
            if first and last and first != last:
                return (base + first, base + last) if first < last else (base + last, base + first)
            return (base + (first or last),) if first or last else ()
        return ()

    def evidence(self) -> Iterator[Evidence]:
        """All of it as values that may leave the audit, in the order of kinds."""
        for kind in sorted(self):
            if not kind.startswith(LINK):
                yield Evidence(kind, self[kind], self.certainty(kind), self.frames(kind))


_OF_BOTH = ("tls.", "dtls.", LINK)
_OTHER = {"client": "server", "server": "client"}


def _other(kind: str) -> str:
    """A kind with client and server exchanged, where it speaks of both."""
    return re.sub("client|server", lambda found: _OTHER[found[0]], kind) if kind.startswith(_OF_BOTH) else kind


def _exchanged(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        _other(kind): _OTHER.get(value, value) if isinstance(value, str) and kind.startswith(_OF_BOTH) else value
        for kind, value in facts.items()
        if kind != ROLES
    }
