"""The benchmark runs programs as they run where they are installed."""

import sys

import pytest

from bench.run import measure


def test_what_is_measured_keeps_its_bytecode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("KEPT_FOR_IT", "yes")
    code = "import os, sys; print(sys.dont_write_bytecode, os.environ['KEPT_FOR_IT'], os.environ['ITS_OWN'])"
    assert measure([sys.executable, "-c", code], {"ITS_OWN": "too"}).stdout.split() == ["False", "yes", "too"]
