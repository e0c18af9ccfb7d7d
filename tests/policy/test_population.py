"""What other connections of one server say of an outcome that one connection hides."""

from __future__ import annotations

from auditor.policy.dialogue import Dialogue, Spoken, read_dialogue
from auditor.policy.population import Member, Weighed, weigh

SERVER = ("10.0.4.1", 8889)


def talk(*lengths: int, request: int = 78) -> Dialogue:
    """One request and one answer after the other."""
    said = []
    for length in lengths:
        said += [Spoken("c", request), Spoken("s", length)]
    return read_dialogue(said)


def member(row: int, dialogue: Dialogue, *, certified: bool, server: object = SERVER, hidden: bool = True) -> Member:
    return Member(row, server, certified, hidden, dialogue)


def test_an_answer_that_certified_clients_never_get_is_a_refusal() -> None:
    found = weigh(
        [
            member(0, talk(239, 239), certified=True),
            member(1, talk(246), certified=False),
            member(2, talk(246), certified=False),
        ]
    )
    assert found == {0: Weighed(True, 2), 1: Weighed(False, 0), 2: Weighed(False, 0)}


def test_the_very_answer_that_a_certified_client_was_served_with_is_service() -> None:
    found = weigh([member(0, talk(*[239] * 6), certified=True, hidden=False), member(1, talk(239), certified=False)])
    assert found == {1: Weighed(True, 0)}


def test_the_same_answer_may_be_a_refusal_of_both() -> None:
    """A certificate of an unknown authority and none at all: the same page for both."""
    assert not weigh([member(0, talk(246, 246), certified=True), member(1, talk(246), certified=False)])


def test_once_is_no_rule() -> None:
    assert not weigh([member(0, talk(239), certified=True), member(1, talk(246), certified=False)])


def test_answers_that_vary_say_nothing_by_differing() -> None:
    vary = [member(0, talk(239, 239), certified=True), member(1, talk(300, 300), certified=True)]
    assert not weigh([*vary, member(2, talk(246, 246), certified=False)])


def test_only_the_same_request_to_the_same_server_compares() -> None:
    shown = member(0, talk(239, 239), certified=True)
    assert not weigh([shown, member(1, talk(246, 246, request=79), certified=False)])
    assert not weigh([shown, member(1, talk(246, 246), certified=False, server=("10.0.4.2", 8889))])


def test_what_is_decided_stays() -> None:
    found = weigh(
        [
            member(0, talk(239, 239), certified=True, hidden=False),
            member(1, talk(246, 246), certified=False, hidden=False),
        ]
    )
    assert not found
