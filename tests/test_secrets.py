"""No output holds a password, token, cookie, signature, ticket or private key that crossed the wire.

Known secrets are planted in a capture, in every place where a protocol carries one, in whole messages and in broken ones. Then everything that
the program can write is searched for them: as they are and in the clothes they may come in (hexadecimal, base64, percent signs, JSON escapes), and
for pieces of them, because a text that was cut short is a secret too.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
import random
import string
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import zstandard

import auditor
from auditor import cli
from auditor.api import format_names
from auditor.cli._options import FORMATS
from auditor.errors import AuditorError
from auditor.model.columns import TABLES
from tests.capture.make import pcap
from tests.conversation import Talk, Wire, address
from tests.report.pages import told

PIECE = 8
"""So many characters of a secret in a row are found; fewer may happen by chance."""

INVENTORY = """
networks: [10.0.0.0/16]
vms:
  - {name: diego_cell/1, ips: [10.0.4.20]}
  - {name: diego_brain/1, ips: [10.0.4.21]}
  - {name: diego_database/1, ips: [10.0.4.22]}
  - {name: uaa/1, ips: [10.0.4.23]}
  - {name: nats/1, ips: [10.0.4.24]}
  - {name: cloud_controller/1, ips: [10.0.4.26]}
  - {name: nfs_server/1, ips: [10.0.4.27]}
  - {name: mysql_proxy/1, ips: [10.0.4.28]}
"""
CELL, BRAIN, DATABASE, UAA, NATS, CC, BLOBS, MYSQL = (f"10.0.4.{k}" for k in (20, 21, 22, 23, 24, 26, 27, 28))


def token_as_name(token: str, word: str) -> str:
    """Basic with a token in the place of the user's name."""
    return base64.b64encode(f"{token}:{word}".encode()).decode()


class Planted:
    """Secrets by what they are."""

    def __init__(self) -> None:
        self.rng = random.Random(20_261_116)
        self.secrets: dict[str, bytes] = {}

    def text(self, name: str, size: int = 28) -> str:
        """A password or token: letters, digits, and what has to be escaped."""
        letters = string.ascii_letters + string.digits
        made = "".join(self.rng.choice(letters) for _ in range(size - 3)) + "+/="
        self.secrets[name] = made.encode()
        return made

    def word(self, name: str, size: int = 28) -> str:
        """One that may stand in a URL as it is."""
        made = "".join(self.rng.choice(string.ascii_letters + string.digits) for _ in range(size))
        self.secrets[name] = made.encode()
        return made

    def raw(self, name: str, size: int) -> bytes:
        """A ticket, a signature: any bytes."""
        made = bytes(self.rng.randrange(1, 256) for _ in range(size))
        self.secrets[name] = made
        return made

    def basic(self, name: str) -> str:
        """User and password as RFC 7617 writes them; the encoded text is as secret as the password."""
        made = base64.b64encode(f"admin:{self.text(name)}".encode()).decode()
        self.secrets[f"{name}, encoded"] = made[8:].encode()
        return made

    def found_in(self, output: str | bytes) -> list[str]:
        """Names of secrets that an output holds, with the clothes they are in."""
        data = output.encode("utf-8", "surrogateescape") if isinstance(output, str) else output
        lower = data.lower()
        found = []
        for name, secret in self.secrets.items():
            for dress, pieces in _dresses(secret):
                place = lower if dress.startswith("hex") else data
                if any(piece in place for piece in pieces):
                    found.append(f"{name} ({dress})")
        return found


def parts(whole: bytes, size: int, step: int = 1) -> list[bytes]:
    return [whole[at : at + size] for at in range(0, max(len(whole) - size, 0) + 1, step)]


@cache
def _dresses(secret: bytes) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    """A secret's pieces as they may stand in an output, each once.

    Of a short secret every piece in plain; of long ones and in the other clothes pieces side by side, so that twice their length is surely found.
    """
    side_by_side = parts(secret, PIECE, PIECE)
    texts = {
        "JSON": json.dumps(secret.decode("latin-1"))[1:-1],
        "Python": repr(secret)[2:-1],
        "Latin-1": secret.decode("latin-1"),
    }
    found = {
        "plain": parts(secret, PIECE, 1 if len(secret) <= 40 else PIECE),
        "hex": [each.hex().encode() for each in side_by_side],
        "hex with colons": [each.hex(":").encode() for each in side_by_side],
        "percent": [quote(each, safe="").encode() for each in side_by_side],
        "percent, all": ["".join(f"%{byte:02X}" for byte in each).encode() for each in side_by_side],
        "base64": base64_parts(secret, base64.b64encode),
        "base64url": base64_parts(secret, base64.urlsafe_b64encode),
        **{
            dress: parts(text.encode(), 3 * PIECE, 3 * PIECE)
            for dress, text in texts.items()
            if text.encode() != secret
        },
    }
    taken: set[bytes] = set()
    told = []
    for dress, pieces in found.items():
        told.append((dress, tuple(each for each in dict.fromkeys(pieces) if each not in taken)))
        taken.update(pieces)
    return tuple(told)


