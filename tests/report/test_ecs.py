"""ECS, by the fields that its makers publish."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from datetime import datetime
from typing import Any

import pytest

from auditor.report.ecs import VERSION

TYPES: dict[str, Any] = {
    "ip": lambda value: bool(ipaddress.ip_address(value)),
    "long": lambda value: type(value) is int,
    "boolean": lambda value: type(value) is bool,
    "date": lambda value: bool(datetime.fromisoformat(value[:26] + "+00:00")) and value.endswith("Z"),
    "keyword": lambda value: isinstance(value, str),
    "wildcard": lambda value: isinstance(value, str),
    "match_only_text": lambda value: isinstance(value, str),
}


@pytest.fixture(scope="module")
def ecs_fields(validators) -> dict[str, Any]:
    says = "const e = require('@elastic/ecs'); console.log(JSON.stringify([e.EcsVersion, e.EcsFlat]))"
    done = subprocess.run(
        ["node", "-e", says], cwd=validators.parent, capture_output=True, text=True, check=True, timeout=60
    )
    version, fields = json.loads(done.stdout)
    assert version == VERSION
    return fields


def flat(document: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in document.items():
        found |= flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return found


def objections(document: dict[str, Any], fields: dict[str, Any]) -> list[str]:
    found = []
    for name, value in flat(document).items():
        if name.startswith("labels."):
            if not isinstance(value, str) or name.count(".") > 1:
                found.append(f"{name} is not a word")
            continue
        field = fields.get(name)
        if field is None:
            found.append(f"{name} is not a field")
            continue
        if ("array" in field["normalize"]) is not isinstance(value, list):
            found.append(f"{name} is an array, or is not")
        for each in value if isinstance(value, list) else [value]:
            if not TYPES[field["type"]](each):
                found.append(f"{name}: {each!r} is no {field['type']}")
            allowed = [one["name"] for one in field.get("allowed_values") or ()]
            if allowed and each not in allowed:
                found.append(f"{name}: {each!r} is not allowed")
    return [*found, *(f"{name} is missing" for name in ("@timestamp", "ecs.version") if name not in flat(document))]


def documents(written, audit, **options) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written("ecs", audit, **options).splitlines()]


@pytest.mark.parametrize("which", ["audit", "real"])
def test_every_field_is_one_of_ecs(which, request, written, ecs_fields):
    audit = request.getfixturevalue(which)
    found = documents(written, audit)
    assert len(found) == len(audit.connections) + len(audit.findings)
    assert sorted({each for document in found for each in objections(document, ecs_fields)}) == []


def test_the_check_can_fail(ecs_fields):
    wrong = {
        "@timestamp": "2026-01-01T00:00:00.000000Z",
        "source": {"ip": "x", "prot": 1},
        "event": {"kind": "odd", "category": "network"},
    }
    with pytest.raises(ValueError, match="x"):
        objections(wrong, ecs_fields)
    wrong["source"]["ip"] = "10.0.0.1"
    assert objections(wrong, ecs_fields) == [
        "source.prot is not a field",
        "event.kind: 'odd' is not allowed",
        "event.category is an array, or is not",
        "ecs.version is missing",
    ]


def test_what_the_documents_say(real, written):
    connection = documents(written, real, table="connections")[0]
    assert connection["network"]["community_id"] == real.connections["community_id"].iloc[0]
    assert connection["tls"]["client"]["server_name"] == "bbs.service.cf.internal"
    assert connection["labels"]["verdict"] == "verified"
    assert connection["event"]["duration"] == round(real.connections["duration"].iloc[0] * 1e9)
    alert = documents(written, real, table="findings")[0]
    assert (alert["event"]["kind"], alert["event"]["severity"]) == ("alert", 99)
    assert alert["rule"]["uuid"] == real.findings["fingerprint"].iloc[0]
