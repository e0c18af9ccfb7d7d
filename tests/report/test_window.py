"""A part of the time is no whole: every report of ``--since``/``--until`` names the window, and says that the rest was not looked at."""

from __future__ import annotations

import io
import json
from importlib import import_module
from typing import Any

import pytest

import auditor
from auditor.policy.times import window_text
from auditor.report import _story as story

SINCE, UNTIL = "2026-11-16T09:00:10Z", "2026-11-16T09:00:20Z"
WORDS = "from 2026-11-16 09:00:10 UTC to 2026-11-16 09:00:20 UTC"


@pytest.fixture(scope="module")
def part() -> Any:
    return auditor.audit("sample:healthy", since=SINCE, until=UNTIL)


@pytest.fixture(scope="module")
def whole() -> Any:
    return auditor.audit("sample:healthy")


def test_the_first_line_names_the_window(part: Any, whole: Any) -> None:
    assert 0 < len(part.audit.connections) < len(whole.audit.connections)
    assert story.heading(part.audit).verdict.endswith(f", {WORDS} only")
    assert story.heading(whole.audit).verdict == "CLEAN and COMPLETE"


def test_what_was_looked_at_is_said_in_every_report_for_people(part: Any, whole: Any) -> None:
    outside = "nothing outside this time"
    for text in (part.to_table(width=500), part.to_markdown()):
        assert f"connections {WORDS} were audited, {outside}" in text
    page = part.to_html()
    assert f"Connections {WORDS} only; nothing outside this time was audited." in page
    assert page.count(f"{WORDS} only") >= 2, "in the headline, too"
    for text in (whole.to_table(width=500), whole.to_markdown(), whole.to_html()):
        assert outside not in text
        assert "not looked at" not in text


def test_json_has_both_ends_of_it(part: Any, whole: Any) -> None:
    assert json.loads(part.to_json())["audit"]["window"] == {"since": SINCE, "until": UNTIL}
    assert "window" not in json.loads(whole.to_json())["audit"]


@pytest.mark.parametrize("name", ["ocsf", "junit", "sarif", "ecs", "cef"])
def test_every_format_with_a_place_for_it_names_it(name: str) -> None:
    options = {"since": "2026-11-30T15:12:10Z", "until": "2026-11-30T15:12:16Z"}
    for given in (options, {}):
        out = io.BytesIO()
        audit = auditor.audit("sample:intruder", **given).audit
        import_module(f"auditor.report.{name}").FORMAT.write(audit, out)
        assert (
            "2026-11-30T15:12:10Z" in out.getvalue().decode() or "2026-11-30 15:12:10" in out.getvalue().decode()
        ) is bool(given)


def test_one_end_is_enough() -> None:
    assert window_text({"since": SINCE, "until": None}) == "from 2026-11-16 09:00:10 UTC"
    assert window_text({"since": None, "until": UNTIL}) == "to 2026-11-16 09:00:20 UTC"
    assert window_text(None) == window_text({}) == ""
