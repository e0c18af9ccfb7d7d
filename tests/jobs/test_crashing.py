"""Crash safety: passes that are killed, that find the disk full, and whose power is cut, and what holds after the next one."""

from __future__ import annotations

import shutil

import pytest

from tests.conftest import absent
from tests.jobs.crashing import run_program


@pytest.fixture(scope="module")
def strace():
    """Notes the calls that a process makes."""
    if not shutil.which("strace"):
        absent("strace is not installed (Debian package strace)")


def test_passes_killed_at_random_moments(tmp_path):
    """A fixed few; hundreds are run with ``python -m tests.jobs.crashing killed FOLDER TRIALS SEED``."""
    told = run_program("killed", str(tmp_path), "4", "20261122")
    assert told["wrong"] == []
    assert sum(told["at"].values()) == told["kills"] >= 1
    assert told["expected"] == 28


@pytest.mark.night
def test_the_power_goes_at_a_sync(tmp_path, strace):
    """Played from the calls that a pass really makes, on a disk with all that was written, and on one with what was synced alone."""
    told = run_program("power", str(tmp_path), "6")
    assert told["wrong"] == []
    assert told["syncs"] >= 60
    assert told["tried"] >= 5


@pytest.mark.night
def test_the_disk_is_full(tmp_path):
    """A tmpfs of some KiB each; then it grows, and the next pass finishes the work."""
    told = run_program("disk", str(tmp_path), "400,560,640,900", under=("unshare", "-Urm"))
    assert told["wrong"] == []
    assert told["failed"] >= 3


@pytest.mark.night
def test_any_file_of_the_store_is_damaged(tmp_path):
    """Each file once; hundreds of trials are run with ``python -m tests.jobs.crashing damaged FOLDER TRIALS SEED``."""
    told = run_program("damaged", str(tmp_path), "14", "20261130")
    assert told["wrong"] == []
    assert told["trials"] >= 12
    assert told["files"] >= 12
