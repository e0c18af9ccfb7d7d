"""What one capture shows of connections in another of the same audit: sessions resumed, handshakes cut from their data, keys."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

import auditor
from tests.tshark.talks import Secure, Talk, Wire, secured, write

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CELL, DATABASE = "10.0.1.10", "10.0.2.20"
VMS = f"""
networks: [10.0.0.0/16]
vms:
  - {{name: diego_cell/0, ips: [{CELL}]}}
  - {{name: diego_database/0, ips: [{DATABASE}]}}
"""
LONG = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9_000


def part(wire: Wire, path: Path, start: int, end: int | None = None) -> Path:
    """Some of the wire's packets as a file."""
    sent = wire.sent
    wire.sent = sent[start:end]
    try:
        return write(wire, path)
    finally:
        wire.sent = sent


def audit(folder: Path, captures: list[Path], **more: Any) -> auditor.Report:
    inventory = folder / "vms.yml"
    inventory.write_text(VMS)
    return auditor.audit([str(each) for each in captures], inventory=inventory, **more)


def said(report: auditor.Report) -> dict[int, str]:
    return dict(zip(report.connections["originator_port"], report.connections["authentication_verdict"], strict=True))


@pytest.fixture(params=[V12, V13], ids=["1.2", "1.3"])
def two(request, tmp_path) -> tuple[Path, Path]:
    """A full handshake in one file, and the session resumed in the next."""
    wire = Wire()
    made = Secure(request.param, answers=LONG)
    made.session = secured(Talk(wire, CELL, 40_001, DATABASE, 8889), tmp_path / "keys", made)
    middle = len(wire.sent)
    secured(Talk(wire, CELL, 40_002, DATABASE, 8889, 30_000_000, 40_000_000), tmp_path / "keys", made)
    return part(wire, tmp_path / "first.pcap", 0, middle), part(wire, tmp_path / "second.pcap", middle)


@pytest.mark.parametrize(("turned", "workers"), [(False, 1), (True, 1), (True, 2)])
def test_a_resumed_session_inherits_from_the_full_handshake_in_another_file(two, tmp_path, turned, workers):
    report = audit(tmp_path, list(reversed(two)) if turned else list(two), workers=workers)
    full = said(report)[40_001]
    assert full in {"verified", "inferred"}
    assert said(report)[40_002] == "inherited"
    rows = {row["originator_port"]: row for row in report.connections.to_dict("records")}
    [factor] = rows[40_002]["authentication_factors"]
    assert rows[40_001]["id"] in factor["says"], "the evidence names the connection that it inherits from"
    assert rows[40_002]["authentication_evidence"][0]["kind"] == "tls.resumed"


def test_without_the_earlier_file_the_resumed_session_is_unverifiable(two, tmp_path):
    assert said(audit(tmp_path, [two[1]])) == {40_002: "unverifiable"}


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
def test_a_connection_cut_after_its_handshake_is_one_and_keeps_its_verdict(tmp_path, version):
    wire = Wire()
    secured(Talk(wire, CELL, 40_001, DATABASE, 8889), tmp_path / "keys", Secure(version, answers=LONG))
    whole = audit(tmp_path, [write(wire, tmp_path / "whole.pcap")])
    at = len(wire.sent) // 2
    files = [part(wire, tmp_path / "a.pcap", 0, at), part(wire, tmp_path / "b.pcap", at)]
    for workers in (1, 2) if version is V13 else (1,):
        cut = audit(tmp_path, files, workers=workers)
        assert said(cut) == said(whole)
        assert list(cut.connections["id"]) == list(whole.connections["id"])
    assert said(audit(tmp_path, files[1:])) == {40_001: "unverifiable"}


@pytest.mark.tshark
def test_keys_inside_captures_open_them_in_many_processes_too(tmp_path, tshark):
    editcap = shutil.which("editcap")
    if editcap is None:
        pytest.skip("editcap is not installed (Debian package wireshark-common)")
    wire, files = Wire(), []
    for number, show in enumerate((True, False)):
        keys, begin, isn = tmp_path / f"{number}.keys", len(wire.sent), 10_000_000 * (number + 1)
        secured(Talk(wire, CELL, 40_001 + number, DATABASE, 8889, isn, isn + 5_000_000), keys, Secure(show=show))
        plain = part(wire, tmp_path / f"{number}.pcap", begin)
        files.append(tmp_path / f"{number}.pcapng")
        command = [editcap, "--inject-secrets", f"tls,{keys}", str(plain), str(files[-1])]
        subprocess.run(command, check=True, capture_output=True)
    told = []
    for workers in (1, 2):
        report = audit(tmp_path, files, workers=workers)
        assert said(report) == {40_001: "verified", 40_002: "violated"}
        whole = json.loads(report.to_json())
        told.append({name: whole[name] for name in ("summary", "connections", "findings")})
    assert told[0] == told[1]
