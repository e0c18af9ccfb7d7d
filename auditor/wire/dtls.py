"""Numbers of DTLS: RFC 6347 (1.2), RFC 4347 (1.0) and RFC 9147 (1.3); what is the same as in TLS stands in ``tls``."""

# Record header, RFC 6347 section 4.1: type, version (2), epoch (2), sequence number (6), length (2).
RECORD_HEADER_BYTES = 13
RECORD_VERSION, RECORD_EPOCH, RECORD_LENGTH = 1, 3, 11

# Handshake header, section 4.2.2: type, length (3), message_seq (2), fragment_offset (3), fragment_length (3).
MESSAGE_HEADER_BYTES = 12
HELLO_VERIFY_REQUEST = 3

DTLS10 = 0xFEFF
DTLS12 = 0xFEFD
DTLS13 = 0xFEFC

VERSIONS = {DTLS10: "DTLS 1.0", DTLS12: "DTLS 1.2", DTLS13: "DTLS 1.3"}

TLS_OF = {DTLS10: 0x0302, DTLS12: 0x0303, DTLS13: 0x0304}
"""The version of TLS that each is made of: DTLS 1.0 of TLS 1.1 (RFC 4347 section 1)."""

UNIFIED_MASK, UNIFIED = 0xE0, 0x20
"""First byte of an encrypted record of 1.3, RFC 9147 section 4."""
