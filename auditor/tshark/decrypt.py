"""What keys open: the encrypted part of a TLS handshake, and the HTTP inside, as facts of the same names as the inspectors give.

tshark decrypts with a key log (``CLIENT_HANDSHAKE_TRAFFIC_SECRET`` and its server's twin do for TLS 1.3, ``CLIENT_RANDOM`` up to 1.2) or
with the secrets that a pcapng carries itself. It is run once over a capture, and asked for numbers and kinds of handshake messages,
certificates, and of HTTP for how requests authenticate. Where something else than HTTP is inside, it is run again, for the first decrypted bytes of
both directions, which our own inspectors then read as they read what crosses in the clear. What is told of a connection is only what was seen decrypted: a client that was
asked and whose Finished came without a Certificate sent none; where Finished was not decrypted, nothing is said.

The key log goes to tshark by its path. What passes through this process, values of headers and decrypted bytes, is kept no longer than it takes to read
them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import InputError
from auditor.model.streams import HEAD_BYTES, StreamHead
from auditor.tshark import _process
from auditor.tshark._talks import (
    FIELDS,
    MAX_REQUESTS,
    Side,
    Talk,
    index,
    mend,
    name_of,
    read_row,
    take,
    trees,
    which,
    whose,
)
from auditor.tshark.dissect import Flow, preferences
from auditor.wire import tls

MAX_OUTPUT_BYTES = 2 * 1024**3
_CHAINS = ("tls.client_certificates", "tls.server_certificates")


@dataclass(frozen=True, slots=True)
class Opened:
    """What keys showed of one connection."""

    facts: Mapping[str, Any]
    """``kind -> value``; all of it proven."""
    frames: Mapping[str, tuple[int, ...]]
    """``kind -> frame numbers`` in the capture, from 1."""
    inside: tuple[StreamHead, StreamHead] | None = None
    """What client and server said inside TLS at first, where that is no HTTP; before the server's, what it said in the clear (a greeting, INFO)."""


def decrypt(
    capture: Path, flows: Sequence[Flow], *, keylog: Path | None = None, seconds: float = 600.0
) -> tuple[list[Opened | None], dict[str, bytes], list[str]]:
    """What keys show of connections of one capture.

    Parameters
    ----------
    capture : a file that tshark reads (pcap, pcapng; gzip, and zstd or lz4 where it was built so)
    flows : the connections that need it; ``application`` tls or https: dissected as TLS whatever their port
    keylog : NSS key log file; None: the secrets that a pcapng carries

    Returns
    -------
    opened : a value for each flow, in their order; None: nothing of it was decrypted
    certificates : DER by SHA-256 fingerprint in hex, of all chains that the facts name
    problems : what tshark complained of, where there is a result nevertheless

    Raises
    ------
    MissingToolError : there is no tshark
    InputError : a file cannot be read, or the time is over
    """
    tshark = _process.find()
    secret = None if keylog is None else _process.readable(keylog)
    file = _process.readable(capture)
    if not flows:
        return [], {}, []
    talks = [Talk(flow) for flow in flows]
    by_ends = index(talks)
    certificates: dict[str, bytes] = {}
    ports = [flow.resp_p for flow in flows if flow.application in {"tls", "https"} and flow.resp_p]
    reading = ["-n", "-r", str(file), *preferences(secret, ports)]
    common = [*reading, "-o", f"http.tls.port:{_port_list(ports)}"]
    shown = f"({which(flows)}) && (tls.handshake || tls.alert_message || tls.record.content_type==23 || http || http2.headers)"
    wanted = [part for name in FIELDS for part in ("-e", name)]
    problem = None
    with _process.private_profile() as profile:
        env = _process.environment(profile)
        command = [tshark, *common, "-Y", shown, "-T", "ek", *wanted]
        limits: dict[str, Any] = {
            "about": str(capture),
            "seconds": seconds,
            "max_bytes": MAX_OUTPUT_BYTES,
            "env": env,
            "cwd": profile,
        }
        anything = False
        with _process.Run(command, **limits) as run:
            for line in run.lines():
                row = read_row(line)
                if row is not None:
                    anything = True
                    take(row, by_ends, certificates)
            problem = _process.judge(capture, run.status, run.complaint(), anything=anything)
            if run.full:
                problem = "there was more to decrypt than is read at once; later connections are not decrypted"
        unsure = sorted({frame for talk in talks for frame in talk.unsure})[:MAX_REQUESTS]
        if unsure:
            only = f"frame.number in {{{','.join(map(str, unsure))}}}"
            with _process.Run([tshark, *common, "-Y", only, "-T", "pdml"], **limits) as run:
                mend(talks, trees(run.lines()))
        hidden = [talk for talk in talks if _is_other(talk)]
        inside: dict[int, tuple[StreamHead, StreamHead]] = {}
        if hidden:
            inside = _inside(hidden, [tshark, *reading], limits)
    opened = [_conclude(talk, inside.get(id(talk))) for talk in talks]
    named = {name for each in opened if each for kind in _CHAINS for name in each.facts.get(kind, ())}
    kept = {name: der for name, der in certificates.items() if name in named}
    return opened, kept, [f"{capture}: {problem}"] if problem else []


def _is_other(talk: Talk) -> bool:
    """Data was decrypted, and tshark does not read it as HTTP."""
    data = any(side.data and (side.hidden or side.finished) for side in (talk.client, talk.server))
    return data and not talk.requests and not talk.statuses


