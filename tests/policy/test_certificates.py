"""Certificates in force and out of it, in their place and elsewhere, vouched for and not."""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import ConfigError
from auditor.model.facts import Facts
from auditor.model.judgement import Classification, Fault
from auditor.policy import certificates
from auditor.policy.certificates import (
    CertificateJudge,
    certificate_faults,
    component_of,
    leads_to,
    load_cas,
    read_certificate,
)
from auditor.policy.policy import Policy
from tests.policy.conftest import Foundation

NAMED = ("cf-deployment-names",)
NOW = dt.datetime(2026, 11, 16, 9, 0, tzinfo=dt.UTC)
NOW_NS = int(NOW.timestamp()) * 1_000_000_000
DAY = dt.timedelta(days=1)
DAY_NS = 86_400 * 1_000_000_000


@cache
def key(name: str, bits: int) -> Any:
    return rsa.generate_private_key(65_537, bits) if bits else ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Made:
    der: bytes
    cert: x509.Certificate

    @property
    def mark(self) -> str:
        return hashlib.sha256(self.der).hexdigest()

    @property
    def pem(self) -> bytes:
        return self.cert.public_bytes(serialization.Encoding.PEM)


def make(
    name: str | None,
    *sans: str,
    issuer: str = "internalCA",
    signer: str | None = None,
    ca: bool | None = None,
    begins: dt.datetime = NOW - 100 * DAY,
    ends: dt.datetime = NOW + 100 * DAY,
    bits: int = 0,
    signer_bits: int = 0,
    hashed: Any = None,
    unit: str | None = None,
    serial: int = 7,
) -> Made:
    """A certificate; who signs is the issuer of that name, unless another one does so in its name."""
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
    if unit:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(parts))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key(name or "nameless", bits).public_key())
        .serial_number(serial)
        .not_valid_before(begins)
        .not_valid_after(ends)
    )
    if sans:
        names = x509.SubjectAlternativeName([x509.DNSName(each) for each in sans])
        builder = builder.add_extension(names, critical=False)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    cert = builder.sign(key(signer or issuer, signer_bits), hashed or hashes.SHA256())
    return Made(cert.public_bytes(serialization.Encoding.DER), cert)


ROOT = make("internalCA", ca=True)


class Wire:
    """Certificates that crossed, and facts that name them."""

    def __init__(self, policy: Policy, **options: Any) -> None:
        self.der: dict[str, bytes] = {}
        self.policy, self.options = policy, options

    def facts(self, client: list[Made] | None = None, server: list[Made] | None = None) -> Facts:
        told: dict[str, Any] = {"tls.version": "TLS 1.2"}
        for side, chain in (("client", client), ("server", server)):
            if chain is not None:
                self.der.update({each.mark: each.der for each in chain})
                told[f"tls.{side}_certificates"] = tuple(each.mark for each in chain)
        return Facts(told)

    def faults(
        self,
        told: Classification,
        client: list[Made] | None = None,
        server: list[Made] | None = None,
        at_ns: int = NOW_NS,
    ) -> tuple[Fault, ...]:
        return certificate_faults(self.facts(client, server), told, at_ns, self.der, self.policy, self.options)


@pytest.fixture
def foundation(build: Any) -> Foundation:
    """One of each, and the operator says that names are cf-deployment's."""
    made: Foundation = build(policies=NAMED)
    return made


@pytest.fixture
def wire(foundation: Foundation) -> Wire:
    return Wire(foundation.policy)


def rules(faults: tuple[Fault, ...]) -> list[str]:
    return [fault.rule for fault in faults]


# In force ------------------------------------------------------------------------------------------------------------


def test_a_certificate_in_force_in_its_place_has_no_fault(foundation: Foundation, wire: Wire) -> None:
    told = foundation.says("cell", "database", 8889)
    server = make("bbs.service.cf.internal", "*.bbs.service.cf.internal", "bbs.service.cf.internal")
    assert wire.faults(told, [make("cell.service.cf.internal")], [server]) == ()
    assert wire.faults(told) == ()


