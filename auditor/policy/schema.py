"""What a policy file may hold (schema ``auditor.policy/1``), as pydantic models; editors get the same as JSON Schema.

A policy file declares paths: rows of a page that says which VM may talk to which, on which port, with which authentication. Everything
else in it (roles, aliases, judgement settings, identities) serves to recognise those rows on the wire and names its own source.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator

from auditor.policy._ports import Ports, bad
from auditor.policy.times import parse_time

SCHEMA = "auditor.policy/1"

AuthenticationWord = Literal[
    "mutual_tls", "tls", "oauth2", "basic", "ssh", "signed_url", "mysql_native_password", "none"
]
AUTHENTICATIONS: tuple[str, ...] = get_args(AuthenticationWord)

Application = Literal[
    "HTTPS",
    "HTTP",
    "HTTP/HTTPS",
    "HTTP/WebSocket",
    "HTTP/Server Sent Events",
    "gRPC over HTTP/2",
    "SSH",
    "NATS",
    "MySQL",
    "DNS",
    "Syslog",
    "NTP",
    "VXLAN",
    "ICMP",
    "TCP",
    "Varies",
]

Transport = Literal["tcp", "udp", "icmp", "icmp6", "sctp"]

Networking = Literal["silk", "external"]
Site = Literal["internal", "external"]

MAX_AUTHENTICATION_DEPTH = 4


def parse_authentication(value: Any, depth: int = 0) -> Any:
    """A word, ``{all: [...]}`` or ``{any: [...]}``; the tree of ``authentication.required`` in reports."""
    from difflib import get_close_matches

    words = ", ".join(AUTHENTICATIONS)
    if isinstance(value, str):
        if value in AUTHENTICATIONS:
            return value
        close = get_close_matches(value.lower().replace("-", "_").replace(" ", "_"), AUTHENTICATIONS, 1)
        hint = f"did you mean {close[0]}?" if close else f"write one of {words}"
        raise bad("authentication", f"{value!r} is not an authentication", hint)
    if isinstance(value, dict) and len(value) == 1 and depth < MAX_AUTHENTICATION_DEPTH:
        ((word, parts),) = value.items()
        if word in ("all", "any") and isinstance(parts, list) and len(parts) > 1:
            return {word: [parse_authentication(part, depth + 1) for part in parts]}
    raise bad(
        "authentication",
        "the authentication is neither a word nor a list of choices",
        f"write one of {words}, or any: [a, b]",
    )


def _tree_schema(depth: int) -> dict[str, Any]:
    word: dict[str, Any] = {"enum": list(AUTHENTICATIONS)}
    if depth == 0:
        return word
    part = {"type": "array", "minItems": 2, "items": _tree_schema(depth - 1)}
    choices = [
        {"type": "object", "properties": {key: part}, "required": [key], "additionalProperties": False}
        for key in ("all", "any")
    ]
    return {"anyOf": [word, *choices]}


Authentication = Annotated[
    Any,
    BeforeValidator(parse_authentication),
    WithJsonSchema(_tree_schema(2) | {"description": "What the page documents; all: and any: combine."}),
]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _word_or_list(pattern: str | None = None) -> dict[str, Any]:
    word: dict[str, Any] = {"type": "string", "minLength": 1}
    if pattern:
        word["pattern"] = pattern
    return {"anyOf": [word, {"type": "array", "items": word, "minItems": 1}]}


Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=100)]
RoleName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
OneOrMore = Annotated[
    list[Text], BeforeValidator(_as_list), Field(min_length=1, max_length=200), WithJsonSchema(_word_or_list())
]
Transports = Annotated[
    list[Transport],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": list(get_args(Transport))},
                {"type": "array", "items": {"enum": list(get_args(Transport))}, "minItems": 1},
            ]
        }
    ),
]


class Model(BaseModel):
    """Strict, and nothing unknown: a key that is spelt wrong must not be silently without effect."""

    # Each model is built once, as part of the whole: building them singly as well takes as long as all the rest.
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, defer_build=True)


class OriginModel(Model):
    """Where it is written."""

    title: Text
    url: Text | None = None
    page: Text | None = Field(None, description="Name of the page, e.g. diego.")
    retrieved: Text | None = None
    note: Text | None = None


class RoleModel(Model):
    """A kind of VM, by the name that the paths use."""

    name: RoleName
    diego: bool = Field(False, description="A connection with such a VM at one end is in scope.")
    components: list[Text] = Field(default_factory=list, description="What may run on it, as the paths spell it.")
    says: Text | None = None


class HeldRole(Model):
    """A role of which a group runs some components only."""

    role: RoleName
    components: Annotated[list[Text], Field(min_length=1)]


class AliasModel(Model):
    """Another name of a group of VMs, and the roles it stands for. ``*`` matches any text; case, ``-`` and ``_`` do not matter."""

    group: OneOrMore
    roles: Annotated[list[RoleName | HeldRole], Field(min_length=1)]
    says: Text | None = None


class AliasesModel(Model):
    """Names of other deployments."""

    origin: OriginModel
    entries: list[AliasModel]


class TlsModel(Model):
    """Rule ``weak-tls``."""

    minimum: Literal["1.0", "1.1", "1.2", "1.3"] = "1.2"
    forbidden_suites: list[Literal["NULL", "anonymous", "EXPORT", "RC4", "DES", "3DES"]] = Field(default_factory=list)


class SettingsModel(Model):
    """How to judge what the paths leave open; never called documented."""

    origin: OriginModel
    tls: TlsModel = TlsModel()
    names: Literal["lenient", "strict"] = Field(
        "lenient",
        description="strict: all tables count as declared, and a certificate name that is in no table is a finding, too.",
    )


class IdentityModel(Model):
    """A name in a certificate, and the components that hold such a certificate. ``*.`` stands for one label or none."""

    name: OneOrMore | None = Field(None, description="None: only its expiry is known, not its names.")
    components: list[Text] = Field(min_length=1)
    use: list[Literal["client", "server"]] = Field(min_length=1)
    variables: list[Text] = Field(
        default_factory=list,
        max_length=100,
        description="Properties and variables that hold it, in lists of certificates.",
    )
    owner: Text | None = Field(None, description="Where it is renewed: the product, and the property or variable.")
    until: Text | None = Field(None, description="RFC 3339: it expires then.")
    says: Text | None = None

    @model_validator(mode="after")
    def _a_name_or_a_time(self) -> IdentityModel:
        if self.name is None and self.until is None:
            raise bad("name", "'name' is missing", "add name:, or until:")
        if self.until is not None:
            try:
                parse_time(self.until)
            except (ValueError, OverflowError):
                raise bad("time", f"{self.until!r} is not a time", "write 2027-01-31T00:00:00Z") from None
        return self


class IdentitiesModel(Model):
    """Which component a certificate's names belong to."""

    origin: OriginModel
    names: Literal["declared", "presumed"] = Field(
        "declared",
        description="declared: the names are known to be of this deployment; deviations are findings. presumed: the names are usual for such a "
        "platform; deviations are findings only where a capture confirms the names.",
    )
    declares: list[Id] = Field(
        default_factory=list, description="Policies whose presumed names are known to be of this deployment: tas-diego."
    )
    entries: list[IdentityModel] = Field(default_factory=list)


