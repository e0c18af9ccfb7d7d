"""The two sides of a NAT: what is taken for one connection, how far the packets prove it, and that both are listed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import auditor
from auditor.kernels import tcpstate
from auditor.nat import AHEAD_SEGMENTS, BEHIND_BYTES, STEP_BYTES, Reading, _Comparison, _Flow, _Walk
from tests.adversary.talk import ACK, CLIENT, PSH, SERVER, Talk
from tests.adversary.test_copies import INVENTORY
from tests.adversary.test_excuses import OUTSIDE, audited, later, rules, verdicts
from tests.adversary.test_segments import DATABASE, GREETING, MYSQL, OK, login, mysql_packet
from tests.doubling import ETHERNET, Frame, write

LONG = random.Random(17).randbytes(40_000)


def query(text: bytes, client: str = DATABASE) -> Talk:
    """A login, and a statement far longer than what is kept of a stream's first bytes."""
    talk = Talk(client, MYSQL, 3306).opens().says(SERVER, GREETING).says(CLIENT, login(b"s" * 20)).says(SERVER, OK)
    for start in range(0, len(text), 14_000):
        talk.says(CLIENT, mysql_packet(0, b"\x03" + text[start : start + 14_000])).says(SERVER, OK)
    return talk.closes()


def both(folder: Path, *frames: Frame) -> auditor.Report:
    return audited(folder, *frames)


def test_equal_streams_are_one_connection_and_both_are_listed(tmp_path: Path) -> None:
    report = both(tmp_path, *query(LONG).frames, *later(query(LONG, OUTSIDE)))
    assert sorted(verdicts(report)) == [("documented", "verified"), ("out_of_scope", "not_applicable")]
    assert rules(report) == set()
    kept, other = (
        report.connections[report.connections["disposition"] == each].iloc[0] for each in ("documented", "out_of_scope")
    )
    assert (kept["translated"]["connection"], other["translated"]["connection"]) == (other["id"], kept["id"])
    assert (kept["translated"]["judged"], other["translated"]["judged"]) == (True, False)
    assert kept["translated"]["originator"] == {"ip": OUTSIDE, "port": 40_000}
    assert other["translated"]["originator"] == {"ip": DATABASE, "port": 40_000}
    assert kept["translated"]["whole"]
    assert kept["translated"]["compared_bytes"][0] > 40_000
    assert report.audit.summary["sufficiency"]["complete"]
    assert report.coverage["connections"].max() == 1


@pytest.mark.parametrize("at", [9_000, 30_000, 39_999])
def test_one_byte_behind_what_is_kept_makes_them_two(at: int, tmp_path: Path) -> None:
    changed = LONG[:at] + bytes([LONG[at] ^ 1]) + LONG[at + 1 :]
    report = both(tmp_path, *query(LONG).frames, *later(query(changed, OUTSIDE)))
    assert sorted(verdicts(report)) == [("documented", "verified"), ("undeclared", "not_applicable")]
    assert "unknown-host" in rules(report)


def test_what_is_sent_again_and_out_of_order_is_the_same_stream(tmp_path: Path) -> None:
    frames = query(LONG, OUTSIDE).frames
    moved = [
        (now + 900 + 3_000_000 * (k % 3 == 0 and k > 8), frame, size) for k, (now, frame, size) in enumerate(frames)
    ]
    again = [(now + 7_000_000, frame[:18] + b"\x77\x77" + frame[20:], size) for now, frame, size in frames[20:30]]
    report = both(tmp_path, *query(LONG).frames, *moved, *again)
    assert sorted(verdicts(report))[0] == ("documented", "verified")
    assert report.connections["translated"].iloc[0]["whole"]


def test_a_lost_segment_is_said_and_makes_the_audit_incomplete(tmp_path: Path) -> None:
    frames = later(query(LONG, OUTSIDE))
    longest = [k for k, (_, frame, _) in enumerate(frames) if len(frame) > 1_000]
    report = both(tmp_path, *query(LONG).frames, *(frames[: longest[20]] + frames[longest[20] + 1 :]))
    translated = report.connections["translated"].iloc[0]
    assert not translated["whole"]
    assert 0 < translated["compared_bytes"][0] < 40_000
    assert report.audit.summary["sufficiency"]["reasons"]["translated_not_compared"] == 1
    assert not report.audit.summary["sufficiency"]["complete"]