def test_what_counts_is_the_time_of_the_capture(foundation: Foundation, wire: Wire) -> None:
    told = foundation.says("cell", "database", 8889)
    server = make("bbs.service.cf.internal", begins=NOW - 10 * DAY, ends=NOW)
    second = 1_000_000_000
    for at_ns, fires in (
        (NOW_NS - 10 * DAY_NS - 1, "is in force from 2026-11-06T09:00:00Z only"),
        (NOW_NS - 10 * DAY_NS, None),
        (NOW_NS, None),
        (NOW_NS + second - 1, None),  # the last second is in force whole
        (NOW_NS + second, "was in force until 2026-11-16T09:00:00Z only"),
        (NOW_NS - 5 * DAY_NS, None),  # time may run backwards from connection to connection
    ):
        faults = wire.faults(told, server=[server], at_ns=at_ns)
        assert rules(faults) == (["certificate-expired"] if fires else [])
        if fires:
            assert fires in faults[0].says
            assert faults[0].kinds == ("tls.server_certificates",)
            assert faults[0].about == "server bbs.service.cf.internal"


def test_an_intermediate_counts_and_a_root_sent_along_does_not(foundation: Foundation, wire: Wire) -> None:
    told = foundation.says("cell", "database", 8889)
    old = {"begins": NOW - 100 * DAY, "ends": NOW - DAY}
    leaf = make("bbs.service.cf.internal", issuer="between")
    assert rules(wire.faults(told, server=[leaf, make("between", ca=True, **old)])) == ["certificate-expired"]
    assert rules(wire.faults(told, server=[leaf, make("internalCA", ca=True, **old)])) == []
    [fault] = wire.faults(told, server=[leaf, make("between", ca=True, **old)])
    assert fault.says.startswith("the server's intermediate certificate between (SHA-256 ")


# Weak ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "fires"), [(1024, True), (2047, True), (2048, False), (0, False)])
def test_short_rsa_keys(foundation: Foundation, wire: Wire, bits: int, fires: bool) -> None:
    told = foundation.says("cell", "database", 8889)
    faults = wire.faults(told, [make("cell.service.cf.internal", bits=bits)])
    assert rules(faults) == (["weak-certificate"] if fires else [])
    if fires:
        assert f"an RSA key of {bits} bits" in faults[0].says


def test_sha1_signatures_but_not_a_roots_own(foundation: Foundation, wire: Wire) -> None:
    """OpenSSL of today will not sign with SHA-1, so the algorithm is written into the bytes afterwards."""
    told = foundation.says("cell", "database", 8889)
    strong, weak = bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06072a8648ce3d0401")
    made = make("cell.service.cf.internal").der
    parsed = read_certificate("f" * 64, _shorter(made, strong, weak))
    assert parsed.weak == ("a signature with SHA-1",)
    assert read_certificate("e" * 64, _shorter(ROOT.der, strong, weak)).weak == ()
    mark = hashlib.sha256(_shorter(made, strong, weak)).hexdigest()
    wire.der[mark] = _shorter(made, strong, weak)
    facts = Facts({"tls.client_certificates": (mark,)})
    assert rules(certificate_faults(facts, told, NOW_NS, wire.der, wire.policy, {})) == ["weak-certificate"]


def _shorter(der: bytes, old: bytes, new: bytes) -> bytes:
    """The certificate with another algorithm identifier, and the lengths around it mended (X.690 section 8.1.3)."""

    def element(data: bytes, at: int) -> tuple[int, int]:
        size, start = data[at + 1], at + 2
        if size & 0x80:
            count = size & 0x7F
            size, start = int.from_bytes(data[start : start + count], "big"), start + count
        return start, start + size

    def rebuild(tag: int, body: bytes) -> bytes:
        size = len(body)
        if size < 128:
            return bytes([tag, size]) + body
        digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
        return bytes([tag, 0x80 | len(digits)]) + digits + body

    def walk(data: bytes) -> bytes:
        out, at = b"", 0
        while at < len(data):
            start, end = element(data, at)
            whole, body = data[at:end], data[start:end]
            if whole == old:
                out += new
            elif data[at] & 0x20:
                out += rebuild(data[at], walk(body))
            else:
                out += whole
            at = end
        return out

    return walk(der)


