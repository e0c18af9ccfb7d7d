"""Makes the corpus: real handshakes between real TLS stacks on loopback, with the truth from both ends.

How it is done, in order:
1. Debian's packages and two from PyPI are installed where missing, keys are made, the peers of ``peers/`` are compiled.
2. Everything runs in a network namespace of its own (so nothing else is captured and nothing else is disturbed) and in a
   process namespace of its own (so nothing survives it). tcpdump writes one file over all cells.
3. A cell is (client stack, server stack, version, client authentication, kind, policy). Each cell has a destination address of its
   own in 127.20.0.0/16, so the address names the cell in the capture, and the order of its connections is that of its reports.
4. Each end reports what it saw. That is the truth, ``corpus.truth.tsv``; a cell that a stack cannot make stays in it, with the
   stack's own message.
5. The capture is trimmed: ciphertext becomes zeros, everything else stays. Only lengths are judged, and zeros compress.

Run as root: ``python captures/tls/generate.py --out captures/tls`` (about ten minutes on two cores).
"""

from __future__ import annotations

import argparse
import itertools
import os
import queue
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
DEBIAN = [
    "golang-go",
    "default-jdk-headless",
    "gnutls-bin",
    "libgnutls28-dev",
    "libnss3-tools",
    "android-libboringssl-dev",
    "libwolfssl-dev",
    "libmbedtls-dev",
    "libssl-dev",
    "nginx-light",
    "gcc",
    "libc6-dev",
    "tcpdump",
    "iproute2",
    "openssl",
    "cargo",
    "rustc",
    "librust-rustls-dev",
    "librust-rustls-pemfile-dev",
]
SHOWN = [
    "golang-1.19-go",
    "openjdk-17-jre-headless",
    "libgnutls30",
    "libnss3",
    "android-libboringssl",
    "libwolfssl35",
    "libmbedtls14",
    "libssl3",
    "nginx-light",
    "librust-rustls-dev",
]
PYPI = ["rtls", "tlslite-ng", "cryptography", "zstandard"]
BORING = "/usr/lib/x86_64-linux-gnu/android"

VERSIONS = ("1.2", "1.3")
AUTHS = ("not_asked", "declined", "rsa", "p256", "ed25519", "chain")
KINDS = ("full", "resumed", "hrr")
STACKS = ("go", "openssl", "jsse", "gnutls", "nss", "boringssl", "rustls", "rtls", "wolfssl", "mbedtls", "tlslite")
REFERENCE = ("go", "openssl")
SHAPED = ("openssl-pad", "openssl-frag", "openssl-late")  # OpenSSL with settings: see peers/peer_ossl.c
MODE = {"none": "none", "optional": "optional", "required": "required"}
OURS = "(our reason) "
"""Before what we say of a cell that cannot be made; without it, it is the stack's own message."""
HRR_IN_12 = OURS + "TLS 1.2 has no HelloRetryRequest (RFC 8446 section 4.1.4)"


@dataclass(frozen=True)
class Cell:
    client: str
    server: str
    version: str
    auth: str
    kind: str
    policy: str  # none, optional, required

    @property
    def id(self) -> str:
        return "/".join((self.client, self.server, self.version, self.auth, self.kind, self.policy))

    @property
    def cert(self) -> str:
        """A client that is not asked holds a certificate all the same: holding is not sending."""
        return {"not_asked": "rsa", "declined": "-"}.get(self.auth, self.auth)

    @property
    def lot(self) -> int:
        """A number of the cell's own, the same in each run: sizes and rounds of the application exchange vary with it."""
        return zlib.crc32(self.id.encode())


def pairs() -> Iterator[tuple[str, str]]:
    """Each stack as client against both references, as server under both, and with itself; nginx as server under six."""
    seen = set()
    for stack in STACKS:
        for pair in (*((stack, r) for r in REFERENCE), *((r, stack) for r in REFERENCE), (stack, stack)):
            if pair not in seen:
                seen.add(pair)
                yield pair
    for stack in ("go", "openssl", "jsse", "gnutls", "boringssl", "rustls"):
        yield stack, "nginx"
    yield "python", "go"
    yield "go", "python"
    for stack in SHAPED:
        yield from ((stack, "openssl"), (stack, "go"), ("go", stack), (stack, stack))


