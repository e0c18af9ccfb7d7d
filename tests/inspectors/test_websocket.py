"""WebSocket is named: HTTP that both ends agreed to turn into it, and nothing else."""

from __future__ import annotations

import pytest

from auditor.inspectors._examine import Examiner
from tests.inspectors.heads import says

ASKED = (
    b"GET / HTTP/1.1\r\nHost: nats\r\nConnection: Upgrade\r\nupgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
AGREED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@pytest.mark.parametrize("collect", [True, False])
def test_a_request_that_was_granted_is_websocket(collect: bool) -> None:
    examiner = Examiner(collect=collect)
    application, side, facts = says(examiner, ASKED + b"\x82\x85mask12345", AGREED + b"\x82\x04INFO")
    assert (application, side) == ("websocket", 0)
    if collect:
        assert facts["http.statuses"] == (101,)
        assert facts["http.authorization"] == ("none",)


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (ASKED, b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"),
        (ASKED, b""),
        (ASKED.replace(b"WebSocket", b"h2c"), AGREED),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\nupgrade: websocket\r\n", AGREED),
        (b"", AGREED),
    ],
)
def test_anything_else_is_http(client: bytes, server: bytes) -> None:
    assert says(Examiner(), client, server)[0] == "http"
