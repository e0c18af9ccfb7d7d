"""The list of words to avoid is kept, and finds what it names."""

from __future__ import annotations

import pytest

from docs import check_words

LIST = check_words.LIST.read_text(encoding="utf-8")


def test_no_text_of_the_project_has_a_word_of_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_words.main([]) == 0, capsys.readouterr().out


def test_a_word_is_found_with_its_line_also_over_the_end_of_a_line() -> None:
    avoided = check_words.Avoided("avoid\tuse\tfor example\nof two minds\tcontradict each other\t\n")
    assert list(avoided.found("clocks\nare of\n    two minds")) == [(2, "of two minds", "contradict each other")]
    assert list(avoided.found("proof two minds")) == []


def test_every_entry_finds_something_and_not_what_it_asks_for() -> None:
    avoided = check_words.Avoided(LIST)
    for row in LIST.splitlines()[1:]:
        pattern, instead, *example = row.split("\t")
        assert pattern and instead
        assert list(avoided.found(instead)) == [], row
        for one in example:
            assert list(avoided.found(one)) == [], row
