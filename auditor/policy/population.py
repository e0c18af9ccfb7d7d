"""What other connections of the same server say of an outcome that one connection hides.

A request inside TLS shows its length, and so does the answer. One connection with few short answers may have been served or refused. But the same
server, asked with a request of the very same length, also answered others:

- It served a client with a certificate for long, always with the very same answer that one without had: that one was served, too.
- It gave clients with a certificate one answer, always of one length, and those without another one: those were refused, and the others served.

Lengths must be equal to the byte: ``200 OK`` and ``403 Forbidden`` around one page are seven bytes apart. What follows is of certainty
*inferred*, of medium confidence, and names the connection that it rests on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

from auditor.policy.dialogue import Answers, Dialogue


@dataclass(frozen=True, slots=True)
class Member:
    """A connection whose dialogue is known."""

    row: int
    server: Hashable
    """Address, port, and what else makes two connections comparable (the version of HTTP)."""
    certified: bool
    """The client sent a certificate; otherwise it sent none, asked or not."""
    open: bool
    """Whether it was served does not show."""
    dialogue: Dialogue

    @property
    def exchange(self) -> tuple[int, int] | None:
        """Length of the request and of the answer, where all its exchanges are alike."""
        turns, requests = set(self.dialogue.turns), set(self.dialogue.requests[: len(self.dialogue.turns)])
        return (requests.pop(), turns.pop()) if len(turns) == 1 and len(requests) == 1 else None


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the population says of a connection."""

    served: bool
    witness: int
    """Row of a connection that shows it."""


def weigh(members: Iterable[Member]) -> Mapping[int, Weighed]:
    """Row of each open connection of which the others decide, to what they say."""
    by_server: dict[tuple[Hashable, int], dict[bool, list[tuple[int, Member]]]] = defaultdict(
        lambda: {True: [], False: []}
    )
    for member in members:
        alike = member.exchange
        if alike is not None and member.dialogue.answers in (Answers.ALIKE, Answers.SERVICE):
            by_server[member.server, alike[0]][member.certified].append((alike[1], member))
    found: dict[int, Weighed] = {}
    for kinds in by_server.values():
        shown, bare = kinds[True], kinds[False]
        if not shown or not bare:
            continue
        answers_of = {certified: {length: member.row for length, member in kinds[certified]} for certified in kinds}
        served = {length: each.row for length, each in shown if each.dialogue.answers is Answers.SERVICE}
        # One answer for all of a kind, and seen again: an answer whose length varies says nothing by differing.
        apart = (
            answers_of[True].keys().isdisjoint(answers_of[False])
            and all(len(answers) == 1 for answers in answers_of.values())
            and all(sum(len(each.dialogue.turns) for _, each in here) > 1 for here in kinds.values())
        )
        for certified, here in kinds.items():
            for length, member in here:
                if not member.open:
                    continue
                if apart:
                    found[member.row] = Weighed(certified, next(iter(answers_of[not certified].values())))
                elif not certified and length in served:
                    found[member.row] = Weighed(True, served[length])
    return found
