"""Writing waivers: an entry put at the end of a file that people keep by hand, and nothing else of it touched.

The file is not parsed and rewritten, which would lose its comments and its order: the entry is added as text, and the whole is then read as any
waiver file. It must hold the waivers of before and the new one; where it does not (the list is written in braces, or is not the last thing
in the file), it is not written, and the entry is given for a person to put in its place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from auditor.errors import ConfigError, together
from auditor.policy.validation_errors import validation_errors
from auditor.policy.waivers import BUDGET, SCHEMA, Known, Waiver, WaiversModel, entries, parsed
from auditor.policy.yaml_positions import parse_yaml, yaml_text

_ITEM = re.compile(r"^( *)- ", re.MULTILINE)
_EMPTY = re.compile(r"^(waivers:) *(\[ *\] *|null *|~ *)?$", re.MULTILINE)


def entry(values: Mapping[str, Any]) -> str:
    """A waiver as an item of a YAML list, its keys in the order of ``values``."""
    return yaml_text([dict(values)])


def check(values: Mapping[str, Any], known: Known, file: str) -> Waiver:
    """The waiver, where it is one. Raises ConfigError with what is wrong with it."""
    document = parse_yaml(file, f"waivers:\n{entry(values)}", BUDGET)
    try:
        WaiversModel.model_validate(document.data)
    except ValidationError as error:
        raise together(validation_errors(document, error, WaiversModel)) from None
    return entries(document, known)[0]


def appended(text: str, values: Mapping[str, Any], known: Known, file: str) -> str:
    """The text of a waiver file with one waiver more. Raises ConfigError where the file is none, or has no place for it.

    Parameters
    ----------
    text : of the file now, empty where there is none
    values : the waiver by the names of a waiver file
    known : the names that it may hold
    file : its name; one that ends in ``.json`` holds JSON
    """
    wanted = check(values, known, file).model
    if file.endswith(".json"):
        before = [each.model for each in entries(parsed(file, text), known)] if text.strip() else []
        data: dict[str, Any] = json.loads(text) if text.strip() else {"schema": SCHEMA}
        data.setdefault("waivers", []).append(json.loads(json.dumps(dict(values), default=str)))
        result = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        after = entries(parsed(file, result), known)
    else:
        none = not text.strip() or (_EMPTY.search(text) and not _ITEM.search(text))
        before = [] if none else [each.model for each in entries(parsed(file, text), known)]
        result = _with_item(text, entry(values))
        try:
            after = entries(parsed(file, result), known)
        except ConfigError:
            after = []
    if [each.model for each in after] != [*before, wanted]:
        raise ConfigError(
            file,
            "the list of waivers is not at its end, or not written one item per line",
            hint="add the entry by hand",
        )
    return result


def _with_item(text: str, item: str) -> str:
    if not text.strip():
        return f"schema: {SCHEMA}\nwaivers:\n{_indented(item, 2)}"
    text = text.rstrip("\n") + "\n"
    items = _ITEM.findall(text)
    if items:
        return text + _indented(item, min(map(len, items)))
    if _EMPTY.search(text):
        return _EMPTY.sub(r"\1", text, count=1) + _indented(item, 2)
    return f"{text}waivers:\n{_indented(item, 2)}"


def _indented(item: str, by: int) -> str:
    return "".join(f"{' ' * by}{line}\n" for line in item.splitlines())
