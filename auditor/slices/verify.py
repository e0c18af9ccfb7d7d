"""Holding a bundle's verdict against what its packets say, field by field, and its packets against the captures that they were cut from.

Three answers, and each is told:

- a field that the packets of the slice show otherwise was altered, or never right: a **difference**;
- a field that rests on packets outside of the slice (the peers of a certificate, the full handshake of a session) cannot be shown by it: what the slice
  alone says was written down when the bundle was made (``alone``), and every such field is **named**;
- what no packet shows (when the audit ran, the hash of a capture) is held by the manifest, by a signature over it, and by the captures themselves.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from auditor.capture import open_capture
from auditor.errors import AuditorError
from auditor.wire import pcapng

Fields = dict[str, Any]


def fields(verdict: Mapping[str, Any]) -> Fields:
    """Everything that was judged, by its place: ``connection ID: authentication.verdict``, ``finding FINGERPRINT: severity``."""
    found: Fields = {}
    for each in verdict["connections"]:
        _flatten(f"connection {_name(each)}", "", each, found)
    for each in verdict["findings"]:
        _flatten(f"finding {each.get('fingerprint')}", "", each, found)
    return found


def _name(connection: Mapping[str, Any]) -> str:
    """By its ends and start: of a connection whose opening was not captured the id hangs on what else was."""
    start = _time(connection["start"])
    ends = sorted(f"{connection[end]['ip']}:{connection[end]['port'] or 0}" for end in ("originator", "responder"))
    return f"{connection['transport']} {' '.join(ends)} {start}"


def _flatten(what: str, path: str, value: Any, into: Fields) -> None:
    if isinstance(value, dict) and value and len(path.split(".")) < 3:
        for key, each in value.items():
            _flatten(what, f"{path}.{key}" if path else str(key), each, into)
    else:
        into[f"{what}: {path}"] = _time(value)


_TIME = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d+)Z$")


def _time(value: Any) -> Any:
    """A time with no more digits than it needs: a slice has nine, its captures may have six."""
    found = _TIME.match(value) if isinstance(value, str) else None
    if found is None:
        return value
    rest = found[2].rstrip("0")
    return f"{found[1]}.{rest}Z" if rest else f"{found[1]}Z"


def translated(report: Mapping[str, Any], origins: Sequence[Sequence[int]]) -> dict[str, Any]:
    """A report of the slice with frame numbers as they are in the original captures. ``origins``: [capture, frame] of each of its frames."""

    def told(value: Any, key: str = "") -> Any:
        if key == "frames" and isinstance(value, list):
            places = [origins[n - 1] if c == 0 and 0 < n <= len(origins) else [-1, n] for c, n in value]
            return sorted([list(each) for each in places])
        if isinstance(value, dict):
            return {name: told(each, name) for name, each in value.items()}
        return [told(each) for each in value] if isinstance(value, list) else value

    changed: dict[str, Any] = told({name: report[name] for name in ("connections", "findings")})
    return changed


def ordered(verdict: Mapping[str, Any]) -> dict[str, Any]:
    """The same with frames in rising order, as ``translated`` has them."""

    def told(value: Any, key: str = "") -> Any:
        if key == "frames" and isinstance(value, list):
            return sorted([list(each) for each in value])
        if isinstance(value, dict):
            return {name: told(each, name) for name, each in value.items()}
        return [told(each) for each in value] if isinstance(value, list) else value

    changed: dict[str, Any] = told({name: verdict[name] for name in ("connections", "findings")})
    return changed


def outside(verdict: Mapping[str, Any], report: Mapping[str, Any], origins: Sequence[Sequence[int]]) -> Fields:
    """What the slice alone says of the fields that it does not show as the whole did; None: nothing."""
    was, now = fields(ordered(verdict)), fields(translated(report, origins))
    return {place: now.get(place) for place, value in was.items() if now.get(place) != value or place not in now}


def differences(verdict: Mapping[str, Any], report: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """What was altered, a line each; and the fields that the slice cannot show."""
    origins = verdict.get("frames") or []
    alone: Fields = verdict.get("alone") or {}
    was, now = fields(ordered(verdict)), fields(translated(report, origins))
    wrong: list[str] = []
    unshown: list[str] = []
    for place in sorted({*was, *(key for key in alone if key not in was)}):
        if place not in was:
            wrong.append(f"{place}: was left out of the verdict")
        elif place in alone:
            if now.get(place) != alone[place]:
                wrong.append(f"{place} is {_plain(now.get(place))} by the packets alone, not {_plain(alone[place])}")
            else:
                unshown.append(place)
        elif place not in now:
            wrong.append(f"{place} was {_plain(was[place])}, and is not found again")
        elif was[place] != now[place]:
            wrong.append(f"{place} was {_plain(was[place])}, is {_plain(now[place])}")
    here = {each.split(": ", 1)[0] for each in was}
    wrong += [
        f"{each}: is in the packets, and was left out of the verdict"
        for each in sorted({place.split(": ", 1)[0] for place in now} - here)
        if each.startswith("connection ")
    ]
    return wrong, unshown


_SHOWN = frozenset({"schema", "connections", "findings", "frames", "alone", "policies", "inventories"})
"""Parts of a verdict that are held against the packets, their comments and the files beside them."""


def unproven(verdict: Mapping[str, Any], unshown: Sequence[str]) -> str:
    """In words, everything in a verdict that only a signature holds; nothing where there is no such thing."""
    parts = [f"audit.{name}" for name in verdict["audit"] if name not in _SHOWN]
    parts += [f"audit.policies.{name}" for name in _profiles(verdict)]
    parts += ["audit.inventories.path"] if verdict["audit"].get("inventories") else []
    parts += [name for name in verdict if name != "audit" and name not in _SHOWN]
    more = [f"{len(unshown)} field{'s' * (len(unshown) != 1)} of connections and findings"] if unshown else []
    return ", ".join([*sorted(parts), *more])


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _profiles(verdict: Mapping[str, Any]) -> set[str]:
    """Names of policies that only say which others they are made of: a bundle holds those."""
    return {str(each["profile"]) for each in verdict["audit"].get("policies") or () if each.get("profile")}


def same_deciders(verdict: Mapping[str, Any], report: Mapping[str, Any]) -> Iterator[str]:
    """Policies and inventories that the bundle holds are those that the verdict names."""
    for kind in ("policies", "inventories"):
        named = {str(each["sha256"]): each for each in verdict["audit"].get(kind) or () if each.get("sha256")}
        held = {str(each["sha256"]): each for each in report["audit"].get(kind) or () if each.get("sha256")}
        if kind == "inventories" and not named:
            continue  # inferred: the bundle holds what was guessed
        profiles = _profiles(verdict)
        for digest, each in sorted(named.items()):
            if digest not in held and str(each.get("name")) not in profiles:
                yield f"{kind[:-3]}y {each.get('name') or each.get('path')}: SHA-256 {digest} is none of the files in the bundle"
        for digest, each in held.items():
            for field in ("name", "version"):
                if digest in named and named[digest].get(field) != each.get(field):
                    yield f"{kind[:-3]}y {each.get('name')}: {field} was {named[digest].get(field)}, is {each.get(field)}"


# Frames ------------------------------------------------------------------------------------------------------------------------


def comments(path: Path) -> Iterator[str]:
    """The comment of each packet of a slice, in its order."""
    data = path.read_bytes()
    at = 0
    while at + pcapng.BLOCK_MIN_BYTES <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if size < pcapng.BLOCK_MIN_BYTES or at + size > len(data):
            return
        if kind == pcapng.EPB:
            (length,) = struct.unpack_from("<I", data, at + pcapng.EPB_CAPLEN)
            option = at + pcapng.EPB_DATA + length + (-length % 4)
            code, span = struct.unpack_from("<HH", data, option) if option + 4 <= at + size - 4 else (0, 0)
            text = data[option + 4 : option + 4 + span] if code == pcapng.OPT_COMMENT else b""
            yield text.decode("utf-8", "replace")
        at += size


def misplaced(path: Path, verdict: Mapping[str, Any]) -> Iterator[str]:
    """Frames whose place in the original is not the one that their comment tells."""
    names = [Path(str(each["path"])).name for each in verdict["captures"]]
    told = list(comments(path))
    frames = verdict.get("frames") or []
    if len(told) != len(frames):
        yield f"frames: the verdict has {len(frames)}, the slice {len(told)}"
    for place, (text, (capture, number)) in enumerate(zip(told, frames, strict=False), 1):
        name = names[capture] if 0 <= capture < len(names) else "?"
        if f"; {name} frame {number}" not in text:
            yield f"frames: frame {place} of the slice is said to be frame {number} of {name}, and its comment says otherwise"


def _frames(path: Path, wanted: set[int]) -> dict[int, bytes]:
    """The bytes of these frames."""
    found: dict[int, bytes] = {}
    with open_capture(path) as reader:
        for batch in reader.batches():
            numbers = np.asarray(batch.numbers)
            for place in np.flatnonzero(np.isin(numbers, list(wanted))).tolist():
                start, size = int(batch.start[place]), int(batch.caplen_bytes[place])
                found[int(numbers[place])] = batch.buf[start : start + size].tobytes()
    return found


def against(slice_: Path, verdict: Mapping[str, Any], captures: Sequence[Path]) -> Iterator[str]:
    """What differs between the slice and the captures that it says it was cut from."""
    import hashlib

    by_hash: dict[str, Path] = {}
    for path in captures:
        try:
            with path.open("rb") as file:
                by_hash[hashlib.file_digest(file, "sha256").hexdigest()] = path
        except OSError as error:
            yield f"{path}: cannot be read: {error.strerror or error}"
    frames = verdict.get("frames") or []
    here = _frames(slice_, set(range(1, len(frames) + 1)))
    redacted = bool(verdict.get("redacted"))
    used = sorted({int(capture) for capture, _ in frames})
    for index in used:
        told = verdict["captures"][index] if 0 <= index < len(verdict["captures"]) else {"path": "?", "sha256": None}
        found = by_hash.get(str(told["sha256"]))
        if found is None:
            yield f"captures: none of those given has the SHA-256 of {told['path']} ({told['sha256']})"
            continue
        wanted = [(int(number), place) for place, (capture, number) in enumerate(frames, 1) if capture == index]
        try:
            there = _frames(found, {number for number, _ in wanted})
        except AuditorError as error:
            yield f"{found}: {error}"
            continue
        for number, place in wanted:
            mine, theirs = here.get(place), there.get(number)
            if theirs is None:
                yield f"{found}: has no frame {number}"
            elif mine is None or (len(mine) != len(theirs) if redacted else mine != theirs):
                yield f"{found}: frame {number} is another than frame {place} of the slice"
