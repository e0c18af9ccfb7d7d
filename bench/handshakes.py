"""Real TLS handshakes for the generator: what two OpenSSL ends say to each other, recorded.

Twelve conversations, six of TLS 1.2 and six of TLS 1.3, all with a client certificate: RSA-2048 and P-256 keys, each with a
leaf and its root, a leaf and its intermediate, and the same with a long list of names. Both ends are Python's ``ssl`` over ``MemoryBIO``, so no socket and no
clock is involved; the certificates are made by ``cryptography`` and forgotten, only the bytes that crossed are kept. A request and its
answer follow as application data.

OpenSSL's randomness cannot be seeded, so a recording is kept in a file and used again: the generator is deterministic in its seed *and* its
recording.
"""

import base64
import contextlib
import datetime as dt
import json
import ssl
import tempfile
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ORIG, RESP = 0, 1
FORMAT = "handshakes/1"
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Message = tuple[int, bytes]
"""Who speaks (ORIG or RESP), and what it says until the other answers."""


class Authority(NamedTuple):
    """A certificate that may sign, and its key."""

    certificate: x509.Certificate
    key: Key


def _key(kind: str) -> Key:
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def _certificate(
    name: str, key: Key, issuer: Authority | None, *, names: int = 0, ca: bool = False
) -> x509.Certificate:
    subject = x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Bench"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )
    signer = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2025, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(dt.datetime(2045, 1, 1, tzinfo=dt.UTC))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if not ca:
        more = [x509.DNSName(f"{i}.{name}") for i in range(names)]
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name), *more]), critical=False)
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _pem(folder: Path, name: str, key: Key, chain: list[x509.Certificate]) -> Path:
    """Key and chain in one file, as ``load_cert_chain`` wants them; the folder lives as long as the recording."""
    path = folder / f"{name}.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain))
    return path


def _converse(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> list[Message]:
    """One handshake, a request and an answer, as the turns in which they were spoken."""
    inbox = {ORIG: ssl.MemoryBIO(), RESP: ssl.MemoryBIO()}
    outbox = {ORIG: ssl.MemoryBIO(), RESP: ssl.MemoryBIO()}
    end = {
        ORIG: client.wrap_bio(inbox[ORIG], outbox[ORIG], server_hostname=host),
        RESP: server.wrap_bio(inbox[RESP], outbox[RESP], server_side=True),
    }
    said: list[Message] = []

    def pass_state(who: int) -> None:
        if outbox[who].pending:
            data = outbox[who].read()
            said.append((who, data))
            inbox[1 - who].write(data)

    unfinished = {ORIG, RESP}
    while unfinished:
        for who in (ORIG, RESP):
            if who in unfinished:
                with contextlib.suppress(ssl.SSLWantReadError):
                    end[who].do_handshake()
                    unfinished.discard(who)
            pass_state(who)
    for who, size in ((ORIG, 200), (RESP, 500)):
        end[who].write(bytes(size))
        pass_state(who)
        end[1 - who].read(size)
    return said


def record() -> list[list[Message]]:
    """Twelve conversations; TLS 1.2 and 1.3 in turn."""
    conversations = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for kind in ("rsa", "p256"):
            root_key, middle_key = _key(kind), _key(kind)
            root = Authority(_certificate(f"{kind} root", root_key, None, ca=True), root_key)
            middle = Authority(_certificate(f"{kind} issuing", middle_key, root, ca=True), middle_key)
            trust = root.certificate.public_bytes(serialization.Encoding.PEM).decode()
            for shape, issuer, names in (("leaf", root, 0), ("chain", middle, 0), ("names", middle, 6)):
                files = []
                host = f"{shape}.{kind}.service.cf.internal"
                for subject in (f"client.{host}", host):
                    key = _key(kind)
                    leaf = _certificate(subject, key, issuer, names=names)
                    chain = [leaf] if issuer is root else [leaf, issuer.certificate]
                    files.append(_pem(folder, subject, key, chain))
                for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
                    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    server.verify_mode = ssl.CERT_REQUIRED
                    for context, file in ((client, files[0]), (server, files[1])):
                        context.minimum_version = context.maximum_version = version
                        context.load_verify_locations(cadata=trust)
                        context.load_cert_chain(file)
                    if shape == "names":
                        client.set_alpn_protocols(["h2", "http/1.1"])
                        server.set_alpn_protocols(["h2"])
                    conversations.append(_converse(client, server, host))
    return conversations


def load(path: Path) -> list[list[Message]]:
    """The recording in ``path``; made there if there is none."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        turns = [[[who, base64.b64encode(data).decode()] for who, data in talk] for talk in record()]
        path.write_text(json.dumps({"format": FORMAT, "conversations": turns}, indent=0), encoding="utf-8")
    kept = json.loads(path.read_text(encoding="utf-8"))
    if kept.get("format") != FORMAT:
        raise SystemExit(f"{path}: not a recording of this generator ({FORMAT}); delete it and it is made anew")
    return [[(who, base64.b64decode(text)) for who, text in talk] for talk in kept["conversations"]]
