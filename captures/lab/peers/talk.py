"""What a VM of the lab says and answers beside the TLS peers of ``captures/tls/peers``: HTTP, NATS, MySQL, SSH, DNS, bare TCP and UDP.

One process a VM. It reads a JSON object a line (``do``: what), and answers one a line with the same ``id``. Servers report each connection
by themselves, with ``server`` true. A client binds the source port that it is told, so that its report and the capture are joined by the tuple.

    talk.py KEYS            the loop
    talk.py pipe SPEC       standard input and output over one TCP connection, in TLS where SPEC asks for it (ssh's ProxyCommand)
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import selectors
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOCK = threading.Lock()
SESSIONS: dict[str, tuple[ssl.SSLContext, ssl.SSLSession | None]] = {}
LISTENING: dict[int, socket.socket] = {}
HELD: dict[str, threading.Event] = {}
KEYS = Path()
PATIENCE = 8.0
Said = dict[str, Any]

VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}


NAMED = {"TLSv1": "1.0", "TLSv1.1": "1.1", "TLSv1.2": "1.2", "TLSv1.3": "1.3"}


def tell(said: Said) -> None:
    with LOCK:
        print(json.dumps(said), flush=True)


def why(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


# TLS, on Python's ssl (OpenSSL)


def context(wish: Said, server: bool) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    least, _, most = str(wish.get("tls", "1.2-1.3")).partition("-")
    made.maximum_version = VERSIONS[most or least]
    made.minimum_version = VERSIONS[least]
    if "suites" in wish or least in {"1.0", "1.1"}:
        made.set_ciphers(wish.get("suites", "ALL:@SECLEVEL=0"))
    made.load_verify_locations(str(KEYS / "ca.pem"))
    if wish.get("cert"):
        made.load_cert_chain(str(KEYS / f"{wish['cert']}.pem"), str(KEYS / f"{wish['cert']}.key"))
    if server:
        made.verify_mode = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}[
            wish.get("asks", "none")
        ]
    elif wish.get("lax"):
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    if wish.get("alpn"):
        made.set_alpn_protocols([wish["alpn"]])
    return made


def shown(conn: ssl.SSLSocket) -> Said:
    der = conn.getpeercert(binary_form=True)
    return {
        "version": NAMED.get(conn.version() or "", "-"),
        "resumed": bool(conn.session_reused),
        "saw": hashlib.sha1(der).hexdigest() if der else "-",  # noqa: S324  (a name, as nginx gives it)
    }


def wrap(raw: socket.socket, wish: Said, said: Said) -> ssl.SSLSocket:
    slot = wish.get("slot")
    made, session = SESSIONS.get(slot, (None, None)) if slot else (None, None)
    made = made or context(wish, server=False)
    conn = made.wrap_socket(raw, server_hostname=wish.get("name", "lab"), session=session)
    said.update(shown(conn))
    if slot:
        SESSIONS.setdefault(slot, (made, None))
    return conn


def keep(conn: ssl.SSLSocket, wish: Said) -> None:
    """The session, once its ticket came."""
    slot = wish.get("slot")
    if slot and conn.session is not None and SESSIONS[slot][1] is None:
        SESSIONS[slot] = (SESSIONS[slot][0], conn.session)


# Clients. Each takes what is wished, fills in what it saw, and raises where it was turned away.


def dial(wish: Said) -> socket.socket:
    raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    raw.settimeout(wish.get("patience", PATIENCE))
    raw.bind(("", wish["from"]))
    raw.connect((wish["to"], wish["port"]))
    return raw


def pause(wish: Said, rounds_left: int) -> None:
    """Where the connection is to be held before its last round: say so, and wait for the word."""
    if wish.get("hold") and rounds_left == 1:
        HELD[wish["id"]] = threading.Event()
        tell({"id": wish["id"], "held": True})
        HELD[wish["id"]].wait(900)


def http_rounds(conn: socket.socket, wish: Said, said: Said) -> None:
    """Requests one after the other on one connection; their statuses are the answer."""
    said["statuses"] = []
    requests = wish.get("requests") or [{"path": "/v1/ping"}] * wish.get("rounds", 1)
    for number, each in enumerate(requests):
        pause(wish, len(requests) - number)
        head = [f"{each.get('method', 'GET')} {each['path']} HTTP/1.1", f"Host: {wish.get('name', wish['to'])}"]
        head += [f"{key}: {value}" for key, value in each.get("headers", {}).items()]
        if number == len(requests) - 1:
            head.append("Connection: close")
        conn.sendall(("\r\n".join(head) + "\r\n\r\n").encode())
        answer = http.client.HTTPResponse(conn, method=each.get("method", "GET"))
        answer.begin()
        answer.read()
        said["statuses"].append(answer.status)
    if any(status >= 400 for status in said["statuses"]):
        raise PermissionError(f"HTTP {said['statuses'][-1]}")


def do_tls(wish: Said, said: Said) -> None:
    raw = dial(wish)
    with contextlib.closing(raw):
        conn = wrap(raw, wish, said)
        with contextlib.closing(conn):
            http_rounds(conn, wish, said)
            keep(conn, wish)


def do_http(wish: Said, said: Said) -> None:
    with contextlib.closing(dial(wish)) as conn:
        http_rounds(conn, wish, said)


def do_nats(wish: Said, said: Said) -> None:
    raw: socket.socket = dial(wish)
    with contextlib.closing(raw):
        line = b""
        while not line.endswith(b"\r\n"):
            line += raw.recv(1) or b"\r\n"
        info = json.loads(line[5:])
        said["info"] = {key: bool(info.get(key)) for key in ("auth_required", "tls_required", "tls_verify")}
        if "tls" in wish:
            raw = wrap(raw, wish, said)
        hello = {"verbose": False, "pedantic": False, "name": "route-emitter", "lang": "lab", **wish.get("login", {})}
        raw.sendall(f"CONNECT {json.dumps(hello)}\r\nPING\r\n".encode())
        read = raw.makefile("rb")
        answer = read.readline()
        if answer.startswith(b"-ERR") or not answer:
            raise PermissionError(answer.decode().strip() or "the server closed")
        note = b'{"uris":["app.example"]}'
        for number in range(wish.get("rounds", 2)):
            pause(wish, wish.get("rounds", 2) - number)
            raw.sendall(b"PUB router.register %d\r\n%s\r\nPING\r\n" % (len(note), note))
            answer = read.readline()
            if not answer.startswith(b"PONG"):
                raise PermissionError(answer.decode().strip())
        if isinstance(raw, ssl.SSLSocket):
            keep(raw, wish)


def do_mysql(wish: Said, said: Said) -> None:
    import pymysql

    class Context(ssl.SSLContext):
        """Hands PyMySQL's handshake to ours, which knows sessions."""

        def wrap_socket(self, sock: socket.socket, *_: Any, **__: Any) -> ssl.SSLSocket:  # type: ignore[override]
            return wrap(sock, wish, said)

    class Login(pymysql.connections.Connection):
        """Offers the plugin that it is told to offer, and notes which one the server asked for last."""

        def _get_server_information(self) -> None:
            super()._get_server_information()
            self._auth_plugin_name = wish.get("plugin", self._auth_plugin_name)
            said["plugin"] = self._auth_plugin_name

        def _process_auth(self, plugin_name: bytes | str, *rest: Any) -> Any:
            said["plugin"] = plugin_name.decode() if isinstance(plugin_name, bytes) else plugin_name
            return super()._process_auth(plugin_name, *rest)

    conn = Login(
        host=wish["to"],
        user=wish["user"],
        password=wish.get("password", ""),
        ssl=Context(ssl.PROTOCOL_TLS_CLIENT) if "tls" in wish else None,
        ssl_disabled="tls" not in wish,
        defer_connect=True,
        charset="utf8mb4",
    )
    conn.connect(dial(wish))
    try:
        with conn.cursor() as cursor:
            for number in range(wish.get("rounds", 2)):
                pause(wish, wish.get("rounds", 2) - number)
                cursor.execute(
                    "SELECT CURRENT_USER(), host FROM information_schema.processlist WHERE id = CONNECTION_ID()"
                )
                said["server_says"] = dict(zip(("user", "peer"), cursor.fetchone(), strict=True))
            cursor.execute("SHOW SESSION STATUS WHERE Variable_name IN ('Ssl_version', 'Ssl_session_reused')")
            said["server_says"] |= dict(cursor.fetchall())
        if "tls" in wish:
            keep(conn._sock, wish)
    finally:
        conn.close()


