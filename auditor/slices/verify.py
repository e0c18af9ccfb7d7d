"""Holding a bundle's verdict against what its packets say, field by field, and against the captures that they were cut from.

Four answers, each of them reported:

- a field that the packets of the slice, the files beside them or the captures show otherwise was altered, or never right: a **difference**;
- a field that rests on packets outside of the slice (the full handshake of a session, say) cannot be shown by it: what the slice alone says was written
  down when the bundle was made (``alone``). It is **not checked**, until the captures are there (``Checked.left``);
- so is what is said of the captures themselves (their hash, size, span) and when the audit ran;
- everything else was found again.

A field that was not checked does not count as verified: it is named, and has its own exit status. The comparison goes both ways: what the audit says of the
connections and findings of a bundle, and the bundle does not, is a difference, too; and so is what is in it twice.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import IO, Any, cast

import numpy as np

from auditor.capture import open_capture
from auditor.errors import AuditorError
from auditor.model.columns import FINDINGS
from auditor.model.version import VERSION
from auditor.slices.bundle import member
from auditor.slices.verdict import COMMENT, INFERRED, REDACTED, WITNESS, is_option, judged, stated, title_of
from auditor.slices.writer import PcapngWriter
from auditor.wire import pcapng

Fields = dict[str, Any]


_NOTHING: Any = object()
"""What a place has that is not there."""


def fields(verdict: Mapping[str, Any]) -> Fields:
    """Each judged field, by its place: ``connection ID: authentication.verdict``, ``finding FINGERPRINT: severity``."""
    found: Fields = {}
    seen: dict[str, int] = {}
    for what, each in [
        *((f"connection {_name(each)}", each) for each in verdict["connections"]),
        *((f"finding {each.get('fingerprint')}", each) for each in verdict["findings"]),
    ]:
        seen[what] = seen.get(what, 0) + 1
        # Two connections of the same ends may start at the same time; a copy has a place of its own, too.
        _flatten(what if seen[what] == 1 else f"{what} ({seen[what]})", "", each, found)
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
        _put(into, f"{what}: {path}", value)


def _put(into: Fields, place: str, value: Any) -> None:
    """A name with dots in it cannot hide what is at the place that it looks like."""
    while place in into:
        place += " again"
    into[place] = _time(value)


def _same(one: Any, other: Any) -> bool:
    """Whether they are written alike: ``true`` is not ``1``."""
    if one is _NOTHING or other is _NOTHING:
        return one is other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


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


def as_named(report: Mapping[str, Any], verdict: Mapping[str, Any]) -> dict[str, Any]:
    """An audit of the captures with the names that they had when the bundle was made: their SHA-256 said that they are the same."""
    pairs = zip(report["captures"], verdict["captures"], strict=True)
    names = {str(now["path"]): str(was["path"]) for now, was in pairs}

    def told(value: Any) -> Any:
        if isinstance(value, str):
            # A place may be an interface of the file, or the file once more: "NAME interface 2", "NAME (again)".
            now = next(
                (name for name in names if value == name or value.startswith((f"{name} (", f"{name} interface "))), None
            )
            return value if now is None else names[now] + value[len(now) :]
        return [told(each) for each in value] if isinstance(value, list | tuple) else value

    def place(connection: Mapping[str, Any]) -> dict[str, Any]:
        seen = [{**each, "vantage": told(each["vantage"])} for each in connection.get("sightings") or ()]
        return {**connection, "vantages": told(connection.get("vantages")), **({"sightings": seen} if seen else {})}

    return {
        **report,
        "captures": [
            {**each, "path": str(was["path"])}
            for each, was in zip(report["captures"], verdict["captures"], strict=True)
        ],
        "connections": [place(each) for each in report["connections"]],
    }


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
    was, now = statements(verdict), _found(report, verdict, told)
    return {
        place: now.get(place)
        for place in sorted({*was, *now})
        if _may_rest_elsewhere(place) and not _same(was.get(place, _NOTHING), now.get(place, _NOTHING))
    }


def _may_rest_elsewhere(place: str) -> bool:
    """Whether packets outside of the slice may decide it."""
    return ": " in place or place.startswith(_PLATFORM)


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of it."""

    wrong: tuple[str, ...]
    """What was altered, a line each."""
    left: tuple[str, ...]
    """The places of the fields that were not checked."""
    right: int
    """How many were found again."""
    all: int
    """How many a bundle of this kind has."""


