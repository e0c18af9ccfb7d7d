"""HTTP conversations."""

from __future__ import annotations

import base64
import ssl

import pytest

from auditor.inspectors._examine import Examiner
from auditor.inspectors.http import signed_url_kind
from tests.inspectors.handshakes import contexts, shake
from tests.inspectors.heads import says

TOKEN = "eyJhbGciOi.secret-token"
BASIC = base64.b64encode(b"diego:pass-word").decode()


def request(line: str, *headers: str, body: bytes = b"") -> bytes:
    return "\r\n".join([line, "Host: x", *headers, "", ""]).encode() + body


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture(scope="module")
def examiner() -> Examiner:
    return Examiner()


def test_requests_are_told_by_how_they_authenticate(examiner: Examiner) -> None:
    client = [
        (1, request("GET /v1/a?x=y HTTP/1.1")),
        (3, request("POST /oauth/token HTTP/1.1", f"Authorization: Basic {BASIC}", "Content-Length: 3", body=b"a=b")),
        (5, request("GET /b HTTP/1.1", f"authorization: bearer {TOKEN}", "Cookie: session=c00k1e")),
        (7, request("GET /c HTTP/1.1", "Authorization: Digest username=u")),
    ]
    server = [
        (2, OK),
        (4, b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"),
        (6, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        (8, b"HTTP/1.1 204 No Content\r\n\r\n"),
    ]
    application, side, facts = says(examiner, client, server)
    assert (application, side) == ("http", 0)
    assert facts["http.version"] == "1.1"
    assert facts["http.method"] == "GET"
    assert facts["http.requests"] == 4
    assert facts["http.authorization"] == ("none", "basic", "bearer", "other")
    assert facts["http.statuses"] == (200, 401, 200, 204)
    assert facts["http.cookie"] is True
    assert facts.frames("http.authorization") == (1, 3, 5, 7)
    for secret in (TOKEN, BASIC, "c00k1e", "/v1/a", "username"):
        assert secret not in repr(facts)


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("md5=SIGNED&expires=1700000000", "nginx"),
        ("AWSAccessKeyId=A&Expires=1&Signature=SIGNED", "s3v2"),
        ("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c&X-Amz-Signature=SIGNED", "s3v4"),
        ("GoogleAccessId=g&Expires=1&Signature=SIGNED", "gcs"),
        ("X-Goog-Algorithm=a&X-Goog-Signature=SIGNED", "gcs"),
        ("sv=2020&sr=b&se=2030&sp=r&sig=SIGNED", "azure_sas"),
        ("expires=1", "none"),
    ],
)
def test_signed_urls_by_kind(examiner: Examiner, query: str, kind: str) -> None:
    facts = says(examiner, request(f"GET /read/a/b?{query} HTTP/1.1"), OK)[2]
    assert facts["http.signed_url"] == (kind,)
    assert "SIGNED" not in repr(facts)


@pytest.mark.parametrize(
    ("field", "scheme"),
    [
        (f"aUTHORIZATION: bAsIc {BASIC}", "basic"),
        (f"Authorization:\tBearer\t{TOKEN}", "bearer"),
        (f"Authorization :  Basic   {BASIC}", "basic"),
        (f"Authorization:\r\n Basic {BASIC}", "basic"),
        (f"Authorization: Bearer\r\n\t{TOKEN}\r\nX-Y: z", "bearer"),
        (f"X-Y: z\r\n Authorization: Basic {BASIC}", "none"),
        ("Authorization: Basic", "none"),
        ("Authorization: Bearer ", "none"),
        ("Authorization:", "none"),
        (f"Authorization: AWS4-HMAC-SHA256 {BASIC}", "other"),
        (f"Proxy-Authorization: Basic {BASIC}", "none"),
    ],
)
def test_the_authorization_field_in_all_its_clothes(examiner: Examiner, field: str, scheme: str) -> None:
    """Any case, tabs, folded lines (RFC 9112 section 5.2); a scheme with nothing behind it presents nothing."""
    facts = says(examiner, request("GET / HTTP/1.1", field) + request("GET / HTTP/1.1"), OK + OK)[2]
    assert facts["http.authorization"] == (scheme, "none")
    assert facts["http.requests"] == 2
    assert TOKEN not in repr(facts) and BASIC not in repr(facts)


@pytest.mark.parametrize(
    ("line", "field", "kinds"),
    [
        ("GET http://admin:SECRET@cc/v3 HTTP/1.1", "X-Y: z", ("url_password",)),
        ("GET http://cc/v3?u=a:b@c HTTP/1.1", "X-Y: z", None),
        ("GET /x@y:z HTTP/1.1", "X-Y: z", None),
        ("GET /v3?access_token=SECRET HTTP/1.1", "X-Y: z", ("url_token",)),
        ("GET /v3?access_token= HTTP/1.1", "X-Y: z", None),
        ("GET / HTTP/1.1", "Proxy-Authorization: Basic SECRET", ("proxy",)),
        ("GET / HTTP/1.1", "Proxy-Authorization: Negotiate SECRET", None),
    ],
)
def test_credentials_beside_the_authorization_field(
    examiner: Examiner, line: str, field: str, kinds: tuple[str, ...] | None
) -> None:
    facts = says(examiner, request(line, field), OK)[2]
    assert facts.get("http.carried_beside") == kinds
    assert facts["http.authorization"] == ("none",)
    assert "SECRET" not in repr(facts)


