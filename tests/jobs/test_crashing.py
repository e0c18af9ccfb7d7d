"""Crash safety: passes that are killed, that find the disk full, and whose power is cut, and what holds after the next one."""

from __future__ import annotations

from tests.jobs.crashing import run_program


def test_passes_killed_at_random_moments(tmp_path):
    """A fixed couple of dozen; hundreds are run with ``python -m tests.jobs.crashing killed FOLDER TRIALS SEED``."""
    told = run_program("killed", str(tmp_path), "20", "20261122")
    assert told["wrong"] == []
    assert told["kills"] >= 10
    assert told["expected"] == 28
