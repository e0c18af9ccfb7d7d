"""Makes nats.pcap, mysql.pcap and authorities.pcap with their key logs: logins inside TLS 1.2 and 1.3 at real servers, and flights of great length.

Run it as root on Debian 12: ``python captures/inside/make.py``. It needs nats-server, mariadb-server-core, tcpdump, and PyMySQL and cryptography from PyPI.
Servers and clients run on loopback, in a network namespace of their own, at addresses that inventory.yml names. The passwords say themselves
that they are none; the keys are made for the run and thrown away, and a key log opens nothing but its capture.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "sample"))

import pymysql
from _diego import AUTHORITY, FAKE_PASSWORD, certificate

HERE = Path(__file__).resolve().parent
NATS, BARE_NATS, MYSQL, CELL, DATABASE = "127.30.0.60", "127.30.0.61", "127.30.0.70", "127.30.0.20", "127.30.0.40"
INVENTORY = f"""\
# Who is who in the captures of this folder. Made by make.py.
schema: auditor.inventory/1
title: servers and clients on loopback
vms:
  - {{name: nats/0, ips: [{NATS}]}}
  - {{name: nats/1, ips: [{BARE_NATS}]}}
  - {{name: mysql_proxy/0, ips: [{MYSQL}]}}
  - {{name: diego_cell/0, ips: [{CELL}]}}
  - {{name: diego_database/0, ips: [{DATABASE}]}}
"""
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something."""
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    sys.exit(f"{what} did not come about")


