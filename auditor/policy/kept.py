"""The shipped policies, read once on a machine.

To read and check a dozen files of YAML takes longer than to follow a small capture, and shipped ones say the same every time. So what comes
of them is kept beside the machine code of kernels, in a file named after the content of all that it was made of: the policies, and the
modules that read them. Whatever else is named (a file, several policies, a release) is read by ``loader``, which needs pydantic and YAML.

What is kept is taken as far as the machine code beside it is: a folder that is this package's, or this user's.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from auditor.kernels._folder import digest, known_folder
from auditor.policy import shipped
from auditor.policy.policy import Policy, PolicyPath

_MAGIC = b"auditor policies 2\n"
_DIGEST_BYTES = 16
_HERE = Path(__file__).resolve().parent

Overlay = tuple[str, tuple[PolicyPath, ...]]
"""The name of a shipped policy that only adds to others, and its paths."""


def load_policy(names_or_files: Sequence[str] = (), *, release: str | None = None) -> Policy:
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


@cache
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


def _kept(file: Path) -> _Kept | None:
    """What was kept; None where there is nothing, or not all of it."""
    try:
        data = file.read_bytes()
    except OSError:
        return None
    content = data[len(_MAGIC) + _DIGEST_BYTES :]
    if not data.startswith(_MAGIC) or data[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES] != digest(content).encode():
        return None
    found: _Kept = pickle.loads(content)  # noqa: S301  # it lies where code that is run does
    return found


def _keep(file: Path, made: _Kept) -> None:
    """Whole or not at all, in the place of what older policies left; nowhere, where the disk is full."""
    content = pickle.dumps(made, 5)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    with contextlib.suppress(OSError):
        for older in file.parent.glob("policies-*.kept"):
            older.unlink(missing_ok=True)
        try:
            part.write_bytes(_MAGIC + digest(content).encode() + content)
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)
