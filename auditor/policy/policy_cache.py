"""The shipped policies, read once on a machine.

To read and check a dozen files of YAML takes longer than to follow a small capture, and shipped ones say the same every time. So what comes
of them is kept beside the machine code of kernels, in a file named after the content of all that it was made of: the policies, and the
modules that read them. Whatever else is named (a file, several policies, a release) is read by ``loader``, which needs pydantic and YAML.

What is kept is data and nothing that is run: JSON, of which only the values of a policy are made. It is taken from where machine code is: a folder that is
this package's, or this user's, and a file that nobody else may write to.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditor.kernels._folder import digest, known_folder, read_trusted
from auditor.policy import shipped
from auditor.policy.policy import Alias, Condition, Held, Identity, PathOrigin, Policy, PolicyPath, Role, Settings

if TYPE_CHECKING:
    from auditor.policy.yaml_positions import Document

_MAGIC = b"auditor policies 3\n"
_DIGEST_BYTES = 16
_HERE = Path(__file__).resolve().parent

Overlay = tuple[str, tuple[PolicyPath, ...]]
"""The name of a shipped policy that only adds to others, and its paths."""


def load_policy(names_or_files: Sequence[str | Document] = (), *, release: str | None = None) -> Policy:
    """As ``loader.load_policy``. Raises ConfigError."""
    wanted = tuple(names_or_files) or (shipped.BASE,)
    if release is None and wanted in _KEPT and shipped.folder() is not None:
        return _shipped()[0][_KEPT.index(wanted)]
    from auditor.policy import loader

    return loader.load_policy(names_or_files, release=release)


def overlays_beside(policy: Policy) -> tuple[Overlay, ...]:
    """The shipped overlays that are not loaded, by name, with their paths: what could explain undeclared traffic."""
    loaded = {source["name"] for source in policy.sources}
    beside = [each for each in (_shipped()[1] if shipped.folder() is not None else ()) if each[0] not in loaded]
    if policy.release is None:
        return tuple(beside)
    from auditor.policy.loader import covers

    return tuple(
        (name, tuple(path for path in paths if covers(path.origin.releases, policy.release))) for name, paths in beside
    )


_KEPT = ((shipped.BASE,), (shipped.DEFAULT,))
"""What is asked for most."""
_Kept = tuple[tuple[Policy, ...], tuple[Overlay, ...]]


@functools.cache
def _shipped() -> _Kept:
    """The policies of ``_KEPT`` and the overlays: as kept, or read and kept. Raises ConfigError."""
    folder, there = known_folder()
    file = folder / f"policies-{_of_content()}.kept" if there else None
    found = None if file is None else _kept(file)
    if found is not None:
        return found
    from auditor.policy import loader

    made = tuple(loader.load_policy(names) for names in _KEPT), loader.overlays()
    if file is not None:
        _keep(file, made)
    return made


def _of_content() -> str:
    """Digits over the shipped policies and what reads them."""
    read: list[bytes] = []
    for folder, ending in ((shipped.folder(), ".yml"), (_HERE, ".py")):
        for name in sorted(os.listdir(folder)):  # noqa: PTH208  # Path takes longer
            if name.endswith(ending):
                with open(f"{folder}/{name}", "rb") as file:  # noqa: PTH123
                    read += [name.encode(), file.read()]
    return digest(b"\0".join(read))


_VALUES: dict[str, type[Any]] = {
    each.__name__: each for each in (Alias, Condition, Held, Identity, PathOrigin, Policy, PolicyPath, Role, Settings)
}
_FIELDS = {name: tuple(each.name for each in fields(kind) if each.init) for name, kind in _VALUES.items()}


def _of_fields(kind: type[Any], given: list[Any]) -> Any:
    return kind(*given)


_MAKERS: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "list": list,
    "frozenset": frozenset,
    "dict": lambda given: dict(zip(given[::2], given[1::2], strict=True)),
    **{name: functools.partial(_of_fields, kind) for name, kind in _VALUES.items()},
}


def _flat(value: Any) -> bytes:
    """A value as a list of nodes in JSON: each a kind and its parts, a part that is a node itself the number of an earlier one in a list. The last node is the value.

    Equal nodes are written once.
    """
    nodes: list[list[Any]] = []
    known: dict[str, int] = {}

    def part(each: Any) -> Any:
        if each is None or type(each) in (str, int, bool):
            return each
        kind = type(each).__name__
        if kind in _VALUES:
            parts = [getattr(each, name) for name in _FIELDS[kind]]
        elif kind == "dict":
            parts = [half for pair in each.items() for half in pair]
        else:
            parts = sorted(each) if kind == "frozenset" else list(each)
        node = [kind, *map(part, parts)]
        words = json.dumps(node)
        # A mapping may be filled later: it stays its owner's alone.
        if kind == "dict" or words not in known:
            known[words] = len(nodes)
            nodes.append(node)
        return [known[words]]

    part(value)
    return json.dumps(nodes, separators=(",", ":")).encode()


def _round(data: bytes) -> Any:
    """What ``_flat`` made of a value. Raises ValueError, TypeError or LookupError where it is something else."""
    made: list[Any] = []
    for kind, *parts in json.loads(data):
        made.append(_MAKERS[kind]([made[each[0]] if type(each) is list else each for each in parts]))
    return made[-1]


def _kept(file: Path) -> _Kept | None:
    """What was kept; None where there is nothing, or not all of it."""
    data = read_trusted(file)
    if data is None:
        return None
    content = data[len(_MAGIC) + _DIGEST_BYTES :]
    if not data.startswith(_MAGIC) or data[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES] != digest(content).encode():
        return None
    try:
        found: _Kept = _round(content)
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    return found


def _keep(file: Path, made: _Kept) -> None:
    """Whole or not at all, in the place of what older policies left; nowhere, where the disk is full."""
    content = _flat(made)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    with contextlib.suppress(OSError):
        for older in file.parent.glob("policies-*.kept"):
            older.unlink(missing_ok=True)
        try:
            part.write_bytes(_MAGIC + digest(content).encode() + content)
            part.chmod(0o644)  # whatever the umask is
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
