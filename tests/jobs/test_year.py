"""A short year of passes: what was told, beside the truth. The long one is played by ``python -m tests.jobs.year`` and stands in ``docs/run.md``."""

from __future__ import annotations

import pytest

from tests.jobs.year import WEEK, World, verdicts


@pytest.mark.night
def test_what_is_told_is_the_truth(tmp_path):
    world = World(tmp_path / "world", WEEK)
    world.play()
    assert [row[:3] for row in verdicts(world) if not row[3]] == []
    assert len(world.spoilt) == 1
