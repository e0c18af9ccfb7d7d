"""A small Diego platform that talks: VMs, certificates, conversations, and the packets that carry them.

What is said is real where an auditor looks: TLS handshakes are OpenSSL's own bytes, made by Python's `ssl` with both ends in memory; certificates have the
names that cf-deployment gives them; NATS, MySQL, SSH and HTTP are written message by message from their specifications. The
packets around it (addresses, sequence numbers, acknowledgements, times) are made with scapy from a seeded generator.

Keys are made anew in memory and in a temporary folder for each run and thrown away, so the bytes of a capture differ from run to run; its connections,
ports, times and sizes of plaintext do not. Passwords and tokens say in themselves that they are none.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import ipaddress
import json
import random
import ssl
import struct
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

SECOND = 1_000_000_000
BEGIN_NS = int(dt.datetime(2026, 11, 16, 9, 0, tzinfo=dt.UTC).timestamp()) * SECOND
BEGIN = dt.datetime(2026, 11, 16, 9, 0, tzinfo=dt.UTC)
FAKE_PASSWORD = "this-is-no-password"  # noqa: S105
FAKE_TOKEN = "this.is-no.token"  # noqa: S105

Chunk = tuple[str, bytes]
"""Who speaks (c: the end that opened the connection, s: the other), and one write."""


# --- who ------------------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Vm:
    """A VM, or any other address that talks."""

    name: str
    ip: str
    zone: str = "z1"

    @property
    def role(self) -> str:
        return self.name.split("/")[0]

    @property
    def guid(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, self.name))


VMS = [
    Vm("cloud_controller/0", "10.0.4.10"),
    Vm("cloud_controller/1", "10.0.5.10", "z2"),
    Vm("diego_cell/0", "10.0.4.20"),
    Vm("diego_cell/1", "10.0.5.20", "z2"),
    Vm("diego_cell/2", "10.0.4.21"),
    Vm("diego_brain/0", "10.0.4.30"),
    Vm("diego_brain/1", "10.0.5.30", "z2"),
    Vm("diego_database/0", "10.0.4.40"),
    Vm("diego_database/1", "10.0.5.40", "z2"),
    Vm("uaa/0", "10.0.4.50"),
    Vm("nats/0", "10.0.4.60"),
    Vm("nats/1", "10.0.5.60", "z2"),
    Vm("mysql_proxy/0", "10.0.4.70"),
    Vm("nfs_server/0", "10.0.4.80"),
    Vm("router/0", "10.0.4.90"),
    Vm("router/1", "10.0.5.90", "z2"),
    Vm("doppler/0", "10.0.4.95"),
]
CC0, CC1, CELL0, CELL1, CELL2, BRAIN0, BRAIN1, DB0, DB1, UAA, NATS0, NATS1, MYSQL, BLOBS, ROUTER0, ROUTER1, DOPPLER = (
    VMS
)

DIRECTOR = Vm("bosh_director/0", "10.0.3.6")
RESOLVER = Vm("dns_resolver/0", "10.0.3.2")
BALANCER = Vm("load_balancer/0", "10.0.4.5")
"""In front of UAA: what the brain calls on 443 is often this."""


# --- certificates ---------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, as OpenSSL wants them: in a file."""

    pem: str
    file: str


