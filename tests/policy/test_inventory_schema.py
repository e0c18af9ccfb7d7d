"""Entries in their spellings."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from auditor.policy.inventory_schema import EntryModel, InventoryModel


def test_one_or_many() -> None:
    entry = EntryModel.model_validate({"ips": "10.0.0.1 10.0.0.2", "role": "uaa", "fronts": "nats"})
    assert entry.ips == ["10.0.0.1", "10.0.0.2"]
    assert entry.role == ["uaa"]
    assert [front.role for front in entry.fronts] == ["nats"]


@pytest.mark.parametrize("entry", [{}, {"ip": []}, {"ip": "10.0.0.1", "fronts": [7]}, {"ip": 7}, {"ip": "1", "x": 1}])
def test_what_is_no_entry(entry: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InventoryModel.model_validate({"vms": [entry]})
