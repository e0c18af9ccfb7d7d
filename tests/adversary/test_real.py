"""Attempts with real programs: each runs on a host of its own, tcpdump takes what crosses the wire, and the auditor reads that.

By night: they take seconds each, and need MariaDB, nginx, nats-server and OpenSSL.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import auditor
from tests.conftest import ROOT, absent
from tests.netns import PATIENCE_S, Net, until

pytestmark = pytest.mark.night

CELL, CLIENT_OF_MYSQL, BBS, NATS, MYSQL, BLOBS, OUTSIDE = (
    "10.0.4.20", "10.0.5.40", "10.0.4.40", "10.0.4.60", "10.0.4.70", "10.0.4.80", "203.0.113.9"
)  # fmt: skip


@pytest.fixture(scope="module")
def wire(net: Net) -> Net:
    """The hosts of the inventory of ``captures/rules``: ``a`` calls, ``b`` is all that is called."""
    for side, addresses in (("a", (CELL, CLIENT_OF_MYSQL)), ("b", (BBS, NATS, MYSQL, BLOBS, OUTSIDE))):
        net._ip("-n", net.names[side], "addr", "flush", "dev", "wire")
        for address in addresses:
            net._ip("-n", net.names[side], "addr", "add", f"{address}/32", "dev", "wire")
        for network in ("10.0.0.0/8", "203.0.113.0/24"):
            net._ip("-n", net.names[side], "route", "add", network, "dev", "wire")
    return net


@contextmanager
def captured(net: Net, path: Path) -> Iterator[None]:
    tcpdump = net.start("a", "tcpdump", "-i", "wire", "-U", "-s", "0", "-Z", "root", "-w", str(path), "not", "arp")
    until(lambda: path.exists() and path.stat().st_size >= 24, "tcpdump listens", tcpdump)
    yield
    time.sleep(1.0)  # what is on the wire is in the file
    tcpdump.terminate()
    tcpdump.wait(30)


def runs(net: Net, side: str, code: str, *words: str) -> str:
    command = net.inside(side, sys.executable, "-c", textwrap.dedent(code), *words)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    return done.stdout


def listens(net: Net, address: str, port: int) -> None:
    def answers() -> bool:
        told = net.run("b", "ss", "-Hltn", text=True).stdout
        return f"{address}:{port} " in told or f"*:{port} " in told or f"0.0.0.0:{port} " in told

    until(answers, f"{address}:{port} listens")


def report_of(path: Path, **options: Any) -> auditor.Report:
    return auditor.audit([str(path)], inventory=[str(ROOT / "captures/rules/inventory.yml")], policy="tas", **options)


def only(report: auditor.Report, port: int) -> dict[str, Any]:
    rows = report.connections[report.connections["responder_port"] == port]
    assert len(rows) == 1, report.connections[["originator_ip", "responder_ip", "responder_port"]]
    return dict(rows.iloc[0])


def says(row: dict[str, Any]) -> str:
    return "; ".join(each["says"] for each in row["authentication_factors"])


def needs(*programs: str) -> None:
    lacking = [each for each in programs if shutil.which(each, path="/usr/sbin:/usr/bin:/sbin:/bin") is None]
    if lacking:
        absent(f"{', '.join(lacking)}: not installed")


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    needs("openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "9", "-subj", "/CN=bbs.service.cf.internal"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return key, cert


URGENT = """
import socket, ssl, sys
sock = socket.create_connection((sys.argv[1], 8889), source_address=(sys.argv[2], 0))
sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.maximum_version = ssl.TLSVersion.TLSv1_2
inside, outside = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(inside, outside)
flight = 0
def flush():
    global flight
    data = outside.read()
    if data:
        flight += 1
        if flight == 2:
            # In the middle of the second flight: a byte that the server's socket takes out of the stream.
            sock.sendall(data[:5]); sock.send(b"Z", socket.MSG_OOB); data = data[5:]
        sock.sendall(data)
while True:
    try:
        tls.do_handshake(); break
    except ssl.SSLWantReadError:
        flush(); inside.write(sock.recv(65536))
