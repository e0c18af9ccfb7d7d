"""What all tests share."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.netns import Net, unavailable

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control has its background jobs ignore Ctrl-C, and all that tests start would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "fast", max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.register_profile("few", parent=settings.get_profile("fast"), max_examples=5)
settings.register_profile("deep", max_examples=2_000, deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fast"))

ROOT = Path(__file__).resolve().parents[1]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Kernels are compiled here once: else each worker would, and some test would be told of a first run that it did not expect."""
    from auditor.cli._machine import kernel_cache

    if hasattr(session.config, "workerinput") or session.config.option.collectonly or kernel_cache().warm:
        return
    command = [sys.executable, "-m", "auditor", "audit", "sample:healthy", "--format", "csv", "--output", os.devnull]
    subprocess.run([*command, "--fail-on", "never", "--allow-incomplete"], cwd=ROOT, check=True)


BY_NIGHT = os.environ.get("HYPOTHESIS_PROFILE") == "deep"


def by_day(items: Sequence[Any], every: int) -> Sequence[Any]:
    """Every so many-th by day, all of them by night (``HYPOTHESIS_PROFILE=deep``): what takes minutes over all."""
    return items if BY_NIGHT else items[::every]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """By day what takes longest stays out, so that each change is tested within minutes; by night everything runs."""
    left = [] if BY_NIGHT else [each for each in items if each.get_closest_marker("night")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [each for each in items if not each.get_closest_marker("night")]


def absent(what: str) -> None:
    """Skip a test for want of something; fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}: it must be there in CI")
    pytest.skip(what)


@pytest.fixture(scope="session")
def public_captures() -> Path:
    """The folder of public captures with foreign ground truth; beside the project, never inside it."""
    folder = Path(os.environ.get("AUDITOR_PUBLIC_CAPTURES", ROOT.parent / "shared" / "captures-public"))
    if not (folder / "EXPECTED.tsv").is_file():
        absent(f"no public captures in {folder}; name their folder in AUDITOR_PUBLIC_CAPTURES")
    return folder


@pytest.fixture(scope="session")
def chromium() -> tuple[str, str]:
    """Paths of Chromium and of its driver."""
    found = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(found):
        absent("Chromium is not installed (Debian packages chromium, chromium-driver)")
    assert found[0]
    assert found[1]
    return found[0], found[1]


@pytest.fixture(scope="session")
def validators() -> Path:
    """Folder of the packages that tests/npm-packages installs."""
    folder = Path(os.environ.get("AUDITOR_VALIDATORS", ROOT / ".venv" / "validators")) / "node_modules"
    if not folder.is_dir() or not shutil.which("node"):
        absent("the validators are not installed: make test does, where npm is")
    return folder


@pytest.fixture(scope="session")
def tshark() -> str:
    """Path of tshark."""
    found = shutil.which("tshark")
    if not found:
        absent("tshark is not installed (Debian package tshark)")
    assert found
    return found


@pytest.fixture(scope="module")
def net(request) -> Iterator[Net]:
    """Two hosts joined by a wire; real ones to the programs that run there."""
    why = unavailable()
    if why is None:
        lacking = [name for name in ("tcpreplay", "tcpdump", "dumpcap") if not shutil.which(name)]
        why = (
            f"{', '.join(lacking)} missing (Debian packages tcpreplay, tcpdump, wireshark-common)" if lacking else None
        )
    if why is not None:
        absent(why)
    made = Net(request.module.__name__.split(".")[-2][:3])
    yield made
    made.close()
