"""What the site needs beside mkdocs: pages of the repository outside of docs/ that pages link to (README, the lab) become pages of the site.

On disk such a link is ``../README.md``; in the site the same file lies below ``project/``, and so do the links between such files.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")


def _wanted(path: str, text: str) -> set[str]:
    """Files of the repository that this one (a path in the repository) links to."""
    found = {posixpath.normpath(posixpath.join(posixpath.dirname(path), link)) for _, link, _ in LINK.findall(text)}
    return {each for each in found if (ROOT / each).is_file()}


def _outside() -> set[str]:
    """Files outside of docs/ that can be reached from its pages."""
    waiting = [each.relative_to(ROOT).as_posix() for each in (ROOT / "docs").rglob("*.md")]
    reached: set[str] = set(waiting)
    while waiting:
        path = waiting.pop()
        if path.endswith(".md"):
            new = _wanted(path, (ROOT / path).read_text(encoding="utf-8")) - reached
            reached |= new
            waiting += new
    return {each for each in reached if not each.startswith("docs/")}


def on_files(files: Files, config: Any) -> Files:
    """Add what lies outside of docs/."""
    for path in sorted(_outside()):
        files.append(File.generated(config, f"project/{path}", content=(ROOT / path).read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links lead to where files lie in the site."""
    here = page.file.src_uri
    path = here.removeprefix("project/") if here.startswith("project/") else f"docs/{here}"

    def moved(found: re.Match[str]) -> str:
        begin, link, end = found.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link))
        if "://" in link or not (ROOT / target).exists():
            return found[0]
        if target.startswith("docs/"):
            there = target.removeprefix("docs/")
        elif (ROOT / target).is_file():
            there = f"project/{target}"
        else:
            return found[0]
        return f"{begin}{posixpath.relpath(there, posixpath.dirname(here) or '.')}{end}"

    return LINK.sub(moved, markdown)
