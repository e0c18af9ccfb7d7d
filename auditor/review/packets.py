"""From a kept connection to its packets: the captures it was seen in, found again and known by their hashes, and dissected by tshark.

The address of a page names an audit and a connection, never a file. Which files there are, the store says; and a file is opened only where its SHA-256
is the one that the audit took, so that what is shown is what was judged, and a store from elsewhere cannot make this machine read anything else.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from auditor.errors import AuditorError
from auditor.jobs.keep import sha256_of
from auditor.tshark import dissect as tree
from auditor.wire.text import clip

FRAMES = 60
"""Default number of frames that are shown."""
MOST_FRAMES = 1_000
SECONDS = 120.0
SHOWN = 240
"""Letters of a frame's line."""


@dataclass(slots=True)
class Library:
    """Captures on this machine."""

    folders: tuple[Path, ...] = ()
    """Where captures are looked for that are not where they were."""
    _known: dict[tuple[str, int, int], str | None] = field(default_factory=dict)

    def find(self, told: str, sha256: str | None) -> tuple[Path | None, str]:
        """The capture of this name and hash, or why there is none."""
        if not sha256:
            return None, "its hash was not recorded (it was a stream)"
        seen = False
        for place in (Path(told), *(folder / Path(told).name for folder in self.folders)):
            try:
                if not place.is_file():
                    continue
                stat = place.stat()
            except (OSError, ValueError):
                continue
            seen = True
            key = str(place.resolve()), stat.st_size, stat.st_mtime_ns
            if key not in self._known:
                self._known[key] = sha256_of(place)
            if self._known[key] == sha256:
                return place, ""
        return (
            None,
            "the file was replaced (its SHA-256 differs)" if seen else "not found (name its folder with --captures)",
        )


def flow(row: Mapping[str, Any]) -> tree.Flow:
    """What tshark is asked for."""
    ports = [None if pd.isna(row[name]) else int(row[name]) for name in ("originator_port", "responder_port")]
    first = int(row["start"])
    return tree.Flow(
        transport=str(row["transport"]),
        orig_h=str(row["originator_ip"]),
        orig_p=ports[0],
        resp_h=str(row["responder_ip"]),
        resp_p=ports[1],
        first_ns=first,
        last_ns=first + round(float(row["duration"]) * 1e9),
        application=str(row["application"]),
    )


def ran(first: Any, last: Any, flows: Sequence[tree.Flow]) -> bool:
    """Whether a capture from ``first`` to ``last`` may hold a packet of these."""
    return not pd.isna(first) and any(
        int(first) <= each.last_ns and (pd.isna(last) or int(last) >= each.first_ns) for each in flows
    )


@dataclass(frozen=True, slots=True)
class Frame:
    """One packet."""

    number: int
    capture: str
    time: str
    """Seconds after the connection's first packet."""
    forward: bool
    """From the originator."""
    says: str
    """Its innermost layer."""
    proves: tuple[str, ...]
    """Kinds of evidence that name this frame."""
    layers: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Packets:
    """What could be shown of a connection."""

    frames: tuple[Frame, ...]
    truncated: bool
    problems: tuple[str, ...]
    tshark: str


_turn = threading.Lock()
_FLAGS = re.compile(r"\(([A-Z, ]+)\)")


def dissected(
    library: Library, captures: pd.DataFrame, row: Mapping[str, Any], *, limit: int = FRAMES, keylog: Path | None = None
) -> Packets:
    """The packets of a connection, earliest first; where something is in the way, ``problems`` says what."""
    wanted = flow(row)
    problems = []
    places: dict[str, int] = {}
    running = [
        (int(first), index)
        for index, (first, last) in enumerate(zip(captures["first_packet"], captures["last_packet"], strict=True))
        if ran(first, last, [wanted])
    ]
    for _, index in sorted(running):
        told, sha256 = str(captures["path"].iloc[index]), captures["sha256"].iloc[index]
        place, why = library.find(told, sha256 if isinstance(sha256, str) else None)
        if place is None:
            problems.append(f"{told}: {why}")
        else:
            places[str(place)] = index
    if not places:
        return Packets((), False, tuple(problems) or ("no capture covers that time",), "")
    try:
        with _turn:  # one tshark at a time: this runs on a user's own machine
            told_ = tree.dissect([Path(each) for each in places], wanted, keylog=keylog, limit=limit, seconds=SECONDS)
    except AuditorError as error:
        return Packets((), False, (*problems, str(error)), "")
    proves = _proofs(row.get("authentication_evidence"))
    frames = tuple(_frame(each, places[str(each["capture"])], wanted, proves) for each in told_.frames)
    return Packets(frames, told_.truncated, (*problems, *told_.problems), told_.tshark)


def _proofs(evidence: Any) -> dict[tuple[int, int], list[str]]:
    found: dict[tuple[int, int], list[str]] = {}
    for each in evidence if evidence is not None else ():
        for index, number in each.get("frames") or ():
            found.setdefault((int(index), int(number)), []).append(str(each.get("kind")))
    return found


def _frame(
    each: Mapping[str, Any], index: int, wanted: tree.Flow, proves: Mapping[tuple[int, int], list[str]]
) -> Frame:
    layers: Sequence[dict[str, Any]] = each["layers"]
    number = int(each["frame"])
    ends = [value for layer in layers for value in _values(layer, ("ip.src", "ipv6.src"))]
    ports = [value for layer in layers for value in _values(layer, ("tcp.srcport", "udp.srcport"))]
    seconds, _, rest = str(each["time"]).partition(".")
    after = int(seconds) * 10**9 + int((rest + "0" * 9)[:9]) - wanted.first_ns
    forward = wanted.orig_h in ends and (not ports or wanted.orig_p is None or str(wanted.orig_p) == ports[-1])
    return Frame(
        number=number,
        capture=str(each["capture"]),
        time=f"{max(after, 0) / 10**9:.6f}",
        forward=forward,
        says=_says(layers[-1]) if layers else "",
        proves=tuple(dict.fromkeys(proves.get((index, number), ()))),
        layers=tuple(layers),
    )


def _says(layer: Mapping[str, Any]) -> str:
    """The innermost layer on a line: a bare segment by its flags, a protocol by what it carries."""
    inside = layer.get("fields", ())
    if layer["name"] == "tcp":
        flags = next((_FLAGS.search(each.get("text", "")) for each in inside if each.get("name") == "tcp.flags"), None)
        return f"{flags[1]}, {layer['text']}" if flags else str(layer["text"])
    told = [str(each.get("text", "")) for each in inside if each.get("fields")]
    return clip(f"{layer['text']}: {'; '.join(told)}" if told else str(layer["text"]), SHOWN)


def _values(layer: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    return [str(each["value"]) for each in layer.get("fields", ()) if each.get("name") in names and "value" in each]
