"""What the tests of the rules share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from auditor.catalogue import discover
from auditor.model.audit import Judged
from auditor.model.finding import Finding

Fired = Callable[[str, Judged], list[Finding]]


@pytest.fixture(scope="session")
def fired() -> Fired:
    """``fired(rule name, judged)``: its findings."""
    rules = {rule.name: rule for rule in discover("auditor.rules", "RULE")}
    return lambda name, judged: list(rules[name].check(judged))