def base64_parts(secret: bytes, encode: Callable[[bytes], bytes]) -> list[bytes]:
    """The encoding at all three places in a group of three bytes, without the characters that depend on the neighbours."""
    found = []
    for lead in range(3):
        text = encode(b"\0" * lead + secret + b"\0" * ((-lead - len(secret)) % 3))
        found += parts(text[4 if lead else 0 : -4], 12, 12)
    return found


# The capture ---------------------------------------------------------------------------------------------------------


def http(head: str, *fields: str, body: str = "") -> bytes:
    return "\r\n".join([head, "Host: service.cf.internal", *fields, f"Content-Length: {len(body)}", "", body]).encode()


def signed_urls(plant: Planted) -> dict[str, str]:
    """One of each kind, with the signature where it stands."""
    return {
        "nginx": f"/read/droplet?md5={plant.word('nginx signature')}&expires=1794823200",
        "s3 v2": f"/b/k?AWSAccessKeyId={plant.word('s3 v2 key id')}&Signature={quote(plant.text('s3 v2 signature'), safe='')}&Expires=1794823200",
        "s3 v4": f"/b/k?X-Amz-Credential={plant.word('s3 v4 key id')}&X-Amz-Signature={plant.raw('s3 v4 signature', 32).hex()}"
        f"&X-Amz-Security-Token={plant.word('s3 session token', 60)}",
        "gcs v2": f"/b/k?GoogleAccessId=a@b&Expires=1&Signature={quote(plant.text('gcs v2 signature'), safe='')}",
        "gcs v4": f"/b/k?X-Goog-Credential=a%40b&X-Goog-Signature={plant.raw('gcs v4 signature', 64).hex()}",
        "azure": f"/c/b?sv=2021-08-06&sr=b&sig={quote(plant.text('azure signature', 44), safe='')}",
        "unknown": f"/d?token={plant.word('token in a query')}&key={plant.word('key in a query')}",
    }


def talk_http(wire: Wire, plant: Planted) -> None:
    port = iter(range(40_000, 50_000))

    def says(server: str, service: int, request: bytes, answer: bytes, client: str = CELL) -> None:
        talk = Talk(wire, client=client, cport=next(port), server=server, sport=service)
        talk.opens().says(request).answers(answer).closes()

    ok = http("HTTP/1.1 200 OK", body="{}")
    says(
        DATABASE, 8889, http("POST /v1/lrps HTTP/1.1", f"Authorization: Basic {plant.basic('basic on a TLS path')}"), ok
    )
    says(CC, 9023, http("GET / HTTP/1.1", f"Authorization: bearer {plant.word('bearer on a TLS path', 90)}"), ok)
    says(CC, 9022, http("GET / HTTP/1.1", f"AUTHORIZATION:Bearer  {plant.word('bearer on no path', 90)}"), ok)
    says(
        CC,
        9024,
        http(
            "GET / HTTP/1.1",
            f"Cookie: a=b; JSESSIONID={plant.word('cookie')}",
            f"X-Api-Key: {plant.word('key in a header')}",
        ),
        http("HTTP/1.1 200 OK", f"Set-Cookie: JSESSIONID={plant.word('set cookie')}; Path=/; HttpOnly"),
        BRAIN,
    )
    says(
        UAA,
        443,
        http(
            "POST /oauth/token HTTP/1.1",
            f'Authorization: Digest response="{plant.word("digest response")}"',
            body=f"grant_type=password&password={plant.word('password in a form')}",
        ),
        http("HTTP/1.1 200 OK", body=json.dumps({"access_token": plant.word("token in an answer", 80)})),
        BRAIN,
    )
    says(
        CC,
        9024,
        http(
            f"GET http://admin:{plant.word('password in a URL')}@cc/v3 HTTP/1.1",
            f"Authorization: Basic {plant.basic('refused basic')}",
        ),
        http("HTTP/1.1 401 Unauthorized", f'WWW-Authenticate: Digest nonce="{plant.word("nonce of a digest")}"'),
        BRAIN,
    )
    for field in (
        f"Authorization:\r\n Basic {plant.basic('basic on a folded line')}",
        f"Authorization: Bearer\r\n\t{plant.word('bearer on a folded line', 60)}",
        f"X-Y: z\r\n Authorization: Basic {plant.basic('basic behind another field')}",
        f"Authorization: Negotiate {plant.word('negotiate')}\r\nAuthorization: Bearer {plant.word('second bearer', 60)}",
        f"Authorization: {plant.word('no scheme', 60)}",
        f"Authorization: Basic {token_as_name(plant.word('token as the name of Basic', 40), 'x-oauth-basic')}",
        f"Authorization: Basic {token_as_name(plant.word('token as the name of Basic, with a word', 24), 'word')}",
        f"Authorization: {plant.word('an odd scheme')} x",
        f"Cookie2: {plant.word('old cookie')}\r\nX-Auth-Token: {plant.word('token in a header', 60)}",
        f"Sec-WebSocket-Protocol: bearer, {plant.word('token of a web socket', 60)}\r\nUpgrade: websocket",
        f"{plant.word('name of a field')}: x",
    ):
        says(CC, 9023, http("GET / HTTP/1.1", field), ok)
    says(CC, 9023, http(f"GET /v3?access_token={plant.word('access token in a query')} HTTP/1.1"), ok)
    says(CC, 9023, http("GET / HTTP/1.1"), http(f"HTTP/1.1 401 {plant.word('reason of a status')}"))
    for kind, url in signed_urls(plant).items():
        for service in (8080, 4443, 80):
            says(
                BLOBS,
                service,
                http(f"GET {url} HTTP/1.1"),
                http("HTTP/1.1 410 Gone" if kind == "azure" else "HTTP/1.1 200 OK"),
            )
        says(CC, 9023, http("GET /x HTTP/1.1"), http("HTTP/1.1 302 Found", f"Location: https://s3{url}"))
        says("203.0.113.9", 443, http(f"GET {url} HTTP/1.1", f"Referer: http://blobstore{url}"), ok)
    key = "\r\n".join(
        ["-----BEGIN PRIVATE KEY-----", *(plant.text("private key", 64) for _ in range(1)), "-----END PRIVATE KEY-----"]
    )
    says(DATABASE, 8889, http("GET /key HTTP/1.1"), http("HTTP/1.1 200 OK", body=key))
    # Broken: what an error message might quote.
    says(
        CC,
        9023,
        f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization {plant.word('header without a colon')}\r\n\r\n".encode(),
        ok,
    )
    says(CC, 9023, f"GET / HTTP/1.1\r\nContent-Length: {plant.word('odd length')}\r\n\r\n".encode(), ok)
    says(CC, 9023, http("GET / HTTP/1.1"), f"HTTP/1.1 2{plant.word('odd status')}\r\n\r\n".encode())
    says(CC, 9023, f"GET /{plant.word('no version')}\r\n\r\n".encode(), ok)
    says(CC, 9023, f"SECRET{plant.word('odd method')} / HTTP/1.1\r\n\r\n".encode(), ok)
    says(DATABASE, 8889, f"LOGIN admin {plant.word('another protocol')}\r\n".encode(), b"OK welcome\r\n")
    says(
        CC, 9023, f"CONNECT uaa:443 HTTP/1.1\r\nProxy-Authorization: Basic {plant.basic('proxy')}\r\n\r\n".encode(), ok
    )