def cells() -> Iterator[Cell]:
    for client, server in pairs():
        versions = VERSIONS if client in STACKS and server in STACKS else VERSIONS[1:]  # settings and nginx: 1.3 only
        for version, auth, kind in itertools.product(versions, AUTHS, KINDS):
            for policy in ("none",) if auth == "not_asked" else ("optional", "required"):
                yield Cell(client, server, version, auth, kind, policy)
        for version, policy in itertools.product(
            versions, ("optional", "required")
        ):  # beyond the matrix: sent and refused
            yield Cell(client, server, version, "untrusted", "full", policy)


@dataclass
class Report:
    version: str = "-"
    resumed: str = "0"
    result: str = "-"
    says: str = ""
    subject: str = "-"


class Peer:
    """A program of ``peers/`` that takes commands; one process for all cells of its stack and side."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.lines: queue.Queue[list[str]] = queue.Queue()
        self.errors = log.open("ab")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, errors="replace"
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n").split("\t"))

    def tell(self, *words: object) -> None:
        assert self.process.stdin
        try:
            self.process.stdin.write("\t".join(map(str, words)) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def hear(self, timeout: float) -> list[str] | None:
        try:
            return self.lines.get(timeout=timeout)
        except queue.Empty:
            return None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.errors.close()


@dataclass
class Shop:
    """Where things lie during a run."""

    work: Path
    python: str
    ports: Iterator[int] = field(default_factory=lambda: itertools.count(24000))

    @property
    def keys(self) -> Path:
        return self.work / "keys"

    def command(self, stack: str, hrr: bool) -> list[str]:
        keys = str(self.keys)
        if stack == "jsse":
            groups = ["-Djdk.tls.namedGroups=secp384r1"] if hrr else []
            return [
                "java",
                "-Xshare:auto",
                "-XX:TieredStopAtLevel=1",
                "-Xmx128m",
                *groups,
                "-cp",
                str(self.work / "bin"),
                "Peer",
                keys,
            ]
        if stack in ("python", "rtls"):
            return [self.python, str(PEERS / "peer_ssl.py"), keys, "ssl" if stack == "python" else "rtls"]
        if stack == "tlslite":
            return [self.python, str(PEERS / "peer_tlslite.py"), keys]
        return [str(self.work / "bin" / f"peer_{stack}"), keys]


class PeerServer:
    """All configurations of a stack's server; a JVM for HelloRetryRequest beside the first where the stack needs it."""

    def __init__(self, shop: Shop, stack: str) -> None:
        self.shop, self.stack = shop, stack
        self.peers: dict[bool, Peer] = {}
        self.ports: dict[tuple[str, str, bool], tuple[int, str]] = {}

    def port(self, version: str, policy: str, hrr: bool) -> tuple[int, str]:
        key = (version, policy, hrr)
        if key not in self.ports:
            apart = hrr and self.stack == "jsse"
            if apart not in self.peers:
                self.peers[apart] = Peer(self.shop.command(self.stack, apart), self.shop.work / "errors.log")
            port = next(self.shop.ports)
            self.peers[apart].tell("listen", port, version, MODE[policy], int(hrr))
            heard = self.peers[apart].hear(15) or ["cannot", str(port), "the peer did not answer"]
            self.ports[key] = (port, "" if heard[0] == "ready" else heard[2])
        return self.ports[key]

    def reports(self, cell: Cell, host: str, expected: int) -> list[Report]:
        peer = self.peers[cell.kind == "hrr" and self.stack == "jsse"]
        found: list[Report] = []
        while len(found) < expected:
            words = peer.hear(6)
            if words is None:
                break
            if words[1] == host:
                found.append(Report(words[2], words[3], words[5], words[6] if len(words) > 6 else "", words[4]))
        return found

    def close(self) -> None:
        for peer in self.peers.values():
            peer.close()


