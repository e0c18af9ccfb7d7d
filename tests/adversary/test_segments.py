"""Attempts with TCP segments: what somebody sends so that the capture shows another talk than the receiver had.

Each test is one attempt, and its outcome: what the auditor says. ``forged`` packets are what no receiver takes, or what one may take and another not.
"""

from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import pytest

import auditor
from auditor.jobs.exit_criteria import incomplete
from tests.adversary.talk import ACK, CLIENT, FIN, PSH, RST, SERVER, SYN, Talk
from tests.conftest import ROOT
from tests.doubling import ETHERNET, frames_of, write

RULES = ROOT / "captures" / "rules"
CELL, DATABASE, MYSQL = "10.0.4.20", "10.0.4.40", "10.0.4.70"
PLAIN = b"GET /v1/actual_lrps/list HTTP/1.1\r\nHost: bbs\r\n\r\n"
SERVED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n" + b"x" * 90


def said(talk: Talk, folder: Path) -> tuple[str, str | None, dict[str, str]]:
    """Verdict, what is missing, and severities by rule."""
    report = auditor.audit([talk.write(folder)], inventory=[str(RULES / "inventory.yml")], policy="tas-diego")
    assert len(report.connections) == 1
    one = report.audit.connections.iloc[0]
    rules = dict(zip(report.findings["rule"], report.findings["severity"], strict=True))
    missing = one["authentication_missing"]
    return one["authentication_verdict"], missing if isinstance(missing, str) else None, rules


def mysql_packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload


GREETING = mysql_packet(
    0,
    b"\x0a8.0.36\0" + struct.pack("<I", 7) + b"abcdefgh\0" + struct.pack("<HBHH", 0xA209, 255, 2, 8)
    + bytes([21]) + bytes(10) + b"ijklmnopqrst\0mysql_native_password\0",
)  # fmt: skip
OK = mysql_packet(2, b"\0\0\0\x02\0\0\0")


def login(answer: bytes) -> bytes:
    """A login of MySQL with this answer to the salt; empty: an account without a password."""
    payload = struct.pack("<IIB", 0x0008_A209, 1 << 24, 255) + bytes(23)
    return mysql_packet(1, payload + b"diego\0" + bytes([len(answer)]) + answer + b"diego\0mysql_native_password\0")


def to_mysql(**more: Any) -> Talk:
    return Talk(DATABASE, MYSQL, 3306, **more).opens().says(SERVER, GREETING)


def to_bbs(**more: Any) -> Talk:
    return Talk(CELL, DATABASE, 8889, **more).opens()


def mutual() -> list[tuple[int, bytes]]:
    """A mutual TLS 1.2 dialogue at the BBS, from a capture."""
    chunks: list[tuple[int, bytes]] = []
    for _, frame, _ in frames_of(RULES / "capture-incomplete" / "quiet.pcap")[1]:
        data = frame[14 + 20 + (frame[46] >> 4) * 4 : 14 + int.from_bytes(frame[16:18], "big")]
        if data:
            chunks.append((CLIENT if frame[36:38] == b"\x22\xb9" else SERVER, data))
    return chunks


# What honest ends do is nothing to speak of


@pytest.mark.parametrize("offload", [(False, False), (True, False), (False, True), (True, True)])
def test_checksums_left_to_a_card_are_no_fault(offload: tuple[bool, bool], tmp_path: Path) -> None:
    talk = to_bbs(offload=offload).holds(mutual()).closes()
    assert said(talk, tmp_path) == ("verified", None, {})


def test_segments_that_a_card_put_together_keep_no_sum_and_contradict_nothing(tmp_path: Path) -> None:
    """LRO leaves the sum of the first one; the short ones of that end are right."""
    talk = to_bbs()
    for who, group in itertools.groupby(mutual(), key=lambda each: each[0]):
        data = b"".join(each for _, each in group)
        if len(data) <= 1_460:
            talk.says(who, data)
            continue
        talk.packet(who, PSH | ACK, data, right=False)
        talk.seq[who] += len(data)
        talk.packet(1 - who, ACK)
    assert any(length > 1_500 for _, _, length in talk.frames)
    assert said(talk.closes(), tmp_path) == ("verified", None, {})


def test_a_retransmission_that_says_the_same_contradicts_nothing(tmp_path: Path) -> None:
    talk = to_mysql()
    talk.packet(CLIENT, PSH | ACK, login(b"s" * 20)[:30])
    talk.packet(CLIENT, PSH | ACK, login(b"s" * 20), after_ms=300)
    talk.seq[CLIENT] += len(login(b"s" * 20))
    talk.says(SERVER, OK).closes()
    assert said(talk, tmp_path) == ("verified", None, {})


