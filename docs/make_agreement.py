"""Writes docs/tshark-agreement.md: ``python docs/make_agreement.py FOLDER`` (the folder of public captures; some minutes)."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from auditor import api
from auditor.errors import InputError
from auditor.tshark.compare import HEAD, Agreement, compare, ours_of

PAGE = Path(__file__).resolve().parent / "tshark-agreement.md"
COMPRESSED = re.compile(rb"\x1f\x8b|\x28\xb5\x2f\xfd|\x04\x22\x4d\x18|\xfd7zXZ")
BEGINS = re.compile(
    rb"\x16\x03[\x00-\x04]..[\x01\x02\x04\x0b-\x0e\x10\x14]\x00|\x80.\x01\x03[\x00-\x03]\x00|\x15\x03[\x00-\x04]\x00\x02"
    rb"|SSH-[12]\.|HTTP/1\.[01]|PRI \* HTTP/2|[^\x00]\x00\x00\x00\x0a[0-9]\.[0-9]",
    re.DOTALL,
)
"""How handshakes and alerts of TLS, and SSH, HTTP and MySQL, begin: without any of it there is nothing to compare."""


def chosen(folder: Path) -> Iterator[Path]:
    """Captures with TCP that may hold one of the protocols compared."""
    with (folder / "EXPECTED.tsv").open(newline="") as text:
        for row in csv.DictReader(text, delimiter="\t"):
            path = folder / row["file"]
            data = path.read_bytes()
            if row["tcp_connections"] != "0" and (COMPRESSED.match(data) or BEGINS.search(data)):
                yield path


def agreement(paths: list[Path], folder: Path) -> Agreement:
    """What all of them say together, in their order."""

    def one(path: Path) -> Agreement:
        try:
            return compare(path, ours_of(api.connections([str(path)]).audit.connections))
        except InputError as error:
            return Agreement(problems=[str(error).replace(f"{folder}/", "")])

    told = Agreement()
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(one, paths):
            told.add(found)
    return told


def page(told: Agreement, captures: int) -> str:
    """The page."""
    rows = [HEAD, ("---", *["---:"] * (len(HEAD) - 1)), *told.rows()]
    table = "\n".join("| " + " | ".join(str(cell) for cell in row) + " |" for row in rows)
    causes = "\n".join(f"| {cause} | {count} |" for cause, count in told.causes())
    left_out = [f"- {count} connections: {cause}" for cause, count in sorted(told.left_out.items()) if count]
    left_out += [f"- {problem}" for problem in sorted(told.problems)]
    equal, compared = (sum(row[at] for row in told.rows()) for at in (2, 1))
    return f"""# How far tshark agrees

<!-- Written by docs/make_agreement.py; do not edit. -->

Fields that our inspectors give of TLS, SSH, MySQL and HTTP, beside tshark's of the same connections, over the {captures} public captures that hold
any of these over TCP ({told.connections} connections, tshark {told.tshark}). For captures of your own: `auditor dissect CAPTURE… --compare`.

**{equal} of {compared} fields are equal ({equal / compared:.1%}); {len(told.unexplained)} differ without a known cause.**

{table}

"only ours": tshark tells nothing there; "only tshark": we do not. Lists (`http.*`, chains) count once a connection.

## Why the others differ
A cause is given only where the packets of that very connection show it.

| cause | fields |
| --- | ---: |
{causes}

Left out, or not whole:
{chr(10).join(left_out)}
"""


def main() -> None:
    """Compare, and write the page."""
    folder = Path(sys.argv[1]).resolve()
    paths = list(chosen(folder))
    PAGE.write_text(page(agreement(paths, folder), len(paths)))


if __name__ == "__main__":
    main()
