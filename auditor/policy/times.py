"""Times as people and files write them: RFC 3339, and nanoseconds since 1970 in between.

A module of its own because it needs nothing: a command that only shows a time starts sooner.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION = re.compile(r"\.(\d+)")
_NS = 1_000_000_000


def parse_time(value: Any) -> int:
    """Nanoseconds since 1970 of RFC 3339, a date, or seconds since 1970. Raises ValueError."""
    if isinstance(value, bool):
        raise ValueError("no time")
    if isinstance(value, int):
        return value * _NS
    if isinstance(value, datetime | date):
        value = value.isoformat()
    text = str(value).strip()
    if text.isdigit() and len(text) > 8:
        return int(text) * _NS
    match = _FRACTION.search(text)
    fraction = match[1] if match else ""
    if match:
        text = text[: match.start()] + text[match.end() :]
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * _NS + int((fraction + "0" * 9)[:9])


def time_text(at_ns: int) -> str:
    """RFC 3339 in UTC."""
    seconds, rest = divmod(at_ns, _NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0").rstrip(".") + "Z" if rest else f"{text}Z"
