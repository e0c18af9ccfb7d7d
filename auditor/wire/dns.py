"""Numbers of DNS: RFC 1035 section 4, https://www.iana.org/assignments/dns-parameters."""

HEADER_BYTES = 12  # id, flags, four counts: section 4.1.1
MAX_LABEL_BYTES = 63
MAX_NAME_BYTES = 255
POINTER = 0xC0

QR = 0x8000
AA = 0x0400
Z = 0x0040
OPCODES = frozenset({0, 1, 2, 4, 5, 6})
NOTIFY, UPDATE = 4, 5
MAX_RCODE = 11
MAX_RECORDS = 4_096

TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    35: "NAPTR",
    41: "OPT",
    43: "DS",
    48: "DNSKEY",
    64: "SVCB",
    65: "HTTPS",
    252: "AXFR",
    255: "ANY",
    257: "CAA",
}
RCODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
CLASSES = frozenset({1, 3, 4, 254, 255})
CLASS_MASK = 0x7FFF
"""The top bit of a class is mDNS's (RFC 6762 section 5.4)."""


def is_type(number: int) -> bool:
    """Whether a record or question type is assigned."""
    return 1 <= number <= 110 or 249 <= number <= 262 or number in {32768, 32769}
