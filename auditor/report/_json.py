"""JSON of any value of a report, fit for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any

import msgspec
import numpy as np

from auditor.report._text import json_for_terminals, unicode_text


def _plain(value: Any) -> Any:
    """Converts types that msgspec does not know."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas' own None
        return None
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} in a report")


def clean(value: Any) -> Any:
    """``value`` with every text in UTF-8, at any depth."""
    if isinstance(value, Enum):
        return clean(value.value)
    if isinstance(value, str):
        return unicode_text(value)
    if isinstance(value, dict):
        return {str(clean(key)): clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean(each) for each in value]
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, Sequence):
        return [clean(each) for each in value]
    return value


_encoder = msgspec.json.Encoder(enc_hook=_plain)


def encode(value: Any) -> bytes:
    """JSON of ``value`` on one line, fit for a terminal."""
    try:
        data = _encoder.encode(value)
    except (UnicodeEncodeError, msgspec.MsgspecError):
        data = _encoder.encode(clean(value))
    return json_for_terminals(data)


def encode_lines(values: Sequence[Any]) -> bytes:
    """JSON of each value, each with a line feed behind it."""
    if not isinstance(values, list):
        values = list(values)
    try:
        data: bytes = _encoder.encode_lines(values)
    except (UnicodeEncodeError, msgspec.MsgspecError):
        return b"".join(encode(each) + b"\n" for each in values)
    return json_for_terminals(data)