class Authority:
    """The certificate authorities of the platform, and what they issued; keys live as long as the process."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._keys: dict[str, rsa.RSAPrivateKey] = {}
        self._roots: dict[str, x509.Certificate] = {}

    def _key(self, name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
        if name not in self._keys:
            self._keys[name] = rsa.generate_private_key(65537, bits)
        return self._keys[name]

    def root(self, name: str) -> x509.Certificate:
        """The self-signed certificate of an authority."""
        if name not in self._roots:
            key = self._key(f"ca {name}")
            subject = _subject(name)
            self._roots[name] = (
                x509.CertificateBuilder()
                .subject_name(subject)
                .issuer_name(subject)
                .public_key(key.public_key())
                .serial_number(x509.random_serial_number())
                .not_valid_before(BEGIN - dt.timedelta(days=200))
                .not_valid_after(BEGIN + dt.timedelta(days=1_600))
                .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                .sign(key, hashes.SHA256())
            )
        return self._roots[name]

    def root_pem(self, name: str) -> str:
        return self.root(name).public_bytes(serialization.Encoding.PEM).decode()

    def issue(
        self,
        cn: str,
        sans: Sequence[str] = (),
        ca: str = "internalCA",
        units: Sequence[str] = (),
        days: tuple[int, int] = (-100, 630),
        bits: int = 2048,
    ) -> Issued:
        """A leaf for both ends of a connection, valid from and until so many days around the capture."""
        key = self._key(cn, bits)
        until = BEGIN + dt.timedelta(days=days[1])
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(cn, units))
            .issuer_name(self.root(ca).subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(BEGIN + dt.timedelta(days=days[0]))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
        )
        if sans:
            names: list[x509.GeneralName] = []
            for san in sans:
                try:
                    names.append(x509.IPAddress(ipaddress.ip_address(san)))
                except ValueError:
                    names.append(x509.DNSName(san))
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key(f"ca {ca}"), hashes.SHA256())
        pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
        secret = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        place = Path(self._folder.name) / f"{hashlib.sha256(pem.encode()).hexdigest()}.pem"
        place.write_text(secret + pem)
        return Issued(pem, str(place))


def _subject(cn: str, units: Sequence[str] = ()) -> x509.Name:
    parts = [
        x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Cloud Foundry"),
    ]
    parts += [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit) for unit in units]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, cn)])


AUTHORITY = Authority()
_INTERNAL = ".service.cf.internal"


@cache
def certificate(name: str) -> Issued:
    """A certificate of the platform by the name of its variable in cf-deployment."""
    issue = AUTHORITY.issue

    def service(host: str, *more: str, ca: str = "internalCA", **other: Any) -> Issued:
        return issue(host + _INTERNAL, [f"*.{host}{_INTERNAL}", host + _INTERNAL, *more], ca, **other)

    return {
        "diego_bbs_server": lambda: service("bbs"),
        "diego_locket_server": lambda: service("locket"),
        "diego_auctioneer_server": lambda: service("auctioneer"),
        "diego_rep_agent_v2": lambda: service("cell", "127.0.0.1", "localhost"),
        "cc_uploader_server": lambda: service("cc-uploader"),
        "file_server": lambda: service("file-server"),
        "file_server_expired": lambda: service("file-server", days=(-800, -70)),
        "cc_tls": lambda: service("cloud-controller-ng"),
        "cc_public_tls": lambda: issue(
            "api.sys.example.com", ["api.sys.example.com", "cloud-controller-ng" + _INTERNAL]
        ),
        "uaa_ssl": lambda: service("uaa", ca="uaaCA"),
        "blobstore_tls": lambda: service("blobstore"),
        "mysql_server": lambda: issue("sql-db" + _INTERNAL, ["sql-db" + _INTERNAL], "pxc_server_ca"),
        "nats_server": lambda: service("nats", ca="natsCA"),
        "nats_client": lambda: issue("nats_client", ["nats_client"], "natsCA"),
        "diego_bbs_client": lambda: issue("bbs-client", ["bbs-client"]),
        "diego_rep_client": lambda: issue("rep-client", ["rep-client"]),
        "diego_auctioneer_client": lambda: issue("auctioneer-client", ["auctioneer-client"]),
        "diego_locket_client": lambda: issue("locket-client", ["locket-client"]),
        "cc_bridge_tps": lambda: issue("tps_watcher", ["tps_watcher"]),
        "cc_bridge_cc_uploader": lambda: issue("cc_uploader", ["cc_uploader"]),
        "ssh_proxy_backends_tls": lambda: issue("ssh_proxy_backends_tls", ["ssh-proxy" + _INTERNAL]),
        "gorouter_backend_tls": lambda: issue("gorouter_backend_tls", ["gorouter" + _INTERNAL]),
        "bosh_dns": lambda: issue("health.bosh-dns", ["health.bosh-dns"], "dns_healthcheck_tls_ca"),
        "metron": lambda: issue("metron", ["metron"], "loggregatorCA"),
        "doppler": lambda: issue("doppler", ["doppler"], "loggregatorCA"),
        "director_nats": lambda: issue("default.nats.bosh-internal", ["*.nats.bosh-internal"], "bosh_natsCA"),
        "agent": lambda: issue("b2c4.agent.bosh-internal", ["b2c4.agent.bosh-internal"], "bosh_natsCA"),
        "website": lambda: issue("www.example.net", ["www.example.net", "*.example.net"], "Example Public CA"),
        "app": lambda: issue(
            str(uuid.uuid5(uuid.NAMESPACE_DNS, "app")),
            [str(uuid.uuid5(uuid.NAMESPACE_DNS, "app")), "10.255.31.4"],
            "instanceIdentityCA",
            [f"{kind}:{uuid.uuid5(uuid.NAMESPACE_DNS, kind)}" for kind in ("organization", "space", "app")],
        ),
    }[name]()


AUTHORITIES = ["internalCA", "uaaCA", "pxc_server_ca", "natsCA", "instanceIdentityCA", "loggregatorCA"]

VERSIONS = {
    "1.0": ssl.TLSVersion.TLSv1,
    "1.1": ssl.TLSVersion.TLSv1_1,
    "1.2": ssl.TLSVersion.TLSv1_2,
    "1.3": ssl.TLSVersion.TLSv1_3,
}
INTERNAL_SUITES = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"
"""The two of tlsconfig's internal-service defaults."""
X509_V_FLAG_NO_CHECK_TIME = 0x200000
"""The story has its own date; the machine's clock must not spoil it."""


@cache
def _context(
    server: bool, version: str, own: str | None, trust: tuple[str, ...], ask: ssl.VerifyMode, curve: str, alpn: str
) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ask
    made.verify_flags = ssl.VerifyFlags(X509_V_FLAG_NO_CHECK_TIME)
    made.set_ciphers("ALL:@SECLEVEL=0" if version in ("1.0", "1.1") else INTERNAL_SUITES)
    made.minimum_version = VERSIONS[version]
    made.maximum_version = VERSIONS[version]
    if own:
        made.load_cert_chain(certificate(own).file)
    if trust:
        made.load_verify_locations(cadata="".join(map(AUTHORITY.root_pem, trust)))
    if curve and server:
        made.set_ecdh_curve(curve)
    if alpn:
        made.set_alpn_protocols([alpn])
    return made


class Tls:
    """One TLS connection, both ends in memory.

    Parameters: the names of the certificates of the two ends (None: the client has none), the version, the name asked for; whether the server
    wants a client certificate (``no``, ``optional``, ``required``); the authorities trusted by both; a session to resume.
    """

    def __init__(
        self,
        server: str,
        client: str | None = None,
        *,
        version: str = "1.3",
        sni: str = "",
        ask: str = "required",
        ca: str = "internalCA",
        client_ca: str | None = None,
        curve: str = "",
        alpn: str = "",
        session: ssl.SSLSession | None = None,
    ) -> None:
        wants = {"no": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}[ask]
        server_context = _context(True, version, server, (client_ca or ca,), wants, curve, alpn)
        client_context = _context(False, version, client, (ca,), ssl.CERT_REQUIRED, "", alpn)
        self.chunks: list[Chunk] = []
        self._to_client, self._from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._to_server, self._from_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client_context.wrap_bio(
            self._to_client, self._from_client, server_hostname=sni or None, session=session
        )
        self.server = server_context.wrap_bio(self._to_server, self._from_server, server_side=True)
        self.refused = False
        self._shake()

    def _flush(self, who: str) -> None:
        source, sink = (self._from_client, self._to_server) if who == "c" else (self._from_server, self._to_client)
        if data := source.read():
            self.chunks.append((who, data))
            sink.write(data)

    def _shake(self) -> None:
        waiting = {"c": self.client, "s": self.server}
        while waiting and not self.refused:
            for who, end in list(waiting.items()):
                try:
                    end.do_handshake()
                    del waiting[who]
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError:
                    self.refused = True
                self._flush(who)

    def say(self, *talk: Chunk) -> Tls:
        """Application data, in order; each end reads before it speaks."""
        for who, data in talk:
            if self.refused:
                break
            speaker, hearer = (self.client, self.server) if who == "c" else (self.server, self.client)
            speaker.write(data)
            self._flush(who)
            hearer.read(len(data) + 1)
            self._flush("s" if who == "c" else "c")
        return self

    def close(self) -> list[Chunk]:
        """The close_notify alerts, where the handshake came about; all that was said."""
        if not self.refused:
            for who, end in (("c", self.client), ("s", self.server)):
                with contextlib.suppress(ssl.SSLError):
                    end.unwrap()
                self._flush(who)
        return self.chunks

    @property
    def session(self) -> ssl.SSLSession | None:
        return self.client.session


