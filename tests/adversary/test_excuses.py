"""Attempts to place a connection where nobody looks: in a tunnel, at an address of the link, behind a NAT, in a session resumed, behind what is kept.

Each test is one attempt, and its outcome: it is judged, or the audit says by name what it could not see.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest

import auditor
from auditor.conntrack import TrackLimits
from tests.adversary.talk import ACK, BEGIN_NS, CLIENT, PSH, SERVER, Talk, datagram, inside_vxlan
from tests.adversary.test_copies import INVENTORY
from tests.adversary.test_segments import (
    CELL,
    DATABASE,
    GREETING,
    MYSQL,
    OK,
    PLAIN,
    SERVED,
    login,
    mutual,
    mysql_packet,
    to_bbs,
    to_mysql,
)
from tests.doubling import ETHERNET, Frame, write
from tests.inspectors.handshakes import Recorded, contexts, shake

OUTSIDE, CONTROLLER = "203.0.113.9", "10.0.4.10"


def audited(folder: Path, *frames: Frame, **options: Any) -> auditor.Report:
    path = write(folder / "talk.pcap", ETHERNET, sorted(frames, key=lambda each: each[0]))
    return auditor.audit([str(path)], inventory=[INVENTORY], policy="tas", **options)


def verdicts(report: auditor.Report) -> list[tuple[str, str]]:
    found = report.connections
    return list(zip(found["disposition"], found["authentication_verdict"], strict=True))


def rules(report: auditor.Report) -> set[str]:
    return set(report.findings["rule"])


def later(talk: Talk, us: int = 1) -> list[Frame]:
    return [(now + us * 1_000, frame, size) for now, frame, size in talk.frames]


def says_of(report: auditor.Report, row: int = 0) -> str:
    return "; ".join(each["says"] for each in report.audit.connections.iloc[row]["authentication_factors"])


# Tunnels


def empty_login() -> Talk:
    return to_mysql().says(CLIENT, login(b"")).says(SERVER, OK).closes()


def proper_login(client: str = DATABASE, port: int = 3306, *, sport: int = 40_000, tail: bytes = b"") -> Talk:
    talk = (
        Talk(client, MYSQL, port, sport).opens().says(SERVER, GREETING).says(CLIENT, login(b"s" * 20)).says(SERVER, OK)
    )
    return (talk.says(CLIENT, mysql_packet(0, b"\x03" + tail)) if tail else talk).closes()


@pytest.mark.parametrize("ends", [(CELL, OUTSIDE), ("10.0.4.30", OUTSIDE), (OUTSIDE, CELL), ("10.255.1.7", OUTSIDE)])
def test_what_an_applications_own_tunnel_carries_accuses_nobody(ends: tuple[str, str], tmp_path: Path) -> None:
    """Of the cell's address, of others, or as the container's own interface shows it, beside what the platform says."""
    report = audited(tmp_path, *inside_vxlan(empty_login(), *ends), *proper_login(sport=41_000).frames)
    inner = report.connections[report.connections["tunnel"].notna()]
    assert set(inner["disposition"]) == {"out_of_scope"}
    assert "missing-credentials" not in rules(report)


def test_what_it_carries_is_no_coverage(tmp_path: Path) -> None:
    report = audited(tmp_path, *inside_vxlan(proper_login(), CELL, OUTSIDE))
    assert report.coverage["connections"].sum() == 0


def test_a_listener_in_a_tunnel_turns_no_connection_outside_of_it(tmp_path: Path) -> None:
    """Seen from its middle on, a call to a cell would seem to be the cell's own."""
    real = Talk(CONTROLLER, "10.0.4.21", 5555, 6666).says(CLIENT, b"\x01\x02zz").says(SERVER, b"\x03\x04yy")
    forged = Talk("10.0.4.21", CONTROLLER, 6666, 7777).opens()
    report = audited(tmp_path, *real.frames, *inside_vxlan(forged, CELL, OUTSIDE))
    [one] = [row for _, row in report.connections.iterrows() if row["responder_port"] == 5555]
    assert (one["originator_ip"], one["direction_by"]) == (CONTROLLER, "guess")


