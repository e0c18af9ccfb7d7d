"""YAML and JSON with lines."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import ConfigError
from auditor.policy.yaml_positions import parse_json, parse_yaml


def test_lines_of_keys_and_items() -> None:
    document = parse_yaml("f", "a:\n  - b: 1\n    c: [x, y]\n\n  - d\n")
    assert document.data == {"a": [{"b": 1, "c": ["x", "y"]}, "d"]}
    assert [document.line(place) for place in ((), ("a",), ("a", 0, "c"), ("a", 0, "c", 1), ("a", 1))] == [
        1,
        1,
        3,
        3,
        5,
    ]
    assert document.line(("a", 0, "absent")) == 2, "the nearest thing around it"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3", -3), ("1.5", 1.5), ("true", True), ("null", None), ("~", None), ("22:22", "22:22"),
        ("2001:10:20:30:40:50:51:52", "2001:10:20:30:40:50:51:52"), ("0123", "0123"), ("1_000", "1_000"),
        ("2026-01-31", "2026-01-31"), ("2026-01-31T00:00:00Z", "2026-01-31T00:00:00Z"), ("10.0.4.20", "10.0.4.20"),
        ("'12'", "12"), ("=", "="), (".inf", ".inf"), ("0x1f", "0x1f"), ("61001-65534", "61001-65534"),
    ],
)  # fmt: skip
def test_scalars_are_what_they_look_like(text: str, value: object) -> None:
    found = parse_yaml("f", f"- {text}\n").data[0]
    assert found == value
    assert type(found) is type(value)


def test_nothing_is_nothing() -> None:
    assert parse_yaml("f", "# a comment\n").data is None


@given(text=st.text(max_size=200))
def test_any_text_is_a_document_or_one_clear_error(text: str) -> None:
    for parse in (parse_yaml, parse_json):
        try:
            parse("f", text)
        except ConfigError as error:
            assert str(error).startswith("f")


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(value=values)
def test_what_yaml_writes_is_read_back(value: object) -> None:
    assert parse_yaml("f", yaml.safe_dump(value, allow_unicode=True)).data == value


@pytest.mark.parametrize(
    "text",
    [
        "[" * 30_000,
        "a: " + "{b: " * 30_000,
        "a:\n" + "- " * 30_000 + "x\n",
        "? " * 30_000 + "x\n",
        "".join(" " * k + "a:\n" for k in range(1_200)),
        "a: &x\n" + "".join(" " * k + "-\n" for k in range(1_200)) + " " * 1_200 + "- y\n",
    ],
)
def test_what_is_nested_without_bound_is_said_and_not_composed(text: str) -> None:
    with pytest.raises(ConfigError, match=r"f(:[0-9]+)?: is nested too deeply"):
        parse_yaml("f", text)


def test_many_brackets_that_are_not_nested_are_read() -> None:
    assert parse_yaml("f", "- [x]\n" * 2_000).data == [["x"]] * 2_000
    assert parse_yaml("f", "- '" + "[" * 2_000 + "'\n").data == ["[" * 2_000]
    with pytest.raises(ConfigError, match="f:3: is not valid YAML"):
        parse_yaml("f", "- '" + "[" * 2_000 + "'\n- 1\n-  ]\n")


@pytest.mark.parametrize("number", ["1" * 5_000, "-" + "1" * 401, "1" * 1_000_000])
def test_a_number_that_is_none_has_its_place_and_mend(number: str) -> None:
    for read in (parse_yaml, parse_json):
        with pytest.raises(ConfigError, match=r"f:2: a number has more than 400 digits \(write it as text"):
            read("f", '{"a": 1,\n "b": ' + number + "}")
    assert parse_json("f", "1" * 400).data == parse_yaml("f", "1" * 400).data == int("1" * 400)


def test_json_says_where() -> None:
    with pytest.raises(ConfigError, match=r"f:3: is not valid JSON"):
        parse_json("f", '{\n"a": 1,\n}')
    with pytest.raises(ConfigError, match="'a' is there twice"):
        parse_json("f", '{"a": 1, "a": 2}')
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse_json("f", "[" * 200_000)
