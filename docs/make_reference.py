"""Writes docs/reference/ from the program itself: ``python docs/make_reference.py``.

The commands and their options come from the command line, what Python gives from docstrings, the limits from their declaration.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import typer

import auditor
from auditor import errors
from auditor.cli import COMMANDS, app
from auditor.model.limits import described
from auditor.report._plots import Plots

HERE = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Written by docs/make_reference.py; do not edit. -->\n\n"


def each_command() -> Iterator[tuple[str, Any]]:
    """Every command with its whole name, in the order of the help; groups before what is in them."""
    root: Any = typer.main.get_command(app)
    context = typer.Context(root, info_name="auditor")
    for name in COMMANDS:
        command = root.get_command(context, name)
        yield f"auditor {name}", command
        for below, one in getattr(command, "commands", {}).items():
            yield f"auditor {name} {below}", one


def options(command: Any) -> list[Any]:
    """Arguments and options of a command that are shown to users, without --help."""
    return [each for each in command.params if not getattr(each, "hidden", False) and each.name != "help"]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _metavar(each: Any) -> str:
    if getattr(each, "is_flag", False):
        return ""
    kind = getattr(getattr(each, "type_descriptor", None), "annotation", None)
    return f" {each.metavar or getattr(kind, '__name__', 'value').upper()}".replace("|", "/")  # a bar would end a cell


def _row(each: Any) -> str:
    if each.param_type_name == "argument":
        names = f"`{each.metavar or each.name.upper()}`"
    else:
        names = ", ".join(f"`{name}{_metavar(each) if name.startswith('--') else ''}`" for name in each.opts)
    default = "" if each.default in (None, False, ()) or callable(each.default) else f" Default: `{each.default}`."
    return f"| {names} | {_cell((each.help or '') + default)} |"


def commands() -> str:
    """The page of commands."""
    lines = ["# Commands\n", NOTE.strip() + "\n", "As `auditor COMMAND --help` says it.\n"]
    for name, command in each_command():
        lines.append(f"\n## {name}\n")
        lines.append(_prose(inspect.cleandoc(command.help or "")) + "\n")
        listed = options(command)
        if listed:
            lines += ["| option | says |", "| --- | --- |", *(_row(each) for each in listed)]
    return "\n".join(lines) + "\n"


def _prose(text: str) -> str:
    """A docstring as Markdown: examples, which are indented, stay as they are."""
    return re.sub(r"\f|\\b|\b", "", text.replace("``", "`")).replace("<", "&lt;")


def _described(name: str, thing: Any, level: str) -> list[str]:
    signature = ""
    if callable(thing) and not inspect.isclass(thing):
        signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(thing)))
        signature = re.sub(r"\(self(, )?", "(", signature)
    title = f"{level} {name}\n"
    code = f"```python\n{name}{signature}\n```\n" if signature else ""
    return [title, code, f"```text\n{inspect.getdoc(thing) or ''}\n```\n"]


def python() -> str:
    """The page of what ``import auditor`` gives."""
    lines = ["# Python\n", NOTE.strip() + "\n", "`import auditor` gives these; everything is typed.\n"]
    for name in sorted(each for each in auditor.__all__ if not each.startswith("_")):
        thing = getattr(auditor, name)
        if inspect.isclass(thing) and issubclass(thing, Exception):
            continue
        lines += _described(f"auditor.{name}", thing, "##")
        lines += _methods(name, thing) if inspect.isclass(thing) else []
    lines += _described("report.connections.auditor", Plots, "##") + _methods("report.connections.auditor", Plots)
    lines += ["## Errors\n", f"```text\n{inspect.getdoc(errors) or ''}\n```\n"]
    return "\n".join(line for line in lines if line)


def _methods(name: str, thing: type) -> list[str]:
    lines = []
    for method, offered in inspect.getmembers(thing):
        own = method in vars(thing) and not method.startswith("_")
        what = offered
        if isinstance(offered, property):
            what = offered.fget
        elif isinstance(offered, cached_property):
            what = offered.func
        if own and inspect.isfunction(what) and inspect.getdoc(what):
            lines += _described(f"{name}.{method}", what, "###")
    return lines


def limits() -> str:
    """The page of limits."""
    lines = ["# Limits\n", NOTE.strip() + "\n"]
    lines.append(
        "Memory and time are bounded by these. `--limit NAME=VALUE` (repeatable) or `auditor.audit(limits={...})` sets another value. A limit that was"
    )
    lines.append("reached is named in the report, and makes the audit incomplete.\n")
    lines += ["| limit | default | says |", "| --- | ---: | --- |"]
    lines += [f"| `{name}` | {value} | {_cell(says)} |" for name, value, says in described()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write every page."""
    HERE.mkdir(exist_ok=True)
    for name, text in {"commands.md": commands(), "python.md": python(), "limits.md": limits()}.items():
        (HERE / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
