"""What pydantic found, in words and in the order of lines."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from auditor.policy.marked import parse_yaml
from auditor.policy.mistakes import mistakes
from auditor.policy.schema import PolicyModel


def test_all_of_them_in_the_order_of_lines() -> None:
    marked = parse_yaml("f.yml", "schema: auditor.policy/1\nname: A B\nversion: 1\norigin: x\npaths: {}\ncolour: red\n")
    with pytest.raises(ValidationError) as caught:
        PolicyModel.model_validate(marked.data)
    assert [str(error) for error in mistakes(marked, caught.value, PolicyModel)] == [
        "f.yml:1: 'title' is missing (add title:)",
        "f.yml:2: 'A B' is no name (use lower case, digits and single hyphens (roles: underscores))",
        "f.yml:3: 'version' must be text, and 1 is a number (quote it: version: \"1\")",
        "f.yml:4: 'origin' must be a mapping with keys",
        "f.yml:5: 'paths' must be a list",
        "f.yml:6: unknown key 'colour' (known: aliases, ambient, foundation, identities, includes, name, origin, overlay, paths, releases, roles, "
        "schema, settings, title, version, vocabulary)",
    ]
