"""The classic capture file: a file header of 24 bytes, then records, each a header and the captured bytes.

Source: draft-ietf-opsawg-pcap (sections 4 and 5) and pcap-savefile(5); link types: https://www.tcpdump.org/linktypes.html.
Every field has the byte order of the machine that wrote the file; the magic number tells which. Lengths and seconds are
unsigned, so time stamps reach until 2106.
"""

from __future__ import annotations

from typing import Final

# Magic numbers, section 4. As a number in the file's own byte order.
MAGIC_MICROS: Final = 0xA1B2C3D4
MAGIC_NANOS: Final = 0xA1B23C4D
MAGIC_MODIFIED: Final = 0xA1B2CD34
"""Kuznetzov's patched libpcap: microseconds, and eight more bytes in each record header."""
MAGIC_IXIA_HARDWARE: Final = 0x1C0001AC
"""Ixia's lcap, its time stamps made by hardware: as usual, but the size of all records follows the file header (Wireshark, libpcap.h)."""
MAGIC_IXIA_SOFTWARE: Final = 0x1C0001AB
"""The same with time stamps made by software; both are microseconds, as capinfos reads them."""
MAGICS: Final = (MAGIC_MICROS, MAGIC_NANOS, MAGIC_MODIFIED, MAGIC_IXIA_HARDWARE, MAGIC_IXIA_SOFTWARE)
IXIA: Final = frozenset({MAGIC_IXIA_HARDWARE, MAGIC_IXIA_SOFTWARE})
IXIA_SIZE_BYTES: Final = 4
FOREIGN_MAGICS: Final = (0xA1B234CD, 0xA12B3C4D, 0xA1E2CB12)
"""Variants of pcap whose records are not documented (libpcap, sf-pcap.c: FMESQUITA, NAVTEL; netsniff-ng: BORKMANN); they are named and not read."""

# File header, section 4: offsets of its fields.
FILE_MAGIC: Final = 0
FILE_MAJOR: Final = 4
FILE_MINOR: Final = 6
FILE_SNAPLEN: Final = 16
FILE_LINKTYPE: Final = 20
FILE_HEADER_BYTES: Final = 24

VERSION_MAJOR: Final = 2
VERSION_MINOR: Final = 4
VERSION_MINOR_SWAPPED_BELOW: Final = 3
"""Before version 2.3 the record header had the original length before the captured one (libpcap, sf-pcap.c)."""
VERSION_MINOR_EITHER: Final = 3
"""Version 2.3 had them in either order; the captured length is the smaller one."""
VERSION_DG_UX: Final = (543, 0)
"""The DG/UX tcpdump's version; its lengths are swapped."""

# The last word of the file header, section 4: link type, reserved bits, and what is known of the frame check sequence.
LINKTYPE_MASK: Final = 0x0000_FFFF
LINKTYPE_RESERVED_MASK: Final = 0x03FF_0000
FCS_PRESENT: Final = 0x0400_0000
FCS_LENGTH_SHIFT: Final = 28
"""The four bits above hold the length in units of 16 bits (libpcap, LT_FCS_LENGTH)."""

# Record header, section 5.
RECORD_SECONDS: Final = 0
RECORD_FRACTION: Final = 4
RECORD_CAPLEN: Final = 8
RECORD_WIRELEN: Final = 12
RECORD_HEADER_BYTES: Final = 16
MODIFIED_RECORD_HEADER_BYTES: Final = 24
"""Behind the lengths: interface index (4), protocol (2), packet type (1), padding (1)."""

# LINKTYPE_ numbers that a decoder here knows, or that are common enough to be named in a message.
LINKTYPE_NULL: Final = 0
LINKTYPE_ETHERNET: Final = 1
LINKTYPE_SLIP: Final = 8
LINKTYPE_PPP: Final = 9
LINKTYPE_FDDI: Final = 10
LINKTYPE_RAW_BSD: Final = 12
"""DLT_RAW as most systems number it; written into files by mistake for LINKTYPE_RAW."""
LINKTYPE_RAW_OPENBSD: Final = 14
LINKTYPE_PPP_HDLC: Final = 50
LINKTYPE_PPP_ETHER: Final = 51
LINKTYPE_ATM_RFC1483: Final = 100
LINKTYPE_RAW: Final = 101
LINKTYPE_C_HDLC: Final = 104
LINKTYPE_IEEE802_11: Final = 105
LINKTYPE_FRELAY: Final = 107
LINKTYPE_LOOP: Final = 108
LINKTYPE_LINUX_SLL: Final = 113
LINKTYPE_PFLOG: Final = 117
LINKTYPE_IEEE802_11_RADIOTAP: Final = 127
LINKTYPE_USER0: Final = 147
LINKTYPE_IPV4: Final = 228
LINKTYPE_IPV6: Final = 229
LINKTYPE_NFLOG: Final = 239
LINKTYPE_NETLINK: Final = 253
LINKTYPE_LINUX_SLL2: Final = 276

LINKTYPE_NAMES: Final[dict[int, str]] = {
    LINKTYPE_NULL: "BSD loopback",
    LINKTYPE_ETHERNET: "Ethernet",
    LINKTYPE_SLIP: "SLIP",
    LINKTYPE_PPP: "PPP",
    LINKTYPE_FDDI: "FDDI",
    LINKTYPE_RAW_BSD: "raw IP",
    LINKTYPE_RAW_OPENBSD: "raw IP",
    LINKTYPE_PPP_HDLC: "PPP in HDLC framing",
    LINKTYPE_PPP_ETHER: "PPPoE",
    LINKTYPE_ATM_RFC1483: "ATM (RFC 1483)",
    LINKTYPE_RAW: "raw IP",
    LINKTYPE_C_HDLC: "Cisco HDLC",
    LINKTYPE_IEEE802_11: "IEEE 802.11",
    LINKTYPE_FRELAY: "Frame Relay",
    LINKTYPE_LOOP: "OpenBSD loopback",
    LINKTYPE_LINUX_SLL: "Linux cooked",
    LINKTYPE_PFLOG: "OpenBSD pflog",
    LINKTYPE_IEEE802_11_RADIOTAP: "IEEE 802.11 with radiotap",
    LINKTYPE_USER0: "private use",
    LINKTYPE_IPV4: "raw IPv4",
    LINKTYPE_IPV6: "raw IPv6",
    LINKTYPE_NFLOG: "Linux NFLOG",
    LINKTYPE_NETLINK: "Linux netlink",
    LINKTYPE_LINUX_SLL2: "Linux cooked v2",
}
"""For messages to people; a number that is not here is shown as a number."""
