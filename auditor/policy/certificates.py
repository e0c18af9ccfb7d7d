"""Certificates that crossed the wire: in force when they were shown, strong, vouched for, and in their place.

The rules that hold here:

1. A certificate says who somebody claims to be; that TLS took place is another question. What is found here is a fault and moves no
   verdict (contract, "Method and faults apart").
2. **In force** at the time of the connection, not today: the leaf and every intermediate that was sent. Expiring soon is no fault.
3. **In its place**: the common name and the DNS names of the subject alternative name, compared without case, ``-``, ``_`` and space
   alike, never the organizational unit. A name in no identity table attributes nothing and accuses nobody. Names that do attribute
   contradict their place when nothing they belong to can run at this end, nor, for a client, is the service it calls. A name with a
   wildcard belongs to all that it covers. Here only names accuse that are declared to be this deployment's; what the capture itself
   says of the others is ``learnt``'s.
4. **Vouched for**: by issuer and signature, through the certificates sent, to a certificate given with ``--ca``. That is RFC 5280
   section 6.1.3 (a)(1) and (a)(4), with 6.1.4 (k) for what was sent (who issues is an authority), and nothing else of a
   web browser's profile. It needs no clock: being in force is rule 2.
5. What ``cryptography`` refuses is kept by its fingerprint and accused of nothing; only where ``--ca`` asks who vouches for it is
   it told that nobody could look.

Everything is found out once for each distinct certificate, chain and classification, and remembered together with the edges of
validity between which it holds; a connection costs a look into a dictionary.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from auditor.errors import ConfigError
from auditor.model.facts import Facts
from auditor.model.frames import DATED_NS
from auditor.model.judgement import CELL_EGRESS, Classification, Disposition, Fault
from auditor.policy.addresses import to_int
from auditor.policy.inventory import parse_time, time_text
from auditor.policy.policy import Identity, Policy, canonical, slug
from auditor.wire.reader import printable

SIDES = {"client": "tls.client_certificates", "server": "tls.server_certificates"}
"""Kind of the evidence that lists a side's chain by fingerprint, the leaf first."""

MIN_RSA_BITS = 2048
"""NIST SP 800-131A revision 2, section 3: shorter RSA keys are disallowed for signatures."""

WEAK_HASHES = frozenset({"md5", "sha1"})
WEAK_SIGNATURES = {
    "1.2.840.113549.1.1.2": "MD2",
    SignatureAlgorithmOID.RSA_WITH_MD5.dotted_string: "MD5",
    SignatureAlgorithmOID.RSA_WITH_SHA1.dotted_string: "SHA-1",
    "1.3.14.3.2.29": "SHA-1",
    SignatureAlgorithmOID.DSA_WITH_SHA1.dotted_string: "SHA-1",
    SignatureAlgorithmOID.ECDSA_WITH_SHA1.dotted_string: "SHA-1",
}
"""Signature algorithms by object identifier: some of them cryptography does not know by name."""
_HASH_NAMES = {"md5": "MD5", "sha1": "SHA-1"}

TOLD_NAMES = 256
"""So many names of a certificate are reported; all are judged."""
_NAME_BYTES = 253  # of a domain name, RFC 1035 section 2.3.4
_MAX_CACHED = 50_000
_MAX_CHAIN = 16
_MAX_PEM_BYTES = 16 * 1024 * 1024
_REASON_CHARS = 120
_KEY_FORM = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
_NO_NAMES: tuple[str, ...] = ()

