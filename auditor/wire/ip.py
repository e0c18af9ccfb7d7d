"""IPv4 (RFC 791), IPv6 and its extension headers (RFC 8200), and what they carry (IANA protocol numbers)."""

# -- IPv4, RFC 791 section 3.1 ------------------------------------------------------------------------------------------------------
V4_TOTAL_LENGTH = 2
V4_ID = 4
V4_FRAGMENT = 6
V4_TTL = 8
V4_PROTOCOL = 9
V4_SRC = 12
V4_DST = 16
V4_MIN_BYTES = 20
V4_MORE_FRAGMENTS = 0x2000
V4_OFFSET_MASK = 0x1FFF
V4_MAPPED = 0xFFFF_0000_0000
"""Prefix of the 32 bits of an IPv4 address in an IPv6 address (RFC 4291 section 2.5.5.2)."""

# -- IPv6, RFC 8200 section 3 -------------------------------------------------------------------------------------------------------
V6_PAYLOAD_LENGTH = 4
V6_NEXT_HEADER = 6
V6_HOP_LIMIT = 7
V6_SRC = 8
V6_DST = 24
V6_BYTES = 40

# -- IPv6 extension headers, RFC 8200 section 4; the form that all newer ones have: RFC 6564 -----------------------------------------
EXT_NEXT_HEADER = 0
EXT_LENGTH = 1  # in words of eight bytes, the first not counted
EXT_MIN_BYTES = 8
FRAGMENT_OFFSET = 2
FRAGMENT_ID = 4
FRAGMENT_BYTES = 8
FRAGMENT_OFFSET_MASK = 0xFFF8
FRAGMENT_MORE = 1
AH_LENGTH = 1  # in words of four bytes, less two: RFC 4302 section 2.2
AH_MIN_BYTES = 12

# -- protocols ----------------------------------------------------------------------------------------------------------------------
PROTO_HOPOPT = 0
PROTO_ICMP = 1
PROTO_IPV4 = 4
PROTO_TCP = 6
PROTO_UDP = 17
PROTO_DCCP = 33
PROTO_IPV6 = 41
PROTO_ROUTING = 43
PROTO_FRAGMENT = 44
PROTO_GRE = 47
PROTO_ESP = 50
PROTO_AH = 51
PROTO_ICMPV6 = 58
PROTO_NONE = 59
PROTO_DSTOPTS = 60
PROTO_IPIP = 94
PROTO_ETHERIP = 97
PROTO_SCTP = 132
PROTO_MOBILITY = 135
PROTO_UDPLITE = 136
PROTO_MPLS = 137
PROTO_HIP = 139
PROTO_SHIM6 = 140

FRAGMENT_TIMEOUT_NS = 30_000_000_000
"""How long a datagram may be in pieces; RFC 791 section 3.2 proposes 15 s, RFC 8200 section 4.5 60 s, Linux waits 30 s."""