def test_forged_segments_before_the_real_ones_do_not_make_them_one(tmp_path: Path) -> None:
    """The honest bytes with a wrong checksum, and then what the server takes."""
    talk = Talk(OUTSIDE, MYSQL, 3306).opens().says(SERVER, GREETING).says(CLIENT, login(b"s" * 20)).says(SERVER, OK)
    for start in range(0, len(LONG), 14_000):
        told = mysql_packet(0, b"\x03" + LONG[start : start + 14_000])
        for at in range(0, len(told), 1_400):
            piece = told[at : at + 1_400]
            if start == 28_000:
                talk.packet(CLIENT, PSH | ACK, piece, right=False)
            talk.packet(CLIENT, PSH | ACK, piece if start < 28_000 else b"X" * len(piece))
            talk.seq[CLIENT] += len(piece)
        talk.packet(SERVER, ACK)
        talk.says(SERVER, OK)
    report = both(tmp_path, *query(LONG).frames, *later(talk.closes()))
    assert "unknown-host" in rules(report)


@pytest.mark.parametrize(("text", "whole"), [(b"short", True), (LONG, False)])
def test_what_cannot_be_read_twice_is_compared_as_far_as_it_is_kept(text: bytes, whole: bool, tmp_path: Path) -> None:
    frames = sorted([*query(text).frames, *later(query(text, OUTSIDE))])
    with write(tmp_path / "talk.pcap", ETHERNET, frames).open("rb") as stream:
        report = auditor.audit([stream], inventory=[INVENTORY], policy="tas")
    assert len(report.connections) == 2
    assert {each["whole"] for each in report.connections["translated"]} == {whole}
    assert report.audit.summary["sufficiency"]["complete"] is whole


def test_a_stream_that_goes_on_in_the_next_file_is_compared_to_its_end(tmp_path: Path) -> None:
    frames = sorted([*query(LONG).frames, *later(query(LONG, OUTSIDE))])
    half = len(frames) // 2
    paths = [
        str(write(tmp_path / name, ETHERNET, some))
        for name, some in (("b.pcap", frames[:half]), ("a.pcap", frames[half:]))
    ]
    report = auditor.audit(paths[::-1], inventory=[INVENTORY], policy="tas")
    assert [each["whole"] for each in report.connections["translated"]] == [True, True]


def walked(*pieces: tuple[int, bytes]) -> _Walk:
    walk = _Walk(b"k" * 32)
    for at, data in pieces:
        walk.take(at, data)
    return walk


def test_the_digest_is_of_bytes_not_of_segments() -> None:
    text = random.Random(1).randbytes(3 * STEP_BYTES + 5)
    whole = walked((0, text))
    pieces = [(at, text[at : at + 700]) for at in range(0, len(text), 600)]
    random.Random(2).shuffle(pieces)
    assert walked(*pieces).agrees(whole) == len(text)
    assert walked((0, text[:-3])).agrees(whole) == 3 * STEP_BYTES
    assert walked((0, text[:-1]), (len(text) - 1, b"?")).agrees(whole) is None
    assert walked((0, text), (50, b"??")).agrees(whole) is None
    assert walked((9, b"ab"), (9, b"ax")).agrees(walked()) is None
    assert walked((0, text), (len(text) - 1, b"?")).agrees(whole) == len(text), "a probe of keep-alive"


def test_what_is_held_is_bounded() -> None:
    walk = walked(*((2 * k + 1, b"x") for k in range(AHEAD_SEGMENTS + 9)))
    assert walk.stopped
    walk = walked((0, bytes(8 * BEHIND_BYTES)), (5, b"abcdefgh"))
    assert walk.stopped, "longer ago than anything that is kept"
    assert len(walk._kept) <= 2 * BEHIND_BYTES


PACKET = np.dtype([("flags", "u1"), ("seq", "u4"), ("payload_bytes", "i4"), ("payload_at", "i8")])


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 90)), min_size=1, max_size=60),
    st.sampled_from([0, 2**32 - 40]),
)
def test_packets_taken_together_say_what_they_say_one_by_one(steps: list[tuple[int, int]], isn: int) -> None:
    """Segments in order, sent again, lost or probes of keep-alive, which hold a byte of no meaning."""
    rows, text, at = [(tcpstate.SYN, isn, 0, 0)], bytearray(), 0
    for kind, size in steps:
        place = max(at - size, 0) if kind == 1 else at + size if kind == 2 else max(at - 1, 0)
        begin, data = (place, b"?") if kind == 3 else (at if kind == 0 else place, LONG[place : place + size])
        data = LONG[at : at + size] if kind == 0 else data
        rows.append((tcpstate.ACK, (isn + 1 + begin) % 2**32, len(data), len(text)))
        text += data
        at += size if kind == 0 else 0
    walks = []
    for most in (1, 32):
        compared = _Comparison(np.zeros(0), [], Reading())
        compared._key = b"k" * 32
        flow = _Flow(0, 0, (isn + 1) % 2**32)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("auditor.nat._RUN_PACKETS", most)
            compared._follow(0, flow, np.array(rows, PACKET), memoryview(bytes(text)))
        [walk] = flow.walks
        walks.append((walk.next, walk.differs, walk.stopped, walk._hash and walk._hash.digest()))
    assert walks[0] == walks[1]
