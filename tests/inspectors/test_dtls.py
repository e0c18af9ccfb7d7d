"""DTLS conversations: what a handshake of TLS becomes in datagrams."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from auditor.inspectors._examine import Examiner
from auditor.inspectors.dtls import probe
from auditor.model.roles import Match
from auditor.wire import dtls as wire
from tests.inspectors.handshakes import contexts, shake
from tests.inspectors.heads import Segments, says, streams

V12 = ssl.TLSVersion.TLSv1_2


def messages(said: Segments) -> list[bytes]:
    """Handshake messages in the clear of one side of a TLS conversation."""
    data, found, at = b"".join(part for _, part in said), b"", 0
    while at < len(data) and data[at] == 22:
        end = at + 5 + int.from_bytes(data[at + 3 : at + 5], "big")
        found, at = found + data[at + 5 : end], end
    out = []
    while len(found) >= 4:
        end = 4 + int.from_bytes(found[1:4], "big")
        out.append(found[:end])
        found = found[end:]
    return out


def record(body: bytes, *, kind: int = 22, version: int = wire.DTLS12, epoch: int = 0, number: int = 0) -> bytes:
    return (
        bytes([kind])
        + version.to_bytes(2, "big")
        + epoch.to_bytes(2, "big")
        + number.to_bytes(6, "big")
        + len(body).to_bytes(2, "big")
        + body
    )


def fragments(message: bytes, number: int, size: int = 10_000) -> list[bytes]:
    """Records of one handshake message, RFC 6347 section 4.2.3."""
    kind, length, body = message[:1], message[1:4], message[4:]
    return [
        record(kind + length + number.to_bytes(2, "big") + at.to_bytes(3, "big") + len(part).to_bytes(3, "big") + part)
        for at in range(0, max(len(body), 1), size)
        for part in [body[at : at + size]]
    ]


def with_cookie(hello: bytes, cookie: bytes, version: int = wire.DTLS12) -> bytes:
    """A ClientHello of TLS as DTLS says it."""
    sid_end = 4 + 34 + 1 + hello[38]
    body = version.to_bytes(2, "big") + hello[6:sid_end] + bytes([len(cookie)]) + cookie + hello[sid_end:]
    return hello[:1] + len(body).to_bytes(3, "big") + body


def as_server(message: bytes, version: int = wire.DTLS12) -> bytes:
    return message[:4] + version.to_bytes(2, "big") + message[6:] if message[0] == 2 else message


TALK = shake(*contexts(V12, require=True))
CLIENT, SERVER = messages(TALK.client), messages(TALK.server)
VERIFY = b"\x03\x00\x00\x17" + wire.DTLS10.to_bytes(2, "big") + b"\x14" + b"c" * 20
FINISHED = record(b"\x01", kind=20) + record(b"\x7a" * 40, epoch=1)


def conversation(version: int = wire.DTLS12, size: int = 10_000) -> tuple[Segments, Segments]:
    hello = with_cookie(CLIENT[0], b"", version), with_cookie(CLIENT[0], b"c" * 20, version)
    client = [(1, b"".join(fragments(hello[0], 0, size))), (3, b"".join(fragments(hello[1], 1, size)))]
    client += [(6, b"".join(b"".join(fragments(m, 2 + k, size)) for k, m in enumerate(CLIENT[1:])) + FINISHED)]
    server = [(2, b"".join(fragments(VERIFY, 0)))]
    flight = [piece for k, m in enumerate(SERVER) for piece in fragments(as_server(m, version), 1 + k, size)]
    server += [*[(4 + k, piece) for k, piece in enumerate(flight)][:18], (8, FINISHED)]
    return client, server


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner()


def ask(examiner: Examiner, client: Segments, server: Segments) -> tuple[str, int, Any]:
    return says(examiner, client, server, transport=17)


@pytest.mark.parametrize(("version", "name"), [(wire.DTLS12, "DTLS 1.2"), (wire.DTLS10, "DTLS 1.0")])
def test_mutual_handshake(examiner: Examiner, version: int, name: str) -> None:
    application, side, facts = ask(examiner, *conversation(version))
    assert (application, side) == ("dtls", 0)
    assert facts["tls.version"] == facts["tls.hello_version"] == name
    assert facts["tls.sni"] == "server.test" and facts["dtls.cookie"] is True
    assert facts["tls.client_certificate"] == "sent" and facts["tls.certificate_requested"] is True
    assert len(facts["tls.client_certificates"]) >= 1 and len(facts["tls.server_certificates"]) >= 1
    assert facts["tls.client_finished"] is True and facts["tls.server_finished"] is True
    assert facts.frames("tls.sni") == (3,)


def test_messages_in_fragments(examiner: Examiner) -> None:
    facts = ask(examiner, *conversation(size=300))[2]
    assert facts["tls.sni"] == "server.test" and facts["tls.version"] == "DTLS 1.2"
    assert facts["tls.client_certificate"] == "sent"


def test_sides_are_told_by_messages(examiner: Examiner) -> None:
    client, server = conversation()
    application, side, facts = ask(examiner, server, client)
    assert (application, side, facts["tls.sni"]) == ("dtls", 1, "server.test")


def test_fragments_out_of_order_and_twice(examiner: Examiner) -> None:
    pieces = fragments(with_cookie(CLIENT[0], b""), 0, 90)
    order = [pieces[-1], *pieces[:-1], pieces[0]]
    facts = ask(examiner, [(k + 1, piece) for k, piece in enumerate(order)], [])[2]
    assert facts["tls.sni"] == "server.test" and facts["tls.hello_version"] == "DTLS 1.2"
    assert "tls.version" not in facts


def test_lost_fragment_leaves_the_rest_unread(examiner: Examiner) -> None:
    client, server = conversation(size=300)
    facts = ask(examiner, client, [server[0], *server[2:]])[2]
    assert "tls.version" not in facts and facts["tls.sni"] == "server.test"


def test_version_13_is_chosen_in_the_extension(examiner: Examiner) -> None:
    chosen = b"\x00\x2b\x00\x02\xfe\xfc"
    body = (
        wire.DTLS12.to_bytes(2, "big")
        + bytes(32)
        + b"\0"
        + b"\x13\x01"
        + b"\0"
        + len(chosen).to_bytes(2, "big")
        + chosen
    )
    answer = fragments(b"\x02" + len(body).to_bytes(3, "big") + body, 0)[0]
    facts = ask(examiner, [(1, fragments(with_cookie(CLIENT[0], b""), 0)[0])], [(2, answer + b"\x2e" + bytes(40))])[2]
    assert facts["tls.version"] == "DTLS 1.3" and facts["tls.cipher"] == "TLS_AES_128_GCM_SHA256"
    assert facts["tls.client_certificate"] == "unknown"


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (b"\x16\xfe", Match.MORE),
        (b"\x16\x03\x01", Match.NO),
        (record(b"x" * 20, kind=23, epoch=1), Match.YES),
        (record(b"x" * 20, kind=23, epoch=1)[:-1], Match.MORE),
        (record(b"\x01\0\0\x09\0\0\0\0\x05\0\0\x09" + b"x" * 9), Match.NO),
        (record(b"\x63" + bytes(11)), Match.NO),
    ],
)
def test_records(said: bytes, match: Match) -> None:
    assert probe(streams(said, b"\xff")) is match
