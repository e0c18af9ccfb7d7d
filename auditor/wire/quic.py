"""Numbers of QUIC: RFC 9000 (version 1), RFC 9001 (its protection), RFC 9369 (version 2) and the drafts that were deployed."""

# Long header, RFC 9000 section 17.2: form and type (1), version (4), and two connection ids, each behind its length (1).
LONG_HEADER = 0x80
FIXED_BIT = 0x40
MAX_CONNECTION_ID_BYTES = 20
INTEGRITY_TAG_BYTES = 16
"""Of a Retry packet, section 17.2.5."""

VERSION_1 = 0x00000001
VERSION_2 = 0x6B3343CF
DRAFT_MAJOR = 0xFF0000
FIRST_DRAFT, LAST_DRAFT = 0xFF000017, 0xFF000022
"""Drafts 23 to 34: their long headers are those of version 1."""

INITIAL, ZERO_RTT, HANDSHAKE, RETRY = range(4)
"""Types of long header packets as version 1 numbers them; version 2 counts one further (RFC 9369 section 3.2)."""

# Frames that an Initial packet may hold, RFC 9000 sections 12.4 and 19.
PADDING = 0x00
PING = 0x01
ACK = 0x02
ACK_ECN = 0x03
CRYPTO = 0x06
CONNECTION_CLOSE = 0x1C

# Salts of the Initial secrets: RFC 9001 section 5.2, RFC 9369 section 3.3.1, and section 5.2 of draft-ietf-quic-tls-23 and -29.
_SALT_1 = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
_SALT_2 = bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9")
_SALT_DRAFT_29 = bytes.fromhex("afbfec289993d24c9e9786f19c6111e04390a899")
_SALT_DRAFT_23 = bytes.fromhex("c3eef712c72ebb5a11a7d2432bb46365bef9f502")


def is_known(version: int) -> bool:
    """Whether packets of this version are laid out as described here."""
    return version in {VERSION_1, VERSION_2} or FIRST_DRAFT <= version <= LAST_DRAFT


def salt(version: int) -> bytes:
    """Salt that the secrets of Initial packets are derived with; it is public."""
    if version == VERSION_2:
        return _SALT_2
    if version >> 8 == DRAFT_MAJOR and version & 0xFF < 33:
        return _SALT_DRAFT_29 if version & 0xFF >= 29 else _SALT_DRAFT_23
    return _SALT_1


def label(version: int, name: str) -> bytes:
    """Label of a key, RFC 9001 section 5.1 and RFC 9369 section 3.3.2; ``name``: key, iv, hp."""
    return (b"quicv2 " if version == VERSION_2 else b"quic ") + name.encode()


def packet_type(version: int, first: int) -> int:
    """Type of a long header packet in the numbers of version 1."""
    kind = first >> 4 & 3
    return (kind - 1) % 4 if version == VERSION_2 else kind


def version_name(version: int) -> str:
    """1, 2, draft-29."""
    if version >> 8 == DRAFT_MAJOR:
        return f"draft-{version & 0xFF}"
    return {VERSION_1: "1", VERSION_2: "2"}.get(version, f"0x{version:08X}")
