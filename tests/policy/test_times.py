"""Times as text and as numbers."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from auditor.policy.times import parse_time, time_text


@pytest.mark.parametrize(
    ("text", "at_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2026-11-22T10:00:00.123456789Z", 1_795_341_600_123_456_789),
        ("2026-11-22T12:00:00+02:00", 1_795_341_600_000_000_000),
        ("2026-11-22", 1_795_305_600_000_000_000),
        ("1795341600", 1_795_341_600_000_000_000),
        (1_795_341_600, 1_795_341_600_000_000_000),
        (date(2026, 11, 22), 1_795_305_600_000_000_000),
        (datetime(2026, 11, 22, 10, tzinfo=UTC), 1_795_341_600_000_000_000),
    ],
)
def test_times_are_read(text, at_ns):
    assert parse_time(text) == at_ns
    assert parse_time(time_text(at_ns)) == at_ns


@pytest.mark.parametrize("text", ["", "yesterday", True, "2026-13-01"])
def test_what_is_none_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


def test_digits_behind_the_second_are_as_many_as_it_takes():
    assert time_text(1_500_000_000) == "1970-01-01T00:00:01.5Z"
    assert time_text(1) == "1970-01-01T00:00:00.000000001Z"
    assert time_text(-1) == "1969-12-31T23:59:59.999999999Z"
