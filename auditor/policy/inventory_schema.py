"""What our own inventory file may hold (schema ``auditor.inventory/1``); editors get the same as JSON Schema."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from auditor.policy._ports import PORTS_SCHEMA, Ports

SCHEMA = "auditor.inventory/1"

Text = Annotated[str, StringConstraints(min_length=1, max_length=500)]


def _texts(value: Any) -> Any:
    if isinstance(value, str):
        return value.split()
    return value


_WORDS: dict[str, Any] = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string", "minLength": 1}}],
    "description": "One, or a list.",
}
Texts = Annotated[list[Text], BeforeValidator(_texts), WithJsonSchema(_WORDS)]
Moment = Annotated[
    str | int,
    WithJsonSchema({"type": ["string", "integer"], "description": "RFC 3339, or a date, or seconds since 1970; UTC."}),
]


class Model(BaseModel):
    """Strict, and nothing unknown."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, populate_by_name=True, defer_build=True)


class FrontModel(Model):
    """A role whose traffic an address takes in, and on which ports."""

    role: Text
    ports: Ports | None = Field(None, description="Without it: the ports documented for that role.")


def _fronts(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    return [{"role": item} if isinstance(item, str) else item for item in items]


_FRONT: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {
            "type": "object",
            "properties": {"role": {"type": "string", "minLength": 1}, "ports": PORTS_SCHEMA},
            "required": ["role"],
            "additionalProperties": False,
        },
    ]
}
Fronts = Annotated[
    list[FrontModel],
    BeforeValidator(_fronts),
    WithJsonSchema(
        {
            "anyOf": [*_FRONT["anyOf"], {"type": "array", "items": _FRONT}],
            "description": "uaa, or {role: uaa, ports: 443}: the address passes for that role on those ports.",
        }
    ),
]


class EntryModel(Model):
    """A VM, or a machine outside the platform."""

    name: Text | None = Field(None, description="As in diego_cell/2b0c...; the part before the slash is its group.")
    instance: Text | None = Field(None, description="Same as name.")
    ip: Texts = Field(default_factory=list)
    ips: Texts = Field(default_factory=list)
    cidr: Texts = Field(default_factory=list)
    cidrs: Texts = Field(default_factory=list)
    role: Texts = Field(default_factory=list)
    roles: Texts = Field(default_factory=list)
    group: Text | None = Field(None, description="Instance group; its roles follow from the policy's aliases.")
    deployment: Text | None = None
    from_: Moment | None = Field(None, alias="from", description="Start of the time in which it had the address.")
    until: Moment | None = Field(None, description="End of the time in which it had the address.")
    fronts: Fronts = Field(default_factory=list)
    origin: Literal["given", "inferred"] | None = Field(None, description="inferred: auditor inventory infer wrote it.")
    note: Text | None = None

    @model_validator(mode="after")
    def _has_an_address(self) -> EntryModel:
        if not (self.ip or self.ips or self.cidr or self.cidrs):
            raise PydanticCustomError("policy_entry", "an entry has no address", {"hint": "add ips: or cidrs:"})
        if self.name and self.instance and self.name != self.instance:
            raise PydanticCustomError("policy_entry", "name and instance differ", {"hint": "keep one"})
        return self


class InventoryModel(Model):
    """An inventory file. A bare list of entries is the same as ``vms`` alone."""

    schema_: Literal["auditor.inventory/1"] = Field("auditor.inventory/1", alias="schema")
    title: Text | None = None
    origin: Literal["given", "inferred"] = Field("given", description="For entries that do not say it themselves.")
    networks: Texts = Field(default_factory=list, description="The platform's networks, in CIDR notation.")
    vms: list[EntryModel] = Field(default_factory=list)
    externals: list[EntryModel] = Field(default_factory=list, description="Machines that are no VM of the platform.")


def json_schema() -> dict[str, Any]:
    """The JSON Schema that editors use; shipped as ``policies/inventory.schema.json``."""
    schema = InventoryModel.model_json_schema(by_alias=True)
    entries = {"type": "array", "items": {"$ref": "#/$defs/EntryModel"}}
    definitions = schema.pop("$defs")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA,
        "anyOf": [schema, entries],
        "$defs": definitions,
    }