T = TypeVar("T")
_ODD = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    OverflowError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises on fields that it does not understand."""


# One certificate -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """What is known of one certificate. Texts are safe to print."""

    fingerprint: str
    """SHA-256 in hex."""
    parsed: x509.Certificate | None
    refused: str | None
    """Why cryptography does not take it."""
    common_name: str | None = None
    names: tuple[str, ...] = ()
    """Common name and DNS names, each once: as many as a certificate can hold that is read at all."""
    issuer: str | None = None
    from_ns: int | None = None
    until_ns: int | None = None
    """The last moment at which it is in force."""
    self_issued: bool = False
    authority: bool = False
    """Its basic constraints allow it to issue."""
    key: str | None = None
    """SHA-256 of its public key, in hex."""
    subject_id: tuple[str, str] = ("", "")
    """Its whole name, and the identifier of its key as it gives it itself; self-issued: of the key itself where it gives none."""
    issuer_id: tuple[str, str] = ("", "")
    """The same of who issued it, as far as it says."""
    addresses: frozenset[int] = frozenset()
    """IP addresses of the subject alternative name."""
    application: bool = False
    """An application container's: Diego gives each instance one, named after the instance."""
    weak: tuple[str, ...] = ()
    """What is weak about it, in words."""

    @property
    def called(self) -> str:
        """Name and the beginning of the fingerprint."""
        mark = f"SHA-256 {self.fingerprint[:16]}"
        name = self.common_name or (self.names[0] if self.names else None)
        return f"{name} ({mark})" if name else mark

    def as_dict(self) -> dict[str, Any]:
        """For a report."""
        return {
            "sha256": self.fingerprint,
            "refused": self.refused,
            "common_name": self.common_name,
            "names": self.names[:TOLD_NAMES],
            **({"names_left_out": len(self.names) - TOLD_NAMES} if len(self.names) > TOLD_NAMES else {}),
            "issuer": self.issuer,
            "not_before": None if self.from_ns is None else time_text(self.from_ns),
            "not_after": None if self.until_ns is None else time_text(self.until_ns),
        }


def read_certificate(fingerprint: str, der: bytes) -> Certificate:
    """Everything about it that can be read. Never raises."""
    with warnings.catch_warnings():
        # A serial number of zero, a negative one: what Diego's instance identities have is no news.
        warnings.simplefilter("ignore")
        try:
            parsed = x509.load_der_x509_certificate(der)
        except _ODD as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            return Certificate(fingerprint, None, _safe(reason)[:_REASON_CHARS])
        common_names = _try(lambda: _common_names(parsed.subject), _NO_NAMES)
        issuers = _try(lambda: _common_names(parsed.issuer), _NO_NAMES)
        constraints = _try(lambda: parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca, False)
        self_issued = _try(lambda: parsed.subject == parsed.issuer, False)
        key = _try(lambda: hashlib.sha256(parsed.public_key().public_bytes(*_KEY_FORM)).hexdigest(), None)
        subject_id, issuer_id = _subject_id(parsed), _issuer_id(parsed)
        if self_issued:
            subject_id = issuer_id = subject_id[0], subject_id[1] or key or ""
        return Certificate(
            fingerprint,
            parsed,
            None,
            common_names[-1] if common_names else None,
            tuple(dict.fromkeys([*common_names, *_dns_names(parsed)])),
            issuers[-1] if issuers else _try(lambda: _text(parsed.issuer.rfc4514_string()) or None, None),
            _try(lambda: _ns(parsed.not_valid_before_utc), None),
            _try(lambda: _ns(parsed.not_valid_after_utc) + 999_999_999, None),
            self_issued,
            constraints,
            key,
            subject_id,
            issuer_id,
            _try(lambda: _addresses(parsed), frozenset()),
            _try(lambda: _of_application(parsed.subject), False),
            tuple(_weak(parsed)),
        )


def _try(read: Callable[[], T], otherwise: T) -> T:
    """A field, or what stands for it where cryptography does not understand it or the certificate lacks it."""
    try:
        return read()
    except (*_ODD, x509.ExtensionNotFound):
        return otherwise


def _safe(text: str) -> str:
    return printable(text.encode("utf-8", "replace"), _NAME_BYTES)


def _text(value: str | bytes) -> str:
    return _safe(value if isinstance(value, str) else value.decode("utf-8", "replace"))


def _common_names(name: x509.Name) -> tuple[str, ...]:
    return tuple(_text(each.value) for each in name.get_attributes_for_oid(NameOID.COMMON_NAME))


