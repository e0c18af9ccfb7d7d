"""What stands packed inside an HTML report."""

from __future__ import annotations

import base64
import gzip
import json
import re
from typing import Any

import numpy as np

_PART = re.compile(r'<script type="text/plain" id="([cw])-([a-z_]+)"(?: data-type="([a-z0-9]+)")?>([^<]*)</script>')


def data_of(page: str) -> dict[str, Any]:
    """The head: what stands in the page for its script's first view; nothing where the page has none."""
    found = re.search(r'<script type="text/plain" id="data">([^<]*)</script>', page)
    return json.loads(base64.b64decode(found[1])) if found else {}


def columns_of(page: str) -> dict[str, Any]:
    """The packed columns by name: an array, texts, or ``(codes, words)``."""
    arrays: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    for kind, name, dtype, text in _PART.findall(page):
        if kind == "w":
            texts[name] = unpacked(text)
        else:
            arrays[name] = np.frombuffer(gzip.decompress(base64.b64decode(text)), np.dtype(dtype).newbyteorder("<"))
    both = {name: (arrays[name], texts[name]) for name in arrays.keys() & texts.keys()}
    return arrays | texts | both


def unpacked(text: str) -> Any:
    """A packed part, as its script gets it."""
    return json.loads(gzip.decompress(base64.b64decode(text)))


def told(page: bytes) -> str:
    """All that a page holds, packed or not."""
    text = page.decode()
    pieces = re.findall(r'<script type="text/plain" id="d-[0-9]+">([^<]*)</script>', text)
    parts = [data_of(text), *(unpacked(piece) for piece in pieces)]
    parts += [column[1] if isinstance(column, tuple) else column for column in columns_of(text).values()]
    return "\n".join([text, *(json.dumps(part, ensure_ascii=False, default=str) for part in parts)])
