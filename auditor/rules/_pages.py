"""The pages of rules and documented paths: what `auditor explain` prints and docs/rules/ holds.

A rule's page is its module's docstring: a first line ``name: what it is``, then sections that begin with their title and a colon. So the text beside the
code, the answer in the terminal and the page in the documentation are one.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from auditor.catalogue import discover
from auditor.model.roles import Rule

SECTIONS = ("What fires it", "What proves it", "Why it matters", "What to do", "How to waive")
WIDTH = 80
_TITLE = re.compile(rf"^({'|'.join(SECTIONS)}):\s*")


@dataclass(frozen=True, slots=True)
class Page:
    """A rule's page."""

    name: str
    severity: str
    summary: str
    sections: tuple[tuple[str, str], ...]
    """(title, text), in the order of SECTIONS."""

    def as_text(self, width: int = WIDTH) -> str:
        """For a terminal."""
        parts = [f"{self.name} ({self.severity})", _fill(_sentence(self.summary), width, "  ")]
        parts += [f"{title}\n{_fill(_sentence(text), width, '  ')}" for title, text in self.sections]
        return "\n\n".join(parts) + "\n"

    def as_markdown(self) -> str:
        """For docs/rules/."""
        parts = [f"# {self.name}", _sentence(self.summary), f"Severity: {self.severity}."]
        parts += [f"## {title}\n\n{_fill(_sentence(text), 120)}" for title, text in self.sections]
        return "\n\n".join(parts) + "\n"


def rules() -> tuple[Rule, ...]:
    """All rules, in the order of their names."""
    return tuple(sorted(discover("auditor.rules", "RULE"), key=lambda rule: str(rule.name)))


def rule_page(rule: Rule) -> Page:
    """The page of a rule.

    Raises ValueError where its module's docstring is not a page: a first line with the rule's name, and every section of SECTIONS in order.
    """
    module = sys.modules[rule.check.__module__]
    lines = (module.__doc__ or "").strip().splitlines()
    name, _, summary = (lines[0] if lines else "").partition(": ")
    if name != rule.name or not summary:
        raise ValueError(f"{module.__name__}: the docstring does not begin with '{rule.name}: '")
    sections: list[tuple[str, list[str]]] = []
    for line in lines[1:]:
        if title := _TITLE.match(line):
            sections.append((title[1], [line[title.end() :].strip()]))
        elif sections and line.strip():
            sections[-1][1].append(line.strip())
    if tuple(title for title, _ in sections) != SECTIONS:
        raise ValueError(f"{module.__name__}: the docstring's sections are not {', '.join(SECTIONS)}")
    return Page(name, rule.severity.word, summary, tuple((title, " ".join(said)) for title, said in sections))


def documents() -> dict[str, str]:
    """The files of docs/rules/, by name."""
    pages = [rule_page(rule) for rule in rules()]
    index = [
        "# Rules",
        "",
        "What `auditor explain NAME` prints. Made from `auditor/rules/` by `docs/make_rules.py`.",
        "",
    ]
    index += ["| rule | severity | finds |", "| --- | --- | --- |"]
    index += [f"| [{page.name}]({page.name}.md) | {page.severity} | {_sentence(page.summary)} |" for page in pages]
    return {f"{page.name}.md": page.as_markdown() for page in pages} | {"README.md": "\n".join(index) + "\n"}


def path_text(path: Any, policy: Any, width: int = WIDTH) -> str:
    """The page of a declared path.

    Parameters: a ``PolicyPath`` and the ``Policy`` it is of (rooms beside this one, so not named as types), the width in columns.
    """
    origin = path.origin
    kind = f"ambient path of policy {path.policy}" if path.ambient else f"documented path of policy {path.policy}"
    row = f", row {path.row} of its page" if path.row else ""
    facts = [
        ("from", path.source),
        ("to", path.destination),
        ("ports", f"{path.judged_ports} ({path.transport})"),
        ("application", path.application_text),
        ("authentication", path.authentication_text),
        ("footnote", path.footnote),
        ("section", origin.section),
        ("releases", origin.releases),
        ("source", origin.title),
        ("", origin.url),
        ("written in", f"{origin.file}:{origin.line}" if origin.line else origin.file),
        ("looks alike", ", ".join(_alike(path, policy))),
    ]
    shown = []
    for title, text in facts:
        if text:
            shown.append(_fill(str(text), width, " " * 18, f"  {title:<16}"))
    end = ""
    if _alike(path, policy):
        end = "\n" + _fill(
            "Roles, port and transport do not distinguish the paths that look alike: a connection on one of them matches all, unless a "
            "certificate names the component.",
            width,
            "  ",
        )
    return f"{path.id}: {kind}{row}\n\n" + "\n".join(shown) + "\n" + (f"{end}\n" if end else "")


def _alike(path: Any, policy: Any) -> list[str]:
    """Other paths between the same roles with the same ports."""
    return [
        other.id
        for other in policy.all_paths
        if other.id != path.id
        and (other.orig_roles, other.resp_roles, other.ports, other.varies, other.transports)
        == (path.orig_roles, path.resp_roles, path.ports, path.varies, path.transports)
    ]


def overview(paths: Iterable[Any], width: int = WIDTH) -> str:
    """All that can be explained, a line each."""
    pages = [rule_page(rule) for rule in rules()]
    wide = max(len(page.name) for page in pages) + 2
    lines = ["Rules"]
    lines += [_fill(_sentence(page.summary), width, " " * (wide + 2), f"  {page.name:<{wide}}") for page in pages]
    lines += ["", "Paths", _fill(", ".join(path.id for path in paths), width, "  ")]
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _fill(text: str, width: int, indent: str = "", first: str | None = None) -> str:
    return textwrap.fill(
        text,
        width,
        initial_indent=indent if first is None else first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
