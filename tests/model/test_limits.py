"""Limits: names, values, bounds, and how they are told."""

from __future__ import annotations

from dataclasses import fields

import pytest

from auditor.errors import ConfigError
from auditor.model.limits import DEFAULTS, GIB, KIB, MIB, Limits, described, parse_limits, shown, told


def test_values_are_whole_numbers_with_units() -> None:
    found = parse_limits(
        ["connections=7", "first_bytes=1M", "line-bytes = 2KiB", "expanded_bytes=3G", "frame_bytes=1_000"]
    )
    assert (found.connections, found.first_bytes, found.line_bytes) == (7, MIB, 2 * KIB)
    assert (found.expanded_bytes, found.frame_bytes) == (3 * GIB, 1_000)
    assert found.changed() == {
        "connections": 7,
        "first_bytes": MIB,
        "line_bytes": 2 * KIB,
        "expanded_bytes": 3 * GIB,
        "frame_bytes": 1_000,
    }
    assert DEFAULTS.changed() == {}
    assert parse_limits(["nesting=3", "nesting=4"]).nesting == 4, "the last one counts"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("conections=5", "unknown limit 'conections' (did you mean connections?"),
        ("connections", "'connections' has no number (connections=NUMBER"),
        ("connections=", "has no number"),
        ("connections=many", "has no number"),
        ("connections=-1", "has no number"),
        ("connections=1.5", "has no number"),
        ("connections=0", "connections=0 is out of bounds (from 1 to 1000000000)"),
        ("tunnel_depth=201", "tunnel_depth=201 is out of bounds (from 0 to 200)"),
        ("connections=9999999999999999", "has no number"),
        ("=5", "unknown limit ''"),
    ],
)
def test_what_is_no_limit_is_told_with_its_mend(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_limits([text])
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_limit_is_described_with_a_default_inside_its_bounds_that_can_be_given_back() -> None:
    told_of = {name: (value, says) for name, value, says in described()}
    assert list(told_of) == [each.name for each in fields(Limits)]
    for each in fields(Limits):
        value, says = told_of[each.name]
        assert getattr(parse_limits([f"{each.name}={value}"]), each.name) == each.default
        assert len(says) > 10 and each.metadata["least"] <= each.default <= each.metadata["most"]


def test_a_hit_says_the_limit_its_value_and_how_to_set_another() -> None:
    says = told("first_bytes", Limits(first_bytes=2 * MIB), "3 were given up")
    assert says == "3 were given up: the limit first_bytes is 2MiB; --limit first_bytes=N sets another"
    assert shown("line_bytes", 1_000) == "1000" and shown("connections", 1024) == "1024"
