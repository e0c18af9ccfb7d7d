"""How many verdicts are right, on recordings of real programs and on small captures of public fault reports.

``python -m tests.scores [stacks|cases] [WORD …]`` prints what is not right of the captures whose name holds a WORD (all without one). Each folder holds
captures, inventories and the truth that the two ends told (``truth.tsv``) or what has to be said (``cases.tsv``).
"""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import auditor

SHARED = Path(__file__).resolve().parents[2] / "shared"
_LEVELS = {"low": 0, "medium": 1, "high": 2, None: 0}
_ALL = [
    "tas-diego",
    "bosh",
    "bosh-dns",
    "c2c",
    "cc",
    "cf-deployment",
    "credhub",
    "loggregator",
    "mysql",
    "nats",
    "routing",
    "uaa",
]


@dataclass(frozen=True, slots=True)
class Grade:
    """What was said of one connection or case, and how good that is."""

    name: str
    stacks: str
    grade: str
    """right, missed (nothing false is claimed), wrong, missing (no such connection)."""
    says: str


@cache
def _report(files: tuple[str, ...], inventories: tuple[str, ...], policies: tuple[str, ...]) -> dict[str, Any]:
    options: dict[str, Any] = {"policy": list(policies)} if policies else {}
    found = auditor.audit(list(files), inventory=list(inventories), **options)
    report: dict[str, Any] = json.loads(found.to_json())
    return report


def _read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as source:
        return list(csv.DictReader(source, delimiter="\t"))


def stacks(folder: Path, words: Sequence[str] = ()) -> Iterator[Grade]:
    """Grades of the connections of real programs, one each."""
    by_capture: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in _read(folder / "truth.tsv"):
        by_capture[row["capture"]].append(row)
    for capture, rows in sorted(by_capture.items()):
        if words and not any(word in capture for word in words):
            continue
        report = _report((str(folder / capture),), (str(folder / "inventory.yml"),), ())
        rules = {each["id"]: each["rule"] for each in report["findings"]}
        seen: dict[frozenset[str], list[dict[str, Any]]] = defaultdict(list)
        for each in sorted(report["connections"], key=lambda one: str(one["start"])):
            ends = (each["originator"], each["responder"])
            seen[frozenset(f"{end['ip']}:{end['port']}" for end in ends)].append(each)
        for row in rows:
            found = seen[frozenset((row["originator"], row["responder"]))]
            yield _graded(row, found[0] if found else None, rules)


def _graded(row: dict[str, str], found: dict[str, Any] | None, rules: dict[str, str]) -> Grade:
    truth = f"{row['truth_credential']}, {row['truth_outcome']}; right is {row['right']}"
    if found is None:
        return Grade(row["capture"], row["stacks"], "missing", truth)
    said = found["authentication"]
    fired = sorted({rules[each] for each in found["findings"] if each in rules})
    verdict, level = said["verdict"], _LEVELS[said["confidence"]]
    says = f"{truth}; said {verdict} {said['confidence']} {fired}: " + "; ".join(f["says"] for f in said["factors"])
    forbidden = set(row["forbidden_rules"].split("|")) & set(fired)
    tolerated = False
    for each in row["tolerated"].split("|"):
        word, _, most = each.partition(":")
        tolerated = tolerated or (word == verdict and (not most or level <= _LEVELS[most]))
    if not forbidden and verdict in row["right"].split("|"):
        return Grade(row["capture"], row["stacks"], "right", says)
    return Grade(row["capture"], row["stacks"], "missed" if tolerated and not forbidden else "wrong", says)


def cases(folder: Path, words: Sequence[str] = ()) -> Iterator[Grade]:
    """Grades of small captures, right or wrong."""
    for case in _read(folder / "cases.tsv"):
        if words and not any(word in case["files"] for word in words):
            continue
        files = tuple(str(folder / each) for each in case["files"].split())
        inventories = tuple(str(folder / each) for each in case["inventory"].split())
        policies = _ALL if case["policy"] == "all" else case["policy"].split()
        wrong = "; ".join(_contradicts(case, _report(files, inventories, tuple(policies))))
        yield Grade(case["files"], "", "wrong" if wrong else "right", f"{wrong} ({case['note']})")


def _contradicts(case: dict[str, str], report: dict[str, Any]) -> Iterator[str]:
    """What is not as the case wants it."""
    fired = {each["rule"] for each in report["findings"]}
    connections = report["connections"]
    wanted, unwanted = ({each for each in case[key].split("|") if each} for key in ("rules", "no_rules"))
    if case["verdict"]:
        largest = max(connections, key=lambda one: one["originator"]["packets"] + one["responder"]["packets"])
        verdict = largest["authentication"]["verdict"]
        if verdict not in case["verdict"].split("|"):
            yield f"verdict {verdict}, should be {case['verdict']}"
    yield from (f"{rule} does not fire" for rule in sorted(wanted - fired))
    yield from (f"{rule} fires" for rule in sorted(unwanted & fired))
    if case["connections"] and len(connections) != int(case["connections"]):
        yield f"{len(connections)} connections, should be {case['connections']}"
    if case["frames"]:
        evidence = [e for each in report["findings"] if each["rule"] in wanted for e in each["evidence"]]
        cited = {frame for each in evidence for _, frame in each["frames"]}
        if cited != {int(each) for each in case["frames"].split()}:
            yield f"cites frames {sorted(cited)}, should cite {case['frames']}"
    problems = json.dumps([each["problems"] for each in report["captures"]]).lower()
    if case["says"].lower() not in problems:
        yield f"problems do not speak of {case['says']!r}"


if __name__ == "__main__":
    which, words = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("both", [])
    for name, grades in (("stacks", stacks), ("cases", cases)):
        if which not in (name, "both"):
            continue
        counts: dict[str, int] = defaultdict(int)
        for one in grades(SHARED / f"captures-{name}", words):
            counts[one.grade] += 1
            if one.grade != "right" or words:
                print(f"{one.grade}: {one.name} {one.stacks}: {one.says}")
        print(name, dict(counts))
