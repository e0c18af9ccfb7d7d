"""Connections: told as stories, compared with a plain twin, cut anywhere and joined again, in as little room as there is."""

from __future__ import annotations

import dataclasses
import ipaddress
import itertools
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from auditor import conntrack
from auditor.conntrack import TrackedPart, Tracker, TrackLimits, build_table, decide_originators, merge
from auditor.kernels import tcpstate
from auditor.model.connections import (
    CONN,
    CONN_STATES,
    DIRECTION_BY,
    FRAME_BITS,
    HEAD_CUT,
    INCOMPLETE,
    RETRANSMITTED,
    ROW_RELEASED,
    ConnectionTable,
)
from auditor.model.packets import STOP_FRAGMENT, STOP_TRUNCATED, TUNNEL_VXLAN
from auditor.model.streams import HEAD_BYTES
from tests import naive_conntrack as naive
from tests.conversation import ACK, FIN, PSH, RST, SYN, Echo, Talk, Wire
from tests.wires import make_wire, wires

SECOND = 10**9
SMALL = TrackLimits(head_slots=512)


def part_of(wire: Wire, begin: int = 0, end: int | None = None, **options: Any) -> TrackedPart:
    tracker = Tracker(Echo(), **{"limits": SMALL, **options})
    tracker.feed(*wire.packets(begin, end))
    return tracker.finish()


def table_of(part: TrackedPart) -> ConnectionTable:
    side, by = decide_originators(part)
    return build_table(part, side, by, Echo.applications)


def follow(wire: Wire) -> ConnectionTable:
    return table_of(part_of(wire))


def in_parts(wire: Wire, cuts: Sequence[int]) -> ConnectionTable:
    edges = [0, *cuts, len(wire.sent)]
    parts = [part_of(wire, a, b, alone=False) for a, b in itertools.pairwise(edges)]
    return table_of(merge(parts, Echo()))


def from_places(*wires_seen: Wire) -> ConnectionTable:
    parts = [part_of(wire, capture=k, alone=False) for k, wire in enumerate(wires_seen)]
    return table_of(merge(parts, Echo()))


@dataclasses.dataclass
class Told:
    """One row of a table, readable."""

    orig: str
    resp: str
    state: str
    history: str
    by: str
    packets: tuple[int, int]
    payload: int
    missed: int
    incomplete: tuple[str, ...]
    established: bool
    heads: tuple[bytes, bytes]
    """Of the originator and the responder."""


def rows_of(table: ConnectionTable) -> list[Told]:
    def end(address: int, port: int) -> str:
        value = ipaddress.IPv6Address(table.addresses[address])
        return f"{value.ipv4_mapped or value}:{port}"

    out = []
    for i in range(len(table)):
        orig, resp = end(table.orig_h[i], table.orig_p[i]), end(table.resp_h[i], table.resp_p[i])
        facts = table.facts[i] or ((b"",), (b"",))
        numbers = table.addresses[table.orig_h[i]], table.orig_p[i], table.addresses[table.resp_h[i]], table.resp_p[i]
        heads = facts[0][0], facts[1][0]
        out.append(
            Told(
                orig,
                resp,
                CONN_STATES[table.conn_state[i]],
                table.history[i].decode(),
                DIRECTION_BY[table.direction_by[i]],
                (int(table.orig_pkts[i]), int(table.resp_pkts[i])),
                int(table.payload_bytes[i]),
                int(table.missed_bytes[i]),
                tuple(name for k, name in enumerate(INCOMPLETE) if table.incomplete[i] >> k & 1),
                bool(table.established[i]),
                heads if numbers[:2] <= numbers[2:] else heads[::-1],
            )
        )
    return out


# Stories


def story(teller: Callable[[Wire, Talk], object], **options: Any) -> list[Told]:
    wire = Wire()
    teller(wire, Talk(wire, **options))
    return rows_of(follow(wire))


def without(*frames: int) -> Callable[[Wire, Talk], None]:
    """The plain conversation (3 to open, ask, reply, 3 to close) without some of its packets."""

    def teller(wire: Wire, talk: Talk) -> None:
        talk.opens().says(b"ask").answers(b"reply").closes()
        wire.sent = [packet for k, packet in enumerate(wire.sent, 1) if k not in frames]

    return teller


CLIENT, SERVER = "10.0.1.10:40000", "10.0.2.20:8889"


@pytest.mark.parametrize("first", ["client", "server"])
@pytest.mark.parametrize("last", [FIN | ACK, RST | ACK])
@pytest.mark.parametrize("turned", [False, True])
def test_a_fin_that_acknowledges_another_came_second_in_whatever_order_they_were_captured(
    first: str, turned: bool, last: int
) -> None:
    wire = Wire()
    talk = Talk(wire).opens().says(b"ask").answers(b"reply").acks()
    one, other = (talk._c, talk._s) if first == "client" else (talk._s, talk._c)
    begin, end = one(FIN | ACK), other(last)
    if turned:
        wire.sent[-2:] = [end, begin]
        begin.ts_ns, end.ts_ns = end.ts_ns, begin.ts_ns
    whole = follow(wire)
    assert whole.closed_by.tolist() == [{"client": 1, "server": 2}[first]]
    parts = [part_of(wire, 0, len(wire.sent) - 1), part_of(wire, len(wire.sent) - 1)]
    assert table_of(merge(parts, Echo())).closed_by.tolist() == whole.closed_by.tolist()


@pytest.mark.parametrize("flags", [FIN | ACK, RST, RST | ACK])
def test_what_a_closing_packet_stands_behind_was_sent(flags: int) -> None:
    """The server's answer was lost, nobody acknowledged it, and the number of its FIN or RST tells of it."""

    def teller(wire: Wire, talk: Talk) -> None:
        talk.opens().says(b"ask").answers(b"reply")
        wire.sent.pop()
        talk._s(flags)

    (told,) = story(teller)
    assert (told.missed, told.incomplete) == (5, ("gap",))
    assert told.history.endswith("g")


@pytest.mark.parametrize(("flags", "far"), [(FIN | ACK, 1 << 30), (RST, (1 << 16) + 1), (RST, -400)])
def test_a_closing_packet_that_is_out_of_the_stream_tells_nothing(flags: int, far: int) -> None:
    def teller(wire: Wire, talk: Talk) -> None:
        talk.opens().says(b"ask").answers(b"reply").acks()
        talk.next_s += far
        talk._s(flags)

    (told,) = story(teller)
    assert (told.missed, told.incomplete) == (0, ())