# --- what they say --------------------------------------------------------------------------------------------------------------------------------


def http(
    method: str, target: str, host: str, body: bytes = b"", *headers: str, status: str = "200 OK", answer: bytes = b"{}"
) -> list[Chunk]:
    """One HTTP/1.1 request and its answer."""
    head = [f"{method} {target} HTTP/1.1", f"Host: {host}", "User-Agent: Go-http-client/1.1", *headers]
    if body:
        head.append(f"Content-Length: {len(body)}")
    reply = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(answer)}"]
    return [
        ("c", "\r\n".join([*head, "", ""]).encode() + body),
        ("s", "\r\n".join([*reply, "", ""]).encode() + answer),
    ]


def h2() -> list[Chunk]:
    """The opening of HTTP/2 (RFC 9113 section 3.4) and one gRPC call, as a Locket client makes."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload

    settings = frame(4, 0, 0, b"")
    call = frame(1, 4, 1, bytes.fromhex("838645986283772af9cd dcb7c6".replace(" ", "")))
    body = frame(0, 1, 1, b"\x00\x00\x00\x00\x10" + b"\x0a\x0elock:diego-cel")
    return [
        ("c", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings),
        ("s", settings + frame(4, 1, 0, b"")),
        ("c", frame(4, 1, 0, b"") + call + body),
        ("s", frame(1, 4, 1, b"\x88\x5f") + frame(0, 1, 1, b"\x00\x00\x00\x00\x00")),
    ]


NATS_VERSION = "2.10.22"


def nats_info(server: Vm, port: int, *, tls: bool = False, auth: bool = True) -> Chunk:
    """What a NATS server says first, always in the clear."""
    info: dict[str, Any] = {
        "server_id": "N" + hashlib.sha256(server.name.encode()).hexdigest()[:55].upper(),
        "version": NATS_VERSION,
        "proto": 1,
        "go": "go1.23.2",
        "host": server.ip,
        "port": port,
        "headers": True,
        "max_payload": 1_048_576,
    }
    if auth:
        info["auth_required"] = True
    if tls:
        info |= {"tls_required": True, "tls_verify": True}
    return ("s", b"INFO " + json.dumps(info, separators=(",", ":")).encode() + b" \r\n")


def nats_session(*, password: bool = True, name: str = "route-emitter") -> list[Chunk]:
    """CONNECT, PING, and a route registered."""
    connect: dict[str, Any] = {
        "verbose": False,
        "pedantic": False,
        "lang": "go",
        "version": "1.37.0",
        "name": name,
        "protocol": 1,
    }
    if password:
        connect |= {"user": "nats", "pass": FAKE_PASSWORD}
    route = json.dumps(
        {"host": CELL0.ip, "port": 61_012, "tls_port": 61_014, "uris": ["shop.apps.example.com"]}
    ).encode()
    return [
        ("c", b"CONNECT " + json.dumps(connect, separators=(",", ":")).encode() + b"\r\nPING\r\n"),
        ("s", b"PONG\r\n"),
        ("c", b"PUB router.register %d\r\n%b\r\n" % (len(route), route)),
        ("s", b"PING\r\n"),
        ("c", b"PONG\r\n"),
    ]


def _sha1(data: bytes) -> bytes:
    """What mysql_native_password is made of."""
    return hashlib.sha1(data, usedforsecurity=False).digest()


class MySql:
    """The MySQL client/server protocol, connection phase (protocol 10), from the manual's description."""

    CLIENT_SSL = 0x0800
    CAPABILITIES = 0x0000_0001 | 0x0008 | 0x0200 | 0x2000 | 0x8000 | 0x0008_0000
    """LONG_PASSWORD, CONNECT_WITH_DB, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH."""

    def __init__(self, rng: random.Random) -> None:
        self.salt = bytes(rng.randrange(33, 126) for _ in range(20))

    @staticmethod
    def packet(number: int, payload: bytes) -> bytes:
        return len(payload).to_bytes(3, "little") + bytes([number]) + payload

    def greeting(self, *, tls: bool = False, plugin: bytes = b"mysql_native_password") -> Chunk:
        flags = self.CAPABILITIES | (self.CLIENT_SSL if tls else 0)
        payload = b"\x0a8.4.2-2\0" + struct.pack("<I", 4711) + self.salt[:8] + b"\0"
        payload += struct.pack("<HBHH", flags & 0xFFFF, 255, 2, flags >> 16) + bytes([21]) + bytes(10)
        payload += self.salt[8:] + b"\0" + plugin + b"\0"
        return ("s", self.packet(0, payload))

    def ssl_request(self) -> Chunk:
        return ("c", self.packet(1, struct.pack("<IIB", self.CAPABILITIES | self.CLIENT_SSL, 1 << 24, 255) + bytes(23)))

    def login(
        self,
        user: bytes,
        database: bytes,
        number: int = 1,
        *,
        plugin: bytes = b"mysql_native_password",
        empty: bool = False,
    ) -> Chunk:
        first = _sha1(FAKE_PASSWORD.encode())
        mixed = _sha1(self.salt + _sha1(first))
        answer = b"" if empty else bytes(a ^ b for a, b in zip(first, mixed, strict=True))
        if plugin == b"mysql_clear_password":
            answer = FAKE_PASSWORD.encode() + b"\0"
        payload = struct.pack("<IIB", self.CAPABILITIES, 1 << 24, 255) + bytes(23)
        payload += user + b"\0" + bytes([len(answer)]) + answer + database + b"\0" + plugin + b"\0"
        return ("c", self.packet(number, payload))

    def accepted(self, number: int = 2) -> Chunk:
        return ("s", self.packet(number, b"\0\0\0\x02\0\0\0"))

    def denied(self, number: int = 2) -> Chunk:
        return (
            "s",
            self.packet(
                number,
                b"\xff"
                + struct.pack("<H", 1045)
                + b"#28000Access denied for user 'diego'@'10.0.4.40' (using password: YES)",
            ),
        )

    def query(self, text: bytes) -> list[Chunk]:
        return [
            ("c", self.packet(0, b"\x03" + text)),
            ("s", self.packet(1, b"\0\0\0\x02\0\0\0")),
            ("c", self.packet(0, b"\x01")),
        ]