# In its place --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fires"),
    [
        ("cell.service.cf.internal", False),
        ("bbs-client", False),  # a local route emitter's
        ("BBS_CLIENT", False),
        ("rep-client", False),  # cfdot, an operator's tool, runs on cells too
        ("bbs.service.cf.internal", False),  # the service being called
        ("auctioneer-client", False),  # BBS presents it, and BBS is called
        ("tps_watcher", True),
        ("cc_uploader", True),
        ("CC-Uploader", True),
        ("locket.service.cf.internal", True),  # on the same VM as BBS, but not what is called
        ("somebody.example", False),
        ("0a1b2c3d-4444-4444-8888-aaaaaaaaaaaa", False),
    ],
)
def test_a_clients_names(foundation: Foundation, wire: Wire, name: str, fires: bool) -> None:
    faults = wire.faults(foundation.says("cell", "database", 8889), [make(name)])
    assert rules(faults) == (["certificate-identity"] if fires else [])
    if fires:
        assert "the originator is diego_cell, where this component does not run" in faults[0].says
        assert faults[0].about == f"client {name.lower().replace('-', '_')}"


@pytest.mark.parametrize(
    ("name", "fires"),
    [
        ("bbs.service.cf.internal", False),
        ("locket.service.cf.internal", False),  # both can run there
        ("cell.service.cf.internal", True),  # what the caller is counts for clients only
        ("auctioneer.service.cf.internal", True),
        ("*.auctioneer.service.cf.internal", True),
        ("*.service.cf.internal", False),  # covers BBS among others
    ],
)
def test_a_servers_names(foundation: Foundation, wire: Wire, name: str, fires: bool) -> None:
    faults = wire.faults(foundation.says("cell", "database", 8889), server=[make(None, name)])
    assert rules(faults) == (["certificate-identity"] if fires else [])


def test_of_several_names_one_in_its_place_is_enough(foundation: Foundation, wire: Wire) -> None:
    told = foundation.says("cell", "database", 8889)
    assert rules(wire.faults(told, [make("tps_watcher", "x.cell.service.cf.internal")])) == []
    assert rules(wire.faults(told, [make("tps_watcher", "cc_uploader")])) == ["certificate-identity"]


def test_the_organizational_unit_is_never_looked_at(foundation: Foundation, wire: Wire) -> None:
    told = foundation.says("cell", "database", 8889)
    assert wire.faults(told, [make("cell.service.cf.internal", unit="tps_watcher")]) == ()
    assert wire.faults(told, [make("whoever", unit="tps_watcher")]) == ()


def test_names_that_are_presumed_only_accuse_nobody(build: Any) -> None:
    foundation = build()
    told = foundation.says("cell", "database", 8889)
    for name in ("tps_watcher", "cc_uploader", "locket.service.cf.internal"):
        assert Wire(foundation.policy).faults(told, [make(name)]) == ()
    assert Wire(foundation.policy).faults(told, server=[make("cell.service.cf.internal")]) == ()


