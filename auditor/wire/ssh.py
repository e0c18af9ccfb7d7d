"""Numbers of SSH: RFC 4253 (transport), RFC 4250 (assigned numbers)."""

BANNER = b"SSH-"
MAX_BANNER_BYTES = 255
"""Identification string with CR LF, RFC 4253 section 4.2."""
MAX_LINES_BEFORE_BANNER = 64
"""A server may send other lines first (section 4.2); more than so many are no SSH server."""

PACKET_HEADER_BYTES = 5  # packet_length (4), padding_length (1), section 6
MIN_PADDING_BYTES = 4
MAX_PACKET_BYTES = 262_144
COOKIE_BYTES = 16

MSG_DISCONNECT = 1
MSG_KEXINIT = 20
MSG_NEWKEYS = 21
MSG_KEX_INIT = 30
"""From the client: KEXDH_INIT (section 8), ECDH_INIT (RFC 5656); KEX_DH_GEX_REQUEST_OLD (RFC 4419)."""
MSG_KEX_REPLY = 31
"""From the server: KEXDH_REPLY, ECDH_REPLY; KEX_DH_GEX_GROUP."""
MSG_GEX_INIT = 32
MSG_GEX_REPLY = 33
MSG_GEX_REQUEST = 34
CLIENT_MESSAGES = frozenset({MSG_KEX_INIT, MSG_GEX_INIT, MSG_GEX_REQUEST})
SERVER_MESSAGES = frozenset({MSG_KEX_REPLY, MSG_GEX_REPLY})
