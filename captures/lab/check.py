"""Holds an audit of a recording against its truth: each connection's disposition and verdict, and the rules of its findings.

The report that is held against the truth is the command's JSON report, as a user gets it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import expect
from data import load

ROOT = Path(__file__).resolve().parents[2]
Key = tuple[str, str, int, str, int]


@dataclass
class Comparison:
    connections: int = 0
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Expected, got."""
    findings: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Rule to right, missed, false."""
    wrong: list[str] = field(default_factory=list)


def audit(folder: Path, stem: str) -> dict[str, Any]:
    """The command's JSON report on a recording."""
    captures = sorted(folder.glob(f"{stem}.*.pcap*"))
    given = ["--inventory", folder / f"{stem}.inventory.yml", "--ca", folder / f"{stem}.ca.pem", "--scope", "diego"]
    given += ["--policy", "tas-diego"]  # what the truth goes by: the documented table alone
    command = [
        sys.executable,
        "-m",
        "auditor",
        "audit",
        *captures,
        *given,
        "--format",
        "json",
        "--fail-on",
        "never",
        "--allow-incomplete",
    ]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise RuntimeError(f"the audit ended with {done.returncode}: {done.stderr[-1500:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def key_of(truth: expect.Truth) -> Key:
    return (
        truth["transport"],
        truth["originator"],
        int(truth["originator_port"]),
        truth["responder"],
        int(truth["responder_port"]),
    )


def compare(report: dict[str, Any], truths: list[expect.Truth], lab: dict[str, Any]) -> Comparison:
    """Every connection of the truth is in the report once, and no other is (ARP is no connection)."""
    rule_of = {each["id"]: each["rule"] for each in report["findings"]}
    row_of = {each["path"]: each["row"] for each in report["coverage"]}
    seen: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    for each in report["connections"]:
        one, other = each["originator"], each["responder"]
        seen[each["transport"], one["ip"], one["port"], other["ip"], other["port"]].append(each)
    result = Comparison()
    for truth, wanted in zip(truths, expect.expect(truths, lab), strict=True):
        result.connections += 1
        name = truth["scenario"]
        mine = seen.pop(key_of(truth), [])
        if len(mine) != 1:
            result.wrong.append(f"{name}: counted {len(mine)} times")
            result.verdicts[wanted.verdict, "absent" if not mine else "doubled"] += 1
            continue
        got = mine[0]
        verdict = got["authentication"]["verdict"]
        result.verdicts[wanted.verdict, verdict] += 1
        because = "; ".join(each["says"] for each in got["authentication"]["factors"])
        if verdict != wanted.verdict:
            result.wrong.append(f"{name}: verdict {verdict}, must be {wanted.verdict} ({because})")
        if got["disposition"] != wanted.disposition:
            result.wrong.append(f"{name}: disposition {got['disposition']}, must be {wanted.disposition}")
        rows = {int(each) for each in truth["rows"].split(",") if each}
        found = {row_of[each] for each in got["paths"]}
        if not found <= rows or bool(found) != bool(rows):
            result.wrong.append(f"{name}: rows {sorted(found)}, must be of {sorted(rows)}")
        rules = {rule_of[each] for each in got["findings"]}
        for rule in rules | wanted.findings:
            kind = "right" if rule in rules & wanted.findings else "missed" if rule in wanted.findings else "false"
            result.findings[rule][kind] += 1
            if kind != "right":
                result.wrong.append(
                    f"{name}: {rule} {'is missing' if kind == 'missed' else 'must not fire'} ({because})"
                )
    for key in seen:
        result.wrong.append(f"{key}: in the report and not in the truth")
    return result


def matrix(verdicts: Counter[tuple[str, str]]) -> Iterable[str]:
    """Rows: what must be; columns: what the audit says."""
    wanted = sorted({each for each, _ in verdicts})
    got = sorted({each for _, each in verdicts})
    yield f"{'must be':16}" + "".join(f"{each:>16}" for each in got)
    for each in wanted:
        yield f"{each:16}" + "".join(f"{verdicts[each, other] or '.':>16}" for other in got)


def page(result: Comparison) -> str:
    lines = [f"{result.connections} connections", "", "Verdicts", *matrix(result.verdicts), "", "Findings"]
    lines.append(f"{'':30}{'right':>8}{'missed':>8}{'false':>8}")
    for rule, counted in sorted(result.findings.items()):
        lines.append(f"{rule:30}" + "".join(f"{counted[kind] or '.':>8}" for kind in ("right", "missed", "false")))
    lines += ["", f"{len(result.wrong)} mismatches", *(f"- {each}" for each in result.wrong)]
    return "\n".join(lines)


def main(folder: Path, stem: str, quiet: bool) -> int:
    if not (folder / f"{stem}.truth.tsv").is_file():
        print(f"There is no recording in {folder}; make lab records one.")
        return 2
    result = compare(audit(folder, stem), expect.read(folder / f"{stem}.truth.tsv"), load().raw)
    if quiet and not result.wrong:
        print(f"{folder}: {result.connections} connections, no mismatch")
    else:
        print(page(result))
    return 1 if result.wrong else 0
