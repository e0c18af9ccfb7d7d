"""Looks for words that the project's texts avoid: ``python docs/check_words.py [FILE...]``; ``make check`` runs it.

``words.tsv`` lists them: a regular expression, what to use instead, an example. Every page, message, docstring and comment is read, and the tests'
expected reports; captures, recordings and the list itself are not, nor are kernels
(a comment changed there is a compilation for everybody). Exit status 1 where a word was found.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "docs" / "words.tsv"
READ = (
    "README.md",
    "Makefile",
    "auditor/**/*.py",
    "auditor/**/*.html",
    "auditor/**/*.js",
    "docs/**/*.md",
    "docs/*.py",
    "policies/*.yml",
    "captures/**/*.md",
)


class Avoided:
    """The list: what is looked for, as one expression, and what to use instead. Each entry begins at the beginning of a word."""

    def __init__(self, text: str) -> None:
        rows = [line.split("\t") for line in text.splitlines()[1:] if line.strip()]
        looked_for = [re.sub(r"(\(\?<![^)]*\))| ", lambda part: part[1] or " +", row[0]) for row in rows]
        self._each = [(re.compile(one, re.IGNORECASE), row[1]) for one, row in zip(looked_for, rows, strict=True)]
        self._any = re.compile(rf"\b(?:{'|'.join(looked_for)})", re.IGNORECASE)

    def found(self, text: str) -> Iterator[tuple[int, str, str]]:
        """Line, what stands there, and what to use instead. A phrase may go over the end of a line."""
        flat = re.sub(r"\n[ \t]*(?:# )?", lambda gap: " " * len(gap[0]), text)
        for match in self._any.finditer(flat):
            instead = next(use for one, use in self._each if one.match(flat, match.start()))
            yield text.count("\n", 0, match.start()) + 1, " ".join(match[0].split()), instead


def files(names: list[str]) -> Iterable[Path]:
    """Those that are named, or all."""
    found = {each for glob in READ for each in ROOT.glob(glob) if each.parent.name != "kernels"}
    return [Path(name) for name in names] or sorted(found - {Path(__file__)})


def main(names: list[str]) -> int:
    """Print what was found; the exit status."""
    avoided = Avoided(LIST.read_text(encoding="utf-8"))
    count = 0
    for file in files(names):
        for line, says, instead in avoided.found(file.read_text(encoding="utf-8")):
            print(f"{file.relative_to(ROOT) if file.is_relative_to(ROOT) else file}:{line}: {says!r}; use: {instead}")
            count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
