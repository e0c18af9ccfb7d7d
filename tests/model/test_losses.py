"""A limit that was hit is no damage, and a remark is no loss."""

from __future__ import annotations

import pytest

from auditor.model import losses


@pytest.mark.parametrize(
    ("kinds", "word"),
    [
        ([], None),
        (["corrected", "filtered"], None),
        (["limit"], "limited"),
        (["limit", "unsupported"], "unsupported"),
        (["limit", "truncated"], "damaged"),
        (["corrected", "unreadable"], "damaged"),
        (["a word of a later version"], "damaged"),
    ],
)
def test_the_worst_is_told(kinds, word):
    assert losses.loss(kinds) == word


def test_inputs_are_counted_by_what_they_lost():
    inputs = [["limit"], [], ["truncated", "limit"], ["limit"], ["corrected"]]
    assert losses.counted(inputs) == {"damaged": 1, "limited": 2}
    problems = [[{"kind": kind, "says": f"says {kind}"} for kind in kinds] for kinds in [*inputs, ["unsupported"]]]
    assert losses.told(problems) == [
        "1 of 6 captures damaged",
        "1 of 6 captures hold what is not read (says unsupported)",
        "2 of 6 captures read in part: a limit was hit",
    ]
