"""QUIC conversations: the hellos in Initial packets."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from auditor.inspectors._examine import Examiner
from auditor.inspectors.quic import _Keys, probe
from auditor.model.roles import Match
from auditor.wire import quic as wire
from tests.inspectors.handshakes import contexts, shake
from tests.inspectors.heads import Segments, says, streams

TLS = shake(*contexts(ssl.TLSVersion.TLSv1_3, alpn=("h3",)))
CLIENT_HELLO = TLS.client[0][1][5:]
SERVER_RECORD = TLS.server[0][1]
SERVER_HELLO = SERVER_RECORD[5 : 5 + int.from_bytes(SERVER_RECORD[3:5], "big")]
FIRST_ID, CLIENT_ID, SERVER_ID = b"\x83\x94\xc8\xf0\x3e\x51\x57\x08", b"\x01\x02\x03", b"\xf0\x67\xa5\x50"


def varint(number: int) -> bytes:
    """In two bytes or four, RFC 9000 section 16."""
    return (0x4000 | number).to_bytes(2, "big") if number < 0x4000 else (0x80000000 | number).to_bytes(4, "big")


def crypto(data: bytes, at: int = 0) -> bytes:
    return b"\x06" + varint(at) + varint(len(data)) + data


def initial(
    payload: bytes,
    *,
    side: str = "client",
    version: int = wire.VERSION_1,
    keys_from: bytes = FIRST_ID,
    to: bytes = FIRST_ID,
    sender: bytes = CLIENT_ID,
    number: int = 0,
    token: bytes = b"",
    fill: int = 0,
) -> bytes:
    """A protected Initial packet, RFC 9001 sections 5.3 and 5.4."""
    keys = _Keys(version, keys_from, side)
    payload += bytes(max(fill - len(payload), 24 - len(payload), 0))
    kind = 1 if version == wire.VERSION_2 else 0
    header = bytes([0xC0 | kind << 4 | 1]) + version.to_bytes(4, "big") + bytes([len(to)]) + to
    header += bytes([len(sender)]) + sender + varint(len(token)) + token + varint(2 + len(payload) + 16)
    numbered = header + number.to_bytes(2, "big")
    nonce = (keys.iv ^ number).to_bytes(12, "big")
    sealed = keys.aead.encrypt(nonce, payload, numbered)
    mask = Cipher(algorithms.AES(keys.mask_key), modes.ECB()).encryptor().update(sealed[2:18])  # noqa: S305  # RFC 9001 section 5.4.3
    masked = bytes(a ^ b for a, b in zip(number.to_bytes(2, "big"), mask[1:3], strict=True))
    return bytes([header[0] ^ mask[0] & 0x0F]) + header[1:] + masked + sealed


def handshake(size: int, version: int = wire.VERSION_1) -> bytes:
    """A Handshake packet, which nobody can read."""
    kind = 3 if version == wire.VERSION_2 else 2
    return (
        bytes([0xC0 | kind << 4])
        + version.to_bytes(4, "big")
        + b"\x03"
        + CLIENT_ID
        + b"\x04"
        + SERVER_ID
        + varint(size)
    ) + b"\x9d" * size


def hellos(version: int = wire.VERSION_1) -> tuple[Segments, Segments]:
    client = [(1, initial(crypto(CLIENT_HELLO), version=version, fill=1162))]
    answer = initial(
        b"\x02\x00\x00\x00\x00" + crypto(SERVER_HELLO), side="server", version=version, to=CLIENT_ID, sender=SERVER_ID
    )
    return client, [(2, answer + handshake(700, version) + b"\x40" + b"\x17" * 60)]


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner()


def ask(examiner: Examiner, client: Segments, server: Segments) -> tuple[str, int, Any]:
    return says(examiner, client, server, transport=17)


@pytest.mark.parametrize(
    ("version", "side", "key", "iv", "mask_key"),
    [
        # RFC 9001 appendix A.1
        (
            1,
            "client",
            "1f369613dd76d5467730efcbe3b1a22d",
            "fa044b2f42a3fd3b46fb255c",
            "9f50449e04a0e810283a1e9933adedd2",
        ),
        (
            1,
            "server",
            "cf3a5331653c364c88f0f379b6067e37",
            "0ac1493ca1905853b0bba03e",
            "c206b8d9b9f0f37644430b490eeaa314",
        ),
        # RFC 9369 appendix A.1
        (
            wire.VERSION_2,
            "client",
            "8b1a0bc121284290a29e0971b5cd045d",
            "91f73e2351d8fa91660e909f",
            "45b95e15235d6f45a6b19cbcb0294ba9",
        ),
    ],
)
def test_keys_are_those_of_the_rfcs(version: int, side: str, key: str, iv: str, mask_key: str) -> None:
    keys = _Keys(version, FIRST_ID, side)
    assert keys.iv == int(iv, 16) and keys.mask_key.hex() == mask_key
    nonce = bytes(12)
    assert AESGCM(bytes.fromhex(key)).encrypt(nonce, b"x", b"") == keys.aead.encrypt(nonce, b"x", b"")


@pytest.mark.parametrize(
    ("version", "name"), [(1, "1"), (wire.VERSION_2, "2"), (0xFF00001D, "draft-29"), (0xFF000017, "draft-23")]
)
def test_both_hellos_are_read(examiner: Examiner, version: int, name: str) -> None:
    application, client, facts = ask(examiner, *hellos(version))
    assert (application, client) == ("quic", 0)
    assert facts["quic.version"] == name
    assert facts["tls.version"] == "TLS 1.3" and facts["tls.sni"] == "server.test"
    assert facts["tls.alpn_offered"] == ("h3",)
    assert facts["tls.client_certificate"] == "unknown"
    assert facts.frames("tls.sni") == (1,) and facts.frames("tls.version") == (2,)


def test_sides_are_told_by_whose_keys_open_the_packets(examiner: Examiner) -> None:
    client, server = hellos()
    application, side, facts = ask(examiner, server, client)
    assert (application, side) == ("quic", 1)
    assert facts["tls.sni"] == "server.test"


def test_crypto_frames_out_of_order_repeated_and_over_two_datagrams(examiner: Examiner) -> None:
    first, second, third = CLIENT_HELLO[:70], CLIENT_HELLO[70:150], CLIENT_HELLO[150:]
    client = [
        (1, initial(crypto(third, 150) + b"\x01\x00\x00" + crypto(first), number=0)),
        (2, initial(crypto(first) + crypto(second, 70), number=1)),
    ]
    facts = ask(examiner, client, hellos()[1])[2]
    assert facts["tls.sni"] == "server.test" and facts["tls.version"] == "TLS 1.3"


def test_half_a_hello_tells_no_name(examiner: Examiner) -> None:
    application, _, facts = ask(examiner, [(1, initial(crypto(CLIENT_HELLO[:90])))], [])
    assert application == "quic"
    assert "tls.sni" not in facts and facts["quic.version"] == "1"


def test_after_a_retry_keys_follow_from_the_new_id(examiner: Examiner) -> None:
    retry = b"\xf0\x00\x00\x00\x01\x03" + CLIENT_ID + b"\x04" + SERVER_ID + b"token" + bytes(16)
    again = initial(crypto(CLIENT_HELLO), keys_from=SERVER_ID, to=SERVER_ID, token=b"token", number=1)
    answer = initial(crypto(SERVER_HELLO), side="server", keys_from=SERVER_ID, to=CLIENT_ID, sender=b"\x11\x12")
    client = [(1, initial(crypto(CLIENT_HELLO))), (3, again)]
    facts = ask(examiner, client, [(2, retry), (4, answer)])[2]
    assert facts["quic.retry"] is True and facts.frames("quic.retry") == (2,)
    assert facts["tls.version"] == "TLS 1.3" and facts.frames("tls.version") == (4,)


def test_server_alone_is_recognised_and_not_read(examiner: Examiner) -> None:
    application, _, facts = ask(examiner, [], hellos()[1])
    assert application == "quic"
    assert "tls.version" not in facts and facts["quic.version"] == "1"


def test_early_data_and_a_close_are_told(examiner: Examiner) -> None:
    zero_rtt = b"\xd0\x00\x00\x00\x01\x08" + FIRST_ID + b"\x03" + CLIENT_ID + varint(40) + b"\x55" * 40
    close = initial(b"\x1c" + varint(1) + b"\x06\x00", side="server", to=CLIENT_ID, sender=SERVER_ID)
    facts = ask(examiner, [(1, initial(crypto(CLIENT_HELLO))), (2, zero_rtt)], [(3, close)])[2]
    assert facts["quic.early_data"] is True and facts["quic.server_closed"] is True
    assert "quic.client_closed" not in facts


def test_packets_that_no_key_opens_are_passed_over(examiner: Examiner) -> None:
    client, server = hellos()
    bent = bytearray(client[0][1])
    bent[-1] ^= 1
    facts = ask(examiner, [(1, bytes(bent))], server)[2]
    assert "tls.sni" not in facts


@pytest.mark.parametrize(
    ("said", "match"),
    [
        (b"", Match.MORE),
        (b"\xc3\x00\x00", Match.MORE),
        (b"\xc3\x00\x00\x00\x02" + bytes(30), Match.NO),
        (b"\x43" + bytes(30), Match.NO),
        (b"\xc3\x00\x00\x00\x01\x15" + bytes(60), Match.NO),
        (b"\xc3\x00\x00\x00\x01\x08" + FIRST_ID + b"\x00\x00", Match.YES),
    ],
)
def test_long_headers(said: bytes, match: Match) -> None:
    assert probe(streams(said, b"\x00" * 20)) is (Match.NO if match is Match.NO else match)