def test_a_reset_behind_a_lost_answer_to_a_syn_ends_a_connection_and_refuses_none() -> None:
    """The server acknowledged what the client said before it reset: the connection was established, though its SYN+ACK was lost."""

    def teller(wire: Wire, talk: Talk) -> None:
        talk.opens().says(b"ask").server_acks()
        talk._s(RST)
        del wire.sent[1]

    (told,) = story(teller)
    assert told.established

    def refused(wire: Wire, talk: Talk) -> None:
        talk.attempts()
        talk.refuses()

    (told,) = story(refused)
    assert not told.established


@pytest.mark.parametrize(
    ("teller", "state", "history", "packets", "established"),
    [
        (without(), "SF", "ShADdFf", (5, 3), True),
        (lambda _, t: t.opens(), "S1", "ShA", (2, 1), True),
        (lambda _, t: t.opens().says(b"ask"), "S1", "ShAD", (3, 1), True),
        (lambda _, t: t.attempts(), "S0", "S", (1, 0), False),
        (lambda _, t: t.attempts().refuses(), "REJ", "Sr", (1, 1), False),
        (lambda _, t: t.opens().says(b"ask").aborts(), "RSTO", "ShADR", (4, 1), True),
        (lambda _, t: (t.opens().says(b"ask"), t._s(RST | ACK)), "RSTR", "ShADr", (3, 2), True),
        (lambda _, t: (t.opens().says(b"ask"), t._c(FIN | ACK)), "S2", "ShADF", (4, 1), True),
        (lambda _, t: (t.opens().says(b"ask"), t._s(FIN | ACK)), "S3", "ShADf", (3, 2), True),
        (lambda _, t: (t.attempts(), t._c(FIN | ACK)), "SH", "SF", (2, 0), False),
        (lambda _, t: (t.attempts(), t._c(RST)), "RSTOS0", "SR", (2, 0), False),
        (lambda _, t: t._s(SYN | ACK), "OTH", "h", (0, 1), True),
        (lambda _, t: (t._s(SYN | ACK), t._s(RST)), "RSTRH", "hr", (0, 2), True),
        (lambda _, t: (t._s(SYN | ACK), t._s(FIN | ACK)), "SHR", "hf", (0, 2), True),
        # After both FINs a RST only answers something late.
        (lambda _, t: t.opens().closes().aborts(), "SF", "ShAFfR", (5, 2), True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_became_of_a_connection_that_was_opened(
    teller: Any, state: str, history: str, packets: tuple[int, int], established: bool
) -> None:
    (told,) = story(teller)
    assert (told.orig, told.resp, told.by) == (CLIENT, SERVER, "syn")
    assert (told.state, told.history, told.packets, told.established) == (state, history, packets, established)
    assert told.missed == 0


@pytest.mark.parametrize(
    ("teller", "state", "history"),
    [
        (lambda _, t: t.says(b"ask").answers(b"reply"), "OTH", "^Dd"),
        (lambda _, t: t.says(b"ask").answers(b"reply").closes(), "SF", "^DdFfA"),
        (lambda _, t: t.says(b"ask").answers(b"r").aborts(), "RSTO", "^DdR"),
        (lambda _, t: (t.says(b"ask").answers(b"r"), t._s(RST)), "RSTRH", "^Ddr"),
        (lambda _, t: t.acks().server_acks(), "OTH", "^Aa"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_connection_from_the_middle_on_is_guessed_and_says_so(teller: Any, state: str, history: str) -> None:
    (told,) = story(teller)
    assert (told.orig, told.by, told.state, told.history) == (CLIENT, "guess", state, history)
    assert told.incomplete == ("midstream",)
    assert told.missed == 0


def test_both_directions_and_their_first_bytes() -> None:
    (told,) = story(without())
    assert told.heads == (b"ask", b"reply")
    assert (told.payload, told.incomplete) == (8, ())


def test_one_direction_alone_tells_what_the_other_acknowledged() -> None:
    (told,) = story(without(2, 5, 7))
    # The reply, and the number of a FIN that nobody saw: nothing tells it from a byte.
    assert (told.state, told.history, told.missed) == ("SH", "SADFg", len(b"reply") + 1)
    assert told.established
    assert told.incomplete == ("one_way", "gap")
    (told,) = story(without(1, 3, 4, 6, 8))
    assert (told.orig, told.resp, told.by) == (CLIENT, SERVER, "syn")
    assert (told.state, told.history, told.missed) == ("SHR", "hdfG", len(b"ask") + 1)
    assert told.heads == (b"", b"reply")


def test_a_syn_that_is_sent_again_is_the_same_attempt() -> None:
    def teller(wire: Wire, talk: Talk) -> None:
        for wait in (1, 2, 4):
            talk.attempts()
            talk.next_c -= 1
            wire.now_ns += wait * SECOND

    (told,) = story(teller)
    assert (told.state, told.history, told.packets) == ("S0", "S", (3, 0))


@pytest.mark.parametrize("end", [Talk.closes, Talk.aborts, lambda talk: talk], ids=["closed", "aborted", "open"])
def test_ports_in_use_again_are_another_connection(end: Callable[[Talk], Talk]) -> None:
    wire = Wire()
    end(Talk(wire).opens().says(b"old"))
    Talk(wire, isn_c=7_777_777, isn_s=99_999_999).opens().says(b"new").closes()
    table = follow(wire)
    first, second = rows_of(table)
    assert (first.heads[0], second.heads[0]) == (b"old", b"new")
    assert second.packets == (5, 2)
    assert len(set(table.id.tolist())) == 2
    assert len(set(table.community_id.tolist())) == 1


def test_ports_in_use_again_without_a_syn_are_another_connection_where_numbers_are_far_off() -> None:
    wire = Wire()
    Talk(wire).opens().says(b"old").aborts()
    again = Talk(wire, isn_c=2**31, isn_s=2**30)
    again.next_c += 1
    again.says(b"new")
    assert [each.heads[0] for each in rows_of(follow(wire))] == [b"old", b"new"]


def test_a_syn_behind_its_data_is_no_new_connection() -> None:
    def teller(wire: Wire, talk: Talk) -> None:
        talk.opens().says(b"ask").closes()
        wire.sent[:4] = [wire.sent[k] for k in (3, 1, 0, 2)]

    (told,) = story(teller)
    assert (told.state, told.history, told.by, told.heads[0]) == ("SF", "DhSAFf", "syn", b"ask")
    assert told.incomplete == ()


def test_both_ends_open_at_once() -> None:
    def teller(_: Wire, talk: Talk) -> None:
        talk._c(SYN)
        talk._s(SYN)
        talk.next_c, talk.next_s = talk.isn_c, talk.isn_s
        talk._c(SYN | ACK)
        talk._s(SYN | ACK)
        talk.says(b"x").closes()

    (told,) = story(teller)
    assert (told.orig, told.state, told.history, told.missed) == (CLIENT, "SF", "SsHhDFfA", 0)


def test_sequence_numbers_wrap() -> None:
    (told,) = story(
        lambda _, t: t.opens().says(b"abcdefghijkl", mss=5).answers(b"0123456789", mss=3).closes(),
        isn_c=2**32 - 7,
        isn_s=2**32 - 2,
    )
    assert (told.state, told.missed, told.heads) == ("SF", 0, (b"abcdefghijkl", b"0123456789"))


@pytest.mark.parametrize("probe", [b"", b"k"], ids=["empty", "one byte"])
def test_keep_alives_change_nothing(probe: bytes) -> None:
    """RFC 9293 section 3.8.4: one number before the next one, with one byte of anything or none."""

    def teller(wire: Wire, talk: Talk) -> None:
        talk.opens().says(b"ask")
        for _ in range(3):
            wire.now_ns += 75 * SECOND
            talk.next_c -= 1
            talk._c(ACK, probe)
            talk.next_c = talk.isn_c + 4
            talk.server_acks()
        talk.answers(b"r").closes()

    (told,) = story(teller)
    assert (told.state, told.missed, told.heads) == ("SF", 0, (b"ask", b"r"))
    assert told.history == "ShADadFf" + ("T" if probe else "")


def test_of_overlapping_segments_the_first_seen_wins() -> None:
    def teller(_: Wire, talk: Talk) -> None:
        talk.opens().says(b"hello")
        talk.next_c -= 5
        talk.says(b"HELLO")
        talk.next_c -= 2
        talk.says(b"XXworld").closes()

    (told,) = story(teller)
    assert (told.heads[0], told.missed, told.payload) == (b"helloworld", 0, 17)
    assert told.history == "ShADFfT"


def test_bytes_that_are_missing_are_counted_and_end_the_first_bytes() -> None:
    def teller(wire: Wire, talk: Talk) -> None:
        talk.opens().says(b"hello").says(b"lost").says(b"again").closes()
        del wire.sent[4]

    (told,) = story(teller)
    assert (told.heads[0], told.missed, told.incomplete, told.history) == (b"hello", 4, ("gap",), "ShADFfG")
    assert told.state == "SF"


def test_what_was_acknowledged_and_not_captured_is_missing() -> None:
    def teller(wire: Wire, talk: Talk) -> None:
        talk.opens().says(b"hello").says(b"unseen").server_acks()
        del wire.sent[4]

    (told,) = story(teller)
    assert (told.missed, told.incomplete, told.history) == (6, ("gap",), "ShADaG")
    (told,) = story(lambda wire, talk: (teller(wire, talk), wire.sent.pop(3)))
    assert (told.missed, told.heads, told.history) == (11, (b"", b""), "ShAaG")


def test_a_snap_length_cuts_what_is_kept_not_what_is_counted() -> None:
    def teller(_: Wire, talk: Talk) -> None:
        talk.opens()
        talk._c(PSH | ACK, b"hello", wire=100)
        talk.next_c += 95
        talk.says(b"more").closes()

    (told,) = story(teller)
    assert (told.payload, told.missed, told.incomplete, told.heads[0]) == (104, 0, ("snaplen",), b"hello")


def test_a_fin_that_was_lost() -> None:
    (told,) = story(without(6))
    assert (told.state, told.history) == ("S3", "ShADdfG")
    (told,) = story(without(7))
    assert (told.state, told.history) == ("S2", "ShADdFg")


@pytest.mark.parametrize(("proto", "silence_s"), [(6, 7_875), (17, 7_200), (1, 7_200)])
def test_silence_by_the_packets_own_clock_ends_a_connection(proto: int, silence_s: int) -> None:
    for wait_s, count in ((silence_s, 1), (silence_s + 1, 2)):
        wire = Wire(step_ns=0)
        ends: dict[str, Any] = {"src": "10.0.0.1", "dst": "10.0.0.2", "sport": 8, "dport": 0, "flags": ACK}
        for k in range(2):
            wire.add(proto=proto, seq=1 + k * 2**20, data=b"q", **ends)
            wire.now_ns += wait_s * SECOND
        assert len(follow(wire)) == count


def test_a_clock_that_runs_backwards_ends_nothing() -> None:
    wire = Wire()
    talk = Talk(wire).opens().says(b"ask")
    wire.now_ns -= 10_000 * SECOND
    talk.answers(b"reply")
    wire.now_ns += 10_000 * SECOND
    talk.closes()
    table = follow(wire)
    (told,) = rows_of(table)
    assert (told.state, told.heads) == ("SF", (b"ask", b"reply"))
    times = [packet.ts_ns for packet in wire.sent]
    assert (table.first_ns[0], table.last_ns[0]) == (min(times), max(times))


YEARS_NS = 34 * 366 * 86_400 * SECOND


@pytest.mark.parametrize("away_ns", [YEARS_NS, -YEARS_NS], ids=["later", "earlier"])
@pytest.mark.parametrize("which", range(8))
@pytest.mark.parametrize("end", [Talk.closes, Talk.aborts], ids=["closed", "aborted"])
def test_a_packet_that_is_dated_decades_away_is_one_of_its_connection(
    end: Callable[[Talk], Talk], which: int, away_ns: int
) -> None:
    wire = Wire()
    end(Talk(wire).opens().says(b"ask").answers(b"reply").acks())
    whole = follow(wire)
    stray = wire.sent[min(which, len(wire.sent) - 1)]
    stray.ts_ns += away_ns
    table = follow(wire)
    (told,) = rows_of(table)
    assert (told.state, told.packets, told.heads) == (
        rows_of(whole)[0].state,
        rows_of(whole)[0].packets,
        (b"ask", b"reply"),
    )
    assert told.by == "syn"
    assert whole.first_ns[0] <= table.first_ns[0] <= table.last_ns[0] <= whole.last_ns[0]
    part = part_of(wire)
    assert part.rows["strays"].tolist() == [1]
    assert (part.first_ns, part.last_ns) == (table.first_ns[0], table.last_ns[0])
    copied = Wire([each for packet in wire.sent for each in (packet, dataclasses.replace(packet))])
    assert [each.packets for each in rows_of(follow(copied))] == [told.packets]
    for cut in range(1, len(wire.sent) - (wire.sent[-1].flags & RST > 0)):  # a RST alone says no number
        joined = in_parts(wire, [cut])
        assert [each.state for each in rows_of(joined)] == [told.state], cut


def test_a_connection_whose_packets_are_dated_by_two_clocks_lasts_as_long_as_by_one() -> None:
    wire = Wire()
    Talk(wire).opens().says(b"ask").answers(b"reply").closes()
    for packet in wire.sent:
        packet.ts_ns -= YEARS_NS * (packet.src == "10.0.2.20")
    table = follow(wire)
    assert len(table) == 1 and table.last_ns[0] - table.first_ns[0] < SECOND


@pytest.mark.parametrize("away_ns", [YEARS_NS, 2 * 86_400 * SECOND], ids=["decades", "days"])
def test_ports_in_use_again_after_a_long_time_are_another_connection(away_ns: int) -> None:
    wire = Wire()
    Talk(wire).opens().says(b"old").answers(b"x").closes()
    wire.now_ns += away_ns
    Talk(wire, isn_c=7_777_777, isn_s=99_999_999).opens().says(b"new").answers(b"y").closes()
    table = follow(wire)
    assert [told.state for told in rows_of(table)] == ["SF", "SF"]
    assert max(table.last_ns - table.first_ns) < SECOND


def test_a_date_far_ahead_does_not_stop_the_clock() -> None:
    """What closed is handed on a moment later, also behind one packet from the future and behind a clock that was set back."""
    for strays in (1, 3):
        wire = Wire()
        for k in range(6):
            Talk(wire, cport=40_000 + k, isn_c=1_000 * k + 5).opens().says(b"ask").answers(b"reply").closes()
            if k == 2:
                for packet in wire.sent[-strays:]:
                    packet.ts_ns += YEARS_NS
            wire.now_ns += SECOND
        tracker = Tracker(Echo(), limits=SMALL)
        tracker.feed(*wire.packets(0, len(wire.sent)))
        assert tracker._state[tcpstate.S_CLOCK_NS] < wire.now_ns
        assert tracker._state[tcpstate.S_LINGER_SIZE] <= 2
        assert [told.state for told in rows_of(table_of(tracker.finish()))] == ["SF"] * 6


def test_frames_without_a_time_stamp_end_nothing() -> None:
    wire = Wire()
    Talk(wire).opens().says(b"ask").answers(b"reply").closes()
    for packet in wire.sent[3:5]:
        packet.ts_ns = 0
    assert [told.state for told in rows_of(follow(wire))] == ["SF"]


def datagram(wire: Wire, data: bytes, back: bool = False, **more: Any) -> None:
    ends: dict[str, Any] = {"src": "10.0.1.9", "sport": 5_000, "dst": "10.0.2.53", "dport": 53}
    if back:
        ends = {"src": ends["dst"], "sport": ends["dport"], "dst": ends["src"], "dport": ends["sport"]}
    wire.add(proto=17, data=data, **{**ends, **more})


def test_datagrams() -> None:
    wire = Wire()
    datagram(wire, b"first")
    datagram(wire, b"second")
    (told,) = rows_of(follow(wire))
    assert (told.orig, told.by, told.state, told.history) == ("10.0.1.9:5000", "guess", "S0", "D")
    assert told.heads == (b"first", b"")
    datagram(wire, b"answer", back=True)
    (told,) = rows_of(follow(wire))
    assert (told.state, told.history, told.packets, told.heads) == ("SF", "Dd", (2, 1), (b"first", b"answer"))


def test_an_empty_datagram_counts_and_has_no_first_bytes() -> None:
    wire = Wire()
    datagram(wire, b"")
    datagram(wire, b"", back=True)
    table = follow(wire)
    (told,) = rows_of(table)
    assert (told.state, told.history, told.packets) == ("SF", "Dd", (1, 1))
    assert Echo.applications[table.application[0]] == "none"


def test_fragments_are_pieces_of_their_connection() -> None:
    """A later fragment says with ``seq`` where its bytes belong."""
    wire = Wire()
    datagram(wire, b"head", fragment=1)
    datagram(wire, b"tail", fragment=2, seq=8)
    datagram(wire, b"midd", fragment=2, seq=4)
    datagram(wire, b"another")
    (told,) = rows_of(follow(wire))
    assert (told.heads[0], told.packets, told.payload) == (b"headmiddtail", (4, 0), 19)

    wire = Wire()
    talk = Talk(wire).opens()
    talk._c(PSH | ACK, b"head", fragment=1)
    first = talk.next_c - 4
    ends = {"src": talk.client, "sport": talk.cport, "dst": talk.server, "dport": talk.sport}
    wire.add(seq=first + 4, data=b"tail", fragment=2, **ends)
    talk.next_c += 4
    talk.says(b"more").closes()
    (told,) = rows_of(follow(wire))
    assert (told.heads[0], told.missed, told.state) == (b"headtailmore", 0, "SF")


@pytest.mark.parametrize(
    ("source", "target", "proto", "kind", "asked", "by"),
    [
        ("10.0.0.1", "10.0.0.2", 1, 8, True, "handshake"),
        ("10.0.0.2", "10.0.0.1", 1, 8, True, "handshake"),
        ("10.0.0.1", "10.0.0.2", 1, 0, False, "handshake"),
        ("10.0.0.2", "10.0.0.1", 1, 14, False, "handshake"),
        ("fd00::1", "fd00::2", 58, 128, True, "handshake"),
        ("fd00::1", "fd00::2", 58, 129, False, "handshake"),
        ("10.0.0.1", "10.0.0.2", 1, 3, True, "guess"),
    ],
)
def test_who_asked_is_told_by_the_kind_of_icmp(
    source: str, target: str, proto: int, kind: int, asked: bool, by: str
) -> None:
    wire = Wire()
    wire.add(src=source, dst=target, sport=kind, dport=0, proto=proto, data=b"ping")
    (told,) = rows_of(follow(wire))
    assert (told.orig, told.resp)[:: 1 if asked else -1] == (f"{source}:-1", f"{target}:-1")
    assert told.by == by


def test_an_echo_and_its_reply_are_one() -> None:
    wire = Wire()
    wire.add(src="10.0.0.2", dst="10.0.0.1", sport=8, dport=0, proto=1, data=b"ping")
    wire.add(src="10.0.0.1", dst="10.0.0.2", sport=0, dport=0, proto=1, data=b"ping")
    (told,) = rows_of(follow(wire))
    assert (told.orig, told.state, told.packets) == ("10.0.0.2:-1", "SF", (1, 1))


def test_tunnels_keep_the_same_addresses_apart() -> None:
    wire = Wire()
    for _ in range(3):
        datagram(wire, b"x")
    rows, buf = wire.packets()
    rows["tunnel"] = [0, TUNNEL_VXLAN, TUNNEL_VXLAN]
    rows["tunnel_id"] = [0, 7, 8]
    rows["outer"] = [-1, 0, -1]
    tracker = Tracker(Echo(), limits=SMALL)
    tracker.feed(rows, buf)
    table = table_of(tracker.finish())
    assert len(set(table.id.tolist())) == 3
    assert table.outer.tolist() == [-1, 0, -1]
    assert table.tunnel_id.tolist() == [0, 7, 8]


def test_packets_of_no_connection_are_counted_apart() -> None:
    wire = Wire()
    for _ in range(4):
        datagram(wire, b"x")
    rows, buf = wire.packets()
    rows["ip_version"][0] = 0
    rows["stop"][1] = STOP_FRAGMENT
    rows["stop"][2], rows["src_port"][2], rows["dst_port"][2] = STOP_TRUNCATED, 0, 0
    tracker = Tracker(Echo(), limits=SMALL)
    tracker.feed(rows, buf)
    part = tracker.finish()
    assert (len(part.rows), part.skipped) == (1, 3)


def test_nothing_gives_an_empty_table() -> None:
    assert len(follow(Wire())) == 0
    assert len(table_of(merge([], Echo()))) == 0
    assert len(in_parts(Wire(), [0])) == 0


# Who opened it


def test_who_answered_a_syn_is_known_to_listen() -> None:
    wire = Wire()
    Talk(wire, cport=40_001).answers(b"reply").says(b"ask")
    Talk(wire, cport=40_002).answers(b"reply")
    assert {told.orig for told in rows_of(follow(wire))} == {SERVER}  # whoever was seen first
    Talk(wire, cport=40_003, client="10.0.1.11").opens()
    told = rows_of(follow(wire))
    assert [(each.resp, each.by) for each in told] == [(SERVER, "listener"), (SERVER, "listener"), (SERVER, "syn")]
    assert [each.history for each in told] == ["^dD", "^d", "ShA"]


class ClientAt(Echo):
    """Finds the client's content at one side."""

    def __init__(self, side: int) -> None:
        self.side = side

    def examine(self, *given: Any) -> Any:
        said = super().examine(*given)
        said.client_side[:] = self.side
        return said


@pytest.mark.parametrize("side", [0, 1])
def test_content_decides_where_no_syn_was_seen(side: int) -> None:
    wire = Wire()
    Talk(wire).says(b"ask").answers(b"reply")
    Talk(wire, cport=40_001).opens().says(b"ask")
    tracker = Tracker(ClientAt(side), limits=SMALL)
    tracker.feed(*wire.packets())
    told = rows_of(table_of(tracker.finish()))
    assert (told[0].orig, told[0].by, told[0].history[0]) == ((CLIENT, SERVER)[side], "handshake", "^")
    assert (told[1].by, told[1].orig) == ("syn", "10.0.1.10:40001")


# The plain twin


def seen_by_kernels(wire: Wire) -> list[tuple[Any, ...]]:
    part = part_of(wire)
    table = table_of(part)
    missed = dict(zip(table.first_frame.tolist(), table.missed_bytes.tolist(), strict=True))
    out = []
    for i, row in enumerate(part.rows):
        facts = (part.facts[i] if i < len(part.facts) else None) or ((b"",), (b"",))
        sides = tuple(
            (int(s["pkts"]), int(s["ip_bytes"]), int(s["payload_bytes"]), bool(s["seen"] & RETRANSMITTED), head[0])
            for s, head in zip(row["side"], facts, strict=True)
        )
        out.append((int(row["first_frame"]), missed[int(row["first_frame"])], sides))
    return out


def seen_plainly(wire: Wire) -> list[tuple[Any, ...]]:
    return [
        (
            talk.first,
            sum(end.missed() for end in talk.ends) if talk.proto == 6 else 0,
            tuple((e.packets, e.ip_bytes, e.payload, e.again, e.first_bytes()) for e in talk.ends),
        )
        for talk in naive.follow(wire.sent)
    ]


@pytest.mark.parametrize("disorder_ms", [0, 5])
@given(seed=st.integers(0, 2**32))
def test_random_wires_are_followed_as_the_plain_twin_does(disorder_ms: int, seed: int) -> None:
    wire = make_wire(seed, disorder_ns=disorder_ms * 10**6)
    assert seen_by_kernels(wire) == seen_plainly(wire)


@pytest.mark.parametrize("strays", [0.0, 0.2])
@given(st.integers(0, 2**32))
def test_any_flags_and_numbers_are_followed_as_the_plain_twin_does(strays: float, seed: int) -> None:
    """Packets that no stack would send, between few ends."""
    rng = random.Random(seed)
    wire = Wire()
    numbers = (1_000, 1_001, 1_004, 1_010, 2**32 - 3, 90_000, 2**31)
    for _ in range(rng.randint(1, 40)):
        ends = rng.choice([("10.0.0.1", 5, "10.0.0.2", 6), ("10.0.0.2", 6, "10.0.0.1", 5)])
        data = bytes(rng.choices(b"abc", k=rng.choice((0, 0, 1, 4))))
        wire.add(
            src=ends[0], sport=ends[1], dst=ends[2], dport=ends[3], seq=rng.choice(numbers), ack=rng.choice(numbers),
            flags=rng.choice((ACK, ACK, PSH | ACK, SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, 0, FIN | SYN, 63)),
            data=data,
        )  # fmt: skip
        if rng.random() < strays:
            wire.sent[-1].ts_ns += rng.choice((YEARS_NS, -YEARS_NS))
        wire.now_ns += rng.choice((0, 0, 0, 8_000 * SECOND))

    def counted(seen: list[tuple[Any, ...]]) -> list[Any]:
        return [(first, [side[:3] for side in sides]) for first, _, sides in seen]

    assert counted(seen_by_kernels(wire)) == counted(seen_plainly(wire))
    rows = part_of(wire).rows
    times = [(talk.first_ns, talk.last_ns, talk.strays) for talk in naive.follow(wire.sent)]
    assert [tuple(int(row[name]) for name in ("first_ns", "last_ns", "strays")) for row in rows] == times


# Parts and the whole


def comparable(table: ConnectionTable, heads: Callable[[Any], Any] = lambda side: side) -> dict[str, Any]:
    """All columns; where a head is full, it was handed on before the other direction's end could be known."""
    facts: list[Any] = []
    for each in table.facts:
        if each is not None and any(len(side[0]) == HEAD_BYTES for side in each):
            each = tuple((*side[:2], None, *side[3:]) for side in each)  # noqa: PLW2901
        facts.append(each and tuple(map(heads, each)))
    out: dict[str, Any] = {"facts": facts}
    for column in dataclasses.fields(table):
        if column.name != "facts":
            value = getattr(table, column.name)
            out[column.name] = value.tolist() if isinstance(value, np.ndarray) else value
    return out


def cuts_of(wire: Wire, rng: random.Random) -> list[int]:
    return sorted({rng.randint(1, len(wire.sent) - 1) for _ in range(rng.randint(1, 3))}) if len(wire.sent) > 1 else []


@pytest.mark.parametrize("disorder_ms", [0, 5])
@given(seed=st.integers(0, 2**32))
def test_parts_make_exactly_the_table_of_the_whole(disorder_ms: int, seed: int) -> None:
    """Lost, doubled and disordered packets included; heads and their frames, ids and addresses, too."""
    wire = make_wire(seed, disorder_ns=disorder_ms * 10**6)
    assert comparable(in_parts(wire, cuts_of(wire, random.Random(seed)))) == comparable(follow(wire))


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_conversation_cut_anywhere_is_the_same(cut: int) -> None:
    wire = Wire()
    Talk(wire).opens().says(b"ask").answers(b"reply").closes()
    assert comparable(in_parts(wire, [cut])) == comparable(follow(wire))


@given(st.integers(0, 2**32), st.integers(1, 7))
def test_batches_of_any_size_give_the_same_table(seed: int, size: int) -> None:
    wire = make_wire(seed, disorder_ns=5_000_000)
    tracker = Tracker(Echo(), limits=SMALL)
    for begin in range(0, len(wire.sent), size):
        tracker.feed(*wire.packets(begin, begin + size))
    assert comparable(table_of(tracker.finish())) == comparable(follow(wire))


def test_silence_between_parts_ends_a_connection() -> None:
    for wait_s, count in ((7_000, 1), (8_000, 2)):
        wire = Wire()
        talk = Talk(wire).opens().says(b"ask")
        wire.now_ns += wait_s * SECOND
        talk.next_s += 2**20
        talk.answers(b"reply")
        assert len(in_parts(wire, [4])) == count == len(follow(wire))


@pytest.mark.parametrize("end", [Talk.opens, Talk.closes, Talk.aborts], ids=["open", "closed", "aborted"])
def test_a_connection_that_wakes_up_after_a_night_goes_on_where_it_stopped(end: Callable[[Talk], Talk]) -> None:
    """Keep-alive may be off. After an end the same numbers are another connection's."""
    wire = Wire()
    talk = Talk(wire).opens().says(b"ask").answers(b"reply")
    if end is not Talk.opens:
        end(talk)
    cut = len(wire.sent)
    wire.now_ns += 10 * 3_600 * SECOND
    talk.says(b"morning").answers(b"still here").closes()
    count = 1 if end is Talk.opens else 2
    for table in (follow(wire), in_parts(wire, [cut])):
        told = rows_of(table)
        assert len(told) == count
        if count == 1:
            assert told[0].heads == (b"askmorning", b"replystill here")
            assert (told[0].state, told[0].incomplete) == ("SF", ())


def test_a_day_of_keep_alives_is_one_connection_judged_by_its_beginning() -> None:
    wire = Wire(step_ns=0)
    talk = Talk(wire).opens().says(b"h" * 300).answers(b"s" * 300)
    for _ in range(24 * 60):
        wire.now_ns += 60 * SECOND
        talk.says(b"PING\r\n").answers(b"PONG\r\n")
    (told,) = rows_of(follow(wire))
    assert (told.state, told.incomplete, told.missed) == ("S1", (), 0)
    assert [head[:306] for head in told.heads] == [b"h" * 300 + b"PING\r\n", b"s" * 300 + b"PONG\r\n"]


def test_ports_in_use_again_in_a_later_part_are_another_connection() -> None:
    wire = Wire()
    Talk(wire).opens().says(b"old").closes()
    cut = len(wire.sent)
    Talk(wire, isn_c=7_777_777, isn_s=99_999_999).opens().says(b"new")
    assert [told.heads[0] for told in rows_of(in_parts(wire, [cut]))] == [b"old", b"new"]


def data_alone(side: tuple[Any, ...]) -> Any:
    return side[0]


SAME = ("id", "community_id", "conn_state", "missed_bytes", "application", "established", "incomplete", "closed_by")
SAME += ("first_ns", "direction_by", "orig_h", "resp_p", "orig_pkts", "resp_pkts", "resp_ip_bytes", "payload_bytes")


@given(wires())
def test_a_doubled_capture_has_the_same_connections(wire: Wire) -> None:
    double = Wire([packet for packet in wire.sent for _ in range(2)])
    once, twice = (comparable(follow(each)) for each in (wire, double))
    for each in (once, twice):  # the numbers of frames differ, of course
        each["facts"] = [each and tuple(side[:-1] for side in each) for each in each["facts"]]
    for column in (*SAME, "facts", "last_ns", "history"):
        assert once[column] == twice[column], column
    for which in ("orig", "resp"):
        counts = zip(once[f"{which}_pkts"], once[f"{which}_copies"], strict=True)
        assert twice[f"{which}_copies"] == [2 * copies + count for count, copies in counts]


def doubled(wire: Wire, rng: random.Random, share: float = 0.5, within_ms: int = 50) -> Wire:
    """Some packets come once more a moment later, and all come out of order by as much; time stamps tell the truth."""
    again = [packet for packet in wire.sent if rng.random() < share]
    moments = [packet.ts_ns + rng.randrange(within_ms * 10**6) for packet in again]
    copies = [dataclasses.replace(packet, ts_ns=ts_ns) for packet, ts_ns in zip(again, moments, strict=True)]
    sent = [*wire.sent, *copies]
    arrival = {id(packet): packet.ts_ns + rng.randrange(within_ms * 10**6) for packet in sent}
    return Wire(sorted(sent, key=lambda packet: arrival[id(packet)]))


@given(st.integers(0, 2**32))
def test_doubled_and_shuffled_packets_make_the_same_connections(seed: int) -> None:
    """Each with its own ports: which of two connections a late packet belongs to is not asked here."""
    wire = make_wire(seed, disorder_ns=1)
    once = comparable(follow(wire), data_alone)
    assume(len(set(once["community_id"])) == len(once["id"]))
    twice = comparable(follow(doubled(wire, random.Random(seed))), data_alone)
    by_id = sorted(range(len(once["id"])), key=lambda k: once["id"][k])
    other = sorted(range(len(twice["id"])), key=lambda k: twice["id"][k])
    for column in (*SAME, "facts"):
        assert [once[column][k] for k in by_id] == [twice[column][k] for k in other], column


@given(seed=st.integers(0, 2**32))
def test_doubles_across_parts_are_counted_once(seed: int) -> None:
    rng = random.Random(seed)
    wire = doubled(make_wire(seed, disorder_ns=1), rng)
    assume(len(set(follow(wire).community_id.tolist())) == len(follow(wire)))
    assert comparable(in_parts(wire, cuts_of(wire, rng)), data_alone) == comparable(follow(wire), data_alone)


@given(seed=st.integers(0, 2**32))
def test_doubled_wires_are_followed_as_the_plain_twin_does(seed: int) -> None:
    wire = doubled(make_wire(seed, disorder_ns=1), random.Random(seed), within_ms=6)
    assert seen_by_kernels(wire) == seen_plainly(wire)


def test_what_is_sent_again_is_no_double() -> None:
    """Another identification, however soon; nothing to tell by, and late."""
    for more, copies in (({}, 0), ({"ident": 0}, 1), ({"ident": 0, "wait": 200}, 0), ({"ident": 7, "wait": 200}, 1)):
        wire = Wire()
        wait = more.pop("wait", 0)
        talk = Talk(wire).opens()
        talk._c(PSH | ACK, b"ask", **more)
        wire.now_ns += wait * 10**6
        talk.next_c -= 3
        talk._c(PSH | ACK, b"ask", **more)
        table = follow(wire)
        assert (table.orig_copies.tolist(), table.orig_pkts.tolist()) == ([copies], [4 - copies])
        assert table.history.tolist() == [b"ShAD" if copies else b"ShADT"]


def test_datagrams_with_other_content_are_no_doubles() -> None:
    wire = Wire()
    for text in (b"ask", b"ask", b"asx"):
        wire.add(src="10.0.0.1", sport=5, dst="10.0.0.2", dport=53, proto=17, data=text, ident=0)
    assert (follow(wire).orig_pkts.tolist(), follow(wire).orig_copies.tolist()) == ([2], [1])


@pytest.mark.parametrize("skew_ms", [-20_000, -300, 0, 7, 5_000])
def test_clocks_of_two_places_are_compared(skew_ms: int) -> None:
    """The way takes two milliseconds; clocks that are further apart than the captures are long hinder nothing."""
    wire = Wire(step_ns=20_000_000)
    for k in range(4):
        Talk(wire, cport=40_000 + k, isn_c=1_000 + (k << 20)).opens().says(b"ask").answers(b"reply").closes()
    way = 2 * 10**6
    brain = [
        dataclasses.replace(each, ts_ns=each.ts_ns + skew_ms * 10**6 + (way if each.src == "10.0.1.10" else -way))
        for each in wire.sent
    ]
    parts = [part_of(each, capture=k, alone=False) for k, each in enumerate((wire, Wire(brain)))]
    whole = merge(parts, Echo())
    view = whole.views[1]
    assert (view.against, view.ahead_ns, view.delay_ns) == (0, skew_ms * 10**6, way)
    assert view.shared == len(wire.sent)
    table, once = table_of(whole), follow(wire)
    for column in ("id", "orig_pkts", "resp_pkts", "payload_bytes", "conn_state"):
        assert getattr(table, column).tolist() == getattr(once, column).tolist(), column
    assert (abs(table.first_ns - once.first_ns) <= way).all()
    assert table.captures.tolist() == [3] * 4
    assert whole.places == ((0, 0), (1, 0))


def test_what_each_place_saw_is_kept() -> None:
    wire = Wire(step_ns=50_000_000)
    Talk(wire).opens().says(b"ask").answers(b"reply").closes()
    far = Wire([each for k, each in enumerate(wire.sent) if k not in (3, 6)])
    parts = [part_of(each, capture=k, alone=False) for k, each in enumerate((wire, far))]
    whole = merge(parts, Echo())
    told = [
        (int(each["row"]), int(each["places"]), each["pkts"].tolist(), int(each["missed"])) for each in whole.sights
    ]
    assert told == [(0, 1, [5, 3], 0), (0, 2, [4, 2], len(b"ask") + 1)]
    assert rows_of(table_of(whole))[0].packets == (5, 3)


def test_interfaces_of_one_capture_are_places_of_their_own() -> None:
    wire = Wire()
    Talk(wire).opens().says(b"ask")
    Talk(wire, cport=40_001).opens()
    wire.sent = [dataclasses.replace(each, interface=2) for each in wire.sent]
    wire.sent += [dataclasses.replace(each, interface=5, ts_ns=each.ts_ns + 1_000) for each in wire.sent[:4]]
    part = part_of(wire)
    assert part.places == ((0, 2), (0, 5))
    assert table_of(part).captures.tolist() == [3, 1]
    assert table_of(part).orig_copies.tolist() == [3, 0]
    assert (part.views[0].doubled, part.views[0].apart_ns) == (4, 1_000)


def slow(wire: Wire) -> Wire:
    """The same packets over so long a time that two captures of them are known to be taken together."""
    first = min((packet.ts_ns for packet in wire.sent), default=0)
    sent = [dataclasses.replace(packet, ts_ns=first + (packet.ts_ns - first) * 100) for packet in wire.sent]
    return Wire(sent)


@given(st.integers(0, 2**32), st.integers(-3, 3))
def test_a_capture_from_two_places_is_counted_once(seed: int, skew_ms: int) -> None:
    wire = slow(make_wire(seed))
    if len(wire.sent) < 10:
        return
    elsewhere = Wire([dataclasses.replace(each, ts_ns=each.ts_ns + skew_ms * 10**6) for each in wire.sent])
    one, both = follow(wire), from_places(wire, elsewhere)
    assert both.captures.tolist() == [3] * len(both)
    here, there = comparable(one, data_alone), comparable(both, data_alone)
    for column in ("orig_pkts", "resp_pkts", "orig_ip_bytes", "payload_bytes", "missed_bytes", "conn_state", "facts"):
        assert sorted(map(str, here[column])) == sorted(map(str, there[column])), column
    if skew_ms >= 0:
        assert sorted(here["history"]) == sorted(there["history"])
        assert sorted(here["id"]) == sorted(there["id"])


def test_ids_are_the_same_from_either_place_where_a_syn_was_seen() -> None:
    wire = Wire(step_ns=50_000_000)
    for k in range(3):  # the same ports, three times
        talk = Talk(wire, isn_c=10_000_000 * (k + 1), isn_s=2**31 + 10_000_000 * k)
        talk.opens().says(b"ask%d" % k).answers(b"reply").closes()
    whole = follow(wire)
    places = [Wire([each for k, each in enumerate(wire.sent) if k % 8 != lost]) for lost in (3, 5)]
    for place in places:
        assert follow(place).id.tolist() == whole.id.tolist()
    both = from_places(*places)
    assert both.id.tolist() == whole.id.tolist()
    assert both.missed_bytes.tolist() == [0, 0, 0]
    assert both.captures.tolist() == [3, 3, 3]
    # The first place lacks what was asked, the second place has it.
    assert [told.heads for told in rows_of(both)] == [(b"ask%d" % k, b"reply") for k in range(3)]
    assert (both.first_frame >> FRAME_BITS).tolist() == [0, 0, 0]


def test_a_connection_that_only_one_place_saw_keeps_its_bit() -> None:
    shared, far = Wire(step_ns=100_000_000), Wire(step_ns=100_000_000)
    for wire in (shared, far):
        Talk(wire).opens().says(b"ask").closes()
    Talk(far, cport=40_001).opens()
    assert from_places(shared, far).captures.tolist() == [3, 2]


# Room


def sessions(count: int) -> Wire:
    """Connections that all speak, and then all speak again."""
    wire = Wire()
    talks = [Talk(wire, cport=40_000 + k).opens().says(b"first %d " % k) for k in range(count)]
    for talk in talks:
        talk.answers(b"yes").says(b"second").closes()
    return wire


@pytest.mark.parametrize("slots", [1, 2, 3, 8])
def test_with_few_heads_the_oldest_are_given_up_and_say_so(slots: int) -> None:
    wire = sessions(12)
    part = part_of(wire, limits=TrackLimits(head_slots=slots))
    told = rows_of(table_of(part))
    whole = rows_of(follow(wire))
    assert part.evicted > 0
    assert (part.rows["state"] & ROW_RELEASED != 0).sum() > 0
    assert all(a.heads[0] == b.heads[0][: len(a.heads[0])] for a, b in zip(told, whole, strict=True))
    assert [each.packets for each in told] == [each.packets for each in whole]
    short = [each for each, full in zip(told, whole, strict=True) if each.heads != full.heads]
    assert short
    assert all("limit" in each.incomplete for each in short)
    assert not any("limit" in each.incomplete for each in whole)


@given(st.integers(0, 2**32), st.sampled_from([0, 5_000_000]))
def test_the_short_way_through_settled_streams_gives_what_the_long_way_gives(seed: int, disorder_ns: int) -> None:
    """A part that keeps its first packets, for others to compare with, takes the long way for each of them."""
    wire = make_wire(seed, loss=0.01, duplicates=0.02, disorder_ns=disorder_ns, talks=3, long=True)
    short, long = (Tracker(Echo(), limits=SMALL, alone=alone) for alone in (True, False))
    for tracker in (short, long):
        tracker.feed(*wire.packets())
    for name in set(CONN.names or ()) - {"application", "client_side"}:
        assert short.rows[name].tobytes() == long.rows[name].tobytes(), name


@given(wires())
def test_small_tables_grow_and_full_queues_are_emptied(wire: Wire) -> None:
    """A closed connection that makes room for another is handed on early: that something came behind a gap afterwards is not known then."""
    expected = comparable(follow(wire), _but_its_gap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conntrack, "FIRST_ROWS", 2)
        patch.setattr(conntrack, "QUEUE_ROWS", 4)
        patch.setattr(conntrack, "LINGER_ROWS", 2)
        assert comparable(follow(wire), _but_its_gap) == expected


def _but_its_gap(side: Any) -> Any:
    return (side[0], *side[2:])


def test_many_connections_over_all_limits() -> None:
    wire = Wire(step_ns=100_000)
    for k in range(3_000):
        Talk(wire, client=f"10.1.{k % 200}.7", cport=1_024 + k, isn_c=k).opens().says(b"%d" % k).aborts()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conntrack, "FIRST_ROWS", 64)
        patch.setattr(conntrack, "QUEUE_ROWS", 32)
        part = part_of(wire, limits=TrackLimits(head_slots=6_000, linger_s=0.01))
    assert part.evicted == 0
    assert [told.heads[0] for told in rows_of(table_of(part))] == [b"%d" % k for k in range(3_000)]


def test_a_full_head_gives_its_room_back() -> None:
    """Where room is needed: until then the other end may still answer."""
    wire = Wire()
    for k in range(8):
        Talk(wire, cport=40_000 + k).opens().answers(b"hello").says(b"x" * (TrackLimits().beyond_bytes + 3_000))
    part = part_of(wire, limits=TrackLimits(head_slots=2))
    assert [told.heads for told in rows_of(table_of(part))] == [(b"x" * HEAD_BYTES, b"hello")] * 8
    assert part.hits["first_bytes"] == 0
    assert not (table_of(part).incomplete & 1 << INCOMPLETE.index("limit")).any()


@pytest.mark.parametrize("size", [HEAD_BYTES + 1, 62_000, 500_000])
def test_an_answer_after_a_long_upload_is_kept(size: int) -> None:
    wire = Wire()
    for k in range(3):
        Talk(wire, cport=40_000 + k).opens().answers(b"220 ready").says(b"x" * size).answers(b"226 done").closes()
    part = part_of(wire)
    assert [told.heads[1] for told in rows_of(table_of(part))] == [b"220 ready226 done"] * 3
    assert not (table_of(part).incomplete & 1 << INCOMPLETE.index("limit")).any()


def test_an_answer_for_which_there_was_no_room_left_is_a_limit_of_ours() -> None:
    wire = Wire()
    talks = [Talk(wire, cport=40_000 + k).opens().answers(b"220 ready") for k in range(4)]
    for talk in talks:
        talk.says(b"x" * 40_000)
    for talk in talks:
        talk.answers(b"226 done").closes()
    part = part_of(wire, limits=TrackLimits(head_slots=2))
    table = table_of(part)
    assert part.hits["first_bytes"] > 0
    assert (table.incomplete & 1 << INCOMPLETE.index("limit") != 0).sum() == part.hits["first_bytes"]


def test_connections_that_spoke_both_ways_make_room_without_being_cut_short() -> None:
    """Requests and answers go on for ever: what came at first says what there is to say."""
    wire = Wire()
    talks = [Talk(wire, cport=40_000 + k).opens().says(b"GET /") for k in range(6)]
    for talk in talks:
        talk.answers(b"x" * 40_000).says(b"GET /")
    for k in range(6):
        Talk(wire, cport=50_000 + k).opens().says(b"hello").answers(b"hello")
    for talk in talks:
        talk.answers(b"y" * 1_000).says(b"GET /").closes()
    part = part_of(wire, limits=TrackLimits(head_slots=12))
    assert (part.rows["side"]["seen"] & HEAD_CUT != 0).any()
    assert (part.evicted, part.hits["first_bytes"]) == (0, 0)


def test_late_segments_still_fill_a_head_that_the_stream_has_left_behind() -> None:
    wire = Wire()
    talk = Talk(wire).opens().answers(b"hello").says(b"x" * (HEAD_BYTES + 9_000))
    late = wire.sent.pop(6)
    wire.sent.insert(12, late)
    (told,) = rows_of(follow(wire))
    assert len(told.heads[0]) == HEAD_BYTES
    assert talk.next_c - talk.isn_c - 1 == HEAD_BYTES + 9_000
