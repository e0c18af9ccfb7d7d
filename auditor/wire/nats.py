"""Words of the NATS client protocol, from docs.nats.io (reference, NATS protocols)."""

MAX_LINE_BYTES = 32_768
"""An INFO of a large cluster names many servers."""

ERRORS = {
    "authorization violation": "authorization_violation",
    "authentication timeout": "authentication_timeout",
    "authorization timeout": "authentication_timeout",
    "authentication expired": "authentication_expired",
    "user authentication expired": "authentication_expired",
    "user authentication revoked": "authentication_revoked",
    "account authentication expired": "authentication_expired",
    "secure connection - tls required": "tls_required",
    "tls handshake error": "tls_handshake",
    "unknown protocol operation": "unknown_operation",
    "parser error": "parser_error",
    "stale connection": "stale_connection",
    "maximum connections exceeded": "connections_exceeded",
    "slow consumer": "slow_consumer",
    "maximum payload violation": "payload_violation",
    "invalid client protocol": "invalid_protocol",
    "attempted to connect to route port": "route_port",
    "attempted to connect to leaf node port": "leaf_port",
}
"""What stands between the quotes of ``-ERR '...'``, in lower case; permission errors name a subject and are matched by their start."""

REFUSED = frozenset(
    {"authorization_violation", "authentication_timeout", "authentication_expired", "authentication_revoked"}
)
"""Those that turn a login away."""

CREDENTIALS = {"user": "user", "pass": "pass", "auth_token": "token", "jwt": "jwt", "nkey": "nkey"}
"""Key in CONNECT, and the word of evidence for it; the values are secrets."""

CLIENT_VERBS = frozenset({b"PUB", b"HPUB", b"SUB", b"UNSUB", b"PING", b"PONG", b"CONNECT"})
SERVER_VERBS = frozenset({b"INFO", b"MSG", b"HMSG", b"PING", b"PONG", b"+OK", b"-ERR"})
ROUTE_VERBS = frozenset({b"RS+", b"RS-", b"RMSG", b"HMSG", b"A+", b"A-", b"LS+", b"LS-", b"LMSG", b"INFO"})
"""Between servers of a cluster either side sends these."""

# S2 frames of compressed connections between servers (github.com/klauspost/compress, s2; the framing of Snappy).
S2_BEGIN = b"\xff\x06\x00\x00S2sTwO"
S2_HEADER_BYTES = 4  # kind, length (3, little endian)
S2_CHECK_BYTES = 4
S2_UNCOMPRESSED = 0x01
S2_PLAIN = frozenset({S2_UNCOMPRESSED, 0xFF, 0xFE})
"""Kinds that hide nothing: uncompressed data, the begin, padding."""
