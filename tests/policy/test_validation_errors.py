"""What pydantic found, in words and in the order of lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from auditor.errors import ConfigError
from auditor.jobs.config import load_config
from auditor.policy.schema import PolicyModel
from auditor.policy.validation_errors import validation_errors
from auditor.policy.yaml_positions import parse_yaml


def test_all_of_them_in_the_order_of_lines() -> None:
    document = parse_yaml(
        "f.yml", "schema: auditor.policy/1\nname: A B\nversion: 1\norigin: x\npaths: {}\ncolour: red\n"
    )
    with pytest.raises(ValidationError) as caught:
        PolicyModel.model_validate(document.data)
    assert [str(error) for error in validation_errors(document, caught.value, PolicyModel)] == [
        "f.yml:1: 'title' is missing (add title:)",
        "f.yml:2: 'A B' is not a valid name (use lower case, digits and single hyphens (roles: underscores))",
        "f.yml:3: 'version' must be text, and 1 is a number (quote it: version: \"1\")",
        "f.yml:4: 'origin' must be a mapping with keys",
        "f.yml:5: 'paths' must be a list",
        "f.yml:6: unknown key 'colour' (known: aliases, ambient, foundation, identities, includes, name, origin, overlay, paths, releases, roles, "
        "schema, settings, title, version, vocabulary)",
    ]


def test_a_misspelt_table_is_told_before_the_one_that_is_missing_for_it(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('store = "s"\n\n[spol]\nfolders = ["in"]\n')
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(caught.value) == f"{file}:3: unknown key 'spol' (did you mean spool?)"
    file.write_text('store = "s"\n')
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    assert str(caught.value) == f"{file}:1: 'spool' is missing (add spool =, or a table [spool])"
