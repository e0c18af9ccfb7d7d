"""Connections as records: what the kernels keep while packets come, and what is known of each at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditor.model.frames import names_of
from auditor.model.packets import TUNNEL_NAMES

MAX_HOLES = 8
"""So many holes of a direction's sequence space are kept apart; the smallest of more is counted as lost for good."""

HISTORY_ROOM = 16

FRAME_BITS = 40
"""Frame numbers inside are ``capture index << FRAME_BITS | number``."""

# The fields that every packet touches stand together, in lines of the processor's cache (64 bytes): a packet costs four of them.
_SIDE = np.dtype(
    [
        ("pkts", np.int64),
        ("ip_bytes", np.int64),
        ("payload_bytes", np.int64),  # as sent, retransmissions included
        ("start", np.int64),  # lowest stream position seen; positions are relative to ``base``, unwrapped
        ("end", np.int64),  # one behind the highest position seen
        ("acked", np.int64),  # highest position that the other side acknowledged
        ("base", np.uint32),  # sequence number of position 0
        ("slot", np.int32),  # row of the arena; SLOT_NONE, SLOT_GONE
        ("copies", np.uint32),  # packets that were others of it once more; in none of the counts
        ("seen", np.uint16),
        ("history_seen", np.uint8),
        ("n_holes", np.int8),
        # A line ends.
        ("head_base", np.int64),  # stream position of byte 0 of the head
        ("payload_frame", np.int64),  # first frame with payload
        ("fin_at", np.int64),  # position of the FIN
        ("lost_bytes", np.int64),  # holes that were given up
        ("isn", np.uint32),  # initial sequence number, where the SYN was seen
        # Sequence number that its first FIN or RST acknowledged, where FIN_ACKS says that one did.
        ("fin_ack", np.uint32),
        ("fin_ns", np.int64),  # when its first FIN was sent; NEVER
        ("rst_ns", np.int64),  # ... RST
        ("head_sum", np.uint64),  # over all bytes of the head; 0: not examined, or it does not begin with the stream
        # A line ends.
        ("hole_from", np.int64, (MAX_HOLES,)),
        ("hole_to", np.int64, (MAX_HOLES,)),
    ],
    align=True,
)

CONN = np.dtype(
    [
        ("a_lo", np.uint64),  # side 0: the lower end
        ("b_lo", np.uint64),
        ("a_hi", np.uint64),
        ("b_hi", np.uint64),
        ("tunnel_id", np.uint32),
        ("a_port", np.uint16),
        ("b_port", np.uint16),
        ("proto", np.uint8),
        ("tunnel", np.uint8),
        ("ip_version", np.uint8),
        ("first_side", np.uint8),  # who sent the first packet seen
        ("superseded", np.uint8),  # a later row has the same key
        ("state", np.uint8),  # ROW_ bits
        ("n_history", np.uint8),
        ("client_side", np.int8),  # by content: 0, 1, or -1
        ("last_ns", np.int64),
        ("last_frame", np.int64),
        # A line ends. Bit k: packets from place k (63: that one or later): an interface, see ``conntrack.Part.places``.
        ("captures", np.uint64),
        ("first_ns", np.int64),
        ("first_frame", np.int64),
        ("outer", np.int64),  # row of the connection that carries this one, or -1
        ("history", np.uint8, (HISTORY_ROOM,)),  # letter << 1 | side, in order of first occurrence
        ("icmp_type", np.uint8),
        ("icmp_code", np.uint8),
        ("application", np.int16),  # index into the examiner's names, -1: not examined
        # Of each side, how many bytes its head holds without a gap: what its evidence is worth beside that of another place.
        ("head_bytes", np.uint16, (2,)),
        ("strays", np.uint32),  # packets whose date is not believed
        ("evidence", np.uint8),  # ROW_FOLLOWED, ROW_ANSWERED
        ("odd", np.uint16),  # bit k: ``ODDS[k]``
        ("side", _SIDE, (2,)),
    ],
    align=True,
)

SIDE_AT = tuple(CONN.fields["side"][1] + k * _SIDE.itemsize for k in range(2)) if CONN.fields else ()
"""Where the sides of a record begin, in bytes."""

(
    ODD_CHECKSUM,
    ODD_CONFLICT,
    ODD_LATE,
    ODD_URGENT,
    ODD_RESET,
    ODD_FIN,
    ODD_ACK,
    ODD_SYN_DATA,
    ODD_NO_ACK,
    ODD_TTL,
    ODD_UNREAD,
    ODD_SENDER,
) = range(12)
ODDS = (
    "segments with a wrong checksum",
    "two segments with different bytes for one place of the stream",
    "other bytes for a place that was acknowledged before",
    "urgent bytes, which the receiver takes out of the stream",
    "a reset after which the connection went on, or with a number that no receiver takes",
    "a FIN after which the stream went on, or with a number that no receiver takes",
    "acknowledgements of bytes that were never sent",
    "bytes in a SYN that the answer did not acknowledge",
    "segments without ACK",
    "packets with far fewer hops left than the others of their sender",
    "two readings of one stream, of which one could not be kept",
    "data sent from another link address or VLAN, or over a far longer or shorter way, than what its sender began with",
)
"""What packets of a connection may contradict each other in."""

