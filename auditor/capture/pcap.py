"""Reading classic pcap files: draft-ietf-opsawg-pcap; numbers in ``auditor.wire.pcap``."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from auditor.capture.reader import CaptureReader, Columns
from auditor.kernels import load
from auditor.model.frames import FrameBatch, VantagePoint
from auditor.model.limits import told
from auditor.wire import pcap


def byte_order_of(head: bytes) -> str | None:
    """``<`` or ``>`` when the first bytes are a pcap's magic number."""
    if len(head) < 4:
        return None
    if int.from_bytes(head[:4], "little") in pcap.MAGICS:
        return "<"
    return ">" if int.from_bytes(head[:4], "big") in pcap.MAGICS else None


class PcapReader(CaptureReader):
    """Frames of a pcap file, micro- or nanosecond, of either byte order, plain or modified."""

    def __init__(self, head: bytes, *arguments: Any, **options: Any) -> None:
        """``head``: the file header, at least FILE_HEADER_BYTES; it is still in the source."""
        super().__init__(*arguments, **options)
        order = byte_order_of(head)
        magic, major, minor = struct.unpack_from(f"{order}IHH", head)
        snaplen, link = struct.unpack_from(f"{order}II", head, pcap.FILE_SNAPLEN)
        self._big_endian = order == ">"
        self._head = head[: pcap.FILE_HEADER_BYTES + (pcap.IXIA_SIZE_BYTES if magic in pcap.IXIA else 0)]
        self._nanos = magic == pcap.MAGIC_NANOS
        self._file_header_bytes = pcap.FILE_HEADER_BYTES + (pcap.IXIA_SIZE_BYTES if magic in pcap.IXIA else 0)
        self._header_bytes = (
            pcap.MODIFIED_RECORD_HEADER_BYTES if magic == pcap.MAGIC_MODIFIED else pcap.RECORD_HEADER_BYTES
        )
        self._lengths = _lengths_of(major, minor)
        self._version = (major, minor)
        self._link_word = link
        link_type = link & pcap.LINKTYPE_MASK if self._link_type is None else self._link_type
        self._vantage_points.append(VantagePoint(None, None, link_type, snaplen))

    def _walk(self) -> Iterator[FrameBatch]:
        self._judge_header()
        window = self._window
        if not window.skip(self._file_header_bytes):
            self._at_end("the file header", 0)
            return
        columns = Columns(self._vantage_points[0].link_type)
        limit = self._limits.frame_bytes
        while True:
            begins = window.offset
            count, window.at, stop = load.walk_pcap(
                window.words,
                window.at,
                window.filled,
                self._big_endian,
                self._nanos,
                self._header_bytes,
                self._lengths,
                limit,
                columns.start,
                columns.caplen,
                columns.wirelen,
                columns.ts_ns,
            )
            if count:
                self._placed(begins, self._head)
                yield self._batch(columns, count)
            if stop == load.STOP_CAPLEN:
                says = f"frame {self._frames + 1} claims more than {limit} captured bytes; reading stopped"
                self._problem("corrupt", told("frame_bytes", self._limits, says))
                return
            if stop == load.STOP_SHORT and not window.more(self._record_bytes()):
                self._at_end("a packet")
                return

    def _record_bytes(self) -> int:
        """How many bytes the next record needs, as far as its header is there."""
        if self._window.left < self._header_bytes:
            return self._header_bytes
        taken, whole = struct.unpack_from(
            ">II" if self._big_endian else "<II", self._window.peek(self._header_bytes), pcap.RECORD_CAPLEN
        )
        if self._lengths == load.LENGTHS_WIRE_FIRST or (self._lengths == load.LENGTHS_EITHER and taken > whole):
            taken = whole
        return self._header_bytes + int(taken)

    def _judge_header(self) -> None:
        """Other readers refuse these files; the records are what they would be without the fault, so they are read."""
        major, minor = self._version
        if self._version != pcap.VERSION_DG_UX and (major != pcap.VERSION_MAJOR or minor > pcap.VERSION_MINOR):
            self._problem("unsupported", f"pcap version {major}.{minor} is not defined; read as 2.4", 0)
        reserved = self._link_word & pcap.LINKTYPE_RESERVED_MASK
        if reserved:
            self._problem("unsupported", f"reserved bits of the link type are set (0x{reserved:08x}); ignored", 0)

    def _time_digits(self) -> int:
        return 9 if self._nanos else 6

    def _dropped(self) -> int | None:
        return None  # the format has no place for it


def _lengths_of(major: int, minor: int) -> int:
    if (major, minor) == pcap.VERSION_DG_UX or (
        major == pcap.VERSION_MAJOR and minor < pcap.VERSION_MINOR_SWAPPED_BELOW
    ):
        return load.LENGTHS_WIRE_FIRST
    if (major, minor) == (pcap.VERSION_MAJOR, pcap.VERSION_MINOR_EITHER):
        return load.LENGTHS_EITHER
    return load.LENGTHS_CAPTURED_FIRST
