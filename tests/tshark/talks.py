"""Captures with real TLS inside: made in memory by Python's own OpenSSL, keys logged, packets written by scapy."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import PcapWriter

from tests.conversation import Talk, Wire
from tests.inspectors.handshakes import contexts, identities


def write(wire: Wire, path: Path) -> Path:
    """The wire as a pcap file with Ethernet frames."""
    with PcapWriter(str(path), linktype=1, nano=False) as out:
        for sent in wire.sent:
            ip = IP(src=sent.src, dst=sent.dst)
            tcp = TCP(sport=sent.sport, dport=sent.dport, flags=sent.flags, seq=sent.seq % 2**32, ack=sent.ack % 2**32)
            frame = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / ip / tcp / sent.data
            frame.time = sent.ts_ns / 1e9
            out.write(frame)
    return path


@dataclass
class Secure:
    """What a TLS conversation is made of."""

    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ask: bool = True
    require: bool = False
    show: bool = True
    alpn: tuple[str, ...] = ()
    says: bytes = b"GET /v1/ping HTTP/1.1\r\nHost: bbs.service.internal\r\n\r\n"
    answers: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    session: ssl.SSLSession | None = None
    client_context: ssl.SSLContext | None = None
    server_context: ssl.SSLContext | None = None


def secured(
    talk: Talk, keylog: Path, made: Secure, *, says: bytes = b"", answers: bytes = b""
) -> ssl.SSLSession | None:
    """A TLS conversation on ``talk``; its keys go to ``keylog``. ``says`` and ``answers`` go before it in the clear."""
    fresh = contexts(made.version, ask=made.ask, require=made.require, show=made.show, alpn=made.alpn)
    client, server = made.client_context or fresh[0], made.server_context or fresh[1]
    made.client_context, made.server_context = client, server
    client.keylog_filename = str(keylog)
    into_client, out_of_client, into_server, out_of_server = (ssl.MemoryBIO() for _ in range(4))
    c = client.wrap_bio(into_client, out_of_client, server_hostname="server.test", session=made.session)
    s = server.wrap_bio(into_server, out_of_server, server_side=True)
    talk.opens()
    if answers:
        talk.answers(answers)
    if says:
        talk.says(says)

    def pump() -> None:
        said = out_of_client.read()
        if said:
            talk.says(said)
            into_server.write(said)
        answered = out_of_server.read()
        if answered:
            talk.answers(answered)
            into_client.write(answered)

    def step(act: Any) -> bool:
        """True: done, or failed for good."""
        try:
            act()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError:
            return True
        return True

    done_c = done_s = False
    for _ in range(6):
        done_c = done_c or step(c.do_handshake)
        pump()
        done_s = done_s or step(s.do_handshake)
        pump()
    if made.says and step(lambda: c.write(made.says)):
        pump()
        if step(lambda: s.read(65_536)) and made.answers:
            step(lambda: s.write(made.answers))
        pump()
        step(lambda: c.read(65_536))
    talk.closes()
    return c.session


__all__ = ["Secure", "Talk", "Wire", "identities", "secured", "write"]