def test_a_fragment_or_path_is_no_signature() -> None:
    assert signed_url_kind(b"/md5=a&expires=b") is None
    assert signed_url_kind(b"/a?x=1#md5=a&expires=b") is None
    assert signed_url_kind(b"/a?md5=&expires=1") is None
    assert signed_url_kind(b"/a?X-Amz-Signature=&X-Amz-Credential=c") is None


def test_http2_preface(examiner: Examiner) -> None:
    application, side, facts = says(examiner, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), bytes(9))
    assert (application, side, facts["http.version"]) == ("http", 0, "2")


def test_response_alone_tells_the_server(examiner: Examiner) -> None:
    application, side, facts = says(examiner, b"HTTP/1.0 503 Busy\r\n\r\n", b"")
    assert (application, side) == ("http", 1)
    assert facts["http.statuses"] == (503,)


def test_plaintext_to_a_tls_port_is_answered_with_an_alert(examiner: Examiner) -> None:
    application, side, facts = says(examiner, [(1, request("GET / HTTP/1.1"))], [(2, b"\x15\x03\x01\x00\x02\x02\x0a")])
    assert (application, side) == ("http", 0)
    assert facts["tls.alert_to_plaintext"] == ("fatal", "unexpected_message")
    assert facts.frames("tls.alert_to_plaintext") == (2,)


def test_tunnel_through_connect_is_followed(examiner: Examiner) -> None:
    told = shake(*contexts(ssl.TLSVersion.TLSv1_2))
    application, _, facts = says(
        examiner,
        [(1, request("CONNECT server.test:443 HTTP/1.1")), *told.client],
        [(2, b"HTTP/1.1 200 Connection established\r\n\r\n"), *told.server],
    )
    assert application == "tls"
    assert facts["tls.sni"] == "server.test"
    assert facts["http.method"] == "CONNECT"


UPGRADE = request("GET /v1/ping HTTP/1.1", "Host: server.test", "Upgrade: TLS/1.2", "Connection: Upgrade")


def test_an_upgrade_to_tls_is_followed(examiner: Examiner) -> None:
    told = shake(*contexts(ssl.TLSVersion.TLSv1_2, require=True))
    switched = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: TLS/1.2, HTTP/1.1\r\nConnection: Upgrade\r\n\r\n"
    application, _, facts = says(examiner, [(1, UPGRADE), *told.client], [(2, switched), *told.server])
    assert application == "http" and facts["http.statuses"] == (101,)
    assert facts["tls.version"] == "TLS 1.2" and facts["tls.client_certificate"] == "sent"


def test_an_upgrade_that_is_no_tls_or_was_not_granted_stays_in_the_clear(examiner: Examiner) -> None:
    told = shake(*contexts(ssl.TLSVersion.TLSv1_2))
    websocket = request("GET /chat HTTP/1.1", "Upgrade: websocket", "Connection: Upgrade")
    assert "tls.version" not in says(examiner, UPGRADE, OK)[2]
    switched = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
    facts = says(examiner, [(1, websocket), *told.client], [(2, switched), *told.server])[2]
    assert facts["http.statuses"] == (101,) and "tls.version" not in facts


def test_bodies_are_not_taken_for_requests(examiner: Examiner) -> None:
    inner = request("GET /inner HTTP/1.1", f"Authorization: Bearer {TOKEN}")
    facts = says(examiner, request("PUT /o HTTP/1.1", f"Content-Length: {len(inner)}", body=inner), OK)[2]
    assert facts["http.requests"] == 1
    assert facts["http.authorization"] == ("none",)


def test_malformed_and_cut_messages(examiner: Examiner) -> None:
    facts = says(examiner, request("GET / HTTP/1.1") + b"GET /b HTTP/1.1\r\nno colon here\r\n\r\n", b"")[2]
    assert facts["http.malformed"] == "header without a colon"
    assert facts["http.requests"] == 1
    facts = says(examiner, b"GET / HTTP/1.1\r\nHost: half", b"")[2]
    assert "http.cut" in facts and "http.requests" not in facts


def test_relatives_of_http_are_not_http(examiner: Examiner) -> None:
    for line in ("OPTIONS rtsp://h/ RTSP/1.0", "OPTIONS sip:a SIP/2.0", "GET /", "REPORT x y"):
        assert says(examiner, f"{line}\r\n\r\n".encode(), b"")[0] == "unknown"
    assert says(examiner, b"\0", b"RTSP/1.0 200 OK\r\n\r\n")[0] == "unknown"
