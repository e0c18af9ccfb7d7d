"""Times as people and files write them: RFC 3339, and nanoseconds since 1970 in between.

A module of its own because it needs nothing: a command that only shows a time starts sooner.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from auditor.errors import ConfigError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION = re.compile(r"\.(\d+)")
_NS = 1_000_000_000
_AGO = re.compile(r"(\d{1,9})\s*(s|m|h|d|w)")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


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


def moment(option: str, text: str, now_ns: int) -> int:
    """Nanoseconds since 1970: RFC 3339, a date, seconds since 1970, or so long ago (``2h``, ``7d``). Raises ConfigError.

    A date is the whole day: where it begins for ``--since``, where it ends for ``--until``.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago:
        return now_ns - int(ago[1]) * _SECONDS[ago[2]] * _NS
    try:
        whole_day = option == "--until" and _DAY.fullmatch(text.strip())
        return parse_time(text) + (_SECONDS["d"] * _NS - 1 if whole_day else 0)
    except (ValueError, OverflowError):
        hint = "such as 2026-11-22T10:00:00Z, 2026-11-22, or 2h for two hours ago"
        raise ConfigError(option, f"{text!r} is not a time", hint=hint) from None


def time_text(at_ns: int) -> str:
    """RFC 3339 in UTC."""
    seconds, rest = divmod(at_ns, _NS)
    text = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0").rstrip(".") + "Z" if rest else f"{text}Z"


def window_text(told: Mapping[str, Any] | None) -> str:
    """``from ... to ...`` of an audit's ``window``, where somebody asked for a part of the time; empty: all of it was looked at."""
    words = [
        f"{word} {str(told[name]).replace('T', ' ').rstrip('Z')} UTC"
        for name, word in (("since", "from"), ("until", "to"))
        if told and told.get(name)
    ]
    return " ".join(words)


OUTSIDE = "nothing outside this time was audited"
"""To be said of every window."""