class EndModel(Model):
    """One end of a path."""

    vm: OneOrMore = Field(description="Role, or a list of alternatives; any: every VM of the inventory.")
    component: Text | None = None


class ConditionModel(Model):
    """A footnote of the row. ``host_ports`` narrows ports that vary; ``internal_port`` names one of them."""

    kind: Literal["host_ports", "internal_port", "method", "only_with", "note"]
    says: Text
    ports: Ports | None = None

    @model_validator(mode="after")
    def _ports_where_they_count(self) -> ConditionModel:
        wanted = self.kind in ("host_ports", "internal_port")
        if wanted != (self.ports is not None) or self.ports == "varies":
            hint = "give ports" if wanted else "remove ports"
            raise bad("condition", f"a condition of kind {self.kind} and its ports do not agree", hint)
        return self


class DocumentedModel(Model):
    """The words of the page, where they are not what the typed keys would read as."""

    source: Text | None = None
    destination: Text | None = None
    ports: Text | None = None
    application: Text | None = None
    authentication: Text | None = None


class WhereModel(Model):
    """Foundations that have a path. Where a foundation does not say, it keeps the path."""

    networking: Networking | None = None
    database: Site | None = None
    blobstore: Site | None = None
    tile: Id | None = Field(None, description="Only where the foundation has this tile.")


