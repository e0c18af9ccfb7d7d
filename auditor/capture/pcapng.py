"""Reading pcapng files: draft-ietf-opsawg-pcapng; numbers in ``auditor.wire.pcapng``.

The kernel walks packet blocks and passes over what it does not know; this module handles the blocks between them: sections,
interfaces, statistics, and secrets (noticed, wiped, never kept). A block that is broken ends the reading: nothing behind it
can be trusted to start where it seems to.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from auditor.capture.reader import OPENING_BYTES, CaptureReader, Columns
from auditor.kernels import load
from auditor.model.frames import FrameBatch, VantagePoint
from auditor.model.limits import MIB, told
from auditor.wire import pcapng

MAX_NAME_CHARS: Final = 256
MAX_FILTER_CHARS: Final = 80
MAX_FILTERS: Final = 16
"""So many different ones are reported."""
MAX_OPTIONS_BYTES: Final = MIB
"""What a packet block may hold beside its packet."""

_CORRUPT: Final = {
    load.STOP_CAPLEN: "a packet block claims more captured bytes than the limit",
    load.STOP_LENGTH: "a block has an impossible length",
    load.STOP_TRAILER: "the two lengths of a block differ",
    load.STOP_INSIDE: "a packet is longer than the block that holds it",
    load.STOP_INTERFACE: "a packet has an interface without a description",
}


def starts_pcapng(head: bytes) -> bool:
    """A Section Header Block with its byte order magic."""
    return head.startswith(pcapng.SHB_BYTES) and _byte_order_of(head) is not None


def _byte_order_of(block: bytes) -> str | None:
    magic = block[pcapng.SHB_MAGIC : pcapng.SHB_MAJOR]
    if int.from_bytes(magic, "little") == pcapng.BYTE_ORDER_MAGIC:
        return "<"
    return ">" if int.from_bytes(magic, "big") == pcapng.BYTE_ORDER_MAGIC else None


class _Stop(Exception):  # noqa: N818 - no error leaves this module
    """The reading ends here; the reason has been noted."""


class PcapngReader(CaptureReader):
    """Frames of a pcapng file, of all its sections and interfaces."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._order = "<"
        self._digits = 0
        self._filters: dict[str, None] = {}
        # Of the section that is being read:
        self._interfaces = np.zeros((4, load.IF_COLUMNS), np.int64)
        self._known = 0
        self._statistics: dict[int, int] = {}
        self._place: str | None = None
        self._opening: bytearray | None = bytearray()
        """Its header and interfaces, as they are in the file; None: too large to keep."""
        # Of those before it:
        self._dropped_before: int | None = None

    def _walk(self) -> Iterator[FrameBatch]:
        window = self._window
        columns = Columns(0)
        carry = np.zeros(load.CARRY_SIZE, np.int64)
        while True:
            begins = window.offset
            carry[load.CARRY_FRAMES] = self._frames
            count, window.at, stop = load.walk_pcapng(
                window.words,
                window.at,
                window.filled,
                self._order == ">",
                self._limits.frame_bytes,
                self._interfaces,
                self._known,
                carry,
                columns.start,
                columns.caplen,
                columns.wirelen,
                columns.ts_ns,
                columns.interface,
                columns.link_type,
                columns.number,
            )
            if count:
                self._placed(begins, self._opening)
                yield self._batch(columns, count, untimed=carry[load.CARRY_UNTIMED] > 0, numbered=True)
            self._frames = int(carry[load.CARRY_FRAMES])
            try:
                if stop == load.STOP_SHORT:
                    self._read_on()
                elif stop == load.STOP_BLOCK:
                    self._handle()
                elif stop != load.STOP_FULL:
                    self._corrupt(_CORRUPT[stop])
            except _Stop:
                return

    # What stands between packets

    def _corrupt(self, says: str, kind: str = "corrupt", offset: int | None = None) -> None:
        self._problem(kind, f"{says} (after frame {self._frames}); reading stopped", offset)
        raise _Stop

    def _corrupt_limit(self, name: str, says: str) -> None:
        self._problem("limit", told(name, self._limits, f"{says} (after frame {self._frames}); reading stopped"))
        raise _Stop

    def _need(self, count: int, says: str = "a block") -> None:
        if not self._window.more(count):
            self._at_end(says)
            raise _Stop

    def _word(self, at: int, block: bytes) -> int:
        return int(struct.unpack_from(f"{self._order}I", block, at)[0])

    def _read_on(self) -> None:
        """More of the source: the head of a block, then its fields, then all of it, each judged by the kernel before the next."""
        window = self._window
        if window.left < pcapng.BLOCK_MIN_BYTES:
            self._need(pcapng.BLOCK_MIN_BYTES)
            return
        # The kernel stops short in packet blocks only.
        head = window.peek(pcapng.BLOCK_MIN_BYTES)
        size = self._word(pcapng.BLOCK_LENGTH, head)
        fields = pcapng.SPB_DATA if self._word(pcapng.BLOCK_TYPE, head) == pcapng.SPB else pcapng.EPB_DATA
        if window.left < fields:
            self._need(fields, "a packet block")
            return
        if size > self._limits.frame_bytes + MAX_OPTIONS_BYTES:
            self._corrupt(f"a packet block claims {size} bytes")
        self._need(size, "a packet block")

    def _handle(self) -> None:
        """The block at the front of the window."""
        self._need(pcapng.BLOCK_MIN_BYTES)
        head = self._window.peek(pcapng.SHB_MIN_BYTES)
        if head.startswith(pcapng.SHB_BYTES):
            self._open_section()
            return
        kind, size = self._word(pcapng.BLOCK_TYPE, head), self._word(pcapng.BLOCK_LENGTH, head)
        if kind == pcapng.IDB:
            self._describe(self._whole(size, pcapng.IDB_MIN_BYTES, "an interface description"))
        elif kind == pcapng.ISB:
            self._count_drops(self._whole(size, pcapng.ISB_MIN_BYTES, "interface statistics"))
        else:
            self.has_secrets = self.has_secrets or kind == pcapng.DSB
            self._pass_over(size, wipe=kind == pcapng.DSB)
            self._frames += kind in pcapng.RECORDS

    def _pass_over(self, size: int, *, wipe: bool = False) -> None:
        """A block of any length that is skipped."""
        window, start = self._window, self._window.offset
        if not window.skip(size - pcapng.BLOCK_TRAILER_BYTES, wipe=wipe) or not window.more(pcapng.BLOCK_TRAILER_BYTES):
            self._at_end("a block", start)
            raise _Stop
        if self._word(0, window.peek(pcapng.BLOCK_TRAILER_BYTES)) != size:
            self._corrupt(_CORRUPT[load.STOP_TRAILER], offset=start)
        window.at += pcapng.BLOCK_TRAILER_BYTES

    def _whole(self, size: int, least: int, says: str) -> bytes:
        """All of a block, checked and taken."""
        if size < least:
            self._corrupt(_CORRUPT[load.STOP_LENGTH])
        if size > self._limits.block_bytes:
            self._corrupt_limit("block_bytes", f"{says} of {size} bytes")
        self._need(size, says)
        block = self._window.peek(size)
        if self._word(size - pcapng.BLOCK_TRAILER_BYTES, block) != size:
            self._corrupt(_CORRUPT[load.STOP_TRAILER])
        self._window.at += size
        return block

    def _open_section(self) -> None:
        """Section 4.1: a new byte order, and interfaces are numbered from 0 again."""
        self._need(pcapng.SHB_MIN_BYTES, "a section header")
        block = self._window.peek(pcapng.SHB_MIN_BYTES)
        order = _byte_order_of(block)
        if order is None:
            self._corrupt("a section header without its byte order magic")
            return
        self._close_section()
        self._order = order
        size = self._word(pcapng.BLOCK_LENGTH, block)
        major, minor = struct.unpack_from(f"{order}HH", block, pcapng.SHB_MAJOR)
        if size < pcapng.SHB_MIN_BYTES or size % pcapng.ALIGNMENT:
            self._corrupt(_CORRUPT[load.STOP_LENGTH])
        if major != pcapng.VERSION_MAJOR:
            self._corrupt(f"pcapng version {major}.{minor} is not known", "unsupported")
        self._place = None
        self._opening = None
        if size > self._limits.block_bytes:
            self._pass_over(size)
            return
        header = self._whole(size, pcapng.SHB_MIN_BYTES, "a section header")
        self._opening = bytearray()
        self._keep_opening(header)
        for code, value in self._options(header, pcapng.SHB_OPTIONS):
            if code == pcapng.OPT_COMMENT and self._place is None:
                self._place = _first_line(_text(value))

    def _keep_opening(self, block: bytes) -> None:
        if self._opening is not None and len(self._opening) + len(block) <= OPENING_BYTES:
            self._opening += block
        else:
            self._opening = None

    def _close_section(self) -> None:
        self._dropped_before = self._dropped()
        self._statistics.clear()
        self._known = 0

    def _describe(self, block: bytes) -> None:
        """Section 4.2: an Interface Description Block."""
        self._keep_opening(block)
        if len(self._vantage_points) >= self._limits.interfaces:
            self._corrupt_limit("interfaces", f"more than {self._limits.interfaces} interfaces")
        written, _ = struct.unpack_from(f"{self._order}HH", block, pcapng.IDB_LINKTYPE)
        link_type = written if self._link_type is None else self._link_type
        snaplen = self._word(pcapng.IDB_SNAPLEN, block)
        resolution, offset = pcapng.TSRESOL_DEFAULT, 0
        name: str | None = None
        description: str | None = None
        for code, value in self._options(block, pcapng.IDB_OPTIONS):
            if code == pcapng.IF_NAME:
                name = _text(value)
            elif code == pcapng.IF_DESCRIPTION:
                description = _text(value)
            elif code == pcapng.IF_FILTER and value[:1] == bytes([pcapng.IF_FILTER_TEXT]):
                self._note_filter(_text(value[1:]))
            elif code == pcapng.IF_TSRESOL and len(value) == 1:
                resolution = value[0]
            elif code == pcapng.IF_TSOFFSET and len(value) == 8:
                (offset,) = struct.unpack(f"{self._order}q", value)
        if self._known == len(self._interfaces):
            self._interfaces = np.concatenate([self._interfaces, np.zeros_like(self._interfaces)])
        row = self._interfaces[self._known]
        row[load.IF_LINK_TYPE] = link_type
        row[load.IF_VANTAGE] = len(self._vantage_points)
        row[load.IF_TSRESOL] = resolution
        row[load.IF_TSOFFSET_SECONDS] = offset
        row[load.IF_SNAPLEN] = snaplen
        row[load.IF_LOST] = -1
        self._known += 1
        self._digits = max(self._digits, _digits_of(resolution))
        self._vantage_points.append(VantagePoint(description or self._place, name, link_type, snaplen))

    def _note_filter(self, text: str) -> None:
        """What a filter kept out was never captured: a remark, once for each filter."""
        if not text.strip() or text in self._filters or len(self._filters) >= MAX_FILTERS:
            return
        self._filters[text] = None
        shown = text if len(text) <= MAX_FILTER_CHARS else f"{text[:MAX_FILTER_CHARS]}..."
        self._problem("filtered", f"taken with the filter '{shown}': other traffic is not in it")

    def _count_drops(self, block: bytes) -> None:
        """Section 4.6: an Interface Statistics Block; counters run from the start of the capture, so the latest holds."""
        which = self._word(pcapng.ISB_INTERFACE, block)
        drops = [
            struct.unpack(f"{self._order}Q", value)[0]
            for code, value in self._options(block, pcapng.ISB_OPTIONS)
            if code in (pcapng.ISB_IFDROP, pcapng.ISB_OSDROP) and len(value) == 8
        ]
        if drops and which < self._known:
            self._statistics[which] = sum(drops)

    def _options(self, block: bytes, at: int) -> Iterator[tuple[int, bytes]]:
        """Section 3.5. A broken option ends them: the block itself is whole, and its fixed fields stand."""
        end = len(block) - pcapng.BLOCK_TRAILER_BYTES
        while at + pcapng.OPTION_HEADER_BYTES <= end:
            code, size = struct.unpack_from(f"{self._order}HH", block, at)
            at += pcapng.OPTION_HEADER_BYTES
            if code == pcapng.OPT_ENDOFOPT or at + size > end:
                return
            yield code, block[at : at + size]
            at += -(-size // pcapng.ALIGNMENT) * pcapng.ALIGNMENT

    # The account

    def _time_digits(self) -> int:
        return self._digits if self._vantage_points else pcapng.TSRESOL_DEFAULT

    def _dropped(self) -> int | None:
        """Of the sections closed and the one being read. An interface's statistics hold; without, what its packets say."""
        total = self._dropped_before
        for which in range(self._known):
            lost = self._statistics.get(which, int(self._interfaces[which, load.IF_LOST]))
            if lost >= 0:
                total = lost if total is None else total + lost
        return total


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")[:MAX_NAME_CHARS]


def _first_line(text: str) -> str | None:
    return next((line.strip() for line in text.splitlines() if line.strip()), None)


def _digits_of(resolution: int) -> int:
    """Decimal digits behind the second that show all of an if_tsresol, at most 9."""
    exponent = resolution & pcapng.TSRESOL_EXPONENT
    if resolution & pcapng.TSRESOL_BASE_2:
        exponent = math.ceil(exponent * math.log10(2))
    return min(exponent, 9)