def reached(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(*command: str) -> Iterator[None]:
    """A server, ended in the end."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            yield
        finally:
            server.terminate()


@contextlib.contextmanager
def captured(path: Path, port: int) -> Iterator[None]:
    """What crosses that port meanwhile."""
    command = ["tcpdump", "-i", "lo", "-s", "0", "-U", "-Z", "root", "-w", str(path), f"tcp port {port}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as dump:
        assert dump.stderr
        until(lambda: "listening on" in dump.stderr.readline(), "tcpdump")
        yield
        time.sleep(1)
        dump.send_signal(signal.SIGINT)
        dump.communicate()


def context(version: str, keylog: Path, own: str | None = None) -> ssl.SSLContext:
    """A client's, which tells its keys."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    made.minimum_version = made.maximum_version = VERSIONS[version]
    made.keylog_filename = str(keylog)
    if own:
        made.load_cert_chain(certificate(own).file)
    return made


def nats(work: Path) -> None:
    """Right and wrong passwords, none, and a server that asks nobody."""
    (work / "ca.pem").write_text(AUTHORITY.root_pem("natsCA"))
    server = certificate("nats_server").file
    tls = f'tls {{ cert_file: "{server}", key_file: "{server}", ca_file: "{work}/ca.pem", verify: true }}\n'
    login = f'authorization {{ user: nats, password: "{FAKE_PASSWORD}" }}\n'
    (work / "nats.conf").write_text(f"listen: {NATS}:4224\n{tls}{login}")
    (work / "bare.conf").write_text(f"listen: {BARE_NATS}:4224\n{tls}")
    keylog = HERE / "nats.keys"
    keylog.unlink(missing_ok=True)
    with running("nats-server", "-c", str(work / "nats.conf")), running("nats-server", "-c", str(work / "bare.conf")):
        until(lambda: reached(NATS, 4224) and reached(BARE_NATS, 4224), "nats-server")
        with captured(HERE / "nats.pcap", 4224):
            for version in VERSIONS:
                say_nats(NATS, 41_001, version, keylog, {"user": "nats", "pass": FAKE_PASSWORD})
                say_nats(NATS, 41_002, version, keylog, {"user": "nats", "pass": "this-is-wrong"})
                say_nats(NATS, 41_003, version, keylog, {})
                say_nats(BARE_NATS, 41_004, version, keylog, {"user": "nats", "pass": FAKE_PASSWORD})


def say_nats(host: str, port: int, version: str, keylog: Path, login: dict[str, str]) -> None:
    """One client: INFO, TLS, CONNECT, and messages as long as it may."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    plain.bind((CELL, port + (100 if version == "1.3" else 0)))
    plain.connect((host, 4224))
    assert plain.recv(4096).startswith(b"INFO ")
    with context(version, keylog, "nats_client").wrap_socket(plain) as inside:
        connect = {"verbose": False, "pedantic": False, "lang": "python", "tls_required": True, **login}
        with contextlib.suppress(OSError):
            inside.sendall(b"CONNECT " + json.dumps(connect).encode() + b"\r\nPING\r\n")
            while inside.recv(4096) == b"PONG\r\n":
                inside.sendall(b"PUB router.register 2\r\nhi\r\nPING\r\n")
                inside.recv(4096)
                break


def mysql(work: Path) -> None:
    """The native password, none at all, and a wrong one."""
    data, sock = work / "data", work / "mysql.sock"
    install = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal"]
    subprocess.run([*install, "--user=root"], check=True, capture_output=True)
    own = certificate("mysql_server").file
    (work / "ca.pem").write_text(AUTHORITY.root_pem("pxc_server_ca"))
    options = [
        f"--datadir={data}",
        f"--socket={sock}",
        f"--bind-address={MYSQL}",
        "--port=3306",
        "--user=root",
        "--skip-name-resolve",
    ]
    keys = [f"--ssl-cert={own}", f"--ssl-key={own}", f"--ssl-ca={work / 'ca.pem'}"]
    keylog = HERE / "mysql.keys"
    keylog.unlink(missing_ok=True)
    with running("mariadbd", "--no-defaults", *options, *keys):
        until(lambda: sock.exists() and reached(MYSQL, 3306), "mariadbd")
        with pymysql.connect(unix_socket=str(sock), user="root") as root, root.cursor() as cursor:
            cursor.execute(f"CREATE USER diego@'%' IDENTIFIED BY '{FAKE_PASSWORD}'")
            cursor.execute("CREATE USER bare@'%'")
        with captured(HERE / "mysql.pcap", 3306):
            for version in VERSIONS:
                for user, password in (("diego", FAKE_PASSWORD), ("bare", ""), ("diego", "this-is-wrong")):
                    with (
                        contextlib.suppress(pymysql.err.OperationalError),
                        pymysql.connect(
                            host=MYSQL,
                            user=user,
                            password=password,
                            ssl=context(version, keylog),
                            bind_address=DATABASE,
                        ) as client,
                        client.cursor() as cursor,
                    ):
                        cursor.execute("SELECT 1")


def authorities(work: Path) -> None:
    """A server that names 120 authorities in its request, so that its flight is longer than 8 KiB: a certificate, and none."""
    names = [
        AUTHORITY.root_pem("internalCA"),
        *(AUTHORITY.root_pem(f"authority {n} of very many, with a long name") for n in range(120)),
    ]
    (work / "ca.pem").write_text("".join(names))
    own = certificate("diego_bbs_server").file
    keylog = HERE / "authorities.keys"
    keylog.unlink(missing_ok=True)
    server = [
        "openssl",
        "s_server",
        "-accept",
        f"{DATABASE}:8889",
        "-cert",
        own,
        "-key",
        own,
        "-CAfile",
        str(work / "ca.pem"),
        "-verify",
        "1",
        "-www",
        "-quiet",
    ]
    with running(*server):
        until(lambda: reached(DATABASE, 8889), "openssl s_server")
        with captured(HERE / "authorities.pcap", 8889):
            for number, version in enumerate(VERSIONS):
                for shown in (True, False):
                    plain = socket.socket()
                    plain.bind((CELL, 41_000 + 2 * number + shown))
                    plain.connect((DATABASE, 8889))
                    own_name = "diego_bbs_client" if shown else None
                    with context(version, keylog, own_name).wrap_socket(plain) as inside:
                        inside.sendall(b"GET / HTTP/1.0\r\n\r\n")
                        while inside.recv(4096):
                            pass


def main() -> None:
    """Write the files."""
    if "--inside" not in sys.argv:
        if os.geteuid() != 0:
            sys.exit("this needs root: for tcpdump and for a network namespace of its own")
        inside = [
            "unshare",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            sys.executable,
            str(Path(__file__).resolve()),
            "--inside",
        ]
        subprocess.run(inside, check=True)
        return
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    (HERE / "inventory.yml").write_text(INVENTORY)
    for make in (nats, mysql, authorities):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder))
        print(f"{make.__name__}.pcap: {(HERE / f'{make.__name__}.pcap').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
