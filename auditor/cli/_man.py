"""The manual page, made of the same parts as the help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from auditor import __version__
from auditor.cli import COMMANDS, app
from auditor.cli._help import Page, page

_STATUSES = (
    ("0", "No finding at or above --fail-on, and the audit is complete."),
    ("1", "Findings at or above --fail-on, or a waiver that has expired."),
    (
        "2",
        "Nothing could be audited, or an argument, policy or inventory is wrong: one line on standard error says why.",
    ),
    ("3", "No finding at or above --fail-on, but the audit is incomplete; --allow-incomplete makes it 0."),
    ("130", "Interrupted."),
    ("141", "Standard output was closed (broken pipe)."),
)
_ENVIRONMENT = (
    ("AUDITOR_STORE", "The store, where --store is not given."),
    ("NO_COLOR", "No colour."),
    ("AUDITOR_COMPILE", "now: compile kernels at once, also for small captures, and nothing in the background."),
    ("NUMBA_CACHE_DIR", "Folder of compiled kernels."),
)


def pages() -> Iterator[Page]:
    """The page of every command; those of a group follow it."""
    root = typer.main.get_command(app)
    context = root.make_context("auditor", [], resilient_parsing=True)
    for name in COMMANDS:
        yield from _below(root.get_command(context, name), name, context)  # type: ignore[attr-defined]


def _below(command: Any, name: str, parent: Any) -> Iterator[Page]:
    context = type(parent)(command, info_name=name, parent=parent, resilient_parsing=True)
    yield page(command, context)
    for each, below in getattr(command, "commands", {}).items():
        yield from _below(below, each, context)


def manual() -> str:
    """auditor(1) in the man macros of roff."""
    lines = [
        f'.TH AUDITOR 1 "" "auditor {__version__}" "User Commands"',
        ".SH NAME",
        "auditor \\- audit captures of Cloud Foundry / TAS Diego VMs against the documented network paths",
        ".SH SYNOPSIS",
        ".B auditor",
        "COMMAND [OPTIONS] [ARGUMENTS]...",
        ".SH DESCRIPTION",
        _text(
            "Reads packet captures of Diego cells and brains, works out every connection, matches each to a documented network path, and says "
            "what is undeclared or wrongly authenticated, with the frames that prove it."
        ),
        ".SH COMMANDS",
    ]
    for each in pages():
        lines += [f".SS {_text(each.path)}", _text(each.usage)]
        lines += [line for paragraph in each.paragraphs for line in (".PP", _text(paragraph))]
        for title, entries in each.sections:
            lines += [".PP", f".B {_text(title)}"]
            lines += [line for one in entries for line in (".TP", f".B {_text(one.names.strip())}", _text(one.says))]
        if each.examples:
            lines += [".PP", ".B Examples"]
            lines += [line for command, says in each.examples for line in (".TP", f".B {_text(command)}", _text(says))]
    for title, listed in (("EXIT STATUS", _STATUSES), ("ENVIRONMENT", _ENVIRONMENT)):
        lines.append(f".SH {title}")
        lines += [line for name, says in listed for line in (".TP", f".B {_text(name)}", _text(says))]
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    """Text escaped for roff."""
    shown = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
    return f"\\&{shown}" if shown.startswith((".", "'")) or not shown else shown