def talk_nats(wire: Wire, plant: Planted) -> None:
    info = b'INFO {"server_id":"x","version":"2.10.1","auth_required":true,"nonce":"%s"}\r\n'
    port = iter(range(50_000, 60_000))

    def connect(fields: dict[str, Any]) -> bytes:
        return b"CONNECT " + json.dumps({"verbose": True, "lang": "go", **fields}).encode() + b"\r\nPING\r\n"

    for number, (request, answer) in enumerate(
        [
            (connect({"user": "nats", "pass": plant.text("nats password")}), b"+OK\r\nPONG\r\n"),
            (connect({"user": "nats", "pass": plant.text("nats refused")}), b"-ERR 'Authorization Violation'\r\n"),
            (connect({"auth_token": plant.word("nats token")}), b"+OK\r\n"),
            (
                connect(
                    {
                        "jwt": plant.word("nats jwt", 120),
                        "nkey": "U" + plant.word("nats nkey"),
                        "sig": plant.text("nats signature", 80),
                    }
                ),
                b"+OK\r\n",
            ),
            (connect({"user": plant.word("nats token as user")}), b"+OK\r\n"),
            (connect({"user": plant.word("nats token as user, with a word"), "pass": "word"}), b"+OK\r\n"),
            (
                b'CONNECT {"user":"nats","pass":"' + plant.text("nats broken JSON").encode() + b"\r\nPING\r\n",
                b"+OK\r\n",
            ),
            (
                connect({"pass": {"odd": plant.word("nats odd type")}}),
                b"-ERR '" + plant.word("nats error text").encode() + b"'\r\n",
            ),
            (
                connect({}) + b"PUB x 28\r\n" + plant.text("nats payload").encode() + b"\r\n",
                b"+OK\r\nMSG x 1 28\r\n" + plant.text("nats message").encode() + b"\r\n",
            ),
            (plant.word("nats no verb").encode() + b"\r\n", b"-ERR 'Unknown Protocol Operation'\r\n"),
        ]
    ):
        nonce = plant.word(f"nats nonce {number}").encode()
        for service in (4222, 4224):
            Talk(wire, client=CELL, cport=next(port), server=NATS, sport=service).opens().answers(info % nonce).says(
                request
            ).answers(answer).closes()


