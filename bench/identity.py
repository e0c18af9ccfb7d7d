"""Whether two checkouts say the same of every connection: each column of the audit, row by row, and every finding.

    python bench/identity.py OLD NEW CAPTURE [CAPTURE ...] [--inventory FILE] [--ca FILE]

``OLD`` and ``NEW`` are folders with a checkout each. Every capture is audited by itself, in a process of its own, by each; the first cells that differ are
printed. The exit status says whether any did. Where a column of one is unknown to the other, that is told and counts.
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_SHOWN = 5


def _canonical(value: Any) -> Any:
    """A value that compares by content, whatever holds it."""
    if hasattr(value, "certainties") and hasattr(value, "evidence"):
        kinds = [(each.kind, repr(each.value), str(each.certainty), each.frames) for each in value.evidence()]
        return kinds, sorted(repr(pair) for pair in value.items())
    if isinstance(value, str | bytes | int | float | bool | None):
        return value if value == value else None  # noqa: PLR0124 - NaN
    if isinstance(value, dict):
        return {key: _canonical(one) for key, one in value.items()}
    if hasattr(value, "item") and not hasattr(value, "__len__"):
        return value.item()
    if hasattr(value, "__iter__"):
        return [_canonical(one) for one in value]
    return repr(value)


def dump(captures: list[str], inventory: str | None, ca: list[str], out: Path) -> None:
    """What this checkout says, as {capture: {table.column: cells}}."""
    import auditor  # the checkout that PYTHONPATH names

    told: dict[str, dict[str, list[str]]] = {}
    for capture in captures:
        try:
            report = auditor.audit(capture, inventory=inventory, ca=ca)
        except auditor.AuditorError as error:
            told[capture] = {"error": [str(error)]}
            continue
        # Tables that the rules see hold more than those that are shown.
        tables = {name: getattr(report.audit, name) for name in ("connections", "findings", "coverage")}
        told[capture] = {
            f"{name}.{column}": [
                repr(_canonical(None if type(cell).__name__ == "NAType" else cell)) for cell in table[column]
            ]
            for name, table in tables.items()
            for column in table.columns
        }
        told[capture]["summary"] = [repr(report.summary)]
    out.write_bytes(pickle.dumps(told))


def compare(old: dict[str, dict[str, list[str]]], new: dict[str, dict[str, list[str]]]) -> int:
    """How many cells differ; the first ones are printed."""
    differ = cells = 0
    for capture, columns in old.items():
        others = new[capture]
        for column in dict.fromkeys((*columns, *others)):
            one, two = columns.get(column), others.get(column)
            if one is None or two is None or len(one) != len(two):
                differ += 1
                print(f"{capture}: {column}: {'missing' if one is None or two is None else 'another number of rows'}")
                continue
            cells += len(one)
            rows = [row for row, (a, b) in enumerate(zip(one, two, strict=True)) if a != b]
            differ += len(rows)
            for row in rows[:_SHOWN]:
                print(f"{capture}: {column}, row {row}:\n  old {one[row][:600]}\n  new {two[row][:600]}")
    print(f"{len(old)} captures, {cells:,} cells, {differ:,} differ")
    return differ


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Compare two checkouts' audits, cell by cell.")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("captures", nargs="+")
    parser.add_argument("--inventory")
    parser.add_argument("--ca", action="append", default=[])
    parser.add_argument("--dump", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.dump is not None:
        dump(args.captures, args.inventory, args.ca, args.dump)
        return
    told = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("old", "new"):
            out = Path(scratch) / name
            command = [sys.executable, str(Path(__file__).resolve()), str(args.old), str(args.new), *args.captures]
            command += ["--dump", str(out)]
            command += ["--inventory", args.inventory] if args.inventory else []
            command += [word for each in args.ca for word in ("--ca", each)]
            folder = str(getattr(args, name).resolve())
            subprocess.run(command, check=True, env={"PYTHONPATH": folder, "PATH": ""}, cwd=folder)
            told.append(pickle.loads(out.read_bytes()))  # noqa: S301 - written just above
    raise SystemExit(1 if compare(told[0], told[1]) else 0)


if __name__ == "__main__":
    main()
