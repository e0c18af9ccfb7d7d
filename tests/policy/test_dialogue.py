"""The dialogue behind a handshake, one conversation a test; the judge of TLS 1.3 has those of real servers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.policy.dialogue import (
    CONTINUE_BYTES,
    LONG_TALK,
    SHORT_ANSWER_BYTES,
    Answers,
    Dialogue,
    Spoken,
    behind,
    read_dialogue,
    spoken,
)


def read(script: str, **more: object) -> Dialogue:
    """``c78 s239``: a request of 78 bytes and an answer; ``x``, ``y``: alerts of client and server."""
    said = [Spoken(each[0], int(each[1:] or 0)) for each in script.split()]
    return read_dialogue(said, **more)  # type: ignore[arg-type]  # the words of its options


@pytest.mark.parametrize(
    ("script", "answers"),
    [
        ("", Answers.NONE),
        ("c78", Answers.NONE),
        ("c78 s239", Answers.ALIKE),
        ("c78 s239 c78 s239 c78 s239", Answers.ALIKE),
        ("c78 s100 s139 c78 s239", Answers.ALIKE),
        ("c78 s239 c78 s245", Answers.ALIKE),
        ("c78 s239 c78 s300", Answers.ALIKE),
        ("c78 s239 c78 s300 c78 s361", Answers.SERVICE),
        (" ".join(["c78 s239"] * LONG_TALK), Answers.SERVICE),
        (f"c78 s{SHORT_ANSWER_BYTES + 1}", Answers.SERVICE),
        (f"c78 s{CONTINUE_BYTES} c9000 s239", Answers.ALIKE),
    ],
)
def test_what_answers_amount_to(script: str, answers: Answers) -> None:
    assert read(script).answers is answers


def test_headers_by_reference_make_no_second_answer() -> None:
    """HPACK: the first refusal spells its headers out, later ones do not."""
    assert read("c65 s571 c32 s499 c32 s440", http2=True).answers is Answers.ALIKE


def test_a_talk_that_is_only_long_is_told() -> None:
    assert read(" ".join(["c78 s239"] * 6)).monotonous
    assert not read("c78 s239 c78 s300 c78 s361 c78 s239 c78 s239").monotonous


def test_a_greeting_answers_nothing() -> None:
    assert read("s500 c78").answers is Answers.NONE


def test_the_end_without_an_answer() -> None:
    assert read("c78 y").answers is Answers.UNANSWERED
    assert read("c78", ended_by="server").answers is Answers.UNANSWERED
    assert read("c78 x", ended_by="client").answers is Answers.NONE
    assert read("x y", ended_by="client").answers is Answers.NONE
    assert read("c78 y", whole=False).answers is Answers.NONE


def test_where_the_order_is_not_known_there_was_one_exchange() -> None:
    assert read_dialogue(spoken("", (100, 100), (250, 250, 250), 17)).turns == (3 * 233,)


def test_flights_are_left_out() -> None:
    said = spoken("sscscs", (53, 95), (23, 53, 147, 250), 17)
    assert behind(said, 1, 2) == [Spoken("s", 130), Spoken("c", 78), Spoken("s", 233)]


records = st.lists(st.builds(Spoken, st.sampled_from("ccssxy"), st.integers(0, 6_000)), max_size=40)


@given(
    records, st.booleans(), st.booleans(), st.sampled_from(["", "client", "server"]), st.sampled_from([None, 0, 900])
)
def test_any_records_are_read(said: list[Spoken], http2: bool, tickets: bool, by: str, shown: int | None) -> None:
    found = read_dialogue(said, http2=http2, tickets=tickets, ended_by=by, certificate_bytes=shown)
    assert sum(found.turns) <= sum(each.bytes for each in said if each.side == "s")
    assert (found.answers in (Answers.ALIKE, Answers.SERVICE)) == bool(found.turns)
    # What is missing ends nothing, and takes no answer away.
    lossy = read_dialogue(said, http2=http2, tickets=tickets, ended_by=by, certificate_bytes=shown, whole=False)
    assert lossy.turns == found.turns
    assert lossy.answers is not Answers.UNANSWERED
