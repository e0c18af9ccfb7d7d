"""The JSON Schemas in policies/ are those of the models, and accept what the loader accepts."""

from __future__ import annotations

import json

import jsonschema
import pytest
import yaml

from auditor.policy import shipped
from auditor.policy.editor import files
from tests.policy.conftest import VMS


@pytest.mark.parametrize("name", sorted(files()))
def test_the_shipped_schema_is_current(name: str) -> None:
    place = shipped.folder()
    assert place is not None
    assert (place / name).read_text() == files()[name], "write auditor.policy.editor.files() to policies/ again"


@pytest.mark.parametrize("name", shipped.names())
def test_shipped_policies_fit_it(name: str) -> None:
    place = shipped.folder()
    assert place is not None
    jsonschema.validate(yaml.safe_load((place / f"{name}.yml").read_text()), json.loads(files()["schema.json"]))


@pytest.mark.parametrize(
    ("key", "value"), [("nmae", "x"), ("schema", "auditor.policy/2"), ("paths", [{"id": "a"}]), ("overlay", "yes")]
)
def test_it_refuses_what_the_loader_refuses(key: str, value: object) -> None:
    place = shipped.folder()
    assert place is not None
    document = yaml.safe_load((place / "nats.yml").read_text()) | {key: value}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, json.loads(files()["schema.json"]))


def test_inventories() -> None:
    schema = json.loads(files()["inventory.schema.json"])
    jsonschema.validate(yaml.safe_load(VMS), schema)
    jsonschema.validate(
        [{"ip": "10.0.0.1", "name": "a", "role": "uaa", "fronts": [{"role": "uaa", "ports": 443}]}], schema
    )
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate([{"ip": "10.0.0.1", "rol": "uaa"}], schema)
