"""Facts that keys prove, laid over those of the wire.

What decryption shows of a connection replaces what was unknown from the encrypted packets; what these showed stays. Only a connection of which
both sides' handshake was opened is changed: half a handshake proves neither that a certificate was sent nor that none was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from auditor.errors import InputError, MissingToolError
from auditor.model.connections import FRAME_BITS, ConnectionTable, transport_name
from auditor.model.facts import Facts
from auditor.model.frames import Capture
from auditor.model.streams import StreamHead, Streams
from auditor.tshark import _process
from auditor.tshark.decrypt import Opened, decrypt
from auditor.tshark.dissect import Flow

WIRE_ALONE = "verdicts rest on the packets alone"


@dataclass(frozen=True, slots=True)
class Proof:
    """What keys showed."""

    facts: Mapping[int, Facts] = field(default_factory=dict)
    """Row of a connection -> its facts, with what was proven."""
    certificates: Mapping[str, bytes] = field(default_factory=dict)
    """DER by fingerprint, of the chains that these facts name."""
    inside: Mapping[int, Streams] = field(default_factory=dict)
    """Row of a connection -> what was said inside its TLS at first, where that is no HTTP."""
    problems: tuple[str, ...] = ()
    """A line each; what could not be opened keeps its facts."""


def prove(
    table: ConnectionTable,
    rows: Iterable[int],
    captures: Sequence[Capture],
    secrets: Sequence[bool],
    texts: Sequence[str],
    keylog: Path | None,
) -> Proof:
    """Open connections with a key log, or with the secrets that captures hold.

    Parameters
    ----------
    rows : the connections that need it
    captures, secrets : all captures of the audit, and whether each holds keys itself (Decryption Secrets Blocks)
    texts : ``table.addresses`` as text
    keylog : NSS key log file, or None
    """
    by_capture: dict[int, list[int]] = {}
    for row in rows:
        # A connection that goes on in another capture shook hands in its first.
        place = int(table.first_frame[row]) >> FRAME_BITS
        if table.facts[row] is not None and (keylog is not None or secrets[place]):
            by_capture.setdefault(place, []).append(row)
    if not by_capture:
        return Proof()
    try:
        _process.find()
    except MissingToolError:
        where = str(keylog) if keylog is not None else captures[min(by_capture)].path
        return Proof(problems=(f"{where}: holds TLS keys, but tshark, which decrypts, is not installed: {WIRE_ALONE}",))
    facts: dict[int, Facts] = {}
    certificates: dict[str, bytes] = {}
    inside: dict[int, Streams] = {}
    problems: list[str] = []
    shared: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for place, chosen in sorted(by_capture.items()):
        path = Path(captures[place].path)
        if not path.is_file():
            problems.append(f"{path}: is a stream, and tshark decrypts files alone: {WIRE_ALONE}")
            continue
        flows = [_flow(table, row, texts) for row in chosen]
        try:
            opened, found, said = decrypt(path, flows, keylog=keylog)
        except InputError as error:
            problems.append(f"{error}: nothing of it was decrypted, {WIRE_ALONE}")
            continue
        problems += said
        certificates |= found
        before = len(facts)
        for row, each in zip(chosen, opened, strict=True):
            if each is not None and each.facts.get("tls.decrypted") == "both":
                facts[row] = _overlaid(table.facts[row], each, place, shared)
                if each.inside is not None:
                    client, server = each.inside
                    inside[row] = Streams(_placed(client, place), _placed(server, place), settled=True)
        if len(facts) == before:
            problems.append(f"{path}: the keys open none of {len(chosen)} connections that need them: {WIRE_ALONE}")
    named = {name for each in facts.values() for kind in _CHAINS for name in each.get(kind) or ()}
    kept = {name: der for name, der in certificates.items() if name in named}
    return Proof(facts, kept, inside, tuple(problems))


_CHAINS = ("tls.client_certificates", "tls.server_certificates")


def _placed(head: StreamHead, capture: int) -> StreamHead:
    """The head with frame numbers as they are told across captures."""
    return replace(head, segments=tuple((at, capture << FRAME_BITS | frame) for at, frame in head.segments))


def _flow(table: ConnectionTable, row: int, texts: Sequence[str]) -> Flow:
    ports = [int(port) if port >= 0 else None for port in (table.orig_p[row], table.resp_p[row])]
    return Flow(
        transport=transport_name(int(table.proto[row])),
        orig_h=texts[table.orig_h[row]],
        orig_p=ports[0],
        resp_h=texts[table.resp_h[row]],
        resp_p=ports[1],
        first_ns=int(table.first_ns[row]),
        last_ns=int(table.last_ns[row]),
        application=table.applications[table.application[row]],
    )


def _overlaid(plain: Facts, opened: Opened, capture: int, shared: dict[tuple[Any, ...], Mapping[str, Any]]) -> Facts:
    """The facts of the wire with those that keys proved; equal content is one object."""
    key = id(plain.shared), tuple(sorted(opened.facts.items()))
    content = shared.get(key)
    if content is None:
        content = shared[key] = {**plain.shared, **opened.facts}
    own = {kind: value for kind, value in plain.own.items() if kind not in opened.facts}
    frames = {
        kind: tuple(capture << FRAME_BITS | number for number in numbers) for kind, numbers in opened.frames.items()
    }
    certainties = {kind: each for kind, each in plain.certainties.items() if kind not in opened.facts}
    return Facts(content, own, ((frames, None), *plain.marks), certainties)


__all__ = ["WIRE_ALONE", "Proof", "prove"]