class Listener:
    """A server that is a tool of its stack: one process for each configuration, what it writes is read."""

    def __init__(self, shop: Shop, stack: str) -> None:
        self.shop, self.stack = shop, stack
        self.running: dict[tuple[str, str, bool], tuple[int, str, subprocess.Popen[bytes] | None, Path]] = {}
        self.read_to: dict[Path, int] = {}
        self.resumes: dict[Path, int] = {}

    def port(self, version: str, policy: str, hrr: bool) -> tuple[int, str]:
        key = (version, policy, hrr)
        if key not in self.running:
            port = next(self.shop.ports)
            log = self.shop.work / f"{self.stack}-{port}.log"
            process = self.start(port, version, policy, hrr, log)
            time.sleep(0.6)
            says = ""
            if process.poll() is not None and self.stack != "nginx":
                says = " ".join(log.read_text(errors="replace").split())[-200:]
            self.running[key] = (port, says, process, log)
        return self.running[key][:2]

    def start(self, port: int, version: str, policy: str, hrr: bool, log: Path) -> subprocess.Popen[bytes]:
        if self.stack == "nss":
            ask = {"none": [], "optional": ["-r"], "required": ["-r", "-r"]}[policy]
            groups = ["-I", "P384"] if hrr else []
            one = f"tls{version}"
            command = [
                "selfserv",
                "-n",
                "server",
                "-p",
                str(port),
                "-d",
                f"sql:{self.shop.keys / 'nss'}",
                "-V",
                f"{one}:{one}",
                "-u",
                "-v",
            ]
            return subprocess.Popen([*command, *ask, *groups], stdout=log.open("wb"), stderr=subprocess.STDOUT)
        home = self.shop.work / f"nginx-{port}"
        home.mkdir()
        verify = {"none": "off", "optional": "optional", "required": "on"}[policy]
        curve = "secp384r1" if hrr else "auto"
        (home / "nginx.conf").write_text(
            f"""pid {home}/pid; error_log {home}/error.log; daemon off; master_process off; worker_processes 1;
            events {{ worker_connections 64; }}
            http {{ log_format truth '$server_addr\t$connection\t$ssl_protocol\t$ssl_session_reused\t$ssl_client_s_dn\t$ssl_client_verify\t$status';
              access_log {log} truth; client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home};
              uwsgi_temp_path {home}; scgi_temp_path {home};
              server {{ listen {port} ssl; ssl_certificate {self.shop.keys}/server.pem; ssl_certificate_key {self.shop.keys}/server.key;
                ssl_protocols TLSv{version}; ssl_ecdh_curve {curve}; ssl_session_cache builtin; ssl_client_certificate {self.shop.keys}/ca.pem;
                ssl_verify_client {verify}; ssl_verify_depth 3; keepalive_timeout 5;
                location / {{ return 200 "{"o" * (port % 7 * 60 + 20)}"; }} }} }}"""
        )
        log.touch()
        return subprocess.Popen(
            ["nginx", "-c", str(home / "nginx.conf")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def reports(self, cell: Cell, host: str, expected: int) -> list[Report]:
        log = self.running[cell.version, cell.policy, cell.kind == "hrr"][3]
        found: list[Report] = []
        text = ""
        for _ in range(25 if self.stack == "nginx" else 100):
            text = log.read_bytes()[self.read_to.get(log, 0) :].decode(errors="replace")
            found = self.nss(text, log) if self.stack == "nss" else self.nginx(text, host)
            if len(found) >= expected:
                break
            time.sleep(0.02)
        self.read_to[log] = self.read_to.get(log, 0) + len(text.encode())
        if hits := re.findall(r"(\d+) cache hits", text):
            self.resumes[log] = int(hits[-1])
        return found

    def nss(self, text: str, log: Path) -> list[Report]:
        """One report for each piece that says how its handshake ended; ``resumes`` counts up over the life of the server."""
        found = []
        before = self.resumes.get(log, 0)
        for part in text.split("About to call accept."):
            if "ticket parse failures" not in part and "error" not in part:
                continue
            version = re.search(r"SSL version 3\.(\d)", part)
            subject = re.search(r"subject DN: (.*)", part)
            hits = re.search(r"(\d+) cache hits", part)
            total = int(hits[1]) if hits else before
            error = re.search(r"error -\d+:?[^\n]*\n?[^\n]*", part)
            again, before = total > before, total
            says = " ".join(error[0].split()) if error and not version else ""
            found.append(
                Report(
                    f"TLSv1.{int(version[1]) - 1}" if version else "-",
                    str(int(again)),
                    "ok" if version else "refused",
                    says or ("" if version else "no handshake"),
                    subject[1] if subject else "-",
                )
            )
        return found

    @staticmethod
    def nginx(text: str, host: str) -> list[Report]:
        """The first request of each connection: later ones of it say the same."""
        rows: dict[str, list[str]] = {}
        for line in text.splitlines():
            words = line.split("\t")
            if len(words) == 7 and words[0] == host:
                rows.setdefault(words[1], words[2:])
        return [
            Report(
                v,
                "1" if reused == "r" else "0",
                "ok" if status == "200" else "refused",
                "" if status == "200" else f"{verify}, status {status}",
                dn,
            )
            for v, reused, dn, verify, status in rows.values()
        ]

    def close(self) -> None:
        for _, _, process, _ in self.running.values():
            if process:
                process.kill()
                process.wait()


class PeerClient:
    def __init__(self, shop: Shop, stack: str) -> None:
        self.peer = Peer(shop.command(stack, False), shop.work / "errors.log")

    def call(self, cell: Cell, host: str, port: int) -> list[Report]:
        """One report a connection: two where the second resumes the first."""
        slot = cell.id if cell.kind == "resumed" else "-"
        rounds, size = 1 + (cell.lot % 2 if cell.server != "nss" else 0), 90 + cell.lot // 2 % 900
        found: list[Report] = []
        for _ in range(2 if cell.kind == "resumed" else 1):
            if found and found[-1].result != "ok":
                break
            self.peer.tell("connect", host, port, cell.version, cell.cert, slot, rounds, size, cell.lot // 4 % 2)
            words = self.peer.hear(12)
            if words is None:
                found.append(Report(result="cannot", says="the peer did not answer"))
                break
            found.append(Report(words[1], words[2], words[3], words[4] if len(words) > 4 else ""))
        return found

    def close(self) -> None:
        self.peer.close()


class NssClient:
    def __init__(self, shop: Shop) -> None:
        self.shop = shop

    def call(self, cell: Cell, host: str, port: int) -> list[Report]:
        one = f"tls{cell.version}"
        request = self.shop.work / "request"
        fill = "x" * (cell.lot // 2 % 900)
        request.write_text(
            f"GET / HTTP/1.1\r\nHost: server.example\r\nConnection: close\r\nX-Pad: {fill}\r\n\r\n", newline=""
        )
        store = "nss" if cell.cert != "-" else "nss-bare"
        command = [
            "tstclnt",
            "-h",
            host,
            "-p",
            str(port),
            "-d",
            f"sql:{self.shop.keys / store}",
            "-V",
            f"{one}:{one}",
            "-u",
            "-v",
        ]
        command += ["-a", "server.example", "-o", "-A", str(request)]
        if cell.cert != "-":
            command += ["-n", cell.cert]
        times = 2 if cell.kind == "resumed" else 1
        if times == 2:
            command += ["-L", "2"]
        try:
            ran = subprocess.run(command, capture_output=True, timeout=12, check=False, stdin=subprocess.DEVNULL)
            text = (ran.stderr + ran.stdout).decode(errors="replace")
        except subprocess.TimeoutExpired as late:
            text = ((late.stderr or b"") + (late.stdout or b"")).decode(errors="replace")
        if "Can't find" in text or "find certificate" in text.lower():
            return [Report(result="cannot", says=" ".join(text.split())[-200:])]
        parts = text.split("tstclnt: ready...")[1:] or [text]
        found = []
        for part in parts:
            version = re.search(r"SSL version 3\.(\d)", part)
            resumes = re.search(r"(\d+) stateless resumes", part)
            error = re.search(r"((?:SSL|SEC|PR)_ERROR_\w+[^\n]*)", part.replace("PR_IN_PROGRESS_ERROR", ""))
            got = re.search(r"Read from server [1-9]", part)
            result = "ok" if got else "refused"
            found.append(
                Report(
                    f"TLSv1.{int(version[1]) - 1}" if version else "-",
                    "1" if resumes and int(resumes[1]) else "0",
                    result,
                    "" if got else (error[1] if error else "connection ended"),
                )
            )
        return found[:times]

    def close(self) -> None:
        pass


REFUSED_EMPTY = re.compile(
    r"error -12285|no client certification|no.{0,12}certificate|did not return a certificate|didn't provide|certificate required|empty client|bad_cert_required|NO_CERTIFICATE|null cert chain|NoCertificatesPresented|Certificate is required|peer did not",
    re.IGNORECASE,
)
REFUSED_SENT = re.compile(
    r"error -8179|unknown.?(ca|authority|issuer)|UnknownIssuer|bad.?cert|verif|untrusted|unable to find valid|PKIX|ASN no signer|not trusted|unsupported.{0,8}(algorithm|cert)|UNKNOWN_ISSUER",
    re.IGNORECASE,
)


SILENT = {"mbedtls", "rustls", "rtls", "tlslite"}
"""Stacks whose server does not say (or, tlslite in 1.3, never says) that a session resumed; the other end's word counts."""


def truth_of(cell: Cell, server: Report | None, client: Report, again: bool) -> str:
    """What the ends say crossed: resumed, sent, empty, absent, late (asked for after the handshake); unsure where the server refused and does not say."""
    if server is None:
        return "unsure"
    if client.resumed == server.resumed == "0" and again and {cell.client, cell.server} <= SILENT:
        return "unsure"
    if server.resumed == "1" or (cell.server in SILENT and client.resumed == "1"):
        return "resumed"
    if cell.policy == "none":
        return "absent"
    if cell.server == "openssl-late" and cell.version == "1.3":
        return "late" if cell.client == "openssl-late" else "absent"
    if server.subject != "-":
        return "sent"
    if server.result == "ok" or (server.version != "-" and server.subject == "-"):
        return "empty"
    if cell.cert == "-":
        return "empty"
    if REFUSED_EMPTY.search(server.says):
        return "empty"
    if REFUSED_SENT.search(server.says):
        return "sent"
    return "unsure"


HEAD = [
    "client",
    "server",
    "version",
    "auth",
    "kind",
    "policy",
    "made",
    "nth",
    "resp_h",
    "resp_p",
    "truth",
    "client_version",
    "client_resumed",
    "client_result",
    "client_says",
    "server_version",
    "server_resumed",
    "server_result",
    "server_subject",
    "server_says",
]


def run(shop: Shop, wanted: list[Cell], table: Path) -> None:
    clients: dict[str, PeerClient | NssClient] = {}
    rows: list[list[str]] = []
    began = time.monotonic()
    server_name, server = "", None
    for number, cell in enumerate(sorted(wanted, key=lambda c: c.server)):
        row = [cell.client, cell.server, cell.version, cell.auth, cell.kind, cell.policy]

        def cannot(says: str, row: list[str] = row) -> None:
            if OURS in says:
                says = OURS + says.replace(OURS, "")
            rows.append([*row, "no", "0", "-", "-", "-", "-", "-", "-", says, *["-"] * 5])

        if cell.server != server_name:
            if server:
                server.close()
            server_name = cell.server
            server = Listener(shop, cell.server) if cell.server in ("nss", "nginx") else PeerServer(shop, cell.server)
            print(f"{time.monotonic() - began:6.0f} s  {number:5d} cells  server {server_name}", flush=True)
        assert server
        if cell.version == "1.2" and cell.kind == "hrr":
            cannot(HRR_IN_12)
            continue
        port, says = server.port(cell.version, cell.policy, cell.kind == "hrr")
        if says:
            cannot(f"{cell.server} server: {says}")
            continue
        if cell.client not in clients:
            clients[cell.client] = NssClient(shop) if cell.client == "nss" else PeerClient(shop, cell.client)
        host = f"127.20.{(number + 1) >> 8}.{(number + 1) & 255}"
        called = clients[cell.client].call(cell, host, port)
        if called[0].result == "cannot":
            cannot(f"{cell.client} client: {called[0].says}")
            continue
        heard = server.reports(cell, host, len(called))
        for nth, mine in enumerate(called, 1):
            theirs = heard[nth - 1] if nth <= len(heard) else None
            made = "yes" if cell.kind != "resumed" or nth == 2 else "first"
            other = theirs or Report(says="no report")
            rows.append(
                [*row, made, str(nth), host, str(port), truth_of(cell, theirs, mine, nth == 2), mine.version, mine.resumed, mine.result, mine.says,
                 other.version, other.resumed, other.result, other.subject, other.says]
            )  # fmt: skip
        if cell.kind == "resumed" and len(called) == 1:
            cannot(f"{OURS}the first connection was not accepted: {called[0].says or (heard and heard[0].says)}")
        elif cell.kind == "resumed" and rows[-1][HEAD.index("truth")] != "resumed":
            rows[-1][HEAD.index("made")] = "no"
            rows[-1][HEAD.index("client_says")] = OURS + "not resumed: a full handshake was made instead"
    for each in (*clients.values(), *([server] if server else [])):
        each.close()
    table.write_text("\n".join("\t".join(row) for row in [HEAD, *rows]) + "\n")


def prepare(work: Path) -> str:
    """Installs what is missing, makes the keys, compiles the peers; returns the Python that has rustls and tlslite."""
    status = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n", *DEBIAN],
        capture_output=True,
        text=True,
        check=False,
    )
    have = {line.split()[0] for line in status.stdout.splitlines() if line.split()[-1].startswith("ii")}
    if missing := [each for each in DEBIAN if each not in have]:
        subprocess.run(["apt-get", "update", "-q"], check=False)
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing], check=True, env=env)
    python = str(work / "venv" / "bin" / "python")
    if not Path(python).exists():
        subprocess.run([sys.executable, "-m", "venv", str(work / "venv")], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *PYPI], check=True)
    keys, built = work / "keys", work / "bin"
    if not (keys / "ca.pem").exists():
        keys.mkdir(exist_ok=True)
        subprocess.run(
            [
                python,
                "-c",
                f"import sys; sys.path.insert(0, {str(HERE)!r}); import pki; from pathlib import Path; pki.make(Path({str(keys)!r}))",
            ],
            check=True,
        )
        (keys / "nss").mkdir()
        (
            keys / "nss-bare"
        ).mkdir()  # tstclnt picks any certificate of its store, so one that declines needs a store of its own
        bare = f"sql:{keys / 'nss-bare'}"
        subprocess.run(["certutil", "-N", "-d", bare, "--empty-password"], check=True)
        subprocess.run(
            ["certutil", "-A", "-d", bare, "-n", "ca", "-t", "CT,C,C", "-i", str(keys / "ca.pem")], check=True
        )
        store = f"sql:{keys / 'nss'}"
        subprocess.run(["certutil", "-N", "-d", store, "--empty-password"], check=True)
        subprocess.run(
            ["certutil", "-A", "-d", store, "-n", "ca", "-t", "CT,C,C", "-i", str(keys / "ca.pem")], check=True
        )
        for each in ("server", "rsa", "p256", "ed25519", "chain", "untrusted"):
            subprocess.run(
                ["pk12util", "-i", str(keys / f"{each}.p12"), "-d", store, "-W", "none", "-K", ""],
                check=False,
                capture_output=True,
            )
    built.mkdir(exist_ok=True)
    gcc = ["gcc", "-O1", "-I", str(PEERS)]
    source = str(PEERS / "peer_ossl.c")
    for command in (
        ["go", "build", "-o", str(built / "peer_go"), str(PEERS / "peer.go")],
        [*gcc, "-o", str(built / "peer_openssl"), source, "-lssl", "-lcrypto", "-lpthread"],
        [
            *gcc,
            "-DBORING",
            "-I/usr/include/android",
            "-o",
            str(built / "peer_boringssl"),
            source,
            f"-L{BORING}",
            f"-Wl,-rpath,{BORING}",
            "-lssl",
            "-lcrypto",
            "-lpthread",
        ],
        [*gcc, "-DWOLF", "-o", str(built / "peer_wolfssl"), source, "-lwolfssl", "-lpthread"],
        [*gcc, "-o", str(built / "peer_gnutls"), str(PEERS / "peer_gnutls.c"), "-lgnutls", "-lpthread"],
        [
            *gcc,
            "-o",
            str(built / "peer_mbedtls"),
            str(PEERS / "peer_mbedtls.c"),
            "-lmbedtls",
            "-lmbedx509",
            "-lmbedcrypto",
            "-lpthread",
        ],
        *(
            [
                *gcc,
                f"-D{flag}",
                "-o",
                str(built / f"peer_openssl-{flag.lower()}"),
                source,
                "-lssl",
                "-lcrypto",
                "-lpthread",
            ]
            for flag in ("PAD", "FRAG", "LATE")
        ),
        ["javac", "-d", str(built), str(PEERS / "Peer.java")],
    ):
        subprocess.run(command, check=True, env={**os.environ, "GO111MODULE": "off"})
    if not (built / "peer_rustls").exists():
        crate = work / "rustls"
        shutil.copytree(PEERS / "rustls", crate, dirs_exist_ok=True)
        (crate / ".cargo").mkdir(exist_ok=True)
        (crate / ".cargo" / "config.toml").write_text(
            '[source.crates-io]\nreplace-with = "debian"\n[source.debian]\ndirectory = "/usr/share/cargo/registry"\n'
        )
        env = {**os.environ, "PATH": "/usr/bin:/bin", "CARGO_HOME": str(work / "cargo")}
        subprocess.run(["/usr/bin/cargo", "build", "--offline"], cwd=crate, check=True, env=env)
        shutil.copy(crate / "target" / "debug" / "peer_rustls", built / "peer_rustls")
    return python


