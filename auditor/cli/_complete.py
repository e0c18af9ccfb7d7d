"""Completion of the command line in bash, zsh and fish.

A shell asks by running ``auditor`` with ``_AUDITOR_COMPLETE`` in the environment and the words so far (``_AUDITOR_WORDS``, one per line, the last
one unfinished; bash: ``_AUDITOR_LINE``). The answer has one line per candidate, ``value<TAB>description``; the line ``:files`` or ``:folders`` asks
the shell to add its own. Nothing slow is imported for it, and an error only means fewer candidates.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from auditor.errors import AuditorError, ConfigError, did_you_mean

FILES, FOLDERS = ":files", ":folders"
MOST = 400
"""The most candidates given to a shell."""
SHELLS = ("bash", "zsh", "fish")

_BASH = """\
_auditor_completion() {
  local line word cur="${COMP_WORDS[COMP_CWORD]}" cut
  [[ $cur == ":" || $cur == "=" ]] && cur=""
  COMPREPLY=()
  while IFS= read -r line; do
    case "$line" in
      :word:*) word="${line#:word:}"; cut=$((${#word} - ${#cur})) ;;
      :files) compopt -o filenames; while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$cur") ;;
      :folders) compopt -o filenames; while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -d -- "$cur") ;;
      *) line="${line%%$'\\t'*}"; line="${line:cut}"; COMPREPLY+=("$line"); [[ $line == *[=,/] ]] && compopt -o nospace ;;
    esac
  done < <(_AUDITOR_COMPLETE=complete_bash _AUDITOR_LINE="${COMP_LINE:0:COMP_POINT}" "$1" 2>/dev/null)
}
complete -F _auditor_completion auditor
"""
_ZSH = """\
#compdef auditor
_auditor() {
  local line value
  local -a values
  for line in "${(@f)$(_AUDITOR_COMPLETE=complete_zsh _AUDITOR_WORDS="${(pj:\\n:)${(@Q)words[1,CURRENT]}}" "${words[1]}" 2>/dev/null)}"; do
    case "$line" in
      '') ;;
      :files) _files ;;
      :folders) _files -/ ;;
      *) value="${line%%$'\\t'*}"; values+=("${value//:/\\\\:}:${line#*$'\\t'}") ;;
    esac
  done
  (( $#values )) && _describe -V auditor values -S "${${${(M)values[1]%%[=,]:*}:+}:- }"
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _auditor "$@"; else compdef _auditor auditor; fi
"""
_FISH = """\
function __auditor_complete
    set -lx _AUDITOR_COMPLETE complete_fish
    set -lx _AUDITOR_WORDS (string join \\n -- (commandline -opc) (commandline -ct) | string collect -N)
    for line in (command auditor 2>/dev/null)
        switch $line
            case :files
                __fish_complete_path (commandline -ct)
            case :folders
                __fish_complete_directories (commandline -ct)
            case '*'
                echo $line
        end
    end
end
complete --command auditor --no-files --arguments '(__auditor_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def script(shell: str) -> str:
    """The completion script for this shell. Raises ConfigError."""
    if shell not in _SCRIPTS:
        hint = did_you_mean(shell, SHELLS, f"one of {', '.join(SHELLS)}")
        raise ConfigError("completion", f"no completion for {shell!r}", hint=hint)
    return _SCRIPTS[shell]


def install(shell: str) -> Iterator[str]:
    """Write the completion script where the user's shell finds it; returns lines for the user. Raises ConfigError."""
    text, home = script(shell), Path.home()
    share = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    place = {
        "bash": share / "bash-completion" / "completions" / "auditor",
        "zsh": share / "zsh" / "site-functions" / "_auditor",
        "fish": config / "fish" / "completions" / "auditor.fish",
    }[shell]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(str(place), f"cannot be written: {error.strerror or error}") from error
    yield f"written: {place}"
    if shell == "bash":
        yield f"Without the package bash-completion, add to ~/.bashrc: source {place}"
    if shell == "zsh":
        yield f"If ~/.zshrc does not have it yet, add before compinit: fpath=({place.parent} $fpath)"
    yield "New shells will use it."


def answer(environment: Mapping[str, str]) -> int:
    """Print the candidates for a shell; returns the exit status."""
    verb, _, shell = environment["_AUDITOR_COMPLETE"].partition("_")
    if shell == "source":
        verb, shell = shell, verb
    if verb == "source":
        print(script(shell), end="")
        return 0
    told = environment.get("_AUDITOR_WORDS", "")
    told = told.removesuffix("\n") if shell == "fish" else told  # ``string collect -N`` leaves one
    words = split(environment.get("_AUDITOR_LINE", "")) if shell == "bash" else told.split("\n")
    lines = [f":word:{words[-1]}"] if shell == "bash" else []
    try:
        found = [each for _, each in zip(range(MOST), candidates(words, environment), strict=False)]
    except AuditorError:
        found = []
    for value, says in found:
        lines.append(value if value in (FILES, FOLDERS) else f"{value}\t{' '.join(says.split())}")
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


def split(line: str) -> list[str]:
    """The words of an unfinished command line; the last one may be empty."""
    words, word, quote, begun = [], "", "", False
    escaped = False
    for letter in line:
        if escaped:
            word, escaped, begun = word + letter, False, True
        elif letter == "\\" and quote != "'":
            escaped = True
        elif quote:
            word, quote = (word, "") if letter == quote else (word + letter, quote)
        elif letter in "'\"":
            quote, begun = letter, True
        elif letter.isspace():
            words += [word] if begun or word else []
            word, begun = "", False
        else:
            word += letter
    return [*words, word]


Candidate = tuple[str, str]
"""A value and what it is."""


@dataclass(slots=True)
class _Line:
    """The words before the unfinished one."""

    command: Any
    context: Any
    path: str = ""
    given: dict[str, list[str]] = field(default_factory=dict)
    """Values by the long name of their option."""
    arguments: list[str] = field(default_factory=list)
    waiting: Any = None
    """The option whose value comes next."""
    plain: bool = False
    """``--`` was met: only arguments follow."""
    environment: Mapping[str, str] = field(default_factory=dict)


def candidates(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[Candidate]:
    """Candidates for the last of ``words``; the first word is the program."""
    line, last = _read(words[1:-1], environment), words[-1]
    if line.waiting is not None:
        yield from _values(line, line.waiting, last)
    elif last.startswith("-") and not line.plain:
        name, equals, value = last.partition("=")
        if equals:
            option = _option(line, name)
            for found, says in _values(line, option, value) if option is not None else ():
                yield (found if found in (FILES, FOLDERS) else f"{name}={found}"), says
        else:
            yield from _options(line, last)
    elif hasattr(line.command, "list_commands"):
        for each in line.command.list_commands(line.context):
            if each.startswith(last):
                yield each, _first_sentence(line, each)
    else:
        arguments = [each for each in line.command.params if each.param_type_name == "argument"]
        at = min(len(line.arguments), len(arguments) - 1)
        if arguments and (len(line.arguments) < len(arguments) or arguments[-1].nargs == -1):
            yield from _values(line, arguments[at], last)


def _read(words: Sequence[str], environment: Mapping[str, str]) -> _Line:
    import typer

    from auditor.cli import app

    root = typer.main.get_command(app)
    line = _Line(root, root.make_context("auditor", [], resilient_parsing=True), environment=environment)
    for word in words:
        if line.waiting is not None:
            line.given.setdefault(_long(line.waiting), []).append(word)
            line.waiting = None
        elif word == "--":
            line.plain = True
        elif word.startswith("-") and len(word) > 1 and not line.plain:
            name, equals, value = word.partition("=")
            option = _option(line, name)
            if option is None:
                continue
            line.given.setdefault(_long(option), []).append(value)
            if not option.is_flag and not equals:
                line.given[_long(option)].pop()
                line.waiting = option
        elif hasattr(line.command, "list_commands"):
            found = line.command.get_command(line.context, word)
            if found is None:
                raise ConfigError(word, "unknown command")
            line.path = f"{line.path} {word}".strip()
            line.command = found
            line.context = type(line.context)(found, info_name=word, parent=line.context, resilient_parsing=True)
        else:
            line.arguments.append(word)
    return line


def _long(option: Any) -> str:
    return str(max(option.opts, key=len)).lstrip("-")


def _option(line: _Line, name: str) -> Any:
    return next((each for each in line.command.get_params(line.context) if name in each.opts), None)


def _options(line: _Line, last: str) -> Iterator[Candidate]:
    for each in line.command.get_params(line.context):
        if each.param_type_name != "option" or (_long(each) in line.given and not each.multiple):
            continue
        for name in each.opts:
            if name.startswith(last) and (name.startswith("--") or last == name):
                yield name, str(each.help or "").partition(". ")[0]


def _first_sentence(line: _Line, name: str) -> str:
    from auditor.cli import COMMANDS

    if not line.path:
        return COMMANDS[name]
    help_ = line.command.get_command(line.context, name).help or ""
    return " ".join(str(help_).split("\n\n", maxsplit=1)[0].split()).partition(". ")[0]


# -- values of options and arguments


def _values(line: _Line, parameter: Any, last: str) -> Iterator[Candidate]:
    metavar = str(parameter.metavar or "")
    name = _long(parameter) if parameter.param_type_name == "option" else metavar.strip("[].")
    known = _BY_NAME.get(name)
    if known is not None:
        head, comma, rest = last.rpartition(",") if name == "fields" else ("", "", last)
        for value, says in known(line, rest):
            if value in (FILES, FOLDERS):
                yield value, says
            elif value.startswith(rest):
                yield head + comma + value, says
        return
    words = [each for each in metavar.split("|") if re.fullmatch(r"[a-z0-9_-]+", each)]
    yield from ((each, "") for each in words if each.startswith(last))
    if re.search(r"FILE|CONFIG|OUT|BUNDLE|STORE|CAPTURE", metavar):
        yield FILES, ""
    elif "DIR" in metavar:
        yield FOLDERS, ""


def _named(names: Sequence[str]) -> Iterator[Candidate]:
    return ((each, "") for each in names)


def _rules(_line: _Line, _last: str) -> Iterator[Candidate]:
    """Names of rules with their first lines, read from their files without importing them."""
    for file in sorted((Path(__file__).resolve().parents[1] / "rules").glob("[a-z]*.py")):
        with file.open(encoding="utf-8") as source:
            name, _, says = source.readline().removeprefix('"""').partition(": ")
        yield name, says


def _policy(line: _Line) -> Any:
    from auditor.policy.policy_cache import load_policy

    return load_policy(line.given.get("policy") or [each for each in line.arguments if each] or ["tas"])


def _paths(line: _Line, _last: str) -> Iterator[Candidate]:
    for path in _policy(line).all_paths:
        yield path.id, f"{path.source} to {path.destination}"


def _roles(line: _Line, _last: str) -> Iterator[Candidate]:
    return _named(list(_policy(line).roles))


def _policies(_line: _Line, _last: str) -> Iterator[Candidate]:
    from auditor.policy import shipped

    yield from _named(shipped.names())
    yield FILES, ""


def _captures(_line: _Line, last: str) -> Iterator[Candidate]:
    from auditor.cli._machine import sample_names

    if last.startswith("s") or not last:
        yield from ((f"sample:{each}", "a sample recording") for each in sample_names())
    yield FILES, ""


def _store(line: _Line) -> str:
    return (line.given.get("store") or [line.environment.get("AUDITOR_STORE", "")])[0]


def _findings(line: _Line, _last: str) -> Iterator[Candidate]:
    """Findings of an audit of the store: the named one, else the last."""
    store = _store(line)
    if not store:
        return
    from auditor.store.history import open_history

    with open_history(store) as history:
        row = history.find((line.given.get("audit") or ["latest"])[0])
        table = history.table("findings", row.audit, ["id", "severity", "title"])
        for each in table.to_pylist() if table is not None else ():
            yield each["id"], f"{each['severity']}: {each['title']}"


def _audits(line: _Line, _last: str) -> Iterator[Candidate]:
    """The latest first."""
    yield from _named(["latest", "latest~1"])
    store = _store(line)
    if not store:
        return
    from auditor.policy.times import time_text
    from auditor.store.history import open_history

    with open_history(store) as history:
        for row in reversed(history.rows(last=20)):
            yield str(row.audit), f"{row.id}, {time_text(row.last_ns or row.finished_ns)}"


def _explained(line: _Line, last: str) -> Iterator[Candidate]:
    yield from _findings(line, last)
    yield from _rules(line, last)
    line.arguments = []
    yield from _paths(line, last)


def _applications(_line: _Line, _last: str) -> Iterator[Candidate]:
    files = (Path(__file__).resolve().parents[1] / "inspectors").glob("[a-z]*.py")
    return _named(["none", "unknown", "https", *sorted(file.stem for file in files)])


def _dispositions(_line: _Line, _last: str) -> Iterator[Candidate]:
    from auditor.model.judgement import Disposition

    return _named([str(each) for each in Disposition])


def _verdicts(_line: _Line, _last: str) -> Iterator[Candidate]:
    from auditor.model.judgement import Verdict

    return _named([str(each) for each in Verdict])


def _fields(_line: _Line, _last: str) -> Iterator[Candidate]:
    from auditor.model.columns import CONNECTIONS

    return ((each.name, each.says) for each in CONNECTIONS)


def _limits(_line: _Line, _last: str) -> Iterator[Candidate]:
    from auditor.model.limits import described

    return ((f"{name}=", f"{says} ({value})") for name, value, says in described())


def _interfaces(_line: _Line, _last: str) -> Iterator[Candidate]:
    folder = Path("/sys/class/net")
    yield from _named(sorted(each.name for each in folder.iterdir()) if folder.is_dir() else [])
    yield "ssh://", "[USER@]HOST[:PORT]/IFACE"
    yield "bosh://", "DEPLOYMENT/GROUP/ID[/IFACE]"
    yield FILES, ""


_BY_NAME: dict[str, Callable[[_Line, str], Iterator[Candidate]]] = {
    "rule": _rules,
    "path": _paths,
    "RULE|PATH|ROW|FINDING": _explained,
    "finding": _findings,
    "policy": _policies,
    "NAME|FILE": _policies,
    "BEFORE": _policies,
    "AFTER": _policies,
    "from-role": _roles,
    "to-role": _roles,
    "application": _applications,
    "disposition": _dispositions,
    "verdict": _verdicts,
    "fields": _fields,
    "limit": _limits,
    "CAPTURE": _captures,
    "audit": _audits,
    "AUDIT": _audits,
    "from": _interfaces,
    "SOURCE": _interfaces,
    "show-completion": lambda _line, _last: _named(SHELLS),
    "install-completion": lambda _line, _last: _named(SHELLS),
}