class Ssh:
    """SSH as Go's x/crypto/ssh speaks it at both ends (RFC 4253): banners, key exchange, NEWKEYS, then packets of random bytes as long as a login's."""

    KEX = b"curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256,diffie-hellman-group14-sha256"
    HOST_KEYS = b"rsa-sha2-256,rsa-sha2-512,ssh-rsa"
    CIPHERS = b"aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr"
    MACS = b"hmac-sha2-256-etm@openssh.com,hmac-sha2-256,hmac-sha1"

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    @staticmethod
    def text(value: bytes) -> bytes:
        return struct.pack(">I", len(value)) + value

    def packet(self, payload: bytes) -> bytes:
        """RFC 4253 section 6: the whole is a multiple of 8, with at least 4 bytes of padding."""
        padding = 8 - (5 + len(payload)) % 8
        padding += 8 if padding < 4 else 0
        return struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + self.rng.randbytes(padding)

    def kexinit(self) -> bytes:
        lists = [self.KEX, self.HOST_KEYS, self.CIPHERS, self.CIPHERS, self.MACS, self.MACS, b"none", b"none", b"", b""]
        return self.packet(b"\x14" + self.rng.randbytes(16) + b"".join(map(self.text, lists)) + bytes(5))

    def session(
        self, banner: bytes = b"SSH-2.0-Go", server: bytes = b"SSH-2.0-diego-ssh-daemon", data_packets: int = 6
    ) -> list[Chunk]:
        """A whole session."""
        modulus = b"\0\xc1" + self.rng.randbytes(255)
        host_key = self.text(b"ssh-rsa") + self.text(b"\x01\x00\x01") + self.text(modulus)
        signature = self.text(self.text(b"rsa-sha2-256") + self.text(self.rng.randbytes(256)))
        newkeys = self.packet(b"\x15")
        talk: list[Chunk] = [
            ("c", banner + b"\r\n"),
            ("s", server + b"\r\n"),
            ("c", self.kexinit()),
            ("s", self.kexinit()),
            ("c", self.packet(b"\x1e" + self.text(self.rng.randbytes(32)))),
            ("s", self.packet(b"\x1f" + self.text(host_key) + self.text(self.rng.randbytes(32)) + signature) + newkeys),
            ("c", newkeys),
        ]
        # Lengths of AES-GCM packets: the service, method none, a key asked for and signed with, a login that is accepted, a channel.
        login = ["c32", "s32", "c48", "s32", "c352", "s304", "c640", "s16", "c32", "s32"]
        sealed = random.Random(modulus)
        for side, size in ((each[0], int(each[1:])) for each in login):
            talk.append((side, struct.pack(">I", size) + sealed.randbytes(size + 16)))
        for number in range(data_packets):
            length = 32 + 16 * self.rng.randrange(1, 6)
            talk.append(("cs"[number % 2], struct.pack(">I", length) + self.rng.randbytes(length + 16)))
        return talk


def dns_query(rng: random.Random, name: str, answer: str) -> list[Chunk]:
    """A question for an address and its answer (RFC 1035)."""
    number = struct.pack(">H", rng.randrange(65_536))
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0\0\x01\0\x01"
    reply = b"\xc0\x0c\0\x01\0\x01" + struct.pack(">IH", 30, 4) + ipaddress.ip_address(answer).packed
    return [
        ("c", number + b"\x01\0\0\x01\0\0\0\0\0\0" + question),
        ("s", number + b"\x81\x80\0\x01\0\x01\0\0\0\0" + question + reply),
    ]


# --- the wire -------------------------------------------------------------------------------------------------------------------------------------

MSS_BYTES = 1448
"""Of an Ethernet frame of 1514 bytes with the time stamp option."""
LINKTYPE_ETHERNET = 1


