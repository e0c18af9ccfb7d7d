"""What routers say of a connection is told there; what a stranger's tunnel carries is nobody's fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6PacketTooBig, IPv6
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw
from scapy.utils import wrpcap

import auditor

CELL, OTHER_CELL, BRAIN, DATABASE = "10.0.4.20", "10.0.4.21", "10.0.5.10", "10.0.6.10"
ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
ROUTER, OUT = "10.50.1.1", "10.50.9.3"
INVENTORY = f"""
schema: auditor.inventory/1
networks: [10.0.0.0/16]
vms:
  - {{name: diego_cell/0, ips: [{CELL}, "2001:db8::20"]}}
  - {{name: diego_cell/1, ips: [{OTHER_CELL}]}}
  - {{name: diego_brain/0, ips: [{BRAIN}]}}
  - {{name: diego_database/0, ips: [{DATABASE}, "2001:db8::10"]}}
"""


def audited(folder: Path, *packets: Packet, **options: Any) -> Any:
    capture, inventory = folder / "x.pcap", folder / "vms.yml"
    frames = [ETHER / packet for packet in packets]
    for k, frame in enumerate(frames):
        frame.time = 1_780_000_000 + 2 * k
    wrpcap(str(capture), frames)
    inventory.write_text(INVENTORY)
    return auditor.audit(str(capture), inventory=str(inventory), **options)


def syn(src: str, dst: str, dport: int, sport: int = 40_000) -> Packet:
    return IP(src=src, dst=dst) / TCP(sport=sport, dport=dport, flags="S", seq=1)


def error(about: Packet, code: int, *, router: str = ROUTER, mtu: int = 0) -> Packet:
    quoted = bytes(about)[:28]
    return IP(src=router, dst=about.src) / ICMP(type=3, code=code, nexthopmtu=mtu) / Raw(quoted)


def test_an_error_is_evidence_of_the_connection_that_it_quotes_and_its_router_is_no_stranger(tmp_path: Path) -> None:
    tried = syn(CELL, DATABASE, 8889)
    report = audited(
        tmp_path, tried, error(tried, 13, router="10.0.4.1"), syn(BRAIN, CELL, 1801), syn(BRAIN, CELL, 1801)
    )
    quoted, icmp = (report.connections[report.connections["transport"] == name].iloc[0] for name in ("tcp", "icmp"))
    [evidence] = [each for each in quoted["authentication_evidence"] if each["kind"] == "icmp.error"]
    assert evidence["value"] == ("communication administratively prohibited, by 10.0.4.1",)
    assert evidence["frames"] == [[0, 2]]
    assert icmp["disposition"] == "ambient"
    assert "unknown-host" not in set(report.findings["rule"])
    [failing] = report.findings[report.findings["rule"] == "documented-path-failing"].to_dict("records")
    assert "ICMP says: communication administratively prohibited, by 10.0.4.1 (1 connection)." in failing["detail"]


@pytest.mark.parametrize(
    ("code", "mtu", "says"), [(4, 1400, "fragmentation needed (MTU 1400)"), (1, 0, "host unreachable")]
)
def test_what_errors_say(tmp_path: Path, code: int, mtu: int, says: str) -> None:
    tried = syn(CELL, OUT, 443)
    report = audited(tmp_path, tried, error(tried, code, mtu=mtu))
    [evidence] = report.connections[report.connections["transport"] == "tcp"].iloc[0]["authentication_evidence"]
    assert evidence["value"] == (f"{says}, by {ROUTER}",)


def test_ipv6(tmp_path: Path) -> None:
    tried = IPv6(src="2001:db8::20", dst="2001:db8::10") / TCP(sport=40_000, dport=8889, flags="S")
    big = IPv6(src="2001:db8::1", dst="2001:db8::20") / ICMPv6PacketTooBig(mtu=1280) / Raw(bytes(tried)[:60])
    report = audited(tmp_path, tried, big)
    [evidence] = report.connections[report.connections["transport"] == "tcp"].iloc[0]["authentication_evidence"]
    assert evidence["value"] == ("packet too big (MTU 1280), by 2001:db8::1",)
    assert "unknown-host" not in set(report.findings["rule"])


def test_the_latest_of_two_connections_on_the_same_ports_is_meant(tmp_path: Path) -> None:
    first, second = syn(CELL, DATABASE, 8889), syn(CELL, DATABASE, 8889)
    closed = IP(src=DATABASE, dst=CELL) / TCP(sport=8889, dport=40_000, flags="RA", seq=0, ack=2)
    second[TCP].seq = 9_000_000
    report = audited(tmp_path, first, closed, second, error(second, 1))
    tcp = report.connections[report.connections["transport"] == "tcp"]
    assert [len(each) for each in tcp["authentication_evidence"]] in ([0, 1], [1])


def test_a_router_that_asks_itself_is_a_stranger_still(tmp_path: Path) -> None:
    tried = syn(CELL, OUT, 443)
    ping = IP(src="10.0.4.1", dst=CELL) / ICMP(type=8)
    report = audited(tmp_path, tried, error(tried, 1, router="10.0.4.1"), ping)
    assert "unknown-host" in set(report.findings["rule"])


def tunnelled(outer: tuple[str, str], *inside: Packet) -> list[Packet]:
    src, dst = outer
    return [
        IP(src=src, dst=dst) / UDP(sport=50_000, dport=4789) / VXLAN(flags=8, vni=7) / ETHER / packet
        for packet in inside
    ]


def plain() -> list[Packet]:
    """The BBS in the clear, accepted: critical anywhere else."""
    there, back = IP(src=CELL, dst=DATABASE), IP(src=DATABASE, dst=CELL)
    asks = b"GET /v1/ping HTTP/1.1\r\nHost: bbs\r\n\r\n"
    says = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    return [
        there / TCP(sport=40_000, dport=8889, flags="S", seq=1),
        back / TCP(sport=8889, dport=40_000, flags="SA", seq=1, ack=2),
        there / TCP(sport=40_000, dport=8889, flags="A", seq=2, ack=2),
        there / TCP(sport=40_000, dport=8889, flags="PA", seq=2, ack=2) / Raw(asks),
        back / TCP(sport=8889, dport=40_000, flags="PA", seq=2, ack=2 + len(asks)) / Raw(says),
    ]


@pytest.mark.parametrize(
    ("outer", "policy", "believed"),
    [
        ((CELL, "203.0.113.9"), "tas", False),  # an application's own tunnel
        ((CELL, OTHER_CELL), "tas", True),  # silk's
        ((CELL, OTHER_CELL), "tas-diego", False),  # ... which this policy does not declare
        ((BRAIN, CELL), "tas", False),
        (("192.0.2.1", "192.0.2.2"), "tas", True),  # a mirror: how the capture came here
    ],
)
def test_whose_tunnels_are_believed(tmp_path: Path, outer: tuple[str, str], policy: str, believed: bool) -> None:
    report = audited(tmp_path, *tunnelled(outer, *plain()), policy=policy)
    inner = report.connections[report.connections["transport"] == "tcp"].iloc[0]
    assert inner["disposition"] == ("documented" if believed else "out_of_scope")
    assert ("plaintext" in set(report.findings["rule"])) is believed
    assert believed or (inner["authentication_verdict"], len(inner["paths"])) == ("not_applicable", 0)
