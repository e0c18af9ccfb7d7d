"""Attempts with packets that look like copies of others, and with keys chosen so that connections meet: nothing is swallowed."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path

import numpy as np

import auditor
from auditor.kernels import flowkey
from tests.adversary.talk import ACK, CLIENT, PSH, SERVER, SYN, Talk
from tests.adversary.test_segments import DATABASE, MYSQL, OK, login, said, to_mysql
from tests.conftest import ROOT

INVENTORY = str(ROOT / "captures" / "rules" / "inventory.yml")


def key(client: str, sport: int, server: str, port: int) -> int:
    """What a print of a packet begins with."""
    ends = sorted([(int(ipaddress.ip_address(client)), sport), (int(ipaddress.ip_address(server)), port)])
    (a, a_port), (b, b_port) = ends
    with np.errstate(over="ignore"):
        found = getattr(flowkey.key_hash, "py_func", flowkey.key_hash)(
            np.uint64(0), np.uint64(0xFFFF << 32 | a), np.uint64(0), np.uint64(0xFFFF << 32 | b),
            np.uint64(a_port << 16 | b_port), np.uint64(6),
        )  # fmt: skip
    return int(found)


def forged(talk: Talk, flags: int, data: bytes) -> None:
    """Before the client's next packet: one of another flow whose print is the same, and whose bytes are others."""
    decoy = Talk(talk.client, talk.server, talk.port, 40_001, ident=talk.ident, now_ns=talk.now_ns)
    numbers = talk.seq[CLIENT] << 32 | (talk.seq[SERVER] if flags & ACK else 0)
    numbers ^= key(talk.client, 40_000, talk.server, talk.port) ^ key(talk.client, 40_001, talk.server, talk.port)
    decoy.seq = [numbers >> 32, numbers & 0xFFFF_FFFF]
    decoy.packet(CLIENT, flags | ACK, b"?" * len(data))
    talk.frames += decoy.frames
    talk.now_ns = decoy.now_ns


def test_a_login_is_not_taken_for_a_copy_of_another_flows_packet(tmp_path: Path) -> None:
    talk = to_mysql()
    data = login(b"")
    forged(talk, PSH | ACK, data)
    talk.packet(CLIENT, PSH | ACK, data)
    talk.seq[CLIENT] += len(data)
    talk.packet(SERVER, ACK).says(SERVER, OK).closes()
    report = auditor.audit([talk.write(tmp_path)], inventory=[INVENTORY], policy="tas-diego")
    [real] = [row for _, row in report.audit.connections.iterrows() if row["originator_port"] == 40_000]
    assert real["authentication_verdict"] == "violated"
    assert "missing-credentials" in set(report.findings["rule"])


def test_the_forged_print_is_the_same() -> None:
    """Else the test before this one would show nothing."""
    talk = to_mysql()
    forged(talk, PSH | ACK, login(b""))
    words = struct.unpack(">II", talk.frames[-1][1][38:46])
    mine = talk.seq[CLIENT] << 32 | talk.seq[SERVER]
    theirs = words[0] << 32 | words[1]
    assert mine ^ theirs == key(DATABASE, 40_000, MYSQL, 3306) ^ key(DATABASE, 40_001, MYSQL, 3306)


def test_an_opening_with_the_numbers_of_the_one_before_it_is_another_connection_only_if_it_is_one(
    tmp_path: Path,
) -> None:
    """The same SYN twice is one connection; with another number it is a new one."""
    talk = to_mysql().says(CLIENT, login(b"s" * 20)).says(SERVER, OK).closes()
    assert said(talk, tmp_path) == ("verified", None, {})
    talk.seq = [2_000_000, 7_000_000]
    talk.now_ns += 120 * 10**9
    talk.ident -= len(talk.frames)  # as a copy would have it
    talk.packet(CLIENT, SYN)
    talk.seq[CLIENT] += 1
    talk.packet(SERVER, SYN | ACK)
    talk.seq[SERVER] += 1
    talk.packet(CLIENT, ACK)
    report = auditor.audit([talk.write(tmp_path)], inventory=[INVENTORY], policy="tas-diego")
    assert len(report.connections) == 2
