"""Measures the judge of TLS 1.3 record lengths against the corpus and writes ``docs/tls13-confusion.md``.

Usage: python captures/tls/confusion.py [--check]   (--check: exit 1 where the page differs from what the corpus gives)
"""

from __future__ import annotations

import re
import struct
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import read

from auditor.policy.tls13 import Tls13Flights, Tls13Judgement, judge_tls13

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tls13-confusion.md"
EXTENSIONS = {41: "psk", 42: "early", 49: "late"}
TRUTHS = ("sent", "empty", "absent", "late", "resumed", "unsure")
SAID = ("inferred_sent", "inferred_empty", "inferred_absent", "unknown", "resumed")
DATA, HANDSHAKE, ALERT = 23, 22, 21
OURS = "(our reason) "
"""Before a message of ours; every other message of a cell that cannot be made is the stack's own."""
FIRST = OURS + "the first connection was not accepted"
ENDS = re.compile(r"\d+\.\d+\.\d+\.\d+:\d+")


@dataclass(frozen=True)
class Hello:
    suite: int
    extensions: frozenset[str]
    retry: bool


def hello(body: bytes) -> Hello:
    """Of a ClientHello or ServerHello message."""
    at = 38
    at += 1 + body[at]
    suite = 0
    if body[0] == 1:
        at += 2 + struct.unpack_from(">H", body, at)[0]
        at += 1 + body[at]
    else:
        suite = struct.unpack_from(">H", body, at)[0]
        at += 3
    found = set()
    if at + 2 <= len(body):
        end = min(at + 2 + struct.unpack_from(">H", body, at)[0], len(body))
        at += 2
        while at + 4 <= end:
            kind, size = struct.unpack_from(">HH", body, at)
            if kind in EXTENSIONS:
                found.add(EXTENSIONS[kind])
            at += 4 + size
    return Hello(suite, frozenset(found), body[6:38] == read.HRR_RANDOM)


def flights(connection: read.Connection) -> Tls13Flights | None:
    """None where no ServerHello that ends the hellos was seen."""
    up, down = read.records(connection.up.stream), read.records(connection.down.stream)

    def hellos(stream: bytes, records: list[tuple[int, int, int]], kind: int) -> list[Hello]:
        return [
            hello(stream[at : at + size]) for type_, size, at in records if type_ == HANDSHAKE and stream[at] == kind
        ]

    asked = hellos(connection.up.stream, up, 1)
    told = hellos(connection.down.stream, down, 2)
    if not asked or not told or told[-1].retry:
        return None
    return Tls13Flights(
        client=tuple(size for kind, size, _ in up if kind == DATA),
        server=tuple(size for kind, size, _ in down if kind == DATA),
        cipher_suite=told[-1].suite,
        order=read.order(connection),
        psk_selected="psk" in told[-1].extensions,
        hello_retry=any(each.retry for each in told),
        early_data="early" in asked[-1].extensions,
        post_handshake_auth="late" in asked[-1].extensions,
        client_alert=any(kind == ALERT for kind, _, _ in up),
        server_alert=any(kind == ALERT for kind, _, _ in down),
        client_ended=connection.up.ended or connection.up.reset,
        server_ended=connection.down.ended or connection.down.reset,
    )


def clear_certificate(connection: read.Connection) -> str:
    """What TLS 1.2 shows in the clear: sent, empty, absent (no Certificate message), or hello where it ended before."""
    stream = b"".join(
        bytes(connection.up.stream[at : at + size])
        for kind, size, at in _before_ccs(read.records(connection.up.stream))
        if kind == HANDSHAKE
    )
    at, messages = 0, []
    while at + 4 <= len(stream):
        size = int.from_bytes(stream[at + 1 : at + 4])
        messages.append((stream[at], size))
        at += 4 + size
    kinds = [kind for kind, _ in messages]
    if 11 in kinds:
        return "empty" if dict(messages)[11] == 3 else "sent"
    return "absent" if 16 in kinds else "hello"


