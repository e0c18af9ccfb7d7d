"""The notebook of the documentation: each of its cells runs, and gives what the file shows."""

from __future__ import annotations

import importlib.util
import json
import re
from types import ModuleType
from typing import Any

import pytest

from tests.conftest import ROOT, absent


@pytest.fixture(scope="module")
def make() -> ModuleType:
    if importlib.util.find_spec("matplotlib") is None:
        absent("matplotlib is not installed (pip install '.[plots]')")
    spec = importlib.util.spec_from_file_location("make_notebook", ROOT / "docs" / "make_notebook.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(cell: dict[str, Any]) -> list[str]:
    """What a cell shows as text; pictures by their titles."""
    return ["".join(each.get("text") or each["data"]["text/plain"]) for each in cell.get("outputs", ())]


def test_each_cell_gives_what_the_notebook_shows(make, monkeypatch):
    monkeypatch.chdir(ROOT)
    kept = json.loads(make.NOTEBOOK.read_text(encoding="utf-8"))
    made = make.made(pictures=False)
    assert [(each["cell_type"], each["source"]) for each in kept["cells"]] == [
        (each["cell_type"], each["source"]) for each in made["cells"]
    ], "python docs/make_notebook.py"
    assert [shown(each) for each in kept["cells"]] == [shown(each) for each in made["cells"]], "make_notebook.py"
    assert sum("image/png" in each.get("data", {}) for cell in kept["cells"] for each in cell.get("outputs", ())) == 3
    assert any("text/html" in each.get("data", {}) for each in made["cells"][1]["outputs"]), "the report shows itself"


def test_the_notebook_is_one_and_names_no_machine():
    text = (ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8")
    kept = json.loads(text)
    assert (kept["nbformat"], kept["nbformat_minor"]) == (4, 5)
    ids = [each["id"] for each in kept["cells"]]
    assert len(set(ids)) == len(ids)
    assert not re.search(r"/(work|home|tmp|root|usr|opt)/|https?://|site-packages|Traceback", text)
