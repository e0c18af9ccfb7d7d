"""What the pages claim of the code is so: links lead somewhere, and what the program can say is in them."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor import cli
from auditor.jobs import scheduled_run
from auditor.model.frames import REMARKS
from auditor.report import _story
from auditor.rules.unverifiable_authentication import LACKS
from docs import make_reference
from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)


def table(page: str, heading: str) -> set[str]:
    """The first cells of the tables below a heading, without backticks."""
    text = (DOCS / page).read_text(encoding="utf-8")
    part = text.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    cells = {row.group(1) for row in re.finditer(r"^\| `?([^|`]+?)`? \|", part, re.MULTILINE)}
    return cells - {"---", "reason", "kind", "status", "added"}


def anchors(text: str) -> set[str]:
    """What headings of a page are called in links."""
    heads = re.findall(r"^#+ (.+)$", FENCED.sub("", text), re.MULTILINE)
    plain = (re.sub(r"[`*]|\]\([^)]*\)|\[", "", head) for head in heads)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in plain}


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        text = re.sub(r"`[^`]*`", "", FENCED.sub("", page.read_text(encoding="utf-8")))
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if "://" not in link:
                yield page, link


def test_every_link_leads_to_a_file_and_a_heading() -> None:
    wrong = []
    for page, link in links():
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists():
            wrong.append(f"{page.name}: {link}: no such file")
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8")):
            wrong.append(f"{page.name}: {link}: no such heading")
    assert not wrong, "\n".join(wrong)


def test_the_index_and_the_site_name_every_page() -> None:
    own = {each.relative_to(DOCS).as_posix() for each in DOCS.rglob("*.md")}
    own = {name for name in own if not re.fullmatch(r"rules/[^R].*", name)}
    index = set(re.findall(r"\]\(([\w/.-]+\.md)\)", (DOCS / "index.md").read_text(encoding="utf-8")))
    assert own - {"index.md"} == index - {"../README.md"}
    site = set(re.findall(r": ([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert own == site


def test_the_site_is_built_and_each_of_its_links_holds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "site" / "tutorial.html").is_file()
    assert (tmp_path / "site" / "project" / "captures" / "lab" / "lab.html").is_file()


def first_words(calls: set[str], *folders: str) -> set[str]:
    """The texts that calls of these names get as their first argument, anywhere in these folders of the package."""
    found = set()
    for file in (file for folder in folders for file in (ROOT / "auditor" / folder).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in calls and isinstance(node.args[0].value, str):
                    found.add(node.args[0].value)
    return found


def test_every_exit_status_is_explained() -> None:
    told = table("troubleshooting.md", "## Exit status")
    own = {0, 1, 3, cli.USAGE, cli.INTERRUPTED, cli.CLOSED_PIPE}
    assert told == {str(each) for each in own | {scheduled_run.UNBELIEVED, scheduled_run.UNDELIVERED}}


def test_every_reason_for_an_incomplete_audit_is_explained() -> None:
    told = table("troubleshooting.md", "## Incomplete audits")
    assert told == set(_story._REASONS) | set(LACKS)
    assert first_words({"unverifiable"}, "policy") <= set(LACKS)


def test_every_kind_of_problem_is_explained() -> None:
    told = table("troubleshooting.md", "## Problems of captures")
    said = first_words({"Problem", "_problem", "_trouble", "SourceError"}, "", "capture", "jobs")
    assert said - told == set()
    assert set(REMARKS) <= told


def test_what_makes_an_audit_incomplete_is_told_as_such() -> None:
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8").partition("## Problems of captures")[2]
    rows = re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|$", text, re.MULTILINE)
    assert {kind for kind, counts in rows if counts == "no"} == set(REMARKS)


def test_the_architecture_names_what_there_is() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:auditor|tests|captures|policies|bench)/[\w/.-]*)`", page))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []
    layers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"][
        0
    ]
    rooms = set(re.findall(r"\w+", " ".join(layers["layers"]))) - {"__main__", "errors", "catalogue"}
    drawn = (DOCS / "images" / "architecture.svg").read_text(encoding="utf-8")
    missing = {room for room in rooms if f"auditor/{room}" not in page and room not in drawn}
    assert missing <= {"pass_state", "quoting", "vantage"}, missing


def test_the_reference_has_every_command_and_option() -> None:
    page = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## (auditor [\w -]+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    for name, command in make_reference.each_command():
        assert name in parts, f"{name} is missing; make docs brings the page up to date"
        for option in make_reference.options(command):
            if option.param_type_name != "argument":
                shown = [each for each in option.opts if f"`{each}" in parts[name]]
                assert shown == option.opts, f"{name} {option.opts}: make docs brings the page up to date"


def test_the_limits_are_those_of_the_program() -> None:
    rows = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
    page = (DOCS / "reference" / "limits.md").read_text(encoding="utf-8")
    assert rows.findall(page) == rows.findall(make_reference.limits()), "make docs brings the page up to date"


def test_python_is_told_as_the_docstrings_have_it() -> None:
    made = make_reference.python()
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    heads = re.compile(r"^#+ .*$", re.MULTILINE)
    assert heads.findall(page) == heads.findall(made), "make docs brings the page up to date"