def test_errors_in_a_tunnel_make_no_errors_of_what_is_outside_of_it(tmp_path: Path) -> None:
    """Echoes with data to a stranger would seem to be ICMP errors, which are nobody's connection."""
    echo = datagram(CELL, "10.0.4.200", 1, 0, b"\x08\0\0\0\0\1\0\1" + b"secret" * 20, proto=1)
    quoted = datagram(CELL, "10.0.4.200", 5, 0, b"x" * 8)[14:]
    error = datagram("10.0.4.200", CELL, 2, 0, b"\x03\x01\0\0\0\0\0\0" + quoted, proto=1)
    tunnel = Talk(CELL, "10.0.4.200", 1)
    tunnel.frames = [(BEGIN_NS + k * 10**6, error, len(error)) for k in range(20)]
    report = audited(tmp_path, (BEGIN_NS, echo, len(echo)), *inside_vxlan(tunnel, CELL, OUTSIDE))
    assert "unknown-host" in rules(report)


# Addresses of the link


def service(client: str, server: str, port: int) -> list[Frame]:
    return Talk(client, server, port).opens().says(CLIENT, PLAIN).says(SERVER, SERVED).closes().frames


def datagrams(
    client: str, server: str, port: int, data: bytes = b"something", proto: int = 17, sport: int = 40_000
) -> list[Frame]:
    frame = datagram(client, server, sport, port, data, proto=proto)
    return [(BEGIN_NS + k * 10**6, frame, len(frame)) for k in range(3)]


@pytest.mark.parametrize(
    "frames",
    [
        service("169.254.7.7", "169.254.7.8", 4444),
        service(CELL, "169.254.7.8", 4444),
        service("169.254.7.8", DATABASE, 8889),
        service(CONTROLLER, "169.254.7.8", 4444),
        datagrams("fe80::1", "fe80::2", 4445),
        datagrams(CELL, "239.1.2.3", 4445),
        datagrams(CELL, "224.0.0.251", 5353),  # mDNS' port, and no DNS
        datagrams(CELL, "10.0.4.255", 4445),
        datagrams(CELL, "255.255.255.255", 4445),
    ],
)
def test_a_service_on_the_link_is_told(frames: list[Frame], tmp_path: Path) -> None:
    report = audited(tmp_path, *frames)
    assert verdicts(report)[0][0] == "undeclared"
    assert "unknown-host" in rules(report)


MDNS = b"\0\0\x84\0\0\0\0\1\0\0\0\0\x04_ipp\x04_tcp\x05local\0\0\x0c\0\1\0\0\0\x0a\0\2\xc0\x0c"
SOLICITATION = b"\x87\0\0\0\0\0\0\0" + bytes(16)


@pytest.mark.parametrize(
    "frames",
    [
        datagrams("fe80::1", "fe80::2", 0, SOLICITATION, 58),
        datagrams("fe80::1", "ff02::1:ff00:2", 0, SOLICITATION, 58),
        datagrams(CELL, "224.0.0.251", 5353, MDNS, sport=5353),
        datagrams(CELL, "255.255.255.255", 67),
        datagrams(CELL, "224.0.0.18", 0, b"\x31\x33\x64\x01\0\0\0\0\x0a\0\4\1", 112),
        datagrams(CELL, "169.254.169.123", 123, b"\x23" + bytes(47)),
        service(CELL, "127.0.0.1", 4444),
    ],
)
def test_what_keeps_a_link_going_is_nobodys_business(frames: list[Frame], tmp_path: Path) -> None:
    report = audited(tmp_path, *frames)
    assert verdicts(report)[0][0] in ("ambient", "out_of_scope")
    assert "unknown-host" not in rules(report)


# Paths that the documented table does not have, and paths with a choice