def test_a_probe_of_keep_alive_with_a_byte_of_garbage_contradicts_nothing(tmp_path: Path) -> None:
    talk = to_mysql().says(CLIENT, login(b"s" * 20)).says(SERVER, OK)
    talk.packet(CLIENT, ACK, b"\0", at=-1, after_ms=5_000).packet(SERVER, ACK).closes()
    assert said(talk, tmp_path) == ("verified", None, {})


# Attempts


def test_a_login_with_a_wrong_checksum_is_not_the_login(tmp_path: Path) -> None:
    talk = to_mysql().packet(CLIENT, PSH | ACK, login(b"s" * 20), right=False)
    talk.says(CLIENT, login(b"")).says(SERVER, OK).closes()
    verdict, _, rules = said(talk, tmp_path)
    assert (verdict, rules) == ("violated", {"missing-credentials": "critical", "conflicting-content": "info"})


def test_a_login_with_a_wrong_checksum_and_the_numbers_of_a_copy_is_not_the_login(tmp_path: Path) -> None:
    """The real one has the same length and IP identification: it is not a copy of the forged one, whose bytes are others."""
    talk = to_mysql().packet(CLIENT, PSH | ACK, login(b"s" * 20), right=False, ident=7)
    real = login(b"") + mysql_packet(0, b"\x03SELECT 1")[:20]
    real = real.ljust(len(login(b"s" * 20)), b"\0")
    talk.packet(CLIENT, PSH | ACK, real, ident=7)
    talk.seq[CLIENT] += len(real)
    talk.says(SERVER, OK).closes()
    verdict, _, rules = said(talk, tmp_path)
    assert (verdict, rules["missing-credentials"]) == ("violated", "critical")


@pytest.mark.parametrize("ttl", [1, 64])
def test_two_logins_for_one_place_leave_the_verdict_open(ttl: int, tmp_path: Path) -> None:
    """Sent before the real one at its sequence number, so that it dies on the way, or the receiver takes the other."""
    talk = to_mysql().packet(CLIENT, PSH | ACK, login(b"s" * 20), ttl=ttl)
    talk.says(CLIENT, login(b"")).says(SERVER, OK).closes()
    verdict, missing, rules = said(talk, tmp_path)
    assert (verdict, missing, rules["conflicting-content"]) == ("unverifiable", "conflict", "high")


def test_two_logins_that_are_alike_in_what_counts_stand(tmp_path: Path) -> None:
    talk = to_mysql().packet(CLIENT, PSH | ACK, login(b"t" * 20))
    talk.says(CLIENT, login(b"s" * 20)).says(SERVER, OK).closes()
    assert said(talk, tmp_path) == ("verified", None, {"conflicting-content": "info"})


def test_what_was_acknowledged_does_not_change(tmp_path: Path) -> None:
    """A better login sent behind the one that the server took: no receiver replaces what it has acknowledged."""
    talk = to_mysql().says(CLIENT, login(b""))
    talk.packet(CLIENT, PSH | ACK, login(b"s" * 20)[: len(login(b""))], at=-len(login(b"")))
    talk.says(SERVER, OK).closes()
    verdict, _, rules = said(talk, tmp_path)
    assert (verdict, rules) == ("violated", {"missing-credentials": "critical", "conflicting-content": "info"})


def test_a_whole_dialogue_with_wrong_checksums_before_plaintext(tmp_path: Path) -> None:
    talk = to_bbs()
    begun = list(talk.seq)
    for who, data in mutual():
        talk.packet(who, PSH | ACK, data[:1_400], right=False)
        talk.seq[who] += len(data[:1_400])
        talk.packet(1 - who, ACK)
    talk.seq = begun
    talk.says(CLIENT, PLAIN).says(SERVER, SERVED).closes()
    verdict, _, rules = said(talk, tmp_path)
    assert (verdict, rules["plaintext"], rules["conflicting-content"]) == ("violated", "critical", "info")


def test_urgent_bytes_are_not_in_the_stream(tmp_path: Path) -> None:
    """A client without a certificate sends an old one as urgent bytes, which the server never reads: what is claimed of it is nothing."""
    talk = to_bbs()
    for place, (who, data) in enumerate(mutual()):
        urgent = data[:60] if place == 2 else b""
        for byte in urgent:
            talk.says(who, bytes([byte]), acked=False, urgent=1)
        talk.says(who, data[len(urgent) :])
    verdict, missing, rules = said(talk.closes(), tmp_path)
    assert (verdict, missing, rules["conflicting-content"]) == ("unverifiable", "conflict", "high")


