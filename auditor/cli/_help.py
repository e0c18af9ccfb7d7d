"""One style of help for every command: what it does, examples, arguments, options in groups; 80 columns, no boxes.

The text is made here from typer's declarations, so that a command's file declares its options and not their layout. The man page
uses the same parts.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from auditor.cli._examples import EXAMPLES

WIDTH = 80
_FIRST = 28
"""Width of the column of option names; a longer name gets its own line."""
_METAVAR = 20
"""Longer lists of choices are moved into the text."""

GROUPS: dict[str, tuple[str, ...]] = {
    "Input": (
        "policy", "release", "inventory", "ca", "keylog", "linktype", "follow", "store", "audit", "captures", "from", "filter",
        "snaplen", "capture-with", "user", "asg", "waivers", "baseline", "since", "until", "last", "finding", "connection", "host", "verify", "against",
        "signers", "credentials",
    ),
    "Filter": ("from-role", "to-role", "to-port", "ip", "application", "disposition", "verdict", "rule", "not"),
    "Judgement": ("scope", "strict", "fail-on", "max-undecided", "allow-incomplete", "new-only", "all"),
    "Output": (
        "format", "output", "write", "table", "fields", "name", "to", "vm", "path", "bundle", "redact", "sign", "hash", "compare", "window",
        "write-ring", "ring-size", "bosh-pcap", "deployment", "interface", "quiet", "verbose", "no-color", "progress", "log-format",
        "port", "no-browser", "make-certificates", "for",
    ),
    "Limits": ("limit", "timeout", "duration", "workers", "scheduler", "index", "every"),
}  # fmt: skip
"""Groups of options, by their long names; all others are in ``Options``."""
_GROUP_OF = {name: group for group, names in GROUPS.items() for name in names}


@dataclass(frozen=True, slots=True)
class Entry:
    """An argument or an option."""

    names: str
    """``-o, --output FILE|DIR``"""
    says: str


@dataclass(frozen=True, slots=True)
class Page:
    """The help of one command."""

    path: str
    usage: str
    paragraphs: tuple[str, ...]
    examples: tuple[tuple[str, str], ...]
    sections: tuple[tuple[str, tuple[Entry, ...]], ...]
    """(title, entries): subcommands, arguments, groups of options."""

    def as_text(self, width: int = WIDTH) -> str:
        """For a terminal."""
        lines = [
            *_fill(f"Usage: {self.usage}", width, "", " " * 7),
            *(line for each in self.paragraphs for line in ("", *_fill(each, width, "  "))),
        ]
        if self.examples:
            lines += ["", "Examples:"]
            for command, says in self.examples:
                lines += [*_fill(says, width, "  # ", "  # "), f"  {command}"]
        for title, entries in self.sections:
            lines += ["", f"{title}:"]
            room = min(max(len(each.names) for each in entries), _FIRST) + 4
            for each in entries:
                lines += _entry(each, room, width)
        return "\n".join(lines) + "\n"


def page(command: Any, ctx: Any, commands: Sequence[Entry] | None = None) -> Page:
    """The help page of a command in its context; ``commands``: its subcommands, where already known."""
    path = str(ctx.command_path)
    if commands is None:
        commands = [Entry(name, _summary(command.get_command(ctx, name))) for name in _listed(command, ctx)]
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.get_params(ctx) if each.param_type_name == "option" and not each.hidden]
    words = [path, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)]
    sections = [("Commands", tuple(commands))] if commands else []
    if arguments:
        sections.append(("Arguments", tuple(Entry(_argument(each), _says(each)) for each in arguments)))
    alone = ctx.parent is None
    for title in (*GROUPS, "Options"):
        of = [each for each in options if ("Options" if alone else _GROUP_OF.get(_long(each), "Options")) == title]
        if of:
            sections.append((title, tuple(Entry(_option(each), _says(each)) for each in of)))
    return Page(
        path,
        " ".join([*words, *(["COMMAND [ARGS]..."] if commands else [])]),
        tuple(_paragraphs(command.help or "")),
        EXAMPLES.get(path.removeprefix("auditor").strip(), ()),
        tuple(sections),
    )


def dress(command: Any) -> Any:
    """``command`` (and those of a group) with this help."""
    if hasattr(command, "list_commands"):
        command.no_args_is_help = True
    command.get_help = lambda ctx: page(command, ctx).as_text().rstrip("\n")
    for each in getattr(command, "commands", {}).values():
        dress(each)
    return command


def _listed(command: Any, ctx: Any) -> Sequence[str]:
    return command.list_commands(ctx) if hasattr(command, "list_commands") else ()


def _summary(command: Any) -> str:
    """The first sentence."""
    paragraphs = _paragraphs(command.help or "")
    first = next(iter(paragraphs), "")
    return f"{first.partition('. ')[0].rstrip('.')}."


def _paragraphs(text: str) -> list[str]:
    return [" ".join(each.split()) for each in inspect.cleandoc(text).split("\n\n") if each.strip()]


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    if name.startswith("[") or name.endswith("..."):
        return name
    name = f"{name}..." if parameter.nargs == -1 else name
    return name if parameter.required else f"[{name}]"


def _long(parameter: Any) -> str:
    return str(max(parameter.opts, key=len)).lstrip("-")


def _option(parameter: Any) -> str:
    short = [each for each in parameter.opts if not each.startswith("--")]
    names = ", ".join([*short, f"--{_long(parameter)}"])
    metavar = "" if parameter.is_flag else f" {_metavar(parameter)}"
    return f"{'' if short else '    '}{names}{metavar}"


def _metavar(parameter: Any) -> str:
    given = str(parameter.metavar or _long(parameter).upper())
    return _long(parameter).upper() if _choices(given) else given


def _choices(metavar: str) -> list[str]:
    """The choices, where the list is too long to print after the option."""
    words = metavar.split("|")
    return words if len(words) > 1 and len(metavar) > _METAVAR else []


def _says(parameter: Any) -> str:
    says = " ".join(str(parameter.help or "").split())
    choices = _choices(str(parameter.metavar or ""))
    if choices and parameter.param_type_name == "option":  # an argument is shown with all its kinds already
        says += f"{'' if says.endswith('.') else '.'} One of: {', '.join(choices)}."
    default = parameter.default
    if parameter.show_default and not getattr(parameter, "is_flag", False) and default not in (None, "", [], ()):
        says += f" [default: {default:g}]" if isinstance(default, float) else f" [default: {default}]"
    if parameter.envvar:
        says += f" [env: {parameter.envvar}]"
    if parameter.param_type_name == "argument" and parameter.required:
        says += " [required]"
    return says.strip()


def _entry(entry: Entry, room: int, width: int) -> Iterator[str]:
    lines = _fill(entry.says, width - room, "") or [""]
    if len(entry.names) + 4 > room:
        yield f"  {entry.names}"
    else:
        yield f"  {entry.names:<{room - 2}}{lines.pop(0)}".rstrip()
    yield from (f"{'':<{room}}{line}" for line in lines)


def _fill(text: str, width: int, first: str, then: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=first if then is None else then,
        break_long_words=False,
        break_on_hyphens=False,
    )