def talk_mysql(wire: Wire, plant: Planted) -> None:
    def packet(sequence: int, body: bytes) -> bytes:
        return struct.pack("<I", len(body))[:3] + bytes([sequence]) + body

    def greeting(plugin: bytes, number: int) -> bytes:
        salt = plant.raw(f"mysql salt {number}", 20)
        return packet(
            0,
            b"\x0a8.0.36\0" + struct.pack("<I", 7) + salt[:8] + b"\0" + struct.pack("<HBHHB", 0xF7FF, 255, 2, 0xDFFF, 21)
            + bytes(10) + salt[8:] + b"\0" + plugin + b"\0",
        )  # fmt: skip

    def login(plugin: bytes, answer: bytes) -> bytes:
        flags = 0x1 | 0x200 | 0x8000 | 0x8_0000 | 0x8
        return packet(
            1,
            struct.pack("<IIB", flags, 1 << 24, 255)
            + bytes(23)
            + b"diego\0"
            + bytes([len(answer)])
            + answer
            + b"diego\0"
            + plugin
            + b"\0",
        )

    ok, denied = packet(2, b"\0\0\0\2\0\0\0"), packet(2, b"\xff\x15\x04#28000Access denied for user 'diego'")
    native, clear, sha2 = b"mysql_native_password", b"mysql_clear_password", b"caching_sha2_password"
    password = plant.text("mysql clear password").encode()
    switched = plant.text("mysql switched to clear").encode()
    scramble = plant.raw("mysql switched scramble", 20)
    stories: list[tuple[bytes, list[bytes], list[bytes]]] = [
        (native, [login(native, plant.raw("mysql scramble", 20))], [ok]),
        (native, [login(native, plant.raw("mysql refused scramble", 20))], [denied]),
        (native, [login(clear, password + b"\0")], [ok]),
        (sha2, [login(sha2, plant.raw("mysql sha2", 32)), packet(3, switched + b"\0")], [packet(2, b"\xfe" + clear + b"\0"), ok]),
        (sha2, [login(sha2, plant.raw("mysql sha2 too", 32)), packet(3, scramble)], [packet(2, b"\xfe" + native + b"\0" + plant.raw("mysql new salt", 20) + b"\0"), ok]),
        (native, [login(plant.word("mysql in place of a plugin", 80).encode()[:20], b"")], [ok]),
        (native, [login(native, b"")[:-30] + password], [denied]),
    ]  # fmt: skip
    # The name of a plugin is no secret wherever it stands: it is what the audit is about.
    del plant.secrets["mysql in place of a plugin"]
    for number, (plugin, client, server) in enumerate(stories):
        talk = Talk(wire, client=DATABASE, cport=33_000 + number, server=MYSQL, sport=3306).opens()
        talk.answers(greeting(plugin, number))
        for question, answer in zip(client, server, strict=False):
            talk.says(question).answers(answer)
        talk.says(packet(0, b"\x03SET PASSWORD = '" + plant.text(f"mysql statement {number}").encode() + b"'")).answers(
            ok
        ).closes()


def talk_tls(wire: Wire, plant: Planted) -> None:
    def record(kind: int, body: bytes) -> bytes:
        return struct.pack("!BHH", kind, 0x0303, len(body)) + body

    def message(kind: int, body: bytes) -> bytes:
        return record(22, bytes([kind]) + len(body).to_bytes(3, "big") + body)

    def vector(size: int, body: bytes) -> bytes:
        return len(body).to_bytes(size, "big") + body

    def extension(kind: int, body: bytes) -> bytes:
        return struct.pack("!HH", kind, len(body)) + body

    for number in range(3):
        sid = plant.raw(f"session id {number}", 32)
        ticket = plant.raw(f"offered ticket {number}", 180)
        name = extension(0, vector(2, b"\0" + vector(2, b"bbs.service.cf.internal")))
        psk = b""
        if number:
            identity, binder = plant.raw(f"PSK identity {number}", 120), plant.raw(f"PSK binder {number}", 32)
            psk = extension(41, vector(2, vector(2, identity) + bytes(4)) + vector(2, vector(1, binder)))
        hello = (
            b"\x03\x03"
            + plant.raw(f"client random {number}", 32)
            + vector(1, sid)
            + vector(2, b"\xc0\x2f\x13\x01")
            + b"\x01\0"
        )
        offered = hello + vector(2, name + extension(35, ticket) + psk)
        if number == 2:
            offered = offered[:-7]  # lengths contradict each other
        answer = b"\x03\x03" + plant.raw(f"server random {number}", 32) + vector(1, sid) + b"\xc0\x2f\0"
        issued = bytes(4) + vector(2, plant.raw(f"issued ticket {number}", 180))
        done = record(20, b"\x01")
        data = plant.raw(f"encrypted {number}", 60)
        Talk(wire, client=CELL, cport=34_000 + number, server=DATABASE, sport=8889).opens().says(
            message(1, offered)
        ).answers(message(2, answer) + message(4, issued) + done + record(22, data[:40])).says(
            done + record(22, data[20:])
        ).says(record(23, data)).answers(record(23, data)).answers(
            record(24, b"\2\0\x40" + plant.raw(f"heartbeat {number}", 64))
        ).closes()


