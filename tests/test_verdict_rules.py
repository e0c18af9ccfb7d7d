"""Rules of "How a verdict is reached" that no single room decides, by their numbers: from packets in a file to the report."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import auditor
from tests.inspectors import test_ssh as ssh_
from tests.tshark.talks import Secure, Talk, Wire, secured, write

CELL, BRAIN, DATABASE, BLOBS, STRANGER = "10.0.1.10", "10.0.1.20", "10.0.1.30", "10.0.1.40", "10.0.1.99"
VMS = f"""
networks: [10.0.0.0/16]
vms:
  - {{name: diego_cell/0, ips: [{CELL}]}}
  - {{name: diego_brain/0, ips: [{BRAIN}]}}
  - {{name: diego_database/0, ips: [{DATABASE}]}}
  - {{name: nfs_server/0, ips: [{BLOBS}]}}
"""
Row = dict[str, Any]
SIGNED = b"GET /read/d?md5=abc&expires=1 HTTP/1.1\r\nHost: b\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
ODD = b"\x00\x01\xfe\xed\xfa\xce" * 4


@pytest.fixture
def told(tmp_path: Path) -> Callable[[Wire], list[Row]]:
    """Connections in order of start, each with the rules of its findings; those of certificates and weak keys aside, which tests make on their own."""

    def audit(wire: Wire) -> list[Row]:
        (tmp_path / "vms.yml").write_text(VMS)
        report = auditor.audit(write(wire, tmp_path / "c.pcap"), inventory=tmp_path / "vms.yml")
        rule_of = dict(zip(report.findings["id"], report.findings["rule"], strict=True))
        rows = report.connections.sort_values("start").to_dict("records")
        return [
            row
            | {"rules": {rule_of[each] for each in row["findings"]} - {"certificate-expired", "certificate-identity"}}
            for row in rows
        ]

    return audit


def said(row: Row) -> tuple[str, str, set[str]]:
    return row["disposition"], row["authentication_verdict"], row["rules"]


def plain(wire: Wire, client: str, server: str, port: int, *turns: bytes, cport: int = 40_001) -> Talk:
    """A whole conversation in the clear, the client first."""
    talk = Talk(wire, client, cport, server, port).opens()
    for number, data in enumerate(turns):
        (talk.says if number % 2 == 0 else talk.answers)(data)
    return talk.closes()


def ssh(wire: Wire, client: str, server: str, port: int) -> None:
    talk = Talk(wire, client, 40_001, server, port).opens()
    talk.says(ssh_.CLIENT).answers(ssh_.SERVER + ssh_.SERVER_OFFER).says(ssh_.CLIENT_OFFER + ssh_.packet(30, b"x" * 36))
    talk.answers(ssh_.packet(31, b"y" * 200) + ssh_.NEWKEYS).says(ssh_.NEWKEYS)
    for side, data in ssh_.said(ssh_.LOGIN):
        talk = talk.says(data) if side == "C" else talk.answers(data)
    talk.closes()


def test_rule_8_content_decides_where_ports_vary(told: Callable[[Wire], list[Row]]) -> None:
    wire = Wire()
    plain(wire, CELL, BLOBS, 8080, SIGNED, OK)
    ssh(wire, CELL, BLOBS, 8022)
    plain(wire, CELL, BLOBS, 8099, ODD, ODD)
    Talk(wire, CELL, 40_004, BLOBS, 8098).attempts().refuses()
    assert [said(row) for row in told(wire)] == [
        ("documented", "verified", {"cleartext-credentials"}),
        ("documented", "violated", {"wrong-application"}),
        ("undeclared", "not_applicable", {"undeclared-port"}),
        ("undeclared", "not_applicable", {"undeclared-attempt"}),
    ]


def test_rule_8_of_several_rules_the_most_specific_fires(told: Callable[[Wire], list[Row]]) -> None:
    wire = Wire()
    ssh(wire, BRAIN, CELL, 2222)
    [row] = told(wire)
    assert said(row) == ("undeclared", "not_applicable", {"ssh-port-out-of-range"})


def test_rule_4_at_host_ports(told: Callable[[Wire], list[Row]], tmp_path: Path) -> None:
    """SSH in the clear and mutual TLS are the documented path; TLS without a certificate and anything else are not."""
    wire = Wire()
    ssh(wire, BRAIN, CELL, 61_010)
    for number, made in enumerate(
        (Secure(require=True), Secure(ssl.TLSVersion.TLSv1_2, require=True), Secure(ask=False))
    ):
        secured(Talk(wire, BRAIN, 40_010 + number, CELL, 61_020 + number), tmp_path / "keys", made)
    plain(wire, BRAIN, CELL, 61_030, GET, OK)
    rows = told(wire)
    assert [said(row) for row in rows] == [
        ("documented", "inferred", set()),
        ("documented", "inferred", set()),
        ("documented", "verified", set()),
        ("documented", "violated", {"missing-client-certificate"}),
        ("documented", "violated", {"wrong-application"}),
    ]
    assert {tuple(row["paths"]) for row in rows} == {("ssh-proxy-to-app",)}


@pytest.mark.parametrize("earlier", [True, False])
@pytest.mark.parametrize("cport", [40_007, 1_025])
def test_rule_11_who_answered_a_syn_anywhere_is_the_responder(
    told: Callable[[Wire], list[Row]], earlier: bool, cport: int
) -> None:
    """A stream from its middle, which nothing tells the direction of, the server's packet first; before it or after it the server answers a SYN."""

    def middle(wire: Wire) -> None:
        talk = Talk(wire, BRAIN, cport, CELL, 61_010)
        talk.answers(ODD).says(ODD)

    wire = Wire()
    if not earlier:
        middle(wire)
    ssh(wire, BRAIN, CELL, 61_010)
    if earlier:
        middle(wire)
    rows = told(wire)
    row = rows[1 if earlier else 0]
    assert (row["originator_ip"], row["responder_port"], row["direction_by"]) == (BRAIN, 61_010, "listener")
    assert (row["application"], row["authentication_verdict"]) == ("unknown", "unverifiable")