_ONLY_ORIGINALS = "captures."
"""What no packet of a slice shows."""
_ONLY_SIGNED = "made."
_OPTIONS = "audit.options"
_PLATFORM = "audit.platform_networks"


def statements(verdict: Mapping[str, Any]) -> Fields:
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
                lies_as, said = str(now[each]), str(statements(verdict).get(each))
                number = int(each.split(".")[2])
                now[each] = said if member(number, said) == lies_as else lies_as.partition("-")[2]
    if not verdict["audit"].get("inventories") and verdict["inventories"] == [f"inventory/{INFERRED}"]:
        # The inventory was inferred, and the bundle holds it.
        now = {name: value for name, value in now.items() if not name.startswith("audit.inventories")}
        now["audit.inventories"] = []
    # The slice may show other findings than those that the bundle is about. It is audited with the options of the verdict: they show nothing of them.
    prints = {f"finding {each.get('fingerprint')}" for each in verdict["findings"]}
    now = {
        place: value
        for place, value in now.items()
        if not place.startswith(_OPTIONS) and (not place.startswith("finding ") or place.split(": ", 1)[0] in prints)
    }
    if not verdict["audit"]["options"]:
        now[_OPTIONS] = {}
    return {**now, **_of_itself(verdict), **_by_comments(verdict, told)}


_APART = frozenset({"connections", "findings", "frames", "alone", "policies", "inventories", "schema"})
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
        _put(into, path, value)


def _by_slice(place: str, value: Any, mine: Any, alone: Fields) -> tuple[bool, list[str]]:
    """Whether the slice settles a statement, and what it says against it: neither, where no packet shows it. ``mine``: what the audit of the slice says."""
    if place in alone:
        says = alone[place]
        if not _may_rest_elsewhere(place) or _same(value, mine):
            return False, [f"alone: {place} does not rest on packets outside of the slice"]
        if not _same(None if mine is _NOTHING else mine, says):
            return False, [f"{place} is {_plain(mine)} from the packets alone, not {_plain(says)}"]
        return False, []
    if place.startswith((_ONLY_ORIGINALS, _ONLY_SIGNED, f"{_OPTIONS}.")):
        return False, []
    if place == "version":
        # Another version may see more or less; its differences tell so.
        return _same(value, VERSION), ["version: missing in the verdict"] if value is _NOTHING else []
    if value is _NOTHING:
        return False, [] if mine is _NOTHING else [f"{place}: missing in the verdict, is {_plain(mine)}"]
    if mine is _NOTHING:
        return False, [f"{place} was {_plain(value)}, and is not found now"]
    if not _same(value, mine):
        return False, [f"{place} was {_plain(value)}, is {_plain(mine)}"]
    return True, []


