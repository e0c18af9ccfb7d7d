"""Random wires for property tests: conversations interleaved, packets lost, repeated, out of order, snapped."""

from __future__ import annotations

import random

from hypothesis import strategies as st

from tests.conversation import ACK, SYN, Talk, Wire

SIZES = (1, 40, 700, 3_000)
LONG_SIZES = (*SIZES, 20_000, 50_000)
"""Streams of which the first bytes are handed on long before the end."""


def _conversation(rng: random.Random, wire: Wire, number: int, fresh_ports: bool, sizes: tuple[int, ...]) -> None:
    """One conversation of a random kind, appended to the wire."""
    midstream = rng.random() < 0.15
    talk = Talk(
        wire,
        client=f"10.0.{rng.choice((1, 3))}.{rng.randint(1, 3)}",
        # Ports in use again show their SYN: without it only a closed predecessor tells two connections apart, and a part may not hold it.
        cport=50_000 + number if midstream or fresh_ports else rng.choice((40_000, 40_001, 8889)),
        sport=rng.choice((8889, 8891)),
        # Far apart for each conversation, as RFC 9293 section 3.4.1 has it, and some wrap within it.
        isn_c=(number << 28) + rng.choice((rng.randrange(2**24), 2**28 - 50)),
        isn_s=((15 - number) << 28) + rng.choice((rng.randrange(2**24), 2**28 - 1)),
    )
    kind = rng.random()
    if kind < 0.1:
        talk.attempts()
        if rng.random() < 0.5:
            talk.refuses()
        return
    if kind < 0.25:
        wire.add(src="10.0.1.9", sport=5_000 + number % 3, dst="10.0.2.53", dport=53, proto=17, data=b"ask%d" % number)
        if rng.random() < 0.8:
            wire.add(
                src="10.0.2.53", sport=53, dst="10.0.1.9", dport=5_000 + number % 3, proto=17, data=b"say%d" % number
            )
        return
    if not midstream:
        talk.opens()
    else:
        talk.next_c, talk.next_s = talk.isn_c + 1, talk.isn_s + 1
    for turn in range(rng.randint(0, 4)):
        text = bytes((number + turn + k) % 251 for k in range(rng.choice(sizes)))
        if rng.random() < 0.5:
            talk.says(text, mss=rng.choice((100, 1448)) if len(text) < 1_000 else 1448)
        else:
            talk.answers(text)
        if rng.random() < 0.5:
            talk.acks()
        if rng.random() < 0.3:
            talk.server_acks()
    end = rng.random()
    if end < 0.5:
        talk.closes()
    elif end < 0.65:
        talk.aborts()
    elif end < 0.7:
        talk._s(SYN | ACK)


def make_wire(
    seed: int, *, loss: float = 0.05, duplicates: float = 0.05, disorder_ns: int = 0, talks: int = 8, long: bool = False
) -> Wire:
    """Conversations one after another, then mixed by moving packets, with some lost and some doubled."""
    rng = random.Random(seed)
    wire = Wire()
    for number in range(rng.randint(1, talks)):
        _conversation(rng, wire, number, disorder_ns > 0, LONG_SIZES if long else SIZES)
    kept = []
    for packet in wire.sent:
        if rng.random() < loss:
            continue
        kept.append(packet)
        if rng.random() < duplicates:
            kept.append(packet)
    if disorder_ns:
        kept.sort(key=lambda packet: packet.ts_ns + rng.randrange(disorder_ns))
    wire.sent = kept
    return wire


def wires(**options: float) -> st.SearchStrategy[Wire]:
    """Strategy of random wires."""
    return st.integers(0, 2**32).map(lambda seed: make_wire(seed, **options))  # type: ignore[arg-type]


__all__ = ["ACK", "make_wire", "wires"]
