"""Ports and authentication as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from auditor.policy._ports import parse_ports
from auditor.policy.schema import AUTHENTICATIONS, parse_authentication


@pytest.mark.parametrize(
    ("written", "ports"),
    [
        (8889, ((8889, 8889),)), ("8889", ((8889, 8889),)), ("61001-65534", ((61001, 65534),)), ("varies", "varies"),
        ("Varies", "varies"), ([4222, "4223-4225"], ((4222, 4222), (4223, 4225))), ("1 - 2", ((1, 2),)),
    ],
)  # fmt: skip
def test_ports(written: object, ports: object) -> None:
    assert parse_ports(written) == ports


@given(
    written=st.one_of(
        st.integers(), st.text(max_size=12), st.none(), st.lists(st.integers() | st.text(max_size=9), max_size=4)
    )
)
def test_any_ports_are_ranges_or_one_clear_error(written: object) -> None:
    try:
        found = parse_ports(written)
    except PydanticCustomError as error:
        assert (error.context or {})["hint"]
        return
    assert found == "varies" or all(1 <= low <= high <= 65535 for low, high in found)


trees = st.recursive(
    st.sampled_from(AUTHENTICATIONS),
    lambda inner: st.builds(lambda word, parts: {word: parts}, st.sampled_from(["all", "any"]), st.lists(inner, min_size=2, max_size=3)),
    max_leaves=4,
)  # fmt: skip


@given(tree=trees)
def test_authentication_trees_stay_as_written(tree: object) -> None:
    assert parse_authentication(tree) == tree


@pytest.mark.parametrize("tree", ["mtls", {}, {"all": []}, {"all": ["tls"]}, {"all": ["tls", "x"]}, 7, None, ["tls"]])
def test_what_is_no_authentication(tree: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_authentication(tree)
