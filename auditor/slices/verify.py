"""Holding a bundle's verdict against what its packets say, field by field, and against the captures that they were cut from.

Four answers, and each is told:

- a field that the packets of the slice, the files beside them or the captures show otherwise was altered, or never right: a **difference**;
- a field that rests on packets outside of the slice (the full handshake of a session, say) cannot be shown by it: what the slice alone says was written
  down when the bundle was made (``alone``). It is **not checked**, until the captures are there (``Checked.left``);
- so is what is said of the captures themselves (their hash, size, span) and when the audit ran;
- everything else was found again.

Nothing that was not checked passes for verified: it is named, and has its own exit status.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from auditor.capture import open_capture
from auditor.errors import AuditorError
from auditor.model.version import VERSION
from auditor.slices.verdict import COMMENT, REDACTED, WITNESS, judged, stated, title_of
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

    ids = [str(each["id"]) for each in report["connections"]]
    found = judged(report, ids, [str(each["fingerprint"]) for each in report["findings"]])
    changed: dict[str, Any] = told(found)
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


def outside(verdict: Mapping[str, Any], report: Mapping[str, Any], told: Sequence[str]) -> Fields:
    """What the slice alone (its report, and the comments of its packets) says of the fields that it does not show as the whole did; None: nothing."""
    was, now = _shown(verdict), _found(report, verdict, told)
    now |= {place: value for place, value in was.items() if place.startswith(_ONLY_ORIGINALS)}
    return {place: now.get(place) for place, value in was.items() if place not in now or now[place] != value}


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of it."""

    wrong: tuple[str, ...]
    """What was altered, a line each."""
    left: tuple[str, ...]
    """The places of the fields that were not checked."""
    right: int
    """How many were found again."""


_ONLY_ORIGINALS = "captures."
"""What no packet of a slice shows."""


def _shown(verdict: Mapping[str, Any]) -> Fields:
    """Every field of a verdict that something is held against, by its place; frames have their own check."""
    found = fields(ordered(verdict))
    for name in sorted(set(verdict) - _APART):
        _deep(name, verdict[name], found)
    return found


def _found(report: Mapping[str, Any], verdict: Mapping[str, Any], told: Sequence[str]) -> Fields:
    """The same of an audit of the slice and of its comments, as far as they show them."""
    now = fields(translated(report, verdict.get("frames") or []))
    for name, value in stated(report).items():
        if f"{name}." != _ONLY_ORIGINALS:
            _deep(name, value, now)
    for kind in ("policies", "inventories"):
        for each in now:
            # A file lies in the bundle under a number and its name.
            if each.startswith(f"audit.{kind}.") and each.endswith(".path"):
                now[each] = str(now[each]).partition("-")[2]
    if not verdict["audit"].get("inventories"):
        # The inventory was inferred, and the bundle holds it.
        now = {name: value for name, value in now.items() if not name.startswith("audit.inventories")}
        now["audit.inventories"] = []
    return {**now, **_of_itself(verdict), **_by_comments(verdict, told)}


_APART = frozenset({"connections", "findings", "frames", "alone", "policies", "inventories", "made", "schema"})
"""Parts of a verdict that have a check of their own: ``misplaced``, ``Contents``, or none."""


def _of_itself(verdict: Mapping[str, Any]) -> Fields:
    """What other parts of the verdict say of a part of it."""
    witnesses = [str(each) for each in verdict.get("witnesses") or ()]
    title = title_of(verdict["findings"], (str(each["id"]) for each in verdict["connections"]), witnesses)
    return {"title": title}


def _deep(path: str, value: Any, into: Fields) -> None:
    """Every leaf."""
    if isinstance(value, dict | list) and value:
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            _deep(f"{path}.{key}", each, into)
    else:
        into[path] = _time(value)


def checked(
    verdict: Mapping[str, Any],
    report: Mapping[str, Any],
    told: Sequence[str],
    originals: Mapping[str, Any] | None = None,
) -> Checked:
    """Every field of a verdict held against an audit of its slice and the comments of its packets, and against an audit of the captures where they are there."""
    alone: Fields = verdict.get("alone") or {}
    was, now = _shown(verdict), _found(report, verdict, told)
    whole = None if originals is None else _whole(verdict, originals)
    wrong: list[str] = []
    left: list[str] = [f"made.{name}" for name in verdict.get("made") or ()]
    right = 0
    for place in sorted({*was, *alone}):
        if place not in was:
            wrong.append(f"{place}: missing in the verdict")
            continue
        value, settled = was[place], False
        if place in alone:
            if now.get(place) != alone[place]:
                wrong.append(f"{place} is {_plain(now.get(place))} from the packets alone, not {_plain(alone[place])}")
        elif place.startswith((_ONLY_ORIGINALS, "audit.options.")):
            pass  # no packet shows it
        elif place == "version":
            settled = value == VERSION  # another version may see more or less; its differences tell so
        elif place not in now:
            wrong.append(f"{place} was {_plain(value)}, and is not found now")
        elif now[place] != value:
            wrong.append(f"{place} was {_plain(value)}, is {_plain(now[place])}")
        else:
            settled = True
        if whole is not None and (": " in place or place.partition(".")[0] in _WHOLE):
            settled = place in whole and whole[place] == value
            if not settled and not (place in alone and whole.get(place) == alone[place]):
                wrong.append(f"{place} was {_plain(value)}, is {_plain(whole.get(place))} by the captures")
        if settled:
            right += 1
        else:
            left.append(place)
    here = {each.split(": ", 1)[0] for each in was}
    wrong += [
        f"{each}: is in the packets, but missing in the verdict"
        for each in sorted({place.split(": ", 1)[0] for place in now if ": " in place} - here)
        if each.startswith("connection ")
    ]
    return Checked(tuple(dict.fromkeys(wrong)), tuple(left), right)