def talk_others(wire: Wire, plant: Planted) -> None:
    """Protocols that no path documents: on a documented port each is a finding, and what it carries is as secret."""
    port = iter(range(36_000, 37_000))

    def says(*turns: bytes, service: int = 9091, greets: bool = True) -> None:
        talk = Talk(wire, client=CELL, cport=next(port), server=BRAIN, sport=service).opens()
        for number, data in enumerate(turns):
            (talk.answers if (number % 2 == 0) == greets else talk.says)(data)
        talk.closes()

    def word(name: str) -> bytes:
        return plant.word(name).encode()

    plain = base64.b64encode(b"\0admin\0" + plant.text("smtp password").encode())
    plant.secrets["smtp password, encoded"] = plain[12:]
    says(
        b"220 mx ESMTP\r\n",
        b"EHLO a\r\n",
        b"250-mx\r\n250 AUTH PLAIN\r\n",
        b"AUTH PLAIN " + plain + b"\r\n",
        b"235 ok\r\n",
    )
    says(
        b"220 FTP server ready\r\n",
        b"USER admin\r\n",
        b"331 pass\r\n",
        b"PASS " + word("ftp password") + b"\r\n",
        b"230 in\r\n",
    )
    says(
        b"+OK POP3 ready <1@x>\r\n",
        b"USER admin\r\n",
        b"+OK\r\n",
        b"PASS " + word("pop3 password") + b"\r\n",
        b"+OK in\r\n",
    )
    says(b"* OK IMAP4rev1 ready\r\n", b"a1 LOGIN admin " + word("imap password") + b"\r\n", b"a1 OK in\r\n")
    dn, password = b"cn=admin", word("ldap password")
    bind = b"\x02\x01\x03\x04" + bytes([len(dn)]) + dn + b"\x80" + bytes([len(password)]) + password
    operation = b"\x02\x01\x01\x60" + bytes([len(bind)]) + bind
    done = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\0\x04\0\x04\0"
    says(b"\x30" + bytes([len(operation)]) + operation, done, greets=False)
    startup = b"\0\3\0\0user\0admin\0\0"
    asks = b"R" + struct.pack("!II", 8, 3)
    answer = word("postgresql password") + b"\0"
    says(
        struct.pack("!I", len(startup) + 4) + startup, asks, b"p" + struct.pack("!I", len(answer) + 4) + answer,
        b"R" + struct.pack("!II", 8, 0), greets=False,
    )  # fmt: skip
    says(
        b"<?xml version='1.0'?><stream:stream to='x' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
        b"<?xml version='1.0'?><stream:stream xmlns:stream='http://etherx.jabber.org/streams'><stream:features/>",
        b"<auth mechanism='PLAIN'>" + word("xmpp password") + b"</auth>",
        greets=False,
    )
    says(b"SSH-2.0-OpenSSH_9\r\n", b"SSH-2.0-x\r\n" + word("not a packet of SSH") + b"\r\n", service=61_010)