def do_tcp(wish: Said, said: Said) -> None:
    with contextlib.closing(dial(wish)) as conn:
        said["connected"] = True
        if wish.get("send"):
            conn.sendall(bytes.fromhex(wish["send"]))
            said["got"] = len(conn.recv(4096))
            if not said["got"]:
                raise PermissionError("the server closed")


def do_ssh(wish: Said, said: Said) -> None:
    """OpenSSH itself; its connection is made by ``pipe``, from the source port that was told."""
    spec = KEYS / f"pipe-{wish['from']}.json"
    spec.write_text(json.dumps({"keys": str(KEYS), **wish}))
    options = {
        "ProxyCommand": f"{sys.executable} {Path(__file__).resolve()} pipe {spec}",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
        "IdentityFile": str(KEYS / wish["key"]),
        "IdentitiesOnly": "yes",
        "PreferredAuthentications": wish.get("by", "publickey"),
        "NumberOfPasswordPrompts": "0",
        "BatchMode": "yes",
    }
    command = ["ssh", "-F", "/dev/null", *(f"-o{key}={value}" for key, value in options.items())]
    done = subprocess.run(
        [*command, f"root@{wish['to']}", "echo lab"], capture_output=True, text=True, timeout=30, check=False
    )
    seen = spec.with_suffix(".said")
    if seen.exists():
        said.update(json.loads(seen.read_text()))
    if done.returncode or "lab" not in done.stdout:
        lines = [line for line in done.stderr.splitlines() if "Permanently added" not in line]
        raise PermissionError(" ".join(lines[-2:]) or f"ssh ended with {done.returncode}")