def test_an_urgent_byte_hides_no_plaintext(tmp_path: Path) -> None:
    talk = to_bbs().says(CLIENT, PLAIN[:3], acked=False)
    talk.says(CLIENT, b"X", acked=False, urgent=1).says(CLIENT, PLAIN[3:]).says(SERVER, SERVED).closes()
    verdict, _, rules = said(talk, tmp_path)
    assert verdict in ("violated", "unverifiable")
    assert "conflicting-content" in rules


def test_bytes_in_a_syn_that_nobody_took_are_no_request(tmp_path: Path) -> None:
    talk = Talk(CELL, DATABASE, 8889).opens(mutual()[0][1], taken=False)
    talk.says(CLIENT, PLAIN).says(SERVER, SERVED).closes()
    verdict, _, rules = said(talk, tmp_path)
    assert (verdict, rules["plaintext"], rules["conflicting-content"]) == ("violated", "critical", "info")


def test_bytes_in_a_syn_that_were_taken_are_a_request(tmp_path: Path) -> None:
    """TCP Fast Open, RFC 7413."""
    talk = Talk(CELL, DATABASE, 8889).opens(PLAIN).says(SERVER, SERVED).closes()
    verdict, _, rules = said(talk, tmp_path)
    assert (verdict, rules) == ("violated", {"plaintext": "critical"})


@pytest.mark.parametrize("forged", [{"at": 1 << 24}, {"at": -(1 << 20)}, {"ttl": 1}, {"right": False}, {"at": 3}])
def test_a_forged_reset_refuses_nothing(forged: dict[str, Any], tmp_path: Path) -> None:
    """Outside the window, with too few hops, with a wrong checksum; or inside the window, and the talk goes on."""
    talk = to_bbs().says(SERVER, b"").says(CLIENT, PLAIN)
    talk.says(SERVER, SERVED[:40]).packet(SERVER, RST, **forged).says(SERVER, SERVED[40:]).closes()
    verdict, _, rules = said(talk, tmp_path)
    assert (verdict, rules["plaintext"]) == ("violated", "critical")
    assert rules["conflicting-content"] == "info"


def test_a_reset_that_was_taken_refuses(tmp_path: Path) -> None:
    talk = to_bbs().says(CLIENT, PLAIN).packet(SERVER, RST | ACK)
    verdict, _, rules = said(talk, tmp_path)
    assert (verdict, "conflicting-content" in rules) == ("rejected", False)


@pytest.mark.parametrize("forged", [{"at": 1 << 24}, {"at": 0}, {"right": False}])
def test_a_forged_fin_ends_no_stream(forged: dict[str, Any], tmp_path: Path) -> None:
    talk = to_bbs().says(CLIENT, PLAIN).says(SERVER, SERVED[:40])
    talk.packet(SERVER, FIN | ACK, **forged).says(SERVER, SERVED[40:]).closes()
    verdict, _, rules = said(talk, tmp_path)
    assert (verdict, rules["plaintext"]) == ("violated", "critical")
    assert rules["conflicting-content"] == "info"


def test_a_forged_acknowledgement_makes_no_gap(tmp_path: Path) -> None:
    """Bytes that were never sent are not missing."""
    talk = to_bbs().says(CLIENT, PLAIN).packet(CLIENT, ACK, acks=70_000)
    talk.says(SERVER, SERVED).closes()
    verdict, _, rules = said(talk, tmp_path)
    assert (verdict, rules) == ("violated", {"plaintext": "critical", "conflicting-content": "info"})


def test_a_segment_without_ack_is_not_in_the_stream(tmp_path: Path) -> None:
    talk = to_bbs().packet(CLIENT, PSH, mutual()[0][1])
    talk.says(CLIENT, PLAIN).says(SERVER, SERVED).closes()
    verdict, _, rules = said(talk, tmp_path)
    assert (verdict, rules) == ("violated", {"plaintext": "critical", "conflicting-content": "info"})


def test_a_forged_syn_makes_no_second_connection(tmp_path: Path) -> None:
    talk = to_bbs().says(CLIENT, PLAIN).packet(CLIENT, SYN, at=1 << 20, right=False)
    talk.says(SERVER, SERVED).closes()
    assert said(talk, tmp_path)[0] == "violated"


def test_one_such_connection_is_not_covered_by_the_share_that_may_stay_undecided(tmp_path: Path) -> None:
    """A hundred percent may be undecided; one contradicted connection still makes the audit incomplete, by name."""
    talk = to_mysql().packet(CLIENT, PSH | ACK, login(b"s" * 20))
    talk.says(CLIENT, login(b"")).says(SERVER, OK).closes()
    report = auditor.audit([talk.write(tmp_path)], inventory=[str(RULES / "inventory.yml")], policy="tas-diego")
    sufficiency = report.audit.summary["sufficiency"]
    assert not sufficiency["complete"]
    [reason] = report.incomplete(max_undecided=100)
    assert "contradict each other" in reason
    [scheduled] = incomplete(report.audit, 100.0)
    assert "contradict each other" in scheduled
    assert (sufficiency["reasons"]["conflict"], sufficiency["reasons"]["contradicting_packets"]) == (1, 1)


