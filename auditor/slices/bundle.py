"""A slice with all that it takes to judge it again: a ZIP file that proves itself.

    slice.pcapng            the packets
    verdict.json            the findings and connections as they were judged, and by which options
    policy/, inventory/     the files they were judged by, as they were
    README.txt              what it is, and how to verify it
    MANIFEST.sha256         SHA-256 of every other file, as sha256sum -c reads it
    MANIFEST.sha256.sig     the operator's signature over it, where one was asked for (ssh-keygen -Y)

``auditor slice --verify BUNDLE`` checks the hashes, audits the slice with the policy and inventory that lie beside it, and compares what comes out
with every field of ``verdict.json`` (``verify.py``). Times inside the ZIP are fixed, so the same slice gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from auditor.errors import InputError
from auditor.model.version import VERSION
from auditor.wire.text import escape

SCHEMA = "auditor.bundle/1"
SLICE, VERDICT, README, MANIFEST = "slice.pcapng", "verdict.json", "README.txt", "MANIFEST.sha256"
SIGNATURE = f"{MANIFEST}.sig"

ALWAYS = frozenset(
    {
        *("alone", "audit", "captures", "connections", "findings", "frames", "inventories", "inventory", "policies"),
        *("redacted", "schema", "title", "version", "witnesses"),
    }
)
"""What is in every verdict."""

MOST_FILES = 1_000
MOST_BYTES = 8 * 1024**3
"""A bundle that claims more is not unpacked."""

_UNFIT = re.compile(r"[^A-Za-z0-9._-]")
_MOST_NAME = 100
_PIECE_BYTES = 1024 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Contents:
    """A bundle that was unpacked and whose hashes are right."""

    slice: Path
    verdict: dict[str, Any]
    policies: tuple[Path, ...]
    inventories: tuple[Path, ...]
    manifest: bytes = b""
    readme: bytes = b""
    signature: bytes | None = None


def member(number: int, name: str) -> str:
    """The name of the so many-th policy or inventory: that of its file, as far as it is good for any file system and for a line of the manifest."""
    return f"{number:02d}-{_UNFIT.sub('_', Path(name).name)[-_MOST_NAME:]}"


def write(
    out: Path,
    packets: Path,
    verdict: Mapping[str, Any],
    policies: Mapping[str, bytes],
    inventories: Mapping[str, bytes],
    sign: Callable[[bytes], bytes] | None = None,
) -> None:
    """The bundle. ``policies`` and ``inventories``: content by file name, in the order they were given; ``sign`` signs the manifest. Raises OSError."""
    told = {"schema": SCHEMA, "version": VERSION, **verdict}
    told |= places(policies, inventories)
    texts = {
        VERDICT: json.dumps(told, indent=1, ensure_ascii=True, sort_keys=True).encode() + b"\n",
        **{f"policy/{name}": content for name, content in policies.items()},
        **{f"inventory/{name}": content for name, content in inventories.items()},
        README: _readme(told).encode(),
    }
    sums = {SLICE: _sum(packets), **{name: hashlib.sha256(content).hexdigest() for name, content in texts.items()}}
    texts[MANIFEST] = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode()
    if sign is not None:
        texts[SIGNATURE] = sign(texts[MANIFEST])
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        with packets.open("rb") as file, archive.open(_entry(SLICE), "w", force_zip64=True) as target:
            while piece := file.read(_PIECE_BYTES):
                target.write(piece)
        for name in sorted(texts):
            archive.writestr(_entry(name), texts[name])


def places(policies: Iterable[str], inventories: Iterable[str]) -> dict[str, list[str]]:
    """Where the files used lie in a bundle, as its verdict says."""
    return {
        "policies": [f"policy/{name}" for name in policies],
        "inventories": [f"inventory/{name}" for name in inventories],
    }


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    return entry


def _sum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def readme_is_right(contents: Contents) -> bool:
    """Whether the README of a bundle of this version says what the verdict says."""
    return contents.readme == _readme(contents.verdict).encode()


def _readme(told: Mapping[str, Any]) -> str:
    redacted = (
        "Payload outside handshakes is overwritten with zeros; lengths are unchanged."
        if told.get("redacted")
        else "The packets have all captured content, credentials too: handle them accordingly."
    )
    originals = "\n".join(
        f"    {each.get('sha256') or 'no hash was recorded'}  {escape(str(each.get('path')))}"
        for each in told.get("captures") or ()
    )
    decided = "\n".join(
        f"    {each.get('sha256')}  {escape(str(each.get('name') or each.get('path')))} {escape(str(each.get('version') or ''))}".rstrip()
        for kind in ("policies", "inventories")
        for each in (told.get("audit") or {}).get(kind) or ()
    )
    return f"""Packets of {escape(str(told.get("title", "an audit")))}, cut out by the Diego flow auditor {VERSION}.