flush()
tls.write(b"GET / HTTP/1.0\\r\\n\\r\\n"); flush()
got = b""
while len(got) < 200:
    try:
        got += tls.read(4096)
    except ssl.SSLWantReadError:
        data = sock.recv(65536)
        if not data: break
        inside.write(data)
print(len(got))
"""


def test_an_urgent_byte_inside_a_handshake(wire: Net, certificate: tuple[str, str], tmp_path: Path) -> None:
    """OpenSSL serves, and never sees it; on the wire it lies inside the client's flight."""
    key, cert = certificate
    server = wire.start("b", "openssl", "s_server", "-accept", f"{BBS}:8889", "-key", key, "-cert", cert, "-www", "-verify", "1", "-quiet", stdout=-3, stderr=-3)  # fmt: skip
    listens(wire, BBS, 8889)
    with captured(wire, tmp_path / "a.pcap"):
        assert int(runs(wire, "a", URGENT, BBS, CELL)) >= 200
    server.kill()
    row = only(report := report_of(tmp_path / "a.pcap"), 8889)
    assert row["authentication_verdict"] in ("unverifiable", "violated")
    assert set(report.findings["rule"]) & {"conflicting-content", "missing-client-certificate"}
    assert any(each["kind"] == "packets.contradict" for each in row["authentication_evidence"])
    assert not report.audit.summary["sufficiency"]["complete"] or row["authentication_verdict"] == "violated"


@pytest.mark.parametrize("padding", [512, 4_096])
def test_a_client_that_declines_and_pads_its_records(
    padding: int, wire: Net, certificate: tuple[str, str], tmp_path: Path
) -> None:
    """TLS 1.3, every record padded: what the client declined looks as long as a certificate."""
    key, cert = certificate
    server = wire.start("b", "openssl", "s_server", "-accept", f"{BBS}:8889", "-key", key, "-cert", cert, "-www", "-verify", "1", "-quiet", stdout=-3, stderr=-3)  # fmt: skip
    listens(wire, BBS, 8889)
    command = f"(sleep 1; printf 'GET / HTTP/1.0\\r\\n\\r\\n'; sleep 2) | openssl s_client -connect {BBS}:8889 -bind {CELL}:0 -tls1_3 -record_padding {padding} -quiet"
    with captured(wire, tmp_path / "a.pcap"):
        wire.run("a", "sh", "-c", f"{command} >/dev/null 2>&1 || true")
    server.kill()
    row = only(report_of(tmp_path / "a.pcap"), 8889)
    assert row["tls"]["version"] == "TLSv1.3" or "1.3" in str(row["tls"]["version"])
    assert (row["authentication_verdict"], row["authentication_confidence"]) not in {
        ("verified", "high"),
        ("verified", "medium"),
        ("inferred", "high"),
    }


# MySQL

LOGIN = """
import hashlib, socket, struct, sys
sock = socket.create_connection((sys.argv[1], 3306), source_address=(sys.argv[2], 0))
def packet():
    head = b""
    while len(head) < 4: head += sock.recv(4 - len(head))
    size, body = int.from_bytes(head[:3], "little"), b""
    while len(body) < size: body += sock.recv(size - len(body))
    return head[3], body
def send(number, body): sock.sendall(len(body).to_bytes(3, "little") + bytes([number]) + body)
def native(word, salt):
    one = hashlib.sha1(word).digest()
    two = hashlib.sha1(salt + hashlib.sha1(one).digest()).digest()
    return bytes(a ^ b for a, b in zip(one, two))
number, greeting = packet()
at = greeting.index(b"\\0") + 5
salt = greeting[at : at + 8] + greeting[at + 27 : at + 39]
send(1, struct.pack("<IIB23x", 0x000FA205, 1 << 24, 33) + b"good\\0" + b"\\x14" + native(b"word", salt) + b"mysql_native_password\\0")
print(packet()[1][0])
filler = int(sys.argv[3])
if filler:
    send(0, b"\\x03SELECT '" + b"q" * filler + b"'")
    while packet()[1][0] not in (0xFE,): pass
    while packet()[1][0] not in (0xFE,): pass
send(0, b"\\x11empty\\0\\0\\0" + struct.pack("<H", 33) + b"mysql_native_password\\0")
number, answer = packet()
if answer[0] == 0xFE:
    send(number + 1, b"")
    number, answer = packet()
print(answer[0])
sock.close()
"""


