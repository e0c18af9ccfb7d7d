"""Digests, and telling them to a real web hook and a real mail server."""

from __future__ import annotations

import asyncio
import email
import json
import socket
import threading
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aiosmtpd.controller import Controller

from auditor.errors import ConfigError
from auditor.jobs.config import NotifySection
from auditor.jobs.digest import NotToldError, address_of, digest_of, tell
from tests.report.make import HOSTILE

NEW = {
    "change": "new",
    "fingerprint": "a" * 32,
    "rule": "plaintext",
    "severity": "critical",
    "title": "cell talks in the clear",
    "path": "rep-to-cc",
    "count": 3,
}
GONE = {**NEW, "change": "gone", "fingerprint": "b" * 32, "severity": "low"}
NOW = 1_795_300_000_123_456_789


def section(**more):
    given = {"name": "team", "url": "json://127.0.0.1:1", **more}
    if "url_file" in more or "url_env" in more:
        del given["url"]
    return NotifySection.model_validate(given)


def test_a_digest_says_what_changed_and_has_a_key():
    told = digest_of("prod", section(), [NEW, GONE, {"change": "aside", "title": "x.pcap: is not a capture"}], [7], NOW)
    assert told["title"] == "[prod] Diego flow audit: 1 new, 1 files set aside"
    assert "- CRITICAL plaintext: cell talks in the clear [rep-to-cc]" in told["body"]
    assert told["body"].endswith(f"dedupe-key: {told['key']}")
    assert told["kind"] == "failure"
    later = digest_of(
        "prod", section(), [NEW, GONE, {"change": "aside", "title": "x.pcap: is not a capture"}], [7], NOW + 10**12
    )
    assert later["key"] == told["key"], "the key has no time in it"
    assert digest_of("prod", section(), [NEW], [8], NOW)["key"] != told["key"]


def test_only_what_somebody_wants_is_told():
    assert digest_of("prod", section(on=["new"]), [GONE], [1], NOW) is None
    assert digest_of("prod", section(), [GONE], [1], NOW) is None, "below medium"
    assert digest_of("prod", section(severity="low"), [GONE], [1], NOW)["kind"] == "success"
    assert digest_of("prod", section(), [], [1], NOW) is None


def test_a_digest_is_bounded_and_harmless():
    many = [
        {**NEW, "fingerprint": f"{k:032d}", "title": f"{HOSTILE[k % len(HOSTILE)]} {'x' * 1000}"} for k in range(500)
    ]
    told = digest_of("prod", section(), many, [1], NOW)
    assert len(told["body"]) < 12_000
    assert "- and 475 more" in told["body"]
    assert not any(ord(c) < 0x20 and c != "\n" for c in told["body"])
    assert "\u202e" not in told["body"]


def test_an_address_may_come_from_a_file_or_the_environment(tmp_path):
    file = tmp_path / "url"
    file.write_text("json://example/\n")
    assert address_of(section(url_file=str(file)), {}) == "json://example/"
    assert address_of(section(url_env="HOOK"), {"HOOK": "json://other/"}) == "json://other/"
    for given, says in (
        ({"url_env": "HOOK"}, "HOOK is not in the environment"),
        ({"url_file": str(tmp_path / "no")}, "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=says):
            address_of(section(**given), {})


@pytest.fixture
def hook():
    """A web hook: what it was sent, and the status that it answers with."""
    got: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        status = 200

        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(type(self).status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port, got, Handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_web_hook_is_told(hook):
    port, got, _ = hook
    told = digest_of("prod", section(), [NEW], [7], NOW)
    tell(section(url=f"json://user:hunter2@127.0.0.1:{port}/x"), told, {})
    [message] = got
    assert message["title"] == told["title"]
    assert told["key"] in message["message"]
    assert message["type"] == "failure"


def test_a_web_hook_that_fails_is_an_error_that_names_no_address(hook):
    port, got, handler = hook
    handler.status = 500
    with pytest.raises(NotToldError) as caught:
        tell(section(url=f"json://user:hunter2@127.0.0.1:{port}/x"), digest_of("prod", section(), [NEW], [7], NOW), {})
    assert str(caught.value) == "notify team: the receiver refused it"
    assert len(got) == 1
    with pytest.raises(ConfigError) as wrong:
        tell(section(url="nothing-of-ours://user:hunter2@x"), digest_of("prod", section(), [NEW], [7], NOW), {})
    assert "hunter2" not in str(wrong.value) + str(caught.value)


class _Inbox:
    def __init__(self):
        self.letters = []

    async def handle_DATA(self, _server, _session, envelope):  # noqa: N802  # as aiosmtpd calls it
        self.letters.append(envelope)
        await asyncio.sleep(0)
        return "250 OK"


def test_mail_is_sent_to_a_real_server(monkeypatch):
    inbox = _Inbox()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mail = Controller(inbox, hostname="127.0.0.1", port=port)
    mail.start()
    try:
        told = digest_of("prod", section(), [NEW], [7], NOW)
        tell(
            section(url=f"mailto://127.0.0.1:{port}?from=auditor@example.test&to=team@example.test&mode=insecure"),
            told,
            {},
        )
    finally:
        mail.stop()
    [letter] = inbox.letters
    assert letter.rcpt_tos == ["team@example.test"]
    message = email.message_from_bytes(letter.content, policy=default)
    assert message["Subject"] == told["title"]
    body = message.get_body(("plain",)) or message
    assert told["key"] in body.get_content()
