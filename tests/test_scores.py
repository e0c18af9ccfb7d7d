"""Verdicts on recordings of real programs and on captures of public fault reports, against what is true of each.

The folders lie beside the project, as the public captures do; ``python -m tests.scores`` prints what is not right.
"""

from __future__ import annotations

from collections import Counter

from tests.conftest import absent
from tests.scores import SHARED, cases, stacks


def test_no_verdict_on_real_programs_is_wrong() -> None:
    folder = SHARED / "captures-stacks"
    if not (folder / "truth.tsv").is_file():
        absent(f"no recordings of real programs in {folder}")
    grades = list(stacks(folder))
    assert [(each.name, each.says) for each in grades if each.grade in {"wrong", "missing"}] == []
    counts = Counter(each.grade for each in grades)
    assert counts["right"] >= 0.88 * len(grades), counts


def test_cases_of_fault_reports_hold() -> None:
    folder = SHARED / "captures-cases"
    if not (folder / "cases.tsv").is_file():
        absent(f"no captures of fault reports in {folder}")
    wrong = {each.name: each.says for each in cases(folder) if each.grade != "right"}
    assert wrong == {}
