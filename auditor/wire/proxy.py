"""The PROXY protocol, versions 1 and 2: a proxy's header about the client, before the client's own bytes.

Source: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.
"""

# Version 1, section 2.1: one line of text.
V1_START = b"PROXY "
V1_MAX_BYTES = 107
"""The longest line, CRLF included."""

# Version 2, section 2.2: signature (12), version and command, family and transport, length of what follows (2).
V2_START = b"\r\n\r\n\0\r\nQUIT\n"
V2_COMMAND = 12
V2_FAMILY = 13
V2_LENGTH = 14
V2_BYTES = 16
V2_LOCAL = 0x20
"""LOCAL: the proxy's own connection; its addresses have no meaning."""
V2_PROXY = 0x21
V2_ADDRESS_BYTES = {1: 4, 2: 16}
"""By address family (the higher four bits): IPv4, IPv6. Two addresses, then two ports of two bytes."""
