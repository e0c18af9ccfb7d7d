"""What the tests of the commands share: a pipeline that hands on an audit made by hand, so that each exit status can be reached."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import auditor
from auditor.errors import InputError
from auditor.model.audit import Audit

Given = Callable[[Audit | BaseException], list[dict[str, Any]]]


@pytest.fixture
def given(monkeypatch) -> Given:
    """``given(audit)``: what every run gives from here on (an exception is raised). Returns the list of calls as they come."""

    def use(result: Audit | BaseException) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def run(sources, **options):
            calls.append({"sources": sources, **options})
            if isinstance(result, BaseException):
                raise result
            if "missing.pcap" in sources:
                raise InputError("missing.pcap", "no such file")
            far = {"packets": 1000, "bytes": 50_000, "total_bytes": 100_000}
            options["progress"](SimpleNamespace(**far, doing=""))
            options["progress"](SimpleNamespace(**far, doing="judging 7 connections"))
            return result

        double = SimpleNamespace(run=run, connections=run)
        monkeypatch.setitem(sys.modules, "auditor.pipeline", double)
        monkeypatch.setattr(auditor, "pipeline", double, raising=False)
        return calls

    return use
