"""YAML and JSON with the line of every value, so that an error can say where.

Rules that hold here:

- PyYAML composes the node graph (libyaml where it is built in), we make the values: no tag can call anything.
- A key twice in one mapping is an error: YAML would silently keep the last.
- Aliases are followed within a budget of values and depth, so a small file cannot grow without bound.
- libyaml composes by calling itself, without bound, and ends the interpreter where the stack does: what may be nested deeply is measured before it is composed.
- What looks like a number to YAML 1.1 alone (``22:22``, a time stamp, an IPv6 address of digits) stays text.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from auditor.errors import ConfigError


def yaml_text(value: Any) -> str:
    """``value`` as YAML that is fit for a terminal: as it reads best; where it holds what is not printable, with all but ASCII as escapes."""
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)
    if text.replace("\n", "").isprintable():
        return text
    escaped: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=False, width=120)
    return escaped


MAX_VALUES = 2_000_000
"""A records.json of a large foundation has some hundred thousand; ``budget`` lowers it for policies."""
MAX_DEPTH = 40
_MAY_BE_DEEP = 1_000
"""Depth is measured in texts with so many brackets, or so many signs of block nesting before the first word of a line; libyaml composes what has fewer."""
_LEADING = re.compile(rf"^[ \t?:-]{{{_MAY_BE_DEEP}}}", re.MULTILINE)
_MAX_DIGITS = 400
"""More than any number has that a policy or an inventory may hold; Python refuses to read 4,300."""

Place = tuple[str | int, ...]


@cache
def _scalars() -> Any:
    import yaml

    return yaml.constructor.SafeConstructor()


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A document and where its values stand."""

    file: str
    data: Any
    lines: dict[Place, int]
    """Line, from 1, of each value (of the key, where the value is in a mapping)."""

    def line(self, place: Place) -> int | None:
        """The line of the value at ``place``, or of the nearest thing around it."""
        for end in range(len(place), -1, -1):
            found = self.lines.get(place[:end])
            if found is not None:
                return found
        return None

    def error(self, place: Place, says: str, hint: str | None = None) -> ConfigError:
        """An error at this place, to be raised; where lines are not known, the entry of the list is named."""
        return ConfigError(self.file, says if self.lines else f"{entry_name(place)}{says}", self.line(place), hint)


def entry_name(place: Place) -> str:
    """``vms[3]: ``, the outermost item of a list that holds the place; empty: none does."""
    for end, part in enumerate(place):
        if isinstance(part, int):
            return f"{''.join(str(key) for key in place[:end])}[{part}]: "
    return ""


class Document(NamedTuple):
    """The text of a file that is none: what somebody made in Python."""

    name: str
    """For messages and reports."""
    text: str


def one_or_many(what: str, given: Any) -> list[str | Document]:
    """A name, a file or a document, or several of them, as a list. Raises ConfigError for anything else."""
    several = [given] if isinstance(given, str | Path | Document) else given
    if not isinstance(several, Iterable) or isinstance(several, Mapping | bytes):
        several = [several]
    found = list(several)
    for each in found:
        if not isinstance(each, str | Path | Document):
            raise ConfigError(
                what, f"{type(each).__name__} is not a name or file", hint="a string, a Path, or a list of these"
            )
    return [str(each) if isinstance(each, Path) else each for each in found]


