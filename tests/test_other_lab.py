"""Another foundation, recorded: real handshakes whose certificates have names that no table has, from the capture to the report."""

from __future__ import annotations

import datetime as dt
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import auditor
from auditor.policy.draft_policy import suggest
from auditor.policy.loader import check_policy, load_policy
from tests.capture.make import pcap
from tests.conversation import Talk, Wire
from tests.inspectors.handshakes import shake
from tests.test_certificate_rules import NO_CHECK_TIME
from tests.test_secrets import frames

NOW = dt.datetime(2023, 11, 14, 22, 0, tzinfo=dt.UTC)
CELLS = {f"diego_cell/{k}": f"10.0.8.{20 + k}" for k in range(5)}
VMS = {**CELLS, "diego_brain/0": "10.0.8.30", "diego_brain/1": "10.0.8.31", "diego_database/0": "10.0.8.40", "cloud_controller/0": "10.0.8.50"}  # fmt: skip
INVENTORY = "networks: [10.0.8.0/24]\nvms:\n" + "".join(f"  - {{name: {vm}, ips: [{ip}]}}\n" for vm, ip in VMS.items())


@cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Paper:
    """A certificate by what it says."""

    name: str
    issuer: str = "Foundation CA"
    key: str = ""

    def file(self, folder: Path) -> Path:
        """A PEM file with it and its key; of an authority, where issuer and name are one."""
        file = folder / f"{self.name}.{self.issuer}.{self.key}.pem"
        if file.exists():
            return file
        mine, signs = key(self.key or self.name), key(self.issuer)
        cert = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.issuer)]))
            .public_key(mine.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - dt.timedelta(days=9))
            .not_valid_after(NOW + dt.timedelta(days=9))
            .add_extension(x509.BasicConstraints(ca=self.name == self.issuer, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(self.name)]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signs.public_key()), critical=False)
            .sign(signs, hashes.SHA256())
        )
        form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        file.write_bytes(cert.public_bytes(serialization.Encoding.PEM) + mine.private_bytes(*form))
        return file


REP, EMITTER, SSH_PROXY, AUCTION = (Paper(f"{name}.tas.internal") for name in ("rep", "route-emitter", "ssh-proxy", "auction"))  # fmt: skip
CC, BBS, UPLOADS = Paper("capi.tas.internal"), Paper("bulletin.tas.internal"), Paper("uploads.tas.internal")

Call = tuple[str, str, int, Paper, Paper]
"""Who calls whom on which port, and what both show."""


def honest() -> list[Call]:
    return [
        *((cell, "diego_database/0", 8889, each, BBS) for cell in CELLS for each in (REP, EMITTER)),
        *((cell, "diego_brain/0", 9091, REP, UPLOADS) for cell in CELLS),
        *((f"diego_brain/{k}", "diego_database/0", 8889, SSH_PROXY, BBS) for k in range(2)),
        ("diego_brain/0", "diego_database/0", 8889, AUCTION, BBS),
        *(("diego_brain/0", cell, 1801, AUCTION, Paper("cell.tas.internal")) for cell in CELLS),
        *[("cloud_controller/0", "diego_database/0", 8889, CC, BBS)] * 2,
    ]


