"""Addresses as 128-bit numbers, and what kind of address one is.

IPv4 is ``::ffff:a.b.c.d`` (RFC 4291 section 2.5.5.2). A ``kind`` is given to addresses that no router forwards or that are no single
host: nobody can be looked up behind them.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

V4_MAPPED = 0xFFFF << 32
_V4_HIGH = 0xFFFF

METADATA_V4 = int(ipaddress.IPv4Address("169.254.169.254"))
"""The metadata service of clouds: link-local, yet another machine answers."""
METADATA = frozenset(
    {
        0xFFFF << 32 | METADATA_V4,
        0xFFFF << 32 | int(ipaddress.IPv4Address("168.63.129.16")),  # Azure
        0xFFFF << 32 | int(ipaddress.IPv4Address("100.100.100.200")),  # Alibaba
        int(ipaddress.IPv6Address("fd00:ec2::254")),  # AWS
        int(ipaddress.IPv6Address("fd20:ce::254")),  # Google
    }
)
"""Addresses at which a cloud tells a machine who it is, credentials among it; no router stands before them."""

LINK_SERVICES = frozenset(
    V4_MAPPED | int(ipaddress.IPv4Address(f"169.254.169.{host}")) for host in (123, 249, 250, 251, 253)
)
"""Link-local addresses at which AWS itself answers: time, licences of Windows, names."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def to_int(text: str) -> int:
    """Raises ValueError where ``text`` is not an address. A zone (``%eth0``) and an IPv4 prefix of /32 or IPv6 /128 are dropped."""
    bare = text.strip().strip("[]").partition("%")[0]
    host, slash, length = bare.partition("/")
    address = ipaddress.ip_address(host)
    if slash and length != ("32" if address.version == 4 else "128"):
        raise ValueError(f"{text!r} is a network")
    if isinstance(address, ipaddress.IPv4Address):
        return V4_MAPPED | int(address)
    return int(address)


@lru_cache(maxsize=65536)
def to_text(address: int) -> str:
    """As people write it."""
    if address >> 32 == _V4_HIGH:
        return str(ipaddress.IPv4Address(address & 0xFFFFFFFF))
    return str(ipaddress.IPv6Address(address))


def span(network: Network) -> tuple[int, int]:
    """First and last address of a network as 128-bit numbers."""
    base = V4_MAPPED if network.version == 4 else 0
    return base | int(network.network_address), base | int(network.broadcast_address)


def around(address: int) -> tuple[int, int]:
    """The /24 (IPv6: /64) that an address lies in."""
    bits = 8 if address >> 32 == _V4_HIGH else 64
    first = address >> bits << bits
    return first, first | ((1 << bits) - 1)


def kind_of(address: int) -> str | None:
    """``loopback``, ``link-local``, ``multicast``, ``broadcast``, ``unspecified``, or None for an ordinary address."""
    if address >> 32 == _V4_HIGH:
        v4 = address & 0xFFFFFFFF
        top = v4 >> 24
        if top == 127:
            return "loopback"
        if v4 >> 16 == 0xA9FE and v4 != METADATA_V4:
            return "link-local"
        if top >> 4 == 0xE:
            return "multicast"
        if v4 == 0xFFFFFFFF:
            return "broadcast"
        return "unspecified" if top == 0 else None
    if address == 1:
        return "loopback"
    if address == 0:
        return "unspecified"
    if address >> 120 == 0xFF:
        return "multicast"
    return "link-local" if address >> 118 == 0x3FA else None


_PRIVATE = tuple(
    span(ipaddress.ip_network(text)) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
)


def is_private(address: int) -> bool:
    """An address that the internet does not route (RFC 1918, RFC 4193)."""
    return any(first <= address <= last for first, last in _PRIVATE)
