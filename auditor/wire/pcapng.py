"""The pcapng capture file: blocks, each with its type, its length, a body, and its length again.

Source: draft-ietf-opsawg-pcapng. A Section Header Block opens a section and fixes its byte order; Interface Description
Blocks number the section's interfaces from 0; packets name their interface. Readers skip blocks and options that they
do not know by their length (section 3.1).
"""

from __future__ import annotations

from typing import Final

# Any block, section 3.1.
BLOCK_TYPE: Final = 0
BLOCK_LENGTH: Final = 4
BLOCK_BODY: Final = 8
BLOCK_TRAILER_BYTES: Final = 4
BLOCK_MIN_BYTES: Final = 12
ALIGNMENT: Final = 4

# Block types, section 11.1.
IDB: Final = 0x0000_0001
"""Interface Description Block, section 4.2."""
PB: Final = 0x0000_0002
"""Packet Block, obsolete, appendix A."""
SPB: Final = 0x0000_0003
"""Simple Packet Block, section 4.4."""
NRB: Final = 0x0000_0004
"""Name Resolution Block, section 4.5."""
ISB: Final = 0x0000_0005
"""Interface Statistics Block, section 4.6."""
EPB: Final = 0x0000_0006
"""Enhanced Packet Block, section 4.3."""
SYSTEMD_JOURNAL: Final = 0x0000_0009
"""systemd Journal Export Block."""
SYSDIG_EVENT: Final = 0x0000_0204
SYSDIG_EVENT_V2: Final = 0x0000_0216
SYSDIG_EVENT_V2_LARGE: Final = 0x0000_0221
CB: Final = 0x0000_0BAD
"""Custom Block, section 4.8."""
CB_NO_COPY: Final = 0x4000_0BAD
"""Custom Block that is not to be copied into other files."""
RECORDS: Final = (SYSTEMD_JOURNAL, SYSDIG_EVENT, SYSDIG_EVENT_V2, SYSDIG_EVENT_V2_LARGE, CB, CB_NO_COPY)
"""Blocks that are no packets and that Wireshark gives a frame number nevertheless (wiretap/pcapng.c: what is not ``internal``)."""
DSB: Final = 0x0000_000A
"""Decryption Secrets Block, section 4.7: holds keys."""
SHB: Final = 0x0A0D_0D0A
"""Section Header Block, section 4.1; the same in both byte orders."""
SHB_BYTES: Final = b"\x0a\x0d\x0d\x0a"

# Section Header Block, section 4.1.
SHB_MAGIC: Final = 8
SHB_MAJOR: Final = 12
SHB_MINOR: Final = 14
SHB_SECTION_LENGTH: Final = 16
SHB_OPTIONS: Final = 24
SHB_MIN_BYTES: Final = 28
BYTE_ORDER_MAGIC: Final = 0x1A2B_3C4D
VERSION_MAJOR: Final = 1
VERSION_MINORS: Final = (0, 2)
"""1.2 was written by some programs and is the same format (section 4.1)."""

# Interface Description Block, section 4.2.
IDB_LINKTYPE: Final = 8
IDB_SNAPLEN: Final = 12
IDB_OPTIONS: Final = 16
IDB_MIN_BYTES: Final = 20

# Enhanced Packet Block, section 4.3; the obsolete Packet Block has the same layout but for the first word.
EPB_INTERFACE: Final = 8
EPB_TIME_HIGH: Final = 12
EPB_TIME_LOW: Final = 16
EPB_CAPLEN: Final = 20
EPB_WIRELEN: Final = 24
EPB_DATA: Final = 28
EPB_MIN_BYTES: Final = 32
PB_INTERFACE: Final = 8
"""16 bits."""
PB_DROPS: Final = 10
"""16 bits; 0xFFFF: not known."""
PB_DROPS_UNKNOWN: Final = 0xFFFF

# Simple Packet Block, section 4.4.
SPB_WIRELEN: Final = 8
SPB_DATA: Final = 12
SPB_MIN_BYTES: Final = 16

# Interface Statistics Block, section 4.6.
ISB_INTERFACE: Final = 8
ISB_OPTIONS: Final = 20
ISB_MIN_BYTES: Final = 24

# Options, section 3.5: code (16 bits), length (16 bits), value padded to 32 bits.
OPTION_HEADER_BYTES: Final = 4
OPT_ENDOFOPT: Final = 0
OPT_COMMENT: Final = 1
"""In any block."""
IF_NAME: Final = 2
IF_DESCRIPTION: Final = 3
IF_TSRESOL: Final = 9
IF_FILTER: Final = 11
"""Its first byte says in which form; 0 is the text given to libpcap."""
IF_FILTER_TEXT: Final = 0
IF_TSOFFSET: Final = 14
ISB_IFDROP: Final = 5
ISB_OSDROP: Final = 7
EPB_DROPCOUNT: Final = 4

# if_tsresol, section 4.2: the top bit says base 2, the others the negative exponent.
TSRESOL_BASE_2: Final = 0x80
TSRESOL_EXPONENT: Final = 0x7F
TSRESOL_DEFAULT: Final = 6
