"""What pydantic found wrong with a file, in words: file, line and fix."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from auditor.errors import ConfigError
from auditor.policy.yaml_positions import Marked, Place


def mistakes(marked: Marked, error: ValidationError, root: type[BaseModel]) -> list[ConfigError]:
    """In the order of lines."""
    found = []
    misspelt: dict[tuple[Place, str], int] = {}
    for each in error.errors(include_url=False, include_input=False):
        if each["type"] == "extra_forbidden":
            place = _place(marked.data, each["loc"])
            misspelt[place[:-1], str(place[-1])] = marked.line(place) or 0
    for each in error.errors(include_url=False, include_input=True):
        place = _place(marked.data, each["loc"])
        says, mend = _words(each, place, root, marked.file.endswith(".toml"))
        line = marked.line(place) or 0
        meant = each["type"] == "missing" and next(
            (
                at
                for (where, key), at in misspelt.items()
                if where == place[:-1] and get_close_matches(key, [str(place[-1])], 1)
            ),
            0,
        )
        # A misspelt key comes before the one that is missing for it.
        found.append((max(line, meant), each["type"] != "extra_forbidden", marked.error(place, says, mend)))
    return [one for _, _, one in sorted(found, key=lambda each: each[:2])]


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
    kind, key = each["type"], str(place[-1]) if place else "the file"
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
        return f"'{key}' must be {wanted}", None
    return f"'{key}': {each['msg']}" if not kind.startswith("policy_") else str(each["msg"]), context.get("mend")


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
