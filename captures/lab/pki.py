"""The lab's keys and certificates, from ``scenarios.yml``: made anew in a scratch folder for each recording, never kept. What is kept is the authorities' certificates."""

from __future__ import annotations

import datetime as dt
import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HERE = Path(__file__).resolve().parent


def _corpus_pki() -> ModuleType:
    spec = importlib.util.spec_from_file_location("corpus_pki", HERE.parent / "tls" / "pki.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _signed_with_sha1(
    folder: Path, leaf: x509.Certificate, own: Any, issuer: x509.Certificate, key: Any
) -> x509.Certificate:
    """The same names and uses, signed by the openssl command: the library that makes the others no longer signs so."""
    asked = x509.CertificateSigningRequestBuilder().subject_name(leaf.subject)
    for each in leaf.extensions:
        if not isinstance(each.value, x509.AuthorityKeyIdentifier | x509.SubjectKeyIdentifier):
            asked = asked.add_extension(each.value, critical=each.critical)
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    paths = [folder / f"sha1.{end}" for end in ("request", "issuer", "key")]
    paths[0].write_bytes(asked.sign(own, hashes.SHA256()).public_bytes(pem))
    paths[1].write_bytes(issuer.public_bytes(pem))
    paths[2].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    command = [
        "openssl",
        "x509",
        "-req",
        "-in",
        str(paths[0]),
        "-CA",
        str(paths[1]),
        "-CAkey",
        str(paths[2]),
        "-sha1",
        "-days",
        "670",
    ]
    command += ["-set_serial", str(leaf.serial_number), "-copy_extensions", "copyall"]
    done = subprocess.run(command, check=True, capture_output=True)
    return x509.load_pem_x509_certificate(done.stdout)


def make(folder: Path, lab: dict[str, Any]) -> dict[str, str]:
    """Keys, certificates, ``ca.pem`` of all authorities that the lab trusts; SHA-1 fingerprint to name."""
    pki = _corpus_pki()
    folder.mkdir(parents=True)
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    year = {"start": now - dt.timedelta(days=60), "end": now + dt.timedelta(days=670)}
    authorities: dict[str, tuple[x509.Certificate, Any]] = {}
    bundle = b""
    for name, about in lab["authorities"].items():
        key = pki.rsa_key()
        issuer, issuer_key = authorities[about["issuer"]] if "issuer" in about else (None, key)
        made = pki.certificate(name, key, issuer, issuer_key, ca=True, **year)
        authorities[name] = (made, key)
        if not about.get("foreign") and issuer is None:
            bundle += made.public_bytes(serialization.Encoding.PEM)
    (folder / "ca.pem").write_bytes(bundle)
    prints = {}
    for stem, about in lab["certificates"].items():
        key = (
            ec.generate_private_key(ec.SECP256R1())
            if about.get("key") == "p256"
            else pki.rsa_key(about.get("bits", 2048))
        )
        issuer, issuer_key = authorities[about["ca"]]
        first, last = about.get("days", [-60, 670])
        made = pki.certificate(
            about["cn"], key, issuer, issuer_key, ca=False,
            sans=about.get("sans", [about["cn"]]),
            start=now + dt.timedelta(days=first),
            end=now + dt.timedelta(days=last),
        )  # fmt: skip
        if about.get("digest") == "sha1":
            made = _signed_with_sha1(folder, made, key, issuer, issuer_key)
        between = (issuer,) if "issuer" in lab["authorities"][about["ca"]] else ()
        pki.write(folder, stem, key, made, between)
        prints[made.fingerprint(hashes.SHA1()).hex()] = stem  # noqa: S303  (a name, as nginx gives it)
    for stem in ("ssh-host", "ssh-key", "other-key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", stem, "-f", str(folder / stem)], check=True
        )
    return prints
