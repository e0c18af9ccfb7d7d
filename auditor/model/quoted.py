"""What ICMP errors quote, an entry for each router, connection and kind of error."""

from __future__ import annotations

import numpy as np

QUOTE = np.dtype(
    [
        ("router_hi", np.uint64),  # sender of the error, 128 bits; IPv4 is ::ffff:a.b.c.d
        ("router_lo", np.uint64),
        ("host_hi", np.uint64),  # receiver
        ("host_lo", np.uint64),
        ("src_hi", np.uint64),  # of the packet that it quotes
        ("src_lo", np.uint64),
        ("dst_hi", np.uint64),
        ("dst_lo", np.uint64),
        ("ts_ns", np.int64),  # of the first
        ("frame", np.int64),  # its frame, with the capture index above FRAME_BITS
        ("count", np.int64),  # 0: no entry
        ("src_port", np.uint16),  # 0 where the transport has none
        ("dst_port", np.uint16),
        ("mtu", np.uint16),  # of the next link, where the packet was too big
        ("icmp", np.uint8),  # 1 or 58
        ("kind", np.uint8),
        ("code", np.uint8),
        ("proto", np.uint8),  # of the quoted packet
        ("inside", np.uint8),  # 1: the error came in a tunnel, and speaks of what is in one
    ],
    align=True,
)

QUOTES = 4_096
"""So many are kept of one capture; a power of two."""

ICMP_ERROR = "icmp.error"
"""Kind of evidence: ICMP errors about a connection, and who sent them."""