def versions_of(python: str) -> str:
    """One line a package, as its registry names it."""
    said = subprocess.run(
        ["dpkg-query", "-W", "-f", "Debian\t${Package}\t${Version}\n", *sorted(SHOWN)],
        capture_output=True,
        text=True,
        check=True,
    )
    pip = subprocess.run(
        [python, "-m", "pip", "list", "--format", "freeze"], capture_output=True, text=True, check=True
    )
    mine = [line.split("==") for line in pip.stdout.splitlines() if line.split("==")[0] in PYPI]
    return said.stdout + "".join(f"PyPI\t{name}\t{version}\n" for name, version in mine)


def inside(options: argparse.Namespace) -> None:
    """In the namespaces: capture, run, stop."""
    work = Path(options.work)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for old in {*work.glob("*.log"), *work.glob("nginx-*")}:
        shutil.rmtree(old) if old.is_dir() else old.unlink()
    raw = work / "corpus.raw.pcap"
    dump = subprocess.Popen(
        ["tcpdump", "-i", "lo", "-s", "0", "-B", "32768", "-Z", "root", "-w", str(raw), "tcp"],
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1)
    only = re.compile(options.only)
    wanted = [cell for cell in cells() if only.search(cell.id)]
    run(Shop(work, str(work / "venv" / "bin" / "python")), wanted, work / "truth.tsv")
    time.sleep(1)
    dump.terminate()
    _, says = dump.communicate()
    print(says.strip())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--work", help="scratch folder; default: a temporary one, removed afterwards")
    parser.add_argument("--only", default="", help="regular expression over cell ids")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        inside(options)
        return
    if os.geteuid() != 0:
        sys.exit("the generator needs root: for tcpdump and for namespaces of its own")
    work = Path(options.work or tempfile.mkdtemp(prefix="tls-corpus-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        python = prepare(work)
        command = [
            "unshare",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            sys.executable,
            str(Path(__file__).resolve()),
        ]
        subprocess.run([*command, "--inside", "--work", str(work), "--only", options.only], check=True, timeout=3600)
        subprocess.run([python, str(HERE / "trim.py"), str(work), str(options.out)], check=True)
        (options.out / "corpus.versions.tsv").write_text(versions_of(python))
    finally:
        if not options.work:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