def _dns_names(parsed: x509.Certificate) -> tuple[str, ...]:
    def read() -> tuple[str, ...]:
        alternative = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(_text(name) for name in alternative.get_values_for_type(x509.DNSName))

    return _try(read, _NO_NAMES)


def _addresses(parsed: x509.Certificate) -> frozenset[int]:
    alternative = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    given = alternative.get_values_for_type(x509.IPAddress)
    return frozenset(to_int(str(each)) for each in given if "/" not in str(each))


def _of_application(subject: x509.Name) -> bool:
    """Its units name an application, a space or an organization (diego-release, executor's instance identity)."""
    units = subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    return any(_text(each.value).lower().startswith(("app:", "space:", "organization:")) for each in units)


def _subject_id(parsed: x509.Certificate) -> tuple[str, str]:
    name = _try(lambda: _text(parsed.subject.rfc4514_string()), "")

    def key() -> str:
        return parsed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()

    return name, _try(key, "")


def _issuer_id(parsed: x509.Certificate) -> tuple[str, str]:
    name = _try(lambda: _text(parsed.issuer.rfc4514_string()), "")

    def key() -> str:
        found = parsed.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        return found.hex() if found else ""

    return name, _try(key, "")


def _ns(moment: datetime) -> int:
    return parse_time(moment)


def _weak(parsed: x509.Certificate) -> Iterable[str]:
    key = _try(parsed.public_key, None)
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        yield f"an RSA key of {key.key_size} bits"
    weak = WEAK_SIGNATURES.get(parsed.signature_algorithm_oid.dotted_string)
    if weak is None:
        hashed = _try(lambda: parsed.signature_hash_algorithm, None)
        weak = _HASH_NAMES.get(hashed.name) if hashed is not None else None
    # Nobody checks the signature of a root: it is trusted or it is not.
    if weak is not None and not _try(lambda: parsed.subject == parsed.issuer, False):
        yield f"a signature with {weak}"


# Authorities ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Authorities:
    """What ``--ca`` gave."""

    scoped: Mapping[str, tuple[x509.Certificate, ...]]
    """By the role that answers, or the id of a path."""
    unscoped: tuple[x509.Certificate, ...]
    specs: tuple[str, ...] = ()
    """As they were given."""

    def judging(self, classification: Classification, policy: Policy) -> tuple[x509.Certificate, ...]:
        """Those that judge both ends of a connection on a declared path; none: nobody asked."""
        for names in (classification.paths, self._roles(classification, policy)):
            found = [one for name in names for one in self.scoped.get(name, ())]
            if found:
                return tuple(dict.fromkeys(found))
        return self.unscoped

    def _roles(self, classification: Classification, policy: Policy) -> tuple[str, ...]:
        roles = [classification.resp_role] if classification.resp_role else []
        roles += [
            role for path in classification.paths if path in policy.by_id for role in policy.path(path).resp_roles
        ]
        return tuple(dict.fromkeys(roles))


_PEM = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----.*?-----END (?:X509 )?CERTIFICATE-----", re.S)


def load_cas(specs: Iterable[str], policy: Policy | None = None) -> Authorities:
    """The bundles of ``--ca [ROLE=]FILE``.

    ROLE is the role that answers (the service whose authority it is; any name that the policy has for it), or the id of a path, which
    beats a role. Both ends' certificates of these paths are judged by it. One without ROLE judges the paths that no other names.

    Raises ConfigError: no such file, nothing or something broken in it, no such role.
    """
    scoped: dict[str, list[x509.Certificate]] = {}
    unscoped: list[x509.Certificate] = []
    specs = tuple(specs)
    for spec in specs:
        role, file = _split(spec)
        found = _bundle(file)
        if role is None:
            unscoped += found
        else:
            for name in _named(role, spec, policy):
                scoped.setdefault(name, []).extend(found)
    return Authorities({name: tuple(each) for name, each in scoped.items()}, tuple(unscoped), specs)


def _split(spec: str) -> tuple[str | None, str]:
    role, equals, file = spec.partition("=")
    if not equals or "/" in role or Path(spec).exists():
        return None, spec
    if not role or not file:
        raise ConfigError("--ca", f"{spec!r} lacks its {'file' if role else 'role'}", hint="ROLE=FILE or FILE")
    return role, file