class Recorder:
    """Plays calls into captures, and audits them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "inventory.yml").write_text(INVENTORY)

    def audit(self, calls: list[Call], **more: Any) -> Any:
        wire = Wire()
        for number, (orig, resp, port, client, server) in enumerate(calls):
            self._play(wire, 40_000 + number, orig, resp, port, client, server)
        (self.folder / "c.pcap").write_bytes(pcap(frames(wire)))
        return auditor.audit(self.folder / "c.pcap", inventory=self.folder / "inventory.yml", **more)

    def _play(self, wire: Wire, cport: int, orig: str, resp: str, port: int, client: Paper, server: Paper) -> None:
        asks, answers = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        for context, paper in ((asks, client), (answers, server)):
            context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.load_cert_chain(paper.file(self.folder))
            context.check_hostname = False
        asks.verify_mode, answers.verify_mode = ssl.CERT_NONE, ssl.CERT_REQUIRED
        answers.load_verify_locations(Paper(client.issuer, client.issuer).file(self.folder))
        answers.verify_flags |= ssl.VerifyFlags(NO_CHECK_TIME)
        told = shake(asks, answers)
        assert told.failed is None
        talk = Talk(wire, client=VMS[orig], server=VMS[resp], cport=cport, sport=port).opens()
        said = [(frame, talk.says, data) for frame, data in told.client]
        said += [(frame, talk.answers, data) for frame, data in told.server]
        for _, says, data in sorted(said, key=lambda each: each[0]):
            says(data)
        talk.closes()


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    return Recorder(tmp_path_factory.mktemp("other"))


def accused(report: Any) -> list[dict[str, Any]]:
    found = report.findings[report.findings["rule"] == "certificate-identity"]
    return [row for row in found.to_dict("records") if row["severity"] != "info"]


def test_an_honest_foundation_has_no_finding_but_its_own_names(recorder: Recorder) -> None:
    report = recorder.audit(honest())
    assert set(report.connections["authentication_verdict"]) == {"verified"}
    [told] = report.findings.to_dict("records")
    assert (told["rule"], told["severity"]) == ("certificate-identity", "info")
    assert "diego_cell calls itself rep.tas.internal (10)" in told["detail"]
    assert "auditor policy suggest" in told["remediation"]
    assert len(told["connections"]) == len(report.connections)


def deviations() -> Iterator[Any]:
    cell, stolen, own = "diego_cell/2", AUCTION, Paper("rep.tas.internal", "Somebody CA")
    yield pytest.param((cell, "diego_brain/0", 9091, stolen, UPLOADS), "unlike its peers'", "diego_brain/0 shows auction.tas.internal", id="moved")  # fmt: skip
    yield pytest.param((cell, "diego_database/0", 8889, Paper("stranger"), BBS), "unlike its peers'", "is shown only by diego_cell/2", id="another")  # fmt: skip
    yield pytest.param((cell, "diego_brain/0", 9091, own, UPLOADS), "of a different authority than its peers", "Somebody CA", id="authority")  # fmt: skip
    yield pytest.param(("diego_brain/0", cell, 1801, AUCTION, Paper("else.tas.internal")), "unlike its peers'", "the server's certificate", id="server")  # fmt: skip


@pytest.mark.parametrize(("call", "title", "says"), list(deviations()))
def test_each_deviation_is_the_one_finding(recorder: Recorder, call: Call, title: str, says: str) -> None:
    # The deviating VM does what its peers do, but for this one call.
    report = recorder.audit([*honest(), call])
    [finding] = accused(report)
    assert (finding["severity"], finding["count"]) == ("high", 1)
    assert title in finding["title"]
    assert says.lower() in finding["detail"].lower()
    [row] = report.connections[report.connections["id"].isin(finding["connections"])].to_dict("records")
    assert (row["originator_instance"], row["responder_instance"]) == call[:2]
    assert (
        row["authentication_verdict"] == "verified"
    )  # the method took place; whose certificate it was is another question
    mine, peers = [
        [each for each in finding["evidence"] if each["kind"].startswith("peer.") is peer] for peer in (False, True)
    ]
    assert [bool(each["frames"]) for each in mine] == [True]
    assert peers
    assert all(each["frames"] and each["value"] != mine[0]["value"] for each in peers)


def test_a_key_that_two_cells_share(recorder: Recorder) -> None:
    keys = ["a", "b", "c", "d", "a"]
    personal = [
        (cell, "diego_brain/0", 9091, Paper("rep.tas.internal", key=mine), UPLOADS)
        for cell, mine in zip(CELLS, keys, strict=True)
    ]
    [finding] = accused(recorder.audit(personal))
    assert "with the key of another VM" in finding["title"]
    assert finding["count"] == 2
    assert accused(recorder.audit(personal[:4])) == []


def test_what_is_drafted_is_a_policy_that_accuses_by_name(recorder: Recorder) -> None:
    drafted = suggest(recorder.audit(honest()).audit, load_policy(), "ours")
    file = recorder.folder / "ours.yml"
    file.write_text(drafted)
    assert check_policy(str(file)) == []
    names = {each["name"]: set(each["components"]) for each in yaml.safe_load(drafted)["identities"]["entries"]}
    assert names["rep.tas.internal"] == {"Rep"}
    assert names["auction.tas.internal"] == {"Auctioneer"}
    assert names["bulletin.tas.internal"] == {"BBS"}
    whole = recorder.audit(honest(), policy=[str(file)])
    assert list(whole.findings["rule"]) == []
    # One connection, no peers: the name alone is enough now.
    alone: list[Call] = [("diego_cell/0", "diego_brain/0", 9091, CC, UPLOADS)]
    assert accused(recorder.audit(alone)) == []
    [finding] = accused(recorder.audit(alone, policy=[str(file)]))
    assert "where this component does not run" in finding["detail"]