def frames(wire: Wire) -> list[tuple[int, int, bytes]]:
    out = []
    for sent in wire.sent:
        tcp = struct.pack(
            "!HHIIBBHHH", sent.sport, sent.dport, sent.seq % 2**32, sent.ack % 2**32, 0x50, sent.flags, 65_535, 0, 0
        )
        ends = b"".join(struct.pack("!I", address(each)[1] & 0xFFFF_FFFF) for each in (sent.src, sent.dst))
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 40 + len(sent.data), 1, 0x4000, 64, 6, 0) + ends
        seconds, rest = divmod(sent.ts_ns, 1_000_000_000)
        out.append((seconds, rest // 1_000, bytes(12) + b"\x08\0" + ip + tcp + sent.data))
    return out


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


@pytest.fixture(scope="module")
def capture(planted: Planted, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a capture, the same cut short in the middle of a packet, and an inventory."""
    wire = Wire()
    for talk in (talk_http, talk_nats, talk_mysql, talk_tls, talk_others):
        talk(wire, planted)
    folder = tmp_path_factory.mktemp("secrets")
    whole = pcap(frames(wire))
    (folder / "whole.pcap").write_bytes(whole)
    (folder / "cut.pcap").write_bytes(whole[: len(whole) * 2 // 3])
    (folder / "inventory.yml").write_text(INVENTORY)
    return folder


@pytest.fixture(scope="module")
def report(capture: Path) -> Any:
    return auditor.audit([capture / "whole.pcap"], inventory=capture / "inventory.yml", strict=True)


# The search itself ---------------------------------------------------------------------------------------------------


def test_the_search_finds_what_is_there(planted: Planted, capture: Path) -> None:
    """The capture holds every secret, and each is found in each of its clothes, whole or in part."""
    data = (capture / "whole.pcap").read_bytes()
    found = {each.rsplit(" (", 1)[0] for each in planted.found_in(data)}
    encoded = {name for name in planted.secrets if any(word in name for word in ("basic", "proxy", "smtp"))}
    assert set(planted.secrets) - encoded <= found
    assert len(planted.secrets) > 120
    secret = planted.secrets["nats password"]
    for dressed in (
        secret[5:20],
        secret.hex().upper().encode(),
        secret.hex(":").encode(),
        quote(secret).encode(),
        base64.b64encode(secret),
        base64.b64encode(b"x:" + secret),
        base64.urlsafe_b64encode(b"admin" + secret),
        repr(secret).encode(),
        json.dumps({"pass": secret.decode()}).encode(),
    ):
        assert planted.found_in(b"before " + dressed + b" after"), dressed
    raw = planted.secrets["offered ticket 0"]
    for dressed in (
        repr(raw),
        json.dumps(raw.decode("latin-1")),
        raw.hex(),
        str(list(raw[:1])) + raw.decode("latin-1"),
    ):
        assert planted.found_in(dressed), dressed
    assert planted.found_in("nothing of the kind") == []


def test_every_protocol_was_recognised_and_judged(report: Any) -> None:
    """Else the search would find nothing because nothing was looked at."""
    told = report.connections
    others = {"smtp", "ftp", "pop3", "imap", "ldap", "postgresql", "xmpp", "ssh"}
    assert {"http", "nats", "mysql", "tls", "unknown"} | others <= set(told["application"])
    assert {"plaintext", "cleartext-credentials", "wrong-authentication-method"} <= set(report.findings["rule"])
    assert (told["authentication_evidence"].map(len) > 0).any()


# Everything that leaves ----------------------------------------------------------------------------------------------


def test_tables_hold_no_secret(planted: Planted, report: Any) -> None:
    """Those that are handed on, and the internal ones with all evidence."""
    for name in TABLES:
        for frame in (getattr(report, name), getattr(report.audit, name)):
            for column in frame.columns:
                told = "\n".join(
                    {text for value in frame[column].tolist() for text in (str(value), repr(value), listed(value))}
                )
                assert planted.found_in(told) == [], f"{name}.{column}"
    assert planted.found_in(repr((report, report.info, report.summary, report.warnings, vars(report)))) == []


def listed(value: Any) -> str:
    """What a value gives to who goes through it."""
    return repr(list(value)) if hasattr(value, "__iter__") and not isinstance(value, str | dict) else ""


def test_evidence_holds_no_secret(planted: Planted, report: Any) -> None:
    known = [facts for facts in report.audit.connections["facts"] if facts is not None]
    assert len(known) > 50
    assert planted.found_in("\n".join(f"{facts!r} {list(facts.evidence())!r}" for facts in known)) == []


def test_names_of_users_are_told_without_their_passwords(planted: Planted, report: Any) -> None:
    text = report.to_json()
    told_ = json.loads(text)["connections"]
    names = {
        kind: {name for each in told_ for name in pick(each.get(kind) or {})}
        for kind, pick in (
            ("nats", lambda facts: [facts.get("user_name")]),
            ("mysql", lambda facts: [facts.get("user_name")]),
            ("http", lambda facts: facts.get("user_names") or ()),
        )
    }
    assert {kind: found - {None} for kind, found in names.items()} == {
        "nats": {"nats"},
        "mysql": {"diego"},
        "http": {"admin"},
    }
    assert planted.found_in(text) == []


@pytest.mark.parametrize("name", format_names())
def test_formats_hold_no_secret(name: str, planted: Planted, report: Any, tmp_path: Path) -> None:
    from auditor.api import find_format

    form = find_format(name)
    for table in (None, *TABLES) if form.tables or form.folder else (None,):
        if form.folder:
            report.write(name, tmp_path / "out", table=table)
            for file in (tmp_path / "out").rglob("*"):
                if file.is_file():
                    assert planted.found_in(parquet_text(file)) == []
            continue
        out = io.BytesIO()
        with contextlib.suppress(AuditorError):  # a table that this format does not have
            report.write(name, out, table=table)
        assert planted.found_in(told(out.getvalue()) if name == "html" else out.getvalue()) == []
        if table is None:
            assert len(out.getvalue()) > 100


def unpacked(value: object) -> object:
    """Of bytes what they say, also compressed (the records of a store)."""
    if not isinstance(value, bytes):
        return value
    packed = value.startswith(b"\x28\xb5\x2f\xfd")
    data = zstandard.ZstdDecompressor().decompress(value, max_output_size=1 << 28) if packed else value
    return data.decode("latin-1")


def parquet_text(file: Path) -> str:
    """What a compressed file says."""
    import pandas as pd

    data = file.read_bytes()
    if data.startswith(b"<!doctype html>"):
        return told(data)
    if file.suffix != ".parquet":
        return file.read_text("utf-8", "replace")
    table = pd.read_parquet(file)
    for name in table:
        if table[name].map(type).eq(bytes).any():
            table[name] = table[name].map(unpacked)
    return str(table.to_json(default_handler=str, date_format="iso"))


@pytest.mark.parametrize("verbosity", ["--quiet", "--verbose", None])
@pytest.mark.parametrize("name", FORMATS)
def test_the_command_line_holds_no_secret(
    name: str, verbosity: str | None, planted: Planted, capture: Path, tmp_path: Path,
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder,
) -> None:  # fmt: skip
    """Standard output, standard error, logs, warnings and written files, at every verbosity."""
    caplog.set_level(logging.DEBUG)
    command = [
        "audit",
        str(capture / "whole.pcap"),
        str(capture / "cut.pcap"),
        "--inventory",
        str(capture / "inventory.yml"),
    ]
    command += ["--format", name, "--strict", "--scope", "all", *([verbosity] if verbosity else [])]
    place = tmp_path / "out"
    status = cli.main([*command, "--output", str(place)])
    out, err = capfd.readouterr()
    assert status == 1, err
    written = [each for each in (place.rglob("*") if place.is_dir() else [place]) if each.is_file()]
    assert written
    assert all(planted.found_in(parquet_text(each)) == [] for each in written)
    assert planted.found_in(out + err + caplog.text + "".join(str(each.message) for each in recwarn)) == []


@pytest.mark.parametrize(
    "command",
    [
        ["connections", "{whole}", "--verbose"],
        ["connections", "{whole}", "--format", "json"],
        ["inventory", "infer", "{whole}"],
        ["policy", "suggest", "{whole}"],
        ["policy", "coverage", "{whole}"],
        ["inventory", "import", "{payload}"],
        ["dissect", "{whole}", "--connection", "{payload}"],
        ["explain", "{payload}"],
        ["run", "{payload}"],
        ["run", "{payload}", "--log-format", "json"],
        ["history", "show", "--store", "{payload}"],
        ["audit", "{whole}", "--waivers", "{payload}"],
        ["audit", "{whole}", "--ca", "{payload}"],
        ["audit", "{whole}", "--keylog", "{cut}"],
        ["audit", "{whole}", "--verbose"],
        ["audit", "{cut}", "--policy", "{whole}"],
        ["audit", "{whole}", "--inventory", "{cut}"],
        ["audit", "{whole}", "--linktype", "0"],
        ["audit", "{payload}"],
        ["policy", "check", "{whole}"],
        ["inventory", "check", "{payload}"],
    ],
    ids=" ".join,
)
def test_other_commands_and_mistakes_hold_no_secret(
    command: list[str], planted: Planted, capture: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where a file with secrets is given in place of another one."""
    payload = tmp_path / "payload.txt"
    payload.write_bytes(b"pass: " + b"\n- ".join(planted.secrets.values()))
    places = {"whole": capture / "whole.pcap", "cut": capture / "cut.pcap", "payload": payload}
    cli.main([each.format(**places) for each in command])
    out, err = capfd.readouterr()
    assert planted.found_in(out + err) == []
    assert "Traceback" not in err


# What is kept, handed over, shown and sent --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(capture: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two audits, of the whole capture and of the one that was cut."""
    place = tmp_path_factory.mktemp("kept") / "store"
    given = ["--inventory", str(capture / "inventory.yml"), "--strict", "--scope", "all", "--store", str(place)]
    for name in ("cut.pcap", "whole.pcap"):
        assert (
            cli.main(
                ["audit", str(capture / name), *given, "--quiet", "--format", "csv", "--output", str(place) + ".csv"]
            )
            == 1
        )
    return place


def searched(planted: Planted, folder: Path) -> int:
    """How many files of a folder were searched."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    for each in files:
        assert planted.found_in(parquet_text(each)) == [], each.name
        assert planted.found_in(each.read_bytes()) == [], each.name
    return len(files)


def test_the_history_holds_no_secret(
    planted: Planted, store: Path, report: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert searched(planted, store) >= 2
    findings = sorted(set(report.findings["rule"]))
    names = [report.findings.loc[report.findings["rule"] == rule, "fingerprint"].iloc[0] for rule in findings]
    assert len(names) >= 6
    for words in (
        ["history", "list"],
        *(["history", "show", "--format", form] for form in ("table", "json")),
        ["history", "diff", "1", "2", "--format", "json"],
        ["history", "diff", "1", "2"],
        ["history", "query", "--format", "json"],
        ["history", "query", "SELECT * FROM findings", "--format", "csv"],
        *(["explain", name] for name in names[::3]),
    ):
        assert cli.main([*words, "--store", str(store)]) == 0, words
        out, err = capfd.readouterr()
        assert planted.found_in(told(out.encode()) if "html" in words else out) == [], words
        assert planted.found_in(err) == [], words


IN_HANDSHAKES = ("session id", "ticket", "PSK", "random", "encrypted")
"""What a slice keeps of TLS: the handshake as it crossed (pieces of ``encrypted`` stand for an encrypted Finished)."""


def beyond_handshakes(found: list[str]) -> list[str]:
    return [each for each in found if not any(word in each for word in IN_HANDSHAKES)]


def test_what_is_handed_over_redacted_holds_no_credential(
    planted: Planted, capture: Path, report: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Packets of all findings without what they carried, and the bundle that tells of them."""
    import zipfile

    names = [word for each in report.findings["id"] for word in ("--finding", each)]
    given = [str(capture / "whole.pcap"), "--inventory", str(capture / "inventory.yml"), "--index", "none"]
    assert cli.main(["slice", *given, *names, "--redact", "-w", str(tmp_path / "redacted.pcapng")]) == 0
    packets = (tmp_path / "redacted.pcapng").read_bytes()
    assert len(packets) > 50_000
    assert beyond_handshakes(planted.found_in(packets)) == []
    out, err = capfd.readouterr()
    assert planted.found_in(out + err) == []
    assert cli.main(["slice", *given, *names[:8], "--bundle", "--redact", "-w", str(tmp_path / "b.zip")]) == 0
    with zipfile.ZipFile(tmp_path / "b.zip") as bundle:
        members = bundle.namelist()
        assert len(members) > 3
        for name in members:
            found = planted.found_in(bundle.read(name))
            assert (beyond_handshakes(found) if name.endswith(".pcapng") else found) == [], name
    # Whole packets hold what crossed; what is said of them in comments, and the name of the file, do not.
    assert cli.main(["slice", *given, *names[:2], "-w", str(tmp_path / "whole.pcapng")]) == 0
    out, err = capfd.readouterr()
    assert planted.found_in(out + err) == []


def test_a_scheduled_pass_tells_no_secret(
    planted: Planted, capture: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Reports, store, metrics, JSON log, what lies in its folders, and what it sends to a service."""
    import http.server
    import shutil
    import threading

    sent: list[bytes] = []

    class Service(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing on standard error."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service) as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            kept = tmp_path / "kept"
            (tmp_path / "in").mkdir()
            for name in ("whole.pcap", "cut.pcap"):
                shutil.copy(capture / name, tmp_path / "in" / name)
            formats = "".join(
                f'[[report]]\nformat = "{form}"\noutput = "kept/report.{form}"\n' for form in ("json", "cef")
            )
            (tmp_path / "run.toml").write_text(
                'store = "kept/history"\n[spool]\nfolders = ["in"]\nsettle = "0s"\n[audit]\nstrict = true\n'
                f'[[inventory]]\nfile = "{capture / "inventory.yml"}"\n{formats}'
                f'[[notify]]\nname = "team"\nurl = "json://127.0.0.1:{service.server_port}"\nseverity = "info"\n'
                '[metrics]\ntextfile = "kept/auditor.prom"\n[log]\nformat = "json"\n'
            )
            kept.mkdir()
            assert cli.main(["run", str(tmp_path / "run.toml")]) == 1
        finally:
            service.shutdown()
            thread.join()
    out, err = capfd.readouterr()
    assert json.loads(err.splitlines()[0])["event"]
    assert planted.found_in(out + err) == []
    assert searched(planted, kept) >= 5
    assert sent
    assert planted.found_in(b"\n".join(sent)) == []


def test_a_stream_that_is_audited_live_tells_no_secret(planted: Planted, capture: Path) -> None:
    """NDJSON as findings become certain, and standard error."""
    import subprocess
    import sys

    from tests.conftest import ROOT

    command = [
        sys.executable,
        "-m",
        "auditor",
        "live",
        "-",
        "--inventory",
        str(capture / "inventory.yml"),
        "--strict",
        "--scope",
        "all",
    ]
    with (capture / "whole.pcap").open("rb") as stream:
        run = subprocess.run(
            [*command, "--format", "ndjson"], stdin=stream, capture_output=True, check=False, cwd=ROOT, timeout=300
        )
    assert run.returncode == 1, run.stderr
    kinds = {json.loads(line)["kind"] for line in run.stdout.splitlines()}
    assert {"connection", "finding", "summary"} <= kinds
    assert planted.found_in(run.stdout + run.stderr) == []


@pytest.mark.usefixtures("tshark")
@pytest.mark.tshark
def test_the_review_and_the_trees_show_no_secret(
    planted: Planted, store: Path, capture: Path, report: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every page that links lead to (of packets, one a rule), and the protocol trees behind them."""
    import http.client
    import re
    import threading
    from datetime import date

    from auditor.review.packets import Library
    from auditor.review.pages import Review
    from auditor.review.server import Server

    rows = report.findings.groupby("rule", sort=True)["connections"].first()
    shown = [names[0] for names in rows]
    assert len(shown) >= 6
    for number, name in enumerate(shown[::3]):
        form = ("text", "json")[number % 2]
        assert cli.main(["dissect", str(capture / "whole.pcap"), "--connection", name, "--format", form]) == 0
        out, err = capfd.readouterr()
        assert len(out) > 500
        assert planted.found_in(out + err) == [], name
    review = Review(
        store=store, today=lambda: date(2026, 11, 22), waivers=tmp_path / "waivers.yml", originals=Library()
    )
    seen: dict[str, int] = {}
    with Server(review) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            waiting = [server.base + "/"]
            connections = 0
            while waiting:
                path = waiting.pop(0)
                if path in seen or len(seen) > 20:
                    continue
                if "/connection/" in path:
                    connections += 1
                    if connections > 2:
                        continue
                line = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=120)
                line.request("GET", path)
                answer = line.getresponse()
                page = answer.read()
                line.close()
                seen[path] = answer.status
                assert planted.found_in(page) == [], path
                links = [each.decode() for each in re.findall(rb'href="([^"#]+)', page)]
                waiting += [each for each in links if each.startswith(server.base)]
        finally:
            server.shutdown()
            thread.join()
    assert set(seen.values()) == {200}
    assert len(seen) > 10
    assert any("/connection/" in path for path in seen)


def test_what_an_agent_sends_holds_no_secret(planted: Planted, capture: Path) -> None:
    """Of whole traffic, and of each direction alone."""
    from auditor import pipeline
    from auditor.agents import wire as windows
    from auditor.agents.partial import certificates_of, may_leave
    from auditor.inspectors._examine import Examiner

    wire = Wire()
    for talk in (talk_http, talk_nats, talk_mysql, talk_tls, talk_others):
        talk(wire, planted)
    openers = [each.sport > each.dport for each in wire.sent]
    every = list(zip(frames(wire), openers, strict=True))
    for wanted in ({True, False}, {True}, {False}):
        (capture / "some.pcap").write_bytes(pcap([frame for frame, opener in every if opener in wanted]))
        followed = pipeline.follow_one(str(capture / "some.pcap"), 0, {}, False)
        examiner = Examiner()
        may_leave(followed.part, examiner, last=False)
        assert not followed.part.pending
        held = certificates_of(followed.part.facts, examiner.certificates.der)
        window = windows.Window("cell-0", "0" * 16, 1, 0, 1, pipeline.Followed(followed.capture, followed.part, held))
        raw = windows.write_window(window, examiner.applications)
        sent = zstandard.ZstdDecompressor().decompress(raw[windows.HEADER_BYTES :])
        assert len(followed.part.rows) > 50
        assert planted.found_in(sent) == []
