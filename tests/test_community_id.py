"""Community ID v1 against the vectors that its authors publish.

Values: https://github.com/corelight/community-id-spec, ``baseline/baseline_deflt.json`` (seed 0, base64). For ICMP the first number is the
message's type; the second one is the type that answers it, or, where none does, the code.
"""

from __future__ import annotations

import numpy as np
import pytest

from auditor.conntrack import Tracker, build_table, decide_originators
from auditor.inspectors._examine import Examiner
from tests.conversation import ACK, SYN, Wire

ANSWERED = {1: {0, 8, 13, 14, 15, 16, 9, 10, 17, 18}, 58: {*range(128, 137), 139, 140, 144, 145}}
VECTORS = [
    # ICMPv6: neighbours, unreachable and time exceeded (one way), echo, router
    (58, "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 135, 136, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
    (58, "fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da", 136, 135, "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
    (58, "fe80::260:97ff:fe07:69ea", "fe80::200:86ff:fe05:80da", 135, 136, "1:zavyT/cezQr1fmImYCwYnMXbgck="),
    (58, "fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea", 136, 135, "1:zavyT/cezQr1fmImYCwYnMXbgck="),
    (58, "3ffe:501:1800:2345::2", "3ffe:507:0:1:200:86ff:fe05:80da", 3, 0, "1:2ObVBgIn28oZvibYZhZMBgh7WdQ="),
    (58, "3ffe:501:410:0:2c0:dfff:fe47:33e", "3ffe:507:0:1:200:86ff:fe05:80da", 1, 4, "1:hLZd0XGWojozrvxqE0dWB1iM6R0="),
    (58, "3ffe:507:0:1:200:86ff:fe05:80da", "3ffe:501:0:1001::2", 128, 129, "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="),
    (58, "3ffe:501:0:1001::2", "3ffe:507:0:1:200:86ff:fe05:80da", 129, 128, "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg="),
    (58, "fe80::200:86ff:fe05:80da", "ff02::2", 133, 134, "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0="),
    (58, "fe80::260:97ff:fe07:69ea", "ff02::1", 134, 133, "1:pkvHqCL88/tg1k4cPigmZXUtL00="),
    # ICMP: echo, time exceeded (one way)
    (1, "192.168.0.89", "192.168.0.1", 8, 0, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    (1, "192.168.0.1", "192.168.0.89", 0, 8, "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    (1, "10.0.0.1", "10.0.0.2", 11, 0, "1:YHxtAirCG//0OzkcVAukqKQN9xM="),
    # TCP over IPv6 and IPv4, SCTP, UDP, and RSVP, which has no ports
    (
        *(6, "2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a"),
        *(63943, 25, "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="),
    ),
    (
        *(6, "2607:f8b0:400c:c03::1a", "2001:470:e5bf:dead:4957:2174:e82c:4887"),
        *(25, 63943, "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="),
    ),
    (132, "192.168.170.8", "192.168.170.56", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
    (132, "192.168.170.56", "192.168.170.8", 7, 7, "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
    (6, "128.232.110.120", "66.35.250.204", 34855, 80, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    (6, "66.35.250.204", "128.232.110.120", 80, 34855, "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
    (17, "192.168.1.52", "8.8.8.8", 54585, 53, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
    (17, "8.8.8.8", "192.168.1.52", 53, 54585, "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
    (46, "10.1.12.1", "10.1.12.2", None, None, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
    (46, "10.1.12.2", "10.1.12.1", None, None, "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw="),
]


def ids(wire: Wire) -> list[str]:
    examiner = Examiner()
    tracker = Tracker(examiner)
    tracker.feed(*wire.packets())
    part = tracker.finish()
    table = build_table(part, *decide_originators(part), examiner.applications)
    return [each.decode() for each in np.asarray(table.community_id).tolist()]


@pytest.mark.parametrize(("proto", "src", "dst", "first", "second", "expected"), VECTORS)
def test_published_vectors(
    proto: int, src: str, dst: str, first: int | None, second: int | None, expected: str
) -> None:
    if proto in ANSWERED and first in ANSWERED[proto]:
        second = 0  # what stands in the packet is the code
    wire = Wire()
    wire.add(src=src, dst=dst, sport=first or 0, dport=second or 0, proto=proto, flags=SYN if proto == 6 else 0)
    assert ids(wire) == [expected]


@pytest.mark.parametrize(("proto", "src", "dst", "first", "second", "expected"), VECTORS[13:21])
def test_both_directions_have_the_one_id(
    proto: int, src: str, dst: str, first: int, second: int, expected: str
) -> None:
    wire = Wire()
    wire.add(src=src, dst=dst, sport=first, dport=second, proto=proto, flags=SYN, seq=7)
    wire.add(src=dst, dst=src, sport=second, dport=first, proto=proto, flags=SYN | ACK, seq=9, ack=8)
    assert ids(wire) == [expected]


def test_echo_and_its_reply_have_the_one_id() -> None:
    wire = Wire()
    wire.add(src="192.168.0.89", dst="192.168.0.1", sport=8, dport=0, proto=1, data=b"ping")
    wire.add(src="192.168.0.1", dst="192.168.0.89", sport=0, dport=0, proto=1, data=b"ping")
    assert ids(wire) == ["1:X0snYXpgwiv9TZtqg64sgzUn6Dk="]