CONTRADICTION = "packets.contradict"
"""Kind of evidence: in which of ``ODDS`` a connection's packets contradict each other."""

ODD = np.dtype(
    [
        ("row", np.int64),
        ("frame", np.int64),  # with the capture index above FRAME_BITS
        ("against", np.int64),  # the frame that it contradicts; -1: not known
        ("side", np.uint8),
        ("kind", np.uint8),  # ODD_
    ],
    align=True,
)
"""The first packet of each kind and connection that contradicts others."""

SIGHT = np.dtype([("row", np.int64), ("places", np.uint64), ("pkts", np.int64, (2,)), ("missed", np.int64)], align=True)
"""A connection as the places of one part of the packets saw it, which other places saw too: packets of each side, payload bytes that lack there."""

STRAY_NS = 366 * 86_400 * 1_000_000_000
"""No connection is silent for so long: of packets that are further apart, some have a wrong date."""

NEVER = 1 << 62
"""``fin_ns`` and ``rst_ns`` where none was seen."""

NOWHERE = -(1 << 62)
"""A position that is not known: ``fin_at`` and ``acked`` while none was seen."""

SLOT_NONE = -1
SLOT_GONE = -2

SEEN_SYN = 1  # SYN without ACK
SEEN_SYNACK = 2
SEEN_FIN = 4
SEEN_RST = 8
SEEN_ACK = 16
HAS_BASE = 32  # positions are defined
BASE_GUESSED = 64  # ... only by an acknowledgement of the other side
RETRANSMITTED = 128
SNAPPED = 256  # payload was on the wire that the snaplen cut off
HEAD_CUT = 512  # head bytes came after the head had been handed on
FIN_ACKS = 1024
DISORDERED = 2048  # segments came behind others that were sent after them
SUMMED = 4096  # segments came whose checksum is right, or left to a card to be computed
AFTER_RST = 8192  # new bytes came although the connection had been reset

ROW_QUEUED = 1  # in the queue of settled rows
ROW_LINGERS = 2  # closed, and given a moment for late packets
ROW_SETTLED = 4  # heads are handed on or gone
ROW_RELEASED = 8  # settled early, because room for heads ran out
ROW_FIRST = 16  # the first of its key in this part of the capture: it may go on with one of an earlier part
ROW_HANDSHAKE = 32  # datagrams that begin a handshake (QUIC, DTLS): a head holds several of them
ROW_BEYOND = (
    64  # side 0's head has all it can, and what follows it was followed as far as is reported; shifted by one: side 1
)

ROW_FOLLOWED = 1  # records of side 0 were still followed when its head was handed on; shifted by one: side 1
ROW_ANSWERED = 4  # side 0 spoke when the other one's head had all it can; shifted by one: side 1

HISTORY_LETTERS = "SHADFRTG"
H_SYN, H_SYNACK, H_ACK, H_DATA, H_FIN, H_RST, H_RETRANSMISSION, H_GAP = range(8)

CONN_STATES = ("S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR", "OTH")
"""As Zeek names them (base/protocols/conn/main.zeek)."""

DIRECTION_BY = ("syn", "handshake", "listener", "policy", "guess")

INCOMPLETE = ("midstream", "one_way", "gap", "snaplen", "limit")
"""Bit k of ``ConnectionTable.incomplete``: what is missing of a connection."""

TRANSPORTS = {
    1: "icmp",
    2: "igmp",
    4: "ipip",
    6: "tcp",
    17: "udp",
    41: "ipv6",
    46: "rsvp",
    47: "gre",
    50: "esp",
    51: "ah",
    58: "icmp6",
    88: "eigrp",
    89: "ospf",
    103: "pim",
    112: "vrrp",
    115: "l2tp",
    132: "sctp",
    136: "udplite",
}


def transport_name(proto: int) -> str:
    """IANA protocol number to the word of the ``transport`` column."""
    return TRANSPORTS.get(proto, f"ip-{proto}")


@dataclass(frozen=True, slots=True)
class Translation:
    """What is known of a connection's other side of a NAT."""

    other: int
    """The row of that side."""
    judged: bool
    """This is the one that is judged, for both."""
    compared: tuple[int, int]
    """So many bytes of both directions, side 0 (of a table: the originator) first, are known to be the same there."""
    whole: bool
    """Those are all."""