def test_an_ambient_path_is_no_excuse(tmp_path: Path) -> None:
    """Loggregator's mutual TLS is declared by an overlay, and judged like a documented path."""
    report = audited(tmp_path, *service(CELL, "10.0.4.95", 8082))
    assert verdicts(report) == [("ambient", "violated")]
    assert rules(report) == {"plaintext"}


def test_a_choice_is_fulfilled_by_none_of_its_halves(tmp_path: Path) -> None:
    """TLS or a signed URL: a ClientHello that nobody answers in TLS, and an unsigned request behind it."""
    talk = Talk(CELL, "10.0.4.80", 8080).opens().says(CLIENT, mutual()[0][1])
    report = audited(tmp_path, *talk.says(SERVER, SERVED).says(CLIENT, PLAIN).says(SERVER, SERVED).closes().frames)
    assert verdicts(report)[0][1] == "violated"


# NAT


def test_a_connection_to_another_port_is_not_the_other_side_of_a_nat(tmp_path: Path) -> None:
    """Both sequence numbers, all bytes and the server's address are those of an honest one: an address that is kept keeps its port."""
    report = audited(tmp_path, *proper_login().frames, *later(proper_login(OUTSIDE, 4444)), scope="all")
    assert sorted(verdicts(report)) == [("documented", "verified"), ("undeclared", "not_applicable")]


def test_nor_is_one_whose_bytes_are_others(tmp_path: Path) -> None:
    report = audited(tmp_path, *proper_login(tail=b"q" * 900).frames, *later(proper_login(OUTSIDE, tail=b"Q" * 900)))
    assert len(report.connections) == 2
    assert "unknown-host" in rules(report)


def test_both_sides_of_a_nat_are_listed(tmp_path: Path) -> None:
    report = audited(tmp_path, *proper_login().frames, *later(proper_login(OUTSIDE)))
    assert set(report.connections["originator_ip"]) == {DATABASE, OUTSIDE}
    assert sorted(verdicts(report)) == [("documented", "verified"), ("out_of_scope", "not_applicable")]
    assert all(each["whole"] for each in report.connections["translated"])


# Sessions


def shaken(resumed: Recorded | None = None) -> tuple[Recorded, list[tuple[int, bytes]]]:
    """A handshake of TLS 1.2 with certificates of both, in its order, and data both ways."""
    made = RESUMABLE
    told = shake(*made, session=None if resumed is None else resumed.session)
    chunks = [(frame, CLIENT, data) for frame, data in told.client] + [(f, SERVER, data) for f, data in told.server]
    return told, [(who, data) for _, who, data in sorted(chunks)]


RESUMABLE = contexts(ssl.TLSVersion.TLSv1_2, require=True)


@pytest.mark.parametrize(
    ("server", "forged", "verdict"),
    [(DATABASE, False, "inherited"), ("10.0.5.40", False, "unverifiable"), (DATABASE, True, "unverifiable")],
)
def test_a_session_is_resumed_from_its_own_server_and_from_no_doubtful_handshake(
    server: str, forged: bool, verdict: str, tmp_path: Path
) -> None:
    told, chunks = shaken()
    first = Talk(CELL, server, 8889).opens()
    for place, (who, data) in enumerate(chunks):
        if forged and place == 0:
            first.packet(who, PSH | ACK, data[:20] + bytes(60) + data[80:], ttl=3)
        first.says(who, data)
    _, again = shaken(told)
    second = Talk(CELL, DATABASE, 8889, 40_001, now_ns=first.now_ns + 10**9).opens().holds(again).closes()
    report = audited(tmp_path, *first.closes().frames, *second.frames)
    assert verdicts(report)[1] == ("documented", verdict), says_of(report, 1)


# TLS that is none, and what lies behind the first bytes