@pytest.mark.parametrize("forged", [{"sender": 9}, {"vlan": 7}, {"ttl": 120}, {"ttl": 20}])
def test_data_that_came_another_way_than_its_senders_is_told(forged: dict[str, Any], tmp_path: Path) -> None:
    """It was taken, so it is judged; that it came from elsewhere does not stay unsaid. Nor where the capture was cut between the two."""
    talk = to_bbs().says(CLIENT, PLAIN[:10])
    cut = len(talk.frames)
    talk.packet(CLIENT, PSH | ACK, PLAIN[10:], **forged)
    talk.seq[CLIENT] += len(PLAIN) - 10
    talk.packet(SERVER, ACK).says(SERVER, SERVED).closes()
    verdict, _, rules = said(talk, tmp_path)
    assert (verdict, rules) == ("violated", {"plaintext": "critical", "conflicting-content": "info"})
    pieces = [
        write(tmp_path / name, ETHERNET, part) for name, part in (("a", talk.frames[:cut]), ("b", talk.frames[cut:]))
    ]
    report = auditor.audit(pieces, inventory=[str(RULES / "inventory.yml")], policy="tas-diego")
    assert set(report.findings["rule"]) == {"plaintext", "conflicting-content"}


def test_two_places_of_capture_are_no_other_way(tmp_path: Path) -> None:
    """Behind a router the link addresses are others, the hops fewer; and one of the places lost a packet."""
    talk = to_bbs().holds(mutual()).closes()
    both = [
        each
        for number, (when, frame, size) in enumerate(talk.frames)
        for each in (
            (when, frame, size),
            (when + 20_000, frame[:6] + bytes([2, 9, 9, 9, 9, 9]) + frame[12:22] + b"\x37" + frame[23:], size),
        )[number % 7 == 5 :]
    ]
    talk.frames[:] = both
    assert said(talk, tmp_path) == ("verified", None, {})


def test_a_syn_that_is_sent_again_after_a_refusal_takes_nothing_back(tmp_path: Path) -> None:
    """Windows asks three times, half a second apart, with the same number."""
    talk = Talk(CELL, DATABASE, 8889)
    talk.packet(CLIENT, SYN)
    talk.seq[CLIENT] += 1
    talk.packet(SERVER, RST | ACK)
    talk.seq[CLIENT] -= 1
    talk.now_ns += 500_000_000
    talk.opens().holds(mutual()).closes()
    assert said(talk, tmp_path) == ("verified", None, {})


def test_urgent_bytes_of_telnet_contradict_nothing(tmp_path: Path) -> None:
    """Telnet's Synch (RFC 854) is urgent by design; where nobody knows what is spoken, there is no handshake to contradict."""
    talk = (
        Talk(CELL, DATABASE, 2323)
        .opens()
        .says(SERVER, b"\xff\xfd\x18\xff\xfd\x20")
        .says(CLIENT, b"\xff\xf2", urgent=2)
        .closes()
    )
    assert "conflicting-content" not in said(talk, tmp_path)[2]


def test_ipv6_with_the_addresses_of_an_ipv4_connection_does_not_join_it(tmp_path: Path) -> None:
    """Linux drops such packets; here a login with a password comes before the real one without. It is a connection of its own."""
    talk = to_mysql()
    talk.packet(CLIENT, PSH | ACK, login(b"s" * 20))
    when, frame, _ = talk.frames.pop()
    segment = frame[34:]
    ends = [bytes(10) + b"\xff\xff" + frame[at : at + 4] for at in (26, 30)]
    forged = frame[:12] + b"\x86\xdd" + struct.pack(">IHBB", 6 << 28, len(segment), 6, 64) + b"".join(ends) + segment
    talk.frames.append((when, forged, len(forged)))
    talk.says(CLIENT, login(b"")).says(SERVER, OK).closes()
    report = auditor.audit([talk.write(tmp_path)], inventory=[str(RULES / "inventory.yml")], policy="tas-diego")
    said_of = sorted(report.audit.connections["authentication_verdict"])
    assert len(said_of) == 2
    assert "violated" in said_of
    assert "missing-credentials" in set(report.findings["rule"])
    assert "conflicting-content" not in set(report.findings["rule"])
