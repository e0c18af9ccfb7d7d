"""The protocol tree of one connection in tshark, with pyshark in a separate process.

tshark has to read a capture from its start, since what a frame means depends on those before it; a display filter picks the connection's
frames by addresses, ports and time. Time, number of frames and size of the tree are bounded. Masking: see ``_masking.py``.
"""

from __future__ import annotations

import ipaddress
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import InputError
from auditor.tshark import _process

MAX_FRAMES = 2_000
MAX_TREE_BYTES = 96 * 1024 * 1024
"""Size of tshark's XML that is read, at most."""

_MAX_OUTPUT_BYTES = 256 * 1024 * 1024
_SLACK_NS = 1_000
"""Time stamps are known to the microsecond at least."""

SCHEMA = "auditor.dissect/1"


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection, as far as it takes to find its frames."""

    transport: str
    """tcp, udp, icmp, ... as in the connection table."""
    orig_h: str
    orig_p: int | None
    resp_h: str
    resp_p: int | None
    first_ns: int = 0
    last_ns: int = 0
    """0: not known."""
    application: str = ""
    """tls and https are dissected as TLS whatever the port."""


@dataclass(frozen=True, slots=True)
class Dissection:
    """Trees of a connection's frames, masked and escaped."""

    frames: tuple[dict[str, Any], ...]
    """``{capture, frame, time, layers: [{name, text, value?, masked?, fields?}]}`` each."""
    truncated: bool
    """There are more frames, or more of a tree, than were asked for."""
    problems: tuple[str, ...]
    """What tshark complained of, and what was left out."""
    tshark: str
    """Its version."""


def display_filter(flow: Flow) -> str:
    """A display filter for both directions of a flow, within its time. Raises ValueError for what is not an address."""
    ends = [str(ipaddress.ip_address(each)) for each in (flow.orig_h, flow.resp_h)]
    ip = "ipv6" if ":" in ends[0] else "ip"
    ports = (
        flow.transport if flow.transport in {"tcp", "udp", "sctp"} and None not in (flow.orig_p, flow.resp_p) else None
    )

    def one_way(src: str, sport: int | None, dst: str, dport: int | None) -> str:
        text = f"{ip}.src=={src} && {ip}.dst=={dst}"
        return f"({text} && {ports}.srcport=={sport} && {ports}.dstport=={dport})" if ports else f"({text})"

    text = f"({one_way(ends[0], flow.orig_p, ends[1], flow.resp_p)} || {one_way(ends[1], flow.resp_p, ends[0], flow.orig_p)})"
    if ports is None:
        named = {"icmp": "icmp", "icmp6": "icmpv6", "igmp": "igmp", "gre": "gre", "esp": "esp", "ah": "ah"}.get(
            flow.transport
        )
        text += f" && {named}" if named else ""
    if flow.first_ns:
        text += f" && frame.time_epoch>={_seconds(flow.first_ns - _SLACK_NS)}"
    if flow.last_ns:
        text += f" && frame.time_epoch<={_seconds(flow.last_ns + _SLACK_NS)}"
    return text


def _seconds(ns: int) -> str:
    return f"{ns // 10**9}.{ns % 10**9:09d}"


def preferences(keylog: Path | None, tls_ports: Sequence[int] = ()) -> list[str]:
    """Parameters of tshark that all its uses have in common."""
    given = ["-o", "tcp.reassemble_out_of_order:TRUE", "-o", "tls.desegment_ssl_application_data:TRUE"]
    for port in sorted(set(tls_ports)):
        given += ["-d", f"tcp.port=={port},tls"]
    if keylog is not None:
        given += ["-o", f"tls.keylog_file:{keylog}"]
    return given


def check() -> None:
    """That there is a tshark. Raises MissingToolError."""
    _process.find()


def dissect(
    captures: Sequence[Path], flow: Flow, *, keylog: Path | None = None, limit: int = 200, seconds: float = 120.0
) -> Dissection:
    """The trees of a flow's frames in captures, in this order.

    Parameters
    ----------
    keylog : NSS key log file; given to tshark by its path, and not read by us
    limit : frames, at most
    seconds : for all of it

    Raises
    ------
    MissingToolError : there is no tshark
    InputError : a file cannot be read, or the time is over
    """
    tshark = _process.find()
    version = _process.version(tshark)
    secret = None if keylog is None else _process.readable(keylog)
    files = [_process.readable(capture) for capture in captures]
    limit = max(1, min(limit, MAX_FRAMES))
    parameters = preferences(secret, [flow.resp_p] if flow.application in {"tls", "https"} and flow.resp_p else [])
    frames: list[dict[str, Any]] = []
    problems: list[str] = []
    truncated = False
    for shown, file in zip(captures, files, strict=True):
        if truncated or len(frames) >= limit:
            truncated = True
            break
        task = {
            "capture": str(file),
            "filter": display_filter(flow),
            "limit": limit - len(frames),
            "max_bytes": MAX_TREE_BYTES,
            "parameters": parameters,
            "tshark": tshark,
        }
        found, end = _ask(task, shown, seconds)
        frames += [{"capture": str(shown), **each} for each in found]
        truncated = truncated or bool(end["truncated"])
        problem = _process.judge(shown, int(bool(end["failed"])), str(end["says"]), anything=bool(found))
        problems += [f"{shown}: {problem}"] if problem else []
    return Dissection(tuple(frames), truncated, tuple(problems), version)


def _ask(task: dict[str, Any], capture: Path, seconds: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run the task in a separate process: its trees, and how it ended."""
    places = [str(Path(each).absolute()) for each in sys.path]
    start = f"import sys; sys.path[:] = {places!r}; from auditor.tshark._worker import main; main()"
    found: list[dict[str, Any]] = []
    end: dict[str, Any] | None = None
    with _process.private_profile() as profile:
        env = _process.environment(profile) | {"PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-I", "-c", start]
        told = json.dumps(task).encode()
        with _process.Run(
            command, about=str(capture), seconds=seconds, max_bytes=_MAX_OUTPUT_BYTES, env=env, cwd=profile, told=told
        ) as run:
            for line in run.lines():
                each = json.loads(line)
                if "end" in each:
                    end = each["end"]
                else:
                    found.append(each)
    if end is None:
        raise InputError(str(capture), "pyshark ended before its work was done (out of memory?)")
    return found, end


def as_json(told: Dissection, about: dict[str, Any]) -> str:
    """The trees as one JSON object."""
    whole = {
        "schema": SCHEMA,
        **about,
        "tshark": told.tshark,
        "truncated": told.truncated,
        "problems": list(told.problems),
    }
    return json.dumps(whole | {"frames": list(told.frames)}, indent=1)


def as_text(told: Dissection) -> Iterator[str]:
    """The trees as indented lines."""
    for frame in told.frames:
        for layer in frame["layers"]:
            yield from _lines(layer, 0)
        yield ""


def _lines(node: dict[str, Any], depth: int) -> Iterator[str]:
    yield "    " * depth + node["text"]
    for inside in node.get("fields", ()):
        yield from _lines(inside, depth + 1)