def _named(role: str, spec: str, policy: Policy | None) -> tuple[str, ...]:
    if policy is None:
        return (canonical(role),)
    if role in policy.by_id:
        return (role,)
    held = policy.held_by(role)
    if held is None:
        close = get_close_matches(canonical(role), [*policy.roles, *policy.by_id], 1)
        hint = f"did you mean {close[0]}?" if close else "a role of the policy, or the id of a path"
        raise ConfigError("--ca", f"no policy knows the role '{role}' of {spec!r}", hint=hint)
    return tuple(dict.fromkeys(one.role for one in held))


def _bundle(file: str) -> list[x509.Certificate]:
    try:
        path = Path(file)
        if path.is_file() and path.stat().st_size > _MAX_PEM_BYTES:
            raise ConfigError(file, "is too large for certificates", hint="give the file with the CA's certificates")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(file, f"cannot be read: {reason}", hint="--ca takes a PEM file with certificates") from None
    found: list[x509.Certificate] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block in _PEM.finditer(data):
            line = data.count(b"\n", 0, block.start()) + 1
            pem = re.sub(rb"(BEGIN|END) X509 ", rb"\1 ", block[0])
            try:
                found.append(x509.load_pem_x509_certificate(pem))
            except _ODD:
                raise ConfigError(
                    file, "the certificate that begins here cannot be read", line, "export it again"
                ) from None
    if not found:
        raise ConfigError(file, "holds no certificate in PEM", hint="-----BEGIN CERTIFICATE-----")
    return found


def _issued(child: x509.Certificate, issuer: x509.Certificate) -> bool | None:
    """Names and signature fit; None: the signature's algorithm cannot be checked here."""
    try:
        child.verify_directly_issued_by(issuer)
    except InvalidSignature:
        return False
    except (UnsupportedAlgorithm, TypeError):
        return None if _try(lambda: child.issuer == issuer.subject, False) else False
    except ValueError:
        return _issued_of_old(child, issuer)
    return True


def _issued_of_old(child: x509.Certificate, issuer: x509.Certificate) -> bool | None:
    """The same for RSA signatures with MD5 and SHA-1, which the library no longer verifies in certificates (RFC 5280 section 6.1.3 (a)(1))."""
    key = _try(issuer.public_key, None)
    digest = _try(lambda: child.signature_hash_algorithm, None)
    if digest is None or digest.name not in WEAK_HASHES or not _try(lambda: child.issuer == issuer.subject, False):
        return False
    if not isinstance(key, rsa.RSAPublicKey):
        return None
    try:
        key.verify(child.signature, child.tbs_certificate_bytes, padding.PKCS1v15(), digest)
    except InvalidSignature:
        return False
    except (UnsupportedAlgorithm, ValueError):
        return None
    return True


def leads_to(chain: Sequence[Certificate], authorities: Sequence[x509.Certificate]) -> bool | None:
    """Whether issuers and signatures lead from the leaf, through the certificates sent, to an authority.

    None: a signature on the way is of a kind that cannot be checked here.
    """
    sent = [each for each in chain[:_MAX_CHAIN] if each.parsed is not None]
    if not chain or chain[0].parsed is None:
        return None
    waiting, seen, unsure = [chain[0]], {chain[0].fingerprint}, False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while waiting:
            child = waiting.pop()
            if child.parsed is None:
                continue
            for authority in authorities:
                if child.parsed == authority:
                    return True
                issued = _issued(child.parsed, authority)
                if issued:
                    return True
                unsure = unsure or issued is None
            for other in sent:
                if other.fingerprint in seen or not other.authority or other.parsed is None:
                    continue
                issued = _issued(child.parsed, other.parsed)
                unsure = unsure or issued is None
                if issued:
                    seen.add(other.fingerprint)
                    waiting.append(other)
    return None if unsure else False


# Names ---------------------------------------------------------------------------------------------------------------


