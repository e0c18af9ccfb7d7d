"""Numbers of the MySQL client/server protocol, from its public documentation (dev.mysql.com, MySQL Internals: Client/Server Protocol)."""

HEADER_BYTES = 4  # payload length (3, little endian), sequence number (1)
MAX_PAYLOAD_BYTES = 0xFFFFFF

PROTOCOL_10 = 10
PROTOCOL_9 = 9
ERR = 0xFF
OK = 0x00
EOF_OR_SWITCH = 0xFE
MORE_DATA = 0x01

SALT_BYTES = 8
SSL_REQUEST_BYTES = 32
"""Length of an SSLRequest: a HandshakeResponse41 cut off before the user name."""
OLD_SSL_REQUEST_BYTES = 5
"""The same of protocol 3.20: capabilities (2), max packet (3)."""

CLIENT_CONNECT_WITH_DB = 0x8
CLIENT_PROTOCOL_41 = 0x200
CLIENT_SSL = 0x800
CLIENT_SECURE_CONNECTION = 0x8000
CLIENT_PLUGIN_AUTH = 0x80000
CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA = 0x200000

NATIVE_PASSWORD = "mysql_native_password"  # noqa: S105  # the name of a method
OLD_PASSWORD = "mysql_old_password"  # noqa: S105  # the name of a method
CACHING_SHA2 = "caching_sha2_password"
FAST_AUTH_SUCCESS = 3
PERFORM_FULL_AUTH = 4

ERROR_CODES = range(1000, 5000)
"""Codes that servers send (MySQL 1000-1999, 3000-4999; MariaDB 1900-1999, 4000-4999)."""

CAPACITY_ERRORS = frozenset(
    {
        1040,
        1041,
        1053,
        1129,
        1130,
        1135,
        1152,
        1158,
        1159,
        1160,
        1161,
        1203,
        1205,
        1226,
        1317,
        1927,
        3032,
        3159,
        3168,
        4031,
    }
)
"""Errors that are not about the login: too many connections (1040, of a user 1203 and 1226), out of memory or of threads, a server that shuts
down or is offline, a host that is blocked (1129) or not served (1130), packets lost, time limits."""
COM_CHANGE_USER = 0x11
UNANSWERED = frozenset({0x01, 0x18, 0x19})
"""Commands without an answer: COM_QUIT, COM_STMT_SEND_LONG_DATA, COM_STMT_CLOSE."""

MAX_VERSION_BYTES = 128
MAX_NAME_BYTES = 256
