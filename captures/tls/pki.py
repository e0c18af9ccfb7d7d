"""Keys and certificates for the corpus: made anew in a scratch folder for each run, never kept in the project."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PKCS12_WORD = b"none"  # JSSE and NSS want a word on the file; it protects nothing
Key = CertificateIssuerPrivateKeyTypes
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def rsa_key(bits: int = 2048) -> Key:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def name(common: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example"), x509.NameAttribute(NameOID.COMMON_NAME, common)]
    )


def certificate(
    common: str,
    key: Key,
    issuer: x509.Certificate | None,
    issuer_key: Key,
    ca: bool,
    *,
    sans: Sequence[str] = (),
    start: dt.datetime = START,
    end: dt.datetime = START + dt.timedelta(days=3650),
    digest: hashes.HashAlgorithm | None = None,
) -> x509.Certificate:
    """Named ``common``, and by ``sans`` where a leaf has other names than that."""
    made = (
        x509.CertificateBuilder()
        .subject_name(name(common))
        .issuer_name(issuer.subject if issuer else name(common))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                not ca, False, not ca and isinstance(key, rsa.RSAPrivateKey), False, False, ca, ca, False, False
            ),
            critical=True,
        )
    )
    if not ca:
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        names = [x509.DNSName(each) for each in sans or (common,)]
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        made = made.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return made.sign(issuer_key, digest or hashes.SHA256())


def write(folder: Path, stem: str, key: Key, leaf: x509.Certificate, more: tuple[x509.Certificate, ...] = ()) -> None:
    pem = serialization.Encoding.PEM
    (folder / f"{stem}.pem").write_bytes(b"".join(each.public_bytes(pem) for each in (leaf, *more)))
    kind = serialization.PrivateFormat.PKCS8
    if isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        kind = serialization.PrivateFormat.TraditionalOpenSSL  # the oldest form: every stack reads it
    (folder / f"{stem}.key").write_bytes(key.private_bytes(pem, kind, serialization.NoEncryption()))
    packed = pkcs12.serialize_key_and_certificates(
        stem.encode(), key, leaf, list(more) or None, BestAvailableEncryption(PKCS12_WORD)
    )
    (folder / f"{stem}.p12").write_bytes(packed)


def make(folder: Path) -> None:
    """ca, server (RSA), and client certificates rsa, p256, ed25519, chain (leaf and intermediate), untrusted (another root)."""
    root_key, other_key, middle_key = rsa_key(), rsa_key(), rsa_key()
    root = certificate("corpus root", root_key, None, root_key, ca=True)
    other = certificate("another root", other_key, None, other_key, ca=True)
    middle = certificate("corpus intermediate", middle_key, root, root_key, ca=True)
    (folder / "ca.pem").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    for stem, key in (
        ("server", rsa_key()),
        ("rsa", rsa_key()),
        ("p256", ec.generate_private_key(ec.SECP256R1())),
        ("ed25519", ed25519.Ed25519PrivateKey.generate()),
    ):
        write(folder, stem, key, certificate(f"{stem}.example", key, root, root_key, ca=False))
    key = rsa_key()
    write(folder, "chain", key, certificate("chain.example", key, middle, middle_key, ca=False), (middle,))
    key = rsa_key()
    write(folder, "untrusted", key, certificate("untrusted.example", key, other, other_key, ca=False))