@pytest.mark.parametrize(
    ("status", "verdict", "rule"),
    [
        (b"200 OK", "violated", "plaintext"),
        (b"302 Found", "violated", "plaintext"),
        (b"400 Bad Request", "rejected", "authentication-rejected"),
        (b"501 Not Implemented", "rejected", "authentication-rejected"),
    ],
)
def test_a_hello_that_http_serves_was_plaintext(status: bytes, verdict: str, rule: str, tmp_path: Path) -> None:
    talk = (
        to_bbs().says(CLIENT, mutual()[0][1]).says(SERVER, b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nok")
    )
    report = audited(tmp_path, *talk.closes().frames)
    assert (verdicts(report)[0][1], rules(report)) == (verdict, {rule})


def test_a_hello_before_another_protocol_is_not_tls(tmp_path: Path) -> None:
    talk = to_bbs().says(CLIENT, mutual()[0][1]).says(SERVER, b"\x80\x81tunnel!!" * 9).says(CLIENT, b"\x80\x81more" * 9)
    report = audited(tmp_path, *talk.says(SERVER, b"\x82" * 90).closes().frames)
    assert verdicts(report)[0][1] == "violated"
    assert "wrong-application" in rules(report)


def padded(hello: bytes, count: int) -> bytes:
    """A ClientHello with the padding extension, RFC 7685."""
    body = hello[9:]
    at = 2 + 32
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    size = int.from_bytes(body[at : at + 2], "big") + 4 + count
    body = body[:at] + size.to_bytes(2, "big") + body[at + 2 :] + b"\0\x15" + count.to_bytes(2, "big") + bytes(count)
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return hello[:3] + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize("count", [300, 7_000, 9_000])
def test_a_certificate_that_was_not_read_proves_nothing(count: int, tmp_path: Path) -> None:
    """An old Certificate and CertificateVerify: among the first bytes they do not fit; behind them that is not known, and said."""
    talk = to_bbs()
    for place, (who, data) in enumerate(mutual()):
        talk.says(who, padded(data, count) if place == 0 else data)
    report = audited(tmp_path, *talk.closes().frames)
    one = report.audit.connections.iloc[0]
    if count < 1_000:
        assert (one["authentication_verdict"], one["authentication_missing"]) == ("unverifiable", "conflict")
        return
    assert (one["authentication_verdict"], one["authentication_confidence"]) == ("inferred", "medium")
    assert "was not read" in says_of(report)


# Later logins


def changed(answer: bytes, given: bytes | None, *, plugin: bytes = b"mysql_native_password") -> list[tuple[int, bytes]]:
    """COM_CHANGE_USER with this answer; ``given``: what the client says when it is asked anew with ``plugin``."""
    command = b"\x11diego\0" + bytes([len(answer)]) + answer + b"diego\0\x21\0mysql_native_password\0"
    asked = [
        (SERVER, mysql_packet(1, b"\xfe" + plugin + b"\0" + b"s" * 20 + b"\0")),
        (CLIENT, mysql_packet(2, given or b"")),
    ]
    done = mysql_packet(1 if given is None else 3, b"\0\0\0\x02\0\0\0")
    return [(CLIENT, mysql_packet(0, command)), *(asked if given is not None else []), (SERVER, done)]


QUERY = [(CLIENT, mysql_packet(0, b"\x03SELECT 1")), (SERVER, mysql_packet(1, b"\0\0\0\x02\0\0\0"))]
GOOD = changed(b"", b"x" * 20)


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (GOOD, "verified"),
        (changed(b"x" * 20, None), "verified"),
        (changed(b"", None), "violated"),
        (changed(b"", b""), "violated"),
        ([*QUERY, *GOOD, *QUERY, *changed(b"", b"")], "violated"),
        (changed(b"", b"secret\0", plugin=b"mysql_clear_password"), "violated"),
        ([(CLIENT, mysql_packet(0, b"\x19\1\0\0\0")), *changed(b"", b"")], "violated"),  # a command without an answer
    ],
)
def test_each_later_login_of_mysql_is_judged(after: list[tuple[int, bytes]], verdict: str, tmp_path: Path) -> None:
    talk = to_mysql().says(CLIENT, login(b"s" * 20)).says(SERVER, OK).holds(after).closes()
    assert verdicts(audited(tmp_path, *talk.frames))[0][1] == verdict


