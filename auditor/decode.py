"""FrameBatch to PACKET rows: the decoder with what it carries from batch to batch.

What a row means:

- One row an IP packet; a tunnelled frame gives its outer packet first, and ``outer`` of the inner ones points to a row of the same array.
  A frame without IP gives one row with ``ip_version`` 0, so that it is counted.
- ``stop`` says why nothing more was read behind this packet's last whole header. Ports and flags that were captured before that are there:
  a TCP row cut off inside its options has all but payload. Ports 0 and 0 with a stop code are unknown.
- ``payload_wire_bytes`` counts what the IP header claims, so an overlong claim of a whole frame looks like missing bytes.
- A later IP fragment is a row of its connection (``fragment`` 2). TCP: ``seq`` is its place in the stream, the FIN stands in the last fragment's row
  instead of the first's, the SYN and others in the first's only. Others: ``seq`` is the place of its bytes in the datagram's payload.
- Fragments that came before their first follow its row: the rows of a batch need not be in the order of ``frame``, and ``outer`` of such a row is
  -1. Those that never see their first come out with STOP_FRAGMENT, without ports and payload: when the table is full, or from ``finish``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from auditor.kernels.accelerate import expect
from auditor.kernels.defrag import EARLY_SLOTS, PIECE, new_fragments, release_all, settle
from auditor.kernels.headers import (
    LAYER_ETHERNET,
    LAYER_IP,
    LAYER_LLC,
    LAYER_NULL,
    LAYER_PPP,
    LAYER_SLL,
    LAYER_SLL2,
    LINK,
    count_ip,
    count_stops,
    decode_frames,
)
from auditor.kernels.links import peel_links
from auditor.model.frames import BATCH_FRAMES, FrameBatch
from auditor.model.packets import PACKET, STOP_NAMES, STOP_UNREAD
from auditor.wire import link

MAX_DEPTH = 5
"""Tunnel layers that are opened around each other, unless set otherwise."""

STOPS = max(STOP_NAMES) + 1

_LAYERS = {
    link.LINKTYPE_NULL: LAYER_NULL,
    link.LINKTYPE_LOOP: LAYER_NULL,
    link.LINKTYPE_ETHERNET: LAYER_ETHERNET,
    link.LINKTYPE_PPP: LAYER_PPP,
    link.LINKTYPE_PPP_SERIAL: LAYER_PPP,
    link.LINKTYPE_PPP_ETHER: link.ETHERTYPE_PPPOE_SESSION,
    link.DLT_RAW_BSD: LAYER_IP,
    link.DLT_RAW_OPENBSD: LAYER_IP,
    link.LINKTYPE_RAW: LAYER_IP,
    link.LINKTYPE_IPV4: LAYER_IP,
    link.LINKTYPE_IPV6: LAYER_IP,
    link.LINKTYPE_ATM_RFC1483: LAYER_LLC,
    link.LINKTYPE_LINUX_SLL: LAYER_SLL,
    link.LINKTYPE_LINUX_SLL2: LAYER_SLL2,
}
"""Link types that need nothing peeled off."""

_CLAIMABLE = (
    link.LINKTYPE_ETHERNET,
    link.LINKTYPE_LINUX_SLL,
    link.LINKTYPE_LINUX_SLL2,
    link.LINKTYPE_RAW,
    link.LINKTYPE_NULL,
)
"""Link types that are taken for each other: all that an interface of a Linux VM or a Mac gives."""

_GUESS_FRAMES = 64


class Decoder:
    """Decodes one capture, batch after batch."""

    def __init__(self, *, max_depth: int = MAX_DEPTH, max_rows: int = BATCH_FRAMES) -> None:
        """``max_depth``: tunnel layers that are opened, up to 200; ``max_rows``: about as many rows are given at once."""
        self.max_depth = min(max(max_depth, 0), 200)
        room = max(max_rows, 1) + self.max_depth
        self._rows: NDArray[np.void] = np.zeros(room, PACKET)
        self._pieces: NDArray[np.void] = np.zeros(room, PIECE)
        self._settled: NDArray[np.void] | None = None
        """Where rows go when fragments are among them; made when the first one comes."""
        self._fragments = new_fragments()
        self.frames = 0
        """Frames decoded so far."""
        self.packets = 0
        """Rows given so far."""
        self.stops: NDArray[np.int64] = np.zeros(STOPS, np.int64)
        """Rows a STOP_ code."""
        self.unread: dict[int, int] = {}
        """Frames by the EtherType of an encapsulation that is not read."""

    def decode(self, batch: FrameBatch) -> Iterator[NDArray[np.void]]:
        """PACKET rows of the batch's frames. Each array is overwritten by the next; payload is found in ``batch.buf``."""
        expect(len(batch))
        start, caplen, wirelen, layers = _layers(batch)
        numbers = batch.numbers
        frame = 0
        while frame < len(batch):
            n_rows, n_pieces, done = decode_frames(
                batch.buf,
                start,
                caplen,
                wirelen,
                layers,
                batch.ts_ns,
                batch.interface,
                numbers,
                frame,
                self.max_depth,
                self._rows,
                self._pieces,
            )
            self.frames += done - frame
            frame = done
            rows = self._rows
            if n_pieces:
                if self._settled is None:
                    self._settled = np.zeros(rows.size + EARLY_SLOTS, PACKET)
                    self._moved = np.zeros(rows.size, np.int32)
                rows = self._settled
                n_rows = settle(
                    self._fragments,
                    batch.buf,
                    batch.used_bytes,
                    self._rows,
                    n_rows,
                    self._pieces,
                    n_pieces,
                    self._moved,
                    rows,
                )
            if n_rows:
                yield self._counted(rows[:n_rows])

    def finish(self) -> NDArray[np.void]:
        """Rows of the fragments that still wait for their first; afterwards the decoder is as new, but for its counts."""
        if self._settled is None:
            return self._rows[:0]
        return self._counted(self._settled[: release_all(self._fragments, self._settled)])

    def _counted(self, rows: NDArray[np.void]) -> NDArray[np.void]:
        self.packets += rows.size
        unread = self.stops[STOP_UNREAD]
        count_stops(rows, self.stops)
        if self.stops[STOP_UNREAD] > unread:
            kinds, counts = np.unique(rows["dst_port"][rows["stop"] == STOP_UNREAD], return_counts=True)
            for kind, count in zip(kinds.tolist(), counts.tolist(), strict=True):
                self.unread[kind] = self.unread.get(kind, 0) + count
        return rows


