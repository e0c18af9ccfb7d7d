"""Lists of certificates as Ops Manager and CredHub export them, and the identity table that they make.

Read are, each recognised by content:

- Ops Manager: ``om curl -p /api/v0/deployed/certificates``, ``om get-certificates``: issuer, validity, and the property or variable that holds each
  (no names: what the table knows of that property tells whose it is);
- CredHub: ``credhub export -j`` (or its YAML), ``credhub get -n NAME -j``: the certificates themselves, so their names are known;
- CredHub: ``credhub curl -p /api/v1/certificates``: names of variables with the day on which each version expires.

Private keys stand beside the certificates in what CredHub exports. They are not looked at, not kept, and never written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from auditor.errors import ConfigError
from auditor.policy.certificates import read_certificate
from auditor.policy.policy import Identity, Policy, canonical
from auditor.policy.schema import SCHEMA
from auditor.policy.times import parse_time, time_text
from auditor.policy.yaml_positions import parse_json, parse_yaml, read_text, yaml_text
from auditor.wire.text import clip, escape

MAX_BYTES = 64 * 1024 * 1024
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*", re.ASCII)
_NAMED = 120


@dataclass(frozen=True, slots=True)
class ListedCertificate:
    """One certificate of a list."""

    variable: str
    """The property or variable that holds it, as written."""
    owner: str
    names: tuple[str, ...] = ()
    """Common name and DNS names; empty: the list does not have them."""
    issuer: str | None = None
    until_ns: int | None = None
    authority: bool = False

    @property
    def key(self) -> str:
        """The last part of the variable's name, as tables have it."""
        return canonical(re.split(r"[./]", self.variable.strip("./"))[-1])


# Reading ---------------------------------------------------------------------------------------------------------------


def read(file: str) -> tuple[list[ListedCertificate], list[ConfigError]]:
    """The certificates of a file, and what is wrong with those that cannot be read. Raises ConfigError where that is all."""
    text = read_text(file, MAX_BYTES)
    # om says what it does in lines of its own before the list.
    start = re.search(r"^\s*[\[{]", text, re.MULTILINE)
    data = parse_json(file, text[start.start() :]).data if start else parse_yaml(file, text).data
    found: list[ListedCertificate] = []
    wrong: list[ConfigError] = []
    for each in _entries(_lower(data)):
        try:
            found += _of(file, each)
        except ConfigError as error:
            wrong.append(error)
    if wrong and not found:
        raise wrong[0]
    if not found:
        raise ConfigError(file, "holds no list of certificates", hint="write what om curl -p /api/v0/deployed/certificates or credhub export -j prints")  # fmt: skip
    return found, wrong


def _lower(data: Any) -> Any:
    """Keys in lower case: credhub export writes them with a capital in JSON."""
    if isinstance(data, Mapping):
        return {
            str(key).lower(): value if str(key).lower() == "value" else _lower(value) for key, value in data.items()
        }
    return [_lower(each) for each in data] if isinstance(data, list) else data


def _entries(data: Any) -> list[Mapping[str, Any]]:
    if isinstance(data, Mapping):
        for key in ("certificates", "credentials", "data"):
            if isinstance(data.get(key), list):
                return _entries(data[key])
        data = [data]
    return [each for each in (data if isinstance(data, list) else ()) if isinstance(each, Mapping)]


def _of(file: str, each: Mapping[str, Any]) -> list[ListedCertificate]:
    """The certificates of one entry; none where it is none. Raises ConfigError."""
    if str(each.get("type") or "") == "certificate":
        return list(_of_credhub(file, each))
    if "valid_until" in each:
        return [_of_ops_manager(file, each)]
    if isinstance(each.get("versions"), list) and "name" in each:
        return list(_of_metadata(file, each))
    return []


def _of_ops_manager(file: str, each: Mapping[str, Any]) -> ListedCertificate:
    variable = str(each.get("property_reference") or each.get("variable_path") or each.get("name") or "unnamed")
    product = str(each.get("product_guid") or "") or str(each.get("location") or "")
    return ListedCertificate(
        variable,
        f"{product}: {variable}" if product else variable,
        issuer=str(each["issuer"]) if each.get("issuer") else None,
        until_ns=_time(file, variable, each["valid_until"]),
        authority=each.get("is_ca") is True,
    )