@pytest.fixture(scope="module")
def mariadb(wire: Net, tmp_path_factory: pytest.TempPathFactory) -> Net:
    needs("mariadbd", "mariadb-install-db")
    folder = tmp_path_factory.mktemp("mariadb")
    folder.chmod(0o755)
    wire.run("b", "mariadb-install-db", "--no-defaults", f"--datadir={folder}/data", "--user=root", "--skip-test-db", "--auth-root-authentication-method=normal")  # fmt: skip
    users = ("CREATE USER good IDENTIFIED BY 'word';", "CREATE USER empty;", "GRANT ALL ON *.* TO good;")
    (folder / "users.sql").write_text("\n".join(users) + "\n")
    wire.start("b", "mariadbd", "--no-defaults", f"--datadir={folder}/data", "--user=root", f"--socket={folder}/s", f"--bind-address={MYSQL}", f"--init-file={folder}/users.sql", "--skip-name-resolve", stdout=-3, stderr=-3)  # fmt: skip
    listens(wire, MYSQL, 3306)
    return wire


@pytest.mark.parametrize("filler", [0, 20_000])
def test_a_change_to_a_user_without_a_password(filler: int, mariadb: Net, tmp_path: Path) -> None:
    """MariaDB lets both in: near the start it is seen, behind what is kept it is said that it would not be."""
    with captured(mariadb, tmp_path / "a.pcap"):
        assert runs(mariadb, "a", LOGIN, MYSQL, CLIENT_OF_MYSQL, str(filler)).split() == ["0", "0"]
    report = report_of(tmp_path / "a.pcap")
    row = only(report, 3306)
    if not filler:
        assert row["authentication_verdict"] == "violated"
        assert "missing-credentials" in set(report.findings["rule"])
    else:
        assert "logins behind the client's first 8,192 bytes would not show" in says(row)
        assert "would not show" in report.to_json()


# Requests and NATS


def test_an_unsigned_request_behind_many_signed_ones(wire: Net, tmp_path: Path) -> None:
    """nginx keeps the connection open and serves all of them."""
    needs("nginx")
    (tmp_path / "files").mkdir(mode=0o755)
    (tmp_path / "files" / "a").write_text("b" * 20)
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; user root; pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}\n"
        f"http {{ access_log off; keepalive_requests 10000; server {{ listen {BLOBS}:8080; root {tmp_path}/files; }} }}\n"
    )
    server = wire.start("b", "nginx", "-c", str(tmp_path / "nginx.conf"), stdout=-3, stderr=-3)
    listens(wire, BLOBS, 8080)
    code = """
    import http.client, sys
    link = http.client.HTTPConnection(sys.argv[1], 8080, source_address=(sys.argv[2], 0))
    for k in range(int(sys.argv[3])):
        link.request("GET", "/a?md5=bm8tc2lnbmF0dXJl&expires=1995290800"); assert link.getresponse().read()
    link.request("GET", "/a"); print(link.getresponse().read().decode())
    """
    with captured(wire, tmp_path / "a.pcap"):
        assert runs(wire, "a", code, BLOBS, CELL, "300").strip() == "b" * 20
    report = report_of(tmp_path / "a.pcap")
    with captured(wire, tmp_path / "b.pcap"):
        runs(wire, "a", code, BLOBS, CELL, "20")
    server.terminate()
    row = only(report, 8080)
    assert (row["authentication_verdict"], "were not read" in says(row)) == ("unverifiable", True)
    assert "limit" in report.audit.summary["sufficiency"]["reasons"]
    assert only(report_of(tmp_path / "b.pcap"), 8080)["authentication_verdict"] == "violated"


