"""docs/reports.md lists every column as ``columns.py`` declares it (``AUDITOR_GOLDEN=rewrite`` brings it up to date)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from auditor.api import format_names
from auditor.model.columns import TABLES

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reports.md"
BEGIN, END = "<!-- columns: made from auditor/model/columns.py -->\n", "<!-- end of columns -->\n"


def columns() -> str:
    lines = []
    for name, table in TABLES.items():
        lines += [f"### {name}", "", "| column | in JSON | kind | says |", "| --- | --- | --- | --- |"]
        for column in table:
            kind = (
                column.kind
                + (" or null" if column.nullable else "")
                + (f", {column.unit}" if column.unit not in ("", "ns") else "")
            )
            lines.append(f"| `{column.name}` | `{'.'.join(column.path)}` | {kind} | {column.says} |")
        lines.append("")
    return "\n".join(lines) + "\n"


def test_the_page_is_current():
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    listed, _, after = rest.partition(END)
    if os.environ.get("AUDITOR_GOLDEN") == "rewrite":
        PAGE.write_text(before + BEGIN + "\n" + columns() + END + after, encoding="utf-8")
        return
    assert listed == "\n" + columns(), "AUDITOR_GOLDEN=rewrite pytest tests/report/test_docs.py brings it up to date"


def test_the_page_names_every_format():
    named = set(re.findall(r"^\| `([a-z]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert set(format_names()) <= named
