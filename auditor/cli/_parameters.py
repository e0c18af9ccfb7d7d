"""Arguments that need no converting are not converted.

typer asks pydantic to convert the value of every option but flags, given or not, and importing pydantic takes longer than auditing a small
capture. Texts, paths and numbers are simple and are converted here. Everything else, and everything
that may be wrong, is left to typer, so that errors are reported as usual.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_OTHER = object()
"""No value: leave it to typer."""
_WHOLE, _DECIMAL = re.compile(r"[0-9]{1,15}", re.ASCII), re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
_CHECKS = ("exists", "writable", "resolve_path", "allow_dash", "path_type", "min", "max", "clamp", "parser")
"""Constraints on a value that typer checks."""


def spare_pydantic(command: Any) -> Any:
    """``command`` (or the commands of a group), whose parameters convert plain values themselves."""
    listed = command.get_params

    def get_params(ctx: Any) -> list[Any]:
        # ``--help`` is made here.
        return [_spared(each) for each in listed(ctx)]

    command.get_params = get_params
    for each in getattr(command, "commands", {}).values():
        spare_pydantic(each)
    return command


def _spared(parameter: Any) -> Any:
    """The parameter; typer makes one per command, so that changing it changes no other."""
    if "process_value" not in vars(parameter):
        kind, wishes = _declared(parameter)
        if kind is not None:
            parameter.process_value = _processing(parameter, kind, wishes)
    return parameter


def _declared(parameter: Any) -> tuple[Any, Any]:
    """The type of a parameter and the constraints on its values; None where this version of typer stores it differently."""
    described = getattr(parameter, "type_descriptor", None)
    kind, wishes = getattr(described, "annotation", None), getattr(described, "parameter_info", None)
    if wishes is None or any(getattr(wishes, name, None) for name in _CHECKS):
        return None, None
    if not (getattr(wishes, "file_okay", True) and getattr(wishes, "dir_okay", True)):
        return None, None
    return kind, wishes


def _processing(parameter: Any, kind: Any, wishes: Any) -> Callable[[Any, Any], Any]:
    usual = parameter.process_value
    many = parameter.multiple or parameter.nargs == -1

    def process(ctx: Any, value: Any) -> Any:
        made = (() if many else None) if value is None else _plain(kind, value, wishes)
        if made is _OTHER or (parameter.required and parameter.value_is_missing(made)):
            return usual(ctx, value)
        return made if parameter.callback is None else parameter.callback(ctx, parameter, made)

    return process


def _plain(kind: Any, value: Any, wishes: Any) -> Any:
    """The converted value, where the conversion is simple."""
    if kind is str and isinstance(value, str):
        return value
    if kind == list[str] and isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return list(value)
    if kind is bool and isinstance(value, bool):
        return value
    if kind is Path and isinstance(value, str):
        # An existing file must be readable unless the option says otherwise: typer reports it.
        allowed = not getattr(wishes, "readable", False) or os.access(value, os.R_OK) or not os.path.lexists(value)
        return Path(value) if allowed else _OTHER
    if kind is int and isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    if kind is float and isinstance(value, str) and _DECIMAL.fullmatch(value):
        return float(value)
    if type(value) is kind and kind in (int, float):
        return value
    return _OTHER
