"""What has to be captured so that every rule can be decided, as a pcap filter, with the VMs to capture at and how much of each packet.

What the rules need:

- Who talked to whom, and whether a connection was established: the packets that open and close it (SYN, FIN, RST), on every port. Undeclared traffic is known by them.
- What was spoken and how it was protected, on documented paths: the first bytes of both directions. A filter sees packets, not connections, so all payload of a
  documented port is kept; where a path's port varies, all payload of the end with fewer addresses.
- SSH wherever it is (``ssh-port-out-of-range``): its banner is told by its first four bytes (RFC 4253 section 4.2).
- Datagrams: whatever is not TCP is kept, and so are the later fragments of IP packets, which have no ports.

What is left out is payload on ports that nothing documents: applications' own traffic, mostly. Of each packet only the beginning is needed: as
many bytes as are kept of a direction (``model.streams.HEAD_BYTES``), and headers in front of them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from auditor.errors import ConfigError
from auditor.model.streams import HEAD_BYTES
from auditor.policy.addresses import to_text
from auditor.policy.inventory import Inventory
from auditor.policy.policy import CONTAINER, Policy, PolicyPath

HEADER_BYTES = 256
"""Ethernet with tags, IPv6 with extensions, a tunnel, TCP with options: more than any of them takes in practice."""
SNAPLEN = HEAD_BYTES + HEADER_BYTES
BOSH_FILTER_CHARS = 5_000
"""What ``bosh pcap`` takes (bosh-cli, cmd/opts: PcapOpts.Filter)."""

EVERYTHING = "ip or ip6"
OPENS_AND_CLOSES = (
    "tcp[tcpflags] & (tcp-syn|tcp-fin|tcp-rst) != 0",
    # libpcap's tcp[] looks at IPv4 alone: 13 bytes into a TCP header that follows the fixed IPv6 header.
    "(ip6[6] = 6 and ip6[53] & 7 != 0)",
)
BANNER = "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x5353482d"
"""Payload that begins with ``SSH-``."""
FRAGMENT = "ip[6:2] & 0x1fff != 0"
EXTENDED = "(ip6 and not tcp and not udp)"
MANY_HOSTS = 64
WIDE = 100
"""A range of so many ports (those that application instances get) is other traffic's, too: only that of the path's own ends is kept."""


@dataclass(frozen=True, slots=True)
class CaptureFilter:
    """What to capture."""

    expression: str
    """For tcpdump, dumpcap and ``bosh pcap``."""
    snaplen: int
    groups: tuple[str, ...]
    """Kinds of VM to capture at: between them every documented path has an end that is seen."""
    leaves_out: tuple[str, ...]
    """What is not captured, a sentence each."""


def filter_for(policy: Policy, inventory: Inventory | None = None) -> CaptureFilter:
    """The filter that a policy needs; with an inventory it can leave more out."""
    named = {role for _, _, host in inventory.listing() for role in host.roles} if inventory is not None else set()
    paths = [
        path for path in policy.all_paths if not path.wild and (CONTAINER not in path.resp_roles or CONTAINER in named)
    ]
    groups = tuple(sorted(policy.diego_roles - {CONTAINER}))
    loose = [path for path in paths if path.varies and "tcp" in path.transports]
    hosts: dict[str, None] = {}
    open_paths: list[PolicyPath] = []
    for path in loose:
        found = _fewest(path, policy, inventory)
        if found:
            hosts |= dict.fromkeys(found)
        else:
            open_paths.append(path)
    if open_paths or len(hosts) > MANY_HOSTS:
        why = ", ".join(path.id for path in open_paths) or f"{len(hosts)} addresses"
        hint = "an inventory with the addresses of one of their ends" if open_paths else "fewer addresses at their ends"
        says = f"only non-IP frames: the ports of some paths vary ({why}), and only {hint} would narrow them down"
        return CaptureFilter(EVERYTHING, SNAPLEN, groups, (says,))
    fixed = [path for path in paths if "tcp" in path.transports and not path.varies]
    narrow = {span for path in fixed for span in path.ports if span[1] - span[0] < WIDE}
    wide = [(span, path) for path in fixed for span in path.ports if span[1] - span[0] >= WIDE]
    parts = ["not tcp", FRAGMENT, EXTENDED, *OPENS_AND_CLOSES, BANNER, *_ports(sorted(narrow)), *hosts]
    for (low, high), path in wide:
        ends = _fewest(path, policy, inventory)
        of = f" and ({' or '.join(ends)})" if 0 < len(ends) <= MANY_HOSTS else ""
        parts.append(f"(tcp portrange {low}-{high}{of})")
    parts = list(dict.fromkeys(parts))
    leaves = (
        "payload of TCP connections on ports that no path of the policy names: kept are their ends, duration and whether they were answered; "
        "not kept are their protocol (except SSH over IPv4) and size",
        "TCP connections on such ports that began before the capture, until they close",
        "frames with VLAN tags; if there are any, use: (FILTER) or (vlan and (FILTER))",
    )
    return CaptureFilter(" or ".join(parts), SNAPLEN, groups, leaves)


def _ports(spans: Iterable[tuple[int, int]]) -> list[str]:
    """Expressions for ports, neighbours joined."""
    joined: list[list[int]] = []
    for low, high in spans:
        if joined and low <= joined[-1][1] + 1:
            joined[-1][1] = max(joined[-1][1], high)
        else:
            joined.append([low, high])
    return [f"tcp port {low}" if low == high else f"tcp portrange {low}-{high}" for low, high in joined]


def _fewest(path: PolicyPath, policy: Policy, inventory: Inventory | None) -> list[str]:
    """Expressions for the end of a path that has fewer addresses; empty where neither is known."""
    if inventory is None:
        return []
    ends = (_addresses(path.orig_roles, policy, inventory), _addresses(path.resp_roles, policy, inventory))
    known = [each for each in ends if each]
    return min(known, key=len) if known else []


def _addresses(roles: Sequence[str], policy: Policy, inventory: Inventory) -> list[str]:
    """Host and net expressions of all that may hold one of these roles, at any time; empty where some of the roles nobody holds."""
    found: dict[str, None] = {}
    held: set[str] = set()
    for entry, _, host in inventory.listing():
        mine = set(host.roles) & set(roles)
        if not mine:
            continue
        held |= mine
        for first, last in entry.spans:
            found[_span(first, last)] = None
    return list(found) if held == set(roles) else []


def _span(first: int, last: int) -> str:
    if first == last:
        return f"host {to_text(first)}"
    length = (32 if last >> 32 == 0xFFFF else 128) - (last - first).bit_length()
    return f"net {to_text(first)}/{length}"


def bosh_pcap(found: CaptureFilter, deployment: str, interface: str) -> str:
    """The ``bosh pcap`` command that captures what is needed, ready for a shell.

    Instance groups as cf-deployment and TAS name them; Small Footprint and others have names of their own. Raises ConfigError where the filter is too long for it.
    """
    if len(found.expression) > BOSH_FILTER_CHARS:
        says = f"the filter has {len(found.expression)} characters, and bosh pcap takes {BOSH_FILTER_CHARS}"
        raise ConfigError("--bosh-pcap", says, hint="an inventory of fewer addresses, or auditor live")
    words = ["bosh", "-d", deployment, "pcap", *found.groups, "-i", interface]
    words += ["-s", str(found.snaplen), "-f", found.expression, "-o", "diego.pcap"]
    return shlex.join(words)