class _Heard:
    """The first bytes of one direction inside TLS."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.segments: list[tuple[int, int]] = []

    def take(self, data: bytes, frame: int) -> None:
        if data and len(self.data) < HEAD_BYTES:
            self.segments.append((len(self.data), frame))
            self.data += data[: HEAD_BYTES - len(self.data)]

    @property
    def head(self) -> StreamHead:
        return StreamHead(bytes(self.data), stream_bytes=len(self.data), segments=tuple(self.segments))


def _inside(
    talks: Sequence[Talk], command: Sequence[str], limits: Mapping[str, Any]
) -> dict[int, tuple[StreamHead, StreamHead]]:
    """What these say inside TLS, as bytes: tshark is told that it is but data.

    MySQL's own dissector is switched off, since it would take what follows its upgrade; the upgrade itself tshark finds by the hello.
    """
    ports = sorted({talk.flow.resp_p for talk in talks if talk.flow.resp_p})
    as_data = [part for port in ports for part in ("-d", f"tls.port=={port},data")]
    shown = f"({which([talk.flow for talk in talks])}) && (data || tls)"
    wanted = [part for name in (*FIELDS[:8], "tls.handshake.type", "tls.record", "data.data") for part in ("-e", name)]
    by_ends = index(talks)
    heard = {id(talk): (_Heard(), _Heard()) for talk in talks}
    begun: set[int] = set()
    arguments = [*command, "--disable-protocol", "mysql", *as_data, "-Y", shown, "-T", "ek", *wanted]
    with _process.Run(arguments, **limits) as run:
        for line in run.lines():
            row = read_row(line)
            found = None if row is None else whose(row, by_ends)
            if row is None or found is None:
                continue
            talk, is_client = found
            is_tls = bool(row.texts("tls.record"))
            if is_tls:
                begun.add(id(talk))
            # Before TLS begins only what the server says counts: a client's request for it says no more than that TLS follows.
            if is_tls or (id(talk) not in begun and not is_client):
                frame = next(iter(row.numbers("frame.number")), 0)
                for text in row.texts("data.data"):
                    with contextlib.suppress(ValueError):
                        heard[id(talk)][0 if is_client else 1].take(bytes.fromhex(text.replace(":", "")), frame)
    return {key: (client.head, server.head) for key, (client, server) in heard.items() if client.data or server.data}


def _port_list(ports: Iterable[int]) -> str:
    return ",".join(str(port) for port in sorted({443, *ports}))


def _conclude(talk: Talk, inside: tuple[StreamHead, StreamHead] | None) -> Opened | None:
    """The facts of a connection; None if none of it was decrypted."""
    client, server = talk.client, talk.server
    opened = [name for name, side in (("client", client), ("server", server)) if side.hidden or side.finished]
    if not opened and not talk.requests and not talk.statuses:
        return None
    told: dict[str, Any] = {"tls.decrypted": "both" if len(opened) == 2 else opened[0] if opened else ""}
    if not opened:
        del told["tls.decrypted"]
    for name, side in (("client", client), ("server", server)):
        if side.finished:
            told[f"tls.{name}_finished"] = True
        if side.data:
            told[f"tls.{name}_application_data"] = True
        if side.alert is not None:
            told[f"tls.{name}_alert"] = side.alert
        if side.chain:
            told[f"tls.{name}_certificates"] = side.chain
    told |= _client_certificate(client, server)
    if talk.alpn:
        told["tls.alpn"] = name_of(talk.alpn)
    if talk.http_version:
        told["http.version"] = name_of(talk.http_version)
    if talk.requests:
        methods, schemes, signed, cookies = zip(*talk.requests, strict=True)
        told["http.method"] = name_of(methods[0])
        told["http.requests"] = len(methods)
        told["http.authorization"] = tuple(schemes)
        told["http.signed_url"] = tuple(signed)
        told["http.cookie"] = any(cookies)
        for kind in ("http.version", "http.method", "http.authorization", "http.signed_url", "http.cookie"):
            talk.frames[kind] = talk.frames["http.requests"]
    if talk.statuses:
        told["http.statuses"] = tuple(talk.statuses)
    frames = {kind: tuple(sorted(frames)) for kind, frames in talk.frames.items() if kind in told}
    return Opened(told, frames, inside)


def _client_certificate(client: Side, server: Side) -> dict[str, Any]:
    """What was asked and what was answered; nothing of a resumed session, which asks and answers nothing.

    A Certificate message after Finished (post-handshake authentication, renegotiation) counts like one before it.
    """
    resumed = server.finished and tls.CERTIFICATE not in server.messages
    asked = tls.CERTIFICATE_REQUEST in server.messages
    if resumed and not asked:
        return {}
    told: dict[str, Any] = {}
    if asked or server.finished:
        told["tls.certificate_requested"] = asked
    if client.chain:
        told["tls.client_certificate"] = "sent"
        if tls.CERTIFICATE_VERIFY in client.messages:
            told["tls.certificate_verify"] = True
        elif client.finished:
            told["tls.certificate_verify"] = False
    elif tls.CERTIFICATE in client.messages:
        if client.chain is not None:
            told["tls.client_certificate"] = "empty"
    elif asked and client.finished:
        told["tls.client_certificate"] = "not_sent"
    elif not asked and server.finished:
        told["tls.client_certificate"] = "not_asked"
    return told


def check(keylog: Path) -> None:
    """That a key log can be used, before an audit begins: the file can be read, and tshark is there.

    Raises
    ------
    MissingToolError, InputError
    """
    if _process.readable(keylog).stat().st_size == 0:
        raise InputError(str(keylog), "is empty: it holds no keys")
    _process.find()