def test_how_far_logins_were_looked_for_is_said(tmp_path: Path) -> None:
    talk = (
        to_mysql().says(CLIENT, login(b"s" * 20)).says(SERVER, OK).says(CLIENT, mysql_packet(0, b"\x03" + b"q" * 9_000))
    )
    report = audited(tmp_path, *talk.holds(changed(b"", b"")).closes().frames)
    assert "logins behind the client's first 8,192 bytes would not show" in says_of(report)


INFO = b'INFO {"server_id":"A","version":"2.9.0","auth_required":true,"max_payload":1048576}\r\n'
FULL, EMPTY = b'CONNECT {"user":"nats","pass":"known-to-all"}\r\nPING\r\n', b"CONNECT {}\r\nPING\r\n"
PONG, REFUSED = b"PONG\r\n", b"-ERR 'Authorization Violation'\r\n"


@pytest.mark.parametrize(
    ("logins", "verdict"),
    [
        ([(FULL, PONG)], "verified"),
        ([(FULL, PONG), (EMPTY, PONG)], "violated"),
        ([(EMPTY, PONG), (FULL, PONG)], "violated"),
        ([(FULL, PONG), (EMPTY, REFUSED)], "verified"),
    ],
)
def test_each_connect_of_nats_is_judged(logins: list[tuple[bytes, bytes]], verdict: str, tmp_path: Path) -> None:
    talk = Talk(CELL, "10.0.4.60", 4222).opens().says(SERVER, INFO)
    for said, answer in logins:
        talk.says(CLIENT, said).says(SERVER, answer)
    assert verdicts(audited(tmp_path, *talk.closes().frames))[0][1] == verdict


# Limits


def test_decoys_that_push_out_first_bytes_are_told(tmp_path: Path) -> None:
    """A login that waits while many others begin: what is given up of it, the audit says."""
    talk = to_mysql()
    frames = []
    for k in range(40):
        decoy = Talk(CELL, DATABASE, 8889, 50_000 + k, now_ns=talk.now_ns + k * 10**6).opens().says(CLIENT, b"G")
        frames += decoy.frames
    talk.now_ns += 10**9
    talk.says(CLIENT, login(b"")).says(SERVER, OK).closes()
    report = audited(tmp_path, *talk.frames, *frames, limits={"first_bytes": 8 * 8_192})
    assert report.audit.summary["sufficiency"]["reasons"]["first_bytes_given_up"] >= 1
    assert not report.audit.summary["sufficiency"]["complete"]
    assert TrackLimits().head_slots > 8


def test_of_more_connections_than_are_held_the_newest_go_by_name(tmp_path: Path) -> None:
    talk = empty_login()
    decoys = [Talk(CELL, DATABASE, 8889, 50_000 + k, now_ns=talk.now_ns + k * 10**6).opens() for k in range(9)]
    report = audited(tmp_path, *talk.frames, *(f for each in decoys for f in each.frames), limits={"connections": 4})
    assert "missing-credentials" in rules(report)
    assert "limit" in str(report.captures["problems"].tolist())
    assert not report.audit.summary["sufficiency"]["complete"]


def test_a_packet_that_holds_less_than_it_promises_is_not_covered_by_any_share(tmp_path: Path) -> None:
    talk = to_mysql()
    talk.says(CLIENT, login(b"s" * 20))
    now, frame, _ = talk.frames[-2]
    talk.frames[-2] = now, frame[:60], 60  # not cut by a capture: so it was sent
    talk.says(SERVER, OK).closes()
    report = audited(tmp_path, *talk.frames)
    assert verdicts(report)[0][1] == "unverifiable"
    assert any("cut short" in each for each in report.incomplete(max_undecided=100))
