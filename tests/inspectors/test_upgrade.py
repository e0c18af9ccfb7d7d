"""Protocols that turn into TLS where client and server agree on it."""

from __future__ import annotations

import ssl

import pytest

from auditor.catalogue import discover
from auditor.inspectors._examine import Examiner
from auditor.model.roles import Inspector, Match
from tests.inspectors.handshakes import contexts, shake
from tests.inspectors.heads import says, streams

TLS = shake(*contexts(ssl.TLSVersion.TLSv1_2, require=True))
TLS_CLIENT = b"".join(part for _, part in TLS.client)
TLS_SERVER = b"".join(part for _, part in TLS.server)
INSPECTORS: dict[str, Inspector] = {each.name: each for each in discover("auditor.inspectors", "INSPECTOR")}


def ldap(number: int, operation: bytes) -> bytes:
    body = bytes([2, 1, number]) + operation
    return b"\x30" + bytes([len(body)]) + body


def rdp(kind: int, negotiation: bytes) -> bytes:
    body = bytes([6 + len(negotiation), kind]) + bytes(5) + negotiation
    return b"\x03\x00" + (4 + len(body)).to_bytes(2, "big") + body


START_TLS = ldap(1, b"\x77\x18\x80\x16" + b"1.3.6.1.4.1.1466.20037")
XML = b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>"
TALKS: dict[str, tuple[bytes, bytes]] = {
    "smtp": (
        b"EHLO client.example\r\nSTARTTLS\r\n",
        b"220 mx.example ESMTP\r\n250-mx.example\r\n250 STARTTLS\r\n220 2.0.0 Ready to start TLS\r\n",
    ),
    "ftp": (b"FEAT\r\nAUTH TLS\r\n", b"220 ready\r\n211-Features:\r\n AUTH TLS\r\n211 End\r\n234 Proceed.\r\n"),
    "pop3": (b"CAPA\r\nSTLS\r\n", b"+OK POP3 ready\r\n+OK\r\nSTLS\r\n.\r\n+OK Begin TLS\r\n"),
    "imap": (
        b"a1 CAPABILITY\r\na2 STARTTLS\r\n",
        b"* OK IMAP4rev1 ready\r\n* CAPABILITY STARTTLS\r\na1 OK done\r\na2 OK Begin TLS now\r\n",
    ),
    "xmpp": (
        XML + b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
        XML
        + b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"
        + b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>",
    ),
    "postgresql": (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"S"),
    "rdp": (
        rdp(0xE0, b"Cookie: mstshash=me\r\n" + b"\x01\x00\x08\x00\x03\x00\x00\x00"),
        rdp(0xD0, b"\x02\x1f\x08\x00\x01\x00\x00\x00"),
    ),
    "ldap": (START_TLS, ldap(1, b"\x78\x07\x0a\x01\x00\x04\x00\x04\x00")),
}
REFUSALS: dict[str, tuple[bytes, bytes]] = {
    "smtp": (b"MAIL FROM:<a@b>\r\n", b"454 4.7.0 TLS not available\r\n"),
    "ftp": (b"USER anonymous\r\n", b"530 Please login\r\n"),
    "pop3": (b"USER a\r\n", b"-ERR no\r\n"),
    "imap": (b"a3 NOOP\r\n", b"a2 BAD no\r\n"),
    "xmpp": (b"<auth/>", b"<failure/>"),
    "postgresql": (b"\x00\x00\x00\x11\x00\x03\x00\x00user\0me\0\0", b"N"),
    "rdp": (b"\x03\x00\x00\x0c\x02\xf0\x80\x7f\x65\x82\x01\x94", rdp(0xD0, b"\x03\x00\x08\x00\x02\x00\x00\x00")),
    "ldap": (ldap(2, b"\x42\x00"), ldap(1, b"\x78\x07\x0a\x01\x02\x04\x00\x04\x00")),
}
by_name = pytest.mark.parametrize("name", sorted(TALKS))


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner()


@by_name
def test_tls_after_the_go_ahead_is_read(examiner: Examiner, name: str) -> None:
    client, server = TALKS[name]
    application, side, facts = says(examiner, [(2, client), (4, TLS_CLIENT)], [(1, server), (5, TLS_SERVER)])
    assert (application, side) == (name, 0)
    assert facts[f"{name}.starttls"] == "accepted"
    assert facts["tls.version"] == "TLS 1.2" and facts["tls.sni"] == "server.test"
    assert facts["tls.client_certificate"] == "sent"
    assert facts.frames("tls.sni") == (4,) and facts.frames("tls.version") == (5,)


@by_name
def test_refused_or_unanswered_it_stays_in_clear(examiner: Examiner, name: str) -> None:
    client, server = TALKS[name]
    more, answer = REFUSALS[name]
    before = {"postgresql": b"", "ldap": b"", "rdp": b"", "xmpp": XML}.get(name)
    if before is None:  # all that the server says before its go-ahead
        before = b"".join(server.splitlines(keepends=True)[:-1])
    application, _, facts = says(examiner, client + more, before + answer)
    assert application == name
    assert facts[f"{name}.starttls"] == "refused" and "tls.version" not in facts
    facts = says(examiner, client, before)[2]
    assert facts[f"{name}.starttls"] == "asked" and "tls.version" not in facts


@by_name
def test_each_direction_alone(examiner: Examiner, name: str) -> None:
    client, server = TALKS[name]
    told = says(examiner, client + TLS_CLIENT, b"")[2]
    if name in {"smtp", "xmpp", "postgresql", "ldap", "rdp"}:
        assert told["tls.sni"] == "server.test"
    assert says(examiner, b"", server)[0] in {"unknown", name}


@by_name
def test_the_other_protocols_do_not_claim_it(name: str) -> None:
    client, server = TALKS[name]
    for other in INSPECTORS.values():
        match = other.probe(streams(client, server))
        assert (match is Match.YES) == (other.name == name)


@by_name
def test_text_that_only_looks_like_it(examiner: Examiner, name: str) -> None:
    client, server = TALKS[name]
    assert says(examiner, b"\x00" + client, b"\x00" + server)[0] == "unknown"
    assert says(examiner, client[:3], b"\xff" * 40)[0] == "unknown"
