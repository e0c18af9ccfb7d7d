"""Client and server on tlslite-ng, a TLS written in Python alone; the commands are those of peer.h.

Usage: peer_tlslite.py KEYS
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from pathlib import Path

from tlslite.api import HandshakeSettings, SessionCache, TLSConnection, X509CertChain, parsePEMKey

KEYS = Path(sys.argv[1])
SLOTS: dict[str, object] = {}
LOCK = threading.Lock()


def say(*words: object) -> None:
    with LOCK:
        print("\t".join(str(word).replace("\t", " ").replace("\n", " ") for word in words), flush=True)


def why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def load(name: str):
    chain = X509CertChain()
    chain.parsePemList((KEYS / f"{name}.pem").read_text())
    return chain, parsePEMKey((KEYS / f"{name}.key").read_text(), private=True)


def settings(version: str, hrr: str = "0"):
    made = HandshakeSettings()
    made.minVersion = made.maxVersion = (3, 4) if version == "1.3" else (3, 3)
    if hrr == "1":
        made.eccCurves = ["secp384r1"]
        made.keyShares = ["secp384r1"]
        made.defaultCurve = "secp384r1"
        made.dhGroups = []
    return made


def serve(raw: socket.socket, version: str, mode: str, hrr: str, cache, ticket_key) -> None:
    seen, again, subject, rounds, says = "-", False, "-", 0, ""
    raw.settimeout(5)
    host = raw.getsockname()[0]
    conn = TLSConnection(raw)
    try:
        chain, key = load("server")
        wanted = settings(version, hrr)
        wanted.ticketKeys = [ticket_key]
        conn.handshakeServer(
            certChain=chain, privateKey=key, reqCert=mode != "none", sessionCache=cache, settings=wanted
        )
        seen, again = f"TLSv1.{conn.version[1] - 1}", conn.resumed
        sent = conn.session.clientCertChain
        subject = "a certificate" if sent and not again else "-"
        if mode == "required" and not again and not sent:
            raise PermissionError("no certificate")  # the library leaves the refusal to its user
        got = b""
        while more := bytes(conn.recv(17000)):
            got += more
            if not got.endswith(b"\r\n\r\n"):
                continue
            body = len(got) * 7 % 900 + 2
            conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % body + b"o" * body)
            rounds += 1
            if b"Connection: close" in got:
                break
            got = b""
    except Exception as error:
        says = why(error)
    with contextlib.suppress(Exception):
        conn.close()
    raw.close()
    say("server", host, seen, int(bool(again)), subject, "ok" if rounds else "refused", "" if rounds else says)


def listen(port: str, version: str, mode: str, hrr: str) -> None:
    listener = socket.create_server(("0.0.0.0", int(port)))  # noqa: S104  (in a network namespace of its own)
    cache = SessionCache()
    ticket_key = bytearray(b"k" * 32)

    def loop() -> None:
        while True:
            raw, _ = listener.accept()
            serve(raw, version, mode, hrr, cache, ticket_key)

    threading.Thread(target=loop, daemon=True).start()
    say("ready", port)


def connect(
    host: str, port: int, version: str, cert: str, slot: str, rounds: int, size: int, close_first: bool
) -> None:
    try:
        chain, key = load(cert) if cert != "-" else (None, None)
        raw = socket.create_connection((host, port), timeout=5)
    except Exception as error:
        say("client", "-", 0, "cannot", why(error))
        return
    conn, seen, again = TLSConnection(raw), "-", False
    try:
        conn.handshakeClientCert(
            chain, key, session=SLOTS.get(slot), settings=settings(version), serverName="server.example"
        )
        seen, again = f"TLSv1.{conn.version[1] - 1}", conn.resumed
        for i in range(rounds):
            head = b"GET / HTTP/1.1\r\nHost: server.example\r\n"
            if close_first and i == rounds - 1:
                head += b"Connection: close\r\n"
            head += b"X-Pad: "
            conn.sendall(head + b"x" * max(0, size - 4 - len(head)) + b"\r\n\r\n")
            if not conn.recv(17000):
                raise EOFError("connection ended")
        if close_first:
            conn.recv(17000)
        if slot != "-" and slot not in SLOTS:
            SLOTS[slot] = conn.session
        with contextlib.suppress(Exception):
            conn.close()
        say("client", seen, int(bool(again)), "ok", "")
    except Exception as error:
        say("client", seen, int(bool(again)), "refused", why(error))
    raw.close()


def main() -> None:
    for line in sys.stdin:
        words = line.rstrip("\n").split("\t")
        if words[0] == "listen":
            listen(*words[1:])
        elif words[0] == "connect":
            host, port, version, cert, slot, rounds, size, close_first = words[1:]
            connect(host, int(port), version, cert, slot, int(rounds), int(size), close_first == "1")


main()