def _before_ccs(records: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    kinds = [kind for kind, _, _ in records]
    return records[: kinds.index(20)] if 20 in kinds else records


@dataclass(frozen=True)
class Judged:
    truth: dict[str, str]
    flights: Tls13Flights
    judgement: Tls13Judgement

    @property
    def said(self) -> str:
        return "resumed" if self.judgement.resumed else str(self.judgement.client_certificate)


def judged(cells: list[read.Cell]) -> list[Judged]:
    found = []
    for cell in cells:
        if cell.connection is None or cell.truth["version"] != "1.3":
            continue
        seen = flights(cell.connection)
        if seen is not None:
            found.append(Judged(cell.truth, seen, judge_tls13(seen)))
    return found


def false_claims(all_judged: list[Judged]) -> list[Judged]:
    """A certificate claimed that did not cross, or its absence claimed where one did."""
    right = {
        "inferred_sent": {"sent"},
        "inferred_empty": {"empty"},
        "inferred_absent": {"absent", "late"},
        "resumed": {"resumed"},
    }
    return [
        each
        for each in all_judged
        if each.truth["truth"] != "unsure" and each.said != "unknown" and each.truth["truth"] not in right[each.said]
    ]


def table(head: list[str], rows: list[list[object]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def matrix(all_judged: list[Judged]) -> str:
    count = Counter((each.truth["truth"], each.said) for each in all_judged)
    return table(
        ["truth \\ judged", *SAID],
        [
            [truth, *(count[truth, said] or "" for said in SAID)]
            for truth in TRUTHS
            if any(count[truth, said] for said in SAID)
        ],
    )


def by_stack(all_judged: list[Judged], side: str) -> str:
    rows: list[list[object]] = []
    for stack in sorted({each.truth[side] for each in all_judged}):
        mine = [each for each in all_judged if each.truth[side] == stack]
        known = [each for each in mine if each.truth["truth"] != "unsure"]
        wrong = len(false_claims(mine))
        right = sum(each.said != "unknown" for each in known) - wrong
        sure = sum(each.said != "unknown" and each.judgement.confidence == "high" for each in known)
        shapes = Counter(each.judgement.shape for each in mine if each.judgement.shape)
        shape = (
            ", ".join(sorted(shapes))
            if side == "client"
            else ", ".join(sorted({str(each.judgement.asked) for each in mine}))
        )
        rows.append([stack, len(mine), right, sure, len(known) - right - wrong, wrong, shape])
    return table(
        [
            f"{side} stack",
            "connections",
            "right",
            "of high confidence",
            "unknown",
            "wrong",
            "shapes" if side == "client" else "request seen as",
        ],
        rows,
    )


def kinds(all_judged: list[Judged]) -> str:
    rows: list[list[object]] = []
    for kind in ("full", "resumed", "hrr"):
        for auth in ("not_asked", "declined", "rsa", "p256", "ed25519", "chain", "untrusted"):
            mine = [
                e
                for e in all_judged
                if e.truth["auth"] == auth and e.truth["kind"] == kind and e.truth["made"] != "first"
            ]
            if mine:
                count = Counter(each.said for each in mine)
                rows.append([f"{kind}, {auth}", *(count[said] or "" for said in SAID), len(false_claims(mine))])
    return table(["kind, client authentication", *SAID, "wrong"], rows)


def outcomes(all_judged: list[Judged]) -> str:
    names = ("accepted", "likely", "hidden", "refused", "unknown")
    count = Counter()
    for each in all_judged:
        answered = (
            "answered" if each.truth["client_result"] == "ok" and each.truth["server_result"] == "ok" else "refused"
        )
        if each.truth["server"] == "nginx" and each.truth["server_result"] == "refused":
            answered = "refused inside TLS (nginx, status 400)"
        if each.truth["truth"] != "unsure":
            count[f"{each.truth['truth']}, {answered}", str(each.judgement.outcome)] += 1
    rows = sorted({row for row, _ in count})
    return table(
        ["truth and what the ends say", *names], [[row, *(count[row, name] or "" for name in names)] for row in rows]
    )


def clear(cells: list[read.Cell]) -> str:
    count = Counter(
        (c.truth["truth"], clear_certificate(c.connection))
        for c in cells
        if c.connection and c.truth["version"] == "1.2"
    )
    names = ("sent", "empty", "absent", "hello")
    rows = [
        [truth, *(count[truth, name] or "" for name in names)]
        for truth in TRUTHS
        if any(count[truth, n] for n in names)
    ]
    return table(
        ["truth \\ in the clear", "certificate", "empty certificate", "no certificate message", "ended before"], rows
    )


def not_made(cells: list[read.Cell]) -> str:
    count: Counter[tuple[str, str, str]] = Counter()
    for cell in cells:
        if cell.truth["made"] == "no":
            message = cell.truth["client_says"]
            if message.startswith(FIRST):
                words = ENDS.sub("…", message.removeprefix(FIRST).removeprefix(": "))
                message = f"{FIRST}, so there is no session to resume; the client said: {words}"
            if message.startswith(OURS + "not resumed"):
                message += (
                    f" (client: resumed {cell.truth['client_resumed']}, server: resumed {cell.truth['server_resumed']})"
                )
            count[
                f"{cell.truth['client']} → {cell.truth['server']}",
                f"{cell.truth['version']} {cell.truth['kind']}",
                message,
            ] += 1
    merged: dict[tuple[str, str], Counter[str]] = {}
    for (pair, kind, message), number in count.items():
        merged.setdefault((kind, message), Counter())[pair] += number
    rows = [
        [message, kind, ", ".join(f"{pair} ({number})" for pair, number in sorted(pairs.items()))]
        for (kind, message), pairs in sorted(merged.items(), key=lambda item: (item[0][1], item[0][0]))
    ]
    lines = ["| message | version, kind | client → server (cells) |", "| --- | --- | --- |"]
    return "\n".join(
        [*lines, *("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows)]
    )


def page(cells: list[read.Cell]) -> str:
    all_judged = judged(cells)
    wrong = false_claims(all_judged)
    listed = len({cell.truth["cell"] for cell in cells})
    made = len({cell.truth["cell"] for cell in cells if cell.truth["made"] == "yes"})
    before = sum(1 for c in cells if c.connection and c.truth["version"] == "1.3" and flights(c.connection) is None)
    padded = ", ".join(
        f"`{name}`"
        for name in sorted(
            {e.truth["client"] for e in all_judged if e.said == "unknown" and e.truth["truth"] != "unsure"}
        )
    )
    claimed_wrongly = sum(each.said == "inferred_sent" for each in wrong)
    versions = (read.HERE / "corpus.versions.tsv").read_text().split("\n")
    rows = [line.split("\t") for line in versions if line]
    return f"""# How well record lengths tell client authentication in TLS 1.3

<!-- Written by captures/tls/confusion.py from captures/tls/corpus.*; do not edit. -->

In TLS 1.3 the certificates of both ends are encrypted. The auditor judges from record lengths (`auditor/policy/tls13.py`, with the stacks' shapes as data
in `auditor/inspectors/data/tls13_stacks.toml`). This page is what that judge says of a corpus of real handshakes made by real stacks on loopback, against what the
two ends themselves reported. How the corpus is made: `captures/tls/corpus.md`.

**{listed} cells, {made} of them made; {len(all_judged)} TLS 1.3 connections judged: {len(wrong)} wrong claims, {claimed_wrongly} of them a certificate claimed that did not cross.**

The corpus is also what the sizes were learnt from, so this is a test of consistency over stacks; [verdicts.md](verdicts.md) has the measure of stacks never seen. A stack
that pads its records at random could look as if it sent a certificate; none is known to by default.

## What crossed, and what was judged
{matrix(all_judged)}

`late`: asked for after the handshake; what crossed then is told by a later flight ([verdicts.md](verdicts.md), rule 3), not here.
`unsure`: the server refused and does not say whether a certificate came. What is `unknown` and not unsure is all of {padded}, whose records are padded to blocks. Besides these, {before} connections ended before their ServerHello.

## By kind of handshake
{kinds(all_judged)}

## By client stack
{by_stack(all_judged, "client")}

A shape `+16` is a stack that pads every record by 16 octets; `whole` is a flight in one record.

## By server stack
{by_stack(all_judged, "server")}

`unknown` in the last column: the server's flight lies in one record, or is padded, which hides whether it asked; the client's answer then decides alone.

## What became of the attempt
{outcomes(all_judged)}

What the ends did is told as far as the dialogue behind the handshake shows it ([verdicts.md](verdicts.md), rule 5): nginx completes the handshake and answers 400 inside
TLS, which looks like any short answer. So few short answers are `likely` behind a certificate, and `hidden` behind an empty one.

## TLS 1.2, in the clear
{clear(cells)}

## Cells that a stack cannot make
A message is the stack's own; what begins with "{OURS.strip()}" is ours, where the stack says nothing or what it says is not why. Each end's words: `corpus.truth.tsv`.

{not_made(cells)}

## Versions
{table(["registry", "package", "version"], [list(row) for row in rows])}
"""


def main() -> None:
    text = page(read.corpus())
    if "--check" in sys.argv:
        sys.exit(
            0
            if PAGE.read_text() == text
            else f"{PAGE.name} is not what the corpus gives: run captures/tls/confusion.py"
        )
    PAGE.write_text(text)


if __name__ == "__main__":
    main()