def test_a_second_connect_behind_much_talk(wire: Net, tmp_path: Path) -> None:
    needs("nats-server")
    (tmp_path / "nats.conf").write_text(f'listen: "{NATS}:4222"\nauthorization {{ user: known, password: word }}\n')
    server = wire.start("b", "nats-server", "-c", str(tmp_path / "nats.conf"), stdout=-3, stderr=-3)
    listens(wire, NATS, 4222)
    code = """
    import socket, sys
    sock = socket.create_connection((sys.argv[1], 4222), source_address=(sys.argv[2], 0))
    sock.recv(4096)
    sock.sendall(b'CONNECT {"user":"known","pass":"word","verbose":false}\\r\\nPING\\r\\n'); print(sock.recv(99))
    for k in range(int(sys.argv[3])): sock.sendall(b"PUB a 1000\\r\\n" + b"x" * 1000 + b"\\r\\n")
    sock.sendall(b'PING\\r\\n'); print(sock.recv(99))
    sock.sendall(b'CONNECT {}\\r\\nPING\\r\\n'); print(sock.recv(99))
    """
    told = {}
    for count in (0, 30):
        with captured(wire, tmp_path / f"{count}.pcap"):
            runs(wire, "a", code, NATS, CELL, str(count))
        told[count] = only(report_of(tmp_path / f"{count}.pcap"), 4222)
    server.terminate()
    # nats-server refuses the second one or takes it: either way the near one is read, and of the far one it is said that it is not.
    assert told[30]["authentication_verdict"] in ("verified", "unverifiable")
    assert "logins behind the client's first 8,192 bytes would not show" in says(told[30])
    assert "would not show" not in says(told[0])


# Tunnels and ports


def test_a_tunnel_of_an_applications_own(wire: Net, tmp_path: Path) -> None:
    """A real VXLAN device to an address outside, with a MySQL login without a password inside."""
    for side, remote, local, inner in (("a", OUTSIDE, CELL, CLIENT_OF_MYSQL), ("b", CELL, OUTSIDE, MYSQL)):
        wire._ip("-n", wire.names[side], "link", "add", "vx", "type", "vxlan", "id", "7", "remote", remote, "local", local, "dstport", "4789", "dev", "wire")  # fmt: skip
        wire._ip("-n", wire.names[side], "link", "set", "vx", "up")
        wire._ip("-n", wire.names[side], "route", "add", MYSQL if side == "a" else CLIENT_OF_MYSQL, "dev", "vx", "src", inner)  # fmt: skip
    server = """
    import socket, struct, sys
    sys.path.insert(0, sys.argv[2])
    from tests.adversary.test_segments import GREETING, OK
    asks = socket.create_server((sys.argv[1], 13306)); link, _ = asks.accept()
    link.sendall(GREETING); link.recv(4096); link.sendall(OK); link.recv(10)
    """
    started = wire.start("b", sys.executable, "-c", textwrap.dedent(server), MYSQL, str(ROOT))
    listens(wire, MYSQL, 13306)
    client = """
    import socket, sys
    sys.path.insert(0, sys.argv[3])
    from tests.adversary.test_segments import login
    sock = socket.create_connection((sys.argv[1], 13306), source_address=(sys.argv[2], 0))
    sock.recv(4096); sock.sendall(login(b"")); sock.recv(10)
    """
    with captured(wire, tmp_path / "a.pcap"):
        runs(wire, "a", client, MYSQL, CLIENT_OF_MYSQL, str(ROOT))
    started.kill()
    for side in "ab":
        wire._ip("-n", wire.names[side], "link", "del", "vx")
    report = report_of(tmp_path / "a.pcap", scope="all")
    inner = report.connections[report.connections["tunnel"].notna()]
    assert len(inner) >= 1
    assert set(inner["disposition"]) == {"out_of_scope"}
    assert "missing-credentials" not in set(report.findings["rule"])


@pytest.mark.parametrize("port", [500, 4500])
def test_a_source_port_of_ipsec(port: int, wire: Net, tmp_path: Path) -> None:
    code = """
    import socket, sys
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); sock.bind((sys.argv[2], int(sys.argv[3])))
    for k in range(5): sock.sendto(b"just some text, no IKE and no ESP at all", (sys.argv[1], 9999))
    """
    with captured(wire, tmp_path / "a.pcap"):
        runs(wire, "a", code, BBS, CELL, str(port))
    report = report_of(tmp_path / "a.pcap")
    [row] = report.connections[report.connections["transport"] == "udp"].to_dict("records")
    assert row["application"] != "ipsec"
    assert row["disposition"] == "undeclared"