def test_the_operators_own_names_replace_what_is_presumed_of_them(build: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    own.write_text(
        "schema: auditor.policy/1\nname: own\nversion: '1'\ntitle: ours\noverlay: true\norigin: {title: us}\npaths: []\n"
        "identities:\n  origin: {title: us}\n  entries:\n"
        "    - {name: tps_watcher, components: [Rep], use: [client]}\n"
        "    - {name: our rep, components: [TPS Watcher], use: [client]}\n"
    )
    foundation = build(policies=(str(own),))
    told, wire = foundation.says("cell", "database", 8889), Wire(foundation.policy)
    assert wire.faults(told, [make("tps-watcher")]) == ()
    assert rules(wire.faults(told, [make("our-rep")])) == ["certificate-identity"]
    assert wire.faults(told, [make("cc_uploader")]) == ()  # of this one nothing is declared


def test_names_of_old_have_spaces(foundation: Foundation, wire: Wire) -> None:
    """cf-deployment before v14 wrote `bbs client`."""
    told = foundation.says("cell", "database", 8889)
    assert wire.faults(told, [make("bbs client")]) == ()
    assert rules(wire.faults(told, [make("tps watcher")])) == ["certificate-identity"]
    found = component_of(wire.facts([make("bbs client")]), told, wire.der, wire.policy, {})
    assert found.originator == "local Route Emitter"


def test_a_co_located_vm_may_show_any_of_its_components(build: Any) -> None:
    vms = "vms:\n  - {name: control/1, ips: [10.0.4.21]}\n  - {name: compute/1, ips: [10.0.4.20]}\n"
    foundation = build(vms, NAMED)
    wire = Wire(foundation.policy)
    told = foundation.says("10.0.4.21", "10.0.4.20", 1801)
    for name in (
        "auctioneer-client",
        "rep-client",
        "bbs.service.cf.internal",
        "cloud-controller-ng.service.cf.internal",
    ):
        assert wire.faults(told, [make(name)]) == ()
    assert rules(wire.faults(told, [make("gorouter_backend_tls")])) == ["certificate-identity"]


def test_a_part_of_a_role_has_its_own_components_only(build: Any) -> None:
    vms = "vms:\n  - {name: api/1, ips: [10.0.4.26]}\n  - {name: diego-api/1, ips: [10.0.4.22]}\n"
    foundation = build(vms, NAMED)
    wire = Wire(foundation.policy)
    told = foundation.says("10.0.4.26", "10.0.4.22", 8889)
    assert wire.faults(told, [make("cloud-controller-ng.service.cf.internal")]) == ()
    assert wire.faults(told, [make("cc_uploader")]) == ()
    assert rules(wire.faults(told, [make("tps_watcher")])) == ["certificate-identity"]


def test_what_a_balancer_fronts_may_show_through_it(foundation: Foundation, wire: Wire) -> None:
    told = foundation.says("brain", "lb", 443)
    assert wire.faults(told, server=[make("uaa.service.cf.internal")]) == ()
    assert rules(wire.faults(told, server=[make("credhub.service.cf.internal")])) == ["certificate-identity"]


def test_nobody_is_accused_where_nobody_knows_what_runs(foundation: Foundation, wire: Wire) -> None:
    for orig in ("stranger", "mystery"):
        assert wire.faults(foundation.says(orig, "database", 8889), [make("tps_watcher")]) == ()


def test_applications_talk_to_the_world_as_they_like(foundation: Foundation, wire: Wire) -> None:
    told = foundation.says("cell", "internet", 443)
    old = make("uaa.service.cf.internal", ends=NOW - DAY, bits=1024)
    assert wire.faults(told, server=[old]) == ()
    assert wire.faults(foundation.says("uaa", "router", 443), server=[old]) == ()  # out of scope


def test_strict_names(foundation: Foundation) -> None:
    policy = replace(foundation.policy, settings=replace(foundation.policy.settings, names="strict"))
    wire = Wire(policy)
    [fault] = wire.faults(foundation.says("cell", "database", 8889), [make("whoever")])
    assert (fault.rule, fault.confidence) == ("certificate-identity", "medium")
    assert wire.faults(foundation.says("brain", "cell", 61_001), server=[make("0a1b-instance")]) == ()


# Vouched for ---------------------------------------------------------------------------------------------------------


def given_to(tmp_path: Path, policy: Policy, *specs: tuple[str, list[Made]]) -> dict[str, Any]:
    texts = []
    for number, (role, found) in enumerate(specs):
        file = tmp_path / f"{number}.pem"
        file.write_bytes(b"a comment\n" + b"".join(each.pem for each in found))
        texts.append(f"{role}={file}" if role else str(file))
    return {"ca": load_cas(texts, policy)}


def test_issuer_and_signature_lead_to_a_ca(foundation: Foundation, tmp_path: Path) -> None:
    told = foundation.says("cell", "database", 8889)
    wire = Wire(foundation.policy, **given_to(tmp_path, foundation.policy, ("", [ROOT])))
    between = make("between", ca=True)
    deep = make("bbs.service.cf.internal", issuer="between", serial=0xFFFF)
    good = make("bbs.service.cf.internal")
    assert wire.faults(told, server=[good]) == ()
    assert wire.faults(told, server=[deep, between]) == ()
    assert wire.faults(told, server=[deep, ROOT, between]) == ()  # in any order
    assert wire.faults(told, server=[make("internalCA", ca=True)]) == ()  # the authority itself
    for chain in (
        [deep],  # the one in between was not sent
        [make("bbs.service.cf.internal", signer="impostor")],  # names fit, the signature does not
        [deep, make("between", ca=True, signer="impostor")],
        [make("bbs.service.cf.internal", issuer="other")],
        [make("bbs.service.cf.internal", issuer="cell.service.cf.internal"), make("cell.service.cf.internal")],
        [
            make("bbs.service.cf.internal", issuer="cell.service.cf.internal"),
            make("cell.service.cf.internal", ca=False),
        ],
        [make("bbs.service.cf.internal", issuer="bbs.service.cf.internal")],  # vouches for itself
    ):
        faults = wire.faults(told, server=chain)
        assert rules(faults) == ["certificate-untrusted"], chain
        assert faults[0].confidence == "high"


SHA1 = hashes.SHA1()  # noqa: S303  (it is to be found)


def of_old(named: str, digest: hashes.HashAlgorithm, signer: str = "internalCA") -> Made:
    """A certificate signed with SHA-1: one of today's with the older algorithm's number in it (RFC 8017 appendix C), signed anew."""
    made = make(named, signer=signer, signer_bits=2048).der
    sha256, sha1 = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d010105")
    assert made.count(sha256) == 2
    changed = made.replace(sha256, sha1)
    cert = x509.load_der_x509_certificate(changed)
    signature = key(signer, 2048).sign(cert.tbs_certificate_bytes, padding.PKCS1v15(), digest)
    der = changed[: -len(signature)] + signature
    return Made(der, x509.load_der_x509_certificate(der))


def test_a_sha1_signature_of_the_authority_leads_to_it(foundation: Foundation, tmp_path: Path) -> None:
    """Weak it is, and from nobody else; the library's own check refuses to say."""
    root = make("internalCA", ca=True, bits=2048, signer_bits=2048)
    told = foundation.says("cell", "database", 8889)
    wire = Wire(foundation.policy, **given_to(tmp_path, foundation.policy, ("", [root])))
    assert rules(wire.faults(told, [of_old("cell.service.cf.internal", SHA1)])) == ["weak-certificate"]
    for forged in (
        of_old("cell.service.cf.internal", hashes.SHA256()),
        of_old("cell.service.cf.internal", SHA1, "x"),
    ):
        assert set(rules(wire.faults(told, [forged]))) == {"weak-certificate", "certificate-untrusted"}


def test_without_ca_nobody_is_asked(foundation: Foundation, wire: Wire) -> None:
    assert wire.faults(foundation.says("cell", "database", 8889), server=[make("x", issuer="other")]) == ()


def test_expired_authorities_and_odd_certificates_are_other_matters(foundation: Foundation, tmp_path: Path) -> None:
    """No web profile: no subject alternative name, no extensions, an authority out of force."""
    old = make("internalCA", ca=None, ends=NOW - DAY)
    wire = Wire(foundation.policy, **given_to(tmp_path, foundation.policy, ("", [old])))
    assert wire.faults(foundation.says("cell", "database", 8889), server=[make("bbs.service.cf.internal")]) == ()


def test_a_scoped_ca_judges_the_paths_to_its_role(foundation: Foundation, tmp_path: Path) -> None:
    nats = make("nats", issuer="nats", ca=True)
    wire = Wire(foundation.policy, **given_to(tmp_path, foundation.policy, ("", [ROOT]), ("NATS-tls", [nats])))
    of_nats, of_root = make("nats_client", issuer="nats"), make("nats_client")
    to_nats = foundation.says("cell", "nats", 4224)
    assert wire.faults(to_nats, [of_nats]) == ()
    assert rules(wire.faults(to_nats, [of_root])) == ["certificate-untrusted"]
    to_bbs = foundation.says("cell", "database", 8889)
    assert wire.faults(to_bbs, [make("cell.service.cf.internal")]) == ()
    assert rules(wire.faults(to_bbs, [make("cell.service.cf.internal", issuer="nats")])) == ["certificate-untrusted"]


def test_a_path_beats_its_role_and_a_scoped_ca_alone_judges_nothing_else(
    foundation: Foundation, tmp_path: Path
) -> None:
    other = make("other", issuer="other", ca=True)
    options = given_to(tmp_path, foundation.policy, ("diego_database", [ROOT]), ("rep-to-locket", [other]))
    wire = Wire(foundation.policy, **options)
    rep = make("cell.service.cf.internal", issuer="other")
    assert wire.faults(foundation.says("cell", "database", 8891), [rep]) == ()
    assert rules(wire.faults(foundation.says("cell", "database", 8889), [rep])) == ["certificate-untrusted"]
    assert wire.faults(foundation.says("cell", "cc", 9023), [rep]) == ()


def test_undeclared_connections_have_no_authority(foundation: Foundation, tmp_path: Path) -> None:
    wire = Wire(foundation.policy, **given_to(tmp_path, foundation.policy, ("", [ROOT])))
    assert wire.faults(foundation.says("database", "uaa", 9999), server=[make("x", issuer="other")]) == ()


@pytest.mark.parametrize(
    ("spec", "content", "says"),
    [
        ("{file}", None, "cannot be read: No such file"),
        ("{file}", b"nothing", "holds no certificate in PEM"),
        (
            "{file}",
            b"\n\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ":3: the certificate that begins",
        ),
        ("dieg_cell={file}", ROOT.pem, "no policy knows the role 'dieg_cell'"),
        ("dieg_cell={file}", ROOT.pem, "did you mean diego_cell?"),
        ("={file}", ROOT.pem, "lacks its role"),
        ("nats=", None, "lacks its file"),
        ("{folder}", None, "cannot be read: Is a directory"),
    ],
)
def test_a_wrong_ca_is_one_line(tas_diego: Policy, tmp_path: Path, spec: str, content: bytes | None, says: str) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_cas([spec.format(file=file, folder=tmp_path)], tas_diego)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bundle_may_hold_more_than_certificates(tas_diego: Policy, tmp_path: Path) -> None:
    file = tmp_path / "role=ca.pem"  # a file of that name is a file
    secret = key("internalCA", 0).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(secret + ROOT.pem + ROOT.pem.replace(b"BEGIN C", b"BEGIN X509 C").replace(b"END C", b"END X509 C"))
    assert load_cas([str(file)], tas_diego).unscoped == (ROOT.cert, ROOT.cert)


# Refused -------------------------------------------------------------------------------------------------------------


def test_what_cryptography_refuses_is_kept_and_accused_of_nothing(foundation: Foundation, tmp_path: Path) -> None:
    broken = Made(b"\x30\x03\x02\x01\x00", ROOT.cert)
    told = foundation.says("cell", "database", 8889)
    wire = Wire(foundation.policy)
    assert wire.faults(told, [broken]) == ()
    judge = CertificateJudge(wire.der, wire.policy)
    described = judge.describe(broken.mark)
    assert described is not None
    assert described.refused
    assert described.as_dict()["sha256"] == broken.mark
    asked = Wire(foundation.policy, **given_to(tmp_path, foundation.policy, ("", [ROOT])))
    [fault] = asked.faults(told, [broken])
    assert (fault.rule, fault.confidence) == ("certificate-untrusted", "low")
    assert "cannot be read" in fault.says


def test_a_certificate_whose_bytes_were_not_kept_says_nothing(foundation: Foundation, wire: Wire) -> None:
    facts = Facts({"tls.client_certificates": ("0" * 64,), "tls.server_certificates": ("1" * 64, ROOT.mark)})
    wire.der[ROOT.mark] = ROOT.der
    told = foundation.says("cell", "database", 8889)
    assert certificate_faults(facts, told, NOW_NS, wire.der, wire.policy, {}) == ()
    assert component_of(facts, told, wire.der, wire.policy, {}).paths == told.paths


STEADY = make("cell.service.cf.internal", "a.example").der
"""One for all examples: a signature of ECDSA is not made twice in the same length."""


@given(st.data())
def test_any_bytes_give_a_description(data: st.DataObject) -> None:
    whole = bytearray(STEADY)
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    read = read_certificate(
        "f" * 64, bytes(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    )
    assert (read.parsed is None) == (read.refused is not None)
    assert all(name.isprintable() for name in read.names)
    assert leads_to([read], [ROOT.cert]) in (True, False, None)


def test_names_are_printable_all_are_judged_and_what_is_left_out_is_said() -> None:
    read = read_certificate("f" * 64, make("a\x1b[31m\nb", *(f"n{k}.example" for k in range(400))).der)
    assert len(read.names) == 401
    assert all(name.isprintable() for name in read.names)
    told = read.as_dict()
    assert len(told["names"]) == certificates.TOLD_NAMES
    assert told["names_left_out"] == 401 - certificates.TOLD_NAMES
    assert "names_left_out" not in read_certificate("f" * 64, make("a").der).as_dict()


# Who talked ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("orig", "resp", "port", "name", "component", "one_of", "paths"),
    [
        ("cell", "database", 8889, "cell.service.cf.internal", "Rep", (), ("rep-to-bbs",)),
        ("cell", "database", 8889, "bbs-client", "local Route Emitter", (), ("route-emitter-to-bbs",)),
        ("cell", "database", 8889, "unheard-of", None, (), ("route-emitter-to-bbs", "rep-to-bbs")),
        ("cell", "database", 8889, "tps_watcher", None, (), ("route-emitter-to-bbs", "rep-to-bbs")),
        ("brain", "cc", 9023, "tps_watcher", "TPS Watcher", (), ("brain-to-cc",)),
        ("brain", "cc", 9023, "cc_uploader", "CC Uploader", (), ("brain-to-cc",)),
        (
            "brain", "database", 8889, "bbs-client", None, ("Auctioneer", "SSH Proxy", "TPS Watcher"),
            ("auctioneer-to-bbs", "ssh-proxy-to-bbs"),
        ),
        ("brain", "cell", 1801, "rep-client", "Auctioneer", (), ("auctioneer-to-rep",)),
        ("database", "cell", 1801, "rep-client", "BBS", (), ("bbs-to-rep",)),
    ],
)  # fmt: skip
def test_names_attribute_the_component(
    foundation: Foundation, wire: Wire, orig: str, resp: str, port: int, name: str, component: str | None,
    one_of: tuple[str, ...], paths: tuple[str, ...],
) -> None:  # fmt: skip
    told = foundation.says(orig, resp, port)
    found = component_of(wire.facts([make(name)]), told, wire.der, wire.policy, {})
    assert (found.originator, found.originator_one_of, found.paths) == (component, one_of, paths)


def test_without_certificates_the_paths_tell(foundation: Foundation, wire: Wire) -> None:
    told = foundation.says("cell", "database", 8889)
    found = component_of(wire.facts(), told, wire.der, wire.policy, {})
    assert (found.originator, found.responder, found.paths) == (None, "BBS", told.paths)


# Remembered ----------------------------------------------------------------------------------------------------------


def test_equal_answers_are_one_object_and_facts_of_their_own_are_not_mixed_up(foundation: Foundation) -> None:
    told = foundation.says("cell", "database", 8889)
    wire = Wire(foundation.policy)
    bad = [make("tps_watcher")]
    assert wire.faults(told, bad) is wire.faults(told, bad, at_ns=NOW_NS + 1)
    shared = {"tls.version": "TLS 1.2"}
    own = wire.facts(bad)
    judge = CertificateJudge(wire.der, wire.policy)
    with_own = Facts(shared, {"tls.client_certificates": own["tls.client_certificates"]})
    assert rules(judge.faults(with_own, told, NOW_NS)) == ["certificate-identity"]
    assert judge.faults(Facts(shared), told, NOW_NS) == ()
    assert rules(judge.faults(with_own, told, NOW_NS)) == ["certificate-identity"]


def test_another_ca_is_another_judge(foundation: Foundation, tmp_path: Path) -> None:
    told = foundation.says("cell", "database", 8889)
    wire = Wire(foundation.policy)
    chain = [make("cell.service.cf.internal", issuer="other")]
    assert wire.faults(told, chain) == ()
    wire.options = given_to(tmp_path, foundation.policy, ("", [ROOT]))
    assert rules(wire.faults(told, chain)) == ["certificate-untrusted"]
    certificates.forget()
    assert rules(wire.faults(told, chain)) == ["certificate-untrusted"]


def test_a_connection_costs_a_look(foundation: Foundation) -> None:
    """300,000 connections of a few kinds: about half a second, wherever this runs."""
    wire = Wire(foundation.policy)
    told = [foundation.says("cell", "database", 8889), foundation.says("brain", "database", 8889)]
    kinds = [wire.facts([make(name)], [make("bbs.service.cf.internal")]) for name in ("bbs-client", "cc_uploader", "x")]
    asked = [(Facts(kinds[k % 3].shared), told[k % 2], NOW_NS + k) for k in range(20_000)]
    judge = CertificateJudge(wire.der, wire.policy)
    for facts, classification, at_ns in asked[:6]:
        judge.faults(facts, classification, at_ns)
    before = time.perf_counter()
    found = [judge.faults(*each) for each in asked]
    spent_us = (time.perf_counter() - before) / len(asked) * 1e6
    assert len(set(map(id, found))) <= 6
    assert spent_us < 10  # 1 us measured; room for a busy machine
