"""What stands packed inside an HTML report."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any


def data_of(page: str) -> dict[str, Any]:
    """What stands in the page for its script; nothing where the page has none."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1]) if found else {}


def unpacked(text: str) -> Any:
    """A packed part, as its script gets it."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def told(page: bytes) -> str:
    """All that a page holds, packed or not."""
    text = page.decode()
    parts = data_of(text)
    packed = [parts[name] for name in ("columns", "findings", "captures") if name in parts] + parts.get("details", [])
    return "\n".join([text, *(json.dumps(unpacked(part), ensure_ascii=False) for part in packed)])