def _layers(batch: FrameBatch) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Start, captured and wire length of the frames, and the layer that each begins with; seldom met link headers already taken off."""
    link_types = batch.link_type
    if not len(batch) or bool((link_types == link_types[0]).all()):
        kinds = link_types[:1]
        layers = np.full(len(batch), _LAYERS.get(int(kinds[0]), LINK + int(kinds[0])) if len(kinds) else 0, np.int64)
    else:
        kinds, which = np.unique(link_types, return_inverse=True)
        layers = np.array([_LAYERS.get(int(kind), LINK + int(kind)) for kind in kinds], np.int64)[which]
    start, caplen, wirelen = batch.start, batch.caplen_bytes, batch.wirelen_bytes
    if any(int(kind) not in _LAYERS for kind in kinds):
        start, caplen, wirelen = start.copy(), caplen.copy(), np.maximum(caplen, wirelen)
        peel_links(batch.buf, start, caplen, wirelen, layers)
    return start, caplen, wirelen, layers


def relinked(batch: FrameBatch, link_type: int) -> FrameBatch:
    """The batch with another link type than its capture claims."""
    return replace(batch, link_type=np.full(len(batch), link_type, np.int32))


def guess_link_type(batch: FrameBatch) -> int | None:
    """The link type that the first frames have in truth, where the capture's header claims another; None: no reason to doubt it.

    ``bosh pcap`` and others that merge captures write "Ethernet" over whatever the interfaces gave. The claim is doubted only when hardly a
    frame leads to an IP header that fits and nearly all do so under another link type. Read in one way, the address
    and type fields of the others are noise: no frame passes under two.
    """
    head = slice(0, _GUESS_FRAMES)
    claims = batch.link_type[head]
    if not claims.size or (claims != claims[0]).any() or int(claims[0]) not in _CLAIMABLE:
        return None
    claimed = int(claims[0])
    total = len(batch.start[head])

    def fitting(link_type: int) -> int:
        return int(
            count_ip(
                batch.buf, batch.start[head], batch.caplen_bytes[head], batch.wirelen_bytes[head], _LAYERS[link_type]
            )
        )

    if fitting(claimed) * 10 > total:
        return None
    fits = {link_type: fitting(link_type) for link_type in _CLAIMABLE if link_type != claimed}
    best = max(fits, key=lambda link_type: fits[link_type])
    return best if fits[best] * 10 >= total * 8 else None
