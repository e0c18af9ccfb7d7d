"""Heads of datagrams: one of most protocols, several of a handshake."""

from __future__ import annotations

from typing import Any

import pytest

from auditor.conntrack import TrackedPart, Tracker, merge
from auditor.inspectors._examine import Examiner
from auditor.model.streams import HEAD_SEGMENTS
from tests.conversation import Wire
from tests.inspectors.heads import Segments
from tests.inspectors.test_dtls import conversation
from tests.inspectors.test_quic import CLIENT_HELLO, SERVER_ID, crypto, hellos, initial

A: dict[str, Any] = {"src": "10.0.0.1", "sport": 40_000, "dst": "10.0.0.2", "dport": 443, "proto": 17}
B: dict[str, Any] = {"src": "10.0.0.2", "sport": 443, "dst": "10.0.0.1", "dport": 40_000, "proto": 17}


def wire_of(client: Segments, server: Segments) -> Wire:
    """Datagrams of both sides in the order of their frames."""
    wire = Wire()
    told = [(frame, A, data) for frame, data in client] + [(frame, B, data) for frame, data in server]
    for _, ends, data in sorted(told, key=lambda each: each[0]):
        wire.add(**ends, data=data)
    return wire


def follow(wire: Wire, begin: int = 0, end: int | None = None, *, alone: bool = True) -> TrackedPart:
    tracker = Tracker(Examiner(), alone=alone)
    rows, buf = wire.packets(begin, end)
    tracker.feed(rows, buf)
    return tracker.finish()


def facts_of(part: TrackedPart) -> dict[str, Any]:
    assert len(part.rows) == 1
    return dict(part.facts[0] or {})


QUIC = (
    [(1, initial(crypto(CLIENT_HELLO[:200]))), (2, initial(crypto(CLIENT_HELLO[200:], 200), number=1))],
    [(3, initial(b"\x02\x00\x00\x00\x00", side="server", to=b"\1\2\3", sender=SERVER_ID)), (4, hellos()[1][0][1])],
)


@pytest.mark.parametrize(("said", "version"), [(QUIC, "TLS 1.3"), (conversation(), "DTLS 1.2")], ids=["quic", "dtls"])
def test_a_handshake_is_kept_over_several_datagrams(said: tuple[Segments, Segments], version: str) -> None:
    part = follow(wire_of(*said))
    facts = facts_of(part)
    assert facts["tls.sni"] == "server.test" and facts["tls.version"] == version
    assert part.rows["client_side"].tolist() == [0]


@pytest.mark.parametrize("said", [QUIC, conversation()], ids=["quic", "dtls"])
def test_parts_make_the_whole(said: tuple[Segments, Segments]) -> None:
    wire = wire_of(*said)
    whole = facts_of(follow(wire))
    # A part without the first datagram of a handshake keeps one datagram of each side, so only a cut behind it may lose some.
    for cut in (len(wire.sent) - 1, len(wire.sent)):
        parts = [follow(wire, 0, cut, alone=False), follow(wire, cut, None, alone=False)]
        assert facts_of(merge(parts, Examiner())) == whole


def test_what_is_no_handshake_keeps_one_datagram() -> None:
    wire = wire_of([(1, b"one"), (3, b"two")], [(2, b"three"), (4, b"four")])
    tracker = Tracker(Examiner(), alone=False)
    tracker.feed(*wire.packets())
    part = tracker.finish()
    assert [data for _, kept in part.pending.items() for data in kept[1]] == [b"one", b"three"]


def test_a_long_handshake_stops_at_the_heads_room() -> None:
    first = QUIC[0][0][1]
    many = [(1, first)] + [(2 + k, b"\x40" + bytes(40)) for k in range(3 * HEAD_SEGMENTS)]
    tracker = Tracker(Examiner(), alone=False)
    tracker.feed(*wire_of(many, []).packets())
    heads, data = tracker.finish().pending[0]
    kept = data[0]
    assert kept is not None and len(kept) == len(first) + (HEAD_SEGMENTS - 1) * 41
    assert heads["n_segments"][0] == HEAD_SEGMENTS
    assert facts_of(follow(wire_of(many, [])))["quic.version"] == "1"
