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

# Encrypted packets (section 6): what their lengths are made of, by the names that KEXINIT negotiates.

CHACHA = "chacha20-poly1305@openssh.com"
GCM = "-gcm@openssh.com"
ETM = "-etm@openssh.com"
AEAD = (GCM, CHACHA)
"""Ciphers that bring their own MAC; how their names end."""
AEAD_TAG_BYTES = 16
LENGTH_BYTES = 4
SMALL_BLOCKS = ("chacha20", "3des", "blowfish", "cast128", "arcfour", "idea", "des")
"""Ciphers (how their names begin) with blocks of 8 bytes; the others have 16."""
MAC_BYTES = {
    "hmac-sha1": 20,
    "hmac-sha1-96": 12,
    "hmac-md5": 16,
    "hmac-md5-96": 12,
    "hmac-ripemd160": 20,
    "hmac-sha2-256": 32,
    "hmac-sha2-512": 64,
    "hmac-sha2-256-96": 12,
    "hmac-sha2-512-96": 12,
    "umac-64": 8,
    "umac-128": 16,
}
"""Tags, by names without ``-etm`` and what follows ``@``."""
LATE_COMPRESSION = frozenset({"none", "zlib@openssh.com"})
"""Compression that starts after a successful login."""

SERVICE_BYTES = 17
"""Payload of SERVICE_REQUEST and SERVICE_ACCEPT for ssh-userauth: number, and a name of 12 with its length (section 10)."""
EXTENSIONS_BYTES = 80
"""The least payload of an EXT_INFO that names algorithms for signatures (RFC 8308 section 3.1)."""
SUCCESS_BYTES = 1
"""Payload of USERAUTH_SUCCESS: its number (RFC 4252 section 5.1)."""
EMPTY_IGNORE_BYTES = 5
"""Payload of an SSH_MSG_IGNORE that holds nothing; a USERAUTH_FAILURE that leaves no method has one more."""
CHANNEL_ANSWER_BYTES = 5
"""Payload of CHANNEL_SUCCESS, CHANNEL_EOF and CHANNEL_CLOSE: number and channel (RFC 4254 section 5.3)."""
BANNER_BYTES = 10
"""Payload of a USERAUTH_BANNER of one character: number, text and language with their lengths."""
LONGEST_PLAIN_NONE = 43
"""Payload of a USERAUTH_REQUEST of method none is 31 bytes and the user's name; a password's 40, the name and the password: up to this, none fits
and a password of three does not."""
CONFIRMATION_BYTES = 17
"""Payload of CHANNEL_OPEN_CONFIRMATION (RFC 4254 section 5.1)."""
HOST_KEYS_BYTES = 85
"""The least payload of hostkeys-00@openssh.com, which OpenSSH sends after a login."""

BEGIN_WITH_NONE = ("OpenSSH", "Go", "dropbear", "PuTTY", "AsyncSSH", "JSCH", "ssh2js", "libssh2")
"""Clients (how their software is named) that ask with method none first, to learn which others there are."""
MAY_BEGIN_WITH_NONE = ("libssh_", "libssh-")
"""A library that leaves it to its programs."""
IGNORES_FIRST = "AsyncSSH"
"""Sends an empty SSH_MSG_IGNORE before every packet of authentication."""
ROUNDS_UP = "dropbear"
"""Sends no packet shorter than 16 bytes without its tag (section 6), which others do with blocks of 8."""