def checked(
    verdict: Mapping[str, Any],
    report: Mapping[str, Any],
    told: Sequence[str],
    originals: Mapping[str, Any] | None = None,
    *,
    signed: bool = False,
) -> Checked:
    """Every field of a verdict held against an audit of its slice and the comments of its packets, and against an audit of the captures where they are there.

    ``signed``: then it says when it was made, and else not.
    """
    wrong = list(_malformed(verdict, report, signed=signed))
    alone: Fields = verdict["alone"]
    was, now = statements(verdict), _found(report, verdict, told)
    whole = None if originals is None else _whole(verdict, originals)
    # Neither a key log nor an authority is in a bundle: without them the captures show what the slice alone shows.
    blind = {"ca", "keylog"} & set(verdict["audit"]["options"])
    every = sorted({*was, *now, *alone, *(whole or ())})
    left: list[str] = []
    right = 0
    for place in every:
        value, mine = was.get(place, _NOTHING), now.get(place, _NOTHING)
        settled, against = _by_slice(place, value, mine, alone)
        wrong += against
        if whole is not None and (": " in place or place.startswith(_WHOLE)):
            theirs = whole.get(place, _NOTHING)
            settled = _same(value, theirs)
            if not settled and not (
                blind and place in alone and _same(None if theirs is _NOTHING else theirs, alone[place])
            ):
                was_so = "missing in the verdict" if value is _NOTHING else f"was {_plain(value)}"
                wrong.append(f"{place} {was_so}, is {_plain(theirs)} by the captures")
        if settled:
            right += 1
        else:
            left.append(place)
    return Checked(tuple(dict.fromkeys(wrong)), tuple(left), right, len(every))


_WHOLE = ("captures.", "inventory", _PLATFORM)
"""What an audit of the captures shows beside connections and findings."""

_MADE = frozenset({"finished", "id", "started"})


def _malformed(verdict: Mapping[str, Any], report: Mapping[str, Any], *, signed: bool) -> Iterator[str]:
    """What the maker of bundles never writes."""
    made = verdict.get("made")
    if signed and (not isinstance(made, dict) or set(made) != _MADE):
        yield "made: a signed bundle has it, with finished, id and started"
    if not signed and "made" in verdict:
        yield "made: only a signed bundle has it"
    for name, value in verdict["audit"]["options"].items():
        if not is_option(name, value):
            yield f"{_OPTIONS}.{name}: {_plain(value)} is not written in a bundle"
    here = stated(report)
    shapes = {
        "connections": {key for each in report["connections"][:1] for key in each},
        "findings": {column.path[0] for column in FINDINGS},
        "captures": set(here["captures"][0]),
    }
    for kind, keys in shapes.items():
        seen: dict[str, str] = {}
        for place, each in enumerate(verdict[kind]):
            if keys and not isinstance(each, dict):
                yield f"{kind}.{place}: is nothing of the kind"
                continue
            for name in sorted(keys - set(each)):
                yield f"{kind}.{place}: {name} is missing in the verdict"
            for name in sorted(set(each) - keys):
                yield f"{kind}.{place}: {name} is not written in a bundle"
            for name in _UNIQUE[kind]:
                if each.get(name) is not None and seen.setdefault(f"{name} {each[name]}", str(place)) != str(place):
                    yield f"{kind}.{place}: {name} {_plain(each[name])} is that of {kind}.{seen[f'{name} {each[name]}']}, too"


_UNIQUE = {"connections": ("id",), "findings": ("id", "fingerprint"), "captures": ()}


def _whole(verdict: Mapping[str, Any], originals: Mapping[str, Any]) -> Fields:
    """The same of an audit of the captures."""
    prints = [str(each["fingerprint"]) for each in verdict["findings"]]
    found = {**judged(originals, (str(each["id"]) for each in verdict["connections"]), prints)}
    now = fields(ordered(found))
    here = stated(originals)
    for name, value in (
        ("captures", here["captures"]),
        ("inventory", here["inventory"]),
        (_PLATFORM, here["audit"]["platform_networks"]),
    ):
        _deep(name, value, now)
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
    if value is _NOTHING:
        return "not there"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:200]}…"


def grouped(places: Sequence[str]) -> list[str]:
    """Places in words, grouped: ``captures.0: bytes, sha256``; many connections with the same fields as one."""
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


@dataclass(frozen=True, slots=True)
class _Packet:
    data: bytes
    ts_ns: int
    wirelen: int
    link_type: int
    interface: str


