"""What is said on a documented port in another protocol, from packets to findings."""

from __future__ import annotations

from pathlib import Path

import pytest

import auditor
from tests.conversation import Talk, Wire
from tests.inspectors.test_mysql import greeting
from tests.inspectors.test_websocket import AGREED, ASKED
from tests.tshark.talks import write

CELL, DATABASE, MYSQL, NATS = "10.0.1.10", "10.0.2.20", "10.0.2.21", "10.0.2.22"
VMS = f"""
networks: [10.0.0.0/16]
vms:
  - {{name: diego_cell/0, ips: [{CELL}]}}
  - {{name: diego_database/0, ips: [{DATABASE}]}}
  - {{name: mysql_proxy/0, ips: [{MYSQL}]}}
  - {{name: nats/0, ips: [{NATS}]}}
"""
BAD_HANDSHAKE = b"\x1a\0\0\1\xff\x13\x04#08S01Bad handshake"


def audited(folder: Path, wire: Wire) -> tuple[dict[str, object], dict[str, str]]:
    """The connection, and the findings' titles by rule."""
    inventory = folder / "vms.yml"
    inventory.write_text(VMS)
    report = auditor.audit(write(wire, folder / "talk.pcap"), inventory=inventory)
    [row] = report.connections.to_dict("records")
    return row, dict(zip(report.findings["rule"], report.findings["title"], strict=True))


@pytest.mark.parametrize(
    ("says", "spoken", "title"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "http", "diego_database speaks http to mysql_proxy on 3306/tcp"),
        (b"SSH-2.0-Go\r\n", "ssh", "diego_database speaks ssh to mysql_proxy on 3306/tcp"),
        (
            b"*1\r\n$4\r\nPING\r\n",
            "unknown",
            "diego_database speaks an unrecognised protocol to mysql_proxy on 3306/tcp",
        ),
    ],
)
def test_a_greeting_of_mysql_makes_no_mysql_of_what_the_client_says(
    says: bytes, spoken: str, title: str, tmp_path: Path
) -> None:
    wire = Wire()
    talk = Talk(wire, DATABASE, 40_001, MYSQL, 3306, 1_000_000, 2_000_000)
    talk.opens()
    talk.answers(greeting())
    talk.says(says)
    talk.answers(BAD_HANDSHAKE)
    row, findings = audited(tmp_path, wire)
    assert row["application"] == spoken
    assert findings["wrong-application"] == title


def test_nats_over_websocket_is_named_and_not_accused(tmp_path: Path) -> None:
    wire = Wire()
    talk = Talk(wire, CELL, 40_001, NATS, 4222, 1_000_000, 2_000_000)
    talk.opens()
    talk.says(ASKED)
    talk.answers(AGREED + b'\x82\x18INFO {"server_id":"x"}\r\n')
    talk.says(b"\x82\x86abcd" + bytes(6))
    row, findings = audited(tmp_path, wire)
    assert (row["application"], row["disposition"], row["authentication_verdict"]) == (
        "websocket", "documented", "unverifiable",
    )  # fmt: skip
    assert findings == {}
