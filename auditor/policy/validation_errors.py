"""What pydantic found wrong with a file, in words: file, line and fix."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from auditor.errors import ConfigError, together
from auditor.policy.yaml_positions import Place, YamlDocument


def validation_errors(document: YamlDocument, error: ValidationError, root: type[BaseModel]) -> list[ConfigError]:
    """In the order of lines."""
    found = []
    misspelt: dict[tuple[Place, str], int] = {}
    for each in error.errors(include_url=False, include_input=False):
        if each["type"] == "extra_forbidden":
            place = _place(document.data, each["loc"])
            misspelt[place[:-1], str(place[-1])] = document.line(place) or 0
    for each in error.errors(include_url=False, include_input=True):
        place = _place(document.data, each["loc"])
        says, hint = _words(each, place, root, document.file.endswith(".toml"))
        line = document.line(place) or 0
        meant = each["type"] == "missing" and next(
            (
                at
                for (where, key), at in misspelt.items()
                if where == place[:-1] and get_close_matches(key, [str(place[-1])], 1)
            ),
            0,
        )
        # A misspelt key comes before the one that is missing for it.
        found.append((max(line, meant), each["type"] != "extra_forbidden", document.error(place, says, hint)))
    return [one for _, _, one in sorted(found, key=lambda each: each[:2])]


class Mistakes:
    """What is wrong with one file, gathered so that all of it is reported at once."""

    MOST = 100
    """More are not gathered: whoever has so many has one mistake in every row."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: list[ConfigError] = []

    def add(self, error: ConfigError) -> None:
        """Remember it, with all that it holds. Raises ConfigError of all so far once there are more than ``MOST``."""
        self.found += error.all
        if len(self.found) > self.MOST:
            more = ConfigError(self.file, f"has more than {self.MOST} mistakes", hint="correct these first")
            raise together([*self.found[: self.MOST], more])

    def settle(self) -> None:
        """Raises ConfigError of all that was found, in the order of lines; nothing where there is none."""
        if self.found:
            raise together(sorted({str(each): each for each in self.found}.values(), key=lambda each: each.line or 0))


def without(document: YamlDocument, error: ValidationError) -> tuple[YamlDocument, frozenset[str]]:
    """The document without what pydantic refused, as little of it as can be, so that the rest can be looked at; and the texts taken out.

    Taken out are unknown keys, wrong values of keys that a mapping can be without, and else the items of lists that hold them.
    """
    data = copy.deepcopy(document.data)
    gone: set[Place] = set()
    for each in error.errors(include_url=False, include_input=False):
        place = _place(document.data, each["loc"])
        if each["type"] != "extra_forbidden":
            items = [end for end in range(1, len(place) + 1) if isinstance(place[end - 1], int)]
            # The item of the outermost list: the path, the role, the alias.
            place = place[: items[0]] if items else place[:1]
        gone.add(place)
    lines = dict(document.lines)
    taken: set[str] = set()
    # From the end, so that what comes before keeps its number.
    for place in sorted(gone, key=lambda place: [(isinstance(part, int), part) for part in place], reverse=True):
        taken.update(_texts(_take_out(data, lines, place)))
    return YamlDocument(document.file, data, lines), frozenset(taken)


def _take_out(data: Any, lines: dict[Place, int], place: Place) -> Any:
    """Remove what stands there, and have what follows it in a list keep its lines; what was removed."""
    at = data
    for part in place[:-1]:
        at = _inside(at, part)
    if not place or _inside(at, place[-1]) is None:
        return None
    if isinstance(at, dict):
        return at.pop(place[-1])
    last, depth = place[-1], len(place) - 1
    assert isinstance(last, int)  # noqa: S101
    moved = {}
    for each, line in list(lines.items()):
        number = each[depth] if len(each) > depth and each[:depth] == place[:-1] else None
        if isinstance(number, int) and number >= last:
            del lines[each]
            if number > last:
                moved[(*each[:depth], number - 1, *each[depth + 1 :])] = line
    lines.update(moved)
    return at.pop(last)


def _inside(at: Any, part: str | int) -> Any:
    if isinstance(at, dict):
        return at.get(part)
    return at[part] if isinstance(at, list) and isinstance(part, int) and part < len(at) else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _place(data: Any, loc: Iterable[str | int]) -> Place:
    """pydantic's place without the names of union members, which are nowhere in the file."""
    at: Any = data
    place: list[str | int] = []
    for part in loc:
        if isinstance(at, dict) and part in at:  # noqa: SIM114  # joined, the types could not be told
            at = at[part]
        elif isinstance(at, list) and isinstance(part, int) and part < len(at):
            at = at[part]
        else:
            # The key is missing: it would stand here.
            if isinstance(at, dict) and isinstance(part, str):
                place.append(part)
            break
        place.append(part)
    return tuple(place)


def _words(each: Any, place: Place, root: type[BaseModel], toml: bool) -> tuple[str, str | None]:
    kind, key = each["type"], str(next((part for part in reversed(place) if isinstance(part, str)), "the file"))
    context = each.get("ctx") or {}
    got = each.get("input")
    if kind == "extra_forbidden":
        known = sorted(_keys_at(place[:-1], root))
        close = get_close_matches(key, known, 1)
        return f"unknown key '{key}'", f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    if kind == "missing":
        return f"'{key}' is missing", f"add {key} =, or a table [{key}]" if toml else f"add {key}:"
    if kind == "literal_error":
        expected = str(context.get("expected", "")).replace(" or ", ", ")
        options = [option.strip(" '") for option in expected.split(",")]
        close = get_close_matches(str(got), options, 1)
        return f"{got!r} is not a valid {key}", f"did you mean {close[0]}?" if close else f"write {expected}"
    if kind == "string_type" and isinstance(got, int | float):
        return f"'{key}' must be text, and {got} is a number", f'quote it: {key}: "{got}"'
    if kind == "string_pattern_mismatch":
        return f"{got!r} is not a valid {key}", "use lower case, digits and single hyphens (roles: underscores)"
    if kind in ("bool_type", "int_type", "list_type", "model_type", "model_attributes_type", "dict_type"):
        wanted = {"bool_type": "true or false", "int_type": "a whole number", "list_type": "a list"}.get(
            kind, "a mapping with keys"
        )
        if place and isinstance(place[-1], int):
            return f"an item of '{key}' must be {wanted}", None
        return f"'{key}' must be {wanted}", None
    return f"'{key}': {each['msg']}" if not kind.startswith("policy_") else str(each["msg"]), context.get("hint")


def _keys_at(place: Place, root: type[BaseModel]) -> set[str]:
    """Keys that a mapping at this place may hold."""
    models: list[type[BaseModel]] = [root]
    for part in place:
        if isinstance(part, int):
            continue
        inner: list[type[BaseModel]] = []
        for model in models:
            for name, info in model.model_fields.items():
                if (info.alias or name) == part:
                    inner += _models_in(info.annotation)
        models = inner
    return {info.alias or name for model in models for name, info in model.model_fields.items()}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    arguments = get_args(annotation)
    if arguments:
        return [model for argument in arguments for model in _models_in(argument)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []
