"""Real TLS handshakes, made in memory by the OpenSSL that Python was built with: what each side sent, flight by flight."""

from __future__ import annotations

import atexit
import datetime
import shutil
import ssl
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@cache
def identities() -> tuple[Path, dict[str, bytes]]:
    """A folder with ca.pem and NAME.pem (certificate and key) of a server and a client, and their DER by name."""
    folder = Path(tempfile.mkdtemp(prefix="handshakes-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    now = datetime.datetime(2026, 1, 1)
    ca_key = ec.generate_private_key(ec.SECP256R1())

    def certificate(name: str, key: Any, ca: bool) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ca")])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        )
        return builder.sign(ca_key, hashes.SHA256())

    (folder / "ca.pem").write_bytes(certificate("ca", ca_key, True).public_bytes(serialization.Encoding.PEM))
    der = {}
    for name in ("server.test", "client.test"):
        key = ec.generate_private_key(ec.SECP256R1())
        made = certificate(name, key, False)
        der[name] = made.public_bytes(serialization.Encoding.DER)
        (folder / f"{name}.pem").write_bytes(
            made.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    return folder, der


@dataclass
class Recorded:
    """What both sides sent, as (frame number, bytes); frames are numbered over both."""

    client: list[tuple[int, bytes]] = field(default_factory=list)
    server: list[tuple[int, bytes]] = field(default_factory=list)
    session: ssl.SSLSession | None = None
    failed: str | None = None
    frame: int = 0

    def note(self, who: list[tuple[int, bytes]], data: bytes) -> None:
        if data:
            self.frame += 1
            who.append((self.frame, data))


def contexts(
    version: ssl.TLSVersion, *, ask: bool = False, require: bool = False, show: bool = True, alpn: tuple[str, ...] = ()
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Of a client and of a server that asks for a certificate, requires it, or does neither."""
    folder, _ = identities()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client.load_verify_locations(folder / "ca.pem")
    server.load_verify_locations(folder / "ca.pem")
    server.load_cert_chain(folder / "server.test.pem")
    if show:
        client.load_cert_chain(folder / "client.test.pem")
    if ask or require:
        server.verify_mode = ssl.CERT_REQUIRED if require else ssl.CERT_OPTIONAL
    for context in (client, server):
        context.minimum_version = context.maximum_version = version
    if alpn:
        client.set_alpn_protocols(list(alpn))
        server.set_alpn_protocols([alpn[0]])
    return client, server


def shake(
    client: ssl.SSLContext,
    server: ssl.SSLContext,
    *,
    session: ssl.SSLSession | None = None,
    talk: bool = True,
    secret: bytes = b"hello from the client",
) -> Recorded:
    """One connection: handshake, and a word each way."""
    into_client, out_of_client, into_server, out_of_server = (ssl.MemoryBIO() for _ in range(4))
    c = client.wrap_bio(into_client, out_of_client, server_hostname="server.test", session=session)
    s = server.wrap_bio(into_server, out_of_server, server_side=True)
    told = Recorded()

    def pump() -> bool:
        sent = out_of_client.read()
        told.note(told.client, sent)
        into_server.write(sent)
        answer = out_of_server.read()
        told.note(told.server, answer)
        into_client.write(answer)
        return bool(sent or answer)

    def step(act: Any) -> bool:
        try:
            act()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            told.failed = told.failed or error.reason
            return True
        return True

    done_c = done_s = False
    for _ in range(10):
        done_c = done_c or step(c.do_handshake)
        pump()
        done_s = done_s or step(s.do_handshake)
        pump()
        if done_c and done_s:
            break
    if talk and told.failed is None:
        c.write(secret)
        pump()
        step(lambda: s.read(100))
        pump()
        if told.failed is None:
            s.write(b"hello from the server")
            pump()
        step(lambda: c.read(100))
        pump()
    told.session = c.session
    return told
