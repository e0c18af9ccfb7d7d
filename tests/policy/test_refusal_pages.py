"""Pages of refusals that programs send unchanged: their lengths, and what rests on them."""

from __future__ import annotations

import pytest

from auditor.policy.dialogue import Answers, Spoken, read_dialogue
from auditor.policy.refusal_pages import REFUSAL_PAGES, page_of

HAPROXY_403 = (
    b"HTTP/1.1 403 Forbidden\r\ncontent-length: 93\r\ncache-control: no-cache\r\ncontent-type: text/html\r\n\r\n"
    b"<html><body><h1>403 Forbidden</h1>\nRequest forbidden by administrative rules.\n</body></html>\n"
)
"""As haproxy 2.6 sends it."""


def test_lengths_are_those_of_the_pages():
    assert (page := page_of([len(HAPROXY_403)], http2=False)) is not None
    assert (page.program, page.status) == ("haproxy", 403)
    # Measured at haproxy 2.6 and Caddy 2.6.
    assert page_of([141, 141, 141], http2=True) == page
    assert (found := page_of([46], http2=True)) is not None
    assert (found.program, found.status) == ("Caddy", 421)


def test_no_two_pages_are_of_one_length():
    for lengths in ([page.plain for page in REFUSAL_PAGES], [page.http2 for page in REFUSAL_PAGES if page.http2]):
        assert len(set(lengths)) == len(lengths)


@pytest.mark.parametrize("answers", [[], [189, 190], [190], [141]])
def test_other_answers_are_no_page(answers):
    assert page_of(answers, http2=False) is None


def talk(*sizes: int, ordered: bool = True):
    records = [each for size in sizes for each in (Spoken("c", 78), Spoken("s", size))]
    return read_dialogue(records, ended_by="client", ordered=ordered)


def test_a_dialogue_names_the_page_only_where_all_its_answers_are_it():
    told = talk(189, 189)
    assert told.answers is Answers.ALIKE
    assert "haproxy sends with status 403" in told.page
    assert talk(189, 201).page == ""
    # Five times the same is a long talk: then it is not a page of a refusal, by what is known of clients.
    assert talk(*[189] * 5).page == ""
    assert talk(189, ordered=False).page == ""
    assert told.digest != talk(188, 188).digest