{redacted}

Check that nothing was damaged:    sha256sum -c {MANIFEST}
                                   (finds accidental changes; whoever alters a file on purpose can rewrite the manifest)
Check the signature, if there is one: ssh-keygen -Y verify -f ALLOWED_SIGNERS -I NAME -n auditor-bundle -s {SIGNATURE} < {MANIFEST}
Look at the packets:               tshark -r {SLICE} -T fields -e frame.number -e frame.comment
                                   (each comment names the capture that the packet was cut from, and its frame number there)
Judge it again:                    auditor slice --verify THIS-FILE.zip
Compare it with the captures:      auditor slice --verify THIS-FILE.zip --against CAPTURE

The fourth command audits {SLICE} with the files in policy/ and inventory/, and compares every field of
{VERDICT}. Statements that depend on packets outside the slice are named "not checked"; the fifth command audits the captures, too, and checks them. A signature says
who vouches for this file, not when: an independent time stamp needs a service, and none was used.

The captures that it was cut from, by SHA-256 (sha256sum CAPTURE):
{originals}

Policies, inventories and waivers used:
{decided}
"""


def unpack(path: Path, folder: Path) -> Contents:
    """The bundle in ``folder``. Raises InputError where it is none, where it is damaged, and where a hash differs."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_FILES or sum(each.file_size for each in entries) > MOST_BYTES:
                raise InputError(str(path), "is too large for a bundle")
            names = [each.filename for each in entries]
            for name in names:
                _check_name(path, name)
            if len(set(names)) < len(names) or not {SLICE, VERDICT, MANIFEST} <= set(names):
                raise InputError(str(path), "is not a bundle of auditor slice")
            for each in entries:
                _extract(archive, each, folder / each.filename)
    except FileNotFoundError:
        raise InputError(str(path), "no such file") from None
    except (OSError, zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError, ValueError) as error:
        raise InputError(str(path), f"is not a bundle of auditor slice: {type(error).__name__}") from error
    _check_sums(path, folder, set(names))
    try:
        verdict = json.loads(
            (folder / VERDICT).read_bytes(), object_pairs_hook=_once, parse_constant=_no_number
        )  # a key that is there twice would be read as the last of them here, and as the first by other programs
        listed = [[str(each) for each in verdict[kind]] for kind in ("policies", "inventories")]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(str(path), f"{VERDICT} is damaged") from error
    for name in sorted(ALWAYS - set(verdict)):
        raise InputError(str(path), f"{VERDICT} is damaged: it has no {name}")
    if set(names) - {SLICE, VERDICT, README, MANIFEST, SIGNATURE} - {name for name in names if "/" in name}:
        raise InputError(str(path), "holds a file that a bundle has not")
    lying = sorted(name for name in names if "/" in name)
    if lying != sorted(each for some in listed for each in some):
        raise InputError(str(path), f"{VERDICT} does not name the policies and inventories that are there")
    if verdict.get("schema") != SCHEMA or not all(each in names for some in listed for each in some):
        raise InputError(str(path), f"{VERDICT} is of another version")
    policies, inventories = (tuple(folder / each for each in some) for some in listed)
    signature = (folder / SIGNATURE).read_bytes() if SIGNATURE in names else None
    readme = (folder / README).read_bytes() if README in names else b""
    return Contents(folder / SLICE, verdict, policies, inventories, (folder / MANIFEST).read_bytes(), readme, signature)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Raises ValueError where it has a name twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice")
    return found


def _no_number(text: str) -> Any:
    """NaN and Infinity are no JSON. Raises ValueError."""
    raise ValueError(text)


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name).parts
    if (
        not parts
        or len(parts) > 2
        or ".." in parts
        or name.startswith("/")
        or "\\" in name
        or "\0" in name
        or name.endswith("/")
    ):
        raise InputError(str(path), f"has a file that does not belong to a bundle: {name!r}")


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    """No more than its declared size, even if it expands to more."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with archive.open(entry) as source, target.open("wb") as file:
        while piece := source.read(_PIECE_BYTES):
            left -= len(piece)
            if left < 0:
                raise zipfile.BadZipFile
            file.write(piece)


def _check_sums(path: Path, folder: Path, names: set[str]) -> None:
    listed: dict[str, str] = {}
    for line in (folder / MANIFEST).read_text("utf-8", "replace").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    if set(listed) != names - {MANIFEST, SIGNATURE}:
        raise InputError(str(path), f"{MANIFEST} does not list the files of the bundle")
    for name, digest in sorted(listed.items()):
        if _sum(folder / name) != digest:
            raise InputError(str(path), f"{name} was changed: its SHA-256 differs from {MANIFEST}")
