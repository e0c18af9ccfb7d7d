"""The recording of an intruder, audited once."""

from __future__ import annotations

import pytest

import auditor
from auditor.api import Report


@pytest.fixture(scope="session")
def intruder() -> Report:
    """The lab with an intruder of several stages."""
    return auditor.audit("sample:intruder")
