"""A small CA for agents and their collector, for those who have none: ECDSA P-256, one certificate a name."""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from auditor.agents.wire import NAME
from auditor.errors import ConfigError

CA_DAYS: Final = 3_650
DAYS: Final = 397
CA, CA_KEY = "ca.pem", "ca.key"


def make(folder: Path, names: Sequence[str], now: datetime.datetime) -> list[Path]:
    """Folders with ``ca.pem``, ``cert.pem`` and ``key.pem`` for each name; the CA of the folder is made where there is none. Raises ConfigError."""
    for name in names:
        if not NAME.fullmatch(name):
            raise ConfigError("--for", f"{name!r} is not a name", hint="letters, digits and . _ -, 64 at the most")
        if (folder / name).exists():
            raise ConfigError(str(folder / name), "is there already", hint="remove it to make a new certificate")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        ca, key = _authority(folder, now)
        return [_one(folder, name, ca, key, now) for name in names]
    except OSError as error:
        raise ConfigError(
            str(folder), f"cannot be written: {error.strerror or error}", hint="name another folder"
        ) from error


def _authority(folder: Path, now: datetime.datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    place, secret = folder / CA, folder / CA_KEY
    if place.exists():
        try:
            ca = x509.load_pem_x509_certificate(place.read_bytes())
            loaded = serialization.load_pem_private_key(secret.read_bytes(), None)
        except (ValueError, TypeError) as error:
            raise ConfigError(str(place), "and its key cannot be used", hint="name a new folder") from error
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ConfigError(str(secret), "is no key that was made here", hint="name a new folder")
        return ca, loaded
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "auditor agents CA")])
    usage = x509.KeyUsage(
        digital_signature=False, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    ca = (
        _started(name, name, key, now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(secret, _pem(key))
    _write(place, ca.public_bytes(serialization.Encoding.PEM))
    return ca, key


def _one(
    folder: Path, name: str, ca: x509.Certificate, key: ec.EllipticCurvePrivateKey, now: datetime.datetime
) -> Path:
    own = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _started(subject, ca.subject, own, now, DAYS)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    place = folder / name
    place.mkdir(mode=0o700)
    _write(place / "key.pem", _pem(own))
    _write(place / "cert.pem", certificate.public_bytes(serialization.Encoding.PEM))
    _write(place / CA, ca.public_bytes(serialization.Encoding.PEM))
    return place


def _started(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of VMs differ.
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(place: Path, content: bytes) -> None:
    with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