def identities_of(certificate: Certificate, policy: Policy, side: str) -> tuple[Identity, ...]:
    """The identities that its names belong to; those of this use where there are any."""
    found: dict[tuple[frozenset[str], frozenset[str]], Identity] = {}
    for name in certificate.names:
        for identity in (*policy.identify(name), *_covered(name, policy)):
            found.setdefault((identity.slugs, identity.use), identity)
    fitting = tuple(identity for identity in found.values() if side in identity.use)
    return fitting or tuple(found.values())


def _covered(name: str, policy: Policy) -> list[Identity]:
    """Identities whose names a wildcard stands for (RFC 6125 section 6.4.3: one label)."""
    key = canonical(name).rstrip(".")
    if not key.startswith("*."):
        return []
    tail = key[1:]
    covered = []
    for identity in policy.identities:
        bare = identity.pattern.removeprefix("*.")
        if bare.endswith(tail) and "." not in bare[: -len(tail)]:
            covered.append(identity)
    return covered


def _known_name(certificate: Certificate, policy: Policy) -> str | None:
    """The first of its names that the table has."""
    return next((name for name in certificate.names if policy.identify(name)), None)


def slugs_of(identities: Iterable[Identity]) -> frozenset[str]:
    """Of the components that they belong to."""
    return frozenset(one for identity in identities for one in identity.slugs)


def _components(identities: Iterable[Identity]) -> dict[str, str]:
    """Slug to the name as the policy spells it."""
    return {slug(each): each for identity in identities for each in identity.components}


def which_certificate(side: str, one: Certificate, leaf: Certificate | None) -> str:
    """``the client's certificate x (SHA-256 …)``."""
    what = "certificate" if one is leaf else "intermediate certificate"
    return f"the {side}'s {what} {one.called}"


def about_certificate(side: str, leaf: Certificate | None, policy: Policy) -> str:
    """What a fault of it is about: its name where a table has it."""
    name = None if leaf is None else _known_name(leaf, policy)
    return f"{side} {canonical(name)}" if name else side


def says_misplaced(side: str, leaf: Certificate, identities: Iterable[Identity], classification: Classification) -> str:
    """That its names belong elsewhere."""
    end = "originator" if side == "client" else "responder"
    role = (classification.orig_role if side == "client" else classification.resp_role) or "another VM"
    whose = _listed(sorted(_components(identities).values(), key=str.lower), "or")
    return f"{which_certificate(side, leaf, leaf)} belongs to {whose}, and the {end} is {role}, where this component does not run"


@dataclass(frozen=True, slots=True)
class Attribution:
    """Which components talked, as far as paths and certificates tell."""

    originator: str | None
    responder: str | None
    paths: tuple[str, ...]
    """The classification's paths, without those that the certificates exclude."""
    originator_one_of: tuple[str, ...] = ()
    """Where the name belongs to several that can run at this end: these."""
    responder_one_of: tuple[str, ...] = ()


# A connection --------------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Remembered:
    """What was found for one chain at each end and one classification."""

    keeps: tuple[object, ...]
    """What the key's numbers stand for, kept alive with them."""
    edges_ns: list[int]
    """Between two neighbours everything stays the same."""
    faults: list[tuple[Fault, ...] | None]


