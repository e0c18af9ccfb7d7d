"""The header of IKE: RFC 7296 section 3.1 (version 2), RFC 2408 section 3.1 (version 1); beside ESP on port 4500: RFC 3948 section 2."""

HEADER_BYTES = 28
INITIATOR_SPI_BYTES = 8
VERSION = 17
EXCHANGE = 18
FLAGS = 19
LENGTH = 24
MAX_BYTES = 65_535
NO_FLAGS = {"IKEv1": 0xF8, "IKEv2": 0xC7}
"""Bits that are zero."""
VERSIONS = {0x10: "IKEv1", 0x20: "IKEv2"}
EXCHANGES = {
    "IKEv1": {2: "main mode", 4: "aggressive mode", 5: "informational", 32: "quick mode", 33: "new group mode"},
    "IKEv2": {34: "IKE_SA_INIT", 35: "IKE_AUTH", 36: "CREATE_CHILD_SA", 37: "INFORMATIONAL", 38: "IKE_SESSION_RESUME"},
}
NAT_PORT = 4500
"""RFC 3948: IKE and ESP in UDP."""
NO_ESP = b"\0\0\0\0"
"""Before IKE on port 4500, where ESP has its index, which is never 0."""
KEEPALIVE = b"\xff"
"""RFC 3948 section 2.3."""
ESP_HEADER_BYTES = 8
"""Security parameters index, sequence number: RFC 4303 section 2."""
ESP_MIN_BYTES = 28
"""The least that an authenticated packet has: header, a vector or counter of 8, padding to 4, a check value of 8."""
ESP_LEAST_SPI = 256
"""Smaller ones are reserved."""
ESP_LIKELY_PACKETS = 1 << 28
"""Sequence numbers begin at 1, and keys are changed before they come so far."""
