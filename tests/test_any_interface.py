"""Captures of ``tcpdump -i any``: cooked headers, and each packet of an application on two interfaces, before and behind its translation.

What is said of a capture of one interface is said of these, too.
"""

from __future__ import annotations

import ipaddress
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import auditor
from tests.conftest import ROOT
from tests.doubling import ETHERNET, Frame, frames_of, write

SAMPLE = ROOT / "captures" / "sample"
LINUX_SLL, LINUX_SLL2 = 113, 276
OUTGOING, INCOMING = 4, 0
HOST_PORTS = range(61_001, 65_535)


def cooked(link: int, frame: bytes, interface: int, kind: int) -> bytes:
    """The same packet as the pseudo-interface ``any`` gives it (tcpdump.org/linktypes: LINUX_SLL, LINUX_SLL2)."""
    protocol, address = struct.unpack(">H", frame[12:14])[0], frame[6:12] + b"\0\0"
    if link == LINUX_SLL:
        return struct.pack(">HHH8sH", kind, 1, 6, address, protocol) + frame[14:]
    return struct.pack(">HHIHBB8s", protocol, 0, interface, 1, kind, 6, address) + frame[14:]


def translated(frame: bytes, cell: bytes) -> bytes | None:
    """A packet of an application instance as it is inside the cell: the container's address and port 8080; None: it is none."""
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        return None
    data = bytearray(frame)
    start = 14 + (data[14] & 15) * 4
    for at, place in ((26, start), (30, start + 2)):
        if bytes(data[at : at + 4]) == cell and struct.unpack(">H", data[place : place + 2])[0] in HOST_PORTS:
            new = {at: ipaddress.IPv4Address("10.255.30.7").packed, place: struct.pack(">H", 8080)}
            for where, value in new.items():
                _replace(data, where, value, (24,) if where == at else ())
            data[start + 16 : start + 18] = bytes(
                2
            )  # TCP's is left to the card, as everything is that stays inside a machine
            return bytes(data)
    return None


def _replace(data: bytearray, where: int, value: bytes, sums: tuple[int, ...]) -> None:
    """With the checksums that cover it brought up to date (RFC 1624)."""
    old = bytes(data[where : where + len(value)])
    data[where : where + len(value)] = value
    for at in sums:
        total = ~struct.unpack(">H", data[at : at + 2])[0] & 0xFFFF
        for before, after in zip(struct.iter_unpack(">H", old), struct.iter_unpack(">H", value), strict=True):
            total += (~before[0] & 0xFFFF) + after[0]
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        data[at : at + 2] = struct.pack(">H", ~total & 0xFFFF)


def on_any(link: int, frames: list[Frame], cell: bytes, *, inside: bool) -> list[Frame]:
    """All frames as ``any`` gives them at a cell; ``inside``: those of applications on the container's interface, too."""
    made: list[Frame] = []
    for ts_ns, data, wire in frames:
        sent = data[26:30] == cell
        extra = len(cooked(link, data, 2, 0)) - len(data)
        twin = translated(data, cell) if inside else None
        pair = [(2, data), (9, twin)] if not sent else [(9, twin), (2, data)]
        for at, (interface, each) in enumerate(pair):
            if each is not None:
                kind = OUTGOING if sent == (interface == 2) else INCOMING
                made.append((ts_ns + 2_000 * at, cooked(link, each, interface, kind), wire + extra))
    return made


def said(path: Path) -> tuple[Any, Any]:
    report = auditor.audit(path, inventory=SAMPLE / "lab.inventory.yml")
    findings = Counter(zip(report.findings["rule"], report.findings["title"], report.findings["count"], strict=True))
    judged = report.connections[report.connections["disposition"] != "out_of_scope"]
    verdicts = Counter(zip(judged["id"], judged["disposition"], judged["authentication_verdict"], strict=True))
    return findings, verdicts


@pytest.mark.parametrize("link", [LINUX_SLL, LINUX_SLL2])
@pytest.mark.parametrize("inside", [False, True], ids=["outside", "inside-too"])
def test_what_is_said_of_one_interface_is_said_of_any(tmp_path: Path, link: int, inside: bool) -> None:
    kind, frames = frames_of(SAMPLE / "lab.cell0.pcap.zst")
    assert kind == ETHERNET
    cell = ipaddress.IPv4Address("10.0.8.20").packed
    made = on_any(link, frames, cell, inside=inside)
    assert (len(made) > len(frames)) is inside, "the cell has applications that are called"
    assert said(write(tmp_path / "any.pcap", link, made)) == said(SAMPLE / "lab.cell0.pcap.zst")