class PathModel(Model):
    """One declared way to talk: a row of the page."""

    id: Id
    row: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, description="Its row number in the page.")
    section: Text | None = None
    source: EndModel
    destination: EndModel
    ports: Ports = None
    transport: Transports = Field(["tcp"])
    application: Application
    authentication: Authentication
    local: bool = Field(False, description="From a VM to itself: both ends have one address.")
    where: WhereModel | None = Field(None, description="Only in foundations of this kind.")
    conditions: list[ConditionModel] = Field(default_factory=list)
    footnote: Text | None = None
    releases: Text | None = Field(None, description="As in 'TAS 2.7, TAS 2.10..TPCF 10'. Default: all.")
    origin: OriginModel | None = Field(None, description="Source, if it is not the page of the file.")
    documented: DocumentedModel | None = None

    @model_validator(mode="after")
    def _ports_where_transports_have_them(self) -> PathModel:
        with_ports = {"tcp", "udp", "sctp"} & set(self.transport)
        if with_ports and self.ports is None:
            raise bad("port", "the path has no ports", "add ports: a port, a range, or varies")
        if not with_ports and self.ports is not None:
            raise bad("port", f"{self.transport[0]} has no ports", "remove ports")
        if any(condition.kind == "host_ports" for condition in self.conditions) and self.ports != "varies":
            raise bad("condition", "host_ports narrow ports that vary, and these do not", "write ports: varies")
        return self


class FoundationModel(Model):
    """How this foundation is set up: switches that choose among the rows, and ask more of them."""

    origin: OriginModel
    networking: Networking | None = Field(
        None, description="silk, or external (NSX-T): containers have addresses of their own, role app_container."
    )
    database: Site | None = Field(None, description="external: paths to mysql_proxy go to external_database instead.")
    blobstore: Site | None = None
    nats: Literal["password", "tls_and_password", "mutual_tls_and_password", "mutual_tls"] | None = Field(
        None, description="What NATS requires of clients; password: in the clear or inside TLS, as documented."
    )
    mysql: Literal["password", "tls_and_password"] | None = None
    require_tls: list[Id] = Field(default_factory=list, max_length=1_000, description="Paths that must be inside TLS.")
    ports: dict[Id, Ports] = Field(
        default_factory=dict, description="Ports that differ from the documented ones, by path."
    )
    tiles: list[Id] = Field(default_factory=list, max_length=100, description="Additional tiles.")


class PolicyModel(Model):
    """A policy file."""

    schema_: Literal["auditor.policy/1"] = Field(alias="schema")
    name: Id
    version: Text
    title: Text
    includes: list[Id] = Field(
        default_factory=list,
        max_length=100,
        description="A profile: the shipped policies that it includes; it has no paths.",
    )
    overlay: bool = Field(False, description="Adds to tas-diego, which is loaded first if no other base is named.")
    ambient: bool = Field(
        False, description="Its paths are ambient, not documented: judged in the same way, counted separately."
    )
    vocabulary: Literal["tas-diego"] | None = Field(
        None, description="Take roles, aliases, settings and identities (not the paths) from this shipped policy."
    )
    origin: OriginModel
    releases: Text | None = Field(None, description="Releases of all paths without their own.")
    roles: list[RoleModel] = Field(default_factory=list)
    aliases: AliasesModel | None = None
    settings: SettingsModel | None = None
    identities: IdentitiesModel | None = None
    foundation: FoundationModel | None = Field(None, description="Switches of this foundation.")
    paths: list[PathModel] = Field(default_factory=list, max_length=10_000)

    @model_validator(mode="after")
    def _paths_or_other_policies(self) -> PolicyModel:
        if self.includes and self.paths:
            raise bad(
                "includes",
                "a profile has no paths of its own",
                "put them into a policy and load it together with the profile",
            )
        others = (self.identities, self.roles, self.aliases, self.settings, self.foundation)
        if not (self.includes or self.paths or any(others)):
            raise bad("paths", "no paths are declared", "declare paths:, or list shipped policies under includes:")
        return self


def json_schema() -> dict[str, Any]:
    """The JSON Schema that editors use; shipped as ``policies/schema.json``."""
    schema = PolicyModel.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA, **schema}