def test_rule_11_a_range_and_the_lower_port_make_nobody_a_listener(told: Callable[[Wire], list[Row]]) -> None:
    wire = Wire()
    Talk(wire, BRAIN, 1_025, CELL, 61_010).answers(ODD).says(ODD)
    [row] = told(wire)
    assert row["direction_by"] == "guess"
    assert row["authentication_verdict"] in ("not_applicable", "unverifiable")


def test_rule_12_an_unknown_host_is_undeclared_whatever_it_authenticated_with(
    told: Callable[[Wire], list[Row]], tmp_path: Path
) -> None:
    wire = Wire()
    secured(
        Talk(wire, STRANGER, 40_001, DATABASE, 8889), tmp_path / "keys", Secure(ssl.TLSVersion.TLSv1_2, require=True)
    )
    [row] = told(wire)
    assert said(row) == ("undeclared", "not_applicable", {"unknown-host"})
    assert row["originator_instance"] != row["responder_instance"] == "diego_database/0"


def test_rule_13_within_a_minute_and_no_longer(told: Callable[[Wire], list[Row]]) -> None:
    for apart_s, falls in ((59, True), (62, False)):
        wire = Wire()
        Talk(wire, BRAIN, 40_002, CELL, 61_010).opens().says(client_hello())._s(4)
        wire.now_ns += apart_s * 1_000_000_000
        ssh(wire, BRAIN, CELL, 61_010)
        rows = told(wire)
        assert rows[0]["authentication_verdict"] == "rejected"
        assert ("authentication-downgrade" in rows[1]["rules"]) is falls


def client_hello() -> bytes:
    """A real ClientHello."""
    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="server.test")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()
