"""`auditor encryption`."""

from __future__ import annotations

import json
from pathlib import Path

from auditor.cli import main


def test_what_is_still_in_the_clear(capsys, tmp_path: Path) -> None:
    assert main(["encryption", "sample:lab", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("In the clear: ")
    assert "\nBy path\n" in out
    assert max(map(len, out.splitlines())) <= 120
    file = tmp_path / "clear.json"
    assert main(["encryption", "sample:lab", "--format", "json", "--output", str(file)]) == 0
    assert json.loads(file.read_text())["schema"] == "auditor.encryption/1"


def test_a_format_that_is_none(capsys) -> None:
    assert main(["encryption", "sample:lab", "--format", "sarif"]) == 2
    assert "unknown value 'sarif'" in capsys.readouterr().err