def _of_metadata(file: str, each: Mapping[str, Any]) -> Iterator[ListedCertificate]:
    for version in each["versions"]:
        if isinstance(version, Mapping) and version.get("expiry_date") and not version.get("transitional"):
            name = str(each["name"])
            until = _time(file, name, version["expiry_date"])
            yield ListedCertificate(name, name, until_ns=until, authority=version.get("certificate_authority") is True)


def _of_credhub(file: str, each: Mapping[str, Any]) -> Iterator[ListedCertificate]:
    name = str(each.get("name") or "unnamed")
    value = each.get("value")
    pem = value.get("certificate") if isinstance(value, Mapping) else None
    if not isinstance(pem, str) or not pem.strip():
        return
    try:
        parsed = x509.load_pem_x509_certificates(pem.encode())[0]
    except (ValueError, IndexError):
        raise ConfigError(file, f"{clip(escape(name), _NAMED)}: its certificate is not PEM") from None
    told = read_certificate(parsed.fingerprint(hashes.SHA256()).hex(), parsed.public_bytes(serialization.Encoding.DER))
    yield ListedCertificate(name, name, told.names, told.issuer, told.until_ns, told.authority)


def _time(file: str, name: str, value: Any) -> int:
    try:
        return parse_time(value)
    except (ValueError, OverflowError):
        raise ConfigError(file, f"{clip(escape(name), _NAMED)}: {value!r} is not a time") from None


# The table -------------------------------------------------------------------------------------------------------------


def draft(listed: Sequence[ListedCertificate], policy: Policy, name: str = "our-certificates") -> str:
    """YAML of a policy whose identity table has these certificates, with owner and expiry of each. Raises ConfigError."""
    if not _NAME.fullmatch(name):
        raise ConfigError("--name", f"{name!r} is not a valid name of a policy", hint="write lower-case letters, digits and - between them")  # fmt: skip
    leaves = [each for each in listed if not each.authority]
    known = [(each, _identities(each, policy)) for each in leaves]
    document = {
        "schema": SCHEMA, "name": name, "version": "1", "title": "Certificates of our foundation", "overlay": True,
        "origin": {"title": "Lists of Ops Manager and CredHub"},
    }  # fmt: skip
    out = [
        "# Made from lists of certificates. Audit with it: --policy tas --policy THIS-FILE. Make it again after each rotation.",
        yaml_text(document).rstrip("\n"),
        "identities:",
        "  origin: {title: Lists of Ops Manager and CredHub}",
    ]
    # One without names says nothing but its end.
    entries = [_entry(each, found) for each, found in known if found and (each.names or each.until_ns is not None)]
    out.append("  entries:" if entries else "  entries: []")
    for entry in entries:
        lines = yaml_text([entry]).rstrip("\n").splitlines()
        out += [f"    {line}" for line in lines]
    authorities = len(listed) - len(leaves)
    if authorities:
        out.append(f"# {authorities:,} authorities were left out: pass them with --ca")
    for each, found in known:
        if not found:
            until = "" if each.until_ns is None else f", until {time_text(each.until_ns)}"
            names = f" ({', '.join(each.names[:3])})" if each.names else ""
            out.append(f"# No component is known for {clip(escape(each.owner + names), _NAMED)}{until}")
    return "\n".join(out) + "\n"


def _identities(each: ListedCertificate, policy: Policy) -> tuple[Identity, ...]:
    """What the tables know of it: by its names, else by the variable that holds it."""
    named = tuple(identity for name in each.names for identity in policy.identify(name))
    return named or tuple(one for one in policy.identities if each.key in one.variables)


def _use(variable: str, known: set[str]) -> list[str]:
    """For which sides it is: what its variable's name says (``rep_server_cert_v2``), where it says one; else all that the tables know."""
    said = {side for side in ("client", "server") if side in variable}
    return sorted(said if len(said) == 1 else known)


def _entry(each: ListedCertificate, found: Iterable[Identity]) -> dict[str, Any]:
    identities = list(found)
    entry: dict[str, Any] = {
        **({"name": each.names[0] if len(each.names) == 1 else list(each.names)} if each.names else {}),
        "components": sorted({name for one in identities for name in one.components}, key=str.lower),
        "use": _use(each.key, {use for one in identities for use in one.use}),
        "owner": each.owner,
    }
    if each.until_ns is not None:
        entry["until"] = time_text(each.until_ns)
    return entry
