"""Ports as policies, inventories and waivers write them."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

MAX_PORT = 65535


def bad(kind: str, says: str, hint: str) -> PydanticCustomError:
    """A mistake, and how to fix it."""
    # Braces would be taken for a template.
    clean = says.replace("{", "(").replace("}", ")")
    return PydanticCustomError("policy_" + kind, clean, {"hint": hint})


_RANGE = re.compile(r"^\s*(\d{1,9})\s*(?:-|–|\.\.)\s*(\d{1,9})\s*$")


def parse_ports(value: Any) -> tuple[tuple[int, int], ...] | Literal["varies"]:
    """``varies``, a port, ``low-high``, or a list of ports and ranges, as ranges in the order given."""
    if isinstance(value, str) and value.strip().lower() == "varies":
        return "varies"
    items = value if isinstance(value, list) else [value]
    if not items:
        raise bad("port", "no port is given", "write a port, a range 61001-65534, or varies")
    found: list[tuple[int, int]] = []
    for item in items:
        low, high = _port_range(item)
        for port in (low, high):
            if not 1 <= port <= MAX_PORT:
                raise bad("port", f"port {port} is outside 1-{MAX_PORT}", f"write a port between 1 and {MAX_PORT}")
        if low > high:
            raise bad("port", f"the range {low}-{high} is reversed", f"write {high}-{low}")
        if any(low <= other_high and other_low <= high for other_low, other_high in found):
            raise bad("port", f"port {item} is given twice", "keep one")
        found.append((low, high))
    return tuple(found)


def _port_range(item: Any) -> tuple[int, int]:
    if isinstance(item, int) and not isinstance(item, bool):
        return item, item
    if isinstance(item, str):
        if item.strip().isascii() and item.strip().isdigit() and len(item) < 12:
            return int(item), int(item)
        match = _RANGE.match(item)
        if match:
            return int(match[1]), int(match[2])
    raise bad("port", f"{item!r} is not a port", "write a port (8889), a range (61001-65534), or varies")


_PORT_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": MAX_PORT},
        {"type": "string", "pattern": r"^\d{1,5}\s*-\s*\d{1,5}$"},
    ]
}
PORTS_SCHEMA: dict[str, Any] = {
    "anyOf": [{"const": "varies"}, *_PORT_SCHEMA["anyOf"], {"type": "array", "items": _PORT_SCHEMA, "minItems": 1}],
    "description": "A port, a range (61001-65534), a list of both, or varies: any TCP port of that role.",
}


Ports = Annotated[Any, BeforeValidator(parse_ports), WithJsonSchema(PORTS_SCHEMA)]
