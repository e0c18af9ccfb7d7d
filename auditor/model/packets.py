"""Decoded headers, a row an IP packet: what decode hands to the connection table.

A tunnelled frame gives a row for each IP layer, the outer first. An IP fragment gives a row of its connection: the payload of
a later fragment of a TCP segment is a stream segment like any other, so nothing is reassembled twice.
"""

from __future__ import annotations

import numpy as np

PACKET = np.dtype(
    [
        ("ts_ns", np.int64),
        ("frame", np.int64),  # number in its capture, from 1
        ("src_hi", np.uint64),  # addresses as 128 bits in network order; IPv4 is ::ffff:a.b.c.d
        ("src_lo", np.uint64),
        ("dst_hi", np.uint64),
        ("dst_lo", np.uint64),
        ("payload_at", np.int64),  # where the transport payload starts in the batch's buffer
        ("payload_bytes", np.int32),  # captured
        ("payload_wire_bytes", np.int32),  # by the IP header's lengths: more than captured where the snaplen cut
        ("ip_bytes", np.int32),  # the IP packet on the wire, header included
        ("seq", np.uint32),  # TCP only
        ("ack", np.uint32),
        (
            "tunnel_id",
            np.uint32,
        ),  # VNI or the like of the innermost tunnel around this packet, where both directions share it; else 0
        (
            "mark",
            np.uint32,
        ),  # TCP: over the options; odd where they hold time stamps, which tell a segment from its retransmission
        ("outer", np.int32),  # row of the enclosing packet in the same array, or -1
        ("interface", np.int32),
        ("src_port", np.uint16),  # ICMP: the type
        ("dst_port", np.uint16),  # ICMP: the code
        ("window", np.uint16),
        ("ip_id", np.uint16),
        ("urgent", np.uint16),  # TCP: the urgent pointer where URG is set, else 0
        (
            "ip_version",
            np.uint8,
        ),  # 4, 6; 0 where the frame has no IP packet, or a fragment is all header (such a row only counts)
        ("proto", np.uint8),  # IANA protocol number after extension headers
        ("flags", np.uint8),  # TCP flags, RFC 9293 section 3.1
        ("tunnel", np.uint8),  # kind of the innermost tunnel around this packet: a TUNNEL_ code, 0 for none
        ("depth", np.uint8),  # how many IP layers are around it
        ("stop", np.uint8),  # a STOP_ code: why decoding ended early, 0 for not at all
        ("fragment", np.uint8),  # 0 whole, 1 first fragment, 2 later fragment
        ("ttl", np.uint8),
        (
            "header_bytes",
            np.uint8,
        ),  # TCP: of its header, which stands before the payload; 0: not all of it was captured
        ("sender", np.uint32),  # over the link address it was sent from and its VLAN; 0: the link layer is not Ethernet
    ],
    align=True,
)

MAPPED = 1 << 31
"""Bit of ``tunnel_id``: IPv6 with an address of IPv4 (``::ffff:a.b.c.d``), which belongs into programs and not on the wire (RFC 4291 section 2.5.5.2).
Its ends look like those of an IPv4 connection, which it must not join. Identifiers of tunnels have fewer bits."""

STOP_NONE = 0
STOP_TRUNCATED = 1
"""The captured bytes end inside a header."""
STOP_MALFORMED = 2
"""A header contradicts itself (length below its minimum, version nibble, ...)."""
STOP_UNSUPPORTED_LINK = 3
STOP_NOT_IP = 4
"""ARP, STP and the like: counted, no connection."""
STOP_DEPTH = 5
"""Nested deeper than the limit."""
STOP_FRAGMENT = 6
"""A later fragment whose first was never seen."""
STOP_UNREAD = 7
"""In an encapsulation that is not read; ``dst_port`` is its EtherType."""

STOP_NAMES = {
    STOP_TRUNCATED: "header cut off",
    STOP_MALFORMED: "malformed header",
    STOP_UNSUPPORTED_LINK: "link type not supported",
    STOP_NOT_IP: "not IP",
    STOP_DEPTH: "nested too deep",
    STOP_FRAGMENT: "fragment without its first",
    STOP_UNREAD: "encapsulation not read",
}

TUNNEL_NONE = 0
TUNNEL_GRE = 1
TUNNEL_ERSPAN = 2
TUNNEL_VXLAN = 3
TUNNEL_GENEVE = 4
TUNNEL_IPIP = 5
TUNNEL_GTP = 6
TUNNEL_TEREDO = 7
TUNNEL_L2TP = 8

TUNNEL_NAMES = {
    TUNNEL_GRE: "gre",
    TUNNEL_ERSPAN: "erspan",
    TUNNEL_VXLAN: "vxlan",
    TUNNEL_GENEVE: "geneve",
    TUNNEL_IPIP: "ip-in-ip",
    TUNNEL_GTP: "gtp",
    TUNNEL_TEREDO: "teredo",
    TUNNEL_L2TP: "l2tp",
}
