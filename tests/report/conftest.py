"""What the tests of the reports share."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from auditor import api
from auditor.api import find_format
from auditor.model.audit import Audit
from tests.report import make

Written = Callable[..., bytes]


@pytest.fixture(scope="session")
def audit() -> Audit:
    return make.audit()


@pytest.fixture(scope="session")
def real() -> Audit:
    """The audit of the sample that has every fault."""
    return api.audit("sample:diego", policy="tas-diego").audit


@pytest.fixture(scope="session")
def written() -> Written:
    """``written(format, audit, **options)``: the bytes."""

    def write(name: str, audit: Audit, **options: Any) -> bytes:
        out = io.BytesIO()
        find_format(name).write(audit, out, **options)
        return out.getvalue()

    return write
