"""The changelog says each thing once: lines that a merge doubled, or that two changes wrote alike, are found."""

from __future__ import annotations

import itertools
import re

import pytest

from tests.conftest import ROOT

ALIKE = 0.55
"""Share of words in common from which two entries say the same; of those that do not, the most alike share 0.45."""


def entries(text: str) -> dict[str, list[str]]:
    """The entries of each release by its heading, each in one line."""
    found: dict[str, list[str]] = {}
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        head, _, body = part.partition("\n")
        joined = re.sub(r"\n(?![-#\n])\s*", " ", body)
        found[head] = [line[2:] for line in joined.splitlines() if line.startswith("- ")]
    return found


def doubles(lines: list[str]) -> list[tuple[str, str]]:
    """Pairs of entries that say the same."""
    words = [set(re.findall(r"[a-z0-9_-]{3,}", line.lower())) for line in lines]
    return [
        (lines[i], lines[j])
        for i, j in itertools.combinations(range(len(lines)), 2)
        if len(words[i] & words[j]) > ALIKE * len(words[i] | words[j])
    ]


def test_nothing_is_said_twice() -> None:
    releases = entries((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert next(iter(releases)) == "[Unreleased]"
    assert {head: found for head, lines in releases.items() if (found := doubles(lines))} == {}


def test_each_kind_of_change_has_one_heading() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heads = re.findall(r"^### (.+)$", part, flags=re.MULTILINE)
        assert len(heads) == len(set(heads))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("A store that all may change is refused.", "A store that all may change is refused.", True),
        (
            "`auditor history query`: named questions take `--since` and `--until`; a misspelt one gets a suggestion, an empty answer says so",
            "`auditor history query`: named questions take `--since` and `--until`, a mistyped one is told what was meant, an empty answer says so",
            True,
        ),
        (
            "`auditor slice --sign` signs bundles.",
            "`auditor slice --verify` compares times and lengths of packets.",
            False,
        ),
    ],
)
def test_doubles_are_found(one: str, other: str, same: bool) -> None:
    assert bool(doubles([one, other])) is same