_WHOLE = ("captures", "inventory")
"""What an audit of the captures shows beside connections and findings."""


def _whole(verdict: Mapping[str, Any], originals: Mapping[str, Any]) -> Fields:
    """The same of an audit of the captures."""
    prints = [str(each["fingerprint"]) for each in verdict["findings"]]
    found = {**judged(originals, (str(each["id"]) for each in verdict["connections"]), prints)}
    now = fields(ordered(found))
    for name in _WHOLE:
        _deep(name, stated(originals)[name], now)
    return now


def _by_comments(verdict: Mapping[str, Any], told: Sequence[str]) -> Fields:
    """What the comments of the packets say: whether payload was overwritten, and which connections stand by as witnesses only."""
    asked = {
        name
        for each in told
        for part in each.removeprefix(COMMENT).split("; ")
        for before, _, name in [part.rpartition("connection ")]
        if not before.startswith(WITNESS)
    }
    ids = [str(each["id"]) for each in verdict["connections"]]
    found: Fields = {"redacted": {each.endswith(REDACTED) for each in told} == {True}}
    _deep("witnesses", [each for each in ids if each not in asked], found)
    return found


def _plain(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:200]}…"


def grouped(places: Sequence[str]) -> list[str]:
    """Places in words, those of one thing together: ``captures.0: bytes, sha256``; many connections with the same fields as one."""
    by: dict[str, list[str]] = {}
    for place in places:
        what, mark, field = place.rpartition(": ") if ": " in place else place.rpartition(".")
        by.setdefault(what if mark else "", []).append(field)
    alike: dict[tuple[str, ...], list[str]] = {}
    for what, named in by.items():
        alike.setdefault(tuple(named), []).append(what)
    return [
        f"{whats[0]}{f' and {len(whats) - 1} more' if len(whats) > 1 else ''}: {', '.join(named)}".removeprefix(": ")
        for named, whats in alike.items()
    ]


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


def misplaced(told: Sequence[str], verdict: Mapping[str, Any]) -> Iterator[str]:
    """Frames whose place in the original is not the one that their comment (``told``) says."""
    names = [PurePath(str(each["path"])).name for each in verdict["captures"]]
    frames = verdict.get("frames") or []
    if len(told) != len(frames):
        yield f"frames: the verdict has {len(frames)}, the slice {len(told)}"
    for place, (text, (capture, number)) in enumerate(zip(told, frames, strict=False), 1):
        name = names[capture] if 0 <= capture < len(names) else "?"
        if f"; {name} frame {number}" not in text:
            yield f"frames: frame {place} of the slice should be frame {number} of {name}, but its comment differs"


def mislabelled(told: Sequence[str], verdict: Mapping[str, Any]) -> Iterator[str]:
    """Packets whose comment names another connection or finding than the verdict does."""
    ids = {str(each["id"]) for each in verdict["connections"]}
    own = {f"finding {each['id']} ({each['rule']})": set(map(str, each["connections"])) for each in verdict["findings"]}
    names = [PurePath(str(each["path"])).name for each in verdict["captures"]]
    for place, (text, (capture, number)) in enumerate(zip(told, verdict.get("frames") or [], strict=False), 1):
        name = names[capture] if 0 <= capture < len(names) else "?"
        said = text.removeprefix(COMMENT).removesuffix(REDACTED).removesuffix(f"; {name} frame {number}")
        for part in said.split("; "):
            labels, _, id_ = part.rpartition("connection ")
            known = all(
                id_ in own[each] if each in own else each.removeprefix(WITNESS) in own and each.startswith(WITNESS)
                for each in labels.removesuffix(", ").split(", ")
                if each
            )
            if id_ not in ids or not known:
                yield f"frames: the comment of frame {place} of the slice names another connection or finding than the verdict"


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


def ordered_captures(verdict: Mapping[str, Any], captures: Sequence[Path]) -> tuple[list[Path | None], list[str]]:
    """The captures of a verdict in its order, by their SHA-256 (None: it was not given), and what could not be read."""
    import hashlib

    by_hash: dict[str, Path] = {}
    troubles = []
    for path in captures:
        try:
            with path.open("rb") as file:
                by_hash[hashlib.file_digest(file, "sha256").hexdigest()] = path
        except OSError as error:
            troubles.append(f"{path}: cannot be read: {error.strerror or error}")
    return [by_hash.get(str(each.get("sha256"))) for each in verdict["captures"]], troubles


def against(slice_: Path, verdict: Mapping[str, Any], captures: Sequence[Path | None]) -> Iterator[str]:
    """What differs between the packets of the slice and those of the captures (in the verdict's order)."""
    frames = verdict.get("frames") or []
    here = _frames(slice_, set(range(1, len(frames) + 1)))
    redacted = bool(verdict.get("redacted"))
    for index in sorted({int(capture) for capture, _ in frames}):
        told = verdict["captures"][index] if 0 <= index < len(verdict["captures"]) else {"path": "?", "sha256": None}
        found = captures[index] if 0 <= index < len(captures) else None
        if found is None:
            yield f"captures: none of the given captures has the SHA-256 of {told['path']} ({told['sha256']})"
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
                yield f"{found}: frame {number} differs from frame {place} of the slice"