@dataclass
class Wire:
    """Frames in the making; times are nanoseconds since 1970."""

    seed: int
    frames: list[tuple[int, int, bytes]] = field(default_factory=list)
    """(time, interface, bytes)"""

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self._idents: dict[str, int] = {}

    @staticmethod
    def _mac(ip: str) -> str:
        return "02:00:" + ":".join(f"{octet:02x}" for octet in ipaddress.ip_address(ip).packed[-4:])

    def _send(self, at_ns: int, source: Vm, target: Vm, layer: Any, zone: str) -> None:
        ident = self._idents[source.ip] = (self._idents.get(source.ip, self.rng.randrange(65_536)) + 1) & 0xFFFF
        ip = IP(src=source.ip, dst=target.ip, id=ident, flags="DF", ttl=64)
        frame = Ether(src=self._mac(source.ip), dst=self._mac(target.ip)) / ip / layer
        self.frames.append((at_ns, 0 if zone == "z1" else 1, bytes(frame)))

    def port(self, vm: Vm) -> int:
        """An ephemeral port: Linux's range, but on the gorouter's VMs anything from 1024."""
        return self.rng.randrange(1_024, 60_000) if vm.role == "router" else self.rng.randrange(32_768, 61_000)

    def arp(self, at: float, asks: Vm, asked: Vm) -> None:
        """Who has an address."""
        frame = Ether(src=self._mac(asks.ip), dst="ff:ff:ff:ff:ff:ff") / ARP(
            hwsrc=self._mac(asks.ip), psrc=asks.ip, pdst=asked.ip
        )
        self.frames.append((BEGIN_NS + int(at * SECOND), 0 if asks.zone == "z1" else 1, bytes(frame)))

    def udp(self, at: float, a: Vm, b: Vm, port: int, chunks: Iterable[Chunk], sport: int | None = None) -> int:
        """Datagrams; gives the originator's port."""
        sport = sport or self.port(a)
        now = BEGIN_NS + int(at * SECOND)
        for who, data in chunks:
            if who == "c":
                self._send(now, a, b, UDP(sport=sport, dport=port) / Raw(data), a.zone)
            else:
                self._send(now, b, a, UDP(sport=port, dport=sport) / Raw(data), a.zone)
            now += self.rng.randrange(200_000, 900_000)
        return sport

    def ping(self, at: float, a: Vm, b: Vm) -> None:
        """An echo request and its reply."""
        now = BEGIN_NS + int(at * SECOND)
        self._send(now, a, b, ICMP(type=8, id=7, seq=1) / Raw(b"x" * 48), a.zone)
        self._send(now + 300_000, b, a, ICMP(type=0, id=7, seq=1) / Raw(b"x" * 48), a.zone)

    def tcp(
        self,
        at: float,
        a: Vm,
        b: Vm,
        port: int,
        chunks: Iterable[Chunk] = (),
        *,
        sport: int | None = None,
        ends: str = "fin",
        skip: int = 0,
        pause: float = 0.0,
        keepalives: int = 0,
        again: int | None = None,
    ) -> int:
        """A TCP connection; gives the originator's port.

        Parameters: ``ends`` is fin (both ways), server_fin (the responder closes first), reset (by the responder), open (goes on after the capture),
        refused or silent; the first ``skip`` chunks, with the opening, were sent before the capture began; ``pause`` seconds between writes; keep-alive probes
        of the originator before the end; the data segment with the number ``again`` is sent twice.
        """
        sport = sport or self.port(a)
        talk = _Tcp(self, a, b, sport, port, BEGIN_NS + int(at * SECOND))
        first = begun = len(self.frames)
        if ends in ("refused", "silent"):
            talk.attempt(refused=ends == "refused")
        else:
            talk.open()
            for number, (who, data) in enumerate(chunks):
                if number and pause:
                    talk.now += int(pause * SECOND)
                talk.write(who, data, again)
                if number + 1 == skip:
                    begun = len(self.frames)
            for _ in range(keepalives):
                talk.keepalive()
            talk.end(ends)
        del self.frames[first:begun]
        return sport

    def write_pcapng(self, path: Path, interfaces: Sequence[tuple[str, str]]) -> None:
        """Frames in order of time; interfaces are (name, description), with nanoseconds and statistics that say: nothing dropped."""

        def option(code: int, value: bytes) -> bytes:
            return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)

        def block(kind: int, body: bytes) -> bytes:
            size = struct.pack("<I", len(body) + 12)
            return struct.pack("<I", kind) + size + body + size

        said = option(4, b"captures/sample") + option(0, b"")
        out = [block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + said)]
        for name, description in interfaces:
            options = option(2, name.encode()) + option(3, description.encode()) + option(9, b"\x09") + option(0, b"")
            out.append(block(1, struct.pack("<HHI", LINKTYPE_ETHERNET, 0, 262_144) + options))
        last, count = 0, [0] * len(interfaces)
        for at_ns, interface, data in sorted(self.frames, key=lambda frame: frame[0]):
            head = struct.pack("<IIIII", interface, at_ns >> 32, at_ns & 0xFFFFFFFF, len(data), len(data))
            out.append(block(6, head + data + bytes(-len(data) % 4)))
            last, count[interface] = at_ns, count[interface] + 1
        for interface, received in enumerate(count):
            options = option(4, struct.pack("<Q", received)) + option(5, struct.pack("<Q", 0)) + option(0, b"")
            out.append(block(5, struct.pack("<III", interface, last >> 32, last & 0xFFFFFFFF) + options))
        path.write_bytes(b"".join(out))

    def write_pcap(self, path: Path) -> None:
        """The same as a classic capture with microseconds, as tcpdump and `bosh pcap` write it."""
        out = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, LINKTYPE_ETHERNET)]
        for at_ns, _, data in sorted(self.frames, key=lambda frame: frame[0]):
            seconds, rest = divmod(at_ns, SECOND)
            out.append(struct.pack("<IIII", seconds, rest // 1_000, len(data), len(data)) + data)
        path.write_bytes(b"".join(out))


class _Tcp:
    """Both ends of one TCP connection."""

    def __init__(self, wire: Wire, a: Vm, b: Vm, sport: int, dport: int, now: int) -> None:
        self.wire, self.now, self.zone = wire, now, a.zone
        self.vm = {"c": a, "s": b}
        self.ports = {"c": sport, "s": dport}
        self.seq = {"c": wire.rng.randrange(1 << 32), "s": wire.rng.randrange(1 << 32)}
        self.clock = {"c": wire.rng.randrange(1 << 31), "s": wire.rng.randrange(1 << 31)}
        self.heard = {"c": 0, "s": 0}
        self.segments = 0

    @staticmethod
    def _other(who: str) -> str:
        return "s" if who == "c" else "c"

    def _tick(self, least_us: int = 40, most_us: int = 400) -> None:
        self.now += 1_000 * self.wire.rng.randrange(least_us, most_us)

    def _stamp(self, who: str) -> tuple[str, tuple[int, int]]:
        mine = (self.clock[who] + self.now // 1_000_000) & 0xFFFFFFFF
        echoed = self.heard[who]
        self.heard[self._other(who)] = mine
        return ("Timestamp", (mine, echoed))

    def _segment(
        self, who: str, flags: str, data: bytes = b"", *, seq: int | None = None, options: Any = None, ack: bool = True
    ) -> None:
        other = self._other(who)
        layer = TCP(
            sport=self.ports[who],
            dport=self.ports[other],
            seq=self.seq[who] if seq is None else seq,
            ack=self.seq[other] if ack else 0,
            flags=flags,
            window=502 if "S" not in flags else 64_240,
            options=[("NOP", None), ("NOP", None), self._stamp(who)] if options is None else options,
        )
        self.wire._send(self.now, self.vm[who], self.vm[other], layer / Raw(data) if data else layer, self.zone)
        self._tick()

    def _syn(self, who: str) -> None:
        options = [("MSS", 1460), ("SAckOK", b""), self._stamp(who), ("NOP", None), ("WScale", 7)]
        self._segment(who, "S" if who == "c" else "SA", options=options, ack=who == "s")

    def _advance(self, who: str, count: int) -> None:
        self.seq[who] = (self.seq[who] + count) & 0xFFFFFFFF

    def open(self) -> None:
        self._syn("c")
        self._advance("c", 1)
        self._syn("s")
        self._advance("s", 1)
        self._segment("c", "A")

    def attempt(self, *, refused: bool) -> None:
        if refused:
            self._syn("c")
            self._advance("c", 1)
            self.seq["s"] = 0
            self._segment("s", "RA", options=[])
            return
        for wait in (1, 2, 4):
            self._syn("c")
            self.now += wait * SECOND

    def write(self, who: str, data: bytes, again: int | None = None) -> None:
        self._tick(100, 900)
        for at in range(0, len(data), MSS_BYTES):
            piece = data[at : at + MSS_BYTES]
            last = at + MSS_BYTES >= len(data)
            for _ in range(2 if self.segments == again else 1):
                self._segment(who, "PA" if last else "A", piece)
            self._advance(who, len(piece))
            self.segments += 1
            if not last and (at // MSS_BYTES) % 2:
                self._segment(self._other(who), "A")
        self._segment(self._other(who), "A")

    def keepalive(self) -> None:
        """A probe one byte back, without data, and its answer (RFC 9293 section 3.8.4)."""
        self.now += 15 * SECOND
        self._segment("c", "A", seq=(self.seq["c"] - 1) & 0xFFFFFFFF)
        self._segment("s", "A")

    def end(self, how: str) -> None:
        self._tick(200, 2_000)
        if how == "reset":
            self._segment("s", "RA", options=[])
        elif how in ("fin", "server_fin"):
            first = "c" if how == "fin" else "s"
            for who in (first, self._other(first)):
                self._segment(who, "FA")
                self._advance(who, 1)
            self._segment(first, "A")
        elif how != "open":
            raise ValueError(how)


# --- the truth ------------------------------------------------------------------------------------------------------------------------------------

TRUTH = ("scenario", "transport", "originator", "originator_port", "responder", "responder_port", "application", "outcome",
         "disposition", "rows", "rule", "differs", "overlay", "later", "says")  # fmt: skip
"""Columns of a truth table. ``rows``: numbers in the vendor's table (1 to 25) of the documented paths; ``rule``: the finding it must be part of under the
default policy; ``differs``: in what the closest documented path differs; ``overlay``: the vendor's
other page that declares it, by the name of the shipped policy; ``later``: findings on authentication that an auditor who
reads handshakes must add."""


@dataclass
class Story:
    """Scenarios as they are played, and what each is."""

    wire: Wire
    truth: list[dict[str, str]] = field(default_factory=list)

    def note(self, scenario: str, a: Vm, b: Vm, sport: int | None, dport: int | None, says: str, **facts: str) -> None:
        """One connection's truth; what is not said is a documented connection that came about."""
        row = {
            "scenario": scenario,
            "transport": "tcp",
            "originator": a.ip,
            "originator_port": "" if sport is None else str(sport),
            "responder": b.ip,
            "responder_port": "" if dport is None else str(dport),
            "application": "tls",
            "outcome": "established",
            "disposition": "documented",
            "rows": "",
            "rule": "",
            "differs": "",
            "overlay": "",
            "later": "",
            "says": says,
        }
        assert not set(facts) - set(row), facts
        self.truth.append(row | facts)

    def write_truth(self, path: Path) -> None:
        lines = ["\t".join(TRUTH), *("\t".join(row[name] for name in TRUTH) for row in self.truth)]
        path.write_text("\n".join(lines) + "\n")


def write_authorities(folder: Path) -> None:
    """The certificates of the authorities, for ``--ca``; never a key."""
    folder.mkdir(exist_ok=True)
    for name in AUTHORITIES:
        (folder / f"{name}.crt").write_text(AUTHORITY.root_pem(name))


def size_of(path: Path) -> str:
    return f"{path.stat().st_size:,} bytes"


# --- the documented platform ----------------------------------------------------------------------------------------------------------------------


def cell_name(cell: Vm) -> str:
    """The name by which a rep is called, and asked for in SNI."""
    return f"{cell.guid}.cell{_INTERNAL}"


def say(*pairs: list[Chunk]) -> list[Chunk]:
    return [chunk for pair in pairs for chunk in pair]


def over_tls(
    story: Story,
    scenario: str,
    at: float,
    a: Vm,
    b: Vm,
    port: int,
    talk: list[Chunk],
    tls: dict[str, Any],
    facts: dict[str, str],
    says: str,
    **tcp: Any,
) -> Tls:
    """One TLS connection with this talk inside."""
    made = Tls(**tls)
    made.say(*talk)
    if tcp.get("ends") != "open":
        made.close()
    sport = story.wire.tcp(at, a, b, port, made.chunks, **tcp)
    shown = {"application": "https"} if tls.get("alpn") == "h2" else {}
    story.note(scenario, a, b, sport, port, says, **(shown | facts))
    return made


def documented(
    story: Story,
    begin: float,
    version: str,
    *,
    cells: Sequence[Vm],
    brains: Sequence[Vm],
    databases: Sequence[Vm],
    controllers: Sequence[Vm],
    mark: str,
) -> None:
    """Every row of the documented table once, in the order in which a platform that runs an application would make them."""
    wire = story.wire
    cell, brain, database, controller = cells[0], brains[0], databases[0], controllers[0]
    other_database = databases[-1]
    clock = iter(begin + step * 0.7 for step in range(100))
    bbs, locket, api = "bbs" + _INTERNAL, "locket" + _INTERNAL, "cloud-controller-ng" + _INTERNAL

    def mutual(
        rows: str,
        a: Vm,
        b: Vm,
        port: int,
        server: str,
        client: str,
        sni: str,
        talk: list[Chunk],
        says: str,
        *,
        alpn: str = "",
        **tcp: Any,
    ) -> None:
        over_tls(
            story, f"{mark}-{rows.replace(',', '-')}-{client}", next(clock), a, b, port, talk,
            {"server": server, "client": client, "version": version, "sni": sni, "alpn": alpn},
            {"rows": rows}, f"{says}, mutual TLS {version}", **tcp,
        )  # fmt: skip

    desired = http("POST", "/v1/desired_lrp/list.r3", bbs, b"\x0a\x02cf", answer=b"\x12\x04shop" * 40)
    mutual("1", controller, database, 8889, "diego_bbs_server", "cc_tls", bbs,
           http("POST", "/v1/desired_lrp/desire.r2", bbs, b"\x0a\x24" + b"process" * 60), "Cloud Controller desires an LRP")  # fmt: skip
    mutual(
        "2",
        controller,
        database,
        8891,
        "diego_locket_server",
        "diego_locket_client",
        locket,
        h2(),
        "Routing API takes its lock",
        alpn="h2",
    )
    mutual("14", database, brain, 9016, "diego_auctioneer_server", "diego_auctioneer_client", "auctioneer" + _INTERNAL,
           http("POST", "/v1/lrps", "auctioneer" + _INTERNAL, b'[{"process_guid":"shop"}]', status="202 Accepted"), "BBS asks for an auction")  # fmt: skip
    mutual("3", brain, cell, 1801, "diego_rep_agent_v2", "diego_rep_client", cell_name(cell),
           say(http("GET", "/state", cell_name(cell), answer=b'{"RootFSProviders":{}}' * 30), http("POST", "/work", cell_name(cell), b'{"LRPs":[]}')), "Auctioneer asks a cell and gives it work", again=5)  # fmt: skip
    mutual("4,6", brain, database, 8889, "diego_bbs_server", "diego_bbs_client", bbs,
           http("POST", "/v1/cells/list.r1", bbs, answer=b"\x0a\x24cell" * 20), "Auctioneer (or SSH proxy) lists the cells")  # fmt: skip
    mutual("4,6", brain, database, 8889, "diego_bbs_server", "diego_bbs_client", bbs,
           http("POST", "/v1/actual_lrps/list", bbs, b"\x0a\x24shop"), "SSH proxy (or auctioneer) looks for an instance")  # fmt: skip
    mutual(
        "5,8",
        brain,
        database,
        8891,
        "diego_locket_server",
        "diego_bbs_client",
        locket,
        h2(),
        "Auctioneer (or TPS watcher) holds its lock",
        alpn="h2",
    )
    mutual(
        "5,8",
        brains[-1],
        other_database,
        8891,
        "diego_locket_server",
        "diego_bbs_client",
        locket,
        h2(),
        "TPS watcher (or auctioneer) holds its lock",
        alpn="h2",
    )
    mutual("15", database, cell, 1801, "diego_rep_agent_v2", "diego_rep_client", cell_name(cell),
           http("POST", "/v2/lrps/shop/instances/4b1c/stop", cell_name(cell), status="202 Accepted"), "BBS stops an instance")  # fmt: skip
    mutual(
        "16",
        database,
        other_database,
        8891,
        "diego_locket_server",
        "diego_bbs_server",
        locket,
        h2(),
        "BBS holds its lock",
        alpn="h2",
    )
    mutual(
        "9,12",
        cell,
        database,
        8889,
        "diego_bbs_server",
        "diego_bbs_client",
        bbs,
        desired,
        "Route emitter syncs",
        keepalives=2,
    )
    mutual("9,12", cell, database, 8889, "diego_bbs_server", "diego_rep_agent_v2", bbs,
           http("POST", "/v1/actual_lrps/start.r1", bbs, b"\x0a\x24shop"), "Rep reports a started instance")  # fmt: skip
    mutual(
        "13",
        cell,
        database,
        8891,
        "diego_locket_server",
        "diego_rep_agent_v2",
        locket,
        h2(),
        "Rep keeps its presence",
        alpn="h2",
    )
    mutual("21", cell, controller, 9023, "cc_tls", "diego_rep_agent_v2", api,
           http("GET", "/internal/v4/droplets/shop/sha1/download", api, status="302 Found"), "Rep asks for a droplet")  # fmt: skip
    mutual("17", brain, controller, 9023, "cc_tls", "cc_bridge_tps", api,
           http("POST", "/internal/v4/apps/shop/crashed", api, b'{"instance":"4b1c"}'), "TPS watcher reports a crash")  # fmt: skip
    mutual("17", brains[-1], controllers[-1], 9023, "cc_tls", "cc_bridge_cc_uploader", api,
           http("POST", "/internal/v4/droplets/shop/upload", api, b"droplet" * 90), "CC uploader hands a droplet on")  # fmt: skip
    mutual("23", database, controller, 9023, "cc_tls", "diego_bbs_server", api,
           http("POST", "/internal/v4/tasks/migrate/completed", api, b'{"failed":false}'), "BBS calls back for a task")  # fmt: skip
    mutual("10", cell, brain, 9091, "cc_uploader_server", "diego_rep_agent_v2", "cc-uploader" + _INTERNAL,
           http("POST", "/v1/droplet/shop", "cc-uploader" + _INTERNAL, b"droplet" * 300), "Rep uploads a droplet")  # fmt: skip
    over_tls(story, f"{mark}-11", next(clock), cell, brain, 8447, http("GET", "/v1/static/buildpack_app_lifecycle.tgz", "file-server" + _INTERNAL, answer=b"asset" * 500),
             {"server": "file_server", "version": version, "sni": "file-server" + _INTERNAL, "ask": "no"}, {"rows": "11"}, f"Rep fetches a lifecycle, TLS {version}")  # fmt: skip
    over_tls(story, f"{mark}-18", next(clock), brain, controller, 9024,
             http("GET", "/internal/apps/shop/ssh_access/0", api, b"", f"Authorization: bearer {FAKE_TOKEN}", answer=b'{"process_guid":"shop"}'),
             {"server": "cc_public_tls", "version": version, "sni": api, "ask": "no"}, {"rows": "18"}, f"SSH proxy asks whether a user may, OAuth inside TLS {version}")  # fmt: skip
    over_tls(story, f"{mark}-19", next(clock), brain, UAA, 443,
             http("POST", "/oauth/token", "uaa" + _INTERNAL, b"grant_type=authorization_code&code=none", "Authorization: Basic bm8tcGFzc3dvcmQ6", answer=b'{"access_token":"none"}'),
             {"server": "uaa_ssl", "version": version, "sni": "uaa" + _INTERNAL, "ask": "no", "ca": "uaaCA"}, {"rows": "19"}, f"SSH proxy changes a code for a token, OAuth inside TLS {version}")  # fmt: skip
    over_tls(story, f"{mark}-22", next(clock), cell, BLOBS, 4443,
             http("GET", "/read/cc-droplets/sh/op/shop?md5=bm8tc2lnbmF0dXJl&expires=1763290800", "blobstore" + _INTERNAL, answer=b"blob" * 900),
             {"server": "blobstore_tls", "version": version, "sni": "blobstore" + _INTERNAL, "ask": "no"}, {"rows": "22"}, f"Rep fetches a droplet with a signed URL inside TLS {version}")  # fmt: skip
    # SSH to an application: through the proxy of the application inside mutual TLS, and without it.
    over_tls(story, f"{mark}-7-tls", next(clock), brain, cell, 61_014, Ssh(wire.rng).session(),
             {"server": "app", "client": "ssh_proxy_backends_tls", "version": version, "sni": str(uuid.uuid5(uuid.NAMESPACE_DNS, "app")), "ca": "instanceIdentityCA", "client_ca": "internalCA"},
             {"rows": "7"}, f"SSH inside mutual TLS {version} into an application instance")  # fmt: skip
    sport = wire.tcp(next(clock), brain, cell, 61_010, Ssh(wire.rng).session())
    story.note(
        f"{mark}-7-plain", brain, cell, sport, 61_010, "SSH into an application instance", rows="7", application="ssh"
    )
    # NATS: in the clear with a password, and the same inside mutual TLS.
    sport = wire.tcp(next(clock), cell, NATS0, 4222, [nats_info(NATS0, 4222), *nats_session()])
    story.note(
        f"{mark}-20-plain",
        cell,
        NATS0,
        sport,
        4222,
        "Route emitter registers a route, user and password in the clear",
        rows="20",
        application="nats",
    )
    inside = Tls(
        "nats_server", "nats_client", version=version, sni="nats" + _INTERNAL, ca="natsCA", curve="secp384r1"
    ).say(*nats_session())
    sport = wire.tcp(next(clock), cell, NATS1, 4224, [nats_info(NATS1, 4224, tls=True), *inside.close()])
    story.note(
        f"{mark}-20-tls",
        cell,
        NATS1,
        sport,
        4224,
        f"Route emitter registers a route inside mutual TLS {version}",
        rows="20",
        application="nats",
    )
    # MySQL: native password in the clear, and a login inside TLS.
    sql = MySql(wire.rng)
    sport = wire.tcp(
        next(clock),
        database,
        MYSQL,
        3306,
        [sql.greeting(), sql.login(b"diego", b"diego"), sql.accepted(), *sql.query(b"SELECT guid FROM desired_lrps")],
    )
    story.note(
        f"{mark}-24-25-plain",
        database,
        MYSQL,
        sport,
        3306,
        "BBS (or Locket) logs in with the native password method",
        rows="24,25",
        application="mysql",
    )
    sql = MySql(wire.rng)
    hidden = Tls("mysql_server", version="1.2", ask="no", ca="pxc_server_ca").say(
        sql.login(b"locket", b"locket", 2), sql.accepted(3), *sql.query(b"SELECT owner FROM locks")
    )
    sport = wire.tcp(
        next(clock), other_database, MYSQL, 3306, [sql.greeting(tls=True), sql.ssl_request(), *hidden.close()]
    )
    story.note(
        f"{mark}-24-25-tls",
        other_database,
        MYSQL,
        sport,
        3306,
        "Locket (or BBS) logs in inside TLS 1.2",
        rows="24,25",
        application="mysql",
    )