def read_text(file: str, max_bytes: int) -> str:
    """The file as text. Raises ConfigError where it is missing, a folder, too large or not UTF-8."""
    path = Path(file)
    try:
        with path.open("rb") as source:
            raw = source.read(max_bytes + 1)
    except FileNotFoundError:
        raise ConfigError(file, "no such file", hint="check the path") from None
    except IsADirectoryError:
        raise ConfigError(file, "is a folder", hint="name a file in it") from None
    except (OSError, ValueError) as error:
        raise ConfigError(file, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(raw) > max_bytes:
        raise ConfigError(file, f"is larger than {max_bytes // 1024} KiB", hint="check that this is the right file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        kind = next((word for magic, word in _BINARY.items() if raw.startswith(magic)), None)
        if kind is not None:
            raise ConfigError(file, f"is {kind}", hint="check that this is the right file: text is expected") from None
        raise ConfigError(file, "is not UTF-8 text", line, "save it as UTF-8") from None


def other_kind(data: Any, wanted: str) -> tuple[str, str] | None:
    """What a file is that says by its schema or keys that it is not ``wanted`` (policy, inventory, waivers), and how to use it; None: it may be."""
    if not isinstance(data, Mapping):
        return None
    schema = str(data.get("schema") or "")
    kind = next((name for name in _KINDS if schema.startswith(f"auditor.{name}/")), None)
    if kind is None and not schema:
        kind = next((name for name, (keys, _, _) in _KINDS.items() if keys & data.keys()), None)
    if kind is None or kind == wanted:
        return None
    _, words, hint = _KINDS[kind]
    return words, hint


_KINDS: dict[str, tuple[frozenset[str], str, str]] = {
    "waivers": (frozenset({"waivers"}), "a file of waivers", "use it with auditor audit --waivers FILE"),
    "policy": (frozenset({"paths", "identities"}), "a policy", "use it with --policy FILE, check it with auditor policy check"),
    "inventory": (frozenset({"vms", "externals"}), "an inventory", "use it with --inventory FILE, check it with auditor inventory check"),
    "report": (frozenset({"findings", "connections"}), "a report of an audit", "give the file that the audit was made with"),
}  # fmt: skip
"""Kinds of files: the keys that only they have, their name, and where they are used."""

_BINARY = {
    b"\xd4\xc3\xb2\xa1": "a packet capture", b"\xa1\xb2\xc3\xd4": "a packet capture", b"\x4d\x3c\xb2\xa1": "a packet capture",
    b"\xa1\xb2\x3c\x4d": "a packet capture", b"\x0a\x0d\x0d\x0a": "a packet capture", b"\x1f\x8b": "compressed (gzip)",
    b"\x28\xb5\x2f\xfd": "compressed (Zstandard)", b"PK\x03\x04": "a ZIP archive or a spreadsheet", b"PAR1": "a Parquet file",
    b"\x7fELF": "a program",
}  # fmt: skip
"""First bytes of files that are often given by mistake."""


def parse_yaml(file: str, text: str, budget: int = MAX_VALUES) -> YamlDocument:
    """The one document of ``text``. Raises ConfigError with file, line and fix."""
    import yaml  # takes its time to load, and JSON needs none of it

    composer: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_depth(file, text, composer)
        node = yaml.compose(text, Loader=composer)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ConfigError(file, "holds a character that YAML forbids", line, "remove control characters") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ConfigError(
            file,
            f"is not valid YAML: {error.problem or error.context}",
            mark.line + 1 if mark else None,
            _yaml_mend(str(error.problem)),
        ) from None
    except RecursionError:
        raise ConfigError(file, "is nested too deeply", hint=f"at most {MAX_DEPTH} levels") from None
    lines: dict[Place, int] = {}
    if node is None:
        return YamlDocument(file, None, {(): 1})
    return YamlDocument(file, _Builder(file, lines, budget).build(node, (), 0), lines)


def _check_depth(file: str, text: str, composer: Any) -> None:
    """Raises ConfigError where the text is nested so deeply that to compose it could exhaust the stack; YAML's own errors where it is none."""
    if text.count("[") + text.count("{") < _MAY_BE_DEEP and _LEADING.search(text) is None:
        return
    import yaml

    depth = 0
    # Events come from a parser with a stack of its own.
    for event in yaml.parse(text, Loader=composer):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAY_BE_DEEP:
                line = event.start_mark.line + 1 if event.start_mark else None
                raise ConfigError(file, "is nested too deeply", line, f"at most {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def parse_json(file: str, text: str) -> YamlDocument:
    """JSON; only its own syntax errors, and numbers that are none, carry a line. Raises ConfigError."""
    whole = _whole_number(file, text)
    try:
        return YamlDocument(file, json.loads(text, object_pairs_hook=_no_twins(file), parse_int=whole), {})
    except json.JSONDecodeError as error:
        raise ConfigError(
            file, f"is not valid JSON: {error.msg}", error.lineno, "check that the file is complete and holds only JSON"
        ) from None
    except RecursionError:
        raise ConfigError(file, "is nested too deeply", hint=f"at most {MAX_DEPTH} levels") from None


def parse_json_with_lines(file: str, text: str, budget: int = MAX_VALUES) -> YamlDocument:
    """JSON with the line of each value, where the text has several and YAML can read it; slower than ``parse_json``. Raises ConfigError."""
    document = parse_json(file, text)
    if "\n" in text.strip():
        with contextlib.suppress(ConfigError):  # JSON is YAML, where it is not indented with tabs
            return YamlDocument(file, document.data, parse_yaml(file, text, budget).lines)
    return document


def _whole_number(file: str, text: str) -> Callable[[str], int]:
    def read(digits: str) -> int:
        if len(digits) > _MAX_DIGITS:
            at = text.find(digits)
            raise _long_number(file, text.count("\n", 0, max(at, 0)) + 1)
        return int(digits)

    return read


def _long_number(file: str, line: int) -> ConfigError:
    return ConfigError(
        file, f"a number has more than {_MAX_DIGITS} digits", line, "write it as text in quotes, or correct it"
    )


def _no_twins(file: str) -> Any:
    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    raise ConfigError(file, f"key '{key}' is there twice in one object", hint="keep one")
                seen.add(key)
        return made

    return build


def _yaml_mend(problem: str) -> str | None:
    if "tab" in problem or "\\t" in problem:
        return "indent with spaces, not tabs"
    if "mapping values are not allowed" in problem:
        return "quote text that holds ': ', and check the indentation"
    if "expected <block end>" in problem or "did not find expected" in problem:
        return "check the indentation and unclosed quotes or brackets"
    return None


class _Builder:
    def __init__(self, file: str, lines: dict[Place, int], budget: int) -> None:
        self.file, self.lines, self.budget = file, lines, budget

    def build(self, node: Any, place: Place, depth: int) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(place, line)
        self.budget -= 1
        if self.budget < 0:
            raise ConfigError(
                self.file, "has too many values, or aliases that multiply", line, "write it without aliases"
            )
        if depth > MAX_DEPTH:
            raise ConfigError(self.file, "is nested too deeply", line, f"at most {MAX_DEPTH} levels")
        if node.id == "scalar":
            return self._scalar(node, line)
        if node.id == "sequence":
            return [self.build(child, (*place, at), depth + 1) for at, child in enumerate(node.value)]
        return dict(self._pairs(node, place, depth))

    def _pairs(self, node: Any, place: Place, depth: int) -> Iterator[tuple[Any, Any]]:
        seen: dict[Any, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.id != "scalar":
                raise ConfigError(self.file, "a key must be text", line, "quote it")
            if key_node.tag == "tag:yaml.org,2002:merge":
                raise ConfigError(self.file, "merge keys (<<) are not supported", line, "write the keys out")
            key = key_node.value
            if key in seen:
                raise ConfigError(
                    self.file, f"key '{key}' is there twice in one mapping, first in line {seen[key]}", line, "keep one"
                )
            seen[key] = line
            self.lines[(*place, key)] = line
            yield key, self.build(value_node, (*place, key), depth + 1)

    def _scalar(self, node: Any, line: int) -> Any:
        kind = node.tag.rpartition(":")[2]
        if kind in ("str", "timestamp", "value"):
            return node.value
        if kind in ("int", "float") and not _plain_number(node.value):
            return node.value
        if kind in ("int", "float") and len(node.value) > _MAX_DIGITS:
            raise _long_number(self.file, line)
        if kind in ("null", "bool", "int", "float"):
            return _scalars().construct_object(node)
        raise ConfigError(self.file, f"tag {node.tag} is not supported", line, "remove it")


def _plain_number(text: str) -> bool:
    # 0123 (octal), 1_000 and 12:30 (sexagesimal) are numbers to YAML 1.1 and to nobody else.
    bare = text.lstrip("+-")
    if not bare or not bare.isascii():
        return False
    return bare.replace(".", "", 1).isdigit() and not (len(bare) > 1 and bare[0] == "0" and bare[1] != ".")
