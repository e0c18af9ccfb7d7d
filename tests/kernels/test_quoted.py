"""What ICMP errors quote, against a reading with the standard library."""

from __future__ import annotations

import ipaddress
import struct
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from auditor.kernels.quoted import quotes
from auditor.model.packets import PACKET
from auditor.model.quoted import QUOTE


def v4(proto: int, sport: int, dport: int, *, src: int = 0x0A000801, dst: int = 0x0A320903, fragment: int = 0) -> bytes:
    head = struct.pack(">BBHHHBBHII", 0x45, 0, 40, 1, fragment, 64, proto, 0, src, dst)
    return head + struct.pack(">HHI", sport, dport, 7)


def v6(proto: int, sport: int, dport: int) -> bytes:
    src, dst = (ipaddress.IPv6Address(text).packed for text in ("2001:db8::1", "2001:db8::2"))
    return struct.pack(">IHBB", 6 << 28, 20, proto, 64) + src + dst + struct.pack(">HHI", sport, dport, 7)


def packets(*given: tuple[int, int, int, bytes]) -> tuple[np.ndarray, np.ndarray]:
    """(protocol, type, code, what is quoted) of each, behind eight bytes of ICMP header that say an MTU of 1400."""
    rows = np.zeros(len(given), PACKET)
    data = b""
    for k, (proto, kind, code, quoted) in enumerate(given):
        data += struct.pack(">BBHHH", kind, code, 0, 0, 1400)
        row = rows[k]
        row["proto"], row["src_port"], row["dst_port"] = proto, kind, code
        row["src_lo"], row["dst_lo"] = 0xFFFF_0A320101, 0xFFFF_0A000801
        row["payload_at"], row["payload_bytes"], row["frame"], row["ts_ns"] = len(data), len(quoted), k + 1, 1_000 + k
        data += quoted
    return rows, np.frombuffer(data + b"\0", np.uint8)


def kept(*given: tuple[int, int, int, bytes], size: int = 64) -> tuple[np.ndarray, int]:
    table = np.zeros(size, QUOTE)
    refused = quotes(*packets(*given), 5 << 40, table)
    return table[table["count"] > 0], refused


def test_the_header_of_the_quoted_packet_and_who_says_what_of_it():
    (one,), refused = kept((1, 3, 13, v4(6, 40_000, 8443)))
    assert refused == 0
    assert (one["src_lo"], one["dst_lo"]) == (0xFFFF_0A000801, 0xFFFF_0A320903)
    assert (one["src_port"], one["dst_port"], one["proto"]) == (40_000, 8443, 6)
    assert (one["router_lo"], one["host_lo"]) == (0xFFFF_0A320101, 0xFFFF_0A000801)
    assert (one["icmp"], one["kind"], one["code"], one["mtu"], one["count"]) == (1, 3, 13, 1400, 1)
    assert (one["frame"], one["ts_ns"]) == ((5 << 40) + 1, 1_000)


def test_ipv6_and_transports_without_ports():
    (six,), _ = kept((58, 2, 0, v6(6, 1, 443)))
    assert (int(six["src_hi"]) << 64 | int(six["src_lo"])) == int(ipaddress.IPv6Address("2001:db8::1"))
    assert (six["dst_port"], six["mtu"]) == (443, 1400)
    (esp,), _ = kept((1, 3, 2, v4(50, 1, 2)))
    assert (esp["proto"], esp["src_port"], esp["dst_port"]) == (50, 0, 0)


def test_what_is_no_error_or_quotes_no_beginning_is_left():
    echo, fragment, short = (1, 8, 0, v4(6, 1, 2)), (1, 3, 1, v4(6, 1, 2, fragment=9)), (1, 3, 1, v4(6, 1, 2)[:21])
    tcp, nothing, other = (6, 3, 1, v4(6, 1, 2)), (1, 3, 1, b""), (1, 3, 1, b"\x75" * 60)
    found, refused = kept(echo, fragment, short, tcp, nothing, other)
    assert (len(found), refused) == (0, 0)


def test_equal_errors_share_an_entry_and_what_finds_no_room_is_counted():
    (one,), refused = kept(*[(1, 3, 1, v4(6, 1, 2))] * 5)
    assert (one["count"], one["frame"] & 0xFF, refused) == (5, 1, 0)
    found, refused = kept(*[(1, 3, 1, v4(6, port, 2)) for port in range(40)], size=8)
    assert (len(found), refused) == (8, 32)


@given(
    st.lists(
        st.tuples(
            st.sampled_from((1, 58, 6, 17)), st.integers(0, 14), st.integers(0, 15),
            st.one_of(st.binary(max_size=80), st.builds(v4, st.integers(0, 255), st.integers(0, 3), st.integers(0, 3))),
        ),
        max_size=30,
    )
)  # fmt: skip
def test_any_bytes_give_entries_whose_counts_add_up(given):
    found, refused = kept(*given)
    wanted = Counter(bool(_plain(*each)) for each in given)[True]
    assert int(found["count"].sum()) + refused == wanted


def _plain(proto: int, kind: int, code: int, quoted: bytes) -> bool:
    """Whether this is an error that quotes the beginning of a packet."""
    if not (proto == 1 and kind in (3, 4, 5, 11, 12)) and not (proto == 58 and 1 <= kind <= 4):
        return False
    version = quoted[0] >> 4 if quoted else 0
    if version == 4 and len(quoted) >= 20 and not struct.unpack(">H", quoted[6:8])[0] & 0x1FFF:
        head, inner = (quoted[0] & 15) * 4, quoted[9]
    elif version == 6 and len(quoted) >= 40:
        head, inner = 40, quoted[6]
    else:
        return False
    return inner not in (6, 17, 132) or (head >= 20 and len(quoted) >= head + 4)
