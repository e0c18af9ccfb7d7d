"""Writing pcapng (draft-ietf-opsawg-pcapng): a section, an interface for each vantage point, packets with comments.

Nanoseconds throughout; nothing is written that the packets do not need: no names, no keys, no statistics of traffic that is not there.
"""

from __future__ import annotations

import struct
from typing import IO

from auditor.model.version import VERSION
from auditor.wire import pcapng

_USERAPPL, _TSRESOL_NANOS = 4, 9


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % pcapng.ALIGNMENT)


def _text(text: str) -> bytes:
    """An option holds 65,535 bytes at most."""
    return text.encode("utf-8", "replace")[:65_000]


def _block(kind: int, body: bytes, options: bytes = b"") -> bytes:
    tail = options + struct.pack("<HH", pcapng.OPT_ENDOFOPT, 0) if options else b""
    size = pcapng.BLOCK_MIN_BYTES + len(body) + len(tail)
    return struct.pack("<II", kind, size) + body + tail + struct.pack("<I", size)


class PcapngWriter:
    """Writes one section."""

    def __init__(self, out: IO[bytes], comment: str = "") -> None:
        self._out = out
        self._interfaces: dict[tuple[str, int, int], int] = {}
        options = _option(_USERAPPL, _text(f"Diego flow auditor {VERSION}"))
        if comment:
            options = _option(pcapng.OPT_COMMENT, _text(comment)) + options
        body = struct.pack("<IHHq", pcapng.BYTE_ORDER_MAGIC, pcapng.VERSION_MAJOR, 0, -1)
        out.write(_block(pcapng.SHB, body, options))

    def interface(self, name: str, link_type: int, snaplen: int) -> int:
        """The number of an interface, which is described when it is first named."""
        key = (name, link_type, snaplen)
        number = self._interfaces.get(key)
        if number is None:
            number = self._interfaces[key] = len(self._interfaces)
            options = _option(pcapng.IF_NAME, _text(name)) + _option(pcapng.IF_TSRESOL, bytes([_TSRESOL_NANOS]))
            self._out.write(_block(pcapng.IDB, struct.pack("<HHI", link_type, 0, snaplen), options))
        return number

    def packet(self, interface: int, ts_ns: int, data: bytes, wirelen: int, comment: str) -> None:
        """One frame."""
        time = max(ts_ns, 0)
        body = struct.pack("<IIIII", interface, time >> 32, time & 0xFFFF_FFFF, len(data), max(wirelen, len(data)))
        body += data + bytes(-len(data) % pcapng.ALIGNMENT)
        self._out.write(_block(pcapng.EPB, body, _option(pcapng.OPT_COMMENT, _text(comment)) if comment else b""))
