"""Client and server on Python's ssl interface: OpenSSL (module ``ssl``) or a newer rustls (module ``rtls``); the commands are those of peer.h.

Usage: peer_ssl.py KEYS MODULE
"""

from __future__ import annotations

import contextlib
import importlib
import socket
import sys
import threading
from pathlib import Path

KEYS, ssl = Path(sys.argv[1]), importlib.import_module(sys.argv[2])
SLOTS: dict[str, tuple[object, object]] = {}
LOCK = threading.Lock()


def say(*words: object) -> None:
    with LOCK:
        print("\t".join(str(word).replace("\t", " ").replace("\n", " ") for word in words), flush=True)


def context(version: str, server: bool):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    only = ssl.TLSVersion.TLSv1_3 if version == "1.3" else ssl.TLSVersion.TLSv1_2
    made.minimum_version = made.maximum_version = only
    return made


def load(made, name: str) -> None:
    made.load_cert_chain(str(KEYS / f"{name}.pem"), str(KEYS / f"{name}.key"))


def why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def resumed(conn) -> bool:
    """rtls answers False always; the other end's word then decides."""
    return bool(getattr(conn, "session_reused", False))


def serve(raw: socket.socket, made) -> None:
    version, again, subject, rounds, says = "-", False, "-", 0, ""
    raw.settimeout(5)
    host = raw.getsockname()[0]
    try:
        conn = made.wrap_socket(raw, server_side=True)
        version, again = conn.version(), resumed(conn)
        der = conn.getpeercert(binary_form=True)
        if der:
            from cryptography import x509

            subject = x509.load_der_x509_certificate(der).subject.rfc4514_string()
        got = b""
        while more := conn.recv(17000):
            got += more
            if not got.endswith(b"\r\n\r\n"):
                continue
            body = len(got) * 7 % 900 + 2
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % body + b"o" * body)
            rounds += 1
            if b"Connection: close" in got:
                break
            got = b""
        with contextlib.suppress(OSError):
            conn.settimeout(0.2)
            conn.unwrap().close()
    except Exception as error:
        says = why(error)
    with contextlib.suppress(OSError):
        raw.close()
    with contextlib.suppress(Exception):
        conn.close()
    say("server", host, version, int(again), subject, "ok" if rounds else "refused", "" if rounds else says)


def listen(port: str, version: str, mode: str, hrr: str) -> None:
    try:
        made = context(version, server=True)
        load(made, "server")
        made.load_verify_locations(str(KEYS / "ca.pem"))
        if ssl.__name__ == "rtls" and (mode != "none" or hrr == "1"):
            # It reports no error: it takes both settings and does otherwise.
            verify, groups = (
                "that it is told to ask for a client certificate (verify_mode)",
                "which groups it is told to take (set_ecdh_curve)",
            )
            say("cannot", port, f"(our reason) rtls silently ignores {groups if mode == 'none' else verify}")
            return
        made.verify_mode = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}[mode]
        if hrr == "1":
            made.set_ecdh_curve("secp384r1")
        listener = socket.create_server(("0.0.0.0", int(port)))  # noqa: S104  (in a network namespace of its own)
    except Exception as error:
        say("cannot", port, why(error))
        return

    def loop() -> None:
        while True:
            raw, _ = listener.accept()
            serve(raw, made)

    threading.Thread(target=loop, daemon=True).start()
    say("ready", port)


def connect(
    host: str, port: int, version: str, cert: str, slot: str, rounds: int, size: int, close_first: bool
) -> None:
    try:
        made, session = SLOTS.get(slot, (None, None))
        if made is None:
            made = context(version, server=False)
            made.load_verify_locations(str(KEYS / "ca.pem"))
            if cert != "-":
                load(made, cert)
        raw = socket.create_connection((host, port), timeout=5)
    except Exception as error:
        say("client", "-", 0, "cannot", why(error))
        return
    seen, again = "-", False
    conn = None
    try:
        more = {"session": session} if session else {}
        conn = made.wrap_socket(raw, server_hostname="server.example", **more)
        seen, again = conn.version(), resumed(conn)
        for i in range(rounds):
            head = b"GET / HTTP/1.1\r\nHost: server.example\r\n"
            if close_first and i == rounds - 1:
                head += b"Connection: close\r\n"
            head += b"X-Pad: "
            conn.sendall(head + b"x" * max(0, size - 4 - len(head)) + b"\r\n\r\n")
            if not conn.recv(17000):
                raise EOFError("connection ended")
        again = again or resumed(conn)
        if close_first:
            conn.recv(17000)
        if slot != "-" and session is None:
            SLOTS[slot] = (made, conn.session)  # rtls: None; rustls keeps the session in the context
        with contextlib.suppress(OSError):
            conn.settimeout(0.2)
            conn.unwrap().close()
        say("client", seen, int(again), "ok", "")
    except Exception as error:
        say("client", seen, int(again), "refused", why(error))
    for each in (conn, raw):
        with contextlib.suppress(Exception):
            each.close()


def main() -> None:
    for line in sys.stdin:
        words = line.rstrip("\n").split("\t")
        if words[0] == "listen":
            listen(*words[1:])
        elif words[0] == "connect":
            host, port, version, cert, slot, rounds, size, close_first = words[1:]
            connect(host, int(port), version, cert, slot, int(rounds), int(size), close_first == "1")


main()
