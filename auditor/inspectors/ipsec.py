"""IPsec's key exchange, IKE, by its header: it says that what follows between the two ends is closed, and no more.

ESP itself has no mark to know it by but its protocol number (50); connections of that number are called ipsec, too. In UDP it is believed on port
4500 where its header can be one: the port alone makes nothing IPsec.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditor.model.evidence import Certainty, Evidence
from auditor.model.roles import Inspector, Match, Signature
from auditor.model.streams import Streams
from auditor.wire import ike


def _read(data: bytes) -> tuple[str, str] | None:
    """Version and exchange of the message that these bytes begin with."""
    message = data.removeprefix(ike.NO_ESP)
    if len(message) < ike.HEADER_BYTES or not any(message[: ike.INITIATOR_SPI_BYTES]):
        return None
    version = ike.VERSIONS.get(message[ike.VERSION])
    exchange = ike.EXCHANGES.get(version or "", {}).get(message[ike.EXCHANGE])
    length = int.from_bytes(message[ike.LENGTH : ike.LENGTH + 4], "big")
    # Further datagrams may follow in the head, and this one may be captured in part: its length is held against nothing else.
    if version is None or exchange is None or not ike.HEADER_BYTES <= length <= ike.MAX_BYTES:
        return None
    if message[ike.FLAGS] & ike.NO_FLAGS[version]:
        return None
    return version, exchange


def probe(streams: Streams) -> Match:
    """A message of IKE from either end."""
    if any(_read(head.data) for head in (streams.orig, streams.resp)):
        return Match.YES
    enough = ike.HEADER_BYTES + len(ike.NO_ESP)
    if all(len(head.data) >= enough for head in (streams.orig, streams.resp)):
        return Match.NO
    return Match.MORE


def _is_esp(data: bytes) -> bool:
    """Whether a datagram can be ESP: an index that is not reserved, a number that a key may have come to, and no text."""
    spi, number = (int.from_bytes(data[at : at + 4], "big") for at in (0, 4))
    if len(data) < ike.ESP_MIN_BYTES or spi < ike.ESP_LEAST_SPI or not 0 < number < ike.ESP_LIKELY_PACKETS:
        return False
    body = data[ike.ESP_HEADER_BYTES :]
    return sum(0x20 <= byte < 0x7F or byte in b"\t\r\n" for byte in body) * 4 < len(body) * 3


def is_at_home(streams: Streams) -> bool:
    """Every end that spoke sent ESP, or kept a NAT open (RFC 3948), and one of them the first."""
    said = [head.data for head in (streams.orig, streams.resp) if head.data and head.data != ike.KEEPALIVE]
    return all(map(_is_esp, said)) and bool(said)


def inspect(streams: Streams) -> Iterator[Evidence]:
    """Version and exchange of the first message."""
    for head in (streams.orig, streams.resp):
        told = _read(head.data)
        if told is not None:
            frames = head.frames(0, ike.HEADER_BYTES)
            yield Evidence("ipsec.version", told[0], Certainty.PROVEN, frames)
            yield Evidence("ipsec.exchange", told[1], Certainty.PROVEN, frames)
            return


INSPECTOR = Inspector(
    name="ipsec",
    transports=frozenset({"udp"}),
    ports=frozenset({500, 4500}),
    signatures=tuple(
        Signature(side, bytes([version]), at)
        for side in ("client", "server")
        for version in ike.VERSIONS
        for at in (ike.VERSION, ike.VERSION + len(ike.NO_ESP))
    ),
    probe=probe,
    inspect=inspect,
    at_home=(frozenset({ike.NAT_PORT}), is_at_home),
)
