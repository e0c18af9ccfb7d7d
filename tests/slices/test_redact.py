"""What may stay."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from auditor.slices.redact import HEAD_BYTES, Direction, kept


def _record(kind: int, data: bytes) -> bytes:
    return bytes([kind, 3, 3]) + len(data).to_bytes(2, "big") + data


def shown(application: str, data: bytes) -> bytes:
    out = bytearray(len(data))
    for first, past in kept(application, data):
        out[first:past] = data[first:past]
    return bytes(out)


def test_handshakes_stay_and_application_data_keeps_its_lengths():
    secret = b"GET /secret"
    data = _record(22, b"hello") + _record(20, b"\1") + _record(23, secret) + _record(21, b"\1\0")
    assert shown("tls", data) == _record(22, b"hello") + _record(20, b"\1") + _record(23, bytes(11)) + _record(
        21, b"\1\0"
    )


def test_a_heartbeat_keeps_its_length_alone_and_no_other_record_carries_more_than_it_may():
    """What a server tells of its memory (CVE-2014-0160) is the worst of all to hand on."""
    memory = b"\2\x40\0" + b"-----BEGIN PRIVATE KEY-----" * 500
    data = _record(22, b"hello") + _record(24, memory) + _record(21, b"k" * 300) + _record(20, b"k" * 300)
    found = shown("tls", data)
    assert b"BEGIN" not in found
    assert found == (
        _record(22, b"hello") + _record(24, bytes(len(memory))) + _record(21, b"k" * 64 + bytes(236))
        + _record(20, b"k" * 64 + bytes(236))
    )  # fmt: skip


def test_what_is_not_recognised_goes():
    for application in ("http", "nats", "mysql", "unknown", "dns", "none"):
        assert kept(application, b'CONNECT {"pass":"x"}\r\n') == []
    assert kept("tls", b"GET / HTTP/1.1\r\n") == []


def test_ssh_stays_up_to_newkeys():
    def packet(kind: int, size: int) -> bytes:
        return (size + 2).to_bytes(4, "big") + bytes([1, kind]) + b"x" * size

    clear = b"SSH-2.0-Go\r\n" + packet(20, 40) + packet(21, 10)
    assert shown("ssh", clear + b"encrypted") == clear + bytes(9)
    assert shown("ssh", b"no line at all") == bytes(14)


@given(st.data())
def test_a_stream_is_put_together_from_any_segments(data):
    whole = bytes(data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=60)))
    base = data.draw(st.sampled_from([0, 5, 2**32 - 10]))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(whole)), max_size=8)) | {0, len(whole)})
    pieces = [(a, whole[a : b + data.draw(st.integers(0, 3))]) for a, b in pairwise(cuts)]
    order = data.draw(st.permutations(pieces))
    first = Direction(base=base)
    for at, piece in order:
        first.add((base + at) & 0xFFFFFFFF, piece)
    assert first.whole == whole


def test_behind_a_gap_and_far_away_nothing_is_known():
    one = Direction()
    one.add(100, b"abc")
    one.add(110, b"def")
    assert one.whole == b"abc"
    one.add(100 + HEAD_BYTES + 5, b"far")
    assert len(one.data) <= HEAD_BYTES
    one.add(100, b"XYZ")  # a retransmission with other bytes: what came first stays
    assert one.whole == b"abc"


@given(st.binary(max_size=400), st.sampled_from(["tls", "ssh", "https"]))
def test_any_bytes_give_spans_inside_them(data, application):
    spans = kept(application, data)
    assert spans == sorted(spans)
    assert all(0 <= first < past <= len(data) for first, past in spans)