class CertificateJudge:
    """Judges certificates for one policy and one ``--ca``; remembers what it found.

    Parameters: DER by fingerprint, the policy, ``options["ca"]`` (an ``Authorities``) or None.
    """

    def __init__(
        self, certificates: Mapping[str, bytes], policy: Policy, authorities: Authorities | None = None
    ) -> None:
        self.certificates, self.policy, self.authorities = certificates, policy, authorities
        self._read: dict[str, Certificate] = {}
        self._seen: dict[tuple[int, int], _Remembered] = {}
        self._by_chains: dict[tuple[tuple[str, ...], tuple[str, ...], int], _Remembered] = {}
        self._attributed: dict[tuple[int, int], tuple[object, object, Attribution]] = {}
        self._trusted: dict[tuple[tuple[str, ...], tuple[int, ...]], bool | None] = {}

    # What authenticate and the tables ask

    def faults(self, facts: Facts, classification: Classification, at_ns: int) -> tuple[Fault, ...]:
        """Faults of the certificates that this connection showed, at its time in ns since 1970. Never raises."""
        key = id(facts.shared), id(classification)
        found = self._seen.get(key)
        if found is None or (facts.own and any(kind in facts.own for kind in SIDES.values())):
            found = self._remember(facts, classification)
        place = bisect_right(found.edges_ns, at_ns)
        faults = found.faults[place]
        if faults is None:
            faults = found.faults[place] = tuple(self._judge(facts, classification, at_ns))
        return faults

    def component_of(self, facts: Facts, classification: Classification) -> Attribution:
        """Who talked, by the names that the certificates show and what can run at both ends. Never raises."""
        key = id(facts.shared), id(classification)
        found = self._attributed.get(key)
        if found is not None and found[0] is facts.shared and found[1] is classification:
            return found[2]
        if len(self._attributed) >= _MAX_CACHED:
            self._attributed.clear()
        told = self._attribute(facts, classification)
        self._attributed[key] = facts.shared, classification, told
        return told

    def describe(self, fingerprint: str) -> Certificate | None:
        """What is known of a certificate; None where its bytes were not kept."""
        found = self._read.get(fingerprint)
        if found is None:
            der = self.certificates.get(fingerprint)
            if der is None:
                return None
            if len(self._read) >= _MAX_CACHED:
                self._read.clear()
            found = self._read[fingerprint] = read_certificate(fingerprint, der)
        return found

    # Remembering

    def _remember(self, facts: Facts, classification: Classification) -> _Remembered:
        chains: list[tuple[str, ...]] = [tuple(facts.get(kind) or ()) for kind in SIDES.values()]
        key = chains[0], chains[1], id(classification)
        found = self._by_chains.get(key)
        if found is None:
            edges = sorted(self._edges(chains)) if _judged(classification) else []
            found = _Remembered((classification,), edges, [None] * (len(edges) + 1))
            if not _judged(classification) or not any(chains):
                found.faults = [()] * (len(edges) + 1)
            if len(self._by_chains) >= _MAX_CACHED:
                self._by_chains.clear()
            self._by_chains[key] = found
        if any(kind in facts.own for kind in SIDES.values()):
            return found
        if len(self._seen) >= _MAX_CACHED:
            self._seen.clear()
        # The shared facts are kept alive as long as their number stands for them.
        self._seen[id(facts.shared), id(classification)] = _Remembered(
            (facts.shared, classification), found.edges_ns, found.faults
        )
        return found

    def _edges(self, chains: Iterable[tuple[str, ...]]) -> set[int]:
        edges = {DATED_NS}
        for fingerprint in (one for chain in chains for one in chain):
            one = self.describe(fingerprint)
            if one is not None:
                edges.update(
                    edge
                    for edge in (one.from_ns, None if one.until_ns is None else one.until_ns + 1)
                    if edge is not None
                )
        return edges

    # Judging

    def _judge(self, facts: Facts, classification: Classification, at_ns: int) -> Iterable[Fault]:
        for side, kind in SIDES.items():
            fingerprints: tuple[str, ...] = facts.get(kind) or ()
            chain = [one for one in map(self.describe, fingerprints) if one is not None]
            if not chain:
                continue
            leaf = chain[0] if chain[0].fingerprint == fingerprints[0] else None
            about = about_certificate(side, leaf, self.policy)
            yield from self._expired(side, kind, chain, leaf, at_ns, about)
            yield from self._weak(side, kind, chain, leaf, about)
            if leaf is not None:
                yield from self._misplaced(side, kind, leaf, classification)
                yield from self._untrusted(side, kind, chain, classification, about)

    def _expired(
        self, side: str, kind: str, chain: Sequence[Certificate], leaf: Certificate | None, at_ns: int, about: str
    ) -> Iterable[Fault]:
        if at_ns < DATED_NS:
            return  # nobody knows when that was
        for one in chain:
            if one is not leaf and one.self_issued:
                continue  # a root is trusted by whoever has it, however old
            says = None
            if one.until_ns is not None and at_ns > one.until_ns:
                says = f"was in force until {time_text(one.until_ns - 999_999_999)} only"
            elif one.from_ns is not None and at_ns < one.from_ns:
                says = f"is in force from {time_text(one.from_ns)} only"
            if says:
                yield Fault(
                    "certificate-expired", f"{which_certificate(side, one, leaf)} {says}", kinds=(kind,), about=about
                )

    def _weak(
        self, side: str, kind: str, chain: Sequence[Certificate], leaf: Certificate | None, about: str
    ) -> Iterable[Fault]:
        for one in chain:
            if one.weak:
                says = f"{which_certificate(side, one, leaf)} has {' and '.join(one.weak)}"
                yield Fault("weak-certificate", says, kinds=(kind,), about=about)

    def _misplaced(self, side: str, kind: str, leaf: Certificate, classification: Classification) -> Iterable[Fault]:
        here = classification.orig_holds if side == "client" else classification.resp_holds
        if leaf.parsed is None or here is None:
            return
        identities = identities_of(leaf, self.policy, side)
        if not identities:
            if self.policy.settings.names == "strict" and "app_instances" not in self.called(classification):
                says = f"the names of {which_certificate(side, leaf, leaf)} are in no identity table"
                yield Fault("certificate-identity", says, "medium", (kind,), f"{side} unknown")
            return
        allowed = here | self.called(classification) if side == "client" else here
        if slugs_of(identities) & allowed or not any(each.declared for each in identities):
            return
        yield Fault(
            "certificate-identity",
            says_misplaced(side, leaf, identities, classification),
            kinds=(kind,),
            about=about_certificate(side, leaf, self.policy),
        )

    def called(self, classification: Classification) -> frozenset[str]:
        """Slugs of the service that is called: what the paths name, else all that can run there."""
        named = [self.policy.path(path).resp_slug for path in classification.paths if path in self.policy.by_id]
        if named and None not in named:
            return frozenset(one for one in named if one)
        return classification.resp_holds or frozenset()

    def _untrusted(
        self, side: str, kind: str, chain: Sequence[Certificate], classification: Classification, about: str
    ) -> Iterable[Fault]:
        if self.authorities is None or not classification.paths:
            return
        judging = self.authorities.judging(classification, self.policy)
        if not judging:
            return
        key = tuple(one.fingerprint for one in chain), tuple(map(id, judging))
        if key not in self._trusted:
            self._trusted[key] = leads_to(chain, judging)
        trusted = self._trusted[key]
        which = which_certificate(side, chain[0], chain[0])
        if trusted is False:
            issuer = f", issued by {chain[0].issuer}," if chain[0].issuer else ""
            yield Fault(
                "certificate-untrusted",
                f"{which}{issuer} does not chain to any --ca certificate",
                kinds=(kind,),
                about=about,
            )
        elif trusted is None:
            reason = (
                f"cannot be read ({chain[0].refused})"
                if chain[0].refused
                else "is signed in a way that cannot be checked"
            )
            yield Fault(
                "certificate-untrusted",
                f"{which} {reason}: it is not known whether it chains to a --ca certificate",
                "low",
                (kind,),
                about,
            )

    # Attributing

    def _attribute(self, facts: Facts, classification: Classification) -> Attribution:
        paths = tuple(path for path in classification.paths if path in self.policy.by_id)
        told: list[tuple[str | None, tuple[str, ...]]] = []
        for side in SIDES:
            paths, component, one_of = self._narrow(facts, classification, side, paths)
            told.append((component, one_of))
        # The server's name may have narrowed what the client's left open, and what the paths name.
        named = [self.policy.path(path) for path in paths]
        (orig, orig_of), (resp, resp_of) = told
        orig = (
            orig or _only(path.orig_component for path in named) or (None if named else classification.orig_component)
        )
        resp = (
            resp or _only(path.resp_component for path in named) or (None if named else classification.resp_component)
        )
        return Attribution(orig, resp, paths or classification.paths, () if orig else orig_of, () if resp else resp_of)

    def _narrow(
        self, facts: Facts, classification: Classification, side: str, paths: tuple[str, ...]
    ) -> tuple[tuple[str, ...], str | None, tuple[str, ...]]:
        """Paths that one side's names leave, its component, and the components among which it is left open."""
        fingerprints: tuple[str, ...] = facts.get(SIDES[side]) or ()
        leaf = self.describe(fingerprints[0]) if fingerprints else None
        if leaf is None:
            return paths, None, ()
        identities = identities_of(leaf, self.policy, side)
        holds = classification.orig_holds if side == "client" else classification.resp_holds
        belongs = slugs_of(identities) & holds if holds is not None else slugs_of(identities)
        if not belongs:
            return paths, None, ()
        spelt = _components(identities)
        slugs = {path: self._slug(path, side) for path in paths}
        fitting = tuple(path for path, named in slugs.items() if named is None or named in belongs)
        kept = fitting or paths
        on_paths = (
            {named for path in fitting if (named := slugs[path]) is not None} if None not in slugs.values() else set()
        )
        left = sorted(on_paths or belongs)
        if len(left) == 1:
            return kept, self._spelt(left[0], side, kept, spelt), ()
        # All that the name belongs to here, on a declared path or not: the wire does not tell them apart.
        return kept, None, tuple(sorted((spelt[one] for one in belongs), key=str.lower))

    def _slug(self, path: str, side: str) -> str | None:
        declared = self.policy.path(path)
        return declared.orig_slug if side == "client" else declared.resp_slug

    def _spelt(self, one: str, side: str, paths: Iterable[str], spelt: Mapping[str, str]) -> str:
        for path in map(self.policy.path, paths):
            component = path.orig_component if side == "client" else path.resp_component
            if component is not None and slug(component) == one:
                return component
        return spelt[one]