def _packets(
    path: Path, *, wanted: set[int] | None = None, link_type: int | None = None, name: str = ""
) -> Iterator[tuple[int, _Packet]]:
    """Frames with their numbers, as they would be in a slice. ``name``: of an interface that has none."""
    with open_capture(path, link_type=link_type) as reader:
        for batch in reader.batches():
            numbers = np.asarray(batch.numbers)
            points = reader.summary().vantage_points
            some = np.arange(len(batch)) if wanted is None else np.flatnonzero(np.isin(numbers, list(wanted)))
            for place in some.tolist():
                start, size, at = (int(each[place]) for each in (batch.start, batch.caplen_bytes, batch.interface))
                yield (
                    int(numbers[place]),
                    _Packet(
                        batch.buf[start : start + size].tobytes(),
                        max(int(batch.ts_ns[place]), 0),
                        max(int(batch.wirelen_bytes[place]), size),
                        int(batch.link_type[place]),
                        (points[at].interface or points[at].name or name) if at < len(points) else name,
                    ),
                )


class _Compared:
    """Takes what is written to it, and says whether a file has the same."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._same = file, True

    def write(self, data: bytes) -> int:
        self._same = self._same and self._file.read(len(data)) == data
        return len(data)

    def done(self) -> bool:
        return self._same and not self._file.read(1)


def is_plain(path: Path, told: Sequence[str], comment: str) -> bool:
    """Whether a slice has its packets, their comments (``told``) and its own ``comment``, and nothing else: no other block, no other option."""
    with path.open("rb") as file:
        compared = _Compared(file)
        writer = PcapngWriter(cast("IO[bytes]", compared), comment)
        for says, (_, each) in zip(told, _packets(path), strict=True):
            number = writer.interface(each.interface, each.link_type, 0)
            writer.packet(number, each.ts_ns, each.data, each.wirelen, says)
        return compared.done()


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
    here = dict(_packets(slice_))
    redacted = bool(verdict.get("redacted"))
    for index in sorted({int(capture) for capture, _ in frames}):
        told = verdict["captures"][index] if 0 <= index < len(verdict["captures"]) else {"path": "?", "sha256": None}
        found = captures[index] if 0 <= index < len(captures) else None
        if found is None:
            yield f"captures: none of the given captures has the SHA-256 of {told['path']} ({told['sha256']})"
            continue
        wanted = [(int(number), place) for place, (capture, number) in enumerate(frames, 1) if capture == index]
        try:
            link_type = verdict["audit"]["options"].get("linktype")
            numbers = {number for number, _ in wanted}
            there = dict(_packets(found, wanted=numbers, link_type=link_type, name=PurePath(str(told["path"])).name))
        except AuditorError as error:
            yield f"{found}: {error}"
            continue
        for number, place in wanted:
            mine, theirs = here.get(place), there.get(number)
            if theirs is None:
                yield f"{found}: has no frame {number}"
                continue
            apart = ["is not there"] if mine is None else _apart(mine, theirs, redacted=redacted)
            if apart:
                yield f"{found}: frame {number} differs from frame {place} of the slice: {', '.join(apart)}"


def _apart(mine: _Packet, theirs: _Packet, *, redacted: bool) -> list[str]:
    """In what two packets differ; of a redacted one what was not overwritten with zeros is as it was."""
    told = []
    if mine.ts_ns != theirs.ts_ns:
        told.append(f"its time, by {abs(mine.ts_ns - theirs.ts_ns)} ns")
    if mine.wirelen != theirs.wirelen:
        told.append(f"its original length ({mine.wirelen} bytes, not {theirs.wirelen})")
    if mine.interface != theirs.interface:
        told.append(f"its interface ({_plain(mine.interface)}, not {_plain(theirs.interface)})")
    if len(mine.data) != len(theirs.data):
        told.append(f"its length ({len(mine.data)} bytes, not {len(theirs.data)})")
    elif any(
        here not in (there, 0) if redacted else here != there
        for here, there in zip(mine.data, theirs.data, strict=True)
    ):
        told.append("its bytes")
    return told
