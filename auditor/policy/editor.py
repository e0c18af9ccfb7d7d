"""The JSON Schemas that editors use, made from the models."""

from __future__ import annotations

import json
from typing import Any

from auditor.policy import inventory_schema, schema


def files() -> dict[str, str]:
    """Name under ``policies/`` to content: what the shipped files must say."""
    return {"schema.json": _text(schema.json_schema()), "inventory.schema.json": _text(inventory_schema.json_schema())}


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
