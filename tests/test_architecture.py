"""What the import contract cannot say: added files stand alone, and every source file has its test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import auditor

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "auditor"
ALONE = ("inspectors", "rules", "report")


def _imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("room", ALONE)
def test_an_added_file_imports_no_other_of_its_kind(room):
    offers = {file.stem for file in (PACKAGE / room).glob("*.py") if not file.stem.startswith("_")}
    assert offers
    for name in offers:
        others = {f"auditor.{room}.{other}" for other in offers - {name}}
        assert not _imports(PACKAGE / room / f"{name}.py") & others, name


@pytest.mark.parametrize(
    ("tool", "rooms"),
    [
        ("numba", {"kernels", "cli"}),
        ("llvmlite", {"kernels"}),
        ("pyshark", {"tshark"}),
        ("scapy", {"capture"}),
        ("duckdb", {"store"}),
        ("sqlite3", {"store"}),
        ("typer", {"cli"}),
        ("yaml", {"policy"}),
        ("pydantic", {"policy", "jobs", "agents"}),
        ("apprise", {"jobs"}),
        ("watchfiles", {"jobs"}),
        ("prometheus_client", {"jobs"}),
        ("dask", {"jobs"}),
        ("distributed", {"jobs"}),
        ("rich", {"report", "cli"}),
        ("jinja2", {"report", "review"}),
    ],
)
def test_a_tool_stays_in_its_room(tool, rooms):
    for file in PACKAGE.rglob("*.py"):
        room = file.relative_to(PACKAGE).parts[0]
        if any(name == tool or name.startswith(f"{tool}.") for name in _imports(file)):
            assert room in rooms, f"{file.relative_to(ROOT)} imports {tool}"


def test_nothing_below_the_jobs_asks_for_the_time():
    """Time is the frames' own. The pipeline notes when an audit ran, and the command line how long it took."""
    asks = re.compile(r"\btime\.time\(|datetime\.now\(|\.utcnow\(|perf_counter\(")
    allowed = {"auditor/pipeline.py"}
    for file in PACKAGE.rglob("*.py"):
        name = str(file.relative_to(ROOT))
        if file.relative_to(PACKAGE).parts[0] in ("cli", "jobs") or name in allowed:
            continue
        assert not asks.search(file.read_text(encoding="utf-8")), name


def test_versions_agree():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"] == auditor.__version__
    assert f"## [{auditor.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_no_machine_is_named_in_what_is_kept():
    """Paths of a developer's machine and hosts of package registries do not belong into the project."""
    import subprocess

    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if not listed:
        pytest.skip("not a git checkout")
    # Put together here, so that this file does not find itself.
    told = re.compile("|".join(("/wo" + "rk/", "/ro" + "ot/", "pypi" + r"\.org", "pythonhost" + "ed")))
    for name in filter(None, listed.split("\0")):
        file = ROOT / name
        if file.suffix in (".py", ".md", ".yml", ".toml", ".txt", ".sh", ".tsv") and file.is_file():
            found = told.search(file.read_text(encoding="utf-8", errors="replace"))
            assert not found, f"{name}: {found and found.group()}"
