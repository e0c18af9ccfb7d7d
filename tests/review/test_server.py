"""Who is let in, and who is not: asked over a socket, byte by byte as an attacker would."""

from __future__ import annotations

import http.client
import socket
from urllib.parse import urlencode

import pytest

from auditor.errors import ConfigError
from auditor.review import pages
from auditor.review.server import MOST_FORM_BYTES, Server

WAIVER = {"from": "diego_brain", "to": "diego_cell", "port": "1801", "transport": "tcp", "path": "", "fingerprint": "", "reason": "r",
          "owner": "o", "ticket": "t", "expires": "2027-01-01", "max_findings": "1", "max_connections": "", "do": "write"}  # fmt: skip


def ask(server, path=None, *, method="GET", body=None, **headers):
    """Status, headers and text of an answer; a header given as None is left out."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection.putrequest(method, path if path is not None else server.base + "/", skip_host=True)
    given = {"Host": f"127.0.0.1:{server.server_port}"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    if body is not None:
        given = {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(body))} | given
    for name, value in given.items():
        if value is not None:
            connection.putheader(name, value)
    connection.endheaders(body.encode() if body is not None else None)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), text


def finding(review):
    with pages.open_history(review.store) as history:
        audit = review.audit(history, history.find("2"))
    return audit.findings.loc[audit.findings["rule"] == "missing-client-certificate", "id"].iloc[0]


def test_only_this_machine_can_connect(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"
    assert len(server.token) >= 32
    with Server(server.review) as other:
        assert other.token != server.token


def test_the_address_opens_the_index(server):
    status, headers, text = ask(server)
    assert status == 200
    assert "<h1>Audits</h1>" in text
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "path", ["/", "/x/", "/{short}/", "/{long}/", "/{upper}/", "", "/../{token}/", "/?token={token}", "//{token}x/"]
)
def test_without_the_token_nothing_is_told(server, path):
    token = server.token
    path = path.format(short=token[:-1], long=token + "a", upper=token.swapcase(), token=token)
    status, _, text = ask(server, path or "*")
    assert (status, text) == (403, "403 Forbidden\n")


@pytest.mark.parametrize(
    "host",
    [
        None,
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:1",
        "[::1]:{port}",
        "localhost.evil.example:{port}",
    ],
)
def test_a_name_made_to_point_here_is_turned_away(server, host):
    host = host and host.format(port=server.server_port)
    assert ask(server, Host=host)[0] == 403


def test_two_hosts_are_turned_away(server):
    port = server.server_port
    with socket.create_connection(("127.0.0.1", port), timeout=60) as line:
        line.sendall(f"GET {server.base}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example\r\n\r\n".encode())
        assert b" 403 " in line.makefile("rb").readline()


def test_localhost_is_this_machine_too(server):
    assert ask(server, Host=f"localhost:{server.server_port}")[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_site_is_turned_away(server, headers):
    assert ask(server, **headers)[0] == 403
    path = f"{server.base}/audit/2/finding/{finding(server.review)}/waiver"
    assert ask(server, path, method="POST", body=urlencode(WAIVER), **headers)[0] == 403
    assert not server.review.waivers.exists()


def test_a_waiver_is_written_by_who_may(server):
    path = f"{server.base}/audit/2/finding/{finding(server.review)}/waiver"
    origin = f"http://127.0.0.1:{server.server_port}"
    for wrong in (path.replace(server.token, "x" * 32), path.replace("/waiver", "/other")):
        assert ask(server, wrong, method="POST", body=urlencode(WAIVER))[0] in (403, 404)
    assert not server.review.waivers.exists()
    status, _, text = ask(
        server, path, method="POST", body=urlencode(WAIVER), Origin=origin, Sec_Fetch_Site="same-origin"
    )
    assert status == 200
    assert "Added to" in text
    assert "rule: missing-client-certificate" in server.review.waivers.read_text()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("a=b", {"Content_Type": "application/json"}, 400),
        ("a=b", {"Content_Type": "text/plain"}, 400),
        ("a=b", {"Content_Length": "-1"}, 400),
        ("a=b", {"Content_Length": "x"}, 400),
        ("a=b", {"Content_Length": str(MOST_FORM_BYTES + 1)}, 413),
        ("&".join(f"k{n}=v" for n in range(40)), {}, 400),
        ("nothing", {}, 400),
        ("a=%ff", {}, 400),
    ],
)  # fmt: skip
def test_forms_that_are_none(server, body, headers, status):
    path = f"{server.base}/audit/2/finding/{finding(server.review)}/waiver"
    assert ask(server, path, method="POST", body=body, **headers)[0] == status


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH"])
def test_other_methods(server, method):
    status, headers, text = ask(server, method=method)
    assert status == 501
    assert server.token not in text + str(headers)


def test_a_page_is_not_written_to(server):
    assert ask(server, method="POST", body="a=b")[0] == 404


def test_head_has_no_body(server):
    status, headers, text = ask(server, method="HEAD")
    assert (status, text) == (200, "")
    assert int(headers["Content-Length"]) > 1000


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd", "/audit/../../../etc/passwd", "/audit/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/audit/1/connection/..%2f..%2fx",
        "/audit/1/connection/<script>", "/audit/99", "/audit/1/connection/0123456789", "/audit/1/finding/F-0/waiver", "/audit/1%00",
        "/static/style.css", "/audit/-1", "/compare?before=77&after=78", "/compare?before=..%2f&after='%20OR%201=1",
    ],
)  # fmt: skip
def test_what_is_not_in_the_store_is_not_there(server, path):
    status, _, text = ask(server, server.base + path.replace(" ", "%20"))
    assert status == 404
    assert "root:x" not in text
    assert "<script>" not in text.split("</style>")[1]


@pytest.mark.parametrize(
    "raw",
    [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 64 + b"\r\n\r\n",
     b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 300 + b"\r\n", b"POST / HTTP/1.1\r\n\r\n"],
    ids=["nothing", "no-path", "no-version", "tls", "long", "many-headers", "bare-post"],
)  # fmt: skip
def test_what_is_no_request_harms_nobody(server, raw, capfd):
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=60) as line:
        line.sendall(raw)
        line.shutdown(socket.SHUT_WR)
        assert server.token.encode() not in line.makefile("rb").read()
    assert ask(server)[0] == 200
    assert capfd.readouterr() == ("", "")


def test_nobody_hears_of_who_asks(server, capfd):
    ask(server)
    ask(server, "/x")
    assert capfd.readouterr() == ("", "")


def test_an_error_of_ours_quotes_nothing(server, monkeypatch):
    def fail(*_):
        raise ValueError("secret of the wire")

    monkeypatch.setattr(pages, "open_history", fail)
    status, _, text = ask(server)
    assert status == 500
    assert "ValueError" in text
    assert "secret" not in text


def test_a_port_that_is_taken_is_told(server):
    with pytest.raises(ConfigError, match="cannot listen on port"):
        Server(server.review, server.server_port)
