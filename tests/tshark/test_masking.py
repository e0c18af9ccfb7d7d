"""What of a protocol tree may be shown."""

from __future__ import annotations

import base64
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.tshark import _masking as masking
from auditor.tshark._masking import Secrets


def holding(*values: bytes) -> Secrets:
    secrets = Secrets()
    for value in values:
        secrets.add(value)
    return secrets


@pytest.mark.parametrize(
    ("wire", "secret"),
    [
        (b"GET / HTTP/1.1\r\nAuthorization: Bearer plantedtoken\r\n\r\n", "plantedtoken"),
        (b"Authorization: Basic " + base64.b64encode(b"admin:plantedpw") + b"\r\n", "plantedpw"),
        (b"x-vault-token: planted-1\r\n", "planted-1"),
        (b"Cookie: JSESSIONID=planted-2; theme=dark\r\n", "planted-2"),
        (b"Set-Cookie: sid=planted-3; Path=/; Secure\r\n", "planted-3"),
        (b"GET /read/aa/bb?md5=planted-4&expires=1700000000 HTTP/1.1\r\n", "planted-4"),
        (b"GET /b?X-Amz-Credential=AKIAPLANTED&X-Amz-Signature=planted5 HTTP/1.1", "planted5"),
        (b"GET /b?sv=2020-01-01&sig=planted%2F6x HTTP/1.1", "planted/6x"),
        (b"grant_type=password&username=u&password=planted-7", "planted-7"),
        (b'CONNECT {"verbose":false,"user":"nats","pass":"planted-8"}\r\n', "planted-8"),
        (b'CONNECT {"auth_token" : "planted-9"}\r\n', "planted-9"),
        (b"CREATE USER u IDENTIFIED BY 'planted10'", "planted10"),
        (b"AUTH planted11\r\n", "planted11"),
        (b"PASS planted12\r\n", "planted12"),
        (b"mysql://root:planted13@db/x", "planted13"),
        (b"-----BEGIN RSA PRIVATE KEY-----\nMIIplanted14\n-----END RSA PRIVATE KEY-----", "MIIplanted14"),
    ],
)
def test_credentials_are_known_by_their_shape(wire, secret):
    secrets = Secrets()
    secrets.look_through(b"noise\r\n" + wire + b"\r\nmore noise")
    raw = secret.encode()
    for form in (secret, raw.hex(), raw.hex(":"), base64.b64encode(raw).decode().rstrip("="), quote(secret, safe="")):
        shown = secrets.scrub(f"before {form} after")
        assert form not in shown
        assert shown.startswith("before")
        assert shown.endswith("after")


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=600), st.data())
def test_no_piece_of_a_secret_is_shown(secret, data):
    """Short secrets: no eight characters; long ones: no sixteen."""
    secrets = holding(secret.encode())
    begin = data.draw(st.integers(0, len(secret) - 8))
    piece = secret[begin : begin + data.draw(st.integers(8, len(secret)))]
    shown = secrets.scrub(f"label: {piece} (end)")
    most = 8 if len(secret) <= 256 else 16
    if len(piece) >= most:
        assert piece not in shown
    pieces = {piece[i : i + most] for i in range(len(piece) - most + 1)}
    assert not any(each in shown for each in pieces if each not in "label: (masked) (end)")


@given(st.binary(min_size=4, max_size=80))
def test_no_secret_is_shown_in_hex(secret):
    raw = secret.strip(b" \t\r\n\0")
    if len(raw) < 4:
        return
    secrets = holding(secret)
    assert raw.hex() not in secrets.scrub(f"x {raw.hex()} x")
    assert raw.hex(":") not in secrets.scrub(f"x {raw.hex(':')} x")


def test_short_secrets_are_masked_as_words_and_leave_other_words_alone():
    shown = holding(b"nats").scrub("user nats of natsbox, pass=nats")
    assert shown == "user (masked) of natsbox, pass=(masked)"


def test_with_more_secrets_than_can_be_looked_for_nothing_is_shown(monkeypatch):
    monkeypatch.setattr(masking, "MAX_SECRETS_BYTES", 100)
    secrets = holding(b"a" * 60, b"b" * 60)
    assert secrets.full
    assert secrets.scrub("anything") == "(masked)"
    assert secrets.scrub("443") == "443"


def test_hostile_text_is_looked_through_in_time():
    begun = time.process_time()
    for text in (
        b"a" * 200_000,
        b'"' * 200_000,
        b"token" * 40_000,
        b"://:" * 50_000,
        b"eyJ" * 60_000,
        b"auth=" * 20_000,
    ):
        Secrets().look_through(text)
    assert time.process_time() - begun < 20


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/v1/ping", "/v1/ping"),
        ("/x;jsessionid=1/y?sig=abc&flag", "/x;(masked)/y?sig=(masked)&(masked)"),
        ("https://user:pw@host:8443/p?a=b#frag", "https://(masked)@host:8443/p?a=(masked)"),
        ("/v2/apps/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f/x", "/v2/apps/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f/x"),
        ("/reset/" + "aZ09" * 12, "/reset/(masked)"),
        ("*", "*"),
        ("", ""),
    ],
)
def test_urls(given, shown):
    assert masking.url(given) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("Basic abc", "Basic (masked)"),
        ("bearer abc", "bearer (masked)"),
        ("plainsecret", "(masked)"),
        ("Custom x", "(masked)"),
        ("", "(masked)"),
    ],
)
def test_schemes(given, shown):
    assert masking.scheme(given) == shown


def test_headers_are_shown_by_name_only_unless_they_are_known():
    assert masking.header("Host", "bbs") is None
    assert masking.header("X-Api-Key", "abc") == "(3 characters, not shown)"
    assert masking.header("Authorization", "Bearer x") == "Bearer (masked)"
    assert masking.header("Location", "/x?code=1") == "/x?code=(masked)"
    assert masking.header_name("not a name at all") == "(no header's name)"


@pytest.mark.parametrize(
    ("layer", "name", "shown", "rule"),
    [
        ("tcp", "tcp.srcport", "443", "show"),
        ("tcp", "tcp.payload", "61:62", "bytes"),
        ("tcp", "tcp.segment_data", "61:62", "bytes"),
        ("tls", "tls.handshake.random", ":".join(["00"] * 32), "show"),
        ("tls", "tls.handshake.session_ticket", ":".join(["00"] * 192), "bytes"),
        ("tls", "tls.app_data", ":".join(["00"] * 30), "bytes"),
        ("ssh", "ssh.protocol", "SSH-2.0-OpenSSH_9.2", "show"),
        ("ssh", "ssh.protocol", "GET /?sig=x HTTP/1.1", "hide"),
        ("http", "http.authorization", "Basic x", "scheme"),
        ("http", "http.file_data", "x", "label"),
        ("http", "http.x_forwarded_for", "x", "label"),
        ("http", "", "GET /?sig=x HTTP/1.1", "label"),
        ("mysql", "mysql.user", "root", "show"),
        ("mysql", "mysql.passwd", "00:11", "label"),
        ("mysql", "mysql.query", "SELECT 1", "label"),
        ("ldap", "ldap.simple", "pw", "label"),
        ("json", "json.value.string", "x", "label"),
    ],
)
def test_fields_are_closed_unless_opened(layer, name, shown, rule):
    assert masking.rule(layer, name, shown) == rule
