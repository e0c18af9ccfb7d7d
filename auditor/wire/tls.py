"""Numbers of TLS: RFC 8446 (1.3), RFC 5246 (1.2) and before them RFC 4346, 2246, 6101 (SSL 3.0) and the SSL 2.0 hello of RFC 5246 appendix E.2."""

# Record layer, RFC 8446 section 5.1: type, legacy version (2), length (2).
RECORD_HEADER_BYTES = 5
CHANGE_CIPHER_SPEC = 20
ALERT = 21
HANDSHAKE = 22
APPLICATION_DATA = 23
MAX_RECORD_BYTES = 16_384 + 2_048
"""TLSCiphertext.length, RFC 5246 section 6.2.3 (RFC 8446 allows 256 on top, less)."""

# Handshake messages, RFC 8446 section 4 and RFC 5246 section 7.4: type, length (3).
MESSAGE_HEADER_BYTES = 4
HELLO_REQUEST = 0
CLIENT_HELLO = 1
SERVER_HELLO = 2
NEW_SESSION_TICKET = 4
CERTIFICATE = 11
SERVER_KEY_EXCHANGE = 12
CERTIFICATE_REQUEST = 13
SERVER_HELLO_DONE = 14
CERTIFICATE_VERIFY = 15
CLIENT_KEY_EXCHANGE = 16
KNOWN_MESSAGES = frozenset({0, 1, 2, 3, 4, 5, 6, 8, 11, 12, 13, 14, 15, 16, 20, 21, 22, 23, 24, 25, 67, 254})

# Extensions, https://www.iana.org/assignments/tls-extensiontype-values
EXT_SERVER_NAME = 0  # RFC 6066 section 3
EXT_GROUPS = 10  # RFC 8422 section 5.1.1
EXT_SIGNATURE_ALGORITHMS = 13  # RFC 8446 section 4.2.3
EXT_ALPN = 16  # RFC 7301
EXT_PADDING = 21  # RFC 7685
EXT_SESSION_TICKET = 35  # RFC 5077 section 3.2
EXT_PRE_SHARED_KEY = 41  # RFC 8446 section 4.2.11
EXT_EARLY_DATA = 42  # RFC 8446 section 4.2.10
EXT_SUPPORTED_VERSIONS = 43  # RFC 8446 section 4.2.1
EXT_COOKIE = 44  # RFC 8446 section 4.2.2
EXT_POST_HANDSHAKE_AUTH = 49  # RFC 8446 section 4.2.6

# SSL 2.0 (https://www-archive.mozilla.org/projects/security/pki/nss/ssl/draft02.html): a header of two bytes, or of three where the first
# bit is not set, and behind it a message of that length.
SSL2_CLIENT_MASTER_KEY = 2
SSL2_SERVER_HELLO = 4
SSL2_SERVER_HELLO_BYTES = 13
"""Header and fixed fields: type, session id hit, kind of certificate, version (2), lengths of certificate, cipher kinds and connection id (2 each)."""
SSL2_X509 = 1

SSL20 = 0x0002
SSL30 = 0x0300
TLS10 = 0x0301
TLS12 = 0x0303
TLS13 = 0x0304
DRAFT_MAJOR = 0x7F  # drafts of TLS 1.3, 0x7f00 | number of the draft

RANDOM_BYTES = 32
MAX_SESSION_ID_BYTES = 32
HELLO_RETRY_RANDOM = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""SHA-256 of "HelloRetryRequest": a ServerHello with this random asks for another ClientHello (RFC 8446 section 4.1.3)."""

VERSIONS = {
    SSL20: "SSL 2.0",
    SSL30: "SSL 3.0",
    TLS10: "TLS 1.0",
    0x0302: "TLS 1.1",
    TLS12: "TLS 1.2",
    TLS13: "TLS 1.3",
}

ALERT_LEVELS = {1: "warning", 2: "fatal"}

# https://www.iana.org/assignments/tls-parameters (TLS Alerts)
ALERTS = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    21: "decryption_failed",
    22: "record_overflow",
    30: "decompression_failure",
    40: "handshake_failure",
    41: "no_certificate",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    52: "too_many_cids_requested",
    60: "export_restriction",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    111: "certificate_unobtainable",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    114: "bad_certificate_hash_value",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
    121: "ech_required",
}

HTTP_ALPN = frozenset({"h2", "http/1.1", "http/1.0", "http/0.9"})
"""Names of HTTP over TLS, https://www.iana.org/assignments/tls-extensiontype-values (ALPN Protocol IDs)."""


def version_name(number: int) -> str:
    """Name of a protocol version; of a draft of 1.3 with its number; what has no name is given in hex."""
    if number >> 8 == DRAFT_MAJOR:
        return f"TLS 1.3 draft {number & 0xFF}"
    return VERSIONS.get(number) or f"0x{number:04X}"


def is_grease(number: int) -> bool:
    """Values that clients send to keep servers tolerant, RFC 8701 section 2."""
    return number & 0x0F0F == 0x0A0A and number >> 8 == number & 0xFF
