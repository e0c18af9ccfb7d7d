"""Packets of a finding, on demand: the agent cuts them out of its ring for whoever has a certificate that it accepts.

A request names connections by their ends and times; the answer is a capture file. It holds what crossed the wire, passwords too: so only names in ``ring.readers`` get one.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from auditor.agents.transport import (
    AGENT_PORT,
    Ask,
    Packets,
    Refused,
    Wanted,
    address_of,
    allowed,
    context,
    message,
    names_of,
    receive,
)
from auditor.errors import AuditorError, ConfigError, InputError, WireError
from auditor.slices import cut as cutting

PATIENCE_SECONDS: Final = 120.0
HANDSHAKE_SECONDS: Final = 15.0
MOST_CONNECTIONS: Final = 2_000
PIECE: Final = 256 * 1024
SLACK_NS: Final = 60_000_000_000
"""Files of the ring are left out by their dates with so much room: clocks of packets and of files may differ."""
SCHEME: Final = "agent://"
_HEX: Final = re.compile(r"[0-9a-f]{1,32}")
_ID: Final = re.compile(r"[0-9a-f]{1,40}")


@dataclass(slots=True)
class PacketServer:
    """Answers requests for packets, one after the other."""

    folder: Path
    listen: str
    tls: ssl.SSLContext
    readers: Sequence[str]
    say: Callable[..., None]
    port: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)
    _socket: socket.socket | None = None

    def start(self) -> None:
        """Listen, in a thread. Raises ConfigError."""
        host, port = address_of(self.listen, AGENT_PORT)
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._socket = socket.create_server((host, port), family=family, backlog=16)
        except OSError as error:
            raise ConfigError(
                "ring.listen", f"{self.listen}: {error.strerror or error}", hint="name another address"
            ) from None
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, args=(self._socket,), name="packets", daemon=True).start()

    def stop(self) -> None:
        """Answer nobody any more."""
        self.stopped.set()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _serve(self, listening: socket.socket) -> None:
        while not self.stopped.is_set():
            try:
                plain, _ = listening.accept()
            except OSError:
                return
            with plain, contextlib.suppress(OSError, EOFError, WireError, ValueError):
                plain.settimeout(HANDSHAKE_SECONDS)
                with self.tls.wrap_socket(plain, server_side=True) as connection:
                    self._answer(connection)

    def _answer(self, connection: ssl.SSLSocket) -> None:
        certificate = connection.getpeercert()
        ask = receive(connection, Ask, 1 << 20)
        who = ", ".join(sorted(names_of(certificate))[:3])[:200] or "nobody"
        if not allowed(certificate, self.readers):
            self.say("refused", f"packets were asked for by {who}, who may not have them", "warning")
            connection.sendall(
                message(Refused(f"{who} may not have packets: it is not among the readers of this agent"))
            )
            return
        connection.settimeout(PATIENCE_SECONDS)
        wanted = [_checked(each) for each in ask.connections[:MOST_CONNECTIONS]]
        with tempfile.TemporaryFile(prefix="auditor-packets-") as file:
            try:
                done = cutting.cut(self._files(wanted), wanted, file)
            except AuditorError as error:
                connection.sendall(message(Refused(str(error))))
                return
            self.say("packets", f"{done.frames} packets of {len(done.connections)} connections for {who}")
            file.seek(0)
            while piece := file.read(PIECE):
                connection.sendall(message(Packets(piece)))
            connection.sendall(message(Packets(b"")))

    def _files(self, wanted: Sequence[cutting.Wanted]) -> list[Path]:
        """Those of the ring that may hold packets of that time, the oldest first."""
        first = min((each.first_ns for each in wanted), default=0) - SLACK_NS
        found = []
        for path in self.folder.glob("*.pcap"):
            with contextlib.suppress(OSError):
                told = path.stat()
                if told.st_mtime_ns >= first and told.st_size:
                    found.append((told.st_mtime_ns, path))
        return [path for _, path in sorted(found)]


def _checked(each: Wanted) -> cutting.Wanted:
    """Raises WireError."""
    numbers = (each.originator_port, each.responder_port)
    times = (each.first_ns, each.last_ns)
    if (
        not (_HEX.fullmatch(each.originator) and _HEX.fullmatch(each.responder) and _ID.fullmatch(each.id))
        or any(not 0 <= port < 65_536 for port in numbers)
        or not 0 <= each.protocol < 256
        or any(abs(time) >= 1 << 62 for time in times)
    ):
        raise WireError("a connection is none")
    return cutting.Wanted(
        each.id,
        (int(each.originator, 16), each.originator_port),
        (int(each.responder, 16), each.responder_port),
        each.protocol,
        each.first_ns,
        each.last_ns,
        "",
        "",
    )


# Asking


def fetch(source: str, wanted: Sequence[cutting.Wanted], credentials: Path, out: IO[bytes]) -> int:
    """The packets that the agent ``agent://HOST[:PORT]`` has of connections, as a capture; their bytes. Raises InputError, ConfigError.

    credentials: a folder with ``ca.pem``, ``cert.pem`` and ``key.pem``.
    """
    text = source.removeprefix(SCHEME)
    host, port = address_of(text.rstrip("/"), AGENT_PORT)
    tls = context(*(str(credentials / name) for name in ("ca.pem", "cert.pem", "key.pem")), server=False)
    # An agent is asked for by its address; its certificate has its name, and the CA of the agents vouches for that.
    tls.check_hostname = False
    ask = Ask(
        [
            Wanted(each.id, f"{each.originator[0]:x}", each.originator[1], f"{each.responder[0]:x}", each.responder[1], each.protocol, each.first_ns, each.last_ns)
            for each in wanted[:MOST_CONNECTIONS]
        ]
    )  # fmt: skip
    size = 0
    try:
        with socket.create_connection((host, port), HANDSHAKE_SECONDS) as plain, tls.wrap_socket(plain) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            connection.sendall(message(ask))
            while True:
                each: Any = receive(connection, Packets | Refused, 2 * PIECE)
                if isinstance(each, Refused):
                    raise InputError(source, each.says)
                if not each.data:
                    return size
                size += len(each.data)
                out.write(each.data)
    except ssl.SSLCertVerificationError as error:
        raise InputError(source, f"its certificate is not accepted: {error.verify_message}") from None
    except (OSError, EOFError, WireError) as error:
        says = (
            "it ended the connection: your certificate may not be one that it accepts"
            if isinstance(error, EOFError | ssl.SSLError | ConnectionError)
            else "no agent answers"
        )
        raise InputError(source, f"{says} ({getattr(error, 'strerror', None) or type(error).__name__})") from None
