"""The capture of last resort: scapy's packet socket, written to standard output as a pcap file.

Run as a program of its own (``python -m auditor.capture.sniffer IFACE SNAPLEN [FILTER]``) where neither dumpcap nor tcpdump is installed. It
needs nothing but the right to open a packet socket (and, for a filter, libpcap), and it is slow: every packet passes through Python. What the
kernel had to drop is reported on standard error in the words of tcpdump, at SIGUSR1 and at the end (SIGINT).
"""

from __future__ import annotations

import contextlib
import select
import signal
import socket
import struct
import sys
from typing import Any

from auditor.wire import pcap
from auditor.wire.link import LINKTYPE_ETHERNET, LINKTYPE_LINUX_SLL, LINKTYPE_RAW

SOL_PACKET = 263
PACKET_STATISTICS = 6
"""linux/if_packet.h; counts since they were last asked for."""

SO_RCVBUFFORCE = 33
"""asm-generic/socket.h; needs CAP_NET_ADMIN."""
BUFFER_BYTES = 32 * 1024 * 1024

LINK_TYPES = {
    "Ethernet": LINKTYPE_ETHERNET,
    "CookedLinux": LINKTYPE_LINUX_SLL,
    "IP": LINKTYPE_RAW,
    "IPv6": LINKTYPE_RAW,
}
"""What scapy takes the frames of an interface for."""


class Counts:
    """Captured and dropped until now."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.captured = 0
        self.dropped = 0

    def tell(self) -> None:
        """One line on standard error."""
        with contextlib.suppress(OSError):
            _, dropped = struct.unpack("II", self._raw.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
            self.dropped += dropped
        print(  # noqa: T201
            f"{self.captured} packets captured, {self.captured + self.dropped} packets received by filter, "
            f"{self.dropped} packets dropped by kernel",
            file=sys.stderr,
            flush=True,
        )


def main(interface: str, snaplen: int, expression: str = "") -> int:
    """Capture until SIGINT or SIGTERM; the exit status."""
    # On Linux scapy.arch decides which socket this is; without it conf.L2listen is nothing.
    import scapy.arch  # noqa: F401
    from scapy.config import conf

    out = sys.stdout.buffer
    try:
        listening = conf.L2listen(filter=expression or None, iface=interface)
    except Exception as error:  # scapy has many ways to say it
        print(f"scapy cannot capture on {interface}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)  # noqa: T201
        return 1
    kind = getattr(getattr(listening, "LL", None), "__name__", "Ethernet")
    header = struct.pack("=IHHiIII", pcap.MAGIC_NANOS, 2, 4, 0, 0, snaplen, LINK_TYPES.get(kind, LINKTYPE_ETHERNET))
    out.write(header)
    out.flush()
    raw = listening.ins
    with contextlib.suppress(
        OSError
    ):  # scapy's own 64 KiB are full after a moment; as an ordinary user it stays at that
        raw.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    counts = Counts(raw)
    ended = False

    def end(_number: int, _frame: Any) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    asked = False

    def ask(_number: int, _frame: Any) -> None:
        nonlocal asked
        asked = True

    signal.signal(signal.SIGUSR1, ask)
    print(f"listening on {interface}", file=sys.stderr, flush=True)  # noqa: T201
    waiting = select.poll()
    waiting.register(raw.fileno(), select.POLLIN)
    try:
        while True:
            if asked:
                asked = False
                counts.tell()
            if not waiting.poll(0 if ended else 100):
                out.flush()
                if ended:
                    break
                continue
            _, data, stamp = listening.recv_raw()
            if data is None or stamp is None:
                continue
            whole, cut = len(data), data[:snaplen]
            seconds, rest = divmod(int(float(stamp) * 1e9), 1_000_000_000)
            out.write(struct.pack("=IIII", seconds, rest, len(cut), whole))
            out.write(cut)
            counts.captured += 1
        out.flush()
    except BrokenPipeError:
        return 0
    counts.tell()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:4]))