def _judged(classification: Classification) -> bool:
    """Certificates of applications to the outside, and others that do not matter here, are not judged."""
    egress = bool(CELL_EGRESS & {classification.breach, classification.would_be})
    return classification.disposition is not Disposition.OUT_OF_SCOPE and not egress


def _only(words: Iterable[str | None]) -> str | None:
    found = set(words)
    return found.pop() if len(found) == 1 else None


def _listed(words: Sequence[str], last: str) -> str:
    return f"{', '.join(words[:-1])} {last} {words[-1]}" if len(words) > 1 else "".join(words)


_LATEST: list[CertificateJudge] = []
"""The judge of the last call of the functions below: an audit asks 300,000 times with the same policy and options."""


def judge_for(certificates: Mapping[str, bytes], policy: Policy, options: Mapping[str, Any]) -> CertificateJudge:
    """The judge of these certificates: one for all who ask in an audit, so that each certificate is read once."""
    authorities = options.get("ca")
    if _LATEST:
        judge = _LATEST[0]
        if judge.certificates is certificates and judge.policy is policy and judge.authorities is authorities:
            return judge
    judge = CertificateJudge(certificates, policy, authorities)
    _LATEST[:] = [judge]
    return judge


def certificate_faults(
    facts: Facts,
    classification: Classification,
    at_ns: int,
    certificates: Mapping[str, bytes],
    policy: Policy,
    options: Mapping[str, Any],
) -> tuple[Fault, ...]:
    """Faults of the certificates that a connection showed: ``CertificateJudge.faults`` for who asks one by one.

    Equal answers are one object. Keeps the judge of the last policy and certificates; ``forget`` lets it go.
    """
    return judge_for(certificates, policy, options).faults(facts, classification, at_ns)


def component_of(
    facts: Facts,
    classification: Classification,
    certificates: Mapping[str, bytes],
    policy: Policy,
    options: Mapping[str, Any],
) -> Attribution:
    """Which components talked: ``CertificateJudge.component_of`` for who asks one by one."""
    return judge_for(certificates, policy, options).component_of(facts, classification)


def forget() -> None:
    """Let go of the certificates of the last audit."""
    _LATEST.clear()
