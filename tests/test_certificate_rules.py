"""Real handshakes with certificates in and out of their place, audited from the capture to the finding."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from auditor import pipeline
from auditor.policy.certificates import load_cas
from auditor.policy.inventory import load_inventory
from auditor.policy.loader import load_policy
from tests.capture.make import pcap
from tests.conversation import Talk, Wire
from tests.inspectors.handshakes import shake
from tests.test_secrets import CELL, DATABASE, INVENTORY, frames

NOW = dt.datetime(2023, 11, 14, 22, 0, tzinfo=dt.UTC)
"""An hour or so before the capture's first packet."""
DAY = dt.timedelta(days=1)
NO_CHECK_TIME = 0x20_0000
"""X509_V_FLAG_NO_CHECK_TIME: OpenSSL looks at the clock on the wall, the auditor at the packets'."""
OURS = frozenset({"certificate-expired", "certificate-identity", "certificate-untrusted", "weak-certificate"})


@cache
def key(name: str, bits: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, bits)


def issue(
    folder: Path, name: str, issuer: str = "internalCA", *, bits: int = 2048, ends: dt.datetime = NOW + 9 * DAY
) -> Path:
    """A PEM file with a certificate and its key."""
    cert = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key(name, bits).public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - 9 * DAY)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=name == issuer, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key(issuer, 2048), hashes.SHA256())
    )
    secret = key(name, bits).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / f"{name}.{issuer}.{bits}.{ends.timestamp():.0f}.pem"
    file.write_bytes(cert.public_bytes(serialization.Encoding.PEM) + secret)
    return file


def findings(folder: Path, client: Path, server: Path, cas: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """What an audit says of a cell that calls BBS with these certificates, by rule."""
    asks, answers = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context, file in ((asks, client), (answers, server)):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ALL:@SECLEVEL=0")  # of what these ends take, the auditor shall complain
        context.load_cert_chain(file)
        context.check_hostname = False
    asks.verify_mode = ssl.CERT_NONE
    answers.verify_mode = ssl.CERT_OPTIONAL
    for each in (client, server):
        answers.load_verify_locations(each)
    for issuer in ("internalCA", "otherCA"):
        answers.load_verify_locations(issue(folder, issuer, issuer))
    answers.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VerifyFlags(NO_CHECK_TIME)
    told = shake(asks, answers)
    assert told.failed is None
    wire = Wire()
    talk = Talk(wire, client=CELL, server=DATABASE, sport=8889).opens()
    said = sorted(
        [(frame, talk.says, data) for frame, data in told.client]
        + [(frame, talk.answers, data) for frame, data in told.server],
        key=lambda each: each[0],
    )
    for _, says, data in said:
        says(data)
    talk.closes()
    (folder / "c.pcap").write_bytes(pcap(frames(wire)))
    (folder / "inventory.yml").write_text(INVENTORY)
    policy = load_policy(["cf-deployment-names"])
    options = {"ca": load_cas(cas, policy)} if cas else {}
    audit = pipeline.run(
        [str(folder / "c.pcap")],
        policy=policy,
        inventory=load_inventory([str(folder / "inventory.yml")], policy),
        options=options,
    )
    [verdict] = audit.connections["authentication_verdict"]
    assert verdict == "verified"  # faults of certificates move no verdict
    return {row["rule"]: row for row in audit.findings.to_dict("records")}


@pytest.fixture
def bbs(tmp_path: Path) -> Path:
    return issue(tmp_path, "bbs.service.cf.internal")


def test_good_certificates_have_no_finding(tmp_path: Path, bbs: Path) -> None:
    rep = issue(tmp_path, "cell.service.cf.internal")
    ca = issue(tmp_path, "internalCA", "internalCA")
    assert findings(tmp_path, rep, bbs, [str(ca)]) == {}


@pytest.mark.parametrize(
    ("rule", "name", "issued", "says"),
    [
        ("certificate-expired", "cell.service.cf.internal", {"ends": NOW - DAY}, "was in force until 2023-11-13T22:00:00Z only"),
        ("certificate-identity", "cc_uploader", {}, "belongs to CC Uploader, and the originator is diego_cell"),
        ("certificate-untrusted", "cell.service.cf.internal", {"issuer": "otherCA"}, "issued by otherCA, does not chain to any --ca certificate"),
        ("weak-certificate", "cell.service.cf.internal", {"bits": 1024}, "an RSA key of 1024 bits"),
    ],
)  # fmt: skip
def test_each_fault_is_one_finding(
    tmp_path: Path, bbs: Path, rule: str, name: str, issued: dict[str, Any], says: str
) -> None:
    rep = issue(tmp_path, name, **issued)
    found = findings(tmp_path, rep, bbs, [f"diego_database={issue(tmp_path, 'internalCA', 'internalCA')}"])
    assert set(found) & OURS == {rule}
    assert says in found[rule]["detail"]
    [evidence] = found[rule]["evidence"]
    assert evidence["kind"] == "tls.client_certificates"
    assert evidence["frames"]