@dataclass(frozen=True, slots=True)
class ConnectionTable:
    """All connections of an audit, originator and responder decided; every array has one row per connection, in order of start."""

    id: NDArray[np.bytes_]
    community_id: NDArray[np.bytes_]
    first_ns: NDArray[np.int64]
    last_ns: NDArray[np.int64]
    proto: NDArray[np.uint8]
    orig_h: NDArray[np.int32]
    """Index into ``addresses``."""
    resp_h: NDArray[np.int32]
    orig_p: NDArray[np.int32]
    """-1 where the transport has no ports."""
    resp_p: NDArray[np.int32]
    orig_pkts: NDArray[np.int64]
    resp_pkts: NDArray[np.int64]
    orig_ip_bytes: NDArray[np.int64]
    resp_ip_bytes: NDArray[np.int64]
    payload_bytes: NDArray[np.int64]
    missed_bytes: NDArray[np.int64]
    conn_state: NDArray[np.uint8]
    """Index into CONN_STATES."""
    history: NDArray[np.bytes_]
    direction_by: NDArray[np.uint8]
    """Index into DIRECTION_BY."""
    application: NDArray[np.int16]
    """Index into ``applications``."""
    established: NDArray[np.bool_]
    """A connection was established, as far as the packets tell."""
    first_bytes: NDArray[np.bool_]
    """The opening was seen, and the first payload byte of every direction that has payload."""
    incomplete: NDArray[np.uint8]
    tunnel: NDArray[np.uint8]
    tunnel_id: NDArray[np.uint32]
    outer: NDArray[np.int64]
    closed_by: NDArray[np.uint8]
    """Who sent the first FIN or RST: 0 neither, 1 originator, 2 responder."""
    orig_copies: NDArray[np.int64]
    """Packets that were others of this connection once more, seen at a second place or twice at one; in no other count."""
    resp_copies: NDArray[np.int64]
    captures: NDArray[np.uint64]
    """Bit k: seen from place k."""
    sights: NDArray[np.void]
    """SIGHT, of connections seen from several places; packets of originator and responder."""
    translated: Mapping[int, Translation]
    """By row: the same connection on the other side of a NAT."""
    first_frame: NDArray[np.int64]
    """With the capture index above FRAME_BITS."""
    addresses: tuple[int, ...]
    """Distinct addresses as 128 bits; IPv4 is ::ffff:a.b.c.d."""
    ip_versions: tuple[int, ...]
    applications: tuple[str, ...]
    facts: tuple[Any, ...]
    """What inspectors found, or None, one row per connection."""
    stream_bytes: NDArray[np.int64]
    """(n, 2): how long the streams of originator and responder are, from what is known to be their first byte."""
    odd: NDArray[np.uint16]
    """Bit k: ``ODDS[k]``."""
    odds: NDArray[np.void]
    """ODD, of connections whose packets contradict each other."""
    second: Mapping[int, tuple[int, Any]]
    """By row: index into ``applications``, and facts of another protocol that a receiver may have read in its first bytes."""

    def __len__(self) -> int:
        return int(self.first_ns.size)


def tunnel_of(table: ConnectionTable, row: int) -> dict[str, Any]:
    """The tunnel that a connection was seen in, as in the report."""
    outer = int(table.outer[row])
    return {
        "kind": TUNNEL_NAMES[int(table.tunnel[row])],
        "id": int(table.tunnel_id[row]) or None,
        "outer": table.id[outer].decode("ascii") if outer >= 0 else None,
    }


def seen_from(table: ConnectionTable, vantages: Sequence[str]) -> tuple[NDArray[np.int64], list[tuple[str, ...]]]:
    """Where each connection was seen: codes, and the names of the vantage points that each code stands for. vantages: all names.

    Where one place has most of a connection's packets twice, it stands for two that nothing else tells apart.
    """
    if len(vantages) == 1:
        masks, mask_of = table.captures[:1], np.zeros(len(table), np.int64)
    else:
        masks, mask_of = np.unique(table.captures, return_inverse=True)
    names = [names_of(int(mask), vantages) for mask in masks]
    twice = [(*each, f"{each[0]} (again)") if len(each) == 1 else each for each in names]
    copies, packets = table.orig_copies + table.resp_copies, table.orig_pkts + table.resp_pkts
    doubled = copies * 2 >= np.maximum(packets, 1)
    return mask_of + np.where(doubled, len(names), 0), [*names, *twice]


def sightings_of(table: ConnectionTable, vantages: Sequence[str]) -> dict[int, tuple[dict[str, Any], ...]]:
    """By row what each place has of the connections that several have."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row, places, packets, missed in table.sights.tolist():
        found.setdefault(row, []).append(
            {
                "vantage": ", ".join(names_of(places, vantages)),
                "originator_packets": packets[0],
                "responder_packets": packets[1],
                "missed_bytes": missed,
            }
        )
    return {row: tuple(seen) for row, seen in found.items()}


def translations_of(table: ConnectionTable) -> dict[int, dict[str, Any]]:
    """By row, the same connection on the other side of a NAT, as in the report."""
    if not table.translated:
        return {}
    import ipaddress  # few captures hold both sides

    def end(address: int, port: int) -> dict[str, Any]:
        ip = ipaddress.IPv6Address(table.addresses[address])
        return {"ip": str(ip.ipv4_mapped or ip), "port": port}

    return {
        row: {
            "originator": end(int(table.orig_h[each.other]), int(table.orig_p[each.other])),
            "responder": end(int(table.resp_h[each.other]), int(table.resp_p[each.other])),
            "connection": table.id[each.other].decode("ascii"),
            "judged": each.judged,
            "compared_bytes": list(each.compared),
            "whole": each.whole,
        }
        for row, each in table.translated.items()
    }
