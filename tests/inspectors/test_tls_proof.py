"""The signature of CertificateVerify, in a handshake as it was, and in one of which a byte is another."""

from __future__ import annotations

from pathlib import Path

import pytest

import auditor
from auditor.inspectors._tls_facts import split_certificates
from auditor.inspectors._tls_proof import Proofs, _messages
from auditor.wire import tls as wire
from tests.adversary.talk import CLIENT, SERVER, Talk
from tests.conftest import ROOT
from tests.doubling import frames_of

CAPTURE = ROOT / "captures" / "rules" / "capture-incomplete" / "quiet.pcap"


def dialogue() -> list[tuple[int, bytes]]:
    """Mutual TLS 1.2 at the BBS."""
    chunks: list[tuple[int, bytes]] = []
    for _, frame, _ in frames_of(CAPTURE)[1]:
        data = frame[14 + 20 + (frame[46] >> 4) * 4 : 14 + int.from_bytes(frame[16:18], "big")]
        if data:
            chunks.append((CLIENT if frame[36:38] == b"\x22\xb9" else SERVER, data))
    return chunks


def both() -> tuple[bytes, bytes, bytes]:
    """What client and server sent, and the client's certificate."""
    client, server = (b"".join(data for who, data in dialogue() if who == side) for side in (CLIENT, SERVER))
    [body] = [message[4:] for kind, message in _messages(client) if kind == wire.CERTIFICATE]
    return client, server, split_certificates(body)[0]


def test_a_handshake_as_it_was_fits() -> None:
    assert Proofs().fits(*both()) is True


def test_bytes_that_the_client_did_not_sign_do_not() -> None:
    client, server, certificate = both()
    random = 5 + 4 + 2 + 10
    other = server[:random] + bytes([server[random] ^ 1]) + server[random + 1 :]
    assert Proofs().fits(client, other, certificate) is False


def test_a_key_exchange_that_the_server_did_not_sign_does_not() -> None:
    """The client's signature is over what it took; here the server's alone is asked."""
    client, server, _ = both()
    said = dict(_messages(server))
    hello = next(message for _, message in _messages(client))
    given = [said[kind] for kind in (wire.SERVER_HELLO, wire.CERTIFICATE, wire.SERVER_KEY_EXCHANGE)]
    check = Proofs()._of_server(hello, *given)
    assert check is not None
    assert check() is True
    for place, at in ((0, 10), (2, 12)):
        other = list(given)
        other[place] = other[place][:at] + bytes([other[place][at] ^ 1]) + other[place][at + 1 :]
        bent = Proofs()._of_server(hello, *other)
        assert bent is not None
        assert bent() is False
    for cut in range(len(given[2])):
        assert Proofs()._of_server(hello, given[0], given[1], given[2][:cut]) is None


@pytest.mark.parametrize("missing", ["client", "server", "key"])
def test_what_is_missing_decides_nothing(missing: str) -> None:
    client, server, certificate = both()
    if missing == "client":
        client = client[:300]
    elif missing == "server":
        server = server[:300]
    else:
        certificate = b"\x30\x03\x02\x01\x00"
    assert Proofs().fits(client, server, certificate) is None


def test_any_bytes_decide_nothing() -> None:
    client, server, certificate = both()
    for cut in range(37, len(client), 37):
        assert Proofs().fits(client[:cut], server, certificate) in (None, True)
        assert Proofs().fits(client[cut:], server, certificate) in (None, False)


def test_a_signature_of_another_handshake_proves_nothing(tmp_path: Path) -> None:
    """The whole way: certificate and signature are real, and were sent in another connection."""
    talk = Talk("10.0.4.20", "10.0.4.40", 8889).opens()
    for place, (who, data) in enumerate(dialogue()):
        talk.says(who, data[:25] + bytes([data[25] ^ 1]) + data[26:] if place == 1 else data)
    report = auditor.audit(
        [talk.closes().write(tmp_path)], inventory=[str(ROOT / "captures/rules/inventory.yml")], policy="tas-diego"
    )
    one = report.audit.connections.iloc[0]
    assert (one["authentication_verdict"], one["authentication_missing"]) == ("unverifiable", "conflict")
    rules = dict(zip(report.findings["rule"], report.findings["severity"], strict=True))
    assert rules["conflicting-content"] == "high"