def do_dns(wish: Said, said: Said) -> None:
    """A question for an address; RFC 1035 section 4."""
    name = b"".join(bytes([len(part)]) + part.encode() for part in wish["name"].split("."))
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as conn:
        conn.settimeout(PATIENCE)
        conn.bind(("", wish["from"]))
        question = struct.pack(">6H", wish["from"], 0x0100, 1, 0, 0, 0) + name + struct.pack(">x2H", 1, 1)
        conn.sendto(question, (wish["to"], wish["port"]))
        answer = conn.recv(1500)
        said["answers"] = struct.unpack(">H", answer[6:8])[0]


def do_udp(wish: Said, said: Said) -> None:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as conn:
        conn.bind(("", wish["from"]))
        for _ in range(wish.get("rounds", 3)):
            conn.sendto(bytes.fromhex(wish["send"]), (wish["to"], wish["port"]))
            time.sleep(0.02)
        said["sent"] = True


# Servers


def serve_http(raw: socket.socket, _: Said, said: Said) -> None:
    """Plain HTTP that checks nothing, or a Basic password where one is asked for."""
    read = raw.makefile("rb")
    said["served"] = 0
    while line := read.readline():
        headers = http.client.parse_headers(read)
        asked = said.get("basic")
        status = "401 Unauthorized" if asked and headers.get("Authorization") != asked else "200 OK"
        said["status"] = int(status[:3])
        body = f"{line.split()[1].decode()} is well\n".encode() * 9
        raw.sendall(
            f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        said["served"] += status.startswith("200")
        if headers.get("Connection") == "close":
            break
    said["result"] = "ok" if said["served"] else "refused"


def serve_echo(raw: socket.socket, _: Said, said: Said) -> None:
    """Answers any bytes with bytes of its own: a protocol that nobody knows."""
    count = 0
    while data := raw.recv(4096):
        raw.sendall(bytes((each * 7 + 129) & 0xFF | 0x80 for each in data))
        count += 1
    said["result"] = "ok" if count else "none"


def serve_tls(raw: socket.socket, wish: Said, said: Said) -> None:
    conn = wish["context"].wrap_socket(raw, server_side=True)
    said.update(shown(conn))
    if "relay" in wish:
        with contextlib.closing(socket.create_connection(("127.0.0.1", wish["relay"]))) as inner:
            said["result"] = "ok" if pump(conn, inner) else "refused"
        conn.close()
        return
    serve_http(conn, wish, said)


def pump(one: socket.socket, other: socket.socket) -> bool:
    """Bytes both ways until either ends; whether any came back."""
    one.settimeout(None)
    other.settimeout(None)
    came = False
    picked = selectors.DefaultSelector()
    picked.register(one, selectors.EVENT_READ, other)
    picked.register(other, selectors.EVENT_READ, one)
    while True:
        for key, _ in picked.select(10):
            data = key.fileobj.recv(16384)  # type: ignore[union-attr]
            while isinstance(key.fileobj, ssl.SSLSocket) and key.fileobj.pending():
                data += key.fileobj.recv(16384)
            if not data:
                return came
            came |= key.fileobj is other
            key.data.sendall(data)


SERVERS: dict[str, Callable[[socket.socket, Said, Said], None]] = {
    "http": serve_http,
    "echo": serve_echo,
    "tls": serve_tls,
}


def do_listen(wish: Said, said: Said) -> None:
    serve = SERVERS[wish["kind"]]
    if wish["kind"] == "tls":
        wish["context"] = context(wish, server=True)
    listener = socket.create_server(("", wish["port"]))
    LISTENING[wish["port"]] = listener

    def one(raw: socket.socket, peer: tuple[str, int]) -> None:
        heard: Said = {"server": True, "peer": f"{peer[0]}:{peer[1]}", "port": wish["port"], "result": "refused"}
        heard["basic"] = wish.get("basic")
        raw.settimeout(PATIENCE)
        with contextlib.closing(raw):
            try:
                serve(raw, wish, heard)
            except Exception as error:
                heard["says"] = why(error)
        heard.pop("basic")
        tell(heard)

    def loop() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=one, args=listener.accept(), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()
    said["ready"] = True


def do_close(wish: Said, said: Said) -> None:
    listener = LISTENING.pop(wish["port"])
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    said["closed"] = True


def run(wish: Said) -> None:
    said: Said = {"id": wish["id"], "result": "ok"}
    try:
        globals()[f"do_{wish['do']}"](wish, said)
    except Exception as error:
        said |= {"result": "refused", "says": why(error)}
    tell(said)


def pipe(spec: Path) -> None:
    """What ssh writes goes over the connection, what comes is ssh's."""
    global KEYS  # noqa: PLW0603  (given once, on the command line)
    wish = json.loads(spec.read_text())
    KEYS = Path(wish["keys"])
    said: Said = {}
    try:
        conn: socket.socket = dial(wish)
        if "tls" in wish:
            conn = wrap(conn, wish, said)
            spec.with_suffix(".said").write_text(json.dumps(said))
        conn.settimeout(None)
    except OSError as error:
        spec.with_suffix(".said").write_text(json.dumps(said))
        sys.exit(why(error))

    picked = selectors.DefaultSelector()
    picked.register(0, selectors.EVENT_READ)
    picked.register(conn, selectors.EVENT_READ)
    with contextlib.suppress(OSError):
        while True:
            for key, _ in picked.select(30):
                if key.fileobj == 0:
                    data = os.read(0, 16384)
                    conn.sendall(data)
                else:
                    data = conn.recv(16384)
                    while isinstance(conn, ssl.SSLSocket) and conn.pending():
                        data += conn.recv(16384)
                    os.write(1, data)
                if not data:
                    return


def main() -> None:
    global KEYS  # noqa: PLW0603  (given once, on the command line)
    if sys.argv[1] == "pipe":
        pipe(Path(sys.argv[2]))
        return
    KEYS = Path(sys.argv[1])
    for line in sys.stdin:
        wish = json.loads(line)
        if wish["do"] == "go_on":
            HELD[wish["id"]].set()
        elif wish.get("hold"):
            threading.Thread(target=run, args=(wish,), daemon=True).start()
        else:
            run(wish)


main()
