"""What the judge of TLS 1.3 learns from stacks, learnt anew without one of them: the honest measure of what it says of stacks that it has never seen.

Three numbers of ``tls13_stacks.toml`` are learnt from recordings: the paddings that whole stacks apply, the smallest Certificate message, and the largest
CertificateRequest. All else (lengths of messages, signatures, alerts) follows from RFC 8446. ``leave_one_out`` takes every connection with a stack at
either end away, fits the three numbers to the rest, and judges what was taken away.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from auditor.policy.tls13 import ClientCertificate, Tls13Flights, Tls13Model, Tls13Outcome, judge_tls13, tls13_model

OVERHEAD = {0x1305: 9}
"""What a suite adds to a message, where it is not 17 octets: a tag of eight."""
FINISHED = {0x1302: 52}
"""Finished, where the suite's hash is not SHA-256."""
EMPTY = 8
MOST_PADDING = 64
OFTEN = 5
"""A padding that so many connections show is a stack's."""
SMALLER = 2
"""Certificates half as long as the shortest seen may come; requests twice as long as the longest."""


@dataclass(frozen=True)
class Left:
    """What was said of the connections of one stack by numbers learnt from all others."""

    stack: str
    connections: int
    right: int
    unknown: int
    wrong: int
    outcomes_wrong: int
    model: Tls13Model


def fit(seen: Iterable[tuple[dict[str, str], Tls13Flights]]) -> Tls13Model:
    """The model with the three numbers that these recordings teach."""
    paddings: Counter[int] = Counter()
    certificates: list[int] = []
    requests: list[int] = []
    for truth, flights in seen:
        if flights.psk_selected or not flights.client:
            continue
        over, finished = OVERHEAD.get(flights.cipher_suite, 17), FINISHED.get(flights.cipher_suite, 36)
        shortest = {"absent": finished, "empty": EMPTY}.get(truth["truth"])
        padding = -1 if shortest is None else flights.client[0] - over - shortest
        # An empty Certificate with Finished behind it in one record is no padding.
        if 0 <= padding <= MOST_PADDING and padding != finished:
            paddings[padding] += 1
        if (
            truth["truth"] == "sent"
            and len(flights.client) > 2
            and flights.client[2] - over in range(finished, finished + MOST_PADDING)
        ):
            certificates.append(flights.client[0] - over)
        if (
            truth["truth"] in {"sent", "empty"}
            and flights.server[4:5]
            and flights.server[4] - over - finished in range(MOST_PADDING)
        ):
            requests.append(flights.server[1] - over)
    return replace(
        tls13_model(),
        paddings=tuple(sorted(padding for padding, count in paddings.items() if count >= OFTEN)),
        certificate_min=min(certificates) // SMALLER,
        request_max=max(requests) * SMALLER,
    )


def leave_one_out(judged: list[Any]) -> Iterator[Left]:
    """A row for each stack; ``judged``: of ``confusion.judged``."""
    right = {
        "sent": {"inferred_sent"},
        "empty": {"inferred_empty"},
        "absent": {"inferred_absent"},
        "late": {"inferred_absent"},
        "resumed": {"resumed"},
    }
    for stack in sorted({each.truth[side] for each in judged for side in ("client", "server")}):
        mine = [each for each in judged if stack in (each.truth["client"], each.truth["server"])]
        model = fit(
            (each.truth, each.flights) for each in judged if stack not in (each.truth["client"], each.truth["server"])
        )
        counts: Counter[str] = Counter()
        for each in mine:
            if each.truth["truth"] == "unsure":
                continue
            said = judge_tls13(each.flights, model)
            word = "resumed" if said.resumed else str(said.client_certificate)
            unknown = said.client_certificate is ClientCertificate.UNKNOWN and not said.resumed
            counts["unknown" if unknown else "right" if word in right[each.truth["truth"]] else "wrong"] += 1
            served = each.truth["client_result"] == each.truth["server_result"] == "ok"
            false = (
                said.outcome is Tls13Outcome.REFUSED
                if served
                else (each.truth["truth"] == "empty" and said.outcome in (Tls13Outcome.ACCEPTED, Tls13Outcome.LIKELY))
            )
            counts["outcome"] += false
        yield Left(
            stack,
            sum(counts[word] for word in ("right", "unknown", "wrong")),
            counts["right"],
            counts["unknown"],
            counts["wrong"],
            counts["outcome"],
            model,
        )


def table(rows: Iterable[Left]) -> str:
    """As a table in Markdown, with a sum."""
    rows = list(rows)
    lines = [
        "| left out | connections | right | unknown | wrong claim of a certificate | wrong claim of an outcome | learnt without it: paddings, certificate from, request to |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        learnt = f"{', '.join(map(str, row.model.paddings))}; {row.model.certificate_min}; {row.model.request_max}"
        lines.append(
            f"| {row.stack} | {row.connections} | {row.right} | {row.unknown} | {row.wrong} | {row.outcomes_wrong} | {learnt} |"
        )
    total = [
        sum(getattr(row, name) for row in rows)
        for name in ("connections", "right", "unknown", "wrong", "outcomes_wrong")
    ]
    lines.append("| **all** | " + " | ".join(f"**{number}**" for number in total) + " | |")
    return "\n".join(lines)
