"""Who may see the pages of a review: only a user of this machine who has the address.

The server listens on 127.0.0.1 alone. Every address begins with a token that only this start of the program knows; there is no cookie, so a page of another
site that sends the browser here carries nothing that would be believed. Beside that, each request is refused unless

- ``Host`` is exactly this server's (a name that was made to point to 127.0.0.1 is none: DNS rebinding),
- ``Origin`` and ``Sec-Fetch-Site``, where the browser sends them, are this server's own,
- the token is right, compared in constant time, before anything else of the address is looked at.

Answers allow one script and two styles by their hashes and nothing else, may not be cached or framed, and cannot be read by another origin. Addresses name
audits, connections and findings of the store, never files. Requests are not logged: the address holds the token.
"""

from __future__ import annotations

import hmac
import io
import secrets
import shutil
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from auditor.errors import ConfigError
from auditor.report import html as report
from auditor.review import pages
from auditor.review.pages import Answer, Review

HOST = "127.0.0.1"
MOST_FORM_BYTES = 64 * 1024
MOST_PATH = 4_096
IDLE_S = 30.0
"""So long a request may take to come in."""

_FORM = "application/x-www-form-urlencoded"


def _policy() -> str:
    styles = " ".join(report.hash_source(text) for text in (report.style(), pages.style()))
    return (
        f"default-src 'none'; script-src {report.hash_source(report.script())}; style-src {styles}; img-src data:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )


class Server(ThreadingHTTPServer):
    """The pages of one review, until ``shutdown``."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, review: Review, port: int = 0) -> None:
        """Raises ConfigError where the port is taken."""
        self.review = review
        self.token = secrets.token_urlsafe(24)
        self.policy = _policy()
        try:
            super().__init__((HOST, port), Handler)
        except OSError as error:
            raise ConfigError(
                "--port", f"cannot listen on port {port}: {error.strerror or error}", hint="leave it out"
            ) from error

    @property
    def hosts(self) -> frozenset[str]:
        """What ``Host`` may say."""
        return frozenset(f"{name}:{self.server_port}" for name in (HOST, "localhost"))

    @property
    def base(self) -> str:
        """What every path begins with."""
        return f"/{self.token}"

    @property
    def address(self) -> str:
        """Where the browser is sent."""
        return f"http://{HOST}:{self.server_port}{self.base}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader who went away is not an error; others were answered."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    timeout = IDLE_S
    server_version = "auditor"
    sys_version = ""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is the library's
        """Nothing: the address holds the token."""

    def do_GET(self) -> None:
        """A page."""
        self._serve(None)

    def do_HEAD(self) -> None:
        """What a page would be."""
        self._serve(None)

    def do_POST(self) -> None:
        """A waiver."""
        form = self._form()
        if form is not None:
            self._serve(form)

    def _serve(self, form: dict[str, str] | None) -> None:
        if not self._trusted():
            self._refuse(HTTPStatus.FORBIDDEN)
            return
        parts = urlsplit(self.path)
        try:
            query = dict(parse_qsl(parts.query, max_num_fields=20))
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        base = self.server.base
        try:
            answer = self.server.review.answer(parts.path[len(base) :], query, form, base)
        except Exception as error:  # the last resort: its own text may quote what crossed the wire
            answer = self.server.review.sorry(base, 500, f"internal error: {type(error).__name__}; please report it")
        self._send(answer)

    def _trusted(self) -> bool:
        """Whether the request has the token of the address."""
        server = self.server
        if len(self.path) > MOST_PATH:
            return False
        head, _, _ = self.path.removeprefix("/").partition("/")
        known = hmac.compare_digest(head.encode("latin-1", "replace"), server.token.encode())
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower() not in server.hosts:
            return False
        origin = self.headers.get("Origin")
        if origin is not None and origin.lower() not in {f"http://{host}" for host in server.hosts}:
            return False
        site = self.headers.get("Sec-Fetch-Site")
        if site is not None and site not in ("same-origin", "none"):
            return False
        return known

    def _form(self) -> dict[str, str] | None:
        """What was filled in, or None where it is refused."""
        text = self.headers.get("Content-Length") or ""
        kind = (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower()
        if not self._trusted():
            self._refuse(HTTPStatus.FORBIDDEN)
            return None
        if kind != _FORM or not (text.isascii() and text.isdigit()) or self.headers.get("Transfer-Encoding"):
            self._refuse(HTTPStatus.BAD_REQUEST)
            return None
        if int(text) > MOST_FORM_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return None
        try:
            fields = parse_qsl(
                self.rfile.read(int(text)).decode("ascii"),
                keep_blank_values=True,
                strict_parsing=True,
                max_num_fields=30,
                errors="strict",
            )
        except ValueError:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return None
        return dict(fields)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The base class's answer to bytes that are no HTTP, without any text of the request."""
        self._refuse(HTTPStatus(code))

    def _refuse(self, status: HTTPStatus) -> None:
        self.close_connection = True
        self._send(Answer(f"{status.value} {status.phrase}\n".encode(), status.value), "text/plain; charset=utf-8")

    def _send(self, answer: Answer, kind: str = "text/html; charset=utf-8") -> None:
        if answer.file is None:
            self._write(answer, kind, len(answer.body))
            return
        with answer.file as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            self._write(answer, "application/zip", size)

    def _write(self, answer: Answer, kind: str, size: int) -> None:
        self.send_response(answer.status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(size)),
            *([("Content-Disposition", f'attachment; filename="{answer.name}"')] if answer.file is not None else []),
            ("Content-Security-Policy", self.server.policy),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cache-Control", "no-store"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if answer.file is None:
            self.wfile.write(answer.body)
        else:
            shutil.copyfileobj(answer.file, self.wfile)

    def finish(self) -> None:
        """As the base class, for readers who went away too."""
        try:
            super().finish()
        except (TimeoutError, OSError):
            self.close_connection = True
